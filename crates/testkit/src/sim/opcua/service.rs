//! The services: a request comes in, an answer goes out, or the request waits for a notification.
//!
//! What the double does not have it refuses with Bad_ServiceUnsupported: history, events, methods. What would change a
//! device is refused and counted (G-01).

use std::sync::Arc;
use std::time::Duration;

use opcua_core::{RequestMessage, ResponseMessage};
use opcua_types::{
    ActivateSessionRequest, ActivateSessionResponse, AnonymousIdentityToken, ApplicationDescription, ApplicationType,
    AttributeId, BrowseDescription, BrowseNextRequest, BrowseNextResponse, BrowsePath, BrowsePathResult,
    BrowsePathTarget, BrowseRequest, BrowseResponse, BrowseResult, ByteString, CloseSessionResponse,
    CreateMonitoredItemsRequest, CreateMonitoredItemsResponse, CreateSessionRequest, CreateSessionResponse,
    CreateSubscriptionRequest, CreateSubscriptionResponse, DataChangeFilter, DataValue, DeleteMonitoredItemsResponse,
    DeleteSubscriptionsResponse, EndpointDescription, FindServersResponse, GetEndpointsResponse, LocalizedText,
    MessageSecurityMode, ModifySubscriptionResponse, MonitoredItemCreateRequest, MonitoredItemCreateResult, NodeId,
    PublishRequest, ReadRequest, ReadResponse, ReferenceDescription, RepublishRequest, RepublishResponse,
    RequestHeader, ResponseHeader, ServiceFault, SetPublishingModeResponse, StatusCode, TimestampsToReturn,
    TransferResult, TransferSubscriptionsRequest, TransferSubscriptionsResponse, TranslateBrowsePathsToNodeIdsResponse,
    UAString, UserTokenPolicy, UserTokenType,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::space::{SERVER_URI, Space};
use super::state::{CONTINUATIONS_MAX, ITEMS_MAX, PARKED_MAX, Parked, SESSIONS_MAX, SUBSCRIPTIONS_MAX, Session, State};
use super::subscription::{Item, QUEUE_MAX, Subscription};

/// Shortest publishing and sampling interval.
const INTERVAL_MIN: Duration = Duration::from_millis(20);
/// Longest.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// Life of a session without a request, at least and at most.
const SESSION_MS: (f64, f64) = (1_000.0, 3_600_000.0);
/// References of one answer when the client sets no limit.
const REFERENCES_MAX: usize = 1_000;
/// Where the profiles of transports are.
const TRANSPORT: &str = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary";
/// The one security policy.
const POLICY: &str = "http://opcfoundation.org/UA/SecurityPolicy#None";
/// Name of the one way to log in.
const ANONYMOUS: &str = "anonymous";

/// What asked, and when.
pub(super) struct Asking<'a> {
    pub(super) connection: u64,
    pub(super) wake: &'a Arc<Notify>,
    /// Number of the request.
    pub(super) id: u32,
    pub(super) now: Instant,
}

/// An answer that is nothing but a status.
pub(super) fn refusal(header: &RequestHeader, status: StatusCode) -> ResponseMessage {
    ServiceFault { response_header: ResponseHeader::new_service_result(header, status) }.into()
}

type Answer = Result<Option<ResponseMessage>, StatusCode>;

impl State {
    /// Answers a request; `None` when the answer comes later.
    pub(super) fn answer(&mut self, asking: &Asking<'_>, message: RequestMessage) -> Option<ResponseMessage> {
        let header = message.request_header().clone();
        match self.serve(asking, message) {
            Ok(answer) => answer,
            Err(status) => Some(refusal(&header, status)),
        }
    }

