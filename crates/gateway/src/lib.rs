//! The gateway runtime: supervisor, validator, aggregator, status page.
//!
//! Start order, each step only after the one before: lock the data folder, read the document, start the broker, create
//! topics and register schemas, start adapters and sinks, start the modules. Stop order: modules, adapters, sinks, the
//! broker last. The runtime never imports a broker, an adapter or a sink: it starts them and speaks Kafka or HTTP.

pub mod alarm_commands;
pub mod api;
pub mod children;
pub mod console;
pub mod dead_letters;
pub mod desired;
pub mod epochs;
mod error;
pub mod external;
pub mod identities;
pub mod leftovers;
pub mod modules;
pub mod rollup;
pub mod secrets;
pub mod supervisor;
pub mod system_state;
pub mod timekeeping;
pub mod watch;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::{Catalog, Document, External, StreamMode};
use daemon::admin::Admin;
use daemon::identity::Components;
use daemon::{Backoff, Context, TaskSet, report};
use kafka::client::{Settings, admin};
use stream::{Connection, Schemas, Topic};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use alarm_commands::AlarmDesk;
use children::{ChildPlan, Folders, StreamAddresses};
use console::Console;
use dead_letters::DeadLetters;
use desired::{Loaded, Watcher};
use epochs::Epochs;
pub use error::Error;
use modules::{LiveTable, ModuleContext, ModuleState};
use supervisor::Supervisor;

/// How long the broker may take to come up; a large log is recovered in far less.
const BROKER_START_MAX: Duration = Duration::from_secs(60);
/// How long the parts may take to stop before the process ends regardless.
const STOP_MAX: Duration = Duration::from_secs(40);

/// How a gateway is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The gateway document, JSON or YAML.
    pub document: PathBuf,
    /// Folder of the stream, caches, secrets and logs.
    pub data: PathBuf,
    /// Component types this binary knows.
    pub catalog: Catalog,
    /// Further children, for example the simulators of a demo plant.
    pub extra_children: Vec<ChildPlan>,
    /// The program children run.
    pub program: PathBuf,
}

/// Tells the caller once that the status page answers, with its URL.
pub type OnReady = Box<dyn FnOnce(SocketAddr) + Send>;

