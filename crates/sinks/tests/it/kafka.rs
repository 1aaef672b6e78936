//! Replication to another cluster: its ids, its outages, and what it refuses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use broker::{Broker, Handle, Settings as BrokerSettings};
use daemon::Context;
use kafka::client::admin::{TopicPlan, create_topics};
use kafka::client::{Consumer, Position, Producer, Settings};
use serde_json::json;
use sinks::batch::Batch;
use sinks::error::TargetError;
use sinks::kafka::{KafkaSink, config};
use sinks::sink::{Outcome, Resume, Sink};
use stream::message::telemetry;
use stream::{Connection, Schemas, Topic};
use tokio::time::Instant;

use crate::conformance::{self, Bench};
use crate::stream::Stream;
use crate::support::{DEADLINE, MemoryLetters, MemoryStream, Running, eventually, payload, publish, reading};

const TOPICS: [Topic; 1] = [Topic::TelemetryClean];
/// The payload of a record that is put behind all others, to know where they end.
const END: &[u8] = b"end of the test's look";

/// A record as it lies at the target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) partition: i32,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl Found {
    /// Schema id and `seq` of a reading.
    fn reading(&self) -> (i32, i64) {
        let (id, body) = stream::avro::unframe(&self.payload).unwrap();
        (id, telemetry::decode(body).unwrap().seq)
    }
}

/// A customer's cluster whose registry has given ids to other schemas before ours came.
pub(crate) struct Customer {
    handle: Option<Handle>,
    data: tempfile::TempDir,
    kafka: SocketAddr,
    registry: SocketAddr,
}

impl Customer {
    pub(crate) async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let handle = serve(BrokerSettings::on_free_ports(data.path())).await;
        let (kafka, registry) = (handle.kafka(), handle.registry());
        let customer = Self { handle: Some(handle), data, kafka, registry };
        for name in ["Order", "Invoice", "Shipment"] {
            let text = json!({ "type": "record", "name": name, "fields": [{ "name": "number", "type": "long" }] });
            customer.schemas().register_text(&format!("{name}-value"), &text.to_string()).await.unwrap();
        }
        customer
    }

    pub(crate) fn schemas(&self) -> Schemas {
        Schemas::new(&self.registry_url(), None)
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.kafka.to_string()
    }

    pub(crate) fn registry_url(&self) -> String {
        format!("http://{}", self.registry)
    }

    async fn stop(&mut self) {
        self.handle.take().unwrap().stop().await;
    }

    /// Again where it was.
    async fn start_again(&mut self) {
        let mut settings = BrokerSettings::on_free_ports(self.data.path());
        (settings.listen, settings.registry_listen) = (self.kafka, self.registry);
        self.handle = Some(serve(settings).await);
    }

    fn settings(&self) -> Settings {
        Settings::new(&self.bootstrap(), "customer")
    }

    /// Everything that is committed on a topic: reads up to a record that is put behind it.
    pub(crate) fn read(&self, topic: &str) -> Vec<Found> {
        let consumer = Consumer::open(&self.settings(), "customer").unwrap();
        let Some(partitions) = consumer.topics().unwrap().into_iter().find(|(name, _)| name == topic) else {
            return Vec::new();
        };
        let partitions = partitions.1;
        let producer = Producer::open(&self.settings()).unwrap();
        let batch = producer.batch();
        for partition in 0..partitions {
            batch.send(topic, partition, b"", END, 0, &[]).unwrap();
        }
        assert!(batch.finish().wait(DEADLINE).unwrap());
        let ends = consumer.ends(&[(topic, partitions)]).unwrap();
        let place = |partition| Position { topic: topic.to_owned(), partition, offset: 0, metadata: String::new() };
        consumer.assign(&(0..partitions).map(place).collect::<Vec<_>>()).unwrap();
        let (mut found, mut seen) = (Vec::new(), 0);
        let begin = Instant::now();
        while seen < partitions {
            assert!(begin.elapsed() < DEADLINE, "{topic} cannot be read to its end, an open transaction is in the way");
            consumer
                .poll(1000, Duration::from_millis(200), Duration::ZERO, |record| {
                    let payload = record.payload().unwrap_or_default().to_vec();
                    if payload == END {
                        let own = ends
                            .iter()
                            .any(|end| end.partition == record.partition() && end.offset == record.offset() + 1);
                        seen += i32::from(own);
                        return;
                    }
                    found.push(Found {
                        partition: record.partition(),
                        timestamp_ms: record.timestamp_ms(),
                        key: record.key().to_vec(),
                        payload,
                        headers: record.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
                    });
                })
                .unwrap();
        }
        found
    }

    fn seqs(&self, topic: &str) -> Vec<i64> {
        let mut seqs: Vec<i64> = self.read(topic).iter().map(|found| found.reading().1).collect();
        seqs.sort_unstable();
        seqs
    }

    /// A sink that writes here, as a fresh process would make it.
    fn sink(&self, prefix: &str) -> KafkaSink {
        let settings = json!({
            "sink_id": "hq", "sink_type": "kafka", "bootstrap": self.bootstrap(), "registry_url": self.registry_url(),
            "topic_prefix": prefix, "topics": ["telemetry.clean"],
        });
        KafkaSink::new(config::plan(&settings, "").unwrap(), Connection::default(), "gw-1", None)
    }
}

