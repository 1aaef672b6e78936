//! What happens when a window closes: it is folded and emitted, kept for late data, and what holds at its end goes on into
//! the next window (AGG-07, AGG-08).
//!
//! A window about time goes on into the next one as long as its value holds, whether a reading comes or not; the first
//! window in which nothing is known any more is emitted empty, as the mark of a gap. When late data changes what holds at
//! the end of a closed window, only the *heads* of the windows behind it change, and they need no readings for that.

use std::collections::BTreeMap;

use model::{Kind, Timestamp};

use super::closed::{ClosedWindows, Emitted, Kept, KeptContent, KeptSeries};
use super::lane::{Closed, Room, Sample, Shape, Taken, set_timer, silent_deadline};
use super::plan::Plan;
use super::point::{self, NONE, Point, Sort, Window, WindowKey};
use super::series::{Frame, Held, Series};
use super::totals::Totals;
use super::window::{Child, Content, Input};

/// Windows that one change of a closed window may change behind it: an hour of seconds, which is the longest hold.
const RIPPLE_MAX: usize = 3_700;

/// What closing a window touches beside its point.
pub(super) struct Rim<'l> {
    pub(super) shape: &'l Shape,
    pub(super) room: &'l mut Room,
    pub(super) closed: &'l mut ClosedWindows,
    pub(super) timers: &'l mut BTreeMap<i64, Vec<WindowKey>>,
    pub(super) sorts: &'l [Sort],
    pub(super) time: i64,
    pub(super) mark: i64,
    pub(super) asset_id: &'l str,
    pub(super) parameter: &'l str,
    pub(super) out: &'l mut dyn FnMut(&Closed<'_>),
}

/// What of a window about time is emitted beside its totals.
#[derive(Default)]
struct Ends<'h> {
    held: Option<&'h Held>,
    carry: Option<&'h Held>,
    stops: &'h [i64],
}

/// Which inputs a window was made from, and how often it was emitted.
#[derive(Debug, Clone, Copy)]
struct Origin {
    start: i64,
    from_offset: i64,
    last_offset: i64,
    revision: i64,
    sort: u16,
}

impl Origin {
    fn of(window: &Window) -> Self {
        Self {
            start: window.start,
            from_offset: window.from_offset,
            last_offset: window.last_offset,
            revision: window.revision + 1,
            sort: window.sort,
        }
    }
}

