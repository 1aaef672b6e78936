//! Folders written by each version of the format, kept in the tree: what they hold can be read for ever, and what is
//! written today is still the newest of them (STR-01, F30).
//!
//! `SF_GOLDEN_WRITE=1 cargo test -p commitlog --test it golden` writes the folder of a version that is not there yet. A
//! version that was released is never written again: a change of the format is a new version beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use commitlog::batch::Builder;
use commitlog::{Log, LogOptions, ManualClock, SimVfs, Uncompressed, verify};

use crate::support::{dir, open, read_all};

/// The version that is written today.
const NEWEST: u32 = 2;

fn options() -> LogOptions {
    LogOptions { segment_bytes: 700, index_interval_bytes: 256, compact: true, ..LogOptions::default() }
}

fn folder(version: u32) -> PathBuf {
    PathBuf::from(format!("tests/golden/v{version}"))
}

/// The files of a folder by name.
fn files(version: u32) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder(version)) else { return BTreeMap::new() };
    let file = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    entries.map(|entry| file(entry.unwrap())).collect()
}

/// A log with everything that a folder can hold after orderly work: several segments, an idempotent producer, records with
/// and without keys and values, a start that was moved twice, a compaction, and a checkpoint.
fn written() -> BTreeMap<String, Vec<u8>> {
    let vfs = SimVfs::new();
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let (log, _) = Log::open(Arc::new(vfs.clone()), clock, &dir(), options()).unwrap();
    for number in 0..24_u8 {
        let time = 1_700_000_000_000 + i64::from(number) * 10;
        let mut batch = Builder::new(time).producer(77, 1, i32::from(number) * 3);
        batch = batch.keyed(time, Some(&[b'a' + number % 5]), Some(&[number; 24]));
        batch = batch.keyed(time + 1, Some(&[b'A' + number % 3]), None).record(time + 2, b"without a key");
        log.append(&mut batch.build()).unwrap();
        if number % 4 == 3 {
            log.sync().unwrap();
        }
    }
    log.compact(&Uncompressed, 1_700_000_100_000, &|| true).unwrap();
    log.delete_records_before(4).unwrap();
    log.delete_records_before(8).unwrap();
    log.append(&mut Builder::new(1_700_000_000_500).record(1_700_000_000_500, b"the last").build()).unwrap();
    log.close().unwrap();
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    vfs.files(&dir()).iter().map(|path| (name(path), vfs.contents(path).unwrap())).collect()
}

// The bytes written today are those of the newest version: nobody changes the format without noticing.
#[test]
fn what_is_written_today_is_the_newest_version() {
    let written = written();
    if std::env::var_os("SF_GOLDEN_WRITE").is_some() && files(NEWEST).is_empty() {
        fs::create_dir_all(folder(NEWEST)).unwrap();
        for (name, bytes) in &written {
            fs::write(folder(NEWEST).join(name), bytes).unwrap();
        }
    }
    let golden = files(NEWEST);
    assert_eq!(written.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>());
    for (name, bytes) in &written {
        assert!(golden[name] == *bytes, "{name} differs from tests/golden/v{NEWEST}: a new format is a new version");
    }
}

// F30: a log of any version opens without a loss, trusted where it was closed in order, and takes more.
#[test]
fn every_version_is_read() {
    for version in 1..=NEWEST {
        let vfs = SimVfs::new();
        drop(open(&vfs, options())); // makes the folder
        for (name, bytes) in files(version) {
            vfs.damage(&dir().join(name), &bytes);
        }
        let verified = verify(&vfs, &dir()).unwrap();
        assert!(verified.intact() && verified.set_aside.is_empty() && verified.unfinished.is_empty(), "{verified:?}");
        let (log, recovery) = open(&vfs, options());
        assert!(recovery.missing.is_empty() && recovery.damages.is_empty() && recovery.cut.is_none(), "{recovery:?}");
        assert_eq!((recovery.scanned_bytes, recovery.rebuilt_indexes), (0, 0), "version {version}");
        assert_eq!((log.start_offset(), log.end_offset()), (8, 73), "version {version}");
        assert_eq!((verified.start_offset, verified.end_offset), (8, 73), "version {version}");
        let read = read_all(&log, log.start_offset(), log.end_offset()).unwrap();
        let last = &read.last().unwrap().1;
        assert!(last.windows(8).any(|bytes| bytes == b"the last"), "version {version}");
        let producers = log.producers();
        assert_eq!((producers.len(), producers[0].producer_id, producers[0].epoch), (1, 77, 1));
        assert_eq!(producers[0].batches.last().unwrap().last_sequence, 71);
        assert_eq!(log.offset_for_timestamp(1_700_000_000_500, &Uncompressed).unwrap(), Some((72, 1_700_000_000_500)));
        assert_eq!(log.append(&mut Builder::new(1).record(1, b"more").build()).unwrap().base_offset, 73);
        log.sync().unwrap();
    }
}
