//! `streamforge ctl` against a real broker: what people read, what scripts read, and what is refused.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::harness::{Broker, Printed, post, run, wait_for};

const PATIENCE: Duration = Duration::from_secs(30);

/// A broker with the topic `plant` of two partitions.
fn with_plant() -> Broker {
    let broker = Broker::start();
    let settings = ["--partitions", "2", "--set", "retention.ms=604800000", "--execute"];
    broker.ctl(&[&["topics", "create", "plant"], &settings[..]].concat()).lines();
    broker
}

/// Ten records, five in each partition, with their number as value.
fn fill(broker: &Broker) {
    for partition in ["0", "1"] {
        let printed = broker.ctl_with_input(&["produce", "plant", "--partition", partition], "0\n1\n2\n3\n4\n");
        assert_eq!(printed.lines(), ["5 records are on plant"]);
    }
}

/// A member of a group, which has committed what it read.
fn member(broker: &Broker, group: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.address("kafka"))
        .set("client.id", "press-reader")
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    consumer.subscribe(&["plant"]).expect("a subscription");
    let mut read = 0;
    wait_for("ten records", PATIENCE, || {
        while let Some(record) = consumer.poll(Duration::from_millis(200)) {
            record.map_err(|error| error.to_string())?;
            read += 1;
        }
        if read == 10 { Ok(()) } else { Err(format!("{read} so far")) }
    });
    consumer.commit_consumer_state(rdkafka::consumer::CommitMode::Sync).expect("a commit");
    consumer
}

/// Commits as the components of a gateway do: at a position of its choice, without joining the group.
fn commit_by_position(broker: &Broker, group: &str, offset: i64) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.address("kafka"))
        .set("group.id", group)
        .create()
        .expect("a consumer");
    let mut positions = TopicPartitionList::new();
    positions.add_partition_offset("plant", 1, Offset::Offset(offset)).expect("a position");
    consumer.commit(&positions, rdkafka::consumer::CommitMode::Sync).expect("a commit");
}

fn row<'t>(printed: &'t Printed, name: &str) -> Vec<&'t str> {
    let line = printed.lines().into_iter().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("no row {name}: {printed:?}")).split_whitespace().collect()
}

// STR-16
#[test]
fn topics_are_listed_described_created_changed_and_deleted() {
    let broker = Broker::start();
    let create = ["topics", "create", "plant", "--partitions", "2", "--set", "retention.ms=604800000"];
    let planned = broker.ctl(&create);
    assert_eq!(planned.lines(), ["would create topic plant with 2 partitions; --execute does it"]);
    assert!(!broker.ctl(&["topics"]).out.contains("plant"), "a plan changes nothing");
    assert_eq!(broker.ctl(&[&create[..], &["--execute"]].concat()).lines(), ["topic plant is created"]);
    fill(&broker);

    let listed = broker.ctl(&["topics"]);
    assert_eq!(row(&listed, "TOPIC"), ["TOPIC", "PARTITIONS", "RECORDS", "SIZE", "KEPT", "OLDEST", "NEWEST"]);
    assert_eq!(row(&listed, "plant")[1..3], ["2", "10"]);
    assert_eq!(row(&listed, "plant")[5..7], ["7", "d"]);
    let listed = broker.ctl(&["topics", "list", "--json"]).json();
    let plant = listed.as_array().unwrap().iter().find(|topic| topic["topic"] == "plant").unwrap();
    assert_eq!((&plant["records"], &plant["internal"]), (&json!(10), &json!(false)), "{plant}");
    assert!(plant["bytes"].as_i64().unwrap() > 100, "{plant}");

    let described = broker.ctl(&["topics", "describe", "plant"]);
    assert!(described.lines().contains(&"settings  retention.ms=604800000"), "{described:?}");
    assert_eq!(row(&described, "        0")[..4], ["0", "0", "5", "5"]);

    let alter = ["topics", "alter", "plant", "--set", "retention.bytes=1048576", "--unset", "retention.ms"];
    assert!(broker.ctl(&alter).out.starts_with("would change topic plant: set retention.bytes to 1048576, take"));
    broker.ctl(&[&alter[..], &["--partitions", "3", "--execute"]].concat()).lines();
    let described = broker.ctl(&["topics", "describe", "plant", "--json"]).json();
    assert_eq!(described["partitions"].as_array().unwrap().len(), 3);
    let wrong = broker.ctl(&["topics", "alter", "plant", "--set", "retention.ms=soon", "--execute"]);
    assert!(wrong.failure(64).contains("retention.ms"), "{wrong:?}");

    assert_eq!(
        broker.ctl(&["topics", "delete", "plant"]).lines(),
        ["would delete topic plant with 10 records; --execute does it"]
    );
    broker.ctl(&["topics", "delete", "plant", "--execute"]).lines();
    let gone = broker.ctl(&["topics", "describe", "plant"]);
    assert!(gone.failure(64).contains("there is no topic \"plant\""), "{gone:?}");
}

