//! Connects to the customer's cluster and delivers batches to it.
//!
//! Invariant: a session that failed in any way but "these records are refused" is over; the next connect takes over anew
//! and reads from the target how far it got.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use kafka::client::admin::{TopicPlan, create_topics};
use kafka::client::{Settings, TransactionSettings};
use model::Health;
use stream::topics::PARTITIONS;
use stream::{Connection, Schema, Schemas, Topic};

use super::config::KafkaPlan;
use super::positions::Writer;
use super::schema_ids::{SchemaIds, Unknown};
use super::session::{Failure, Session, Shared, aside};
use crate::batch::Batch;
use crate::dead_letters::reason;
use crate::error::TargetError;
use crate::sink::{Outcome, Refusal, Resume, Sink, Standing};

/// Size of the batches in which records travel; below what a broker takes unless somebody changed that.
const TRAVEL_BYTES: usize = 900_000;
/// A broker that takes less than this takes nothing from us.
const TRAVEL_BYTES_MIN: usize = 16 * 1024;

/// The sink.
#[derive(Debug)]
pub struct KafkaSink {
    plan: KafkaPlan,
    connection: Connection,
    /// The gateway's own registry.
    contracts: Option<Arc<Schemas>>,
    /// Transactional id and consumer group at the target, whole.
    identity: String,
    writer: Writer,
    /// Who wrote last when this process connected first.
    before: Option<Writer>,
    connected_once: bool,
    travel_bytes: usize,
    session: Option<Session>,
    scratch: Vec<u8>,
}

impl KafkaSink {
    /// `connection` is the way into the target, `contracts` the gateway's own registry. Sinks of several gateways write
    /// to one cluster, so the gateway's name is part of the sink's there.
    pub fn new(plan: KafkaPlan, connection: Connection, gateway_id: &str, contracts: Option<Arc<Schemas>>) -> Self {
        let identity = format!("{}sf-sink/{gateway_id}/{}", plan.cluster.topic_prefix, plan.common.sink_id);
        Self {
            plan,
            connection,
            contracts,
            identity,
            writer: Writer(RandomState::new().build_hasher().finish()),
            before: None,
            connected_once: false,
            travel_bytes: TRAVEL_BYTES,
            session: None,
            scratch: Vec::new(),
        }
    }

