//! What an adapter has to tell beside its readings: its clock was set, stamps were wrong, a device fell silent.
//!
//! A notice goes the way of the readings, through the outbox and the outlet, and waits and counts like one of them. On the
//! stream it is an event with the adapter as its asset.

use model::{ClockState, Quality, TextList, TextMap, Timestamp, Value, time_source};
use stream::message::Event;

use crate::adapter::Tag;
use crate::edges::{Finding, Kind};
use crate::outbox::Lost;
use crate::pump::Identity;
use crate::sample::Sample;

/// The wall clock was set by more than a second (OFF-02).
pub const CLOCK_STEP: &str = "clock.step";
/// Readings were stamped by a clock that was not set, and by how much (OFF-04).
pub const CLOCK_CORRECTION: &str = "clock.correction";
/// A device answers, answers badly, or does not answer.
pub const DEVICE_STATE: &str = "device.state";
/// A source's own numbering, or the memory of its broker, shows that something is missing of which nobody knows what.
pub const SOURCE_GAP: &str = "source.gap";
/// The certificate of a server waits for a person to trust it (UA-05).
pub const CERTIFICATE_UNTRUSTED: &str = "certificate.untrusted";
/// A certificate ends in 30, 7 or 1 days (UA-04).
pub const CERTIFICATE_EXPIRING: &str = "certificate.expiring";
/// Readings were dropped because the buffer was full; a row of the loss ledger (OFF-26, OFF-30).
pub const DATA_LOSS: &str = "data_loss";

/// The state of a point, or that it changed (MB-40).
pub const POINT_STATE: &str = "point.state";
/// Something happened in the plant, as the source tells it (UA-26).
pub const SOURCE_EVENT: &str = "source.event";
/// A condition that the source keeps is in another state (UA-29).
pub const CONDITION_STATE: &str = "condition.state";
/// The source has told all conditions it has (UA-28).
pub const CONDITION_REFRESH: &str = "condition.refresh";

/// What a notice about a point adds.
#[derive(Debug, Clone, PartialEq)]
pub struct PointState {
    pub asset_id: String,
    pub parameter: String,
    pub unit: Option<String>,
    pub value: crate::sample::Value,
    pub quality: Quality,
    pub quality_reason: Option<&'static str>,
    pub device_time: Timestamp,
    pub finding: Finding,
}

/// What a notice about an event of the source adds.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceEvent {
    pub asset_id: String,
    /// The source's own name of the event, hexadecimal; empty if it has none. With one the event has the same id wherever
    /// and whenever it is told (UA-27).
    pub event_id: String,
    /// A word of `model::Severity`.
    pub severity: Option<&'static str>,
    pub quality: Quality,
    pub quality_reason: Option<&'static str>,
    pub device_time: Timestamp,
    pub time_source: &'static str,
    /// Details with names from the settings.
    pub fields: Vec<(String, String)>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// One of the constants above.
    pub kind: &'static str,
    pub from: Option<&'static str>,
    pub to: Option<&'static str>,
    /// One sentence for a person.
    pub message: String,
    pub details: Vec<(&'static str, String)>,
    /// When; set by the host, as what follows.
    pub at: Timestamp,
    pub clock_state: ClockState,
    /// Number among the notices of the adapter's epoch.
    pub number: i64,
    /// For a notice about a point, not about the adapter or a device.
    pub point: Option<Box<PointState>>,
    /// For a notice about an event of the source.
    pub source: Option<Box<SourceEvent>>,
}

impl Notice {
    /// Without its time.
    pub fn new(kind: &'static str, message: String) -> Self {
        Self {
            kind,
            from: None,
            to: None,
            message,
            details: Vec::new(),
            at: Timestamp::default(),
            clock_state: ClockState::default(),
            number: 0,
            point: None,
            source: None,
        }
    }

    /// A finding about a point, from the sample it was found in.
    pub fn of_state(finding: Finding, tag: &Tag, sample: &Sample) -> Self {
        let Tag { asset_id, parameter, unit, .. } = tag;
        let to = &finding.to;
        let message = match (&finding.kind, &finding.from) {
            (Kind::Initial, _) => format!("{parameter} of {asset_id} is {to}"),
            (Kind::Missed { after }, _) => format!("{parameter} of {asset_id} became {to} some time after {after}"),
            (Kind::Edge { bit: Some(bit), rising }, _) => {
                let turned = if *rising == Some(true) { "set" } else { "cleared" };
                format!("bit {bit} of {parameter} of {asset_id} was {turned}")
            }
            (Kind::Edge { .. }, Some(from)) => format!("{parameter} of {asset_id} went from {from} to {to}"),
            (Kind::Edge { .. }, None) => format!("{parameter} of {asset_id} became {to}"),
        };
        let details = match finding.kind {
            Kind::Edge { bit: Some(bit), .. } => vec![("bit", bit.to_string())],
            _ => Vec::new(),
        };
        let point = PointState {
            asset_id: asset_id.clone(),
            parameter: parameter.clone(),
            unit: unit.clone(),
            value: sample.value.clone(),
            quality: sample.verdict.quality(),
            quality_reason: sample.verdict.reason(),
            device_time: sample.device_time,
            finding,
        };
        Self { details, point: Some(Box::new(point)), ..Self::new(POINT_STATE, message) }
    }

