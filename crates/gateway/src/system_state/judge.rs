//! Decides what is to be told of the gateway's own state; no clock, no stream.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config::alarms::system;
use model::Health;

use crate::children::Role;
use crate::supervisor::ChildStatus;

/// A sink that does not work for so long is told of (RTE-10).
const DOWN_AFTER: Duration = Duration::from_secs(5 * 60);
/// It is told as working again when it has worked for so long.
const UP_AFTER: Duration = Duration::from_secs(60);
/// What the alarms do not show, or still show, is told again after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(10 * 60);
/// Conditions one part may name; further ones are left out.
const CONDITIONS_MAX: usize = 16;
/// Characters of a message.
const MESSAGE_CHARS_MAX: usize = 1024;

/// Names of conditions that are seen from here.
const PART_DOWN: &str = "part_down";
const CLOCK_FAULT: &str = "clock_fault";

/// What is wrong, and with which part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub part: String,
    pub condition: String,
}

/// One look at the gateway.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub gateway_id: &'a str,
    pub children: &'a [ChildStatus],
    /// What is wrong with the clock.
    pub clock: Option<&'a str>,
    /// What the alarms show as standing.
    pub shown: &'a BTreeSet<Name>,
}

/// An event to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub name: Name,
    pub stands: bool,
    /// One sentence for a person.
    pub message: String,
}

/// Times are of a clock that only goes forward.
#[derive(Debug, Default)]
pub struct Judge {
    /// By part.
    turns: BTreeMap<String, Turn>,
    /// What was told last, and when.
    told: BTreeMap<Name, (bool, Duration)>,
}

/// Whether a part works, with patience.
#[derive(Debug, Default)]
struct Turn {
    down: bool,
    /// Since when it looks otherwise.
    otherwise_since: Option<Duration>,
}

impl Judge {
    /// What is to be told now.
    pub fn next(&mut self, seen: &Seen<'_>, now: Duration) -> Vec<Told> {
        let standing = self.standing(seen, now);
        let mut out = Vec::new();
        for (name, message) in &standing {
            let told = self.told.get(name);
            let is_new = !told.is_some_and(|(stands, _)| *stands);
            let is_shown = seen.shown.contains(name);
            let again = !is_shown && told.is_some_and(|(_, at)| now.saturating_sub(*at) >= AGAIN_AFTER);
            // after a restart the alarms know it already
            if (is_new && !is_shown) || again {
                out.push(Told { name: name.clone(), stands: true, message: message.clone() });
            }
        }
        let over = |name: &&Name| !standing.contains_key(*name);
        let raised = self.told.iter().filter(|(_, (stands, _))| *stands).map(|(name, _)| name);
        let ended: BTreeSet<&Name> = raised.chain(seen.shown).filter(over).collect();
        for name in ended {
            let is_recent =
                self.told.get(name).is_some_and(|(stands, at)| !*stands && now.saturating_sub(*at) < AGAIN_AFTER);
            if !is_recent && is_over(seen, name, now) {
                let message = format!("{}: {} is over", name.part, name.condition);
                out.push(Told { name: name.clone(), stands: false, message });
            }
        }
        out
    }

    /// The stream has it.
    pub fn stored(&mut self, told: &Told, now: Duration) {
        self.told.insert(told.name.clone(), (told.stands, now));
    }

    /// What stands, with a sentence each.
    fn standing(&mut self, seen: &Seen<'_>, now: Duration) -> BTreeMap<Name, String> {
        let mut standing = BTreeMap::new();
        let mut add = |part: &str, condition: &str, message: &str| {
            let name = Name { part: part.to_owned(), condition: condition.to_owned() };
            standing.insert(name, message.chars().take(MESSAGE_CHARS_MAX).collect());
        };
        for child in seen.children {
            if self.is_down(child, now) {
                add(&child.name, PART_DOWN, &format!("{}: {}", child.health.as_str(), child.reason));
            }
            let conditions = child.details.get("conditions").and_then(serde_json::Value::as_array);
            for entry in conditions.into_iter().flatten().take(CONDITIONS_MAX) {
                let text = |key| entry.get(key).and_then(serde_json::Value::as_str);
                if let Some(condition) = text("condition").and_then(system::condition) {
                    add(&child.name, condition.name, text("message").unwrap_or_default());
                }
            }
        }
        if let Some(complaint) = seen.clock {
            add(seen.gateway_id, CLOCK_FAULT, complaint);
        }
        self.turns.retain(|part, _| seen.children.iter().any(|child| child.name == *part));
        standing
    }

    /// Adapters have alarms of their own for devices that do not answer: only one that was given up counts.
    fn is_down(&mut self, child: &ChildStatus, now: Duration) -> bool {
        let (is_bad, wait) = match (child.role, child.health) {
            (Role::Adapter | Role::Sink, Health::Failed) => (true, Duration::ZERO),
            (Role::Sink, Health::Unhealthy) => (true, DOWN_AFTER),
            _ => (false, UP_AFTER),
        };
        let turn = self.turns.entry(child.name.clone()).or_default();
        if is_bad == turn.down {
            turn.otherwise_since = None;
        } else if now.saturating_sub(*turn.otherwise_since.get_or_insert(now)) >= wait {
            *turn = Turn { down: is_bad, otherwise_since: None };
        }
        turn.down
    }
}

