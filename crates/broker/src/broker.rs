//! Starting, running and stopping the broker.
//!
//! Order on start: lock, logs, offsets, schemas, transactions, then the listeners, so that nobody is served before
//! recovery is done.
//! Order on stop: listeners and connections, housekeeping, then the logs are closed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use commitlog::{Flusher, RealVfs, Vfs, state_file};
use daemon::clock::Watch;
use kafka_protocol::protocol::StrBytes;
use model::Health;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::access::components::Given;
use crate::access::listener::Endpoint;
use crate::commit::{Committer, Failure};
use crate::coordinator::consumer::Timing;
use crate::coordinator::{Groups, Offsets};
use crate::core::Core;
use crate::disk::DiskGuard;
use crate::fetch_sessions::FetchSessions;
use crate::limits::PASSWORD_CHECKS_MAX;
use crate::lock::{self, FolderLock};
use crate::metrics::{Metrics, TopicLabel};
use crate::places::Places;
use crate::producer_ids::ProducerIds;
use crate::registry::{self, Registry};
use crate::scrape::Scrape;
use crate::server::House;
use crate::settings::{Durability, Settings};
use crate::topic_config::TopicConfig;
use crate::topics::{OFFSETS_TOPIC, SCHEMAS_TOPIC, TRANSACTIONS_TOPIC, Topic, Topics};
use crate::transactions::{self, Transactions};
use crate::{Error, compaction, random, server};

/// Threads that sync logs: more help when many partitions are dirty at once, until the disk's queue is full.
const FLUSH_THREADS: usize = 4;
/// How often members' deadlines are looked at.
const GROUP_TICK: Duration = Duration::from_millis(100);
/// How often retention, disk room and the rewriting of offsets are looked at.
const HOUSEKEEPING_TICK: Duration = Duration::from_secs(1);
/// Housekeeping ticks between two rounds of retention and two looks at topic sizes.
const RETENTION_TICKS: u32 = 30;
/// Pause after each segment that retention unlinks: 500 a second are more than any disk here fills, and the journal of the
/// file system has room for the syncs of producers in between.
const UNLINK_PAUSE: Duration = Duration::from_millis(2);
/// File in the data folder that says where this broker can be reached.
const ADDRESS_FILE: &str = "broker.addr";

/// The model's clock, read by the log in milliseconds.
#[derive(Debug)]
struct LogClock(Arc<dyn model::Clock>);

impl commitlog::Clock for LogClock {
    fn now_ms(&self) -> i64 {
        self.0.now().as_millis()
    }
}

/// Starts brokers.
#[derive(Debug)]
pub struct Broker;

impl Broker {
    /// Starts a broker on the disk.
    pub async fn start(settings: Settings, ctx: &daemon::Context) -> Result<Handle, Error> {
        Self::start_on(settings, ctx, Arc::new(RealVfs)).await
    }

