//! Raw bytes: every version of every API, and clients that lie.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{PATIENCE, TestBroker, produce};

pub(crate) async fn connect(broker: &TestBroker) -> TcpStream {
    TcpStream::connect(broker.handle().kafka()).await.unwrap()
}

pub(crate) fn frame(key: i16, version: i16, correlation: i32, flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&key.to_be_bytes());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&correlation.to_be_bytes());
    bytes.extend_from_slice(&2_i16.to_be_bytes());
    bytes.extend_from_slice(b"it");
    if flexible {
        bytes.push(0);
    }
    bytes.extend_from_slice(body);
    let mut framed = i32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    framed.extend_from_slice(&bytes);
    framed
}

pub(crate) async fn answer(stream: &mut TcpStream) -> Vec<u8> {
    let size = timeout(PATIENCE, stream.read_i32()).await.unwrap().unwrap();
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    timeout(PATIENCE, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    bytes
}

/// The broker ends the connection without an answer.
pub(crate) async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(timeout(PATIENCE, stream.read_exact(&mut byte)).await.unwrap(), Err(error) if
        matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset))
}

// STR-10: an unknown version of ApiVersions is answered in version 0
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let broker = TestBroker::start().await;
    let mut stream = connect(&broker).await;
    stream.write_all(&frame(18, 99, 7, true, &[])).await.unwrap();
    let bytes = answer(&mut stream).await;
    assert_eq!(bytes[..4], 7_i32.to_be_bytes());
    assert_eq!(bytes[4..6], 35_i16.to_be_bytes(), "UNSUPPORTED_VERSION");
    assert!(i32::from_be_bytes(bytes[6..10].try_into().unwrap()) > 20, "and what is supported");
    // the connection goes on
    stream.write_all(&frame(18, 0, 8, false, &[])).await.unwrap();
    assert_eq!(answer(&mut stream).await[..6], [0, 0, 0, 8, 0, 0]);
}

// STR-13, dependencies trap 14
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_lie_close_their_connection_and_harm_nobody() {
    let broker = TestBroker::start().await;
    broker.create_topic("calm", 1, &[]).await;
    let gigabytes = frame(3, 1, 1, false, &0x7fff_ffff_i32.to_be_bytes());
    let unknown_api = frame(999, 0, 1, false, &[]);
    let unknown_version = frame(3, 99, 1, true, &[]);
    let truncated = frame(0, 3, 1, false, &[0xff, 0xff, 0, 1]);
    let huge = 0x7fff_ffff_i32.to_be_bytes().to_vec();
    let large_first = (10 * 1024 * 1024_i32).to_be_bytes().to_vec();
    let negative = (-5_i32).to_be_bytes().to_vec();
    let tiny = [0, 0, 0, 3, 1, 2, 3].to_vec();
    let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    for bytes in [gigabytes, unknown_api, unknown_version, truncated, huge, large_first, negative, tiny, http] {
        let mut stream = connect(&broker).await;
        stream.write_all(&bytes).await.unwrap();
        assert!(is_closed(&mut stream).await, "{bytes:?}");
    }
    assert_eq!(produce(&broker.producer(&[]), "calm", 0, "still here").await, 0);
}

// STR-13: answers come in the order of the requests, also when an early one waits
#[tokio::test(flavor = "multi_thread")]
async fn answers_keep_the_order_of_the_requests() {
    let broker = TestBroker::start().await;
    let mut stream = connect(&broker).await;
    let mut all = Vec::new();
    for correlation in 0..50 {
        let (key, version) = if correlation % 2 == 0 { (18, 0) } else { (3, 0) };
        let body: &[u8] = if key == 3 { &[0, 0, 0, 0] } else { &[] };
        all.extend_from_slice(&frame(key, version, correlation, false, body));
    }
    stream.write_all(&all).await.unwrap();
    for correlation in 0..50_i32 {
        assert_eq!(answer(&mut stream).await[..4], correlation.to_be_bytes());
    }
}

