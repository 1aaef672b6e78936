//! The broker on disks that fail for real: an fsync error injected into the running process (F9), file systems that are
//! full (F10) and one that turns read-only under it. They need `strace` and the right to mount; where something is missing
//! they say so.

#![expect(clippy::unwrap_used, reason = "also in the helpers of the tests a panic is the report")]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::harness::{Broker, external, not_run, wait_for};

const TOPIC: &str = "disk";
const PATIENCE: Duration = Duration::from_secs(30);

/// Numbers of records that were acknowledged, and how many were refused.
#[derive(Debug, Default)]
struct Answers {
    acknowledged: Mutex<BTreeSet<u64>>,
    refused: Mutex<u64>,
}

/// What the producer reports to.
struct Context(Arc<Answers>);

impl rdkafka::ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        match result {
            Ok(_) => drop(self.0.acknowledged.lock().unwrap().insert(*number)),
            Err(_) => *self.0.refused.lock().unwrap() += 1,
        }
    }
}

fn client(broker: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.address("kafka")).set("broker.address.family", "v4");
    config
}

fn producer(broker: &Broker, answers: &Arc<Answers>) -> BaseProducer<Context> {
    let mut config = client(broker);
    config.set("message.timeout.ms", "2000").set("linger.ms", "1").set("reconnect.backoff.max.ms", "200");
    BaseProducer::from_config_and_context(&config, Context(Arc::clone(answers))).unwrap()
}

/// Sends records of 1 KB and waits until each is acknowledged or refused.
fn send(producer: &BaseProducer<Context>, numbers: std::ops::Range<u64>) {
    send_to(producer, TOPIC, numbers);
}

fn send_to(producer: &BaseProducer<Context>, topic: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let text = format!("{number} {}", "x".repeat(1_000));
        let record =
            BaseRecord::<str, str, Box<u64>>::with_opaque_to(topic, Box::new(number)).partition(0).payload(&text);
        assert!(producer.send(record).is_ok());
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE).unwrap();
}

/// Numbers of the records in the topic.
fn stored(broker: &Broker) -> BTreeSet<u64> {
    let consumer: BaseConsumer = client(broker).set("group.id", "reader").set("check.crcs", "true").create().unwrap();
    let (start, end) = consumer.fetch_watermarks(TOPIC, 0, PATIENCE).unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, 0, Offset::Offset(start)).unwrap();
    consumer.assign(&list).unwrap();
    let mut found = BTreeSet::new();
    let mut offset = start;
    while offset < end {
        let message = wait_for("a record", PATIENCE, || match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                Ok((message.offset(), String::from_utf8_lossy(message.payload().unwrap()).into_owned()))
            }
            other => Err(format!("{other:?} before {end}")),
        });
        offset = message.0 + 1;
        found.insert(message.1.split(' ').next().unwrap().parse().unwrap());
    }
    found
}

/// Runs a program to its end; what it complains about when it fails.
fn succeeds(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {complaint}")) }
}

/// `strace` that makes every fdatasync of a process fail; ends with it, or when dropped.
struct Injection(Child);

