//! The classic group protocol as a pure function: `next(group, input, now)`.
//!
//! Invariants: one generation number is never used for two different sets of assignments; a request of an older
//! generation, of an unknown member or of a static member that was replaced is refused; each token is answered once;
//! what a restart must not forget (shares handed out, a static member's new id, an emptied group) asks to be saved.
//! Look next at `joining.rs` and `syncing.rs` for the two halves of a rebalance, and at `groups.rs` for who owns groups
//! and carries the answers out.

use kafka_protocol::error::ResponseError;

use super::group::{Action, Answer, Group, Identity, Input, Next, Phase, Token};
use crate::coordinator::Millis;

/// One step of a group's life.
pub(crate) fn next(group: Group, input: Input, now: Millis) -> Next {
    let mut step = Step { group, now, actions: Vec::new(), save: false };
    match input {
        Input::Join(join) => step.join(join),
        Input::Sync(sync) => step.sync(sync),
        Input::Heartbeat { token, who, generation } => {
            let result = step.heartbeat(&who, generation);
            step.answer(token, Answer::Done(result));
        }
        Input::Leave { token, who } => step.leave(token, &who),
        Input::Commit { token, who, generation } => {
            let result = step.commit(&who, generation);
            step.answer(token, Answer::Done(result));
        }
        Input::Tick => step.tick(),
    }
    Next { group: step.group, actions: step.actions, save: step.save }
}

pub(super) struct Step {
    pub(super) group: Group,
    pub(super) now: Millis,
    pub(super) actions: Vec<Action>,
    pub(super) save: bool,
}

impl Step {
    pub(super) fn answer(&mut self, token: Token, answer: Answer) {
        self.actions.push(Action { token, answer });
    }

    // === staying and leaving ===

    fn heartbeat(&mut self, who: &Identity, generation: i32) -> Result<(), ResponseError> {
        self.known(who)?;
        self.current(generation)?;
        self.hear(&who.member_id);
        match self.group.phase {
            Phase::Preparing { .. } => Err(ResponseError::RebalanceInProgress),
            Phase::Empty => Err(ResponseError::UnknownMemberId),
            Phase::Completing | Phase::Stable => Ok(()),
        }
    }

    fn commit(&mut self, who: &Identity, generation: i32) -> Result<(), ResponseError> {
        let outside = generation < 0 && who.member_id.is_empty() && who.instance_id.is_none();
        if generation < 0 && (outside || self.group.phase == Phase::Empty) {
            // a consumer that assigns its partitions itself, or an operator resetting offsets of a stopped group
            return if self.group.members.is_empty() { Ok(()) } else { Err(ResponseError::UnknownMemberId) };
        }
        self.known(who)?;
        self.current(generation)?;
        self.hear(&who.member_id);
        match self.group.phase {
            Phase::Completing => Err(ResponseError::RebalanceInProgress),
            Phase::Empty => Err(ResponseError::UnknownMemberId),
            Phase::Preparing { .. } | Phase::Stable => Ok(()),
        }
    }

    fn leave(&mut self, token: Token, who: &[Identity]) {
        let results = who.iter().map(|who| self.leave_one(who)).collect();
        self.answer(token, Answer::Left(results));
        self.after_removal();
    }

    fn leave_one(&mut self, who: &Identity) -> Result<(), ResponseError> {
        if self.group.promised.remove(&who.member_id).is_some() {
            return Ok(());
        }
        let by_instance = who.instance_id.as_ref().and_then(|instance| self.group.instances.get(instance));
        let id = if who.member_id.is_empty() {
            by_instance.cloned().ok_or(ResponseError::UnknownMemberId)?
        } else {
            self.known(who)?;
            who.member_id.clone()
        };
        self.remove(&id);
        Ok(())
    }

    /// Takes a member out and refuses what it waits for.
    pub(super) fn remove(&mut self, id: &str) {
        let Some(member) = self.group.members.remove(id) else { return };
        if let Some(instance) = &member.instance_id {
            self.group.instances.remove(instance);
        }
        if self.group.leader.as_deref() == Some(id) {
            self.group.leader = None;
        }
        let error = ResponseError::UnknownMemberId;
        if let Some(token) = member.joining {
            self.answer(token, Answer::NotJoined { error, member_id: id.to_owned() });
        }
        if let Some(token) = member.syncing {
            self.answer(token, Answer::NotSynced(error));
        }
    }