/// Runs a gateway until the context's stop token is cancelled.
pub async fn run(options: Options, ctx: Context, on_ready: OnReady) -> Result<(), Error> {
    let folders = Folders::new(&options.data);
    let folder_error = |what, path: &Path| {
        let path = path.display().to_string();
        move |source| Error::Folder { what, path, source }
    };
    for folder in [folders.data.clone(), folders.run(), folders.config(), folders.state()] {
        std::fs::create_dir_all(&folder).map_err(folder_error("a folder cannot be created", &folder))?;
    }
    let _lock = lock(&folders.data).await?;
    leftovers::wait(&folders.run(), leftovers::END_MAX).await;
    let cache = folders.config().join("gateway.last-good");
    let (loaded, rejected) = desired::load(&options.document, &cache, &options.catalog)?;
    if rejected.is_none()
        && let Ok(text) = std::fs::read_to_string(&options.document)
    {
        desired::remember(&cache, &text);
    }
    let stop = ctx.stop.clone();
    let (document_sender, mut documents) = tokio::sync::watch::channel(loaded);
    let (rejected_sender, rejected) = tokio::sync::watch::channel(rejected);
    let stream_mode = with_ports(&documents.borrow_and_update().document.stream).map_err(Error::Port)?;

    let epochs = Epochs::open(&folders.state(), ctx.clock.now().as_millis() / 1000)
        .map_err(folder_error("start counters cannot be read", &folders.state()))?;
    let components = identities::components().map_err(Error::Identities)?;
    let (clock, known) = (Arc::clone(&ctx.clock), components.clone());
    let timekeeper = timekeeping::begin(&folders.state(), &ctx, &documents.borrow().document);
    let told = Arc::clone(&timekeeper);
    let (supervisor, handle) = Supervisor::new(options.program.clone(), folders.clone(), clock, epochs, known, told);
    let (plan_sender, plans) = tokio::sync::watch::channel(Vec::new());
    let mut tasks = TaskSet::new(CancellationToken::new());
    let (time, time_folder, time_stop) = (Arc::clone(&timekeeper), folders.state(), stop.clone());
    tasks.spawn("timekeeper", |_| async move {
        timekeeping::run(time, time_folder, time_stop).await;
        Ok::<(), std::convert::Infallible>(())
    });
    let supervisor_stop = CancellationToken::new();
    let live = Arc::new(LiveTable::default());
    let alarms = AlarmDesk::default();
    let validator_state = Arc::new(ModuleState::default());
    let aggregator_state = Arc::new(ModuleState::default());
    let topics = watch::Table::default();
    let external = external::Watch::default();
    let console = Console {
        clock: Arc::clone(&ctx.clock),
        timekeeper: Arc::clone(&timekeeper),
        live: Arc::clone(&live),
        modules: vec![("validator", Arc::clone(&validator_state)), ("aggregator", Arc::clone(&aggregator_state))],
        supervisor: handle,
        topics: Arc::clone(&topics),
        external: external.clone(),
        loaded: documents.clone(),
        rejected,
    };
    let mut page_ctx = ctx.clone();
    page_ctx.admin_listen = documents.borrow().document.console_listen;
    let dead_letters = DeadLetters::new(Arc::clone(&ctx.clock), documents.borrow().document.validation.clone());
    let guard = api::Guard::new().map_err(Error::Identities)?;
    let api_state = api::ApiState {
        gateway_id: documents.borrow().document.gateway_id.clone(),
        dead_letters: dead_letters.clone(),
        alarms: alarms.clone(),
    };
    let routes = console.clone().routes().merge(api::routes(api_state, guard.clone()));
    let page = Admin::bind(&page_ctx, routes).await?;
    let page_address = page.address();
    let run = folders.run();
    guard.leave(&run, page_address).map_err(folder_error("the token of the API cannot be left", &run))?;
    let page_stop = CancellationToken::new();
    let served_until = page_stop.clone();
    tasks.spawn("status-page", |_| page.serve(served_until));

    let broker = broker_plan(&documents.borrow().document, &stream_mode, &folders);
    let broker_started = broker.is_some();
    if broker_started {
        remove_stale(&folders.stream().join("broker.addr"));
        let run = folders.run();
        identities::leave_operator(&run, &components).map_err(folder_error("a login cannot be left", &run))?;
    }
    let mut first: Vec<ChildPlan> = options.extra_children.clone();
    first.extend(broker.clone());
    plan_sender.send_replace(first.clone());
    let until = supervisor_stop.clone();
    tasks.spawn("supervisor", |_| async move {
        supervisor.run(plans, until).await;
        Ok::<(), std::convert::Infallible>(())
    });
    on_ready(page_address);

    let addresses = match &stream_mode {
        StreamMode::External(cluster) => {
            if cluster.tls.is_some() || cluster.registry.url.starts_with("https:") {
                timekeeping::wait_until_plausible(&timekeeper, &stop, |text| external.set_trouble(text)).await;
            }
            StreamAddresses {
                bootstrap: cluster.bootstrap.clone(),
                registry_url: cluster.registry.url.clone(),
                access: Some((external::describe(cluster).to_text(), cluster.secrets())),
            }
        }
        StreamMode::Embedded { listen, registry_listen } => {
            wait_for_broker(&folders, &console.supervisor, &stop).await?;
            let registry_url = format!("http://{registry_listen}");
            StreamAddresses { bootstrap: listen.to_string(), registry_url, access: None }
        }
    };
    let gateway_id = documents.borrow().document.gateway_id.clone();
    let connection = connect(&addresses, &folders, &identities::own_user(&gateway_id), &components)?;
    let settings = connection.settings(&addresses.bootstrap, "sf-runtime");
    let schemas = connection.schemas(&addresses.registry_url, Some(folders.config())).map_err(Error::Access)?;
    let schemas = Arc::new(schemas);
    prepare_stream(&settings, &schemas, matches!(stream_mode, StreamMode::External(_)).then_some(&external), &stop)
        .await;
    if let StreamMode::External(cluster) = &stream_mode {
        let (settings, cluster, until) = (settings.clone(), External::clone(cluster), stop.clone());
        tasks.spawn("external-stream", |_| async move {
            external.run(settings, cluster, until).await;
            Ok::<(), std::convert::Infallible>(())
        });
    }

    let replan = {
        let folders = folders.clone();
        move |document: &Document| {
            let mut plans = first.clone();
            plans.extend(children::components(document, &folders, &addresses));
            plans
        }
    };
    plan_sender.send_replace(replan(&documents.borrow_and_update().document));

    let module_stop = CancellationToken::new();
    let module_ctx = ModuleContext {
        settings: settings.clone(),
        schemas,
        runtime: tokio::runtime::Handle::current(),
        gateway_id,
        clock: Arc::clone(&ctx.clock),
        metrics: ctx.metrics.clone(),
        stop: module_stop.clone(),
        live,
        alarms: alarms.table(),
    };
    alarms.start(&module_ctx).map_err(Error::Commands)?;
    let validator_restart = Restart::default();
    let aggregator_restart = Restart::default();
    let validator_documents = documents.clone();
    let mut threads =
        vec![module_thread("validator", &module_ctx, validator_state, &validator_restart, move |ctx, state| {
            let settings = validator_settings(&validator_documents.borrow());
            modules::run_validator(ctx, &settings, state).map_err(|error| report(&error))
        })?];
    let aggregator_documents = documents.clone();
    threads.push(module_thread(
        "aggregator",
        &module_ctx,
        aggregator_state,
        &aggregator_restart,
        move |ctx, state| {
            let aggregation = aggregator_documents.borrow().document.aggregation.clone();
            modules::run_aggregator(ctx, &aggregation, state).map_err(|error| report(&error))
        },
    )?);
    threads.push(watch_thread(settings, topics, module_stop.clone())?);
    let started = dead_letters.start(&module_ctx);
    threads.extend(started.map_err(|source| Error::Thread { name: "dead-letters", source })?);

    let told = system_state::run(module_ctx.clone(), console.supervisor.clone(), Arc::clone(&timekeeper));
    tasks.spawn("system-state", |_| async move {
        told.await;
        Ok::<(), std::convert::Infallible>(())
    });

    let watcher = Watcher {
        file: options.document.clone(),
        cache,
        catalog: options.catalog.clone(),
        accepted: document_sender,
        rejected: rejected_sender,
    };
    let watcher_stop = stop.clone();
    tasks.spawn("document-watcher", |_| async move {
        watcher.run(watcher_stop).await;
        Ok::<(), std::convert::Infallible>(())
    });
    ctx.board.set_ready(true);
    let mut running = documents.borrow().document.clone();
    loop {
        tokio::select! { // cancel-safe: a watch change and a sleep lose nothing when dropped
            changed = documents.changed() => {
                if changed.is_ok() {
                    let wanted = documents.borrow_and_update().document.clone();
                    plan_sender.send_replace(replan(&wanted));
                    // a module takes its rules at its start and resumes where it was
                    if wanted.validation != running.validation || wanted.alarms != running.alarms {
                        dead_letters.set_rules(wanted.validation.clone());
                        validator_restart.ask();
                    }
                    if wanted.aggregation != running.aggregation {
                        aggregator_restart.ask();
                    }
                    timekeeper.set_assume_synced(wanted.clock.assume_synced);
                    if wanted.stream != running.stream || wanted.console_listen != running.console_listen {
                        tracing::warn!("changed addresses of stream or console take effect at the next start of the gateway");
                    }
                    running = wanted;
                }
            }
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = stop.cancelled() => break,
        }
        ctx.board.set(console.health(), console.reason());
    }
    ctx.board.set_ready(false);
    tracing::info!("stopping: sources first, then sinks, the stream last");
    module_stop.cancel();
    let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
    if tokio::time::timeout(STOP_MAX, joined).await.is_err() {
        tracing::warn!("a module did not stop in time and is abandoned");
    }
    supervisor_stop.cancel();
    let deadline = Instant::now() + STOP_MAX;
    while let Ok(Some(name)) = tokio::time::timeout_at(deadline, tasks.next_ended()).await {
        if name == "supervisor" {
            break;
        }
    }
    page_stop.cancel();
    api::guard::remove(&folders.run());
    tasks.shutdown(Duration::from_secs(2)).await;
    Ok(())
}

