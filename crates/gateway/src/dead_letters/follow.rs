//! The thread that keeps the index: reads the dead letters and the decisions from the start of their topics, then goes on.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kafka::client::{Consumer, Error, Position, Record};
use pipeline::dead_letter;
use stream::topics::PARTITIONS;
use stream::{StateTopic, avro, message};
use tokio::time::Instant;

use super::entry::{Place, TOPICS};
use super::index::Index;
use crate::modules::ModuleContext;

const SLICE_RECORDS: usize = 2000;
const LOOK: Duration = Duration::from_millis(200);
/// How often the starts of the topics are compared with the index.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// Without a record for this long, what was there at the start counts as read: the rest is not for consumers.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Follows the topics until the stop token is cancelled; an error means: begin again.
pub(super) fn run(ctx: &ModuleContext, index: &Mutex<Index>) -> Result<(), Error> {
    let consumer = Consumer::open(&ctx.settings, "sf-dead-letter")?;
    let mut names: Vec<(&str, i32)> = TOPICS.iter().map(|topic| (topic.name(), PARTITIONS)).collect();
    names.push((StateTopic::DeadLetters.name(), PARTITIONS));
    let ends = consumer.ends(&names)?;
    let starts = consumer.starts(&names)?;
    let lock = || index.lock().unwrap_or_else(PoisonError::into_inner);
    *lock() = Index::default();
    consumer.assign(&starts)?;
    let mut missing: Vec<Position> = ends;
    missing.retain(|end| starts.iter().any(|start| same(start, end) && start.offset < end.offset));
    let (mut heard, mut looked) = (Instant::now(), Instant::now());
    while !ctx.stop.is_cancelled() {
        let polled = consumer.poll(SLICE_RECORDS, LOOK, Duration::ZERO, |record| {
            take(&mut lock(), &record);
            if !missing.is_empty() {
                missing.retain(|end| {
                    end.topic != record.topic()
                        || end.partition != record.partition()
                        || record.offset() + 1 < end.offset
                });
            }
        });
        // retention overtook the reading: begin again at what there is
        if polled? > 0 {
            heard = Instant::now();
        }
        if !lock().complete && (missing.is_empty() || heard.elapsed() > SILENCE_MAX) {
            lock().finish();
        }
        if looked.elapsed() > EXPIRE_EVERY {
            looked = Instant::now();
            for start in consumer.starts(&names)? {
                lock().expire(&start.topic, start.partition, start.offset);
            }
        }
    }
    Ok(())
}

fn same(a: &Position, b: &Position) -> bool {
    a.topic == b.topic && a.partition == b.partition
}

fn take(index: &mut Index, record: &Record<'_>) {
    if record.topic() == StateTopic::DeadLetters.name() {
        let Ok(id) = std::str::from_utf8(record.key()) else { return };
        match record.payload() {
            Some(payload) => {
                if let Some(status) = dead_letter::decode(payload) {
                    index.take_status(id, status);
                }
            }
            None => index.forget_status(id),
        }
        return;
    }
    let Some(place) = Place::new(record.topic(), record.partition(), record.offset()) else { return };
    let body = record.payload().and_then(|payload| avro::unframe(payload).ok());
    match body.and_then(|(_, body)| message::dead_letter::decode(body).ok()) {
        Some(letter) => index.take_letter(place, &letter),
        None => index.note_unreadable(),
    }
}
