//! The broker goes down and comes back while clients go on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::consumer::Consumer;
use rdkafka::producer::FutureRecord;
use rdkafka::topic_partition_list::Offset;

use crate::support::{PATIENCE, TestBroker, eventually, produce};

// I1, I2, F1: what was acknowledged is there once, whatever happened in between
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_doubled_by_restarts_in_the_middle() {
    let mut broker = TestBroker::start().await;
    broker.create_topic("through", 1, &[]).await;
    let producer = broker.producer(&[
        ("message.timeout.ms", "30000"),
        ("retry.backoff.ms", "50"),
        ("reconnect.backoff.max.ms", "200"),
    ]);
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(std::sync::Mutex::new(Vec::new()));
    let task = {
        let (stop, acknowledged, producer) = (Arc::clone(&stop), Arc::clone(&acknowledged), producer.clone());
        async move {
            let mut number = 0;
            while !stop.load(Ordering::SeqCst) {
                let payload = number.to_string();
                let record: FutureRecord<'_, str, str> =
                    FutureRecord::to("through").partition(0).payload(payload.as_str());
                producer.send(record, PATIENCE).await.unwrap();
                acknowledged.lock().unwrap().push(payload);
                number += 1;
            }
        }
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(task);
    for round in 1..=4 {
        eventually("records go on", async || acknowledged.lock().unwrap().len() > round * 30).await;
        if round % 2 == 0 {
            broker.restart().await;
        } else {
            broker.crash_and_restart().await;
        }
    }
    let before = acknowledged.lock().unwrap().len();
    eventually("records go on", async || acknowledged.lock().unwrap().len() > before + 10).await;
    stop.store(true, Ordering::SeqCst);
    tasks.join_all().await;
    let sent = acknowledged.lock().unwrap().clone();
    let seen = broker.read("through", 0, Offset::Beginning, sent.len()).await;
    let payloads: Vec<String> = seen.iter().map(|record| record.payload.clone()).collect();
    assert_eq!(payloads, sent);
    let end = broker.consumer(&[]).fetch_watermarks("through", 0, PATIENCE).unwrap().1;
    assert_eq!(usize::try_from(end).unwrap(), sent.len(), "an idempotent producer leaves no doubles");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_settings_and_ids_survive_and_deleted_topics_stay_away() {
    use rdkafka::admin::{AdminOptions, ConfigSource, ResourceSpecifier};
    let mut broker = TestBroker::start().await;
    broker.create_topic("stays", 3, &[("retention.ms", "86400000")]).await;
    broker.create_topic("goes", 2, &[]).await;
    let producer = broker.producer(&[]);
    assert_eq!(produce(&producer, "stays", 2, "x").await, 0);
    let results = broker.admin().delete_topics(&["goes"], &AdminOptions::new()).await.unwrap();
    assert_eq!(results, [Ok("goes".to_owned())]);
    broker.restart().await;
    let metadata = broker.consumer(&[]).fetch_metadata(None, PATIENCE).unwrap();
    let names: BTreeSet<&str> = metadata.topics().iter().map(rdkafka::metadata::MetadataTopic::name).collect();
    assert_eq!(names, BTreeSet::from(["__consumer_offsets", "__transaction_state", "_schemas", "stays"]));
    let described =
        broker.admin().describe_configs(&[ResourceSpecifier::Topic("stays")], &AdminOptions::new()).await.unwrap();
    let entry = described[0].as_ref().unwrap().entry_map()["retention.ms"];
    assert_eq!((entry.value.as_deref(), &entry.source), (Some("86400000"), &ConfigSource::DynamicTopic));
    assert!(std::fs::read_dir(broker.dir().join("trash")).unwrap().next().is_none(), "deleted files are gone");
    assert_eq!(produce(&broker.producer(&[]), "stays", 2, "y").await, 1);
}

// OFF-31: a folder has one owner
#[tokio::test(flavor = "multi_thread")]
async fn the_address_file_says_where_the_broker_is() {
    let broker = TestBroker::start().await;
    let text = std::fs::read_to_string(broker.dir().join("broker.addr")).unwrap();
    assert!(text.contains(&broker.address()), "{text}");
    assert!(text.contains(&broker.handle().registry().to_string()), "{text}");
}