    fn serve(&mut self, asking: &Asking<'_>, message: RequestMessage) -> Answer {
        let good = |header: &RequestHeader| ResponseHeader::new_good(header);
        // these need no session
        match &message {
            RequestMessage::GetEndpoints(request) => {
                let endpoints = Some(vec![endpoint(request.endpoint_url.as_ref())]);
                let response_header = good(&request.request_header);
                return Ok(Some(GetEndpointsResponse { response_header, endpoints }.into()));
            }
            RequestMessage::FindServers(request) => {
                let servers = Some(vec![description(request.endpoint_url.as_ref())]);
                return Ok(Some(
                    FindServersResponse { response_header: good(&request.request_header), servers }.into(),
                ));
            }
            RequestMessage::CreateSession(request) => return self.create_session(asking, request),
            RequestMessage::ActivateSession(request) => return self.activate_session(asking, request),
            _ => {}
        }
        let session = self.session_of(message.request_header(), asking)?;
        match message {
            RequestMessage::CloseSession(request) => {
                if request.delete_subscriptions {
                    self.subscriptions.retain(|_, subscription| subscription.session != session);
                }
                self.drop_session(session);
                Ok(Some(CloseSessionResponse { response_header: good(&request.request_header) }.into()))
            }
            RequestMessage::Read(request) => self.read(asking, &request),
            RequestMessage::Browse(request) => Ok(Some(self.browse(&request))),
            RequestMessage::BrowseNext(request) => Ok(Some(self.browse_next(&request))),
            RequestMessage::TranslateBrowsePathsToNodeIds(request) => {
                let paths = request.browse_paths.unwrap_or_default();
                let results = Some(paths.iter().map(|path| translate(&self.space, path)).collect());
                let response_header = good(&request.request_header);
                Ok(Some(
                    TranslateBrowsePathsToNodeIdsResponse { response_header, results, diagnostic_infos: None }.into(),
                ))
            }
            RequestMessage::CreateSubscription(request) => self.create_subscription(session, asking, &request),
            RequestMessage::ModifySubscription(request) => {
                let subscription = self.subscription(session, request.subscription_id)?;
                let counts = counts(request.requested_lifetime_count, request.requested_max_keep_alive_count);
                (subscription.lifetime_count, subscription.keep_alive_count) = counts;
                subscription.publishing = interval(request.requested_publishing_interval, INTERVAL_MIN);
                subscription.set_values_max(request.max_notifications_per_publish);
                let answer = ModifySubscriptionResponse {
                    response_header: good(&request.request_header),
                    revised_publishing_interval: millis(subscription.publishing),
                    revised_lifetime_count: counts.0,
                    revised_max_keep_alive_count: counts.1,
                };
                Ok(Some(answer.into()))
            }
            RequestMessage::DeleteSubscriptions(request) => {
                let ids = request.subscription_ids.unwrap_or_default();
                let mut delete = |id: &u32| match self.subscription(session, *id) {
                    Ok(_) => {
                        self.end(*id, None);
                        StatusCode::Good
                    }
                    Err(status) => status,
                };
                let results = Some(ids.iter().map(&mut delete).collect());
                let response_header = good(&request.request_header);
                Ok(Some(DeleteSubscriptionsResponse { response_header, results, diagnostic_infos: None }.into()))
            }
            RequestMessage::SetPublishingMode(request) => {
                let ids = request.subscription_ids.unwrap_or_default();
                let mut set = |id: &u32| match self.subscription(session, *id) {
                    Ok(subscription) => {
                        subscription.enabled = request.publishing_enabled;
                        StatusCode::Good
                    }
                    Err(status) => status,
                };
                let results = Some(ids.iter().map(&mut set).collect());
                let response_header = good(&request.request_header);
                Ok(Some(SetPublishingModeResponse { response_header, results, diagnostic_infos: None }.into()))
            }
            RequestMessage::TransferSubscriptions(request) => Ok(Some(self.transfer(session, &request))),
            RequestMessage::CreateMonitoredItems(request) => self.create_items(session, asking.now, &request),
            RequestMessage::DeleteMonitoredItems(request) => {
                let subscription = self.subscription(session, request.subscription_id)?;
                let ids = request.monitored_item_ids.unwrap_or_default();
                let mut delete = |id: &u32| match subscription.items.remove(id) {
                    Some(_) => StatusCode::Good,
                    None => StatusCode::BadMonitoredItemIdInvalid,
                };
                let results = Some(ids.iter().map(&mut delete).collect());
                let response_header = good(&request.request_header);
                Ok(Some(DeleteMonitoredItemsResponse { response_header, results, diagnostic_infos: None }.into()))
            }
            RequestMessage::Publish(request) => self.publish(session, asking, &request),
            RequestMessage::Republish(request) => self.republish(session, &request),
            RequestMessage::Write(_) | RequestMessage::Call(_) | RequestMessage::HistoryUpdate(_) => {
                self.counters.changes_refused += 1;
                Err(StatusCode::BadServiceUnsupported)
            }
            _ => Err(StatusCode::BadServiceUnsupported),
        }
    }

