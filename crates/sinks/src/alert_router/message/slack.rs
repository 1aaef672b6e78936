//! Slack's incoming webhooks: `{text, blocks}`.

use serde_json::{Value, json};

use super::super::dispatch::Outcome;
use super::super::state::Item;
use super::{Answer, Letterhead, Request, judge, text};

/// Slack refuses longer texts.
const TEXT_MAX: usize = 3_000;
const HEADER_MAX: usize = 150;

/// The request. `text` is what notifications and readers of the screen show.
pub fn request(item: &Item, head: &Letterhead) -> Request {
    let title = text::title(item, head);
    let facts: Vec<String> =
        text::facts(item, head).iter().map(|(name, fact)| format!("*{name}:* {}", escape(fact))).collect();
    let mut blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "text": plain(&text::shorten(&title, HEADER_MAX)) } }),
        section(&facts.join("\n")),
    ];
    let list: Vec<String> = text::list(item, head).iter().map(|line| format!("• {}", escape(line))).collect();
    if !list.is_empty() {
        blocks.push(section(&list.join("\n")));
    }
    if let Some(link) = &head.link {
        blocks.push(section(&format!("<{}|Open the alarms>", escape(link).replace('|', "%7C"))));
    }
    Request::json(&json!({ "text": text::shorten(&escape(&title), TEXT_MAX), "blocks": blocks }))
}

/// What Slack said: `ok` is done; payloads it does not take will never be taken, and a channel that is gone stays gone.
pub fn outcome(answer: &Answer) -> Outcome {
    match judge(answer) {
        Outcome::Delivered if answer.body.trim() != "ok" => {
            let reason = format!("answered {:?} instead of \"ok\"", text::shorten(&text::one_line(&answer.body), 100));
            Outcome::Later { reason, after: None }
        }
        other => other,
    }
}

fn section(markdown: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut(markdown) } })
}

/// Cuts at a line, so that no escaped character is torn.
fn cut(markdown: &str) -> String {
    if markdown.chars().count() <= TEXT_MAX {
        return markdown.to_owned();
    }
    let mut kept = String::new();
    for line in markdown.lines() {
        if kept.chars().count() + line.chars().count() + 5 > TEXT_MAX {
            kept.push_str("\n...");
            break;
        }
        if !kept.is_empty() {
            kept.push('\n');
        }
        kept.push_str(line);
    }
    kept
}

/// The three characters that Slack reads as markup; without them nobody is mentioned and nothing is a link.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// For a text that is no markup and has a short limit: signs that look alike.
fn plain(text: &str) -> String {
    text.replace('&', "+").replace('<', "‹").replace('>', "›")
}

#[cfg(test)]
mod tests {
    use super::super::super::notice::Transition;
    use super::super::samples;
    use super::*;

    #[test]
    fn nobody_is_mentioned_and_the_text_is_filled() {
        // AC-094
        let item = samples::item(samples::hostile(), Transition::Activated);
        let body = String::from_utf8(request(&item, &samples::letterhead()).body).unwrap();
        assert!(!body.contains("<!channel>") && !body.contains("<script>"), "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert!(body["text"].as_str().unwrap().starts_with("[CRIT] Plant 7/A Bcc: x@y &lt;script&gt;"));
    }

    #[test]
    fn limits_hold() {
        let mut notice = samples::notice();
        notice.action = Some("<".repeat(1024));
        for item in [samples::item(notice, Transition::Activated), samples::outage()] {
            let body: Value = serde_json::from_slice(&request(&item, &samples::letterhead()).body).unwrap();
            let blocks = body["blocks"].as_array().unwrap();
            assert!(blocks.len() <= 50);
            for block in blocks {
                assert!(block["text"]["text"].as_str().unwrap().chars().count() <= TEXT_MAX);
            }
        }
    }

    #[test]
    fn only_ok_is_ok() {
        let answered = |status, body: &str| outcome(&Answer { status, retry_after: None, body: body.to_owned() });
        assert_eq!(answered(200, "ok\n"), Outcome::Delivered);
        assert!(matches!(answered(200, "<html>"), Outcome::Later { .. }));
        for (status, body) in [(400, "invalid_payload"), (404, "no_service"), (410, "channel_is_archived")] {
            assert!(matches!(answered(status, body), Outcome::Refused { .. }), "{status}");
        }
    }
}
