//! Short messages of one segment: 160 characters of the GSM alphabet, 70 when any other is needed.

use super::super::channel::Sms;
use super::super::notice::{Notice, Transition};
use super::super::router::digest;
use super::super::state::{Content, Item};
use super::{Letterhead, Request, text};

const GSM_MAX: usize = 160;
const UCS2_MAX: usize = 70;
/// GSM 03.38 without what ASCII shares with it.
const GSM_MORE: &str = "£¥èéùìòÇØøÅåΔΦΓΛΩΠΨΣΘΞÆæßÉ¤¡ÄÖÑÜ§¿äöñüà\n";
/// ASCII that GSM does not have, or has for two.
const NOT_GSM: &str = "`";
const GSM_DOUBLE: &str = "^{}\\[~]|€";

/// The text: `CRIT Plant 7 boiler_3 Boiler pressure far too high 92.1bar>90 14:05Z #ab12`.
pub fn message(item: &Item, head: &Letterhead) -> String {
    let site = text::one_line(&head.site);
    let clock =
        |at: i64| super::super::hours::local(chrono_tz::UTC, model::Timestamp::from_micros(at)).format("%H:%MZ");
    let (begin, end) = match &item.content {
        Content::Alarm { notice, transition, .. } => {
            let word = match transition {
                Transition::Activated => "",
                Transition::Repeated => "STILL ",
                Transition::Acked => "ACK ",
                Transition::Cleared => "CLEARED ",
                Transition::Shelved => "SHELVED ",
                Transition::Escalated => "NOT ACKED ",
            };
            let severity = text::short_severity(notice.severity.as_str());
            let begin = format!("{word}{severity} {site} {} {}", text::one_line(&notice.asset), text::name(notice));
            let at = notice.activated_at.unwrap_or(notice.at);
            let number = &digest(&[&notice.occurrence])[..4];
            (begin, format!(" {} {} #{number}", reading(notice), clock(at)))
        }
        Content::Summary(summary) => {
            let [.., high, critical] = summary.by_severity;
            let title = text::title(item, head);
            let begin = title.trim_start_matches("[SUMMARY] ").to_owned();
            (begin, format!(" (CRIT {critical}, HIGH {high}) {}", clock(summary.to_at)))
        }
        Content::Test => (format!("TEST {site} test message, nothing happened"), format!(" {}", clock(item.at))),
    };
    fit(&transliterate(&begin), &transliterate(&end))
}

/// The request for one number.
pub fn request(text: &str, to: &str, sms: &Sms) -> Request {
    if sms.twilio {
        let form = |name: &str, value: &str| format!("{name}={}", percent(value));
        let body = [form("To", to), form("From", &sms.from), form("Body", text)].join("&");
        let content_type = "application/x-www-form-urlencoded";
        return Request { content_type, headers: Vec::new(), body: body.into_bytes() };
    }
    Request::json(&serde_json::json!({ "to": to, "from": sms.from, "text": text }))
}

/// The path of Twilio's call below its address.
pub fn twilio_path(account: &str) -> String {
    format!("2010-04-01/Accounts/{}/Messages.json", percent(account))
}

fn reading(notice: &Notice) -> String {
    let unit = notice.unit.as_deref().map(text::one_line).unwrap_or_default();
    let sign = match notice.kind.as_str() {
        "HIHI" | "HI" => ">",
        "LOLO" | "LO" => "<",
        _ => return format!("{}{unit}", text::shorten(&text::value(&notice.value), 20)),
    };
    let limit = notice.limit.map(text::rounded).unwrap_or_default();
    format!("{}{unit}{sign}{limit}", text::shorten(&text::value(&notice.value), 20))
}

/// Keeps the end, which names the value, the time and the number, and cuts the beginning.
fn fit(begin: &str, end: &str) -> String {
    let whole = format!("{begin}{end}");
    let (size, max): (fn(&str) -> usize, usize) =
        if whole.chars().all(is_gsm) { (gsm_size, GSM_MAX) } else { (|text| text.encode_utf16().count(), UCS2_MAX) };
    if size(&whole) <= max {
        return whole;
    }
    let room = max.saturating_sub(size(end) + 2); // two dots tell that something is missing
    let mut kept = String::new();
    for c in begin.chars() {
        kept.push(c);
        if size(&kept) > room {
            kept.pop();
            break;
        }
    }
    format!("{}..{end}", kept.trim_end())
}

