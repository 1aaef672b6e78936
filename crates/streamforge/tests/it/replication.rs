//! Topics in two places: replicated to a customer's cluster, and written while no schema registry answers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use kafka::client::{Producer, Settings};
use serde_json::{Value, json};
use stream::message::telemetry;
use stream::topics::PARTITIONS;
use stream::{Topic, avro};

use crate::harness::{
    Broker, Cluster, Gateway, Ledger, Setup, component, components, each_record, free_address, get, kafka_folder,
    kill_9, not_run, number, post, python, python_available, read_all, say, telemetry_ledger, wait_for, written,
};

const SINK: &str = "hq";
const PATIENCE: Duration = Duration::from_secs(120);

/// Gives the first ids of a registry to schemas that are not ours.
fn register_others(registry: &str) {
    for name in ["Order", "Invoice", "Shipment", "Return", "Customer"] {
        let schema = json!({ "type": "record", "name": name, "fields": [{ "name": "number", "type": "long" }] });
        let body = json!({ "schema": schema.to_string() }).to_string();
        let (status, answer) = post(registry, &format!("/subjects/{name}-value/versions"), &body).expect("a registry");
        assert_eq!(status, 200, "{answer}");
    }
}

/// The id that a registry gave to the newest schema of a topic.
fn id_at(registry: &str, topic: Topic) -> i32 {
    let (_, answer) = get(registry, &format!("/subjects/{}/versions/latest", topic.subject())).expect("a registry");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    i32::try_from(answer["id"].as_i64().unwrap_or_else(|| panic!("{answer}"))).expect("an id")
}

/// Which readings are at the customer's. Behind them lies the end of a transaction, which is no record: a record is put
/// behind that.
fn ledger_at(customer: SocketAddr, id: i32) -> Ledger {
    const END: &[u8] = b"end of the test's look";
    let producer = Producer::open(&Settings::new(&customer.to_string(), "sf-e2e")).expect("a producer");
    let batch = producer.batch();
    for partition in 0..PARTITIONS {
        batch.send(Topic::TelemetryClean.name(), partition, b"", END, 0, &[]).expect("a record");
    }
    assert!(batch.finish().wait(PATIENCE).expect("a broker"), "the end is written");
    let mut ledger = Ledger::default();
    each_record(customer, Topic::TelemetryClean, |record| {
        let payload = record.payload().expect("no tombstones");
        if payload == END {
            return;
        }
        let (found, body) = avro::unframe(payload).expect("framed");
        assert_eq!(found, id, "AC-064: the customer's id");
        let reading = telemetry::decode(body).expect("a reading");
        let adapter = reading.metadata.get("adapter_id").expect("an adapter");
        ledger.add(adapter, reading.epoch, reading.seq);
        let record_id = format!("gw-replica/{adapter}/{}/{}", reading.epoch, reading.seq);
        assert_eq!(record.header(stream::header::RECORD_ID), Some(record_id.as_bytes()));
        assert_eq!(record.timestamp_ms(), reading.gateway_time.as_millis());
        assert_eq!(record.key(), reading.asset_id.as_bytes());
    });
    ledger
}

fn load(points: u32) -> Value {
    json!({
        "adapter_id": "load", "adapter_type": "simulated", "asset_id": "load", "points": points, "assets": 5,
        "poll_interval_ms": 100,
    })
}

// AC-064, REC-06, R-09, OFF-13, I4: the customer's cluster is killed, and so is the sink, while readings flow
#[test]
fn kills_of_the_customers_cluster_lose_nothing_and_repeat_nothing() {
    let kills = number("SF_REPLICA_KILLS", 3);
    let mut customer = Broker::start_with_registry(free_address());
    register_others(&customer.address("registry"));
    let (there, registry) = (customer.address("kafka"), customer.address("registry"));
    let sink = json!({
        "sink_id": SINK, "sink_type": "kafka", "bootstrap": there, "registry_url": format!("http://{registry}"),
        "topics": ["telemetry.clean", "events.clean"],
    });
    let mut setup = Setup::new("gw-replica").with("adapters", vec![load(50)]).with("sinks", vec![sink]);
    let gateway = setup.start();
    let caught_up = |what: &str| {
        gateway.wait_at_most(what, PATIENCE, |status| {
            let part = component(status, SINK)?;
            let well = part["health"] == "HEALTHY" && part["lag_records"].as_i64().is_some_and(|lag| lag < 500);
            if well { Ok(()) } else { Err(part.to_string()) }
        });
    };
    gateway.wait_for_records("telemetry.clean", 1000);
    for round in 0..kills {
        caught_up("the replica is up to date");
        if round % 2 == 1 {
            kill_9(gateway.wait_for_child(SINK, None));
        }
        customer.kill();
        let before = gateway.wait("figures", |status| written(status, "telemetry.clean"));
        gateway.wait_for_records("telemetry.clean", before + 1000);
        customer.start_again();
    }
    caught_up("the replica has caught up");
    setup.document["adapters"] = json!([]);
    setup.write();
    gateway.wait("the adapter is gone", |status| {
        if components(status).any(|part| part["role"] == "adapter") { Err("it runs".to_owned()) } else { Ok(()) }
    });
    gateway.wait_until_drained(PATIENCE);
    let id = id_at(&registry, Topic::TelemetryClean);
    let clean = telemetry_ledger(setup.kafka, &[Topic::TelemetryClean]);
    let there = there.parse().expect("an address");
    clean.assert_each_once_in("telemetry.clean", &ledger_at(there, id), "the customer's cluster");
    say(&format!("{kills} kills of the customer's cluster: {} readings, each once, under id {id}", clean.total()));
    match python_available(&["confluent_kafka"]) {
        Ok(()) => {
            let arguments = [there.to_string(), format!("http://{registry}"), clean.total().to_string()];
            say(&format!("confluent-kafka at the customer's: {}", python("read_replica.py", &arguments).trim()));
        }
        Err(why) => not_run("the replica, read with confluent-kafka", &why),
    }
    customer.stop();
}

