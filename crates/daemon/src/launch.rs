//! What a supervisor hands to a child: one JSON line on standard input, and then an open pipe.
//!
//! Secrets travel here and not in the environment, where every process of the user could read them. The pipe stays open
//! for the life of the parent; its end is the child's signal to stop, so a dead supervisor leaves no orphans behind.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, Read};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::clock;

/// Set (to anything) in the environment of a child whose standard input is the supervisor's pipe.
pub const PARENT_PIPE_VARIABLE: &str = "SF_PARENT_PIPE";

/// A value that must not appear in logs, health, metrics or dead letters (G-10).
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself; only at the rim that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The line itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Launch {
    /// Start counter of this component, issued and persisted by the runtime (+1 each start).
    pub epoch: Option<i64>,
    /// Secrets by name, as the component's settings refer to them.
    pub secrets: BTreeMap<String, Secret>,
    /// What the runtime knows of the clock: a child must not believe a time that its parent does not.
    pub clock: clock::Memory,
}

impl Launch {
    /// Reads the line when this process is a supervised child, and watches the pipe from then on: its end cancels `stop`.
    pub fn receive(stop: &CancellationToken) -> std::io::Result<Self> {
        if std::env::var_os(PARENT_PIPE_VARIABLE).is_none() {
            return Ok(Self::default());
        }
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        let launch = if line.trim().is_empty() { Self::default() } else { serde_json::from_str(&line)? };
        let stop = stop.clone();
        std::thread::Builder::new().name("parent-pipe".to_owned()).stack_size(64 * 1024).spawn(move || {
            let mut sink = [0_u8; 256];
            let mut stdin = std::io::stdin().lock();
            while matches!(stdin.read(&mut sink), Ok(read) if read > 0) {}
            stop.cancel();
        })?;
        Ok(launch)
    }

    /// A secret by name.
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)
    }
}
