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

/// Records read in one go, when the window asks for less: some megabytes at most.
const BLOCK_RECORDS: i64 = 8192;

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
    /// What was read last, with what lies behind it: late data seldom comes for one window alone.
    block: Block,
}

/// Records of one partition, without their framing, ascending by offset.
#[derive(Debug, Default)]
struct Block {
    lane: usize,
    /// First offset, and the one behind the last.
    from: i64,
    to: i64,
    records: Vec<(i64, Vec<u8>)>,
}

impl Block {
    fn holds(&self, lane: usize, span: Span) -> bool {
        self.lane == lane && self.from <= span.from && span.through < self.to
    }

    /// The records of the sample's point within the span.
    fn pick(&self, step: Step, sample: &Sample<'_>, span: Span) -> Vec<Vec<u8>> {
        let begin = self.records.partition_point(|(offset, _)| *offset < span.from);
        let end = self.records.partition_point(|(offset, _)| *offset <= span.through);
        let is_wanted = |(offset, body): &&(i64, Vec<u8>)| span.wants(step, sample, *offset, body);
        self.records[begin..end].iter().filter(is_wanted).map(|(_, body)| body.clone()).collect()
    }
}

impl Span {
    /// A window that late data changed spans hours of its input: of those only its own records are held.
    fn is_long(&self) -> bool {
        self.through - self.from > BLOCK_RECORDS
    }

    /// Whether a record is an input of the sample's point in this window.
    fn wants(&self, step: Step, sample: &Sample<'_>, offset: i64, body: &[u8]) -> bool {
        let Ok(Some(input)) = inputs::decode(step.input.schema(), body, offset) else { return false };
        let time = match input.input {
            Input::Child { start, .. } => start,
            Input::Reading { time, .. } | Input::Stop { time, .. } => time,
        };
        let within = time >= self.start && time < self.end;
        within && input.asset_id == sample.asset_id && input.parameter == sample.parameter
    }
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
        if !self.block.holds(lane, span) && !self.fetch(ctx, step, lane, sample, span)? {
            return Ok(None);
        }
        let picked = self.block.pick(step, sample, span);
        if span.is_long() {
            self.block = Block::default(); // it holds nothing of others
        }
        Ok(Some(picked))
    }

    /// Reads the block that begins with the span; `false` when retention took a part of it.
    fn fetch(
        &mut self,
        ctx: &ModuleContext,
        step: Step,
        lane: usize,
        sample: &Sample<'_>,
        span: Span,
    ) -> Result<bool, Error> {
        let stream = Error::stream(super::MODULE);
        if self.consumer.is_none() {
            self.consumer = Some(Consumer::open(&ctx.settings, step.group).map_err(&stream)?);
        }
        let Some(consumer) = &self.consumer else { return Ok(false) };
        let (low, high) = consumer.watermarks(step.input.name(), partition(lane)).map_err(&stream)?;
        if span.from < low || span.through >= high {
            return Ok(false);
        }
        let from = Position {
            topic: step.input.name().to_owned(),
            partition: partition(lane),
            offset: span.from,
            metadata: String::new(),
        };
        consumer.assign(&[from]).map_err(&stream)?;
        let to = high.min((span.from + BLOCK_RECORDS).max(span.through + 1));
        let mut block = Block { lane, from: span.from, to, records: Vec::new() };
        let mut next = span.from;
        let mut heard = Instant::now();
        while next < to {
            if ctx.stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            let count = consumer
                .poll(4096, POLL_WAIT, Duration::ZERO, |record| {
                    next = next.max(record.offset() + 1);
                    if record.offset() < to
                        && let Ok((_, body)) = avro::unframe(record.payload().unwrap_or_default())
                        && (!span.is_long() || span.wants(step, sample, record.offset(), body))
                    {
                        block.records.push((record.offset(), body.to_vec()));
                    }
                })
                .map_err(&stream)?;
            if count > 0 {
                heard = Instant::now();
            } else if next > span.through {
                block.to = next; // what lies behind is not for readers yet
                break;
            } else if heard.elapsed() > SILENCE_MAX {
                let reason = format!("windows of {} did not arrive a second time", step.input.name());
                return Err(stream(kafka::client::Error::NotDelivered { reason }));
            }
        }
        consumer.assign(&[]).map_err(&stream)?;
        self.block = block;
        Ok(true)
    }
}
