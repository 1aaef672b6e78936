//! The chain of checks over the points of a gateway, one table of points per input partition.
//!
//! Checks only look; what a point remembers changes at the end and only for accepted readings, so a panic inside a check
//! or a BAD finding leaves the history as it was. What is remembered is bounded in points; a point without memory is
//! still checked for presence, device time and range.

use config::rules::Validation;
use model::{Quality, Reading, Timestamp};

use super::finding::{Codes, Finding};
use super::plan::Plan;
use super::rules::{device_time, duplicate, gap, presence, rate};
use crate::PointTable;

/// Points with a memory, over all partitions; one more is judged without history and counted (VAL-22).
pub const POINTS_MAX: usize = 200_000;
/// A point silent for longer is forgotten, in microseconds (VAL-22).
const IDLE_MAX: i64 = 24 * 3600 * 1_000_000;
/// How often idle points are looked for, in microseconds of the readings' own time; sooner when the table is full.
const SWEEP_EVERY: i64 = 3600 * 1_000_000;
const SWEEP_WHEN_FULL_EVERY: i64 = 60 * 1_000_000;

/// Judges readings. The same readings in the same order give the same judgements.
#[derive(Debug)]
pub struct Validator {
    plan: Plan,
    partitions: Vec<Partition>,
    points: usize,
    points_max: usize,
}

#[derive(Debug, Default)]
struct Partition {
    table: PointTable<Point>,
    swept: i64,
}

/// Times in microseconds, [`NEVER`] where there is none; small, since a million of them must pass through the cache.
#[derive(Debug)]
struct Point {
    /// Newest accepted device time.
    newest: i64,
    /// Newest accepted number and its device time.
    last_value: f64,
    last_time: i64,
    /// Gateway time of the last accepted reading.
    arrival: i64,
    /// Gateway time of the last reading of any quality.
    seen: i64,
    /// Device time since which the class holds.
    since: i64,
    last_good: i64,
    memory: duplicate::Memory,
    rejected: Option<Box<rate::Candidate>>,
    profile: u32,
    handle: u32,
    class: Option<Quality>,
}

const NEVER: i64 = i64::MIN;

fn time(micros: i64) -> Option<Timestamp> {
    (micros != NEVER).then(|| Timestamp::from_micros(micros))
}

/// What happens to a reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Goes on; see [`Judgement::is_changed`].
    Forward,
    /// Was told before: dropped and counted.
    Duplicate,
    /// Goes to the dead letters.
    Reject(Rejection),
}

/// Why a reading is rejected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rejection {
    /// It came as BAD; the reason is its own.
    Source,
    Found(Finding),
}

/// A point changed its quality class (R-02).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// `None` for the first reading of a point, when it is not GOOD.
    pub from: Option<Quality>,
    pub to: Quality,
    /// Since when `from` held, by device time.
    pub since: Option<Timestamp>,
    pub last_good: Option<Timestamp>,
}

/// The judgement of one reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// Never better than what the reading came with.
    pub quality: Quality,
    /// The worst finding's code, when it is worse than what the reading came with.
    pub reason: Option<&'static str>,
    /// Codes to add to `reasons`.
    pub codes: Codes,
    /// The reading's own, or the gateway's when that one cannot be used.
    pub device_time: Timestamp,
    /// To be flagged `late`.
    pub late: bool,
    /// To be flagged `gap_before`, and told as an event.
    pub gap: Option<gap::Gap>,
    /// To be told as an event.
    pub change: Option<Change>,
    /// The point, for [`Validator::handle_mut`]; `None` when the table was full.
    pub point: Option<u32>,
}

impl Judgement {
    /// True when the reading cannot be forwarded byte for byte.
    pub fn is_changed(&self) -> bool {
        !self.codes.as_slice().is_empty() || self.late || self.gap.is_some()
    }

    fn new(reading: &Reading<'_>) -> Self {
        Self {
            verdict: Verdict::Forward,
            quality: reading.quality,
            reason: None,
            codes: Codes::default(),
            device_time: reading.device_time,
            late: false,
            gap: None,
            change: None,
            point: None,
        }
    }

    /// Takes a finding in; the worst one decides quality and reason.
    fn add(&mut self, finding: Finding) {
        self.codes.push(finding.code);
        if finding.quality > self.quality {
            self.quality = finding.quality;
            self.reason = Some(finding.code);
        }
    }

    fn reject(mut self, finding: Finding) -> Self {
        self.quality = Quality::Bad;
        self.reason = Some(finding.code);
        self.verdict = Verdict::Reject(Rejection::Found(finding));
        self
    }
}

