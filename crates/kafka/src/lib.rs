//! Kafka wire protocol and client. Knows nothing of us.

pub mod client;
pub mod protocol;
