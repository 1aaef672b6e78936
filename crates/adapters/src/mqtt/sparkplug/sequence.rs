//! The order of an edge node's messages: `seq` counts them from 0 to 255 and around (MQ-17).
//!
//! Pure. A message that comes too early waits for those before it, for a while; then it is taken, and the gap is told.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Messages of one edge node that wait for earlier ones; when there are more the gap counts as one.
const WAITING_MAX: usize = 64;

/// Messages that may be taken now, in order, and whether some before them are missing.
#[derive(Debug, PartialEq, Eq)]
pub struct Ready<T> {
    pub messages: Vec<T>,
    /// First missing number, and how many are.
    pub gap: Option<(u8, u8)>,
}

impl<T> Default for Ready<T> {
    fn default() -> Self {
        Self { messages: Vec::new(), gap: None }
    }
}

/// One edge node's count.
#[derive(Debug)]
pub struct Sequence<T> {
    next: u8,
    /// By distance from `next`.
    waiting: BTreeMap<u8, T>,
    until: Option<Instant>,
    patience: Duration,
}

impl<T> Sequence<T> {
    pub fn new(patience: Duration) -> Self {
        Self { next: 0, waiting: BTreeMap::new(), until: None, patience }
    }

    /// A birth of the node: it counts from here, and what waited belonged to its life before.
    pub fn begin(&mut self, seq: u8) {
        self.next = seq.wrapping_add(1);
        self.waiting.clear();
        self.until = None;
    }

    /// When [`Sequence::expire`] has something to do.
    pub fn timer(&self) -> Option<Instant> {
        self.until
    }

    /// Takes a message.
    pub fn take(&mut self, seq: u8, message: T, now: Instant) -> Ready<T> {
        let distance = seq.wrapping_sub(self.next);
        if distance == 0 {
            let mut messages = vec![message];
            self.next = self.next.wrapping_add(1);
            self.shift(1);
            self.drain(&mut messages);
            return Ready { messages, gap: None };
        }
        self.waiting.insert(distance, message);
        self.until.get_or_insert(now + self.patience);
        if self.waiting.len() >= WAITING_MAX { self.give_up() } else { Ready::default() }
    }

    /// Gives up on what is missing, when its time is over.
    pub fn expire(&mut self, now: Instant) -> Ready<T> {
        if self.until.is_some_and(|until| now >= until) { self.give_up() } else { Ready::default() }
    }

    fn give_up(&mut self) -> Ready<T> {
        self.until = None;
        let Some(first) = self.waiting.keys().next().copied() else { return Ready::default() };
        let gap = Some((self.next, first));
        // all of them: a second gap among them is part of the first
        let waiting = std::mem::take(&mut self.waiting);
        let last = waiting.keys().next_back().copied().unwrap_or_default();
        self.next = self.next.wrapping_add(last).wrapping_add(1);
        Ready { messages: waiting.into_values().collect(), gap }
    }

    fn shift(&mut self, by: u8) {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting = waiting.into_iter().map(|(distance, message)| (distance - by, message)).collect();
    }

    fn drain(&mut self, messages: &mut Vec<T>) {
        while let Some(message) = self.waiting.remove(&0) {
            messages.push(message);
            self.next = self.next.wrapping_add(1);
            self.shift(1);
        }
        if self.waiting.is_empty() {
            self.until = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // AC-056, MQ-17
    #[tokio::test(start_paused = true)]
    async fn around_the_end_and_over_a_gap() {
        let now = Instant::now();
        let mut sequence = Sequence::new(Duration::from_secs(5));
        sequence.begin(253);
        for seq in [254_u8, 255, 0, 1] {
            assert_eq!(sequence.take(seq, seq, now), Ready { messages: vec![seq], gap: None });
        }
        // 2 is overtaken by 3
        assert_eq!(sequence.take(3, 3, now), Ready::default());
        assert_eq!(sequence.take(2, 2, now), Ready { messages: vec![2, 3], gap: None });
        assert_eq!(sequence.timer(), None);
        // 4 never comes
        assert_eq!(sequence.take(5, 5, now), Ready::default());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(sequence.take(6, 6, at(2)), Ready::default());
        assert_eq!(sequence.expire(at(4)), Ready::default());
        assert_eq!(sequence.expire(at(5)), Ready { messages: vec![5, 6], gap: Some((4, 1)) });
        assert_eq!(sequence.take(7, 7, at(6)), Ready { messages: vec![7], gap: None });
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_bounded() {
        let now = Instant::now();
        let mut sequence = Sequence::new(Duration::from_secs(5));
        sequence.begin(255);
        let ready = (1..=64_u8).map(|seq| sequence.take(seq, seq, now)).find(|ready| ready.gap.is_some());
        assert_eq!(ready.map(|ready| ready.messages.len()), Some(WAITING_MAX));
    }
}
