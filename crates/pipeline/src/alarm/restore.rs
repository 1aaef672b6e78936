//! What was saved, taken back, and what becomes of it under changed rules (ALM-10).
//!
//! Restoring and replaying what came after the save gives exactly the run that was never stopped. Bytes are checked whole
//! before anything is taken over; no bytes make this panic (G-08).

use std::fmt;

use model::text::take_zigzag;
use model::{AlarmKind, Quality, Severity, SuppressionKind, Timestamp};

use super::command::{COMMANDS_REMEMBERED_MAX, CommandResult, REASONS, Remembered};
use super::first_out::Member;
use super::flood::{Area, DAYS, Day, Days, WINDOW_LENGTH_MAX};
use super::lane::{Hub, Lane, Out, alarm_id};
use super::memory::{
    Acked, Alarm, Cause, Held, Kept, NEVER, OCCURRENCES_MAX, Past, Pending, Point, Shelf, Times, source_of,
};
use super::record::{Parts, Telling, Why, tell};
use super::save::VERSION;
use super::state::{self, Flags, Step};
use super::timers::{Deadline, What};
use super::{Now, Transition};

/// No counter gets here in the life of a gateway; a larger one is damage.
const COUNTER_MAX: i64 = 1 << 53;

/// Why saved bytes cannot be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// Saved by another version of this program.
    Version(u8),
    /// Torn or wrong at this field.
    Field(&'static str),
    /// Something happened to the asset already.
    InUse,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "saved alarms have version {version}, this build reads {VERSION}"),
            Self::Field(field) => write!(f, "saved alarms are damaged at {field}"),
            Self::InUse => write!(f, "the asset's alarms are in use already"),
        }
    }
}

impl std::error::Error for Damaged {}

/// A restored alarm whose rule is gone.
#[derive(Debug)]
pub(super) struct Gone {
    asset: String,
    /// The parameter, or what stands behind a mark.
    name: String,
    saved: SavedAlarm,
}

#[derive(Debug)]
struct SavedAlarm {
    id: String,
    kind: AlarmKind,
    severity: Severity,
    limit: Option<f64>,
    rank: Option<(i32, i64)>,
    alarm: Alarm,
}

#[derive(Debug)]
struct SavedAsset {
    order: i64,
    commands: Remembered,
    points: Vec<(Point, Vec<SavedAlarm>)>,
}

/// A cursor; every question names the field for the error.
struct Reader<'a>(&'a [u8], u8);

