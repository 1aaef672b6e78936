//! Who is told of what, and when: hours of alarms in milliseconds, without a network.
//!
//! Long because: each rule is a story of its own, all on the same bench and the same few alarms.

use model::{Severity, Timestamp};
use serde_json::{Value, json};
use sinks::alert_router::dispatch::{Job, Outcome};
use sinks::alert_router::dry_run::{Question, dry_run};
use sinks::alert_router::message::Letterhead;
use sinks::alert_router::message::text::title;
use sinks::alert_router::notice::{Notice, Transition};
use sinks::alert_router::plan::{Plan, plan};
use sinks::alert_router::router::{Now, Router};
use sinks::alert_router::state::State;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
/// Friday 2026-03-06, 12:00 in Berlin.
const NOON: &str = "2026-03-06T11:00:00Z";

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn settings(more: &Value) -> Value {
    let mut settings = json!({
        "sink_id": "alerts", "sink_type": "alert_router", "site": "Plant 7", "time_zone": "Europe/Berlin",
        "destinations": {
            "chat": { "type": "slack", "url": "https://hooks.slack.example/x" },
            "mail": { "type": "email", "host": "mail.example", "from": "gw@plant.example", "to": ["op@plant.example"] },
            "oncall": { "type": "pagerduty", "routing_key": { "secret": "pd" } },
            "phone": { "type": "sms", "provider": "json", "url": "https://sms.example", "from": "plant", "to": ["+4915112345678"] },
        },
        "routes": [{ "destinations": ["chat"] }],
    });
    for (key, value) in more.as_object().unwrap() {
        match (settings.get_mut(key), value) {
            (Some(Value::Object(own)), Value::Object(more)) => own.extend(more.clone()),
            _ => settings[key] = value.clone(),
        }
    }
    settings
}

