//! The router at work: a thread that owns the [`Router`], its journal and everything that is on its way.
//!
//! It lives beside the sink's loop on purpose: calls go out also while the stream is away, and a receiver that takes ten
//! seconds to answer holds up no record.
//!
//! ```text
//! sink --Take--> engine: router.take, journal, answer       every 250 ms: router.tick, journal, next messages
//!                  |  <---- outcomes ---- one send per destination at a time
//!                  +--- letters ---> a thread that writes them into the stream
//! ```

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use model::Clock;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::dispatch::{Job, Outcome, Standing};
use super::journal::{self, Journal};
use super::kept::Change;
use super::letters::Letters;
use super::metrics::RouterMetrics;
use super::notice::{Notice, Transition};
use super::plan::Plan;
use super::router::{Now, Router};
use super::send::Sender;
use super::state::Letter;
use crate::batch::Place;

/// How often time is let pass.
const TICK: Duration = Duration::from_millis(250);
/// Batches that wait for the engine; the sink waits behind them.
const BATCHES_MAX: usize = 4;
/// Letters that wait for the stream; others stay in the router's memory until there is room.
const LETTERS_MAX: usize = 16;
/// How long a letter that the stream did not take waits.
const LETTER_WAIT: Duration = Duration::from_secs(5);
/// At the stop, what is on its way has so long to be answered. Whatever is not is sent again after the next start, with
/// the same delivery id.
const FAREWELL_MAX: Duration = Duration::from_secs(3);

/// Records of one batch, and the positions behind them.
#[derive(Debug)]
pub struct Taken {
    pub entries: Vec<(Notice, Option<Transition>)>,
    pub ends: Vec<Place>,
    /// Answered when everything decided is durable.
    pub reply: oneshot::Sender<Result<(), String>>,
}

/// The handle of a running engine. Dropping it stops the engine.
#[derive(Debug)]
pub struct Engine {
    batches: mpsc::Sender<Taken>,
    standings: Arc<Mutex<Vec<Standing>>>,
    places: Arc<Mutex<Vec<Place>>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Opens the memory and starts the thread.
    pub fn start(
        plan: Plan,
        sender: Sender,
        letters: Box<dyn Letters>,
        memory: &Path,
        clock: Arc<dyn Clock>,
        metrics: RouterMetrics,
    ) -> Result<Self, journal::Error> {
        let (journal, state) = Journal::open(memory)?;
        let started = Instant::now();
        let now = Now { wall: clock.now(), steady_ms: 0 };
        let router = Router::new(plan, state, now);
        let (batches, inbox) = mpsc::channel(BATCHES_MAX);
        let standings = Arc::new(Mutex::new(router.standings()));
        let places = Arc::new(Mutex::new(router.places()));
        let stop = CancellationToken::new();
        let work = Work {
            router,
            journal,
            pending: Vec::new(),
            sender: Arc::new(sender),
            clock,
            started,
            sends: JoinSet::new(),
            flying: HashMap::new(),
            in_letters: BTreeSet::new(),
            beat_due: Instant::now(),
            beats: JoinSet::new(),
            standings: Arc::clone(&standings),
            places: Arc::clone(&places),
            metrics,
        };
        let ended = stop.clone();
        let body = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(work.run(inbox, letters, ended)),
            Err(error) => tracing::error!(%error, "the alert router cannot begin to work"),
        };
        let thread = std::thread::Builder::new().name("alerts".to_owned()).spawn(body);
        let thread = thread.map_err(|source| journal::Error::Write { path: memory.to_owned(), source })?;
        Ok(Self { batches, standings, places, stop, thread: Some(thread) })
    }

    /// Hands records over; returns when what they led to is durable.
    pub async fn take(&self, entries: Vec<(Notice, Option<Transition>)>, ends: Vec<Place>) -> Result<(), String> {
        let gone = || "the alert router has ended".to_owned();
        let (reply, answer) = oneshot::channel();
        self.batches.send(Taken { entries, ends, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// How every destination does.
    pub fn standings(&self) -> Vec<Standing> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Positions behind everything that was taken.
    pub fn places(&self) -> Vec<Place> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the alert router broke off");
        }
    }
}

struct Work {
    router: Router,
    journal: Journal,
    /// Changes that are not on disk yet.
    pending: Vec<Change>,
    sender: Arc<Sender>,
    clock: Arc<dyn Clock>,
    started: Instant,
    sends: JoinSet<Outcome>,
    flying: HashMap<tokio::task::Id, Job>,
    /// Letters that are with the writing thread.
    in_letters: BTreeSet<String>,
    beat_due: Instant,
    beats: JoinSet<()>,
    standings: Arc<Mutex<Vec<Standing>>>,
    places: Arc<Mutex<Vec<Place>>>,
    metrics: RouterMetrics,
}

