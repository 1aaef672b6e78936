//! Groups of the protocol of KIP-848: the broker itself assigns partitions, members follow heartbeat by heartbeat.
//!
//! Pure: `state.rs` decides who is in and which epoch it is, `assignor.rs` who shall own what, `reconcile.rs` leads one
//! member there, `subscription.rs` knows which topics are meant, `record.rs` is what the disk keeps of a group.

mod assignor;
mod group;
mod reconcile;
mod record;
mod state;
mod subscription;

pub(crate) use group::{Beat, Group, Heartbeat, Input, Member, Next, Refused, Share, Sight, Timing};
pub(crate) use record::{Part, apply, encode, resume, whole};
pub(crate) use state::{may_commit, may_fetch, next};
pub(crate) use subscription::{Catalog, CatalogTopic};
