//! Walking through what a server has, level by level (UA-21).
//!
//! Lazy: a level is asked for in pages, and a page is forgotten when it was told, so the memory is that of one page for each
//! level, however large the server is. Loop-safe without a list of all nodes: nobody goes down into a node that it came
//! through. What stands in a line is found out in [`super::describe`].

use std::collections::VecDeque;

use super::connection::CallError;
use super::describe::{Describer, Node};
use super::node::{Identity, STANDARD};
use super::session::value_of;
use super::stack::{
    AttributeId, BrowseDescription, BrowseDirection, BrowseNextRequest, BrowseRequest, BrowseResult, ByteString,
    DataValue, NodeClass, NodeId, QualifiedName, ReadValueId, ReferenceDescription, ResponseMessage, StatusCode,
    Variant, name_of,
};
use super::visit::{Guest, Visit};
use crate::commission::stages::{Course, Report, Words};

/// Levels that may be walked at once.
pub const DEPTH_MAX: usize = 10;
/// References of one page.
const PAGE: u32 = 1000;
/// `Objects`, where everything of a plant is.
const OBJECTS: u32 = 85;
/// `Server`, which every server has and no plant is made of.
const SERVER: u32 = 2253;
const HIERARCHICAL: u32 = 33;
const HAS_PROPERTY: u32 = 46;
/// Objects, variables, methods and views.
const CLASSES: u32 = 1 | 2 | 4 | 128;
/// All that a reference can say.
const RESULT_ALL: u32 = 63;

/// What to walk through.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Where to begin; `Objects` when absent.
    pub start: Option<String>,
    /// Levels below it.
    pub depth: usize,
    /// Nodes that are told.
    pub limit: usize,
    /// Properties as well, which say something about their node.
    pub properties: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// Nodes that were told.
    pub told: usize,
    /// There are more than the limit.
    pub more: bool,
    /// Nodes whose children the server did not name, and why the first one.
    pub refused: usize,
    pub refusal: Option<String>,
}

/// A level that is being walked.
#[derive(Debug)]
struct Level {
    node: NodeId,
    /// Asked of the server, not described yet.
    references: VecDeque<ReferenceDescription>,
    /// Described, not told yet.
    ready: VecDeque<Node>,
    next: Next,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Begin,
    Continue(ByteString),
    Nothing,
}

impl Level {
    fn new(node: NodeId) -> Self {
        Self { node, references: VecDeque::new(), ready: VecDeque::new(), next: Next::Begin }
    }
}

/// Walks, handing each node to `tell` as it is found. What fails is the last stage of the report.
pub async fn browse(guest: &Guest, wish: &Wish, tell: &mut (dyn FnMut(&Node) + Send)) -> Result<Walked, Report> {
    let url = &guest.plan.servers[0].url;
    let mut quiet = |_: &_| {};
    let mut course = Course::new(&mut quiet);
    let Ok(mut visit) = guest.enter(&mut course).await else { return Err(course.finish(url)) };
    let walked = walk(&mut visit, wish, tell).await;
    visit.leave().await;
    walked.map_err(|words| {
        let _failed = course.fail("browse", words);
        course.finish(url)
    })
}

async fn walk(visit: &mut Visit, wish: &Wish, tell: &mut (dyn FnMut(&Node) + Send)) -> Result<Walked, Words> {
    let start = start_node(wish.start.as_deref(), &visit.facts.namespaces).map_err(|what| {
        Words::new(what).hint("write nsu=urn:vendor:device;s=Name as browse prints it, i=85, or ns=2;s=Name")
    })?;
    let mut describer = Describer::new(visit);
    let mut walked = Walked { told: 0, more: false, refused: 0, refusal: None };
    let root = first(visit, &mut describer, &start).await?;
    tell(&root);
    walked.told = 1;
    let mut levels = vec![Level::new(start)];
    let outcome = below(visit, wish, &mut describer, &mut levels, &mut walked, tell).await;
    let open: Vec<ByteString> = levels.into_iter().filter_map(|level| level.next.point()).collect();
    if !open.is_empty() {
        release(visit, open).await;
    }
    outcome.map_err(|error| visit.words(error)).map(|()| walked)
}

