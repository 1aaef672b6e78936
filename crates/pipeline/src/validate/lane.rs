//! One input partition: its points, its time, the silence of its points, and which assets changed since they were saved.
//!
//! Time here is steady: the newest gateway time seen, with jumps of the clock taken out. It never goes backwards, so that
//! no delay breaks when a clock is set (OFF-02), and it is a function of the records, so that a replay comes to the same
//! decisions. What passes while nothing comes is only a pause ([`Lane::pause`]): the next record ends it, unless
//! something was told because of it. Then it was time, and what was told says so to a replay ([`Lane::reach`]).

use std::collections::{HashMap, VecDeque};

use model::{Quality, Reading, Timestamp, flag};

use super::plan::Plan;
use super::point::{NEVER, Point, time};
use crate::PointTable;
use crate::timers::Timers;

/// A silence of so many expected intervals is told.
const STALE_INTERVALS: i64 = 3;
/// A clock that was set by less needs no correction, in microseconds (OFF-02).
const STEP_MIN: i64 = 1_000_000;

/// A clock so far behind what was seen before was not set, in microseconds.
const UNSET_BEHIND: i64 = 3600 * 1_000_000;

/// One input partition.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) table: PointTable<Point>,
    pub(super) assets: Vec<Asset>,
    by_name: HashMap<Box<str>, u32, foldhash::fast::RandomState>,
    silence: Timers<u32>,
    /// Steady time in microseconds, [`NEVER`] before the first reading.
    pub(super) now: i64,
    /// The same with the pause since; [`NEVER`] or earlier when there is none.
    paused: i64,
    /// Gateway time less steady time.
    pub(super) shift: i64,
    /// Offset of the next reading.
    pub(super) next: i64,
    /// Readings below this were judged before their assets were saved.
    pub(super) restored_through: i64,
    /// Assets that changed since they were saved, in the order they did.
    pub(super) dirty: VecDeque<Dirty>,
    pub(super) swept: i64,
}

/// The points of one asset, which are saved together.
#[derive(Debug)]
pub(super) struct Asset {
    pub(super) name: Box<str>,
    pub(super) points: Vec<u32>,
    /// Its state holds the readings below this offset.
    pub(super) through: i64,
    pub(super) dirty: bool,
}

/// Where the lane was before an asset changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dirty {
    pub(super) asset: u32,
    pub(super) at: LaneTime,
}

/// A place in a partition and the time there; places are ordered as a run comes to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneTime {
    pub offset: i64,
    /// Steady time, microseconds.
    pub now: i64,
    /// Gateway time less steady time, microseconds.
    pub shift: i64,
}

/// A point from which nothing came for three expected intervals.
#[derive(Debug, Clone, Copy)]
pub struct Stale<'a> {
    pub asset_id: &'a str,
    pub parameter: &'a str,
    /// The point, for the handles kept with it.
    pub point: u32,
    /// The class it had.
    pub from: Option<Quality>,
    /// Arrival of the last reading, by the gateway's clock.
    pub last_arrival: Timestamp,
    /// Device time of the newest reading.
    pub last_device_time: Option<Timestamp>,
    /// When the silence was noticed, by the gateway's clock.
    pub at: Timestamp,
    /// The same by the lane's steady time, microseconds.
    pub now: i64,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            table: PointTable::default(),
            assets: Vec::new(),
            by_name: HashMap::default(),
            silence: Timers::default(),
            now: NEVER,
            paused: NEVER,
            shift: 0,
            next: 0,
            restored_through: 0,
            dirty: VecDeque::new(),
            swept: 0,
        }
    }
}

impl Lane {
    pub(super) fn place(&self) -> LaneTime {
        LaneTime { offset: self.next, now: self.now, shift: self.shift }
    }

    /// Moves on to the arrival of a reading; true when its source says that its clock was set.
    #[inline]
    pub(super) fn arrive(&mut self, reading: &Reading<'_>) -> bool {
        let gateway = reading.gateway_time.as_micros();
        let stepped = !reading.flags.is_empty() && reading.flags.contains(flag::CLOCK_STEP);
        if self.now != NEVER {
            let off = gateway.saturating_sub(self.shift).saturating_sub(self.now);
            // a gateway that begins without its clock would stand still here until the clock is set (OFF-03, AC-085)
            let unset = off < -UNSET_BEHIND && reading.clock_state == "UNSYNCED";
            if stepped && off.saturating_abs() > STEP_MIN || unset {
                self.shift = gateway.saturating_sub(self.now);
            }
        }
        self.now = self.now.max(gateway.saturating_sub(self.shift));
        self.paused = NEVER;
        stepped
    }

    /// Steady time with the pause since the last record.
    pub(super) fn moment(&self) -> i64 {
        self.now.max(self.paused)
    }

    /// The asset's place; made when it is new.
    pub(super) fn asset(&mut self, name: &str) -> u32 {
        if let Some(place) = self.by_name.get(name) {
            return *place;
        }
        let place = u32::try_from(self.assets.len()).expect("tables are limited far below 2^32 points");
        self.assets.push(Asset { name: name.into(), points: Vec::new(), through: 0, dirty: false });
        self.by_name.insert(name.into(), place);
        place
    }