fn is_gsm(c: char) -> bool {
    let ascii = (c.is_ascii_graphic() || c == ' ') && !NOT_GSM.contains(c);
    ascii || GSM_MORE.contains(c) || GSM_DOUBLE.contains(c)
}

fn gsm_size(text: &str) -> usize {
    text.chars().map(|c| if GSM_DOUBLE.contains(c) { 2 } else { 1 }).sum()
}

/// Spells units and names with the letters of the GSM alphabet where people read them as well.
fn transliterate(text: &str) -> String {
    let mut spelled = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '°' => {} // 21°C is 21C
            '²' => spelled.push('2'),
            '³' => spelled.push('3'),
            '‘' | '’' | '`' | '´' => spelled.push('\''),
            '“' | '”' | '„' => spelled.push('"'),
            '–' | '—' | '−' => spelled.push('-'),
            '…' => spelled.push_str("..."),
            '×' => spelled.push('x'),
            '·' => spelled.push('.'),
            'á' | 'â' | 'ã' | 'ą' | 'ă' => spelled.push('a'),
            'ç' | 'ć' | 'č' => spelled.push('c'),
            'ê' | 'ë' | 'ę' | 'ě' => spelled.push('e'),
            'í' | 'î' | 'ï' => spelled.push('i'),
            'ł' => spelled.push('l'),
            'ń' | 'ň' => spelled.push('n'),
            'ó' | 'ô' | 'õ' | 'ő' => spelled.push('o'),
            'ř' => spelled.push('r'),
            'ś' | 'š' | 'ş' => spelled.push('s'),
            'µ' | 'μ' | 'ú' | 'û' | 'ů' | 'ű' => spelled.push('u'),
            'ý' | 'ÿ' => spelled.push('y'),
            'ź' | 'ż' | 'ž' => spelled.push('z'),
            other => spelled.push(other),
        }
    }
    spelled
}

/// Percent encoding of everything but what RFC 3986 (section 2.3) leaves unreserved.
fn percent(text: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => write!(encoded, "%{other:02X}").expect("writing into a text cannot fail"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::super::super::channel::Link;
    use super::super::samples;
    use super::*;

    fn sent(notice: Notice) -> String {
        message(&samples::item(notice, Transition::Activated), &samples::letterhead())
    }

    #[test]
    fn one_segment_says_what_where_how_much_and_when() {
        let text = sent(samples::notice());
        assert!(text.starts_with("CRIT Plant 7 boiler_3 Boiler pressure far too high 92.1bar>90 14:05Z #"), "{text}");
        assert!(gsm_size(&text) <= GSM_MAX && text.chars().all(is_gsm));
    }

    #[test]
    fn long_names_lose_their_end_and_the_value_stays() {
        let long =
            Notice { message: "Überhitzung [Lager] ".repeat(20), unit: Some("°C".to_owned()), ..samples::notice() };
        let text = sent(long);
        assert!(gsm_size(&text) <= GSM_MAX && gsm_size(&text) > 150, "{text}");
        assert!(text.contains(".. 92.1C>90 14:05Z #"), "{text}");
        let foreign = sent(Notice { message: "圧力が高すぎる".repeat(20), ..samples::notice() });
        assert!(foreign.encode_utf16().count() <= UCS2_MAX && foreign.contains("92.1bar>90"), "{foreign}");
        let summary = message(&samples::outage(), &samples::letterhead());
        assert_eq!(summary, "Plant 7 30 alarms during outage, 15 still active (CRIT 1, HIGH 0) 14:05Z");
    }

    #[test]
    fn providers_get_it_their_way() {
        let mut sms = Sms {
            url: Link::Plain("https://sms.example".to_owned()),
            twilio: true,
            login: None,
            from: "+15550100".to_owned(),
            to: Vec::new(),
        };
        let body = String::from_utf8(request("a&b ü", "+4915112345678", &sms).body).unwrap();
        assert_eq!(body, "To=%2B4915112345678&From=%2B15550100&Body=a%26b%20%C3%BC");
        sms.twilio = false;
        let body: serde_json::Value = serde_json::from_slice(&request("a", "+49", &sms).body).unwrap();
        assert_eq!(body, serde_json::json!({ "to": "+49", "from": "+15550100", "text": "a" }));
    }
}
