//! The Kafka wire protocol without I/O: frames, guarded decoding of requests, encoding of responses, record batches.
//!
//! Messages themselves are the `kafka-protocol` crate's; this module stands between it and the network.
//! Invariant: nothing that came from the wire reaches the codec before `guard.rs` has walked over it, so a request can
//! never reserve more memory than a small multiple of its own size.
//! Look next at `guard.rs` (the walk), `shapes.rs` (what it follows) and `records.rs` (small batches of our own).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, Request};

mod fetch_answer;
mod guard;
pub mod records;
mod shapes;

pub use fetch_answer::{Piece, encode_fetch};
pub use guard::ELEMENTS_MAX;

/// Largest frame on a connection, in bytes without its length prefix. A longer one closes the connection.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Smallest frame: API key, version, correlation id.
pub const FRAME_BYTES_MIN: usize = 8;

/// What is wrong with bytes from the wire, or with a message of ours.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the message ends before its last field")]
    Truncated,
    #[error("the message is malformed: {what}")]
    Malformed { what: &'static str },
    #[error("the message holds more than {limit} array elements")]
    TooManyElements { limit: usize },
    #[error("the api key {key} is not known")]
    UnknownApi { key: i16 },
    #[error("cannot decode the message: {reason}")]
    Decode { reason: String },
    #[error("cannot encode the message: {reason}")]
    Encode { reason: String },
}

/// The first eight bytes of every request; readable whatever the API and its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub api_key: i16,
    pub version: i16,
    pub correlation_id: i32,
}

/// Reads the head of a request frame (without its length prefix).
pub fn head(frame: &[u8]) -> Result<Head, Error> {
    if frame.len() < FRAME_BYTES_MIN {
        return Err(Error::Truncated);
    }
    let mut frame = frame;
    Ok(Head { api_key: frame.get_i16(), version: frame.get_i16(), correlation_id: frame.get_i32() })
}

/// Decodes the header of a request of a known API and moves `frame` to its body.
pub fn decode_header(frame: &mut Bytes) -> Result<RequestHeader, Error> {
    let head = head(frame)?;
    let api = ApiKey::try_from(head.api_key).map_err(|()| Error::UnknownApi { key: head.api_key })?;
    let version = api.request_header_version(head.version);
    guard::Walk::new(frame).header(version >= 2)?;
    RequestHeader::decode(frame, version).map_err(|error| Error::Decode { reason: error.to_string() })
}

/// Decodes the body of a request after walking over it.
///
/// Bytes behind the last field are tolerated, as Kafka does: librdkafka 2.12 leaves three behind when it asks for the
/// metadata of all topics. A walk that ended elsewhere than the codec has not protected it, and refuses the request.
pub fn decode_request<R: Request>(body: &mut Bytes, version: i16) -> Result<R, Error> {
    let left = check_request(R::KEY, version, body)?;
    let request = R::decode(body, version).map_err(|error| Error::Decode { reason: error.to_string() })?;
    if body.len() == left { Ok(request) } else { Err(Error::Malformed { what: "its outline is not known here" }) }
}

/// Walks over the body of a request; returns the bytes that follow its last field.
pub fn check_request(api_key: i16, version: i16, body: &[u8]) -> Result<usize, Error> {
    let unknown = Error::UnknownApi { key: api_key };
    let Some(shape) = ApiKey::try_from(api_key).ok().and_then(shapes::of) else { return Err(unknown) };
    let mut walk = guard::Walk::new(body);
    walk.structure(shape, version)?;
    Ok(walk.left())
}

