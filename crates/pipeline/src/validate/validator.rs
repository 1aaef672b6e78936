//! The validator: the chain of checks over the points of a gateway, one lane of points per input partition.
//!
//! What is remembered is bounded in points; a point without memory is still checked for everything that needs none. State
//! is saved by asset and restored before the readings behind it are judged again, see [`super::save`]; time is the lane's
//! own, see [`super::lane`].

use std::collections::HashMap;

use config::expr::Scalar;
use config::rules::Validation;
use model::{Quality, Reading, Value, flag, time_source};

use super::chain::{self, Around, Arrival};
use super::judgement::{Judgement, Verdict};
use super::lane::{Lane, LaneTime, Stale};
use super::plan::{Further, Plan};
use super::point::Point;
use super::rules::{share, skew};

/// Points with a memory, over all partitions; one more is judged without history and counted (VAL-22).
pub const POINTS_MAX: usize = 200_000;
/// A point silent for longer is forgotten, in seconds (VAL-22).
const IDLE_MAX_S: i32 = 24 * 3600;
/// How often idle points are looked for, in microseconds of the readings' own time; sooner when the table is full.
const SWEEP_EVERY: i64 = 3600 * 1_000_000;
const SWEEP_WHEN_FULL_EVERY: i64 = 60 * 1_000_000;
/// Sources whose clocks are watched; one more is not.
const SOURCES_MAX: usize = 10_000;
/// Beyond this a clock is looked at, in microseconds; below the alert's own limits, so that it sees a clock come back.
const SKEW_SEEN: i64 = 5_000_000;

/// Judges readings. The same readings in the same order give the same judgements.
#[derive(Debug)]
pub struct Validator {
    pub(super) plan: Plan,
    pub(super) lanes: Vec<Lane>,
    pub(super) points: usize,
    points_max: usize,
    /// Clocks that differ, or did, by the name of the source.
    sources: HashMap<Box<str>, skew::Skew, foldhash::fast::RandomState>,
}

