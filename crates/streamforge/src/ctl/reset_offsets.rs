//! `ctl reset-offsets`: moves what a group has committed.
//!
//! The new place of every partition is decided by [`moved`], a pure function; the plan is printed, and carried out only
//! with `--execute`, and never while the group has members.

use std::collections::BTreeMap;

use clap::Args;
use kafka::client::Position;
use kafka::client::admin::{Admin, At};
use model::{Clock, SystemClock};
use serde_json::json;

use super::table::{Column, Table};
use super::target::{Target, failed};
use super::{groups, print_table, topics, when};
use crate::exit::{Failure, USAGE};
use crate::say;

/// Options of `ctl reset-offsets`.
#[derive(Debug, Args)]
pub(crate) struct ResetOffsets {
    /// Group, for example sf-sink-historian
    group: String,
    /// Topic; several times for more
    #[arg(long, required = true)]
    topic: Vec<String>,
    /// Partition; all when absent, several times for more
    #[arg(long)]
    partition: Vec<i32>,
    /// earliest, latest, offset N, time T (RFC 3339, or an age like 15m), shift N (negative goes back)
    #[arg(long, required = true, num_args = 1..=2, value_names = ["WHERE", "N"], allow_hyphen_values = true)]
    to: Vec<String>,
    /// Do it; without this the command only prints the plan
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    target: Target,
}

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Earliest,
    Latest,
    Offset(i64),
    Time(i64),
    Shift(i64),
}

fn to(words: &[String]) -> Result<To, Failure> {
    let wrong = |text: String| Failure::new(USAGE, format!("--to {}: {text}", words.join(" ")));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong(format!("{text:?} is not a whole number")));
    match words[..] {
        ["earliest"] => Ok(To::Earliest),
        ["latest"] => Ok(To::Latest),
        ["offset", text] => Ok(To::Offset(number(text)?)),
        ["shift", text] => Ok(To::Shift(number(text)?)),
        ["time", text] => when::parse(text, SystemClock.now())
            .map(|time| To::Time(time.as_millis()))
            .ok_or_else(|| wrong(format!("{text:?} is not a time; write {}", when::FORMS))),
        _ => Err(wrong("write earliest, latest, offset N, time T or shift N".to_owned())),
    }
}

/// What is known of a partition before the move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    committed: Option<i64>,
    start: i64,
    end: i64,
    /// First record at or after the wanted time.
    at_time: Option<i64>,
}

/// The place after the move, within what there is; `None` leaves the partition as it is.
fn moved(to: To, known: Known) -> Option<i64> {
    let wanted = match to {
        To::Earliest => known.start,
        To::Latest => known.end,
        To::Offset(offset) => offset,
        // nothing that new: whatever comes is
        To::Time(_) => known.at_time.unwrap_or(known.end),
        To::Shift(by) => known.committed?.saturating_add(by),
    };
    Some(wanted.clamp(known.start, known.end))
}

/// Runs the command.
pub(crate) async fn reset_offsets(options: ResetOffsets) -> Result<(), Failure> {
    let ResetOffsets { group, topic, partition, to: words, execute, target } = options;
    let to = to(&words)?;
    let mut admin = target.admin().await?;
    let (described, committed) = groups::one(&mut admin, &group).await?;
    if execute {
        groups::without_members(&described)?;
    }
    let known = look(&mut admin, &topic, &partition, &committed, to).await?;
    let mut plan = Vec::new();
    let mut table = Table::new(&[
        Column::Text("TOPIC"),
        Column::Number("PARTITION"),
        Column::Number("COMMITTED"),
        Column::Number("NEW"),
        Column::Number("LAG AFTERWARDS"),
    ]);
    let mut rows = Vec::new();
    for ((topic, partition), known) in &known {
        let new = moved(to, *known);
        let shown = |offset: Option<i64>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        let lag = new.or(known.committed).map(|offset| (known.end - offset).max(0));
        table.row([topic.clone(), partition.to_string(), shown(known.committed), shown(new), shown(lag)]);
        rows.push(json!({
            "topic": topic, "partition": partition, "committed": known.committed, "new": new, "lag": lag,
        }));
        if let Some(offset) = new.filter(|new| Some(*new) != known.committed) {
            let metadata = String::new();
            plan.push(Position { topic: topic.clone(), partition: *partition, offset, metadata });
        }
    }
    if execute && !plan.is_empty() {
        admin.commit(&group, &plan).await.map_err(|error| failed(&error))?;
    }
    print_table(
        &target,
        &table,
        "no partition was chosen",
        || json!({ "group": group, "applied": execute, "partitions": rows }),
    );
    if group.starts_with("sf-") {
        say::note(
            "this group belongs to a part of the gateway, which reads without being a member: stop the gateway first. \
            A sink that keeps positions in its target goes by those",
        );
    }
    if !described.members.is_empty() {
        say::note(&format!("the group has {} members; with --execute this is refused", described.members.len()));
    }
    if !target.json {
        let count = plan.len();
        say::line(&match (execute, count) {
            (_, 0) => "nothing to move".to_owned(),
            (true, _) => format!("group {group} was moved in {count} partitions"),
            (false, _) => format!("would move group {group} in {count} partitions; --execute does it"),
        });
    }
    Ok(())
}

