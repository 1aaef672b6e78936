//! Back-test: what validation and alarm rules would have said of readings that are stored already.
//!
//! Pure and on its own: a fresh validator and a fresh alarm engine, fed with the readings of the log in their order, by
//! lane. Nothing of the gateway's state is read or written. The first readings of each point have no history, as after a
//! first start, so the report of a span begins a little blind; give it some minutes before what is asked about.

use std::collections::{BTreeMap, HashMap};

use model::{Quality, Reading, Timestamp, Value};

use crate::alarm::{Engine, Input, Now, Transition};
use crate::validate::explain::explain;
use crate::validate::{Judgement, POINTS_MAX, Rejection, Validator, Verdict};

/// Examples kept per rule and per alarm.
pub const EXAMPLES_MAX: usize = 5;
/// An activation shorter than this is no use to a person, in microseconds (ALM-15).
pub const FLEETING: i64 = 5_000_000;
const NOT_WATCHED: u32 = u32::MAX;

/// A reading that was flagged, or an activation of an alarm.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    pub asset_id: String,
    pub parameter: String,
    pub value: String,
    pub device_time: Timestamp,
    /// Why, where a sentence exists.
    pub detail: String,
}

/// What one rule would have flagged with one code.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flagged {
    pub count: u64,
    pub examples: Vec<Example>,
}

/// What one alarm rule would have raised.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Raised {
    /// Activations a person would have been told of.
    pub activations: u64,
    /// Of those, gone within five seconds.
    pub fleeting: u64,
    /// Still there at the end of the span.
    pub standing: u64,
    /// Time in alarm, microseconds, of those that went.
    pub time_in_alarm: i64,
    pub severity: String,
    pub examples: Vec<Example>,
}

/// The result.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    pub readings: u64,
    /// By quality as judged: GOOD, SUSPECT, UNCERTAIN.
    pub forwarded: [u64; 3],
    pub duplicates: u64,
    /// Rejected by a rule; what came BAD from its source is not a rule's doing.
    pub rejected: u64,
    pub bad_at_source: u64,
    pub gaps: u64,
    pub stale: u64,
    /// By rule (`-` for checks that are always on) and code.
    pub flagged: BTreeMap<(String, String), Flagged>,
    /// By alarm rule.
    pub raised: BTreeMap<String, Raised>,
    /// Device times of the first and the last reading.
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
}

impl Report {
    /// Activations of all alarms, and of those the fleeting ones.
    pub fn activations(&self) -> (u64, u64) {
        self.raised
            .values()
            .fold((0, 0), |(all, fleeting), raised| (all + raised.activations, fleeting + raised.fleeting))
    }
}

/// A back-test under way.
#[derive(Debug)]
pub struct Backtest {
    validator: Validator,
    engine: Engine,
    with_alarms: bool,
    open: HashMap<String, Timestamp>,
    report: Report,
    detail: String,
}

impl Backtest {
    /// `lanes` is the number of partitions of the log.
    pub fn new(validation: &config::Validation, alarms: &config::Alarms, lanes: usize) -> Self {
        Self {
            validator: Validator::new(validation, lanes, POINTS_MAX),
            engine: Engine::new(alarms, "backtest", lanes),
            with_alarms: !alarms.rules.is_empty(),
            open: HashMap::new(),
            report: Report::default(),
            detail: String::new(),
        }
    }

