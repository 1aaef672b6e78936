//! The closed windows of one input partition that late data may still change (AGG-06).
//!
//! What is kept is exactly what the newest records of the output hold, in the order they were emitted, so a restart fills
//! the store from the output again. What left it ends at or before [`ClosedWindows::floor`]: a window that ends later and
//! is not here was never emitted.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use model::{Statistics, Timestamp};

use super::statistics::Accumulator;
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
enum KeptContent {
    /// What was emitted.
    Folded(Child),
    /// With the shorter windows it was merged from.
    Whole(Vec<(Timestamp, Child)>),
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
    /// Windows kept with their children, oldest first: seq, point, start.
    whole: VecDeque<(u64, u32, i64)>,
    /// Children in `whole`, also of windows that were emitted again since.
    children: usize,
    next_seq: u64,
    floor: i64,
}

impl Kept {
    /// The content to go on from; `None` when its children must be read first.
    pub(super) fn content(&self, of_children: bool) -> Option<Content> {
        match &self.content {
            KeptContent::Folded(_) if of_children => None,
            KeptContent::Folded(child) => Some(Content::Readings(Accumulator::of(child.statistics()))),
            KeptContent::Whole(children) => Some(Content::Children(children.clone())),
        }
    }
}

impl Default for ClosedWindows {
    fn default() -> Self {
        Self {
            kept: HashMap::with_hasher(RandomState::default()),
            order: VecDeque::new(),
            whole: VecDeque::new(),
            children: 0,
            next_seq: 0,
            floor: i64::MIN,
        }
    }
}

impl ClosedWindows {
    /// Windows that are not here and end here or before may have been emitted.
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

    /// Keeps a window that was emitted just now; returns whether it is one more.
    pub(super) fn keep(&mut self, emitted: &Emitted, content: Content, statistics: &Statistics) -> bool {
        let seq = self.next_seq;
        self.next_seq += 1;
        let content = match content {
            Content::Children(children) => {
                self.children += children.len();
                self.whole.push_back((seq, emitted.point, emitted.start));
                KeptContent::Whole(children)
            }
            Content::Readings(_) => KeptContent::Folded(Child::new(statistics)),
        };
        let Emitted { point, start, end, from_offset, last_offset, revision, unit, time, mark } = *emitted;
        self.order.push_back(Emission { seq, point, start, end, time, mark });
        let kept = Kept { seq, from_offset, last_offset, revision, unit, content };
        let before = self.kept.insert((point, start), kept);
        if let Some(Kept { content: KeptContent::Whole(children), .. }) = &before {
            self.children = self.children.saturating_sub(children.len());
        }
        before.is_none()
    }

    /// Gives the children back to a window that is kept without; `false` when they do not make up what was emitted.
    pub(super) fn complete(&mut self, point: u32, start: i64, children: Vec<(Timestamp, Child)>) -> bool {
        let Some(kept) = self.kept.get_mut(&(point, start)) else { return false };
        let KeptContent::Folded(emitted) = &kept.content else { return true };
        let content = Content::Children(children);
        let same = !content.is_empty() && content.fold() == emitted.statistics();
        if let (true, Content::Children(children)) = (same, content) {
            self.children += children.len();
            self.whole.push_back((kept.seq, point, start));
            kept.content = KeptContent::Whole(children);
        }
        same
    }

    /// Lets the oldest go while there are more than `windows`, or while they were emitted before `oldest`, and takes the children
    /// of the oldest while there are more than `children`; tells the point of every window that left.
    pub(super) fn trim(&mut self, windows: usize, children: usize, oldest: i64, mut left: impl FnMut(u32)) {
        while self.order.front().is_some_and(|front| self.order.len() > windows || front.time < oldest) {
            let Some(Emission { seq, point, start, end, .. }) = self.order.pop_front() else { break };
            if self.kept.get(&(point, start)).is_some_and(|kept| kept.seq == seq) {
                self.forget_children(point, start);
                self.kept.remove(&(point, start));
                self.floor = self.floor.max(end);
                left(point);
            }
        }
        while self.children > children {
            let Some((seq, point, start)) = self.whole.pop_front() else { break };
            if self.kept.get(&(point, start)).is_some_and(|kept| kept.seq == seq) {
                self.forget_children(point, start);
            }
        }
    }

    fn forget_children(&mut self, point: u32, start: i64) {
        let Some(kept) = self.kept.get_mut(&(point, start)) else { return };
        if let KeptContent::Whole(children) = &mut kept.content {
            let children = std::mem::take(children);
            self.children = self.children.saturating_sub(children.len());
            kept.content = KeptContent::Folded(Child::new(&Content::Children(children).fold()));
        }
    }
}
