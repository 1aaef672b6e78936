//! Records that were gone before they were read, or came too late to count: a row in the loss ledger, topic `audit`, type
//! `data_loss` (OFF-12, OFF-30, AGG-06).

use kafka::client::Batch;
use model::{Quality, TextMap, Value};
use stream::message::Event;
use stream::subscription::Gap;
use stream::{Topic, header};

use super::{Error, ModuleContext, outlet};

/// Records of one partition that a reader did not use.
#[derive(Debug)]
struct Loss<'l> {
    cause: &'static str,
    reader: &'l str,
    topic: &'l str,
    partition: i32,
    /// First offset, and the one behind the last.
    from: i64,
    to: i64,
    count: i64,
    message: &'l str,
}

/// Writes the ledger row of a gap. Its id names the records, so a row told again after a crash is recognised.
pub(super) fn tell(
    ctx: &ModuleContext,
    batch: &Batch<'_>,
    schema_id: i32,
    reader: &str,
    gap: &Gap,
) -> Result<u64, Error> {
    let count = (gap.to - gap.from).max(0);
    tracing::error!(
        reader,
        topic = %gap.topic,
        partition = gap.partition,
        from = gap.from,
        to = gap.to,
        "records were deleted before they were read"
    );
    let message = format!(
        "{count} records of {} were deleted before the {reader} read them (partition {}, offsets {} to {})",
        gap.topic,
        gap.partition,
        gap.from,
        gap.to - 1
    );
    let (topic, partition, from, to) = (gap.topic.as_str(), gap.partition, gap.from, gap.to);
    let loss = Loss { cause: "retention", reader, topic, partition, from, to, count, message: &message };
    write(ctx, batch, schema_id, &loss)?;
    Ok(count.unsigned_abs())
}

/// Inputs of a partition that came too late for their windows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Late {
    pub(super) count: i64,
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Late {
    pub(super) fn add(&mut self, offset: i64) {
        if self.count == 0 {
            self.first = offset;
        }
        self.count += 1;
        self.last = offset;
    }
}

/// Writes the ledger row of late inputs. They stay stored in their topic.
pub(super) fn tell_late(
    ctx: &ModuleContext,
    batch: &Batch<'_>,
    schema_id: i32,
    reader: &str,
    topic: Topic,
    partition: i32,
    late: Late,
) -> Result<(), Error> {
    let Late { count, first, last } = late;
    let topic = topic.name();
    tracing::warn!(reader, topic, partition, count, first, last, "inputs came too late to change their windows");
    let message = format!(
        "{count} records of {topic} came too late for the windows of the {reader} (partition {partition}, between \
         offsets {first} and {last}); the records themselves are stored"
    );
    let (from, to) = (first, last + 1);
    let loss = Loss { cause: "late", reader, topic, partition, from, to, count, message: &message };
    write(ctx, batch, schema_id, &loss)
}

fn write(ctx: &ModuleContext, batch: &Batch<'_>, schema_id: i32, loss: &Loss<'_>) -> Result<(), Error> {
    let Loss { cause, reader, topic, partition, from, to, count, message } = *loss;
    let now = ctx.clock.now();
    let id = match cause {
        "retention" => format!("{}/{topic}/{partition}/{from}-{to}/{reader}", ctx.gateway_id),
        _ => format!("{}/{topic}/{partition}/{from}-{to}/{reader}/{cause}", ctx.gateway_id),
    };
    let (partition_text, from, to, count_text) =
        (partition.to_string(), from.to_string(), to.to_string(), count.to_string());
    let event = Event {
        event_id: &id,
        event_type: "data_loss",
        asset_id: &ctx.gateway_id,
        parameter: None,
        from_state: None,
        to_state: None,
        severity: None,
        time_source: model::time_source::GATEWAY,
        occurred_after: None,
        edge: None,
        initial: false,
        missed_window: false,
        message,
        value: Value::Int(count),
        unit: None,
        quality: Quality::Good,
        quality_reason: None,
        device_time: now,
        gateway_time: now,
        epoch: 0,
        seq: 0,
        flags: model::TextList::default(),
        metadata: TextMap::Slice(&[("gateway_id", &ctx.gateway_id)]),
        details: TextMap::Slice(&[
            ("cause", cause),
            ("reader", reader),
            ("topic", topic),
            ("partition", &partition_text),
            ("from_offset", &from),
            ("to_offset", &to),
            ("count", &count_text),
            ("count_kind", "exact"),
        ]),
    };
    let mut payload = Vec::new();
    event.encode(&mut payload, schema_id);
    let headers: [(&str, &[u8]); 2] = [(header::GATEWAY, ctx.gateway_id.as_bytes()), (header::EVENT, b"data_loss")];
    outlet::insist(&ctx.stop, Topic::Audit, || {
        let key = ctx.gateway_id.as_bytes();
        batch.send(Topic::Audit.name(), partition, key, &payload, now.as_millis(), &headers)
    })
}
