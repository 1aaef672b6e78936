//! Walking through a server.

use adapters::opcua::browse::{Walked, Wish, browse};
use adapters::opcua::config::plan;
use adapters::opcua::describe::Node;
use adapters::opcua::draft::Draft;
use serde_json::json;

use super::probing::insecure;
use super::server::{Server, available, free_port, not_run};

fn wish(start: Option<&str>, depth: usize) -> Wish {
    Wish { start: start.map(str::to_owned), depth, limit: 10_000, properties: false }
}

async fn walked(server: &Server, wish: &Wish) -> (Walked, Vec<Node>) {
    let state = tempfile::tempdir().unwrap();
    let mut nodes = Vec::new();
    let walked = browse(&insecure(server.port, state.path()), wish, &mut |node: &Node| nodes.push(node.clone())).await;
    (walked.unwrap(), nodes)
}

fn find<'n>(nodes: &'n [Node], name: &str) -> &'n Node {
    nodes.iter().find(|node| node.browse_name == name).unwrap_or_else(|| panic!("no {name} in {nodes:?}"))
}

/// Two motors in a line, each with a speed; and a way back up.
async fn line(server: &mut Server) {
    server.tell(&json!({"do": "folder", "name": "Line"})).await;
    for motor in ["Motor 1", "Motor 2"] {
        server.tell(&json!({"do": "folder", "name": motor, "in": "Line"})).await;
    }
    server.tell(&json!({"do": "analog", "name": "Speed", "in": "Motor 1", "value": 1480.5, "unit": "rpm", "range": [0, 3000]})).await;
    server.tell(&json!({"do": "add", "name": "State", "in": "Motor 2", "value": 3, "type": "Int32"})).await;
    server.tell(&json!({"do": "add", "name": "Zones", "in": "Motor 2", "value": [1.5, 2.5], "type": "Float"})).await;
    server.tell(&json!({"do": "loop", "from": "Motor 2", "to": "Line"})).await;
}

// UA-20, UA-21
#[tokio::test]
async fn one_level_by_default_with_types_values_and_units() {
    if let Err(why) = available() {
        return not_run("OPC UA: browsing", &why);
    }
    let mut server = Server::start().await;
    line(&mut server).await;
    server.add("Temp", 21.5).await;
    let (end, nodes) = walked(&server, &wish(None, 1)).await;
    assert!(nodes.iter().all(|node| node.depth <= 1), "one level: {nodes:?}");
    assert_eq!((end.told, end.more, nodes[0].browse_name.as_str()), (nodes.len(), false, "Objects"));
    let temp = find(&nodes, "Temp");
    assert_eq!((temp.name().as_str(), temp.class_name()), ("nsu=urn:test:line;s=Temp", "variable"));
    assert_eq!((temp.data_type.as_deref(), temp.value.as_deref()), (Some("Double"), Some("21.5")));
    let (_, nodes) = walked(&server, &wish(Some("nsu=urn:test:line;s=Motor 1"), 1)).await;
    let speed = find(&nodes, "Speed");
    assert_eq!((speed.unit.as_deref(), speed.range, speed.readable), (Some("rpm"), Some((0.0, 3000.0)), true));
    assert!(!nodes.iter().any(|node| node.browse_name == "EURange"), "properties are left out");
    let with = Wish { properties: true, ..wish(Some("nsu=urn:test:line;s=Speed"), 1) };
    assert!(walked(&server, &with).await.1.iter().any(|node| node.browse_name == "EURange"));
}

// UA-21: loop-safe; the points are read back by the adapter's own reader
#[tokio::test]
async fn a_subtree_ends_where_it_began_and_becomes_points() {
    if let Err(why) = available() {
        return not_run("OPC UA: browsing a subtree", &why);
    }
    let mut server = Server::start().await;
    line(&mut server).await;
    let (end, nodes) = walked(&server, &wish(Some("nsu=urn:test:line;s=Line"), 10)).await;
    let names: Vec<(usize, &str)> = nodes.iter().map(|node| (node.depth, node.browse_name.as_str())).collect();
    let expected = [(0, "Line"), (1, "Motor 1"), (2, "Speed"), (1, "Motor 2"), (2, "State"), (2, "Zones"), (2, "Line")];
    assert_eq!((names.as_slice(), end.refused), (&expected[..], 0));
    let mut draft = Draft::default();
    let lines: Vec<String> = nodes.iter().filter_map(|node| draft.line(node)).collect();
    let text = format!(
        "version: 1\ngateway_id: gw\nadapters:\n- adapter_id: a\n  adapter_type: opcua\n  url: opc.tcp://plc\n  asset_id: line\n  points:\n{}\n",
        lines.join("\n")
    );
    let catalog = config::Catalog::new(adapters::catalog::specs());
    let document = config::parse(&text, &catalog).unwrap_or_else(|problems| panic!("{problems:?} in {text}"));
    let plan = plan(&document.components[0].settings, "").unwrap();
    let points: Vec<(&str, Option<&str>)> =
        plan.points.iter().map(|point| (point.parameter.as_str(), point.unit.as_deref())).collect();
    assert_eq!(points, [("motor_1_speed", Some("rpm")), ("motor_2_state", None), ("motor_2_zones", None)]);
}

// UA-21: continuation points are followed, and given back when nobody asks on
#[tokio::test]
async fn pages_are_followed_and_given_back() {
    if let Err(why) = available() {
        return not_run("OPC UA: browsing in pages", &why);
    }
    let mut server = Server::start_on(free_port(), &["none", "pages=3"]).await;
    server.tell(&json!({"do": "folder", "name": "Line"})).await;
    for number in 0..20 {
        server.tell(&json!({"do": "add", "name": format!("v{number}"), "in": "Line", "value": number})).await;
    }
    let (_, nodes) = walked(&server, &wish(Some("nsu=urn:test:line;s=Line"), 2)).await;
    let names: Vec<&str> = nodes[1..].iter().map(|node| node.browse_name.as_str()).collect();
    assert_eq!(names, (0..20).map(|number| format!("v{number}")).collect::<Vec<_>>());
    let cut = Wish { limit: 5, ..wish(Some("nsu=urn:test:line;s=Line"), 1) };
    let (end, nodes) = walked(&server, &cut).await;
    assert_eq!((nodes.len(), end.told, end.more), (5, 5, true));
    server.tell(&json!({"do": "open"})).await;
    let said = server.wait("open").await;
    assert!(said.starts_with("open 0 "), "given back: {said}");
}

// ui 1.4: BadNodeIdUnknown: browse again
#[tokio::test]
async fn a_node_that_is_not_there_says_what_to_do() {
    if let Err(why) = available() {
        return not_run("OPC UA: browsing from nowhere", &why);
    }
    let (server, state) = (Server::start().await, tempfile::tempdir().unwrap());
    for (start, why) in [
        ("nsu=urn:test:line;s=Gone", "browse again"),
        ("nsu=urn:gone;s=x", "has no namespace urn:gone"),
        ("Temp", "nsu=urn:vendor:device;s=Name"),
    ] {
        let report = browse(&insecure(server.port, state.path()), &wish(Some(start), 1), &mut |_: &Node| {}).await;
        let said = report.unwrap_err().failed().unwrap().to_string();
        assert!(said.contains(why), "{said}");
    }
}
