//! The windows of one input partition: when they open, when they close, when late data changes them, and how far back a
//! restart must read.
//!
//! Time here is the stream's: the newest gateway time seen, or the time up to which the caller knows that nothing more
//! is under way. A window closes when its point has moved on by the allowed lateness, or, for a silent point, when the
//! stream's time has passed its end by the lateness and a grace. An input for a window that has passed opens it again,
//! with what was emitted of it as the beginning, and it closes once more, with the next revision, when the lateness has
//! passed since: a burst of late data makes one revision, not one per reading (AGG-06).
//!
//! Restart: a checkpoint is the offset of the first input that an open window holds, and a *mark* in the output behind
//! which everything lies that [`ClosedWindows`] held when that window opened. An emitted window tells the offset of its
//! last input, so an input read again is never counted twice.
//!
//! Long because: opening, closing, revising and resuming windows are one state with one invariant.

use std::collections::{BTreeMap, VecDeque};

use model::{Quality, Resolution, Statistics, Timestamp};

use super::closed::{ClosedWindows, Emitted};
use super::statistics;
use super::window::{Content, Input};
use crate::PointTable;

/// A device time counts at most this far ahead of the gateway's, in microseconds (AGG-02): one stamp from the future
/// closes nothing.
const AHEAD_MAX: i64 = 5_000_000;
/// Waited behind the lateness before a silent point's window is closed, in microseconds (AGG-02).
const SILENT_GRACE: i64 = 10_000_000;
/// Late data changes a window that ended up to this long ago, in microseconds (AGG-06); older data is refused.
const REVISE_FOR: i64 = 24 * 3_600_000_000;
/// A point without windows is looked for this often, in microseconds, and forgotten.
const IDLE_MAX: i64 = 3_600_000_000;
/// Deadlines are kept in steps of this, in microseconds.
const TIMER_STEP: i64 = 1_000_000;
/// Different units of one input partition; an input with one more is refused.
const UNITS_MAX: usize = 4096;

/// The fixed numbers of a level, times in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) width: i64,
    pub(super) lateness: i64,
    /// Width of the windows this level merges, 0 when it takes readings.
    pub(super) child_width: i64,
    /// Closed windows kept per lane.
    pub(super) kept_windows: usize,
    /// Children of closed windows kept per lane.
    pub(super) kept_children: usize,
}

impl Shape {
    pub(super) fn new(resolution: Resolution, kept_windows: usize, kept_children: usize) -> Self {
        let child_width = match resolution {
            Resolution::Second => 0,
            Resolution::Minute => Resolution::Second.width_micros(),
            Resolution::Hour => Resolution::Minute.width_micros(),
        };
        let (width, lateness) = (resolution.width_micros(), resolution.lateness_micros());
        Self { width, lateness, child_width, kept_windows, kept_children }
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
    /// The window was emitted with it already: it was read again after a restart.
    Known,
    /// Its window is closed and may not change any more: older than 24 h, no longer kept, or of another unit.
    Late,
    /// Its window is closed and kept without the windows it was merged from: hand those to [`super::Level::complete`],
    /// then the input again. They are the newest of each start among the inputs of the point from offset `from` through
    /// `through`.
    Incomplete {
        start: Timestamp,
        end: Timestamp,
        from: i64,
        through: i64,
    },
    /// Too many points, open windows or units (AGG-14).
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
    /// From 1; late data counts it up.
    pub revision: i64,
    /// Offset of the first input it holds; negative when unknown.
    pub from_offset: i64,
    /// Offset of the last input it holds.
    pub offset: i64,
}

/// A window found in the output after a restart.
#[derive(Debug, Clone, Copy)]
pub struct Restored<'a> {
    pub asset_id: &'a str,
    pub parameter: &'a str,
    pub unit: Option<&'a str>,
    pub start: Timestamp,
    pub end: Timestamp,
    pub statistics: Statistics,
    pub revision: i64,
    /// Offset of its first input; negative when unknown.
    pub from_offset: i64,
    /// Offset of its last input; `i64::MAX` when unknown, which refuses every change.
    pub offset: i64,
    /// When it was emitted.
    pub gateway_time: Timestamp,
    /// Where it stands in the output.
    pub mark: i64,
}

