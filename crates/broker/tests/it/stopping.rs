//! Stopping: clients that wait for something are answered and do not keep the broker from its end.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::frames::{answer, connect, frame, is_closed};
use crate::support::{TestBroker, eventually, produce};

/// Far above what a stop takes, far below what the clients of these tests wait for.
const STOP_MAX: Duration = Duration::from_secs(3);

/// Whether there were requests of one kind so far.
fn requests(context: &daemon::Context, api: &str) -> bool {
    let text = context.metrics.encode().unwrap();
    let label = format!("\"{api}\"");
    let mut rows = text.lines().filter(|line| line.starts_with("sf_broker_requests_total") && line.contains(&label));
    rows.any(|line| !line.ends_with(" 0"))
}

fn string(text: &str) -> Vec<u8> {
    [&i16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

/// A fetch that waits a minute for something behind the only record, as version 4.
fn long_fetch(topic: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for number in [-1, 60_000, 1, 1 << 20] {
        body.extend_from_slice(&i32::to_be_bytes(number)); // replica, longest wait, fewest and most bytes
    }
    body.push(0); // isolation
    body.extend_from_slice(&[0, 0, 0, 1]);
    body.extend_from_slice(&string(topic));
    body.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0]);
    body.extend_from_slice(&1_i64.to_be_bytes());
    body.extend_from_slice(&(1_i32 << 20).to_be_bytes());
    frame(1, 4, 7, false, &body)
}

/// The first member of a group, as version 0.
fn join() -> Vec<u8> {
    let mut body = string("waiting");
    body.extend_from_slice(&30_000_i32.to_be_bytes());
    body.extend_from_slice(&[string(""), string("consumer")].concat());
    body.extend_from_slice(&[0, 0, 0, 1]);
    body.extend_from_slice(&string("range"));
    body.extend_from_slice(&[0, 0, 0, 0]);
    frame(11, 0, 8, false, &body)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_wait_are_answered_at_the_stop() {
    // a group's first member waits a minute for a second one
    let (mut broker, context) =
        TestBroker::start_with_context(|settings| settings.group_initial_delay_ms = 60_000).await;
    broker.create_topic("quiet", 1, &[]).await;
    produce(&broker.producer(&[]), "quiet", 0, "the only one").await;
    let (mut idle, mut reader, mut member) = (connect(&broker).await, connect(&broker).await, connect(&broker).await);
    reader.write_all(&long_fetch("quiet")).await.unwrap();
    member.write_all(&join()).await.unwrap();
    eventually("a fetch and a join wait", async || requests(&context, "fetch") && requests(&context, "join_group"))
        .await;

    let begin = Instant::now();
    broker.stop().await;
    let took = begin.elapsed();
    assert!(took < STOP_MAX, "the stop took {took:?}");

    // correlation id, throttle time, one topic: what there is, which is nothing
    assert_eq!(answer(&mut reader).await[..12], [0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1]);
    // COORDINATOR_NOT_AVAILABLE: the client asks again, the next broker answers
    assert_eq!(answer(&mut member).await[..6], [0, 0, 0, 8, 0, 15]);
    for client in [&mut idle, &mut reader, &mut member] {
        assert!(is_closed(client).await);
    }
}

// a client that does not take its answers loses them
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_does_not_delay_the_stop() {
    let (mut broker, context) = TestBroker::start_with_context(|_| {}).await;
    broker.create_topic("large", 1, &[]).await;
    let producer = broker.producer(&[]);
    let record = "x".repeat(900_000);
    for _ in 0..8 {
        produce(&producer, "large", 0, &record).await;
    }
    let mut deaf = connect(&broker).await;
    for _ in 0..40 {
        deaf.write_all(&long_fetch("large")).await.unwrap();
    }
    eventually("its answers fill the connection", async || requests(&context, "fetch")).await;
    let begin = Instant::now();
    broker.stop().await;
    let took = begin.elapsed();
    assert!(took < STOP_MAX, "the stop took {took:?}");
}
