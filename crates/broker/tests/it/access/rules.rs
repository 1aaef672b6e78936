//! Access rules: what each API asks for, what it answers without, and how rules come and go.

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Request, StrBytes};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::client::Client;
use super::{
    ADMIN, ALL, ALLOW, ALTER, ALTER_CONFIGS, CLUSTER, CREATE, DELETE, DENY, DESCRIBE, DESCRIBE_CONFIGS, GROUP, READ,
    Site, THE_CLUSTER, TOPIC, WRITE, add_rules, add_user, member, rule, text,
};
use crate::support::PATIENCE;

const TOPIC_DENIED: i16 = 29;
const GROUP_DENIED: i16 = 30;
const CLUSTER_DENIED: i16 = 31;

pub(super) async fn create_topic(
    admin: &AdminClient<DefaultClientContext>,
    name: &str,
) -> Result<(), RDKafkaErrorCode> {
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    let results = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    results.into_iter().next().unwrap().map(|_| ()).map_err(|(_, code)| code)
}

pub(super) async fn send(producer: &FutureProducer, topic: &str) -> Result<(), RDKafkaErrorCode> {
    let record: FutureRecord<'_, str, str> = FutureRecord::to(topic).partition(0).payload("x");
    match producer.send(record, PATIENCE).await {
        Ok(_) => Ok(()),
        Err((KafkaError::MessageProduction(code), _)) => Err(code),
        Err((error, _)) => panic!("{error}"),
    }
}

/// Creates a topic with one partition.
pub(super) async fn make_topic(admin: &mut Client, name: &'static str) {
    let one = create_topics_request::CreatableTopic::default().with_name(topic(name));
    let one = one.with_num_partitions(1).with_replication_factor(1);
    let answer = admin.call(7, &CreateTopicsRequest::default().with_topics(vec![one])).await;
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
}

