//! Words, numbers and times of messages.

use std::fmt::Write;

use chrono::SecondsFormat;
use model::{Severity, Timestamp};
use serde_json::{Value, json};

use super::super::hours::local;
use super::super::notice::{Notice, Transition};
use super::super::state::{Content, Item, Kind, Line, Summary};
use super::Letterhead;

/// Digits that are shown of a number.
const DIGITS: i32 = 6;

/// `CRIT`, `HIGH`, `MED`, `LOW`.
pub fn short_severity(severity: &str) -> &'static str {
    match Severity::parse(severity) {
        Some(Severity::Low) => "LOW",
        Some(Severity::Medium) => "MED",
        Some(Severity::High) => "HIGH",
        Some(Severity::Critical) | None => "CRIT",
    }
}

/// A text without line breaks and without signs that steer a reader's screen.
pub fn one_line(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let cleaned: String = text.chars().map(|c| if steers(c) { ' ' } else { c }).collect();
    cleaned.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most so many characters, with a sign that some are missing.
pub fn shorten(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(3)).collect();
    short.push_str("...");
    short
}

/// A value as people read it: six digits at most, texts on one line.
pub fn value(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => shorten(&one_line(text), 100),
        Value::Number(number) if number.is_f64() => number.as_f64().map_or_else(String::new, rounded),
        other => other.to_string(),
    }
}

