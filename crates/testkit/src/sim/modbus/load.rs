//! Units full of floats, for load tests: value of point n of unit u at time t, nothing stored.

use modbus::{Data, Exception, Order, Read};
use serde_json::{Value, json};

use super::Model;

/// A range of units, each holding `points` float32 values (ABCD) from holding register 1.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// First unit id.
    pub first_unit: u8,
    /// Number of units; 0 for none.
    pub units: u8,
    /// Values per unit, at most 32768.
    pub points: u16,
}

impl Load {
    /// True if the unit id is one of these.
    pub fn has(&self, unit: u8) -> bool {
        unit.checked_sub(self.first_unit).is_some_and(|place| place < self.units)
    }

    /// The value of a point: a slow wave, so that each reading differs from the one before.
    pub fn value(unit: u8, point: u16, t_ms: u64) -> f32 {
        // Whole milliseconds of a cycle are exact in f32; the cycle is 1000 s long.
        let phase = u32::try_from(t_ms % 1_000_000).unwrap_or_default();
        let turn = f64::from(phase) / 10_000.0 + f64::from(point) * 0.01 + f64::from(unit);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a simulated measurement needs no more than single precision"
        )]
        let value = (50.0 + 40.0 * turn.sin()) as f32;
        value
    }

    /// Settings of the adapter that reads one of these units completely.
    pub fn adapter(&self, port: u16, unit: u8, period_ms: u64) -> Value {
        let points: Vec<Value> = (0..self.points)
            .map(|point| {
                json!({
                    "parameter": format!("value_{point:05}"),
                    "address": { "table": "holding", "offset": u32::from(point) * 2 },
                    "type": "float32",
                })
            })
            .collect();
        json!({
            "adapter_id": format!("adapter_load_{unit:03}"),
            "adapter_type": "modbus_tcp",
            "host": "127.0.0.1",
            "port": port,
            "unit_id": unit,
            "asset_id": format!("load_{unit:03}"),
            "groups": { "default": { "period_ms": period_ms } },
            "points": points,
        })
    }
}

impl Model for Load {
    fn read(&self, read: Read, t_ms: u64) -> Result<Data, Exception> {
        if !self.has(read.unit()) {
            return Err(Exception::TARGET_FAILED);
        }
        let end = u32::from(read.offset()) + u32::from(read.count());
        if read.table().holds_bits() || end > u32::from(self.points) * 2 {
            return Err(Exception::ILLEGAL_ADDRESS);
        }
        let register = |offset: u32| {
            let point = u16::try_from(offset / 2).unwrap_or(u16::MAX);
            let bits = Self::value(read.unit(), point, t_ms).to_bits();
            let words = Order::Abcd.disassemble::<2>(u64::from(bits));
            if offset.is_multiple_of(2) { words[0] } else { words[1] }
        };
        Ok(Data::Registers((u32::from(read.offset())..end).map(register).collect()))
    }
}
