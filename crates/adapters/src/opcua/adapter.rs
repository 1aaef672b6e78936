//! Listens to a server: each notification becomes samples, and is acknowledged when they are durable.
//!
//! What is owed is decided in [`super::subscription`], what is watched in [`super::items`], the bytes are moved in
//! [`super::connection`], what values mean is found out in [`super::value`]. Here they meet. Coming back to a server is in
//! [`super::comeback`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::{Clock, Quality, Timestamp, reason};
use tokio::time::Instant;

use super::config::Plan;
use super::connection::Connection;
use super::history::Filler;
use super::items::{self, Item, State, WAITING_MAX};
use super::session::{Asker, Held, ServerFacts, republished, state_name};
use super::stack::{
    CreateMonitoredItemsRequest, DataChangeNotification, DataValue, EventNotificationList, Incoming, MonitoringMode,
    MonitoringParameters, NodeId, NotificationMessage, PublishRequest, ReadRequest, RepublishRequest, ResponseMessage,
    SecurityPolicy, StatusChangeNotification, StatusCode, TimestampsToReturn, Variant, clean, micros,
};
use super::subscription::{Ledger, Step};
use super::trust::{Folders, Own};
use super::value::{self, Place};
use crate::adapter::{Adapter, Group, LinkError, NO_GROUP, Receipt, Tag};
use crate::notice::{DATA_LOSS, Notice};
use crate::sample::{Cycle, Flags, Sample};

/// Messages taken into one cycle.
const MESSAGES_MAX: usize = 32;
/// Samples of one cycle after which it is handed over.
const SAMPLES_MAX: usize = 10_000;
/// Requests for items on their way at once.
const CREATING_MAX: usize = 4;
/// Handles of what is watched of the server itself.
const HANDLE_STATE: u32 = u32::MAX - 1;
const HANDLE_START: u32 = u32::MAX - 2;
/// Refusals of a request for notifications in a row after which the session is of no use.
const REFUSALS_MAX: u32 = 5;

/// Names under which repeated or unreadable input is counted.
pub mod discard {
    /// Said before: value, status and source time are the same.
    pub const REPEATED_VALUE: &str = "REPEATED_VALUE";
    /// Of an item that is not ours.
    pub const UNKNOWN_ITEM: &str = "UNKNOWN_ITEM";
    /// An answer, or a part of one, that cannot be read.
    pub const DECODE_ERROR: &str = model::reason::DECODE_ERROR;
}

/// The OPC UA adapter.
#[derive(Debug)]
pub struct OpcUaAdapter {
    pub(super) plan: Plan,
    pub(super) gateway_id: String,
    pub(super) host_name: String,
    pub(super) password: Option<String>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) folders: Folders,
    pub(super) own: Option<Own>,
    pub(super) devices: [String; 1],
    tags: Vec<Tag>,
    /// By point and element: the tag of an array that is split.
    elements: HashMap<(usize, usize), usize>,
    /// By point.
    pub(super) items: Vec<Item>,
    /// Publishing intervals in milliseconds; a subscription or a rhythm of reading each.
    pub(super) intervals: Vec<u32>,
    /// By interval: when it is read next.
    pub(super) reads: Vec<Instant>,
    /// Which of the servers is spoken to.
    pub(super) server: usize,
    pub(super) held: Option<Held>,
    pub(super) facts: ServerFacts,
    pub(super) link: Option<Link>,
    pub(super) ledger: Ledger,
    /// Came while nobody heard: notifications of subscriptions, and samples.
    pub(super) stash: VecDeque<(u32, NotificationMessage)>,
    pub(super) stash_samples: Vec<Sample>,
    pub(super) notices: Vec<Notice>,
    receipt: Receipt,
    /// Items asked for in one request.
    pub(super) chunk: usize,
    /// The server does not know subscriptions.
    pub(super) cannot_subscribe: bool,
    pub(super) login_wait: Duration,
    pub(super) link_reason: Option<&'static str>,
    /// What is to be known about certificates, by whose they are.
    pub(super) expiring: BTreeMap<&'static str, i64>,
    pub(super) filler: Filler,
    /// When the next items are to be asked for; looked up again after each change, for there may be many.
    items_due: Option<Instant>,
    items_dirty: bool,
    /// Since when the first of those waits that have no value yet.
    waiting_from: Option<Instant>,
    has_polled: bool,
}

