//! Bookkeeping of readings by (adapter, epoch, seq): what was stored how often, what is missing, what is double.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Differences that are spelled out; the rest is counted.
const DIFFERENCES_SHOWN: usize = 12;

/// How often each reading was seen.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Ledger {
    counts: BTreeMap<(String, i64), Vec<u8>>,
}

impl Ledger {
    pub(crate) fn add(&mut self, adapter: &str, epoch: i64, seq: i64) {
        let seq = usize::try_from(seq).expect("a sequence number is not negative");
        // no allocation for an adapter that is known already would need a borrowed key; tests can afford it
        let counts = self.counts.entry((adapter.to_owned(), epoch)).or_default();
        if counts.len() <= seq {
            counts.resize(seq + 1, 0);
        }
        counts[seq] = counts[seq].saturating_add(1);
    }

    /// Different readings.
    pub(crate) fn distinct(&self) -> usize {
        self.counts.values().flatten().filter(|count| **count > 0).count()
    }

    /// All readings, repeated ones included.
    pub(crate) fn total(&self) -> usize {
        self.counts.values().flatten().map(|count| usize::from(*count)).sum()
    }

    /// Epochs of an adapter.
    pub(crate) fn epochs(&self, adapter: &str) -> BTreeSet<i64> {
        self.counts.keys().filter(|(name, _)| name == adapter).map(|(_, epoch)| *epoch).collect()
    }

    fn count(&self, key: &(String, i64), seq: usize) -> u8 {
        self.counts.get(key).and_then(|counts| counts.get(seq)).copied().unwrap_or(0)
    }

    /// Panics unless every reading of `self` is in `other` exactly once and nothing else is; names both for people.
    #[track_caller]
    pub(crate) fn assert_each_once_in(&self, name: &str, other: &Self, other_name: &str) {
        let keys: BTreeSet<&(String, i64)> = self.counts.keys().chain(other.counts.keys()).collect();
        let mut runs = Runs::default();
        for key in keys {
            let length = self.counts.get(key).map_or(0, Vec::len).max(other.counts.get(key).map_or(0, Vec::len));
            for seq in 0..length {
                let wrong = match (self.count(key, seq), other.count(key, seq)) {
                    (0, 0) | (1.., 1) => None,
                    (0, times) => Some(format!("{times} times in {other_name} but not in {name}")),
                    (_, 0) => Some(format!("in {name} but not in {other_name}")),
                    (_, times) => Some(format!("{times} times in {other_name}")),
                };
                runs.see(key, seq, wrong);
            }
            runs.end();
        }
        assert!(runs.found.is_empty(), "{}", runs.report(&format!("{name} and {other_name} differ")));
    }

    /// Panics unless the readings of every epoch are there without a hole: all of the epoch where nothing is known of
    /// its end, else those below what was acknowledged.
    #[track_caller]
    pub(crate) fn assert_contiguous(&self, name: &str, acknowledged: &Acknowledged) {
        let mut runs = Runs::default();
        for key in self.counts.keys().chain(acknowledged.0.keys()) {
            let stored = self.counts.get(key).map_or(0, Vec::len);
            let end = acknowledged.0.get(key).copied().unwrap_or(stored);
            for seq in 0..end {
                let missing = self.count(key, seq) == 0;
                runs.see(key, seq, missing.then(|| format!("not in {name}, which ends at {stored}")));
            }
            runs.end();
        }
        assert!(runs.found.is_empty(), "{}", runs.report(&format!("acknowledged readings are missing in {name}")));
    }
}

/// Least number of readings an adapter was told to be durable, by (adapter, epoch).
#[derive(Debug, Default)]
pub(crate) struct Acknowledged(pub(crate) BTreeMap<(String, i64), usize>);

/// Neighbouring sequence numbers with the same complaint, told as one.
#[derive(Debug, Default)]
struct Runs {
    found: Vec<(String, i64, usize, usize, String)>,
    open: bool,
}

impl Runs {
    fn see(&mut self, key: &(String, i64), seq: usize, wrong: Option<String>) {
        let Some(wrong) = wrong else {
            self.open = false;
            return;
        };
        match self.found.last_mut() {
            Some((.., end, text)) if self.open && *text == wrong => *end = seq,
            _ => self.found.push((key.0.clone(), key.1, seq, seq, wrong)),
        }
        self.open = true;
    }

    fn end(&mut self) {
        self.open = false;
    }

    fn report(&self, title: &str) -> String {
        let readings: usize = self.found.iter().map(|(_, _, begin, end, _)| end - begin + 1).sum();
        let mut text = format!("{title}: {readings} readings in {} runs", self.found.len());
        for (adapter, epoch, begin, end, wrong) in self.found.iter().take(DIFFERENCES_SHOWN) {
            write!(text, "\n  {adapter} epoch {epoch} seq {begin}..={end} ({}): {wrong}", end - begin + 1)
                .expect("a text takes a line");
        }
        if self.found.len() > DIFFERENCES_SHOWN {
            write!(text, "\n  and {} more runs", self.found.len() - DIFFERENCES_SHOWN).expect("a text takes a line");
        }
        text
    }
}

#[test]
fn differences_are_found_and_told_in_runs() {
    let mut stored = Ledger::default();
    let mut delivered = Ledger::default();
    for seq in 0..10 {
        stored.add("a", 1, seq);
        if !(3..6).contains(&seq) {
            delivered.add("a", 1, seq);
        }
    }
    delivered.add("a", 1, 9);
    delivered.add("b", 1, 0);
    let message = |check: &dyn Fn()| {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).expect_err("a difference");
        panic.downcast_ref::<String>().expect("a text").clone()
    };
    let text = message(&|| stored.assert_each_once_in("raw", &delivered, "clean"));
    let expected = "raw and clean differ: 5 readings in 3 runs\n  \
        a epoch 1 seq 3..=5 (3): in raw but not in clean\n  \
        a epoch 1 seq 9..=9 (1): 2 times in clean\n  \
        b epoch 1 seq 0..=0 (1): 1 times in clean but not in raw";
    assert_eq!(text, expected);
    let mut acknowledged = Acknowledged::default();
    acknowledged.0.insert(("a".to_owned(), 1), 5);
    let text = message(&|| delivered.assert_contiguous("clean", &acknowledged));
    assert!(text.contains("a epoch 1 seq 3..=4 (2): not in clean, which ends at 10"), "{text}");
    acknowledged.0.insert(("a".to_owned(), 1), 3);
    delivered.assert_contiguous("clean", &acknowledged);
}
