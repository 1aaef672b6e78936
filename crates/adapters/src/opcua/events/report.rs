//! What one event notification says (UA-26): read from its fields, with texts made safe and times judged.
//!
//! Pure. A field that the event does not have is null, and that is no error; texts from the field are cut and stripped of
//! control characters (G-11).

use model::{AlarmState, Quality, SuppressionKind, Timestamp};

use super::super::node::Identity;
use super::super::stack::{Identifier, NodeId, ObjectTypeId, Variant, micros};
use super::super::value::{self, When, believe};
use super::filter::{Fields, Slot};
use super::settings::Source;
use crate::mqtt::json::Scalar;

/// Characters kept of a message, and of other texts.
const MESSAGE_MAX: usize = 1024;
const TEXT_MAX: usize = 256;
/// Bytes kept of an event's id; the standard's servers use 16.
const EVENT_ID_MAX: usize = 64;
/// Characters of a condition's identity; of a longer one the end is a checksum, so that it stays one of its own.
const IDENTITY_MAX: usize = 200;

/// What kind of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something happened.
    Plain,
    RefreshStart,
    RefreshEnd,
    /// The server says that it told nobody of some changes.
    RefreshRequired,
    /// Events were thrown away: the queue of the item was full.
    Overflow,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub kind: Kind,
    pub event_id: Vec<u8>,
    pub event_type: String,
    pub source_node: String,
    pub source_name: String,
    pub when: Moment,
    pub received: Option<Timestamp>,
    pub message: String,
    /// As the server says it, 1 to 1000.
    pub severity: u16,
    pub condition: Option<Condition>,
    pub fields: Vec<(String, String)>,
}

/// When it happened, by whose clock, and what is wrong with that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    pub time: Timestamp,
    pub source: &'static str,
    pub finding: Option<&'static str>,
    pub raw: Option<Box<str>>,
}

impl From<When> for Moment {
    fn from(When { time, source, finding, raw }: When) -> Self {
        Self { time, source, finding, raw }
    }
}

/// The condition an event tells of.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Server, condition and branch (UA-27).
    pub identity: String,
    pub condition_id: String,
    /// Empty for the condition itself.
    pub branch_id: String,
    pub name: String,
    pub facts: Facts,
    /// Status of the value it is judged by.
    pub status: Option<u32>,
    pub comment: String,
    pub client_user: String,
}

/// What the server says of a condition; none where it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    pub retain: Option<bool>,
    pub enabled: Option<bool>,
    pub active: Option<bool>,
    pub acked: Option<bool>,
    pub confirmed: Option<bool>,
    pub suppressed: Option<bool>,
    pub out_of_service: Option<bool>,
    pub shelved: Option<bool>,
}

impl Facts {
    /// Whether it is there. A condition without a state of its own is there while the server retains it; one that is
    /// not retained is over, whatever else is said (UA-29).
    pub fn is_active(self) -> bool {
        let is_live = self.enabled != Some(false) && self.retain != Some(false);
        is_live && self.active.unwrap_or(self.retain == Some(true))
    }

    /// Why the source suppresses it, in the order of ALM-01.
    pub fn suppression(self) -> Option<SuppressionKind> {
        if self.shelved == Some(true) {
            Some(SuppressionKind::Shelved)
        } else if self.suppressed == Some(true) {
            Some(SuppressionKind::ByDesign)
        } else if self.out_of_service == Some(true) {
            Some(SuppressionKind::OutOfService)
        } else {
            (self.enabled == Some(false)).then_some(SuppressionKind::Disabled)
        }
    }

    /// UA-29
    pub fn state(self) -> AlarmState {
        match (self.suppression(), self.is_active(), self.acked) {
            (Some(_), ..) => AlarmState::Suppressed,
            (None, false, _) => AlarmState::Cleared,
            (None, true, Some(true)) => AlarmState::Acknowledged,
            (None, true, _) => AlarmState::Active,
        }
    }
}

/// What a session knows that a notification needs.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    pub namespaces: &'a [String],
    pub server_uri: &'a str,
    pub arrived: Timestamp,
}

