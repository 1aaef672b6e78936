//! Rows of the acceptance list and of the detection chapter.

use model::{Quality, TextList, Timestamp, Value};
use pipeline::alarm::{ALARMS_MAX, Action, CommandResult, Engine, Input, Now};
use pipeline::validate::Codes;

use super::plant::{Plant, settings};

const HI: &str =
    "- {id: hi, parameter: t, type: hi, limit: 90, hysteresis: 2, on_delay_ms: 5000, severity: HIGH, message: hot}";

fn limits(extra: &str) -> String {
    format!(
        "- {{id: hihi, parameter: t, type: hihi, limit: 120, severity: CRITICAL, message: m, {extra}}}\n\
         - {{id: hi, parameter: t, type: hi, limit: 90, severity: LOW, message: m}}"
    )
}

#[test]
fn a_limit_with_hysteresis_and_delay() {
    // AC-081, ALM-06, ALM-07
    let mut plant = Plant::new(HI);
    plant.value("a", "t", 91.0);
    plant.wait(4.0);
    plant.value("a", "t", 89.0);
    plant.wait(10.0);
    assert_eq!(plant.take(), [""; 0], "four seconds are too short");
    plant.value("a", "t", 91.0);
    plant.wait(4.999);
    assert_eq!(plant.take(), [""; 0]);
    plant.wait(1.001);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) limit !"], "the last value keeps counting");
    plant.value("a", "t", 89.0);
    plant.value("a", "t", 88.0);
    assert_eq!(plant.take(), [""; 0], "inside the hysteresis");
    plant.value("a", "t", 87.9);
    let cleared = plant.told[0].clone();
    assert_eq!(plant.take(), ["a/hi CLEARED(D) return"]);
    assert_eq!((cleared.acked, cleared.value, cleared.limit, cleared.cleared), (false, Some(87.9), Some(90.0), true));
}

#[test]
fn the_way_back_has_a_delay_of_its_own() {
    // ALM-06
    let mut plant = Plant::new(
        "- {id: lo, parameter: t, type: lo, limit: 10, hysteresis: 1, off_delay_ms: 3000, severity: LOW, message: m}",
    );
    plant.value("a", "t", 10.0);
    plant.value("a", "t", 11.5);
    plant.wait(2.0);
    plant.value("a", "t", 11.0);
    plant.wait(5.0);
    assert_eq!(plant.take(), ["a/lo ACTIVE(B) limit !"], "11 is not behind the hysteresis");
    plant.value("a", "t", 11.5);
    plant.wait(3.0);
    assert_eq!(plant.take(), ["a/lo CLEARED(D) return"]);
}

#[test]
fn an_acknowledgement_after_the_return_ends_it() {
    // AC-082, ALM-19 (b)
    let mut plant = Plant::new(HI);
    plant.value("a", "t", 91.0);
    plant.wait(5.0);
    plant.value("a", "t", 80.0);
    assert_eq!(plant.states(), ["a/hi CLEARED(D)", "a/t.quality CLEARED(A)"]);
    plant.take();
    plant.command("a/hi/1", Action::Ack);
    assert_eq!(plant.take(), ["a/hi CLEARED(A) ack"]);
    assert_eq!(plant.states()[0], "a/hi CLEARED(A)", "off the list");
}

#[test]
fn a_bad_sensor_holds_the_alarm_and_a_dead_device_is_one_alarm() {
    // AC-087, ALM-07
    let rules = format!("{HI}\n- {{id: comm, type: communication, severity: MEDIUM, message: no answer}}");
    let mut plant = Plant::new(&rules);
    for n in 0..50 {
        plant.value(&format!("a{n}"), "t", 95.0);
    }
    plant.wait(5.0);
    plant.take();
    plant.device("modbus_1", "Unit 3", true);
    for n in 0..50 {
        plant.bad(&format!("a{n}"), "t", "TIMEOUT", None);
    }
    let held = plant.told.clone();
    assert_eq!(held.iter().filter(|told| told.annunciate).count(), 1, "one alarm for the device");
    assert_eq!(held[0].short(), "modbus_1/comm:Unit 3 ACTIVE(B) communication !");
    assert_eq!((held[0].kind.as_str(), held[0].quality), ("COMM", Quality::Bad));
    assert!(
        held[1..].iter().all(|told| told.state == "ACTIVE" && told.flags == ["quality"] && told.cause == "quality")
    );
    assert_eq!(held.len(), 51);
    plant.take();
    plant.bad("a0", "t", "TIMEOUT", None);
    assert_eq!(plant.take(), [""; 0], "told once");
    plant.device("modbus_1", "Unit 3", false);
    plant.value("a0", "t", 95.0);
    plant.value("a1", "t", 80.0);
    assert_eq!(
        plant.take(),
        ["modbus_1/comm:Unit 3 CLEARED(D) return", "a0/hi ACTIVE(B) quality", "a1/hi CLEARED(D) return"]
    );
}

