//! What is tried, and what must hold for any input.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use adapters::mqtt::{binary, csv, json, packet, sparkplug::payload};
use bytes::Bytes;
use commitlog::batch::{self, Batches, Header};
use commitlog::{Error, Log, LogOptions, ManualClock, SimVfs, Uncompressed, Vfs, state_file, times, verify};
use kafka::protocol::{self, records};
use modbus::value::{CharOrder, Encoding, Half};
use modbus::{DataType, Deframer, Order, Read, Table, rtu};

use crate::{opcua, seeds};

/// Something that reads bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Also the name of its folder in `corpus/`.
    pub name: &'static str,
    /// Well-formed inputs.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// Puts checksums right after a change.
    pub(crate) mend: fn(&mut [u8]),
    /// Says whether the input was accepted, or what must not be.
    pub(crate) attempt: fn(&[u8]) -> Result<bool, String>,
}

/// All of them.
pub const TARGETS: [Target; 14] = [
    Target { name: "batches", seeds: seeds::batches, mend: mend_batches, attempt: batches },
    Target { name: "append", seeds: seeds::batches, mend: mend_batches, attempt: append },
    Target { name: "compaction", seeds: seeds::batches, mend: mend_batches, attempt: compaction },
    Target { name: "segment", seeds: || seeds::files("log"), mend: mend_batches, attempt: segment },
    // Not mended: wrong figures under a right checksum are no damage, and nothing but this crate writes that file.
    Target { name: "index", seeds: || seeds::files("index"), mend: |_| (), attempt: index },
    Target { name: "state-file", seeds: || seeds::files("start-offset"), mend: mend_state, attempt: state },
    Target { name: "frames", seeds: seeds::frames, mend: |_| (), attempt: frames },
    Target { name: "records", seeds: seeds::batches, mend: |_| (), attempt: own_records },
    Target { name: "mqtt-packets", seeds: seeds::mqtt_packets, mend: |_| (), attempt: mqtt_packets },
    Target { name: "mqtt-payloads", seeds: seeds::mqtt_payloads, mend: |_| (), attempt: mqtt_payloads },
    Target { name: "sparkplug", seeds: seeds::sparkplug, mend: |_| (), attempt: sparkplug },
    Target { name: "modbus", seeds: seeds::modbus, mend: mend_modbus, attempt: modbus_replies },
    Target { name: "opcua", seeds: opcua::seeds, mend: opcua::mend, attempt: opcua::attempt },
    Target { name: "points-table", seeds: seeds::points_tables, mend: |_| (), attempt: points_table },
];

/// A segment that everything else may be wrong about.
static GOOD_SEGMENT: LazyLock<Vec<u8>> = LazyLock::new(|| seeds::files("log").swap_remove(0));

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/log")
}

pub(crate) fn options() -> LogOptions {
    LogOptions { index_interval_bytes: 128, compact: true, delete_retention_ms: 0, ..LogOptions::default() }
}

fn open(vfs: &SimVfs) -> Result<(Arc<Log>, commitlog::Recovery), Error> {
    Log::open(Arc::new(vfs.clone()), Arc::new(ManualClock::new(1_000)), &dir(), options())
}

fn segment_path(base: i64, extension: &str) -> PathBuf {
    dir().join(format!("{base:020}.{extension}"))
}

fn folder() -> SimVfs {
    let vfs = SimVfs::new();
    drop(vfs.create_dir_all(&dir()));
    drop(vfs.sync_dir(Path::new("/")));
    vfs
}

/// Parsing and walking: never beyond the bytes there are.
fn batches(bytes: &[u8]) -> Result<bool, String> {
    let mut walk = Batches::new(bytes);
    let mut whole = false;
    while let Some(item) = walk.next() {
        let Ok((header, batch)) = item else { break };
        if header.size() != batch.len() || walk.position() > bytes.len() {
            return Err(format!("a batch of {} bytes is handed out as {}", header.size(), batch.len()));
        }
        let sound = batch::verify(batch).is_ok();
        whole |= sound;
        for timestamp_ms in [i64::MIN, 0, 1_001, i64::MAX] {
            let found = times::find_timestamp(batch, timestamp_ms, header.base_offset, &Uncompressed);
            if sound && found.is_some_and(|(offset, _)| offset < header.base_offset) {
                return Err(format!("{found:?} lies before its batch at {}", header.base_offset));
            }
        }
    }
    Ok(whole)
}

