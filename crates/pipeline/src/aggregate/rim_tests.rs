//! Tests of what happens when a window closes.

use std::collections::BTreeMap as Map;

use config::aggregation::{Averaging, PointRule};
use model::aggregate::Times;
use model::{Quality, Resolution, Value};
use proptest::prelude::*;

use super::super::lane::{Checkpoint, Lane, Restored};
use super::super::plan::Plans;
use super::super::totals::Extra;
use super::*;

const T0: i64 = 1_769_680_800_000_000;
const SECOND: i64 = 1_000_000;

/// A reading or, without a value, a stop; times behind [`T0`].
#[derive(Debug, Clone, Copy)]
struct Item {
    point: u8,
    device: i64,
    gateway: i64,
    value: Option<i32>,
}

/// What a lane wrote.
#[derive(Debug, Clone, PartialEq)]
struct Out {
    asset: String,
    kind: Kind,
    start: i64,
    end: i64,
    totals: Totals,
    held: Option<Held>,
    carry: Option<Held>,
    stops: Vec<i64>,
    revision: i64,
    from: i64,
    offset: i64,
    time: i64,
}

struct Bench {
    lane: Lane,
    shape: Shape,
    room: Room,
    kind: Kind,
    written: Vec<Out>,
}

fn plans(kind: Kind, max_hold_ms: i64) -> Plans {
    let rule = PointRule { kind: Some(kind), averaging: Averaging::Step, max_hold_ms, ..PointRule::default() };
    Plans::new(&config::Aggregation { points: vec![rule], ..config::Aggregation::default() })
}

fn value(kind: Kind, number: i32) -> Value<'static> {
    match kind {
        Kind::Bool => Value::Bool(number % 2 == 0),
        Kind::Enum => Value::Text(["idle", "run", "fault"][usize::try_from(number.rem_euclid(3)).unwrap()]),
        _ => Value::Int(i64::from(number)),
    }
}

impl Bench {
    fn new(kind: Kind, max_hold_ms: i64, parts: usize) -> Self {
        Self {
            lane: Lane::default(),
            shape: Shape::new(Resolution::Second, &plans(kind, max_hold_ms), 100_000_000, parts),
            room: Room { points: 100, windows: 100_000 },
            kind,
            written: Vec::new(),
        }
    }

    fn sample<'a>(&self, asset: &'a str, item: &Item, offset: i64) -> Sample<'a> {
        let time = Timestamp::from_micros(T0 + item.device);
        let input = match item.value {
            Some(number) => Input::Reading { value: value(self.kind, number), quality: Quality::Good, time },
            None => Input::Stop { time, since: time },
        };
        Sample {
            asset_id: asset,
            parameter: "p",
            unit: None,
            gateway_time: Timestamp::from_micros(T0 + item.gateway),
            offset,
            is_event: item.value.is_none(),
            input,
        }
    }

    /// Takes an item in, reading the readings of `log` again when they are asked for.
    fn feed(&mut self, log: &[Item], item: &Item, offset: i64) -> Taken {
        let asset = format!("a{}", item.point);
        let sample = self.sample(&asset, item, offset);
        let taken = self.take(&sample);
        let Taken::Incomplete { start, end, from, through } = taken else { return taken };
        let again: Vec<Sample<'_>> = log
            .iter()
            .filter(|item| item.value.is_some())
            .enumerate()
            .filter(|(at, other)| {
                let (at, time) = (i64::try_from(*at).unwrap(), T0 + other.device);
                let within = time >= start.as_micros() && time < end.as_micros();
                at >= from && at <= through && other.point == item.point && within
            })
            .map(|(_, other)| self.sample(&asset, other, 0))
            .collect();
        let inputs: Vec<Input<'_>> = again.iter().map(|sample| sample.input).collect();
        assert!(self.lane.complete(&self.shape, &asset, "p", start.as_micros(), &inputs), "{item:?}");
        self.take(&sample)
    }

    fn take(&mut self, sample: &Sample<'_>) -> Taken {
        let Self { lane, shape, room, written, .. } = self;
        let time = sample.gateway_time.as_micros();
        lane.sample(shape, room, sample, &mut |closed| written.push(out(closed, time)))
    }

    fn advance(&mut self, to: i64) {
        let Self { lane, shape, room, written, .. } = self;
        lane.advance(shape, room, T0 + to, &mut |closed| written.push(out(closed, T0 + to)));
    }

    fn restore(&mut self, window: &Out, mark: usize) {
        let Self { lane, shape, room, .. } = self;
        let restored = Restored {
            asset_id: &window.asset,
            parameter: "p",
            unit: None,
            kind: window.kind,
            start: Timestamp::from_micros(window.start),
            end: Timestamp::from_micros(window.end),
            partials: window.totals.partials(),
            partial: window.totals.partial,
            held: window.held.as_ref().map(|held| held.carry(0)),
            carry: window.carry.as_ref().map(|held| held.carry(0)),
            stops: Times::Slice(&window.stops),
            revision: window.revision,
            from_offset: window.from,
            offset: window.offset,
            gateway_time: Timestamp::from_micros(window.time),
            mark: i64::try_from(mark).unwrap(),
        };
        lane.was_emitted(shape, room, &restored);
    }
}

