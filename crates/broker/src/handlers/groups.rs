//! Group membership and the listing of groups.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsRequest, ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{result_code, text};
use crate::coordinator::classic::{Answer, Group, Identity, Input, Join, Joined, Phase, Sync, Synced};
use crate::coordinator::{Kind, consumer};
use crate::core::{Core, coordinator_error_code};
use crate::dispatch::Call;
use crate::random;

/// Read, delete, describe.
pub(super) const GROUP_OPERATIONS: i32 = 0b1_0100_1000;

pub(super) fn owned(text: Option<StrBytes>) -> Option<String> {
    text.map(|text| text.to_string())
}

/// Members that ask for a group without a name are refused.
fn named(group: &GroupId) -> Result<&str, ResponseError> {
    if group.is_empty() { Err(ResponseError::InvalidGroupId) } else { Ok(group) }
}

pub(crate) async fn join(core: Arc<Core>, call: Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let protocols = request.protocols.into_iter().map(|one| (one.name.to_string(), copy(&one.metadata))).collect();
    let instance_id = owned(request.group_instance_id);
    let join = Join {
        token: 0,
        member_id: request.member_id.to_string(),
        fresh_id: random::member_id(instance_id.as_deref().unwrap_or(&call.client_id)),
        instance_id,
        client_id: call.client_id.clone(),
        client_host: format!("/{}", call.address),
        session_ms: request.session_timeout_ms,
        rebalance_ms: request.rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols,
        two_steps: call.version >= 4,
        skips_assignment: call.version >= 9,
        initial_delay_ms: core.groups.initial_delay_ms(),
    };
    let asked = request.member_id.clone();
    let answer = match named(&request.group_id) {
        Ok(group) => core.groups.classic(group, |token| Input::Join(Join { token, ..join })).await,
        Err(error) => Err(error),
    };
    let (error, member_id) = match answer {
        Ok(Answer::Joined(joined)) => return joined_response(joined, call.version),
        Ok(Answer::NotJoined { error, member_id }) => (error, text(member_id)),
        Ok(_) => (ResponseError::UnknownServerError, asked),
        Err(error) => (error, asked),
    };
    core.metrics.count_error(call.api, error.code());
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_generation_id(-1)
        .with_member_id(member_id)
        .with_protocol_name(no_protocol(call.version))
}

/// A null name can be written from version 7 on.
fn no_protocol(version: i16) -> Option<StrBytes> {
    if version >= 7 { None } else { Some(StrBytes::new()) }
}

fn joined_response(joined: Joined, version: i16) -> JoinGroupResponse {
    let member = |(id, instance_id, metadata): (String, Option<String>, Bytes)| {
        JoinGroupResponseMember::default()
            .with_member_id(text(id))
            .with_group_instance_id(instance_id.map(text))
            .with_metadata(metadata)
    };
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.map(text))
        .with_protocol_name(joined.protocol.map(text).or_else(|| no_protocol(version)))
        .with_leader(text(joined.leader))
        .with_member_id(text(joined.member_id))
        .with_skip_assignment(joined.skip_assignment)
        .with_members(joined.members.into_iter().map(member).collect())
}

/// Bytes of their own: a member's few bytes must not keep a whole frame alive.
fn copy(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

pub(crate) async fn sync(core: Arc<Core>, call: Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let assignments =
        request.assignments.into_iter().map(|one| (one.member_id.to_string(), copy(&one.assignment))).collect();
    let sync = Sync {
        token: 0,
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id),
        generation: request.generation_id,
        protocol_type: owned(request.protocol_type),
        protocol: owned(request.protocol_name),
        assignments,
    };
    // from version 5 on a member says which protocol it means
    let unsaid = call.version >= 5 && (sync.protocol_type.is_none() || sync.protocol.is_none());
    let answer = match named(&request.group_id) {
        Ok(_) if unsaid => Err(ResponseError::InconsistentGroupProtocol),
        Ok(group) => core.groups.classic(group, |token| Input::Sync(Sync { token, ..sync })).await,
        Err(error) => Err(error),
    };
    let error = match answer {
        Ok(Answer::Synced(Synced { protocol_type, protocol, assignment })) => {
            return SyncGroupResponse::default()
                .with_protocol_type(protocol_type.map(text))
                .with_protocol_name(protocol.map(text))
                .with_assignment(assignment);
        }
        Ok(Answer::NotSynced(error)) | Err(error) => error,
        Ok(_) => ResponseError::UnknownServerError,
    };
    core.metrics.count_error(call.api, error.code());
    SyncGroupResponse::default().with_error_code(error.code())
}

