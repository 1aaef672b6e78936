//! OPC UA without security, so that services can be told by the numbers of their types: no Write, no Call but
//! `ConditionRefresh`, and only what reads, listens and looks around.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use adapters::opcua::browse::{Wish, browse};
use adapters::opcua::probe::probe;
use opcua_types::{
    BinaryDecodable, BrowseNextRequest, CallRequest, ContextOwned, DecodingOptions, NamespaceMap, NodeId, ObjectId,
};
use serde_json::json;

use crate::opcua::probing::insecure;
use crate::opcua::process::{Process, settings};
use crate::opcua::server::{Server, available, free_port, not_run};
use crate::wire::Wire;

/// Services, by the names of their requests.
const ALLOWED: [&str; 18] = [
    "GetEndpoints",
    "OpenSecureChannel",
    "CloseSecureChannel",
    "CreateSession",
    "ActivateSession",
    "CloseSession",
    "Read",
    "HistoryRead",
    "Browse",
    "BrowseNext",
    "TranslateBrowsePathsToNodeIds",
    "CreateSubscription",
    "DeleteSubscriptions",
    "TransferSubscriptions",
    "CreateMonitoredItems",
    "Publish",
    "Republish",
    "Call",
];
const CONDITION_TYPE: u32 = 2782;
const CONDITION_REFRESH: u32 = 3875;

/// A request that was sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    /// `Read`, `CreateMonitoredItems`...
    pub(crate) service: String,
    /// Behind the number of its type.
    pub(crate) body: Vec<u8>,
}

/// A little-endian number of four bytes at a place.
fn number(bytes: &[u8], at: usize) -> Result<usize, String> {
    let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
    let number = bytes.map(|bytes| u32::from_le_bytes(*bytes)).ok_or("cut short")?;
    usize::try_from(number).map_err(|error| error.to_string())
}

/// The requests of a connection in their order: chunks joined, headers taken off (OPC 10000-6, 6.7).
pub(crate) fn requests(sent: &[u8]) -> Result<Vec<Request>, String> {
    let mut requests = Vec::new();
    let mut parts: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut rest = sent;
    while !rest.is_empty() {
        let size = number(rest, 4)?;
        let chunk = rest.get(..size).filter(|chunk| chunk.len() >= 8).ok_or("a chunk is cut short")?;
        rest = &rest[size..];
        // header, channel; then the security of an opening, or the token
        let mut place = 12;
        match &chunk[..3] {
            b"HEL" => continue,
            b"OPN" => {
                for _ in 0..3 {
                    let length = number(chunk, place)?;
                    place += 4 + if length == u32::MAX as usize { 0 } else { length };
                }
            }
            b"MSG" | b"CLO" => place += 4,
            other => return Err(format!("a message {:?}", String::from_utf8_lossy(other))),
        }
        let id = number(chunk, place + 4)?;
        let body = chunk.get(place + 8..).ok_or("a chunk is cut short")?;
        parts.entry(id).or_default().extend_from_slice(body);
        match chunk[3] {
            b'C' => {}
            b'F' => requests.push(request(&parts.remove(&id).unwrap_or_default())?),
            _ => return Err("a request that was given up".to_owned()),
        }
    }
    if parts.is_empty() { Ok(requests) } else { Err(format!("{} requests have no end", parts.len())) }
}

fn request(message: &[u8]) -> Result<Request, String> {
    // the number of a type is of the standard's namespace and of two bytes
    let [1, 0, low, high, body @ ..] = message else { return Err(format!("no type: {:02x?}", &message[..8])) };
    let number = u32::from(u16::from_le_bytes([*low, *high]));
    let name = ObjectId::try_from(number).map_err(|()| format!("no type {number}"))?;
    let name = format!("{name:?}");
    let service = name.strip_suffix("Request_Encoding_DefaultBinary").ok_or_else(|| format!("no request: {name}"))?;
    Ok(Request { service: service.to_owned(), body: body.to_vec() })
}

/// Services that were asked for; what must not be is an error.
fn judge(sent: &[u8]) -> Result<BTreeSet<String>, String> {
    let mut services = BTreeSet::new();
    for request in requests(sent)? {
        if !ALLOWED.contains(&request.service.as_str()) {
            return Err(format!("the service {}", request.service));
        }
        if request.service == "Call" {
            let context = ContextOwned::new_default(NamespaceMap::new(), DecodingOptions::default());
            let call =
                CallRequest::decode(&mut &request.body[..], &context.context()).map_err(|error| error.to_string())?;
            for method in call.methods_to_call.unwrap_or_default() {
                let called = (method.object_id, method.method_id);
                if called != (NodeId::new(0, CONDITION_TYPE), NodeId::new(0, CONDITION_REFRESH)) {
                    return Err(format!("a call of {} at {}", called.1, called.0));
                }
            }
        }
        services.insert(request.service);
    }
    Ok(services)
}

/// True if the rest of a list is not wanted any more (UA-21).
fn gives_back(request: &Request) -> bool {
    let context = ContextOwned::new_default(NamespaceMap::new(), DecodingOptions::default());
    BrowseNextRequest::decode(&mut &request.body[..], &context.context()).unwrap().release_continuation_points
}