fn topic(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

fn group(name: &'static str) -> GroupId {
    GroupId(StrBytes::from_static_str(name))
}

/// Asks once and gives the error code that `code` finds in the answer.
async fn ask<R: Request>(client: &mut Client, version: i16, request: R, code: fn(&R::Response) -> i16) -> i16 {
    code(&client.call(version, &request).await)
}

/// One row of the table: an API, the rule it asks for, the code without.
struct Row {
    api: &'static str,
    operation: i8,
    resource: i8,
    name: &'static str,
    denied: i16,
}

const fn row(api: &'static str, operation: i8, resource: i8, name: &'static str, denied: i16) -> Row {
    Row { api, operation, resource, name, denied }
}

/// As Apache Kafka has it in its documentation, "Operations and resources on protocols".
const TABLE: &[Row] = &[
    row("Produce", WRITE, TOPIC, "t", TOPIC_DENIED),
    row("Fetch", READ, TOPIC, "t", TOPIC_DENIED),
    row("ListOffsets", DESCRIBE, TOPIC, "t", TOPIC_DENIED),
    row("Metadata", DESCRIBE, TOPIC, "t", TOPIC_DENIED),
    row("OffsetForLeaderEpoch", DESCRIBE, TOPIC, "t", TOPIC_DENIED),
    row("CreateTopics", CREATE, TOPIC, "new", TOPIC_DENIED),
    row("CreateTopics", CREATE, CLUSTER, THE_CLUSTER, TOPIC_DENIED),
    row("DeleteTopics", DELETE, TOPIC, "absent", TOPIC_DENIED),
    row("DeleteRecords", DELETE, TOPIC, "t", TOPIC_DENIED),
    row("CreatePartitions", ALTER, TOPIC, "t", TOPIC_DENIED),
    row("DescribeConfigs", DESCRIBE_CONFIGS, TOPIC, "t", TOPIC_DENIED),
    row("AlterConfigs", ALTER_CONFIGS, TOPIC, "t", TOPIC_DENIED),
    row("IncrementalAlterConfigs", ALTER_CONFIGS, TOPIC, "t", TOPIC_DENIED),
    row("FindCoordinator", DESCRIBE, GROUP, "g", GROUP_DENIED),
    row("JoinGroup", READ, GROUP, "g", GROUP_DENIED),
    row("SyncGroup", READ, GROUP, "g", GROUP_DENIED),
    row("Heartbeat", READ, GROUP, "g", GROUP_DENIED),
    row("LeaveGroup", READ, GROUP, "g", GROUP_DENIED),
    row("DescribeGroups", DESCRIBE, GROUP, "g", GROUP_DENIED),
    row("DeleteGroups", DELETE, GROUP, "g", GROUP_DENIED),
    row("OffsetFetch", DESCRIBE, GROUP, "g", GROUP_DENIED),
    row("OffsetCommit", READ, GROUP, "g", GROUP_DENIED),
    row("OffsetDelete", DELETE, GROUP, "g", GROUP_DENIED),
    row("InitProducerId", WRITE, TOPIC, "t", CLUSTER_DENIED),
    row("DescribeLogDirs", DESCRIBE, CLUSTER, THE_CLUSTER, CLUSTER_DENIED),
    row("DescribeAcls", DESCRIBE, CLUSTER, THE_CLUSTER, CLUSTER_DENIED),
    row("CreateAcls", ALTER, CLUSTER, THE_CLUSTER, CLUSTER_DENIED),
    row("DeleteAcls", ALTER, CLUSTER, THE_CLUSTER, CLUSTER_DENIED),
    row("DescribeUserScramCredentials", DESCRIBE, CLUSTER, THE_CLUSTER, CLUSTER_DENIED),
    row("AlterUserScramCredentials", ALTER, CLUSTER, THE_CLUSTER, CLUSTER_DENIED),
    row("DescribeClientQuotas", DESCRIBE_CONFIGS, CLUSTER, THE_CLUSTER, CLUSTER_DENIED),
    row("AlterClientQuotas", ALTER_CONFIGS, CLUSTER, THE_CLUSTER, CLUSTER_DENIED),
];

/// The error code of one request of an API about topic `t` or group `g`.
async fn code(client: &mut Client, api: &str) -> i16 {
    match api {
        "Produce" => {
            let part = produce_request::PartitionProduceData::default().with_records(Some(Bytes::from_static(b"junk")));
            let data = produce_request::TopicProduceData::default().with_name(topic("t"));
            let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000);
            let request = request.with_topic_data(vec![data.with_partition_data(vec![part])]);
            ask(client, 9, request, |answer| answer.responses[0].partition_responses[0].error_code).await
        }
        "Fetch" => {
            let part = fetch_request::FetchPartition::default().with_partition_max_bytes(1_000);
            let wanted = fetch_request::FetchTopic::default().with_topic(topic("t")).with_partitions(vec![part]);
            let request = FetchRequest::default().with_max_wait_ms(1).with_topics(vec![wanted]);
            ask(client, 12, request, |answer| answer.responses[0].partitions[0].error_code).await
        }
        "ListOffsets" => {
            let part = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
            let wanted = list_offsets_request::ListOffsetsTopic::default().with_name(topic("t"));
            let request = ListOffsetsRequest::default().with_topics(vec![wanted.with_partitions(vec![part])]);
            ask(client, 6, request, |answer| answer.topics[0].partitions[0].error_code).await
        }
        "Metadata" => {
            let one = metadata_request::MetadataRequestTopic::default().with_name(Some(topic("t")));
            let request = MetadataRequest::default().with_topics(Some(vec![one]));
            ask(client, 12, request, |answer| answer.topics[0].error_code).await
        }
        "OffsetForLeaderEpoch" => {
            let part = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
            let wanted = offset_for_leader_epoch_request::OffsetForLeaderTopic::default().with_topic(topic("t"));
            let request = OffsetForLeaderEpochRequest::default().with_topics(vec![wanted.with_partitions(vec![part])]);
            ask(client, 4, request, |answer| answer.topics[0].partitions[0].error_code).await
        }
        "CreateTopics" => {
            let one = create_topics_request::CreatableTopic::default().with_name(topic("new"));
            let one = one.with_num_partitions(1).with_replication_factor(1);
            let request = CreateTopicsRequest::default().with_topics(vec![one]).with_validate_only(true);
            ask(client, 7, request, |answer| answer.topics[0].error_code).await
        }
        "DeleteTopics" => {
            let one = delete_topics_request::DeleteTopicState::default().with_name(Some(topic("absent")));
            let request = DeleteTopicsRequest::default().with_topics(vec![one]);
            ask(client, 6, request, |answer| answer.responses[0].error_code).await
        }
        "DeleteRecords" => {
            let part = delete_records_request::DeleteRecordsPartition::default().with_offset(0);
            let one = delete_records_request::DeleteRecordsTopic::default().with_name(topic("t"));
            let request = DeleteRecordsRequest::default().with_topics(vec![one.with_partitions(vec![part])]);
            ask(client, 2, request, |answer| answer.topics[0].partitions[0].error_code).await
        }
        "CreatePartitions" => {
            let one = create_partitions_request::CreatePartitionsTopic::default().with_name(topic("t")).with_count(2);
            let request = CreatePartitionsRequest::default().with_topics(vec![one.with_assignments(None)]);
            ask(client, 3, request.with_validate_only(true), |answer| answer.results[0].error_code).await
        }
        "DescribeConfigs" => {
            let one = describe_configs_request::DescribeConfigsResource::default().with_resource_type(2);
            let one = one.with_resource_name(text("t")).with_configuration_keys(None);
            ask(client, 4, DescribeConfigsRequest::default().with_resources(vec![one]), |answer| {
                answer.results[0].error_code
            })
            .await
        }
        "AlterConfigs" => {
            let one = alter_configs_request::AlterConfigsResource::default().with_resource_type(2);
            let request = AlterConfigsRequest::default().with_resources(vec![one.with_resource_name(text("t"))]);
            ask(client, 2, request.with_validate_only(true), |answer| answer.responses[0].error_code).await
        }
        "IncrementalAlterConfigs" => {
            let one = incremental_alter_configs_request::AlterConfigsResource::default().with_resource_type(2);
            let one = one.with_resource_name(text("t"));
            let request = IncrementalAlterConfigsRequest::default().with_resources(vec![one]).with_validate_only(true);
            ask(client, 1, request, |answer| answer.responses[0].error_code).await
        }
        _ => code_of_group_or_cluster(client, api).await,
    }
}

