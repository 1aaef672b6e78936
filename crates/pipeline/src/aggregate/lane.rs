//! The open windows of one input partition: when they open, when they close, and how far back a restart must read.
//!
//! Time here is the stream's: the newest gateway time seen, or the time up to which the caller knows that nothing more
//! is under way. A window closes when its point has moved on by the allowed lateness, or, for a silent point, when the
//! stream's time has passed its end by the lateness and a grace. Windows of a point close in ascending order and never
//! open again, so one number per point, "closed through", tells what was emitted.
//!
//! Restart: a checkpoint is the offset of the first reading that an open window holds, and a *mark* in the output behind
//! which all windows lie that readings from there on could touch. What cannot be known of a point without its history
//! (was this old window emitted?) is decided against emitting it a second time.

use std::collections::{BTreeMap, VecDeque};

use model::{Quality, Resolution, Statistics, Timestamp};

use super::statistics;
use super::window::{Content, Input};
use crate::PointTable;

/// A device time counts at most this far ahead of the gateway's, in microseconds (AGG-02): one stamp from the future
/// closes nothing.
const AHEAD_MAX: i64 = 5_000_000;
/// Waited behind the lateness before a silent point's window is closed, in microseconds (AGG-02).
const SILENT_GRACE: i64 = 10_000_000;
/// Gateway times may arrive out of order by this much, in microseconds, without harm to a restart.
const DISORDER_MAX: i64 = 15_000_000;
/// Least distance of two marks, in microseconds of window ends.
const MARK_EVERY: i64 = 1_000_000;
/// A point without open windows is forgotten when its last one closed this long ago, in microseconds.
const IDLE_MAX: i64 = 3_600_000_000;
/// Deadlines are kept in steps of this, in microseconds.
const TIMER_STEP: i64 = 1_000_000;

/// The fixed numbers of a level, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) width: i64,
    pub(super) lateness: i64,
    /// Width of the windows this level merges, 0 when it takes readings.
    pub(super) child_width: i64,
}

impl Shape {
    pub(super) fn new(resolution: Resolution) -> Self {
        let child_width = match resolution {
            Resolution::Second => 0,
            Resolution::Minute => Resolution::Second.width_micros(),
            Resolution::Hour => Resolution::Minute.width_micros(),
        };
        Self { width: resolution.width_micros(), lateness: resolution.lateness_micros(), child_width }
    }
}

/// What is left of the limits all lanes of a level share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) points: usize,
    pub(super) windows: usize,
}

/// One input.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    pub asset_id: &'a str,
    pub parameter: &'a str,
    pub unit: Option<&'a str>,
    pub gateway_time: Timestamp,
    /// Where it stands in its partition.
    pub offset: i64,
    pub input: Input,
}

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Added,
    /// Its window is closed.
    Late,
    /// Too many points or open windows (AGG-14).
    NoRoom,
}

/// A closed window.
#[derive(Debug, Clone, Copy)]
pub struct Closed<'a> {
    pub asset_id: &'a str,
    pub parameter: &'a str,
    pub unit: Option<&'a str>,
    /// Inclusive.
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
    pub statistics: Statistics,
    pub quality: Quality,
    /// Offset of the last input it holds.
    pub offset: i64,
}

/// From where a restart goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// First input to read again.
    pub offset: i64,
    /// First output to look at.
    pub mark: i64,
    /// Latest end of all windows emitted so far, in microseconds; `i64::MIN` when there was none.
    pub newest_end: i64,
}

