//! Alarms and silences of a lane whose process is killed again and again, while readings come late: what was told is told
//! once, and nothing is left out (I3, F3, VAL-23, ALM-10).
//!
//! The process here does what the gateway's validator does, without a stream: it reads what has arrived, lets time pass
//! when there is nothing more, saves assets now and then, and commits. A kill takes what was not acknowledged, but for a
//! part that arrived all the same.

use std::collections::{BTreeMap, HashMap};

use config::rules::{Rule, Validation};
use model::{Classification, Quality, Reading, TextList, TextMap, Timestamp, Value, ValueType};
use pipeline::alarm::{Engine, Input, Now};
use pipeline::resume::Resume;
use pipeline::trail::Trail;
use pipeline::validate::{Judgement, LaneTime, Validator};
use proptest::prelude::*;

use crate::alarm::plant::settings;

const MS: i64 = 1000;
/// 2026-01-29T10:00:00Z.
const BEGIN: i64 = 1_769_680_800_000_000;
const ASSETS: [&str; 3] = ["a", "b", "c"];
const RULES: &str = "- {id: hi, parameter: t, type: hi, limit: 90, severity: HIGH, message: hot, on_delay_ms: 3000, \
                     off_delay_ms: 2000}\n- {id: silent, parameter: t, type: stale, severity: LOW, message: silent}";

/// A reading of the log, and when it arrived there.
#[derive(Debug, Clone)]
struct Entry {
    asset: usize,
    value: f64,
    gateway: i64,
    arrived: i64,
}

/// One life of the process.
#[derive(Debug, Clone)]
struct Life {
    /// Milliseconds between its polls.
    polls: Vec<i64>,
    commit_every: usize,
    saves: usize,
    /// Records that arrived although they were not acknowledged.
    arrived: usize,
    /// Milliseconds until the next one starts.
    down: i64,
}

#[derive(Debug, Clone)]
struct Told {
    name: String,
    /// Alarm, number, from, to; silences have none.
    alarm: Option<(String, i64, String, String)>,
    at: (i64, i64),
}

/// What outlives the process.
struct Kept {
    journal: Vec<Told>,
    committed: usize,
    place: LaneTime,
    mark: usize,
    saved: BTreeMap<String, (Vec<u8>, Vec<u8>)>,
}

struct Process<'l> {
    log: &'l [Entry],
    validator: Validator,
    engine: Engine,
    resume: Resume,
    trail: Trail<usize>,
    sent: Vec<Told>,
    handles: HashMap<usize, u32>,
    position: usize,
    /// Time of the lane when it was last seen to move, and of the wall then.
    idle: (i64, i64),
}

fn reading(entry: &Entry) -> Reading<'static> {
    Reading {
        asset_id: ASSETS[entry.asset],
        asset_path: None,
        parameter: "t",
        value: Value::Float(entry.value),
        value_type: ValueType::Float,
        value_label: None,
        unit: None,
        quality: Quality::Good,
        quality_reason: None,
        reasons: TextList::default(),
        classification: Classification::Telemetry,
        device_time: Timestamp::from_micros(entry.gateway),
        gateway_time: Timestamp::from_micros(entry.gateway),
        time_source: "DEVICE",
        clock_state: "SYNCED",
        clock_skew_ms: None,
        epoch: 1,
        seq: 0,
        flags: TextList::default(),
        metadata: TextMap::default(),
        tags: TextMap::default(),
    }
}

fn offset(position: usize) -> i64 {
    i64::try_from(position).expect("a short log")
}

fn now_at(steady: i64) -> Now {
    Now { steady, wall: Timestamp::from_micros(steady), wall_trusted: true }
}

impl<'l> Process<'l> {
    fn start(log: &'l [Entry], kept: &Kept, wall: i64) -> Self {
        let rule = Rule {
            id: "r".to_owned(),
            asset: "*".to_owned(),
            parameter: "*".to_owned(),
            expected_interval_ms: Some(2000),
            ..Rule::default()
        };
        let validation = Validation { rules: vec![rule], ..Validation::default() };
        let mut validator = Validator::new(&validation, 1, 100);
        let mut engine = Engine::new(&settings(RULES), "gw-1", 1);
        for (asset, (own, alarms)) in &kept.saved {
            assert!(validator.restore(0, asset, own));
            engine.restore_asset(0, asset, alarms).expect("what was saved is sound");
        }
        validator.begin_at(0, kept.place);
        engine.begin_at(0, kept.place.now);
        let mut resume = Resume::new(offset(kept.committed));
        for told in &kept.journal[kept.mark..] {
            resume.note_told(&told.name, Some(told.at));
        }
        let trail = Trail::begin(kept.place, kept.mark);
        let position = usize::try_from(kept.place.offset).expect("offsets begin at 0");
        let (sent, handles, idle) = (Vec::new(), HashMap::new(), (i64::MIN, wall));
        Self { log, validator, engine, resume, trail, sent, handles, position, idle }
    }