impl Injection {
    fn into(pid: u32, output: &Path) -> Result<Self, String> {
        let child = Command::new("strace")
            .args(["-f", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO", "-p", &pid.to_string(), "-o"])
            .arg(output)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.map_err(|error| format!("strace: {error}"))?;
        let traced = || std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let attached = || traced().lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"));
        for _ in 0..100 {
            if attached() {
                return Ok(Self(child));
            }
            if child.try_wait().ok().flatten().is_some() {
                return Err("strace: may not trace here".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(child.kill());
        drop(child.wait());
        Err("strace: does not attach".to_owned())
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

// STR-03, F9
#[test]
fn an_fsync_error_ends_the_broker_and_nothing_of_it_is_acknowledged() {
    const WHAT: &str = "fsync error injected by strace";
    if let Err(why) = external().and_then(|()| succeeds("strace", &["-V"])) {
        return not_run(WHAT, &why);
    }
    let mut broker = Broker::start();
    broker.ctl(&["topics", "create", TOPIC, "--partitions", "1", "--execute"]).lines();
    let answers = Arc::new(Answers::default());
    let producer = producer(&broker, &answers);
    send(&producer, 0..200);
    let before = answers.acknowledged.lock().unwrap().clone();
    assert_eq!(before.len(), 200);
    let injection = match Injection::into(broker.id(), &broker.folder().join("strace")) {
        Ok(injection) => injection,
        Err(why) => return not_run(WHAT, &why),
    };
    send(&producer, 200..260);
    let status = broker.ended();
    drop(injection);
    assert!(!status.success(), "{status}");
    assert_eq!(*answers.acknowledged.lock().unwrap(), before, "nothing was acknowledged after the error");
    broker.start_again();
    let stored = stored(&broker);
    assert!(before.is_subset(&stored), "{} of {} are there", stored.len(), before.len());
}

/// A file system of its own, gone when dropped.
struct Mount {
    folder: tempfile::TempDir,
}

impl Mount {
    fn tmpfs() -> Result<Self, String> {
        let mount = Self { folder: tempfile::tempdir().unwrap() };
        succeeds("mount", &["-t", "tmpfs", "-o", "size=24m", "tmpfs", &mount.point()])?;
        Ok(mount)
    }

    /// An image of 24 MB in a file.
    fn ext4() -> Result<Self, String> {
        let mount = Self { folder: tempfile::tempdir().unwrap() };
        let image = mount.image();
        std::fs::File::create(&image).and_then(|file| file.set_len(24 << 20)).unwrap();
        succeeds("mkfs.ext4", &["-q", &image])?;
        mount.attach()?;
        Ok(mount)
    }

    fn image(&self) -> String {
        self.folder.path().join("image").to_str().unwrap().to_owned()
    }

    fn point(&self) -> String {
        let point = self.folder.path().join("mounted");
        std::fs::create_dir_all(&point).unwrap();
        point.to_str().unwrap().to_owned()
    }

    fn attach(&self) -> Result<(), String> {
        succeeds("mount", &["-o", "loop", &self.image(), &self.point()])
    }

    fn data(&self) -> PathBuf {
        Path::new(&self.point()).join("data")
    }

    /// Takes all room but this many bytes; the file that takes it.
    fn fill(&self, left: u64) -> PathBuf {
        let path = Path::new(&self.point()).join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let chunk = vec![0; 64 * 1024];
        while file.write_all(&chunk).and_then(|()| file.sync_all()).is_ok() {}
        let taken = file.metadata().unwrap().len();
        file.set_len(taken - left).and_then(|()| file.sync_all()).unwrap();
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(succeeds("umount", &["--lazy", &self.point()]));
    }
}

/// Fills the file system under a working broker, makes room again, and kills it.
fn outlive_a_full_disk(mount: &Mount) {
    let mut broker = Broker::start_in(mount.data(), &["--reserve-bytes", "0"]);
    broker.ctl(&["topics", "create", TOPIC, "--partitions", "1", "--execute"]).lines();
    let answers = Arc::new(Answers::default());
    let producer = producer(&broker, &answers);
    send(&producer, 0..200);
    let filler = mount.fill(256 * 1024);
    send(&producer, 200..1_000);
    let refused = *answers.refused.lock().unwrap();
    assert!(refused > 0, "a full disk refuses: {}", broker.log());
    std::fs::remove_file(filler).unwrap();
    send(&producer, 1_000..1_100);
    let acknowledged = answers.acknowledged.lock().unwrap().clone();
    assert!((1_000..1_100).all(|number| acknowledged.contains(&number)), "room again: {}", broker.log());
    assert!(acknowledged.len() >= 300, "{} acknowledged", acknowledged.len());
    broker.kill();
    broker.start_again();
    let stored = stored(&broker);
    assert!(acknowledged.is_subset(&stored), "{} of {} are there", stored.len(), acknowledged.len());
    assert!(broker.stop().success());
}

// F10, STR-07
#[test]
fn a_full_tmpfs_refuses_and_loses_nothing() {
    match external().and_then(|()| Mount::tmpfs()) {
        Ok(mount) => outlive_a_full_disk(&mount),
        Err(why) => not_run("a full tmpfs", &why),
    }
}

// F10, STR-07
#[test]
fn a_full_ext4_refuses_and_loses_nothing() {
    match external().and_then(|()| Mount::ext4()) {
        Ok(mount) => outlive_a_full_disk(&mount),
        Err(why) => not_run("a full ext4", &why),
    }
}

// STR-06: alarms and the audit have the reserve to themselves
#[test]
fn alarms_are_taken_while_telemetry_is_refused() {
    let mount = match external().and_then(|()| Mount::tmpfs()) {
        Ok(mount) => mount,
        Err(why) => return not_run("alarms on a nearly full tmpfs", &why),
    };
    let mut broker = Broker::start_in(mount.data(), &["--reserve-bytes", "8388608"]);
    for topic in ["telemetry.raw", "alarms.clean", "audit"] {
        broker.ctl(&["topics", "create", topic, "--partitions", "1", "--execute"]).lines();
    }
    let answers = Arc::new(Answers::default());
    let producer = producer(&broker, &answers);
    send_to(&producer, "telemetry.raw", 0..50);
    let filler = mount.fill(4 << 20);
    let refused = || *answers.refused.lock().unwrap();
    let mut next = 50;
    wait_for("telemetry is refused", PATIENCE, || {
        send_to(&producer, "telemetry.raw", next..next + 1);
        next += 1;
        if refused() > 0 { Ok(()) } else { Err(format!("{next} were taken")) }
    });
    send_to(&producer, "alarms.clean", 1_000..1_100);
    send_to(&producer, "audit", 2_000..2_100);
    let before = refused();
    send_to(&producer, "telemetry.raw", 3_000..3_005);
    assert_eq!(refused(), before + 5, "telemetry is still refused: {}", broker.log());
    let acknowledged = answers.acknowledged.lock().unwrap().clone();
    assert!((1_000..1_100).chain(2_000..2_100).all(|number| acknowledged.contains(&number)), "{}", broker.log());
    std::fs::remove_file(filler).unwrap();
    wait_for("telemetry is taken again", PATIENCE, || {
        let before = answers.acknowledged.lock().unwrap().len();
        send_to(&producer, "telemetry.raw", 4_000..4_010);
        let taken = answers.acknowledged.lock().unwrap().len() - before;
        if taken > 0 { Ok(()) } else { Err("refused".to_owned()) }
    });
    assert!(broker.stop().success());
}

// F9, STR-03: what a kernel does to a file system whose disk fails
#[test]
fn an_ext4_that_turns_read_only_ends_the_broker_and_loses_nothing() {
    let mount = match external().and_then(|()| Mount::ext4()) {
        Ok(mount) => mount,
        Err(why) => return not_run("an ext4 that turns read-only", &why),
    };
    let mut broker = Broker::start_in(mount.data(), &["--reserve-bytes", "0"]);
    broker.ctl(&["topics", "create", TOPIC, "--partitions", "1", "--execute"]).lines();
    let answers = Arc::new(Answers::default());
    let producer = producer(&broker, &answers);
    send(&producer, 0..200);
    succeeds("mount", &["-o", "remount,abort", &mount.point()]).unwrap();
    send(&producer, 200..260);
    assert!(!broker.ended().success());
    let acknowledged = answers.acknowledged.lock().unwrap().clone();
    assert_eq!(acknowledged, (0..200).collect(), "{}", broker.log());
    succeeds("umount", &[&mount.point()]).unwrap();
    // 1: what was wrong has been mended
    drop(succeeds("e2fsck", &["-f", "-y", &mount.image()]));
    mount.attach().unwrap();
    broker.start_again();
    let stored = stored(&broker);
    assert!(acknowledged.is_subset(&stored), "{} of {} are there", stored.len(), acknowledged.len());
    assert!(broker.stop().success());
}