    fn after_removal(&mut self) {
        let empty = self.group.members.is_empty();
        match self.group.phase {
            Phase::Empty => {}
            Phase::Preparing { .. } => {
                if empty && self.group.promised.is_empty() {
                    self.become_empty();
                } else {
                    self.finish_joining();
                }
            }
            Phase::Completing | Phase::Stable if empty => self.become_empty(),
            Phase::Completing | Phase::Stable => {
                self.rebalance();
                self.finish_joining();
            }
        }
    }

    /// The number goes up all the same: a member of before must not find its generation in force again.
    pub(super) fn become_empty(&mut self) {
        self.group.phase = Phase::Empty;
        self.group.generation = self.group.generation.checked_add(1).unwrap_or(1);
        self.group.protocol = None;
        self.group.leader = None;
        self.save = true;
    }

    // === time ===

    fn tick(&mut self) {
        let now = self.now;
        self.group.promised.retain(|_, until| *until > now);
        let silent = self.group.members.iter().filter(|(_, member)| {
            let unsynced = member.syncing.is_none() && member.sync_due.is_some_and(|due| due <= now);
            unsynced || (!member.waits() && member.session_ends <= now)
        });
        let gone: Vec<String> = silent.map(|(id, _)| id.clone()).collect();
        if gone.is_empty() {
            return self.finish_joining();
        }
        for id in gone {
            self.remove(&id);
        }
        self.after_removal();
    }

    // === checks ===

