//! What survives a restart, and what becomes of it under other rules.

use model::Timestamp;
use pipeline::alarm::{Action, Command, CommandAnswer, CommandResult, Damaged, Engine, Now};

use super::plant::{Plant, settings};

const HI: &str = "- {id: hi, parameter: t, type: hi, limit: 90, hysteresis: 2, severity: HIGH, message: hot}";

#[test]
fn a_shelving_survives_a_restart_with_a_clock_nobody_trusts() {
    // AC-085, ALM-12, ALM-02
    let mut plant = Plant::new(HI);
    plant.value("a", "t", 95.0);
    plant.command("a/hi", Action::Shelve { duration_ms: Some(3_600_000), one_shot: false });
    plant.wait(20.0 * 60.0);
    plant.take();
    plant.now.wall_trusted = false;
    plant.restart(HI, 7 * 24 * 3600, &["a"]);
    plant.wait(40.0 * 60.0 - 1.0);
    plant.value("a", "t", 95.0);
    assert_eq!(plant.take(), [""; 0], "nobody knows how long it was down: the remaining time runs");
    plant.wait(1.0);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) shelve_expired !"]);
    // with a trusted clock the time it was down counts
    plant.now.wall_trusted = true;
    plant.command("a/hi", Action::Shelve { duration_ms: Some(3_600_000), one_shot: false });
    plant.take();
    plant.restart(HI, 3600, &["a"]);
    plant.wait(0.0);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) shelve_expired !"]);
}

#[test]
fn twenty_active_alarms_are_not_told_again() {
    // AC-086, ALM-10
    let mut plant = Plant::new(HI);
    let assets: Vec<String> = (0..20).map(|n| format!("a{n}")).collect();
    let names: Vec<&str> = assets.iter().map(String::as_str).collect();
    for asset in &names {
        plant.value(asset, "t", 95.0);
    }
    plant.command("a3/hi/1", Action::Ack);
    plant.take();
    let before = plant.list();
    plant.restart(HI, 60, &names);
    assert_eq!(plant.list(), before, "states are equal");
    plant.wait(60.0);
    for asset in &names {
        plant.value(asset, "t", 95.0);
    }
    assert_eq!(plant.take(), [""; 0], "no new notification");
    let mut changed = Vec::new();
    plant.engine.changed(0, &mut |asset| changed.push(asset.to_owned()));
    assert_eq!(changed.len(), 20);
}

#[test]
fn a_condition_that_ended_while_down_clears_with_that_cause() {
    // ALM-10
    let mut plant = Plant::new(HI);
    plant.value("a", "t", 95.0);
    plant.restart(HI, 60, &["a"]);
    plant.take();
    plant.bad("a", "t", "TIMEOUT", None);
    plant.value("a", "t", 50.0);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) quality", "a/hi CLEARED(D) restart"]);
    plant.value("a", "t", 95.0);
    plant.value("a", "t", 50.0);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) limit !", "a/hi CLEARED(D) return"]);
}

#[test]
fn an_alarm_whose_rule_is_gone_is_cleared_by_configuration() {
    // ALM-10
    let other = "- {id: lo, parameter: t, type: lo, limit: 10, severity: LOW, message: m}";
    let mut plant = Plant::new(HI);
    plant.value("a", "t", 95.0);
    plant.command("a/hi", Action::Suppress);
    plant.take();
    plant.restart(other, 60, &["a"]);
    let told = plant.told[0].clone();
    assert_eq!(plant.take(), ["a/hi CLEARED(A) config"]);
    assert_eq!((told.from.as_str(), told.occurrence, told.seq, told.annunciate), ("SUPPRESSED", 1, 3, false));
    plant.restart(other, 60, &["a"]);
    assert_eq!(plant.take(), [""; 0], "once");
    // a normal one goes without a word, also when no rule looks at the asset any more
    let mut plant = Plant::new(HI);
    plant.value("a", "t", 50.0);
    plant.value("b", "t", 95.0);
    plant.take();
    plant.restart("- {id: x, asset: c, parameter: t, type: lo, limit: 10, severity: LOW, message: m}", 60, &["a", "b"]);
    assert_eq!(plant.take(), ["b/hi CLEARED(A) config"]);
    let mut changed = Vec::new();
    plant.engine.changed(0, &mut |asset| changed.push(asset.to_owned()));
    assert_eq!(changed, ["a", "b"], "what was saved of them is to be deleted");
    assert!(!plant.engine.save_asset(0, "b", &mut Vec::new()), "nothing is left to keep");
}

