//! Transactions: what is undecided, what was taken back, and that both survive restarts, crashes and trimming (STR-11).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use commitlog::batch::{Batches, Builder, Marker, end_of_transaction, marker};
use commitlog::{Aborted, Crash, Error, Log, LogOptions, PRODUCERS_MAX, SimVfs};
use proptest::prelude::*;

use crate::support::{batch, dir, open, produced, small};

fn data(producer: i64, sequence: i32) -> Vec<u8> {
    let value = format!("{producer} {sequence} {}", "x".repeat(30));
    Builder::new(1).producer(producer, 0, sequence).transactional().record(1, value.as_bytes()).build()
}

fn end(log: &Log, producer: i64, kind: Marker) -> i64 {
    log.append(&mut end_of_transaction(producer, 0, kind, 1)).unwrap().base_offset
}

fn synced(log: &Log) -> i64 {
    let durable = log.sync().unwrap();
    log.last_stable_offset(durable)
}

/// Offsets of the records that a reader of committed records keeps, as clients filter them; reads from `from` to the
/// last stable offset in small pieces.
fn committed(log: &Log, from: i64) -> Vec<i64> {
    let stable = log.last_stable_offset(log.durable_offset());
    let (mut kept, mut offset) = (Vec::new(), from);
    while offset < stable {
        let bytes = log.read(offset, 300, true, stable).unwrap();
        let batches: Vec<_> = Batches::new(&bytes).map(Result::unwrap).collect();
        let Some((last, _)) = batches.last() else { break };
        let mut aborted = log.aborted_transactions(offset, last.next_offset()).unwrap();
        aborted.sort_by_key(|one| one.first_offset);
        let mut dropped = BTreeSet::new();
        for (header, bytes) in &batches {
            let begun = aborted.extract_if(.., |one| one.first_offset <= header.last_offset());
            dropped.extend(begun.map(|one| one.producer_id));
            match marker(bytes) {
                Some(Marker::Abort) => drop(dropped.remove(&header.producer_id)),
                Some(Marker::Commit) => {}
                None if header.transactional() && dropped.contains(&header.producer_id) => {}
                None => kept.extend(header.base_offset.max(offset)..header.next_offset()),
            }
        }
        offset = last.next_offset();
    }
    kept
}

fn files(vfs: &SimVfs, kind: &str) -> Vec<PathBuf> {
    let files = vfs.files(&dir()).into_iter();
    files.filter(|path| path.extension().is_some_and(|extension| extension == kind)).collect()
}

// STR-11: nothing of an open transaction is stable, nothing behind its start either; an abort is remembered.
#[test]
fn open_transactions_hold_readers_back_and_aborted_ones_are_named() {
    let (log, _) = open(&SimVfs::new(), small());
    log.append(&mut batch(1, 2)).unwrap();
    log.append(&mut data(7, 0)).unwrap(); // offset 2
    log.append(&mut data(8, 0)).unwrap(); // 3
    log.append(&mut batch(2, 1)).unwrap(); // 4
    assert_eq!(synced(&log), 2);
    assert_eq!(end(&log, 7, Marker::Commit), 5);
    assert_eq!(synced(&log), 3);
    assert_eq!(end(&log, 8, Marker::Abort), 6);
    assert_eq!(log.last_stable_offset(log.durable_offset()), 3, "the marker is not durable yet");
    assert_eq!(synced(&log), 7);
    let aborted = Aborted { producer_id: 8, first_offset: 3, marker_offset: 6, stable_offset: 7 };
    assert_eq!(log.aborted_transactions(0, 7).unwrap(), [aborted]);
    assert_eq!(log.aborted_transactions(0, 3).unwrap(), []);
    assert_eq!(log.aborted_transactions(7, 9).unwrap(), []);
    assert_eq!(committed(&log, 0), [0, 1, 2, 4]);
    assert_eq!(end(&log, 8, Marker::Commit), 7, "a marker where nothing is open ends nothing");
    assert_eq!(committed(&log, 0), [0, 1, 2, 4]);
}