/// The oldest bytes that are understood.
const VERSION_MIN: u8 = 1;

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Damaged> {
        match bytes.split_first() {
            Some((version @ VERSION_MIN..=VERSION, rest)) => Ok(Self(rest, *version)),
            Some((version, _)) => Err(Damaged::Version(*version)),
            None => Err(Damaged::Field("version")),
        }
    }

    fn number(&mut self, field: &'static str) -> Result<i64, Damaged> {
        take_zigzag(&mut self.0).ok_or(Damaged::Field(field))
    }

    /// A number that is only ever counted up, so that counting on cannot overflow.
    fn counter(&mut self, field: &'static str) -> Result<i64, Damaged> {
        let number = self.number(field)?;
        if (0..=COUNTER_MAX).contains(&number) { Ok(number) } else { Err(Damaged::Field(field)) }
    }

    fn byte(&mut self, field: &'static str) -> Result<u8, Damaged> {
        let (byte, rest) = self.0.split_first().ok_or(Damaged::Field(field))?;
        self.0 = rest;
        Ok(*byte)
    }

    fn truth(&mut self, field: &'static str) -> Result<bool, Damaged> {
        Ok(self.bits(field, 1)?[0])
    }

    fn bits(&mut self, field: &'static str, count: u32) -> Result<[bool; 8], Damaged> {
        let byte = self.byte(field)?;
        if u32::from(byte) >> count != 0 {
            return Err(Damaged::Field(field));
        }
        Ok(std::array::from_fn(|bit| byte >> bit & 1 == 1))
    }

    /// One of a list, by its number.
    fn choice<T: Copy>(&mut self, field: &'static str, all: &[T]) -> Result<T, Damaged> {
        let number = self.byte(field)?;
        all.get(usize::from(number)).copied().ok_or(Damaged::Field(field))
    }

    fn optional(&mut self, field: &'static str) -> Result<Option<i64>, Damaged> {
        if self.truth(field)? { self.number(field).map(Some) } else { Ok(None) }
    }

    fn time(&mut self, field: &'static str) -> Result<Timestamp, Damaged> {
        self.number(field).map(Timestamp::from_micros)
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, Damaged> {
        let length = usize::try_from(self.number(field)?).map_err(|_| Damaged::Field(field))?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Damaged::Field(field))?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| Damaged::Field(field))
    }

    /// How many things follow; each takes at least a byte.
    fn count(&mut self, field: &'static str, max: usize) -> Result<usize, Damaged> {
        let count = usize::try_from(self.number(field)?).map_err(|_| Damaged::Field(field))?;
        if count > max.min(self.0.len()) { Err(Damaged::Field(field)) } else { Ok(count) }
    }

    fn held(&mut self, field: &'static str) -> Result<Held, Damaged> {
        Ok(match self.byte(field)? {
            0 => Held::Null,
            1 => {
                let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or(Damaged::Field(field))?;
                self.0 = rest;
                let number = f64::from_le_bytes(*bytes);
                if !number.is_finite() {
                    return Err(Damaged::Field(field));
                }
                Held::Float(number)
            }
            2 => Held::Int(self.number(field)?),
            3 => Held::Bool(false),
            4 => Held::Bool(true),
            5 => Held::Text(self.text(field)?.into()),
            _ => return Err(Damaged::Field(field)),
        })
    }

    fn deadline(&mut self, field: &'static str) -> Result<Option<Deadline>, Damaged> {
        if !self.truth(field)? {
            return Ok(None);
        }
        Ok(Some(Deadline { at: self.number(field)?, device_time: self.number(field)?, order: self.number(field)? }))
    }

    fn times(&mut self) -> Result<Times, Damaged> {
        let activated = self.optional("activated")?.map(Timestamp::from_micros);
        let cleared = self.optional("cleared")?.map(Timestamp::from_micros);
        let acked = if self.truth("acked")? {
            Some(Acked {
                by: self.text("acked_by")?.into(),
                issued: self.time("acked_at")?,
                applied: self.time("acked_at")?,
            })
        } else {
            None
        };
        Ok(Times { activated, cleared, acked })
    }

    fn point(&mut self) -> Result<Point, Damaged> {
        let mut point = Point::new(0, self.text("point")?);
        point.judged = self.number("judged")?;
        point.value = self.held("value")?;
        point.value_time = self.number("value_time")?;
        point.rejected = self.held("rejected")?;
        point.unit = match self.held("unit")? {
            Held::Text(unit) => Some(unit),
            _ => None,
        };
        point.quality = self.choice("quality", &[Quality::Good, Quality::Suspect, Quality::Uncertain, Quality::Bad])?;
        point.unknown = self.truth("unknown")?;
        Ok(point)
    }

    fn alarm(&mut self) -> Result<SavedAlarm, Damaged> {
        let id = self.text("id")?.to_owned();
        let kind = self.choice("kind", AlarmKind::ALL)?;
        let severity = self.choice("severity", Severity::ALL)?;
        let limit = match self.held("limit")? {
            Held::Float(limit) => Some(limit),
            _ => None,
        };
        let rank = self.optional("rank")?;
        let rank = rank.map(|rank| i16::try_from(rank).map_err(|_| Damaged::Field("rank"))).transpose()?;
        let episode = self.counter("episode")?;
        let mut alarm = Alarm::new(0, 0, true);
        let [condition_active, acked, latched, shelved, by_design, subsumed, out_of_service, enabled] =
            self.bits("flags", 8)?;
        alarm.flags = Flags {
            condition_active,
            acked,
            latched,
            shelved,
            by_design,
            subsumed,
            out_of_service,
            enabled,
            by_source: None,
        };
        let [held, by_hard_limit, ..] = self.bits("held", 2)?;
        (alarm.held, alarm.by_hard_limit) = (held, by_hard_limit);
        alarm.seq = self.counter("seq")?;
        alarm.occurrence = self.counter("occurrence")?;
        alarm.times = self.times()?;
        for _ in 0..self.count("past", OCCURRENCES_MAX)? {
            let (number, acked) = (self.number("past")?, self.truth("past")?);
            alarm.past.push_back(Past { number, acked, times: self.times()? });
        }
        if let Some(deadline) = self.deadline("pending")? {
            let on = self.truth("pending")?;
            let causes = [Cause::Detected, Cause::Returned, Cause::Restart, Cause::Config];
            alarm.pending = Some(Pending { deadline, on, cause: self.choice("pending", &causes)? });
        }
        if let Some(deadline) = self.deadline("shelf")? {
            alarm.shelf = Some(Shelf { deadline, until: self.time("shelf")?, one_shot: self.truth("shelf")? });
        }
        alarm.release = self.deadline("release")?;
        alarm.remind = self.deadline("remind")?;
        for recent in &mut alarm.recent {
            *recent = self.number("recent")?;
        }
        alarm.standing_since = self.number("standing_since")?;
        alarm.out_of_service_since = self.number("out_of_service_since")?;
        let mut days = Days::default();
        for _ in 0..self.count("days", DAYS)? {
            days.days.push_back((self.number("days")?, self.counter("days")?));
        }
        alarm.days = (!days.days.is_empty()).then(|| Box::new(days));
        if self.1 > VERSION_MIN {
            alarm.flags.by_source = match self.byte("by_source")? {
                0 => None,
                kind => {
                    let kind = SuppressionKind::ALL.get(usize::from(kind - 1));
                    Some(*kind.ok_or(Damaged::Field("by_source"))?)
                }
            };
            if self.truth("kept")? {
                let origin = self.text("kept")?.into();
                alarm.kept = Some(Box::new(Kept { origin, severity: self.choice("kept", Severity::ALL)? }));
            }
        }
        Ok(SavedAlarm { id, kind, severity, limit, rank: rank.map(|rank| (i32::from(rank), episode)), alarm })
    }

    fn asset(mut self) -> Result<SavedAsset, Damaged> {
        let (_saved_at, order) = (self.number("steady")?, self.counter("order")?);
        let mut commands = Remembered::default();
        for sequence in &mut commands.sequences {
            *sequence = self.optional("sequence")?;
        }
        for _ in 0..self.count("answers", COMMANDS_REMEMBERED_MAX)? {
            let id = self.text("answers")?.into();
            let result = match self.number("answers")? {
                0 => CommandResult::Applied,
                1 => CommandResult::Already,
                2 => CommandResult::StaleOccurrence,
                3 => CommandResult::Expired,
                number => {
                    let at = usize::try_from(number.saturating_sub(4)).map_err(|_| Damaged::Field("answers"))?;
                    CommandResult::Rejected(REASONS.get(at).ok_or(Damaged::Field("answers"))?)
                }
            };
            commands.answers.push_back((id, result));
        }
        let mut points = Vec::new();
        for _ in 0..self.count("points", usize::MAX)? {
            let point = self.point()?;
            let count = self.count("alarms", usize::MAX)?;
            let alarms = (0..count).map(|_| self.alarm()).collect::<Result<_, _>>()?;
            points.push((point, alarms));
        }
        if self.0.is_empty() { Ok(SavedAsset { order, commands, points }) } else { Err(Damaged::Field("end")) }
    }
}