/// Whether the end is sure: a part that was just started has said nothing yet.
fn is_over(seen: &Seen<'_>, name: &Name, now: Duration) -> bool {
    let Some(child) = seen.children.iter().find(|child| child.name == name.part) else { return true };
    let has_spoken = !child.details.is_null();
    has_spoken && (name.condition != PART_DOWN || (child.health < Health::Unhealthy && now >= UP_AFTER))
}

#[cfg(test)]
mod tests {
    use model::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    fn child(role: Role, health: Health, details: Value) -> ChildStatus {
        ChildStatus {
            name: "archive".to_owned(),
            role,
            type_name: "timescale".to_owned(),
            health,
            reason: "connection refused".to_owned(),
            since: Timestamp::default(),
            pid: Some(1),
            restarts: 0,
            details,
        }
    }

    /// A gateway with one part, and alarms that show what was stored.
    #[derive(Default)]
    struct Plant {
        judge: Judge,
        shown: BTreeSet<Name>,
        clock: Option<&'static str>,
        now: u64,
    }

    impl Plant {
        /// What was told in that many seconds, as `part condition +` or `-`.
        fn run(&mut self, seconds: u64, part: &ChildStatus) -> Vec<String> {
            let mut told = Vec::new();
            for _ in 0..seconds {
                self.now += 1;
                let now = Duration::from_secs(self.now);
                let children = std::slice::from_ref(part);
                let seen = Seen { gateway_id: "gw-1", children, clock: self.clock, shown: &self.shown };
                for one in self.judge.next(&seen, now) {
                    self.judge.stored(&one, now);
                    let sign = if one.stands { '+' } else { '-' };
                    told.push(format!("{} {} {sign}{}", one.name.part, one.name.condition, self.now));
                    if one.stands {
                        self.shown.insert(one.name)
                    } else {
                        self.shown.remove(&one.name)
                    };
                }
            }
            told
        }
    }

    // RTE-10
    #[test]
    fn a_sink_that_fails_for_five_minutes_is_told_once_and_its_return_after_a_minute() {
        let mut plant = Plant::default();
        let well = child(Role::Sink, Health::Healthy, json!({}));
        let ill = child(Role::Sink, Health::Unhealthy, json!({}));
        assert!(plant.run(10, &well).is_empty());
        assert_eq!(plant.run(299, &ill), [""; 0], "four minutes and 59 seconds");
        assert_eq!(plant.run(1000, &ill), ["archive part_down +311"], "once");
        assert_eq!(plant.run(30, &well), [""; 0], "it may be short");
        assert_eq!(plant.run(30, &ill), [""; 0]);
        assert_eq!(plant.run(100, &well), ["archive part_down -1430"]);
        assert!(plant.run(1000, &well).is_empty());
    }

    #[test]
    fn an_adapter_counts_only_when_it_was_given_up() {
        let mut plant = Plant::default();
        assert!(plant.run(1000, &child(Role::Adapter, Health::Unhealthy, json!({}))).is_empty());
        assert_eq!(plant.run(5, &child(Role::Adapter, Health::Failed, json!({}))), ["archive part_down +1001"]);
    }

    // ALM-10: a restart of the gateway tells nothing twice, and forgets nothing.
    #[test]
    fn after_a_restart_only_the_difference_is_told() {
        let mut plant = Plant::default();
        let named = json!({ "conditions": [{ "condition": "notification_failed", "message": "mail: refused" },
            { "condition": "of a later version", "message": "" }] });
        assert_eq!(
            plant.run(5, &child(Role::Sink, Health::Degraded, named.clone())),
            ["archive notification_failed +1"]
        );
        plant.judge = Judge::default();
        assert!(
            plant.run(5, &child(Role::Sink, Health::Degraded, Value::Null)).is_empty(),
            "it has not said anything yet"
        );
        assert!(plant.run(5, &child(Role::Sink, Health::Degraded, named)).is_empty());
        plant.judge = Judge::default();
        assert_eq!(plant.run(5, &child(Role::Sink, Health::Healthy, json!({}))), ["archive notification_failed -16"]);
    }

    #[test]
    fn what_the_alarms_do_not_show_is_told_again() {
        let mut plant = Plant { clock: Some("astray"), ..Plant::default() };
        let well = child(Role::Sink, Health::Healthy, json!({}));
        assert_eq!(plant.run(1, &well), ["gw-1 clock_fault +1"]);
        plant.shown.clear();
        assert_eq!(plant.run(700, &well), ["gw-1 clock_fault +601"]);
        plant.clock = None;
        assert_eq!(plant.run(1, &well), ["gw-1 clock_fault -702"]);
    }
}
