//! Conditions that a source keeps, from `events.raw` to `alarms.clean`, and a validator that reads them again.

use model::{ClockState, TextMap};
use stream::message::{Event, alarm};
use stream::{Publisher, Topic};

use crate::modules::{Rig, foreign_event, rules, until, with_modules};

/// A word about a condition as an adapter writes it.
fn word(rig: &Rig, epoch: i64, kind: &str, details: &[(&str, &str)]) {
    let mut all = vec![("adapter_id", "line"), ("origin", "i=2253")];
    all.extend_from_slice(details);
    let event = Event {
        event_id: "",
        event_type: kind,
        asset_id: "press",
        message: "the oil is hot",
        severity: Some("HIGH"),
        epoch,
        details: TextMap::Slice(&all),
        ..foreign_event()
    };
    let mut publisher = Publisher::open(&rig.ctx.settings).unwrap();
    let pending = publisher.publish_event(Topic::EventsRaw, rig.id(Topic::EventsRaw), &event, ClockState::Synced);
    assert!(pending.unwrap().unwrap().wait(std::time::Duration::from_secs(30)).unwrap());
}

fn told(rig: &Rig) -> Vec<String> {
    let of = |bytes: &[u8]| {
        let told = alarm::decode(bytes).unwrap();
        let bell = if told.flags.contains("annunciate") { " !" } else { "" };
        let name = told.alarm_key.strip_prefix("gw/press/condition:").unwrap();
        format!("{name} {} {} {}{bell}", told.severity, told.state, told.change.cause)
    };
    rig.everything(Topic::AlarmsClean).iter().map(|stored| of(stored.body())).collect()
}

// UA-28, UA-29, AC-044
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_of_a_source_become_alarms_once_whatever_is_read_again() {
    let rig = Rig::new().await;
    tokio::task::spawn_blocking(move || {
        let state = |epoch, condition, order, active, more: &[(&str, &str)]| {
            let own = [("condition", condition), ("order", order), ("active", active)];
            word(&rig, epoch, "condition.state", &[&own[..], more].concat());
        };
        state(1, "hot", "1", "true", &[]);
        state(1, "slow", "2", "true", &[]);
        state(1, "slow", "3", "true", &[("acked", "true"), ("client_user", "ada")]);
        let first =
            ["hot HIGH ACTIVE condition !", "slow HIGH ACTIVE condition !", "slow HIGH ACKNOWLEDGED source_ack"];
        with_modules(&rig.ctx, &rules(), None, |_| {
            until("three transitions", || rig.written(Topic::AlarmsClean) == 3);
        });
        assert_eq!(told(&rig), first);
        // another process of the adapter, and of the gateway: the refresh does not tell of one of them
        state(2, "slow", "1", "true", &[("acked", "true"), ("quiet", "true")]);
        word(&rig, 2, "condition.refresh", &[("whole", "true"), ("since", "0"), ("order", "2")]);
        with_modules(&rig.restarted(), &rules(), None, |_| {
            until("the end of it", || rig.written(Topic::AlarmsClean) == 4);
        });
        let all = told(&rig);
        assert_eq!(all[3], "hot HIGH CLEARED refresh");
        rig.rewind("sf-validator", Topic::EventsRaw, |_| 0, "events.clean=0 dlq.events=0");
        with_modules(&rig.restarted(), &rules(), None, |_| {
            until("everything is read again", || {
                rig.committed("sf-validator", Topic::EventsRaw) == rig.written(Topic::EventsRaw)
            });
        });
        assert_eq!(told(&rig), all, "nothing is told twice");
        assert_eq!(rig.written(Topic::EventsClean), 5);
    })
    .await
    .unwrap();
}

// ALM-11: a shelving ends by itself, also where no reading ever came and time is the gateway's alone
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shelved_condition_comes_back_although_nothing_is_ever_read() {
    let rig = Rig::new().await;
    tokio::task::spawn_blocking(move || {
        word(&rig, 1, "condition.state", &[("condition", "hot"), ("order", "1"), ("active", "true")]);
        with_modules(&rig.ctx, &rules(), None, |_| {
            until("it is told", || rig.written(Topic::AlarmsClean) == 1);
            let details = [
                ("command_id", "c1"),
                ("source", "local"),
                ("sequence", "1"),
                ("target", "gw/press/condition:hot"),
                ("action", "shelve"),
                ("actor", "ada"),
                ("role", "operator"),
                ("one_shot", "false"),
                ("duration_ms", "60000"),
            ];
            let event = Event {
                event_id: "c1",
                event_type: gateway::modules::COMMAND,
                asset_id: "press",
                message: "looked at",
                details: TextMap::Slice(&details),
                ..foreign_event()
            };
            let mut publisher = Publisher::open(&rig.ctx.settings).unwrap();
            let id = rig.id(Topic::ControlCommands);
            let pending = publisher.publish_event(Topic::ControlCommands, id, &event, ClockState::Synced);
            assert!(pending.unwrap().unwrap().wait(std::time::Duration::from_secs(30)).unwrap());
            until("it is shelved", || rig.written(Topic::AlarmsClean) == 2);
            rig.clock.advance_micros(61_000_000);
            until("it is back", || rig.written(Topic::AlarmsClean) == 3);
        });
        let expected =
            ["hot HIGH ACTIVE condition !", "hot HIGH SUPPRESSED shelve", "hot HIGH ACTIVE shelve_expired !"];
        assert_eq!(told(&rig), expected);
    })
    .await
    .unwrap();
}
