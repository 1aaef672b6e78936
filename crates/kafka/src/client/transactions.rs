//! Writing in transactions: records, and the positions up to which they were read, count together or not at all.
//!
//! Of all producers that were ever opened with one transactional id, only the one whose [`TransactionalProducer::take_over`]
//! came last may write; a transaction that a former one left open is aborted there, one that was decided is finished.
//! So after `take_over` the committed positions are the truth, whatever became of the process before.
//!
//! The calls block for at most the time they are given, and do not come back earlier because somebody lost interest:
//! call them on a thread that may wait. After an error of any of them but [`TransactionalProducer::batch`]'s records the
//! way on is a new producer.

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{Batch, Consumer, Error, Position, Producer, Settings};

/// The coordinator aborts a transaction that is open for longer, in milliseconds.
const TRANSACTION_MS_MAX: u32 = 60_000;
/// A record that is not acknowledged by then has failed, in milliseconds; well before its transaction would be aborted.
const RECORD_MS_MAX: u32 = 20_000;
/// A record larger than this is refused before it is sent; whatever is smaller is the cluster's to judge.
const RECORD_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// What transactions need besides [`Settings`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionSettings {
    /// One writer at a time has this id.
    pub id: String,
    /// The consumer group that keeps the positions.
    pub group: String,
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub compression: &'static str,
    /// Records are sent in batches of about this size; a larger record travels alone.
    pub batch_bytes: usize,
}

/// A producer whose batches are transactions.
#[derive(Debug)]
pub struct TransactionalProducer {
    producer: Producer,
    /// Reads and names the positions; it consumes nothing.
    positions: Consumer,
    bootstrap: String,
}

impl TransactionalProducer {
    /// Sets the client up; nothing is asked of the cluster yet.
    pub fn open(settings: &Settings, transactions: &TransactionSettings) -> Result<Self, Error> {
        let producer = Producer::with_config(settings, &config(settings, transactions))?;
        let positions = Consumer::open(settings, &transactions.group)?;
        Ok(Self { producer, positions, bootstrap: settings.bootstrap.clone() })
    }

    /// Becomes the one that may write. Blocks.
    pub fn take_over(&self, timeout: Duration) -> Result<(), Error> {
        self.producer.inner.init_transactions(timeout).map_err(|source| self.failed("taking over", source))
    }

    /// The client that reads what the group committed.
    pub fn positions(&self) -> &Consumer {
        &self.positions
    }

    /// Begins a transaction, and in it a batch.
    pub fn batch(&self) -> Result<Batch<'_>, Error> {
        self.producer.inner.begin_transaction().map_err(|source| self.failed("beginning", source))?;
        Ok(self.producer.batch())
    }

    /// Ends the transaction: its records and `positions` count from now on. Blocks.
    pub fn commit(&self, positions: &[Position], timeout: Duration) -> Result<(), Error> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            let mut element = list.add_partition(&self.producer.access.full(&position.topic), position.partition);
            element
                .set_offset(Offset::Offset(position.offset))
                .map_err(|source| self.failed("adding positions to", source))?;
            element.set_metadata(&position.metadata);
        }
        let group = self.positions.group_metadata();
        if let Some(group) = group.filter(|_| !positions.is_empty()) {
            self.producer
                .inner
                .send_offsets_to_transaction(&list, &group, timeout)
                .map_err(|source| self.failed("adding positions to", source))?;
        }
        self.producer.inner.commit_transaction(timeout).map_err(|source| self.failed("committing", source))
    }

    /// Ends the transaction as if it had never been. Blocks.
    pub fn abort(&self, timeout: Duration) -> Result<(), Error> {
        self.producer.inner.abort_transaction(timeout).map_err(|source| self.failed("aborting", source))
    }

    fn failed(&self, doing: &'static str, source: KafkaError) -> Error {
        Error::Transaction { bootstrap: self.bootstrap.clone(), doing, source: Box::new(source) }
    }
}

fn config(settings: &Settings, transactions: &TransactionSettings) -> ClientConfig {
    let mut config = settings.producer();
    config
        .set("transactional.id", settings.access.full(&transactions.id))
        .set("transaction.timeout.ms", TRANSACTION_MS_MAX.to_string())
        .set("message.timeout.ms", RECORD_MS_MAX.to_string())
        .set("compression.codec", transactions.compression)
        .set("batch.size", transactions.batch_bytes.to_string())
        .set("message.max.bytes", RECORD_BYTES_MAX.to_string());
    if transactions.compression != "zstd" {
        config.remove("compression.level"); // the levels of the codecs have nothing in common
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    // every codec and size that a sink may ask for is one the library knows
    #[test]
    fn the_library_takes_these_settings() {
        for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let (id, group) = ("w".to_owned(), "w".to_owned());
            let transactions = TransactionSettings { id, group, compression, batch_bytes: 16 * 1024 };
            let settings = Settings::new("127.0.0.1:1", "test");
            TransactionalProducer::open(&settings, &transactions).expect(compression);
        }
    }
}
