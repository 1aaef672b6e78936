//! What the devices have taught: which addresses they refuse, how much they answer at once, which of them are silent.
//!
//! Pure: told what became of each request and the time, it says what to do next (MB-17, MB-18, MB-29, table 1.6).
//! One bad address never harms the others: a refused block is cut in halves until the culprit stands alone; a refused
//! table or a silent unit is left alone for a while.
//!
//! Invariant: each group's blocks serve each of its wants exactly once, whatever was learned.

use std::time::Duration;

use modbus::{Block, Exception, Limits, Table, Want};
use model::reason;
use tokio::time::Instant;

use super::planned::Planned;
use super::verdicts::{Ask, Heard, Next, Treatment};
use crate::sample::DeviceNote;

/// Requests a poll may add in order to find out what a refused block refuses.
pub const EXTRA_REQUESTS_MAX: u32 = 16;
/// A refused address or table is tried again after this.
const REFUSED_RETRY: Duration = Duration::from_secs(600);
/// A silent unit among others is probed this often (MB-29).
const PROBE_INTERVAL: Duration = Duration::from_secs(30);
/// Timeouts in a row before a unit among others counts as silent.
const UNIT_TIMEOUTS_MAX: u32 = 3;
/// Fewer registers than this no device is asked for in one request (MB-18).
const READ_MIN: u16 = 8;

/// What a unit has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Unit {
    timeouts_in_a_row: u32,
    /// Left alone but for a probe, and why.
    silent: Option<(&'static str, Instant)>,
    /// Most registers it answers at once, where that is less than the settings say.
    read_max: Option<u16>,
}

#[derive(Debug, Clone, Copy)]
struct RefusedTable {
    unit: u8,
    table: Table,
    until: Instant,
}

/// All of it, for the devices of one adapter.
#[derive(Debug)]
pub struct Lessons {
    wants: Vec<Want>,
    limits: Limits,
    original: Vec<Block>,
    /// By group.
    blocks: Vec<Vec<Planned>>,
    /// Unit ids in ascending order; the place of one is the number of its device.
    unit_ids: Vec<u8>,
    /// By device.
    units: Vec<Unit>,
    refused_tables: Vec<RefusedTable>,
    /// Tables that begin anew with the plan's own requests, by group, once its poll is over.
    healed: Vec<(usize, u8, Table)>,
    /// A silent unit is left alone; false for one device behind its own address, which loses its connection instead.
    among_others: bool,
    probe_on_timeout: bool,
    /// Since the last save something was learned that is worth keeping.
    is_news: bool,
}

/// What of it outlives the process: the cut of each block as numbers of wants, and whether it is refused.
pub type Cut = (Vec<usize>, bool);

impl Lessons {
    /// Nothing learned yet.
    pub fn new(
        wants: Vec<Want>,
        limits: Limits,
        original: Vec<Block>,
        groups: usize,
        unit_ids: Vec<u8>,
        (among_others, probe_on_timeout): (bool, bool),
    ) -> Self {
        let mut blocks: Vec<Vec<Planned>> = vec![Vec::new(); groups];
        for block in &original {
            if let Some(group) = blocks.get_mut(usize::from(block.group)) {
                group.push(Planned::new(block.clone()));
            }
        }
        Self {
            wants,
            limits,
            original,
            blocks,
            units: vec![Unit::default(); unit_ids.len()],
            unit_ids,
            refused_tables: Vec::new(),
            healed: Vec::new(),
            among_others,
            probe_on_timeout,
            is_news: false,
        }
    }

    /// The requests of a group as they stand now.
    pub fn blocks(&self, group: usize) -> &[Planned] {
        self.blocks.get(group).map(Vec::as_slice).unwrap_or_default()
    }

