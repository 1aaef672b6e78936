//! Shared by all topics: batches whose contents tell which they are, and checks of what a log serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use commitlog::batch::{Batches, Builder, Header};
use commitlog::{Clock, Error, Log, LogOptions, ManualClock, Recovery, SimVfs, Vfs};

/// Folder of the log under test.
pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/data/t-0")
}

/// Small segments, dense index.
pub(crate) fn small() -> LogOptions {
    LogOptions { segment_bytes: 1_024, index_interval_bytes: 128, ..LogOptions::default() }
}

/// A batch of `count` records whose values start with `tag`.
pub(crate) fn batch(tag: u64, count: u64) -> Vec<u8> {
    let timestamp = i64::try_from(tag).unwrap() * 10;
    (0..count)
        .fold(Builder::new(timestamp), |builder, index| {
            builder.record(timestamp, format!("value {tag} {index} {}", "x".repeat(40)).as_bytes())
        })
        .build()
}

/// A batch of one record of an idempotent producer.
pub(crate) fn produced(producer: i64, epoch: i16, sequence: i32) -> Vec<u8> {
    Builder::new(1).producer(producer, epoch, sequence).record(1, format!("seq {sequence}").as_bytes()).build()
}

pub(crate) fn open_at(vfs: Arc<dyn Vfs>, dir: &Path, options: LogOptions) -> Result<(Arc<Log>, Recovery), Error> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1_000_000));
    Log::open(vfs, clock, dir, options)
}

pub(crate) fn open(vfs: &SimVfs, options: LogOptions) -> (Arc<Log>, Recovery) {
    open_at(Arc::new(vfs.clone()), &dir(), options).unwrap()
}

/// Everything a reader gets from `start` to `end`, as batches; checks that reading makes progress.
pub(crate) fn read_all(log: &Log, start: i64, end: i64) -> Result<Vec<(Header, Vec<u8>)>, Error> {
    let mut batches = Vec::new();
    let mut offset = start;
    while offset < end {
        let bytes = log.read(offset, 4_096, true, end)?;
        if bytes.is_empty() {
            break;
        }
        for item in Batches::new(&bytes) {
            let (header, batch) = item.unwrap();
            commitlog::batch::verify_crc(batch).map_err(|source| Error::InvalidBatch { position: 0, source })?;
            assert!(header.next_offset() > offset, "reading goes forward");
            offset = header.next_offset();
            batches.push((header, batch.to_vec()));
        }
    }
    Ok(batches)
}

/// A batch without what the log patches: the part that must come back verbatim.
pub(crate) fn body(batch: &[u8]) -> Vec<u8> {
    [&batch[8..12], &batch[16..]].concat()
}
