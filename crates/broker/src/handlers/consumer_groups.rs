//! The consumer group protocol: heartbeats that carry everything, and the description of its groups.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment as DescribedAssignment, DescribedGroup, Member as DescribedMember, TopicPartitions as DescribedTopic,
};
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, GroupId,
};
use kafka_protocol::protocol::StrBytes;

use super::groups::{GROUP_OPERATIONS, owned};
use super::{text, topic_name};
use crate::coordinator::Kind;
use crate::coordinator::consumer::{Group, Heartbeat, Input, Member, Refused, Share, Sight};
use crate::core::Core;
use crate::dispatch::Call;
use crate::random;

pub(crate) async fn heartbeat(
    core: Arc<Core>,
    call: Call,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let group_id = request.group_id.clone();
    // the only place where rules outlive their request: a regular expression is matched again when topics come
    let sight = core.access.rights(&call.peer).map_or(Sight::All, Sight::Limited);
    let answer = match read(&call, request, sight) {
        Ok(beat) => core.groups.consumer(&group_id, &core.topics, Input::Heartbeat(Box::new(beat))).await,
        Err(refused) => Err(refused),
    };
    let response = ConsumerGroupHeartbeatResponse::default().with_heartbeat_interval_ms(core.groups.heartbeat_ms());
    match answer {
        Ok(beat) => response
            .with_member_id(Some(text(beat.member_id)))
            .with_member_epoch(beat.epoch)
            .with_assignment(beat.share.map(|share| assignment(&share))),
        Err(Refused { code, message }) => {
            core.metrics.count_error(call.api, code.code());
            response.with_error_code(code.code()).with_error_message(Some(text(message)))
        }
    }
}

fn read(call: &Call, request: ConsumerGroupHeartbeatRequest, sight: Sight) -> Result<Heartbeat, Refused> {
    let wrong = |message: &str| Err(Refused::new(ResponseError::InvalidRequest, message));
    if request.group_id.is_empty() {
        return wrong("a group has a name");
    }
    // from version 1 on members make their ids themselves
    if call.version >= 1 && request.member_id.is_empty() {
        return wrong("a member has an id");
    }
    let names = request.subscribed_topic_names.map(|names| names.iter().map(|name| name.to_string()).collect());
    let place = |topic: &kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions| {
        let id = topic.topic_id;
        topic.partitions.iter().map(move |partition| (id, *partition)).collect::<Vec<_>>()
    };
    Ok(Heartbeat {
        member_id: request.member_id.to_string(),
        epoch: request.member_epoch,
        instance_id: owned(request.instance_id),
        rack_id: owned(request.rack_id),
        rebalance_ms: (request.rebalance_timeout_ms >= 0).then_some(request.rebalance_timeout_ms),
        names,
        pattern: owned(request.subscribed_topic_regex),
        sight,
        assignor: owned(request.server_assignor),
        owned: request.topic_partitions.map(|topics| topics.iter().flat_map(place).collect()),
        client_id: call.client_id.clone(),
        client_host: format!("/{}", call.address),
        fresh_id: random::topic_id().hyphenated().to_string(),
    })
}

/// Partitions by topic, as they are sorted.
fn by_topic(share: &Share) -> Vec<(uuid::Uuid, Vec<i32>)> {
    let mut topics: Vec<(uuid::Uuid, Vec<i32>)> = Vec::new();
    for (topic, partition) in share {
        match topics.last_mut() {
            Some((last, partitions)) if last == topic => partitions.push(*partition),
            _ => topics.push((*topic, vec![*partition])),
        }
    }
    topics
}

fn assignment(share: &Share) -> Assignment {
    let topic = |(id, partitions)| TopicPartitions::default().with_topic_id(id).with_partitions(partitions);
    Assignment::default().with_topic_partitions(by_topic(share).into_iter().map(topic).collect())
}

pub(crate) async fn describe(
    core: Arc<Core>,
    _call: Call,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let operations = if request.include_authorized_operations { GROUP_OPERATIONS } else { i32::MIN };
    let one = |id: GroupId| {
        let described = DescribedGroup::default().with_group_id(id.clone()).with_authorized_operations(operations);
        let group = core.groups.look(&id, |kind| match kind {
            Some(Kind::Consumer(group)) => Some(group.clone()),
            Some(Kind::Classic(_)) | None => None,
        });
        match group {
            Some(group) => describe_group(&core, described, &group),
            None => {
                let message = format!("there is no consumer group {}", id.0);
                described
                    .with_error_code(ResponseError::GroupIdNotFound.code())
                    .with_error_message(Some(text(message)))
                    .with_group_state(StrBytes::from_static_str("Dead"))
            }
        }
    };
    ConsumerGroupDescribeResponse::default().with_groups(request.group_ids.into_iter().map(one).collect())
}

fn describe_group(core: &Core, described: DescribedGroup, group: &Group) -> DescribedGroup {
    let nothing = Share::new();
    let member = |(id, member): (&String, &Member)| {
        let names: BTreeSet<&String> = group.subscribed(id, member).collect();
        DescribedMember::default()
            .with_member_id(text(id.clone()))
            .with_instance_id(member.instance_id.clone().map(text))
            .with_rack_id(member.rack_id.clone().map(text))
            .with_member_epoch(member.epoch)
            .with_client_id(text(member.client_id.clone()))
            .with_client_host(text(member.client_host.clone()))
            .with_subscribed_topic_names(names.into_iter().map(|name| topic_name(&text(name.clone()))).collect())
            .with_subscribed_topic_regex(member.pattern.clone().map(text))
            .with_assignment(describe_share(core, &member.assigned))
            .with_target_assignment(describe_share(core, group.target.get(id).unwrap_or(&nothing)))
            .with_member_type(1) // not a member of the classic protocol
    };
    described
        .with_group_state(StrBytes::from_static_str(group.state()))
        .with_group_epoch(group.epoch)
        .with_assignment_epoch(group.epoch)
        .with_assignor_name(StrBytes::from_static_str(group.assignor().name()))
        .with_members(group.members.iter().map(member).collect())
}

/// Topics that are gone are left out: they have no name.
fn describe_share(core: &Core, share: &Share) -> DescribedAssignment {
    let topic = |(id, partitions)| {
        let name = core.topics.by_id(id)?.name.clone();
        let described = DescribedTopic::default().with_topic_id(id).with_topic_name(topic_name(&name));
        Some(described.with_partitions(partitions))
    };
    DescribedAssignment::default().with_topic_partitions(by_topic(share).into_iter().filter_map(topic).collect())
}