/// Everything a log takes it gives back as it came, also after a restart.
fn append(bytes: &[u8]) -> Result<bool, String> {
    let vfs = folder();
    let (log, _) = open(&vfs).map_err(|error| format!("an empty folder does not open: {error:?}"))?;
    let mut placed = bytes.to_vec();
    let Ok(appended) = log.append(&mut placed) else { return Ok(false) };
    log.sync().map_err(|error| format!("{error:?}"))?;
    let (log, recovery) = open(&vfs).map_err(|error| format!("what was taken does not open: {error:?}"))?;
    if !recovery.missing.is_empty() || recovery.cut.is_some() || log.end_offset() != appended.last_offset + 1 {
        return Err(format!("what was taken is not found again: {appended:?}, {recovery:?}"));
    }
    let stored = log.read(0, placed.len(), true, log.end_offset()).map_err(|error| format!("{error:?}"))?;
    if appended.bytes == placed.len() && stored != placed { Err("it comes back changed".to_owned()) } else { Ok(true) }
}

/// A compacted log holds no offset it did not hold before, is whole, and opens again.
fn compaction(bytes: &[u8]) -> Result<bool, String> {
    let vfs = folder();
    let (log, _) = open(&vfs).map_err(|error| format!("{error:?}"))?;
    log.set_options(LogOptions { segment_bytes: 1, ..options() });
    let mut taken = false;
    for _ in 0..3 {
        taken |= log.append(&mut bytes.to_vec()).is_ok();
    }
    drop(log.sync());
    log.set_options(options());
    for now_ms in [0, 10] {
        drop(log.append(&mut bytes.to_vec()));
        drop(log.sync());
        log.compact(&Uncompressed, now_ms, &|| true).map_err(|error| format!("compaction fails: {error:?}"))?;
        read_to_the_end(&log)?;
    }
    let (end, (again, recovery)) = (log.end_offset(), open(&vfs).map_err(|error| format!("{error:?}"))?);
    if !recovery.missing.is_empty() || !recovery.damages.is_empty() || again.end_offset() != end {
        return Err(format!("the compacted log is not found again: {recovery:?}"));
    }
    read_to_the_end(&again)?;
    Ok(taken)
}

/// Any bytes as the first of two segments: recovery ends, serves what it says, and does the same the next time.
fn segment(bytes: &[u8]) -> Result<bool, String> {
    let vfs = folder();
    vfs.damage(&segment_path(0, "log"), bytes);
    if bytes.first().is_some_and(|first| first % 2 == 0) {
        let mut next = batch::Builder::new(1).record(1, b"next").build();
        batch::place(&mut next, 40);
        vfs.damage(&segment_path(40, "log"), &next);
    }
    recovers(&vfs)
}

/// Any bytes as index and checkpoint of a good segment.
fn index(bytes: &[u8]) -> Result<bool, String> {
    let mut accepted = false;
    for extension in ["index", "checkpoint"] {
        let vfs = folder();
        vfs.damage(&segment_path(0, "log"), &GOOD_SEGMENT);
        vfs.damage(&segment_path(0, extension), bytes);
        accepted |= recovers(&vfs)?;
    }
    Ok(accepted)
}

/// Any bytes as the small files of a log.
fn state(bytes: &[u8]) -> Result<bool, String> {
    let vfs = folder();
    vfs.damage(&segment_path(0, "log"), &GOOD_SEGMENT);
    for name in ["start-offset", "compaction"] {
        vfs.damage(&dir().join(name), bytes);
    }
    let read = state_file::read(&vfs, &dir().join("start-offset")).map_err(|error| format!("{error:?}"))?;
    if let Some((payload, _)) = &read
        && payload.len() > bytes.len()
    {
        return Err("a state file gives more than it holds".to_owned());
    }
    recovers(&vfs)?;
    Ok(read.is_some())
}

