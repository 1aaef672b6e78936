//! The supervisor: compares what shall run with what runs, and takes one idempotent step at a time.
//!
//! `state.rs` decides (pure), `process.rs` acts, `probe.rs` asks; this loop ticks, owns the children and publishes a
//! snapshot for the status page. It never looks into a component: processes meet only at HTTP and Kafka.

pub mod probe;
pub mod process;
pub mod state;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::clock::Watch;
use daemon::identity::{self, Components};
use daemon::launch::Secret;
use daemon::{Launch, TaskSet};
use model::{Clock, Health, Timestamp};
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::children::{ChildPlan, Folders, Role};
use crate::epochs::Epochs;
use crate::secrets;
use process::Process;
use state::{Action, Child, Input, Lifecycle};

/// How often the loop looks at its children.
const TICK: Duration = Duration::from_millis(100);
/// How often each child is asked for its health.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Silent probes in a row after which a running child counts as hung.
const SILENT_PROBES_MAX: u32 = 20;
/// Requests for restarts that wait to be seen; further ones are refused.
const COMMANDS_MAX: usize = 16;

/// What the status page shows of one child.
#[derive(Debug, Clone)]
pub struct ChildStatus {
    pub name: String,
    pub role: Role,
    pub type_name: String,
    pub health: Health,
    pub reason: String,
    pub since: Timestamp,
    pub pid: Option<u32>,
    pub restarts: u64,
    /// Its own `/health`, as last seen.
    pub details: Value,
}

/// Snapshot of all children, shared with the status page.
pub type StatusTable = Arc<Mutex<Vec<ChildStatus>>>;

/// Handle to the running supervisor.
#[derive(Debug, Clone)]
pub struct Handle {
    pub table: StatusTable,
    commands: mpsc::Sender<String>,
}

impl Handle {
    /// Asks for a restart of a child; false when too many wait already.
    pub fn restart(&self, name: &str) -> bool {
        self.commands.try_send(name.to_owned()).is_ok()
    }

