//! Topics come, grow and go: CreateTopics, DeleteTopics, CreatePartitions.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{configs, text, topic_name};
use crate::core::{Core, NODE_ID};
use crate::dispatch::Call;
use crate::topic_config::{KEYS, TopicConfig};
use crate::topics::{self, Refusal, Topic};

pub(crate) async fn create_topics(core: Arc<Core>, call: Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut names: Vec<&str> = request.topics.iter().map(|topic| &**topic.name).collect();
    names.sort_unstable();
    let twice: Vec<String> =
        names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].to_owned()).collect();
    let mut results = Vec::with_capacity(request.topics.len());
    for wanted in &request.topics {
        let result = CreatableTopicResult::default().with_name(wanted.name.clone());
        let created = if twice.iter().any(|name| **name == **wanted.name) {
            Err(Refusal::new(ResponseError::InvalidRequest, "the request names this topic twice"))
        } else {
            create(&core, wanted, request.validate_only)
        };
        results.push(match created {
            Ok((topic, config, partitions)) => result
                .with_topic_id(topic.map_or(Uuid::nil(), |topic| topic.id))
                .with_num_partitions(partitions)
                .with_replication_factor(1)
                .with_configs(Some(described(&config))),
            Err(refusal) => {
                core.metrics.count_error(call.api, refusal.code.code());
                result
                    .with_error_code(refusal.code.code())
                    .with_error_message(Some(text(refusal.message)))
                    .with_num_partitions(-1)
                    .with_replication_factor(-1)
                    .with_configs(if call.version >= 5 { Some(Vec::new()) } else { None })
            }
        });
    }
    CreateTopicsResponse::default().with_topics(results)
}

/// The topic (none when only checked), its settings and its number of partitions.
fn create(
    core: &Core,
    wanted: &CreatableTopic,
    dry_run: bool,
) -> Result<(Option<Arc<Topic>>, TopicConfig, i32), Refusal> {
    let partitions = match (wanted.num_partitions, wanted.assignments.len()) {
        (-1, 0) => core.settings.partitions(),
        (-1, assigned) => i32::try_from(assigned).unwrap_or(i32::MAX),
        (count, 0) => count,
        _ => {
            let message = "either a number of partitions or their assignment, not both";
            return Err(Refusal::new(ResponseError::InvalidRequest, message));
        }
    };
    if !wanted.assignments.is_empty() {
        if wanted.replication_factor != -1 {
            let message = "either a replication factor or an assignment, not both";
            return Err(Refusal::new(ResponseError::InvalidRequest, message));
        }
        let mut assigned: Vec<_> = wanted.assignments.iter().collect();
        assigned.sort_by_key(|assignment| assignment.partition_index);
        if !(0..).zip(&assigned).all(|(index, assignment)| assignment.partition_index == index) {
            let message = "partitions are numbered from zero without a gap";
            return Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
        }
        only_here(assigned.iter().map(|assignment| &*assignment.broker_ids))?;
    }
    if !matches!(wanted.replication_factor, -1 | 1) {
        let message = "there is one broker, so the replication factor is 1";
        return Err(Refusal::new(ResponseError::InvalidReplicationFactor, message));
    }
    let given = wanted.configs.iter().map(|config| (&*config.name, config.value.as_deref()));
    let config = TopicConfig::parse(given).map_err(|error| configs::refusal(&error))?;
    core.topics.may_create(&wanted.name, partitions)?;
    if dry_run {
        return Ok((None, config, partitions));
    }
    let topic = core.topics.create(&wanted.name, partitions, config.clone())?;
    tracing::info!(topic = %topic.name, partitions, "topic created");
    Ok((Some(topic), config, partitions))
}

