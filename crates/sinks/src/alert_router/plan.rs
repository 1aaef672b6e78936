//! Settings of the `alert_router` sink as checked: destinations, routes, hours.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono_tz::Tz;
use config::read::{suggest, token};
use config::rules::matches as glob;
use config::{Object, Problem};
use model::{Severity, Timestamp};
use serde_json::Value;
use stream::Topic;

use super::channel::{Channel, Link};
use super::guard::{Guard, Network};
use super::hours::{Hours, parse_day, parse_time};
use super::notice::{Notice, Transition};
use crate::common::Common;
use crate::host::BatchLimits;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

const DESTINATIONS_MAX: usize = 50;
const ROUTES_MAX: usize = 200;
const STEPS_MAX: usize = 10;
const NAME_LENGTH_MAX: usize = 64;
const TRANSITIONS: [(&str, Transition); 5] = [
    ("activated", Transition::Activated),
    ("acked", Transition::Acked),
    ("cleared", Transition::Cleared),
    ("escalated", Transition::Escalated),
    ("shelved", Transition::Shelved),
];

/// Everything the router decides by. Times are microseconds.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What every sink has.
    pub common: Common,
    /// How much is taken from the stream at once.
    pub limits: BatchLimits,
    /// The gateway's name when `None`.
    pub site: Option<String>,
    pub zone: Tz,
    pub link: Option<String>,
    pub destinations: Vec<Destination>,
    pub routes: Vec<Route>,
    pub old_after: i64,
    pub heartbeat: Option<Heartbeat>,
    pub guard: Guard,
}

/// Somebody who can be told.
#[derive(Debug, Clone)]
pub struct Destination {
    pub name: String,
    pub channel: Channel,
    /// Index of the destination that is told instead.
    pub fallback: Option<usize>,
    pub give_up_after: i64,
    pub quiet: Option<Quiet>,
    pub flood: Flood,
}

/// When a destination is left in peace.
#[derive(Debug, Clone, Copy)]
pub struct Quiet {
    pub hours: Hours,
    pub defer_high: bool,
}

/// More calls than `calls_max` within `within` are summed up (RTE-05).
#[derive(Debug, Clone, Copy)]
pub struct Flood {
    pub calls_max: usize,
    pub within: i64,
    /// Between two summaries.
    pub summary_every: i64,
}

/// Which alarms, and who is told.
#[derive(Debug, Clone)]
pub struct Route {
    pub name: String,
    severities: BTreeSet<Severity>,
    area: Option<String>,
    asset: Option<String>,
    group: Option<String>,
    transitions: Vec<Transition>,
    schedule: Option<Hours>,
    /// Indexes.
    pub destinations: Vec<usize>,
    pub digest: Option<i64>,
    pub grouping: Option<Grouping>,
    pub escalation: Option<Escalation>,
    goes_on: bool,
}

/// What comes together is told in one message (RTE-04).
#[derive(Debug, Clone)]
pub struct Grouping {
    /// Fields of [`Notice::field`].
    pub by: Vec<&'static str>,
    pub wait: i64,
    pub interval: i64,
}

/// Who is called when nobody acknowledges (RTE-06).
#[derive(Debug, Clone)]
pub struct Escalation {
    /// Time since the activation was told, and whom to call; in the order of time.
    pub steps: Vec<(i64, Vec<usize>)>,
    pub repeat: Option<i64>,
    pub stops_on_clear: bool,
}

/// A sign of life for a watcher elsewhere (RTE-10).
#[derive(Debug, Clone)]
pub struct Heartbeat {
    pub url: Link,
    pub every: Duration,
}

impl Route {
    /// Does the route take this alarm's transition at this time?
    pub fn takes(&self, notice: &Notice, transition: Transition, now: Timestamp) -> bool {
        let fits = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|pattern| glob(pattern, text));
        let asked = if transition == Transition::Repeated { Transition::Activated } else { transition };
        self.severities.contains(&notice.severity)
            && self.transitions.contains(&asked)
            && fits(&self.area, notice.place())
            && fits(&self.asset, &notice.asset)
            && fits(&self.group, notice.group.as_deref().unwrap_or_default())
            && self.schedule.is_none_or(|hours| hours.contains(now))
    }

    /// The same for destinations that want the end of everything whose beginning they were told.
    fn takes_beginning(&self, notice: &Notice, now: Timestamp) -> bool {
        self.takes(notice, Transition::Activated, now)
    }

    fn has_conditions(&self) -> bool {
        self.area.is_some() || self.asset.is_some() || self.group.is_some() || self.schedule.is_some()
    }
}

