//! Alarms about the gateway itself: what it can find wrong with itself, and what a person is told without any rule.
//!
//! A condition is found by the part it concerns, or by the runtime that watches the part. A rule of type `system` says
//! something else about it, or disables it.

use model::Severity;

use super::{AlarmRule, Detect};

/// Name of the rules nobody wrote; alarms are `system:part_down` of the part.
pub const RULE: &str = "system";
/// Operator area of these rules.
const AREA: &str = "gateway";

/// Something that a gateway can find wrong with itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    pub name: &'static str,
    pub severity: Severity,
    pub message: &'static str,
    pub consequence: &'static str,
    pub action: &'static str,
}

/// All of them.
pub const CONDITIONS: [Condition; 4] = [
    Condition {
        name: "part_down",
        severity: Severity::High,
        message: "A part of the gateway does not work",
        consequence: "an adapter does not read, or a sink does not deliver; what waits for it stays in the stream",
        action: "read why on the status page or in logs/streamforge.jsonl of the data folder",
    },
    Condition {
        name: "notification_failed",
        severity: Severity::High,
        message: "A message about an alarm did not arrive",
        consequence: "somebody was not told; the message stands in dlq.alerts",
        action: "mend the destination, then try it: streamforge ctl alerts test",
    },
    Condition {
        name: "clock_fault",
        severity: Severity::Medium,
        message: "The gateway's clock is not kept by a time server",
        consequence: "times of readings drift; with a clock that cannot be right nothing is deleted for its age",
        action: "let a time server set it: timedatectl set-ntp true",
    },
    Condition {
        name: "disk_low",
        severity: Severity::Critical,
        message: "The disk of the stream is almost full",
        consequence: "soon telemetry is refused, and adapters keep what they can in memory",
        action: "make room, or let topics keep less",
    },
];

/// The condition of that name.
pub fn condition(name: &str) -> Option<&'static Condition> {
    CONDITIONS.iter().find(|condition| condition.name == name)
}

/// The rule that holds where nobody wrote one.
pub fn rule_of(condition: &Condition) -> AlarmRule {
    AlarmRule {
        id: RULE.to_owned(),
        asset: String::new(),
        parameter: String::new(),
        detect: Detect::System { part: "*".to_owned(), condition: condition.name.to_owned() },
        on_delay_ms: 0,
        off_delay_ms: 0,
        severity: condition.severity,
        priority: None,
        message: condition.message.to_owned(),
        consequence: Some(condition.consequence.to_owned()),
        action: Some(condition.action.to_owned()),
        group: None,
        area: Some(AREA.to_owned()),
        latching: false,
        subsume: false,
        re_alarm_ms: None,
        enabled: true,
        suppress_when: None,
    }
}
