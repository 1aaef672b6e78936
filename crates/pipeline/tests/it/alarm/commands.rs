//! What people ask for and what they are answered.

use model::Timestamp;
use pipeline::alarm::{Action, Command, CommandAnswer, CommandResult, Role, Source};

use super::plant::{Plant, SECOND};

const RULES: &str = "- {id: hi, parameter: t, type: hi, limit: 90, severity: HIGH, message: hot}
- {id: trip, parameter: v, type: hi, limit: 1, severity: CRITICAL, latching: true, message: vibration}";

const HOUR_MS: i64 = 3_600_000;

fn shelve(duration_ms: i64) -> Action {
    Action::Shelve { duration_ms: Some(duration_ms), one_shot: false }
}

#[test]
fn an_acknowledgement_reaches_its_own_occurrence_only() {
    // AC-083, ALM-19 (a), ALM-21
    let mut plant = Plant::new(RULES);
    plant.value("a", "t", 95.0);
    plant.wait(60.0);
    let pressed = Command { command_id: "c-7", target: "gw-1/a/hi/1", sequence: 7, ..plant.template(Action::Ack) };
    plant.wait(60.0);
    plant.value("a", "t", 50.0);
    plant.wait(60.0);
    plant.value("a", "t", 95.0);
    plant.told.clear();
    assert_eq!(plant.send(&pressed).result, CommandResult::Applied);
    let told = plant.told[0].clone();
    assert_eq!((told.occurrence, told.acked, told.state.as_str()), (1, true, "CLEARED"));
    assert_eq!((told.acked_by.as_deref(), told.acked_at), (Some("ana"), Some(pressed.issued_at)));
    assert_eq!(told.flags, ["past_occurrence"]);
    let now = plant.alarm("a/hi");
    assert_eq!((now.occurrence, now.acked, now.state.as_str()), (2, false, "ACTIVE"));
}

#[test]
fn two_acknowledgements_a_late_shelving_and_an_unknown_occurrence() {
    // AC-084, ALM-19 (c, d)
    let mut plant = Plant::new(RULES);
    plant.value("a", "t", 95.0);
    assert_eq!(plant.command("a/hi/1", Action::Ack), CommandResult::Applied);
    plant.told.clear();
    assert_eq!(plant.command("a/hi/1", Action::Ack), CommandResult::Already);
    assert_eq!(plant.take(), ["a/hi ACKNOWLEDGED(C) already"], "journaled");
    let late = Command {
        command_id: "late",
        target: "gw-1/a/hi",
        sequence: 100,
        issued_at: plant.now.wall.plus_micros(-3600 * SECOND),
        ..plant.template(shelve(HOUR_MS))
    };
    assert_eq!(plant.send(&late).result, CommandResult::Expired);
    for (sequence, target) in [(200, "a/hi/2"), (201, "a/hi/0"), (202, "a/gone/1")] {
        let target = format!("gw-1/{target}");
        let command = Command { command_id: &target, target: &target, sequence, ..plant.template(Action::Ack) };
        assert_eq!(plant.send(&command).result, CommandResult::StaleOccurrence, "{target}");
    }
}

#[test]
fn occurrences_that_are_too_old_are_not_known_any_more() {
    // ALM-19: bounded
    let mut plant = Plant::new(RULES);
    for _ in 0..18 {
        plant.value("a", "t", 95.0);
        plant.value("a", "t", 50.0);
    }
    assert_eq!(plant.command("a/hi/1", Action::Ack), CommandResult::StaleOccurrence);
    assert_eq!(plant.command("a/hi/2", Action::Ack), CommandResult::Applied);
}

#[test]
fn a_command_counts_once_and_in_order() {
    // ALM-18, ALM-19 (e, g)
    let mut plant = Plant::new(RULES);
    plant.value("a", "t", 95.0);
    let command = Command { command_id: "x", target: "gw-1/a/hi/1", sequence: 5, ..plant.template(Action::Ack) };
    let answer = |result, repeated| CommandAnswer { result, repeated };
    assert_eq!(plant.send(&command), answer(CommandResult::Applied, false));
    plant.told.clear();
    assert_eq!(plant.send(&command), answer(CommandResult::Applied, true), "the answer was lost on its way");
    assert_eq!(plant.take(), [""; 0]);
    let behind = Command { command_id: "y", sequence: 4, ..command };
    assert_eq!(plant.send(&behind).result.as_str(), "REJECTED");
    let local = Command { source: Source::Local, ..behind };
    assert_eq!(plant.send(&local).result, CommandResult::Already, "the page on the gateway counts for itself");
    let expired = Command { command_id: "z", sequence: 9, expires_at: Some(plant.now.wall), ..command };
    assert_eq!(plant.send(&expired).result, CommandResult::Expired);
    plant.now.wall_trusted = false;
    let unsynced = Command { command_id: "zz", sequence: 10, ..expired };
    assert_eq!(plant.send(&unsynced).result, CommandResult::Already, "nothing expires by a clock nobody trusts");
}

