//! The settings as forms and manuals see them: a JSON Schema made from these types.
//!
//! The types only describe; [`super::config`] reads the settings, so that it can report every problem at once. A test in
//! [`crate::catalog`] keeps both from drifting apart.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

/// Settings that only TCP has.
const TCP_ONLY: [&str; 8] = [
    "host",
    "port",
    "framing",
    "connect_timeout_ms",
    "max_outstanding",
    "ignore_transaction_id",
    "serialise",
    "gateway_timeout_ms",
];

/// The schema of all settings of a TCP adapter.
pub fn schema() -> Value {
    schemars::schema_for!(ModbusSettings).to_value()
}

/// The schema of all settings of a serial adapter: those of TCP with another way to the device.
pub fn serial_schema() -> Value {
    let (mut schema, own) = (schema(), schemars::schema_for!(SerialWay).to_value());
    schema["title"] = "ModbusSerialSettings".into();
    schema["description"] = own["description"].clone();
    for place in ["properties", "$defs"] {
        let (Some(all), Some(own)) = (schema[place].as_object_mut(), own[place].as_object()) else { continue };
        all.retain(|key, _| !TCP_ONLY.contains(&key.as_str()));
        all.extend(own.clone());
    }
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties["adapter_type"]["description"] = "`modbus_rtu`.".into();
        properties["response_timeout_ms"]["default"] = 500.into();
        properties["retries"]["default"] = 2.into();
    }
    if let (Some(all), Some(own)) = (schema["required"].as_array_mut(), own["required"].as_array()) {
        all.retain(|key| key != "host");
        all.extend(own.clone());
    }
    schema
}

/// Settings of a Modbus RTU adapter: the units on one serial line. Points are given either as `registers` (short) or as
/// `points` (full).
#[derive(Debug, JsonSchema)]
pub struct SerialWay {
    /// The serial port and its line.
    pub serial: SerialSettings,
    /// The adapter hears the bytes it sends itself, as some RS-485 converters do.
    #[schemars(extend("default" = false))]
    pub echo: Option<bool>,
}

/// A serial port.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SerialSettings {
    /// Path of the port, best one that stays the same: `/dev/serial/by-id/...`.
    pub port: String,
    /// Bits per second.
    #[schemars(range(min = 300, max = 921_600), extend("default" = 19_200))]
    pub baud: Option<u32>,
    /// even, odd or none.
    #[schemars(extend("default" = "even"))]
    pub parity: Option<String>,
    /// 1 or 2; without parity the standard asks for 2, many devices want 1.
    #[schemars(range(min = 1, max = 2))]
    pub stop_bits: Option<u8>,
    /// Always 8.
    #[schemars(range(min = 8, max = 8), extend("default" = 8))]
    pub data_bits: Option<u8>,
    /// The driver switches the transmitter: true, or the delays in milliseconds,
    /// `{"delay_before_ms": 0, "delay_after_ms": 0}`. Leave it out where the hardware does it.
    pub rs485: Option<Value>,
}

