//! The outboxes: which message goes next to a destination, and what becomes of it (RTE-03, RTE-08, RTE-09).
//!
//! Invariants:
//! - One message per destination is on its way; a destination that fails holds up nobody but itself.
//! - Messages of one occurrence keep their order; CRITICAL calls go first otherwise.
//! - A message leaves the outbox when it was delivered, became part of another one, or is written down as a [`Letter`].

use std::collections::BTreeSet;
use std::time::Duration;

use daemon::breaker::State as BreakerState;
use model::Severity;

use super::lane::{Trouble, backoff_ms};
use super::notice::Transition;
use super::router::{Now, Router, delivery_id, digest};
use super::state::{Bundle, Content, Item, Kind, Letter, Summary};

/// A receiver that asks for more patience than this is asked again sooner.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// A message on its way.
#[derive(Debug, Clone)]
pub struct Job {
    /// Index in the plan.
    pub destination: usize,
    pub key: String,
    pub item: Item,
}

/// What the receiver said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// May work later.
    Later {
        reason: String,
        /// How long the receiver asked to wait; it lives, so this is no failure of the destination.
        after: Option<Duration>,
    },
    /// Will never work.
    Refused {
        reason: String,
    },
}

/// How a destination does, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub name: String,
    pub channel: &'static str,
    pub waiting: usize,
    pub bundled: u32,
    pub delivered: u64,
    pub breaker: &'static str,
    pub trouble: Option<Trouble>,
    /// Why the newest message was given up that nobody got.
    pub given_up: Option<String>,
}

impl Router {
    /// The next message for a destination, if one may go now. The caller sends it and says [`Router::finished`].
    pub fn next(&mut self, destination: usize, now: Now) -> Option<Job> {
        if !self.lanes[destination].is_free(now.steady_ms) {
            return None;
        }
        let name = self.plan.destinations[destination].name.clone();
        let old: Vec<String> =
            self.state.items.with_prefix(&format!("{name}/")).map(|(key, _)| key.to_owned()).collect();
        for key in old {
            if self.fold_when_old(&name, &key, now) {
                self.lanes[destination].retries.remove(&key);
            }
        }
        let key = self.choose(destination, &name, now)?;
        self.refresh(&key);
        let item = self.state.items.get(&key)?.clone();
        self.lanes[destination].flying = Some(key.clone());
        Some(Job { destination, key, item })
    }

    fn choose(&self, destination: usize, name: &str, now: Now) -> Option<String> {
        let retries = &self.lanes[destination].retries;
        // old news wait for the rest of them
        let more_to_come = self.state.bundles.contains(&format!("{name}/outage"));
        let mut subjects = BTreeSet::new();
        let mut first = None;
        for (key, item) in self.state.items.with_prefix(&format!("{name}/")) {
            let is_next = item.subject().is_none_or(|subject| subjects.insert(subject));
            let waits = more_to_come && item.is_outage();
            if !is_next || waits || retries.get(key).is_some_and(|due| now.steady_ms < *due) {
                continue;
            }
            if item.urgent {
                return Some(key.to_owned());
            }
            first = first.or_else(|| Some(key.to_owned()));
        }
        first
    }

    /// A message that waited too long becomes part of the old news; true when it did.
    fn fold_when_old(&mut self, name: &str, key: &str, now: Now) -> bool {
        let wall = now.wall.as_micros();
        let keeps_incidents = self.plan.destinations.iter().any(|to| to.name == name && to.channel.keeps_incidents());
        let Some(item) = self.state.items.get(key) else { return false };
        let Content::Alarm { notice, transition, .. } = &item.content else { return false };
        let is_end_of_incident = keeps_incidents && !transition.is_call();
        if item.individual || is_end_of_incident || wall - item.at <= self.plan.old_after {
            return false;
        }
        let (notice, transition, route, since) = (notice.clone(), *transition, item.route.clone(), item.created_at);
        // what is known of the alarm now, not when the message was made
        let newest = self.state.alarms.get(&notice.key).filter(|newest| newest.occurrence == notice.occurrence);
        let newest =
            newest.cloned().unwrap_or_else(|| super::notice::Notice { state: "CLEARED".to_owned(), ..*notice });
        self.state.items.remove(key);
        self.old_news(name, route.as_deref(), &newest, transition, since, wall);
        true
    }