// ALM-05, RTE-09: what the gateway finds wrong with itself is an alarm without any rule, and another one where a rule
// says so.
#[test]
fn the_gateway_itself_has_alarms() {
    let mut plant = Plant::new(HI);
    plant.system("archive", "part_down", false);
    assert_eq!((plant.take(), plant.states().len()), (vec![], 0), "what never began makes no alarm");
    plant.system("archive", "part_down", true);
    plant.system("archive", "part_down", true);
    plant.system("archive", "of a later version", true);
    let told = plant.told[0].clone();
    assert_eq!((told.kind.as_str(), told.annunciate), ("SYSTEM", true));
    assert_eq!(plant.take(), ["archive/system:part_down ACTIVE(B) system !"], "once");
    assert_eq!(plant.command("archive/system:part_down/1", Action::Ack), CommandResult::Applied);
    plant.wait(1.0);
    plant.system("archive", "part_down", false);
    assert_eq!(plant.take().last().unwrap(), "archive/system:part_down CLEARED(A) return");

    let own = "- {id: files, type: system, part: arch*, severity: LOW, message: m, on_delay_ms: 5000}
- {id: quiet, type: system, condition: clock_fault, severity: LOW, message: m, enabled: false}";
    let mut plant = Plant::new(own);
    plant.system("archive", "part_down", true);
    plant.system("gw-1", "clock_fault", true);
    plant.wait(6.0);
    assert_eq!(
        plant.states(),
        ["archive/files:part_down ACTIVE(B)", "gw-1/quiet:clock_fault SUPPRESSED(I)"],
        "instead of what is there without a rule"
    );
}

#[test]
fn bad_or_stale_begins_a_delay_anew() {
    // ALM-07
    let mut plant = Plant::new(HI);
    plant.value("a", "t", 91.0);
    plant.wait(4.0);
    plant.bad("a", "t", "SENSOR_FAULT", None);
    plant.wait(10.0);
    plant.value("a", "t", 91.0);
    plant.wait(4.0);
    plant.stale("a", "t");
    plant.wait(10.0);
    assert_eq!(plant.take(), [""; 0]);
    plant.value("a", "t", 91.0);
    plant.wait(5.0);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) limit !"]);
}

#[test]
fn a_value_that_the_hard_range_rejects_is_not_silence() {
    // AC-104, ALM-05
    let mut plant = Plant::new(&limits(""));
    plant.value("a", "t", 80.0);
    plant.bad("a", "t", "RANGE_HARD", Some(200.0));
    let told = plant.told[0].clone();
    assert_eq!(plant.take(), ["a/t.quality ACTIVE(B) quality !"]);
    assert_eq!((told.kind.as_str(), told.severity.as_str(), told.value), ("QUALITY", "CRITICAL", Some(200.0)));
    plant.bad("a", "t", "SENSOR_FAULT", None);
    plant.bad("a", "t", "TIMEOUT", None);
    assert_eq!(plant.take(), [""; 0], "held; other reasons have no alarm here");
    plant.value("a", "t", 85.0);
    assert_eq!(plant.take(), ["a/t.quality CLEARED(D) return"]);
    plant.bad("a", "t", "ROC_HARD", Some(149.0));
    assert_eq!(plant.take(), ["a/t.quality ACTIVE(B) quality !"]);
}

#[test]
fn a_configured_quality_alarm_takes_the_severity_of_the_highest_limit_only_then() {
    // AC-104, ALM-05
    let rules = format!(
        "{}\n- {{id: q, parameter: t, type: quality, severity: MEDIUM, on_delay_ms: 5000, message: sensor}}",
        limits("")
    );
    let mut plant = Plant::new(&rules);
    plant.bad("a", "t", "SENSOR_FAULT", None);
    plant.wait(5.0);
    assert_eq!(plant.told[0].severity, "MEDIUM");
    assert_eq!(plant.take(), ["a/q ACTIVE(B) quality !"]);
    plant.value("a", "t", 20.0);
    plant.take();
    plant.bad("a", "t", "RANGE_HARD", Some(500.0));
    assert_eq!(plant.told[0].severity, "CRITICAL", "at once, without the delay");
}

