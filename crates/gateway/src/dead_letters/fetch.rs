//! Reading single letters where they lie.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka::client::{Consumer, Error, Position, Settings};
use tokio::time::Instant;

use super::entry::Place;

/// Letters this close to each other are read in one go.
const RUN_GAP: i64 = 500;
/// How long the stream may stay silent before a letter counts as one that cannot be had.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A reader of places.
#[derive(Debug)]
pub(super) struct Fetcher(Settings);

impl Fetcher {
    pub(super) fn new(settings: &Settings) -> Self {
        Self(settings.clone())
    }

    /// Hands the bytes at each place to `each`, in whatever order they come; places that are gone are left out.
    pub(super) fn fetch(&self, places: &[Place], mut each: impl FnMut(Place, &[u8])) -> Result<(), Error> {
        let mut sorted = places.to_vec();
        sorted.sort_unstable();
        let near = |a: &Place, b: &Place| {
            (a.topic(), a.partition) == (b.topic(), b.partition) && b.offset - a.offset <= RUN_GAP
        };
        for run in sorted.chunk_by(near) {
            // a consumer of its own: one that is assigned anew may still tell of the assignment before
            let consumer = Consumer::open(&self.0, "sf-dead-letter")?;
            Self::run(&consumer, run, &mut each)?;
        }
        Ok(())
    }

    fn run(consumer: &Consumer, run: &[Place], each: &mut impl FnMut(Place, &[u8])) -> Result<(), Error> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let topic = first.topic().name();
        let (start, end) = consumer.watermarks(topic, first.partition)?;
        if last.offset < start {
            return Ok(()); // no longer kept
        }
        let offset = first.offset.max(start);
        let assign = |offset: i64| {
            let partition = first.partition;
            consumer.assign(&[Position { topic: topic.to_owned(), partition, offset, metadata: String::new() }])
        };
        assign(offset)?;
        let until = (last.offset + 1).min(end);
        let mut missing: BTreeSet<Place> =
            run.iter().filter(|place| (offset..until).contains(&place.offset)).copied().collect();
        let mut heard = Instant::now();
        // what was fetched for the run before may still arrive: only what is asked for counts
        while !missing.is_empty() {
            let before = missing.len();
            let polled = consumer.poll(missing.len(), Duration::from_millis(200), Duration::ZERO, |record| {
                let place = Place::new(record.topic(), record.partition(), record.offset());
                if let Some(place) = place.filter(|place| missing.remove(place)) {
                    each(place, record.payload().unwrap_or_default());
                }
            });
            match polled {
                Ok(_) if missing.len() < before => heard = Instant::now(),
                Ok(_) if heard.elapsed() > SILENCE_MAX => {
                    return Err(Error::NotDelivered { reason: format!("records of {topic} did not arrive") });
                }
                Ok(_) => {}
                Err(error) if heard.elapsed() > SILENCE_MAX => return Err(error),
                // what went wrong with the assignment before may still be told: the one of now is asked for again
                Err(error) => {
                    tracing::debug!(error = %daemon::report(&error), topic, "dead letters are asked for again");
                    assign(missing.first().map_or(offset, |place| place.offset))?;
                }
            }
        }
        Ok(())
    }
}
