//! What came from the server: notifications, values, answers and refusals, each put where it belongs.

use model::{Quality, Timestamp, reason};
use tokio::time::Instant;

use super::adapter::{OpcUaAdapter, Pending};
use super::chores::{HANDLE_START, HANDLE_STATE};
use super::items::{self, State};
use super::session::{republished, state_name};
use super::stack::{
    DataChangeNotification, DataValue, EventNotificationList, Incoming, MonitoredItemCreateResult, NotificationMessage,
    RepublishRequest, ResponseMessage, StatusChangeNotification, StatusCode, Variant, clean, micros,
};
use super::subscription::{Step, Subscription};
use super::value::{self, Place};
use crate::adapter::{LinkError, Tag};
use crate::notice::{DATA_LOSS, Notice};
use crate::sample::{Cycle, Flags, Sample};

/// Messages taken into one cycle.
const MESSAGES_MAX: usize = 32;
/// Samples of one cycle after which it is handed over.
const SAMPLES_MAX: usize = 10_000;
/// Refusals of a request for notifications in a row after which the session is of no use.
const REFUSALS_MAX: u32 = 5;

/// Names under which repeated or unreadable input is counted.
pub mod discard {
    /// Said before: value, status and source time are the same.
    pub const REPEATED_VALUE: &str = "REPEATED_VALUE";
    /// Of an item that is not ours.
    pub const UNKNOWN_ITEM: &str = "UNKNOWN_ITEM";
    /// An event told before: by another notifier, or by a refresh.
    pub const REPEATED_EVENT: &str = "REPEATED_EVENT";
    /// An event that the settings do not ask for, from a server that does not filter.
    pub const UNWANTED_EVENT: &str = "UNWANTED_EVENT";
    /// An answer, or a part of one, that cannot be read.
    pub const DECODE_ERROR: &str = model::reason::DECODE_ERROR;
}

impl OpcUaAdapter {
    /// Everything that is here. An error after it stands too.
    pub(super) fn take_in(&mut self, cycle: &mut Cycle) -> Result<(), LinkError> {
        cycle.samples.append(&mut self.stash_samples);
        cycle.notices.append(&mut self.notices);
        while let Some((subscription, message)) = self.stash.pop_front() {
            self.deliver(subscription, &message, cycle)?;
        }
        for _ in 0..MESSAGES_MAX {
            if cycle.samples.len() + cycle.notices.len() >= SAMPLES_MAX {
                return Ok(());
            }
            let Some(link) = &mut self.link else { return Ok(()) };
            match link.connection.next_message()? {
                None => return Ok(()),
                Some(Incoming::Opened { renew_after }) => {
                    link.connection.renew_at = Instant::now() + renew_after;
                    link.is_renewing = false;
                }
                Some(Incoming::Response { request, message }) => match link.pending.remove(&request) {
                    Some(asked) => self.answer(asked.what, message, cycle)?,
                    None => tracing::debug!(message = message.type_name(), "an answer to nothing we asked"),
                },
                Some(Incoming::Undecodable { request, why }) => {
                    cycle.discarded.push(discard::DECODE_ERROR);
                    tracing::warn!(why, "an answer of the server cannot be read");
                    if let Some(asked) = link.pending.remove(&request) {
                        self.unanswered(asked.what, StatusCode::BadDecodingError, cycle)?;
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
            (Pending::CreateEvents { sources }, ResponseMessage::CreateMonitoredItems(answer)) => {
                self.event_items_created(&sources, &answer.results.unwrap_or_default(), cycle);
                Ok(())
            }
            (Pending::Refresh { interval }, ResponseMessage::Call(answer)) => {
                let result = answer.results.unwrap_or_default().first().map(|result| result.status_code);
                self.refresh_answered(interval, result.unwrap_or(StatusCode::BadUnexpectedError));
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
                    // of several on their way a larger one may be refused last
                    self.chunk = self.chunk.min((items.len() / 2).max(1));
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
            Pending::CreateEvents { sources } => {
                for at in sources {
                    self.refuse_event_item(at, status);
                }
                Ok(())
            }
            Pending::Refresh { interval } => {
                self.refresh_answered(interval, status);
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

    pub(super) fn subscription(&mut self, id: u32) -> Option<&mut Subscription> {
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
                    link.expect(request, Pending::Republish { subscription: id, number });
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
        if let Some(interval) = interval {
            self.events_lost(interval);
        }
    }

    fn deliver(&mut self, id: u32, message: &NotificationMessage, cycle: &mut Cycle) -> Result<(), LinkError> {
        let arrived = self.clock.now();
        let (before, told_before) = (cycle.samples.len(), cycle.notices.len());
        let mut outcome = Ok(());
        for part in message.notification_data.iter().flatten() {
            if let Some(changes) = part.inner_as::<DataChangeNotification>() {
                for change in changes.monitored_items.iter().flatten() {
                    let taken = self.take_change(change.client_handle, &change.value, arrived, cycle);
                    outcome = outcome.and(taken);
                }
            } else if let Some(change) = part.inner_as::<StatusChangeNotification>() {
                outcome = outcome.and(self.subscription_changed(id, change.status));
            } else if let Some(list) = part.inner_as::<EventNotificationList>() {
                for event in list.events.iter().flatten() {
                    let fields = event.event_fields.as_deref().unwrap_or_default();
                    self.take_event(event.client_handle, fields, arrived, cycle);
                }
            } else {
                cycle.discarded.push(discard::DECODE_ERROR);
            }
        }
        self.receipt += 1;
        let told: usize = cycle.notices[told_before..].iter().map(Notice::bytes).sum();
        let bytes = (cycle.samples.len() - before + 1) * size_of::<Sample>() + told;
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
            cycle.notices.push(overflow(&self.devices[0], &point.node.to_string(), ("values", "")));
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

    fn created(&mut self, items: &[usize], results: &[MonitoredItemCreateResult], cycle: &mut Cycle) {
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
}

/// UA-17: the queue the server keeps for a node was too short; `what` is what it threw away, and what follows of that.
pub(super) fn overflow(device: &str, node: &str, what: (&str, &str)) -> Notice {
    let (lost, then) = what;
    let message = format!("{device} threw {lost} of {node:.200} away: its queue was full{then}");
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
