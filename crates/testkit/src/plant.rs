//! The demo plant. Over Modbus a press, a boiler and a pump with a sensor that misbehaves, 60 tags in all; over OPC UA a
//! filling line, over MQTT a compressor, a hall and a wrapping machine, 15 points each.
//!
//! One table per machine says what each tag is called, where it lies, how it is coded and how it moves; the registers
//! a simulator serves and the adapter settings that read them are both made from it, so they cannot disagree.
//! Everything is a pure function of the time since start: the same second always shows the same plant.
//!
//! Where to look next: `machines` for the tables of the Modbus devices, [`points`] for those of the others, `signal` for
//! how things move.

mod machines;
pub mod points;
mod signal;

use modbus::{Data, Exception, Order, Read, Table};
use serde_json::{Map, Value, json};

use crate::sim::modbus::{Image, Model};
pub use signal::Moment;

/// How a tag is coded in the device.
#[derive(Debug, Clone, Copy)]
enum Coding {
    Float32(Order),
    /// The device holds the value divided by `scale`.
    Int16 {
        scale: f64,
    },
    Uint16 {
        scale: f64,
    },
    Int32,
    Uint32 {
        scale: f64,
    },
    /// A number with a meaning per value.
    State(&'static [(u16, &'static str)]),
    /// A coil or discrete input; the signal is above 0.5 when it is set.
    Bool,
    /// Characters that do not change, and the registers kept for them.
    Text {
        text: &'static str,
        registers: u16,
    },
}

/// One tag of a machine.
#[derive(Debug, Clone, Copy)]
struct Tag {
    parameter: &'static str,
    table: Table,
    offset: u16,
    coding: Coding,
    /// Empty for tags without one.
    unit: &'static str,
    signal: fn(Moment) -> f64,
}

/// A machine: one unit id, one asset, one adapter.
#[derive(Debug, Clone, Copy)]
struct Machine {
    unit: u8,
    adapter_id: &'static str,
    asset_id: &'static str,
    period_ms: u32,
    tags: &'static [Tag],
}

/// The registers and bits of a unit at a moment; `None` for a unit the plant does not have.
pub fn registers(unit: u8, t_ms: u64) -> Option<Image> {
    let machine = machines::ALL.iter().find(|machine| machine.unit == unit)?;
    let mut image = Image::default();
    for tag in machine.tags {
        tag.write(Moment::at_ms(t_ms), &mut image);
    }
    Some(image)
}

/// Settings of the three adapters that read the whole plant from a simulator on this machine.
pub fn demo_adapters(port: u16) -> Vec<Value> {
    machines::ALL.iter().map(|machine| machine.adapter(port)).collect()
}

/// The plant as something a simulator can answer from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plant;

impl Plant {
    /// The plant at its first second.
    pub fn new() -> Self {
        Self
    }
}

impl Model for Plant {
    fn read(&self, read: Read, t_ms: u64) -> Result<Data, Exception> {
        registers(read.unit(), t_ms).ok_or(Exception::TARGET_FAILED)?.read(read)
    }
}

impl Machine {
    fn adapter(&self, port: u16) -> Value {
        json!({
            "adapter_id": self.adapter_id,
            "adapter_type": "modbus_tcp",
            "host": "127.0.0.1",
            "port": port,
            "unit_id": self.unit,
            "asset_id": self.asset_id,
            "groups": { "default": { "period_ms": self.period_ms } },
            "points": self.tags.iter().map(Tag::point).collect::<Vec<_>>(),
        })
    }
}

impl Tag {
    fn write(&self, now: Moment, image: &mut Image) {
        let value = (self.signal)(now);
        let mut put = |registers: &[u16]| image.put(self.table, self.offset, registers);
        match self.coding {
            #[expect(clippy::cast_possible_truncation, reason = "the device has single precision")]
            Coding::Float32(order) => put(&order.disassemble::<2>((value as f32).to_bits().into())),
            Coding::Int16 { scale } => {
                let raw = whole(value / scale).clamp(i16::MIN.into(), i16::MAX.into());
                put(&[i16::try_from(raw).unwrap_or_default().cast_unsigned()]);
            }
            Coding::Uint16 { scale } => {
                put(&[u16::try_from(whole(value / scale).clamp(0, u16::MAX.into())).unwrap_or_default()]);
            }
            Coding::Int32 => {
                let raw = i32::try_from(whole(value)).unwrap_or_default().cast_unsigned();
                put(&Order::Abcd.disassemble::<2>(raw.into()));
            }
            Coding::Uint32 { scale } => {
                // Counters roll over as the device's do.
                let raw = whole(value / scale).rem_euclid(1 << 32);
                put(&Order::Abcd.disassemble::<2>(u64::try_from(raw).unwrap_or_default()));
            }
            Coding::State(_) => put(&[u16::try_from(whole(value)).unwrap_or_default()]),
            Coding::Bool => image.put_bits(self.table, self.offset, &[value > 0.5]),
            Coding::Text { text, registers } => put(&characters(text, registers)),
        }
    }

