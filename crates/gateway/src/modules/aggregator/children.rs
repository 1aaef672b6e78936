//! Reads the inputs of a closed window again: what it takes to change a window that is kept without its children (AGG-06).
//!
//! The read is bounded by the offsets of the window's first and last input. It uses a consumer of its own, so that the
//! loop's position does not move.

use std::time::Duration;

use kafka::client::{Consumer, Position};
use model::Timestamp;
use pipeline::aggregate::{Input, Sample};
use stream::avro;
use stream::message::aggregate;
use tokio::time::Instant;

use super::cascade::Step;
use crate::modules::marks::partition;
use crate::modules::{Error, ModuleContext};

/// How long one read waits for the next record before it asks whether to stop.
const POLL_WAIT: Duration = Duration::from_millis(200);
/// Silence of the stream after which a read is given up and the module starts again.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The windows a closed one was merged from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    /// Offset of the first and the last of its inputs.
    pub(super) from: i64,
    pub(super) through: i64,
}

/// Reads children again.
#[derive(Debug, Default)]
pub(super) struct Children {
    consumer: Option<Consumer>,
}

impl Children {
    /// The inputs of the sample's point within the span, in the order of their offsets; `None` when retention took some.
    pub(super) fn read(
        &mut self,
        ctx: &ModuleContext,
        step: Step,
        lane: usize,
        sample: &Sample<'_>,
        span: Span,
    ) -> Result<Option<Vec<Input>>, Error> {
        let stream = Error::stream(super::MODULE);
        if self.consumer.is_none() {
            self.consumer = Some(Consumer::open(&ctx.settings, step.group).map_err(&stream)?);
        }
        let Some(consumer) = &self.consumer else { return Ok(None) };
        let (low, high) = consumer.watermarks(step.input.name(), partition(lane)).map_err(&stream)?;
        if span.from < low || span.through >= high {
            return Ok(None);
        }
        let from = Position {
            topic: step.input.name().to_owned(),
            partition: partition(lane),
            offset: span.from,
            metadata: String::new(),
        };
        consumer.assign(&[from]).map_err(&stream)?;
        let mut children = Vec::new();
        let mut done = false;
        let mut heard = Instant::now();
        while !done {
            if ctx.stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            let count = consumer
                .poll(4096, POLL_WAIT, Duration::ZERO, |record| {
                    done = done || record.offset() >= span.through;
                    if record.offset() > span.through {
                        return;
                    }
                    let payload = record.payload().unwrap_or_default();
                    let Ok(window) = avro::unframe(payload).and_then(|(_, body)| aggregate::decode(body)) else {
                        return;
                    };
                    let within = window.window_start >= span.start && window.window_start < span.end;
                    if within && window.asset_id == sample.asset_id && window.parameter == sample.parameter {
                        children.push(Input::Child { start: window.window_start, statistics: window.statistics });
                    }
                })
                .map_err(&stream)?;
            if count > 0 {
                heard = Instant::now();
            } else if heard.elapsed() > SILENCE_MAX {
                let reason = format!("windows of {} did not arrive a second time", step.input.name());
                return Err(stream(kafka::client::Error::NotDelivered { reason }));
            }
        }
        consumer.assign(&[]).map_err(&stream)?;
        Ok(Some(children))
    }
}
