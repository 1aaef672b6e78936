//! B15: how many polls start on time, when one gateway reads a thousand devices of which some are dead and some are slow.
//!
//! Counted at the far end: every device notes when a request arrives. A poll is on time when it starts within a tenth of
//! its period of where the device's own grid has it; a poll that never came counts as late. The grid of a device is the
//! median phase of its requests, so a poll that is late for ever would show as a grid that moves.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use testkit::sim::modbus::fault::{Fault, Rule};
use testkit::sim::modbus::load::Load;
use testkit::sim::modbus::{CONNECTIONS_MAX, Simulator};

use crate::gateway::{Gateway, Plant};
use crate::noise::Guard;
use crate::record::{Row, rounded};
use crate::stats::{Estimate, float};
use crate::{Options, clock, proc, say};

const DEVICES: usize = 1_000;
/// One in twenty is dead, and another one slow.
const ONE_IN: usize = 20;
const POINTS: u16 = 10;
const PERIOD_MS: u64 = 1_000;
/// What a slow device needs for an answer.
const SLOW: Duration = Duration::from_millis(800);
/// How long all may take until they were read three times.
const READY_MAX: Duration = Duration::from_secs(300);
const SETTLE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Healthy,
    /// Takes connections and never answers.
    Silent,
    /// Refuses connections.
    Off,
    Slow,
}

fn kind(n: usize) -> Kind {
    match n % ONE_IN {
        7 if n % (2 * ONE_IN) == 7 => Kind::Silent,
        7 => Kind::Off,
        13 => Kind::Slow,
        _ => Kind::Healthy,
    }
}

/// Polls of one device: those on time, and those that should have been.
fn on_time(starts_ms: &[u64], seconds: u64) -> (u64, u64) {
    let due = seconds * 1_000 / PERIOD_MS;
    let Some(first) = starts_ms.first() else { return (0, due) };
    // phases around the first one, so that none is cut at the edge of a period
    let phase = |t: &u64| (t - first + PERIOD_MS / 2) % PERIOD_MS;
    let mut phases: Vec<u64> = starts_ms.iter().map(phase).collect();
    phases.sort_unstable();
    let grid = phases[phases.len() / 2];
    let mut ticks: Vec<u64> = starts_ms
        .iter()
        .filter(|t| phase(t).abs_diff(grid) <= PERIOD_MS / 10)
        .map(|t| (t - first + PERIOD_MS + PERIOD_MS / 2 - grid) / PERIOD_MS)
        .collect();
    ticks.dedup(); // two in one period are one poll
    (u64::try_from(ticks.len()).unwrap_or(due).min(due), due)
}

pub fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let seconds = options.seconds.unwrap_or(120);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(0);
    let (sender, devices) = std::sync::mpsc::sync_channel(1);
    let devices_thread = std::thread::spawn(move || -> anyhow::Result<()> {
        runtime.block_on(async {
            let mut devices = Vec::with_capacity(DEVICES);
            for n in 0..DEVICES {
                let device = Simulator::local(Arc::new(Load { first_unit: 1, units: 1, points: POINTS })).await?;
                match kind(n) {
                    Kind::Healthy => {}
                    Kind::Silent => device.script(Rule::every(Fault::Drop)),
                    Kind::Off => device.set_offline(true),
                    Kind::Slow => device.script(Rule::every(Fault::Delay(SLOW))),
                }
                devices.push(Arc::new(device));
            }
            sender.send(devices.clone())?;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        })
    });
    let Ok(devices) = devices.recv() else {
        bail!("the devices did not start: {:?}", devices_thread.join());
    };
    let rows = measure(options, &devices, seconds);
    drop(devices);
    drop(stop);
    if devices_thread.join().is_err() {
        say::progress("the devices ended in a panic");
    }
    rows
}

