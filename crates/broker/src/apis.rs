//! Which APIs the broker speaks, in which versions. ApiVersions answers with this table, dispatch obeys it.
//!
//! Invariant: a version is in the table only when it works in full (STR-10). Newest versions are the newest of the
//! codec, but for places where its own messages end earlier than its table says (offset commit and fetch 10), the last
//! versions of EndTxn and TxnOffsetCommit, which belong to another protocol of transactions (KIP-890), and that of
//! ListTransactions, which filters by a pattern.

use kafka_protocol::messages::ApiKey;

/// One API.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Api {
    pub(crate) key: ApiKey,
    /// As metrics and logs call it.
    pub(crate) name: &'static str,
    pub(crate) min: i16,
    pub(crate) max: i16,
}

const fn api(key: ApiKey, name: &'static str, min: i16, max: i16) -> Api {
    Api { key, name, min, max }
}

/// Sorted by key.
pub(crate) const APIS: &[Api] = &[
    api(ApiKey::Produce, "produce", 3, 13),
    api(ApiKey::Fetch, "fetch", 4, 18),
    api(ApiKey::ListOffsets, "list_offsets", 1, 10),
    api(ApiKey::Metadata, "metadata", 0, 13),
    api(ApiKey::OffsetCommit, "offset_commit", 2, 9),
    api(ApiKey::OffsetFetch, "offset_fetch", 1, 9),
    api(ApiKey::FindCoordinator, "find_coordinator", 0, 6),
    api(ApiKey::JoinGroup, "join_group", 0, 9),
    api(ApiKey::Heartbeat, "heartbeat", 0, 4),
    api(ApiKey::LeaveGroup, "leave_group", 0, 5),
    api(ApiKey::SyncGroup, "sync_group", 0, 5),
    api(ApiKey::DescribeGroups, "describe_groups", 0, 6),
    api(ApiKey::ListGroups, "list_groups", 0, 5),
    api(ApiKey::SaslHandshake, "sasl_handshake", 0, 1),
    api(ApiKey::ApiVersions, "api_versions", 0, 4),
    api(ApiKey::CreateTopics, "create_topics", 2, 7),
    api(ApiKey::DeleteTopics, "delete_topics", 1, 6),
    api(ApiKey::DeleteRecords, "delete_records", 0, 2),
    api(ApiKey::InitProducerId, "init_producer_id", 0, 5),
    api(ApiKey::OffsetForLeaderEpoch, "offset_for_leader_epoch", 2, 4),
    api(ApiKey::AddPartitionsToTxn, "add_partitions_to_txn", 0, 5),
    api(ApiKey::AddOffsetsToTxn, "add_offsets_to_txn", 0, 4),
    api(ApiKey::EndTxn, "end_txn", 0, 4),
    api(ApiKey::TxnOffsetCommit, "txn_offset_commit", 0, 4),
    api(ApiKey::DescribeAcls, "describe_acls", 1, 3),
    api(ApiKey::CreateAcls, "create_acls", 1, 3),
    api(ApiKey::DeleteAcls, "delete_acls", 1, 3),
    api(ApiKey::DescribeConfigs, "describe_configs", 1, 4),
    api(ApiKey::AlterConfigs, "alter_configs", 0, 2),
    api(ApiKey::DescribeLogDirs, "describe_log_dirs", 1, 4),
    api(ApiKey::SaslAuthenticate, "sasl_authenticate", 0, 2),
    api(ApiKey::CreatePartitions, "create_partitions", 0, 3),
    api(ApiKey::DeleteGroups, "delete_groups", 0, 2),
    api(ApiKey::ElectLeaders, "elect_leaders", 0, 2),
    api(ApiKey::IncrementalAlterConfigs, "incremental_alter_configs", 0, 1),
    api(ApiKey::ListPartitionReassignments, "list_partition_reassignments", 0, 0),
    api(ApiKey::OffsetDelete, "offset_delete", 0, 0),
    api(ApiKey::DescribeClientQuotas, "describe_client_quotas", 0, 1),
    api(ApiKey::AlterClientQuotas, "alter_client_quotas", 0, 1),
    api(ApiKey::DescribeUserScramCredentials, "describe_user_scram_credentials", 0, 0),
    api(ApiKey::AlterUserScramCredentials, "alter_user_scram_credentials", 0, 0),
    api(ApiKey::DescribeCluster, "describe_cluster", 0, 2),
    api(ApiKey::DescribeProducers, "describe_producers", 0, 0),
    api(ApiKey::DescribeTransactions, "describe_transactions", 0, 0),
    api(ApiKey::ListTransactions, "list_transactions", 0, 1),
    api(ApiKey::ConsumerGroupHeartbeat, "consumer_group_heartbeat", 0, 1),
    api(ApiKey::ConsumerGroupDescribe, "consumer_group_describe", 0, 1),
    api(ApiKey::ListConfigResources, "list_config_resources", 0, 1),
    api(ApiKey::DescribeTopicPartitions, "describe_topic_partitions", 0, 0),
];

/// The row of an API key, if the broker speaks it.
pub(crate) fn find(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key as i16 == key)
}

/// The oldest version told to clients.
///
/// librdkafka before 2.11 takes a Produce range that does not begin at 0 for a broker without batch compression and
/// falls back to nothing it could use; Apache Kafka 4 announces 0 for the same reason. A request older than the table
/// is refused all the same; no client in use sends one.
pub(crate) fn announced_min(api: &Api) -> i16 {
    if api.key == ApiKey::Produce { 0 } else { api.min }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_within_the_codec() {
        assert!(APIS.is_sorted_by_key(|api| api.key as i16));
        for api in APIS {
            let codec = api.key.valid_versions();
            assert!(api.min >= codec.min && api.max <= codec.max, "{}", api.name);
        }
    }
}
