//! Tests of windows that open, close, change late and survive kills.

use super::*;
use config::Aggregation;
use model::Value;
use model::aggregate::Times;
use proptest::prelude::*;

use crate::aggregate::statistics::Accumulator;

const T0: i64 = 1_769_680_800_000_000;
const SECOND: i64 = 1_000_000;

fn sample(asset: &str, offset: i64, device: i64, gateway: i64, value: f64) -> Sample<'_> {
    let time = Timestamp::from_micros(T0 + device);
    Sample {
        asset_id: asset,
        parameter: "t",
        unit: Some("C"),
        gateway_time: Timestamp::from_micros(T0 + gateway),
        offset,
        is_event: false,
        input: Input::Reading { value: Value::Float(value), quality: Quality::Good, time },
    }
}

/// What a lane wrote.
#[derive(Debug, Clone, PartialEq)]
struct Out {
    asset: String,
    unit: Option<String>,
    /// In seconds behind [`T0`].
    start: i64,
    end: i64,
    kind: Kind,
    totals: Totals,
    held: Option<Held>,
    carry: Option<Held>,
    stops: Vec<i64>,
    revision: i64,
    from: i64,
    offset: i64,
    time: i64,
}

/// A lane with room for everything, and what it emitted.
struct Bench {
    lane: Lane,
    shape: Shape,
    room: Room,
    /// Asset, start in seconds, count.
    emitted: Vec<(String, i64, i64)>,
    written: Vec<Out>,
    /// What the output held at the start.
    before: Vec<Out>,
}

impl Bench {
    fn new() -> Self {
        Self::of(Resolution::Second)
    }

    fn of(resolution: Resolution) -> Self {
        Self {
            lane: Lane::default(),
            shape: Shape::new(resolution, &Plans::new(&Aggregation::default()), 10_000_000, 10_000),
            room: Room { points: 100, windows: 1000 },
            emitted: Vec::new(),
            written: Vec::new(),
            before: Vec::new(),
        }
    }

    fn take(&mut self, sample: &Sample<'_>) -> Taken {
        let Self { lane, shape, room, emitted, written, .. } = self;
        let time = sample.gateway_time.as_micros();
        lane.sample(shape, room, sample, &mut |closed| {
            emitted.push(entry(closed));
            written.push(out(closed, time));
        })
    }

    fn advance(&mut self, to: i64) {
        let Self { lane, shape, room, emitted, written, .. } = self;
        lane.advance(shape, room, T0 + to, &mut |closed| {
            emitted.push(entry(closed));
            written.push(out(closed, T0 + to));
        });
    }

    /// Takes an input in, reading windows back from the output when they are asked for.
    fn recalling(&mut self, sample: &Sample<'_>) -> Taken {
        let taken = self.take(sample);
        let Taken::Forgotten { start } = taken else { return taken };
        let stretch = self.lane.stretch(&self.shape, sample.asset_id, start.as_micros());
        let output = self.before.iter().chain(&self.written).cloned();
        let within = |window: &Out| window.asset == sample.asset_id && stretch.begins(T0 + window.start * SECOND);
        let newest: BTreeMap<i64, Out> = output.filter(within).map(|window| (window.start, window)).collect();
        let windows: Vec<Restored<'_>> = newest.values().map(|window| restored(window, 0)).collect();
        self.lane.recall(&self.shape, sample.asset_id, stretch, &windows);
        self.take(sample)
    }

    /// Takes an input in, reading children again from `log` when they are asked for.
    fn feed(&mut self, log: &[Out], offset: usize) -> Taken {
        let sample = child(&log[offset], offset);
        let taken = self.recalling(&sample);
        let Taken::Incomplete { start, end, from, through } = taken else { return taken };
        let range = usize::try_from(from).unwrap()..=usize::try_from(through).unwrap();
        let within = |other: &&Out| {
            let at = T0 + other.start * SECOND;
            other.asset == sample.asset_id && at >= start.as_micros() && at < end.as_micros()
        };
        let children: Vec<Input<'_>> = log[range].iter().filter(within).map(|other| child(other, 0).input).collect();
        assert!(self.lane.complete(&self.shape, sample.asset_id, "t", start.as_micros(), &children), "{sample:?}");
        self.take(&sample)
    }

    fn restore(&mut self, window: &Out, mark: usize) {
        self.lane.was_emitted(&self.shape, &mut self.room, &restored(window, mark));
    }
}