async fn code_of_group_or_cluster(client: &mut Client, api: &str) -> i16 {
    match api {
        "FindCoordinator" => {
            let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
            ask(client, 6, request, |answer| answer.coordinators[0].error_code).await
        }
        "JoinGroup" => {
            let one = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
            let request = JoinGroupRequest::default().with_group_id(group("g")).with_session_timeout_ms(10_000);
            let request = request.with_protocol_type(text("consumer")).with_protocols(vec![one]);
            ask(client, 7, request, |answer| answer.error_code).await
        }
        "SyncGroup" => {
            ask(client, 5, SyncGroupRequest::default().with_group_id(group("g")), |answer| answer.error_code).await
        }
        "Heartbeat" => {
            ask(client, 4, HeartbeatRequest::default().with_group_id(group("g")), |answer| answer.error_code).await
        }
        "LeaveGroup" => {
            ask(client, 4, LeaveGroupRequest::default().with_group_id(group("g")), |answer| answer.error_code).await
        }
        "DescribeGroups" => {
            let request = DescribeGroupsRequest::default().with_groups(vec![group("g")]);
            ask(client, 5, request, |answer| answer.groups[0].error_code).await
        }
        "DeleteGroups" => {
            let request = DeleteGroupsRequest::default().with_groups_names(vec![group("g")]);
            ask(client, 2, request, |answer| answer.results[0].error_code).await
        }
        "OffsetFetch" => {
            let one = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group("g"));
            let request = OffsetFetchRequest::default().with_groups(vec![one.with_topics(None)]);
            ask(client, 8, request, |answer| answer.groups[0].error_code).await
        }
        "OffsetCommit" => {
            let part = offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(1);
            let one = offset_commit_request::OffsetCommitRequestTopic::default().with_name(topic("t"));
            let request =
                OffsetCommitRequest::default().with_group_id(group("g")).with_generation_id_or_member_epoch(-1);
            let request = request.with_topics(vec![one.with_partitions(vec![part])]);
            ask(client, 8, request, |answer| answer.topics[0].partitions[0].error_code).await
        }
        "OffsetDelete" => {
            ask(client, 0, OffsetDeleteRequest::default().with_group_id(group("g")), |answer| answer.error_code).await
        }
        "InitProducerId" => {
            let request = InitProducerIdRequest::default().with_transactional_id(None);
            ask(client, 4, request, |answer| answer.error_code).await
        }
        "DescribeLogDirs" => {
            let request = DescribeLogDirsRequest::default().with_topics(None);
            ask(client, 4, request, |answer| answer.error_code).await
        }
        "DescribeAcls" => ask(client, 3, all_rules(), |answer| answer.error_code).await,
        "CreateAcls" => {
            let one = rule("nobody", ALLOW, READ, TOPIC, "nothing");
            let request = CreateAclsRequest::default().with_creations(vec![one]);
            ask(client, 3, request, |answer| answer.results[0].error_code).await
        }
        "DeleteAcls" => {
            let filter = delete_acls_request::DeleteAclsFilter::default().with_resource_type_filter(TOPIC);
            let filter = filter.with_pattern_type_filter(1).with_operation(1).with_permission_type(1);
            let filter = filter.with_resource_name_filter(Some(text("nothing")));
            let request = DeleteAclsRequest::default().with_filters(vec![filter]);
            ask(client, 3, request, |answer| answer.filter_results[0].error_code).await
        }
        "DescribeUserScramCredentials" => {
            ask(client, 0, DescribeUserScramCredentialsRequest::default(), |answer| answer.error_code).await
        }
        "AlterUserScramCredentials" => {
            let one = super::client::scram::upsertion("somebody", "correct horse", 4_096);
            let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![one]);
            ask(client, 0, request, |answer| answer.results[0].error_code).await
        }
        "DescribeClientQuotas" => {
            ask(client, 1, DescribeClientQuotasRequest::default(), |answer| answer.error_code).await
        }
        "AlterClientQuotas" => {
            let one = alter_client_quotas_request::EntityData::default().with_entity_type(text("user"));
            let entry = alter_client_quotas_request::EntryData::default().with_entity(vec![one]);
            let request = AlterClientQuotasRequest::default().with_entries(vec![entry]).with_validate_only(true);
            ask(client, 1, request, |answer| answer.entries[0].error_code).await
        }
        other => panic!("{other} is not asked"),
    }
}

