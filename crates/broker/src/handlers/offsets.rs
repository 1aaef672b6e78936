//! OffsetCommit, OffsetFetch, OffsetDelete.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::{code, result_code, text};
use crate::coordinator::{Committed, Kind, Speaker, consumer};
use crate::core::{Core, coordinator_error_code};
use crate::dispatch::Call;
use crate::limits::OFFSET_NOTE_BYTES_MAX;

pub(crate) async fn commit(core: Arc<Core>, call: Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut accepted = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let known = core.topics.get(&topic.name);
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for part in &topic.partitions {
            let note = part.committed_metadata.as_ref().map_or("", |note| note.as_str());
            let exists = known.as_ref().is_some_and(|topic| topic.partition(part.partition_index).is_some());
            let code = if !exists {
                ResponseError::UnknownTopicOrPartition.code()
            } else if note.len() > OFFSET_NOTE_BYTES_MAX {
                ResponseError::OffsetMetadataTooLarge.code()
            } else {
                let committed = Committed {
                    offset: part.committed_offset,
                    leader_epoch: part.committed_leader_epoch,
                    metadata: note.to_owned(),
                    time_ms: core.clock.now_ms(),
                };
                accepted.push((topic.name.to_string(), part.partition_index, committed));
                0
            };
            let answer = OffsetCommitResponsePartition::default().with_partition_index(part.partition_index);
            answers.push(answer.with_error_code(code));
        }
        topics.push(OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(answers));
    }
    let code = result_code(&store(&core, &call, &request, accepted).await);
    for answer in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if answer.error_code == 0 {
            answer.error_code = code;
        }
        core.metrics.count_error(call.api, answer.error_code);
    }
    OffsetCommitResponse::default().with_topics(topics)
}

async fn store(
    core: &Core,
    call: &Call,
    request: &OffsetCommitRequest,
    offsets: Vec<(String, i32, Committed)>,
) -> Result<(), ResponseError> {
    let speaker = Speaker {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
        generation: request.generation_id_or_member_epoch,
        knows_epochs: call.version >= 9,
    };
    let group: &str = &request.group_id;
    let ticket = core.groups.commit(group, &speaker, || core.offsets.commit(group, offsets))??;
    match ticket {
        Some(ticket) => ticket.durable().await.map_err(|error| coordinator_error_code(&error)),
        None => Ok(()),
    }
}

/// An offset as it is answered; a partition without one has offset -1. Who asks for stable ones is told to come back
/// while a transaction may change it.
fn looked_up(core: &Core, group: &str, topic: &str, partition: i32, stable: bool) -> (i64, i32, Option<StrBytes>, i16) {
    if stable && core.offsets.is_pending(group, topic, partition) {
        return (-1, -1, Some(StrBytes::new()), ResponseError::UnstableOffsetCommit.code());
    }
    match core.offsets.get(group, topic, partition) {
        Some(committed) => (committed.offset, committed.leader_epoch, Some(text(committed.metadata)), 0),
        None => (-1, -1, Some(StrBytes::new()), 0),
    }
}

/// All that a group has committed, by topic.
fn everything(core: &Core, group: &str) -> Vec<(TopicName, Vec<i32>)> {
    let mut topics: Vec<(TopicName, Vec<i32>)> = Vec::new();
    for ((topic, partition), _) in core.offsets.of_group(group) {
        match topics.last_mut() {
            Some((last, partitions)) if **last == *topic => partitions.push(partition),
            _ => topics.push((TopicName(text(topic)), vec![partition])),
        }
    }
    topics
}

pub(crate) async fn fetch(core: Arc<Core>, call: Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if call.version >= 8 {
        return fetch_many(&core, request);
    }
    let group: &str = &request.group_id;
    let wanted = match request.topics {
        Some(topics) => topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect(),
        None => everything(&core, group),
    };
    let mut topics = Vec::with_capacity(wanted.len());
    for (name, partitions) in wanted {
        let answer = |partition: i32| {
            let (offset, epoch, metadata, error) = looked_up(&core, group, &name, partition, request.require_stable);
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(if call.version >= 5 { epoch } else { -1 })
                .with_metadata(metadata)
                .with_error_code(error)
        };
        let partitions = partitions.into_iter().map(answer).collect();
        topics.push(OffsetFetchResponseTopic::default().with_name(name.clone()).with_partitions(partitions));
    }
    OffsetFetchResponse::default().with_topics(topics)
}

