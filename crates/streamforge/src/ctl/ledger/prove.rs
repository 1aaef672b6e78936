//! The proof: a pure function from what the stream says to equations that add up, or do not.
//!
//! 1. Of each adapter: numbered = in the stream + told lost + evicted (REC-03).
//! 2. Of each adapter: in the stream = clean + rejected + duplicates + pending.
//! 3. Of each topic: acknowledged = stored + evicted.
//! 4. Of each reader: stored = delivered + dead letters + pending; and what was evicted before it was read has a row in the
//!    loss ledger (OFF-12, OFF-30).

use stream::Topic;

use super::facts::{Adapter, Facts, Fate, Loss, Reader, TopicFacts};
use super::marks::Hole;
use super::print::number;

/// Holes and places named in a line; the rest is counted.
const SHOWN: usize = 3;

/// What came of an equation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Balanced,
    /// Adds up so far; this many are on their way.
    Pending(u64),
    /// This many are gone, and nothing says why.
    Unexplained(u64),
}

impl Verdict {
    fn of(unexplained: u64, pending: u64) -> Self {
        match (unexplained, pending) {
            (0, 0) => Self::Balanced,
            (0, pending) => Self::Pending(pending),
            (unexplained, _) => Self::Unexplained(unexplained),
        }
    }
}

/// One equation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Of whom: an adapter, a topic, a group on a topic.
    pub(super) subject: String,
    pub(super) equation: &'static str,
    pub(super) left: u64,
    /// What of it is accounted for, pending included.
    pub(super) right: u64,
    /// The parts of the right side, in words.
    pub(super) explained_by: String,
    /// What is not accounted for, in words; empty when nothing is.
    pub(super) missing: String,
    pub(super) verdict: Verdict,
}

/// All equations over the facts.
pub(super) fn prove(facts: &Facts) -> Vec<Line> {
    let mut evicted_left =
        facts.topics.iter().filter(|topic| topic.topic == Topic::TelemetryRaw.name()).map(|t| t.evicted).sum();
    let mut lines = Vec::new();
    for adapter in &facts.adapters {
        if !adapter.epochs.is_empty() {
            lines.push(numbered(adapter, &facts.losses, &mut evicted_left));
        }
        lines.push(judged(adapter));
    }
    lines.extend(facts.topics.iter().map(stored));
    for reader in &facts.readers {
        lines.push(delivered(reader));
        lines.extend(unread(reader, &facts.losses));
    }
    lines
}

/// Words for the parts that are not 0.
fn parts(parts: &[(u64, &str)]) -> String {
    let words: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", number(*count)))
        .collect();
    words.join(", ")
}

/// The first few and how many more.
fn named(all: &[String], total: usize) -> String {
    let text = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    match total.checked_sub(SHOWN) {
        None | Some(0) => text,
        Some(more) => format!("{text}; and {more} more"),
    }
}

/// `epoch 7 seq 120 to 129 (10)`.
fn hole_name(epoch: i64, hole: Hole) -> String {
    match hole.count() {
        1 => format!("epoch {epoch} seq {}", hole.from),
        count => format!("epoch {epoch} seq {} to {} ({})", hole.from, hole.to - 1, number(count)),
    }
}

fn numbered(adapter: &Adapter, losses: &[Loss], evicted_left: &mut u64) -> Line {
    let (mut left, mut present, mut told, mut evicted, mut on_the_way, mut open) = (0, 0, 0, 0, 0, 0);
    let mut names = Vec::new();
    for epoch in &adapter.epochs {
        left += (epoch.to - epoch.from).max(0).unsigned_abs();
        present += epoch.present;
        for (hole, fate) in &epoch.holes {
            let rows: u64 = losses.iter().map(|loss| loss.tells_numbers(&adapter.id, epoch.number, *hole)).sum();
            let rows = rows.min(hole.count());
            told += rows;
            let mut rest = hole.count() - rows;
            match fate {
                Fate::OnTheWay => on_the_way += std::mem::take(&mut rest),
                Fate::Evictable => {
                    let gone = rest.min(*evicted_left);
                    *evicted_left -= gone;
                    evicted += gone;
                    rest -= gone;
                }
                Fate::Open => {}
            }
            if rest > 0 {
                open += rest;
                names.push(hole_name(epoch.number, *hole));
            }
        }
    }
    let words =
        [(present, "in the stream"), (told, "told lost"), (evicted, "evicted"), (on_the_way, "may be on their way")];
    let missing = if names.is_empty() { String::new() } else { named(&names, names.len()) };
    Line {
        subject: adapter.id.clone(),
        equation: "numbered = in the stream + told lost + evicted",
        left,
        right: present + told + evicted + on_the_way,
        explained_by: parts(&words),
        missing,
        verdict: Verdict::of(open, on_the_way),
    }
}