    /// The row of the loss ledger about dropped readings. Its number is that of the first of them.
    pub fn of_loss(lost: &Lost, epoch: i64) -> Self {
        let Lost { from_seq, to_seq, count, first, last, clock_state } = *lost;
        let message = format!(
            "{count} readings from {first} to {last} were dropped: the stream took none and the buffer was full"
        );
        Self {
            details: vec![
                ("cause", "buffer_full".to_owned()),
                ("epoch", epoch.to_string()),
                ("from_seq", from_seq.to_string()),
                ("to_seq", (to_seq + 1).to_string()),
                ("first", first.to_string()),
                ("last", last.to_string()),
                ("count", count.to_string()),
                ("count_kind", "exact".to_owned()),
            ],
            at: last,
            clock_state,
            number: from_seq,
            ..Self::new(DATA_LOSS, message)
        }
    }

    /// Memory it takes while it waits, in bytes.
    pub fn bytes(&self) -> usize {
        let details = self.details.iter().map(|(_, text)| size_of::<(&str, String)>() + text.len());
        let point = self.point.as_ref().map_or(0, |point| size_of::<PointState>() + 2 * point.finding.to.len());
        let source = self.source.as_ref().map_or(0, |source| {
            let fields = source.fields.iter().map(|(key, text)| 2 * size_of::<String>() + key.len() + text.len());
            size_of::<SourceEvent>() + source.event_id.len() + fields.sum::<usize>()
        });
        size_of::<Self>() + self.message.len() + details.sum::<usize>() + point + source
    }

    /// Hands the event to `take`.
    pub fn with_event<T>(&self, identity: &Identity, take: impl FnOnce(&Event<'_>) -> T) -> T {
        let Identity { gateway_id, adapter_id, epoch, .. } = identity;
        // the same when it is sent again
        let event_id = format!("{gateway_id}/{adapter_id}/{epoch}/{}/{}", self.kind, self.number);
        let metadata =
            [("gateway_id", gateway_id.as_str()), ("adapter_id", adapter_id), ("adapter_type", identity.adapter_type)];
        let mut details: Vec<(&str, &str)> = self.details.iter().map(|(key, text)| (*key, text.as_str())).collect();
        details.push(("adapter_id", adapter_id));
        let about_the_adapter = Event {
            event_id: &event_id,
            event_type: self.kind,
            asset_id: adapter_id,
            parameter: None,
            from_state: self.from,
            to_state: self.to,
            occurred_after: None,
            edge: None,
            initial: false,
            missed_window: false,
            severity: None,
            time_source: time_source::GATEWAY,
            message: &self.message,
            value: Value::Null,
            unit: None,
            quality: Quality::Good,
            quality_reason: None,
            device_time: self.at,
            gateway_time: self.at,
            epoch: *epoch,
            seq: self.number,
            flags: TextList::default(),
            metadata: TextMap::Slice(&metadata),
            details: TextMap::Slice(&details),
        };
        if let Some(source) = &self.source {
            let event_id = match source.event_id.as_str() {
                "" => event_id.clone(),
                own => format!("{gateway_id}/{adapter_id}/source/{own}"),
            };
            let mut details = details.clone();
            details.extend(source.fields.iter().map(|(key, text)| (key.as_str(), text.as_str())));
            return take(&Event {
                event_id: &event_id,
                asset_id: &source.asset_id,
                severity: source.severity,
                quality: source.quality,
                quality_reason: source.quality_reason,
                device_time: source.device_time,
                time_source: source.time_source,
                details: TextMap::Slice(&details),
                ..about_the_adapter
            });
        }
        let Some(point) = &self.point else { return take(&about_the_adapter) };
        let Finding { kind, from, to } = &point.finding;
        take(&Event {
            asset_id: &point.asset_id,
            parameter: Some(&point.parameter),
            from_state: from.as_deref(),
            to_state: Some(to),
            occurred_after: if let Kind::Missed { after } = kind { Some(*after) } else { None },
            edge: kind.edge(),
            initial: *kind == Kind::Initial,
            missed_window: matches!(kind, Kind::Missed { .. }),
            value: point.value.as_model(),
            unit: point.unit.as_deref(),
            quality: point.quality,
            quality_reason: point.quality_reason,
            device_time: point.device_time,
            ..about_the_adapter
        })
    }
}
