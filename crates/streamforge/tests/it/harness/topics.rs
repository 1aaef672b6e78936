//! Reading whole topics, from their first record to the end they have now, decoded with the project's own codec.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use kafka::client::{Consumer, Position, Settings};
use stream::message::{dead_letter, telemetry};
use stream::topics::PARTITIONS;
use stream::{Topic, avro};
use tokio::time::Instant;

use super::Ledger;

/// How long the stream may be silent while records are still due.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// One record as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// Hands every record of a topic to `each`, in the order of each partition.
pub(crate) fn each_record(kafka: SocketAddr, topic: Topic, mut each: impl FnMut(&kafka::client::Record<'_>)) {
    let consumer = Consumer::open(&Settings::new(&kafka.to_string(), "sf-e2e"), "sf-e2e").expect("a consumer");
    let names = [(topic.name(), PARTITIONS)];
    let starts = super::wait_for("the stream tells its starts", SILENCE_MAX, || {
        consumer.starts(&names).map_err(|error| daemon::report(&error))
    });
    let ends = consumer.ends(&names).expect("the stream tells its ends");
    let end_of: HashMap<i32, i64> = ends.iter().map(|end| (end.partition, end.offset)).collect();
    let due: Vec<Position> = starts.into_iter().filter(|start| start.offset < end_of[&start.partition]).collect();
    if due.is_empty() {
        return;
    }
    consumer.assign(&due).expect("partitions are assigned");
    let mut next: BTreeMap<i32, i64> = due.iter().map(|start| (start.partition, start.offset)).collect();
    let mut heard = Instant::now();
    while next.iter().any(|(partition, next)| *next < end_of[partition]) {
        let count = consumer.poll(10_000, Duration::from_millis(200), Duration::ZERO, |record| {
            let next = next.get_mut(&record.partition()).expect("an assigned partition");
            assert!(record.offset() >= *next, "{} offset {} came again", topic.name(), record.offset());
            *next = record.offset() + 1;
            if record.offset() < end_of[&record.partition()] {
                each(&record);
            }
        });
        if count.expect("the stream is read") > 0 {
            heard = Instant::now();
        }
        assert!(heard.elapsed() < SILENCE_MAX, "{} went silent at {next:?}, its ends are {end_of:?}", topic.name());
    }
}

/// All records of a topic.
pub(crate) fn read_all(kafka: SocketAddr, topic: Topic) -> Vec<Stored> {
    let mut records = Vec::new();
    each_record(kafka, topic, |record| {
        records.push(Stored {
            partition: record.partition(),
            offset: record.offset(),
            timestamp_ms: record.timestamp_ms(),
            key: record.key().to_vec(),
            payload: record.payload().expect("no tombstones in data topics").to_vec(),
        });
    });
    records
}

/// Which readings the topics hold. Dead letters count as the reading they carry. Panics when readings of an asset are
/// not in the order of their adapter (REC-13).
pub(crate) fn telemetry_ledger(kafka: SocketAddr, topics: &[Topic]) -> Ledger {
    let mut ledger = Ledger::default();
    for topic in topics {
        let mut last: HashMap<(String, String, String), (i64, i64)> = HashMap::new();
        let mut disorder = Vec::new();
        let mut repeated = 0_usize;
        each_record(kafka, *topic, |record| {
            let payload = record.payload().expect("no tombstones in data topics");
            let (_, mut body) = avro::unframe(payload).expect("framed");
            if *topic == Topic::DlqTelemetry {
                let letter = dead_letter::decode(body).expect("a dead letter");
                (_, body) = avro::unframe(letter.payload).expect("framed");
            }
            let reading = telemetry::decode(body).expect("a reading");
            let adapter = reading.metadata.get("adapter_id").expect("an adapter");
            ledger.add(adapter, reading.epoch, reading.seq);
            let place = (reading.epoch, reading.seq);
            let key = (adapter.to_owned(), reading.asset_id.to_owned(), reading.parameter.to_owned());
            match last.get(&key) {
                Some(before) if *before == place => repeated += 1,
                Some(before) if *before > place => disorder.push(format!("{key:?}: {place:?} after {before:?}")),
                _ => {}
            }
            last.insert(key, place);
        });
        assert!(
            disorder.is_empty(),
            "{} has {} records out of order: {:#?}",
            topic.name(),
            disorder.len(),
            &disorder[..disorder.len().min(8)]
        );
        if repeated > 0 {
            super::say(&format!("{} holds {repeated} records twice in a row", topic.name()));
        }
    }
    ledger
}