/// An open conversation.
#[derive(Debug)]
pub(super) struct Link {
    pub connection: Connection,
    pub pending: HashMap<u32, Pending>,
    /// Requests for notifications that lie at the server.
    pub outstanding: usize,
    /// No more than that are taken (UA-08).
    pub publish_max: usize,
    pub refusals: u32,
    pub is_renewing: bool,
    pub watches_server: bool,
}

/// What an answer will be the answer to.
#[derive(Debug)]
pub(super) enum Pending {
    Publish,
    Create { items: Vec<usize> },
    WatchServer,
    Republish { subscription: u32, number: u32 },
    Read { items: Vec<usize> },
    History { items: Vec<usize> },
}

impl OpcUaAdapter {
    /// From a valid plan; `password` is what the plan refers to. Connects nowhere yet.
    pub fn new(
        plan: Plan,
        gateway_id: &str,
        host_name: &str,
        password: Option<String>,
        folders: Folders,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let now = Instant::now();
        let mut intervals: Vec<u32> = plan.points.iter().map(|point| point.publishing_ms).collect();
        intervals.sort_unstable();
        intervals.dedup();
        let place = |ms: u32| intervals.binary_search(&ms).unwrap_or_default();
        let items = plan.points.iter().map(|point| Item::new(place(point.publishing_ms), point.polled, now)).collect();
        let tag = |point: &super::point::Point| Tag {
            asset_id: point.asset_id.clone(),
            asset_path: plan.common.asset_path.clone(),
            parameter: point.parameter.clone(),
            unit: point.unit.clone(),
            value_type: point.value_type,
            classification: point.classification,
            source_ref: point.node.to_string(),
            group: NO_GROUP,
            device: 0,
        };
        let filler = Filler::new(plan.back_fill);
        Self {
            tags: plan.points.iter().map(tag).collect(),
            elements: HashMap::new(),
            devices: [format!("server {}", plan.connection.servers[0].url)],
            gateway_id: gateway_id.to_owned(),
            host_name: host_name.to_owned(),
            password,
            clock,
            folders,
            own: None,
            reads: vec![now; intervals.len()],
            items,
            intervals,
            server: 0,
            held: None,
            facts: ServerFacts::default(),
            link: None,
            ledger: Ledger::default(),
            stash: VecDeque::new(),
            stash_samples: Vec::new(),
            notices: Vec::new(),
            receipt: 0,
            chunk: super::session::OPERATIONS_DEFAULT,
            cannot_subscribe: false,
            login_wait: Duration::ZERO,
            link_reason: None,
            expiring: BTreeMap::new(),
            filler,
            items_due: None,
            items_dirty: true,
            waiting_from: None,
            has_polled: false,
            plan,
        }
    }

    /// Everything that is here. An error after it stands too.
    fn take_in(&mut self, cycle: &mut Cycle) -> Result<(), LinkError> {
        cycle.samples.append(&mut self.stash_samples);
        cycle.notices.append(&mut self.notices);
        while let Some((subscription, message)) = self.stash.pop_front() {
            self.deliver(subscription, &message, cycle)?;
        }
        for _ in 0..MESSAGES_MAX {
            if cycle.samples.len() >= SAMPLES_MAX {
                return Ok(());
            }
            let Some(link) = &mut self.link else { return Ok(()) };
            match link.connection.next()? {
                None => return Ok(()),
                Some(Incoming::Opened { renew_after }) => {
                    link.connection.renew_at = Instant::now() + renew_after;
                    link.is_renewing = false;
                }
                Some(Incoming::Response { request, message }) => match link.pending.remove(&request) {
                    Some(pending) => self.answer(pending, message, cycle)?,
                    None => tracing::debug!(message = message.type_name(), "an answer to nothing we asked"),
                },
                Some(Incoming::Undecodable { request, why }) => {
                    cycle.discarded.push(discard::DECODE_ERROR);
                    tracing::warn!(why, "an answer of the server cannot be read");
                    let pending = link.pending.remove(&request);
                    if let Some(pending) = pending {
                        self.unanswered(pending, StatusCode::BadDecodingError, cycle)?;
                    }
                }
                Some(Incoming::Acknowledged | Incoming::Ended { .. }) => {}
            }
        }
        Ok(())
    }