async fn serve(settings: BrokerSettings) -> Handle {
    Broker::start(settings, &Context::new("customer", "customer")).await.unwrap()
}

// AC-064, REC-06, F20: through a real stream, over a restart, to a registry with other ids; what is no record of its
// topic stays here
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_read_at_a_registry_with_other_ids() {
    let (stream, customer) = (Stream::start().await, Customer::start().await);
    let settings = json!({
        "sink_id": "hq", "sink_type": "kafka", "bootstrap": customer.bootstrap(),
        "registry_url": customer.registry_url(), "topic_prefix": "plant7.", "compression": "gzip",
    });
    stream.publish(0..500);
    stream.publish_poison(b"not avro");
    let mut foreign = payload(&reading(1));
    foreign[1..5].copy_from_slice(&stream.event_schema_id.to_be_bytes());
    stream.publish_poison(&foreign);
    let process = stream.sink(settings.clone());
    eventually("delivery", || process.health()["written_records"] == 500 && process.health()["lag_records"] == 0);
    eventually("the dead letters", || process.health()["dead_letters"] == 2);
    assert_eq!(process.health()["transactional_id"], "plant7.sf-sink/gw-1/hq");
    process.stop().await;
    stream.publish(500..700);
    let process = stream.sink(settings);
    eventually("reading on", || process.health()["written_records"] == 200);
    process.stop().await;

    let found = customer.read("plant7.telemetry.clean");
    assert_eq!(found.len(), 700);
    let schemas = customer.schemas();
    let (given, text) = schemas.latest("plant7.telemetry.clean-value").await.unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), contract());
    assert_ne!(given, stream.schema_id, "the test needs ids that differ");
    for partition in 0..12 {
        let lane: Vec<&Found> = found.iter().filter(|found| found.partition == partition).collect();
        let seqs: Vec<i64> = lane.iter().map(|found| found.reading().1).collect();
        let sent: Vec<i64> = (0..700).filter(|seq| seq % 12 == i64::from(partition)).collect();
        assert_eq!(seqs, sent, "order and number in partition {partition}");
        for found in lane {
            let (id, seq) = found.reading();
            assert_eq!((id, found.key.as_slice()), (given, &b"press_1"[..]));
            assert_eq!(schemas.by_id(id).await.unwrap(), Topic::TelemetryClean.schema());
            assert_eq!(found.timestamp_ms, reading(seq).gateway_time.as_millis());
            assert_eq!(found.headers, [("sf-quality".to_owned(), b"GOOD".to_vec())]);
            assert_eq!(found.payload[5..], payload(&reading(seq))[5..], "nothing but the id is another");
        }
    }
    // copying the bytes as they are would have said something else there
    assert!(matches!(schemas.by_id(stream.schema_id).await, Err(stream::schemas::Error::Foreign { .. })));
    stream.handle.stop().await;
}