    /// Runs the engine and sends what it tells, then lets the lane be where it was told.
    fn tell(&mut self, steady: i64, run: impl FnOnce(&mut Engine, &mut dyn FnMut(&pipeline::alarm::Transition<'_>))) {
        let Self { validator, engine, resume, sent, .. } = self;
        let steady = engine.steady(0).map_or(steady, |reached| reached.max(steady));
        let (at, mut any) = ((validator.next(0), steady), false);
        run(engine, &mut |transition| {
            any = true;
            let alarm = &transition.alarm;
            let name = format!("{}#{}", alarm.alarm_key, alarm.seq);
            if resume.may_tell(&name) {
                let change = (alarm.change.from.to_owned(), alarm.change.to.to_owned());
                let alarm = Some((alarm.alarm_key.to_owned(), alarm.seq, change.0, change.1));
                sent.push(Told { name, alarm, at });
            }
        });
        engine.changed(0, &mut |asset| validator.touch(0, asset));
        if any {
            validator.reach(0, steady);
        }
    }

    /// Lets time pass: for good, or as a pause.
    fn pass(&mut self, until: i64, pause: bool) {
        let Self { validator, resume, sent, .. } = self;
        let (next, mut silent) = (validator.next(0), Vec::new());
        let mut tell = |stale: &pipeline::validate::Stale<'_>| {
            let name = format!("stale/{}/{}", stale.asset_id, stale.last_arrival.as_micros());
            silent.push((stale.asset_id.to_owned(), stale.now));
            if resume.may_tell(&name) {
                sent.push(Told { name, alarm: None, at: (next, stale.now) });
            }
        };
        if pause {
            validator.pause(0, until, &mut tell);
        } else {
            validator.advance(0, until, &mut tell);
        }
        let moment = self.validator.moment(0);
        for (asset, steady) in &silent {
            let asset = ASSETS.iter().position(|name| name == asset).expect("one of ours");
            let handle = self.handle(asset);
            self.tell(moment, |engine, out| engine.stale(0, handle, now_at(*steady), out));
        }
        if self.engine.next_deadline(0).is_some_and(|deadline| deadline <= moment) {
            self.tell(moment, |engine, out| engine.advance(0, now_at(moment), out));
        }
        if !silent.is_empty() {
            self.validator.reach(0, moment);
        }
    }

    fn handle(&mut self, asset: usize) -> u32 {
        let engine = &mut self.engine;
        *self.handles.entry(asset).or_insert_with(|| engine.watch(0, ASSETS[asset], "t"))
    }

    fn catch_up(&mut self, position: i64) {
        while let Some(steady) = self.resume.told_by(position) {
            self.pass(steady, false);
        }
    }

    /// Reads what has arrived, at most `most`, and lets time pass.
    fn poll(&mut self, wall: i64, most: usize) {
        let before = self.position;
        for _ in 0..most {
            let Some(entry) = self.log.get(self.position) else { break };
            if entry.arrived > wall {
                break;
            }
            let (offset, reading) = (offset(self.position), reading(entry));
            self.catch_up(offset);
            if self.validator.is_due(0, &reading) {
                let arrival = self.validator.arrival(0, &reading);
                self.pass(arrival, false);
            }
            let mut judged = Judgement::new(&reading);
            self.validator.judge_at(0, offset, &reading, &mut judged);
            self.position += 1;
            if judged.point.is_none() {
                continue; // its asset's state holds it
            }
            let input = Input {
                value: reading.value,
                unit: None,
                quality: judged.quality,
                reason: judged.reason,
                codes: judged.codes,
                device_time: judged.device_time,
                flags: reading.flags,
            };
            let (steady, handle) = (self.validator.now(0), self.handle(entry.asset));
            self.tell(steady, |engine, out| engine.reading(0, handle, now_at(steady), &input, out));
        }
        self.catch_up(offset(self.position));
        let now = self.validator.now(0);
        if self.idle.0 != now {
            self.idle = (now, wall);
        }
        let all_read = self.position >= self.log.partition_point(|e| e.arrived <= wall);
        if all_read && before == self.position && now != i64::MIN {
            self.pass(now.saturating_add(wall - self.idle.1), true);
        } else if before < self.position {
            self.pass(now, false);
        }
        let now = self.validator.now(0);
        if self.idle.0 != now {
            self.idle = (now, wall);
        }
    }

    /// Everything sent so far is acknowledged; saves some assets and commits.
    fn commit(&mut self, kept: &mut Kept, saves: usize) {
        kept.journal.append(&mut self.sent);
        for _ in 0..saves {
            let Some((asset, _)) = self.validator.unsaved(0) else { break };
            let asset = asset.to_owned();
            let (mut own, mut alarms) = (Vec::new(), Vec::new());
            self.validator.save(0, &asset, &mut own).expect("it is unsaved");
            self.engine.save_asset(0, &asset, &mut alarms);
            kept.saved.insert(asset, (own, alarms));
        }
        if self.position >= kept.committed {
            kept.committed = self.position;
            kept.place = self.validator.replay_from(0);
            kept.mark = self.trail.before(kept.place);
        }
        if self.position >= kept.committed && self.resume.has_told_all() {
            self.trail.note(self.validator.place(0), kept.journal.len());
        }
    }
}

/// Runs all lives, then one to the end; the journal, and what the alarms have come to.
fn run(log: &[Entry], lives: &[Life]) -> (Vec<Told>, BTreeMap<String, (i64, String)>) {
    let place = LaneTime { offset: 0, now: i64::MIN, shift: 0 };
    let mut kept = Kept { journal: Vec::new(), committed: 0, place, mark: 0, saved: BTreeMap::new() };
    let mut wall = BEGIN;
    for life in lives {
        let mut process = Process::start(log, &kept, wall);
        for (n, wait) in life.polls.iter().enumerate() {
            wall += wait * MS;
            process.poll(wall, 4);
            if n % life.commit_every == life.commit_every - 1 {
                process.commit(&mut kept, life.saves);
            }
        }
        kept.journal.extend(process.sent.into_iter().take(life.arrived));
        wall += life.down * MS;
    }
    let mut process = Process::start(log, &kept, wall);
    wall = wall.max(log.last().map_or(wall, |last| last.arrived));
    while process.position < log.len() {
        process.poll(wall, 4);
    }
    for _ in 0..40 {
        wall += 500 * MS;
        process.poll(wall, 4);
    }
    process.commit(&mut kept, usize::MAX);
    let mut states = BTreeMap::new();
    process.engine.alarms(now_at(process.validator.moment(0)), &mut |listed| {
        let alarm = &listed.alarm;
        if alarm.seq > 0 {
            states.insert(alarm.alarm_key.to_owned(), (alarm.seq, alarm.state.to_owned()));
        }
    });
    (kept.journal, states)
}

fn logs() -> impl Strategy<Value = Vec<Entry>> {
    let one = (0..ASSETS.len(), prop_oneof![Just(50.0), Just(95.0)], 0..2500_i64, prop_oneof![0..300_i64, 0..9000_i64]);
    prop::collection::vec(one, 1..60).prop_map(|raw| {
        let (mut gateway, mut arrived) = (BEGIN, BEGIN);
        raw.into_iter()
            .map(|(asset, value, gap, late)| {
                gateway += gap * MS;
                arrived = arrived.max(gateway + late * MS);
                Entry { asset, value, gateway, arrived }
            })
            .collect()
    })
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let polls = prop::collection::vec(50..700_i64, 1..30);
    let one = (polls, 1..8_usize, 0..3_usize, 0..6_usize, 0..5000_i64)
        .prop_map(|(polls, commit_every, saves, arrived, down)| Life { polls, commit_every, saves, arrived, down });
    prop::collection::vec(one, 0..8)
}

/// Every transition of every alarm is there once, each beginning where the one before ended.
fn check(journal: &[Told], states: &BTreeMap<String, (i64, String)>) -> Result<(), TestCaseError> {
    let mut seen: BTreeMap<&str, (i64, &str)> = BTreeMap::new();
    let mut names: Vec<&str> = journal.iter().map(|told| told.name.as_str()).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    prop_assert_eq!(names.len(), all, "something was told twice");
    for (key, seq, from, to) in journal.iter().filter_map(|told| told.alarm.as_ref()) {
        let last = seen.insert(key, (*seq, to)).unwrap_or((0, "NORMAL"));
        prop_assert_eq!(*seq, last.0 + 1, "{}#{} follows #{}", key, seq, last.0);
        prop_assert!(last.0 == 0 || last.1 == from, "{}#{} goes on from {} after {}", key, seq, from, last.1);
    }
    let ends: BTreeMap<String, (i64, String)> =
        seen.into_iter().map(|(key, (seq, state))| (key.to_owned(), (seq, state.to_owned()))).collect();
    prop_assert_eq!(&ends, states, "the journal ends where the alarms are");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_told_is_lost_or_told_twice(log in logs(), lives in lives()) {
        let (journal, states) = run(&log, &lives);
        check(&journal, &states)?;
    }
}
