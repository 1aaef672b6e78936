//! What is aggregated and how, as written; `pipeline` turns it into windows.

use model::{Kind, Quality, Resolution};
use serde_json::Value;

use crate::rules::matches as glob;
use crate::{Object, Problem};

/// Late data within this time behind its window's end corrects the window (AGG-06), when nothing else is said.
const REVISE_FOR_H: i64 = 24;
/// A week: what is older is left to a new start of the history.
const REVISE_FOR_H_MAX: i64 = 7 * 24;
/// Memory for windows that late data may still correct, in MiB, when nothing else is said.
const LATE_MEMORY_MB: i64 = 80;
/// A value holds for this long at most, when nothing else is said.
const MAX_HOLD_MS: i64 = 10 * 60 * 1000;
/// Longest time a value may hold: each second of it is a window.
const MAX_HOLD_MS_MAX: i64 = 3600 * 1000;
/// Entries about points; more are refused.
const POINTS_MAX: usize = 1_000;
const KINDS: [&str; 5] = ["value", "counter", "angle", "bool", "enum"];

/// The aggregator's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregation {
    pub resolutions: Vec<Resolution>,
    /// How old late data may be to correct its window, in hours; 0 corrects nothing.
    pub revise_for_h: i64,
    /// Memory for the windows it may correct, in MiB; it bounds how far back that is with many points.
    pub late_memory_mb: i64,
    /// Readings of these qualities do not count.
    pub exclude: Vec<Quality>,
    /// The first entry that matches a point decides.
    pub points: Vec<PointRule>,
}

impl Default for Aggregation {
    fn default() -> Self {
        Self {
            resolutions: Resolution::ALL.to_vec(),
            revise_for_h: REVISE_FOR_H,
            late_memory_mb: LATE_MEMORY_MB,
            exclude: Vec::new(),
            points: Vec::new(),
        }
    }
}

/// How a quantity is averaged (AGG-07).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Averaging {
    /// Over the readings: for points read at a fixed rate.
    #[default]
    Sample,
    /// Over time, the last value holds until the next one: for points that report on change.
    Step,
    /// Over time, straight lines between readings.
    Linear,
}

/// How the points that `asset` and `parameter` match are aggregated.
#[derive(Debug, Clone, PartialEq)]
pub struct PointRule {
    /// Asset id, or a glob with `*`.
    pub asset: String,
    /// Parameter, or a glob with `*`.
    pub parameter: String,
    /// By the type of the value when absent: truths are `bool`, texts `enum`, numbers `value`.
    pub kind: Option<Kind>,
    pub averaging: Averaging,
    /// How long a value holds without a new one, in milliseconds.
    pub max_hold_ms: i64,
    /// How often a reading comes, in milliseconds; tells how much of a window `sample` readings cover.
    pub expected_interval_ms: Option<i64>,
    /// Where a counter begins anew; `None` when it never does.
    pub modulus: Option<f64>,
    /// Fastest believable counting per second.
    pub max_rate_per_s: Option<f64>,
}

impl PointRule {
    /// True when the entry speaks of this point.
    pub fn matches(&self, asset: &str, parameter: &str) -> bool {
        glob(&self.asset, asset) && glob(&self.parameter, parameter)
    }
}

impl Default for PointRule {
    fn default() -> Self {
        Self {
            asset: "*".to_owned(),
            parameter: "*".to_owned(),
            kind: None,
            averaging: Averaging::Sample,
            max_hold_ms: MAX_HOLD_MS,
            expected_interval_ms: None,
            modulus: None,
            max_rate_per_s: None,
        }
    }
}

