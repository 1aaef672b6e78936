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
//! last input, so an input read again is never counted twice. What happens when a window closes is in [`super::rim`].
//!
//! Long because: opening, reopening and resuming windows are one state with one invariant.

use std::collections::{BTreeMap, VecDeque};

use model::aggregate::{Carry, Partials};
use model::{Kind, Quality, Resolution, Timestamp};

use super::closed::{ClosedWindows, Emitted, KeptContent, KeptSeries};
use super::plan::{Plan, Plans};
use super::point::{self, EarlyStop, NONE, Point, Sort, Window, WindowKey};
use super::rim::Rim;
use super::series::Held;
use super::totals::Totals;
use super::window::{Child, Content, Input};
use crate::PointTable;

/// A device time counts at most this far ahead of the gateway's, in microseconds (AGG-02): one stamp from the future
/// closes nothing.
const AHEAD_MAX: i64 = 5_000_000;
/// Waited behind the lateness before a silent point's window is closed, in microseconds (AGG-02).
const SILENT_GRACE: i64 = 10_000_000;
/// Late windows may change for so much longer than the level below, in microseconds: what changed there in time changes here.
const REVISE_SLACK: i64 = 600_000_000;
/// A point without windows is looked for this often, in microseconds, and forgotten.
const IDLE_MAX: i64 = 3_600_000_000;
/// Deadlines are kept in steps of this, in microseconds.
const TIMER_STEP: i64 = 1_000_000;
/// Different units and kinds of one input partition; an input with one more is refused.
const SORTS_MAX: usize = 4096;

/// The fixed numbers of a level, times in microseconds.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) width: i64,
    pub(super) lateness: i64,
    /// Width of the windows this level merges, 0 when it takes readings.
    pub(super) child_width: i64,
    /// Late data changes windows that ended up to this long ago (AGG-06).
    pub(super) revise_for: i64,
    /// Memory of the closed windows kept per lane.
    pub(super) kept_bytes: usize,
    /// Children and readings of closed windows kept per lane.
    pub(super) kept_parts: usize,
    pub(super) plans: Plans,
}

impl Shape {
    pub(super) fn new(resolution: Resolution, plans: &Plans, kept_bytes: usize, kept_parts: usize) -> Self {
        let (child_width, slack) = match resolution {
            Resolution::Second => (0, 0),
            Resolution::Minute => (Resolution::Second.width_micros(), REVISE_SLACK),
            Resolution::Hour => (Resolution::Minute.width_micros(), 2 * REVISE_SLACK),
        };
        Self {
            width: resolution.width_micros(),
            lateness: resolution.lateness_micros(),
            child_width,
            revise_for: plans.revise_for.saturating_add(slack),
            kept_bytes,
            kept_parts,
            plans: plans.clone(),
        }
    }

    /// Whether windows of this kind are folded over time here; merged windows never are.
    pub(super) fn is_timed(&self, plan: &Plan, kind: Kind) -> bool {
        self.child_width == 0 && plan.is_timed(kind)
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
    /// It comes from the topic of events, which has offsets of its own.
    pub is_event: bool,
    pub input: Input<'a>,
}

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Added,
    /// The window was emitted with it already, as after a restart, or it changes nothing.
    Known,
    /// Its quality does not count, by configuration (AGG-03).
    Excluded,
    /// A value that the kind of its point cannot take.
    WrongKind,
    /// Its window is closed and may not change any more: too old, of another unit, or about time and no longer kept.
    Late,
    /// Its window may have been emitted and was let go: hand what the output holds of [`super::Level::stretch`] to
    /// [`super::Level::recall`], then the input again.
    Forgotten {
        start: Timestamp,
    },
    /// Its window is closed and kept without what it was made from: hand that to [`super::Level::complete`], then the
    /// input again. It is among the inputs of the point from offset `from` through `through`.
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
    pub kind: Kind,
    /// Inclusive.
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
    pub totals: &'a Totals,
    pub quality: Quality,
    /// From 1; late data counts it up.
    pub revision: i64,
    /// What held at its start and holds at its end, and when what held ceased to.
    pub held: Option<Carry<'a>>,
    pub carry: Option<Carry<'a>>,
    pub stops: &'a [i64],
    /// Offset of the first input it holds; negative when unknown.
    pub from_offset: i64,
    /// Offset of the last input it holds; negative without one.
    pub offset: i64,
}