    pub(super) fn find_asset(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// True when the reading at `offset` is part of what was restored.
    #[inline]
    pub(super) fn is_past(&self, asset_id: &str, offset: i64) -> bool {
        offset < self.restored_through
            && self.find_asset(asset_id).is_some_and(|asset| offset < self.assets[asset as usize].through)
    }

    /// Notes that an asset is about to differ from what was saved of it; `before` is the place before the change.
    pub(super) fn touch(&mut self, asset: u32, before: LaneTime) {
        let state = &mut self.assets[asset as usize];
        if !state.dirty {
            state.dirty = true;
            self.dirty.push_back(Dirty { asset, at: before });
        }
    }

    /// From where a restart must read, if everything that is not dirty is safe.
    pub(super) fn replay_from(&self) -> LaneTime {
        self.dirty.front().map_or_else(|| self.place(), |dirty| dirty.at)
    }

    /// Sets the deadline of a point's silence, once; it moves with every arrival without being set again.
    pub(super) fn watch_silence(&mut self, id: u32, interval: i64) {
        if let Some(point) = self.table.get_mut(id)
            && !point.timed
            && point.arrival != NEVER
            && !point.stale
        {
            point.timed = true;
            let deadline = point.arrival.saturating_add(interval.saturating_mul(STALE_INTERVALS));
            self.silence.set(deadline, id);
        }
    }

    /// True when the arrival of `reading` lets some silence end that has to be looked at before.
    #[inline]
    pub(super) fn is_due(&self, reading: &Reading<'_>) -> bool {
        let now = reading.gateway_time.as_micros().saturating_sub(self.shift);
        self.now != NEVER && self.silence.next_step().is_some_and(|step| step <= now)
    }

    /// Moves on to `now` for good.
    pub(super) fn reach(&mut self, now: i64) {
        if self.now != NEVER {
            self.now = self.now.max(now);
        }
    }

    /// Moves on to `now` and tells of the points whose silence has lasted too long by then.
    pub(super) fn advance(&mut self, plan: &Plan, now: i64, out: &mut dyn FnMut(&Stale<'_>)) {
        self.reach(now);
        self.tell_silences(plan, self.now, out);
    }

    /// Nothing has come until `now`: tells of silences that have lasted too long by then, and leaves the time as it is.
    pub(super) fn pause(&mut self, plan: &Plan, now: i64, out: &mut dyn FnMut(&Stale<'_>)) {
        if self.now != NEVER {
            self.paused = self.paused.max(now);
        }
        self.tell_silences(plan, self.moment(), out);
    }

    fn tell_silences(&mut self, plan: &Plan, now: i64, out: &mut dyn FnMut(&Stale<'_>)) {
        if self.now == NEVER {
            return; // nothing has come yet, so nothing can be missed
        }
        while let Some((_, ids)) = self.silence.due(now) {
            for id in ids {
                self.look_at(plan, id, now, out);
            }
        }
    }

    fn look_at(&mut self, plan: &Plan, id: u32, now: i64, out: &mut dyn FnMut(&Stale<'_>)) {
        let before = self.place();
        let Self { table, assets, silence, shift, next, .. } = self;
        let Some((asset_id, parameter, point)) = table.entry_mut(id) else { return };
        point.timed = false;
        let Some(interval) = plan.checks(point.profile).expected_interval else { return };
        let deadline = point.arrival.saturating_add(interval.saturating_mul(STALE_INTERVALS));
        let restored = *next < assets[point.asset as usize].through;
        // what is BAD is missed already, and silence would not make it better
        if point.stale || point.arrival == NEVER || point.class == Some(Quality::Bad) {
            return;
        }
        // by its own step, not by the one it was looked at for: that one a restart does not know
        if Timers::<u32>::step_of(deadline) > now || restored {
            point.timed = true;
            silence.set(deadline.max(now), id);
            return;
        }
        let stale = Stale {
            asset_id,
            parameter,
            point: id,
            from: point.class,
            last_arrival: Timestamp::from_micros(point.arrival.saturating_add(*shift)),
            last_device_time: time(point.newest),
            at: Timestamp::from_micros(now.saturating_add(*shift)),
            now,
        };
        out(&stale);
        if point.class == Some(Quality::Good) {
            point.last_good = point.newest;
        }
        point.stale = true;
        point.class = Some(Quality::Uncertain);
        point.since = stale.at.as_micros();
        if let Some(operand) = point.extras.as_mut().and_then(|extras| extras.operand.as_mut()) {
            operand.lost = true;
        }
        point.dirty = true;
        let asset = point.asset;
        self.touch(asset, before);
    }

    /// Forgets points that `keep` does not want; their assets stay known, since they are few.
    pub(super) fn retain(&mut self, keep: impl Fn(&Point) -> bool) -> usize {
        let before = self.table.len();
        self.table.retain(|point| keep(point));
        let table = &self.table;
        let place = self.next;
        let mut shrunk = Vec::new();
        for (at, asset) in (0_u32..).zip(&mut self.assets) {
            let points = asset.points.len();
            asset.points.retain(|id| table.get(*id).is_some_and(|point| point.asset == at));
            if asset.points.len() < points {
                shrunk.push(at);
            }
        }
        for asset in shrunk {
            self.touch(asset, LaneTime { offset: place, now: self.now, shift: self.shift });
        }
        before - self.table.len()
    }
}
