//! What a process holds of its clock: looked at once a second, and a stamp for each batch that costs two reads and a
//! comparison.
//!
//! Invariant: what is stamped after the clock was set carries the state and the number of steps after it, also between
//! two looks, since a stamp that differs by more than a step makes the watch look at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{ClockState, Timestamp};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::metrics::ClockMetrics;
use super::state::{Changes, Life, Memory, Observation, Rules, STEP_MIN_US, Step, next};
use super::{ClockSource, Settings, last_good};
use crate::Metrics;

/// How often the wall clock is compared with the time since boot (OFF-02).
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Steps that are kept for who asks; on more the oldest are forgotten, their number is not.
const STEPS_MAX: usize = 16;
/// Between the two clocks of one look may be this long, else it is repeated: a machine that pauses here did not set
/// its clock.
const LOOK_MAX_US: i64 = 10_000;
/// How often such a look is repeated.
const LOOKS_MAX: u32 = 5;

/// The time of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub wall: Timestamp,
    /// Wall clock less time since boot at the last look: stamps are corrected by its change.
    pub shift_us: i64,
    pub state: ClockState,
    /// How often the clock was set since this process began.
    pub steps: u64,
}

/// The clock of a process; shared.
#[derive(Debug)]
pub struct Watch {
    source: Arc<dyn ClockSource>,
    boot: String,
    metrics: ClockMetrics,
    shift_us: AtomicI64,
    state: AtomicU8,
    steps: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    rules: Rules,
    life: Life,
    /// The newest ones with their numbers, the first step is number 1.
    steps: VecDeque<(u64, Step)>,
}

impl Watch {
    /// Looks for the first time.
    pub fn begin(source: Arc<dyn ClockSource>, settings: Settings, memory: Memory, metrics: &Metrics) -> Self {
        let rules = Rules { assume_synced: settings.assume_synced, built: last_good::built() };
        Self::begin_by(source, rules, memory, metrics)
    }

    /// As [`Watch::begin`], with the rules in full.
    pub fn begin_by(source: Arc<dyn ClockSource>, rules: Rules, memory: Memory, metrics: &Metrics) -> Self {
        let life = Life::begin(&rules, memory, look(&*source));
        let watch = Self {
            boot: source.boot(),
            source,
            metrics: ClockMetrics::register(metrics),
            shift_us: AtomicI64::new(0),
            state: AtomicU8::new(0),
            steps: AtomicU64::new(0),
            inner: Mutex::new(Inner { rules, life, steps: VecDeque::new() }),
        };
        watch.publish(&life);
        if !life.plausible {
            warn_implausible(&life);
        }
        watch
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, life: &Life) {
        self.shift_us.store(life.seen.shift_us(), Ordering::Relaxed);
        self.state.store(life.state.as_number(), Ordering::Release);
        self.metrics.state.set(life.state.as_number().into());
        self.metrics.offset_ms.set(life.seen.kernel.offset_us / 1000);
    }

    /// Looks at the clock now.
    pub fn look(&self) -> Life {
        let mut inner = self.lock();
        let (life, changes) = next(inner.life, &inner.rules, look(&*self.source));
        inner.life = life;
        if let Some(step) = changes.step {
            let number = self.steps.load(Ordering::Relaxed) + 1;
            if inner.steps.len() == STEPS_MAX {
                inner.steps.pop_front();
            }
            inner.steps.push_back((number, step));
            self.steps.store(number, Ordering::Release);
            self.metrics.steps.inc();
        }
        self.publish(&life);
        drop(inner);
        tell(&life, &changes);
        life
    }

    /// The time for a batch.
    pub fn stamp(&self) -> Stamp {
        let off =
            |wall: Timestamp| wall.as_micros() - self.source.boottime_us() - self.shift_us.load(Ordering::Relaxed);
        let mut wall = self.source.now();
        if off(wall).abs() > STEP_MIN_US {
            wall = self.look().seen.wall;
        }
        Stamp {
            wall,
            shift_us: self.shift_us.load(Ordering::Relaxed),
            state: ClockState::from_number(self.state.load(Ordering::Acquire)),
            steps: self.steps.load(Ordering::Acquire),
        }
    }

    /// Takes over a changed setting.
    pub fn set_assume_synced(&self, assume_synced: bool) {
        self.lock().rules.assume_synced = assume_synced;
    }

