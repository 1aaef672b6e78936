//! One point of a lane and its windows.

use model::Kind;

use super::lane::{Sample, Shape};
use super::plan::Plan;
use super::recall::Known;
use super::series::Held;
use super::window::Content;

/// Stops kept of a point without a reading; the oldest go. While a backlog is read, events run hours ahead of readings.
const EARLY_MAX: usize = 1024;
/// No input yet, or none known.
pub(super) const NONE: i64 = -1;

/// What must never mix in a window (AGG-13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sort {
    pub(super) unit: Option<Box<str>>,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowKey {
    pub(super) point: u32,
    pub(super) start: i64,
    pub(super) first_offset: i64,
}

/// A stop of a point of which no reading has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct EarlyStop {
    pub(super) time: i64,
    pub(super) since: i64,
    pub(super) offset: i64,
}

#[derive(Debug)]
pub(super) struct Point {
    pub(super) id: u32,
    /// Number of its [`Sort`].
    pub(super) sort: u16,
    /// Number of its plan.
    pub(super) plan: u16,
    /// Newest device time, capped.
    pub(super) progress: i64,
    /// How far it runs behind the gateway's clock.
    pub(super) behind: i64,
    /// Latest end of all windows emitted, as far as known.
    pub(super) closed_through: i64,
    /// Ascending by start; these close as the point moves on.
    pub(super) open: Vec<Window>,
    /// Ascending by start: windows that had passed when late data came; these close by the stream's time.
    pub(super) late: Vec<Window>,
    /// Closed windows of the point that are kept.
    pub(super) kept: u32,
    /// Stops that came before the first reading. `None` once a reading has told what the point is.
    pub(super) early: Option<Vec<EarlyStop>>,
    /// What holds at the end of the latest closed window.
    pub(super) held: Option<Box<Held>>,
    /// What was read back from the output.
    pub(super) known: Known,
}

#[derive(Debug)]
pub(super) struct Window {
    pub(super) start: i64,
    /// First input that opened it now; [`NONE`] while only what held before is in it.
    pub(super) first_offset: i64,
    pub(super) last_offset: i64,
    /// Of all revisions.
    pub(super) from_offset: i64,
    /// Inputs up to here were in the content when it was opened again.
    pub(super) counted_through: i64,
    /// First event that is in it now; [`NONE`] without one.
    pub(super) first_event: i64,
    /// What was emitted of it, 0 for nothing.
    pub(super) revision: i64,
    pub(super) sort: u16,
    pub(super) content: Content,
    /// What held at the start of a window that was opened again; of others their point knows.
    pub(super) held: Option<Box<Held>>,
}

impl Point {
    pub(super) fn new(sort: u16, plan: u16) -> Self {
        Self {
            id: 0,
            sort,
            plan,
            progress: i64::MIN,
            behind: 0,
            closed_through: i64::MIN,
            open: Vec::new(),
            late: Vec::new(),
            kept: 0,
            early: None,
            held: None,
            known: Known::default(),
        }
    }

    /// A point of which only stops are known.
    pub(super) fn without_readings(plan: u16) -> Self {
        Self { early: Some(Vec::new()), ..Self::new(0, plan) }
    }

    /// Remembers a stop of a point without a reading; `false` when it has one.
    pub(super) fn stop_early(&mut self, time: i64, since: i64, offset: i64) -> bool {
        let Some(early) = &mut self.early else { return false };
        if early.len() >= EARLY_MAX {
            early.remove(0);
        }
        early.push(EarlyStop { time, since, offset });
        true
    }

    /// Windows that end here or before do not wait for their inputs any more.
    #[inline]
    pub(super) fn passed(&self, shape: &Shape) -> i64 {
        self.closed_through.max(self.progress.saturating_sub(shape.lateness))
    }

    pub(super) fn holds(&self, key: &WindowKey) -> bool {
        find(&self.open, key).or_else(|| find(&self.late, key)).is_some()
    }

    /// Whether the window at `start` still waits with the event at `offset`.
    pub(super) fn holds_event(&self, start: i64, offset: i64) -> bool {
        let with = |windows: &[Window]| at(windows, start).is_ok_and(|at| windows[at].first_event == offset);
        let is_early = self.early.iter().flatten().any(|early| early.offset == offset);
        with(&self.open) || with(&self.late) || is_early
    }
}

impl Window {
    /// A window nothing is known of yet.
    pub(super) fn new(start: i64, sort: u16, content: Content) -> Self {
        Self {
            start,
            first_offset: NONE,
            last_offset: NONE,
            from_offset: NONE,
            counted_through: NONE,
            first_event: NONE,
            revision: 0,
            sort,
            content,
            held: None,
        }
    }

    /// Takes an input in that it does not have yet.
    #[inline]
    pub(super) fn add(&mut self, kind: Kind, sample: &Sample<'_>) {
        if sample.is_event {
            self.content.add(kind, &sample.input);
            if self.first_event == NONE {
                self.first_event = sample.offset;
            }
        } else if sample.offset > self.counted_through {
            self.content.add(kind, &sample.input);
            self.last_offset = sample.offset;
            if self.from_offset == NONE {
                self.from_offset = sample.offset;
            }
        }
    }
}

/// The content a window of this sort begins with.
pub(super) fn empty(plan: &Plan, sort: &Sort, shape: &Shape) -> Content {
    Content::empty(plan, sort.kind, shape.child_width > 0)
}

/// The place of the window that begins at `start`, or where it would stand.
#[inline]
pub(super) fn at(windows: &[Window], start: i64) -> Result<usize, usize> {
    match windows.last() {
        Some(last) if last.start == start => Ok(windows.len() - 1),
        Some(last) if last.start > start => windows.binary_search_by_key(&start, |window| window.start),
        _ => Err(windows.len()),
    }
}

/// The place of a window, when it is still the one meant.
pub(super) fn find(windows: &[Window], key: &WindowKey) -> Option<usize> {
    at(windows, key.start).ok().filter(|at| windows[*at].first_offset == key.first_offset)
}
