//! Compaction: each key keeps its newest value at its old offset, whatever fails and whenever the power goes (STR-05).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use commitlog::batch::{Batches, Builder, HEADER_BYTES, Header};
use commitlog::{Codec, Compacted, Crash, Error, Fault, KEY_BYTES_MAX, Log, LogOptions, SimVfs, Uncompressed, verify};
use proptest::prelude::*;

use crate::laboratory::crash_states;
use crate::support::{dir, open, open_at, small};

const DAY_MS: i64 = 24 * 3_600 * 1_000;

fn options() -> LogOptions {
    LogOptions { segment_bytes: 600, compact: true, delete_retention_ms: 1_000, ..small() }
}

/// One record: offset, key, value.
type Seen = (i64, Option<Vec<u8>>, Option<Vec<u8>>);

fn varint(bytes: &mut &[u8]) -> i64 {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
        }
    }
}

fn taken(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let len = usize::try_from(varint(bytes)).ok()?;
    let (taken, rest) = bytes.split_at(len);
    *bytes = rest;
    Some(taken.to_vec())
}

fn records(header: &Header, mut bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for _ in 0..header.count {
        varint(&mut bytes);
        bytes = &bytes[1..];
        varint(&mut bytes);
        let offset = header.base_offset + varint(&mut bytes);
        let (key, value) = (taken(&mut bytes), taken(&mut bytes));
        assert_eq!(varint(&mut bytes), 0, "no headers");
        seen.push((offset, key, value));
    }
    assert!(bytes.is_empty());
    seen
}

/// Every record a reader gets, and that offsets have no holes.
fn contents(log: &Log) -> Result<Vec<Seen>, Error> {
    let (mut seen, mut offset) = (Vec::new(), log.start_offset());
    while offset < log.end_offset() {
        let bytes = log.read(offset, 2_000, true, log.end_offset())?;
        for item in Batches::new(&bytes) {
            let (header, batch) = item.unwrap();
            assert!(header.base_offset <= offset && header.next_offset() > offset, "{offset}: {header:?}");
            offset = header.next_offset();
            let body = &batch[HEADER_BYTES..];
            let body = if header.compressed() { inverted(body) } else { body.to_vec() };
            seen.extend(records(&header, &body).into_iter().filter(|seen| seen.0 >= log.start_offset()));
        }
    }
    Ok(seen)
}

fn inverted(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

/// A "compression" that a test can read: every bit turned round.
#[derive(Debug)]
struct Inverting;

impl Codec for Inverting {
    fn unpack(&self, compression: i16, records: &[u8], limit: usize) -> Option<Vec<u8>> {
        (compression == 4 && records.len() <= limit).then(|| inverted(records))
    }

    fn pack(&self, compression: i16, records: &[u8]) -> Option<Vec<u8>> {
        (compression == 4).then(|| inverted(records))
    }
}

/// Changes a batch and puts its checksum right again.
fn with(mut batch: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut batch);
    let checksum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    batch
}

fn packed(batch: Vec<u8>) -> Vec<u8> {
    with(batch, |batch| {
        batch[22] |= 4;
        let records = inverted(&batch[HEADER_BYTES..]);
        batch[HEADER_BYTES..].copy_from_slice(&records);
    })
}

fn one(key: u8, value: Option<&str>) -> Vec<u8> {
    Builder::new(5).keyed(5, Some(&[key]), value.map(str::as_bytes)).build()
}

/// Fills segments with other keys until all that was appended before is closed and durable.
fn roll(log: &Log) {
    let segments = log.segment_count();
    while log.segment_count() < segments + 2 {
        log.append(&mut one(b'~', Some("filling up"))).unwrap();
    }
    log.sync().unwrap();
}

fn compact(log: &Log, now_ms: i64) -> Compacted {
    log.compact(&Inverting, now_ms, &|| true).unwrap()
}

