//! `ctl replay`: a recording into the stream, as if an adapter read it.
//!
//! The readings keep their distances; the whole is moved in time. Their sequence is their own: adapter `replay`, and an
//! epoch by the time of the run, so that a recording may be played any number of times.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use flate2::read::MultiGzDecoder;
use kafka::client::SendError;
use model::{Classification, Clock, Quality, Reading, SystemClock, TextList, TextMap, Timestamp};
use serde_json::json;
use stream::{Publisher, Schemas, Topic};
use testkit::recording::{Error, Reader, Row};
use tokio::runtime::Handle;

use super::target::{Target, failed};
use super::{outcome, when};
use crate::exit::{Failure, TRY_AGAIN, USAGE};
use crate::say;

/// Readings published in one go.
const SLICE_READINGS: usize = 1000;
/// How long the stream may take to store them.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(60);

/// Options of `ctl replay`.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Recording, as `ctl record` writes it
    file: PathBuf,
    /// The first reading is stamped with this time; when absent, the last one is stamped with now
    #[arg(long, value_name = "TIME", conflicts_with = "as_it_happened")]
    begin: Option<String>,
    /// As slow as it was recorded, beginning now; when absent, as quick as the stream takes it
    #[arg(long)]
    as_it_happened: bool,
    /// Gateway id of the readings
    #[arg(long, default_value = "replay")]
    gateway: String,
    /// Do it: without this the plan is printed and nothing is written
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    target: Target,
}

/// What a recording holds.
struct Content {
    readings: u64,
    points: usize,
    begin: Timestamp,
    length_ms: i64,
}

/// Runs the command.
pub(crate) fn replay(options: &Replay, runtime: &Handle) -> Result<(), Failure> {
    let now = SystemClock.now();
    let begin = when::option("--begin", options.begin.as_ref(), now)?;
    let content = survey(&options.file)?;
    let begin = match begin {
        Some(begin) => begin,
        None if options.as_it_happened => now,
        None => now.plus_micros(-content.length_ms.saturating_mul(1000)),
    };
    let end = begin.plus_micros(content.length_ms.saturating_mul(1000));
    let Content { readings, points, .. } = content;
    if begin > now {
        say::note(&format!("the readings begin at {begin}, which is to come: rules about times in the future apply"));
    }
    let what = format!("{readings} readings of {points} points, recorded from {}", content.begin);
    if !options.execute {
        let json = json!({ "executed": false, "readings": readings, "points": points, "begin": begin.to_string(),
            "end": end.to_string() });
        let text = format!(
            "{what}, would be written to {} with the times {begin} to {end}.\nThe gateway takes them for readings of its \
             plant, and so do its sinks. --execute does it.",
            Topic::TelemetryRaw.name()
        );
        outcome(&options.target, &json, &text);
        return Ok(());
    }
    play(options, runtime, &content, begin)?;
    let json = json!({ "executed": true, "readings": readings, "points": points, "begin": begin.to_string(),
        "end": end.to_string() });
    outcome(&options.target, &json, &format!("{what}, were written with the times {begin} to {end}"));
    Ok(())
}

/// Reads the file once, so that what is wrong in it is found before anything is written.
fn survey(path: &Path) -> Result<Content, Failure> {
    let mut reader = open(path)?;
    let (mut readings, mut length_ms) = (0, 0);
    while let Some(row) = reader.row().map_err(|error| wrong(path, &error))? {
        readings += 1;
        length_ms = row.at_ms;
    }
    if readings == 0 {
        return Err(Failure::new(USAGE, format!("{} holds no readings", path.display())));
    }
    Ok(Content { readings, points: reader.points().len(), begin: reader.begin(), length_ms })
}

fn open(path: &Path) -> Result<Reader<Box<dyn BufRead>>, Failure> {
    let refused = |error: std::io::Error| Failure::new(USAGE, format!("{}: {error}", path.display()));
    let mut file = BufReader::new(File::open(path).map_err(refused)?);
    let is_compressed = file.fill_buf().map_err(refused)?.starts_with(&[0x1f, 0x8b]);
    let lines: Box<dyn BufRead> =
        if is_compressed { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) };
    Reader::open(lines).map_err(|error| wrong(path, &error))
}

