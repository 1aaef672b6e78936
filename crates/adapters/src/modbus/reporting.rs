//! What the settings of a point say about when it is told: published on change, events on edges.

use std::time::Duration;

use ::config::Object;
use modbus::DataType;
use model::ValueType;

use super::decode::{Decoding, Scaling};
use crate::edges::{Debounce, Edges, Watch};
use crate::publishing::{Deadband, OnChange};

/// A quiet point is published this often at least.
const MAX_SILENCE_MS: u64 = 60_000;
const MAX_SILENCE_MS_MAX: i64 = 86_400_000;
const DEBOUNCE_MS_MAX: i64 = 3_600_000;

/// As read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reporting {
    /// `None`: every value is published.
    pub publishing: Option<OnChange>,
    pub edges: Option<Edges>,
}

/// Reads `publish`, `deadband`, `deadband_of`, `max_silence_ms` (MB-41) and `edge`, `debounce_ms`, `debounce_samples`
/// (MB-40).
pub fn read(object: &mut Object<'_>, decoding: &Decoding) -> Reporting {
    Reporting { publishing: read_publishing(object, decoding), edges: read_edges(object, decoding) }
}

fn read_publishing(object: &mut Object<'_>, decoding: &Decoding) -> Option<OnChange> {
    let mode = object.word("publish", &["every", "on_change"]);
    let size = object.number("deadband");
    let of = object.word("deadband_of", &["absolute", "span", "value"]);
    let silence = object.integer("max_silence_ms", 1000, MAX_SILENCE_MS_MAX);
    if mode != Some("on_change") {
        let idle = [("deadband", size.is_some()), ("deadband_of", of.is_some()), ("max_silence_ms", silence.is_some())];
        if let Some((key, _)) = idle.into_iter().find(|(_, given)| *given) {
            object.problem(key, "not_used", "is of no use where every value is published", "add publish: on_change");
        }
        return None;
    }
    let is_number = matches!(decoding.value_type(), ValueType::Int | ValueType::Float) && decoding.states.is_none();
    if size.is_some() && !is_number {
        object.problem("deadband", "no_number", "is for numbers; others are published on any change", "");
    }
    if size.is_some_and(|size| size < 0.0 || !size.is_finite()) {
        object.problem("deadband", "out_of_range", "must not be below 0", "");
    }
    if of.is_some() && size.is_none() {
        object.problem("deadband_of", "not_used", "stands without a deadband", "");
    }
    let size = size.unwrap_or(0.0);
    let deadband = match (of, decoding.scaling) {
        (Some("value"), _) => Deadband::Percent(size),
        (Some("span"), Scaling::TwoPoint { eng, .. }) => Deadband::Absolute((eng.1 - eng.0).abs() * size / 100.0),
        (Some("span"), _) => {
            let hint = "give two_point, or a deadband in the point's unit";
            object.problem("deadband_of", "no_span", "the point has no span", hint);
            Deadband::Absolute(size)
        }
        _ => Deadband::Absolute(size),
    };
    let silence = silence.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(MAX_SILENCE_MS);
    Some(OnChange { deadband, max_silence: Duration::from_millis(silence) })
}

fn read_edges(object: &mut Object<'_>, decoding: &Decoding) -> Option<Edges> {
    let watch = object.word("edge", &["rising", "falling", "both", "change"]);
    let time = object.integer("debounce_ms", 1, DEBOUNCE_MS_MAX).and_then(|ms| u64::try_from(ms).ok());
    let samples = object.integer("debounce_samples", 2, 1000).and_then(|samples| u32::try_from(samples).ok());
    if time.is_some() && samples.is_some() {
        object.problem("debounce_samples", "contradiction", "stands beside debounce_ms", "keep one of the two");
    }
    let Some(watch) = watch else {
        for (key, given) in [("debounce_ms", time.is_some()), ("debounce_samples", samples.is_some())] {
            if given {
                object.problem(key, "not_used", "is of no use without an edge", "add for example edge: both");
            }
        }
        return None;
    };
    let watch = match watch {
        "rising" => Watch::Rising,
        "falling" => Watch::Falling,
        "both" => Watch::Both,
        _ => Watch::Change,
    };
    let has_bits =
        matches!(decoding.value_type(), ValueType::Bool | ValueType::Int) && decoding.scaling == Scaling::None;
    if watch != Watch::Change && !has_bits {
        let hint = "use edge: change";
        object.problem("edge", "no_bits", "only a boolean or an unscaled whole number rises and falls", hint);
    }
    let is_signed =
        matches!(decoding.kind, Some(DataType::Int8(_) | DataType::Int16 | DataType::Int32 | DataType::Int64));
    if watch != Watch::Change && is_signed {
        let hint = "give the point an unsigned type, or use edge: change";
        object.problem("edge", "signed", "bits rise and fall in unsigned types only", hint);
    }
    let debounce = match (time, samples) {
        (Some(ms), _) => Debounce::Time(Duration::from_millis(ms)),
        (None, Some(samples)) => Debounce::Samples(samples),
        (None, None) => Debounce::None,
    };
    Some(Edges { watch, debounce })
}
