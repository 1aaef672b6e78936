//! Where events meet the adapter: items are made, notifications taken, the server asked to tell everything again.
//!
//! What is decided is decided in the pure files beside this one; here it is carried out.

use model::Timestamp;
use tokio::time::Instant;

use super::condition::Outcome;
use super::filter::{Fields, Level, filter, is_refused};
use super::record::{self, Speaker};
use super::report::{self, Around, Kind, Report};
use crate::adapter::LinkError;
use crate::notice::{Notice, SOURCE_GAP};
use crate::opcua::adapter::{OpcUaAdapter, Pending};
use crate::opcua::intake::{discard, overflow};
use crate::opcua::items::State;
use crate::opcua::stack::{
    AttributeId, CallMethodRequest, CallRequest, CreateMonitoredItemsRequest, ExtensionObject, MethodId,
    MonitoredItemCreateRequest, MonitoredItemCreateResult, MonitoringMode, MonitoringParameters, NodeId, ObjectTypeId,
    ReadValueId, StatusCode, TimestampsToReturn, Variant, clean,
};
use crate::sample::Cycle;

/// Handles of event items begin here; those of points lie below, those of the server's own variables above.
const HANDLE_EVENTS: u32 = 0x8000_0000;
/// Waits before a refused source is asked for again, in seconds: doubling up to the longest (UA-15).
const RETRY_MIN_S: u64 = 60;
const RETRY_MAX_S: u64 = 600;

impl OpcUaAdapter {
    /// The connection is gone.
    pub(in crate::opcua) fn lose_events(&mut self, now: Instant) {
        for item in &mut self.events.items {
            if item.state == State::Asked {
                item.state = State::Wanted(now);
            }
        }
    }

    /// Where the sources are in this session.
    pub(in crate::opcua) fn place_event_items(&mut self, namespaces: &[String], now: Instant) {
        for (item, source) in self.events.items.iter_mut().zip(&self.plan.events) {
            item.node = source.node.resolve(namespaces);
            if item.node.is_none() {
                item.error = Some(format!("the server has no namespace {}", source.node.namespace));
                item.state = State::Homeless;
            } else if item.state == State::Homeless {
                (item.state, item.error) = (State::Wanted(now), None);
            }
        }
    }

    /// The subscription of this interval is a new one: what was watched is to be made anew.
    pub(in crate::opcua) fn want_event_items(&mut self, interval: usize, now: Instant) {
        for (at, (item, source)) in self.events.items.iter_mut().zip(&self.plan.events).enumerate() {
            if item.interval != interval || item.state == State::Homeless {
                continue;
            }
            self.events.conditions.refresh_torn(at);
            if std::mem::take(&mut item.was_watched) {
                self.notices.push(missed(&self.devices[0], &source.node.to_string()));
            }
            // a server that was started anew may take more of a filter than before
            item.filter = Level::Full;
            item.state = State::Wanted(now);
        }
    }

    /// A session: whatever happened before it, the server shall tell what it has now (UA-28).
    pub(in crate::opcua) fn events_connected(&mut self) {
        self.events.refresher.reconnected();
        let watched = self.events.items.iter().filter(|item| item.state == State::Watched);
        let intervals: Vec<usize> = watched.map(|item| item.interval).collect();
        for interval in intervals {
            self.want_refresh(interval);
        }
    }

    /// Notifications of this subscription are lost: what a refresh told so far may not be everything.
    pub(in crate::opcua) fn events_lost(&mut self, interval: usize) {
        for (at, item) in self.events.items.iter().enumerate() {
            if item.interval == interval {
                self.events.conditions.refresh_torn(at);
            }
        }
        self.want_refresh(interval);
    }

    /// Conditions of this subscription may have changed without a word.
    pub(in crate::opcua) fn want_refresh(&mut self, interval: usize) {
        let mut of_interval = self.events.items.iter().zip(&self.plan.events);
        if of_interval.any(|(item, source)| item.interval == interval && source.alarms && item.state == State::Watched)
        {
            self.events.refresher.want(interval, Instant::now());
        }
    }

    /// When there is something to do about events.
    pub(in crate::opcua) fn events_due(&self) -> Option<Instant> {
        let wanted = self.events.items.iter().filter_map(|item| match item.state {
            State::Wanted(due) if item.node.is_some() && !self.cannot_subscribe => Some(due),
            _ => None,
        });
        wanted.chain(self.events.refresher.next()).min()
    }

