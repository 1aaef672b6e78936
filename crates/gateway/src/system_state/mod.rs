//! What the gateway finds wrong with itself, told on the stream, where alarms are made of it (ALM-05, RTE-10).
//!
//! Parts say in `/health` which conditions stand (`conditions`); that a part does not work at all, and what the clock is
//! worth, is seen from here. Every second [`judge::Judge`] compares what stands with what the alarms show and says what
//! is to be told; [`run`] writes it to `events.raw`. It is the comparison that counts and not the change: an event that
//! got lost, or a restart between, mends itself.

pub mod judge;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use daemon::clock::Watch;
use kafka::client::Producer;
use model::{AlarmKind, Quality, TextList, TextMap, Value};
use stream::message::Event;
use stream::topics::PARTITIONS;
use stream::{Topic, header, partitioner};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::modules::{AlarmSnapshot, ModuleContext};
use crate::{supervisor, timekeeping};
use judge::{Judge, Name, Seen, Told};

/// Type of the events.
pub const SYSTEM_STATE: &str = "system.state";
/// States of a condition in such an event.
pub const RAISED: &str = "RAISED";
pub const CLEARED: &str = "CLEARED";

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the stream may take to store an event; later it is told again.
const STORED_MAX: Duration = Duration::from_secs(5);

/// Looks and tells until the modules stop.
pub async fn run(ctx: ModuleContext, children: supervisor::Handle, clock: Arc<Watch>) {
    let begun = Instant::now();
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut judge = Judge::default();
    let mut producer = None;
    loop {
        tokio::select! { // cancel-safe: both arms only wait
            _ = ticks.tick() => {}
            () = ctx.stop.cancelled() => return,
        }
        let snapshot = ctx.alarms.snapshot();
        if !snapshot.is_complete {
            continue; // nobody knows yet what was told before
        }
        let clock = timekeeping::complaint(&clock.life());
        let shown = shown(&snapshot);
        let children = children.children();
        let seen = Seen { gateway_id: &ctx.gateway_id, children: &children, clock: clock.as_deref(), shown: &shown };
        for told in judge.next(&seen, begun.elapsed()) {
            let (kept, context, text) = (producer.take(), ctx.clone(), told.clone());
            let sent = tokio::task::spawn_blocking(move || {
                let opened = kept.map_or_else(|| Producer::open(&context.settings), Ok)?;
                let stored = send(&context, &opened, &text)?;
                Ok::<_, SendError>((opened, stored))
            });
            match sent.await {
                Ok(Ok((opened, stored))) => {
                    producer = Some(opened);
                    if stored {
                        tracing::info!(
                            part = told.name.part,
                            condition = told.name.condition,
                            told.stands,
                            "{}",
                            told.message
                        );
                        judge.stored(&told, begun.elapsed());
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = %daemon::report(&error), "the gateway's own state is not told yet");
                }
                Err(error) => {
                    tracing::error!(error = %daemon::report(&error), "telling the gateway's own state broke off");
                }
            }
        }
    }
}

/// Conditions that the alarms show as standing.
fn shown(snapshot: &AlarmSnapshot) -> BTreeSet<Name> {
    let of_system = snapshot.alarms.iter().filter(|alarm| {
        alarm["type"].as_str() == Some(AlarmKind::System.as_str()) && alarm["condition_active"].as_bool() == Some(true)
    });
    let name = |alarm: &serde_json::Value| {
        let part = alarm["asset_id"].as_str()?.to_owned();
        // gateway/part/rule:condition
        let (_, condition) = alarm["alarm_key"].as_str()?.rsplit_once(':')?;
        Some(Name { part, condition: condition.to_owned() })
    };
    of_system.filter_map(name).collect()
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the stream cannot be reached")]
    Client(#[from] kafka::client::Error),
    #[error("the stream took no event")]
    Refused(#[from] kafka::client::SendError),
    #[error("the registry does not answer")]
    Schemas(#[from] stream::schemas::Error),
}

/// Stores the event; false when the stream did not acknowledge in time. Blocking.
fn send(ctx: &ModuleContext, producer: &Producer, told: &Told) -> Result<bool, SendError> {
    let schema_id = ctx.runtime.block_on(ctx.schemas.id_for(Topic::EventsRaw))?;
    let Name { part, condition } = &told.name;
    let now = ctx.clock.now();
    let event_id = format!("{}/{part}/{SYSTEM_STATE}/{condition}/{}", ctx.gateway_id, now.as_micros());
    let (from, to) = if told.stands { (CLEARED, RAISED) } else { (RAISED, CLEARED) };
    let event = Event {
        event_id: &event_id,
        event_type: SYSTEM_STATE,
        asset_id: part,
        parameter: None,
        from_state: Some(from),
        to_state: Some(to),
        severity: None,
        time_source: model::time_source::GATEWAY,
        occurred_after: None,
        edge: None,
        initial: false,
        missed_window: false,
        message: &told.message,
        value: Value::Null,
        unit: None,
        quality: Quality::Good,
        quality_reason: None,
        device_time: now,
        gateway_time: now,
        epoch: 0,
        seq: 0,
        flags: TextList::default(),
        metadata: TextMap::Slice(&[("gateway_id", &ctx.gateway_id)]),
        details: TextMap::Slice(&[("condition", condition)]),
    };
    let mut payload = Vec::new();
    event.encode(&mut payload, schema_id);
    let headers: [(&str, &[u8]); 2] =
        [(header::EVENT, SYSTEM_STATE.as_bytes()), (header::GATEWAY, ctx.gateway_id.as_bytes())];
    let batch = producer.batch();
    let partition = partitioner::partition_for(part.as_bytes(), PARTITIONS);
    batch.send(Topic::EventsRaw.name(), partition, part.as_bytes(), &payload, now.as_millis(), &headers)?;
    Ok(batch.finish().wait(STORED_MAX)?)
}
