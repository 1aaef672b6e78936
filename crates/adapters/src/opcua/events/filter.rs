//! What is asked of a server about events: which fields, and of which events (UA-26).
//!
//! Pure. Whether a condition of low severity counts depends on whether it is held, which only we know, and what brackets
//! a refresh must never be left out; so the filter lets both through, and [`super::report`] has the last word.

use super::super::node::Identity;
use super::super::stack::{
    AttributeId, ContentFilter, ContentFilterElement, ElementOperand, EventFilter, ExtensionObject, FilterOperator,
    LiteralOperand, NodeId, NumericRange, ObjectTypeId, QualifiedName, SimpleAttributeOperand, StatusCode, Variant,
};
use super::settings::Source;

/// How much of it the server takes; each refusal leaves something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Full,
    /// All events; those that are not wanted are left out here.
    AllEvents,
    /// And only the fields that every event has.
    BaseFields,
}

impl Level {
    /// What to try after a refusal.
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Full => Some(Self::AllEvents),
            Self::AllEvents => Some(Self::BaseFields),
            Self::BaseFields => None,
        }
    }
}

/// A field of a notification, in the order they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    EventId,
    EventType,
    SourceNode,
    SourceName,
    Time,
    ReceiveTime,
    Message,
    Severity,
    ConditionId,
    ConditionName,
    BranchId,
    Retain,
    Enabled,
    Active,
    Acked,
    Confirmed,
    Suppressed,
    OutOfService,
    Shelving,
    /// The state's own node: its text is in the language of the server.
    ShelvingId,
    Quality,
    Comment,
    ClientUserId,
}

use ObjectTypeId::{AcknowledgeableConditionType, AlarmConditionType, BaseEventType, ConditionType};

/// Where each stands; a server may refuse a path that its type does not have.
const SLOTS: [(Slot, ObjectTypeId, &str); 23] = [
    (Slot::EventId, BaseEventType, "EventId"),
    (Slot::EventType, BaseEventType, "EventType"),
    (Slot::SourceNode, BaseEventType, "SourceNode"),
    (Slot::SourceName, BaseEventType, "SourceName"),
    (Slot::Time, BaseEventType, "Time"),
    (Slot::ReceiveTime, BaseEventType, "ReceiveTime"),
    (Slot::Message, BaseEventType, "Message"),
    (Slot::Severity, BaseEventType, "Severity"),
    (Slot::ConditionId, ConditionType, ""),
    (Slot::ConditionName, ConditionType, "ConditionName"),
    (Slot::BranchId, ConditionType, "BranchId"),
    (Slot::Retain, ConditionType, "Retain"),
    (Slot::Enabled, ConditionType, "EnabledState/Id"),
    (Slot::Active, AlarmConditionType, "ActiveState/Id"),
    (Slot::Acked, AcknowledgeableConditionType, "AckedState/Id"),
    (Slot::Confirmed, AcknowledgeableConditionType, "ConfirmedState/Id"),
    (Slot::Suppressed, AlarmConditionType, "SuppressedState/Id"),
    (Slot::OutOfService, AlarmConditionType, "OutOfServiceState/Id"),
    (Slot::Shelving, AlarmConditionType, "ShelvingState/CurrentState"),
    (Slot::ShelvingId, AlarmConditionType, "ShelvingState/CurrentState/Id"),
    (Slot::Quality, ConditionType, "Quality"),
    (Slot::Comment, ConditionType, "Comment"),
    (Slot::ClientUserId, ConditionType, "ClientUserId"),
];
/// Of those the ones that every event has.
const BASE: usize = 8;

/// The fields of one notification.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    values: &'a [Variant],
    standard: usize,
}

impl<'a> Fields<'a> {
    pub fn new(values: &'a [Variant], level: Level) -> Self {
        Self { values, standard: standard(level) }
    }

    /// Empty where it was not asked for, or the event does not have it.
    pub fn get(&self, slot: Slot) -> &'a Variant {
        let at = slot as usize;
        self.values.get(at).filter(|_| at < self.standard).unwrap_or(&Variant::Empty)
    }

    /// A field of the settings, by its place there.
    pub fn further(&self, place: usize) -> &'a Variant {
        self.values.get(self.standard + place).unwrap_or(&Variant::Empty)
    }
}

fn standard(level: Level) -> usize {
    if level == Level::BaseFields { BASE } else { SLOTS.len() }
}

