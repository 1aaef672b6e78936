//! The conversation before values come: endpoints, session, what the server is, subscriptions (UA-01, UA-07, UA-11, UA-14).
//!
//! Each function asks one thing over an open channel and waits for the answer; what to do with a refusal is decided by the
//! caller. A session outlives its connection, so what is needed to come back to it is kept in [`Held`].

use std::time::Duration;

use tokio::time::Instant;

use super::config::ConnectionPlan;
use super::connection::{CallError, Connection, Target, refusal};
use super::endpoint::{Chosen, identity};
use super::node::STANDARD;
use super::stack::{
    ActivateSessionRequest, ApplicationDescription, ApplicationType, AttributeId, ByteString, CloseSessionRequest,
    CreateSessionRequest, CreateSubscriptionRequest, DataValue, DeleteSubscriptionsRequest, EndpointDescription,
    GetEndpointsRequest, LocalizedText, NodeId, NotificationMessage, ReadRequest, ReadValueId, RepublishRequest,
    ResponseMessage, Security, SecurityPolicy, SignatureData, StatusCode, TimestampsToReturn,
    TransferSubscriptionsRequest, UAString, Variant, X509, is_signed_by, leaf, micros, nonce, sign,
};
use super::subscription::Subscription;
use super::trust::Own;
use crate::adapter::LinkError;

/// Operations in one request where the server does not say how many it takes (UA-14).
pub const OPERATIONS_DEFAULT: usize = 100;
/// No request of ours has more, whatever the server takes.
const OPERATIONS_MAX: usize = 5_000;
/// Notifications in one message.
const NOTIFICATIONS_MAX: u32 = 10_000;

/// What lives on at the server while the connection is gone.
#[derive(Debug)]
pub struct Held {
    pub token: NodeId,
    /// The server's newest; what we sign to come back.
    pub nonce: ByteString,
    /// Which of the plan's servers it is of.
    pub server: usize,
    pub start_time: Option<i64>,
    pub subscriptions: Vec<Subscription>,
}

/// What the server says about itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServerFacts {
    pub namespaces: Vec<String>,
    /// 0 is running.
    pub state: i32,
    pub start_time: Option<i64>,
    pub items_per_call: usize,
    pub nodes_per_read: usize,
    pub service_level: Option<u8>,
}

/// Names of the states of a server.
pub const fn state_name(state: i32) -> &'static str {
    match state {
        0 => "running",
        1 => "failed",
        2 => "without configuration",
        3 => "suspended",
        4 => "shutting down",
        5 => "in a test",
        6 => "in trouble with what it depends on",
        _ => "in an unknown state",
    }
}

/// Asks a server over an open channel, in one attempt.
#[derive(Debug)]
pub struct Asker<'a> {
    pub connection: &'a mut Connection,
    pub deadline: Instant,
}

/// Where a session can be made: asked over a channel of its own, without security, which ends with the answer.
pub async fn endpoints(target: &Target<'_>) -> Result<Vec<EndpointDescription>, LinkError> {
    let mut connection = Connection::open(target, Security::none()).await?;
    let url = target.url.to_owned();
    let asked = connection.call(target.deadline, |request_header| {
        GetEndpointsRequest { request_header, endpoint_url: UAString::from(url.as_str()), ..Default::default() }.into()
    });
    let answer = asked.await;
    let found = match answer {
        Ok(ResponseMessage::GetEndpoints(answer)) => Ok(answer.endpoints.unwrap_or_default()),
        Ok(_) => Err(connection.out_of_step("it answers something else than was asked".to_owned())),
        Err(error) => Err(link_error(connection.target(), error)),
    };
    connection.finish().await;
    found
}

/// What a question without an answer means for the connection.
pub fn link_error(target: &str, error: CallError) -> LinkError {
    match error {
        CallError::Link(error) => error,
        CallError::Refused(status) => refusal(target, status, ""),
        CallError::Undecodable(what) => LinkError::OutOfStep { target: target.to_owned(), what },
    }
}

