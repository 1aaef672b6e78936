//! What the server has: nodes, their attributes and references, and the value of each at a moment.
//!
//! It is built anew at each start, with the namespaces in the order of that start. Two namespaces have nodes of the same
//! names: the machines of the demo plant, and a spare line of [`SPARE_URI`] whose values are all [`SPARE_VALUE`]. Whoever
//! reads by a number that a restart gave to the other namespace gets a value that cannot be mistaken (AC-034).

use std::collections::{BTreeMap, HashMap};

use opcua_types::{
    AttributeId, BrowseDirection, BuildInfo, DataTypeId, DataValue, DateTime, EUInformation, ExtensionObject,
    LocalizedText, NodeClass, NodeId, ObjectId, ObjectTypeId, QualifiedName, Range, ReferenceTypeId, ServerState,
    ServerStatusDataType, StatusCode, UAString, VariableId, VariableTypeId, Variant, VariantScalarTypeId,
};

use super::Limits;
use crate::plant::Moment;
use crate::plant::points::{self, Coding, LINE, LINE_URI, Point};

/// Name of the server and its own namespace, number 1.
pub const SERVER_URI: &str = "urn:streamforge:sim:server";
/// Namespace of the spare line.
pub const SPARE_URI: &str = "urn:streamforge:sim:spare";
/// The value of all its nodes.
pub const SPARE_VALUE: f64 = -999.0;
/// Namespace of the units of UNECE.
const UNITS_URI: &str = "http://www.opcfoundation.org/UA/units/un/cefact";

/// Where a node's value comes from.
#[derive(Debug, Clone)]
enum Source {
    None,
    Fixed(Variant),
    Signal(&'static Point),
    /// One of a test, by name.
    Given(String),
    Namespaces,
    Status,
    State,
    StartTime,
    Now,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    class: NodeClass,
    pub(super) browse_name: QualifiedName,
    display_name: String,
    type_definition: NodeId,
    data_type: NodeId,
    value_rank: i32,
    source: Source,
    /// From here: kind and target.
    forward: Vec<(ReferenceTypeId, NodeId)>,
    /// To here.
    inverse: Vec<(ReferenceTypeId, NodeId)>,
}

/// A reference as a browse shows it.
pub(super) struct Found<'s> {
    pub(super) kind: ReferenceTypeId,
    pub(super) is_forward: bool,
    pub(super) target: NodeId,
    pub(super) node: &'s Node,
}

/// All nodes of one start.
#[derive(Debug)]
pub(super) struct Space {
    nodes: HashMap<NodeId, Node>,
    uris: Vec<String>,
    start_time: DateTime,
    /// What the server says of itself.
    pub(super) state: ServerState,
}

/// What a test gave: value, status and time by name; outlives restarts.
pub(super) type Given = BTreeMap<String, DataValue>;

impl Space {
    /// Builds it; `swapped` exchanges the numbers of the last two namespaces.
    pub(super) fn build(swapped: bool, given: &Given, limits: &Limits) -> Self {
        let mut uris: Vec<String> =
            ["http://opcfoundation.org/UA/", SERVER_URI, LINE_URI, SPARE_URI].map(str::to_owned).to_vec();
        if swapped {
            uris.swap(2, 3);
        }
        let mut space = Self { nodes: HashMap::new(), uris, start_time: DateTime::now(), state: ServerState::Running };
        space.standard(limits);
        let (line, spare) = (space.index(LINE_URI), space.index(SPARE_URI));
        for thing in LINE {
            for (index, spare) in [(line, false), (spare, true)] {
                let machine = NodeId::new(index, thing.name);
                space.object(&machine, QualifiedName::new(index, thing.name), &ObjectId::ObjectsFolder.into());
                for point in thing.points {
                    space.measured(&machine, index, &points::node_name(thing, point), point, spare);
                }
            }
        }
        for (name, value) in given {
            space.given(name, value);
        }
        space
    }

    fn index(&self, uri: &str) -> u16 {
        let place = self.uris.iter().position(|known| known == uri).unwrap_or_default();
        u16::try_from(place).unwrap_or_default()
    }

    fn add(&mut self, id: &NodeId, node: Node, parent: &NodeId, kind: ReferenceTypeId) {
        self.nodes.insert(id.clone(), Node { inverse: vec![(kind, parent.clone())], ..node });
        if let Some(parent) = self.nodes.get_mut(parent) {
            parent.forward.retain(|(_, target)| target != id);
            parent.forward.push((kind, id.clone()));
        }
    }

