//! Fixed records, one per contract, that never change: what the golden files hold.

use std::sync::{Arc, LazyLock};

use model::aggregate::{Carry, Coverage, Extra, Partials, StateTimes, States, Times};
use model::{
    Aggregate, Alarm, AlarmChange, Classification, Kind, Quality, Reading, Resolution, Statistics, TextList, TextMap,
    Timestamp, Value, ValueType,
};
use stream::message::dead_letter::Headers;
use stream::message::{DeadLetter, Event, aggregate};

pub(crate) fn time(offset_micros: i64) -> Timestamp {
    Timestamp::parse_rfc3339("2026-01-29T10:00:00.123Z").expect("a fixed time").plus_micros(offset_micros)
}

pub(crate) fn reading() -> Reading<'static> {
    Reading {
        asset_id: "line_1_sensor_01",
        asset_path: Some("acme/north/press-shop/line-1/cell-2"),
        parameter: "temperature",
        value: Value::Float(85.4),
        value_type: ValueType::Float,
        value_label: None,
        unit: Some("celsius"),
        quality: Quality::Good,
        quality_reason: None,
        reasons: TextList::Slice(&["OUT_OF_SPAN"]),
        classification: Classification::Telemetry,
        device_time: time(0),
        gateway_time: time(333_000),
        time_source: model::time_source::ACQUISITION,
        clock_state: "SYNCED",
        clock_skew_ms: Some(333),
        epoch: 3,
        seq: 41_256,
        flags: TextList::Slice(&["initial", "gap_before"]),
        metadata: TextMap::Slice(&[
            ("gateway_id", "gw-1"),
            ("adapter_id", "adapter_modbus_001"),
            ("source_ref", "u=1;fc=3;a=0"),
        ]),
        tags: TextMap::Slice(&[("line", "1")]),
    }
}

pub(crate) fn aggregate() -> Aggregate<'static> {
    let statistics = Statistics {
        count: 6000,
        sum: 20_520.0,
        mean: 3.42,
        m2: 12.5,
        min: 2.91,
        min_time: time(1),
        max: 4.15,
        max_time: time(2),
        first: 3.0,
        first_time: time(0),
        last: 3.5,
        last_time: time(9),
        good_count: 5999,
        suspect_count: 1,
        uncertain_count: 0,
    };
    Aggregate {
        unit: Some("mm/s"),
        revision: 2,
        gateway_time: time(40_000_000),
        gateway_id: "gw-1",
        ..aggregate::plain(
            ("vibration_sensor_01", "vibration"),
            Resolution::Minute,
            time(0).window_start(60_000_000),
            statistics,
        )
    }
}

/// A corrected minute of a state, with everything that a window can have.
pub(crate) fn states() -> Aggregate<'static> {
    static TIMES: LazyLock<Vec<(Arc<str>, i64)>> =
        LazyLock::new(|| vec![("idle".into(), 20_000_000), ("run".into(), 30_500_000)]);
    let partials = Partials {
        statistics: Statistics {
            count: 3,
            good_count: 3,
            first_time: time(1),
            last_time: time(9),
            ..Default::default()
        },
        coverage: Some(Coverage { covered_us: 50_500_000, good_us: 50_000_000, integral: None }),
        extra: Extra::States(States { transitions: 2, first: "run", last: "run", times: StateTimes::Owned(&TIMES) }),
    };
    let carry =
        Carry { time: time(-9), number: 0.5, state: Some("run"), quality: Quality::Good, counted: 1.5, behind_us: 7 };
    Aggregate {
        kind: Kind::Enum,
        partials,
        quality: Quality::Uncertain,
        partial: true,
        held: Some(carry),
        carry: Some(Carry { time: time(9), ..carry }),
        stops: Times::Slice(&[1_769_680_805_000_000, -1]),
        flags: TextList::Slice(&["gap_before"]),
        ..aggregate()
    }
}

pub(crate) fn event() -> Event<'static> {
    Event {
        event_id: "telemetry.raw/7/1234/point.quality",
        event_type: "point.quality",
        asset_id: "pump_07",
        parameter: Some("pressure"),
        from_state: Some("GOOD"),
        to_state: Some("BAD"),
        severity: None,
        time_source: model::time_source::GATEWAY,
        occurred_after: Some(time(-5)),
        edge: None,
        initial: false,
        missed_window: false,
        message: "no answer from unit 3",
        value: Value::Null,
        unit: None,
        quality: Quality::Bad,
        quality_reason: Some("TIMEOUT"),
        device_time: time(0),
        gateway_time: time(1),
        epoch: 1,
        seq: 2,
        flags: TextList::Slice(&[]),
        metadata: TextMap::Slice(&[("gateway_id", "gw-1")]),
        details: TextMap::Slice(&[("last_good_time", "2026-01-29T09:59:59.000Z")]),
    }
}

pub(crate) fn dead_letter() -> DeadLetter<'static> {
    DeadLetter {
        rule_revision: None,
        config_revision: None,
        stage: "validate",
        rule_id: Some("oil"),
        reason: "RANGE_HARD",
        detail: "101 is above the limit 100",
        observed: Some("101"),
        limit: Some("100"),
        topic: "telemetry.raw",
        partition: 10,
        offset: 77,
        timestamp_ms: time(0).as_millis(),
        key: b"line_1_sensor_01",
        headers: Headers::Slice(&[("sf-quality", b"GOOD")]),
        payload: &[0, 0, 0, 0, 1, 0xde, 0xad],
        schema_id: Some(1),
        asset_id: Some("line_1_sensor_01"),
        parameter: Some("temperature"),
        value: Some("101"),
        device_time: Some(time(0)),
        gateway_id: "gw-1",
        first_failed_at: time(9),
        attempts: 1,
    }
}

pub(crate) fn alarm() -> Alarm<'static> {
    Alarm {
        alarm_key: "pump_07/pressure/HI",
        occurrence_id: "o-1",
        seq: 3,
        kind: "HI",
        severity: "HIGH",
        priority: None,
        asset_id: "pump_07",
        asset_path: None,
        parameter: None,
        value: Value::Null,
        limit: None,
        unit: None,
        quality: Quality::Uncertain,
        condition_active: true,
        acked: false,
        latched: false,
        suppressed_by_design: false,
        out_of_service: false,
        enabled: true,
        state: "ACTIVE",
        isa_state: "B",
        suppression_kind: None,
        message: "",
        consequence: None,
        action: None,
        group: None,
        first_out_rank: None,
        chattering: false,
        change: AlarmChange {
            from: "CLEARED",
            to: "ACTIVE",
            cause: "limit",
            actor: None,
            actor_role: None,
            comment: None,
            command_id: None,
        },
        activated_at: None,
        acked_at: None,
        cleared_at: None,
        shelved_until: None,
        device_time: time(0),
        gateway_time: time(0),
        flags: TextList::default(),
        config_revision: None,
        metadata: TextMap::Slice(&[("gateway_id", "gw-1")]),
        tags: TextMap::default(),
    }
}
