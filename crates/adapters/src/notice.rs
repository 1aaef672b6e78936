//! What an adapter has to tell beside its readings: its clock was set, stamps were wrong, a device fell silent.
//!
//! A notice goes the way of the readings, through the outbox and the outlet, and waits and counts like one of them. On the
//! stream it is an event with the adapter as its asset.

use model::{ClockState, Quality, TextList, TextMap, Timestamp, Value};
use stream::message::Event;

use crate::outbox::Lost;
use crate::pump::Identity;

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

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        }
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
        size_of::<Self>() + self.message.len() + details.sum::<usize>()
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
        take(&Event {
            event_id: &event_id,
            event_type: self.kind,
            asset_id: adapter_id,
            parameter: None,
            from_state: self.from,
            to_state: self.to,
            occurred_after: None,
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
        })
    }
}
