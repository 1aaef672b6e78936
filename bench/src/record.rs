//! One run, one JSON line of the results file.
//!
//! Invariant: a line names the processor, the sizes and the settings, never a host or a path, so it can be published.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::noise::Noise;
use crate::slices::Outcome;
use crate::stats::Estimate;

/// The machine of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub kernel: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (cpus, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let cpu = cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
        let kib = memory.lines().find(|line| line.starts_with("MemTotal:"));
        let kib: u64 = kib.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default();
        Self {
            cpu: cpu.map(|(_, name)| name.trim().to_owned()).unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: (kib + 512 * 1024) / (1024 * 1024),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// One line.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Number of the benchmark: `B1`.
    pub id: &'static str,
    /// What is divided by what.
    pub name: String,
    pub ratio: f64,
    /// 95 % interval.
    pub low: f64,
    pub high: f64,
    /// `ok`, or why the ratio is none.
    pub verdict: String,
    pub commit: String,
    pub machine: Machine,
    pub settings: Map<String, Value>,
    pub noise: Noise,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offered: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acked: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<u64>,
}

impl Row {
    /// From an estimate that stands by itself.
    pub fn new(id: &'static str, name: impl Into<String>, commit: &str, ratio: Estimate) -> Self {
        Self {
            id,
            name: name.into(),
            ratio: ratio.median,
            low: ratio.low,
            high: ratio.high,
            verdict: "ok".to_owned(),
            commit: commit.to_owned(),
            machine: Machine::here(),
            settings: Map::new(),
            noise: Noise::default(),
            offered: None,
            acked: None,
            delivered: None,
        }
    }

    /// From a paired run; `unit` is what both sides were measured in.
    pub fn paired(id: &'static str, name: impl Into<String>, commit: &str, outcome: &Outcome, unit: &str) -> Self {
        let mut row = Self::new(id, name, commit, outcome.ratio);
        if let Err(reason) = &outcome.verdict {
            row.verdict.clone_from(reason);
        }
        row.noise = outcome.noise;
        row.set("pairs", outcome.pairs)
            .set("quiet_pairs", outcome.quiet_pairs)
            .set("ours", rounded(outcome.ours))
            .set("peer", rounded(outcome.peer))
            .set("unit", unit)
    }

    /// Adds a setting.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    /// Appends the line.
    pub fn append(&self, results: &Path) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(self)?;
        line.push('\n');
        let open = OpenOptions::new().create(true).append(true).open(results);
        open.and_then(|mut file| file.write_all(line.as_bytes()))
            .with_context(|| format!("cannot append to {}", results.display()))
    }

    /// The last line of a run.
    pub fn sentence(&self) -> String {
        let verdict = if self.verdict == "ok" { String::new() } else { format!("  {}", self.verdict) };
        format!(
            "{} {}: ratio {:.3} (95 % {:.3} to {:.3}){verdict}",
            self.id, self.name, self.ratio, self.low, self.high
        )
    }
}

/// Three digits behind the point are more than a shared machine can tell.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object_with_the_agreed_keys() {
        let ratio = Estimate { median: 0.5, low: 0.4, high: 0.6 };
        let mut row = Row::new("B1", "a / b", "abc", ratio).set("pairs", 3);
        row.delivered = Some(7);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("results.jsonl");
        row.append(&file).unwrap();
        row.append(&file).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().count(), 2);
        let value: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        for key in ["id", "ratio", "low", "high", "commit", "machine", "settings", "verdict", "delivered"] {
            assert!(value.get(key).is_some(), "{key}");
        }
        assert!(value.get("offered").is_none(), "what was not counted is not claimed");
        assert_eq!(value["settings"]["pairs"], 3);
        assert_eq!(row.sentence(), "B1 a / b: ratio 0.500 (95 % 0.400 to 0.600)");
    }
}
