//! Administration over the public protocol, so that it works on the embedded broker and on any other.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::error::RDKafkaErrorCode;

use super::{Error, Settings};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

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
    let topics: Vec<NewTopic<'_>> = plans
        .iter()
        .map(|plan| {
            let topic = NewTopic::new(&plan.name, plan.partitions, TopicReplication::Fixed(1));
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
    let mut created = Vec::new();
    for result in results {
        match result {
            Ok(name) => created.push(name),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(Error::CreateTopic { topic, reason: code.to_string() }),
        }
    }
    Ok(created)
}