#[test]
fn old_and_repeated_readings_change_nothing() {
    // ALM-08, VAL-46
    let mut plant = Plant::new(&limits(""));
    plant.value("a", "t", 50.0);
    for flag in ["historical", "backfill", "retained", "reprocessed"] {
        plant.flagged("a", "t", 500.0, flag, 0);
    }
    plant.flagged("a", "t", 500.0, "late", 1);
    assert_eq!(plant.take(), [""; 0]);
    let counts = plant.engine.counts();
    assert_eq!((counts.past, counts.older), (4, 1));
    plant.flagged("a", "t", 100.0, "initial", 0);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) limit !"], "a first reading is a live one");
}

#[test]
fn four_activations_in_fifty_seconds_chatter_and_are_still_told() {
    // AC-088, ALM-15
    let mut plant = Plant::new(&limits(""));
    for _ in 0..4 {
        plant.value("a", "t", 95.0);
        plant.wait(6.0);
        plant.value("a", "t", 50.0);
        plant.wait(6.0);
    }
    let activations: Vec<(bool, bool)> =
        plant.told.iter().filter(|told| told.condition).map(|told| (told.chattering, told.annunciate)).collect();
    assert_eq!(activations, [(false, true), (false, true), (true, true), (true, true)]);
    assert_eq!(plant.alarm("a/hi").suppression, None);
    assert_eq!(plant.kpis().chattering, 1);
    let mut proposals = 0;
    plant.engine.alarms(plant.now, &mut |listed| proposals += usize::from(listed.proposal.is_some()));
    assert_eq!(proposals, 1);
    plant.wait(60.0);
    assert_eq!(plant.kpis().chattering, 0);
}

#[test]
fn an_alarm_of_seconds_is_fleeting() {
    // ALM-15
    let mut plant = Plant::new(&limits(""));
    plant.value("a", "t", 95.0);
    plant.wait(4.9);
    plant.value("a", "t", 50.0);
    assert_eq!(plant.told[1].flags, ["fleeting"]);
    assert_eq!(plant.kpis().fleeting, 1);
}

#[test]
fn eleven_alarms_in_ten_minutes_are_one_flood() {
    // AC-089, ALM-16
    let mut plant = Plant::new(&limits(""));
    for n in 0..11 {
        plant.value(&format!("a{n}"), "t", 95.0);
        assert_eq!(plant.kpis().in_flood, n == 10, "the eleventh");
        plant.wait(50.0);
    }
    for n in 11..15 {
        plant.wait(140.0);
        plant.value(&format!("a{n}"), "t", 95.0);
    }
    plant.wait(60.0);
    let kpis = plant.kpis();
    assert_eq!((kpis.in_flood, kpis.floods, kpis.by_severity), (false, 1, [15, 0, 0, 0]));
    plant.wait(24.0 * 3600.0);
    assert_eq!(plant.kpis().stale, 15, "standing for a day");
}

#[test]
fn the_more_severe_alarm_hides_the_other_and_gives_it_back() {
    // ALM-09, ALM-02
    let mut plant = Plant::new(&limits("subsume: true"));
    plant.value("a", "t", 100.0);
    plant.value("a", "t", 130.0);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) limit !", "a/hihi ACTIVE(B) limit !", "a/hi SUPPRESSED(H) subsumed"]);
    plant.value("a", "t", 110.0);
    assert_eq!(plant.take(), ["a/hihi CLEARED(D) return", "a/hi ACTIVE(B) released !"]);
    plant.value("a", "t", 10.0);
    plant.take();
    plant.value("a", "t", 130.0);
    assert_eq!(
        plant.take(),
        ["a/hihi ACTIVE(B) limit !", "a/hi SUPPRESSED(H) subsumed", "a/hi SUPPRESSED(H) limit"],
        "only one is told"
    );
    plant.value("a", "t", 10.0);
    assert_eq!(
        plant.take(),
        ["a/hihi CLEARED(D) return", "a/hi SUPPRESSED(H) return", "a/hi CLEARED(D) released"],
        "both returned: nothing to tell in between"
    );
    plant.value("a", "t", 130.0);
    plant.take();
    plant.role = Some(pipeline::alarm::Role::Engineer);
    plant.command("a/hihi", Action::Suppress);
    assert_eq!(
        plant.take(),
        ["a/hihi SUPPRESSED(G) suppress", "a/hi ACTIVE(B) released !"],
        "what is not shown hides nothing"
    );
}