/// Opens, reads, compacts, appends, opens again. True when something was found.
fn recovers(vfs: &SimVfs) -> Result<bool, String> {
    let verified = verify(vfs, &dir()).map_err(|error| format!("verify gives up: {error:?}"))?;
    let (log, recovery) = match open(vfs) {
        Ok(opened) => opened,
        Err(error) => return Err(format!("recovery gives up: {error:?}, {verified:?}")),
    };
    read_to_the_end(&log)?;
    let found = log.end_offset() > log.start_offset();
    drop(log.compact(&Uncompressed, 0, &|| true));
    let next = log.end_offset();
    match log.append(&mut batch::Builder::new(1).record(1, b"more").build()) {
        Ok(appended) if appended.base_offset != next => return Err(format!("{appended:?} where {next} is the next")),
        Ok(_) => {}
        // The last offsets there are.
        Err(Error::OffsetOutOfRange { .. }) => return Ok(found),
        Err(error) => return Err(format!("the recovered log takes nothing: {error:?}, {recovery:?}")),
    }
    log.sync().map_err(|error| format!("{error:?}"))?;
    let (end, (again, second)) = (log.end_offset(), open(vfs).map_err(|error| format!("the second time: {error:?}"))?);
    if again.end_offset() != end || second.cut.is_some() || !second.damages.is_empty() {
        return Err(format!("the second time it ends at {} instead of {end}: {second:?}", again.end_offset()));
    }
    read_to_the_end(&again)?;
    Ok(found)
}

/// Reads everything, stepping over what is reported as damaged; every answer must go forward.
fn read_to_the_end(log: &Log) -> Result<(), String> {
    let mut offset = log.start_offset();
    while offset < log.end_offset() {
        let bytes = match log.read(offset, 4_096, true, log.end_offset()) {
            Ok(bytes) if bytes.is_empty() => return Ok(()),
            Ok(bytes) => bytes,
            Err(Error::Damaged { last_offset, .. }) if last_offset >= offset => {
                offset = last_offset + 1;
                continue;
            }
            Err(error) => return Err(format!("offset {offset} cannot be read: {error:?}")),
        };
        let mut next = offset;
        for item in Batches::new(&bytes) {
            let (header, batch): (Header, _) = item.map_err(|error| format!("{error} is served"))?;
            batch::verify_crc(batch).map_err(|error| format!("{error} is served"))?;
            next = header.next_offset();
        }
        if next <= offset {
            return Err(format!("reading stands still at {offset}"));
        }
        offset = next;
    }
    Ok(())
}

/// Frames from the network: the walk, and the codec behind it.
fn frames(bytes: &[u8]) -> Result<bool, String> {
    let Ok(head) = protocol::head(bytes) else { return Ok(false) };
    let mut frame = Bytes::copy_from_slice(bytes);
    if protocol::decode_header(&mut frame).is_err() {
        return Ok(false);
    }
    let left = protocol::check_request(head.api_key, head.version, &frame);
    let decoded = decode(head.api_key, head.version, frame.clone());
    match (left, decoded) {
        (Err(_), Some(true)) => Err("the codec takes what the walk has refused".to_owned()),
        (Ok(left), _) if left > frame.len() => Err("the walk goes beyond the end".to_owned()),
        (_, decoded) => Ok(decoded == Some(true)),
    }
}

macro_rules! decoders {
    ($($request:ident),+ $(,)?) => {
        /// Whether the codec takes the body; `None` for an API that is not in this list.
        fn decode(key: i16, version: i16, mut body: Bytes) -> Option<bool> {
            use kafka_protocol::messages::{$($request),+};
            use kafka_protocol::protocol::Request;
            $(if key == $request::KEY {
                return Some(protocol::decode_request::<$request>(&mut body, version).is_ok());
            })+
            None
        }
    };
}