    pub(in crate::opcua) fn create_event_items(&mut self, now: Instant) -> Result<(), LinkError> {
        let Some(held) = &self.held else { return Ok(()) };
        let Some(link) = &mut self.link else { return Ok(()) };
        for subscription in &held.subscriptions {
            let is_due = |item: &super::EventItem| {
                let due = matches!(item.state, State::Wanted(due) if due <= now);
                due && item.node.is_some() && item.interval == subscription.interval
            };
            let due: Vec<usize> =
                self.events.items.iter().enumerate().filter(|(_, item)| is_due(item)).map(|(at, _)| at).collect();
            if due.is_empty() {
                continue;
            }
            let mut wanted = Vec::with_capacity(due.len());
            for at in due.iter().copied() {
                let (item, source) = (&mut self.events.items[at], &self.plan.events[at]);
                item.state = State::Asked;
                let asked = filter(source, item.filter, &self.facts.namespaces);
                wanted.push(MonitoredItemCreateRequest {
                    item_to_monitor: ReadValueId {
                        node_id: item.node.clone().unwrap_or_else(NodeId::null),
                        attribute_id: AttributeId::EventNotifier as u32,
                        ..Default::default()
                    },
                    monitoring_mode: MonitoringMode::Reporting,
                    requested_parameters: MonitoringParameters {
                        client_handle: HANDLE_EVENTS + u32::try_from(at).unwrap_or_default(),
                        sampling_interval: 0.0,
                        filter: ExtensionObject::from_message(asked),
                        queue_size: source.queue,
                        discard_oldest: true,
                    },
                });
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
            link.expect(request, Pending::CreateEvents { sources: due });
        }
        Ok(())
    }

    pub(in crate::opcua) fn event_items_created(
        &mut self,
        sources: &[usize],
        results: &[MonitoredItemCreateResult],
        cycle: &mut Cycle,
    ) {
        cycle.notices.append(&mut self.notices);
        for (place, at) in sources.iter().copied().enumerate() {
            let status = results.get(place).map_or(StatusCode::BadUnexpectedError, |result| result.status_code);
            if status.is_bad() {
                self.refuse_event_item(at, status);
                continue;
            }
            let item = &mut self.events.items[at];
            (item.state, item.error, item.tries, item.was_watched) = (State::Watched, None, 0, true);
            let interval = item.interval;
            self.want_refresh(interval);
        }
    }

    pub(in crate::opcua) fn refuse_event_item(&mut self, at: usize, status: StatusCode) {
        let (item, source) = (&mut self.events.items[at], &self.plan.events[at]);
        let now = Instant::now();
        if is_refused(status)
            && let Some(level) = item.filter.next()
        {
            tracing::info!(node = %source.node, status = %status, ?level, "the server takes less of the filter");
            (item.filter, item.state) = (level, State::Wanted(now));
            return;
        }
        let wait = RETRY_MIN_S.saturating_mul(1 << item.tries.min(8)).min(RETRY_MAX_S);
        item.tries += 1;
        item.state = State::Wanted(now + std::time::Duration::from_secs(wait));
        item.error = Some(clean(&status.to_string()));
        tracing::warn!(node = %source.node, status = %status, retry_in_s = wait, "events cannot be heard");
    }

    /// The only method that is ever called (G-01, UA-28): it makes the server tell its conditions, and changes nothing.
    pub(in crate::opcua) fn refresh_conditions(&mut self, now: Instant) -> Result<(), LinkError> {
        let Some(held) = &self.held else { return Ok(()) };
        let Some(link) = &mut self.link else { return Ok(()) };
        while let Some(interval) = self.events.refresher.take(now) {
            let Some(subscription) = held.subscriptions.iter().find(|one| one.interval == interval) else {
                continue;
            };
            let method = CallMethodRequest {
                object_id: ObjectTypeId::ConditionType.into(),
                method_id: MethodId::ConditionType_ConditionRefresh.into(),
                input_arguments: Some(vec![Variant::UInt32(subscription.id)]),
            };
            let request = link
                .connection
                .send(|request_header| CallRequest { request_header, methods_to_call: Some(vec![method]) }.into())?;
            link.expect(request, Pending::Refresh { interval });
        }
        Ok(())
    }

    pub(in crate::opcua) fn refresh_answered(&mut self, interval: usize, status: StatusCode) {
        if status.is_bad() {
            tracing::warn!(status = %status, "the server does not tell its conditions again");
        }
        self.events.refresher.answered(interval, status, Instant::now());
    }

    /// One event of a notification.
    pub(in crate::opcua) fn take_event(
        &mut self,
        handle: u32,
        fields: &[Variant],
        arrived: Timestamp,
        cycle: &mut Cycle,
    ) {
        let place = handle.checked_sub(HANDLE_EVENTS).and_then(|at| usize::try_from(at).ok());
        let Some(at) = place.filter(|at| *at < self.events.items.len()) else {
            cycle.discarded.push(discard::UNKNOWN_ITEM);
            return;
        };
        let item = &self.events.items[at];
        let (level, interval) = (item.filter, item.interval);
        let around = Around { namespaces: &self.facts.namespaces, server_uri: &self.events.server_uri, arrived };
        let report = report::read(Fields::new(fields, level), &self.plan.events[at], around);
        match report.kind {
            Kind::Plain => self.take_plain(at, &report, cycle),
            Kind::RefreshStart => {
                let at_server = report.when.finding.is_none().then_some(report.when.time);
                self.events.conditions.refresh_started(at, at_server, Instant::now());
            }
            Kind::RefreshEnd => self.end_refresh(at, &report, arrived, cycle),
            Kind::RefreshRequired => self.want_refresh(interval),
            Kind::Overflow => {
                cycle.notices.push(overflow(
                    &self.devices[0],
                    &self.plan.events[at].node.to_string(),
                    ("events", "; its conditions are asked for again"),
                ));
                self.events.conditions.refresh_torn(at);
                if self.plan.events[at].alarms {
                    self.events.refresher.overflowed(interval, Instant::now());
                }
            }
        }
    }

    fn take_plain(&mut self, at: usize, report: &Report, cycle: &mut Cycle) {
        let source = &self.plan.events[at];
        let speaker = Speaker { source, device: &self.devices[0], server_uri: &self.events.server_uri };
        let condition = report.condition.as_ref().filter(|_| source.alarms);
        let holds = condition.is_some_and(|condition| self.events.conditions.holds(condition));
        if report.severity < source.min_severity && !holds {
            cycle.discarded.push(discard::UNWANTED_EVENT);
            return;
        }
        let Some(condition) = condition else {
            if self.events.recent.is_news(&report.event_id) {
                cycle.notices.push(record::plain(speaker, report));
            } else {
                cycle.discarded.push(discard::REPEATED_EVENT);
            }
            return;
        };
        match self.events.conditions.take(at, report, condition, Instant::now()) {
            Outcome::Repeated => cycle.discarded.push(discard::REPEATED_EVENT),
            Outcome::News(news) => cycle.notices.push(record::state(speaker, report, condition, news)),
        }
    }

    fn end_refresh(&mut self, at: usize, end: &Report, arrived: Timestamp, cycle: &mut Cycle) {
        let source = &self.plan.events[at];
        let Some(refreshed) = self.events.conditions.refresh_ended(at, Instant::now()).filter(|_| source.alarms) else {
            return;
        };
        self.events.refresher.ended(self.events.items[at].interval);
        let speaker = Speaker { source, device: &self.devices[0], server_uri: &self.events.server_uri };
        for (about, news) in &refreshed.ended {
            if let Some(condition) = &about.condition {
                cycle.notices.push(record::ended(speaker, about, condition, *news, arrived));
            }
        }
        tracing::info!(
            node = %source.node,
            conditions = refreshed.held,
            ended = refreshed.ended.len(),
            whole = refreshed.whole,
            "the server has told its conditions"
        );
        cycle.notices.push(record::refreshed(speaker, end, &refreshed));
    }

    /// What keeps events from being heard.
    pub(in crate::opcua) fn event_complaint(&self) -> Option<String> {
        let failed = self.events.items.iter().zip(&self.plan.events);
        let mut failed = failed.filter_map(|(item, source)| Some((source, item.error.as_deref()?)));
        if let Some((source, why)) = failed.next() {
            let (count, all) = (1 + failed.count(), self.events.items.len());
            let node = &source.node;
            return Some(format!("has {count} of {all} event sources that cannot be heard, the first {node}: {why}"));
        }
        let deaf = self.cannot_subscribe && !self.events.items.is_empty();
        deaf.then(|| "has no subscriptions, so its events and conditions cannot be heard".to_owned())
    }

    /// What a person should know about events although all is well.
    pub(in crate::opcua) fn event_notes(&self, notes: &mut Vec<String>) {
        let level = |level| self.events.items.iter().filter(|item| item.filter == level).count();
        if level(Level::AllEvents) > 0 {
            notes.push(
                "the server filters no events: all come, and event types of the settings are not told apart".to_owned(),
            );
        }
        if level(Level::BaseFields) > 0 {
            notes.push("the server knows no conditions: its events have no states and become no alarms".to_owned());
        }
        if let Some(why) = &self.events.refresher.refused {
            notes.push(format!(
                "the server does not tell its conditions again ({why}): after a gap an alarm may stand that is over"
            ));
        }
        if self.events.conditions.len() >= super::condition::CONDITIONS_MAX {
            notes.push(format!("the server has more than {} conditions", super::condition::CONDITIONS_MAX));
        }
    }
}

/// Nobody listened between two subscriptions.
fn missed(device: &str, node: &str) -> Notice {
    let message = format!("events of {node:.200} may be missing: {device} did not keep the subscription");
    Notice {
        details: vec![
            ("cause", "subscription_gone".to_owned()),
            ("device", device.to_owned()),
            ("node", node.chars().take(200).collect()),
        ],
        ..Notice::new(SOURCE_GAP, message)
    }
}