/// From where a restart goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// First input to read again.
    pub offset: i64,
    /// First output to look at.
    pub mark: i64,
    /// Windows that end here or before, in microseconds, and do not lie behind the mark may have been emitted.
    pub floor: i64,
    /// The stream's time when the input at `offset` was taken, in microseconds.
    pub time: i64,
    /// Inputs before this one were taken once.
    pub seen: i64,
}

impl Checkpoint {
    /// Where nothing was read yet.
    pub const START: Self = Self { offset: 0, mark: 0, floor: i64::MIN, time: i64::MIN, seen: 0 };
}

#[derive(Debug)]
pub(super) struct Lane {
    points: PointTable<Point>,
    /// Deadline -> windows to close when it comes; entries of closed windows are skipped.
    timers: BTreeMap<i64, Vec<WindowKey>>,
    /// Windows in the order they opened, so by ascending first offset; closed ones leave when they reach the front.
    holds: VecDeque<Hold>,
    closed: ClosedWindows,
    /// Units by their number; the first is none.
    units: Vec<Option<Box<str>>>,
    /// The stream's time in microseconds, `i64::MIN` before the first input.
    time: i64,
    /// Where the output ended when that was asked for last.
    output_end: i64,
    /// Last input that the output found after a restart holds: up to it nothing kept is let go.
    replay_through: i64,
    replaying: bool,
    swept: i64,
}

/// Where a restart would go on while this window is open.
#[derive(Debug, Clone, Copy)]
struct Hold {
    key: WindowKey,
    mark: i64,
    floor: i64,
    time: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WindowKey {
    point: u32,
    start: i64,
    first_offset: i64,
}

#[derive(Debug)]
struct Point {
    id: u32,
    unit: u16,
    /// Newest device time, capped.
    progress: i64,
    /// Latest end of all windows emitted, as far as known.
    closed_through: i64,
    /// Ascending by start; these close as the point moves on.
    open: Vec<Window>,
    /// Ascending by start: windows that had passed when late data came; these close by the stream's time.
    late: Vec<Window>,
    /// Closed windows of the point that are kept.
    kept: u32,
}

#[derive(Debug)]
struct Window {
    start: i64,
    /// First input that opened it now.
    first_offset: i64,
    last_offset: i64,
    /// Of all revisions.
    from_offset: i64,
    /// Inputs up to here were in the content when it was opened again.
    counted_through: i64,
    /// What was emitted of it, 0 for nothing.
    revision: i64,
    unit: u16,
    content: Content,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            points: PointTable::default(),
            timers: BTreeMap::new(),
            holds: VecDeque::new(),
            closed: ClosedWindows::default(),
            units: vec![None],
            time: i64::MIN,
            output_end: 0,
            replay_through: -1,
            replaying: false,
            swept: i64::MIN,
        }
    }
}

impl Lane {
    /// Goes on from a checkpoint; [`Lane::was_emitted`] follows for every window behind its mark.
    pub(super) fn resume(&mut self, checkpoint: &Checkpoint) {
        self.output_end = checkpoint.mark;
        self.time = checkpoint.time;
        self.closed.raise_floor(checkpoint.floor);
    }

    /// Takes in a window that the output already holds.
    pub(super) fn was_emitted(&mut self, room: &mut Room, window: &Restored<'_>) {
        let (start, end) = (window.start.as_micros(), window.end.as_micros());
        let unit = self.unit(window.unit);
        let known = self.points.find(window.asset_id, window.parameter);
        let (Some(unit), true) = (unit, room.points > 0 || known.is_some()) else {
            self.closed.raise_floor(end);
            return;
        };
        let before = self.points.len();
        let id = self.points.find_or_insert_with(window.asset_id, window.parameter, || Point::new(unit));
        room.points -= self.points.len() - before;
        let Some(point) = self.points.get_mut(id) else { return };
        point.id = id;
        point.closed_through = point.closed_through.max(end);
        let emitted = Emitted {
            point: id,
            start,
            end,
            from_offset: window.from_offset,
            last_offset: window.offset,
            revision: window.revision,
            unit,
            time: window.gateway_time.as_micros(),
            mark: window.mark,
        };
        let content = Content::Readings(statistics::Accumulator::of(window.statistics));
        point.kept += u32::from(self.closed.keep(&emitted, content, &window.statistics));
        if window.offset != i64::MAX {
            self.replay_through = self.replay_through.max(window.offset);
        }
        self.replaying = true;
    }