impl Aggregation {
    /// Reads `{"resolutions": ["1s", "1min", "1hour"], "revise_for_h": 24, "late_memory_mb": 80, "exclude": [...], "points": [...]}`.
    pub fn read(value: &Value, pointer: &str) -> (Self, Vec<Problem>) {
        let mut object = Object::new(value, pointer);
        let resolutions = read_resolutions(&mut object, pointer);
        let revise_for_h = object.integer("revise_for_h", 0, REVISE_FOR_H_MAX).unwrap_or(REVISE_FOR_H);
        let late_memory_mb = object.integer("late_memory_mb", 1, 65_536).unwrap_or(LATE_MEMORY_MB);
        let exclude = read_exclude(&mut object, pointer);
        let mut points = Vec::new();
        let mut problems = Vec::new();
        let list = object.list("points").map(Vec::as_slice).unwrap_or_default();
        if list.len() > POINTS_MAX {
            object.problem("points", "too_many", format!("more than {POINTS_MAX} entries"), "use globs");
        }
        for (i, entry) in list.iter().take(POINTS_MAX).enumerate() {
            let (point, found) = PointRule::read(entry, &format!("{pointer}/points/{i}"));
            problems.extend(found);
            points.push(point);
        }
        object.extend(problems);
        (Self { resolutions, revise_for_h, late_memory_mb, exclude, points }, object.finish())
    }
}

fn read_resolutions(object: &mut Object<'_>, pointer: &str) -> Vec<Resolution> {
    let Some(list) = object.list("resolutions") else { return Resolution::ALL.to_vec() };
    let mut resolutions = Vec::new();
    for (i, entry) in list.iter().enumerate() {
        match entry.as_str().and_then(Resolution::parse) {
            Some(resolution) if !resolutions.contains(&resolution) => resolutions.push(resolution),
            Some(_) => {}
            None => object.extend([Problem::new(
                format!("{pointer}/resolutions/{i}"),
                "unknown_word",
                format!("{entry} is not one of 1s, 1min, 1hour"),
                "",
            )]),
        }
    }
    // a longer window is the merge of the shorter ones (AGG-05)
    for (longer, shorter) in [(Resolution::Minute, Resolution::Second), (Resolution::Hour, Resolution::Minute)] {
        if resolutions.contains(&longer) && !resolutions.contains(&shorter) {
            let message = format!(
                "{} windows are merged from {} windows, which are not produced",
                longer.as_str(),
                shorter.as_str()
            );
            object.problem("resolutions", "missing", message, format!("add {:?}", shorter.as_str()));
        }
    }
    resolutions.sort_unstable();
    resolutions
}

fn read_exclude(object: &mut Object<'_>, pointer: &str) -> Vec<Quality> {
    let mut exclude = Vec::new();
    for (i, entry) in object.list("exclude").into_iter().flatten().enumerate() {
        let quality = match entry.as_str() {
            Some("SUSPECT") => Quality::Suspect,
            Some("UNCERTAIN") => Quality::Uncertain,
            _ => {
                let message = format!("{entry} is not one of SUSPECT, UNCERTAIN");
                let hint = if entry == "BAD" { "BAD readings never count" } else { "" };
                object.extend([Problem::new(format!("{pointer}/exclude/{i}"), "unknown_word", message, hint)]);
                continue;
            }
        };
        if !exclude.contains(&quality) {
            exclude.push(quality);
        }
    }
    exclude
}