    /// The requests of a group after a poll: as they were asked, cut to what their units answer, or the plan's own again
    /// where an address that was refused is answered.
    pub fn set_blocks(&mut self, group: usize, settled: Vec<Planned>) {
        let healed: Vec<(u8, Table)> = self
            .healed
            .iter()
            .filter(|(of_group, _, _)| *of_group == group)
            .map(|(_, unit, table)| (*unit, *table))
            .collect();
        self.healed.retain(|(of_group, _, _)| *of_group != group);
        let is_healed = |block: &Block| healed.contains(&(block.read.unit(), block.read.table()));
        let own = self.original.iter().filter(|block| usize::from(block.group) == group && is_healed(block));
        let anew: Vec<Planned> = own.cloned().map(Planned::new).collect();
        let kept = settled.into_iter().filter(|planned| !is_healed(&planned.block));
        let blocks = kept.chain(anew).flat_map(|planned| self.fitting(planned)).collect();
        if let Some(place) = self.blocks.get_mut(group) {
            *place = blocks;
        }
    }

    /// Number of the device behind a unit id.
    pub fn device(&self, unit: u8) -> usize {
        self.unit_ids.binary_search(&unit).unwrap_or_default()
    }

    /// A device that was away may be another one now: what it refused is asked again (MB-17), and what was silent probed.
    pub fn reconnected(&mut self, now: Instant) {
        self.refused_tables.clear();
        self.blocks.iter_mut().flatten().for_each(|planned| planned.refused_until = None);
        for unit in &mut self.units {
            unit.timeouts_in_a_row = 0;
            if let Some((_, probe_at)) = &mut unit.silent {
                *probe_at = now;
            }
        }
    }

    /// True if nobody answers any more.
    pub fn all_silent(&self) -> bool {
        let silent = |unit: &Unit| matches!(unit.silent, Some((reason::TIMEOUT, _)));
        !self.units.is_empty() && self.units.iter().all(silent)
    }

    /// Whether a request may be sent now.
    pub fn ask(&self, planned: &Planned, note: &mut DeviceNote, now: Instant) -> Ask {
        let read = planned.block.read;
        let device = self.device(read.unit());
        if planned.refused_until.is_some_and(|until| now < until) {
            note.address_invalid = true;
            return Ask::Leave { code: reason::ADDRESS_INVALID, status: None };
        }
        let table_refused = |refused: &RefusedTable| {
            refused.unit == read.unit() && refused.table == read.table() && now < refused.until
        };
        if self.refused_tables.iter().any(table_refused) {
            note.address_invalid = true;
            let status = Some(Exception::ILLEGAL_FUNCTION);
            return Ask::Leave { code: reason::DEVICE_EXCEPTION, status };
        }
        match self.units[device].silent {
            None => Ask::Yes,
            Some((_, probe_at)) if now >= probe_at => Ask::Probe,
            Some((code, _)) => {
                note.failed = true;
                Ask::Leave { code, status: None }
            }
        }
    }

    /// What the one register of a probe brought; true if the unit is back.
    pub fn probed(&mut self, unit: u8, heard: Heard, now: Instant) -> bool {
        let back = heard.is_there();
        let device = self.device(unit);
        let unit = &mut self.units[device];
        if back {
            (unit.timeouts_in_a_row, unit.silent) = (0, None);
        } else if let Some((_, probe_at)) = &mut unit.silent {
            *probe_at = now + PROBE_INTERVAL;
        }
        back
    }

    /// What to do after a request ended like this. `extra_left` is what the poll may still add in requests.
    pub fn settle(
        &mut self,
        planned: &mut Planned,
        heard: Heard,
        extra_left: &mut u32,
        note: &mut DeviceNote,
        now: Instant,
    ) -> Next {
        note.asked = true;
        let device = self.device(planned.block.read.unit());
        match heard {
            Heard::Values => {
                note.answered = true;
                let unit = &mut self.units[device];
                (unit.timeouts_in_a_row, unit.silent) = (0, None);
                (planned.is_broken, planned.refused_until) = (false, None);
                if std::mem::take(&mut planned.is_refused) {
                    self.heal(planned);
                }
                Next::Decode
            }
            Heard::Refusal(exception) => {
                self.units[device].timeouts_in_a_row = 0;
                self.refused(planned, exception, extra_left, note, now)
            }
            Heard::Nonsense => {
                (note.answered, note.failed) = (true, true);
                Next::Report(reason::DECODE_ERROR)
            }
            Heard::Silence { attempts } => {
                note.failed = true;
                let (among_others, probe) = (self.among_others, self.probe_on_timeout);
                let unit = &mut self.units[device];
                let spoke_before = unit.timeouts_in_a_row == 0;
                unit.timeouts_in_a_row = unit.timeouts_in_a_row.saturating_add(attempts);
                if among_others && unit.timeouts_in_a_row >= UNIT_TIMEOUTS_MAX {
                    unit.silent = Some((reason::TIMEOUT, now + PROBE_INTERVAL));
                }
                let read = planned.block.read;
                if probe && spoke_before && !read.table().holds_bits() && read.count() > READ_MIN {
                    return Next::TryOne;
                }
                Next::Report(reason::TIMEOUT)
            }
        }
    }

