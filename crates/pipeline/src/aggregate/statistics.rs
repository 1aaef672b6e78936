//! The arithmetic of a window: one pass, numerically steady, mergeable (AGG-04, AGG-05).
//!
//! Mean and M2 by Welford, sums by Neumaier; a merge equals the direct computation within 1e-9 relative.

use model::{Quality, Statistics, Timestamp};

/// Share of readings that must be GOOD for the window to be GOOD.
pub(super) const GOOD_SHARE_MIN: f64 = 0.95;

/// Statistics that grow, reading by reading or window by window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Accumulator {
    so_far: Statistics,
    /// What the sum lost to rounding.
    lost: f64,
}

impl Accumulator {
    /// The statistics of one reading.
    pub fn of_reading(value: f64, quality: Quality, time: Timestamp) -> Self {
        Self::of(single(value, quality, time))
    }

    /// Begins with the statistics of a shorter window.
    pub fn of(statistics: Statistics) -> Self {
        Self { so_far: statistics, lost: 0.0 }
    }

    /// Readings so far.
    pub fn count(&self) -> i64 {
        self.so_far.count
    }

    /// Adds one reading: what [`Accumulator::merge`] does, for the many.
    #[inline]
    pub fn add(&mut self, value: f64, quality: Quality, time: Timestamp) {
        let s = &mut self.so_far;
        if s.count == 0 {
            *s = single(value, quality, time);
            return;
        }
        s.count += 1;
        let delta = value - s.mean;
        s.mean += delta / as_float(s.count);
        s.m2 += delta * (value - s.mean);
        let sum = s.sum + value;
        self.lost += if s.sum.abs() >= value.abs() { (s.sum - sum) + value } else { (value - sum) + s.sum };
        s.sum = sum;
        if value < s.min || (value == s.min && time < s.min_time) {
            (s.min, s.min_time) = (value, time);
        }
        if value > s.max || (value == s.max && time < s.max_time) {
            (s.max, s.max_time) = (value, time);
        }
        if time < s.first_time {
            (s.first, s.first_time) = (value, time);
        }
        if time >= s.last_time {
            (s.last, s.last_time) = (value, time);
        }
        match quality {
            Quality::Good => s.good_count += 1,
            Quality::Suspect => s.suspect_count += 1,
            Quality::Uncertain => s.uncertain_count += 1,
            Quality::Bad => {}
        }
    }

    /// Adds the statistics of other readings: `n = nA + nB`, `δ = meanB - meanA`, `mean += δ·nB/n`,
    /// `M2 = M2A + M2B + δ²·nA·nB/n`.
    pub fn merge(&mut self, other: &Statistics) {
        let s = &mut self.so_far;
        if s.count == 0 || other.count == 0 {
            if other.count > 0 {
                *s = *other;
            }
            return;
        }
        let (ours, theirs) = (as_float(s.count), as_float(other.count));
        let all = ours + theirs;
        let delta = other.mean - s.mean;
        s.mean += delta * (theirs / all);
        s.m2 += other.m2 + delta * delta * (ours * theirs / all);
        s.count += other.count;
        let sum = s.sum + other.sum;
        self.lost += if s.sum.abs() >= other.sum.abs() { (s.sum - sum) + other.sum } else { (other.sum - sum) + s.sum };
        s.sum = sum;
        if other.min < s.min || (other.min == s.min && other.min_time < s.min_time) {
            (s.min, s.min_time) = (other.min, other.min_time);
        }
        if other.max > s.max || (other.max == s.max && other.max_time < s.max_time) {
            (s.max, s.max_time) = (other.max, other.max_time);
        }
        if other.first_time < s.first_time {
            (s.first, s.first_time) = (other.first, other.first_time);
        }
        if other.last_time >= s.last_time {
            (s.last, s.last_time) = (other.last, other.last_time);
        }
        s.good_count += other.good_count;
        s.suspect_count += other.suspect_count;
        s.uncertain_count += other.uncertain_count;
    }

    /// The statistics, with what the sum lost put back.
    pub fn finish(&self) -> Statistics {
        Statistics { sum: self.so_far.sum + self.lost, ..self.so_far }
    }
}

