//! Microsoft Teams: an adaptive card to a workflow's webhook.

use serde_json::{Value, json};

use super::super::state::Item;
use super::{Letterhead, Request, text};

/// Teams refuses messages of 28 KB; texts are cut so that they stay below.
const TEXT_MAX: usize = 1_000;

/// The request.
pub fn request(item: &Item, head: &Letterhead) -> Request {
    let facts: Vec<Value> = text::facts(item, head)
        .into_iter()
        .map(|(name, fact)| json!({ "title": name, "value": escape(&text::shorten(&fact, TEXT_MAX)) }))
        .collect();
    let title = escape(&text::shorten(&text::title(item, head), TEXT_MAX));
    let mut body = vec![
        json!({ "type": "TextBlock", "text": title, "weight": "Bolder", "size": "Medium", "wrap": true }),
        json!({ "type": "FactSet", "facts": facts }),
    ];
    for line in text::list(item, head) {
        body.push(
            json!({ "type": "TextBlock", "text": escape(&text::shorten(&line, 300)), "wrap": true, "spacing": "None" }),
        );
    }
    let actions: Vec<Value> = head
        .link
        .iter()
        .map(|link| json!({ "type": "Action.OpenUrl", "title": "Open the alarms", "url": link }))
        .collect();
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard", "version": "1.4", "body": body, "actions": actions,
    });
    Request::json(&json!({
        "type": "message",
        "attachments": [{ "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card }],
    }))
}

/// Cards read a part of Markdown, and mentions in angle brackets.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '*' | '_' | '[' | ']' | '`' | '\\' | '~' | '#' => {
                escaped.push('\\');
                escaped.push(c);
            }
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::super::notice::Transition;
    use super::super::samples;
    use super::*;

    #[test]
    fn names_are_no_markup() {
        // AC-094
        let item = samples::item(samples::hostile(), Transition::Activated);
        let body: Value = serde_json::from_slice(&request(&item, &samples::letterhead()).body).unwrap();
        let text = body["attachments"][0]["content"]["body"][0]["text"].as_str().unwrap();
        assert!(text.contains("&lt;script&gt;") && text.contains(r"\[a\](http://evil)"), "{text}");
        let long = samples::outage();
        assert!(request(&long, &samples::letterhead()).body.len() < 28_000);
    }
}
