//! Looking at a folder offline: exact findings, and not a byte changed.

use commitlog::batch::Batches;
use commitlog::{Crash, IndexState, SimVfs, Verified, verify};

use crate::support::{batch, dir, open, small};

const BATCHES: u64 = 24;

fn store() -> SimVfs {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    for tag in 0..BATCHES {
        log.append(&mut batch(tag, 2)).unwrap();
    }
    log.sync().unwrap();
    vfs.crash(Crash::LoseUnsynced)
}

/// Verifies, and checks that only reading took place.
fn look(vfs: &SimVfs) -> Verified {
    let (files, calls) = (vfs.files(&dir()), vfs.trace().len());
    let contents: Vec<_> = files.iter().map(|path| vfs.contents(path)).collect();
    let verified = verify(vfs, &dir()).unwrap();
    let reading = ["open", "read", "len", "exists", "list"];
    for call in &vfs.trace()[calls..] {
        assert!(reading.contains(&call.split(' ').next().unwrap()), "{call}");
    }
    assert_eq!(vfs.files(&dir()), files);
    assert_eq!(files.iter().map(|path| vfs.contents(path)).collect::<Vec<_>>(), contents);
    verified
}

// Issue 3, item 7: per segment offsets, batches, bytes; a sound folder has no findings.
#[test]
fn a_sound_folder() {
    let vfs = store();
    let verified = look(&vfs);
    assert!(verified.intact(), "{verified:?}");
    assert_eq!((verified.start_offset, verified.end_offset), (0, 48));
    assert_eq!(verified.segments.iter().map(|segment| segment.batches).sum::<u64>(), BATCHES);
    assert_eq!(verified.segments.iter().map(|segment| segment.records).sum::<u64>(), BATCHES * 2);
    let (youngest, closed) = verified.segments.split_last().unwrap();
    assert!(closed.iter().all(|segment| segment.index == IndexState::Valid && segment.tail.is_none()));
    assert_eq!((youngest.index, youngest.max_timestamp), (IndexState::Missing, Some(230)));
    let bytes = vfs.files(&dir()).into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "log"));
    let bytes: usize = bytes.map(|path| vfs.contents(&path).unwrap().len()).sum();
    assert_eq!(verified.bytes(), u64::try_from(bytes).unwrap());
    let (log, _) = open(&vfs, small());
    log.close().unwrap();
    let verified = look(&vfs);
    assert!(verified.intact() && verified.segments.iter().all(|segment| segment.index == IndexState::Valid));
}

// F8: every byte of a closed segment flipped, and cut off, once: the same exact offsets that a reader would be told.
#[test]
fn damage_is_found_with_its_offsets() {
    let pristine = store();
    let path = look(&pristine).segments[1].path.clone();
    let original = pristine.contents(&path).unwrap();
    let mut starts = Vec::new();
    let mut walk = Batches::new(&original);
    while let Some(item) = walk.next() {
        starts.push((item.unwrap().0, walk.position()));
    }
    for index in 0..original.len() {
        let (hit, _) = starts.iter().find(|(_, end)| index < *end).unwrap();
        let vfs = pristine.crash(Crash::KeepAll);
        let mut flipped = original.clone();
        flipped[index] ^= 0x04;
        vfs.damage(&path, &flipped);
        let verified = look(&vfs);
        let damages = &verified.segments[1].damages;
        assert_eq!(damages.len(), 1, "byte {index}: {verified:?}");
        assert_eq!((damages[0].first_offset, damages[0].last_offset), (hit.base_offset, hit.last_offset()));
        assert_eq!(verified.missing, [(hit.base_offset, hit.last_offset())], "byte {index}");
        assert_eq!((verified.end_offset, verified.segments[1].batches), (48, starts.len() as u64 - 1));

        vfs.damage(&path, &original[..index]);
        let verified = look(&vfs);
        let last = starts.last().unwrap().0.last_offset();
        assert_eq!(verified.missing, [(hit.base_offset, last)], "cut to {index}: {verified:?}");
        assert_eq!(verified.end_offset, 48);
    }
}

// F7: what a crash leaves behind the last batch is a tail and no loss; a damaged index is named and costs nothing.
#[test]
fn tails_and_indexes_are_told_from_losses() {
    let vfs = store();
    let files = look(&vfs).segments;
    let youngest = &files.last().unwrap().path;
    let bytes = vfs.contents(youngest).unwrap();
    vfs.damage(youngest, &[&bytes[..], &[7; 100]].concat());
    vfs.damage(&files[1].path.with_extension("index"), b"garbage");
    let verified = look(&vfs);
    assert!(verified.intact(), "{verified:?}");
    let tail = verified.segments.last().unwrap().tail.as_ref().unwrap();
    assert_eq!((tail.position, tail.bytes), (bytes.len() as u64, 100));
    assert_eq!(verified.segments[1].index, IndexState::Invalid);
    assert_eq!(verified.end_offset, 48);
}

// What verify says about a folder is what recovery then makes of it, whatever a power cut has left.
#[test]
fn agrees_with_recovery_after_power_cuts() {
    for seed in 0..300 {
        let vfs = SimVfs::new();
        let (log, _) = open(&vfs, small());
        for tag in 0..20 {
            log.append(&mut batch(tag, 2)).unwrap();
            if tag % 7 == 6 {
                log.sync().unwrap();
            }
        }
        let after = vfs.crash(Crash::Random(seed));
        let verified = look(&after);
        let (log, recovery) = open(&after, small());
        assert!(verified.intact(), "seed {seed}: {verified:?}");
        assert_eq!(verified.end_offset, recovery.end_offset, "seed {seed}: {verified:?} {recovery:?}");
        assert_eq!(verified.start_offset, log.start_offset());
    }
}
