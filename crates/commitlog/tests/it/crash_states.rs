//! Enumerated crash states: the power goes at every call, and every subset of what was not synced may have reached the
//! disk (F6, STR-07, I1, I2, I9).

use std::sync::Arc;

use commitlog::{Crash, Fault, SimVfs, Vfs};

use crate::laboratory::{crash_states, judge, work};

fn shared(vfs: &SimVfs) -> Arc<dyn Vfs> {
    Arc::new(vfs.clone())
}

/// Calls of a run in which nothing fails.
fn calls() -> u64 {
    let vfs = SimVfs::new();
    let history = work(&shared(&vfs)).unwrap();
    judge(&shared(&vfs.crash(Crash::LoseUnsynced)), &history).unwrap();
    vfs.calls()
}

// F6: each prefix of the calls, times the subsets of unsynced operations, times a torn last write.
#[test]
fn every_prefix_and_every_subset_of_what_was_not_synced() {
    let (calls, mut states) = (calls(), 0);
    for nth in 1..=calls {
        let vfs = SimVfs::new();
        vfs.fail_call(nth, Fault::PowerCut);
        let history = work(&shared(&vfs)).unwrap_or_else(|broken| panic!("power cut at call {nth}: {broken:?}"));
        for crash in crash_states(&vfs) {
            let judged = judge(&shared(&vfs.crash(crash)), &history);
            judged.unwrap_or_else(|broken| panic!("power cut at call {nth}, {crash:?}: {broken}\n{history:?}"));
            states += 1;
        }
    }
    assert!(calls > 150 && states > 2_000, "{calls} calls, {states} states: the workload has shrunk");
}

// F9, F10, STR-03: one call fails, the process goes on as far as it may, and then the power goes.
#[test]
fn a_failed_call_and_then_the_power() {
    for fault in [Fault::Io, Fault::NoSpace, Fault::Torn] {
        for nth in 1..=calls() {
            let vfs = SimVfs::new();
            vfs.fail_call(nth, fault);
            let history = work(&shared(&vfs)).unwrap_or_else(|broken| panic!("{fault:?} at call {nth}: {broken:?}"));
            vfs.heal();
            for crash in [Crash::LoseUnsynced, Crash::KeepAll, Crash::Random(nth)] {
                let judged = judge(&shared(&vfs.crash(crash)), &history);
                judged.unwrap_or_else(|broken| panic!("{fault:?} at call {nth}, {crash:?}: {broken}\n{history:?}"));
            }
        }
    }
}
