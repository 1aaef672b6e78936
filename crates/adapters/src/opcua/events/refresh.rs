//! When a server is asked to tell its conditions again (UA-28).
//!
//! Pure. One question at a time for each subscription, never in a tight loop: a server that asks for it all the time is
//! answered every ten seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::super::stack::StatusCode;

/// From one question to the next.
const PAUSE_MIN: Duration = Duration::from_secs(10);
/// While another client's refresh runs.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// After a refusal, doubling to the longest.
const RETRY_MIN: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
struct Turn {
    due: Option<Instant>,
    asking: bool,
    asked_at: Option<Instant>,
    tries: u32,
    /// In a row, of queues that are too short for all a server has to tell.
    overflows: u32,
}

/// What is to be asked, by the interval of the subscription.
#[derive(Debug, Default)]
pub struct Refresher {
    turns: BTreeMap<usize, Turn>,
    /// The server cannot, and why; a new session is asked again.
    pub refused: Option<String>,
}

impl Refresher {
    /// Something may have been missed.
    pub fn want(&mut self, interval: usize, now: Instant) {
        if self.refused.is_some() {
            return;
        }
        let turn = self.turns.entry(interval).or_default();
        let pause = PAUSE_MIN.saturating_mul(1 << turn.overflows.saturating_sub(1).min(8)).min(RETRY_MAX);
        let earliest = turn.asked_at.map_or(now, |at| (at + pause).max(now));
        turn.due = Some(turn.due.map_or(earliest, |due| due.min(earliest)));
    }

    /// As [`Self::want`], because the queue was too short: it may be too short again, so ever later.
    pub fn overflowed(&mut self, interval: usize, now: Instant) {
        if let Some(turn) = self.turns.get_mut(&interval) {
            turn.overflows += 1;
        }
        self.want(interval, now);
    }

    /// The server has told everything.
    pub fn ended(&mut self, interval: usize) {
        if let Some(turn) = self.turns.get_mut(&interval) {
            turn.overflows = 0;
        }
    }

    /// Another session: what was asked has no answer, and the server may be another one.
    pub fn reconnected(&mut self) {
        self.refused = None;
        self.turns.clear();
    }

    /// Asks now for one of them.
    pub fn take(&mut self, now: Instant) -> Option<usize> {
        let is_due = |turn: &Turn| !turn.asking && turn.due.is_some_and(|due| due <= now);
        let (interval, turn) = self.turns.iter_mut().find(|(_, turn)| is_due(turn))?;
        (turn.due, turn.asking, turn.asked_at) = (None, true, Some(now));
        Some(*interval)
    }

    /// What the server said.
    pub fn answered(&mut self, interval: usize, status: StatusCode, now: Instant) {
        let Some(turn) = self.turns.get_mut(&interval) else { return };
        turn.asking = false;
        if !status.is_bad() {
            turn.tries = 0;
        } else if status == StatusCode::BadRefreshInProgress {
            turn.due = Some(now + BUSY_WAIT);
        } else if is_unable(status) {
            self.refused = Some(status.to_string());
            self.turns.clear();
        } else {
            turn.due = Some(now + RETRY_MIN.saturating_mul(1 << turn.tries.min(8)).min(RETRY_MAX));
            turn.tries += 1;
        }
    }

    /// When [`Self::take`] has something.
    pub fn next(&self) -> Option<Instant> {
        self.turns.values().filter(|turn| !turn.asking).filter_map(|turn| turn.due).min()
    }
}

/// True if asking again is of no use.
fn is_unable(status: StatusCode) -> bool {
    [
        StatusCode::BadMethodInvalid,
        StatusCode::BadNodeIdUnknown,
        StatusCode::BadNodeIdInvalid,
        StatusCode::BadNothingToDo,
        StatusCode::BadNotSupported,
        StatusCode::BadNotImplemented,
        StatusCode::BadServiceUnsupported,
        StatusCode::BadNotExecutable,
        StatusCode::BadUserAccessDenied,
    ]
    .contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    // UA-28
    #[tokio::test(start_paused = true)]
    async fn one_question_at_a_time_and_never_in_a_tight_loop() {
        let (mut refresher, start) = (Refresher::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(refresher.take(start), None);
        refresher.want(3, start);
        refresher.want(3, start);
        assert_eq!((refresher.take(start), refresher.take(start)), (Some(3), None));
        refresher.want(3, start + second);
        assert_eq!(refresher.next(), None, "while it is asked");
        refresher.answered(3, StatusCode::Good, start + second);
        assert_eq!(refresher.next(), Some(start + PAUSE_MIN));
        let now = start + PAUSE_MIN;
        assert_eq!(refresher.take(now), Some(3));
        refresher.answered(3, StatusCode::BadRefreshInProgress, now);
        assert_eq!(refresher.next(), Some(now + BUSY_WAIT));
        let mut waits = Vec::new();
        let mut now = now + BUSY_WAIT;
        for _ in 0..6 {
            assert_eq!(refresher.take(now), Some(3));
            refresher.answered(3, StatusCode::BadTooManyOperations, now);
            let due = refresher.next().unwrap();
            waits.push(due.duration_since(now).as_secs());
            now = due;
        }
        assert_eq!(waits, [60, 120, 240, 480, 600, 600]);
    }

    // UA-28: asking makes the queue overflow, which is no reason to ask at once
    #[tokio::test(start_paused = true)]
    async fn a_queue_that_is_always_too_short_is_asked_ever_later() {
        let (mut refresher, mut now) = (Refresher::default(), Instant::now());
        refresher.want(0, now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            refresher.take(now).unwrap();
            refresher.answered(0, StatusCode::Good, now);
            refresher.overflowed(0, now);
            let due = refresher.next().unwrap();
            waits.push(due.duration_since(now).as_secs());
            now = due;
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600]);
        refresher.take(now).unwrap();
        refresher.answered(0, StatusCode::Good, now);
        refresher.ended(0);
        refresher.want(0, now);
        assert_eq!(refresher.next(), Some(now + PAUSE_MIN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_cannot_is_asked_once_a_session() {
        let (mut refresher, now) = (Refresher::default(), Instant::now());
        refresher.want(0, now);
        refresher.take(now);
        refresher.answered(0, StatusCode::BadNothingToDo, now);
        refresher.want(0, now);
        assert_eq!((refresher.next(), refresher.refused.as_deref()), (None, Some("BadNothingToDo")));
        refresher.reconnected();
        refresher.want(0, now);
        assert_eq!(refresher.take(now), Some(0));
    }
}
