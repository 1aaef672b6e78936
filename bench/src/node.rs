//! A broker under measurement, ours or Apache Kafka: started in a folder of its own, asked for a topic, ended on drop.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use kafka::client::{Consumer, Settings, admin};
use tempfile::TempDir;

use crate::gateway::{free_address, launch, linked, stop};
use crate::{Options, clock, say};

/// A JVM needs this long to compile what runs often.
pub const JVM_WARM_UP: Duration = Duration::from_secs(60);
/// How long a broker may take to serve a new topic.
const READY_MAX: Duration = Duration::from_secs(60);
/// The peer, as the results name it.
pub const PEER: &str = "Apache Kafka 4.1.0, KRaft, 1 GiB heap, 60 s warm-up";

/// What an acknowledgement means, on both sides alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// Ours syncs before it acknowledges; Kafka's topic has `flush.messages=1`.
    AfterSync,
    /// Ours runs with `--durability buffered`; Kafka with its defaults.
    FromCache,
}

impl Acknowledge {
    pub const fn durability(self) -> &'static str {
        match self {
            Self::AfterSync => "synced",
            Self::FromCache => "buffered",
        }
    }

    pub const fn peer_topic(self) -> &'static str {
        match self {
            Self::AfterSync => "flush.messages=1",
            Self::FromCache => "defaults",
        }
    }

    fn topic_config(self) -> Vec<(String, String)> {
        match self {
            Self::AfterSync => vec![("flush.messages".to_owned(), "1".to_owned())],
            Self::FromCache => Vec::new(),
        }
    }
}

/// Where Kafka is and how it is started; `None`, said aloud, when something it needs is missing.
pub fn kafka_script(options: &Options, id: &str) -> anyhow::Result<Option<Kafka>> {
    let Some(cache) = options.kafka.clone() else {
        say::line(&format!("not run: {id}, no folder for Kafka was given"));
        return Ok(None);
    };
    let script = options.folder.join("peers").join("kafka.sh");
    let installed = Command::new(&script).arg("install").arg(&cache).output().context("cannot run kafka.sh")?;
    if !installed.status.success() {
        say::line(&format!("{} ({id})", String::from_utf8_lossy(&installed.stdout).trim()));
        return Ok(None);
    }
    Ok(Some(Kafka { script, cache }))
}

/// An installed Kafka.
#[derive(Debug, Clone)]
pub struct Kafka {
    script: std::path::PathBuf,
    cache: std::path::PathBuf,
}

/// A running broker.
#[derive(Debug)]
pub struct Node {
    child: Child,
    pub address: SocketAddr,
    /// Whether topics get Kafka's own settings.
    kafka: bool,
    mode: Acknowledge,
    /// Removed with the broker, unless somebody took it.
    folder: Option<TempDir>,
}

impl Node {
    /// Ours, from the release binary.
    pub fn ours(options: &Options, mode: Acknowledge) -> anyhow::Result<Self> {
        Self::ours_in(options, mode, tempfile::Builder::new().prefix("sf-bench-").tempdir()?)
    }

    /// Ours, on a data folder that exists already.
    pub fn ours_in(options: &Options, mode: Acknowledge, folder: TempDir) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut child = linked(&options.program)
            .args(["broker", "--durability", mode.durability(), "--listen", &address.to_string()])
            .args(["--registry-listen", &free_address()?.to_string(), "--data-dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        launch(&mut child)?;
        Ok(Self { child, address, kafka: false, mode, folder: Some(folder) })
    }

    /// Apache Kafka.
    pub fn kafka(kafka: &Kafka, mode: Acknowledge) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sf-bench-").tempdir()?;
        let (address, controller) = (free_address()?, free_address()?);
        let child = Command::new(&kafka.script)
            .arg("run")
            .arg(&kafka.cache)
            .arg(folder.path())
            .args([address.port().to_string(), controller.port().to_string()])
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self { child, address, kafka: true, mode, folder: Some(folder) })
    }

    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn data_dir(&self) -> &Path {
        self.folder.as_ref().expect("there until the end of the node").path()
    }

    pub fn settings(&self) -> Settings {
        Settings::new(&self.bootstrap(), "bench")
    }

    /// Makes a topic and waits until every partition of it is served.
    pub fn topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> anyhow::Result<()> {
        let settings = self.settings();
        let mut config: Vec<_> = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        if self.kafka {
            config.extend(self.mode.topic_config());
        }
        let plan = admin::TopicPlan { name: name.to_owned(), partitions, config };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let made = clock::wait_until(READY_MAX, Duration::from_millis(200), || {
            runtime.block_on(admin::create_topics(&settings, std::slice::from_ref(&plan))).is_ok()
        });
        if !made {
            let log = fs::read_to_string(self.data_dir().join("output.log")).unwrap_or_default();
            bail!("no broker at {}: {}", self.bootstrap(), log.lines().last().unwrap_or_default());
        }
        // a partition is announced before its leader answers for it
        let ends = Consumer::open(&settings, "bench")?;
        if !clock::wait_until(READY_MAX, Duration::from_millis(200), || ends.ends(&[(name, partitions)]).is_ok()) {
            bail!("the broker at {} does not serve its new topic", self.bootstrap());
        }
        Ok(())
    }

    /// Ends the broker as kill -9 does and keeps its folder.
    pub fn kill(mut self) -> TempDir {
        if self.child.kill().and_then(|()| self.child.wait()).is_err() {
            say::progress("a broker had ended by itself");
        }
        self.folder.take().expect("taken only here, and this is the end of the node")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            stop(&mut self.child);
        }
    }
}

/// True when the broker answers a request; that it accepts a connection says nothing, the kernel does that.
pub fn answers(address: SocketAddr) -> bool {
    // ApiVersions, version 0, correlation id 1, no client id
    const REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let ask = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(READY_MAX))?;
        stream.write_all(&REQUEST)?;
        stream.read_exact(&mut [0; 8])
    };
    ask().is_ok()
}

/// Records in a topic, by the ends of its partitions.
pub fn records(ends: &Consumer, topic: &str, partitions: i32) -> anyhow::Result<u64> {
    let ends = ends.ends(&[(topic, partitions)])?;
    Ok(ends.iter().map(|end| u64::try_from(end.offset).unwrap_or_default()).sum())
}