fn out(closed: &Closed<'_>, time: i64) -> Out {
    Out {
        asset: closed.asset_id.to_owned(),
        kind: closed.kind,
        start: closed.start.as_micros(),
        end: closed.end.as_micros(),
        totals: closed.totals.clone(),
        held: closed.held.as_ref().map(Held::of),
        carry: closed.carry.as_ref().map(Held::of),
        stops: closed.stops.to_vec(),
        revision: closed.revision,
        from: closed.from_offset,
        offset: closed.offset,
        time,
    }
}

/// The newest revision of every window that is not empty, in times of seconds behind [`T0`].
fn newest(written: &[Out]) -> Map<(String, i64), Out> {
    let mut newest: Map<(String, i64), Out> = Map::new();
    for window in written {
        let key = (window.asset.clone(), (window.start - T0) / SECOND);
        let before = newest.get(&key).map_or(0, |before| before.revision);
        assert_eq!(window.revision, before + 1, "{key:?}: revisions neither skip nor repeat");
        newest.insert(key, window.clone());
    }
    newest.retain(|_, window| !window.totals.is_empty());
    newest
}

/// Runs over the log with kills: after so many items, with the last outputs lost.
fn run(bench: &dyn Fn() -> Bench, log: &[Item], kills: &[(usize, usize)], commit_every: usize) -> Vec<Out> {
    let mut output: Vec<Out> = Vec::new();
    let mut committed = Checkpoint::START;
    let mut kills = kills.iter();
    loop {
        let mut run = bench();
        run.lane.resume(&committed);
        for (mark, window) in output.iter().enumerate().skip(usize::try_from(committed.mark).unwrap()) {
            run.restore(window, mark);
        }
        run.lane.note_output_end(i64::try_from(output.len()).unwrap());
        let kill = kills.next();
        let (steps, lost) = kill.copied().unwrap_or((usize::MAX, 0));
        let begun = output.len();
        let mut acknowledged = begun;
        let mut taken = 0;
        let (mut next, mut next_event) = (0, 0);
        for item in log {
            let offset = if item.value.is_some() { &mut next } else { &mut next_event };
            let first = if item.value.is_some() { committed.offset } else { committed.event_offset };
            let this = *offset;
            *offset += 1;
            if this < first {
                continue;
            }
            if taken == steps {
                break;
            }
            taken += 1;
            let result = run.feed(log, item, this);
            assert!(matches!(result, Taken::Added | Taken::Known), "{result:?} {item:?}");
            if taken % commit_every == 0 && taken < steps {
                acknowledged = begun + run.written.len();
                committed = run.lane.checkpoint(next, next_event);
                run.lane.note_output_end(i64::try_from(acknowledged).unwrap());
            }
        }
        if kill.is_none() {
            run.advance(100_000 * SECOND);
        }
        output.extend(run.written);
        if kill.is_none() {
            return output;
        }
        output.truncate(output.len().saturating_sub(lost).max(acknowledged));
    }
}

fn log(items: &[(u8, i64, Option<i32>)], tick: i64) -> Vec<Item> {
    let at = |(i, (point, delay, value)): (usize, &(u8, i64, Option<i32>))| {
        let gateway = i64::try_from(i).unwrap() * tick + 300 * SECOND;
        Item { point: *point, device: (gateway - delay) / 1000 * 1000, gateway, value: *value }
    };
    items.iter().enumerate().map(at).collect()
}

fn items() -> impl Strategy<Value = Vec<(u8, i64, Option<i32>)>> {
    let delay = prop_oneof![5 => 0_i64..4 * SECOND, 1 => 4 * SECOND..200 * SECOND];
    let value = prop_oneof![5 => (0_i32..1000).prop_map(Some), 1 => Just(None)];
    prop::collection::vec((0_u8..3, delay, value), 1..80)
}

