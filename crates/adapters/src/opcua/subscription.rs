//! What a subscription owes us and we owe it: sequence numbers, what is missing, what may be acknowledged (UA-08 to UA-10).
//!
//! Pure: it is handed messages and the time. Invariants:
//! - Notifications are handed on in the order of their numbers, each once; what came ahead of a gap waits for it.
//! - A notification is acknowledged only after [`Ledger::settle`].
//! - What is owed dies with the subscription, not with the connection: the server still has it (UA-11).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::stack::{NotificationMessage, SubscriptionAcknowledgement};
use crate::adapter::Receipt;

/// Missing notifications that are asked for; more in one gap are given up at once.
pub const MISSING_MAX: u32 = 1000;
/// Notifications heard and not settled; then no more are asked for, and the server keeps them.
pub const OWED_MAX: usize = 2000;
/// Their bytes, estimated.
pub const OWED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Silences in a row after which the session is not believed any more, and those after which the subscription is not.
pub const SILENCES_OF_SESSION: u32 = 2;
pub const SILENCES_OF_SUBSCRIPTION: u32 = 3;
/// Room for the way there and back on top of what the server promised (UA-10).
const ROUND_TRIP: Duration = Duration::from_secs(2);

/// The number after this one; 0 is none (UA-10).
pub const fn next(number: u32) -> u32 {
    if number == u32::MAX { 1 } else { number + 1 }
}

/// How many numbers lie from `from` on before `to`; none if `to` lies behind.
fn ahead(from: u32, to: u32) -> Option<u32> {
    let distance = to.wrapping_sub(from);
    // 0 is left out when the count begins again
    let distance = if to < from { distance.wrapping_sub(1) } else { distance };
    (distance < u32::MAX / 2).then_some(distance)
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Hand this on.
    Deliver(NotificationMessage),
    /// Ask for this one again.
    Republish(u32),
    /// So many are gone for good.
    Lost(u32),
}

/// One subscription at the server.
#[derive(Debug)]
pub struct Subscription {
    pub id: u32,
    /// Its place among the adapter's intervals.
    pub interval: usize,
    pub publishing: Duration,
    /// Longest silence.
    pub keep_alive: Duration,
    /// The next number.
    expected: u32,
    last_heard: Instant,
    /// Times it was silent for too long without a message in between, over connections: some servers take a session back
    /// whose subscriptions are gone, and never say so.
    pub silences: u32,
    /// Asked for again, in order; the first is on its way.
    missing: VecDeque<u32>,
    /// Came ahead of what is missing.
    waiting: BTreeMap<u32, NotificationMessage>,
}

