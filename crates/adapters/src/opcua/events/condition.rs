//! What is held of the server's conditions, and when something about one of them is news (UA-27, UA-28, AC-044).
//!
//! Pure: it is handed reports and the time. Invariants:
//! - An event told before, by its id, is not told again.
//! - After a refresh exactly those conditions are held that it told of; one that was held active and is not among them has
//!   ended, and is told so once.
//! - Nothing that was there before a refresh began is news for a person (`quiet`); what happens while it runs is.
//!
//! The memory of a gateway is the alarm engine's, not this one: what is held here ends with the process. The first refresh
//! of a source therefore tells everything, and that it was everything (`whole`), and whoever has a memory compares.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{AlarmState, Timestamp};
use tokio::time::Instant;

use super::report::{Condition, Report};

/// Conditions held; of more only those events are told that come by themselves, and the next refresh is a whole one.
pub const CONDITIONS_MAX: usize = 20_000;
/// A refresh whose end does not come in this time has none: events are news again.
const REFRESH_MAX: Duration = Duration::from_secs(300);

/// One that is held.
#[derive(Debug, Clone)]
struct Held {
    source: usize,
    event_id: Box<[u8]>,
    state: AlarmState,
    is_active: bool,
    /// Number of the newest refresh at the time it was mentioned last.
    seen: u64,
    /// For the last word about it.
    about: Box<Report>,
}

/// A refresh under way.
#[derive(Debug, Clone, Copy)]
struct Phase {
    number: u64,
    began: Instant,
    /// By the server's clock; none if it does not say.
    at: Option<Timestamp>,
    /// What was told before it has this number or a lower one.
    since: u64,
}

/// What a report means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Said before.
    Repeated,
    News(News),
}

/// Something to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// None if it was not held.
    pub from: Option<AlarmState>,
    pub to: AlarmState,
    /// It was so before; nobody is to be called.
    pub quiet: bool,
    /// Counts what is told about conditions by this process.
    pub order: u64,
}

/// What a refresh leaves behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Refreshed {
    /// Everything the source holds was told, with numbers above `since`: what somebody remembers otherwise is over.
    pub whole: bool,
    pub since: u64,
    pub order: u64,
    /// Conditions of the source that are held now.
    pub held: usize,
    /// Held active, not told of: they are over (AC-044).
    pub ended: Vec<(Report, News)>,
}

/// The conditions of a server.
#[derive(Debug, Default)]
pub struct Conditions {
    held: BTreeMap<Box<str>, Held>,
    /// By source.
    phases: BTreeMap<usize, Phase>,
    /// Sources that had a whole refresh, so that what is held is everything.
    known: Vec<usize>,
    refreshes: u64,
    order: u64,
}

impl Conditions {
    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// True while its low severity must not leave an event of it out.
    pub fn holds(&self, condition: &Condition) -> bool {
        self.held.contains_key(condition.identity.as_str())
    }

    /// A report about a condition.
    pub fn take(&mut self, source: usize, report: &Report, condition: &Condition, now: Instant) -> Outcome {
        let phase = self.phase(source, now);
        let (seen, whole) = (self.refreshes, !self.known.contains(&source));
        let before = self.held.get_mut(condition.identity.as_str());
        if let Some(held) = before.filter(|held| !held.event_id.is_empty() && *held.event_id == *report.event_id) {
            held.seen = seen;
            // whoever compares with a whole refresh needs to hear of it
            if !(whole && phase.is_some()) {
                return Outcome::Repeated;
            }
        }
        let from = self.held.get(condition.identity.as_str()).map(|held| held.state);
        let facts = condition.facts;
        let to = facts.state();
        self.hold(source, report, condition, seen);
        self.order += 1;
        let was_before = |phase: Phase| phase.at.is_none_or(|at| report.when.time <= at);
        let quiet = phase.is_some_and(was_before) || from == Some(to);
        Outcome::News(News { from, to, quiet, order: self.order })
    }