fn values(log: &Log, key: u8) -> Vec<(i64, Option<Vec<u8>>)> {
    let seen = contents(log).unwrap().into_iter();
    seen.filter(|(_, found, _)| found.as_deref() == Some(&[key])).map(|(offset, _, value)| (offset, value)).collect()
}

// STR-05: the newest value of each key, at the offset it always had, in batches with several records, packed or not.
#[test]
fn newest_values_stay_where_they_were() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, options());
    for round in 0..30_u8 {
        let batch = (0..4).fold(Builder::new(5), |builder, index| {
            builder.keyed(i64::from(round), Some(&[b'a' + (round + index * 3) % 11]), Some(&[round; 20]))
        });
        let batch = batch.build();
        log.append(&mut if round % 2 == 0 { packed(batch) } else { batch }).unwrap();
    }
    roll(&log);
    let before = contents(&log).unwrap();
    let size = log.size_bytes();
    let compacted = compact(&log, 0);
    assert!(compacted.segments > 3 && compacted.bytes_after < compacted.bytes_before, "{compacted:?}");
    assert!(log.size_bytes() < size / 2, "{} of {size}", log.size_bytes());
    let after = contents(&log).unwrap();
    let newest: HashMap<_, _> =
        before.iter().map(|(offset, key, value)| (key.clone(), (*offset, value.clone()))).collect();
    for (offset, key, value) in &after {
        assert!(before.contains(&(*offset, key.clone(), value.clone())));
        let clean = *offset < compacted.clean_offset;
        let replaced =
            before.iter().any(|(later, same, _)| same == key && later > offset && *later < compacted.clean_offset);
        assert!(!(clean && replaced), "offset {offset} of {key:?} has a successor");
    }
    for (key, (offset, value)) in newest {
        assert!(after.contains(&(offset, key, value)));
    }
    assert_eq!(compact(&log, 0).segments, 0, "there is nothing left to do");
    for crash in [Crash::LoseUnsynced, Crash::KeepAll] {
        let after_crash = vfs.crash(crash);
        let verified = verify(&after_crash, &dir()).unwrap();
        assert!(verified.intact(), "{verified:?}");
        let (log, recovery) = open(&after_crash, options());
        assert!(recovery.missing.is_empty() && recovery.damages.is_empty() && recovery.rebuilt_indexes == 0);
        assert_eq!(contents(&log).unwrap(), after);
        assert_eq!(
            log.compact(&Inverting, 0, &|| true).unwrap().clean_offset,
            compacted.clean_offset,
            "it knows how far it was"
        );
    }
}

// STR-05: how much has to be new before all is read again
#[test]
fn a_pass_waits_until_enough_is_new() {
    let (log, _) = open(&SimVfs::new(), options());
    for key in 0..40 {
        log.append(&mut one(key, Some("stays"))).unwrap();
    }
    roll(&log);
    assert!(compact(&log, 0).segments > 0);
    roll(&log);
    for (compact_from_permille, due) in [(1_000, false), (600, false), (10, true), (0, false)] {
        log.set_options(LogOptions { compact_from_permille, ..options() });
        assert_eq!(compact(&log, 0).segments > 0, due, "{compact_from_permille}");
    }
}

// STR-05: tombstones are kept for their time after the first pass that saw them, then they go, and nothing comes back.
#[test]
fn tombstones_go_when_their_time_is_over() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, options());
    log.append(&mut one(b'k', Some("old"))).unwrap();
    log.append(&mut one(b'k', None)).unwrap();
    roll(&log);
    compact(&log, 10_000);
    assert_eq!(values(&log, b'k'), [(1, None)], "the tombstone stays, the value goes");
    roll(&log);
    roll(&log);
    compact(&log, 10_999);
    assert_eq!(values(&log, b'k'), [(1, None)]);
    roll(&log);
    roll(&log);
    compact(&log, 11_000);
    assert_eq!(values(&log, b'k'), []);
    let (log, _) = open(&vfs.crash(Crash::LoseUnsynced), options());
    assert_eq!(values(&log, b'k'), []);
}