/// The filter of a source, in a session with these namespaces.
pub fn filter(source: &Source, level: Level, namespaces: &[String]) -> EventFilter {
    let standard = SLOTS[..standard(level)].iter().map(|(_, of, path)| select(*of, 0, path.split('/')));
    let further = source.fields.iter().map(|field| {
        // a namespace that is not there has no fields; the place stays, and its value is null
        let namespace = namespace(&field.namespace, namespaces).unwrap_or(u16::MAX);
        select(BaseEventType, namespace, field.path.iter().map(String::as_str))
    });
    EventFilter {
        select_clauses: Some(standard.chain(further).collect()),
        where_clause: if level == Level::Full { wanted(source, namespaces) } else { ContentFilter::default() },
    }
}

fn namespace(uri: &str, namespaces: &[String]) -> Option<u16> {
    if uri == super::super::node::STANDARD {
        return Some(0);
    }
    namespaces.iter().position(|known| known == uri).and_then(|at| u16::try_from(at).ok())
}

fn select<'p>(of: ObjectTypeId, namespace: u16, path: impl Iterator<Item = &'p str>) -> SimpleAttributeOperand {
    let names: Vec<QualifiedName> =
        path.filter(|part| !part.is_empty()).map(|part| QualifiedName::new(namespace, part)).collect();
    // a condition's own id is no field of it but the id of its node
    let attribute = if names.is_empty() { AttributeId::NodeId } else { AttributeId::Value };
    SimpleAttributeOperand {
        type_definition_id: of.into(),
        browse_path: Some(names),
        attribute_id: attribute as u32,
        index_range: NumericRange::default(),
    }
}

/// What an event has to be.
enum Wanted {
    AtLeast(u16),
    OfType(NodeId),
    Both(Box<Wanted>, Box<Wanted>),
    Either(Box<Wanted>, Box<Wanted>),
}

impl Wanted {
    fn or(self, other: Self) -> Self {
        Self::Either(Box::new(self), Box::new(other))
    }
}

fn wanted(source: &Source, namespaces: &[String]) -> ContentFilter {
    let types: Vec<NodeId> = source.types.iter().filter_map(|node: &Identity| node.resolve(namespaces)).collect();
    let floor = (source.min_severity > 1).then_some(Wanted::AtLeast(source.min_severity));
    let of_types = types.into_iter().map(Wanted::OfType).reduce(Wanted::or);
    let of_source = match (floor, of_types) {
        // types of which this server knows none: nothing but what brackets a refresh
        (_, None) if !source.types.is_empty() => None,
        (None, None) => return ContentFilter::default(),
        (Some(floor), None) => Some(floor.or(Wanted::OfType(ConditionType.into()))),
        (None, Some(types)) => Some(types),
        (Some(floor), Some(types)) => {
            let bad_enough = floor.or(Wanted::OfType(ConditionType.into()));
            Some(Wanted::Both(Box::new(bad_enough), Box::new(types)))
        }
    };
    let always = Wanted::OfType(ObjectTypeId::SystemEventType.into())
        .or(Wanted::OfType(ObjectTypeId::EventQueueOverflowEventType.into()));
    let mut elements = Vec::new();
    put(
        &mut elements,
        &match of_source {
            Some(of_source) => of_source.or(always),
            None => always,
        },
    );
    ContentFilter { elements: Some(elements) }
}

/// Operators name the elements of their operands, which must stand behind them.
fn put(elements: &mut Vec<ContentFilterElement>, wanted: &Wanted) -> u32 {
    let at = elements.len();
    let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    elements.push(ContentFilterElement::default());
    let element = |index: u32| ExtensionObject::from_message(ElementOperand { index });
    let literal = |value: Variant| ExtensionObject::from_message(LiteralOperand { value });
    let (filter_operator, operands) = match wanted {
        Wanted::AtLeast(severity) => {
            let field = ExtensionObject::from_message(select(BaseEventType, 0, ["Severity"].into_iter()));
            (FilterOperator::GreaterThanOrEqual, vec![field, literal(Variant::UInt16(*severity))])
        }
        Wanted::OfType(node) => (FilterOperator::OfType, vec![literal(Variant::NodeId(Box::new(node.clone())))]),
        Wanted::Both(one, other) | Wanted::Either(one, other) => {
            let operator = if matches!(wanted, Wanted::Both(..)) { FilterOperator::And } else { FilterOperator::Or };
            let one = put(elements, one);
            let other = put(elements, other);
            (operator, vec![element(one), element(other)])
        }
    };
    elements[at] = ContentFilterElement { filter_operator, filter_operands: Some(operands) };
    number(at)
}

