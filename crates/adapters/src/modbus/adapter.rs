//! Polls the planned requests and turns each answer, refusal or silence into samples.
//!
//! One bad item never harms the others: a refused block is cut in halves until the culprit stands alone (MB-17), a
//! refused table or a silent unit is left alone for a while, everything else goes on in the same poll.
//!
//! The table of exceptions is in [`Treatment::of`]; samples are made in [`super::decode`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use modbus::{Block, Data, Exception, Read, Table};
use model::{Clock, Timestamp, reason};
use tokio::time::Instant;

use super::config::Plan;
use super::connection::{Connection, Outcome};
use crate::adapter::{Adapter, Group, LinkError, Tag};
use crate::sample::{Cycle, Sample};

/// Requests a poll may add in order to find out what a refused block refuses.
const EXTRA_REQUESTS_MAX: u32 = 16;
/// A refused address or table is tried again after this.
const REFUSED_RETRY: Duration = Duration::from_secs(600);
/// A silent unit among others is probed this often (MB-29).
const PROBE_INTERVAL: Duration = Duration::from_secs(30);
/// Timeouts in a row before a unit among others counts as silent.
const UNIT_TIMEOUTS_MAX: u32 = 3;
/// A busy device is asked again after this, doubled each time.
const BUSY_WAIT: Duration = Duration::from_millis(200);
/// Repetitions for a busy device within one poll.
const BUSY_TRIES_MAX: u32 = 3;

/// The Modbus TCP adapter.
#[derive(Debug)]
pub struct ModbusAdapter {
    plan: Plan,
    clock: Arc<dyn Clock>,
    device_names: Vec<String>,
    connection: Option<Connection>,
    /// By group; cut finer where the device refuses.
    blocks: Vec<Vec<Planned>>,
    /// By device.
    units: Vec<Unit>,
    refused_tables: Vec<RefusedTable>,
}

/// A request of the plan as it stands now.
#[derive(Debug, Clone)]
struct Planned {
    block: Arc<Block>,
    /// The device has no such address; asked again at this time.
    refused_until: Option<Instant>,
}

/// How a unit answers.
#[derive(Debug, Clone, Copy, Default)]
struct Unit {
    timeouts_in_a_row: u32,
    /// Left alone but for a probe, and why.
    silent: Option<(&'static str, Instant)>,
}

#[derive(Debug, Clone, Copy)]
struct RefusedTable {
    unit: u8,
    table: Table,
    until: Instant,
}

/// What an exception asks for (1.6 of the specification).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    /// The table is not there: leave it alone for a while.
    RefuseTable,
    /// Find the culprit.
    Bisect,
    /// Ask again in a moment.
    Wait,
    /// The unit behind a gateway is gone.
    UnitGone,
    /// No value this time.
    Bad(&'static str),
}

impl Treatment {
    fn of(exception: Exception) -> Self {
        match exception {
            Exception::ILLEGAL_FUNCTION => Self::RefuseTable,
            Exception::ILLEGAL_ADDRESS | Exception::ILLEGAL_VALUE => Self::Bisect,
            Exception::ACKNOWLEDGE | Exception::BUSY => Self::Wait,
            Exception::MEMORY_PARITY => Self::Bad(reason::SENSOR_FAULT),
            Exception::PATH_UNAVAILABLE | Exception::TARGET_FAILED => Self::UnitGone,
            _ => Self::Bad(reason::DEVICE_EXCEPTION),
        }
    }
}

impl ModbusAdapter {
    /// From a valid plan; connects nowhere yet.
    pub fn new(plan: Plan, clock: Arc<dyn Clock>) -> Self {
        let mut blocks: Vec<Vec<Planned>> = plan.groups.iter().map(|_| Vec::new()).collect();
        for block in &plan.blocks {
            if let Some(group) = blocks.get_mut(usize::from(block.group)) {
                group.push(Planned { block: Arc::new(block.clone()), refused_until: None });
            }
        }
        let device_names = plan.units.iter().map(|unit| format!("unit {unit}")).collect();
        let units = vec![Unit::default(); plan.units.len()];
        Self { plan, clock, device_names, connection: None, blocks, units, refused_tables: Vec::new() }
    }

    fn device(&self, unit: u8) -> usize {
        self.plan.units.binary_search(&unit).unwrap_or_default()
    }