/// Settings of a Modbus TCP adapter. Points are given either as `registers` (short) or as `points` (full).
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ModbusSettings {
    /// Name of this adapter.
    pub adapter_id: String,
    /// `modbus_tcp`.
    pub adapter_type: String,
    /// Host name or address of the device or gateway.
    pub host: String,
    /// TCP port.
    #[schemars(range(min = 1, max = 65535), extend("default" = 502))]
    pub port: Option<u16>,
    /// How requests are wrapped: `mbap` is Modbus TCP, `rtu_over_tcp` is for converters that pass a serial line through.
    #[schemars(extend("enum" = ["mbap", "rtu_over_tcp"], "default" = "mbap"))]
    pub framing: Option<String>,
    /// For gateways that do not echo transaction ids.
    #[schemars(extend("default" = false))]
    pub ignore_transaction_id: Option<bool>,
    /// The gateway takes one request at a time; no other adapter may use it then.
    #[schemars(extend("default" = false))]
    pub serialise: Option<bool>,
    /// How long the gateway itself waits for a device, in milliseconds; checked against `response_timeout_ms`.
    #[schemars(range(min = 10, max = 60_000))]
    pub gateway_timeout_ms: Option<u64>,
    /// Unit id of points that name none: 0 to 255, on a serial line 1 to 247.
    #[schemars(extend("default" = 1))]
    pub unit_id: Option<u8>,
    /// The thing in the plant the points belong to.
    pub asset_id: Option<String>,
    /// ISA-95 path of the asset: enterprise/site/area/line/cell.
    pub asset_path: Option<String>,
    /// Short form: holding registers by their number, `"40001": {"param", "unit", "type"}`.
    pub registers: Option<BTreeMap<String, FlatPoint>>,
    /// Full form.
    pub points: Option<Vec<PointSettings>>,
    /// Poll groups by name, for the full form.
    pub groups: Option<BTreeMap<String, GroupSettings>>,
    /// Period of the only group where `groups` is absent, in milliseconds.
    #[schemars(range(min = 10, max = 86_400_000), extend("default" = 1000))]
    pub poll_interval_ms: Option<u64>,
    /// Added to every address, for manuals that count otherwise.
    #[schemars(range(min = -1, max = 1), extend("default" = 0))]
    pub address_shift: Option<i8>,
    /// Byte order of points that name none.
    pub order: Option<OrderName>,
    /// Order of the words, for manuals that give a pair.
    pub word_order: Option<End>,
    /// Order of the bytes in a word, for manuals that give a pair.
    pub byte_order: Option<End>,
    /// How bits of a register are counted.
    pub bit_numbering: Option<BitNumberingName>,
    /// Unwanted items that may be read along to save a request.
    #[schemars(range(min = 0, max = 100), extend("default" = 0))]
    pub max_gap: Option<u16>,
    /// Most registers the device answers in one request.
    #[schemars(range(min = 8, max = 125), extend("default" = 125))]
    pub max_read: Option<u16>,
    /// Most coils or discrete inputs the device answers in one request.
    #[schemars(range(min = 8, max = 2000), extend("default" = 2000))]
    pub max_read_bits: Option<u16>,
    /// Ranges no request may touch.
    pub no_read: Option<Vec<NoReadSettings>>,
    /// How long connecting may take, in milliseconds.
    #[schemars(range(min = 100, max = 60_000), extend("default" = 3000))]
    pub connect_timeout_ms: Option<u64>,
    /// How long an answer may take, in milliseconds; behind a gateway more than the gateway's own limit.
    #[schemars(range(min = 10, max = 60_000), extend("default" = 1000))]
    pub response_timeout_ms: Option<u64>,
    /// Repetitions of an unanswered request within one poll.
    #[schemars(range(min = 0, max = 10), extend("default" = 1))]
    pub retries: Option<u32>,
    /// Least time between an answer and the next request, in milliseconds.
    #[schemars(range(min = 0, max = 60_000), extend("default" = 0))]
    pub inter_request_delay_ms: Option<u64>,
    /// Silence before a request beyond what the line needs, in milliseconds; for serial lines and `rtu_over_tcp`.
    #[schemars(range(min = 0, max = 1000), extend("default" = 0))]
    pub inter_frame_ms: Option<u64>,
    /// After silence ask for one register, and from then on for less at once if that is answered.
    #[schemars(extend("default" = true))]
    pub probe_on_timeout: Option<bool>,
    /// Requests on the wire at once; more than 1 only for devices known to take it.
    #[schemars(range(min = 1, max = 16), extend("default" = 1))]
    pub max_outstanding: Option<u8>,
    /// Address of the gateway's stream; filled in by the gateway.
    pub kafka_bootstrap: Option<String>,
    /// Address of the schema registry; filled in by the gateway.
    pub schema_registry: Option<String>,
    /// Topic for the readings.
    #[schemars(extend("default" = stream::Topic::TelemetryRaw.name()))]
    pub topic: Option<String>,
    /// Revision of the configuration this is part of; filled in by the gateway.
    pub config_revision: Option<String>,
}

/// A point of the short form.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FlatPoint {
    /// Name of the measured quantity.
    pub param: String,
    /// Engineering unit.
    pub unit: Option<String>,
    /// Data type, for example `float32`.
    #[schemars(rename = "type")]
    pub type_name: String,
}

