//! Conditions that a source keeps itself, OPC UA: the table of UA-29, refreshes, and whose acknowledgement is whose.

use model::{Quality, Severity, SuppressionKind};
use pipeline::alarm::{Action, CONDITIONS_MAX, CommandResult, ConditionEvent, RefreshEvent};

use super::plant::{Plant, Told};

const KEY: &str = "press/condition:nsu=urn:x;s=High@urn:server";

impl Plant {
    /// One more word of the source.
    fn word<'e>(&mut self, order: i64, change: impl FnOnce(&mut ConditionEvent<'e>)) {
        let mut event = ConditionEvent {
            asset: "press",
            condition: "nsu=urn:x;s=High@urn:server",
            origin: "line/i=2253",
            order,
            active: true,
            acked: false,
            suppression: None,
            severity: Severity::High,
            message: "the oil is hot",
            quality: Quality::Good,
            by_refresh: false,
            quiet: false,
            actor: None,
            device_time: self.now.wall,
        };
        change(&mut event);
        let Self { engine, now, told, .. } = self;
        engine.condition(0, &event, *now, &mut |transition| {
            told.push(Told::of(&transition.alarm, transition.annunciate));
        });
    }

    fn refreshed(&mut self, origin: &str, since: i64, order: i64) {
        let event = RefreshEvent { asset: "press", origin, since, order };
        let Self { engine, now, told, .. } = self;
        engine.refreshed(0, &event, *now, &mut |transition| {
            told.push(Told::of(&transition.alarm, transition.annunciate));
        });
    }

    /// What was told, without the key.
    fn said(&mut self) -> Vec<String> {
        self.take().iter().map(|line| line.strip_prefix(KEY).unwrap_or(line).trim().to_owned()).collect()
    }
}

// UA-29, ALM-05
#[test]
fn a_condition_comes_and_goes_by_the_word_of_its_source() {
    let mut plant = Plant::new("[]");
    plant.word(1, |event| event.active = false);
    assert_eq!((plant.said(), plant.states().len()), (vec![], 0), "what never began makes no alarm");
    plant.word(2, |_| ());
    let told = plant.told[0].clone();
    assert_eq!((told.kind.as_str(), told.severity.as_str(), told.key.as_str()), ("CONDITION", "HIGH", KEY));
    plant.word(3, |_| ());
    assert_eq!(plant.said(), ["ACTIVE(B) condition !"], "once");
    plant.word(4, |event| (event.acked, event.actor) = (true, Some("ada")));
    assert_eq!(plant.told[0].acked_by.as_deref(), Some("ada"));
    assert_eq!(plant.said(), ["ACKNOWLEDGED(C) source_ack"]);
    plant.word(5, |event| (event.active, event.acked) = (false, true));
    assert_eq!(plant.said(), ["CLEARED(A) return"]);
    plant.word(6, |event| event.severity = Severity::Low);
    plant.word(7, |event| event.severity = Severity::Critical);
    assert_eq!(plant.told.last().map(|told| told.severity.clone()).as_deref(), Some("CRITICAL"));
    assert_eq!(plant.said(), ["ACTIVE(B) condition !", "ACTIVE(B) severity"]);
    plant.word(8, |event| event.active = false);
    assert_eq!(plant.said(), ["CLEARED(D) return"], "not acknowledged");
    plant.word(9, |event| event.acked = true);
    assert_eq!(plant.said(), ["ACTIVE(B) condition", "ACKNOWLEDGED(C) source_ack"], "nobody is called for it");
}

// UA-29: suppressed at the source, in each way
#[test]
fn what_the_source_suppresses_is_suppressed_here() {
    for (kind, isa) in [
        (SuppressionKind::Shelved, "G"),
        (SuppressionKind::ByDesign, "H"),
        (SuppressionKind::OutOfService, "I"),
        (SuppressionKind::Disabled, "I"),
    ] {
        let mut plant = Plant::new("[]");
        plant.word(1, |event| event.suppression = Some(kind));
        assert_eq!(plant.alarm(KEY).suppression.as_deref(), Some(kind.as_str()));
        let both = [format!("SUPPRESSED({isa}) source_suppressed"), format!("SUPPRESSED({isa}) condition")];
        assert_eq!(plant.said(), both);
        plant.word(2, |_| ());
        assert_eq!(plant.said(), ["ACTIVE(B) source_released !"], "it is there: now somebody is called");
        plant.word(3, |event| event.suppression = Some(kind));
        plant.word(4, |event| event.active = false);
        assert_eq!(plant.said().last().unwrap(), "CLEARED(D) source_released");
    }
}