// Batches that nobody can look into stay, and so do the tombstones behind them, else an old value would come back.
#[test]
fn what_cannot_be_read_keeps_the_tombstones_behind_it() {
    let transactional = |batch: Vec<u8>| with(batch, |batch| batch[22] |= 0x10);
    let unknown = |batch: Vec<u8>| with(batch, |batch| batch[22] |= 3);
    let opaque: [&dyn Fn(Vec<u8>) -> Vec<u8>; 2] = [&transactional, &unknown];
    for opaque in opaque {
        let vfs = SimVfs::new();
        let (log, _) = open(&vfs, options());
        let stays = opaque(one(b'k', Some("old")));
        log.append(&mut stays.clone()).unwrap();
        log.append(&mut one(b'k', Some("newer"))).unwrap();
        log.append(&mut one(b'k', None)).unwrap();
        for now_ms in [0, DAY_MS, 2 * DAY_MS] {
            roll(&log);
            roll(&log);
            compact(&log, now_ms);
        }
        let first = log.read(0, 1, true, 10).unwrap();
        assert_eq!(first[16..], stays[16..], "it is as it was");
        let bytes = log.read(1, 1_000, true, log.end_offset()).unwrap();
        let (header, _) = Batches::new(&bytes).map(Result::unwrap).find(|(header, _)| header.count > 0).unwrap();
        assert_eq!(header.base_offset, 2, "the tombstone is there, and the value before it is not");
    }
}

// STR-05, compact,delete: what is too old goes as a whole; compaction alone deletes nothing by age.
#[test]
fn compact_and_delete() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, LogOptions { retention_ms: Some(1_000), ..options() });
    for _ in 0..5 {
        log.append(&mut one(b'k', Some("value"))).unwrap();
    }
    roll(&log);
    compact(&log, 0);
    assert_eq!(log.start_offset(), 0);
    let removed = log.apply_retention(10_000).unwrap();
    assert!(removed.segments > 0 && log.start_offset() > 5, "{removed:?}");
    assert_eq!(values(&log, b'k'), []);
}

// STR-11: producers and their sequences survive compaction, also when the index that knows them is lost.
#[test]
fn producers_survive_compaction_and_the_loss_of_the_index() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, options());
    let batch = |sequence| Builder::new(1).producer(7, 0, sequence).keyed(1, Some(b"k"), Some(b"v")).build();
    for sequence in 0..6 {
        log.append(&mut batch(sequence)).unwrap();
    }
    log.append(&mut one(b'k', Some("newest"))).unwrap();
    roll(&log);
    roll(&log);
    compact(&log, 0);
    assert_eq!(values(&log, b'k').len(), 1);
    let vfs = vfs.crash(Crash::LoseUnsynced);
    for path in vfs.files(&dir()) {
        if path.extension().is_some_and(|extension| extension == "index") {
            vfs.damage(&path, b"");
        }
    }
    let (log, recovery) = open(&vfs, options());
    assert!(recovery.rebuilt_indexes > 0 && recovery.missing.is_empty(), "{recovery:?}");
    assert!(matches!(log.append(&mut batch(9)), Err(Error::OutOfOrderSequence { expected: 6, .. })));
    assert_eq!(log.append(&mut batch(5)).unwrap().duplicate, Some(5));
    log.append(&mut batch(6)).unwrap();
}

// STR-05, bounded memory: keys that do not fit are left to the next pass, which goes on where this one ended.
#[test]
fn keys_beyond_the_memory_are_left_to_the_next_pass() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, LogOptions { segment_bytes: 2 << 20, ..options() });
    let mut key = vec![0; 200_000];
    for number in 0..200_u8 {
        key[0] = number;
        log.append(&mut Builder::new(5).keyed(5, Some(&key), Some(b"v")).build()).unwrap();
    }
    log.sync().unwrap();
    let first = compact(&log, 0).clean_offset;
    let fits = i64::try_from(KEY_BYTES_MAX / key.len()).unwrap();
    assert!((fits..=fits + 1).contains(&first), "{first}");
    let second = compact(&log, 0).clean_offset;
    assert!((2 * fits..=2 * fits + 2).contains(&second), "{second}");
    assert_eq!(contents(&log).unwrap().len(), 200);
}