// security D.1, CR 7.1: limits per address
#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_closed() {
    let broker = TestBroker::start_with(|settings| settings.connections_per_address_max = 2).await;
    let mut held = vec![connect(&broker).await, connect(&broker).await];
    for stream in &mut held {
        stream.write_all(&frame(18, 0, 1, false, &[])).await.unwrap();
        answer(stream).await;
    }
    let mut third = connect(&broker).await;
    assert!(is_closed(&mut third).await);
    drop(held);
    crate::support::eventually("a place is free again", async || {
        let mut stream = connect(&broker).await;
        let sent = stream.write_all(&frame(18, 0, 1, false, &[])).await;
        sent.is_ok() && matches!(timeout(Duration::from_secs(1), stream.read_i32()).await, Ok(Ok(_)))
    })
    .await;
}

/// Key, oldest and newest version of the APIs that are listed.
async fn listed(broker: &TestBroker) -> Vec<(i16, i16, i16)> {
    let mut stream = connect(broker).await;
    stream.write_all(&frame(18, 0, 1, false, &[])).await.unwrap();
    let listed = answer(&mut stream).await;
    let rows = listed[10..].chunks_exact(6).map(|row| {
        let number = |at: usize| i16::from_be_bytes([row[at], row[at + 1]]);
        let (key, min, max) = (number(0), number(2), number(4));
        let min = if key == 0 { 3 } else { min }; // announced lower for old librdkafka, see apis.rs
        (key, min, max)
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 20);
    rows
}

// STR-10: whatever ApiVersions lists is answered in every version of its range
#[tokio::test(flavor = "multi_thread")]
async fn every_listed_version_answers() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    for (key, min, max) in listed(&broker).await {
        for version in min..=max {
            let (flexible, body) = bodies::request(key, version);
            let mut stream = connect(&broker).await;
            println!("API {key} version {version}"); // shown when an answer does not come
            stream.write_all(&frame(key, version, 42, flexible, &body)).await.unwrap();
            let bytes = answer(&mut stream).await;
            assert_eq!(bytes[..4], 42_i32.to_be_bytes(), "API {key} version {version}");
            bodies::check(key, version, &bytes);
        }
    }
}

// security 38: arrays and texts that are announced by the billion, at every place of every request
#[tokio::test(flavor = "multi_thread")]
async fn lies_at_every_place_of_every_request_harm_nobody() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    broker.create_topic("calm", 1, &[]).await;
    // as a compact length, and as one of the older encodings
    let billions: [&[u8]; 2] = [&[0xff, 0xff, 0xff, 0xff, 0x0f], &[0x7f, 0xff, 0xff, 0xff]];
    for (key, min, max) in listed(&broker).await {
        for version in [min, max] {
            let (flexible, body) = bodies::request(key, version);
            println!("API {key} version {version}"); // shown when neither an answer nor an end comes
            let places = (0..body.len()).flat_map(|at| billions.map(|lie| [&body[..at], lie].concat()));
            for lie in places {
                let mut stream = connect(&broker).await;
                stream.write_all(&frame(key, version, 42, flexible, &lie)).await.unwrap();
                let mut byte = [0];
                drop(timeout(PATIENCE, stream.read(&mut byte)).await.expect("an answer or the end"));
            }
        }
    }
    assert_eq!(produce(&broker.producer(&[]), "calm", 0, "still here").await, 0);
}

