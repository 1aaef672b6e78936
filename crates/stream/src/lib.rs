//! What is on the stream: the table of topics, the messages and their Avro form, the registry, publishing and reading.
//!
//! A topic name or a schema appears here and nowhere else. Knows Kafka only through `kafka::client`.

pub mod access;
pub mod avro;
pub mod message;
pub mod partitioner;
pub mod publisher;
pub mod schemas;
pub mod subscription;
pub mod topics;

pub use access::Connection;
pub use message::Schema;
pub use publisher::{Publisher, header};
pub use schemas::Schemas;
pub use subscription::{Start, Subscription};
pub use topics::{StateTopic, Topic};