    fn object(&mut self, id: &NodeId, name: QualifiedName, parent: &NodeId) {
        self.add(id, Node::object(name, ObjectTypeId::FolderType), parent, ReferenceTypeId::Organizes);
    }

    fn property(&mut self, of: &NodeId, index: u16, name: &str, value: Variant, data_type: DataTypeId) {
        let id = NodeId::new(index, format!("{}.{name}", of.identifier));
        let node = Node {
            type_definition: VariableTypeId::PropertyType.into(),
            ..Node::variable(QualifiedName::new(0, name), Source::Fixed(value), data_type)
        };
        self.add(&id, node, of, ReferenceTypeId::HasProperty);
    }

    fn measured(&mut self, machine: &NodeId, index: u16, name: &str, point: &'static Point, spare: bool) {
        let data_type = match point.coding {
            _ if spare => DataTypeId::Double,
            Coding::Float => DataTypeId::Float,
            Coding::Double | Coding::Array(_) => DataTypeId::Double,
            Coding::Int => DataTypeId::Int16,
            Coding::Count => DataTypeId::UInt32,
            Coding::State(_) => DataTypeId::Int32,
            Coding::Bool => DataTypeId::Boolean,
            Coding::Text(_) => DataTypeId::String,
        };
        let id = NodeId::new(index, name);
        let source = if spare { Source::Fixed(Variant::from(SPARE_VALUE)) } else { Source::Signal(point) };
        let mut node = Node::variable(QualifiedName::new(index, point.parameter), source, data_type);
        if !spare && matches!(point.coding, Coding::Array(_)) {
            node.value_rank = 1;
        }
        if point.range.is_some() {
            node.type_definition = VariableTypeId::AnalogItemType.into();
        }
        self.add(&id, node, machine, ReferenceTypeId::HasComponent);
        if let Some((low, high)) = point.range.filter(|_| !spare) {
            let range = ExtensionObject::from_message(Range { low, high });
            self.property(&id, index, "EURange", range.into(), DataTypeId::Range);
        }
        if !point.unit.is_empty() && !spare {
            let unit = EUInformation {
                namespace_uri: UAString::from(UNITS_URI),
                unit_id: -1,
                display_name: LocalizedText::new("", point.unit),
                description: LocalizedText::null(),
            };
            self.property(
                &id,
                index,
                "EngineeringUnits",
                ExtensionObject::from_message(unit).into(),
                DataTypeId::EUInformation,
            );
        }
        if let Coding::State(states) = point.coding {
            let names: Vec<LocalizedText> = states.iter().map(|state| LocalizedText::new("", state)).collect();
            self.property(&id, index, "EnumStrings", names.into(), DataTypeId::LocalizedText);
        }
    }