    /// Brings the number of standing alarms up to date before a summary goes.
    fn refresh(&mut self, key: &str) {
        let alarms = &self.state.alarms;
        let stands = |occurrence: &str, alarm: &str| {
            alarms.get(alarm).is_some_and(|notice| notice.occurrence == occurrence && notice.is_standing())
        };
        let Some(Content::Summary(summary)) = self.state.items.get(key).map(|item| &item.content) else { return };
        let gone: Vec<String> = summary
            .standing
            .iter()
            .filter(|(occurrence, alarm)| !stands(occurrence, alarm))
            .map(|(occurrence, _)| occurrence.clone())
            .collect();
        if gone.is_empty() {
            return;
        }
        if let Some(Content::Summary(summary)) = self.state.items.get_mut(key).map(|item| &mut item.content) {
            summary.standing.retain(|occurrence, _| !gone.contains(occurrence));
        }
    }

    /// What became of a message.
    pub fn finished(&mut self, job: &Job, outcome: Outcome, now: Now) {
        let destination = job.destination;
        let pace = u64::try_from(self.plan.destinations[destination].channel.pace() / 1000).unwrap_or_default();
        let lane = &mut self.lanes[destination];
        lane.flying = None;
        match outcome {
            Outcome::Delivered => {
                lane.breaker.success();
                lane.trouble = None;
                lane.delivered += 1;
                lane.earliest_ms = lane.earliest_ms.max(now.steady_ms + pace);
                lane.retries.remove(&job.key);
                self.state.given_up.remove(&self.plan.destinations[destination].name);
                self.state.items.remove(&job.key);
                if let Content::Summary(summary) = &job.item.content
                    && summary.kind == Kind::Outage
                {
                    self.call_for_what_stands(destination, summary, now);
                }
            }
            Outcome::Later { reason, after } => {
                lane.failed(now, &reason);
                let attempts = job.item.attempts.saturating_add(1);
                let mut wait_ms = backoff_ms(attempts, &job.item.id);
                match after {
                    Some(after) => {
                        let after = after.min(RETRY_AFTER_MAX);
                        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                        lane.earliest_ms = lane.earliest_ms.max(now.steady_ms.saturating_add(after_ms));
                        wait_ms = after_ms;
                    }
                    None => {
                        lane.breaker.failure(now.steady_ms);
                    }
                }
                lane.retries.insert(job.key.clone(), now.steady_ms.saturating_add(wait_ms));
                if let Some(item) = self.state.items.get_mut(&job.key) {
                    item.attempts = attempts;
                    item.trouble = Some(reason);
                }
            }
            Outcome::Refused { reason } => {
                lane.breaker.success(); // it answers
                lane.failed(now, &reason);
                self.give_up(&job.key, &reason, now);
            }
        }
    }

    /// Behind the news of an outage: what still stands, is HIGH or CRITICAL, and nobody has seen, one by one (RTE-08).
    fn call_for_what_stands(&mut self, destination: usize, summary: &Summary, now: Now) {
        let wall = now.wall.as_micros();
        let name = self.plan.destinations[destination].name.clone();
        for (occurrence, alarm) in &summary.standing {
            let Some(notice) = self.state.alarms.get(alarm).filter(|notice| notice.occurrence == *occurrence) else {
                continue;
            };
            if notice.severity < Severity::High || notice.acked || !notice.is_standing() {
                continue;
            }
            let notice = notice.clone();
            let critical = notice.severity == Severity::Critical;
            for (route, destinations) in self.plan.routes_for(&notice, Transition::Activated, now.wall) {
                if destinations.contains(&destination) {
                    self.begin_ladder(route, &notice, now);
                }
            }
            if self.floods(destination, critical, wall) {
                self.add_to_flood(destination, &notice, Transition::Activated, wall);
                continue;
            }
            let item = Item {
                id: delivery_id(&name, &notice, Transition::Activated, ""),
                content: Content::Alarm { notice: Box::new(notice), transition: Transition::Activated, waited: None },
                created_at: wall,
                at: wall,
                attempts: 0,
                trouble: None,
                urgent: critical,
                individual: false,
                route: None,
            };
            self.push(&name, item);
        }
    }

    /// Old news that wait already take later ones in, so that a long outage is one message.
    pub(super) fn merge_outage(&mut self, name: &str, later: &Summary) -> bool {
        let waits = |key: &str, item: &Item| {
            let is_flying = self.lanes.iter().any(|lane| lane.flying.as_deref() == Some(key));
            !is_flying && item.is_outage()
        };
        let found = self.state.items.with_prefix(&format!("{name}/")).find(|(key, item)| waits(key, item));
        let Some(key) = found.map(|(key, _)| key.to_owned()) else { return false };
        if let Some(Content::Summary(summary)) = self.state.items.get_mut(&key).map(|item| &mut item.content) {
            summary.merge(later.clone());
        }
        true
    }