    fn session_of(&mut self, header: &RequestHeader, asking: &Asking<'_>) -> Result<u32, StatusCode> {
        let found = self.sessions.iter_mut().find(|(_, session)| session.token == header.authentication_token);
        let (number, session) = found.ok_or(StatusCode::BadSessionIdInvalid)?;
        if session.connection != asking.connection {
            return Err(StatusCode::BadSecureChannelIdInvalid);
        }
        if !session.is_active {
            return Err(StatusCode::BadSessionNotActivated);
        }
        session.heard = asking.now;
        Ok(*number)
    }

    fn subscription(&mut self, session: u32, id: u32) -> Result<&mut Subscription, StatusCode> {
        let found = self.subscriptions.get_mut(&id).filter(|subscription| subscription.session == session);
        found.ok_or(StatusCode::BadSubscriptionIdInvalid)
    }

    fn create_session(&mut self, asking: &Asking<'_>, request: &CreateSessionRequest) -> Answer {
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(StatusCode::BadTooManySessions);
        }
        let number = self.next_id();
        let token = NodeId::new(0, opcua_crypto::random::byte_string(16));
        let (low, high) = SESSION_MS;
        let life = if request.requested_session_timeout.is_finite() { request.requested_session_timeout } else { low };
        let life = life.clamp(low, high);
        let timeout = Duration::from_secs_f64(life / 1000.0);
        let session = Session::new(token.clone(), asking.connection, timeout, asking.now, Arc::clone(asking.wake));
        self.sessions.insert(number, session);
        self.counters.sessions += 1;
        let answer = CreateSessionResponse {
            response_header: ResponseHeader::new_good(&request.request_header),
            session_id: NodeId::new(1, number),
            authentication_token: token,
            revised_session_timeout: life,
            server_nonce: opcua_crypto::random::byte_string(32),
            server_endpoints: Some(vec![endpoint(request.endpoint_url.as_ref())]),
            ..Default::default()
        };
        Ok(Some(answer.into()))
    }

    fn activate_session(&mut self, asking: &Asking<'_>, request: &ActivateSessionRequest) -> Answer {
        let token = &request.user_identity_token;
        if !token.is_null() && !token.inner_is::<AnonymousIdentityToken>() {
            return Err(StatusCode::BadIdentityTokenRejected);
        }
        let wanted = &request.request_header.authentication_token;
        let found = self.sessions.values_mut().find(|session| session.token == *wanted);
        let session = found.ok_or(StatusCode::BadSessionIdInvalid)?;
        if session.connection != asking.connection {
            // the old connection has nothing to wait for any more
            session.parked.clear();
            session.outbox.clear();
            session.connection = asking.connection;
            session.wake = Arc::clone(asking.wake);
        }
        session.is_active = true;
        session.heard = asking.now;
        let answer = ActivateSessionResponse {
            response_header: ResponseHeader::new_good(&request.request_header),
            server_nonce: opcua_crypto::random::byte_string(32),
            results: None,
            diagnostic_infos: None,
        };
        Ok(Some(answer.into()))
    }

    fn read(&mut self, asking: &Asking<'_>, request: &ReadRequest) -> Answer {
        let nodes = request.nodes_to_read.as_deref().unwrap_or_default();
        if self.limits.nodes_per_read.is_some_and(|limit| nodes.len() > usize::try_from(limit).unwrap_or(usize::MAX)) {
            return Err(StatusCode::BadTooManyOperations);
        }
        let at = self.moment(asking.now);
        let read = |node: &opcua_types::ReadValueId| {
            let mut value = self.space.read(&node.node_id, node.attribute_id, at, &self.given);
            keep_times(&mut value, request.timestamps_to_return);
            value
        };
        let results = Some(nodes.iter().map(read).collect());
        let response_header = ResponseHeader::new_good(&request.request_header);
        Ok(Some(ReadResponse { response_header, results, diagnostic_infos: None }.into()))
    }

    fn browse(&mut self, request: &BrowseRequest) -> ResponseMessage {
        let asked = usize::try_from(request.requested_max_references_per_node).unwrap_or(usize::MAX);
        let limit = if asked == 0 { REFERENCES_MAX } else { asked.min(REFERENCES_MAX) };
        let nodes = request.nodes_to_browse.as_deref().unwrap_or_default();
        let mut results = Vec::with_capacity(nodes.len());
        for node in nodes {
            results.push(match references(&self.space, node) {
                Ok(found) => self.part(found, limit),
                Err(status_code) => BrowseResult { status_code, ..Default::default() },
            });
        }
        let response_header = ResponseHeader::new_good(&request.request_header);
        BrowseResponse { response_header, results: Some(results), diagnostic_infos: None }.into()
    }

    /// As many references as are wanted; the others wait behind a continuation point.
    fn part(&mut self, mut found: Vec<ReferenceDescription>, limit: usize) -> BrowseResult {
        if found.len() <= limit {
            return BrowseResult { references: Some(found), ..Default::default() };
        }
        if self.continuations.len() >= CONTINUATIONS_MAX {
            return BrowseResult { status_code: StatusCode::BadNoContinuationPoints, ..Default::default() };
        }
        let rest = found.split_off(limit);
        let number = self.next_id();
        self.continuations.insert(number, rest);
        BrowseResult {
            status_code: StatusCode::Good,
            continuation_point: ByteString::from(number.to_be_bytes().to_vec()),
            references: Some(found),
        }
    }

    fn browse_next(&mut self, request: &BrowseNextRequest) -> ResponseMessage {
        let points = request.continuation_points.as_deref().unwrap_or_default();
        let mut results = Vec::with_capacity(points.len());
        for point in points {
            let number = <[u8; 4]>::try_from(point.as_ref()).map(u32::from_be_bytes).unwrap_or_default();
            results.push(match self.continuations.remove(&number) {
                None => BrowseResult { status_code: StatusCode::BadContinuationPointInvalid, ..Default::default() },
                Some(_) if request.release_continuation_points => BrowseResult::default(),
                Some(rest) => self.part(rest, REFERENCES_MAX),
            });
        }
        let response_header = ResponseHeader::new_good(&request.request_header);
        BrowseNextResponse { response_header, results: Some(results), diagnostic_infos: None }.into()
    }

    fn create_subscription(
        &mut self,
        session: u32,
        asking: &Asking<'_>,
        request: &CreateSubscriptionRequest,
    ) -> Answer {
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(StatusCode::BadTooManySubscriptions);
        }
        let id = self.next_id();
        let publishing = interval(request.requested_publishing_interval, INTERVAL_MIN);
        let counts = counts(request.requested_lifetime_count, request.requested_max_keep_alive_count);
        let mut subscription = Subscription::new(id, session, publishing, counts, asking.now);
        subscription.enabled = request.publishing_enabled;
        subscription.set_values_max(request.max_notifications_per_publish);
        self.subscriptions.insert(id, subscription);
        let answer = CreateSubscriptionResponse {
            response_header: ResponseHeader::new_good(&request.request_header),
            subscription_id: id,
            revised_publishing_interval: millis(publishing),
            revised_lifetime_count: counts.0,
            revised_max_keep_alive_count: counts.1,
        };
        Ok(Some(answer.into()))
    }

    fn create_items(&mut self, session: u32, now: Instant, request: &CreateMonitoredItemsRequest) -> Answer {
        self.counters.item_calls += 1;
        let items = request.items_to_create.as_deref().unwrap_or_default();
        let above =
            |limit: Option<u32>| limit.is_some_and(|limit| items.len() > usize::try_from(limit).unwrap_or(usize::MAX));
        if above(self.limits.items_per_call) || above(self.limits.refuses_items_above) {
            return Err(StatusCode::BadTooManyOperations);
        }
        let publishing = self.subscription(session, request.subscription_id)?.publishing;
        let mut results = Vec::with_capacity(items.len());
        for asked in items {
            let id = self.next_id();
            let made = self.make_item(asked, publishing, now);
            let subscription = self.subscription(session, request.subscription_id)?;
            let made = made.and_then(|made| {
                if subscription.items.len() < ITEMS_MAX { Ok(made) } else { Err(StatusCode::BadTooManyMonitoredItems) }
            });
            results.push(match made {
                Ok((item, sampling)) => {
                    subscription.items.insert(id, item);
                    MonitoredItemCreateResult {
                        status_code: StatusCode::Good,
                        monitored_item_id: id,
                        revised_sampling_interval: millis(sampling),
                        revised_queue_size: asked.requested_parameters.queue_size.clamp(1, QUEUE_MAX),
                        ..Default::default()
                    }
                }
                Err(status_code) => MonitoredItemCreateResult { status_code, ..Default::default() },
            });
        }
        let response_header = ResponseHeader::new_good(&request.request_header);
        Ok(Some(
            CreateMonitoredItemsResponse { response_header, results: Some(results), diagnostic_infos: None }.into(),
        ))
    }

    fn make_item(
        &self,
        asked: &MonitoredItemCreateRequest,
        publishing: Duration,
        now: Instant,
    ) -> Result<(Item, Duration), StatusCode> {
        let (node, attribute) = (&asked.item_to_monitor.node_id, asked.item_to_monitor.attribute_id);
        let status = self.space.read(node, attribute, self.moment(now), &self.given).status();
        if [StatusCode::BadNodeIdUnknown, StatusCode::BadAttributeIdInvalid].contains(&status) {
            return Err(status);
        }
        if attribute == AttributeId::EventNotifier as u32 {
            return Err(StatusCode::BadAttributeIdInvalid); // it has no events
        }
        let filter = &asked.requested_parameters.filter;
        let data = filter.inner_as::<DataChangeFilter>();
        if data.is_none() && !filter.is_null() {
            return Err(StatusCode::BadMonitoredItemFilterUnsupported);
        }
        let deadband = match data.map_or((0, 0.0), |data| (data.deadband_type, data.deadband_value)) {
            (0, _) => 0.0,
            (1, width) if width >= 0.0 => width,
            (2, percent) if (0.0..=100.0).contains(&percent) => {
                let (low, high) = self.space.range(node).ok_or(StatusCode::BadMonitoredItemFilterUnsupported)?;
                (high - low) * percent / 100.0
            }
            _ => return Err(StatusCode::BadDeadbandFilterInvalid),
        };
        let sampling = match asked.requested_parameters.sampling_interval {
            asked if asked < 0.0 => publishing,
            asked => interval(asked, INTERVAL_MIN),
        };
        Ok((Item::new(asked, data, deadband, sampling, now), sampling))
    }

    fn publish(&mut self, session: u32, asking: &Asking<'_>, request: &PublishRequest) -> Answer {
        let acknowledged = request.subscription_acknowledgements.as_deref().unwrap_or_default();
        let mut results = Vec::with_capacity(acknowledged.len());
        for one in acknowledged {
            results.push(match self.subscription(session, one.subscription_id) {
                Ok(subscription) => subscription.acknowledge(one.sequence_number),
                Err(status) => status,
            });
        }
        if self.subscriptions.values().all(|subscription| subscription.session != session) {
            return Err(StatusCode::BadNoSubscription);
        }
        for subscription in self.subscriptions.values_mut().filter(|subscription| subscription.session == session) {
            subscription.unheard = 0;
        }
        let Some(session) = self.sessions.get_mut(&session) else { return Err(StatusCode::BadSessionIdInvalid) };
        if session.parked.len() >= PARKED_MAX {
            return Err(StatusCode::BadTooManyPublishRequests);
        }
        session.parked.push_back(Parked { request: asking.id, handle: request.request_header.request_handle, results });
        self.tell_all();
        Ok(None)
    }

    fn republish(&mut self, session: u32, request: &RepublishRequest) -> Answer {
        let subscription = self.subscription(session, request.subscription_id)?;
        let found = subscription.repeat(request.retransmit_sequence_number);
        let notification_message = found.ok_or(StatusCode::BadMessageNotAvailable)?;
        self.counters.republished += 1;
        let response_header = ResponseHeader::new_good(&request.request_header);
        Ok(Some(RepublishResponse { response_header, notification_message }.into()))
    }

    fn transfer(&mut self, session: u32, request: &TransferSubscriptionsRequest) -> ResponseMessage {
        let ids = request.subscription_ids.as_deref().unwrap_or_default();
        let mut results = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(subscription) = self.subscriptions.get_mut(id) else {
                results
                    .push(TransferResult { status_code: StatusCode::BadSubscriptionIdInvalid, ..Default::default() });
                continue;
            };
            subscription.session = session;
            subscription.unheard = 0;
            if request.send_initial_values {
                subscription.begin_again();
            }
            let available_sequence_numbers = Some(subscription.available());
            results.push(TransferResult { status_code: StatusCode::Good, available_sequence_numbers });
        }
        let response_header = ResponseHeader::new_good(&request.request_header);
        TransferSubscriptionsResponse { response_header, results: Some(results), diagnostic_infos: None }.into()
    }
}

