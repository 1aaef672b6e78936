//! What registers become: decode, sentinel, mask, scale, label, in this order (MB-11).
//!
//! Pure and total: any registers give a sample, with a value or with a reason why there is none.

use std::collections::BTreeMap;
use std::sync::Arc;

use modbus::{DataType, Defect, Order};
use model::{Quality, Timestamp, ValueType, reason};

use crate::sample::{Sample, Value};

/// Registers shown in `raw_value`: 16 make 64 characters.
const RAW_REGISTERS_MAX: usize = 16;

/// What to do with a value outside the raw span of a two-point scale (MB-13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outside {
    /// Publish the extrapolated value as SUSPECT.
    #[default]
    Extrapolate,
    /// Publish the nearest end as SUSPECT.
    Clip,
    /// Publish no value.
    Bad,
}

/// From raw number to engineering unit (MB-12).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Scaling {
    /// As it is.
    #[default]
    None,
    /// raw · scale + offset.
    Linear { scale: f64, offset: f64 },
    /// By two points of a line.
    TwoPoint {
        raw: (f64, f64),
        eng: (f64, f64),
        outside: Outside,
        /// 4..20 mA: below 3.6 or above 21 mA is a broken sensor.
        namur: bool,
        /// The square root of the share of the span, as a flow follows from a differential pressure; a result below
        /// this share of the span is 0.
        root_cut_off: Option<f64>,
    },
}

/// Bits of a whole number that count, taken before it is scaled (MB-11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mask {
    pub bits: u64,
    /// Places to the right.
    pub shift: u8,
}

/// The power of ten another point holds (MB-14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    /// -10 to 10.
    Power(i8),
    /// It has no value, for this reason.
    Missing(&'static str),
}

impl Factor {
    /// From the value of the other point.
    pub fn of(power: i64) -> Self {
        match i8::try_from(power) {
            Ok(power) if (-10..=10).contains(&power) => Self::Power(power),
            _ => Self::Missing(reason::DECODE_ERROR),
        }
    }
}

impl Scaling {
    /// True if whole numbers stay whole.
    fn keeps_integers(self) -> bool {
        match self {
            Self::None => true,
            Self::Linear { scale, offset } => scale.fract() == 0.0 && offset.fract() == 0.0,
            Self::TwoPoint { .. } => false,
        }
    }
}

/// How the values of one point are made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decoding {
    /// `None` for coils and discrete inputs.
    pub kind: Option<DataType>,
    pub order: Order,
    /// Bit patterns that mean "no value" (MB-09).
    pub sentinels: Vec<u64>,
    pub mask: Option<Mask>,
    pub scaling: Scaling,
    /// The tag that holds the power of ten to scale by; stands beside no other scaling.
    pub scale_from: Option<usize>,
    /// Texts of an enumeration; `None` if it is none.
    pub states: Option<BTreeMap<i64, Arc<str>>>,
    pub invert: bool,
    /// A bool register may only be 0 or 1.
    pub strict_bool: bool,
}

impl Decoding {
    /// The type all values of the point have.
    pub fn value_type(&self) -> ValueType {
        match self.kind {
            None | Some(DataType::Bool | DataType::Bit { .. }) => ValueType::Bool,
            Some(DataType::Float32 | DataType::Float64) => ValueType::Float,
            Some(DataType::Text { .. }) => ValueType::String,
            Some(DataType::Raw { .. }) => ValueType::Raw,
            Some(_) if self.scale_from.is_some() => ValueType::Float,
            Some(_) if self.scaling.keeps_integers() => ValueType::Int,
            Some(_) => ValueType::Float,
        }
    }

    /// A sample of a coil or discrete input.
    pub fn bit(&self, tag: usize, bit: bool, at: Timestamp) -> Sample {
        let mut sample = Sample::new(tag, Value::Bool(bit != self.invert), at);
        self.label(&mut sample, i64::from(bit != self.invert));
        sample
    }

