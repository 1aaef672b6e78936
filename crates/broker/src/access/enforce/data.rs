//! Records and their places: writing asks for WRITE, reading for READ, looking for offsets for DESCRIBE.

use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, TopicResponse};
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    BrokerId, DeleteRecordsRequest, DeleteRecordsResponse, DescribeProducersRequest, DescribeProducersResponse,
    FetchRequest, FetchResponse, InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProduceRequest, ProduceResponse,
    ProducerId,
};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::{Asking, CLUSTER_DENIED, Guarded, TOPIC_DENIED, TRANSACTION_DENIED, Verdict, tells_throttling};
use crate::access::rules::{Operation, Resource};

fn not_produced(topic: TopicProduceData, code: i16) -> TopicProduceResponse {
    let parts = topic.partition_data.iter().map(|part| {
        PartitionProduceResponse::default().with_index(part.index).with_error_code(code).with_base_offset(-1)
    });
    TopicProduceResponse::default()
        .with_partition_responses(parts.collect())
        .with_name(topic.name)
        .with_topic_id(topic.topic_id)
}

impl Guarded for ProduceRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<ProduceResponse> {
        if self.transactional_id.as_ref().is_some_and(|id| !asking.transaction(Operation::Write, id)) {
            let all = std::mem::take(&mut self.topic_data).into_iter();
            let all = all.map(|topic| not_produced(topic, TRANSACTION_DENIED)).collect();
            return Verdict::Refuse(ProduceResponse::default().with_responses(all));
        }
        let denied = asking
            .take_out(&mut self.topic_data, |topic| asking.topic_or_id(Operation::Write, &topic.name, topic.topic_id));
        let denied = denied.into_iter().map(|topic| not_produced(topic, TOPIC_DENIED)).collect();
        Verdict::unless_empty(denied, |answer: &mut ProduceResponse, denied| answer.responses.extend(denied))
    }

    tells_throttling!();
}

fn not_fetched(partition: i32) -> PartitionData {
    PartitionData::default()
        .with_partition_index(partition)
        .with_error_code(TOPIC_DENIED)
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_preferred_read_replica(BrokerId(-1))
        .with_records(Some(Bytes::new()))
}

fn topic_not_fetched(topic: FetchTopic) -> FetchableTopicResponse {
    FetchableTopicResponse::default()
        .with_partitions(topic.partitions.iter().map(|part| not_fetched(part.partition)).collect())
        .with_topic(topic.topic)
        .with_topic_id(topic.topic_id)
}

impl Guarded for FetchRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<FetchResponse> {
        let denied = asking
            .take_out(&mut self.topics, |topic| asking.topic_or_id(Operation::Read, &topic.topic, topic.topic_id));
        if !denied.is_empty() {
            // a session would remember what is left and forget to say what is denied, so there is none
            if self.session_id != 0 {
                let code = ResponseError::FetchSessionIdNotFound.code();
                return Verdict::Refuse(FetchResponse::default().with_error_code(code));
            }
            self.session_epoch = -1;
            self.max_wait_ms = 0; // an error does not wait for records
        }
        if denied.is_empty() && self.session_id == 0 {
            return Verdict::Pass;
        }
        let (rights, session) = (asking.keep(), self.session_id != 0);
        let known = if session { asking.core.topics.all() } else { Vec::new() };
        Verdict::amend(move |answer: &mut FetchResponse| {
            // a session goes on with partitions of earlier requests, and the rules may have changed since
            for topic in answer.responses.iter_mut().filter(|_| session) {
                let by_id = known.iter().find(|known| known.id == topic.topic_id);
                let name = if topic.topic.is_empty() { by_id.map(|known| &known.name) } else { Some(&topic.topic.0) };
                if name.is_some_and(|name| !rights.may(Operation::Read, Resource::Topic, name)) {
                    topic.partitions = topic.partitions.iter().map(|part| not_fetched(part.partition_index)).collect();
                }
            }
            answer.responses.extend(denied.into_iter().map(topic_not_fetched));
        })
    }

    tells_throttling!();

    fn consumed(answer: &FetchResponse) -> usize {
        let parts = answer.responses.iter().flat_map(|topic| &topic.partitions);
        parts.map(|part| part.records.as_ref().map_or(0, Bytes::len)).sum()
    }
}