    /// What was tried for longer than the destination allows (RTE-09).
    pub(super) fn give_up_old(&mut self, now: Now) {
        let wall = now.wall.as_micros();
        let mut over = Vec::new();
        for (at, to) in self.plan.destinations.iter().enumerate() {
            for (key, item) in self.state.items.with_prefix(&format!("{}/", to.name)) {
                let is_flying = self.lanes[at].flying.as_deref() == Some(key);
                if !is_flying && wall - item.created_at > to.give_up_after {
                    let last = item.trouble.as_deref().unwrap_or("it was never its turn");
                    over.push((key.to_owned(), format!("not delivered in time: {last}")));
                }
            }
        }
        for (key, reason) in over {
            self.give_up(&key, &reason, now);
        }
    }

    fn give_up(&mut self, key: &str, reason: &str, now: Now) {
        let Some(item) = self.state.items.remove(key) else { return };
        let name = key.rsplit_once('/').map_or(key, |(name, _)| name).to_owned();
        let at = self.plan.destinations.iter().position(|to| to.name == name);
        if let Some(at) = at {
            self.lanes[at].retries.remove(key);
            self.state.given_up.insert(name.clone(), reason.to_owned());
        }
        let to = at.map(|at| &self.plan.destinations[at]);
        let fallback = to.and_then(|to| to.fallback).map(|at| self.plan.destinations[at].name.clone());
        let wall = now.wall.as_micros();
        let letter = Letter {
            destination: name,
            channel: to.map_or("unknown", |to| to.channel.type_name()).to_owned(),
            reason: reason.to_owned(),
            attempts: item.attempts.saturating_add(1),
            failed_at: wall,
            first_at: item.created_at,
            content: item.content.clone(),
            fallback: fallback.clone(),
        };
        self.state.letters.insert(item.id.clone(), letter);
        let Some(fallback) = fallback else { return };
        if let Content::Alarm { notice, transition, .. } = &item.content {
            // told there by a route of its own
            if self.state.told.contains(&delivery_id(&fallback, notice, *transition, "")) {
                return;
            }
        }
        let id = digest(&[&fallback, &item.id]);
        let item = Item { id, created_at: wall, at: wall, attempts: 0, trouble: None, ..item };
        self.push(&fallback, item);
    }

    /// Nobody is told any more who is not in the configuration.
    pub(super) fn leave_gone_destinations(&mut self, now: Now) {
        let known: BTreeSet<String> = self.plan.destinations.iter().map(|to| to.name.clone()).collect();
        let name_of = |key: &str| key.rsplit_once('/').map_or(key, |(name, _)| name).to_owned();
        let items: Vec<String> = self
            .state
            .items
            .iter()
            .filter(|(key, _)| !known.contains(&name_of(key)))
            .map(|(key, _)| key.to_owned())
            .collect();
        for key in items {
            self.give_up(&key, "the destination is not in the configuration any more", now);
        }
        let forgotten: Vec<String> =
            self.state.given_up.iter().map(|(name, _)| name.to_owned()).filter(|name| !known.contains(name)).collect();
        for name in forgotten {
            self.state.given_up.remove(&name);
        }
        let gone = |bundle: &Bundle| !known.contains(&bundle.destination);
        let bundles: Vec<String> =
            self.state.bundles.iter().filter(|(_, bundle)| gone(bundle)).map(|(key, _)| key.to_owned()).collect();
        for key in bundles {
            let Some(bundle) = self.state.bundles.remove(&key) else { continue };
            let (destination, first_at) = (bundle.destination.clone(), bundle.opened_at);
            let wall = now.wall.as_micros();
            let letter = Letter {
                channel: "unknown".to_owned(),
                reason: "the destination is not in the configuration any more".to_owned(),
                attempts: 0,
                failed_at: wall,
                first_at,
                content: Content::Summary(Box::new(bundle.summary(wall))),
                fallback: None,
                destination,
            };
            self.state.letters.insert(digest(&[&key, &wall.to_string()]), letter);
        }
    }

    /// The letter stands in the stream.
    pub fn letter_written(&mut self, id: &str) {
        self.state.letters.remove(id);
    }

    /// How every destination does.
    pub fn standings(&self) -> Vec<Standing> {
        let standing = |(at, to): (usize, &super::plan::Destination)| {
            let lane = &self.lanes[at];
            let prefix = format!("{}/", to.name);
            let bundled = self.state.bundles.with_prefix(&prefix).map(|(_, bundle)| bundle.total);
            Standing {
                name: to.name.clone(),
                channel: to.channel.type_name(),
                waiting: self.state.items.with_prefix(&prefix).count(),
                bundled: bundled.sum(),
                delivered: lane.delivered,
                breaker: match lane.breaker.state() {
                    BreakerState::Closed => "closed",
                    BreakerState::HalfOpen => "half_open",
                    BreakerState::Open => "open",
                },
                trouble: lane.trouble.clone(),
                given_up: self.state.given_up.get(&to.name).cloned(),
            }
        };
        self.plan.destinations.iter().enumerate().map(standing).collect()
    }
}
