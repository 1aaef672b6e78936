//! What is sent: one file per kind of receiver, each a pure function from a message to bytes, and from the receiver's answer
//! to what became of it.

pub mod email;
pub mod pagerduty;
pub mod slack;
pub mod sms;
pub mod teams;
pub mod text;
pub mod webhook;

use std::time::Duration;

use chrono_tz::Tz;

use super::dispatch::Outcome;

/// What all messages of a gateway have in common.
#[derive(Debug, Clone)]
pub struct Letterhead {
    pub site: String,
    pub gateway: String,
    pub zone: Tz,
    /// Where a person sees the alarms.
    pub link: Option<String>,
}

/// A POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Request {
    fn json(value: &serde_json::Value) -> Self {
        Self { content_type: "application/json", headers: Vec::new(), body: value.to_string().into_bytes() }
    }
}

/// An answer, cut to what is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u64>,
    pub body: String,
}

/// Rules that all HTTP receivers share (RTE-09): 2xx is done; 408, 425, 429 and 5xx may pass; any other is final.
pub fn judge(answer: &Answer) -> Outcome {
    let Answer { status, retry_after, body } = answer;
    let said = text::shorten(&text::one_line(body), 200);
    let reason = if said.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {said}") };
    match status {
        200..=299 => Outcome::Delivered,
        429 | 503 => {
            let after = retry_after.map(Duration::from_secs);
            Outcome::Later { reason, after }
        }
        408 | 425 | 500..=599 => Outcome::Later { reason, after: None },
        _ => Outcome::Refused { reason },
    }
}

#[cfg(test)]
pub(super) mod samples {
    use model::Severity;

    use super::super::notice::{Notice, Transition};
    use super::super::state::{Bundle, Content, Item, Kind};
    use super::Letterhead;

    /// 2026-03-06T14:05:09Z.
    pub(crate) const AT: i64 = 1_772_805_909_000_000;

    pub(crate) fn letterhead() -> Letterhead {
        Letterhead {
            site: "Plant 7".to_owned(),
            gateway: "gw-1".to_owned(),
            zone: chrono_tz::Europe::Berlin,
            link: Some("https://console.example/alarms".to_owned()),
        }
    }

    pub(crate) fn notice() -> Notice {
        Notice {
            key: "gw-1/boiler_3/pressure.hihi".to_owned(),
            occurrence: "gw-1/boiler_3/pressure.hihi/4".to_owned(),
            seq: 9,
            kind: "HIHI".to_owned(),
            severity: Severity::Critical,
            asset: "boiler_3".to_owned(),
            path: None,
            area: Some("hall 2".to_owned()),
            parameter: Some("pressure".to_owned()),
            value: serde_json::json!(92.1),
            limit: Some(90.0),
            unit: Some("bar".to_owned()),
            quality: "GOOD".to_owned(),
            state: "ACTIVE".to_owned(),
            past: false,
            acked: false,
            message: "Boiler pressure far too high".to_owned(),
            consequence: Some("The safety valve opens.".to_owned()),
            action: Some("Reduce the firing.".to_owned()),
            group: Some("boilers".to_owned()),
            chattering: false,
            cause: "limit".to_owned(),
            actor: None,
            comment: None,
            activated_at: Some(AT),
            acked_at: None,
            acked_by: None,
            cleared_at: None,
            shelved_until: None,
            at: AT,
            partition: 3,
            offset: 41,
        }
    }

    pub(crate) fn item(notice: Notice, transition: Transition) -> Item {
        Item {
            id: "00112233445566778899aabbccddeeff".to_owned(),
            content: Content::Alarm { notice: Box::new(notice), transition, waited: None },
            created_at: AT,
            at: AT,
            attempts: 0,
            trouble: None,
            urgent: true,
            individual: false,
            route: Some("route-1".to_owned()),
        }
    }

    /// News of 30 alarms, of which those with an even number stand.
    pub(crate) fn outage() -> Item {
        let mut bundle = Bundle::new("chat", Kind::Outage, None, AT - 3_600_000_000, AT);
        for i in 0..30 {
            let severity = if i == 7 { Severity::Critical } else { Severity::Low };
            let state = if i % 2 == 0 { "ACTIVE" } else { "CLEARED" };
            let occurrence = format!("gw-1/pump_{i}/temp.hi/1");
            let cleared_at = (i % 2 == 1).then_some(AT);
            let one = Notice {
                asset: format!("pump_{i}"),
                occurrence,
                severity,
                cleared_at,
                state: state.to_owned(),
                ..notice()
            };
            bundle.add(&one, Transition::Activated);
        }
        let content = Content::Summary(Box::new(bundle.summary(AT)));
        Item { content, urgent: false, ..item(notice(), Transition::Activated) }
    }

    /// What somebody might write into a name to harm a reader (AC-094).
    pub(crate) fn hostile() -> Notice {
        let name = "A\r\nBcc: x@y <script>alert(1)</script> <!channel> \u{202e}*_[a](http://evil)".to_owned();
        Notice { asset: name.clone(), message: name.clone(), action: Some(name), ..notice() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_and_what_is_final() {
        // RTE-09
        let judged = |status, retry_after| judge(&Answer { status, retry_after, body: String::new() });
        assert_eq!(judged(204, None), Outcome::Delivered);
        for status in [408, 425, 500, 502, 504] {
            assert!(matches!(judged(status, None), Outcome::Later { after: None, .. }), "{status}");
        }
        let asked = Some(Duration::from_secs(30));
        assert!(matches!(judged(429, Some(30)), Outcome::Later { after, .. } if after == asked));
        for status in [301, 400, 401, 403, 404, 410, 413, 418] {
            assert!(matches!(judged(status, None), Outcome::Refused { .. }), "{status}");
        }
    }
}