// STR-16
#[test]
fn configs_say_what_holds_and_why() {
    let broker = with_plant();
    let printed = broker.ctl(&["configs", "plant"]);
    assert_eq!(row(&printed, "retention.ms"), ["retention.ms", "604800000", "topic"]);
    assert_eq!(row(&printed, "segment.bytes")[2], "default");
    let changed = broker.ctl(&["configs", "plant", "--changed", "--json"]).json();
    let expected = json!([{ "name": "retention.ms", "value": "604800000", "source": "topic", "read_only": false }]);
    assert_eq!(changed, expected);
    assert!(broker.ctl(&["configs"]).lines().len() > 1, "the broker has settings too");
    let wrong = broker.ctl(&["configs", "plnat"]);
    assert!(wrong.failure(64).contains("did you mean \"plant\"?"), "{wrong:?}");
}

// STR-16
#[test]
fn tail_begins_where_it_is_told_and_prints_as_it_is_told() {
    let broker = with_plant();
    fill(&broker);
    let mut all = broker.ctl(&["tail", "plant", "--from-beginning"]).lines().join("\n");
    assert_eq!(all.lines().count(), 10, "{all}");
    all.push('\n');
    assert!(all.contains("1/4 4\n"), "{all}");
    let some = broker.ctl(&["tail", "plant", "--offset", "-2", "--partition", "1"]);
    assert_eq!(some.lines(), ["1/3 3", "1/4 4"]);
    assert_eq!(broker.ctl(&["tail", "plant", "--from", "1h", "-n", "3"]).lines().len(), 3);
    assert_eq!(broker.ctl(&["tail", "plant", "--from", "2999-01-01"]).lines().len(), 0);
    let hex = broker.ctl(&["tail", "plant", "--offset", "-1", "--partition", "0", "--format", "hex"]);
    assert_eq!(hex.lines(), ["0/4 34"]);

    let keyed = ["produce", "plant", "--key-separator", ":", "--header", "line=7", "--partition", "0"];
    broker.ctl_with_input(&keyed, "press-1:on\npress-2:off\n").lines();
    let raw = broker.ctl(&["tail", "plant", "--from-beginning", "--key", "press-2", "--format", "raw"]);
    assert_eq!(raw.lines(), ["off"]);
    let object = broker.ctl(&["tail", "plant", "--from-beginning", "--key", "press-1", "--json"]).json();
    assert_eq!(object["topic"], "plant");
    assert_eq!((&object["partition"], &object["offset"]), (&json!(0), &json!(5)));
    assert_eq!((&object["value"], &object["headers"]), (&json!("on"), &json!({ "line": "7" })));

    let wrong = broker.ctl(&["tail", "plant", "--partition", "9"]);
    assert_eq!(wrong.failure(64), "streamforge: topic plant has no partition 9; its 2 partitions begin at 0");
    let wrong = broker.ctl(&["tail", "plant", "--from", "yesterday"]);
    assert!(wrong.failure(64).contains("2026-01-31T12:00:00Z"), "a message ends with what to do: {wrong:?}");
}

