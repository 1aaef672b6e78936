//! The rules of the clock, days in milliseconds.

use super::*;

const HOUR_US: i64 = 3600 * SECOND_US;

fn time(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn rules() -> Rules {
    Rules { assume_synced: false, built: time("2026-01-01T00:00:00Z") }
}

/// A machine whose parts a test sets.
#[derive(Debug, Clone, Copy)]
struct Plant {
    rules: Rules,
    seen: Observation,
    life: Life,
}

impl Plant {
    fn boots(wall: &str, synced: bool, memory: Memory) -> Self {
        Self::boots_by(rules(), wall, synced, memory)
    }

    fn boots_by(rules: Rules, wall: &str, synced: bool, memory: Memory) -> Self {
        let kernel = Kernel { synced, ..Kernel::default() };
        let seen = Observation { wall: time(wall), boottime_us: 20 * SECOND_US, kernel };
        Self { rules, seen, life: Life::begin(&rules, memory, seen) }
    }

    /// Time passes on both clocks.
    fn pass(&mut self, micros: i64) -> Changes {
        self.seen.boottime_us += micros;
        self.set(micros)
    }

    /// The wall clock alone is changed.
    fn set(&mut self, micros: i64) -> Changes {
        self.seen.wall = self.seen.wall.plus_micros(micros);
        self.look()
    }

    fn look(&mut self) -> Changes {
        let (life, changes) = next(self.life, &self.rules, self.seen);
        self.life = life;
        changes
    }

    fn state(&self) -> ClockState {
        self.life.state
    }
}

// OFF-01
#[test]
fn synced_then_alone_for_a_day_then_not_believed() {
    let mut plant = Plant::boots("2026-05-01T10:00:00Z", true, Memory::default());
    assert_eq!((plant.state(), plant.life.astray_us()), (ClockState::Synced, 0));
    plant.seen.kernel.synced = false;
    for hour in 1..=30 {
        let changes = plant.pass(HOUR_US);
        assert_eq!(changes.step, None);
        let expected = if hour <= 24 { ClockState::Holdover } else { ClockState::Unsynced };
        assert_eq!(plant.state(), expected, "hour {hour}");
        assert_eq!(plant.life.astray_us(), (hour - 1) * HOUR_US, "it was first seen astray after an hour");
    }
    plant.seen.kernel.synced = true;
    let changes = plant.pass(SECOND_US);
    assert_eq!((changes.state, plant.state()), (Some(ClockState::Unsynced), ClockState::Synced));
}

// OFF-01
#[test]
fn a_hundred_milliseconds_are_synced_and_more_are_not() {
    let mut plant = Plant::boots("2026-05-01T10:00:00Z", true, Memory::default());
    for (offset_us, expected) in [
        (100_000, ClockState::Synced),
        (-100_000, ClockState::Synced),
        (100_001, ClockState::Holdover),
        (i64::MIN, ClockState::Holdover),
    ] {
        plant.seen.kernel.offset_us = offset_us;
        plant.pass(SECOND_US);
        assert_eq!(plant.state(), expected, "{offset_us}");
    }
}

// the ruling of docs/adr/0014: no time server in sight, and yet a clock that may be right
#[test]
fn a_plausible_clock_that_shows_no_time_server_holds_for_a_day() {
    let mut plant = Plant::boots("2026-05-01T10:00:00Z", false, Memory::default());
    assert_eq!(plant.state(), ClockState::Holdover);
    plant.pass(24 * HOUR_US);
    assert_eq!(plant.state(), ClockState::Holdover);
    plant.pass(SECOND_US);
    assert_eq!(plant.state(), ClockState::Unsynced);
    assert!(plant.life.plausible);
    // another process of the same gateway, on the same boot, is told and gets no second day
    let again = Life::begin(&plant.rules, plant.life.memory(), plant.seen);
    assert_eq!(again.state, ClockState::Unsynced);
    assert_eq!(again.astray_us(), 24 * HOUR_US + SECOND_US);
}

// OFF-03
#[test]
fn a_clock_before_the_build_or_the_last_good_time_is_not_believed() {
    let last_good = Memory { not_before_us: Some(time("2026-06-01T00:00:00Z").as_micros()), ..Memory::default() };
    for (wall, memory, expected) in [
        ("1970-01-01T00:00:20Z", Memory::default(), ClockState::Unsynced),
        ("2025-12-31T23:59:59Z", Memory::default(), ClockState::Unsynced),
        ("2026-01-01T00:00:00Z", Memory::default(), ClockState::Holdover),
        ("2026-05-31T23:59:59Z", last_good, ClockState::Unsynced),
        ("2026-06-01T00:00:00Z", last_good, ClockState::Holdover),
        ("2099-01-01T00:00:00Z", Memory::default(), ClockState::Unsynced),
    ] {
        let plant = Plant::boots(wall, false, memory);
        assert_eq!(plant.state(), expected, "{wall}");
        assert_eq!(plant.life.plausible, expected != ClockState::Unsynced, "{wall}");
        assert_eq!(plant.life.good_time().is_some(), plant.life.plausible, "{wall}");
    }
    // a time server that says 1970 is no time server
    assert_eq!(Plant::boots("1970-01-01T00:00:20Z", true, Memory::default()).state(), ClockState::Unsynced);
    // one that says May knows better than a file that says June
    let plant = Plant::boots("2026-05-01T00:00:00Z", true, last_good);
    assert_eq!((plant.state(), plant.life.not_before), (ClockState::Synced, time("2026-05-01T00:00:00Z")));
}

// AC-095 in small, OFF-02
#[test]
fn boot_in_1970_and_a_time_server_after_forty_seconds() {
    let mut plant = Plant::boots("1970-01-01T00:00:20Z", false, Memory::default());
    for _ in 0..40 {
        assert_eq!(plant.pass(SECOND_US), Changes::default());
        assert_eq!(plant.state(), ClockState::Unsynced);
    }
    plant.seen.kernel.synced = true;
    let delta_us = time("2026-05-01T10:00:00Z").micros_since(plant.seen.wall);
    let changes = plant.set(delta_us);
    assert_eq!(changes.step, Some(Step { delta_us }));
    assert_eq!((changes.state, plant.state()), (Some(ClockState::Unsynced), ClockState::Synced));
}

// OFF-02
#[test]
fn steps_both_ways_beyond_a_second() {
    let mut plant = Plant::boots("2026-05-01T10:00:00Z", true, Memory::default());
    for (set_us, told) in [(1_000_000, false), (1_000_001, true), (-1_000_000, false), (-90_000_000, true)] {
        assert_eq!(plant.set(set_us).step.is_some(), told, "{set_us}");
        assert_eq!(plant.pass(SECOND_US).step, None, "told once");
    }
    assert_eq!(plant.set(-90_000_000).step.map(Step::delta_ms), Some(-90_000));
    assert_eq!(plant.state(), ClockState::Synced, "set back, but never before the last good time of the start");
}

// REC-15: a smeared leap second, a leap second of the kernel's, and a day of the fastest slew
#[test]
fn smear_leap_second_and_slew_are_no_steps() {
    let mut plant = Plant::boots("2026-06-30T12:00:00Z", true, Memory::default());
    for _ in 0..86_400 {
        plant.seen.boottime_us += SECOND_US;
        assert_eq!(plant.set(SECOND_US - 12).step, None);
    }
    plant.seen.kernel.leap = true;
    plant.seen.boottime_us += SECOND_US;
    assert_eq!(plant.set(-1_500).step, None, "a second is inserted");
    plant.seen.boottime_us += SECOND_US;
    assert_eq!(plant.set(2 * SECOND_US + 1_500).step, None, "a second is left out");
    assert!(plant.set(-5 * SECOND_US).step.is_some(), "a step beside a leap second");
    plant.seen.kernel.leap = false;
    for _ in 0..86_400 {
        plant.seen.boottime_us += SECOND_US;
        assert_eq!(plant.set(SECOND_US + 500).step, None);
    }
    assert_eq!(plant.state(), ClockState::Synced);
}

// OFF-02: the time since boot includes suspend, so a laptop that slept did not set its clock
#[test]
fn suspend_is_no_step_but_lets_the_day_pass() {
    let mut plant = Plant::boots("2026-05-01T10:00:00Z", true, Memory::default());
    plant.seen.kernel.synced = false;
    assert_eq!(plant.pass(20 * HOUR_US).step, None);
    assert_eq!(plant.state(), ClockState::Holdover);
    assert_eq!(plant.pass(5 * HOUR_US).step, None);
    assert_eq!(plant.state(), ClockState::Unsynced);
}

// REC-15
#[test]
fn years_beyond_2038_are_years() {
    let mut plant = Plant::boots("2038-01-19T03:14:00Z", true, Memory::default());
    for _ in 0..60 {
        assert_eq!(plant.pass(SECOND_US), Changes::default());
    }
    assert_eq!(plant.state(), ClockState::Synced);
    assert_eq!(Plant::boots("2045-01-01T00:00:00Z", false, Memory::default()).state(), ClockState::Holdover);
}

// a host keeps the time of its guests
#[test]
fn assumed_to_be_synced_is_synced_but_never_made_plausible() {
    let rules = Rules { assume_synced: true, ..rules() };
    let mut plant = Plant::boots_by(rules, "2026-05-01T10:00:00Z", false, Memory::default());
    plant.pass(100 * HOUR_US);
    assert_eq!((plant.state(), plant.life.astray_us()), (ClockState::Synced, 0));
    let plant = Plant::boots_by(rules, "1970-01-01T00:00:20Z", false, Memory::default());
    assert_eq!((plant.state(), plant.life.plausible, plant.life.good_time()), (ClockState::Synced, false, None));
}

#[test]
fn what_is_remembered_of_another_boot_is_not_taken_for_this_one() {
    let memory = Memory { begun_us: Some(i64::MAX), synced_us: Some(HOUR_US), ..Memory::default() };
    let plant = Plant::boots("2026-05-01T10:00:00Z", false, memory);
    assert_eq!(plant.state(), ClockState::Holdover);
    assert_eq!(plant.life.memory().begun_us, Some(20 * SECOND_US));
    assert_eq!(plant.life.memory().synced_us, None);
}
