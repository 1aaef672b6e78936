//! A broker in this process on free ports and a folder of its own, and librdkafka clients for it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Handle, Settings};
use commitlog::{RealVfs, Vfs};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::Instant;

/// Longest wait of a test for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct TestBroker {
    handle: Option<Handle>,
    pub(crate) settings: Settings,
    vfs: Arc<dyn Vfs>,
    dir: tempfile::TempDir,
}

impl TestBroker {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_on(Arc::new(RealVfs), change).await
    }

    /// A broker on a file system of the test's.
    pub(crate) async fn start_on(vfs: Arc<dyn Vfs>, change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::on_free_ports(dir.path());
        change(&mut settings);
        let handle = launch(settings.clone(), &vfs).await;
        Self { handle: Some(handle), settings, vfs, dir }
    }

    /// Ends without an orderly stop and starts again on what the disk has kept.
    pub(crate) async fn restart_on(&mut self, vfs: Arc<dyn Vfs>) {
        self.vfs = vfs;
        self.crash_and_restart().await;
    }

    /// The same on a disk that may fail before the broker serves; then there is none until the next try.
    pub(crate) async fn try_restart_on(&mut self, vfs: Arc<dyn Vfs>) -> Result<(), broker::Error> {
        self.vfs = vfs;
        if let Some(handle) = self.handle.take() {
            self.settings.listen = handle.kafka();
            self.settings.registry_listen = handle.registry();
        }
        tokio::task::yield_now().await;
        let context = daemon::Context::new("broker", "test");
        self.handle = Some(try_launch_in(&context, self.settings.clone(), &self.vfs).await?);
        Ok(())
    }

    /// A broker whose context, and so its metrics, the test looks at.
    pub(crate) async fn start_with_context(change: impl FnOnce(&mut Settings)) -> (Self, daemon::Context) {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::on_free_ports(dir.path());
        change(&mut settings);
        let context = daemon::Context::new("broker", "test");
        let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
        let handle = Broker::start_on(settings.clone(), &context, Arc::clone(&vfs)).await.unwrap();
        (Self { handle: Some(handle), settings, vfs, dir }, context)
    }

    /// Stops in order.
    pub(crate) async fn stop(&mut self) {
        self.handle.take().unwrap().stop().await;
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.handle.as_ref().unwrap()
    }

    pub(crate) fn address(&self) -> String {
        self.handle().kafka().to_string()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops in order and starts again on the same folder and the same ports.
    pub(crate) async fn restart(&mut self) {
        let handle = self.handle.take().unwrap();
        self.settings.listen = handle.kafka();
        self.settings.registry_listen = handle.registry();
        handle.stop().await;
        self.handle = Some(launch(self.settings.clone(), &self.vfs).await);
    }

    /// As [`TestBroker::restart`], in a context of the test's.
    pub(crate) async fn restart_in(&mut self, context: &daemon::Context) {
        let handle = self.handle.take().unwrap();
        self.settings.listen = handle.kafka();
        self.settings.registry_listen = handle.registry();
        handle.stop().await;
        self.handle = Some(launch_in(context, self.settings.clone(), &self.vfs).await);
    }

    /// Drops the broker without an orderly stop, as a crash would, and starts it again.
    pub(crate) async fn crash_and_restart(&mut self) {
        let handle = self.handle.take().unwrap();
        self.settings.listen = handle.kafka();
        self.settings.registry_listen = handle.registry();
        drop(handle);
        tokio::task::yield_now().await;
        self.handle = Some(launch(self.settings.clone(), &self.vfs).await);
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address()).set("broker.address.family", "v4");
        config
    }

    pub(crate) fn producer(&self, extra: &[(&str, &str)]) -> FutureProducer {
        let mut config = self.client();
        config.set("enable.idempotence", "true").set("linger.ms", "5").set("message.timeout.ms", "20000");
        for (name, value) in extra {
            config.set(*name, *value);
        }
        config.create().unwrap()
    }

    pub(crate) fn consumer(&self, extra: &[(&str, &str)]) -> BaseConsumer {
        let mut config = self.client();
        config.set("group.id", "none").set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
        for (name, value) in extra {
            config.set(*name, *value);
        }
        config.create().unwrap()
    }

    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    pub(crate) async fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (name, value) in config {
            topic = topic.set(name, value);
        }
        let results = self.admin().create_topics([&topic], &AdminOptions::new()).await.unwrap();
        assert_eq!(results, [Ok(name.to_owned())]);
    }

    /// Reads a partition from an offset on until `count` records are there.
    pub(crate) async fn read(&self, topic: &str, partition: i32, from: Offset, count: usize) -> Vec<Seen> {
        let consumer = self.consumer(&[]);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, from).unwrap();
        consumer.assign(&list).unwrap();
        tokio::task::spawn_blocking(move || take(&consumer, count)).await.unwrap()
    }
}

async fn launch(settings: Settings, vfs: &Arc<dyn Vfs>) -> Handle {
    launch_in(&daemon::Context::new("broker", "test"), settings, vfs).await
}

async fn launch_in(context: &daemon::Context, settings: Settings, vfs: &Arc<dyn Vfs>) -> Handle {
    try_launch_in(context, settings, vfs).await.unwrap()
}

async fn try_launch_in(
    context: &daemon::Context,
    settings: Settings,
    vfs: &Arc<dyn Vfs>,
) -> Result<Handle, broker::Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Broker::start_on(settings.clone(), context, Arc::clone(vfs)).await {
            // connections of the predecessor may hold the port for a moment
            Err(broker::Error::Listen { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            started => return started,
        }
    }
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: Option<i64>,
    pub(crate) payload: String,
}

/// Polls until `count` records were read.
pub(crate) fn take(consumer: &BaseConsumer, count: usize) -> Vec<Seen> {
    let deadline = Instant::now() + PATIENCE;
    let (mut seen, mut errors) = (Vec::new(), Vec::new());
    while seen.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records: {seen:?}, errors: {errors:?}", seen.len());
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => seen.push(Seen {
                partition: message.partition(),
                offset: message.offset(),
                timestamp: message.timestamp().to_millis(),
                payload: String::from_utf8(message.payload().unwrap_or_default().to_vec()).unwrap(),
            }),
            Some(Err(error)) => errors.push(error), // a broker that restarts is no failure by itself
            None => {}
        }
    }
    seen
}

/// Produces one record and waits for its acknowledge; returns its offset.
pub(crate) async fn produce(producer: &FutureProducer, topic: &str, partition: i32, payload: &str) -> i64 {
    let record: FutureRecord<'_, str, str> = FutureRecord::to(topic).partition(partition).payload(payload);
    producer.send(record, PATIENCE).await.unwrap().offset
}

/// Waits until `check` holds.
pub(crate) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Watermarks of all partitions of a topic.
pub(crate) fn ends(consumer: &BaseConsumer, topic: &str, partitions: i32) -> HashMap<i32, (i64, i64)> {
    (0..partitions).map(|index| (index, consumer.fetch_watermarks(topic, index, PATIENCE).unwrap())).collect()
}