#[test]
fn another_limit_judges_anew_within_the_same_occurrence() {
    // ALM-10
    let with = |limit: i32| HI.replace("90", &limit.to_string());
    let mut plant = Plant::new(HI);
    plant.value("a", "t", 95.0);
    plant.command("a/hi/1", Action::Ack);
    plant.take();
    plant.restart(&with(94), 60, &["a"]);
    plant.value("a", "t", 95.0);
    assert_eq!(plant.take(), [""; 0]);
    let same = plant.alarm("a/hi");
    assert_eq!((same.occurrence, same.acked, same.limit), (1, true, Some(94.0)));
    plant.restart(&with(100), 60, &["a"]);
    plant.value("a", "t", 95.0);
    assert_eq!(plant.take(), ["a/hi CLEARED(A) config"]);
    plant.restart(&with(80), 60, &["a"]);
    plant.value("a", "t", 95.0);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) limit !"]);
}

#[test]
fn a_rule_that_is_disabled_suppresses_and_enabling_it_tells() {
    // ALM-01, ALM-02
    let disabled = HI.replace("message: hot", "message: hot, enabled: false");
    let mut plant = Plant::new(HI);
    plant.value("a", "t", 95.0);
    plant.take();
    plant.restart(&disabled, 1, &["a"]);
    assert_eq!(plant.take(), ["a/hi SUPPRESSED(I) config"]);
    plant.restart(HI, 1, &["a"]);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) config !"]);
}

#[test]
fn damaged_bytes_are_refused_whole() {
    // G-08
    let mut plant = Plant::new(HI);
    plant.value("a", "t", 95.0);
    plant.command("a/hi/1", Action::Ack);
    let mut bytes = Vec::new();
    assert!(plant.engine.save_asset(0, "a", &mut bytes));
    assert!(!plant.engine.save_asset(0, "unknown", &mut Vec::new()));
    let mut engine = Engine::new(&settings(HI), "gw-1", 1);
    for cut in 0..bytes.len() {
        assert!(engine.restore_asset(0, "a", &bytes[..cut]).is_err(), "cut at {cut}");
    }
    // every number at once as large as it can be written: refused or taken, but never a panic
    for at in 1..bytes.len() {
        let mut huge = bytes[..at].to_vec();
        huge.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        huge.extend_from_slice(&bytes[at + 1..]);
        let mut engine = Engine::new(&settings(HI), "gw-1", 1);
        if engine.restore_asset(0, "a", &huge).is_ok() {
            let handle = engine.watch(0, "a", "t");
            for (steady, wall) in [(0, 0), (i64::MAX, i64::MAX)] {
                let now = Now { steady, wall: Timestamp::from_micros(wall), wall_trusted: true };
                engine.reconcile(0, now, &mut |_| {});
                engine.stale(0, handle, now, &mut |_| {});
                engine.alarms(now, &mut |_| {});
                engine.kpis(now);
            }
        }
    }
    let mut newer = bytes.clone();
    newer[0] = 9;
    assert_eq!(engine.restore_asset(0, "a", &newer), Err(Damaged::Version(9)));
    assert_eq!(engine.counts().alarms, 0, "nothing was taken over");
    assert_eq!(engine.restore_asset(0, "a", &bytes), Ok(()));
    assert_eq!(engine.restore_asset(0, "a", &bytes), Err(Damaged::InUse));
}

#[test]
fn a_command_that_comes_again_after_a_restart_is_not_done_again() {
    // ALM-18: the gateway applied it and died before it answered
    let mut plant = Plant::new(HI);
    plant.value("a", "t", 95.0);
    let template = plant.template(Action::Comment);
    let comment = Command { command_id: "c", target: "gw-1/a/hi/1", sequence: 5, ..template };
    let refused = Command { command_id: "d", sequence: 6, role: None, ..comment };
    assert_eq!(plant.send(&comment).result, CommandResult::Applied);
    assert_eq!(plant.send(&refused).result.as_str(), "REJECTED");
    plant.restart(HI, 60, &["a"]);
    plant.take();
    assert_eq!(plant.send(&comment), CommandAnswer { result: CommandResult::Applied, repeated: true });
    let again = plant.send(&refused);
    assert_eq!((again.repeated, again.result.reason()), (true, Some("the role is missing")));
    let behind = Command { command_id: "e", sequence: 4, ..comment };
    assert_eq!(plant.send(&behind).result.as_str(), "REJECTED");
    assert_eq!(plant.take(), [""; 0]);
}