    /// The number of a unit; `None` when there are too many.
    fn unit(&mut self, unit: Option<&str>) -> Option<u16> {
        let known = self.units.iter().position(|known| known.as_deref() == unit);
        let number = match known {
            Some(number) => number,
            None if self.units.len() >= UNITS_MAX => return None,
            None => {
                self.units.push(unit.map(Into::into));
                self.units.len() - 1
            }
        };
        u16::try_from(number).ok()
    }

    /// Takes one input in; windows that close on the way go to `out`.
    pub(super) fn sample(
        &mut self,
        shape: &Shape,
        room: &mut Room,
        sample: &Sample<'_>,
        out: &mut dyn FnMut(&Closed<'_>),
    ) -> Taken {
        self.replaying = self.replaying && sample.offset <= self.replay_through;
        let arrival = sample.gateway_time.as_micros();
        self.advance(shape, room, arrival, out);
        let (time, progress) = match sample.input {
            Input::Value { time, .. } => (time, time.as_micros()),
            Input::Child { start, .. } => (start, start.as_micros().saturating_add(shape.child_width)),
        };
        let start = time.window_start(shape.width).as_micros();
        let end = start.saturating_add(shape.width);
        let Some(id) = self.point(room, sample) else { return Taken::NoRoom };
        let progress = progress.min(arrival.saturating_add(AHEAD_MAX));
        let Some(point) = self.points.get(id) else { return Taken::NoRoom };
        let mut unit = point.unit;
        if self.units[usize::from(unit)].as_deref() != sample.unit {
            let Some(other) = self.unit(sample.unit) else { return Taken::NoRoom };
            unit = other;
        }
        let Self { points, timers, holds, closed, units, time, output_end, replaying, .. } = self;
        let (asset_id, parameter, point) = points.entry_mut(id).expect("the id was found just now");
        let mut rim = Rim { shape, room, closed, units, time: *time, mark: *output_end, asset_id, parameter, out };
        if end > point.passed(shape) && point.unit != unit {
            while !point.open.is_empty() {
                let window = point.open.remove(0);
                rim.close(point, window); // AGG-13: units never mix
            }
            point.unit = unit;
        }
        let passed = end <= point.passed(shape);
        let windows = if passed { &mut point.late } else { &mut point.open };
        match windows.binary_search_by_key(&start, |window| window.start) {
            Ok(at) => {
                let window = &mut windows[at];
                if window.unit != unit {
                    return Taken::Late;
                }
                if sample.offset > window.counted_through {
                    window.content.add(&sample.input);
                    window.last_offset = sample.offset;
                }
            }
            Err(at) => {
                let reopened = if passed { rim.reopen(id, point, start, sample, unit) } else { Ok(None) };
                let window = match reopened {
                    Ok(window) => window.unwrap_or_else(|| Window::new(start, sample, unit)),
                    Err(taken) => {
                        if taken == Taken::Known {
                            point.progress = point.progress.max(progress);
                            rim.close_passed(point);
                        }
                        return taken;
                    }
                };
                if rim.room.windows == 0 {
                    return Taken::NoRoom;
                }
                rim.room.windows -= 1;
                let windows = if passed { &mut point.late } else { &mut point.open };
                windows.insert(at, window);
                let deadline = if passed {
                    arrival.saturating_add(shape.lateness)
                } else {
                    // a point that runs behind the gateway's clock gets its delay on top
                    let behind = arrival.saturating_sub(progress).max(0);
                    end.saturating_add(behind).saturating_add(shape.lateness + SILENT_GRACE)
                };
                let step = deadline.div_euclid(TIMER_STEP).saturating_add(1).saturating_mul(TIMER_STEP);
                let key = WindowKey { point: id, start, first_offset: sample.offset };
                timers.entry(step).or_default().push(key);
                let mark = rim.closed.mark().unwrap_or(*output_end);
                holds.push_back(Hold { key, mark, floor: rim.closed.floor(), time: *time });
            }
        }
        point.progress = point.progress.max(progress);
        rim.close_passed(point);
        if !*replaying {
            self.trim(shape);
        }
        Taken::Added
    }

    /// Finds or makes the point; `None` when there is no room.
    fn point(&mut self, room: &mut Room, sample: &Sample<'_>) -> Option<u32> {
        if let Some(id) = self.points.find_next(sample.asset_id, sample.parameter) {
            return Some(id);
        }
        if room.points == 0 {
            return None;
        }
        let unit = self.unit(sample.unit)?;
        room.points -= 1;
        let id = self.points.find_or_insert_with(sample.asset_id, sample.parameter, || Point::new(unit));
        if let Some(point) = self.points.get_mut(id) {
            point.id = id;
            point.closed_through = self.closed.floor(); // what was let go may have been of this point
        }
        Some(id)
    }

    /// Gives a closed window the windows back it was merged from; `false` when they do not make up what was emitted.
    pub(super) fn complete(&mut self, asset: &str, parameter: &str, start: i64, mut children: Vec<Input>) -> bool {
        let Some(id) = self.points.find(asset, parameter) else { return false };
        let Some(Input::Child { .. }) = children.first() else { return false };
        let mut content = Content::new(&children.remove(0));
        for child in &children {
            content.add(child);
        }
        let Content::Children(children) = content else { return false };
        self.closed.complete(id, start, children)
    }

    /// Moves the stream's time on and closes the windows whose time has come.
    pub(super) fn advance(&mut self, shape: &Shape, room: &mut Room, now: i64, out: &mut dyn FnMut(&Closed<'_>)) {
        if now <= self.time {
            return;
        }
        self.time = now;
        while let Some(due) = self.timers.first_entry().filter(|entry| *entry.key() <= now) {
            for key in due.remove() {
                let Self { points, closed, units, output_end, .. } = self;
                let Some((asset_id, parameter, point)) = points.entry_mut(key.point) else { continue };
                let mut rim =
                    Rim { shape, room, closed, units, time: now, mark: *output_end, asset_id, parameter, out };
                if let Some(at) = find(&point.late, &key) {
                    let window = point.late.remove(at);
                    rim.close(point, window);
                } else if find(&point.open, &key).is_some() {
                    while point.open.first().is_some_and(|window| window.start <= key.start) {
                        let window = point.open.remove(0);
                        rim.close(point, window);
                    }
                }
            }
        }
        if now.saturating_sub(self.swept) > IDLE_MAX {
            self.swept = now;
            if !self.replaying {
                self.trim(shape);
            }
            let before = self.points.len();
            self.points.retain(|point| !point.open.is_empty() || !point.late.is_empty() || point.kept > 0);
            room.points += before - self.points.len();
        }
    }

    fn trim(&mut self, shape: &Shape) {
        let oldest = self.time.saturating_sub(REVISE_FOR);
        let points = &mut self.points;
        self.closed.trim(shape.kept_windows, shape.kept_children, oldest, |point| {
            if let Some(point) = points.get_mut(point) {
                point.kept = point.kept.saturating_sub(1);
            }
        });
    }

    /// Takes in where the output partition ends now.
    pub(super) fn note_output_end(&mut self, end: i64) {
        self.output_end = self.output_end.max(end);
    }

    /// From where a restart would go on; `next` is the next input.
    pub(super) fn checkpoint(&mut self, next: i64) -> Checkpoint {
        while let Some(Hold { key, .. }) = self.holds.front() {
            if self.points.get(key.point).is_some_and(|point| point.holds(key)) {
                break;
            }
            self.holds.pop_front();
        }
        match self.holds.front() {
            Some(Hold { key, mark, floor, time }) => {
                Checkpoint { offset: key.first_offset, mark: *mark, floor: *floor, time: *time, seen: next }
            }
            None => Checkpoint {
                offset: next,
                mark: self.closed.mark().unwrap_or(self.output_end),
                floor: self.closed.floor(),
                time: self.time,
                seen: next,
            },
        }
    }
}

/// What closing a window touches beside its point.
struct Rim<'l> {
    shape: &'l Shape,
    room: &'l mut Room,
    closed: &'l mut ClosedWindows,
    units: &'l [Option<Box<str>>],
    time: i64,
    mark: i64,
    asset_id: &'l str,
    parameter: &'l str,
    out: &'l mut dyn FnMut(&Closed<'_>),
}

