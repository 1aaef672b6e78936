//! `ctl backtest`: stored readings through other rules, without touching anything.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kafka::client::admin::{Admin, At, TopicDescription};
use kafka::client::{Consumer, Position};
use model::{Clock, SystemClock};
use pipeline::backtest::{Backtest as Test, Example, Report};
use serde_json::{Value, json};
use stream::message::telemetry;
use stream::{Topic, avro};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::table::Column::{Number, Text};
use super::table::Table;
use super::target::{Target, failed};
use super::{topics, when};
use crate::exit::{BAD_CONFIG, Failure, USAGE};
use crate::say;

/// Records asked for in one go.
const SLICE_RECORDS: usize = 5000;
const LOOK: Duration = Duration::from_millis(500);
/// Without a record for this long, the end counts as reached.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Options of `ctl backtest`.
#[derive(Debug, Args)]
pub(crate) struct Backtest {
    /// File with the sections validation and alarms, or a whole gateway document; JSON or YAML
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,
    /// Begin at this time: RFC 3339, a date, or an age like 24h; the oldest reading when absent
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// End at this time; the newest reading when absent
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only readings of this asset
    #[arg(long)]
    asset: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) fn backtest(options: &Backtest, runtime: &Handle) -> Result<(), Failure> {
    let text = std::fs::read_to_string(&options.rules)
        .map_err(|error| Failure::new(USAGE, format!("{}: {error}", options.rules.display())))?;
    let (validation, alarms) = config::parse_rules(&text).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
        let head = format!("{} has {} problems:", options.rules.display(), problems.len());
        Failure::new(BAD_CONFIG, format!("{head}\n{}", lines.join("\n")))
    })?;
    let now = SystemClock.now();
    let time = |text: &Option<String>| text.as_deref().and_then(|text| when::parse(text, now));
    if let (Some(from), Some(to)) = (time(&options.from), time(&options.to))
        && from >= to
    {
        return Err(Failure::new(USAGE, format!("--from {from} is not before --to {to}")));
    }
    let mut admin = runtime.block_on(options.target.admin())?;
    let topic = runtime.block_on(topics::one(&mut admin, Topic::TelemetryRaw.name()))?;
    let begin = runtime.block_on(place(&mut admin, &topic, options.from.as_deref(), At::Earliest, "--from"))?;
    let end = runtime.block_on(place(&mut admin, &topic, options.to.as_deref(), At::Latest, "--to"))?;
    let mut test = Test::new(&validation, &alarms, topic.partitions.len());
    let unreadable = replay(options, &topic, &begin, &end, &mut test)?;
    let report = test.finish();
    if unreadable > 0 {
        say::note(&format!("{unreadable} records cannot be decoded and were left out"));
    }
    if options.target.json {
        say::line(&as_json(&report).to_string());
    } else {
        print(&report);
    }
    Ok(())
}

/// Offsets by partition of a point in time, or of an end of the log.
async fn place(
    admin: &mut Admin,
    topic: &TopicDescription,
    time: Option<&str>,
    otherwise: At,
    option: &str,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let mut offsets = BTreeMap::new();
    let mut places = vec![if time.is_some() { At::Latest } else { otherwise }];
    if let Some(text) = time {
        let wrong = || Failure::new(USAGE, format!("{option} {text}: this is not a time; write {}", when::FORMS));
        let time = when::parse(text, SystemClock.now()).ok_or_else(wrong)?;
        // a partition without a record that new ends before it
        places.push(At::Time(time.as_millis()));
    }
    for at in places {
        let found = admin.offsets(std::slice::from_ref(topic), at).await.map_err(|error| failed(&error))?;
        offsets.extend(found.into_iter().filter_map(|found| Some((found.partition, found.offset?))));
    }
    Ok(offsets)
}