decoders!(
    ProduceRequest,
    FetchRequest,
    ListOffsetsRequest,
    MetadataRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
    FindCoordinatorRequest,
    JoinGroupRequest,
    HeartbeatRequest,
    LeaveGroupRequest,
    SyncGroupRequest,
    DescribeGroupsRequest,
    ListGroupsRequest,
    ApiVersionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    DeleteRecordsRequest,
    InitProducerIdRequest,
    OffsetForLeaderEpochRequest,
    DescribeConfigsRequest,
    AlterConfigsRequest,
    DescribeLogDirsRequest,
    CreatePartitionsRequest,
    DeleteGroupsRequest,
    IncrementalAlterConfigsRequest,
    OffsetDeleteRequest,
    DescribeClusterRequest,
);

/// Batches of the broker's own topics.
#[expect(clippy::unnecessary_wraps, reason = "all targets have this shape")]
fn own_records(bytes: &[u8]) -> Result<bool, String> {
    let mut count = 0_u64;
    let decoded = records::decode(bytes, |_| count += 1);
    Ok(decoded.is_ok() && count > 0)
}

/// What a broker sends, in both versions: the walk always goes forward and keeps no more than it was given.
fn mqtt_packets(bytes: &[u8]) -> Result<bool, String> {
    const LIMIT: usize = 4096;
    let mut accepted = false;
    for version in [packet::Version::V311, packet::Version::V5] {
        let mut deframer = packet::Deframer::new(version, LIMIT);
        deframer.buffer.extend_from_slice(bytes);
        loop {
            let before = deframer.buffer.len();
            match deframer.next_packet() {
                Ok(Some(packet)) => {
                    if deframer.buffer.len() >= before {
                        return Err(format!("{packet:?} takes no bytes"));
                    }
                    if let packet::Incoming::Message(message) = &packet
                        && message.payload.len() + message.topic.len() > LIMIT
                    {
                        return Err("a message is larger than the limit".to_owned());
                    }
                    accepted = true;
                }
                Ok(None) | Err(_) => break,
            }
        }
    }
    Ok(accepted)
}

/// Payloads of messages: JSON, tables, layouts.
fn mqtt_payloads(bytes: &[u8]) -> Result<bool, String> {
    let document = json::Document::parse(bytes);
    if let Ok(document) = &document {
        let mut open = vec![json::Place::ROOT];
        let mut walked = 0;
        while let Some(place) = open.pop() {
            walked += 1;
            if walked > json::NODES_MAX {
                return Err("a document has more values than the limit".to_owned());
            }
            open.extend(document.children(place).map(|(_, child)| child));
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        for delimiter in [',', ';'] {
            drop(csv::rows(text, delimiter, bytes.len().is_multiple_of(2)));
        }
        drop(json::path(text));
    }
    for kind in binary::TYPES {
        let settings = serde_json::json!({ "at": bytes.first(), "data": kind });
        let layout = binary::Layout::read(&mut config::Object::new(&settings, ""));
        drop(layout.and_then(|layout| layout.decode(bytes)));
    }
    Ok(document.is_ok())
}

/// Payloads of edge nodes.
fn sparkplug(bytes: &[u8]) -> Result<bool, String> {
    match payload::decode(bytes) {
        Ok(payload) if payload.metrics.len() > payload::METRICS_MAX => Err("more metrics than the limit".to_owned()),
        Ok(payload) => Ok(!payload.metrics.is_empty()),
        Err(_) => Ok(false),
    }
}

/// Tables of points: whatever is understood comes out as it went in.
fn points_table(bytes: &[u8]) -> Result<bool, String> {
    let (table, columns) = &*MODBUS_POINTS;
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(false) };
    let Ok(parsed) = config::table::parse(text, columns) else { return Ok(false) };
    let Ok(merged) = config::table::merge(table, &[], &parsed, false) else { return Ok(false) };
    let written = config::table::export(table, columns, &merged.points);
    let told = |problems: Vec<config::table::LineProblem>| format!("{:?} in {written:?}", problems.first());
    let again = config::table::parse(&written, columns).map_err(told)?;
    let same = config::table::merge(table, &merged.points, &again, true).map_err(told)?;
    if same.points != merged.points || !same.changes.is_empty() {
        return Err(format!("{:?} in {written:?}", same.changes));
    }
    Ok(!merged.points.is_empty())
}

