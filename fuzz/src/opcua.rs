//! What an OPC UA server sends, from its first byte to the samples and events it becomes.
//!
//! Without security: what is sealed is opened by the crypto of a library before any of this sees it, and a peer that can
//! seal is one that a person has trusted.

use std::path::Path;
use std::sync::LazyLock;

use adapters::opcua::config::{self, Plan};
use adapters::opcua::events::filter::{Fields, Level};
use adapters::opcua::events::report::{self, Around};
use adapters::opcua::point::ELEMENTS_MAX;
use adapters::opcua::stack::{
    Channel, DataChangeNotification, DataValue, EventNotificationList, HistoryData, Incoming, NotificationMessage,
    ResponseMessage, Security, Variant, X509, leaf,
};
use adapters::opcua::{endpoint, trust, value};
use bytes::BytesMut;
use model::Timestamp;
use serde_json::json;

/// Message header: kind, finality, size.
const HEADER: usize = 8;
/// The place of the sequence number in a chunk of an open channel: behind header, channel and token.
const SEQUENCE: usize = 16;
/// Of the server that is listened to.
const NAMESPACES: [&str; 3] = ["http://opcfoundation.org/UA/", "urn:test:server", "urn:test:line"];

/// A point of each kind, and events with conditions.
static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let point = |name: &str, more: serde_json::Value| {
        let mut point = json!({"node": format!("nsu=urn:test:line;s={name}"), "parameter": name});
        if let (Some(point), Some(more)) = (point.as_object_mut(), more.as_object()) {
            point.extend(more.clone());
        }
        point
    };
    let settings = json!({
        "adapter_id": "fuzz", "adapter_type": "opcua", "url": "opc.tcp://fuzz:4840", "asset_id": "press",
        "security_policy": "None", "allow_insecure": true, "events": [{}], "points": [
            point("plain", json!({"deadband": {"type": "absolute", "value": 1}})),
            point("typed", json!({"type": "int"})),
            point("text", json!({"type": "string", "array": {"type": "json"}})),
            point("each", json!({"array": {"type": "explode"}})),
            point("one", json!({"array": {"type": "index", "index": 3}})),
        ],
    });
    config::plan(&settings, "").unwrap_or_else(|problems| panic!("{problems:?}"))
});

/// A greeting, an open channel, and an answer that says no.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let greeting =
        [&b"ACKF\x1c\0\0\0"[..], &[0; 4], &65_536_u32.to_le_bytes(), &65_536_u32.to_le_bytes(), &[0; 8]].concat();
    // time, handle, status, no diagnostics, no texts, no more
    let header = |handle: u32, status: u32| {
        [&[0; 8][..], &handle.to_le_bytes(), &status.to_le_bytes(), &[0], &u32::MAX.to_le_bytes(), &[0, 0, 0]].concat()
    };
    let policy = b"http://opcfoundation.org/UA/SecurityPolicy#None";
    let none = u32::MAX.to_le_bytes();
    let token = [&[7, 0, 0, 0, 1, 0, 0, 0][..], &[0; 8], &600_000_u32.to_le_bytes(), &none].concat();
    let length = u32::try_from(policy.len()).unwrap_or_default().to_le_bytes();
    let opening = [&[7, 0, 0, 0][..], &length, policy, &none, &none, &[1, 0, 0, 0, 1, 0, 0, 0]].concat();
    let opened = [&opening[..], &[1, 0, 0xC1, 1], &header(1, 0), &[0; 4], &token].concat();
    let fault =
        [&[7, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0x8D, 1][..], &header(2, 0x8013_0000)].concat();
    let message = |kind: &[u8; 4], body: &[u8]| {
        let size = u32::try_from(HEADER + body.len()).unwrap_or_default().to_le_bytes();
        [&kind[..], &size, body].concat()
    };
    let (opened, fault) = (message(b"OPNF", &opened), message(b"MSGF", &fault));
    vec![greeting.clone(), [&greeting[..], &opened].concat(), [&greeting[..], &opened, &fault].concat()]
}