/// Quality of readings whose time is not looked at: GOOD when at least 95 % of them are (AGG-04).
pub fn quality(statistics: &Statistics) -> Quality {
    let good = statistics.count > 0 && as_float(statistics.good_count) >= GOOD_SHARE_MIN * as_float(statistics.count);
    if good { Quality::Good } else { Quality::Uncertain }
}

fn single(value: f64, quality: Quality, time: Timestamp) -> Statistics {
    Statistics {
        count: 1,
        sum: value,
        mean: value,
        m2: 0.0,
        min: value,
        min_time: time,
        max: value,
        max_time: time,
        first: value,
        first_time: time,
        last: value,
        last_time: time,
        good_count: i64::from(quality == Quality::Good),
        suspect_count: i64::from(quality == Quality::Suspect),
        uncertain_count: i64::from(quality == Quality::Uncertain),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of readings stay far below 2^53")]
fn as_float(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn fold(values: &[f64]) -> Statistics {
        let mut all: Option<Accumulator> = None;
        for (time, value) in values.iter().enumerate() {
            let time = at(i64::try_from(time).unwrap());
            match &mut all {
                None => all = Some(Accumulator::of_reading(*value, Quality::Good, time)),
                Some(all) => all.add(*value, Quality::Good, time),
            }
        }
        all.unwrap().finish()
    }

    #[test]
    fn partials_weigh_by_their_count() {
        // AC-074
        let mut minute = Accumulator::of(fold(&[10.0]));
        minute.merge(&fold(&[20.0; 99]));
        let minute = minute.finish();
        assert_eq!(minute.count, 100);
        assert!((minute.mean - 19.9).abs() < 1e-9);
        assert!(((minute.m2 / 100.0).sqrt() - 0.994_99).abs() < 1e-5);
        assert!((minute.sum - 1990.0).abs() < 1e-9);
    }

    #[test]
    fn sums_keep_what_rounding_loses() {
        // AGG-13
        let sum = fold(&[1e16, 1.0, -1e16, 1.0]).sum;
        assert_eq!(sum, 2.0);
    }

    #[test]
    fn a_window_is_good_from_95_percent_on() {
        let with = |good| Statistics { count: 20, good_count: good, ..fold(&[1.0]) };
        assert_eq!(quality(&with(19)), Quality::Good);
        assert_eq!(quality(&with(18)), Quality::Uncertain);
    }

    #[test]
    fn edges_go_by_time_not_by_arrival() {
        let mut all = Accumulator::of_reading(2.0, Quality::Good, at(20));
        all.add(1.0, Quality::Suspect, at(10));
        all.add(2.0, Quality::Uncertain, at(15));
        let s = all.finish();
        assert_eq!((s.first, s.first_time, s.last, s.last_time), (1.0, at(10), 2.0, at(20)));
        assert_eq!((s.max_time, s.min_time), (at(15), at(10)));
        assert_eq!((s.good_count, s.suspect_count, s.uncertain_count), (1, 1, 1));
    }

    proptest! {
        #[test]
        fn merged_partials_equal_the_direct_computation(
            values in prop::collection::vec(-1e6_f64..1e6, 1..200),
            cuts in prop::collection::vec(1_usize..20, 0..40),
        ) {
            // AGG-05
            let mut rest = values.as_slice();
            let mut merged: Option<Accumulator> = None;
            let mut cuts = cuts.into_iter();
            while !rest.is_empty() {
                let (part, others) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
                rest = others;
                match &mut merged {
                    None => merged = Some(Accumulator::of(fold(part))),
                    Some(merged) => merged.merge(&fold(part)),
                }
            }
            let merged = merged.unwrap().finish();
            let count = f64::from(u32::try_from(values.len()).unwrap());
            let sum: f64 = values.iter().sum();
            let mean = sum / count;
            let m2: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let scale = values.iter().fold(1.0_f64, |scale, value| scale.max(value.abs()));
            prop_assert_eq!(merged.count, i64::try_from(values.len()).unwrap());
            prop_assert!((merged.sum - sum).abs() <= 1e-9 * scale * count);
            prop_assert!((merged.mean - mean).abs() <= 1e-9 * scale);
            prop_assert!((merged.m2 - m2).abs() <= 1e-9 * (scale * scale * count));
            prop_assert_eq!(merged.min, values.iter().copied().fold(f64::INFINITY, f64::min));
            prop_assert_eq!(merged.max, values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }
    }
}
