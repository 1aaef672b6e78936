//! What an adapter has to tell beside its readings: its clock was set, stamps were wrong, a device fell silent.
//!
//! A notice goes the way of the readings, through the outbox and the outlet, and waits and counts like one of them. On the
//! stream it is an event with the adapter as its asset.

use model::{ClockState, Quality, TextList, TextMap, Timestamp, Value};
use stream::message::Event;

use crate::pump::Identity;

/// The wall clock was set by more than a second (OFF-02).
pub const CLOCK_STEP: &str = "clock.step";
/// Readings were stamped by a clock that was not set, and by how much (OFF-04).
pub const CLOCK_CORRECTION: &str = "clock.correction";
/// A device answers, answers badly, or does not answer.
pub const DEVICE_STATE: &str = "device.state";

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
