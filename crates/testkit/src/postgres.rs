//! A private PostgreSQL server for tests: the installed binaries, a data folder of its own, a free port of loopback.
//!
//! Invariants: nothing of a server that may run on the machine is touched, and dropping the value stops the server and
//! removes its folder. The server has no fsync: it proves behaviour, not durability. PostgreSQL refuses to run as root,
//! so under root the server runs as the system's `postgres` user (or `nobody`).
//!
//! Tests that need it ask [`available`] first and say aloud when they do not run.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports are picked before the server binds them; another process may take one in between.
const PORT_ATTEMPTS_MAX: u32 = 5;

/// What a folder must hold to be used.
const PROGRAMS: [&str; 4] = ["initdb", "postgres", "pg_ctl", "psql"];

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("SF_TEST_EXTERNAL=1 is not set")]
    NotAsked,
    #[error("no PostgreSQL server binaries in PATH or /usr/lib/postgresql")]
    NoBinaries,
    #[error("cannot {action}")]
    Io { action: &'static str, source: io::Error },
    #[error("{program} failed: {output}")]
    Program { program: &'static str, output: String },
}

/// The folder of the server binaries when tests against foreign programs are switched on (`SF_TEST_EXTERNAL=1`);
/// otherwise the reason to print behind `not run:`.
pub fn available() -> Result<PathBuf, Error> {
    if std::env::var_os("SF_TEST_EXTERNAL").is_none_or(|value| value != "1") {
        return Err(Error::NotAsked);
    }
    binaries().ok_or(Error::NoBinaries)
}

/// Looks in PATH first, then in the Debian layout, newest version first.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    folders.extend(versions.into_iter().map(|(_, folder)| folder));
    // a link in PATH leads to the folder where all programs are
    let real = |folder: PathBuf| Some(folder.join("initdb").canonicalize().ok()?.parent()?.to_owned());
    let whole = |folder: &PathBuf| PROGRAMS.iter().all(|program| folder.join(program).is_file());
    folders.into_iter().filter_map(real).find(whole)
}

/// A user that is not root.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// `postgres` or `nobody` of the system when this process is root, nobody else otherwise.
    fn for_server(folder: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let own = fs::metadata(folder).ok()?.uid();
        if own != 0 {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").ok()?;
        let find = |name: &str| {
            users.lines().find_map(|line| {
                let mut fields = line.split(':');
                let matches = fields.next() == Some(name);
                let uid = fields.nth(1)?.parse().ok()?;
                let gid = fields.next()?.parse().ok()?;
                matches.then_some(Self { uid, gid })
            })
        };
        find("postgres").or_else(|| find("nobody"))
    }
}

/// A running server; stopped and removed on drop.
#[derive(Debug)]
pub struct Postgres {
    binaries: PathBuf,
    folder: PathBuf,
    account: Option<Account>,
    port: u16,
}

impl Postgres {
    /// Makes a new cluster and starts it. Takes two or three seconds.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&available()?, "")
    }

    /// Like [`Postgres::start`] with the binaries in `binaries` and extra lines for `postgresql.conf`.
    pub fn start_with(binaries: &Path, settings: &str) -> Result<Self, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("sf-postgres-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|source| Error::Io { action: "make a folder for the server", source })?;
        let account = Account::for_server(&folder);
        let mut server = Self { binaries: binaries.to_owned(), folder, account, port: 0 };
        server.prepare(settings)?;
        let mut attempt = 1;
        loop {
            server.port = free_port().map_err(|source| Error::Io { action: "find a free port", source })?;
            match server.start_again() {
                Ok(()) => return Ok(server),
                Err(error) if attempt == PORT_ATTEMPTS_MAX => return Err(error),
                Err(error) => tracing::debug!(%error, "the test server did not start, trying another port"),
            }
            attempt += 1;
        }
    }

    fn prepare(&self, settings: &str) -> Result<(), Error> {
        let failed = |action| move |source| Error::Io { action, source };
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o755)).map_err(failed("open the folder"))?;
        if let Some(account) = self.account {
            chown(&self.folder, Some(account.uid), Some(account.gid)).map_err(failed("hand over the folder"))?;
        }
        let data = self.data();
        let arguments = ["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
        self.run("initdb", &arguments)?;
        let configuration = format!(
            "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nlisten_addresses = '127.0.0.1'\n\
             unix_socket_directories = '{}'\nmax_connections = 50\nlogging_collector = off\n{settings}\n",
            self.folder.display()
        );
        let file = Path::new(&data).join("postgresql.auto.conf");
        fs::write(&file, configuration).map_err(failed("write the server's settings"))
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    fn run(&self, program: &'static str, arguments: &[&str]) -> Result<Output, Error> {
        let mut command = Command::new(self.binaries.join(program));
        command.args(arguments).current_dir(&self.folder).env_remove("PGDATA").stdin(Stdio::null());
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        let output = command.output().map_err(|source| Error::Io { action: "run a server program", source })?;
        if output.status.success() {
            return Ok(output);
        }
        let text = [output.stdout, output.stderr].concat();
        Err(Error::Program { program, output: String::from_utf8_lossy(&text).trim().to_owned() })
    }

    /// Starts a stopped server on the port it had.
    pub fn start_again(&self) -> Result<(), Error> {
        let log = self.folder.join("log").display().to_string();
        let port = format!("-p {}", self.port);
        self.run("pg_ctl", &["-D", &self.data(), "-l", &log, "-o", &port, "-w", "-t", "30", "start"]).map(|_| ())
    }

    /// Stops the server; `immediate` is the crash: no goodbye to anybody.
    pub fn stop(&self, immediate: bool) -> Result<(), Error> {
        let mode = if immediate { "immediate" } else { "fast" };
        self.run("pg_ctl", &["-D", &self.data(), "-m", mode, "-w", "-t", "30", "stop"]).map(|_| ())
    }

    /// Runs SQL in `database` with psql and returns its unaligned, tuples-only output.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, Error> {
        let port = self.port.to_string();
        let arguments =
            ["-X", "-At", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", database];
        let output = self.run("psql", &[&arguments[..], &["-c", sql]].concat())?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// A URL of `database` without a password (everybody on loopback is trusted).
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Folder of the server's files; its socket and its log are there.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = self.stop(true) {
            tracing::debug!(%error, "the test server was not running");
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "the test server's folder stays behind");
        }
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
