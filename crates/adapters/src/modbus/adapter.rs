//! Polls the planned requests and turns each answer, refusal or silence into samples.
//!
//! The decisions are in [`super::lessons`] (what to ask, what a refusal means) and [`super::decode`] (what registers
//! become); here they meet the connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use modbus::{Block, Data, Exception, Read};
use model::{Clock, Timestamp, reason};
use tokio::time::Instant;

use super::config::Plan;
use super::connection::{Connection, Outcome};
use super::decode::Factor;
use super::lessons::{EXTRA_REQUESTS_MAX, Lessons};
use super::load::Load;
use super::memory::Memory;
use super::planned::Planned;
use super::verdicts::{Ask, Heard, Next, Treatment};
use crate::adapter::{Adapter, Group, LinkError, Tag};
use crate::edges::Edges;
use crate::notice::Notice;
use crate::publishing::OnChange;
use crate::sample::{Cycle, Sample, Value};

/// A busy device is asked again after this, doubled each time.
const BUSY_WAIT: Duration = Duration::from_millis(200);
/// Repetitions for a busy device within one poll.
const BUSY_TRIES_MAX: u32 = 3;
/// A device reports that its own memory is broken.
pub const MEMORY_FAULT: &str = "device.memory_fault";

/// The Modbus adapter, for TCP and serial lines.
#[derive(Debug)]
pub struct ModbusAdapter {
    plan: Plan,
    clock: Arc<dyn Clock>,
    device_names: Vec<String>,
    connection: Option<Connection>,
    lessons: Lessons,
    memory: Option<Memory>,
    load: Load,
    /// By group: the poll that has paused.
    paused: Vec<Option<Progress>>,
}

/// How far a poll has come.
#[derive(Debug)]
struct Progress {
    queue: VecDeque<Planned>,
    settled: Vec<Planned>,
    extra_left: u32,
    /// Registers that wait for the factor another point holds (MB-14).
    deferred: Vec<(usize, Vec<u16>, Timestamp)>,
}

impl ModbusAdapter {
    /// From a valid plan; connects nowhere yet.
    pub fn new(plan: Plan, clock: Arc<dyn Clock>) -> Self {
        let among_others = plan.units.len() > 1 || plan.connection.is_serial();
        let lessons = Lessons::new(
            plan.wants.clone(),
            plan.limits.clone(),
            plan.blocks.clone(),
            plan.groups.len(),
            plan.units.clone(),
            (among_others, plan.probe_on_timeout),
        );
        Self {
            device_names: plan.units.iter().map(|unit| format!("unit {unit}")).collect(),
            paused: plan.groups.iter().map(|_| None).collect(),
            load: Load::new(plan.groups.len()),
            connection: None,
            memory: None,
            lessons,
            plan,
            clock,
        }
    }

    /// Goes on from what an earlier process learned under the same settings, and keeps what is learned from now on.
    #[must_use]
    pub fn remembering(mut self, folder: &std::path::Path) -> Self {
        let memory = Memory::new(folder, &self.plan);
        if let Some(kept) = memory.load()
            && !self.lessons.restore(&kept)
        {
            tracing::info!("what was learned of the devices does not fit the settings and is learned again");
        }
        self.memory = Some(memory);
        self
    }

    async fn poll_on(&mut self, connection: &mut Connection, group: usize, cycle: &mut Cycle) -> Result<(), LinkError> {
        let paused = self.paused.get_mut(group).and_then(Option::take);
        let mut progress = paused.unwrap_or_else(|| Progress {
            queue: self.lessons.blocks(group).to_vec().into(),
            settled: Vec::new(),
            extra_left: EXTRA_REQUESTS_MAX,
            deferred: Vec::new(),
        });
        while !progress.queue.is_empty() {
            if cycle.must_pause() {
                cycle.is_paused = true;
                self.paused[group] = Some(progress);
                return Ok(());
            }
            self.step(connection, &mut progress, cycle).await?;
            connection.check_alive()?;
            if self.lessons.all_silent() && !self.plan.connection.is_serial() {
                let timeouts = u32::try_from(self.plan.units.len()).unwrap_or(u32::MAX);
                return Err(LinkError::Silent { target: self.plan.connection.target(), timeouts });
            }
        }
        for (tag, registers, at) in std::mem::take(&mut progress.deferred) {
            let sample = self.scaled(tag, &registers, at, cycle);
            cycle.samples.push(sample);
        }
        let requests = progress.settled.len();
        self.lessons.set_blocks(group, progress.settled);
        if let (Some(news), Some(memory)) = (self.lessons.news(), &self.memory) {
            memory.save(news);
        }
        self.load.observe(group, &self.plan.groups[group], requests, &cycle.round_trips);
        Ok(())
    }

