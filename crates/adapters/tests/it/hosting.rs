//! The host's patience: schedule, outages, states - with an adapter that does as told, in paused time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapters::adapter::{Adapter, Group, LinkError, Tag};
use adapters::host::{Host, Surroundings};
use adapters::metrics::AdapterMetrics;
use adapters::outbox::Outbox;
use adapters::sample::{Cycle, Sample, Value};
use daemon::{Board, Metrics};
use model::{Classification, Clock, Health, Quality, Timestamp, ValueType, reason};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::Machine;

/// What a test tells the adapter to do, and what it did.
#[derive(Debug, Default)]
struct Script {
    unreachable: AtomicBool,
    hang_up_next: AtomicBool,
    poll_ms: AtomicU64,
    connects: AtomicU64,
    polls: Mutex<Vec<(usize, Instant)>>,
}

#[derive(Debug)]
struct Puppet {
    script: Arc<Script>,
    tags: Vec<Tag>,
    groups: Vec<Group>,
    devices: Vec<String>,
}

impl Puppet {
    fn new(script: &Arc<Script>, periods_ms: &[u64], tags_per_group: usize) -> Self {
        let groups: Vec<Group> =
            periods_ms.iter().map(|ms| Group { name: format!("{ms}"), period: Duration::from_millis(*ms) }).collect();
        let tags = (0..groups.len() * tags_per_group)
            .map(|n| Tag {
                asset_id: "press".to_owned(),
                asset_path: None,
                parameter: format!("p{n}"),
                unit: None,
                value_type: ValueType::Int,
                classification: Classification::Telemetry,
                source_ref: String::new(),
                group: n / tags_per_group,
                device: 0,
            })
            .collect();
        Self { script: Arc::clone(script), tags, groups, devices: vec!["unit 1".to_owned()] }
    }
}

impl Adapter for Puppet {
    fn tags(&self) -> &[Tag] {
        &self.tags
    }

    fn groups(&self) -> &[Group] {
        &self.groups
    }

    fn devices(&self) -> &[String] {
        &self.devices
    }

    async fn connect(&mut self) -> Result<(), LinkError> {
        self.script.connects.fetch_add(1, Ordering::SeqCst);
        if self.script.unreachable.load(Ordering::SeqCst) {
            let timeout = Duration::from_secs(3);
            tokio::time::sleep(timeout).await;
            return Err(LinkError::ConnectTimeout { target: "plc:502".to_owned(), timeout });
        }
        Ok(())
    }

    async fn poll(&mut self, group: usize, cycle: &mut Cycle) -> Result<(), LinkError> {
        self.script.polls.lock().unwrap().push((group, Instant::now()));
        tokio::time::sleep(Duration::from_millis(self.script.poll_ms.load(Ordering::SeqCst))).await;
        let hung_up = self.script.hang_up_next.swap(false, Ordering::SeqCst);
        if hung_up || self.script.unreachable.load(Ordering::SeqCst) {
            return Err(LinkError::Closed { target: "plc:502".to_owned() });
        }
        cycle.devices[0].asked = true;
        cycle.devices[0].answered = true;
        for (index, _) in self.tags.iter().enumerate().filter(|(_, tag)| tag.group == group) {
            cycle.samples.push(Sample::new(index, Value::Int(1), Timestamp::from_millis(5)));
        }
        Ok(())
    }
}

struct Running {
    script: Arc<Script>,
    outbox: Arc<Outbox>,
    board: Arc<Board>,
    metrics: Metrics,
    stop: CancellationToken,
    task: tokio::task::JoinSet<()>,
}

fn start(periods_ms: &[u64], tags_per_group: usize, script: Script) -> Running {
    let script = Arc::new(script);
    let machine = Machine::at("2026-05-01T10:00:00Z", true);
    let clock: Arc<dyn Clock> = Arc::<Machine>::clone(&machine);
    let board = Arc::new(Board::new("adapter_1", Arc::clone(&clock)));
    let metrics = Metrics::new("adapter_1");
    let around = Surroundings {
        clock,
        watch: machine.watch(&metrics),
        boot_hold: Duration::from_secs(60),
        epoch: 1,
        board: Arc::clone(&board),
        metrics: AdapterMetrics::register(&metrics),
    };
    let adapter = Puppet::new(&script, periods_ms, tags_per_group);
    let outbox = Arc::new(Outbox::new(periods_ms.len() * tags_per_group));
    let stop = CancellationToken::new();
    let mut task = tokio::task::JoinSet::new();
    let (for_task, stop_task) = (Arc::clone(&outbox), stop.clone());
    task.spawn(async move { Host::new(adapter, &for_task, around, 1).run(stop_task).await });
    Running { script, outbox, board, metrics, stop, task }
}