impl Subscription {
    pub fn new(id: u32, interval: usize, publishing: Duration, keep_alive: Duration, now: Instant) -> Self {
        Self {
            id,
            interval,
            publishing,
            keep_alive,
            expected: 1,
            last_heard: now,
            silences: 0,
            missing: VecDeque::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// The number of the next notification.
    pub fn expected(&self) -> u32 {
        self.expected
    }

    /// True while something is asked for again.
    pub fn is_filling(&self) -> bool {
        !self.missing.is_empty()
    }

    /// It said something, be it only that it is there.
    pub fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// When it counts as gone without another word (UA-10).
    pub fn deadline(&self) -> Instant {
        self.last_heard + self.keep_alive.mul_f64(1.5) + ROUND_TRIP
    }

    /// A message of it. One without content tells only the next number and uses none (UA-10).
    pub fn receive(&mut self, message: NotificationMessage, now: Instant) -> Vec<Step> {
        (self.last_heard, self.silences) = (now, 0);
        let number = message.sequence_number;
        let has_content = message.notification_data.as_ref().is_some_and(|data| !data.is_empty());
        let Some(gap) = ahead(self.expected, number) else { return Vec::new() };
        let mut steps = Vec::new();
        if gap > MISSING_MAX {
            // the server counts from somewhere else, or we were away for very long
            steps.push(Step::Lost(gap));
            steps.extend(std::mem::take(&mut self.waiting).into_values().map(Step::Deliver));
            self.missing.clear();
            self.expected = number;
        }
        if has_content {
            self.waiting.insert(number, message);
        }
        let was_filling = self.is_filling();
        let last_missing = self.missing.back().copied();
        let mut candidate = last_missing.map_or(self.expected, next);
        while ahead(candidate, number).is_some_and(|distance| distance > 0) {
            if !self.waiting.contains_key(&candidate) {
                self.missing.push_back(candidate);
            }
            candidate = next(candidate);
        }
        steps.extend(self.proceed());
        if !was_filling && let Some(first) = self.missing.front() {
            steps.push(Step::Republish(*first));
        }
        steps
    }

    /// The answer to what was asked for again: the message, or that the server does not have it any more.
    pub fn republished(&mut self, number: u32, message: Option<NotificationMessage>) -> Vec<Step> {
        if self.missing.front() != Some(&number) {
            return Vec::new();
        }
        self.missing.pop_front();
        let mut steps = Vec::new();
        match message {
            Some(message) => {
                self.waiting.insert(number, message);
            }
            None => {
                steps.push(Step::Lost(1));
                self.expected = next(number);
            }
        }
        steps.extend(self.proceed());
        if let Some(first) = self.missing.front() {
            steps.push(Step::Republish(*first));
        }
        steps
    }

    /// The connection is a new one: what was on its way does not come any more. Asks for what follows (UA-11).
    pub fn resume(&mut self, now: Instant) -> u32 {
        self.last_heard = now;
        self.missing.clear();
        self.missing.push_back(self.expected);
        self.expected
    }

    /// The answer to [`Self::resume`]: the message, or that there is no more of them, which is the end of it and no loss.
    pub fn resumed(&mut self, number: u32, message: Option<NotificationMessage>) -> Vec<Step> {
        self.missing.clear();
        let mut steps = Vec::new();
        match message {
            None if self.waiting.is_empty() => return steps,
            // what came ahead before the cut shows that there was one
            None => {
                steps.push(Step::Lost(1));
                self.expected = next(number);
            }
            Some(message) => {
                self.waiting.insert(number, message);
            }
        }
        steps.extend(self.proceed());
        self.missing.push_back(self.expected);
        steps.push(Step::Republish(self.expected));
        steps
    }

    /// What can be handed on now.
    fn proceed(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(message) = self.waiting.remove(&self.expected) {
            steps.push(Step::Deliver(message));
            self.expected = next(self.expected);
        }
        steps
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owed {
    receipt: Receipt,
    subscription: u32,
    number: u32,
    bytes: usize,
}

/// What was heard and is not acknowledged yet, over all subscriptions.
#[derive(Debug, Default)]
pub struct Ledger {
    owed: VecDeque<Owed>,
    bytes: usize,
    /// Durable, to go with the next request.
    due: Vec<(u32, u32)>,
}

impl Ledger {
    /// Owes a notification under a receipt.
    pub fn owe(&mut self, receipt: Receipt, subscription: u32, number: u32, bytes: usize) {
        self.owed.push_back(Owed { receipt, subscription, number, bytes });
        self.bytes += bytes;
    }

    /// Everything up to this receipt is durable.
    pub fn settle(&mut self, upto: Receipt) {
        while let Some(first) = self.owed.front().copied().filter(|owed| owed.receipt <= upto) {
            self.owed.pop_front();
            self.bytes -= first.bytes;
            self.due.push((first.subscription, first.number));
        }
    }

    /// False while the server is to keep what it has.
    pub fn has_room(&self) -> bool {
        self.owed.len() < OWED_MAX && self.bytes < OWED_BYTES_MAX
    }

    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    /// True if something can be acknowledged.
    pub fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// What the next request acknowledges.
    pub fn take_due(&mut self) -> Vec<SubscriptionAcknowledgement> {
        let due = std::mem::take(&mut self.due);
        let of = |(subscription_id, sequence_number)| SubscriptionAcknowledgement { subscription_id, sequence_number };
        due.into_iter().map(of).collect()
    }

    /// Only these subscriptions are still there. Another server may give their numbers anew, so nothing of the old ones may
    /// be acknowledged to it.
    pub fn keep(&mut self, subscriptions: &[u32]) {
        let mut gone: Vec<u32> = self.due.iter().map(|(id, _)| *id).collect();
        gone.extend(self.owed.iter().map(|owed| owed.subscription));
        gone.sort_unstable();
        gone.dedup();
        for id in gone.into_iter().filter(|id| !subscriptions.contains(id)) {
            self.forget(id);
        }
    }

    /// The subscription is gone, and what was owed to it.
    pub fn forget(&mut self, subscription: u32) {
        self.due.retain(|(id, _)| *id != subscription);
        for owed in &mut self.owed {
            if owed.subscription == subscription {
                owed.subscription = 0;
            }
        }
        // the receipts stay in order; what is owed to nobody is not acknowledged to anybody
        let bytes: usize = self.owed.iter().filter(|owed| owed.subscription == 0).map(|owed| owed.bytes).sum();
        self.owed.retain(|owed| owed.subscription != 0);
        self.bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcua::stack::{DateTime, ExtensionObject};

    fn message(number: u32) -> NotificationMessage {
        NotificationMessage {
            sequence_number: number,
            publish_time: DateTime::null(),
            notification_data: Some(vec![ExtensionObject::null()]),
        }
    }

    fn keep_alive(number: u32) -> NotificationMessage {
        NotificationMessage { notification_data: None, ..message(number) }
    }

    fn subscription(expected: u32) -> Subscription {
        let second = Duration::from_secs(1);
        let mut subscription = Subscription::new(7, 0, second, second * 5, Instant::now());
        subscription.expected = expected;
        subscription
    }

    fn told(steps: Vec<Step>) -> Vec<String> {
        let word = |step| match step {
            Step::Deliver(message) => format!("deliver {}", message.sequence_number),
            Step::Republish(number) => format!("again {number}"),
            Step::Lost(count) => format!("lost {count}"),
        };
        steps.into_iter().map(word).collect()
    }

    // UA-10
    #[tokio::test(start_paused = true)]
    async fn a_word_that_it_is_there_uses_no_number() {
        let (mut subscription, now) = (subscription(1), Instant::now());
        assert!(subscription.receive(keep_alive(1), now).is_empty());
        assert_eq!(told(subscription.receive(message(1), now)), ["deliver 1"]);
        assert!(subscription.receive(keep_alive(2), now).is_empty());
        assert_eq!(told(subscription.receive(message(2), now)), ["deliver 2"]);
        assert!(subscription.receive(message(2), now).is_empty(), "once only");
        assert!(subscription.receive(message(1), now).is_empty(), "an old one");
    }

    // UA-10, AC-035
    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_asked_for_and_nothing_overtakes_it() {
        let (mut subscription, now) = (subscription(3), Instant::now());
        assert_eq!(told(subscription.receive(message(6), now)), ["again 3"]);
        assert!(subscription.receive(message(8), now).is_empty());
        assert_eq!(told(subscription.republished(3, Some(message(3)))), ["deliver 3", "again 4"]);
        assert!(subscription.republished(9, Some(message(9))).is_empty(), "nobody asked");
        assert_eq!(told(subscription.republished(4, Some(message(4)))), ["deliver 4", "again 5"]);
        assert_eq!(told(subscription.republished(5, Some(message(5)))), ["deliver 5", "deliver 6", "again 7"]);
        assert_eq!(told(subscription.republished(7, Some(message(7)))), ["deliver 7", "deliver 8"]);
        assert!(!subscription.is_filling());
    }

    // UA-10, AC-036
    #[tokio::test(start_paused = true)]
    async fn what_the_server_has_not_any_more_is_lost_and_the_rest_goes_on() {
        let (mut subscription, now) = (subscription(3), Instant::now());
        assert_eq!(told(subscription.receive(message(5), now)), ["again 3"]);
        assert_eq!(told(subscription.republished(3, None)), ["lost 1", "again 4"]);
        assert_eq!(told(subscription.republished(4, None)), ["lost 1", "deliver 5"]);
        assert_eq!(told(subscription.receive(message(60_000), now)), ["lost 59994", "deliver 60000"]);
    }

    // UA-10: a gap that only a word of being there shows
    #[tokio::test(start_paused = true)]
    async fn a_keep_alive_shows_a_gap_too() {
        let (mut subscription, now) = (subscription(3), Instant::now());
        assert_eq!(told(subscription.receive(keep_alive(5), now)), ["again 3"]);
        assert_eq!(told(subscription.republished(3, Some(message(3)))), ["deliver 3", "again 4"]);
        assert_eq!(told(subscription.republished(4, Some(message(4)))), ["deliver 4"]);
        assert_eq!(subscription.expected(), 5);
    }

    // UA-10
    #[tokio::test(start_paused = true)]
    async fn numbers_begin_again_at_one() {
        let (mut subscription, now) = (subscription(u32::MAX), Instant::now());
        assert_eq!(told(subscription.receive(message(2), now)), ["again 4294967295"]);
        let after = subscription.republished(u32::MAX, Some(message(u32::MAX)));
        assert_eq!(told(after), ["deliver 4294967295", "again 1"]);
        assert_eq!(told(subscription.republished(1, Some(message(1)))), ["deliver 1", "deliver 2"]);
        assert_eq!(ahead(5, 3), None);
    }

    // UA-11
    #[tokio::test(start_paused = true)]
    async fn after_a_cut_everything_from_the_next_number_on_is_asked_for() {
        let (mut subscription, now) = (subscription(3), Instant::now());
        subscription.receive(message(5), now);
        assert_eq!(subscription.resume(now), 3);
        assert_eq!(told(subscription.resumed(3, Some(message(3)))), ["deliver 3", "again 4"]);
        assert_eq!(told(subscription.resumed(4, Some(message(4)))), ["deliver 4", "deliver 5", "again 6"]);
        assert!(subscription.resumed(6, None).is_empty(), "no loss, there is no more");
        assert_eq!(told(subscription.receive(message(6), now)), ["deliver 6"]);
        subscription.receive(message(9), now);
        assert_eq!(subscription.resume(now), 7);
        assert_eq!(told(subscription.resumed(7, None)), ["lost 1", "again 8"], "9 came before the cut");
        assert_eq!(told(subscription.resumed(8, Some(message(8)))), ["deliver 8", "deliver 9", "again 10"]);
    }

    // UA-10
    #[tokio::test(start_paused = true)]
    async fn silence_of_one_and_a_half_times_what_was_promised_is_the_end() {
        let (mut subscription, start) = (subscription(1), Instant::now());
        assert_eq!(subscription.deadline(), start + Duration::from_millis(7500) + ROUND_TRIP);
        subscription.heard(start + Duration::from_secs(5));
        assert_eq!(subscription.deadline(), start + Duration::from_millis(12_500) + ROUND_TRIP);
    }

    // UA-09, AC-038
    #[test]
    fn nothing_is_acknowledged_before_it_is_settled() {
        let mut ledger = Ledger::default();
        for number in 1..=3 {
            ledger.owe(u64::from(number), 7, number, 10);
        }
        assert!(!ledger.is_due());
        ledger.settle(2);
        let numbers: Vec<u32> = ledger.take_due().iter().map(|ack| ack.sequence_number).collect();
        assert_eq!((numbers, ledger.owed()), (vec![1, 2], 1));
        assert!(ledger.take_due().is_empty(), "once only");
        ledger.owe(4, 8, 1, 10);
        ledger.forget(7);
        ledger.settle(9);
        assert_eq!(ledger.take_due().iter().map(|ack| ack.subscription_id).collect::<Vec<_>>(), [8]);
        for number in 0..OWED_MAX {
            ledger.owe(10 + number as u64, 8, 2, 1);
        }
        assert!(!ledger.has_room());
    }

    // UA-09, UA-12: a server that was started anew gives the same numbers to others
    #[test]
    fn what_was_owed_to_a_subscription_that_is_gone_is_not_acknowledged_to_another() {
        let mut ledger = Ledger::default();
        for (receipt, subscription) in [(1, 7), (2, 8), (3, 7)] {
            ledger.owe(receipt, subscription, 5, 100);
        }
        ledger.settle(2);
        ledger.keep(&[8]);
        assert_eq!(ledger.owed(), 0);
        let due: Vec<u32> = ledger.take_due().iter().map(|due| due.subscription_id).collect();
        assert_eq!(due, [8]);
        assert!(ledger.has_room());
    }
}