    /// The device answers one register of a block whose whole it does not answer: it is asked for less from now on.
    pub fn answers_less(&mut self, planned: &Planned, heard: Heard) -> bool {
        if !heard.is_there() {
            return false;
        }
        let device = self.device(planned.block.read.unit());
        let half = (planned.block.read.count() / 2).max(READ_MIN);
        let unit = &mut self.units[device];
        let first = unit.read_max.is_none();
        unit.read_max = Some(unit.read_max.map_or(half, |max| max.min(half)));
        (unit.timeouts_in_a_row, unit.silent) = (0, None);
        self.is_news = true;
        if first {
            let unit = planned.block.read.unit();
            tracing::warn!(unit, registers = half, "the unit does not answer long requests: it is asked for less");
        }
        true
    }

    /// Cuts blocks to what their units answer; of what [`Lessons::answers_less`] has found.
    fn fitting(&self, planned: Planned) -> Vec<Planned> {
        let device = self.device(planned.block.read.unit());
        let Some(max) = self.units.get(device).and_then(|unit| unit.read_max) else { return vec![planned] };
        let count = planned.block.read.count();
        if planned.block.read.table().holds_bits() || count <= max {
            return vec![planned];
        }
        // Pieces of about one size: the next cut must not leave crumbs.
        let even = count.div_ceil(count.div_ceil(max));
        let limits = Limits { registers_max: even.min(self.limits.registers_max), ..self.limits.clone() };
        let cut = modbus::plan::recut(&planned.block, &self.wants, &limits);
        // One value that is longer stays as it is, and with it what is known of it.
        if cut.len() < 2 { vec![planned] } else { cut.into_iter().map(Planned::new).collect() }
    }

    fn refused(
        &mut self,
        planned: &mut Planned,
        exception: Exception,
        extra_left: &mut u32,
        note: &mut DeviceNote,
        now: Instant,
    ) -> Next {
        let read = planned.block.read;
        let device = self.device(read.unit());
        let treatment = Treatment::of(exception);
        note.answered |= treatment != Treatment::UnitGone;
        match treatment {
            Treatment::RefuseTable => {
                note.address_invalid = true;
                self.refused_tables.retain(|refused| now < refused.until);
                let until = now + REFUSED_RETRY;
                self.refused_tables.push(RefusedTable { unit: read.unit(), table: read.table(), until });
                Next::Report(reason::DEVICE_EXCEPTION)
            }
            Treatment::Bisect => {
                note.address_invalid = true;
                match modbus::plan::bisect(&planned.block, &self.wants) {
                    Some((low, high)) if *extra_left >= 2 => {
                        *extra_left -= 2;
                        self.is_news = true;
                        Next::Halves(Planned::new(low), Planned::new(high))
                    }
                    // The budget is spent: the next poll goes on from here.
                    Some(_) => Next::Report(reason::DEVICE_EXCEPTION),
                    None => {
                        self.is_news |= !planned.is_refused;
                        (planned.is_refused, planned.refused_until) = (true, Some(now + REFUSED_RETRY));
                        Next::Report(reason::ADDRESS_INVALID)
                    }
                }
            }
            Treatment::Wait => {
                note.failed = true;
                Next::Report(reason::DEVICE_BUSY)
            }
            Treatment::UnitGone => {
                note.failed = true;
                self.units[device].silent = Some((reason::GATEWAY_TARGET_FAIL, now + PROBE_INTERVAL));
                Next::Report(reason::GATEWAY_TARGET_FAIL)
            }
            Treatment::Bad(code) => {
                note.failed = true;
                let first = !std::mem::replace(&mut planned.is_broken, exception == Exception::MEMORY_PARITY);
                if exception == Exception::MEMORY_PARITY && first { Next::Broken } else { Next::Report(code) }
            }
        }
    }

