//! What can go wrong in the log, worded for the caller (retry or not) and then for the operator.
//!
//! [`Error`] is what `Log` returns, [`SyncError`] what a commit of the `Flusher` ends with; the latter is cloned to
//! every waiter of a round.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::BatchError;

/// Failure of an operation on one log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused. See [`Error::no_space`] for the case that passes by itself.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was attempted, an infinitive.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The bytes are not whole, intact record batches of magic 2. Nothing was stored.
    #[error("record batch at byte {position} of the append is invalid")]
    InvalidBatch {
        /// Where the batch starts in the bytes given.
        position: usize,
        /// What is wrong with it.
        source: BatchError,
    },
    /// One batch is larger than `LogOptions::max_batch_bytes`. Nothing was stored.
    #[error("record batch of {bytes} bytes exceeds the limit of {limit} bytes")]
    BatchTooLarge {
        /// Size of the batch.
        bytes: usize,
        /// The limit it exceeds.
        limit: usize,
    },
    /// The offset asked for is not in the log.
    #[error("offset {offset} is outside {start}..={end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: i64,
        /// First offset of the log.
        start: i64,
        /// Offset the next record will get.
        end: i64,
    },
    /// The producer skipped or repeated a sequence number. Nothing was stored.
    #[error("producer {producer_id} sent sequence {sequence}, expected {expected}")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: i64,
        /// First sequence number of its batch.
        sequence: i32,
        /// The number that would have been in order.
        expected: i32,
    },
    /// The producer was fenced by a newer instance of itself. Nothing was stored.
    #[error("producer {producer_id} has epoch {epoch}, the current one is {current}")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: i64,
        /// Epoch of its batch.
        epoch: i16,
        /// Newest epoch seen.
        current: i16,
    },
    /// A producer with an open transaction sent a batch that is not part of it. Nothing was stored.
    #[error("producer {producer_id} has a transaction open and sent records outside of it")]
    InsideTransaction {
        /// The producer.
        producer_id: i64,
    },
    /// Every producer this log may remember has a transaction open. Nothing was stored; passes when one ends.
    #[error("more than {limit} transactions would be open")]
    TooManyTransactions {
        /// The limit.
        limit: usize,
    },
    /// Stored bytes no longer match their checksum. The segment has been set aside and its intact batches are served
    /// again; a reader goes on behind `last_offset`.
    #[error("offsets {first_offset} to {last_offset} are damaged in {}", path.display())]
    Damaged {
        /// First offset that cannot be read.
        first_offset: i64,
        /// Last offset that cannot be read.
        last_offset: i64,
        /// The file that was set aside, or the segment where that was not possible.
        path: PathBuf,
    },
    /// An fsync failed earlier, or a write that could not be undone: this log takes nothing more until the process has restarted and recovered.
    #[error("log {} has stopped after a failed write or sync", path.display())]
    Stopped {
        /// Folder of the log.
        path: PathBuf,
    },
    /// The log was closed or its topic deleted.
    #[error("log {} is closed", path.display())]
    Closed {
        /// Folder of the log.
        path: PathBuf,
    },
}

impl Error {
    /// True for a full disk or quota: the same call succeeds once there is room again.
    pub fn no_space(&self) -> bool {
        match self {
            Error::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { action, path: path.to_path_buf(), source }
    }
}

/// Why a commit did not become durable. The batches it covers must not be acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SyncError {
    /// An fsync failed, now or earlier. Nothing is accepted any more; exit and recover.
    #[error("sync failed, nothing more is acknowledged: {reason}")]
    Failed {
        /// The first failure, with its cause.
        reason: Arc<str>,
    },
    /// The disk had no room for a file that must exist before the acknowledge. Retriable: the data is neither lost nor
    /// acknowledged.
    #[error("not durable yet: {reason}")]
    Retry {
        /// What was missing.
        reason: Arc<str>,
    },
    /// The flusher is being shut down.
    #[error("flusher is stopping")]
    Stopping,
}
