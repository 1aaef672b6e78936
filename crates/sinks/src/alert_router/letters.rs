//! What could not be delivered, written down in the stream (RTE-09): the message as a dead letter in `dlq.alerts`, and an event
//! that people and rules see.

use model::{Quality, TextList, TextMap, Timestamp, Value};
use stream::message::dead_letter::Headers;
use stream::message::{DeadLetter, Event};
use stream::{Topic, header};

use super::message::{Letterhead, text};
use super::state::{Content, Item, Letter};
use crate::dead_letters::StreamDeadLetters;
use crate::error::StreamError;

/// Event type of a message that was given up.
pub const NOTIFICATION_FAILED: &str = "notification_failed";
/// Stage and reason in the dead letter.
const STAGE: &str = "alert";

/// Where undelivered messages are written down.
pub trait Letters: Send {
    /// Durable when this returns; may be called again with the same letter.
    fn write(&mut self, id: &str, letter: &Letter) -> Result<(), StreamError>;
}

/// The real ones, on the stream.
#[derive(Debug)]
pub struct StreamLetters {
    pub inner: StreamDeadLetters,
    pub sink_id: String,
    pub gateway_id: String,
    pub head: Letterhead,
}

impl Letters for StreamLetters {
    fn write(&mut self, id: &str, letter: &Letter) -> Result<(), StreamError> {
        let item = item(id, letter);
        let document = text::document(&item, &self.head).to_string();
        let (asset, partition, offset) = match &letter.content {
            Content::Alarm { notice, .. } => (Some(notice.asset.as_str()), notice.partition, notice.offset),
            Content::Summary(_) | Content::Test => (None, 0, -1),
        };
        let told = letter.fallback.as_ref().map(|other| format!("; {other} is told instead")).unwrap_or_default();
        let detail = format!(
            "{} to {} ({}), {} attempts since {}: {}{told}",
            text::event(&item),
            letter.destination,
            letter.channel,
            letter.attempts,
            text::rfc3339(letter.first_at),
            letter.reason,
        );
        let key = asset.unwrap_or(&self.sink_id).to_owned();
        let original = DeadLetter {
            rule_revision: None,
            config_revision: None,
            stage: STAGE,
            rule_id: Some(&letter.destination),
            reason: "NOTIFICATION_FAILED",
            detail: &detail,
            observed: None,
            limit: None,
            topic: Topic::AlarmsClean.name(),
            partition,
            offset,
            timestamp_ms: letter.failed_at / 1000,
            key: key.as_bytes(),
            headers: Headers::Slice(&[]),
            payload: document.as_bytes(),
            schema_id: None,
            asset_id: asset,
            parameter: None,
            value: None,
            device_time: None,
            gateway_id: &self.gateway_id,
            first_failed_at: Timestamp::from_micros(letter.first_at),
            attempts: i32::try_from(letter.attempts).unwrap_or(i32::MAX),
        };
        self.inner.write_letter(Topic::DlqAlerts, &key, &original)?;
        let at = Timestamp::from_micros(letter.failed_at);
        let event_id = format!("{}/{}/{}/{id}", self.gateway_id, self.sink_id, letter.destination);
        let message = format!("{} was not told: {detail}", letter.destination);
        let event = Event {
            event_id: &event_id,
            event_type: NOTIFICATION_FAILED,
            asset_id: &self.sink_id,
            parameter: None,
            from_state: None,
            to_state: None,
            severity: None,
            time_source: model::time_source::GATEWAY,
            occurred_after: None,
            edge: None,
            initial: false,
            missed_window: false,
            message: &message,
            value: Value::Null,
            unit: None,
            quality: Quality::Good,
            quality_reason: None,
            device_time: at,
            gateway_time: at,
            epoch: 0,
            seq: 0,
            flags: TextList::default(),
            metadata: TextMap::Slice(&[("gateway_id", &self.gateway_id)]),
            details: TextMap::Slice(&[
                ("destination", &letter.destination),
                ("channel", &letter.channel),
                ("reason", &letter.reason),
                ("fallback", letter.fallback.as_deref().unwrap_or_default()),
                ("delivery_id", id),
            ]),
        };
        let headers: [(&str, &[u8]); 1] = [(header::EVENT, NOTIFICATION_FAILED.as_bytes())];
        self.inner.write_event(Topic::Audit, &self.sink_id.clone(), &event, &headers)
    }
}

fn item(id: &str, letter: &Letter) -> Item {
    Item {
        id: id.to_owned(),
        content: letter.content.clone(),
        created_at: letter.first_at,
        at: letter.first_at,
        attempts: letter.attempts,
        trouble: Some(letter.reason.clone()),
        urgent: false,
        individual: true,
        route: None,
    }
}
