//! A gateway before it runs: its folder, its ports and its document.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use model::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};

use super::{Cluster, Gateway, PROGRAM, kafka_folder, signal, wait_for};

/// An address of loopback that nobody listens on.
///
/// The port lies below the range the system gives to outgoing connections, so that none of those takes it while a
/// killed process is about to come back.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    let own_start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("below the count") / 100 * 100;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (own_start + step) % COUNT;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}

/// Where a gateway lives and what it shall run.
#[derive(Debug)]
pub(crate) struct Setup {
    /// In external mode, from the first start of the gateway on.
    cluster: OnceLock<Cluster>,
    folder: Option<tempfile::TempDir>,
    root: PathBuf,
    pub(crate) console: SocketAddr,
    pub(crate) kafka: SocketAddr,
    pub(crate) registry: SocketAddr,
    pub(crate) document: Value,
}

impl Setup {
    /// A gateway without adapters and sinks.
    pub(crate) fn new(gateway_id: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("sf-e2e-").tempdir().expect("a temporary folder");
        let root = folder.path().to_owned();
        let (console, kafka, registry) = (free_address(), free_address(), free_address());
        let stream = if kafka_folder().is_some() {
            json!({ "mode": "external", "bootstrap": kafka, "registry_url": format!("http://{registry}") })
        } else {
            json!({ "mode": "embedded", "listen": kafka, "registry_listen": registry })
        };
        let document = json!({
            "version": 1,
            "gateway_id": gateway_id,
            "console": { "listen": console },
            "stream": stream,
            "adapters": [],
            "sinks": [],
        });
        Self { cluster: OnceLock::new(), folder: Some(folder), root, console, kafka, registry, document }
    }

    /// True when the gateway has a broker of its own.
    pub(crate) fn is_embedded(&self) -> bool {
        self.document["stream"]["mode"] == "embedded"
    }

    /// Puts a value under a key of the document.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.document[key] = value.into();
        self
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn document_file(&self) -> PathBuf {
        self.root.join("gateway.json")
    }

    /// Writes the document as a person's editor does: a new file in the place of the old one.
    pub(crate) fn write(&self) {
        self.write_text(&serde_json::to_string_pretty(&self.document).expect("JSON"));
    }

    /// Writes any text as the document.
    pub(crate) fn write_text(&self, text: &str) {
        let new = self.root.join("gateway.json.new");
        std::fs::write(&new, text).expect("the document is written");
        std::fs::rename(&new, self.document_file()).expect("the document is put in place");
    }

    /// Writes the document and starts the gateway; in external mode the cluster first, once.
    pub(crate) fn start(&self) -> Gateway {
        if let Some(folder) = kafka_folder().filter(|_| !self.is_embedded()) {
            self.cluster.get_or_init(|| Cluster::start(&folder, &self.root, self.kafka, self.registry));
        }
        self.write();
        Gateway::start(self)
    }

    /// The same at another time of day, from which the gateway's clock goes on.
    pub(crate) fn start_at(&self, time: Timestamp) -> Gateway {
        self.write();
        let mut command = Command::new(PROGRAM);
        command.arg("gateway").arg("--config").arg(self.document_file()).arg("--data-dir").arg(self.data());
        let ahead_s = time.micros_since(SystemClock.now()) / 1_000_000;
        command.env("SF_TEST_CLOCK_AHEAD_S", ahead_s.to_string());
        Gateway::start_as(command, self)
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if (std::thread::panicking() || std::env::var_os("SF_KEEP").is_some())
            && let Some(folder) = self.folder.take()
        {
            super::say(&format!("the folder stays: {}", folder.keep().display()));
        }
    }
}

/// `streamforge sim modbus` as a process of its own.
#[derive(Debug)]
pub(crate) struct Simulator {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Simulator {
    /// Starts the demo plant and waits until it answers.
    pub(crate) fn start() -> Self {
        let address = free_address();
        let child = Command::new(PROGRAM)
            .args(["sim", "modbus", "--listen", &address.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the simulator starts");
        let simulator = Self { child, address };
        wait_for("the simulator listens", Duration::from_secs(20), || {
            std::net::TcpStream::connect(address).map_err(|error| error.to_string())
        });
        simulator
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.child.id(), "KILL");
        }
        drop(self.child.wait());
    }
}
