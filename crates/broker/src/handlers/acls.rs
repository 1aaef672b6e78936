//! Access rules from outside: DescribeAcls, CreateAcls, DeleteAcls.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
    DescribeAclsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::text;
use crate::access::rules::{Filter, Operation, Pattern, Permission, Resource, Rule};
use crate::core::Core;
use crate::dispatch::Call;
use crate::topics::Refusal;

/// As Apache Kafka answers where no authorizer is configured.
fn enabled(core: &Core) -> Result<(), Refusal> {
    if core.access.authorize() {
        return Ok(());
    }
    let message = "access rules are switched off: start the broker with --authorize";
    Err(Refusal::new(ResponseError::SecurityDisabled, message))
}

fn unknown() -> Refusal {
    Refusal::new(ResponseError::InvalidRequest, "a number in the request is not known")
}

fn owned(text: Option<&StrBytes>) -> Option<String> {
    text.map(ToString::to_string)
}

impl TryFrom<&DescribeAclsRequest> for Filter {
    type Error = Refusal;

    fn try_from(request: &DescribeAclsRequest) -> Result<Self, Refusal> {
        Ok(Self {
            resource: Resource::from_wire(request.resource_type_filter).ok_or_else(unknown)?,
            pattern: Pattern::from_wire(request.pattern_type_filter).ok_or_else(unknown)?,
            name: owned(request.resource_name_filter.as_ref()),
            principal: owned(request.principal_filter.as_ref()),
            host: owned(request.host_filter.as_ref()),
            operation: Operation::from_wire(request.operation).ok_or_else(unknown)?,
            permission: Permission::from_wire(request.permission_type).ok_or_else(unknown)?,
        })
    }
}

impl TryFrom<&DeleteAclsFilter> for Filter {
    type Error = Refusal;

    fn try_from(request: &DeleteAclsFilter) -> Result<Self, Refusal> {
        Ok(Self {
            resource: Resource::from_wire(request.resource_type_filter).ok_or_else(unknown)?,
            pattern: Pattern::from_wire(request.pattern_type_filter).ok_or_else(unknown)?,
            name: owned(request.resource_name_filter.as_ref()),
            principal: owned(request.principal_filter.as_ref()),
            host: owned(request.host_filter.as_ref()),
            operation: Operation::from_wire(request.operation).ok_or_else(unknown)?,
            permission: Permission::from_wire(request.permission_type).ok_or_else(unknown)?,
        })
    }
}

impl TryFrom<&AclCreation> for Rule {
    type Error = Refusal;

    fn try_from(creation: &AclCreation) -> Result<Self, Refusal> {
        let rule = Self {
            resource: Resource::from_wire(creation.resource_type).ok_or_else(unknown)?,
            pattern: Pattern::from_wire(creation.resource_pattern_type).ok_or_else(unknown)?,
            name: creation.resource_name.to_string(),
            principal: creation.principal.to_string(),
            host: creation.host.to_string(),
            operation: Operation::from_wire(creation.operation).ok_or_else(unknown)?,
            permission: Permission::from_wire(creation.permission_type).ok_or_else(unknown)?,
        };
        rule.check().map_err(|reason| Refusal::new(ResponseError::InvalidRequest, reason))?;
        Ok(rule)
    }
}

pub(crate) async fn describe(core: Arc<Core>, call: Call, request: DescribeAclsRequest) -> DescribeAclsResponse {
    let filter = match enabled(&core).and_then(|()| Filter::try_from(&request)) {
        Ok(filter) => filter,
        Err(refusal) => {
            core.metrics.count_error(call.api, refusal.code.code());
            return DescribeAclsResponse::default()
                .with_error_code(refusal.code.code())
                .with_error_message(Some(text(refusal.message)));
        }
    };
    let kept = core.access.kept();
    let mut chosen: Vec<&Rule> = kept.rules.iter().filter(|rule| filter.chooses(rule)).collect();
    chosen.sort();
    let same = |a: &&Rule, b: &&Rule| (a.resource, a.pattern, &a.name) == (b.resource, b.pattern, &b.name);
    let resource = |rules: &[&Rule]| {
        let acl = |rule: &&Rule| {
            AclDescription::default()
                .with_principal(text(rule.principal.clone()))
                .with_host(text(rule.host.clone()))
                .with_operation(rule.operation as i8)
                .with_permission_type(rule.permission as i8)
        };
        DescribeAclsResource::default()
            .with_resource_type(rules[0].resource as i8)
            .with_resource_name(text(rules[0].name.clone()))
            .with_pattern_type(rules[0].pattern as i8)
            .with_acls(rules.iter().map(acl).collect())
    };
    DescribeAclsResponse::default().with_resources(chosen.chunk_by(same).map(resource).collect())
}

pub(crate) async fn create(core: Arc<Core>, call: Call, request: CreateAclsRequest) -> CreateAclsResponse {
    let rules: Vec<Result<Rule, Refusal>> =
        request.creations.iter().map(|creation| enabled(&core).and_then(|()| Rule::try_from(creation))).collect();
    let good: Vec<&Rule> = rules.iter().flatten().collect();
    let stored = if good.is_empty() {
        Ok(())
    } else {
        core.access.change(|kept| {
            for rule in &good {
                if !kept.rules.contains(rule) {
                    kept.rules.push((*rule).clone());
                }
            }
            Ok(())
        })
    };
    if stored.is_ok() {
        for rule in &good {
            tracing::info!(?rule, by = %call.peer.principal(), "an access rule was created");
        }
    }
    let results = rules.iter().map(|rule| {
        let refusal = rule.as_ref().err().or(stored.as_ref().err());
        let result = AclCreationResult::default();
        match refusal {
            None => result,
            Some(refusal) => {
                core.metrics.count_error(call.api, refusal.code.code());
                let message = Some(text(refusal.message.clone()));
                result.with_error_code(refusal.code.code()).with_error_message(message)
            }
        }
    });
    CreateAclsResponse::default().with_results(results.collect())
}

pub(crate) async fn delete(core: Arc<Core>, call: Call, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let mut results = Vec::with_capacity(request.filters.len());
    for wanted in &request.filters {
        let removed = enabled(&core).and_then(|()| Filter::try_from(wanted)).and_then(|filter| {
            if !core.access.kept().rules.iter().any(|rule| filter.chooses(rule)) {
                return Ok(Vec::new());
            }
            core.access.change(|kept| Ok(kept.rules.extract_if(.., |rule| filter.chooses(rule)).collect::<Vec<Rule>>()))
        });
        let result = DeleteAclsFilterResult::default();
        results.push(match removed {
            Ok(rules) => {
                for rule in &rules {
                    tracing::info!(?rule, by = %call.peer.principal(), "an access rule was deleted");
                }
                result.with_matching_acls(rules.into_iter().map(matching).collect())
            }
            Err(refusal) => {
                core.metrics.count_error(call.api, refusal.code.code());
                result.with_error_code(refusal.code.code()).with_error_message(Some(text(refusal.message)))
            }
        });
    }
    DeleteAclsResponse::default().with_filter_results(results)
}

fn matching(rule: Rule) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_resource_type(rule.resource as i8)
        .with_resource_name(text(rule.name))
        .with_pattern_type(rule.pattern as i8)
        .with_principal(text(rule.principal))
        .with_host(text(rule.host))
        .with_operation(rule.operation as i8)
        .with_permission_type(rule.permission as i8)
}