fn fetch_many(core: &Core, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let id: &str = &group.group_id;
        // from version 9 on a member says who it is, and is told when others know better
        let member_id = group.member_id.as_deref();
        let allowed = core.groups.look(id, |kind| match kind {
            Some(Kind::Consumer(known)) => consumer::may_fetch(known, member_id, group.member_epoch),
            Some(Kind::Classic(_)) | None => Ok(()),
        });
        if let Err(error) = allowed {
            let refused = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
            groups.push(refused.with_error_code(error.code()));
            continue;
        }
        let wanted = match group.topics {
            Some(topics) => topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect(),
            None => everything(core, id),
        };
        let mut topics = Vec::with_capacity(wanted.len());
        for (name, partitions) in wanted {
            let answer = |partition: i32| {
                let (offset, epoch, metadata, error) = looked_up(core, id, &name, partition, request.require_stable);
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(partition)
                    .with_committed_offset(offset)
                    .with_committed_leader_epoch(epoch)
                    .with_metadata(metadata)
                    .with_error_code(error)
            };
            let partitions = partitions.into_iter().map(answer).collect();
            topics.push(OffsetFetchResponseTopics::default().with_name(name.clone()).with_partitions(partitions));
        }
        groups.push(OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone()).with_topics(topics));
    }
    OffsetFetchResponse::default().with_groups(groups)
}

pub(crate) async fn delete(core: Arc<Core>, call: Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let (code, topics) = match delete_offsets(&core, &request).await {
        Ok(topics) => (0, topics),
        Err(error) => (error.code(), Vec::new()),
    };
    core.metrics.count_error(call.api, code);
    OffsetDeleteResponse::default().with_error_code(code).with_topics(topics)
}

/// Offsets of topics that a member is subscribed to stay.
async fn delete_offsets(
    core: &Core,
    request: &OffsetDeleteRequest,
) -> Result<Vec<OffsetDeleteResponseTopic>, ResponseError> {
    let group: &str = &request.group_id;
    let mut topics = Vec::with_capacity(request.topics.len());
    let removed = core.groups.look(group, |kind| {
        if kind.is_none() && !core.offsets.has_group(group) {
            return Err(ResponseError::GroupIdNotFound);
        }
        let mut gone: BTreeSet<(&str, i32)> = BTreeSet::new();
        for topic in &request.topics {
            let known = core.topics.get(&topic.name);
            let subscribed = kind.map_or(Ok(false), |kind| kind.subscribed(&topic.name))?;
            let answer = |partition: i32| {
                let exists = known.as_ref().is_some_and(|topic| topic.partition(partition).is_some());
                let error = match (exists, subscribed) {
                    (false, _) => Some(ResponseError::UnknownTopicOrPartition),
                    (true, true) => Some(ResponseError::GroupSubscribedToTopic),
                    (true, false) => None,
                };
                OffsetDeleteResponsePartition::default().with_partition_index(partition).with_error_code(code(error))
            };
            let partitions: Vec<OffsetDeleteResponsePartition> =
                topic.partitions.iter().map(|partition| answer(partition.partition_index)).collect();
            let accepted = partitions.iter().filter(|answer| answer.error_code == 0);
            gone.extend(accepted.map(|answer| (topic.name.as_str(), answer.partition_index)));
            topics.push(OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions));
        }
        core.offsets.remove(group, |topic, partition| gone.contains(&(topic, partition)))
    })?;
    if let Some(ticket) = removed {
        ticket.durable().await.map_err(|error| coordinator_error_code(&error))?;
    }
    Ok(topics)
}
