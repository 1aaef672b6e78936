//! What the tests share: an outlet that keeps readings, and adapters on simulated devices.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapters::adapter::Adapter;
use adapters::modbus::ModbusAdapter;
use adapters::outlet::{Ack, Outlet, OutletError};
use adapters::pump::Identity;
use adapters::sample::{Cycle, Sample};
use daemon::clock::{ClockSource, Kernel, Memory, Rules, Watch};
use model::{Clock, ClockState, Reading, SystemClock, Timestamp};
use serde_json::{Value, json};
use stream::message::{DeadLetter, Event};
use testkit::sim::modbus::{Memory as Registers, Simulator};
use tokio::time::Instant;

/// No wait of a test is longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// What a test wants to know of a reading.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) asset: String,
    pub(crate) asset_path: Option<String>,
    pub(crate) parameter: String,
    pub(crate) unit: Option<String>,
    pub(crate) time_source: String,
    pub(crate) flags: Vec<String>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) value: String,
    pub(crate) quality: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) seq: i64,
    pub(crate) gap_before: bool,
    pub(crate) clock_step: bool,
    pub(crate) clock_state: String,
    /// From the device's stamp to the gateway's.
    pub(crate) behind_ms: i64,
    pub(crate) device_time: Timestamp,
    pub(crate) gateway_time: Timestamp,
    pub(crate) metadata: Vec<(String, String)>,
}

impl Seen {
    fn of(reading: &Reading<'_>) -> Self {
        Self {
            asset: reading.asset_id.to_owned(),
            asset_path: reading.asset_path.map(str::to_owned),
            parameter: reading.parameter.to_owned(),
            unit: reading.unit.map(str::to_owned),
            time_source: reading.time_source.to_owned(),
            flags: reading.flags.iter().map(str::to_owned).collect(),
            tags: reading.tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            value: format!("{:?}", reading.value),
            quality: reading.quality.as_str(),
            reason: reading.quality_reason.map(str::to_owned),
            seq: reading.seq,
            gap_before: reading.flags.contains(model::flag::GAP_BEFORE),
            clock_step: reading.flags.contains(model::flag::CLOCK_STEP),
            clock_state: reading.clock_state.to_owned(),
            behind_ms: reading.gateway_time.micros_since(reading.device_time) / 1000,
            device_time: reading.device_time,
            gateway_time: reading.gateway_time,
            metadata: reading.metadata.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        }
    }
}

/// What a test wants to know of an event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) asset: String,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) message: String,
    pub(crate) severity: Option<String>,
    pub(crate) quality: &'static str,
    pub(crate) time_source: String,
    pub(crate) device_time: Timestamp,
    pub(crate) time: Timestamp,
    pub(crate) clock_state: ClockState,
    pub(crate) edge: Option<String>,
    pub(crate) initial: bool,
    pub(crate) missed_window: bool,
    pub(crate) occurred_after: Option<Timestamp>,
    pub(crate) details: Vec<(String, String)>,
    /// Readings that were durable before it.
    pub(crate) after: usize,
}

