//! Administration over the public protocol, so that it works on the embedded broker and on any other.
//!
//! [`create_topics`] is what components need and goes through librdkafka like all they do. [`Admin`] is for people and
//! their tools: it asks directly (`wire.rs`) and says of every refusal what was refused and why. Here are topics and
//! settings; `groups.rs` has groups, `offsets.rs` offsets and sizes.

mod groups;
mod offsets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::error::RDKafkaErrorCode;

pub use groups::{GroupDescription, GroupListing, MemberDescription};
pub use offsets::{At, Found};

use super::wire::Connection;
use super::{Access, Error, Settings};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// What a broker is told that a request may take, in milliseconds.
const REQUEST_TIMEOUT_MS: i32 = 30_000;
/// Kinds of resources that have settings.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Operations on a single setting.
const SET: i8 = 0;
const UNSET: i8 = 1;

/// A topic as it shall be.
#[derive(Debug, Clone)]
pub struct TopicPlan {
    pub name: String,
    pub partitions: i32,
    /// Topic configuration, for example `("retention.ms", "604800000")`.
    pub config: Vec<(String, String)>,
}

/// Creates what is missing; returns the names of the topics that were created. What exists stays as it is.
pub async fn create_topics(settings: &Settings, plans: &[TopicPlan]) -> Result<Vec<String>, Error> {
    let client: AdminClient<DefaultClientContext> = AdminClient::from_config(&settings.base())
        .map_err(|source| Error::Client { bootstrap: settings.bootstrap.clone(), source: Box::new(source) })?;
    let access = &settings.access;
    let names: Vec<String> = plans.iter().map(|plan| access.full(&plan.name)).collect();
    let min_insync = access.min_insync_replicas.map(|replicas| replicas.to_string());
    let topics: Vec<NewTopic<'_>> = plans
        .iter()
        .zip(&names)
        .map(|(plan, name)| {
            let topic = NewTopic::new(name, plan.partitions, TopicReplication::Fixed(access.replication()));
            let topic = min_insync.iter().fold(topic, |topic, replicas| topic.set("min.insync.replicas", replicas));
            plan.config.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT)).request_timeout(Some(REQUEST_TIMEOUT));
    let results = client.create_topics(&topics, &options).await.map_err(|source| Error::Request {
        bootstrap: settings.bootstrap.clone(),
        doing: "creating topics",
        timeout: REQUEST_TIMEOUT,
        source: Box::new(source),
    })?;
    // it joins a thread that looks up every 100 ms: nobody needs to wait for that
    tokio::task::spawn_blocking(move || drop(client));
    let mut created = Vec::new();
    for result in results {
        match result {
            Ok(name) => created.push(name.strip_prefix(access.prefix.as_str()).map(str::to_owned).unwrap_or(name)),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(Error::CreateTopic { topic, reason: code.to_string() }),
        }
    }
    Ok(created)
}

/// A topic as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    pub name: String,
    /// Kept by the broker for itself.
    pub internal: bool,
    pub partitions: Vec<PartitionDescription>,
}

/// A partition and the brokers that hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    pub index: i32,
    /// -1 when there is none at the moment.
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

/// Whose settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    Topic(&'a str),
    /// The broker that leads the cluster.
    Broker,
}

/// A setting as it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    /// `None` when the broker keeps it to itself.
    pub value: Option<String>,
    pub source: Source,
    pub read_only: bool,
}

/// Where a setting's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Set on the topic.
    Topic,
    /// Set on the broker.
    Broker,
    Default,
}

impl Source {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Broker => "broker",
            Self::Default => "default",
        }
    }
}

/// Asks the brokers of one cluster, each the one that has the answer.
#[derive(Debug)]
pub struct Admin {
    client_id: String,
    access: Arc<Access>,
    /// The first broker that answered; serves what any broker knows.
    first: Connection,
    /// Address by node.
    nodes: BTreeMap<i32, String>,
    controller: i32,
    connections: BTreeMap<i32, Connection>,
}

