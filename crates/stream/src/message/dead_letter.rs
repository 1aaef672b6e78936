//! `sf.DlqEntry` (`contracts/avro/dead-letter.v1.avsc`): a record that failed, with its exact original bytes (VAL-40).

use model::Timestamp;

use crate::avro::{
    DecodeError, Reader, put_bytes, put_frame, put_long, put_optional_long, put_optional_text, put_string, put_time,
};

/// One dead letter.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// `decode`, `validate` or `sink`.
    pub stage: &'a str,
    pub rule_id: Option<&'a str>,
    pub rule_revision: Option<i64>,
    /// Reason code, see `model::reason`.
    pub reason: &'a str,
    /// One sentence for a person.
    pub detail: &'a str,
    /// What was seen and what was allowed, as text.
    pub observed: Option<&'a str>,
    pub limit: Option<&'a str>,
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    /// Kafka timestamp of the original, milliseconds.
    pub timestamp_ms: i64,
    pub key: &'a [u8],
    pub headers: Headers<'a>,
    /// The exact bytes, framing included.
    pub payload: &'a [u8],
    pub schema_id: Option<i32>,
    /// What could be decoded.
    pub asset_id: Option<&'a str>,
    pub parameter: Option<&'a str>,
    pub value: Option<&'a str>,
    pub device_time: Option<Timestamp>,
    pub gateway_id: &'a str,
    /// The document whose rules were at work.
    pub config_revision: Option<&'a str>,
    pub first_failed_at: Timestamp,
    pub attempts: i32,
}

/// Headers of the original record.
#[derive(Debug, Clone, Copy)]
pub enum Headers<'a> {
    Slice(&'a [(&'a str, &'a [u8])]),
    /// Read from the stream: `count` pairs in these Avro bytes.
    Packed(&'a [u8]),
}

impl DeadLetter<'_> {
    /// Identity: gateway, topic, partition and offset of the original; the same for every attempt.
    pub fn id(&self) -> String {
        format!("{}/{}/{}/{}", self.gateway_id, self.topic, self.partition, self.offset)
    }

    /// Appends the entry to `out`, framed with `schema_id`.
    pub fn encode(&self, out: &mut Vec<u8>, schema_id: i32) {
        put_frame(out, schema_id);
        put_string(out, &self.id());
        put_string(out, self.stage);
        put_optional_text(out, self.rule_id);
        put_optional_long(out, self.rule_revision);
        put_string(out, self.reason);
        put_string(out, self.detail);
        put_optional_text(out, self.observed);
        put_optional_text(out, self.limit);
        put_string(out, self.topic);
        put_long(out, i64::from(self.partition));
        put_long(out, self.offset);
        put_long(out, self.timestamp_ms);
        out.push(2);
        put_bytes(out, self.key);
        match self.headers {
            Headers::Packed(packed) => out.extend_from_slice(packed),
            Headers::Slice(headers) => {
                if !headers.is_empty() {
                    put_long(out, i64::try_from(headers.len()).expect("a slice is shorter than 2^63"));
                    for (key, value) in headers {
                        put_string(out, key);
                        put_bytes(out, value);
                    }
                }
                out.push(0);
            }
        }
        put_bytes(out, self.payload);
        put_optional_long(out, self.schema_id.map(i64::from));
        put_optional_text(out, self.asset_id);
        put_optional_text(out, self.parameter);
        put_optional_text(out, self.value);
        put_optional_long(out, self.device_time.map(Timestamp::as_micros));
        put_string(out, self.gateway_id);
        put_optional_text(out, self.config_revision);
        put_time(out, self.first_failed_at);
        put_long(out, i64::from(self.attempts));
    }
}

/// Reads the Avro body (framing taken off by [`crate::avro::unframe`]).
pub fn decode(body: &[u8]) -> Result<DeadLetter<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    reader.text("dlq_id")?;
    let stage = reader.text("stage")?;
    let rule_id = reader.optional_text("rule_id")?;
    let rule_revision = reader.optional_long("rule_revision")?;
    let reason = reader.text("reason")?;
    let detail = reader.text("detail")?;
    let observed = reader.optional_text("observed")?;
    let limit = reader.optional_text("limit")?;
    let topic = reader.text("topic")?;
    let partition = reader.int("partition")?;
    let offset = reader.long("offset")?;
    let timestamp_ms = reader.long("timestamp")?;
    let key = if reader.present("key")? { reader.bytes("key")? } else { &[] };
    let headers = Headers::Packed(skip_headers(&mut reader, body)?);
    let payload = reader.bytes("payload")?;
    let schema_id = if reader.present("schema_id")? { Some(reader.int("schema_id")?) } else { None };
    let letter = DeadLetter {
        stage,
        rule_id,
        rule_revision,
        reason,
        detail,
        observed,
        limit,
        topic,
        partition,
        offset,
        timestamp_ms,
        key,
        headers,
        payload,
        schema_id,
        asset_id: reader.optional_text("asset_id")?,
        parameter: reader.optional_text("parameter")?,
        value: reader.optional_text("value")?,
        device_time: reader.optional_long("device_time")?.map(Timestamp::from_micros),
        gateway_id: reader.text("gateway_id")?,
        config_revision: reader.optional_text("config_revision")?,
        first_failed_at: reader.time("first_failed_at")?,
        attempts: reader.int("attempts")?,
    };
    reader.finish()?;
    Ok(letter)
}

fn skip_headers<'a>(reader: &mut Reader<'a>, body: &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let begin = body.len() - reader.left();
    loop {
        let count = reader.long("headers")?;
        if count == 0 {
            return Ok(&body[begin..body.len() - reader.left()]);
        }
        if count < 0 {
            reader.long("headers")?;
        }
        for _ in 0..count.unsigned_abs() {
            reader.text("headers")?;
            reader.bytes("headers")?;
        }
    }
}