    /// An address that was refused is answered: the device is another one, or has come up fully only now. What was
    /// learned of that table is forgotten, or it would stay in pieces for ever.
    fn heal(&mut self, answered: &Planned) {
        let read = answered.block.read;
        for group in 0..self.blocks.len() {
            let entry = (group, read.unit(), read.table());
            if !self.healed.contains(&entry) {
                self.healed.push(entry);
            }
        }
        self.is_news = true;
    }

    /// What is worth keeping, if there is news.
    pub fn news(&mut self) -> Option<Vec<Vec<Cut>>> {
        if !std::mem::take(&mut self.is_news) {
            return None;
        }
        let cut = |planned: &Planned| (planned.block.wants.clone(), planned.is_refused);
        Some(self.blocks.iter().map(|group| group.iter().map(cut).collect()).collect())
    }

    /// Takes over what an earlier process learned of the same settings. False, and nothing changed, if it does not fit.
    pub fn restore(&mut self, kept: &[Vec<Cut>]) -> bool {
        let mut blocks = Vec::with_capacity(kept.len());
        let mut served = vec![0_u32; self.wants.len()];
        for group in kept {
            let mut planned = Vec::with_capacity(group.len());
            for (members, is_refused) in group {
                let Some(block) = self.block_of(members) else { return false };
                for &member in members {
                    served[member] += 1;
                }
                planned.push(Planned { is_refused: *is_refused, ..Planned::new(block) });
            }
            blocks.push(planned);
        }
        let in_place = |(group, blocks): (usize, &Vec<Planned>)| {
            blocks.iter().all(|planned| usize::from(planned.block.group) == group)
        };
        let fits = blocks.len() == self.blocks.len() && blocks.iter().enumerate().all(in_place);
        if !fits || served.iter().any(|count| *count != 1) {
            return false;
        }
        self.blocks = blocks;
        true
    }