    fn answer(&mut self, pending: Pending, message: ResponseMessage, cycle: &mut Cycle) -> Result<(), LinkError> {
        let status = message.response_header().service_result;
        if status.is_bad() {
            return self.unanswered(pending, status, cycle);
        }
        match (pending, message) {
            (Pending::Publish, ResponseMessage::Publish(answer)) => {
                if let Some(link) = &mut self.link {
                    link.outstanding = link.outstanding.saturating_sub(1);
                    link.refusals = 0;
                }
                let now = Instant::now();
                let id = answer.subscription_id;
                let Some(subscription) = self.subscription(id) else { return Ok(()) };
                let steps = subscription.receive(answer.notification_message, now);
                self.perform(id, steps, cycle)
            }
            (Pending::Republish { subscription: id, number }, ResponseMessage::Republish(answer)) => {
                let Some(subscription) = self.subscription(id) else { return Ok(()) };
                let steps = subscription.republished(number, republished(number, answer.notification_message));
                self.perform(id, steps, cycle)
            }
            (Pending::Create { items }, ResponseMessage::CreateMonitoredItems(answer)) => {
                let results = answer.results.unwrap_or_default();
                self.created(&items, &results, cycle);
                Ok(())
            }
            (Pending::Read { items }, ResponseMessage::Read(answer)) => {
                let arrived = self.clock.now();
                for (at, data) in items.into_iter().zip(answer.results.unwrap_or_default()) {
                    self.take_value(at, &data, arrived, cycle);
                }
                Ok(())
            }
            (Pending::History { items }, ResponseMessage::HistoryRead(answer)) => {
                self.take_history(&items, answer.results.unwrap_or_default(), cycle);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The server says no to something.
    fn unanswered(&mut self, pending: Pending, status: StatusCode, cycle: &mut Cycle) -> Result<(), LinkError> {
        let now = Instant::now();
        match pending {
            Pending::Publish => self.publish_refused(status),
            Pending::Republish { subscription: id, number } => {
                if status != StatusCode::BadMessageNotAvailable {
                    tracing::warn!(status = %status, number, "a notification does not come again");
                }
                let Some(subscription) = self.subscription(id) else { return Ok(()) };
                let steps = subscription.republished(number, None);
                self.perform(id, steps, cycle)
            }
            Pending::Create { items } => {
                self.items_dirty = true;
                if items::is_too_much(status) && items.len() > 1 {
                    self.chunk = (items.len() / 2).max(1);
                    tracing::info!(status = %status, chunk = self.chunk, "fewer items at once");
                    for at in items {
                        self.items[at].state = State::Wanted(now);
                    }
                } else {
                    for at in items {
                        self.refuse(at, status, cycle);
                    }
                }
                Ok(())
            }
            Pending::Read { items } => {
                if items::is_too_much(status) && items.len() > 1 {
                    self.facts.nodes_per_read = (items.len() / 2).max(1);
                    return Ok(());
                }
                let arrived = self.clock.now();
                for at in items {
                    cycle.samples.push(Sample {
                        status: Some(clean(&status.to_string()).into()),
                        ..Sample::bad(at, items::reason_of(status), arrived)
                    });
                }
                Ok(())
            }
            Pending::History { items } => {
                self.history_refused(&items, status, cycle);
                Ok(())
            }
            Pending::WatchServer => Ok(()),
        }
    }

    fn publish_refused(&mut self, status: StatusCode) -> Result<(), LinkError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        link.outstanding = link.outstanding.saturating_sub(1);
        if status == StatusCode::BadTooManyPublishRequests {
            link.publish_max = link.outstanding.max(1);
            tracing::info!(publish_max = link.publish_max, "the server takes fewer requests for notifications");
            return Ok(());
        }
        link.refusals += 1;
        let gone = [
            StatusCode::BadNoSubscription,
            StatusCode::BadSubscriptionIdInvalid,
            StatusCode::BadSessionIdInvalid,
            StatusCode::BadSessionClosed,
        ];
        if gone.contains(&status) {
            self.held = None;
        } else if link.refusals < REFUSALS_MAX {
            return Ok(());
        }
        Err(link.connection.out_of_step(format!("{status}: it does not send notifications any more")))
    }

    pub(super) fn subscription(&mut self, id: u32) -> Option<&mut super::subscription::Subscription> {
        self.held.as_mut()?.subscriptions.iter_mut().find(|subscription| subscription.id == id)
    }

    fn perform(&mut self, id: u32, steps: Vec<Step>, cycle: &mut Cycle) -> Result<(), LinkError> {
        for step in steps {
            match step {
                Step::Deliver(message) => self.deliver(id, &message, cycle)?,
                Step::Lost(count) => self.lost(id, count, &mut cycle.notices),
                Step::Republish(number) => {
                    let Some(link) = &mut self.link else { return Ok(()) };
                    let request = link.connection.send(|request_header| {
                        RepublishRequest { request_header, subscription_id: id, retransmit_sequence_number: number }
                            .into()
                    })?;
                    link.pending.insert(request, Pending::Republish { subscription: id, number });
                }
            }
        }
        Ok(())
    }

    /// Notifications are gone for good (UA-10).
    pub(super) fn lost(&mut self, id: u32, count: u32, notices: &mut Vec<Notice>) {
        let interval = self.subscription(id).map(|subscription| subscription.interval);
        let message = format!("{} does not have {count} notifications any more", self.devices[0]);
        notices.push(Notice {
            details: vec![
                ("cause", "not_retransmitted".to_owned()),
                ("device", self.devices[0].clone()),
                ("count", count.to_string()),
                ("count_kind", "at_least".to_owned()),
            ],
            ..Notice::new(DATA_LOSS, message)
        });
        let now = self.clock.now();
        for (at, item) in self.items.iter_mut().enumerate().filter(|(_, item)| Some(item.interval) == interval) {
            item.gap = true;
            self.filler.want(at, item.newest, now);
        }
    }

    fn deliver(&mut self, id: u32, message: &NotificationMessage, cycle: &mut Cycle) -> Result<(), LinkError> {
        let arrived = self.clock.now();
        let before = cycle.samples.len();
        let mut outcome = Ok(());
        for part in message.notification_data.iter().flatten() {
            if let Some(changes) = part.inner_as::<DataChangeNotification>() {
                for change in changes.monitored_items.iter().flatten() {
                    let taken = self.take_change(change.client_handle, &change.value, arrived, cycle);
                    outcome = outcome.and(taken);
                }
            } else if let Some(change) = part.inner_as::<StatusChangeNotification>() {
                outcome = outcome.and(self.subscription_changed(id, change.status));
            } else if part.inner_as::<EventNotificationList>().is_none() {
                cycle.discarded.push(discard::DECODE_ERROR);
            }
        }
        self.receipt += 1;
        let bytes = (cycle.samples.len() - before + 1) * size_of::<Sample>();
        self.ledger.owe(self.receipt, id, message.sequence_number, bytes);
        cycle.receipt = Some(self.receipt);
        outcome
    }

    /// UA-13
    fn subscription_changed(&mut self, id: u32, status: StatusCode) -> Result<(), LinkError> {
        if !status.is_bad() {
            return Ok(()); // it was taken over by another session: ours
        }
        if let Some(held) = &mut self.held {
            held.subscriptions.retain(|subscription| subscription.id != id);
        }
        self.ledger.forget(id);
        let what = format!("{status}: it has ended a subscription");
        Err(self.link.as_ref().map_or_else(
            || LinkError::Closed { target: self.devices[0].clone() },
            |link| link.connection.out_of_step(what),
        ))
    }

    fn take_change(
        &mut self,
        handle: u32,
        data: &DataValue,
        arrived: Timestamp,
        cycle: &mut Cycle,
    ) -> Result<(), LinkError> {
        match handle {
            HANDLE_STATE => {
                if let Some(Variant::Int32(state)) = &data.value
                    && self.facts.state != *state
                {
                    tracing::warn!(state = state_name(*state), "the server says how it is");
                    self.facts.state = *state;
                }
                Ok(())
            }
            HANDLE_START => {
                let started = match &data.value {
                    Some(Variant::DateTime(time)) => micros(time),
                    _ => None,
                };
                if started.is_none() || started == self.facts.start_time {
                    return Ok(());
                }
                self.held = None; // another server behind the same session: everything anew (UA-12)
                let Some(link) = &self.link else { return Ok(()) };
                Err(link.connection.out_of_step("it was started anew".to_owned()))
            }
            _ => {
                match usize::try_from(handle).ok().filter(|at| *at < self.items.len()) {
                    Some(at) => self.take_value(at, data, arrived, cycle),
                    None => cycle.discarded.push(discard::UNKNOWN_ITEM),
                }
                Ok(())
            }
        }
    }

    /// A value of a point.
    fn take_value(&mut self, at: usize, data: &DataValue, arrived: Timestamp, cycle: &mut Cycle) {
        let (item, point) = (&mut self.items[at], &self.plan.points[at]);
        let bits = data.status.map_or(0, |status| status.bits());
        let judged = value::judge(bits);
        if judged.waiting {
            let since = *item.waiting.get_or_insert_with(Instant::now);
            self.waiting_from = Some(self.waiting_from.map_or(since, |first| first.min(since)));
            return;
        }
        item.waiting = None;
        if item.polled && data.status().is_bad() {
            item.error = Some(clean(&data.status().to_string()));
        } else if item.polled {
            item.error = None;
        }
        if !item.is_news(point, data) {
            cycle.discarded.push(discard::REPEATED_VALUE);
            return;
        }
        if judged.overflow {
            cycle.notices.push(overflow(&self.devices[0], &point.node.to_string()));
        }
        let (initial, gap) = (std::mem::take(&mut item.initial), std::mem::take(&mut item.gap));
        for (place, mut sample) in value::samples(point, data, arrived) {
            if initial {
                sample.flags = sample.flags.and(Flags::INITIAL);
            }
            sample.gap_before |= gap;
            if self.facts.state != 0 {
                sample.verdict.add(Quality::Uncertain, reason::SERVER_UNCERTAIN);
            }
            if !sample.is_stamped_here() {
                let newest = &mut self.items[at].newest;
                *newest = Some(newest.map_or(sample.device_time, |newest| newest.max(sample.device_time)));
            }
            sample.tag = self.tag(at, place);
            cycle.samples.push(sample);
        }
    }

    /// The tag of a point, or of an element of it, which is learned when it is seen first.
    pub(super) fn tag(&mut self, at: usize, place: Place) -> usize {
        let Place::Element(element) = place else { return at };
        if let Some(tag) = self.elements.get(&(at, element)) {
            return *tag;
        }
        let number = self.tags.len();
        let parameter = format!("{}.{element}", self.tags[at].parameter);
        self.tags.push(Tag { parameter, ..self.tags[at].clone() });
        self.elements.insert((at, element), number);
        number
    }

    fn created(&mut self, items: &[usize], results: &[super::stack::MonitoredItemCreateResult], cycle: &mut Cycle) {
        self.items_dirty = true;
        for (place, at) in items.iter().copied().enumerate() {
            match results.get(place) {
                Some(result) if !result.status_code.is_bad() => {
                    let (item, point) = (&mut self.items[at], &self.plan.points[at]);
                    item.state = State::Watched;
                    item.works();
                    if result.revised_queue_size < point.queue {
                        let (asked, queue) = (point.queue, result.revised_queue_size);
                        tracing::debug!(node = %point.node, asked, queue, "the server revises the queue");
                    }
                }
                Some(result)
                    if items::is_about_filter(result.status_code)
                        && !self.items[at].filters_here
                        && self.plan.points[at].deadband.is_some() =>
                {
                    self.items[at].filters_here = true;
                    self.items[at].state = State::Wanted(Instant::now());
                }
                Some(result) => self.refuse(at, result.status_code, cycle),
                None => self.refuse(at, StatusCode::BadUnexpectedError, cycle),
            }
        }
    }

    /// UA-15: only this point; it is BAD and comes again later.
    fn refuse(&mut self, at: usize, status: StatusCode, cycle: &mut Cycle) {
        let text = clean(&status.to_string());
        self.items[at].refused(text.clone(), Instant::now());
        let sample = Sample::bad(at, items::reason_of(status), self.clock.now());
        cycle.samples.push(Sample { status: Some(format!("{:#010x}", status.bits()).into()), ..sample });
        tracing::warn!(node = %self.plan.points[at].node, status = text, "a point is refused");
    }

    /// What is to be done although nothing came.
    fn tick(&mut self, cycle: &mut Cycle) -> Result<(), LinkError> {
        let now = Instant::now();
        self.tell_waiting(now, cycle);
        self.judge_silence(now)?;
        self.renew(now)?;
        self.create_items(now)?;
        self.read_polled(now)?;
        self.ask_history(now)?;
        self.publish()
    }

    /// UA-25: no first value for too long.
    fn tell_waiting(&mut self, now: Instant, cycle: &mut Cycle) {
        if self.waiting_from.is_none_or(|since| now < since + WAITING_MAX) {
            return;
        }
        let arrived = self.clock.now();
        for (at, item) in self.items.iter_mut().enumerate() {
            if item.waiting.is_some_and(|since| now >= since + WAITING_MAX) {
                item.waiting = None;
                let status = Some("0x80320000".into());
                cycle.samples.push(Sample { status, ..Sample::bad(at, reason::NO_VALUE, arrived) });
            }
        }
        self.waiting_from = self.items.iter().filter_map(|item| item.waiting).min();
    }

    /// UA-10
    fn judge_silence(&mut self, now: Instant) -> Result<(), LinkError> {
        let Some(link) = &self.link else { return Ok(()) };
        let Some(held) = &mut self.held else { return Ok(()) };
        for subscription in &mut held.subscriptions {
            // while nothing is asked for nothing can come
            if link.outstanding == 0 {
                subscription.heard(now);
            }
            if now >= subscription.deadline() {
                return Err(LinkError::Silent { target: link.connection.target().to_owned(), timeouts: 1 });
            }
        }
        Ok(())
    }

    /// UA-07
    fn renew(&mut self, now: Instant) -> Result<(), LinkError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        if now < link.connection.renew_at || link.is_renewing {
            return Ok(());
        }
        link.is_renewing = true;
        link.connection.renew(true)
    }

    fn create_items(&mut self, now: Instant) -> Result<(), LinkError> {
        let Some(held) = &self.held else { return Ok(()) };
        let Some(link) = &mut self.link else { return Ok(()) };
        if !link.watches_server
            && let Some(first) = held.subscriptions.first()
        {
            link.watches_server = true;
            let id = first.id;
            let request = link.connection.send(|request_header| {
                CreateMonitoredItemsRequest {
                    request_header,
                    subscription_id: id,
                    timestamps_to_return: TimestampsToReturn::Both,
                    items_to_create: Some(vec![watch(2259, HANDLE_STATE), watch(2257, HANDLE_START)]),
                }
                .into()
            })?;
            link.pending.insert(request, Pending::WatchServer);
        }
        if self.items_dirty {
            (self.items_due, self.items_dirty) = (items::next_due(&self.items), false);
        }
        if self.items_due.is_none_or(|due| now < due) {
            return Ok(());
        }
        let creating = |link: &Link| link.pending.values().filter(|one| matches!(one, Pending::Create { .. })).count();
        for subscription in &held.subscriptions {
            while creating(link) < CREATING_MAX {
                let limit = self.chunk.min(self.facts.items_per_call);
                let chunk = items::next_chunk(&self.items, subscription.interval, limit, now);
                if chunk.is_empty() {
                    break;
                }
                let mut wanted = Vec::with_capacity(chunk.len());
                for at in chunk.iter().copied() {
                    let item = &mut self.items[at];
                    item.state = State::Asked;
                    let node = item.node.clone().unwrap_or_else(NodeId::null);
                    let handle = u32::try_from(at).unwrap_or(u32::MAX);
                    wanted.push(items::request(&self.plan.points[at], node, handle, item.filters_here));
                }
                let id = subscription.id;
                let request = link.connection.send(|request_header| {
                    CreateMonitoredItemsRequest {
                        request_header,
                        subscription_id: id,
                        timestamps_to_return: TimestampsToReturn::Both,
                        items_to_create: Some(wanted),
                    }
                    .into()
                })?;
                link.pending.insert(request, Pending::Create { items: chunk });
            }
        }
        let is_full = creating(link) >= CREATING_MAX;
        // while as many are on their way as may be, an answer is what is waited for
        self.items_due = items::next_due(&self.items).filter(|due| !is_full && *due > now);
        Ok(())
    }

    /// Reads what is not watched, each rhythm once at a time (UA-15).
    fn read_polled(&mut self, now: Instant) -> Result<(), LinkError> {
        let Some(link) = self.link.as_mut().filter(|_| self.has_polled) else { return Ok(()) };
        for (interval, due) in self.reads.iter_mut().enumerate() {
            if now < *due {
                continue;
            }
            let period = Duration::from_millis(u64::from(self.intervals[interval]));
            *due = now + period;
            let of_this = |item: &Item| item.interval == interval && item.polled && item.node.is_some();
            let is_reading = link.pending.values().any(|pending| match pending {
                Pending::Read { items } => items.first().is_some_and(|at| self.items[*at].interval == interval),
                _ => false,
            });
            if is_reading {
                continue;
            }
            let due: Vec<usize> =
                self.items.iter().enumerate().filter(|(_, item)| of_this(item)).map(|(at, _)| at).collect();
            for chunk in due.chunks(self.facts.nodes_per_read.max(1)) {
                let node = |at: &usize| self.items[*at].node.clone().unwrap_or_else(NodeId::null);
                let nodes = chunk.iter().map(|at| super::session::value_of(&node(at))).collect();
                let request = link.connection.send(|request_header| {
                    ReadRequest {
                        request_header,
                        max_age: 0.0,
                        timestamps_to_return: TimestampsToReturn::Both,
                        nodes_to_read: Some(nodes),
                    }
                    .into()
                })?;
                link.pending.insert(request, Pending::Read { items: chunk.to_vec() });
            }
        }
        Ok(())
    }

    /// Keeps as many requests for notifications at the server as it takes, while there is room for what they bring (UA-08).
    fn publish(&mut self) -> Result<(), LinkError> {
        let Some(held) = &self.held else { return Ok(()) };
        let Some(link) = &mut self.link else { return Ok(()) };
        let wanted = (held.subscriptions.len() * 2).min(link.publish_max);
        while link.outstanding < wanted && self.ledger.has_room() {
            let due = self.ledger.take_due();
            let subscription_acknowledgements = (!due.is_empty()).then_some(due);
            let request = link
                .connection
                .send(|request_header| PublishRequest { request_header, subscription_acknowledgements }.into())?;
            link.pending.insert(request, Pending::Publish);
            link.outstanding += 1;
        }
        Ok(())
    }

    /// When [`Self::tick`] has something to do.
    fn timer(&self) -> Option<Instant> {
        let link = self.link.as_ref()?;
        let silent = self.held.iter().flat_map(|held| &held.subscriptions).map(|one| one.deadline());
        let waiting = self.waiting_from.map(|since| since + WAITING_MAX);
        let reads = self.reads.iter().copied().filter(|_| self.has_polled);
        let renew = (!link.is_renewing).then_some(link.connection.renew_at);
        let due = self.items_due;
        silent.chain(waiting).chain(reads).chain(renew).chain(due).chain(self.filler.next()).min()
    }

    /// Whoever changed them outside says so.
    pub(super) fn items_changed(&mut self) {
        self.items_dirty = true;
        self.has_polled = self.items.iter().any(|item| item.polled);
    }

    fn lose(&mut self) {
        self.link = None;
        self.items_dirty = true;
        let now = Instant::now();
        for item in &mut self.items {
            if item.state == State::Asked {
                item.state = State::Wanted(now);
            }
        }
        self.filler.interrupted();
    }
}

impl Adapter for OpcUaAdapter {
    const FULL_JITTER: bool = true;