    /// A sample of registers.
    pub fn registers(&self, tag: usize, registers: &[u16], at: Timestamp) -> Sample {
        self.registers_scaled(tag, registers, at, Factor::Power(0))
    }

    /// A sample of registers whose factor another point holds.
    pub fn registers_scaled(&self, tag: usize, registers: &[u16], at: Timestamp, factor: Factor) -> Sample {
        let mut sample = self.decode(tag, registers, at, factor);
        if sample.verdict.quality() != Quality::Good {
            sample.raw = Some(hex(registers));
        }
        sample
    }

    fn decode(&self, tag: usize, registers: &[u16], at: Timestamp, factor: Factor) -> Sample {
        let Some(kind) = self.kind else { return Sample::bad(tag, reason::DECODE_ERROR, at) };
        let pattern = kind.pattern(self.order, registers);
        if pattern.is_some_and(|pattern| self.sentinels.contains(&pattern)) {
            return Sample::bad(tag, reason::INVALID_SENTINEL, at);
        }
        let decoded = match kind.decode(self.order, registers) {
            Ok(decoded) => decoded,
            Err(Defect::NotFinite) => return Sample::bad(tag, reason::NAN_INF, at),
            Err(_) => return Sample::bad(tag, reason::DECODE_ERROR, at),
        };
        let mut sample = Sample::new(tag, Value::Null, at);
        if decoded.rounded {
            sample.verdict.add(Quality::Suspect, reason::PRECISION_LOSS);
        }
        match decoded.value {
            modbus::Value::Bool(flag) => {
                let flag = flag != self.invert;
                sample.value = Value::Bool(flag);
                if self.strict_bool && kind == DataType::Bool && pattern.is_some_and(|pattern| pattern > 1) {
                    sample.verdict.add(Quality::Suspect, reason::UNKNOWN_ENUM);
                }
                self.label(&mut sample, i64::from(flag));
            }
            modbus::Value::Text(text) => {
                // Control characters of a device have no business in logs and pages.
                let clean: String = text.chars().filter(|c| !c.is_control()).collect();
                sample.value = Value::Text(clean.into());
            }
            modbus::Value::Int(number) => {
                let masked = self.mask.zip(pattern).and_then(|(mask, pattern)| {
                    let shifted = (pattern & mask.bits).checked_shr(mask.shift.into()).unwrap_or(0);
                    i64::try_from(shifted).ok()
                });
                self.scale(&mut sample, Number::Int(masked.unwrap_or(number)), factor);
            }
            modbus::Value::Float(number) => self.scale(&mut sample, Number::Float(number), factor),
        }
        sample
    }

    fn scale(&self, sample: &mut Sample, raw: Number, factor: Factor) {
        let scaled = match self.scaling {
            Scaling::None if self.scale_from.is_some() => match factor {
                Factor::Power(power) => Number::Float(by_power(raw.as_float(), power)),
                Factor::Missing(code) => {
                    sample.verdict.add(Quality::Bad, code);
                    sample.status = Some("the point that holds the scale factor has no usable value".into());
                    return;
                }
            },
            Scaling::None => raw,
            Scaling::Linear { scale, offset } => linear(raw, scale, offset),
            Scaling::TwoPoint { raw: from, eng, outside, namur, root_cut_off } => {
                let share = (raw.as_float() - from.0) / (from.1 - from.0);
                if namur && !(-0.025..=1.0625).contains(&share) {
                    // 3.6 and 21 mA on the way from 4 to 20.
                    sample.verdict.add(Quality::Bad, reason::SENSOR_FAULT);
                    return;
                }
                let within = (0.0..=1.0).contains(&share);
                if !within {
                    let quality = if outside == Outside::Bad { Quality::Bad } else { Quality::Suspect };
                    sample.verdict.add(quality, reason::OUT_OF_SPAN);
                    if outside == Outside::Bad {
                        return;
                    }
                    if outside == Outside::Clip {
                        sample.verdict.add(Quality::Suspect, reason::CLAMPED);
                    }
                }
                let share = if outside == Outside::Clip { share.clamp(0.0, 1.0) } else { share };
                let share = match root_cut_off {
                    None => share,
                    Some(cut_off) => Some(share.max(0.0).sqrt()).filter(|root| *root >= cut_off).unwrap_or(0.0),
                };
                Number::Float(eng.0 + share * (eng.1 - eng.0))
            }
        };
        match scaled {
            Number::Int(number) => {
                sample.value = Value::Int(number);
                self.label(sample, number);
            }
            Number::Float(number) if number.is_finite() => sample.value = Value::Float(number + 0.0),
            Number::Float(_) => sample.verdict.add(Quality::Bad, reason::NAN_INF),
        }
    }