// A reader that is in the middle of a segment goes on while it is written anew; a trim meanwhile wins.
#[test]
fn readers_and_trims_go_on() {
    let vfs = SimVfs::new();
    let (log, _) = open(&vfs, options());
    for _ in 0..40 {
        log.append(&mut one(b'k', Some("a value of some length"))).unwrap();
    }
    roll(&log);
    for offset in 0..40 {
        log.read(offset, 200, true, 41).unwrap(); // leaves hints and open files
    }
    compact(&log, 0);
    for offset in 0..40 {
        let bytes = log.read(offset, 200, true, log.end_offset()).unwrap();
        let (header, _) = Batches::new(&bytes).next().unwrap().unwrap();
        assert!((header.base_offset..header.next_offset()).contains(&offset), "{offset}: {header:?}");
    }
    assert_eq!(log.delete_records_before(20).unwrap(), 20);
    assert_eq!(values(&log, b'k'), [(39, Some(b"a value of some length".to_vec()))]);
    assert!(log.damages().is_empty());
}

/// Newest acknowledged value of each key; `None` behind a tombstone.
type Model = BTreeMap<u8, Option<u8>>;

fn state(log: &Log) -> Model {
    let mut model = Model::new();
    for (_, key, value) in contents(log).unwrap() {
        model.insert(key.unwrap()[0], value.map(|value| value[0]));
    }
    model
}

/// Keys with a value; whether a deleted key has still its tombstone is a matter of time.
fn alive(model: &Model) -> BTreeMap<u8, u8> {
    model.iter().filter_map(|(key, value)| Some((*key, (*value)?))).collect()
}

fn filled(vfs: &SimVfs) -> (Arc<Log>, Model) {
    let (log, _) = open(vfs, options());
    for number in 0..60_u8 {
        let value = [number; 30];
        let value = if number % 7 == 3 { None } else { Some(&value[..]) };
        let batch = Builder::new(1).keyed(1, Some(&[number % 9]), value).keyed(1, Some(&[number % 5 + 20]), value);
        log.append(&mut batch.build()).unwrap();
    }
    log.sync().unwrap();
    let model = state(&log);
    (log, model)
}

// F1, F6, F9, F10: whatever call of a pass fails, and whatever of it has reached the disk, every key has its value.
#[test]
fn interrupted_at_every_call() {
    let pristine = SimVfs::new();
    let (_, model) = filled(&pristine);
    // A first pass, so that the second one drops tombstones and merges.
    let (log, _) = open(&pristine, options());
    log.compact(&Uncompressed, 0, &|| true).unwrap();
    for number in 0..60 {
        log.append(&mut one(100 + number % 2, Some("more"))).unwrap();
    }
    log.sync().unwrap();
    let model: Model = model.into_iter().chain([(100, Some(b'm')), (101, Some(b'm'))]).collect();
    let mut states = 0;
    for fault in [Fault::PowerCut, Fault::Io, Fault::NoSpace, Fault::Torn] {
        for nth in 1.. {
            let vfs = pristine.crash(Crash::KeepAll);
            let (log, _) = open(&vfs, options());
            vfs.fail_call(nth, fault);
            let before = vfs.calls();
            let done = log.compact(&Uncompressed, DAY_MS, &|| true).is_ok();
            let reached = vfs.calls() - before >= nth;
            vfs.heal();
            if fault != Fault::PowerCut && !log.stopped() {
                assert_eq!(alive(&state(&log)), alive(&model), "{fault:?} at call {nth}, still running");
                log.append(&mut one(101, Some("more"))).unwrap();
                log.compact(&Uncompressed, 2 * DAY_MS, &|| true).unwrap();
                assert_eq!(alive(&state(&log)), alive(&model), "{fault:?} at call {nth}, after another pass");
            }
            for crash in crash_states(&vfs) {
                let after = vfs.crash(crash);
                let opened = open_at(Arc::new(after.clone()), &dir(), options());
                let (log, recovery) =
                    opened.unwrap_or_else(|error| panic!("{fault:?} at call {nth}, {crash:?}: {error:?}"));
                let sound = recovery.missing.is_empty() && recovery.damages.is_empty() && recovery.set_aside.is_empty();
                assert!(sound, "{fault:?} at call {nth}, {crash:?}: {recovery:?}");
                assert_eq!(alive(&state(&log)), alive(&model), "{fault:?} at call {nth}, {crash:?}");
                log.compact(&Uncompressed, 3 * DAY_MS, &|| true).unwrap();
                assert_eq!(alive(&state(&log)), alive(&model), "{fault:?} at call {nth}, {crash:?}, compacted again");
                let unfinished = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "compact");
                assert!(!after.files(&dir()).iter().any(unfinished));
                states += 1;
            }
            if done && !reached {
                assert!(nth > 40, "{fault:?}: the pass was really interrupted");
                break;
            }
        }
    }
    assert!(states > 1_000, "{states}");
}

