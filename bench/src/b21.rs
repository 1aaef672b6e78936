//! B21: memory (PSS) of all processes: the base, one idle adapter, one thousand points.
//!
//! Four plants are measured one after the other; the parts are the differences. The ratio is the base against the ship
//! limit, since the peers of the specification are not on this machine; every absolute figure is in the settings.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use crate::gateway::{Gateway, Plant, simulated};
use crate::noise::Guard;
use crate::record::{Row, rounded};
use crate::stats::{Estimate, float};
use crate::{Options, proc, say, stats};

/// Ship limits in MiB: base, idle adapter, one thousand points.
const LIMITS: [f64; 3] = [80.0, 8.0, 1.0];
/// Looks over the last seconds of the settle time; the median counts.
const LOOKS: usize = 11;

pub fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let settle = Duration::from_secs(options.settle.unwrap_or(60));
    let guard = Guard::new(true);
    let before = guard.moment();
    let idle = json!({ "adapter_id": "idle", "adapter_type": "simulated", "asset_id": "idle", "points": 1,
                       "poll_interval_ms": 86_400_000 });
    let base = measure(options, "base: no adapter, no sink", &[], settle)?;
    let with_idle = measure(options, "one idle adapter", std::slice::from_ref(&idle), settle)?;
    let few = measure(options, "1,000 points at 1 s", &[simulated("load", 1_000, 1000)], settle)?;
    let many = measure(options, "11,000 points at 1 s", &[simulated("load", 11_000, 1000)], settle)?;
    let noise = guard.since(&before);

    let idle_adapter = with_idle.total.median - base.total.median;
    let thousand = (many.total.median - few.total.median) / 10.0;
    let ratio = Estimate {
        median: base.total.median / LIMITS[0],
        low: base.total.low / LIMITS[0],
        high: base.total.high / LIMITS[0],
    };
    say::line(&format!(
        "PSS: base {:.1} MiB, idle adapter {idle_adapter:.2} MiB, 1,000 points {thousand:.2} MiB (ship limits {LIMITS:?})",
        base.total.median
    ));
    let mut row = Row::new("B21", "memory (PSS) of the idle gateway / ship limit of 80 MiB", &options.commit, ratio)
        .set("settle_s", settle.as_secs())
        .set("base_mib", rounded(base.total.median))
        .set("idle_adapter_mib", rounded(idle_adapter))
        .set("thousand_points_mib", rounded(thousand))
        .set("allocator", "mimalloc")
        .set("base_processes_mib", base.parts)
        .set("11000_points_processes_mib", many.parts);
    row.noise = noise; // memory does not depend on it; it is there to be seen
    Ok(vec![row])
}

struct Memory {
    total: Estimate,
    parts: Map<String, Value>,
}

fn measure(options: &Options, what: &str, adapters: &[Value], settle: Duration) -> anyhow::Result<Memory> {
    say::progress(&format!("{what}: settling for {} s", settle.as_secs()));
    let gateway = Gateway::start(&options.program, &Plant { adapters: adapters.to_vec(), sinks: Vec::new() })?;
    std::thread::sleep(settle.saturating_sub(Duration::from_secs(LOOKS as u64)));
    let mut totals = Vec::new();
    let mut parts = Map::new();
    for _ in 0..LOOKS {
        std::thread::sleep(Duration::from_secs(1));
        let processes = gateway.processes();
        let sizes: Vec<(String, f64)> = processes
            .into_iter()
            .filter_map(|(label, process)| Some((label, float(proc::pss_kib(process.pid)?) / 1024.0)))
            .collect();
        totals.push(sizes.iter().map(|(_, mib)| mib).sum());
        parts = sizes.into_iter().map(|(label, mib)| (label, rounded(mib).into())).collect();
    }
    let expected = 2 + adapters.len();
    if parts.len() < expected {
        bail!("{} processes instead of {expected}; the gateway said:\n{}", parts.len(), gateway.output());
    }
    let total = stats::estimate(&totals).context("no look was taken")?;
    say::line(&format!(
        "{what}: {:.1} MiB in {} processes: {}",
        total.median,
        parts.len(),
        Value::Object(parts.clone())
    ));
    Ok(Memory { total, parts })
}