    fn failed(&self, doing: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> TargetError {
        TargetError::Failed { target: self.plan.cluster.bootstrap.clone(), doing, source: Box::new(source) }
    }

    /// Creates the topics that are missing; returns how many partitions each has.
    async fn prepare_topics(
        &self,
        settings: &Settings,
        producer: &Shared,
    ) -> Result<BTreeMap<Topic, i32>, TargetError> {
        let client = producer.get();
        let listed = aside(move || client.positions().topics()).await;
        let listed = listed.map_err(|e| self.failed("asking for topics", e))?;
        let listed: BTreeMap<String, i32> =
            listed.map_err(|e| self.failed("asking for topics", e))?.into_iter().collect();
        let missing: Vec<TopicPlan> = self
            .plan
            .names
            .values()
            .filter(|name| !listed.contains_key(*name))
            .map(|name| TopicPlan { name: name.clone(), partitions: PARTITIONS, config: Vec::new() })
            .collect();
        if !missing.is_empty() {
            let created = create_topics(settings, &missing).await.map_err(|e| self.failed("creating topics", e))?;
            tracing::info!(topics = ?created, target_name = self.plan.cluster.bootstrap, "topics created at the target");
        }
        let count = |name: &String| listed.get(name).copied().unwrap_or(PARTITIONS);
        Ok(self.plan.names.iter().map(|(topic, name)| (*topic, count(name))).collect())
    }

    /// A process that finds what another one wrote since it connected first has been replaced.
    fn check_writer(&mut self, last: Option<Writer>) -> Result<(), TargetError> {
        if !self.connected_once {
            (self.before, self.connected_once) = (last, true);
        }
        if last == self.before || last == Some(self.writer) {
            return Ok(());
        }
        Err(TargetError::Fenced { target: self.plan.cluster.bootstrap.clone() })
    }

    /// Makes sure that every record can be read over there: it decodes, and its schema has an id. Returns those for
    /// which that will never be so.
    async fn examine(&mut self, batch: &Batch) -> Result<Vec<Refusal>, TargetError> {
        let mut refusals = Vec::new();
        let mut foreign: BTreeMap<(Topic, i32), String> = BTreeMap::new();
        for (index, record) in batch.iter() {
            let topic = record.place.topic;
            let (id, body) = match stream::avro::unframe(record.payload) {
                Ok(parts) => parts,
                Err(error) => {
                    refusals.push(Refusal { index, reason: reason::DECODE_ERROR, detail: error.to_string() });
                    continue;
                }
            };
            self.learn(topic, id, &mut foreign).await?;
            if let Some(detail) = foreign.get(&(topic, id)) {
                refusals.push(Refusal { index, reason: reason::SCHEMA_ERROR, detail: detail.clone() });
            } else if let Err(error) = decodes(topic.schema(), body) {
                refusals.push(Refusal { index, reason: reason::DECODE_ERROR, detail: error.to_string() });
            }
        }
        Ok(refusals)
    }

    async fn learn(
        &mut self,
        topic: Topic,
        id: i32,
        foreign: &mut BTreeMap<(Topic, i32), String>,
    ) -> Result<(), TargetError> {
        let target = || self.plan.cluster.bootstrap.clone();
        let Some(session) = &mut self.session else { return Err(TargetError::NotConnected { target: target() }) };
        if session.ids.get(topic, id).is_some() || foreign.contains_key(&(topic, id)) {
            return Ok(());
        }
        let Some(name) = self.plan.names.get(&topic) else { return Ok(()) };
        match session.ids.learn(topic, name, id).await {
            Ok(()) => Ok(()),
            Err(Unknown::Foreign { detail }) => {
                foreign.insert((topic, id), detail);
                Ok(())
            }
            Err(Unknown::Ours(error)) => Err(self.failed("asking the gateway's registry for a schema", error)),
            Err(Unknown::Theirs(error)) => Err(self.failed("registering a schema", error)),
        }
    }

    /// The whole way of a batch; any error ends the session.
    async fn deliver(&mut self, batch: &Batch) -> Result<Outcome, TargetError> {
        let refusals = self.examine(batch).await?;
        if !refusals.is_empty() {
            return Ok(Outcome::Refused(refusals));
        }
        let (names, scratch) = (&self.plan.names, &mut self.scratch);
        let Some(session) = &mut self.session else {
            return Err(TargetError::NotConnected { target: self.plan.cluster.bootstrap.clone() });
        };
        let refused = match session.deliver(batch, names, scratch).await {
            Ok(()) => return Ok(Outcome::Taken { confirmed: batch.ends().to_vec() }),
            Err(failure @ Failure::Records(_)) => failure,
            Err(failure) => return Err(self.failed("writing", failure)),
        };
        match session.isolate(batch, names, scratch).await {
            Ok(refusals) if !refusals.is_empty() => Ok(Outcome::Refused(refusals)),
            Ok(_) => {
                // each is taken alone: the brokers take less at a time than we send
                self.travel_bytes = (self.travel_bytes / 2).max(TRAVEL_BYTES_MIN);
                tracing::info!(bytes = self.travel_bytes, "the target takes smaller batches only");
                Err(self.failed("writing", refused))
            }
            Err(failure) => Err(self.failed("writing", failure)),
        }
    }
}

/// Whether a body can be read by its contract, in any of its versions.
fn decodes(schema: Schema, body: &[u8]) -> Result<(), stream::avro::DecodeError> {
    use stream::message::{aggregate, alarm, dead_letter, event, telemetry};
    match schema {
        Schema::Telemetry => telemetry::decode(body).map(|_| ()),
        Schema::Event => event::decode(body).map(|_| ()),
        Schema::Alarm => alarm::decode(body).map(|_| ()),
        Schema::Aggregate => aggregate::decode(body).map(|_| ()),
        Schema::DeadLetter => dead_letter::decode(body).map(|_| ()),
    }
}

impl Sink for KafkaSink {
    const HEADERS: bool = true;

    async fn connect(&mut self, _topics: &[Topic]) -> Result<Resume, TargetError> {
        self.session = None;
        let url = self.plan.cluster.registry.url.clone();
        let theirs = self.connection.schemas(&url, None).map_err(|e| self.failed("asking the registry", e))?;
        let ids = SchemaIds::new(self.contracts.clone(), theirs);
        for (topic, name) in &self.plan.names {
            ids.announce(*topic, name).await.map_err(|e| self.failed("registering a schema", e))?;
        }
        let settings = self.connection.settings(&self.plan.cluster.bootstrap, &self.identity);
        let transactions = TransactionSettings {
            id: self.identity.clone(),
            group: self.identity.clone(),
            compression: self.plan.compression,
            batch_bytes: self.travel_bytes,
        };
        let opened = Shared::open(&settings, &transactions);
        let producer = opened.map_err(|e| self.failed("setting up a client", e))?;
        let partitions = self.prepare_topics(&settings, &producer).await?;
        let taken = producer.take_over(&self.plan.names).await;
        let (positions, last) = taken.map_err(|e| self.failed("taking over", e))?;
        self.check_writer(last)?;
        let (places, writer) = (positions.places(), self.writer);
        self.session = Some(Session { settings, transactions, producer, ids, partitions, positions, writer });
        Ok(Resume::AtOrCommitted(places))
    }

    async fn write(&mut self, batch: &Batch) -> Result<Outcome, TargetError> {
        let outcome = self.deliver(batch).await;
        if outcome.is_err() {
            self.session = None;
        }
        outcome
    }

    fn standing(&self) -> Standing {
        let access = self.connection.access();
        let topics: BTreeMap<&str, &str> =
            self.plan.names.iter().map(|(topic, name)| (topic.name(), name.as_str())).collect();
        Standing {
            target: self.plan.cluster.bootstrap.clone(),
            health: Health::Healthy,
            reason: String::new(),
            details: vec![
                ("transport", if access.tls.is_some() { "tls" } else { "plain" }.into()),
                ("registry", self.plan.cluster.registry.url.clone().into()),
                ("transactional_id", self.identity.clone().into()),
                ("target_topics", serde_json::json!(topics)),
            ],
        }
    }
}
