//! Clients that lie about their records or their requests: refused, never stored, and nobody else notices.

use commitlog::batch::Builder;
use kafka_protocol::messages::{
    ApiVersionsRequest, DescribeQuorumRequest, GetTelemetrySubscriptionsRequest, MetadataRequest,
};

use crate::support::{TestBroker, produce};
use crate::wire::Wire;

const CORRUPT: i16 = 2;
const UNSUPPORTED: i16 = 35;
const UNSUPPORTED_FORMAT: i16 = 43;
const INVALID_RECORD: i16 = 87;

fn batch() -> Vec<u8> {
    Builder::new(1_000).record(1_000, b"one").record(1_001, b"two").build()
}

/// Changes a batch behind its checksum and makes the checksum right again.
fn forged(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = batch();
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

// security 40: rejected, never stored
#[tokio::test(flavor = "multi_thread")]
async fn batches_that_lie_are_refused_and_nothing_of_them_is_stored() {
    let broker = TestBroker::start().await;
    broker.create_topic("calm", 1, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    let mut wrong_crc = batch();
    *wrong_crc.last_mut().unwrap() ^= 1;
    let count = |count: i32| forged(|bytes| bytes[57..61].copy_from_slice(&count.to_be_bytes()));
    let both = |count: i32| {
        forged(|bytes| {
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        })
    };
    let mut future = batch();
    future[16] = 3;
    let mut truncated = batch();
    truncated.pop();
    let lies = [
        ("wrong checksum", wrong_crc, CORRUPT),
        ("count above the records", count(3), INVALID_RECORD),
        ("negative count", count(-1), INVALID_RECORD),
        ("count and last offset agree, the records do not", both(3), INVALID_RECORD),
        ("more records than bytes", both(i32::MAX), INVALID_RECORD),
        ("an offset that jumps", forged(|bytes| bytes[64] = 4), INVALID_RECORD),
        ("a record that is longer than its batch", forged(|bytes| bytes[61] = 0x7e), INVALID_RECORD),
        ("future magic", future, UNSUPPORTED_FORMAT),
        ("half a batch", truncated, CORRUPT),
        ("no batch", vec![0xff; 100], UNSUPPORTED_FORMAT),
    ];
    for (what, bytes, expected) in lies {
        assert_eq!(wire.produce("calm", 0, bytes).await.0, expected, "{what}");
    }
    assert_eq!(wire.produce("calm", 0, batch()).await, (0, 0), "the first that is stored has offset 0");
}

// security 38: a megabyte may unpack to a gigabyte; the broker never unpacks
#[tokio::test(flavor = "multi_thread")]
async fn a_compression_bomb_is_stored_as_it_comes_and_costs_no_memory() {
    let broker = TestBroker::start().await;
    broker.create_topic("calm", 1, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    // zstd frame: single segment, window and content of 2 GB announced, then a block of one repeated byte
    let bomb = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x80, 0xff, 0xff, 0x07, 0x00];
    let bytes = forged(|bytes| {
        bytes.truncate(61);
        bytes.extend_from_slice(&bomb);
        bytes[22] = 4; // zstd
        let length = i32::try_from(bytes.len() - 12).unwrap();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
    });
    let before = resident_kib();
    assert_eq!(wire.produce("calm", 0, bytes).await, (0, 0));
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 512 * 1024, "{grown} KiB");
    assert_eq!(produce(&broker.producer(&[]), "calm", 0, "still here").await, 2);
}

/// Memory of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

// STR-10: an API that is not spoken is answered where its answer has a place for it
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_spoken_is_answered_and_the_connection_goes_on() {
    let broker = TestBroker::start().await;
    let mut wire = Wire::connect(&broker).await;
    assert_eq!(wire.ask(1, &DescribeQuorumRequest::default()).await.error_code, UNSUPPORTED);
    assert_eq!(wire.ask(0, &GetTelemetrySubscriptionsRequest::default()).await.error_code, UNSUPPORTED);
    assert_eq!(wire.ask(3, &ApiVersionsRequest::default()).await.error_code, 0);
    // no answer to Metadata could say it
    wire.send(13, &MetadataRequest::default()).await;
    wire.frame().await;
    wire.send_raw(&[0, 3, 0, 99, 0, 0, 0, 1, 0, 0]).await;
    assert!(wire.is_closed().await);
    let mut other = Wire::connect(&broker).await;
    assert_eq!(other.ask(3, &ApiVersionsRequest::default()).await.error_code, 0);
}

// security 38: deep arrays, announced by the billion, at every place of a request
#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_request_makes_the_broker_fail_or_fill_its_memory() {
    let broker = TestBroker::start().await;
    broker.create_topic("calm", 1, &[]).await;
    let before = resident_kib();
    let mut body = vec![0, 1, 0, 12, 0, 0, 0, 1, 0, 2, b'i', b't', 0]; // Fetch 12 with a flexible header
    let head = body.len();
    body.extend_from_slice(&[0; 64]);
    for at in head..body.len() {
        let mut lies = body.clone();
        lies.truncate(at);
        lies.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        let mut wire = Wire::connect(&broker).await;
        wire.send_raw(&lies).await;
        wire.closed_or_answered().await;
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 512 * 1024, "{grown} KiB");
    assert_eq!(produce(&broker.producer(&[]), "calm", 0, "still here").await, 0);
}