fn restored(window: &Out, mark: usize) -> Restored<'_> {
    Restored {
        asset_id: &window.asset,
        parameter: "t",
        unit: window.unit.as_deref(),
        start: Timestamp::from_micros(T0 + window.start * SECOND),
        end: Timestamp::from_micros(T0 + window.end * SECOND),
        kind: window.kind,
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
    }
}

fn entry(closed: &Closed<'_>) -> (String, i64, i64) {
    (closed.asset_id.to_owned(), (closed.start.as_micros() - T0) / SECOND, closed.totals.statistics.count)
}

fn out(closed: &Closed<'_>, time: i64) -> Out {
    Out {
        asset: closed.asset_id.to_owned(),
        unit: closed.unit.map(Into::into),
        start: (closed.start.as_micros() - T0).div_euclid(SECOND),
        end: (closed.end.as_micros() - T0).div_euclid(SECOND),
        kind: closed.kind,
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

/// A window of the level below as the input it becomes.
fn child(window: &Out, offset: usize) -> Sample<'_> {
    Sample {
        asset_id: &window.asset,
        parameter: "t",
        unit: window.unit.as_deref(),
        gateway_time: Timestamp::from_micros(window.time),
        offset: i64::try_from(offset).unwrap(),
        is_event: false,
        input: Input::Child {
            start: Timestamp::from_micros(T0 + window.start * SECOND),
            kind: window.kind,
            partials: window.totals.partials(),
            partial: window.totals.partial,
        },
    }
}

#[test]
fn a_window_closes_when_its_point_has_moved_on_by_the_lateness() {
    // AGG-02
    let mut bench = Bench::new();
    for (offset, tenth) in (0..60).enumerate() {
        let time = tenth * SECOND / 10;
        bench.take(&sample("a", i64::try_from(offset).unwrap(), time, time, 1.0));
    }
    assert_eq!(bench.emitted, []);
    bench.take(&sample("a", 60, 6 * SECOND, 6 * SECOND, 1.0));
    assert_eq!(bench.emitted, [("a".to_owned(), 0, 10)]);
    assert_eq!(bench.take(&sample("a", 61, SECOND, 6 * SECOND, 1.0)), Taken::Added);
    assert_eq!(bench.emitted.len(), 1, "the second window is still open");
}

#[test]
fn one_stamp_from_the_future_closes_nothing() {
    // AC-075
    let mut bench = Bench::new();
    bench.take(&sample("a", 0, 0, 0, 1.0));
    assert_eq!(bench.take(&sample("a", 1, 1800 * SECOND, SECOND, 9.0)), Taken::Added);
    for second in 1..4 {
        assert_eq!(bench.take(&sample("a", second + 1, second * SECOND, second * SECOND, 1.0)), Taken::Added);
    }
    let id = bench.lane.points.find("a", "t").unwrap();
    let point = bench.lane.points.get(id).unwrap();
    assert_eq!((point.open.len(), point.late.len()), (4, 0), "1, 2, 3 and 1800 wait for more, none is late");
    bench.advance(60 * SECOND);
    let starts: Vec<i64> = bench.emitted.iter().map(|(_, start, _)| *start).collect();
    assert_eq!(starts, [0, 1, 2, 3]);
    bench.advance(1900 * SECOND);
    assert_eq!(bench.emitted.last().unwrap().1, 1800);
}

#[test]
fn a_silent_point_closes_by_the_streams_time_and_a_slow_clock_gets_its_delay() {
    // AGG-02
    let mut bench = Bench::new();
    bench.take(&sample("silent", 0, 0, 0, 1.0));
    bench.take(&sample("behind", 1, 0, 20 * SECOND, 1.0));
    assert_eq!(bench.emitted, [("silent".to_owned(), 0, 1)], "20 s is past 1 + 5 + 10");
    bench.advance(30 * SECOND);
    assert_eq!(bench.take(&sample("behind", 2, SECOND / 2, 30 * SECOND, 1.0)), Taken::Added);
    bench.advance(38 * SECOND);
    assert_eq!(bench.emitted.last().unwrap(), &("behind".to_owned(), 0, 2));
}

#[test]
fn the_checkpoint_stays_before_every_open_window() {
    // AGG-09
    let mut bench = Bench::new();
    bench.lane.resume(&Checkpoint { mark: 5, ..Checkpoint::START });
    bench.take(&sample("a", 10, 0, 0, 1.0));
    bench.take(&sample("b", 11, 0, 0, 1.0));
    let checkpoint = bench.lane.checkpoint(12, 0);
    assert_eq!((checkpoint.offset, checkpoint.mark, checkpoint.seen, checkpoint.time), (10, 5, 12, T0));
    bench.take(&sample("a", 12, 9 * SECOND, 9 * SECOND, 1.0));
    assert_eq!(bench.lane.checkpoint(13, 0).offset, 11, "b is still open");
    bench.lane.note_output_end(77);
    bench.advance(40 * SECOND);
    let checkpoint = bench.lane.checkpoint(13, 0);
    assert_eq!((checkpoint.offset, checkpoint.mark), (13, 5), "what is kept is read back");
    bench.advance(25 * 3600 * SECOND);
    assert_eq!(bench.lane.checkpoint(13, 0).mark, 77, "a day later nothing is kept");
    assert_eq!(bench.lane.checkpoint(13, 0).floor, T0 + 10 * SECOND);
}

#[test]
fn late_data_makes_the_next_revision_of_its_window_and_of_the_longer_ones() {
    // AC-076, AGG-06
    let (mut seconds, mut minutes) = (Bench::new(), Bench::of(Resolution::Minute));
    for second in 0..600 {
        assert_eq!(seconds.take(&sample("a", second, second * SECOND, second * SECOND, 1.0)), Taken::Added);
    }
    // two readings of the same burst for a closed second, two minutes after it was closed
    for (offset, value) in [(600, 10.0), (601, 20.0)] {
        assert_eq!(seconds.take(&sample("a", offset, 400 * SECOND + 7, 600 * SECOND, value)), Taken::Added);
    }
    for second in 600..700 {
        seconds.advance(second * SECOND);
    }
    let revised: Vec<&Out> = seconds.written.iter().filter(|window| window.revision > 1).collect();
    assert_eq!(revised.len(), 1, "a burst makes one revision");
    let s = revised[0].totals.statistics;
    assert_eq!((revised[0].start, revised[0].revision, s.count, s.sum, s.max), (400, 2, 3, 31.0, 20.0));
    minutes.shape.kept_parts = 100; // so that the children of the minute are read again
    for offset in 0..seconds.written.len() {
        let taken = minutes.feed(&seconds.written, offset);
        assert_eq!(taken, Taken::Added, "{offset}");
    }
    minutes.advance(3000 * SECOND);
    let of_400: Vec<(i64, i64, f64)> = minutes
        .written
        .iter()
        .filter(|window| window.start == 360)
        .map(|window| (window.revision, window.totals.statistics.count, window.totals.statistics.sum))
        .collect();
    assert_eq!(of_400, [(1, 60, 60.0), (2, 62, 90.0)], "the child replaced its entry");
    let others = minutes.written.iter().filter(|window| window.start != 360).all(|window| window.revision == 1);
    assert!(others && minutes.written.len() == 11);
}

// AGG-06, AGG-08, AGG-09: a minute that only marked a gap takes late data, also after a restart.
#[test]
fn a_minute_made_of_nothing_takes_late_data_after_a_restart() {
    let second = |start: i64, value: Option<f64>, time: i64| {
        let of = |value| Accumulator::of_reading(value, Quality::Good, Timestamp::from_micros(T0 + start * SECOND));
        let statistics = value.map(|value| of(value).finish()).unwrap_or_default();
        let totals = Totals { statistics, ..Totals::default() };
        let (asset, kind, end) = ("a".to_owned(), Kind::Value, start + 1);
        let (held, carry, stops, time) = (None, None, Vec::new(), T0 + time * SECOND);
        Out { asset, unit: None, start, end, kind, totals, held, carry, stops, revision: 1, from: 0, offset: 0, time }
    };
    // the first minute ends within a gap, which goes on into the second one
    let log =
        [second(10, Some(1.0), 12), second(50, None, 53), second(130, Some(2.0), 132), second(113, Some(3.0), 140)];
    let mut bench = Bench::of(Resolution::Minute);
    for offset in 0..3 {
        assert_eq!(bench.feed(&log, offset), Taken::Added);
    }
    bench.advance(300 * SECOND);
    let told = bench.written.iter().map(|window| (window.start, window.totals.statistics.count, window.offset));
    assert_eq!(told.collect::<Vec<_>>(), [(0, 1, 1), (60, 0, -1), (120, 1, 2)]);
    let (checkpoint, written) = (bench.lane.checkpoint(3, 0), bench.written);
    let mut bench = Bench::of(Resolution::Minute);
    bench.lane.resume(&checkpoint);
    for (mark, window) in written.iter().enumerate() {
        bench.restore(window, mark);
    }
    assert_eq!(bench.feed(&log, 3), Taken::Added);
    bench.advance(400 * SECOND);
    let told = bench.written.iter().map(|window| (window.start, window.totals.statistics.count, window.revision));
    assert_eq!(told.collect::<Vec<_>>(), [(60, 1, 2)]);
}

// AGG-02, AGG-09: behind an outage all seconds of hours ago are written within moments.
#[test]
fn a_backlog_closes_no_half_window() {
    let (mut seconds, mut minutes) = (Bench::new(), Bench::of(Resolution::Minute));
    for second in 0..600 {
        for (asset, at) in [("a", second), ("b", second)] {
            seconds.take(&sample(asset, 2 * second + i64::from(asset == "b"), at * SECOND, at * SECOND, 1.0));
        }
    }
    for window in &mut seconds.written {
        window.time = T0 + 8 * 3600 * SECOND;
    }
    for offset in 0..seconds.written.len() {
        minutes.feed(&seconds.written, offset);
    }
    assert!(minutes.emitted.len() >= 16, "{}", minutes.emitted.len());
    assert!(minutes.emitted.iter().all(|(_, _, count)| *count == 60), "{:?}", minutes.emitted);
    minutes.advance(9 * 3600 * SECOND);
    assert!(minutes.written.iter().all(|window| window.revision == 1));
}

#[test]
fn windows_let_go_come_back_and_data_later_than_a_day_is_refused() {
    // AGG-06
    let mut bench = Bench::new();
    bench.shape.kept_bytes = 100 * 150; // about a hundred windows
    for second in 0..200 {
        bench.take(&sample("a", second, second * SECOND, second * SECOND, 1.0));
    }
    let late = sample("a", 200, 10 * SECOND, 200 * SECOND, 5.0);
    assert!(matches!(bench.take(&late), Taken::Forgotten { .. }), "let go");
    assert_eq!(bench.recalling(&late), Taken::Added);
    assert_eq!(bench.take(&sample("a", 10, 10 * SECOND, 200 * SECOND, 1.0)), Taken::Added, "open: counted already");
    assert_eq!(bench.take(&sample("a", 201, 150 * SECOND, 200 * SECOND, 1.0)), Taken::Added);
    assert_eq!(bench.recalling(&sample("a", 202, -SECOND, 200 * SECOND, 1.0)), Taken::Added, "never emitted");
    bench.advance(300 * SECOND);
    let of = |start: i64| {
        let windows = bench.written.iter().filter(move |window| window.start == start);
        windows.map(|window| (window.revision, window.totals.statistics.sum)).collect::<Vec<_>>()
    };
    assert_eq!((of(10), of(-1)), (vec![(1, 1.0), (2, 6.0)], vec![(1, 1.0)]));
    let mut bench = Bench::new();
    let day = 24 * 3600 * SECOND;
    bench.take(&sample("a", 0, day + 60 * SECOND, day + 60 * SECOND, 1.0));
    assert_eq!(bench.take(&sample("a", 1, 50 * SECOND, day + 60 * SECOND, 1.0)), Taken::Late);
    assert_eq!(bench.take(&sample("a", 2, 70 * SECOND, day + 60 * SECOND, 1.0)), Taken::Added);
}

#[test]
fn an_input_read_again_is_known_and_other_units_never_mix() {
    // AGG-09, AGG-13
    let mut first = Bench::new();
    for second in 0..20 {
        first.take(&sample("a", second, second * SECOND, second * SECOND, 1.0));
    }
    let mut bench = Bench::new();
    for (mark, window) in first.written.iter().enumerate() {
        bench.restore(window, mark);
    }
    assert_eq!(bench.take(&sample("a", 3, 3 * SECOND, 3 * SECOND, 1.0)), Taken::Known);
    let other = Sample { unit: Some("F"), ..sample("a", 20, 3 * SECOND, 20 * SECOND, 1.0) };
    assert_eq!(bench.take(&other), Taken::Late);
    assert_eq!(bench.take(&sample("a", 21, 3 * SECOND, 20 * SECOND, 1.0)), Taken::Added);
    bench.advance(60 * SECOND);
    assert_eq!(bench.emitted, [("a".to_owned(), 3, 2)]);
    assert_eq!(bench.written[0].revision, 2);
}

#[test]
fn another_unit_ends_the_window() {
    // AGG-13
    let mut bench = Bench::new();
    bench.take(&sample("a", 0, 0, 0, 1.0));
    let other = Sample { unit: Some("F"), ..sample("a", 1, SECOND / 2, SECOND / 2, 100.0) };
    assert_eq!(bench.take(&other), Taken::Late);
    assert_eq!(bench.emitted, [("a".to_owned(), 0, 1)]);
}

#[test]
fn limits_refuse_and_closing_makes_room() {
    // AGG-14
    let mut bench = Bench::new();
    bench.room = Room { points: 2, windows: 1 };
    assert_eq!(bench.take(&sample("a", 0, 0, 0, 1.0)), Taken::Added);
    assert_eq!(bench.take(&sample("b", 1, 0, 0, 1.0)), Taken::NoRoom);
    assert_eq!(bench.take(&sample("c", 2, 0, 0, 1.0)), Taken::NoRoom);
    bench.advance(60 * SECOND);
    assert_eq!(bench.take(&sample("b", 3, 60 * SECOND, 60 * SECOND, 1.0)), Taken::Added);
    bench.advance(120 * SECOND);
    bench.advance(26 * 3600 * SECOND);
    assert_eq!(bench.room.points, 2, "silent points are forgotten");
}

/// Readings of some points: (point, delay behind the gateway's clock, value); the gateway's clock ticks between them.
fn readings() -> impl Strategy<Value = Vec<(u8, i64, f64)>> {
    prop::collection::vec((0_u8..4, 0_i64..4 * SECOND, -100.0_f64..100.0), 1..300)
}

proptest! {
    #[test]
    fn windows_equal_naive_buckets(readings in readings(), tick in 1_i64..2 * SECOND) {
        // AGG-01: within the lateness nothing is lost and each reading is in the window of its device time
        let mut bench = Bench::new();
        bench.room.windows = 10_000;
        let mut naive: BTreeMap<(String, i64), i64> = BTreeMap::new();
        for (offset, (point, delay, value)) in readings.iter().enumerate() {
            let offset = i64::try_from(offset).unwrap();
            let (gateway, device) = (offset * tick + 10 * SECOND, offset * tick + 10 * SECOND - delay);
            let asset = format!("p{point}");
            prop_assert_eq!(bench.take(&sample(&asset, offset, device, gateway, *value)), Taken::Added);
            *naive.entry((asset, device / SECOND)).or_default() += 1;
        }
        bench.advance(100_000 * SECOND);
        let emitted: BTreeMap<(String, i64), i64> =
            bench.emitted.iter().map(|(asset, start, count)| ((asset.clone(), *start), *count)).collect();
        prop_assert_eq!(emitted.len(), bench.emitted.len(), "a window was emitted twice");
        prop_assert_eq!(emitted, naive);
        prop_assert!(bench.lane.timers.is_empty());
        prop_assert_eq!(bench.room.windows, 10_000);
    }

    #[test]
    fn a_kill_at_any_time_changes_no_window(
        readings in prop::collection::vec((0_u8..4, delay(), -100.0_f64..100.0), 1..300),
        tick in SECOND / 50..SECOND,
        kills in prop::collection::vec((1_usize..120, 0_usize..40), 0..12),
        commit_every in 1_usize..100,
        children in prop_oneof![Just(10_000_usize), 0..40_usize],
        kept in prop_oneof![Just(10_000_000_usize), 0..30_000_usize],
    ) {
        // AGG-09, AC-077, F3: some 1500 kills over all cases, with late data
        let log: Vec<Told> = readings
            .iter()
            .enumerate()
            .map(|(i, (point, delay, value))| {
                let gateway = i64::try_from(i).unwrap() * tick + 10 * SECOND;
                (format!("p{point}"), gateway - delay, gateway, *value)
            })
            .collect();
        let seconds = |bench: &mut Bench, offset: usize| {
            let (asset, device, gateway, value) = &log[offset];
            bench.recalling(&sample(asset, i64::try_from(offset).unwrap(), *device, *gateway, *value));
        };
        let whole = run(Resolution::Second, (children, 10_000_000), log.len(), &[], commit_every, &seconds);
        let killed = run(Resolution::Second, (children, kept), log.len(), &kills, commit_every, &seconds);
        let content = |written: &[Out]| {
            newest(written).into_iter().map(|(key, out)| (key, Out { revision: 0, ..out })).collect::<BTreeMap<_, _>>()
        };
        // what was let go may make one revision of two: a new point cannot tell then whether its window has passed
        prop_assert!(kept < 10_000_000 || newest(&killed) == newest(&whole));
        prop_assert_eq!(content(&killed), content(&whole));
        let total: i64 = newest(&whole).values().map(|window| window.totals.statistics.count).sum();
        prop_assert_eq!(total, i64::try_from(log.len()).unwrap(), "a reading is missing or counted twice");
        let minutes = |bench: &mut Bench, offset: usize| {
            assert!(matches!(bench.feed(&whole, offset), Taken::Added | Taken::Known));
        };
        let whole_minutes = run(Resolution::Minute, (children, 10_000_000), whole.len(), &[], commit_every, &minutes);
        let killed_minutes = run(Resolution::Minute, (children, kept), whole.len(), &kills, commit_every, &minutes);
        prop_assert!(kept < 10_000_000 || newest(&killed_minutes) == newest(&whole_minutes));
        prop_assert_eq!(content(&killed_minutes), content(&whole_minutes));
        let total: i64 = newest(&whole_minutes).values().map(|window| window.totals.statistics.count).sum();
        prop_assert_eq!(total, i64::try_from(log.len()).unwrap(), "a second is missing or counted twice");
    }
}

type Told = (String, i64, i64, f64);

/// Delays of readings: on time, out of order, and far too late.
fn delay() -> impl Strategy<Value = i64> {
    prop_oneof![6 => 0_i64..4 * SECOND, 1 => 4 * SECOND..200 * SECOND]
}

/// The newest revision of every window; the time of its emission does not count.
fn newest(written: &[Out]) -> BTreeMap<(String, i64), Out> {
    let mut newest: BTreeMap<(String, i64), Out> = BTreeMap::new();
    for window in written {
        let before = newest.insert((window.asset.clone(), window.start), Out { time: 0, ..window.clone() });
        assert_eq!(before.map_or(0, |before| before.revision) + 1, window.revision, "{window:?}");
    }
    newest
}

/// Runs a lane over its input with kills: (inputs until it is killed, outputs lost by that), with checkpoints that lag
/// behind; returns what is in the output at the end.
fn run(
    resolution: Resolution,
    (children, kept): (usize, usize),
    inputs: usize,
    kills: &[(usize, usize)],
    commit_every: usize,
    feed: &dyn Fn(&mut Bench, usize),
) -> Vec<Out> {
    let mut log: Vec<Out> = Vec::new();
    let mut committed = Checkpoint::START;
    let mut kills = kills.iter().copied();
    loop {
        let mut bench = Bench::of(resolution);
        bench.shape.kept_parts = children;
        bench.shape.kept_bytes = kept;
        bench.before = log.clone();
        bench.lane.resume(&committed);
        for (mark, window) in log.iter().enumerate().skip(usize::try_from(committed.mark).unwrap()) {
            bench.restore(window, mark);
        }
        let begin = usize::try_from(committed.offset).unwrap();
        let (steps, lost) = kills.next().unwrap_or((usize::MAX, 0));
        let last = begin.saturating_add(steps).min(inputs);
        let before = log.len();
        for offset in begin..last {
            // acknowledged up to here: outputs beyond may be lost by the kill
            if (offset - begin) % commit_every == commit_every - 1 {
                committed = bench.lane.checkpoint(i64::try_from(offset).unwrap(), 0);
                log.truncate(before);
                log.extend(bench.written.iter().cloned());
            }
            bench.lane.note_output_end(i64::try_from(log.len()).unwrap());
            feed(&mut bench, offset);
        }
        if steps == usize::MAX {
            bench.advance(if resolution == Resolution::Second { 1000 } else { 10_000 } * SECOND);
            log.truncate(before);
            log.extend(bench.written);
            return log;
        }
        let unacknowledged = before + bench.written.len() - log.len();
        let arrived = log.len() - before + unacknowledged - lost.min(unacknowledged);
        log.truncate(before);
        log.extend(bench.written.into_iter().take(arrived));
    }
}
