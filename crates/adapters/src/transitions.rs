//! What of a poll is worth writing: every value, but a missing value only when something changed.
//!
//! A device that is off for a weekend would otherwise fill the dead letters with the same sentence. So a BAD sample
//! without a value passes when its tag was well before or bad for another reason; beyond that one reminder per device
//! passes every ten minutes. The first value after such a gap carries `gap_before` (MB-39).

use std::time::Duration;

use model::{Quality, reason};
use tokio::time::Instant;

use crate::sample::{Sample, Value};

/// From one reminder of a device that stays bad to the next.
pub const REMINDER: Duration = Duration::from_secs(600);

/// Memory of what was written last.
#[derive(Debug)]
pub struct Transitions {
    /// By tag: the kind of reason it has no value, if it has none.
    missing: Vec<Option<&'static str>>,
    /// By device: when its next reminder is due.
    reminders: Vec<Option<Instant>>,
}

impl Transitions {
    /// For a number of tags and devices, all well.
    pub fn new(tags: usize, devices: usize) -> Self {
        Self { missing: vec![None; tags], reminders: vec![None; devices] }
    }

    /// There are that many tags now; new ones are well.
    pub fn grow(&mut self, tags: usize) {
        self.missing.resize(tags.max(self.missing.len()), None);
    }

    /// True if the sample is to be written; marks the first value after a gap.
    pub fn admit(&mut self, sample: &mut Sample, device: usize, now: Instant) -> bool {
        let Some(missing) = self.missing.get_mut(sample.tag) else { return true };
        let without_value = sample.value == Value::Null && sample.verdict.quality() == Quality::Bad;
        if !without_value {
            sample.gap_before |= missing.take().is_some();
            return true;
        }
        let kind = sample.verdict.reason().map(kind);
        let changed = *missing != kind;
        *missing = kind;
        let reminder = &mut self.reminders[device];
        let due = reminder.is_none_or(|due| now >= due);
        if changed || due {
            if due {
                *reminder = Some(now + REMINDER);
            }
            return true;
        }
        false
    }
}

/// A silent device is silent, whatever it looked like from request to request: one transition, not one for each way.
fn kind(code: &'static str) -> &'static str {
    match code {
        reason::TIMEOUT | reason::GATEWAY_TARGET_FAIL => reason::COMM_FAIL,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Timestamp;

    fn bad(tag: usize, code: &'static str) -> Sample {
        Sample::bad(tag, code, Timestamp::default())
    }

    // R-03, MB-39, AC-021 in small: 500 tags, 8 h at 1 s.
    #[tokio::test(start_paused = true)]
    async fn a_long_outage_is_written_once_and_remembered_now_and_then() {
        let start = Instant::now();
        let mut transitions = Transitions::new(500, 1);
        let mut written = 0;
        for second in 0..8 * 3600 {
            let now = start + Duration::from_secs(second);
            for tag in 0..500 {
                written += usize::from(transitions.admit(&mut bad(tag, reason::TIMEOUT), 0, now));
            }
        }
        let reminders = 8 * 6 - 1;
        assert_eq!(written, 500 + reminders);
        let mut back = Sample::new(7, Value::Int(1), Timestamp::default());
        assert!(transitions.admit(&mut back, 0, start) && back.gap_before);
        let mut next = Sample::new(7, Value::Int(2), Timestamp::default());
        assert!(transitions.admit(&mut next, 0, start) && !next.gap_before);
    }

    #[tokio::test(start_paused = true)]
    async fn another_reason_is_a_change() {
        let now = Instant::now();
        let mut transitions = Transitions::new(2, 1);
        assert!(transitions.admit(&mut bad(0, reason::TIMEOUT), 0, now));
        assert!(!transitions.admit(&mut bad(0, reason::TIMEOUT), 0, now));
        assert!(!transitions.admit(&mut bad(0, reason::COMM_FAIL), 0, now));
        assert!(transitions.admit(&mut bad(0, reason::ADDRESS_INVALID), 0, now));
        assert!(transitions.admit(&mut bad(1, reason::COMM_FAIL), 0, now));
    }
}
