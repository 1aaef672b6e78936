//! Points per second of the validator's core against a bare loop, in one run (benchmark B9).
//!
//! `cargo run --release -p pipeline --example validator_ratio [-- SLICES [SERIES]]`. The bare loop compares each value with limits
//! and with the last value of its series, by index; the core is handed decoded readings by name, with duplicate, range,
//! rate and gap checks on. Names and values lie behind each other as they do in a fetched batch: what finds and decodes
//! them is not the core's work. Slices alternate; the figures are medians and their ratio, at 10,000 and 1,000,000 series,
//! in no order at all and in the order in which machines are read again and again.

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use config::rules::{Limits, RateLimits, Rule, Validation};
use model::{Classification, Quality, Reading, TextList, TextMap, Timestamp, Value, ValueType};
use pipeline::validate::{Judgement, Validator, Verdict};

const PARTITIONS: usize = 12;
const POINTS_PER_SLICE: usize = 200_000;
/// 2026-01-29T10:00:00Z
const T0: i64 = 1_769_680_800_000_000;

struct Series {
    asset: String,
    parameter: String,
    partition: usize,
    value: f64,
}

/// Readings as a batch holds them: all names in one piece of memory, in the order of the readings.
#[derive(Default)]
struct Batch {
    names: String,
    readings: Vec<Told>,
    /// All series together tell as many readings per second as there are series.
    now: f64,
    next: [i64; PARTITIONS],
}

struct Told {
    /// Ends of asset and parameter in the names; both begin where the one before ended.
    asset_end: usize,
    parameter_end: usize,
    partition: usize,
    offset: i64,
    value: f64,
    time: i64,
}

impl Batch {
    /// Every series tells its next reading.
    fn fill(&mut self, series: &mut [Series], order: &[usize]) {
        self.names.clear();
        self.readings.clear();
        let apart = 1_000_000.0 / f64::from(u32::try_from(series.len()).unwrap_or(u32::MAX));
        for one in order {
            let one = &mut series[*one];
            self.now += apart;
            self.next[one.partition] += 1;
            one.value = if one.value > 51.0 { 50.0 } else { one.value + 0.01 };
            self.names.push_str(&one.asset);
            let asset_end = self.names.len();
            self.names.push_str(&one.parameter);
            self.readings.push(Told {
                asset_end,
                parameter_end: self.names.len(),
                partition: one.partition,
                offset: self.next[one.partition],
                value: one.value,
                time: T0 + microseconds(self.now),
            });
        }
    }

    /// How many go on.
    fn judge(&self, validator: &mut Validator) -> usize {
        let (mut begin, mut forwarded) = (0, 0);
        let mut judged = Judgement::new(&reading("", "", 0.0, T0));
        for told in &self.readings {
            let asset = &self.names[begin..told.asset_end];
            let parameter = &self.names[told.asset_end..told.parameter_end];
            begin = told.parameter_end;
            let reading = reading(asset, parameter, told.value, told.time);
            validator.judge_at(told.partition, told.offset, &reading, &mut judged);
            forwarded += usize::from(judged.verdict == Verdict::Forward);
        }
        forwarded
    }
}

#[derive(Clone, Copy, Default)]
struct Bare {
    last: f64,
    time: i64,
    bad: u32,
}

fn main() -> std::io::Result<()> {
    let argument = |place| std::env::args().nth(place).and_then(|text| text.parse::<usize>().ok());
    let slices = argument(1).unwrap_or(21);
    let only = argument(2);
    let mut out = std::io::stdout().lock();
    let cases = [(10_000, false), (1_000_000, false), (10_000, true), (1_000_000, true)];
    for (series, in_order) in cases.into_iter().filter(|(series, _)| only.is_none_or(|only| only == *series)) {
        let (core, bare, bytes) = measure(series, in_order, slices);
        let order = if in_order { "in order" } else { "at random" };
        let ratio = core / bare;
        writeln!(
            out,
            "{series} series {order}: validator {core:.0} points/s, bare loop {bare:.0} points/s, ratio {ratio:.4}, {bytes} bytes per series"
        )?;
    }
    Ok(())
}

