//! The outline of every request that the broker decodes: which field has which kind in which versions.
//!
//! Only what the guard needs to walk over a request without decoding it. The names are those of the codec's messages;
//! a field that is missing here makes the walk fail, never pass: the test at the foot encodes a filled request of
//! every version with the codec and walks over it.
//! Look next at `guard.rs`, which does the walking.

use kafka_protocol::messages::ApiKey;

/// One kind of field, as it lies on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string with a 16-bit length, or compact.
    Text,
    /// Bytes with a 32-bit length, or compact.
    Blob,
    /// A structure in place.
    Nested(&'static Shape),
    /// A structure behind a byte that says whether it is there.
    Optional(&'static Shape),
    /// An array of structures.
    Array(&'static Shape),
    /// An array of elements of so many bytes each.
    FixedArray(usize),
    /// An array of strings.
    TextArray,
}

use Kind::{Array, Blob, Fixed, FixedArray, Nested, Optional, Text, TextArray};

/// A field and the versions (both inclusive) that have it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) first: i16,
    pub(super) last: i16,
    pub(super) kind: Kind,
}

/// A structure.
#[derive(Debug)]
pub(super) struct Shape {
    /// First version with compact lengths and tagged fields; [`NEVER`] when there is none.
    pub(super) flexible_since: i16,
    pub(super) fields: &'static [Field],
    /// Tagged fields that the codec decodes: tag, first version, kind. All others are skipped by their size.
    pub(super) tags: &'static [(u32, i16, Kind)],
}

const NEVER: i16 = i16::MAX;

const fn always(kind: Kind) -> Field {
    Field { first: 0, last: i16::MAX, kind }
}

const fn since(first: i16, kind: Kind) -> Field {
    Field { first, last: i16::MAX, kind }
}

const fn until(last: i16, kind: Kind) -> Field {
    Field { first: 0, last, kind }
}

const fn between(first: i16, last: i16, kind: Kind) -> Field {
    Field { first, last, kind }
}

/// The outline of a request, or `None` for an API that the broker does not speak.
pub(super) fn of(api: ApiKey) -> Option<&'static Shape> {
    Some(match api {
        ApiKey::Produce => &PRODUCE_REQUEST,
        ApiKey::Fetch => &FETCH_REQUEST,
        ApiKey::ListOffsets => &LIST_OFFSETS_REQUEST,
        ApiKey::Metadata => &METADATA_REQUEST,
        ApiKey::OffsetCommit => &OFFSET_COMMIT_REQUEST,
        ApiKey::OffsetFetch => &OFFSET_FETCH_REQUEST,
        ApiKey::FindCoordinator => &FIND_COORDINATOR_REQUEST,
        ApiKey::JoinGroup => &JOIN_GROUP_REQUEST,
        ApiKey::Heartbeat => &HEARTBEAT_REQUEST,
        ApiKey::LeaveGroup => &LEAVE_GROUP_REQUEST,
        ApiKey::SyncGroup => &SYNC_GROUP_REQUEST,
        ApiKey::DescribeGroups => &DESCRIBE_GROUPS_REQUEST,
        ApiKey::ListGroups => &LIST_GROUPS_REQUEST,
        ApiKey::ApiVersions => &API_VERSIONS_REQUEST,
        ApiKey::CreateTopics => &CREATE_TOPICS_REQUEST,
        ApiKey::DeleteTopics => &DELETE_TOPICS_REQUEST,
        ApiKey::DeleteRecords => &DELETE_RECORDS_REQUEST,
        ApiKey::InitProducerId => &INIT_PRODUCER_ID_REQUEST,
        ApiKey::AddPartitionsToTxn => &ADD_PARTITIONS_TO_TXN_REQUEST,
        ApiKey::AddOffsetsToTxn => &ADD_OFFSETS_TO_TXN_REQUEST,
        ApiKey::EndTxn => &END_TXN_REQUEST,
        ApiKey::TxnOffsetCommit => &TXN_OFFSET_COMMIT_REQUEST,
        ApiKey::DescribeTransactions => &DESCRIBE_TRANSACTIONS_REQUEST,
        ApiKey::ListTransactions => &LIST_TRANSACTIONS_REQUEST,
        ApiKey::OffsetForLeaderEpoch => &OFFSET_FOR_LEADER_EPOCH_REQUEST,
        ApiKey::DescribeConfigs => &DESCRIBE_CONFIGS_REQUEST,
        ApiKey::AlterConfigs => &ALTER_CONFIGS_REQUEST,
        ApiKey::DescribeLogDirs => &DESCRIBE_LOG_DIRS_REQUEST,
        ApiKey::CreatePartitions => &CREATE_PARTITIONS_REQUEST,
        ApiKey::DeleteGroups => &DELETE_GROUPS_REQUEST,
        ApiKey::IncrementalAlterConfigs => &INCREMENTAL_ALTER_CONFIGS_REQUEST,
        ApiKey::SaslHandshake => &SASL_HANDSHAKE_REQUEST,
        ApiKey::SaslAuthenticate => &SASL_AUTHENTICATE_REQUEST,
        ApiKey::DescribeAcls => &DESCRIBE_ACLS_REQUEST,
        ApiKey::CreateAcls => &CREATE_ACLS_REQUEST,
        ApiKey::DeleteAcls => &DELETE_ACLS_REQUEST,
        ApiKey::DescribeUserScramCredentials => &DESCRIBE_USER_SCRAM_CREDENTIALS_REQUEST,
        ApiKey::AlterUserScramCredentials => &ALTER_USER_SCRAM_CREDENTIALS_REQUEST,
        ApiKey::DescribeClientQuotas => &DESCRIBE_CLIENT_QUOTAS_REQUEST,
        ApiKey::AlterClientQuotas => &ALTER_CLIENT_QUOTAS_REQUEST,
        ApiKey::OffsetDelete => &OFFSET_DELETE_REQUEST,
        ApiKey::DescribeCluster => &DESCRIBE_CLUSTER_REQUEST,
        ApiKey::ElectLeaders => &ELECT_LEADERS_REQUEST,
        ApiKey::ListPartitionReassignments => &LIST_PARTITION_REASSIGNMENTS_REQUEST,
        ApiKey::DescribeProducers => &DESCRIBE_PRODUCERS_REQUEST,
        ApiKey::ListConfigResources => &LIST_CONFIG_RESOURCES_REQUEST,
        ApiKey::DescribeTopicPartitions => &DESCRIBE_TOPIC_PARTITIONS_REQUEST,
        ApiKey::ConsumerGroupHeartbeat => &CONSUMER_GROUP_HEARTBEAT_REQUEST,
        ApiKey::ConsumerGroupDescribe => &CONSUMER_GROUP_DESCRIBE_REQUEST,
        _ => return None,
    })
}