    fn tags(&self) -> &[Tag] {
        &self.tags
    }

    fn groups(&self) -> &[Group] {
        &[]
    }

    fn devices(&self) -> &[String] {
        &self.devices
    }

    async fn connect(&mut self) -> Result<(), LinkError> {
        self.lose();
        self.come_back().await
    }

    async fn poll(&mut self, _group: usize, _cycle: &mut Cycle) -> Result<(), LinkError> {
        Ok(()) // there are no groups: what is polled has its own rhythm
    }

    async fn hear(&mut self, cycle: &mut Cycle) -> Result<(), LinkError> {
        loop {
            let outcome = self.take_in(cycle).and_then(|()| self.tick(cycle));
            if let Err(error) = outcome {
                self.lose();
                return Err(error);
            }
            if !cycle.is_empty() {
                return Ok(());
            }
            let timer = self.timer();
            let Some(link) = &mut self.link else { return std::future::pending().await };
            let proceeded = tokio::select! { // cancel-safe: `proceed` is, the other only waits
                proceeded = link.connection.proceed() => proceeded,
                () = until(timer) => continue,
            };
            if let Err(error) = proceeded {
                self.lose();
                return Err(error);
            }
        }
    }

    fn settle(&mut self, upto: Receipt) {
        self.ledger.settle(upto);
    }