fn judged(adapter: &Adapter) -> Line {
    let found = &adapter.outcomes;
    let words = [
        (found.clean, "clean"),
        (found.rejected, "dead letters"),
        (found.duplicates, "exact duplicates"),
        (found.pending, "not judged yet"),
    ];
    let places: Vec<String> =
        found.places.iter().map(|(partition, offset)| format!("telemetry.raw/{partition}/{offset}")).collect();
    let total = usize::try_from(found.without).unwrap_or(usize::MAX);
    Line {
        subject: if adapter.id.is_empty() { "(no adapter named)".to_owned() } else { adapter.id.clone() },
        equation: "in the stream = clean + rejected + duplicates + pending",
        left: found.records,
        right: found.clean + found.rejected + found.duplicates + found.pending,
        explained_by: parts(&words),
        missing: if found.without > 0 { named(&places, total) } else { String::new() },
        verdict: Verdict::of(found.without, found.pending),
    }
}

fn stored(topic: &TopicFacts) -> Line {
    let there = topic.read.unwrap_or(topic.stored);
    let right = there + topic.evicted;
    let unreadable = topic.acknowledged.saturating_sub(right);
    Line {
        subject: topic.topic.clone(),
        equation: "acknowledged = stored + evicted",
        left: topic.acknowledged,
        right,
        explained_by: parts(&[(there, "stored"), (topic.evicted, "evicted")]),
        missing: if unreadable > 0 {
            "offsets that hold no record; `streamforge ctl verify` says whether the files are damaged".to_owned()
        } else {
            String::new()
        },
        verdict: Verdict::of(unreadable, 0),
    }
}

fn delivered(reader: &Reader) -> Line {
    let dead = reader.dead_letters.min(reader.passed);
    let delivered = reader.passed - dead;
    let (equation, word) = if reader.is_sink() {
        ("stored = delivered + dead letters + pending", "delivered")
    } else {
        ("stored = read + pending", "read")
    };
    let ahead: u64 = reader.beyond.iter().map(|(_, committed, end)| (committed - end).unsigned_abs()).sum();
    let names: Vec<String> = reader
        .beyond
        .iter()
        .map(|(partition, committed, end)| {
            format!("partition {partition}: committed {committed}, the log ends at {end}, so it is another log")
        })
        .collect();
    Line {
        subject: subject(reader),
        equation,
        left: reader.stored,
        right: reader.passed + reader.pending,
        explained_by: parts(&[(delivered, word), (dead, "dead letters"), (reader.pending, "pending")]),
        missing: named(&names, names.len()),
        verdict: Verdict::of(ahead + reader.stored.abs_diff(reader.passed + reader.pending), reader.pending),
    }
}

fn subject(reader: &Reader) -> String {
    format!("{} on {}", reader.group, reader.topic)
}

