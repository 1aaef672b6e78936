//! Looking at a cluster that somebody else set up: how its topics and brokers are configured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::error::KafkaError;

use super::{Access, Error, Settings};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings by name, as far as the cluster tells them.
pub type ConfigValues = BTreeMap<String, String>;

/// A topic as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicFacts {
    pub partitions: i32,
    /// Copies of the partition that has the fewest.
    pub replicas: i32,
    /// Empty when the cluster does not let us ask.
    pub config: ConfigValues,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// By topic, those that are there.
    pub topics: BTreeMap<String, TopicFacts>,
    /// Of the broker that was asked; empty when the cluster does not let us ask.
    pub broker: ConfigValues,
    /// Why settings could not be read.
    pub refused: Vec<String>,
}

/// Asks for these topics and for the settings of one broker.
pub async fn inspect(settings: &Settings, topics: &[&'static str]) -> Result<ClusterFacts, Error> {
    let request = |doing| {
        let bootstrap = settings.bootstrap.clone();
        move |source| Error::Request { bootstrap, doing, timeout: REQUEST_TIMEOUT, source: Box::new(source) }
    };
    let client: AdminClient<DefaultClientContext> = AdminClient::from_config(&settings.base())
        .map_err(|source| Error::Client { bootstrap: settings.bootstrap.clone(), source: Box::new(source) })?;
    let client = Arc::new(client);
    let (asked, access, names) = (Arc::clone(&client), Arc::clone(&settings.access), topics.to_vec());
    let listing = tokio::task::spawn_blocking(move || list(&asked, &access, &names)).await;
    let (topics, broker) = match listing {
        Ok(listed) => listed.map_err(request("asking for topics"))?,
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    };
    let mut facts = ClusterFacts { topics, ..ClusterFacts::default() };
    let full: Vec<String> = facts.topics.keys().map(|name| settings.access.full(name)).collect();
    let mut resources: Vec<ResourceSpecifier<'_>> = full.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    resources.extend(broker.map(ResourceSpecifier::Broker));
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let answers = client.describe_configs(&resources, &options).await.map_err(request("asking for settings"))?;
    for answer in answers {
        match answer {
            Ok(resource) => take(&mut facts, &settings.access.prefix, resource),
            Err(code) => facts.refused.push(code.to_string()),
        }
    }
    Ok(facts)
}

type Listing = (BTreeMap<String, TopicFacts>, Option<i32>);

/// The topics that are there, without their settings, and the id of a broker. Blocks.
fn list(client: &AdminClient<DefaultClientContext>, access: &Access, wanted: &[&str]) -> Result<Listing, KafkaError> {
    let metadata = client.inner().fetch_metadata(None, REQUEST_TIMEOUT)?;
    let count = |count| i32::try_from(count).unwrap_or(i32::MAX);
    let mut topics = BTreeMap::new();
    for topic in metadata.topics() {
        let name = topic.name().strip_prefix(access.prefix.as_str());
        if let Some(name) = name.filter(|name| wanted.contains(name)) {
            let copies = topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
            let (partitions, replicas) = (count(topic.partitions().len()), count(copies));
            topics.insert(name.to_owned(), TopicFacts { partitions, replicas, config: ConfigValues::new() });
        }
    }
    Ok((topics, metadata.brokers().first().map(rdkafka::metadata::MetadataBroker::id)))
}

fn take(facts: &mut ClusterFacts, prefix: &str, resource: ConfigResource) {
    let values = resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect();
    match resource.specifier {
        OwnedResourceSpecifier::Topic(full) => {
            if let Some(topic) = full.strip_prefix(prefix).and_then(|name| facts.topics.get_mut(name)) {
                topic.config = values;
            }
        }
        OwnedResourceSpecifier::Broker(_) => facts.broker = values,
        OwnedResourceSpecifier::Group(_) => {}
    }
}
