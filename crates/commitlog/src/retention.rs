//! Trimming the start of a log: by age, by size, and on request (DeleteRecords).
//!
//! Only whole closed segments go. The new start offset is made durable first, then the files are unlinked, while appends,
//! reads and syncs go on: a crash in between leaves files that the next start removes. A clock that jumps must not empty a plant's memory,
//! so one call removes at most [`SEGMENTS_BY_TIME_MAX`] segments for their age (OFF-03, STR-05).
//!
//! A log is in the order of arrival. A segment whose stamps come from a clock that was not set - before the year 2000, or
//! long before the segments in front of it - arrived no later than the next one whose stamps can be believed, and goes
//! with that one.

use std::io;
use std::sync::Arc;

use crate::error::Error;
use crate::index;
use crate::log::{Condition, Log, State, lock};
use crate::recovery::{START_OFFSET_FILE, producers_behind};
use crate::segment::{self, Meta, Segment};
use crate::state_file;
use crate::sync::write_synced;

/// Segments removed for their age per call; the rest waits for the next one. Call [`Log::apply_retention`] on a timer,
/// not in a loop until nothing is left: with one call a minute and 32 MiB segments this keeps up with 2 MB/s per
/// partition, and a clock that jumps takes an hour to cost 7.5 GiB.
pub const SEGMENTS_BY_TIME_MAX: usize = 4;
/// Segments removed for their size per call. Size does not depend on a clock; this only bounds the time one call takes.
pub const SEGMENTS_BY_SIZE_MAX: usize = 64;

/// Stamps that lie behind those in front of them by more than this are not believed, in milliseconds; less is the disorder
/// of many producers.
const BACKWARDS_MAX_MS: i64 = 24 * 3600 * 1000;

/// What may be believed of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Believed {
    /// The wall clock; `None` while it cannot be right, and nothing goes for its age then.
    pub now_ms: Option<i64>,
    /// Stamps before this come from a clock that was never set.
    pub stamps_from_ms: i64,
}

impl From<i64> for Believed {
    /// A clock that is right, and so are all stamps.
    fn from(now_ms: i64) -> Self {
        Self { now_ms: Some(now_ms), stamps_from_ms: i64::MIN }
    }
}

/// What a call of [`Log::apply_retention`] has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Segments unlinked.
    pub segments: usize,
    /// Their size on disk.
    pub bytes: u64,
    /// First offset of the log now.
    pub start_offset: i64,
    /// More was due than one call removes.
    pub capped: bool,
}

impl Log {
    /// Moves the start of the log up to `offset` and unlinks the segments that lie wholly below. Returns the start offset
    /// in force, which is `offset` or more. Only durable records can be deleted.
    pub fn delete_records_before(&self, offset: i64) -> Result<i64, Error> {
        let (start, removed) = {
            let _one_at_a_time = lock(&self.maintenance);
            let durable = self.durable_offset();
            let start = {
                let state = self.state();
                self.check_open(&state)?;
                state.start
            };
            if offset > durable {
                return Err(Error::OffsetOutOfRange { offset, start, end: durable });
            }
            (start, if offset > start { self.trim(offset)? } else { Vec::new() })
        };
        self.unlink(&removed, &mut || ())?;
        Ok(offset.max(start))
    }

    /// Unlinks closed segments that are too old or too much, oldest first, as the options say. `now_ms` is the wall clock.
    pub fn apply_retention(&self, now_ms: i64) -> Result<Removed, Error> {
        self.apply_retention_gently(now_ms.into(), &mut || ())
    }

    /// As [`Log::apply_retention`]; calls `pause` after each segment it has unlinked, with nothing locked. A file system
    /// that frees hundreds of files in one go makes every sync wait for it.
    pub fn apply_retention_gently(&self, time: Believed, pause: &mut dyn FnMut()) -> Result<Removed, Error> {
        let (plan, removed) = {
            let _one_at_a_time = lock(&self.maintenance);
            self.close_expired_active(time)?;
            let plan = {
                let mut state = self.state();
                self.check_open(&state)?;
                if let Some(now_ms) = time.now_ms {
                    state.producers.expire(now_ms);
                }
                plan(&state, time, self.durable_offset())
            };
            let removed = plan.new_start.map_or(Ok(Vec::new()), |new_start| self.trim(new_start))?;
            (plan, removed)
        };
        self.unlink(&removed, pause)?;
        Ok(Removed {
            segments: removed.len(),
            bytes: removed.iter().map(|segment| segment.footer.file_len).sum(),
            start_offset: plan.new_start.unwrap_or_else(|| self.start_offset()),
            capped: plan.capped,
        })
    }

    /// A topic that fell silent would keep its last segment for ever: close it once all of it has expired.
    fn close_expired_active(&self, time: Believed) -> Result<(), Error> {
        let Some(now_ms) = time.now_ms else { return Ok(()) };
        {
            let mut state = self.state();
            self.check_open(&state)?;
            let newest = newest_of_active(&state).filter(|newest| *newest >= time.stamps_from_ms);
            let expired = newest.is_some_and(|newest| expired(&state, newest, now_ms));
            if !expired {
                return Ok(());
            }
            self.roll(&mut state, now_ms)?;
        }
        self.sync_under_maintenance()
    }