impl Asker<'_> {
    fn unexpected(&self) -> CallError {
        CallError::Link(self.connection.out_of_step("it answers something else than was asked".to_owned()))
    }

    /// A new session: its token, the server's nonce, and how long it lives without a word of ours.
    pub async fn create(
        &mut self,
        chosen: &Chosen,
        plan: &ConnectionPlan,
        url: &str,
        own: Option<&Own>,
        names: (&str, &str),
    ) -> Result<(NodeId, ByteString, Duration), CallError> {
        let (application_uri, session_name) = names;
        let ours = nonce();
        let client_nonce = ours.clone();
        let certificate = own.filter(|_| chosen.security.policy != SecurityPolicy::None);
        let client_certificate = certificate.map_or_else(ByteString::null, |own| own.certificate.as_byte_string());
        #[expect(clippy::cast_precision_loss, reason = "at most a day of milliseconds")]
        let requested_session_timeout = plan.session_timeout.as_millis() as f64;
        let description = ApplicationDescription {
            application_uri: UAString::from(application_uri),
            product_uri: UAString::from("urn:streamforge"),
            application_name: LocalizedText::new("", "StreamForge"),
            application_type: ApplicationType::Client,
            ..Default::default()
        };
        let build = |request_header| {
            CreateSessionRequest {
                request_header,
                client_description: description,
                server_uri: UAString::null(),
                endpoint_url: UAString::from(url),
                session_name: UAString::from(session_name),
                client_nonce,
                client_certificate,
                requested_session_timeout,
                max_response_message_size: u32::try_from(super::stack::MESSAGE_BYTES_MAX).unwrap_or(u32::MAX),
            }
            .into()
        };
        let ResponseMessage::CreateSession(answer) = self.connection.call(self.deadline, build).await? else {
            return Err(self.unexpected());
        };
        if chosen.security.policy != SecurityPolicy::None {
            self.check_server(chosen, own, &answer.server_certificate, &answer.server_signature, &ours)?;
        }
        let lives = answer.revised_session_timeout.clamp(1000.0, 1e9);
        Ok((answer.authentication_token, answer.server_nonce, Duration::from_secs_f64(lives / 1000.0)))
    }

    /// The server of the session holds the key of the certificate that we trust.
    fn check_server(
        &self,
        chosen: &Chosen,
        own: Option<&Own>,
        certificate: &ByteString,
        signature: &SignatureData,
        ours: &ByteString,
    ) -> Result<(), CallError> {
        let wrong = |what: &str| CallError::Link(self.connection.out_of_step(what.to_owned()));
        if leaf(certificate.as_ref()) != chosen.security.server_certificate.as_ref() {
            return Err(wrong("the session shows another certificate than the endpoint"));
        }
        let server = X509::from_byte_string(&chosen.security.server_certificate);
        let (Ok(server), Some(own)) = (server, own) else {
            return Err(wrong("the server's certificate is unreadable"));
        };
        if !is_signed_by(&server, signature, chosen.security.policy, &own.certificate, ours) {
            return Err(wrong("the server did not prove that it holds the key of its certificate"));
        }
        Ok(())
    }

    /// Logs in, also again over a new channel; gives the server's next nonce.
    pub async fn activate(
        &mut self,
        chosen: &Chosen,
        plan: &ConnectionPlan,
        server_nonce: &ByteString,
        own: Option<&Own>,
        password: Option<&str>,
    ) -> Result<ByteString, CallError> {
        let setup = |connection: &Connection, what: String| {
            CallError::Link(LinkError::Setup { target: connection.target().to_owned(), what })
        };
        let (user_identity_token, user_token_signature) =
            identity(chosen, plan, password, server_nonce).map_err(|defect| setup(self.connection, defect.what))?;
        let client_signature = match own {
            Some(own) if chosen.security.policy != SecurityPolicy::None => {
                let certificate = &chosen.security.server_certificate;
                sign(&own.key, chosen.security.policy, certificate, server_nonce)
                    .map_err(|defect| setup(self.connection, defect.what))?
            }
            _ => SignatureData::default(),
        };
        let build = |request_header| {
            ActivateSessionRequest {
                request_header,
                client_signature,
                client_software_certificates: None,
                locale_ids: Some(vec![UAString::from("en")]),
                user_identity_token,
                user_token_signature,
            }
            .into()
        };
        match self.connection.call(self.deadline, build).await? {
            ResponseMessage::ActivateSession(answer) => Ok(answer.server_nonce),
            _ => Err(self.unexpected()),
        }
    }

    /// Reads attributes; the answers stand in the order of the questions.
    pub async fn read(&mut self, nodes: Vec<ReadValueId>) -> Result<Vec<DataValue>, CallError> {
        let count = nodes.len();
        let build = |request_header| {
            ReadRequest {
                request_header,
                max_age: 0.0,
                timestamps_to_return: TimestampsToReturn::Both,
                nodes_to_read: Some(nodes),
            }
            .into()
        };
        match self.connection.call(self.deadline, build).await? {
            ResponseMessage::Read(answer) => {
                let results = answer.results.unwrap_or_default();
                if results.len() == count { Ok(results) } else { Err(self.unexpected()) }
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Asks what the server is; what it does not say has a default (UA-12, UA-14).
    pub async fn facts(&mut self) -> Result<ServerFacts, CallError> {
        let nodes = [2255_u32, 2259, 2257, 2267, 11_714, 11_705];
        let asked = nodes.iter().map(|node| value_of(&NodeId::new(0, *node))).collect();
        let answers = self.read(asked).await?;
        Ok(facts_of(&answers))
    }

    /// A subscription of a publishing interval, as the server revises it (UA-07, UA-08).
    pub async fn subscribe(
        &mut self,
        interval: usize,
        publishing_ms: u32,
        plan: &ConnectionPlan,
    ) -> Result<Subscription, CallError> {
        let asked = counts(publishing_ms, plan.keep_alive, plan.subscription_lifetime);
        let build = |request_header| {
            CreateSubscriptionRequest {
                request_header,
                requested_publishing_interval: f64::from(publishing_ms),
                requested_lifetime_count: asked.lifetime,
                requested_max_keep_alive_count: asked.keep_alive,
                max_notifications_per_publish: NOTIFICATIONS_MAX,
                publishing_enabled: true,
                priority: 0,
            }
            .into()
        };
        let ResponseMessage::CreateSubscription(answer) = self.connection.call(self.deadline, build).await? else {
            return Err(self.unexpected());
        };
        let publishing = Duration::from_secs_f64(answer.revised_publishing_interval.clamp(1.0, 86_400_000.0) / 1000.0);
        let keep_alive = publishing.saturating_mul(answer.revised_max_keep_alive_count.max(1));
        if answer.revised_publishing_interval != f64::from(publishing_ms)
            || answer.revised_max_keep_alive_count != asked.keep_alive
            || answer.revised_lifetime_count != asked.lifetime
        {
            tracing::info!(
                asked_ms = publishing_ms,
                publishing_ms = answer.revised_publishing_interval,
                asked_keep_alive = asked.keep_alive,
                keep_alive = answer.revised_max_keep_alive_count,
                asked_lifetime = asked.lifetime,
                lifetime = answer.revised_lifetime_count,
                "the server revises the subscription"
            );
        }
        Ok(Subscription::new(answer.subscription_id, interval, publishing, keep_alive, Instant::now()))
    }

    /// Takes subscriptions of another session over; by subscription whether that worked (UA-11).
    pub async fn transfer(&mut self, ids: Vec<u32>) -> Result<Vec<bool>, CallError> {
        let count = ids.len();
        let build = |request_header| {
            TransferSubscriptionsRequest { request_header, subscription_ids: Some(ids), send_initial_values: true }
                .into()
        };
        match self.connection.call(self.deadline, build).await? {
            ResponseMessage::TransferSubscriptions(answer) => {
                let results = answer.results.unwrap_or_default();
                let worked: Vec<bool> = results.iter().map(|result| result.status_code.is_good()).collect();
                if worked.len() == count { Ok(worked) } else { Err(self.unexpected()) }
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Ends subscriptions that are of no use any more; none are to be left behind (UA-11).
    pub async fn delete(&mut self, ids: Vec<u32>) -> Result<(), CallError> {
        let build = |request_header| DeleteSubscriptionsRequest { request_header, subscription_ids: Some(ids) }.into();
        self.connection.call(self.deadline, build).await.map(|_| ())
    }

    /// Asks for a notification again; none if the server does not have it.
    pub async fn republish(&mut self, id: u32, number: u32) -> Result<Option<NotificationMessage>, CallError> {
        let build = |request_header| {
            RepublishRequest { request_header, subscription_id: id, retransmit_sequence_number: number }.into()
        };
        match self.connection.call(self.deadline, build).await {
            Ok(ResponseMessage::Republish(answer)) => Ok(republished(number, answer.notification_message)),
            Ok(_) => Err(self.unexpected()),
            Err(CallError::Refused(status)) if status == StatusCode::BadMessageNotAvailable => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends the session and its subscriptions.
    pub async fn close(&mut self) -> Result<(), CallError> {
        let build = |request_header| CloseSessionRequest { request_header, delete_subscriptions: true }.into();
        self.connection.call(self.deadline, build).await.map(|_| ())
    }
}

/// Some servers answer with an empty message where they should say that they do not have it.
pub fn republished(number: u32, message: NotificationMessage) -> Option<NotificationMessage> {
    let has_content = message.notification_data.as_ref().is_some_and(|data| !data.is_empty());
    (message.sequence_number == number && has_content).then_some(message)
}

/// The value of a node.
pub fn value_of(node: &NodeId) -> ReadValueId {
    ReadValueId { node_id: node.clone(), attribute_id: AttributeId::Value as u32, ..Default::default() }
}

/// What is asked of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    keep_alive: u32,
    lifetime: u32,
}

/// In publishing intervals: the longest silence, and how long without us; at least three times the former (UA-08).
fn counts(publishing_ms: u32, keep_alive: Duration, lifetime: Duration) -> Counts {
    let of = |duration: Duration| {
        let count = duration.as_millis().div_ceil(u128::from(publishing_ms.max(1)));
        u32::try_from(count).unwrap_or(u32::MAX).max(1)
    };
    let keep_alive = of(keep_alive);
    Counts { keep_alive, lifetime: of(lifetime).max(keep_alive.saturating_mul(3)) }
}

fn facts_of(answers: &[DataValue]) -> ServerFacts {
    let value = |at: usize| answers.get(at).filter(|data| !data.status().is_bad()).and_then(|data| data.value.as_ref());
    let namespaces = match value(0) {
        Some(Variant::Array(array)) => array.values.iter().map(text_of).collect(),
        _ => vec![STANDARD.to_owned()],
    };
    let state = match value(1) {
        Some(Variant::Int32(state)) => *state,
        _ => 0,
    };
    let start_time = match value(2) {
        Some(Variant::DateTime(time)) => micros(time),
        _ => None,
    };
    let service_level = match value(3) {
        Some(Variant::Byte(level)) => Some(*level),
        _ => None,
    };
    let limit = |at: usize| match value(at) {
        Some(Variant::UInt32(0)) => OPERATIONS_MAX,
        Some(Variant::UInt32(limit)) => usize::try_from(*limit).unwrap_or(usize::MAX).min(OPERATIONS_MAX),
        _ => OPERATIONS_DEFAULT,
    };
    ServerFacts { namespaces, state, start_time, items_per_call: limit(4), nodes_per_read: limit(5), service_level }
}

fn text_of(variant: &Variant) -> String {
    match variant {
        Variant::String(text) => text.as_ref().chars().take(1024).collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // UA-08
    #[test]
    fn a_subscription_outlives_a_short_cut() {
        let second = Duration::from_secs(1);
        assert_eq!(counts(1000, second * 5, second * 600), Counts { keep_alive: 5, lifetime: 600 });
        assert_eq!(counts(100, second * 5, second * 600), Counts { keep_alive: 50, lifetime: 6000 });
        assert_eq!(counts(3_600_000, second * 5, second * 600), Counts { keep_alive: 1, lifetime: 3 });
    }

    // UA-12, UA-14
    #[test]
    fn what_a_server_does_not_say_has_a_default() {
        let none = facts_of(&[]);
        assert_eq!((none.items_per_call, none.state, none.namespaces.len()), (OPERATIONS_DEFAULT, 0, 1));
        let said = |value: Variant| DataValue { value: Some(value), ..DataValue::null() };
        let refused = DataValue { status: Some(StatusCode::BadNodeIdUnknown), ..said(Variant::UInt32(7)) };
        let uris = Variant::from(vec![UAString::from(STANDARD), UAString::from("urn:x")]);
        let answers = [
            said(uris),
            said(Variant::Int32(3)),
            said(Variant::Empty),
            said(Variant::Byte(200)),
            said(Variant::UInt32(0)),
            refused,
        ];
        let facts = facts_of(&answers);
        assert_eq!(facts.namespaces, [STANDARD, "urn:x"]);
        assert_eq!((facts.state, facts.service_level, facts.start_time), (3, Some(200), None));
        assert_eq!((facts.items_per_call, facts.nodes_per_read), (OPERATIONS_MAX, OPERATIONS_DEFAULT));
        assert_eq!(state_name(3), "suspended");
    }
}