    /// Asks for the next blocks, as many at once as the device takes.
    async fn step(
        &mut self,
        connection: &mut Connection,
        progress: &mut Progress,
        cycle: &mut Cycle,
    ) -> Result<(), LinkError> {
        let mut together = Vec::with_capacity(self.plan.connection.outstanding_max);
        while together.len() < self.plan.connection.outstanding_max
            && let Some(planned) = progress.queue.pop_front()
        {
            if self.may_ask(connection, &planned, cycle).await? {
                together.push(planned);
            } else {
                progress.settled.push(planned);
            }
        }
        let reads: Vec<Read> = together.iter().map(|planned| planned.block.read).collect();
        let outcomes = self.ask(connection, &reads, cycle).await?;
        for (mut planned, outcome) in together.into_iter().zip(outcomes) {
            let (outcome, attempts) = self.insist(connection, planned.block.read, outcome, cycle).await?;
            let heard = heard(&outcome, attempts);
            let note = &mut cycle.devices[self.lessons.device(planned.block.read.unit())];
            let next = self.lessons.settle(&mut planned, heard, &mut progress.extra_left, note, Instant::now());
            let status = match &outcome {
                Outcome::Answer { answer: Err(exception), .. } => Some(exception.to_string()),
                Outcome::Malformed(error) => Some(error.to_string()),
                Outcome::Answer { .. } | Outcome::Timeout => None,
            };
            match next {
                Next::Decode => {
                    if let Outcome::Answer { answer: Ok(data), at, .. } = &outcome {
                        self.decode(&planned.block, data, *at, cycle, &mut progress.deferred);
                    }
                }
                Next::Halves(low, high) => {
                    progress.queue.push_front(high);
                    progress.queue.push_front(low);
                    continue;
                }
                Next::Report(code) => self.report(&planned.block, code, status, cycle),
                Next::Broken => {
                    cycle.notices.push(memory_fault(&planned.block));
                    self.report(&planned.block, reason::SENSOR_FAULT, status, cycle);
                }
                Next::TryOne => {
                    let heard = self.one_register(connection, planned.block.read, cycle).await?;
                    if self.lessons.answers_less(&planned, heard) {
                        cycle.devices[self.lessons.device(planned.block.read.unit())].answered = true;
                    }
                    self.report(&planned.block, reason::TIMEOUT, status, cycle);
                }
            }
            progress.settled.push(planned);
        }
        Ok(())
    }

    /// False if the block is left alone this time; its tags are reported then.
    async fn may_ask(
        &mut self,
        connection: &mut Connection,
        planned: &Planned,
        cycle: &mut Cycle,
    ) -> Result<bool, LinkError> {
        let unit = planned.block.read.unit();
        let device = self.lessons.device(unit);
        loop {
            match self.lessons.ask(planned, &mut cycle.devices[device], Instant::now()) {
                Ask::Yes => return Ok(true),
                Ask::Leave { code, status } => {
                    self.report(&planned.block, code, status.map(|status| status.to_string()), cycle);
                    return Ok(false);
                }
                Ask::Probe => {
                    let heard = self.one_register(connection, planned.block.read, cycle).await?;
                    self.lessons.probed(unit, heard, Instant::now());
                }
            }
        }
    }

    /// Asks for the first item of a block, to see whether the unit is there at all.
    async fn one_register(
        &self,
        connection: &mut Connection,
        read: Read,
        cycle: &mut Cycle,
    ) -> Result<Heard, LinkError> {
        let Ok(one) = Read::new(read.unit(), read.table(), read.offset(), 1) else { return Ok(Heard::Nonsense) };
        let outcome = self.ask(connection, &[one], cycle).await?.pop().unwrap_or(Outcome::Timeout);
        Ok(heard(&outcome, 1))
    }

    async fn ask(
        &self,
        connection: &mut Connection,
        reads: &[Read],
        cycle: &mut Cycle,
    ) -> Result<Vec<Outcome>, LinkError> {
        if reads.is_empty() {
            return Ok(Vec::new());
        }
        if !self.plan.request_pause.is_zero() {
            tokio::time::sleep_until(connection.last_heard() + self.plan.request_pause).await;
        }
        let outcomes = connection.request(reads, self.clock.as_ref(), &mut cycle.discarded).await?;
        for outcome in &outcomes {
            if let Outcome::Answer { round_trip, .. } = outcome {
                cycle.round_trips.push(*round_trip);
            }
        }
        Ok(outcomes)
    }

    /// Asks again where the protocol says that asking again helps: after silence, nonsense, or "busy". Also returns how
    /// many attempts in a row got no answer.
    async fn insist(
        &self,
        connection: &mut Connection,
        read: Read,
        mut outcome: Outcome,
        cycle: &mut Cycle,
    ) -> Result<(Outcome, u32), LinkError> {
        let (mut retries_left, mut busy_tries, mut silences) = (self.plan.retries, 0, 0);
        loop {
            silences = if outcome == Outcome::Timeout { silences + 1 } else { 0 };
            match &outcome {
                Outcome::Timeout | Outcome::Malformed(_) if retries_left > 0 => {
                    connection.check_alive()?;
                    retries_left -= 1;
                }
                Outcome::Answer { answer: Err(exception), .. }
                    if Treatment::of(*exception) == Treatment::Wait && busy_tries < BUSY_TRIES_MAX =>
                {
                    tokio::time::sleep(BUSY_WAIT * 2_u32.pow(busy_tries)).await;
                    busy_tries += 1;
                }
                _ => return Ok((outcome, silences)),
            }
            outcome = self.ask(connection, &[read], cycle).await?.pop().unwrap_or(Outcome::Timeout);
        }
    }