impl Told {
    pub(crate) fn detail(&self, key: &str) -> Option<&str> {
        self.details.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// What a test wants to know of a dead letter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Buried {
    pub(crate) id: String,
    pub(crate) reason: String,
    pub(crate) detail: String,
    pub(crate) payload: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inner {
    seen: Vec<Seen>,
    told: Vec<Told>,
    buried: Vec<Buried>,
    full_for_events: usize,
    calls: usize,
    not_ready: usize,
    failing_acks: usize,
    taken_max: Option<usize>,
    refused: Option<String>,
    silent: bool,
    away: bool,
}

/// Keeps readings in memory; misbehaves when told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Inner>>);

impl Kept {
    fn with<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    /// All durable readings so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.with(|inner| inner.seen.clone())
    }

    /// All durable events so far, of one kind.
    pub(crate) fn told(&self, kind: &str) -> Vec<Told> {
        self.with(|inner| inner.told.iter().filter(|told| told.kind == kind).cloned().collect())
    }

    /// Waits until so many events of a kind are durable.
    pub(crate) async fn until_told(&self, kind: &str, count: usize) -> Vec<Told> {
        let waiting = async {
            loop {
                let told = self.told(kind);
                if told.len() >= count {
                    return told;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(told) => told,
            Err(elapsed) => panic!("never {count} of {kind} ({elapsed}): {:#?}", self.told(kind)),
        }
    }

    /// All durable dead letters so far.
    pub(crate) fn buried(&self) -> Vec<Buried> {
        self.with(|inner| inner.buried.clone())
    }

    /// Has no room for the next events.
    pub(crate) fn full_for_events(&self, times: usize) {
        self.with(|inner| inner.full_for_events = times);
    }

    pub(crate) fn not_ready(&self, times: usize) {
        self.with(|inner| inner.not_ready = times);
    }

    pub(crate) fn fail_acks(&self, times: usize) {
        self.with(|inner| inner.failing_acks = times);
    }

    pub(crate) fn take_at_most(&self, count: usize) {
        self.with(|inner| inner.taken_max = Some(count));
    }

    pub(crate) fn refuse(&self, parameter: &str) {
        self.with(|inner| inner.refused = Some(parameter.to_owned()));
    }

    /// Acknowledges nothing while set.
    pub(crate) fn silent(&self, silent: bool) {
        self.with(|inner| inner.silent = silent);
    }

    /// Says that nobody is at the other end.
    pub(crate) fn away(&self) {
        self.with(|inner| inner.away = true);
    }

    /// Waits until the durable readings satisfy a condition.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let waiting = async {
            loop {
                let seen = self.seen();
                if condition(&seen) {
                    return seen;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(seen) => seen,
            Err(elapsed) => panic!("never {what} ({elapsed}): {:#?}", self.seen()),
        }
    }
}

impl Outlet for Kept {
    async fn ready(&mut self) -> Result<(), OutletError> {
        self.with(|inner| {
            if inner.not_ready == 0 {
                return Ok(());
            }
            inner.not_ready -= 1;
            Err(OutletError::Other { reason: "no registry".to_owned() })
        })
    }

    fn send(&mut self, readings: &[Reading<'_>]) -> Result<(Ack, usize), OutletError> {
        let shared = self.clone();
        self.with(|inner| {
            inner.calls += 1;
            let refused = |reading: &Reading<'_>| inner.refused.as_deref() == Some(reading.parameter);
            if readings.iter().any(refused) {
                return Err(OutletError::Other { reason: "too large".to_owned() });
            }
            let taken = readings.len().min(inner.taken_max.unwrap_or(usize::MAX));
            let kept: Vec<Seen> = readings[..taken].iter().map(Seen::of).collect();
            let fails = inner.failing_acks > 0;
            inner.failing_acks = inner.failing_acks.saturating_sub(1);
            let ack: Ack = Box::pin(async move {
                if fails {
                    return Err(OutletError::Other { reason: "broker lost it".to_owned() });
                }
                while shared.with(|inner| inner.silent) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                shared.with(|inner| inner.seen.extend(kept));
                Ok(())
            });
            Ok((ack, taken))
        })
    }

    fn tell(&mut self, event: &Event<'_>, clock_state: ClockState) -> Result<Option<Ack>, OutletError> {
        let shared = self.clone();
        let text = |text: Option<&str>| text.map(str::to_owned);
        let mut told = Told {
            id: event.event_id.to_owned(),
            kind: event.event_type.to_owned(),
            asset: event.asset_id.to_owned(),
            from: text(event.from_state),
            to: text(event.to_state),
            message: event.message.to_owned(),
            severity: text(event.severity),
            quality: event.quality.as_str(),
            time_source: event.time_source.to_owned(),
            device_time: event.device_time,
            time: event.gateway_time,
            clock_state,
            edge: text(event.edge),
            initial: event.initial,
            missed_window: event.missed_window,
            occurred_after: event.occurred_after,
            details: event.details.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            after: 0,
        };
        self.with(|inner| {
            if inner.full_for_events > 0 {
                inner.full_for_events -= 1;
                return Ok(None);
            }
            let ack: Ack = Box::pin(async move {
                while shared.with(|inner| inner.silent) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                shared.with(|inner| {
                    told.after = inner.seen.len();
                    inner.told.push(told);
                });
                Ok(())
            });
            Ok(Some(ack))
        })
    }

    fn bury(&mut self, letter: &DeadLetter<'_>) -> Result<Option<Ack>, OutletError> {
        let shared = self.clone();
        let buried = Buried {
            id: letter.id(),
            reason: letter.reason.to_owned(),
            detail: letter.detail.to_owned(),
            payload: letter.payload.to_vec(),
        };
        let ack: Ack = Box::pin(async move {
            while shared.with(|inner| inner.silent) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            shared.with(|inner| inner.buried.push(buried));
            Ok(())
        });
        Ok(Some(ack))
    }

    fn reopen(&mut self) -> Result<(), OutletError> {
        Ok(())
    }

    fn is_away(&self) -> bool {
        self.with(|inner| inner.away)
    }
}

pub(crate) fn identity() -> Identity {
    Identity {
        gateway_id: "gw-1".to_owned(),
        adapter_id: "adapter_1".to_owned(),
        adapter_type: "modbus_tcp",
        config_revision: None,
        epoch: 7,
    }
}

/// A device of unit 1 with holding registers 0..200 holding 1000 and up, and the handle to change them.
pub(crate) async fn device() -> (Simulator, Arc<Registers>) {
    let memory = Arc::new(Registers::default());
    let registers: Vec<u16> = (1000..1200).collect();
    memory.holding(1, 0, &registers);
    let simulator = Simulator::local(Arc::<Registers>::clone(&memory)).await.unwrap();
    (simulator, memory)
}

/// Settings that read `count` int16 of unit 1 from offset 0, with `more` on top.
pub(crate) fn settings(simulator: &Simulator, count: u16, more: &Value) -> Value {
    let points: Vec<Value> = (0..count)
        .map(|n| json!({"parameter": format!("p{n}"), "address": {"table": "holding", "offset": n}, "type": "int16"}))
        .collect();
    let mut settings = json!({
        "adapter_id": "adapter_1", "adapter_type": "modbus_tcp", "asset_id": "press",
        "host": "127.0.0.1", "port": simulator.address().port(), "points": points,
        "response_timeout_ms": 500,
    });
    for (key, value) in more.as_object().unwrap() {
        settings[key] = value.clone();
    }
    settings
}

pub(crate) fn build(settings: &Value) -> ModbusAdapter {
    ModbusAdapter::new(adapters::modbus::config::plan(settings, "").unwrap(), Arc::new(SystemClock))
}

/// One poll of the first group; reconnects first if the last one broke the connection.
pub(crate) async fn poll(adapter: &mut ModbusAdapter) -> (Cycle, bool) {
    let mut cycle = Cycle::new(adapter.devices().len());
    let well = adapter.poll(0, &mut cycle).await.is_ok();
    if !well {
        adapter.connect().await.unwrap();
    }
    (cycle, well)
}

pub(crate) fn reasons(cycle: &Cycle) -> Vec<&'static str> {
    cycle.samples.iter().map(|sample: &Sample| sample.verdict.reason().unwrap_or("-")).collect()
}

/// The clocks of a machine in tokio's time: a wall clock that a test sets, and a time since boot that nobody can.
#[derive(Debug)]
pub(crate) struct Machine {
    booted: Instant,
    shift_us: AtomicI64,
    synced: AtomicBool,
}

impl Machine {
    /// Booted ten seconds ago, with this wall clock now.
    pub(crate) fn at(wall: &str, synced: bool) -> Arc<Self> {
        let machine = Self { booted: Instant::now(), shift_us: AtomicI64::new(0), synced: AtomicBool::new(synced) };
        machine.set(wall);
        Arc::new(machine)
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set(&self, wall: &str) {
        let wall = Timestamp::parse_rfc3339(wall).unwrap();
        self.shift_us.store(wall.as_micros() - self.boottime_us(), Ordering::SeqCst);
    }

    /// A time server is found and sets the wall clock.
    pub(crate) fn sync(&self, wall: &str) {
        self.synced.store(true, Ordering::SeqCst);
        self.set(wall);
    }

    /// Sets the wall clock by so much.
    pub(crate) fn step_ms(&self, millis: i64) {
        self.shift_us.fetch_add(millis * 1000, Ordering::SeqCst);
    }

    /// What a process holds of it; the program was built on the first of 2026.
    pub(crate) fn watch(self: &Arc<Self>, metrics: &daemon::Metrics) -> Arc<Watch> {
        let rules = Rules { assume_synced: false, built: Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap() };
        let source: Arc<dyn ClockSource> = Arc::<Self>::clone(self);
        Arc::new(Watch::begin_by(source, rules, Memory::default(), metrics))
    }
}

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.boottime_us() + self.shift_us.load(Ordering::SeqCst))
    }
}

impl ClockSource for Machine {
    fn boottime_us(&self) -> i64 {
        10_000_000 + i64::try_from(self.booted.elapsed().as_micros()).unwrap()
    }

    fn kernel(&self) -> Kernel {
        Kernel { synced: self.synced.load(Ordering::SeqCst), ..Kernel::default() }
    }

    fn boot(&self) -> String {
        "boot-1".to_owned()
    }
}
