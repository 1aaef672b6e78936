//! The archive: files on disk, their names, and what a restart makes of them.

use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, RowAccessor};
use serde_json::json;
use sinks::archive::{ArchiveSink, Keys, config};
use sinks::sink::{Resume, Sink};
use stream::Topic;

use crate::conformance::{self, Bench};
use crate::support::{BEGIN_MS, MemoryStream, payload, publish, reading};

const TOPICS: [Topic; 1] = [Topic::TelemetryClean];

struct Folder {
    folder: tempfile::TempDir,
    max_rows: u32,
}

impl Folder {
    fn new(max_rows: u32) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), max_rows }
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        walk(self.folder.path(), &mut files);
        files.sort();
        files
    }

    fn names(&self) -> Vec<String> {
        let strip = |path: &PathBuf| path.strip_prefix(self.folder.path()).unwrap().display().to_string();
        self.files().iter().map(strip).collect()
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

impl Bench for Folder {
    type Sink = ArchiveSink;

    fn sink(&self) -> ArchiveSink {
        let settings = json!({
            "sink_id": "files", "sink_type": "archive", "url": self.folder.path(), "max_rows": self.max_rows,
        });
        ArchiveSink::new(config::plan(&settings, "").unwrap(), Keys::default())
    }

    fn seqs(&self) -> Vec<i64> {
        let mut seqs = Vec::new();
        for file in self.files() {
            let reader = SerializedFileReader::new(std::fs::File::open(file).unwrap()).unwrap();
            seqs.extend(reader.get_row_iter(None).unwrap().map(|row| row.unwrap().get_long(20).unwrap()));
        }
        seqs.sort_unstable();
        seqs
    }

    fn clear(&mut self) {
        self.folder = tempfile::tempdir().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_laws_of_a_sink() {
    for max_rows in [1, 7, 1_000_000] {
        conformance::all(&mut Folder::new(max_rows)).await;
    }
}

#[tokio::test]
async fn a_file_says_in_its_name_what_it_holds_and_reads_back_as_it_was_written() {
    let bench = Folder::new(1_000_000);
    let mut stream = MemoryStream::default();
    let mut first = reading(0);
    first.value = model::Value::Int(9_007_199_254_740_993); // 2^53 + 1
    first.value_type = model::ValueType::Int;
    first.flags = model::TextList::Slice(&["initial", "late"]);
    stream.append(Topic::TelemetryClean, 7, payload(&first));
    stream.append(Topic::TelemetryClean, 7, payload(&reading(1)));
    let mut sink = bench.sink();
    let resume = sink.connect(&TOPICS).await.unwrap();
    assert_eq!(resume, Resume::Committed);
    sink.write(&stream.batch_from(&resume)).await.unwrap();
    sink.settle(0, true).await.unwrap();
    let name = format!("telemetry.clean/date=2026-01-29/p07-{:020}-{BEGIN_MS}-{:020}.parquet", 0, 2);
    assert_eq!(bench.names(), [name]);
    let reader = SerializedFileReader::new(std::fs::File::open(&bench.files()[0]).unwrap()).unwrap();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    let column = |row: usize, name: &str| {
        rows[row].get_column_iter().find(|(key, _)| *key == name).map(|(_, field)| field.clone()).unwrap()
    };
    assert_eq!(column(0, "device_time"), Field::TimestampMicros(BEGIN_MS * 1000));
    assert_eq!(column(0, "value_int"), Field::Long(9_007_199_254_740_993));
    assert_eq!(column(1, "value_int"), Field::Null);
    assert_eq!(column(1, "value"), Field::Double(1.5));
    assert_eq!(column(0, "flags").to_string(), "[\"initial\", \"late\"]");
    assert_eq!(column(1, "flags").to_string(), "[]");
    assert_eq!(column(0, "tags").to_string(), "{\"line\" -> \"1\"}");
    assert_eq!(column(0, "unit"), Field::Str("bar".to_owned()));
}

// A retry with other limits, hence other boundaries, must not write what is there.
#[tokio::test]
async fn a_restart_with_other_limits_goes_on_behind_the_files_there_are() {
    let mut bench = Folder::new(4);
    let mut stream = MemoryStream::default();
    publish(&stream, 0..60);
    let mut sink = bench.sink();
    let resume = sink.connect(&TOPICS).await.unwrap();
    sink.write(&stream.batch_from(&resume)).await.unwrap();
    sink.settle(0, false).await.unwrap(); // full files only; the open ones die with the process
    let before = bench.names();
    assert_eq!(before.len(), 15);
    drop(sink);
    bench.max_rows = 7;
    publish(&stream, 60..90);
    let mut sink = bench.sink();
    let resume = sink.connect(&TOPICS).await.unwrap();
    let confirmed = match sink.write(&stream.batch_from(&resume)).await.unwrap() {
        sinks::sink::Outcome::Taken { confirmed } => confirmed,
        sinks::sink::Outcome::Refused(refusals) => panic!("{refusals:?}"),
    };
    assert!(confirmed.iter().any(|place| place.offset == 20), "what was found is confirmed at once: {confirmed:?}");
    sink.settle(0, true).await.unwrap();
    assert_eq!(bench.seqs(), (0..90).collect::<Vec<_>>());
    assert!(before.iter().all(|name| bench.names().contains(name)));
}

// OFF-31: the stream was made anew and counts from zero again; old files are neither trusted nor overwritten.
#[tokio::test]
async fn a_stream_made_anew_is_archived_beside_the_old_one() {
    let bench = Folder::new(10);
    for incarnation in 0..2 {
        let mut stream = MemoryStream::default();
        for seq in 0..10 {
            let record = reading(incarnation * 10 + seq);
            stream.append_at(Topic::TelemetryClean, 0, BEGIN_MS + incarnation, payload(&record));
        }
        let mut sink = bench.sink();
        let resume = sink.connect(&TOPICS).await.unwrap();
        sink.write(&stream.batch_from(&resume)).await.unwrap();
        sink.settle(0, true).await.unwrap();
    }
    assert_eq!(bench.seqs(), (0..20).collect::<Vec<_>>());
    assert_eq!(bench.names().len(), 2);
}

#[tokio::test]
async fn files_close_by_age_and_by_day() {
    let bench = Folder::new(1_000_000);
    let mut stream = MemoryStream::default();
    let midnight = BEGIN_MS + 14 * 3_600_000;
    for (seq, at) in [(0, midnight - 1), (1, midnight), (2, midnight - 1)] {
        stream.append_at(Topic::TelemetryClean, 0, at, payload(&reading(seq)));
    }
    let mut sink = bench.sink();
    let resume = sink.connect(&TOPICS).await.unwrap();
    sink.write(&stream.batch_from(&resume)).await.unwrap();
    assert_eq!(sink.settle(5000, false).await.unwrap().len(), 1);
    assert_eq!(bench.names().len(), 1, "the day before");
    sink.settle(5000 + 899_999, false).await.unwrap();
    assert_eq!(bench.names().len(), 1);
    sink.settle(5000 + 900_000, false).await.unwrap();
    let names = bench.names();
    assert_eq!(names.len(), 2);
    assert!(names[0].contains("date=2026-01-29") && names[1].contains("date=2026-01-30"), "{names:?}");
    assert_eq!(bench.seqs(), [0, 1, 2]);
}

// Law 3: while the place is away, closed files wait and nothing is read twice.
#[tokio::test]
async fn a_put_that_fails_is_repeated_with_the_same_bytes() {
    let bench = Folder::new(3);
    let mut stream = MemoryStream::default();
    publish(&stream, 0..9);
    let mut sink = bench.sink();
    let resume = sink.connect(&TOPICS).await.unwrap();
    sink.write(&stream.batch_from(&resume)).await.unwrap();
    let blocker = bench.folder.path().join("telemetry.clean");
    std::fs::write(&blocker, "a file where the folder should be").unwrap();
    sink.settle(0, false).await.unwrap_err();
    std::fs::remove_file(&blocker).unwrap();
    assert_eq!(sink.connect(&TOPICS).await.unwrap(), Resume::Continue);
    let confirmed = sink.settle(0, false).await.unwrap();
    assert_eq!(confirmed.len(), 3);
    assert_eq!(bench.seqs(), (0..9).collect::<Vec<_>>());
}
