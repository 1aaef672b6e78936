//! Sparkplug B from an edge node somebody else wrote: pysparkplug.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::broker::{Broker, available, not_run};
use super::process::{Process, settings};
use super::proxy::Proxy;
use crate::support::DEADLINE;

fn interpreter() -> String {
    std::env::var("SF_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// Fails with the reason when mosquitto or pysparkplug is not to be had.
pub(crate) fn node_available() -> Result<(), String> {
    available()?;
    let output = Command::new(interpreter()).args(["-c", "import pysparkplug"]).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => Err(format!("{} has no module pysparkplug", interpreter())),
        Err(error) => Err(format!("{}: {error}", interpreter())),
    }
}

/// An edge node of pysparkplug, until dropped.
pub(crate) struct Node {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    /// What it said while something else was waited for.
    said: Vec<String>,
}

impl Node {
    pub(crate) async fn start(port: u16) -> Self {
        let mut child = Command::new(interpreter())
            .args(["tests/peers/sparkplug_node.py", &port.to_string(), "Plant A", "Edge1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = sync_channel(1000);
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut node = Self { child, stdin, lines, said: Vec::new() };
        node.wait("ready").await;
        node
    }

    /// Waits for a line; what was said before it stays.
    pub(crate) async fn wait(&mut self, wanted: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(place) = self.said.iter().position(|line| line == wanted) {
                self.said.remove(place);
                return;
            }
            assert!(Instant::now() < deadline, "never {wanted}, but {:?}", self.said);
            match self.lines.try_recv() {
                Ok(line) => self.said.push(line),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    pub(crate) async fn tell(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").unwrap();
        self.wait("done").await;
    }

    /// The crash of the node: the broker publishes its death.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

// MQ-16 to MQ-22, AC-030, AC-055, AC-057
#[tokio::test]
async fn births_values_and_deaths_of_a_foreign_edge_node() {
    if let Err(why) = node_available() {
        return not_run("MQTT: Sparkplug B", &why);
    }
    let broker = Broker::start("");
    let proxy = Proxy::start(broker.port).await;
    // the node is there first: its birth was missed
    let mut node = Node::start(broker.port).await;
    let more = json!({"sparkplug": {"groups": ["Plant A"]}});
    let process = Process::start(&settings(proxy.address.port(), &more));
    process.until_connected().await;
    node.tell("data 21.5").await;
    node.tell("data 22.5").await;
    node.wait("NCMD Node Control/Rebirth True").await;
    assert!(node.said.is_empty(), "once a minute: {:?}", node.said);
    assert!(process.kept.seen().is_empty(), "nothing is guessed");
    process.until("/metrics", "DATA_BEFORE_BIRTH\"} 2").await;
    // born while we listen
    node.kill();
    let mut node = Node::start(broker.port).await;
    let seen = process.kept.until("the birth", |seen| seen.len() >= 5).await;
    let named = |name: &str| seen.iter().find(|seen| seen.parameter == name).unwrap();
    assert_eq!(named("temperature").asset, "plant_a.edge1");
    assert_eq!(named("temperature").flags, ["initial"]);
    assert_eq!(named("motor.count").value, "Int(-87)");
    assert_eq!(named("state").value, "Text(\"run\")");
    assert_eq!(named("on").value, "Bool(true)");
    assert_eq!(named("large").value, "Int(-9007199254740993)");
    assert!(seen.iter().all(|seen| seen.time_source == "DEVICE" && seen.behind_ms.abs() < 60_000));
    node.tell("data 23.5").await;
    node.tell("device").await;
    node.tell("ddata 7.5").await;
    let seen = process.kept.until("the device", |seen| seen.iter().any(|seen| seen.value == "Float(7.5)")).await;
    let last = seen.last().unwrap();
    assert_eq!((last.asset.as_str(), last.parameter.as_str()), ("plant_a.edge1.drive", "speed"));
    assert!(seen.iter().any(|seen| seen.value == "Float(23.5)" && seen.flags.is_empty()));
    node.tell("nodevice").await;
    process
        .kept
        .until("the device's death", |seen| seen.last().unwrap().reason.as_deref() == Some("SOURCE_OFFLINE"))
        .await;
    let before = process.kept.seen().len();
    node.kill();
    let seen = process.kept.until("the node's death", |seen| seen.len() >= before + 5).await;
    assert!(seen[before..].iter().all(|seen| seen.reason.as_deref() == Some("SOURCE_OFFLINE")));
    process.until("/health", "Plant A/Edge1, which is offline").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(process.kept.seen().len(), before + 5, "once, and the device not again");
    let states: Vec<(Option<String>, Option<String>)> = process
        .kept
        .told("device.state")
        .into_iter()
        .filter(|told| told.message.contains("Edge1:"))
        .map(|told| (told.from, told.to))
        .collect();
    assert_eq!(states.len(), 2, "online, offline: {states:?}");
    process.end().await;
    // G-01, AC-030: of all that was sent only the one request is a message, by name and without an alias
    let published: Vec<Vec<u8>> = proxy.sent().into_iter().filter(|packet| packet[0] >> 4 == 3).collect();
    assert_eq!(published.len(), 1);
    assert!(published[0].windows(20).any(|part| part == b"Node Control/Rebirth"));
    assert!(published[0].windows(26).any(|part| part == b"spBv1.0/Plant A/NCMD/Edge1"));
}

// MQ-19: our own connection is gone
#[tokio::test]
async fn a_lost_broker_takes_everything_offline() {
    if let Err(why) = node_available() {
        return not_run("MQTT: Sparkplug B without a broker", &why);
    }
    let broker = Broker::start("");
    let proxy = Proxy::start(broker.port).await;
    let process = Process::start(&settings(proxy.address.port(), &json!({"sparkplug": {"groups": ["+"]}})));
    process.until_connected().await;
    let mut node = Node::start(broker.port).await;
    process.kept.until("the birth", |seen| seen.len() >= 5).await;
    proxy.cut();
    let seen = process.kept.until("all of them offline", |seen| seen.len() >= 10).await;
    assert!(seen[5..].iter().all(|seen| seen.reason.as_deref() == Some("SOURCE_OFFLINE")));
    process.until_connected().await;
    node.tell("data 1").await;
    node.wait("NCMD Node Control/Rebirth True").await;
    process.end().await;
}