// UA-31, ALM-19 h
#[test]
fn our_acknowledgement_stays_ours() {
    let mut plant = Plant::new("[]");
    plant.word(1, |_| ());
    assert_eq!(plant.command(&format!("{KEY}/1"), Action::Ack), CommandResult::Applied);
    plant.said();
    plant.word(2, |event| event.message = "still hot");
    assert_eq!((plant.said(), plant.alarm(KEY).acked_by.as_deref()), (vec![], Some("ana")));
    plant.word(3, |event| event.active = false);
    plant.word(4, |_| ());
    assert_eq!(plant.said(), ["CLEARED(A) return", "ACTIVE(B) condition !"], "a new occurrence is not acknowledged");
    let shelve = Action::Shelve { duration_ms: Some(60_000), one_shot: false };
    assert_eq!(plant.command(KEY, shelve), CommandResult::Applied);
    plant.word(5, |event| event.suppression = Some(SuppressionKind::Disabled));
    plant.word(6, |_| ());
    plant.said();
    assert_eq!(plant.alarm(KEY).suppression.as_deref(), Some("shelved"), "ours stands while the source's goes");
    plant.wait(60.0);
    assert_eq!(plant.said(), ["ACTIVE(B) shelve_expired !"]);
}

// UA-28, AC-044: over a restart of gateway and adapter, too
#[test]
fn a_refresh_that_omits_a_condition_clears_it_and_repeats_no_call() {
    let mut plant = Plant::new("[]");
    plant.word(1, |_| ());
    plant.word(2, |event| event.condition = "other");
    plant.word(3, |event| (event.condition, event.origin) = ("elsewhere", "line/nsu=urn:x;s=Area"));
    plant.take();
    plant.restart("[]", 60, &["press"]);
    assert_eq!(plant.take(), [""; 0]);
    assert_eq!(plant.alarm(KEY).severity, "HIGH", "as the source said");
    let epoch = 1 << 40;
    plant.word(epoch + 1, |event| (event.condition, event.quiet) = ("other", true));
    plant.word(epoch + 2, |event| (event.condition, event.quiet) = ("new", true));
    plant.refreshed("line/i=2253", epoch, epoch + 3);
    assert_eq!(
        plant.take(),
        ["press/condition:new ACTIVE(B) condition".to_owned(), format!("{KEY} CLEARED(D) refresh")],
        "what was there already calls nobody; another origin is not spoken of"
    );
    // the stream hands it over again
    plant.word(2, |event| event.condition = "other");
    plant.word(epoch + 1, |event| (event.condition, event.quiet) = ("other", true));
    plant.word(1, |_| ());
    plant.refreshed("line/i=2253", epoch, epoch + 3);
    assert_eq!(plant.take(), [""; 0], "said before");
    plant.word(epoch + 4, |event| (event.condition, event.active, event.by_refresh) = ("new", false, true));
    assert_eq!(plant.take(), ["press/condition:new CLEARED(D) refresh"]);
    plant.word(epoch + 5, |_| ());
    assert_eq!(plant.said(), ["ACTIVE(B) condition !"]);
}

#[test]
fn what_a_server_makes_up_leaves_room_for_rules() {
    // G-05
    let rule = "- {id: hi, parameter: t, type: hi, limit: 90, severity: HIGH, message: hot}";
    let mut plant = Plant::new(rule);
    let names: Vec<String> = (0..CONDITIONS_MAX + 5).map(|n| format!("c{n}")).collect();
    let assets: Vec<String> = (0..200).map(|n| format!("a{n}")).collect();
    for (name, asset) in names.iter().zip(assets.iter().cycle()) {
        plant.word(1, |event| (event.condition, event.quiet, event.asset) = (name, true, asset));
    }
    assert_eq!((plant.engine.counts().alarms, plant.engine.counts().refused), (CONDITIONS_MAX, 5));
    plant.take();
    plant.value("a", "t", 95.0);
    assert_eq!(plant.take(), ["a/hi ACTIVE(B) limit !"]);
}
