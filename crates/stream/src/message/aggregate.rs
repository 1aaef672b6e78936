//! `sf.Aggregate` (`contracts/avro/aggregate.v1.avsc`): one window of one tag in Avro binary.

use model::{Aggregate, Resolution, Statistics, TextList, TextMap};

use super::telemetry::{quality, quality_index};
use crate::avro::{
    DecodeError, Reader, put_boolean, put_double, put_frame, put_long, put_optional_long, put_optional_text,
    put_string, put_text_map, put_texts, put_time,
};

/// Appends the window to `out`, framed with `schema_id`.
pub fn encode(out: &mut Vec<u8>, schema_id: i32, window: &Aggregate<'_>) {
    let s = &window.statistics;
    put_frame(out, schema_id);
    put_string(out, window.asset_id);
    put_string(out, window.parameter);
    put_optional_text(out, window.unit);
    put_string(out, window.resolution.as_str());
    put_time(out, window.window_start);
    put_time(out, window.window_end);
    for number in [s.mean, s.min, s.max] {
        put_double(out, number);
    }
    put_long(out, s.count);
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
    put_double(out, stddev(s));
    put_string(out, "sample");
    out.push(0); // tw_integral
    put_optional_long(out, None); // covered_ms
    put_optional_long(out, None); // good_ms
    put_long(out, quality_index(window.quality));
    put_boolean(out, false); // partial
    put_long(out, window.revision);
    put_boolean(out, window.revision > 1);
    put_time(out, window.gateway_time);
    put_texts(out, TextList::default());
    put_text_map(out, TextMap::Slice(&[("gateway_id", window.gateway_id)]));
    put_text_map(out, TextMap::default());
}

/// Reads the Avro body (framing taken off by [`crate::avro::unframe`]).
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
    let count = reader.long("count")?;
    let statistics = Statistics {
        count,
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
    reader.double("stddev")?;
    reader.text("avg_method")?;
    if reader.present("tw_integral")? {
        reader.double("tw_integral")?;
    }
    reader.optional_long("covered_ms")?;
    reader.optional_long("good_ms")?;
    let quality = quality(reader.long("quality")?)?;
    reader.boolean("partial")?;
    let revision = reader.long("revision")?;
    reader.boolean("is_correction")?;
    let gateway_time = reader.time("gateway_time")?;
    reader.texts("flags")?;
    let metadata = reader.text_map("metadata")?;
    reader.text_map("tags")?;
    reader.finish()?;
    let numbers = [
        statistics.sum,
        statistics.mean,
        statistics.m2,
        statistics.min,
        statistics.max,
        statistics.first,
        statistics.last,
    ];
    if numbers.iter().any(|number| !number.is_finite()) {
        return Err(DecodeError::NotFinite { field: "statistics" });
    }
    let gateway_id = metadata.get("gateway_id").unwrap_or("");
    Ok(Aggregate {
        asset_id,
        parameter,
        unit,
        resolution,
        window_start,
        window_end,
        statistics,
        quality,
        revision,
        gateway_time,
        gateway_id,
    })
}

/// Population standard deviation.
#[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 samples in a window does not occur")]
fn stddev(statistics: &Statistics) -> f64 {
    if statistics.count > 0 { (statistics.m2 / statistics.count as f64).max(0.0).sqrt() } else { 0.0 }
}