    /// Takes the next reading of a lane.
    pub fn take(&mut self, lane: usize, reading: &Reading<'_>) {
        let now = self.validator.arrival(lane, reading);
        self.advance(lane, now);
        let judged = self.validator.judge(lane, reading);
        let report = &mut self.report;
        report.readings += 1;
        let time = judged.device_time;
        report.first = Some(report.first.map_or(time, |first| first.min(time)));
        report.last = Some(report.last.map_or(time, |last| last.max(time)));
        report.gaps += u64::from(judged.gap.is_some());
        match judged.verdict {
            Verdict::Duplicate | Verdict::Past => {
                report.duplicates += 1;
                return;
            }
            Verdict::Reject(Rejection::Source) => report.bad_at_source += 1,
            Verdict::Reject(Rejection::Found(finding)) => {
                report.rejected += 1;
                explain(&mut self.detail, self.validator.plan(), reading, &finding);
                let rule = finding.rule.and_then(|rule| self.validator.plan().rule(rule));
                let name = rule.map_or("-", |rule| rule.id.as_str()).to_owned();
                flag(report, name, finding.code, reading, &judged, &self.detail);
            }
            Verdict::Forward => {
                let place = match judged.quality {
                    Quality::Good => 0,
                    Quality::Suspect => 1,
                    Quality::Uncertain | Quality::Bad => 2,
                };
                report.forwarded[place] += 1;
                for code in judged.codes.iter() {
                    let rule = judged.point.and_then(|point| self.validator.rule_behind(lane, point, code));
                    let name = rule.map_or("-", |rule| rule.id.as_str()).to_owned();
                    flag(&mut self.report, name, code, reading, &judged, "");
                }
            }
        }
        if self.with_alarms {
            self.alarm(lane, reading, &judged);
        }
    }

    fn alarm(&mut self, lane: usize, reading: &Reading<'_>, judged: &Judgement) {
        let Self { validator, engine, open, report, .. } = self;
        let now = Now { steady: validator.now(lane), wall: reading.gateway_time, wall_trusted: true };
        let Some([_, handle]) = judged.point.and_then(|point| validator.handle_mut(lane, point)) else { return };
        if *handle == 0 {
            *handle = match engine.watch(lane, reading.asset_id, reading.parameter) {
                0 => NOT_WATCHED,
                watched => watched,
            };
        }
        if *handle == NOT_WATCHED {
            return;
        }
        let rejected = matches!(judged.verdict, Verdict::Reject(Rejection::Found(_)));
        let input = Input {
            value: judged.converted.map_or(reading.value, Value::Float),
            unit: reading.unit,
            quality: if rejected { Quality::Bad } else { judged.quality },
            reason: judged.reason.or(reading.quality_reason),
            codes: judged.codes,
            device_time: judged.device_time,
            flags: reading.flags,
        };
        engine.reading(lane, *handle, now, &input, &mut |transition| note(open, report, transition));
    }

    fn advance(&mut self, lane: usize, now: i64) {
        let Self { validator, engine, open, report, with_alarms, .. } = self;
        let mut silent = Vec::new();
        validator.advance(lane, now, &mut |stale| silent.push((stale.point, stale.at, stale.now)));
        report.stale += silent.len() as u64;
        if !*with_alarms {
            return;
        }
        for (point, wall, steady) in silent {
            let handle = validator.handle_mut(lane, point).map_or(0, |handles| handles[1]);
            if handle != NOT_WATCHED {
                let now = Now { steady, wall, wall_trusted: true };
                engine.stale(lane, handle, now, &mut |transition| note(open, report, transition));
            }
        }
        if now != i64::MIN && engine.next_deadline(lane).is_some_and(|deadline| deadline <= now) {
            let wall = Timestamp::from_micros(now.saturating_add(validator.shift(lane)));
            let now = Now { steady: now, wall, wall_trusted: true };
            engine.advance(lane, now, &mut |transition| note(open, report, transition));
        }
    }

    /// The report; what stands still stands.
    pub fn finish(mut self) -> Report {
        for key in self.open.keys() {
            // gateway/asset/alarm/number
            let alarm = key.rsplit('/').nth(1).unwrap_or_default();
            if let Some(raised) = self.report.raised.get_mut(alarm) {
                raised.standing += 1;
            }
        }
        self.report
    }
}

fn flag(report: &mut Report, rule: String, code: &str, reading: &Reading<'_>, judged: &Judgement, detail: &str) {
    let flagged = report.flagged.entry((rule, code.to_owned())).or_default();
    flagged.count += 1;
    if flagged.examples.len() < EXAMPLES_MAX {
        flagged.examples.push(Example {
            asset_id: reading.asset_id.to_owned(),
            parameter: reading.parameter.to_owned(),
            value: text_of(&reading.value),
            device_time: judged.device_time,
            detail: detail.to_owned(),
        });
    }
}

