//! Changes of state worth an event of their own (MB-40): a door opened, a bit of an alarm word was set.
//!
//! The first state after a start is told as `initial`, never as an edge. What changed while nobody looked is told as
//! such, with the time it was last seen otherwise; a pulse shorter than the poll period is never seen. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::Timestamp;
use tokio::time::Instant;

use crate::sample::{Sample, Value};

/// Which changes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// From false to true; of a whole number, any bit of it.
    Rising,
    /// From true to false; of a whole number, any bit of it.
    Falling,
    /// Either way; of a whole number, bit by bit.
    Both,
    /// The value as a whole is another one.
    Change,
}

/// How long a new state must last before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debounce {
    None,
    /// Seen so many times in a row.
    Samples(u32),
    /// Seen over this time.
    Time(Duration),
}

/// The rule of one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edges {
    pub watch: Watch,
    pub debounce: Debounce,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The first state since the start, or the same one after an outage.
    Initial,
    /// Another state than before an outage; it was last known at this time.
    Missed { after: Timestamp },
    /// A change that was seen.
    Edge {
        /// The bit of a word that changed.
        bit: Option<u8>,
        /// Up, down, or neither for a value as a whole.
        rising: Option<bool>,
    },
}

/// A state or change to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    /// Text of the state before; none for the first.
    pub from: Option<String>,
    pub to: String,
}

