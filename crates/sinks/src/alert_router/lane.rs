//! How one destination does at the moment: what is on its way, when the next may go, since when it fails. Forgotten at a
//! restart.

use std::collections::BTreeMap;
use std::time::Duration;

use daemon::Breaker;
use model::Timestamp;

/// Failures in a row, and how long nothing is tried then (RTE-03).
const FAILURES_MAX: u32 = 5;
const COOLDOWN: Duration = Duration::from_secs(30);
/// The first wait, doubled up to the longest (RTE-09).
const BACKOFF_MS: u64 = 1_000;
const BACKOFF_MAX_MS: u64 = 300_000;
const JITTER_PERCENT: u64 = 20;

/// Since when, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub since: Timestamp,
    pub reason: String,
}

/// One destination.
#[derive(Debug)]
pub struct Lane {
    pub(super) breaker: Breaker,
    /// Nothing goes before; milliseconds of the steady clock.
    pub(super) earliest_ms: u64,
    /// Key of the message that is on its way.
    pub(super) flying: Option<String>,
    /// When a message that failed is tried again.
    pub(super) retries: BTreeMap<String, u64>,
    /// When each group was told last, microseconds since 1970.
    pub(super) groups: BTreeMap<String, i64>,
    /// Since when old news come in.
    pub(super) outage_begun: Option<i64>,
    pub(super) trouble: Option<Trouble>,
    pub(super) delivered: u64,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            breaker: Breaker::new(FAILURES_MAX, COOLDOWN),
            earliest_ms: 0,
            flying: None,
            retries: BTreeMap::new(),
            groups: BTreeMap::new(),
            outage_begun: None,
            trouble: None,
            delivered: 0,
        }
    }
}

impl Lane {
    /// May anything go now?
    pub(super) fn is_free(&mut self, steady_ms: u64) -> bool {
        self.flying.is_none() && steady_ms >= self.earliest_ms && self.breaker.allows(steady_ms)
    }

    /// Notes a failure; the reason stays until something is delivered.
    pub(super) fn failed(&mut self, now: super::router::Now, reason: &str) {
        let since = self.trouble.as_ref().map_or(now.wall, |trouble| trouble.since);
        self.trouble = Some(Trouble { since, reason: reason.to_owned() });
    }
}

/// How long a message waits after its `attempts`-th failure: 1 s, doubled up to 5 min, each spread by a fifth so that
/// gateways do not come together. The id stands for chance.
pub(super) fn backoff_ms(attempts: u32, id: &str) -> u64 {
    let doubled = BACKOFF_MS.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(BACKOFF_MAX_MS);
    let sum = id.bytes().fold(u64::from(attempts), |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let percent = 100 - JITTER_PERCENT + sum % (2 * JITTER_PERCENT + 1);
    doubled * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_a_second_to_five_minutes() {
        // RTE-09
        for (attempts, plain) in
            [(1, 1_000), (2, 2_000), (5, 16_000), (9, 256_000), (10, 300_000), (4_000_000_000, 300_000)]
        {
            let wait = backoff_ms(attempts, "an id");
            assert!((plain * 8 / 10..=plain * 12 / 10).contains(&wait), "{attempts}: {wait}");
        }
        let spread: std::collections::BTreeSet<u64> = (0..50).map(|i| backoff_ms(1, &format!("id {i}"))).collect();
        assert!(spread.len() > 10, "gateways do not come together");
    }
}
