//! Health of a component and the roll-up of many.

use std::fmt;

/// State of a component, ordered from well to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Health {
    #[default]
    Healthy,
    /// Works, but something non-critical failed or is about to.
    Degraded,
    /// A critical part does not work.
    Unhealthy,
    /// Gave up; waits for a person or for its re-arm time.
    Failed,
}

impl Health {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Degraded => "DEGRADED",
            Self::Unhealthy => "UNHEALTHY",
            Self::Failed => "FAILED",
        }
    }

    /// The reverse of [`Health::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Healthy, Self::Degraded, Self::Unhealthy, Self::Failed].into_iter().find(|h| h.as_str() == text)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
