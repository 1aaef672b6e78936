//! The Modbus simulator answers and misbehaves on the wire as its script says.

use std::sync::Arc;
use std::time::Duration;

use modbus::{Data, DataType, Deframer, Exception, Order, Read, Table, Value, frame};
use testkit::plant::{self, Plant};
use testkit::sim::modbus::fault::{Fault, Rule};
use testkit::sim::modbus::{Memory, Simulator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(10);

struct Client {
    stream: TcpStream,
    deframer: Deframer,
}

impl Client {
    async fn connect(simulator: &Simulator) -> Self {
        Self { stream: TcpStream::connect(simulator.address()).await.unwrap(), deframer: Deframer::new() }
    }

    async fn send(&mut self, transaction: u16, unit: u8, pdu: &[u8]) {
        let mut out = Vec::new();
        frame::encode(transaction, unit, pdu, &mut out);
        self.stream.write_all(&out).await.unwrap();
    }

    /// The next frame; `None` when the connection ended.
    async fn receive(&mut self) -> Option<(u16, u8, Vec<u8>)> {
        let mut chunk = [0; 512];
        loop {
            if let Some(frame) = self.deframer.next_frame().unwrap() {
                return Some((frame.transaction, frame.unit, frame.pdu.to_vec()));
            }
            let read = tokio::time::timeout(DEADLINE, self.stream.read(&mut chunk)).await.expect("an answer in time");
            match read {
                Ok(length) if length > 0 => self.deframer.push(&chunk[..length]),
                _ => return None,
            }
        }
    }

    async fn read(&mut self, transaction: u16, read: &Read) -> Result<Data, Exception> {
        self.send(transaction, read.unit(), &read.pdu()).await;
        let (_, unit, pdu) = self.receive().await.unwrap();
        read.decode(unit, &pdu).unwrap()
    }
}

async fn simulator() -> Simulator {
    let memory = Memory::default();
    memory.holding(1, 0, &[1, 2, 3, 4]);
    memory.bits(1, Table::Coil, 0, &[true, false, true]);
    Simulator::local(Arc::new(memory)).await.unwrap()
}

fn holding(count: u16) -> Read {
    Read::new(1, Table::HoldingRegister, 0, count).unwrap()
}

#[tokio::test]
async fn answers_reads_and_refuses_the_rest() {
    let simulator = simulator().await;
    let mut client = Client::connect(&simulator).await;
    assert_eq!(client.read(1, &holding(4)).await, Ok(Data::Registers(vec![1, 2, 3, 4])));
    assert_eq!(client.read(2, &holding(5)).await, Err(Exception::ILLEGAL_ADDRESS));
    let coils = Read::new(1, Table::Coil, 0, 3).unwrap();
    assert_eq!(client.read(3, &coils).await, Ok(Data::Bits(vec![true, false, true])));
    let absent = Read::new(9, Table::Coil, 0, 3).unwrap();
    assert_eq!(client.read(4, &absent).await, Err(Exception::TARGET_FAILED));
    client.send(5, 1, &[6, 0, 0, 0, 1]).await;
    assert_eq!(client.receive().await.unwrap().2, [0x86, 1]);
    assert_eq!(simulator.request_count(), 5);
}

// MB-44
#[tokio::test]
async fn misbehaves_as_told() {
    let simulator = simulator().await;
    for fault in [
        Fault::Transaction(1),
        Fault::Unit(7),
        Fault::Function(4),
        Fault::Short(2),
        Fault::Exception(Exception::BUSY),
        Fault::SizeLimit(1),
        Fault::Split(Duration::ZERO),
        Fault::Delay(Duration::from_millis(5)),
    ] {
        simulator.script(Rule::every(fault).times(1));
    }
    let mut client = Client::connect(&simulator).await;
    let mut next = async || {
        client.send(10, 1, &holding(2).pdu()).await;
        client.receive().await.unwrap()
    };
    let good = vec![3, 4, 0, 1, 0, 2];
    assert_eq!(next().await, (11, 1, good.clone()));
    assert_eq!(next().await, (10, 7, good.clone()));
    assert_eq!(next().await, (10, 1, vec![4, 4, 0, 1, 0, 2]));
    assert_eq!(next().await, (10, 1, vec![3, 2, 0, 1]));
    assert_eq!(next().await, (10, 1, vec![0x83, 6]));
    assert_eq!(next().await, (10, 1, vec![0x83, 3]));
    assert_eq!(next().await, (10, 1, good.clone()));
    assert_eq!(next().await, (10, 1, good.clone()));
    assert_eq!(next().await, (10, 1, good));
}

// MB-44
#[tokio::test]
async fn holds_drops_resets_and_closes() {
    let simulator = simulator().await;
    simulator.script(Rule::every(Fault::Drop).times(1));
    simulator.script(Rule::every(Fault::HoldForNext).times(1));
    let mut client = Client::connect(&simulator).await;
    for transaction in 1..=3 {
        client.send(transaction, 1, &holding(1).pdu()).await;
    }
    assert_eq!(client.receive().await.unwrap().0, 2);
    assert_eq!(client.receive().await.unwrap().0, 3);
    for fault in [Fault::Reset, Fault::Close] {
        simulator.script(Rule::every(fault).times(1));
        client.send(4, 1, &holding(1).pdu()).await;
        assert_eq!(client.receive().await, None);
        client = Client::connect(&simulator).await;
    }
    assert_eq!(client.read(5, &holding(1)).await, Ok(Data::Registers(vec![1])));
    simulator.set_offline(true);
    assert_eq!(client.receive().await, None);
    let mut refused = Client::connect(&simulator).await;
    assert_eq!(refused.receive().await, None);
    simulator.set_offline(false);
    let mut back = Client::connect(&simulator).await;
    assert_eq!(back.read(6, &holding(1)).await, Ok(Data::Registers(vec![1])));
    assert_eq!(simulator.connection_count(), 4);
}

#[tokio::test]
async fn every_demo_point_can_be_read() {
    let simulator = Simulator::local(Arc::new(Plant::new())).await.unwrap();
    let mut client = Client::connect(&simulator).await;
    let mut points = 0;
    for adapter in plant::demo_adapters(simulator.address().port()) {
        let unit = u8::try_from(adapter["unit_id"].as_u64().unwrap()).unwrap();
        for point in adapter["points"].as_array().unwrap() {
            let location = modbus::Location::parse(point["address"].as_str().unwrap()).unwrap();
            let count = match point["type"].as_str().unwrap() {
                "float32" | "int32" | "uint32" => 2,
                "string" => u16::try_from(point["registers"].as_u64().unwrap()).unwrap(),
                _ => 1,
            };
            let read = Read::new(unit, location.table, location.offset, count).unwrap();
            let data = client.read(1, &read).await;
            if point["parameter"] == "oil_temperature" {
                let Ok(Data::Registers(registers)) = &data else { panic!("{data:?}") };
                let decoded = DataType::Float32.decode(Order::Abcd, registers).unwrap();
                assert!(matches!(decoded.value, Value::Float(celsius) if (20.0..60.0).contains(&celsius)));
            }
            assert!(data.is_ok(), "{point} {data:?}");
            points += 1;
        }
    }
    assert_eq!(points, 60);
}
