//! Round trips, rolling, limits, times: the log on a good day.

use std::sync::Arc;

use commitlog::batch::{BatchError, Builder};
use commitlog::{Clock, Error, Log, LogOptions, ManualClock, RealVfs, SimVfs, Uncompressed};

use crate::support::{batch, body, open, open_at, read_all, small};

// STR-01: batches come back verbatim but for base offset and leader epoch, across segments and restarts.
#[test]
fn round_trip_on_the_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("topic-0");
    let sent: Vec<Vec<u8>> = (0..60).map(|tag| batch(tag, 1 + tag % 4)).collect();
    {
        let (log, _) = open_at(Arc::new(RealVfs), &dir, small()).unwrap();
        for bytes in &sent {
            let mut bytes = bytes.clone();
            let appended = log.append(&mut bytes).unwrap();
            assert_eq!(appended.last_offset + 1, log.end_offset());
        }
        assert!(log.segment_count() > 5);
        assert_eq!(log.durable_offset(), 0);
        assert_eq!(log.sync().unwrap(), log.end_offset());
        log.close().unwrap();
    }
    let (log, recovery) = open_at(Arc::new(RealVfs), &dir, small()).unwrap();
    assert_eq!(recovery.scanned_bytes, 0, "an orderly stop leaves nothing to scan");
    assert!(recovery.cut.is_none() && recovery.missing.is_empty());
    let read = read_all(&log, 0, log.durable_offset()).unwrap();
    assert_eq!(read.len(), sent.len());
    let mut expected = 0;
    for ((header, bytes), sent) in read.iter().zip(&sent) {
        assert_eq!(header.base_offset, expected);
        assert_eq!(header.leader_epoch, 0);
        assert_eq!(body(bytes), body(sent));
        expected = header.next_offset();
    }
    assert_eq!(expected, log.end_offset());
}

// STR-01: every offset is found, in the middle of batches too, and no answer passes the limit or the size asked for.
#[test]
fn reads_from_any_offset() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    for tag in 0..40 {
        log.append(&mut batch(tag, 3)).unwrap();
    }
    for offset in 0..120 {
        let bytes = log.read(offset, 1, true, 120).unwrap();
        let header = commitlog::batch::verify(&bytes).unwrap();
        assert!(header.base_offset <= offset && offset <= header.last_offset());
        assert_eq!(header.size(), bytes.len(), "exactly one batch");
        assert!(log.read(offset, 10, false, 120).unwrap().is_empty());
        let limited = log.read(offset, 10_000, true, offset - offset % 3 + 3).unwrap();
        assert_eq!(limited.len(), bytes.len(), "nothing behind the limit");
    }
    assert!(log.read(120, 1, true, i64::MAX).unwrap().is_empty());
    assert!(matches!(log.read(121, 1, true, i64::MAX), Err(Error::OffsetOutOfRange { start: 0, end: 120, .. })));
    assert!(matches!(log.read(-1, 1, true, i64::MAX), Err(Error::OffsetOutOfRange { .. })));
    assert!(log.read(5, 1_000, true, 4).unwrap().is_empty());
}

#[test]
fn several_batches_in_one_append() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    let mut bytes = [batch(1, 2), batch(2, 3)].concat();
    let appended = log.append(&mut bytes).unwrap();
    assert_eq!((appended.base_offset, appended.last_offset, appended.max_timestamp), (0, 4, 20));
    assert_eq!(read_all(&log, 0, 5).unwrap()[1].0.base_offset, 2);
}

// STR-01: the checksum is verified before anything is stored, and an append is all or nothing.
#[test]
fn refuses_bad_batches() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, LogOptions { max_batch_bytes: 300, ..small() });
    let mut damaged = [batch(1, 1), batch(2, 1)].concat();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let refused = log.append(&mut damaged);
    assert!(matches!(refused, Err(Error::InvalidBatch { position: 1.., source: BatchError::Crc { .. } })));
    assert!(matches!(log.append(&mut []), Err(Error::InvalidBatch { .. })));
    let mut old = batch(1, 1);
    old[16] = 1;
    assert!(matches!(log.append(&mut old), Err(Error::InvalidBatch { source: BatchError::Magic { magic: 1 }, .. })));
    assert!(matches!(log.append(&mut batch(1, 9)), Err(Error::BatchTooLarge { limit: 300, .. })));
    assert_eq!(log.end_offset(), 0);
    assert_eq!(log.append(&mut batch(1, 1)).unwrap().base_offset, 0);
}

