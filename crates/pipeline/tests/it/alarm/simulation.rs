//! Two days of a plant with forty machines: figures, laws, and the same again to the last record.

use pipeline::alarm::Action;

use super::plant::{Plant, Told};
use super::properties::check;

const RULES: &str = "- {id: hot, asset: \"press_*\", parameter: oil, type: hihi, limit: 95, hysteresis: 2, severity: HIGH, subsume: true, area: presses, group: trip, message: m}
- {id: warm, asset: \"press_*\", parameter: oil, type: hi, limit: 85, hysteresis: 3, on_delay_ms: 20000, off_delay_ms: 10000, severity: LOW, area: presses, message: m, suppress_when: {parameter: running, equals: false, release_delay_ms: 60000}}
- {id: jump, asset: \"press_*\", parameter: oil, type: rate, rate_per_s: 1.2, severity: MEDIUM, area: presses, message: m}
- {id: silent, asset: \"press_*\", parameter: oil, type: stale, severity: LOW, area: presses, message: m}
- {id: comm, type: communication, severity: MEDIUM, area: network, message: m}";

/// A linear congruential generator: the same plant every time.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 33).unwrap_or(0) % below
    }
}

/// Runs the plant for so many hours, one reading of every machine in ten seconds.
fn run(seed: u64, hours: u32) -> Plant {
    let mut plant = Plant::new(RULES);
    let mut chance = Chance(seed);
    let mut oil = [60.0_f64; 40];
    let names: Vec<String> = (0..oil.len()).map(|n| format!("press_{n:02}")).collect();
    for step in 0..hours * 360 {
        plant.wait(10.0);
        for (name, oil) in names.iter().zip(&mut oil) {
            let pull = (60.0 - *oil) * 0.01;
            let noise = f64::from(chance.next(2001)) / 1000.0 - 1.0;
            *oil += pull + noise * 4.0;
            match chance.next(20_000) {
                0 => plant.bad(name, "oil", "RANGE_HARD", Some(999.0)),
                1 => plant.bad(name, "oil", "TIMEOUT", None),
                2 => plant.stale(name, "oil"),
                3 => {
                    plant.truth(name, "running", false);
                    *oil += 25.0; // the pump stands, the oil does not flow
                }
                4 => plant.truth(name, "running", true),
                5 => plant.flagged(name, "oil", 99.0, "backfill", 60),
                _ => plant.value(name, "oil", *oil),
            }
        }
        if chance.next(2_000) < 2 {
            plant.device("modbus_1", "unit 3", chance.next(2) == 0);
        }
        if step % 30 == 0 {
            // the operator's round: acknowledges what is shown, shelves now and then
            let open: Vec<Told> =
                plant.list().into_iter().filter(|told| !told.acked && told.suppression.is_none()).collect();
            for told in open {
                plant.command(&format!("{}/{}", told.key, told.occurrence), Action::Ack);
                if told.chattering && chance.next(4) == 0 {
                    plant.command(&told.key, Action::Shelve { duration_ms: Some(1_800_000), one_shot: false });
                }
            }
        }
    }
    plant
}

#[test]
fn two_days_of_a_plant() {
    // ALM-01, ALM-15, ALM-16
    let plant = run(7, 48);
    check(&plant.told).unwrap();
    let told = |kind: &str| plant.told.iter().filter(|told| told.kind == kind).count();
    for kind in ["HIHI", "HI", "RATE", "STALE", "COMM", "QUALITY"] {
        assert!(told(kind) > 4, "{kind} {}", told(kind));
    }
    let causes = ["limit", "return", "subsumed", "released", "suppressed", "ack", "quality", "rate", "stale"];
    for cause in causes {
        assert!(plant.told.iter().any(|told| told.cause == cause), "{cause} never happened");
    }
    let kpis = plant.engine.kpis(plant.now);
    assert_eq!(kpis.iter().map(|area| area.area.as_str()).collect::<Vec<_>>(), ["presses", "network"]);
    let announced = i64::try_from(plant.told.iter().filter(|told| told.annunciate).count()).unwrap();
    let counted: i64 = kpis.iter().map(|area| area.by_severity.iter().sum::<i64>()).sum();
    assert_eq!(counted, announced, "every notification is in the figures, once");
    let presses = &kpis[0];
    assert!((presses.days - 2.0).abs() < 0.01, "{presses:?}");
    let total: i64 = presses.by_severity.iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "a count of a test")]
    let per_day = total as f64 / presses.days;
    assert!((presses.per_day - per_day).abs() < 1e-6 && (presses.per_10min - per_day / 144.0).abs() < 1e-6);
    assert!((0.0..=1.0).contains(&presses.flood_share) && presses.top10_share > 0.0 && presses.top10_share < 1.0);
    // one alarm per rule and machine, one made quality alarm per machine, one device
    assert_eq!(plant.engine.counts().alarms, 40 * 5 + 1);
    assert_eq!(plant.list().len(), 201);
}

#[test]
fn the_same_plant_gives_the_same_records() {
    let (one, other) = (run(3, 8), run(3, 8));
    assert_eq!(one.told, other.told);
    assert_ne!(one.told, run(4, 8).told);
}

#[test]
fn a_plant_that_stops_every_hour_tells_the_same() {
    // ALM-10
    let names: Vec<String> = (0..40).map(|n| format!("press_{n:02}")).collect();
    let mut assets: Vec<&str> = names.iter().map(String::as_str).collect();
    assets.push("modbus_1");
    let mut whole = run(5, 4);
    let mut stopped = run(5, 4);
    whole.told.clear();
    stopped.told.clear();
    stopped.restart(RULES, 0, &assets);
    let (mut chance, mut again) = (Chance(9), Chance(9));
    for hour in 0..4 {
        for (plant, chance) in [(&mut whole, &mut chance), (&mut stopped, &mut again)] {
            for _ in 0..360 {
                plant.wait(10.0);
                let name = &names[usize::try_from(chance.next(40)).unwrap()];
                plant.value(name, "oil", f64::from(chance.next(130)));
            }
        }
        stopped.restart(RULES, 0, &assets);
        assert_eq!(whole.list(), stopped.list(), "hour {hour}");
    }
    let plain =
        |all: &[Told]| -> Vec<String> { all.iter().map(|told| told.short().replace(" restart", " return")).collect() };
    assert_eq!(plain(&whole.told), plain(&stopped.told));
    assert!(whole.told.len() > 100);
}