    async fn poll_on(&mut self, connection: &mut Connection, group: usize, cycle: &mut Cycle) -> Result<(), LinkError> {
        let mut queue: VecDeque<Planned> = self.blocks[group].iter().cloned().collect();
        let mut settled = Vec::with_capacity(queue.len());
        let mut extra_left = EXTRA_REQUESTS_MAX;
        while !queue.is_empty() {
            let mut together = Vec::with_capacity(self.plan.connection.outstanding_max);
            while together.len() < self.plan.connection.outstanding_max
                && let Some(planned) = queue.pop_front()
            {
                if self.may_ask(connection, &planned, cycle).await? {
                    together.push(planned);
                } else {
                    settled.push(planned);
                }
            }
            let reads: Vec<Read> = together.iter().map(|planned| planned.block.read).collect();
            let outcomes = self.ask(connection, &reads, cycle).await?;
            for (planned, outcome) in together.into_iter().zip(outcomes) {
                let outcome = self.insist(connection, planned.block.read, outcome, cycle).await?;
                if let Some((low, high)) = self.settle(&planned, outcome, &mut extra_left, cycle) {
                    queue.push_front(high);
                    queue.push_front(low);
                } else {
                    settled.push(planned);
                }
            }
            connection.check_alive()?;
        }
        self.remember(group, settled, cycle);
        Ok(())
    }

    /// False if the block is left alone this time; its tags are reported then.
    async fn may_ask(
        &mut self,
        connection: &mut Connection,
        planned: &Planned,
        cycle: &mut Cycle,
    ) -> Result<bool, LinkError> {
        let now = Instant::now();
        let read = planned.block.read;
        let device = self.device(read.unit());
        if planned.refused_until.is_some_and(|until| now < until) {
            self.report(&planned.block, reason::ADDRESS_INVALID, None, cycle);
            cycle.devices[device].address_invalid = true;
            return Ok(false);
        }
        let table_refused = |refused: &RefusedTable| {
            refused.unit == read.unit() && refused.table == read.table() && now < refused.until
        };
        if self.refused_tables.iter().any(table_refused) {
            let status = Exception::ILLEGAL_FUNCTION.to_string();
            self.report(&planned.block, reason::DEVICE_EXCEPTION, Some(status), cycle);
            cycle.devices[device].address_invalid = true;
            return Ok(false);
        }
        let Some((code, probe_at)) = self.units[device].silent else { return Ok(true) };
        if now >= probe_at && self.probe(connection, read, cycle).await? {
            self.units[device] = Unit::default();
            return Ok(true);
        }
        if now >= probe_at {
            self.units[device].silent = Some((code, now + PROBE_INTERVAL));
        }
        self.report(&planned.block, code, None, cycle);
        cycle.devices[device].failed = true;
        Ok(false)
    }

    /// One item of the block, to see whether a silent unit is back.
    async fn probe(&self, connection: &mut Connection, read: Read, cycle: &mut Cycle) -> Result<bool, LinkError> {
        let Ok(one) = Read::new(read.unit(), read.table(), read.offset(), 1) else { return Ok(false) };
        let outcomes = self.ask(connection, &[one], cycle).await?;
        Ok(outcomes.iter().any(|outcome| match outcome {
            Outcome::Answer { answer: Ok(_), .. } => true,
            Outcome::Answer { answer: Err(exception), .. } => Treatment::of(*exception) != Treatment::UnitGone,
            _ => false,
        }))
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

    /// Asks again where the protocol says that asking again helps: after silence, nonsense, or "busy".
    async fn insist(
        &self,
        connection: &mut Connection,
        read: Read,
        mut outcome: Outcome,
        cycle: &mut Cycle,
    ) -> Result<Outcome, LinkError> {
        let (mut retries_left, mut busy_tries) = (self.plan.retries, 0);
        loop {
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
                _ => return Ok(outcome),
            }
            outcome = self.ask(connection, &[read], cycle).await?.pop().unwrap_or(Outcome::Timeout);
        }
    }

    /// Reports the tags of a block, or returns the halves to ask for instead.
    fn settle(
        &mut self,
        planned: &Planned,
        outcome: Outcome,
        extra_left: &mut u32,
        cycle: &mut Cycle,
    ) -> Option<(Planned, Planned)> {
        let block = &planned.block;
        let device = self.device(block.read.unit());
        let note = &mut cycle.devices[device];
        note.asked = true;
        match outcome {
            Outcome::Answer { answer: Ok(data), at, .. } => {
                note.answered = true;
                self.units[device] = Unit::default();
                self.decode(block, &data, at, cycle);
            }
            Outcome::Answer { answer: Err(exception), .. } => {
                self.units[device].timeouts_in_a_row = 0;
                return self.refused(planned, exception, extra_left, cycle);
            }
            Outcome::Malformed(error) => {
                (note.answered, note.failed) = (true, true);
                self.report(block, reason::DECODE_ERROR, Some(error.to_string()), cycle);
            }
            Outcome::Timeout => {
                note.failed = true;
                let among_others = self.units.len() > 1;
                let unit = &mut self.units[device];
                unit.timeouts_in_a_row += 1;
                if among_others && unit.timeouts_in_a_row >= UNIT_TIMEOUTS_MAX {
                    unit.silent = Some((reason::TIMEOUT, Instant::now() + PROBE_INTERVAL));
                }
                self.report(block, reason::TIMEOUT, None, cycle);
            }
        }
        None
    }

