//! Which values of a point are worth publishing when it reports by exception (MB-41).
//!
//! Change is measured against the value published last, not the one read last: a slow drift gets through. Always
//! published: the first value, one after a gap, a change of quality or label, and one now and then so that a quiet
//! point is told from a dead one. Pure; a point without a rule is not asked about.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::Quality;
use tokio::time::Instant;

use crate::sample::{Sample, Value};

/// How much a number must change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Deadband {
    /// By more than this, in the point's unit; 0 for any change.
    Absolute(f64),
    /// By more than this many percent of the value published last.
    Percent(f64),
}

/// The rule of one point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnChange {
    pub deadband: Deadband,
    /// Published at least this often.
    pub max_silence: Duration,
}

#[derive(Debug)]
struct Last {
    value: Value,
    label: Option<Arc<str>>,
    quality: Quality,
    reason: Option<&'static str>,
    /// When silence has lasted long enough.
    due: Instant,
}

/// What was published last, by tag.
#[derive(Debug, Default)]
pub struct Publishing {
    last: HashMap<usize, Last>,
}

impl Publishing {
    /// True if the sample is to be published, which is remembered.
    pub fn admit(&mut self, sample: &Sample, rule: &OnChange, now: Instant) -> bool {
        let (quality, reason) = (sample.verdict.quality(), sample.verdict.reason());
        let last = self.last.get(&sample.tag);
        let is_quiet = last.is_some_and(|last| {
            let same = last.quality == quality && last.reason == reason && last.label == sample.label;
            same && !sample.gap_before && !differs(&last.value, &sample.value, rule.deadband)
        });
        let heartbeat = last.is_some_and(|last| now >= last.due);
        if is_quiet && !heartbeat {
            return false;
        }
        // A heartbeat keeps its rhythm however late its poll was; after a longer pause the rhythm begins anew.
        let due = match last {
            Some(last) if is_quiet && last.due + rule.max_silence > now => last.due + rule.max_silence,
            _ => now + rule.max_silence,
        };
        let (value, label) = (sample.value.clone(), sample.label.clone());
        self.last.insert(sample.tag, Last { value, label, quality, reason, due });
        true
    }
}

fn differs(last: &Value, now: &Value, deadband: Deadband) -> bool {
    let (Some(from), Some(to)) = (number(last), number(now)) else { return last != now };
    let limit = match deadband {
        Deadband::Absolute(0.0) => return last != now,
        Deadband::Absolute(limit) => limit,
        Deadband::Percent(percent) => from.abs() * percent / 100.0,
    };
    (to - from).abs() > limit
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        #[expect(clippy::cast_precision_loss, reason = "a deadband is a matter of size, not of digits")]
        Value::Int(number) => Some(*number as f64),
        Value::Null | Value::Bool(_) | Value::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Timestamp, reason};

    const MINUTE: Duration = Duration::from_secs(60);

    fn float(value: f64) -> Sample {
        Sample::new(0, Value::Float(value), Timestamp::default())
    }

    fn published(values: &[f64], deadband: Deadband) -> Vec<f64> {
        let (mut publishing, now) = (Publishing::default(), Instant::now());
        let rule = OnChange { deadband, max_silence: MINUTE };
        values.iter().copied().filter(|value| publishing.admit(&float(*value), &rule, now)).collect()
    }

    // AC-027, MB-41
    #[tokio::test(start_paused = true)]
    async fn a_deadband_is_measured_from_what_was_published() {
        assert_eq!(published(&[10.0, 10.4, 10.8, 11.2], Deadband::Absolute(1.0)), [10.0, 11.2]);
        let drift: Vec<f64> = (0..100).map(|n| f64::from(n) * 0.1).collect();
        assert_eq!(published(&drift, Deadband::Absolute(0.95)).len(), 10);
        assert_eq!(published(&[200.0, 209.0, 211.0, 200.0], Deadband::Percent(5.0)), [200.0, 211.0, 200.0]);
        assert_eq!(published(&[1.0, 1.0, 1.5, 1.5], Deadband::Absolute(0.0)), [1.0, 1.5]);
    }

    // AC-028: ten minutes of the same value at one poll each second.
    #[tokio::test(start_paused = true)]
    async fn a_quiet_point_has_a_heartbeat() {
        let (mut publishing, start) = (Publishing::default(), Instant::now());
        let rule = OnChange { deadband: Deadband::Absolute(0.5), max_silence: MINUTE };
        let mut count = 0;
        for second in 0..=602 {
            // Polls are never quite on time.
            let now = start + Duration::from_secs(second) + Duration::from_millis(second % 7);
            count += u32::from(publishing.admit(&float(7.0), &rule, now));
        }
        assert_eq!(count, 1 + 10);
    }

    // MB-41
    #[tokio::test(start_paused = true)]
    async fn quality_label_gap_and_other_kinds_of_value() {
        let (mut publishing, now) = (Publishing::default(), Instant::now());
        let rule = OnChange { deadband: Deadband::Absolute(100.0), max_silence: MINUTE };
        let mut admit = |sample: &Sample| publishing.admit(sample, &rule, now);
        assert!(admit(&float(1.0)) && !admit(&float(2.0)));
        let mut suspect = float(2.0);
        suspect.verdict.add(Quality::Suspect, reason::OUT_OF_SPAN);
        assert!(admit(&suspect) && !admit(&suspect) && admit(&float(2.0)));
        assert!(admit(&Sample { gap_before: true, ..float(2.0) }));
        let labelled = Sample { label: Some("run".into()), ..float(2.0) };
        assert!(admit(&labelled) && !admit(&labelled));
        for (one, other) in
            [(Value::Bool(true), Value::Bool(false)), (Value::Text("a".into()), Value::Text("b".into()))]
        {
            let sample = |value| Sample::new(9, value, Timestamp::default());
            assert!(admit(&sample(one.clone())) && !admit(&sample(one)) && admit(&sample(other)));
        }
    }
}
