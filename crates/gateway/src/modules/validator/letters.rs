//! Dead letters: a record that failed, with its exact bytes and why (VAL-40, REC-08).

use kafka::client::{Batch, Producer, Record};
use model::{Reading, Value};
use stream::avro::DecodeError;
use stream::message::DeadLetter;
use stream::message::dead_letter::Headers;
use stream::publisher::write_source;
use stream::{Topic, header};

use crate::modules::{Error, ModuleContext, outlet};

/// The validator failed on this record three times.
pub(super) const INTERNAL_ERROR: &str = "INTERNAL_ERROR";
/// The record is too large to be forwarded.
pub(super) const TOO_LARGE: &str = "TOO_LARGE";
/// What is kept of a record that does not fit into a dead letter.
const CUT_BYTES: usize = 256 * 1024;

/// Why a record becomes a dead letter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal<'a> {
    /// `decode` or `validate`.
    pub(super) stage: &'static str,
    pub(super) rule_id: Option<&'a str>,
    pub(super) rule_revision: Option<i64>,
    pub(super) reason: &'a str,
    /// One sentence for a person.
    pub(super) detail: &'a str,
    pub(super) limit: Option<f64>,
    pub(super) schema_id: Option<i32>,
}

impl<'a> Refusal<'a> {
    pub(super) fn undecodable(error: DecodeError, schema_id: Option<i32>, detail: &'a str) -> Self {
        let reason = match error {
            DecodeError::NotFinite { .. } => model::reason::NAN_INF,
            _ => model::reason::DECODE_ERROR,
        };
        Self { stage: "decode", rule_id: None, rule_revision: None, reason, detail, limit: None, schema_id }
    }
}

/// Writes dead letters into one buffer, again and again.
#[derive(Debug, Default)]
pub(super) struct LetterBox {
    payload: Vec<u8>,
    source: String,
    config_revision: String,
}

impl LetterBox {
    /// `config_revision` names the document whose rules are at work.
    pub(super) fn new(config_revision: &str) -> Self {
        Self { config_revision: config_revision.to_owned(), ..Self::default() }
    }

    /// Queues the letter for `record` in the same partition of `topic`.
    #[expect(clippy::too_many_arguments, reason = "where to, what and why")]
    pub(super) fn post(
        &mut self,
        ctx: &ModuleContext,
        producer: &Producer,
        batch: &Batch<'_>,
        (topic, schema_id): (Topic, i32),
        record: &Record<'_>,
        reading: Option<&Reading<'_>>,
        refusal: &Refusal<'_>,
    ) -> Result<(), Error> {
        let headers: Vec<(&str, &[u8])> = record.headers().collect();
        let original = record.payload().unwrap_or_default();
        let value = reading.and_then(|reading| text_of(&reading.value));
        let limit = refusal.limit.map(|limit| limit.to_string());
        let now = ctx.clock.now();
        let letter = DeadLetter {
            stage: refusal.stage,
            rule_id: refusal.rule_id,
            rule_revision: refusal.rule_revision,
            reason: refusal.reason,
            detail: refusal.detail,
            observed: value.as_deref(),
            limit: limit.as_deref(),
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp_ms: record.timestamp_ms(),
            key: record.key(),
            headers: Headers::Slice(&headers),
            payload: original,
            schema_id: refusal.schema_id,
            asset_id: reading.map(|reading| reading.asset_id),
            parameter: reading.map(|reading| reading.parameter),
            value: value.as_deref(),
            device_time: reading.map(|reading| reading.device_time),
            gateway_id: &ctx.gateway_id,
            config_revision: Some(&self.config_revision),
            first_failed_at: now,
            attempts: 1,
        };
        write_source(&mut self.source, record.topic(), record.partition(), record.offset());
        let headers: [(&str, &[u8]); 2] =
            [(header::SOURCE, self.source.as_bytes()), (header::GATEWAY, ctx.gateway_id.as_bytes())];
        self.payload.clear();
        letter.encode(&mut self.payload, schema_id);
        let send = |payload: &[u8]| {
            batch.send(topic.name(), record.partition(), record.key(), payload, now.as_millis(), &headers)
        };
        if outlet::deliver(producer, &ctx.stop, topic, || send(&self.payload))? {
            return Ok(());
        }
        let detail = format!("{}; only the first bytes of {} are kept", refusal.detail, original.len());
        let kept = &original[..original.len().min(CUT_BYTES)];
        self.payload.clear();
        DeadLetter { detail: &detail, payload: kept, headers: Headers::Slice(&[]), ..letter }
            .encode(&mut self.payload, schema_id);
        outlet::insist(&ctx.stop, topic, || send(&self.payload))
    }
}

/// A value as a person reads it.
pub(super) fn text_of(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Float(number) => number.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Text(text) => (*text).to_owned(),
    })
}
