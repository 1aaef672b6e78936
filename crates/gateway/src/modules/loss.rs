//! Records that were gone before they were read: a row in the loss ledger, topic `audit`, type `data_loss` (OFF-12, OFF-30).

use kafka::client::Batch;
use model::{Quality, TextMap, Value};
use stream::message::Event;
use stream::subscription::Gap;
use stream::{Topic, header};

use super::{Error, ModuleContext, outlet};

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
    let now = ctx.clock.now();
    let id = format!("{}/{}/{}/{}-{}/{reader}", ctx.gateway_id, gap.topic, gap.partition, gap.from, gap.to);
    let message = format!(
        "{count} records of {} were deleted before the {reader} read them (partition {}, offsets {} to {})",
        gap.topic,
        gap.partition,
        gap.from,
        gap.to - 1
    );
    let (partition, from, to, count_text) =
        (gap.partition.to_string(), gap.from.to_string(), gap.to.to_string(), count.to_string());
    let event = Event {
        event_id: &id,
        event_type: "data_loss",
        asset_id: &ctx.gateway_id,
        parameter: None,
        from_state: None,
        to_state: None,
        occurred_after: None,
        message: &message,
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
            ("cause", "retention"),
            ("reader", reader),
            ("topic", &gap.topic),
            ("partition", &partition),
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
        batch.send(Topic::Audit.name(), gap.partition, key, &payload, now.as_millis(), &headers)
    })?;
    Ok(count.unsigned_abs())
}