    /// The state text, where there are states (MB-15).
    fn label(&self, sample: &mut Sample, code: i64) {
        let Some(states) = &self.states else { return };
        sample.label = states.get(&code).cloned();
        if sample.label.is_none() {
            sample.verdict.add(Quality::Suspect, reason::UNKNOWN_ENUM);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    fn as_float(self) -> f64 {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "scaled values are float64 by definition (MB-12)")]
            Self::Int(number) => number as f64,
            Self::Float(number) => number,
        }
    }
}

/// Dividing by a power of ten gives the nearest number; multiplying by its reciprocal does not.
fn by_power(number: f64, power: i8) -> f64 {
    let factor = 10_f64.powi(i32::from(power.unsigned_abs()));
    if power < 0 { number / factor } else { number * factor }
}

/// Whole numbers stay whole if scale and offset are and nothing overflows.
fn linear(raw: Number, scale: f64, offset: f64) -> Number {
    if let Number::Int(number) = raw
        && let (Some(scale), Some(offset)) = (whole(scale), whole(offset))
        && let Some(result) = number.checked_mul(scale).and_then(|product| product.checked_add(offset))
    {
        return Number::Int(result);
    }
    // A scale such as 0.1 has no exact binary form; dividing by 10 gives 0.3 where multiplying gives 0.30000000000000004.
    let divisor = (1.0 / scale).round();
    let by_division = divisor.abs() > 1.0 && 1.0 / divisor == scale;
    let product = if by_division { raw.as_float() / divisor } else { raw.as_float() * scale };
    Number::Float(product + offset)
}

