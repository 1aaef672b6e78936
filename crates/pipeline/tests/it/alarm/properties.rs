//! Laws that hold for any readings, silences, devices, commands and restarts.
//!
//! Illegal is: SUPPRESSED without a suppression or the other way round; CLEARED and latched; a notification for anything
//! but an unsuppressed, unacknowledged, active alarm; an acknowledged occurrence that is unacknowledged again; a second
//! open occurrence of a key, or one that was skipped; a record whose `from` is not the state that was told before.

use std::collections::BTreeMap;

use pipeline::alarm::{Action, Engine, Role};
use proptest::prelude::*;

use super::plant::{Plant, Told, settings};

const RULES: &str = "- {id: hihi, parameter: t, type: hihi, limit: 95, hysteresis: 2, off_delay_ms: 3000, severity: CRITICAL, subsume: true, latching: true, group: g, message: m}
- {id: hi, parameter: t, type: hi, limit: 80, hysteresis: 5, on_delay_ms: 4000, severity: HIGH, group: g, re_alarm_ms: 60000, message: m}
- {id: lo, parameter: t, type: lo, limit: 20, on_delay_ms: 2000, severity: LOW, message: m, suppress_when: {parameter: run, equals: false, release_delay_ms: 5000}}
- {id: dev, parameter: p, type: deviation, setpoint: t, limit: 30, hysteresis: 10, severity: MEDIUM, group: g, area: north, message: m}
- {id: rate, parameter: p, type: rate, rate_per_s: 5, severity: LOW, message: m}
- {id: q, parameter: p, type: quality, severity: LOW, on_delay_ms: 2000, message: m}
- {id: stale, parameter: p, type: stale, severity: LOW, message: m}
- {id: halt, parameter: run, type: discrete, expected: true, severity: LOW, enabled: false, message: m}
- {id: comm, type: communication, severity: HIGH, on_delay_ms: 1000, message: m}";

const ASSETS: [&str; 2] = ["a", "b"];
const TARGETS: [&str; 7] = ["hihi", "hi", "lo", "dev", "rate", "q", "t.quality"];

/// Something that happens.
#[derive(Debug, Clone)]
enum Happening {
    Wait(u32),
    Value {
        asset: usize,
        parameter: usize,
        value: u32,
    },
    Bad {
        asset: usize,
        parameter: usize,
        reason: usize,
    },
    Past {
        asset: usize,
    },
    Stale {
        asset: usize,
        parameter: usize,
    },
    Device {
        down: bool,
    },
    /// About the occurrence so many before the newest.
    Command {
        asset: usize,
        target: usize,
        action: usize,
        back: i64,
    },
}

fn happenings(length: usize) -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        3 => (1_u32..9000).prop_map(Happening::Wait),
        8 => (0..2_usize, 0..3_usize, 0_u32..130).prop_map(|(asset, parameter, value)| Happening::Value { asset, parameter, value }),
        1 => (0..2_usize, 0..3_usize, 0..3_usize).prop_map(|(asset, parameter, reason)| Happening::Bad { asset, parameter, reason }),
        1 => (0..2_usize).prop_map(|asset| Happening::Past { asset }),
        1 => (0..2_usize, 0..3_usize).prop_map(|(asset, parameter)| Happening::Stale { asset, parameter }),
        1 => any::<bool>().prop_map(|down| Happening::Device { down }),
        4 => (0..2_usize, 0..TARGETS.len(), 0..8_usize, 0..3_i64)
            .prop_map(|(asset, target, action, back)| Happening::Command { asset, target, action, back }),
    ];
    prop::collection::vec(one, 1..length)
}

const PARAMETERS: [&str; 3] = ["t", "p", "run"];
const REASONS: [&str; 3] = ["RANGE_HARD", "SENSOR_FAULT", "TIMEOUT"];

