//! A staged test of a broker: name, port, TLS, login, subscription, and one message (ui 1.4).
//!
//! For the person who has an address and wants to know who is to blame. Nothing is published; the session ends with the
//! look. What a broker has to say is shown by [`super::listen`].

use std::time::Duration;

use tokio::time::Instant;

use super::codes;
use super::topic;
use super::visit::{Guest, Heard, Visit};
use crate::commission::stages::{Course, Failed, Report, Stage, Words};
use crate::commission::text::shown;

/// Letters of a payload that are shown.
const SHOWN: usize = 120;
/// How long an answer to the subscription may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Runs all stages, telling each as it ends; `wait` is how long a first message may take.
pub async fn probe(guest: &Guest, filter: &str, wait: Duration, tell: &mut (dyn FnMut(&Stage) + Send)) -> Report {
    let mut course = Course::new(tell);
    if let Some(fault) = topic::fault_of_filter(filter) {
        let words = Words::new(format!("the filter {} {fault}", shown(filter, SHOWN)));
        let _failed: Failed = course.fail("filter", words.hint("+ stands for one level, # for everything below"));
    } else if let Ok(mut visit) = guest.enter(&mut course).await {
        // what failed stands in the course
        drop(look(&mut visit, filter, wait, &mut course).await);
        visit.leave().await;
    }
    course.finish(&guest.plan.target())
}

async fn look(visit: &mut Visit, filter: &str, wait: Duration, course: &mut Course<'_>) -> Result<(), Failed> {
    if let Err(error) = visit.subscribe(filter, 1) {
        return Err(course.fail("subscribe", Words::new(daemon::report(&error))));
    }
    // messages may come before the answer
    let mut first = None;
    let answer_by = Instant::now() + ANSWER_MAX;
    loop {
        match visit.next(answer_by).await {
            Ok(Some(Heard::Subscribed(Ok(qos)))) if qos < 1 => {
                let words = Words::new(format!("{} with quality of service 0 only", shown(filter, SHOWN)));
                let hint = "messages may be lost: let the user have 1 at the broker, or set qos: 0";
                course.warn("subscribe", words.hint(hint));
                break;
            }
            Ok(Some(Heard::Subscribed(Ok(qos)))) => {
                course.ok("subscribe", Words::new(format!("{} with quality of service {qos}", shown(filter, SHOWN))));
                break;
            }
            Ok(Some(Heard::Subscribed(Err(code)))) => {
                let words = Words::new(format!("{} is refused: {code}", shown(filter, SHOWN)));
                return Err(course.fail("subscribe", words.hint(codes::subscription(&code))));
            }
            Ok(Some(Heard::Goodbye(reason))) => return Err(course.fail("subscribe", goodbye(&reason))),
            Ok(Some(heard)) => first = first.or_else(|| described(&heard)),
            Ok(None) => {
                let words = Words::new(format!("no answer to the subscription within {ANSWER_MAX:?}"));
                return Err(course.fail("subscribe", words.hint("the broker is overloaded, or is none")));
            }
            Err(error) => {
                let words = Words::new(format!("after the subscription: {}", daemon::report(&error)));
                let hint = "some brokers hang up on a filter that the user may not read: look at the access list";
                return Err(course.fail("subscribe", words.hint(hint)));
            }
        }
    }
    let deadline = Instant::now() + wait;
    while first.is_none() {
        match visit.next(deadline).await {
            Ok(Some(Heard::Goodbye(reason))) => return Err(course.fail("message", goodbye(&reason))),
            Ok(Some(heard)) => first = described(&heard),
            Ok(None) => break,
            Err(error) => return Err(course.fail("message", Words::new(daemon::report(&error)))),
        }
    }
    match first {
        Some(first) => course.ok("message", Words::new(first)),
        None => {
            let words = Words::new(format!("none to {} in {} s", shown(filter, SHOWN), wait.as_secs()));
            let hint = "another filter, or nobody sends now and nothing is retained; some access lists hold messages \
                        back without saying so";
            course.warn("message", words.hint(hint));
        }
    }
    Ok(())
}

fn goodbye(reason: &str) -> Words {
    Words::new(format!("the broker ends the connection: {}", shown(reason, 200)))
}

fn described(heard: &Heard) -> Option<String> {
    match heard {
        Heard::Message(message) => {
            let kept = if message.retain { " (retained)" } else { "" };
            let topic = shown(&message.topic, 200);
            Some(format!("{topic}{kept}  {}", payload(&message.payload, SHOWN)))
        }
        Heard::TooLarge { topic, bytes } => {
            Some(format!("{}  {bytes} bytes, too large to be shown", shown(topic, 200)))
        }
        Heard::Subscribed(_) | Heard::Goodbye(_) => None,
    }
}

/// A payload for a person: text when it is one, else bytes.
pub fn payload(payload: &[u8], max: usize) -> String {
    // a letter has up to four bytes; the rest of a long text need not be looked at
    let head = &payload[..payload.len().min(max.saturating_mul(4) + 4)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() && head.len() < payload.len() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    match text {
        Some("") => "(empty)".to_owned(),
        Some(text) => shown(text, max),
        None => {
            let bytes = &payload[..payload.len().min(max / 2)];
            let more = if bytes.len() < payload.len() { "…" } else { "" };
            format!("0x{}{more}", super::value::hexadecimal(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // G-11
    #[test]
    fn payloads_are_shown_escaped_and_cut() {
        assert_eq!(payload(b"21.5\n", 80), "21.5\\u000a");
        assert_eq!(payload(b"\x1b[2J", 80), "\\u001b[2J");
        assert_eq!(payload(&[0xFF, 0, 1], 80), "0xFF0001");
        assert_eq!(payload("ä".repeat(1000).as_bytes(), 3), "äää…");
        assert_eq!(payload(&[0xFF; 100], 4), "0xFFFF…");
        assert_eq!(payload(b"", 4), "(empty)");
    }
}
