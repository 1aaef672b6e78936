//! Measures what a durable acknowledge costs at 1, 12 and 120 dirty partitions, for the choice of layout in
//! `docs/adr/0002-log-layout.md`: `cargo run --release -p commitlog --example layout [folder]`.
//!
//! One round dirties every partition with a 1 KiB batch and commits them together. In each slice three things are run in
//! turn: a raw `fdatasync` of 4 KiB in a file written before (the probe), the log (one segment file per partition), and
//! the least that a shared journal would have to do (one write of the same bytes to a file written before, one
//! `fdatasync`, no segment writes). All figures are ratios to the probe's median of the same run.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use commitlog::batch::Builder;
use commitlog::{Flusher, Log, LogOptions, RealVfs, SystemClock};

const BATCH_BYTES: usize = 1_024;
/// Threads of the flusher; two cores, and a sync waits rather than computes.
const SYNC_THREADS: usize = 8;
/// Slices per setting; in each the candidates take turns.
const SLICES: usize = 12;
const JOURNAL_BYTES: u64 = 16 * 1024 * 1024;
const PAGE_BYTES: u64 = 4_096;

/// Durations of one candidate and the bytes it has sent to the device.
#[derive(Default)]
struct Samples {
    rounds: Vec<Duration>,
    device_bytes: u64,
}

impl Samples {
    fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.rounds.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64()
    }

    fn rounds_per_second(&self) -> f64 {
        let count = f64::from(u32::try_from(self.rounds.len()).unwrap_or(u32::MAX));
        count / self.rounds.iter().sum::<Duration>().as_secs_f64()
    }
}

/// A file whose blocks are all written and synced before the measurement starts.
struct Prewritten {
    file: File,
    position: u64,
}

impl Prewritten {
    fn new(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        // Page by page: the kernel counts a dirtied page at the size in which it was first cached.
        for page in 0..JOURNAL_BYTES / PAGE_BYTES {
            file.write_all_at(&[0; 4_096], page * PAGE_BYTES)?;
        }
        file.sync_all()?;
        Ok(Self { file, position: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        if self.position + len > JOURNAL_BYTES {
            self.position = 0;
        }
        self.file.write_all_at(bytes, self.position)?;
        self.position += len.next_multiple_of(PAGE_BYTES);
        self.file.sync_data()
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn timed(samples: &mut Samples, round: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let start = Instant::now();
    round()?;
    samples.rounds.push(start.elapsed());
    Ok(())
}

/// Bytes this process has caused to be sent to the device.
fn device_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn run(folder: &Path, partitions: usize, pause: Duration, rounds_per_slice: usize) -> io::Result<[Samples; 3]> {
    let [mut probe, mut segments, mut journal] = [Samples::default(), Samples::default(), Samples::default()];
    let mut probe_file = Prewritten::new(&folder.join(format!("probe-{partitions}")))?;
    let mut journal_file = Prewritten::new(&folder.join(format!("journal-{partitions}")))?;
    let flusher = Flusher::new(SYNC_THREADS);
    let logs: Vec<Arc<Log>> = (0..partitions)
        .map(|index| {
            let dir = folder.join(format!("p{partitions}-{}-{index}", pause.as_millis()));
            Log::open(Arc::new(RealVfs), Arc::new(SystemClock), &dir, LogOptions::default()).map(|(log, _)| log)
        })
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)?;
    let batch = Builder::new(1).record(1, &[7; BATCH_BYTES - 80]).build();
    let together = vec![7; BATCH_BYTES * partitions];
    for slice in 0..=SLICES {
        let before = device_bytes();
        for _ in 0..rounds_per_slice {
            thread::sleep(pause);
            timed(&mut probe, || probe_file.write(&[7; 4_096]))?;
        }
        let between = device_bytes();
        for _ in 0..rounds_per_slice {
            thread::sleep(pause);
            timed(&mut segments, || {
                for log in &logs {
                    log.append(&mut batch.clone()).map_err(io::Error::other)?;
                }
                flusher.commit_wait(logs.clone()).map_err(io::Error::other)
            })?;
        }
        let after = device_bytes();
        for _ in 0..rounds_per_slice {
            thread::sleep(pause);
            timed(&mut journal, || journal_file.write(&together))?;
        }
        journal.device_bytes += device_bytes() - after;
        segments.device_bytes += after - between;
        probe.device_bytes += between - before;
        if slice == 0 {
            // The first slice warms up: files are created, the journal's pages are cached.
            [probe, segments, journal] = [Samples::default(), Samples::default(), Samples::default()];
        }
    }
    Ok([probe, segments, journal])
}

fn main() -> io::Result<()> {
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(base)?;
    let mut out = io::stdout().lock();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    writeln!(out, "load before: {}", load.trim())?;
    writeln!(out, "pause  partitions  layout    acks/s  p50/probe  p99/probe  device bytes per byte stored")?;
    for (pause, rounds) in [(Duration::ZERO, 60), (Duration::from_millis(100), 4)] {
        for partitions in [1, 12, 120] {
            let [probe, segments, journal] = run(folder.path(), partitions, pause, rounds)?;
            let unit = probe.percentile(50);
            for (name, samples) in [("segments", &segments), ("journal", &journal)] {
                let stored = samples.rounds.len() * partitions * BATCH_BYTES;
                let amplification = ratio(samples.device_bytes, stored as u64);
                let acks = samples.rounds_per_second() * f64::from(u32::try_from(partitions).unwrap_or(u32::MAX));
                let (p50, p99) = (samples.percentile(50) / unit, samples.percentile(99) / unit);
                let pause = pause.as_millis();
                writeln!(
                    out,
                    "{pause:>3}ms  {partitions:>10}  {name}  {acks:>8.0}  {p50:>9.1}  {p99:>9.1}  {amplification:.1}"
                )?;
            }
            writeln!(out, "probe: p50 {:.0} us, p99 {:.1} of it", unit * 1e6, probe.percentile(99) / unit)?;
        }
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    writeln!(out, "load after: {}", load.trim())
}

fn ratio(part: u64, whole: u64) -> f64 {
    let narrow = |value: u64| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
    narrow(part) / narrow(whole)
}