fn problems(more: &Value) -> Vec<String> {
    plan(&settings(more), "").err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

/// An alarm of this moment.
pub(crate) fn alarm_now(asset: &str, severity: Severity) -> Notice {
    alarm_at(asset, severity, model::Clock::now(&model::SystemClock).as_micros())
}

fn alarm_at(asset: &str, severity: Severity, now: i64) -> Notice {
    let key = format!("gw/{asset}/temp.hi");
    Notice {
        occurrence: format!("{key}/1"),
        key,
        seq: 1,
        kind: "HI".to_owned(),
        severity,
        asset: asset.to_owned(),
        path: None,
        area: Some("hall 2".to_owned()),
        parameter: Some("temp".to_owned()),
        value: json!(92.1),
        limit: Some(90.0),
        unit: Some("bar".to_owned()),
        quality: "GOOD".to_owned(),
        state: "ACTIVE".to_owned(),
        past: false,
        acked: false,
        message: "too hot".to_owned(),
        consequence: None,
        action: None,
        group: None,
        chattering: false,
        cause: "limit".to_owned(),
        actor: None,
        comment: None,
        activated_at: Some(now),
        acked_at: None,
        acked_by: None,
        cleared_at: None,
        shelved_until: None,
        at: now,
        partition: 0,
        offset: 0,
    }
}

/// A router on a clock of the test's own.
struct Bench {
    router: Router,
    now: Now,
    plan: Plan,
}

impl Bench {
    fn new(more: &Value) -> Self {
        let plan = plan(&settings(more), "").unwrap();
        let now = Now { wall: at(NOON), steady_ms: 0 };
        Self { router: Router::new(plan.clone(), State::default(), now), now, plan }
    }

    fn at(mut self, text: &str) -> Self {
        self.now.wall = at(text);
        self
    }

    /// As the engine does it: time passes in small steps.
    fn pass(&mut self, micros: i64) {
        let end = self.now.wall.plus_micros(micros);
        while self.now.wall < end {
            let step = SECOND.min(end.micros_since(self.now.wall));
            self.now.wall = self.now.wall.plus_micros(step);
            self.now.steady_ms += u64::try_from(step / 1000).unwrap();
            self.router.tick(self.now);
        }
    }

    fn alarm(&self, asset: &str, severity: Severity) -> Notice {
        alarm_at(asset, severity, self.now.wall.as_micros())
    }
    fn activate(&mut self, asset: &str, severity: Severity) -> Notice {
        let notice = self.alarm(asset, severity);
        self.router.take(&notice, Some(Transition::Activated), self.now);
        notice
    }

    fn ack(&mut self, notice: &Notice) {
        let acked = Notice { acked: true, state: "ACKNOWLEDGED".to_owned(), ..self.later(notice) };
        self.router.take(&acked, Some(Transition::Acked), self.now);
    }

    fn clear(&mut self, notice: &Notice) {
        let now = Some(self.now.wall.as_micros());
        let cleared = Notice { state: "CLEARED".to_owned(), cleared_at: now, ..self.later(notice) };
        self.router.take(&cleared, Some(Transition::Cleared), self.now);
    }

    fn later(&self, notice: &Notice) -> Notice {
        Notice { seq: notice.seq + 1, at: self.now.wall.as_micros(), ..notice.clone() }
    }

    fn next(&mut self, destination: &str) -> Option<Job> {
        let at = self.plan.destinations.iter().position(|to| to.name == destination).unwrap();
        self.router.next(at, self.now)
    }

    /// Titles of what goes to a destination now, all of it delivered; the pace is waited out.
    fn delivered(&mut self, destination: &str) -> Vec<String> {
        let mut titles = Vec::new();
        while let Some(job) = self.next(destination) {
            titles.push(self.title(&job));
            self.router.finished(&job, Outcome::Delivered, self.now);
            self.now.steady_ms += 1_000;
            self.router.tick(self.now);
        }
        titles
    }

    fn title(&self, job: &Job) -> String {
        let site = "P".to_owned();
        let head = Letterhead { site, gateway: "gw".to_owned(), zone: self.plan.zone, link: None };
        title(&job.item, &head)
    }

    /// A new process on the same memory.
    fn restart(self) -> Self {
        let Self { router, now, plan } = self;
        let mut state = State::default();
        for change in router.state().all() {
            state.apply(change).unwrap();
        }
        Self { router: Router::new(plan.clone(), state, now), now, plan }
    }
}

fn later(reason: &str) -> Outcome {
    Outcome::Later { reason: reason.to_owned(), after: None }
}

// ---- configuration ----

#[test]
fn the_documents_routes_are_taken_as_they_are() {
    // RTE-01: the form of the document, with its names as destinations
    let router = plan(
        &settings(&json!({
            "destinations": { "pagerduty": { "type": "pagerduty", "routing_key": { "secret": "pd" } }, "sms": {
                "type": "sms", "provider": "json", "url": "https://sms.example", "from": "p", "to": ["+4915112345678"] },
                "slack": { "type": "slack", "url": { "secret": "slack" } }, "email": { "type": "email",
                "host": "mail.example", "from": "a@b.example", "to": ["c@d.example"] } },
            "routes": [
                { "severity": "CRITICAL", "destinations": ["pagerduty", "sms"] },
                { "severity": "HIGH", "destinations": ["slack"] },
                { "severity": ["MEDIUM", "LOW"], "destinations": ["email"], "digest_interval": "15min" },
            ],
        })),
        "",
    )
    .unwrap();
    assert_eq!(router.routes.len(), 3);
    assert_eq!(router.routes[2].digest, Some(15 * MINUTE));
}

#[test]
fn a_configuration_that_may_tell_nobody_is_refused() {
    // RTE-01
    let only_critical = json!({ "routes": [{ "severity": "CRITICAL", "destinations": ["chat"] }] });
    let found = problems(&only_critical);
    assert!(found[0].starts_with("/routes: LOW, MEDIUM, HIGH alarms may reach nobody"), "{found:?}");
    let with_conditions = json!({ "routes": [{ "asset": "pump_*", "destinations": ["chat"] }] });
    assert_eq!(problems(&with_conditions).len(), 1);
    let only_ends = json!({ "routes": [{ "transitions": ["cleared"], "destinations": ["chat"] }] });
    assert_eq!(problems(&only_ends).len(), 1);
}

#[test]
fn every_mistake_has_its_place_and_a_hint() {
    let found = problems(&json!({
        "time_zone": "Europe/Berln",
        "old_after": "15",
        "destinations": {
            "chat": { "type": "slack", "url": "http://hooks.slack.example/x" },
            "hook": { "type": "webhook", "url": "https://169.254.169.254/latest" },
            "loop": { "type": "webhook", "url": "https://a.example", "fallback": "loop" },
            "sms": { "type": "sms", "from": "p", "to": ["0151"], "username": "AC1" },
            "mail": { "type": "email", "host": "127.0.0.1", "from": "x", "to": [], "signing_key": { "secret": "x" } },
            "clear": { "type": "pagerduty", "routing_key": "0123456789" },
        },
        "routes": [{ "destinations": ["chta"], "severity": ["high"], "transitions": ["akced"],
            "schedule": { "from": "22:00", "to": "26:00", "days": ["caturday"] },
            "digest_interval": "15min", "group_by": ["aset"],
            "escalation": [{ "after": "10min", "destinations": ["mail"] }, { "after": "5min", "destinations": [] }] }],
    }));
    for expected in [
        "/time_zone: \"Europe/Berln\" is not a time zone (did you mean \"Europe/Berlin\"?)",
        "/old_after: \"15\" is not a length of time",
        "/destinations/chat/url: must begin with https://",
        "/destinations/hook/url: is refused: 169.254.169.254 is link-local",
        "/destinations/loop/fallback: leads back",
        "/destinations/sms/to/0: \"0151\" is not a number in E.164",
        "/destinations/sms/password: is missing",
        "/destinations/mail/host: is refused: 127.0.0.1 is this machine",
        "/destinations/mail/from: \"x\" is not a mail address",
        "/destinations/mail/to: has 0 entries",
        "/destinations/mail/signing_key: belongs to webhook, not to email",
        "/destinations/clear/routing_key: must be a reference to a secret",
        "/routes/0/destinations: \"chta\" is not one of destinations (did you mean \"chat\"?)",
        "/routes/0/severity: \"high\" is not one of LOW, MEDIUM, HIGH, CRITICAL (did you mean \"HIGH\"?)",
        "/routes/0/transitions: \"akced\" is not one of",
        "/routes/0/schedule/to: \"26:00\" is not a time of day",
        "/routes/0/schedule/days/0: \"caturday\" is not a day",
        "/routes/0/group_by: \"aset\" is not one of area, asset",
        "/routes/0/group_by: cannot be together with digest_interval",
        "/routes/0/escalation/1/after: is not later",
        "/routes/0/escalation/1/destinations: names nobody",
    ] {
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected}\nin {found:#?}");
    }
    assert!(!found.iter().any(|problem| problem.contains("0123456789")), "a secret is not repeated");
}

// ---- routing ----

#[test]
fn the_first_route_that_fits_counts_and_continue_goes_on() {
    // RTE-01
    let mut bench = Bench::new(&json!({ "routes": [
        { "name": "boilers", "asset": "boiler_*", "destinations": ["mail"], "continue": true },
        { "name": "hall", "area": "hall *", "severity": "HIGH", "destinations": ["phone"] },
        { "name": "rest", "destinations": ["chat"] },
    ]}));
    bench.activate("boiler_3", Severity::High);
    bench.activate("pump_1", Severity::Low);
    assert_eq!(bench.delivered("mail").len(), 1);
    assert_eq!(bench.delivered("phone"), ["[HIGH] P/boiler_3 too hot"]);
    assert_eq!(bench.delivered("chat"), ["[LOW] P/pump_1 too hot"]);
}

#[test]
fn transitions_are_told_to_those_who_asked() {
    // RTE-01
    let mut bench = Bench::new(&json!({ "routes": [
        { "destinations": ["mail"], "transitions": ["activated", "acked", "cleared"], "continue": true },
        { "destinations": ["chat", "oncall"] },
    ]}));
    let alarm = bench.activate("pump_1", Severity::High);
    bench.ack(&alarm);
    bench.clear(&alarm);
    assert_eq!(
        bench.delivered("mail"),
        ["[HIGH] P/pump_1 too hot", "[HIGH] P/pump_1 acknowledged: too hot", "[HIGH] P/pump_1 cleared: too hot"]
    );
    assert_eq!(bench.delivered("chat").len(), 1, "asked for activations only");
    assert_eq!(bench.delivered("oncall").len(), 3, "an incident is closed, whoever asked");
}

#[test]
fn nothing_is_told_twice_whatever_comes_again() {
    // RTE-02, AC-092: a restart behind the send and before the commit reads the same record again
    let mut bench = Bench::new(&json!({}));
    let alarm = bench.activate("pump_1", Severity::Critical);
    let first = bench.next("chat").unwrap();
    let mut bench = bench.restart(); // the send is not known to have worked
    bench.router.take(&alarm, Some(Transition::Activated), bench.now);
    let again = bench.next("chat").unwrap();
    assert_eq!(first.item.id, again.item.id, "the receiver sees that it is the same");
    bench.router.finished(&again, Outcome::Delivered, bench.now);
    let mut bench = bench.restart();
    bench.router.take(&alarm, Some(Transition::Activated), bench.now);
    bench.pass(SECOND); // the pace of Slack
    assert_eq!(bench.delivered("chat"), Vec::<String>::new());
}

#[test]
fn an_alarm_that_is_announced_again_is_told_again() {
    let mut bench = Bench::new(&json!({}));
    let alarm = bench.activate("pump_1", Severity::High);
    let again = Notice { cause: "re_alarm".to_owned(), ..bench.later(&alarm) };
    for _ in 0..2 {
        bench.router.take(&again, Some(Transition::Repeated), bench.now);
    }
    assert_eq!(bench.delivered("chat"), ["[HIGH] P/pump_1 too hot", "[HIGH] P/pump_1 STILL ACTIVE: too hot"]);
}

// ---- old news ----

#[test]
fn three_hundred_alarms_of_an_outage_are_one_message_and_two_calls() {
    // RTE-08, AC-090: five days without the router, two alarms still stand
    let mut bench = Bench::new(&json!({}));
    for i in 0..300 {
        let alarm = bench.activate_later(&format!("asset_{i}"), Severity::High, i);
        if i % 150 != 0 {
            bench.clear(&alarm);
        }
    }
    bench.pass(11 * SECOND);
    let titles = bench.delivered("chat");
    assert_eq!(
        titles,
        [
            "[SUMMARY] P 300 alarms during outage, 2 still active",
            "[HIGH] P/asset_0 too hot",
            "[HIGH] P/asset_150 too hot",
        ]
    );
    bench.pass(HOUR);
    assert_eq!(bench.delivered("chat"), Vec::<String>::new());
}

impl Bench {
    /// An alarm of five days ago, a minute apart each.
    fn activate_later(&mut self, asset: &str, severity: Severity, i: i64) -> Notice {
        let at = self.now.wall.as_micros() - 5 * 24 * HOUR + i * MINUTE;
        let notice = Notice { at, activated_at: Some(at), ..self.alarm(asset, severity) };
        self.router.take(&notice, Some(Transition::Activated), self.now);
        notice
    }
}

#[test]
fn behind_an_outage_only_the_unseen_and_severe_are_called_for() {
    // RTE-08
    let mut bench = Bench::new(&json!({}));
    bench.activate_later("low", Severity::Low, 0);
    bench.activate_later("critical", Severity::Critical, 1);
    let seen = bench.activate_later("seen", Severity::High, 2);
    bench.ack(&seen);
    bench.pass(11 * SECOND);
    let job = bench.next("chat").unwrap();
    assert_eq!(bench.title(&job), "[SUMMARY] P 3 alarms during outage, 3 still active");
    // what changes while the summary is on its way counts
    bench.router.finished(&job, Outcome::Delivered, bench.now);
    bench.now.steady_ms += 1_000;
    assert_eq!(bench.delivered("chat"), ["[CRIT] P/critical too hot"]);
}

#[test]
fn a_destination_that_was_away_gets_one_summary() {
    // RTE-08, RTE-03: an hour without Slack; mail is not held up
    let mut bench = Bench::new(&json!({ "routes": [{ "destinations": ["chat", "mail"] }] }));
    for i in 0..8 {
        let alarm = bench.activate(&format!("pump_{i}"), Severity::High);
        assert_eq!(bench.delivered("mail").len(), 1, "mail is not held up");
        if i > 0 {
            bench.clear(&alarm);
        }
        for _ in 0..8 {
            bench.pass(MINUTE);
            if let Some(job) = bench.next("chat") {
                bench.router.finished(&job, later("connection refused"), bench.now);
            }
        }
    }
    bench.pass(20 * MINUTE);
    // the summary grows while it waits
    let titles = bench.settled("chat");
    assert_eq!(titles, ["[SUMMARY] P 8 alarms during outage, 1 still active", "[HIGH] P/pump_0 too hot"]);
}

impl Bench {
    /// Everything a destination gets within the next minutes.
    fn settled(&mut self, destination: &str) -> Vec<String> {
        let mut titles = Vec::new();
        for _ in 0..20 {
            titles.extend(self.delivered(destination));
            self.pass(30 * SECOND);
        }
        titles
    }
}

// ---- digests, groups, quiet hours, floods ----

#[test]
fn a_digest_comes_at_the_quarter_and_never_holds_critical() {
    // RTE-04
    let mut bench = Bench::new(&json!({ "routes": [{ "destinations": ["mail"], "digest_interval": "15min" }] }));
    bench.pass(7 * MINUTE);
    let gone = bench.activate("gone", Severity::Low);
    bench.activate("stays", Severity::Medium);
    bench.activate("urgent", Severity::Critical);
    assert_eq!(bench.delivered("mail"), ["[CRIT] P/urgent too hot"]);
    bench.pass(7 * MINUTE);
    bench.clear(&gone);
    let mut bench = bench.restart(); // a digest survives a restart
    assert_eq!(bench.delivered("mail"), Vec::<String>::new(), "12:14");
    bench.pass(MINUTE);
    assert_eq!(bench.delivered("mail"), ["[SUMMARY] P 2 alarms, 1 still active"], "12:15");
    bench.pass(15 * MINUTE);
    assert_eq!(bench.delivered("mail"), Vec::<String>::new(), "none if empty");
}

#[test]
fn what_comes_together_is_one_message() {
    // RTE-04
    let mut bench = Bench::new(&json!({ "routes": [{ "destinations": ["chat"], "group_by": ["area", "type"] }] }));
    bench.activate("pump_1", Severity::High);
    bench.pass(20 * SECOND);
    bench.activate("pump_2", Severity::High);
    assert_eq!(bench.delivered("chat"), Vec::<String>::new(), "waits 30 s for company");
    bench.pass(10 * SECOND);
    assert_eq!(bench.delivered("chat"), ["[SUMMARY] P 2 alarms, 2 active"]);
    bench.activate("pump_3", Severity::High);
    bench.pass(4 * MINUTE);
    assert_eq!(bench.delivered("chat"), Vec::<String>::new(), "the next one 5 min later");
    bench.pass(MINUTE);
    assert_eq!(bench.delivered("chat"), ["[HIGH] P/pump_3 too hot"], "alone it is a message like any other");
}

#[test]
fn at_night_only_what_cannot_wait_is_told() {
    // RTE-07, AC-093: 03:00 in Berlin
    let quiet = json!({ "type": "slack", "url": "https://hooks.slack.example/x", "quiet_hours": { "from": "22:00", "to": "06:00" } });
    let mut bench = Bench::new(&json!({ "destinations": { "chat": quiet } })).at("2026-03-07T02:00:00Z");
    bench.activate("low", Severity::Low);
    bench.activate("medium", Severity::Medium);
    bench.activate("high", Severity::High);
    bench.activate("critical", Severity::Critical);
    assert_eq!(bench.delivered("chat"), ["[CRIT] P/critical too hot", "[HIGH] P/high too hot"]);
    bench.pass(3 * HOUR - SECOND);
    assert_eq!(bench.delivered("chat"), Vec::<String>::new(), "05:59:59");
    bench.pass(SECOND);
    assert_eq!(bench.delivered("chat"), ["[SUMMARY] P 2 alarms during quiet hours, 2 still active"]);
}

#[test]
fn a_flood_is_summed_up_and_critical_comes_singly_for_a_while() {
    // RTE-05
    let mut bench = Bench::new(&json!({}));
    for i in 0..40 {
        bench.activate(&format!("pump_{i}"), Severity::High);
    }
    for i in 0..8 {
        bench.activate(&format!("boiler_{i}"), Severity::Critical);
    }
    let titles = bench.delivered("chat");
    assert_eq!(titles.iter().filter(|title| title.starts_with("[HIGH]")).count(), 10);
    assert_eq!(titles.iter().filter(|title| title.starts_with("[CRIT]")).count(), 5, "up to 5 a minute");
    bench.pass(5 * MINUTE);
    assert_eq!(bench.delivered("chat"), ["[SUMMARY] P ALARM FLOOD: 33 more alarms, 33 still active"]);
    bench.activate("pump_99", Severity::High);
    bench.pass(5 * MINUTE);
    assert_eq!(bench.delivered("chat").len(), 1, "one summary per 5 min");
    bench.pass(10 * MINUTE);
    bench.activate("pump_100", Severity::High);
    assert_eq!(bench.delivered("chat"), ["[HIGH] P/pump_100 too hot"], "the flood is over");
}

#[test]
fn a_telephone_gets_ten_messages_an_hour() {
    // the SMS contract
    let mut bench = Bench::new(&json!({ "routes": [{ "destinations": ["phone"] }] }));
    let mut count = 0;
    for minute in 0..60 {
        bench.activate(&format!("pump_{minute}"), Severity::Critical);
        count += bench.delivered("phone").len();
        bench.pass(MINUTE);
    }
    count += bench.delivered("phone").len();
    assert!((10..=12).contains(&count), "{count}");
}

// ---- escalation ----

#[test]
fn nobody_acknowledges_and_the_next_one_is_called() {
    // RTE-06
    let ladder = json!({ "routes": [{ "destinations": ["chat"], "escalation_repeat": "20min", "escalation": [
        { "after": "5min", "destinations": ["mail"] }, { "after": "15min", "destinations": ["phone"] } ] }] });
    let mut bench = Bench::new(&ladder);
    let alarm = bench.activate("pump_1", Severity::High);
    bench.pass(5 * MINUTE - SECOND);
    assert_eq!(bench.delivered("mail"), Vec::<String>::new());
    let mut bench = bench.restart(); // timers survive
    bench.pass(SECOND);
    assert_eq!(bench.delivered("mail"), ["[HIGH] P/pump_1 NOT ACKNOWLEDGED for 5 min: too hot"]);
    bench.clear(&alarm); // gone, and still nobody has seen it
    bench.pass(10 * MINUTE);
    assert_eq!(bench.delivered("phone").len(), 1);
    bench.pass(25 * MINUTE);
    assert_eq!(bench.delivered("mail").len(), 1, "from the beginning");
    bench.ack(&alarm);
    bench.pass(2 * HOUR);
    assert_eq!((bench.delivered("mail").len(), bench.delivered("phone").len()), (0, 0), "seen");
}

#[test]
fn an_incident_that_an_escalation_opened_is_closed() {
    // RTE-06, the PagerDuty contract
    let ladder = json!({ "routes": [{ "destinations": ["chat"],
        "escalation": [{ "after": "5min", "destinations": ["oncall"] }] }] });
    let mut bench = Bench::new(&ladder);
    let (seen, soon) = (bench.activate("pump_1", Severity::High), bench.activate("pump_2", Severity::High));
    bench.ack(&soon);
    bench.pass(5 * MINUTE);
    bench.ack(&seen);
    bench.clear(&seen);
    bench.clear(&soon);
    let told = bench.delivered("oncall");
    assert_eq!(told.len(), 3, "called, acknowledged, over; and nothing of the one that was seen in time: {told:?}");
}

#[test]
fn an_escalation_ends_with_the_condition_where_that_is_wished() {
    // RTE-06
    let ladder = json!({ "routes": [{ "destinations": ["chat"], "escalation_stops_on_clear": true,
        "escalation": [{ "after": "5min", "destinations": ["mail"] }] }] });
    let mut bench = Bench::new(&ladder);
    let alarm = bench.activate("pump_1", Severity::High);
    bench.clear(&alarm);
    bench.pass(HOUR);
    assert_eq!(bench.delivered("mail"), Vec::<String>::new());
}

// ---- outboxes ----

#[test]
fn patience_and_refusals() {
    // RTE-09, AC-091
    let mut bench = Bench::new(&json!({
        "destinations": { "oncall": { "type": "pagerduty", "routing_key": { "secret": "pd" }, "fallback": "mail" } },
        "routes": [{ "destinations": ["chat", "oncall"] }],
    }));
    bench.activate("pump_1", Severity::Critical);
    let slack = bench.next("chat").unwrap();
    let busy = Outcome::Later { reason: "HTTP 429".to_owned(), after: Some(std::time::Duration::from_secs(30)) };
    bench.router.finished(&slack, busy, bench.now);
    let pager = bench.next("oncall").unwrap();
    bench.router.finished(&pager, Outcome::Refused { reason: "HTTP 400".to_owned() }, bench.now);

    let letters: Vec<_> =
        bench.router.state().letters.iter().map(|(id, letter)| (id.to_owned(), letter.clone())).collect();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].1.destination.as_str(), letters[0].1.fallback.as_deref()), ("oncall", Some("mail")));
    let given_up = |bench: &Bench| -> Vec<(String, String)> {
        let standings = bench.router.standings().into_iter();
        standings.filter_map(|standing| Some((standing.name, standing.given_up?))).collect()
    };
    assert_eq!(given_up(&bench), [("oncall".to_owned(), "HTTP 400".to_owned())], "for the gateway's own alarm");
    assert_eq!(bench.delivered("mail"), ["[CRIT] P/pump_1 too hot"], "told instead");
    bench.router.letter_written(&letters[0].0);
    assert!(bench.router.state().letters.is_empty());

    bench.pass(28 * SECOND); // another second went by while the mail was delivered
    assert!(bench.next("chat").is_none(), "asked to wait 30 s");
    bench.pass(SECOND);
    let again = bench.next("chat").unwrap();
    assert_eq!(again.item.id, slack.item.id);

    let mut bench = bench.restart();
    assert_eq!(given_up(&bench).len(), 1, "not forgotten by a restart");
    bench.activate("pump_2", Severity::Critical);
    bench.delivered("oncall");
    assert_eq!(given_up(&bench), [], "until it takes one again");
}

