//! The topics of this broker: what exists, under which name and id, and where it lies on disk.
//!
//! `<data>/topics/<topic>/topic.state` says id, partitions and settings; it is written last when a topic is created and
//! is what makes the topic exist. `<data>/topics/<topic>/<partition>/` are the logs. A deleted topic is renamed into
//! `<data>/trash/` before its files go, so a crash in between leaves no half topic.
//! Invariants: a [`Topic`] never changes, changes make a new one; changes are made one at a time under `admin`.
//! Look next at `topic_config.rs` for the settings and `partition.rs` for a partition.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use commitlog::{Clock, Log, Vfs, state_file};
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Error;
use crate::limits::{PARTITIONS_MAX, TOPIC_PARTITIONS_MAX, TOPICS_MAX};
use crate::partition::Partition;
use crate::random;
use crate::topic_config::TopicConfig;

/// Group offsets; written by the broker alone.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Schemas in the usual record form; written by the registry alone.
pub(crate) const SCHEMAS_TOPIC: &str = "_schemas";
/// States of transactional ids; written by the coordinator alone.
pub(crate) const TRANSACTIONS_TOPIC: &str = "__transaction_state";
/// Name of a topic's state file.
pub(crate) const STATE: &str = "topic.state";

/// A topic as it is now.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: StrBytes,
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<Arc<Partition>>,
    pub(crate) config: TopicConfig,
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        usize::try_from(index).ok().and_then(|index| self.partitions.get(index))
    }

    /// Clients may read but not write it.
    pub(crate) fn internal(&self) -> bool {
        is_internal(&self.name)
    }

    pub(crate) fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.log.size_bytes()).sum()
    }
}

pub(crate) fn is_internal(name: &str) -> bool {
    [OFFSETS_TOPIC, SCHEMAS_TOPIC, TRANSACTIONS_TOPIC].contains(&name)
}

/// Why a topic could not be created, changed or deleted: the protocol's code and a sentence for its caller.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub(crate) code: ResponseError,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: ResponseError, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Threads that close logs: each log is a wait or two for the disk, and a disk serves many waits at once.
const CLOSE_THREADS: usize = 16;

/// Contents of a topic's state file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    version: u32,
    id: Uuid128,
    pub(crate) partitions: i32,
    config: BTreeMap<String, String>,
}

/// A topic id as 32 hexadecimal digits.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Uuid128(String);

impl Uuid128 {
    fn parse(&self) -> Option<Uuid> {
        u128::from_str_radix(&self.0, 16).ok().map(Uuid::from_u128).filter(|id| !id.is_nil())
    }
}

#[derive(Debug, Default)]
struct Index {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

/// All topics.
#[derive(Debug)]
pub(crate) struct Topics {
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    trash: PathBuf,
    index: RwLock<Index>,
    /// Goes up whenever a topic comes, changes or goes.
    generation: AtomicU64,
    admin: Mutex<()>,
}

impl Topics {
    /// Opens every topic below `data_dir`; recovery of the logs happens here.
    pub(crate) fn open(data_dir: &Path, vfs: Arc<dyn Vfs>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let (dir, trash) = (data_dir.join("topics"), data_dir.join("trash"));
        for path in [&dir, &trash] {
            let create = vfs.create_dir_all(path).and_then(|()| vfs.sync_dir(data_dir));
            create.map_err(|source| Error::Folder { action: "create", path: path.clone(), source })?;
        }
        let topics = Self {
            vfs,
            clock,
            dir,
            trash,
            index: RwLock::default(),
            generation: AtomicU64::new(1),
            admin: Mutex::new(()),
        };
        topics.empty_trash();
        let names = topics.vfs.list(&topics.dir);
        for name in names.map_err(|source| Error::Folder { action: "list", path: topics.dir.clone(), source })? {
            if let Some(topic) = topics.open_one(&name)? {
                topics.publish(topic);
            }
        }
        Ok(topics)
    }

