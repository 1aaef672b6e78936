//! `sf.Aggregate` (`contracts/avro/aggregate.v2.avsc`): one window of one tag in Avro binary.
//!
//! Version 2 has more fields at the end than version 1, each with a default. A record that ends where version 1 ended is
//! of version 1, so the reader need not be told which one it has (REC-05).

use model::aggregate::{Carry, Counts, Coverage, Extra, Partials, StateTimes, States, Times, Vector};
use model::{Aggregate, Kind, Resolution, Statistics, TextMap, Timestamp};

use super::telemetry::{quality, quality_index};
use crate::avro::{
    DecodeError, Reader, put_boolean, put_double, put_frame, put_long, put_optional_long, put_optional_text,
    put_string, put_text_map, put_texts, put_time,
};

/// Appends the window to `out`, framed with `schema_id`.
pub fn encode(out: &mut Vec<u8>, schema_id: i32, window: &Aggregate<'_>) {
    let s = &window.partials.statistics;
    let coverage = window.partials.coverage;
    put_frame(out, schema_id);
    put_string(out, window.asset_id);
    put_string(out, window.parameter);
    put_optional_text(out, window.unit);
    put_string(out, window.resolution.as_str());
    put_time(out, window.window_start);
    put_time(out, window.window_end);
    for number in [window.average().unwrap_or(0.0), s.min, s.max] {
        put_double(out, number);
    }
    put_long(out, s.count);
    put_statistics(out, s);
    put_double(out, window.stddev().unwrap_or(0.0));
    put_string(out, window.avg_method());
    put_optional_double(out, coverage.and_then(|coverage| coverage.integral));
    put_optional_long(out, coverage.map(|coverage| millis(coverage.covered_us)));
    put_optional_long(out, coverage.map(|coverage| millis(coverage.good_us)));
    put_long(out, quality_index(window.quality));
    put_boolean(out, window.partial);
    put_long(out, window.revision);
    put_boolean(out, window.revision > 1);
    put_time(out, window.gateway_time);
    put_texts(out, window.flags);
    put_text_map(out, TextMap::Slice(&[("gateway_id", window.gateway_id)]));
    put_text_map(out, TextMap::default());
    put_string(out, window.kind.as_str());
    put_optional_long(out, coverage.map(|coverage| coverage.covered_us));
    put_optional_long(out, coverage.map(|coverage| coverage.good_us));
    put_double(out, window.percent_good());
    put_extra(out, &window.partials.extra);
    put_carry(out, window.held.as_ref());
    put_carry(out, window.carry.as_ref());
    put_stops(out, window.stops);
}

fn put_statistics(out: &mut Vec<u8>, s: &Statistics) {
    put_long(out, s.count);
    for number in [s.sum, s.mean, s.m2] {
        put_double(out, number);
    }
    for (number, time) in [(s.min, s.min_time), (s.max, s.max_time), (s.first, s.first_time), (s.last, s.last_time)] {
        put_double(out, number);
        put_time(out, time);
    }
    for count in [s.good_count, s.suspect_count, s.uncertain_count] {
        put_long(out, count);
    }
}

/// The three unions `counter`, `angle`, `states`.
fn put_extra(out: &mut Vec<u8>, extra: &Extra<'_>) {
    match extra {
        Extra::None => out.extend_from_slice(&[0, 0, 0]),
        Extra::Counter(counts) => {
            out.push(2);
            put_double(out, counts.delta);
            for count in [counts.resets, counts.refused, counts.gaps] {
                put_long(out, count);
            }
            out.extend_from_slice(&[0, 0]);
        }
        Extra::Angle(vector) => {
            out.extend_from_slice(&[0, 2]);
            put_double(out, vector.sin);
            put_double(out, vector.cos);
            out.push(0);
        }
        Extra::States(states) => {
            out.extend_from_slice(&[0, 0, 2]);
            put_long(out, states.transitions);
            put_string(out, states.first);
            put_string(out, states.last);
            put_times(out, states.times);
        }
    }
}

