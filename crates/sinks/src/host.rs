//! The loop that runs a sink: it owns the subscription, batching, retries, the breaker, commits, health and metrics.
//!
//! ```text
//! connect -> open at the positions the target names -> gather -> write -> settle -> confirm -> mirror to the group
//!    ^                                                                 |
//!    +---- any failure of the target: backoff, after five the breaker -+
//! ```
//!
//! Invariants:
//! - One batch is in hand and nothing more: while the target is away, nothing is read ahead (OFF-13).
//! - A position is committed only after the sink confirmed it; the group's commits merely mirror it for tools where the
//!   target keeps positions itself.
//! - A refused record is durable in the dead letters before its position moves on, and it never touches the breaker (R-09).
//! - Trouble with the stream is not the target's fault and never touches the breaker either.
//!
//! Synchronous on purpose: it runs on a thread of its own, so that the admin server answers whatever happens here.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use daemon::breaker::State;
use daemon::{Backoff, Board, Breaker, report};
use model::{Clock, Health, Timestamp};
use stream::Topic;
use stream::subscription::Gap;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::batch::{Batch, Place};
use crate::dead_letters::{CAUSE_EVICTED, DeadLetters};
use crate::error::{StreamError, TargetError};
use crate::metrics::{CauseLabel, ReasonLabel, SinkMetrics, TopicLabel};
use crate::schema_gate::SchemaGate;
use crate::sink::{Outcome, Refusal, Resume, Sink};
use crate::source::Source;

/// Records asked for in one go; between two goes the limits of the batch are looked at.
const SLICE_RECORDS: usize = 1024;
/// How often health and gauges are brought up to date.
const REPORT_EVERY_MS: u64 = 500;

/// When a batch is full. Reaching a limit means: write now, read on afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    pub rows_max: usize,
    /// May be passed by one slice of records.
    pub bytes_max: usize,
    /// How long the first record of a batch waits for company.
    pub wait: Duration,
}

/// How patient the host is with the target.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Failures in a row that open the breaker, and how long it stays open.
    pub failures_max: u32,
    pub cooldown: Duration,
    /// Wait after the first failure, doubled up to the maximum.
    pub backoff: Duration,
    pub backoff_max: Duration,
    /// A call of the target that takes longer has failed.
    pub call_max: Duration,
    /// What is in hand at the stop has this long to be written.
    pub drain_max: Duration,
    /// How long one look at the stream waits for a record.
    pub idle: Duration,
    /// How often positions are mirrored to the consumer group.
    pub commit_every: Duration,
    /// How often the ends of the stream are asked for.
    pub lag_every: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            failures_max: 5,
            cooldown: Duration::from_secs(30),
            backoff: Duration::from_millis(200),
            backoff_max: Duration::from_secs(5),
            call_max: Duration::from_secs(60),
            drain_max: Duration::from_secs(10),
            idle: Duration::from_millis(250),
            commit_every: Duration::from_secs(1),
            lag_every: Duration::from_secs(2),
        }
    }
}

/// What a host is given by its process.
#[derive(Debug)]
pub struct Surroundings {
    pub sink_id: String,
    pub topics: Vec<Topic>,
    pub limits: BatchLimits,
    pub patience: Patience,
    pub runtime: Handle,
    pub stop: CancellationToken,
    pub clock: Arc<dyn Clock>,
    pub board: Arc<Board>,
    pub metrics: SinkMetrics,
}

/// Whose fault a failed attempt was.
#[derive(Debug)]
enum Trouble {
    Target(TargetError),
    Stream(StreamError),
}

impl From<TargetError> for Trouble {
    fn from(error: TargetError) -> Self {
        Self::Target(error)
    }
}