    async fn close(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        let deadline = Instant::now() + Duration::from_millis(500);
        let mut asker = Asker { connection: &mut link.connection, deadline };
        if asker.close().await.is_err() {
            tracing::debug!("the server did not say goodbye");
        }
        link.connection.finish().await;
    }

    fn complaint(&self) -> Option<String> {
        let failed = self.items.iter().enumerate().filter(|(_, item)| item.error.is_some());
        let mut failed = failed.map(|(at, item)| (at, item.error.as_deref().unwrap_or_default()));
        if let Some((at, why)) = failed.next() {
            let (count, all) = (1 + failed.count(), self.items.len());
            let node = &self.plan.points[at].node;
            return Some(format!("has {count} of {all} points that cannot be read, the first {node}: {why}"));
        }
        (self.facts.state != 0).then(|| format!("says it is {}", state_name(self.facts.state)))
    }

    fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn link_reason(&self) -> Option<&'static str> {
        self.link_reason
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.plan.connection.policy == SecurityPolicy::None {
            notes.push("not secure: everything can be read and changed on the way (security_policy: None)".to_owned());
        }
        if self.plan.connection.dev_mode {
            notes.push("not secure: every certificate is trusted (dev_mode)".to_owned());
        }
        for (whose, days) in &self.expiring {
            notes.push(match days {
                ..0 => format!("{whose} certificate has expired"),
                days => format!("{whose} certificate ends in {days} days"),
            });
        }
        let filtered = self.items.iter().filter(|item| item.filters_here).count();
        if filtered > 0 {
            notes.push(format!("the server does no deadband for {filtered} points; it is done here"));
        }
        if self.cannot_subscribe {
            notes.push("the server has no subscriptions; points are read instead".to_owned());
        }
        if let Some(level) = self.facts.service_level {
            notes.push(format!("service level {level}"));
        }
        notes
    }
}

pub(super) async fn until(timer: Option<Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A variable of the server itself.
fn watch(node: u32, handle: u32) -> super::stack::MonitoredItemCreateRequest {
    super::stack::MonitoredItemCreateRequest {
        item_to_monitor: super::session::value_of(&NodeId::new(0, node)),
        monitoring_mode: MonitoringMode::Reporting,
        requested_parameters: MonitoringParameters {
            client_handle: handle,
            sampling_interval: -1.0,
            queue_size: 2,
            discard_oldest: true,
            ..Default::default()
        },
    }
}

/// UA-17: the server's queue was too short.
fn overflow(device: &str, node: &str) -> Notice {
    let message = format!("{device} threw values of {node:.200} away: its queue was full");
    Notice {
        details: vec![
            ("cause", "queue_overflow".to_owned()),
            ("device", device.to_owned()),
            ("node", node.chars().take(200).collect()),
            ("count", "1".to_owned()),
            ("count_kind", "at_least".to_owned()),
        ],
        ..Notice::new(DATA_LOSS, message)
    }
}
