//! Administration with librdkafka's admin client.

use rdkafka::admin::{AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::support::{PATIENCE, TestBroker, produce};

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_created_is_refused_with_its_reason() {
    let broker = TestBroker::start().await;
    broker.create_topic("there", 1, &[]).await;
    let admin = broker.admin();
    let wrong = [
        (NewTopic::new("there", 1, TopicReplication::Fixed(1)), RDKafkaErrorCode::TopicAlreadyExists),
        (NewTopic::new("a/b", 1, TopicReplication::Fixed(1)), RDKafkaErrorCode::InvalidTopic),
        (NewTopic::new("..", 1, TopicReplication::Fixed(1)), RDKafkaErrorCode::InvalidTopic),
        (NewTopic::new("many", 5_000, TopicReplication::Fixed(1)), RDKafkaErrorCode::InvalidPartitions),
        (NewTopic::new("copies", 1, TopicReplication::Fixed(3)), RDKafkaErrorCode::InvalidReplicationFactor),
        (NewTopic::new("odd", 1, TopicReplication::Fixed(1)).set("flush.ms", "1"), RDKafkaErrorCode::InvalidConfig),
    ];
    for (topic, expected) in wrong {
        let results = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
        let (_, code) = results[0].as_ref().unwrap_err();
        assert_eq!(*code, expected, "{}", topic.name);
    }
    let topic = NewTopic::new("only-checked", 1, TopicReplication::Fixed(1));
    admin.create_topics([&topic], &AdminOptions::new().validate_only(true)).await.unwrap()[0].as_ref().unwrap();
    let names = broker.consumer(&[]).fetch_metadata(None, PATIENCE).unwrap();
    assert!(names.topics().iter().all(|topic| topic.name() != "only-checked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_grow_and_their_settings_change() {
    let broker = TestBroker::start().await;
    broker.create_topic("grows", 1, &[("segment.bytes", "65536")]).await;
    let admin = broker.admin();
    let grown = admin.create_partitions(&[NewPartitions::new("grows", 3)], &AdminOptions::new()).await.unwrap();
    assert_eq!(grown, [Ok("grows".to_owned())]);
    let shrunk = admin.create_partitions(&[NewPartitions::new("grows", 2)], &AdminOptions::new()).await.unwrap();
    assert!(shrunk[0].is_err());
    let producer = broker.producer(&[]);
    assert_eq!(produce(&producer, "grows", 2, "x").await, 0);

    let change = AlterConfig::new(ResourceSpecifier::Topic("grows")).set("retention.ms", "1000");
    admin.alter_configs(&[change], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let described = admin.describe_configs(&[ResourceSpecifier::Topic("grows")], &AdminOptions::new()).await.unwrap();
    let entries = described[0].as_ref().unwrap().entry_map();
    assert_eq!(entries["retention.ms"].value.as_deref(), Some("1000"));
    assert_eq!(entries["segment.bytes"].value.as_deref(), Some("33554432"), "what is not named again has its default");
    assert_eq!(entries["max.message.bytes"].value.as_deref(), Some("1048588"));
    let wrong = AlterConfig::new(ResourceSpecifier::Topic("grows")).set("retention.ms", "soon");
    drop(admin.alter_configs(&[wrong], &AdminOptions::new()).await); // this client does not tell a refusal from success
    let described = admin.describe_configs(&[ResourceSpecifier::Topic("grows")], &AdminOptions::new()).await.unwrap();
    assert_eq!(described[0].as_ref().unwrap().entry_map()["retention.ms"].value.as_deref(), Some("1000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_up_to_an_offset() {
    let broker = TestBroker::start().await;
    broker.create_topic("trimmed", 1, &[]).await;
    let producer = broker.producer(&[]);
    for _ in 0..10 {
        produce(&producer, "trimmed", 0, "x").await;
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("trimmed", 0, Offset::Offset(6)).unwrap();
    let deleted = broker.admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
    assert_eq!(deleted.elements()[0].offset(), Offset::Offset(6));
    assert_eq!(broker.consumer(&[]).fetch_watermarks("trimmed", 0, PATIENCE).unwrap(), (6, 10));
    let seen = broker.read("trimmed", 0, Offset::Beginning, 4).await;
    assert_eq!(seen[0].offset, 6);
}