fn measure(options: &Options, devices: &[Arc<Simulator>], seconds: u64) -> anyhow::Result<Vec<Row>> {
    let load = Load { first_unit: 1, units: 1, points: POINTS };
    let adapters = devices.iter().enumerate().map(|(n, device)| {
        let mut adapter = load.adapter(device.address().port(), 1, PERIOD_MS);
        adapter["adapter_id"] = json!(format!("device_{n:04}"));
        adapter["asset_id"] = json!(format!("load_{n:04}"));
        adapter
    });
    say::progress(&format!(
        "starting a gateway with {DEVICES} adapters, {CONNECTIONS_MAX} connections per device at most"
    ));
    let gateway = Gateway::start(&options.program, &Plant { adapters: adapters.collect(), sinks: Vec::new() })?;
    let healthy: Vec<&Arc<Simulator>> =
        (0..DEVICES).filter(|n| kind(*n) == Kind::Healthy).map(|n| &devices[n]).collect();
    let read = |least: usize| healthy.iter().filter(|device| device.request_count() >= least).count();
    let ready = clock::wait_until(READY_MAX, Duration::from_secs(1), || read(3) == healthy.len());
    if !ready {
        bail!("{} of {} devices were read; the gateway said:\n{}", read(3), healthy.len(), gateway.output());
    }
    say::progress("all are read; settling");
    std::thread::sleep(SETTLE);
    let guard = Guard::new(true);
    let before = guard.moment();
    let busy = ticks(&gateway);
    let from: Vec<usize> = healthy.iter().map(|device| device.request_count()).collect();
    std::thread::sleep(Duration::from_secs(seconds));
    let requests: Vec<_> = healthy.iter().map(|device| device.requests()).collect();
    let cores = float(ticks(&gateway) - busy) / proc::ticks_per_second() / float(seconds);
    let noise = guard.since(&before);
    let (mut good, mut due) = (0, 0);
    for (seen, from) in requests.iter().zip(from) {
        let starts: Vec<u64> =
            seen.get(from..).context("requests were forgotten")?.iter().map(|seen| seen.t_ms).collect();
        let (device_good, device_due) = on_time(&starts, seconds);
        (good, due) = (good + device_good, due + device_due);
    }
    let share = float(good) / float(due);
    let pss: f64 =
        gateway.processes().iter().filter_map(|(_, one)| proc::pss_kib(one.pid)).map(|kib| float(kib) / 1024.0).sum();
    say::line(&format!(
        "{good} of {due} polls on time; {cores:.2} cores, {pss:.0} MiB in all processes of the gateway"
    ));
    let estimate = Estimate { median: share, low: share, high: share };
    let mut row =
        Row::new("B15", "polls that start on time, of 900 healthy devices among 1,000", &options.commit, estimate)
            .set("devices", DEVICES)
            .set("dead", DEVICES / ONE_IN)
            .set("slow", DEVICES / ONE_IN)
            .set("slow_ms", u64::try_from(SLOW.as_millis())?)
            .set("period_ms", PERIOD_MS)
            .set("points_per_device", POINTS)
            .set("polls_on_time", good)
            .set("polls_due", due)
            .set("cores", rounded(cores))
            .set("pss_mib", rounded(pss))
            .set("seconds", seconds);
    row.noise = noise;
    Ok(vec![row])
}

/// Processor ticks of all processes of the gateway so far.
fn ticks(gateway: &Gateway) -> u64 {
    gateway.processes().iter().map(|(_, process)| process.ticks).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_off_the_grid_or_missing_is_not_on_time() {
        let even: Vec<u64> = (0..10).map(|n| 5_990 + n * 1_000).collect();
        assert_eq!(on_time(&even, 10), (10, 10));
        let mut late = even.clone();
        late[4] += 150;
        assert_eq!(on_time(&late, 10), (9, 10));
        late.remove(7);
        assert_eq!(on_time(&late, 10), (8, 10));
        late.insert(0, 5_700);
        assert_eq!(on_time(&late, 10), (8, 10), "one more than due makes up for none");
        assert_eq!(on_time(&[], 10), (0, 10));
    }

    #[test]
    fn one_in_twenty_is_dead_and_one_in_twenty_slow() {
        let count = |wanted: &[Kind]| (0..DEVICES).filter(|n| wanted.contains(&kind(*n))).count();
        assert_eq!(count(&[Kind::Silent, Kind::Off]), DEVICES / ONE_IN);
        assert_eq!(count(&[Kind::Slow]), DEVICES / ONE_IN);
    }
}