/// A number with six digits at most.
pub fn rounded(number: f64) -> String {
    if number == 0.0 || !number.is_finite() {
        return "0".to_owned();
    }
    #[expect(clippy::cast_possible_truncation, reason = "the exponent of a double is below 400")]
    let exponent = number.abs().log10().floor() as i32;
    let decimals = usize::try_from((DIGITS - 1 - exponent).clamp(0, 12)).unwrap_or(0);
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `92.1 bar (limit 90 bar)`.
pub fn reading(notice: &Notice) -> String {
    let unit = notice.unit.as_deref().map(|unit| format!(" {}", one_line(unit))).unwrap_or_default();
    let mut text = format!("{}{unit}", value(&notice.value));
    if let Some(limit) = notice.limit {
        write!(text, " (limit {}{unit})", rounded(limit)).expect("writing into a text cannot fail");
    }
    if notice.quality != "GOOD" {
        write!(text, ", quality {}", notice.quality).expect("writing into a text cannot fail");
    }
    text
}

/// A moment on the plant's clock with its offset, and in UTC.
pub fn both_times(at: i64, head: &Letterhead) -> String {
    let at = Timestamp::from_micros(at);
    let there = local(head.zone, at);
    let utc = local(chrono_tz::UTC, at).format("%H:%M:%SZ");
    format!("{} ({utc})", there.format("%Y-%m-%d %H:%M:%S %:z"))
}

/// RFC 3339 in UTC.
pub fn rfc3339(at: i64) -> String {
    local(chrono_tz::UTC, Timestamp::from_micros(at)).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `5 min`, `2 h 10 min`.
pub fn length(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, _) => format!("{minutes} min"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// What an alarm's name is to a person: its message, or what it looks at.
pub fn name(notice: &Notice) -> String {
    let message = one_line(&notice.message);
    if !message.is_empty() {
        return message;
    }
    let last = notice.key.rsplit('/').next().unwrap_or_default();
    one_line(last)
}

/// The one line that everything is told with: `[CRIT] Plant 7/boiler_3 Boiler pressure far too high`.
pub fn title(item: &Item, head: &Letterhead) -> String {
    let site = one_line(&head.site);
    match &item.content {
        Content::Alarm { notice, transition, waited } => {
            let severity = short_severity(notice.severity.as_str());
            let what = match (transition, waited) {
                (Transition::Activated, _) => String::new(),
                (Transition::Repeated, _) => "STILL ACTIVE: ".to_owned(),
                (Transition::Acked, _) => "acknowledged: ".to_owned(),
                (Transition::Cleared, _) => "cleared: ".to_owned(),
                (Transition::Shelved, _) => "shelved: ".to_owned(),
                (Transition::Escalated, Some(waited)) => format!("NOT ACKNOWLEDGED for {}: ", length(*waited)),
                (Transition::Escalated, None) => "NOT ACKNOWLEDGED: ".to_owned(),
            };
            format!("[{severity}] {site}/{} {what}{}", one_line(&notice.asset), name(notice))
        }
        Content::Summary(summary) => {
            let standing = summary.standing.len();
            let count = summary.total;
            let alarms = if count == 1 { "alarm" } else { "alarms" };
            let what = match summary.kind {
                Kind::Digest => format!("{count} {alarms}, {standing} still active"),
                Kind::Group => format!("{count} {alarms}, {standing} active"),
                Kind::Quiet => format!("{count} {alarms} during quiet hours, {standing} still active"),
                Kind::Flood => format!("ALARM FLOOD: {count} more {alarms}, {standing} still active"),
                Kind::Outage => format!("{count} {alarms} during outage, {standing} still active"),
            };
            format!("[SUMMARY] {site} {what}")
        }
        Content::Test => format!("[TEST] {site} test message, nothing happened"),
    }
}

/// The facts below the title, as name and text.
pub fn facts(item: &Item, head: &Letterhead) -> Vec<(&'static str, String)> {
    match &item.content {
        Content::Alarm { notice, .. } => alarm_facts(notice, head),
        Content::Summary(summary) => summary_facts(summary, head),
        Content::Test => vec![
            ("Gateway", one_line(&head.gateway)),
            ("Time", both_times(item.at, head)),
            ("Meaning", "Somebody checks that messages arrive here. No alarm is behind it.".to_owned()),
        ],
    }
}

fn alarm_facts(notice: &Notice, head: &Letterhead) -> Vec<(&'static str, String)> {
    let mut facts = vec![("Severity", notice.severity.as_str().to_owned())];
    let place = notice.place();
    if !place.is_empty() {
        facts.push(("Area", one_line(place)));
    }
    facts.push(("Asset", one_line(&notice.asset)));
    if let Some(parameter) = &notice.parameter {
        facts.push(("Parameter", one_line(parameter)));
    }
    facts.push(("Value", reading(notice)));
    let times = [
        ("Active since", notice.activated_at),
        ("Cleared", notice.cleared_at),
        ("Shelved until", notice.shelved_until),
    ];
    let standing = notice.is_standing();
    for (name, at) in times {
        if let Some(at) = at.filter(|_| name != "Cleared" || !standing) {
            facts.push((name, both_times(at, head)));
        }
    }
    if let Some(at) = notice.acked_at.filter(|_| notice.acked) {
        let by = notice.acked_by.as_deref().map(one_line).unwrap_or_default();
        facts.push(("Acknowledged", format!("{} {by}", both_times(at, head)).trim_end().to_owned()));
    }
    let texts = [("Consequence", &notice.consequence), ("What to do", &notice.action), ("Comment", &notice.comment)];
    for (name, text) in texts {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            facts.push((name, one_line(text)));
        }
    }
    if notice.chattering {
        facts.push(("Note", "This alarm comes and goes all the time (chattering).".to_owned()));
    }
    facts.push(("Occurrence", one_line(&notice.occurrence)));
    facts
}

fn summary_facts(summary: &Summary, head: &Letterhead) -> Vec<(&'static str, String)> {
    let [low, medium, high, critical] = summary.by_severity;
    let mut facts = vec![
        ("From", both_times(summary.from_at, head)),
        ("To", both_times(summary.to_at, head)),
        ("By severity", format!("{critical} critical, {high} high, {medium} medium, {low} low")),
    ];
    let group: Vec<String> =
        summary.group.iter().map(|(field, value)| format!("{field} {}", one_line(value))).collect();
    if !group.is_empty() {
        facts.push(("Group", group.join(", ")));
    }
    facts
}

/// The alarms a summary lists, one line each, and how many it does not.
pub fn list(item: &Item, head: &Letterhead) -> Vec<String> {
    let Content::Summary(summary) = &item.content else { return Vec::new() };
    let mut lines: Vec<String> = summary.lines.iter().map(|one| line(one, head)).collect();
    let more = usize::try_from(summary.total).unwrap_or(usize::MAX).saturating_sub(lines.len());
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

fn line(line: &Line, head: &Letterhead) -> String {
    let clock = |at: i64| local(head.zone, Timestamp::from_micros(at)).format("%d.%m. %H:%M").to_string();
    let from = line.activated_at.map(clock).unwrap_or_default();
    let state = match (line.cleared_at, line.acked) {
        (Some(cleared), _) => format!("until {}", clock(cleared)),
        (None, true) => "active, acknowledged".to_owned(),
        (None, false) => "active".to_owned(),
    };
    let unit = line.unit.as_deref().map(|unit| format!(" {}", one_line(unit))).unwrap_or_default();
    let severity = short_severity(&line.severity);
    let (asset, message) = (one_line(&line.asset), one_line(&line.message));
    format!("{severity} {asset} {message}: {}{unit}, {from} {state}", value(&line.value))
}

/// The message as data: what a webhook gets, and what a dead letter keeps.
pub fn document(item: &Item, head: &Letterhead) -> Value {
    let mut document = json!({
        "delivery_id": item.id,
        "schema": 1,
        "event": event(item),
        "title": title(item, head),
        "site": head.site,
        "gateway": head.gateway,
        "route": item.route,
        "links": { "alarms": head.link },
    });
    let more = match &item.content {
        Content::Alarm { notice, waited, .. } => {
            json!({ "alarm": alarm(notice), "unacknowledged_for_s": waited.map(|waited| waited / 1_000_000) })
        }
        Content::Summary(summary) => json!({ "summary": summary_document(summary) }),
        Content::Test => json!({ "test": true }),
    };
    if let (Some(document), Value::Object(more)) = (document.as_object_mut(), more) {
        document.extend(more);
    }
    document
}

/// The word of what is told: `alarm.activated`, `summary.outage`, `test`.
pub fn event(item: &Item) -> String {
    match &item.content {
        Content::Alarm { transition, .. } => format!("alarm.{}", transition.as_str()),
        Content::Summary(summary) => format!("summary.{}", summary.kind.as_str()),
        Content::Test => "test".to_owned(),
    }
}

fn alarm(notice: &Notice) -> Value {
    let time = |at: Option<i64>| at.map(rfc3339);
    json!({
        "key": notice.key, "occurrence_id": notice.occurrence, "seq": notice.seq, "type": notice.kind,
        "severity": notice.severity.as_str(), "state": notice.state, "acked": notice.acked,
        "asset": notice.asset, "path": notice.path, "area": notice.area, "parameter": notice.parameter,
        "value": notice.value, "unit": notice.unit, "limit": notice.limit, "quality": notice.quality,
        "message": notice.message, "consequence": notice.consequence, "action": notice.action,
        "group": notice.group, "chattering": notice.chattering, "cause": notice.cause,
        "actor": notice.actor, "comment": notice.comment,
        "activated_at": time(notice.activated_at), "acked_at": time(notice.acked_at), "acked_by": notice.acked_by,
        "cleared_at": time(notice.cleared_at), "shelved_until": time(notice.shelved_until),
    })
}

fn summary_document(summary: &Summary) -> Value {
    let line = |line: &Line| {
        json!({
            "occurrence_id": line.occurrence, "severity": line.severity, "asset": line.asset, "message": line.message,
            "value": line.value, "unit": line.unit, "activated_at": line.activated_at.map(rfc3339),
            "cleared_at": line.cleared_at.map(rfc3339), "acked": line.acked,
        })
    };
    let [low, medium, high, critical] = summary.by_severity;
    json!({
        "kind": summary.kind.as_str(), "from": rfc3339(summary.from_at), "to": rfc3339(summary.to_at),
        "alarms": summary.total, "still_active": summary.standing.len(),
        "by_severity": { "LOW": low, "MEDIUM": medium, "HIGH": high, "CRITICAL": critical },
        "group": summary.group.iter().map(|(field, value)| (field.clone(), Value::from(value.as_str()))).collect::<serde_json::Map<_, _>>(),
        "listed": summary.lines.iter().map(line).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn titles_say_what_happened_to_what() {
        let head = samples::letterhead();
        let titled = |transition| title(&samples::item(samples::notice(), transition), &head);
        assert_eq!(titled(Transition::Activated), "[CRIT] Plant 7/boiler_3 Boiler pressure far too high");
        assert_eq!(titled(Transition::Cleared), "[CRIT] Plant 7/boiler_3 cleared: Boiler pressure far too high");
        assert_eq!(title(&samples::outage(), &head), "[SUMMARY] Plant 7 30 alarms during outage, 15 still active");
    }

    #[test]
    fn times_are_the_plants_and_utc() {
        let head = samples::letterhead();
        assert_eq!(both_times(samples::AT, &head), "2026-03-06 15:05:09 +01:00 (14:05:09Z)");
    }

    #[test]
    fn twenty_are_listed_the_worst_first_and_the_rest_is_counted() {
        // RTE-04
        let lines = list(&samples::outage(), &samples::letterhead());
        assert_eq!(lines.len(), 21);
        assert!(lines[0].starts_with("CRIT pump_7 "), "{}", lines[0]);
        assert!(lines[0].ends_with("until 06.03. 15:05"), "{}", lines[0]);
        assert_eq!(lines[20], "and 10 more");
    }

    #[test]
    fn numbers_have_six_digits() {
        let cases = [
            (92.1, "92.1"),
            (92.100_000_000_000_01, "92.1"),
            (0.000_012_345_678, "0.0000123457"),
            (1e9, "1000000000"),
            (-40.0, "-40"),
        ];
        for (number, text) in cases {
            assert_eq!(rounded(number), text);
        }
    }

    #[test]
    fn nothing_in_a_name_steers_the_reader() {
        // AC-094
        let line = one_line(&samples::hostile().asset);
        assert!(!line.contains(['\r', '\n', '\u{202e}']), "{line:?}");
        assert_eq!(shorten("äöüß", 3), "...");
    }
}