fn references(space: &Space, asked: &BrowseDescription) -> Result<Vec<ReferenceDescription>, StatusCode> {
    space.node(&asked.node_id).ok_or(StatusCode::BadNodeIdUnknown)?;
    let any = asked.reference_type_id.is_null();
    let wanted = |kind: opcua_types::ReferenceTypeId| {
        // all of ours are hierarchical; a subtype is asked for by one of its parents
        any || asked.reference_type_id == kind || (asked.include_subtypes && is_parent(&asked.reference_type_id))
    };
    let found = space.references(&asked.node_id, asked.browse_direction).into_iter().filter(|found| {
        let class = found.node.class() as u32;
        wanted(found.kind) && (asked.node_class_mask == 0 || asked.node_class_mask & class != 0)
    });
    let describe = |found: super::space::Found<'_>| ReferenceDescription {
        reference_type_id: found.kind.into(),
        is_forward: found.is_forward,
        node_id: found.target.into(),
        browse_name: found.node.browse_name.clone(),
        display_name: found.node.display(),
        node_class: found.node.class(),
        type_definition: found.node.type_definition().into(),
    };
    Ok(found.map(describe).collect())
}

fn is_parent(kind: &NodeId) -> bool {
    use opcua_types::ReferenceTypeId as Kind;
    [Kind::References, Kind::HierarchicalReferences, Kind::HasChild, Kind::Aggregates]
        .into_iter()
        .any(|parent| *kind == parent)
}

