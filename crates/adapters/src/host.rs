//! The loop that runs an adapter: connects, polls on time, judges devices, and hands samples to the outbox.
//!
//! Invariants:
//! - Polls keep a fixed rate; missed ticks are counted, never caught up (MB-36).
//! - A dead device, cable or broker never ends the process and never makes it look dead (G-09).
//! - Every tag of a due group is accounted for in every poll: as a value, or as BAD with a reason.
//!
//! Where to look next: [`crate::schedule`], [`crate::device`], [`crate::transitions`] hold the decisions; [`crate::pump`]
//! takes the samples from here to the stream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daemon::clock::Watch;
use daemon::{Backoff, Board};
use model::{Clock, Health, Quality, reason};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::adapter::{Adapter, LinkError};
use crate::device::{self, Device, State};
use crate::metrics::{AdapterMetrics, ByCause, ByDevice, ByReason, ByResult};
use crate::notice::{DEVICE_STATE, Notice};
use crate::outbox::{Batch, Outbox};
use crate::sample::{Cycle, DeviceNote, Sample};
use crate::schedule::Schedule;
use crate::stamping::Stamper;
use crate::transitions::Transitions;

/// First wait after a failed connection (MB-25).
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Each wait is varied by this, so that a plant does not come back all at once.
const BACKOFF_JITTER_PERCENT: u32 = 20;
/// Good traffic for this long and the next failure waits the shortest time again.
const GOOD_TRAFFIC: Duration = Duration::from_secs(30);
/// `/health` is refreshed at least this often while polls run.
const BOARD_REFRESH: Duration = Duration::from_secs(1);

/// How often the host looks at its clock when no poll makes it.
const CLOCK_LOOK: Duration = Duration::from_secs(1);

/// What the host needs from its process.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub clock: Arc<dyn Clock>,
    /// What that clock is worth.
    pub watch: Arc<Watch>,
    /// How long readings wait for a clock that is not set at the start.
    pub boot_hold: Duration,
    /// Start counter of the adapter.
    pub epoch: i64,
    pub board: Arc<Board>,
    pub metrics: AdapterMetrics,
}

/// Runs one adapter.
#[derive(Debug)]
pub struct Host<'a, A> {
    adapter: A,
    outbox: &'a Outbox,
    around: Surroundings,
    schedules: Vec<Schedule>,
    devices: Vec<Device>,
    transitions: Transitions,
    cycle: Cycle,
    /// Of the tags of the group being polled, which were reported.
    reported: Vec<bool>,
    seq: i64,
    stamper: Stamper,
    /// Number of the next notice.
    notices: i64,
    link: Link,
    backoff: Backoff,
    shown: Option<(Health, Instant)>,
    states: Vec<State>,
    /// By device: it was told of at least once.
    told: Vec<bool>,
}

/// The connection as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// The device said something over it yet, or not.
    Up {
        since: Instant,
        proven: bool,
    },
    Down {
        retry_at: Instant,
    },
}

impl<'a, A: Adapter> Host<'a, A> {
    /// Takes an adapter over; `seed` decorrelates the waits of processes that start together.
    pub fn new(adapter: A, outbox: &'a Outbox, around: Surroundings, seed: u64) -> Self {
        let now = Instant::now();
        let groups = adapter.groups();
        let fastest = groups.iter().map(|group| group.period).min().unwrap_or_default();
        let count = u32::try_from(groups.len()).unwrap_or(u32::MAX).max(1);
        let phase = |index: usize| fastest / count * u32::try_from(index).unwrap_or(u32::MAX);
        let schedules =
            groups.iter().enumerate().map(|(index, group)| Schedule::new(now + phase(index), group.period)).collect();
        let devices: Vec<Device> = (0..adapter.devices().len())
            .map(|device| {
                let of_device = adapter.tags().iter().filter(|tag| tag.device == device);
                let period = of_device.filter_map(|tag| groups.get(tag.group)).map(|group| group.period).min();
                Device::new(now, period.unwrap_or(fastest))
            })
            .collect();
        Self {
            transitions: Transitions::new(adapter.tags().len(), devices.len()),
            cycle: Cycle::new(devices.len()),
            reported: vec![false; adapter.tags().len()],
            states: vec![State::Ok; devices.len()],
            told: vec![false; devices.len()],
            stamper: Stamper::new(Arc::clone(&around.watch), around.epoch, adapter.tags().len(), around.boot_hold),
            notices: 0,
            adapter,
            outbox,
            around,
            schedules,
            devices,
            seq: 0,
            link: Link::Down { retry_at: now },
            backoff: Backoff::new(BACKOFF_MIN, BACKOFF_MAX, BACKOFF_JITTER_PERCENT, seed),
            shown: None,
        }
    }