/// The table of Modbus points, and its columns.
pub(crate) static MODBUS_POINTS: LazyLock<(config::Table, Vec<config::table::Column>)> = LazyLock::new(|| {
    let specs = adapters::catalog::specs();
    let spec = specs.iter().find(|spec| spec.type_name == "modbus_tcp").expect("it is in the list");
    let table = spec.table.expect("it has points");
    (table, table.columns(&(spec.schema)()))
});

/// Replies of devices in both framings, and what the registers in them become (AC-102).
fn modbus_replies(bytes: &[u8]) -> Result<bool, String> {
    const PIECE: usize = 7;
    const FRAME_BYTES_MAX: usize = 260;
    let mut whole = false;
    let mut deframer = Deframer::new();
    'pieces: for piece in bytes.chunks(PIECE) {
        deframer.push(piece);
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => whole |= modbus_reply(frame.unit, frame.pdu),
                Ok(None) => break,
                Err(_) => break 'pieces, // the connection ends
            }
        }
        if deframer.pending_bytes() > FRAME_BYTES_MAX {
            return Err(format!("{} bytes wait for the rest of a frame", deframer.pending_bytes()));
        }
    }
    for found in [rtu::whole(bytes), rtu::request(bytes).and_then(|(frame, _)| frame.ok())].into_iter().flatten() {
        whole |= modbus_reply(found.unit, found.pdu);
    }
    if let rtu::Look::Whole(frame) = rtu::look(bytes) {
        whole |= modbus_reply(frame.unit, frame.pdu);
    }
    let registers: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let text = DataType::Text { registers: 4, chars: CharOrder::LowHigh, encoding: Encoding::Utf8 };
    let kinds = [
        DataType::Bool,
        DataType::Bit { place: 15 },
        DataType::BitField { place: 4, width: 12 },
        DataType::Int8(Half::High),
        DataType::Uint16,
        DataType::Int32,
        DataType::Float32,
        DataType::Uint64,
        DataType::Float64,
        DataType::Bcd16,
        DataType::Bcd32,
        DataType::Mod10 { registers: 4 },
        text,
        DataType::Raw { registers: 4 },
    ];
    for (kind, order) in kinds.into_iter().flat_map(|kind| Order::ALL.map(|order| (kind, order))) {
        // Also as many as it does not want.
        drop((kind.decode(order, &registers), kind.pattern(order, &registers)));
        if let Some(own) = registers.get(..usize::from(kind.registers())) {
            drop((kind.decode(order, own), kind.pattern(order, own)));
        }
    }
    Ok(whole)
}

/// True if it is the reply to one of a few requests.
fn modbus_reply(unit: u8, pdu: &[u8]) -> bool {
    let tables = [Table::Coil, Table::DiscreteInput, Table::HoldingRegister, Table::InputRegister];
    let reads = tables.into_iter().flat_map(|table| [1, 2, 125].map(|count| Read::new(unit, table, 0, count)));
    reads.flatten().any(|read| read.decode(unit, pdu).is_ok())
}

/// The checksum of a serial line, behind all the rest.
fn mend_modbus(bytes: &mut [u8]) {
    if let Some((body, sum)) = bytes.split_last_chunk_mut::<2>() {
        *sum = rtu::checksum(body).to_le_bytes();
    }
}

fn mend_batches(bytes: &mut [u8]) {
    let mut position = 0;
    while let Ok(header) = Header::parse(&bytes[position..]) {
        let end = position + header.size();
        if end > bytes.len() || header.size() == 0 {
            return;
        }
        let checksum = crc32c::crc32c(&bytes[position + 21..end]);
        bytes[position + 17..position + 21].copy_from_slice(&checksum.to_be_bytes());
        position = end;
    }
}

fn mend_state(bytes: &mut [u8]) {
    const FIXED: usize = 20;
    if bytes.len() < FIXED {
        return;
    }
    let (head, payload) = bytes.split_at_mut(FIXED);
    head[8..16].copy_from_slice(&u64::try_from(payload.len()).unwrap_or_default().to_be_bytes());
    head[16..20].copy_from_slice(&crc32c::crc32c(payload).to_be_bytes());
}
