//! What is remembered between passes: how far the log is clean, and since when.
//!
//! A state file with a previous copy. Losing it costs a pass over everything and keeps tombstones longer, nothing else.

use std::path::Path;

use crate::error::Error;
use crate::state_file;
use crate::vfs::Vfs;

/// Name of the state file.
pub(crate) const MARKS_FILE: &str = "compaction";
/// Passes remembered; on reaching it two neighbours become one, and the tombstones of the older wait for the younger.
const PASSES_MAX: usize = 64;

/// One pass: what lies below `end` has been compacted at `at_ms` or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pass {
    end: i64,
    at_ms: i64,
}

/// The passes of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Below this offset each key has one value.
    pub(crate) clean: i64,
    /// Ascending.
    passes: Vec<Pass>,
}

impl Marks {
    /// What the folder says; nothing where it says nothing.
    pub(crate) fn read(vfs: &dyn Vfs, dir: &Path) -> Result<Self, Error> {
        let path = dir.join(MARKS_FILE);
        let read = state_file::read(vfs, &path).map_err(Error::io("read", &path))?;
        Ok(read.and_then(|(bytes, _)| Self::decode(&bytes)).unwrap_or_default())
    }

    /// Tombstones below this offset were first seen by a pass at least `retention_ms` ago.
    pub(crate) fn droppable(&self, now_ms: i64, retention_ms: i64) -> i64 {
        let old = |pass: &&Pass| now_ms.saturating_sub(pass.at_ms) >= retention_ms;
        self.passes.iter().take_while(old).map(|pass| pass.end).last().unwrap_or(0)
    }

    /// Takes note of a pass that has just ended.
    pub(crate) fn passed(&mut self, end: i64, now_ms: i64, retention_ms: i64) {
        self.clean = self.clean.max(end);
        let old = self.droppable(now_ms, retention_ms);
        // Of those that are old enough the newest says it all.
        self.passes.retain(|pass| pass.end >= old);
        if self.passes.last().is_none_or(|last| last.end < end) {
            self.passes.push(Pass { end, at_ms: now_ms });
        }
        if self.passes.len() > PASSES_MAX {
            self.passes.remove(PASSES_MAX / 2);
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.clean.to_be_bytes().to_vec();
        for pass in &self.passes {
            out.extend_from_slice(&pass.end.to_be_bytes());
            out.extend_from_slice(&pass.at_ms.to_be_bytes());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (clean, rest) = bytes.split_first_chunk::<8>()?;
        let (passes, rest) = rest.as_chunks::<16>();
        let number = |bytes: &[u8]| bytes.try_into().map(i64::from_be_bytes).ok();
        let passes = passes.iter().map(|pass| Some(Pass { end: number(&pass[..8])?, at_ms: number(&pass[8..])? }));
        let passes: Vec<Pass> = passes.collect::<Option<_>>()?;
        let sound = rest.is_empty() && passes.is_sorted_by_key(|pass| pass.end);
        sound.then_some(Self { clean: i64::from_be_bytes(*clean), passes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // STR-05: a tombstone waits from the first pass that saw it on.
    #[test]
    fn tombstones_wait_for_their_own_pass() {
        let mut marks = Marks::default();
        marks.passed(10, 1_000, 100);
        marks.passed(20, 1_050, 100);
        assert_eq!(marks.droppable(1_099, 100), 0);
        assert_eq!(marks.droppable(1_100, 100), 10);
        assert_eq!(marks.droppable(1_149, 100), 10);
        assert_eq!(marks.droppable(1_150, 100), 20);
        assert_eq!(marks.droppable(0, 100), 0, "a clock that goes back makes nothing old");
        assert_eq!(marks.clean, 20);
        assert_eq!(Marks::decode(&marks.encode()), Some(marks));
    }

    #[test]
    fn many_passes_are_bounded_and_only_wait_longer() {
        let mut marks = Marks::default();
        for number in 1..1_000 {
            marks.passed(number * 10, number, i64::MAX);
        }
        assert_eq!((marks.passes.len(), marks.clean), (PASSES_MAX, 9_990));
        for now_ms in 1..1_000 {
            assert!(marks.droppable(now_ms, 0) <= now_ms * 10);
        }
        assert_eq!(Marks::decode(&[0; 9]), None);
    }
}
