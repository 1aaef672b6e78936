//! Incremental fetch sessions (KIP-227), message by message.

use commitlog::batch::Builder;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::*;
use uuid::Uuid;

use crate::support::TestBroker;
use crate::wire::{Wire, topic};

const NOT_FOUND: i16 = 70;
const WRONG_EPOCH: i16 = 71;
const MIXED_IDS: i16 = 106;
const UNKNOWN_TOPIC: i16 = 3;

/// A session as its client sees it.
struct Session {
    id: i32,
    epoch: i32,
}

fn partition(index: i32, offset: i64) -> FetchPartition {
    FetchPartition::default().with_partition(index).with_fetch_offset(offset).with_partition_max_bytes(1 << 20)
}

fn named(name: &str, partitions: Vec<FetchPartition>) -> Vec<FetchTopic> {
    vec![FetchTopic::default().with_topic(topic(name)).with_partitions(partitions)]
}

/// A fetch that does not wait.
fn request(id: i32, epoch: i32, topics: Vec<FetchTopic>) -> FetchRequest {
    FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_id(id)
        .with_session_epoch(epoch)
        .with_topics(topics)
}

/// Partition, error, high watermark and whether there are records, of every partition in an answer.
fn contents(response: &FetchResponse) -> Vec<(i32, i16, i64, bool)> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let row = |partition: &fetch_response::PartitionData| {
        let records = partition.records.as_ref().is_some_and(|records| !records.is_empty());
        (partition.partition_index, partition.error_code, partition.high_watermark, records)
    };
    partitions.map(row).collect()
}

fn batch(count: usize) -> Vec<u8> {
    (0..count).fold(Builder::new(1_000), |batch, _| batch.record(1_000, b"x")).build()
}

impl Session {
    async fn new(wire: &mut Wire, topics: Vec<FetchTopic>) -> (Self, FetchResponse) {
        let response = wire.ask(12, &request(0, 0, topics)).await;
        assert_ne!(response.session_id, 0);
        (Self { id: response.session_id, epoch: 1 }, response)
    }

    async fn next(&mut self, wire: &mut Wire, topics: Vec<FetchTopic>) -> FetchResponse {
        let response = wire.ask(12, &request(self.id, self.epoch, topics)).await;
        assert_eq!((response.error_code, response.session_id), (0, self.id));
        self.epoch += 1;
        response
    }
}

