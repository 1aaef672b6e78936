//! Why a module's loop ended. All are met by starting it again; what was not committed is read again.

/// The loop cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the stream failed the {module}")]
    Stream { module: &'static str, source: kafka::client::Error },
    #[error("the schema id of {topic} cannot be had")]
    Schema { topic: &'static str, source: stream::schemas::Error },
    #[error("a record for {topic} was refused")]
    Refused { topic: &'static str, source: kafka::client::SendError },
    #[error("the producer of the {module} cannot recover: {reason}")]
    Producer { module: &'static str, reason: String },
    #[error("a thread for {level} windows cannot be started")]
    Thread { level: &'static str, source: std::io::Error },
    #[error("the loop of {level} windows panicked")]
    Panicked { level: &'static str },
    /// The stop token was cancelled in the middle of a batch; never leaves the module.
    #[error("stopped in the middle of a batch")]
    Stopped,
}

impl Error {
    /// For `map_err` on the client's answers.
    pub(super) fn stream(module: &'static str) -> impl Fn(kafka::client::Error) -> Self {
        move |source| Self::Stream { module, source }
    }
}
