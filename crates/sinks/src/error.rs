//! Why a sink process ends, and why a target did not take what it was given.

use config::Problem;

/// Ends the process. A target that is away never leads here (G-09): the host waits for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment holds no settings.
    #[error("the environment variable SINK_CONFIG is not set")]
    NoSettings,
    /// The settings are no JSON.
    #[error("SINK_CONFIG is not JSON")]
    Syntax { source: serde_json::Error },
    /// The settings are not valid; all reasons at once.
    #[error("the settings are not valid: {}", list(problems))]
    Settings { problems: Vec<Problem> },
    /// What the stream asks for is not to be had.
    #[error("cannot get into the stream")]
    Access { source: stream::access::Error },
    /// Health and metrics cannot be served.
    #[error("cannot serve health and metrics")]
    Admin { source: daemon::admin::Error },
    /// The thread of the consuming loop cannot be started.
    #[error("cannot start the thread that reads the stream")]
    Thread { source: std::io::Error },
    /// The consuming loop ended without a last word: a defect.
    #[error("the loop that reads the stream broke off")]
    BrokeOff,
    /// Another process writes as this sink; going on would fight it.
    #[error("another process took over as sink {sink_id}, this one stops")]
    Fenced { sink_id: String },
    /// The loop was stuck when the time to stop was over, most likely in a question to a stream that is away.
    #[error("the loop that reads the stream did not end in time and was left behind")]
    LeftBehind,
    /// The time to stop was over before the target confirmed what was in hand; it is read again at the next start.
    #[error("{records} records in hand were not confirmed when the time to stop was over")]
    Unconfirmed { records: usize },
}

impl Error {
    /// True if only another configuration helps.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::NoSettings | Self::Syntax { .. } | Self::Settings { .. } | Self::Access { .. })
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why a call of a sink had no effect. The host answers with patience: reconnect, backoff, breaker.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The target did not do what was asked; the same call may succeed later.
    #[error("{target}: {doing} failed")]
    Failed { target: String, doing: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    /// The target did not answer in time.
    #[error("{target}: {doing} took longer than {seconds} s")]
    TimedOut { target: String, doing: &'static str, seconds: u64 },
    /// The target says that somebody newer writes as this sink.
    #[error("{target}: a newer process writes as this sink")]
    Fenced { target: String },
    /// A call came before [`crate::sink::Sink::connect`] succeeded: a defect of the host.
    #[error("{target}: not connected")]
    NotConnected { target: String },
}

/// Why the stream did not do what was asked. Not the target's fault, so it never touches the breaker.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("reading the stream failed")]
    Read { source: kafka::client::Error },
    #[error("the stream has not acknowledged {what}")]
    Publish { what: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the schema registry does not tell what schema {id} is")]
    Schema { id: i32, source: stream::schemas::Error },
}
