//! The schema registry: Confluent's REST interface over the compacted topic `_schemas`.
//!
//! `state.rs` is what is known (pure), `record.rs` its form in the topic, `store.rs` writes and replays, `avro.rs` and
//! `logical_types.rs` judge schemas, `http.rs` is the interface.
//! Invariants: an answer that names an id was durable before it was given; one text has one id for ever.

mod avro;
mod error;
mod http;
mod logical_types;
mod record;
mod state;
mod store;

pub(crate) use http::serve;
pub(crate) use store::Registry;