async fn below(
    visit: &mut Visit,
    wish: &Wish,
    describer: &mut Describer,
    levels: &mut Vec<Level>,
    walked: &mut Walked,
    tell: &mut (dyn FnMut(&Node) + Send),
) -> Result<(), CallError> {
    loop {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else { return Ok(()) };
        if let Some(mut node) = level.ready.pop_front() {
            if walked.told >= wish.limit {
                walked.more = true;
                return Ok(());
            }
            node.depth = depth;
            tell(&node);
            walked.told += 1;
            if depth < wish.depth
                && let Some(id) = goes_down(&node, levels)
            {
                levels.push(Level::new(id));
            }
        } else if level.references.is_empty() {
            let page = match std::mem::replace(&mut level.next, Next::Nothing) {
                Next::Nothing => {
                    levels.pop();
                    continue;
                }
                Next::Begin => begin(visit, level.node.clone()).await?,
                Next::Continue(point) => next(visit, point).await?,
            };
            if page.status_code.is_bad() {
                walked.refused += 1;
                walked.refusal.get_or_insert_with(|| name_of(page.status_code));
            }
            let is_wanted = |reference: &ReferenceDescription| {
                wish.properties || reference.reference_type_id != NodeId::new(0, HAS_PROPERTY)
            };
            level.references.extend(page.references.into_iter().flatten().filter(is_wanted));
            if !page.continuation_point.is_null_or_empty() {
                level.next = Next::Continue(page.continuation_point);
            }
        } else {
            let count = describer.chunk().min(level.references.len());
            let part: Vec<ReferenceDescription> = level.references.drain(..count).collect();
            level.ready.extend(describer.describe(visit, part).await?);
        }
    }
}

impl Next {
    fn point(self) -> Option<ByteString> {
        match self {
            Self::Continue(point) => Some(point),
            Self::Begin | Self::Nothing => None,
        }
    }
}

/// The node to go down into; none for what has no children of its own, or what it came through.
fn goes_down(node: &Node, levels: &[Level]) -> Option<NodeId> {
    let id = node.id.as_ref()?;
    let has_children = matches!(node.class, NodeClass::Object | NodeClass::Variable | NodeClass::View);
    let is_server = *id == NodeId::new(0, SERVER);
    let is_above = levels.iter().any(|level| level.node == *id);
    (has_children && !is_server && !is_above).then(|| id.clone())
}

/// By the address of the namespace, or by its number, which is good for this session alone (UA-20).
fn start_node(text: Option<&str>, namespaces: &[String]) -> Result<NodeId, String> {
    let Some(text) = text else { return Ok(NodeId::new(0, OBJECTS)) };
    let shown = crate::commission::text::shown(text, 200);
    let identity = match text.strip_prefix("ns=").and_then(|rest| rest.split_once(';')) {
        Some((number, id)) => {
            let index: usize = number.parse().map_err(|_| format!("{shown} has no number behind ns="))?;
            let uri = namespaces.get(index).ok_or_else(|| format!("the server has no namespace {index}"))?;
            Identity { namespace: uri.clone(), ..Identity::parse(id)? }
        }
        None => Identity::parse(text).map_err(|why| format!("{shown} {why}"))?,
    };
    let missing =
        || format!("the server has no namespace {}", crate::commission::text::shown(&identity.namespace, 200));
    identity.resolve(namespaces).ok_or_else(missing)
}

/// The node it begins with, described like any other.
async fn first(visit: &mut Visit, describer: &mut Describer, start: &NodeId) -> Result<Node, Words> {
    let attribute = |attribute: AttributeId| ReadValueId { attribute_id: attribute as u32, ..value_of(start) };
    let asked = vec![attribute(AttributeId::NodeClass), attribute(AttributeId::BrowseName)];
    let answers = visit.asker().read(asked).await;
    let answers = answers.map_err(|error| visit.words(error))?;
    let class = match answers.first().and_then(|data| data.value.as_ref()) {
        Some(Variant::Int32(class)) => NodeClass::try_from(*class).unwrap_or_default(),
        _ => {
            let status = answers.first().map_or(StatusCode::BadNodeIdUnknown, DataValue::status);
            let code = name_of(status);
            let hint = super::hints::of_status(&code, "", "");
            return Err(Words::new(format!("the node to begin with cannot be read: {code}")).hint(hint));
        }
    };
    let browse_name = match answers.into_iter().nth(1).and_then(|data| data.value) {
        Some(Variant::QualifiedName(name)) => *name,
        _ => QualifiedName::default(),
    };
    let reference =
        ReferenceDescription { node_id: start.clone().into(), browse_name, node_class: class, ..Default::default() };
    let described = describer.describe(visit, vec![reference]).await;
    let mut described = described.map_err(|error| visit.words(error))?;
    described.pop().ok_or_else(|| Words::new("the node to begin with cannot be described"))
}

