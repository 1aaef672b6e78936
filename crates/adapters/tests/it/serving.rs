//! The whole process but for the broker: settings in, readings and health out.

use std::time::Duration;

use adapters::process::{run_with, serve};
use serde_json::json;
use testkit::sim::modbus::Simulator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{DEADLINE, Kept, build, device, identity, settings};

struct Process {
    ctx: daemon::Context,
    _run_dir: tempfile::TempDir,
    kept: Kept,
    tasks: tokio::task::JoinSet<Result<(), adapters::Error>>,
}

fn start(simulator: &Simulator, kept: Kept) -> Process {
    let run_dir = tempfile::tempdir().unwrap();
    let mut ctx = daemon::Context::new("adapter_1", "gw-1");
    ctx.run_dir = Some(run_dir.path().to_owned());
    let more = json!({"poll_interval_ms": 20, "response_timeout_ms": 100});
    let adapter = build(&settings(simulator, 5, &more));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(serve(adapter, kept.clone(), identity(), ctx.clone()));
    Process { ctx, _run_dir: run_dir, kept, tasks }
}

impl Process {
    async fn get(&self, path: &str) -> (u16, String) {
        let file = self.ctx.run_dir.as_ref().unwrap().join("adapter_1.addr");
        let announced: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let mut stream = tokio::net::TcpStream::connect(announced["admin"].as_str().unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    async fn until_health(&self, word: &str) -> String {
        let waiting = async {
            loop {
                let (_, answer) = self.get("/health").await;
                if answer.contains(&format!("\"status\":\"{word}\"")) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("the state in time")
    }

    async fn end(mut self) -> Result<(), adapters::Error> {
        self.ctx.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn readings_health_and_metrics() {
    let (simulator, memory) = device().await;
    let process = start(&simulator, Kept::default());
    process.kept.until("ten polls", |seen| seen.len() >= 50).await;
    memory.holding(1, 0, &[7]);
    process.kept.until("the new value", |seen| seen.iter().any(|s| s.value == "Int(7)")).await;
    let health = process.until_health("healthy").await;
    assert!(health.contains("last_reading_at"), "{health}");
    assert_eq!(process.get("/health/live").await.0, 200);
    assert_eq!(process.get("/health/ready").await.0, 200);
    let (_, metrics) = process.get("/metrics").await;
    for name in [
        "sf_poll_cycles_total",
        "sf_poll_overruns_total",
        "sf_poll_jitter_ms_bucket",
        "sf_request_rtt_ms_bucket",
        "sf_link_state",
        "sf_records_total",
        "sf_buffered_bytes",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    let kept = process.kept.clone();
    process.end().await.unwrap();
    let seqs: Vec<i64> = kept.seen().iter().map(|seen| seen.seq).collect();
    assert_eq!(seqs, (0..i64::try_from(seqs.len()).unwrap()).collect::<Vec<_>>(), "nothing lost, nothing twice");
}

// G-09, MB-38, R-03, MB-39: the device goes away and comes back; the process does not mind.
#[tokio::test]
async fn a_dead_device_is_reported_once_and_the_process_lives() {
    let (simulator, _memory) = device().await;
    let process = start(&simulator, Kept::default());
    process.kept.until("values", |seen| seen.len() >= 10).await;
    simulator.set_offline(true);
    let bad = |seen: &[crate::support::Seen]| seen.iter().filter(|s| s.quality == "BAD").count();
    process.kept.until("every tag to be BAD", |seen| bad(seen) >= 5).await;
    process.until_health("degraded").await;
    assert_eq!(process.get("/health/live").await.0, 200);
    assert_eq!(process.get("/health/ready").await.0, 200);
    let count = bad(&process.kept.seen());
    assert!((5..=6).contains(&count), "five transitions and at most one reminder, not {count}");
    simulator.set_offline(false);
    let seen = process.kept.until("the gap to be told", |seen| seen.iter().filter(|s| s.gap_before).count() >= 5).await;
    assert_eq!(seen.iter().filter(|s| s.gap_before).count(), 5);
    let last = seen.last().unwrap().seq;
    process.kept.until("more values", |seen| seen.iter().any(|s| s.seq > last + 20 && s.quality == "GOOD")).await;
    process.end().await.unwrap();
}

// OFF-26: polling goes on while the stream takes nothing; everything arrives afterwards, in order.
#[tokio::test]
async fn a_silent_stream_is_waited_for() {
    let (simulator, _memory) = device().await;
    let kept = Kept::default();
    kept.silent(true);
    let process = start(&simulator, kept.clone());
    let waiting = async {
        while simulator.request_count() < 60 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect("polls go on without the stream");
    assert_eq!(kept.seen().len(), 0);
    assert_eq!(process.get("/health/ready").await.0, 503);
    kept.silent(false);
    process.kept.until("the backlog", |seen| seen.len() >= 300).await;
    process.end().await.unwrap();
    let seqs: Vec<i64> = kept.seen().iter().map(|seen| seen.seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[tokio::test]
async fn settings_are_refused_before_any_port_is_bound() {
    let ctx = || daemon::Context::new("adapter_1", "gw-1");
    let (simulator, _memory) = device().await;
    let good = settings(&simulator, 1, &json!({}));
    let no_stream = run_with(&good, None, ctx()).await.unwrap_err();
    assert!(no_stream.is_configuration() && no_stream.to_string().contains("/kafka_bootstrap"), "{no_stream}");
    let other = run_with(&good, Some("adapter_2"), ctx()).await.unwrap_err();
    assert!(other.to_string().contains("/adapter_id"), "{other}");
    let unknown = run_with(&json!({"adapter_type": "modbus_tpc"}), None, ctx()).await.unwrap_err();
    assert!(unknown.to_string().contains("did you mean \"modbus_tcp\"?"), "{unknown}");
}
