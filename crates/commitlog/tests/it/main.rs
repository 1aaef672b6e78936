//! Behaviour of the log as its users see it, over a simulated disk that crashes and over the real one.

#![expect(clippy::unwrap_used, reason = "also in the helpers of the tests a panic is the report")]

mod basics;
mod compaction;
mod crash_states;
mod damage;
mod faults;
mod fetching;
mod flusher;
mod golden;
mod laboratory;
mod model;
mod producers;
mod retention;
mod seeded_bugs;
mod state_files;
mod support;
mod tail;
mod transactions;
mod verify;
