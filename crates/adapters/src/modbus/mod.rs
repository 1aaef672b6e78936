//! Modbus TCP: reads coils, discrete inputs, holding and input registers of one or more units behind one address.
//!
//! Only reads: the protocol crate cannot encode a write (MB-01), and settings that ask for one are refused as unknown.
//!
//! Where to look next: [`config`] for the settings and the plan made of them, [`adapter`] for the polling,
//! [`connection`] for one TCP connection, [`decode`] for what registers become, [`probe`] for a look at a register.

pub mod adapter;
pub mod config;
pub mod connection;
pub mod decode;
pub mod point;
pub mod probe;
pub mod schema;

pub use adapter::ModbusAdapter;

use ::config::rules::PointGlob;

/// The entry of the catalog.
pub const SPEC: ::config::Spec = ::config::Spec {
    kind: ::config::Kind::Adapter,
    type_name: "modbus_tcp",
    summary: "Reads coils and registers of Modbus TCP devices; contiguous points share requests.",
    schema: schema::schema,
    validate: |value, pointer| config::plan(value, pointer).err().unwrap_or_default(),
    points: |value| {
        let tags = config::plan(value, "").ok()?.tags;
        let point = |tag: crate::adapter::Tag| PointGlob { asset: tag.asset_id, parameter: tag.parameter };
        Some(tags.into_iter().map(point).collect())
    },
};