fn contract() -> serde_json::Value {
    serde_json::from_str(Topic::TelemetryClean.schema().text()).unwrap()
}

/// A place at a customer's for each law.
struct Place {
    customer: Arc<Customer>,
    round: AtomicU32,
}

impl Place {
    fn prefix(&self) -> String {
        format!("plant{}.", self.round.load(Ordering::Relaxed))
    }
}

impl Bench for Place {
    type Sink = KafkaSink;

    fn sink(&self) -> KafkaSink {
        self.customer.sink(&self.prefix())
    }

    fn seqs(&self) -> Vec<i64> {
        self.customer.seqs(&format!("{}telemetry.clean", self.prefix()))
    }

    fn clear(&mut self) {
        self.round.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_laws_of_a_sink() {
    let customer = Arc::new(Customer::start().await);
    conformance::all(&mut Place { customer: Arc::clone(&customer), round: AtomicU32::new(0) }).await;
}

async fn taken(sink: &mut KafkaSink, batch: &Batch) {
    match sink.write(batch).await.unwrap() {
        Outcome::Taken { confirmed } => assert_eq!(confirmed, batch.ends()),
        Outcome::Refused(refusals) => panic!("refused: {refusals:?}"),
    }
}

// REC-06, REC-10: another number of partitions places by key, and order holds
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_other_partitions_keeps_the_order_of_each_key() {
    let customer = Customer::start().await;
    let plan = TopicPlan { name: "telemetry.clean".to_owned(), partitions: 5, config: Vec::new() };
    create_topics(&customer.settings(), &[plan]).await.unwrap();
    let mut stream = MemoryStream::default();
    for seq in 0..50 {
        stream.append(Topic::TelemetryClean, 11, payload(&reading(seq)));
    }
    let mut sink = customer.sink("");
    let resume = sink.connect(&TOPICS).await.unwrap();
    taken(&mut sink, &stream.batch_from(&resume)).await;
    let found = customer.read("telemetry.clean");
    let place = stream::partitioner::partition_for(b"press_1", 5);
    assert!(found.iter().all(|found| found.partition == place && found.key == b"press_1"));
    assert_eq!(found.iter().map(|found| found.reading().1).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    // and it is known how far partition 11 got, though the target has none of that number
    let resume = customer.sink("").connect(&TOPICS).await.unwrap();
    let Resume::AtOrCommitted(places) = resume else { panic!("{resume:?}") };
    assert_eq!(places.iter().map(|at| (at.partition, at.offset)).collect::<Vec<_>>(), [(11, 50)]);
}

// Law 3: two processes of one sink, the elder comes back from a long sleep
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_elder_process_writes_nothing_and_stops() {
    let customer = Customer::start().await;
    let mut stream = MemoryStream::default();
    publish(&stream, 0..10);
    let (mut elder, mut younger) = (customer.sink(""), customer.sink(""));
    let resume = elder.connect(&TOPICS).await.unwrap();
    let asleep_over = stream.batch_from(&resume);
    let resume = younger.connect(&TOPICS).await.unwrap();
    taken(&mut younger, &stream.batch_from(&resume)).await;
    let error = elder.write(&asleep_over).await.unwrap_err();
    assert!(matches!(error, TargetError::Failed { .. }), "{error:?}");
    let error = elder.connect(&TOPICS).await.unwrap_err();
    assert!(matches!(error, TargetError::Fenced { .. }), "{error:?}");
    assert_eq!(customer.seqs("telemetry.clean"), (0..10).collect::<Vec<_>>());
}

// R-09, law 4: what the target's brokers refuse alone is refused, and nothing else is
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_too_large_for_the_target_is_found_among_the_others() {
    let customer = Customer::start().await;
    let config = vec![("max.message.bytes".to_owned(), "20000".to_owned())];
    let plan = TopicPlan { name: "telemetry.clean".to_owned(), partitions: 12, config };
    create_topics(&customer.settings(), &[plan]).await.unwrap();
    let stream = MemoryStream::default();
    publish(&stream, 0..400); // together far more than the topic takes at a time
    let mut state = 1_u32;
    let mut noise = String::new(); // which no codec makes much smaller
    while noise.len() < 60_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.push(char::from(b'!' + u8::try_from((state >> 16) % 89).unwrap()));
    }
    let large =
        model::Reading { value: model::Value::Text(&noise), value_type: model::ValueType::String, ..reading(1000) };
    let large = stream.append(Topic::TelemetryClean, 1, payload(&large));
    publish(&stream, 400..420);
    let letters = MemoryLetters::default();
    let running = Running::start(customer.sink(""), stream.clone(), letters.clone());
    eventually("burying", || letters.all().len() == 1);
    eventually("delivery", || running.health()["lag_records"] == 0 && running.health()["written_records"] == 420);
    assert_eq!(running.health()["breaker_state"], "closed");
    running.stop().unwrap();
    let (place, _, refusal) = letters.all().remove(0);
    assert_eq!((place.partition, place.offset, refusal.reason), (1, large, "TARGET_REFUSED"));
    assert_eq!(customer.seqs("telemetry.clean"), (0..420).collect::<Vec<_>>());
}

// R-09, law 4: a registry that is away, and one that refuses a contract, condemn no record
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_gives_no_id_is_an_outage() {
    let customer = Customer::start().await;
    let other = json!({ "type": "record", "name": "Order", "fields": [{ "name": "number", "type": "long" }] });
    customer.schemas().register_text("taken.telemetry.clean-value", &other.to_string()).await.unwrap();
    let error = customer.sink("taken.").connect(&TOPICS).await.unwrap_err();
    let text = daemon::report(&error);
    assert!(matches!(error, TargetError::Failed { .. }) && text.contains("409"), "{text}");
    assert!(text.contains("taken.telemetry.clean-value"), "it says which subject: {text}");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = json!({
        "sink_id": "hq", "sink_type": "kafka", "bootstrap": customer.bootstrap(),
        "registry_url": format!("http://{nobody}"), "topics": ["telemetry.clean"],
    });
    let plan = config::plan(&settings, "").unwrap();
    let stream = MemoryStream::default();
    publish(&stream, 0..10);
    let letters = MemoryLetters::default();
    let sink = KafkaSink::new(plan, Connection::default(), "gw-1", None);
    let running = Running::start(sink, stream, letters.clone());
    eventually("the breaker opens", || running.health()["breaker_state"] == "open");
    let reason = running.health()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains(&nobody.to_string()), "{reason}");
    running.stop().unwrap();
    assert_eq!((letters.all().len(), customer.read("telemetry.clean").len()), (0, 0));
}

// OFF-13, R-09: the target goes away and comes back while records flow; a registry that is away condemns nothing
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_target_loses_nothing_and_repeats_nothing() {
    let mut customer = Customer::start().await;
    let stream = MemoryStream::default();
    let letters = MemoryLetters::default();
    let running = Running::start(customer.sink("plant7."), stream.clone(), letters.clone());
    let mut next = 0;
    for _ in 0..2 {
        publish(&stream, next..next + 300);
        eventually("delivery before the outage", || running.health()["written_records"].as_i64() >= Some(next + 100));
        publish(&stream, next + 300..next + 600); // on their way when it ends
        customer.stop().await;
        publish(&stream, next + 600..next + 900);
        eventually("the outage is felt", || running.health()["status"] != "healthy");
        customer.start_again().await;
        next += 900;
        eventually("delivery after the outage", || running.health()["written_records"] == next);
        eventually("health", || running.health()["status"] == "healthy");
    }
    running.stop().unwrap();
    assert_eq!(letters.all().len(), 0, "an outage is no refusal");
    assert_eq!(customer.seqs("plant7.telemetry.clean"), (0..1800).collect::<Vec<_>>());
}
