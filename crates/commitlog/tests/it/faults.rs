//! Failing calls and failing machines: for every N the N-th call fails, then the log recovers and is checked against what
//! was acknowledged (I1, I2, I9; F6, F9, F10).

use commitlog::{Crash, Error, Fault, LogOptions, SimVfs};

use crate::support::{batch, body, dir, open, open_at, read_all, small};

/// What a run has acknowledged and attempted, in order.
#[derive(Debug, Default)]
struct Run {
    /// Tags of batches by base offset, as appended; only those that succeeded.
    appended: Vec<(i64, u64)>,
    /// Everything below has been confirmed by a sync.
    acknowledged: i64,
    /// DeleteRecords that returned.
    start: i64,
}

/// Appends, syncs, rolls, trims, closes and reopens; goes on after errors as a broker would until a sync has failed.
fn work(vfs: &SimVfs) -> Run {
    let mut run = Run::default();
    let mut tag = 0;
    for session in 0..2 {
        let Ok((log, _)) = open_at(std::sync::Arc::new(vfs.clone()), &dir(), small()) else { return run };
        // What a session finds beyond the acknowledged is kept as well.
        let found = read_all(&log, log.start_offset(), log.durable_offset());
        if found.is_ok() {
            run.acknowledged = run.acknowledged.max(log.durable_offset());
        }
        for step in 0..14_u64 {
            tag += 1;
            if let Ok(appended) = log.append(&mut batch(tag, 1 + tag % 3)) {
                run.appended.retain(|(base, _)| *base < appended.base_offset);
                run.appended.push((appended.base_offset, tag));
            }
            if step % 3 == 2 {
                match log.sync() {
                    Ok(durable) => run.acknowledged = run.acknowledged.max(durable),
                    Err(_) if log.stopped() => return run,
                    Err(_) => {}
                }
            }
        }
        if let Ok(start) = log.delete_records_before(log.durable_offset().min(6 + session * 5)) {
            run.start = start;
        }
        if log.close().is_ok() {
            run.acknowledged = log.durable_offset();
        }
    }
    run
}

/// Everything acknowledged is there, once, in order, without holes; what is beyond was at least appended.
fn check(vfs: &SimVfs, run: &Run, what: &str) {
    let (log, recovery) = open(vfs, small());
    assert!(recovery.missing.is_empty() && recovery.damages.is_empty(), "{what}: {recovery:?}\n{run:?}");
    assert!(log.end_offset() >= run.acknowledged, "{what}: {recovery:?}\n{run:?}");
    assert_eq!(log.durable_offset(), log.end_offset(), "{what}");
    assert!(log.start_offset() >= run.start, "{what}");
    let read = read_all(&log, log.start_offset(), log.end_offset());
    let read = read.unwrap_or_else(|error| panic!("{what}: {error:?} {recovery:?}\n{run:?}"));
    let mut expected = read.first().map_or(log.end_offset(), |(header, _)| header.base_offset);
    assert!(expected <= log.start_offset() || read.is_empty(), "{what}");
    for (header, bytes) in &read {
        assert_eq!(header.base_offset, expected, "{what}: no holes");
        expected = header.next_offset();
        if header.base_offset < run.acknowledged {
            let tag = run.appended.iter().find(|(base, _)| *base == header.base_offset).map(|(_, tag)| *tag);
            let tag =
                tag.unwrap_or_else(|| panic!("{what}: offset {} was never appended\n{run:?}", header.base_offset));
            assert_eq!(body(bytes), body(&batch(tag, 1 + tag % 3)), "{what}: an acknowledged offset has other bytes");
        }
    }
    assert_eq!(expected, log.end_offset(), "{what}");
    let next = log.append(&mut batch(9_999, 1)).unwrap();
    assert_eq!(next.base_offset, expected, "{what}");
    log.sync().unwrap();
}

fn calls_of_a_good_run() -> u64 {
    let vfs = SimVfs::new();
    let run = work(&vfs);
    assert!(run.acknowledged > 40 && run.start == 11, "{run:?}");
    check(&vfs, &run, "nothing fails");
    vfs.calls()
}

// F1, F6, F9, F10: for every N the N-th call fails in one of several ways, then the machine loses what was not synced.
#[test]
fn every_call_fails_once() {
    let calls = calls_of_a_good_run();
    for fault in [Fault::Io, Fault::NoSpace, Fault::Torn, Fault::PowerCut] {
        for nth in 1..=calls {
            let vfs = SimVfs::new();
            vfs.fail_call(nth, fault);
            let run = work(&vfs);
            vfs.heal();
            for crash in [Crash::LoseUnsynced, Crash::KeepAll, Crash::Random(nth), Crash::Random(nth + 77_777)] {
                check(&vfs.crash(crash), &run, &format!("{fault:?} at call {nth}, {crash:?}"));
            }
        }
    }
}

// F6: the power goes at every call, and many different subsets of the unsynced sectors and names have reached the disk.
#[test]
fn power_cuts_at_every_call() {
    let calls = calls_of_a_good_run();
    for nth in 1..=calls {
        let vfs = SimVfs::new();
        vfs.fail_call(nth, Fault::PowerCut);
        let run = work(&vfs);
        for seed in 0..12 {
            check(&vfs.crash(Crash::Random(nth * 1_000 + seed)), &run, &format!("cut at {nth}, seed {seed}"));
        }
    }
}

