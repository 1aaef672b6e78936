//! The three machines, tag by tag: name, place, coding, unit and movement.
//!
//! Places follow one another without gaps inside a table, so each machine is read in a handful of requests.

use modbus::{Order, Table};

use super::signal::{Moment, PRESS_CYCLE_S, Trouble, boiler_load, press_load, press_phase, press_stroke, pump_speed};
use super::{Coding, Machine, Tag};

/// All machines by unit id.
pub(super) const ALL: &[Machine] = &[
    Machine { unit: 1, adapter_id: "adapter_press", asset_id: "line_1_press_01", period_ms: 500, tags: PRESS },
    Machine { unit: 2, adapter_id: "adapter_boiler", asset_id: "utilities_boiler_01", period_ms: 1000, tags: BOILER },
    Machine { unit: 3, adapter_id: "adapter_pump", asset_id: "utilities_pump_01", period_ms: 1000, tags: PUMP },
];

const PRESS_STATES: &[(u16, &str)] = &[(0, "waiting"), (1, "closing"), (2, "pressing"), (3, "opening")];
const BURNER_STATES: &[(u16, &str)] = &[(0, "off"), (1, "purging"), (2, "igniting"), (3, "running"), (4, "locked out")];

/// The drive-end vibration sensor of the pump has a loose connector.
const VIBRATION_TROUBLE: Trouble = Trouble {
    cycle_s: 90,
    spike: (10, 12),
    spike_by: 38.0,
    frozen: (25, 40),
    out_of_range: (50, 52),
    out_of_range_value: 6553.5,
    not_a_number: (60, 62),
};

/// The drive-end bearing thermometer breaks now and then.
const BEARING_TROUBLE: Trouble = Trouble {
    cycle_s: 140,
    spike: (30, 31),
    spike_by: 95.0,
    frozen: (70, 95),
    out_of_range: (110, 112),
    out_of_range_value: 3276.7,
    not_a_number: (120, 122),
};

fn vibration(t: Moment) -> f64 {
    2.3 + 0.5 * t.wave(47.0, 0.0) + 0.2 * t.noise(44)
}

fn bearing_temperature(t: Moment) -> f64 {
    39.0 + 18.0 * t.warm_up(900.0) + 0.5 * t.wave(75.0, 0.0) + 0.1 * t.noise(46)
}

