//! `browse`: what an OPC UA server has, level by level, or as points ready to be configured.

use adapters::commission::text::{name_of, quoted, shown};
use adapters::opcua::browse::{DEPTH_MAX, Walked, Wish, browse as walk};
use adapters::opcua::describe::Node;
use adapters::opcua::draft::Draft;
use clap::Args;
use serde_json::json;

use super::{Access, Protocol, draft_head, print_json};
use crate::exit::{Failure, TRY_AGAIN, USAGE};
use crate::say;

/// Nodes that may be told in one walk.
const LIMIT_MAX: u64 = 1_000_000;
/// Letters of a name and of a value that stand in a line.
const NAME_SHOWN: usize = 48;
const VALUE_SHOWN: usize = 40;

/// Options of `browse`.
#[derive(Debug, Args)]
pub(crate) struct Browse {
    /// opc.tcp://HOST[:PORT][/PATH]
    pub(crate) url: String,
    /// Where to begin: nsu=ADDRESS;s=NAME as it is printed, i=85, or ns=2;s=NAME; the folder Objects when absent
    pub(crate) node: Option<String>,
    /// Levels below the node
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10))]
    pub(crate) depth: u64,
    /// Nodes that are shown; whether there are more is said at the end
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=LIMIT_MAX))]
    pub(crate) limit: u64,
    /// Show the properties of nodes as well
    #[arg(long)]
    pub(crate) properties: bool,
    /// Print an adapter whose points are the variables that were found
    #[arg(long)]
    pub(crate) points: bool,
    /// With --points: the asset that the points are of; named after the node when absent
    #[arg(long, value_name = "NAME", requires = "points")]
    pub(crate) asset: Option<String>,
    /// Print JSON, for scripts: one object a line, the last one says how many there were
    #[arg(long, conflicts_with = "points")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// Walks through a server.
pub(crate) async fn browse(options: &Browse) -> Result<(), Failure> {
    if Protocol::of(&options.url) != Some(Protocol::OpcUa) {
        let hint = "browsing is for OPC UA: opc.tcp://host:4840; for MQTT there is `streamforge listen`";
        return Err(Failure::new(USAGE, format!("{:?} cannot be browsed; {hint}", options.url)));
    }
    let guest = options.access.opcua(&options.url)?;
    let wish = Wish {
        start: options.node.clone(),
        depth: usize::try_from(options.depth).unwrap_or(1).min(DEPTH_MAX),
        limit: usize::try_from(options.limit).unwrap_or(usize::MAX),
        properties: options.properties,
    };
    let mut draft = Draft::default();
    let mut tell = |node: &Node| {
        if options.points {
            if node.depth == 0 {
                say::line(&head(options, node));
            }
            if let Some(line) = draft.line(node) {
                say::line(&line);
            }
        } else if options.json {
            say::line(&node.to_json().to_string());
        } else {
            say::line(&line(node));
        }
    };
    let walked = walk(&guest, &wish, &mut tell).await.map_err(|report| {
        let why = report.failed().map(ToString::to_string).unwrap_or_default();
        Failure::new(TRY_AGAIN, format!("{} cannot be browsed\n{why}", report.target))
    })?;
    if options.points && draft.points == 0 {
        say::note("no variable was found that can be a point: browse deeper with --depth, or begin at another node");
    }
    conclude(options, &walked)
}

fn conclude(options: &Browse, walked: &Walked) -> Result<(), Failure> {
    let Walked { told, more, refused, refusal } = walked;
    if options.json {
        return print_json(&json!({ "told": told, "more": more, "refused": refused, "refusal": refusal }));
    }
    if *more {
        say::note(&format!("there is more than {told} nodes: --limit takes up to {LIMIT_MAX}, or begin further down"));
    }
    if let Some(refusal) = refusal {
        say::note(&format!("the server does not name the children of {refused} nodes, the first because of {refusal}"));
    }
    Ok(())
}

/// A node in one line, indented by its level.
fn line(node: &Node) -> String {
    let name = format!("{:indent$}{}", "", shown(&node.browse_name, NAME_SHOWN), indent = 2 * node.depth);
    let kind = node.data_type.as_deref().unwrap_or_default();
    let list = if node.is_array { "[]" } else { "" };
    let value = match (&node.value, &node.status) {
        (Some(value), None) => shown(value, VALUE_SHOWN),
        (Some(value), Some(status)) => format!("{} ({status})", shown(value, VALUE_SHOWN)),
        (None, Some(status)) => format!("({status})"),
        (None, None) => String::new(),
    };
    let unit = node.unit.as_deref().map_or_else(String::new, |unit| format!(" {}", shown(unit, 20)));
    let kind = format!("{}{list}", shown(kind, 40));
    let class = node.class_name();
    format!("{name:32}  {class:8}  {kind:12}  {:24}  {}", format!("{value}{unit}"), shown(&node.name(), 400))
}

/// The adapter around the points.
fn head(options: &Browse, start: &Node) -> String {
    let asset = options.asset.clone().unwrap_or_else(|| start.browse_name.clone());
    let below = shown(&start.name(), 200);
    let mut lines =
        vec![format!("# Variables of {}, {} levels below {below}.", shown(&options.url, 200), options.depth)];
    lines.extend(draft_head("opcua", &options.access.opcua_settings(&options.url)));
    lines.push(format!("  asset_id: {}", quoted(&name_of(&asset))));
    lines.push("  points:".to_owned());
    lines.join("\n")
}