impl<'a> Closed<'a> {
    /// The window as an input of the next level.
    pub fn as_child(&self, gateway_time: Timestamp, offset: i64) -> Sample<'a> {
        let (partials, partial) = (self.totals.partials(), self.totals.partial);
        Sample {
            asset_id: self.asset_id,
            parameter: self.parameter,
            unit: self.unit,
            gateway_time,
            offset,
            is_event: false,
            input: Input::Child { start: self.start, kind: self.kind, partials, partial },
        }
    }
}

/// A window found in the output after a restart.
#[derive(Debug, Clone, Copy)]
pub struct Restored<'a> {
    pub asset_id: &'a str,
    pub parameter: &'a str,
    pub unit: Option<&'a str>,
    pub kind: Kind,
    pub start: Timestamp,
    pub end: Timestamp,
    pub partials: Partials<'a>,
    pub partial: bool,
    pub held: Option<Carry<'a>>,
    pub carry: Option<Carry<'a>>,
    pub stops: model::aggregate::Times<'a>,
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
    /// First event to read again.
    pub event_offset: i64,
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
    pub const START: Self = Self { offset: 0, event_offset: 0, mark: 0, floor: i64::MIN, time: i64::MIN, seen: 0 };
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) points: PointTable<Point>,
    /// Deadline -> windows to close when it comes; entries of closed windows are skipped.
    timers: BTreeMap<i64, Vec<WindowKey>>,
    /// Windows in the order they got their first input, so by ascending offset; closed ones leave at the front.
    holds: VecDeque<Hold>,
    /// The same of events: point, start of the window, offset.
    event_holds: VecDeque<(u32, i64, i64)>,
    pub(super) closed: ClosedWindows,
    /// Units and kinds by their number.
    sorts: Vec<Sort>,
    /// The stream's time in microseconds, `i64::MIN` before the first input.
    pub(super) time: i64,
    /// Where the output ended when that was asked for last.
    pub(super) output_end: i64,
    /// Last input that the output found after a restart holds: up to it nothing kept is let go.
    replay_through: i64,
    replaying: bool,
    /// Whether what the output holds was looked through after the start.
    begun: bool,
    swept: i64,
    /// Bytes and parts this lane may keep beyond its share, because others use less of theirs.
    more: (usize, usize),
}

/// Where a restart would go on while this window is open.
#[derive(Debug, Clone, Copy)]
struct Hold {
    key: WindowKey,
    mark: i64,
    floor: i64,
    time: i64,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            points: PointTable::default(),
            timers: BTreeMap::new(),
            holds: VecDeque::new(),
            event_holds: VecDeque::new(),
            closed: ClosedWindows::default(),
            sorts: vec![Sort { unit: None, kind: Kind::Value }],
            time: i64::MIN,
            output_end: 0,
            replay_through: -1,
            replaying: false,
            begun: true,
            swept: i64::MIN,
            more: (0, 0),
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
    pub(super) fn was_emitted(&mut self, shape: &Shape, room: &mut Room, window: &Restored<'_>) {
        let (start, end) = (window.start.as_micros(), window.end.as_micros());
        let sort = self.sort(window.unit, window.kind);
        let known = self.points.find(window.asset_id, window.parameter);
        let (Some(sort), true) = (sort, room.points > 0 || known.is_some()) else {
            self.closed.raise_floor(end);
            return;
        };
        let before = self.points.len();
        let id = self.points.find_or_insert_with(window.asset_id, window.parameter, || {
            Point::new(sort, shape.plans.find(window.asset_id, window.parameter))
        });
        room.points -= self.points.len() - before;
        let Some(point) = self.points.get_mut(id) else { return };
        point.id = id;
        let totals = Totals::of(&window.partials, window.partial);
        let content = if shape.is_timed(shape.plans.get(point.plan), window.kind) {
            let (held, carry) = (window.held.as_ref().map(Held::of), window.carry.as_ref().map(Held::of));
            if end >= point.closed_through {
                point.held = carry.clone().map(Box::new);
                point.behind = window.carry.map_or(0, |carry| carry.behind_us);
                point.sort = sort;
            }
            let stops = window.stops.iter().collect();
            KeptContent::Timed(Box::new(KeptSeries::restored(totals, held, carry, stops)))
        } else {
            KeptContent::Folded(Child::of_totals(totals))
        };
        point.closed_through = point.closed_through.max(end);
        let emitted = Emitted {
            point: id,
            start,
            end,
            from_offset: window.from_offset,
            last_offset: window.offset,
            revision: window.revision,
            unit: sort,
            time: window.gateway_time.as_micros(),
            mark: window.mark,
        };
        point.kept += u32::from(self.closed.keep(&emitted, content));
        if window.offset != i64::MAX {
            self.replay_through = self.replay_through.max(window.offset);
        }
        self.replaying = true;
        self.begun = false;
    }

