//! Deadlines of a lane in the order they fall due; nothing is scanned per tick.
//!
//! Ties go by device time, then by the order in which they were set (ALM-14), so that a restored lane fires in the same
//! order as one that was never stopped.

use std::collections::BTreeSet;

/// What falls due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// The on- or off-delay is over.
    Delay,
    ShelfEnd,
    /// The release delay of a suppression by design is over.
    Release,
    /// An unacknowledged alarm is told again.
    Remind,
}

/// A deadline, as an alarm remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deadline {
    /// Steady time in microseconds.
    pub(super) at: i64,
    /// Device time of the reading behind it, in microseconds.
    pub(super) device_time: i64,
    /// Counts the deadlines of the lane.
    pub(super) order: i64,
}

/// All deadlines of a lane.
#[derive(Debug, Default)]
pub(super) struct Timers {
    set: BTreeSet<(Deadline, u32, What)>,
    pub(super) order: i64,
}

impl Timers {
    pub(super) fn start(&mut self, at: i64, device_time: i64, alarm: u32, what: What) -> Deadline {
        self.order += 1;
        let deadline = Deadline { at, device_time, order: self.order };
        self.restore(deadline, alarm, what);
        deadline
    }

    /// A saved deadline; `order` is restored with its lane.
    pub(super) fn restore(&mut self, deadline: Deadline, alarm: u32, what: What) {
        self.set.insert((deadline, alarm, what));
    }

    pub(super) fn stop(&mut self, deadline: Option<Deadline>, alarm: u32, what: What) {
        if let Some(deadline) = deadline {
            self.set.remove(&(deadline, alarm, what));
        }
    }

    /// The next deadline.
    pub(super) fn next_at(&self) -> Option<i64> {
        self.set.first().map(|(deadline, ..)| deadline.at)
    }

    /// Takes the first deadline out, when it is due.
    pub(super) fn take(&mut self, now: i64) -> Option<(Deadline, u32, What)> {
        if self.next_at()? > now {
            return None;
        }
        self.set.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_by_device_time_and_then_by_order() {
        // ALM-14
        let mut timers = Timers::default();
        timers.start(10, 5, 1, What::Delay);
        timers.start(10, 4, 2, What::Delay);
        let kept = timers.start(10, 4, 3, What::Remind);
        timers.start(9, 9, 4, What::Delay);
        let stopped = timers.start(1, 1, 5, What::Delay);
        timers.stop(Some(stopped), 5, What::Delay);
        assert_eq!((timers.next_at(), timers.take(8)), (Some(9), None));
        let fired: Vec<u32> = std::iter::from_fn(|| timers.take(10)).map(|(_, alarm, _)| alarm).collect();
        assert_eq!(fired, [4, 2, 3, 1]);
        assert_eq!(kept.order, 3);
    }
}
