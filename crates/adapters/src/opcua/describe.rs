//! What stands in a line about a node: its type, its value, its unit (UA-21).
//!
//! Asked of the server in parts that it takes; a server that knows no units is not asked for them again.

use std::collections::HashMap;

use model::ValueType;
use serde_json::{Value, json};

use super::connection::CallError;
use super::items::is_too_much;
use super::node::Identity;
use super::session::{OPERATIONS_DEFAULT, value_of};
use super::stack::{
    AttributeId, BrowsePath, BrowsePathResult, DataValue, EUInformation, NodeClass, NodeId, QualifiedName, Range,
    ReadValueId, ReferenceDescription, RelativePath, RelativePathElement, ResponseMessage,
    TranslateBrowsePathsToNodeIdsRequest, Variant, name_of,
};
use super::value;
use super::visit::Visit;
use crate::commission::text::shown;

/// Attributes that are read of a variable.
const ATTRIBUTES: [AttributeId; 3] = [AttributeId::Value, AttributeId::DataType, AttributeId::UserAccessLevel];
/// Nodes described at once.
const CHUNK_MAX: usize = 200;
/// Names of data types that are remembered; on more they are asked for again.
const TYPES_MAX: usize = 1000;
/// Letters of a value, and of a name, that are kept.
const VALUE_SHOWN: usize = 200;
const NAME_SHOWN: usize = 200;
const HAS_PROPERTY: u32 = 46;

/// A node for a person.
#[derive(Debug, Clone)]
pub struct Node {
    /// Levels below the start.
    pub depth: usize,
    /// In this session.
    pub id: Option<NodeId>,
    /// None if the server does not name its namespace, or the node is on another server.
    pub identity: Option<Identity>,
    pub browse_name: String,
    pub class: NodeClass,
    /// The rest is of variables alone.
    pub data_type: Option<String>,
    pub value: Option<String>,
    /// Why there is no value.
    pub status: Option<String>,
    pub value_type: Option<ValueType>,
    pub is_array: bool,
    pub unit: Option<String>,
    pub range: Option<(f64, f64)>,
    pub readable: bool,
}

impl Node {
    fn new(reference: ReferenceDescription, namespaces: &[String]) -> Self {
        let node = reference.node_id;
        let is_here = node.server_index == 0;
        let id = if node.namespace_uri.is_empty() {
            Some(node.node_id)
        } else {
            let named = Identity { namespace: node.namespace_uri.as_ref().to_owned(), id: node.node_id.identifier };
            named.resolve(namespaces)
        };
        let id = id.filter(|_| is_here);
        Self {
            depth: 0,
            identity: id.as_ref().and_then(|id| Identity::of(id, namespaces)),
            id,
            browse_name: reference.browse_name.name.as_ref().chars().take(NAME_SHOWN).collect(),
            class: reference.node_class,
            data_type: None,
            value: None,
            status: None,
            value_type: None,
            is_array: false,
            unit: None,
            range: None,
            readable: false,
        }
    }

    /// The name by which settings know it.
    pub fn name(&self) -> String {
        self.identity.as_ref().map_or_else(|| "(not on this server)".to_owned(), ToString::to_string)
    }

    pub const fn class_name(&self) -> &'static str {
        match self.class {
            NodeClass::Object => "object",
            NodeClass::Variable => "variable",
            NodeClass::Method => "method",
            NodeClass::View => "view",
            _ => "type",
        }
    }

    /// For scripts.
    pub fn to_json(&self) -> Value {
        json!({
            "depth": self.depth,
            "node": self.identity.as_ref().map(ToString::to_string),
            "browse_name": self.browse_name,
            "class": self.class_name(),
            "data_type": self.data_type,
            "value": self.value,
            "status": self.status,
            "unit": self.unit,
            "range": self.range.map(|(low, high)| json!([low, high])),
            "readable": self.readable,
        })
    }
}

/// Finds out what is to be said.
#[derive(Debug)]
pub struct Describer {
    namespaces: Vec<String>,
    /// Nodes of one question.
    nodes: usize,
    /// The server says where units are.
    knows_units: bool,
    types: HashMap<NodeId, String>,
}

