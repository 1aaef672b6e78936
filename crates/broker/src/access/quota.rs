//! How long somebody has to wait who took more than a rate allows. Arithmetic alone.
//!
//! A bucket holds credit of one second at most. What is taken beyond it is a debt, and the wait is the time in which the
//! rate pays the debt back; so over time nobody gets more than the rate, and a request is never refused for its size.

use std::time::Duration;

/// Credit that can be saved up, in seconds of the rate.
const BURST_SECONDS: f64 = 1.0;
/// Longest wait for one request. The debt beyond it stays and is met by the next one.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);

/// What one client has left of its quota.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    /// Below zero it is a debt.
    credit: f64,
    /// When that was so.
    at: Duration,
}

impl Bucket {
    /// A client that was not seen before.
    pub(crate) fn full(rate: f64, now: Duration) -> Self {
        Self { credit: rate * BURST_SECONDS, at: now }
    }

    /// Takes an amount and says how long to wait until more may be taken.
    pub(crate) fn take(&mut self, amount: f64, rate: f64, now: Duration) -> Duration {
        let earned = now.saturating_sub(self.at).as_secs_f64() * rate;
        self.credit = (self.credit + earned).min(rate * BURST_SECONDS) - amount;
        self.at = now.max(self.at);
        if self.credit >= 0.0 {
            return Duration::ZERO;
        }
        // a rate of nothing, and waits that no duration holds, become the longest wait
        Duration::try_from_secs_f64(-self.credit / rate).unwrap_or(WAIT_MAX).min(WAIT_MAX)
    }

    /// Whether it is as good as new.
    pub(crate) fn rested(&self, rate: f64, now: Duration) -> bool {
        self.credit + now.saturating_sub(self.at).as_secs_f64() * rate >= rate * BURST_SECONDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    // STR-15
    #[test]
    fn a_second_of_credit_then_the_time_to_pay_back() {
        let mut bucket = Bucket::full(100.0, at(0));
        assert_eq!(bucket.take(100.0, 100.0, at(0)), at(0));
        assert_eq!(bucket.take(200.0, 100.0, at(0)), at(2));
        assert_eq!(bucket.take(0.0, 100.0, at(1)), at(1));
        assert_eq!(bucket.take(0.0, 100.0, at(2)), at(0));
        assert!(!bucket.rested(100.0, at(2)) && bucket.rested(100.0, at(3)));
        // a long silence saves up one second, no more
        assert_eq!(bucket.take(150.0, 100.0, at(1_000)), Duration::from_millis(500));
    }

    #[test]
    fn waits_are_limited_and_never_nonsense() {
        let mut bucket = Bucket::full(1.0, at(0));
        assert_eq!(bucket.take(1e12, 1.0, at(0)), WAIT_MAX);
        assert_eq!(bucket.take(0.0, 1.0, at(30)), WAIT_MAX, "the debt stays");
        assert_eq!(Bucket::full(0.0, at(0)).take(1.0, 0.0, at(0)), WAIT_MAX);
        assert_eq!(Bucket::full(1.0, at(5)).take(1.0, 1.0, at(1)), at(0), "time that goes back earns nothing");
    }

    proptest! {
        // STR-15: whoever obeys never gets more than the rate and one second of credit
        #[test]
        fn who_waits_as_told_gets_the_rate(amounts in prop::collection::vec(0.0..500.0_f64, 1..100)) {
            let (rate, mut now, mut taken) = (100.0, Duration::ZERO, 0.0);
            let mut bucket = Bucket::full(rate, now);
            for amount in amounts {
                taken += amount;
                now += bucket.take(amount, rate, now);
                prop_assert!(taken <= rate * (now.as_secs_f64() + BURST_SECONDS) + 1e-3, "{taken} by {now:?}");
            }
        }
    }
}
