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
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::text;
use crate::core::{Core, NODE_ID};
use crate::dispatch::Call;
use crate::topic_config::{ConfigError, KEYS, Kind, TopicConfig};
use crate::topics::Refusal;

/// Kinds of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
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
            BROKER => describe_broker(&core, resource, call.version),
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
            let synonym = |value: &str, source| {
                DescribeConfigsSynonym::default()
                    .with_name(name.clone())
                    .with_value(Some(text(value)))
                    .with_source(source)
            };
            let given = topic.config.is_given(key.name).then(|| synonym(topic.config.get(key.name), SOURCE_TOPIC));
            entry.synonyms = given.into_iter().chain([synonym(key.default, SOURCE_DEFAULT)]).collect();
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

fn describe_broker(
    core: &Core,
    resource: &DescribeConfigsResource,
    version: i16,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    if *resource.resource_name != *NODE_ID.0.to_string() {
        return Err(Refusal::new(ResponseError::InvalidRequest, format!("the only broker is {}", NODE_ID.0)));
    }
    let facts = [
        ("auto.create.topics.enable", "false".to_owned(), Kind::Text),
        ("broker.id", NODE_ID.0.to_string(), Kind::Int),
        ("durability", core.settings.durability.as_str().to_owned(), Kind::Text),
        ("offsets.retention.minutes", "-1".to_owned(), Kind::Int),
        ("storage.reserve.bytes", core.settings.reserve_bytes.to_string(), Kind::Long),
    ];
    let wanted = facts.into_iter().filter(|(name, ..)| wants(resource, name));
    Ok(wanted
        .map(|(name, value, kind)| {
            let entry = DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(Some(text(value)))
                .with_read_only(true)
                .with_config_source(SOURCE_STATIC_BROKER);
            if version >= 3 { entry.with_config_type(kind as i8) } else { entry }
        })
        .collect())
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
