//! What all connections share.

use std::sync::Arc;

use commitlog::{Believed, Clock, Log, SyncError};
use daemon::clock::Watch;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::BrokerId;
use kafka_protocol::protocol::StrBytes;
use model::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::access::peer::Peer;
use crate::commit::{Committer, Ticket};
use crate::coordinator::{Groups, Offsets};
use crate::disk::DiskGuard;
use crate::fetch_sessions::FetchSessions;
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::places::Places;
use crate::producer_ids::ProducerIds;
use crate::settings::{Durability, Settings};
use crate::topics::Topics;
use crate::transactions::Transactions;

/// The one node of the cluster.
pub(crate) const NODE_ID: BrokerId = BrokerId(1);
/// Every log has one leader for ever.
pub(crate) const LEADER_EPOCH: i32 = 0;

/// The isolation level of readers who want no record of a transaction that has not been committed.
pub(crate) const READ_COMMITTED: i8 = 1;

/// The state of the broker behind its listeners.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    /// What the wall clock is worth; none where every clock is believed.
    pub(crate) watch: Option<Watch>,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    pub(crate) offsets: Arc<Offsets>,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) transactions: Transactions,
    pub(crate) disk: DiskGuard,
    pub(crate) committer: Committer,
    pub(crate) metrics: Metrics,
    pub(crate) cluster_id: StrBytes,
    pub(crate) access: Access,
    /// Each password check takes a processor for milliseconds; this is how many run.
    pub(crate) password_checks: Semaphore,
    /// Connections of each user who logged in or showed a certificate.
    pub(crate) seats: Arc<Places<Arc<str>>>,
    /// Cancelled when the broker stops: what waits for somebody else's deed is answered at once.
    pub(crate) stopping: CancellationToken,
}

impl Core {
    /// False while the wall clock cannot be right (OFF-03).
    pub(crate) fn believes_clock(&self) -> bool {
        self.watch.as_ref().is_none_or(|watch| watch.life().plausible)
    }

    /// What retention may believe of the time.
    pub(crate) fn believed(&self) -> Believed {
        let now_ms = self.clock.now_ms();
        if self.watch.is_none() {
            return now_ms.into();
        }
        Believed { now_ms: self.believes_clock().then_some(now_ms), stamps_from_ms: Timestamp::YEAR_2000.as_millis() }
    }

    /// Counts a connection for its user; false, said and counted when the user has too many already.
    pub(crate) fn seat(&self, peer: &Peer) -> bool {
        let seated = peer.seat(&self.seats);
        if !seated {
            self.metrics.count_refused("user");
            tracing::warn!(user = %peer.principal(), address = %peer.address, "too many connections of this user");
        }
        seated
    }

    /// The end of what consumers may see: the durable part of the log, unless durability is off.
    pub(crate) fn visible_end(&self, log: &Log) -> i64 {
        match self.settings.durability {
            Durability::Synced => log.durable_offset(),
            Durability::Buffered => log.end_offset(),
        }
    }

    /// The end of what readers of this isolation level may see.
    pub(crate) fn readable_end(&self, log: &Log, isolation_level: i8) -> i64 {
        let end = self.visible_end(log);
        if isolation_level == READ_COMMITTED { log.last_stable_offset(end) } else { end }
    }

    /// Begins to make appends durable; `None` when they count as acknowledged already.
    pub(crate) fn acknowledge(&self, written: &[Arc<Partition>]) -> Option<Ticket> {
        match self.settings.durability {
            Durability::Synced => {
                let logs = written.iter().map(|partition| Arc::clone(&partition.log)).collect();
                Some(self.committer.commit(logs))
            }
            Durability::Buffered => {
                for partition in written {
                    partition.waiters.wake();
                }
                None
            }
        }
    }
}

/// The protocol's word for a failure of the log.
pub(crate) fn log_error_code(error: &commitlog::Error) -> ResponseError {
    use commitlog::Error as E;
    use commitlog::batch::BatchError;
    match error {
        E::InvalidBatch { source: BatchError::Magic { .. }, .. } => ResponseError::UnsupportedForMessageFormat,
        E::InvalidBatch { source: BatchError::Count { .. } | BatchError::Record { .. }, .. } => {
            ResponseError::InvalidRecord
        }
        E::InvalidBatch { .. } => ResponseError::CorruptMessage,
        E::BatchTooLarge { .. } => ResponseError::MessageTooLarge,
        E::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
        E::InvalidProducerEpoch { .. } => ResponseError::InvalidProducerEpoch,
        E::InsideTransaction { .. } => ResponseError::InvalidTxnState,
        E::TooManyTransactions { .. } => ResponseError::NotEnoughReplicas,
        E::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        E::Closed { .. } => ResponseError::UnknownTopicOrPartition,
        // nothing was stored, and the same request succeeds once there is room again
        error if error.no_space() => ResponseError::NotEnoughReplicas,
        _ => ResponseError::KafkaStorageError,
    }
}

/// What a coordinator says of its own notes that did not become durable: words after which clients look for the
/// coordinator and ask again, as those of Apache Kafka's coordinators are. A failed disk ends this process; its successor
/// knows what was kept.
pub(crate) fn coordinator_error_code(error: &SyncError) -> ResponseError {
    match error {
        SyncError::Retry { .. } => ResponseError::CoordinatorNotAvailable,
        _ => ResponseError::NotCoordinator,
    }
}

/// The protocol's word for an append that did not become durable.
pub(crate) fn sync_error_code(error: &SyncError) -> ResponseError {
    match error {
        // written, not acknowledged; an idempotent producer's retry finds the original
        SyncError::Retry { .. } => ResponseError::NotEnoughReplicasAfterAppend,
        _ => ResponseError::KafkaStorageError,
    }
}
