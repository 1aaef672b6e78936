//! A reading: one value of one tag at one time, as it travels on `telemetry.raw` and `telemetry.clean`.
//!
//! Borrowed throughout: a stage that decodes, judges and forwards a reading allocates nothing for it. The wire form is
//! `contracts/avro/telemetry.v1.avsc`; the codec lives in `stream`.

use crate::{Quality, TextList, TextMap, Timestamp};

/// What a reading holds. `Null` only with quality BAD; a float is never NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Value<'a> {
    #[default]
    Null,
    Float(f64),
    Int(i64),
    Bool(bool),
    Text(&'a str),
}

impl Value<'_> {
    /// The value as a number for range, rate and statistics; integers are widened, booleans and texts are not numbers.
    #[expect(clippy::cast_precision_loss, reason = "statistics are float64 by definition (AGG-13)")]
    pub fn as_number(&self) -> Option<f64> {
        match *self {
            Self::Float(value) => Some(value),
            Self::Int(value) => Some(value as f64),
            _ => None,
        }
    }

    /// True when there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// Declared type of a tag, stable until its configuration changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    Float,
    Int,
    Bool,
    String,
    /// Undecoded registers or bytes, published as hexadecimal text.
    Raw,
}

impl ValueType {
    /// The symbol used in Avro, JSON and SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Float => "FLOAT",
            Self::Int => "INT",
            Self::Bool => "BOOL",
            Self::String => "STRING",
            Self::Raw => "RAW",
        }
    }
}

/// Set by configuration, never guessed at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Classification {
    #[default]
    Telemetry,
    Event,
    Alarm,
}

impl Classification {
    /// The symbol used in Avro, JSON and SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Telemetry => "TELEMETRY",
            Self::Event => "EVENT",
            Self::Alarm => "ALARM",
        }
    }
}

/// Who stamped `device_time`.
pub mod time_source {
    pub const DEVICE: &str = "DEVICE";
    pub const SERVER: &str = "SERVER";
    pub const NETWORK: &str = "NETWORK";
    /// The last byte of the answer; for sources without a clock.
    pub const ACQUISITION: &str = "ACQUISITION";
    pub const GATEWAY: &str = "GATEWAY";
}

/// One reading; field rules in `contracts/avro/telemetry.v1.avsc`.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The thing in the plant; key of partitioning.
    pub asset_id: &'a str,
    /// ISA-95 path `enterprise/site/area/line/cell`.
    pub asset_path: Option<&'a str>,
    pub parameter: &'a str,
    pub value: Value<'a>,
    pub value_type: ValueType,
    /// State text of an enumerated value.
    pub value_label: Option<&'a str>,
    /// Engineering unit as configured.
    pub unit: Option<&'a str>,
    pub quality: Quality,
    /// Code of the worst finding.
    pub quality_reason: Option<&'a str>,
    /// Codes of all findings.
    pub reasons: TextList<'a>,
    pub classification: Classification,
    /// When the value was true in the plant; analytics use this.
    pub device_time: Timestamp,
    /// When the record was complete on the gateway; also the Kafka record timestamp (REC-12).
    pub gateway_time: Timestamp,
    /// One of [`time_source`].
    pub time_source: &'a str,
    /// State of the gateway's clock when it stamped: SYNCED, HOLDOVER or UNSYNCED.
    pub clock_state: &'a str,
    /// `gateway_time - device_time`; null where either is not trusted.
    pub clock_skew_ms: Option<i64>,
    /// Start counter of the adapter; with `seq` it orders and identifies (REC-03).
    pub epoch: i64,
    /// From 0 within an epoch, per adapter; a hole is a lost record.
    pub seq: i64,
    /// Facts that are not quality, see [`crate::flag`].
    pub flags: TextList<'a>,
    /// `gateway_id`, `adapter_id`, `adapter_type`, `source_ref` and others, see `contracts/avro/telemetry.v1.avsc`.
    pub metadata: TextMap<'a>,
    /// Free texts from the configuration.
    pub tags: TextMap<'a>,
}

impl Reading<'_> {
    /// `gateway_id/adapter_id/epoch/seq`: the identity that retries, reprocessing and delivery keep.
    pub fn record_id(&self) -> String {
        let gateway = self.metadata.get("gateway_id").unwrap_or("-");
        let adapter = self.metadata.get("adapter_id").unwrap_or("-");
        format!("{gateway}/{adapter}/{}/{}", self.epoch, self.seq)
    }
}
