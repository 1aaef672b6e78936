//! Gathers the facts: asks for commits and ends, reads outcomes, then `telemetry.raw`, then dead letters and loss rows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use kafka::client::{Position, Record};
use model::Timestamp;
use stream::message::{dead_letter, event};
use stream::publisher::read_source;
use stream::{Topic, avro, header};
use tokio::runtime::Handle;

use super::super::scan::{Range, SINK_LETTERS, Scan, Span, Spans, commits, spans};
use super::super::target::Target;
use super::super::unknown;
use super::facts::{Facts, Loss, Reader, TopicFacts, Unread};
use super::marks::Marks;
use super::raw::{Book, Known};
use crate::exit::Failure;

/// The group in which the validator commits.
const VALIDATOR: &str = "sf-validator";
/// How long to wait for numbers that may be on their way.
const SETTLE_MAX: Duration = Duration::from_secs(3);
/// Loss rows kept; further ones are left out, and what they tell counts as untold.
const ROWS_MAX: usize = 100_000;

type Commits = BTreeMap<String, Vec<Position>>;
/// Offsets that are dead letters of a sink, by sink, topic and partition.
type SinkLetters = HashMap<(String, String, i32), Marks>;

/// Reads everything.
pub(super) fn gather(
    target: &Target,
    runtime: &Handle,
    range: Range,
    adapter: Option<&str>,
    now: Timestamp,
) -> Result<Facts, Failure> {
    let mut admin = runtime.block_on(target.admin())?;
    let commits = runtime.block_on(commits(&mut admin))?;
    let spans = runtime.block_on(spans(&mut admin, range))?;
    let mut scan = Scan::open(target)?;
    let mut read: BTreeMap<&str, u64> = BTreeMap::new();
    let clean = outcomes(&mut scan, &spans, Topic::TelemetryClean, &mut read)?;
    let letters = outcomes(&mut scan, &spans, Topic::DlqTelemetry, &mut read)?;
    let raw = of(&spans, Topic::TelemetryRaw.name()).to_vec();
    let of_validator = commits.get(VALIDATOR).map(Vec::as_slice).unwrap_or_default();
    let committed = of_validator.iter().filter(|position| position.topic == Topic::TelemetryRaw.name());
    let mut book = Book::new(Known {
        clean,
        letters,
        committed: committed.map(|position| (position.partition, position.offset)).collect(),
        spans: raw.clone(),
        adapter: adapter.map(ToOwned::to_owned),
        range,
        now_ms: now.as_millis(),
    });
    let parts: Vec<(i32, i64, i64)> = raw.iter().map(|span| (span.partition, span.read_from, span.end)).collect();
    scan.read(Topic::TelemetryRaw.name(), &parts, |record| book.take(record))?;
    if let Some(name) = adapter.filter(|name| !book.names().contains(name)) {
        return Err(unknown("adapter", name, book.names().into_iter().filter(|name| !name.is_empty())));
    }
    if book.is_unsettled() {
        let ends: Vec<(i32, i64)> = raw.iter().map(|span| (span.partition, span.end)).collect();
        scan.follow(Topic::TelemetryRaw.name(), &ends, SETTLE_MAX, |record| book.take_late(record))?;
    }
    read.insert(Topic::TelemetryRaw.name(), book.read);
    let sink_letters = sink_letters(&mut scan, &spans)?;
    let losses = losses(&mut scan, &spans)?;
    let topics = spans.iter().map(|(topic, spans)| topic_facts(topic, spans, range, read.get(topic.as_str()).copied()));
    Ok(Facts {
        is_part: range.is_part(),
        adapters: book.close(),
        topics: topics.filter(|topic| topic.acknowledged > 0).collect(),
        readers: readers(&commits, &spans, &sink_letters),
        losses,
    })
}

fn of<'s>(spans: &'s Spans, topic: &str) -> &'s [Span] {
    spans.get(topic).map(Vec::as_slice).unwrap_or_default()
}

fn on_disk(spans: &[Span], partition: i32, offset: i64) -> bool {
    spans.iter().any(|span| span.partition == partition && (span.start..span.end).contains(&offset))
}