/// True if the source is taken with less of a filter.
pub fn is_refused(status: StatusCode) -> bool {
    [
        StatusCode::BadEventFilterInvalid,
        StatusCode::BadContentFilterInvalid,
        StatusCode::BadFilterOperatorInvalid,
        StatusCode::BadFilterOperatorUnsupported,
        StatusCode::BadFilterOperandInvalid,
        StatusCode::BadFilterOperandCountMismatch,
        StatusCode::BadFilterElementInvalid,
        StatusCode::BadFilterLiteralInvalid,
        StatusCode::BadMonitoredItemFilterInvalid,
        StatusCode::BadMonitoredItemFilterUnsupported,
        StatusCode::BadFilterNotAllowed,
    ]
    .contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcua::config::plan;
    use crate::opcua::config::tests::settings;
    use serde_json::json;

    fn source(more: &serde_json::Value) -> Source {
        plan(&settings(&json!({"events": [more]})), "").unwrap().events.remove(0)
    }

    fn namespaces() -> Vec<String> {
        [super::super::super::node::STANDARD, "urn:server", "urn:x"].map(str::to_owned).to_vec()
    }

    // UA-26: in the order of the slots, each from the type that has it
    #[test]
    fn the_standard_fields_and_those_of_the_settings() {
        let source = source(&json!({"fields": {"order": "nsu=urn:x;Order/No", "gone": "nsu=urn:gone;X"}}));
        for (place, (slot, ..)) in SLOTS.iter().enumerate() {
            assert_eq!(*slot as usize, place);
        }
        let full = filter(&source, Level::Full, &namespaces());
        let clauses = full.select_clauses.unwrap();
        assert_eq!(clauses.len(), SLOTS.len() + 2);
        let condition = &clauses[Slot::ConditionId as usize];
        assert_eq!(
            (condition.attribute_id, condition.browse_path.as_deref()),
            (AttributeId::NodeId as u32, Some(&[][..]))
        );
        assert_eq!(condition.type_definition_id, NodeId::from(ConditionType));
        assert_eq!(clauses[Slot::ShelvingId as usize].browse_path.as_ref().unwrap().len(), 3);
        let order = clauses.last().unwrap();
        assert_eq!(order.browse_path.as_ref().unwrap()[1].namespace_index, 2);
        assert_eq!(clauses[SLOTS.len()].browse_path.as_ref().unwrap()[0].namespace_index, u16::MAX);
        assert!(full.where_clause.elements.is_none(), "everything is wanted: nothing a server could refuse");
        let base = filter(&source, Level::BaseFields, &namespaces());
        assert_eq!(base.select_clauses.unwrap().len(), BASE + 2);
    }

    // UA-26: a floor must leave out neither conditions nor what brackets a refresh
    #[test]
    fn a_floor_and_types_become_operators_whose_operands_stand_behind_them() {
        let operators = |more: &serde_json::Value| {
            let elements = filter(&source(more), Level::Full, &namespaces()).where_clause.elements.unwrap_or_default();
            for (at, element) in elements.iter().enumerate() {
                for operand in element.filter_operands.iter().flatten() {
                    if let Some(element) = operand.inner_as::<ElementOperand>() {
                        assert!(element.index as usize > at && (element.index as usize) < elements.len());
                    }
                }
            }
            elements.iter().map(|element| format!("{:?}", element.filter_operator)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(operators(&json!({})), "");
        assert_eq!(operators(&json!({"min_severity": 500})), "Or Or GreaterThanOrEqual OfType Or OfType OfType");
        assert_eq!(operators(&json!({"types": ["i=2915", "nsu=urn:x;i=5"]})), "Or Or OfType OfType Or OfType OfType");
        assert_eq!(operators(&json!({"types": ["nsu=urn:gone;i=5"]})), "Or OfType OfType");
        let both = operators(&json!({"types": ["i=2915"], "min_severity": 500}));
        assert_eq!(both, "Or And Or GreaterThanOrEqual OfType OfType Or OfType OfType");
        assert_eq!(filter(&source(&json!({"min_severity": 9})), Level::AllEvents, &[]).where_clause.elements, None);
        assert!(is_refused(StatusCode::BadEventFilterInvalid) && !is_refused(StatusCode::BadNodeIdUnknown));
        assert_eq!(Level::Full.next().and_then(Level::next).and_then(Level::next), None);
    }
}