impl Validator {
    /// `partitions` lanes, together at most `points_max` points.
    pub fn new(settings: &Validation, partitions: usize, points_max: usize) -> Self {
        let lanes = std::iter::repeat_with(Lane::default).take(partitions).collect();
        Self { plan: Plan::new(settings), lanes, points: 0, points_max, sources: HashMap::default() }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Points with a memory.
    pub fn points(&self) -> usize {
        self.points
    }

    /// Two numbers the caller keeps with a point, 0 at first.
    pub fn handle_mut(&mut self, partition: usize, point: u32) -> Option<&mut [u32; 2]> {
        self.lanes.get_mut(partition)?.table.get_mut(point).map(|point| &mut point.handles)
    }

    /// The unit a point is expected in, into which readings in other units are converted.
    pub fn unit_of(&self, partition: usize, point: u32) -> Option<&str> {
        let profile = self.lanes.get(partition)?.table.get(point)?.profile;
        Some(self.plan.checks(profile).further.as_ref()?.unit.as_ref()?.text())
    }

    /// The configured rule behind a code that a reading of this point was marked with; `None` for checks always on.
    pub fn rule_behind(&self, partition: usize, point: u32, code: &str) -> Option<&config::rules::Rule> {
        let profile = self.lanes.get(partition)?.table.get(point)?.profile;
        self.plan.rule(self.plan.checks(profile).rule_of(code)?)
    }

    /// The lane's steady time in microseconds; `i64::MIN` before its first reading.
    pub fn now(&self, partition: usize) -> i64 {
        self.lanes[partition].now
    }

    /// Steady time is the gateway's time less this, in microseconds.
    pub fn shift(&self, partition: usize) -> i64 {
        self.lanes[partition].shift
    }

    /// Judges the next reading of `partition`, wherever it stands there.
    pub fn judge(&mut self, partition: usize, reading: &Reading<'_>) -> Judgement {
        let offset = self.lanes[partition].next;
        let mut judgement = Judgement::new(reading);
        self.judge_at(partition, offset, reading, &mut judgement);
        judgement
    }

    /// Judges the reading at `offset` of `partition` and overwrites `judgement`.
    ///
    /// Written in place: copying a judgement that was written just now waits for all of the point's memory to arrive in
    /// the cache, which took half of the time of a reading.
    pub fn judge_at(&mut self, partition: usize, offset: i64, reading: &Reading<'_>, judgement: &mut Judgement) {
        *judgement = Judgement::new(reading);
        let lane = &mut self.lanes[partition];
        let before = LaneTime { offset, now: lane.now, shift: lane.shift };
        let stepped = lane.arrive(reading);
        lane.next = offset.saturating_add(1);
        if lane.is_past(reading.asset_id, offset) {
            judgement.verdict = Verdict::Past;
            return;
        }
        let arrival = Arrival {
            now: lane.now,
            shift: lane.shift,
            stepped,
            unknown_points: self.plan.unknown_points(),
            is_operand: false,
        };
        let Some(id) = self.point(partition, reading) else {
            self.judge_without_memory(reading, arrival, judgement);
            return;
        };
        let Self { plan, lanes, .. } = self;
        let lane = &mut lanes[partition];
        let profile = lane.table.get(id).map_or(0, |point| point.profile);
        let checks = plan.checks(profile);
        let around = match &checks.further {
            Some(further) => look_around(further, lane, reading),
            None => Around::default(),
        };
        let arrival = Arrival { is_operand: plan.is_operand(reading.parameter), ..arrival };
        let point = lane.table.get_mut(id).expect("the id was found just now");
        let newest_before = point.newest;
        chain::judge(checks, point, reading, around, arrival, judgement);
        judgement.point = Some(id);
        point.seen_s = seconds(arrival.now);
        if judgement.verdict != Verdict::Duplicate {
            judgement.change = point.classify(judgement.quality, judgement.device_time, newest_before);
            judgement.trouble = count(point, judgement.quality == Quality::Bad, arrival.now);
        }
        if !point.dirty {
            point.dirty = true;
            let asset = point.asset;
            lane.touch(asset, before);
        }
        if let Some(interval) = checks.expected_interval {
            lane.watch_silence(id, interval);
        }
        judgement.skew = self.clock_of(reading);
    }

    /// True when silences are to be looked at before `reading` is judged: then [`Validator::advance`] to its
    /// [`Validator::arrival`] comes first, so that what is told does not depend on how readings are batched.
    #[inline]
    pub fn is_due(&self, partition: usize, reading: &Reading<'_>) -> bool {
        self.lanes[partition].is_due(reading)
    }

    /// The steady time of a reading's arrival.
    pub fn arrival(&self, partition: usize, reading: &Reading<'_>) -> i64 {
        let lane = &self.lanes[partition];
        lane.now.max(reading.gateway_time.as_micros().saturating_sub(lane.shift))
    }

    /// Moves a lane's steady time on and tells which points have been silent too long.
    pub fn advance(&mut self, partition: usize, now: i64, out: &mut dyn FnMut(&Stale<'_>)) {
        self.lanes[partition].advance(&self.plan, now, out);
    }

    /// Nothing has come until `now`: tells which points have been silent too long. The next reading comes at its own
    /// time all the same, however late it is, unless the caller says that something was told: [`Validator::reach`].
    pub fn pause(&mut self, partition: usize, now: i64, out: &mut dyn FnMut(&Stale<'_>)) {
        self.lanes[partition].pause(&self.plan, now, out);
    }

    /// Something was told at `now`: nothing that comes is earlier.
    pub fn reach(&mut self, partition: usize, now: i64) {
        self.lanes[partition].reach(now);
    }

    /// The steady time of a lane with the pause since its last reading.
    pub fn moment(&self, partition: usize) -> i64 {
        self.lanes[partition].moment()
    }

    /// Where a lane is.
    pub fn place(&self, partition: usize) -> LaneTime {
        self.lanes[partition].place()
    }

    /// Offset of the next reading of a lane.
    pub fn next(&self, partition: usize) -> i64 {
        self.lanes[partition].next
    }

    /// Finds or makes the point; `None` when there is no room.
    #[inline]
    fn point(&mut self, partition: usize, reading: &Reading<'_>) -> Option<u32> {
        let lane = &mut self.lanes[partition];
        let every = if self.points >= self.points_max { SWEEP_WHEN_FULL_EVERY } else { SWEEP_EVERY };
        let now = lane.now;
        if now.saturating_sub(lane.swept) > every {
            lane.swept = now;
            self.points -= lane.retain(|point| seconds(now).wrapping_sub(point.seen_s).cast_signed() <= IDLE_MAX_S);
        }
        if let Some(id) = lane.table.find_next(reading.asset_id, reading.parameter) {
            return Some(id);
        }
        self.make_point(partition, reading.asset_id, reading.parameter)
    }

    pub(super) fn make_point(&mut self, partition: usize, asset_id: &str, parameter: &str) -> Option<u32> {
        if self.points >= self.points_max {
            return None;
        }
        self.points += 1;
        let profile = self.plan.profile(asset_id, parameter);
        let lane = &mut self.lanes[partition];
        let asset = lane.asset(asset_id);
        let id = lane.table.find_or_insert_with(asset_id, parameter, || Point::new(profile, asset));
        lane.assets[asset as usize].points.push(id);
        Some(id)
    }

    /// The checks that need no history.
    fn judge_without_memory(&mut self, reading: &Reading<'_>, arrival: Arrival, judgement: &mut Judgement) {
        let profile = self.plan.profile(reading.asset_id, reading.parameter);
        let mut point = Point::new(profile, 0);
        chain::judge(self.plan.checks(profile), &mut point, reading, Around::default(), arrival, judgement);
    }

    /// Watches the clock of a source that stamps its readings itself.
    fn clock_of(&mut self, reading: &Reading<'_>) -> Option<skew::Told> {
        let skew = reading.gateway_time.micros_since(reading.device_time);
        let agrees = skew.saturating_abs() < SKEW_SEEN;
        if agrees && self.sources.is_empty() || !stamps_itself(reading) {
            return None;
        }
        let source = reading.metadata.get("adapter_id").unwrap_or("");
        if let Some(state) = self.sources.get_mut(source) {
            let told = state.take(skew, reading.gateway_time.as_micros());
            if agrees {
                self.sources.remove(source);
            }
            return told;
        }
        if agrees || self.sources.len() >= SOURCES_MAX {
            return None;
        }
        self.sources.entry(source.into()).or_default().take(skew, reading.gateway_time.as_micros())
    }

    /// Sources whose alert is raised.
    pub fn skewed_sources(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter(|(_, skew)| skew.is_raised()).map(|(name, _)| name.as_ref())
    }

    /// Takes in that the alert of a source was raised before this run began.
    pub fn restore_skew(&mut self, source: &str) {
        if self.sources.len() < SOURCES_MAX {
            self.sources.insert(source.into(), skew::Skew::restored(true));
        }
    }
}

/// Steady time in whole seconds; wraps after 136 years.
fn seconds(micros: i64) -> u32 {
    u32::try_from(micros.div_euclid(1_000_000).rem_euclid(1 << 32)).unwrap_or(0)
}

/// True for a live reading with a stamp of the device's own; one that was stored on the way is no wrong clock.
fn stamps_itself(reading: &Reading<'_>) -> bool {
    let device = [time_source::DEVICE, time_source::SERVER, time_source::NETWORK].contains(&reading.time_source);
    let stored = [flag::LATE, flag::HISTORICAL, flag::BACKFILL, flag::RETAINED, flag::INITIAL];
    device
        && reading.clock_state != "UNSYNCED"
        && reading.quality != Quality::Bad
        && !stored.iter().any(|flag| reading.flags.contains(flag))
}

/// Evaluates what the rarer checks ask of the asset's other points.
fn look_around(further: &Further, lane: &Lane, reading: &Reading<'_>) -> Around {
    let mut around = Around::default();
    let time = reading.device_time.as_micros();
    let held = |name: &str, max_age: i64| {
        let id = lane.table.find(reading.asset_id, name)?;
        lane.table.get(id)?.extras.as_ref()?.operand.as_ref()?.at(time, max_age)
    };
    for (at, (_, gate)) in further.gates.iter().enumerate() {
        // a state rests until it changes, so it may be of any age
        if gate.holds(&mut |name| held(name, i64::MAX)) == Some(false) {
            around.off |= 1 << at;
        }
    }
    if let Some(condition) = &further.condition {
        let gate = further.gates.iter().position(|(rule, _)| *rule == condition.rule);
        let own = own_value(reading);
        let mut operand = |name: &str| if name == reading.parameter { own } else { held(name, condition.max_age()) };
        if gate.is_none_or(|at| around.off >> at & 1 == 0) {
            around.broken = condition.check(&mut operand);
        }
    }
    around
}

fn own_value<'r>(reading: &Reading<'r>) -> Option<Scalar<'r>> {
    Some(match reading.value {
        Value::Null => return None,
        Value::Bool(truth) => Scalar::Truth(truth),
        Value::Text(text) => Scalar::Text(text),
        number => Scalar::Number(number.as_number()?),
    })
}

/// Counts what is rejected of a point; begins with its first rejection.
fn count(point: &mut Point, rejected: bool, now: i64) -> Option<share::Trouble> {
    let counting = point.extras.as_mut().and_then(|extras| extras.share.as_mut());
    match counting {
        None if rejected => {
            point.extras.get_or_insert_default().share = Some(share::Share::begin(now));
            None
        }
        None => None,
        Some(share) => {
            let (trouble, go_on) = share.take(rejected, now);
            if !go_on && let Some(extras) = &mut point.extras {
                extras.share = None;
            }
            trouble
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::Rejection;
    use config::rules::{Limits, RateLimits, Rule};
    use model::{TextList, Timestamp, reason};

    const T0: i64 = 1_769_680_800_000_000;

    fn reading(value: Value<'_>, second: i64) -> Reading<'_> {
        let time = Timestamp::from_micros(T0 + second * 1_000_000);
        Reading {
            asset_id: "pump_07",
            asset_path: None,
            parameter: "temperature",
            value,
            value_type: model::ValueType::Float,
            value_label: None,
            unit: None,
            quality: Quality::Good,
            quality_reason: None,
            reasons: TextList::default(),
            classification: model::Classification::Telemetry,
            device_time: time,
            gateway_time: time,
            time_source: time_source::DEVICE,
            clock_state: "SYNCED",
            clock_skew_ms: None,
            epoch: 1,
            seq: second,
            flags: TextList::default(),
            metadata: model::TextMap::default(),
            tags: model::TextMap::default(),
        }
    }

    fn rules() -> Validation {
        Validation {
            rules: vec![Rule {
                id: "r".to_owned(),
                asset: "*".to_owned(),
                parameter: "*".to_owned(),
                range: Some(Limits { hard_hi: Some(100.0), soft_hi: Some(80.0), ..Limits::default() }),
                rate: Some(RateLimits { soft_per_s: None, hard_per_s: Some(5.0) }),
                expected_interval_ms: Some(1000),
                ..Rule::default()
            }],
            ..Validation::default()
        }
    }

    fn float(value: f64, second: i64) -> Reading<'static> {
        reading(Value::Float(value), second)
    }

    #[test]
    fn a_rejected_reading_leaves_the_history_untouched() {
        // AC-067, AC-068
        let mut validator = Validator::new(&rules(), 1, 10);
        assert_eq!(validator.judge(0, &float(10.0, 0)).verdict, Verdict::Forward);
        let rejected = validator.judge(0, &float(101.0, 1));
        let Verdict::Reject(Rejection::Found(finding)) = rejected.verdict else { panic!("{rejected:?}") };
        assert_eq!((finding.code, finding.limit, finding.rule), (reason::RANGE_HARD, Some(100.0), Some(0)));
        assert_eq!(rejected.reason, Some(reason::RANGE_HARD));
        // against 101 this would be a fall of 90 per second; it is compared with 10
        let next = validator.judge(0, &float(11.0, 2));
        assert_eq!((next.verdict, next.quality, next.gap), (Verdict::Forward, Quality::Good, None));
        // and the rejected one may come again with another value: its time was not taken
        assert_eq!(validator.judge(0, &float(9.0, 1)).codes.iter().count(), 0);
    }

    #[test]
    fn told_twice_is_dropped_and_told_differently_is_marked() {
        // AC-069, REC-16
        let mut validator = Validator::new(&rules(), 1, 10);
        validator.judge(0, &float(10.0, 0));
        assert_eq!(validator.judge(0, &float(10.0, 0)).verdict, Verdict::Duplicate);
        let conflict = validator.judge(0, &float(10.5, 0));
        assert_eq!((conflict.verdict, conflict.quality), (Verdict::Forward, Quality::Suspect));
        assert_eq!(conflict.reason, Some(reason::DUP_CONFLICT));
        assert!(conflict.is_changed());
    }

    #[test]
    fn an_unusable_device_time_gives_way_to_the_gateways() {
        // AC-061
        let mut validator = Validator::new(&rules(), 1, 10);
        let stamped =
            |device_time: i64| Reading { device_time: Timestamp::from_micros(device_time), ..float(10.0, 100) };
        let judged = validator.judge(0, &stamped(0));
        assert_eq!((judged.quality, judged.device_time), (Quality::Uncertain, float(0.0, 100).gateway_time));
        assert_eq!(judged.reason, Some(reason::DEVICE_TIME_INVALID));
        let day = 24 * 3600 * 1_000_000;
        let old = validator.judge(0, &Reading { gateway_time: float(0.0, 101).gateway_time, ..stamped(T0 - 20 * day) });
        assert_eq!((old.quality, old.late), (Quality::Good, true));
        assert_eq!(old.device_time.as_micros(), T0 - 20 * day);
    }

    #[test]
    fn the_class_of_a_point_is_told_when_it_changes() {
        // R-02
        let mut validator = Validator::new(&rules(), 1, 10);
        let bad = |second| Reading { quality: Quality::Bad, value: Value::Null, ..float(0.0, second) };
        assert_eq!(validator.judge(0, &float(10.0, 0)).change, None);
        let change = validator.judge(0, &bad(1)).change.unwrap();
        assert_eq!((change.from, change.to), (Some(Quality::Good), Quality::Bad));
        assert_eq!(
            (change.since, change.last_good),
            (Some(float(0.0, 0).device_time), Some(float(0.0, 0).device_time))
        );
        assert_eq!(validator.judge(0, &bad(2)).change, None);
        let back = validator.judge(0, &float(10.0, 3));
        assert_eq!(back.change.map(|change| (change.from, change.to)), Some((Some(Quality::Bad), Quality::Good)));
        assert_eq!(back.gap.map(|gap| gap.expected), Some(3), "BAD markers are no arrivals of values");
        let mut fresh = Validator::new(&rules(), 1, 10);
        assert_eq!(fresh.judge(0, &bad(0)).change.map(|change| change.from), Some(None));
    }

    #[test]
    fn no_check_improves_a_quality() {
        let mut validator = Validator::new(&rules(), 1, 10);
        let came = Reading { quality: Quality::Uncertain, ..float(90.0, 0) };
        let judged = validator.judge(0, &came);
        assert_eq!((judged.quality, judged.reason), (Quality::Uncertain, None));
        assert_eq!(judged.codes.iter().collect::<Vec<_>>(), [reason::RANGE_SOFT]);
    }

    #[test]
    fn what_comes_out_of_order_is_nobodys_predecessor() {
        // VAL-23
        let mut validator = Validator::new(&rules(), 1, 10);
        validator.judge(0, &float(10.0, 10));
        let old = validator.judge(0, &Reading { device_time: float(0.0, 5).device_time, ..float(70.0, 11) });
        assert_eq!((old.verdict, old.quality, old.late), (Verdict::Forward, Quality::Good, false));
        let next = validator.judge(0, &float(11.0, 11));
        assert_eq!((next.verdict, next.quality), (Verdict::Forward, Quality::Good));
    }

    #[test]
    fn a_full_table_still_checks_ranges_and_drops_nothing() {
        // VAL-22, AC-070
        let mut validator = Validator::new(&rules(), 2, 1);
        validator.judge(0, &float(1.0, 0));
        let other = |value, second| Reading { asset_id: "other", ..float(value, second) };
        assert_eq!(validator.judge(1, &other(1.0, 0)).verdict, Verdict::Forward);
        assert_eq!(validator.judge(1, &other(1.0, 0)).verdict, Verdict::Forward);
        assert!(matches!(validator.judge(1, &other(101.0, 1)).verdict, Verdict::Reject(_)));
        assert_eq!(validator.points(), 1);
        // a day later the silent point is forgotten and makes room
        let day = 25 * 3600;
        validator.judge(0, &other(1.0, day));
        assert_eq!(validator.points(), 1);
        assert!(validator.judge(0, &other(1.0, day)).point.is_some());
    }
}
