//! Exponential backoff with jitter. Pure: it says how long to wait, the caller waits.

use std::time::Duration;

/// Waits `initial * 2^n` up to `max`, each varied by `±jitter_percent`, or anywhere below (full jitter).
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    /// Smallest and largest share of the wait, in percent.
    shares: (u32, u32),
    attempt: u32,
    random: u64,
}

impl Backoff {
    /// `seed` only decorrelates processes that start together; any number will do.
    pub fn new(initial: Duration, max: Duration, jitter_percent: u32, seed: u64) -> Self {
        let jitter = jitter_percent.min(100);
        Self { initial, max, shares: (100 - jitter, 100 + jitter), attempt: 0, random: seed | 1 }
    }

    /// Each wait is anything up to `initial * 2^n`: for many clients of one server that came back.
    pub fn with_full_jitter(initial: Duration, max: Duration, seed: u64) -> Self {
        Self { shares: (0, 100), ..Self::new(initial, max, 0, seed) }
    }

    /// The next wait; grows with every call until [`Backoff::reset`].
    pub fn next_delay(&mut self) -> Duration {
        let doubled = self.initial.saturating_mul(2_u32.saturating_pow(self.attempt)).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        let (low, high) = (u64::from(self.shares.0), u64::from(self.shares.1));
        let percent = low + self.next_random() % (high - low + 1);
        let percent = u32::try_from(percent).unwrap_or(100);
        doubled * percent / 100
    }

    /// After good traffic: the next failure waits the shortest time again.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// Failures since the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }

    /// xorshift64*: plenty for jitter.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_cap_within_the_jitter_and_starts_over() {
        // MB-25: 1 s * 2^n to 60 s, ±20 %
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), 20, 7);
        for attempt in 0..200_u32 {
            let plain =
                Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(attempt)).min(Duration::from_secs(60));
            let delay = backoff.next_delay();
            assert!(delay >= plain * 8 / 10 && delay <= plain * 12 / 10, "{attempt}: {delay:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(1200));
    }
}
