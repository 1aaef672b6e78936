//! The load run: so many points per second through raw, validator, clean, aggregates and into PostgreSQL, for so long.
//!
//! Counted at four places, so that offered = acknowledged + lost + still waiting, and delivered follows. The offered
//! count is the timetable's (rate times time), not what the adapter found time for: a generator that falls behind is
//! seen as a shortfall, not hidden.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use stream::Topic;

use crate::database::{self, Database};
use crate::gateway::{Gateway, Plant, SINK, simulated, timescale};
use crate::noise::{Guard, Noise};
use crate::record::{Row, rounded};
use crate::stats::{Estimate, float};
use crate::{Options, clock, http, noise, proc, say, stats};

/// Period of the made-up points.
pub const PERIOD_MS: u64 = 100;
/// Time before the figures count: connections, first batches.
const SETTLE: Duration = Duration::from_secs(10);
/// How long the rest may take to arrive after the sources stopped.
const DRAIN_MAX: Duration = Duration::from_secs(120);
/// Name of the adapter.
pub const ADAPTER: &str = "load";
/// Lag growing by less than this share of the rate is called steady.
const GROWTH_MAX: f64 = 0.01;
/// Places of the topics in [`TOPICS`].
const TOPICS: [Topic; 2] = [Topic::TelemetryRaw, Topic::TelemetryClean];

/// What is asked of the run.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub rate: u64,
    pub seconds: u64,
    /// Between two looks, in seconds.
    pub every: u64,
}

/// Figures at one moment.
#[derive(Debug, Clone)]
struct Look {
    at: f64,
    raw: u64,
    clean: u64,
    delivered: u64,
    cpu: BTreeMap<String, u64>,
    database_ticks: u64,
}

impl Look {
    fn lag(&self) -> u64 {
        self.raw.saturating_sub(self.delivered)
    }
}

/// CPU of the parts over a steady stretch.
#[derive(Debug)]
pub struct Finding {
    /// Per look: share of one core that the whole gateway took, the database not counted.
    pub gateway_cores: Vec<f64>,
    /// Readings acknowledged per second over the stretch.
    pub acked_per_second: f64,
    pub lag_slope: f64,
    pub lag_max: u64,
    pub offered: u64,
    pub acked: u64,
    pub delivered: u64,
    pub lost: u64,
    pub stream_bytes_per_point: f64,
    pub noises: Vec<Noise>,
}

/// The plant of a load: one adapter with as many points as the rate needs, one sink.
pub fn plant(rate: u64, url: &str) -> Plant {
    let points = (rate * PERIOD_MS / 1000).max(1);
    Plant { adapters: vec![simulated(ADAPTER, points, PERIOD_MS)], sinks: vec![timescale(url)] }
}

/// The benchmark as a command.
pub fn run(options: &Options, load: Load) -> anyhow::Result<Vec<Row>> {
    let finding = measure(options, load)?;
    let keeps_up = finding.lag_slope <= GROWTH_MAX * float(load.rate);
    let short_by = 1.0 - finding.acked_per_second / float(load.rate);
    say::line(&format!(
        "load: offered {}, acknowledged {}, delivered {} rows, lost {}; lag {} ({:+.0} records/s, at most {})",
        finding.offered,
        finding.acked,
        finding.delivered,
        finding.lost,
        if keeps_up { "steady" } else { "GROWING" },
        finding.lag_slope,
        finding.lag_max
    ));
    let delivered = finding.acked_per_second - finding.lag_slope;
    let ratio = delivered / float(load.rate);
    let estimate = Estimate { median: ratio, low: ratio, high: ratio };
    let typical = noise::typical(&finding.noises);
    let name = format!("points/s delivered / {} points/s offered", load.rate);
    let mut row = Row::new("LOAD", name, &options.commit, estimate)
        .set("seconds", load.seconds)
        .set("rate", load.rate)
        .set("keeps_up", keeps_up)
        .set("short_by", rounded(short_by))
        .set("lag_slope_per_s", rounded(finding.lag_slope))
        .set("lag_max", finding.lag_max)
        .set("lost", finding.lost)
        .set("gateway_cores", rounded(stats::median(&finding.gateway_cores).unwrap_or_default()))
        .set("stream_bytes_per_point", rounded(finding.stream_bytes_per_point))
        .set("postgresql", database::SETTINGS_SHORT)
        .set("interval", "none: one run");
    row.noise = typical;
    (row.offered, row.acked, row.delivered) = (Some(finding.offered), Some(finding.acked), Some(finding.delivered));
    if !Guard::new(false).quiet(&typical) {
        row.verdict = noise::no_verdict(0, finding.noises.len(), &typical);
    }
    Ok(vec![row])
}