pub(crate) async fn heartbeat(core: Arc<Core>, call: Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let generation = request.generation_id;
    let who = Identity { member_id: request.member_id.to_string(), instance_id: owned(request.group_instance_id) };
    let answer = match named(&request.group_id) {
        Ok(group) => core.groups.classic(group, |token| Input::Heartbeat { token, who, generation }).await,
        Err(error) => Err(error),
    };
    let result = match answer {
        Ok(Answer::Done(result)) => result,
        Ok(_) => Err(ResponseError::UnknownServerError),
        Err(error) => Err(error),
    };
    core.metrics.count_error(call.api, result_code(&result));
    HeartbeatResponse::default().with_error_code(result_code(&result))
}

pub(crate) async fn leave(core: Arc<Core>, call: Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let many = call.version >= 3;
    let who: Vec<Identity> = if many {
        let one = |member: kafka_protocol::messages::leave_group_request::MemberIdentity| Identity {
            member_id: member.member_id.to_string(),
            instance_id: owned(member.group_instance_id),
        };
        request.members.into_iter().map(one).collect()
    } else {
        vec![Identity { member_id: request.member_id.to_string(), instance_id: None }]
    };
    let named_who = who.clone();
    let answer = match named(&request.group_id) {
        Ok(group) if core.groups.look(group, |kind| matches!(kind, Some(Kind::Consumer(_)))) => {
            Ok(Answer::Left(expel(&core, group, who).await))
        }
        Ok(group) => core.groups.classic(group, |token| Input::Leave { token, who }).await,
        Err(error) => Err(error),
    };
    let results = match answer {
        Ok(Answer::Left(results)) => results,
        Ok(_) => return LeaveGroupResponse::default().with_error_code(ResponseError::UnknownServerError.code()),
        Err(error) => return LeaveGroupResponse::default().with_error_code(error.code()),
    };
    for result in &results {
        core.metrics.count_error(call.api, result_code(result));
    }
    if !many {
        let code = results.first().map_or(0, result_code);
        return LeaveGroupResponse::default().with_error_code(code);
    }
    let member = |(who, result): (Identity, Result<(), ResponseError>)| {
        MemberResponse::default()
            .with_member_id(text(who.member_id))
            .with_group_instance_id(who.instance_id.map(text))
            .with_error_code(result_code(&result))
    };
    LeaveGroupResponse::default().with_members(named_who.into_iter().zip(results).map(member).collect())
}

/// Members of the consumer group protocol leave by heartbeat; with this request an operator takes static ones out.
async fn expel(core: &Core, group: &str, who: Vec<Identity>) -> Vec<Result<(), ResponseError>> {
    let mut results = Vec::with_capacity(who.len());
    for Identity { member_id, instance_id } in who {
        results.push(match instance_id.filter(|_| member_id.is_empty()) {
            Some(instance_id) => {
                let input = consumer::Input::Expel { instance_id };
                core.groups.consumer(group, &core.topics, input).await.map(drop).map_err(|refused| refused.code)
            }
            None => Err(ResponseError::UnknownMemberId),
        });
    }
    results
}