/// What was evicted behind a commit; rows told before, for ranges the reader has passed, belong to no equation.
fn unread(reader: &Reader, losses: &[Loss]) -> Option<Line> {
    let (mut left, mut told, mut names) = (0, 0, Vec::new());
    for lost in &reader.unread {
        let count = (lost.to - lost.from).max(0).unsigned_abs();
        let rows: u64 = losses.iter().map(|loss| loss.tells_offsets(&reader.group, &reader.topic, *lost)).sum();
        left += count;
        told += rows.min(count);
        if rows < count {
            names.push(format!("partition {} offsets {} to {}", lost.partition, lost.from, lost.to - 1));
        }
    }
    (left > 0).then(|| Line {
        subject: subject(reader),
        equation: "evicted unread = told lost",
        left,
        right: told,
        explained_by: parts(&[(told, "told lost")]),
        missing: named(&names, names.len()),
        verdict: Verdict::of(left - told, 0),
    })
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Epoch, Outcomes, Unread};
    use super::*;

    fn adapter(epochs: Vec<Epoch>, outcomes: Outcomes) -> Adapter {
        Adapter { id: "press".to_owned(), epochs, outcomes }
    }

    /// Epoch 7 with 100 numbers of which `holes` are missing.
    fn epoch(holes: &[(i64, i64, Fate)]) -> Epoch {
        let holes: Vec<(Hole, Fate)> =
            holes.iter().map(|(from, to, fate)| (Hole { from: *from, to: *to }, *fate)).collect();
        let missing: u64 = holes.iter().map(|(hole, _)| hole.count()).sum();
        Epoch { number: 7, from: 0, to: 100, present: 100 - missing, holes, ..Epoch::default() }
    }

    fn all_clean(records: u64) -> Outcomes {
        Outcomes { records, clean: records, ..Outcomes::default() }
    }

    fn row(who: &str, epoch: Option<i64>, from: i64, to: i64) -> Loss {
        Loss {
            who: who.to_owned(),
            epoch,
            topic: epoch.is_none().then(|| "telemetry.clean".to_owned()),
            partition: epoch.is_none().then_some(3),
            from: Some(from),
            to: Some(to),
            count: (to - from).unsigned_abs(),
            ..Loss::default()
        }
    }

    fn raw(evicted: u64) -> TopicFacts {
        TopicFacts { topic: "telemetry.raw".to_owned(), acknowledged: 100 + evicted, evicted, stored: 100, read: None }
    }

    fn reader() -> Reader {
        Reader {
            group: "sf-sink-historian".to_owned(),
            topic: "telemetry.clean".to_owned(),
            stored: 100,
            passed: 90,
            dead_letters: 2,
            pending: 10,
            ..Reader::default()
        }
    }

    fn only(facts: &Facts) -> Line {
        let mut wrong: Vec<Line> =
            prove(facts).into_iter().filter(|line| matches!(line.verdict, Verdict::Unexplained(_))).collect();
        assert_eq!(wrong.len(), 1, "{wrong:#?}");
        wrong.remove(0)
    }

    // REC-03, OFF-30
    #[test]
    fn a_whole_history_adds_up() {
        let facts = Facts {
            adapters: vec![adapter(vec![epoch(&[])], all_clean(100))],
            topics: vec![raw(0)],
            readers: vec![reader()],
            ..Facts::default()
        };
        let verdicts: Vec<Verdict> = prove(&facts).iter().map(|line| line.verdict).collect();
        assert_eq!(verdicts, [Verdict::Balanced, Verdict::Balanced, Verdict::Balanced, Verdict::Pending(10)]);
        assert_eq!(prove(&facts)[3].explained_by, "88 delivered, 2 dead letters, 10 pending");
    }

    // REC-03, OFF-30: a hole in the sequence without a row is told with its place; with a row it is explained
    #[test]
    fn a_hole_needs_a_row() {
        let mut facts = Facts {
            adapters: vec![adapter(vec![epoch(&[(10, 20, Fate::Open), (50, 51, Fate::Open)])], all_clean(89))],
            ..Facts::default()
        };
        let line = only(&facts);
        assert_eq!((line.left, line.right, line.verdict), (100, 89, Verdict::Unexplained(11)));
        assert_eq!(line.missing, "epoch 7 seq 10 to 19 (10); epoch 7 seq 50");
        facts.losses = vec![row("press", Some(7), 10, 15), row("press", Some(6), 0, 99), row("lathe", Some(7), 0, 99)];
        let line = only(&facts);
        assert_eq!((line.right, line.verdict), (94, Verdict::Unexplained(6)), "rows of others explain nothing");
        facts.losses = vec![row("press", Some(7), 0, 60)];
        let line = &prove(&facts)[0];
        assert_eq!((line.right, line.verdict), (100, Verdict::Balanced));
        assert_eq!(line.explained_by, "89 in the stream, 11 told lost");
    }

    // OFF-20: what was evicted cannot be seen any more, but not more than was evicted
    #[test]
    fn evictions_explain_as_many_as_were_evicted() {
        let facts = |evicted| Facts {
            adapters: vec![adapter(vec![epoch(&[(0, 30, Fate::Evictable)])], all_clean(70))],
            topics: vec![raw(evicted)],
            ..Facts::default()
        };
        assert_eq!(prove(&facts(30))[0].verdict, Verdict::Balanced);
        assert_eq!(only(&facts(20)).verdict, Verdict::Unexplained(10));
    }

    // REC-11: what is so young may be in the client's queue
    #[test]
    fn what_may_be_on_its_way_is_pending() {
        let facts = Facts {
            adapters: vec![adapter(vec![epoch(&[(97, 99, Fate::OnTheWay)])], all_clean(98))],
            ..Facts::default()
        };
        assert_eq!(prove(&facts)[0].verdict, Verdict::Pending(2));
    }

    // REC-13, OFF-30: a record the validator is past has an outcome, or is an exact duplicate
    #[test]
    fn a_record_without_outcome_is_named_and_a_duplicate_is_none() {
        let outcomes = Outcomes {
            records: 100,
            clean: 90,
            rejected: 5,
            duplicates: 3,
            pending: 1,
            without: 1,
            places: vec![(4, 1234)],
        };
        let mut facts = Facts { adapters: vec![adapter(Vec::new(), outcomes)], ..Facts::default() };
        let line = only(&facts);
        assert_eq!((line.left, line.right, line.verdict), (100, 99, Verdict::Unexplained(1)));
        assert_eq!(line.missing, "telemetry.raw/4/1234");
        assert_eq!(line.explained_by, "90 clean, 5 dead letters, 3 exact duplicates, 1 not judged yet");
        let outcomes = &mut facts.adapters[0].outcomes;
        (outcomes.duplicates, outcomes.without) = (4, 0);
        assert_eq!(prove(&facts)[0].verdict, Verdict::Pending(1));
    }

    // OFF-12, OFF-30: a log that begins behind a commit has lost what lies between; the row says so, or nobody does
    #[test]
    fn an_eviction_behind_a_commit_needs_a_row() {
        let lost = Unread { partition: 3, from: 40, to: 60 };
        let mut facts = Facts { readers: vec![Reader { unread: vec![lost], ..reader() }], ..Facts::default() };
        let line = only(&facts);
        assert_eq!((line.equation, line.left, line.right), ("evicted unread = told lost", 20, 0));
        assert_eq!(line.missing, "partition 3 offsets 40 to 59");
        facts.losses = vec![row("historian", None, 40, 60)];
        assert_eq!(prove(&facts)[1].verdict, Verdict::Balanced);
        facts.losses = vec![row("archive", None, 40, 60)];
        assert_eq!(only(&facts).verdict, Verdict::Unexplained(20));
    }

    // OFF-31: a commit behind the end belongs to another log; what is in this one was never delivered
    #[test]
    fn a_commit_beyond_the_end_is_not_a_delivery() {
        let facts = Facts { readers: vec![Reader { beyond: vec![(0, 500, 40)], ..reader() }], ..Facts::default() };
        let line = only(&facts);
        assert_eq!(line.verdict, Verdict::Unexplained(460));
        assert!(line.missing.contains("committed 500, the log ends at 40"), "{line:?}");
    }

    // STR-04: an offset without a record is a record that cannot be read
    #[test]
    fn offsets_that_hold_nothing_are_missed() {
        let facts = Facts { topics: vec![TopicFacts { read: Some(95), ..raw(0) }], ..Facts::default() };
        assert_eq!(only(&facts).verdict, Verdict::Unexplained(5));
    }
}