/// Runs the load and says how it went.
pub fn measure(options: &Options, load: Load) -> anyhow::Result<Finding> {
    let database = Database::start()?;
    let gateway = Gateway::start(&options.program, &plant(load.rate, &database.url()))?;
    let flowing = clock::wait_until(Duration::from_secs(60), Duration::from_millis(50), || {
        database.committed(Topic::TelemetryClean.name()) > 0
    });
    if !flowing {
        bail!("nothing arrived in the database; the gateway said:\n{}", gateway.output());
    }
    say::progress("points arrive in the database, settling");
    std::thread::sleep(SETTLE);
    let mut guard = Guard::new(false);
    guard.roots.extend(database.pid());
    let begin = clock::now();
    let mut looks = vec![look(&gateway, &database, &guard, 0.0)?];
    let mut noises = Vec::new();
    while looks.last().is_none_or(|look| look.at < float(load.seconds)) {
        let before = guard.moment();
        let next = begin + Duration::from_secs(load.every * looks.len() as u64);
        std::thread::sleep(next.saturating_duration_since(clock::now()));
        let look = look(&gateway, &database, &guard, begin.elapsed().as_secs_f64())?;
        let noise = guard.since(&before);
        show(looks.last(), &look, &noise);
        looks.push(look);
        noises.push(noise);
    }
    let buffered = gateway.metrics(ADAPTER).map(|text| http::metric(&text, "sf_buffered_records")).unwrap_or_default();
    if buffered > 0.0 {
        say::line(&format!("load: {buffered:.0} readings wait in the adapter"));
    }
    finish(&gateway, &database, load, &looks, noises)
}

fn look(gateway: &Gateway, database: &Database, guard: &Guard, at: f64) -> anyhow::Result<Look> {
    let written = gateway.written(&TOPICS)?;
    let delivered = database.committed(Topic::TelemetryClean.name());
    let database_roots = guard.roots.get(1..).unwrap_or_default();
    let database_ticks = proc::tree_ticks(&proc::all(), database_roots);
    Ok(Look { at, raw: written[0], clean: written[1], delivered, cpu: gateway.cpu(), database_ticks })
}

fn show(before: Option<&Look>, now: &Look, noise: &Noise) {
    let Some(before) = before else { return };
    let seconds = (now.at - before.at).max(0.001);
    let rate = |now: u64, before: u64| float(now.saturating_sub(before)) / seconds;
    say::line(&format!(
        "{:6.0} s  raw {:8.0}/s  clean {:8.0}/s  rows {:8.0}/s  lag: validator {:7} sink {:7}  gateway {:4.2} cores, database {:4.2}, others {:4.2}",
        now.at,
        rate(now.raw, before.raw),
        rate(now.clean, before.clean),
        rate(now.delivered, before.delivered),
        now.raw.saturating_sub(now.clean),
        now.clean.saturating_sub(now.delivered),
        gateway_cores(before, now),
        rate(now.database_ticks, before.database_ticks) / proc::ticks_per_second(),
        noise.foreign * float(cores()),
    ));
}

fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u64)
}