/// The windows computed directly: all readings of a point in order, window by window.
fn direct(log: &[Item], kind: Kind, max_hold_ms: i64) -> Map<(String, i64), Totals> {
    let plans = plans(kind, max_hold_ms);
    let mut windows = Map::new();
    for point in 0..3_u8 {
        let of_point: Vec<&Item> = log.iter().filter(|item| item.point == point).collect();
        let mut held = None;
        let last = of_point.iter().map(|item| item.device).max().unwrap_or(0) / SECOND + max_hold_ms / 1000 + 2;
        for second in 0..=last {
            let (start, end) = (T0 + second * SECOND, T0 + (second + 1) * SECOND);
            let frame = Frame { plan: plans.get(0), kind, start, end };
            let mut series = Series::default();
            for item in of_point.iter().filter(|item| item.device / SECOND == second) {
                let time = Timestamp::from_micros(T0 + item.device);
                match item.value {
                    Some(number) => {
                        let value = value(kind, number);
                        series.add(super::super::series::Moment::new(kind, &value, Quality::Good, time, None));
                    }
                    None => {
                        series.stop(time.as_micros());
                    }
                }
            }
            let (totals, carry) = series.fold(&frame, held.as_ref(), None);
            if !totals.is_empty() {
                windows.insert((format!("a{point}"), second), totals);
            }
            held = carry;
        }
    }
    windows
}

fn same(ours: &Totals, direct: &Totals) -> bool {
    let integral = |totals: &Totals| totals.coverage.unwrap().integral.unwrap_or(0.0);
    let times = |totals: &Totals| match &totals.extra {
        Extra::States(states) => {
            let mut times = states.times.clone();
            times.sort();
            (states.transitions, times)
        }
        _ => (0, Vec::new()),
    };
    let (a, b) = (ours.coverage.unwrap(), direct.coverage.unwrap());
    ours.statistics.count == direct.statistics.count
        && (a.covered_us, a.good_us) == (b.covered_us, b.good_us)
        && (integral(ours) - integral(direct)).abs() <= 1e-9 * (1e6 + integral(direct).abs())
        && times(ours) == times(direct)
        && ours.statistics.last == direct.statistics.last
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn late_data_and_kills_end_in_the_direct_computation(
        items in items(),
        tick in SECOND / 20..3 * SECOND,
        hold_ms in prop_oneof![500_i64..5000, Just(60_000_i64)],
        kills in prop::collection::vec((1_usize..60, 0_usize..60), 0..8),
        commit_every in 1_usize..40,
        parts in prop_oneof![Just(100_000_usize), 0..10_usize],
        kind in prop_oneof![Just(Kind::Value), Just(Kind::Bool), Just(Kind::Enum)],
    ) {
        // AC-077, AGG-06, AGG-07, AGG-09, AGG-11: whatever the order of arrival and however often it is killed
        let log = log(&items, tick);
        let bench = || Bench::new(kind, hold_ms, parts);
        let direct = direct(&log, kind, hold_ms);
        for kills in [&[][..], &kills[..]] {
            let found = newest(&run(&bench, &log, kills, commit_every));
            for (key, window) in &found {
                prop_assert!(direct.contains_key(key), "{key:?} {:?} {:?}", window, kills);
            }
            prop_assert_eq!(
                found.keys().collect::<Vec<_>>(), direct.keys().collect::<Vec<_>>(), "kills {:?}", kills
            );
            for (key, window) in &found {
                prop_assert!(same(&window.totals, &direct[key]), "{key:?} {:?} {:?}", window, direct[key]);
            }
        }
    }

    #[test]
    fn a_counter_loses_and_doubles_nothing(
        items in items(),
        tick in SECOND / 20..3 * SECOND,
        kills in prop::collection::vec((1_usize..60, 0_usize..60), 0..8),
        commit_every in 1_usize..40,
        parts in prop_oneof![Just(100_000_usize), 0..10_usize],
    ) {
        // AC-077, AGG-06, AGG-10: an ever growing counter; all windows together are its growth
        let mut log = log(&items, tick);
        log.retain(|item| item.value.is_some());
        for item in &mut log {
            item.value = Some(i32::try_from(item.device / 1000).unwrap());
        }
        let bench = || Bench::new(Kind::Counter, 60_000, parts);
        for kills in [&[][..], &kills[..]] {
            let found = newest(&run(&bench, &log, kills, commit_every));
            for point in 0..3_u8 {
                let asset = format!("a{point}");
                let delta = |window: &Out| match window.totals.extra {
                    Extra::Counter(counts) => counts.delta,
                    _ => 0.0,
                };
                let windows = found.values().filter(|window| window.asset == asset);
                let counted: f64 = windows.map(delta).sum();
                let of_point = || log.iter().filter(|item| item.point == point).map(|item| item.device / 1000);
                let growth = of_point().max().unwrap_or(0) - of_point().min().unwrap_or(0);
                let growth = f64::from(i32::try_from(growth).unwrap());
                prop_assert!((counted - growth).abs() <= 1e-6, "{asset} counted {counted} of {growth}, {kills:?}");
            }
        }
    }
}
