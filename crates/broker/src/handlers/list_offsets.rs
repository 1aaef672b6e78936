//! Where things are in a log: ListOffsets and OffsetForLeaderEpoch.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::fetch::check_epoch;
use crate::codec::Codecs;
use crate::core::{Core, LEADER_EPOCH, log_error_code};
use crate::dispatch::Call;
use crate::partition::Partition;

// Times below zero are questions of their own, each known from a version on.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const QUESTIONS: [(i64, i16); 5] =
    [(LATEST, 1), (EARLIEST, 1), (MAX_TIMESTAMP, 7), (EARLIEST_LOCAL, 8), (LATEST_TIERED, 9)];

pub(crate) async fn list_offsets(core: Arc<Core>, call: Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = core.topics.get(&asked.name);
        let mut answers = Vec::with_capacity(asked.partitions.len());
        for part in &asked.partitions {
            let partition = topic.as_ref().and_then(|topic| topic.partition(part.partition_index));
            let found = partition
                .ok_or(ResponseError::UnknownTopicOrPartition)
                .and_then(|found| find(&core, found, part, (call.version, request.isolation_level)));
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(part.partition_index);
            answers.push(match found {
                Ok((offset, timestamp)) => {
                    let epoch = if offset >= 0 && call.version >= 4 { LEADER_EPOCH } else { -1 };
                    answer.with_offset(offset).with_timestamp(timestamp).with_leader_epoch(epoch)
                }
                Err(error) => {
                    core.metrics.count_error(call.api, error.code());
                    answer.with_error_code(error.code()).with_offset(-1).with_timestamp(-1)
                }
            });
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(asked.name).with_partitions(answers));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// Offset and time of what was asked for; -1 for none.
fn find(
    core: &Core,
    partition: &Partition,
    asked: &ListOffsetsPartition,
    (version, isolation_level): (i16, i8),
) -> Result<(i64, i64), ResponseError> {
    check_epoch(asked.current_leader_epoch)?;
    let known = |(question, since): &(i64, i16)| *question == asked.timestamp && version >= *since;
    if asked.timestamp < 0 && !QUESTIONS.iter().any(known) {
        return Err(ResponseError::UnsupportedVersion);
    }
    let end = core.readable_end(&partition.log, isolation_level);
    // what is not durable or not decided yet does not exist for consumers
    let visible = |found: Option<(i64, i64)>| found.filter(|(offset, _)| *offset < end).unwrap_or((-1, -1));
    match asked.timestamp {
        LATEST => Ok((end, -1)),
        EARLIEST | EARLIEST_LOCAL => Ok((partition.log.start_offset(), -1)),
        LATEST_TIERED => Ok((-1, -1)),
        MAX_TIMESTAMP => Ok(visible(partition.log.max_timestamp(&Codecs))),
        timestamp => {
            let found = partition.log.offset_for_timestamp(timestamp, &Codecs);
            found.map(visible).map_err(|error| {
                tracing::error!(partition = partition.index, error = %daemon::report(&error), "cannot search a log");
                log_error_code(&error)
            })
        }
    }
}

pub(crate) async fn offset_for_leader_epoch(
    core: Arc<Core>,
    _call: Call,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = core.topics.get(&asked.topic);
        let mut answers = Vec::with_capacity(asked.partitions.len());
        for part in &asked.partitions {
            let answer = EpochEndOffset::default().with_partition(part.partition);
            let partition = topic.as_ref().and_then(|topic| topic.partition(part.partition));
            let checked = partition
                .ok_or(ResponseError::UnknownTopicOrPartition)
                .and_then(|found| check_epoch(part.current_leader_epoch).map(|()| found));
            answers.push(match checked {
                // the one epoch there is reaches to the end; older and newer ones have never been
                Ok(found) if part.leader_epoch == LEADER_EPOCH => {
                    answer.with_leader_epoch(LEADER_EPOCH).with_end_offset(core.visible_end(&found.log))
                }
                Ok(_) => answer.with_leader_epoch(-1).with_end_offset(-1),
                Err(error) => answer.with_error_code(error.code()),
            });
        }
        topics.push(OffsetForLeaderTopicResult::default().with_topic(asked.topic).with_partitions(answers));
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}