fn validator_settings(loaded: &Loaded) -> modules::ValidatorSettings {
    modules::ValidatorSettings {
        validation: loaded.document.validation.clone(),
        alarms: loaded.document.alarms.clone(),
        config_revision: loaded.document.revision.clone().unwrap_or_else(|| loaded.revision.clone()),
    }
}

/// Holds the data folder for this process alone; waits a little for a predecessor that is about to go.
async fn lock(data: &Path) -> Result<std::fs::File, Error> {
    let path = data.join("gateway.lock");
    let error = |source| Error::Folder { what: "the lock cannot be taken", path: path.display().to_string(), source };
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(error)?;
    for _ in 0..50 {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(errno) => return Err(error(errno.into())),
        }
    }
    Err(Error::Locked { path: data.display().to_string() })
}

/// Port 0 becomes a free port, chosen once, so that a restarted broker is found where it was.
fn with_ports(mode: &StreamMode) -> std::io::Result<StreamMode> {
    let settle = |address: SocketAddr| -> std::io::Result<SocketAddr> {
        if address.port() == 0 { TcpListener::bind(address)?.local_addr() } else { Ok(address) }
    };
    Ok(match mode {
        StreamMode::Embedded { listen, registry_listen } => {
            StreamMode::Embedded { listen: settle(*listen)?, registry_listen: settle(*registry_listen)? }
        }
        external @ StreamMode::External(_) => external.clone(),
    })
}