fn all_rules() -> DescribeAclsRequest {
    DescribeAclsRequest::default()
        .with_resource_type_filter(1)
        .with_resource_name_filter(None)
        .with_pattern_type_filter(1)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(1)
        .with_permission_type(1)
}

// STR-14, security D.4 16: every API refuses without its rule, and does not with it
#[tokio::test(flavor = "multi_thread")]
async fn every_api_asks_for_its_rule() {
    let broker = Site::start(|settings| settings.group_initial_delay_ms = 0).await;
    let mut admin = member(&broker, ADMIN).await;
    add_user(&mut admin, "ada").await;
    make_topic(&mut admin, "t").await;
    let mut ada = member(&broker, "ada").await;
    for Row { api, denied, .. } in TABLE {
        assert_eq!(code(&mut ada, api).await, *denied, "{api} without a rule");
    }
    let denials = broker.figures("sf_broker_denied_requests_total");
    assert!(denials[0].ends_with(&format!(" {}", TABLE.len())), "{denials:?}");
    for Row { api, operation, resource, name, denied } in TABLE {
        let user = format!("{api}-{resource}");
        add_user(&mut admin, &user).await;
        let mut rules = vec![rule(&user, ALLOW, *operation, *resource, name)];
        if *api == "OffsetCommit" {
            rules.push(rule(&user, ALLOW, READ, TOPIC, "t"));
        }
        add_rules(&mut admin, rules).await;
        let mut allowed = member(&broker, &user).await;
        let found = code(&mut allowed, api).await;
        assert!(![TOPIC_DENIED, GROUP_DENIED, CLUSTER_DENIED].contains(&found), "{api} with its rule: {found}");
        // denial wins over permission
        let name = if *resource == CLUSTER { THE_CLUSTER } else { "*" };
        add_rules(&mut admin, vec![rule(&user, DENY, ALL, *resource, name)]).await;
        assert_eq!(code(&mut allowed, api).await, *denied, "{api} with a denial");
    }
}

