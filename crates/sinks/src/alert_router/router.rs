//! The decisions: who is told of an alarm, when, and in which message. Pure: time comes from the caller, what is decided
//! lies in [`State`], and [`super::dispatch`] hands the messages out.
//!
//! ```text
//! record -> routes -> for each destination:  known already?  ............ nothing (RTE-02)
//!                                            quiet hours, digest, old,
//!                                            flood, group  .............. bundle -> one message when it is due
//!                                            otherwise .................. message
//! ```
//!
//! Invariants:
//! - What is decided once is not decided again: every message has an id made of what it tells and to whom.
//! - CRITICAL waits for nothing but a flood of its own kind (RTE-04, RTE-05, RTE-07).
//! - Everything has a bound: a bundle counts what it does not list.

use std::collections::BTreeMap;

use model::{Severity, Timestamp};

use super::hours::next_aligned;
use super::lane::Lane;
use super::notice::{Notice, Transition};
use super::plan::Plan;
use super::state::{Bundle, Content, Item, Kind, Ladder, State};
use crate::batch::Place;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;
/// News from an outage wait this long for more of them, and at most the second time.
const OUTAGE_SETTLES: i64 = 10 * SECOND;
const OUTAGE_MAX: i64 = 5 * MINUTE;
/// A flood is summed up for this long before its first summary (RTE-05).
const FLOOD_GATHERS: i64 = 5 * MINUTE;
/// CRITICAL calls in a minute that are made singly in a flood (RTE-05).
const CRITICAL_PER_MINUTE: usize = 5;
/// Delivery ids are remembered for so long, and so many; the oldest go first.
const TOLD_FOR: i64 = 30 * DAY;
const TOLD_MAX: usize = 50_000;
/// How often old delivery ids are looked for.
const FORGET_EVERY: i64 = 60 * MINUTE;

/// The time of the wall, and one that only goes forward.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub wall: Timestamp,
    /// Milliseconds since some moment.
    pub steady_ms: u64,
}

/// What is told of an alarm.
#[derive(Debug, Clone)]
struct Call {
    transition: Transition,
    /// How long nobody acknowledged, for an escalation.
    waited: Option<i64>,
    /// Which repetition, or which step of which round of an escalation.
    which: String,
}

impl Call {
    fn of(transition: Transition, notice: &Notice) -> Self {
        let comes_again = matches!(transition, Transition::Repeated | Transition::Shelved);
        let which = if comes_again { notice.seq.to_string() } else { String::new() };
        Self { transition, waited: None, which }
    }
}

/// The router: what it decides by, what it remembers, and how each destination does.
#[derive(Debug)]
pub struct Router {
    pub(super) plan: Plan,
    pub(super) state: State,
    /// By index of the destination.
    pub(super) lanes: Vec<Lane>,
    pub(super) next_number: u64,
    forgot_at: i64,
}

