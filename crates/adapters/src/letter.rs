//! Input that cannot be understood: kept with its exact bytes among the dead letters, so that the rest goes on (MQ-06).
//!
//! A letter goes the way of the readings, through the outbox and the outlet, and counts like one of them.

use model::{ClockState, Timestamp};
use stream::header;
use stream::message::DeadLetter;
use stream::message::dead_letter::Headers;

use crate::pump::Identity;

/// Bytes of a payload that does not fit into the stream; the rest is cut off, and the letter says so.
pub const CUT_BYTES: usize = 256 * 1024;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Reason code, see `model::reason`.
    pub reason: &'static str,
    /// One sentence for a person.
    pub detail: String,
    /// Where it came from, in the words of the protocol: `mqtt:plant/7/state`.
    pub source: String,
    /// The exact bytes.
    pub payload: Vec<u8>,
    /// Facts of the protocol, for the headers.
    pub headers: Vec<(&'static str, String)>,
    pub asset_id: Option<String>,
    /// When; set by the host, as what follows.
    pub at: Timestamp,
    pub clock_state: ClockState,
    /// Distinguishes the letters of an adapter's epoch.
    pub number: i64,
}

impl Letter {
    /// Without its time.
    pub fn new(reason: &'static str, detail: String, source: String, payload: Vec<u8>) -> Self {
        Self {
            reason,
            detail,
            source,
            payload,
            headers: Vec::new(),
            asset_id: None,
            at: Timestamp::default(),
            clock_state: ClockState::default(),
            number: 0,
        }
    }

    /// Memory it takes while it waits, in bytes.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(_, text)| size_of::<(&str, String)>() + text.len());
        size_of::<Self>() + self.detail.len() + self.source.len() + self.payload.len() + headers.sum::<usize>()
    }

    /// Hands the dead letter to `take`; `cut` leaves out what does not fit.
    pub fn with_letter<T>(&self, identity: &Identity, cut: bool, take: impl FnOnce(&DeadLetter<'_>) -> T) -> T {
        let Identity { gateway_id, adapter_id, epoch, .. } = identity;
        let record_id = format!("{gateway_id}/{adapter_id}/{epoch}/{}", self.number);
        let mut headers: Vec<(&str, &[u8])> = vec![(header::RECORD_ID, record_id.as_bytes())];
        headers.extend(self.headers.iter().map(|(key, text)| (*key, text.as_bytes())));
        let kept = if cut { self.payload.len().min(CUT_BYTES) } else { self.payload.len() };
        let cut_detail;
        let detail = if kept < self.payload.len() {
            cut_detail = format!("{}; only the first {kept} bytes of {} are kept", self.detail, self.payload.len());
            &cut_detail
        } else {
            &self.detail
        };
        // no record of the stream: the id is unique by the adapter's name, its start and the number
        let origin = format!("{adapter_id}/{epoch}/{}", self.source);
        take(&DeadLetter {
            stage: "decode",
            rule_id: None,
            rule_revision: None,
            reason: self.reason,
            detail,
            observed: None,
            limit: None,
            topic: &origin,
            partition: 0,
            offset: self.number,
            timestamp_ms: self.at.as_millis(),
            key: self.asset_id.as_deref().unwrap_or(adapter_id).as_bytes(),
            headers: Headers::Slice(&headers),
            payload: &self.payload[..kept],
            schema_id: None,
            asset_id: self.asset_id.as_deref(),
            parameter: None,
            value: None,
            device_time: None,
            gateway_id,
            config_revision: identity.config_revision.as_deref(),
            first_failed_at: self.at,
            attempts: 1,
        })
    }
}
