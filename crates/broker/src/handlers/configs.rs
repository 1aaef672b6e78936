//! Settings of topics, and a few facts about the broker: DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResponse;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, ListConfigResourcesRequest,
    ListConfigResourcesResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::text;
use crate::broker_config::{self, Fact};
use crate::core::{Core, NODE_ID};
use crate::dispatch::Call;
use crate::topic_config::{ConfigError, KEYS, TopicConfig};
use crate::topics::Refusal;

/// Kinds of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;
/// All kinds that Kafka knows: beside those above loggers and groups.
const RESOURCES: [i8; 5] = [TOPIC, BROKER, 8, CLIENT_METRICS, 32];
/// Where a value comes from.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

pub(super) fn source(config: &TopicConfig, name: &str) -> i8 {
    if config.is_given(name) { SOURCE_TOPIC } else { SOURCE_DEFAULT }
}

pub(super) fn refusal(error: &ConfigError) -> Refusal {
    Refusal::new(ResponseError::InvalidConfig, error.to_string())
}

pub(crate) async fn describe(core: Arc<Core>, call: Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let mut results = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let described = match resource.resource_type {
            TOPIC => describe_topic(&core, resource, &request, call.version),
            BROKER => describe_broker(&core, &call, resource, &request),
            _ => Err(Refusal::new(ResponseError::InvalidRequest, "only topics and the broker have settings here")),
        };
        results.push(match described {
            Ok(configs) => result.with_configs(configs),
            Err(refusal) => {
                core.metrics.count_error(call.api, refusal.code.code());
                result.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message)))
            }
        });
    }
    DescribeConfigsResponse::default().with_results(results)
}

fn wants(resource: &DescribeConfigsResource, name: &str) -> bool {
    // an empty list means all, too: some clients send it
    let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
    keys.is_none_or(|keys| keys.iter().any(|key| **key == *name))
}

fn describe_topic(
    core: &Core,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
    version: i16,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let topic = core.topics.get(&resource.resource_name).ok_or_else(|| {
        let message = format!("there is no topic {}", resource.resource_name);
        Refusal::new(ResponseError::UnknownTopicOrPartition, message)
    })?;
    let mut configs = Vec::new();
    for key in KEYS.iter().filter(|key| wants(resource, key.name)) {
        let name = StrBytes::from_static_str(key.name);
        let source = source(&topic.config, key.name);
        let mut entry = DescribeConfigsResourceResult::default()
            .with_name(name.clone())
            .with_value(Some(text(topic.config.get(key.name))))
            .with_config_source(source);
        if request.include_synonyms {
            let synonym = |name: &StrBytes, value: &str, source| {
                DescribeConfigsSynonym::default()
                    .with_name(name.clone())
                    .with_value(Some(text(value)))
                    .with_source(source)
            };
            let value = topic.config.get(key.name);
            let given = topic.config.is_given(key.name).then(|| synonym(&name, value, SOURCE_TOPIC));
            let of_broker = broker_config::broker_name(key.name).map_or(name.clone(), StrBytes::from_static_str);
            entry.synonyms = given.into_iter().chain([synonym(&of_broker, key.default, SOURCE_DEFAULT)]).collect();
        }
        if version >= 3 {
            entry.config_type = key.kind as i8;
            if request.include_documentation {
                entry.documentation = Some(StrBytes::from_static_str(key.summary));
            }
        }
        configs.push(entry);
    }
    Ok(configs)
}

/// An empty name asks for what clients have set for all brokers: nothing, because they cannot.
fn describe_broker(
    core: &Core,
    call: &Call,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    if resource.resource_name.is_empty() {
        return Ok(Vec::new());
    }
    if *resource.resource_name != *NODE_ID.0.to_string() {
        return Err(Refusal::new(ResponseError::InvalidRequest, format!("the only broker is {}", NODE_ID.0)));
    }
    let entry = |fact: Fact| {
        let name = StrBytes::from_static_str(fact.name);
        let value = Some(text(fact.value));
        let source = if fact.given { SOURCE_STATIC_BROKER } else { SOURCE_DEFAULT };
        let mut entry = DescribeConfigsResourceResult::default()
            .with_name(name.clone())
            .with_value(value.clone())
            .with_read_only(true)
            .with_config_source(source);
        if request.include_synonyms {
            entry.synonyms =
                vec![DescribeConfigsSynonym::default().with_name(name).with_value(value).with_source(source)];
        }
        if call.version >= 3 {
            entry.config_type = fact.kind as i8;
            if request.include_documentation {
                entry.documentation = Some(StrBytes::from_static_str(fact.summary));
            }
        }
        entry
    };
    let wanted = broker_config::facts(core, &call.peer.endpoint).into_iter().filter(|fact| wants(resource, fact.name));
    Ok(wanted.map(entry).collect())
}