    /// Polls until `stop`. A poll in progress is abandoned then: its samples are not complete yet.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! { // cancel-safe enough: a dropped poll loses only what the device would be asked again
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
        let held = self.stamper.end();
        self.put(held);
        self.around.metrics.link_state.set(0);
    }

    async fn work(&mut self) {
        loop {
            self.look_at_clock();
            if let Link::Down { retry_at } = self.link
                && Instant::now() >= retry_at
            {
                self.connect().await;
            }
            if let Some(group) = self.due_group() {
                self.tick(group).await;
                continue;
            }
            let next_tick = self.schedules.iter().map(Schedule::next).min();
            let wake = match (next_tick, self.link) {
                (Some(tick), Link::Down { retry_at }) => tick.min(retry_at),
                (Some(tick), Link::Up { .. }) => tick,
                (None, _) => return,
            };
            tokio::time::sleep_until(wake.min(Instant::now() + CLOCK_LOOK)).await;
        }
    }

    /// The fastest group whose tick has come (MB-37); groups are sorted by period.
    fn due_group(&self) -> Option<usize> {
        let now = Instant::now();
        self.schedules.iter().position(|schedule| schedule.lateness(now).is_some())
    }

    async fn connect(&mut self) {
        match self.adapter.connect().await {
            Ok(()) => {
                tracing::info!("connected");
                self.link = Link::Up { since: Instant::now(), proven: false };
                self.around.metrics.link_state.set(1);
            }
            Err(error) => self.link_lost(&error),
        }
    }

    fn link_lost(&mut self, error: &LinkError) {
        if let Link::Up { since, proven: true } = self.link
            && since.elapsed() >= GOOD_TRAFFIC
        {
            self.backoff.reset();
        }
        let delay = self.backoff.next_delay();
        let retry_in_ms = delay.as_millis();
        if self.backoff.attempts() == 1 {
            tracing::warn!(error = %daemon::report(error), retry_in_ms, "no connection");
        } else {
            tracing::debug!(error = %daemon::report(error), retry_in_ms, "still no connection");
        }
        self.around.board.detail("last_link_error", daemon::report(error));
        self.link = Link::Down { retry_at: Instant::now() + delay };
        self.around.metrics.link_state.set(0);
    }

    async fn tick(&mut self, group: usize) {
        let connected = matches!(self.link, Link::Up { .. });
        let lateness = self.schedules[group].lateness(Instant::now()).unwrap_or_default();
        if connected {
            self.around.metrics.poll_jitter_ms.observe(lateness.as_secs_f64() * 1000.0);
        }
        self.cycle.clear();
        self.stamper.begin();
        if connected && let Err(error) = self.poll(group).await {
            self.link_lost(&error);
        }
        let missed = self.schedules[group].finish(Instant::now());
        // Ticks that pass while there is no connection are not the poll's slowness.
        let missed = if connected { missed } else { 0 };
        self.around.metrics.poll_overruns.inc_by(missed);
        self.complete(group);
        self.judge(group, missed);
        self.hand_over();
    }

    /// One poll. A device that merely hung up on an idle connection gets one silent second chance (MB-24).
    async fn poll(&mut self, group: usize) -> Result<(), LinkError> {
        let first = self.adapter.poll(group, &mut self.cycle).await;
        let result = match first {
            Err(error) if error.is_hang_up() && matches!(self.link, Link::Up { proven: true, .. }) => {
                tracing::debug!(error = %daemon::report(&error), "connecting again at once");
                self.cycle.clear();
                self.adapter.connect().await?;
                self.link = Link::Up { since: Instant::now(), proven: false };
                self.adapter.poll(group, &mut self.cycle).await
            }
            other => other,
        };
        if let Link::Up { since, proven } = self.link {
            let answered = self.cycle.devices.iter().any(|note| note.answered);
            self.link = Link::Up { since, proven: proven || answered };
            if result.is_ok() && since.elapsed() >= GOOD_TRAFFIC {
                self.backoff.reset();
            }
        }
        result
    }

    /// Reports every tag of the group the adapter could not.
    fn complete(&mut self, group: usize) {
        self.reported.fill(false);
        for sample in &self.cycle.samples {
            if let Some(reported) = self.reported.get_mut(sample.tag) {
                *reported = true;
            }
        }
        let now = self.around.clock.now();
        for (index, tag) in self.adapter.tags().iter().enumerate() {
            if tag.group == group && !self.reported[index] {
                self.cycle.samples.push(Sample::bad(index, reason::COMM_FAIL, now));
                let note = &mut self.cycle.devices[tag.device];
                (note.asked, note.failed) = (true, true);
            }
        }
    }

    /// Takes the poll into account for device states, metrics and health.
    fn judge(&mut self, group: usize, missed: u64) {
        let now = Instant::now();
        let metrics = &self.around.metrics;
        for round_trip in self.cycle.round_trips.drain(..) {
            metrics.request_rtt_ms.observe(round_trip.as_secs_f64() * 1000.0);
        }
        for reason in self.cycle.discarded.drain(..) {
            metrics.discarded.get_or_create(&ByReason { reason }).inc();
        }
        let asked = |note: &&DeviceNote| note.asked;
        let failed = self.cycle.devices.iter().filter(asked).filter(|note| note.failed).count();
        let answered = self.cycle.devices.iter().filter(asked).filter(|note| note.answered).count();
        let result = match (failed, answered) {
            (0, _) => "ok",
            (_, 0) => "failed",
            _ => "partial",
        };
        metrics.poll_cycles.get_or_create(&ByResult { result }).inc();
        let mut changes = Vec::new();
        let mut sentence = None;
        for (index, device) in self.devices.iter_mut().enumerate() {
            let note = self.cycle.devices[index];
            device.observe(note, missed, now);
            let (state, why) = device.state(now);
            if state != State::Ok && sentence.is_none() {
                sentence = Some((index, why));
            }
            let from = self.states[index];
            // Without the first answer nobody would learn that a device is back which was down when this process began.
            let first = !self.told[index] && note.answered;
            if from != state || first {
                let device = self.adapter.devices()[index].clone();
                changes.push(device_notice(&device, self.told[index].then_some(from), state, why));
                self.told[index] = true;
                if from != state {
                    tracing::warn!(device, from = from.as_str(), to = state.as_str(), why, "device state");
                }
                metrics.device_state.get_or_create(&ByDevice { device }).set(state.as_number());
                self.states[index] = state;
            }
        }
        tracing::trace!(group, result, missed, "polled");
        let health = device::roll_up(&self.states);
        let stale = self.shown.is_none_or(|(shown, at)| shown != health || now.duration_since(at) >= BOARD_REFRESH);
        if !changes.is_empty() || stale {
            self.show(health, sentence, now);
        }
        for notice in changes {
            self.tell(notice);
        }
    }

    fn show(&mut self, health: Health, sentence: Option<(usize, &'static str)>, now: Instant) {
        let board = &self.around.board;
        let text = match sentence {
            Some((device, why)) => format!("{} {why}", self.adapter.devices()[device]),
            None => "all devices answer".to_owned(),
        };
        board.set(health, text);
        let states: BTreeMap<&str, &str> =
            self.adapter.devices().iter().map(String::as_str).zip(self.states.iter().map(|s| s.as_str())).collect();
        board.detail("devices", serde_json::json!(states));
        board.detail("connected", matches!(self.link, Link::Up { .. }));
        board.detail("clock_state", self.around.watch.state().as_str());
        board.detail("held_records", self.stamper.held());
        self.shown = Some((health, now));
        let newest = self.cycle.samples.iter().filter(|sample| sample.verdict.quality() != Quality::Bad);
        if let Some(at) = newest.map(|sample| sample.device_time).max() {
            board.detail("last_reading_at", at.to_string());
        }
    }

    /// Numbers the samples worth writing and puts them into the outbox.
    fn hand_over(&mut self) {
        let now = Instant::now();
        self.look_at_clock();
        let stamp = self.stamper.stamp();
        let mut backwards = 0;
        let mut worth = Vec::with_capacity(self.cycle.samples.len());
        for mut sample in self.cycle.samples.drain(..) {
            let device = self.adapter.tags()[sample.tag].device;
            if !self.transitions.admit(&mut sample, device, now) {
                self.around.metrics.suppressed.inc();
                continue;
            }
            backwards += u64::from(self.stamper.mark(&mut sample, &stamp));
            sample.seq = self.seq;
            self.seq += 1;
            worth.push(sample);
        }
        self.stamper.count_backwards(backwards);
        if !worth.is_empty() {
            let out = self.stamper.pass(Batch::new(worth), &stamp);
            self.put(out);
        }
    }

    /// Sends on what waited for the clock, and tells that it was set.
    fn look_at_clock(&mut self) {
        let released = self.stamper.look();
        self.put(released.batches);
        for notice in released.notices {
            self.tell(notice);
        }
        self.around.metrics.held_records.set(i64::try_from(self.stamper.held()).unwrap_or(i64::MAX));
    }

    /// Stamps and numbers a notice and sends it the way of the readings.
    fn tell(&mut self, mut notice: Notice) {
        let stamp = self.stamper.stamp();
        (notice.at, notice.clock_state, notice.number) = (stamp.wall, stamp.state, self.notices);
        self.notices += 1;
        let out = self.stamper.pass(Batch::of(notice), &stamp);
        self.put(out);
    }

    fn put(&self, batches: Vec<Batch>) {
        let dropped: u64 = batches.into_iter().map(|batch| self.outbox.push(batch)).sum();
        if dropped > 0 {
            let metrics = &self.around.metrics;
            metrics.discarded.get_or_create(&ByReason { reason: "buffer_full" }).inc_by(dropped);
            metrics.lost.get_or_create(&ByCause { cause: "buffer_full" }).inc_by(dropped);
            tracing::warn!(dropped, "the stream takes no readings and the buffer is full: the oldest were dropped");
        }
    }
}

/// AC-087: one alarm of a device comes from this, and none of its tags.
fn device_notice(device: &str, from: Option<State>, to: State, why: &'static str) -> Notice {
    Notice {
        from: from.map(State::as_str),
        to: Some(to.as_str()),
        details: vec![("device", device.to_owned()), ("reason", why.to_owned())],
        ..Notice::new(DEVICE_STATE, format!("{device} {why}"))
    }
}
