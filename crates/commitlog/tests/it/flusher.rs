//! Group commit (STR-02, STR-03): who waits for what, and what happens when a sync fails.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use commitlog::{Crash, Flusher, Log, LogOptions, RealVfs, SimVfs, SyncError};

use crate::support::{batch, open_at, read_all, small};

/// Longest a test waits for what should happen at once.
const DEADLINE: Duration = Duration::from_secs(20);

fn logs(vfs: &SimVfs, count: usize) -> Vec<Arc<Log>> {
    let path = |index| PathBuf::from(format!("/data/t-{index}"));
    (0..count).map(|index| open_at(Arc::new(vfs.clone()), &path(index), small()).unwrap().0).collect()
}

/// Starts a commit; the receiver gets its outcome.
fn commit(flusher: &Flusher, logs: Vec<Arc<Log>>) -> mpsc::Receiver<Result<(), SyncError>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    flusher.commit(logs, Box::new(move |result| sender.send(result).unwrap()));
    receiver
}

// STR-02: many threads, many logs, commits over several logs at once: confirmed means on disk, for every one of them.
#[test]
fn rounds_over_several_logs_from_several_threads() {
    let vfs = SimVfs::new();
    let logs = logs(&vfs, 6);
    let flusher = Flusher::new(3);
    let threads: Vec<_> = (0..4_usize)
        .map(|thread| {
            let (logs, flusher, vfs) = (logs.clone(), Arc::clone(&flusher), vfs.clone());
            thread::spawn(move || {
                for step in 0..60 {
                    let touched = [thread % 6, (thread + step) % 6];
                    let ends: Vec<i64> = touched
                        .iter()
                        .map(|index| logs[*index].append(&mut batch(7, 1)).unwrap().last_offset + 1)
                        .collect();
                    let touched: Vec<Arc<Log>> = touched.iter().map(|index| Arc::clone(&logs[*index])).collect();
                    flusher.commit_wait(touched.clone()).unwrap();
                    for (log, end) in touched.iter().zip(ends) {
                        assert!(log.durable_offset() >= end);
                    }
                    if step % 20 == 19 {
                        let after = vfs.crash(Crash::LoseUnsynced);
                        for log in &touched {
                            let durable = log.durable_offset();
                            let (found, _) = open_at(Arc::new(after.clone()), log.dir(), small()).unwrap();
                            assert!(found.end_offset() + 240 >= durable, "only what came after the crash may differ");
                        }
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let after = vfs.crash(Crash::LoseUnsynced);
    let mut total = 0;
    for log in &logs {
        let (found, _) = open_at(Arc::new(after.clone()), log.dir(), small()).unwrap();
        assert_eq!(found.end_offset(), log.end_offset());
        total += read_all(&found, 0, found.end_offset()).unwrap().len();
    }
    assert_eq!(total, 4 * 60 * 2);
}

// STR-02: appends and reads go on while a sync runs; everything that arrives meanwhile shares the next one; a commit is
// not confirmed by a sync that started before its data was there.
#[test]
fn appends_during_a_sync_share_the_next_one() {
    let vfs = SimVfs::new();
    let logs = logs(&vfs, 1);
    let log = &logs[0];
    let flusher = Flusher::new(2);
    log.append(&mut batch(0, 1)).unwrap();
    flusher.commit_wait(logs.clone()).unwrap();
    vfs.hold_syncs(true);
    log.append(&mut batch(1, 1)).unwrap();
    let first = commit(&flusher, logs.clone());
    assert!(vfs.wait_for_held_syncs(1, DEADLINE));
    let before = vfs.syncs_done();
    let later: Vec<_> = (0..5)
        .map(|tag| {
            log.append(&mut batch(2 + tag, 1)).unwrap();
            commit(&flusher, logs.clone())
        })
        .collect();
    assert_eq!(log.durable_offset(), 1);
    assert_eq!(read_all(log, 0, log.end_offset()).unwrap().len(), 7, "reads do not wait");
    assert!(first.try_recv().is_err() && later.iter().all(|waiting| waiting.try_recv().is_err()));
    vfs.hold_syncs(false);
    first.recv_timeout(DEADLINE).unwrap().unwrap();
    for waiting in later {
        waiting.recv_timeout(DEADLINE).unwrap().unwrap();
    }
    assert_eq!(log.durable_offset(), 7);
    assert_eq!(vfs.syncs_done() - before, 2, "one sync for the first, one for the five others together");
}

// I1: what is appended while a sync runs is not covered by it, whatever the log's end is when it returns.
#[test]
fn a_sync_vouches_only_for_what_was_there_when_it_started() {
    let vfs = SimVfs::new();
    let log = logs(&vfs, 1).remove(0);
    log.append(&mut batch(1, 1)).unwrap();
    vfs.hold_syncs(true);
    let syncing = {
        let log = Arc::clone(&log);
        thread::spawn(move || log.sync().unwrap())
    };
    assert!(vfs.wait_for_held_syncs(1, DEADLINE));
    log.append(&mut batch(2, 1)).unwrap();
    vfs.hold_syncs(false);
    assert_eq!(syncing.join().unwrap(), 1);
    let (found, _) = open_at(Arc::new(vfs.crash(Crash::LoseUnsynced)), log.dir(), small()).unwrap();
    assert_eq!((log.durable_offset(), found.end_offset()), (1, 1));
}

// STR-02: different logs are synced side by side, and a slow one does not hold up another; idle logs are not touched.
#[test]
fn logs_are_synced_in_parallel_and_idle_ones_not_at_all() {
    let vfs = SimVfs::new();
    let logs = logs(&vfs, 12);
    let flusher = Flusher::new(3);
    for log in &logs {
        log.append(&mut batch(1, 1)).unwrap();
    }
    flusher.commit_wait(logs.clone()).unwrap();
    let before = vfs.syncs_done();
    for log in &logs[..3] {
        log.append(&mut batch(2, 1)).unwrap();
    }
    vfs.hold_syncs(true);
    let waiting = commit(&flusher, logs.clone());
    assert!(vfs.wait_for_held_syncs(3, DEADLINE));
    vfs.hold_syncs(false);
    waiting.recv_timeout(DEADLINE).unwrap().unwrap();
    assert_eq!(vfs.syncs_done() - before, 3);
    flusher.commit_wait(logs).unwrap();
    assert_eq!(vfs.syncs_done() - before, 3, "nothing to do, nothing done");
}

// STR-03, F9: one failed sync refuses everything, on every log, for ever; those who wait are told, none is confirmed.
#[test]
fn a_failed_sync_refuses_everything() {
    let vfs = SimVfs::new();
    let logs = logs(&vfs, 4);
    let flusher = Flusher::new(2);
    for log in &logs {
        log.append(&mut batch(1, 1)).unwrap();
    }
    flusher.commit_wait(logs.clone()).unwrap();
    for log in &logs {
        log.append(&mut batch(2, 1)).unwrap();
    }
    vfs.hold_syncs(true);
    let waiting: Vec<_> = logs.iter().map(|log| commit(&flusher, vec![Arc::clone(log)])).collect();
    assert!(vfs.wait_for_held_syncs(2, DEADLINE));
    vfs.fail_syncs(true);
    vfs.hold_syncs(false);
    for outcome in &waiting {
        let outcome = outcome.recv_timeout(DEADLINE).unwrap();
        assert!(matches!(outcome, Err(SyncError::Failed { .. })), "{outcome:?}");
    }
    vfs.heal();
    assert!(flusher.failed());
    let syncs = vfs.syncs_done();
    for log in &logs {
        let refused = flusher.commit_wait(vec![Arc::clone(log)]);
        let Err(SyncError::Failed { reason }) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("simulated sync error"), "{reason}");
        assert_eq!(log.durable_offset(), 1);
    }
    assert_eq!(vfs.syncs_done(), syncs, "never synced again");
}

// F10: no room for the index file of a closed segment: retriable, and nothing is confirmed until there is room.
#[test]
fn no_space_for_an_index_file_is_retriable() {
    let vfs = SimVfs::new();
    let logs = logs(&vfs, 1);
    let log = &logs[0];
    let flusher = Flusher::new(1);
    while log.segment_count() < 2 {
        log.append(&mut batch(1, 1)).unwrap();
    }
    vfs.set_capacity(Some(log.size_bytes()));
    let refused = flusher.commit_wait(logs.clone());
    assert!(matches!(refused, Err(SyncError::Retry { .. })), "{refused:?}");
    assert!(!flusher.failed());
    assert_eq!(log.durable_offset(), 0);
    vfs.set_capacity(None);
    flusher.commit_wait(logs.clone()).unwrap();
    assert_eq!(log.durable_offset(), log.end_offset());
}

// STR-08: whoever waits for new data is woken after it became durable, not before.
#[test]
fn wakes_long_polls_when_durable() {
    let vfs = SimVfs::new();
    let logs = logs(&vfs, 1);
    let log = Arc::clone(&logs[0]);
    let woken = Arc::new(AtomicUsize::new(0));
    let (seen, weak) = (Arc::clone(&woken), Arc::downgrade(&log));
    log.on_durable(Box::new(move || {
        let log = weak.upgrade().unwrap();
        assert_eq!(log.durable_offset(), log.end_offset()); // no lock is held: asking does not deadlock
        seen.fetch_add(1, Ordering::SeqCst);
    }));
    let flusher = Flusher::new(1);
    log.append(&mut batch(1, 1)).unwrap();
    assert_eq!(woken.load(Ordering::SeqCst), 0);
    flusher.commit_wait(logs.clone()).unwrap();
    flusher.commit_wait(logs).unwrap();
    assert_eq!(woken.load(Ordering::SeqCst), 1);
}

#[test]
fn shutdown_finishes_what_is_queued_and_refuses_the_rest() {
    let vfs = SimVfs::new();
    let logs = logs(&vfs, 5);
    let flusher = Flusher::new(2);
    for log in &logs {
        log.append(&mut batch(1, 1)).unwrap();
    }
    let waiting: Vec<_> = logs.iter().map(|log| commit(&flusher, vec![Arc::clone(log)])).collect();
    flusher.shutdown();
    for outcome in waiting {
        outcome.recv_timeout(DEADLINE).unwrap().unwrap();
    }
    logs[0].append(&mut batch(2, 1)).unwrap();
    let refused = flusher.commit_wait(vec![Arc::clone(&logs[0])]);
    assert!(matches!(refused, Err(SyncError::Stopping)), "{refused:?}");
}

// A callback that panics takes neither the pool nor the other waiters with it.
#[test]
fn panicking_callback_is_contained() {
    let vfs = SimVfs::new();
    let logs = logs(&vfs, 1);
    let flusher = Flusher::new(1);
    logs[0].append(&mut batch(1, 1)).unwrap();
    flusher.commit(logs.clone(), Box::new(|_| panic!("a bug above")));
    logs[0].append(&mut batch(2, 1)).unwrap();
    flusher.commit_wait(logs).unwrap();
}

// STR-02 on the real disk: threads append and commit, the folder is reopened and holds everything.
#[test]
fn real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 8_192, ..small() };
    let path = |index: usize| folder.path().join(format!("t-{index}"));
    let open = |index| open_at(Arc::new(RealVfs), &path(index), options.clone()).unwrap().0;
    let logs: Vec<Arc<Log>> = (0..3).map(open).collect();
    let flusher = Flusher::new(2);
    let threads: Vec<_> = logs
        .iter()
        .map(|log| {
            let (log, flusher) = (Arc::clone(log), Arc::clone(&flusher));
            thread::spawn(move || {
                for tag in 0..100 {
                    log.append(&mut batch(tag, 1)).unwrap();
                    if tag % 10 == 9 {
                        flusher.commit_wait(vec![Arc::clone(&log)]).unwrap();
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    drop(flusher);
    drop(logs);
    for index in 0..3 {
        let log = open(index);
        assert_eq!(read_all(&log, 0, 100).unwrap().len(), 100);
        assert!(log.segment_count() > 1);
    }
}