/// A point of the full form.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PointSettings {
    /// Name of the measured quantity.
    pub parameter: String,
    /// `"40001"`, `"400001"`, `"40001.3"`, `"%MW0"`, or `{table, offset}` counted from 0, or `{table, number}` counted from 1.
    #[schemars(extend("anyOf" = [{ "type": "string" }, { "type": "object" }]))]
    pub address: Value,
    /// Data type; a coil or discrete input needs none.
    #[schemars(rename = "type")]
    pub type_name: Option<TypeName>,
    /// Bit of the register, for types bit and bitfield.
    #[schemars(range(min = 0, max = 16))]
    pub bit: Option<u8>,
    /// Number of bits, for type bitfield.
    #[schemars(range(min = 1, max = 16))]
    pub width: Option<u8>,
    /// Number of registers, for types string and raw.
    #[schemars(range(min = 1, max = 125))]
    pub registers: Option<u16>,
    /// Half of the register, for types int8 and uint8: hi or lo.
    pub byte: Option<String>,
    /// Which character of a register comes first: `hi_lo` or `lo_hi`.
    pub char_order: Option<String>,
    /// ascii, latin1 or utf8.
    pub encoding: Option<String>,
    /// Byte order, where it differs from the device's.
    pub order: Option<OrderName>,
    /// Order of the words, for manuals that give a pair.
    pub word_order: Option<End>,
    /// Order of the bytes in a word, for manuals that give a pair.
    pub byte_order: Option<End>,
    /// Bits that count, before scaling: a number or hexadecimal such as `"0x0FFF"`.
    #[schemars(extend("anyOf" = [{ "type": "integer" }, { "type": "string" }, { "type": "null" }]))]
    pub mask: Option<Value>,
    /// Places the masked bits are moved to the right.
    #[schemars(range(min = 0, max = 31))]
    pub shift: Option<u8>,
    /// Factor from raw value to unit.
    pub scale: Option<f64>,
    /// Added after the factor.
    pub offset: Option<f64>,
    /// Scale by two points of a line, instead of scale and offset.
    pub two_point: Option<TwoPoint>,
    /// The point that holds the power of ten to scale by, -10 to 10, as SunSpec devices have it.
    pub scale_from: Option<String>,
    /// Raw values that mean "no value", before scaling.
    pub invalid_values: Option<Vec<i64>>,
    /// Known sets of such values: sunspec or `siemens_analog`.
    pub invalid_preset: Option<String>,
    /// Engineering unit of the scaled value.
    #[schemars(length(max = 32))]
    pub unit: Option<String>,
    /// Texts of an enumeration, by whole number.
    pub states: Option<BTreeMap<String, String>>,
    /// Turn a boolean around.
    pub invert: Option<bool>,
    /// Mark a boolean register that is neither 0 nor 1.
    pub strict_bool: Option<bool>,
    /// `every` value, or `on_change`.
    #[schemars(extend("enum" = ["every", "on_change"], "default" = "every"))]
    pub publish: Option<String>,
    /// With `on_change`: how much a number must differ from the one published last.
    #[schemars(range(min = 0))]
    pub deadband: Option<f64>,
    /// What the deadband is: `absolute` in the point's unit, percent of the `span` of `two_point`, percent of the `value`.
    #[schemars(extend("enum" = ["absolute", "span", "value"], "default" = "absolute"))]
    pub deadband_of: Option<String>,
    /// With `on_change`: published at least this often, in milliseconds.
    #[schemars(range(min = 1000, max = 86_400_000), extend("default" = 60_000))]
    pub max_silence_ms: Option<u64>,
    /// Changes told as events `point.state`: rising, falling or both (of a whole number bit by bit), or change.
    #[schemars(extend("enum" = ["rising", "falling", "both", "change"]))]
    pub edge: Option<String>,
    /// How long a new state must last, in milliseconds.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub debounce_ms: Option<u64>,
    /// In how many polls in a row a new state must be seen.
    #[schemars(range(min = 2, max = 1000))]
    pub debounce_samples: Option<u32>,
    /// Poll group.
    pub group: Option<String>,
    /// Asset, where it differs from the adapter's.
    pub asset_id: Option<String>,
    /// Unit id, where it differs from the adapter's.
    pub unit_id: Option<u8>,
}

/// A line through two points.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TwoPoint {
    /// Raw value at the low end.
    pub raw_lo: f64,
    /// Raw value at the high end.
    pub raw_hi: f64,
    /// Value in the unit at the low end.
    pub eng_lo: f64,
    /// Value in the unit at the high end.
    pub eng_hi: f64,
    /// Beyond the ends: extrapolate, clip or bad.
    pub outside: Option<String>,
    /// A 4..20 mA signal: below 3.6 or above 21 mA is a sensor fault.
    pub namur: Option<bool>,
    /// `linear`, or `sqrt` for a flow from a differential pressure.
    #[schemars(extend("enum" = ["linear", "sqrt"], "default" = "linear"))]
    pub curve: Option<String>,
    /// With `sqrt`: a result below this share of the span is 0.
    #[schemars(range(min = 0, max = 1), extend("default" = 0))]
    pub low_cut_off: Option<f64>,
}

/// A poll group.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct GroupSettings {
    /// From one poll to the next, in milliseconds.
    #[schemars(range(min = 10, max = 86_400_000))]
    pub period_ms: u64,
}

/// A range no request may touch.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NoReadSettings {
    /// coil, discrete, input or holding.
    pub table: String,
    /// First item, counted from 0.
    pub offset: u16,
    /// Number of items.
    pub count: u16,
}

/// Byte orders; A is the most significant byte.
#[derive(Debug, JsonSchema)]
pub enum OrderName {
    ABCD,
    CDAB,
    BADC,
    DCBA,
}

/// Which end comes first.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum End {
    Big,
    Little,
}

/// How bits are counted.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum BitNumberingName {
    /// Bit 0 is the least significant.
    Lsb0,
    /// Bit 1 is the most significant.
    Msb1,
}

/// Data types.
#[derive(Debug, JsonSchema)]
pub struct TypeName(#[schemars(extend("enum" = super::point::TYPES))] pub String);
