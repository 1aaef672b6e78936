//! Producing in batches: a [`Batch`] collects records, a [`Pending`] tells when all of them are durable.
//!
//! Order: records of one partition stay in the order of [`Batch::send`], also over retries (idempotent producer).
//! Nothing is reported as delivered before the broker acknowledged it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::Notify;

use super::access::FullName;
use super::{Access, Error, Settings};

/// Why a record was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The queue of unacknowledged records is full: wait for a [`Pending`], or apply the caller's overflow policy.
    #[error("the queue of unacknowledged records is full")]
    QueueFull,
    /// This record can never be sent, for example because it is too large.
    #[error("record refused")]
    Refused { source: KafkaError },
}

/// An idempotent producer with its own delivery thread.
pub struct Producer {
    pub(super) inner: ThreadedProducer<Context>,
    pub(super) access: Arc<Access>,
    away: Arc<AtomicBool>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unacknowledged = self.inner.in_flight_count();
        f.debug_struct("Producer")
            .field("unacknowledged", &unacknowledged)
            .field("away", &self.away)
            .finish_non_exhaustive()
    }
}

impl Producer {
    /// Sets the client up; connects in the background and for ever.
    pub fn open(settings: &Settings) -> Result<Self, Error> {
        Self::with_config(settings, &settings.producer())
    }

    /// The same with settings of librdkafka that are not the usual ones.
    pub(super) fn with_config(settings: &Settings, config: &ClientConfig) -> Result<Self, Error> {
        let away = Arc::new(AtomicBool::new(false));
        let context = Context { away: Arc::clone(&away) };
        let inner = ThreadedProducer::from_config_and_context(config, context)
            .map_err(|source| Error::Client { bootstrap: settings.bootstrap.clone(), source: Box::new(source) })?;
        Ok(Self { inner, access: Arc::clone(&settings.access), away })
    }

    /// Begins a batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch { producer: self, state: Arc::new(State::default()) }
    }

    /// Records sent and not yet acknowledged.
    pub fn unacknowledged(&self) -> usize {
        usize::try_from(self.inner.in_flight_count()).unwrap_or(0)
    }

    /// True from a lost or refused connection until the next acknowledgement.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Waits until everything is acknowledged; false when `timeout` came first.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.inner.flush(timeout).is_ok()
    }

    /// The reason, when the producer met an error it cannot recover from; open a new one then.
    pub fn fatal_error(&self) -> Option<String> {
        self.inner.client().fatal_error().map(|(code, text)| format!("{code}: {text}"))
    }
}

/// A record to be sent, all of it said.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    pub topic: &'a str,
    /// `None` leaves the choice to the client.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// `None` is now.
    pub timestamp_ms: Option<i64>,
    /// Those with an empty name are skipped.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// Records on their way, counted together.
#[derive(Debug)]
pub struct Batch<'p> {
    producer: &'p Producer,
    state: Arc<State>,
}

impl Batch<'_> {
    /// Queues one record; `timestamp_ms` is its Kafka timestamp. Headers with an empty name are skipped.
    pub fn send(
        &self,
        topic: &str,
        partition: i32,
        key: &[u8],
        payload: &[u8],
        timestamp_ms: i64,
        headers: &[(&str, &[u8])],
    ) -> Result<(), SendError> {
        let (partition, timestamp_ms) = (Some(partition), Some(timestamp_ms));
        self.send_record(&Outgoing { topic, partition, key: Some(key), payload: Some(payload), timestamp_ms, headers })
    }

    /// Queues one record.
    pub fn send_record(&self, outgoing: &Outgoing<'_>) -> Result<(), SendError> {
        let mut owned = OwnedHeaders::new_with_capacity(outgoing.headers.len());
        for (key, value) in outgoing.headers {
            owned = owned.insert(Header { key, value: Some(*value) });
        }
        let prefix = &self.producer.access.prefix;
        let full =
            if prefix.is_empty() { None } else { Some(FullName::new(prefix, outgoing.topic).ok_or_else(too_long)?) };
        let topic = full.as_ref().map_or(outgoing.topic, FullName::as_str);
        let mut record: BaseRecord<'_, [u8], [u8], _> =
            BaseRecord::with_opaque_to(topic, Arc::clone(&self.state)).headers(owned);
        record.partition = outgoing.partition;
        record.key = outgoing.key;
        record.payload = outgoing.payload;
        record.timestamp = outgoing.timestamp_ms;
        self.state.pending.fetch_add(1, Ordering::AcqRel);
        match self.producer.inner.send(record) {
            Ok(()) => Ok(()),
            Err((error, _)) => {
                self.state.one_done();
                match error {
                    KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => Err(SendError::QueueFull),
                    source => Err(SendError::Refused { source }),
                }
            }
        }
    }

    /// Closes the batch.
    pub fn finish(self) -> Pending {
        self.state.closed.store(true, Ordering::Release);
        self.state.one_done_if_empty();
        Pending { state: self.state }
    }
}

