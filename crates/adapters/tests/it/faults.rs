//! A device that misbehaves, seen from the Modbus adapter.

use std::time::{Duration, Instant as WallInstant};

use adapters::adapter::{Adapter, LinkError};
use adapters::sample::{Cycle, Value};
use modbus::{Exception, Table};
use model::reason;
use serde_json::json;
use testkit::sim::modbus::fault::{Fault, Rule};

use crate::support::{build, device, poll, reasons, settings};

// AC-014
#[tokio::test]
async fn a_busy_device_is_asked_again_within_the_cycle() {
    let (simulator, _memory) = device().await;
    simulator.script(Rule::every(Fault::Exception(Exception::BUSY)).times(2));
    let mut adapter = build(&settings(&simulator, 2, &json!({})));
    adapter.connect().await.unwrap();
    let (cycle, well) = poll(&mut adapter).await;
    assert!(well);
    assert_eq!(cycle.samples[0].value, Value::Int(1000));
    let times: Vec<u64> = simulator.requests().iter().map(|request| request.t_ms).collect();
    assert_eq!(times.len(), 3);
    assert!(times[1] - times[0] >= 199 && times[2] - times[1] >= 399, "200 ms, then 400 ms: {times:?}");
    assert_eq!(simulator.connection_count(), 1);
}

// 1.6: busy beyond patience.
#[tokio::test]
async fn a_device_that_stays_busy_has_no_value_this_time() {
    let (simulator, _memory) = device().await;
    simulator.script(Rule::every(Fault::Exception(Exception::BUSY)).times(4));
    let mut adapter = build(&settings(&simulator, 2, &json!({})));
    adapter.connect().await.unwrap();
    assert_eq!(reasons(&poll(&mut adapter).await.0), [reason::DEVICE_BUSY; 2]);
    assert_eq!(reasons(&poll(&mut adapter).await.0), ["-"; 2]);
    assert_eq!(simulator.connection_count(), 1);
}

