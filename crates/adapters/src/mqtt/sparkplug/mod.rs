//! Sparkplug B 3.0, as a host that is not the primary one: it listens, and asks for a birth when it has missed something.
//!
//! Never published: STATE. Edge nodes stop publishing when the primary host they know goes offline, so a gateway must not
//! pretend to be one (MQ-22).
//!
//! Where to look next: [`payload`] for the bytes, [`sequence`] for the order of an edge node's messages, [`host`] for
//! births, deaths and values.

pub mod config;
pub mod host;
pub mod metric;
pub mod payload;
pub mod sequence;
