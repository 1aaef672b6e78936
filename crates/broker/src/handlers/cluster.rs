//! Who is here and what is spoken: ApiVersions, Metadata, DescribeCluster, FindCoordinator.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiVersionsResponse, BrokerId, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{admin, code, text, topic_name};
use crate::apis::{APIS, announced_min};
use crate::core::{Core, LEADER_EPOCH, NODE_ID};
use crate::dispatch::Call;
use crate::topics::{self, Topic};

/// Bits of the operations everybody may do where there are no access rules: read, write, create, delete, alter,
/// describe, and describe and alter settings.
pub(super) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// Create, alter, describe, cluster action, describe and alter settings, idempotent write.
const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;
/// Kinds of endpoints that can be described.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;
/// A group, or a transactional id, as the thing to be found.
const KEY_TYPE_GROUP: i8 = 0;
const KEY_TYPE_TRANSACTION: i8 = 1;

/// What is spoken. The answer to a version that is not known says so, and the same.
pub(crate) fn api_versions(error: Option<ResponseError>) -> ApiVersionsResponse {
    let row = |api| {
        let crate::apis::Api { key, max, .. } = api;
        ApiVersion::default().with_api_key(key as i16).with_min_version(announced_min(&api)).with_max_version(max)
    };
    ApiVersionsResponse::default().with_error_code(code(error)).with_api_keys(APIS.iter().copied().map(row).collect())
}

pub(crate) async fn metadata(core: Arc<Core>, call: Call, request: MetadataRequest) -> MetadataResponse {
    let operations = request.include_topic_authorized_operations;
    let describe = |topic: &Topic| {
        let described = describe(topic);
        if operations { described.with_topic_authorized_operations(TOPIC_OPERATIONS) } else { described }
    };
    let create = request.allow_auto_topic_creation;
    // version 0 has no way to say "none": an empty list means all
    let wanted = request.topics.filter(|topics| call.version > 0 || !topics.is_empty());
    let topics = match wanted {
        None => core.topics.all().iter().map(|topic| describe(topic)).collect(),
        Some(wanted) => wanted
            .into_iter()
            .map(|wanted| {
                let found = match &wanted.name {
                    Some(name) => core.topics.get(name),
                    None => core.topics.by_id(wanted.topic_id),
                };
                if let Some(topic) = found {
                    return describe(&topic);
                }
                let error = match &wanted.name {
                    None => ResponseError::UnknownTopicId,
                    Some(name) if topics::check_name(name).is_err() => ResponseError::InvalidTopicException,
                    Some(name) if create => match admin::create_asked_for(&core, name) {
                        Ok(topic) => return describe(&topic),
                        Err(refusal) => refusal.code,
                    },
                    Some(_) => ResponseError::UnknownTopicOrPartition,
                };
                missing(error, wanted.name, wanted.topic_id, call.version)
            })
            .collect(),
    };
    let (host, port) = call.told();
    let broker = MetadataResponseBroker::default().with_node_id(NODE_ID).with_host(host).with_port(port);
    let response = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(core.cluster_id.clone()))
        .with_controller_id(NODE_ID)
        .with_topics(topics);
    if request.include_cluster_authorized_operations {
        return response.with_cluster_authorized_operations(CLUSTER_OPERATIONS);
    }
    response
}

fn missing(error: ResponseError, name: Option<TopicName>, id: Uuid, version: i16) -> MetadataResponseTopic {
    // a null name can be written from version 12 on
    let name = if version >= 12 { name } else { Some(name.unwrap_or_default()) };
    MetadataResponseTopic::default().with_error_code(error.code()).with_name(name).with_topic_id(id)
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let me: Vec<BrokerId> = vec![NODE_ID];
    let partition = |index: i32| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE_ID)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(me.clone())
            .with_isr_nodes(me.clone())
    };
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(topic.internal())
        .with_partitions((0..topic.partition_count()).map(partition).collect())
}

pub(crate) async fn describe_cluster(
    core: Arc<Core>,
    call: Call,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default().with_cluster_id(core.cluster_id.clone());
    let wrong = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => {
            Some((ResponseError::MismatchedEndpointType, "this is a broker, and there is no other endpoint"))
        }
        _ => Some((ResponseError::UnsupportedEndpointType, "there are brokers and controllers, nothing else")),
    };
    if let Some((error, message)) = wrong {
        core.metrics.count_error(call.api, error.code());
        return response.with_error_code(error.code()).with_error_message(Some(StrBytes::from_static_str(message)));
    }
    let (host, port) = call.told();
    let broker = DescribeClusterBroker::default().with_broker_id(NODE_ID).with_host(host).with_port(port);
    let response = response.with_controller_id(NODE_ID).with_brokers(vec![broker]);
    if request.include_cluster_authorized_operations {
        return response.with_cluster_authorized_operations(CLUSTER_OPERATIONS);
    }
    response
}

pub(crate) async fn find_coordinator(
    _core: Arc<Core>,
    call: Call,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let refused = match request.key_type {
        KEY_TYPE_GROUP | KEY_TYPE_TRANSACTION => None,
        _ => Some((ResponseError::InvalidRequest, "only groups and transactional ids have a coordinator")),
    };
    let error = code(refused.map(|(error, _)| error));
    let message = refused.map(|(_, message)| text(message));
    let (host, port) = call.told();
    if call.version < 4 {
        let response = FindCoordinatorResponse::default().with_error_code(error).with_error_message(message);
        if error != 0 {
            return response.with_node_id(BrokerId(-1)).with_port(-1);
        }
        return response.with_node_id(NODE_ID).with_host(host).with_port(port);
    }
    let coordinator = |key| {
        let found = Coordinator::default().with_key(key).with_error_code(error).with_error_message(message.clone());
        if error != 0 {
            return found.with_node_id(BrokerId(-1)).with_port(-1);
        }
        found.with_node_id(NODE_ID).with_host(host.clone()).with_port(port)
    };
    FindCoordinatorResponse::default()
        .with_coordinators(request.coordinator_keys.into_iter().map(coordinator).collect())
}
