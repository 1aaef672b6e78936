//! What recovery makes of the last segment: torn, garbage, zero-filled and recycled tails (F7, STR-04).

use std::path::PathBuf;

use commitlog::batch::Batches;
use commitlog::{Crash, LogOptions, SimVfs};

use crate::support::{batch, body, dir, open, read_all, small};

fn segment(base: i64) -> PathBuf {
    dir().join(format!("{base:020}.log"))
}

/// One segment with these batches, synced, never closed.
fn store(batches: u64) -> (SimVfs, Vec<u8>) {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, LogOptions { segment_bytes: 1 << 20, ..small() });
    for tag in 0..batches {
        log.append(&mut batch(tag, 2)).unwrap();
    }
    log.sync().unwrap();
    let bytes = vfs.contents(&segment(0)).unwrap_or_default();
    (vfs.crash(Crash::LoseUnsynced), bytes)
}

fn whole_batches_below(bytes: &[u8], len: usize) -> u64 {
    let mut walk = Batches::new(bytes);
    let mut whole = 0;
    while walk.next().is_some() && walk.position() <= len {
        whole += 1;
    }
    whole
}

/// Opens, appends a batch, syncs, loses the machine, opens again: the log must be `kept` old batches and the new one,
/// however often it is opened.
fn check_goes_on(vfs: &SimVfs, kept: u64, what: &str) {
    let (log, recovery) = open(vfs, small());
    assert_eq!(log.end_offset(), i64::try_from(kept).unwrap() * 2, "{what}: {recovery:?}");
    assert_eq!(log.durable_offset(), log.end_offset(), "{what}");
    assert!(recovery.missing.is_empty() && recovery.damages.is_empty(), "{what}: {recovery:?}");
    let appended = log.append(&mut batch(1_000, 1)).unwrap();
    assert_eq!(appended.base_offset, i64::try_from(kept).unwrap() * 2, "{what}");
    log.sync().unwrap();
    let mut vfs = vfs.crash(Crash::LoseUnsynced);
    for _ in 0..3 {
        let (log, again) = open(&vfs, small());
        assert!(again.missing.is_empty() && again.damages.is_empty() && again.set_aside.is_empty(), "{what}");
        let read = read_all(&log, 0, log.end_offset()).unwrap();
        assert_eq!(read.len(), usize::try_from(kept + 1).unwrap(), "{what}");
        for (tag, (_, bytes)) in read.iter().take(usize::try_from(kept).unwrap()).enumerate() {
            assert_eq!(body(bytes), body(&batch(u64::try_from(tag).unwrap(), 2)), "{what}");
        }
        assert_eq!(body(&read.last().unwrap().1), body(&batch(1_000, 1)), "{what}");
        vfs = vfs.crash(Crash::KeepAll);
    }
}

// F7: truncated at every byte, the log ends behind the last whole batch and goes on from there.
#[test]
fn truncated_at_every_byte() {
    let (_, bytes) = store(5);
    for len in 0..=bytes.len() {
        let (vfs, _) = store(0);
        vfs.damage(&segment(0), &bytes[..len]);
        check_goes_on(&vfs, whole_batches_below(&bytes, len), &format!("cut to {len}"));
    }
}

// F7, F8: one flipped byte anywhere in the unsynced segment cuts the log at the batch it hits; the bytes are kept.
#[test]
fn flipped_at_every_byte() {
    let (_, bytes) = store(4);
    for index in 0..bytes.len() {
        let (vfs, _) = store(0);
        let mut flipped = bytes.clone();
        flipped[index] ^= 0x10;
        vfs.damage(&segment(0), &flipped);
        let kept = whole_batches_below(&bytes, index);
        check_goes_on(&vfs, kept, &format!("flip at {index}"));
        let files = vfs.files(&dir());
        let preserved = files.iter().any(|path| vfs.contents(path).as_deref() == Some(&flipped[..]));
        assert!(preserved, "flip at {index}: the unreadable bytes are still there"); // I9
    }
}

// F7: zeros are not records, whatever their number; they are taken off.
#[test]
fn zero_filled_tail() {
    let (_, bytes) = store(3);
    for zeros in [1, 11, 12, 60, 61, 62, 4_096, 300_000] {
        let (vfs, _) = store(0);
        let mut longer = bytes.clone();
        longer.resize(bytes.len() + zeros, 0);
        vfs.damage(&segment(0), &longer);
        check_goes_on(&vfs, 3, &format!("{zeros} zeros"));
        assert!(vfs.contents(&segment(0)).unwrap().starts_with(&bytes));
    }
}

