//! Fetch: whole batches from where the client asks, or a wait until there are enough.
//!
//! Incremental sessions are not kept: every answer names session 0, so clients send all their partitions each time, as
//! the protocol provides for.
//! Invariant: nothing beyond the durable end of a log is ever answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::core::{Core, LEADER_EPOCH, log_error_code};
use crate::dispatch::Call;
use crate::limits::{FETCH_BYTES_MAX, FETCH_WAIT_MAX};
use crate::partition::Partition;
use crate::topics::Topic;
use crate::waiters::Waiters;

pub(crate) async fn fetch(core: Arc<Core>, call: Call, request: FetchRequest) -> FetchResponse {
    if request.session_id != 0 {
        core.metrics.count_error(call.api, ResponseError::FetchSessionIdNotFound.code());
        return FetchResponse::default().with_error_code(ResponseError::FetchSessionIdNotFound.code());
    }
    let deadline = Instant::now() + wait(request.max_wait_ms);
    let topics = resolve(&core, &call, &request.topics);
    let notify = Arc::new(Notify::new());
    // registered before the first look, so that nothing is missed between a look and a wait
    let mut registrations = Vec::new();
    for partition in topics.iter().filter_map(|wanted| wanted.topic.as_ref().ok().map(|topic| (topic, wanted))) {
        let (topic, wanted) = partition;
        for asked in &wanted.request.partitions {
            if let Some(partition) = topic.partition(asked.partition) {
                registrations.push(Waiters::register(&partition.waiters, &notify));
            }
        }
    }
    loop {
        let found = look(&core, &call, &request, &topics);
        let enough = found.bytes >= usize::try_from(request.min_bytes).unwrap_or(0);
        if enough || found.failed || registrations.is_empty() || core.committer.failure().reason().is_some() {
            return found.response;
        }
        tokio::select! { // cancel-safe: both arms only wait
            woken = timeout_at(deadline, notify.notified()) => if woken.is_err() {
                return found.response;
            },
            () = core.committer.failure().raised() => return found.response,
            () = core.stopping.cancelled() => return found.response,
        }
    }
}

fn wait(max_wait_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(max_wait_ms).unwrap_or(0)).min(FETCH_WAIT_MAX)
}

/// A topic of the request and what it was found to be.
struct Wanted<'a> {
    request: &'a FetchTopic,
    topic: Result<Arc<Topic>, ResponseError>,
}

fn resolve<'a>(core: &Core, call: &Call, topics: &'a [FetchTopic]) -> Vec<Wanted<'a>> {
    let by_id = call.version >= 13;
    let find = |topic: &FetchTopic| {
        if by_id {
            core.topics.by_id(topic.topic_id).ok_or(ResponseError::UnknownTopicId)
        } else {
            core.topics.get(&topic.topic).ok_or(ResponseError::UnknownTopicOrPartition)
        }
    };
    topics.iter().map(|request| Wanted { request, topic: find(request) }).collect()
}

/// What one look at all partitions found.
struct Found {
    response: FetchResponse,
    bytes: usize,
    /// A partition has an error, which must not wait.
    failed: bool,
}

fn look(core: &Core, call: &Call, request: &FetchRequest, topics: &[Wanted<'_>]) -> Found {
    let mut budget = usize::try_from(request.max_bytes).unwrap_or(0).min(FETCH_BYTES_MAX);
    let mut found = Found { response: FetchResponse::default(), bytes: 0, failed: false };
    for wanted in topics {
        let mut answers = Vec::with_capacity(wanted.request.partitions.len());
        for asked in &wanted.request.partitions {
            let read = wanted.topic.as_ref().map_err(|error| *error).and_then(|topic| {
                let partition = topic.partition(asked.partition).ok_or(ResponseError::UnknownTopicOrPartition)?;
                read(core, partition, asked, budget, found.bytes == 0).map(|records| (partition, records))
            });
            let mut answer = PartitionData::default()
                .with_partition_index(asked.partition)
                .with_preferred_read_replica(BrokerId(-1))
                .with_aborted_transactions((request.isolation_level == 1).then(Vec::new));
            match read {
                Ok((partition, records)) => {
                    found.bytes += records.len();
                    budget = budget.saturating_sub(records.len());
                    let end = core.visible_end(&partition.log);
                    answer = answer
                        .with_high_watermark(end)
                        .with_last_stable_offset(end)
                        .with_log_start_offset(partition.log.start_offset())
                        .with_records(Some(records));
                }
                Err(error) => {
                    found.failed = true;
                    core.metrics.count_error(call.api, error.code());
                    answer = answer
                        .with_error_code(error.code())
                        .with_high_watermark(-1)
                        .with_last_stable_offset(-1)
                        .with_log_start_offset(-1)
                        .with_records(Some(Bytes::new()));
                }
            }
            answers.push(answer);
        }
        found.response.responses.push(
            FetchableTopicResponse::default()
                .with_topic(wanted.request.topic.clone())
                .with_topic_id(wanted.request.topic_id)
                .with_partitions(answers),
        );
    }
    found
}

fn read(
    core: &Core,
    partition: &Partition,
    asked: &FetchPartition,
    budget: usize,
    first: bool,
) -> Result<Bytes, ResponseError> {
    check_epoch(asked.current_leader_epoch)?;
    let end = core.visible_end(&partition.log);
    let start = partition.log.start_offset();
    if asked.fetch_offset < start || asked.fetch_offset > partition.log.end_offset() {
        return Err(ResponseError::OffsetOutOfRange);
    }
    let most = usize::try_from(asked.partition_max_bytes).unwrap_or(0).min(budget);
    if asked.fetch_offset >= end || (most == 0 && !first) {
        return Ok(Bytes::new());
    }
    match partition.log.read(asked.fetch_offset, most, first, end) {
        Ok(bytes) => Ok(Bytes::from(bytes)),
        Err(error) => {
            if !matches!(error, commitlog::Error::OffsetOutOfRange { .. }) {
                tracing::error!(partition = partition.index, error = %daemon::report(&error), "cannot read records");
            }
            Err(log_error_code(&error))
        }
    }
}

/// A client may say which leader it believes in; there has been but one.
pub(crate) fn check_epoch(epoch: i32) -> Result<(), ResponseError> {
    if epoch > LEADER_EPOCH { Err(ResponseError::UnknownLeaderEpoch) } else { Ok(()) }
}
