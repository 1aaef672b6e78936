//! The states of an alarm: independent flags, and what is derived from them (ALM-01, ALM-02, ALM-11).
//!
//! [`next`] is the whole table of transitions. Invariants: an alarm is SUPPRESSED exactly while a suppression flag is set;
//! an acknowledged occurrence is never un-acknowledged, a new one begins instead; only an alarm that becomes ACTIVE out of
//! an activation or a release is announced.

use model::{AlarmState, IsaState, SuppressionKind};

/// What is stored of an alarm's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts (ALM-01)")]
pub struct Flags {
    pub condition_active: bool,
    pub acked: bool,
    pub latched: bool,
    pub shelved: bool,
    pub by_design: bool,
    /// A more severe alarm of the same point hides it.
    pub subsumed: bool,
    pub out_of_service: bool,
    pub enabled: bool,
    /// The source that keeps the condition suppresses it, and how (UA-29).
    pub by_source: Option<SuppressionKind>,
}

impl Flags {
    /// State A: normal.
    pub const NORMAL: Self = Self {
        condition_active: false,
        acked: true,
        latched: false,
        shelved: false,
        by_design: false,
        subsumed: false,
        out_of_service: false,
        enabled: true,
        by_source: None,
    };

    pub fn suppression(self) -> Option<SuppressionKind> {
        if self.shelved {
            Some(SuppressionKind::Shelved)
        } else if self.by_design {
            Some(SuppressionKind::ByDesign)
        } else if self.subsumed {
            Some(SuppressionKind::Subsumed)
        } else if self.out_of_service {
            Some(SuppressionKind::OutOfService)
        } else if self.enabled {
            self.by_source
        } else {
            Some(SuppressionKind::Disabled)
        }
    }

    /// Active, or latched until it is reset.
    pub fn is_standing(self) -> bool {
        self.condition_active || self.latched
    }

    pub fn state(self) -> AlarmState {
        if self.suppression().is_some() {
            return AlarmState::Suppressed;
        }
        match (self.is_standing(), self.acked) {
            (true, false) => AlarmState::Active,
            (true, true) => AlarmState::Acknowledged,
            (false, _) => AlarmState::Cleared,
        }
    }

    pub fn isa(self) -> IsaState {
        match self.suppression() {
            Some(SuppressionKind::Shelved) => return IsaState::G,
            Some(SuppressionKind::ByDesign | SuppressionKind::Subsumed) => return IsaState::H,
            Some(SuppressionKind::OutOfService | SuppressionKind::Disabled) => return IsaState::I,
            None => {}
        }
        match (self.condition_active, self.latched, self.acked) {
            (true, _, false) => IsaState::B,
            (true, _, true) => IsaState::C,
            (false, true, false) => IsaState::E,
            (false, true, true) => IsaState::F,
            (false, false, false) => IsaState::D,
            (false, false, true) => IsaState::A,
        }
    }
}

/// What may happen to an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The condition came; `latching` is the rule's.
    Activate {
        latching: bool,
    },
    /// The condition went.
    Return,
    Ack,
    /// Ends a latch.
    Reset,
    Shelve(bool),
    ByDesign(bool),
    Subsume(bool),
    OutOfService(bool),
    Enable(bool),
    BySource(Option<SuppressionKind>),
    /// The rule is gone (ALM-10).
    Retire,
}

/// What a step makes of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub flags: Flags,
    /// A new occurrence begins.
    pub new_occurrence: bool,
    /// A person is to be told.
    pub announce: bool,
}

