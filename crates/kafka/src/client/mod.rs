//! The Kafka client of every component: a thin, batch-minded face on librdkafka.
//!
//! Four parts: [`Producer`] (idempotent, acks=all, zstd), [`TransactionalProducer`] (records and positions count together
//! or not at all), [`Consumer`] (manual assignment, explicit commits) and [`admin`] (topics, settings, groups, offsets). librdkafka owns connections, retries, leaders and the wire of the data
//! path; what is settled here are the guarantees: nothing is committed by itself, nothing jumps to the newest offset by
//! itself. [`access`] has what a cluster of somebody else asks for, [`inspect`] what it promises; `wire.rs` carries the
//! few questions of administration that librdkafka has no call for.

pub mod access;
pub mod admin;
mod consumer;
mod error;
pub mod inspect;
mod producer;
mod settings;
mod transactions;
mod wire;

pub use access::Access;
pub use consumer::{Consumer, Position, Record};
pub use error::Error;
pub use kafka_protocol::error::ResponseError;
pub use producer::{Batch, Outgoing, Pending, Producer, SendError};
pub use settings::Settings;
pub use transactions::{TransactionSettings, TransactionalProducer};