    /// Starts a broker on a file system of the caller's; the lock and the address file are on the disk all the same.
    ///
    /// When this returns, both listeners accept connections.
    pub async fn start_on(settings: Settings, ctx: &daemon::Context, vfs: Arc<dyn Vfs>) -> Result<Handle, Error> {
        let data_dir = settings.data_dir.clone();
        own_folder(&data_dir)?;
        let create = vfs.create_dir_all(&data_dir);
        create.map_err(|source| Error::Folder { action: "create", path: data_dir.clone(), source })?;
        let lock = lock::acquire(&data_dir).await?;

        let kafka = listen("Kafka clients", settings.listen).await?;
        let http = listen("schema registry clients", settings.registry_listen).await?;
        let (kafka_address, registry_address) =
            (bound(&kafka, settings.listen)?, bound(&http, settings.registry_listen)?);

        let mut doors = vec![(kafka, Arc::new(Endpoint::first(settings.advertise.as_ref(), kafka_address)))];
        let mut further = BTreeMap::new();
        for wanted in &settings.listeners {
            let listener = listen("Kafka clients", wanted.address).await?;
            let address = bound(&listener, wanted.address)?;
            if further.insert(wanted.name.clone(), address).is_some() {
                let reason = format!("two listeners are called {}", wanted.name);
                return Err(Error::Setting { name: "listener", reason });
            }
            doors.push((listener, Arc::new(Endpoint::further(wanted, address)?)));
        }

        let stop = ctx.stop.child_token();
        let (core, registry) = recover(settings, ctx, &vfs, stop.clone())?;
        let core = Arc::new(core);
        let addresses = Addresses { kafka: kafka_address, registry: registry_address, further };
        addresses.announce(&data_dir, None)?;
        ctx.metrics.collect(Scrape::new(&core));
        let first = Arc::clone(&doors[0].1);
        let durability = core.settings.durability.as_str();
        tracing::info!(
            kafka = %kafka_address,
            registry = %registry_address,
            advertised = %format!("{}:{}", first.host, first.port),
            listeners = ?addresses.further,
            authorize = core.access.authorize(),
            durability,
            topics = core.topics.all().len(),
            "broker is ready"
        );
        report_health(&core, ctx);
        ctx.board.set_ready(true);

        let housekeeping_stop = CancellationToken::new();
        let (mut front, mut back) = (JoinSet::new(), JoinSet::new());
        let house = House::new(Arc::clone(&core));
        let endpoints: Vec<Arc<Endpoint>> = doors.iter().map(|(_, endpoint)| Arc::clone(endpoint)).collect();
        for (listener, endpoint) in doors {
            front.spawn(server::run(house.clone(), listener, endpoint, stop.clone()));
        }
        front.spawn(registry::serve(Arc::clone(&registry), http, stop.clone(), core.metrics.clone()));
        back.spawn(compaction::run(Arc::clone(&core), housekeeping_stop.clone()));
        back.spawn(transactions::run(Arc::clone(&core), housekeeping_stop.clone()));
        back.spawn(watch_groups(Arc::clone(&core), housekeeping_stop.clone()));
        back.spawn(keep_house(Arc::clone(&core), endpoints, ctx.clone(), housekeeping_stop.clone()));
        Ok(Handle { addresses, core, stop, housekeeping_stop, front, back, _lock: lock })
    }
}

/// A running broker. Dropping it aborts its tasks without closing the logs, as a crash would.
#[derive(Debug)]
pub struct Handle {
    addresses: Addresses,
    core: Arc<Core>,
    stop: CancellationToken,
    housekeeping_stop: CancellationToken,
    front: JoinSet<()>,
    back: JoinSet<()>,
    _lock: FolderLock,
}

impl Handle {
    /// Where Kafka clients connect.
    pub fn kafka(&self) -> SocketAddr {
        self.addresses.kafka
    }

    /// Where schema registry clients connect.
    pub fn registry(&self) -> SocketAddr {
        self.addresses.registry
    }

    /// Where a further listener accepts connections.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.addresses.further.get(name).copied()
    }

    /// Adds the admin server's address to the address file.
    pub fn announce_admin(&self, admin: SocketAddr) -> Result<(), Error> {
        self.addresses.announce(&self.core.settings.data_dir, Some(admin))
    }

    /// Ends when the broker was told to stop, or has to: an error means that the disk failed.
    pub async fn ended(&self) -> Result<(), Error> {
        let failure = self.core.committer.failure();
        tokio::select! { // cancel-safe: both arms only wait
            () = self.stop.cancelled() => Ok(()),
            () = failure.raised() => {
                Err(Error::Storage { reason: failure.reason().unwrap_or("an fsync failed").to_owned() })
            }
        }
    }

    /// Lets requests end, closes the logs and frees the folder.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.front.join_next().await.is_some() {}
        self.housekeeping_stop.cancel();
        while self.back.join_next().await.is_some() {}
        if self.core.committer.failure().reason().is_none() {
            self.core.topics.close();
        }
        tracing::info!("broker stopped");
    }
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { what, address, source })
}

fn bound(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|source| Error::Listen { what: "clients", address, source })
}