impl Work {
    async fn run(mut self, mut inbox: mpsc::Receiver<Taken>, letters: Box<dyn Letters>, stop: CancellationToken) {
        let (to_write, written) = writer(letters, stop.clone());
        let Some((to_write, mut written)) = to_write.zip(written) else { return };
        let mut ticker = tokio::time::interval(TICK);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! { // cancel-safe: each arm only receives
                () = stop.cancelled() => break,
                Some(taken) = inbox.recv() => self.take(taken),
                Some(sent) = self.sends.join_next_with_id() => self.sent(sent),
                Some(id) = written.recv() => self.written(&id),
                Some(_) = self.beats.join_next() => {}
                _ = ticker.tick() => {}
            }
            self.go_on(&to_write);
        }
        let farewell = async {
            while let Some(sent) = self.sends.join_next_with_id().await {
                self.sent(sent);
            }
        };
        if tokio::time::timeout(FAREWELL_MAX, farewell).await.is_err() {
            tracing::info!("a message on its way was not answered in time, it is sent again after the next start");
        }
        if let Err(error) = self.keep() {
            tracing::warn!(%error, "what was delivered last is not written down");
        }
    }

    fn now(&self) -> Now {
        let steady_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { wall: self.clock.now(), steady_ms }
    }

    fn take(&mut self, taken: Taken) {
        let now = self.now();
        for (notice, transition) in &taken.entries {
            self.router.take(notice, *transition, now);
        }
        for end in &taken.ends {
            self.router.pass(*end);
        }
        let kept = self.keep();
        if kept.is_ok() {
            *self.places.lock().unwrap_or_else(PoisonError::into_inner) = self.router.places();
        }
        if taken.reply.send(kept).is_err() {
            tracing::debug!("nobody waits for the answer to a batch any more");
        }
    }

    /// Brings what changed to the disk. What fails is tried again; messages go out meanwhile all the same, since a full disk
    /// is no reason to be silent.
    fn keep(&mut self) -> Result<(), String> {
        self.pending.extend(self.router.state_mut().take_changes());
        match self.journal.append(&self.pending, self.router.state()) {
            Ok(()) => {
                self.pending.clear();
                Ok(())
            }
            Err(error) => {
                self.metrics.journal_failures.inc();
                Err(daemon::report(&error))
            }
        }
    }

    fn sent(&mut self, sent: Result<(tokio::task::Id, Outcome), tokio::task::JoinError>) {
        let (task, outcome) = match sent {
            Ok(sent) => sent,
            // a defect of ours; what it concerns must not stand still for ever
            Err(error) => (error.id(), Outcome::Later { reason: format!("broke off: {error}"), after: None }),
        };
        let Some(job) = self.flying.remove(&task) else { return };
        let to = &self.router.plan().destinations[job.destination];
        let id = &job.item.id;
        self.metrics.outcome(&to.name, to.channel.type_name(), &outcome);
        match &outcome {
            Outcome::Delivered => tracing::info!(destination = to.name, delivery_id = id, "delivered"),
            Outcome::Later { reason, .. } => {
                tracing::warn!(destination = to.name, delivery_id = id, reason, "not delivered, will be tried again");
            }
            Outcome::Refused { reason } => {
                tracing::error!(destination = to.name, delivery_id = id, reason, "refused, will not be tried again");
            }
        }
        let now = self.now();
        self.router.finished(&job, outcome, now);
    }

    fn written(&mut self, id: &str) {
        self.in_letters.remove(id);
        self.router.letter_written(id);
    }

    /// Lets time pass and sends what may go.
    fn go_on(&mut self, to_write: &SyncSender<(String, Letter)>) {
        let now = self.now();
        self.router.tick(now);
        for destination in 0..self.router.plan().destinations.len() {
            while let Some(job) = self.router.next(destination, now) {
                let sender = Arc::clone(&self.sender);
                let (destination, item) = (job.destination, job.item.clone());
                let task = self.sends.spawn(async move { sender.send(destination, &item).await });
                self.flying.insert(task.id(), job);
            }
        }
        for (id, letter) in self.router.state().letters.iter() {
            if self.in_letters.contains(id) {
                continue;
            }
            match to_write.try_send((id.to_owned(), letter.clone())) {
                Ok(()) => {
                    self.in_letters.insert(id.to_owned());
                }
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => break,
            }
        }
        if let Err(error) = self.keep() {
            tracing::error!(error, "the router's memory is not written, calls may come twice after a restart");
        }
        self.beat();
        let standings = self.router.standings();
        self.metrics.show(&standings);
        *self.standings.lock().unwrap_or_else(PoisonError::into_inner) = standings;
    }

    /// From this loop on purpose: a router that hangs is silent, and the watcher hears it (RTE-10).
    fn beat(&mut self) {
        let Some(every) = self.router.plan().heartbeat.as_ref().map(|beat| beat.every) else { return };
        if Instant::now() < self.beat_due || !self.beats.is_empty() {
            return;
        }
        self.beat_due = Instant::now() + every;
        let sender = Arc::clone(&self.sender);
        self.beats.spawn(async move {
            if let Err(reason) = sender.beat().await {
                tracing::warn!(reason, "the watcher did not take the sign of life");
            }
        });
    }
}

/// The thread that writes letters; the stream may keep it waiting.
#[expect(clippy::type_complexity, reason = "two ends of two queues")]
fn writer(
    mut letters: Box<dyn Letters>,
    stop: CancellationToken,
) -> (Option<SyncSender<(String, Letter)>>, Option<mpsc::Receiver<String>>) {
    let (to_write, inbox) = sync_channel::<(String, Letter)>(LETTERS_MAX);
    let (done, written) = mpsc::channel(LETTERS_MAX);
    let body = move || {
        for (id, letter) in inbox {
            while let Err(error) = letters.write(&id, &letter) {
                tracing::warn!(error = %daemon::report(&error), "an undelivered message is not written down yet");
                if stop.is_cancelled() {
                    return;
                }
                std::thread::sleep(LETTER_WAIT);
            }
            if done.blocking_send(id).is_err() {
                return;
            }
        }
    };
    match std::thread::Builder::new().name("alert-letters".to_owned()).spawn(body) {
        Ok(_) => (Some(to_write), Some(written)),
        Err(error) => {
            tracing::error!(%error, "the thread for undelivered messages cannot be started");
            (None, None)
        }
    }
}
