//! The server's memory: sessions, subscriptions, and who waits for a notification.
//!
//! Pure but for the address space's own clock: it is handed the time, and answers are put into the outboxes of sessions.
//! The services themselves are in `service`. Invariant: everything is bounded by a constant here or in
//! [`super::subscription`]; what does not fit is refused with the status of the standard.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use opcua_core::ResponseMessage;
use opcua_types::{
    DateTime, NodeId, NotificationMessage, PublishResponse, ReferenceDescription, ResponseHeader, StatusCode,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Limits;
use super::fault::{Fault, Script};
use super::space::{Given, Space};
use super::subscription::Subscription;
use crate::plant::Moment;

/// Sessions at once; one more is refused with Bad_TooManySessions.
pub(super) const SESSIONS_MAX: usize = 50;
/// Subscriptions of all sessions; one more is refused with Bad_TooManySubscriptions.
pub(super) const SUBSCRIPTIONS_MAX: usize = 100;
/// Items of one subscription; one more is refused with Bad_TooManyMonitoredItems.
pub(super) const ITEMS_MAX: usize = 20_000;
/// Requests for notifications of one session; one more is refused with Bad_TooManyPublishRequests.
pub(super) const PARKED_MAX: usize = 20;
/// Continuation points of all sessions; one more is refused with Bad_NoContinuationPoints.
pub(super) const CONTINUATIONS_MAX: usize = 20;

/// What happened since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Connections accepted.
    pub connections: u64,
    /// Sessions created.
    pub sessions: u64,
    /// Requests to watch items: calls, not items.
    pub item_calls: u64,
    /// Notifications repeated on request.
    pub republished: u64,
    /// Writes, calls and whatever else would change a device; all are refused (G-01).
    pub changes_refused: u64,
    /// Times a fault struck.
    pub faults: u64,
}

/// A request for a notification that waits for one.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) request: u32,
    pub(super) handle: u32,
    /// Of the acknowledgements that came with it.
    pub(super) results: Vec<StatusCode>,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) token: NodeId,
    pub(super) connection: u64,
    pub(super) is_active: bool,
    pub(super) timeout: Duration,
    pub(super) heard: Instant,
    pub(super) parked: VecDeque<Parked>,
    pub(super) outbox: VecDeque<(u32, ResponseMessage)>,
    /// Held back to come after the next one.
    held: Option<(u32, ResponseMessage)>,
    /// Subscriptions that ended, and why; to be told.
    farewells: VecDeque<(u32, StatusCode)>,
    pub(super) wake: Arc<Notify>,
}

impl Session {
    pub(super) fn new(token: NodeId, connection: u64, timeout: Duration, now: Instant, wake: Arc<Notify>) -> Self {
        Self {
            token,
            connection,
            is_active: false,
            timeout,
            heard: now,
            parked: VecDeque::new(),
            outbox: VecDeque::new(),
            held: None,
            farewells: VecDeque::new(),
            wake,
        }
    }

    fn respond(
        &mut self,
        parked: Parked,
        subscription: u32,
        message: NotificationMessage,
        state: (Vec<u32>, bool),
        hold: bool,
    ) {
        let (available, more_notifications) = state;
        let answer = PublishResponse {
            response_header: ResponseHeader::new_good(parked.handle),
            subscription_id: subscription,
            available_sequence_numbers: Some(available),
            more_notifications,
            notification_message: message,
            results: Some(parked.results),
            diagnostic_infos: None,
        };
        let answer = (parked.request, answer.into());
        if hold && self.held.is_none() {
            self.held = Some(answer);
            return;
        }
        self.outbox.push_back(answer);
        self.outbox.extend(self.held.take());
        self.wake.notify_one();
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) space: Space,
    pub(super) given: Given,
    pub(super) limits: Limits,
    pub(super) swapped: bool,
    pub(super) sessions: BTreeMap<u32, Session>,
    pub(super) subscriptions: BTreeMap<u32, Subscription>,
    pub(super) continuations: BTreeMap<u32, Vec<ReferenceDescription>>,
    pub(super) script: Script,
    pub(super) counters: Counters,
    started: Instant,
    last_id: u32,
}

impl State {
    pub(super) fn new(limits: Limits, swapped: bool, now: Instant) -> Self {
        let given = Given::new();
        Self {
            space: Space::build(swapped, &given, &limits),
            given,
            limits,
            swapped,
            sessions: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            continuations: BTreeMap::new(),
            script: Script::default(),
            counters: Counters::default(),
            started: now,
            last_id: 0,
        }
    }

