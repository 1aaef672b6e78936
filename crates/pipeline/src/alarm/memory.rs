//! What is remembered of an alarm, a point and an asset.

use std::collections::VecDeque;

use model::{Quality, Severity, Timestamp, Value};

use super::command::Remembered;
use super::flood::{Days, LONG_AGO, Recent};
use super::state::Flags;
use super::timers::Deadline;

/// Earlier occurrences of an alarm that can still be acknowledged; of more the oldest are forgotten, and a command about
/// one of them is STALE_OCCURRENCE.
pub(super) const OCCURRENCES_MAX: usize = 16;
/// Characters kept of a text value; the rest is cut off.
const VALUE_CHARS_MAX: usize = 1024;
/// No device time yet.
pub(super) const NEVER: i64 = i64::MIN;

/// A value that outlives its reading.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Held {
    #[default]
    Null,
    Float(f64),
    Int(i64),
    Bool(bool),
    Text(Box<str>),
}

impl Held {
    pub(super) fn set(&mut self, value: Value<'_>) {
        match (value, &*self) {
            (Value::Text(text), Self::Text(held)) if **held == *text => {}
            (value, _) => *self = Self::of(value),
        }
    }

    fn of(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Float(number) => Self::Float(number),
            Value::Int(number) => Self::Int(number),
            Value::Bool(truth) => Self::Bool(truth),
            Value::Text(text) => Self::Text(text.chars().take(VALUE_CHARS_MAX).collect()),
        }
    }

    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Float(number) => Value::Float(*number),
            Self::Int(number) => Value::Int(*number),
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Text(text) => Value::Text(text),
        }
    }
}

/// Who acknowledged, and when.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Acked {
    pub(super) by: Box<str>,
    /// By the operator's clock (ALM-21).
    pub(super) issued: Timestamp,
    pub(super) applied: Timestamp,
}

/// Times of one occurrence, by the wall clock.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Times {
    pub(super) activated: Option<Timestamp>,
    pub(super) cleared: Option<Timestamp>,
    pub(super) acked: Option<Acked>,
}

/// An occurrence that was followed by another one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Past {
    pub(super) number: i64,
    pub(super) acked: bool,
    pub(super) times: Times,
}

/// A delay under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pending {
    pub(super) deadline: Deadline,
    /// Towards the condition, or back.
    pub(super) on: bool,
    pub(super) cause: Cause,
}

/// Why the condition changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Detected,
    Returned,
    /// It had ended while the gateway was down (ALM-10).
    Restart,
    /// It ended because its limit was changed.
    Config,
}

/// A shelving under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shelf {
    pub(super) deadline: Deadline,
    /// By the wall clock, for people.
    pub(super) until: Timestamp,
    /// Ends already when the condition goes.
    pub(super) one_shot: bool,
}

/// One alarm.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct Alarm {
    pub(super) rule: u32,
    pub(super) point: u32,
    /// Points of the same asset that the rule compares with.
    pub(super) setpoint: Option<u32>,
    pub(super) design: Option<u32>,
    pub(super) flags: Flags,
    /// Records written so far.
    pub(super) seq: i64,
    /// Number of the newest occurrence, 0 when there was none.
    pub(super) occurrence: i64,
    pub(super) times: Times,
    pub(super) past: VecDeque<Past>,
    pub(super) pending: Option<Pending>,
    pub(super) shelf: Option<Shelf>,
    pub(super) release: Option<Deadline>,
    pub(super) remind: Option<Deadline>,
    pub(super) recent: Recent,
    /// Steady times since when it stands, and since when it is out of service.
    pub(super) standing_since: i64,
    pub(super) out_of_service_since: i64,
    pub(super) days: Option<Box<Days<i64>>>,
    /// The state is held because the point is BAD or stale, and that was told.
    pub(super) held: bool,
    /// Raised by a hard limit, so as severe as the point's highest limit.
    pub(super) by_hard_limit: bool,
    /// Not judged yet since the restart.
    pub(super) restored: bool,
    /// Restored under another limit.
    pub(super) rule_changed: bool,
    /// Of a condition that its source keeps.
    pub(super) kept: Option<Box<Kept>>,
}

