//! The gateway's clock and the readings: boot in 1970, steps, corrections - with a machine whose clock a test sets, in
//! paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adapters::adapter::{Adapter, Group, LinkError, Tag};
use adapters::host::{Host, Surroundings};
use adapters::metrics::AdapterMetrics;
use adapters::notice::{CLOCK_CORRECTION, CLOCK_STEP, DEVICE_STATE};
use adapters::outbox::Outbox;
use adapters::pump::Pump;
use adapters::sample::{Cycle, Sample, Value};
use daemon::{Board, Metrics};
use model::{Classification, Clock, ClockState, Timestamp, ValueType};
use tokio_util::sync::CancellationToken;

use crate::support::{Kept, Machine, Seen, Told, identity};

/// Two points of one device, polled every second; an answer takes 20 ms.
#[derive(Debug)]
struct Puppet {
    machine: Arc<Machine>,
    silent: Arc<AtomicBool>,
    tags: Vec<Tag>,
    groups: [Group; 1],
    devices: [String; 1],
}

impl Puppet {
    fn new(machine: &Arc<Machine>, silent: &Arc<AtomicBool>) -> Self {
        let tag = |n| Tag {
            asset_id: "press".to_owned(),
            asset_path: None,
            parameter: format!("p{n}"),
            unit: None,
            value_type: ValueType::Int,
            classification: Classification::Telemetry,
            source_ref: String::new(),
            group: 0,
            device: 0,
        };
        Self {
            machine: Arc::clone(machine),
            silent: Arc::clone(silent),
            tags: (0..2).map(tag).collect(),
            groups: [Group { name: "1s".to_owned(), period: Duration::from_secs(1) }],
            devices: ["unit 5".to_owned()],
        }
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
        Ok(())
    }

    async fn poll(&mut self, _group: usize, cycle: &mut Cycle) -> Result<(), LinkError> {
        cycle.devices[0].asked = true;
        if self.silent.load(Ordering::SeqCst) {
            return Ok(());
        }
        cycle.devices[0].answered = true;
        for tag in 0..self.tags.len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            cycle.samples.push(Sample::new(tag, Value::Int(1), self.machine.now()));
        }
        Ok(())
    }
}

struct Plant {
    machine: Arc<Machine>,
    silent: Arc<AtomicBool>,
    kept: Kept,
    metrics: Metrics,
    stop: CancellationToken,
    tasks: tokio::task::JoinSet<()>,
}

fn start(machine: Arc<Machine>, boot_hold_s: u64) -> Plant {
    let silent = Arc::new(AtomicBool::new(false));
    let (metrics, stop, kept) = (Metrics::new("adapter_1"), CancellationToken::new(), Kept::default());
    let clock: Arc<dyn Clock> = Arc::<Machine>::clone(&machine);
    let board = Arc::new(Board::new("adapter_1", Arc::clone(&clock)));
    let watch = machine.watch(&metrics);
    let own = AdapterMetrics::register(&metrics);
    let around = Surroundings {
        clock,
        watch: Arc::clone(&watch),
        boot_hold: Duration::from_secs(boot_hold_s),
        epoch: 7,
        board: Arc::clone(&board),
        metrics: own.clone(),
    };
    let adapter = Puppet::new(&machine, &silent);
    let tags = adapter.tags().to_vec();
    let (outlet, token) = (kept.clone(), stop.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let outbox = Outbox::new(tags.len());
        let polling = async {
            let host = Host::new(adapter, &outbox, around, 1).run(token.clone());
            tokio::join!(host, watch.run(token.clone()));
            outbox.close();
        };
        let pump = Pump { outlet, outbox: &outbox, tags: &tags, identity: identity(), metrics: own, board: &board };
        tokio::join!(polling, pump.run(token.clone()));
    });
    Plant { machine, silent, kept, metrics, stop, tasks }
}

impl Plant {
    async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// Ends the process, which sends out what waits.
    async fn end(mut self) -> (Vec<Seen>, Kept) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        (self.kept.seen(), self.kept)
    }

    fn metric(&self, name: &str) -> String {
        let text = self.metrics.encode().unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit(' ').next().unwrap().to_owned()
    }
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn without_hole(seen: &[Seen]) {
    let seqs: Vec<i64> = seen.iter().map(|seen| seen.seq).collect();
    assert_eq!(seqs, (0..i64::try_from(seqs.len()).unwrap()).collect::<Vec<_>>(), "in order, nothing lost or twice");
}

fn one<'a>(told: &'a [Told], what: &str) -> &'a Told {
    let [one] = told else { panic!("one {what}, not {told:#?}") };
    one
}