/// The table of transitions; `None` when the step changes nothing or is not allowed.
pub fn next(before: Flags, step: Step) -> Option<Outcome> {
    let mut flags = before;
    let mut new_occurrence = false;
    match step {
        Step::Activate { latching } => {
            if before.condition_active {
                return None;
            }
            flags.condition_active = true;
            flags.latched |= latching;
            flags.acked = false;
            new_occurrence = true;
        }
        Step::Return => flags.condition_active = false,
        Step::Ack => flags.acked = true,
        Step::Reset => {
            if before.condition_active || !before.acked {
                return None;
            }
            flags.latched = false;
        }
        Step::Shelve(on) => flags.shelved = on,
        Step::ByDesign(on) => flags.by_design = on,
        Step::Subsume(on) => flags.subsumed = on,
        Step::OutOfService(on) => flags.out_of_service = on,
        Step::Enable(on) => flags.enabled = on,
        Step::BySource(kind) => flags.by_source = kind,
        Step::Retire => flags = Flags::NORMAL,
    }
    if flags == before {
        return None;
    }
    let released = before.suppression().is_some() && flags.suppression().is_none();
    if released && flags.condition_active {
        // ALM-02: it comes back unacknowledged; an acknowledgement stays with its occurrence, so a new one begins
        new_occurrence |= flags.acked;
        flags.acked = false;
    }
    let begins = matches!(step, Step::Activate { .. }) || (released && flags.condition_active);
    Some(Outcome { flags, new_occurrence, announce: begins && flags.state() == AlarmState::Active })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(flags: Flags, step: Step) -> Flags {
        next(flags, step).map_or(flags, |outcome| outcome.flags)
    }

    /// Every combination of flags.
    fn all_flags() -> impl Iterator<Item = Flags> {
        (0..512_u32).map(|bits| {
            let bit = |n: u32| bits >> n & 1 == 1;
            Flags {
                condition_active: bit(0),
                acked: bit(1),
                latched: bit(2),
                shelved: bit(3),
                by_design: bit(4),
                subsumed: bit(5),
                out_of_service: bit(6),
                enabled: bit(7),
                by_source: bit(8).then_some(SuppressionKind::Shelved),
            }
        })
    }

    const STEPS: [Step; 16] = [
        Step::Activate { latching: false },
        Step::Activate { latching: true },
        Step::Return,
        Step::Ack,
        Step::Reset,
        Step::Shelve(true),
        Step::Shelve(false),
        Step::ByDesign(true),
        Step::ByDesign(false),
        Step::Subsume(true),
        Step::Subsume(false),
        Step::OutOfService(true),
        Step::OutOfService(false),
        Step::Enable(false),
        Step::BySource(Some(SuppressionKind::OutOfService)),
        Step::BySource(None),
    ];

    #[test]
    fn the_table_of_the_specification() {
        // ALM-01: rows A to I
        let rows = [
            ("A", AlarmState::Cleared, [false, true, false]),
            ("B", AlarmState::Active, [true, false, false]),
            ("C", AlarmState::Acknowledged, [true, true, false]),
            ("D", AlarmState::Cleared, [false, false, false]),
            ("E", AlarmState::Active, [false, false, true]),
            ("F", AlarmState::Acknowledged, [false, true, true]),
        ];
        for (isa, state, [condition_active, acked, latched]) in rows {
            let flags = Flags { condition_active, acked, latched, ..Flags::NORMAL };
            assert_eq!((flags.isa().as_str(), flags.state()), (isa, state));
            for (step, isa) in [(Step::Shelve(true), "G"), (Step::ByDesign(true), "H"), (Step::OutOfService(true), "I")]
            {
                let suppressed = after(flags, step);
                assert_eq!((suppressed.isa().as_str(), suppressed.state()), (isa, AlarmState::Suppressed));
                assert_eq!(suppressed.acked, acked, "kept");
            }
        }
    }

    #[test]
    fn no_step_out_of_any_state_breaks_a_law() {
        // ALM-01, ALM-02, ALM-11, ALM-19 (h)
        for flags in all_flags() {
            let ours = flags.shelved || flags.by_design || flags.subsumed || flags.out_of_service || !flags.enabled;
            let suppressed = ours || flags.by_source.is_some();
            assert_eq!(flags.state() == AlarmState::Suppressed, suppressed, "{flags:?}");
            assert!(!(flags.state() == AlarmState::Cleared && flags.latched), "{flags:?}");
            for step in STEPS {
                let Some(outcome) = next(flags, step) else { continue };
                let changed = outcome.flags;
                assert_ne!(changed, flags, "{step:?} of {flags:?} changes nothing");
                if flags.acked && !changed.acked {
                    assert!(outcome.new_occurrence, "{step:?} of {flags:?} takes an acknowledgement back");
                }
                if outcome.announce {
                    assert_eq!(changed.state(), AlarmState::Active, "{step:?} of {flags:?}");
                    assert!(changed.condition_active && !changed.acked);
                }
                let released = suppressed && changed.suppression().is_none();
                if released {
                    assert_eq!(outcome.announce, changed.condition_active, "{step:?} of {flags:?}");
                }
                if flags.latched && !changed.latched {
                    assert!(step == Step::Reset && !flags.condition_active && flags.acked);
                }
            }
        }
    }

    #[test]
    fn a_latched_alarm_needs_an_acknowledgement_and_then_a_reset() {
        // ALM-11: B -> E -> F -> A
        let mut flags = after(Flags::NORMAL, Step::Activate { latching: true });
        let mut seen = vec![flags.isa().as_str()];
        for step in [Step::Return, Step::Reset, Step::Ack, Step::Reset] {
            flags = after(flags, step);
            seen.push(flags.isa().as_str());
        }
        assert_eq!(seen, ["B", "E", "E", "F", "A"], "the first reset is refused");
        let active = after(Flags::NORMAL, Step::Activate { latching: true });
        assert_eq!(next(after(active, Step::Ack), Step::Reset), None, "the condition is still there");
    }
}
