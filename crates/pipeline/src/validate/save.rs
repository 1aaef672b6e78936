//! Saved state: everything that is remembered of one asset, as bytes (VAL-23).
//!
//! An asset is the unit, since conditions read across its points: its saved state is one moment of all of them. A restart
//! restores what was saved, reads on from [`Validator::replay_from`], and skips the readings an asset's state already
//! holds; so the state after a restart is exactly the state without one. The bytes carry a version; what another version
//! wrote is not read, and the points begin without history then.

use model::Quality;

use super::lane::LaneTime;
use super::point::{Extras, Point};
use super::rules::condition::{Held, Operand};
use super::rules::flatline::Rest;
use super::rules::share::Share;
use super::rules::{duplicate, rate};
use super::validator::Validator;
use crate::bytes::{Reader, Writer};

const VERSION: i64 = 1;

impl Validator {
    /// The asset of a lane that has waited longest to be saved, and its number of points.
    pub fn unsaved(&self, partition: usize) -> Option<(&str, usize)> {
        let lane = &self.lanes[partition];
        let asset = &lane.assets[lane.dirty.front()?.asset as usize];
        Some((&asset.name, asset.points.len()))
    }

    /// Appends the state of an asset and counts it as saved; from where a restart would have to read without it, `None`
    /// when there is nothing to save.
    pub fn save(&mut self, partition: usize, asset_id: &str, out: &mut Vec<u8>) -> Option<LaneTime> {
        let lane = &mut self.lanes[partition];
        let place = lane.find_asset(asset_id)?;
        let dirty = lane.dirty.iter().position(|dirty| dirty.asset == place)?;
        let dirty = lane.dirty.remove(dirty)?;
        let asset = &mut lane.assets[place as usize];
        asset.dirty = false;
        let mut writer = Writer(out);
        writer.int(VERSION);
        writer.int(lane.next);
        writer.count(asset.points.len());
        for id in &asset.points {
            let Some((_, parameter, point)) = lane.table.entry_mut(*id) else { continue };
            point.dirty = false;
            writer.text(parameter);
            write_point(&mut writer, point);
        }
        Some(dirty.at)
    }

    /// Counts an asset as changed although none of its points was, for state that the caller keeps with it.
    pub fn touch(&mut self, partition: usize, asset_id: &str) {
        let lane = &mut self.lanes[partition];
        let place = lane.asset(asset_id);
        lane.touch(place, lane.place());
    }

    /// Takes in what [`Validator::save`] wrote; false when the bytes are something else. Comes before all readings.
    pub fn restore(&mut self, partition: usize, asset_id: &str, bytes: &[u8]) -> bool {
        let mut reader = Reader(bytes);
        let Some(points) = read_asset(&mut reader) else { return false };
        if !reader.0.is_empty() {
            return false;
        }
        let (through, points) = points;
        for (parameter, saved) in points {
            let Some(id) = self.make_point(partition, asset_id, parameter) else { continue };
            let lane = &mut self.lanes[partition];
            let interval = if let Some(point) = lane.table.get_mut(id) {
                let (profile, asset) = (point.profile, point.asset);
                *point = Point { profile, asset, ..saved };
                self.plan.checks(profile).expected_interval
            } else {
                None
            };
            if let Some(interval) = interval {
                lane.watch_silence(id, interval);
            }
        }
        let lane = &mut self.lanes[partition];
        let asset = lane.asset(asset_id);
        lane.assets[asset as usize].through = through;
        lane.restored_through = lane.restored_through.max(through);
        true
    }

    /// Begins a lane at the place where its readings are read again.
    pub fn begin_at(&mut self, partition: usize, place: LaneTime) {
        let lane = &mut self.lanes[partition];
        (lane.next, lane.now, lane.shift) = (place.offset, place.now, place.shift);
    }

    /// From where a restart must read, once everything saved so far is safe.
    pub fn replay_from(&self, partition: usize) -> LaneTime {
        self.lanes[partition].replay_from()
    }

    /// True for a reading that the restored state of its asset holds already.
    pub fn is_past(&self, partition: usize, asset_id: &str, offset: i64) -> bool {
        self.lanes[partition].is_past(asset_id, offset)
    }