// STR-01: segments roll by size and by age.
#[test]
fn rolls_by_size_and_age() {
    let vfs = SimVfs::new();
    let clock = Arc::new(ManualClock::new(0));
    let options = LogOptions { segment_bytes: 400, segment_ms: 1_000, ..small() };
    let dir = crate::support::dir();
    let (log, _) = Log::open(Arc::new(vfs), Arc::clone(&clock) as Arc<dyn Clock>, &dir, options).unwrap();
    log.append(&mut batch(1, 1)).unwrap();
    log.append(&mut batch(2, 1)).unwrap();
    assert_eq!(log.segment_count(), 1);
    log.append(&mut batch(3, 1)).unwrap();
    log.append(&mut batch(4, 1)).unwrap();
    assert_eq!(log.segment_count(), 2, "size");
    clock.set(999);
    log.append(&mut batch(5, 3)).unwrap();
    let before = log.segment_count();
    clock.set(2_500);
    log.append(&mut batch(6, 1)).unwrap();
    assert_eq!(log.segment_count(), before + 1, "age");
    log.append(&mut batch(7, 40)).unwrap();
    assert_eq!(read_all(&log, 0, log.end_offset()).unwrap().len(), 7, "a batch larger than a segment gets its own");
}

// STR-11: ListOffsets by timestamp and by maximum.
#[test]
fn finds_offsets_by_time() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    for tag in 0..100 {
        let timestamp = i64::from(tag) * 100;
        let batch = Builder::new(timestamp).record(timestamp, &[0; 50]).record(timestamp + 50, &[1; 50]);
        log.append(&mut batch.build()).unwrap();
    }
    assert_eq!(log.offset_for_timestamp(0, &Uncompressed).unwrap(), None, "only what is durable is found");
    log.sync().unwrap();
    for time in 0..9_950 {
        let step = (time + 49) / 50;
        assert_eq!(log.offset_for_timestamp(time, &Uncompressed).unwrap(), Some((step, step * 50)), "time {time}");
    }
    assert_eq!(log.offset_for_timestamp(9_951, &Uncompressed).unwrap(), None);
    assert_eq!(log.max_timestamp(&Uncompressed), Some((199, 9_950)));
    log.delete_records_before(101).unwrap();
    assert_eq!(log.offset_for_timestamp(3, &Uncompressed).unwrap(), Some((101, 5_050)));
}

#[test]
fn empty_log_and_closed_log() {
    let vfs = SimVfs::new();
    let (log, recovery) = open(&vfs, small());
    assert_eq!((recovery.start_offset, recovery.end_offset, recovery.segments), (0, 0, 0));
    assert!(log.read(0, 100, true, i64::MAX).unwrap().is_empty());
    assert_eq!((log.max_timestamp(&Uncompressed), log.offset_for_timestamp(1, &Uncompressed).unwrap()), (None, None));
    log.append(&mut batch(1, 1)).unwrap();
    log.close().unwrap();
    assert!(matches!(log.append(&mut batch(2, 1)), Err(Error::Closed { .. })));
    assert_eq!(read_all(&log, 0, 1).unwrap().len(), 1);
    commitlog::remove_dir(&vfs, &crate::support::dir()).unwrap();
    commitlog::remove_dir(&vfs, &crate::support::dir()).unwrap();
    assert!(vfs.files(&crate::support::dir()).is_empty());
}

// a stop with thousands of partitions must not wait for the disk for each that nobody wrote to
#[test]
fn a_close_without_appends_writes_nothing() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    log.append(&mut batch(1, 2)).unwrap();
    log.close().unwrap();
    let (log, _) = open(&vfs, small());
    let before = vfs.syncs_done();
    log.close().unwrap();
    assert_eq!(vfs.syncs_done(), before);
    let (log, _) = open(&vfs, small());
    log.append(&mut batch(2, 2)).unwrap();
    log.close().unwrap();
    assert!(vfs.syncs_done() > before, "an append is followed by another checkpoint");
}
