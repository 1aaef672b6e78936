//! Points per second of the aggregator's core against a bare loop, in one run (benchmark B10).
//!
//! `cargo run --release -p pipeline --example aggregator_ratio [-- SLICES]`. The bare loop keeps minimum, maximum and sum
//! of each series, by index; the core is handed readings by name and folds them into seconds, seconds into minutes and
//! minutes into hours. Every twentieth reading is twelve seconds late: its second is closed and is corrected, and so is
//! the minute when that is closed. Slices alternate; the figures are medians and their ratio, at 10,000 and 1,000,000
//! series; read once per second every reading is a window of its own, and a hundred times per second it is as in the
//! document's example of 6,000 readings per minute.

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use config::Aggregation;
use model::{Quality, Resolution, Timestamp, Value};
use pipeline::aggregate::{Input, Level, Limits, Plans, Sample};

const PARTITIONS: usize = 12;
const POINTS_PER_SLICE: usize = 1_000_000;
/// 2026-01-29T10:00:00Z
const T0: i64 = 1_769_680_800_000_000;
const SECOND: i64 = 1_000_000;
/// One reading of so many is late, by this.
const LATE_ONE_IN: usize = 20;
const LATE_BY: i64 = 12 * SECOND;
/// Stream time before measuring, so that all levels are at work.
const WARM_UP: i64 = 75 * SECOND;

struct Series {
    asset: String,
    parameter: String,
    partition: usize,
}

#[derive(Clone, Copy)]
struct Bare {
    min: f64,
    max: f64,
    sum: f64,
}

/// Three levels in a row, as the gateway's loops are, without what is between them.
struct Cascade {
    levels: [Level; 3],
    /// Windows that left each level.
    emitted: [u64; 3],
    not_taken: u64,
    offset: i64,
}

fn main() -> std::io::Result<()> {
    let slices = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(11);
    let mut out = std::io::stdout().lock();
    for (series, per_second) in [(10_000, 1), (10_000, 10), (10_000, 100), (1_000_000, 1)] {
        let measured = measure(series, per_second, slices);
        let ratio = measured.core / measured.bare;
        writeln!(
            out,
            "{series} series at {per_second} Hz: aggregator {:.0} points/s, bare loop {:.0} points/s, ratio {ratio:.4}, \
             {} bytes of state per series, windows {:?}, not taken {}",
            measured.core, measured.bare, measured.bytes_per_series, measured.emitted, measured.not_taken
        )?;
    }
    Ok(())
}

struct Measured {
    core: f64,
    bare: f64,
    bytes_per_series: usize,
    emitted: [u64; 3],
    not_taken: u64,
}

impl Cascade {
    fn new(series: usize) -> Self {
        let limits = Limits { points_max: series, windows_max: series * 20, ..Limits::default() };
        let plans = Plans::new(&Aggregation::default());
        let level = |resolution| Level::new(resolution, &plans, PARTITIONS, limits);
        let levels = [Resolution::Second, Resolution::Minute, Resolution::Hour].map(level);
        Self { levels, emitted: [0; 3], not_taken: 0, offset: 0 }
    }

    fn take(&mut self, series: &Series, device: i64, gateway: i64, value: f64) {
        let Self { levels, emitted, not_taken, offset } = self;
        *offset += 1;
        let time = Timestamp::from_micros(device);
        let sample = Sample {
            asset_id: &series.asset,
            parameter: &series.parameter,
            unit: None,
            gateway_time: Timestamp::from_micros(gateway),
            offset: *offset,
            is_event: false,
            input: Input::Reading { value: Value::Float(value), quality: Quality::Good, time },
        };
        let [seconds, minutes, hours] = levels;
        let taken = seconds.sample(series.partition, &sample, &mut |second| {
            emitted[0] += 1;
            let _taken =
                minutes.sample(series.partition, &second.as_child(sample.gateway_time, *offset), &mut |minute| {
                    emitted[1] += 1;
                    let _taken =
                        hours.sample(series.partition, &minute.as_child(sample.gateway_time, *offset), &mut |_| {
                            emitted[2] += 1;
                        });
                });
        });
        *not_taken += u64::from(!matches!(taken, pipeline::aggregate::Taken::Added));
    }
}

fn measure(count: usize, per_second: i64, slices: usize) -> Measured {
    let series: Vec<Series> = (0..count)
        .map(|i| Series {
            asset: format!("line_{}_machine_{}", i / 1000, i / 10 % 100),
            parameter: format!("parameter_{}", i % 10),
            partition: i / 10 % PARTITIONS,
        })
        .collect();
    let before = resident_bytes();
    let mut cascade = Cascade::new(count);
    let mut bare = vec![Bare { min: f64::MAX, max: f64::MIN, sum: 0.0 }; count];
    let (mut of_core, mut of_bare) = (Vec::new(), Vec::new());
    let mut at = 0_usize;
    let mut tick = 0_i64;
    let step = SECOND / per_second;
    let mut core = |points: usize| {
        for _ in 0..points {
            let gateway = T0 + tick * step;
            let late = (at + usize::try_from(tick).unwrap_or(0)).is_multiple_of(LATE_ONE_IN);
            let device = if late { gateway - LATE_BY } else { gateway };
            cascade.take(&series[at], device, gateway, 50.0 + f64::from(u32::try_from(at % 7).unwrap_or(0)));
            at += 1;
            if at == count {
                at = 0;
                tick += 1;
            }
        }
    };
    core(count * usize::try_from(WARM_UP / step).unwrap_or(0));
    let bytes_per_series = (resident_bytes() - before) / count;
    let mut place = 0_usize;
    for slice in 0..slices * 2 {
        if slice % 2 == 0 {
            of_core.push(per_second_of(timed(|| core(POINTS_PER_SLICE))));
        } else {
            let elapsed = timed(|| {
                for i in 0..POINTS_PER_SLICE {
                    let one = &mut bare[place];
                    let value = f64::from(u32::try_from(i & 7).unwrap_or(0));
                    one.min = one.min.min(value);
                    one.max = one.max.max(value);
                    one.sum += value;
                    place += 1;
                    if place == count {
                        place = 0;
                    }
                }
            });
            black_box(&bare);
            of_bare.push(per_second_of(elapsed));
        }
    }
    let (emitted, not_taken) = (cascade.emitted, cascade.not_taken);
    Measured { core: median(of_core), bare: median(of_bare), bytes_per_series, emitted, not_taken }
}

/// Memory of this process.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

#[expect(clippy::disallowed_methods, reason = "a measurement needs the machine's clock")]
fn timed(work: impl FnOnce()) -> Duration {
    let began = std::time::Instant::now();
    work();
    began.elapsed()
}

fn per_second_of(elapsed: Duration) -> f64 {
    f64::from(u32::try_from(POINTS_PER_SLICE).unwrap_or(u32::MAX)) / elapsed.as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
