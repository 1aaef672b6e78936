//! The adapter's own table of what is watched at the server: what was made, what was refused, when to try again (UA-14, UA-15).
//!
//! Pure. The server's word for each item counts, not that the request as a whole was taken: an item that silently is not
//! there would be a point that silently is not read.

use std::time::Duration;

use model::{Timestamp, reason};
use tokio::time::Instant;

use super::point::{Deadband, Point, Trigger};
use super::stack::{
    AttributeId, DataChangeFilter, DataValue, ExtensionObject, MonitoredItemCreateRequest, MonitoringMode,
    MonitoringParameters, NodeId, ReadValueId, StatusCode,
};
use super::value::{fingerprint, number_of};

/// First wait before an item that was refused is asked for again, and the longest (UA-15).
const RETRY_MIN: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(600);
/// How long an item may be without its first value before that is told (UA-25).
pub const WAITING_MAX: Duration = Duration::from_secs(30);

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// To be asked for from this moment on.
    Wanted(Instant),
    /// On its way.
    Asked,
    /// The server watches it.
    Watched,
    /// Its namespace is not there in this session.
    Homeless,
}

/// One point at the server.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct Item {
    pub state: State,
    pub node: Option<NodeId>,
    /// Its place among the adapter's intervals.
    pub interval: usize,
    /// Read again and again: it does not want to be watched, or the server cannot.
    pub polled: bool,
    /// The server does not do the deadband; we do where it is absolute.
    pub filters_here: bool,
    /// Why it is not there.
    pub error: Option<String>,
    tries: u32,
    /// Its next value is the first one since it is watched.
    pub initial: bool,
    /// Something was missed before its next value.
    pub gap: bool,
    pub waiting: Option<Instant>,
    last: Option<u64>,
    reported: Option<f64>,
    /// The newest time of its values.
    pub newest: Option<Timestamp>,
}

impl Item {
    pub fn new(interval: usize, polled: bool, now: Instant) -> Self {
        Self {
            state: State::Wanted(now),
            node: None,
            interval,
            polled,
            filters_here: false,
            error: None,
            tries: 0,
            initial: true,
            gap: false,
            waiting: None,
            last: None,
            reported: None,
            newest: None,
        }
    }

    /// It is to be made anew: what was watched is not any more.
    pub fn want(&mut self, now: Instant) {
        self.gap |= self.last.is_some();
        (self.state, self.initial, self.tries) = (State::Wanted(now), true, 0);
    }

    /// It is watched, or read.
    pub fn works(&mut self) {
        (self.tries, self.error) = (0, None);
    }

    /// The server refuses it: when it is asked again. Its next value is news in any case.
    pub fn refused(&mut self, why: String, now: Instant) {
        let wait = RETRY_MIN.saturating_mul(1 << self.tries.min(8)).min(RETRY_MAX);
        self.tries += 1;
        (self.error, self.state, self.last) = (Some(why), State::Wanted(now + wait), None);
    }

    /// True if this says something that was not said before (UA-11), and is not within the deadband where that is ours.
    /// A percentage is never ours: the range it is meant of is the server's (UA-19).
    pub fn is_news(&mut self, point: &Point, data: &DataValue) -> bool {
        let print = fingerprint(data);
        if self.last == Some(print) {
            return false;
        }
        if (self.filters_here || self.polled)
            && let (Some(Deadband::Absolute(width)), Some(number)) = (point.deadband, number_of(data))
            && !data.status().is_bad()
        {
            let within = self.reported.is_some_and(|last| (number - last).abs() <= width);
            if within && self.last.is_some() {
                return false;
            }
            self.reported = Some(number);
        }
        self.last = Some(print);
        true
    }
}

/// What is asked of the server for an item; `handle` comes back with each value.
pub fn request(point: &Point, node: NodeId, handle: u32, filters_here: bool) -> MonitoredItemCreateRequest {
    let deadband = point.deadband.filter(|_| !filters_here);
    let filter = if deadband.is_none() && point.trigger == Trigger::StatusValue {
        ExtensionObject::null()
    } else {
        let (deadband_type, deadband_value) = match deadband {
            None => (0, 0.0),
            Some(Deadband::Absolute(width)) => (1, width),
            Some(Deadband::Percent(percent)) => (2, percent),
        };
        let trigger = point.trigger.of_stack();
        ExtensionObject::from_message(DataChangeFilter { trigger, deadband_type, deadband_value })
    };
    MonitoredItemCreateRequest {
        item_to_monitor: ReadValueId { node_id: node, attribute_id: AttributeId::Value as u32, ..Default::default() },
        monitoring_mode: MonitoringMode::Reporting,
        requested_parameters: MonitoringParameters {
            client_handle: handle,
            sampling_interval: point.sampling_ms,
            filter,
            queue_size: point.queue,
            discard_oldest: true,
        },
    }
}

/// The next items to ask for, all of one interval, at most `limit`.
pub fn next_chunk(items: &[Item], interval: usize, limit: usize, now: Instant) -> Vec<usize> {
    let due = |item: &Item| {
        let wanted = matches!(item.state, State::Wanted(due) if due <= now);
        wanted && !item.polled && item.interval == interval && item.node.is_some()
    };
    items.iter().enumerate().filter(|(_, item)| due(item)).map(|(at, _)| at).take(limit.max(1)).collect()
}

/// When [`next_chunk`] has something that it has not now.
pub fn next_due(items: &[Item]) -> Option<Instant> {
    let due = |item: &Item| match item.state {
        State::Wanted(due) if !item.polled && item.node.is_some() => Some(due),
        _ => None,
    };
    items.iter().filter_map(due).min()
}

