//! Why the broker cannot start or had to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Ends the process; requests that fail are answered with a Kafka error code instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the setting {name} is wrong: {reason}")]
    Setting { name: &'static str, reason: String },
    #[error("another process uses the data folder {path}")]
    Locked { path: PathBuf },
    #[error("cannot lock the data folder {path}")]
    Lock { path: PathBuf, source: std::io::Error },
    #[error("cannot {action} {path}")]
    Folder { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot open partition {partition} of topic {topic}")]
    Partition { topic: String, partition: i32, source: commitlog::Error },
    #[error("cannot {action} the state file {path}")]
    State { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the state file {path} is not what this version writes")]
    StateContent { path: PathBuf, source: serde_json::Error },
    #[error("cannot {action} the internal topic {topic}")]
    Internal { action: &'static str, topic: &'static str, source: commitlog::Error },
    #[error("the internal topic {topic} holds records that cannot be read")]
    InternalRecords { topic: &'static str, source: kafka::protocol::Error },
    #[error("cannot listen on {address} for {what}")]
    Listen { what: &'static str, address: SocketAddr, source: std::io::Error },
    #[error("cannot read the PEM file {path}")]
    Pem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("the certificate or authority in {path} cannot be used")]
    Certificate { path: PathBuf, source: rustls::Error },
    #[error(
        "users and access rules in {path} are damaged in both copies; put a good copy back, or remove the file and its \
         .prev to begin without any"
    )]
    AccessLost { path: PathBuf },
    #[error("the operating system gives no random bytes")]
    Random,
    #[error("cannot serve health and metrics")]
    Admin { source: daemon::admin::Error },
    #[error(
        "the disk refused to make records durable, the broker stopped so that nothing is acknowledged that may be lost: {reason}"
    )]
    Storage { reason: String },
}

impl Error {
    /// True when starting again with the same settings cannot help.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Setting { .. })
    }
}