const PARTITION_PRODUCE_DATA: Shape = Shape { flexible_since: 9, fields: &[always(Fixed(4)), always(Blob)], tags: &[] };
const TOPIC_PRODUCE_DATA: Shape = Shape {
    flexible_since: 9,
    fields: &[until(12, Text), since(13, Fixed(16)), always(Array(&PARTITION_PRODUCE_DATA))],
    tags: &[],
};
const PRODUCE_REQUEST: Shape = Shape {
    flexible_since: 9,
    fields: &[always(Text), always(Fixed(2)), always(Fixed(4)), always(Array(&TOPIC_PRODUCE_DATA))],
    tags: &[],
};
const FETCH_PARTITION: Shape = Shape {
    flexible_since: 12,
    fields: &[
        always(Fixed(4)),
        since(9, Fixed(4)),
        always(Fixed(8)),
        since(12, Fixed(4)),
        since(5, Fixed(8)),
        always(Fixed(4)),
    ],
    tags: &[(0, 17, Fixed(16)), (1, 18, Fixed(8))],
};
const FETCH_TOPIC: Shape = Shape {
    flexible_since: 12,
    fields: &[until(12, Text), since(13, Fixed(16)), always(Array(&FETCH_PARTITION))],
    tags: &[],
};
const FORGOTTEN_TOPIC: Shape = Shape {
    flexible_since: 12,
    fields: &[between(7, 12, Text), since(13, Fixed(16)), since(7, FixedArray(4))],
    tags: &[],
};
const REPLICA_STATE: Shape =
    Shape { flexible_since: 12, fields: &[since(15, Fixed(4)), since(15, Fixed(8))], tags: &[] };