fn wrong(path: &Path, error: &Error) -> Failure {
    Failure::new(USAGE, format!("{}: {}", path.display(), daemon::report(error)))
}

fn play(options: &Replay, runtime: &Handle, content: &Content, begin: Timestamp) -> Result<(), Failure> {
    runtime.block_on(options.target.admin())?;
    let schemas = Schemas::new(&options.target.registry(), None);
    let schema_id = runtime
        .block_on(schemas.id_for(Topic::TelemetryRaw))
        .map_err(|error| Failure::from_error(TRY_AGAIN, &error))?;
    let mut publisher = Publisher::open(&options.target.settings()).map_err(|error| failed(&error))?;
    let mut reader = open(&options.file)?;
    let mut progress = say::Progress::new();
    let mut slice: Vec<Row> = Vec::with_capacity(SLICE_READINGS);
    let epoch = SystemClock.now().as_millis() / 1000;
    let mut seq = 0;
    loop {
        let next = reader.row().map_err(|error| wrong(&options.file, &error))?;
        let moment_over = match (&next, slice.last()) {
            (Some(next), Some(last)) => {
                slice.len() == SLICE_READINGS || options.as_it_happened && next.at_ms > last.at_ms
            }
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if moment_over {
            if let (true, Some(last)) = (options.as_it_happened, slice.last()) {
                let due = begin.plus_micros(last.at_ms.saturating_mul(1000)).as_millis();
                let wait = due.saturating_sub(SystemClock.now().as_millis());
                std::thread::sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0)));
            }
            publish(&mut publisher, schema_id, options, &reader, &slice, (begin, epoch, seq))?;
            seq += i64::try_from(slice.len()).unwrap_or(0);
            slice.clear();
            progress.at(&format!("{seq} of {} readings", content.readings));
        }
        match next {
            Some(row) => slice.push(row),
            None => return Ok(()),
        }
    }
}

/// Publishes a slice and waits until it is stored.
fn publish(
    publisher: &mut Publisher,
    schema_id: i32,
    options: &Replay,
    reader: &Reader<Box<dyn BufRead>>,
    slice: &[Row],
    (begin, epoch, seq): (Timestamp, i64, i64),
) -> Result<(), Failure> {
    let metadata = [("gateway_id", options.gateway.as_str()), ("adapter_id", "replay"), ("adapter_type", "recording")];
    let refused = |error: SendError| Failure::from_error(TRY_AGAIN, &error);
    let readings = slice.iter().zip(seq..).filter_map(|(row, seq)| {
        let point = &reader.points()[row.point];
        let gateway_time = begin.plus_micros(row.at_ms.saturating_mul(1000));
        Some(Reading {
            asset_id: &point.asset_id,
            asset_path: None,
            parameter: &point.parameter,
            value: row.value(point.value_type)?,
            value_type: point.value_type,
            value_label: None,
            unit: point.unit.as_deref(),
            quality: row.quality,
            quality_reason: row.reason.as_deref().filter(|_| row.quality != Quality::Good),
            reasons: TextList::default(),
            classification: Classification::Telemetry,
            device_time: gateway_time.plus_micros(row.behind_ms.saturating_mul(-1000)),
            gateway_time,
            time_source: &point.time_source,
            clock_state: model::ClockState::Synced.as_str(),
            clock_skew_ms: Some(row.behind_ms),
            epoch,
            seq,
            flags: TextList::default(),
            metadata: TextMap::Slice(&metadata),
            tags: TextMap::default(),
        })
    });
    let (pending, taken) = publisher.publish(Topic::TelemetryRaw, schema_id, readings).map_err(refused)?;
    if taken < slice.len() {
        return Err(Failure::new(TRY_AGAIN, "the queue of readings that wait for the stream is full"));
    }
    match pending.wait(ACKNOWLEDGED_WITHIN) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let text = format!("the stream did not store readings within {} s", ACKNOWLEDGED_WITHIN.as_secs());
            Err(Failure::new(TRY_AGAIN, format!("{text}; those before reading {seq} are stored")))
        }
        Err(error) => Err(failed(&error)),
    }
}
