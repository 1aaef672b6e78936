//! `ctl verify`: reads a data folder and says what is intact, what is lost and what the next start will do.
//!
//! Works on the files alone, so the broker need not run; beside one that runs, what it is writing may look unfinished.
//! Nothing is changed.

use std::path::{Path, PathBuf};

use broker::StoredTopic;
use clap::Args;
use commitlog::{IndexState, RealVfs, Verified, VerifiedSegment};
use serde_json::{Value, json};

use super::table::{Column, Table, bytes, clean};
use super::target;
use super::{print, unknown};
use crate::exit::{DAMAGED, Failure, TRY_AGAIN, USAGE};
use crate::{say, up};

/// Options of `ctl verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Data folder of a gateway or of a broker that runs alone; that of the local gateway when absent
    #[arg(env = "SF_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Only this topic; several times for more
    #[arg(long)]
    topic: Vec<String>,
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// A partition and what was found in it.
struct Checked {
    topic: String,
    index: i32,
    /// `None` for a folder that is gone.
    found: Option<Verified>,
}

impl Checked {
    fn intact(&self) -> bool {
        self.found.as_ref().is_some_and(Verified::intact)
    }
}

/// Runs the command.
pub(crate) fn verify(options: Verify) -> Result<(), Failure> {
    let folder = stream_folder(&up::data_dir(options.data_dir, false)?)?;
    if target::read(&folder).is_some() {
        say::note("a broker runs in this folder: what it is writing may look unfinished");
    }
    let mut topics =
        broker::stored_topics(&RealVfs, &folder).map_err(|error| Failure::from_error(TRY_AGAIN, &error))?;
    if let Some(name) = options.topic.iter().find(|name| topics.iter().all(|topic| topic.name != **name)) {
        return Err(unknown("topic", name, topics.iter().map(|topic| topic.name.as_str())));
    }
    topics.retain(|topic| options.topic.is_empty() || options.topic.contains(&topic.name));
    let checked = check(&topics)?;
    let stateless: Vec<&str> =
        topics.iter().filter(|topic| topic.state_lost).map(|topic| topic.name.as_str()).collect();
    print(options.json, &table(&checked), "there are no topics", || {
        let rows: Vec<Value> = checked.iter().map(row).collect();
        json!({
            "folder": folder,
            "intact": checked.iter().all(Checked::intact),
            "topics_without_state": stateless,
            "partitions": rows,
        })
    });
    if !options.json {
        for name in stateless {
            say::line(&format!(
                "{}: its state file is lost; the next start serves it with default settings",
                clean(name)
            ));
        }
        checked.iter().flat_map(findings).for_each(|line| say::line(&clean(&line)));
    }
    let damaged = checked.iter().filter(|checked| !checked.intact()).count();
    if damaged > 0 {
        let text = format!(
            "{damaged} of {} partitions have lost records; what else is in them is intact and is served after a start, \
            and nothing unreadable is deleted",
            checked.len()
        );
        return Err(Failure::new(DAMAGED, text));
    }
    Ok(())
}

/// The broker's own folder within the one that was named.
fn stream_folder(data: &Path) -> Result<PathBuf, Failure> {
    let folders = [data.join("stream"), data.to_owned()];
    let found = folders.into_iter().find(|folder| folder.join("topics").is_dir());
    found.ok_or_else(|| {
        let text = format!("there is no stream in {}: it has no folder `topics` or `stream/topics`", data.display());
        Failure::new(USAGE, text)
    })
}

/// Reads every byte of every partition.
fn check(topics: &[StoredTopic]) -> Result<Vec<Checked>, Failure> {
    let count: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut progress = say::Progress::new();
    let mut checked: Vec<Checked> = Vec::with_capacity(count);
    let mut read = 0;
    for topic in topics {
        for (index, dir) in &topic.partitions {
            let done = checked.len();
            progress.at(&format!("{done} of {count} partitions, {} read, at {}/{index}", bytes(read), topic.name));
            let found = if dir.is_dir() { Some(look(dir)?) } else { None };
            read += found.as_ref().map_or(0, size);
            checked.push(Checked { topic: topic.name.clone(), index: *index, found });
        }
    }
    Ok(checked)
}

fn look(dir: &Path) -> Result<Verified, Failure> {
    commitlog::verify(&RealVfs, dir).map_err(|error| Failure::from_error(TRY_AGAIN, &error))
}

fn size(found: &Verified) -> i64 {
    i64::try_from(found.bytes()).unwrap_or(i64::MAX)
}

fn records(found: &Verified) -> u64 {
    found.segments.iter().map(|segment| segment.records).sum()
}

/// In a word.
fn state(found: &Verified) -> &'static str {
    if !found.intact() {
        "DAMAGED"
    } else if found.segments.iter().any(|segment| segment.tail.is_some()) || !found.unfinished.is_empty() {
        "intact, unfinished write"
    } else {
        "intact"
    }
}

