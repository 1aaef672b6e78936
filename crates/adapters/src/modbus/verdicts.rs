//! The words in which a poll speaks with [`super::lessons`]: what an exception asks for, what was heard, what to do.

use modbus::Exception;
use model::reason;

use super::planned::Planned;

/// What an exception asks for (1.6 of the specification).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// The table is not there: leave it alone for a while.
    RefuseTable,
    /// Find the culprit.
    Bisect,
    /// Ask again in a moment.
    Wait,
    /// The unit behind a gateway is gone.
    UnitGone,
    /// No value this time.
    Bad(&'static str),
}

impl Treatment {
    pub fn of(exception: Exception) -> Self {
        match exception {
            Exception::ILLEGAL_FUNCTION => Self::RefuseTable,
            Exception::ILLEGAL_ADDRESS | Exception::ILLEGAL_VALUE => Self::Bisect,
            Exception::ACKNOWLEDGE | Exception::BUSY => Self::Wait,
            Exception::MEMORY_PARITY => Self::Bad(reason::SENSOR_FAULT),
            Exception::PATH_UNAVAILABLE | Exception::TARGET_FAILED => Self::UnitGone,
            _ => Self::Bad(reason::DEVICE_EXCEPTION),
        }
    }
}

/// Whether a request may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Yes,
    /// The unit was silent: one register first.
    Probe,
    /// Left alone; its points have no value for this reason.
    Leave {
        code: &'static str,
        status: Option<Exception>,
    },
}

/// How a request ended, repetitions included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Values,
    Refusal(Exception),
    Nonsense,
    /// So many attempts in a row got no answer.
    Silence {
        attempts: u32,
    },
}

impl Heard {
    /// True if the unit answered at all.
    pub fn is_there(self) -> bool {
        match self {
            Self::Values => true,
            Self::Refusal(exception) => Treatment::of(exception) != Treatment::UnitGone,
            Self::Nonsense | Self::Silence { .. } => false,
        }
    }
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Decode what came.
    Decode,
    /// No value this time, for this reason.
    Report(&'static str),
    /// The same, and the broken memory is told once.
    Broken,
    /// Ask for these instead.
    Halves(Planned, Planned),
    /// Ask for one register of it: the device may answer short requests only.
    TryOne,
}