impl Rim<'_> {
    /// Closes every window the point has open.
    pub(super) fn close_all(&mut self, point: &mut Point, partial: bool) {
        let last = point.open.last().map_or(i64::MIN, |window| window.start);
        while point.open.first().is_some_and(|window| window.start <= last) {
            self.close_first(point, partial);
        }
        // what went on holding ends here
        self.room.windows += point.open.len();
        point.open.clear();
    }

    /// Closes the windows the point has left behind.
    #[inline]
    pub(super) fn close_passed(&mut self, point: &mut Point) {
        let through = point.progress.saturating_sub(self.shape.lateness);
        while point.open.first().is_some_and(|window| window.start.saturating_add(self.shape.width) <= through) {
            self.close_first(point, false);
        }
    }

    /// Closes the oldest open window.
    pub(super) fn close_first(&mut self, point: &mut Point, partial: bool) {
        let window = point.open.remove(0);
        self.room.windows += 1;
        let end = window.start.saturating_add(self.shape.width);
        let origin = Origin::of(&window);
        let Window { content, sort, .. } = window;
        let Content::Series(series) = content else {
            self.close_folded(point, origin, content, partial);
            return;
        };
        let next = first_behind(point, end);
        let held = point.held.take().map(|held| *held);
        let frame = self.frame(point.plan, sort, origin.start);
        let (mut totals, carry) = series.fold(&frame, held.as_ref(), next);
        totals.partial = partial;
        let is_empty = totals.is_empty();
        // a counter goes on only towards a reading that is known
        let goes_on = match frame.kind {
            Kind::Counter => carry.as_ref().is_some_and(|carry| carry.counted != 0.0 || reaches(&frame, carry, next)),
            _ => carry.is_some(),
        };
        point.held.clone_from(&carry.clone().map(Box::new));
        let ends = Ends { held: held.as_ref(), carry: carry.as_ref(), stops: &series.stops };
        self.emit(point, &origin, &totals, &ends);
        let kept = KeptSeries::new(totals, held, carry, *series);
        self.keep(point, &origin, KeptContent::Timed(Box::new(kept)));
        if !partial && (goes_on || !is_empty) {
            self.open_next(point, end, sort);
        }
    }

    /// Closes a window that late data opened again.
    pub(super) fn close_late(&mut self, point: &mut Point, window: Window) {
        self.room.windows += 1;
        let end = window.start.saturating_add(self.shape.width);
        let origin = Origin::of(&window);
        let partial = self.was_partial(point.id, &origin);
        let Window { content, held, .. } = window;
        let Content::Series(series) = content else {
            self.close_folded(point, origin, content, partial);
            return;
        };
        let next = self.first_emitted_behind(point, end);
        let frame = self.frame(point.plan, origin.sort, origin.start);
        let held = held.map(|held| *held);
        let (mut totals, carry) = series.fold(&frame, held.as_ref(), next);
        totals.partial = partial;
        let ends = Ends { held: held.as_ref(), carry: carry.as_ref(), stops: &series.stops };
        self.emit(point, &origin, &totals, &ends);
        let kept = KeptSeries::new(totals, held, carry.clone(), *series);
        self.keep(point, &origin, KeptContent::Timed(Box::new(kept)));
        self.ripple(point, end, carry, origin.sort);
        self.close_passed(point);
    }

    /// Emits a window that needs nothing from before; and the mark of a gap behind it, when its last child is one.
    fn close_folded(&mut self, point: &mut Point, origin: Origin, content: Content, partial: bool) {
        let ends_in_gap = content.ends_in_gap();
        let sort = &self.sorts[usize::from(origin.sort)];
        let mut totals = content.fold(self.shape.plans.get(point.plan), sort.kind, self.shape.width);
        totals.partial |= partial;
        let is_empty = totals.is_empty();
        self.emit(point, &origin, &totals, &Ends::default());
        let content = match content {
            Content::Children(children) => KeptContent::Whole(children),
            _ => KeptContent::Folded(Child::of_totals(totals)),
        };
        self.keep(point, &origin, content);
        if ends_in_gap && !is_empty && !partial {
            self.mark_gap(point, origin.start.saturating_add(self.shape.width), origin.sort);
        }
    }

    fn was_partial(&self, point: u32, origin: &Origin) -> bool {
        // of merged windows the children tell
        let kept = self.closed.get(point, origin.start);
        self.shape.child_width == 0 && kept.is_some_and(Kept::is_partial)
    }

    fn frame(&self, plan: u16, sort: u16, start: i64) -> Frame<'_> {
        let plan: &Plan = self.shape.plans.get(plan);
        let kind = self.sorts[usize::from(sort)].kind;
        Frame { plan, kind, start, end: start.saturating_add(self.shape.width) }
    }

    fn emit(&mut self, point: &mut Point, origin: &Origin, totals: &Totals, ends: &Ends<'_>) {
        let end = origin.start.saturating_add(self.shape.width);
        point.closed_through = point.closed_through.max(end);
        let sort = &self.sorts[usize::from(origin.sort)];
        (self.out)(&Closed {
            asset_id: self.asset_id,
            parameter: self.parameter,
            unit: sort.unit.as_deref(),
            kind: sort.kind,
            start: Timestamp::from_micros(origin.start),
            end: Timestamp::from_micros(end),
            totals,
            quality: totals.quality(self.shape.width),
            revision: origin.revision,
            held: ends.held.map(|held| held.carry(point.behind)),
            carry: ends.carry.map(|held| held.carry(point.behind)),
            stops: ends.stops,
            from_offset: origin.from_offset,
            offset: origin.last_offset,
        });
    }

    fn keep(&mut self, point: &mut Point, origin: &Origin, content: KeptContent) {
        let emitted = Emitted {
            point: point.id,
            start: origin.start,
            end: origin.start.saturating_add(self.shape.width),
            from_offset: origin.from_offset,
            last_offset: origin.last_offset,
            revision: origin.revision,
            unit: origin.sort,
            time: self.time,
            mark: self.mark,
        };
        point.kept += u32::from(self.closed.keep(&emitted, content));
    }

    pub(super) fn deadline(&self, point: &Point, end: i64, kind: Kind) -> i64 {
        // the share of a step is known when its end is: a counter waits for it as long as it may be spread
        let hold = if kind == Kind::Counter && self.shape.child_width == 0 {
            self.shape.plans.get(point.plan).hold
        } else {
            0
        };
        silent_deadline(self.shape, end, point.behind, hold)
    }

    pub(super) fn set_timer(&mut self, deadline: i64, key: WindowKey) {
        set_timer(self.timers, deadline, key);
    }

    /// Opens the window behind a closed one, into which its value goes on, or which marks a gap.
    fn open_next(&mut self, point: &mut Point, start: i64, sort: u16) {
        let Err(place) = point::at(&point.open, start) else { return };
        if let Ok(late) = point::at(&point.late, start) {
            point.late[late].held = point.held.take(); // goes on when that one closes
            return;
        }
        if self.room.windows == 0 || start < point.closed_through || self.closed.get(point.id, start).is_some() {
            return;
        }
        self.room.windows -= 1;
        let content = point::empty(self.shape.plans.get(point.plan), &self.sorts[usize::from(sort)], self.shape);
        point.open.insert(place, Window::new(start, sort, content));
        let kind = self.sorts[usize::from(sort)].kind;
        let deadline = self.deadline(point, start.saturating_add(self.shape.width), kind);
        self.set_timer(deadline, WindowKey { point: point.id, start, first_offset: NONE });
    }

    /// Emits the window that begins at `start` empty, as the mark of a gap (AGG-08). Nothing happens where it is known
    /// already, or may have been let go; what comes for it later makes its next revision.
    pub(super) fn mark_gap(&mut self, point: &mut Point, start: i64, sort: u16) -> Taken {
        let end = start.saturating_add(self.shape.width);
        let is_open = |windows: &[Window]| point::at(windows, start).is_ok();
        if is_open(&point.open) || is_open(&point.late) || self.closed.get(point.id, start).is_some() {
            return Taken::Known;
        }
        if end <= self.closed.floor() || point.passed(self.shape).saturating_sub(end) > self.shape.revise_for {
            return Taken::Late;
        }
        let content = point::empty(self.shape.plans.get(point.plan), &self.sorts[usize::from(sort)], self.shape);
        let origin = Origin { start, from_offset: NONE, last_offset: NONE, revision: 1, sort };
        self.close_folded(point, origin, content, false);
        Taken::Added
    }

    /// Carries a change of what holds at `start` on, through the windows behind it.
    fn ripple(&mut self, point: &mut Point, mut start: i64, mut held: Option<Held>, sort: u16) {
        for _ in 0..RIPPLE_MAX {
            if let Ok(place) = point::at(&point.late, start) {
                point.late[place].held = held.map(Box::new);
                return;
            }
            let end = start.saturating_add(self.shape.width);
            if start >= point.closed_through {
                let is_counter = self.sorts[usize::from(sort)].kind == Kind::Counter;
                if let Some(late) = point.late.iter_mut().find(|late| is_counter && late.start > start) {
                    late.held = held.map(Box::new); // over a hole
                    return;
                }
                let goes_on = held.is_some();
                if point.sort == sort {
                    point.held = held.map(Box::new);
                    if goes_on && !is_counter {
                        self.open_next(point, start, sort);
                    }
                }
                return;
            }
            let next = self.first_emitted_behind(point, end);
            let frame = self.frame(point.plan, sort, start);
            let (origin, kept) = match self.closed.get(point.id, start) {
                Some(kept) => {
                    let Some(series) = kept.series().filter(|series| kept.unit == sort && series.held != held) else {
                        return;
                    };
                    let (totals, carry) = exchange_head(&frame, series, held.as_ref(), next);
                    if totals == series.totals && carry == series.carry {
                        return; // nothing that anybody could see
                    }
                    let (from_offset, last_offset) = (kept.from_offset, kept.last_offset);
                    let revision = kept.revision + 1;
                    let origin = Origin { start, from_offset, last_offset, revision, sort };
                    (origin, series.with_head(totals, held.clone(), carry))
                }
                None => {
                    // never emitted, since nothing held then
                    let spreads = frame.kind != Kind::Counter || next.is_some();
                    let Some(now) = held.as_ref().filter(|_| spreads && end > self.closed.floor()) else { return };
                    let empty = Series::default();
                    let (totals, carry) = empty.fold(&frame, Some(now), next);
                    if totals.is_empty() {
                        match frame.kind {
                            // the step may end behind a hole
                            Kind::Counter => (start, held) = (end, carry),
                            _ => return,
                        }
                        continue;
                    }
                    let origin = Origin { start, from_offset: NONE, last_offset: NONE, revision: 1, sort };
                    (origin, KeptSeries::new(totals, held.clone(), carry, empty))
                }
            };
            let ends = Ends { held: kept.held.as_ref(), carry: kept.carry.as_ref(), stops: &kept.stops };
            self.emit(point, &origin, &kept.totals, &ends);
            let carry = kept.carry.clone();
            self.keep(point, &origin, KeptContent::Timed(Box::new(kept)));
            (start, held) = (end, carry);
        }
    }

    /// After a restart: what the window at `start` hands on must be what the next one kept began with.
    pub(super) fn mend(&mut self, point: &mut Point, start: i64, following: Option<i64>) {
        let Some(kept) = self.closed.get(point.id, start) else { return };
        let Some(series) = kept.series() else { return };
        let (carry, sort) = (series.carry.clone(), kept.unit);
        let (is_empty, is_partial) = (series.totals.is_empty(), series.totals.partial);
        let is_counter = self.sorts[usize::from(sort)].kind == Kind::Counter;
        let end = start.saturating_add(self.shape.width);
        let next = following.and_then(|start| self.closed.get(point.id, start)?.series());
        let is_next = is_counter || following == Some(end);
        match next {
            Some(next) if is_next && next.held == carry => {}
            Some(_) if is_next || carry.is_some() => {
                self.ripple(point, end, carry, sort);
                self.close_passed(point);
            }
            Some(_) => {}
            None if is_partial || is_empty && carry.is_none() || is_counter && is_empty => {}
            None => self.open_next(point, end, sort),
        }
    }

    /// A window that has passed, as it goes on with `sample`; `None` when nothing was emitted of it.
    pub(super) fn reopen(
        &self,
        point: &Point,
        start: i64,
        sample: &Sample<'_>,
        sort: u16,
    ) -> Result<Option<Window>, Taken> {
        let end = start.saturating_add(self.shape.width);
        let too_old = point.progress.max(point.closed_through).saturating_sub(end) > self.shape.revise_for;
        let kind = self.sorts[usize::from(sort)].kind;
        let is_timed = self.shape.is_timed(self.shape.plans.get(point.plan), kind);
        let Some(kept) = self.closed.get(point.id, start) else {
            if too_old {
                return Err(Taken::Late);
            }
            // what was let go may have been emitted
            if !point.knows(start, end, self.closed.floor()) {
                let start = Timestamp::from_micros(start);
                return Err(if is_timed { Taken::Late } else { Taken::Forgotten { start } });
            }
            if !is_timed {
                return Ok(None);
            }
            let held = self.held_at(point, start, kind);
            let content = Content::Series(Box::default());
            return Ok(Some(Window { held: held.map(Box::new), ..Window::new(start, sort, content) }));
        };
        if !sample.is_event && sample.offset <= kept.last_offset {
            return Err(Taken::Known);
        }
        if let (Input::Stop { time, .. }, Some(series)) = (sample.input, kept.series())
            && series.stops.contains(&time.as_micros())
        {
            return Err(Taken::Known);
        }
        if too_old || kept.unit != sort || kept.series().is_some() != is_timed {
            return Err(Taken::Late);
        }
        let Some(content) = kept.content(self.shape.child_width > 0, kind) else {
            if kept.from_offset < 0 || kept.last_offset < kept.from_offset || kept.last_offset == i64::MAX {
                return Err(Taken::Late);
            }
            return Err(Taken::Incomplete {
                start: Timestamp::from_micros(start),
                end: Timestamp::from_micros(end),
                from: kept.from_offset,
                through: kept.last_offset,
            });
        };
        let held = kept.series().and_then(|series| series.held.clone()).map(Box::new);
        Ok(Some(Window {
            last_offset: kept.last_offset,
            from_offset: kept.from_offset,
            counted_through: kept.last_offset,
            revision: kept.revision,
            held,
            ..Window::new(start, sort, content)
        }))
    }

    /// What held at the start of a window that was never emitted.
    fn held_at(&self, point: &Point, start: i64, kind: Kind) -> Option<Held> {
        let steps = if kind == Kind::Counter { RIPPLE_MAX } else { 1 };
        let mut before = start;
        for _ in 0..steps {
            before = before.saturating_sub(self.shape.width);
            if let Some(kept) = self.closed.get(point.id, before) {
                return kept.series()?.carry.clone();
            }
        }
        None
    }

    /// The first reading of a counter from `from` on, in windows that are open, opened again or closed.
    fn first_emitted_behind(&self, point: &Point, from: i64) -> Option<(i64, f64)> {
        let sort = &self.sorts[usize::from(point.sort)];
        if sort.kind != Kind::Counter {
            return None;
        }
        let waiting = point.late.iter().filter(|window| window.start >= from).find_map(first_of);
        let waiting = waiting.into_iter().chain(first_behind(point, from)).min_by_key(|(time, _)| *time);
        let through = waiting.map_or(point.closed_through, |(time, _)| point.closed_through.min(time));
        let mut start = from;
        for _ in 0..RIPPLE_MAX {
            if start >= through {
                break;
            }
            let first = self.closed.get(point.id, start).and_then(|kept| kept.series()?.first());
            if let Some(first) = first {
                let emitted = (first.time, first.number);
                return waiting.filter(|(time, _)| *time < emitted.0).or(Some(emitted));
            }
            start = start.saturating_add(self.shape.width);
        }
        waiting
    }
}

