//! The transaction coordinator: who may write in whose name, what belongs to a transaction, and how it ends.
//!
//! `state.rs` decides (pure), `records.rs` and `store.rs` keep every decision in `__transaction_state`, `coordinator.rs`
//! owns the transactions and lets requests in, `ending.rs` carries a decided end out: markers in every partition, then
//! the note that it is done.
//! Invariants: a decision is durable before the first marker is written, so a crash in between leaves a transaction that
//! the next start brings to the same end; records enter a partition under the lock of their transaction, so none comes
//! behind its marker. Why so: `docs/adr/0009-transactions.md`.

mod coordinator;
mod ending;
mod records;
mod state;
mod store;

pub(crate) use coordinator::Transactions;
pub(crate) use ending::{abort_orphans, run};
pub(crate) use state::{Answer, Place, Request, Transaction, Who};
