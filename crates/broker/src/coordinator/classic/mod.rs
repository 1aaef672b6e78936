//! Groups of the classic protocol: members join, one of them leads and hands out the partitions.
//!
//! Pure: `state.rs` decides with `joining.rs` and `syncing.rs`, `record.rs` is what the disk keeps of a group.

mod group;
mod joining;
mod record;
mod state;
mod syncing;

pub(crate) use group::{Action, Answer, Group, Identity, Input, Join, Joined, Next, Phase, Sync, Synced, Token};
pub(crate) use record::{decode, encode};
pub(crate) use state::next;
