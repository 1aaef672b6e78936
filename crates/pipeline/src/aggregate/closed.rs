//! The closed windows of one input partition that late data may still change (AGG-06).
//!
//! What is kept is exactly what the newest records of the output hold, in the order they were emitted, so a restart fills
//! the store from the output again. What left it ends at or before [`ClosedWindows::floor`]: a window that ends later and
//! is not here was never emitted.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use model::{Kind, Timestamp};

use super::series::{Held, Moment, Series};
use super::statistics::Accumulator;
use super::totals::{Extra, Sum, Totals};
use super::window::{Child, Content};

/// A closed window.
#[derive(Debug)]
pub(super) struct Kept {
    seq: u64,
    /// Offset of the first input it holds; negative when unknown.
    pub(super) from_offset: i64,
    /// Offset of the last input it holds: every input of the window up to there is counted.
    pub(super) last_offset: i64,
    pub(super) revision: i64,
    pub(super) unit: u16,
    content: KeptContent,
}

#[derive(Debug)]
pub(super) enum KeptContent {
    /// What was emitted.
    Folded(Child),
    /// With the shorter windows it was merged from.
    Whole(Vec<(Timestamp, Child)>),
    /// A window about time.
    Timed(Box<KeptSeries>),
}

/// What of a window about time is kept.
#[derive(Debug, Clone)]
pub(super) struct KeptSeries {
    pub(super) totals: Totals,
    /// What held at its start, and what holds at its end.
    pub(super) held: Option<Held>,
    pub(super) carry: Option<Held>,
    pub(super) stops: Vec<i64>,
    /// Its readings; `None` when they must be read again.
    moments: Option<Vec<Moment>>,
}

/// One emission, oldest first.
#[derive(Debug, Clone, Copy)]
struct Emission {
    seq: u64,
    point: u32,
    start: i64,
    end: i64,
    /// When it was emitted.
    time: i64,
    /// The record lies here in the output, or behind.
    mark: i64,
}

/// What of a window is handed over to be kept.
#[derive(Debug)]
pub(super) struct Emitted {
    pub(super) point: u32,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) from_offset: i64,
    pub(super) last_offset: i64,
    pub(super) revision: i64,
    pub(super) unit: u16,
    /// When, by the stream's time.
    pub(super) time: i64,
    pub(super) mark: i64,
}

#[derive(Debug)]
pub(super) struct ClosedWindows {
    kept: HashMap<(u32, i64), Kept, RandomState>,
    order: VecDeque<Emission>,
    /// Windows kept with what they were made from, oldest first: seq, point, start.
    whole: VecDeque<(u64, u32, i64)>,
    /// Children and readings that are kept.
    parts: usize,
    /// Memory of all windows, about.
    bytes: usize,
    next_seq: u64,
    floor: i64,
}

impl KeptSeries {
    /// With its readings at hand.
    pub(super) fn new(totals: Totals, held: Option<Held>, carry: Option<Held>, series: Series) -> Self {
        Self { totals, held, carry, stops: series.stops, moments: Some(series.moments) }
    }

    /// As the output holds it; without readings there are none to be read again.
    pub(super) fn restored(totals: Totals, held: Option<Held>, carry: Option<Held>, stops: Vec<i64>) -> Self {
        let moments = (totals.statistics.count == 0).then(Vec::new);
        Self { totals, held, carry, stops, moments }
    }

    /// The same with another head: another value from before.
    pub(super) fn with_head(&self, totals: Totals, held: Option<Held>, carry: Option<Held>) -> Self {
        Self { totals, held, carry, stops: self.stops.clone(), moments: self.moments.clone() }
    }

    /// The first reading, as far as the totals tell.
    pub(super) fn first(&self) -> Option<Moment> {
        let s = &self.totals.statistics;
        let state = match &self.totals.extra {
            Extra::States(states) => Some(Arc::clone(&states.first)),
            _ => None,
        };
        let first = Moment { time: s.first_time.as_micros(), number: s.first, state, quality: model::Quality::Good };
        (s.count > 0).then_some(first)
    }
}