    fn refused(
        &mut self,
        planned: &Planned,
        exception: Exception,
        extra_left: &mut u32,
        cycle: &mut Cycle,
    ) -> Option<(Planned, Planned)> {
        let block = &planned.block;
        let read = block.read;
        let device = self.device(read.unit());
        let treatment = Treatment::of(exception);
        let note = &mut cycle.devices[device];
        note.answered |= treatment != Treatment::UnitGone;
        let status = Some(exception.to_string());
        let now = Instant::now();
        match treatment {
            Treatment::RefuseTable => {
                note.address_invalid = true;
                self.refused_tables.retain(|refused| now < refused.until);
                let until = now + REFUSED_RETRY;
                self.refused_tables.push(RefusedTable { unit: read.unit(), table: read.table(), until });
                self.report(block, reason::DEVICE_EXCEPTION, status, cycle);
            }
            Treatment::Bisect => {
                note.address_invalid = true;
                let halves = modbus::plan::bisect(block, &self.plan.wants);
                match halves {
                    Some((low, high)) if *extra_left >= 2 => {
                        *extra_left -= 2;
                        let planned = |block| Planned { block: Arc::new(block), refused_until: None };
                        return Some((planned(low), planned(high)));
                    }
                    // The budget is spent: the next poll goes on from here.
                    Some(_) => self.report(block, reason::DEVICE_EXCEPTION, status, cycle),
                    None => self.report(block, reason::ADDRESS_INVALID, status, cycle),
                }
            }
            Treatment::Wait => {
                note.failed = true;
                self.report(block, reason::DEVICE_BUSY, status, cycle);
            }
            Treatment::UnitGone => {
                note.failed = true;
                self.units[device].silent = Some((reason::GATEWAY_TARGET_FAIL, now + PROBE_INTERVAL));
                self.report(block, reason::GATEWAY_TARGET_FAIL, status, cycle);
            }
            Treatment::Bad(code) => {
                note.failed = true;
                self.report(block, code, status, cycle);
            }
        }
        None
    }

    /// Keeps what this poll learned about refused addresses for the next one.
    fn remember(&mut self, group: usize, mut settled: Vec<Planned>, cycle: &Cycle) {
        let now = Instant::now();
        let invalid = |block: &Block| {
            let first = block.wants.first();
            cycle
                .samples
                .iter()
                .any(|sample| Some(&sample.tag) == first && sample.verdict.reason() == Some(reason::ADDRESS_INVALID))
        };
        for planned in &mut settled {
            let waiting = planned.refused_until.is_some_and(|until| now < until);
            if !waiting {
                planned.refused_until = invalid(&planned.block).then(|| now + REFUSED_RETRY);
            }
        }
        self.blocks[group] = settled;
    }

    /// Reports each tag of a block as BAD for one reason.
    fn report(&self, block: &Block, code: &'static str, status: Option<String>, cycle: &mut Cycle) {
        let at = self.clock.now();
        let status: Option<Box<str>> = status.map(Into::into);
        cycle.devices[self.device(block.read.unit())].asked = true;
        for &tag in &block.wants {
            cycle.samples.push(Sample { status: status.clone(), ..Sample::bad(tag, code, at) });
        }
    }

    /// One sample per tag of the block, all of the same moment (MB-19).
    fn decode(&self, block: &Block, data: &Data, at: Timestamp, cycle: &mut Cycle) {
        for &tag in &block.wants {
            let span = self.plan.wants[tag].span;
            let start = usize::from(span.offset - block.read.offset());
            let end = start + usize::from(span.count);
            let decoding = &self.plan.decodings[tag];
            let sample = match data {
                Data::Bits(bits) => bits.get(start).map(|bit| decoding.bit(tag, *bit, at)),
                Data::Registers(registers) => registers.get(start..end).map(|r| decoding.registers(tag, r, at)),
            };
            cycle.samples.push(sample.unwrap_or_else(|| Sample::bad(tag, reason::DECODE_ERROR, at)));
        }
    }
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
        // A device that was away may be another one now: what it refused is asked again (MB-17).
        self.refused_tables.clear();
        self.blocks.iter_mut().flatten().for_each(|planned| planned.refused_until = None);
        self.connection = Some(Connection::open(&self.plan.connection).await?);
        Ok(())
    }

    async fn poll(&mut self, group: usize, cycle: &mut Cycle) -> Result<(), LinkError> {
        // Taken out for the time of the poll: if the poll is dropped half-way, the connection is gone with it.
        let Some(mut connection) = self.connection.take() else {
            let target = format!("{}:{}", self.plan.connection.host, self.plan.connection.port);
            return Err(LinkError::Closed { target });
        };
        self.poll_on(&mut connection, group, cycle).await?;
        self.connection = Some(connection);
        Ok(())
    }
}
