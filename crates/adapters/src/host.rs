//! The loop that runs an adapter: connects, polls on time, hears what comes by itself, judges devices, and hands samples
//! to the outbox.
//!
//! Invariants:
//! - Polls keep a fixed rate; missed ticks are counted, never caught up (MB-36).
//! - A dead device, cable or broker never ends the process and never makes it look dead (G-09).
//! - Every tag of a due group is accounted for in every poll: as a value, or as BAD with a reason.
//!
//! Where to look next: [`crate::schedule`], [`crate::device`], [`crate::transitions`] hold the decisions; [`crate::pump`]
//! takes the samples from here to the stream.
//!
//! Long because: one loop, whose steps share the state of a connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daemon::clock::Watch;
use daemon::{Backoff, Board};
use model::{Clock, Health, Quality, reason};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::adapter::{Adapter, LinkError, Receipt};
use crate::device::{self, Device, State};
use crate::edges::States;
use crate::metrics::{AdapterMetrics, ByCause, ByDevice, ByReason, ByResult};
use crate::notice::{DEVICE_STATE, Notice};
use crate::outbox::{Batch, Outbox};
use crate::publishing::Publishing;
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

/// How often the host looks at its clock when no poll makes it, and at the link of a source that is not polled.
const LOOK: Duration = Duration::from_secs(1);
/// How long the end waits for what is owed to the source; after it the source sends the rest once more, some day.
const FAREWELL_MAX: Duration = Duration::from_secs(3);

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
    publishing: Publishing,
    point_states: States,
    cycle: Cycle,
    /// For a faster group while a slower one has paused.
    spare_cycles: Vec<Cycle>,
    /// Connections made so far.
    connections: u64,
    /// Of the tags of the group being polled, which were reported.
    reported: Vec<bool>,
    seq: i64,
    stamper: Stamper,
    /// Number of the next notice.
    notices: i64,
    /// Number of the next dead letter.
    letters: i64,
    /// The newest receipt that is owed, and the newest that was settled.
    owed: Receipt,
    settled: Receipt,
    /// When the link of a source that is not polled is looked at next.
    look_at: Instant,
    link: Link,
    backoff: Backoff,
    shown: Option<(Health, Instant)>,
    states: Vec<State>,
    /// By device: it was told of at least once.
    told: Vec<bool>,
    has_notes: bool,
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
            publishing: Publishing::default(),
            point_states: States::default(),
            cycle: Cycle::new(devices.len()),
            spare_cycles: Vec::new(),
            connections: 0,
            reported: vec![false; adapter.tags().len()],
            states: vec![State::Ok; devices.len()],
            told: vec![false; devices.len()],
            stamper: Stamper::new(Arc::clone(&around.watch), around.epoch, adapter.tags().len(), around.boot_hold),
            has_notes: false,
            notices: 0,
            letters: 0,
            owed: 0,
            settled: 0,
            look_at: now,
            adapter,
            outbox,
            around,
            schedules,
            devices,
            seq: 0,
            link: Link::Down { retry_at: now },
            backoff: if A::FULL_JITTER {
                Backoff::with_full_jitter(BACKOFF_MIN, BACKOFF_MAX, seed)
            } else {
                Backoff::new(BACKOFF_MIN, BACKOFF_MAX, BACKOFF_JITTER_PERCENT, seed)
            },
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
        if matches!(self.link, Link::Up { .. }) {
            self.farewell().await;
        }
        self.around.metrics.link_state.set(0);
    }

    /// Settles what becomes durable while the process ends, and closes.
    async fn farewell(&mut self) {
        let deadline = Instant::now() + FAREWELL_MAX;
        while self.settled < self.owed && Instant::now() < deadline {
            tokio::select! { // cancel-safe: both arms only wait
                () = self.outbox.settled() => self.settle(),
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
        if tokio::time::timeout(LOOK, self.adapter.close()).await.is_err() {
            tracing::debug!("the connection was cut, not closed");
        }
    }

    fn settle(&mut self) {
        if let Some(receipt) = self.outbox.take_settled() {
            self.settled = receipt;
            self.adapter.settle(receipt);
        }
    }

    async fn work(&mut self) {
        loop {
            self.look_at_clock();
            if let Link::Down { retry_at } = self.link
                && Instant::now() >= retry_at
            {
                self.connect().await;
            }
            self.settle();
            if let Some(group) = self.due_group() {
                self.tick(group).await;
                continue;
            }
            let now = Instant::now();
            if self.schedules.is_empty() && now >= self.look_at {
                self.look_at = now + LOOK;
                self.look_at_link();
            }
            let next_tick = self.schedules.iter().map(Schedule::next).min();
            let wake = next_tick.unwrap_or(self.look_at).min(now + LOOK);
            match self.link {
                Link::Down { retry_at } => tokio::time::sleep_until(wake.min(retry_at)).await,
                Link::Up { .. } => self.hear(wake).await,
            }
        }
    }

    /// Waits for what the source sends by itself, for a receipt that is due, or for the next thing to do.
    async fn hear(&mut self, wake: Instant) {
        self.cycle.clear();
        self.stamper.begin();
        let heard = tokio::select! { // cancel-safe: law 7, and the others only wait
            heard = self.adapter.hear(&mut self.cycle) => heard,
            () = self.outbox.settled() => return self.settle(),
            () = tokio::time::sleep_until(wake) => return,
        };
        match heard {
            Ok(()) => self.prove(),
            Err(error) => self.link_lost(&error),
        }
        if !self.cycle.is_empty() {
            self.hand_over();
        }
    }

    /// The other side said something.
    fn prove(&mut self) {
        if let Link::Up { since, .. } = self.link {
            self.link = Link::Up { since, proven: true };
            if since.elapsed() >= GOOD_TRAFFIC {
                self.backoff.reset();
            }
        }
    }

    /// A source that is not polled is as well as its link.
    fn look_at_link(&mut self) {
        let answered = matches!(self.link, Link::Up { .. });
        for note in &mut self.cycle.devices {
            *note = DeviceNote { asked: true, answered, failed: !answered, address_invalid: false };
        }
        if answered {
            self.prove();
        }
        self.judge_devices(0);
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
                self.connections += 1;
                self.link = Link::Up { since: Instant::now(), proven: false };
                self.around.metrics.link_state.set(1);
            }
            Err(error) => self.link_lost(&error),
        }
        for notice in self.adapter.take_notices() {
            self.tell(notice);
        }
        self.around.board.detail("link_reason", self.adapter.link_reason());
    }

    fn link_lost(&mut self, error: &LinkError) {
        if let Link::Up { since, proven: true } = self.link
            && since.elapsed() >= GOOD_TRAFFIC
        {
            self.backoff.reset();
        }
        let delay = self.backoff.next_delay().max(error.wait_min()).min(error.wait_max());
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
        if connected {
            self.poll_all(group).await;
        }
        let missed = self.schedules[group].finish(Instant::now());
        // Ticks that pass while there is no connection are not the poll's slowness.
        let missed = if connected { missed } else { 0 };
        self.around.metrics.poll_overruns.inc_by(missed);
        self.complete(group);
        self.judge(group, missed);
        self.hand_over();
    }

    /// One poll to its end, with pauses for faster groups: a slow one delays them by no more than a request (MB-37).
    async fn poll_all(&mut self, group: usize) {
        loop {
            self.cycle.pause_at = self.faster(group).map(Schedule::next).min();
            if let Err(error) = self.poll(group).await {
                return self.link_lost(&error);
            }
            if !std::mem::take(&mut self.cycle.is_paused) {
                return;
            }
            let (connections, devices) = (self.connections, self.devices.len());
            let cycle = self.spare_cycles.pop().unwrap_or_else(|| Cycle::new(devices));
            let (paused, began) = (std::mem::replace(&mut self.cycle, cycle), self.stamper.began());
            while let Some(due) = self.due_group().filter(|due| self.faster(group).len() > *due) {
                Box::pin(self.tick(due)).await;
            }
            self.spare_cycles.push(std::mem::replace(&mut self.cycle, paused));
            self.stamper.resume(began);
            // What paused belongs to the old connection: the rest of its tags are missing, or all are read by the new one.
            if matches!(self.link, Link::Down { .. }) {
                return;
            }
            if self.connections != connections {
                self.cycle.clear();
            }
        }
    }

    /// Schedules of the groups that are polled more often; groups are sorted by period.
    fn faster(&self, group: usize) -> std::slice::Iter<'_, Schedule> {
        let period = self.schedules[group].period();
        let count = self.schedules.iter().take_while(|schedule| schedule.period() < period).count();
        self.schedules[..count].iter()
    }

    /// One poll. A device that merely hung up on an idle connection gets one silent second chance (MB-24).
    async fn poll(&mut self, group: usize) -> Result<(), LinkError> {
        let first = self.adapter.poll(group, &mut self.cycle).await;
        let result = match first {
            Err(error) if error.is_hang_up() && matches!(self.link, Link::Up { proven: true, .. }) => {
                tracing::debug!(error = %daemon::report(&error), "connecting again at once");
                let pause_at = self.cycle.pause_at;
                self.cycle.clear();
                self.cycle.pause_at = pause_at;
                self.adapter.connect().await?;
                self.connections += 1;
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
        tracing::trace!(group, result, missed, "polled");
        self.judge_devices(missed);
    }

    /// Takes the notes about the devices into account for their states and for health.
    fn judge_devices(&mut self, missed: u64) {
        let now = Instant::now();
        let metrics = &self.around.metrics;
        let complaint = self.adapter.complaint();
        let mut changes = Vec::new();
        let mut sentence = None;
        for (index, device) in self.devices.iter_mut().enumerate() {
            let note = self.cycle.devices[index];
            device.observe(note, missed, now);
            let (state, why) = match (device.state(now), &complaint) {
                ((State::Ok, _), Some(complaint)) if index == 0 => (State::Degraded, complaint.as_str()),
                ((State::Down, why), _) => (State::Down, self.adapter.link_reason().unwrap_or(why)),
                (well_or_not, _) => well_or_not,
            };
            if state != State::Ok && sentence.is_none() {
                sentence = Some((index, why.to_owned()));
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
        let health = device::roll_up(&self.states);
        let stale = self.shown.is_none_or(|(shown, at)| shown != health || now.duration_since(at) >= BOARD_REFRESH);
        if !changes.is_empty() || stale {
            self.show(health, sentence, now);
        }
        for notice in changes {
            self.tell(notice);
        }
    }

    fn show(&mut self, health: Health, sentence: Option<(usize, String)>, now: Instant) {
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
        let notes = self.adapter.notes();
        if !notes.is_empty() || self.has_notes {
            self.has_notes = !notes.is_empty();
            board.detail("notes", notes);
        }
        self.shown = Some((health, now));
        let newest = self.cycle.samples.iter().filter(|sample| sample.verdict.quality() != Quality::Bad);
        if let Some(at) = newest.map(|sample| sample.device_time).max() {
            board.detail("last_reading_at", at.to_string());
        }
    }

    /// Numbers the samples worth writing and puts them into the outbox, behind what else the cycle holds.
    fn hand_over(&mut self) {
        let now = Instant::now();
        self.look_at_clock();
        self.learn();
        let stamp = self.stamper.stamp();
        let receipt = self.cycle.receipt;
        let is_owed = receipt.is_some();
        for reason in self.cycle.discarded.drain(..) {
            self.around.metrics.discarded.get_or_create(&ByReason { reason }).inc();
        }
        for mut letter in std::mem::take(&mut self.cycle.letters) {
            (letter.at, letter.clock_state, letter.number) = (stamp.wall, stamp.state, self.letters);
            self.letters += 1;
            let out = self.stamper.pass(Batch::of_letter(letter).owed(is_owed, None), &stamp);
            self.put(out);
        }
        for notice in std::mem::take(&mut self.cycle.notices) {
            self.tell_owed(notice, is_owed);
        }
        let mut backwards = 0;
        let mut states = Vec::new();
        let mut worth = Vec::with_capacity(self.cycle.samples.len());
        for mut sample in self.cycle.samples.drain(..) {
            let device = self.adapter.tags()[sample.tag].device;
            if let Some(rule) = self.adapter.edges(sample.tag) {
                let tag = &self.adapter.tags()[sample.tag];
                let findings = self.point_states.observe(&sample, rule, now);
                states.extend(findings.into_iter().map(|finding| Notice::of_state(finding, tag, &sample)));
            }
            if !self.transitions.admit(&mut sample, device, now) {
                self.around.metrics.suppressed.inc();
                continue;
            }
            if let Some(rule) = self.adapter.publishing(sample.tag)
                && !self.publishing.admit(&sample, rule, now)
            {
                self.around.metrics.unchanged.inc();
                continue;
            }
            backwards += u64::from(self.stamper.mark(&mut sample, &stamp));
            sample.seq = self.seq;
            self.seq += 1;
            worth.push(sample);
        }
        self.stamper.count_backwards(backwards);
        if !worth.is_empty() || is_owed {
            self.owed = self.owed.max(receipt.unwrap_or_default());
            let out = self.stamper.pass(Batch::new(worth).owed(is_owed, receipt), &stamp);
            self.put(out);
        }
        for notice in states {
            self.tell(notice);
        }
    }

    /// Makes room for tags the source has learned, before their first samples go out.
    fn learn(&mut self) {
        let (known, tags) = (self.reported.len(), self.adapter.tags());
        if tags.len() > known {
            self.outbox.learn(&tags[known..]);
            self.transitions.grow(tags.len());
            self.stamper.grow(tags.len());
            self.reported.resize(tags.len(), false);
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
    fn tell(&mut self, notice: Notice) {
        self.tell_owed(notice, false);
    }

    /// The same for a notice that belongs to what the source keeps until it is settled.
    fn tell_owed(&mut self, mut notice: Notice, is_owed: bool) {
        let stamp = self.stamper.stamp();
        (notice.at, notice.clock_state, notice.number) = (stamp.wall, stamp.state, self.notices);
        self.notices += 1;
        let out = self.stamper.pass(Batch::of(notice).owed(is_owed, None), &stamp);
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
fn device_notice(device: &str, from: Option<State>, to: State, why: &str) -> Notice {
    Notice {
        from: from.map(State::as_str),
        to: Some(to.as_str()),
        details: vec![("device", device.to_owned()), ("reason", why.to_owned())],
        ..Notice::new(DEVICE_STATE, format!("{device} {why}"))
    }
}