const FETCH_REQUEST: Shape = Shape {
    flexible_since: 12,
    fields: &[
        until(14, Fixed(4)),
        always(Fixed(4)),
        always(Fixed(4)),
        always(Fixed(4)),
        always(Fixed(1)),
        since(7, Fixed(4)),
        since(7, Fixed(4)),
        always(Array(&FETCH_TOPIC)),
        since(7, Array(&FORGOTTEN_TOPIC)),
        since(11, Text),
    ],
    tags: &[(0, 12, Text), (1, 15, Nested(&REPLICA_STATE))],
};
const LIST_OFFSETS_PARTITION: Shape =
    Shape { flexible_since: 6, fields: &[always(Fixed(4)), since(4, Fixed(4)), always(Fixed(8))], tags: &[] };
const LIST_OFFSETS_TOPIC: Shape =
    Shape { flexible_since: 6, fields: &[always(Text), always(Array(&LIST_OFFSETS_PARTITION))], tags: &[] };
const LIST_OFFSETS_REQUEST: Shape = Shape {
    flexible_since: 6,
    fields: &[always(Fixed(4)), since(2, Fixed(1)), always(Array(&LIST_OFFSETS_TOPIC)), since(10, Fixed(4))],
    tags: &[],
};
const METADATA_REQUEST_TOPIC: Shape =
    Shape { flexible_since: 9, fields: &[since(10, Fixed(16)), always(Text)], tags: &[] };
const METADATA_REQUEST: Shape = Shape {
    flexible_since: 9,
    fields: &[always(Array(&METADATA_REQUEST_TOPIC)), since(4, Fixed(1)), between(8, 10, Fixed(1)), since(8, Fixed(1))],
    tags: &[],
};
const OFFSET_COMMIT_REQUEST_PARTITION: Shape = Shape {
    flexible_since: 8,
    fields: &[always(Fixed(4)), always(Fixed(8)), since(6, Fixed(4)), always(Text)],
    tags: &[],
};
const OFFSET_COMMIT_REQUEST_TOPIC: Shape =
    Shape { flexible_since: 8, fields: &[always(Text), always(Array(&OFFSET_COMMIT_REQUEST_PARTITION))], tags: &[] };
const OFFSET_COMMIT_REQUEST: Shape = Shape {
    flexible_since: 8,
    fields: &[
        always(Text),
        always(Fixed(4)),
        always(Text),
        since(7, Text),
        until(4, Fixed(8)),
        always(Array(&OFFSET_COMMIT_REQUEST_TOPIC)),
    ],
    tags: &[],
};
const OFFSET_FETCH_REQUEST_TOPIC: Shape =
    Shape { flexible_since: 6, fields: &[until(7, Text), until(7, FixedArray(4))], tags: &[] };
const OFFSET_FETCH_REQUEST_TOPICS: Shape =
    Shape { flexible_since: 6, fields: &[since(8, Text), since(8, FixedArray(4))], tags: &[] };
const OFFSET_FETCH_REQUEST_GROUP: Shape = Shape {
    flexible_since: 6,
    fields: &[since(8, Text), since(9, Text), since(9, Fixed(4)), since(8, Array(&OFFSET_FETCH_REQUEST_TOPICS))],
    tags: &[],
};
const OFFSET_FETCH_REQUEST: Shape = Shape {
    flexible_since: 6,
    fields: &[
        until(7, Text),
        until(7, Array(&OFFSET_FETCH_REQUEST_TOPIC)),
        since(8, Array(&OFFSET_FETCH_REQUEST_GROUP)),
        since(7, Fixed(1)),
    ],
    tags: &[],
};
const FIND_COORDINATOR_REQUEST: Shape =
    Shape { flexible_since: 3, fields: &[until(3, Text), since(1, Fixed(1)), since(4, TextArray)], tags: &[] };
const JOIN_GROUP_REQUEST_PROTOCOL: Shape =
    Shape { flexible_since: 6, fields: &[always(Text), always(Blob)], tags: &[] };