#[derive(Debug)]
pub(super) struct Lane {
    points: PointTable<Point>,
    /// Deadline -> windows to close when it comes; entries of closed windows are skipped.
    timers: BTreeMap<i64, Vec<WindowKey>>,
    /// Windows in the order they opened, so by ascending first offset; closed ones leave when they reach the front.
    holds: VecDeque<(WindowKey, i64)>,
    /// The stream's time in microseconds, `i64::MIN` before the first reading.
    time: i64,
    newest_end: i64,
    /// Windows of points that are not in the table end here or before.
    forgotten_through: i64,
    /// (`newest_end`, end of the output then), to become `mark` once no reading can belong to a window that old.
    marks: VecDeque<(i64, i64)>,
    mark: i64,
    swept: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WindowKey {
    point: u32,
    start: i64,
    first_offset: i64,
}

#[derive(Debug)]
struct Point {
    unit: Option<Box<str>>,
    /// Newest device time, capped.
    progress: i64,
    /// Windows that end here or before were emitted, or might have been.
    closed_through: i64,
    /// Ascending by start.
    open: Vec<Window>,
}

#[derive(Debug)]
struct Window {
    start: i64,
    first_offset: i64,
    last_offset: i64,
    content: Content,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            points: PointTable::default(),
            timers: BTreeMap::new(),
            holds: VecDeque::new(),
            time: i64::MIN,
            newest_end: i64::MIN,
            forgotten_through: i64::MIN,
            marks: VecDeque::new(),
            mark: 0,
            swept: i64::MIN,
        }
    }
}

impl Lane {
    /// Goes on from a checkpoint; [`Lane::was_emitted`] follows for every window behind its mark.
    pub(super) fn resume(&mut self, mark: i64, newest_end: i64) {
        self.mark = mark;
        self.newest_end = self.newest_end.max(newest_end);
        self.forgotten_through = self.forgotten_through.max(newest_end);
    }

    /// Takes in a window that the output already holds.
    pub(super) fn was_emitted(&mut self, room: &mut Room, asset: &str, parameter: &str, end: i64) {
        self.newest_end = self.newest_end.max(end);
        if room.points == 0 && self.points.find(asset, parameter).is_none() {
            self.forgotten_through = self.forgotten_through.max(end);
            return;
        }
        let before = self.points.len();
        let id = self.points.find_or_insert_with(asset, parameter, || Point::new(i64::MIN, None));
        room.points -= self.points.len() - before;
        if let Some(point) = self.points.get_mut(id) {
            point.closed_through = point.closed_through.max(end);
        }
    }