// STR-11: an incremental answer holds what changed and nothing else
#[tokio::test(flavor = "multi_thread")]
async fn unchanged_partitions_are_left_out() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 3, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    let all = (0..3).map(|index| partition(index, 0)).collect();
    let (mut session, first) = Session::new(&mut wire, named("t", all)).await;
    assert_eq!(contents(&first), [(0, 0, 0, false), (1, 0, 0, false), (2, 0, 0, false)]);
    assert!(session.next(&mut wire, vec![]).await.responses.is_empty());

    assert_eq!(wire.produce("t", 1, batch(2)).await, (0, 0));
    let grown = session.next(&mut wire, vec![]).await;
    assert_eq!(contents(&grown), [(1, 0, 2, true)]);
    let moved = session.next(&mut wire, named("t", vec![partition(1, 2)])).await;
    assert!(moved.responses.is_empty(), "{moved:?}");

    // another connection goes on with it
    let mut other = Wire::connect(&broker).await;
    assert_eq!(other.produce("t", 2, batch(1)).await, (0, 0));
    assert_eq!(contents(&session.next(&mut other, vec![]).await), [(2, 0, 1, true)]);

    // what is forgotten is not told any more
    let forgotten = ForgottenTopic::default().with_topic(topic("t")).with_partitions(vec![1, 2]);
    let shrink = request(session.id, session.epoch, vec![]).with_forgotten_topics_data(vec![forgotten]);
    assert!(wire.ask(12, &shrink).await.responses.is_empty());
    session.epoch += 1;
    wire.produce("t", 1, batch(1)).await;
    wire.produce("t", 0, batch(1)).await;
    assert_eq!(contents(&session.next(&mut wire, vec![]).await), [(0, 0, 1, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_and_ids_are_checked() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    let one = || named("t", vec![partition(0, 0)]);
    let (mut session, _) = Session::new(&mut wire, one()).await;
    assert_eq!(wire.ask(12, &request(session.id, 7, vec![])).await.error_code, WRONG_EPOCH);
    assert_eq!(wire.ask(12, &request(session.id ^ 1, 1, vec![])).await.error_code, NOT_FOUND);
    assert_eq!(wire.ask(13, &request(session.id, 1, vec![])).await.error_code, MIXED_IDS);
    session.next(&mut wire, vec![]).await;
    assert_eq!(wire.ask(12, &request(session.id, 1, vec![])).await.error_code, WRONG_EPOCH, "an epoch is used once");

    // a full fetch that names the session replaces it, one with epoch -1 ends it
    let replaced = wire.ask(12, &request(session.id, 0, one())).await;
    assert_ne!(replaced.session_id, session.id);
    assert_eq!(wire.ask(12, &request(session.id, 2, vec![])).await.error_code, NOT_FOUND);
    let ended = wire.ask(12, &request(replaced.session_id, -1, one())).await;
    assert_eq!((ended.session_id, contents(&ended).len()), (0, 1));
    assert_eq!(wire.ask(12, &request(replaced.session_id, 1, vec![])).await.error_code, NOT_FOUND);

    // without partitions there is no session
    assert_eq!(wire.ask(12, &request(0, 0, vec![])).await.session_id, 0);
    let (session, _) = Session::new(&mut wire, one()).await;
    let forgotten = ForgottenTopic::default().with_topic(topic("t")).with_partitions(vec![0]);
    let empty = request(session.id, 1, vec![]).with_forgotten_topics_data(vec![forgotten]);
    assert_eq!(wire.ask(12, &empty).await.session_id, 0);
    assert_eq!(wire.ask(12, &request(session.id, 2, vec![])).await.error_code, NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_come_and_go_within_a_session() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    let (mut session, first) = Session::new(&mut wire, named("t", vec![partition(0, 0), partition(1, 0)])).await;
    assert_eq!(contents(&first), [(0, 0, 0, false), (1, UNKNOWN_TOPIC, -1, false)]);
    assert_eq!(
        contents(&session.next(&mut wire, vec![]).await),
        [(1, UNKNOWN_TOPIC, -1, false)],
        "errors are repeated"
    );
    let admin = broker.admin();
    let options = rdkafka::admin::AdminOptions::new();
    admin.create_partitions(&[rdkafka::admin::NewPartitions::new("t", 2)], &options).await.unwrap();
    assert_eq!(contents(&session.next(&mut wire, vec![]).await), [(1, 0, 0, false)]);
    assert!(session.next(&mut wire, vec![]).await.responses.is_empty());

    admin.delete_topics(&["t"], &options).await.unwrap();
    let mut gone = contents(&session.next(&mut wire, vec![]).await);
    gone.sort_unstable();
    assert_eq!(gone, [(0, UNKNOWN_TOPIC, -1, false), (1, UNKNOWN_TOPIC, -1, false)]);
    broker.create_topic("t", 2, &[]).await;
    assert_eq!(contents(&session.next(&mut wire, vec![]).await).len(), 2, "a topic of the same name is found again");
    assert_eq!(wire.produce("t", 0, batch(1)).await, (0, 0));
    assert_eq!(contents(&session.next(&mut wire, vec![]).await), [(0, 0, 1, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_ids_name_the_partitions_of_a_session() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    let metadata = wire.ask(12, &MetadataRequest::default().with_topics(None)).await;
    let id = metadata.topics.iter().find(|found| found.name == Some(topic("t"))).unwrap().topic_id;
    let by_id = |id| vec![FetchTopic::default().with_topic_id(id).with_partitions(vec![partition(0, 0)])];
    let both: Vec<FetchTopic> = [by_id(id), by_id(Uuid::from_u128(1))].concat();
    let first = wire.ask(16, &request(0, 0, both)).await;
    assert_eq!(contents(&first), [(0, 0, 0, false), (0, 100, -1, false)], "UNKNOWN_TOPIC_ID");
    let forgotten = ForgottenTopic::default().with_topic_id(Uuid::from_u128(1)).with_partitions(vec![0]);
    let next = request(first.session_id, 1, vec![]).with_forgotten_topics_data(vec![forgotten]);
    assert!(wire.ask(16, &next).await.responses.is_empty());
    wire.produce("t", 0, batch(1)).await;
    let grown = wire.ask(16, &request(first.session_id, 2, vec![])).await;
    assert_eq!((grown.responses[0].topic_id, contents(&grown)), (id, vec![(0, 0, 1, true)]));
}

// STR-08: a waiting incremental fetch is woken by a partition that it did not name
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_is_woken_and_an_overtaken_one_ends() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    let (mut wire, mut other) = (Wire::connect(&broker).await, Wire::connect(&broker).await);
    let (session, _) = Session::new(&mut wire, named("t", vec![partition(0, 0), partition(1, 0)])).await;
    wire.send(12, &request(session.id, 1, vec![]).with_max_wait_ms(600_000)).await;
    // the fetch with the next epoch goes on once the first has begun
    let overtaking = request(session.id, 2, vec![]);
    crate::support::eventually("the first fetch has begun", async || other.ask(12, &overtaking).await.error_code == 0)
        .await;
    assert_eq!(wire.receive::<FetchRequest>(12).await.error_code, WRONG_EPOCH);
    wire.send(12, &request(session.id, 3, vec![]).with_max_wait_ms(600_000)).await;
    other.produce("t", 1, batch(1)).await;
    assert_eq!(contents(&wire.receive::<FetchRequest>(12).await), [(1, 0, 1, true)]);
}

// STR-13: beyond the limit a client is served without a session
#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_a_session_everything_is_answered() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    let one = || named("t", vec![partition(0, 0)]);
    for _ in 0..1_000 {
        Session::new(&mut wire, one()).await;
    }
    let refused = wire.ask(12, &request(0, 0, one())).await;
    assert_eq!((refused.error_code, refused.session_id, contents(&refused).len()), (0, 0, 1));
    // the wait and the wake work all the same
    let mut other = Wire::connect(&broker).await;
    wire.send(12, &request(0, 0, one()).with_max_wait_ms(600_000)).await;
    other.produce("t", 0, batch(1)).await;
    assert_eq!(contents(&wire.receive::<FetchRequest>(12).await), [(0, 0, 1, true)]);
}

// STR-16
#[tokio::test(flavor = "multi_thread")]
async fn many_idle_partitions_stay_out_of_the_answers() {
    let broker = TestBroker::start().await;
    broker.create_topic("wide", 300, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    let all = (0..300).map(|index| partition(index, 0)).collect();
    let (mut session, first) = Session::new(&mut wire, named("wide", all)).await;
    assert_eq!((contents(&first).len(), first.responses.len()), (300, 1));
    for round in 0..20_i64 {
        let index = i32::try_from(round * 7).unwrap();
        wire.produce("wide", index, batch(1)).await;
        assert_eq!(contents(&session.next(&mut wire, vec![]).await), [(index, 0, 1, true)]);
        assert!(session.next(&mut wire, named("wide", vec![partition(index, 1)])).await.responses.is_empty());
    }
}
