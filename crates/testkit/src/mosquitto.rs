//! A private mosquitto for tests: the installed program, a folder and a port of loopback of its own.
//!
//! Invariant: nothing of a broker that may run on the machine is touched, and dropping the value ends the broker. The
//! folder is the caller's. Tests that need it ask [`available`] first and say aloud when they do not run.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

/// How long starting may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a start is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("SF_TEST_EXTERNAL=1 is not set")]
    NotAsked,
    #[error("{program} is not installed")]
    NoProgram { program: &'static str },
    #[error("cannot {action}")]
    Io { action: &'static str, source: io::Error },
    #[error("mosquitto does not start: {log}")]
    NotStarted { log: String },
    #[error("mosquitto_pub failed")]
    NotPublished,
}

/// The server program when tests against foreign programs are switched on (`SF_TEST_EXTERNAL=1`); otherwise the reason to
/// print behind `not run:`.
pub fn available() -> Result<PathBuf, Error> {
    if std::env::var_os("SF_TEST_EXTERNAL").is_none_or(|value| value != "1") {
        return Err(Error::NotAsked);
    }
    let runs = |program: &str| Command::new(program).arg("-h").output().is_ok();
    if !runs("mosquitto_pub") {
        return Err(Error::NoProgram { program: "mosquitto_pub" });
    }
    // Debian keeps it out of the PATH of users
    let places = ["mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
    let found = places.into_iter().find(|place| runs(place));
    found.map(PathBuf::from).ok_or(Error::NoProgram { program: "mosquitto" })
}

/// A broker that keeps its sessions in a folder.
#[derive(Debug)]
pub struct Mosquitto {
    program: PathBuf,
    child: Option<Child>,
    folder: PathBuf,
    port: u16,
}

impl Mosquitto {
    /// Starts one on a free port; `more` are lines of its configuration. Everybody is let in unless they say otherwise.
    pub fn start(folder: &Path, more: &str) -> Result<Self, Error> {
        let program = available()?;
        let io = |action| move |source| Error::Io { action, source };
        let listener = TcpListener::bind("127.0.0.1:0").map_err(io("find a free port"))?;
        let port = listener.local_addr().map_err(io("find a free port"))?.port();
        drop(listener);
        let mut text = format!("listener {port} 127.0.0.1\n");
        let anonymous = if more.contains("allow_anonymous") { "" } else { "allow_anonymous true\n" };
        let folder_text = folder.display();
        let written = write!(
            text,
            "{anonymous}persistence true\npersistence_location {folder_text}/\nautosave_interval 1\n\
             autosave_on_changes true\nmax_queued_messages 100000\n{more}"
        );
        written.map_err(|_| Error::Io { action: "write its settings", source: io::ErrorKind::Other.into() })?;
        if rustix::process::geteuid().is_root() {
            text.push_str("\nuser root\n"); // its own user could not read our folder
        }
        fs::write(folder.join("mosquitto.conf"), text).map_err(io("write its settings"))?;
        let mut broker = Self { program, child: None, folder: folder.to_owned(), port };
        broker.run()?;
        Ok(broker)
    }

    /// Starts it again, with what it had kept.
    pub fn run(&mut self) -> Result<(), Error> {
        let io = |action| move |source| Error::Io { action, source };
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log"));
        let child = Command::new(&self.program)
            .arg("-v")
            .arg("-c")
            .arg(self.folder.join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.map_err(io("open its log"))?)
            .spawn();
        self.child = Some(child.map_err(io("start it"))?);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if Instant::now() >= deadline {
                return Err(Error::NotStarted { log: self.log() });
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Forgets all sessions and kept messages; it must not run.
    pub fn forget(&self) {
        drop(fs::remove_file(self.folder.join("mosquitto.db")));
    }

    /// Publishes by `mosquitto_pub`, with further arguments: `-s` for the whole input as one message, `-l` for one a line.
    pub fn publish(&self, topic: &str, input: &[u8], more: &[&str]) -> Result<(), Error> {
        let io = |source| Error::Io { action: "run mosquitto_pub", source };
        let mut child = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-t", topic])
            .args(more)
            .stdin(Stdio::piped())
            .spawn()
            .map_err(io)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input).map_err(io)?;
        }
        if child.wait().map_err(io)?.success() { Ok(()) } else { Err(Error::NotPublished) }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}
