//! What stops a gateway from starting.

use std::io;

use config::Problem;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} in {path}")]
    Folder { what: &'static str, path: String, source: io::Error },
    #[error("another gateway runs on {path}; stop it first, or give this one a data folder of its own")]
    Locked { path: String },
    #[error("{path} cannot be read")]
    ReadDocument { path: String, source: io::Error },
    #[error("{path} has {} problems:\n{}", problems.len(), list(problems))]
    BadDocument { path: String, problems: Vec<Problem> },
    #[error("the status page cannot be served")]
    Console(#[from] daemon::admin::Error),
    #[error("a free port cannot be found")]
    Port(#[source] io::Error),
    #[error("the broker did not come up within {seconds} s: {reason}; see {logs}")]
    Broker { seconds: u64, reason: String, logs: String },
    #[error("a secret of the stream cannot be read")]
    Secrets(#[source] io::Error),
    #[error("cannot get into the stream")]
    Access(#[source] stream::access::Error),
    #[error("the processes of this gateway cannot be told apart")]
    Identities(#[source] daemon::identity::NoRandomness),
    #[error("commands about alarms cannot be sent")]
    Commands(#[source] kafka::client::Error),
    #[error("the thread {name} cannot be started")]
    Thread { name: &'static str, source: io::Error },
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n")
}
