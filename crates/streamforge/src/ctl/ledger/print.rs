//! The report: one sentence, the equations, the rows of the loss ledger.

use serde_json::{Value, json};

use super::super::table::{Column, Table, clean};
use super::facts::{Facts, Fate, Loss};
use super::prove::{Line, Verdict};
use crate::say;

/// Loss rows shown to people, the newest; scripts get all.
const ROWS_SHOWN: usize = 50;
/// Holes of an epoch that scripts get; the rest is in its counts.
const HOLES_SHOWN: usize = 1000;

/// A number with its thousands apart.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many of something, with the right ending.
fn count(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// Everything that is not accounted for.
pub(super) fn unexplained(lines: &[Line]) -> u64 {
    lines.iter().map(|line| if let Verdict::Unexplained(count) = line.verdict { count } else { 0 }).sum()
}

/// The sentence a person reads first.
pub(super) fn sentence(facts: &Facts, lines: &[Line]) -> String {
    let wrong: Vec<&Line> = lines.iter().filter(|line| matches!(line.verdict, Verdict::Unexplained(_))).collect();
    if let Some(first) = wrong.first() {
        let count = unexplained(lines);
        let records = if count == 1 { "record is" } else { "records are" };
        let more = match wrong.len() - 1 {
            0 => String::new(),
            1 => ", and one more line below".to_owned(),
            more => format!(", and {more} more lines below"),
        };
        return format!("{} {records} not accounted for: {}: {}{more}", number(count), first.subject, first.missing);
    }
    let outcomes = facts.adapters.iter().map(|adapter| &adapter.outcomes);
    let sum = |of: fn(&super::facts::Outcomes) -> u64| outcomes.clone().map(of).sum::<u64>();
    let told: u64 = facts.losses.iter().map(|loss| loss.count).sum();
    let to_deliver: u64 = facts.readers.iter().filter(|reader| reader.is_sink()).map(|reader| reader.pending).sum();
    let mut words = vec![
        format!("{} read", number(sum(|found| found.records))),
        format!("{} clean", number(sum(|found| found.clean))),
        count(sum(|found| found.rejected), "dead letter", "dead letters"),
        count(sum(|found| found.duplicates), "duplicate", "duplicates"),
    ];
    for (open, what) in [(sum(|found| found.pending), "not judged yet"), (to_deliver, "still to be delivered")] {
        if open > 0 {
            words.push(format!("{} {what}", number(open)));
        }
    }
    let part = if facts.is_part { " in this time" } else { "" };
    let losses = match told {
        0 => "no loss is told".to_owned(),
        told => format!("{} lost and told in the rows below", number(told)),
    };
    format!("everything that was read{part} is accounted for: {}; {losses}", words.join(", "))
}

fn word(verdict: Verdict) -> String {
    match verdict {
        Verdict::Balanced => "BALANCED".to_owned(),
        Verdict::Pending(count) => format!("PENDING {}", number(count)),
        Verdict::Unexplained(count) => format!("UNEXPLAINED {}", number(count)),
    }
}

/// For people.
pub(super) fn print(facts: &Facts, lines: &[Line]) {
    say::line(&clean(&sentence(facts, lines)));
    let mut table = Table::new(&[
        Column::Text("WHAT"),
        Column::Text("EQUATION"),
        Column::Number("LEFT"),
        Column::Number("RIGHT"),
        Column::Text("VERDICT"),
        Column::Text("EXPLAINED BY"),
    ]);
    for line in lines {
        let explained = match line.missing.as_str() {
            "" => line.explained_by.clone(),
            missing => format!("{}; MISSING: {missing}", line.explained_by),
        };
        let (left, right) = (number(line.left), number(line.right));
        table.row([line.subject.clone(), line.equation.to_owned(), left, right, word(line.verdict), explained]);
    }
    if !table.is_empty() {
        say::line("");
        table.lines().iter().for_each(|line| say::line(line));
    }
    if !facts.losses.is_empty() {
        say::line("");
        rows(&facts.losses).lines().iter().for_each(|line| say::line(line));
        if let Some(more) = facts.losses.len().checked_sub(ROWS_SHOWN).filter(|more| *more > 0) {
            say::line(&format!("and {more} older rows; --json shows all"));
        }
    }
}

fn rows(losses: &[Loss]) -> Table {
    let mut table = Table::new(&[
        Column::Text("TOLD AT"),
        Column::Text("CAUSE"),
        Column::Text("WHO"),
        Column::Text("WHERE"),
        Column::Number("COUNT"),
        Column::Text("MESSAGE"),
    ]);
    for loss in &losses[losses.len().saturating_sub(ROWS_SHOWN)..] {
        let exactness = if loss.exact { "" } else { "about " };
        let place = place(loss);
        let counted = format!("{exactness}{}", number(loss.count));
        table.row([loss.at.clone(), loss.cause.clone(), loss.who.clone(), place, counted, loss.message.clone()]);
    }
    table
}

fn place(loss: &Loss) -> String {
    let span = match (loss.from, loss.to) {
        (Some(from), Some(to)) => format!("{from} to {}", to - 1),
        _ => "-".to_owned(),
    };
    match (loss.epoch, &loss.topic, loss.partition) {
        (Some(epoch), ..) => format!("epoch {epoch} seq {span}"),
        (None, Some(topic), Some(partition)) => format!("{topic}/{partition} {span}"),
        (None, topic, _) => topic.clone().unwrap_or_else(|| "-".to_owned()),
    }
}

/// For scripts.
pub(super) fn object(facts: &Facts, lines: &[Line]) -> Value {
    let lines_of: Vec<Value> = lines
        .iter()
        .map(|line| {
            let (verdict, open) = match line.verdict {
                Verdict::Balanced => ("BALANCED", 0),
                Verdict::Pending(count) => ("PENDING", count),
                Verdict::Unexplained(count) => ("UNEXPLAINED", count),
            };
            json!({
                "subject": line.subject,
                "equation": line.equation,
                "left": line.left,
                "right": line.right,
                "explained_by": line.explained_by,
                "missing": line.missing,
                "verdict": verdict,
                "count": open,
            })
        })
        .collect();
    json!({
        "accounted_for": unexplained(lines) == 0,
        "unexplained": unexplained(lines),
        "sentence": sentence(facts, lines),
        "whole": !facts.is_part,
        "lines": lines_of,
        "adapters": facts.adapters.iter().map(adapter).collect::<Vec<Value>>(),
        "topics": facts.topics,
        "readers": facts.readers,
        "losses": facts.losses,
    })
}

fn adapter(adapter: &super::facts::Adapter) -> Value {
    let epochs: Vec<Value> = adapter
        .epochs
        .iter()
        .map(|epoch| {
            let holes: Vec<Value> = epoch
                .holes
                .iter()
                .take(HOLES_SHOWN)
                .map(|(hole, fate)| {
                    let fate = match fate {
                        Fate::Open => "missing",
                        Fate::Evictable => "older than an eviction",
                        Fate::OnTheWay => "may be on its way",
                    };
                    json!({ "from_seq": hole.from, "to_seq": hole.to, "count": hole.count(), "state": fate })
                })
                .collect();
            let time = |ms: i64| model::Timestamp::from_millis(ms).to_string();
            json!({
                "epoch": epoch.number,
                "from_seq": epoch.from,
                "to_seq": epoch.to,
                "present": epoch.present,
                "repeated": epoch.repeated,
                "first": time(epoch.first_ms),
                "last": time(epoch.last_ms),
                "holes": holes,
                "holes_count": epoch.holes.len(),
            })
        })
        .collect();
    let found = &adapter.outcomes;
    json!({
        "adapter": adapter.id,
        "epochs": epochs,
        "records": found.records,
        "clean": found.clean,
        "dead_letters": found.rejected,
        "duplicates": found.duplicates,
        "pending": found.pending,
        "without_outcome": found.without,
        "places": found.places.iter().map(|(p, offset)| json!({ "partition": p, "offset": offset })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Adapter, Outcomes};
    use super::super::prove::prove;
    use super::*;

    #[test]
    fn numbers_are_read_at_night() {
        assert_eq!([0, 999, 1000, 86_400, 1_234_567].map(number), ["0", "999", "1,000", "86,400", "1,234,567"]);
    }

    // OFF-30
    #[test]
    fn the_first_sentence_says_it_all() {
        let outcomes = Outcomes { records: 86_400, clean: 86_399, rejected: 1, ..Outcomes::default() };
        let mut facts = Facts {
            adapters: vec![Adapter { id: "press".to_owned(), outcomes, ..Adapter::default() }],
            ..Facts::default()
        };
        assert_eq!(
            sentence(&facts, &prove(&facts)),
            "everything that was read is accounted for: 86,400 read, 86,399 clean, 1 dead letter, 0 duplicates; no loss is told"
        );
        let found = &mut facts.adapters[0].outcomes;
        (found.clean, found.without, found.places) = (86_397, 2, vec![(0, 7), (3, 9)]);
        assert_eq!(
            sentence(&facts, &prove(&facts)),
            "2 records are not accounted for: press: telemetry.raw/0/7; telemetry.raw/3/9"
        );
    }
}
