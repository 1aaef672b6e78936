//! Random histories of appends, syncs, crashes, trims and restarts against a model of what must be there (I1, I2).

use std::sync::Arc;

use commitlog::{Crash, Fault, Log, LogOptions, SimVfs};
use proptest::prelude::*;

use crate::support::{batch, body, open, read_all, small};

#[derive(Debug, Clone)]
enum Step {
    Append {
        records: u64,
    },
    Sync,
    /// The N-th call from now fails.
    Fail {
        nth: u64,
        fault: Fault,
    },
    Crash(Crash),
    Close,
    DeleteBefore {
        back: i64,
    },
    Retention {
        now_ms: i64,
    },
    Read {
        back: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let fault = prop_oneof![Just(Fault::Io), Just(Fault::NoSpace), Just(Fault::Torn), Just(Fault::PowerCut)];
    let crash = prop_oneof![
        Just(Crash::KeepAll),
        Just(Crash::LoseUnsynced),
        any::<u64>().prop_map(Crash::Random),
        any::<u64>().prop_map(Crash::Random)
    ];
    prop_oneof![
        12 => (1..6_u64).prop_map(|records| Step::Append { records }),
        5 => Just(Step::Sync),
        1 => (1..12_u64, fault).prop_map(|(nth, fault)| Step::Fail { nth, fault }),
        2 => crash.prop_map(Step::Crash),
        1 => Just(Step::Close),
        1 => (0..30_i64).prop_map(|back| Step::DeleteBefore { back }),
        1 => (0..3_000_i64).prop_map(|now_ms| Step::Retention { now_ms }),
        3 => (0..60_i64).prop_map(|back| Step::Read { back }),
    ]
}

fn options() -> LogOptions {
    LogOptions { retention_ms: Some(600), retention_bytes: Some(6_000), ..small() }
}

/// What was appended, by base offset, and how much of it was confirmed.
struct Model {
    batches: Vec<(i64, u64, u64)>,
    durable: i64,
    start: i64,
    next_tag: u64,
}

impl Model {
    /// The log holds exactly the appended batches from its start to its end, and at least the confirmed ones.
    fn check(&mut self, log: &Log) {
        assert!(log.end_offset() >= self.durable, "confirmed records are gone");
        assert!(log.start_offset() >= self.start);
        self.start = log.start_offset();
        self.batches.retain(|(base, ..)| *base < log.end_offset());
        let read = read_all(log, self.start, log.end_offset()).unwrap();
        let mut expected = self.start;
        for (header, bytes) in &read {
            let known = self.batches.iter().find(|(base, ..)| *base == header.base_offset);
            let (_, tag, records) = known.expect("only appended batches are there");
            assert_eq!(body(bytes), body(&batch(*tag, *records)));
            assert!(header.base_offset <= expected && header.next_offset() > expected, "no holes");
            expected = header.next_offset();
        }
        assert_eq!(expected, log.end_offset());
    }
}

fn run(steps: &[Step]) {
    let mut vfs = SimVfs::new();
    let mut log: Arc<Log> = open(&vfs, options()).0;
    let mut model = Model { batches: Vec::new(), durable: 0, start: 0, next_tag: 1 };
    for step in steps {
        match step {
            Step::Append { records } => {
                let tag = model.next_tag;
                model.next_tag += 1;
                if let Ok(appended) = log.append(&mut batch(tag, *records)) {
                    model.batches.push((appended.base_offset, tag, *records));
                }
            }
            Step::Sync => {
                if let Ok(durable) = log.sync() {
                    assert!(durable >= model.durable);
                    model.durable = durable;
                }
            }
            Step::Fail { nth, fault } => vfs.fail_call(*nth, *fault),
            Step::Crash(crash) => {
                vfs = vfs.crash(*crash);
                let recovery;
                (log, recovery) = open(&vfs, options());
                assert!(recovery.missing.is_empty() && recovery.damages.is_empty(), "{recovery:?}");
                model.check(&log);
                model.durable = log.durable_offset();
            }
            Step::Close => {
                if log.close().is_ok() {
                    model.durable = log.durable_offset();
                }
            }
            Step::DeleteBefore { back } => {
                let offset = log.durable_offset() - back;
                if let Ok(start) = log.delete_records_before(offset) {
                    assert!(start >= offset);
                    model.start = start;
                }
            }
            Step::Retention { now_ms } => {
                if let Ok(removed) = log.apply_retention(*now_ms) {
                    model.start = removed.start_offset;
                }
                model.durable = model.durable.max(log.durable_offset());
            }
            Step::Read { back } => {
                let offset = (log.end_offset() - back).max(log.start_offset());
                if let Ok(bytes) = log.read(offset, 700, true, log.durable_offset()) {
                    assert_eq!(bytes.is_empty(), offset >= log.durable_offset());
                }
            }
        }
    }
    let (log, recovery) = open(&vfs.crash(Crash::LoseUnsynced), options());
    assert!(recovery.missing.is_empty() && recovery.damages.is_empty(), "{recovery:?}");
    model.check(&log);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    // I1, I2, I9 over random histories.
    #[test]
    fn histories(steps in prop::collection::vec(step(), 1..120)) {
        run(&steps);
    }
}