fn too_long() -> SendError {
    SendError::Refused { source: KafkaError::MessageProduction(RDKafkaErrorCode::InvalidTopic) }
}

/// A closed batch, waiting for its acknowledgements.
#[derive(Debug, Clone)]
pub struct Pending {
    state: Arc<State>,
}

impl Pending {
    /// True when all records are durable or one has failed for good.
    pub fn is_done(&self) -> bool {
        self.state.is_done()
    }

    /// Blocks up to `timeout`; `Ok(true)` when all records are durable, `Ok(false)` when the time was too short.
    pub fn wait(&self, timeout: Duration) -> Result<bool, Error> {
        let guard = self.state.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, waited) = self
            .state
            .done
            .wait_timeout_while(guard, timeout, |_| !self.state.is_done())
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && !self.state.is_done() {
            return Ok(false);
        }
        guard.clone().map_or(Ok(true), |failure| Err(failure.into()))
    }

    /// Waits without a thread. Cancel-safe.
    pub async fn done(&self) -> Result<(), Error> {
        loop {
            let notified = self.state.notify.notified();
            if self.state.is_done() {
                let failure = self.state.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
                return failure.map_or(Ok(()), |failure| Err(failure.into()));
            }
            notified.await;
        }
    }
}

/// Why a record was not taken.
#[derive(Debug, Clone)]
struct Failure {
    reason: String,
    /// It is about the record (or the request it travelled in), not about the connection.
    about_records: bool,
    /// It was thrown away because another one failed, whose reason may come later.
    thrown_away: bool,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let Failure { reason, about_records, .. } = failure;
        if about_records { Self::RecordsRefused { reason } } else { Self::NotDelivered { reason } }
    }
}

/// What a broker answers when it will not take these bytes however often it is asked.
const ABOUT_RECORDS: [RDKafkaErrorCode; 5] = [
    RDKafkaErrorCode::MessageSizeTooLarge,
    RDKafkaErrorCode::InvalidMessageSize,
    RDKafkaErrorCode::MessageBatchTooLarge,
    RDKafkaErrorCode::InvalidTimestamp,
    RDKafkaErrorCode::InvalidRecord,
];

#[derive(Debug, Default)]
pub(super) struct State {
    pending: AtomicUsize,
    closed: AtomicBool,
    failure: Mutex<Option<Failure>>,
    done: Condvar,
    notify: Notify,
}

impl State {
    fn is_done(&self) -> bool {
        self.closed.load(Ordering::Acquire) && self.pending.load(Ordering::Acquire) == 0
    }

    fn one_done(&self) {
        if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.one_done_if_empty();
        }
    }

    fn one_done_if_empty(&self) {
        if self.is_done() {
            // the lock orders this against a waiter between its check and its wait
            drop(self.failure.lock().unwrap_or_else(PoisonError::into_inner));
            self.done.notify_all();
            self.notify.notify_waiters();
            self.notify.notify_one();
        }
    }

    fn failed(&self, error: &KafkaError) {
        let about_records = error.rdkafka_error_code().is_some_and(|code| ABOUT_RECORDS.contains(&code));
        let purged = [RDKafkaErrorCode::PurgeQueue, RDKafkaErrorCode::PurgeInflight];
        let thrown_away = error.rdkafka_error_code().is_some_and(|code| purged.contains(&code));
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|first| first.thrown_away && !thrown_away) {
            *first = Some(Failure { reason: error.to_string(), about_records, thrown_away });
        }
    }
}

pub(super) struct Context {
    away: Arc<AtomicBool>,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        let lost = [RDKafkaErrorCode::BrokerTransportFailure, RDKafkaErrorCode::AllBrokersDown];
        if error.rdkafka_error_code().is_some_and(|code| lost.contains(&code)) {
            self.away.store(true, Ordering::Relaxed);
        }
        tracing::debug!(error = %error, reason, "stream connection");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<State>;

    fn delivery(&self, result: &DeliveryResult<'_>, state: Arc<State>) {
        match result {
            Ok(_) => self.away.store(false, Ordering::Relaxed),
            Err((error, _)) => state.failed(error),
        }
        state.one_done();
    }
}
