//! Modbus, over TCP and on serial lines: reads coils, discrete inputs, holding and input registers of one or more units.
//!
//! Only reads: the protocol crate cannot encode a write (MB-01), and settings that ask for one are refused as unknown.
//!
//! Where to look next: [`config`] for the settings and the plan made of them, [`adapter`] for the polling, [`lessons`] for
//! what to do about a refusal or silence, [`connection`] for the wire, [`decode`] for what registers become, [`probe`]
//! and [`scan`] for a look at a device.

pub mod adapter;
pub mod config;
pub mod connection;
pub mod decode;
pub mod lessons;
pub mod load;
pub mod mbap;
pub mod memory;
pub mod planned;
pub mod point;
pub mod probe;
pub mod reporting;
pub mod rtu;
pub mod scan;
pub mod schema;
pub mod serial;
pub mod transport;
pub mod values;
pub mod verdicts;

pub use adapter::ModbusAdapter;

use ::config::rules::PointGlob;
use serde_json::Value;

/// The entry of the catalog for what is behind a TCP port.
pub const SPEC: ::config::Spec = ::config::Spec {
    kind: ::config::Kind::Adapter,
    type_name: transport::TCP,
    summary: "Reads coils and registers of Modbus TCP devices; contiguous points share requests.",
    schema: schema::schema,
    validate: |value, pointer| config::plan_of(value, pointer, false).err().unwrap_or_default(),
    points,
    table: Some(TABLE),
    claim: transport::claim,
};

const TABLE: ::config::Table = ::config::Table {
    list: "points",
    identity: &["asset_id", "parameter"],
    short: Some(::config::table::Short { setting: "registers", full: point::in_full }),
    examples: r#"[
        {"asset_id": "press_7", "parameter": "temperature", "address": "40001", "type": "float32", "unit": "celsius"},
        {"asset_id": "press_7", "parameter": "pressure", "address": {"table": "input", "number": 3}, "type": "int16",
            "unit": "bar", "scale": 0.1},
        {"asset_id": "press_7", "parameter": "state", "address": "40010", "type": "uint16", "edge": "change",
            "states": {"0": "off", "1": "running", "2": "fault"}}
    ]"#,
};

/// The entry of the catalog for serial lines.
pub const SERIAL: ::config::Spec = ::config::Spec {
    kind: ::config::Kind::Adapter,
    type_name: transport::RTU,
    summary: "Reads coils and registers of Modbus RTU devices on a serial line, RS-485 or RS-232.",
    schema: schema::serial_schema,
    validate: |value, pointer| config::plan_of(value, pointer, true).err().unwrap_or_default(),
    points,
    table: Some(TABLE),
    claim: transport::claim,
};

fn points(value: &Value) -> Option<Vec<PointGlob>> {
    let tags = config::plan(value, "").ok()?.tags;
    let point = |tag: crate::adapter::Tag| PointGlob { asset: tag.asset_id, parameter: tag.parameter };
    Some(tags.into_iter().map(point).collect())
}