impl Admin {
    /// Connects to the first of the bootstrap addresses that answers.
    pub async fn connect(settings: &Settings) -> Result<Self, Error> {
        let mut failure = None;
        for address in settings.bootstrap.split(',').map(str::trim) {
            match Connection::open(address, &settings.client_id, &settings.access).await {
                Ok(first) => {
                    let (nodes, connections) = (BTreeMap::new(), BTreeMap::new());
                    let (client_id, access) = (settings.client_id.clone(), Arc::clone(&settings.access));
                    let mut admin = Self { client_id, access, first, nodes, controller: -1, connections };
                    admin.metadata().await?;
                    return Ok(admin);
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or_else(|| Error::Connect {
            address: settings.bootstrap.clone(),
            source: std::io::Error::other("no address is given"),
        }))
    }

    async fn metadata(&mut self) -> Result<MetadataResponse, Error> {
        let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
        let answer = self.first.ask(&request, 9).await?;
        self.controller = answer.controller_id.0;
        let address = |broker: &kafka_protocol::messages::metadata_response::MetadataResponseBroker| {
            if broker.host.contains(':') {
                format!("[{}]:{}", broker.host, broker.port)
            } else {
                format!("{}:{}", broker.host, broker.port)
            }
        };
        self.nodes = answer.brokers.iter().map(|broker| (broker.node_id.0, address(broker))).collect();
        Ok(answer)
    }

    /// The connection to a node. A cluster of one is asked where it was found, whatever it calls itself.
    async fn node(&mut self, node: i32) -> Result<&mut Connection, Error> {
        if self.nodes.len() <= 1 {
            return Ok(&mut self.first);
        }
        let Some(address) = self.nodes.get(&node).cloned() else { return Ok(&mut self.first) };
        match self.connections.entry(node) {
            std::collections::btree_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::btree_map::Entry::Vacant(free) => {
                Ok(free.insert(Connection::open(&address, &self.client_id, &self.access).await?))
            }
        }
    }

    async fn controller(&mut self) -> Result<&mut Connection, Error> {
        self.node(self.controller).await
    }

    /// How many brokers the cluster has.
    pub fn brokers(&self) -> usize {
        self.nodes.len()
    }

    /// All topics by name.
    pub async fn topics(&mut self) -> Result<Vec<TopicDescription>, Error> {
        let answer = self.metadata().await?;
        let ids = |list: &[kafka_protocol::messages::BrokerId]| list.iter().map(|id| id.0).collect::<Vec<i32>>();
        let mut topics = Vec::with_capacity(answer.topics.len());
        for topic in answer.topics {
            let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
            checked(topic.error_code, None, || format!("describing topic {name}"))?;
            let mut partitions: Vec<PartitionDescription> = topic
                .partitions
                .iter()
                .map(|partition| PartitionDescription {
                    index: partition.partition_index,
                    leader: partition.leader_id.0,
                    replicas: ids(&partition.replica_nodes),
                    in_sync: ids(&partition.isr_nodes),
                })
                .collect();
            partitions.sort_by_key(|partition| partition.index);
            topics.push(TopicDescription { name, internal: topic.is_internal, partitions });
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Creates a topic with the cluster's usual replication.
    pub async fn create_topic(&mut self, plan: &TopicPlan) -> Result<(), Error> {
        let config = |(name, value): &(String, String)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(&plan.name)))
            .with_num_partitions(plan.partitions)
            .with_replication_factor(-1)
            .with_configs(plan.config.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(REQUEST_TIMEOUT_MS);
        let answer = self.controller().await?.ask(&request, 5).await?;
        for result in &answer.topics {
            checked(result.error_code, result.error_message.as_ref(), || format!("creating topic {}", plan.name))?;
        }
        Ok(())
    }

    /// Deletes a topic with all its records.
    pub async fn delete_topic(&mut self, name: &str) -> Result<(), Error> {
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![TopicName(text(name))])
            .with_timeout_ms(REQUEST_TIMEOUT_MS);
        let answer = self.controller().await?.ask(&request, 5).await?;
        for result in &answer.responses {
            checked(result.error_code, result.error_message.as_ref(), || format!("deleting topic {name}"))?;
        }
        Ok(())
    }

    /// Gives a topic more partitions: `count` in all.
    pub async fn add_partitions(&mut self, name: &str, count: i32) -> Result<(), Error> {
        let topic = CreatePartitionsTopic::default().with_name(TopicName(text(name))).with_count(count);
        let topic = topic.with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(REQUEST_TIMEOUT_MS);
        let answer = self.controller().await?.ask(&request, 3).await?;
        for result in &answer.results {
            let message = result.error_message.as_ref();
            checked(result.error_code, message, || format!("giving topic {name} {count} partitions"))?;
        }
        Ok(())
    }

    /// Settings of a topic or of the broker, by name.
    pub async fn settings(&mut self, owner: Owner<'_>) -> Result<Vec<Setting>, Error> {
        Ok(self.settings_of_many(&[owner], &[]).await?.pop().unwrap_or_default())
    }

    /// Settings of each owner, in their order; only those named in `names` when there are any.
    pub async fn settings_of_many(&mut self, owners: &[Owner<'_>], names: &[&str]) -> Result<Vec<Vec<Setting>>, Error> {
        let keys = (!names.is_empty()).then(|| names.iter().copied().map(text).collect::<Vec<_>>());
        let key = |owner: &Owner<'_>| match owner {
            Owner::Topic(name) => (TOPIC, (*name).to_owned()),
            Owner::Broker => (BROKER, self.controller.to_string()),
        };
        let wanted: Vec<(i8, String)> = owners.iter().map(key).collect();
        let resource = |(kind, name): &(i8, String)| {
            let resource = DescribeConfigsResource::default().with_resource_type(*kind).with_resource_name(text(name));
            resource.with_configuration_keys(keys.clone())
        };
        let request = DescribeConfigsRequest::default().with_resources(wanted.iter().map(resource).collect());
        let answer = self.controller().await?.ask(&request, 4).await?;
        let mut settings = vec![Vec::new(); owners.len()];
        for result in answer.results {
            checked(result.error_code, result.error_message.as_ref(), || {
                let of = if result.resource_type == TOPIC { "topic" } else { "broker" };
                format!("describing the settings of {of} {}", result.resource_name)
            })?;
            let place =
                wanted.iter().position(|(kind, name)| *kind == result.resource_type && **name == *result.resource_name);
            let Some(list) = place.and_then(|place| settings.get_mut(place)) else { continue };
            list.extend(result.configs.into_iter().map(|config| Setting {
                name: config.name.to_string(),
                value: config.value.filter(|_| !config.is_sensitive).map(|value| value.to_string()),
                source: match config.config_source {
                    1 => Source::Topic,
                    2..=4 => Source::Broker,
                    _ => Source::Default,
                },
                read_only: config.read_only,
            }));
            list.sort_by(|a: &Setting, b| a.name.cmp(&b.name));
        }
        Ok(settings)
    }

    /// Sets some settings of a topic and takes others back to their default; the rest stays as it is.
    pub async fn alter_topic(&mut self, name: &str, set: &[(String, String)], unset: &[String]) -> Result<(), Error> {
        let change = |operation: i8, name: &str, value: Option<&str>| {
            let change = AlterableConfig::default().with_name(text(name)).with_config_operation(operation);
            change.with_value(value.map(text))
        };
        let sets = set.iter().map(|(name, value)| change(SET, name, Some(value)));
        let changes = sets.chain(unset.iter().map(|name| change(UNSET, name, None))).collect();
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(name))
            .with_configs(changes);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.controller().await?.ask(&request, 1).await?;
        for result in &answer.responses {
            let message = result.error_message.as_ref();
            checked(result.error_code, message, || format!("changing the settings of topic {name}"))?;
        }
        Ok(())
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// An error with the broker's own sentence where it gave one.
fn checked(code: i16, message: Option<&StrBytes>, what: impl FnOnce() -> String) -> Result<(), Error> {
    let Some(code) = ResponseError::try_from_code(code) else { return Ok(()) };
    let said = message.map(ToString::to_string).filter(|message| !message.is_empty());
    Err(Error::Refused { what: what(), code, reason: said.unwrap_or_else(|| code.to_string()) })
}