/// Opens everything on disk.
fn recover(
    settings: Settings,
    ctx: &daemon::Context,
    vfs: &Arc<dyn Vfs>,
    stopping: CancellationToken,
) -> Result<(Core, Arc<Registry>), Error> {
    let clock: Arc<dyn commitlog::Clock> = Arc::new(LogClock(Arc::clone(&ctx.clock)));
    let metrics = Metrics::register(&ctx.metrics);
    let data_dir = &settings.data_dir;
    let topics = Topics::open(data_dir, Arc::clone(vfs), Arc::clone(&clock))?;
    let failure = Arc::new(Failure::default());
    let committer = Committer::new(Flusher::new(FLUSH_THREADS), failure, metrics.commit_seconds.clone());

    let log = internal(&topics, OFFSETS_TOPIC, &[("cleanup.policy", "compact"), ("segment.bytes", "4194304")])?;
    let offsets = Offsets::open(log, committer.clone(), Arc::clone(&clock), settings.offsets_rewrite_bytes)?;
    let offsets = Arc::new(offsets);
    let log = internal(&topics, SCHEMAS_TOPIC, &[("cleanup.policy", "compact")])?;
    let registry = Arc::new(Registry::open(log, committer.clone(), Arc::clone(&clock))?);

    let log = internal(&topics, TRANSACTIONS_TOPIC, &[("cleanup.policy", "compact"), ("segment.bytes", "4194304")])?;
    let rewrite_bytes = settings.offsets_rewrite_bytes;
    let transactions = Transactions::open(log, committer.clone(), Arc::clone(&clock), rewrite_bytes)?;

    let partitions = topics.all();
    let partitions = partitions.iter().flat_map(|topic| &topic.partitions);
    let seen = partitions.flat_map(|partition| partition.log.producers()).map(|producer| producer.producer_id).max();
    let seen = seen.max(transactions.producer_id_max());
    let producer_ids = ProducerIds::open(data_dir, Arc::clone(vfs), seen)?;
    let disk =
        DiskGuard::new(Arc::clone(vfs), data_dir.clone(), settings.reserve_bytes, settings.essential_topics.clone());
    let given = Given::receive(&ctx.launch)?;
    let access = Access::open(data_dir, Arc::clone(vfs), settings.authorize, &settings.super_users, given)?;
    let seats = Places::new(usize::MAX, settings.connections_per_user_max);
    let timing = Timing { session_ms: settings.consumer_session_ms, heartbeat_ms: settings.consumer_heartbeat_ms };
    let watch = || {
        let source = Arc::clone(&ctx.clock_source);
        Watch::begin(source, ctx.clock_settings, ctx.launch.clock, &ctx.metrics)
    };
    let core = Core {
        watch: settings.doubts_clock.then(watch),
        cluster_id: cluster_id(data_dir, &**vfs)?,
        groups: Groups::open(Arc::clone(&offsets), &topics, settings.group_initial_delay_ms, timing, stopping.clone()),
        stopping,
        settings,
        clock,
        topics,
        offsets,
        fetch_sessions: FetchSessions::new(),
        producer_ids,
        transactions,
        disk,
        committer,
        metrics,
        access,
        password_checks: Semaphore::new(PASSWORD_CHECKS_MAX),
        seats,
    };
    transactions::abort_orphans(&core);
    Ok((core, registry))
}

/// The log of an internal topic, created at the first start.
fn internal(topics: &Topics, name: &'static str, config: &[(&str, &str)]) -> Result<Arc<commitlog::Log>, Error> {
    let topic = match topics.get(name) {
        Some(topic) => topic,
        None => create_internal(topics, name, config)?,
    };
    let partition = topic
        .partition(0)
        .ok_or_else(|| Error::Setting { name: "data_dir", reason: format!("topic {name} has no partition") })?;
    Ok(Arc::clone(&partition.log))
}

fn create_internal(topics: &Topics, name: &str, config: &[(&str, &str)]) -> Result<Arc<Topic>, Error> {
    let wrong = |reason: String| Error::Setting { name: "data_dir", reason };
    let config = TopicConfig::parse(config.iter().map(|(name, value)| (*name, Some(*value))))
        .map_err(|error| wrong(error.to_string()))?;
    topics.create(name, 1, config).map_err(|refusal| wrong(refusal.message))
}