const JOIN_GROUP_REQUEST: Shape = Shape {
    flexible_since: 6,
    fields: &[
        always(Text),
        always(Fixed(4)),
        since(1, Fixed(4)),
        always(Text),
        since(5, Text),
        always(Text),
        always(Array(&JOIN_GROUP_REQUEST_PROTOCOL)),
        since(8, Text),
    ],
    tags: &[],
};
const HEARTBEAT_REQUEST: Shape =
    Shape { flexible_since: 4, fields: &[always(Text), always(Fixed(4)), always(Text), since(3, Text)], tags: &[] };
const MEMBER_IDENTITY: Shape =
    Shape { flexible_since: 4, fields: &[since(3, Text), since(3, Text), since(5, Text)], tags: &[] };
const LEAVE_GROUP_REQUEST: Shape =
    Shape { flexible_since: 4, fields: &[always(Text), until(2, Text), since(3, Array(&MEMBER_IDENTITY))], tags: &[] };
const SYNC_GROUP_REQUEST_ASSIGNMENT: Shape =
    Shape { flexible_since: 4, fields: &[always(Text), always(Blob)], tags: &[] };
const SYNC_GROUP_REQUEST: Shape = Shape {
    flexible_since: 4,
    fields: &[
        always(Text),
        always(Fixed(4)),
        always(Text),
        since(3, Text),
        since(5, Text),
        since(5, Text),
        always(Array(&SYNC_GROUP_REQUEST_ASSIGNMENT)),
    ],
    tags: &[],
};
const DESCRIBE_GROUPS_REQUEST: Shape =
    Shape { flexible_since: 5, fields: &[always(TextArray), since(3, Fixed(1))], tags: &[] };
const LIST_GROUPS_REQUEST: Shape =
    Shape { flexible_since: 3, fields: &[since(4, TextArray), since(5, TextArray)], tags: &[] };
const API_VERSIONS_REQUEST: Shape = Shape { flexible_since: 3, fields: &[since(3, Text), since(3, Text)], tags: &[] };
const CREATABLE_REPLICA_ASSIGNMENT: Shape =
    Shape { flexible_since: 5, fields: &[always(Fixed(4)), always(FixedArray(4))], tags: &[] };
const CREATABLE_TOPIC_CONFIG: Shape = Shape { flexible_since: 5, fields: &[always(Text), always(Text)], tags: &[] };
const CREATABLE_TOPIC: Shape = Shape {
    flexible_since: 5,
    fields: &[
        always(Text),
        always(Fixed(4)),
        always(Fixed(2)),
        always(Array(&CREATABLE_REPLICA_ASSIGNMENT)),
        always(Array(&CREATABLE_TOPIC_CONFIG)),
    ],
    tags: &[],
};
const CREATE_TOPICS_REQUEST: Shape = Shape {
    flexible_since: 5,
    fields: &[always(Array(&CREATABLE_TOPIC)), always(Fixed(4)), always(Fixed(1))],
    tags: &[],
};
const DELETE_TOPIC_STATE: Shape =
    Shape { flexible_since: 4, fields: &[since(6, Text), since(6, Fixed(16))], tags: &[] };
const DELETE_TOPICS_REQUEST: Shape = Shape {
    flexible_since: 4,
    fields: &[since(6, Array(&DELETE_TOPIC_STATE)), until(5, TextArray), always(Fixed(4))],
    tags: &[],
};
const DELETE_RECORDS_PARTITION: Shape =
    Shape { flexible_since: 2, fields: &[always(Fixed(4)), always(Fixed(8))], tags: &[] };
const DELETE_RECORDS_TOPIC: Shape =
    Shape { flexible_since: 2, fields: &[always(Text), always(Array(&DELETE_RECORDS_PARTITION))], tags: &[] };
const DELETE_RECORDS_REQUEST: Shape =
    Shape { flexible_since: 2, fields: &[always(Array(&DELETE_RECORDS_TOPIC)), always(Fixed(4))], tags: &[] };
const INIT_PRODUCER_ID_REQUEST: Shape = Shape {
    flexible_since: 2,
    fields: &[always(Text), always(Fixed(4)), since(3, Fixed(8)), since(3, Fixed(2))],
    tags: &[],
};
const ADD_PARTITIONS_TOPIC: Shape =
    Shape { flexible_since: 3, fields: &[always(Text), always(FixedArray(4))], tags: &[] };
