//! What the validator remembers, kept in the topic `_sf.state.validator`: written piece by piece, read at the start (VAL-23).
//!
//! Key: the asset. The state of an asset is sent only after everything that was derived from the readings it holds is
//! acknowledged, so a restart that finds it may skip those readings. A state too large for one record is cut into parts;
//! parts count only when all of one generation are there. From where readings must be read again without the states on
//! their way travels in the commit's text, like the marks.

use std::collections::HashMap;

use kafka::client::{Batch, Consumer, Error as ClientError, Position};
use pipeline::validate::{LaneTime, Validator};
use stream::StateTopic;
use stream::topics::PARTITIONS;
use tokio::time::Instant;

use super::MODULE;
use crate::modules::marks::{self, LANES, lane, partition};
use crate::modules::{Error, ModuleContext, outlet};

/// Bytes of a part; the largest record a broker takes by default is 1 MB.
const PART_BYTES: usize = 512 * 1024;
/// State sent per second at least; the rest waits its turn.
const BYTES_PER_TURN: usize = 256 * 1024;
/// Of the bytes read, so many per hundred may be state; this bounds what a restart reads again.
const PERCENT_OF_INPUT: usize = 10;
/// Between asset and part in a key; no asset's name holds it.
const SEPARATOR: u8 = 0x1f;
/// How long the topic may stay silent while it is read.
const SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(10);
/// Not an asset: the figures of alarms, and the sources whose clocks differ.
pub(super) const KPIS: &str = "\u{1}kpis";
pub(super) const SOURCES: &str = "\u{1}sources";
/// Names in the text of a commit.
const REPLAY: &str = "replay";
const REPLAY_NOW: &str = "now";
const REPLAY_SHIFT: &str = "shift";

/// States on their way out, one group at a time.
#[derive(Debug, Default)]
pub(super) struct Memory {
    waiting: Option<Group>,
    /// Groups made so far, over all runs: it picks the place of parts.
    made: u64,
    /// Groups whose readings are safe.
    released: u64,
    bytes_in: usize,
}

#[derive(Debug)]
struct Group {
    states: Vec<State>,
    /// From where each lane would have to be read without this group.
    replay_from: [Option<LaneTime>; LANES],
}

#[derive(Debug)]
struct State {
    lane: usize,
    asset: String,
    bytes: Vec<u8>,
}

impl Memory {
    /// The states that were found are of another log: the next ones begin anew.
    pub(super) fn forget(&mut self) {
        *self = Self { made: self.made, released: self.made, ..Self::default() };
    }

    /// Takes in what was read, which is what the state may cost a share of.
    pub(super) fn note_input(&mut self, bytes: usize) {
        self.bytes_in = self.bytes_in.saturating_add(bytes);
    }

    /// Number of the newest group: once everything up to now is safe, it may be sent.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// The outputs of everything that groups up to `number` hold are safe.
    pub(super) fn release(&mut self, number: u64) {
        self.released = self.released.max(number);
    }

    /// True while states wait that were made of what is committed by other means than readings.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Makes the next group, when there is none: first the assets named by lane, then those that have waited longest, up to
    /// the turn's share or without limit. `append` adds what else belongs to an asset.
    pub(super) fn collect(
        &mut self,
        validator: &mut Validator,
        first: &mut Vec<(usize, String)>,
        everything: bool,
        append: &mut dyn FnMut(usize, &str, &mut Vec<u8>),
    ) {
        if self.waiting.is_some() {
            return;
        }
        let budget = BYTES_PER_TURN.max(self.bytes_in / 100 * PERCENT_OF_INPUT);
        self.bytes_in = 0;
        let mut group = Group { states: Vec::new(), replay_from: [None; LANES] };
        let mut bytes = 0;
        for (lane, asset) in first.drain(..) {
            bytes += group.add(validator, lane, asset, append);
        }
        for lane in 0..LANES {
            // every lane gets its turn: a busy one must not keep the others' state from being saved
            let share = bytes.saturating_add((budget.saturating_sub(bytes)) / (LANES - lane));
            while everything || bytes < share {
                let Some(asset) = validator.unsaved(lane).map(|(asset, _)| asset.to_owned()) else { break };
                bytes += group.add(validator, lane, asset, append);
            }
        }
        if !group.states.is_empty() {
            self.made += 1;
            self.waiting = Some(group);
        }
    }

