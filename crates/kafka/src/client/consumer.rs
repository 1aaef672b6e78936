//! Consuming with explicit positions: assigned by hand, read in batches, committed by the caller and by nobody else.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::{Access, Error, Settings};

/// How long a metadata or offset request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A place in a partition, with the text a commit may carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub topic: String,
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Free text stored with the commit, empty when there is none.
    pub metadata: String,
}

/// One record, borrowed from the client's fetch buffer.
#[derive(Debug)]
pub struct Record<'a> {
    message: &'a BorrowedMessage<'a>,
    /// Bytes of the topic's name that are not ours.
    prefix_bytes: usize,
}

impl<'a> Record<'a> {
    pub fn topic(&self) -> &'a str {
        self.message.topic().get(self.prefix_bytes..).unwrap_or_default()
    }

    pub fn partition(&self) -> i32 {
        self.message.partition()
    }

    pub fn offset(&self) -> i64 {
        self.message.offset()
    }

    /// Kafka timestamp in milliseconds, -1 when the producer set none.
    pub fn timestamp_ms(&self) -> i64 {
        self.message.timestamp().to_millis().unwrap_or(-1)
    }

    pub fn key(&self) -> &'a [u8] {
        self.message.key().unwrap_or(&[])
    }

    /// `None` is a tombstone.
    pub fn payload(&self) -> Option<&'a [u8]> {
        self.message.payload()
    }

    /// The value of the last header with this name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let headers = self.message.headers()?;
        (0..headers.count()).rev().find_map(|i| {
            let header = headers.get(i);
            if header.key == name { header.value } else { None }
        })
    }

    /// All headers in order; a missing value is empty.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let headers = self.message.headers();
        (0..headers.map_or(0, Headers::count)).filter_map(move |i| {
            let header = headers?.get(i);
            Some((header.key, header.value.unwrap_or(&[])))
        })
    }
}

/// A consumer of assigned partitions.
pub struct Consumer {
    inner: BaseConsumer<Context>,
    bootstrap: String,
    access: Arc<Access>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

impl Consumer {
    /// Sets the client up. `group` names where commits go; no membership is taken, partitions are assigned by hand.
    pub fn open(settings: &Settings, group: &str) -> Result<Self, Error> {
        let inner = BaseConsumer::from_config_and_context(&settings.consumer(group), Context)
            .map_err(|source| Error::Client { bootstrap: settings.bootstrap.clone(), source: Box::new(source) })?;
        Ok(Self { inner, bootstrap: settings.bootstrap.clone(), access: Arc::clone(&settings.access) })
    }

