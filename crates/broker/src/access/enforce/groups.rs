//! Consumer groups: members ask for READ on their group, lookers-on for DESCRIBE; committing asks for READ on the topic.

use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestTopic, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    BrokerId, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Asking, GROUP_DENIED, Guarded, TOPIC_DENIED, TRANSACTION_DENIED, Verdict, tells_throttling};
use crate::access::rules::{Operation, Resource};

impl Guarded for FindCoordinatorRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<FindCoordinatorResponse> {
        let transactions = self.key_type == 1;
        let code = if transactions { TRANSACTION_DENIED } else { GROUP_DENIED };
        let allowed = |key: &StrBytes| {
            if transactions {
                asking.transaction(Operation::Describe, key)
            } else {
                asking.group(Operation::Describe, key)
            }
        };
        if asking.version < 4 {
            if allowed(&self.key) {
                return Verdict::Pass;
            }
            let answer = FindCoordinatorResponse::default().with_error_code(code);
            return Verdict::Refuse(answer.with_node_id(BrokerId(-1)).with_port(-1));
        }
        let denied = asking.take_out(&mut self.coordinator_keys, allowed);
        Verdict::unless_empty(denied, move |answer: &mut FindCoordinatorResponse, denied| {
            answer.coordinators.extend(denied.into_iter().map(|key| {
                let coordinator = Coordinator::default().with_key(key).with_error_code(code);
                coordinator.with_node_id(BrokerId(-1)).with_port(-1)
            }));
        })
    }

    tells_throttling!();
}

impl Guarded for JoinGroupRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<JoinGroupResponse> {
        if asking.group(Operation::Read, &self.group_id) {
            return Verdict::Pass;
        }
        // a null name can be written from version 7 on
        let no_protocol = if asking.version >= 7 { None } else { Some(StrBytes::new()) };
        let answer = JoinGroupResponse::default().with_error_code(GROUP_DENIED).with_generation_id(-1);
        Verdict::Refuse(answer.with_protocol_name(no_protocol))
    }

    tells_throttling!();
}

impl Guarded for SyncGroupRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<SyncGroupResponse> {
        if asking.group(Operation::Read, &self.group_id) {
            return Verdict::Pass;
        }
        Verdict::Refuse(SyncGroupResponse::default().with_error_code(GROUP_DENIED))
    }

    tells_throttling!();
}

impl Guarded for HeartbeatRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<HeartbeatResponse> {
        if asking.group(Operation::Read, &self.group_id) {
            return Verdict::Pass;
        }
        Verdict::Refuse(HeartbeatResponse::default().with_error_code(GROUP_DENIED))
    }

    tells_throttling!();
}

impl Guarded for LeaveGroupRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<LeaveGroupResponse> {
        if asking.group(Operation::Read, &self.group_id) {
            return Verdict::Pass;
        }
        Verdict::Refuse(LeaveGroupResponse::default().with_error_code(GROUP_DENIED))
    }

    tells_throttling!();
}

impl Guarded for ConsumerGroupHeartbeatRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<ConsumerGroupHeartbeatResponse> {
        let refused = |code| Verdict::Refuse(ConsumerGroupHeartbeatResponse::default().with_error_code(code));
        if !asking.group(Operation::Read, &self.group_id) {
            return refused(GROUP_DENIED);
        }
        let mut names = self.subscribed_topic_names.iter().flatten();
        if names.any(|name| !asking.topic(Operation::Describe, name)) {
            return refused(TOPIC_DENIED);
        }
        Verdict::Pass
    }

    tells_throttling!();
}

impl Guarded for DescribeGroupsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<DescribeGroupsResponse> {
        let denied = asking.take_out(&mut self.groups, |id| asking.group(Operation::Describe, id));
        let operations = self.include_authorized_operations.then(|| asking.keep());
        Verdict::amend(move |answer: &mut DescribeGroupsResponse| {
            if let Some(rights) = operations {
                for group in &mut answer.groups {
                    group.authorized_operations = rights.operations(Resource::Group, &group.group_id);
                }
            }
            let refused = |id| DescribedGroup::default().with_group_id(id).with_error_code(GROUP_DENIED);
            answer.groups.extend(denied.into_iter().map(refused));
        })
    }

    tells_throttling!();
}

impl Guarded for ConsumerGroupDescribeRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<ConsumerGroupDescribeResponse> {
        let denied = asking.take_out(&mut self.group_ids, |id| asking.group(Operation::Describe, id));
        let (operations, rights) = (self.include_authorized_operations, asking.keep());
        Verdict::amend(move |answer: &mut ConsumerGroupDescribeResponse| {
            for group in &mut answer.groups {
                if operations {
                    group.authorized_operations = rights.operations(Resource::Group, &group.group_id);
                }
                let known = |name: &str| rights.may(Operation::Describe, Resource::Topic, name);
                let hidden = group.members.iter().any(|member| {
                    let assigned = member.assignment.topic_partitions.iter();
                    let wanted = member.target_assignment.topic_partitions.iter();
                    let named = assigned.chain(wanted).map(|topic| &topic.topic_name);
                    !named.chain(&member.subscribed_topic_names).all(|name| known(name))
                });
                if hidden {
                    group.error_code = TOPIC_DENIED;
                    group.members.clear();
                }
            }
            let refused = |id| DescribedConsumerGroup::default().with_group_id(id).with_error_code(GROUP_DENIED);
            answer.groups.extend(denied.into_iter().map(refused));
        })
    }

    tells_throttling!();
}