    fn open_one(&self, name: &str) -> Result<Option<Topic>, Error> {
        let path = self.dir.join(name).join(STATE);
        let read = state_file::read(&*self.vfs, &path);
        let read = read.map_err(|source| Error::State { action: "read", path: path.clone(), source })?;
        let state = match read {
            Some((bytes, _)) => {
                serde_json::from_slice(&bytes).map_err(|source| Error::StateContent { path: path.clone(), source })?
            }
            None => match self.adopt(name)? {
                Some(state) => state,
                None => return Ok(None),
            },
        };
        let given = state.config.iter().map(|(name, value)| (name.as_str(), Some(value.as_str())));
        let config = TopicConfig::parse(given).unwrap_or_else(|error| {
            tracing::warn!(topic = name, %error, "a stored topic setting is no longer known, the defaults are used");
            TopicConfig::default()
        });
        let id = state.id.parse().unwrap_or_else(random::topic_id);
        let mut partitions = Vec::new();
        for index in 0..state.partitions {
            partitions.push(self.open_partition(name, index, &config)?);
        }
        Ok(Some(Topic { name: StrBytes::from_string(name.to_owned()), id, partitions, config }))
    }

    /// A folder without a state file: a creation that a crash cut short, or a lost state file over good logs. The first
    /// has no records and is cleared away; the second is served with default settings, and said.
    fn adopt(&self, name: &str) -> Result<Option<State>, Error> {
        let path = self.dir.join(name);
        let mut count = 0;
        let mut records = false;
        while self.vfs.exists(&path.join(count.to_string())).unwrap_or(false) {
            let partition = self.open_partition(name, count, &TopicConfig::default())?;
            records |= partition.log.end_offset() > 0;
            drop(partition.log.close());
            count += 1;
        }
        if !records {
            tracing::info!(topic = name, "the creation of this topic was cut short, its empty folder is removed");
            self.discard(name);
            return Ok(None);
        }
        let id = Uuid128(format!("{:032x}", random::topic_id().as_u128()));
        let state = State { version: 1, id, partitions: count, config: BTreeMap::new() };
        self.write_state(name, &state).map_err(|source| Error::State { action: "write", path, source })?;
        tracing::error!(
            topic = name,
            partitions = count,
            "the state file of this topic is lost; its records are served with default settings, check retention"
        );
        Ok(Some(state))
    }

    fn open_partition(&self, topic: &str, index: i32, config: &TopicConfig) -> Result<Arc<Partition>, Error> {
        let dir = self.dir.join(topic).join(index.to_string());
        let opened = Log::open(Arc::clone(&self.vfs), Arc::clone(&self.clock), &dir, config.log_options());
        let (log, recovery) =
            opened.map_err(|source| Error::Partition { topic: topic.to_owned(), partition: index, source })?;
        for damage in &recovery.damages {
            tracing::error!(topic, partition = index, ?damage, "damaged records were set aside");
        }
        if let Some(cut) = &recovery.cut {
            tracing::warn!(topic, partition = index, ?cut, "an unfinished write at the end of the log was cut off");
        }
        Ok(Partition::new(index, log))
    }

    fn publish(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.by_id.insert(topic.id, Arc::clone(&topic));
        index.by_name.insert(topic.name.to_string(), Arc::clone(&topic));
        self.generation.fetch_add(1, Ordering::Release);
        topic
    }

    /// Changes whenever a topic comes, goes or becomes another.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name).map(Arc::clone)
    }

