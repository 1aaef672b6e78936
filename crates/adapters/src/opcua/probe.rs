//! A staged test of a server: name, port, greeting, endpoints, certificates, session, login, and one read (ui 1.4).
//!
//! For the person who has an address and wants to know who is to blame. Nothing is written and nothing subscribed; the
//! session ends with the look.

use super::node::Identity;
use super::session::{state_name, value_of};
use super::stack::{DataValue, NodeId, ServerStatusDataType, Variant, clean, micros, name_of};
use super::visit::{Guest, Visit, skewed};
use crate::commission::stages::{Course, Failed, Report, Stage, Words};
use model::{Clock, SystemClock};

/// `Server_ServerStatus`.
const SERVER_STATUS: u32 = 2256;
/// What the server takes of one request; 0 means that it does not limit it.
const LIMITS: [(u32, &str); 9] = [
    (11_705, "nodes per read"),
    (11_710, "nodes per browse"),
    (11_712, "paths per translation"),
    (11_714, "monitored items per call"),
    (12_165, "nodes per read of history"),
    (2735, "continuation points"),
    (24_095, "sessions"),
    (24_098, "subscriptions per session"),
    (24_097, "monitored items"),
];
/// Clocks may differ by so much.
const SKEW_MAX_S: i64 = 300;

/// Runs all stages, telling each as it ends.
pub async fn probe(guest: &Guest, tell: &mut (dyn FnMut(&Stage) + Send)) -> Report {
    let mut course = Course::new(tell);
    if let Ok(mut visit) = guest.enter(&mut course).await {
        // what failed stands in the course
        drop(look(&mut visit, &mut course).await);
        visit.leave().await;
    }
    course.finish(&guest.plan.servers[0].url)
}

async fn look(visit: &mut Visit, course: &mut Course<'_>) -> Result<(), Failed> {
    let asked = LIMITS.iter().map(|(node, _)| value_of(&NodeId::new(0, *node))).collect();
    match visit.asker().read(asked).await {
        Ok(answers) => {
            let known = limits(&answers);
            let words = if known.is_empty() {
                Words::new("the server names none; 100 are asked for at once, fewer when it refuses that")
            } else {
                Words::new("what it takes at once; more is asked for in parts").with(known)
            };
            course.ok("limits", words);
        }
        Err(error) => return Err(course.fail("limits", visit.words(error))),
    }
    let status = value_of(&NodeId::new(0, SERVER_STATUS));
    let answer = match visit.asker().read(vec![status]).await {
        Ok(answers) => answers.into_iter().next().unwrap_or_default(),
        Err(error) => return Err(course.fail("read", visit.words(error))),
    };
    if answer.status().is_bad() {
        let code = name_of(answer.status());
        let hint = super::hints::of_status(&code, "", "");
        return Err(course.fail("read", Words::new(format!("Server_ServerStatus: {code}")).hint(hint)));
    }
    match status_of(&answer) {
        Some((words, is_well)) if is_well => course.ok("read", words),
        Some((words, _)) => course.warn("read", words),
        None => course.warn("read", Words::new("Server_ServerStatus was read, and is none we can understand")),
    }
    Ok(())
}

fn limits(answers: &[DataValue]) -> Vec<String> {
    let number = |data: &DataValue| match &data.value {
        Some(Variant::UInt32(number)) => Some(*number),
        Some(Variant::UInt16(number)) => Some(u32::from(*number)),
        _ => None,
    };
    let line = |(data, (_, name)): (&DataValue, &(u32, &str))| {
        let limit = number(data).filter(|_| !data.status().is_bad())?;
        Some(if limit == 0 { format!("{name}: no limit") } else { format!("{name}: {limit}") })
    };
    answers.iter().zip(&LIMITS).filter_map(line).collect()
}

/// State, product and clock of the server, and whether all is well with them.
fn status_of(answer: &DataValue) -> Option<(Words, bool)> {
    let Some(Variant::ExtensionObject(object)) = &answer.value else { return None };
    let status = object.inner_as::<ServerStatusDataType>()?;
    let state = status.state as i32;
    let build = &status.build_info;
    let product: Vec<String> = [&build.manufacturer_name, &build.product_name, &build.software_version]
        .iter()
        .map(|text| clean(text.as_ref()))
        .filter(|text| !text.is_empty())
        .collect();
    let mut facts = Vec::new();
    if !product.is_empty() {
        facts.push(product.join(", "));
    }
    if let Some(since) = micros(&status.start_time) {
        facts.push(format!("runs since {}", model::Timestamp::from_micros(since)));
    }
    let words = Words::new(format!("Server_ServerStatus ({}): {}", node_name(), state_name(state))).with(facts);
    if state != 0 {
        return Some((words.hint("it answers and does not run: its values are UNCERTAIN until it does"), false));
    }
    let theirs = micros(&status.current_time)?;
    let skew = (theirs - SystemClock.now().as_micros()) / 1_000_000;
    if skew.abs() > SKEW_MAX_S {
        return Some((words.hint(skewed(skew)), false));
    }
    Some((words, true))
}

fn node_name() -> String {
    Identity { namespace: super::node::STANDARD.to_owned(), id: NodeId::new(0, SERVER_STATUS).identifier }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcua::stack::{DateTime, ExtensionObject, StatusCode, date_time};

    fn status(state: i32, ahead_s: i64) -> DataValue {
        let now = SystemClock.now().as_micros() + ahead_s * 1_000_000;
        let mut status = ServerStatusDataType { current_time: date_time(now), ..Default::default() };
        status.state = state.try_into().unwrap();
        status.build_info.product_name = "Line\u{1b}[2J".into();
        status.start_time = DateTime::null();
        let value = Variant::ExtensionObject(ExtensionObject::from_message(status));
        DataValue { value: Some(value), ..DataValue::null() }
    }

    // ui 1.4: a clock that is wrong, and a server that does not run, are told before they cost a day
    #[test]
    fn state_and_clock_of_the_server() {
        let (words, is_well) = status_of(&status(0, 2)).unwrap();
        assert!(is_well && words.detail.ends_with("(i=2256): running"), "{words:?}");
        assert_eq!(words.facts, ["Line[2J"], "control characters are gone");
        let (words, is_well) = status_of(&status(0, -4000)).unwrap();
        assert!(!is_well && words.hint.unwrap().contains("behind ours"));
        let (words, is_well) = status_of(&status(3, 0)).unwrap();
        assert!(!is_well && words.detail.contains("suspended"), "{words:?}");
        assert!(status_of(&DataValue::null()).is_none());
    }

    // UA-14
    #[test]
    fn limits_that_are_named_and_those_that_are_not() {
        let said = |number: u32| DataValue { value: Some(Variant::UInt32(number)), ..DataValue::null() };
        let refused = DataValue { status: Some(StatusCode::BadNodeIdUnknown), ..said(7) };
        assert_eq!(limits(&[said(1000), said(0), refused]), ["nodes per read: 1000", "nodes per browse: no limit"]);
        assert!(limits(&[]).is_empty());
    }
}
