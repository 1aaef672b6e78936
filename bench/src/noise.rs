//! The noise guard: what else did the machine do during a slice?
//!
//! Three readings. *Foreign* work is the busy time of all cores minus the time of the run's own processes and of the
//! kernel's threads, as a share of the machine. *Steal* is what the hypervisor kept. *Pressure* is the kernel's own
//! figure (PSI, "some"), which also counts the run's own processes waiting for each other; it therefore judges only
//! runs that leave a core free, and is recorded in all.

use std::fs;
use std::time::Instant;

use serde::Serialize;

use crate::stats::float;
use crate::{clock, proc, stats};

/// Above this share of the machine, work of others spoils a slice.
const FOREIGN_MAX: f64 = 0.10;
/// Above this share of the machine, stolen time spoils a slice.
const STEAL_MAX: f64 = 0.05;
/// Above this share of the time with somebody waiting for a core, a slice of a run that leaves cores free is spoilt.
const PRESSURE_MAX: f64 = 0.20;

/// Counters at one moment.
#[derive(Debug, Clone)]
pub struct Moment {
    at: Instant,
    busy: u64,
    steal: u64,
    total: u64,
    own: u64,
    kernel: u64,
    pressure_us: u64,
}

/// What happened between two moments, as shares of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Noise {
    pub foreign: f64,
    pub steal: f64,
    pub pressure: f64,
}

/// Whose work is ours, and what is judged.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Processes whose trees belong to the run; this process always does.
    pub roots: Vec<u32>,
    /// True when the run leaves a core free, so that pressure means somebody else.
    pub judge_pressure: bool,
}

impl Guard {
    /// For a run of this process and its children.
    pub fn new(judge_pressure: bool) -> Self {
        Self { roots: vec![std::process::id()], judge_pressure }
    }

    /// Reads the counters.
    pub fn moment(&self) -> Moment {
        let (busy, steal, total) = parse_stat(&fs::read_to_string("/proc/stat").unwrap_or_default());
        let all = proc::all();
        Moment {
            at: clock::now(),
            busy,
            steal,
            total,
            own: proc::tree_ticks(&all, &self.roots),
            kernel: proc::kernel_ticks(&all),
            pressure_us: parse_pressure(&fs::read_to_string("/proc/pressure/cpu").unwrap_or_default()),
        }
    }

    /// What happened since.
    pub fn since(&self, before: &Moment) -> Noise {
        between(before, &self.moment())
    }

    /// True when nothing spoilt the slice.
    pub fn quiet(&self, noise: &Noise) -> bool {
        noise.foreign <= FOREIGN_MAX
            && noise.steal <= STEAL_MAX
            && (!self.judge_pressure || noise.pressure <= PRESSURE_MAX)
    }
}

fn between(before: &Moment, after: &Moment) -> Noise {
    let total = float(after.total.saturating_sub(before.total)).max(1.0);
    let own = after.own.saturating_sub(before.own) + after.kernel.saturating_sub(before.kernel);
    let busy = after.busy.saturating_sub(before.busy);
    let elapsed_us = after.at.duration_since(before.at).as_secs_f64() * 1e6;
    Noise {
        foreign: float(busy.saturating_sub(own)) / total,
        steal: float(after.steal.saturating_sub(before.steal)) / total,
        pressure: float(after.pressure_us.saturating_sub(before.pressure_us)) / elapsed_us.max(1.0),
    }
}

/// Medians over slices, for the record.
pub fn typical(noises: &[Noise]) -> Noise {
    let of = |pick: fn(&Noise) -> f64| stats::median(&noises.iter().map(pick).collect::<Vec<_>>()).unwrap_or_default();
    Noise { foreign: of(|noise| noise.foreign), steal: of(|noise| noise.steal), pressure: of(|noise| noise.pressure) }
}

/// Busy (user, nice, system), steal and all ticks of all cores.
fn parse_stat(text: &str) -> (u64, u64, u64) {
    let line = text.lines().find(|line| line.starts_with("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map(|word| word.parse().unwrap_or_default()).collect();
    let tick = |index: usize| ticks.get(index).copied().unwrap_or_default();
    // guest time is contained in user time, so only the first eight fields are added up
    (tick(0) + tick(1) + tick(2), tick(7), ticks.iter().take(8).sum())
}

/// Microseconds in which at least one task waited for a core.
fn parse_pressure(text: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with("some ")).unwrap_or_default();
    line.split_whitespace().find_map(|word| word.strip_prefix("total=")?.parse().ok()).unwrap_or_default()
}

/// The sentence for a run without a verdict.
pub fn no_verdict(quiet: usize, all: usize, noise: &Noise) -> String {
    format!(
        "no verdict: machine busy ({quiet} of {all} pairs were quiet; typical slice: {:.0} % foreign work, {:.0} % steal, {:.0} % pressure)",
        noise.foreign * 100.0,
        noise.steal * 100.0,
        noise.pressure * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(busy: u64, own: u64, steal: u64, pressure_us: u64, seconds: u64, start: Instant) -> Moment {
        let at = start + std::time::Duration::from_secs(seconds);
        Moment { at, busy, steal, total: seconds * 200, own, kernel: 0, pressure_us }
    }

    #[test]
    fn the_files_of_the_kernel() {
        let stat = "cpu  10 1 5 100 3 0 2 7 9 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(parse_stat(stat), (16, 7, 128));
        let pressure = "some avg10=45.64 avg60=39.38 avg300=35.97 total=246223279\nfull avg10=0.00 total=5\n";
        assert_eq!(parse_pressure(pressure), 246_223_279);
        assert_eq!((parse_stat(""), parse_pressure("")), ((0, 0, 0), 0));
    }

    #[test]
    fn own_work_is_no_noise_and_the_work_of_others_is() {
        let start = clock::now();
        let guard = Guard { roots: Vec::new(), judge_pressure: false };
        let before = moment(0, 0, 0, 0, 0, start);
        let own = between(&before, &moment(200, 195, 0, 900_000, 1, start));
        assert!(guard.quiet(&own), "{own:?}");
        assert!(!Guard { judge_pressure: true, ..guard.clone() }.quiet(&own), "waiting counts where cores are free");
        let others = between(&before, &moment(200, 100, 0, 0, 1, start));
        assert!((others.foreign - 0.5).abs() < 1e-9);
        assert!(!guard.quiet(&others));
        let stolen = between(&before, &moment(100, 100, 20, 0, 1, start));
        assert!(!guard.quiet(&stolen));
    }
}
