//! The `archive` sink: readings as Parquet files in a folder or an object store.
//!
//! A file holds the records of one partition between two offsets, and its name says so:
//!
//! ```text
//! telemetry.clean/date=2026-01-29/p07-00000000000001234567-1769680800123-00000000000001238900.parquet
//!                 |               |   |                    |             +-- next offset
//!                 |               |   |                    +-- Kafka time of the first record, milliseconds
//!                 |               |   +-- first offset
//!                 |               +-- partition
//!                 +-- day of the first record (UTC, gateway time)
//! ```
//!
//! Nothing is written twice, and nothing twice under different boundaries:
//! 1. A file's end is decided before it is written, and a file is put whole: it is there completely or not at all. When
//!    a put fails, or its answer is lost, the same bytes are put under the same name again.
//! 2. Positions are confirmed, and so committed, only at ends of files that are there.
//! 3. After a start, before the first file of a partition is begun, the store is asked for a file that begins with the
//!    very record that was read (same offset, same time). Where there is one, a former process wrote it and crashed
//!    before its commit: reading skips to its end, and the question is asked again there. Only when nothing is found a
//!    new file begins. The time in the name keeps a stream that was made anew, and counts its offsets from zero again,
//!    from being taken for the old one, and its files from overwriting the old ones.
//!
//! Where the committed positions themselves are lost (and only there), records may be archived again under other
//! boundaries; rows carry `gateway_id`, `adapter_id`, `epoch` and `seq` to tell them apart.
//!
//! Memory: an open file keeps the records of its unfinished row group and the finished, compressed row groups; all open
//! files together stay below [`sink::GATHERED_BYTES_MAX`].
//!
//! Look next: [`sink`] gathers and puts, [`names`] is the rule above, [`parquet`] the file, [`store`] where it goes.

pub mod config;
pub mod names;
pub mod parquet;
pub mod sink;
pub mod store;

pub use config::SPEC;
pub use sink::ArchiveSink;
pub use store::Keys;