fn table(checked: &[Checked]) -> Table {
    let mut table = Table::new(&[
        Column::Text("TOPIC"),
        Column::Number("PARTITION"),
        Column::Number("START"),
        Column::Number("END"),
        Column::Number("RECORDS"),
        Column::Number("SEGMENTS"),
        Column::Number("SIZE"),
        Column::Text("STATE"),
    ]);
    for Checked { topic, index, found } in checked {
        let figures = match found {
            Some(found) => [
                found.start_offset.to_string(),
                found.end_offset.to_string(),
                records(found).to_string(),
                found.segments.len().to_string(),
                bytes(size(found)),
                state(found).to_owned(),
            ],
            None => ["-", "-", "-", "-", "-", "GONE"].map(str::to_owned),
        };
        table.row([topic.clone(), index.to_string()].into_iter().chain(figures));
    }
    table
}

/// What a person has to know of a partition, a line each.
fn findings(checked: &Checked) -> Vec<String> {
    let place = format!("{}/{}", checked.topic, checked.index);
    let Some(found) = &checked.found else {
        return vec![format!("{place}: its folder is gone; the next start begins it anew at offset 0")];
    };
    let mut lines = Vec::new();
    let mut told: Vec<(i64, i64)> = Vec::new();
    for segment in &found.segments {
        let file = name(&segment.path);
        for damage in &segment.damages {
            let (first, last) = (damage.first_offset, damage.last_offset);
            told.push((first, last));
            let (position, reason) = (damage.position, &damage.reason);
            lines.push(format!(
                "{place}: offsets {first} to {last} cannot be read: {reason} (byte {position} of {file})"
            ));
        }
        if let Some(tail) = &segment.tail {
            let (length, reason) = (tail.bytes, &tail.reason);
            lines.push(format!("{place}: {length} bytes at the end of {file} were never acknowledged: {reason}"));
        }
        if segment.index == IndexState::Invalid {
            lines.push(format!("{place}: the index of {file} is damaged; it is built anew when it is needed"));
        }
    }
    for (first, last) in found.missing.iter().filter(|hole| !told.contains(hole)) {
        lines.push(format!("{place}: offsets {first} to {last} are missing"));
    }
    for path in &found.unfinished {
        lines.push(format!(
            "{place}: {} is left of work that a stop interrupted; the next start settles it",
            name(path)
        ));
    }
    for path in &found.set_aside {
        lines.push(format!("{place}: {} was set aside by an earlier start", name(path)));
    }
    lines
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A partition as JSON.
fn row(checked: &Checked) -> Value {
    let (topic, index) = (&checked.topic, checked.index);
    let Some(found) = &checked.found else {
        return json!({ "topic": topic, "partition": index, "intact": false, "folder_gone": true });
    };
    let span = |(first, last): &(i64, i64)| json!({ "first_offset": first, "last_offset": last });
    json!({
        "topic": topic,
        "partition": index,
        "intact": found.intact(),
        "folder_gone": false,
        "start": found.start_offset,
        "end": found.end_offset,
        "records": records(found),
        "bytes": found.bytes(),
        "missing": found.missing.iter().map(span).collect::<Vec<_>>(),
        "set_aside": found.set_aside,
        "unfinished": found.unfinished,
        "segments": found.segments.iter().map(segment).collect::<Vec<_>>(),
    })
}

fn segment(segment: &VerifiedSegment) -> Value {
    let damages = segment.damages.iter().map(|damage| {
        json!({
            "first_offset": damage.first_offset,
            "last_offset": damage.last_offset,
            "position": damage.position,
            "reason": damage.reason,
        })
    });
    let tail = segment.tail.as_ref();
    json!({
        "file": segment.path,
        "base_offset": segment.base_offset,
        "next_offset": segment.next_offset,
        "batches": segment.batches,
        "records": segment.records,
        "bytes": segment.bytes,
        "index": match segment.index {
            IndexState::Valid => "valid",
            IndexState::Missing => "missing",
            IndexState::Invalid => "invalid",
        },
        "damages": damages.collect::<Vec<_>>(),
        "tail": tail.map(|tail| json!({ "position": tail.position, "bytes": tail.bytes, "reason": tail.reason })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_stretch_is_told_once_with_its_reason() {
        let damage = commitlog::VerifiedDamage {
            first_offset: 3,
            last_offset: 5,
            position: 900,
            reason: "the checksum does not match".to_owned(),
        };
        let segment = VerifiedSegment {
            path: PathBuf::from("/data/0/00000000000000000000.log"),
            base_offset: 0,
            next_offset: 9,
            batches: 6,
            records: 6,
            bytes: 2000,
            max_timestamp: None,
            index: IndexState::Valid,
            damages: vec![damage],
            tail: None,
        };
        let found =
            Verified { end_offset: 12, segments: vec![segment], missing: vec![(3, 5), (9, 11)], ..Verified::default() };
        let checked = Checked { topic: "plant".to_owned(), index: 0, found: Some(found) };
        assert_eq!(
            findings(&checked),
            [
                "plant/0: offsets 3 to 5 cannot be read: the checksum does not match (byte 900 of 00000000000000000000.log)",
                "plant/0: offsets 9 to 11 are missing",
            ]
        );
        assert!(!checked.intact());
        assert!(!Checked { found: None, ..checked }.intact(), "a folder that is gone has lost its records");
    }
}