    /// Assets whose state is not saved, over all lanes.
    pub fn unsaved_assets(&self) -> usize {
        self.lanes.iter().map(|lane| lane.dirty.len()).sum()
    }
}

fn quality(quality: Quality) -> i64 {
    match quality {
        Quality::Good => 0,
        Quality::Suspect => 1,
        Quality::Uncertain => 2,
        Quality::Bad => 3,
    }
}

fn read_quality(reader: &mut Reader<'_>) -> Option<Quality> {
    Some(match reader.int()? {
        0 => Quality::Good,
        1 => Quality::Suspect,
        2 => Quality::Uncertain,
        3 => Quality::Bad,
        _ => return None,
    })
}

fn write_point(writer: &mut Writer<'_>, point: &Point) {
    for time in [point.newest, point.arrival, point.since, point.last_good, i64::from(point.seen_s)] {
        writer.int(time);
    }
    writer.optional(point.has_number.then_some(point.last_value), Writer::float);
    writer.optional(point.class, |writer, class| writer.int(quality(class)));
    writer.flag(point.stale);
    point.memory.write(writer);
    writer.optional(point.extras.as_deref(), write_extras);
}

fn write_extras(writer: &mut Writer<'_>, extras: &Extras) {
    writer.count(extras.recent.values().len());
    extras.recent.values().iter().for_each(|value| writer.float(*value));
    writer.optional(extras.rest, |writer, rest| {
        writer.float(rest.value);
        writer.int(rest.since);
    });
    writer.optional(extras.operand.as_ref(), |writer, operand| {
        match &operand.value {
            Held::Number(number) => {
                writer.int(0);
                writer.float(*number);
            }
            Held::Truth(truth) => {
                writer.int(1);
                writer.flag(*truth);
            }
            Held::Text(text) => {
                writer.int(2);
                writer.text(text);
            }
        }
        writer.int(operand.time);
        writer.flag(operand.lost);
    });
    writer.optional(extras.share, |writer, share| {
        writer.int(share.began);
        writer.int(i64::from(share.readings));
        writer.int(i64::from(share.rejected));
    });
    writer.optional(extras.rejected, |writer, level| level.write(writer));
}

type Asset<'b> = (i64, Vec<(&'b str, Point)>);

fn read_asset<'b>(reader: &mut Reader<'b>) -> Option<Asset<'b>> {
    if reader.int()? != VERSION {
        return None;
    }
    let through = reader.int()?;
    let count = reader.count()?;
    let mut points = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        points.push((reader.text()?, read_point(reader)?));
    }
    Some((through, points))
}

fn read_point(reader: &mut Reader<'_>) -> Option<Point> {
    let mut point = Point::new(0, 0);
    point.newest = reader.int()?;
    point.arrival = reader.int()?;
    point.since = reader.int()?;
    point.last_good = reader.int()?;
    point.seen_s = u32::try_from(reader.int()?).ok()?;
    let number = reader.optional(Reader::float)?;
    (point.has_number, point.last_value) = (number.is_some(), number.unwrap_or_default());
    point.class = reader.optional(read_quality)?;
    point.stale = reader.flag()?;
    point.memory = duplicate::Memory::read(reader)?;
    point.extras = reader.optional(read_extras)?.map(Box::new);
    Some(point)
}

fn read_extras(reader: &mut Reader<'_>) -> Option<Extras> {
    let mut extras = Extras::default();
    for _ in 0..reader.count()? {
        extras.recent.push(reader.float()?);
    }
    extras.rest = reader.optional(|reader| Some(Rest { value: reader.float()?, since: reader.int()? }))?;
    extras.operand = reader.optional(|reader| {
        let value = match reader.int()? {
            0 => Held::Number(reader.float()?),
            1 => Held::Truth(reader.flag()?),
            2 => Held::Text(reader.text()?.into()),
            _ => return None,
        };
        Some(Operand { value, time: reader.int()?, lost: reader.flag()? })
    })?;
    extras.share = reader.optional(|reader| {
        let began = reader.int()?;
        let (readings, rejected) = (u32::try_from(reader.int()?).ok()?, u32::try_from(reader.int()?).ok()?);
        Some(Share { began, readings, rejected })
    })?;
    extras.rejected = reader.optional(rate::Candidate::read)?;
    Some(extras)
}
