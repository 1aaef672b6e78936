//! What admin tools ask that librdkafka has no call for, message by message: the Java client's, and through it those of
//! kafbat, Redpanda Console and Kafka's own scripts.

use commitlog::batch::Builder;
use kafka_protocol::messages::*;

use crate::support::{TestBroker, produce};
use crate::wire::{Wire, text, topic};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const INVALID_TOPIC: i16 = 17;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_CONFIG: i16 = 40;
const UNKNOWN_TOPIC: i16 = 3;
const UNSUPPORTED_VERSION: i16 = 35;
const ELECTION_NOT_NEEDED: i16 = 84;

/// Topics with their number of partitions, and where to go on.
type Page = (Vec<(String, usize)>, Option<(String, i32)>);

fn page(answer: &DescribeTopicPartitionsResponse) -> Page {
    let topics = answer.topics.iter().map(|topic| (topic.name.as_ref().unwrap().to_string(), topic.partitions.len()));
    let cursor = answer.next_cursor.as_ref();
    (topics.collect(), cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index)))
}

// STR-11: all partitions come, page by page, each once
#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_described_page_by_page() {
    let broker = TestBroker::start().await;
    broker.create_topic("a", 5, &[]).await;
    broker.create_topic("b", 2, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    let names = |names: &[&str]| -> Vec<describe_topic_partitions_request::TopicRequest> {
        names
            .iter()
            .map(|name| describe_topic_partitions_request::TopicRequest::default().with_name(topic(name)))
            .collect()
    };
    let mut request = DescribeTopicPartitionsRequest::default()
        .with_topics(names(&["b", "a", "nope", "a/b"]))
        .with_response_partition_limit(3);
    let first = wire.ask(0, &request).await;
    assert_eq!(page(&first), (vec![("a".to_owned(), 3)], Some(("a".to_owned(), 3))));
    let seen = &first.topics[0].partitions[2];
    assert_eq!((seen.partition_index, seen.leader_id.0, seen.isr_nodes.len()), (2, 1, 1));
    let cursor = first.next_cursor.unwrap();
    request.cursor = Some(
        describe_topic_partitions_request::Cursor::default()
            .with_topic_name(cursor.topic_name)
            .with_partition_index(cursor.partition_index),
    );
    let second = wire.ask(0, &request).await;
    let expected = vec![("a".to_owned(), 2), ("a/b".to_owned(), 0), ("b".to_owned(), 1)];
    assert_eq!(page(&second), (expected, Some(("b".to_owned(), 1))));
    assert_eq!(second.topics[0].partitions[0].partition_index, 3);
    assert_eq!(second.topics[1].error_code, INVALID_TOPIC);
    request.cursor =
        Some(describe_topic_partitions_request::Cursor::default().with_topic_name(topic("b")).with_partition_index(1));
    let last = wire.ask(0, &request).await;
    assert_eq!(page(&last), (vec![("b".to_owned(), 1), ("nope".to_owned(), 0)], None));
    assert_eq!(last.topics[1].error_code, UNKNOWN_TOPIC);
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotent_producers_are_described() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    let producer = broker.producer(&[]);
    for _ in 0..3 {
        produce(&producer, "t", 1, "x").await;
    }
    let mut wire = Wire::connect(&broker).await;
    let asked =
        describe_producers_request::TopicRequest::default().with_name(topic("t")).with_partition_indexes(vec![0, 1, 2]);
    let answer = wire.ask(0, &DescribeProducersRequest::default().with_topics(vec![asked])).await;
    let partitions = &answer.topics[0].partitions;
    assert_eq!((partitions[0].error_code, partitions[0].active_producers.len()), (0, 0));
    let known = &partitions[1].active_producers;
    assert_eq!((known.len(), known[0].last_sequence, known[0].current_txn_start_offset), (1, 2, -1));
    assert_eq!(partitions[2].error_code, UNKNOWN_TOPIC);
}

