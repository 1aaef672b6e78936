//! The life of one child process as a pure state machine: what to do next, given what happened and what time it is.
//!
//! Invariants: a child is never started twice at once; after five crashes in five minutes it is FAILED and waits 15
//! minutes (or for a new configuration) before it is tried again; a stop is always followed by a kill when the
//! child does not go. Time is monotonic milliseconds.

use std::time::Duration;

use daemon::Backoff;

/// Crashes within [`BUDGET_WINDOW_MS`] after which a child is FAILED.
pub const RESTARTS_MAX: usize = 5;
/// The window of the restart budget.
pub const BUDGET_WINDOW_MS: u64 = 5 * 60 * 1000;
/// How long a FAILED child rests before it is tried again by itself.
pub const REARM_AFTER_MS: u64 = 15 * 60 * 1000;
/// How long a child may take to stop before it is killed.
pub const STOP_GRACE_MS: u64 = 15 * 1000;
/// Exit code of a child whose configuration is wrong: trying again would not help.
pub const EXIT_BAD_CONFIG: i32 = 78;

/// What the child shall be: absent, or running with settings of this hash.
pub type Desired = Option<u64>;

/// Where the child is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// Not running and not wanted.
    Stopped,
    /// Waiting to be started again.
    Backoff { until_ms: u64 },
    /// Running with settings of this hash.
    Running { hash: u64, since_ms: u64 },
    /// Asked to stop; killed at the deadline.
    Stopping { kill_at_ms: u64, killed: bool },
    /// Out of budget or misconfigured; tried again at the time given.
    Failed { until_ms: u64, hash: u64 },
}

/// What the rim shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start the child with the settings of this hash.
    Start { hash: u64 },
    /// Ask it to stop (SIGTERM to the group).
    Terminate,
    /// Make it stop (SIGKILL to the group).
    Kill,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Time passed or the desired state may have changed.
    Tick,
    /// The child ended; `None` means by a signal.
    Exited { code: Option<i32> },
    /// Starting it failed.
    StartFailed,
    /// It runs but does not answer any more.
    Hung,
    /// A person asked for a restart.
    RestartAsked,
}

/// State of one child.
#[derive(Debug, Clone)]
pub struct Child {
    lifecycle: Lifecycle,
    crashes_ms: Vec<u64>,
    backoff: Backoff,
    restarts: u64,
}