impl Kept {
    /// The content to go on from; `None` when what it was made from must be read first.
    pub(super) fn content(&self, of_children: bool, kind: Kind) -> Option<Content> {
        match &self.content {
            // the mark of a gap may be made of nothing
            KeptContent::Folded(child) if of_children && self.last_offset < 0 && child.is_empty() => {
                Some(Content::Children(Vec::new()))
            }
            KeptContent::Folded(_) if of_children => None,
            KeptContent::Folded(child) if kind == Kind::Angle => {
                Some(Content::Angles(Box::new(Sum::of(child.totals()))))
            }
            KeptContent::Folded(child) => Some(Content::Readings(Accumulator::of(child.totals().statistics))),
            KeptContent::Whole(children) => Some(Content::Children(children.clone())),
            KeptContent::Timed(kept) => {
                let (moments, stops) = (kept.moments.clone()?, kept.stops.clone());
                Some(Content::Series(Box::new(Series { moments, stops })))
            }
        }
    }

    pub(super) fn is_partial(&self) -> bool {
        match &self.content {
            KeptContent::Folded(Child::Many(totals)) => totals.partial,
            KeptContent::Folded(Child::One { .. }) | KeptContent::Whole(_) => false,
            KeptContent::Timed(kept) => kept.totals.partial,
        }
    }

    /// Memory it takes, about: its place in the table and in the order of emissions, and what hangs on it.
    fn bytes(&self) -> usize {
        let of_moments = |kept: &KeptSeries| kept.moments.as_ref().map_or(0, Vec::len) * size_of::<Moment>();
        let hanging = match &self.content {
            KeptContent::Folded(child) => child.bytes(),
            KeptContent::Whole(children) => {
                children.iter().map(|(_, child)| size_of::<(Timestamp, Child)>() + child.bytes()).sum()
            }
            KeptContent::Timed(kept) => {
                size_of::<KeptSeries>() + kept.totals.bytes() + of_moments(kept) + kept.stops.len() * size_of::<i64>()
            }
        };
        size_of::<Self>() + size_of::<(u32, i64)>() + size_of::<Emission>() + hanging
    }

    pub(super) fn series(&self) -> Option<&KeptSeries> {
        match &self.content {
            KeptContent::Timed(kept) => Some(kept),
            KeptContent::Folded(_) | KeptContent::Whole(_) => None,
        }
    }

    /// Things kept beside the window's totals.
    fn parts(&self) -> usize {
        match &self.content {
            KeptContent::Folded(_) => 0,
            KeptContent::Whole(children) => children.len(),
            KeptContent::Timed(kept) => kept.moments.as_ref().map_or(0, Vec::len),
        }
    }
}

impl Default for ClosedWindows {
    fn default() -> Self {
        Self {
            kept: HashMap::with_hasher(RandomState::default()),
            order: VecDeque::new(),
            whole: VecDeque::new(),
            parts: 0,
            bytes: 0,
            next_seq: 0,
            floor: i64::MIN,
        }
    }
}

impl ClosedWindows {
    /// Windows that are not here and end here or before may have been emitted; the output knows.
    pub(super) fn floor(&self) -> i64 {
        self.floor
    }

    pub(super) fn raise_floor(&mut self, end: i64) {
        self.floor = self.floor.max(end);
    }

    /// Everything kept lies here in the output, or behind.
    pub(super) fn mark(&self) -> Option<i64> {
        self.order.front().map(|emission| emission.mark)
    }

    pub(super) fn get(&self, point: u32, start: i64) -> Option<&Kept> {
        self.kept.get(&(point, start))
    }

