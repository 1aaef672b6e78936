//! Idempotent producers across restarts (STR-11, F1).

use commitlog::{Crash, Error, SimVfs};

use crate::support::{batch, open, produced, small};

// STR-11: a retry is acknowledged with the original offset, before and after crashes and orderly stops, also when the
// original is segments away; a gap and an old epoch are refused.
#[test]
fn retries_are_recognised_after_a_restart() {
    for orderly in [false, true] {
        let mut vfs = SimVfs::new();
        for sequence in 0..30 {
            let (log, _) = open(&vfs, small());
            if sequence > 0 {
                let repeated = log.append(&mut produced(7, 0, sequence - 1)).unwrap();
                assert_eq!(repeated.duplicate, Some(repeated.base_offset));
                assert_eq!((repeated.base_offset % 4, repeated.bytes), (0, 0));
            }
            let refused = log.append(&mut produced(7, 0, sequence + 1));
            let unknown = sequence == 0;
            if unknown {
                assert_eq!(refused.unwrap().duplicate, None);
                vfs = SimVfs::new();
                let (log, _) = open(&vfs, small());
                log.append(&mut produced(7, 0, 0)).unwrap();
                log.append(&mut batch(1, 3)).unwrap();
                log.sync().unwrap();
                continue;
            }
            assert!(matches!(refused, Err(Error::OutOfOrderSequence { producer_id: 7, .. })));
            let fresh = log.append(&mut produced(7, 0, sequence)).unwrap();
            assert_eq!((fresh.duplicate, fresh.base_offset), (None, i64::from(sequence) * 4));
            log.append(&mut batch(1, 3)).unwrap();
            log.sync().unwrap();
            if orderly {
                log.close().unwrap();
            }
            vfs = vfs.crash(Crash::LoseUnsynced);
        }
        let (log, _) = open(&vfs, small());
        log.append(&mut produced(7, 1, 0)).unwrap();
        assert!(matches!(log.append(&mut produced(7, 0, 30)), Err(Error::InvalidProducerEpoch { current: 1, .. })));
        let states = log.producers();
        assert_eq!((states.len(), states[0].producer_id, states[0].epoch), (1, 7, 1));
    }
}

// STR-11: what was not durable is forgotten with its data, so the retry after the crash is stored.
#[test]
fn unsynced_batches_are_not_remembered() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    log.append(&mut produced(1, 0, 0)).unwrap();
    log.sync().unwrap();
    log.append(&mut produced(1, 0, 1)).unwrap();
    let (log, _) = open(&vfs.crash(Crash::LoseUnsynced), small());
    let retried = log.append(&mut produced(1, 0, 1)).unwrap();
    assert_eq!((retried.duplicate, retried.base_offset), (None, 1));
}

#[test]
fn an_append_is_either_new_or_a_retry() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    let mut both = [produced(1, 0, 0), produced(1, 0, 1)].concat();
    assert_eq!(log.append(&mut both).unwrap().last_offset, 1);
    let again = log.append(&mut both).unwrap();
    assert_eq!((again.duplicate, again.last_offset), (Some(0), 1));
    let mut mixed = [produced(1, 0, 1), produced(1, 0, 2)].concat();
    assert!(matches!(log.append(&mut mixed), Err(Error::OutOfOrderSequence { expected: 2, .. })));
    assert_eq!(log.end_offset(), 2);
}

// A refused or failed write leaves no trace in the producer state.
#[test]
fn failed_append_is_not_remembered() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    log.append(&mut produced(1, 0, 0)).unwrap();
    vfs.fail_call(1, commitlog::Fault::Torn);
    assert!(matches!(log.append(&mut produced(1, 0, 1)), Err(Error::Io { .. })));
    assert_eq!(log.append(&mut produced(1, 0, 1)).unwrap().base_offset, 1);
    log.sync().unwrap();
    let (log, recovery) = open(&vfs.crash(Crash::LoseUnsynced), small());
    assert_eq!((log.end_offset(), recovery.cut), (2, None));
}