impl Running {
    fn take(&self) -> Vec<Sample> {
        std::iter::from_fn(|| self.outbox.pop()).flat_map(|batch| batch.samples).collect()
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    async fn end(mut self) {
        self.stop.cancel();
        while self.task.join_next().await.is_some() {}
    }
}

// AC-022
#[tokio::test(start_paused = true)]
async fn a_slow_device_is_polled_on_the_grid_and_not_caught_up_with() {
    let running = start(&[100], 1, Script { poll_ms: AtomicU64::new(350), ..Script::default() });
    tokio::time::sleep(Duration::from_millis(4010)).await;
    let polls = running.script.polls.lock().unwrap().clone();
    let gaps: Vec<u128> = polls.windows(2).map(|pair| (pair[1].1 - pair[0].1).as_millis()).collect();
    assert!(gaps.iter().all(|gap| *gap == 400), "{gaps:?}");
    assert_eq!(running.metric("sf_poll_overruns_total"), 3 * 10);
    assert_eq!(running.board.health(), Health::Degraded);
    running.script.poll_ms.store(0, Ordering::SeqCst);
    // The poll that is under way still takes its time.
    tokio::time::sleep(Duration::from_millis(400)).await;
    running.script.polls.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = running.script.polls.lock().unwrap().len();
    assert!((9..=11).contains(&after), "no burst: {after} polls in a second");
    running.end().await;
}

// MB-37
#[tokio::test(start_paused = true)]
async fn the_fast_group_goes_first() {
    let running = start(&[100, 1000], 2, Script::default());
    tokio::time::sleep(Duration::from_millis(2990)).await;
    let polls = running.script.polls.lock().unwrap().clone();
    let count = |group| polls.iter().filter(|(g, _)| *g == group).count();
    assert_eq!((count(0), count(1)), (30, 3));
    running.end().await;
}

// AC-021 in short, MB-38, MB-39, G-09: a device off for 8 hours.
#[tokio::test(start_paused = true)]
async fn a_long_outage_is_quiet_and_heals() {
    let running = start(&[1000], 500, Script::default());
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(running.board.health(), Health::Healthy);
    assert!(running.take().iter().all(|sample| sample.verdict.quality() == Quality::Good));

    running.script.unreachable.store(true, Ordering::SeqCst);
    let mut bad = Vec::new();
    for _ in 0..8 * 60 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        bad.extend(running.take());
    }
    assert!(running.board.is_live(), "a dead device is no reason to restart");
    assert_eq!(running.board.health(), Health::Unhealthy);
    assert!(running.board.reason().contains("unit 1"), "{}", running.board.reason());
    assert!(bad.iter().all(|sample| sample.verdict.reason() == Some(reason::COMM_FAIL)));
    assert!((500..=500 + 48).contains(&bad.len()), "500 transitions and a few reminders, not {}", bad.len());
    let connects = running.script.connects.load(Ordering::SeqCst);
    assert!((400..1000).contains(&connects), "about one try a minute: {connects}");

    running.script.unreachable.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(75)).await;
    let back = running.take();
    assert_eq!(running.board.health(), Health::Degraded, "of the last five minutes most polls failed");
    let first: Vec<&Sample> = back.iter().filter(|sample| sample.gap_before).collect();
    assert_eq!(first.len(), 500, "each tag says once that there was a gap");
    let seqs: Vec<i64> = back.iter().map(|sample| sample.seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "no hole in the sequence");
    tokio::time::sleep(Duration::from_secs(330)).await;
    assert_eq!(running.board.health(), Health::Healthy);
    running.end().await;
}

// MB-24
#[tokio::test(start_paused = true)]
async fn a_hang_up_on_an_idle_connection_is_not_a_failure() {
    let running = start(&[1000], 1, Script::default());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    running.script.hang_up_next.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let samples = running.take();
    assert!(samples.len() >= 3);
    assert!(samples.iter().all(|sample| sample.verdict.quality() == Quality::Good && !sample.gap_before));
    assert_eq!(running.script.connects.load(Ordering::SeqCst), 2);
    running.end().await;
}
