//! A Sparkplug B edge node with one device: births with aliases, data by alias, a death as its will, births again when it
//! is asked for them.
//!
//! [`Node`] is pure, it makes the messages; `live` carries them to a broker. Invariant: the sequence number goes up by
//! one with each message but a death, and starts at 0 with each birth of the node.

use std::io;
use std::time::Duration;

use model::{Clock, SystemClock};
use mqtt311::mqttbytes::QoS;
use mqtt311::mqttbytes::v4::{Connect, LastWill, Packet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::client::Client;
use super::sparkplug::{self, BD_SEQ, Metric, REBIRTH, Value};
use crate::plant::Moment;
use crate::plant::points::{self, Coding};

/// The group of the demo plant.
pub const GROUP: &str = "demo";
/// The edge node.
pub const NODE: &str = "packaging";
/// Its device.
pub const DEVICE: &str = "wrapper_01";
/// Seconds a connection may be silent; data comes more often.
const KEEP_ALIVE_S: u16 = 30;

/// What a node sends, in the order it sends it.
#[derive(Debug, Default)]
pub struct Node {
    seq: u8,
    /// Of this life, 0 to 255 and around.
    bd_seq: u8,
    /// What the host knows of each metric.
    told: Vec<Option<Value>>,
}

impl Node {
    /// The will to connect with; begins a new life.
    pub fn death(&mut self, now_ms: u64) -> LastWill {
        self.bd_seq = self.bd_seq.wrapping_add(1);
        sparkplug::death(&topic("NDEATH", false), now_ms, self.bd_seq)
    }

    /// Births of the node and of its device: topics and payloads.
    pub fn births(&mut self, now_ms: u64, at: Moment) -> [(String, Vec<u8>); 2] {
        self.seq = 0;
        let own = [Metric::named(BD_SEQ, Value::Int64(self.bd_seq.into())), Metric::named(REBIRTH, Value::Bool(false))];
        let node = sparkplug::payload(now_ms, Some(self.next_seq()), &own);
        let mut metrics = Vec::new();
        self.told.clear();
        for (alias, point) in (1..).zip(points::WRAPPER) {
            let value = value(point, at);
            metrics.push(Metric {
                name: Some(point.parameter.to_owned()),
                alias: Some(alias),
                value: value.clone(),
                unit: Some(point.unit.to_owned()).filter(|unit| !unit.is_empty()),
            });
            self.told.push(Some(value));
        }
        let device = sparkplug::payload(now_ms, Some(self.next_seq()), &metrics);
        [(topic("NBIRTH", false), node), (topic("DBIRTH", true), device)]
    }

    /// What changed since the last message; `None` when nothing did.
    pub fn data(&mut self, now_ms: u64, at: Moment) -> Option<(String, Vec<u8>)> {
        let mut metrics = Vec::new();
        for ((alias, point), told) in (1..).zip(points::WRAPPER).zip(&mut self.told) {
            let value = value(point, at);
            if told.as_ref() != Some(&value) {
                *told = Some(value.clone());
                metrics.push(Metric { name: None, alias: Some(alias), value, unit: None });
            }
        }
        if metrics.is_empty() {
            return None;
        }
        Some((topic("DDATA", true), sparkplug::payload(now_ms, Some(self.next_seq()), &metrics)))
    }

    fn next_seq(&mut self) -> u8 {
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        seq
    }
}

fn topic(kind: &str, device: bool) -> String {
    let node = format!("spBv1.0/{GROUP}/{kind}/{NODE}");
    if device { format!("{node}/{DEVICE}") } else { node }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what a device of that width shows")]
fn value(point: &points::Point, at: Moment) -> Value {
    let raw = (point.signal)(at);
    match point.coding {
        Coding::Float => Value::Float(raw as f32),
        Coding::Double | Coding::Array(_) => Value::Double(raw),
        Coding::Int => Value::Int16(raw.round() as i16),
        Coding::Count => Value::UInt32(raw.round() as u32),
        Coding::State(_) => Value::Int64(raw.round() as i64),
        Coding::Bool => Value::Bool(raw > 0.5),
        Coding::Text(text) => Value::Text(text.to_owned()),
    }
}

pub(super) fn now_ms() -> u64 {
    u64::try_from(SystemClock.now().as_micros() / 1000).unwrap_or_default()
}

/// One connection, from its birth to its end.
pub(super) async fn live(node: &mut Node, broker: &str, started: Instant, period: Duration) -> io::Result<()> {
    let moment = || Moment::at_ms(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    let mut greeting = Connect::new(format!("sim-{GROUP}-{NODE}"));
    greeting.keep_alive = KEEP_ALIVE_S;
    greeting.clean_session = true;
    greeting.last_will = Some(node.death(now_ms()));
    let mut client = Client::connect(broker, &greeting).await?;
    client.subscribe(&topic("NCMD", false), QoS::AtLeastOnce).await?;
    for (topic, payload) in node.births(now_ms(), moment()) {
        client.publish(&topic, payload, QoS::AtMostOnce, false).await?;
    }
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! { // waiting for a tick or a packet loses nothing when dropped
            _ = tick.tick() => {
                if let Some((topic, payload)) = node.data(now_ms(), moment()) {
                    client.publish(&topic, payload, QoS::AtMostOnce, false).await?;
                } else {
                    client.send(&Packet::PingReq).await?;
                }
            }
            packet = client.next() => if let Packet::Publish(command) = packet? {
                if command.qos == QoS::AtLeastOnce {
                    client.acknowledge(command.pkid).await?;
                }
                if sparkplug::asks_for_births(&command.payload) {
                    tracing::info!(node = NODE, "births are asked for");
                    for (topic, payload) in node.births(now_ms(), moment()) {
                        client.publish(&topic, payload, QoS::AtMostOnce, false).await?;
                    }
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // MQ-17
    #[test]
    fn data_is_what_changed_and_the_sequence_goes_on() {
        let mut node = Node::default();
        let first = node.death(0);
        assert_eq!(first.topic, "spBv1.0/demo/NDEATH/packaging");
        let births = node.births(0, Moment::at_ms(0));
        assert_eq!(
            births.each_ref().map(|(topic, _)| topic.as_str()),
            ["spBv1.0/demo/NBIRTH/packaging", "spBv1.0/demo/DBIRTH/packaging/wrapper_01"]
        );
        assert_eq!(node.data(0, Moment::at_ms(0)), None, "nothing changed");
        let (topic, _) = node.data(1000, Moment::at_ms(1000)).unwrap();
        assert_eq!(topic, "spBv1.0/demo/DDATA/packaging/wrapper_01");
        assert_eq!(node.seq, 3);
        for second in 2..256 {
            node.data(second * 1000, Moment::at_ms(second * 1000)).unwrap();
        }
        assert_eq!(node.seq, 1, "256 is 0 again");
        node.births(0, Moment::at_ms(0));
        assert_eq!(node.seq, 2);
        assert_ne!(node.death(0).message, first.message);
    }
}
