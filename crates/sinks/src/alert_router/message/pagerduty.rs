//! PagerDuty's Events API v2: one incident per occurrence, acknowledged and resolved with it.

use model::Severity;
use serde_json::{Value, json};

use super::super::notice::{Notice, Transition};
use super::super::router::digest;
use super::super::state::{Content, Item, Summary};
use super::{Letterhead, Request, text};

const SUMMARY_MAX: usize = 1_024;

/// The event.
pub fn request(item: &Item, head: &Letterhead, routing_key: &str) -> Request {
    let mut event = match &item.content {
        Content::Alarm { notice, transition, .. } => alarm(notice, *transition, item, head),
        Content::Summary(summary) => of_summary(summary, item, head),
        Content::Test => trigger(&item.id, item, head, "info"),
    };
    event["routing_key"] = routing_key.into();
    if let Some(link) = &head.link {
        event["links"] = json!([{ "href": link, "text": "Alarms of the plant" }]);
    }
    event["client"] = text::one_line(&head.gateway).into();
    Request::json(&event)
}

fn alarm(notice: &Notice, transition: Transition, item: &Item, head: &Letterhead) -> Value {
    let key = digest(&["pagerduty", &notice.key, &notice.occurrence]);
    match transition {
        // shelved by a person who knows of it: the incident is seen, not over
        Transition::Acked | Transition::Shelved => json!({ "event_action": "acknowledge", "dedup_key": key }),
        Transition::Cleared => json!({ "event_action": "resolve", "dedup_key": key }),
        Transition::Activated | Transition::Repeated | Transition::Escalated => {
            let mut event = trigger(&key, item, head, severity(notice.severity));
            let payload = &mut event["payload"];
            payload["timestamp"] = text::rfc3339(notice.activated_at.unwrap_or(notice.at)).into();
            payload["source"] = text::one_line(&notice.asset).into();
            payload["component"] = notice.parameter.as_deref().map(text::one_line).into();
            payload["group"] = text::one_line(notice.place()).into();
            payload["class"] = notice.kind.clone().into();
            event
        }
    }
}

fn of_summary(summary: &Summary, item: &Item, head: &Letterhead) -> Value {
    let worst = Severity::ALL.iter().rev().zip(summary.by_severity.iter().rev()).find(|(_, count)| **count > 0);
    let word = match worst {
        Some((worst, _)) if !summary.standing.is_empty() => severity(*worst),
        _ => "info",
    };
    trigger(&item.id, item, head, word)
}

fn trigger(key: &str, item: &Item, head: &Letterhead, severity: &str) -> Value {
    let mut details: serde_json::Map<String, Value> =
        text::facts(item, head).into_iter().map(|(name, fact)| (name.to_owned(), fact.into())).collect();
    let list = text::list(item, head);
    if !list.is_empty() {
        details.insert("Alarms".to_owned(), list.into());
    }
    json!({
        "event_action": "trigger",
        "dedup_key": key,
        "payload": {
            "summary": text::shorten(&text::title(item, head), SUMMARY_MAX),
            "source": text::one_line(&head.gateway),
            "severity": severity,
            "custom_details": details,
        },
    })
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low => "info",
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn event(item: &Item) -> Value {
        serde_json::from_slice(&request(item, &samples::letterhead(), &"k".repeat(32)).body).unwrap()
    }

    #[test]
    fn one_incident_per_occurrence() {
        let of = |transition| event(&samples::item(samples::notice(), transition));
        let (begun, seen, over) = (of(Transition::Activated), of(Transition::Acked), of(Transition::Cleared));
        let actions = [&begun, &seen, &over].map(|event| event["event_action"].clone());
        assert_eq!(actions, ["trigger", "acknowledge", "resolve"]);
        assert_eq!((&begun["dedup_key"], &begun["dedup_key"]), (&seen["dedup_key"], &over["dedup_key"]));
        assert!(begun["dedup_key"].as_str().unwrap().len() <= 255);
        assert_eq!(begun["payload"]["severity"], "critical");
        assert_eq!(begun["payload"]["timestamp"], "2026-03-06T14:05:09.000Z");
        let mut next = samples::notice();
        next.occurrence.push('5');
        assert_ne!(event(&samples::item(next, Transition::Activated))["dedup_key"], begun["dedup_key"]);
    }

    #[test]
    fn a_summary_is_an_incident_as_bad_as_what_stands() {
        let summary = event(&samples::outage());
        assert_eq!(summary["payload"]["severity"], "critical");
        assert_eq!(summary["payload"]["custom_details"]["Alarms"].as_array().map(Vec::len), Some(21));
    }
}