/// What is known of the chosen partitions, by topic and partition.
async fn look(
    admin: &mut Admin,
    names: &[String],
    chosen: &[i32],
    committed: &[Position],
    to: To,
) -> Result<BTreeMap<(String, i32), Known>, Failure> {
    let mut wanted = Vec::new();
    for name in names {
        let mut topic = topics::one(admin, name).await?;
        if let Some(index) = chosen.iter().find(|index| topic.partitions.iter().all(|there| there.index != **index)) {
            let count = topic.partitions.len();
            let text = format!("topic {name} has no partition {index}; its {count} partitions begin at 0");
            return Err(Failure::new(USAGE, text));
        }
        topic.partitions.retain(|partition| chosen.is_empty() || chosen.contains(&partition.index));
        wanted.push(topic);
    }
    let mut known: BTreeMap<(String, i32), Known> = BTreeMap::new();
    for found in admin.offsets(&wanted, At::Earliest).await.map_err(|error| failed(&error))? {
        known.entry((found.topic, found.partition)).or_default().start = found.offset.unwrap_or(0);
    }
    for found in admin.offsets(&wanted, At::Latest).await.map_err(|error| failed(&error))? {
        known.entry((found.topic, found.partition)).or_default().end = found.offset.unwrap_or(0);
    }
    if let To::Time(ms) = to {
        for found in admin.offsets(&wanted, At::Time(ms)).await.map_err(|error| failed(&error))? {
            known.entry((found.topic, found.partition)).or_default().at_time = found.offset;
        }
    }
    for position in committed {
        if let Some(known) = known.get_mut(&(position.topic.clone(), position.partition)) {
            known.committed = Some(position.offset);
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_on_the_command_line() {
        let parse = |text: &str| to(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("earliest").unwrap(), To::Earliest);
        assert_eq!(parse("offset 12").unwrap(), To::Offset(12));
        assert_eq!(parse("shift -5").unwrap(), To::Shift(-5));
        assert_eq!(parse("time 2026-01-31T12:00:00Z").unwrap(), To::Time(1_769_860_800_000));
        for wrong in ["", "offset", "offset x", "time yesterday", "earliest 5", "shift"] {
            assert_eq!(parse(wrong).unwrap_err().code, USAGE, "{wrong}");
        }
    }

    #[test]
    fn a_group_never_leaves_what_there_is() {
        let known = Known { committed: Some(50), start: 10, end: 100, at_time: Some(70) };
        assert_eq!(moved(To::Earliest, known), Some(10));
        assert_eq!(moved(To::Latest, known), Some(100));
        assert_eq!(moved(To::Offset(3), known), Some(10));
        assert_eq!(moved(To::Offset(1_000), known), Some(100));
        assert_eq!(moved(To::Time(0), known), Some(70));
        assert_eq!(moved(To::Time(0), Known { at_time: None, ..known }), Some(100), "no record is that new");
        assert_eq!(moved(To::Shift(-20), known), Some(30));
        assert_eq!(moved(To::Shift(i64::MIN), known), Some(10));
        assert_eq!(moved(To::Shift(1), Known { committed: None, ..known }), None, "from nowhere there is no step");
    }
}
