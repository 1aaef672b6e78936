//! When committed offsets go, if the operator has set a time for it.
//!
//! Invariant: a group loses all of its offsets or none, and none while it has members. Two clocks must agree, so setting
//! the time of day deletes nothing (OFF-03).

use super::Millis;

/// A group that may lose its offsets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// Time of day of its newest commit.
    pub(super) committed_ms: i64,
    /// Since when it has had no members, on the clock of groups; `None` while it has some.
    pub(super) vacant_since: Option<Millis>,
}

/// Do the offsets go? `now` is on the clock of groups, `time_ms` the time of day.
pub(super) fn expired(group: Candidate, now: Millis, time_ms: i64, retention_ms: i64) -> bool {
    let vacant = group.vacant_since.is_some_and(|since| now.saturating_sub(since) >= retention_ms);
    vacant && time_ms.saturating_sub(group.committed_ms) >= retention_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    // STR-12
    #[test]
    fn offsets_go_only_when_both_clocks_say_so_and_nobody_is_there() {
        let group = |committed_ms, vacant_since| Candidate { committed_ms, vacant_since };
        assert!(expired(group(1_000, Some(0)), 500, 1_500, 500));
        assert!(!expired(group(1_000, Some(1)), 500, 1_500, 500), "it had members a moment ago");
        assert!(!expired(group(1_001, Some(0)), 500, 1_500, 500), "somebody outside of the group commits");
        assert!(!expired(group(1_000, Some(0)), 10, i64::MAX, 500), "the time of day was set");
        assert!(!expired(group(1_000, None), 500, 1_500, 500), "it has members");
    }
}