/// Requests of every API with something in them, and the reading of their answers with the codec.
mod bodies {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes};

    fn text(text: &'static str) -> StrBytes {
        StrBytes::from_static_str(text)
    }

    fn topic() -> TopicName {
        TopicName(text("t"))
    }

    /// Whether the header is flexible, and the body.
    fn encode<R: Request>(version: i16, request: &R) -> (bool, Vec<u8>) {
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes, version).unwrap();
        (R::header_version(version) >= 2, bytes.to_vec())
    }

    fn decode<R: Request>(version: i16, bytes: &[u8]) {
        let mut bytes = Bytes::copy_from_slice(bytes);
        ResponseHeader::decode(&mut bytes, R::Response::header_version(version)).unwrap();
        R::Response::decode(&mut bytes, version).unwrap();
        assert!(bytes.is_empty(), "API {} version {version}: {} bytes too many", R::KEY, bytes.len());
    }

    pub(super) fn request(key: i16, version: i16) -> (bool, Vec<u8>) {
        let v = version;
        match ApiKey::try_from(key).unwrap() {
            ApiKey::Produce => {
                let part =
                    produce_request::PartitionProduceData::default().with_records(Some(Bytes::from_static(b"junk")));
                let mut data = produce_request::TopicProduceData::default().with_partition_data(vec![part]);
                if v < 13 {
                    data = data.with_name(topic());
                }
                encode(v, &ProduceRequest::default().with_acks(-1).with_topic_data(vec![data]))
            }
            ApiKey::Fetch => {
                let part = fetch_request::FetchPartition::default().with_partition_max_bytes(1000);
                let mut data = fetch_request::FetchTopic::default().with_partitions(vec![part]);
                if v < 13 {
                    data = data.with_topic(topic());
                }
                encode(v, &FetchRequest::default().with_max_wait_ms(1).with_topics(vec![data]))
            }
            ApiKey::ListOffsets => {
                let part = |timestamp| list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
                let parts = vec![part(-1), part(-2), part(-3), part(-4), part(-5), part(0), part(-99)];
                let data = list_offsets_request::ListOffsetsTopic::default().with_name(topic()).with_partitions(parts);
                encode(v, &ListOffsetsRequest::default().with_topics(vec![data]))
            }
            ApiKey::Metadata => {
                let one = metadata_request::MetadataRequestTopic::default().with_name(Some(topic()));
                let none = metadata_request::MetadataRequestTopic::default().with_name(Some(TopicName(text("nope"))));
                encode(v, &MetadataRequest::default().with_topics(Some(vec![one, none])))
            }
            ApiKey::OffsetCommit => {
                let part = offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(1);
                let data = offset_commit_request::OffsetCommitRequestTopic::default()
                    .with_name(topic())
                    .with_partitions(vec![part]);
                let request = OffsetCommitRequest::default().with_group_id(GroupId(text("g")));
                encode(v, &request.with_generation_id_or_member_epoch(-1).with_topics(vec![data]))
            }
            ApiKey::OffsetFetch if v >= 8 => {
                let all = offset_fetch_request::OffsetFetchRequestGroup::default()
                    .with_group_id(GroupId(text("g")))
                    .with_topics(None);
                let topics = offset_fetch_request::OffsetFetchRequestTopics::default()
                    .with_name(topic())
                    .with_partition_indexes(vec![0, 9]);
                let some = offset_fetch_request::OffsetFetchRequestGroup::default()
                    .with_group_id(GroupId(text("h")))
                    .with_topics(Some(vec![topics]));
                encode(v, &OffsetFetchRequest::default().with_groups(vec![all, some]))
            }
            ApiKey::OffsetFetch => {
                let data = offset_fetch_request::OffsetFetchRequestTopic::default()
                    .with_name(topic())
                    .with_partition_indexes(vec![0, 9]);
                let request = OffsetFetchRequest::default().with_group_id(GroupId(text("g")));
                encode(v, &request.with_topics(Some(vec![data])))
            }
            ApiKey::FindCoordinator if v >= 4 => {
                encode(v, &FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g"), text("h")]))
            }
            ApiKey::FindCoordinator => encode(v, &FindCoordinatorRequest::default().with_key(text("g"))),
            ApiKey::JoinGroup => {
                let one = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
                let request =
                    JoinGroupRequest::default().with_group_id(GroupId(text("joined"))).with_session_timeout_ms(1);
                encode(v, &request.with_protocol_type(text("consumer")).with_protocols(vec![one]))
            }
            ApiKey::SyncGroup => encode(v, &SyncGroupRequest::default().with_group_id(GroupId(text("g")))),
            ApiKey::Heartbeat => encode(v, &HeartbeatRequest::default().with_group_id(GroupId(text("g")))),
            ApiKey::LeaveGroup if v >= 3 => {
                let one = leave_group_request::MemberIdentity::default().with_member_id(text("m"));
                encode(v, &LeaveGroupRequest::default().with_group_id(GroupId(text("g"))).with_members(vec![one]))
            }
            ApiKey::LeaveGroup => encode(v, &LeaveGroupRequest::default().with_group_id(GroupId(text("g")))),
            ApiKey::DescribeGroups => {
                encode(v, &DescribeGroupsRequest::default().with_groups(vec![GroupId(text("g")), GroupId(text("zzz"))]))
            }
            ApiKey::ListGroups => encode(v, &ListGroupsRequest::default()),
            ApiKey::DeleteGroups => {
                encode(v, &DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("z"))]))
            }
            ApiKey::ApiVersions => encode(v, &ApiVersionsRequest::default()),
            ApiKey::CreateTopics => {
                let one = create_topics_request::CreatableTopic::default()
                    .with_name(TopicName(text("made")))
                    .with_num_partitions(1)
                    .with_replication_factor(1);
                encode(v, &CreateTopicsRequest::default().with_topics(vec![one]))
            }
            ApiKey::DeleteTopics if v >= 6 => {
                let one = delete_topics_request::DeleteTopicState::default().with_name(Some(TopicName(text("nope"))));
                let id = delete_topics_request::DeleteTopicState::default();
                encode(v, &DeleteTopicsRequest::default().with_topics(vec![one, id]))
            }
            ApiKey::DeleteTopics => {
                encode(v, &DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text("nope"))]))
            }
            ApiKey::DeleteRecords => {
                let part = delete_records_request::DeleteRecordsPartition::default().with_offset(-1);
                let data = delete_records_request::DeleteRecordsTopic::default()
                    .with_name(topic())
                    .with_partitions(vec![part]);
                encode(v, &DeleteRecordsRequest::default().with_topics(vec![data]))
            }
            ApiKey::InitProducerId => encode(v, &InitProducerIdRequest::default().with_transactional_id(None)),
            ApiKey::AddPartitionsToTxn => {
                let data = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
                    .with_name(topic())
                    .with_partitions(vec![0]);
                let mut request = AddPartitionsToTxnRequest::default();
                if v >= 4 {
                    let one = add_partitions_to_txn_request::AddPartitionsToTxnTransaction::default()
                        .with_transactional_id(TransactionalId(text("nobody")))
                        .with_topics(vec![data]);
                    request = request.with_transactions(vec![one]);
                } else {
                    request = request.with_v3_and_below_transactional_id(TransactionalId(text("nobody")));
                    request = request.with_v3_and_below_topics(vec![data]);
                }
                encode(v, &request)
            }
            ApiKey::AddOffsetsToTxn => {
                let request = AddOffsetsToTxnRequest::default().with_group_id(GroupId(text("g")));
                encode(v, &request.with_transactional_id(TransactionalId(text("nobody"))))
            }
            ApiKey::EndTxn => {
                let request = EndTxnRequest::default().with_transactional_id(TransactionalId(text("nobody")));
                encode(v, &request.with_committed(true))
            }
            ApiKey::TxnOffsetCommit => {
                let part = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default();
                let data = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
                    .with_name(topic())
                    .with_partitions(vec![part.with_committed_metadata(Some(text("note")))]);
                let request = TxnOffsetCommitRequest::default()
                    .with_transactional_id(TransactionalId(text("nobody")))
                    .with_group_id(GroupId(text("g")))
                    .with_topics(vec![data]);
                encode(v, &request)
            }
            ApiKey::DescribeTransactions => {
                let ids = vec![TransactionalId(text("nobody"))];
                encode(v, &DescribeTransactionsRequest::default().with_transactional_ids(ids))
            }
            ApiKey::ListTransactions => {
                let states = vec![text("Ongoing"), text("nonsense")];
                encode(v, &ListTransactionsRequest::default().with_state_filters(states))
            }
            ApiKey::OffsetForLeaderEpoch => {
                let part = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
                let data = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
                    .with_topic(topic())
                    .with_partitions(vec![part]);
                encode(v, &OffsetForLeaderEpochRequest::default().with_topics(vec![data]))
            }
            ApiKey::DescribeConfigs => {
                let one = |kind, name| {
                    describe_configs_request::DescribeConfigsResource::default()
                        .with_resource_type(kind)
                        .with_resource_name(text(name))
                        .with_configuration_keys(None)
                };
                let resources = vec![one(2, "t"), one(4, "1"), one(2, "nope"), one(8, "x")];
                let request = DescribeConfigsRequest::default().with_resources(resources).with_include_synonyms(true);
                encode(v, &request.with_include_documentation(v >= 3))
            }
            ApiKey::AlterConfigs => {
                let one = alter_configs_request::AlterConfigsResource::default()
                    .with_resource_type(2)
                    .with_resource_name(text("t"));
                encode(v, &AlterConfigsRequest::default().with_resources(vec![one]))
            }
            ApiKey::IncrementalAlterConfigs => {
                let set = incremental_alter_configs_request::AlterableConfig::default()
                    .with_name(text("retention.ms"))
                    .with_value(Some(text("-1")));
                let one = incremental_alter_configs_request::AlterConfigsResource::default()
                    .with_resource_type(2)
                    .with_resource_name(text("t"))
                    .with_configs(vec![set]);
                encode(v, &IncrementalAlterConfigsRequest::default().with_resources(vec![one]))
            }
            ApiKey::DescribeLogDirs => encode(v, &DescribeLogDirsRequest::default().with_topics(None)),
            ApiKey::CreatePartitions => {
                let one = create_partitions_request::CreatePartitionsTopic::default()
                    .with_name(topic())
                    .with_count(1)
                    .with_assignments(None);
                encode(v, &CreatePartitionsRequest::default().with_topics(vec![one]))
            }
            ApiKey::OffsetDelete => {
                let part = offset_delete_request::OffsetDeleteRequestPartition::default();
                let data = offset_delete_request::OffsetDeleteRequestTopic::default()
                    .with_name(topic())
                    .with_partitions(vec![part]);
                encode(v, &OffsetDeleteRequest::default().with_group_id(GroupId(text("g"))).with_topics(vec![data]))
            }
            ApiKey::DescribeCluster => {
                let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
                encode(v, &request)
            }
            ApiKey::SaslHandshake => encode(v, &SaslHandshakeRequest::default().with_mechanism(text("PLAIN"))),
            ApiKey::SaslAuthenticate => encode(v, &SaslAuthenticateRequest::default()),
            ApiKey::DescribeAcls => {
                let request = DescribeAclsRequest::default().with_resource_type_filter(1).with_pattern_type_filter(1);
                encode(v, &request.with_operation(1).with_permission_type(1))
            }
            ApiKey::CreateAcls => {
                let one =
                    create_acls_request::AclCreation::default().with_resource_type(2).with_resource_name(text("t"));
                encode(v, &CreateAclsRequest::default().with_creations(vec![one]))
            }
            ApiKey::DeleteAcls => {
                let one = delete_acls_request::DeleteAclsFilter::default().with_resource_type_filter(1);
                encode(v, &DeleteAclsRequest::default().with_filters(vec![one]))
            }
            ApiKey::DescribeUserScramCredentials => {
                let one = describe_user_scram_credentials_request::UserName::default().with_name(text("nobody"));
                encode(v, &DescribeUserScramCredentialsRequest::default().with_users(Some(vec![one])))
            }
            ApiKey::AlterUserScramCredentials => {
                let one = alter_user_scram_credentials_request::ScramCredentialDeletion::default();
                let put = alter_user_scram_credentials_request::ScramCredentialUpsertion::default();
                let request = AlterUserScramCredentialsRequest::default();
                encode(v, &request.with_deletions(vec![one.with_name(text("nobody"))]).with_upsertions(vec![put]))
            }
            ApiKey::DescribeClientQuotas => {
                let one = describe_client_quotas_request::ComponentData::default().with_entity_type(text("user"));
                encode(v, &DescribeClientQuotasRequest::default().with_components(vec![one.with_match_type(2)]))
            }
            ApiKey::AlterClientQuotas => {
                let one = alter_client_quotas_request::EntityData::default().with_entity_type(text("user"));
                let op = alter_client_quotas_request::OpData::default().with_key(text("nonsense"));
                let entry = alter_client_quotas_request::EntryData::default().with_entity(vec![one]).with_ops(vec![op]);
                encode(v, &AlterClientQuotasRequest::default().with_entries(vec![entry]))
            }
            ApiKey::ElectLeaders => {
                let data =
                    elect_leaders_request::TopicPartitions::default().with_topic(topic()).with_partitions(vec![0]);
                encode(v, &ElectLeadersRequest::default().with_topic_partitions(Some(vec![data])))
            }
            ApiKey::ListPartitionReassignments => {
                encode(v, &ListPartitionReassignmentsRequest::default().with_topics(None))
            }
            ApiKey::DescribeProducers => {
                let data = describe_producers_request::TopicRequest::default()
                    .with_name(topic())
                    .with_partition_indexes(vec![0, 9]);
                encode(v, &DescribeProducersRequest::default().with_topics(vec![data]))
            }
            ApiKey::ListConfigResources => encode(v, &ListConfigResourcesRequest::default()),
            ApiKey::DescribeTopicPartitions => {
                let one = describe_topic_partitions_request::TopicRequest::default().with_name(topic());
                let cursor = describe_topic_partitions_request::Cursor::default().with_topic_name(topic());
                let request = DescribeTopicPartitionsRequest::default().with_topics(vec![one]);
                encode(v, &request.with_cursor(Some(cursor)))
            }
            ApiKey::ConsumerGroupHeartbeat => {
                let mut request = ConsumerGroupHeartbeatRequest::default()
                    .with_group_id(GroupId(text("k")))
                    .with_member_id(text(if v == 0 { "" } else { "m" }))
                    .with_rebalance_timeout_ms(1000)
                    .with_subscribed_topic_names(Some(vec![topic()]))
                    .with_topic_partitions(Some(Vec::new()));
                if v >= 1 {
                    request = request.with_subscribed_topic_regex(Some(text("t.*")));
                }
                encode(v, &request)
            }
            ApiKey::ConsumerGroupDescribe => {
                let ids = vec![GroupId(text("k")), GroupId(text("nobody"))];
                encode(v, &ConsumerGroupDescribeRequest::default().with_group_ids(ids))
            }
            other => panic!("{other:?} is not asked"),
        }
    }

    pub(super) fn check(key: i16, version: i16, bytes: &[u8]) {
        match ApiKey::try_from(key).unwrap() {
            ApiKey::Produce => decode::<ProduceRequest>(version, bytes),
            ApiKey::Fetch => decode::<FetchRequest>(version, bytes),
            ApiKey::ListOffsets => decode::<ListOffsetsRequest>(version, bytes),
            ApiKey::Metadata => decode::<MetadataRequest>(version, bytes),
            ApiKey::OffsetCommit => decode::<OffsetCommitRequest>(version, bytes),
            ApiKey::OffsetFetch => decode::<OffsetFetchRequest>(version, bytes),
            ApiKey::FindCoordinator => decode::<FindCoordinatorRequest>(version, bytes),
            ApiKey::JoinGroup => decode::<JoinGroupRequest>(version, bytes),
            ApiKey::SyncGroup => decode::<SyncGroupRequest>(version, bytes),
            ApiKey::Heartbeat => decode::<HeartbeatRequest>(version, bytes),
            ApiKey::LeaveGroup => decode::<LeaveGroupRequest>(version, bytes),
            ApiKey::DescribeGroups => decode::<DescribeGroupsRequest>(version, bytes),
            ApiKey::ListGroups => decode::<ListGroupsRequest>(version, bytes),
            ApiKey::DeleteGroups => decode::<DeleteGroupsRequest>(version, bytes),
            ApiKey::ApiVersions => decode::<ApiVersionsRequest>(version, bytes),
            ApiKey::CreateTopics => decode::<CreateTopicsRequest>(version, bytes),
            ApiKey::DeleteTopics => decode::<DeleteTopicsRequest>(version, bytes),
            ApiKey::DeleteRecords => decode::<DeleteRecordsRequest>(version, bytes),
            ApiKey::InitProducerId => decode::<InitProducerIdRequest>(version, bytes),
            ApiKey::OffsetForLeaderEpoch => decode::<OffsetForLeaderEpochRequest>(version, bytes),
            ApiKey::AddPartitionsToTxn => decode::<AddPartitionsToTxnRequest>(version, bytes),
            ApiKey::AddOffsetsToTxn => decode::<AddOffsetsToTxnRequest>(version, bytes),
            ApiKey::EndTxn => decode::<EndTxnRequest>(version, bytes),
            ApiKey::TxnOffsetCommit => decode::<TxnOffsetCommitRequest>(version, bytes),
            ApiKey::DescribeTransactions => decode::<DescribeTransactionsRequest>(version, bytes),
            ApiKey::ListTransactions => decode::<ListTransactionsRequest>(version, bytes),
            ApiKey::DescribeConfigs => decode::<DescribeConfigsRequest>(version, bytes),
            ApiKey::AlterConfigs => decode::<AlterConfigsRequest>(version, bytes),
            ApiKey::IncrementalAlterConfigs => decode::<IncrementalAlterConfigsRequest>(version, bytes),
            ApiKey::DescribeLogDirs => decode::<DescribeLogDirsRequest>(version, bytes),
            ApiKey::CreatePartitions => decode::<CreatePartitionsRequest>(version, bytes),
            ApiKey::OffsetDelete => decode::<OffsetDeleteRequest>(version, bytes),
            ApiKey::DescribeCluster => decode::<DescribeClusterRequest>(version, bytes),
            ApiKey::SaslHandshake => decode::<SaslHandshakeRequest>(version, bytes),
            ApiKey::SaslAuthenticate => decode::<SaslAuthenticateRequest>(version, bytes),
            ApiKey::DescribeAcls => decode::<DescribeAclsRequest>(version, bytes),
            ApiKey::CreateAcls => decode::<CreateAclsRequest>(version, bytes),
            ApiKey::DeleteAcls => decode::<DeleteAclsRequest>(version, bytes),
            ApiKey::DescribeUserScramCredentials => decode::<DescribeUserScramCredentialsRequest>(version, bytes),
            ApiKey::AlterUserScramCredentials => decode::<AlterUserScramCredentialsRequest>(version, bytes),
            ApiKey::DescribeClientQuotas => decode::<DescribeClientQuotasRequest>(version, bytes),
            ApiKey::AlterClientQuotas => decode::<AlterClientQuotasRequest>(version, bytes),
            ApiKey::ElectLeaders => decode::<ElectLeadersRequest>(version, bytes),
            ApiKey::ListPartitionReassignments => decode::<ListPartitionReassignmentsRequest>(version, bytes),
            ApiKey::DescribeProducers => decode::<DescribeProducersRequest>(version, bytes),
            ApiKey::ListConfigResources => decode::<ListConfigResourcesRequest>(version, bytes),
            ApiKey::DescribeTopicPartitions => decode::<DescribeTopicPartitionsRequest>(version, bytes),
            ApiKey::ConsumerGroupHeartbeat => decode::<ConsumerGroupHeartbeatRequest>(version, bytes),
            ApiKey::ConsumerGroupDescribe => decode::<ConsumerGroupDescribeRequest>(version, bytes),
            other => panic!("{other:?} is not checked"),
        }
    }
}
