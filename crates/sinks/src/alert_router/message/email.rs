//! E-mail: a subject, a text, and the same as HTML. Messages of one occurrence are one thread.

use super::super::router::digest;
use super::super::state::{Content, Item};
use super::{Letterhead, text};

const SUBJECT_MAX: usize = 180;

/// What a mail says; who gets it is the sender's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Without a line break.
    pub subject: String,
    pub text: String,
    pub html: String,
    /// `<...@...>`, the same when the mail is sent again.
    pub message_id: String,
    /// `<...@...>` of the thread.
    pub references: Option<String>,
    /// Mail readers show it as important.
    pub urgent: bool,
}

/// The mail.
pub fn mail(item: &Item, head: &Letterhead) -> Mail {
    let title = text::title(item, head);
    let facts = text::facts(item, head);
    let list = text::list(item, head);
    let (mut plain, mut html) = (vec![title.clone(), String::new()], vec![format!("<h3>{}</h3>", escape(&title))]);
    html.push("<table>".to_owned());
    for (name, fact) in &facts {
        plain.push(format!("{name}: {fact}"));
        html.push(format!("<tr><th align=\"left\">{}</th><td>{}</td></tr>", escape(name), escape(fact)));
    }
    html.push("</table>".to_owned());
    if !list.is_empty() {
        plain.push(String::new());
        plain.extend(list.iter().map(|line| format!("- {line}")));
        html.push("<ul>".to_owned());
        html.extend(list.iter().map(|line| format!("<li>{}</li>", escape(line))));
        html.push("</ul>".to_owned());
    }
    if let Some(link) = head.link.as_deref().map(text::one_line) {
        plain.extend([String::new(), format!("Alarms: {link}")]);
        html.push(format!("<p><a href=\"{}\">Open the alarms</a></p>", escape(&link)));
    }
    let gateway = text::one_line(&head.gateway);
    plain.extend([String::new(), format!("Sent by gateway {gateway}. Not a safety function.")]);
    html.push(format!("<p>Sent by gateway {}. Not a safety function.</p>", escape(&gateway)));
    let domain = format!("{}.streamforge.invalid", digest(&[&head.gateway]));
    let thread = match &item.content {
        Content::Alarm { notice, .. } => Some(digest(&["thread", &notice.occurrence])),
        Content::Summary(_) | Content::Test => None,
    };
    Mail {
        subject: text::shorten(&title, SUBJECT_MAX),
        text: plain.join("\n") + "\n",
        html: html.join("\n") + "\n",
        message_id: format!("<{}@{domain}>", item.id),
        references: thread.map(|thread| format!("<{thread}@{domain}>")),
        urgent: item.urgent,
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
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
    fn messages_of_an_occurrence_are_a_thread() {
        let of = |transition| mail(&samples::item(samples::notice(), transition), &samples::letterhead());
        let (begun, over) = (of(Transition::Activated), of(Transition::Cleared));
        assert_eq!(begun.subject, "[CRIT] Plant 7/boiler_3 Boiler pressure far too high");
        assert_eq!(begun.references, over.references);
        assert!(begun.references.is_some());
        assert!(begun.text.contains("Value: 92.1 bar (limit 90 bar)\n"), "{}", begun.text);
        assert!(begun.text.contains("What to do: Reduce the firing.\n"));
    }

    #[test]
    fn a_name_is_neither_a_header_nor_markup() {
        // AC-094
        let mail = mail(&samples::item(samples::hostile(), Transition::Activated), &samples::letterhead());
        assert!(!mail.subject.contains(['\r', '\n']), "{:?}", mail.subject);
        assert!(!mail.html.contains("<script>"), "{}", mail.html);
        assert!(!mail.text.contains("\nBcc:"), "{}", mail.text);
    }
}