// STR-11: offsets that a group commits in a transaction carry no sequence numbers.
#[test]
fn batches_without_sequence_numbers_belong_to_transactions_too() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    let unnumbered = || Builder::new(1).producer(7, 3, -1).transactional().record(1, b"x").build();
    log.append(&mut unnumbered()).unwrap();
    log.append(&mut unnumbered()).unwrap();
    assert_eq!(synced(&log), 0);
    let (log, _) = open(&vfs.crash(Crash::LoseUnsynced), small());
    assert_eq!(log.producers()[0].transaction_start, Some(0));
    log.append(&mut end_of_transaction(7, 3, Marker::Commit, 1)).unwrap();
    assert_eq!(synced(&log), 3);
}

// STR-11: what a producer may not do while its transaction is open, and what an old marker may not do.
#[test]
fn what_does_not_fit_the_open_transaction_is_refused() {
    let (log, _) = open(&SimVfs::new(), small());
    log.append(&mut data(7, 0)).unwrap();
    let refused = log.append(&mut produced(7, 0, 1));
    assert!(matches!(refused, Err(Error::InsideTransaction { producer_id: 7 })), "{refused:?}");
    log.append(&mut end_of_transaction(7, 2, Marker::Abort, 1)).unwrap();
    assert!(matches!(log.append(&mut data(7, 1)), Err(Error::InvalidProducerEpoch { current: 2, .. })));
    let next = |sequence| Builder::new(1).producer(7, 2, sequence).transactional().record(1, b"x").build();
    assert!(matches!(log.append(&mut next(1)), Err(Error::OutOfOrderSequence { expected: 0, .. })));
    log.append(&mut next(0)).unwrap();
    let late = log.append(&mut end_of_transaction(7, 0, Marker::Abort, 1));
    assert!(matches!(late, Err(Error::InvalidProducerEpoch { .. })), "{late:?}");
    assert!(log.producers()[0].transaction_start.is_some());
}

// STR-11: a producer with an open transaction is neither expired nor pushed out, and their number has a limit.
#[test]
fn open_transactions_are_not_forgotten() {
    let (log, _) = open(&SimVfs::new(), LogOptions::default());
    let most = i64::try_from(PRODUCERS_MAX).unwrap();
    for producer in 0..most {
        log.append(&mut data(producer, 0)).unwrap();
    }
    assert!(matches!(log.append(&mut data(most, 0)), Err(Error::TooManyTransactions { .. })));
    log.append(&mut produced(most, 0, 0)).unwrap();
    assert_eq!(log.producers().len(), PRODUCERS_MAX, "the one without a transaction had to go");
    log.sync().unwrap();
    log.apply_retention(i64::MAX).unwrap();
    assert_eq!(log.producers().len(), PRODUCERS_MAX);
    end(&log, 0, Marker::Commit);
    log.append(&mut data(most, 0)).unwrap();
    assert_eq!(log.producers().len(), PRODUCERS_MAX);
}

// STR-11: states and open transactions survive the deletion of every segment that told of them.
#[test]
fn producers_survive_the_deletion_of_their_segments() {
    for orderly in [false, true] {
        let vfs = SimVfs::new();
        let (log, _) = open(&vfs, LogOptions { retention_ms: Some(300), ..small() });
        log.append(&mut produced(3, 0, 0)).unwrap();
        log.append(&mut data(7, 0)).unwrap();
        for tag in 0..40 {
            log.append(&mut batch(tag, 1)).unwrap();
        }
        let end_offset = log.end_offset();
        log.sync().unwrap();
        if orderly {
            log.delete_records_before(end_offset).unwrap();
        } else {
            for _ in 0..20 {
                log.apply_retention(100_000).unwrap();
            }
        }
        assert_eq!((log.start_offset(), log.last_stable_offset(end_offset)), (end_offset, end_offset));
        let after = vfs.crash(Crash::LoseUnsynced);
        let (log, _) = open(&after, small());
        assert_eq!((log.start_offset(), log.end_offset()), (end_offset, end_offset));
        let states = log.producers();
        assert_eq!(states.iter().map(|state| state.producer_id).collect::<Vec<_>>(), [3, 7]);
        assert_eq!(states[1].transaction_start, Some(1));
        assert_eq!(log.append(&mut produced(3, 0, 0)).unwrap().duplicate, Some(0));
        log.append(&mut data(7, 1)).unwrap();
        assert_eq!(synced(&log), end_offset, "what is left of the transaction is undecided");
        end(&log, 7, Marker::Abort);
        log.sync().unwrap();
        assert_eq!(committed(&log, end_offset), []);
    }
}

