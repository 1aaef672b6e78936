//! Carrying a decided end out: a marker in every partition of the transaction, then the note that it is done.
//!
//! Every step can be repeated: a marker where nothing is open changes nothing, and the note comes last. So what a crash
//! interrupts is begun again at the next start, and what a full disk interrupts a moment later.

use std::sync::Arc;
use std::time::Duration;

use commitlog::SyncError;
use commitlog::batch::{Marker, end_of_transaction};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::state::{Phase, Request, Transaction};
use crate::commit::Ticket;
use crate::core::Core;
use crate::limits::ENDINGS_MAX;
use crate::partition::Partition;
use crate::topics::OFFSETS_TOPIC;

/// How often timeouts are looked at, and what failed is tried again.
const TICK: Duration = Duration::from_millis(500);

/// Why an end could not be carried out yet.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error("cannot write a marker")]
    Marker { source: commitlog::Error },
    #[error("markers are not durable")]
    Durable { source: SyncError },
    #[error("the coordinator refused: {code}")]
    State { code: kafka_protocol::error::ResponseError },
}

/// Ends transactions until it is told to stop: those that are decided, and those that take too long.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut running: JoinSet<Option<String>> = JoinSet::new();
    let mut again = Vec::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while running.len() < ENDINGS_MAX {
            let Some(id) = core.transactions.take_due() else { break };
            running.spawn(end(Arc::clone(&core), id));
        }
        tokio::select! { // cancel-safe: all arms only wait
            () = core.transactions.woken() => {}
            Some(ended) = running.join_next() => again.extend(ended.ok().flatten()),
            _ = ticks.tick() => {
                core.transactions.tick();
                for id in again.drain(..) {
                    core.transactions.put_due(&id);
                }
                if let Err(error) = core.transactions.rewrite_if_due().await {
                    tracing::warn!(error = %daemon::report(&error), "cannot drop old states of transactions");
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

/// Ends one transaction; returns its id when that has to be tried again.
async fn end(core: Arc<Core>, id: String) -> Option<String> {
    let transaction = core.transactions.describe(&id)?;
    let Phase::Preparing { commit } = transaction.phase else { return None };
    let Err(error) = carry_out(&core, &id, &transaction, commit).await else { return None };
    tracing::warn!(transactional_id = id, error = %daemon::report(&error), "a transaction cannot be ended yet");
    Some(id)
}

async fn carry_out(core: &Core, id: &str, transaction: &Transaction, commit: bool) -> Result<(), Interrupted> {
    let durable = |source| Interrupted::Durable { source };
    core.transactions.commit().durable().await.map_err(durable)?;
    let marker = if commit { Marker::Commit } else { Marker::Abort };
    for ticket in mark(core, transaction, marker)? {
        ticket.durable().await.map_err(durable)?;
    }
    // the note need not be durable: without it the markers are written once more
    core.transactions.step(id, Request::Marked).map_err(|code| Interrupted::State { code })?;
    Ok(())
}

/// Writes the markers; they count when the tickets say so.
fn mark(core: &Core, transaction: &Transaction, marker: Marker) -> Result<Vec<Ticket>, Interrupted> {
    let (producer_id, epoch) = (transaction.producer_id, transaction.epoch);
    let mut tickets = Vec::new();
    let mut written = Vec::new();
    for (name, index) in &transaction.partitions {
        if name == OFFSETS_TOPIC {
            let ended = core.offsets.end_transaction(producer_id, epoch, marker);
            tickets.push(ended.map_err(|source| Interrupted::Marker { source })?);
            continue;
        }
        // a partition that is gone has nothing to end
        let topic = core.topics.get(name);
        let Some(partition) = topic.as_ref().and_then(|topic| topic.partition(*index)) else { continue };
        if mark_one(core, partition, producer_id, epoch, marker)? {
            written.push(Arc::clone(partition));
        }
    }
    tickets.extend(core.acknowledge(&written));
    Ok(tickets)
}

/// Writes one marker; false where there is nothing left to end.
fn mark_one(
    core: &Core,
    partition: &Partition,
    producer_id: i64,
    epoch: i16,
    marker: Marker,
) -> Result<bool, Interrupted> {
    let mut batch = end_of_transaction(producer_id, epoch, marker, core.clock.now_ms());
    match partition.log.append(&mut batch) {
        Ok(_) => Ok(true),
        // a later producer of the same id has come: this marker was written before
        Err(commitlog::Error::InvalidProducerEpoch { .. } | commitlog::Error::Closed { .. }) => Ok(false),
        Err(source) => Err(Interrupted::Marker { source }),
    }
}

/// Aborts transactions in the logs that no transactional id knows of, before anybody is served. It takes a damaged
/// `__transaction_state` to leave such; none of them was ever acknowledged as committed, and readers would wait for them
/// for ever.
pub(crate) fn abort_orphans(core: &Core) {
    let unfinished = core.transactions.unfinished();
    for topic in core.topics.all() {
        for partition in &topic.partitions {
            let place = (topic.name.to_string(), partition.index);
            for producer in partition.log.producers() {
                let (producer_id, epoch) = (producer.producer_id, producer.epoch);
                if producer.transaction_start.is_none() || unfinished.contains(&(producer_id, place.clone())) {
                    continue;
                }
                tracing::warn!(topic = place.0, partition = place.1, producer_id, "an orphaned transaction is aborted");
                let aborted = if place.0 == OFFSETS_TOPIC {
                    let ended = core.offsets.end_transaction(producer_id, epoch, Marker::Abort);
                    ended.map(|_| true).map_err(|source| Interrupted::Marker { source })
                } else {
                    mark_one(core, partition, producer_id, epoch, Marker::Abort)
                };
                match aborted {
                    Ok(_) => drop(core.acknowledge(&[Arc::clone(partition)])), // synced soon, waited for by nobody
                    Err(error) => {
                        tracing::error!(error = %daemon::report(&error), "cannot abort an orphaned transaction");
                    }
                }
            }
        }
    }
}
