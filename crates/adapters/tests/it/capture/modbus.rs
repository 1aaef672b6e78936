//! Modbus: function codes 1 to 4.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adapters::adapter::Adapter;
use adapters::probe::probe;
use adapters::scan::scan;
use modbus::{Exception, Table, rtu};
use serde_json::{Value, json};
use testkit::sim::modbus::fault::{Fault, Rule};
use testkit::sim::modbus::{Framing, Memory, Simulator};

use crate::support::{build, poll};
use crate::wire::Wire;

/// Reading coils, discrete inputs, holding registers, input registers.
const ALLOWED: [u8; 4] = [1, 2, 3, 4];

/// The function codes in what was sent as Modbus TCP, or what else there is.
fn judge(sent: &[u8]) -> Result<BTreeSet<u8>, String> {
    let mut functions = BTreeSet::new();
    let mut rest = sent;
    while let [_, _, 0, 0, high, low, frame @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (Some(frame), true) = (frame.get(..length), length >= 2) else { break };
        functions.insert(frame[1]);
        rest = &rest[6 + length..];
    }
    if !rest.is_empty() {
        return Err(format!("no frame: {rest:02x?}"));
    }
    match functions.iter().find(|function| !ALLOWED.contains(function)) {
        Some(function) => Err(format!("function {function}")),
        None => Ok(functions),
    }
}

/// The same of a serial line behind a port.
fn judge_line(sent: &[u8]) -> Result<BTreeSet<u8>, String> {
    let mut functions = BTreeSet::new();
    let mut rest = sent;
    while let Some((frame, used)) = rtu::request(rest) {
        functions.insert(frame.map_err(|error| format!("{error}: {rest:02x?}"))?.pdu[0]);
        rest = &rest[used..];
    }
    if !rest.is_empty() {
        return Err(format!("no frame: {rest:02x?}"));
    }
    match functions.iter().find(|function| !ALLOWED.contains(function)) {
        Some(function) => Err(format!("function {function}")),
        None => Ok(functions),
    }
}

/// Points of all tables, and one that the device refuses.
fn settings(port: u16, framing: &str) -> Value {
    let point =
        |address: &str, kind: &str| json!({"parameter": format!("p{address}"), "address": address, "type": kind});
    let points = [
        ("40001", "float32"),
        ("40010", "int16"),
        ("30001", "int16"),
        ("00001", "bool"),
        ("10001", "bool"),
        ("49000", "int16"),
    ];
    json!({
        "adapter_id": "adapter_1", "adapter_type": "modbus_tcp", "asset_id": "press", "host": "127.0.0.1", "port": port,
        "framing": framing, "response_timeout_ms": 300, "points": points.map(|(address, kind)| point(address, kind)),
    })
}

async fn device(framing: Framing) -> Simulator {
    let memory = Arc::new(Memory::default());
    memory.holding(1, 0, &(1000..1200).collect::<Vec<u16>>());
    memory.input(1, 0, &[7; 20]);
    memory.bits(1, Table::Coil, 0, &[true; 20]);
    memory.bits(1, Table::DiscreteInput, 0, &[true; 20]);
    Simulator::start_as(SocketAddr::from(([127, 0, 0, 1], 0)), memory, framing).await.unwrap()
}

/// Polls in good and bad times: answers, refusals, business, silence, a cut.
async fn run(simulator: &Simulator, wire: &Wire, framing: &str) {
    let mut adapter = build(&settings(wire.address.port(), framing));
    adapter.connect().await.unwrap();
    for fault in [
        None,
        Some(Fault::Exception(Exception::BUSY)),
        Some(Fault::Exception(Exception::ILLEGAL_FUNCTION)),
        Some(Fault::Exception(Exception::DEVICE_FAILURE)),
        Some(Fault::Drop),
        Some(Fault::Short(1)),
        Some(Fault::Delay(Duration::from_millis(50))),
        Some(Fault::Close),
    ] {
        if let Some(fault) = fault {
            simulator.script(Rule::every(fault).times(2));
        }
        for _ in 0..4 {
            poll(&mut adapter).await;
        }
        simulator.behave();
    }
    wire.set_open(false);
    assert!(adapter.poll(0, &mut adapters::sample::Cycle::new(1)).await.is_err() || adapter.connect().await.is_err());
    wire.set_open(true);
    adapter.connect().await.unwrap();
    poll(&mut adapter).await;
    adapter.close().await;
}

// AC-030, MB-01, G-01
#[tokio::test]
async fn modbus_over_tcp_sends_nothing_but_reads() {
    let simulator = device(Framing::Mbap).await;
    let wire = Wire::start(simulator.address().port()).await;
    run(&simulator, &wire, "mbap").await;
    for address in ["40001&type=float32", "30001", "00001", "10001", "49000"] {
        drop(probe(&format!("modbus://{}/1?address={address}", wire.address)).await);
    }
    scan(&format!("modbus://{}/1?address=40001", wire.address), 30).await.unwrap();
    let heard = wire.heard();
    assert!(heard.len() > 8, "{} connections", heard.len());
    let functions: BTreeSet<u8> = heard.iter().flat_map(|heard| judge(&heard.sent).unwrap()).collect();
    assert_eq!(functions, BTreeSet::from(ALLOWED));
}

// AC-030, MB-01, MB-27
#[tokio::test]
async fn modbus_behind_a_converter_sends_nothing_but_reads() {
    let simulator = device(Framing::RtuOverTcp).await;
    let wire = Wire::start(simulator.address().port()).await;
    run(&simulator, &wire, "rtu_over_tcp").await;
    let heard = wire.heard();
    let functions: BTreeSet<u8> = heard.iter().flat_map(|heard| judge_line(&heard.sent).unwrap()).collect();
    assert_eq!(functions, BTreeSet::from(ALLOWED));
}

#[test]
fn a_write_would_be_seen() {
    let read = [0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 2];
    let write = [0, 2, 0, 0, 0, 6, 1, 6, 0, 0, 0, 9];
    assert_eq!(judge(&read), Ok(BTreeSet::from([3])));
    assert_eq!(judge(&[read, write].concat()), Err("function 6".to_owned()));
    assert!(judge(&[&read[..], b"x"].concat()).is_err() && judge(&read[..11]).is_err());
    let mut line = Vec::new();
    for pdu in [[3, 0, 0, 0, 2], [5, 0, 0, 0xFF, 0]] {
        rtu::encode(1, &pdu, &mut line);
    }
    assert_eq!(judge_line(&line), Err("function 5".to_owned()));
    assert!(judge_line(&line[..11]).is_err());
}