// AC-064 at Apache Kafka itself, while the sink is killed again and again
#[test]
fn apache_kafka_holds_each_reading_once_while_the_sink_is_killed() {
    let Some(folder) = kafka_folder() else {
        return say("not run: replication to Apache Kafka (scripts/test-external.sh)");
    };
    let root = tempfile::Builder::new().prefix("sf-replica-").tempdir().expect("a temporary folder");
    let [kafka, registry] = [free_address(), free_address()];
    let _cluster = Cluster::start(&folder, root.path(), kafka, registry);
    register_others(&registry.to_string());
    let sink = json!({
        "sink_id": SINK, "sink_type": "kafka", "bootstrap": kafka, "registry_url": format!("http://{registry}"),
        "topics": ["telemetry.clean"],
    });
    let mut setup = Setup::new("gw-replica");
    let stream = json!({ "mode": "embedded", "listen": setup.kafka, "registry_listen": setup.registry });
    setup = setup.with("stream", stream).with("adapters", vec![load(50)]).with("sinks", vec![sink]);
    let gateway = setup.start();
    let mut clean = gateway.wait_for_records("telemetry.clean", 500);
    for _ in 0..number("SF_REPLICA_KILLS", 3) {
        kill_9(gateway.wait_for_child(SINK, None));
        clean = gateway.wait_for_records("telemetry.clean", clean + 1000);
    }
    setup.document["adapters"] = json!([]);
    setup.write();
    gateway.wait("the adapter is gone", |status| {
        if components(status).any(|part| part["role"] == "adapter") { Err("it runs".to_owned()) } else { Ok(()) }
    });
    gateway.wait_until_drained(PATIENCE);
    let id = id_at(&registry.to_string(), Topic::TelemetryClean);
    let clean = telemetry_ledger(setup.kafka, &[Topic::TelemetryClean]);
    clean.assert_each_once_in("telemetry.clean", &ledger_at(kafka, id), "Apache Kafka");
    say(&format!("replication to Apache Kafka: {} readings, each once, under id {id}", clean.total()));
}

// AC-065, REC-07: no registry and no cache. The gateway runs and polls on its built-in contracts; no record is written
// under an id that nobody gave, and as soon as there is one, everything since the start is written under it.
#[test]
fn a_gateway_starts_without_registry_and_cache_and_writes_when_ids_are_given() {
    let cluster = Broker::start();
    let at = free_address();
    let mut registry = Broker::start_with_registry(at);
    register_others(&at.to_string());
    registry.stop();
    let setup = Setup::new("gw-no-registry")
        .with(
            "stream",
            json!({ "mode": "external", "bootstrap": cluster.address("kafka"), "registry_url": format!("http://{at}") }),
        )
        .with("adapters", vec![load(20)]);
    setup.write();
    let mut gateway = Gateway::start(&setup);
    assert!(!setup.data().join("config/schemas.json").exists(), "the cache is empty");
    let adapter = gateway.wait_for_child("load", None);
    wait_for("readings wait for an id", PATIENCE, || {
        let metrics = gateway.metrics("load")?;
        let value = |line: &str| line.strip_prefix("sf_buffered_records")?.rsplit(' ').next()?.parse().ok();
        let waiting = metrics.lines().find_map(value);
        if waiting > Some(300_u64) { Ok(()) } else { Err(format!("{waiting:?} wait")) }
    });
    let status = gateway.status().expect("the status page answers");
    assert!(status["health"] == "DEGRADED" || status["health"] == "UNHEALTHY", "it is felt: {}", status["reason"]);
    let kafka: SocketAddr = cluster.address("kafka").parse().expect("an address");
    for topic in Topic::ALL {
        assert_eq!(read_all(kafka, topic).len(), 0, "{} has records without an id", topic.name());
    }

    registry.start_again();
    gateway.wait_at_most("readings pass", PATIENCE, |status| match written(status, "telemetry.clean")? {
        0..=1000 => Err("not yet".to_owned()),
        _ => Ok(()),
    });
    assert_eq!(gateway.wait_for_child("load", None), adapter, "nothing was restarted for it");
    gateway.wait("every part works", |status| {
        components(status).find(|part| part["health"] != "HEALTHY").map_or(Ok(()), |part| Err(part.to_string()))
    });
    gateway.stop("TERM");
    let mut seqs = BTreeSet::new();
    for topic in [Topic::TelemetryRaw, Topic::TelemetryClean] {
        let id = id_at(&at.to_string(), topic);
        assert!(id > 5, "the first ids are taken: {id}");
        for record in read_all(kafka, topic) {
            let (found, body) = avro::unframe(&record.payload).expect("framed");
            assert_eq!(found, id, "{} has an id that the registry did not give it", topic.name());
            let reading = telemetry::decode(body).expect("a reading");
            if topic == Topic::TelemetryRaw {
                seqs.insert(reading.seq);
            }
        }
    }
    let count = i64::try_from(seqs.len()).expect("a small number");
    assert_eq!((seqs.first(), seqs.last()), (Some(&0), Some(&(count - 1))), "what was read before is there, in full");
    say(&format!("no registry at the start: {count} readings from the first on, none under a wrong id"));
    registry.stop();
}