#[test]
fn what_cannot_be_delivered_in_time_is_a_letter_and_the_fallback() {
    // RTE-09: an hour for SMS
    let phone = json!({ "type": "sms", "provider": "json", "url": "https://sms.example", "from": "p",
        "to": ["+4915112345678"], "fallback": "chat" });
    let mut bench =
        Bench::new(&json!({ "destinations": { "phone": phone }, "routes": [{ "destinations": ["phone"] }] }));
    bench.activate("pump_1", Severity::Critical);
    let mut tries = 0;
    for _ in 0..3_700 {
        bench.pass(SECOND);
        if let Some(job) = bench.next("phone") {
            tries += 1;
            bench.router.finished(&job, later("no answer"), bench.now);
        }
    }
    assert!((10..=130).contains(&tries), "{tries} tries in an hour");
    let letters: Vec<_> = bench.router.state().letters.iter().map(|(_, letter)| letter.reason.clone()).collect();
    assert_eq!(letters, ["not delivered in time: no answer"]);
    let told = bench.settled("chat");
    assert_eq!(told, ["[SUMMARY] P 1 alarm during outage, 1 still active", "[CRIT] P/pump_1 too hot"], "the fallback");
    assert!(bench.router.state().items.is_empty());
}

#[test]
fn five_failures_leave_a_destination_alone_for_half_a_minute() {
    // RTE-03
    let mut bench = Bench::new(&json!({}));
    for i in 0..9 {
        bench.activate(&format!("pump_{i}"), Severity::High);
    }
    for _ in 0..5 {
        let job = bench.next("chat").unwrap();
        bench.router.finished(&job, later("connection refused"), bench.now);
    }
    assert!(bench.next("chat").is_none());
    let standing = bench.router.standings().into_iter().find(|to| to.name == "chat").unwrap();
    assert_eq!((standing.breaker, standing.waiting), ("open", 9));
    assert_eq!(standing.trouble.unwrap().reason, "connection refused");
    bench.pass(30 * SECOND);
    assert!(bench.next("chat").is_some(), "one trial");
}