    pub(super) fn known(&self, who: &Identity) -> Result<(), ResponseError> {
        if let Some(instance) = &who.instance_id {
            match self.group.instances.get(instance) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(current) if *current != who.member_id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.group.members.contains_key(&who.member_id) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    pub(super) fn current(&self, generation: i32) -> Result<(), ResponseError> {
        if generation == self.group.generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    fn hear(&mut self, id: &str) {
        let now = self.now;
        if let Some(member) = self.group.members.get_mut(id) {
            member.session_ends = now + member.session_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::super::group::{Join, Joined, SESSION_MS_MAX, SESSION_MS_MIN, Sync};
    use super::*;

    /// A group with its own clock, tokens and answers.
    #[derive(Default)]
    struct Sim {
        group: Group,
        now: Millis,
        token: Token,
        answers: BTreeMap<Token, Answer>,
        /// Something asked to be on disk before its answers go out.
        saved: bool,
    }

    impl Sim {
        fn step(&mut self, input: impl FnOnce(Token) -> Input) -> Token {
            self.token += 1;
            let Next { group, actions, save } = next(std::mem::take(&mut self.group), input(self.token), self.now);
            self.group = group;
            self.saved |= save;
            for Action { token, answer } in actions {
                assert!(self.answers.insert(token, answer).is_none(), "token {token} was answered twice");
            }
            self.token
        }

        fn join(&mut self, id: &str, fresh: &str, instance: Option<&str>, protocols: &[&str]) -> Token {
            self.step(|token| {
                Input::Join(Join {
                    token,
                    member_id: id.to_owned(),
                    instance_id: instance.map(str::to_owned),
                    client_id: "client".to_owned(),
                    client_host: "/127.0.0.1".to_owned(),
                    session_ms: 10_000,
                    rebalance_ms: 30_000,
                    protocol_type: "consumer".to_owned(),
                    protocols: protocols.iter().map(|name| ((*name).to_owned(), Bytes::from_static(b"m"))).collect(),
                    fresh_id: fresh.to_owned(),
                    two_steps: false,
                    skips_assignment: false,
                    initial_delay_ms: 100,
                })
            })
        }

        fn sync(&mut self, id: &str, generation: i32, assignments: &[(&str, &'static str)]) -> Token {
            self.step(|token| {
                Input::Sync(Sync {
                    token,
                    member_id: id.to_owned(),
                    instance_id: None,
                    generation,
                    protocol_type: None,
                    protocol: None,
                    assignments: assignments
                        .iter()
                        .map(|(id, what)| ((*id).to_owned(), Bytes::from_static(what.as_bytes())))
                        .collect(),
                })
            })
        }

        fn heartbeat(&mut self, id: &str, generation: i32) -> Result<(), ResponseError> {
            let who = Identity { member_id: id.to_owned(), instance_id: None };
            let token = self.step(|token| Input::Heartbeat { token, who, generation });
            self.done(token)
        }

        fn commit(&mut self, id: &str, instance: Option<&str>, generation: i32) -> Result<(), ResponseError> {
            let who = Identity { member_id: id.to_owned(), instance_id: instance.map(str::to_owned) };
            let token = self.step(|token| Input::Commit { token, who, generation });
            self.done(token)
        }

        fn done(&mut self, token: Token) -> Result<(), ResponseError> {
            match self.answers.remove(&token) {
                Some(Answer::Done(result)) => result,
                other => panic!("{other:?}"),
            }
        }

        fn pass(&mut self, millis: Millis) {
            self.now += millis;
            self.step(|_| Input::Tick);
        }

        fn joined(&mut self, token: Token) -> Joined {
            match self.answers.remove(&token) {
                Some(Answer::Joined(joined)) => joined,
                other => panic!("{other:?}"),
            }
        }

        fn refused(&mut self, token: Token) -> ResponseError {
            match self.answers.remove(&token) {
                Some(Answer::NotJoined { error, .. } | Answer::NotSynced(error)) => error,
                other => panic!("{other:?}"),
            }
        }

        fn assignment(&mut self, token: Token) -> Bytes {
            match self.answers.remove(&token) {
                Some(Answer::Synced(synced)) => synced.assignment,
                other => panic!("{other:?}"),
            }
        }

        /// Two members, `a` leading, in generation 1, stable.
        fn pair() -> Self {
            let mut sim = Self::default();
            let (a, b) = (sim.join("", "a", None, &["range"]), sim.join("", "b", None, &["range"]));
            assert!(sim.answers.is_empty(), "both wait for more members");
            sim.pass(100);
            let (first, second) = (sim.joined(a), sim.joined(b));
            assert_eq!((first.generation, second.generation), (1, 1));
            assert_eq!((first.leader.as_str(), first.members.len(), second.members.len()), ("a", 2, 0));
            let b = sim.sync("b", 1, &[]);
            assert!(sim.answers.is_empty(), "the leader has not spoken");
            let a = sim.sync("a", 1, &[("a", "0-2"), ("b", "3-5")]);
            assert_eq!((sim.assignment(a), sim.assignment(b)), (Bytes::from("0-2"), Bytes::from("3-5")));
            assert_eq!(sim.group.phase, Phase::Stable);
            sim
        }
    }

    #[test]
    fn two_members_share_a_group() {
        let mut sim = Sim::pair();
        assert_eq!(sim.heartbeat("a", 1), Ok(()));
        assert_eq!(sim.heartbeat("b", 1), Ok(()));
        let again = sim.sync("b", 1, &[]);
        assert_eq!(sim.assignment(again), Bytes::from("3-5"), "a repeated request has the same answer");
    }

    // F22: generation fencing
    #[test]
    fn who_is_late_or_unknown_is_refused() {
        let mut sim = Sim::pair();
        assert_eq!(sim.heartbeat("b", 0), Err(ResponseError::IllegalGeneration));
        assert_eq!(sim.heartbeat("z", 1), Err(ResponseError::UnknownMemberId));
        assert_eq!(sim.commit("b", None, 0), Err(ResponseError::IllegalGeneration));
        assert_eq!(sim.commit("", None, -1), Err(ResponseError::UnknownMemberId), "from outside of a group that lives");
        assert_eq!(sim.commit("b", None, 1), Ok(()));
        let late = sim.sync("b", 0, &[]);
        assert_eq!(sim.refused(late), ResponseError::IllegalGeneration);
        assert_eq!(Sim::default().commit("", None, -1), Ok(()));
    }

    #[test]
    fn a_third_member_starts_a_rebalance() {
        let mut sim = Sim::pair();
        let c = sim.join("", "c", None, &["range"]);
        assert_eq!(sim.heartbeat("a", 1), Err(ResponseError::RebalanceInProgress));
        assert_eq!(sim.commit("a", None, 1), Ok(()), "what was read may still be committed");
        let a = sim.join("a", "", None, &["range"]);
        assert!(!sim.answers.contains_key(&a));
        let b = sim.join("b", "", None, &["range"]);
        for token in [a, b, c] {
            assert_eq!(sim.joined(token).generation, 2);
        }
        assert_eq!(sim.commit("a", None, 2), Err(ResponseError::RebalanceInProgress), "not before the assignment");
    }

    #[test]
    fn a_member_that_does_not_rejoin_is_left_behind() {
        let mut sim = Sim::pair();
        let c = sim.join("", "c", None, &["range"]);
        let a = sim.join("a", "", None, &["range"]);
        sim.pass(9_000);
        assert_eq!(sim.heartbeat("b", 1), Err(ResponseError::RebalanceInProgress));
        sim.pass(9_000);
        assert_eq!(sim.heartbeat("b", 1), Err(ResponseError::RebalanceInProgress));
        sim.pass(9_000);
        assert_eq!(sim.heartbeat("b", 1), Err(ResponseError::RebalanceInProgress));
        sim.pass(3_000);
        assert_eq!((sim.joined(a).generation, sim.joined(c).generation), (2, 2));
        assert_eq!(sim.heartbeat("b", 2), Err(ResponseError::UnknownMemberId));
    }

    #[test]
    fn silence_ends_a_session_and_the_rest_is_asked_to_rejoin() {
        let mut sim = Sim::pair();
        sim.pass(6_000);
        assert_eq!(sim.heartbeat("a", 1), Ok(()));
        sim.pass(5_000);
        assert_eq!(sim.heartbeat("a", 1), Err(ResponseError::RebalanceInProgress));
        let a = sim.join("a", "", None, &["range"]);
        let joined = sim.joined(a);
        assert_eq!((joined.generation, joined.members.len()), (2, 1));
    }

    #[test]
    fn a_leader_that_never_assigns_is_given_up() {
        let mut sim = Sim::default();
        let (a, b) = (sim.join("", "a", None, &["range"]), sim.join("", "b", None, &["range"]));
        sim.pass(100);
        sim.joined(a);
        sim.joined(b);
        let b = sim.sync("b", 1, &[]);
        sim.pass(11_000);
        assert_eq!(sim.refused(b), ResponseError::RebalanceInProgress);
        let b = sim.join("b", "", None, &["range"]);
        assert_eq!(sim.joined(b).leader, "b");
    }

    #[test]
    fn leaving_is_at_once_and_the_last_empties_the_group() {
        let mut sim = Sim::pair();
        let leave = |sim: &mut Sim, id: &str| {
            let who = vec![Identity { member_id: id.to_owned(), instance_id: None }];
            let token = sim.step(|token| Input::Leave { token, who });
            sim.answers.remove(&token)
        };
        assert_eq!(leave(&mut sim, "b"), Some(Answer::Left(vec![Ok(())])));
        assert_eq!(leave(&mut sim, "b"), Some(Answer::Left(vec![Err(ResponseError::UnknownMemberId)])));
        assert_eq!(sim.heartbeat("a", 1), Err(ResponseError::RebalanceInProgress));
        assert_eq!(leave(&mut sim, "a"), Some(Answer::Left(vec![Ok(())])));
        assert_eq!(sim.group.phase, Phase::Empty);
        assert_eq!(sim.commit("", None, -1), Ok(()));
        assert!(sim.group.generation > 1, "an old member's generation does not come back");
    }

    #[test]
    fn members_must_have_a_protocol_in_common_and_most_votes_decide() {
        let mut sim = Sim::default();
        let a = sim.join("", "a", None, &["range", "sticky"]);
        let b = sim.join("", "b", None, &["sticky", "range"]);
        let c = sim.join("", "c", None, &["sticky"]);
        let d = sim.join("", "d", None, &["other"]);
        assert_eq!(sim.refused(d), ResponseError::InconsistentGroupProtocol);
        sim.pass(300);
        for token in [a, b, c] {
            assert_eq!(sim.joined(token).protocol.as_deref(), Some("sticky"));
        }
    }

    #[test]
    fn a_member_without_id_is_told_one_first_and_a_promise_lapses() {
        let mut sim = Sim::default();
        let two_steps = |sim: &mut Sim, id: &str, fresh: &str| {
            sim.step(|token| {
                Input::Join(Join {
                    token,
                    member_id: id.to_owned(),
                    instance_id: None,
                    client_id: String::new(),
                    client_host: String::new(),
                    session_ms: 10_000,
                    rebalance_ms: 30_000,
                    protocol_type: "consumer".to_owned(),
                    protocols: vec![("range".to_owned(), Bytes::new())],
                    fresh_id: fresh.to_owned(),
                    two_steps: true,
                    skips_assignment: false,
                    initial_delay_ms: 100,
                })
            })
        };
        let first = two_steps(&mut sim, "", "a");
        let expected = Answer::NotJoined { error: ResponseError::MemberIdRequired, member_id: "a".to_owned() };
        assert_eq!(sim.answers.remove(&first), Some(expected));
        let second = two_steps(&mut sim, "a", "unused");
        sim.pass(100);
        assert_eq!(sim.joined(second).member_id, "a");
        two_steps(&mut sim, "", "never");
        sim.answers.clear();
        sim.pass(10_000);
        assert!(sim.group.promised.is_empty());
        let stranger = two_steps(&mut sim, "never", "unused");
        assert_eq!(sim.refused(stranger), ResponseError::UnknownMemberId);
    }

    #[test]
    fn a_static_member_comes_back_without_a_rebalance_and_its_double_is_fenced() {
        let mut sim = Sim::default();
        let a = sim.join("", "a", None, &["range"]);
        let s = sim.join("", "s1", Some("static"), &["range"]);
        sim.pass(200);
        assert_eq!(sim.joined(a).leader, "a");
        sim.joined(s);
        let (a, s) = (sim.sync("a", 1, &[("a", "0"), ("s1", "1")]), 0);
        assert_eq!((sim.assignment(a), s), (Bytes::from("0"), 0));
        let back = sim.join("", "s2", Some("static"), &["range"]);
        let joined = sim.joined(back);
        assert_eq!((joined.generation, joined.member_id.as_str()), (1, "s2"));
        let share = sim.sync("s2", 1, &[]);
        assert_eq!(sim.assignment(share), Bytes::from("1"), "the share it had before");
        assert_eq!(sim.commit("s1", Some("static"), 1), Err(ResponseError::FencedInstanceId));
        assert_eq!(sim.commit("s2", Some("static"), 1), Ok(()));
        assert_eq!(sim.heartbeat("a", 1), Ok(()));
    }

    #[test]
    fn sessions_outside_of_the_limits_are_refused() {
        let mut sim = Sim::default();
        for session_ms in [0, SESSION_MS_MIN - 1, SESSION_MS_MAX + 1] {
            let token = sim.step(|token| {
                Input::Join(Join {
                    token,
                    member_id: String::new(),
                    instance_id: None,
                    client_id: String::new(),
                    client_host: String::new(),
                    session_ms,
                    rebalance_ms: -1,
                    protocol_type: "consumer".to_owned(),
                    protocols: vec![("range".to_owned(), Bytes::new())],
                    fresh_id: "x".to_owned(),
                    two_steps: false,
                    skips_assignment: false,
                    initial_delay_ms: 0,
                })
            });
            assert_eq!(sim.refused(token), ResponseError::InvalidSessionTimeout);
        }
    }

    /// Any order of events: tokens are answered at most once (checked by the sim), and in the stable phase everybody
    /// has what the leader of this very generation handed out.
    #[test]
    fn no_order_of_events_breaks_the_invariants() {
        let ids = ["a", "b", "c"];
        for seed in 0..400_u64 {
            let mut random = seed;
            let mut sim = Sim::default();
            let mut draw = |below: u64| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % below
            };
            let mut newest = 0;
            for _ in 0..200 {
                let id = ids[usize::try_from(draw(3)).unwrap()];
                let member = if sim.group.members.contains_key(id) { id } else { "" };
                let generation = sim.group.generation;
                match draw(6) {
                    0 | 1 => {
                        sim.join(member, id, None, &["range"]);
                    }
                    2 => {
                        sim.sync(id, generation, &[("a", "x"), ("b", "y"), ("c", "z")]);
                    }
                    3 => drop(sim.heartbeat(id, generation)),
                    4 => {
                        let who = vec![Identity { member_id: id.to_owned(), instance_id: None }];
                        sim.step(|token| Input::Leave { token, who });
                    }
                    _ => sim.pass(i64::try_from(draw(8_000)).unwrap()),
                }
                assert!(sim.group.generation >= newest, "seed {seed}");
                newest = sim.group.generation;
                let leader = sim.group.leader.clone();
                if !matches!(sim.group.phase, Phase::Empty | Phase::Preparing { .. }) {
                    assert!(leader.is_some_and(|id| sim.group.members.contains_key(&id)), "seed {seed}");
                }
                if matches!(sim.group.phase, Phase::Empty) {
                    assert!(sim.group.members.is_empty(), "seed {seed}");
                }
                if matches!(sim.group.phase, Phase::Stable) {
                    assert!(sim.group.members.values().all(|member| !member.waits()), "seed {seed}");
                }
            }
            // time alone empties every group
            for _ in 0..10 {
                sim.pass(60_000);
            }
            assert!(sim.group.members.is_empty(), "seed {seed}: {:?}", sim.group);
        }
    }
}
