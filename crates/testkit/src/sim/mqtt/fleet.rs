//! Machines that publish JSON, one document each time: `plant/utilities/utilities_compressor_01/state`.

use std::io;
use std::time::Duration;

use mqtt311::mqttbytes::QoS;
use mqtt311::mqttbytes::v4::{Connect, Packet};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::client::Client;
use super::edge::now_ms;
use crate::plant::Moment;
use crate::plant::points::{self, Coding, Point};

/// Seconds a connection may be silent; messages come more often.
const KEEP_ALIVE_S: u16 = 30;

/// Where a machine publishes.
pub fn topic(thing: &points::Thing) -> String {
    format!("plant/{}/{}/state", thing.area, thing.asset_id)
}

/// What a machine publishes at a moment.
pub fn document(thing: &points::Thing, now_ms: u64, at: Moment) -> Value {
    let mut object = Map::new();
    object.insert("ts".to_owned(), json!(now_ms));
    for point in thing.points {
        object.insert(point.parameter.to_owned(), value(point, at));
    }
    Value::Object(object)
}

fn value(point: &Point, at: Moment) -> Value {
    let raw = (point.signal)(at);
    match point.coding {
        // as much as such a device would send
        Coding::Float | Coding::Double | Coding::Array(_) => json!((raw * 1000.0).round() / 1000.0),
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        Coding::Int | Coding::Count | Coding::State(_) => json!(raw.round() as i64),
        Coding::Bool => json!(raw > 0.5),
        Coding::Text(text) => json!(text),
    }
}

/// One connection to its end.
pub(super) async fn live(broker: &str, started: Instant, period: Duration) -> io::Result<()> {
    let mut greeting = Connect::new("sim-fleet");
    greeting.keep_alive = KEEP_ALIVE_S;
    greeting.clean_session = true;
    let mut client = Client::connect(broker, &greeting).await?;
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! { // waiting for a tick or a packet loses nothing when dropped
            _ = tick.tick() => {
                let at = Moment::at_ms(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
                for thing in points::FLEET {
                    let text = document(thing, now_ms(), at).to_string();
                    client.publish(&topic(thing), text.into_bytes(), QoS::AtLeastOnce, true).await?;
                }
                client.send(&Packet::PingReq).await?;
            }
            packet = client.next() => {
                packet?;
            }
        }
    }
}