    /// Copy of the table.
    pub fn children(&self) -> Vec<ChildStatus> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Slot {
    plan: ChildPlan,
    wanted: bool,
    machine: Child,
    process: Option<Process>,
    report: Option<probe::Report>,
    silent_probes: u32,
    last_exit: String,
    last_words: process::LastWords,
    health: Health,
    since: Timestamp,
}

/// The loop's own state.
pub struct Supervisor {
    program: PathBuf,
    folders: Folders,
    clock: Arc<dyn Clock>,
    epochs: Epochs,
    /// What lets children into the embedded stream.
    identities: Components,
    /// What children are to know of the clock.
    watch: Arc<Watch>,
    slots: BTreeMap<String, Slot>,
    table: StatusTable,
    commands: mpsc::Receiver<String>,
    client: reqwest::Client,
    lines: TaskSet,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("children", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Supervisor {
    pub fn new(
        program: PathBuf,
        folders: Folders,
        clock: Arc<dyn Clock>,
        epochs: Epochs,
        identities: Components,
        watch: Arc<Watch>,
    ) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let table: StatusTable = Arc::default();
        let handle = Handle { table: Arc::clone(&table), commands: sender };
        let client = reqwest::Client::builder().no_proxy().build().unwrap_or_default();
        let lines = TaskSet::new(CancellationToken::new());
        let slots = BTreeMap::new();
        (Self { program, folders, clock, epochs, identities, watch, slots, table, commands, client, lines }, handle)
    }

    /// Runs until `stop`, then stops the children in order: sources first, then sinks, the broker last.
    pub async fn run(mut self, mut plans: watch::Receiver<Vec<ChildPlan>>, stop: CancellationToken) {
        let begin = Instant::now();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_probe = begin;
        self.adopt(&plans.borrow_and_update().clone());
        loop {
            let mut asked = None;
            tokio::select! { // cancel-safe: ticks, watches and channel receives lose nothing when dropped
                _ = tick.tick() => {}
                changed = plans.changed() => {
                    if changed.is_ok() {
                        let wanted = plans.borrow_and_update().clone();
                        self.adopt(&wanted);
                    }
                }
                name = self.commands.recv() => asked = name,
                () = stop.cancelled() => break,
            }
            self.step(begin, asked.as_deref()).await;
            if Instant::now() >= next_probe {
                self.probe_all().await;
                next_probe = Instant::now() + PROBE_EVERY;
            }
            self.publish();
        }
        // simulated devices after those who read them, which would otherwise complain
        for role in [Role::Adapter, Role::Simulator, Role::Sink, Role::Broker] {
            self.stop_roles(&[role], begin).await;
        }
        self.publish();
    }

    fn adopt(&mut self, plans: &[ChildPlan]) {
        for slot in self.slots.values_mut() {
            slot.wanted = false;
        }
        for plan in plans {
            match self.slots.get_mut(&plan.name) {
                Some(slot) => {
                    slot.wanted = true;
                    slot.plan = plan.clone();
                }
                None => {
                    let slot = Slot {
                        plan: plan.clone(),
                        wanted: true,
                        machine: Child::new(plan.hash()),
                        process: None,
                        report: None,
                        silent_probes: 0,
                        last_exit: String::new(),
                        last_words: process::LastWords::default(),
                        health: Health::Degraded,
                        since: self.clock.now(),
                    };
                    self.slots.insert(plan.name.clone(), slot);
                }
            }
        }
    }

    /// One look at every child, one action where one is due.
    async fn step(&mut self, begin: Instant, asked: Option<&str>) {
        let names: Vec<String> = self.slots.keys().cloned().collect();
        for name in names {
            let now_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
            let Some(slot) = self.slots.get_mut(&name) else { continue };
            let ended = slot.process.as_mut().and_then(Process::ended);
            let input = if let Some(code) = ended {
                slot.process = None;
                slot.report = None;
                slot.silent_probes = 0;
                slot.last_exit =
                    code.map_or_else(|| "killed by a signal".to_owned(), |code| format!("ended with code {code}"));
                if matches!(slot.machine.lifecycle(), Lifecycle::Running { .. }) {
                    tracing::warn!(child = %name, how = %slot.last_exit, "child ended unexpectedly");
                }
                Input::Exited { code }
            } else if asked == Some(name.as_str()) {
                Input::RestartAsked
            } else if slot.silent_probes >= SILENT_PROBES_MAX {
                slot.silent_probes = 0;
                tracing::error!(child = %name, "child does not answer any more, stopping it");
                Input::Hung
            } else {
                Input::Tick
            };
            let desired = slot.wanted.then(|| slot.plan.hash());
            if let Some(action) = slot.machine.next(desired, input, now_ms) {
                self.act(&name, action, now_ms).await;
            }
        }
        self.slots.retain(|_, slot| slot.wanted || slot.process.is_some());
    }

    async fn act(&mut self, name: &str, action: Action, now_ms: u64) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        match action {
            Action::Terminate => slot.process.iter().for_each(|process| process.signal(Signal::TERM)),
            Action::Kill => slot.process.iter().for_each(|process| process.signal(Signal::KILL)),
            Action::Start { .. } => {
                let started = async {
                    let mut secrets = secrets::load(&self.folders.secrets(), &slot.plan.secrets)?;
                    secrets.extend(way_into_the_stream(&slot.plan, &self.identities)?);
                    let epoch = self.epochs.next(name)?;
                    let launch = Launch { epoch: Some(epoch), secrets, clock: self.watch.life().memory() };
                    Process::start(&self.program, &slot.plan, &launch).await
                };
                match started.await {
                    Ok(mut process) => {
                        for stream in process.take_output() {
                            let component = name.to_owned();
                            let last_words = Arc::clone(&slot.last_words);
                            self.lines.spawn("child-log", |_| async move {
                                process::forward_lines(component, stream, last_words).await;
                                Ok::<(), std::convert::Infallible>(())
                            });
                        }
                        slot.last_words.lock().unwrap_or_else(PoisonError::into_inner).clear();
                        tracing::info!(child = name, pid = process.pid, "child started");
                        slot.process = Some(process);
                    }
                    Err(error) => {
                        slot.last_exit = format!("cannot be started: {error}");
                        tracing::error!(child = name, error = %error, "child cannot be started");
                        let desired = slot.wanted.then(|| slot.plan.hash());
                        slot.machine.next(desired, Input::StartFailed, now_ms);
                    }
                }
            }
        }
    }