pub(super) fn restore(lane: &mut Lane, hub: &mut Hub, asset: &str, bytes: &[u8]) -> Result<(), Damaged> {
    let saved = Reader::new(bytes)?.asset()?;
    let in_use = lane.asset(asset).is_some_and(|number| {
        let points = lane.assets[number as usize].points.iter().map(|point| &lane.points[*point as usize]);
        points.clone().any(|point| point.judged != NEVER)
            || points.flat_map(|point| &point.alarms).any(|n| !lane.alarms[*n as usize].is_untouched())
    });
    if in_use {
        return Err(Damaged::InUse);
    }
    lane.timers.order = lane.timers.order.max(saved.order);
    let number = lane.asset_or_new(asset);
    lane.assets[number as usize].commands = saved.commands;
    for (point, alarms) in saved.points {
        let name = point.name.clone();
        let found = lane.watch(hub, asset, &name);
        if let Some(p) = found {
            let place = &mut lane.points[p as usize];
            let (alarms, dependents) = (std::mem::take(&mut place.alarms), std::mem::take(&mut place.dependents));
            *place = Point { asset: number, alarms, dependents, ..point };
        }
        for saved in alarms {
            let of_point = found.map(|p| lane.points[p as usize].alarms.as_slice()).unwrap_or_default();
            let same = |n: &&u32| hub.plan.rule(lane.alarms[**n as usize].rule).settings.id == saved.id;
            match of_point.iter().find(same).copied() {
                Some(n) => restore_alarm(lane, hub, n, saved),
                None => lane.gone.push(Gone { asset: asset.to_owned(), name: name.to_string(), saved }),
            }
        }
    }
    Ok(())
}

