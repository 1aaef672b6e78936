//! The `kafka` sink: replicates topics to a customer's Kafka-compatible cluster, exactly once.
//!
//! ```text
//! batch -> every record decodes, its schema has an id at the customer's registry -> one transaction:
//!          records with the id rewritten (REC-06), key, time, headers and order as they were
//!        + the positions behind them, as metadata of a consumer group of the target
//! ```
//!
//! How the laws of [`crate::sink::Sink`] hold:
//! - **All or nothing, again is harmless** (1, 3). A batch is one transaction of the target, and the positions are in it.
//!   [`KafkaSink`] takes the transactional id over at every connect: what a former session left open is aborted, what it
//!   had decided is finished, and only then are the positions read. So there is no moment in which records count and
//!   their positions do not. Readers have to read what is committed (`isolation.level=read_committed`).
//! - **Confirmed means safe** (2). The coordinator of the target has answered the commit.
//! - **Refusal is about the record** (4). Refused is what does not decode as its topic says, what follows somebody
//!   else's schema, and what the brokers refuse alone. A registry that refuses our contracts is an outage: it
//!   would condemn a whole topic, and its administrator can let them in.
//! - **Order** (5). A target with as many partitions as ours keeps each partition; any other places by key, as the Java
//!   client does, and keeps the order of each key.
//! - **Dropping is safe** (6). What waits for the target waits on threads of its own. One that is left behind holds a
//!   producer that the next connect fences off.
//! - **Bounded memory** (7). A batch, and the producer's copy of it.
//!
//! Two processes of one sink do not write side by side: each commit says who made it, and a process that finds another
//! one's there stops ([`positions`]).
//!
//! Where the target forgets its consumer groups (a week without a commit is its usual patience), reading goes on where
//! the gateway's own group committed; that one is at most a second behind.
//!
//! Look next: [`sink`] connects and delivers, [`session`] is a connection that stands, [`positions`] what the target
//! remembers for us, [`schema_ids`] the other registry.

pub mod config;
pub mod positions;
pub mod schema_ids;
pub mod session;
pub mod sink;

pub use config::SPEC;
pub use sink::KafkaSink;