impl Guarded for ListOffsetsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<ListOffsetsResponse> {
        let denied = asking.take_out(&mut self.topics, |topic| asking.topic(Operation::Describe, &topic.name));
        Verdict::unless_empty(denied, |answer: &mut ListOffsetsResponse, denied| {
            answer.topics.extend(denied.into_iter().map(|topic| {
                let parts = topic.partitions.iter().map(|part| {
                    ListOffsetsPartitionResponse::default()
                        .with_partition_index(part.partition_index)
                        .with_error_code(TOPIC_DENIED)
                        .with_offset(-1)
                        .with_timestamp(-1)
                });
                ListOffsetsTopicResponse::default().with_partitions(parts.collect()).with_name(topic.name)
            }));
        })
    }

    tells_throttling!();
}

impl Guarded for OffsetForLeaderEpochRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<OffsetForLeaderEpochResponse> {
        let denied = asking.take_out(&mut self.topics, |topic| asking.topic(Operation::Describe, &topic.topic));
        Verdict::unless_empty(denied, |answer: &mut OffsetForLeaderEpochResponse, denied| {
            answer.topics.extend(denied.into_iter().map(|topic| {
                let parts = topic
                    .partitions
                    .iter()
                    .map(|part| EpochEndOffset::default().with_partition(part.partition).with_error_code(TOPIC_DENIED));
                OffsetForLeaderTopicResult::default().with_partitions(parts.collect()).with_topic(topic.topic)
            }));
        })
    }

    tells_throttling!();
}

impl Guarded for DeleteRecordsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<DeleteRecordsResponse> {
        let denied = asking.take_out(&mut self.topics, |topic| asking.topic(Operation::Delete, &topic.name));
        Verdict::unless_empty(denied, |answer: &mut DeleteRecordsResponse, denied| {
            answer.topics.extend(denied.into_iter().map(|topic| {
                let parts = topic.partitions.iter().map(|part| {
                    DeleteRecordsPartitionResult::default()
                        .with_partition_index(part.partition_index)
                        .with_error_code(TOPIC_DENIED)
                        .with_low_watermark(-1)
                });
                DeleteRecordsTopicResult::default().with_partitions(parts.collect()).with_name(topic.name)
            }));
        })
    }

    tells_throttling!();
}

impl Guarded for DescribeProducersRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<DescribeProducersResponse> {
        let denied = asking.take_out(&mut self.topics, |topic| asking.topic(Operation::Read, &topic.name));
        Verdict::unless_empty(denied, |answer: &mut DescribeProducersResponse, denied| {
            answer.topics.extend(denied.into_iter().map(|topic| {
                let parts = topic.partition_indexes.iter().map(|index| {
                    PartitionResponse::default().with_partition_index(*index).with_error_code(TOPIC_DENIED)
                });
                TopicResponse::default().with_partitions(parts.collect()).with_name(topic.name)
            }));
        })
    }

    tells_throttling!();
}

impl Guarded for InitProducerIdRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<InitProducerIdResponse> {
        let code = match &self.transactional_id {
            Some(id) if asking.transaction(Operation::Write, id) => return Verdict::Pass,
            Some(_) => TRANSACTION_DENIED,
            None if asking.cluster(Operation::IdempotentWrite)
                || asking.rights.may_some(Operation::Write, Resource::Topic) =>
            {
                return Verdict::Pass;
            }
            None => CLUSTER_DENIED,
        };
        let answer = InitProducerIdResponse::default().with_error_code(code);
        Verdict::Refuse(answer.with_producer_id(ProducerId(-1)).with_producer_epoch(-1))
    }

    tells_throttling!();
}