    /// Keeps what will be asked for, forgets what is over.
    fn hold(&mut self, source: usize, report: &Report, condition: &Condition, seen: u64) {
        let facts = condition.facts;
        let key = condition.identity.as_str();
        // a disabled one is not retained either, and is worth keeping: it is SUPPRESSED until it is enabled
        if facts.retain == Some(false) && facts.enabled != Some(false) {
            self.held.remove(key);
            return;
        }
        let is_new = !self.held.contains_key(key);
        if is_new && self.held.len() >= CONDITIONS_MAX {
            self.known.retain(|known| *known != source);
            return;
        }
        // it stays with the source that told of it first: another one may see only a part
        let source = self.held.get(key).map_or(source, |held| held.source);
        let held = Held {
            source,
            event_id: report.event_id.as_slice().into(),
            state: facts.state(),
            is_active: facts.is_active(),
            seen,
            about: Box::new(report.clone()),
        };
        self.held.insert(key.into(), held);
    }

    fn phase(&mut self, source: usize, now: Instant) -> Option<Phase> {
        let phase = self.phases.get(&source).copied()?;
        if now < phase.began + REFRESH_MAX {
            return Some(phase);
        }
        self.phases.remove(&source);
        None
    }

    /// The server begins to tell everything; `at` is its time.
    pub fn refresh_started(&mut self, source: usize, at: Option<Timestamp>, now: Instant) {
        self.refreshes += 1;
        let phase = Phase { number: self.refreshes, began: now, at, since: self.order };
        self.phases.insert(source, phase);
    }

    /// Something the server said was lost on the way: what it told so far is not everything, and its end means nothing.
    pub fn refresh_torn(&mut self, source: usize) {
        self.phases.remove(&source);
    }

