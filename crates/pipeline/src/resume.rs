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
}
