//! A broker that runs alone, as a service does, and commands that are run against it.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{PROGRAM, free_address, is_running, kill_9, say, signal, wait_for};

const PATIENCE: Duration = Duration::from_secs(30);

/// `streamforge broker` on free ports, in a folder of its own.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Option<Child>,
    folder: tempfile::TempDir,
    /// Where it says that it is ready and that it stops.
    manager: UnixDatagram,
    /// Where it listens for Kafka clients.
    listen: String,
    /// Where its schema registry listens.
    registry_listen: String,
    data: PathBuf,
    /// More for its command line, from its next start on.
    pub(crate) options: Vec<String>,
}

/// What a command printed.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Printed {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), error: text(&output.stderr) }
    }

    /// The lines of a command that ended well.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<&str> {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out.lines().collect()
    }

    /// The JSON of a command that ended well.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The message of a command that ended with this code.
    #[track_caller]
    pub(crate) fn failure(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.error.trim_end()
    }
}

impl Broker {
    /// Starts a broker and waits until it says that it is ready.
    pub(crate) fn start() -> Self {
        Self::start_on("127.0.0.1:0".to_owned(), None, &[])
    }

    /// Starts a broker that keeps its data in a folder of the caller's.
    pub(crate) fn start_in(data: PathBuf, options: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0".to_owned(), Some(data), options)
    }

    /// Starts a broker that is found at the same address after every start.
    pub(crate) fn start_on_a_fixed_port() -> Self {
        Self::start_on(free_address().to_string(), None, &[])
    }

    /// The same, and its schema registry is found at this address.
    pub(crate) fn start_with_registry(registry: SocketAddr) -> Self {
        Self::start_at(free_address().to_string(), registry.to_string(), None, &[])
    }

    fn start_on(listen: String, data: Option<PathBuf>, options: &[&str]) -> Self {
        Self::start_at(listen, "127.0.0.1:0".to_owned(), data, options)
    }

    fn start_at(listen: String, registry_listen: String, data: Option<PathBuf>, options: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("sf-broker-").tempdir().expect("a temporary folder");
        let manager = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let data = data.unwrap_or_else(|| folder.path().join("data"));
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut broker = Self { child: None, data, folder, manager, listen, registry_listen, options };
        broker.start_again();
        broker
    }

    /// Starts a broker that was stopped, and waits until it says that it is ready.
    pub(crate) fn start_again(&mut self) {
        self.spawn();
        assert_eq!(self.said(), "READY=1", "{}", self.log());
    }

    /// Starts a broker that was stopped and does not wait for it.
    pub(crate) fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).expect("a log file");
        let child = Command::new(PROGRAM)
            .args(["broker", "--listen", &self.listen, "--registry-listen", &self.registry_listen, "--data-dir"])
            .arg(self.data())
            .args(&self.options)
            .env("NOTIFY_SOCKET", self.folder.path().join("notify"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("the broker starts"));
    }

    /// Kills it, and forgets what it may have said.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("a running broker");
        kill_9(child.id());
        child.wait().expect("the broker is gone");
        self.manager.set_nonblocking(true).expect("a socket");
        while self.manager.recv(&mut [0; 64]).is_ok() {}
        self.manager.set_nonblocking(false).expect("a socket");
    }

    /// What it told the service manager next.
    fn said(&self) -> String {
        let mut bytes = [0; 64];
        let length = self.manager.recv(&mut bytes).unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("a running broker").id()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// An address by its name in the broker's address file: `kafka`, `registry` or `admin`.
    pub(crate) fn address(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.data().join("broker.addr")).expect("an address file");
        let addresses: Value = serde_json::from_str(&text).expect("JSON");
        addresses[name].as_str().expect("an address").to_owned()
    }

    /// Runs a `ctl` command against this broker.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Printed {
        self.ctl_with_input(arguments, "")
    }

    /// Runs a `ctl` command with something to read.
    pub(crate) fn ctl_with_input(&self, arguments: &[&str], input: &str) -> Printed {
        let file = self.folder.path().join("input");
        std::fs::write(&file, input).expect("the input is written");
        let output = Command::new(PROGRAM)
            .arg("ctl")
            .args(arguments)
            .env("SF_DATA_DIR", self.data())
            .stdin(File::open(&file).expect("the input is read"))
            .output();
        Printed::of(&output.expect("the command runs"))
    }

    /// Tells it to stop and waits for its end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        signal(self.id(), "TERM");
        self.ended()
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("a running broker");
        let status = wait_for("the broker ends", PATIENCE, || {
            child.try_wait().ok().flatten().ok_or_else(|| "it runs on".to_owned())
        });
        self.child = None;
        assert_eq!(self.said(), "STOPPING=1", "{}", self.log());
        status
    }
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Printed {
    let output = Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output();
    Printed::of(&output.expect("the command runs"))
}

/// Runs `streamforge` with something to read.
pub(crate) fn run_with_input(arguments: &[&str], input: &str) -> Printed {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command runs");
    let written = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    written.expect("the command reads");
    Printed::of(&child.wait_with_output().expect("the command runs"))
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("--- log of the broker\n{}---", self.log()));
        }
        if let Some(child) = &mut self.child {
            if is_running(child.id()) {
                signal(child.id(), "KILL");
            }
            drop(child.wait());
        }
    }
}