// F7: garbage of many lengths behind the last batch.
#[test]
fn garbage_tail() {
    let (_, bytes) = store(3);
    for length in [1, 30, 61, 500, 5_000] {
        let (vfs, _) = store(0);
        let garbage = (0..length).map(|index: usize| u8::try_from(index * 31 % 251).unwrap() | 1);
        vfs.damage(&segment(0), &bytes.iter().copied().chain(garbage).collect::<Vec<u8>>());
        check_goes_on(&vfs, 3, &format!("{length} bytes of garbage"));
    }
}

// F7: intact batches from elsewhere in the log (recycled blocks) are no records: their offset is not the expected one.
#[test]
fn recycled_batches_do_not_resurrect() {
    let (_, bytes) = store(6);
    let batch_len = bytes.len() / 6;
    let (vfs, _) = store(0);
    // Batches 0, 1, 2 followed by what used to be batches 4 and 5, and then by an old copy of batch 1.
    let recycled = [&bytes[..3 * batch_len], &bytes[4 * batch_len..], &bytes[batch_len..2 * batch_len]].concat();
    vfs.damage(&segment(0), &recycled);
    check_goes_on(&vfs, 3, "recycled");
}

// STR-04: only the tail is scanned; after an orderly stop nothing is, and a crash after that scans what is new.
#[test]
fn scans_only_what_is_not_vouched_for() {
    let vfs = SimVfs::new();
    let options = LogOptions { segment_bytes: 2_000, ..small() };
    let (log, _) = open(&vfs, options.clone());
    for tag in 0..100 {
        log.append(&mut batch(tag, 1)).unwrap();
    }
    log.sync().unwrap();
    let (_, crashed) = open(&vfs.crash(Crash::KeepAll), options.clone());
    assert!(crashed.segments > 5 && crashed.scanned_bytes <= 2_000, "{crashed:?}");
    log.close().unwrap();
    let vfs = vfs.crash(Crash::LoseUnsynced);
    let (log, orderly) = open(&vfs, options.clone());
    assert_eq!(orderly.scanned_bytes, 0);
    let mut bytes = batch(100, 1);
    log.append(&mut bytes).unwrap();
    log.sync().unwrap();
    let (log, later) = open(&vfs.crash(Crash::LoseUnsynced), options);
    assert!(later.scanned_bytes <= u64::try_from(bytes.len()).unwrap(), "{later:?}");
    assert_eq!(read_all(&log, 0, 101).unwrap().len(), 101);
}

// STR-04: a checkpoint that no longer fits its segment is gone for good: when the segment has grown past it again it must
// not vouch for bytes it has never seen.
#[test]
fn stale_checkpoint_is_not_believed_later() {
    let vfs = SimVfs::new();
    let options = LogOptions { segment_bytes: 1 << 20, ..small() };
    let (log, _) = open(&vfs, options.clone());
    for tag in 0..4 {
        log.append(&mut batch(tag, 2)).unwrap();
    }
    log.close().unwrap();
    let bytes = vfs.contents(&segment(0)).unwrap();
    let vfs = vfs.crash(Crash::LoseUnsynced);
    vfs.damage(&segment(0), &bytes[..bytes.len() / 4]);
    let (log, _) = open(&vfs, options.clone());
    assert_eq!(log.end_offset(), 2);
    for tag in 10..20 {
        log.append(&mut batch(tag, 3)).unwrap();
    }
    log.sync().unwrap();
    let (log, recovery) = open(&vfs.crash(Crash::LoseUnsynced), options);
    assert_eq!((log.end_offset(), recovery.cut), (32, None));
    assert_eq!(read_all(&log, 0, 32).unwrap().len(), 11);
}

// STR-04: a closed segment whose index is damaged and whose successor is gone takes appends again. Its index file must not
// stay: it would claim that what is appended now had been synced.
#[test]
fn segment_that_takes_appends_has_no_index_file() {
    for seed in 0..100 {
        let vfs = SimVfs::new();
        let (log, _) = open(&vfs, small());
        while log.segment_count() < 2 {
            log.append(&mut batch(1, 1)).unwrap();
        }
        log.sync().unwrap();
        let vfs = vfs.crash(Crash::LoseUnsynced);
        let files = vfs.files(&dir());
        let successor = files.iter().rfind(|path| path.extension().is_some_and(|ext| ext == "log")).unwrap();
        commitlog::Vfs::remove(&vfs, successor).unwrap();
        vfs.damage(&segment(0).with_extension("index"), b"");
        let (log, _) = open(&vfs, LogOptions { segment_bytes: 1_500, ..small() });
        assert!(!vfs.files(&dir()).contains(&segment(0).with_extension("index")));
        let acknowledged = log.end_offset();
        while log.segment_count() < 3 {
            log.append(&mut batch(2, 1)).unwrap();
        }
        let (log, recovery) = open(&vfs.crash(Crash::Random(seed)), small());
        assert!(recovery.missing.is_empty() && recovery.damages.is_empty(), "seed {seed}: {recovery:?}");
        assert!(log.end_offset() >= acknowledged);
    }
}
