//! When a point is told: on change, and as an event when its state changes. Host, outbox and pump with a real device.

use std::time::Duration;

use adapters::modbus::ModbusAdapter;
use adapters::process::serve;
use modbus::Table;
use serde_json::json;
use testkit::sim::modbus::Simulator;

use crate::support::{DEADLINE, Kept, Told, build, device, identity, settings};

/// An adapter as it runs in its process.
pub(crate) struct Process {
    stop: tokio_util::sync::CancellationToken,
    _run_dir: tempfile::TempDir,
    tasks: tokio::task::JoinSet<Result<(), adapters::Error>>,
}

impl Process {
    pub(crate) fn start(adapter: ModbusAdapter, kept: &Kept) -> Self {
        let run_dir = tempfile::tempdir().unwrap();
        let mut ctx = daemon::Context::new("adapter_1", "gw-1");
        ctx.run_dir = Some(run_dir.path().to_owned());
        let stop = ctx.stop.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(serve(adapter, kept.clone(), identity(), ctx));
        Self { stop, _run_dir: run_dir, tasks }
    }

    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap().unwrap();
    }
}

/// Waits until the device was asked so many times more, so that what it holds now was read.
async fn polled(simulator: &Simulator, times: usize) {
    let target = simulator.request_count() + times;
    let waiting = async {
        while simulator.request_count() < target {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect("polls");
}

async fn told(kept: &Kept, count: usize) -> Vec<Told> {
    let waiting = async {
        loop {
            let told = kept.told("point.state");
            if told.len() >= count {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{:#?}", kept.told("point.state")))
}

// AC-027, MB-41
#[tokio::test]
async fn a_deadband_holds_back_small_changes() {
    let (simulator, memory) = device().await;
    memory.holding(1, 0, &[100]);
    let mut value = settings(&simulator, 1, &json!({"poll_interval_ms": 10}));
    let point = &mut value["points"][0];
    (point["scale"], point["publish"], point["deadband"]) = (json!(0.1), json!("on_change"), json!(1.0));
    let kept = Kept::default();
    let running = Process::start(build(&value), &kept);
    kept.until("the first value", |seen| !seen.is_empty()).await;
    for raw in [104, 108, 112] {
        memory.holding(1, 0, &[raw]);
        polled(&simulator, 3).await;
    }
    kept.until("the change", |seen| seen.len() >= 2).await;
    running.end().await;
    let seen = kept.seen();
    let values: Vec<&str> = seen.iter().map(|seen| seen.value.as_str()).collect();
    assert_eq!(values, ["Float(10.0)", "Float(11.2)"]);
    assert_eq!(seen.iter().map(|seen| seen.seq).collect::<Vec<_>>(), [0, 1], "what is held back leaves no gap");
}

// AC-029, MB-40
#[tokio::test]
async fn a_state_that_changed_during_an_outage_is_no_edge() {
    let (simulator, memory) = device().await;
    memory.bits(1, Table::Coil, 0, &[true]);
    let mut value = settings(&simulator, 1, &json!({"poll_interval_ms": 20, "response_timeout_ms": 100}));
    value["points"][0] = json!({"parameter": "door", "address": "00001", "edge": "both"});
    let kept = Kept::default();
    let running = Process::start(build(&value), &kept);
    told(&kept, 1).await;
    simulator.set_offline(true);
    kept.until("the outage", |seen| seen.iter().any(|seen| seen.quality == "BAD")).await;
    memory.bits(1, Table::Coil, 0, &[false]);
    simulator.set_offline(false);
    told(&kept, 2).await;
    memory.bits(1, Table::Coil, 0, &[true]);
    let told = told(&kept, 3).await;
    running.end().await;
    let words = |told: &Told| (told.from.clone(), told.to.clone(), told.edge.clone());
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(words(&told[0]), (None, text("true"), None));
    assert!(told[0].initial && !told[0].missed_window);
    assert_eq!(words(&told[1]), (text("true"), text("false"), None), "no falling edge");
    assert!(told[1].missed_window && !told[1].initial);
    let seen = kept.seen();
    let outage = seen.iter().position(|seen| seen.quality == "BAD").unwrap();
    assert_eq!(told[1].occurred_after, Some(seen[outage - 1].device_time), "the last good read");
    assert_eq!(words(&told[2]), (text("false"), text("true"), text("rising")));
    assert!(!told[2].missed_window && !told[2].initial);
    assert_eq!(told.len(), 3);
}