    /// Adds state that belongs to no asset to the group that waits.
    pub(super) fn add(&mut self, name: &str, own: &[u8]) {
        if let Some(group) = &mut self.waiting {
            let mut bytes = u32::try_from(own.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
            bytes.extend_from_slice(own);
            group.states.push(State { lane: 0, asset: name.to_owned(), bytes });
        }
    }

    /// Sends the group that waits, once it was released; true when it did.
    pub(super) fn send(&mut self, ctx: &ModuleContext, batch: &Batch<'_>) -> Result<bool, Error> {
        if self.released < self.made {
            return Ok(false);
        }
        let Some(group) = self.waiting.take() else { return Ok(false) };
        let now = ctx.clock.now().as_millis();
        let mut value = Vec::new();
        for state in group.states {
            let parts = state.bytes.chunks(PART_BYTES).collect::<Vec<_>>();
            let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
            for (part, bytes) in (0_u32..).zip(parts) {
                value.clear();
                value.extend_from_slice(&self.made.to_be_bytes());
                value.extend_from_slice(&part.to_be_bytes());
                value.extend_from_slice(&count.to_be_bytes());
                value.extend_from_slice(bytes);
                let key = key(&state.asset, self.made, part, count);
                outlet::insist_named(&ctx.stop, StateTopic::Validator.name(), || {
                    batch.send(StateTopic::Validator.name(), partition(state.lane), &key, &value, now, &[])
                })?;
            }
        }
        Ok(true)
    }

    /// From where a restart would have to read a lane, with everything that was sent so far safe.
    pub(super) fn replay_from(&self, validator: &Validator, lane: usize) -> LaneTime {
        let own = validator.replay_from(lane);
        let waiting = self.waiting.as_ref().and_then(|group| group.replay_from[lane]);
        waiting.map_or(own, |waiting| waiting.min(own))
    }
}

impl Group {
    fn add(
        &mut self,
        validator: &mut Validator,
        lane: usize,
        asset: String,
        append: &mut dyn FnMut(usize, &str, &mut Vec<u8>),
    ) -> usize {
        let mut own = Vec::new();
        let Some(from) = validator.save(lane, &asset, &mut own) else { return 0 };
        let mut bytes = u32::try_from(own.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        bytes.append(&mut own);
        append(lane, &asset, &mut bytes);
        let earliest = &mut self.replay_from[lane];
        *earliest = Some(earliest.map_or(from, |earliest| earliest.min(from)));
        let length = bytes.len();
        self.states.push(State { lane, asset, bytes });
        length
    }
}

/// One record needs no generation in its key: the newest replaces the one before. Parts alternate between two places, so
/// that a torn generation leaves the one before whole.
fn key(asset: &str, generation: u64, part: u32, count: u32) -> Vec<u8> {
    let mut key = asset.as_bytes().to_vec();
    if count > 1 {
        key.push(SEPARATOR);
        key.extend_from_slice(format!("{}.{part}", generation % 2).as_bytes());
    }
    key
}

/// The text of a commit that says from where to read again.
pub(super) fn marks_of(place: LaneTime) -> [(&'static str, i64); 3] {
    [(REPLAY, place.offset), (REPLAY_NOW, place.now), (REPLAY_SHIFT, place.shift)]
}

/// Reads it; `None` for a commit of an older version.
pub(super) fn read_marks(text: &str) -> Option<LaneTime> {
    let mark = |name| marks::read(text, name);
    Some(LaneTime { offset: mark(REPLAY)?, now: mark(REPLAY_NOW)?, shift: mark(REPLAY_SHIFT)? })
}

/// Newest state of every asset: what is read of one.
#[derive(Debug, Default)]
struct Found {
    generation: u64,
    /// Offset of its newest part.
    newest: i64,
    parts: Vec<Option<Vec<u8>>>,
}

/// Reads all states and hands them to `each`: lane, asset, the validator's bytes, and what else was appended.
pub(super) fn restore(consumer: &Consumer, mut each: impl FnMut(usize, &str, &[u8], &[u8])) -> Result<Memory, Error> {
    let mut found: HashMap<(usize, Vec<u8>), Vec<Found>> = HashMap::new();
    read_all(consumer, |lane, offset, key, value| {
        let asset = key.split(|byte| *byte == SEPARATOR).next().unwrap_or_default().to_vec();
        take(found.entry((lane, asset)).or_default(), offset, value);
    })
    .map_err(Error::stream(MODULE))?;
    let mut unreadable = 0_u64;
    let generations = found.values().flatten().map(|found| found.generation);
    let made = generations.max().unwrap_or(0);
    for ((lane, asset), generations) in found {
        let whole = generations.into_iter().filter(|found| found.parts.iter().all(Option::is_some));
        let newest = whole.max_by_key(|found| found.newest);
        let bytes: Vec<u8> = newest.into_iter().flat_map(|found| found.parts).flatten().flatten().collect();
        let split = bytes
            .split_first_chunk::<4>()
            .and_then(|(length, rest)| rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?));
        match (std::str::from_utf8(&asset), split) {
            (Ok(asset), Some((own, further))) => each(lane, asset, own, further),
            _ => unreadable += 1,
        }
    }
    if unreadable > 0 {
        tracing::warn!(assets = unreadable, "saved states that cannot be read: their points begin without history");
    }
    Ok(Memory { made, released: made, ..Memory::default() })
}

fn take(found: &mut Vec<Found>, offset: i64, value: &[u8]) {
    let parsed = value.split_first_chunk::<8>().and_then(|(generation, rest)| {
        let (part, rest) = rest.split_first_chunk::<4>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        Some((u64::from_be_bytes(*generation), u32::from_be_bytes(*part), u32::from_be_bytes(*count), rest))
    });
    let Some((generation, part, count, bytes)) = parsed else { return };
    let (Ok(part), Ok(count)) = (usize::try_from(part), usize::try_from(count)) else { return };
    if part >= count || count > usize::from(u16::MAX) {
        return;
    }
    if count == 1 {
        // a later record under the same key replaces an earlier one, whatever its generation says
        found.retain(|found| found.parts.len() != 1);
    }
    let known = found.iter().position(|found| found.generation == generation && found.parts.len() == count);
    let place = known.unwrap_or_else(|| {
        found.push(Found { generation, newest: offset, parts: vec![None; count] });
        found.len() - 1
    });
    found[place].newest = offset;
    found[place].parts[part] = Some(bytes.to_vec());
}

/// Hands every record of the topic to `each`, in order.
fn read_all(consumer: &Consumer, mut each: impl FnMut(usize, i64, &[u8], &[u8])) -> Result<(), ClientError> {
    let names = [(StateTopic::Validator.name(), PARTITIONS)];
    let (starts, ends) = (consumer.starts(&names)?, consumer.ends(&names)?);
    let mut missing = [None; LANES];
    let mut positions: Vec<Position> = Vec::new();
    for (start, end) in starts.into_iter().zip(&ends) {
        debug_assert_eq!(start.partition, end.partition, "both lists are in the order of the partitions");
        if let Some(lane) = lane(start.partition).filter(|_| start.offset < end.offset) {
            missing[lane] = Some(end.offset);
            positions.push(start);
        }
    }
    if positions.is_empty() {
        return Ok(());
    }
    consumer.assign(&positions)?;
    let mut heard = Instant::now();
    while missing.iter().any(Option::is_some) {
        let count =
            consumer.poll(4096, std::time::Duration::from_millis(200), std::time::Duration::ZERO, |record| {
                let Some(lane) = lane(record.partition()) else { return };
                if let Some(value) = record.payload() {
                    each(lane, record.offset(), record.key(), value);
                }
                // the newest record of a log is the newest of its key, which compaction keeps
                if missing[lane].is_some_and(|end| record.offset() + 1 >= end) {
                    missing[lane] = None;
                }
            })?;
        if count > 0 {
            heard = Instant::now();
        } else if heard.elapsed() > SILENCE_MAX {
            let reason = format!("the newest records of {} did not arrive", StateTopic::Validator.name());
            return Err(ClientError::NotDelivered { reason });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(generation: u64, part: u32, count: u32, bytes: &[u8]) -> Vec<u8> {
        let mut value = generation.to_be_bytes().to_vec();
        value.extend_from_slice(&part.to_be_bytes());
        value.extend_from_slice(&count.to_be_bytes());
        value.extend_from_slice(bytes);
        value
    }

    #[test]
    fn a_torn_generation_leaves_the_one_before() {
        let mut found = Vec::new();
        take(&mut found, 1, &value(4, 0, 2, b"ab"));
        take(&mut found, 2, &value(4, 1, 2, b"cd"));
        take(&mut found, 3, &value(5, 0, 3, b"xx"));
        let whole: Vec<u64> = found
            .iter()
            .filter(|found| found.parts.iter().all(Option::is_some))
            .map(|found| found.generation)
            .collect();
        assert_eq!(whole, [4]);
        take(&mut found, 4, &value(2, 0, 1, b"single"));
        take(&mut found, 5, &value(1, 0, 1, b"of a later run"));
        assert_eq!(
            found.iter().filter(|found| found.parts.len() == 1).map(|found| found.generation).collect::<Vec<_>>(),
            [1]
        );
        take(&mut found, 6, b"torn");
        take(&mut found, 7, &value(1, 7, 1, b""));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn where_to_read_again_travels_as_text() {
        let place = LaneTime { offset: 7, now: i64::MIN, shift: -3 };
        assert_eq!(read_marks(&marks::write(&marks_of(place))), Some(place));
        assert_eq!(read_marks("telemetry.clean=5"), None);
    }
}