const PRESS: &[Tag] = &[
    Tag {
        parameter: "ram_position",
        table: Table::HoldingRegister,
        offset: 0,
        coding: Coding::Float32(Order::Abcd),
        unit: "mm",
        signal: |t| 450.0 * (1.0 - press_stroke(t)),
    },
    Tag {
        parameter: "ram_speed",
        table: Table::HoldingRegister,
        offset: 2,
        coding: Coding::Float32(Order::Abcd),
        unit: "mm/s",
        signal: |t| if press_phase(t) == 1.0 || press_phase(t) == 3.0 { 150.0 + 4.0 * t.noise(2) } else { 0.0 },
    },
    Tag {
        parameter: "press_force",
        table: Table::HoldingRegister,
        offset: 4,
        coding: Coding::Float32(Order::Abcd),
        unit: "kN",
        signal: |t| 1200.0 * press_load(t) + 3.0 * t.noise(3),
    },
    Tag {
        parameter: "hydraulic_pressure",
        table: Table::HoldingRegister,
        offset: 6,
        coding: Coding::Float32(Order::Abcd),
        unit: "bar",
        signal: |t| 18.0 + 232.0 * press_load(t) + 1.5 * t.noise(4),
    },
    Tag {
        parameter: "oil_temperature",
        table: Table::HoldingRegister,
        offset: 8,
        coding: Coding::Float32(Order::Abcd),
        unit: "celsius",
        signal: |t| 24.0 + 28.0 * t.warm_up(1200.0) + 0.8 * t.wave(95.0, 0.0) + 0.1 * t.noise(5),
    },
    Tag {
        parameter: "motor_current",
        table: Table::HoldingRegister,
        offset: 10,
        coding: Coding::Float32(Order::Abcd),
        unit: "ampere",
        signal: |t| 21.0 + 64.0 * press_load(t) + 12.0 * press_stroke(t) + 0.6 * t.noise(6),
    },
    Tag {
        parameter: "tool_temperature",
        table: Table::HoldingRegister,
        offset: 12,
        coding: Coding::Float32(Order::Abcd),
        unit: "celsius",
        signal: |t| 60.0 + 115.0 * t.warm_up(600.0) + 2.0 * press_load(t) + 0.2 * t.noise(8),
    },
    Tag {
        parameter: "die_gap",
        table: Table::HoldingRegister,
        offset: 14,
        coding: Coding::Float32(Order::Cdab),
        unit: "mm",
        signal: |t| 0.35 + 0.02 * t.wave(300.0, 1.0) + 0.002 * t.noise(9),
    },
    Tag {
        parameter: "vibration",
        table: Table::HoldingRegister,
        offset: 16,
        coding: Coding::Float32(Order::Cdab),
        unit: "mm/s",
        signal: |t| 1.1 + 1.6 * press_load(t) + 0.15 * t.noise(10),
    },
    Tag {
        parameter: "motor_power",
        table: Table::HoldingRegister,
        offset: 18,
        coding: Coding::Float32(Order::Abcd),
        unit: "kilowatt",
        signal: |t| 9.0 + 41.0 * press_load(t) + 5.0 * press_stroke(t) + 0.4 * t.noise(11),
    },
    Tag {
        parameter: "parts_total",
        table: Table::HoldingRegister,
        offset: 20,
        coding: Coding::Uint32 { scale: 1.0 },
        unit: "parts",
        signal: |t| 184_200.0 + t.turns(PRESS_CYCLE_S),
    },
    Tag {
        parameter: "parts_rejected",
        table: Table::HoldingRegister,
        offset: 22,
        coding: Coding::Uint32 { scale: 1.0 },
        unit: "parts",
        signal: |t| 912.0 + t.turns(PRESS_CYCLE_S * 37),
    },
    Tag {
        parameter: "cycle_time",
        table: Table::HoldingRegister,
        offset: 24,
        coding: Coding::Uint16 { scale: 1.0 },
        unit: "ms",
        signal: |t| 12_000.0 + 40.0 * t.wave(180.0, 0.0) + 15.0 * t.noise(12),
    },
    Tag {
        parameter: "state",
        table: Table::HoldingRegister,
        offset: 25,
        coding: Coding::State(PRESS_STATES),
        unit: "",
        signal: |t| press_phase(t),
    },
    Tag {
        parameter: "oil_level",
        table: Table::HoldingRegister,
        offset: 26,
        coding: Coding::Int16 { scale: 0.1 },
        unit: "percent",
        signal: |t| 78.0 - 0.5 * press_stroke(t) + 0.1 * t.wave(400.0, 0.0),
    },
    Tag {
        parameter: "program",
        table: Table::HoldingRegister,
        offset: 27,
        coding: Coding::Text { text: "PRG-1042 HOUSING", registers: 8 },
        unit: "",
        signal: |_t| 0.0,
    },
    Tag { parameter: "hydraulics_on", table: Table::Coil, offset: 0, coding: Coding::Bool, unit: "", signal: |_t| 1.0 },
    Tag { parameter: "automatic", table: Table::Coil, offset: 1, coding: Coding::Bool, unit: "", signal: |_t| 1.0 },
    Tag {
        parameter: "guard_closed",
        table: Table::DiscreteInput,
        offset: 0,
        coding: Coding::Bool,
        unit: "",
        signal: |t| if press_phase(t) == 0.0 && t.turns(PRESS_CYCLE_S) % 5.0 == 4.0 { 0.0 } else { 1.0 },
    },
    Tag {
        parameter: "emergency_stop",
        table: Table::DiscreteInput,
        offset: 1,
        coding: Coding::Bool,
        unit: "",
        signal: |_t| 0.0,
    },
];

