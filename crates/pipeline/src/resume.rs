//! What the outputs already hold, so that a replay after a crash writes nothing twice.
//!
//! A partition's outputs are written in the order of its input, each naming its source offset. After a restart the
//! outputs written behind the last commit are read back into a [`Resume`]; from then on it alone decides what a replayed
//! record may still write. Output topics are judged one by one, since a crash may have reached one and not another; but
//! a record whose value is already in one of `clean` and the dead letters never goes to the other as well.
//!
//! What is told because time passed has no source. It is known by its name, wherever in the replay its time comes, and
//! it says where its lane stood: the replay lets time pass there, too ([`Resume::told_by`]), so that what follows is the
//! same. A commit says nothing about it: before the commit time may have stood still where it runs in the replay.

use std::collections::{BTreeSet, HashSet};

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
    /// What was told behind the marks without a record of its own as the reason, by its name.
    told: HashSet<Box<str>, foldhash::fast::RandomState>,
    /// Where the lane stood then: offset of the next record and steady time.
    told_at: BTreeSet<(i64, i64)>,
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

    /// Takes in that something named `name` was told, a silence or a transition of an alarm, and the offset of the next
    /// record and the steady time then.
    pub fn note_told(&mut self, name: &str, at: Option<(i64, i64)>) {
        self.told.insert(name.into());
        self.told_at.extend(at);
    }

    /// Whether something that has a name may be told.
    pub fn may_tell(&self, name: &str) -> bool {
        self.told.is_empty() || !self.told.contains(name)
    }

    /// A steady time at which something was told before the record at `position`; one after the other, each once.
    #[inline]
    pub fn told_by(&mut self, position: i64) -> Option<i64> {
        if self.told_at.first()?.0 > position {
            return None;
        }
        self.told_at.pop_first().map(|(_, steady)| steady)
    }

    /// True when the replay has come to every place where something was told.
    pub fn has_told_all(&self) -> bool {
        self.told_at.is_empty()
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
    use std::collections::BTreeMap;

    use crate::validate::{Judgement, LaneTime, Validator, Verdict};
    use config::rules::{Flatline, Limits, RateLimits, Rule, Spike, Validation};
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
    fn outputs(judged: &Judgement) -> Vec<(Output, Quality)> {
        let mut outputs = Vec::new();
        match judged.verdict {
            Verdict::Forward => outputs.push((Output::Clean, judged.quality)),
            Verdict::Reject(_) => outputs.push((Output::Letter, judged.quality)),
            Verdict::Duplicate | Verdict::Past => {}
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
                expected_interval_ms: Some(1000),
                spike: Some(Spike { k: 3.0, deadband: 1.0 }),
                flatline: Some(Flatline { for_ms: 5000, epsilon: 1.0 }),
                ..Rule::default()
            }],
            ..Validation::default()
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

    /// Three topics and the silences, with the source and content of their records.
    type Logs = [Vec<(i64, Output, Quality)>; 4];

    fn log_of(output: Output) -> usize {
        match output {
            Output::Clean => 0,
            Output::Letter => 1,
            Output::Event(_) => 2,
        }
    }

    /// What the runtime keeps outside of itself.
    #[derive(Default)]
    struct Kept {
        logs: Logs,
        committed: i64,
        replay_from: Option<LaneTime>,
        /// Saved state by asset.
        saved: BTreeMap<String, Vec<u8>>,
    }

    /// Runs the stream with kills: after (steps, written per topic) the process dies. A commit every 5 records; `saves`
    /// assets are saved with each, as many as there are for `usize::MAX`, and nothing is remembered with 0.
    fn run(stream: &[Reading<'_>], kills: &[(usize, [usize; 4])], saves: usize) -> Logs {
        let mut kept = Kept::default();
        let mut kills = kills.iter();
        loop {
            let mut validator = Validator::new(&rules(), 1, 100);
            for (asset, bytes) in &kept.saved {
                assert!(validator.restore(0, asset, bytes));
            }
            let mut resume = Resume::new(kept.committed);
            for (source, output, _) in kept.logs[..3].iter().flatten() {
                resume.note(*output, *source);
            }
            for (source, _, _) in &kept.logs[3] {
                resume.note_told(&format!("stale/{source}"), None);
            }
            let (steps, arrived) = kills.next().copied().unwrap_or((usize::MAX, [usize::MAX; 4]));
            let begin = match kept.replay_from.filter(|_| saves > 0) {
                Some(place) => {
                    validator.begin_at(0, place);
                    place.offset
                }
                None if saves > 0 => 0,
                None => kept.committed,
            };
            let end = usize::try_from(kept.committed).unwrap().saturating_add(steps).min(stream.len());
            let mut sent = Logs::default();
            let mut acknowledged = [0; 4];
            for offset in begin..i64::try_from(end).unwrap() {
                let reading = &stream[usize::try_from(offset).unwrap()];
                let now = validator.arrival(0, reading);
                let mut silent = Vec::new();
                validator.advance(0, now, &mut |stale| {
                    let asset = i64::from(stale.asset_id.as_bytes()[0]);
                    silent.push(stale.last_arrival.as_micros() * 1000 + asset);
                });
                for source in silent {
                    if resume.may_tell(&format!("stale/{source}")) {
                        sent[3].push((source, Output::Event(9), Quality::Uncertain));
                    }
                }
                let mut judged = Judgement::new(reading);
                validator.judge_at(0, offset, reading, &mut judged);
                for (output, quality) in outputs(&judged) {
                    if resume.allows(output, offset) {
                        sent[log_of(output)].push((offset, output, quality));
                    }
                }
                if offset >= kept.committed && offset % 5 == 4 {
                    for _ in 0..saves.min(validator.unsaved_assets()) {
                        let asset = validator.unsaved(0).unwrap().0.to_owned();
                        let mut bytes = Vec::new();
                        validator.save(0, &asset, &mut bytes).unwrap();
                        kept.saved.insert(asset, bytes);
                    }
                    kept.replay_from = Some(validator.replay_from(0));
                    kept.committed = offset + 1;
                    acknowledged = [sent[0].len(), sent[1].len(), sent[2].len(), sent[3].len()];
                }
            }
            for ((log, sent), (acknowledged, arrived)) in
                kept.logs.iter_mut().zip(sent).zip(acknowledged.into_iter().zip(arrived))
            {
                log.extend(sent.into_iter().take(acknowledged.max(arrived)));
            }
            if end == stream.len() && steps == usize::MAX {
                return kept.logs;
            }
        }
    }

    fn streams() -> impl Strategy<Value = Vec<(u8, i64, f64)>> {
        prop::collection::vec((0_u8..3, 0_i64..4, prop_oneof![0.0..7.0, 20.0..25.0, 0.0..100.0]), 1..80)
    }

    fn kills() -> impl Strategy<Value = Vec<(usize, [usize; 4])>> {
        prop::collection::vec((0_usize..30, [0_usize..20, 0_usize..20, 0_usize..20, 0_usize..5]), 0..6)
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
        fn a_kill_at_any_time_changes_no_output(raw in streams(), kills in kills(), saves in 1_usize..4) {
            // F3, I3, VAL-23: with its state restored the validator repeats nothing and forgets nothing
            let stream = stream(&raw);
            prop_assert_eq!(run(&stream, &kills, saves), run(&stream, &[], 0));
        }

        #[test]
        fn without_history_still_nothing_is_written_twice(raw in streams(), kills in kills()) {
            let logs = run(&stream(&raw), &kills, 0);
            let mut values: Vec<i64> = logs[0].iter().chain(&logs[1]).map(|(source, _, _)| *source).collect();
            values.sort_unstable();
            let all = values.len();
            values.dedup();
            prop_assert_eq!(values.len(), all, "a reading is in both topics or twice in one");
            prop_assert!(logs[..3].iter().all(|log| log.is_sorted_by_key(|(source, _, _)| *source)), "order is kept");
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
