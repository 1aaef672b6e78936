//! A running gateway: started, asked, signalled, and ended with all its children.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{PROGRAM, Setup, command_line, get, is_running, kill_9, say, signal, wait_for, with_text_in_environment};

/// How long starting, stopping and settling may take on a machine with little time for us.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of the log a failed test shows.
const LOG_LINES_SHOWN: usize = 60;

/// A gateway process.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    console: SocketAddr,
    data: PathBuf,
    log: PathBuf,
    ended: bool,
}

impl Gateway {
    /// Starts `streamforge gateway` with the document that lies in the setup's folder.
    pub(crate) fn start(setup: &Setup) -> Self {
        let mut command = Command::new(PROGRAM);
        command.arg("gateway").arg("--config").arg(setup.document_file()).arg("--data-dir").arg(setup.data());
        Self::start_as(command, setup)
    }

    /// Starts a command that runs a gateway with the setup's data folder and status page.
    pub(crate) fn start_as(mut command: Command, setup: &Setup) -> Self {
        let log = setup.root().join("gateway.log");
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log file"))
            .stderr(file)
            .spawn()
            .expect("the gateway starts");
        Self { child, console: setup.console, data: setup.data(), log, ended: false }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed, its earlier starts included.
    pub(crate) fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The status page's answer.
    pub(crate) fn status(&self) -> Result<Value, String> {
        let (code, body) = get(&self.console.to_string(), "/api/status")?;
        if code != 200 {
            return Err(format!("/api/status answers {code}"));
        }
        serde_json::from_str(&body).map_err(|error| format!("/api/status: {error}"))
    }

    /// Asks the status page until `look` finds something.
    pub(crate) fn wait<T>(&self, what: &str, mut look: impl FnMut(&Value) -> Result<T, String>) -> T {
        self.wait_at_most(what, PATIENCE, &mut look)
    }

    /// Like [`Gateway::wait`] with another deadline.
    pub(crate) fn wait_at_most<T>(
        &self,
        what: &str,
        at_most: Duration,
        mut look: impl FnMut(&Value) -> Result<T, String>,
    ) -> T {
        wait_for(what, at_most, || self.status().and_then(|status| look(&status)))
    }

    /// Ids and names of the processes the gateway runs, by role (`broker`, `adapter`, `sink`).
    pub(crate) fn children(&self, role: &str) -> Vec<(String, u32)> {
        let status = self.status().unwrap_or_default();
        let of_role = components(&status).filter(|part| part["role"] == role);
        of_role.filter_map(|part| Some((part["name"].as_str()?.to_owned(), pid_of(part)?))).collect()
    }

    /// Waits until the named child runs, well, in another process than `not`.
    pub(crate) fn wait_for_child(&self, name: &str, not: Option<u32>) -> u32 {
        self.wait(&format!("{name} runs"), |status| {
            let part = component(status, name)?;
            let pid = pid_of(part).filter(|pid| Some(*pid) != not).ok_or_else(|| part.to_string())?;
            let well = matches!(part["health"].as_str(), Some("HEALTHY"));
            if well { Ok(pid) } else { Err(part.to_string()) }
        })
    }

    /// Waits until a topic holds at least `count` records; returns how many it holds.
    pub(crate) fn wait_for_records(&self, topic: &str, count: u64) -> u64 {
        self.wait(&format!("{topic} holds {count} records"), |status| {
            let now = written(status, topic)?;
            if now >= count { Ok(now) } else { Err(format!("{now} of {count}; {}", reason(status))) }
        })
    }

    /// Waits until the validator and all sinks into databases have nothing left to do, several looks in a row. An archive
    /// is never done: it confirms when it closes a file.
    pub(crate) fn wait_until_drained(&self, at_most: Duration) {
        const CALM_LOOKS: u32 = 30;
        let mut calm = 0;
        let (mut last, mut moved): (Vec<(String, Value)>, _) = (Vec::new(), String::new());
        self.wait_at_most("everything is drained", at_most, |status| {
            let busy = components(status)
                .filter(|part| part["type"] == "timescale" || part["type"] == "kafka" || part["name"] == "validator")
                .find(|part| part["lag_records"] != 0 || part["health"] != "HEALTHY");
            let topics: Vec<(String, Value)> = status["topics"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|topic| (topic["name"].to_string(), topic["written"].clone()))
                .collect();
            if last != topics {
                let changed = topics.iter().filter(|topic| !last.contains(topic));
                moved = changed.map(|(name, written)| format!("{name} {written}")).collect::<Vec<_>>().join(", ");
            }
            calm = if busy.is_none() && last == topics { calm + 1 } else { 0 };
            last = topics;
            if calm >= CALM_LOOKS { Ok(()) } else { Err(format!("busy: {busy:?}, moved last: {moved}")) }
        });
    }

    /// Ends the gateway with a signal and waits for it.
    pub(crate) fn stop(&mut self, name: &str) -> ExitStatus {
        signal(self.child.id(), name);
        let status = wait_for("the gateway stops", PATIENCE, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs on".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        self.ended = true;
        status
    }

    /// Waits until the gateway ends by itself; its exit code.
    pub(crate) fn wait_for_end(&mut self) -> Option<i32> {
        let status = wait_for("the gateway ends", PATIENCE, || {
            self.child.try_wait().ok().flatten().ok_or_else(|| "it runs on".to_owned())
        });
        self.ended = true;
        status.code()
    }

    /// The crash of the runtime alone; its children notice by themselves.
    pub(crate) fn kill(&mut self) {
        kill_9(self.child.id());
        drop(self.child.wait());
        self.ended = true;
    }

    /// Processes that carry this gateway's run folder in their environment.
    pub(crate) fn descendants(&self) -> Vec<u32> {
        with_text_in_environment(&format!(
            "SF_RUN_DIR={}",
            self.data.canonicalize().unwrap_or_default().join("run").display()
        ))
    }

    /// Metrics text of a child, from the address it published.
    pub(crate) fn metrics(&self, name: &str) -> Result<String, String> {
        let path = self.data.join("run").join(format!("{name}.addr"));
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        get(value["admin"].as_str().unwrap_or_default(), "/metrics").map(|(_, body)| body)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let printed = self.printed();
            let lines: Vec<&str> = printed.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            say(&format!("--- end of {}\n{}\n---", self.log.display(), shown.join("\n")));
            if let Ok(status) = self.status() {
                let parts: Vec<String> = components(&status).map(Value::to_string).collect();
                say(&format!("--- components\n{}\n---", parts.join("\n")));
            }
        }
        if self.ended {
            return; // its test looks at what it left; another gateway may run in its folder by now
        }
        if is_running(self.child.id()) {
            signal(self.child.id(), "KILL");
        }
        drop(self.child.wait());
        let mut left = self.descendants();
        for _ in 0..100 {
            if left.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
            left = self.descendants();
        }
        for pid in left {
            say(&format!("process {pid} ({}) outlived its gateway by 10 s and is killed", command_line(pid)));
            kill_9(pid);
        }
    }
}

/// All parts of the gateway.
pub(crate) fn components(status: &Value) -> impl Iterator<Item = &Value> {
    status["components"].as_array().into_iter().flatten()
}

/// One part by its name.
pub(crate) fn component<'s>(status: &'s Value, name: &str) -> Result<&'s Value, String> {
    components(status).find(|part| part["name"] == name).ok_or_else(|| format!("there is no component {name}"))
}

/// Records ever written to a topic.
pub(crate) fn written(status: &Value, topic: &str) -> Result<u64, String> {
    let topics = status["topics"].as_array().into_iter().flatten();
    let found = topics.filter(|entry| entry["name"] == topic).find_map(|entry| entry["written"].as_str()?.parse().ok());
    found.ok_or_else(|| format!("nothing is known of {topic} yet; {}", reason(status)))
}

/// The gateway's own sentence.
pub(crate) fn reason(status: &Value) -> String {
    format!("{}: {}", status["health"].as_str().unwrap_or("?"), status["reason"].as_str().unwrap_or("?"))
}

fn pid_of(part: &Value) -> Option<u32> {
    part["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
}