const BOILER: &[Tag] = &[
    Tag {
        parameter: "steam_pressure",
        table: Table::InputRegister,
        offset: 0,
        coding: Coding::Float32(Order::Abcd),
        unit: "bar",
        signal: |t| 9.8 + 0.35 * t.wave(140.0, 0.0) + 0.4 * (0.62 - boiler_load(t)) + 0.01 * t.noise(21),
    },
    Tag {
        parameter: "steam_temperature",
        table: Table::InputRegister,
        offset: 2,
        coding: Coding::Float32(Order::Abcd),
        unit: "celsius",
        signal: |t| 184.0 + 2.6 * t.wave(140.0, 0.1) + 0.1 * t.noise(22),
    },
    Tag {
        parameter: "feedwater_temperature",
        table: Table::InputRegister,
        offset: 4,
        coding: Coding::Float32(Order::Abcd),
        unit: "celsius",
        signal: |t| 103.0 + 1.2 * t.wave(380.0, 0.0) + 0.1 * t.noise(23),
    },
    Tag {
        parameter: "flue_gas_temperature",
        table: Table::InputRegister,
        offset: 6,
        coding: Coding::Float32(Order::Abcd),
        unit: "celsius",
        signal: |t| 152.0 + 58.0 * boiler_load(t) + 0.6 * t.noise(24),
    },
    Tag {
        parameter: "flue_gas_oxygen",
        table: Table::InputRegister,
        offset: 8,
        coding: Coding::Float32(Order::Abcd),
        unit: "percent",
        signal: |t| 4.6 - 1.7 * boiler_load(t) + 0.08 * t.noise(25),
    },
    Tag {
        parameter: "furnace_pressure",
        table: Table::InputRegister,
        offset: 10,
        coding: Coding::Float32(Order::Abcd),
        unit: "pascal",
        signal: |t| -45.0 + 9.0 * t.wave(17.0, 0.0) + 3.0 * t.noise(26),
    },
    Tag {
        parameter: "gas_flow",
        table: Table::InputRegister,
        offset: 12,
        coding: Coding::Float32(Order::Cdab),
        unit: "m3/h",
        signal: |t| 610.0 * boiler_load(t) + 2.0 * t.noise(27),
    },
    Tag {
        parameter: "feedwater_flow",
        table: Table::InputRegister,
        offset: 14,
        coding: Coding::Float32(Order::Cdab),
        unit: "t/h",
        signal: |t| 8.3 * boiler_load(t) + 0.25 * t.wave(45.0, 0.0) + 0.03 * t.noise(28),
    },
    Tag {
        parameter: "steam_flow",
        table: Table::InputRegister,
        offset: 16,
        coding: Coding::Float32(Order::Abcd),
        unit: "t/h",
        signal: |t| 8.0 * boiler_load(t) + 0.04 * t.noise(29),
    },
    Tag {
        parameter: "drum_level",
        table: Table::HoldingRegister,
        offset: 0,
        coding: Coding::Int16 { scale: 0.1 },
        unit: "percent",
        signal: |t| 51.0 + 3.5 * t.wave(45.0, 0.5) + 0.3 * t.noise(30),
    },
    Tag {
        parameter: "pressure_setpoint",
        table: Table::HoldingRegister,
        offset: 1,
        coding: Coding::Int16 { scale: 0.1 },
        unit: "bar",
        signal: |_t| 9.8,
    },
    Tag {
        parameter: "burner_load",
        table: Table::HoldingRegister,
        offset: 2,
        coding: Coding::Uint16 { scale: 0.1 },
        unit: "percent",
        signal: |t| 100.0 * boiler_load(t),
    },
    Tag {
        parameter: "burner_state",
        table: Table::HoldingRegister,
        offset: 3,
        coding: Coding::State(BURNER_STATES),
        unit: "",
        signal: |t| {
            if t.seconds() < 10.0 {
                1.0
            } else if t.seconds() < 20.0 {
                2.0
            } else {
                3.0
            }
        },
    },
    Tag {
        parameter: "conductivity",
        table: Table::HoldingRegister,
        offset: 4,
        coding: Coding::Uint16 { scale: 1.0 },
        unit: "uS/cm",
        signal: |t| 2450.0 + 180.0 * t.wave(600.0, 0.0) + 10.0 * t.noise(31),
    },
    Tag {
        parameter: "gas_total",
        table: Table::HoldingRegister,
        offset: 5,
        coding: Coding::Uint32 { scale: 1.0 },
        unit: "m3",
        signal: |t| 4_812_300.0 + t.seconds() * 378.0 / 3600.0,
    },
    Tag {
        parameter: "steam_total",
        table: Table::HoldingRegister,
        offset: 7,
        coding: Coding::Uint32 { scale: 0.1 },
        unit: "t",
        signal: |t| 61_204.0 + t.seconds() * 5.0 / 3600.0,
    },
    Tag {
        parameter: "operating_hours",
        table: Table::HoldingRegister,
        offset: 9,
        coding: Coding::Uint32 { scale: 0.01 },
        unit: "h",
        signal: |t| 31_877.0 + t.seconds() / 3600.0,
    },
    Tag {
        parameter: "heat_balance",
        table: Table::HoldingRegister,
        offset: 11,
        coding: Coding::Int32,
        unit: "kilowatt",
        signal: |t| 260.0 * t.wave(210.0, 0.0) - 40.0,
    },
    Tag {
        parameter: "burner_on",
        table: Table::DiscreteInput,
        offset: 0,
        coding: Coding::Bool,
        unit: "",
        signal: |t| if t.seconds() < 20.0 { 0.0 } else { 1.0 },
    },
    Tag {
        parameter: "low_water",
        table: Table::DiscreteInput,
        offset: 1,
        coding: Coding::Bool,
        unit: "",
        signal: |_t| 0.0,
    },
];