pub(crate) async fn describe(core: Arc<Core>, call: Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let one = |id: GroupId| {
        let operations = if request.include_authorized_operations { GROUP_OPERATIONS } else { i32::MIN };
        let described = DescribedGroup::default().with_group_id(id.clone()).with_authorized_operations(operations);
        let found = core.groups.look(&id, |kind| match kind {
            Some(Kind::Classic(group)) => Ok(describe_group(described.clone(), group)),
            Some(Kind::Consumer(_)) => Err(format!("group {} is not a classic group", id.0)),
            None if core.offsets.has_group(&id) => {
                Ok(described.clone().with_group_state(StrBytes::from_static_str("Empty")))
            }
            None => Err(format!("there is no group {}", id.0)),
        });
        found.unwrap_or_else(|message| {
            // from version 6 on a group that does not exist is an error, before it was a dead group
            let dead = described.with_group_state(StrBytes::from_static_str("Dead"));
            if call.version < 6 {
                return dead;
            }
            dead.with_error_code(ResponseError::GroupIdNotFound.code()).with_error_message(Some(text(message)))
        })
    };
    DescribeGroupsResponse::default().with_groups(request.groups.into_iter().map(one).collect())
}

/// Which protocol was chosen, with the members' words for it, is told of a stable group only.
fn describe_group(described: DescribedGroup, group: &Group) -> DescribedGroup {
    let stable = group.phase == Phase::Stable;
    let protocol = group.protocol.clone().filter(|_| stable).unwrap_or_default();
    let members = group
        .members
        .iter()
        .map(|(id, member)| {
            DescribedGroupMember::default()
                .with_member_id(text(id.clone()))
                .with_group_instance_id(member.instance_id.clone().map(text))
                .with_client_id(text(member.client_id.clone()))
                .with_client_host(text(member.client_host.clone()))
                .with_member_metadata(member.metadata(&protocol))
                .with_member_assignment(if stable { member.assignment.clone() } else { Bytes::new() })
        })
        .collect();
    described
        .with_group_state(StrBytes::from_static_str(group.phase.name()))
        .with_protocol_type(text(group.protocol_type.clone().unwrap_or_default()))
        .with_protocol_data(text(protocol))
        .with_members(members)
}

pub(crate) async fn list(core: Arc<Core>, _call: Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let entry = |id: &str, state: &'static str, kind: &'static str, protocol_type: &str| {
        ListedGroup::default()
            .with_group_id(GroupId(text(id)))
            .with_group_state(StrBytes::from_static_str(state))
            .with_group_type(StrBytes::from_static_str(kind))
            .with_protocol_type(text(protocol_type))
    };
    let mut groups = core.groups.each(|id, kind| {
        let protocol_type = match kind {
            Kind::Classic(group) => group.protocol_type.as_deref().unwrap_or_default(),
            Kind::Consumer(_) => "consumer",
        };
        entry(id, kind.state(), kind.name(), protocol_type)
    });
    // what has offsets and never had members is a classic group of no protocol
    for id in core.offsets.groups() {
        groups.entry(id).or_insert_with_key(|id| entry(id, "Empty", "classic", ""));
    }
    let any = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let wanted = |group: &ListedGroup| {
        any(&request.states_filter, &group.group_state) && any(&request.types_filter, &group.group_type)
    };
    ListGroupsResponse::default().with_groups(groups.into_values().filter(wanted).collect())
}

pub(crate) async fn delete(core: Arc<Core>, call: Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::new();
    for id in request.groups_names {
        let code = result_code(&delete_one(&core, &id).await);
        core.metrics.count_error(call.api, code);
        results.push(DeletableGroupResult::default().with_group_id(id).with_error_code(code));
    }
    DeleteGroupsResponse::default().with_results(results)
}

async fn delete_one(core: &Core, id: &str) -> Result<(), ResponseError> {
    if id.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    if core.groups.look(id, |kind| kind.is_none()) && !core.offsets.has_group(id) {
        return Err(ResponseError::GroupIdNotFound);
    }
    core.groups.delete(id, || core.offsets.remove(id, |_, _| true))??;
    core.offsets.sync().durable().await.map_err(|error| coordinator_error_code(&error))
}
