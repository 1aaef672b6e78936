//! Consumer groups: membership (`state.rs`, pure; `groups.rs` owns it) and committed offsets (`offsets.rs`, durable).
//!
//! Membership lives in memory: after a restart every member joins anew. Offsets live in the log and never expire
//! (STR-12).

mod group;
mod groups;
mod offset_records;
mod offsets;
mod state;

pub(crate) use group::{Answer, Group, Identity, Input, Join, Joined, Sync, Synced};
pub(crate) use groups::Groups;
pub(crate) use offsets::{Committed, Offsets};
