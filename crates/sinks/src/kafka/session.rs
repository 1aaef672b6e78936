//! A connection that stands: a producer that has taken over, and what is known of the target.
//!
//! One batch is one transaction. The host's thread only hands records over; everything that waits for the target waits
//! elsewhere, so that a call can be dropped at any moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka::client::{Error, Outgoing, Pending, SendError, Settings, TransactionSettings, TransactionalProducer};
use stream::Topic;
use stream::partitioner::partition_for;
use stream::topics::PARTITIONS;

use super::positions::{Positions, Unreadable, Writer};
use super::schema_ids::SchemaIds;
use crate::batch::{Batch, Record};
use crate::dead_letters::reason;
use crate::sink::Refusal;

/// How long the target may take for one answer; longer than that, and the session has failed.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Why a transaction did not count.
#[derive(Debug)]
pub(super) enum Failure {
    /// The target, or the way to it.
    Target(Error),
    /// A schema id was forgotten between two steps: a defect.
    NoId,
    /// The brokers will not take some of the records; nothing of the transaction is there.
    Records(String),
    /// No thread can be started.
    Thread(std::io::Error),
    /// What the target remembers is not what a sink left there.
    Unreadable(Unreadable),
    /// Somebody else wrote as this sink while a producer was made anew.
    Moved,
    /// The thread that waited for the target ended without an answer: a defect.
    BrokeOff,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Target(_) => f.write_str("the target failed"),
            Self::NoId => f.write_str("a schema id is missing that was learned before"),
            Self::Records(reason) => write!(f, "records were refused: {reason}"),
            Self::Thread(_) => f.write_str("cannot start a thread that waits for the target"),
            Self::Unreadable(_) => f.write_str("the positions cannot be read"),
            Self::Moved => f.write_str("somebody else wrote as this sink"),
            Self::BrokeOff => f.write_str("the thread that waited for the target broke off"),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Target(source) => Some(source),
            Self::Thread(source) => Some(source),
            Self::Unreadable(source) => Some(source),
            Self::NoId | Self::Records(_) | Self::Moved | Self::BrokeOff => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Target(error)
    }
}

/// Lets `work` wait on a thread of its own. When the future is dropped the thread goes on until its time is over.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let (done, result) = tokio::sync::oneshot::channel();
    let body = move || {
        if done.send(work()).is_err() {
            tracing::debug!("nobody waits for this answer of the target any more");
        }
    };
    std::thread::Builder::new().name("sink-target".to_owned()).spawn(body).map_err(Failure::Thread)?;
    result.await.map_err(|_| Failure::BrokeOff)
}

/// A producer that is closed on a thread of its own, since that may take as long as a target that is gone lets it.
#[derive(Debug)]
pub(super) struct Shared(Option<Arc<TransactionalProducer>>);

impl Shared {
    /// Sets a client up; nothing is asked of the target yet.
    pub(super) fn open(settings: &Settings, transactions: &TransactionSettings) -> Result<Self, Error> {
        Ok(Self(Some(Arc::new(TransactionalProducer::open(settings, transactions)?))))
    }

    /// Becomes the only writer, then reads how far the target got: in this order nothing moves behind our back.
    pub(super) async fn take_over(
        &self,
        names: &BTreeMap<Topic, String>,
    ) -> Result<(Positions, Option<Writer>), Failure> {
        let (client, topics) = (self.get(), names.values().cloned().collect::<Vec<_>>());
        let committed = aside(move || {
            client.take_over(ANSWER_MAX)?;
            let mut committed = Vec::new();
            for topic in &topics {
                committed.extend(client.positions().committed(topic, 1)?);
            }
            Ok::<_, Error>(committed)
        });
        Positions::read(&committed.await??, names).map_err(Failure::Unreadable)
    }

    pub(super) fn get(&self) -> Arc<TransactionalProducer> {
        Arc::clone(self.0.as_ref().expect("it is taken out by the drop alone"))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let producer = self.0.take();
        let closing = std::thread::Builder::new().name("sink-farewell".to_owned()).spawn(move || drop(producer));
        if let Err(error) = closing {
            tracing::debug!(%error, "a producer is closed where it stands");
        }
    }
}

/// What one connect built.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) settings: Settings,
    pub(super) transactions: TransactionSettings,
    pub(super) producer: Shared,
    pub(super) ids: SchemaIds,
    /// Partitions of the topics at the target.
    pub(super) partitions: BTreeMap<Topic, i32>,
    pub(super) positions: Positions,
    pub(super) writer: Writer,
}