// STR-11, I1: the only segment left holds nothing but a torn batch: setting it aside must not take the open transactions
// along that the deleted segments told of.
#[test]
fn producers_survive_the_loss_of_the_only_segment() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, LogOptions { segment_bytes: 130, ..small() });
    log.append(&mut data(7, 0)).unwrap();
    log.append(&mut batch(1, 1)).unwrap();
    let start = synced(&log).max(log.end_offset());
    log.append(&mut batch(1, 1)).unwrap();
    log.delete_records_before(start).unwrap();
    let torn = files(&vfs, "log").pop().unwrap();
    vfs.damage(&torn, b"torn");
    assert_eq!(open(&vfs, small()).1.set_aside.len(), 1);
    for round in 0..3 {
        let (log, recovery) = open(&vfs.crash(Crash::KeepAll), small());
        assert_eq!((recovery.start_offset, recovery.end_offset), (start, start), "round {round}");
        assert_eq!(log.producers()[0].transaction_start, Some(0), "round {round}");
    }
}

// STR-04: an index that is damaged, found at the start or while running, is told again by its segment.
#[test]
fn aborted_transactions_survive_damaged_indexes() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, small());
    for round in 0..20 {
        log.append(&mut data(7, 2 * round)).unwrap();
        log.append(&mut data(8, round)).unwrap();
        log.append(&mut data(7, 2 * round + 1)).unwrap();
        end(&log, 7, if round % 3 == 0 { Marker::Commit } else { Marker::Abort });
        end(&log, 8, Marker::Commit);
    }
    log.sync().unwrap();
    assert!(log.segment_count() > 5);
    let (kept, aborted) = (committed(&log, 0), log.aborted_transactions(0, i64::MAX).unwrap());
    assert_eq!(aborted.len(), 13);
    let indexes = files(&vfs, "index");
    assert!(indexes.len() > 5);
    for running in [true, false] {
        let broken = vfs.crash(Crash::KeepAll);
        let before = running.then(|| open(&broken, small()).0);
        for path in &indexes {
            broken.damage(path, b"garbage");
        }
        let log = before.unwrap_or_else(|| open(&broken, small()).0);
        assert_eq!(log.aborted_transactions(0, i64::MAX).unwrap(), aborted, "running: {running}");
        assert_eq!(committed(&log, 0), kept);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Plain,
    Data { producer: i64 },
    End { producer: i64, abort: bool },
    Sync,
    Crash(Crash),
    CrashAndDamage { nth: usize },
    Close,
    DeleteBefore { back: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    let crash = prop_oneof![Just(Crash::KeepAll), Just(Crash::LoseUnsynced), any::<u64>().prop_map(Crash::Random)];
    prop_oneof![
        4 => Just(Step::Plain),
        12 => (0..3_i64).prop_map(|producer| Step::Data { producer }),
        6 => (0..3_i64, any::<bool>()).prop_map(|(producer, abort)| Step::End { producer, abort }),
        6 => Just(Step::Sync),
        1 => crash.prop_map(Step::Crash),
        1 => (0..20_usize).prop_map(|nth| Step::CrashAndDamage { nth }),
        1 => Just(Step::Close),
        1 => (0..20_i64).prop_map(|back| Step::DeleteBefore { back }),
    ]
}

/// One batch of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Plain,
    Data { producer: i64 },
    End { producer: i64, abort: bool },
}