// STR-14, security D.4 17: what may not be described is not listed, and known names and unknown ones sound alike
#[tokio::test(flavor = "multi_thread")]
async fn listings_show_what_may_be_described() {
    let broker = Site::start(|_| ()).await;
    let mut admin = member(&broker, ADMIN).await;
    add_user(&mut admin, "ada").await;
    for name in ["a.one", "a.two", "b.one"] {
        make_topic(&mut admin, name).await;
    }
    add_rules(&mut admin, vec![rule("ada", ALLOW, READ, TOPIC, "a.*"), rule("ada", DENY, ALL, TOPIC, "a.two")]).await;
    let mut ada = member(&broker, "ada").await;
    let all = MetadataRequest::default().with_topics(None).with_include_topic_authorized_operations(true);
    let answer = ada.call(10, &all).await;
    let listed: Vec<(&str, i32)> = answer
        .topics
        .iter()
        .map(|topic| (topic.name.as_ref().unwrap().as_str(), topic.topic_authorized_operations))
        .collect();
    assert_eq!(listed, [("a.one", (1 << READ) | (1 << DESCRIBE))]);
    let asked = ["a.one", "a.two", "b.one", "b.absent", "a.absent"]
        .map(|name| metadata_request::MetadataRequestTopic::default().with_name(Some(topic(name))));
    let answer = ada.call(12, &MetadataRequest::default().with_topics(Some(asked.to_vec()))).await;
    let code = |name: &str| {
        let found = answer.topics.iter().find(|topic| topic.name.as_ref().unwrap().as_str() == name);
        found.unwrap().error_code
    };
    assert_eq!((code("a.one"), code("a.absent")), (0, 3));
    assert_eq!([code("a.two"), code("b.one"), code("b.absent")], [TOPIC_DENIED; 3]);
    assert!(answer.topics.iter().all(|topic| topic.error_code != TOPIC_DENIED || topic.topic_id.is_nil()));
}

// STR-11, STR-14: a regular expression is no way to hear of topics that may not be described
#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_of_a_group_means_only_what_may_be_described() {
    let broker = Site::start(|_| ()).await;
    let mut admin = member(&broker, ADMIN).await;
    add_user(&mut admin, "ada").await;
    for name in ["a.one", "b.one", "b.two"] {
        make_topic(&mut admin, name).await;
    }
    add_rules(&mut admin, vec![rule("ada", ALLOW, READ, TOPIC, "a.*"), rule("ada", ALLOW, READ, GROUP, "g")]).await;
    let mut ada = member(&broker, "ada").await;
    let beat = ConsumerGroupHeartbeatRequest::default().with_group_id(group("g")).with_member_id(text("m"));
    let join = beat
        .clone()
        .with_subscribed_topic_regex(Some(text(".*")))
        .with_rebalance_timeout_ms(5_000)
        .with_topic_partitions(Some(Vec::new()));
    let joined = ada.call(1, &join).await;
    assert_eq!(joined.error_code, 0, "{joined:?}");
    assert_eq!(joined.assignment.unwrap().topic_partitions.len(), 1);
    // what she hears of is what she may describe by then
    add_rules(&mut admin, vec![rule("ada", ALLOW, DESCRIBE, TOPIC, "b.one")]).await;
    let more = ada.call(1, &beat.with_member_epoch(joined.member_epoch)).await;
    assert_eq!(more.member_epoch, joined.member_epoch + 1);
    let ids: Vec<_> = more.assignment.unwrap().topic_partitions.iter().map(|topic| topic.topic_id).collect();
    let named =
        ids.into_iter().map(|id| metadata_request::MetadataRequestTopic::default().with_name(None).with_topic_id(id));
    let answer = admin.call(12, &MetadataRequest::default().with_topics(Some(named.collect()))).await;
    let mut names: Vec<&str> = answer.topics.iter().map(|topic| topic.name.as_ref().unwrap().as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a.one", "b.one"]);
}