    /// Bytes and parts that are held.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.bytes, self.parts)
    }

    /// Windows about time, ascending by point and start.
    pub(super) fn timed(&self) -> Vec<(u32, i64)> {
        let mut timed: Vec<(u32, i64)> =
            self.kept.iter().filter(|(_, kept)| kept.series().is_some()).map(|(key, _)| *key).collect();
        timed.sort_unstable();
        timed
    }

    /// Keeps a window that was emitted just now; returns whether it is one more.
    pub(super) fn keep(&mut self, emitted: &Emitted, content: KeptContent) -> bool {
        let seq = self.next_seq;
        self.next_seq += 1;
        let Emitted { point, start, end, from_offset, last_offset, revision, unit, time, mark } = *emitted;
        self.order.push_back(Emission { seq, point, start, end, time, mark });
        let kept = Kept { seq, from_offset, last_offset, revision, unit, content };
        let parts = kept.parts();
        if parts > 0 {
            self.parts += parts;
            self.whole.push_back((seq, point, start));
        }
        self.bytes += kept.bytes();
        let before = self.kept.insert((point, start), kept);
        self.parts = self.parts.saturating_sub(before.as_ref().map_or(0, Kept::parts));
        self.bytes = self.bytes.saturating_sub(before.as_ref().map_or(0, Kept::bytes));
        before.is_none()
    }

    /// Gives what it was made from back to a window that is kept without; `false` when that does not make up what was
    /// emitted.
    pub(super) fn complete(
        &mut self,
        point: u32,
        start: i64,
        content: Content,
        fold: impl Fn(&Content) -> Totals,
    ) -> bool {
        let Some(kept) = self.kept.get_mut(&(point, start)) else { return false };
        let whole = match (&mut kept.content, content) {
            (KeptContent::Folded(emitted), content @ Content::Children(_)) if fold(&content) == emitted.totals() => {
                let Content::Children(children) = content else { return false };
                KeptContent::Whole(children)
            }
            (KeptContent::Timed(emitted), Content::Series(series)) => {
                // the readings must be as many, and the stops are known better here
                let count = i64::try_from(series.moments.len()).unwrap_or(i64::MAX);
                if emitted.totals.statistics.count != count {
                    return false;
                }
                KeptContent::Timed(Box::new(KeptSeries { moments: Some(series.moments), ..(**emitted).clone() }))
            }
            (KeptContent::Whole(_), _) => return true,
            _ => return false,
        };
        let before = kept.bytes();
        kept.content = whole;
        self.bytes = (self.bytes + kept.bytes()).saturating_sub(before);
        self.parts += kept.parts();
        self.whole.push_back((kept.seq, point, start));
        true
    }

    /// Lets the oldest go while all take more than `bytes`, or while they were emitted before `oldest`, and takes what the
    /// oldest were made from while that is more than `parts`; tells point and start of every window that left.
    pub(super) fn trim(&mut self, bytes: usize, parts: usize, oldest: i64, mut left: impl FnMut(u32, i64)) {
        while self.order.front().is_some_and(|front| self.bytes > bytes || front.time < oldest) {
            let Some(Emission { seq, point, start, end, .. }) = self.order.pop_front() else { break };
            if self.kept.get(&(point, start)).is_some_and(|kept| kept.seq == seq) {
                self.forget_parts(point, start);
                let gone = self.kept.remove(&(point, start));
                self.bytes = self.bytes.saturating_sub(gone.as_ref().map_or(0, Kept::bytes));
                self.floor = self.floor.max(end);
                left(point, start);
            }
        }
        while self.parts > parts {
            let Some((seq, point, start)) = self.whole.pop_front() else { break };
            if self.kept.get(&(point, start)).is_some_and(|kept| kept.seq == seq) {
                self.forget_parts(point, start);
            }
        }
    }

    fn forget_parts(&mut self, point: u32, start: i64) {
        let Some(kept) = self.kept.get_mut(&(point, start)) else { return };
        self.parts = self.parts.saturating_sub(kept.parts());
        let before = kept.bytes();
        match &mut kept.content {
            KeptContent::Whole(children) => {
                let content = Content::Children(std::mem::take(children));
                kept.content = KeptContent::Folded(Child::of_totals(content.fold_children()));
            }
            KeptContent::Timed(kept) if kept.totals.statistics.count > 0 => kept.moments = None,
            KeptContent::Folded(_) | KeptContent::Timed(_) => {}
        }
        self.bytes = (self.bytes + kept.bytes()).saturating_sub(before);
    }
}