// AC-095 first half, OFF-04: boot at 1970, a time server after 40 s.
#[tokio::test(start_paused = true)]
async fn readings_of_the_first_forty_seconds_wait_and_get_the_right_time() {
    let plant = start(Machine::at("1970-01-01T00:00:10Z", false), 60);
    plant.pass(40).await;
    assert!(plant.kept.seen().is_empty(), "nothing goes out with a time of 1970");
    assert!(plant.kept.told(DEVICE_STATE).is_empty(), "events wait as well");
    assert_eq!((plant.metric("sf_clock_state"), plant.metric("sf_held_records")), ("2".to_owned(), "81".to_owned()));
    plant.machine.sync("2026-05-01T10:00:40Z");
    plant.pass(2).await;
    assert_eq!((plant.metric("sf_clock_state"), plant.metric("sf_held_records")), ("0".to_owned(), "0".to_owned()));
    plant.pass(18).await;
    let (seen, kept) = plant.end().await;
    without_hole(&seen);
    assert!(seen.len() >= 2 * 59, "{}", seen.len());
    for seen in &seen {
        // the process began at 10:00:00 of the right time and read both points each second
        let (poll, point) = (seen.seq / 2, seen.seq % 2);
        let due = time("2026-05-01T10:00:00Z").plus_micros(poll * 1_000_000 + (point + 1) * 10_000);
        let off = seen.device_time.micros_since(due).abs();
        assert!(off <= 5_000, "{seen:?} is {off} us off");
        assert!((0..=15_000).contains(&seen.gateway_time.micros_since(seen.device_time)), "{seen:?}");
        assert_eq!(seen.clock_state, "SYNCED");
        assert!((0..=15).contains(&seen.behind_ms), "{seen:?}");
    }
    assert!(kept.told(CLOCK_CORRECTION).is_empty(), "nothing was published with a wrong time");
    let told = kept.told(CLOCK_STEP);
    let step = one(&told, "step");
    let delta: i64 = step.detail("delta_ms").unwrap().parse().unwrap();
    let right = time("2026-05-01T10:00:40Z").as_millis() - time("1970-01-01T00:00:50Z").as_millis();
    assert_eq!(delta, right);
    assert_eq!((step.asset.as_str(), step.clock_state), ("adapter_1", ClockState::Synced));
    let told = kept.told(DEVICE_STATE);
    assert!(one(&told, "device state").time < time("2026-05-01T10:00:01Z"), "it waited and was corrected as well");
}

// AC-095 second half, OFF-04: boot at 1970, a time server after 10 min.
#[tokio::test(start_paused = true)]
async fn after_the_hold_they_go_out_unsynced_and_one_event_corrects_them() {
    let plant = start(Machine::at("1970-01-01T00:00:10Z", false), 60);
    plant.pass(59).await;
    assert!(plant.kept.seen().is_empty());
    plant.pass(2).await;
    assert!(plant.kept.seen().len() >= 2 * 60, "the hold is over");
    plant.pass(539).await;
    plant.machine.sync("2026-05-01T10:10:00Z");
    plant.pass(20).await;
    let (seen, kept) = plant.end().await;
    without_hole(&seen);
    let told = kept.told(CLOCK_CORRECTION);
    let correction = one(&told, "correction");
    assert_eq!((correction.detail("boot"), correction.detail("epoch")), (Some("boot-1"), Some("7")));
    assert_eq!(correction.detail("adapter_id"), Some("adapter_1"));
    let number = |key: &str| correction.detail(key).unwrap().parse::<i64>().unwrap();
    let (from, to, offset_ms) = (number("seq_from"), number("seq_to"), number("offset_ms"));
    assert_eq!(from, 0);
    for seen in &seen {
        let corrected = (from..=to).contains(&seen.seq);
        assert_eq!(seen.clock_state == "UNSYNCED", corrected, "{seen:?}");
        let offset_us = if corrected { offset_ms * 1000 } else { 0 };
        let due = time("2026-05-01T10:00:00Z").plus_micros(seen.seq / 2 * 1_000_000);
        let off = seen.device_time.plus_micros(offset_us).micros_since(due);
        assert!((0..30_000).contains(&off), "{seen:?} is {off} us off with {offset_ms} ms");
    }
    assert!((2 * 600 - 2..=2 * 601).contains(&(to + 1)), "{to}");
    assert!(correction.after > usize::try_from(to).unwrap(), "told behind the readings it speaks of");
}

// OFF-04: the hold must not be felt where the clock is set, or may well be
#[tokio::test(start_paused = true)]
async fn nothing_waits_on_a_machine_whose_clock_is_set() {
    for synced in [true, false] {
        let plant = start(Machine::at("2026-05-01T10:00:00Z", synced), 60);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let seen = plant.kept.seen();
        assert_eq!(seen.len(), 2, "out at once");
        assert_eq!(seen[0].clock_state, if synced { "SYNCED" } else { "HOLDOVER" });
        assert_eq!(seen[0].behind_ms, 10);
        plant.end().await;
    }
    let plant = start(Machine::at("1970-01-01T00:00:10Z", false), 0);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(plant.kept.seen().len(), 2, "a hold of 0 s is none");
    plant.end().await;
}

