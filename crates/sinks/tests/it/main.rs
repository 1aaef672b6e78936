//! Integration tests of the sinks; a module per topic.
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod alert_delivery;
mod alert_laws;
mod alert_router;
mod archive;
mod conformance;
mod host;
mod kafka;
mod stream;
mod support;
mod timescale;
mod tls;
