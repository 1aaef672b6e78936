//! Windows that were let go and come back for late data (AGG-06).
//!
//! What is kept in memory is a share of what was emitted; the output holds all of it. For a late input whose window was let
//! go the caller reads the windows of its asset around it back, and in that [`Stretch`] everything is known again: what is
//! not kept there was never emitted. A window that is let go once more is cut out of it.
//!
//! Windows about time do not come back: late data changes the windows around theirs, too, and how far that reaches is not
//! known before it is done.

use super::closed::{Emitted, KeptContent};
use super::lane::{Lane, Restored, Shape};
use super::point::Point;
use super::totals::Totals;
use super::window::Child;

/// Windows of one point that are read back behind the one that is asked for, at least and at most: reading them costs a
/// look through everything the output holds since.
const WINDOWS_MIN: usize = 64;
const WINDOWS_MAX: usize = 4096;
/// Memory of one window, about, in bytes.
const WINDOW_BYTES: usize = 300;
/// Stretches known of a point; of more the oldest is forgotten, and read again when it is needed.
const STRETCHES_MAX: usize = 16;

/// A time in which everything that was emitted of a point is known. Microseconds, `to` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub from: i64,
    pub to: i64,
}

impl Stretch {
    /// Whether a window that begins at `start` belongs to it.
    pub fn begins(&self, start: i64) -> bool {
        (self.from..self.to).contains(&start)
    }
}

/// What is known of the time below the floor, where windows were let go.
#[derive(Debug, Default)]
pub(super) struct Known(Vec<Stretch>);

impl Known {
    /// One more; what touches it becomes one with it.
    fn add(&mut self, mut stretch: Stretch) {
        self.0.retain(|other| {
            let touches = other.from <= stretch.to && stretch.from <= other.to;
            if touches {
                stretch = Stretch { from: stretch.from.min(other.from), to: stretch.to.max(other.to) };
            }
            !touches
        });
        self.0.push(stretch);
        self.forget();
    }

    /// A window was let go once more.
    pub(super) fn cut(&mut self, start: i64, end: i64) {
        let Some(at) = self.0.iter().position(|stretch| stretch.begins(start)) else { return };
        let Stretch { from, to } = self.0.remove(at);
        let parts = [Stretch { from, to: start }, Stretch { from: end, to }];
        self.0.extend(parts.into_iter().filter(|part| part.from < part.to));
        self.forget();
    }

    fn forget(&mut self) {
        let more = self.0.len().saturating_sub(STRETCHES_MAX);
        self.0.drain(..more);
    }
}

impl Point {
    /// Whether a window that is not kept was surely never emitted. `floor`: where what was let go ends.
    pub(super) fn knows(&self, start: i64, end: i64, floor: i64) -> bool {
        end > floor || self.known.0.iter().any(|stretch| stretch.begins(start))
    }
}

impl Lane {
    /// What is to be read back for a late input of this asset.
    pub(super) fn stretch(&self, shape: &Shape, asset: &str, start: i64) -> Stretch {
        let points = self.points.of_asset(asset).count().max(1);
        let room = shape.kept_bytes / 2 / WINDOW_BYTES / points;
        let windows = i64::try_from(room.clamp(WINDOWS_MIN, WINDOWS_MAX)).unwrap_or(0);
        Stretch { from: start, to: start.saturating_add(windows.saturating_mul(shape.width)) }
    }

    /// Takes in the newest revision of every window that the output holds of this asset in the stretch. Points that are not
    /// known here have no late data and are left out.
    pub(super) fn recall(&mut self, shape: &Shape, asset: &str, stretch: Stretch, windows: &[Restored<'_>]) {
        for window in windows {
            let start = window.start.as_micros();
            let Some(id) = self.points.find(asset, window.parameter) else { continue };
            if self.closed.get(id, start).is_some() {
                continue; // at least as new
            }
            let Some(sort) = self.sort(window.unit, window.kind) else { return };
            let (time, mark) = (self.time, self.output_end);
            let Some(point) = self.points.get_mut(id) else { continue };
            if shape.is_timed(shape.plans.get(point.plan), window.kind) {
                continue;
            }
            let emitted = Emitted {
                point: id,
                start,
                end: window.end.as_micros(),
                from_offset: window.from_offset,
                last_offset: window.offset,
                revision: window.revision,
                unit: sort,
                time,
                mark,
            };
            let totals = Totals::of(&window.partials, window.partial);
            point.kept += u32::from(self.closed.keep(&emitted, KeptContent::Folded(Child::of_totals(totals))));
        }
        let ids: Vec<u32> = self.points.of_asset(asset).collect();
        for id in ids {
            if let Some(point) = self.points.get_mut(id) {
                point.known.add(stretch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_grow_together_and_lose_what_is_let_go() {
        let mut known = Known::default();
        known.add(Stretch { from: 0, to: 10 });
        known.add(Stretch { from: 20, to: 30 });
        known.add(Stretch { from: 10, to: 20 });
        assert_eq!(known.0, [Stretch { from: 0, to: 30 }]);
        known.cut(5, 6);
        assert_eq!(known.0, [Stretch { from: 0, to: 5 }, Stretch { from: 6, to: 30 }]);
        known.cut(0, 5);
        known.cut(40, 41);
        assert_eq!(known.0, [Stretch { from: 6, to: 30 }]);
        (0..40).for_each(|n| known.add(Stretch { from: 100 + 10 * n, to: 101 + 10 * n }));
        assert_eq!(known.0.len(), STRETCHES_MAX, "the oldest are forgotten");
    }
}
