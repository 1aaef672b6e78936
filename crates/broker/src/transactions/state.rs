//! A transactional id's life as a pure function: `next(transaction, request, now) -> (transaction, answer)`.
//!
//! The rules are Apache Kafka's (KIP-98, KIP-360). Invariants: an epoch of a producer id never goes back; of all who were
//! ever given the transactional id only the last may write and end; a decided end is never changed, and only markers in
//! all its partitions leave it behind.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;

use crate::limits::{TRANSACTION_IDLE_MAX_MS, TRANSACTION_PARTITIONS_MAX, TRANSACTION_TIMEOUT_MS_MAX};

/// The last epoch a client may have; one more is left for fencing it.
const EPOCH_LAST: i16 = i16::MAX - 1;
/// No epoch, no producer id, no time.
const NONE: i16 = -1;

/// Topic and partition.
pub(crate) type Place = (String, i32);

/// A producer, as a request names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

/// Where a transactional id is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No transaction since the producer was initialised.
    Empty,
    /// Partitions are being added and written.
    Ongoing,
    /// The end is decided; markers are being written.
    Preparing { commit: bool },
    /// Every partition has its marker.
    Complete { commit: bool },
}

impl Phase {
    /// The protocol's word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::Preparing { commit: true } => "PrepareCommit",
            Self::Preparing { commit: false } => "PrepareAbort",
            Self::Complete { commit: true } => "CompleteCommit",
            Self::Complete { commit: false } => "CompleteAbort",
        }
    }
}

/// All that is known of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) producer_id: i64,
    /// The id it had until its epochs were used up, or -1.
    pub(crate) previous_producer_id: i64,
    pub(crate) epoch: i16,
    /// The epoch that its client gave up for the present one, or -1: a repeated request is told from a stale one by it.
    pub(crate) previous_epoch: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) phase: Phase,
    /// Partitions of the transaction that is ongoing or being ended.
    pub(crate) partitions: BTreeSet<Place>,
    /// When that one began, or -1.
    pub(crate) started_ms: i64,
    pub(crate) updated_ms: i64,
}

/// What may happen to a transactional id.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// A producer starts, or asks for a new epoch after an error; then it says who it was. `fresh_id` is nobody's.
    Init { timeout_ms: i32, was: Option<Who>, fresh_id: i64 },
    /// Partitions that are about to be written.
    Add { who: Who, partitions: Vec<Place> },
    /// The producer decides.
    End { who: Who, commit: bool },
    /// All partitions have their marker.
    Marked,
    /// Time has passed.
    Tick,
}

/// What the request comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Refused(ResponseError),
    /// The producer goes on as this one.
    Ready(Who),
    /// It is so.
    Done,
    /// The end is decided; it is done when the markers are written.
    Ending,
}

/// One step. No transaction: the transactional id is not known, or no longer.
pub(crate) fn next(before: Option<Transaction>, request: Request, now_ms: i64) -> (Option<Transaction>, Answer) {
    let Some(mut transaction) = before else {
        return match request {
            Request::Init { timeout_ms, fresh_id, .. } if timeout_is_valid(timeout_ms) => {
                let transaction = Transaction::new(fresh_id, timeout_ms, now_ms);
                let who = transaction.who();
                (Some(transaction), Answer::Ready(who))
            }
            Request::Init { .. } => (None, Answer::Refused(ResponseError::InvalidTransactionTimeout)),
            Request::Add { .. } | Request::End { .. } => {
                (None, Answer::Refused(ResponseError::InvalidProducerIdMapping))
            }
            Request::Marked | Request::Tick => (None, Answer::Done),
        };
    };
    let result = match request {
        Request::Init { timeout_ms, was, fresh_id } => transaction.init(timeout_ms, was, fresh_id, now_ms),
        Request::Add { who, partitions } => transaction.add(who, partitions, now_ms),
        Request::End { who, commit } => transaction.end(who, commit, now_ms),
        Request::Marked => {
            transaction.marked(now_ms);
            Ok(Answer::Done)
        }
        Request::Tick if transaction.idle_for_too_long(now_ms) => return (None, Answer::Done),
        Request::Tick => Ok(transaction.tick(now_ms)),
    };
    (Some(transaction), result.unwrap_or_else(Answer::Refused))
}