#[tokio::test(flavor = "multi_thread")]
async fn elections_and_moves_are_answered_as_by_a_single_node() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    let asked = elect_leaders_request::TopicPartitions::default().with_topic(topic("t")).with_partitions(vec![0, 7]);
    let request = ElectLeadersRequest::default().with_timeout_ms(1_000);
    let answer = wire.ask(2, &request.clone().with_topic_partitions(Some(vec![asked]))).await;
    let codes: Vec<i16> =
        answer.replica_election_results[0].partition_result.iter().map(|result| result.error_code).collect();
    assert_eq!((answer.error_code, codes), (0, vec![ELECTION_NOT_NEEDED, UNKNOWN_TOPIC]));
    let all = wire.ask(2, &request.with_topic_partitions(None)).await;
    assert!(all.error_code == 0 && all.replica_election_results.is_empty());
    let moves = wire.ask(0, &ListPartitionReassignmentsRequest::default().with_topics(None)).await;
    assert!(moves.error_code == 0 && moves.topics.is_empty());
}

// STR-11: what has settings, with their documentation, their kinds and where they come from
#[tokio::test(flavor = "multi_thread")]
async fn settings_say_where_they_come_from() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[("retention.ms", "5000")]).await;
    let mut wire = Wire::connect(&broker).await;
    let listed = wire.ask(1, &ListConfigResourcesRequest::default()).await;
    let rows: Vec<(i8, &str)> =
        listed.config_resources.iter().map(|one| (one.resource_type, one.resource_name.as_str())).collect();
    assert!(rows.contains(&(2, "t")) && rows.contains(&(4, "1")), "{rows:?}");
    assert!(wire.ask(0, &ListConfigResourcesRequest::default()).await.config_resources.is_empty());
    let odd = ListConfigResourcesRequest::default().with_resource_types(vec![77]);
    assert_eq!(wire.ask(1, &odd).await.error_code, UNSUPPORTED_VERSION);

    let one = |kind, name| {
        describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(None)
    };
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![one(2, "t"), one(4, "1"), one(4, ""), one(4, "9")])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    let answer = wire.ask(4, &request).await;
    let topic = &answer.results[0].configs;
    let retention = topic.iter().find(|config| config.name.as_str() == "retention.ms").unwrap();
    assert_eq!((retention.config_source, retention.config_type, retention.read_only), (1, 5, false));
    let synonyms: Vec<(&str, i8)> = retention.synonyms.iter().map(|one| (one.name.as_str(), one.source)).collect();
    assert_eq!(synonyms, [("retention.ms", 1), ("log.retention.ms", 5)]);
    assert!(topic.iter().all(|config| config.documentation.as_ref().is_some_and(|text| !text.is_empty())));
    let of_broker = &answer.results[1].configs;
    let delete = of_broker.iter().find(|config| config.name.as_str() == "delete.topic.enable").unwrap();
    assert_eq!((delete.value.as_deref(), delete.config_type, delete.read_only), (Some("true"), 1, true));
    assert!(of_broker.is_sorted_by_key(|config| config.name.as_str()));
    assert!(answer.results[2].error_code == 0 && answer.results[2].configs.is_empty(), "no settings for all brokers");
    assert_ne!(answer.results[3].error_code, 0);
}