const PUMP: &[Tag] = &[
    Tag {
        parameter: "flow",
        table: Table::HoldingRegister,
        offset: 0,
        coding: Coding::Float32(Order::Abcd),
        unit: "m3/h",
        signal: |t| 182.0 * pump_speed(t) + 1.2 * t.noise(41),
    },
    Tag {
        parameter: "discharge_pressure",
        table: Table::HoldingRegister,
        offset: 2,
        coding: Coding::Float32(Order::Abcd),
        unit: "bar",
        signal: |t| 6.4 * pump_speed(t) * pump_speed(t) + 0.02 * t.noise(42),
    },
    Tag {
        parameter: "suction_pressure",
        table: Table::HoldingRegister,
        offset: 4,
        coding: Coding::Float32(Order::Abcd),
        unit: "bar",
        signal: |t| 1.1 - 0.1 * pump_speed(t) + 0.005 * t.noise(43),
    },
    Tag {
        parameter: "vibration_de",
        table: Table::HoldingRegister,
        offset: 6,
        coding: Coding::Float32(Order::Abcd),
        unit: "mm/s",
        signal: |t| VIBRATION_TROUBLE.show(t, vibration),
    },
    Tag {
        parameter: "vibration_nde",
        table: Table::HoldingRegister,
        offset: 8,
        coding: Coding::Float32(Order::Abcd),
        unit: "mm/s",
        signal: |t| 1.7 + 0.25 * t.wave(53.0, 0.0) + 0.1 * t.noise(45),
    },
    Tag {
        parameter: "bearing_temperature_de",
        table: Table::HoldingRegister,
        offset: 10,
        coding: Coding::Float32(Order::Abcd),
        unit: "celsius",
        signal: |t| BEARING_TROUBLE.show(t, bearing_temperature),
    },
    Tag {
        parameter: "bearing_temperature_nde",
        table: Table::HoldingRegister,
        offset: 12,
        coding: Coding::Float32(Order::Abcd),
        unit: "celsius",
        signal: |t| 38.0 + 14.0 * t.warm_up(900.0) + 0.1 * t.noise(47),
    },
    Tag {
        parameter: "motor_temperature",
        table: Table::HoldingRegister,
        offset: 14,
        coding: Coding::Float32(Order::Abcd),
        unit: "celsius",
        signal: |t| 41.0 + 33.0 * t.warm_up(1500.0) + 0.2 * t.noise(48),
    },
    Tag {
        parameter: "motor_current",
        table: Table::HoldingRegister,
        offset: 16,
        coding: Coding::Float32(Order::Cdab),
        unit: "ampere",
        signal: |t| 68.0 * pump_speed(t) * pump_speed(t) + 0.4 * t.noise(49),
    },
    Tag {
        parameter: "motor_power",
        table: Table::HoldingRegister,
        offset: 18,
        coding: Coding::Float32(Order::Cdab),
        unit: "kilowatt",
        signal: |t| 37.0 * pump_speed(t).powi(3) + 0.2 * t.noise(50),
    },
    Tag {
        parameter: "efficiency",
        table: Table::HoldingRegister,
        offset: 20,
        coding: Coding::Float32(Order::Abcd),
        unit: "percent",
        signal: |t| 71.0 + 2.0 * t.wave(240.0, 0.4) + 0.2 * t.noise(51),
    },
    Tag {
        parameter: "speed",
        table: Table::HoldingRegister,
        offset: 22,
        coding: Coding::Uint16 { scale: 1.0 },
        unit: "rpm",
        signal: |t| 2950.0 * pump_speed(t) + 2.0 * t.noise(52),
    },
    Tag {
        parameter: "frequency",
        table: Table::HoldingRegister,
        offset: 23,
        coding: Coding::Uint16 { scale: 0.01 },
        unit: "hertz",
        signal: |t| 50.0 * pump_speed(t),
    },
    Tag {
        parameter: "operating_hours",
        table: Table::HoldingRegister,
        offset: 24,
        coding: Coding::Uint32 { scale: 0.01 },
        unit: "h",
        signal: |t| 18_240.0 + t.seconds() / 3600.0,
    },
    Tag {
        parameter: "starts_total",
        table: Table::HoldingRegister,
        offset: 26,
        coding: Coding::Uint32 { scale: 1.0 },
        unit: "starts",
        signal: |t| 1_207.0 + t.turns(3600),
    },
    Tag {
        parameter: "volume_total",
        table: Table::HoldingRegister,
        offset: 28,
        coding: Coding::Uint32 { scale: 1.0 },
        unit: "m3",
        signal: |t| 2_914_000.0 + t.seconds() * 167.0 / 3600.0,
    },
    Tag {
        parameter: "valve_position",
        table: Table::HoldingRegister,
        offset: 30,
        coding: Coding::Int16 { scale: 0.1 },
        unit: "percent",
        signal: |t| 74.0 + 6.0 * t.wave(240.0, 0.0),
    },
    Tag {
        parameter: "axial_shift",
        table: Table::HoldingRegister,
        offset: 31,
        coding: Coding::Int32,
        unit: "um",
        signal: |t| -35.0 + 12.0 * t.wave(61.0, 0.0) + 4.0 * t.noise(54),
    },
    Tag { parameter: "running", table: Table::Coil, offset: 0, coding: Coding::Bool, unit: "", signal: |_t| 1.0 },
    Tag {
        parameter: "seal_leak",
        table: Table::DiscreteInput,
        offset: 0,
        coding: Coding::Bool,
        unit: "",
        signal: |t| if t.within(600) > 540.0 { 1.0 } else { 0.0 },
    },
];
