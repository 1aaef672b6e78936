//! Consumer groups: the classic protocol (`classic/`), the one of KIP-848 (`consumer/`), who owns and keeps them
//! (`groups.rs`), and committed offsets (`offsets.rs`).
//!
//! Both protocols are pure state machines. What a group has told its members is in the log before they are told, so a
//! restart finds members, generations and shares as they were. Offsets live in the same log; `retention.rs` says when they
//! go, which is never unless the operator wants it (STR-12).

pub(crate) mod classic;
pub(crate) mod consumer;
mod groups;
mod offset_records;
mod offsets;
mod pending;
mod retention;
mod slot;
mod wire;

pub(crate) use groups::{Groups, Kind, Speaker};
pub(crate) use offsets::{Committed, Offsets};

/// Milliseconds on a clock that only goes forward.
pub(crate) type Millis = i64;
