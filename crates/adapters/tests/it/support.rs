//! What the tests share: an outlet that keeps readings, and adapters on simulated devices.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapters::adapter::Adapter;
use adapters::modbus::ModbusAdapter;
use adapters::outlet::{Ack, Outlet, OutletError};
use adapters::pump::Identity;
use adapters::sample::{Cycle, Sample};
use model::{Reading, SystemClock};
use serde_json::{Value, json};
use testkit::sim::modbus::{Memory, Simulator};

/// No wait of a test is longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// What a test wants to know of a reading.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) parameter: String,
    pub(crate) value: String,
    pub(crate) quality: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) seq: i64,
    pub(crate) gap_before: bool,
    pub(crate) metadata: Vec<(String, String)>,
}

impl Seen {
    fn of(reading: &Reading<'_>) -> Self {
        Self {
            parameter: reading.parameter.to_owned(),
            value: format!("{:?}", reading.value),
            quality: reading.quality.as_str(),
            reason: reading.quality_reason.map(str::to_owned),
            seq: reading.seq,
            gap_before: reading.flags.contains(model::flag::GAP_BEFORE),
            metadata: reading.metadata.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    seen: Vec<Seen>,
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
pub(crate) async fn device() -> (Simulator, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    let registers: Vec<u16> = (1000..1200).collect();
    memory.holding(1, 0, &registers);
    let simulator = Simulator::local(Arc::<Memory>::clone(&memory)).await.unwrap();
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
