//! Partitions as admin tools ask about them: DescribeTopicPartitions, DescribeProducers, ElectLeaders,
//! ListPartitionReassignments.
//!
//! There is one broker, so every partition has its leader for ever and nothing ever moves.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse as ProducersOfPartition, ProducerState, TopicResponse as ProducersOfTopic,
};
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{
    BrokerId, DescribeProducersRequest, DescribeProducersResponse, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse, ElectLeadersRequest, ElectLeadersResponse, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse, ProducerId, TopicName,
};

use super::cluster::TOPIC_OPERATIONS;
use super::{text, topic_name};
use crate::core::{Core, LEADER_EPOCH, NODE_ID};
use crate::dispatch::Call;
use crate::limits::DESCRIBED_PARTITIONS_MAX;
use crate::partition::Partition;
use crate::topics::{self, Topic};

/// Kinds of elections: of the preferred replica, and of any.
const ELECTIONS: std::ops::RangeInclusive<i8> = 0..=1;

/// Topics in the order of their names, page by page.
pub(crate) async fn describe_topic_partitions(
    core: Arc<Core>,
    call: Call,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let all = request.topics.is_empty();
    let names: BTreeSet<String> = if all {
        core.topics.all().iter().map(|topic| topic.name.to_string()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.to_string()).collect()
    };
    let (from, first) = request.cursor.map_or((String::new(), 0), |cursor| {
        (cursor.topic_name.to_string(), usize::try_from(cursor.partition_index).unwrap_or(0))
    });
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut room = limit.clamp(1, DESCRIBED_PARTITIONS_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.range::<str, _>((Bound::Included(from.as_str()), Bound::Unbounded)) {
        if room == 0 {
            response.next_cursor = Some(Cursor::default().with_topic_name(TopicName(text(name.as_str()))));
            break;
        }
        let Some(topic) = core.topics.get(name) else {
            if !all {
                let known = topics::check_name(name).map(|()| ResponseError::UnknownTopicOrPartition);
                let error = known.unwrap_or(ResponseError::InvalidTopicException);
                core.metrics.count_error(call.api, error.code());
                response.topics.push(described(name).with_error_code(error.code()));
            }
            continue;
        };
        let skipped = if *name == from { first } else { 0 };
        let chosen: Vec<_> = topic.partitions.iter().skip(skipped).take(room).map(partition).collect();
        room -= chosen.len();
        let next = skipped + chosen.len();
        response.topics.push(describe(&topic).with_partitions(chosen));
        if next < topic.partitions.len() {
            let cursor = Cursor::default().with_topic_name(topic_name(&topic.name));
            response.next_cursor = Some(cursor.with_partition_index(i32::try_from(next).unwrap_or(i32::MAX)));
            break;
        }
    }
    response
}

fn described(name: &str) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(TopicName(text(name))))
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn describe(topic: &Topic) -> DescribeTopicPartitionsResponseTopic {
    described(&topic.name).with_topic_id(topic.id).with_is_internal(topic.internal())
}

fn partition(partition: &Arc<Partition>) -> DescribeTopicPartitionsResponsePartition {
    let me: Vec<BrokerId> = vec![NODE_ID];
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(partition.index)
        .with_leader_id(NODE_ID)
        .with_leader_epoch(LEADER_EPOCH)
        .with_replica_nodes(me.clone())
        .with_isr_nodes(me)
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}

/// The idempotent producers that a partition remembers.
pub(crate) async fn describe_producers(
    core: Arc<Core>,
    call: Call,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = core.topics.get(&asked.name);
        let answer = |index: &i32| {
            let answer = ProducersOfPartition::default().with_partition_index(*index);
            match topic.as_ref().and_then(|topic| topic.partition(*index)) {
                Some(partition) => answer.with_active_producers(producers(partition)),
                None => {
                    let error = ResponseError::UnknownTopicOrPartition;
                    core.metrics.count_error(call.api, error.code());
                    answer.with_error_code(error.code()).with_error_message(Some(text("there is no such partition")))
                }
            }
        };
        let partitions = asked.partition_indexes.iter().map(answer).collect();
        topics.push(ProducersOfTopic::default().with_name(asked.name).with_partitions(partitions));
    }
    DescribeProducersResponse::default().with_topics(topics)
}

fn producers(partition: &Partition) -> Vec<ProducerState> {
    let known = partition.log.producers().into_iter();
    known
        .map(|producer| {
            let last = producer.batches.last();
            ProducerState::default()
                .with_producer_id(ProducerId(producer.producer_id))
                .with_producer_epoch(i32::from(producer.epoch))
                .with_last_sequence(last.map_or(-1, |batch| batch.last_sequence))
                .with_last_timestamp(last.map_or(-1, |batch| batch.timestamp_ms))
                .with_coordinator_epoch(-1)
                .with_current_txn_start_offset(producer.transaction_start.unwrap_or(-1))
        })
        .collect()
}

/// The only candidate leads everywhere already. Asked about all partitions, Kafka names those that changed: none.
pub(crate) async fn elect_leaders(core: Arc<Core>, call: Call, request: ElectLeadersRequest) -> ElectLeadersResponse {
    if !ELECTIONS.contains(&request.election_type) {
        core.metrics.count_error(call.api, ResponseError::InvalidRequest.code());
        return ElectLeadersResponse::default().with_error_code(ResponseError::InvalidRequest.code());
    }
    let mut results: BTreeMap<TopicName, Vec<PartitionResult>> = BTreeMap::new();
    for asked in request.topic_partitions.unwrap_or_default() {
        let topic = core.topics.get(&asked.topic);
        let answer = |index: i32| {
            let (error, message) = match topic.as_ref().map(|topic| topic.partition(index)) {
                Some(Some(_)) => (ResponseError::ElectionNotNeeded, "the only broker leads this partition already"),
                Some(None) => (ResponseError::UnknownTopicOrPartition, "there is no such partition"),
                None => (ResponseError::UnknownTopicOrPartition, "there is no such topic"),
            };
            PartitionResult::default()
                .with_partition_id(index)
                .with_error_code(error.code())
                .with_error_message(Some(text(message)))
        };
        results.entry(asked.topic).or_default().extend(asked.partitions.into_iter().map(answer));
    }
    let result =
        |(topic, partitions)| ReplicaElectionResult::default().with_topic(topic).with_partition_result(partitions);
    ElectLeadersResponse::default().with_replica_election_results(results.into_iter().map(result).collect())
}

/// Nothing is ever on its way from one broker to another.
pub(crate) async fn list_partition_reassignments(
    _core: Arc<Core>,
    _call: Call,
    _request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
}