/// Creates a topic because it was asked for, with the default settings, where the operator wants that.
pub(super) fn create_asked_for(core: &Core, name: &str) -> Result<Arc<Topic>, Refusal> {
    let Some(partitions) = core.settings.auto_create_partitions.filter(|_| !topics::is_internal(name)) else {
        return Err(Refusal::new(ResponseError::UnknownTopicOrPartition, "there is no such topic"));
    };
    match core.topics.create(name, partitions, TopicConfig::default()) {
        Ok(topic) => {
            tracing::info!(%topic.name, partitions, "topic created, because a client asked for it");
            Ok(topic)
        }
        // somebody else was quicker
        Err(refusal) => core.topics.get(name).ok_or(refusal),
    }
}

/// Every partition has its one copy on the one broker.
fn only_here<'a>(mut replicas: impl Iterator<Item = &'a [BrokerId]>) -> Result<(), Refusal> {
    if replicas.all(|brokers| brokers == [NODE_ID]) {
        return Ok(());
    }
    let message = format!("a partition can be assigned to broker {} and to no other", NODE_ID.0);
    Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message))
}

fn described(config: &TopicConfig) -> Vec<CreatableTopicConfigs> {
    KEYS.iter()
        .map(|key| {
            CreatableTopicConfigs::default()
                .with_name(StrBytes::from_static_str(key.name))
                .with_value(Some(text(config.get(key.name))))
                .with_config_source(configs::source(config, key.name))
        })
        .collect()
}

pub(crate) async fn delete_topics(core: Arc<Core>, call: Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let wanted: Vec<DeleteTopicState> = if call.version >= 6 {
        request.topics
    } else {
        request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name))).collect()
    };
    let mut responses = Vec::with_capacity(wanted.len());
    for topic in wanted {
        let result = DeletableTopicResult::default().with_topic_id(topic.topic_id);
        let found = match &topic.name {
            Some(_) if !topic.topic_id.is_nil() => {
                Err(Refusal::new(ResponseError::InvalidRequest, "either a name or an id, not both"))
            }
            None if topic.topic_id.is_nil() => {
                Err(Refusal::new(ResponseError::InvalidRequest, "neither a name nor an id is given"))
            }
            Some(name) => Ok(name.to_string()),
            None => match core.topics.by_id(topic.topic_id) {
                Some(topic) => Ok(topic.name.to_string()),
                None => Err(Refusal::new(ResponseError::UnknownTopicId, "there is no topic with this id")),
            },
        };
        let result = result.with_name(found.as_ref().ok().map(|name| TopicName(text(name.clone()))).or(topic.name));
        responses.push(match found.and_then(|name| core.topics.delete(&name).map(|()| name)) {
            Ok(name) => {
                core.offsets.forget_topic(&name);
                tracing::info!(topic = name, "topic deleted");
                result
            }
            Err(refusal) => {
                core.metrics.count_error(call.api, refusal.code.code());
                let result = result.with_error_code(refusal.code.code());
                if call.version >= 5 { result.with_error_message(Some(text(refusal.message))) } else { result }
            }
        });
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

/// Checks an assignment of the new partitions, if there is one.
fn assigned(core: &Core, wanted: &CreatePartitionsTopic) -> Result<(), Refusal> {
    let (Some(assignments), Some(topic)) = (&wanted.assignments, core.topics.get(&wanted.name)) else { return Ok(()) };
    let new = usize::try_from(wanted.count - topic.partition_count()).unwrap_or(0);
    if new > 0 && assignments.len() != new {
        let message = format!("{new} partitions are added and {} assigned", assignments.len());
        return Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
    }
    only_here(assignments.iter().map(|assignment| &*assignment.broker_ids))
}

pub(crate) async fn create_partitions(
    core: Arc<Core>,
    call: Call,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    for wanted in request.topics {
        let result = CreatePartitionsTopicResult::default().with_name(topic_name(&wanted.name.0));
        let grown =
            assigned(&core, &wanted).and_then(|()| core.topics.grow(&wanted.name, wanted.count, request.validate_only));
        results.push(match grown {
            Ok(()) => result,
            Err(refusal) => {
                core.metrics.count_error(call.api, refusal.code.code());
                result.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message)))
            }
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}