impl PointRule {
    fn read(value: &Value, pointer: &str) -> (Self, Vec<Problem>) {
        let mut object = Object::new(value, pointer);
        let asset = object.text("asset").unwrap_or("*").to_owned();
        let parameter = object.text("parameter").unwrap_or("*").to_owned();
        let kind = object.word("kind", &KINDS).and_then(Kind::parse);
        let method = object.word("avg_method", &["sample", "time_weighted"]);
        let interpolation = object.word("interpolation", &["step", "linear"]);
        let averaging = match (method, interpolation) {
            (Some("time_weighted"), Some("linear")) => Averaging::Linear,
            (Some("time_weighted"), _) => Averaging::Step,
            _ => Averaging::Sample,
        };
        let expected_interval_ms = object.integer("expected_interval_ms", 10, MAX_HOLD_MS_MAX);
        let max_hold_ms = object.integer("max_hold_ms", 10, MAX_HOLD_MS_MAX);
        let modulus = object.number("modulus");
        let max_rate_per_s = object.number("max_rate_per_s");
        for (key, number) in [("modulus", modulus), ("max_rate_per_s", max_rate_per_s)] {
            if number.is_some_and(|number| number <= 0.0) {
                object.problem(key, "out_of_range", "must be above 0", "");
            }
            if number.is_some() && kind != Some(Kind::Counter) {
                object.problem(key, "not_used", "is only for counters", "add \"kind\": \"counter\", or leave it out");
            }
        }
        if method == Some("time_weighted") && kind.is_some_and(|kind| kind != Kind::Value) {
            let message = "only points of kind value are averaged over time";
            object.problem("avg_method", "not_used", message, "leave it out");
        }
        if interpolation.is_some() && method != Some("time_weighted") {
            let hint = "add \"avg_method\": \"time_weighted\", or leave it out";
            object.problem("interpolation", "not_used", "is only for averages over time", hint);
        }
        // twice the longest silence (AGG-07)
        let of_interval = expected_interval_ms.map(|interval| (interval * 2).min(MAX_HOLD_MS_MAX));
        let max_hold_ms = max_hold_ms.or(of_interval).unwrap_or(MAX_HOLD_MS);
        let rule =
            Self { asset, parameter, kind, averaging, max_hold_ms, expected_interval_ms, modulus, max_rate_per_s };
        (rule, object.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn codes(problems: &[Problem]) -> Vec<String> {
        problems.iter().map(|problem| format!("{} {}", problem.pointer, problem.code)).collect()
    }

    #[test]
    fn an_hour_needs_its_minutes() {
        let (_, problems) = Aggregation::read(&json!({"resolutions": ["1s", "1hour"]}), "/aggregation");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].hint.contains("1min"));
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(Aggregation::read(&json!({}), "/aggregation"), (Aggregation::default(), Vec::new()));
    }

    #[test]
    fn points_are_read_and_the_first_match_decides() {
        // AGG-07, AGG-10
        let value = json!({"revise_for_h": 48, "exclude": ["SUSPECT"], "points": [
            {"asset": "pump_*", "parameter": "energy", "kind": "counter", "modulus": 4_294_967_296_u64, "max_rate_per_s": 5},
            {"parameter": "level", "avg_method": "time_weighted", "interpolation": "linear", "expected_interval_ms": 1000},
        ]});
        let (aggregation, problems) = Aggregation::read(&value, "/aggregation");
        assert_eq!(problems, []);
        assert_eq!((aggregation.revise_for_h, &aggregation.exclude[..]), (48, &[Quality::Suspect][..]));
        let [counter, level] = &aggregation.points[..] else { panic!("two points") };
        assert_eq!((counter.kind, counter.modulus), (Some(Kind::Counter), Some(4_294_967_296.0)));
        assert!(counter.matches("pump_07", "energy") && !counter.matches("press", "energy"));
        assert_eq!((level.averaging, level.max_hold_ms, level.kind), (Averaging::Linear, 2000, None));
    }

    #[test]
    fn what_does_nothing_is_refused_with_its_path() {
        // G-06
        let value = json!({"exclude": ["BAD"], "points": [
            {"kind": "angel", "modulus": 10}, {"kind": "bool", "avg_method": "time_weighted"},
            {"interpolation": "step", "hold": 1}, {"kind": "counter", "max_rate_per_s": 0},
        ]});
        let (_, problems) = Aggregation::read(&value, "/a");
        let expected = [
            "/a/exclude/0 unknown_word",
            "/a/points/0/kind unknown_word",
            "/a/points/0/modulus not_used",
            "/a/points/1/avg_method not_used",
            "/a/points/2/interpolation not_used",
            "/a/points/2/hold unknown_key",
            "/a/points/3/max_rate_per_s out_of_range",
        ];
        assert_eq!(codes(&problems), expected);
    }
}