impl Router {
    /// Goes on with what is remembered. Messages to destinations that are gone are given up.
    pub fn new(plan: Plan, state: State, now: Now) -> Self {
        let number = |key: &str| key.rsplit('/').next().and_then(|number| number.parse::<u64>().ok());
        let next_number = state.items.iter().filter_map(|(key, _)| number(key)).max().map_or(0, |last| last + 1);
        let lanes = plan.destinations.iter().map(|_| Lane::default()).collect();
        let mut router = Self { plan, state, lanes, next_number, forgot_at: 0 };
        router.leave_gone_destinations(now);
        router
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// Positions behind everything taken.
    pub fn places(&self) -> Vec<Place> {
        let place = |(key, offset): (&str, &i64)| {
            let partition = key.parse().ok()?;
            Some(Place { topic: stream::Topic::AlarmsClean, partition, offset: *offset })
        };
        self.state.places.iter().filter_map(place).collect()
    }

    /// Passes records that say nothing.
    pub fn pass(&mut self, end: Place) {
        self.state.places.insert(end.partition.to_string(), end.offset);
    }

    /// Takes a record and what it tells people, when it tells them anything.
    pub fn take(&mut self, notice: &Notice, transition: Option<Transition>, now: Now) {
        self.follow(notice);
        let Some(transition) = transition else { return };
        for (route, destinations) in self.plan.routes_for(notice, transition, now.wall) {
            for destination in destinations {
                self.tell(Some(route), destination, notice, Call::of(transition, notice), now);
            }
            let is_new = now.wall.as_micros() - notice.at <= self.plan.old_after;
            if transition == Transition::Activated && is_new {
                self.begin_ladder(route, notice, now);
            }
        }
    }

    /// Brings everything that waits up to date with an alarm's state.
    fn follow(&mut self, notice: &Notice) {
        let held: Vec<String> = self
            .state
            .bundles
            .iter()
            .filter(|(_, bundle)| bundle.holds(&notice.occurrence))
            .map(|(key, _)| key.to_owned())
            .collect();
        for key in held {
            if let Some(bundle) = self.state.bundles.get_mut(&key) {
                bundle.follow(notice);
            }
        }
        let done = |ladder: &Ladder| {
            let cleared = !notice.is_standing();
            let on_clear = self.route(&ladder.route).is_none_or(|route| self.stops_on_clear(route));
            ladder.occurrence == notice.occurrence && (notice.acked || notice.is_suppressed() || (cleared && on_clear))
        };
        let ended: Vec<String> =
            self.state.ladders.iter().filter(|(_, ladder)| done(ladder)).map(|(key, _)| key.to_owned()).collect();
        for key in ended {
            self.state.ladders.remove(&key);
        }
        if notice.past {
            return;
        }
        let climbed = self.state.ladders.iter().any(|(_, ladder)| ladder.occurrence == notice.occurrence);
        if notice.is_standing() || climbed {
            self.state.alarms.insert(notice.key.clone(), notice.clone());
        } else {
            self.state.alarms.remove(&notice.key);
        }
    }

    pub(super) fn route(&self, name: &str) -> Option<usize> {
        self.plan.routes.iter().position(|route| route.name == name)
    }

    fn stops_on_clear(&self, route: usize) -> bool {
        self.plan.routes[route].escalation.as_ref().is_none_or(|escalation| escalation.stops_on_clear)
    }

    /// Decides in which message a destination is told.
    fn tell(&mut self, route: Option<usize>, destination: usize, notice: &Notice, call: Call, now: Now) {
        let Call { transition, waited, which } = call;
        let wall = now.wall.as_micros();
        let to = &self.plan.destinations[destination];
        let (name, keeps_incidents) = (to.name.clone(), to.channel.keeps_incidents());
        let begun = delivery_id(&name, notice, Transition::Activated, "");
        if !transition.is_call() {
            let waits = |bundle: &Bundle| bundle.destination == name && bundle.holds(&notice.occurrence);
            let is_held = self.state.bundles.iter().any(|(_, bundle)| waits(bundle));
            if is_held || (keeps_incidents && !self.state.told.contains(&begun)) {
                return; // its beginning was not told singly, so its end is part of the same message
            }
        }
        let id = delivery_id(&name, notice, transition, &which);
        if self.state.told.contains(&id) {
            return;
        }
        self.state.told.insert(id.clone(), wall);
        if transition.is_call() && !self.state.told.contains(&begun) {
            self.state.told.insert(begun, wall); // whoever is called later hears of the end, too
        }

        let critical = notice.severity == Severity::Critical;
        let escalated = transition == Transition::Escalated;
        let route_name = route.map(|route| self.plan.routes[route].name.clone());
        let (digest, grouping) = match route.map(|route| &self.plan.routes[route]) {
            Some(route) if !critical && !escalated && !keeps_incidents => (route.digest, route.grouping.clone()),
            _ => (None, None),
        };
        let may_wait = transition.is_call() || !keeps_incidents;
        if may_wait && let Some(end) = self.quiet_until(destination, notice.severity, now.wall) {
            self.bundle(&format!("{name}/quiet"), Kind::Quiet, &name, None, notice, transition, wall, end);
        } else if let Some(interval) = digest {
            let due = next_aligned(self.plan.zone, now.wall, interval).as_micros();
            let key = format!("{name}/digest/{}", route_name.as_deref().unwrap_or_default());
            self.bundle(&key, Kind::Digest, &name, route_name.as_deref(), notice, transition, wall, due);
        } else if !escalated && wall - notice.at > self.plan.old_after && may_wait {
            self.old_news(&name, route_name.as_deref(), notice, transition, wall, wall);
        } else if may_wait && self.floods(destination, critical && transition.is_call(), wall) {
            self.add_to_flood(destination, notice, transition, wall);
        } else if let Some(grouping) = grouping {
            let fields: Vec<(String, String)> =
                grouping.by.iter().map(|field| ((*field).to_owned(), notice.field(field).to_owned())).collect();
            let values: Vec<&str> = fields.iter().map(|(_, value)| value.as_str()).collect();
            let group = values.join("\u{1f}");
            let key = format!("{name}/group/{}/{group}", route_name.as_deref().unwrap_or_default());
            let last = self.lanes[destination].groups.get(&key).copied();
            let due = (wall + grouping.wait).max(last.map_or(i64::MIN, |last| last + grouping.interval));
            self.bundle(&key, Kind::Group, &name, route_name.as_deref(), notice, transition, wall, due);
            if let Some(bundle) = self.state.bundles.get_mut(&key) {
                bundle.group = fields;
            }
        } else {
            let at = if escalated { wall } else { notice.at };
            let content = Content::Alarm { notice: Box::new(notice.clone()), transition, waited };
            let item = Item {
                id,
                content,
                created_at: wall,
                at,
                attempts: 0,
                trouble: None,
                urgent: critical && transition.is_call(),
                individual: false,
                route: route_name,
            };
            self.push(&name, item);
        }
    }

    /// Until when this severity waits at this destination.
    fn quiet_until(&self, destination: usize, severity: Severity, now: Timestamp) -> Option<i64> {
        let quiet = self.plan.destinations[destination].quiet?;
        let waits = match severity {
            Severity::Critical => false,
            Severity::High => quiet.defer_high,
            Severity::Medium | Severity::Low => true,
        };
        (waits && quiet.hours.contains(now)).then(|| quiet.hours.end(now).as_micros())
    }

    pub(super) fn add_to_flood(&mut self, destination: usize, notice: &Notice, transition: Transition, wall: i64) {
        let to = &self.plan.destinations[destination];
        let (name, every) = (to.name.clone(), to.flood.summary_every);
        let last = self.state.calls.get(&name).and_then(|calls| calls.summary_at);
        let due = (wall + FLOOD_GATHERS).max(last.map_or(i64::MIN, |last| last + every));
        self.bundle(&format!("{name}/flood"), Kind::Flood, &name, None, notice, transition, wall, due);
    }

    /// Counts a message, unless it is one too many: then it belongs into the summary.
    pub(super) fn floods(&mut self, destination: usize, critical: bool, wall: i64) -> bool {
        let to = &self.plan.destinations[destination];
        let (flood, name) = (to.flood, to.name.clone());
        if !self.state.calls.contains(&name) {
            self.state.calls.insert(name.clone(), super::state::Calls::default());
        }
        let Some(calls) = self.state.calls.get_mut(&name) else { return false };
        calls.single.retain(|at| wall - at < flood.within);
        calls.critical.retain(|at| wall - at < MINUTE);
        // what costs money or fills a telephone is counted whatever it is
        let is_metered = flood.within > 10 * MINUTE;
        let too_many = calls.single.len() >= flood.calls_max;
        if too_many && !(critical && !is_metered && calls.critical.len() < CRITICAL_PER_MINUTE) {
            return true;
        }
        if !too_many {
            calls.single.push(wall);
        }
        if critical {
            calls.critical.push(wall);
        }
        false
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a bundle, in one place")]
    fn bundle(
        &mut self,
        key: &str,
        kind: Kind,
        destination: &str,
        route: Option<&str>,
        notice: &Notice,
        transition: Transition,
        opened_at: i64,
        due_at: i64,
    ) {
        if !self.state.bundles.contains(key) {
            self.state.bundles.insert(key, Bundle::new(destination, kind, route, opened_at, due_at));
        }
        if let Some(bundle) = self.state.bundles.get_mut(key) {
            bundle.add(notice, transition);
        }
    }

    /// What happened while it could not be told (RTE-08). The summary waits until no more of it comes.
    pub(super) fn old_news(
        &mut self,
        destination: &str,
        route: Option<&str>,
        notice: &Notice,
        transition: Transition,
        since: i64,
        wall: i64,
    ) {
        let key = format!("{destination}/outage");
        self.bundle(&key, Kind::Outage, destination, route, notice, transition, since, wall + OUTAGE_SETTLES);
        if let Some(bundle) = self.state.bundles.get_mut(&key) {
            bundle.opened_at = bundle.opened_at.min(since);
            bundle.due_at = wall + OUTAGE_SETTLES;
        }
        self.lanes_outage(destination, wall);
    }

    /// A drain that takes long is told in parts.
    fn lanes_outage(&mut self, destination: &str, wall: i64) {
        let Some(at) = self.plan.destinations.iter().position(|to| to.name == destination) else { return };
        let begun = *self.lanes[at].outage_begun.get_or_insert(wall);
        if let Some(bundle) = self.state.bundles.get_mut(&format!("{destination}/outage")) {
            bundle.due_at = bundle.due_at.min(begun + OUTAGE_MAX).max(wall);
        }
    }

    pub(super) fn push(&mut self, destination: &str, item: Item) {
        let key = format!("{destination}/{:020}", self.next_number);
        self.next_number += 1;
        self.state.items.insert(key, item);
    }

    pub(super) fn begin_ladder(&mut self, route: usize, notice: &Notice, now: Now) {
        let route = &self.plan.routes[route];
        if route.escalation.is_none() {
            return;
        }
        let key = format!("{}/{}", route.name, notice.occurrence);
        if self.state.ladders.contains(&key) {
            return;
        }
        let ladder = Ladder {
            key: notice.key.clone(),
            occurrence: notice.occurrence.clone(),
            route: route.name.clone(),
            begun_at: now.wall.as_micros(),
            step: 0,
            round: 0,
        };
        self.state.ladders.insert(key, ladder);
    }

    /// Lets time pass: bundles that are due become messages, escalations go on, what was tried for too long is given up.
    pub fn tick(&mut self, now: Now) {
        let wall = now.wall.as_micros();
        let due: Vec<String> = self
            .state
            .bundles
            .iter()
            .filter(|(_, bundle)| bundle.due_at <= wall)
            .map(|(key, _)| key.to_owned())
            .collect();
        for key in due {
            self.close_bundle(&key, now);
        }
        self.climb(now);
        self.give_up_old(now);
        if wall - self.forgot_at >= FORGET_EVERY {
            self.forgot_at = wall;
            self.forget(wall);
        }
    }

    fn close_bundle(&mut self, key: &str, now: Now) {
        let Some(mut bundle) = self.state.bundles.remove(key) else { return };
        let wall = now.wall.as_micros();
        let Some(at) = self.plan.destinations.iter().position(|to| to.name == bundle.destination) else { return };
        let destination = bundle.destination.clone();
        match bundle.kind {
            Kind::Group => {
                let lane = &mut self.lanes[at];
                lane.groups.retain(|_, last| wall - *last < DAY);
                lane.groups.insert(key.to_owned(), wall);
            }
            Kind::Flood => {
                if let Some(calls) = self.state.calls.get_mut(&destination) {
                    calls.summary_at = Some(wall);
                }
            }
            Kind::Outage => self.lanes[at].outage_begun = None,
            Kind::Digest | Kind::Quiet => {}
        }
        let id = digest(&[&destination, key, &bundle.opened_at.to_string(), &wall.to_string()]);
        let created_at = if bundle.kind == Kind::Outage { bundle.opened_at } else { wall };
        let route = bundle.route.clone();
        let alone = bundle.only.take().filter(|_| bundle.kind == Kind::Group);
        let content = match alone {
            Some((notice, transition)) => Content::Alarm { notice, transition, waited: None },
            None => Content::Summary(Box::new(bundle.summary(wall))),
        };
        if let Content::Summary(summary) = &content
            && summary.kind == Kind::Outage
            && self.merge_outage(&destination, summary)
        {
            return;
        }
        let item = Item {
            id,
            content,
            created_at,
            at: wall,
            attempts: 0,
            trouble: None,
            urgent: false,
            individual: true,
            route,
        };
        self.push(&destination, item);
    }

    /// Steps of escalations that are due (RTE-06).
    fn climb(&mut self, now: Now) {
        let wall = now.wall.as_micros();
        let keys: Vec<String> = self.state.ladders.iter().map(|(key, _)| key.to_owned()).collect();
        for key in keys {
            let Some(ladder) = self.state.ladders.get(&key).cloned() else { continue };
            let route = self.route(&ladder.route);
            let escalation = route.and_then(|route| self.plan.routes[route].escalation.clone());
            let notice = self.state.alarms.get(&ladder.key).filter(|notice| notice.occurrence == ladder.occurrence);
            let (Some(escalation), Some(notice)) = (escalation, notice.cloned()) else {
                self.state.ladders.remove(&key); // the route is gone, or a newer occurrence took its place
                continue;
            };
            let Some((after, destinations)) = escalation.steps.get(ladder.step) else {
                let last = escalation.steps.last().map_or(0, |(after, _)| *after);
                match escalation.repeat {
                    Some(repeat) if wall - ladder.begun_at >= last + repeat => {
                        let again = Ladder { begun_at: wall, step: 0, round: ladder.round + 1, ..ladder };
                        self.state.ladders.insert(key, again);
                    }
                    Some(_) => {}
                    None => {
                        self.state.ladders.remove(&key);
                        if !notice.is_standing() {
                            self.state.alarms.remove(&notice.key);
                        }
                    }
                }
                continue;
            };
            if wall - ladder.begun_at < *after {
                continue;
            }
            let since = notice.activated_at.unwrap_or(ladder.begun_at);
            let call = Call {
                transition: Transition::Escalated,
                waited: Some((wall - since).max(0)),
                which: format!("{}.{}", ladder.round, ladder.step),
            };
            for destination in destinations {
                self.tell(route, *destination, &notice, call.clone(), now);
            }
            for (route, destinations) in self.plan.routes_for(&notice, Transition::Escalated, now.wall) {
                for destination in destinations {
                    self.tell(Some(route), destination, &notice, call.clone(), now);
                }
            }
            if let Some(ladder) = self.state.ladders.get_mut(&key) {
                ladder.step += 1;
            }
        }
    }

    /// Forgets delivery ids that no redelivery can bring any more.
    fn forget(&mut self, wall: i64) {
        let mut by_age: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for (id, at) in self.state.told.iter() {
            by_age.entry(*at).or_default().push(id.to_owned());
        }
        for (at, ids) in by_age {
            if wall - at < TOLD_FOR && self.state.told.len() <= TOLD_MAX {
                break;
            }
            for id in ids {
                self.state.told.remove(&id);
            }
        }
    }
}

/// Names a message by what it tells and to whom (RTE-02); `which` tells repetitions and steps of an escalation apart.
pub(super) fn delivery_id(destination: &str, notice: &Notice, transition: Transition, which: &str) -> String {
    digest(&[destination, &notice.occurrence, transition.as_str(), which])
}

/// 32 hexadecimal digits of SHA-256 over the parts.
pub fn digest(parts: &[&str]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    hex(&context.finish().as_ref()[..16])
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing into a text cannot fail");
    }
    text
}