#[test]
fn a_state_suppresses_by_design() {
    // ALM-13, ALM-02
    let mut plant = Plant::new(
        "- {id: lo, parameter: flow, type: lo, limit: 5, severity: HIGH, message: m,
            suppress_when: {parameter: running, equals: false, release_delay_ms: 30000}}",
    );
    plant.truth("a", "running", false);
    plant.value("a", "flow", 0.0);
    assert_eq!(plant.take(), ["a/lo SUPPRESSED(H) suppressed", "a/lo SUPPRESSED(H) limit"]);
    plant.truth("a", "running", true);
    plant.wait(29.0);
    assert_eq!(plant.take(), [""; 0], "the pump needs time");
    plant.value("a", "flow", 20.0);
    plant.wait(1.0);
    assert_eq!(plant.take(), ["a/lo SUPPRESSED(H) return", "a/lo CLEARED(D) released"]);
    plant.truth("a", "running", false);
    plant.value("a", "flow", 0.0);
    plant.take();
    plant.bad("a", "running", "SENSOR_FAULT", None);
    assert_eq!(plant.take(), ["a/lo ACTIVE(B) released !"], "what is not known suppresses nothing");
    plant.truth("a", "running", false);
    plant.take();
    plant.stale("a", "running");
    assert_eq!(plant.take(), ["a/lo ACTIVE(B) released !"]);
}

#[test]
fn the_first_of_a_trip_has_rank_one() {
    // ALM-14
    let mut plant = Plant::new(
        "- {id: t_hi, parameter: t, type: hi, limit: 90, on_delay_ms: 5000, group: trip, severity: LOW, message: m}
- {id: p_hi, parameter: p, type: hi, limit: 9, on_delay_ms: 5000, group: trip, severity: LOW, message: m}
- {id: v_hi, parameter: v, type: hi, limit: 1, group: trip, severity: LOW, message: m}",
    );
    // equal deadlines: the earlier device time is first
    plant.flagged("a", "t", 95.0, "", 1);
    plant.flagged("a", "p", 10.0, "", 2);
    plant.wait(5.0);
    let ranks = |plant: &Plant| -> Vec<(String, Option<i32>)> {
        plant.told.iter().map(|told| (told.key.clone(), told.rank)).collect()
    };
    assert_eq!(ranks(&plant), [("a/p_hi".to_owned(), Some(1)), ("a/t_hi".to_owned(), Some(2))]);
    plant.value("b", "v", 2.0);
    assert_eq!(plant.told[2].rank, Some(3), "groups span assets");
    plant.value("a", "p", 0.0);
    assert_eq!(plant.alarm("a/p_hi").rank, Some(1), "until all are normal");
    plant.value("a", "t", 0.0);
    plant.value("b", "v", 0.0);
    assert!(plant.list().iter().all(|told| told.rank.is_none()));
    plant.told.clear();
    plant.value("b", "v", 2.0);
    assert_eq!(plant.told[0].rank, Some(1));
}

#[test]
fn an_unacknowledged_alarm_is_told_again() {
    // ALM-09
    let mut plant =
        Plant::new("- {id: hi, parameter: t, type: hi, limit: 90, re_alarm_ms: 60000, severity: LOW, message: m}");
    plant.value("a", "t", 95.0);
    plant.wait(125.0);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) limit !", "a/hi ACTIVE(B) re_alarm !"], "a long pause is told once");
    plant.wait(60.0);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) re_alarm !"]);
    plant.command("a/hi/1", Action::Ack);
    plant.take();
    plant.wait(600.0);
    assert_eq!(plant.take(), [""; 0]);
}

