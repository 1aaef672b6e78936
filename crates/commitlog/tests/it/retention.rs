//! Trimming by size, by age and on request (STR-05, OFF-03).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use commitlog::batch::Builder;
use commitlog::{Believed, Crash, Error, Fault, LogOptions, SEGMENTS_BY_TIME_MAX, SimVfs, Vfs};

use crate::support::{batch, dir, open, open_at, read_all, small};

fn filled(vfs: &SimVfs, options: LogOptions, batches: u64) -> Arc<commitlog::Log> {
    let (log, _) = open(vfs, options);
    for tag in 0..batches {
        log.append(&mut batch(tag, 1)).unwrap();
    }
    log.sync().unwrap();
    log
}

// STR-05: size keeps at least the configured bytes and removes whole segments only.
#[test]
fn by_size() {
    let vfs = SimVfs::new();
    let log = filled(&vfs, LogOptions { retention_bytes: Some(5_000), ..small() }, 100);
    let before = log.size_bytes();
    let removed = log.apply_retention(0).unwrap();
    assert!(removed.segments > 3 && !removed.capped, "{removed:?}");
    assert_eq!(log.size_bytes(), before - removed.bytes);
    assert!(log.size_bytes() >= 5_000 && log.size_bytes() < 5_000 + 2 * 1_024);
    assert_eq!(log.start_offset(), removed.start_offset);
    assert!(matches!(log.read(0, 1, true, 100), Err(Error::OffsetOutOfRange { .. })));
    let read = read_all(&log, log.start_offset(), 100).unwrap();
    assert_eq!(read[0].0.base_offset, log.start_offset());
    assert_eq!(log.apply_retention(0).unwrap().segments, 0);
    let (log, recovery) = open(&vfs.crash(Crash::LoseUnsynced), small());
    assert_eq!(log.start_offset(), removed.start_offset);
    assert!(recovery.missing.is_empty());
}

// STR-05: producers go on while files are unlinked, and a topic that is deleted meanwhile keeps its hands off its successor.
#[test]
fn unlinking_holds_nobody_up_and_ends_with_the_topic() {
    let vfs = SimVfs::new();
    let log = filled(&vfs, LogOptions { retention_bytes: Some(5_000), ..small() }, 100);
    let logs =
        || vfs.list(&dir()).unwrap().iter().filter(|name| Path::new(name).extension() == Some("log".as_ref())).count();
    let (before, mut pauses) = (logs(), 0);
    let removed = log.apply_retention_gently(Believed::from(0), &mut || {
        pauses += 1;
        assert_eq!(logs(), before - pauses);
        log.append(&mut batch(99 + u64::try_from(pauses).unwrap(), 1)).unwrap();
        log.sync().unwrap();
        if pauses == 2 {
            log.abandon();
        }
    });
    assert!(removed.unwrap().segments > 3);
    assert_eq!((pauses, logs()), (2, before - 2));
}

// STR-05, OFF-03, F14: a clock that jumps ten years ahead costs a few segments per call, one that jumps back costs none.
#[test]
fn by_time_is_capped() {
    let vfs = SimVfs::new();
    let log = filled(&vfs, LogOptions { retention_ms: Some(300), ..small() }, 100); // timestamps 0, 10, ... 990
    assert_eq!(log.apply_retention(-1_000_000).unwrap().segments, 0);
    assert_eq!(log.apply_retention(300).unwrap().segments, 0);
    let segments = log.segment_count();
    let ten_years = 10 * 365 * 86_400_000;
    let removed = log.apply_retention(ten_years).unwrap();
    assert_eq!(removed.segments, SEGMENTS_BY_TIME_MAX);
    assert!(removed.capped);
    // The clock is right again: what is young enough stays.
    for _ in 0..segments {
        log.apply_retention(800).unwrap();
    }
    let read = read_all(&log, log.start_offset(), 100).unwrap();
    assert!(read[0].0.max_timestamp <= 500 && read.last().unwrap().0.max_timestamp == 990);
    assert!(read.iter().filter(|(header, _)| header.max_timestamp < 500).count() < 8, "only a part of one segment");
}

const DAY_MS: i64 = 86_400_000;
/// Where stamps of a clock that was set begin.
const YEAR_2000_MS: i64 = 946_684_800_000;