impl Plan {
    /// Routes that tell of a transition, with the destinations that each tells, in order (RTE-01): the first that fits, and
    /// further ones as long as they say `continue`.
    pub fn routes_for(&self, notice: &Notice, transition: Transition, now: Timestamp) -> Vec<(usize, Vec<usize>)> {
        let follows = !transition.is_call();
        let mut told = Vec::new();
        for (index, route) in self.routes.iter().enumerate() {
            let takes = route.takes(notice, transition, now);
            // an incident that was opened is closed, whatever the route says about ends
            let ends = follows && !takes && route.takes_beginning(notice, now);
            let keeps = |at: &usize| takes || (ends && self.destinations[*at].channel.keeps_incidents());
            let mut destinations: Vec<usize> = route.destinations.iter().copied().filter(keeps).collect();
            if follows && (takes || ends) {
                let steps = route.escalation.iter().flat_map(|escalation| &escalation.steps);
                let called = steps.flat_map(|(_, destinations)| destinations);
                let incidents = called.filter(|at| self.destinations[**at].channel.keeps_incidents());
                destinations.extend(incidents.filter(|at| !route.destinations.contains(at)));
            }
            if !destinations.is_empty() {
                told.push((index, destinations));
            }
            if takes && !route.goes_on {
                break;
            }
        }
        told
    }
}

/// Checks the settings that stand at `pointer`; every problem at once.
pub fn plan(value: &Value, pointer: &str) -> Result<Plan, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let common = Common::read(&mut object, &[Topic::AlarmsClean], &[Topic::AlarmsClean]);
    let zone = read_zone(&mut object).unwrap_or(Tz::UTC);
    let guard = read_guard(&mut object);
    let site = object.text("site").map(str::to_owned);
    let link = object.text("link").map(str::to_owned);
    if link.as_ref().is_some_and(|link| !(link.starts_with("https://") || link.starts_with("http://"))) {
        object.problem("link", "bad_url", "must begin with https:// or http://", "");
    }
    let old_after = object.duration_ms("old_after", MINUTE_MS, DAY_MS).unwrap_or(15 * MINUTE_MS) * 1000;
    let destinations = read_destinations(&mut object, zone, &guard);
    let names: Vec<&str> = destinations.iter().map(|destination| destination.name.as_str()).collect();
    let routes = read_routes(&mut object, zone, &names);
    let heartbeat = read_heartbeat(&mut object, &guard);
    check_catch_all(&mut object, &routes);
    let problems = object.finish();
    if !problems.is_empty() {
        return Err(problems);
    }
    let limits = BatchLimits { rows_max: 1_000, bytes_max: 1024 * 1024, wait: Duration::ZERO };
    Ok(Plan { common, limits, site, zone, link, destinations, routes, old_after, heartbeat, guard })
}

fn read_zone(object: &mut Object<'_>) -> Option<Tz> {
    let name = object.text("time_zone")?;
    let zone = name.parse().ok();
    if zone.is_none() {
        let names: Vec<&str> = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()).collect();
        let hint = match suggest(name, &names) {
            hint if hint.is_empty() => "an IANA name, for example Europe/Berlin".to_owned(),
            hint => hint,
        };
        object.problem("time_zone", "unknown_zone", format!("{name:?} is not a time zone"), hint);
    }
    zone
}

fn read_guard(object: &mut Object<'_>) -> Guard {
    let mut guard = Guard::default();
    for (key, networks) in [("allow_hosts", false), ("allow_networks", true)] {
        for (i, item) in object.list(key).into_iter().flatten().enumerate() {
            let pointer = format!("{}/{i}", object.at(key));
            match item.as_str() {
                Some(text) if networks => match Network::parse(text) {
                    Some(network) => guard.networks.push(network),
                    None => {
                        let message = format!("{text:?} is not a network");
                        object.extend([Problem::new(pointer, "bad_network", message, "for example 10.1.0.0/16")]);
                    }
                },
                Some(text) if !text.is_empty() => guard.hosts.push(text.to_owned()),
                _ => object.extend([Problem::new(pointer, "wrong_type", "must be a text", "")]),
            }
        }
    }
    guard
}