/// A whole response frame, length prefix included.
pub fn encode_response<R: Encodable>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &R,
) -> Result<Bytes, Error> {
    let reason = |error: &dyn std::fmt::Display| Error::Encode { reason: error.to_string() };
    let header_version = api.response_header_version(version);
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    let size = header.compute_size(header_version).and_then(|size| Ok(size + response.compute_size(version)?));
    let size = size.map_err(|error| reason(&error))?;
    let prefix = i32::try_from(size).map_err(|error| reason(&error))?;
    let mut frame = BytesMut::with_capacity(4 + size);
    frame.put_i32(prefix);
    header.encode(&mut frame, header_version).map_err(|error| reason(&error))?;
    response.encode(&mut frame, version).map_err(|error| reason(&error))?;
    if frame.len() == 4 + size {
        Ok(frame.freeze())
    } else {
        Err(Error::Encode { reason: format!("{} bytes written, {} announced", frame.len() - 4, size) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use kafka_protocol::messages::offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    };
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::StrBytes;

    fn text(text: &'static str) -> StrBytes {
        StrBytes::from_static_str(text)
    }

    /// The walk must end exactly where the encoded request ends, and the decoded request must equal the encoded one.
    fn walks<R: Request + PartialEq + std::fmt::Debug>(version: i16, request: &R) {
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes, version).unwrap();
        let left = check_request(R::KEY, version, &bytes).unwrap_or_else(|e| panic!("{request:?} v{version}: {e}"));
        assert_eq!(left, 0, "{request:?} v{version}");
        let mut body = bytes.clone().freeze();
        assert_eq!(&decode_request::<R>(&mut body, version).unwrap(), request);
        for length in 0..bytes.len() {
            // a request cut anywhere is refused, by the walk or by the codec, and never panics
            let mut cut = bytes.clone().freeze().split_to(length);
            assert!(decode_request::<R>(&mut cut, version).is_err(), "v{version} cut at {length}");
        }
    }

    fn walks_default<R: Request + Default + PartialEq + std::fmt::Debug>() {
        for version in R::VERSIONS.min..=R::VERSIONS.max {
            let mut bytes = BytesMut::new();
            if R::default().encode(&mut bytes, version).is_ok() {
                assert_eq!(check_request(R::KEY, version, &bytes).unwrap(), 0, "key {} v{version}", R::KEY);
            }
        }
    }

    #[test]
    fn empty_requests_of_every_version_are_walked_to_the_end() {
        walks_default::<ProduceRequest>();
        walks_default::<FetchRequest>();
        walks_default::<ListOffsetsRequest>();
        walks_default::<MetadataRequest>();
        walks_default::<OffsetCommitRequest>();
        walks_default::<OffsetFetchRequest>();
        walks_default::<FindCoordinatorRequest>();
        walks_default::<JoinGroupRequest>();
        walks_default::<HeartbeatRequest>();
        walks_default::<LeaveGroupRequest>();
        walks_default::<SyncGroupRequest>();
        walks_default::<DescribeGroupsRequest>();
        walks_default::<ListGroupsRequest>();
        walks_default::<ApiVersionsRequest>();
        walks_default::<CreateTopicsRequest>();
        walks_default::<DeleteTopicsRequest>();
        walks_default::<DeleteRecordsRequest>();
        walks_default::<InitProducerIdRequest>();
        walks_default::<OffsetForLeaderEpochRequest>();
        walks_default::<AddPartitionsToTxnRequest>();
        walks_default::<AddOffsetsToTxnRequest>();
        walks_default::<EndTxnRequest>();
        walks_default::<TxnOffsetCommitRequest>();
        walks_default::<DescribeTransactionsRequest>();
        walks_default::<ListTransactionsRequest>();
        walks_default::<DescribeConfigsRequest>();
        walks_default::<AlterConfigsRequest>();
        walks_default::<DescribeLogDirsRequest>();
        walks_default::<CreatePartitionsRequest>();
        walks_default::<DeleteGroupsRequest>();
        walks_default::<IncrementalAlterConfigsRequest>();
        walks_default::<OffsetDeleteRequest>();
        walks_default::<DescribeClusterRequest>();
        walks_default::<SaslHandshakeRequest>();
        walks_default::<SaslAuthenticateRequest>();
        walks_default::<DescribeAclsRequest>();
        walks_default::<CreateAclsRequest>();
        walks_default::<DeleteAclsRequest>();
        walks_default::<DescribeUserScramCredentialsRequest>();
        walks_default::<AlterUserScramCredentialsRequest>();
        walks_default::<DescribeClientQuotasRequest>();
        walks_default::<AlterClientQuotasRequest>();
        walks_default::<ElectLeadersRequest>();
        walks_default::<ListPartitionReassignmentsRequest>();
        walks_default::<DescribeProducersRequest>();
        walks_default::<ListConfigResourcesRequest>();
        walks_default::<DescribeTopicPartitionsRequest>();
        walks_default::<ConsumerGroupHeartbeatRequest>();
        walks_default::<ConsumerGroupDescribeRequest>();
    }

    #[test]
    fn filled_requests_are_walked_to_the_end() {
        for version in 3..=13 {
            let partition =
                PartitionProduceData::default().with_index(3).with_records(Some(Bytes::from_static(b"xyz")));
            let mut topic = TopicProduceData::default().with_partition_data(vec![partition.clone(), partition]);
            if version < 13 {
                topic = topic.with_name(TopicName(text("telemetry")));
            }
            walks(version, &ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic.clone(), topic]));
        }
        for version in 4..=18 {
            let partition = FetchPartition::default().with_fetch_offset(7).with_partition_max_bytes(1000);
            let mut topic = FetchTopic::default().with_partitions(vec![partition.clone(), partition]);
            if version < 13 {
                topic = topic.with_topic(TopicName(text("telemetry")));
            }
            let mut request = FetchRequest::default().with_topics(vec![topic]);
            if version >= 12 {
                request = request.with_cluster_id(Some(text("cluster")));
            }
            walks(version, &request);
        }
        for version in 0..=13 {
            let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text("a"))));
            walks(version, &MetadataRequest::default().with_topics(Some(vec![topic.clone(), topic])));
        }
        for version in 0..=9 {
            let one =
                JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"m"));
            walks(version, &JoinGroupRequest::default().with_group_id(GroupId(text("g"))).with_protocols(vec![one]));
        }
        for version in 1..=9 {
            let topic =
                OffsetFetchRequestTopic::default().with_name(TopicName(text("a"))).with_partition_indexes(vec![1, 2]);
            let topics =
                OffsetFetchRequestTopics::default().with_name(TopicName(text("a"))).with_partition_indexes(vec![3]);
            let request = if version < 8 {
                OffsetFetchRequest::default().with_group_id(GroupId(text("g"))).with_topics(Some(vec![topic]))
            } else {
                let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text("g")));
                OffsetFetchRequest::default().with_groups(vec![group.with_topics(Some(vec![topics]))])
            };
            walks(version, &request);
        }
        for version in 0..=5 {
            use kafka_protocol::messages::add_partitions_to_txn_request::{
                AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
            };
            let topic = AddPartitionsToTxnTopic::default().with_name(TopicName(text("a"))).with_partitions(vec![1, 2]);
            let topics = vec![topic.clone(), topic];
            let request = if version < 4 {
                AddPartitionsToTxnRequest::default().with_v3_and_below_topics(topics)
            } else {
                let one = AddPartitionsToTxnTransaction::default().with_verify_only(true).with_topics(topics);
                AddPartitionsToTxnRequest::default().with_transactions(vec![one.clone(), one])
            };
            walks(version, &request);
        }
        for version in 0..=5 {
            use kafka_protocol::messages::txn_offset_commit_request::{
                TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
            };
            let part = TxnOffsetCommitRequestPartition::default().with_committed_metadata(Some(text("note")));
            let topic = TxnOffsetCommitRequestTopic::default().with_name(TopicName(text("a")));
            let topic = topic.with_partitions(vec![part.clone(), part]);
            let mut request = TxnOffsetCommitRequest::default().with_topics(vec![topic.clone(), topic]);
            if version >= 3 {
                request = request.with_group_instance_id(Some(text("static"))).with_generation_id(4);
            }
            walks(version, &request);
        }
        for version in 0..=2 {
            let request = ListTransactionsRequest::default()
                .with_state_filters(vec![text("Ongoing"), text("Empty")])
                .with_producer_id_filters(vec![ProducerId(1), ProducerId(2)]);
            walks(version, &request);
        }
        for version in 0..=1 {
            use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
            let config = AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("-1")));
            let resource = AlterConfigsResource::default().with_resource_name(text("a")).with_configs(vec![config]);
            walks(version, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource.clone(), resource]));
        }
        for version in 0..=2 {
            let topic = elect_leaders_request::TopicPartitions::default().with_partitions(vec![1, 2]);
            walks(version, &ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic.clone(), topic])));
        }
        let topic = list_partition_reassignments_request::ListPartitionReassignmentsTopics::default();
        let topics = Some(vec![topic.with_partition_indexes(vec![1, 2])]);
        walks(0, &ListPartitionReassignmentsRequest::default().with_topics(topics));
        let topic = describe_producers_request::TopicRequest::default().with_partition_indexes(vec![1, 2]);
        walks(0, &DescribeProducersRequest::default().with_topics(vec![topic]));
        walks(1, &ListConfigResourcesRequest::default().with_resource_types(vec![2, 4]));
        let topic = describe_topic_partitions_request::TopicRequest::default().with_name(TopicName(text("a")));
        let cursor = describe_topic_partitions_request::Cursor::default().with_topic_name(TopicName(text("a")));
        let request = DescribeTopicPartitionsRequest::default().with_topics(vec![topic.clone(), topic]);
        walks(0, &request.with_cursor(Some(cursor)));
        for version in 0..=1 {
            use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
            let owned = TopicPartitions::default().with_partitions(vec![1, 2]);
            let mut request = ConsumerGroupHeartbeatRequest::default()
                .with_group_id(GroupId(text("g")))
                .with_member_id(text("m"))
                .with_instance_id(Some(text("i")))
                .with_subscribed_topic_names(Some(vec![TopicName(text("a")), TopicName(text("b"))]))
                .with_server_assignor(Some(text("uniform")))
                .with_topic_partitions(Some(vec![owned.clone(), owned]));
            if version >= 1 {
                request = request.with_subscribed_topic_regex(Some(text("a.*")));
            }
            walks(version, &request);
            let groups = vec![GroupId(text("g")), GroupId(text("h"))];
            walks(version, &ConsumerGroupDescribeRequest::default().with_group_ids(groups));
        }
        for version in 2..=7 {
            let config = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("-1")));
            let topic = CreatableTopic::default().with_name(TopicName(text("a"))).with_configs(vec![config]);
            walks(version, &CreateTopicsRequest::default().with_topics(vec![topic]));
        }
    }

    #[test]
    fn filled_requests_about_access_are_walked_to_the_end() {
        use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
        use kafka_protocol::messages::alter_user_scram_credentials_request as scram;
        use kafka_protocol::messages::create_acls_request::AclCreation;
        use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
        use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
        use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
        for version in 1..=3 {
            let filter = DescribeAclsRequest::default().with_resource_name_filter(Some(text("a")));
            walks(version, &filter.with_principal_filter(Some(text("User:b"))).with_operation(3));
            let one = AclCreation::default().with_resource_name(text("a")).with_principal(text("User:b"));
            walks(version, &CreateAclsRequest::default().with_creations(vec![one.clone(), one]));
            let one = DeleteAclsFilter::default().with_host_filter(Some(text("*"))).with_permission_type(1);
            walks(version, &DeleteAclsRequest::default().with_filters(vec![one.clone(), one]));
        }
        for version in 0..=2 {
            walks(version, &SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"abc")));
        }
        for version in 0..=1 {
            walks(version, &SaslHandshakeRequest::default().with_mechanism(text("PLAIN")));
            let one = ComponentData::default().with_entity_type(text("user")).with_match(Some(text("ada")));
            walks(version, &DescribeClientQuotasRequest::default().with_components(vec![one.clone(), one]));
            let entity = EntityData::default().with_entity_type(text("user")).with_entity_name(Some(text("ada")));
            let op = OpData::default().with_key(text("producer_byte_rate")).with_value(1.5);
            let entry = EntryData::default().with_entity(vec![entity]).with_ops(vec![op.clone(), op]);
            walks(version, &AlterClientQuotasRequest::default().with_entries(vec![entry.clone(), entry]));
        }
        let users = vec![UserName::default().with_name(text("ada"))];
        walks(0, &DescribeUserScramCredentialsRequest::default().with_users(Some(users)));
        let gone = scram::ScramCredentialDeletion::default().with_name(text("ada")).with_mechanism(1);
        let put = scram::ScramCredentialUpsertion::default().with_name(text("bob")).with_salt(Bytes::from_static(b"s"));
        let request = AlterUserScramCredentialsRequest::default().with_deletions(vec![gone.clone(), gone]);
        walks(0, &request.with_upsertions(vec![put.clone(), put]));
    }

    #[test]
    fn bytes_behind_the_last_field_are_tolerated() {
        // as librdkafka 2.12 asks for all topics in version 13
        let mut body = Bytes::from_static(&[0; 7]);
        assert_eq!(decode_request::<MetadataRequest>(&mut body, 13).unwrap().topics, None);
        assert_eq!(body.len(), 3);
    }

    // STR-13, dependencies trap 14: eight bytes may ask for gigabytes
    #[test]
    fn a_length_that_the_bytes_cannot_hold_is_refused_before_anything_is_reserved() {
        let metadata = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert!(matches!(decode_request::<MetadataRequest>(&mut metadata.clone(), 1), Err(Error::Truncated)));
        let compact = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]);
        assert!(matches!(decode_request::<MetadataRequest>(&mut compact.clone(), 12), Err(Error::Truncated)));
        assert!(matches!(decode_request::<DescribeGroupsRequest>(&mut compact.clone(), 5), Err(Error::Truncated)));
    }

    #[test]
    fn elements_are_limited_in_all() {
        let mut body = BytesMut::new();
        body.put_i32(200_000);
        body.resize(4 + 200_000 * 2 + 1, 0);
        let refused = decode_request::<MetadataRequest>(&mut body.freeze(), 1);
        assert!(matches!(refused, Err(Error::TooManyElements { .. })), "{refused:?}");
    }

    #[test]
    fn a_tagged_field_that_lies_about_its_length_is_refused() {
        let mut bytes = BytesMut::new();
        FetchRequest::default().encode(&mut bytes, 12).unwrap();
        bytes.truncate(bytes.len() - 1); // the empty list of tags
        bytes.extend_from_slice(&[1, 0, 1, 3, b'a', b'b']); // tag 0 says one byte, its string takes three
        let refused = decode_request::<FetchRequest>(&mut bytes.freeze(), 12);
        assert!(matches!(refused, Err(Error::Malformed { .. })), "{refused:?}");
    }

    #[test]
    fn headers_are_read_and_refused() {
        assert!(matches!(head(&[0; 7]), Err(Error::Truncated)));
        assert!(matches!(decode_header(&mut Bytes::from_static(&[0; 7])), Err(Error::Truncated)));
        let unknown = Bytes::from_static(&[0x7f, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(head(&unknown).unwrap().correlation_id, 9);
        assert!(matches!(decode_header(&mut unknown.clone()), Err(Error::UnknownApi { key: 0x7f00 })));
        let cut = Bytes::from_static(&[0, 3, 0, 1, 0, 0, 0, 9, 0x7f, 0xff]);
        assert!(matches!(decode_header(&mut cut.clone()), Err(Error::Truncated)));
    }
}