    /// A node of a test, among the objects of the line's namespace; a name that is there already only gets another value.
    pub(super) fn given(&mut self, name: &str, value: &DataValue) -> NodeId {
        let index = self.index(LINE_URI);
        let id = NodeId::new(index, name);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.source = Source::Given(name.to_owned());
            return id;
        }
        let (data_type, rank) = match &value.value {
            Some(Variant::Array(array)) => (type_of(array.value_type), 1),
            Some(value) => (value.scalar_type_id().map_or(DataTypeId::BaseDataType, type_of), -1),
            None => (DataTypeId::BaseDataType, -1),
        };
        let mut node = Node::variable(QualifiedName::new(index, name), Source::Given(name.to_owned()), data_type);
        node.value_rank = rank;
        self.add(&id, node, &ObjectId::ObjectsFolder.into(), ReferenceTypeId::Organizes);
        id
    }

    /// Takes a node of the line's namespace away.
    pub(super) fn remove(&mut self, name: &str) {
        self.nodes.remove(&NodeId::new(self.index(LINE_URI), name));
    }

    fn standard(&mut self, limits: &Limits) {
        let root: NodeId = ObjectId::RootFolder.into();
        let objects: NodeId = ObjectId::ObjectsFolder.into();
        let server: NodeId = ObjectId::Server.into();
        let name = |name: &str| QualifiedName::new(0, name);
        self.nodes.insert(root.clone(), Node::object(name("Root"), ObjectTypeId::FolderType));
        self.object(&objects, name("Objects"), &root);
        self.add(&server, Node::object(name("Server"), ObjectTypeId::ServerType), &objects, ReferenceTypeId::Organizes);
        let mut variable = |id: VariableId, text: &str, source: Source, data_type: DataTypeId, parent: &NodeId| {
            let mut node = Node::variable(name(text), source, data_type);
            if matches!(id, VariableId::Server_NamespaceArray | VariableId::Server_ServerArray) {
                node.value_rank = 1;
            }
            self.add(&id.into(), node, parent, ReferenceTypeId::HasComponent);
        };
        let servers: Variant = vec![UAString::from(SERVER_URI)].into();
        variable(VariableId::Server_NamespaceArray, "NamespaceArray", Source::Namespaces, DataTypeId::String, &server);
        variable(VariableId::Server_ServerArray, "ServerArray", Source::Fixed(servers), DataTypeId::String, &server);
        let level = Source::Fixed(Variant::from(255_u8));
        variable(VariableId::Server_ServiceLevel, "ServiceLevel", level, DataTypeId::Byte, &server);
        let status = VariableId::Server_ServerStatus;
        variable(status, "ServerStatus", Source::Status, DataTypeId::ServerStatusDataType, &server);
        let status: NodeId = status.into();
        variable(VariableId::Server_ServerStatus_State, "State", Source::State, DataTypeId::ServerState, &status);
        variable(
            VariableId::Server_ServerStatus_StartTime,
            "StartTime",
            Source::StartTime,
            DataTypeId::UtcTime,
            &status,
        );
        variable(VariableId::Server_ServerStatus_CurrentTime, "CurrentTime", Source::Now, DataTypeId::UtcTime, &status);
        let announced = [
            (
                VariableId::Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
                "MaxMonitoredItemsPerCall",
                limits.items_per_call,
            ),
            (
                VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
                "MaxNodesPerRead",
                limits.nodes_per_read,
            ),
        ];
        for (id, text, limit) in announced {
            if let Some(limit) = limit {
                variable(id, text, Source::Fixed(Variant::from(limit)), DataTypeId::UInt32, &server);
            }
        }
    }

    pub(super) fn node(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// References of a node of one kind or any, in both directions or one.
    pub(super) fn references(&self, id: &NodeId, direction: BrowseDirection) -> Vec<Found<'_>> {
        let Some(node) = self.nodes.get(id) else { return Vec::new() };
        let forward = node.forward.iter().map(|one| (one, true));
        let inverse = node.inverse.iter().map(|one| (one, false));
        let wanted = |(_, is_forward): &(_, bool)| match direction {
            BrowseDirection::Forward => *is_forward,
            BrowseDirection::Inverse => !is_forward,
            _ => true,
        };
        let all = forward.chain(inverse).filter(wanted);
        all.filter_map(|((kind, target), is_forward)| {
            Some(Found { kind: *kind, is_forward, target: target.clone(), node: self.nodes.get(target)? })
        })
        .collect()
    }

    /// An attribute at a moment.
    pub(super) fn read(&self, id: &NodeId, attribute: u32, at: Moment, given: &Given) -> DataValue {
        let refused = |status| DataValue { status: Some(status), ..DataValue::default() };
        let Some(node) = self.nodes.get(id) else { return refused(StatusCode::BadNodeIdUnknown) };
        let is_variable = node.class == NodeClass::Variable;
        let value: Variant = match AttributeId::from_u32(attribute) {
            Ok(AttributeId::NodeId) => id.clone().into(),
            Ok(AttributeId::NodeClass) => Variant::from(node.class as i32),
            Ok(AttributeId::BrowseName) => node.browse_name.clone().into(),
            Ok(AttributeId::DisplayName) => node.display().into(),
            Ok(AttributeId::Description) => LocalizedText::null().into(),
            Ok(AttributeId::WriteMask | AttributeId::UserWriteMask) => Variant::from(0_u32),
            Ok(AttributeId::EventNotifier) if !is_variable => Variant::from(0_u8),
            Ok(AttributeId::DataType) if is_variable => node.data_type.clone().into(),
            Ok(AttributeId::ValueRank) if is_variable => Variant::from(node.value_rank),
            Ok(AttributeId::ArrayDimensions) if is_variable => Variant::Empty,
            Ok(AttributeId::AccessLevel | AttributeId::UserAccessLevel) if is_variable => Variant::from(1_u8),
            Ok(AttributeId::MinimumSamplingInterval) if is_variable => Variant::from(0.0_f64),
            Ok(AttributeId::Historizing) if is_variable => Variant::from(false),
            Ok(AttributeId::Value) if is_variable => return self.value(node, at, given),
            _ => return refused(StatusCode::BadAttributeIdInvalid),
        };
        DataValue {
            value: Some(value),
            status: Some(StatusCode::Good),
            server_timestamp: Some(DateTime::now()),
            ..DataValue::default()
        }
    }

    fn value(&self, node: &Node, at: Moment, given: &Given) -> DataValue {
        let now = DateTime::now();
        let value = match &node.source {
            Source::None => Variant::Empty,
            Source::Fixed(value) => value.clone(),
            Source::Signal(point) => signal(point, at),
            Source::Given(name) => {
                let value = given.get(name).cloned();
                return value.unwrap_or(DataValue {
                    status: Some(StatusCode::BadWaitingForInitialData),
                    ..DataValue::default()
                });
            }
            Source::Namespaces => self.uris.iter().map(|uri| UAString::from(uri.as_str())).collect::<Vec<_>>().into(),
            Source::State => Variant::from(self.state as i32),
            Source::StartTime => self.start_time.into(),
            Source::Now => now.into(),
            Source::Status => ExtensionObject::from_message(self.status(now)).into(),
        };
        DataValue {
            value: Some(value),
            status: Some(StatusCode::Good),
            source_timestamp: Some(now),
            server_timestamp: Some(now),
            ..DataValue::default()
        }
    }

    fn status(&self, now: DateTime) -> ServerStatusDataType {
        ServerStatusDataType {
            start_time: self.start_time,
            current_time: now,
            state: self.state,
            build_info: BuildInfo {
                product_uri: UAString::from(SERVER_URI),
                manufacturer_name: UAString::from("StreamForge"),
                product_name: UAString::from("simulated filling line"),
                software_version: UAString::from(env!("CARGO_PKG_VERSION")),
                build_number: UAString::null(),
                build_date: self.start_time,
            },
            seconds_till_shutdown: 0,
            shutdown_reason: LocalizedText::null(),
        }
    }

    /// The range of a node's instrument, where it has one.
    pub(super) fn range(&self, id: &NodeId) -> Option<(f64, f64)> {
        match self.nodes.get(id)?.source {
            Source::Signal(point) => point.range,
            _ => None,
        }
    }
}

