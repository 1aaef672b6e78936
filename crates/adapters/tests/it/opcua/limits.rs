//! How many items are asked for at once, counted on the wire.

use serde_json::{Value, json};

use super::process::{Process, settings};
use super::server::{Server, available, free_port, node_available, not_run};
use crate::capture::opcua::requests;
use crate::wire::Wire;

const ITEMS: usize = 2500;

/// Items of each request for them, in the order they were sent; what watches the server itself is left out.
fn asked(wire: &Wire) -> Vec<usize> {
    let context = opcua_types::ContextOwned::new_default(
        opcua_types::NamespaceMap::new(),
        opcua_types::DecodingOptions { max_array_length: ITEMS, ..Default::default() },
    );
    let mut asked = Vec::new();
    for heard in wire.heard() {
        for request in requests(&heard.sent).unwrap() {
            if request.service != "CreateMonitoredItems" {
                continue;
            }
            let body = &mut &request.body[..];
            let read: opcua_types::CreateMonitoredItemsRequest =
                opcua_types::BinaryDecodable::decode(body, &context.context()).unwrap();
            let items = read.items_to_create.unwrap_or_default();
            let is_of_server = items.iter().any(|item| item.item_to_monitor.node_id.namespace == 0);
            if !is_of_server {
                asked.push(items.len());
            }
        }
    }
    asked
}

/// All items of a server, and how they were asked for.
async fn subscribed(server: &mut Server) -> Vec<usize> {
    const NODES: usize = 10;
    let state = tempfile::tempdir().unwrap();
    for number in 0..NODES {
        server.add(&format!("N{number}"), 1.0).await;
    }
    let wire = Wire::start(server.port).await;
    let point = |number: usize| json!({"node": format!("nsu=urn:test:line;s=N{}", number % NODES), "parameter": format!("p{number:04}")});
    let points: Vec<Value> = (0..ITEMS).map(point).collect();
    let settings = settings(wire.address.port(), &[], &json!({"points": points}));
    let process = Process::start(&settings, state.path());
    let seen = process.kept.until("all of them", |seen| seen.len() >= ITEMS).await;
    let mut good: Vec<&str> =
        seen.iter().filter(|seen| seen.quality == "GOOD").map(|seen| seen.parameter.as_str()).collect();
    good.sort_unstable();
    good.dedup();
    assert_eq!((seen.len(), good.len()), (ITEMS, ITEMS), "each once, all good");
    let asked = asked(&wire);
    process.end().await;
    asked
}

// AC-041, UA-14: the limit that the server states
#[tokio::test]
async fn as_many_items_at_once_as_the_server_says() {
    if let Err(why) = available() {
        return not_run("OPC UA: a limit that is told", &why);
    }
    let mut server = Server::start_on(free_port(), &["none", "limit=1000"]).await;
    assert_eq!(subscribed(&mut server).await, [1000, 1000, 500]);
}

// AC-041, UA-14: the same of a server that holds to it by itself
#[tokio::test]
async fn node_opcua_says_how_many_items_at_once() {
    if let Err(why) = node_available() {
        return not_run("node-opcua: a limit that is told", &why);
    }
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start_node(free_port(), folder.path(), &["limit=1000"]).await;
    assert_eq!(subscribed(&mut server).await, [1000, 1000, 500]);
}

// AC-041, UA-14: it says that any number will do, and takes no more than 200
#[tokio::test]
async fn what_is_refused_is_asked_for_in_halves() {
    if let Err(why) = available() {
        return not_run("OPC UA: a limit that is not told", &why);
    }
    let mut server = Server::start_on(free_port(), &["none", "limit=0", "refuse=200"]).await;
    let asked = subscribed(&mut server).await;
    let refused: Vec<usize> = asked.iter().copied().filter(|count| *count > 200).collect();
    let taken: Vec<usize> = asked.iter().copied().filter(|count| *count <= 200).collect();
    assert_eq!(taken.iter().sum::<usize>(), ITEMS, "each once: {asked:?}");
    // 2500, 1250, 625, 312, 156: halved until it is taken, and no further
    let largest = taken.iter().copied().max().unwrap();
    assert_eq!(largest, 156, "{asked:?}");
    assert!(taken.iter().filter(|count| **count < largest).count() <= 1, "{asked:?}");
    assert!(refused.windows(2).all(|pair| pair[1] <= pair[0]), "what was refused is not asked for again: {asked:?}");
    for half in [2500, 1250, 625, 312] {
        assert!(refused.contains(&half), "{asked:?}");
    }
}

// UA-14: it does not know that there are limits
#[tokio::test]
async fn a_server_that_says_nothing_is_asked_for_a_hundred() {
    if let Err(why) = available() {
        return not_run("OPC UA: no limit", &why);
    }
    let mut server = Server::start_on(free_port(), &["none", "nolimit", "refuse=200"]).await;
    assert_eq!(subscribed(&mut server).await, [100; ITEMS / 100]);
}