#[test]
fn the_other_kinds() {
    // ALM-05
    let mut plant = Plant::new(
        "- {id: dev, parameter: t, type: deviation, setpoint: t_set, limit: 5, hysteresis: 1, severity: LOW, message: m}
- {id: rate, parameter: t, type: rate, rate_per_s: 2, severity: LOW, message: m}
- {id: state, parameter: valve, type: discrete, expected: true, severity: LOW, message: m}
- {id: stale, parameter: t, type: stale, severity: LOW, message: m}",
    );
    plant.value("a", "t", 60.0);
    assert_eq!(plant.take(), [""; 0], "the setpoint is not known");
    plant.value("a", "t_set", 50.0);
    assert_eq!(plant.take(), ["a/dev ACTIVE(B) deviation !"], "the setpoint's reading is enough");
    plant.bad("a", "t_set", "SENSOR_FAULT", None);
    plant.value("a", "t", 50.5);
    assert_eq!(plant.take(), ["a/dev ACTIVE(B) quality"], "held");
    plant.value("a", "t_set", 50.0);
    assert_eq!(plant.take(), ["a/dev CLEARED(D) return"]);
    plant.wait(1.0);
    plant.value("a", "t", 52.5);
    assert_eq!(plant.take(), ["a/rate ACTIVE(B) rate !"]);
    plant.wait(1.0);
    plant.value("a", "t", 52.5);
    plant.stale("a", "t");
    assert_eq!(plant.take(), ["a/rate CLEARED(D) return", "a/stale ACTIVE(B) stale !"]);
    plant.value("a", "t", 52.5);
    plant.truth("a", "valve", false);
    assert_eq!(plant.take(), ["a/stale CLEARED(D) return", "a/state ACTIVE(B) mismatch !"]);
}

#[test]
fn a_point_without_alarms_has_no_handle() {
    let mut plant = Plant::new(HI);
    assert_eq!(plant.engine.watch(0, "a", "u"), 0);
    assert_eq!(plant.engine.watch(7, "a", "t"), 0, "no such lane");
    let handle = plant.engine.watch(0, "a", "t");
    assert!(handle > 0 && plant.engine.watch(0, "a", "t") == handle);
    plant.value("a", "u", 500.0);
    assert_eq!((plant.take(), plant.engine.counts().alarms), (vec![], 2));
}

#[test]
fn lanes_have_their_own_time_and_share_groups_and_areas() {
    // ALM-14, ALM-16
    let rules = settings(
        "- {id: hi, parameter: t, type: hi, limit: 90, on_delay_ms: 5000, group: trip, area: north, severity: LOW, message: m}",
    );
    let mut engine = Engine::new(&rules, "gw-1", 2);
    let mut told = Vec::new();
    let now = |steady: i64| Now { steady, wall: Timestamp::from_micros(steady), wall_trusted: true };
    let input = |at: i64| Input {
        value: Value::Float(95.0),
        unit: None,
        quality: Quality::Good,
        reason: None,
        codes: Codes::default(),
        device_time: Timestamp::from_micros(at),
        flags: TextList::default(),
    };
    for (lane, asset, at) in [(0, "a", 1_000_000), (1, "b", 90_000_000)] {
        let handle = engine.watch(lane, asset, "t");
        engine.reading(lane, handle, now(at), &input(at), &mut |_| panic!("too early"));
        assert_eq!(engine.next_deadline(lane), Some(at + 5_000_000));
    }
    for (lane, at) in [(0, 6_000_000), (1, 94_000_000), (0, 5_000_000), (1, 95_000_000)] {
        engine.advance(lane, now(at), &mut |transition| {
            told.push((transition.lane, at, transition.alarm.first_out_rank));
        });
    }
    assert_eq!(told, [(0, 6_000_000, Some(1)), (1, 95_000_000, Some(2))]);
    assert_eq!((engine.steady(0), engine.steady(1)), (Some(6_000_000), Some(95_000_000)), "time never goes back");
    let kpis = engine.kpis(now(95_000_000));
    assert_eq!((kpis.len(), kpis[0].area.as_str(), kpis[0].by_severity), (1, "north", [2, 0, 0, 0]));
}

#[test]
fn there_is_an_end_to_how_many_alarms_there_are() {
    // G-05
    let mut engine = Engine::new(&settings(HI), "gw-1", 1);
    let points = ALARMS_MAX / 2; // each has a limit and its quality alarm
    for n in 0..points {
        assert!(engine.watch(0, &format!("a{n}"), "t") > 0);
    }
    assert_eq!(engine.watch(0, "one_more", "t"), 0);
    let counts = engine.counts();
    assert_eq!((counts.alarms, counts.refused), (ALARMS_MAX, 1));
}
