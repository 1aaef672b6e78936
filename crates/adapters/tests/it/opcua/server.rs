//! The server of the test's own: of asyncua, or of node-opcua.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::DEADLINE;

fn interpreter() -> String {
    std::env::var("SF_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// Fails with the reason when tests against foreign programs are off or the module is absent.
pub(crate) fn available() -> Result<(), String> {
    if std::env::var_os("SF_TEST_EXTERNAL").is_none_or(|value| value != "1") {
        return Err("SF_TEST_EXTERNAL=1 is not set".to_owned());
    }
    match Command::new(interpreter()).args(["-c", "import asyncua"]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => Err(format!("{} has no module asyncua", interpreter())),
        Err(error) => Err(format!("{}: {error}", interpreter())),
    }
}

/// The same for Node.js and node-opcua.
pub(crate) fn node_available() -> Result<(), String> {
    if std::env::var_os("SF_TEST_EXTERNAL").is_none_or(|value| value != "1") {
        return Err("SF_TEST_EXTERNAL=1 is not set".to_owned());
    }
    let modules = std::env::var_os("SF_NODE_MODULES").ok_or("SF_NODE_MODULES is not set")?;
    let load =
        Command::new("node").args(["-e", "require.resolve('node-opcua-server')"]).env("NODE_PATH", &modules).output();
    match load {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => Err(format!("{} has no node-opcua-server", modules.display())),
        Err(error) => Err(format!("node: {error}")),
    }
}

/// Says aloud that something did not run.
pub(crate) fn not_run(what: &str, why: &str) {
    writeln!(std::io::stderr(), "not run: {what} ({why})").expect("standard error takes a line");
}

/// A running server; ends with this value.
pub(crate) struct Server {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    said: Vec<String>,
    pub(crate) port: u16,
}

/// A port nobody listens at.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Without security, on a free port.
    pub(crate) async fn start() -> Self {
        Self::start_on(free_port(), &["none"]).await
    }

    pub(crate) async fn start_on(port: u16, options: &[&str]) -> Self {
        let mut command = Command::new(interpreter());
        command.arg("tests/peers/opcua_server.py").arg(port.to_string()).args(options);
        Self::spawn(command, port).await
    }

    /// Of node-opcua, with and without security; its certificates are in the folder.
    pub(crate) async fn start_node(port: u16, folder: &Path, options: &[&str]) -> Self {
        let mut command = Command::new("node");
        command.arg("tests/peers/node_opcua_server.js").arg(port.to_string()).arg(folder).args(options);
        command.env("NODE_PATH", std::env::var_os("SF_NODE_MODULES").unwrap());
        Self::spawn(command, port).await
    }

    async fn spawn(mut command: Command, port: u16) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = sync_channel(1000);
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut server = Self { child, stdin, lines, said: Vec::new(), port };
        server.wait("ready").await;
        server
    }

    /// Waits for a line that begins so.
    pub(crate) async fn wait(&mut self, wanted: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(place) = self.said.iter().position(|line| line.starts_with(wanted)) {
                return self.said.remove(place);
            }
            assert!(Instant::now() < deadline, "never {wanted}, but {:?}", self.said);
            match self.lines.try_recv() {
                Ok(line) => self.said.push(line),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    pub(crate) async fn tell(&mut self, command: &Value) {
        writeln!(self.stdin, "{command}").unwrap();
        self.wait("done").await;
    }

    pub(crate) async fn add(&mut self, name: &str, value: f64) {
        self.tell(&json!({"do": "add", "name": name, "value": value})).await;
    }

    pub(crate) async fn set(&mut self, name: &str, value: f64) {
        self.tell(&json!({"do": "set", "name": name, "value": value})).await;
    }

    /// Subscriptions there are.
    pub(crate) async fn subscriptions(&mut self) -> String {
        self.tell(&json!({"do": "subscriptions"})).await;
        self.wait("subscriptions").await
    }

    /// One line that it says about itself, for example `calls`.
    pub(crate) async fn ask(&mut self, what: &str) -> String {
        self.tell(&json!({"do": what})).await;
        self.wait(what).await
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