const ADD_PARTITIONS_TRANSACTION: Shape = Shape {
    flexible_since: 3,
    fields: &[
        since(4, Text),
        since(4, Fixed(8)),
        since(4, Fixed(2)),
        since(4, Fixed(1)),
        since(4, Array(&ADD_PARTITIONS_TOPIC)),
    ],
    tags: &[],
};
const ADD_PARTITIONS_TO_TXN_REQUEST: Shape = Shape {
    flexible_since: 3,
    fields: &[
        since(4, Array(&ADD_PARTITIONS_TRANSACTION)),
        until(3, Text),
        until(3, Fixed(8)),
        until(3, Fixed(2)),
        until(3, Array(&ADD_PARTITIONS_TOPIC)),
    ],
    tags: &[],
};
const ADD_OFFSETS_TO_TXN_REQUEST: Shape =
    Shape { flexible_since: 3, fields: &[always(Text), always(Fixed(8)), always(Fixed(2)), always(Text)], tags: &[] };
const END_TXN_REQUEST: Shape = Shape {
    flexible_since: 3,
    fields: &[always(Text), always(Fixed(8)), always(Fixed(2)), always(Fixed(1))],
    tags: &[],
};
const TXN_OFFSET_COMMIT_PARTITION: Shape = Shape {
    flexible_since: 3,
    fields: &[always(Fixed(4)), always(Fixed(8)), since(2, Fixed(4)), always(Text)],
    tags: &[],
};
const TXN_OFFSET_COMMIT_TOPIC: Shape =
    Shape { flexible_since: 3, fields: &[always(Text), always(Array(&TXN_OFFSET_COMMIT_PARTITION))], tags: &[] };
const TXN_OFFSET_COMMIT_REQUEST: Shape = Shape {
    flexible_since: 3,
    fields: &[
        always(Text),
        always(Text),
        always(Fixed(8)),
        always(Fixed(2)),
        since(3, Fixed(4)),
        since(3, Text),
        since(3, Text),
        always(Array(&TXN_OFFSET_COMMIT_TOPIC)),
    ],
    tags: &[],
};
const DESCRIBE_TRANSACTIONS_REQUEST: Shape = Shape { flexible_since: 0, fields: &[always(TextArray)], tags: &[] };
const LIST_TRANSACTIONS_REQUEST: Shape = Shape {
    flexible_since: 0,
    fields: &[always(TextArray), always(FixedArray(8)), since(1, Fixed(8)), since(2, Text)],
    tags: &[],
};
const OFFSET_FOR_LEADER_PARTITION: Shape =
    Shape { flexible_since: 4, fields: &[always(Fixed(4)), always(Fixed(4)), always(Fixed(4))], tags: &[] };
const OFFSET_FOR_LEADER_TOPIC: Shape =
    Shape { flexible_since: 4, fields: &[always(Text), always(Array(&OFFSET_FOR_LEADER_PARTITION))], tags: &[] };
const OFFSET_FOR_LEADER_EPOCH_REQUEST: Shape =
    Shape { flexible_since: 4, fields: &[since(3, Fixed(4)), always(Array(&OFFSET_FOR_LEADER_TOPIC))], tags: &[] };
const DESCRIBE_CONFIGS_RESOURCE: Shape =
    Shape { flexible_since: 4, fields: &[always(Fixed(1)), always(Text), always(TextArray)], tags: &[] };
const DESCRIBE_CONFIGS_REQUEST: Shape = Shape {
    flexible_since: 4,
    fields: &[always(Array(&DESCRIBE_CONFIGS_RESOURCE)), always(Fixed(1)), since(3, Fixed(1))],
    tags: &[],
};
const ALTERABLE_CONFIG: Shape = Shape { flexible_since: 2, fields: &[always(Text), always(Text)], tags: &[] };
const ALTER_CONFIGS_RESOURCE: Shape =
    Shape { flexible_since: 2, fields: &[always(Fixed(1)), always(Text), always(Array(&ALTERABLE_CONFIG))], tags: &[] };
const ALTER_CONFIGS_REQUEST: Shape =
    Shape { flexible_since: 2, fields: &[always(Array(&ALTER_CONFIGS_RESOURCE)), always(Fixed(1))], tags: &[] };
