//! Events about readings: `point.gap` and `point.quality`, numbered in the order they are written for a record.

use kafka::client::{Batch, Record};
use model::{Reading, TextMap};
use pipeline::validate::{Change, Gap, Judgement};
use stream::message::Event;
use stream::publisher::write_source;
use stream::{Topic, header};

use crate::modules::{Error, ModuleContext, outlet};

const GAP: &str = "point.gap";
const QUALITY: &str = "point.quality";

/// Number of a gap event among the events of its record.
pub(super) const GAP_NUMBER: u8 = 0;
/// Number of a quality event among the events of its record.
pub(super) const QUALITY_NUMBER: u8 = 1;

/// The number of an event by the value of its header; `None` for events that are not ours.
pub(super) fn number_of(event_type: &[u8]) -> Option<u8> {
    match event_type {
        b"point.gap" => Some(GAP_NUMBER),
        b"point.quality" => Some(QUALITY_NUMBER),
        _ => None,
    }
}

/// Writes events into buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct EventPen {
    payload: Vec<u8>,
    source: String,
    id: String,
}

impl EventPen {
    pub(super) fn gap(
        &mut self,
        ctx: &ModuleContext,
        batch: &Batch<'_>,
        schema_id: i32,
        record: &Record<'_>,
        (reading, judged): (&Reading<'_>, &Judgement),
        gap: &Gap,
    ) -> Result<(), Error> {
        let (from, to, expected) = (gap.from.to_string(), gap.to.to_string(), gap.expected.to_string());
        let message = format!("no reading between {from} and {to}, {expected} were expected");
        let details = [("from", &*from), ("to", &*to), ("expected", &*expected), ("received", "1")];
        let event = Event { message: &message, details: TextMap::Slice(&details), ..draft(GAP, reading, judged) };
        self.send(ctx, batch, schema_id, record, &event)
    }

    pub(super) fn quality(
        &mut self,
        ctx: &ModuleContext,
        batch: &Batch<'_>,
        schema_id: i32,
        record: &Record<'_>,
        (reading, judged): (&Reading<'_>, &Judgement),
        change: &Change,
    ) -> Result<(), Error> {
        let reason = judged.reason.or(reading.quality_reason);
        let from = change.from.map_or("unknown", model::Quality::as_str);
        let message = format!("quality changed from {from} to {}", change.to.as_str());
        let since = change.since.map(|time| time.to_string());
        let last_good = change.last_good.map(|time| time.to_string());
        let details: Vec<(&str, &str)> =
            [("reason", reason), ("since", since.as_deref()), ("last_good_time", last_good.as_deref())]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
        let event = Event {
            from_state: change.from.map(model::Quality::as_str),
            to_state: Some(change.to.as_str()),
            message: &message,
            details: TextMap::Slice(&details),
            ..draft(QUALITY, reading, judged)
        };
        self.send(ctx, batch, schema_id, record, &event)
    }

    fn send(
        &mut self,
        ctx: &ModuleContext,
        batch: &Batch<'_>,
        schema_id: i32,
        record: &Record<'_>,
        event: &Event<'_>,
    ) -> Result<(), Error> {
        let Self { payload, source, id } = self;
        write_source(source, record.topic(), record.partition(), record.offset());
        // the same after every replay, so that an event told again is recognised
        id.clear();
        for part in [&*ctx.gateway_id, "/", source, "/", event.event_type] {
            id.push_str(part);
        }
        payload.clear();
        Event { event_id: id, ..*event }.encode(payload, schema_id);
        let headers: [(&str, &[u8]); 3] = [
            (header::SOURCE, source.as_bytes()),
            (header::EVENT, event.event_type.as_bytes()),
            (header::GATEWAY, ctx.gateway_id.as_bytes()),
        ];
        let time = event.gateway_time.as_millis();
        outlet::insist(&ctx.stop, Topic::EventsRaw, || {
            batch.send(Topic::EventsRaw.name(), record.partition(), record.key(), payload, time, &headers)
        })
    }
}

/// What all events about a reading share.
fn draft<'r>(event_type: &'r str, reading: &Reading<'r>, judged: &Judgement) -> Event<'r> {
    Event {
        event_id: "",
        event_type,
        asset_id: reading.asset_id,
        parameter: Some(reading.parameter),
        from_state: None,
        to_state: None,
        occurred_after: None,
        message: "",
        value: reading.value,
        unit: reading.unit,
        quality: judged.quality,
        quality_reason: judged.reason.or(reading.quality_reason),
        device_time: judged.device_time,
        gateway_time: reading.gateway_time,
        epoch: reading.epoch,
        seq: reading.seq,
        flags: reading.flags,
        metadata: reading.metadata,
        details: TextMap::default(),
    }
}
