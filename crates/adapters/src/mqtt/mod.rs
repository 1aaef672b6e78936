//! MQTT 5 and 3.1.1: listens to topics of a broker and acknowledges each message when its values are durable.
//!
//! Only listens: what is ever published is a request for births to a Sparkplug edge node, and the adapter's own status
//! where that is switched on (MQ-11, G-01).
//!
//! Where to look next: [`config`] for the settings, [`session`] for what is owed to the broker, [`extract`] for what
//! becomes of a message, [`sparkplug`] for edge nodes, [`probe`] and [`listen`] for a first
//! look at a broker.

pub mod adapter;
pub mod binary;
pub mod codes;
pub mod config;
pub mod connection;
pub mod csv;
pub mod extract;
pub mod json;
pub mod listen;
pub mod mapping;
pub mod memory;
pub mod packet;
pub mod points;
pub mod probe;
pub mod schema;
pub mod session;
pub mod shape;
pub mod sparkplug;
pub mod suggest;
pub mod time;
pub mod tls;
pub mod topic;
pub mod value;
pub mod visit;

pub use adapter::MqttAdapter;

/// The entry of the catalog.
pub const SPEC: ::config::Spec = ::config::Spec {
    kind: ::config::Kind::Adapter,
    type_name: "mqtt",
    summary: "Listens to topics of an MQTT broker: JSON, numbers, tables, bytes, or Sparkplug B.",
    schema: schema::schema,
    validate: |value, pointer| config::plan(value, pointer).err().unwrap_or_default(),
    // topics bring points while it runs
    points: |_| None,
    table: Some(TABLE),
    claim: |_| None,
};

/// Filters with what their messages are.
const TABLE: ::config::Table = ::config::Table {
    list: "subscriptions",
    identity: &["filter"],
    short: None,
    examples: r#"[
        {"filter": "tele/+/+", "topic": "tele/{asset}/{param}", "payload": "number"},
        {"filter": "plant/+/state", "topic": "plant/{asset}/state", "payload": "json", "fields":
            [{"path": "/temperature", "parameter": "temperature", "unit": "celsius"}]},
        {"filter": "lab/scale_1", "asset_id": "scale_1", "payload": "json", "qos": 1, "time":
            {"path": "/ts", "format": "epoch_ms"}, "fields": [{"path": "/weight", "parameter": "weight", "unit": "kg"}]}
    ]"#,
};