/// Reads a notification.
pub fn read(fields: Fields<'_>, source: &Source, around: Around<'_>) -> Report {
    let text = |slot| text_of(fields.get(slot), around.namespaces, TEXT_MAX);
    let event_type = match fields.get(Slot::EventType) {
        Variant::NodeId(node) => Some(&**node),
        _ => None,
    };
    let event_id = match fields.get(Slot::EventId) {
        Variant::ByteString(bytes) => bytes.as_ref().iter().copied().take(EVENT_ID_MAX).collect(),
        _ => Vec::new(),
    };
    let further = source.fields.iter().enumerate().filter_map(|(place, field)| {
        let said = text_of(fields.further(place), around.namespaces, TEXT_MAX);
        (!said.is_empty()).then(|| (format!("field.{}", field.name), said))
    });
    let received = time_of(fields.get(Slot::ReceiveTime));
    Report {
        kind: event_type.map_or(Kind::Plain, kind_of),
        event_id,
        event_type: text(Slot::EventType),
        source_node: text(Slot::SourceNode),
        source_name: text(Slot::SourceName),
        when: believe(time_of(fields.get(Slot::Time)), received, around.arrived).into(),
        received: received.map(Timestamp::from_micros),
        message: text_of(fields.get(Slot::Message), around.namespaces, MESSAGE_MAX),
        severity: severity_of(fields.get(Slot::Severity)),
        condition: condition(fields, around),
        fields: further.collect(),
    }
}

fn kind_of(node: &NodeId) -> Kind {
    let Identifier::Numeric(number) = node.identifier else { return Kind::Plain };
    let is = |kind: ObjectTypeId| node.namespace == 0 && number == kind as u32;
    if is(ObjectTypeId::RefreshStartEventType) {
        Kind::RefreshStart
    } else if is(ObjectTypeId::RefreshEndEventType) {
        Kind::RefreshEnd
    } else if is(ObjectTypeId::RefreshRequiredEventType) {
        Kind::RefreshRequired
    } else if is(ObjectTypeId::EventQueueOverflowEventType) {
        Kind::Overflow
    } else {
        Kind::Plain
    }
}

fn condition(fields: Fields<'_>, around: Around<'_>) -> Option<Condition> {
    let text = |slot| text_of(fields.get(slot), around.namespaces, TEXT_MAX);
    let id_of = |slot| match fields.get(slot) {
        Variant::NodeId(node) if !is_null(node) => long_text(node, around.namespaces),
        _ => String::new(),
    };
    let flag = |slot| match fields.get(slot) {
        Variant::Boolean(flag) => Some(*flag),
        _ => None,
    };
    let name = text(Slot::ConditionName);
    let retain = flag(Slot::Retain);
    let condition_id = match id_of(Slot::ConditionId) {
        // some servers do not tell the id; then source and name are all there is
        empty if empty.is_empty() && retain.is_some() && !name.is_empty() => {
            format!("{}!{name}", id_of(Slot::SourceNode))
        }
        id => id,
    };
    if condition_id.is_empty() {
        return None;
    }
    let branch_id = id_of(Slot::BranchId);
    let shelved = match (fields.get(Slot::ShelvingId), fields.get(Slot::Shelving)) {
        (Variant::NodeId(state), _) if !is_null(state) => Some(**state != unshelved()),
        (_, Variant::LocalizedText(state)) => state.text.value().as_ref().map(|state| state != "Unshelved"),
        _ => None,
    };
    Some(Condition {
        identity: identity(around.server_uri, &condition_id, &branch_id),
        name,
        facts: Facts {
            retain,
            enabled: flag(Slot::Enabled),
            active: flag(Slot::Active),
            acked: flag(Slot::Acked),
            confirmed: flag(Slot::Confirmed),
            suppressed: flag(Slot::Suppressed),
            out_of_service: flag(Slot::OutOfService),
            shelved,
        },
        status: match fields.get(Slot::Quality) {
            Variant::StatusCode(status) => Some(status.bits()),
            _ => None,
        },
        comment: text(Slot::Comment),
        client_user: text(Slot::ClientUserId),
        condition_id,
        branch_id,
    })
}

/// `condition@server`, with the branch behind it where there is one.
pub fn identity(server_uri: &str, condition_id: &str, branch_id: &str) -> String {
    let branch = if branch_id.is_empty() { String::new() } else { format!(";branch={branch_id}") };
    let whole = format!("{condition_id}{branch}@{server_uri}");
    let plain: String = whole.chars().map(|char| if char.is_control() { '_' } else { char }).collect();
    if plain.chars().count() <= IDENTITY_MAX {
        return plain;
    }
    // FNV-1a: the same in every version of this program, which a hasher of the library does not promise
    let sum = whole
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let begin: String = plain.chars().take(IDENTITY_MAX - 17).collect();
    format!("{begin}~{sum:016x}")
}

fn unshelved() -> NodeId {
    super::super::stack::ObjectId::ShelvedStateMachineType_Unshelved.into()
}