fn timeout_is_valid(timeout_ms: i32) -> bool {
    (1..=TRANSACTION_TIMEOUT_MS_MAX).contains(&timeout_ms)
}

impl Transaction {
    fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer_id,
            previous_producer_id: -1,
            epoch: 0,
            previous_epoch: NONE,
            timeout_ms,
            phase: Phase::Empty,
            partitions: BTreeSet::new(),
            started_ms: -1,
            updated_ms: now_ms,
        }
    }

    pub(crate) fn who(&self) -> Who {
        Who { producer_id: self.producer_id, epoch: self.epoch }
    }

    /// May this producer write to this partition now?
    pub(crate) fn admits(&self, who: Who, place: &Place) -> Result<(), ResponseError> {
        self.is_current(who)?;
        let open = self.phase == Phase::Ongoing && self.partitions.contains(place);
        if open { Ok(()) } else { Err(ResponseError::InvalidTxnState) }
    }

    fn is_current(&self, who: Who) -> Result<(), ResponseError> {
        if who.producer_id != self.producer_id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if who.epoch != self.epoch {
            return Err(ResponseError::ProducerFenced);
        }
        Ok(())
    }

    fn init(&mut self, timeout_ms: i32, was: Option<Who>, fresh_id: i64, now_ms: i64) -> Result<Answer, ResponseError> {
        if !timeout_is_valid(timeout_ms) {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        if was.is_some_and(|was| !self.may_have_been(was)) {
            return Err(ResponseError::ProducerFenced);
        }
        match self.phase {
            Phase::Preparing { .. } => return Err(ResponseError::ConcurrentTransactions),
            Phase::Ongoing => {
                self.fence(now_ms);
                return Err(ResponseError::ConcurrentTransactions);
            }
            Phase::Empty | Phase::Complete { .. } => {}
        }
        match was {
            _ if self.epoch >= EPOCH_LAST && was.is_none_or(|was| was.epoch == self.epoch) => {
                self.previous_producer_id = self.producer_id;
                self.previous_epoch = was.map_or(NONE, |was| was.epoch);
                (self.producer_id, self.epoch) = (fresh_id, 0);
            }
            None => (self.previous_epoch, self.epoch) = (NONE, self.epoch + 1),
            Some(was) if was.epoch == self.epoch => (self.previous_epoch, self.epoch) = (self.epoch, self.epoch + 1),
            Some(was) if was.epoch == self.previous_epoch => {} // the answer was lost: it is given again
            Some(_) => return Err(ResponseError::ProducerFenced),
        }
        self.timeout_ms = timeout_ms;
        self.rest(Phase::Empty, now_ms);
        Ok(Answer::Ready(self.who()))
    }

    fn may_have_been(&self, was: Who) -> bool {
        was.producer_id == self.producer_id || (was.producer_id == self.previous_producer_id && was.epoch >= EPOCH_LAST)
    }

    /// Takes the epoch from whoever has it, and the transaction with it.
    fn fence(&mut self, now_ms: i64) {
        self.epoch = self.epoch.saturating_add(1);
        self.previous_epoch = NONE;
        self.phase = Phase::Preparing { commit: false };
        self.updated_ms = now_ms;
    }

    fn add(&mut self, who: Who, partitions: Vec<Place>, now_ms: i64) -> Result<Answer, ResponseError> {
        self.is_current(who)?;
        match self.phase {
            Phase::Preparing { .. } => return Err(ResponseError::ConcurrentTransactions),
            Phase::Ongoing if partitions.iter().all(|place| self.partitions.contains(place)) => {
                return Ok(Answer::Done);
            }
            Phase::Ongoing | Phase::Empty | Phase::Complete { .. } => {}
        }
        let new = partitions.iter().filter(|place| !self.partitions.contains(place)).count();
        if self.partitions.len() + new > TRANSACTION_PARTITIONS_MAX {
            return Err(ResponseError::PolicyViolation);
        }
        if self.phase != Phase::Ongoing {
            self.phase = Phase::Ongoing;
            self.started_ms = now_ms;
        }
        self.partitions.extend(partitions);
        self.updated_ms = now_ms;
        Ok(Answer::Done)
    }

    fn end(&mut self, who: Who, commit: bool, now_ms: i64) -> Result<Answer, ResponseError> {
        self.is_current(who)?;
        match self.phase {
            Phase::Ongoing => {
                self.phase = Phase::Preparing { commit };
                self.updated_ms = now_ms;
                Ok(Answer::Ending)
            }
            Phase::Preparing { commit: decided } if decided == commit => Err(ResponseError::ConcurrentTransactions),
            Phase::Complete { commit: decided } if decided == commit => Ok(Answer::Done),
            Phase::Empty | Phase::Preparing { .. } | Phase::Complete { .. } => Err(ResponseError::InvalidTxnState),
        }
    }

    fn marked(&mut self, now_ms: i64) {
        if let Phase::Preparing { commit } = self.phase {
            self.rest(Phase::Complete { commit }, now_ms);
        }
    }

    fn rest(&mut self, phase: Phase, now_ms: i64) {
        self.phase = phase;
        self.partitions.clear();
        self.started_ms = -1;
        self.updated_ms = now_ms;
    }

    fn tick(&mut self, now_ms: i64) -> Answer {
        if !self.takes_too_long(now_ms) {
            return Answer::Done;
        }
        self.fence(now_ms);
        Answer::Ending
    }

    /// Whether a tick would change anything.
    pub(crate) fn overdue(&self, now_ms: i64) -> bool {
        self.takes_too_long(now_ms) || self.idle_for_too_long(now_ms)
    }

    fn takes_too_long(&self, now_ms: i64) -> bool {
        self.phase == Phase::Ongoing && now_ms.saturating_sub(self.started_ms) > i64::from(self.timeout_ms)
    }

    fn idle_for_too_long(&self, now_ms: i64) -> bool {
        self.idle() && now_ms.saturating_sub(self.updated_ms) > TRANSACTION_IDLE_MAX_MS
    }

    /// Nothing of it is under way.
    pub(crate) fn idle(&self) -> bool {
        matches!(self.phase, Phase::Empty | Phase::Complete { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT_MS: i32 = 60_000;

    fn place(partition: i32) -> Place {
        ("telemetry".to_owned(), partition)
    }

    fn init(was: Option<Who>) -> Request {
        Request::Init { timeout_ms: TIMEOUT_MS, was, fresh_id: 100 }
    }

    fn add(who: Who, partition: i32) -> Request {
        Request::Add { who, partitions: vec![place(partition)] }
    }

    /// A transactional id and what it was answered.
    struct Life(Option<Transaction>);

    impl Life {
        fn begin() -> (Self, Who) {
            let mut life = Life(None);
            let who = life.ready(init(None), 0);
            (life, who)
        }

        fn step(&mut self, request: Request, now_ms: i64) -> Answer {
            let (after, answer) = next(self.0.take(), request, now_ms);
            self.0 = after;
            answer
        }

        fn ready(&mut self, request: Request, now_ms: i64) -> Who {
            match self.step(request, now_ms) {
                Answer::Ready(who) => who,
                other => panic!("{other:?}"),
            }
        }

        fn now(&self) -> &Transaction {
            self.0.as_ref().unwrap()
        }
    }

    fn refused(error: ResponseError) -> Answer {
        Answer::Refused(error)
    }

    // STR-11
    #[test]
    fn a_transaction_is_committed_and_the_next_begins() {
        let (mut life, who) = Life::begin();
        assert_eq!(life.step(add(who, 0), 1), Answer::Done);
        assert_eq!(life.step(add(who, 1), 2), Answer::Done);
        assert_eq!(life.now().admits(who, &place(1)), Ok(()));
        assert_eq!(life.now().admits(who, &place(2)), Err(ResponseError::InvalidTxnState));
        assert_eq!(life.step(Request::End { who, commit: true }, 3), Answer::Ending);
        assert_eq!(life.now().admits(who, &place(1)), Err(ResponseError::InvalidTxnState));
        assert_eq!(life.step(add(who, 2), 4), refused(ResponseError::ConcurrentTransactions));
        assert_eq!(
            life.step(Request::End { who, commit: true }, 4),
            refused(ResponseError::ConcurrentTransactions),
            "a retry has to wait"
        );
        assert_eq!(life.step(Request::End { who, commit: false }, 4), refused(ResponseError::InvalidTxnState));
        assert_eq!(life.step(Request::Marked, 5), Answer::Done);
        assert!(life.now().partitions.is_empty());
        assert_eq!(life.step(Request::End { who, commit: true }, 6), Answer::Done, "and then learns that it is done");
        assert_eq!(life.step(Request::End { who, commit: false }, 6), refused(ResponseError::InvalidTxnState));
        assert_eq!(life.step(add(who, 0), 7), Answer::Done);
        assert_eq!((life.now().phase, life.now().started_ms), (Phase::Ongoing, 7));
    }

    // STR-11, KIP-98: whoever starts under the same transactional id takes over, and the open transaction is aborted
    #[test]
    fn a_successor_fences_its_predecessor() {
        let (mut life, zombie) = Life::begin();
        life.step(add(zombie, 0), 1);
        assert_eq!(life.step(init(None), 2), refused(ResponseError::ConcurrentTransactions));
        assert_eq!(life.now().phase, Phase::Preparing { commit: false });
        assert_eq!(life.step(add(zombie, 1), 3), refused(ResponseError::ProducerFenced));
        assert_eq!(life.step(init(None), 3), refused(ResponseError::ConcurrentTransactions));
        life.step(Request::Marked, 4);
        let successor = life.ready(init(None), 5);
        assert_eq!((successor.producer_id, successor.epoch), (zombie.producer_id, 2));
        for request in [add(zombie, 0), Request::End { who: zombie, commit: true }, init(Some(zombie))] {
            assert_eq!(life.step(request, 6), refused(ResponseError::ProducerFenced));
        }
    }

    // STR-11, KIP-360: after an error a producer asks for a new epoch, and may ask again when the answer got lost
    #[test]
    fn a_producer_bumps_its_own_epoch() {
        let (mut life, first) = Life::begin();
        let second = life.ready(init(Some(first)), 1);
        assert_eq!(second.epoch, 1);
        assert_eq!(life.ready(init(Some(first)), 2), second, "repeated");
        let third = life.ready(init(Some(second)), 3);
        assert_eq!(third.epoch, 2);
        assert_eq!(life.step(init(Some(first)), 4), refused(ResponseError::ProducerFenced));
        let stranger = Who { producer_id: 5, epoch: 2 };
        assert_eq!(life.step(init(Some(stranger)), 4), refused(ResponseError::ProducerFenced));
    }

    #[test]
    fn a_used_up_producer_id_is_replaced() {
        let (mut life, _) = Life::begin();
        life.0.as_mut().unwrap().epoch = EPOCH_LAST;
        let last = life.now().who();
        let request = Request::Init { timeout_ms: TIMEOUT_MS, was: Some(last), fresh_id: 7 };
        let fresh = life.ready(request, 1);
        assert_eq!((fresh.producer_id, fresh.epoch), (7, 0));
        assert_eq!(life.ready(init(Some(last)), 2), fresh, "the answer was lost");
        assert_eq!(life.step(add(last, 0), 3), refused(ResponseError::InvalidProducerIdMapping));
    }

    // STR-11: what takes too long is aborted, and its producer fenced
    #[test]
    fn transactions_time_out() {
        let (mut life, who) = Life::begin();
        life.step(add(who, 0), 1_000);
        let end = 1_000 + i64::from(TIMEOUT_MS);
        assert!(!life.now().overdue(end));
        assert_eq!(life.step(Request::Tick, end), Answer::Done);
        assert!(life.now().overdue(end + 1));
        assert_eq!(life.step(Request::Tick, end + 1), Answer::Ending);
        assert_eq!(life.step(Request::End { who, commit: true }, end + 2), refused(ResponseError::ProducerFenced));
        life.step(Request::Marked, end + 3);
        assert_eq!(life.now().phase, Phase::Complete { commit: false });
        assert_eq!(life.step(Request::Tick, end + 4 + TRANSACTION_IDLE_MAX_MS), Answer::Done);
        assert_eq!(life.0, None, "and what is idle for a week is forgotten");
    }

    #[test]
    fn unknown_ids_and_wrong_timeouts_are_refused() {
        let mut life = Life(None);
        let who = Who { producer_id: 1, epoch: 0 };
        for timeout_ms in [0, -1, TRANSACTION_TIMEOUT_MS_MAX + 1] {
            let request = Request::Init { timeout_ms, was: None, fresh_id: 1 };
            assert_eq!(life.step(request, 0), refused(ResponseError::InvalidTransactionTimeout));
        }
        assert_eq!(life.step(add(who, 0), 0), refused(ResponseError::InvalidProducerIdMapping));
        assert_eq!(life.step(Request::End { who, commit: true }, 0), refused(ResponseError::InvalidProducerIdMapping));
        let many = (0..).take(TRANSACTION_PARTITIONS_MAX + 1).map(place).collect();
        let (mut life, who) = Life::begin();
        assert_eq!(life.step(Request::Add { who, partitions: many }, 0), refused(ResponseError::PolicyViolation));
        assert_eq!(life.step(Request::End { who, commit: true }, 0), refused(ResponseError::InvalidTxnState));
    }

    /// A client acts with an identity it was given at some time, counted back from the newest.
    #[derive(Debug, Clone)]
    enum Step {
        Init,
        Bump { back: usize },
        Add { back: usize, partition: i32 },
        End { back: usize, commit: bool },
        Marked,
        Wait { ms: i64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let back = || prop_oneof![4 => Just(0_usize), 1 => 1..4_usize];
        let step = prop_oneof![
            1 => Just(Step::Init),
            1 => back().prop_map(|back| Step::Bump { back }),
            4 => (back(), 0..3_i32).prop_map(|(back, partition)| Step::Add { back, partition }),
            3 => (back(), any::<bool>()).prop_map(|(back, commit)| Step::End { back, commit }),
            3 => Just(Step::Marked),
            1 => (1..80_000_i64).prop_map(|ms| Step::Wait { ms }),
        ];
        prop::collection::vec(step, 1..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        // STR-11: over any history only the last who was admitted acts, and a decided end stays decided.
        #[test]
        fn histories(steps in steps(), epoch in prop_oneof![Just(0_i16), Just(EPOCH_LAST - 2)]) {
            let (mut life, who) = Life::begin();
            life.0.as_mut().unwrap().epoch = epoch;
            let mut given = vec![Who { epoch, ..who }];
            let (mut now_ms, mut fresh_id) = (0, 1_000);
            for step in steps {
                let before = life.now().clone();
                fresh_id += 1;
                let acting = |back: usize| given[given.len().saturating_sub(1 + back)];
                let (request, actor) = match step {
                    Step::Init => (Request::Init { timeout_ms: TIMEOUT_MS, was: None, fresh_id }, None),
                    Step::Bump { back } => {
                        let was = Some(acting(back));
                        (Request::Init { timeout_ms: TIMEOUT_MS, was, fresh_id }, None)
                    }
                    Step::Add { back, partition } => (add(acting(back), partition), Some(acting(back))),
                    Step::End { back, commit } => {
                        (Request::End { who: acting(back), commit }, Some(acting(back)))
                    }
                    Step::Marked => (Request::Marked, None),
                    Step::Wait { ms } => {
                        now_ms += ms;
                        (Request::Tick, None)
                    }
                };
                let marks = matches!(request, Request::Marked);
                let answer = life.step(request, now_ms);
                let after = life.now().clone();

                if let Some(actor) = actor {
                    let accepted = !matches!(answer, Answer::Refused(_));
                    prop_assert!(!accepted || actor == before.who(), "{actor:?} acted as {:?}", before.who());
                }
                if after.producer_id == before.producer_id {
                    prop_assert!(after.epoch >= before.epoch);
                } else {
                    prop_assert!(after.epoch == 0 && before.epoch >= EPOCH_LAST);
                }
                match (before.phase, after.phase) {
                    (Phase::Preparing { commit }, Phase::Complete { commit: done }) => {
                        prop_assert!(marks && commit == done);
                    }
                    (Phase::Preparing { .. }, _) => prop_assert_eq!(&after, &before),
                    (_, Phase::Preparing { .. }) => prop_assert_eq!(&after.partitions, &before.partitions),
                    _ => {}
                }
                prop_assert_eq!(after.partitions.is_empty(), after.idle());
                prop_assert_eq!(after.started_ms >= 0, !after.idle());
                if let Answer::Ready(who) = answer {
                    prop_assert_eq!(who, after.who());
                    given.push(who);
                }
            }
        }
    }
}