// AC-023, OFF-02: the step is told once, the next record of each point says so, and polling keeps its pace
#[tokio::test(start_paused = true)]
async fn a_step_flags_the_next_record_of_each_point() {
    for step_ms in [90_000, -90_000, 3_600_000] {
        let plant = start(Machine::at("2026-05-01T10:00:00Z", true), 60);
        plant.pass(10).await;
        plant.machine.step_ms(step_ms);
        plant.pass(10).await;
        plant.machine.step_ms(900); // corrections below a second are nobody's business
        plant.pass(10).await;
        assert_eq!(plant.metric("sf_clock_steps_total"), "1");
        let (seen, kept) = plant.end().await;
        without_hole(&seen);
        assert!((60..=62).contains(&seen.len()), "two points each second of 30 s, not {}", seen.len());
        let flagged: Vec<(&str, i64)> =
            seen.iter().filter(|seen| seen.clock_step).map(|seen| (seen.parameter.as_str(), seen.seq / 2)).collect();
        assert_eq!(flagged, [("p0", 10), ("p1", 10)], "the poll after the step, {step_ms} ms");
        assert!(seen.iter().all(|seen| (0..=20).contains(&seen.behind_ms)), "{seen:#?}");
        let told = kept.told(CLOCK_STEP);
        assert_eq!(one(&told, "step").detail("delta_ms"), Some(step_ms.to_string().as_str()));
        assert!(kept.told(CLOCK_CORRECTION).is_empty());
    }
}

// OFF-02: the clock is set while a device answers
#[tokio::test(start_paused = true)]
async fn a_poll_astride_a_step_has_times_of_one_clock() {
    for step_ms in [3_600_000, -3_600_000] {
        let plant = start(Machine::at("2026-05-01T10:00:00Z", true), 60);
        tokio::time::sleep(Duration::from_millis(2_015)).await;
        plant.machine.step_ms(step_ms);
        plant.pass(3).await;
        let (seen, _) = plant.end().await;
        let after: Vec<&Seen> = seen.iter().filter(|seen| seen.seq / 2 == 2).collect();
        let due = time("2026-05-01T10:00:02Z").plus_micros(step_ms * 1000);
        for (seen, at_ms) in after.iter().zip([10, 20]) {
            assert!(seen.clock_step);
            let off = seen.device_time.micros_since(due.plus_micros(at_ms * 1000)).abs();
            assert!(off <= 3_000, "{seen:?} is {off} us off after {step_ms} ms");
        }
    }
}

// OFF-02: a duration that would be negative is none, and counts
#[tokio::test(start_paused = true)]
async fn a_clock_slewed_back_makes_no_negative_skew() {
    let plant = start(Machine::at("2026-05-01T10:00:00Z", true), 60);
    tokio::time::sleep(Duration::from_millis(2_015)).await;
    plant.machine.step_ms(-500);
    plant.pass(3).await;
    assert_eq!(plant.metric("sf_clock_backwards_total"), "1");
    let (seen, _) = plant.end().await;
    assert!(seen.iter().all(|seen| seen.behind_ms >= 0 && !seen.clock_step));
}

// AC-087: one event per change of a device, whatever it has of tags
#[tokio::test(start_paused = true)]
async fn a_device_that_falls_silent_and_comes_back_is_told() {
    let plant = start(Machine::at("2026-05-01T10:00:00Z", true), 60);
    plant.kept.full_for_events(1);
    plant.pass(30).await;
    plant.silent.store(true, Ordering::SeqCst);
    plant.pass(60).await;
    plant.silent.store(false, Ordering::SeqCst);
    plant.pass(600).await;
    let (_, kept) = plant.end().await;
    let told = kept.told(DEVICE_STATE);
    let changes: Vec<(Option<&str>, Option<&str>)> =
        told.iter().map(|told| (told.from.as_deref(), told.to.as_deref())).collect();
    assert_eq!(
        changes,
        [
            (None, Some("OK")),
            (Some("OK"), Some("DEGRADED")),
            (Some("DEGRADED"), Some("DOWN")),
            (Some("DOWN"), Some("DEGRADED")),
            (Some("DEGRADED"), Some("OK")),
        ]
    );
    for (number, told) in told.iter().enumerate() {
        assert_eq!(told.id, format!("gw-1/adapter_1/7/device.state/{number}"));
        assert_eq!((told.asset.as_str(), told.detail("device")), ("adapter_1", Some("unit 5")));
        assert_eq!(told.detail("adapter_id"), Some("adapter_1"));
    }
    assert_eq!(told[2].message, "unit 5 does not answer");
}
