//! What would happen to an alarm: which routes take it, who is told, and when (RTE-11). Decides with the router itself, on an
//! empty memory.

use model::{Severity, Timestamp};

use super::notice::{Notice, Transition};
use super::plan::Plan;
use super::router::{Now, Router};
use super::state::State;

/// An alarm that did not happen.
#[derive(Debug, Clone)]
pub struct Question {
    pub severity: Severity,
    pub asset: String,
    pub area: Option<String>,
    pub group: Option<String>,
    pub transition: Transition,
    pub at: Timestamp,
}

/// One thing that would happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub route: String,
    pub destination: String,
    pub channel: &'static str,
    /// For a person: `at once`, `digest at ...`.
    pub when: String,
}

/// Everything that would happen, in order of time.
pub fn dry_run(plan: &Plan, question: &Question) -> Vec<Step> {
    let now = Now { wall: question.at, steady_ms: 0 };
    let notice = notice(question);
    let mut steps = Vec::new();
    for (route, destinations) in plan.routes_for(&notice, question.transition, question.at) {
        for destination in destinations {
            let to = &plan.destinations[destination];
            let mut alone = plan.clone();
            alone.routes = vec![plan.routes[route].clone()];
            alone.routes[0].destinations = vec![destination];
            steps.push(Step {
                route: plan.routes[route].name.clone(),
                destination: to.name.clone(),
                channel: to.channel.type_name(),
                when: when(alone, &notice, question.transition, now),
            });
        }
        let escalation =
            plan.routes[route].escalation.as_ref().filter(|_| question.transition == Transition::Activated);
        for (after, destinations) in escalation.into_iter().flat_map(|escalation| &escalation.steps) {
            for destination in destinations {
                let to = &plan.destinations[*destination];
                steps.push(Step {
                    route: plan.routes[route].name.clone(),
                    destination: to.name.clone(),
                    channel: to.channel.type_name(),
                    when: format!("when nobody acknowledged within {}", config::read::duration_text(after / 1000)),
                });
            }
        }
    }
    steps
}

fn when(plan: Plan, notice: &Notice, transition: Transition, now: Now) -> String {
    let zone = plan.zone;
    let mut router = Router::new(plan, State::default(), now);
    if !transition.is_call() {
        // an end is told to those who were told the beginning
        router.take(notice, Some(Transition::Activated), now);
        let begun: Vec<String> = router.state().items.iter().map(|(key, _)| key.to_owned()).collect();
        for key in begun {
            router.state_mut().items.remove(&key);
        }
    }
    router.take(notice, Some(transition), now);
    if !router.state().items.is_empty() {
        return "at once".to_owned();
    }
    let bundle = router.state().bundles.iter().next().map(|(_, bundle)| (bundle.kind, bundle.due_at));
    match bundle {
        Some((kind, due)) => {
            let due = super::hours::local(zone, Timestamp::from_micros(due)).format("%Y-%m-%d %H:%M:%S %:z");
            format!("{} at {due}", kind.as_str())
        }
        None => "not at all".to_owned(),
    }
}

fn notice(question: &Question) -> Notice {
    let at = question.at.as_micros();
    let key = format!("gateway/{}/dry-run", question.asset);
    Notice {
        occurrence: format!("{key}/1"),
        key,
        seq: 1,
        kind: "HI".to_owned(),
        severity: question.severity,
        asset: question.asset.clone(),
        path: None,
        area: question.area.clone(),
        parameter: None,
        value: serde_json::Value::Null,
        limit: None,
        unit: None,
        quality: "GOOD".to_owned(),
        state: "ACTIVE".to_owned(),
        past: false,
        acked: false,
        message: "dry run".to_owned(),
        consequence: None,
        action: None,
        group: question.group.clone(),
        chattering: false,
        cause: "limit".to_owned(),
        actor: None,
        comment: None,
        activated_at: Some(at),
        acked_at: None,
        acked_by: None,
        cleared_at: None,
        shelved_until: None,
        at,
        partition: 0,
        offset: 0,
    }
}
