//! Events about readings, numbered in the order they are written for a record: `point.gap`, `point.quality`,
//! `point.dead_letters` (VAL-26), `clock.skew`; and `point.stale`, for which a silence is the reason and no record.

use kafka::client::{Batch, Record};
use model::{Quality, Reading, TextList, TextMap, Value, reason};
use pipeline::validate::skew::Told;
use pipeline::validate::{Change, Gap, Judgement, Stale, Trouble};
use stream::message::Event;
use stream::publisher::{write_place, write_source};
use stream::{Topic, header};

use crate::modules::{Error, ModuleContext, outlet};

const GAP: &str = "point.gap";
const QUALITY: &str = "point.quality";
const TROUBLE: &str = "point.dead_letters";
pub(super) const SKEW: &str = "clock.skew";
pub(super) const STALE: &str = "point.stale";

/// Number of a gap event among the events of its record.
pub(super) const GAP_NUMBER: u8 = 0;
/// Number of a quality event among the events of its record.
pub(super) const QUALITY_NUMBER: u8 = 1;
/// Number of an event about too many dead letters.
pub(super) const TROUBLE_NUMBER: u8 = 2;
/// Number of an event about the clock of a source.
pub(super) const SKEW_NUMBER: u8 = 3;

/// The number of an event by the value of its header; `None` for events that are not ours.
pub(super) fn number_of(event_type: &[u8]) -> Option<u8> {
    match event_type {
        b"point.gap" => Some(GAP_NUMBER),
        b"point.quality" => Some(QUALITY_NUMBER),
        b"point.dead_letters" => Some(TROUBLE_NUMBER),
        b"clock.skew" => Some(SKEW_NUMBER),
        _ => None,
    }
}

/// Writes events into buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct EventPen {
    payload: Vec<u8>,
    source: String,
    id: String,
    place: String,
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
        let from = change.from.map_or("unknown", Quality::as_str);
        let message = format!("quality changed from {from} to {}", change.to.as_str());
        let since = change.since.map(|time| time.to_string());
        let last_good = change.last_good.map(|time| time.to_string());
        let details: Vec<(&str, &str)> =
            [("reason", reason), ("since", since.as_deref()), ("last_good_time", last_good.as_deref())]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
        let event = Event {
            from_state: change.from.map(Quality::as_str),
            to_state: Some(change.to.as_str()),
            message: &message,
            details: TextMap::Slice(&details),
            ..draft(QUALITY, reading, judged)
        };
        self.send(ctx, batch, schema_id, record, &event)
    }

    pub(super) fn trouble(
        &mut self,
        ctx: &ModuleContext,
        batch: &Batch<'_>,
        schema_id: i32,
        record: &Record<'_>,
        (reading, judged): (&Reading<'_>, &Judgement),
        trouble: Trouble,
    ) -> Result<(), Error> {
        let (readings, rejected) = (trouble.readings.to_string(), trouble.rejected.to_string());
        let message = format!("{rejected} of {readings} readings in five minutes were rejected: check rule or sensor");
        let details = [("readings", &*readings), ("rejected", &*rejected)];
        let event = Event { message: &message, details: TextMap::Slice(&details), ..draft(TROUBLE, reading, judged) };
        self.send(ctx, batch, schema_id, record, &event)
    }

    pub(super) fn skew(
        &mut self,
        ctx: &ModuleContext,
        batch: &Batch<'_>,
        schema_id: i32,
        record: &Record<'_>,
        (reading, judged): (&Reading<'_>, &Judgement),
        told: Told,
    ) -> Result<(), Error> {
        let (skew, raised, cause) = match told {
            Told::Raised { skew, cause } => (skew, true, cause.map(pipeline::validate::skew::Cause::as_str)),
            Told::Cleared { skew } => (skew, false, None),
        };
        let source = reading.metadata.get("adapter_id").unwrap_or("");
        let skew_ms = (skew / 1000).to_string();
        let seconds = skew.saturating_abs() / 1_000_000;
        let direction = if skew > 0 { "behind" } else { "ahead of" };
        let message = match (raised, cause) {
            (true, None) => format!("the clock of {source} is {seconds} s {direction} the gateway's"),
            (true, Some(cause)) => format!("the clock of {source} is {seconds} s {direction} the gateway's; {cause}"),
            (false, _) => format!("the clock of {source} agrees with the gateway's again"),
        };
        let details = [("source", source), ("skew_ms", &*skew_ms), ("cause", cause.unwrap_or(""))];
        let event = Event {
            to_state: Some(if raised { "RAISED" } else { "CLEARED" }),
            message: &message,
            details: TextMap::Slice(&details),
            ..draft(SKEW, reading, judged)
        };
        self.send(ctx, batch, schema_id, record, &event)
    }

    /// Tells of a silence, where the next reading of its lane is `next`. Its name is the same after every replay; `false`
    /// from `may` ends it.
    pub(super) fn stale(
        &mut self,
        ctx: &ModuleContext,
        batch: &Batch<'_>,
        schema_id: i32,
        (lane, next): (i32, i64),
        stale: &Stale<'_>,
        may: impl FnOnce(&str) -> bool,
    ) -> Result<bool, Error> {
        let Self { payload, id, place, .. } = self;
        id.clear();
        for part in [&*ctx.gateway_id, "/", stale.asset_id, "/", stale.parameter, "/", STALE, "/"] {
            id.push_str(part);
        }
        stream::publisher::push_number(id, stale.last_arrival.as_micros());
        if !may(id) {
            return Ok(false);
        }
        let last = stale.last_arrival.to_string();
        let message = format!("no reading since {last}, three times as long as expected");
        let details = [("since", &*last)];
        let event = Event {
            event_id: id,
            event_type: STALE,
            asset_id: stale.asset_id,
            parameter: Some(stale.parameter),
            from_state: stale.from.map(Quality::as_str),
            to_state: Some(Quality::Uncertain.as_str()),
            severity: None,
            time_source: model::time_source::GATEWAY,
            occurred_after: Some(stale.last_arrival),
            edge: None,
            initial: false,
            missed_window: false,
            message: &message,
            value: Value::Null,
            unit: None,
            quality: Quality::Uncertain,
            quality_reason: Some(reason::STALE),
            device_time: stale.last_device_time.unwrap_or(stale.last_arrival),
            gateway_time: stale.at,
            epoch: 0,
            seq: 0,
            flags: TextList::default(),
            metadata: TextMap::Slice(&[("gateway_id", &ctx.gateway_id)]),
            details: TextMap::Slice(&details),
        };
        payload.clear();
        event.encode(payload, schema_id);
        write_place(place, (next, stale.now));
        let headers: [(&str, &[u8]); 4] = [
            (header::EVENT, STALE.as_bytes()),
            (header::EVENT_ID, id.as_bytes()),
            (header::TOLD_AT, place.as_bytes()),
            (header::GATEWAY, ctx.gateway_id.as_bytes()),
        ];
        outlet::insist(&ctx.stop, Topic::EventsRaw, || {
            let (key, time) = (stale.asset_id.as_bytes(), stale.at.as_millis());
            batch.send(Topic::EventsRaw.name(), lane, key, payload, time, &headers)
        })?;
        Ok(true)
    }

    fn send(
        &mut self,
        ctx: &ModuleContext,
        batch: &Batch<'_>,
        schema_id: i32,
        record: &Record<'_>,
        event: &Event<'_>,
    ) -> Result<(), Error> {
        let Self { payload, source, id, .. } = self;
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
        severity: None,
        time_source: model::time_source::GATEWAY,
        occurred_after: None,
        edge: None,
        initial: false,
        missed_window: false,
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