fn note(open: &mut HashMap<String, Timestamp>, report: &mut Report, transition: &Transition<'_>) {
    let alarm = &transition.alarm;
    let id = alarm.alarm_key.rsplit('/').next().unwrap_or_default();
    if transition.annunciate && alarm.change.cause != "re_alarm" && !open.contains_key(alarm.occurrence_id) {
        let raised = report.raised.entry(id.to_owned()).or_default();
        raised.activations += 1;
        alarm.severity.clone_into(&mut raised.severity);
        if raised.examples.len() < EXAMPLES_MAX {
            raised.examples.push(Example {
                asset_id: alarm.asset_id.to_owned(),
                parameter: alarm.parameter.unwrap_or_default().to_owned(),
                value: text_of(&alarm.value),
                device_time: alarm.device_time,
                detail: alarm.message.to_owned(),
            });
        }
        open.insert(alarm.occurrence_id.to_owned(), alarm.gateway_time);
    }
    if !alarm.condition_active
        && let Some(began) = open.remove(alarm.occurrence_id)
        && let Some(raised) = report.raised.get_mut(id)
    {
        let lasted = alarm.gateway_time.micros_since(began);
        raised.time_in_alarm = raised.time_in_alarm.saturating_add(lasted);
        raised.fleeting += u64::from(lasted < FLEETING);
    }
}

fn text_of(value: &Value<'_>) -> String {
    match value {
        Value::Null => String::new(),
        Value::Float(number) => number.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Text(text) => text.chars().take(64).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::rules::{Limits, Rule};
    use model::{TextList, TextMap};

    fn reading(second: i64, value: f64) -> Reading<'static> {
        let time = Timestamp::from_micros((1_769_680_800 + second) * 1_000_000);
        Reading {
            asset_id: "press",
            asset_path: None,
            parameter: "oil",
            value: Value::Float(value),
            value_type: model::ValueType::Float,
            value_label: None,
            unit: None,
            quality: Quality::Good,
            quality_reason: None,
            reasons: TextList::default(),
            classification: model::Classification::Telemetry,
            device_time: time,
            gateway_time: time,
            time_source: model::time_source::ACQUISITION,
            clock_state: "SYNCED",
            clock_skew_ms: None,
            epoch: 1,
            seq: second,
            flags: TextList::default(),
            metadata: TextMap::default(),
            tags: TextMap::default(),
        }
    }

    #[test]
    fn a_flickering_alarm_is_seen_before_it_is_deployed() {
        // wish 5: "would have raised 412 alarms, 391 under 5 s"
        let validation = config::Validation {
            rules: vec![Rule {
                id: "oil".to_owned(),
                asset: "*".to_owned(),
                parameter: "*".to_owned(),
                range: Some(Limits { hard_hi: Some(150.0), soft_hi: Some(98.0), ..Limits::default() }),
                ..Rule::default()
            }],
            ..config::Validation::default()
        };
        let rules = serde_json::json!({"rules": [{
            "id": "hot", "parameter": "oil", "type": "hi", "limit": 90, "severity": "HIGH", "message": "hot"
        }]});
        let (alarms, problems) = config::Alarms::read(&rules, "/alarms");
        assert_eq!(problems, []);
        let mut test = Backtest::new(&validation, &alarms, 1);
        for second in 0..600 {
            // two seconds over the limit, eight below; at the end it stays
            let value = if second % 10 < 2 || second >= 590 { 95.0 } else { 80.0 };
            test.take(0, &reading(second, value));
        }
        test.take(0, &reading(600, 99.0));
        test.take(0, &reading(601, 200.0));
        let report = test.finish();
        let hot = &report.raised["hot"];
        assert_eq!((hot.activations, hot.fleeting, hot.standing), (60, 59, 1));
        assert_eq!(hot.examples.len(), EXAMPLES_MAX);
        assert_eq!((report.readings, report.rejected, report.forwarded), (602, 1, [600, 1, 0]));
        let of = |code: &str| &report.flagged[&("oil".to_owned(), code.to_owned())];
        assert_eq!((of("RANGE_SOFT").count, of("RANGE_HARD").count), (1, 1));
        assert_eq!(of("RANGE_HARD").examples[0].detail, "200 is above the hard limit 150 (rule oil)");
        // AC-104: the hard limit's own alarm is there as well
        assert_eq!(report.raised["oil.quality"].activations, 1);
        assert_eq!(report.activations(), (61, 59));
    }
}