const DESCRIBABLE_LOG_DIR_TOPIC: Shape =
    Shape { flexible_since: 2, fields: &[always(Text), always(FixedArray(4))], tags: &[] };
const DESCRIBE_LOG_DIRS_REQUEST: Shape =
    Shape { flexible_since: 2, fields: &[always(Array(&DESCRIBABLE_LOG_DIR_TOPIC))], tags: &[] };
const CREATE_PARTITIONS_ASSIGNMENT: Shape = Shape { flexible_since: 2, fields: &[always(FixedArray(4))], tags: &[] };
const CREATE_PARTITIONS_TOPIC: Shape = Shape {
    flexible_since: 2,
    fields: &[always(Text), always(Fixed(4)), always(Array(&CREATE_PARTITIONS_ASSIGNMENT))],
    tags: &[],
};
const CREATE_PARTITIONS_REQUEST: Shape = Shape {
    flexible_since: 2,
    fields: &[always(Array(&CREATE_PARTITIONS_TOPIC)), always(Fixed(4)), always(Fixed(1))],
    tags: &[],
};
const DELETE_GROUPS_REQUEST: Shape = Shape { flexible_since: 2, fields: &[always(TextArray)], tags: &[] };
const AMENDED_CONFIG: Shape =
    Shape { flexible_since: 1, fields: &[always(Text), always(Fixed(1)), always(Text)], tags: &[] };
const AMENDED_RESOURCE: Shape =
    Shape { flexible_since: 1, fields: &[always(Fixed(1)), always(Text), always(Array(&AMENDED_CONFIG))], tags: &[] };
const INCREMENTAL_ALTER_CONFIGS_REQUEST: Shape =
    Shape { flexible_since: 1, fields: &[always(Array(&AMENDED_RESOURCE)), always(Fixed(1))], tags: &[] };
const OFFSET_DELETE_REQUEST_PARTITION: Shape = Shape { flexible_since: NEVER, fields: &[always(Fixed(4))], tags: &[] };
const OFFSET_DELETE_REQUEST_TOPIC: Shape = Shape {
    flexible_since: NEVER,
    fields: &[always(Text), always(Array(&OFFSET_DELETE_REQUEST_PARTITION))],
    tags: &[],
};
const OFFSET_DELETE_REQUEST: Shape =
    Shape { flexible_since: NEVER, fields: &[always(Text), always(Array(&OFFSET_DELETE_REQUEST_TOPIC))], tags: &[] };
const DESCRIBE_CLUSTER_REQUEST: Shape =
    Shape { flexible_since: 0, fields: &[always(Fixed(1)), since(1, Fixed(1)), since(2, Fixed(1))], tags: &[] };
const SASL_HANDSHAKE_REQUEST: Shape = Shape { flexible_since: NEVER, fields: &[always(Text)], tags: &[] };
const SASL_AUTHENTICATE_REQUEST: Shape = Shape { flexible_since: 2, fields: &[always(Blob)], tags: &[] };
const ACL_FILTER: Shape = Shape {
    flexible_since: 2,
    fields: &[
        always(Fixed(1)),
        always(Text),
        always(Fixed(1)),
        always(Text),
        always(Text),
        always(Fixed(1)),
        always(Fixed(1)),
    ],
    tags: &[],
};
const DESCRIBE_ACLS_REQUEST: Shape = ACL_FILTER;
const CREATE_ACLS_REQUEST: Shape = Shape { flexible_since: 2, fields: &[always(Array(&ACL_FILTER))], tags: &[] };
const DELETE_ACLS_REQUEST: Shape = Shape { flexible_since: 2, fields: &[always(Array(&ACL_FILTER))], tags: &[] };
const USER_NAME: Shape = Shape { flexible_since: 0, fields: &[always(Text)], tags: &[] };
const DESCRIBE_USER_SCRAM_CREDENTIALS_REQUEST: Shape =
    Shape { flexible_since: 0, fields: &[always(Array(&USER_NAME))], tags: &[] };
const SCRAM_CREDENTIAL_DELETION: Shape =
    Shape { flexible_since: 0, fields: &[always(Text), always(Fixed(1))], tags: &[] };