    pub(crate) fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).map(Arc::clone)
    }

    /// All topics, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).by_name.values().map(Arc::clone).collect()
    }

    /// Checks what [`Topics::create`] would check, and does nothing.
    pub(crate) fn may_create(&self, name: &str, partitions: i32) -> Result<(), Refusal> {
        check_name(name)?;
        if self.get(name).is_some() {
            return Err(Refusal::new(ResponseError::TopicAlreadyExists, format!("topic {name} exists already")));
        }
        if !(1..=TOPIC_PARTITIONS_MAX).contains(&partitions) {
            let message = format!("a topic has 1 to {TOPIC_PARTITIONS_MAX} partitions");
            return Err(Refusal::new(ResponseError::InvalidPartitions, message));
        }
        let all = self.all();
        if all.len() >= TOPICS_MAX {
            return Err(Refusal::new(ResponseError::PolicyViolation, format!("there are {TOPICS_MAX} topics already")));
        }
        self.may_add_partitions(partitions)
    }

    fn may_add_partitions(&self, more: i32) -> Result<(), Refusal> {
        let have: usize = self.all().iter().map(|topic| topic.partitions.len()).sum();
        if have + usize::try_from(more).unwrap_or(usize::MAX / 2) > PARTITIONS_MAX {
            let message = format!("there would be more than {PARTITIONS_MAX} partitions");
            return Err(Refusal::new(ResponseError::PolicyViolation, message));
        }
        Ok(())
    }

    /// Creates a topic; when it returns, the topic survives a power cut.
    pub(crate) fn create(&self, name: &str, partitions: i32, config: TopicConfig) -> Result<Arc<Topic>, Refusal> {
        let _one_at_a_time = self.admin.lock().unwrap_or_else(PoisonError::into_inner);
        self.may_create(name, partitions)?;
        let id = random::topic_id();
        let opened = self.create_files(name, id, partitions, &config);
        let partitions = opened.map_err(|error| {
            self.discard(name);
            storage_refusal("create", name, &error)
        })?;
        Ok(self.publish(Topic { name: StrBytes::from_string(name.to_owned()), id, partitions, config }))
    }

    fn create_files(
        &self,
        name: &str,
        id: Uuid,
        partitions: i32,
        config: &TopicConfig,
    ) -> Result<Vec<Arc<Partition>>, Error> {
        let path = self.dir.join(name);
        let folder = |source| Error::Folder { action: "create", path: path.clone(), source };
        self.vfs.create_dir_all(&path).map_err(folder)?;
        let mut opened = Vec::new();
        for index in 0..partitions {
            opened.push(self.open_partition(name, index, config)?);
        }
        let id = Uuid128(format!("{:032x}", id.as_u128()));
        let state = State { version: 1, id, partitions, config: config.given().clone() };
        let written = self.write_state(name, &state).and_then(|()| self.vfs.sync_dir(&self.dir));
        written.map_err(|source| Error::State { action: "write", path: path.join(STATE), source })?;
        Ok(opened)
    }

    fn write_state(&self, name: &str, state: &State) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(state)?;
        state_file::write(&*self.vfs, &self.dir.join(name).join(STATE), &bytes)
    }

    /// Replaces the settings of a topic.
    pub(crate) fn configure(
        &self,
        name: &str,
        change: impl FnOnce(&TopicConfig) -> Result<TopicConfig, Refusal>,
        dry_run: bool,
    ) -> Result<(), Refusal> {
        let _one_at_a_time = self.admin.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = self.get(name).ok_or_else(|| unknown(name))?;
        let config = change(&topic.config)?;
        if dry_run {
            return Ok(());
        }
        self.rewrite(&topic, topic.partitions.clone(), config)
    }

    /// Adds partitions up to `count` in all.
    pub(crate) fn grow(&self, name: &str, count: i32, dry_run: bool) -> Result<(), Refusal> {
        let _one_at_a_time = self.admin.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = self.get(name).ok_or_else(|| unknown(name))?;
        let have = topic.partition_count();
        if topic.internal() || count <= have || count > TOPIC_PARTITIONS_MAX {
            let message = format!("topic {name} has {have} partitions, {count} cannot be had");
            return Err(Refusal::new(ResponseError::InvalidPartitions, message));
        }
        self.may_add_partitions(count - have)?;
        if dry_run {
            return Ok(());
        }
        let mut partitions = topic.partitions.clone();
        for index in have..count {
            let opened = self.open_partition(name, index, &topic.config);
            partitions.push(opened.map_err(|error| storage_refusal("grow", name, &error))?);
        }
        self.rewrite(&topic, partitions, topic.config.clone())
    }

    fn rewrite(&self, topic: &Topic, partitions: Vec<Arc<Partition>>, config: TopicConfig) -> Result<(), Refusal> {
        let state = State {
            version: 1,
            id: Uuid128(format!("{:032x}", topic.id.as_u128())),
            partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
            config: config.given().clone(),
        };
        let path = self.dir.join(&*topic.name).join(STATE);
        self.write_state(&topic.name, &state).map_err(|source| {
            storage_refusal("change", &topic.name, &Error::State { action: "write", path, source })
        })?;
        for partition in &partitions {
            partition.log.set_options(config.log_options());
        }
        self.publish(Topic { name: topic.name.clone(), id: topic.id, partitions, config });
        Ok(())
    }

    /// Deletes a topic. Its files go at once where the disk allows it, else at the next start.
    pub(crate) fn delete(&self, name: &str) -> Result<(), Refusal> {
        let _one_at_a_time = self.admin.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = self.get(name).ok_or_else(|| unknown(name))?;
        if topic.internal() {
            let message = format!("{name} is the broker's own");
            return Err(Refusal::new(ResponseError::InvalidTopicException, message));
        }
        let target = self.trash.join(format!("{:032x}", topic.id.as_u128()));
        let moved = self.vfs.rename(&self.dir.join(name), &target).and_then(|()| self.vfs.sync_dir(&self.dir));
        moved.map_err(|source| {
            storage_refusal("delete", name, &Error::Folder { action: "rename", path: self.dir.join(name), source })
        })?;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.by_name.remove(name);
        index.by_id.remove(&topic.id);
        self.generation.fetch_add(1, Ordering::Release);
        drop(index);
        for partition in &topic.partitions {
            partition.log.abandon();
            partition.waiters.wake();
        }
        self.empty_trash();
        Ok(())
    }

    /// Moves a topic's folder to the trash and empties that; for a creation that failed.
    fn discard(&self, name: &str) {
        let target = self.trash.join(format!("{:032x}", random::topic_id().as_u128()));
        match self.vfs.rename(&self.dir.join(name), &target) {
            Ok(()) => self.empty_trash(),
            Err(error) => tracing::warn!(topic = name, %error, "cannot clear the folder of a topic away"),
        }
    }

    fn empty_trash(&self) {
        for name in self.vfs.list(&self.trash).unwrap_or_default() {
            if let Err(error) = self.remove_tree(&self.trash.join(&name)) {
                tracing::warn!(folder = %name, %error, "cannot empty the trash, the next start tries again");
            }
        }
    }

    /// Removes a topic's folder in the trash: its partitions' files, the folders, the state file.
    fn remove_tree(&self, path: &Path) -> std::io::Result<()> {
        for name in self.vfs.list(path)? {
            let child = path.join(&name);
            if name.parse::<i32>().is_ok() {
                commitlog::remove_dir(&*self.vfs, &child).map_err(std::io::Error::other)?;
            } else {
                self.vfs.remove(&child)?;
            }
        }
        self.vfs.remove_dir(path)
    }

    /// Closes all logs so that the next start has nothing to scan.
    pub(crate) fn close(&self) {
        let topics = self.all();
        let partitions: Vec<(&StrBytes, &Arc<Partition>)> =
            topics.iter().flat_map(|topic| topic.partitions.iter().map(|partition| (&topic.name, partition))).collect();
        let next = AtomicUsize::new(0);
        let close_in_turn = || {
            while let Some((topic, partition)) = partitions.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = partition.log.close() {
                    let error = daemon::report(&error);
                    tracing::warn!(%topic, partition = partition.index, %error, "cannot close a log");
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..CLOSE_THREADS.min(partitions.len()) {
                scope.spawn(close_in_turn);
            }
            close_in_turn();
        });
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(ResponseError::UnknownTopicOrPartition, format!("there is no topic {name}"))
}

fn storage_refusal(action: &str, name: &str, error: &Error) -> Refusal {
    let error = daemon::report(error);
    tracing::error!(topic = name, %error, "cannot {action} a topic");
    Refusal::new(ResponseError::KafkaStorageError, format!("the disk refused to {action} topic {name}"))
}

/// Kafka's rule: 1 to 249 of `[a-zA-Z0-9._-]`, and neither `.` nor `..`.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.bytes().all(legal) {
        let message = "a topic name has 1 to 249 of the characters a-z A-Z 0-9 . _ -";
        return Err(Refusal::new(ResponseError::InvalidTopicException, message));
    }
    Ok(())
}