/// A closed window with another value from before, and what then holds at its end.
fn exchange_head(
    frame: &Frame<'_>,
    series: &KeptSeries,
    held: Option<&Held>,
    next: Option<(i64, f64)>,
) -> (Totals, Option<Held>) {
    let Some(first) = series.first() else {
        // all of it is head
        let empty = Series { moments: Vec::new(), stops: series.stops.clone() };
        let (mut totals, carry) = empty.fold(frame, held, next);
        totals.partial = series.totals.partial;
        return (totals, carry);
    };
    let mut totals = series.totals.clone();
    frame.head(&mut totals, series.held.as_ref(), Some(&first), &series.stops, -1);
    frame.head(&mut totals, held, Some(&first), &series.stops, 1);
    (totals, series.carry.clone())
}

/// Whether a counter has a share of a step behind the window.
fn reaches(frame: &Frame<'_>, carry: &Held, next: Option<(i64, f64)>) -> bool {
    next.is_some_and(|(time, _)| time > frame.end && time - carry.moment.time <= frame.plan.hold)
}

/// The first reading in the windows that are open, from `from` on.
fn first_behind(point: &Point, from: i64) -> Option<(i64, f64)> {
    point.open.iter().filter(|window| window.start >= from).find_map(first_of)
}

fn first_of(window: &Window) -> Option<(i64, f64)> {
    match &window.content {
        Content::Series(series) => series.moments.first().map(|moment| (moment.time, moment.number)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "rim_tests.rs"]
mod tests;
