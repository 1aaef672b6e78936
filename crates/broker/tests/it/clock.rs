//! A broker on a machine whose clock is wrong: nothing is deleted for its age (OFF-03, AC-095).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use daemon::clock::{ClockSource, Kernel, Memory, last_good};
use model::{Clock, Health, Timestamp};
use rdkafka::producer::FutureRecord;

use crate::support::{PATIENCE, TestBroker, ends, eventually};

const TOPIC: &str = "telemetry";
const DAY_US: i64 = 86_400_000_000;

/// A machine that was just started, with a wall clock of the test's.
#[derive(Debug)]
struct Machine(AtomicI64);

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

impl ClockSource for Machine {
    fn boottime_us(&self) -> i64 {
        10_000_000
    }

    fn kernel(&self) -> Kernel {
        Kernel::default()
    }

    fn boot(&self) -> String {
        "boot".to_owned()
    }
}

/// A start of the broker at `wall`, told by the runtime that the time was once `not_before`.
fn context(wall: Timestamp, not_before: Timestamp) -> daemon::Context {
    let machine = Arc::new(Machine(AtomicI64::new(wall.as_micros())));
    let mut context = daemon::Context::new("broker", "test");
    context.clock = Arc::<Machine>::clone(&machine);
    context.clock_source = machine;
    context.launch.clock = Memory { not_before_us: Some(not_before.as_micros()), ..Memory::default() };
    context
}

async fn fill(broker: &TestBroker, stamp: Timestamp, count: usize) {
    let producer = broker.producer(&[]);
    let payload = "x".repeat(400_000);
    for _ in 0..count {
        let record: FutureRecord<'_, str, str> = FutureRecord::to(TOPIC).partition(0).payload(&payload);
        producer.send(record.timestamp(stamp.as_millis()), PATIENCE).await.unwrap();
    }
}

fn start_offset(broker: &TestBroker) -> i64 {
    let consumer = broker.consumer(&[]);
    tokio::task::block_in_place(|| ends(&consumer, TOPIC, 1))[&0].0
}

/// The first round of retention is at the start of the broker, the next half a minute later.
async fn first_round() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

// AC-095, OFF-03
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_cannot_be_right_deletes_no_segment() {
    let last_good = last_good::built().plus_micros(100 * DAY_US);
    let mut broker = TestBroker::start_with(|settings| settings.doubts_clock = true).await;
    let retention = (45 * DAY_US / 1000).to_string();
    broker.create_topic(TOPIC, 1, &[("retention.ms", &retention), ("segment.bytes", "1048576")]).await;
    fill(&broker, last_good.plus_micros(-60 * DAY_US), 12).await;

    // an hour before the last good time: what is 60 days old by it stays
    let wrong = context(last_good.plus_micros(-3_600_000_000), last_good);
    broker.restart_in(&wrong).await;
    first_round().await;
    assert_eq!(start_offset(&broker), 0);
    assert_eq!(wrong.board.health(), Health::Degraded);
    assert!(wrong.board.reason().contains("nothing is deleted"), "{}", wrong.board.reason());

    // the control: by a clock that may be right it goes
    broker.restart_in(&context(last_good, last_good)).await;
    eventually("old segments go", async || start_offset(&broker) > 0).await;
}

// AC-095: a broker that was started in 1970 and set to today does not find its own segments 56 years old
#[tokio::test(flavor = "multi_thread")]
async fn segments_of_1970_are_not_56_years_old_after_the_clock_was_set() {
    let last_good = last_good::built().plus_micros(DAY_US);
    let mut broker = TestBroker::start_with(|settings| settings.doubts_clock = true).await;
    broker.restart_in(&context(Timestamp::from_millis(10_000), last_good)).await;
    let retention = (45 * DAY_US / 1000).to_string();
    broker.create_topic(TOPIC, 1, &[("retention.ms", &retention), ("segment.bytes", "1048576")]).await;
    fill(&broker, Timestamp::from_millis(50_000), 12).await;
    broker.restart_in(&context(last_good, last_good)).await;
    first_round().await;
    assert_eq!(start_offset(&broker), 0);
    fill(&broker, last_good, 6).await;
    broker.restart_in(&context(last_good.plus_micros(40 * DAY_US), last_good)).await;
    first_round().await;
    assert_eq!(start_offset(&broker), 0);
    broker.restart_in(&context(last_good.plus_micros(50 * DAY_US), last_good)).await;
    eventually("they go with what came after them", async || start_offset(&broker) > 0).await;
}
