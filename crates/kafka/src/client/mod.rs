//! The Kafka client of every component: a thin, batch-minded face on librdkafka.
//!
//! Three parts: [`Producer`] (idempotent, acks=all, zstd), [`Consumer`] (manual assignment, explicit commits) and
//! [`admin`] (topics, watermarks, group offsets). librdkafka owns connections, retries, leaders and the wire; what is
//! settled here are the guarantees: nothing is committed by itself, nothing jumps to the newest offset by itself.

pub mod admin;
mod consumer;
mod error;
mod producer;
mod settings;

pub use consumer::{Consumer, Position, Record};
pub use error::Error;
pub use producer::{Batch, Pending, Producer, SendError};
pub use settings::Settings;
