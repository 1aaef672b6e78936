//! Administration and reading with clients of others: confluent-kafka, kafka-python and kcat. Needs `SF_TEST_EXTERNAL=1`.

use std::io::Write;
use std::process::{Command, Output};

use crate::support::{TestBroker, produce};

/// Fails with the reason when tests against foreign programs are off or this one does not run.
fn available(program: &str, args: &[&str]) -> Result<(), String> {
    if std::env::var("SF_TEST_EXTERNAL").as_deref() != Ok("1") {
        return Err("SF_TEST_EXTERNAL=1 is not set".to_owned());
    }
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program} ended with {}", output.status)),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

async fn run(mut command: Command) -> Output {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}", String::from_utf8_lossy(&output.stdout));
    output
}

fn python() -> String {
    std::env::var("SF_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

// STR-11, STR-16
#[tokio::test(flavor = "multi_thread")]
async fn confluent_kafka_administers() {
    let python = python();
    if let Err(why) = available(&python, &["-c", "import confluent_kafka.admin"]) {
        writeln!(std::io::stderr(), "not run: administration with confluent-kafka ({why})").unwrap();
        return;
    }
    let broker = TestBroker::start().await;
    let mut command = Command::new(python);
    command.args(["tests/peers/admin.py", &broker.address()]);
    run(command).await;
}

// STR-11: librdkafka has no fetch sessions; this client has
#[tokio::test(flavor = "multi_thread")]
async fn kafka_python_reads_through_a_session() {
    let python = python();
    if let Err(why) = available(&python, &["-c", "import kafka"]) {
        writeln!(std::io::stderr(), "not run: fetch sessions with kafka-python ({why})").unwrap();
        return;
    }
    let (broker, context) = TestBroker::start_with_context(|_| ()).await;
    broker.create_topic("t", 3, &[]).await;
    let mut command = Command::new(python);
    command.args(["tests/peers/sessions.py", &broker.address()]);
    run(command).await;
    let figures = context.metrics.encode().unwrap();
    let counted = |name: &str| figures.lines().any(|line| line.starts_with(name));
    assert!(counted("sf_broker_fetch_sessions{component=\"broker\"} 1"), "{figures}");
    assert!(counted("sf_broker_fetch_session_partitions{component=\"broker\"} 3"), "{figures}");
}

// STR-11
#[tokio::test(flavor = "multi_thread")]
async fn kcat_lists_asks_and_reads() {
    if let Err(why) = available("kcat", &["-V"]) {
        writeln!(std::io::stderr(), "not run: kcat ({why})").unwrap();
        return;
    }
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    let producer = broker.producer(&[]);
    for payload in ["one", "two", "three"] {
        produce(&producer, "t", 1, payload).await;
    }
    let kcat = |args: &[&str]| {
        let mut command = Command::new("kcat");
        command.args(["-b", &broker.address(), "-X", "broker.address.family=v4"]).args(args);
        run(command)
    };
    let text = |output: Output| String::from_utf8(output.stdout).unwrap();
    assert!(text(kcat(&["-L"]).await).contains("topic \"t\" with 2 partitions"));
    assert!(text(kcat(&["-Q", "-t", "t:1:-1"]).await).contains("offset 3"));
    let read = kcat(&["-C", "-t", "t", "-p", "1", "-o", "beginning", "-e", "-q"]).await;
    assert_eq!(text(read), "one\ntwo\nthree\n");
}
