//! A look at one register.

use adapters::probe::{Error, probe};
use adapters::scan::scan;
use modbus::{Exception, Order};

use crate::support::device;

#[tokio::test]
async fn all_four_orders_side_by_side() {
    let (simulator, memory) = device().await;
    memory.holding(1, 10, &[0x42AA, 0xCCCD]);
    let target = format!("modbus://{}/1?address=40011&type=float32", simulator.address());
    let report = probe(&target).await.unwrap();
    assert_eq!(report.registers, [0x42AA, 0xCCCD]);
    assert_eq!(report.readings[0], (Order::Abcd, "85.4".to_owned()));
    assert_eq!(report.around.0, 6);
    assert_eq!(report.around.1.len(), 10);
    let text = report.to_string();
    assert!(text.contains("registers 42AA CCCD"), "{text}");
    assert!(text.contains("ABCD      85.4"), "{text}");
    assert!(text.contains("> offset    10  42AA"), "{text}");
}

#[tokio::test]
async fn refusals_and_silence_say_what_to_try() {
    let (simulator, _memory) = device().await;
    let refused = probe(&format!("modbus://{}/1?address=49999", simulator.address())).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { exception: Exception::ILLEGAL_ADDRESS, .. }), "{refused}");
    let absent = probe(&format!("modbus://{}/77?address=40001", simulator.address())).await.unwrap_err();
    assert!(absent.to_string().contains("gateway target failed"), "{absent}");
}

#[tokio::test]
async fn a_run_of_registers_with_one_that_is_refused() {
    use testkit::sim::modbus::fault::{Fault, Rule};
    let (simulator, _memory) = device().await;
    let refused = Rule::every(Fault::Exception(Exception::ILLEGAL_ADDRESS));
    simulator.script(refused.touching(modbus::Table::HoldingRegister, 12, 1));
    let seen = scan(&format!("modbus://{}/1?address=40001", simulator.address()), 15).await.unwrap();
    let expected: Vec<Option<u16>> = (1000..1015).map(|n| (n != 1012).then_some(n)).collect();
    assert_eq!((seen.items, seen.refusal), (expected, Some(Exception::ILLEGAL_ADDRESS)));
    // Ten, five together, and these one by one.
    assert_eq!(simulator.request_count(), 1 + 1 + 5);
}