    /// Reads from exactly these positions on.
    pub fn assign(&self, positions: &[Position]) -> Result<(), Error> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            let topic = self.access.full(&position.topic);
            list.add_partition_offset(&topic, position.partition, Offset::Offset(position.offset))
                .map_err(|source| self.request("assigning partitions", source))?;
        }
        self.inner.assign(&list).map_err(|source| self.request("assigning partitions", source))
    }

    /// Hands up to `records_max` records to `each`: waits up to `wait` for the first one, then takes what is there
    /// and what arrives within `linger`. Returns how many there were.
    ///
    /// Lost connections are not errors: the client reconnects and the call returns 0 meanwhile.
    pub fn poll(
        &self,
        records_max: usize,
        wait: Duration,
        linger: Duration,
        mut each: impl FnMut(Record<'_>),
    ) -> Result<usize, Error> {
        let mut count = 0;
        let mut timeout = wait;
        while count < records_max {
            match self.inner.poll(timeout) {
                None => break,
                Some(Ok(message)) => {
                    each(Record { message: &message, prefix_bytes: self.access.prefix.len() });
                    count += 1;
                    timeout = linger;
                }
                Some(Err(error)) => self.judge(error)?,
            }
        }
        Ok(count)
    }

    fn judge(&self, error: KafkaError) -> Result<(), Error> {
        let code = match &error {
            KafkaError::MessageConsumption(code)
            | KafkaError::Global(code)
            | KafkaError::MessageConsumptionFatal(code) => Some(*code),
            _ => None,
        };
        match code {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                // the client cannot say which partition it was: the caller compares its positions with the log starts
                Err(Error::OffsetOutOfRange { topic: String::new(), partition: -1, offset: -1 })
            }
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::NetworkException,
            ) => {
                tracing::debug!(error = %error, bootstrap = %self.bootstrap, "waiting for the stream");
                Ok(())
            }
            _ => Err(Error::Consume { source: Box::new(error) }),
        }
    }

    /// Stores positions durably for the group.
    pub fn commit(&self, positions: &[Position]) -> Result<(), Error> {
        if positions.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            let mut element = list.add_partition(&self.access.full(&position.topic), position.partition);
            element
                .set_offset(Offset::Offset(position.offset))
                .map_err(|source| self.request("committing offsets", source))?;
            element.set_metadata(&position.metadata);
        }
        self.inner.commit(&list, CommitMode::Sync).map_err(|source| self.request("committing offsets", source))
    }

    /// What the group committed for partitions `0..partitions` of `topic`; missing where it never did.
    pub fn committed(&self, topic: &str, partitions: i32) -> Result<Vec<Position>, Error> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.access.full(topic), 0, partitions - 1);
        let list = self
            .inner
            .committed_offsets(list, REQUEST_TIMEOUT)
            .map_err(|source| self.request("asking for committed offsets", source))?;
        let known = list.elements().into_iter().filter_map(|element| {
            let Offset::Offset(offset) = element.offset() else { return None };
            let metadata = element.metadata().to_owned();
            Some(Position { topic: topic.to_owned(), partition: element.partition(), offset, metadata })
        });
        Ok(known.collect())
    }

    /// First and next offset of a partition.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), Error> {
        self.inner
            .fetch_watermarks(&self.access.full(topic), partition, REQUEST_TIMEOUT)
            .map_err(|source| self.request("asking for the ends of a partition", source))
    }

    /// Next offsets of partitions `0..partitions` of each topic in one round trip, by (topic, partition).
    pub fn ends(&self, topics: &[(&str, i32)]) -> Result<Vec<Position>, Error> {
        self.list_offsets(topics, Offset::End)
    }

    /// First offsets of partitions `0..partitions` of each topic in one round trip, by (topic, partition).
    pub fn starts(&self, topics: &[(&str, i32)]) -> Result<Vec<Position>, Error> {
        self.list_offsets(topics, Offset::Beginning)
    }

    fn list_offsets(&self, topics: &[(&str, i32)], which: Offset) -> Result<Vec<Position>, Error> {
        let mut list = TopicPartitionList::new();
        for (topic, partitions) in topics {
            list.add_partition_range(&self.access.full(topic), 0, partitions - 1);
        }
        list.set_all_offsets(which).map_err(|source| self.request("asking for offsets", source))?;
        let list = self
            .inner
            .offsets_for_times(list, REQUEST_TIMEOUT)
            .map_err(|source| self.request("asking for offsets", source))?;
        let known = list.elements().into_iter().filter_map(|element| {
            let Offset::Offset(offset) = element.offset() else { return None };
            let topic = element.topic().strip_prefix(self.access.prefix.as_str())?.to_owned();
            Some(Position { topic, partition: element.partition(), offset, metadata: String::new() })
        });
        Ok(known.collect())
    }

    /// The first offset of a partition whose record was stamped at this time or later, in milliseconds since 1970; `None`
    /// when there is none.
    pub fn offset_at(&self, topic: &str, partition: i32, time_ms: i64) -> Result<Option<i64>, Error> {
        let mut list = TopicPartitionList::new();
        let asked = list.add_partition_offset(&self.access.full(topic), partition, Offset::Offset(time_ms.max(0)));
        asked.map_err(|source| self.request("asking for offsets", source))?;
        let list = self
            .inner
            .offsets_for_times(list, REQUEST_TIMEOUT)
            .map_err(|source| self.request("asking for offsets", source))?;
        let found = list.elements().into_iter().find_map(|element| match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        });
        Ok(found)
    }

    /// Names of the topics under our prefix with their partition counts.
    pub fn topics(&self) -> Result<Vec<(String, i32)>, Error> {
        let metadata = self
            .inner
            .fetch_metadata(None, REQUEST_TIMEOUT)
            .map_err(|source| self.request("asking for topics", source))?;
        let counted = |topic: &rdkafka::metadata::MetadataTopic| {
            let name = topic.name().strip_prefix(self.access.prefix.as_str())?;
            Some((name.to_owned(), i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)))
        };
        Ok(metadata.topics().iter().filter_map(counted).collect())
    }

    /// Who commits, for a transaction that carries the positions.
    pub(super) fn group_metadata(&self) -> Option<ConsumerGroupMetadata> {
        self.inner.group_metadata()
    }

    fn request(&self, doing: &'static str, source: KafkaError) -> Error {
        Error::Request { bootstrap: self.bootstrap.clone(), doing, timeout: REQUEST_TIMEOUT, source: Box::new(source) }
    }
}

struct Context;

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "stream connection");
    }
}

impl ConsumerContext for Context {}