impl Rim<'_> {
    /// Emits a window that was taken out of its point.
    fn close(&mut self, point: &mut Point, window: Window) {
        let end = window.start.saturating_add(self.shape.width);
        point.closed_through = point.closed_through.max(end);
        let statistics = window.content.fold();
        let revision = window.revision + 1;
        (self.out)(&Closed {
            asset_id: self.asset_id,
            parameter: self.parameter,
            unit: self.units[usize::from(window.unit)].as_deref(),
            start: Timestamp::from_micros(window.start),
            end: Timestamp::from_micros(end),
            statistics,
            quality: statistics::quality(&statistics),
            revision,
            from_offset: window.from_offset,
            offset: window.last_offset,
        });
        self.room.windows += 1;
        let emitted = Emitted {
            point: point.id,
            start: window.start,
            end,
            from_offset: window.from_offset,
            last_offset: window.last_offset,
            revision,
            unit: window.unit,
            time: self.time,
            mark: self.mark,
        };
        point.kept += u32::from(self.closed.keep(&emitted, window.content, &statistics));
    }

    /// Closes the windows the point has left behind.
    fn close_passed(&mut self, point: &mut Point) {
        let through = point.progress.saturating_sub(self.shape.lateness);
        while point.open.first().is_some_and(|window| window.start.saturating_add(self.shape.width) <= through) {
            let window = point.open.remove(0);
            self.close(point, window);
        }
    }

    /// A window that has passed, as it goes on with `sample`; `None` when nothing was emitted of it.
    fn reopen(
        &self,
        id: u32,
        point: &Point,
        start: i64,
        sample: &Sample<'_>,
        unit: u16,
    ) -> Result<Option<Window>, Taken> {
        let end = start.saturating_add(self.shape.width);
        let too_old = point.progress.max(point.closed_through).saturating_sub(end) > REVISE_FOR;
        let Some(kept) = self.closed.get(id, start) else {
            // what was let go may have been emitted
            return if too_old || end <= self.closed.floor() { Err(Taken::Late) } else { Ok(None) };
        };
        if sample.offset <= kept.last_offset {
            return Err(Taken::Known);
        }
        if too_old || kept.unit != unit {
            return Err(Taken::Late);
        }
        let Some(mut content) = kept.content(self.shape.child_width > 0) else {
            if kept.from_offset < 0 || kept.last_offset < kept.from_offset {
                return Err(Taken::Late);
            }
            return Err(Taken::Incomplete {
                start: Timestamp::from_micros(start),
                end: Timestamp::from_micros(end),
                from: kept.from_offset,
                through: kept.last_offset,
            });
        };
        content.add(&sample.input);
        Ok(Some(Window {
            start,
            first_offset: sample.offset,
            last_offset: sample.offset,
            from_offset: kept.from_offset,
            counted_through: kept.last_offset,
            revision: kept.revision,
            unit,
            content,
        }))
    }
}

