//! Watching the stream: ends of every topic once a second, turned into rates for the status page and metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kafka::client::{Consumer, Error, Settings};
use stream::Topic;
use stream::topics::PARTITIONS;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Rates are averages over about this long.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// One topic as the page shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicStatus {
    pub topic: Topic,
    /// Records ever written (sum of the partitions' ends).
    pub written: i64,
    pub records_per_s: f64,
}

/// Newest figures.
pub type Table = Arc<Mutex<Vec<TopicStatus>>>;

/// Runs until `stop`; blocking, on a thread of its own. An error means: start it again.
pub fn run(settings: &Settings, table: &Table, stop: &CancellationToken) -> Result<(), Error> {
    let consumer = Consumer::open(settings, "sf-watch")?;
    let names: Vec<(&str, i32)> = Topic::ALL.iter().map(|topic| (topic.name(), PARTITIONS)).collect();
    let mut history: Vec<(Instant, BTreeMap<Topic, i64>)> = Vec::new();
    while !stop.is_cancelled() {
        let mut written: BTreeMap<Topic, i64> = Topic::ALL.iter().map(|topic| (*topic, 0)).collect();
        for end in consumer.ends(&names)? {
            if let Some(topic) = Topic::by_name(&end.topic) {
                *written.entry(topic).or_default() += end.offset;
            }
        }
        let now = Instant::now();
        history.retain(|(at, _)| now.duration_since(*at) <= RATE_WINDOW);
        let status = |(topic, written): (&Topic, &i64)| {
            let rate = history.first().map_or(0.0, |(at, before)| {
                let seconds = now.duration_since(*at).as_secs_f64();
                rate(written - before.get(topic).copied().unwrap_or(0), seconds)
            });
            TopicStatus { topic: *topic, written: *written, records_per_s: rate }
        };
        let figures: Vec<TopicStatus> = written.iter().map(status).collect();
        *table.lock().unwrap_or_else(PoisonError::into_inner) = figures;
        history.push((now, written));
        let until = now + LOOK_EVERY;
        while Instant::now() < until && !stop.is_cancelled() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(records: i64, seconds: f64) -> f64 {
    if seconds > 0.0 { records as f64 / seconds } else { 0.0 }
}