fn put_times(out: &mut Vec<u8>, times: StateTimes<'_>) {
    match times {
        StateTimes::Packed(packed) => out.extend_from_slice(packed),
        StateTimes::Owned(times) => {
            if !times.is_empty() {
                put_long(out, i64::try_from(times.len()).expect("a few dozen states"));
                for (state, micros) in times {
                    put_string(out, state);
                    put_long(out, *micros);
                }
            }
            out.push(0);
        }
    }
}

fn put_carry(out: &mut Vec<u8>, carry: Option<&Carry<'_>>) {
    let Some(carry) = carry else { return out.push(0) };
    out.push(2);
    put_time(out, carry.time);
    put_double(out, carry.number);
    put_optional_text(out, carry.state);
    put_long(out, quality_index(carry.quality));
    put_double(out, carry.counted);
    put_long(out, carry.behind_us);
}

fn put_stops(out: &mut Vec<u8>, stops: Times<'_>) {
    match stops {
        Times::Packed(packed) => out.extend_from_slice(packed),
        Times::Slice(stops) => {
            if !stops.is_empty() {
                put_long(out, i64::try_from(stops.len()).expect("a slice is shorter than 2^63"));
                for stop in stops {
                    put_long(out, *stop);
                }
            }
            out.push(0);
        }
    }
}

fn put_optional_double(out: &mut Vec<u8>, number: Option<f64>) {
    match number {
        None => out.push(0),
        Some(number) => {
            out.push(2);
            put_double(out, number);
        }
    }
}

/// To the nearest millisecond.
fn millis(micros: i64) -> i64 {
    micros.saturating_add(500).div_euclid(1000)
}

/// Reads the Avro body (framing taken off by [`crate::avro::unframe`]), of version 1 or 2.
pub fn decode(body: &[u8]) -> Result<Aggregate<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let asset_id = reader.text("asset_id")?;
    let parameter = reader.text("parameter")?;
    let unit = reader.optional_text("unit")?;
    let resolution = Resolution::parse(reader.text("resolution")?)
        .ok_or(DecodeError::UnknownBranch { field: "resolution", index: -1 })?;
    let window_start = reader.time("window_start")?;
    let window_end = reader.time("window_end")?;
    for field in ["avg", "min", "max"] {
        reader.double(field)?;
    }
    reader.long("count")?;
    let statistics = take_statistics(&mut reader)?;
    reader.double("stddev")?;
    reader.text("avg_method")?;
    let integral = take_optional_double(&mut reader, "tw_integral")?;
    reader.optional_long("covered_ms")?;
    reader.optional_long("good_ms")?;
    let quality = quality(reader.long("quality")?)?;
    let partial = reader.boolean("partial")?;
    let revision = reader.long("revision")?;
    reader.boolean("is_correction")?;
    let gateway_time = reader.time("gateway_time")?;
    let flags = reader.texts("flags")?;
    let metadata = reader.text_map("metadata")?;
    reader.text_map("tags")?;
    let mut window = Aggregate {
        asset_id,
        parameter,
        unit,
        resolution,
        window_start,
        window_end,
        kind: Kind::Value,
        partials: Partials { statistics, coverage: None, extra: Extra::None },
        quality,
        partial,
        revision,
        held: None,
        carry: None,
        stops: Times::default(),
        flags,
        gateway_time,
        gateway_id: metadata.get("gateway_id").unwrap_or(""),
    };
    if reader.left() == 0 {
        return Ok(window); // version 1
    }
    window.kind = Kind::parse(reader.text("kind")?).ok_or(DecodeError::UnknownBranch { field: "kind", index: -1 })?;
    window.partials.coverage = take_coverage(&mut reader, integral)?;
    reader.double("percent_good")?;
    window.partials.extra = take_extra(&mut reader)?;
    window.held = take_carry(&mut reader)?;
    window.carry = take_carry(&mut reader)?;
    window.stops = Times::Packed(reader.longs("stops")?);
    reader.finish()?;
    Ok(window)
}

