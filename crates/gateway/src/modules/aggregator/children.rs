//! Reads the inputs of a closed window again: what it takes to change a window that is kept without its children, or
//! without its readings where their time matters (AGG-06).
//!
//! The read is bounded by the offsets of the window's first and last input. It uses a consumer of its own, so that the
//! loop's position does not move.

use std::time::Duration;

use kafka::client::{Consumer, Position};
use model::Timestamp;
use pipeline::aggregate::{Input, Sample};
use stream::avro;
use tokio::time::Instant;

use super::cascade::Step;
use super::inputs;
use crate::modules::marks::partition;
use crate::modules::{Error, ModuleContext};

/// How long one read waits for the next record before it asks whether to stop.
const POLL_WAIT: Duration = Duration::from_millis(200);
/// Silence of the stream after which a read is given up and the module starts again.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What a closed window was made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    /// Offset of the first and the last of its inputs.
    pub(super) from: i64,
    pub(super) through: i64,
}

/// Reads inputs again.
#[derive(Debug, Default)]
pub(super) struct Children {
    consumer: Option<Consumer>,
}

impl Children {
    /// The records of the sample's point within the span, without their framing, in the order of their offsets; `None` when
    /// retention took some.
    pub(super) fn read(
        &mut self,
        ctx: &ModuleContext,
        step: Step,
        lane: usize,
        sample: &Sample<'_>,
        span: Span,
    ) -> Result<Option<Vec<Vec<u8>>>, Error> {
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
        let mut records = Vec::new();
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
                    let Ok((_, body)) = avro::unframe(record.payload().unwrap_or_default()) else { return };
                    let Ok(Some(input)) = inputs::decode(step.input.schema(), body, record.offset()) else { return };
                    let time = match input.input {
                        Input::Child { start, .. } => start,
                        Input::Reading { time, .. } | Input::Stop { time } => time,
                    };
                    let within = time >= span.start && time < span.end;
                    if within && input.asset_id == sample.asset_id && input.parameter == sample.parameter {
                        records.push(body.to_vec());
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
        Ok(Some(records))
    }
}