fn is_null(node: &NodeId) -> bool {
    node.namespace == 0 && node.identifier == Identifier::Numeric(0)
}

fn time_of(variant: &Variant) -> Option<i64> {
    match variant {
        Variant::DateTime(time) => micros(time),
        _ => None,
    }
}

fn severity_of(variant: &Variant) -> u16 {
    match value::scalar(variant) {
        Some(Scalar::Int(number)) => u16::try_from(number.clamp(1, 1000)).unwrap_or(1),
        _ => 1,
    }
}

fn long_text(node: &NodeId, namespaces: &[String]) -> String {
    Identity::of(node, namespaces).map_or_else(|| node.to_string(), |identity| identity.to_string())
}

/// Empty where there is none, or nothing that can be written as a text.
fn text_of(variant: &Variant, namespaces: &[String], max: usize) -> String {
    let said = match variant {
        Variant::NodeId(node) if is_null(node) => String::new(),
        Variant::NodeId(node) => long_text(node, namespaces),
        other => match value::scalar(other) {
            Some(Scalar::Text(text)) => text.into_owned(),
            Some(Scalar::Bool(flag)) => flag.to_string(),
            Some(Scalar::Int(number)) => number.to_string(),
            Some(Scalar::Unsigned(number)) => number.to_string(),
            Some(Scalar::Float(number)) => number.to_string(),
            _ => String::new(),
        },
    };
    said.chars().filter(|char| !char.is_control()).take(max).collect()
}

