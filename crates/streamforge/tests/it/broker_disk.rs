//! The broker on disks that fail for real: an fsync error injected into the running process (F9), a small ext4 of its own
//! that fills up and is then remounted read-only (F10, F12). Needs `strace`, or root and a loop device; says so where
//! there is none.

#![expect(clippy::unwrap_used, reason = "also in the helpers of the tests a panic is the report")]

use std::collections::BTreeSet;
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
    for number in numbers {
        let text = format!("{number} {}", "x".repeat(1_000));
        let record =
            BaseRecord::<str, str, Box<u64>>::with_opaque_to(TOPIC, Box::new(number)).partition(0).payload(&text);
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

/// A file system in a file, mounted; unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn ext4(folder: &Path, mebibytes: u64) -> Result<Self, String> {
        let (image, point) = (folder.join("image"), folder.join("disk"));
        std::fs::create_dir(&point).map_err(|error| error.to_string())?;
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(mebibytes * 1024 * 1024).map_err(|error| error.to_string())?;
        let text = |path: &Path| path.to_str().expect("a path of ours").to_owned();
        succeeds("mkfs.ext4", &["-q", "-F", "-m", "0", &text(&image)])?;
        succeeds("mount", &["-o", "loop", &text(&image), &text(&point)])?;
        Ok(Self(point))
    }

    fn remount(&self, how: &str) {
        let point = self.0.to_str().expect("a path of ours");
        succeeds("mount", &["-o", &format!("remount,{how}"), point]).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(succeeds("umount", &["-l", self.0.to_str().expect("a path of ours")]));
    }
}

// STR-06, F10, F12
#[test]
fn a_full_and_then_read_only_ext4_loses_nothing_that_was_acknowledged() {
    const WHAT: &str = "full and read-only ext4 on a loop device";
    if let Err(why) = external() {
        return not_run(WHAT, &why);
    }
    let folder = tempfile::Builder::new().prefix("sf-loop-").tempdir().unwrap();
    let mount = match Mount::ext4(folder.path(), 24) {
        Ok(mount) => mount,
        Err(why) => return not_run(WHAT, &why),
    };
    let mut broker = Broker::start_in(&mount.0);
    let set = ["--set", "segment.bytes=1048576"];
    broker.ctl(&[&["topics", "create", TOPIC, "--partitions", "1"][..], &set, &["--execute"]].concat()).lines();
    let answers = Arc::new(Answers::default());
    let producer = producer(&broker, &answers);
    let mut number = 0;
    while *answers.refused.lock().unwrap() == 0 {
        assert!(number < 60_000, "more was taken than the disk has room for");
        send(&producer, number..number + 1_000);
        number += 1_000;
    }
    let acknowledged = answers.acknowledged.lock().unwrap().clone();
    assert!(acknowledged.is_subset(&stored(&broker)), "what was acknowledged can be read on a full disk");

    // Room again: producers go on by themselves.
    let consumer: BaseConsumer = client(&broker).set("group.id", "none").create().unwrap();
    let (_, end) = consumer.fetch_watermarks(TOPIC, 0, PATIENCE).unwrap();
    broker.ctl(&["topics", "alter", TOPIC, "--set", "retention.bytes=4194304", "--execute"]).lines();
    wait_for("retention makes room", Duration::from_secs(60), || {
        let (start, _) = consumer.fetch_watermarks(TOPIC, 0, PATIENCE).unwrap();
        if start > end / 2 { Ok(()) } else { Err(format!("the log starts at {start} of {end}")) }
    });
    let before = answers.acknowledged.lock().unwrap().len();
    wait_for("records are taken again", PATIENCE, || {
        send(&producer, number..number + 1);
        number += 1;
        let now = answers.acknowledged.lock().unwrap().len();
        if now > before { Ok(()) } else { Err("none is".to_owned()) }
    });

    // A disk that turns read-only: nothing is acknowledged, and afterwards everything is there.
    let acknowledged = answers.acknowledged.lock().unwrap().clone();
    broker.kill();
    mount.remount("ro");
    broker.spawn();
    assert!(!broker.ended().success(), "a broker does not serve on a disk it cannot write to");
    mount.remount("rw");
    broker.start_again();
    let stored = stored(&broker);
    let kept: BTreeSet<u64> = acknowledged.range(stored.first().copied().unwrap()..).copied().collect();
    assert!(kept.is_subset(&stored));
    broker.stop();
}
