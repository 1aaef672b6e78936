//! The audit row of a command: who, in which role, when, which letters, how many, why, and what came of it (VAL-47).

use std::collections::BTreeMap;
use std::fmt::Write;

use kafka::client::Batch;
use model::{Quality, TextList, TextMap, Value};
use pipeline::dead_letter::Status;
use stream::message::Event;
use stream::topics::PARTITIONS;
use stream::{Topic, header, partitioner};

use super::jobs::{Job, Tally};
use crate::modules::{Error, ModuleContext, outlet};

/// The command was begun; written before the first letter of a command about many.
pub(super) const BEGUN: &str = "dead_letters.begun";
/// The command is over.
pub(super) const DECIDED: &str = "dead_letters.decided";

/// Queues the row.
pub(super) fn tell(
    ctx: &ModuleContext,
    batch: &Batch<'_>,
    schema_id: i32,
    (event_type, state): (&'static str, &str),
    job: &Job,
    total: usize,
    tally: &Tally,
) -> Result<(), Error> {
    let (order, now) = (&job.order, ctx.clock.now());
    let action = order.action.as_str();
    let id = format!("{}/{event_type}/{}", ctx.gateway_id, job.id);
    let message = match event_type {
        BEGUN => format!("{} began to {action} {total} dead letters", order.by),
        _ => format!(
            "{} decided to {action} {total} dead letters: {} done, {} were already, {} failed",
            order.by, tally.ok, tally.already, tally.failed
        ),
    };
    let selection = order.selection.to_string();
    let numbers = [tally.ok, tally.already, tally.failed].map(|number| number.to_string());
    let (count, before, after) = (total.to_string(), counts(&tally.before), counts(&tally.after));
    let details: [(&str, &str); 14] = [
        ("action", action),
        ("by", &order.by),
        ("role", &order.role),
        ("gateway", &ctx.gateway_id),
        ("job_id", &job.id),
        ("command_id", &order.command_id),
        ("comment", &order.comment),
        ("selection", &selection),
        ("count", &count),
        ("ok", &numbers[0]),
        ("already", &numbers[1]),
        ("failed", &numbers[2]),
        ("before", &before),
        ("after", &after),
    ];
    let event = Event {
        event_id: &id,
        event_type,
        asset_id: &ctx.gateway_id,
        parameter: None,
        from_state: None,
        to_state: Some(state),
        severity: None,
        time_source: model::time_source::GATEWAY,
        occurred_after: None,
        edge: None,
        initial: false,
        missed_window: false,
        message: &message,
        value: Value::Int(i64::try_from(total).unwrap_or(i64::MAX)),
        unit: None,
        quality: Quality::Good,
        quality_reason: None,
        device_time: now,
        gateway_time: now,
        epoch: 0,
        seq: 0,
        flags: TextList::default(),
        metadata: TextMap::Slice(&[("gateway_id", &ctx.gateway_id)]),
        details: TextMap::Slice(&details),
    };
    let mut payload = Vec::new();
    event.encode(&mut payload, schema_id);
    let key = ctx.gateway_id.as_bytes();
    let headers: [(&str, &[u8]); 2] = [(header::GATEWAY, key), (header::EVENT, event_type.as_bytes())];
    outlet::insist(&ctx.stop, Topic::Audit, || {
        let partition = partitioner::partition_for(key, PARTITIONS);
        batch.send(Topic::Audit.name(), partition, key, &payload, now.as_millis(), &headers)
    })
}

/// `NEW=3 STILL_FAILING=1`.
fn counts(by_status: &BTreeMap<Status, u64>) -> String {
    let mut text = String::new();
    for (status, count) in by_status {
        let blank = if text.is_empty() { "" } else { " " };
        write!(text, "{blank}{}={count}", status.as_str()).expect("a string takes everything");
    }
    text
}
