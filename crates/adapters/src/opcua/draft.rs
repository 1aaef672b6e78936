//! From nodes to settings: a line of configuration for each variable, as the adapter reads it.
//!
//! Pure. The names of parameters are made of the path below the start, so that two motors with a `Speed` each get two
//! names; where that is not enough they are numbered.

use std::collections::HashSet;

use model::ValueType;
use model::ids::NAME_LENGTH_MAX;

use super::browse::is_standard;
use super::describe::Node;
use super::stack::NodeClass;
use crate::commission::text::{name_of, quoted, shown};

/// Longest unit that settings take.
const UNIT_MAX: usize = 32;
/// Letters of a name that are shown where a node is left out.
const NAME_SHOWN: usize = 80;

/// Points as they are found.
#[derive(Debug, Default)]
pub struct Draft {
    /// Bounded by the limit of the walk.
    names: HashSet<String>,
    /// Names from the start to the last node.
    trail: Vec<String>,
    pub points: usize,
    /// Variables that cannot be points.
    pub left_out: usize,
}

impl Draft {
    /// The line for a node, or a comment why there is none; nothing for what is no variable.
    pub fn line(&mut self, node: &Node) -> Option<String> {
        self.trail.truncate(node.depth);
        self.trail.push(node.browse_name.clone());
        if node.class != NodeClass::Variable || node.identity.as_ref().is_some_and(is_standard) {
            return None;
        }
        let kind = match (value_type(node), node.readable) {
            _ if node.identity.is_none() => Err("its namespace has no address"),
            (_, false) => Err("it cannot be read"),
            (None, true) => Err("it has no type that a point can have"),
            (Some(kind), true) => Ok(kind),
        };
        let kind = match kind {
            Ok(kind) => kind,
            Err(why) => {
                self.left_out += 1;
                let why = node.status.as_deref().filter(|_| !node.readable).unwrap_or(why);
                return Some(format!("    # left out: {}: {why}", shown(&node.browse_name, NAME_SHOWN)));
            }
        };
        let parameter = self.parameter();
        self.points += 1;
        let mut line = format!("    - {{ node: {}, parameter: {parameter}, type: {}", quoted(&node.name()), word(kind));
        if let Some(unit) = node.unit.as_deref().map(str::trim).filter(|unit| is_unit(unit)) {
            line.push_str(", unit: ");
            line.push_str(&quoted(unit));
        }
        if node.is_array {
            line.push_str(", array: { type: explode }");
        }
        line.push_str(" }");
        Some(line)
    }

    /// A name nobody has yet, of the path below the start.
    fn parameter(&mut self) -> String {
        let below = if self.trail.len() > 1 { &self.trail[1..] } else { &self.trail[..] };
        let joined = name_of(&below.join("_"));
        let mut name = joined.clone();
        let mut number = 2_u32;
        while !self.names.insert(name.clone()) {
            let end = format!("_{number}");
            let stem: String = joined.chars().take(NAME_LENGTH_MAX - end.len()).collect();
            name = stem + &end;
            number += 1;
        }
        name
    }
}

fn is_unit(unit: &str) -> bool {
    !unit.is_empty() && unit.len() <= UNIT_MAX && !unit.contains(char::is_control)
}

/// By the value, else by the declared type.
fn value_type(node: &Node) -> Option<ValueType> {
    node.value_type.or_else(|| match node.data_type.as_deref()? {
        "Boolean" => Some(ValueType::Bool),
        "SByte" | "Byte" | "Int16" | "UInt16" | "Int32" | "UInt32" | "Int64" | "UInt64" | "Integer" | "UInteger"
        | "Enumeration" | "StatusCode" => Some(ValueType::Int),
        "Float" | "Double" | "Number" => Some(ValueType::Float),
        "String" | "DateTime" | "Guid" | "ByteString" | "LocalizedText" | "NodeId" | "QualifiedName" => {
            Some(ValueType::String)
        }
        _ => None,
    })
}

const fn word(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Float => "float",
        ValueType::Int => "int",
        ValueType::Bool => "bool",
        ValueType::String | ValueType::Raw => "string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcua::node::Identity;
    use crate::opcua::stack::NodeId;

    fn node(depth: usize, name: &str, kind: Option<ValueType>) -> Node {
        let identity = Identity::parse(&format!("nsu=urn:x;s={name}")).ok();
        Node {
            depth,
            id: Some(NodeId::new(1, name)),
            identity,
            browse_name: name.to_owned(),
            class: if kind.is_some() { NodeClass::Variable } else { NodeClass::Object },
            data_type: None,
            value: None,
            status: None,
            value_type: kind,
            is_array: false,
            unit: None,
            range: None,
            readable: true,
        }
    }

    // UA-20, UA-21
    #[test]
    fn names_come_from_the_path_and_are_never_twice_the_same() {
        let mut draft = Draft::default();
        let float = Some(ValueType::Float);
        let mut line = |depth, name: &str, kind| draft.line(&node(depth, name, kind));
        assert_eq!(line(0, "Line", None), None);
        assert_eq!(line(1, "Motor 1", None), None);
        let speed = line(2, "Speed", float).unwrap();
        assert_eq!(speed, "    - { node: \"nsu=urn:x;s=Speed\", parameter: motor_1_speed, type: float }");
        assert_eq!(line(1, "Motor 2", None), None);
        assert!(line(2, "Speed", float).unwrap().contains("parameter: motor_2_speed,"));
        assert!(line(2, "speed", float).unwrap().contains("parameter: motor_2_speed_2,"));
        assert!(line(1, "Temp", Some(ValueType::Int)).unwrap().contains("parameter: temp, type: int"));
        assert_eq!(draft.points, 4);
    }

    // G-11: a name of the field ends up as a text, whatever is in it
    #[test]
    fn what_is_strange_is_quoted_or_left_out_with_the_reason() {
        let mut draft = Draft::default();
        draft.line(&node(0, "Line", None));
        let mut odd = node(1, "a\"b\n: #c", Some(ValueType::Float));
        odd.unit = Some("°C\u{1b}".to_owned());
        let line = draft.line(&odd).unwrap();
        assert_eq!(line, r#"    - { node: "nsu=urn:x;s=a\"b\u000a: #c", parameter: a_b____c, type: float }"#);
        let mut hidden = node(1, "Secret\u{1b}", Some(ValueType::Float));
        (hidden.readable, hidden.status) = (false, Some("BadUserAccessDenied".to_owned()));
        assert_eq!(draft.line(&hidden).unwrap(), "    # left out: Secret\\u001b: BadUserAccessDenied");
        let mut nameless = node(1, "Far", Some(ValueType::Float));
        nameless.identity = None;
        assert!(draft.line(&nameless).unwrap().starts_with("    # left out: Far"));
        assert_eq!((draft.points, draft.left_out), (1, 2));
        let mut zones = node(1, "Zones", Some(ValueType::Int));
        (zones.is_array, zones.unit) = (true, Some("%".to_owned()));
        assert!(draft.line(&zones).unwrap().ends_with("type: int, unit: \"%\", array: { type: explode } }"));
    }
}
