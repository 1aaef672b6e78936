//! Topics and settings: what is described asks for DESCRIBE, what is changed for CREATE, DELETE, ALTER or ALTER_CONFIGS.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResponse;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest,
    CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, MetadataRequest, MetadataResponse,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Asking, CLUSTER_DENIED, GROUP_DENIED, Guarded, TOPIC_DENIED, Verdict, nullable, tells_throttling};
use crate::access::rules::{CLUSTER_NAME, Operation, Resource};

/// Kinds of resources with settings, as the requests number them.
const TOPIC: i8 = 2;
const GROUP: i8 = 32;

impl Guarded for MetadataRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<MetadataResponse> {
        let version = asking.version;
        // to ask for a topic may create it
        let creates = self.allow_auto_topic_creation && asking.core.settings.auto_create_partitions.is_some();
        let may_create = |name: &str| asking.cluster(Operation::Create) || asking.topic(Operation::Create, name);
        let allowed = |name: &str, id| {
            let new = creates && !name.is_empty() && asking.core.topics.get(name).is_none();
            asking.topic_or_id(Operation::Describe, name, id) && (!new || may_create(name))
        };
        let denied = self.topics.as_mut().map(|topics| {
            asking
                .take_out(topics, |topic| allowed(topic.name.as_ref().map_or("", |name| name.as_str()), topic.topic_id))
        });
        let (rights, operations) = (asking.keep(), self.include_topic_authorized_operations);
        let cluster = self.include_cluster_authorized_operations;
        Verdict::amend(move |answer: &mut MetadataResponse| {
            // all topics may have been asked for; one that does not exist passes only under an allowed name
            answer.topics.retain(|topic| {
                let name = topic.name.as_ref().map_or("", |name| name.as_str());
                name.is_empty() || rights.may(Operation::Describe, Resource::Topic, name)
            });
            for topic in answer.topics.iter_mut().filter(|topic| operations && topic.error_code == 0) {
                let name = topic.name.as_ref().map_or("", |name| name.as_str());
                topic.topic_authorized_operations = rights.operations(Resource::Topic, name);
            }
            if cluster {
                let told = rights.may(Operation::Describe, Resource::Cluster, CLUSTER_NAME);
                answer.cluster_authorized_operations =
                    if told { rights.operations(Resource::Cluster, CLUSTER_NAME) } else { 0 };
            }
            answer.topics.extend(denied.into_iter().flatten().map(|topic| {
                // whoever knows an id alone does not learn whether it exists
                let by_id = topic.name.as_ref().is_none_or(|name| name.is_empty());
                let code = if by_id { ResponseError::UnknownTopicId.code() } else { TOPIC_DENIED };
                let name = nullable(topic.name, version, 12);
                MetadataResponseTopic::default().with_name(name).with_topic_id(topic.topic_id).with_error_code(code)
            }));
        })
    }

    tells_throttling!();
}

impl Guarded for DescribeTopicPartitionsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<DescribeTopicPartitionsResponse> {
        let denied = asking.take_out(&mut self.topics, |topic| asking.topic(Operation::Describe, &topic.name));
        let rights = asking.keep();
        let none_left = self.topics.is_empty() && !denied.is_empty();
        let amend = move |answer: &mut DescribeTopicPartitionsResponse| {
            answer.topics.retain(|topic| {
                let name = topic.name.as_ref().map_or("", |name| name.as_str());
                rights.may(Operation::Describe, Resource::Topic, name)
            });
            for topic in &mut answer.topics {
                let name = topic.name.as_ref().map_or("", |name| name.as_str());
                topic.topic_authorized_operations = rights.operations(Resource::Topic, name);
            }
            answer.topics.extend(denied.into_iter().map(|topic| {
                let named = DescribeTopicPartitionsResponseTopic::default().with_name(Some(topic.name));
                named.with_error_code(TOPIC_DENIED)
            }));
        };
        if none_left {
            // an empty list would mean all topics
            let mut answer = DescribeTopicPartitionsResponse::default();
            amend(&mut answer);
            return Verdict::Refuse(answer);
        }
        Verdict::amend(amend)
    }

    tells_throttling!();
}

impl Guarded for CreateTopicsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<CreateTopicsResponse> {
        let everywhere = asking.cluster(Operation::Create);
        let denied =
            asking.take_out(&mut self.topics, |topic| everywhere || asking.topic(Operation::Create, &topic.name));
        let (rights, version) = (asking.keep(), asking.version);
        Verdict::amend(move |answer: &mut CreateTopicsResponse| {
            for topic in answer.topics.iter_mut().filter(|topic| topic.error_code == 0) {
                if !rights.may(Operation::DescribeConfigs, Resource::Topic, &topic.name) {
                    topic.topic_config_error_code = TOPIC_DENIED;
                    (topic.num_partitions, topic.replication_factor) = (-1, -1);
                    topic.configs = (version >= 5).then(Vec::new);
                }
            }
            answer.topics.extend(denied.into_iter().map(|topic| {
                CreatableTopicResult::default()
                    .with_name(topic.name)
                    .with_topic_id(Uuid::nil())
                    .with_error_code(TOPIC_DENIED)
                    .with_error_message(Some(StrBytes::from_static_str("creating this topic is not allowed")))
                    .with_num_partitions(-1)
                    .with_replication_factor(-1)
                    .with_configs((version >= 5).then(Vec::new))
            }));
        })
    }

    tells_throttling!();
}