/// True if fewer at once might be taken (UA-14).
pub fn is_too_much(status: StatusCode) -> bool {
    [
        StatusCode::BadTooManyOperations,
        StatusCode::BadRequestTooLarge,
        StatusCode::BadResponseTooLarge,
        StatusCode::BadEncodingLimitsExceeded,
    ]
    .contains(&status)
}

/// True if the item is taken without its filter (UA-19).
pub fn is_about_filter(status: StatusCode) -> bool {
    [
        StatusCode::BadMonitoredItemFilterUnsupported,
        StatusCode::BadMonitoredItemFilterInvalid,
        StatusCode::BadDeadbandFilterInvalid,
        StatusCode::BadFilterNotAllowed,
    ]
    .contains(&status)
}

/// The reason code of a point the server refuses.
pub fn reason_of(status: StatusCode) -> &'static str {
    let addresses = [
        StatusCode::BadNodeIdUnknown,
        StatusCode::BadNodeIdInvalid,
        StatusCode::BadAttributeIdInvalid,
        StatusCode::BadIndexRangeInvalid,
    ];
    if addresses.contains(&status) { reason::ADDRESS_INVALID } else { reason::SERVER_BAD }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcua::config::plan;
    use crate::opcua::config::tests::settings;
    use crate::opcua::stack::Variant;
    use serde_json::json;

    fn point(more: &serde_json::Value) -> Point {
        let mut point = json!({"node": "nsu=urn:x;s=Temp", "parameter": "temp"});
        for (key, value) in more.as_object().unwrap() {
            point[key] = value.clone();
        }
        plan(&settings(&json!({"points": [point]})), "").unwrap().points.remove(0)
    }

    fn items(count: usize, now: Instant) -> Vec<Item> {
        let made = |_| Item { node: Some(NodeId::new(2, 1u32)), ..Item::new(0, false, now) };
        (0..count).map(made).collect()
    }

    // UA-14, AC-041
    #[tokio::test(start_paused = true)]
    async fn items_are_asked_for_in_parts_the_server_takes() {
        let now = Instant::now();
        let mut table = items(2500, now);
        let mut calls = Vec::new();
        loop {
            let chunk = next_chunk(&table, 0, 1000, now);
            if chunk.is_empty() {
                break;
            }
            calls.push(chunk.len());
            for at in chunk {
                table[at].state = State::Watched;
            }
        }
        assert_eq!(calls, [1000, 1000, 500]);
        assert!(is_too_much(StatusCode::BadTooManyOperations) && !is_too_much(StatusCode::BadNodeIdUnknown));
    }

    // UA-15, AC-043
    #[tokio::test(start_paused = true)]
    async fn one_that_is_refused_comes_again_later_and_holds_up_none() {
        let start = Instant::now();
        let mut table = items(3, start);
        table[1].refused("BadNodeIdUnknown".to_owned(), start);
        assert_eq!(next_chunk(&table, 0, 10, start), [0, 2]);
        let mut waits = Vec::new();
        let mut now = start;
        for _ in 0..6 {
            let State::Wanted(due) = table[1].state else { panic!("wanted") };
            waits.push(due.duration_since(now).as_secs());
            now = due;
            table[1].refused("BadNodeIdUnknown".to_owned(), now);
        }
        assert_eq!(waits, [60, 120, 240, 480, 600, 600]);
        assert_eq!(reason_of(StatusCode::BadNodeIdUnknown), reason::ADDRESS_INVALID);
        assert_eq!(reason_of(StatusCode::BadUserAccessDenied), reason::SERVER_BAD);
    }

    // UA-11
    #[tokio::test(start_paused = true)]
    async fn what_was_said_before_is_no_news() {
        let mut item = Item::new(0, false, Instant::now());
        let (point, data) = (point(&json!({})), DataValue::value_only(5.0));
        assert!(item.is_news(&point, &data) && !item.is_news(&point, &data));
        item.want(Instant::now());
        assert!(item.gap && item.initial && !item.is_news(&point, &data));
        item.refused(String::new(), Instant::now());
        assert!(item.is_news(&point, &data), "after it was bad it is news");
    }

    // UA-19, AC-042
    #[tokio::test(start_paused = true)]
    async fn a_deadband_the_server_does_not_do_is_ours() {
        let point = point(&json!({"deadband": {"type": "absolute", "value": 1.0}}));
        let node = NodeId::new(2, 1u32);
        assert!(!request(&point, node.clone(), 7, false).requested_parameters.filter.is_null());
        assert!(request(&point, node, 7, true).requested_parameters.filter.is_null());
        let mut item = Item { filters_here: true, ..Item::new(0, false, Instant::now()) };
        let mut news = |number: f64| item.is_news(&point, &DataValue::value_only(Variant::Double(number)));
        assert_eq!([10.0, 10.4, 10.8, 11.2, 11.0].map(&mut news), [true, false, false, true, false]);
        assert!(is_about_filter(StatusCode::BadDeadbandFilterInvalid));
    }

    // UA-19: a percentage is of a range that only the server knows
    #[tokio::test(start_paused = true)]
    async fn a_deadband_is_ours_where_it_can_be() {
        let percent = point(&json!({"deadband": {"type": "percent", "value": 50}}));
        let mut item = Item { filters_here: true, ..Item::new(0, false, Instant::now()) };
        let told = |item: &mut Item, point: &Point, number: f64| {
            item.is_news(point, &DataValue::value_only(Variant::Double(number)))
        };
        assert_eq!([10.0, 10.4].map(|number| told(&mut item, &percent, number)), [true, true]);
        let read = point(&json!({"mode": "read", "deadband": {"type": "absolute", "value": 1}}));
        let mut item = Item::new(0, true, Instant::now());
        assert_eq!([10.0, 10.4, 12.0].map(|number| told(&mut item, &read, number)), [true, false, true]);
    }
}
