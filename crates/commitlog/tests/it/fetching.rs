//! Stretches given out without reading them are the same bytes that a read gives, and only such as are known to be good.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use commitlog::{Fetched, FileSlice, Log, LogOptions, ManualClock, RealVfs, Vfs};

use crate::support::{batch, small};

const SEGMENT_BYTES: u64 = 512 * 1024;
const DAY_MS: i64 = 24 * 3_600 * 1_000;

fn open(dir: &Path, clock: &Arc<ManualClock>) -> Arc<Log> {
    let options = LogOptions { segment_bytes: SEGMENT_BYTES, index_interval_bytes: 8 * 1024, ..small() };
    Log::open(Arc::new(RealVfs), Arc::clone(clock) as _, dir, options).unwrap().0
}

/// Some segments full of batches, made durable.
fn fill(log: &Log) {
    for tag in 0..900 {
        log.append(&mut batch(tag, 1 + tag % 40)).unwrap();
    }
    log.sync().unwrap();
}

fn stored(fetched: Fetched) -> FileSlice {
    match fetched {
        Fetched::Stored(slice) => slice,
        Fetched::Copied(bytes) => panic!("{} bytes were copied", bytes.len()),
    }
}

fn copied(fetched: Fetched) -> Vec<u8> {
    match fetched {
        Fetched::Copied(bytes) => bytes,
        Fetched::Stored(slice) => panic!("{} bytes were not read", slice.size()),
    }
}

// STR-08
#[test]
fn a_stretch_is_the_start_of_what_a_read_gives() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &Arc::new(ManualClock::new(1_000_000)));
    fill(&log);
    let end = log.durable_offset();
    let mut stretches = 0;
    let mut random = 1_u64;
    let mut draw = |below: i64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(random >> 33).unwrap() % below
    };
    for _ in 0..2_000 {
        let (offset, limit) = (draw(end), draw(end + 1));
        let max_bytes = usize::try_from(draw(200_000)).unwrap();
        let read = log.read(offset, max_bytes, true, limit).unwrap();
        let fetched = log.fetch(offset, max_bytes, true, limit).unwrap();
        let next_offset = fetched.next_offset();
        let bytes = match fetched {
            Fetched::Copied(bytes) => {
                assert_eq!(bytes, read);
                bytes
            }
            Fetched::Stored(slice) => {
                stretches += 1;
                slice.read().unwrap()
            }
        };
        assert!(read.starts_with(&bytes), "offset {offset}, {max_bytes} bytes, limit {limit}");
        assert!(bytes.is_empty() == read.is_empty());
        let last = commitlog::batch::Batches::new(&bytes).map(|item| item.unwrap().0.next_offset()).last();
        assert_eq!(next_offset, last);
    }
    assert!(stretches > 500, "only {stretches}");
}

// STR-08: a reader that goes on where it stopped gets everything, and hardly anything of it is copied.
#[test]
fn following_stretches_leave_nothing_out() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &Arc::new(ManualClock::new(1_000_000)));
    fill(&log);
    let end = log.durable_offset();
    let (mut offset, mut whole, mut unread) = (0, Vec::new(), 0);
    while offset < end {
        let fetched = log.fetch(offset, 100_000, true, end).unwrap();
        offset = fetched.next_offset().unwrap();
        match fetched {
            Fetched::Copied(bytes) => whole.extend(bytes),
            Fetched::Stored(slice) => {
                unread += slice.size();
                whole.extend(slice.read().unwrap());
            }
        }
    }
    let (mut offset, mut expected) = (0, Vec::new());
    while offset < end {
        let bytes = log.read(offset, 100_000, true, end).unwrap();
        offset = commitlog::batch::Batches::new(&bytes).map(|item| item.unwrap().0.next_offset()).last().unwrap();
        expected.extend(bytes);
    }
    assert!(whole == expected);
    assert!(unread * 10 > whole.len() * 8, "{unread} of {}", whole.len());
}

// STR-08: what this process did not write is checked once, and again after a day.
#[test]
fn bytes_of_an_earlier_life_are_read_before_they_are_sent() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(1_000_000));
    let log = open(dir.path(), &clock);
    fill(&log);
    log.close().unwrap();
    drop(log);
    let log = open(dir.path(), &clock);
    let end = log.durable_offset();
    copied(log.fetch(0, 100_000, true, end).unwrap());
    stored(log.fetch(0, 90_000, true, end).unwrap());
    clock.set(1_000_000 + DAY_MS);
    copied(log.fetch(0, 100_000, true, end).unwrap());

    // the first byte of the first batch's records changes on the disk, and a day later that is found
    let segment = dir.path().join("00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    clock.set(1_000_000 + 2 * DAY_MS);
    assert!(matches!(log.fetch(0, 100_000, true, end), Err(commitlog::Error::Damaged { first_offset: 0, .. })));
}

// STR-08
#[test]
fn a_socket_gets_the_bytes_in_as_many_calls_as_it_wants() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &Arc::new(ManualClock::new(1_000_000)));
    fill(&log);
    let slice = stored(log.fetch(0, 400_000, true, log.durable_offset()).unwrap());
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let size = slice.size();
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; size];
        theirs.read_exact(&mut bytes).unwrap();
        bytes
    });
    let mut sent = 0;
    while sent < size {
        sent += slice.send_to(ours.as_fd(), sent).unwrap();
    }
    assert!(reader.join().unwrap() == slice.read().unwrap());

    RealVfs.open(&dir.path().join("00000000000000000000.log"), commitlog::OpenMode::Replace).unwrap();
    assert_eq!(slice.send_to(ours.as_fd(), 0).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}