const SCRAM_CREDENTIAL_UPSERTION: Shape = Shape {
    flexible_since: 0,
    fields: &[always(Text), always(Fixed(1)), always(Fixed(4)), always(Blob), always(Blob)],
    tags: &[],
};
const ALTER_USER_SCRAM_CREDENTIALS_REQUEST: Shape = Shape {
    flexible_since: 0,
    fields: &[always(Array(&SCRAM_CREDENTIAL_DELETION)), always(Array(&SCRAM_CREDENTIAL_UPSERTION))],
    tags: &[],
};
const QUOTA_COMPONENT: Shape =
    Shape { flexible_since: 1, fields: &[always(Text), always(Fixed(1)), always(Text)], tags: &[] };
const DESCRIBE_CLIENT_QUOTAS_REQUEST: Shape =
    Shape { flexible_since: 1, fields: &[always(Array(&QUOTA_COMPONENT)), always(Fixed(1))], tags: &[] };
const QUOTA_ENTITY: Shape = Shape { flexible_since: 1, fields: &[always(Text), always(Text)], tags: &[] };
const QUOTA_OPERATION: Shape =
    Shape { flexible_since: 1, fields: &[always(Text), always(Fixed(8)), always(Fixed(1))], tags: &[] };
const QUOTA_ENTRY: Shape =
    Shape { flexible_since: 1, fields: &[always(Array(&QUOTA_ENTITY)), always(Array(&QUOTA_OPERATION))], tags: &[] };
const ALTER_CLIENT_QUOTAS_REQUEST: Shape =
    Shape { flexible_since: 1, fields: &[always(Array(&QUOTA_ENTRY)), always(Fixed(1))], tags: &[] };
const ELECTED_PARTITIONS: Shape =
    Shape { flexible_since: 2, fields: &[always(Text), always(FixedArray(4))], tags: &[] };
const ELECT_LEADERS_REQUEST: Shape = Shape {
    flexible_since: 2,
    fields: &[since(1, Fixed(1)), always(Array(&ELECTED_PARTITIONS)), always(Fixed(4))],
    tags: &[],
};
const PARTITIONS_OF_TOPIC: Shape =
    Shape { flexible_since: 0, fields: &[always(Text), always(FixedArray(4))], tags: &[] };
const LIST_PARTITION_REASSIGNMENTS_REQUEST: Shape =
    Shape { flexible_since: 0, fields: &[always(Fixed(4)), always(Array(&PARTITIONS_OF_TOPIC))], tags: &[] };
const DESCRIBE_PRODUCERS_REQUEST: Shape =
    Shape { flexible_since: 0, fields: &[always(Array(&PARTITIONS_OF_TOPIC))], tags: &[] };
const LIST_CONFIG_RESOURCES_REQUEST: Shape = Shape { flexible_since: 0, fields: &[since(1, FixedArray(1))], tags: &[] };
const DESCRIBED_TOPIC: Shape = Shape { flexible_since: 0, fields: &[always(Text)], tags: &[] };
const CURSOR: Shape = Shape { flexible_since: 0, fields: &[always(Text), always(Fixed(4))], tags: &[] };
const DESCRIBE_TOPIC_PARTITIONS_REQUEST: Shape = Shape {
    flexible_since: 0,
    fields: &[always(Array(&DESCRIBED_TOPIC)), always(Fixed(4)), always(Optional(&CURSOR))],
    tags: &[],
};
const CONSUMER_TOPIC_PARTITIONS: Shape =
    Shape { flexible_since: 0, fields: &[always(Fixed(16)), always(FixedArray(4))], tags: &[] };
const CONSUMER_GROUP_HEARTBEAT_REQUEST: Shape = Shape {
    flexible_since: 0,
    fields: &[
        always(Text),
        always(Text),
        always(Fixed(4)),
        always(Text),
        always(Text),
        always(Fixed(4)),
        always(TextArray),
        since(1, Text),
        always(Text),
        always(Array(&CONSUMER_TOPIC_PARTITIONS)),
    ],
    tags: &[],
};
const CONSUMER_GROUP_DESCRIBE_REQUEST: Shape =
    Shape { flexible_since: 0, fields: &[always(TextArray), always(Fixed(1))], tags: &[] };