impl Node {
    fn object(browse_name: QualifiedName, kind: ObjectTypeId) -> Self {
        Self {
            class: NodeClass::Object,
            display_name: browse_name.name.to_string(),
            browse_name,
            type_definition: kind.into(),
            data_type: NodeId::null(),
            value_rank: -1,
            source: Source::None,
            forward: Vec::new(),
            inverse: Vec::new(),
        }
    }

    fn variable(browse_name: QualifiedName, source: Source, data_type: DataTypeId) -> Self {
        Self {
            class: NodeClass::Variable,
            type_definition: VariableTypeId::BaseDataVariableType.into(),
            data_type: data_type.into(),
            source,
            ..Self::object(browse_name, ObjectTypeId::FolderType)
        }
    }

    pub(super) fn class(&self) -> NodeClass {
        self.class
    }

    pub(super) fn display(&self) -> LocalizedText {
        LocalizedText::new("", &self.display_name)
    }

    pub(super) fn type_definition(&self) -> NodeId {
        self.type_definition.clone()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what a device of that width shows")]
fn signal(point: &Point, at: Moment) -> Variant {
    let raw = (point.signal)(at);
    match point.coding {
        Coding::Float => Variant::from(raw as f32),
        Coding::Double => Variant::from(raw),
        Coding::Int => Variant::from(raw.round() as i16),
        Coding::Count => Variant::from(raw.round() as u32),
        Coding::State(_) => Variant::from(raw.round() as i32),
        Coding::Bool => Variant::from(raw > 0.5),
        Coding::Text(text) => Variant::from(UAString::from(text)),
        Coding::Array(count) => {
            let behind = |element: u8| (point.signal)(at.earlier(u64::from(element) * 700));
            (0..count).map(behind).collect::<Vec<f64>>().into()
        }
    }
}

fn type_of(kind: VariantScalarTypeId) -> DataTypeId {
    match kind {
        VariantScalarTypeId::Boolean => DataTypeId::Boolean,
        VariantScalarTypeId::Int16 => DataTypeId::Int16,
        VariantScalarTypeId::Int32 => DataTypeId::Int32,
        VariantScalarTypeId::Int64 => DataTypeId::Int64,
        VariantScalarTypeId::UInt16 => DataTypeId::UInt16,
        VariantScalarTypeId::UInt32 => DataTypeId::UInt32,
        VariantScalarTypeId::UInt64 => DataTypeId::UInt64,
        VariantScalarTypeId::Float => DataTypeId::Float,
        VariantScalarTypeId::Double => DataTypeId::Double,
        VariantScalarTypeId::String => DataTypeId::String,
        VariantScalarTypeId::DateTime => DataTypeId::DateTime,
        _ => DataTypeId::BaseDataType,
    }
}