    /// A number nothing else has.
    pub(super) fn next_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn moment(&self, now: Instant) -> Moment {
        let since = now.saturating_duration_since(self.started);
        Moment::at_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Starts anew: nobody is known any more, and the namespaces may have changed their numbers.
    pub(super) fn restart(&mut self, swapped: bool) {
        for session in self.sessions.values() {
            session.wake.notify_one();
        }
        self.sessions.clear();
        self.subscriptions.clear();
        self.continuations.clear();
        self.swapped = swapped;
        self.space = Space::build(swapped, &self.given, &self.limits);
    }

    /// Ends a subscription; its client is told, or not.
    pub(super) fn end(&mut self, id: u32, told: Option<StatusCode>) {
        let Some(gone) = self.subscriptions.remove(&id) else { return };
        if let (Some(status), Some(session)) = (told, self.sessions.get_mut(&gone.session)) {
            session.farewells.push_back((id, status));
        }
    }

    /// Forgets a session. What it subscribed to stays for its lifetime, for somebody to take over.
    pub(super) fn drop_session(&mut self, number: u32) {
        if let Some(session) = self.sessions.remove(&number) {
            session.wake.notify_one();
        }
    }

    /// Takes the answers that wait for a connection.
    pub(super) fn take_for(&mut self, connection: u64) -> Vec<(u32, ResponseMessage)> {
        let own = self.sessions.values_mut().filter(|session| session.connection == connection);
        own.flat_map(|session| session.outbox.drain(..)).collect()
    }

    /// Goes on to this time: samples, ends what has expired, tells what there is to tell.
    pub(super) fn tick(&mut self, now: Instant) {
        let expired = |(number, session): (&u32, &Session)| (session.heard + session.timeout < now).then_some(*number);
        let expired: Vec<u32> = self.sessions.iter().filter_map(expired).collect();
        for number in expired {
            tracing::info!(session = number, "a session has expired");
            self.drop_session(number);
        }
        let at = self.moment(now);
        let mut ended = Vec::new();
        for subscription in self.subscriptions.values_mut() {
            for item in subscription.items.values_mut() {
                if item.is_due(now) {
                    item.sample(self.space.read(&item.node, item.attribute, at, &self.given));
                }
            }
            if subscription.tick(now) {
                subscription.is_late = true;
            }
            if subscription.unheard > subscription.lifetime_count {
                ended.push(subscription.id);
            }
        }
        for id in ended {
            tracing::info!(subscription = id, "a subscription has expired");
            self.end(id, Some(StatusCode::BadTimeout));
        }
        self.tell_all();
    }

    /// Answers requests for notifications as far as there are both.
    pub(super) fn tell_all(&mut self) {
        for session in self.sessions.values_mut() {
            while let Some((id, status)) = session.farewells.front().copied() {
                let Some(parked) = session.parked.pop_front() else { break };
                session.farewells.pop_front();
                let message = NotificationMessage::status_change(1, DateTime::now(), status);
                session.respond(parked, id, message, (Vec::new(), false), false);
            }
        }
        let late = |one: &&mut Subscription| one.is_late;
        for subscription in self.subscriptions.values_mut().filter(late) {
            let Some(session) = self.sessions.get_mut(&subscription.session) else { continue };
            while subscription.is_late {
                if !subscription.is_ready() {
                    // nothing to say before the next interval ends
                    subscription.is_late = false;
                    if !session.parked.is_empty() {
                        subscription.unheard = 0;
                    }
                    break;
                }
                let Some(parked) = session.parked.pop_front() else { break };
                let telling = subscription.tell(DateTime::now());
                subscription.is_late = telling.more;
                let number = telling.message.sequence_number;
                let fault = if telling.is_keep_alive { None } else { self.script.of_notification() };
                self.counters.faults += u64::from(fault.is_some());
                match fault {
                    Some(lost @ (Fault::Drop | Fault::Lose)) => {
                        if lost == Fault::Lose {
                            subscription.forget(number);
                        }
                        // the request is answered by the next one
                        session.parked.push_front(parked);
                    }
                    fault => {
                        let state = (subscription.available(), telling.more);
                        let hold = fault == Some(Fault::Reorder);
                        session.respond(parked, subscription.id, telling.message.clone(), state.clone(), hold);
                        if fault == Some(Fault::Duplicate)
                            && let Some(parked) = session.parked.pop_front()
                        {
                            session.respond(parked, subscription.id, telling.message, state, false);
                        }
                    }
                }
            }
        }
    }
}
