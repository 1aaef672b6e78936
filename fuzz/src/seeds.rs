//! Well-formed inputs to begin with.

use bytes::BytesMut;
use commitlog::batch::Builder;
use commitlog::{Crash, Log, LogOptions, ManualClock, SimVfs, Uncompressed};
use kafka::protocol::records::{self, Record};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::{Encodable, StrBytes};
use std::path::PathBuf;
use std::sync::Arc;

use crate::targets::{dir, options};

/// Record batches of several kinds, one after the other.
pub(crate) fn batches() -> Vec<Vec<u8>> {
    let plain = Builder::new(1_000).record(1_000, b"value").record(1_005, b"").build();
    let keyed = Builder::new(7).producer(9, 0, 3).keyed(7, Some(b"key"), Some(b"value")).keyed(8, Some(b"key"), None);
    let many = (0..40).fold(Builder::new(0), |builder, number| builder.keyed(number, Some(b"k"), Some(&[1; 100])));
    let own = records::encode(&[Record { key: b"k", value: Some(b"v") }, Record { key: b"", value: None }], 5);
    let (keyed, many, own) = (keyed.build(), many.build(), own.unwrap_or_default());
    let all = [plain.clone(), keyed.clone(), own.clone()].concat();
    vec![plain, keyed, many, own, all]
}

/// Every file of a few logs.
pub(crate) fn files(extension: &'static str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for closed in [false, true] {
        let vfs = SimVfs::new();
        let clock = Arc::new(ManualClock::new(1_000));
        let opened = Log::open(Arc::new(vfs.clone()), clock, &dir(), LogOptions { segment_bytes: 900, ..options() });
        let Ok((log, _)) = opened else { continue };
        for number in 0..40_u8 {
            let batch = Builder::new(5).producer(3, 0, i32::from(number)).keyed(5, Some(&[number % 4]), Some(&[7; 30]));
            drop(log.append(&mut batch.build()));
        }
        drop(log.sync());
        if closed {
            drop(log.compact(&Uncompressed, 0, &|| true));
            drop(log.delete_records_before(3));
            drop(log.close());
        }
        let vfs = vfs.crash(Crash::LoseUnsynced);
        let named = |path: &PathBuf| path.extension().is_some_and(|end| end == extension) || path.ends_with(extension);
        found.extend(vfs.files(&dir()).iter().filter(|path| named(path)).filter_map(|path| vfs.contents(path)));
    }
    found
}

/// A request of every API in every version, with its header and an empty body of zeros; and a few bodies that are none.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for key in 0..100_i16 {
        let Ok(api) = ApiKey::try_from(key) else { continue };
        let versions = api.valid_versions();
        for version in versions.min..=versions.max {
            let header = RequestHeader::default()
                .with_request_api_key(key)
                .with_request_api_version(version)
                .with_correlation_id(7)
                .with_client_id(Some(StrBytes::from_static_str("fuzz")));
            let mut frame = BytesMut::new();
            if header.encode(&mut frame, api.request_header_version(version)).is_err() {
                continue;
            }
            frame.extend_from_slice(&[0; 24]);
            frames.push(frame.to_vec());
        }
    }
    frames
}