/// The number as an integer, if it is one that f64 holds exactly.
fn whole(number: f64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() != 0.0 || number.abs() > EXACT_MAX {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
    let integer = number as i64;
    Some(integer)
}

fn hex(registers: &[u16]) -> Box<str> {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(RAW_REGISTERS_MAX * 4);
    for register in registers.iter().take(RAW_REGISTERS_MAX) {
        // Writing to a String cannot fail.
        write!(text, "{register:04X}").unwrap_or_default();
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoding(kind: DataType) -> Decoding {
        Decoding { kind: Some(kind), ..Decoding::default() }
    }

    fn sample(decoding: &Decoding, registers: &[u16]) -> (Value, Quality, Option<&'static str>) {
        let sample = decoding.registers(0, registers, Timestamp::default());
        (sample.value, sample.verdict.quality(), sample.verdict.reason())
    }

    // AC-008
    #[test]
    fn two_points_and_beyond() {
        let scaling = Scaling::TwoPoint {
            raw: (0.0, 27648.0),
            eng: (0.0, 10.0),
            outside: Outside::Extrapolate,
            namur: false,
            root_cut_off: None,
        };
        let mut analog = Decoding { scaling, ..decoding(DataType::Int16) };
        assert_eq!(sample(&analog, &[13824]), (Value::Float(5.0), Quality::Good, None));
        let (Value::Float(beyond), quality, why) = sample(&analog, &[32767]) else { panic!() };
        assert!((beyond - 11.8515).abs() < 0.0001, "{beyond}");
        assert_eq!((quality, why), (Quality::Suspect, Some(reason::OUT_OF_SPAN)));
        analog.sentinels = vec![0x7FFF, 0x8000];
        assert_eq!(sample(&analog, &[32767]), (Value::Null, Quality::Bad, Some(reason::INVALID_SENTINEL)));
        assert_eq!(sample(&analog, &[13824]), (Value::Float(5.0), Quality::Good, None));
    }

    // MB-13
    #[test]
    fn outside_the_span_as_chosen() {
        let with = |outside, namur| Decoding {
            scaling: Scaling::TwoPoint { raw: (0.0, 1600.0), eng: (0.0, 100.0), outside, namur, root_cut_off: None },
            ..decoding(DataType::Int16)
        };
        let clipped = with(Outside::Clip, false).registers(0, &[2000], Timestamp::default());
        assert_eq!(clipped.value, Value::Float(100.0));
        assert_eq!(clipped.verdict.codes(), [reason::OUT_OF_SPAN, reason::CLAMPED]);
        assert_eq!(&*clipped.raw.unwrap(), "07D0");
        assert_eq!(sample(&with(Outside::Bad, false), &[2000]), (Value::Null, Quality::Bad, Some(reason::OUT_OF_SPAN)));
        // 3.5 mA of 4..20 is -50 of 0..1600; 3.7 mA is -30.
        let namur = with(Outside::Extrapolate, true);
        assert_eq!(sample(&namur, &[0xFFCE]), (Value::Null, Quality::Bad, Some(reason::SENSOR_FAULT)));
        assert_eq!(sample(&namur, &[0xFFE2]).1, Quality::Suspect);
    }

    // MB-14
    #[test]
    fn flow_from_differential_pressure() {
        let root = |cut| Decoding {
            scaling: Scaling::TwoPoint {
                raw: (0.0, 10_000.0),
                eng: (0.0, 50.0),
                outside: Outside::Extrapolate,
                namur: false,
                root_cut_off: Some(cut),
            },
            ..decoding(DataType::Int16)
        };
        assert_eq!(sample(&root(0.0), &[2500]), (Value::Float(25.0), Quality::Good, None));
        assert_eq!(sample(&root(0.0), &[1]).0, Value::Float(0.5));
        assert_eq!(sample(&root(0.02), &[1]).0, Value::Float(0.0));
        let below = sample(&root(0.0), &[0xFFF0]);
        assert_eq!(below, (Value::Float(0.0), Quality::Suspect, Some(reason::OUT_OF_SPAN)));
    }

    // MB-11, MB-09: the sentinel and the mask see the raw register; scale and label come after.
    #[test]
    fn sentinel_then_mask_then_scale_then_label() {
        let mask = Some(Mask { bits: 0x0FF0, shift: 4 });
        let masked = Decoding { mask, sentinels: vec![0x8000], ..decoding(DataType::Int16) };
        assert_eq!(sample(&masked, &[0xF12F]).0, Value::Int(0x12));
        assert_eq!(sample(&masked, &[0x8000]).2, Some(reason::INVALID_SENTINEL));
        let states = Some(BTreeMap::from([(36, Arc::from("run"))]));
        let scaling = Scaling::Linear { scale: 2.0, offset: 0.0 };
        let labelled = Decoding { scaling, states, ..masked };
        assert_eq!(labelled.registers(0, &[0xF12F], Timestamp::default()).label.as_deref(), Some("run"));
    }

    // MB-14
    #[test]
    fn factor_of_another_point() {
        let scaled = Decoding { scale_from: Some(7), ..decoding(DataType::Int16) };
        let with = |power| {
            let sample = scaled.registers_scaled(0, &[1234], Timestamp::default(), Factor::of(power));
            (sample.value, sample.verdict.reason())
        };
        assert_eq!(with(-2), (Value::Float(12.34), None));
        assert_eq!(with(3), (Value::Float(1_234_000.0), None));
        assert_eq!(with(0), (Value::Float(1234.0), None));
        assert_eq!(with(11), (Value::Null, Some(reason::DECODE_ERROR)));
        let missing = Factor::Missing(reason::TIMEOUT);
        let sample = scaled.registers_scaled(0, &[1234], Timestamp::default(), missing);
        assert_eq!((sample.verdict.quality(), sample.verdict.reason()), (Quality::Bad, Some(reason::TIMEOUT)));
        assert_eq!(scaled.value_type(), ValueType::Float);
    }

    // MB-12
    #[test]
    fn integers_stay_integers_when_they_can() {
        let with = |scale, offset| Decoding { scaling: Scaling::Linear { scale, offset }, ..decoding(DataType::Int16) };
        assert_eq!(sample(&with(10.0, 5.0), &[3]).0, Value::Int(35));
        assert_eq!(with(10.0, 5.0).value_type(), ValueType::Int);
        assert_eq!(sample(&with(0.1, 0.0), &[3]).0, Value::Float(0.3));
        assert_eq!(with(0.1, 0.0).value_type(), ValueType::Float);
        assert_eq!(sample(&with(-0.01, 1.0), &[50]).0, Value::Float(0.5));
        let huge = Decoding { scaling: Scaling::Linear { scale: 4.0, offset: 0.0 }, ..decoding(DataType::Int64) };
        assert!(matches!(sample(&huge, &[0x7FFF, 0, 0, 0]).0, Value::Float(_)));
        let overflow =
            Decoding { scaling: Scaling::Linear { scale: 1e300, offset: 0.0 }, ..decoding(DataType::Float64) };
        let large: [u16; 4] = Order::Abcd.disassemble(1e300f64.to_bits());
        assert_eq!(sample(&overflow, &large), (Value::Null, Quality::Bad, Some(reason::NAN_INF)));
    }

    // AC-011
    #[test]
    fn unknown_state_is_published_and_marked() {
        let states = BTreeMap::from([(0, Arc::from("stop")), (1, Arc::from("run"))]);
        let state = Decoding { states: Some(states), ..decoding(DataType::Uint16) };
        let known = state.registers(0, &[1], Timestamp::default());
        assert_eq!((known.value, known.label.as_deref()), (Value::Int(1), Some("run")));
        let unknown = state.registers(0, &[7], Timestamp::default());
        assert_eq!((unknown.value, unknown.label), (Value::Int(7), None));
        assert_eq!(unknown.verdict.reason(), Some(reason::UNKNOWN_ENUM));
        assert_eq!(unknown.verdict.quality(), Quality::Suspect);
    }

    // AC-005, AC-006, AC-009
    #[test]
    fn defects_have_their_reasons() {
        let large = decoding(DataType::Uint64);
        let (value, quality, why) = sample(&large, &[0xFFFF; 4]);
        assert_eq!(value, Value::Float(1.844_674_407_370_955_2e19));
        assert_eq!((quality, why), (Quality::Suspect, Some(reason::PRECISION_LOSS)));
        let bcd = decoding(DataType::Bcd16);
        assert_eq!(sample(&bcd, &[0x12A4]), (Value::Null, Quality::Bad, Some(reason::DECODE_ERROR)));
        let float = decoding(DataType::Float32);
        assert_eq!(sample(&float, &[0x7FC0, 0]), (Value::Null, Quality::Bad, Some(reason::NAN_INF)));
    }

    #[test]
    fn booleans() {
        let strict = Decoding { strict_bool: true, ..decoding(DataType::Bool) };
        assert_eq!(sample(&strict, &[1]), (Value::Bool(true), Quality::Good, None));
        assert_eq!(sample(&strict, &[5]), (Value::Bool(true), Quality::Suspect, Some(reason::UNKNOWN_ENUM)));
        let inverted = Decoding { invert: true, ..Decoding::default() };
        assert_eq!(inverted.bit(0, true, Timestamp::default()).value, Value::Bool(false));
    }
}