fn take_statistics(reader: &mut Reader<'_>) -> Result<Statistics, DecodeError> {
    let statistics = Statistics {
        count: reader.long("count")?,
        sum: reader.double("sum")?,
        mean: reader.double("mean")?,
        m2: reader.double("m2")?,
        min: reader.double("min")?,
        min_time: reader.time("min_time")?,
        max: reader.double("max")?,
        max_time: reader.time("max_time")?,
        first: reader.double("first")?,
        first_time: reader.time("first_time")?,
        last: reader.double("last")?,
        last_time: reader.time("last_time")?,
        good_count: reader.long("good_count")?,
        suspect_count: reader.long("suspect_count")?,
        uncertain_count: reader.long("uncertain_count")?,
    };
    let s = &statistics;
    finite(&[s.sum, s.mean, s.m2, s.min, s.max, s.first, s.last], "statistics")?;
    if s.count < 0 {
        return Err(DecodeError::UnknownBranch { field: "count", index: s.count });
    }
    Ok(statistics)
}

fn take_coverage(reader: &mut Reader<'_>, integral: Option<f64>) -> Result<Option<Coverage>, DecodeError> {
    let covered_us = reader.optional_long("covered_us")?;
    let good_us = reader.optional_long("good_us")?;
    Ok(covered_us.map(|covered_us| Coverage { covered_us, good_us: good_us.unwrap_or(0), integral }))
}

fn take_extra<'a>(reader: &mut Reader<'a>) -> Result<Extra<'a>, DecodeError> {
    let mut extra = Extra::None;
    if reader.present("counter")? {
        let delta = reader.double("delta")?;
        finite(&[delta], "delta")?;
        let (resets, refused, gaps) = (reader.long("resets")?, reader.long("refused")?, reader.long("gaps")?);
        extra = Extra::Counter(Counts { delta, resets, refused, gaps });
    }
    if reader.present("angle")? {
        let vector = Vector { sin: reader.double("sin")?, cos: reader.double("cos")? };
        finite(&[vector.sin, vector.cos], "angle")?;
        extra = Extra::Angle(vector);
    }
    if reader.present("states")? {
        extra = Extra::States(States {
            transitions: reader.long("transitions")?,
            first: reader.text("first")?,
            last: reader.text("last")?,
            times: StateTimes::Packed(reader.long_map("times")?),
        });
    }
    Ok(extra)
}

fn take_carry<'a>(reader: &mut Reader<'a>) -> Result<Option<Carry<'a>>, DecodeError> {
    if !reader.present("carry")? {
        return Ok(None);
    }
    let carry = Carry {
        time: reader.time("time")?,
        number: reader.double("number")?,
        state: reader.optional_text("state")?,
        quality: quality(reader.long("quality")?)?,
        counted: reader.double("counted")?,
        behind_us: reader.long("behind_us")?,
    };
    finite(&[carry.number, carry.counted], "carry")?;
    Ok(Some(carry))
}

fn take_optional_double(reader: &mut Reader<'_>, field: &'static str) -> Result<Option<f64>, DecodeError> {
    if !reader.present(field)? {
        return Ok(None);
    }
    let number: f64 = reader.double(field)?;
    finite(&[number], field)?;
    Ok(Some(number))
}

fn finite(numbers: &[f64], field: &'static str) -> Result<(), DecodeError> {
    let all = numbers.iter().all(|number: &f64| number.is_finite());
    if all { Ok(()) } else { Err(DecodeError::NotFinite { field }) }
}

/// A window of a quantity without anything special, to be filled in: mostly for tests and samples.
pub fn plain<'a>(
    names: (&'a str, &'a str),
    resolution: Resolution,
    window_start: Timestamp,
    statistics: Statistics,
) -> Aggregate<'a> {
    Aggregate {
        asset_id: names.0,
        parameter: names.1,
        unit: None,
        resolution,
        window_start,
        window_end: window_start.plus_micros(resolution.width_micros()),
        kind: Kind::Value,
        partials: Partials { statistics, coverage: None, extra: Extra::None },
        quality: model::Quality::Good,
        partial: false,
        revision: 1,
        held: None,
        carry: None,
        stops: Times::default(),
        flags: model::TextList::default(),
        gateway_time: window_start,
        gateway_id: "",
    }
}