impl Guarded for DeleteTopicsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<DeleteTopicsResponse> {
        let by_name = asking.take_out(&mut self.topic_names, |name| asking.topic(Operation::Delete, name));
        let denied = asking.take_out(&mut self.topics, |topic| {
            let name = topic.name.as_ref().map_or("", |name| name.as_str());
            asking.topic_or_id(Operation::Delete, name, topic.topic_id)
        });
        if by_name.is_empty() && denied.is_empty() {
            return Verdict::Pass;
        }
        Verdict::amend(move |answer: &mut DeleteTopicsResponse| {
            let by_name = by_name.into_iter().map(|name| (Some(name), Uuid::nil()));
            let all = by_name.chain(denied.into_iter().map(|topic| (topic.name, topic.topic_id)));
            answer.responses.extend(all.map(|(name, id)| {
                DeletableTopicResult::default().with_name(name).with_topic_id(id).with_error_code(TOPIC_DENIED)
            }));
        })
    }

    tells_throttling!();
}

impl Guarded for CreatePartitionsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<CreatePartitionsResponse> {
        let denied = asking.take_out(&mut self.topics, |topic| asking.topic(Operation::Alter, &topic.name));
        Verdict::unless_empty(denied, |answer: &mut CreatePartitionsResponse, denied| {
            answer.results.extend(denied.into_iter().map(|topic| {
                CreatePartitionsTopicResult::default().with_name(topic.name).with_error_code(TOPIC_DENIED)
            }));
        })
    }

    tells_throttling!();
}

/// Whether settings of a resource may be read or altered.
fn settings(asking: &Asking<'_>, operation: Operation, kind: i8, name: &str) -> bool {
    match kind {
        TOPIC => asking.topic(operation, name),
        GROUP => asking.group(operation, name),
        _ => asking.cluster(operation),
    }
}

fn settings_denied(kind: i8) -> i16 {
    match kind {
        TOPIC => TOPIC_DENIED,
        GROUP => GROUP_DENIED,
        _ => CLUSTER_DENIED,
    }
}

impl Guarded for DescribeConfigsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<DescribeConfigsResponse> {
        let denied = asking.take_out(&mut self.resources, |resource| {
            settings(asking, Operation::DescribeConfigs, resource.resource_type, &resource.resource_name)
        });
        Verdict::unless_empty(denied, |answer: &mut DescribeConfigsResponse, denied| {
            answer.results.extend(denied.into_iter().map(|resource| {
                DescribeConfigsResult::default()
                    .with_resource_type(resource.resource_type)
                    .with_error_code(settings_denied(resource.resource_type))
                    .with_error_message(Some(StrBytes::from_static_str("reading these settings is not allowed")))
                    .with_resource_name(resource.resource_name)
            }));
        })
    }

    tells_throttling!();
}

impl Guarded for AlterConfigsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<AlterConfigsResponse> {
        let denied = asking.take_out(&mut self.resources, |resource| {
            settings(asking, Operation::AlterConfigs, resource.resource_type, &resource.resource_name)
        });
        Verdict::unless_empty(denied, |answer: &mut AlterConfigsResponse, denied| {
            answer.responses.extend(denied.into_iter().map(|resource| {
                AlterConfigsResourceResponse::default()
                    .with_resource_type(resource.resource_type)
                    .with_error_code(settings_denied(resource.resource_type))
                    .with_error_message(Some(StrBytes::from_static_str("altering these settings is not allowed")))
                    .with_resource_name(resource.resource_name)
            }));
        })
    }

    tells_throttling!();
}

impl Guarded for IncrementalAlterConfigsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<IncrementalAlterConfigsResponse> {
        let denied = asking.take_out(&mut self.resources, |resource| {
            settings(asking, Operation::AlterConfigs, resource.resource_type, &resource.resource_name)
        });
        Verdict::unless_empty(denied, |answer: &mut IncrementalAlterConfigsResponse, denied| {
            answer.responses.extend(denied.into_iter().map(|resource| {
                IncrementalResponse::default()
                    .with_resource_type(resource.resource_type)
                    .with_error_code(settings_denied(resource.resource_type))
                    .with_error_message(Some(StrBytes::from_static_str("altering these settings is not allowed")))
                    .with_resource_name(resource.resource_name)
            }));
        })
    }

    tells_throttling!();
}
