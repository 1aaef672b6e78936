//! The broker itself: log folders, access rules, users and quotas ask for an operation on the cluster.

use kafka_protocol::messages::alter_client_quotas_response::EntityData as AlteredEntity;
use kafka_protocol::messages::alter_client_quotas_response::EntryData as AlteredEntry;
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse, CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsRequest, DescribeAclsResponse, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
    DescribeClusterRequest, DescribeClusterResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, ElectLeadersRequest,
    ElectLeadersResponse, GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
    ListConfigResourcesRequest, ListConfigResourcesResponse, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse, PushTelemetryRequest, PushTelemetryResponse, SaslAuthenticateRequest,
    SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Asking, CLUSTER_DENIED, Guarded, Verdict, tells_throttling};
use crate::access::rules::{CLUSTER_NAME, Operation, Resource};

impl Guarded for SaslHandshakeRequest {
    fn guard(&mut self, _asking: &Asking<'_>) -> Verdict<SaslHandshakeResponse> {
        Verdict::Pass
    }

    fn throttled(_answer: &mut SaslHandshakeResponse, _time_ms: i32) {}
}

impl Guarded for SaslAuthenticateRequest {
    fn guard(&mut self, _asking: &Asking<'_>) -> Verdict<SaslAuthenticateResponse> {
        Verdict::Pass
    }

    fn throttled(_answer: &mut SaslAuthenticateResponse, _time_ms: i32) {}
}

impl Guarded for GetTelemetrySubscriptionsRequest {
    fn guard(&mut self, _asking: &Asking<'_>) -> Verdict<GetTelemetrySubscriptionsResponse> {
        Verdict::Pass
    }

    tells_throttling!();
}

impl Guarded for PushTelemetryRequest {
    fn guard(&mut self, _asking: &Asking<'_>) -> Verdict<PushTelemetryResponse> {
        Verdict::Pass
    }

    tells_throttling!();
}

impl Guarded for ListConfigResourcesRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<ListConfigResourcesResponse> {
        if asking.cluster(Operation::DescribeConfigs) {
            return Verdict::Pass;
        }
        Verdict::Refuse(ListConfigResourcesResponse::default().with_error_code(CLUSTER_DENIED))
    }

    tells_throttling!();
}

impl Guarded for DescribeClusterRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<DescribeClusterResponse> {
        if !self.include_cluster_authorized_operations {
            return Verdict::Pass;
        }
        let told = asking.cluster(Operation::Describe);
        let operations = if told { asking.rights.operations(Resource::Cluster, CLUSTER_NAME) } else { 0 };
        Verdict::amend(move |answer: &mut DescribeClusterResponse| answer.cluster_authorized_operations = operations)
    }

    tells_throttling!();
}

impl Guarded for DescribeLogDirsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<DescribeLogDirsResponse> {
        if asking.cluster(Operation::Describe) {
            return Verdict::Pass;
        }
        Verdict::Refuse(DescribeLogDirsResponse::default().with_error_code(CLUSTER_DENIED))
    }

    tells_throttling!();
}

impl Guarded for ElectLeadersRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<ElectLeadersResponse> {
        if asking.cluster(Operation::Alter) {
            return Verdict::Pass;
        }
        Verdict::Refuse(ElectLeadersResponse::default().with_error_code(CLUSTER_DENIED))
    }

    tells_throttling!();
}

impl Guarded for DescribeAclsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<DescribeAclsResponse> {
        if asking.cluster(Operation::Describe) {
            return Verdict::Pass;
        }
        Verdict::Refuse(DescribeAclsResponse::default().with_error_code(CLUSTER_DENIED))
    }

    tells_throttling!();
}

impl Guarded for CreateAclsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<CreateAclsResponse> {
        if asking.cluster(Operation::Alter) {
            return Verdict::Pass;
        }
        let text = Some(StrBytes::from_static_str("creating access rules is not allowed"));
        let refused = AclCreationResult::default().with_error_code(CLUSTER_DENIED).with_error_message(text);
        Verdict::Refuse(CreateAclsResponse::default().with_results(vec![refused; self.creations.len()]))
    }

    tells_throttling!();
}

impl Guarded for DeleteAclsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<DeleteAclsResponse> {
        if asking.cluster(Operation::Alter) {
            return Verdict::Pass;
        }
        let text = Some(StrBytes::from_static_str("deleting access rules is not allowed"));
        let refused = DeleteAclsFilterResult::default().with_error_code(CLUSTER_DENIED).with_error_message(text);
        Verdict::Refuse(DeleteAclsResponse::default().with_filter_results(vec![refused; self.filters.len()]))
    }

    tells_throttling!();
}

impl Guarded for DescribeUserScramCredentialsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<DescribeUserScramCredentialsResponse> {
        if asking.cluster(Operation::Describe) {
            return Verdict::Pass;
        }
        Verdict::Refuse(DescribeUserScramCredentialsResponse::default().with_error_code(CLUSTER_DENIED))
    }

    tells_throttling!();
}

impl Guarded for AlterUserScramCredentialsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<AlterUserScramCredentialsResponse> {
        if asking.cluster(Operation::Alter) {
            return Verdict::Pass;
        }
        let deleted = self.deletions.iter().map(|one| &one.name);
        let users = deleted.chain(self.upsertions.iter().map(|one| &one.name));
        let refused = users.map(|user| {
            let result = AlterUserScramCredentialsResult::default().with_user(user.clone());
            result.with_error_code(CLUSTER_DENIED)
        });
        Verdict::Refuse(AlterUserScramCredentialsResponse::default().with_results(refused.collect()))
    }

    tells_throttling!();
}

impl Guarded for DescribeClientQuotasRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<DescribeClientQuotasResponse> {
        if asking.cluster(Operation::DescribeConfigs) {
            return Verdict::Pass;
        }
        let answer = DescribeClientQuotasResponse::default().with_error_code(CLUSTER_DENIED);
        Verdict::Refuse(answer.with_entries(None))
    }

    tells_throttling!();
}

impl Guarded for AlterClientQuotasRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<AlterClientQuotasResponse> {
        if asking.cluster(Operation::AlterConfigs) {
            return Verdict::Pass;
        }
        let refused = self.entries.iter().map(|entry| {
            let entity = entry.entity.iter().map(|entity| {
                let named = AlteredEntity::default().with_entity_name(entity.entity_name.clone());
                named.with_entity_type(entity.entity_type.clone())
            });
            AlteredEntry::default().with_entity(entity.collect()).with_error_code(CLUSTER_DENIED)
        });
        Verdict::Refuse(AlterClientQuotasResponse::default().with_entries(refused.collect()))
    }

    tells_throttling!();
}

impl Guarded for ListPartitionReassignmentsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<ListPartitionReassignmentsResponse> {
        if asking.cluster(Operation::Describe) {
            return Verdict::Pass;
        }
        Verdict::Refuse(ListPartitionReassignmentsResponse::default().with_error_code(CLUSTER_DENIED))
    }

    tells_throttling!();
}
