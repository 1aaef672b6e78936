//! The schema registry: Confluent's REST interface over the compacted topic `_schemas`.
//!
//! `state.rs` is what is known and `decide.rs` what a request changes (both pure), `record.rs` the form in the topic,
//! `store.rs` writes and replays, `schema.rs` with `avro/`, `protobuf/` and `jsonschema.rs` judges schemas, `http/` is
//! the interface. Specification: docs/specs/registry.md.
//! Invariants: an answer that names an id was durable before it was given; an id is never given to two schemas and a
//! version never to two schemas of a subject, also after their deletion.

mod avro;
mod decide;
mod error;
mod http;
mod json;
mod jsonschema;
mod names;
mod protobuf;
mod record;
mod schema;
mod state;
mod store;

pub(crate) use http::serve;
pub(crate) use store::Registry;