    /// Takes one input in; windows that close on the way go to `out`.
    pub(super) fn sample(
        &mut self,
        shape: &Shape,
        room: &mut Room,
        sample: &Sample<'_>,
        out: &mut dyn FnMut(&Closed<'_>),
    ) -> Taken {
        let arrival = sample.gateway_time.as_micros();
        self.advance(shape, room, arrival, out);
        let (time, progress) = match sample.input {
            Input::Value { time, .. } => (time, time.as_micros()),
            Input::Child { start, .. } => (start, start.as_micros().saturating_add(shape.child_width)),
        };
        let start = time.window_start(shape.width).as_micros();
        let end = start.saturating_add(shape.width);
        let Some(id) = self.point(shape, room, sample) else { return Taken::NoRoom };
        let Self { points, timers, holds, newest_end, mark, .. } = self;
        let (asset_id, parameter, point) = points.entry_mut(id).expect("the id was found just now");
        let mut close = |point: &mut Point, room: &mut Room| {
            let closed = point.close_first(shape, asset_id, parameter);
            *newest_end = (*newest_end).max(closed.end.as_micros());
            out(&closed);
            room.windows += 1;
        };
        if point.unit.as_deref() != sample.unit {
            while !point.open.is_empty() {
                close(point, room); // AGG-13: units never mix
            }
            point.unit = sample.unit.map(Into::into);
        }
        if end <= point.closed_through.max(point.progress.saturating_sub(shape.lateness)) {
            return Taken::Late;
        }
        match point.open.binary_search_by_key(&start, |window| window.start) {
            Ok(at) => {
                let window = &mut point.open[at];
                window.content.add(&sample.input);
                window.last_offset = sample.offset;
            }
            Err(_) if room.windows == 0 => return Taken::NoRoom,
            Err(at) => {
                room.windows -= 1;
                let content = Content::new(&sample.input);
                let window = Window { start, first_offset: sample.offset, last_offset: sample.offset, content };
                point.open.insert(at, window);
                // a point that runs behind the gateway's clock gets its delay on top
                let behind = arrival.saturating_sub(progress).max(0);
                let deadline = end.saturating_add(behind).saturating_add(shape.lateness + SILENT_GRACE);
                let step = deadline.div_euclid(TIMER_STEP).saturating_add(1).saturating_mul(TIMER_STEP);
                let key = WindowKey { point: id, start, first_offset: sample.offset };
                timers.entry(step).or_default().push(key);
                holds.push_back((key, *mark));
            }
        }
        point.progress = point.progress.max(progress.min(arrival.saturating_add(AHEAD_MAX)));
        let through = point.progress.saturating_sub(shape.lateness);
        while point.open.first().is_some_and(|window| window.start.saturating_add(shape.width) <= through) {
            close(point, room);
        }
        Taken::Added
    }

    /// Finds or makes the point; `None` when there is no room.
    fn point(&mut self, shape: &Shape, room: &mut Room, sample: &Sample<'_>) -> Option<u32> {
        if let Some(id) = self.points.find(sample.asset_id, sample.parameter) {
            return Some(id);
        }
        if room.points == 0 {
            return None;
        }
        room.points -= 1;
        // of a point that is not in the table nothing later than this can have been emitted
        let fresh_from = sample.gateway_time.as_micros().saturating_sub(shape.lateness + SILENT_GRACE);
        let closed_through = self.forgotten_through.min(fresh_from);
        let new = || Point::new(closed_through, sample.unit);
        Some(self.points.find_or_insert_with(sample.asset_id, sample.parameter, new))
    }

    /// Moves the stream's time on and closes the windows of silent points.
    pub(super) fn advance(&mut self, shape: &Shape, room: &mut Room, now: i64, out: &mut dyn FnMut(&Closed<'_>)) {
        if now <= self.time {
            return;
        }
        self.time = now;
        self.promote_marks(shape);
        while let Some(due) = self.timers.first_entry().filter(|entry| *entry.key() <= now) {
            for key in due.remove() {
                let Some((asset_id, parameter, point)) = self.points.entry_mut(key.point) else { continue };
                if !point.holds(&key) {
                    continue;
                }
                while point.open.first().is_some_and(|window| window.start <= key.start) {
                    let closed = point.close_first(shape, asset_id, parameter);
                    self.newest_end = self.newest_end.max(closed.end.as_micros());
                    out(&closed);
                    room.windows += 1;
                }
            }
        }
        if now.saturating_sub(self.swept) > IDLE_MAX {
            self.swept = now;
            let before = self.points.len();
            let forgotten_through = &mut self.forgotten_through;
            self.points.retain(|point| {
                let kept = !point.open.is_empty() || now.saturating_sub(point.closed_through) <= IDLE_MAX;
                if !kept {
                    *forgotten_through = (*forgotten_through).max(point.closed_through);
                }
                kept
            });
            room.points += before - self.points.len();
        }
    }

    /// Takes in where the output partition ends now.
    pub(super) fn note_output_end(&mut self, shape: &Shape, end: i64) {
        match self.marks.back_mut() {
            Some((newest_end, mark)) if *newest_end == self.newest_end => *mark = end,
            Some((newest_end, _)) if self.newest_end.saturating_sub(*newest_end) < MARK_EVERY => {}
            _ => self.marks.push_back((self.newest_end, end)),
        }
        self.promote_marks(shape);
    }

    /// A restart looks at the outputs behind the mark. What lies before it must be out of reach for every reading from
    /// the checkpoint on: its window's end is further back than a point without history may begin.
    fn promote_marks(&mut self, shape: &Shape) {
        let out_of_reach = self.time.saturating_sub(shape.lateness + SILENT_GRACE + DISORDER_MAX);
        while let Some((_, end)) = self.marks.front().copied().filter(|(newest, _)| *newest <= out_of_reach) {
            self.mark = end;
            self.marks.pop_front();
        }
    }

    /// From where a restart would go on; `next` is the next input.
    pub(super) fn checkpoint(&mut self, next: i64) -> Checkpoint {
        while let Some((key, _)) = self.holds.front() {
            if self.points.get(key.point).is_some_and(|point| point.holds(key)) {
                break;
            }
            self.holds.pop_front();
        }
        let (offset, mark) = self.holds.front().map_or((next, self.mark), |(key, mark)| (key.first_offset, *mark));
        Checkpoint { offset, mark, newest_end: self.newest_end }
    }
}

impl Point {
    fn new(closed_through: i64, unit: Option<&str>) -> Self {
        Self { unit: unit.map(Into::into), progress: i64::MIN, closed_through, open: Vec::new() }
    }

    fn holds(&self, key: &WindowKey) -> bool {
        let found = self.open.binary_search_by_key(&key.start, |window| window.start);
        found.is_ok_and(|at| self.open[at].first_offset == key.first_offset)
    }

    /// Closes the oldest open window.
    fn close_first<'p>(&'p mut self, shape: &Shape, asset_id: &'p str, parameter: &'p str) -> Closed<'p> {
        let window = self.open.remove(0);
        let end = window.start.saturating_add(shape.width);
        self.closed_through = self.closed_through.max(end);
        let statistics = window.content.fold();
        Closed {
            asset_id,
            parameter,
            unit: self.unit.as_deref(),
            start: Timestamp::from_micros(window.start),
            end: Timestamp::from_micros(end),
            statistics,
            quality: statistics::quality(&statistics),
            offset: window.last_offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            input: Input::Value { value, quality: Quality::Good, time },
        }
    }