// what an operator has set is what clients are told, under Apache Kafka's names
#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_own_settings_are_told() {
    let names =
        ["auto.create.topics.enable", "connections.max.reauth.ms", "num.partitions", "offsets.retention.minutes"];
    let told = async |broker: &TestBroker| -> Vec<String> {
        let one = describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(4)
            .with_resource_name(text("1"))
            .with_configuration_keys(Some(names.iter().map(|name| text(name)).collect()));
        let answer =
            Wire::connect(broker).await.ask(4, &DescribeConfigsRequest::default().with_resources(vec![one])).await;
        answer.results[0].configs.iter().map(|config| config.value.as_deref().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(told(&TestBroker::start().await).await, ["false", "0", "1", "-1"]);
    let broker = TestBroker::start_with(|settings| {
        settings.auto_create_partitions = Some(4);
        settings.login_lifetime = Some(std::time::Duration::from_secs(5));
        settings.offsets_retention_ms = Some(7_200_000);
    });
    assert_eq!(told(&broker.await).await, ["true", "5000", "4", "120"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_change_one_by_one() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[("segment.ms", "70000")]).await;
    let mut wire = Wire::connect(&broker).await;
    let op = |name, operation, value: Option<&str>| {
        incremental_alter_configs_request::AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(operation)
            .with_value(value.map(text))
    };
    let request = |ops, validate| {
        let one = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_configs(ops);
        IncrementalAlterConfigsRequest::default().with_resources(vec![one]).with_validate_only(validate)
    };
    let (set, delete, append, subtract) = (0, 1, 2, 3);
    let good = [
        (vec![op("retention.ms", set, Some("1000")), op("segment.ms", delete, None)], false),
        (vec![op("cleanup.policy", append, Some("compact"))], false),
        (vec![op("cleanup.policy", subtract, Some("delete"))], false),
        (vec![op("retention.ms", set, Some("2000"))], true),
    ];
    for (ops, validate) in good {
        assert_eq!(wire.ask(1, &request(ops, validate)).await.responses[0].error_code, 0);
    }
    let half = vec![op("retention.ms", set, Some("3000")), op("segment.ms", set, Some("soon"))];
    let refused = wire.ask(1, &request(half, false)).await;
    assert_eq!(refused.responses[0].error_code, INVALID_CONFIG);
    assert!(refused.responses[0].error_message.is_some());
    let asked = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configuration_keys(Some(["retention.ms", "segment.ms", "cleanup.policy"].map(text).to_vec()));
    let answer = wire.ask(4, &DescribeConfigsRequest::default().with_resources(vec![asked])).await;
    let values: Vec<(&str, &str)> = answer.results[0]
        .configs
        .iter()
        .map(|config| (config.name.as_str(), config.value.as_ref().unwrap().as_str()))
        .collect();
    assert_eq!(values, [("cleanup.policy", "compact"), ("retention.ms", "1000"), ("segment.ms", "86400000")]);
}

// STR-11: earliest, latest, by time, by largest time; local and tiered as there is but one tier
#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_every_question() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    broker.create_topic("empty", 1, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    let times = Builder::new(1_000).record(1_000, b"a").record(9_000, b"b").record(3_000, b"c").build();
    assert_eq!(wire.produce("t", 0, times).await, (0, 0));
    assert_eq!(wire.produce("t", 0, Builder::new(4_000).record(4_000, b"d").build()).await, (0, 3));
    let ask = async |wire: &mut Wire, version, name, timestamp| {
        let part = list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
        let asked =
            list_offsets_request::ListOffsetsTopic::default().with_name(topic(name)).with_partitions(vec![part]);
        let answer = wire.ask(version, &ListOffsetsRequest::default().with_topics(vec![asked])).await;
        let found = &answer.topics[0].partitions[0];
        (found.error_code, found.offset, found.timestamp)
    };
    for (timestamp, expected) in [
        (-1, (0, 4, -1)),
        (-2, (0, 0, -1)),
        (-3, (0, 1, 9_000)),
        (-4, (0, 0, -1)),
        (-5, (0, -1, -1)),
        (2_000, (0, 1, 9_000)),
        (10_000, (0, -1, -1)),
    ] {
        assert_eq!(ask(&mut wire, 10, "t", timestamp).await, expected, "{timestamp}");
    }
    assert_eq!(ask(&mut wire, 10, "empty", -3).await, (0, -1, -1));
    assert_eq!(ask(&mut wire, 10, "t", -77).await.0, UNSUPPORTED_VERSION);
    assert_eq!(ask(&mut wire, 6, "t", -3).await.0, UNSUPPORTED_VERSION, "that question came with version 7");
    assert_eq!(ask(&mut wire, 10, "nope", -1).await.0, UNKNOWN_TOPIC);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_assigned_to_the_only_broker() {
    let broker = TestBroker::start().await;
    let mut wire = Wire::connect(&broker).await;
    let create = |name, brokers: &[&[i32]]| {
        let assignments = (0..).zip(brokers).map(|(index, brokers)| {
            create_topics_request::CreatableReplicaAssignment::default()
                .with_partition_index(index)
                .with_broker_ids(brokers.iter().map(|id| BrokerId(*id)).collect())
        });
        let one = create_topics_request::CreatableTopic::default()
            .with_name(topic(name))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(assignments.collect());
        CreateTopicsRequest::default().with_topics(vec![one])
    };
    let made = wire.ask(7, &create("t", &[&[1], &[1]])).await;
    assert_eq!((made.topics[0].error_code, made.topics[0].num_partitions), (0, 2));
    let refused = wire.ask(7, &create("u", &[&[1], &[2]])).await;
    assert_eq!(refused.topics[0].error_code, INVALID_REPLICA_ASSIGNMENT);
    let grow = |count, brokers: &[i32]| {
        let assignment = create_partitions_request::CreatePartitionsAssignment::default();
        let assignments =
            brokers.iter().map(|id| assignment.clone().with_broker_ids(vec![BrokerId(*id)])).collect::<Vec<_>>();
        let one = create_partitions_request::CreatePartitionsTopic::default()
            .with_name(topic("t"))
            .with_count(count)
            .with_assignments(Some(assignments));
        CreatePartitionsRequest::default().with_topics(vec![one])
    };
    assert_eq!(wire.ask(3, &grow(4, &[1, 1])).await.results[0].error_code, 0);
    for wrong in [grow(6, &[1]), grow(6, &[1, 2])] {
        assert_eq!(wire.ask(3, &wrong).await.results[0].error_code, INVALID_REPLICA_ASSIGNMENT);
    }
}

// STR-16: what kafbat and Redpanda Console ask when they connect and show their pages, in that order
#[tokio::test(flavor = "multi_thread")]
async fn a_console_gets_its_pages() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    produce(&broker.producer(&[]), "t", 0, "x").await;
    let mut wire = Wire::connect(&broker).await;
    let cluster =
        wire.ask(1, &DescribeClusterRequest::default().with_include_cluster_authorized_operations(true)).await;
    assert_eq!((cluster.error_code, cluster.controller_id.0, cluster.brokers.len()), (0, 1, 1));
    assert_eq!(cluster.brokers[0].port, i32::from(broker.handle().kafka().port()));
    // rules are off here, and that is what it has to hear
    let rules = DescribeAclsRequest::default().with_resource_type_filter(1).with_pattern_type_filter(1);
    assert_eq!(wire.ask(3, &rules.with_operation(1).with_permission_type(1)).await.error_code, 54);
    let topics = wire.ask(12, &MetadataRequest::default().with_topics(None)).await;
    assert!(topics.topics.iter().any(|found| found.name == Some(topic("t")) && found.partitions.len() == 2));
    let folders = wire.ask(4, &DescribeLogDirsRequest::default().with_topics(None)).await;
    let folder = &folders.results[0];
    let sizes = folder.topics.iter().find(|found| found.name == topic("t")).unwrap();
    assert!(sizes.partitions[0].partition_size > 0 && sizes.partitions[1].partition_size == 0, "{sizes:?}");
    // KIP-827: of the file system, so that a page can show how full it is
    assert!(folder.usable_bytes > 0 && folder.total_bytes > folder.usable_bytes, "{folder:?}");
    let groups = ListGroupsRequest::default().with_types_filter(vec![text("classic"), text("consumer")]);
    assert_eq!(wire.ask(5, &groups).await.error_code, 0);
    let quorum = wire.ask(1, &DescribeQuorumRequest::default()).await;
    assert_eq!(quorum.error_code, UNSUPPORTED_VERSION, "there is none, and the connection goes on");
    let producers = describe_producers_request::TopicRequest::default();
    let asked = producers.with_name(topic("t")).with_partition_indexes(vec![0, 1]);
    let producers = wire.ask(0, &DescribeProducersRequest::default().with_topics(vec![asked])).await;
    assert_eq!(producers.topics[0].partitions[0].active_producers.len(), 1);
}

// STR-16: the page of a group, whose lag a console makes out of two answers, and the button that empties a topic
#[tokio::test(flavor = "multi_thread")]
async fn a_console_makes_out_a_lag_and_empties_a_topic() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    for _ in 0..5 {
        produce(&broker.producer(&[]), "t", 0, "x").await;
    }
    let mut wire = Wire::connect(&broker).await;
    let group = || GroupId(text("readers"));
    let part = offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(2);
    let committed =
        offset_commit_request::OffsetCommitRequestTopic::default().with_name(topic("t")).with_partitions(vec![part]);
    let by_position = OffsetCommitRequest::default().with_group_id(group()).with_generation_id_or_member_epoch(-1);
    let answer = wire.ask(8, &by_position.with_topics(vec![committed])).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    let listed = wire.ask(5, &ListGroupsRequest::default()).await;
    let found: Vec<_> = listed.groups.iter().map(|group| (&*group.group_state, &*group.protocol_type)).collect();
    assert_eq!(found, [("Empty", "")], "nobody ever joined");
    let described = wire.ask(5, &DescribeGroupsRequest::default().with_groups(vec![group()])).await;
    assert_eq!((&*described.groups[0].group_state, described.groups[0].members.len()), ("Empty", 0));
    let asked = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(None);
    let offsets = wire.ask(8, &OffsetFetchRequest::default().with_groups(vec![asked])).await;
    let committed = offsets.groups[0].topics[0].partitions[0].committed_offset;
    let ask = async |wire: &mut Wire, timestamp| {
        let part = list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
        let asked = list_offsets_request::ListOffsetsTopic::default().with_name(topic("t")).with_partitions(vec![part]);
        wire.ask(7, &ListOffsetsRequest::default().with_topics(vec![asked])).await.topics[0].partitions[0].offset
    };
    assert_eq!(ask(&mut wire, -1).await - committed, 3, "the lag");
    let delete = |offset| {
        let part = delete_records_request::DeleteRecordsPartition::default().with_offset(offset);
        let one =
            delete_records_request::DeleteRecordsTopic::default().with_name(topic("t")).with_partitions(vec![part]);
        DeleteRecordsRequest::default().with_topics(vec![one])
    };
    for (offset, expected) in [(4, (0, 4)), (99, (OFFSET_OUT_OF_RANGE, -1)), (-1, (0, 5))] {
        let answer = wire.ask(2, &delete(offset)).await;
        let done = &answer.topics[0].partitions[0];
        assert_eq!((done.error_code, done.low_watermark), expected, "{offset}");
    }
    assert_eq!((ask(&mut wire, -2).await, ask(&mut wire, -1).await), (5, 5), "it is empty, and goes on where it was");
}

