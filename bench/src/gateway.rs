//! A whole gateway under measurement: the release binary, a document, a folder of its own, and the figures it shows.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use kafka::client::{Consumer, Settings};
use serde_json::{Value, json};
use stream::Topic;
use stream::topics::PARTITIONS;
use tempfile::TempDir;

use crate::{clock, http, proc};

/// How long a gateway may take to answer for the first time, and to stop.
const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(60);

/// A free port of the loopback interface.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Sends the launch line a linked process waits for: nothing in it, all by default.
pub fn launch(child: &mut Child) -> anyhow::Result<()> {
    let pipe = child.stdin.as_mut().context("a linked process has an open standard input")?;
    Ok(pipe.write_all(b"\n")?)
}

/// The addresses of one gateway.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub console: SocketAddr,
    pub kafka: SocketAddr,
    pub registry: SocketAddr,
}

impl Addresses {
    pub fn free() -> anyhow::Result<Self> {
        Ok(Self { console: free_address()?, kafka: free_address()?, registry: free_address()? })
    }
}

/// What a measured gateway runs.
#[derive(Debug, Clone, Default)]
pub struct Plant {
    pub adapters: Vec<Value>,
    pub sinks: Vec<Value>,
}

impl Plant {
    /// The document: the rules check every reading, three resolutions are aggregated.
    pub fn document(&self, at: &Addresses) -> Value {
        json!({
            "version": 1,
            "gateway_id": "bench",
            "console": { "listen": at.console.to_string() },
            "stream": { "mode": "embedded", "listen": at.kafka.to_string(), "registry_listen": at.registry.to_string() },
            "adapters": self.adapters,
            "sinks": self.sinks,
            "validation": { "rules": [
                { "id": "load", "asset": "load*", "range": { "hard_lo": -1000, "hard_hi": 1000, "soft_hi": 500 },
                  "rate_of_change": { "soft_per_s": 100_000 }, "expected_interval_ms": 60_000 },
            ] },
            "aggregation": { "resolutions": ["1s", "1min", "1hour"] },
        })
    }
}

/// An adapter that makes up `points` readings every `period_ms`.
pub fn simulated(id: &str, points: u64, period_ms: u64) -> Value {
    let assets = (points / 100).clamp(1, 1000);
    json!({ "adapter_id": id, "adapter_type": "simulated", "asset_id": id, "points": points, "assets": assets,
            "poll_interval_ms": period_ms })
}

/// A sink into a database.
pub fn timescale(url: &str) -> Value {
    json!({ "sink_id": SINK, "sink_type": "timescale", "url": url })
}

/// Name of the sink in every document.
pub const SINK: &str = "history";

/// A running gateway; stopped and removed on drop.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    folder: TempDir,
    document: PathBuf,
    pub at: Addresses,
    stream: Consumer,
}

impl Gateway {
    /// Starts it in an empty folder and waits until the stream answers.
    pub fn start(program: &Path, plant: &Plant) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sf-bench-").tempdir()?;
        let at = Addresses::free()?;
        let document = folder.path().join("document.json");
        write_document(&document, &plant.document(&at))?;
        let log = fs::File::create(folder.path().join("output.log"))?;
        let mut child = linked(program)
            .args(["gateway", "--config"])
            .arg(&document)
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        launch(&mut child)?;
        let stream = Consumer::open(&Settings::new(&at.kafka.to_string(), "bench"), "bench")?;
        let gateway = Self { child, folder, document, at, stream };
        let ready = clock::wait_until(START_MAX, Duration::from_millis(50), || {
            gateway.status().is_ok_and(|status| status["topics"].as_array().is_some_and(|topics| !topics.is_empty()))
        });
        if !ready {
            let output = gateway.output();
            bail!("the gateway did not come up; it said:\n{output}");
        }
        Ok(gateway)
    }

    /// Hands it a new document; it is taken over within about a second.
    pub fn change(&self, plant: &Plant) -> anyhow::Result<()> {
        write_document(&self.document, &plant.document(&self.at))
    }

    /// What the status page shows.
    pub fn status(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&http::get(self.at.console, "/api/status?filter=none-of-them")?)?)
    }

    /// The last lines of its log, for messages.
    pub fn output(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("output.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Records in each topic, straight from the stream.
    pub fn written(&self, topics: &[Topic]) -> anyhow::Result<Vec<u64>> {
        let names: Vec<(&str, i32)> = topics.iter().map(|topic| (topic.name(), PARTITIONS)).collect();
        let ends = self.stream.ends(&names)?;
        let sum = |topic: &Topic| {
            let of_topic = ends.iter().filter(|end| end.topic == topic.name());
            of_topic.map(|end| u64::try_from(end.offset).unwrap_or_default()).sum()
        };
        Ok(topics.iter().map(sum).collect())
    }

    /// The metrics page of a child, when it runs.
    pub fn metrics(&self, component: &str) -> anyhow::Result<String> {
        let file = self.folder.path().join("data").join("run").join(format!("{component}.addr"));
        let value: Value = serde_json::from_slice(&fs::read(file)?)?;
        let address = value["admin"].as_str().context("no address published")?;
        http::get(address.parse()?, "/metrics")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All processes of the gateway with their labels.
    pub fn processes(&self) -> Vec<(String, proc::Process)> {
        let members = proc::tree(&proc::all(), &[self.pid()]);
        members.into_iter().map(|process| (proc::label(&process), process)).collect()
    }

    /// Ticks so far of each process, and of each thread of the runtime process, by label.
    pub fn cpu(&self) -> BTreeMap<String, u64> {
        let mut ticks = BTreeMap::new();
        for (label, process) in self.processes() {
            *ticks.entry(label.clone()).or_default() += process.ticks;
            for (thread, own) in proc::threads(process.pid) {
                *ticks.entry(format!("{label} / {thread}")).or_default() += own;
            }
        }
        ticks
    }

    /// Bytes under the stream's folder.
    pub fn stream_bytes(&self) -> u64 {
        bytes_below(&self.folder.path().join("data").join("stream"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// A command of the product that stops when this process is gone, however that happens: it watches its standard input.
pub fn linked(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env(daemon::launch::PARENT_PIPE_VARIABLE, "1").stdin(Stdio::piped());
    command
}

/// Asks a process to stop, and ends it when it does not.
pub fn stop(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid
        && rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_err()
    {
        crate::say::progress("a process had ended by itself");
    }
    let ended = clock::wait_until(STOP_MAX, Duration::from_millis(5), || !matches!(child.try_wait(), Ok(None)));
    if !ended && child.kill().and_then(|()| child.wait()).is_err() {
        crate::say::progress("a process could not be ended");
    }
}

/// By rename, so that a watcher never reads half a document.
fn write_document(path: &Path, document: &Value) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_string_pretty(document)?)?;
    Ok(fs::rename(new, path)?)
}

fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&entry.path()),
        Ok(data) => std::os::unix::fs::MetadataExt::blocks(&data) * 512,
        Err(_) => 0,
    });
    sizes.sum()
}