    /// Makes `new_start` the start of the log; what lies wholly below belongs to it no longer and is to be unlinked.
    fn trim(&self, new_start: i64) -> Result<Vec<Arc<Segment>>, Error> {
        let count = {
            let state = self.state();
            state.closed.iter().take_while(|segment| segment.footer.next <= new_start).count()
        };
        self.keep_producers(count)?;
        let path = self.dir.join(START_OFFSET_FILE);
        state_file::replace(&*self.vfs, &path, &new_start.to_be_bytes()).map_err(Error::io("write", &path))?;
        self.sync_names_or_stop()?;
        let mut state = self.state();
        state.start = new_start;
        let removed: Vec<Arc<Segment>> = state.closed.drain(..count).collect();
        state.unsettled.retain(|segment| segment.footer.next > new_start);
        Ok(removed)
    }

    /// Unlinks segments that belong to the log no longer, unless the topic is deleted meanwhile: another of its name may
    /// have the folder then.
    fn unlink(&self, removed: &[Arc<Segment>], pause: &mut dyn FnMut()) -> Result<(), Error> {
        for segment in removed {
            let base = segment.footer.base;
            lock(&self.cache).forget(base);
            {
                let _not_abandoned = lock(&self.unlinking);
                if self.state().condition == Condition::Closed {
                    return Ok(());
                }
                for extension in [segment::LOG, segment::INDEX, segment::CHECKPOINT] {
                    let path = segment::path(&self.dir, base, extension);
                    match self.vfs.remove(&path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(Error::io("remove", &path)(error));
                        }
                        _ => {}
                    }
                }
            }
            pause();
        }
        Ok(())
    }

    /// The states of producers, open transactions included, lie in the index files of closed segments. When none is left
    /// behind the `count` oldest, which are about to go, they are kept as the checkpoint of the segment behind those.
    fn keep_producers(&self, count: usize) -> Result<(), Error> {
        let going: Vec<Arc<Segment>> = {
            let state = self.state();
            if count == 0 || state.closed.range(count..).any(|segment| lock(&segment.unsettled).is_none()) {
                return Ok(());
            }
            state.closed.range(..count).map(Arc::clone).collect()
        };
        let now_ms = self.clock.now_ms();
        let producers = producers_behind(&*self.vfs, &self.dir, &going, now_ms)?;
        if producers.is_empty() {
            return Ok(());
        }
        let footer = {
            let mut state = self.state();
            if state.active.is_none() {
                self.roll(&mut state, now_ms)?;
            }
            let behind = state.closed.get(count).map(|segment| (segment.footer.base, segment.footer.created_ms));
            let active = state.active.as_ref().map(|active| (active.meta.base, active.created_ms));
            let (base, created_ms) = behind.or(active).expect("there is an active segment");
            Meta::new(base).footer(0, created_ms)
        };
        let path = segment::path(&self.dir, footer.base, segment::CHECKPOINT);
        write_synced(&*self.vfs, &path, &index::encode(&footer, &[], &[], &producers))
    }

    /// Whether an fsync of this log has failed, or a write that could not be undone.
    pub fn stopped(&self) -> bool {
        self.state().condition == Condition::Stopped
    }
}

/// What is due.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    new_start: Option<i64>,
    capped: bool,
}

fn expired(state: &State, newest_ms: i64, now_ms: i64) -> bool {
    state.options.retention_ms.is_some_and(|limit| now_ms.saturating_sub(newest_ms) > limit)
}

/// Newest stamp of the segment that is being written, if it holds anything.
fn newest_of_active(state: &State) -> Option<i64> {
    let active = state.active.as_ref().filter(|active| active.meta.len > 0)?;
    Some(active.meta.max.map_or(active.created_ms, |max| max.timestamp))
}

/// When the newest record of each closed segment arrived, at the latest; `None` where no stamp of it nor of those behind
/// it can be believed.
fn arrivals(state: &State, stamps_from_ms: i64) -> Vec<Option<i64>> {
    let mut newest_before = i64::MIN;
    let mut believed = |stamp: i64| {
        let holds = stamp >= stamps_from_ms && stamp >= newest_before.saturating_sub(BACKWARDS_MAX_MS);
        if holds {
            newest_before = newest_before.max(stamp);
        }
        holds.then_some(stamp)
    };
    let stamp = |segment: &Arc<Segment>| segment.footer.max.map_or(segment.footer.created_ms, |max| max.timestamp);
    let mut arrivals: Vec<Option<i64>> = state.closed.iter().map(|segment| believed(stamp(segment))).collect();
    let mut following = newest_of_active(state).and_then(believed);
    for arrival in arrivals.iter_mut().rev() {
        *arrival = arrival.or(following);
        following = *arrival;
    }
    arrivals
}

/// Decides how far to trim. Pure.
fn plan(state: &State, time: Believed, durable: i64) -> Plan {
    let active_bytes = state.active.as_ref().map_or(0, |active| active.meta.len);
    let mut kept: u64 = state.closed.iter().map(|segment| segment.footer.file_len).sum::<u64>() + active_bytes;
    let (mut by_time, mut by_size) = (0, 0);
    let mut plan = Plan::default();
    for (segment, arrival) in state.closed.iter().zip(arrivals(state, time.stamps_from_ms)) {
        let footer = &segment.footer;
        if footer.next > durable {
            break;
        }
        let too_much = state.options.retention_bytes.is_some_and(|limit| kept.saturating_sub(footer.file_len) >= limit);
        let too_old = arrival.zip(time.now_ms).is_some_and(|(newest, now_ms)| expired(state, newest, now_ms));
        let allowed = (too_much && by_size < SEGMENTS_BY_SIZE_MAX) || (too_old && by_time < SEGMENTS_BY_TIME_MAX);
        if !allowed {
            plan.capped = too_much || too_old;
            break;
        }
        if too_much {
            by_size += 1;
        } else {
            by_time += 1;
        }
        kept -= footer.file_len;
        plan.new_start = Some(footer.next);
    }
    plan
}