    /// Reports each tag of a block as BAD for one reason.
    fn report(&self, block: &Block, code: &'static str, status: Option<String>, cycle: &mut Cycle) {
        let at = self.clock.now();
        let status: Option<Box<str>> = status.map(Into::into);
        cycle.devices[self.lessons.device(block.read.unit())].asked = true;
        for &tag in &block.wants {
            cycle.samples.push(Sample { status: status.clone(), ..Sample::bad(tag, code, at) });
        }
    }

    /// One sample per tag of the block, all of the same moment (MB-19).
    fn decode(
        &self,
        block: &Block,
        data: &Data,
        at: Timestamp,
        cycle: &mut Cycle,
        deferred: &mut Vec<(usize, Vec<u16>, Timestamp)>,
    ) {
        for &tag in &block.wants {
            let span = self.plan.wants[tag].span;
            let start = usize::from(span.offset - block.read.offset());
            let end = start + usize::from(span.count);
            let decoding = &self.plan.decodings[tag];
            let sample = match data {
                Data::Bits(bits) => bits.get(start).map(|bit| decoding.bit(tag, *bit, at)),
                Data::Registers(registers) => match registers.get(start..end) {
                    Some(registers) if decoding.scale_from.is_some() => {
                        deferred.push((tag, registers.to_vec(), at));
                        continue;
                    }
                    registers => registers.map(|registers| decoding.registers(tag, registers, at)),
                },
            };
            cycle.samples.push(sample.unwrap_or_else(|| Sample::bad(tag, reason::DECODE_ERROR, at)));
        }
    }

    /// A sample whose factor another point of the same poll holds (MB-14).
    fn scaled(&self, tag: usize, registers: &[u16], at: Timestamp, cycle: &Cycle) -> Sample {
        let decoding = &self.plan.decodings[tag];
        let source = cycle.samples.iter().find(|sample| Some(sample.tag) == decoding.scale_from);
        let factor = match source {
            Some(Sample { value: Value::Int(power), .. }) => Factor::of(*power),
            Some(sample) => Factor::Missing(sample.verdict.reason().unwrap_or(reason::NO_VALUE)),
            None => Factor::Missing(reason::NO_VALUE),
        };
        decoding.registers_scaled(tag, registers, at, factor)
    }
}

fn heard(outcome: &Outcome, attempts: u32) -> Heard {
    match outcome {
        Outcome::Answer { answer: Ok(_), .. } => Heard::Values,
        Outcome::Answer { answer: Err(exception), .. } => Heard::Refusal(*exception),
        Outcome::Malformed(_) => Heard::Nonsense,
        Outcome::Timeout => Heard::Silence { attempts },
    }
}

fn memory_fault(block: &Block) -> Notice {
    let read = &block.read;
    let message = format!(
        "unit {} reports a parity error of its own memory at {} {} to {}",
        read.unit(),
        read.table(),
        read.offset(),
        u32::from(read.offset()) + u32::from(read.count()) - 1
    );
    let details =
        vec![("device", format!("unit {}", read.unit())), ("exception", Exception::MEMORY_PARITY.to_string())];
    Notice { details, ..Notice::new(MEMORY_FAULT, message) }
}

impl Adapter for ModbusAdapter {
    fn tags(&self) -> &[Tag] {
        &self.plan.tags
    }

    fn groups(&self) -> &[Group] {
        &self.plan.groups
    }

    fn devices(&self) -> &[String] {
        &self.device_names
    }

    async fn connect(&mut self) -> Result<(), LinkError> {
        self.connection = None;
        self.paused.fill_with(|| None);
        self.lessons.reconnected(Instant::now());
        self.connection = Some(Connection::open(&self.plan.connection).await?);
        Ok(())
    }

    async fn poll(&mut self, group: usize, cycle: &mut Cycle) -> Result<(), LinkError> {
        // Taken out for the time of the poll: if the poll is dropped half-way, the connection is gone with it.
        let Some(mut connection) = self.connection.take() else {
            return Err(LinkError::Closed { target: self.plan.connection.target() });
        };
        self.poll_on(&mut connection, group, cycle).await?;
        self.connection = Some(connection);
        Ok(())
    }

    fn publishing(&self, tag: usize) -> Option<&OnChange> {
        self.plan.publishing.get(&tag)
    }

    fn edges(&self, tag: usize) -> Option<&Edges> {
        self.plan.edges.get(&tag)
    }
}