    async fn probe_all(&mut self) {
        let run_dir = self.folders.run();
        let mut asked = Vec::new();
        for (name, slot) in &self.slots {
            let Some(process) = &slot.process else { continue };
            let address = probe::admin_address(&run_dir, name, process.pid);
            let client = self.client.clone();
            let name = name.clone();
            asked.push(async move {
                let report = match &address {
                    Some(address) => probe::ask(&client, address).await,
                    None => None,
                };
                (name, report)
            });
        }
        for (name, report) in join_all(asked).await {
            let Some(slot) = self.slots.get_mut(&name) else { continue };
            let answered = report.as_ref().is_some_and(|report| report.live);
            slot.silent_probes = if answered { 0 } else { slot.silent_probes + 1 };
            if report.is_some() {
                slot.report = report;
            }
        }
    }

    async fn stop_roles(&mut self, roles: &[Role], begin: Instant) {
        for slot in self.slots.values_mut().filter(|slot| roles.contains(&slot.plan.role)) {
            slot.wanted = false;
        }
        let mut tick = interval(Duration::from_millis(20));
        while self.slots.values().any(|slot| roles.contains(&slot.plan.role) && slot.process.is_some()) {
            self.step(begin, None).await;
            tick.tick().await;
        }
    }

    fn publish(&mut self) {
        let now = self.clock.now();
        let mut table = Vec::with_capacity(self.slots.len());
        for slot in self.slots.values_mut() {
            let (health, reason) = judge(slot);
            if health != slot.health {
                slot.health = health;
                slot.since = now;
            }
            table.push(ChildStatus {
                name: slot.plan.name.clone(),
                role: slot.plan.role,
                type_name: slot.plan.type_name.clone(),
                health,
                reason,
                since: slot.since,
                pid: slot.process.as_ref().map(|process| process.pid),
                restarts: slot.machine.restarts(),
                details: slot.report.as_ref().map_or(Value::Null, |report| report.body.clone()),
            });
        }
        table.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = table;
    }
}

/// State and sentence for the page.
fn judge(slot: &Slot) -> (Health, String) {
    let last_words = slot.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let last_exit =
        if last_words.is_empty() { slot.last_exit.clone() } else { format!("{}: {last_words}", slot.last_exit) };
    match (slot.machine.lifecycle(), &slot.report) {
        (Lifecycle::Running { .. }, Some(report)) if slot.silent_probes >= 3 => {
            (report.health.max(Health::Degraded), "does not answer health questions".to_owned())
        }
        (Lifecycle::Running { .. }, Some(report)) => (report.health, report.reason.clone()),
        (Lifecycle::Running { .. }, None) => (Health::Degraded, "starting".to_owned()),
        (Lifecycle::Backoff { .. }, _) => (Health::Unhealthy, format!("{last_exit}; it will be started again")),
        (Lifecycle::Stopping { .. }, _) => (Health::Degraded, "stopping".to_owned()),
        (Lifecycle::Failed { .. }, _) => {
            let what = "gave up for 15 minutes; see its log, mend the cause and restart it";
            (Health::Failed, format!("{last_exit}; {what}"))
        }
        (Lifecycle::Stopped, _) => (Health::Degraded, "stopped".to_owned()),
    }
}

/// All answers, asked at the same time.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut all = true;
        for (future, output) in &mut pending {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => all = false,
                }
            }
        }
        if all { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    pending.into_iter().filter_map(|(_, output)| output).collect()
}

/// The broker is handed what it knows children by, a child its own password.
fn way_into_the_stream(plan: &ChildPlan, identities: &Components) -> std::io::Result<Option<(String, Secret)>> {
    Ok(match (&plan.user, plan.role) {
        (Some(user), _) => Some((identity::PASSWORD.to_owned(), identities.password(user))),
        (None, Role::Broker) => {
            Some((identity::COMPONENTS.to_owned(), Secret::new(serde_json::to_string(identities)?)))
        }
        (None, _) => None,
    })
}