    /// The request that serves these wants, if one may.
    fn block_of(&self, members: &[usize]) -> Option<Block> {
        let wants: Vec<Want> = members.iter().map(|index| self.wants.get(*index).copied()).collect::<Option<_>>()?;
        let cut = modbus::plan::plan(&wants, &self.limits).ok()?;
        let [block] = &cut[..] else { return None };
        let wants = block.wants.iter().map(|index| members[*index]).collect();
        Some(Block { wants, ..block.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modbus::Span;

    const MS: Duration = Duration::from_millis(1);

    /// A device with `registers` points of one register, that refuses or leaves unanswered what a test says.
    struct Bench {
        lessons: Lessons,
        now: Instant,
        requests: Vec<(u16, u16)>,
        refuses: fn(u16) -> bool,
        answers_at_most: u16,
    }

    impl Bench {
        fn new(registers: u16, refuses: fn(u16) -> bool) -> Self {
            let want =
                |offset| Want { unit: 1, table: Table::HoldingRegister, group: 0, span: Span { offset, count: 1 } };
            let wants: Vec<Want> = (0..registers).map(want).collect();
            let limits = Limits::default();
            let blocks = modbus::plan::plan(&wants, &limits).unwrap();
            let lessons = Lessons::new(wants, limits, blocks, 1, vec![1], (false, true));
            Self { lessons, now: Instant::now(), requests: Vec::new(), refuses, answers_at_most: u16::MAX }
        }

        fn answer(&mut self, offset: u16, count: u16) -> Heard {
            self.requests.push((offset, count));
            if count > self.answers_at_most {
                return Heard::Silence { attempts: 2 };
            }
            if (offset..offset + count).any(self.refuses) {
                return Heard::Refusal(Exception::ILLEGAL_ADDRESS);
            }
            Heard::Values
        }

        /// One poll; the number of points with a value.
        fn poll(&mut self) -> usize {
            self.requests.clear();
            let mut queue: std::collections::VecDeque<Planned> = self.lessons.blocks(0).to_vec().into();
            let (mut settled, mut extra, mut good) = (Vec::new(), EXTRA_REQUESTS_MAX, 0);
            let mut note = DeviceNote::default();
            while let Some(mut planned) = queue.pop_front() {
                if self.lessons.ask(&planned, &mut note, self.now) == Ask::Yes {
                    let read = planned.block.read;
                    let heard = self.answer(read.offset(), read.count());
                    match self.lessons.settle(&mut planned, heard, &mut extra, &mut note, self.now) {
                        Next::Decode => good += planned.block.wants.len(),
                        Next::Halves(low, high) => {
                            queue.push_front(high);
                            queue.push_front(low);
                            continue;
                        }
                        Next::TryOne => {
                            let heard = self.answer(read.offset(), 1);
                            self.lessons.answers_less(&planned, heard);
                        }
                        Next::Report(_) | Next::Broken => {}
                    }
                }
                settled.push(planned);
            }
            self.lessons.set_blocks(0, settled);
            self.now += 1000 * MS;
            good
        }
    }

    // AC-013, MB-17
    #[tokio::test(start_paused = true)]
    async fn ten_bad_registers_are_isolated_within_three_polls_and_32_requests() {
        let mut bench = Bench::new(100, |offset| (60..70).contains(&offset));
        let mut all = 0;
        let good: Vec<usize> = (0..3)
            .map(|_| {
                let due = bench.lessons.blocks(0).iter().filter(|planned| !planned.is_refused).count();
                let good = bench.poll();
                let extra = bench.requests.len() - due;
                assert!(extra <= 16, "{extra}");
                all += extra;
                good
            })
            .collect();
        assert!(good[0] >= 60 && good[2] == 90, "{good:?}");
        assert!(all <= 32, "{all} requests");
        assert_eq!(bench.poll(), 90);
        let touches = |(offset, count): &(u16, u16)| *offset < 70 && offset + count > 60;
        assert!(!bench.requests.iter().any(touches), "{:?}", bench.requests);

        // The cut outlives the process: what is refused is asked once more, by itself, and nothing is cut again.
        let kept = bench.lessons.news().unwrap();
        assert_eq!(bench.lessons.news(), None);
        let mut again = Bench::new(100, |offset| (60..70).contains(&offset));
        assert!(again.lessons.restore(&kept));
        let due = again.lessons.blocks(0).len();
        assert_eq!((again.poll(), again.requests.len()), (90, due));
        assert_eq!((again.poll(), again.requests.len()), (90, due - 10));
        again.lessons.reconnected(again.now);
        assert_eq!((again.poll(), again.requests.len()), (90, due));
    }

    // MB-17: what a device refused while it started is not refused for ever.
    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_answered_again_joins_its_neighbours() {
        let mut bench = Bench::new(100, |offset| offset == 42);
        while bench.poll() != 99 {}
        bench.poll();
        assert!(bench.requests.len() > 2);
        bench.refuses = |_| false;
        bench.poll();
        assert_eq!(bench.requests.iter().filter(|(offset, _)| *offset == 42).count(), 0, "not before its time");
        bench.now += REFUSED_RETRY;
        assert_eq!(bench.poll(), 100);
        assert_eq!(bench.poll(), 100);
        assert_eq!(bench.requests, [(0, 100)]);
    }

    // MB-18
    #[tokio::test(start_paused = true)]
    async fn a_device_that_answers_short_requests_only_is_asked_for_less() {
        let mut bench = Bench::new(100, |_| false);
        bench.answers_at_most = 20;
        assert_eq!(bench.poll(), 0);
        assert_eq!(bench.requests, [(0, 100), (0, 1)]);
        let mut polls = 0;
        while bench.poll() != 100 {
            polls += 1;
            assert!(polls < 10, "{:?}", bench.requests);
        }
        assert!(bench.requests.iter().all(|(_, count)| *count <= 20), "{:?}", bench.requests);
        bench.answers_at_most = 0;
        for _ in 0..20 {
            bench.poll();
        }
        assert!(bench.requests.iter().all(|(_, count)| *count >= 4), "{:?}", bench.requests);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_not_restored() {
        let kept = |members: &[usize]| vec![vec![(members.to_vec(), false)]];
        let mut bench = Bench::new(10, |_| false);
        let before = bench.lessons.blocks(0).to_vec();
        for wrong in [kept(&[0, 1]), kept(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 10]), vec![], kept(&[0; 10])] {
            assert!(!bench.lessons.restore(&wrong), "{wrong:?}");
        }
        assert_eq!(bench.lessons.blocks(0), before);
        assert!(bench.lessons.restore(&kept(&[9, 8, 7, 6, 5, 4, 3, 2, 1, 0])));
        assert_eq!(bench.lessons.blocks(0)[0].block.read.count(), 10);
    }

    // MB-29
    #[tokio::test(start_paused = true)]
    async fn a_silent_unit_is_probed_and_comes_back() {
        let mut bench = Bench::new(2, |_| false);
        bench.lessons.among_others = true;
        let (mut planned, mut note, now) = (bench.lessons.blocks(0)[0].clone(), DeviceNote::default(), bench.now);
        let mut extra = 0;
        for attempts in [2, 1] {
            assert_eq!(bench.lessons.ask(&planned, &mut note, now), Ask::Yes);
            bench.lessons.settle(&mut planned, Heard::Silence { attempts }, &mut extra, &mut note, now);
        }
        let left_alone = Ask::Leave { code: reason::TIMEOUT, status: None };
        assert_eq!(bench.lessons.ask(&planned, &mut note, now + PROBE_INTERVAL - MS), left_alone);
        assert!(bench.lessons.all_silent());
        let later = now + PROBE_INTERVAL;
        assert_eq!(bench.lessons.ask(&planned, &mut note, later), Ask::Probe);
        assert!(!bench.lessons.probed(1, Heard::Silence { attempts: 1 }, later));
        assert_eq!(bench.lessons.ask(&planned, &mut note, later + MS), left_alone);
        assert!(bench.lessons.probed(1, Heard::Refusal(Exception::ILLEGAL_ADDRESS), later + PROBE_INTERVAL));
        assert_eq!(bench.lessons.ask(&planned, &mut note, later + PROBE_INTERVAL), Ask::Yes);
    }

    // 1.6
    #[tokio::test(start_paused = true)]
    async fn each_exception_has_its_treatment() {
        for (code, next) in [
            (0x01, Next::Report(reason::DEVICE_EXCEPTION)),
            (0x04, Next::Report(reason::DEVICE_EXCEPTION)),
            (0x05, Next::Report(reason::DEVICE_BUSY)),
            (0x06, Next::Report(reason::DEVICE_BUSY)),
            (0x08, Next::Broken),
            (0x0A, Next::Report(reason::GATEWAY_TARGET_FAIL)),
            (0x0B, Next::Report(reason::GATEWAY_TARGET_FAIL)),
            (0x63, Next::Report(reason::DEVICE_EXCEPTION)),
        ] {
            let mut bench = Bench::new(2, |_| false);
            let (mut planned, mut note) = (bench.lessons.blocks(0)[0].clone(), DeviceNote::default());
            let heard = Heard::Refusal(Exception(code));
            let settled = bench.lessons.settle(&mut planned, heard, &mut 16, &mut note, bench.now);
            assert_eq!(settled, next, "{code:#x}");
            assert_eq!(note.answered, !matches!(code, 0x0A | 0x0B), "{code:#x}");
            // The second time in a row a broken memory is no news.
            if code == 0x08 {
                let again = bench.lessons.settle(&mut planned, heard, &mut 16, &mut note, bench.now);
                assert_eq!(again, Next::Report(reason::SENSOR_FAULT));
            }
        }
    }
}