/// What has settings here: topics, and the broker. There are no loggers, groups or metrics of clients to be set.
pub(crate) async fn list_resources(
    core: Arc<Core>,
    call: Call,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    // version 0 asks for the metrics of clients and nothing else; an empty list asks for everything
    let wanted = if call.version == 0 { vec![CLIENT_METRICS] } else { request.resource_types };
    if let Some(unknown) = wanted.iter().find(|kind| !RESOURCES.contains(kind)) {
        tracing::debug!(kind = unknown, "a kind of resource that does not exist was asked for");
        core.metrics.count_error(call.api, ResponseError::UnsupportedVersion.code());
        return ListConfigResourcesResponse::default().with_error_code(ResponseError::UnsupportedVersion.code());
    }
    let wants = |kind| wanted.is_empty() || wanted.contains(&kind);
    let resource = |kind, name| ConfigResource::default().with_resource_type(kind).with_resource_name(name);
    let mut resources = Vec::new();
    if wants(TOPIC) {
        resources.extend(core.topics.all().iter().map(|topic| resource(TOPIC, topic.name.clone())));
    }
    if wants(BROKER) {
        resources.push(resource(BROKER, text(NODE_ID.0.to_string())));
    }
    ListConfigResourcesResponse::default().with_config_resources(resources)
}

/// Settings of the broker itself come from its command line and are not altered by clients.
fn only_topics(resource_type: i8) -> Result<(), Refusal> {
    if resource_type == TOPIC {
        return Ok(());
    }
    Err(Refusal::new(ResponseError::InvalidRequest, "only settings of topics can be altered"))
}

/// Settings of internal topics are the broker's own business.
fn alterable(name: &str) -> Result<(), Refusal> {
    if crate::topics::is_internal(name) {
        return Err(Refusal::new(ResponseError::InvalidTopicException, format!("{name} is the broker's own")));
    }
    Ok(())
}

pub(crate) async fn alter(core: Arc<Core>, call: Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let given = resource.configs.iter().map(|config| (&*config.name, config.value.as_deref()));
        let altered =
            only_topics(resource.resource_type).and_then(|()| alterable(&resource.resource_name)).and_then(|()| {
                let change = |_: &TopicConfig| TopicConfig::parse(given).map_err(|error| refusal(&error));
                core.topics.configure(&resource.resource_name, change, request.validate_only)
            });
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        responses.push(match altered {
            Ok(()) => response,
            Err(refusal) => {
                core.metrics.count_error(call.api, refusal.code.code());
                response.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message)))
            }
        });
    }
    AlterConfigsResponse::default().with_responses(responses)
}

pub(crate) async fn alter_incrementally(
    core: Arc<Core>,
    call: Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let altered =
            only_topics(resource.resource_type).and_then(|()| alterable(&resource.resource_name)).and_then(|()| {
                let change = |config: &TopicConfig| amend(config, &resource.configs);
                core.topics.configure(&resource.resource_name, change, request.validate_only)
            });
        let response = IncrementalResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        responses.push(match altered {
            Ok(()) => response,
            Err(refusal) => {
                core.metrics.count_error(call.api, refusal.code.code());
                response.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message)))
            }
        });
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

fn amend(config: &TopicConfig, changes: &[AlterableConfig]) -> Result<TopicConfig, Refusal> {
    let mut config = config.clone();
    for change in changes {
        let value = || {
            let missing = || Refusal::new(ResponseError::InvalidConfig, format!("{} has no value", change.name));
            change.value.as_deref().ok_or_else(missing)
        };
        match change.config_operation {
            0 => config.set(&change.name, value()?).map_err(|error| refusal(&error))?,
            1 => config.reset(&change.name).map_err(|error| refusal(&error))?,
            2 => config.amend(&change.name, value()?, true).map_err(|error| refusal(&error))?,
            3 => config.amend(&change.name, value()?, false).map_err(|error| refusal(&error))?,
            _ => return Err(Refusal::new(ResponseError::InvalidRequest, "an operation is 0 to 3")),
        }
    }
    Ok(config)
}
