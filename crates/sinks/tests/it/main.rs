//! Integration tests of the sinks; a module per topic.

mod archive;
mod conformance;
mod host;
mod support;
mod timescale;