/// Cores the gateway's processes took; threads are listed beside their processes and not added again.
fn gateway_cores(before: &Look, now: &Look) -> f64 {
    let processes = now.cpu.iter().filter(|(label, _)| !label.contains(" / "));
    let ticks: u64 =
        processes.map(|(label, ticks)| ticks.saturating_sub(before.cpu.get(label).copied().unwrap_or_default())).sum();
    float(ticks) / proc::ticks_per_second() / (now.at - before.at).max(0.001)
}

fn finish(
    gateway: &Gateway,
    database: &Database,
    load: Load,
    looks: &[Look],
    noises: Vec<Noise>,
) -> anyhow::Result<Finding> {
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { bail!("no look was taken") };
    let seconds = last.at - first.at;
    say::line(&format!("CPU over {seconds:.0} s, in cores:"));
    let mut parts: Vec<(f64, &String)> = last
        .cpu
        .iter()
        .map(|(label, ticks)| {
            let ticks = ticks.saturating_sub(first.cpu.get(label).copied().unwrap_or_default());
            (float(ticks) / proc::ticks_per_second() / seconds, label)
        })
        .collect();
    parts.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (cores, label) in parts.iter().filter(|(cores, _)| *cores >= 0.005) {
        say::line(&format!("  {cores:6.3}  {label}"));
    }
    let database_cores =
        float(last.database_ticks.saturating_sub(first.database_ticks)) / proc::ticks_per_second() / seconds;
    say::line(&format!("  {database_cores:6.3}  (PostgreSQL, not part of the gateway)"));
    let points: Vec<(f64, f64)> = looks.iter().map(|look| (look.at, float(look.lag()))).collect();
    let acked = last.raw - first.raw;

    // stop the source, let the rest arrive, count rows
    let lost = gateway.metrics(ADAPTER).map(|text| http::metric(&text, "sf_loss_records_total")).unwrap_or_default();
    gateway.change(&Plant { adapters: Vec::new(), sinks: plant(load.rate, &database.url()).sinks })?;
    let drained = drain(gateway, database)?;
    let rows = database.number("SELECT count(*) FROM telemetry")?;
    if rows != drained {
        bail!("{rows} rows in the table, {drained} records acknowledged: the counts do not add up");
    }
    let [raw, clean] = gateway.written(&TOPICS)?[..] else { bail!("two topics asked, not two answers") };
    say::line(&format!("after draining: raw {raw}, clean {clean}, rows {rows}"));
    Ok(Finding {
        gateway_cores: looks.windows(2).map(|pair| gateway_cores(&pair[0], &pair[1])).collect(),
        acked_per_second: float(acked) / seconds,
        lag_slope: stats::slope(&points).unwrap_or_default(),
        lag_max: looks.iter().map(Look::lag).max().unwrap_or_default(),
        offered: load.rate * load.seconds,
        acked,
        delivered: last.delivered - first.delivered,
        lost: rounded_count(lost),
        stream_bytes_per_point: float(gateway.stream_bytes()) / float(raw.max(1)),
        noises,
    })
}

/// Waits until nothing is on its way any more; returns the rows committed.
pub fn drain(gateway: &Gateway, database: &Database) -> anyhow::Result<u64> {
    let mut last = (0, 0, 0);
    let mut still_since = clock::now();
    let deadline = clock::now() + DRAIN_MAX;
    loop {
        let written = gateway.written(&TOPICS)?;
        let now = (written[0], written[1], database.committed(Topic::TelemetryClean.name()));
        if now != last {
            (last, still_since) = (now, clock::now());
        }
        let (raw, clean, committed) = now;
        // the document is looked at once a second: a moment of stillness alone could be a source about to stop
        if raw == clean && clean == committed && still_since.elapsed() > Duration::from_secs(3) {
            return Ok(committed);
        }
        if clock::now() >= deadline {
            bail!("not drained: raw {raw}, clean {clean}, committed by {SINK} {committed}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A metric is a float that counts.
fn rounded_count(value: f64) -> u64 {
    format!("{value:.0}").parse().unwrap_or_default()
}
