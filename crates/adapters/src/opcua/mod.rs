//! OPC UA: listens to a server and acknowledges each notification when its values are durable.
//!
//! Only reads: no Write, and no Call but `ConditionRefresh`, which changes nothing at the server (G-01).
//!
//! Where to look next: [`probe`] and [`browse`] for a first look at a server, [`config`] for the settings, [`subscription`]
//! for what is owed to the server, [`items`] for what is watched, [`comeback`] for what happens after a cut, [`value`] for what
//! becomes of a value, [`events`] for events and conditions, [`trust`] for certificates.
//! Why the library's own session is not used is in docs/adr/0019-opcua-session.md.

pub mod adapter;
pub mod browse;
mod chores;
pub mod comeback;
pub mod config;
pub mod connection;
pub mod describe;
pub mod draft;
pub mod endpoint;
pub mod events;
pub mod hints;
pub mod history;
pub mod intake;
pub mod items;
pub mod login;
pub mod node;
pub mod point;
pub mod probe;
pub mod schema;
pub mod session;
pub mod stack;
pub mod subscription;
pub mod trust;
pub mod value;
pub mod visit;

use ::config::rules::PointGlob;

pub use adapter::OpcUaAdapter;

/// The entry of the catalog.
pub const SPEC: ::config::Spec = ::config::Spec {
    kind: ::config::Kind::Adapter,
    type_name: "opcua",
    summary: "Listens to points of an OPC UA server, with security, certificates and no loss over reconnects.",
    schema: schema::schema,
    validate: |value, pointer| config::plan(value, pointer).err().unwrap_or_default(),
    points,
    table: Some(TABLE),
    claim: |_| None,
};

const TABLE: ::config::Table = ::config::Table {
    list: "points",
    identity: &["asset_id", "parameter"],
    short: None,
    examples: r#"[
        {"asset_id": "press_7", "parameter": "temperature", "node": "nsu=urn:example:press;s=Temperature", "unit": "celsius",
            "sampling_interval_ms": 500},
        {"asset_id": "press_7", "parameter": "pressure", "node": "nsu=urn:example:press;s=Pressure", "unit": "bar",
            "deadband": {"type": "absolute", "value": 0.05}},
        {"asset_id": "press_7", "parameter": "mode", "node": "nsu=urn:example:press;s=Mode", "type": "int",
            "states": {"0": "off", "1": "running", "2": "fault"}}
    ]"#,
};

/// None where arrays bring points while it runs.
fn points(value: &serde_json::Value) -> Option<Vec<PointGlob>> {
    let plan = config::plan(value, "").ok()?;
    let splits = plan.points.iter().any(|point| point.elements == point::Elements::All);
    let glob = |point: &point::Point| PointGlob { asset: point.asset_id.clone(), parameter: point.parameter.clone() };
    (!splits).then(|| plan.points.iter().map(glob).collect())
}