/// Sizes that fit and numbers that follow each other: without them every change would end there.
pub(crate) fn mend(bytes: &mut [u8]) {
    let mut rest = bytes;
    let mut next = None;
    while rest.len() >= HEADER {
        let stated = rest[4..8].first_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size));
        let mut size = usize::try_from(stated).unwrap_or(usize::MAX);
        if !(HEADER..=rest.len()).contains(&size) {
            size = rest.len();
            rest[4..8].copy_from_slice(&u32::try_from(size).unwrap_or_default().to_le_bytes());
        }
        let (chunk, after) = rest.split_at_mut(size);
        if chunk.starts_with(b"MSG")
            && let Some(place) = chunk.get_mut(SEQUENCE..SEQUENCE + 4)
        {
            let said = place.first_chunk::<4>().map_or(0, |number| u32::from_le_bytes(*number));
            let number = next.unwrap_or(said);
            place.copy_from_slice(&number.to_le_bytes());
            next = Some(number.wrapping_add(1));
        }
        rest = after;
    }
}

/// All that comes over a connection: whatever it is, it is taken apart or refused.
pub(crate) fn attempt(bytes: &[u8]) -> Result<bool, String> {
    let mut channel = Channel::new(Path::new("/nonexistent"), Security::none()).map_err(|defect| defect.what)?;
    let mut asked = BytesMut::new();
    channel.hello("opc.tcp://fuzz:4840", &mut asked);
    channel.open(false, &mut asked).map_err(|defect| defect.what)?;
    let mut buffer = BytesMut::from(bytes);
    let mut understood = false;
    let before = buffer.len();
    while let Ok(Some(incoming)) = channel.take(&mut buffer) {
        if let Incoming::Response { message, .. } = incoming {
            look(message)?;
            understood = true;
        }
    }
    if buffer.len() > before { Err("there is more than came".to_owned()) } else { Ok(understood) }
}

/// What becomes of an answer.
fn look(message: ResponseMessage) -> Result<(), String> {
    match message {
        ResponseMessage::Publish(answer) => notification(&answer.notification_message),
        ResponseMessage::Republish(answer) => notification(&answer.notification_message),
        ResponseMessage::Read(answer) => answer.results.iter().flatten().try_for_each(sample),
        ResponseMessage::HistoryRead(answer) => {
            for result in answer.results.iter().flatten() {
                if let Some(data) = result.history_data.inner_as::<HistoryData>() {
                    data.data_values.iter().flatten().try_for_each(sample)?;
                }
            }
            Ok(())
        }
        ResponseMessage::GetEndpoints(answer) => {
            let endpoints = answer.endpoints.unwrap_or_default();
            drop(endpoint::choose(&endpoints, &PLAN.connection));
            for one in &endpoints {
                drop((endpoint::described(one), endpoint::differs("opc.tcp://a:1", one.endpoint_url.as_ref())));
                if let Ok(certificate) = X509::from_der(leaf(one.server_certificate.as_ref())) {
                    drop(trust::facts(&certificate));
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn notification(message: &NotificationMessage) -> Result<(), String> {
    let namespaces = NAMESPACES.map(str::to_owned);
    for part in message.notification_data.iter().flatten() {
        if let Some(changes) = part.inner_as::<DataChangeNotification>() {
            changes.monitored_items.iter().flatten().try_for_each(|change| sample(&change.value))?;
        } else if let Some(list) = part.inner_as::<EventNotificationList>() {
            for event in list.events.iter().flatten() {
                let fields = event.event_fields.as_deref().unwrap_or_default();
                for level in [Level::Full, Level::BaseFields] {
                    let around = Around { namespaces: &namespaces, server_uri: NAMESPACES[1], arrived: arrived() };
                    let told = report::read(Fields::new(fields, level), &PLAN.events[0], around);
                    if told.message.chars().any(char::is_control) {
                        return Err(format!("control characters in {:?}", told.message));
                    }
                }
            }
        }
    }
    Ok(())
}

/// A moment in 2026.
fn arrived() -> Timestamp {
    Timestamp::from_micros(1_769_680_800_000_000)
}

/// The samples of a value, whichever point it is of.
fn sample(data: &DataValue) -> Result<(), String> {
    for point in &PLAN.points {
        let made = value::samples(point, data, arrived());
        if made.len() > ELEMENTS_MAX.max(1) {
            return Err(format!("{} samples of one value", made.len()));
        }
    }
    if value::fingerprint(data) != value::fingerprint(&data.clone()) {
        return Err("the same value has two fingerprints".to_owned());
    }
    let shown = value::shown(data.value.as_ref().unwrap_or(&Variant::Empty));
    drop((shown, value::number_of(data), data.value.as_ref().map(value::type_of)));
    Ok(())
}