// AC-016: every third answer comes after its deadline; no answer is ever taken for another request's.
#[tokio::test]
async fn late_replies_never_shift_the_values() {
    const POLLS: u16 = 300;
    let (simulator, memory) = device().await;
    let more = json!({"response_timeout_ms": 20, "retries": 0});
    let mut adapter = build(&settings(&simulator, 1, &more));
    adapter.connect().await.unwrap();
    let (mut late, mut good) = (0, 0);
    for n in 0..POLLS {
        memory.holding(1, 0, &[n]);
        if n % 3 == 1 {
            simulator.script(Rule::every(Fault::Delay(Duration::from_millis(30))).times(1));
        }
        let (cycle, _) = poll(&mut adapter).await;
        late += cycle.discarded.iter().filter(|name| **name == "LATE_REPLY").count();
        for sample in &cycle.samples {
            match &sample.value {
                Value::Null => assert_eq!(sample.verdict.reason(), Some(reason::TIMEOUT)),
                Value::Int(value) => {
                    assert_eq!(*value, i64::from(n), "the answer to an earlier request was taken");
                    good += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(late >= 50, "{late} late replies were seen and discarded");
    assert!(good >= 150, "{good} of {POLLS} polls brought a value");
}

// AC-017, option off
#[tokio::test]
async fn a_device_that_does_not_echo_the_transaction_gives_no_data() {
    let (simulator, _memory) = device().await;
    simulator.script(Rule::every(Fault::Transaction(1)));
    let more = json!({"response_timeout_ms": 30, "retries": 0});
    let mut adapter = build(&settings(&simulator, 1, &more));
    adapter.connect().await.unwrap();
    let mut broken = 0;
    for _ in 0..6 {
        let (cycle, well) = poll(&mut adapter).await;
        assert!(cycle.samples.iter().all(|sample| sample.value == Value::Null));
        broken += usize::from(!well);
    }
    assert_eq!(broken, 3, "every second stranger ends the connection");
    // The last one may still wait to be accepted.
    assert!(simulator.connection_count() >= 3);
}

// AC-018
#[tokio::test]
async fn a_short_reply_is_thrown_away_and_counted() {
    let (simulator, _memory) = device().await;
    simulator.script(Rule::every(Fault::Short(2)).times(1));
    let mut adapter = build(&settings(&simulator, 3, &json!({"retries": 0})));
    adapter.connect().await.unwrap();
    let (cycle, well) = poll(&mut adapter).await;
    assert!(well);
    assert_eq!(cycle.discarded, ["DECODE_ERROR"]);
    assert_eq!(reasons(&cycle), [reason::DECODE_ERROR; 3]);
    assert!(cycle.samples.iter().all(|sample| sample.value == Value::Null));
    assert_eq!(reasons(&poll(&mut adapter).await.0), ["-"; 3]);
    assert_eq!(simulator.connection_count(), 1);
}

// MB-02, MB-26
#[tokio::test]
async fn replies_in_another_name_are_no_data() {
    for fault in [Fault::Unit(9), Fault::Function(4)] {
        let (simulator, _memory) = device().await;
        simulator.script(Rule::every(fault).times(1));
        let mut adapter = build(&settings(&simulator, 1, &json!({"retries": 1})));
        adapter.connect().await.unwrap();
        let (cycle, _) = poll(&mut adapter).await;
        assert_eq!(cycle.discarded, ["DECODE_ERROR"]);
        assert_eq!(cycle.samples[0].value, Value::Int(1000), "the repetition brings it");
    }
}

// AC-019
#[tokio::test]
async fn split_and_joined_replies() {
    let (simulator, _memory) = device().await;
    // First poll: the one answer byte by byte, the other in one piece. Second poll: both in one piece.
    simulator.script(Rule::every(Fault::Split(Duration::ZERO)).times(1));
    simulator.script(Rule::every(Fault::HoldForNext).after(1).times(1));
    let mut adapter = build(&settings(&simulator, 130, &json!({"max_outstanding": 2})));
    adapter.connect().await.unwrap();
    let first = poll(&mut adapter).await.0;
    let second = poll(&mut adapter).await.0;
    for cycle in [first, second] {
        assert_eq!(cycle.samples.len(), 130);
        for sample in &cycle.samples {
            assert_eq!(sample.value, Value::Int(1000 + i64::try_from(sample.tag).unwrap()));
        }
    }
    assert_eq!(simulator.connection_count(), 1);
}

// AC-013
#[tokio::test]
async fn ten_bad_registers_do_not_harm_ninety_good_ones() {
    let (simulator, _memory) = device().await;
    simulator.script(Rule::every(Fault::Exception(Exception::ILLEGAL_ADDRESS)).touching(
        Table::HoldingRegister,
        60,
        10,
    ));
    let mut adapter = build(&settings(&simulator, 100, &json!({})));
    adapter.connect().await.unwrap();
    let mut before = 0;
    let mut good_by_cycle = Vec::new();
    for _ in 0..3 {
        let (cycle, well) = poll(&mut adapter).await;
        assert!(well);
        assert_eq!(cycle.samples.len(), 100);
        good_by_cycle.push(cycle.samples.iter().filter(|sample| sample.value != Value::Null).count());
        let requests = simulator.request_count();
        let due = 1 + 16;
        assert!(before == 0 || requests - before <= 24, "{requests}");
        assert!(before > 0 || requests <= due, "{requests}");
        before = requests;
    }
    assert!(good_by_cycle[0] >= 60, "the good halves come in the first cycle: {good_by_cycle:?}");
    assert_eq!(good_by_cycle[2], 90, "{good_by_cycle:?}");
    let (cycle, _) = poll(&mut adapter).await;
    let invalid: Vec<usize> = cycle
        .samples
        .iter()
        .filter(|sample| sample.verdict.reason() == Some(reason::ADDRESS_INVALID))
        .map(|sample| sample.tag)
        .collect();
    let mut sorted = invalid.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (60..70).collect::<Vec<_>>());
    let asked = simulator.requests()[before..].to_vec();
    for request in asked {
        let read = request.read().unwrap();
        assert!(read.offset() + read.count() <= 60 || read.offset() >= 70, "{read:?}");
    }
}

// 1.6: an exception never closes the connection; an absent function silences its table only.
#[tokio::test]
async fn an_absent_table_is_left_alone() {
    let (simulator, memory) = device().await;
    memory.bits(1, Table::Coil, 0, &[true; 4]);
    simulator.script(Rule::every(Fault::Exception(Exception::ILLEGAL_FUNCTION)).touching(Table::Coil, 0, 100));
    let mut value = settings(&simulator, 2, &json!({}));
    value["points"].as_array_mut().unwrap().push(json!({"parameter": "coil", "address": "00001"}));
    let mut adapter = build(&value);
    adapter.connect().await.unwrap();
    for _ in 0..3 {
        let (cycle, _) = poll(&mut adapter).await;
        let coil = cycle.samples.iter().find(|sample| sample.tag == 2).unwrap();
        assert_eq!(coil.verdict.reason(), Some(reason::DEVICE_EXCEPTION));
        assert_eq!(coil.status.as_deref(), Some("exception 0x01: illegal function"));
        assert_eq!(cycle.samples.iter().filter(|sample| sample.value != Value::Null).count(), 2);
    }
    assert_eq!(simulator.request_count(), 3 + 1);
    assert_eq!(simulator.connection_count(), 1);
}

// AC-015 in short: the dead unit costs one request, then none until its probe; the other goes on.
#[tokio::test]
async fn a_dead_unit_behind_a_gateway_does_not_starve_the_other() {
    let (simulator, memory) = device().await;
    memory.holding(6, 0, &[66]);
    simulator.script(Rule::every(Fault::Exception(Exception::TARGET_FAILED)).unit(5));
    let mut value = settings(&simulator, 2, &json!({}));
    value["points"][0]["unit_id"] = json!(5);
    value["points"][1]["unit_id"] = json!(6);
    value["points"][1]["address"] = json!("40001");
    let mut adapter = build(&value);
    adapter.connect().await.unwrap();
    for _ in 0..20 {
        let (cycle, _) = poll(&mut adapter).await;
        let by_tag = |tag| cycle.samples.iter().find(|sample| sample.tag == tag).unwrap();
        assert_eq!(by_tag(0).verdict.reason(), Some(reason::GATEWAY_TARGET_FAIL));
        assert_eq!(by_tag(1).value, Value::Int(66));
        assert!(!cycle.devices[0].answered && cycle.devices[1].answered);
    }
    let to_dead_unit = simulator.requests().iter().filter(|request| request.unit == 5).count();
    assert_eq!(to_dead_unit, 1);
}

// AC-020
#[tokio::test]
async fn a_silent_peer_is_given_up_after_three_timeouts() {
    let (simulator, _memory) = device().await;
    let mut adapter = build(&settings(&simulator, 1, &json!({"response_timeout_ms": 30, "retries": 0})));
    adapter.connect().await.unwrap();
    let (_, well) = poll(&mut adapter).await;
    assert!(well);
    simulator.script(Rule::every(Fault::Freeze));
    let mut cycle = Cycle::new(1);
    for round in 1..=3 {
        cycle.clear();
        let result = adapter.poll(0, &mut cycle).await;
        assert_eq!(reasons(&cycle), [reason::TIMEOUT]);
        match (round, result) {
            (3, Err(LinkError::Silent { timeouts: 3, .. })) | (1 | 2, Ok(())) => {}
            other => panic!("{other:?}"),
        }
    }
    simulator.behave();
    adapter.connect().await.unwrap();
    assert_eq!(reasons(&poll(&mut adapter).await.0), ["-"]);
}

// MB-28
#[tokio::test]
async fn a_pause_between_requests_is_kept() {
    let (simulator, _memory) = device().await;
    let mut adapter = build(&settings(&simulator, 130, &json!({"inter_request_delay_ms": 40})));
    adapter.connect().await.unwrap();
    let began = WallClock::new();
    poll(&mut adapter).await;
    poll(&mut adapter).await;
    let times: Vec<u64> = simulator.requests().iter().map(|request| request.t_ms).collect();
    assert_eq!(times.len(), 4);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 38), "{times:?} within {:?}", began.elapsed());
}

struct WallClock(WallInstant);

impl WallClock {
    fn new() -> Self {
        Self(tokio::time::Instant::now().into_std())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

// MB-20
#[tokio::test]
async fn garbage_ends_the_connection_at_once() {
    let (simulator, _memory) = device().await;
    simulator.script(Rule::every(Fault::Garbage(b"HTTP/1.1 400 Bad Request".to_vec())).times(1));
    let mut adapter = build(&settings(&simulator, 1, &json!({})));
    adapter.connect().await.unwrap();
    let mut cycle = Cycle::new(1);
    assert!(matches!(adapter.poll(0, &mut cycle).await, Err(LinkError::OutOfStep { .. })));
    assert!(cycle.samples.is_empty());
}