/// What belongs to a condition that its source keeps.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    /// Who tells of it; only a refresh of the same one says anything about it.
    pub(super) origin: Box<str>,
    /// As the source says it.
    pub(super) severity: Severity,
}

impl Alarm {
    pub(super) fn new(rule: u32, point: u32, enabled: bool) -> Self {
        Self {
            rule,
            point,
            setpoint: None,
            design: None,
            flags: Flags { enabled, ..Flags::NORMAL },
            seq: 0,
            occurrence: 0,
            times: Times::default(),
            past: VecDeque::new(),
            pending: None,
            shelf: None,
            release: None,
            remind: None,
            recent: [LONG_AGO; 3],
            standing_since: LONG_AGO,
            out_of_service_since: LONG_AGO,
            days: None,
            held: false,
            by_hard_limit: false,
            restored: false,
            rule_changed: false,
            kept: None,
        }
    }

    /// Nothing has happened that a new alarm would not know.
    pub(super) fn is_untouched(&self) -> bool {
        let Self { seq, pending, shelf, release, remind, days, .. } = self;
        *seq == 0 && pending.is_none() && shelf.is_none() && release.is_none() && remind.is_none() && days.is_none()
    }

    /// Begins a new occurrence; the one before can still be acknowledged.
    pub(super) fn begin_occurrence(&mut self) {
        if self.occurrence > 0 {
            if self.past.len() >= OCCURRENCES_MAX {
                self.past.pop_front();
            }
            let times = std::mem::take(&mut self.times);
            self.past.push_back(Past { number: self.occurrence, acked: times.acked.is_some(), times });
        }
        self.times = Times::default();
        self.occurrence += 1;
    }
}

/// One point that is watched, or one device.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) asset: u32,
    /// The parameter; behind its mark the device, what is wrong with a part of the gateway, or a source's condition.
    pub(super) name: Box<str>,
    pub(super) alarms: Vec<u32>,
    /// Alarms of the asset that need to know this point.
    pub(super) dependents: Vec<u32>,
    /// Device time of the newest reading that was judged; older ones change nothing (ALM-08). Of a condition that its
    /// source keeps the number of the newest word about it.
    pub(super) judged: i64,
    /// Newest value and its device time.
    pub(super) value: Held,
    pub(super) value_time: i64,
    /// What was rejected last.
    pub(super) rejected: Held,
    pub(super) unit: Option<Box<str>>,
    pub(super) quality: Quality,
    /// BAD or stale: the value says nothing of now.
    pub(super) unknown: bool,
}

/// Stands before the name of a device; no parameter begins with it.
pub(super) const DEVICE_MARK: char = ':';
/// Begins the name of a condition of the gateway itself, in the place of a parameter's.
pub(super) const SYSTEM_MARK: char = '!';
/// Begins the name of a condition that a source keeps.
pub(super) const CONDITION_MARK: char = '~';

impl Point {
    pub(super) fn new(asset: u32, name: &str) -> Self {
        Self {
            asset,
            name: name.into(),
            alarms: Vec::new(),
            dependents: Vec::new(),
            judged: NEVER,
            value: Held::Null,
            value_time: NEVER,
            rejected: Held::Null,
            unit: None,
            quality: Quality::Uncertain,
            unknown: false,
        }
    }

    /// The device, or what is wrong with a part of the gateway; `None` for a parameter.
    pub(super) fn source(&self) -> Option<&str> {
        source_of(&self.name)
    }

    /// The value as an operand.
    pub(super) fn known(&self) -> Option<Value<'_>> {
        (!self.unknown && self.value_time != NEVER).then(|| self.value.value())
    }
}

/// What stands behind a mark.
pub(super) fn source_of(name: &str) -> Option<&str> {
    name.strip_prefix([DEVICE_MARK, SYSTEM_MARK, CONDITION_MARK])
}

/// One asset of a lane; the adapter of a device, or a part of the gateway.
#[derive(Debug)]
pub(super) struct Asset {
    pub(super) name: Box<str>,
    pub(super) points: Vec<u32>,
    pub(super) commands: Remembered,
    /// Changed since it was saved last.
    pub(super) changed: bool,
}
