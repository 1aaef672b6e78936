//! A mosquitto of the test's own, in a folder that goes with it.

use std::io::Write as _;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use testkit::mosquitto::{self, Mosquitto};

/// Fails with the reason when tests against foreign programs are off or mosquitto is absent.
pub(crate) fn available() -> Result<(), String> {
    mosquitto::available().map(|_| ()).map_err(|error| error.to_string())
}

/// Says aloud that something did not run.
pub(crate) fn not_run(what: &str, why: &str) {
    writeln!(std::io::stderr(), "not run: {what} ({why})").expect("standard error takes a line");
}

/// A running broker; ends with this value.
#[derive(Debug)]
pub(crate) struct Broker {
    inner: Mosquitto,
    folder: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Broker {
    /// Starts one that lets everybody in; `more` are lines of its configuration.
    pub(crate) fn start(more: &str) -> Self {
        Self::start_in(|_| more.to_owned())
    }

    /// Starts one whose configuration speaks of files in its folder.
    pub(crate) fn start_in(more: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let more = more(folder.path());
        let inner = Mosquitto::start(folder.path(), &more).unwrap();
        Self { port: inner.port(), inner, folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn run(&mut self) {
        self.inner.run().unwrap();
    }

    /// Publishes with quality of service 1.
    pub(crate) fn publish(&self, topic: &str, payload: &[u8]) {
        self.publish_with(topic, payload, &["-q", "1"]);
    }

    pub(crate) fn publish_with(&self, topic: &str, payload: &[u8], more: &[&str]) {
        let arguments: Vec<&str> = ["-s"].into_iter().chain(more.iter().copied()).collect();
        self.inner.publish(topic, payload, &arguments).unwrap();
    }

    /// Makes the broker forget what it keeps for a topic.
    pub(crate) fn clear(&self, topic: &str) {
        self.inner.publish(topic, b"", &["-n", "-r", "-q", "1"]).unwrap();
    }

    /// Publishes each line as a message, in order, with quality of service 1.
    pub(crate) fn publish_lines(&self, topic: &str, lines: impl Iterator<Item = String>) {
        let text: String = lines.map(|line| line + "\n").collect();
        self.inner.publish(topic, text.as_bytes(), &["-q", "1", "-l"]).unwrap();
    }
}

impl Deref for Broker {
    type Target = Mosquitto;

    fn deref(&self) -> &Mosquitto {
        &self.inner
    }
}

impl DerefMut for Broker {
    fn deref_mut(&mut self) -> &mut Mosquitto {
        &mut self.inner
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.inner.log();
            let end: Vec<&str> = log.lines().rev().take(60).collect();
            drop(writeln!(std::io::stderr(), "--- end of mosquitto's log, newest first\n{}", end.join("\n")));
        }
    }
}
