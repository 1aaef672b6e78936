//! State files that survive a power cut at any line (OFF-31, F27).

use std::path::Path;

use commitlog::state_file::{self, Generation};
use commitlog::{Crash, Fault, OpenMode, SimVfs, Vfs};

const PATH: &str = "/state/offsets";

fn disk() -> SimVfs {
    let vfs = SimVfs::new();
    vfs.create_dir_all(Path::new("/state")).unwrap();
    vfs.sync_dir(Path::new("/")).unwrap();
    vfs
}

fn read(vfs: &SimVfs) -> Option<(Vec<u8>, Generation)> {
    state_file::read(vfs, Path::new(PATH)).unwrap()
}

// OFF-31: cut at every call, whatever subset reached the disk: the old contents or the new ones, never less.
#[test]
fn power_cut_at_every_call() {
    for nth in 1.. {
        let vfs = disk();
        state_file::write(&vfs, Path::new(PATH), b"one").unwrap();
        state_file::write(&vfs, Path::new(PATH), b"two").unwrap();
        vfs.fail_call(nth, Fault::PowerCut);
        let done = state_file::write(&vfs, Path::new(PATH), b"three").is_ok();
        for seed in 0..50 {
            let after = vfs.crash(Crash::Random(nth * 1_000 + seed));
            let (payload, _) = read(&after).unwrap();
            assert!(payload == b"three" || (!done && payload == b"two"), "call {nth}, seed {seed}: {payload:?}");
            state_file::write(&after, Path::new(PATH), b"four").unwrap();
            assert_eq!(read(&after).unwrap().0, b"four");
        }
        if done {
            return;
        }
    }
}

// F8, OFF-31: a damaged file gives the previous contents, and a rewrite does not lose those to the damaged copy.
#[test]
fn falls_back_to_the_previous_copy() {
    let vfs = disk();
    assert_eq!(read(&vfs), None);
    state_file::write(&vfs, Path::new(PATH), b"one").unwrap();
    state_file::write(&vfs, Path::new(PATH), b"two").unwrap();
    let good = vfs.contents(Path::new(PATH)).unwrap();
    for index in 0..good.len() {
        let mut flipped = good.clone();
        flipped[index] ^= 2;
        vfs.damage(Path::new(PATH), &flipped);
        assert_eq!(read(&vfs), Some((b"one".to_vec(), Generation::Previous)), "byte {index}");
        vfs.damage(Path::new(PATH), &good[..index]);
        assert_eq!(read(&vfs), Some((b"one".to_vec(), Generation::Previous)), "length {index}");
    }
    // The current copy is damaged now: a rewrite that is cut off must not have put it in the place of the good one.
    for nth in 1.. {
        let vfs = vfs.crash(Crash::KeepAll);
        vfs.fail_call(nth, Fault::PowerCut);
        let done = state_file::write(&vfs, Path::new(PATH), b"three").is_ok();
        for crash in [Crash::KeepAll, Crash::LoseUnsynced, Crash::Random(nth), Crash::Random(nth + 500)] {
            let (payload, _) = read(&vfs.crash(crash)).unwrap();
            assert!(payload == b"three" || (!done && payload == b"one"), "call {nth}, {crash:?}: {payload:?}");
        }
        if done {
            break;
        }
    }
}

#[test]
fn removed_in_all_generations() {
    let vfs = disk();
    state_file::write(&vfs, Path::new(PATH), b"one").unwrap();
    state_file::write(&vfs, Path::new(PATH), b"two").unwrap();
    drop(vfs.open(Path::new("/state/offsets.tmp"), OpenMode::Replace).unwrap());
    state_file::remove(&vfs, Path::new(PATH)).unwrap();
    assert!(vfs.files(Path::new("/state")).is_empty());
    assert!(!state_file::exists(&vfs, Path::new(PATH)).unwrap());
}