/// A batch with this stamp that fills a segment of [`small`].
fn stamped(timestamp: i64) -> Vec<u8> {
    Builder::new(timestamp).record(timestamp, "x".repeat(900).as_bytes()).build()
}

fn of_stamps(stamps: &[i64], retention_days: i64) -> Arc<commitlog::Log> {
    let options = LogOptions { retention_ms: Some(retention_days * DAY_MS), ..small() };
    let (log, _) = open(&SimVfs::new(), options);
    for stamp in stamps {
        log.append(&mut stamped(*stamp)).unwrap();
    }
    log.sync().unwrap();
    log
}

// AC-095, OFF-03: while the clock cannot be right nothing goes for its age; size does not ask the time
#[test]
fn a_clock_that_cannot_be_right_deletes_nothing_by_age() {
    let today = YEAR_2000_MS + 9_000 * DAY_MS;
    let log = of_stamps(&[today - 60 * DAY_MS; 8], 45);
    let unknown = Believed { now_ms: None, stamps_from_ms: YEAR_2000_MS };
    assert_eq!(log.apply_retention_gently(unknown, &mut || ()).unwrap().segments, 0);
    let known = Believed { now_ms: Some(today), ..unknown };
    assert_eq!(log.apply_retention_gently(known, &mut || ()).unwrap().segments, SEGMENTS_BY_TIME_MAX);
    let vfs = SimVfs::new();
    let log = filled(&vfs, LogOptions { retention_bytes: Some(5_000), ..small() }, 100);
    assert!(log.apply_retention_gently(unknown, &mut || ()).unwrap().segments > 3);
}

// AC-095: what was written before the time server came is not 56 years old afterwards, nor what an older clock stamped
#[test]
fn segments_of_a_wrong_clock_stay_as_long_as_what_came_after_them() {
    let today = YEAR_2000_MS + 9_000 * DAY_MS;
    let believed = |now_ms| Believed { now_ms: Some(now_ms), stamps_from_ms: YEAR_2000_MS };
    let (years_ago, last_week) = (today - 1_000 * DAY_MS, today - 7 * DAY_MS);
    for wrong in [10_000, years_ago] {
        let before = if wrong == 10_000 { Vec::new() } else { vec![last_week] };
        let stamps: Vec<i64> = before.iter().copied().chain([wrong, wrong + 60_000, wrong + 120_000]).collect();
        let log = of_stamps(&stamps, 45);
        assert_eq!(log.apply_retention_gently(believed(today), &mut || ()).unwrap().segments, 0, "nothing came after");
        log.append(&mut stamped(today)).unwrap();
        log.append(&mut stamped(today + 1)).unwrap();
        log.sync().unwrap();
        for days in [0, 30, 37] {
            let now = believed(today + days * DAY_MS);
            assert_eq!(log.apply_retention_gently(now, &mut || ()).unwrap().segments, 0, "{days} days");
        }
        while log.apply_retention_gently(believed(today + 46 * DAY_MS), &mut || ()).unwrap().capped {}
        assert_eq!(log.start_offset(), log.end_offset(), "they go with what came after");
    }
}

// STR-08: whoever waits for records is told by every sync, also by the one that retention makes on its way.
#[test]
fn a_sync_by_retention_wakes_those_who_wait() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, LogOptions { retention_ms: Some(10), ..small() });
    log.append(&mut batch(1, 1)).unwrap();
    let told = Arc::new(AtomicI64::new(-1));
    let (note, observed) = (Arc::clone(&told), Arc::downgrade(&log));
    log.on_durable(Box::new(move || {
        note.store(observed.upgrade().unwrap().durable_offset(), Ordering::Relaxed);
    }));
    log.apply_retention(1_000_000).unwrap();
    assert_eq!(told.load(Ordering::Relaxed), log.durable_offset());
    assert_eq!(log.durable_offset(), 1);
}

// A silent topic loses its last segment, too, and keeps its offsets.
#[test]
fn expired_active_segment_goes_too() {
    let vfs = SimVfs::new();
    let log = filled(&vfs, LogOptions { retention_ms: Some(300), ..small() }, 5);
    let removed = log.apply_retention(10_000).unwrap();
    assert_eq!((removed.segments, removed.start_offset, log.end_offset()), (1, 5, 5));
    assert_eq!(log.append(&mut batch(9, 1)).unwrap().base_offset, 5);
    log.sync().unwrap();
    let (log, _) = open(&vfs.crash(Crash::LoseUnsynced), small());
    assert_eq!((log.start_offset(), log.end_offset()), (5, 6));
}