    /// As of the last look.
    pub fn life(&self) -> Life {
        self.lock().life
    }

    /// The state as of the last look.
    pub fn state(&self) -> ClockState {
        ClockState::from_number(self.state.load(Ordering::Acquire))
    }

    /// The steps after number `seen`, oldest first.
    pub fn steps_after(&self, seen: u64) -> Vec<Step> {
        if self.steps.load(Ordering::Acquire) == seen {
            return Vec::new();
        }
        self.lock().steps.iter().filter(|(number, _)| *number > seen).map(|(_, step)| *step).collect()
    }

    /// Counts durations that were negative.
    pub fn count_backwards(&self, count: u64) {
        self.metrics.backwards.inc_by(count);
    }

    /// Names the time since the machine started.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// Looks once a second until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! { // cancel-safe: both arms only wait
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            self.look();
        }
    }
}

/// Both clocks at the same moment, or nearly.
fn look(source: &dyn ClockSource) -> Observation {
    let mut looks = 0;
    loop {
        let before = source.boottime_us();
        let wall = source.now();
        let boottime_us = source.boottime_us();
        looks += 1;
        if boottime_us - before <= LOOK_MAX_US || looks == LOOKS_MAX {
            return Observation { wall, boottime_us, kernel: source.kernel() };
        }
    }
}

fn tell(life: &Life, changes: &Changes) {
    if let Some(step) = changes.step {
        tracing::warn!(delta_ms = step.delta_ms(), wall = %life.seen.wall, "the wall clock was set");
    }
    if changes.rewound {
        let wall = life.seen.wall;
        tracing::warn!(%wall, "a time server says that the last known good time lies in the future; it is turned back");
    }
    if let Some(from) = changes.state {
        tracing::warn!(from = from.as_str(), to = life.state.as_str(), "clock state");
        if !life.plausible {
            warn_implausible(life);
        }
    }
}

/// OFF-03: loudly, with what to do.
fn warn_implausible(life: &Life) {
    tracing::error!(
        wall = %life.seen.wall,
        not_before = %life.not_before,
        "the wall clock cannot be right: nothing is deleted for its age until it is; set it, or let a time server set it \
        (timedatectl set-ntp true)"
    );
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use model::Clock;

    use super::super::Kernel;
    use super::*;

    #[derive(Debug, Default)]
    struct Fake {
        wall: AtomicI64,
        boottime: AtomicI64,
    }

    impl Clock for Fake {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.wall.load(Ordering::SeqCst))
        }
    }

    impl ClockSource for Fake {
        fn boottime_us(&self) -> i64 {
            self.boottime.load(Ordering::SeqCst)
        }

        fn kernel(&self) -> Kernel {
            Kernel { synced: true, ..Kernel::default() }
        }

        fn boot(&self) -> String {
            "boot".to_owned()
        }
    }

    // OFF-02
    #[test]
    fn a_stamp_between_two_looks_knows_of_the_step() {
        let fake = Arc::new(Fake::default());
        let (metrics, rules) = (Metrics::new("x"), Rules { assume_synced: true, built: Timestamp::default() });
        let source: Arc<dyn ClockSource> = Arc::<Fake>::clone(&fake);
        let watch = Watch::begin_by(source, rules, Memory::default(), &metrics);
        assert_eq!(watch.stamp().steps, 0);
        fake.wall.store(900_000, Ordering::SeqCst);
        assert_eq!((watch.stamp().steps, watch.stamp().shift_us), (0, 0));
        fake.wall.store(5_000_000, Ordering::SeqCst);
        let stamp = watch.stamp();
        assert_eq!((stamp.steps, stamp.shift_us, stamp.wall.as_micros()), (1, 5_000_000, 5_000_000));
        assert_eq!(watch.stamp().steps, 1);
        fake.wall.store(0, Ordering::SeqCst);
        watch.look();
        let deltas: Vec<i64> = watch.steps_after(0).into_iter().map(Step::delta_ms).collect();
        assert_eq!(deltas, [5_000, -5_000]);
        assert!(watch.steps_after(2).is_empty());
        assert!(metrics.encode().unwrap().contains("sf_clock_steps_total{component=\"x\"} 2"));
    }
}
