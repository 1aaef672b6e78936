//! A subscription: what is watched, what waits to be told, and what was told and not acknowledged.
//!
//! Pure: it is handed values and the time. Invariants:
//! - Numbers go up by one with each notification; a keep-alive carries the next number without using it (UA-10).
//! - What was told stays here until it is acknowledged, at most [`TOLD_MAX`] of it; the oldest goes first.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use opcua_types::{
    AttributeId, DataChangeFilter, DataChangeTrigger, DataValue, DateTime, MonitoredItemCreateRequest,
    MonitoredItemNotification, MonitoringMode, NodeId, NotificationMessage, StatusCode, Variant,
};
use tokio::time::Instant;

/// Notifications kept for a repetition; the oldest is forgotten first.
const TOLD_MAX: usize = 200;
/// Values that wait in one item, whatever a client asks for.
pub(super) const QUEUE_MAX: u32 = 1_000;
/// Values in one notification, unless the client wants fewer.
const VALUES_MAX: usize = 5_000;
/// Information bits of a status that say that values were lost: data value, overflow.
const OVERFLOW_BITS: u32 = 0x0480;

/// One watched attribute.
#[derive(Debug)]
pub(super) struct Item {
    handle: u32,
    pub(super) node: NodeId,
    pub(super) attribute: u32,
    mode: MonitoringMode,
    sampling: Duration,
    due: Instant,
    queue_size: usize,
    discard_oldest: bool,
    trigger: DataChangeTrigger,
    /// Change that is not worth telling, in the node's unit.
    deadband: f64,
    last: Option<DataValue>,
    queue: VecDeque<DataValue>,
}

impl Item {
    pub(super) fn new(
        request: &MonitoredItemCreateRequest,
        filter: Option<&DataChangeFilter>,
        deadband: f64,
        sampling: Duration,
        now: Instant,
    ) -> Self {
        let asked = &request.requested_parameters;
        Self {
            handle: asked.client_handle,
            node: request.item_to_monitor.node_id.clone(),
            attribute: request.item_to_monitor.attribute_id,
            mode: request.monitoring_mode,
            sampling,
            due: now,
            queue_size: usize::try_from(asked.queue_size.clamp(1, QUEUE_MAX)).unwrap_or(1),
            discard_oldest: asked.discard_oldest,
            trigger: filter.map_or(DataChangeTrigger::StatusValue, |filter| filter.trigger),
            deadband,
            last: None,
            queue: VecDeque::new(),
        }
    }

    /// True if it is about the value of that node.
    pub(super) fn watches(&self, node: &NodeId) -> bool {
        self.mode != MonitoringMode::Disabled && self.attribute == AttributeId::Value as u32 && self.node == *node
    }

    /// True if it is to be looked at now; says so once for each sampling interval.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if self.mode == MonitoringMode::Disabled || self.due > now {
            return false;
        }
        self.due = now + self.sampling;
        true
    }

    /// Takes a value; it waits if it says something new.
    pub(super) fn sample(&mut self, value: DataValue) {
        if !self.is_news(&value) {
            return;
        }
        self.last = Some(value.clone());
        if self.queue.len() >= self.queue_size {
            let full = self.queue_size > 1;
            if self.discard_oldest {
                self.queue.pop_front();
            } else {
                self.queue.pop_back();
            }
            self.queue.push_back(value);
            // a queue of one never says so
            let marked = if self.discard_oldest { self.queue.front_mut() } else { self.queue.back_mut() };
            if let Some(marked) = marked.filter(|_| full) {
                let bits = marked.status.unwrap_or(StatusCode::Good).bits() | OVERFLOW_BITS;
                marked.status = Some(StatusCode::from(bits));
            }
            return;
        }
        self.queue.push_back(value);
    }

    fn is_news(&self, value: &DataValue) -> bool {
        let Some(last) = &self.last else { return true };
        if last.status() != value.status() {
            return true;
        }
        match self.trigger {
            DataChangeTrigger::Status => return false,
            DataChangeTrigger::StatusValueTimestamp if last.source_timestamp != value.source_timestamp => return true,
            _ => {}
        }
        if self.deadband > 0.0
            && let (Some(before), Some(now)) = (number(last), number(value))
        {
            return (now - before).abs() > self.deadband;
        }
        last.value != value.value
    }
}