    /// The number of a unit and kind; `None` when there are too many.
    pub(super) fn sort(&mut self, unit: Option<&str>, kind: Kind) -> Option<u16> {
        let known = self.sorts.iter().position(|known| known.kind == kind && known.unit.as_deref() == unit);
        let number = match known {
            Some(number) => number,
            None if self.sorts.len() >= SORTS_MAX => return None,
            None => {
                self.sorts.push(Sort { unit: unit.map(Into::into), kind });
                self.sorts.len() - 1
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
        if !sample.is_event {
            self.replaying = self.replaying && sample.offset <= self.replay_through;
        }
        let arrival = sample.gateway_time.as_micros();
        if !sample.is_event {
            self.advance(shape, room, arrival, out);
        }
        let (time, progress) = match sample.input {
            Input::Reading { time, .. } | Input::Stop { time, .. } => (time, time.as_micros()),
            Input::Child { start, .. } => (start, start.as_micros().saturating_add(shape.child_width)),
        };
        let (id, kind) = match self.point(shape, room, sample) {
            Ok(found) => found,
            Err(taken) => return taken,
        };
        let Some(point) = self.points.get_mut(id) else { return Taken::NoRoom };
        if let Input::Stop { time, since } = sample.input
            && sample.is_event
            && point.stop_early(time.as_micros(), since.as_micros(), sample.offset)
        {
            let start = time.window_start(shape.width).as_micros();
            self.event_holds.push_back((id, start, sample.offset));
            return Taken::Added;
        }
        let early = if sample.is_event { None } else { point.early.take() };
        let (mut sort, plan) = (point.sort, shape.plans.get(point.plan));
        let known = &self.sorts[usize::from(sort)];
        if !sample.is_event && (known.kind != kind || known.unit.as_deref() != sample.unit) {
            let Some(other) = self.sort(sample.unit, kind) else { return Taken::NoRoom };
            sort = other;
        }
        if early.is_some()
            && let Some(point) = self.points.get_mut(id)
        {
            point.sort = sort; // its first reading
        }
        let is_timed = shape.is_timed(plan, kind);
        let counted = match sample.input {
            Input::Reading { quality, .. } => shape.plans.counts(quality),
            Input::Stop { .. } | Input::Child { .. } => true,
        };
        if !counted {
            if !is_timed {
                return Taken::Excluded;
            }
            // a value that does not count ends the one that held
            let stop = Sample { input: Input::Stop { time, since: time }, ..*sample };
            let taken = self.place(shape, room, (id, sort, kind), (time.as_micros(), None), &stop, out);
            return if taken == Taken::Added { Taken::Excluded } else { taken };
        }
        let progress = (!sample.is_event).then(|| progress.min(arrival.saturating_add(AHEAD_MAX)));
        if let (Input::Stop { since, .. }, false) = (sample.input, is_timed) {
            return self.mark_gap(shape, room, (id, sort), since.as_micros(), sample.offset, out);
        }
        let taken = self.place(shape, room, (id, sort, kind), (time.as_micros(), progress), sample, out);
        for early in early.into_iter().flatten() {
            if is_timed {
                let (time, since) = (Timestamp::from_micros(early.time), Timestamp::from_micros(early.since));
                let stopped =
                    Sample { offset: early.offset, is_event: true, input: Input::Stop { time, since }, ..*sample };
                self.place(shape, room, (id, sort, kind), (early.time, None), &stopped, out);
            } else {
                self.mark_gap(shape, room, (id, sort), early.since, early.offset, out);
            }
        }
        taken
    }

    /// Puts an input into its window.
    fn place(
        &mut self,
        shape: &Shape,
        room: &mut Room,
        (id, sort, kind): (u32, u16, Kind),
        (time, progress): (i64, Option<i64>),
        sample: &Sample<'_>,
        out: &mut dyn FnMut(&Closed<'_>),
    ) -> Taken {
        let Self { points, timers, holds, event_holds, closed, sorts, time: now, output_end, replaying, .. } = self;
        let Some((asset_id, parameter, point)) = points.entry_mut(id) else { return Taken::NoRoom };
        let mut rim =
            Rim { shape, room, closed, timers, sorts, time: *now, mark: *output_end, asset_id, parameter, out };
        let start = match point.open.last() {
            // nearly always: no division needed
            Some(last) if time >= last.start && time - last.start < shape.width => last.start,
            _ => time - time.rem_euclid(shape.width),
        };
        let end = start.saturating_add(shape.width);
        let passed = end <= point.passed(shape);
        if !passed && point.sort != sort {
            rim.close_all(point, true); // AGG-13: units never mix
            point.sort = sort;
            point.held = None;
        }
        let passed = end <= point.passed(shape);
        let windows = if passed { &mut point.late } else { &mut point.open };
        let place = match point::at(windows, start) {
            Ok(place) => place,
            Err(place) => {
                let reopened = if passed { rim.reopen(point, start, sample, sort) } else { Ok(None) };
                let window = match reopened {
                    Ok(window) => window,
                    Err(taken) => {
                        if let (Taken::Known, Some(progress)) = (taken, progress) {
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
                let plan = shape.plans.get(point.plan);
                let window = window.unwrap_or_else(|| {
                    Window::new(start, sort, point::empty(plan, &rim.sorts[usize::from(sort)], shape))
                });
                let windows = if passed { &mut point.late } else { &mut point.open };
                windows.insert(place, window);
                place
            }
        };
        let windows = if passed { &mut point.late } else { &mut point.open };
        let window = &mut windows[place];
        if window.sort != sort {
            return Taken::Late;
        }
        let (first_offset, first_event) = (window.first_offset, window.first_event);
        window.add(kind, sample);
        if !sample.is_event && first_offset == NONE {
            window.first_offset = sample.offset;
            let key = WindowKey { point: id, start, first_offset: sample.offset };
            let mark = rim.closed.mark().unwrap_or(*output_end);
            holds.push_back(Hold { key, mark, floor: rim.closed.floor(), time: *now });
        }
        if window.first_event != first_event {
            event_holds.push_back((id, start, sample.offset));
        }
        if let Some(progress) = progress {
            // a point that runs behind the gateway's clock gets its delay on top
            point.behind = sample.gateway_time.as_micros().saturating_sub(progress).max(0);
        }
        if first_offset == NONE && (!sample.is_event || first_event == NONE) {
            let deadline = if passed { now.saturating_add(shape.lateness) } else { rim.deadline(point, end, kind) };
            let key = WindowKey { point: id, start, first_offset: if sample.is_event { NONE } else { sample.offset } };
            rim.set_timer(deadline, key);
        }
        if let Some(progress) = progress {
            point.progress = point.progress.max(progress);
            rim.close_passed(point);
        }
        if !*replaying {
            self.trim(shape);
        }
        Taken::Added
    }

    /// Nothing is known since then of a point whose readings are folded without their time: the window behind is emitted,
    /// empty, unless it has readings (AGG-08). Which one that is depends on the event alone, not on what came before it.
    fn mark_gap(
        &mut self,
        shape: &Shape,
        room: &mut Room,
        (id, sort): (u32, u16),
        since: i64,
        offset: i64,
        out: &mut dyn FnMut(&Closed<'_>),
    ) -> Taken {
        let Self { points, timers, event_holds, closed, sorts, time: now, output_end, .. } = self;
        let Some((asset_id, parameter, point)) = points.entry_mut(id) else { return Taken::NoRoom };
        let start = since - since.rem_euclid(shape.width) + shape.width;
        let end = start.saturating_add(shape.width);
        let mark = *output_end;
        let mut rim = Rim { shape, room, closed, timers, sorts, time: *now, mark, asset_id, parameter, out };
        if end <= point.passed(shape) {
            return rim.mark_gap(point, start, sort);
        }
        let Err(place) = point::at(&point.open, start) else { return Taken::Known };
        if rim.closed.get(id, start).is_some() {
            return Taken::Known;
        }
        if rim.room.windows == 0 {
            return Taken::NoRoom;
        }
        rim.room.windows -= 1;
        let content = point::empty(shape.plans.get(point.plan), &rim.sorts[usize::from(sort)], shape);
        let window = Window { first_event: offset, ..Window::new(start, sort, content) };
        point.open.insert(place, window);
        event_holds.push_back((id, start, offset));
        let deadline = silent_deadline(shape, end, point.behind, 0);
        rim.set_timer(deadline, WindowKey { point: id, start, first_offset: NONE });
        Taken::Added
    }

    /// Finds or makes the point, with the kind of the input.
    fn point(&mut self, shape: &Shape, room: &mut Room, sample: &Sample<'_>) -> Result<(u32, Kind), Taken> {
        let of_plan = |plan: &Plan, sorts: &[Sort], sort: u16| match &sample.input {
            Input::Reading { value, .. } => plan.kind(value).ok_or(Taken::WrongKind),
            Input::Child { kind, .. } => Ok(*kind),
            Input::Stop { .. } => Ok(sorts[usize::from(sort)].kind),
        };
        if let Some(id) = self.points.find_next(sample.asset_id, sample.parameter) {
            let Some(point) = self.points.get(id) else { return Err(Taken::NoRoom) };
            return of_plan(shape.plans.get(point.plan), &self.sorts, point.sort).map(|kind| (id, kind));
        }
        let plan = shape.plans.find(sample.asset_id, sample.parameter);
        if let Input::Stop { .. } = sample.input {
            if room.points == 0 || shape.child_width > 0 {
                return Err(Taken::Known);
            }
            room.points -= 1;
            let new = || Point::without_readings(plan);
            let id = self.points.find_or_insert_with(sample.asset_id, sample.parameter, new);
            if let Some(point) = self.points.get_mut(id) {
                point.id = id;
                point.closed_through = self.closed.floor();
            }
            return Ok((id, Kind::Value));
        }
        let kind = of_plan(shape.plans.get(plan), &self.sorts, 0)?;
        if room.points == 0 {
            return Err(Taken::NoRoom);
        }
        let sort = self.sort(sample.unit, kind).ok_or(Taken::NoRoom)?;
        room.points -= 1;
        let id = self.points.find_or_insert_with(sample.asset_id, sample.parameter, || Point::new(sort, plan));
        if let Some(point) = self.points.get_mut(id) {
            point.id = id;
            point.closed_through = self.closed.floor(); // what was let go may have been of this point
        }
        Ok((id, kind))
    }

    /// Gives a closed window back what it was made from; `false` when that does not make up what was emitted.
    pub(super) fn complete(
        &mut self,
        shape: &Shape,
        asset: &str,
        parameter: &str,
        start: i64,
        inputs: &[Input<'_>],
    ) -> bool {
        let Some(id) = self.points.find(asset, parameter) else { return false };
        let (Some(point), Some(kept)) = (self.points.get(id), self.closed.get(id, start)) else { return false };
        let plan = shape.plans.get(point.plan);
        let sort = &self.sorts[usize::from(kept.unit)];
        let mut content = point::empty(plan, sort, shape);
        for input in inputs {
            match input {
                Input::Reading { value, quality, .. } if shape.plans.counts(*quality) => {
                    if plan.kind(value) == Some(sort.kind) {
                        content.add(sort.kind, input);
                    }
                }
                Input::Child { kind, .. } if *kind == sort.kind => content.add(sort.kind, input),
                // the stops are kept
                Input::Reading { .. } | Input::Stop { .. } | Input::Child { .. } => {}
            }
        }
        if matches!(&content, Content::Children(children) if children.is_empty()) {
            return false;
        }
        self.closed.complete(id, start, content, Content::fold_children)
    }

    /// Moves the stream's time on and closes the windows whose time has come.
    pub(super) fn advance(&mut self, shape: &Shape, room: &mut Room, now: i64, out: &mut dyn FnMut(&Closed<'_>)) {
        if !self.begun {
            self.begun = true;
            self.begin(shape, room, out);
        }
        if now <= self.time {
            return;
        }
        self.time = now;
        while let Some(due) = self.timers.first_entry().filter(|entry| *entry.key() <= now) {
            for key in due.remove() {
                let Self { points, closed, timers, sorts, output_end, .. } = self;
                let Some((asset_id, parameter, point)) = points.entry_mut(key.point) else { continue };
                let mut rim =
                    Rim { shape, room, closed, timers, sorts, time: now, mark: *output_end, asset_id, parameter, out };
                if let Some(at) = point::find(&point.late, &key) {
                    let window = point.late.remove(at);
                    rim.close_late(point, window);
                } else if point::find(&point.open, &key).is_some() {
                    while point.open.first().is_some_and(|window| window.start <= key.start) {
                        rim.close_first(point, false);
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
            self.points.retain(|point| {
                let is_young = |early: &EarlyStop| now.saturating_sub(early.time) <= IDLE_MAX;
                let waits = point.early.iter().flatten().any(is_young);
                !point.open.is_empty() || !point.late.is_empty() || point.kept > 0 || waits
            });
            room.points += before - self.points.len();
        }
    }

    /// Goes on with what held when the output was written, and mends what a crash left between two of its records.
    fn begin(&mut self, shape: &Shape, room: &mut Room, out: &mut dyn FnMut(&Closed<'_>)) {
        let timed = self.closed.timed();
        let Self { points, closed, timers, sorts, output_end, time, .. } = self;
        for (i, (id, start)) in timed.iter().copied().enumerate() {
            let following = timed.get(i + 1).filter(|(other, _)| *other == id).map(|(_, start)| *start);
            let Some((asset_id, parameter, point)) = points.entry_mut(id) else { continue };
            let mut rim =
                Rim { shape, room, closed, timers, sorts, time: *time, mark: *output_end, asset_id, parameter, out };
            rim.mend(point, start, following);
        }
    }

    fn trim(&mut self, shape: &Shape) {
        let oldest = self.time.saturating_sub(shape.revise_for);
        let points = &mut self.points;
        let (bytes, parts) = (shape.kept_bytes + self.more.0, shape.kept_parts + self.more.1);
        self.closed.trim(bytes, parts, oldest, |point, start| {
            if let Some(point) = points.get_mut(point) {
                point.kept = point.kept.saturating_sub(1);
                point.known.cut(start, start.saturating_add(shape.width));
            }
        });
    }

    /// Bytes and parts that are kept.
    pub(super) fn kept(&self) -> (usize, usize) {
        self.closed.held()
    }

    /// How much it may keep beyond its share.
    pub(super) fn allow(&mut self, more: (usize, usize)) {
        self.more = more;
    }

    /// Takes in where the output partition ends now.
    pub(super) fn note_output_end(&mut self, end: i64) {
        self.output_end = self.output_end.max(end);
    }

    /// From where a restart would go on; `next` and `next_event` are the next inputs.
    pub(super) fn checkpoint(&mut self, next: i64, next_event: i64) -> Checkpoint {
        while let Some(Hold { key, .. }) = self.holds.front() {
            if self.points.get(key.point).is_some_and(|point| point.holds(key)) {
                break;
            }
            self.holds.pop_front();
        }
        while let Some((point, start, offset)) = self.event_holds.front() {
            if self.points.get(*point).is_some_and(|point| point.holds_event(*start, *offset)) {
                break;
            }
            self.event_holds.pop_front();
        }
        let event_offset = self.event_holds.front().map_or(next_event, |(_, _, offset)| *offset);
        match self.holds.front() {
            Some(Hold { key, mark, floor, time }) => Checkpoint {
                offset: key.first_offset,
                event_offset,
                mark: *mark,
                floor: *floor,
                time: *time,
                seen: next,
            },
            None => Checkpoint {
                offset: next,
                event_offset,
                mark: self.closed.mark().unwrap_or(self.output_end),
                floor: self.closed.floor(),
                time: self.time,
                seen: next,
            },
        }
    }
}

/// When the windows of a silent point close at the latest.
pub(super) fn silent_deadline(shape: &Shape, end: i64, behind: i64, hold: i64) -> i64 {
    end.saturating_add(behind).saturating_add(shape.lateness + SILENT_GRACE).saturating_add(hold)
}

pub(super) fn set_timer(timers: &mut BTreeMap<i64, Vec<WindowKey>>, deadline: i64, key: WindowKey) {
    let step = deadline.div_euclid(TIMER_STEP).saturating_add(1).saturating_mul(TIMER_STEP);
    timers.entry(step).or_default().push(key);
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