/// Which offsets of `telemetry.raw` have a record in `topic`.
fn outcomes(
    scan: &mut Scan,
    spans: &Spans,
    topic: Topic,
    read: &mut BTreeMap<&str, u64>,
) -> Result<HashMap<i32, Marks>, Failure> {
    let raw = of(spans, Topic::TelemetryRaw.name());
    let spans = of(spans, topic.name());
    // an outcome may be written much later than its record
    let parts: Vec<(i32, i64, i64)> = spans.iter().map(|span| (span.partition, span.read_from, span.end)).collect();
    let mut found: HashMap<i32, Marks> = HashMap::new();
    let mut count = 0;
    scan.read(topic.name(), &parts, |record| {
        let partition = record.partition();
        count += u64::from(spans.iter().any(|span| span.partition == partition && span.holds(record.offset())));
        let source = record.header(header::SOURCE);
        let offset = source.and_then(|value| read_source(value, Topic::TelemetryRaw.name(), partition));
        // others speak of another log, or were never there
        if let Some(offset) = offset.filter(|offset| on_disk(raw, partition, *offset)) {
            found.entry(partition).or_default().set(offset);
        }
        Ok(())
    })?;
    read.insert(topic.name(), count);
    Ok(found)
}

fn sink_letters(scan: &mut Scan, all: &Spans) -> Result<SinkLetters, Failure> {
    let mut found = SinkLetters::new();
    for (topic, spans) in all {
        let Some(sink) = topic.strip_prefix(SINK_LETTERS) else { continue };
        let parts: Vec<(i32, i64, i64)> = spans.iter().map(|span| (span.partition, span.start, span.end)).collect();
        scan.read(topic, &parts, |record| {
            let letter = record.payload().and_then(|payload| avro::unframe(payload).ok());
            if let Some(letter) = letter.and_then(|(_, body)| dead_letter::decode(body).ok())
                && on_disk(of(all, letter.topic), letter.partition, letter.offset)
            {
                let key = (sink.to_owned(), letter.topic.to_owned(), letter.partition);
                found.entry(key).or_default().set(letter.offset);
            }
            Ok(())
        })?;
    }
    Ok(found)
}

fn losses(scan: &mut Scan, spans: &Spans) -> Result<Vec<Loss>, Failure> {
    let spans = of(spans, Topic::Audit.name());
    let parts: Vec<(i32, i64, i64)> = spans.iter().map(|span| (span.partition, span.read_from, span.end)).collect();
    let mut ids = HashSet::new();
    let mut losses = Vec::new();
    scan.read(Topic::Audit.name(), &parts, |record| {
        if losses.len() < ROWS_MAX
            && let Some(loss) = loss(record)
            && ids.insert(loss.id.clone())
        {
            losses.push(loss);
        }
        Ok(())
    })?;
    losses.sort_by(|a, b| a.at.cmp(&b.at));
    Ok(losses)
}

/// A row, as modules, sinks and adapters write them.
fn loss(record: &Record<'_>) -> Option<Loss> {
    let (_, body) = avro::unframe(record.payload()?).ok()?;
    let event = event::decode(body).ok().filter(|event| event.event_type == "data_loss")?;
    let text = |names: &[&str]| names.iter().find_map(|name| event.details.get(name));
    let number = |names: &[&str]| text(names).and_then(|text| text.parse::<i64>().ok());
    let epoch = number(&["epoch"]);
    let (from, to) = match epoch {
        Some(_) => (number(&["from_seq", "seq_from"]), number(&["to_seq", "seq_to"])),
        None => (number(&["from_offset", "offset_from"]), number(&["to_offset", "offset_to"])),
    };
    Some(Loss {
        id: event.event_id.to_owned(),
        at: event.gateway_time.to_string(),
        cause: text(&["cause"]).unwrap_or("unknown").to_owned(),
        who: text(&["reader", "adapter", "adapter_id"]).unwrap_or(event.asset_id).to_owned(),
        topic: text(&["topic"]).map(ToOwned::to_owned),
        partition: number(&["partition"]).and_then(|number| i32::try_from(number).ok()),
        epoch,
        from,
        to,
        count: number(&["count"]).unwrap_or(0).max(0).unsigned_abs(),
        exact: text(&["count_kind", "exactness"]) == Some("exact"),
        message: event.message.to_owned(),
    })
}