// a topic comes into being by being asked for where the operator wants it, and nowhere else
#[tokio::test(flavor = "multi_thread")]
async fn topics_come_into_being_by_being_asked_for() {
    let asked = |names: &[&str]| {
        let topics = names
            .iter()
            .map(|name| metadata_request::MetadataRequestTopic::default().with_name(Some(topic(name))))
            .collect();
        MetadataRequest::default().with_topics(Some(topics))
    };
    let seen = |answer: MetadataResponse| -> Vec<(i16, usize)> {
        answer.topics.iter().map(|topic| (topic.error_code, topic.partitions.len())).collect()
    };
    let plain = TestBroker::start().await;
    let mut wire = Wire::connect(&plain).await;
    assert_eq!(seen(wire.ask(12, &asked(&["a"])).await), [(UNKNOWN_TOPIC, 0)]);
    assert_eq!(seen(wire.ask(12, &asked(&["a"])).await), [(UNKNOWN_TOPIC, 0)]);

    let broker = TestBroker::start_with(|settings| settings.auto_create_partitions = Some(4)).await;
    let mut wire = Wire::connect(&broker).await;
    let only_looked = asked(&["a"]).with_allow_auto_topic_creation(false);
    assert_eq!(seen(wire.ask(12, &only_looked).await), [(UNKNOWN_TOPIC, 0)]);
    assert_eq!(seen(wire.ask(12, &asked(&["a", "a/b"])).await), [(0, 4), (INVALID_TOPIC, 0)]);
    assert_eq!(seen(wire.ask(12, &only_looked).await), [(0, 4)]);
    // before version 4 a client cannot say that it only looks
    assert_eq!(seen(wire.ask(1, &asked(&["b"])).await), [(0, 4)]);
}