// A compacted topic keeps the last value of each key: nothing is trimmed.
#[test]
fn compacted_topics_are_not_trimmed() {
    let vfs = SimVfs::new();
    let options = LogOptions { compact: true, ..small() };
    let log = filled(&vfs, options, 50);
    assert_eq!(log.apply_retention(1_000_000).unwrap().segments, 0);
    assert_eq!(log.start_offset(), 0);
}

// STR-05: DeleteRecords is durable when it returns, is refused beyond the durable end, and keeps the end offset.
#[test]
fn delete_records() {
    let vfs = SimVfs::new();
    let log = filled(&vfs, small(), 50);
    log.append(&mut batch(50, 1)).unwrap();
    assert!(matches!(log.delete_records_before(51), Err(Error::OffsetOutOfRange { end: 50, .. })));
    assert_eq!(log.delete_records_before(33).unwrap(), 33);
    assert_eq!(log.delete_records_before(10).unwrap(), 33);
    let files = vfs.files(&dir()).len();
    assert_eq!(read_all(&log, 33, 50).unwrap()[0].0.base_offset, 33);
    let after = vfs.crash(Crash::LoseUnsynced);
    let (log, recovery) = open(&after, small());
    assert_eq!((log.start_offset(), log.end_offset()), (33, 50));
    assert!(recovery.missing.is_empty(), "{recovery:?}");
    assert!(after.files(&dir()).len() <= files + 1, "half-finished deletions are finished");
    assert_eq!(log.delete_records_before(50).unwrap(), 50);
    let (log, _) = open(&after.crash(Crash::LoseUnsynced), small());
    assert_eq!((log.start_offset(), log.end_offset()), (50, 50));
    assert_eq!(log.append(&mut batch(1, 1)).unwrap().base_offset, 50);
}

// F1: interrupted at every call, with any subset of the unlinks on disk, the start is the old or the new one.
#[test]
fn interrupted_deletion() {
    let pristine = SimVfs::new();
    filled(&pristine, small(), 50);
    for nth in 1.. {
        let vfs = pristine.crash(Crash::LoseUnsynced);
        let (log, _) = open(&vfs, small());
        let before = vfs.calls();
        vfs.fail_call(nth, Fault::PowerCut);
        let done = log.delete_records_before(33).is_ok();
        for seed in 0..20 {
            let after = vfs.crash(Crash::Random(nth * 100 + seed));
            let (log, recovery) = open(&after, small());
            assert!(
                recovery.missing.is_empty() && recovery.damages.is_empty(),
                "call {nth}, seed {seed}: {recovery:?}"
            );
            assert!([0, 33].contains(&log.start_offset()));
            assert!(!done || log.start_offset() == 33);
            let read = read_all(&log, log.start_offset(), 50).unwrap();
            assert_eq!(read.len(), usize::try_from(50 - log.start_offset()).unwrap());
        }
        if done {
            assert!(vfs.calls() - before > 10);
            return;
        }
    }
}

// STR-07, F8: both copies of the start offset are damaged: the log serves what there is instead of refusing to open.
#[test]
fn damaged_start_offset() {
    let vfs = SimVfs::new();
    let log = filled(&vfs, small(), 50);
    log.delete_records_before(20).unwrap();
    log.delete_records_before(33).unwrap();
    let after = vfs.crash(Crash::KeepAll);
    after.damage(&dir().join("start-offset"), b"garbage");
    let (log, _) = open(&after.crash(Crash::KeepAll), small());
    assert_eq!(read_all(&log, log.start_offset(), 50).unwrap().last().unwrap().0.next_offset(), 50);
    after.damage(&dir().join("start-offset.prev"), b"");
    let (log, recovery) = open_at(Arc::new(after), &dir(), small()).unwrap();
    assert!(log.start_offset() > 20 && log.start_offset() <= 33 && recovery.missing.is_empty(), "{recovery:?}");
    assert_eq!(log.end_offset(), 50);
}
