//! The answer to a request that is not spoken here: UNSUPPORTED_VERSION, where the client can read it.
//!
//! An answer can be written when the codec knows the API in the version asked for and its answer has a place for an
//! error that does not depend on what was asked. Everything else closes the connection with a logged reason.

use bytes::Bytes;
use kafka::protocol::{Head, encode_response};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    AddOffsetsToTxnResponse, AddPartitionsToTxnResponse, AlterPartitionReassignmentsResponse, ApiKey,
    ConsumerGroupHeartbeatResponse, CreateDelegationTokenResponse, DescribeAclsResponse, DescribeClientQuotasResponse,
    DescribeDelegationTokenResponse, DescribeQuorumResponse, DescribeUserScramCredentialsResponse,
    ElectLeadersResponse, EndTxnResponse, ExpireDelegationTokenResponse, FindCoordinatorResponse,
    GetTelemetrySubscriptionsResponse, InitProducerIdResponse, JoinGroupResponse, ListConfigResourcesResponse,
    ListPartitionReassignmentsResponse, ListTransactionsResponse, OffsetFetchResponse, PushTelemetryResponse,
    RenewDelegationTokenResponse, SaslAuthenticateResponse, SaslHandshakeResponse, ShareAcknowledgeResponse,
    ShareFetchResponse, ShareGroupHeartbeatResponse, UnregisterBrokerResponse, UpdateFeaturesResponse,
};

/// The answer, or `None` when none could be read by the client.
pub(crate) fn answer(head: Head) -> Option<Bytes> {
    let api = ApiKey::try_from(head.api_key).ok()?;
    let codec = api.valid_versions();
    if !(codec.min..=codec.max).contains(&head.version) {
        return None;
    }
    let code = ResponseError::UnsupportedVersion.code();
    macro_rules! refuse {
        ($($api:ident => $response:ident),* $(,)?) => {
            match api {
                $(ApiKey::$api => {
                    let response = $response::default().with_error_code(code);
                    encode_response(api, head.version, head.correlation_id, &response).ok()
                })*
                _ => None,
            }
        };
    }
    refuse! {
        OffsetFetch => OffsetFetchResponse,
        FindCoordinator => FindCoordinatorResponse,
        JoinGroup => JoinGroupResponse,
        SaslHandshake => SaslHandshakeResponse,
        InitProducerId => InitProducerIdResponse,
        AddPartitionsToTxn => AddPartitionsToTxnResponse,
        AddOffsetsToTxn => AddOffsetsToTxnResponse,
        EndTxn => EndTxnResponse,
        DescribeAcls => DescribeAclsResponse,
        SaslAuthenticate => SaslAuthenticateResponse,
        CreateDelegationToken => CreateDelegationTokenResponse,
        RenewDelegationToken => RenewDelegationTokenResponse,
        ExpireDelegationToken => ExpireDelegationTokenResponse,
        DescribeDelegationToken => DescribeDelegationTokenResponse,
        ElectLeaders => ElectLeadersResponse,
        AlterPartitionReassignments => AlterPartitionReassignmentsResponse,
        ListPartitionReassignments => ListPartitionReassignmentsResponse,
        DescribeClientQuotas => DescribeClientQuotasResponse,
        DescribeUserScramCredentials => DescribeUserScramCredentialsResponse,
        DescribeQuorum => DescribeQuorumResponse,
        UpdateFeatures => UpdateFeaturesResponse,
        UnregisterBroker => UnregisterBrokerResponse,
        ListTransactions => ListTransactionsResponse,
        ConsumerGroupHeartbeat => ConsumerGroupHeartbeatResponse,
        GetTelemetrySubscriptions => GetTelemetrySubscriptionsResponse,
        PushTelemetry => PushTelemetryResponse,
        ListConfigResources => ListConfigResourcesResponse,
        ShareGroupHeartbeat => ShareGroupHeartbeatResponse,
        ShareFetch => ShareFetchResponse,
        ShareAcknowledge => ShareAcknowledgeResponse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(api: ApiKey, version: i16) -> Head {
        Head { api_key: api as i16, version, correlation_id: 7 }
    }

    // STR-10
    #[test]
    fn what_the_codec_can_write_is_answered() {
        for api in [ApiKey::GetTelemetrySubscriptions, ApiKey::DescribeQuorum, ApiKey::ShareFetch, ApiKey::EndTxn] {
            let versions = api.valid_versions();
            for version in versions.min..=versions.max {
                let frame = answer(head(api, version)).unwrap();
                assert_eq!(frame[4..8], 7_i32.to_be_bytes(), "{api:?} {version}");
                assert!(frame[8..].windows(2).any(|pair| pair == 35_i16.to_be_bytes()), "{api:?} {version}");
            }
            assert_eq!(answer(head(api, versions.max + 1)), None);
        }
        assert_eq!(answer(head(ApiKey::Metadata, 99)), None);
        assert_eq!(answer(Head { api_key: 9_999, version: 0, correlation_id: 7 }), None);
        assert_eq!(answer(head(ApiKey::ElectLeaders, 0)), None, "that version has no place for an error");
    }
}