impl Guarded for ListGroupsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<ListGroupsResponse> {
        if asking.cluster(Operation::Describe) {
            return Verdict::Pass;
        }
        let rights = asking.keep();
        Verdict::amend(move |answer: &mut ListGroupsResponse| {
            answer.groups.retain(|group| rights.may(Operation::Describe, Resource::Group, &group.group_id));
        })
    }

    tells_throttling!();
}

impl Guarded for DeleteGroupsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<DeleteGroupsResponse> {
        let denied = asking.take_out(&mut self.groups_names, |id| asking.group(Operation::Delete, id));
        Verdict::unless_empty(denied, |answer: &mut DeleteGroupsResponse, denied| {
            let refused = |id| DeletableGroupResult::default().with_group_id(id).with_error_code(GROUP_DENIED);
            answer.results.extend(denied.into_iter().map(refused));
        })
    }

    tells_throttling!();
}

fn not_committed(topic: OffsetCommitRequestTopic, code: i16) -> OffsetCommitResponseTopic {
    let parts = topic.partitions.iter().map(|part| {
        OffsetCommitResponsePartition::default().with_partition_index(part.partition_index).with_error_code(code)
    });
    let parts = parts.collect();
    OffsetCommitResponseTopic::default().with_partitions(parts).with_name(topic.name).with_topic_id(topic.topic_id)
}

impl Guarded for OffsetCommitRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<OffsetCommitResponse> {
        if !asking.group(Operation::Read, &self.group_id) {
            let all = std::mem::take(&mut self.topics).into_iter();
            let all = all.map(|topic| not_committed(topic, GROUP_DENIED)).collect();
            return Verdict::Refuse(OffsetCommitResponse::default().with_topics(all));
        }
        let denied =
            asking.take_out(&mut self.topics, |topic| asking.topic_or_id(Operation::Read, &topic.name, topic.topic_id));
        Verdict::unless_empty(denied, |answer: &mut OffsetCommitResponse, denied| {
            answer.topics.extend(denied.into_iter().map(|topic| not_committed(topic, TOPIC_DENIED)));
        })
    }

    tells_throttling!();
}

fn no_offsets(topic: OffsetFetchRequestTopic, code: i16) -> OffsetFetchResponseTopic {
    let parts = topic.partition_indexes.iter().map(|index| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(*index)
            .with_committed_offset(-1)
            .with_metadata(Some(StrBytes::new()))
            .with_error_code(code)
    });
    OffsetFetchResponseTopic::default().with_partitions(parts.collect()).with_name(topic.name)
}

fn no_offsets_of_group(topic: OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let parts = topic.partition_indexes.iter().map(|index| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(*index)
            .with_committed_offset(-1)
            .with_metadata(Some(StrBytes::new()))
            .with_error_code(TOPIC_DENIED)
    });
    OffsetFetchResponseTopics::default().with_partitions(parts.collect()).with_name(topic.name)
}

impl Guarded for OffsetFetchRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<OffsetFetchResponse> {
        let rights = asking.keep();
        let known = move |name: &str| rights.may(Operation::Describe, Resource::Topic, name);
        if asking.version < 8 {
            if !asking.group(Operation::Describe, &self.group_id) {
                let topics = self.topics.take().unwrap_or_default().into_iter();
                let topics = topics.map(|topic| no_offsets(topic, GROUP_DENIED)).collect();
                return Verdict::Refuse(
                    OffsetFetchResponse::default().with_topics(topics).with_error_code(GROUP_DENIED),
                );
            }
            let denied = self.topics.as_mut().map(|topics| asking.take_out(topics, |topic| known(&topic.name)));
            return Verdict::amend(move |answer: &mut OffsetFetchResponse| {
                answer.topics.retain(|topic| known(&topic.name)); // all topics may have been asked for
                let denied = denied.into_iter().flatten();
                answer.topics.extend(denied.map(|topic| no_offsets(topic, TOPIC_DENIED)));
            });
        }
        let groups = asking.take_out(&mut self.groups, |group| asking.group(Operation::Describe, &group.group_id));
        let topics: Vec<Vec<OffsetFetchRequestTopics>> = self
            .groups
            .iter_mut()
            .map(|group| {
                let topics = group.topics.as_mut();
                topics.map(|topics| asking.take_out(topics, |topic| known(&topic.name))).unwrap_or_default()
            })
            .collect();
        Verdict::amend(move |answer: &mut OffsetFetchResponse| {
            // the answer keeps the order of the request
            for (group, denied) in answer.groups.iter_mut().zip(topics) {
                group.topics.retain(|topic| known(&topic.name));
                group.topics.extend(denied.into_iter().map(no_offsets_of_group));
            }
            answer.groups.extend(groups.into_iter().map(|group| {
                OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_error_code(GROUP_DENIED)
            }));
        })
    }

    tells_throttling!();
}

impl Guarded for OffsetDeleteRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<OffsetDeleteResponse> {
        if !asking.group(Operation::Delete, &self.group_id) {
            return Verdict::Refuse(OffsetDeleteResponse::default().with_error_code(GROUP_DENIED));
        }
        let denied = asking.take_out(&mut self.topics, |topic| asking.topic(Operation::Read, &topic.name));
        Verdict::unless_empty(denied, |answer: &mut OffsetDeleteResponse, denied| {
            if answer.error_code != 0 {
                return;
            }
            answer.topics.extend(denied.into_iter().map(|topic| {
                let parts = topic.partitions.iter().map(|part| {
                    let part = OffsetDeleteResponsePartition::default().with_partition_index(part.partition_index);
                    part.with_error_code(TOPIC_DENIED)
                });
                OffsetDeleteResponseTopic::default().with_partitions(parts.collect()).with_name(topic.name)
            }));
        })
    }

    tells_throttling!();
}
