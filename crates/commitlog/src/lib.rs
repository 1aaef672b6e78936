//! Append-only segmented log on disk: one [`Log`] per partition, made durable in groups by a [`Flusher`].
//!
//! Knows bytes and offsets; nothing of Kafka requests, topics, networks or async. Everything it does to a disk goes
//! through [`Vfs`], every time it reads through [`Clock`], so that tests can fail any call and cut the power anywhere.
//!
//! What it promises: what a commit has confirmed survives a killed process and a power cut (I1); below the durable
//! offset nothing is missing and no offset is ever used twice (I2); recovery can be interrupted and repeated and deletes
//! nothing that it cannot read (I9). After a failed fsync it stops (STR-03).
//!
//! Start reading at `log.rs` (appending), then `sync.rs`, `recovery.rs` and `read.rs`. The bytes on disk are described in
//! `docs/specs/log-format.md`, the choice of layout in `docs/adr/0002-log-layout.md`.

pub mod batch;
mod clock;
mod compact;
mod error;
mod flush;
mod index;
mod log;
mod num;
mod producers;
mod read;
mod records;
mod recovery;
mod retention;
mod salvage;
mod segment;
mod sim;
mod slice;
pub mod state_file;
mod sync;
pub mod times;
mod transactions;
mod verify;
mod vfs;

pub use clock::{Clock, ManualClock, SystemClock};
pub use compact::{Codec, Compacted, KEY_BYTES_MAX, UNPACKED_BYTES_MAX, Uncompressed, keyless};
pub use error::{Error, SyncError};
pub use flush::{Done, Flusher};
pub use log::{Appended, Log, LogOptions, remove_dir};
pub use producers::{BATCHES_REMEMBERED, PRODUCER_EXPIRY_MS, PRODUCERS_MAX, ProducerBatch, ProducerState};
pub use recovery::{Cut, Damage, Recovery};
pub use retention::{Believed, Removed, SEGMENTS_BY_SIZE_MAX, SEGMENTS_BY_TIME_MAX};
pub use sim::{Crash, Fault, SimVfs};
pub use slice::{Fetched, FileSlice};
pub use transactions::{ABORTED_PER_SEGMENT_MAX, Aborted};
pub use verify::{IndexState, Verified, VerifiedDamage, VerifiedSegment, VerifiedTail, verify};
pub use vfs::{OpenMode, RealVfs, Space, Vfs, VfsFile};
