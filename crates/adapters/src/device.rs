//! The state of a device as its polls show it (MB-38), and the roll-up to the adapter's health.
//!
//! Pure: fed with one note per poll and the time. Nothing here ends a process; a dead device is a fact, not a fault of
//! ours (G-09).

use std::collections::VecDeque;
use std::time::Duration;

use model::Health;
use tokio::time::Instant;

use crate::sample::DeviceNote;

/// Failed polls in a row that degrade.
const FAILED_IN_A_ROW: u32 = 3;
/// Least time without a valid answer before a device counts as down.
const SILENCE_MIN: Duration = Duration::from_secs(10);
/// The window for the rate of success, in slices that expire one by one.
const SLICE: Duration = Duration::from_secs(30);
const SLICES: usize = 10;

/// What a device is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Answers.
    Ok,
    /// Answers, but not as it should.
    Degraded,
    /// Does not answer.
    Down,
}

impl State {
    /// Word in health and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Degraded => "DEGRADED",
            Self::Down => "DOWN",
        }
    }

    /// Number in metrics: 0 well, 1 degraded, 2 down.
    pub const fn as_number(self) -> i64 {
        match self {
            Self::Ok => 0,
            Self::Degraded => 1,
            Self::Down => 2,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Slice {
    began: Instant,
    polls: u32,
    failed: u32,
    missed: u32,
}

/// One device.
#[derive(Debug, Clone)]
pub struct Device {
    /// max(3 polls, 10 s).
    silence_max: Duration,
    last_answer: Instant,
    failed_in_a_row: u32,
    silent_in_a_row: u32,
    address_invalid: bool,
    slices: VecDeque<Slice>,
}

impl Device {
    /// A device that is polled every `period`; counts as answering until it shows otherwise.
    pub fn new(now: Instant, period: Duration) -> Self {
        Self {
            silence_max: SILENCE_MIN.max(period * 3),
            last_answer: now,
            failed_in_a_row: 0,
            silent_in_a_row: 0,
            address_invalid: false,
            slices: VecDeque::with_capacity(SLICES + 1),
        }
    }

    /// Takes in how a poll went and how many ticks it missed.
    pub fn observe(&mut self, note: DeviceNote, missed: u64, now: Instant) {
        if !note.asked {
            return;
        }
        if note.answered {
            self.last_answer = now;
            self.silent_in_a_row = 0;
        } else {
            self.silent_in_a_row = self.silent_in_a_row.saturating_add(1);
        }
        self.failed_in_a_row = if note.failed { self.failed_in_a_row.saturating_add(1) } else { 0 };
        self.address_invalid = note.address_invalid;
        while self.slices.front().is_some_and(|slice| now.saturating_duration_since(slice.began) > SLICE * 10) {
            self.slices.pop_front();
        }
        let current = self.slices.back_mut().filter(|slice| now.saturating_duration_since(slice.began) < SLICE);
        let slice = if let Some(slice) = current {
            slice
        } else {
            self.slices.push_back(Slice { began: now, polls: 0, failed: 0, missed: 0 });
            self.slices.back_mut().expect("one was pushed just now")
        };
        slice.polls += 1;
        slice.failed += u32::from(note.failed);
        slice.missed = slice.missed.saturating_add(u32::try_from(missed).unwrap_or(u32::MAX));
    }

    /// The state now, and the one sentence behind it.
    pub fn state(&self, now: Instant) -> (State, &'static str) {
        let silent_for = now.saturating_duration_since(self.last_answer);
        if self.silent_in_a_row > 0 && silent_for >= self.silence_max {
            return (State::Down, "does not answer");
        }
        if self.failed_in_a_row >= FAILED_IN_A_ROW {
            return (State::Degraded, "failed three polls in a row or more");
        }
        if self.address_invalid {
            return (State::Degraded, "has no such address for at least one tag");
        }
        let sum = |what: fn(&Slice) -> u32| self.slices.iter().map(|slice| u64::from(what(slice))).sum::<u64>();
        let (polls, failed, missed) = (sum(|s| s.polls), sum(|s| s.failed), sum(|s| s.missed));
        // A single failure at start is not yet a rate.
        if failed >= u64::from(FAILED_IN_A_ROW) && failed * 10 > polls {
            return (State::Degraded, "failed more than a tenth of the polls of 5 minutes");
        }
        if missed >= u64::from(FAILED_IN_A_ROW) && missed * 10 > polls + missed {
            return (State::Degraded, "missed more than a tenth of the polls of 5 minutes");
        }
        (State::Ok, "answers")
    }
}

/// Health of the adapter: all well, any not, all down.
pub fn roll_up(states: &[State]) -> Health {
    if states.iter().all(|state| *state == State::Ok) {
        Health::Healthy
    } else if states.iter().all(|state| *state == State::Down) {
        Health::Unhealthy
    } else {
        Health::Degraded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: DeviceNote = DeviceNote { asked: true, answered: true, failed: false, address_invalid: false };
    const SILENT: DeviceNote = DeviceNote { asked: true, answered: false, failed: true, address_invalid: false };

    fn device(now: Instant) -> Device {
        Device::new(now, Duration::from_secs(1))
    }

    // MB-38
    #[tokio::test(start_paused = true)]
    async fn from_ok_over_degraded_to_down_and_back() {
        let start = Instant::now();
        let mut device = device(start);
        let at = |second| start + Duration::from_secs(second);
        for second in 0..100 {
            device.observe(GOOD, 0, at(second));
        }
        device.observe(SILENT, 0, at(100));
        device.observe(SILENT, 0, at(101));
        assert_eq!(device.state(at(101)).0, State::Ok);
        device.observe(SILENT, 0, at(102));
        assert_eq!(device.state(at(102)).0, State::Degraded);
        device.observe(SILENT, 0, at(108));
        assert_eq!(device.state(at(108)).0, State::Degraded);
        assert_eq!(device.state(at(109)).0, State::Down);
        device.observe(GOOD, 0, at(110));
        assert_eq!(device.state(at(110)).0, State::Ok);
    }

    // MB-38
    #[tokio::test(start_paused = true)]
    async fn rates_degrade_and_expire() {
        let start = Instant::now();
        let mut failing = device(start);
        let mut slow = device(start);
        let failed = DeviceNote { failed: true, ..GOOD };
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            failing.observe(if second % 5 == 0 { failed } else { GOOD }, 0, now);
            slow.observe(GOOD, 3, now);
        }
        let now = start + Duration::from_secs(60);
        assert_eq!(failing.state(now).0, State::Degraded);
        assert_eq!(slow.state(now).0, State::Degraded);
        for second in 400..410 {
            failing.observe(GOOD, 0, start + Duration::from_secs(second));
        }
        assert_eq!(failing.state(start + Duration::from_secs(410)).0, State::Ok);
    }

    // MB-38
    #[test]
    fn health_of_many() {
        use State::{Degraded, Down, Ok};
        assert_eq!(roll_up(&[Ok, Ok]), Health::Healthy);
        assert_eq!(roll_up(&[Ok, Down]), Health::Degraded);
        assert_eq!(roll_up(&[Down, Degraded]), Health::Degraded);
        assert_eq!(roll_up(&[Down, Down]), Health::Unhealthy);
    }
}
