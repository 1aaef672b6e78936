//! The broker as a service of its own: readiness, health, metrics, the stop, and what it says when it cannot start.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::time::Instant;

use crate::harness::{Broker, get, run, wait_for};

/// Far below the deadlines with which clients wait, far above what a stop takes.
const STOP_MAX: Duration = Duration::from_secs(3);

// STR-16
#[test]
fn a_broker_alone_is_ready_healthy_and_measured() {
    let broker = Broker::start();
    let admin = broker.address("admin");
    assert_eq!(get(&admin, "/health/ready").unwrap().0, 200);
    let health: serde_json::Value = serde_json::from_str(&get(&admin, "/health").unwrap().1).unwrap();
    assert_eq!(health["status"], "healthy", "{health}");
    assert_eq!(broker.ctl(&["topics", "create", "plant", "--execute"]).code, Some(0));
    let metrics = get(&admin, "/metrics").unwrap().1;
    assert!(metrics.contains("sf_broker_requests_total{component=\"broker\",api=\"create_topics\"} 1"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let page = std::fs::read_to_string("../../docs/reference/metrics.md").unwrap();
    for help in metrics.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, meaning) = help.split_once(' ').unwrap();
        let row = format!("| `{name}` | {} |", meaning.trim_end_matches('.'));
        assert!(page.contains(&row), "the reference of metrics has no row {row}");
    }
}

#[test]
fn a_stop_with_open_clients_is_quick_and_keeps_everything() {
    let mut broker = Broker::start();
    broker.ctl(&["topics", "create", "plant", "--execute"]).lines();
    broker.ctl_with_input(&["produce", "plant"], "one\n").lines();
    let kafka = broker.address("kafka");
    let mut idle = TcpStream::connect(&kafka).unwrap();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka)
        .set("group.id", "waiting")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "60000")
        .set("socket.timeout.ms", "90000")
        .create()
        .unwrap();
    consumer.subscribe(&["plant"]).unwrap();
    wait_for("a record", Duration::from_secs(30), || {
        consumer.poll(Duration::from_millis(200)).ok_or("none")?.map(|_| ()).map_err(|error| error.to_string())
    });
    let begin = Instant::now();
    let status = broker.stop();
    let took = begin.elapsed();
    assert!(status.success(), "{status}");
    assert!(took < STOP_MAX, "the stop took {took:?}");
    assert!(matches!(idle.read(&mut [0; 1]), Ok(0) | Err(_)), "the connection is over");
    // librdkafka waits for a broker that is gone when it is dropped
    std::mem::forget(consumer);
    broker.start_again();
    assert_eq!(broker.ctl(&["tail", "plant", "--from-beginning"]).lines(), ["0/0 one"]);
}

#[test]
fn what_keeps_a_broker_from_its_start_is_said_with_a_code() {
    let broker = Broker::start();
    let (data, kafka) = (broker.data(), broker.address("kafka"));
    let data = data.to_str().unwrap();
    let second = run(&["broker", "--data-dir", data, "--listen", "127.0.0.1:0"]);
    assert!(second.failure(75).contains("another process uses the data folder"), "{second:?}");
    let other = broker.folder().join("other");
    let other = other.to_str().unwrap();
    let taken = run(&["broker", "--data-dir", other, "--listen", &kafka, "--registry-listen", "127.0.0.1:0"]);
    assert!(taken.failure(75).contains(&kafka), "{taken:?}");
    let wrong = run(&["broker", "--data-dir", other, "--advertise", "nowhere"]);
    assert!(wrong.failure(78).contains("nowhere is not host:port"), "{wrong:?}");
}