    /// A lane of seconds with room for everything, and what it emitted: asset, start in seconds, count.
    struct Bench {
        lane: Lane,
        room: Room,
        emitted: Vec<(String, i64, i64)>,
    }

    impl Bench {
        fn new() -> Self {
            Self { lane: Lane::default(), room: Room { points: 100, windows: 1000 }, emitted: Vec::new() }
        }

        fn take(&mut self, sample: &Sample<'_>) -> Taken {
            let Self { lane, room, emitted } = self;
            lane.sample(&Shape::new(Resolution::Second), room, sample, &mut |closed| emitted.push(entry(closed)))
        }

        fn advance(&mut self, to: i64) {
            let Self { lane, room, emitted } = self;
            lane.advance(&Shape::new(Resolution::Second), room, T0 + to, &mut |closed| emitted.push(entry(closed)));
        }
    }

    fn entry(closed: &Closed<'_>) -> (String, i64, i64) {
        (closed.asset_id.to_owned(), (closed.start.as_micros() - T0) / SECOND, closed.statistics.count)
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
        assert_eq!(bench.take(&sample("a", 61, SECOND / 2, 6 * SECOND, 1.0)), Taken::Late);
        assert_eq!(bench.take(&sample("a", 62, SECOND, 6 * SECOND, 1.0)), Taken::Added);
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
        bench.lane.resume(5, i64::MIN);
        bench.take(&sample("a", 10, 0, 0, 1.0));
        bench.take(&sample("b", 11, 0, 0, 1.0));
        assert_eq!(bench.lane.checkpoint(12), Checkpoint { offset: 10, mark: 5, newest_end: i64::MIN });
        bench.take(&sample("a", 12, 9 * SECOND, 9 * SECOND, 1.0));
        assert_eq!(bench.lane.checkpoint(13).offset, 11, "b is still open");
        bench.advance(40 * SECOND);
        bench.lane.note_output_end(&Shape::new(Resolution::Second), 77);
        assert_eq!(bench.lane.checkpoint(13), Checkpoint { offset: 13, mark: 77, newest_end: T0 + 10 * SECOND });
        bench.take(&sample("a", 13, 50 * SECOND, 50 * SECOND, 1.0));
        bench.take(&sample("a", 14, 56 * SECOND, 56 * SECOND, 1.0));
        bench.lane.note_output_end(&Shape::new(Resolution::Second), 78);
        bench.advance(51 * SECOND + 30 * SECOND - 1);
        assert_eq!(bench.lane.checkpoint(15).mark, 77, "a fresh reading could still belong to the window of second 50");
        bench.advance(51 * SECOND + 30 * SECOND);
        assert_eq!(bench.lane.checkpoint(15).mark, 78);
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
        bench.advance(3 * 3600 * SECOND);
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
            readings in readings(),
            tick in SECOND / 50..SECOND,
            kills in prop::collection::vec((1_usize..120, 0_usize..40), 0..6),
            commit_every in 1_usize..100,
        ) {
            // AGG-09, AC-077, F3: run until a kill, with checkpoints that lag behind and outputs that are lost
            let mut all = Bench::new();
            let stream: Vec<(String, i64, i64, f64)> = readings
                .iter()
                .enumerate()
                .map(|(i, (point, delay, value))| {
                    let gateway = i64::try_from(i).unwrap() * tick + 10 * SECOND;
                    (format!("p{point}"), gateway - delay, gateway, *value)
                })
                .collect();
            let feed = |bench: &mut Bench, offset: usize| {
                let (asset, device, gateway, value) = &stream[offset];
                bench.take(&sample(asset, i64::try_from(offset).unwrap(), *device, *gateway, *value));
            };
            for offset in 0..stream.len() {
                feed(&mut all, offset);
            }
            all.advance(100_000 * SECOND);

            let mut log: Vec<(String, i64, i64)> = Vec::new();
            let mut committed = Checkpoint { offset: 0, mark: 0, newest_end: i64::MIN };
            let mut kills = kills.into_iter();
            loop {
                let mut bench = Bench::new();
                bench.lane.resume(committed.mark, committed.newest_end);
                for (asset, start, _) in &log[usize::try_from(committed.mark).unwrap()..] {
                    bench.lane.was_emitted(&mut bench.room, asset, "t", T0 + (start + 1) * SECOND);
                }
                let begin = usize::try_from(committed.offset).unwrap();
                let (steps, lost) = kills.next().unwrap_or((usize::MAX, 0));
                let last = begin.saturating_add(steps).min(stream.len());
                let before = log.len();
                let mut commit = committed;
                for offset in begin..last {
                    let end = i64::try_from(before + bench.emitted.len()).unwrap();
                    bench.lane.note_output_end(&Shape::new(Resolution::Second), end);
                    feed(&mut bench, offset);
                    if (offset - begin) % commit_every == commit_every - 1 {
                        // acknowledged up to here: outputs beyond it may be lost by the kill
                        commit = bench.lane.checkpoint(i64::try_from(offset + 1).unwrap());
                        log.truncate(before);
                        log.extend(bench.emitted.iter().cloned());
                    }
                }
                committed = commit;
                if last == stream.len() && steps == usize::MAX {
                    bench.advance(100_000 * SECOND);
                    log.truncate(before);
                    log.extend(bench.emitted);
                    break;
                }
                let unacknowledged = before + bench.emitted.len() - log.len();
                let arrived = log.len() - before + unacknowledged - lost.min(unacknowledged);
                log.truncate(before);
                log.extend(bench.emitted.into_iter().take(arrived));
            }
            let sorted = |mut windows: Vec<(String, i64, i64)>| { windows.sort(); windows };
            prop_assert_eq!(sorted(log), sorted(all.emitted));
        }
    }
}