#[test]
fn shelving_ends_by_itself_and_never_loses_the_condition() {
    // ALM-12, ALM-02, ALM-19 (f)
    let mut plant = Plant::new(RULES);
    assert_eq!(plant.command("a/hi", shelve(HOUR_MS)), CommandResult::Applied, "before it ever came");
    plant.value("a", "t", 95.0);
    assert_eq!(plant.take(), ["a/hi SUPPRESSED(G) shelve", "a/hi SUPPRESSED(G) limit"]);
    let mut remaining = None;
    plant.engine.alarms(plant.now, &mut |listed| remaining = remaining.or(listed.shelved_for_ms));
    assert_eq!(remaining, Some(HOUR_MS));
    assert_eq!(plant.command("a/hi/1", Action::Ack), CommandResult::Applied, "also while it is suppressed");
    plant.take();
    plant.wait(3600.0);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) shelve_expired !"]);
    assert_eq!(plant.alarm("a/hi").occurrence, 2, "what was acknowledged stays so");
    assert_eq!(plant.command("a/hi", Action::Unshelve), CommandResult::Already);
    plant.command("a/hi", shelve(2 * HOUR_MS));
    plant.command("a/hi", shelve(HOUR_MS));
    plant.value("a", "t", 50.0);
    plant.take();
    plant.wait(3600.0);
    assert_eq!(plant.take(), ["a/hi CLEARED(D) shelve_expired"], "the second end counts");
}

#[test]
fn a_one_shot_shelving_ends_with_the_condition() {
    // ALM-12
    let mut plant = Plant::new(RULES);
    plant.value("a", "t", 95.0);
    plant.command("a/hi", Action::Shelve { duration_ms: Some(HOUR_MS), one_shot: true });
    plant.take();
    plant.value("a", "t", 50.0);
    plant.value("a", "t", 95.0);
    assert_eq!(plant.take(), ["a/hi SUPPRESSED(G) return", "a/hi CLEARED(D) one_shot", "a/hi ACTIVE(B) limit !"]);
}

#[test]
fn roles_and_limits_of_shelving() {
    // ALM-12, ALM-13, ALM-19 (i)
    let mut plant = Plant::new(RULES);
    plant.value("a", "t", 95.0);
    plant.value("a", "v", 5.0);
    let mut result = |target: &str, action, role: Option<Role>| {
        plant.role = role;
        plant.command(target, action).as_str()
    };
    let (operator, engineer) = (Some(Role::Operator), Some(Role::Engineer));
    assert_eq!(result("a/hi/1", Action::Ack, None), "REJECTED");
    assert_eq!(result("a/hi", shelve(13 * HOUR_MS), operator), "REJECTED");
    assert_eq!(result("a/trip", shelve(HOUR_MS), operator), "REJECTED");
    assert_eq!(result("a/trip", shelve(2 * HOUR_MS), engineer), "REJECTED");
    assert_eq!(result("a/trip", Action::Suppress, engineer), "APPLIED");
    assert_eq!(result("a/hi", Action::OutOfService, operator), "REJECTED");
    assert_eq!(result("a/hi", Action::OutOfService, engineer), "APPLIED");
    assert_eq!(result("a/hi", Action::OutOfService, engineer), "ALREADY");
    assert_eq!(plant.states()[0], "a/hi SUPPRESSED(I)");
    plant.wait(25.0 * 3600.0);
    assert_eq!(plant.kpis().out_of_service_over_a_day, 1);
    assert_eq!(plant.states()[2], "a/trip ACTIVE(B)", "the hour of a CRITICAL one is over");
    plant.take();
    plant.command("a/hi", Action::ReturnToService);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) return_to_service !"]);
}

#[test]
fn a_latched_alarm_is_reset_when_it_is_over_and_acknowledged() {
    // ALM-11
    let mut plant = Plant::new(RULES);
    plant.value("a", "v", 5.0);
    assert_eq!(plant.command("a/trip", Action::Reset).reason(), Some("the condition is still there"));
    plant.value("a", "v", 0.0);
    assert_eq!(plant.command("a/trip", Action::Reset).reason(), Some("the alarm is not acknowledged"));
    plant.command("a/trip/1", Action::Ack);
    assert_eq!(plant.command("a/trip", Action::Reset), CommandResult::Applied);
    assert_eq!(plant.command("a/trip", Action::Reset), CommandResult::Already);
    assert_eq!(
        plant.take(),
        [
            "a/trip ACTIVE(B) limit !",
            "a/trip ACTIVE(E) return",
            "a/trip ACKNOWLEDGED(F) ack",
            "a/trip CLEARED(A) reset",
        ]
    );
}

#[test]
fn comments_are_kept_with_their_occurrence_and_cleaned() {
    // ALM-17, G-11
    let mut plant = Plant::new(RULES);
    plant.value("a", "t", 95.0);
    plant.told.clear();
    let comment = Command {
        command_id: "k",
        target: "gw-1/a/hi/1",
        sequence: 1,
        comment: Some("pump\r\nBcc: x"),
        issued_at: Timestamp::from_micros(0),
        ..plant.template(Action::Comment)
    };
    assert_eq!(plant.send(&comment).result, CommandResult::Applied);
    assert_eq!(plant.told[0].comment.as_deref(), Some("pumpBcc: x"));
    assert_eq!((plant.told[0].from.as_str(), plant.told[0].short()), ("ACTIVE", "a/hi ACTIVE(B) comment".to_owned()));
    let long = "x".repeat(1025);
    let long = Command { command_id: "l", sequence: 2, comment: Some(&long), ..comment };
    assert_eq!(plant.send(&long).result.as_str(), "REJECTED");
    for target in ["other/a/hi/1", "gw-1/a", "gw-1/a/hi/x", "gw-1/a/hi/1/2", ""] {
        let strange = Command { command_id: "m", sequence: 3, target, ..comment };
        assert_eq!(plant.send(&strange).result.as_str(), "REJECTED", "{target}");
    }
}