fn read_destinations(object: &mut Object<'_>, zone: Tz, guard: &Guard) -> Vec<Destination> {
    let Some(map) = object.object("destinations") else {
        if object.value("destinations").is_none() {
            let hint = "for example destinations: {mail: {type: email, ...}}";
            object.problem("destinations", "missing", "is missing", hint);
        }
        return Vec::new();
    };
    if map.is_empty() || map.len() > DESTINATIONS_MAX {
        let message = format!("has {} entries, 1 to {DESTINATIONS_MAX} are possible", map.len());
        object.problem("destinations", "bad_count", message, "");
    }
    let names: Vec<&str> = map.keys().map(String::as_str).collect();
    let mut destinations = Vec::new();
    let mut fallbacks = Vec::new();
    for (name, value) in map {
        let pointer = format!("{}/{}", object.at("destinations"), token(name));
        if !is_name(name) {
            let hint = format!("letters, digits, _ and -, at most {NAME_LENGTH_MAX}");
            object.extend([Problem::new(pointer.clone(), "bad_name", format!("{name:?} is not a name"), hint)]);
        }
        let mut inner = Object::new(value, &pointer);
        let channel = Channel::read(&mut inner, guard);
        let is_sms = matches!(channel, Channel::Sms(_));
        let give_up_ms = inner.duration_ms("give_up_after", MINUTE_MS, 7 * DAY_MS);
        let give_up_after = give_up_ms.unwrap_or(if is_sms { HOUR_MS } else { DAY_MS }) * 1000;
        let quiet = inner.value("quiet_hours").and_then(|value| {
            let mut quiet = Object::new(value, &inner.at("quiet_hours"));
            let defer_high = quiet.boolean("defer_high").unwrap_or(false);
            let hours = read_hours(&mut quiet, zone);
            inner.extend(quiet.finish());
            Some(Quiet { hours: hours?, defer_high })
        });
        let calls_max = inner.integer("flood_max", 1, 1000).and_then(|max| usize::try_from(max).ok()).unwrap_or(10);
        let flood = if is_sms {
            Flood { calls_max, within: HOUR_MS * 1000, summary_every: HOUR_MS * 1000 }
        } else {
            Flood { calls_max, within: 10 * MINUTE_MS * 1000, summary_every: 5 * MINUTE_MS * 1000 }
        };
        let fallback = inner.text("fallback").and_then(|other| match names.iter().position(|known| *known == other) {
            Some(at) => Some(at),
            None => {
                inner.problem("fallback", "unknown_destination", unknown(other), suggest(other, &names));
                None
            }
        });
        fallbacks.push(fallback);
        object.extend(inner.finish());
        destinations.push(Destination { name: name.clone(), channel, fallback, give_up_after, quiet, flood });
    }
    for (at, destination) in destinations.iter().enumerate() {
        let mut seen = vec![at];
        let mut next = fallbacks[at];
        while let Some(other) = next {
            if seen.contains(&other) {
                let pointer = format!("{}/{}/fallback", object.at("destinations"), token(&destination.name));
                let hint = "the last one of a chain has no fallback";
                object.extend([Problem::new(pointer, "circle", "leads back to where it came from", hint)]);
                break;
            }
            seen.push(other);
            next = fallbacks[other];
        }
    }
    destinations
}

fn unknown(name: &str) -> String {
    format!("{name:?} is not one of destinations")
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    (1..=NAME_LENGTH_MAX).contains(&name.len()) && name.chars().all(allowed)
}

/// Hours of the week; takes the keys of [`super::settings::HoursSettings`].
fn read_hours(object: &mut Object<'_>, zone: Tz) -> Option<Hours> {
    let zone = if object.value("time_zone").is_some() { read_zone(object)? } else { zone };
    let mut time = |key: &'static str| {
        let text = object.required_text(key)?;
        let minutes = parse_time(text);
        if minutes.is_none() {
            object.problem(key, "bad_time", format!("{text:?} is not a time of day"), "for example 06:00");
        }
        minutes
    };
    let (from, to) = (time("from"), time("to"));
    let mut days = [object.value("days").is_none(); 7];
    for (i, item) in object.list("days").into_iter().flatten().enumerate() {
        match item.as_str().and_then(parse_day) {
            Some(day) => days[day] = true,
            None => {
                let pointer = format!("{}/{i}", object.at("days"));
                object.extend([Problem::new(pointer, "bad_day", format!("{item} is not a day"), "mon to sun")]);
            }
        }
    }
    Some(Hours { zone, days, from: from?, to: to? })
}

