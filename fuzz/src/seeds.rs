//! Well-formed inputs to begin with.

use adapters::mqtt::packet;
use adapters::mqtt::sparkplug::payload;
use bytes::BytesMut;
use commitlog::batch::Builder;
use commitlog::{Crash, Log, LogOptions, ManualClock, SimVfs, Uncompressed};
use kafka::protocol::records::{self, Record};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::{Encodable, StrBytes};
use modbus::{Exception, Table, frame, rtu, server};
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

/// Packets of a broker in both versions, alone and one after the other.
pub(crate) fn mqtt_packets() -> Vec<Vec<u8>> {
    let mut out = BytesMut::new();
    for version in [packet::Version::V311, packet::Version::V5] {
        drop(packet::publish(version, "plant/press", b"{\"v\":21.5}", true, &mut out));
    }
    let publish_of_version_5 = [
        &[0x32, 37, 0, 3, b'a', b'/', b'b', 0, 9, 24, 0x26, 0, 4][..],
        b"site\0\x05north\x02\0\0\0\x3c\x0b\x01\x03\0\0payload",
    ]
    .concat();
    let small = [
        vec![0x20, 2, 1, 0],
        vec![0x20, 3, 0, 0, 0],
        vec![0x20, 9, 0, 0, 6, 0x13, 0, 30, 0x21, 0, 10],
        vec![0x90, 3, 0, 1, 1],
        vec![0x90, 4, 0, 1, 0, 0x87],
        vec![0x62, 2, 0, 7],
        vec![0xD0, 0],
        vec![0xE0, 2, 0x8E, 0],
        publish_of_version_5,
        out.to_vec(),
    ];
    let all = small.concat();
    small.into_iter().chain([all]).collect()
}

/// Payloads of messages.
pub(crate) fn mqtt_payloads() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 7] = [
        b"{\"ts\":1769680800123,\"t\":21.5,\"p\":NaN,\"list\":[{\"n\":\"x\",\"v\":-1.5e3},[true,null]]}",
        b"\xEF\xBB\xBF{\"a\":{\"b\":[1,2,3]},\"s\":\"\\u00e4\\ud83d\\ude00\\n\"}",
        b"[[[[[[[[1]]]]]]]]",
        b"time;temp\n2026-01-29 10:00:00;\"1,5\"\n2026-01-29 10:00:01;\"a \"\"b\"\"\"\n",
        b"23.5 \xC2\xB0C",
        b"$.a[0]['b c'].d[*]",
        &[0xFF, 0xA9, 0x42, 0xAA, 0xCC, 0xCD, 0, 1],
    ];
    texts.iter().map(|text| text.to_vec()).collect()
}

/// Replies of Modbus devices, one by one in both framings, and several behind each other.
pub(crate) fn modbus() -> Vec<Vec<u8>> {
    let replies = [
        server::registers(Table::HoldingRegister, &[0x42AA, 0xCCCD]),
        server::registers(Table::InputRegister, &[0x1234; 125]),
        server::bits(Table::Coil, &[true, false]),
        server::exception(3, Exception::BUSY).to_vec(),
    ];
    let mut all = Vec::new();
    let mut joined = Vec::new();
    for (transaction, reply) in (1..).zip(&replies) {
        let (mut tcp, mut serial) = (Vec::new(), Vec::new());
        frame::encode(transaction, 1, reply, &mut tcp);
        rtu::encode(1, reply, &mut serial);
        joined.extend_from_slice(&tcp);
        all.extend([tcp, serial]);
    }
    all.push(joined);
    all
}

/// Payloads of edge nodes.
pub(crate) fn sparkplug() -> Vec<Vec<u8>> {
    // a name, an alias, a stamp, a double, and the properties Quality and engUnit
    let properties = [
        &[0x0A, 7][..],
        b"Quality",
        &[0x0A, 7],
        b"engUnit",
        &[0x12, 5, 8, 7, 0x18, 0xC0, 1, 0x12, 7, 8, 12, 0x42, 3],
        b"bar",
    ]
    .concat();
    let metric = [
        &[0x0A, 1, b't', 0x10, 7, 0x18, 0x80, 0x02, 0x20, 10, 0x69, 0, 0, 0, 0, 0, 0, 0xF8, 0x3F, 0x4A][..],
        &[u8::try_from(properties.len()).unwrap_or_default()],
        &properties,
    ]
    .concat();
    let birth = [&[8, 5, 0x12, u8::try_from(metric.len()).unwrap_or_default()][..], &metric, &[0x18, 0]].concat();
    vec![payload::rebirth(1_769_680_800_123), birth, vec![8, 5, 0x12, 4, 0x10, 7, 0x50, 1, 0x18, 0xFF, 1]]
}

/// The table people begin with, as it is written, and as another spreadsheet saves it.
pub(crate) fn points_tables() -> Vec<Vec<u8>> {
    let (table, columns) = &*crate::targets::MODBUS_POINTS;
    let text = table.example(columns);
    let short = "parameter;address;scale;states;invalid_values\r\nt;40001;0,5;0=off; 1=on;-1\r\n";
    vec![text.replace(',', ";").into_bytes(), text.into_bytes(), short.as_bytes().to_vec()]
}