fn happen(plant: &mut Plant, happening: &Happening) {
    match *happening {
        Happening::Wait(ms) => plant.wait(f64::from(ms) / 1000.0),
        Happening::Value { asset, parameter: 2, value } => plant.truth(ASSETS[asset], "run", value % 2 == 0),
        Happening::Value { asset, parameter, value } => {
            plant.value(ASSETS[asset], PARAMETERS[parameter], f64::from(value));
        }
        Happening::Bad { asset, parameter, reason } => {
            plant.bad(ASSETS[asset], PARAMETERS[parameter], REASONS[reason], Some(999.0));
        }
        Happening::Past { asset } => plant.flagged(ASSETS[asset], "t", 99.0, "backfill", 0),
        Happening::Stale { asset, parameter } => plant.stale(ASSETS[asset], PARAMETERS[parameter]),
        Happening::Device { down } => plant.device("modbus_1", "unit 3", down),
        Happening::Command { asset, target, action, back } => {
            let key = format!("{}/{}", ASSETS[asset], TARGETS[target]);
            let newest = plant.list().iter().find(|told| told.key == key).map_or(0, |told| told.occurrence);
            plant.role = Some(if back == 2 { Role::Operator } else { Role::Engineer });
            let action = match action {
                0 | 1 => Action::Ack,
                2 => Action::Shelve { duration_ms: Some(8000), one_shot: back == 1 },
                3 => Action::Unshelve,
                4 => Action::OutOfService,
                5 => Action::ReturnToService,
                6 => Action::Reset,
                _ => Action::Comment,
            };
            plant.command(&format!("{key}/{}", newest - back), action);
        }
    }
}

fn law(holds: bool, law: &str, told: &Told) -> Result<(), TestCaseError> {
    if holds { Ok(()) } else { Err(TestCaseError::fail(format!("{law}: {told:?}"))) }
}

/// Every law over everything that was told.
pub(super) fn check(all: &[Told]) -> Result<(), TestCaseError> {
    let mut last: BTreeMap<&str, &Told> = BTreeMap::new();
    let mut seqs: BTreeMap<&str, i64> = BTreeMap::new();
    let mut acked: BTreeMap<(&str, i64), bool> = BTreeMap::new();
    for told in all {
        let before = last.get(told.key.as_str()).copied();
        let seq = seqs.entry(&told.key).or_default();
        *seq += 1;
        law(told.seq == *seq, "records of a key are numbered", told)?;
        let known = acked.entry((&told.key, told.occurrence)).or_default();
        law(!*known || told.acked, "an acknowledged occurrence stays so", told)?;
        *known = told.acked;
        law((told.state == "SUPPRESSED") == told.suppression.is_some(), "SUPPRESSED has a reason", told)?;
        law(
            told.state != "CLEARED" || !(told.latched || told.condition),
            "CLEARED is neither active nor latched",
            told,
        )?;
        let shown = matches!(told.state.as_str(), "ACTIVE" | "ACKNOWLEDGED");
        law(!shown || told.condition || told.latched, "what is shown stands", told)?;
        law(!shown || told.acked == (told.state == "ACKNOWLEDGED"), "ACKNOWLEDGED is acknowledged", told)?;
        law(
            !told.annunciate || (told.state == "ACTIVE" && told.condition && !told.acked),
            "only what is new is told",
            told,
        )?;
        if told.flags.iter().any(|flag| flag == "past_occurrence") {
            law(before.is_some_and(|before| told.occurrence < before.occurrence), "a past occurrence is past", told)?;
            continue;
        }
        let occurrence = before.map_or(0, |before| before.occurrence);
        let next = told.occurrence == occurrence + 1;
        law(next || told.occurrence == occurrence, "occurrences follow one another", told)?;
        law(!next || told.condition, "an occurrence begins with its condition", told)?;
        let begins = next
            || matches!(
                told.cause.as_str(),
                "re_alarm" | "released" | "shelve_expired" | "unshelve" | "return_to_service"
            );
        law(!told.annunciate || begins, "told once per activation or release", told)?;
        // the alarm that is disabled begins SUPPRESSED
        let from =
            before.map_or(if told.key.ends_with("/halt") { "SUPPRESSED" } else { "CLEARED" }, |before| &before.state);
        law(told.from == from, "a record begins where the one before ended", told)?;
        last.insert(&told.key, told);
    }
    Ok(())
}