/// The id of this "cluster" of one, made at the first start.
fn cluster_id(data_dir: &Path, vfs: &dyn Vfs) -> Result<StrBytes, Error> {
    let path = data_dir.join("cluster-id.state");
    let read = state_file::read(vfs, &path);
    let read = read.map_err(|source| Error::State { action: "read", path: path.clone(), source })?;
    if let Some(id) = read.and_then(|(bytes, _)| String::from_utf8(bytes).ok()) {
        return Ok(StrBytes::from_string(id));
    }
    let id = format!("{:032x}", random::bits());
    let written = state_file::write(vfs, &path, id.as_bytes());
    written.map_err(|source| Error::State { action: "write", path, source })?;
    Ok(StrBytes::from_string(id))
}

/// Where the broker can be reached.
#[derive(Debug)]
struct Addresses {
    kafka: SocketAddr,
    registry: SocketAddr,
    /// Further listeners by name.
    further: BTreeMap<String, SocketAddr>,
}

impl Addresses {
    /// Writes the addresses by rename, so that a supervisor never reads half a file.
    fn announce(&self, data_dir: &Path, admin: Option<SocketAddr>) -> Result<(), Error> {
        let addresses = serde_json::json!({
            "kafka": self.kafka.to_string(),
            "registry": self.registry.to_string(),
            "listeners": self.further,
            "admin": admin.map(|admin| admin.to_string()),
            "pid": std::process::id(),
        });
        let (path, new) = (data_dir.join(ADDRESS_FILE), data_dir.join(format!("{ADDRESS_FILE}.new")));
        let written = std::fs::write(&new, addresses.to_string()).and_then(|()| std::fs::rename(&new, &path));
        written.map_err(|source| Error::Folder { action: "write", path, source })
    }
}

/// Creates the data folder for its owner alone, and takes it away from others where it is open to them: records and
/// credentials are nobody else's.
pub(crate) fn own_folder(data_dir: &Path) -> Result<(), Error> {
    let folder = |action, source| Error::Folder { action, path: data_dir.to_owned(), source };
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    created.map_err(|source| folder("create", source))?;
    let mut permissions = std::fs::metadata(data_dir).map_err(|source| folder("look at", source))?.permissions();
    if permissions.mode() & 0o077 != 0 {
        permissions.set_mode(0o700);
        if let Err(error) = std::fs::set_permissions(data_dir, permissions) {
            tracing::warn!(path = %data_dir.display(), %error, "other users of this machine can read the data folder");
        }
    }
    Ok(())
}

