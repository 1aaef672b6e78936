//! Where access rules are asked: one implementation of [`Guarded`] per request, and none can be served without it.
//!
//! Handlers know nothing of rules, but for regular expressions, whose topics are not in their request. What a peer may not touch is taken out of its request before the handler sees it, and
//! stands in the answer afterwards with the error that Apache Kafka gives; a peer that may do everything passes untouched.
//! Listings are cut down to what the peer may describe.
//! The operation that each API asks for is Apache Kafka's; `tests/it/access_matrix.rs` holds the table against a broker.

mod cluster;
mod data;
mod groups;
mod topics;
mod transactions;

use std::cell::Cell;
use std::sync::Arc;

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::Request;
use uuid::Uuid;

use super::Rights;
use super::rules::{CLUSTER_NAME, Operation, Resource};
use crate::core::Core;

// the protocol's codes, which the codec does not give as constants
const TOPIC_DENIED: i16 = 29; // TOPIC_AUTHORIZATION_FAILED
const GROUP_DENIED: i16 = 30; // GROUP_AUTHORIZATION_FAILED
const CLUSTER_DENIED: i16 = 31; // CLUSTER_AUTHORIZATION_FAILED
const TRANSACTION_DENIED: i16 = 53; // TRANSACTIONAL_ID_AUTHORIZATION_FAILED

/// What becomes of a request.
pub(crate) enum Verdict<A> {
    /// It is handled as it is.
    Pass,
    /// It is answered without being handled.
    Refuse(A),
    /// What is left of it is handled, and the answer is completed.
    Amend(Amendment<A>),
}

pub(crate) type Amendment<A> = Box<dyn FnOnce(&mut A) + Send>;

impl<A> Verdict<A> {
    fn amend(amendment: impl FnOnce(&mut A) + Send + 'static) -> Self {
        Self::Amend(Box::new(amendment))
    }

    /// Amends only when something was taken out.
    fn unless_empty<T: Send + 'static>(taken: Vec<T>, amendment: impl FnOnce(&mut A, Vec<T>) + Send + 'static) -> Self {
        if taken.is_empty() { Self::Pass } else { Self::amend(|answer| amendment(answer, taken)) }
    }
}

/// Who asks, and for what.
pub(crate) struct Asking<'a> {
    pub(crate) core: &'a Core,
    pub(crate) rights: &'a Rights,
    pub(crate) version: i16,
    /// Something was taken out.
    denied: Cell<bool>,
}

impl Asking<'_> {
    fn topic(&self, operation: Operation, name: &str) -> bool {
        self.rights.may(operation, Resource::Topic, name)
    }

    fn group(&self, operation: Operation, name: &str) -> bool {
        self.rights.may(operation, Resource::Group, name)
    }

    fn cluster(&self, operation: Operation) -> bool {
        self.rights.may(operation, Resource::Cluster, CLUSTER_NAME)
    }

    fn transaction(&self, operation: Operation, id: &str) -> bool {
        self.rights.may(operation, Resource::TransactionalId, id)
    }

    /// A topic that a request names, or whose id it gives. An id that nobody has is the handler's to refuse.
    fn topic_or_id(&self, operation: Operation, name: &str, id: Uuid) -> bool {
        if !name.is_empty() {
            return self.topic(operation, name);
        }
        self.core.topics.by_id(id).is_none_or(|topic| self.topic(operation, &topic.name))
    }

    /// Takes out of a list what is not allowed.
    fn take_out<T>(&self, list: &mut Vec<T>, mut allowed: impl FnMut(&T) -> bool) -> Vec<T> {
        let denied: Vec<T> = list.extract_if(.., |one| !allowed(one)).collect();
        self.denied.set(self.denied.get() || !denied.is_empty());
        denied
    }

    /// For amendments, which outlive the request.
    fn keep(&self) -> Rights {
        self.rights.clone()
    }
}

/// A request with its access rule. There is no default: whoever adds an API has to say who may use it.
pub(crate) trait Guarded: Request {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<Self::Response>;

    /// Tells the client how long it is not listened to.
    fn throttled(answer: &mut Self::Response, time_ms: i32);

    /// Bytes of the answer that count for the quota on consuming.
    fn consumed(_answer: &Self::Response) -> usize {
        0
    }
}

/// The part of [`Guarded`] that is the same for every answer with a time in it.
macro_rules! tells_throttling {
    () => {
        fn throttled(answer: &mut Self::Response, time_ms: i32) {
            answer.throttle_time_ms = time_ms;
        }
    };
}
use tells_throttling;

/// A name in an answer that may not be null before a version.
fn nullable(name: Option<TopicName>, version: i16, since: i16) -> Option<TopicName> {
    if version >= since { name } else { Some(name.unwrap_or_default()) }
}

/// Asks for a request; `None` when its peer may do everything.
pub(crate) fn judge<R: Guarded>(
    core: &Arc<Core>,
    peer: &super::peer::Peer,
    version: i16,
    request: &mut R,
) -> Verdict<R::Response> {
    match core.access.rights(peer) {
        None => Verdict::Pass,
        Some(rights) => {
            let asking = Asking { core, rights: &rights, version, denied: Cell::new(false) };
            let verdict = request.guard(&asking);
            if asking.denied.get() || matches!(verdict, Verdict::Refuse(_)) {
                core.metrics.requests_denied.inc();
                let api = crate::apis::find(R::KEY).map_or("other", |api| api.name);
                let (principal, address) = (peer.principal(), peer.address);
                if peer.first_denial() {
                    tracing::warn!(api, %principal, %address, "access rules refused a request, the first of this connection");
                } else {
                    tracing::debug!(api, %principal, %address, "access rules refused a request");
                }
            }
            verdict
        }
    }
}