// AC-030, UA-11, UA-21, UA-28, G-01
#[tokio::test]
async fn opcua_asks_for_nothing_that_changes_the_server() {
    if let Err(why) = available() {
        return not_run("a capture of OPC UA", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = Server::start_on(free_port(), &["none", "history", "pages=3"]).await;
    for name in ["Temp", "Level"] {
        server.add(name, 0.0).await;
    }
    server.tell(&json!({"do": "condition", "name": "Hot"})).await;
    let wire = Wire::start(server.port).await;
    let more = json!({
        "back_fill": {"reach": "1h", "values_per_second": 1000}, "events": [{}], "points": [
            {"node": "nsu=urn:test:line;s=Temp", "parameter": "temp", "deadband": {"type": "absolute", "value": 0.5}},
            {"node": "nsu=urn:test:line;s=Level", "parameter": "level", "mode": "read"},
            {"node": "nsu=urn:test:line;s=Nowhere", "parameter": "nowhere"},
        ],
    });
    let process = Process::start(&settings(wire.address.port(), &[], &more), state.path());
    process.kept.until_told("condition.refresh", 1).await;
    process.kept.until("values", |seen| seen.len() >= 3).await;
    server.tell(&json!({"do": "condition", "name": "Hot", "fields": {"AckedState/Id": true}})).await;
    process.kept.until_told("condition.state", 2).await;
    // a cut that the session outlives, and one that the subscriptions do not
    for lost in [false, true] {
        wire.set_open(false);
        process.until("/health", "\"connected\":false").await;
        server.tell(&json!({"do": "series", "name": "Temp", "from": 1, "to": 30, "pause": 0.01})).await;
        if lost {
            server.tell(&json!({"do": "forget"})).await;
        }
        wire.set_open(true);
        process.until("/health", "\"connected\":true").await;
    }
    let is_filled = |seen: &crate::support::Seen| seen.flags.iter().any(|flag| flag == "backfill");
    process.kept.until("what history has", |seen| seen.iter().any(is_filled)).await;
    process.kept.until_told("condition.refresh", 2).await;
    let guest = insecure(wire.address.port(), state.path());
    assert!(probe(&guest, &mut |_| ()).await.ok);
    for (limit, depth) in [(1000, 3), (4, 2)] {
        let wish = Wish { start: None, depth, limit, properties: true };
        browse(&guest, &wish, &mut |_| {}).await.unwrap();
    }
    process.end().await;

    let heard = wire.heard();
    let mut services = BTreeSet::new();
    for heard in &heard {
        services.extend(judge(&heard.sent).unwrap());
    }
    // all but what this server gives no occasion for: it keeps a session over a cut, and knows its nodes by their names
    let left_out = ["TransferSubscriptions", "TranslateBrowsePathsToNodeIds", "DeleteSubscriptions"];
    for service in ALLOWED.iter().filter(|service| !left_out.contains(service)) {
        assert!(services.contains(*service), "{service} is not in {services:?}");
    }
    // UA-21: who looks around has a connection and a session of his own, and leaves nothing behind
    let browsing: Vec<BTreeSet<String>> = heard
        .iter()
        .map(|heard| judge(&heard.sent).unwrap())
        .filter(|services| services.contains("BrowseNext"))
        .collect();
    assert!(
        !browsing.is_empty()
            && browsing.iter().all(|services| {
                services.contains("CreateSession") && services.contains("CloseSession") && !services.contains("Publish")
            }),
        "{browsing:?}"
    );
    let of_browsing = heard.iter().flat_map(|heard| requests(&heard.sent).unwrap());
    assert!(of_browsing.filter(|request| request.service == "BrowseNext").any(|request| gives_back(&request)));
    server.tell(&json!({"do": "open"})).await;
    assert!(server.wait("open").await.starts_with("open 0 "), "every list was given back");
    tokio::time::timeout(Duration::from_secs(5), server.subscriptions()).await.unwrap();
}

#[test]
fn a_write_or_another_call_would_be_seen() {
    use opcua_types::{BinaryEncodable, CallMethodRequest};
    let message = |kind: &[u8; 4], number: u16, body: &[u8]| {
        let mut bytes = kind.to_vec();
        let size = u32::try_from(28 + body.len()).unwrap();
        bytes.extend(size.to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend(7_u32.to_le_bytes());
        bytes.extend([1, 0]);
        bytes.extend(number.to_le_bytes());
        bytes.extend(body);
        bytes
    };
    assert_eq!(judge(&message(b"MSGF", 631, b"")), Ok(BTreeSet::from(["Read".to_owned()])));
    assert_eq!(judge(&message(b"MSGF", 673, b"")), Err("the service Write".to_owned()));
    assert!(judge(&message(b"MSGF", 700, b"")).unwrap_err().contains("HistoryUpdate"));
    // the second half of a chunked message is no type of its own
    let halves = [message(b"MSGC", 631, b"x"), message(b"MSGF", 673, b"")].concat();
    assert_eq!(requests(&halves).unwrap().len(), 1);
    assert!(judge(&message(b"MSGC", 631, b"")).unwrap_err().contains("no end"));
    assert!(judge(&message(b"MSGF", 631, b"")[..20]).is_err());
    let context = ContextOwned::new_default(NamespaceMap::new(), DecodingOptions::default());
    let call = |object: u32, method: u32| {
        let method = CallMethodRequest {
            object_id: NodeId::new(0, object),
            method_id: NodeId::new(0, method),
            input_arguments: None,
        };
        let request = CallRequest { methods_to_call: Some(vec![method]), ..CallRequest::default() };
        judge(&message(b"MSGF", 712, &request.encode_to_vec(&context.context())))
    };
    assert_eq!(call(CONDITION_TYPE, CONDITION_REFRESH), Ok(BTreeSet::from(["Call".to_owned()])));
    assert!(call(CONDITION_TYPE, 9111).unwrap_err().contains("9111"), "the Acknowledge of a condition");
}