/// Feeds the readings between two places to the test; returns how many could not be read.
fn replay(
    options: &Backtest,
    topic: &TopicDescription,
    begin: &BTreeMap<i32, i64>,
    end: &BTreeMap<i32, i64>,
    test: &mut Test,
) -> Result<u64, Failure> {
    let end_of = |partition: i32| end.get(&partition).copied().unwrap_or(0);
    let mut next: BTreeMap<i32, i64> =
        begin.iter().filter(|(partition, offset)| **offset < end_of(**partition)).map(|(p, o)| (*p, *o)).collect();
    let total: i64 = next.iter().map(|(partition, offset)| end_of(*partition) - offset).sum();
    if next.is_empty() {
        say::note("there are no stored readings in this span: the report says nothing about these rules");
        return Ok(0);
    }
    let consumer = Consumer::open(&options.target.settings(), "sf-ctl-backtest").map_err(|error| failed(&error))?;
    let position = |(partition, offset): (&i32, &i64)| Position {
        topic: topic.name.clone(),
        partition: *partition,
        offset: *offset,
        metadata: String::new(),
    };
    consumer.assign(&next.iter().map(position).collect::<Vec<_>>()).map_err(|error| failed(&error))?;
    let mut progress = say::Progress::new();
    let (mut done, mut unreadable) = (0_u64, 0);
    let mut heard = Instant::now();
    while next.iter().any(|(partition, offset)| *offset < end_of(*partition)) {
        let polled = consumer.poll(SLICE_RECORDS, LOOK, Duration::ZERO, |record| {
            next.insert(record.partition(), record.offset() + 1);
            if record.offset() >= end_of(record.partition()) {
                return;
            }
            done += 1;
            let payload = record.payload().unwrap_or_default();
            match avro::unframe(payload).and_then(|(_, body)| telemetry::decode(body)) {
                Ok(reading) if options.asset.as_deref().is_none_or(|asset| asset == reading.asset_id) => {
                    test.take(usize::try_from(record.partition()).unwrap_or(0), &reading);
                }
                Ok(_) => {}
                Err(_) => unreadable += 1,
            }
        });
        if polled.map_err(|error| failed(&error))? > 0 {
            heard = Instant::now();
            progress.at(&format!("{done} of {total} readings"));
        } else if heard.elapsed() > SILENCE_MAX {
            break;
        }
    }
    Ok(unreadable)
}

/// The report for a person: the sentence first, then the tables.
fn print(report: &Report) {
    if report.readings == 0 {
        say::line("no readings in this span");
        return;
    }
    let span = report.first.zip(report.last).map_or(String::new(), |(first, last)| format!(", {first} to {last}"));
    let [good, suspect, uncertain] = report.forwarded;
    say::line(&format!(
        "{} readings{span}: {good} GOOD, {suspect} SUSPECT, {uncertain} UNCERTAIN, {} rejected by rules, {} BAD at their \
         source, {} duplicates, {} gaps, {} silences",
        report.readings, report.rejected, report.bad_at_source, report.duplicates, report.gaps, report.stale
    ));
    let (activations, fleeting) = report.activations();
    say::line(&format!("would have raised {activations} alarms, {fleeting} under 5 s"));
    if !report.flagged.is_empty() {
        let mut table = Table::new(&[Text("RULE"), Text("CODE"), Number("READINGS"), Text("EXAMPLE")]);
        for ((rule, code), flagged) in &report.flagged {
            table.row([rule.clone(), code.clone(), flagged.count.to_string(), example(&flagged.examples)]);
        }
        say::line("");
        table.lines().iter().for_each(|line| say::line(line));
    }
    if !report.raised.is_empty() {
        let mut table = Table::new(&[
            Text("ALARM"),
            Text("SEVERITY"),
            Number("RAISED"),
            Number("UNDER 5 S"),
            Number("STANDING"),
            Text("EXAMPLE"),
        ]);
        for (alarm, raised) in &report.raised {
            table.row([
                alarm.clone(),
                raised.severity.clone(),
                raised.activations.to_string(),
                raised.fleeting.to_string(),
                raised.standing.to_string(),
                example(&raised.examples),
            ]);
        }
        say::line("");
        table.lines().iter().for_each(|line| say::line(line));
    }
}

fn example(examples: &[Example]) -> String {
    examples.first().map_or(String::new(), |example| {
        let Example { asset_id, parameter, value, device_time, .. } = example;
        format!("{asset_id} {parameter} = {value} at {device_time}")
    })
}

fn as_json(report: &Report) -> Value {
    let examples = |examples: &[Example]| -> Vec<Value> {
        let one = |example: &Example| {
            json!({
                "asset": example.asset_id, "parameter": example.parameter, "value": example.value,
                "device_time": example.device_time.to_string(), "detail": example.detail,
            })
        };
        examples.iter().map(one).collect()
    };
    let flagged: Vec<Value> = report
        .flagged
        .iter()
        .map(|((rule, code), flagged)| {
            json!({ "rule": rule, "code": code, "count": flagged.count, "examples": examples(&flagged.examples) })
        })
        .collect();
    let raised: Vec<Value> = report
        .raised
        .iter()
        .map(|(alarm, raised)| {
            json!({
                "alarm": alarm, "severity": raised.severity, "activations": raised.activations,
                "under_5_s": raised.fleeting, "standing": raised.standing,
                "time_in_alarm_ms": raised.time_in_alarm / 1000, "examples": examples(&raised.examples),
            })
        })
        .collect();
    let (activations, fleeting) = report.activations();
    let [good, suspect, uncertain] = report.forwarded;
    json!({
        "readings": report.readings, "good": good, "suspect": suspect, "uncertain": uncertain,
        "rejected": report.rejected, "bad_at_source": report.bad_at_source, "duplicates": report.duplicates,
        "gaps": report.gaps, "stale": report.stale, "alarms": activations, "alarms_under_5_s": fleeting,
        "first": report.first.map(|time| time.to_string()), "last": report.last.map(|time| time.to_string()),
        "flagged": flagged, "raised": raised,
    })
}