// STR-16, STR-20
#[test]
fn avro_is_written_and_read_with_the_registry() {
    let broker = with_plant();
    let schema = json!({ "type": "record", "name": "Weight", "fields": [
        { "name": "kg", "type": "double" }, { "name": "note", "type": ["null", "string"], "default": null },
    ] });
    let body = json!({ "schema": schema.to_string() }).to_string();
    let answer = post(&broker.address("registry"), "/subjects/plant-value/versions", &body).unwrap();
    assert_eq!(answer.0, 200, "{answer:?}");
    let produce = ["produce", "plant", "--avro", "plant-value", "--key", "scale"];
    broker.ctl_with_input(&produce, "{\"kg\":1.5,\"note\":\"tare\"}\n{\"kg\":2,\"note\":null}\n").lines();
    let tailed = broker.ctl(&["tail", "plant", "--from-beginning", "--json"]);
    let values: Vec<Value> =
        tailed.lines().iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["value"].clone()).collect();
    assert_eq!(values, [json!({ "kg": 1.5, "note": "tare" }), json!({ "kg": 2.0, "note": null })]);
    let wrong = broker.ctl_with_input(&produce, "{\"kg\":3,\"note\":null}\n{\"kg\":\"heavy\",\"note\":null}\n");
    assert!(wrong.failure(64).contains("line 2: this does not fit the schema"), "{wrong:?}");
    let wrong = broker.ctl_with_input(&["produce", "plant", "--avro", "plant"], "{}\n");
    assert!(wrong.failure(75).contains("subject plant"), "{wrong:?}");
}

// STR-12, STR-16
#[test]
fn groups_show_their_lag_and_are_moved_only_when_nobody_reads() {
    let broker = with_plant();
    fill(&broker);
    let consumer = member(&broker, "historian");
    broker.ctl_with_input(&["produce", "plant", "--partition", "1"], "5\n6\n").lines();

    let listed = broker.ctl(&["groups"]);
    assert_eq!(row(&listed, "historian"), ["historian", "Stable", "1", "2", "plant"]);
    let described = broker.ctl(&["groups", "describe", "historian"]);
    assert!(described.lines().contains(&"members  1"), "{described:?}");
    assert_eq!(row(&described, "plant          1")[..6], ["plant", "1", "5", "7", "2", "press-reader"]);
    let described = broker.ctl(&["groups", "describe", "historian", "--json"]).json();
    assert_eq!(described["partitions"][0]["lag"], 0, "{described}");

    let reset = ["reset-offsets", "historian", "--topic", "plant", "--to", "shift", "-2"];
    let refused = broker.ctl(&[&reset[..], &["--execute"]].concat());
    assert!(refused.failure(75).contains("group historian has members, stop them first: press-reader"), "{refused:?}");
    assert!(broker.ctl(&["groups", "delete", "historian", "--execute"]).failure(75).contains("has members"));
    drop(consumer);

    let planned = broker.ctl(&reset);
    assert_eq!(row(&planned, "plant          1"), ["plant", "1", "5", "3", "4"]);
    assert_eq!(*planned.lines().last().unwrap(), "would move group historian in 2 partitions; --execute does it");
    let committed = |broker: &Broker| -> Vec<i64> {
        let described = broker.ctl(&["groups", "describe", "historian", "--json"]).json();
        let partitions = described["partitions"].as_array().unwrap().iter();
        partitions.map(|partition| partition["committed"].as_i64().unwrap()).collect()
    };
    assert_eq!(committed(&broker), [5, 5], "a plan moves nothing");
    wait_for("the member is gone", PATIENCE, || {
        let moved = broker.ctl(&[&reset[..], &["--execute"]].concat());
        if moved.code == Some(0) { Ok(()) } else { Err(moved.error) }
    });
    assert_eq!(committed(&broker), [3, 3]);
    // a group whose members have gone is not one that nobody ever joined
    commit_by_position(&broker, "archive", 4);
    let listed = broker.ctl(&["groups"]);
    assert_eq!(row(&listed, "historian")[1], "Empty");
    assert_eq!(row(&listed, "archive"), ["archive", "by-position", "0", "3", "plant"]);
    broker.ctl(&["groups", "delete", "archive", "--execute"]).lines();
    for (to, expected) in [(["latest", ""], [5, 7]), (["offset", "1"], [1, 1]), (["time", "2000-01-01"], [0, 0])] {
        let mut words = vec!["reset-offsets", "historian", "--topic", "plant", "--execute", "--to"];
        words.extend(to.iter().filter(|word| !word.is_empty()));
        broker.ctl(&words).lines();
        assert_eq!(committed(&broker), expected, "{to:?}");
    }
    let wrong = broker.ctl(&["reset-offsets", "historain", "--topic", "plant", "--to", "earliest"]);
    assert!(wrong.failure(64).contains("did you mean \"historian\"?"), "{wrong:?}");

    broker.ctl(&["groups", "delete", "historian", "--execute"]).lines();
    assert_eq!(broker.ctl(&["groups"]).lines(), ["there are no groups"]);
}