fn read_routes(object: &mut Object<'_>, zone: Tz, names: &[&str]) -> Vec<Route> {
    let Some(list) = object.list("routes") else {
        if object.value("routes").is_none() {
            object.problem("routes", "missing", "is missing", "at least one route that takes everything");
        }
        return Vec::new();
    };
    if list.len() > ROUTES_MAX {
        object.problem("routes", "bad_count", format!("has {} entries, at most {ROUTES_MAX}", list.len()), "");
    }
    let mut routes: Vec<Route> = Vec::new();
    for (i, value) in list.iter().enumerate() {
        let pointer = format!("{}/{i}", object.at("routes"));
        let mut inner = Object::new(value, &pointer);
        let route = read_route(&mut inner, i, zone, names);
        if routes.iter().any(|other| other.name == route.name) {
            inner.problem("name", "duplicate", format!("{:?} is the name of another route, too", route.name), "");
        }
        object.extend(inner.finish());
        routes.push(route);
    }
    routes
}

fn read_route(object: &mut Object<'_>, i: usize, zone: Tz, names: &[&str]) -> Route {
    let severities = read_severities(object);
    let name = object.text("name").map_or_else(|| format!("route-{}", i + 1), str::to_owned);
    let mut pattern = |key: &'static str| object.text(key).map(str::to_owned);
    let (area, asset, group) = (pattern("area"), pattern("asset"), pattern("group"));
    let mut transitions = Vec::new();
    for item in texts(object, "transitions") {
        match TRANSITIONS.iter().find(|(word, _)| *word == item) {
            Some((_, transition)) => transitions.push(*transition),
            None => {
                let words = TRANSITIONS.map(|(word, _)| word);
                let message = format!("{item:?} is not one of {}", words.join(", "));
                object.problem("transitions", "unknown_word", message, suggest(&item, &words));
            }
        }
    }
    if object.value("transitions").is_none() {
        transitions.push(Transition::Activated);
    }
    let schedule = object.value("schedule").and_then(|value| {
        let mut inner = Object::new(value, &object.at("schedule"));
        let hours = read_hours(&mut inner, zone);
        object.extend(inner.finish());
        hours
    });
    let destinations = read_names(object, names);
    let digest = object.duration_ms("digest_interval", MINUTE_MS, DAY_MS).map(|ms| ms * 1000);
    let grouping = read_grouping(object);
    if digest.is_some() && grouping.is_some() {
        object.problem("group_by", "conflict", "cannot be together with digest_interval", "a digest is one group");
    }
    let escalation = read_escalation(object, names);
    let goes_on = object.boolean("continue").unwrap_or(false);
    Route {
        name,
        severities,
        area,
        asset,
        group,
        transitions,
        schedule,
        destinations,
        digest,
        grouping,
        escalation,
        goes_on,
    }
}

fn read_severities(object: &mut Object<'_>) -> BTreeSet<Severity> {
    let words: Vec<&str> = Severity::ALL.iter().map(|severity| severity.as_str()).collect();
    let given: Vec<&Value> = match object.value("severity") {
        None => return Severity::ALL.iter().copied().collect(),
        Some(Value::Array(list)) => list.iter().collect(),
        Some(one) => vec![one],
    };
    let mut severities = BTreeSet::new();
    for item in given {
        match item.as_str().and_then(Severity::parse) {
            Some(severity) => {
                severities.insert(severity);
            }
            None => {
                let hint = suggest(&item.as_str().unwrap_or_default().to_ascii_uppercase(), &words);
                object.problem("severity", "unknown_word", format!("{item} is not one of {}", words.join(", ")), hint);
            }
        }
    }
    severities
}

/// Texts of a list; anything else in it is a problem.
fn texts(object: &mut Object<'_>, key: &'static str) -> Vec<String> {
    let mut texts = Vec::new();
    for item in object.list(key).into_iter().flatten() {
        match item.as_str() {
            Some(text) => texts.push(text.to_owned()),
            None => object.problem(key, "wrong_type", format!("{item} is not a text"), ""),
        }
    }
    texts
}

