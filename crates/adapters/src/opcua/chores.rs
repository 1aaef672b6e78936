//! What is to be done although nothing came: asking for items, reading, acknowledging, judging silence.

use std::time::Duration;

use model::reason;
use tokio::time::Instant;

use super::adapter::{Link, OpcUaAdapter, Pending};
use super::items::{self, Item, State, WAITING_MAX};
use super::session::value_of;
use super::stack::{
    CreateMonitoredItemsRequest, MonitoredItemCreateRequest, MonitoringMode, MonitoringParameters, NodeId,
    PublishRequest, ReadRequest, TimestampsToReturn,
};
use super::subscription::{SILENCES_OF_SESSION, Subscription};
use crate::adapter::LinkError;
use crate::sample::{Cycle, Sample};

/// Requests for items on their way at once.
const CREATING_MAX: usize = 4;
/// Handles of what is watched of the server itself.
pub(super) const HANDLE_STATE: u32 = u32::MAX - 1;
pub(super) const HANDLE_START: u32 = u32::MAX - 2;

impl OpcUaAdapter {
    /// What is to be done although nothing came.
    pub(super) fn tick(&mut self, cycle: &mut Cycle) -> Result<(), LinkError> {
        let now = Instant::now();
        self.tell_waiting(now, cycle);
        self.judge_silence(now)?;
        self.renew(now)?;
        self.create_items(now)?;
        self.create_event_items(now)?;
        self.refresh_conditions(now)?;
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
        let silent = || LinkError::Silent { target: link.connection.target().to_owned(), timeouts: 1 };
        if link.answer_due().is_some_and(|due| now >= due) {
            return Err(silent());
        }
        let Some(held) = &mut self.held else { return Ok(()) };
        let (mut is_silent, mut silences) = (false, 0);
        for subscription in &mut held.subscriptions {
            // while nothing is asked for nothing can come
            if link.outstanding == 0 {
                subscription.heard(now);
            }
            if now >= subscription.deadline() {
                subscription.silences += 1;
                (is_silent, silences) = (true, subscription.silences.max(silences));
            }
        }
        if silences >= SILENCES_OF_SESSION {
            held.token = NodeId::null(); // the next attempt begins a new session, which takes over what is still there
        }
        if is_silent { Err(silent()) } else { Ok(()) }
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
            link.expect(request, Pending::WatchServer);
        }
        if self.items_dirty {
            (self.items_due, self.items_dirty) = (items::next_due(&self.items), false);
        }
        if self.items_due.is_none_or(|due| now < due) {
            return Ok(());
        }
        let creating =
            |link: &Link| link.pending.values().filter(|asked| matches!(asked.what, Pending::Create { .. })).count();
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
                link.expect(request, Pending::Create { items: chunk });
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
            let is_reading = link.pending.values().any(|asked| match &asked.what {
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
                let nodes = chunk.iter().map(|at| value_of(&node(at))).collect();
                let request = link.connection.send(|request_header| {
                    ReadRequest {
                        request_header,
                        max_age: 0.0,
                        timestamps_to_return: TimestampsToReturn::Both,
                        nodes_to_read: Some(nodes),
                    }
                    .into()
                })?;
                link.expect(request, Pending::Read { items: chunk.to_vec() });
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
            link.expect(request, Pending::Publish);
            link.outstanding += 1;
        }
        Ok(())
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn timer(&self) -> Option<Instant> {
        let link = self.link.as_ref()?;
        let silent = self.held.iter().flat_map(|held| &held.subscriptions).map(Subscription::deadline);
        let waiting = self.waiting_from.map(|since| since + WAITING_MAX);
        let reads = self.reads.iter().copied().filter(|_| self.has_polled);
        let renew = (!link.is_renewing).then_some(link.connection.renew_at);
        let due = self.items_due;
        silent
            .chain(waiting)
            .chain(reads)
            .chain(renew)
            .chain(due)
            .chain(self.events_due())
            .chain(self.filler.next())
            .chain(link.answer_due())
            .min()
    }
}

/// A variable of the server itself.
fn watch(node: u32, handle: u32) -> MonitoredItemCreateRequest {
    MonitoredItemCreateRequest {
        item_to_monitor: value_of(&NodeId::new(0, node)),
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
