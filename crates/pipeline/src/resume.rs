//! What the outputs already hold, so that a replay after a crash writes nothing twice.
//!
//! A partition's outputs are written in the order of its input, each naming its source offset. After a restart the
//! outputs written behind the last commit are read back into a [`Resume`]; from then on it alone decides what a replayed
//! record may still write. Output topics are judged one by one, since a crash may have reached one and not another; but
//! a record whose value is already in one of `clean` and the dead letters never goes to the other as well.

use std::collections::HashSet;

/// Where a record derived from an input goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The clean topic.
    Clean,
    /// The dead letters.
    Letter,
    /// Events about the record, numbered in the order they are written.
    Event(u8),
}

/// What the outputs of one input partition hold.
#[derive(Debug, Default)]
pub struct Resume {
    /// Below this offset everything was written before the commit.
    committed: i64,
    clean: Option<i64>,
    letter: Option<i64>,
    event: Option<(i64, u8)>,
    /// Offsets at or behind the commit that are in the clean topic or in the dead letters.
    settled: HashSet<i64, foldhash::fast::RandomState>,
    /// Offsets up to here may have been written already.
    newest: Option<i64>,
}

impl Resume {
    /// `committed` is the next offset the group committed; 0 when it never did.
    pub fn new(committed: i64) -> Self {
        Self { committed, ..Self::default() }
    }

    /// Takes in that `output` holds a record derived from `source`.
    pub fn note(&mut self, output: Output, source: i64) {
        if source < self.committed {
            return;
        }
        self.newest = self.newest.max(Some(source));
        match output {
            Output::Clean => self.clean = self.clean.max(Some(source)),
            Output::Letter => self.letter = self.letter.max(Some(source)),
            Output::Event(number) => self.event = self.event.max(Some((source, number))),
        }
        if !matches!(output, Output::Event(_)) {
            self.settled.insert(source);
        }
    }

    /// Whether the record at `offset` may write to `output`.
    pub fn allows(&self, output: Output, offset: i64) -> bool {
        if offset < self.committed {
            return false;
        }
        if self.newest.is_none_or(|newest| offset > newest) {
            return true;
        }
        let in_order = match output {
            Output::Clean => self.clean.is_none_or(|last| offset > last),
            Output::Letter => self.letter.is_none_or(|last| offset > last),
            Output::Event(number) => return self.event.is_none_or(|last| (offset, number) > last),
        };
        in_order && !self.settled.contains(&offset)
    }

    /// The highest source offset the outputs name.
    pub fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// True when `offset` is replayed only to rebuild what was remembered.
    pub fn is_warm_up(&self, offset: i64) -> bool {
        offset < self.committed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::{Validator, Verdict};
    use config::rules::{Limits, RateLimits, Rule, Validation};
    use model::{Classification, Quality, Reading, TextList, TextMap, Timestamp, Value, ValueType};
    use proptest::prelude::*;

    #[test]
    fn outputs_are_judged_one_by_one() {
        // I3: the broker went away between the acknowledgements of two topics
        let mut resume = Resume::new(10);
        resume.note(Output::Clean, 20);
        resume.note(Output::Letter, 12);
        resume.note(Output::Event(0), 15);
        assert!(!resume.allows(Output::Clean, 9));
        assert!(!resume.allows(Output::Clean, 19));
        assert!(resume.allows(Output::Letter, 19), "this letter was lost on its way");
        assert!(!resume.allows(Output::Letter, 20), "20 is in the clean topic already");
        assert!(!resume.allows(Output::Event(0), 15));
        assert!(resume.allows(Output::Event(1), 15), "the second event of the same record was lost");
        assert!(resume.allows(Output::Clean, 21));
    }

    /// Everything a record writes, in the order it is written.
    fn outputs(validator: &mut Validator, reading: &Reading<'_>) -> Vec<(Output, Quality)> {
        let judged = validator.judge(0, reading);
        let mut outputs = Vec::new();
        match judged.verdict {
            Verdict::Forward => outputs.push((Output::Clean, judged.quality)),
            Verdict::Reject(_) => outputs.push((Output::Letter, judged.quality)),
            Verdict::Duplicate => {}
        }
        outputs.extend(judged.gap.map(|_| (Output::Event(0), judged.quality)));
        outputs.extend(judged.change.map(|change| (Output::Event(1), change.to)));
        outputs
    }

    fn rules() -> Validation {
        Validation {
            rules: vec![Rule {
                id: "r".to_owned(),
                asset: "*".to_owned(),
                parameter: "*".to_owned(),
                range: Some(Limits { hard_hi: Some(90.0), soft_hi: Some(80.0), ..Limits::default() }),
                rate: Some(RateLimits { soft_per_s: Some(10.0), hard_per_s: Some(50.0) }),
                expected_interval_ms: Some(2000),
            }],
        }
    }

    fn reading(asset: &str, device: i64, gateway: i64, value: f64) -> Reading<'_> {
        let at = |seconds: i64| Timestamp::from_micros((1_769_680_800 + seconds) * 1_000_000);
        Reading {
            asset_id: asset,
            asset_path: None,
            parameter: "t",
            value: if value < 5.0 { Value::Null } else { Value::Float(value) },
            value_type: ValueType::Float,
            value_label: None,
            unit: None,
            quality: if value < 2.0 { Quality::Bad } else { Quality::Good },
            quality_reason: None,
            reasons: TextList::default(),
            classification: Classification::Telemetry,
            device_time: at(device),
            gateway_time: at(gateway),
            time_source: "DEVICE",
            clock_state: "SYNCED",
            clock_skew_ms: None,
            epoch: 1,
            seq: 0,
            flags: TextList::default(),
            metadata: TextMap::default(),
            tags: TextMap::default(),
        }
    }