#[test]
fn an_end_does_not_overtake_its_beginning_and_critical_goes_first() {
    let mut bench = Bench::new(&json!({ "routes": [{ "destinations": ["oncall"] }] }));
    let low = bench.activate("low", Severity::Low);
    bench.clear(&low);
    bench.activate("critical", Severity::Critical);
    let first = bench.next("oncall").unwrap();
    assert_eq!(bench.title(&first), "[CRIT] P/critical too hot");
    bench.router.finished(&first, Outcome::Delivered, bench.now);
    let begun = bench.next("oncall").unwrap();
    bench.router.finished(&begun, later("HTTP 500"), bench.now);
    assert!(bench.next("oncall").is_none(), "the end waits for the beginning");
}

#[test]
fn who_left_the_configuration_leaves_a_letter_behind() {
    let mut bench = Bench::new(&json!({}));
    bench.activate("pump_1", Severity::High);
    let other = json!({ "routes": [{ "destinations": ["mail"] }] });
    let mut without = settings(&other);
    without["destinations"].as_object_mut().unwrap().remove("chat");
    let mut state = State::default();
    for change in bench.router.state().all() {
        state.apply(change).unwrap();
    }
    let router = Router::new(plan(&without, "").unwrap(), state, bench.now);
    assert!(router.state().items.is_empty());
    assert_eq!(router.state().letters.len(), 1);
}

// ---- dry run ----

#[test]
fn a_dry_run_says_who_would_be_told_and_when() {
    // RTE-11: a LOW and a CRITICAL at 03:00 on a Sunday
    let quiet = json!({ "type": "slack", "url": "https://hooks.slack.example/x", "quiet_hours": { "from": "22:00", "to": "06:00" } });
    let plan = plan(
        &settings(&json!({
            "destinations": { "chat": quiet },
            "routes": [{ "name": "all", "destinations": ["chat", "oncall"],
                "escalation": [{ "after": "15min", "destinations": ["phone"] }] }],
        })),
        "",
    )
    .unwrap();
    let asked = |severity| {
        let asset = "pump_1".to_owned();
        let at = at("2026-03-08T02:00:00Z");
        let question = Question { severity, asset, area: None, group: None, transition: Transition::Activated, at };
        dry_run(&plan, &question)
            .into_iter()
            .map(|step| format!("{} {}", step.destination, step.when))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        asked(Severity::Low),
        [
            "chat quiet_hours at 2026-03-08 06:00:00 +01:00",
            "oncall at once",
            "phone when nobody acknowledged within 15min"
        ]
    );
    assert_eq!(asked(Severity::Critical)[0], "chat at once");
}
