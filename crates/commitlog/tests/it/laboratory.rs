//! The crash laboratory: one workload, everything a client was told during it, and the judgement on what a machine finds
//! afterwards. `crash_states.rs` tries the product in it, `seeded_bugs.rs` tries the laboratory itself.
//!
//! After a failed sync the run is over, as the process is: that recovery then believes the disk and not the cache is
//! `faults.rs`'s business.

use std::collections::BTreeMap;
use std::sync::Arc;

use commitlog::{Crash, Log, LogOptions, SimVfs, Vfs};

use crate::support::{batch, body, dir, open_at, read_all, small};

/// Unsynced operations up to which every subset of them is tried.
const ALL_SUBSETS_UP_TO: usize = 6;

/// What clients were told.
#[derive(Debug, Default, Clone)]
pub(crate) struct History {
    /// Every batch that an append gave this offset, oldest first, with its records: after a refusal there may be several.
    attempts: BTreeMap<i64, Vec<(u64, u64)>>,
    /// What a sync has confirmed.
    acknowledged: BTreeMap<i64, (u64, u64)>,
    /// Everything below has been confirmed.
    end: i64,
    /// DeleteRecords that returned.
    start: i64,
}

impl History {
    fn appended(&mut self, base: i64, tag: u64, records: u64) -> Result<(), String> {
        self.attempts.entry(base).or_default().push((tag, records));
        if base < self.end {
            return Err(format!(
                "offset {base} is given to batch {tag}, but everything below {} is acknowledged",
                self.end
            ));
        }
        Ok(())
    }

    fn synced(&mut self, durable: i64) -> Result<(), String> {
        if durable < self.end {
            return Err(format!("the log is durable to {durable}, but {} was confirmed", self.end));
        }
        for (base, attempts) in self.attempts.range(self.end..durable) {
            if let Some(attempt) = attempts.last() {
                self.acknowledged.insert(*base, *attempt);
            }
        }
        self.end = durable;
        Ok(())
    }
}

pub(crate) fn options() -> LogOptions {
    LogOptions { segment_bytes: 700, ..small() }
}

fn open(vfs: &Arc<dyn Vfs>) -> Result<Arc<Log>, commitlog::Error> {
    open_at(Arc::clone(vfs), &dir(), options()).map(|(log, _)| log)
}

/// Appends, syncs, rolls, trims and stops, three times over; goes on after errors as a broker would until a sync has failed.
/// An error is a promise that the log has broken already.
pub(crate) fn work(vfs: &Arc<dyn Vfs>) -> Result<History, (History, String)> {
    let mut history = History::default();
    match work_on(vfs, &mut history) {
        Ok(()) => Ok(history),
        Err(broken) => Err((history, broken)),
    }
}

fn work_on(vfs: &Arc<dyn Vfs>, history: &mut History) -> Result<(), String> {
    let mut tag = 0;
    for session in 0..3_i64 {
        let Ok(log) = open(vfs) else { return Ok(()) };
        history.synced(log.durable_offset())?;
        for step in 0..14_u64 {
            tag += 1;
            let records = 1 + tag % 3;
            if let Ok(appended) = log.append(&mut batch(tag, records)) {
                history.appended(appended.base_offset, tag, records)?;
            }
            if step % 3 == 2 {
                match log.sync() {
                    Ok(durable) => history.synced(durable)?,
                    Err(_) if log.stopped() => return Ok(()), // the process ends
                    Err(_) => {}
                }
            }
        }
        if let Ok(start) = log.delete_records_before(log.durable_offset().min(4 + 5 * session)) {
            history.start = start;
        }
        if log.stopped() {
            return Ok(());
        }
        // The other stops are those of a process that was killed.
        if session == 1 && log.close().is_ok() {
            history.synced(log.durable_offset())?;
        }
    }
    Ok(())
}

/// What is wrong with what a machine finds on `vfs`, in one sentence.
pub(crate) fn judge(vfs: &Arc<dyn Vfs>, history: &History) -> Result<(), String> {
    let opened = open_at(Arc::clone(vfs), &dir(), options());
    let (log, recovery) = opened.map_err(|error| format!("the log does not open: {error:?}"))?;
    if !recovery.missing.is_empty() || !recovery.damages.is_empty() {
        return Err(format!("recovery reports a loss: {recovery:?}"));
    }
    if log.end_offset() < history.end {
        return Err(format!("the log ends at {}, but {} was acknowledged", log.end_offset(), history.end));
    }
    if log.start_offset() < history.start {
        return Err(format!("records below {} are back", history.start));
    }
    let read = read_all(&log, log.start_offset(), log.end_offset());
    let read = read.map_err(|error| format!("what is there cannot be read: {error:?}"))?;
    let mut expected = log.start_offset();
    for (header, bytes) in &read {
        let base = header.base_offset;
        if base > expected {
            return Err(format!("offsets {expected} to {} are missing", base - 1));
        }
        expected = header.next_offset();
        let is = |(tag, records): &(u64, u64)| body(bytes) == body(&batch(*tag, *records));
        match history.acknowledged.get(&base) {
            Some(batch) if !is(batch) => return Err(format!("acknowledged offset {base} has other bytes")),
            Some(_) => {}
            None if history.attempts.get(&base).is_some_and(|attempts| attempts.iter().any(is)) => {}
            None => return Err(format!("offset {base} holds what nobody ever appended")),
        }
    }
    if expected != log.end_offset() {
        return Err(format!("reading ends at {expected}, the log at {}", log.end_offset()));
    }
    let next = log.append(&mut batch(9_999, 1)).map_err(|error| format!("the log takes nothing more: {error:?}"))?;
    if next.base_offset != expected {
        return Err(format!("offset {} where {expected} is the next", next.base_offset));
    }
    log.sync().map(|_| ()).map_err(|error| format!("the log cannot be synced: {error:?}"))
}

/// The states in which a disk may be after a crash now: every subset of the unsynced operations where they are few, all
/// that differ from none or all of them by up to two otherwise; and the last write torn at its edges.
pub(crate) fn crash_states(vfs: &SimVfs) -> Vec<Crash> {
    let (count, last_write) = vfs.unsynced();
    let count = u32::try_from(count.min(63)).unwrap();
    let all = (1_u64 << count) - 1;
    let mut subsets: Vec<u64> = if count <= u32::try_from(ALL_SUBSETS_UP_TO).unwrap() {
        (0..=all).collect()
    } else {
        let single = (0..count).map(|bit| 1_u64 << bit);
        let pairs = single.clone().flat_map(|one| single.clone().map(move |other| one | other));
        pairs.flat_map(|few| [few, all ^ few]).chain([0, all]).collect()
    };
    subsets.sort_unstable();
    subsets.dedup();
    let mut states: Vec<Crash> = subsets.iter().map(|kept| Crash::Chosen { kept: *kept, torn: None }).collect();
    for torn in [1, 12, 61, last_write.unwrap_or(0) / 2, last_write.unwrap_or(0).saturating_sub(1)] {
        if last_write.is_some_and(|length| torn < length) {
            states.push(Crash::Chosen { kept: all, torn: Some(torn) });
        }
    }
    states
}