fn restore_alarm(lane: &mut Lane, hub: &mut Hub, n: u32, saved: SavedAlarm) {
    let SavedAlarm { alarm: saved, limit, rank, .. } = saved;
    let place = &mut lane.alarms[n as usize];
    let rule = hub.plan.rule(place.rule);
    let rule_changed = rule.settings.detect.limit() != limit;
    let deadlines = [
        (saved.pending.map(|pending| pending.deadline), What::Delay),
        (saved.shelf.map(|shelf| shelf.deadline), What::ShelfEnd),
        (saved.release, What::Release),
        (saved.remind, What::Remind),
    ];
    for (deadline, what) in deadlines {
        if let Some(deadline) = deadline {
            lane.timers.restore(deadline, n, what);
        }
    }
    if let (Some(group), Some(rank)) = (rule.group, rank) {
        let standing = saved.flags.is_standing() && saved.flags.suppression().is_none();
        hub.groups.restore(group, Member { lane: lane.number, alarm: n }, rank, standing);
    }
    let Alarm { rule, point, setpoint, design, .. } = *place;
    *place = Alarm { rule, point, setpoint, design, restored: true, rule_changed, ..saved };
}

pub(super) fn reconcile(lane: &mut Lane, hub: &mut Hub, now: Now, out: Out<'_>) {
    let now = Now { steady: now.steady.max(lane.steady), ..now };
    lane.steady = now.steady;
    hub.groups.reconcile();
    for gone in std::mem::take(&mut lane.gone) {
        let number = lane.asset_or_new(&gone.asset);
        lane.mark_asset_changed(number);
        retire(lane.number, hub, gone, now, out);
    }
    for n in 0..u32::try_from(lane.alarms.len()).unwrap_or(u32::MAX) {
        let alarm = &lane.alarms[n as usize];
        let settings = &hub.plan.rule(alarm.rule).settings;
        let (enabled, designed) = (settings.enabled, settings.suppress_when.is_some());
        if alarm.flags.enabled != enabled {
            lane.apply(hub, n, Step::Enable(enabled), Why::cause("config"), now, out);
        }
        if lane.alarms[n as usize].flags.by_design && !designed {
            lane.stop_release(n);
            lane.apply(hub, n, Step::ByDesign(false), Why::cause("config"), now, out);
        }
    }
    lane.touch_all();
    lane.settle(hub, now, out);
}

/// The last record of an alarm whose rule is gone.
fn retire(lane: usize, hub: &mut Hub, gone: Gone, now: Now, out: Out<'_>) {
    let SavedAlarm { id, kind, severity, mut alarm, .. } = gone.saved;
    let from = alarm.flags.state();
    let Some(outcome) = state::next(alarm.flags, Step::Retire) else { return };
    alarm.flags = outcome.flags;
    alarm.shelf = None;
    alarm.held = false;
    alarm.times.cleared.get_or_insert(now.wall);
    alarm.seq += 1;
    hub.counts.transitions += 1;
    let source = source_of(&gone.name);
    let parts = Parts {
        gateway_id: &hub.gateway_id,
        asset: &gone.asset,
        alarm_id: &alarm_id(&id, source),
        kind,
        severity,
        rule: None,
        parameter: if source.is_some() { None } else { Some(&gone.name) },
        point: None,
        alarm: &alarm,
        rank: None,
    };
    let telling = Telling { from, why: Why::cause("config"), past: None, announce: false, fleeting: false };
    tell(&parts, &telling, now, &mut |alarm| out(&Transition { lane, alarm: *alarm, annunciate: false }));
}

pub(super) fn restore_areas(hub: &mut Hub, bytes: &[u8]) -> Result<(), Damaged> {
    let mut reader = Reader::new(bytes)?;
    let mut areas = Vec::new();
    for _ in 0..reader.count("areas", usize::MAX)? {
        let name = reader.text("area")?.to_owned();
        let mut area = Area::default();
        for _ in 0..reader.count("window", WINDOW_LENGTH_MAX)? {
            area.window.push_back(reader.number("window")?);
        }
        area.flood_since = reader.optional("flood")?;
        area.begun = reader.optional("begun")?;
        for _ in 0..reader.count("days", DAYS)? {
            let number = reader.number("day")?;
            let mut counts = [0; 8];
            for count in &mut counts {
                *count = reader.counter("day")?;
            }
            let [a, b, c, d, flood_micros, floods, peak, fleeting] = counts;
            area.days.days.push_back((number, Day { by_severity: [a, b, c, d], flood_micros, floods, peak, fleeting }));
        }
        areas.push((name, area));
    }
    if !reader.0.is_empty() {
        return Err(Damaged::Field("end"));
    }
    for (name, area) in areas {
        // an area nobody names any more is forgotten
        if let Some(at) = hub.plan.areas.iter().position(|known| *known == name) {
            hub.areas[at] = area;
        }
    }
    Ok(())
}