/// Median points per second of the core and of the bare loop, and bytes of state per series.
fn measure(count: usize, in_order: bool, slices: usize) -> (f64, f64, usize) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 33).unwrap_or(0)
    };
    let mut series: Vec<Series> = (0..count)
        .map(|i| Series {
            asset: format!("line_{}_machine_{}", i / 1000, i / 10 % 100),
            parameter: format!("parameter_{}", i % 10),
            partition: i / 10 % PARTITIONS,
            value: 50.0,
        })
        .collect();
    let mut validator = Validator::new(&rules(), PARTITIONS, count);
    let mut bare = vec![Bare { time: T0, last: 50.0, bad: 0 }; count];
    // until the duplicate memory has its size: at a million series it is only begun, or the machine would be full
    let rounds = if count > 100_000 { 9 } else { 65 };
    let before = resident_bytes();
    let mut batch = Batch::default();
    let all: Vec<usize> = (0..count).collect();
    for _ in 0..rounds {
        for order in all.chunks(POINTS_PER_SLICE) {
            batch.fill(&mut series, order);
            batch.judge(&mut validator);
        }
    }
    let bytes = resident_bytes().saturating_sub(before) / count;
    for (bare, one) in bare.iter_mut().zip(&series) {
        bare.last = one.value;
    }
    let (mut of_core, mut of_bare) = (Vec::new(), Vec::new());
    for slice in 0..slices * 2 {
        let begin = next();
        let pick = |i: usize| if in_order { (begin + i) % count } else { next() % count };
        let order: Vec<usize> = (0..POINTS_PER_SLICE).map(pick).collect();
        if slice % 2 == 0 {
            batch.fill(&mut series, &order);
            let mut forwarded = 0;
            let elapsed = timed(|| forwarded = batch.judge(&mut validator));
            assert!(forwarded > POINTS_PER_SLICE / 2, "{forwarded} of {POINTS_PER_SLICE} go on");
            of_core.push(per_second(elapsed));
        } else {
            let elapsed = timed(|| {
                for i in &order {
                    let point = &mut bare[*i];
                    let (time, value) =
                        (point.time + 1_000_000, if point.last > 51.0 { 50.0 } else { point.last + 0.01 });
                    let wrong = value > 100.0 || (value - point.last).abs() > 5.0 || time - point.time > 2_000_000;
                    point.bad += u32::from(wrong);
                    (point.last, point.time) = (value, time);
                }
            });
            black_box(&bare);
            of_bare.push(per_second(elapsed));
        }
    }
    (median(of_core), median(of_bare), bytes)
}

/// Memory of this process that is in use, by the second figure of `/proc/self/statm`, in pages of 4 KiB.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

#[expect(clippy::disallowed_methods, reason = "a measurement needs the machine's clock")]
fn timed(work: impl FnOnce()) -> Duration {
    let began = std::time::Instant::now();
    work();
    began.elapsed()
}

#[expect(clippy::cast_possible_truncation, reason = "hours of microseconds are far from 2^53")]
fn microseconds(time: f64) -> i64 {
    time as i64
}

fn per_second(elapsed: Duration) -> f64 {
    f64::from(u32::try_from(POINTS_PER_SLICE).unwrap_or(u32::MAX)) / elapsed.as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn rules() -> Validation {
    Validation {
        rules: vec![Rule {
            id: "all".to_owned(),
            asset: "*".to_owned(),
            parameter: "*".to_owned(),
            range: Some(Limits { hard_hi: Some(100.0), soft_hi: Some(90.0), hard_lo: Some(0.0), soft_lo: None }),
            rate: Some(RateLimits { soft_per_s: Some(4.0), hard_per_s: Some(5.0) }),
            expected_interval_ms: Some(1000),
            ..Rule::default()
        }],
        ..Validation::default()
    }
}

fn reading<'n>(asset: &'n str, parameter: &'n str, value: f64, micros: i64) -> Reading<'n> {
    let time = Timestamp::from_micros(micros);
    Reading {
        asset_id: asset,
        asset_path: None,
        parameter,
        value: Value::Float(value),
        value_type: ValueType::Float,
        value_label: None,
        unit: None,
        quality: Quality::Good,
        quality_reason: None,
        reasons: TextList::default(),
        classification: Classification::Telemetry,
        device_time: time,
        gateway_time: time,
        time_source: model::time_source::ACQUISITION,
        clock_state: "SYNCED",
        clock_skew_ms: None,
        epoch: 1,
        seq: 0,
        flags: TextList::default(),
        metadata: TextMap::default(),
        tags: TextMap::default(),
    }
}