/// The quality of what a condition is judged by.
pub fn quality_of(status: Option<u32>) -> (Quality, Option<&'static str>) {
    let verdict = value::judge(status.unwrap_or_default()).verdict;
    (verdict.quality(), verdict.reason())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::opcua::config::plan;
    use crate::opcua::config::tests::settings;
    use crate::opcua::events::filter::Level;
    use crate::opcua::node::STANDARD;
    use crate::opcua::stack::{ByteString, LocalizedText, StatusCode, UAString, date_time};
    use model::{reason, time_source};
    use serde_json::json;

    fn source() -> Source {
        let fields = json!({"fields": {"order": "nsu=urn:x;Order"}});
        plan(&settings(&json!({"events": [fields]})), "").unwrap().events.remove(0)
    }

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339("2026-05-01T10:00:00Z").unwrap()
    }

    fn node(id: u32) -> Variant {
        Variant::NodeId(Box::new(NodeId::new(2, id)))
    }

    fn text(text: &str) -> Variant {
        Variant::LocalizedText(Box::new(LocalizedText::new("en", text)))
    }

    fn said(set: &[(Slot, Variant)]) -> Report {
        let mut values = vec![Variant::Empty; 24];
        values[23] = Variant::UInt32(4711);
        for (slot, value) in set {
            values[*slot as usize] = value.clone();
        }
        let namespaces = [STANDARD, "urn:server", "urn:x"].map(str::to_owned);
        let around = Around { namespaces: &namespaces, server_uri: "urn:server", arrived: now() };
        read(Fields::new(&values, Level::Full), &source(), around)
    }

    // UA-26: what an event does not have is null
    #[test]
    fn an_event_with_nothing_in_it_is_still_one() {
        let bare = said(&[]);
        assert_eq!(
            (bare.kind, bare.severity, bare.condition.as_ref(), bare.message.as_str()),
            (Kind::Plain, 1, None, "")
        );
        assert_eq!((bare.when.time, bare.when.source), (now(), time_source::GATEWAY));
        assert_eq!(bare.when.finding, Some(reason::DEVICE_TIME_MISSING));
        assert_eq!(bare.fields, [("field.order".to_owned(), "4711".to_owned())]);
        assert!(
            read(Fields::new(&[], Level::Full), &source(), Around { namespaces: &[], server_uri: "", arrived: now() })
                .event_id
                .is_empty(),
            "not even the places"
        );
    }

    // UA-24, UA-26, G-11
    #[test]
    fn texts_are_cut_and_times_are_judged() {
        let past = now().as_micros() - 5_000_000;
        let time = |micros: i64| Variant::DateTime(Box::new(date_time(micros)));
        let full = said(&[
            (Slot::EventId, Variant::ByteString(ByteString::from(&[1u8; 100][..]))),
            (Slot::EventType, Variant::NodeId(Box::new(ObjectTypeId::RefreshEndEventType.into()))),
            (Slot::SourceNode, node(5)),
            (Slot::SourceName, Variant::String(UAString::from("Press\u{7} 1"))),
            (Slot::Time, time(past)),
            (Slot::ReceiveTime, time(past + 1)),
            (Slot::Message, text(&"x\n".repeat(2000))),
            (Slot::Severity, Variant::UInt16(2000)),
        ]);
        assert_eq!((full.kind, full.event_id.len(), full.severity), (Kind::RefreshEnd, EVENT_ID_MAX, 1000));
        assert_eq!((full.source_node.as_str(), full.source_name.as_str()), ("nsu=urn:x;i=5", "Press 1"));
        assert_eq!(full.message, "x".repeat(1024));
        assert_eq!((full.when.time.as_micros(), full.when.source), (past, time_source::DEVICE));
        let by_server = said(&[(Slot::ReceiveTime, time(past))]);
        assert_eq!((by_server.when.time.as_micros(), by_server.when.source), (past, time_source::SERVER));
        let ahead = said(&[(Slot::Time, time(past + 90_000_000_000))]);
        assert_eq!(ahead.when.finding, Some(reason::DEVICE_TIME_FUTURE));
    }

    // UA-27
    #[test]
    fn a_condition_is_named_by_server_condition_and_branch() {
        let retain = (Slot::Retain, Variant::Boolean(true));
        let own = said(&[(Slot::ConditionId, node(9)), retain.clone()]).condition.unwrap();
        assert_eq!(own.identity, "nsu=urn:x;i=9@urn:server");
        let branch = said(&[(Slot::ConditionId, node(9)), (Slot::BranchId, node(3))]).condition.unwrap();
        assert_eq!(branch.identity, "nsu=urn:x;i=9;branch=nsu=urn:x;i=3@urn:server");
        let nameless =
            [(Slot::SourceNode, node(5)), (Slot::ConditionName, Variant::String(UAString::from("High"))), retain];
        assert_eq!(said(&nameless).condition.unwrap().identity, "nsu=urn:x;i=5!High@urn:server");
        assert_eq!(said(&[(Slot::ConditionId, Variant::NodeId(Box::new(NodeId::null())))]).condition, None);
        let long = |last: &str| identity("urn:server", &format!("{}{last}", "n".repeat(4000)), "");
        assert!(long("a").chars().count() == IDENTITY_MAX && long("a") != long("b") && long("a") == long("a"));
    }

    // UA-29, every row
    #[test]
    fn the_table_of_the_specification() {
        use AlarmState::{Acknowledged, Active, Cleared, Suppressed};
        let facts = |retain, active, acked| Facts { retain, active, acked, enabled: Some(true), ..Facts::default() };
        let (yes, no) = (Some(true), Some(false));
        for (facts, state, is_active) in [
            (facts(yes, yes, no), Active, true),
            (facts(yes, yes, None), Active, true),
            (facts(yes, yes, yes), Acknowledged, true),
            (facts(yes, no, no), Cleared, false),
            (facts(no, no, yes), Cleared, false),
            (facts(no, yes, no), Cleared, false),
            (facts(None, yes, no), Active, true),
            (facts(yes, None, no), Active, true),
            (facts(None, None, None), Cleared, false),
            (Facts { suppressed: yes, ..facts(yes, yes, no) }, Suppressed, true),
            (Facts { out_of_service: yes, ..facts(yes, no, no) }, Suppressed, false),
            (Facts { shelved: yes, suppressed: yes, ..facts(yes, yes, no) }, Suppressed, true),
            (Facts { enabled: no, ..facts(no, yes, no) }, Suppressed, false),
        ] {
            assert_eq!((facts.state(), facts.is_active()), (state, is_active), "{facts:?}");
        }
        let kind = |facts: Facts| facts.suppression().map(SuppressionKind::as_str);
        assert_eq!(kind(Facts { shelved: yes, suppressed: yes, ..Facts::default() }), Some("shelved"));
        assert_eq!(kind(Facts { suppressed: yes, out_of_service: yes, ..Facts::default() }), Some("by_design"));
        assert_eq!(kind(Facts { enabled: no, ..Facts::default() }), Some("disabled"));
        let shelved = |id: u32, word: &str| {
            let id = Variant::NodeId(Box::new(NodeId::new(0, id)));
            let set = [(Slot::ConditionId, node(9)), (Slot::ShelvingId, id), (Slot::Shelving, text(word))];
            said(&set).condition.unwrap().facts.shelved
        };
        assert_eq!([shelved(2930, "Frei"), shelved(2932, "Frei"), shelved(0, "OneShotShelved")], [no, yes, yes]);
        assert_eq!(quality_of(Some(StatusCode::BadNoCommunication.bits())), (Quality::Bad, Some(reason::COMM_FAIL)));
    }
}