/// The first reading after a restart gives another cause for the same transition.
fn without_restarts(mut all: Vec<Told>) -> Vec<Told> {
    for told in &mut all {
        if told.cause == "restart" {
            "return".clone_into(&mut told.cause);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_state_is_illegal(happenings in happenings(200)) {
        // ALM-01, ALM-02, ALM-03, ALM-19 (h)
        let mut plant = Plant::new(RULES);
        for happening in &happenings {
            happen(&mut plant, happening);
        }
        plant.wait(3600.0);
        check(&plant.told)?;
        let counted: i64 = plant.engine.kpis(plant.now).iter().map(|area| area.by_severity.iter().sum::<i64>()).sum();
        let reminders = plant.told.iter().filter(|told| told.cause == "re_alarm").count();
        let announced = plant.told.iter().filter(|told| told.annunciate).count() - reminders;
        prop_assert_eq!(counted, i64::try_from(announced).unwrap());
        // the list says what was told last
        for listed in plant.list().iter().filter(|listed| listed.seq > 0) {
            let past = |told: &&Told| told.flags.iter().any(|flag| flag == "past_occurrence");
            let last = plant.told.iter().rev().find(|told| told.key == listed.key && !past(told)).unwrap();
            prop_assert_eq!((&listed.state, &listed.isa, listed.occurrence), (&last.state, &last.isa, last.occurrence));
        }
    }

    #[test]
    fn a_restart_at_any_point_changes_nothing(happenings in happenings(120), stops in prop::collection::vec(0..120_usize, 1..4)) {
        // ALM-10, ALM-14: restore and replay is the uninterrupted run
        let mut whole = Plant::new(RULES);
        let mut stopped = Plant::new(RULES);
        for (at, happening) in happenings.iter().enumerate() {
            if stops.contains(&at) {
                stopped.restart(RULES, 0, &["b", "modbus_1", "a"]);
            }
            happen(&mut whole, happening);
            happen(&mut stopped, happening);
        }
        whole.wait(3600.0);
        stopped.wait(3600.0);
        prop_assert_eq!(whole.list(), stopped.list());
        prop_assert_eq!(whole.engine.kpis(whole.now), stopped.engine.kpis(stopped.now));
        prop_assert_eq!(without_restarts(whole.told), without_restarts(stopped.told));
    }

    #[test]
    fn how_often_time_is_looked_at_does_not_matter(happenings in happenings(80)) {
        // ALM-07, G-04: a delay ends at its own moment
        let mut seldom = Plant::new(RULES);
        let mut often = Plant::new(RULES);
        // a command names what its sender has seen, so that one depends on who looks
        for happening in happenings.iter().filter(|happening| !matches!(happening, Happening::Command { .. })) {
            if let Happening::Wait(ms) = happening {
                for _ in 0..*ms / 100 {
                    often.wait(0.1);
                }
                often.wait(f64::from(ms % 100) / 1000.0);
                // time goes on without a look: the next input sees it
                let micros = i64::from(*ms) * 1000;
                seldom.now.steady += micros;
                seldom.now.wall = seldom.now.wall.plus_micros(micros);
            } else {
                happen(&mut seldom, happening);
                happen(&mut often, happening);
            }
        }
        // reminders count from when they were told, all else is the same
        let plain = |all: Vec<Told>| -> Vec<String> {
            all.iter().filter(|told| told.cause != "re_alarm").map(Told::short).collect()
        };
        seldom.wait(60.0);
        often.wait(60.0);
        prop_assert_eq!(plain(seldom.told), plain(often.told));
    }

    #[test]
    fn no_bytes_make_restoring_panic(happenings in happenings(60), at in any::<prop::sample::Index>(), flip in 1..=255_u8, junk in prop::collection::vec(any::<u8>(), 0..100)) {
        // G-08
        let mut plant = Plant::new(RULES);
        for happening in &happenings {
            happen(&mut plant, happening);
        }
        plant.value("a", "t", 50.0);
        let (mut asset, mut kpis) = (Vec::new(), Vec::new());
        plant.engine.save_asset(0, "a", &mut asset);
        plant.engine.save_kpis(&mut kpis);
        for bytes in [&mut asset, &mut kpis] {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        for bytes in [&asset, &kpis, &junk] {
            plant.engine = Engine::new(&settings(RULES), "gw-1", 1);
            let _unused = plant.engine.restore_asset(0, "a", bytes).is_ok();
            let _unused = plant.engine.restore_kpis(bytes).is_ok();
            plant.now.steady = 0;
            let Plant { engine, now, .. } = &mut plant;
            engine.reconcile(0, *now, &mut |_| {});
            engine.advance(0, *now, &mut |_| {});
            engine.kpis(*now);
        }
    }
}