fn number(value: &DataValue) -> Option<f64> {
    Some(match value.value.as_ref()? {
        Variant::Double(number) => *number,
        Variant::Float(number) => (*number).into(),
        Variant::Int16(number) => (*number).into(),
        Variant::Int32(number) => (*number).into(),
        Variant::UInt16(number) => (*number).into(),
        Variant::UInt32(number) => (*number).into(),
        _ => return None,
    })
}

/// What is to be told now.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) message: NotificationMessage,
    pub(super) more: bool,
    pub(super) is_keep_alive: bool,
}

/// A subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) id: u32,
    /// Number of its session.
    pub(super) session: u32,
    pub(super) publishing: Duration,
    pub(super) lifetime_count: u32,
    pub(super) keep_alive_count: u32,
    pub(super) enabled: bool,
    pub(super) values_max: usize,
    pub(super) items: BTreeMap<u32, Item>,
    next: u32,
    told: VecDeque<NotificationMessage>,
    due: Instant,
    /// Intervals without a notification; the first interval always has one.
    quiet: u32,
    /// Intervals without a request of the client.
    pub(super) unheard: u32,
    /// An interval has ended and it is not settled yet whether there is something to say.
    pub(super) is_late: bool,
}

impl Subscription {
    pub(super) fn new(id: u32, session: u32, publishing: Duration, counts: (u32, u32), now: Instant) -> Self {
        let (lifetime_count, keep_alive_count) = counts;
        Self {
            id,
            session,
            publishing,
            lifetime_count,
            keep_alive_count,
            enabled: true,
            values_max: VALUES_MAX,
            items: BTreeMap::new(),
            next: 1,
            told: VecDeque::new(),
            due: now + publishing,
            quiet: keep_alive_count,
            unheard: 0,
            is_late: false,
        }
    }

    /// Changes how many values go into one notification; 0 leaves it to the server.
    pub(super) fn set_values_max(&mut self, asked: u32) {
        self.values_max = usize::try_from(asked).ok().filter(|asked| *asked > 0).unwrap_or(VALUES_MAX).min(VALUES_MAX);
    }

