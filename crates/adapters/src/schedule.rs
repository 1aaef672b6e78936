//! When a poll group is due: a fixed rate on the monotonic clock (MB-36).
//!
//! Tick k is at start + k·period. A poll that takes longer skips the ticks it missed and counts them; nothing is ever
//! caught up in a burst, and a group never overlaps itself. Pure: the caller brings the time.

use std::time::Duration;

use tokio::time::Instant;

/// The ticks of one group.
#[derive(Debug, Clone)]
pub struct Schedule {
    next: Instant,
    period: Duration,
}

impl Schedule {
    /// First tick at `start`.
    pub fn new(start: Instant, period: Duration) -> Self {
        Self { next: start, period }
    }

    /// The next tick.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// From one tick to the next.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// How late the due tick is; `None` before it.
    pub fn lateness(&self, now: Instant) -> Option<Duration> {
        now.checked_duration_since(self.next)
    }

    /// Moves on after the poll of the due tick ended at `now`; returns how many ticks were missed meanwhile.
    pub fn finish(&mut self, now: Instant) -> u64 {
        self.next += self.period;
        let Some(late) = now.checked_duration_since(self.next) else { return 0 };
        // The tick that falls on this very instant is still good; only those before it are missed.
        let missed = late.as_nanos().div_ceil(self.period.as_nanos().max(1));
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        self.next += self.period.saturating_mul(missed);
        missed.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    // AC-022
    #[tokio::test(start_paused = true)]
    async fn slow_polls_stay_on_the_grid() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 100 * MS);
        for round in 0..5u32 {
            assert_eq!(schedule.next(), start + 400 * round * MS);
            assert_eq!(schedule.finish(start + (400 * round + 350) * MS), 3);
        }
        // No burst after recovery: back to every tick.
        assert_eq!(schedule.finish(start + 2010 * MS), 0);
        assert_eq!(schedule.next(), start + 2100 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn ending_on_a_tick_misses_nothing() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 100 * MS);
        assert_eq!(schedule.finish(start + 100 * MS), 0);
        assert_eq!(schedule.next(), start + 100 * MS);
        assert_eq!(schedule.lateness(start + 99 * MS), None);
        assert_eq!(schedule.lateness(start + 103 * MS), Some(3 * MS));
        assert_eq!(schedule.finish(start + 1_000_000 * MS), 9998);
    }
}