    /// That was everything. None if it never began, or is torn.
    pub fn refresh_ended(&mut self, source: usize, now: Instant) -> Option<Refreshed> {
        let phase = self.phase(source, now)?;
        self.phases.remove(&source);
        let whole = !self.known.contains(&source);
        let was_told = |held: &Held| held.source != source || held.seen >= phase.number;
        let stays = |held: &Held| was_told(held) || (!held.is_active && held.state == AlarmState::Suppressed);
        let gone: Vec<Box<str>> =
            self.held.iter().filter(|(_, held)| !stays(held)).map(|(key, _)| key.clone()).collect();
        let mut ended = Vec::new();
        for key in gone {
            let Some(held) = self.held.remove(&key) else { continue };
            if held.is_active {
                self.order += 1;
                let news = News { from: Some(held.state), to: AlarmState::Cleared, quiet: true, order: self.order };
                ended.push((*held.about, news));
            }
        }
        if whole && self.held.len() < CONDITIONS_MAX {
            self.known.push(source);
        }
        self.order += 1;
        let held = self.held.values().filter(|held| held.source == source).count();
        Some(Refreshed { whole, since: phase.since, order: self.order, held, ended })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::opcua::events::report::{Facts, Kind, Moment};
    use model::time_source;

    /// A condition as a server knows it.
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Real {
        active: bool,
        acked: bool,
        event: u32,
        at: i64,
    }

    fn name(condition: usize) -> String {
        format!("c{condition}")
    }

    fn report(condition: usize, real: Real) -> (Report, Condition) {
        let retain = Some(real.active || !real.acked);
        let facts = Facts { retain, active: Some(real.active), acked: Some(real.acked), ..Facts::default() };
        let condition = Condition {
            identity: name(condition),
            condition_id: name(condition),
            branch_id: String::new(),
            name: name(condition),
            facts,
            status: None,
            comment: String::new(),
            client_user: String::new(),
        };
        let report = Report {
            kind: Kind::Plain,
            event_id: real.event.to_le_bytes().to_vec(),
            event_type: String::new(),
            source_node: String::new(),
            source_name: String::new(),
            when: Moment {
                time: Timestamp::from_millis(real.at),
                source: time_source::DEVICE,
                finding: None,
                raw: None,
            },
            received: None,
            message: String::new(),
            severity: 500,
            condition: Some(condition.clone()),
            fields: Vec::new(),
        };
        (report, condition)
    }

    fn take(table: &mut Conditions, condition: usize, real: Real, now: Instant) -> Outcome {
        let (report, condition) = report(condition, real);
        table.take(0, &report, &condition, now)
    }

    fn real(active: bool, acked: bool, event: u32, at: i64) -> Real {
        Real { active, acked, event, at }
    }

    fn news(outcome: Outcome) -> (Option<AlarmState>, AlarmState, bool) {
        match outcome {
            Outcome::News(News { from, to, quiet, .. }) => (from, to, quiet),
            Outcome::Repeated => panic!("said before"),
        }
    }

    /// A refresh that tells of these, and its end.
    fn refresh(table: &mut Conditions, told: &[(usize, Real)], at: i64, now: Instant) -> Refreshed {
        table.refresh_started(0, Some(Timestamp::from_millis(at)), now);
        for (condition, real) in told {
            take(table, *condition, *real, now);
        }
        table.refresh_ended(0, now).unwrap()
    }

    // UA-28, AC-044
    #[tokio::test(start_paused = true)]
    async fn a_refresh_that_omits_an_active_one_ends_it_and_calls_nobody() {
        let (mut table, now) = (Conditions::default(), Instant::now());
        let (one, two) = (real(true, false, 1, 10), real(true, false, 2, 11));
        let first = refresh(&mut table, &[(1, one), (2, two)], 100, now);
        assert!((first.whole, first.since, first.held, first.ended.len()) == (true, 0, 2, 0), "{first:?}");
        assert_eq!(take(&mut table, 1, one, now), Outcome::Repeated);
        let second = refresh(&mut table, &[(2, two)], 200, now);
        let ended: Vec<(&str, News)> = second
            .ended
            .iter()
            .map(|(about, news)| (about.condition.as_ref().unwrap().identity.as_str(), *news))
            .collect();
        let expected =
            News { from: Some(AlarmState::Active), to: AlarmState::Cleared, quiet: true, order: ended[0].1.order };
        assert_eq!((ended, second.whole, second.held), (vec![("c1", expected)], false, 1));
        assert!(refresh(&mut table, &[(2, two)], 300, now).ended.is_empty(), "told once");
        assert_eq!(table.refresh_ended(0, now), None, "it never began");
    }

    // UA-28: the server's queue was too short for all it had to tell
    #[tokio::test(start_paused = true)]
    async fn a_refresh_that_was_torn_ends_nothing() {
        let (mut table, now) = (Conditions::default(), Instant::now());
        let told = [(1, real(true, false, 1, 10)), (2, real(true, false, 2, 11))];
        refresh(&mut table, &told, 100, now);
        table.refresh_started(0, Some(Timestamp::from_millis(200)), now);
        table.refresh_torn(0);
        take(&mut table, 2, told[1].1, now);
        assert_eq!((table.refresh_ended(0, now), table.len()), (None, 2), "the first one may be there");
        assert!(refresh(&mut table, &told, 300, now).ended.is_empty());
    }

    // UA-28: what was so before is no call, what happens while the server tells is one
    #[tokio::test(start_paused = true)]
    async fn what_happens_while_a_refresh_runs_is_news() {
        let (mut table, now) = (Conditions::default(), Instant::now());
        table.refresh_started(0, Some(Timestamp::from_millis(100)), now);
        let before = news(take(&mut table, 1, real(true, false, 1, 99), now));
        assert_eq!(before, (None, AlarmState::Active, true));
        let meanwhile = news(take(&mut table, 2, real(true, false, 2, 101), now));
        assert_eq!(meanwhile, (None, AlarmState::Active, false));
        table.refresh_ended(0, now).unwrap();
        assert!(!news(take(&mut table, 3, real(true, false, 3, 50), now)).2, "an old time alone is no refresh");
        table.refresh_started(0, None, now);
        assert!(news(take(&mut table, 4, real(true, false, 4, 500), now)).2);
        let later = now + REFRESH_MAX;
        assert!(!news(take(&mut table, 5, real(true, false, 5, 500), later)).2, "a refresh without an end is over");
        assert_eq!(table.refresh_ended(0, later), None);
    }

    // UA-29: what is over is forgotten, with the acknowledgement told
    #[tokio::test(start_paused = true)]
    async fn one_that_is_not_retained_is_over() {
        let (mut table, now) = (Conditions::default(), Instant::now());
        take(&mut table, 1, real(true, false, 1, 1), now);
        assert_eq!(news(take(&mut table, 1, real(false, false, 2, 2), now)).1, AlarmState::Cleared);
        assert_eq!(table.len(), 1, "it still waits to be acknowledged");
        take(&mut table, 1, real(false, true, 3, 3), now);
        assert!(table.is_empty());
        let again = news(take(&mut table, 1, real(true, false, 4, 4), now));
        assert_eq!(again, (None, AlarmState::Active, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_table_tells_on_and_makes_the_next_refresh_a_whole_one() {
        let (mut table, now) = (Conditions::default(), Instant::now());
        refresh(&mut table, &[], 0, now);
        for condition in 0..=CONDITIONS_MAX {
            let told = take(&mut table, condition, real(true, false, 1, 1), now);
            assert!(matches!(told, Outcome::News(_)));
        }
        assert_eq!(table.len(), CONDITIONS_MAX);
        let kept = refresh(&mut table, &[(0, real(true, false, 1, 1))], 10, now);
        assert!(kept.whole && kept.ended.len() == CONDITIONS_MAX - 1);
    }

    /// The same numbers every time.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, below: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % below
        }
    }

    /// Whoever has a memory: what is active by what was told, over restarts of the process.
    #[derive(Default)]
    struct Memory {
        /// With the number they were mentioned under, of this process.
        active: BTreeMap<String, u64>,
        calls: usize,
    }

    impl Memory {
        fn tell(&mut self, identity: &str, news: News) {
            let is_new = match news.to {
                AlarmState::Cleared => {
                    self.active.remove(identity);
                    false
                }
                _ => self.active.insert(identity.to_owned(), news.order).is_none(),
            };
            self.calls += usize::from(is_new && !news.quiet);
        }

        fn refreshed(&mut self, refreshed: &Refreshed) {
            for (report, news) in &refreshed.ended {
                self.tell(&report.condition.as_ref().unwrap().identity, *news);
            }
            if refreshed.whole {
                self.active.retain(|_, order| *order > refreshed.since);
            }
        }
    }

    // UA-27, UA-28, AC-044: histories with losses, repetitions and restarts; after each refresh everybody agrees with the
    // server, and nobody was called more often than something became active
    #[tokio::test(start_paused = true)]
    async fn after_a_refresh_everybody_knows_what_the_server_knows() {
        let now = Instant::now();
        for seed in 0..300 {
            let (mut dice, mut table, mut memory) = (Dice(seed), Conditions::default(), Memory::default());
            let mut server = [real(false, true, 0, 0); 6];
            let (mut events, mut activations, mut time) = (0, 0, 1_i64);
            let hear = |table: &mut Conditions, memory: &mut Memory, which: usize, real: Real| {
                if let Outcome::News(news) = take(table, which, real, now) {
                    memory.tell(&name(which), news);
                }
            };
            for _ in 0..120 {
                let which = usize::try_from(dice.roll(6)).unwrap();
                match dice.roll(10) {
                    0..=6 => {
                        let before = server[which];
                        let (active, acked) = match dice.roll(3) {
                            0 => (true, before.active && before.acked),
                            1 => (false, before.acked),
                            _ => (before.active, true),
                        };
                        (events, time) = (events + 1, time + 1);
                        activations += usize::from(active && !before.active);
                        server[which] = real(active, acked, events, time);
                        if dice.roll(3) > 0 {
                            hear(&mut table, &mut memory, which, server[which]);
                        }
                        if dice.roll(5) == 0 {
                            hear(&mut table, &mut memory, which, server[which]);
                        }
                    }
                    7 => {
                        // the process is another one
                        for order in memory.active.values_mut() {
                            *order = 0;
                        }
                        table = Conditions::default();
                    }
                    _ => {
                        time += 1;
                        table.refresh_started(0, Some(Timestamp::from_millis(time)), now);
                        for (which, real) in server.iter().enumerate() {
                            if real.active || !real.acked {
                                hear(&mut table, &mut memory, which, *real);
                            }
                        }
                        memory.refreshed(&table.refresh_ended(0, now).unwrap());
                        let active = |which: &usize| server[*which].active;
                        let expected: BTreeSet<String> = (0..6).filter(active).map(name).collect();
                        let held: BTreeSet<String> = table
                            .held
                            .iter()
                            .filter(|(_, held)| held.is_active)
                            .map(|(key, _)| key.to_string())
                            .collect();
                        let known: BTreeSet<String> = memory.active.keys().cloned().collect();
                        assert_eq!((&held, &known), (&expected, &expected), "seed {seed}");
                    }
                }
                assert!(memory.calls <= activations, "seed {seed}: {} calls, {activations} activations", memory.calls);
            }
        }
    }
}
