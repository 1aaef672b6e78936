//! MQTT: no message but the one that asks a Sparkplug node for its birth; no will.

use std::collections::BTreeSet;
use std::time::Duration;

use adapters::mqtt::listen::listen;
use adapters::mqtt::probe::probe;
use serde_json::json;

use crate::mqtt::broker::{Broker, not_run};
use crate::mqtt::probing::guest;
use crate::mqtt::process::{Process, settings};
use crate::mqtt::sparkplug::{Node, node_available};
use crate::wire::Wire;

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
/// Greeting, acknowledgements, subscriptions, signs of life, goodbye.
const ALLOWED: [(u8, &str); 8] = [
    (CONNECT, "CONNECT"),
    (4, "PUBACK"),
    (5, "PUBREC"),
    (7, "PUBCOMP"),
    (8, "SUBSCRIBE"),
    (10, "UNSUBSCRIBE"),
    (12, "PINGREQ"),
    (14, "DISCONNECT"),
];

/// What a connection consists of: names of packets, and `rebirth of NODE`.
fn judge(sent: &[u8]) -> Result<BTreeSet<String>, String> {
    let mut found = BTreeSet::new();
    let mut rest = sent;
    while !rest.is_empty() {
        let (kind, body, after) = packet(rest).ok_or_else(|| format!("no packet: {rest:02x?}"))?;
        rest = after;
        let allowed = ALLOWED.iter().find(|(number, _)| *number == kind >> 4);
        match (kind >> 4, allowed) {
            (PUBLISH, _) => found.insert(message(kind, body)?),
            (CONNECT, _) if has_will(body) => return Err("a will".to_owned()),
            (_, Some((_, name))) => found.insert((*name).to_owned()),
            (number, None) => return Err(format!("packet {number}")),
        };
    }
    Ok(found)
}

/// First byte, body, and what follows.
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let mut length = 0;
    for place in 0..4 {
        let byte = *bytes.get(1 + place)?;
        length |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            let begin = 2 + place;
            return Some((bytes[0], bytes.get(begin..begin + length)?, &bytes[begin + length..]));
        }
    }
    None
}

/// The flag of a will in a greeting: behind the name of the protocol and its version.
fn has_will(body: &[u8]) -> bool {
    body.get(7).is_none_or(|flags| flags & 4 != 0)
}

/// A message of ours: only the request for a birth, by name and not by a number that the node may have changed.
fn message(kind: u8, body: &[u8]) -> Result<String, String> {
    let length = body.first_chunk::<2>().map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
    let topic = body.get(2..2 + length).map(String::from_utf8_lossy).unwrap_or_default();
    let parts: Vec<&str> = topic.split('/').collect();
    let ["spBv1.0", _, "NCMD", node] = parts[..] else { return Err(format!("a message to {topic}")) };
    if kind & 1 == 1 {
        return Err(format!("a retained message to {topic}"));
    }
    // a metric of the name, datatype 11, boolean value true: after the name nothing else (MQ-18)
    let name = b"Node Control/Rebirth";
    let place = body.windows(name.len()).position(|part| part == name);
    let metric = place.map(|place| &body[place + name.len()..]).unwrap_or_default();
    let is_true = metric.windows(2).any(|pair| pair == [0x70, 1]) && metric.windows(2).any(|pair| pair == [0x20, 11]);
    if is_true { Ok(format!("rebirth of {node}")) } else { Err(format!("another command to {topic}")) }
}

// AC-030, MQ-11, MQ-18, MQ-22, G-01
#[tokio::test]
async fn mqtt_sends_no_message_but_the_request_for_a_birth() {
    if let Err(why) = node_available() {
        return not_run("a capture of MQTT", &why);
    }
    let broker = Broker::start("");
    let wire = Wire::start(broker.port).await;
    // the node is there first: its birth was missed, and is asked for
    let mut node = Node::start(broker.port).await;
    broker.publish_with("plant/kept", br#"{"v":0}"#, &["-r", "-q", "1"]);
    for version in ["5", "3.1.1"] {
        let field = json!([{"path": "/v", "parameter": "v"}]);
        let plain = json!({
            "version": version, "client_id": format!("plain-{version}"), "keep_alive_s": 5, "subscriptions": [
                {"filter": "plant/+", "fields": field, "qos": 1}, {"filter": "twice/#", "fields": field, "qos": 2}],
        });
        let process = Process::start(&settings(wire.address.port(), &plain));
        process.until_connected().await;
        broker.publish("plant/press", br#"{"v":1}"#);
        broker.publish("plant/press", b"poison");
        broker.publish_with("twice/press", br#"{"v":2}"#, &["-q", "2"]);
        process.kept.until("both", |seen| seen.len() >= 3).await;
        wire.set_open(false);
        process.until("/health", "\"connected\":false").await;
        wire.set_open(true);
        process.until_connected().await;
        broker.publish("plant/press", br#"{"v":3}"#);
        process.kept.until("the next", |seen| seen.iter().any(|seen| seen.value == "Float(3.0)")).await;
        // as long as it takes to show that we are alive
        let pings = async {
            while !wire.heard().iter().any(|heard| judge(&heard.sent).is_ok_and(|said| said.contains("PINGREQ"))) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(crate::support::DEADLINE, pings).await.expect("a sign of life");
        process.end().await;

        let more =
            json!({"version": version, "client_id": format!("plug-{version}"), "sparkplug": {"groups": ["Plant A"]}});
        let process = Process::start(&settings(wire.address.port(), &more));
        process.until_connected().await;
        node.tell("data 21.5").await;
        node.wait("NCMD Node Control/Rebirth True").await;
        process.end().await;

        let guest = guest(wire.address.port(), &json!({"version": version}));
        assert!(probe(&guest, "plant/#", Duration::from_secs(1), &mut |_| ()).await.ok);
        listen(&guest, "#", Duration::from_secs(1), 100).await.unwrap();
    }
    let heard = wire.heard();
    assert!(heard.len() >= 10, "{} connections", heard.len());
    let mut said: BTreeSet<String> = BTreeSet::new();
    for heard in &heard {
        said.extend(judge(&heard.sent).unwrap());
    }
    for reached in ["CONNECT", "PUBACK", "PUBREC", "PUBCOMP", "SUBSCRIBE", "PINGREQ", "DISCONNECT", "rebirth of Edge1"]
    {
        assert!(said.contains(reached), "{reached} is not in {said:?}");
    }
    let births = heard.iter().filter(|heard| judge(&heard.sent).is_ok_and(|said| said.contains("rebirth of Edge1")));
    assert_eq!(births.count(), 2, "once for each adapter that missed it");
}

#[test]
fn a_message_would_be_seen() {
    let publish = |topic: &str, kind: u8| {
        let length = u8::try_from(topic.len()).unwrap();
        [&[kind, length + 4, 0, length][..], topic.as_bytes(), b"on"].concat()
    };
    assert_eq!(judge(&[0xC0, 0, 0xE0, 0]).unwrap().len(), 2);
    assert!(judge(&publish("plant/press", 0x30)).unwrap_err().contains("a message to plant/press"));
    assert!(judge(&publish("spBv1.0/STATE/us", 0x31)).unwrap_err().contains("STATE"));
    assert!(judge(&publish("spBv1.0/Plant A/NCMD/Edge1", 0x30)).unwrap_err().contains("another command"));
    assert!(judge(&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 6, 0, 30, 0, 0]).unwrap_err().contains("a will"));
    assert!(judge(&[0x62, 2, 0]).is_err() && judge(&[0x20, 0]).is_err());
}