fn sum(spans: &[Span], of: impl Fn(&Span) -> i64) -> u64 {
    spans.iter().map(|span| of(span).max(0).unsigned_abs()).sum()
}

fn topic_facts(topic: &str, spans: &[Span], range: Range, read: Option<u64>) -> TopicFacts {
    let stored = sum(spans, |span| span.to - span.from);
    // when the evicted were written is not known any more, so they belong to no range with a beginning
    let evicted = if range.from.is_none() { sum(spans, |span| span.start) } else { 0 };
    TopicFacts { topic: topic.to_owned(), acknowledged: stored + evicted, evicted, stored, read }
}

fn readers(commits: &Commits, spans: &Spans, letters: &SinkLetters) -> Vec<Reader> {
    let mut readers = Vec::new();
    for (group, positions) in commits {
        let mut topics: Vec<&str> = positions.iter().map(|position| position.topic.as_str()).collect();
        topics.sort_unstable();
        topics.dedup();
        for topic in topics {
            let Some(spans) = spans.get(topic) else { continue };
            let mut reader = Reader { group: group.clone(), topic: topic.to_owned(), ..Reader::default() };
            for span in spans {
                let here = |position: &&Position| position.topic == topic && position.partition == span.partition;
                let committed = positions.iter().find(here).map(|position| position.offset);
                let sink = group.strip_prefix("sf-sink-").unwrap_or_default();
                let dead = letters.get(&(sink.to_owned(), topic.to_owned(), span.partition));
                place(&mut reader, *span, committed, dead);
            }
            if !reader.is_idle() {
                readers.push(reader);
            }
        }
    }
    readers
}

/// Adds a partition to what a reader has done.
fn place(reader: &mut Reader, span: Span, committed: Option<i64>, dead: Option<&Marks>) {
    reader.stored += (span.to - span.from).max(0).unsigned_abs();
    let passed_to = match committed {
        // the end was asked for after the commit, so a commit behind it is of another log
        Some(committed) if committed > span.end => {
            reader.beyond.push((span.partition, committed, span.end));
            span.from
        }
        Some(committed) => {
            if committed < span.start {
                reader.unread.push(Unread { partition: span.partition, from: committed, to: span.start });
            }
            committed.clamp(span.from, span.to)
        }
        None => span.from,
    };
    reader.passed += (passed_to - span.from).unsigned_abs();
    reader.pending += (span.to - passed_to).unsigned_abs();
    reader.dead_letters += dead.map_or(0, |dead| dead.count_within(span.from, passed_to));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: i64, end: i64) -> Span {
        Span { partition: 2, start, end, from: start, to: end, read_from: start }
    }

    fn placed(span: Span, committed: Option<i64>) -> Reader {
        let mut dead = Marks::default();
        assert!([15, 16, 95].iter().all(|offset| dead.set(*offset)));
        let mut reader = Reader::default();
        place(&mut reader, span, committed, Some(&dead));
        reader
    }

    // OFF-12, OFF-30
    #[test]
    fn a_reader_stands_within_its_log_before_it_or_behind_it() {
        let reader = placed(span(10, 100), Some(60));
        assert_eq!((reader.stored, reader.passed, reader.pending, reader.dead_letters), (90, 50, 40, 2));
        let reader = placed(span(10, 100), None);
        assert_eq!((reader.passed, reader.pending, reader.unread.len()), (0, 90, 0), "a new sink has lost nothing");
        let reader = placed(span(10, 100), Some(4));
        assert_eq!(reader.unread, [Unread { partition: 2, from: 4, to: 10 }]);
        assert_eq!((reader.passed, reader.pending), (0, 90));
        let reader = placed(span(10, 100), Some(101));
        assert_eq!(reader.beyond, [(2, 101, 100)]);
        let part = Span { from: 50, to: 70, ..span(10, 100) };
        let reader = placed(part, Some(60));
        assert_eq!((reader.stored, reader.passed, reader.pending, reader.dead_letters), (20, 10, 10, 0));
    }
}
