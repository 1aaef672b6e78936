//! From what a server says to what goes to the stream: events of the source, states of conditions, ends of refreshes.
//!
//! Pure. The details are named here and nowhere else; readers find them in docs/operate/opcua.md.

use model::{AlarmState, Timestamp};

use super::condition::{News, Refreshed};
use super::report::{Condition, Report, quality_of};
use super::settings::Source;
use crate::mqtt::value::hexadecimal;
use crate::notice::{CONDITION_REFRESH, CONDITION_STATE, Notice, SOURCE_EVENT, SourceEvent};

/// Who speaks.
#[derive(Debug, Clone, Copy)]
pub struct Speaker<'a> {
    pub source: &'a Source,
    /// As the adapter names its server.
    pub device: &'a str,
    pub server_uri: &'a str,
}

/// An event that is no state of a condition, or of one that becomes no alarm.
pub fn plain(speaker: Speaker<'_>, report: &Report) -> Notice {
    let mut details = common(speaker, report);
    if let Some(condition) = &report.condition {
        of_condition(&mut details, condition);
    }
    notice(SOURCE_EVENT, speaker, report, details)
}

/// Another state of a condition.
pub fn state(speaker: Speaker<'_>, report: &Report, condition: &Condition, news: News) -> Notice {
    let mut details = common(speaker, report);
    of_condition(&mut details, condition);
    put(&mut details, "active", if condition.facts.is_active() { "true" } else { "false" });
    if let Some(kind) = condition.facts.suppression() {
        put(&mut details, "suppression_kind", kind.as_str());
    }
    states(notice(CONDITION_STATE, speaker, report, details), speaker, news)
}

/// The end of a condition that a refresh did not tell of (AC-044); `about` is what was said of it last.
pub fn ended(speaker: Speaker<'_>, about: &Report, condition: &Condition, news: News, arrived: Timestamp) -> Notice {
    let mut details = common(speaker, about);
    details.retain(|(key, _)| !["source_event_id", "receive_time", "device_time_raw"].contains(key));
    put(&mut details, "condition", &condition.identity);
    put(&mut details, "condition_id", &condition.condition_id);
    put(&mut details, "branch_id", &condition.branch_id);
    put(&mut details, "condition_name", &condition.name);
    put(&mut details, "active", "false");
    put(&mut details, "cleared_by", "refresh");
    let mut ended = states(notice(CONDITION_STATE, speaker, about, details), speaker, news);
    if let Some(source) = &mut ended.source {
        // it is our conclusion, not an event of the server
        source.event_id.clear();
        (source.device_time, source.time_source) = (arrived, model::time_source::GATEWAY);
    }
    ended
}

/// The server has told everything it holds.
pub fn refreshed(speaker: Speaker<'_>, end: &Report, refreshed: &Refreshed) -> Notice {
    let Refreshed { whole, since, order, held, ended } = refreshed;
    let mut details = Vec::new();
    put(&mut details, "device", speaker.device);
    put(&mut details, "server_uri", speaker.server_uri);
    put(&mut details, "origin", &speaker.source.node.to_string());
    put(&mut details, "conditions", &held.to_string());
    put(&mut details, "ended", &ended.len().to_string());
    put(&mut details, "whole", if *whole { "true" } else { "false" });
    put(&mut details, "since", &since.to_string());
    put(&mut details, "order", &order.to_string());
    let message = format!("{} has told its {held} conditions; {} are over", speaker.device, ended.len());
    let mut told = notice(CONDITION_REFRESH, speaker, end, details);
    told.message = message;
    if let Some(source) = &mut told.source {
        // several sources of a subscription are told its end by one event
        source.event_id.clear();
        (source.severity, source.fields) = (None, Vec::new());
    }
    told
}

type Details = Vec<(&'static str, String)>;

/// Only what there is: an event without a field has no detail of that name.
fn put(details: &mut Details, key: &'static str, text: &str) {
    if !text.is_empty() {
        details.push((key, text.to_owned()));
    }
}

fn common(speaker: Speaker<'_>, report: &Report) -> Details {
    let mut details = Vec::new();
    put(&mut details, "device", speaker.device);
    put(&mut details, "server_uri", speaker.server_uri);
    put(&mut details, "origin", &speaker.source.node.to_string());
    put(&mut details, "source_event_id", &hexadecimal(&report.event_id));
    put(&mut details, "source_event_type", &report.event_type);
    put(&mut details, "source_node", &report.source_node);
    put(&mut details, "source_name", &report.source_name);
    put(&mut details, "source_severity", &report.severity.to_string());
    put(&mut details, "receive_time", &report.received.map(|time| time.to_string()).unwrap_or_default());
    put(&mut details, "device_time_raw", report.when.raw.as_deref().unwrap_or_default());
    details
}

fn of_condition(details: &mut Details, condition: &Condition) {
    let facts = condition.facts;
    put(details, "condition", &condition.identity);
    put(details, "condition_id", &condition.condition_id);
    put(details, "branch_id", &condition.branch_id);
    put(details, "condition_name", &condition.name);
    for (key, said) in [
        ("retain", facts.retain),
        ("enabled", facts.enabled),
        ("active_state", facts.active),
        ("acked", facts.acked),
        ("confirmed", facts.confirmed),
        ("suppressed", facts.suppressed),
        ("out_of_service", facts.out_of_service),
        ("shelved", facts.shelved),
    ] {
        put(details, key, said.map_or("", |said| if said { "true" } else { "false" }));
    }
    if let Some(status) = condition.status.filter(|status| *status != 0) {
        put(details, "source_status", &format!("0x{status:08X}"));
    }
    put(details, "comment", &condition.comment);
    put(details, "client_user", &condition.client_user);
}

fn states(notice: Notice, speaker: Speaker<'_>, news: News) -> Notice {
    let mut notice = Notice { from: news.from.map(AlarmState::as_str), to: Some(news.to.as_str()), ..notice };
    put(&mut notice.details, "order", &news.order.to_string());
    put(&mut notice.details, "quiet", if news.quiet { "true" } else { "" });
    debug_assert!(speaker.source.alarms, "what becomes no alarm is told as an event");
    notice
}

fn notice(kind: &'static str, speaker: Speaker<'_>, report: &Report, details: Details) -> Notice {
    let (mut quality, mut quality_reason) =
        quality_of(report.condition.as_ref().and_then(|condition| condition.status));
    if let Some(finding) = report.when.finding
        && quality < model::Quality::Uncertain
    {
        (quality, quality_reason) = (model::Quality::Uncertain, Some(finding));
    }
    let source = SourceEvent {
        asset_id: speaker.source.asset_id.clone(),
        event_id: hexadecimal(&report.event_id),
        severity: Some(speaker.source.severities.of(report.severity).as_str()),
        quality,
        quality_reason,
        device_time: report.when.time,
        time_source: report.when.source,
        fields: report.fields.clone(),
    };
    Notice { details, source: Some(Box::new(source)), ..Notice::new(kind, message_of(report)) }
}

/// A server may leave the text out; a person needs one.
fn message_of(report: &Report) -> String {
    if !report.message.is_empty() {
        return report.message.clone();
    }
    let name = report.condition.as_ref().map_or("", |condition| condition.name.as_str());
    match (report.source_name.as_str(), name) {
        ("", "") => format!("an event of type {}", report.event_type),
        (source, "") => format!("an event of {source}"),
        (source, name) => format!("{source} {name}").trim().to_owned(),
    }
}