    /// The tag as a point of an adapter's settings.
    fn point(&self) -> Value {
        let mut point = Map::new();
        let mut set = |key: &str, value: Value| {
            point.insert(key.to_owned(), value);
        };
        set("parameter", json!(self.parameter));
        let location = modbus::Location { table: self.table, offset: self.offset, bit: None };
        set("address", json!(location.modicon()));
        let (kind, scale) = match self.coding {
            Coding::Float32(_) => ("float32", 1.0),
            Coding::Int16 { scale } => ("int16", scale),
            Coding::Uint16 { scale } => ("uint16", scale),
            Coding::Int32 => ("int32", 1.0),
            Coding::Uint32 { scale } => ("uint32", scale),
            Coding::State(_) => ("uint16", 1.0),
            Coding::Bool => ("bool", 1.0),
            Coding::Text { .. } => ("string", 1.0),
        };
        set("type", json!(kind));
        if scale != 1.0 {
            set("scale", json!(scale));
        }
        if !self.unit.is_empty() {
            set("unit", json!(self.unit));
        }
        match self.coding {
            Coding::Float32(order) if order != Order::Abcd => set("order", json!(order.name())),
            Coding::State(states) => {
                let labels = states.iter().map(|(code, label)| (code.to_string(), json!(label))).collect::<Map<_, _>>();
                set("states", Value::Object(labels));
            }
            Coding::Text { registers, .. } => set("registers", json!(registers)),
            _ => {}
        }
        Value::Object(point)
    }
}

/// Two characters per register, the rest filled with NUL.
fn characters(text: &str, registers: u16) -> Vec<u16> {
    let mut bytes = text.bytes().chain(std::iter::repeat(0));
    (0..registers).map(|_| u16::from_be_bytes([bytes.next().unwrap_or(0), bytes.next().unwrap_or(0)])).collect()
}

/// Rounds; what is no number is 0, as in a device's integer.
fn whole(value: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and NaN becomes 0: what an integer register shows")]
    let whole = value.round() as i64;
    whole
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn tag(machine: usize, parameter: &str) -> &'static Tag {
        machines::ALL[machine].tags.iter().find(|tag| tag.parameter == parameter).unwrap()
    }

    #[test]
    fn three_machines_sixty_tags_no_overlap() {
        assert_eq!(machines::ALL.iter().map(|machine| machine.tags.len()).sum::<usize>(), 60);
        for machine in machines::ALL {
            let mut taken = BTreeSet::new();
            let mut names = BTreeSet::new();
            for tag in machine.tags {
                assert!(names.insert(tag.parameter), "{} twice", tag.parameter);
                let count = match tag.coding {
                    Coding::Float32(_) | Coding::Int32 | Coding::Uint32 { .. } => 2,
                    Coding::Text { registers, .. } => registers,
                    _ => 1,
                };
                assert_eq!(matches!(tag.coding, Coding::Bool), tag.table.holds_bits(), "{}", tag.parameter);
                for offset in tag.offset..tag.offset + count {
                    assert!(taken.insert((tag.table, offset)), "{} overlaps", tag.parameter);
                }
            }
        }
    }

    #[test]
    fn the_same_moment_shows_the_same_plant_and_another_one_a_different() {
        for unit in 1..=3 {
            assert_eq!(registers(unit, 123_456), registers(unit, 123_456));
            assert_ne!(registers(unit, 1000), registers(unit, 3000));
        }
        assert_eq!(registers(4, 0), None);
    }

    #[test]
    fn the_pump_gives_the_validator_something_to_catch() {
        let vibration = tag(2, "vibration_de").signal;
        let at = |seconds: u64| vibration(Moment::at_ms(seconds * 1000));
        let cycle: Vec<f64> = (0..180).map(at).collect();
        assert!(cycle.iter().any(|value| value.is_nan()), "no NaN");
        assert!(cycle.iter().any(|value| *value > 6000.0), "nothing out of range");
        assert!(cycle.iter().any(|value| (20.0..100.0).contains(value)), "no spike");
        assert!(cycle.windows(10).any(|run| run.iter().all(|value| *value == run[0])), "never frozen");
        let usual = cycle.iter().filter(|value| (0.5..6.0).contains(*value)).count();
        assert!(usual > 100, "mostly well: {usual} of 180");
    }

    #[test]
    fn honest_machines_stay_honest() {
        for machine in &machines::ALL[..2] {
            for tag in machine.tags {
                for second in 0..2000 {
                    assert!((tag.signal)(Moment::at_ms(second * 500)).is_finite(), "{}", tag.parameter);
                }
            }
        }
    }

    #[test]
    fn counters_never_go_back() {
        for (machine, parameter) in [(0, "parts_total"), (1, "gas_total"), (2, "volume_total")] {
            let signal = tag(machine, parameter).signal;
            let values: Vec<i64> = (0..3000).map(|tenth| whole(signal(Moment::at_ms(tenth * 100)))).collect();
            assert!(values.is_sorted(), "{parameter}");
            assert!(values[2999] > values[0], "{parameter}");
        }
    }
}