impl Child {
    /// `seed` decorrelates the backoff of children.
    pub fn new(seed: u64) -> Self {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30), 20, seed);
        Self { lifecycle: Lifecycle::Stopped, crashes_ms: Vec::new(), backoff, restarts: 0 }
    }

    pub fn lifecycle(&self) -> Lifecycle {
        self.lifecycle
    }

    /// Starts after the first one.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Advances the machine.
    pub fn next(&mut self, desired: Desired, input: Input, now_ms: u64) -> Option<Action> {
        match (self.lifecycle, input) {
            (Lifecycle::Stopping { .. }, Input::Exited { .. }) => {
                self.lifecycle = Lifecycle::Stopped;
                self.start_if_wanted(desired, now_ms)
            }
            (Lifecycle::Stopping { kill_at_ms, killed: false }, _) if now_ms >= kill_at_ms => {
                self.lifecycle = Lifecycle::Stopping { kill_at_ms, killed: true };
                Some(Action::Kill)
            }
            (Lifecycle::Running { hash, since_ms }, Input::Exited { code }) => {
                self.crashed(desired, hash, since_ms, code, now_ms)
            }
            (Lifecycle::Running { hash, since_ms }, Input::StartFailed) => {
                self.crashed(desired, hash, since_ms, None, now_ms)
            }
            (Lifecycle::Running { .. }, Input::Hung) => {
                self.crashes_ms.push(now_ms);
                Some(self.stop(now_ms))
            }
            (Lifecycle::Running { .. }, Input::RestartAsked) => Some(self.stop(now_ms)),
            (Lifecycle::Running { hash, since_ms }, Input::Tick) => {
                if desired != Some(hash) {
                    return Some(self.stop(now_ms));
                }
                if now_ms.saturating_sub(since_ms) >= BUDGET_WINDOW_MS {
                    self.backoff.reset();
                }
                None
            }
            (Lifecycle::Failed { .. }, Input::RestartAsked) => {
                self.crashes_ms.clear();
                self.start_if_wanted(desired, now_ms)
            }
            (Lifecycle::Failed { until_ms, hash }, _) => {
                let changed = desired != Some(hash);
                if changed || now_ms >= until_ms {
                    self.crashes_ms.clear();
                    self.start_if_wanted(desired, now_ms)
                } else {
                    None
                }
            }
            (Lifecycle::Backoff { until_ms }, _) if now_ms >= until_ms || desired.is_none() => {
                self.start_if_wanted(desired, now_ms)
            }
            (Lifecycle::Stopped, _) => self.start_if_wanted(desired, now_ms),
            (Lifecycle::Backoff { .. } | Lifecycle::Stopping { .. }, _) => None,
        }
    }

    fn start_if_wanted(&mut self, desired: Desired, now_ms: u64) -> Option<Action> {
        let Some(hash) = desired else {
            self.lifecycle = Lifecycle::Stopped;
            return None;
        };
        self.lifecycle = Lifecycle::Running { hash, since_ms: now_ms };
        Some(Action::Start { hash })
    }

    fn stop(&mut self, now_ms: u64) -> Action {
        self.restarts += 1;
        self.lifecycle = Lifecycle::Stopping { kill_at_ms: now_ms + STOP_GRACE_MS, killed: false };
        Action::Terminate
    }

    fn crashed(
        &mut self,
        desired: Desired,
        hash: u64,
        since_ms: u64,
        code: Option<i32>,
        now_ms: u64,
    ) -> Option<Action> {
        if desired.is_none() {
            self.lifecycle = Lifecycle::Stopped;
            return None;
        }
        if now_ms.saturating_sub(since_ms) >= BUDGET_WINDOW_MS {
            self.backoff.reset();
        }
        self.restarts += 1;
        self.crashes_ms.push(now_ms);
        self.crashes_ms.retain(|at| now_ms.saturating_sub(*at) < BUDGET_WINDOW_MS);
        let out_of_budget = self.crashes_ms.len() > RESTARTS_MAX;
        self.lifecycle = if code == Some(EXIT_BAD_CONFIG) || out_of_budget {
            Lifecycle::Failed { until_ms: now_ms + REARM_AFTER_MS, hash }
        } else {
            let wait = u64::try_from(self.backoff.next_delay().as_millis()).unwrap_or(u64::MAX);
            Lifecycle::Backoff { until_ms: now_ms.saturating_add(wait) }
        };
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Desired = Some(1);

    fn started() -> Child {
        let mut child = Child::new(1);
        assert_eq!(child.next(WANTED, Input::Tick, 0), Some(Action::Start { hash: 1 }));
        child
    }

    #[test]
    fn a_crash_is_answered_with_a_restart_after_a_wait() {
        let mut child = started();
        assert_eq!(child.next(WANTED, Input::Exited { code: None }, 1000), None);
        assert_eq!(child.next(WANTED, Input::Tick, 1001), None);
        assert_eq!(child.next(WANTED, Input::Tick, 1300), Some(Action::Start { hash: 1 }));
        assert_eq!(child.restarts(), 1);
    }

    #[test]
    fn five_restarts_in_five_minutes_are_the_budget_and_a_failed_child_rearms_itself() {
        // document, table "failure modes"; R-06
        let mut child = started();
        let mut now = 0;
        let mut starts = 0;
        for _ in 0..40 {
            now += 1000;
            child.next(WANTED, Input::Exited { code: Some(70) }, now);
            if matches!(child.lifecycle(), Lifecycle::Failed { .. }) {
                break;
            }
            while child.next(WANTED, Input::Tick, now) != Some(Action::Start { hash: 1 }) {
                now += 10;
            }
            starts += 1;
        }
        assert_eq!(starts, RESTARTS_MAX);
        assert_eq!(child.next(WANTED, Input::Tick, now + REARM_AFTER_MS - 1), None);
        assert_eq!(child.next(WANTED, Input::Tick, now + REARM_AFTER_MS), Some(Action::Start { hash: 1 }));
    }

    #[test]
    fn slow_crashes_never_use_up_the_budget() {
        let mut child = started();
        let mut now = 0;
        for _ in 0..20 {
            now += BUDGET_WINDOW_MS;
            child.next(WANTED, Input::Exited { code: None }, now);
            now += 60_000;
            assert_eq!(child.next(WANTED, Input::Tick, now), Some(Action::Start { hash: 1 }));
        }
    }

    #[test]
    fn bad_configuration_waits_for_a_new_one() {
        let mut child = started();
        child.next(WANTED, Input::Exited { code: Some(EXIT_BAD_CONFIG) }, 10);
        assert!(matches!(child.lifecycle(), Lifecycle::Failed { .. }));
        assert_eq!(child.next(WANTED, Input::Tick, 60_000), None);
        assert_eq!(child.next(Some(2), Input::Tick, 60_001), Some(Action::Start { hash: 2 }));
    }

    #[test]
    fn changed_settings_stop_the_old_one_before_the_new_one_starts() {
        // G-07
        let mut child = started();
        assert_eq!(child.next(Some(2), Input::Tick, 100), Some(Action::Terminate));
        assert_eq!(child.next(Some(2), Input::Tick, 200), None, "never two at once");
        assert_eq!(child.next(Some(2), Input::Exited { code: Some(0) }, 300), Some(Action::Start { hash: 2 }));
    }

    #[test]
    fn who_does_not_stop_is_killed_once() {
        let mut child = started();
        assert_eq!(child.next(None, Input::Tick, 0), Some(Action::Terminate));
        assert_eq!(child.next(None, Input::Tick, STOP_GRACE_MS), Some(Action::Kill));
        assert_eq!(child.next(None, Input::Tick, STOP_GRACE_MS + 1), None);
        assert_eq!(child.next(None, Input::Exited { code: None }, STOP_GRACE_MS + 2), None);
        assert_eq!(child.lifecycle(), Lifecycle::Stopped);
    }
}