impl From<StreamError> for Trouble {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

/// The loop and its state.
#[derive(Debug)]
pub struct Host<S, I, D> {
    sink: S,
    source: I,
    letters: D,
    gate: SchemaGate,
    around: Surroundings,
    started: Instant,
    breaker: Breaker,
    backoff: Backoff,
    connected: bool,
    /// Where to open the source; taken when it worked.
    resume: Option<Resume>,
    batch: Batch,
    gaps: Vec<Gap>,
    /// Refused records whose position is not confirmed yet; they are not buried twice.
    buried: BTreeSet<Place>,
    confirmed: BTreeMap<(Topic, i32), i64>,
    uncommitted: BTreeMap<(Topic, i32), i64>,
    committed_at_ms: u64,
    lag: i64,
    lag_due_ms: u64,
    reported_at_ms: u64,
    written: u64,
    dead: u64,
    last_write_at: Option<Timestamp>,
    /// Kafka time of the oldest record that was read and is not confirmed.
    oldest_ms: Option<i64>,
    /// Kafka time of what was confirmed last: nothing unread is older.
    reached_ms: Option<i64>,
    /// The last failed attempt, until one works.
    trouble: Option<(Health, String)>,
}

impl<S: Sink, I: Source, D: DeadLetters> Host<S, I, D> {
    pub fn new(sink: S, source: I, letters: D, gate: SchemaGate, around: Surroundings) -> Self {
        let patience = around.patience;
        let seed = around.sink_id.bytes().fold(1_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        Self {
            sink,
            source,
            letters,
            gate,
            around,
            started: Instant::now(),
            breaker: Breaker::new(patience.failures_max, patience.cooldown),
            backoff: Backoff::new(patience.backoff, patience.backoff_max, 20, seed),
            connected: false,
            resume: None,
            batch: Batch::new(),
            gaps: Vec::new(),
            buried: BTreeSet::new(),
            confirmed: BTreeMap::new(),
            uncommitted: BTreeMap::new(),
            committed_at_ms: 0,
            lag: 0,
            lag_due_ms: 0,
            reported_at_ms: 0,
            written: 0,
            dead: 0,
            last_write_at: None,
            oldest_ms: None,
            reached_ms: None,
            trouble: None,
        }
    }

    /// Runs until the stop token; then what is in hand is written within the drain time.
    pub fn run(&mut self) -> Result<(), Error> {
        self.report();
        while !self.around.stop.is_cancelled() {
            self.round()?;
        }
        self.drain()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// One attempt, or a wait while the breaker is open.
    fn round(&mut self) -> Result<(), Error> {
        let now = self.now_ms();
        if !self.breaker.allows(now) {
            self.report_when_due();
            self.pause(self.breaker.wait(now).min(Duration::from_millis(REPORT_EVERY_MS)));
            return Ok(());
        }
        match self.attempt(false) {
            Ok(()) => {
                self.breaker.success();
                self.backoff.reset();
                self.trouble = None;
                self.report_when_due();
                Ok(())
            }
            Err(trouble) => self.wait_out(trouble),
        }
    }

    fn wait_out(&mut self, trouble: Trouble) -> Result<(), Error> {
        match trouble {
            Trouble::Target(TargetError::Fenced { target }) => {
                tracing::error!(target, "a newer process writes as this sink");
                Err(Error::Fenced { sink_id: self.around.sink_id.clone() })
            }
            Trouble::Target(error) => {
                self.connected = false;
                self.around.metrics.failures.inc();
                let text = report(&error);
                let opened = self.breaker.failure(self.now_ms());
                tracing::warn!(error = %text, breaker = self.breaker.state().as_str(), "the target failed");
                self.trouble = Some((if opened { Health::Unhealthy } else { Health::Degraded }, text));
                self.report();
                if !opened {
                    let delay = self.backoff.next_delay();
                    self.pause(delay);
                }
                Ok(())
            }
            Trouble::Stream(error) => {
                let text = report(&error);
                tracing::warn!(error = %text, "the stream failed");
                self.trouble = Some((Health::Degraded, text));
                self.report();
                let delay = self.backoff.next_delay();
                self.pause(delay);
                Ok(())
            }
        }
    }

    /// The whole way of one batch. Whatever fails, the next attempt begins at the top.
    fn attempt(&mut self, closing: bool) -> Result<(), Trouble> {
        self.connect()?;
        self.open()?;
        if self.batch.is_empty() && !closing {
            self.gather()?;
        }
        self.write()?;
        self.settle(closing)?;
        self.commit(closing);
        if !closing {
            self.measure_lag();
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), TargetError> {
        if self.connected {
            return Ok(());
        }
        let around = &self.around;
        let target = self.sink.standing().target;
        let call = self.sink.connect(&around.topics);
        let resume = around.runtime.block_on(limited(around, target, "connecting", call))?;
        if resume != Resume::Continue {
            self.batch.clear(); // the target decides what comes next
            self.confirmed.clear();
            self.resume = Some(resume);
        }
        self.connected = true;
        self.around.board.set_ready(true);
        Ok(())
    }

    fn open(&mut self) -> Result<(), StreamError> {
        if let Some(resume) = &self.resume {
            self.source.open(resume)?;
            self.resume = None;
            let at = self.source.positions();
            if self.confirmed.is_empty() {
                self.oldest_ms = None;
            }
            for place in &at {
                self.confirmed.entry((place.topic, place.partition)).or_insert(place.offset);
            }
            self.lag_due_ms = 0;
            tracing::info!(partitions = at.len(), "reading the stream");
        }
        self.gaps.extend(self.source.take_gaps());
        while let Some(gap) = self.gaps.last() {
            self.letters.lost(gap)?;
            let count = u64::try_from(gap.to - gap.from).unwrap_or(0);
            tracing::error!(
                topic = gap.topic,
                partition = gap.partition,
                count,
                "records were deleted before they were read"
            );
            self.around.metrics.lost.get_or_create(&CauseLabel { cause: CAUSE_EVICTED }).inc_by(count);
            if let Some(topic) = Topic::by_name(&gap.topic) {
                self.confirmed.insert((topic, gap.partition), gap.to);
            }
            self.gaps.pop();
        }
        Ok(())
    }

    /// Reads until the batch is full or its first record waited long enough. A lone record leaves soon, a flood in
    /// large batches.
    fn gather(&mut self) -> Result<(), StreamError> {
        let limits = self.around.limits;
        let idle = self.around.patience.idle;
        let mut deadline = None;
        loop {
            let room = limits.rows_max.saturating_sub(self.batch.len()).min(SLICE_RECORDS);
            let wait = deadline.map_or(idle, |deadline: Instant| deadline.saturating_duration_since(Instant::now()));
            let polled = self.source.poll(&mut self.batch, room, wait);
            if let Err(error) = polled {
                self.resume = Some(Resume::At(self.source.positions()));
                return Err(error);
            }
            if self.batch.is_empty() {
                break;
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + limits.wait);
            let full = self.batch.len() >= limits.rows_max || self.batch.bytes() >= limits.bytes_max;
            if full || Instant::now() >= deadline || self.around.stop.is_cancelled() {
                break;
            }
        }
        self.oldest_ms = self.oldest_ms.or(self.batch.oldest_ms());
        if !self.buried.is_empty() {
            let again: Vec<usize> =
                self.batch.iter().filter(|(_, record)| self.buried.contains(&record.place)).map(|(i, _)| i).collect();
            for index in again {
                self.batch.exclude(index);
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Trouble> {
        while !self.batch.is_empty() {
            let refusals = self.gate.check(&self.batch, &self.around.runtime, self.now_ms())?;
            self.bury(refusals)?;
            let begin = Instant::now();
            let target = self.sink.standing().target;
            let call = self.sink.write(&self.batch);
            let around = &self.around;
            match around.runtime.block_on(limited(around, target.clone(), "writing", call))? {
                Outcome::Taken { confirmed } => {
                    self.around.metrics.batches.inc();
                    self.around.metrics.write_seconds.observe(begin.elapsed().as_secs_f64());
                    self.reached_ms = self.batch.oldest_ms().or(self.reached_ms);
                    self.batch.clear();
                    self.confirm(&confirmed);
                }
                Outcome::Refused(refusals) => {
                    let helps = refusals.iter().any(|r| r.index < self.batch.len() && !self.batch.is_excluded(r.index));
                    if !helps {
                        let source = "the sink refused no record that could be taken out".into();
                        return Err(TargetError::Failed { target, doing: "writing", source }.into());
                    }
                    self.bury(refusals)?;
                }
            }
        }
        Ok(())
    }

    fn bury(&mut self, refusals: Vec<Refusal>) -> Result<(), StreamError> {
        for refusal in refusals {
            let Some(record) = self.batch.record(refusal.index) else { continue };
            if !self.buried.contains(&record.place) {
                self.letters.bury(&record, &refusal)?;
                let Place { topic, partition, offset } = record.place;
                tracing::warn!(
                    topic = topic.name(),
                    partition,
                    offset,
                    reason = refusal.reason,
                    detail = refusal.detail,
                    "record sent to the dead letters"
                );
                self.around.metrics.dead_letters.get_or_create(&ReasonLabel { reason: refusal.reason }).inc();
                self.dead += 1;
                self.buried.insert(record.place);
            }
            self.batch.exclude(refusal.index);
        }
        Ok(())
    }

    fn settle(&mut self, closing: bool) -> Result<(), TargetError> {
        let around = &self.around;
        let target = self.sink.standing().target;
        let now_ms = self.now_ms();
        let call = self.sink.settle(now_ms, closing);
        let confirmed = around.runtime.block_on(limited(around, target, "closing what was gathered", call))?;
        self.confirm(&confirmed);
        Ok(())
    }

    fn confirm(&mut self, places: &[Place]) {
        for place in places {
            let key = (place.topic, place.partition);
            let before = self.confirmed.insert(key, place.offset).unwrap_or(place.offset);
            self.uncommitted.insert(key, place.offset);
            let first = Place { offset: i64::MIN, ..*place };
            let dead: Vec<Place> = self.buried.range(first..*place).copied().collect();
            for place in &dead {
                self.buried.remove(place);
            }
            let passed = u64::try_from(place.offset - before).unwrap_or(0);
            let written = passed.saturating_sub(u64::try_from(dead.len()).unwrap_or(u64::MAX));
            self.written += written;
            let label = TopicLabel { topic: place.topic.name() };
            self.around.metrics.records.get_or_create(&label).inc_by(written);
        }
        if !places.is_empty() {
            self.last_write_at = Some(self.around.clock.now());
            let open = |at: &Place| self.confirmed.get(&(at.topic, at.partition)).is_some_and(|done| *done < at.offset);
            if !self.source.positions().iter().any(open) {
                self.oldest_ms = None;
            }
        }
    }

    /// Mirrors confirmed positions to the consumer group. A failure is only a delay.
    fn commit(&mut self, now: bool) {
        let now_ms = self.now_ms();
        let every = u64::try_from(self.around.patience.commit_every.as_millis()).unwrap_or(u64::MAX);
        if self.uncommitted.is_empty() || !(now || now_ms.saturating_sub(self.committed_at_ms) >= every) {
            return;
        }
        self.committed_at_ms = now_ms;
        let place = |((topic, partition), offset): (&(Topic, i32), &i64)| Place {
            topic: *topic,
            partition: *partition,
            offset: *offset,
        };
        let places: Vec<Place> = self.uncommitted.iter().map(place).collect();
        match self.source.commit(&places) {
            Ok(()) => self.uncommitted.clear(),
            Err(error) => tracing::warn!(error = %report(&error), "positions are not mirrored to the group yet"),
        }
    }

    fn measure_lag(&mut self) {
        let now_ms = self.now_ms();
        if now_ms < self.lag_due_ms {
            return;
        }
        let every = u64::try_from(self.around.patience.lag_every.as_millis()).unwrap_or(u64::MAX);
        match self.source.ends() {
            Ok(ends) => {
                let behind = |end: &Place| {
                    let done = self.confirmed.get(&(end.topic, end.partition)).copied().unwrap_or(0);
                    (end.offset - done).max(0)
                };
                self.lag = ends.iter().map(behind).sum();
                self.lag_due_ms = now_ms + every;
            }
            Err(error) => {
                tracing::debug!(error = %report(&error), "the lag is not known");
                self.lag_due_ms = now_ms + every * 5; // the question blocks while the stream is away
            }
        }
    }

    fn report_when_due(&mut self) {
        if self.now_ms().saturating_sub(self.reported_at_ms) >= REPORT_EVERY_MS {
            self.report();
        }
    }

    /// Brings `/health` and the gauges up to date.
    fn report(&mut self) {
        self.reported_at_ms = self.now_ms();
        let standing = self.sink.standing();
        let state = self.breaker.state();
        let (health, reason) = match (&self.trouble, state) {
            (Some((_, text)), State::Open | State::HalfOpen) => {
                let wait = self.breaker.wait(self.now_ms()).as_secs();
                (Health::Unhealthy, format!("circuit breaker {}, next trial in {wait} s: {text}", state.as_str()))
            }
            (Some((health, text)), State::Closed) => (*health, text.clone()),
            (None, _) if standing.health != Health::Healthy => (standing.health, standing.reason.clone()),
            (None, _) if !self.connected => (Health::Healthy, format!("connecting to {}", standing.target)),
            (None, _) => (Health::Healthy, format!("writing to {}", standing.target)),
        };
        let now_ms = self.around.clock.now().as_millis();
        let oldest = self.oldest_ms.or(self.reached_ms.filter(|_| self.lag > 0));
        #[expect(clippy::cast_precision_loss, reason = "an age in milliseconds is far below 2^53")]
        let age_s = oldest.map_or(0.0, |oldest| (now_ms - oldest).max(0) as f64 / 1000.0);
        let board = &self.around.board;
        board.set(health, reason);
        board.detail("lag_records", self.lag);
        board.detail("written_records", self.written);
        board.detail("dead_letters", self.dead);
        board.detail("last_write_at", self.last_write_at.map(|at| at.to_string()));
        board.detail("breaker_state", state.as_str());
        board.detail("oldest_age_s", age_s);
        board.detail("target", standing.target);
        for (key, value) in standing.details {
            board.detail(key, value);
        }
        let metrics = &self.around.metrics;
        metrics.lag_records.set(self.lag);
        metrics.oldest_age_s.set(age_s);
        metrics.breaker_state.set(match state {
            State::Closed => 0,
            State::HalfOpen => 1,
            State::Open => 2,
        });
    }

    /// Waits; the stop token ends the wait early.
    fn pause(&self, delay: Duration) {
        let around = &self.around;
        around.runtime.block_on(async {
            tokio::select! { // cancel-safe: both arms only wait
                () = tokio::time::sleep(delay) => {}
                () = around.stop.cancelled() => {}
            }
        });
    }

    /// Writes what is in hand, once. What stays is read again at the next start.
    fn drain(&mut self) -> Result<(), Error> {
        let result = if self.connected { self.attempt(true) } else { Ok(()) };
        if let Err(trouble) = result {
            let text = match trouble {
                Trouble::Target(error) => report(&error),
                Trouble::Stream(error) => report(&error),
            };
            tracing::warn!(error = %text, "what is in hand was not written at the stop");
            self.commit(true);
        }
        self.report();
        if self.batch.is_empty() { Ok(()) } else { Err(Error::Unconfirmed { records: self.batch.len() }) }
    }
}

/// A call of the target with its time limit; after the stop it has only the drain time.
async fn limited<T>(
    around: &Surroundings,
    target: String,
    doing: &'static str,
    call: impl Future<Output = Result<T, TargetError>>,
) -> Result<T, TargetError> {
    let Patience { call_max, drain_max, .. } = around.patience;
    let stopping = async {
        around.stop.cancelled().await;
        tokio::time::sleep(drain_max).await;
    };
    tokio::select! {
        result = call => result, // dropping the call is safe: law 6 of the trait
        () = tokio::time::sleep(call_max) => Err(TargetError::TimedOut { target, doing, seconds: call_max.as_secs() }),
        () = stopping => Err(TargetError::TimedOut { target, doing, seconds: drain_max.as_secs() }),
    }
}