impl Point {
    fn new(unit: u16) -> Self {
        let (open, late) = (Vec::new(), Vec::new());
        Self { id: 0, unit, progress: i64::MIN, closed_through: i64::MIN, open, late, kept: 0 }
    }

    /// Windows that end here or before do not wait for their inputs any more.
    fn passed(&self, shape: &Shape) -> i64 {
        self.closed_through.max(self.progress.saturating_sub(shape.lateness))
    }

    fn holds(&self, key: &WindowKey) -> bool {
        find(&self.open, key).or_else(|| find(&self.late, key)).is_some()
    }
}

impl Window {
    fn new(start: i64, sample: &Sample<'_>, unit: u16) -> Self {
        Self {
            start,
            first_offset: sample.offset,
            last_offset: sample.offset,
            from_offset: sample.offset,
            counted_through: -1,
            revision: 0,
            unit,
            content: Content::new(&sample.input),
        }
    }
}

/// The place of a window, when it is still the one meant.
fn find(windows: &[Window], key: &WindowKey) -> Option<usize> {
    let at = windows.binary_search_by_key(&key.start, |window| window.start).ok()?;
    (windows[at].first_offset == key.first_offset).then_some(at)
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

    /// What a lane wrote.
    #[derive(Debug, Clone, PartialEq)]
    struct Out {
        asset: String,
        unit: Option<String>,
        /// In seconds behind [`T0`].
        start: i64,
        end: i64,
        statistics: Statistics,
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
    }

    impl Bench {
        fn new() -> Self {
            Self::of(Resolution::Second)
        }

        fn of(resolution: Resolution) -> Self {
            Self {
                lane: Lane::default(),
                shape: Shape::new(resolution, 10_000, 10_000),
                room: Room { points: 100, windows: 1000 },
                emitted: Vec::new(),
                written: Vec::new(),
            }
        }

        fn take(&mut self, sample: &Sample<'_>) -> Taken {
            let Self { lane, shape, room, emitted, written } = self;
            let time = sample.gateway_time.as_micros();
            lane.sample(shape, room, sample, &mut |closed| {
                emitted.push(entry(closed));
                written.push(out(closed, time));
            })
        }

        fn advance(&mut self, to: i64) {
            let Self { lane, shape, room, emitted, written } = self;
            lane.advance(shape, room, T0 + to, &mut |closed| {
                emitted.push(entry(closed));
                written.push(out(closed, T0 + to));
            });
        }

        /// Takes an input in, reading children again from `log` when they are asked for.
        fn feed(&mut self, log: &[Out], offset: usize) -> Taken {
            let sample = child(&log[offset], offset);
            let taken = self.take(&sample);
            let Taken::Incomplete { start, end, from, through } = taken else { return taken };
            let range = usize::try_from(from).unwrap()..=usize::try_from(through).unwrap();
            let within = |other: &&Out| {
                let at = T0 + other.start * SECOND;
                other.asset == sample.asset_id && at >= start.as_micros() && at < end.as_micros()
            };
            let children = log[range].iter().filter(within).map(|other| child(other, 0).input).collect();
            assert!(self.lane.complete(sample.asset_id, "t", start.as_micros(), children), "{sample:?}");
            self.take(&sample)
        }

        fn restore(&mut self, window: &Out, mark: usize) {
            self.lane.was_emitted(
                &mut self.room,
                &Restored {
                    asset_id: &window.asset,
                    parameter: "t",
                    unit: window.unit.as_deref(),
                    start: Timestamp::from_micros(T0 + window.start * SECOND),
                    end: Timestamp::from_micros(T0 + window.end * SECOND),
                    statistics: window.statistics,
                    revision: window.revision,
                    from_offset: window.from,
                    offset: window.offset,
                    gateway_time: Timestamp::from_micros(window.time),
                    mark: i64::try_from(mark).unwrap(),
                },
            );
        }
    }

    fn entry(closed: &Closed<'_>) -> (String, i64, i64) {
        (closed.asset_id.to_owned(), (closed.start.as_micros() - T0) / SECOND, closed.statistics.count)
    }

    fn out(closed: &Closed<'_>, time: i64) -> Out {
        Out {
            asset: closed.asset_id.to_owned(),
            unit: closed.unit.map(Into::into),
            start: (closed.start.as_micros() - T0).div_euclid(SECOND),
            end: (closed.end.as_micros() - T0).div_euclid(SECOND),
            statistics: closed.statistics,
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
            input: Input::Child {
                start: Timestamp::from_micros(T0 + window.start * SECOND),
                statistics: window.statistics,
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
        let checkpoint = bench.lane.checkpoint(12);
        assert_eq!((checkpoint.offset, checkpoint.mark, checkpoint.seen, checkpoint.time), (10, 5, 12, T0));
        bench.take(&sample("a", 12, 9 * SECOND, 9 * SECOND, 1.0));
        assert_eq!(bench.lane.checkpoint(13).offset, 11, "b is still open");
        bench.lane.note_output_end(77);
        bench.advance(40 * SECOND);
        let checkpoint = bench.lane.checkpoint(13);
        assert_eq!((checkpoint.offset, checkpoint.mark), (13, 5), "what is kept is read back");
        bench.advance(25 * 3600 * SECOND);
        assert_eq!(bench.lane.checkpoint(13).mark, 77, "a day later nothing is kept");
        assert_eq!(bench.lane.checkpoint(13).floor, T0 + 10 * SECOND);
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
        let s = revised[0].statistics;
        assert_eq!((revised[0].start, revised[0].revision, s.count, s.sum, s.max), (400, 2, 3, 31.0, 20.0));
        minutes.shape.kept_children = 100; // so that the children of the minute are read again
        for offset in 0..seconds.written.len() {
            let taken = minutes.feed(&seconds.written, offset);
            assert_eq!(taken, Taken::Added, "{offset}");
        }
        minutes.advance(3000 * SECOND);
        let of_400: Vec<(i64, i64, f64)> = minutes
            .written
            .iter()
            .filter(|window| window.start == 360)
            .map(|window| (window.revision, window.statistics.count, window.statistics.sum))
            .collect();
        assert_eq!(of_400, [(1, 60, 60.0), (2, 62, 90.0)], "the child replaced its entry");
        let others = minutes.written.iter().filter(|window| window.start != 360).all(|window| window.revision == 1);
        assert!(others && minutes.written.len() == 11);
    }

    #[test]
    fn data_later_than_a_day_and_windows_let_go_are_refused() {
        // AGG-06
        let mut bench = Bench::new();
        bench.shape.kept_windows = 100;
        for second in 0..200 {
            bench.take(&sample("a", second, second * SECOND, second * SECOND, 1.0));
        }
        assert_eq!(bench.take(&sample("a", 200, 10 * SECOND, 200 * SECOND, 1.0)), Taken::Late, "let go");
        assert_eq!(bench.take(&sample("a", 201, 150 * SECOND, 200 * SECOND, 1.0)), Taken::Added);
        assert_eq!(bench.take(&sample("a", 202, -SECOND, 200 * SECOND, 1.0)), Taken::Late, "perhaps let go");
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
                bench.take(&sample(asset, i64::try_from(offset).unwrap(), *device, *gateway, *value));
            };
            let whole = run(Resolution::Second, children, log.len(), &[], commit_every, &seconds);
            let killed = run(Resolution::Second, children, log.len(), &kills, commit_every, &seconds);
            prop_assert_eq!(newest(&killed), newest(&whole));
            let total: i64 = newest(&whole).values().map(|window| window.statistics.count).sum();
            prop_assert_eq!(total, i64::try_from(log.len()).unwrap(), "a reading is missing or counted twice");
            let minutes = |bench: &mut Bench, offset: usize| {
                assert!(matches!(bench.feed(&whole, offset), Taken::Added | Taken::Known));
            };
            let whole_minutes = run(Resolution::Minute, children, whole.len(), &[], commit_every, &minutes);
            let killed_minutes = run(Resolution::Minute, children, whole.len(), &kills, commit_every, &minutes);
            prop_assert_eq!(newest(&killed_minutes), newest(&whole_minutes));
            let total: i64 = newest(&whole_minutes).values().map(|window| window.statistics.count).sum();
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
        children: usize,
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
            bench.shape.kept_children = children;
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
                    committed = bench.lane.checkpoint(i64::try_from(offset).unwrap());
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
}