impl Session {
    /// Brings the batch and the positions behind it to the target, in one transaction.
    pub(super) async fn deliver(
        &mut self,
        batch: &Batch,
        names: &BTreeMap<Topic, String>,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let all: Vec<usize> = batch.iter().map(|(index, _)| index).collect();
        self.attempt(batch, &all, names, scratch).await?;
        let mut positions = self.positions.clone();
        positions.advance(batch.ends());
        let commits = positions.to_commits(names, self.writer);
        let producer = self.producer.get();
        aside(move || producer.commit(&commits, ANSWER_MAX)).await??;
        self.positions = positions;
        Ok(())
    }

    /// Finds the records that the brokers refuse alone, by halving; no attempt counts.
    pub(super) async fn isolate(
        &mut self,
        batch: &Batch,
        names: &BTreeMap<Topic, String>,
        scratch: &mut Vec<u8>,
    ) -> Result<Vec<Refusal>, Failure> {
        self.renew(names).await?;
        let all: Vec<usize> = batch.iter().map(|(index, _)| index).collect();
        let mut suspects: Vec<&[usize]> = vec![&all];
        let mut refusals = Vec::new();
        while let Some(indexes) = suspects.pop() {
            match self.attempt(batch, indexes, names, scratch).await {
                Ok(()) => {
                    let producer = self.producer.get();
                    aside(move || producer.abort(ANSWER_MAX)).await??;
                }
                Err(Failure::Records(detail)) => {
                    self.renew(names).await?;
                    match indexes {
                        [] => {}
                        [index] => refusals.push(Refusal { index: *index, reason: reason::TARGET_REFUSED, detail }),
                        _ => {
                            let (left, right) = indexes.split_at(indexes.len() / 2);
                            suspects.extend([right, left]);
                        }
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(refusals)
    }

    /// A producer whose transaction failed is not used again: it may learn of the failure once more, and later, and would
    /// take that for the next transaction's.
    async fn renew(&mut self, names: &BTreeMap<Topic, String>) -> Result<(), Failure> {
        self.producer = Shared::open(&self.settings, &self.transactions)?;
        let (positions, _) = self.producer.take_over(names).await?;
        if positions == self.positions { Ok(()) } else { Err(Failure::Moved) }
    }

    /// Sends records in a transaction and waits until the brokers have them all; the transaction stays open.
    async fn attempt(
        &self,
        batch: &Batch,
        indexes: &[usize],
        names: &BTreeMap<Topic, String>,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let pending = self.send(batch, indexes, names, scratch)?;
        pending.done().await.map_err(|error| match error {
            Error::RecordsRefused { reason } => Failure::Records(reason),
            other => Failure::Target(other),
        })
    }

    /// Hands the records over to the client; nothing waits here.
    fn send(
        &self,
        batch: &Batch,
        indexes: &[usize],
        names: &BTreeMap<Topic, String>,
        scratch: &mut Vec<u8>,
    ) -> Result<Pending, Failure> {
        let producer = self.producer.get();
        let transaction = producer.batch()?;
        let mut headers = Vec::new();
        for record in indexes.iter().filter_map(|index| batch.record(*index)) {
            let Some(name) = names.get(&record.place.topic) else { continue };
            self.rewrite(&record, scratch).ok_or(Failure::NoId)?;
            headers.clear();
            headers.extend(record.headers.iter());
            let outgoing = Outgoing {
                topic: name,
                partition: Some(self.partition(&record)),
                key: Some(record.key).filter(|key| !key.is_empty()),
                payload: Some(scratch),
                timestamp_ms: Some(record.timestamp_ms).filter(|timestamp| *timestamp >= 0),
                headers: &headers,
            };
            match transaction.send_record(&outgoing) {
                Ok(()) => {}
                Err(SendError::Refused { source }) => return Err(Failure::Records(source.to_string())),
                Err(SendError::QueueFull) => {
                    let reason = SendError::QueueFull.to_string();
                    return Err(Failure::Target(Error::NotDelivered { reason }));
                }
            }
        }
        Ok(transaction.finish())
    }

    /// The payload with the id that the target's registry gave (REC-06).
    fn rewrite(&self, record: &Record<'_>, scratch: &mut Vec<u8>) -> Option<()> {
        let (id, body) = stream::avro::unframe(record.payload).ok()?;
        let given = self.ids.get(record.place.topic, id)?;
        scratch.clear();
        stream::avro::put_frame(scratch, given);
        scratch.extend_from_slice(body);
        Some(())
    }

    /// Where the record goes: the partition it has here when there are as many, else where its key belongs.
    fn partition(&self, record: &Record<'_>) -> i32 {
        let count = self.partitions.get(&record.place.topic).copied().unwrap_or(PARTITIONS).max(1);
        if count == PARTITIONS || record.key.is_empty() {
            return record.place.partition % count;
        }
        partition_for(record.key, count)
    }
}
