//! Listening to whatever a broker has.

use std::time::Duration;

use adapters::mqtt::listen::listen;
use adapters::mqtt::suggest::{Proposal, propose};
use serde_json::json;

use super::broker::{Broker, available, not_run};
use super::probing::guest;

/// A birth of an edge node with one metric `Temp`, a Double of 1.5 (Sparkplug B 3.0).
const BIRTH: &[u8] =
    &[0x08, 1, 0x12, 17, 0x0A, 4, b'T', b'e', b'm', b'p', 0x20, 10, 0x69, 0, 0, 0, 0, 0, 0, 0xF8, 0x3F, 0x18, 0];

// ui 1.4, MQ-12 to MQ-17
#[tokio::test]
async fn topics_with_counts_kinds_and_what_could_be_made_of_them() {
    if let Err(why) = available() {
        return not_run("MQTT: listening to everything", &why);
    }
    let broker = Broker::start("");
    for (topic, payload) in [
        ("plant/press_7/state", &br#"{"ts":1769680800123,"t":21.5}"#[..]),
        ("plant/press_8/state", br#"{"ts":1769680800123,"t":22}"#),
        ("tele/pump_1/flow", b"23.5"),
        ("tele/pump_2/flow", b"11"),
        ("spBv1.0/plant/NBIRTH/edge", BIRTH),
    ] {
        broker.publish_with(topic, payload, &["-r"]);
    }
    let listener = guest(broker.port, &json!({}));
    let live = async {
        // until the listening ends, whenever it began
        loop {
            broker.publish("tele/pump_1/flow", b"24");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let listened = tokio::select! {
        listened = listen(&listener, "#", Duration::from_secs(2), 100) => listened.unwrap(),
        () = live => unreachable!("it goes on for ever"),
    };
    let flow = &listened.topics["tele/pump_1/flow"];
    assert!(flow.retained == 1 && flow.count > 0, "{flow:?}");
    assert_eq!((flow.last.as_str(), listened.topics.len(), listened.beyond), ("24", 5, 0));
    let proposals = propose(&listened);
    let templates: Vec<_> = proposals.subscriptions.iter().filter_map(|one| one.template.as_deref()).collect();
    assert_eq!(templates, ["plant/{asset}/state", "tele/{asset}/{param}"]);
    assert_eq!(proposals.groups, ["plant"]);
    let birth = listened.topics["spBv1.0/plant/NBIRTH/edge"].shape.as_ref().unwrap();
    assert_eq!(birth.fields.keys().collect::<Vec<_>>(), ["Temp"]);
    let lines: Vec<String> = proposals.subscriptions.iter().flat_map(Proposal::lines).collect();
    assert!(lines.contains(&"      time: { path: \"/ts\", format: epoch_ms }".to_owned()), "{lines:?}");
    // no more than is asked for is kept
    let few = listen(&listener, "#", Duration::from_secs(1), 2).await.unwrap();
    assert_eq!((few.topics.len(), few.beyond), (2, 3));
    assert!(few.notes()[0].contains("3 messages to further topics: 2 are kept"), "{:?}", few.notes());
    let refused = listen(&listener, "a#", Duration::from_secs(1), 2).await.unwrap_err();
    assert_eq!(refused.failed().unwrap().name, "filter");
}
