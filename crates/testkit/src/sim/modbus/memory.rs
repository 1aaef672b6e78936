//! Registers a test sets and changes while the simulator runs.

use std::collections::BTreeMap;
use std::sync::Mutex;

use modbus::{Data, Exception, Read, Table};

use super::{Image, Model, lock};

/// Content of several units. A unit that was never written answers "gateway target failed".
#[derive(Debug, Default)]
pub struct Memory {
    units: Mutex<BTreeMap<u8, Image>>,
}

impl Memory {
    /// Puts holding registers at an offset of a unit.
    pub fn holding(&self, unit: u8, offset: u16, registers: &[u16]) {
        lock(&self.units).entry(unit).or_default().put(Table::HoldingRegister, offset, registers);
    }

    /// Puts input registers at an offset of a unit.
    pub fn input(&self, unit: u8, offset: u16, registers: &[u16]) {
        lock(&self.units).entry(unit).or_default().put(Table::InputRegister, offset, registers);
    }

    /// Puts coils or discrete inputs at an offset of a unit.
    pub fn bits(&self, unit: u8, table: Table, offset: u16, bits: &[bool]) {
        lock(&self.units).entry(unit).or_default().put_bits(table, offset, bits);
    }
}

impl Model for Memory {
    fn read(&self, read: Read, _t_ms: u64) -> Result<Data, Exception> {
        lock(&self.units).get(&read.unit()).ok_or(Exception::TARGET_FAILED)?.read(read)
    }
}