// STR-04, F10
#[test]
fn a_data_folder_is_verified_offline_and_a_flipped_byte_is_found() {
    let mut broker = with_plant();
    for _ in 0..3 {
        fill(&broker);
    }
    broker.stop();
    let data = broker.data();
    let folder = data.to_str().unwrap();
    let intact = run(&["ctl", "verify", folder]);
    assert_eq!(row(&intact, "TOPIC").last(), Some(&"STATE"));
    assert_eq!(row(&intact, "plant                        0")[..6], ["plant", "0", "0", "15", "15", "1"]);
    assert!(intact.lines().iter().skip(1).all(|line| line.ends_with(" intact")), "{intact:?}");

    let segment = data.join("topics/plant/0/00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let damaged = run(&["ctl", "verify", folder, "--topic", "plant"]);
    assert!(damaged.failure(65).contains("1 of 2 partitions have lost records"), "{damaged:?}");
    assert!(damaged.out.contains("plant/0: offsets 5 to 9 cannot be read"), "{damaged:?}");
    let damaged = run(&["ctl", "verify", folder, "--json"]);
    let report: Value = serde_json::from_str(&damaged.out).unwrap();
    let plant = |index: usize| {
        let rows = report["partitions"].as_array().unwrap().iter().filter(|row| row["topic"] == "plant");
        rows.collect::<Vec<_>>()[index]
    };
    assert_eq!(
        (&report["intact"], &plant(0)["intact"], &plant(1)["intact"]),
        (&json!(false), &json!(false), &json!(true))
    );
    assert_eq!(plant(0)["missing"], json!([{ "first_offset": 5, "last_offset": 9 }]));
    assert_eq!(std::fs::read(&segment).unwrap(), bytes, "nothing was changed");

    // what it said is what the next start does
    broker.start_again();
    assert_eq!(broker.ctl(&["tail", "plant", "--from-beginning", "--partition", "0"]).lines().len(), 10);
    let beside = run(&["ctl", "verify", folder]);
    assert!(beside.error.contains("a broker runs in this folder"), "{beside:?}");
    let nothing = run(&["ctl", "verify", broker.folder().to_str().unwrap()]);
    assert!(nothing.failure(64).contains("there is no stream in"), "{nothing:?}");
}

#[test]
fn a_stream_that_is_not_there_is_named_with_what_to_do() {
    let broker = Broker::start();
    let gone = run(&["ctl", "topics", "--bootstrap", "127.0.0.1:1"]);
    let text = gone.failure(75);
    assert!(text.contains("127.0.0.1:1") && text.contains("is the gateway running?"), "{text}");
    // the registry's port is the likeliest mistake
    let wrong = run(&["ctl", "topics", "--bootstrap", &broker.address("registry")]);
    assert!(wrong.code == Some(75) && wrong.error.contains("is this the right port?"), "{wrong:?}");
}