async fn begin(visit: &mut Visit, node: NodeId) -> Result<BrowseResult, CallError> {
    let description = BrowseDescription {
        node_id: node,
        browse_direction: BrowseDirection::Forward,
        reference_type_id: NodeId::new(0, HIERARCHICAL),
        include_subtypes: true,
        node_class_mask: CLASSES,
        result_mask: RESULT_ALL,
    };
    let asker = visit.asker();
    let build = |request_header| {
        BrowseRequest {
            request_header,
            requested_max_references_per_node: PAGE,
            nodes_to_browse: Some(vec![description]),
            ..Default::default()
        }
        .into()
    };
    match asker.connection.call(asker.deadline, build).await? {
        ResponseMessage::Browse(answer) => one(asker.connection, answer.results),
        _ => Err(CallError::Link(asker.connection.out_of_step("it answers something else than was asked".to_owned()))),
    }
}

async fn next(visit: &mut Visit, point: ByteString) -> Result<BrowseResult, CallError> {
    let asker = visit.asker();
    let build = |request_header| {
        BrowseNextRequest { request_header, release_continuation_points: false, continuation_points: Some(vec![point]) }
            .into()
    };
    match asker.connection.call(asker.deadline, build).await? {
        ResponseMessage::BrowseNext(answer) => one(asker.connection, answer.results),
        _ => Err(CallError::Link(asker.connection.out_of_step("it answers something else than was asked".to_owned()))),
    }
}

fn one(
    connection: &super::connection::Connection,
    results: Option<Vec<BrowseResult>>,
) -> Result<BrowseResult, CallError> {
    let mut results = results.unwrap_or_default();
    match (results.pop(), results.is_empty()) {
        (Some(result), true) => Ok(result),
        _ => {
            Err(CallError::Link(connection.out_of_step("it does not answer for each node it was asked for".to_owned())))
        }
    }
}

/// Tells the server that nobody will ask on; servers keep few of these.
async fn release(visit: &mut Visit, points: Vec<ByteString>) {
    let asker = visit.asker();
    let build = |request_header| {
        BrowseNextRequest { request_header, release_continuation_points: true, continuation_points: Some(points) }
            .into()
    };
    if asker.connection.call(asker.deadline, build).await.is_err() {
        tracing::debug!("the server keeps continuation points until the session ends");
    }
}

/// True for what the standard itself has, which nobody configures as a point.
pub fn is_standard(identity: &Identity) -> bool {
    identity.namespace == STANDARD
}

#[cfg(test)]
mod tests {
    use super::*;

    // UA-20, UA-21
    #[test]
    fn the_start_is_named_by_address_or_by_number() {
        let namespaces: Vec<String> = [STANDARD, "urn:server", "urn:line"].map(str::to_owned).into();
        assert_eq!(start_node(None, &namespaces), Ok(NodeId::new(0, OBJECTS)));
        assert_eq!(start_node(Some("i=84"), &namespaces), Ok(NodeId::new(0, 84u32)));
        let expected = Ok(NodeId::new(2, "a;s=b"));
        assert_eq!(start_node(Some("nsu=urn:line;s=a;s=b"), &namespaces), expected);
        assert_eq!(start_node(Some("ns=2;s=a;s=b"), &namespaces), expected);
        for (text, why) in [
            ("ns=3;s=a", "has no namespace 3"),
            ("nsu=urn:gone;s=a", "has no namespace urn:gone"),
            ("ns=x;s=a", "no number behind ns="),
            ("Objects", "has no id"),
        ] {
            assert!(start_node(Some(text), &namespaces).unwrap_err().contains(why), "{text}");
        }
    }
}
