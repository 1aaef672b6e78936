//! Why an adapter process ends before it is asked to.

use config::Problem;

/// Nothing the plant does leads here (G-09); only settings, ports and the start itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment holds no settings.
    #[error("the environment variable ADAPTER_CONFIG is not set")]
    NoSettings,
    /// The settings are no JSON.
    #[error("ADAPTER_CONFIG is not JSON")]
    Syntax {
        /// Where and why.
        source: serde_json::Error,
    },
    /// The settings are not valid; all reasons at once.
    #[error("the settings are not valid: {}", list(problems))]
    Settings {
        /// Every problem found.
        problems: Vec<Problem>,
    },
    /// Health and metrics cannot be served.
    #[error("cannot serve health and metrics")]
    Admin {
        /// Why.
        source: daemon::admin::Error,
    },
    /// The stream client cannot be set up.
    #[error("cannot set up publishing")]
    Outlet {
        /// Why.
        source: crate::outlet::OutletError,
    },
    /// The process stopped before the stream had everything.
    #[error("{readings} readings were not durable when the time to stop was over")]
    Undelivered {
        /// How many.
        readings: u64,
    },
}

impl Error {
    /// True if only another configuration helps.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::NoSettings | Self::Syntax { .. } | Self::Settings { .. })
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
