//! Circuit breaker as a pure state machine: closed = flows, open = blocked, half-open = one trial.
//!
//! Only failures of the target count; a bad row is the row's fault and must not open it. Time is the caller's
//! monotonic clock in milliseconds.

use std::time::Duration;

/// State as shown in health and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Closed,
    Open,
    HalfOpen,
}

impl State {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Opens after `failures_max` consecutive failures for `cooldown`, then lets one trial through.
#[derive(Debug, Clone)]
pub struct Breaker {
    failures_max: u32,
    cooldown_ms: u64,
    consecutive_failures: u32,
    state: State,
    open_until_ms: u64,
}

impl Breaker {
    /// The document's setting: 5 failures, 30 s.
    pub fn new(failures_max: u32, cooldown: Duration) -> Self {
        let cooldown_ms = u64::try_from(cooldown.as_millis()).unwrap_or(u64::MAX);
        Self {
            failures_max: failures_max.max(1),
            cooldown_ms,
            consecutive_failures: 0,
            state: State::Closed,
            open_until_ms: 0,
        }
    }

    /// May the caller try now? Moves from open to half-open when the cooldown is over.
    pub fn allows(&mut self, now_ms: u64) -> bool {
        if self.state == State::Open && now_ms >= self.open_until_ms {
            self.state = State::HalfOpen;
        }
        self.state != State::Open
    }

    /// How long until a trial is allowed, zero when it already is.
    pub fn wait(&self, now_ms: u64) -> Duration {
        match self.state {
            State::Open => Duration::from_millis(self.open_until_ms.saturating_sub(now_ms)),
            State::Closed | State::HalfOpen => Duration::ZERO,
        }
    }

    /// The target confirmed.
    pub fn success(&mut self) {
        self.consecutive_failures = 0;
        self.state = State::Closed;
    }

    /// The target failed; returns true when this failure opened the breaker.
    pub fn failure(&mut self, now_ms: u64) -> bool {
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        let opens = self.state == State::HalfOpen || self.consecutive_failures >= self.failures_max;
        if opens {
            self.open_until_ms = now_ms.saturating_add(self.cooldown_ms);
            self.state = State::Open;
        }
        opens
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_open_it_and_one_trial_decides() {
        let mut breaker = Breaker::new(5, Duration::from_secs(30));
        for _ in 0..4 {
            assert!(!breaker.failure(0));
            assert!(breaker.allows(0));
        }
        assert!(breaker.failure(0), "the fifth opens");
        assert!(!breaker.allows(29_999));
        assert_eq!(breaker.wait(29_000), Duration::from_secs(1));
        assert!(breaker.allows(30_000), "one trial");
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(breaker.failure(30_000), "a failed trial opens at once");
        assert!(!breaker.allows(59_999));
        assert!(breaker.allows(60_000));
        breaker.success();
        assert_eq!(breaker.state(), State::Closed);
        assert!(!breaker.failure(60_000), "counting starts over");
    }
}