impl Describer {
    pub fn new(visit: &Visit) -> Self {
        let nodes = visit.facts.nodes_per_read.max(1);
        Self { namespaces: visit.facts.namespaces.clone(), nodes, knows_units: true, types: HashMap::new() }
    }

    /// References that are described at once.
    pub fn chunk(&self) -> usize {
        (self.nodes / ATTRIBUTES.len()).clamp(1, CHUNK_MAX)
    }

    /// Describes nodes, in their order.
    pub async fn describe(
        &mut self,
        visit: &mut Visit,
        references: Vec<ReferenceDescription>,
    ) -> Result<Vec<Node>, CallError> {
        let mut nodes: Vec<Node> =
            references.into_iter().map(|reference| Node::new(reference, &self.namespaces)).collect();
        let variables: Vec<(usize, NodeId)> = nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.class == NodeClass::Variable)
            .filter_map(|(at, node)| Some((at, node.id.clone()?)))
            .collect();
        if variables.is_empty() {
            return Ok(nodes);
        }
        let attribute =
            |node: &NodeId, attribute: AttributeId| ReadValueId { attribute_id: attribute as u32, ..value_of(node) };
        let asked = variables.iter().flat_map(|(_, id)| ATTRIBUTES.map(|one| attribute(id, one))).collect::<Vec<_>>();
        let answers = self.read(visit, asked).await?;
        let mut types = Vec::with_capacity(variables.len());
        for ((at, _), answer) in variables.iter().zip(answers.chunks(ATTRIBUTES.len())) {
            let node = &mut nodes[*at];
            let [value, data_type, access] = answer else { continue };
            take_value(node, value);
            node.readable |= matches!(access.value, Some(Variant::Byte(bits)) if bits & 1 == 1);
            if let Some(Variant::NodeId(id)) = &data_type.value {
                types.push((*at, (**id).clone()));
            }
        }
        self.name_types(visit, &mut nodes, types).await?;
        self.find_units(visit, &mut nodes, &variables).await?;
        Ok(nodes)
    }

    /// Reads, in fewer at once where the server does not take so many (UA-14).
    async fn read(&mut self, visit: &mut Visit, asked: Vec<ReadValueId>) -> Result<Vec<DataValue>, CallError> {
        let mut answers = Vec::with_capacity(asked.len());
        let mut rest = &asked[..];
        while !rest.is_empty() {
            let count = self.nodes.min(rest.len());
            match visit.asker().read(rest[..count].to_vec()).await {
                Ok(some) => {
                    answers.extend(some);
                    rest = &rest[count..];
                }
                Err(CallError::Refused(status)) if is_too_much(status) && count > 1 => self.nodes = count / 2,
                Err(error) => return Err(error),
            }
        }
        Ok(answers)
    }

    /// Types of the standard have names; those of a vendor are asked for.
    async fn name_types(
        &mut self,
        visit: &mut Visit,
        nodes: &mut [Node],
        types: Vec<(usize, NodeId)>,
    ) -> Result<(), CallError> {
        let mut unknown: Vec<NodeId> = Vec::new();
        for (_, id) in &types {
            if standard_type(id).is_none() && !self.types.contains_key(id) && !unknown.contains(id) {
                unknown.push(id.clone());
            }
        }
        if self.types.len() + unknown.len() > TYPES_MAX {
            self.types.clear();
        }
        let asked =
            unknown.iter().map(|id| ReadValueId { attribute_id: AttributeId::BrowseName as u32, ..value_of(id) });
        let asked: Vec<ReadValueId> = asked.collect();
        if !asked.is_empty() {
            let answers = self.read(visit, asked).await?;
            for (id, answer) in unknown.into_iter().zip(answers) {
                let name = match answer.value {
                    Some(Variant::QualifiedName(name)) => shown(name.name.as_ref(), 60),
                    _ => Identity::of(&id, &self.namespaces).map_or_else(|| id.to_string(), |id| id.to_string()),
                };
                self.types.insert(id, name);
            }
        }
        for (at, id) in types {
            nodes[at].data_type = standard_type(&id).map(str::to_owned).or_else(|| self.types.get(&id).cloned());
        }
        Ok(())
    }

    /// Units and ranges are properties of analogue items; where they are is asked for by name.
    async fn find_units(
        &mut self,
        visit: &mut Visit,
        nodes: &mut [Node],
        variables: &[(usize, NodeId)],
    ) -> Result<(), CallError> {
        const NAMES: [&str; 2] = ["EngineeringUnits", "EURange"];
        // what is no number has neither
        let is_number = |at: usize| matches!(nodes[at].value_type, None | Some(ValueType::Float | ValueType::Int));
        let numbers: Vec<&(usize, NodeId)> = variables.iter().filter(|(at, _)| is_number(*at)).collect();
        for part in numbers.chunks(OPERATIONS_DEFAULT / NAMES.len()) {
            if !self.knows_units {
                return Ok(());
            }
            let paths = part.iter().flat_map(|(_, id)| NAMES.map(|name| path(id, name))).collect();
            let found = match translate(visit, paths).await {
                Ok(found) => found,
                Err(CallError::Link(error)) => return Err(error.into()),
                Err(_) => {
                    // a line without a unit is better than none
                    self.knows_units = false;
                    return Ok(());
                }
            };
            let places = part.iter().flat_map(|(at, _)| [*at; NAMES.len()]);
            let there: Vec<(usize, NodeId)> =
                places.zip(&found).filter_map(|(at, result)| Some((at, target(result)?))).collect();
            if there.is_empty() {
                continue;
            }
            let answers = self.read(visit, there.iter().map(|(_, id)| value_of(id)).collect()).await?;
            for ((at, _), answer) in there.iter().zip(answers) {
                take_property(&mut nodes[*at], &answer);
            }
        }
        Ok(())
    }
}