// I9, STR-04: crashing during recovery is harmless, at every call of it.
#[test]
fn recovery_is_interrupted_at_every_call() {
    let calls = calls_of_a_good_run();
    for cut in (1..=calls).step_by(5) {
        let vfs = SimVfs::new();
        vfs.fail_call(cut, Fault::PowerCut);
        let run = work(&vfs);
        let crashed = vfs.crash(Crash::Random(cut));
        for nth in 1.. {
            let again = crashed.crash(Crash::KeepAll);
            again.fail_call(nth, Fault::PowerCut);
            let finished = open_at(std::sync::Arc::new(again.clone()), &dir(), small()).is_ok() && again.calls() < nth;
            check(&again.crash(Crash::Random(nth)), &run, &format!("cut at {cut}, recovery cut at {nth}"));
            if finished {
                break;
            }
        }
    }
}

// STR-03, F9: after one failed sync nothing is accepted, although later syncs would succeed; nothing of it is acknowledged.
#[test]
fn sync_error_stops_the_log() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    log.append(&mut batch(1, 1)).unwrap();
    log.sync().unwrap();
    log.append(&mut batch(2, 1)).unwrap();
    vfs.fail_syncs(true);
    assert!(matches!(log.sync(), Err(Error::Io { action: "sync", .. })));
    vfs.heal();
    let syncs = vfs.syncs_done();
    assert!(matches!(log.sync(), Err(Error::Stopped { .. })));
    assert!(matches!(log.append(&mut batch(3, 1)), Err(Error::Stopped { .. })));
    assert!(matches!(log.close(), Err(Error::Stopped { .. })));
    assert_eq!(vfs.syncs_done(), syncs, "never synced again");
    assert_eq!(log.durable_offset(), 1);
    assert_eq!(read_all(&log, 0, log.durable_offset()).unwrap().len(), 1, "what is durable can still be read");
    let (log, _) = open(&vfs.crash(Crash::LoseUnsynced), small());
    assert_eq!(log.end_offset(), 1);
}

// F9: the process restarts after a failed sync while the kernel still shows, as clean, the pages it could not write.
// Recovery must not take them for stored: a later power cut would show that they never were.
#[test]
fn restart_after_a_sync_error_believes_the_disk_and_not_the_cache() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    log.append(&mut batch(1, 1)).unwrap();
    log.sync().unwrap();
    log.append(&mut batch(2, 1)).unwrap();
    vfs.fail_syncs(true);
    log.sync().unwrap_err();
    vfs.heal();
    let (log, _) = open(&vfs, small()); // the same disk, the same kernel
    assert_eq!((log.end_offset(), log.durable_offset()), (1, 1));
    let (log, recovery) = open(&vfs.crash(Crash::LoseUnsynced), small());
    assert_eq!(log.end_offset(), 1);
    assert!(recovery.cut.is_none());
}

// I2: an append that failed half-way leaves nothing behind that a later restart could take for a record: here the second
// of four batches, which is whole, has the offset that follows the append that succeeded.
#[test]
fn refused_batches_do_not_resurrect() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    log.append(&mut batch(1, 1)).unwrap();
    log.sync().unwrap();
    vfs.fail_call(1, Fault::Torn);
    log.append(&mut [batch(2, 1), batch(3, 1), batch(4, 1), batch(5, 1)].concat()).unwrap_err();
    assert_eq!(log.append(&mut batch(6, 1)).unwrap().base_offset, 1);
    log.sync().unwrap();
    for crash in [Crash::LoseUnsynced, Crash::KeepAll] {
        let (log, recovery) = open(&vfs.crash(crash), small());
        assert_eq!((log.end_offset(), recovery.cut), (2, None), "{crash:?}");
    }
}

// F10: a full disk refuses appends with an error that says so, keeps what is stored, and goes on when there is room.
#[test]
fn full_disk_refuses_and_resumes() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, LogOptions { segment_bytes: 600, ..small() });
    log.append(&mut batch(1, 1)).unwrap();
    log.sync().unwrap();
    let mut next = 1;
    for room in 0..700 {
        vfs.set_capacity(Some(log.size_bytes() + room));
        match log.append(&mut batch(2, 2)) {
            Ok(appended) => {
                assert_eq!(appended.base_offset, next);
                next = log.end_offset();
            }
            Err(error) => assert!(error.no_space(), "{error:?}"),
        }
        if let Err(error) = log.sync() {
            assert!(error.no_space() && !log.stopped(), "{error:?}");
        }
    }
    let full = vfs.crash(Crash::KeepAll);
    let (reopened, _) = open(&full, small());
    assert_eq!(reopened.durable_offset(), next, "a full disk can be started on, and read");
    vfs.set_capacity(None);
    assert_eq!(log.append(&mut batch(3, 1)).unwrap().base_offset, next);
    assert_eq!(log.sync().unwrap(), next + 1);
    let (log, _) = open(&vfs.crash(Crash::LoseUnsynced), small());
    let read = read_all(&log, 0, next + 1).unwrap();
    assert_eq!(read.last().unwrap().0.next_offset(), next + 1);
}

// STR-02: rolling must not let a younger segment be acknowledged before the older one is synced.
#[test]
fn power_cut_between_roll_and_sync_leaves_no_hole() {
    for seed in 0..400 {
        let vfs = SimVfs::new();
        let (log, _) = open(&vfs, small());
        log.append(&mut batch(1, 1)).unwrap();
        log.sync().unwrap();
        for tag in 2..20 {
            log.append(&mut batch(tag, 1)).unwrap();
        }
        assert!(log.segment_count() > 2);
        let after = vfs.crash(Crash::Random(seed));
        let (log, recovery) = open(&after, small());
        assert!(recovery.missing.is_empty() && recovery.damages.is_empty(), "seed {seed}: {recovery:?}");
        let read = read_all(&log, 0, log.end_offset()).unwrap();
        assert_eq!(read.len(), usize::try_from(log.end_offset()).unwrap(), "seed {seed}");
    }
}
