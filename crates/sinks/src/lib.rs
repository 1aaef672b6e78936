//! Destination connectors: they read the stream and write it to a target.
//!
//! A sink ([`sink::Sink`]) speaks the protocol of its target and nothing else; the [`host`] gives it batches, patience,
//! commits, dead letters and health. One process runs one sink with the settings in `SINK_CONFIG`.
//!
//! This crate knows the stream through `stream`, never the broker, a gateway or an adapter.
//!
//! Where to look next: [`catalog`] for the list of types, [`timescale`] for how one is built, [`process`] for the start.

pub mod alert_router;
pub mod archive;
pub mod authorities;
pub mod batch;
pub mod catalog;
pub mod common;
pub mod dead_letters;
pub mod error;
pub mod host;
pub mod kafka;
pub mod metrics;
pub mod process;
pub mod schema_gate;
pub mod sink;
pub mod source;
pub mod timescale;
mod waits;

pub use error::Error;
pub use process::{Options, run};
