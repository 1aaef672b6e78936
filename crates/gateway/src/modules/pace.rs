//! Batching follows load: a lone reading passes at once, a flood is taken in large bites.
//!
//! Pure: told how large the last batch was, it says how long to let records gather before the next one.

use std::time::Duration;

/// Most records of one batch; more are taken by the next one.
pub(super) const BATCH_RECORDS_MAX: usize = 8192;
/// Longest time records are let gather.
const GATHER_MAX: Duration = Duration::from_millis(50);
/// Batches below this are passed on at once.
const GATHER_FROM: usize = 32;
/// Records per millisecond of gathering: at this rate, 20,000 per second, gathering starts to feed itself.
const RECORDS_PER_MS: u32 = 20;

/// How long to wait before the next batch is fetched, by the size of the last one.
pub(super) fn gather(last_batch: usize) -> Duration {
    if !(GATHER_FROM..BATCH_RECORDS_MAX).contains(&last_batch) {
        return Duration::ZERO; // nothing to gain, or a backlog that waits already
    }
    let records = u32::try_from(last_batch).unwrap_or(u32::MAX);
    (Duration::from_millis(1) * records / RECORDS_PER_MS).min(GATHER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The batch a steady rate settles at, with half a millisecond of other work per batch.
    fn settled(records_per_ms: u128) -> usize {
        let mut batch = 1;
        for _ in 0..200 {
            let micros = gather(batch).as_micros() + 500;
            batch = usize::try_from(micros * records_per_ms / 1000).unwrap().clamp(1, BATCH_RECORDS_MAX);
        }
        batch
    }

    #[test]
    fn a_trickle_is_not_held_and_a_flood_gathers() {
        assert!(settled(1) < 5);
        assert!(settled(10) < 20);
        assert!(settled(100) > 4000);
        assert_eq!(gather(BATCH_RECORDS_MAX), Duration::ZERO, "a backlog is not slowed down");
    }
}