impl Validator {
    /// `partitions` tables, together at most `points_max` points.
    pub fn new(settings: &Validation, partitions: usize, points_max: usize) -> Self {
        let partitions = std::iter::repeat_with(Partition::default).take(partitions).collect();
        Self { plan: Plan::new(settings), partitions, points: 0, points_max }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Points with a memory.
    pub fn points(&self) -> usize {
        self.points
    }

    /// A number the caller keeps with a point, 0 at first.
    pub fn handle_mut(&mut self, partition: usize, point: u32) -> Option<&mut u32> {
        self.partitions.get_mut(partition)?.table.get_mut(point).map(|point| &mut point.handle)
    }

    /// Judges the next reading of `partition`.
    pub fn judge(&mut self, partition: usize, reading: &Reading<'_>) -> Judgement {
        let Some(id) = self.point(partition, reading) else { return judge_without_memory(&mut self.plan, reading) };
        let point = self.partitions[partition].table.get_mut(id).expect("the id was found just now");
        let mut judgement = judge(&self.plan, point, reading);
        judgement.point = Some(id);
        point.seen = reading.gateway_time.as_micros();
        if judgement.verdict != Verdict::Duplicate {
            judgement.change = point.classify(judgement.quality, judgement.device_time);
        }
        judgement
    }

    /// Finds or makes the point; `None` when there is no room.
    fn point(&mut self, partition: usize, reading: &Reading<'_>) -> Option<u32> {
        let Self { plan, partitions, points, points_max } = self;
        let place = &mut partitions[partition];
        let now = reading.gateway_time.as_micros();
        let every = if *points >= *points_max { SWEEP_WHEN_FULL_EVERY } else { SWEEP_EVERY };
        if now.saturating_sub(place.swept) > every {
            place.swept = now;
            let before = place.table.len();
            place.table.retain(|point| now.saturating_sub(point.seen) <= IDLE_MAX);
            *points -= before - place.table.len();
        }
        if let Some(id) = place.table.find(reading.asset_id, reading.parameter) {
            return Some(id);
        }
        if *points >= *points_max {
            return None;
        }
        *points += 1;
        let profile = plan.profile(reading.asset_id, reading.parameter);
        Some(place.table.find_or_insert_with(reading.asset_id, reading.parameter, || Point::new(profile)))
    }
}

impl Point {
    fn new(profile: u32) -> Self {
        Self {
            newest: NEVER,
            last_value: 0.0,
            last_time: NEVER,
            arrival: NEVER,
            seen: 0,
            since: NEVER,
            last_good: NEVER,
            memory: duplicate::Memory::default(),
            rejected: None,
            profile,
            handle: 0,
            class: None,
        }
    }

    /// Takes the class of a judged reading in and tells whether it is another one.
    #[inline]
    fn classify(&mut self, quality: Quality, device_time: Timestamp) -> Option<Change> {
        let last_good = time(self.last_good);
        if quality == Quality::Good {
            self.last_good = device_time.as_micros();
        }
        if self.class == Some(quality) {
            return None;
        }
        let (from, since) = (self.class.replace(quality), time(self.since));
        self.since = device_time.as_micros();
        if from.is_none() && quality == Quality::Good {
            return None; // a point that begins well is no news
        }
        Some(Change { from, to: quality, since, last_good })
    }
}

/// The chain. Only the end of it writes to the point.
fn judge(plan: &Plan, point: &mut Point, reading: &Reading<'_>) -> Judgement {
    let mut judgement = Judgement::new(reading);
    if reading.quality == Quality::Bad {
        judgement.verdict = Verdict::Reject(Rejection::Source);
        return judgement;
    }
    if let Some(finding) = presence::check(&reading.value) {
        return judgement.reject(finding);
    }
    if let Some(finding) = device_time::check(reading.device_time, reading.gateway_time) {
        judgement.device_time = reading.gateway_time;
        judgement.add(finding);
    }
    let time = judgement.device_time.as_micros();
    match point.memory.look(point.newest, time, &reading.value, reading.quality) {
        duplicate::Seen::New => {}
        duplicate::Seen::Duplicate => {
            judgement.verdict = Verdict::Duplicate;
            return judgement;
        }
        duplicate::Seen::Conflict => judgement.add(Finding {
            quality: Quality::Suspect,
            code: model::reason::DUP_CONFLICT,
            rule: None,
            limit: None,
        }),
    }
    let checks = plan.checks(point.profile);
    let in_order = time > point.newest;
    let number = reading.value.as_number();
    if let (Some(value), Some(range)) = (number, &checks.range)
        && let Some(finding) = range.check(value)
    {
        if finding.quality == Quality::Bad {
            return judgement.reject(finding);
        }
        judgement.add(finding);
    }
    // VAL-23: what comes out of order is not compared with its predecessor
    if let (Some(value), Some(rate), true) = (number, &checks.rate, in_order) {
        let last = (point.last_time != NEVER).then_some(rate::At { value: point.last_value, time: point.last_time });
        match rate.check(last, point.rejected.as_deref().copied(), rate::At { value, time }) {
            rate::Compared::Pass => {}
            rate::Compared::Marked(finding) => judgement.add(finding),
            rate::Compared::Rejected(finding, level) => {
                point.rejected = Some(Box::new(level));
                return judgement.reject(finding);
            }
        }
    }
    let arrival = reading.gateway_time.as_micros();
    if let Some(interval) = checks.expected_interval {
        judgement.gap = gap::check((point.arrival != NEVER).then_some(point.arrival), arrival, interval);
    }
    judgement.late = device_time::is_late(time, point.newest);
    point.memory.remember(time, &reading.value, reading.quality);
    point.arrival = arrival;
    if in_order {
        point.newest = time;
        point.rejected = None;
        if let Some(value) = number {
            (point.last_value, point.last_time) = (value, time);
        }
    }
    judgement
}

/// The checks that need no history.
fn judge_without_memory(plan: &mut Plan, reading: &Reading<'_>) -> Judgement {
    let profile = plan.profile(reading.asset_id, reading.parameter);
    judge(plan, &mut Point::new(profile), reading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::rules::{Limits, RateLimits, Rule};
    use model::{Value, reason};

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
            reasons: model::TextList::default(),
            classification: model::Classification::Telemetry,
            device_time: time,
            gateway_time: time,
            time_source: model::time_source::DEVICE,
            clock_state: "SYNCED",
            clock_skew_ms: None,
            epoch: 1,
            seq: second,
            flags: model::TextList::default(),
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
            }],
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
        assert_eq!(validator.judge(0, &float(9.0, 1)).codes.as_slice(), [""; 0]);
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
        assert_eq!(judged.reason, Some(device_time::DEVICE_TIME_INVALID));
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
        assert_eq!(judged.codes.as_slice(), [reason::RANGE_SOFT]);
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