/// How this process itself gets into the stream: under its own name into the embedded one; into another as it tells its
/// children, with the secrets from its own folder.
fn connect(
    addresses: &StreamAddresses,
    folders: &Folders,
    user: &str,
    components: &Components,
) -> Result<Connection, Error> {
    let Some((access, named)) = &addresses.access else {
        let password = components.password(user);
        let described = identities::describe(user);
        return described.resolve(|_| Some(password.reveal().to_owned())).map_err(Error::Access);
    };
    let secrets = secrets::load(&folders.secrets(), named).map_err(Error::Secrets)?;
    let secret = |name: &str| secrets.get(name).map(|secret| secret.reveal().to_owned());
    Connection::from_launch(Some(access), secret).map_err(Error::Access)
}

fn broker_plan(document: &Document, mode: &StreamMode, folders: &Folders) -> Option<ChildPlan> {
    let mut settled = document.clone();
    settled.stream = mode.clone();
    children::broker(&settled, folders)
}

fn remove_stale(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), error = %error, "a stale address file cannot be removed");
    }
}

/// Waits until the broker has published its addresses.
async fn wait_for_broker(
    folders: &Folders,
    supervisor: &supervisor::Handle,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let file = folders.stream().join("broker.addr");
    let began = Instant::now();
    while !file.exists() {
        let child = supervisor.children().into_iter().find(|child| child.role == children::Role::Broker);
        let gave_up = child.as_ref().is_some_and(|child| child.health == model::Health::Failed);
        if stop.is_cancelled() || gave_up || began.elapsed() >= BROKER_START_MAX {
            let seconds = began.elapsed().as_secs();
            let reason = child.map_or_else(|| "it was never started".to_owned(), |child| child.reason);
            return Err(Error::Broker { seconds, reason, logs: folders.logs().display().to_string() });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Creates topics and registers schemas; tries until it works, since without them nothing can flow.
///
/// A cluster of somebody else may have the topics and not let us create any; what keeps it from both is shown.
async fn prepare_stream(
    settings: &Settings,
    schemas: &Schemas,
    external: Option<&external::Watch>,
    stop: &CancellationToken,
) {
    let plans = stream::topics::plans();
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5), 20, 1);
    while !stop.is_cancelled() {
        match admin::create_topics(settings, &plans).await {
            Ok(created) => {
                if !created.is_empty() {
                    tracing::info!(topics = created.len(), "topics created");
                }
                break;
            }
            Err(error) => {
                tracing::warn!(error = %report(&error), "topics cannot be created yet");
                if let Some(external) = external {
                    if external::has_all_topics(settings).await {
                        break;
                    }
                    external.set_trouble(format!("topics cannot be created: {}", report(&error)));
                }
            }
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
    for topic in Topic::ALL {
        if let Err(error) = schemas.id_for(topic).await {
            tracing::warn!(subject = topic.subject(), error = %report(&error), "schema cannot be registered yet");
        }
    }
}

/// Ends the current run of a module, so that the next one begins with the newest settings.
#[derive(Debug, Clone, Default)]
struct Restart(Arc<Mutex<CancellationToken>>);

impl Restart {
    fn ask(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }

    /// A token for a new run.
    fn arm(&self, parent: &CancellationToken) -> CancellationToken {
        let token = parent.child_token();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = token.clone();
        token
    }
}

/// Runs a module on a thread of its own: again with new settings when asked, and after every error, with backoff.
fn module_thread(
    name: &'static str,
    ctx: &ModuleContext,
    state: Arc<ModuleState>,
    restart: &Restart,
    run: impl Fn(&ModuleContext, &ModuleState) -> Result<(), String> + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, Error> {
    let mut ctx = ctx.clone();
    let stop = ctx.stop.clone();
    let restart = restart.clone();
    let body = move || {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10), 20, 3);
        while !stop.is_cancelled() {
            ctx.stop = restart.arm(&stop);
            let began = Instant::now();
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&ctx, &state)));
            let reason = match ended {
                Ok(Ok(())) => continue, // stopped, or asked to begin again
                Ok(Err(reason)) => reason,
                Err(_) => "it panicked; its log names the place".to_owned(),
            };
            if began.elapsed() > Duration::from_secs(30) {
                backoff.reset();
            }
            let delay = backoff.next_delay();
            tracing::error!(
                module = name,
                reason,
                retry_in_ms = delay.as_millis(),
                "module stopped, starting it again"
            );
            state.set_error(&reason);
            let until = Instant::now() + delay;
            while Instant::now() < until && !stop.is_cancelled() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|source| Error::Thread { name, source })
}

fn watch_thread(
    settings: Settings,
    table: watch::Table,
    stop: CancellationToken,
) -> Result<std::thread::JoinHandle<()>, Error> {
    let body = move || {
        while !stop.is_cancelled() {
            if let Err(error) = watch::run(&settings, &table, &stop) {
                tracing::debug!(error = %report(&error), "the stream's figures cannot be read");
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    };
    std::thread::Builder::new()
        .name("stream-watch".to_owned())
        .spawn(body)
        .map_err(|source| Error::Thread { name: "stream-watch", source })
}