// STR-14: to ask for a topic that would come into being asks for the right to create it
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_create_a_topic_does_not_do_so_by_asking_for_it() {
    let broker = Site::start(|settings| settings.auto_create_partitions = Some(1)).await;
    let mut admin = member(&broker, ADMIN).await;
    add_user(&mut admin, "ada").await;
    make_topic(&mut admin, "a.there").await;
    add_rules(&mut admin, vec![rule("ada", ALLOW, DESCRIBE, TOPIC, "a.*"), rule("ada", ALLOW, CREATE, TOPIC, "a.new")])
        .await;
    let mut ada = member(&broker, "ada").await;
    for (name, create, expected) in [
        ("a.there", true, 0),
        ("a.other", true, TOPIC_DENIED),
        ("a.other", false, 3),
        ("a.new", true, 0),
        ("b.new", true, TOPIC_DENIED),
    ] {
        let one = metadata_request::MetadataRequestTopic::default().with_name(Some(topic(name)));
        let request = MetadataRequest::default().with_topics(Some(vec![one])).with_allow_auto_topic_creation(create);
        assert_eq!(ask(&mut ada, 12, request, |answer| answer.topics[0].error_code).await, expected, "{name} {create}");
    }
}

// STR-14: rules over the protocol, after a restart, and away again
#[tokio::test(flavor = "multi_thread")]
async fn rules_are_described_kept_and_deleted() {
    let mut broker = Site::start(|_| ()).await;
    let mut admin = member(&broker, ADMIN).await;
    let one = rule("ada", ALLOW, READ, TOPIC, "a.*");
    add_rules(&mut admin, vec![one.clone(), rule("bob", ALLOW, WRITE, TOPIC, "b"), one.clone()]).await;
    let impossible = [
        rule("ada", ALLOW, 9, TOPIC, "t"), // ClusterAction on a topic
        one.clone().with_host(text("plant.example")),
        one.clone().with_principal(text("ada")),
        one.clone().with_resource_name(text("")),
        one.with_permission_type(1),
    ];
    for rule in impossible {
        let answer = admin.call(3, &CreateAclsRequest::default().with_creations(vec![rule])).await;
        assert_eq!(answer.results[0].error_code, 42, "INVALID_REQUEST");
    }
    broker.crash_and_restart().await;
    let mut admin = member(&broker, ADMIN).await;
    let described = admin.call(3, &all_rules()).await;
    let found: Vec<(&str, i8, usize)> =
        described.resources.iter().map(|one| (one.resource_name.as_str(), one.pattern_type, one.acls.len())).collect();
    assert_eq!(found, [("b", 3, 1), ("a.", 4, 1)], "a rule that is there already is not added");
    // everything that applies to this topic
    let applying = all_rules().with_pattern_type_filter(2).with_resource_name_filter(Some(text("a.one")));
    assert_eq!(admin.call(3, &applying).await.resources.len(), 1);
    let filter = delete_acls_request::DeleteAclsFilter::default()
        .with_resource_type_filter(1)
        .with_resource_name_filter(None)
        .with_pattern_type_filter(1)
        .with_principal_filter(Some(text("User:ada")))
        .with_host_filter(None)
        .with_operation(1)
        .with_permission_type(1);
    let answer = admin.call(3, &DeleteAclsRequest::default().with_filters(vec![filter])).await;
    assert_eq!(answer.filter_results[0].matching_acls.len(), 1);
    assert_eq!(admin.call(3, &all_rules()).await.resources.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authorization_there_are_no_rules_to_administer() {
    let broker = Site::start(|settings| settings.authorize = false).await;
    let mut anybody = Client::connect(broker.handle().kafka()).await;
    assert_eq!(anybody.call(3, &all_rules()).await.error_code, 54, "SECURITY_DISABLED");
    let one = rule("ada", ALLOW, READ, TOPIC, "t");
    let answer = anybody.call(3, &CreateAclsRequest::default().with_creations(vec![one])).await;
    assert_eq!(answer.results[0].error_code, 54);
}
