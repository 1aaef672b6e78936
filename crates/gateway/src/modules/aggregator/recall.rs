//! Reads windows that were let go back from the output, because late data came for one of them (AGG-06).
//!
//! The newest revision of a window may lie anywhere behind its end, so everything the output holds since then is looked
//! through, once for all windows of an asset in the stretch. That takes time away from what is new: a reader that spent
//! half of its last minutes with it refuses late data for a while, counted and in the loss ledger like other late data.

use std::collections::HashMap;
use std::time::Duration;

use kafka::client::{Consumer, Position, Record};
use model::{Aggregate, Timestamp};
use pipeline::aggregate::{Restored, Stretch};
use stream::message::aggregate;
use stream::publisher::read_source;
use stream::{avro, header};
use tokio::time::Instant;

use super::cascade::Step;
use crate::modules::marks::partition;
use crate::modules::{Error, ModuleContext};

/// How long one read waits for the next record before it asks whether to stop.
const POLL_WAIT: Duration = Duration::from_millis(200);
/// Silence of the stream after which a read is given up and the module starts again.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A window is written behind its end; so far a clock that was set may have put its record before it, milliseconds.
const BEFORE_MS: i64 = 10 * 60_000;
/// Windows of one stretch; of more nothing is read.
const WINDOWS_MAX: usize = 200_000;
/// So long is looked back for how much time was spent, and so much of it may be.
const BUDGET_PERIOD: Duration = Duration::from_secs(600);
const BUDGET: Duration = Duration::from_secs(300);

/// A window as the output holds it, without its framing.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) body: Vec<u8>,
    pub(super) sources: Sources,
    /// Where it stands in the output.
    pub(super) mark: i64,
}

/// Reads the output again.
#[derive(Debug, Default)]
pub(super) struct Recall {
    consumer: Option<Consumer>,
    budget: Budget,
}

impl Recall {
    /// The newest revision of every window of the asset that begins in the stretch; `None` when retention took some, when
    /// there are too many, or when too much time went into it lately.
    pub(super) fn read(
        &mut self,
        ctx: &ModuleContext,
        step: Step,
        lane: usize,
        asset: &str,
        stretch: Stretch,
    ) -> Result<Option<Vec<Found>>, Error> {
        let begun = Instant::now();
        if !self.budget.allows(begun) {
            return Ok(None);
        }
        let found = self.look_through(ctx, step, lane, asset, stretch);
        self.budget.spend(begun.elapsed());
        found
    }

    fn look_through(
        &mut self,
        ctx: &ModuleContext,
        step: Step,
        lane: usize,
        asset: &str,
        stretch: Stretch,
    ) -> Result<Option<Vec<Found>>, Error> {
        let stream = Error::stream(super::MODULE);
        if self.consumer.is_none() {
            self.consumer = Some(Consumer::open(&ctx.settings, step.group).map_err(&stream)?);
        }
        let Some(consumer) = &self.consumer else { return Ok(None) };
        let (topic, partition) = (step.output.name(), partition(lane));
        let (low, high) = consumer.watermarks(topic, partition).map_err(&stream)?;
        let (_, input_end) = consumer.watermarks(step.input.name(), partition).map_err(&stream)?;
        let since_ms = Timestamp::from_micros(stretch.from).as_millis().saturating_sub(BEFORE_MS);
        let Some(from) = consumer.offset_at(topic, partition, since_ms).map_err(&stream)? else {
            return Ok(Some(Vec::new())); // nothing was written since
        };
        if from <= low && low > 0 {
            return Ok(None);
        }
        let begin = Position { topic: topic.to_owned(), partition, offset: from, metadata: String::new() };
        consumer.assign(&[begin]).map_err(&stream)?;
        let mut newest: HashMap<(String, i64), (i64, Found)> = HashMap::new();
        let mut next = from;
        let mut heard = Instant::now();
        while next < high {
            if ctx.stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            let count = consumer
                .poll(4096, POLL_WAIT, Duration::ZERO, |record| {
                    next = next.max(record.offset() + 1);
                    if record.key() != asset.as_bytes() || newest.len() > WINDOWS_MAX {
                        return;
                    }
                    let Ok((_, body)) = avro::unframe(record.payload().unwrap_or_default()) else { return };
                    let Ok(window) = aggregate::decode(body) else { return };
                    let start = window.window_start.as_micros();
                    if window.asset_id != asset || !stretch.begins(start) {
                        return;
                    }
                    let found = Found {
                        body: body.to_vec(),
                        sources: sources(step, input_end, lane, &record),
                        mark: record.offset(),
                    };
                    let key = (window.parameter.to_owned(), start);
                    let is_older = |(revision, _): &(i64, Found)| *revision <= window.revision;
                    if newest.get(&key).is_none_or(is_older) {
                        newest.insert(key, (window.revision, found));
                    }
                })
                .map_err(&stream)?;
            if count > 0 {
                heard = Instant::now();
            } else if heard.elapsed() > SILENCE_MAX {
                let reason = format!("windows of {topic} did not arrive a second time");
                return Err(stream(kafka::client::Error::NotDelivered { reason }));
            }
        }
        consumer.assign(&[]).map_err(&stream)?;
        let is_complete = newest.len() <= WINDOWS_MAX;
        Ok(is_complete.then(|| newest.into_values().map(|(_, found)| found).collect()))
    }
}

/// Offsets of the first and the last input of a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources {
    from: i64,
    last: i64,
}

/// What a record of the output says of its inputs. Those that lie beyond the input's end speak of another log: none of
/// its inputs is counted.
pub(super) fn sources(step: Step, input_end: i64, lane: usize, record: &Record<'_>) -> Sources {
    let source = |name| {
        let value = record.header(name)?;
        Some(read_source(value, step.input.name(), partition(lane)).filter(|offset| *offset < input_end).unwrap_or(-1))
    };
    Sources { from: source(header::SOURCE_FROM).unwrap_or(-1), last: source(header::SOURCE).unwrap_or(i64::MAX) }
}

/// A window as the output holds it, at `mark`.
pub(super) fn restored<'r>(sources: Sources, mark: i64, window: &Aggregate<'r>) -> Restored<'r> {
    Restored {
        asset_id: window.asset_id,
        parameter: window.parameter,
        unit: window.unit,
        start: window.window_start,
        end: window.window_end,
        kind: window.kind,
        partials: window.partials,
        partial: window.partial,
        held: window.held,
        carry: window.carry,
        stops: window.stops,
        revision: window.revision,
        from_offset: sources.from,
        offset: sources.last,
        gateway_time: window.gateway_time,
        mark,
    }
}

/// How much time went into it lately.
#[derive(Debug, Default)]
struct Budget {
    since: Option<Instant>,
    spent: Duration,
}

impl Budget {
    fn allows(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= BUDGET_PERIOD) {
            *self = Self { since: Some(now), spent: Duration::ZERO };
        }
        self.spent < BUDGET
    }

    fn spend(&mut self, time: Duration) {
        self.spent += time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_time_is_for_what_is_new() {
        let begun = Instant::now();
        let mut budget = Budget::default();
        assert!(budget.allows(begun));
        budget.spend(Duration::from_secs(299));
        assert!(budget.allows(begun + Duration::from_secs(299)));
        budget.spend(Duration::from_secs(1));
        assert!(!budget.allows(begun + Duration::from_secs(599)));
        assert!(budget.allows(begun + Duration::from_secs(600)));
    }
}