#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, value: Option<u8> },
    Sync,
    Compact,
    Wait { ms: i64 },
    Crash(u64),
    Fail { nth: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..8_u8, prop::option::weighted(0.8, any::<u8>())).prop_map(|(key, value)| Step::Put { key, value }),
        4 => Just(Step::Sync),
        3 => Just(Step::Compact),
        2 => (0..900_i64).prop_map(|ms| Step::Wait { ms }),
        1 => any::<u64>().prop_map(Step::Crash),
        1 => (1..40_u64).prop_map(|nth| Step::Fail { nth }),
    ]
}

fn run(steps: &[Step]) {
    let mut vfs = SimVfs::new();
    let mut log = open(&vfs, options()).0;
    let mut now_ms = 0;
    // What was appended and not yet lost, in order, and how much of it is acknowledged.
    let (mut puts, mut durable): (Vec<(i64, u8, Option<u8>)>, i64) = (Vec::new(), 0);
    for step in steps {
        match step {
            Step::Put { key, value } => {
                let value_bytes = value.map(|value| [value; 40]);
                let batch = Builder::new(1).keyed(1, Some(&[*key]), value_bytes.as_ref().map(<[u8; 40]>::as_slice));
                if let Ok(appended) = log.append(&mut batch.build()) {
                    puts.push((appended.base_offset, *key, *value));
                }
            }
            Step::Sync => durable = log.sync().unwrap_or(durable),
            Step::Compact => drop(log.compact(&Uncompressed, now_ms, &|| true)),
            Step::Wait { ms } => now_ms += ms,
            Step::Fail { nth } => vfs.fail_call(*nth, Fault::Io),
            Step::Crash(seed) => {
                vfs = vfs.crash(Crash::Random(*seed));
                let recovery;
                (log, recovery) = open(&vfs, options());
                assert!(recovery.missing.is_empty() && recovery.damages.is_empty(), "{recovery:?}");
                assert!(log.end_offset() >= durable);
                puts.retain(|(offset, ..)| *offset < log.end_offset());
                durable = log.end_offset();
            }
        }
    }
    vfs.heal();
    if log.stopped() {
        vfs = vfs.crash(Crash::LoseUnsynced);
        log = open(&vfs, options()).0;
        assert!(log.end_offset() >= durable);
        puts.retain(|(offset, ..)| *offset < log.end_offset());
    }
    let model: Model = puts.into_iter().map(|(_, key, value)| (key, value)).collect();
    assert_eq!(alive(&state(&log)), alive(&model));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    // I1, STR-05 over random histories.
    #[test]
    fn histories(steps in prop::collection::vec(step(), 1..200)) {
        run(&steps);
    }
}