    /// Three topics with the source and content of their records.
    type Logs = [Vec<(i64, Output, Quality)>; 3];

    fn log_of(output: Output) -> usize {
        match output {
            Output::Clean => 0,
            Output::Letter => 1,
            Output::Event(_) => 2,
        }
    }

    /// Runs the stream with kills: after (steps, written per topic) the process dies; a commit every 5 records.
    fn run(stream: &[Reading<'_>], kills: &[(usize, [usize; 3])], warm_up: i64) -> Logs {
        let mut logs = Logs::default();
        let mut committed = 0_i64;
        let mut kills = kills.iter();
        loop {
            let mut validator = Validator::new(&rules(), 1, 100);
            let mut resume = Resume::new(committed);
            for (source, output, _) in logs.iter().flatten() {
                resume.note(*output, *source);
            }
            let (steps, arrived) = kills.next().copied().unwrap_or((usize::MAX, [usize::MAX; 3]));
            let begin = (committed - warm_up).max(0);
            let end = usize::try_from(committed).unwrap().saturating_add(steps).min(stream.len());
            let mut sent = Logs::default();
            let mut acknowledged = [0; 3];
            for offset in begin..i64::try_from(end).unwrap() {
                for (output, quality) in outputs(&mut validator, &stream[usize::try_from(offset).unwrap()]) {
                    if resume.allows(output, offset) {
                        sent[log_of(output)].push((offset, output, quality));
                    }
                }
                if offset >= committed && offset % 5 == 4 {
                    committed = offset + 1;
                    acknowledged = [sent[0].len(), sent[1].len(), sent[2].len()];
                }
            }
            for ((log, sent), (acknowledged, arrived)) in
                logs.iter_mut().zip(sent).zip(acknowledged.into_iter().zip(arrived))
            {
                log.extend(sent.into_iter().take(acknowledged.max(arrived)));
            }
            if end == stream.len() && steps == usize::MAX {
                return logs;
            }
        }
    }

    fn streams() -> impl Strategy<Value = Vec<(u8, i64, f64)>> {
        prop::collection::vec((0_u8..3, 0_i64..4, prop_oneof![0.0..7.0, 20.0..25.0, 0.0..100.0]), 1..80)
    }

    fn kills() -> impl Strategy<Value = Vec<(usize, [usize; 3])>> {
        prop::collection::vec((0_usize..30, [0_usize..20, 0_usize..20, 0_usize..20]), 0..6)
    }

    const ASSETS: [&str; 3] = ["a", "b", "c"];

    fn stream(raw: &[(u8, i64, f64)]) -> Vec<Reading<'static>> {
        let at = |i: usize| i64::try_from(i).unwrap();
        let one = |(i, (asset, back, value)): (usize, &(u8, i64, f64))| {
            reading(ASSETS[usize::from(*asset)], at(i) - back, at(i), value.round())
        };
        raw.iter().enumerate().map(one).collect()
    }

    proptest! {
        #[test]
        fn a_kill_at_any_time_changes_no_output(raw in streams(), kills in kills()) {
            // F3, I3: with its history rebuilt the validator repeats nothing and forgets nothing
            let stream = stream(&raw);
            prop_assert_eq!(run(&stream, &kills, i64::MAX / 2), run(&stream, &[], 0));
        }

        #[test]
        fn without_history_still_nothing_is_written_twice(raw in streams(), kills in kills(), warm_up in 0_i64..5) {
            let logs = run(&stream(&raw), &kills, warm_up);
            let mut values: Vec<i64> = logs[0].iter().chain(&logs[1]).map(|(source, _, _)| *source).collect();
            values.sort_unstable();
            let all = values.len();
            values.dedup();
            prop_assert_eq!(values.len(), all, "a reading is in both topics or twice in one");
            prop_assert!(logs.iter().all(|log| log.is_sorted_by_key(|(source, _, _)| *source)), "order is kept");
        }

        #[test]
        fn a_unique_reading_is_never_taken_for_a_duplicate(
            times in prop::collection::hash_set(0_i64..100_000, 1..500),
            points_max in 1_usize..3,
        ) {
            // AC-070: whatever the order, and with fewer points allowed than there are
            let mut validator = Validator::new(&Validation::default(), 1, points_max);
            for (i, time) in times.iter().enumerate() {
                let judged = validator.judge(0, &reading(ASSETS[i % 3], *time, 100_000, 10.0));
                prop_assert_eq!(judged.verdict, Verdict::Forward);
            }
        }
    }
}