fn take_value(node: &mut Node, data: &DataValue) {
    if data.status().is_bad() {
        node.status = Some(name_of(data.status()));
        return;
    }
    node.readable = true;
    if !data.status().is_good() {
        node.status = Some(name_of(data.status()));
    }
    let Some(variant) = &data.value else { return };
    node.value = Some(value::shown(variant).chars().take(VALUE_SHOWN).collect());
    if let Variant::Array(array) = variant {
        node.is_array = true;
        node.value_type = array.values.first().and_then(value::type_of);
    } else {
        node.value_type = value::type_of(variant);
    }
}

fn take_property(node: &mut Node, data: &DataValue) {
    let Some(Variant::ExtensionObject(object)) = &data.value else { return };
    if let Some(unit) = object.inner_as::<EUInformation>() {
        let text: String = unit.display_name.text.as_ref().chars().take(64).collect();
        node.unit = Some(text).filter(|text| !text.trim().is_empty());
    } else if let Some(range) = object.inner_as::<Range>() {
        let is_one = range.low.is_finite() && range.high.is_finite() && range.low < range.high;
        node.range = is_one.then_some((range.low, range.high));
    }
}

fn path(node: &NodeId, name: &str) -> BrowsePath {
    let element = RelativePathElement {
        reference_type_id: NodeId::new(0, HAS_PROPERTY),
        is_inverse: false,
        include_subtypes: true,
        target_name: QualifiedName::new(0, name),
    };
    BrowsePath { starting_node: node.clone(), relative_path: RelativePath { elements: Some(vec![element]) } }
}

fn target(result: &BrowsePathResult) -> Option<NodeId> {
    let first = result.targets.as_ref()?.first()?;
    (!result.status_code.is_bad()).then(|| first.target_id.node_id.clone())
}