/// Lets time pass for the groups.
async fn watch_groups(core: Arc<Core>, stop: CancellationToken) {
    let mut ticks = interval(GROUP_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! { // cancel-safe: both arms only wait
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let groups = core.groups.tick(&core.topics);
        core.metrics.groups.set(i64::try_from(groups).unwrap_or(i64::MAX));
    }
}

/// Disk room, retention, the rewriting of offsets, and the periodic sync of a buffered broker.
async fn keep_house(core: Arc<Core>, endpoints: Vec<Arc<Endpoint>>, ctx: daemon::Context, stop: CancellationToken) {
    let mut ticks = interval(HOUSEKEEPING_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count: u32 = 0;
    let mut retention: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        tokio::select! { // cancel-safe: both arms only wait
            _ = ticks.tick() => {}
            () = stop.cancelled() => break,
        }
        let free = core.disk.look().and_then(|space| i64::try_from(space.free).ok());
        core.metrics.disk_free_bytes.set(free.unwrap_or(-1));
        if let Some(watch) = &core.watch {
            watch.look();
        }
        raise_stopped_logs(&core);
        report_health(&core, &ctx);
        for tls in endpoints.iter().filter_map(|endpoint| endpoint.tls.as_ref()) {
            tls.look();
        }
        if core.settings.durability == Durability::Buffered {
            let topics = core.topics.all();
            let partitions = topics.iter().flat_map(|topic| &topic.partitions);
            let logs = partitions.map(|partition| Arc::clone(&partition.log)).collect();
            drop(core.committer.commit(logs).durable().await); // a failed fsync is raised by the committer
        }
        if let Some(retention_ms) = core.settings.offsets_retention_ms {
            let expired = core.groups.expire_offsets(retention_ms);
            if expired > 0 {
                drop(core.offsets.sync().durable().await); // a failed fsync is raised by the committer
            }
        }
        match core.offsets.rewrite_if_due().await {
            Ok(true) => tracing::debug!("group offsets were written anew"),
            Ok(false) => {}
            Err(error) => tracing::warn!(error = %daemon::report(&error), "cannot drop old group offsets"),
        }
        // unlinking takes its time and must not hold up the rest of the house
        if count.is_multiple_of(RETENTION_TICKS) && retention.as_ref().is_none_or(tokio::task::JoinHandle::is_finished)
        {
            let (core, stop) = (Arc::clone(&core), stop.clone());
            let done = retention.replace(tokio::task::spawn_blocking(move || retain(&core, &stop)));
            if let Some(done) = done
                && let Err(error) = done.await
            {
                tracing::error!(%error, "retention failed");
            }
        }
        count = count.wrapping_add(1);
    }
    if let Some(retention) = retention {
        drop(retention.await); // whatever it unlinks is not to meet the next start
    }
}

/// A write that failed and could not be undone stops a log as a failed fsync does, and only the recovery of the next start
/// puts it in order: a broker that ran on would refuse its records for ever.
fn raise_stopped_logs(core: &Core) {
    for topic in &core.topics.all() {
        if let Some(partition) = topic.partitions.iter().find(|partition| partition.log.stopped()) {
            let (topic, partition) = (&topic.name, partition.index);
            let reason = format!("the log of {topic} {partition} has stopped after a failed write or sync");
            core.committer.failure().raise(&reason);
        }
    }
}

fn retain(core: &Core, stop: &CancellationToken) {
    let time = core.believed();
    let topics = core.topics.all();
    let mut pause = || {
        if !stop.is_cancelled() {
            std::thread::sleep(UNLINK_PAUSE);
        }
    };
    for topic in &topics {
        for partition in &topic.partitions {
            if stop.is_cancelled() {
                return;
            }
            match partition.log.apply_retention_gently(time, &mut pause) {
                Ok(removed) if removed.segments > 0 => {
                    let waiters = &partition.waiters;
                    let (topic, partition) = (topic.name.as_str(), partition.index);
                    let (segments, bytes, start_offset) = (removed.segments, removed.bytes, removed.start_offset);
                    tracing::info!(topic, partition, segments, bytes, start_offset, "retention removed old segments");
                    waiters.wake(); // fetch sessions tell the new start
                }
                Ok(_) | Err(commitlog::Error::Closed { .. }) => {}
                Err(error) => {
                    let (topic, partition) = (topic.name.as_str(), partition.index);
                    tracing::warn!(topic, partition, error = %daemon::report(&error), "retention could not remove segments");
                }
            }
        }
    }
    core.metrics.topic_bytes.clear();
    for topic in &topics {
        let label = TopicLabel { topic: topic.name.to_string() };
        core.metrics.topic_bytes.get_or_create(&label).set(i64::try_from(topic.size_bytes()).unwrap_or(i64::MAX));
    }
}

fn report_health(core: &Core, ctx: &daemon::Context) {
    let durability = core.settings.durability;
    ctx.board.detail("durability", durability.as_str());
    ctx.board.detail("topics", core.topics.all().len());
    let low = core.disk.low();
    let conditions = low.map(|free| {
        let mib = free / (1024 * 1024);
        serde_json::json!({ "condition": "disk_low", "message": format!("{mib} MiB are left on the disk of the stream") })
    });
    ctx.board.detail("conditions", conditions.into_iter().collect::<Vec<_>>());
    if core.committer.failure().reason().is_some() {
        ctx.board.set(Health::Failed, "the disk refused to make records durable; the broker is stopping");
    } else if core.disk.full() {
        ctx.board.set(Health::Unhealthy, "the disk is almost full; producers are told to try again later");
    } else if !core.believes_clock() {
        ctx.board.set(Health::Degraded, "the clock cannot be right; nothing is deleted for its age until it is set");
    } else if durability == Durability::Buffered {
        ctx.board.set(Health::Degraded, "durability is buffered: acknowledged records do not survive a power cut");
    } else {
        ctx.board.set(Health::Healthy, "serving");
    }
}