fn read_names(object: &mut Object<'_>, names: &[&str]) -> Vec<usize> {
    let mut places = Vec::new();
    for name in texts(object, "destinations") {
        match names.iter().position(|known| *known == name) {
            Some(at) if !places.contains(&at) => places.push(at),
            Some(_) => {}
            None => object.problem("destinations", "unknown_destination", unknown(&name), suggest(&name, names)),
        }
    }
    if object.list("destinations").is_none_or(Vec::is_empty) {
        object.problem("destinations", "empty", "names nobody", "at least one of destinations");
    }
    places
}

fn read_grouping(object: &mut Object<'_>) -> Option<Grouping> {
    let wait = object.duration_ms("group_wait", 1_000, HOUR_MS).unwrap_or(30_000) * 1000;
    let interval = object.duration_ms("group_interval", 1_000, DAY_MS).unwrap_or(5 * MINUTE_MS) * 1000;
    object.value("group_by")?;
    let mut by = Vec::new();
    for field in texts(object, "group_by") {
        match Notice::FIELDS.iter().find(|known| **known == field) {
            Some(known) => by.push(*known),
            None => {
                let message = format!("{field:?} is not one of {}", Notice::FIELDS.join(", "));
                object.problem("group_by", "unknown_word", message, suggest(&field, &Notice::FIELDS));
            }
        }
    }
    Some(Grouping { by, wait, interval })
}

fn read_escalation(object: &mut Object<'_>, names: &[&str]) -> Option<Escalation> {
    let repeat = object.duration_ms("escalation_repeat", MINUTE_MS, 7 * DAY_MS).map(|ms| ms * 1000);
    let stops_on_clear = object.boolean("escalation_stops_on_clear").unwrap_or(false);
    let list = object.list("escalation")?;
    let mut steps: Vec<(i64, Vec<usize>)> = Vec::new();
    for (i, value) in list.iter().enumerate() {
        let mut inner = Object::new(value, &format!("{}/{i}", object.at("escalation")));
        if inner.value("after").is_none() {
            inner.problem("after", "missing", "is missing", "for example 5min");
        }
        let after = inner.duration_ms("after", 10_000, 7 * DAY_MS).map(|ms| ms * 1000);
        let destinations = read_names(&mut inner, names);
        if let Some(after) = after {
            if steps.last().is_some_and(|(before, _)| *before >= after) {
                inner.problem("after", "order", "is not later than the step before", "time counts from the activation");
            }
            steps.push((after, destinations));
        }
        object.extend(inner.finish());
    }
    if list.is_empty() || list.len() > STEPS_MAX {
        let message = format!("has {} steps, 1 to {STEPS_MAX} are possible", list.len());
        object.problem("escalation", "bad_count", message, "");
    }
    Some(Escalation { steps, repeat, stops_on_clear })
}

fn read_heartbeat(object: &mut Object<'_>, guard: &Guard) -> Option<Heartbeat> {
    let value = object.value("heartbeat")?;
    let mut inner = Object::new(value, &object.at("heartbeat"));
    let url = Link::read(&mut inner, "url", guard);
    let every = inner.duration_ms("every", 10_000, DAY_MS).unwrap_or(5 * MINUTE_MS);
    if url.is_none() && inner.value("url").is_none() {
        inner.problem("url", "missing", "is missing", "");
    }
    object.extend(inner.finish());
    Some(Heartbeat { url: url?, every: Duration::from_millis(u64::try_from(every).unwrap_or_default()) })
}

/// Every activation reaches somebody (RTE-01): the routes without conditions take every severity together.
fn check_catch_all(object: &mut Object<'_>, routes: &[Route]) {
    let open = |route: &&Route| !route.has_conditions() && route.transitions.contains(&Transition::Activated);
    let taken: BTreeSet<Severity> = routes.iter().filter(open).flat_map(|route| route.severities.clone()).collect();
    let missing: Vec<&str> =
        Severity::ALL.iter().filter(|severity| !taken.contains(severity)).map(|severity| severity.as_str()).collect();
    if !missing.is_empty() && !routes.is_empty() {
        let message = format!("{} alarms may reach nobody", missing.join(", "));
        let hint = "end with a route that has destinations and no conditions";
        object.problem("routes", "no_catch_all", message, hint);
    }
}