fn translate(space: &Space, path: &BrowsePath) -> BrowsePathResult {
    let failed = |status_code| BrowsePathResult { status_code, ..Default::default() };
    if space.node(&path.starting_node).is_none() {
        return failed(StatusCode::BadNodeIdUnknown);
    }
    let mut at = path.starting_node.clone();
    for element in path.relative_path.elements.as_deref().unwrap_or_default() {
        let forward = space.references(&at, opcua_types::BrowseDirection::Forward);
        let Some(found) = forward.into_iter().find(|found| found.node.browse_name == element.target_name) else {
            return failed(StatusCode::BadNoMatch);
        };
        at = found.target;
    }
    let target = BrowsePathTarget { target_id: at.into(), remaining_path_index: u32::MAX };
    BrowsePathResult { status_code: StatusCode::Good, targets: Some(vec![target]) }
}

fn description(url: &str) -> ApplicationDescription {
    ApplicationDescription {
        application_uri: UAString::from(SERVER_URI),
        product_uri: UAString::from(SERVER_URI),
        application_name: LocalizedText::new("", "StreamForge simulated filling line"),
        application_type: ApplicationType::Server,
        discovery_urls: Some(vec![UAString::from(url)]),
        ..Default::default()
    }
}

/// The one endpoint there is, named as the client calls it.
fn endpoint(url: &str) -> EndpointDescription {
    EndpointDescription {
        endpoint_url: UAString::from(url),
        server: description(url),
        server_certificate: ByteString::null(),
        security_mode: MessageSecurityMode::None,
        security_policy_uri: UAString::from(POLICY),
        user_identity_tokens: Some(vec![UserTokenPolicy {
            policy_id: UAString::from(ANONYMOUS),
            token_type: UserTokenType::Anonymous,
            ..Default::default()
        }]),
        transport_profile_uri: UAString::from(TRANSPORT),
        security_level: 0,
    }
}

fn interval(asked_ms: f64, least: Duration) -> Duration {
    let asked = if asked_ms.is_finite() { asked_ms.clamp(0.0, 3_600_000.0) } else { 0.0 };
    Duration::from_secs_f64(asked / 1000.0).clamp(least, INTERVAL_MAX)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A keep-alive comes within three times its count; a life is at least three keep-alives.
fn counts(lifetime: u32, keep_alive: u32) -> (u32, u32) {
    let keep_alive = keep_alive.clamp(1, 10_000);
    (lifetime.clamp(keep_alive * 3, 1_000_000), keep_alive)
}

fn keep_times(value: &mut DataValue, wanted: TimestampsToReturn) {
    if matches!(wanted, TimestampsToReturn::Server | TimestampsToReturn::Neither) {
        value.source_timestamp = None;
    }
    if matches!(wanted, TimestampsToReturn::Source | TimestampsToReturn::Neither) {
        value.server_timestamp = None;
    }
}
