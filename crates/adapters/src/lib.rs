//! Source connectors: they read devices and publish readings.
//!
//! An adapter ([`adapter::Adapter`]) speaks a protocol and nothing else; the [`host`] gives it schedule, patience, health
//! and the way to the stream. One process runs one adapter with the settings in `ADAPTER_CONFIG`.
//!
//! This crate knows the stream through `stream`, never the broker, a gateway or a sink.
//!
//! Where to look next: [`catalog`] for the list of types, [`modbus`] for how one is built, [`process`] for the start.

pub mod adapter;
pub mod catalog;
pub mod commission;
pub mod common;
pub mod device;
pub mod edges;
pub mod error;
pub mod hold;
pub mod host;
pub mod letter;
pub mod metrics;
pub mod modbus;
pub mod mqtt;
pub mod notice;
pub mod opcua;
pub mod outbox;
pub mod outlet;
pub mod preview;
pub mod process;
pub mod publishing;
pub mod pump;
pub mod sample;
pub mod schedule;
pub mod simulated;
pub mod stamping;
pub mod templates;
pub mod transitions;

pub use error::Error;
pub use modbus::{probe, scan};
pub use process::{Options, run};
