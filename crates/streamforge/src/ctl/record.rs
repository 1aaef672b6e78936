//! `ctl record`: readings of the stream into a file, to be played again by `ctl replay`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use model::{Clock, Quality, Reading, SystemClock, Timestamp, Value};
use serde_json::{Value as Json, json};
use stream::message::telemetry;
use stream::{Topic, avro};
use testkit::recording::{Point, Row, Writer};
use tokio::runtime::Handle;

use super::scan::{Range, Scan, spans};
use super::target::Target;
use super::{outcome, when};
use crate::exit::{Failure, USAGE};
use crate::say;

/// Readings of one recording; they are sorted in memory.
const READINGS_MAX: usize = 20_000_000;

/// Options of `ctl record`.
#[derive(Debug, Args)]
pub(crate) struct Record {
    /// File to write; compressed when its name ends in .gz
    #[arg(long, short)]
    output: PathBuf,
    /// Replace the file when it is there already
    #[arg(long)]
    force: bool,
    /// Begin at this time: RFC 3339, a date, or an age like 1h; the oldest reading when absent
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// End at this time; the newest reading when absent
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only readings of this asset
    #[arg(long)]
    asset: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// What is kept of a reading until all are sorted.
struct Kept {
    gateway_ms: i64,
    row: Row,
}

/// The readings found, and the points they are of.
#[derive(Default)]
struct Found {
    numbers: HashMap<(String, String), usize>,
    points: Vec<Point>,
    rows: Vec<Kept>,
}

/// Runs the command.
pub(crate) fn record(options: &Record, runtime: &Handle) -> Result<(), Failure> {
    if options.output.exists() && !options.force {
        let text = format!("{} is there already; --force replaces it", options.output.display());
        return Err(Failure::new(USAGE, text));
    }
    let now = SystemClock.now();
    let from = when::option("--from", options.from.as_ref(), now)?;
    let to = when::option("--to", options.to.as_ref(), now)?;
    let mut admin = runtime.block_on(options.target.admin())?;
    let spans = runtime.block_on(spans(&mut admin, Range { from, to }))?;
    let topic = Topic::TelemetryRaw.name();
    let parts: Vec<(i32, i64, i64)> =
        spans.get(topic).into_iter().flatten().map(|span| (span.partition, span.from, span.to)).collect();
    let mut found = Found::default();
    let mut unreadable = 0_u64;
    Scan::open(&options.target)?.read(topic, &parts, |record| {
        let payload = record.payload().unwrap_or_default();
        match avro::unframe(payload).and_then(|(_, body)| telemetry::decode(body)) {
            Ok(reading) if options.asset.as_deref().is_none_or(|asset| asset == reading.asset_id) => {
                found.take(&reading)
            }
            Ok(_) => Ok(()),
            Err(_) => {
                unreadable += 1;
                Ok(())
            }
        }
    })?;
    if unreadable > 0 {
        say::note(&format!("{unreadable} records cannot be decoded and were left out"));
    }
    // by the gateway's clock, and within a millisecond as the partitions have them
    found.rows.sort_by_key(|kept| kept.gateway_ms);
    let (Some(first), Some(last)) = (found.rows.first(), found.rows.last()) else {
        return Err(Failure::new(USAGE, "there are no readings in this span; nothing was written"));
    };
    let (first, last) = (Timestamp::from_millis(first.gateway_ms), Timestamp::from_millis(last.gateway_ms));
    write(&options.output, &found, first)
        .map_err(|error| Failure::new(USAGE, format!("{}: {error}", options.output.display())))?;
    let (readings, points) = (found.rows.len(), found.points.len());
    let json = json!({ "file": options.output, "readings": readings, "points": points,
        "begin": first.to_string(), "end": last.to_string() });
    let text =
        format!("{readings} readings of {points} points, {first} to {last}, are in {}", options.output.display());
    outcome(&options.target, &json, &text);
    Ok(())
}

impl Found {
    fn take(&mut self, reading: &Reading<'_>) -> Result<(), Failure> {
        if self.rows.len() == READINGS_MAX {
            let text = format!("more than {READINGS_MAX} readings; name a shorter span with --from and --to");
            return Err(Failure::new(USAGE, text));
        }
        let key = (reading.asset_id.to_owned(), reading.parameter.to_owned());
        let point = *self.numbers.entry(key).or_insert_with(|| {
            self.points.push(Point {
                asset_id: reading.asset_id.to_owned(),
                parameter: reading.parameter.to_owned(),
                unit: reading.unit.map(str::to_owned),
                value_type: reading.value_type,
                time_source: reading.time_source.to_owned(),
            });
            self.points.len() - 1
        });
        let value = match reading.value {
            Value::Null => Json::Null,
            Value::Float(value) => json!(value),
            Value::Int(value) => json!(value),
            Value::Bool(value) => json!(value),
            Value::Text(value) => json!(value),
        };
        let gateway_ms = reading.gateway_time.as_millis();
        let row = Row {
            at_ms: 0, // known when all are
            point,
            value,
            behind_ms: gateway_ms - reading.device_time.as_millis(),
            quality: reading.quality,
            reason: reading.quality_reason.filter(|_| reading.quality != Quality::Good).map(str::to_owned),
        };
        self.rows.push(Kept { gateway_ms, row });
        Ok(())
    }
}

/// Into a file beside it that takes its place when it is whole.
fn write(path: &Path, found: &Found, begin: Timestamp) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let file = BufWriter::new(File::create(&part)?);
    let file = if path.extension().is_some_and(|extension| extension == "gz") {
        lines(GzEncoder::new(file, Compression::best()), found, begin)?.finish()?
    } else {
        lines(file, found, begin)?
    };
    file.into_inner()?.sync_all()?;
    std::fs::rename(part, path)
}

fn lines<W: Write>(out: W, found: &Found, begin: Timestamp) -> std::io::Result<W> {
    let mut writer = Writer::create(out, begin)?;
    for point in &found.points {
        writer.point(point)?;
    }
    for kept in &found.rows {
        writer.row(&Row { at_ms: kept.gateway_ms - begin.as_millis(), ..kept.row.clone() })?;
    }
    Ok(writer.finish())
}
