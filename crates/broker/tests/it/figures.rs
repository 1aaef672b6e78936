//! Metrics: per API, per partition, per group, and not without bound.

use kafka_protocol::messages::*;

use crate::support::{TestBroker, produce};
use crate::wire::{Wire, text, topic};

/// The value of one row.
fn figure(context: &daemon::Context, name: &str, labels: &[&str]) -> Option<f64> {
    let all = context.metrics.encode().unwrap();
    let mut rows = all.lines().filter(|line| {
        line.split_once('{').is_some_and(|(row, rest)| row == name && labels.iter().all(|label| rest.contains(label)))
    });
    let value = rows.next()?.rsplit_once(' ')?.1.parse().unwrap();
    assert!(rows.next().is_none(), "{name} {labels:?} has more than one row");
    Some(value)
}

// STR-16
#[tokio::test(flavor = "multi_thread")]
async fn apis_partitions_and_groups_have_figures() {
    let (broker, context) = TestBroker::start_with_context(|_| ()).await;
    broker.create_topic("t", 2, &[]).await;
    let producer = broker.producer(&[]);
    for _ in 0..5 {
        produce(&producer, "t", 1, "0123456789").await;
    }
    let mut wire = Wire::connect(&broker).await;
    let part = offset_commit_request::OffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_offset(2)
        .with_committed_metadata(Some(text("")));
    let asked =
        offset_commit_request::OffsetCommitRequestTopic::default().with_name(topic("t")).with_partitions(vec![part]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![asked]);
    assert_eq!(wire.ask(8, &request).await.topics[0].partitions[0].error_code, 0);
    wire.ask(12, &MetadataRequest::default().with_topics(None)).await;

    let one = |name, labels: &[&str]| figure(&context, name, labels);
    let commits = ["api=\"offset_commit\""];
    assert_eq!(one("sf_broker_requests_total", &commits), Some(1.0));
    assert_eq!(one("sf_broker_request_seconds_count", &commits), Some(1.0));
    assert!(one("sf_broker_request_bytes_total", &commits).unwrap() > 20.0);
    assert!(one("sf_broker_response_bytes_total", &commits).unwrap() > 10.0);
    let partition = ["topic=\"t\"", "partition=\"1\""];
    assert_eq!(one("sf_broker_partition_start_offset", &partition), Some(0.0));
    assert_eq!(one("sf_broker_partition_end_offset", &partition), Some(5.0));
    assert!(one("sf_broker_partition_bytes", &partition).unwrap() > 50.0);
    assert!(one("sf_broker_partition_received_bytes_total", &partition).unwrap() > 50.0);
    assert_eq!(one("sf_broker_partition_sent_bytes_total", &partition), Some(0.0));
    assert_eq!(one("sf_broker_group_lag", &["group=\"g\"", "topic=\"t\""]), Some(3.0));
    broker.read("t", 1, rdkafka::Offset::Beginning, 5).await;
    assert!(one("sf_broker_partition_sent_bytes_total", &partition).unwrap() > 50.0);

    let options = rdkafka::admin::AdminOptions::new();
    broker.admin().delete_topics(&["t"], &options).await.unwrap();
    assert_eq!(one("sf_broker_partition_end_offset", &partition), None, "rows go with their partition");
    assert_eq!(one("sf_broker_rows_left_out", &[]), Some(0.0));
}
