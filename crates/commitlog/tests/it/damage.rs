//! Bit rot in what was closed and trusted: reported with exact offsets, never served as good, never deleted (F8).

use std::collections::BTreeSet;
use std::path::PathBuf;

use commitlog::batch::Batches;
use commitlog::{Crash, Error, Log, SimVfs};

use crate::support::{batch, body, dir, open, read_all, small};

const BATCHES: u64 = 24;

/// Several closed segments and an active one, everything durable.
fn store() -> SimVfs {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    for tag in 0..BATCHES {
        log.append(&mut batch(tag, 2)).unwrap();
    }
    log.sync().unwrap();
    vfs.crash(Crash::LoseUnsynced)
}

fn logs(vfs: &SimVfs) -> Vec<PathBuf> {
    vfs.files(&dir()).into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "log")).collect()
}

/// Reads to the end, going on behind every reported damage; returns the intact offsets and the lost ranges.
fn read_around(log: &Log) -> (BTreeSet<i64>, Vec<(i64, i64)>) {
    let mut good = BTreeSet::new();
    let mut lost = Vec::new();
    let mut offset = log.start_offset();
    while offset < log.end_offset() {
        match read_all(log, offset, log.end_offset()) {
            Ok(batches) => {
                for (header, bytes) in batches {
                    let tag = u64::try_from(header.base_offset / 2).unwrap();
                    assert_eq!(body(&bytes), body(&batch(tag, 2)), "only what was stored is served");
                    good.extend(header.base_offset..header.next_offset());
                }
                break;
            }
            Err(Error::Damaged { first_offset, last_offset, .. }) => {
                lost.push((first_offset, last_offset));
                // Batches before the damage may have been read in the call that failed: read them again.
                let before = read_all(log, offset, first_offset).unwrap();
                good.extend(before.iter().flat_map(|(header, _)| header.base_offset..header.next_offset()));
                offset = last_offset + 1;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    (good, lost)
}

/// Offsets of the batch that byte `index` of the first segment belongs to.
fn hit(segment: &[u8], index: usize) -> (i64, i64) {
    let mut walk = Batches::new(segment);
    while let Some(item) = walk.next() {
        let (header, _) = item.unwrap();
        if index < walk.position() {
            return (header.base_offset, header.last_offset());
        }
    }
    panic!("no batch at byte {index}");
}

// F8: every byte of a closed segment, flipped once.
#[test]
fn flipped_byte_in_a_closed_segment() {
    let pristine = store();
    let files = logs(&pristine);
    assert!(files.len() > 3);
    let original = pristine.contents(&files[1]).unwrap();
    let end = i64::try_from(BATCHES).unwrap() * 2;
    for index in 0..original.len() {
        let vfs = pristine.crash(Crash::KeepAll);
        let mut flipped = original.clone();
        flipped[index] ^= 0x04;
        vfs.damage(&files[1], &flipped);
        let (first, last) = hit(&original, index);

        let (log, recovery) = open(&vfs, small());
        assert_eq!(
            recovery.scanned_bytes,
            u64::try_from(pristine.contents(files.last().unwrap()).unwrap().len()).unwrap()
        );
        let (good, lost) = read_around(&log);
        assert_eq!(lost, [(first, last)], "byte {index}");
        let expected: BTreeSet<i64> = (0..end).filter(|offset| !(first..=last).contains(offset)).collect();
        assert_eq!(good, expected, "byte {index}");
        assert_eq!(log.damages().len(), 1);
        assert_eq!(vfs.contents(&log.damages()[0].path).unwrap(), flipped, "the original bytes are kept");

        // Reported once; from then on the hole is known, also after a power cut.
        assert_eq!(read_around(&log).1, []);
        let (log, again) = open(&vfs.crash(Crash::LoseUnsynced), small());
        assert_eq!(again.missing, [(first, last)], "byte {index}");
        assert!(again.damages.is_empty());
        assert_eq!(read_around(&log), (expected, Vec::new()), "byte {index}");
        assert_eq!(log.end_offset(), end);
    }
}

// F8: an index file is derived: flipped, truncated or missing, it costs a scan and nothing else.
#[test]
fn damaged_index_is_rebuilt() {
    let pristine = store();
    let index = logs(&pristine)[1].with_extension("index");
    let original = pristine.contents(&index).unwrap();
    let all = i64::try_from(BATCHES).unwrap() * 2;
    let mut variants: Vec<Vec<u8>> = (0..original.len())
        .map(|position| {
            let mut flipped = original.clone();
            flipped[position] ^= 1;
            flipped
        })
        .collect();
    variants.extend([Vec::new(), original[..50].to_vec(), original[..original.len() - 1].to_vec()]);
    for variant in variants {
        let vfs = pristine.crash(Crash::KeepAll);
        vfs.damage(&index, &variant);
        let (log, recovery) = open(&vfs, small());
        assert!(recovery.damages.is_empty() && recovery.missing.is_empty());
        assert_eq!(read_around(&log), ((0..all).collect(), Vec::new()));
        for offset in 0..all {
            assert!(!log.read(offset, 1, true, all).unwrap().is_empty());
        }
        if recovery.rebuilt_indexes == 1 {
            assert_eq!(vfs.contents(&index).unwrap().len(), original.len());
        }
    }
    let vfs = pristine.crash(Crash::KeepAll);
    commitlog::Vfs::remove(&vfs, &index).unwrap();
    let (log, recovery) = open(&vfs, small());
    assert_eq!(recovery.rebuilt_indexes, 1);
    assert_eq!(read_around(&log), ((0..all).collect(), Vec::new()));
}

// F8: index gone and data damaged: the later segments prove that the data had been there, so it is a loss to report.
#[test]
fn damaged_segment_without_its_index() {
    let pristine = store();
    let file = &logs(&pristine)[1];
    let original = pristine.contents(file).unwrap();
    let vfs = pristine.crash(Crash::KeepAll);
    let mut flipped = original.clone();
    let index = original.len() / 2;
    flipped[index] ^= 1;
    vfs.damage(file, &flipped);
    commitlog::Vfs::remove(&vfs, &file.with_extension("index")).unwrap();
    let (log, recovery) = open(&vfs, small());
    let (first, last) = hit(&original, index);
    assert_eq!(recovery.damages.len(), 1, "{recovery:?}");
    assert_eq!((recovery.damages[0].first_offset, recovery.damages[0].last_offset), (first, last));
    assert_eq!(recovery.missing, [(first, last)]);
    let (good, lost) = read_around(&log);
    assert!(lost.is_empty());
    assert_eq!(good.len(), usize::try_from(BATCHES * 2 - 2).unwrap());
    assert_eq!(vfs.contents(&recovery.damages[0].path).unwrap(), flipped);
}

// F8, F12: a closed segment that is shorter than its footer says, at every length, or gone.
#[test]
fn truncated_or_missing_closed_segment() {
    let pristine = store();
    let files = logs(&pristine);
    let original = pristine.contents(&files[1]).unwrap();
    let (base, bound) = (hit(&original, 0).0, hit(&original, original.len() - 1).1 + 1);
    for len in 0..original.len() {
        let vfs = pristine.crash(Crash::KeepAll);
        vfs.damage(&files[1], &original[..len]);
        let (log, recovery) = open(&vfs, small());
        let first = hit(&original, len).0;
        assert_eq!(recovery.missing, [(first, bound - 1)], "{len}: {recovery:?}");
        let (good, lost) = read_around(&log);
        assert!(lost.is_empty(), "{len}: {lost:?}");
        let expected: BTreeSet<i64> = (0..log.end_offset()).filter(|offset| !(first..bound).contains(offset)).collect();
        assert_eq!(good, expected, "{len}");
    }
    let vfs = pristine.crash(Crash::KeepAll);
    commitlog::Vfs::remove(&vfs, &files[1]).unwrap();
    let (log, recovery) = open(&vfs, small());
    assert_eq!(recovery.missing, [(base, bound - 1)]);
    assert_eq!(read_around(&log).0.len(), usize::try_from(BATCHES * 2 - u64::try_from(bound - base).unwrap()).unwrap());
}

// F8: rot in the part of the last segment that a checkpoint vouches for; the end of the log stays where it was.
#[test]
fn flipped_byte_in_the_last_segment_after_an_orderly_stop() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    for tag in 0..3 {
        log.append(&mut batch(tag, 2)).unwrap();
    }
    log.close().unwrap();
    let file = logs(&vfs).pop().unwrap();
    let original = vfs.contents(&file).unwrap();
    for index in 0..original.len() {
        let vfs = vfs.crash(Crash::LoseUnsynced);
        let mut flipped = original.clone();
        flipped[index] ^= 0x80;
        vfs.damage(&file, &flipped);
        let (log, recovery) = open(&vfs, small());
        assert_eq!(recovery.scanned_bytes, 0);
        let (good, lost) = read_around(&log);
        assert_eq!(lost, [hit(&original, index)]);
        assert_eq!(good.len(), 4);
        assert_eq!(log.append(&mut batch(3, 2)).unwrap().base_offset, 6, "lost offsets are not used again");
        log.sync().unwrap();
        let (log, _) = open(&vfs.crash(Crash::LoseUnsynced), small());
        assert_eq!((log.end_offset(), read_around(&log).0.len()), (8, 6));
    }
}

// I9: a repair can be interrupted at every call, and any subset of its renames may have reached the disk.
#[test]
fn interrupted_repair() {
    let pristine = store();
    let file = logs(&pristine)[1].clone();
    let mut flipped = pristine.contents(&file).unwrap();
    let middle = flipped.len() / 2;
    let lost = hit(&flipped, middle);
    flipped[middle] ^= 1;
    pristine.damage(&file, &flipped);
    let (log, _) = open(&pristine.crash(Crash::KeepAll), small());
    let expected = read_around(&log).0;
    for nth in 1.. {
        let vfs = pristine.crash(Crash::KeepAll);
        let (log, _) = open(&vfs, small());
        vfs.fail_call(nth, commitlog::Fault::PowerCut);
        let done = read_all(&log, lost.0, log.end_offset()).is_err_and(|error| matches!(error, Error::Damaged { .. }));
        for crash in [Crash::KeepAll, Crash::LoseUnsynced, Crash::Random(nth), Crash::Random(nth + 1_000)] {
            let after = vfs.crash(crash);
            let (log, _) = open(&after, small());
            assert_eq!(read_around(&log).0, expected, "call {nth}, {crash:?}");
            let (log, recovery) = open(&after.crash(Crash::LoseUnsynced), small());
            assert_eq!(recovery.missing, [lost], "call {nth}, {crash:?}");
            assert_eq!(read_around(&log), (expected.clone(), Vec::new()), "call {nth}, {crash:?}");
            let originals = after.files(&dir()).into_iter().filter(|path| after.contents(path).unwrap() == flipped);
            assert!(originals.count() >= 1, "call {nth}, {crash:?}: the unreadable bytes are kept");
        }
        if done {
            assert!(nth > 10, "the repair was really interrupted");
            return;
        }
    }
}