async fn translate(visit: &mut Visit, paths: Vec<BrowsePath>) -> Result<Vec<BrowsePathResult>, CallError> {
    let asker = visit.asker();
    let build =
        |request_header| TranslateBrowsePathsToNodeIdsRequest { request_header, browse_paths: Some(paths) }.into();
    match asker.connection.call(asker.deadline, build).await? {
        ResponseMessage::TranslateBrowsePathsToNodeIds(answer) => Ok(answer.results.unwrap_or_default()),
        _ => Err(CallError::Link(asker.connection.out_of_step("it answers something else than was asked".to_owned()))),
    }
}

/// Names of the types that every server has.
fn standard_type(id: &NodeId) -> Option<&'static str> {
    const NAMES: [&str; 29] = [
        "Boolean",
        "SByte",
        "Byte",
        "Int16",
        "UInt16",
        "Int32",
        "UInt32",
        "Int64",
        "UInt64",
        "Float",
        "Double",
        "String",
        "DateTime",
        "Guid",
        "ByteString",
        "XmlElement",
        "NodeId",
        "ExpandedNodeId",
        "StatusCode",
        "QualifiedName",
        "LocalizedText",
        "Structure",
        "DataValue",
        "BaseDataType",
        "DiagnosticInfo",
        "Number",
        "Integer",
        "UInteger",
        "Enumeration",
    ];
    let number = (1..=29_u32).find(|number| *id == NodeId::new(0, *number))?;
    NAMES.get(usize::try_from(number).ok()? - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcua::stack::{ExtensionObject, LocalizedText, StatusCode, UAString};

    fn reference(name: &str) -> ReferenceDescription {
        ReferenceDescription {
            node_id: NodeId::new(1, name).into(),
            browse_name: QualifiedName::new(1, name),
            node_class: NodeClass::Variable,
            ..ReferenceDescription::default()
        }
    }

    fn said(value: impl Into<Variant>) -> DataValue {
        DataValue { value: Some(value.into()), ..DataValue::null() }
    }

    // UA-21
    #[test]
    fn values_types_and_units_of_a_node() {
        let namespaces: Vec<String> = [super::super::node::STANDARD, "urn:line"].map(str::to_owned).into();
        let mut node = Node::new(reference("Temp"), &namespaces);
        assert_eq!(node.name(), "nsu=urn:line;s=Temp");
        take_value(&mut node, &said(21.5));
        assert_eq!(
            (node.value.as_deref(), node.value_type, node.readable),
            (Some("21.5"), Some(ValueType::Float), true)
        );
        let unit = EUInformation { display_name: LocalizedText::new("", "°C"), ..EUInformation::default() };
        let object = |object| said(Variant::ExtensionObject(object));
        take_property(&mut node, &object(ExtensionObject::from_message(unit)));
        take_property(&mut node, &object(ExtensionObject::from_message(Range { low: 0.0, high: 150.0 })));
        assert_eq!((node.unit.as_deref(), node.range), (Some("°C"), Some((0.0, 150.0))));
        let mut list = Node::new(reference("Zones"), &namespaces);
        take_value(&mut list, &said(vec![1_i32, 2, 3]));
        assert_eq!(
            (list.value.as_deref(), list.is_array, list.value_type),
            (Some("[1, 2, 3]"), true, Some(ValueType::Int))
        );
        let mut hidden = Node::new(reference("Secret"), &namespaces);
        take_value(&mut hidden, &DataValue { status: Some(StatusCode::BadNotReadable), ..DataValue::null() });
        assert_eq!((hidden.status.as_deref(), hidden.readable), (Some("BadNotReadable"), false));
        assert_eq!(standard_type(&NodeId::new(0, 11u32)), Some("Double"));
        assert_eq!(standard_type(&NodeId::new(1, 11u32)), None);
    }

    // UA-20: a node that is on another server, or of a namespace that has no name, is no point
    #[test]
    fn what_cannot_be_named_has_no_identity() {
        let namespaces = vec![super::super::node::STANDARD.to_owned()];
        assert_eq!(Node::new(reference("Temp"), &namespaces).identity, None);
        let mut far = reference("Far");
        far.node_id.server_index = 1;
        far.node_id.namespace_uri = UAString::from(namespaces[0].as_str());
        assert_eq!(Node::new(far, &namespaces).id, None);
    }
}
