//! Apache Kafka in the place of the embedded broker, when `SF_TEST_STREAM=kafka` says so, and our registry beside it.
//!
//! `scripts/test-external.sh` installs Kafka into the folder that `SF_KAFKA` names and runs the tests so.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{PROGRAM, free_address, signal, wait_for};

/// A JVM starts slowly on a machine that compiles or tests something else.
const PATIENCE: Duration = Duration::from_secs(120);

/// The folder of an installed Kafka, when the tests shall run against it.
pub(crate) fn kafka_folder() -> Option<PathBuf> {
    match std::env::var("SF_TEST_STREAM").as_deref() {
        Ok("kafka") => Some(std::env::var_os("SF_KAFKA").expect("SF_KAFKA names the folder of Kafka").into()),
        Ok("embedded") | Err(_) => None,
        Ok(other) => panic!("SF_TEST_STREAM={other} is neither kafka nor embedded"),
    }
}

/// One Kafka broker and a schema registry; both end on drop.
#[derive(Debug)]
pub(crate) struct Cluster {
    children: Vec<Child>,
}

impl Cluster {
    /// Starts both in `root` and waits until they answer.
    pub(crate) fn start(folder: &Path, root: &Path, kafka: SocketAddr, registry: SocketAddr) -> Self {
        Self::start_with(folder, root, [kafka, free_address(), registry], &[])
    }

    /// With more for Kafka: a file of settings, then options for formatting its disk.
    pub(crate) fn start_with(folder: &Path, root: &Path, addresses: [SocketAddr; 3], more: &[String]) -> Self {
        let [kafka, controller, registry] = addresses;
        let broker = Command::new("../../bench/peers/kafka.sh")
            .arg("run")
            .arg(folder)
            .arg(root.join("kafka"))
            .args([kafka.port().to_string(), controller.port().to_string()])
            .args(more)
            .stdin(Stdio::null())
            .spawn()
            .expect("Kafka starts");
        let schemas = Command::new(PROGRAM)
            .args(["broker", "--listen", &free_address().to_string(), "--registry-listen", &registry.to_string()])
            .arg("--data-dir")
            .arg(root.join("registry"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the registry starts");
        let cluster = Self { children: vec![broker, schemas] };
        wait_for("the registry answers", PATIENCE, || super::get(&registry.to_string(), "/subjects"));
        wait_for("Kafka listens", PATIENCE, || std::net::TcpStream::connect(kafka).map_err(|error| error.to_string()));
        cluster
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.children {
            if matches!(child.try_wait(), Ok(None)) {
                signal(child.id(), "KILL");
            }
            drop(child.wait());
        }
    }
}