impl Kind {
    /// Word in the event.
    pub fn edge(&self) -> Option<&'static str> {
        match self {
            Self::Edge { rising: Some(true), .. } => Some("rising"),
            Self::Edge { rising: Some(false), .. } => Some("falling"),
            Self::Edge { rising: None, .. } => Some("change"),
            Self::Initial | Self::Missed { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct State {
    value: Value,
    label: Option<Arc<str>>,
}

#[derive(Debug)]
struct Point {
    state: State,
    last_good: Timestamp,
    /// Nothing was read since `last_good`.
    outage: bool,
    /// Another state that has not lasted long enough yet.
    pending: Option<(State, u32, Instant)>,
}

/// The states known last, by tag.
#[derive(Debug, Default)]
pub struct States {
    points: HashMap<usize, Point>,
}

impl States {
    /// Takes a sample in and says what is to be told.
    pub fn observe(&mut self, sample: &Sample, rule: &Edges, now: Instant) -> Vec<Finding> {
        if sample.value == Value::Null {
            if let Some(point) = self.points.get_mut(&sample.tag) {
                (point.outage, point.pending) = (true, None);
            }
            return Vec::new();
        }
        let state = State { value: sample.value.clone(), label: sample.label.clone() };
        let time = sample.device_time;
        let Some(point) = self.points.get_mut(&sample.tag) else {
            let told = Finding { kind: Kind::Initial, from: None, to: text(&state) };
            self.points.insert(sample.tag, Point { state, last_good: time, outage: false, pending: None });
            return vec![told];
        };
        let after = std::mem::replace(&mut point.last_good, time);
        let was_away = std::mem::take(&mut point.outage) || sample.gap_before;
        if was_away {
            let same = point.state.value == state.value;
            let kind = if same { Kind::Initial } else { Kind::Missed { after } };
            let from = (!same).then(|| text(&point.state));
            let told = Finding { kind, from, to: text(&state) };
            (point.state, point.pending) = (state, None);
            return vec![told];
        }
        if point.state.value == state.value {
            point.pending = None;
            return Vec::new();
        }
        let (count, since) = match &point.pending {
            Some((pending, count, since)) if pending.value == state.value => (count + 1, *since),
            _ => (1, now),
        };
        let lasts = match rule.debounce {
            Debounce::None => true,
            Debounce::Samples(samples) => count >= samples,
            Debounce::Time(time) => now.saturating_duration_since(since) >= time,
        };
        if !lasts {
            point.pending = Some((state, count, since));
            return Vec::new();
        }
        point.pending = None;
        let before = std::mem::replace(&mut point.state, state.clone());
        let (from, to) = (text(&before), text(&state));
        let finding =
            |(bit, rising)| Finding { kind: Kind::Edge { bit, rising }, from: Some(from.clone()), to: to.clone() };
        changes(&before.value, &state.value, rule.watch).into_iter().map(finding).collect()
    }
}

/// Bit and direction of each change that counts.
fn changes(before: &Value, after: &Value, watch: Watch) -> Vec<(Option<u8>, Option<bool>)> {
    let counts = |rising: bool| match watch {
        Watch::Rising => rising,
        Watch::Falling => !rising,
        Watch::Both | Watch::Change => true,
    };
    match (before, after, watch) {
        (_, _, Watch::Change) => vec![(None, None)],
        (Value::Bool(_), Value::Bool(rising), _) if counts(*rising) => vec![(None, Some(*rising))],
        (Value::Int(before), Value::Int(after), _) => (0..63)
            .filter(|bit| (before ^ after) >> bit & 1 == 1)
            .map(|bit| (bit, after >> bit & 1 == 1))
            .filter(|(_, rising)| counts(*rising))
            .map(|(bit, rising)| (Some(bit), Some(rising)))
            .collect(),
        _ => Vec::new(),
    }
}

fn text(state: &State) -> String {
    match (&state.label, &state.value) {
        (Some(label), _) => label.as_ref().to_owned(),
        (None, Value::Null) => String::new(),
        (None, Value::Float(number)) => number.to_string(),
        (None, Value::Int(number)) => number.to_string(),
        (None, Value::Bool(flag)) => flag.to_string(),
        (None, Value::Text(text)) => text.as_ref().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::reason;

    fn told(rule: Edges, values: &[Value]) -> Vec<String> {
        let (mut states, start) = (States::default(), Instant::now());
        let mut out = Vec::new();
        for (second, value) in (0..).zip(values) {
            let at = Timestamp::from_millis(second * 1000);
            let sample = match value {
                Value::Null => Sample::bad(0, reason::TIMEOUT, at),
                value => Sample::new(0, value.clone(), at),
            };
            let now = start + Duration::from_secs(u64::try_from(second).unwrap());
            for finding in states.observe(&sample, &rule, now) {
                let from = finding.from.unwrap_or_default();
                let kind = match finding.kind {
                    Kind::Missed { after } => format!("missed since {}", after.as_millis() / 1000),
                    Kind::Edge { bit: Some(bit), .. } => format!("bit {bit} {}", finding.kind.edge().unwrap()),
                    other => other.edge().unwrap_or("initial").to_owned(),
                };
                out.push(format!("{second}: {kind} {from}>{}", finding.to));
            }
        }
        out
    }

    fn flags(pattern: &str) -> Vec<Value> {
        pattern.chars().map(|c| if c == '?' { Value::Null } else { Value::Bool(c == '1') }).collect()
    }

    fn rule(watch: Watch, debounce: Debounce) -> Edges {
        Edges { watch, debounce }
    }

    // AC-029, MB-40
    #[tokio::test(start_paused = true)]
    async fn what_changed_unseen_is_no_edge() {
        let both = rule(Watch::Both, Debounce::None);
        assert_eq!(told(both, &flags("11?00")), ["0: initial >true", "3: missed since 1 true>false"]);
        assert_eq!(told(both, &flags("11??11")), ["0: initial >true", "4: initial >true"]);
        assert_eq!(told(both, &flags("?")), Vec::<String>::new());
    }

    // MB-40
    #[tokio::test(start_paused = true)]
    async fn directions_and_debouncing() {
        assert_eq!(told(rule(Watch::Rising, Debounce::None), &flags("0101")).len(), 1 + 2);
        assert_eq!(told(rule(Watch::Falling, Debounce::None), &flags("0101")).len(), 1 + 1);
        let three = told(rule(Watch::Both, Debounce::Samples(3)), &flags("0110111101"));
        assert_eq!(three, ["0: initial >false", "6: rising false>true"]);
        let two_seconds = rule(Watch::Both, Debounce::Time(Duration::from_secs(2)));
        assert_eq!(told(two_seconds, &flags("0110111")), ["0: initial >false", "6: rising false>true"]);
    }

    // MB-40
    #[tokio::test(start_paused = true)]
    async fn words_bit_by_bit_or_as_a_whole() {
        let words = [0b0001, 0b0110, 0b0111].map(Value::Int);
        let bits = told(rule(Watch::Both, Debounce::None), &words);
        let expected = [
            "0: initial >1",
            "1: bit 0 falling 1>6",
            "1: bit 1 rising 1>6",
            "1: bit 2 rising 1>6",
            "2: bit 0 rising 6>7",
        ];
        assert_eq!(bits, expected);
        assert_eq!(told(rule(Watch::Change, Debounce::None), &words)[1..], ["1: change 1>6", "2: change 6>7"]);
    }
}