/// Everything that was ever stored; an entry's place is its offset.
#[derive(Debug, Default)]
struct Model(Vec<Entry>);

impl Model {
    fn next_sequence(&self, producer: i64) -> i32 {
        let sent = self.0.iter().filter(|entry| **entry == Entry::Data { producer }).count();
        i32::try_from(sent).unwrap()
    }

    /// The last stable offset and the committed offsets below it, by going through the whole history.
    fn readable(&self, durable: i64, start: i64) -> (i64, Vec<i64>) {
        let mut open: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let mut kept = Vec::new();
        for (offset, entry) in (0..durable).zip(&self.0) {
            match entry {
                Entry::Plain => kept.push(offset),
                Entry::Data { producer } => open.entry(*producer).or_default().push(offset),
                Entry::End { producer, abort } => {
                    let records = open.remove(producer).unwrap_or_default();
                    if !abort {
                        kept.extend(records);
                    }
                }
            }
        }
        let stable = open.values().map(|records| records[0]).min().unwrap_or(durable).max(start);
        kept.sort_unstable();
        kept.retain(|offset| (start..stable).contains(offset));
        (stable, kept)
    }

    fn check(&self, log: &Log) {
        let (durable, start) = (log.durable_offset(), log.start_offset());
        let (stable, kept) = self.readable(durable, start);
        assert_eq!(log.last_stable_offset(durable), stable);
        assert_eq!(committed(log, start), kept);
        for from in start..stable {
            let behind: Vec<i64> = kept.iter().copied().filter(|offset| *offset >= from).collect();
            assert_eq!(committed(log, from), behind, "from {from}");
        }
    }
}

fn run(steps: &[Step]) {
    let mut vfs = SimVfs::new();
    let mut log: Arc<Log> = open(&vfs, small()).0;
    let mut model = Model::default();
    for step in steps {
        let (entry, mut bytes) = match step {
            Step::Plain => (Entry::Plain, batch(1, 1)),
            Step::Data { producer } => {
                (Entry::Data { producer: *producer }, data(*producer, model.next_sequence(*producer)))
            }
            Step::End { producer, abort } => {
                let kind = if *abort { Marker::Abort } else { Marker::Commit };
                (Entry::End { producer: *producer, abort: *abort }, end_of_transaction(*producer, 0, kind, 1))
            }
            Step::Sync => {
                log.sync().unwrap();
                model.check(&log);
                continue;
            }
            Step::Close => {
                log.close().unwrap();
                log = open(&vfs, small()).0;
                model.check(&log);
                continue;
            }
            Step::DeleteBefore { back } => {
                let offset = (log.durable_offset() - back).max(log.start_offset());
                log.delete_records_before(offset).unwrap();
                model.check(&log);
                continue;
            }
            Step::Crash(crash) => {
                vfs = vfs.crash(*crash);
                log = open(&vfs, small()).0;
                model.0.truncate(usize::try_from(log.end_offset()).unwrap());
                model.check(&log);
                continue;
            }
            Step::CrashAndDamage { nth } => {
                vfs = vfs.crash(Crash::KeepAll);
                // what a deleted segment told of producers is nowhere but in the indexes behind it
                if let Some(path) = files(&vfs, "index").get(*nth).filter(|_| log.start_offset() == 0) {
                    vfs.damage(path, b"garbage");
                }
                log = open(&vfs, small()).0;
                model.check(&log);
                continue;
            }
        };
        let appended = log.append(&mut bytes).unwrap();
        assert_eq!(appended.base_offset, i64::try_from(model.0.len()).unwrap());
        model.0.push(entry);
    }
    log.sync().unwrap();
    model.check(&log);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    // STR-11, I1, I9: over random histories readers of committed records see exactly those, from wherever they begin.
    #[test]
    fn histories(steps in prop::collection::vec(step(), 1..120)) {
        run(&steps);
    }
}
