//! Members that are somebody else's programs, and a broker that is killed under them. Needs `SF_TEST_EXTERNAL=1` and python.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use crate::support::TestBroker;

fn interpreter() -> String {
    std::env::var("SF_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// Fails with the reason when tests against foreign programs are off or python lacks a client.
fn available(modules: &str) -> Result<(), String> {
    if std::env::var("SF_TEST_EXTERNAL").as_deref() != Ok("1") {
        return Err("SF_TEST_EXTERNAL=1 is not set".to_owned());
    }
    let output = Command::new(interpreter()).args(["-c", &format!("import {modules}")]).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => Err(format!("{} cannot import {modules}", interpreter())),
        Err(error) => Err(format!("{}: {error}", interpreter())),
    }
}

/// Runs a group of members, kills the broker when they have settled, and lets them judge what follows.
async fn judged_by(kind: &'static str, modules: &str) {
    if let Err(why) = available(modules) {
        // past the capture of a test's output: what did not run is seen
        return std::io::stderr().write_all(format!("not run: members of {kind} ({why})\n").as_bytes()).unwrap();
    }
    let mut broker = TestBroker::start_with(|settings| settings.consumer_heartbeat_ms = 200).await;
    let topic = format!("peers-{kind}");
    broker.create_topic(&topic, 4, &[]).await;
    let script = "tests/peers/groups.py";
    let mut members = Command::new(interpreter())
        .args([script, &broker.address(), &topic, kind])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let settling = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        BufReader::new(members.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        (said, members)
    });
    let (said, mut members) = settling.await.unwrap();
    if said != "settled\n" {
        return end(members);
    }
    broker.crash_and_restart().await;
    members.stdin.as_mut().unwrap().write_all(b"back\n").unwrap();
    tokio::task::spawn_blocking(move || end(members)).await.unwrap();
}

fn end(mut members: Child) {
    let mut errors = String::new();
    members.stderr.as_mut().unwrap().read_to_string(&mut errors).unwrap();
    assert!(members.wait().unwrap().success(), "{errors}");
}

// STR-11, F22
#[tokio::test(flavor = "multi_thread")]
async fn confluent_kafka_with_the_consumer_group_protocol() {
    judged_by("consumer", "confluent_kafka.admin").await;
}

// STR-11, F22
#[tokio::test(flavor = "multi_thread")]
async fn confluent_kafka_with_the_classic_protocol() {
    judged_by("classic", "confluent_kafka.admin").await;
}

// STR-11, F22
#[tokio::test(flavor = "multi_thread")]
async fn kafka_python_with_the_classic_protocol() {
    judged_by("kafka-python", "confluent_kafka.admin, kafka").await;
}