    /// Goes on to this time; true if an interval ended.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        if self.due > now {
            return false;
        }
        self.due = now + self.publishing;
        self.quiet = self.quiet.saturating_add(1);
        self.unheard = self.unheard.saturating_add(1);
        true
    }

    /// True if it has something to say when it is asked.
    pub(super) fn is_ready(&self) -> bool {
        self.has_values() || self.quiet > self.keep_alive_count
    }

    fn has_values(&self) -> bool {
        self.enabled && self.items.values().any(|item| item.mode == MonitoringMode::Reporting && !item.queue.is_empty())
    }

    /// What it has to say; only when it is ready.
    pub(super) fn tell(&mut self, time: DateTime) -> Telling {
        self.quiet = 0;
        self.unheard = 0;
        let mut values = Vec::new();
        if self.enabled {
            // in turns, so that one item with many does not hold up the others
            let reporting = |item: &&mut Item| item.mode == MonitoringMode::Reporting;
            for item in self.items.values_mut().filter(reporting) {
                while values.len() < self.values_max {
                    let Some(value) = item.queue.pop_front() else { break };
                    values.push(MonitoredItemNotification { client_handle: item.handle, value });
                }
            }
        }
        if values.is_empty() {
            return Telling {
                message: NotificationMessage::keep_alive(self.next, time),
                more: false,
                is_keep_alive: true,
            };
        }
        let message = NotificationMessage::data_change(self.next, time, values, Vec::new());
        self.next = self.next.checked_add(1).unwrap_or(1);
        if self.told.len() >= TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(message.clone());
        Telling { message, more: self.has_values(), is_keep_alive: false }
    }

    /// The client has it.
    pub(super) fn acknowledge(&mut self, number: u32) -> StatusCode {
        let before = self.told.len();
        self.told.retain(|message| message.sequence_number != number);
        if self.told.len() < before { StatusCode::Good } else { StatusCode::BadSequenceNumberUnknown }
    }

    /// Numbers it can repeat.
    pub(super) fn available(&self) -> Vec<u32> {
        self.told.iter().map(|message| message.sequence_number).collect()
    }

    /// A notification once more.
    pub(super) fn repeat(&self, number: u32) -> Option<NotificationMessage> {
        self.told.iter().find(|message| message.sequence_number == number).cloned()
    }

    /// Forgets what it could repeat.
    pub(super) fn forget(&mut self, number: u32) {
        self.told.retain(|message| message.sequence_number != number);
    }

    /// Tells the present value of each item again.
    pub(super) fn begin_again(&mut self) {
        for item in self.items.values_mut() {
            if item.queue.is_empty()
                && let Some(last) = item.last.clone()
            {
                item.queue.push_back(last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opcua_types::{MonitoringParameters, ReadValueId};

    fn item(queue_size: u32, deadband: f64) -> Item {
        let request = MonitoredItemCreateRequest {
            item_to_monitor: ReadValueId::default(),
            monitoring_mode: MonitoringMode::Reporting,
            requested_parameters: MonitoringParameters {
                client_handle: 7,
                queue_size,
                discard_oldest: true,
                ..Default::default()
            },
        };
        Item::new(&request, None, deadband, Duration::from_millis(10), Instant::now())
    }

    fn value(number: f64) -> DataValue {
        DataValue::value_only(number)
    }

    // UA-10
    #[test]
    fn a_keep_alive_uses_no_number_and_what_was_told_can_be_repeated() {
        let start = Instant::now();
        let mut subscription = Subscription::new(1, 1, Duration::from_millis(100), (30, 2), start);
        assert!(!subscription.is_ready(), "the first interval has not ended");
        assert!(subscription.tick(start + Duration::from_millis(100)));
        let first = subscription.tell(DateTime::now());
        assert!((first.is_keep_alive, first.message.sequence_number) == (true, 1));
        subscription.items.insert(1, item(10, 0.0));
        subscription.items.get_mut(&1).unwrap().sample(value(1.0));
        let told = subscription.tell(DateTime::now());
        assert_eq!((told.message.sequence_number, subscription.available()), (1, vec![1]));
        assert!(subscription.repeat(1).is_some());
        assert_eq!(subscription.acknowledge(1), StatusCode::Good);
        assert_eq!(subscription.acknowledge(1), StatusCode::BadSequenceNumberUnknown);
        assert!(subscription.repeat(1).is_none());
    }

    // UA-17, AC-039
    #[test]
    fn a_full_queue_marks_the_value_behind_the_gap_and_a_queue_of_one_does_not() {
        let mut many = item(2, 0.0);
        for number in [1.0, 2.0, 3.0] {
            many.sample(value(number));
        }
        let status: Vec<u32> = many.queue.iter().map(|value| value.status().bits()).collect();
        assert_eq!(status, [0x0480, 0]);
        let mut one = item(1, 0.0);
        one.sample(value(1.0));
        one.sample(value(2.0));
        assert_eq!((one.queue.len(), one.queue[0].status().bits()), (1, 0));
    }

    // UA-19
    #[test]
    fn a_deadband_is_measured_from_what_was_told() {
        let mut item = item(10, 1.0);
        for number in [10.0, 10.4, 10.8, 11.2, 11.2] {
            item.sample(value(number));
        }
        assert_eq!(item.queue.len(), 2);
    }
}
