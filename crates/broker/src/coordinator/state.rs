//! The classic consumer group protocol as a pure function: `next(group, input, now) -> (group, actions)`.
//!
//! Invariants: one generation number is never used for two different sets of assignments; a request of an older
//! generation, of an unknown member or of a static member that was replaced is refused; each token is answered once.
//! Look next at `group.rs` for the nouns and at `mod.rs` for who owns groups and carries the answers out.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::group::{
    Action, Answer, Group, Identity, Input, Join, Joined, MEMBERS_MAX, Member, Millis, Phase, REBALANCE_MS_MAX,
    SESSION_MS_MAX, SESSION_MS_MIN, Sync, Synced, Token,
};

/// One step of a group's life.
pub(crate) fn next(group: Group, input: Input, now: Millis) -> (Group, Vec<Action>) {
    let mut step = Step { group, now, actions: Vec::new() };
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
    (step.group, step.actions)
}

struct Step {
    group: Group,
    now: Millis,
    actions: Vec<Action>,
}

impl Step {
    fn answer(&mut self, token: Token, answer: Answer) {
        self.actions.push(Action { token, answer });
    }

    // === joining ===

    fn join(&mut self, join: Join) {
        match self.admit(&join) {
            Err(error) => {
                let Join { token, member_id, .. } = join;
                self.answer(token, Answer::NotJoined { error, member_id });
            }
            Ok(Admission::Promise) => {
                let until = self.now + i64::from(join.session_ms);
                self.group.promised.insert(join.fresh_id.clone(), until);
                let error = ResponseError::MemberIdRequired;
                self.answer(join.token, Answer::NotJoined { error, member_id: join.fresh_id });
            }
            Ok(Admission::New(id)) => self.add(id, join),
            Ok(Admission::Replace { old, new }) => self.replace(&old, new, join),
            Ok(Admission::Again) => self.join_again(join),
        }
    }

    fn admit(&self, join: &Join) -> Result<Admission, ResponseError> {
        if !(SESSION_MS_MIN..=SESSION_MS_MAX).contains(&join.session_ms) {
            return Err(ResponseError::InvalidSessionTimeout);
        }
        if join.protocols.is_empty() || join.protocol_type.is_empty() || !self.speaks_common(join) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        let full = self.group.members.len() + self.group.promised.len() >= MEMBERS_MAX;
        let replaced = join.instance_id.as_ref().and_then(|instance| self.group.instances.get(instance));
        if !join.member_id.is_empty() {
            if self.group.promised.contains_key(&join.member_id) {
                return Ok(Admission::New(join.member_id.clone()));
            }
            self.known(&Identity { member_id: join.member_id.clone(), instance_id: join.instance_id.clone() })?;
            return Ok(Admission::Again);
        }
        if let Some(old) = replaced {
            return Ok(Admission::Replace { old: old.clone(), new: join.fresh_id.clone() });
        }
        if full {
            return Err(ResponseError::GroupMaxSizeReached);
        }
        if join.two_steps && join.instance_id.is_none() {
            return Ok(Admission::Promise);
        }
        Ok(Admission::New(join.fresh_id.clone()))
    }

    /// All members, the new one included, must have one protocol in common.
    fn speaks_common(&self, join: &Join) -> bool {
        let others: Vec<&Member> =
            self.group.members.iter().filter(|(id, _)| **id != join.member_id).map(|(_, member)| member).collect();
        if others.is_empty() {
            return true;
        }
        let same_type = self.group.protocol_type.as_deref().is_none_or(|kind| kind == join.protocol_type);
        let offered_by_all = |name: &String| others.iter().all(|member| offers(member, name));
        same_type && join.protocols.iter().any(|(name, _)| offered_by_all(name))
    }

    fn add(&mut self, id: String, join: Join) {
        self.group.promised.remove(&id);
        if let Some(instance) = &join.instance_id {
            self.group.instances.insert(instance.clone(), id.clone());
        }
        if self.group.members.is_empty() {
            self.group.protocol_type = Some(join.protocol_type.clone());
        }
        let delay = join.initial_delay_ms;
        let was_empty = matches!(self.group.phase, Phase::Empty);
        let session_ms = i64::from(join.session_ms);
        let member = Member {
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_ms,
            rebalance_ms: rebalance_ms(join.rebalance_ms, join.session_ms),
            protocols: join.protocols,
            assignment: Bytes::new(),
            session_ends: self.now + session_ms,
            joining: Some(join.token),
            syncing: None,
        };
        let patience = member.rebalance_ms;
        self.group.members.insert(id, member);
        if was_empty {
            let latest = self.now + patience;
            self.group.phase = Phase::Preparing { deadline: (self.now + delay).min(latest), initial: true, latest };
        } else if let Phase::Preparing { deadline, initial: true, latest } = self.group.phase {
            let deadline = deadline.max(self.now + delay).min(latest);
            self.group.phase = Phase::Preparing { deadline, initial: true, latest };
        } else {
            self.rebalance();
        }
        self.finish_joining();
    }

    /// A static member came back under a new member id; the old one is fenced.
    fn replace(&mut self, old: &str, new: String, join: Join) {
        let Some(mut member) = self.group.members.remove(old) else { return self.add(new, join) };
        let fenced = ResponseError::FencedInstanceId;
        if let Some(token) = member.joining.take() {
            self.answer(token, Answer::NotJoined { error: fenced, member_id: old.to_owned() });
        }
        if let Some(token) = member.syncing.take() {
            self.answer(token, Answer::NotSynced(fenced));
        }
        let led = self.group.leader.as_deref() == Some(old);
        if led {
            self.group.leader = Some(new.clone());
        }
        if let Some(instance) = &join.instance_id {
            self.group.instances.insert(instance.clone(), new.clone());
        }
        self.group.members.insert(new.clone(), member);
        self.join_again(Join { member_id: new, ..join });
    }

    fn join_again(&mut self, join: Join) {
        let led = self.group.leader.as_deref() == Some(join.member_id.as_str());
        let now = self.now;
        let Some(member) = self.group.members.get_mut(&join.member_id) else { return };
        let changed = member.protocols != join.protocols;
        member.protocols = join.protocols;
        member.client_id = join.client_id;
        member.client_host = join.client_host;
        member.session_ms = i64::from(join.session_ms);
        member.rebalance_ms = rebalance_ms(join.rebalance_ms, join.session_ms);
        member.session_ends = now + member.session_ms;
        // a leader that joins a stable group again asks for a new assignment, a follower repeats a lost request
        let repeated = match self.group.phase {
            Phase::Stable => !changed && !led,
            Phase::Completing { .. } => !changed,
            Phase::Empty | Phase::Preparing { .. } => false,
        };
        if repeated {
            let answer = self.joined(&join.member_id);
            self.answer(join.token, Answer::Joined(answer));
            return;
        }
        if let Some(older) = member.joining.replace(join.token) {
            let error = ResponseError::RebalanceInProgress;
            self.answer(older, Answer::NotJoined { error, member_id: join.member_id });
        }
        if !matches!(self.group.phase, Phase::Preparing { .. }) {
            self.rebalance();
        }
        self.finish_joining();
    }

    /// Asks everybody to join again.
    fn rebalance(&mut self) {
        let mut interrupted = Vec::new();
        for member in self.group.members.values_mut() {
            interrupted.extend(member.syncing.take());
        }
        for token in interrupted {
            self.answer(token, Answer::NotSynced(ResponseError::RebalanceInProgress));
        }
        if !matches!(self.group.phase, Phase::Preparing { .. }) {
            let deadline = self.now + self.patience();
            self.group.phase = Phase::Preparing { deadline, initial: false, latest: deadline };
        }
    }

    fn patience(&self) -> Millis {
        self.group.members.values().map(|member| member.rebalance_ms).max().unwrap_or_default()
    }

    /// Ends the joining when all are there or time is up.
    fn finish_joining(&mut self) {
        let Phase::Preparing { deadline, initial, .. } = self.group.phase else { return };
        let all = self.group.members.values().all(|member| member.joining.is_some());
        let over = self.now >= deadline;
        if !(over || (all && !initial && self.group.promised.is_empty())) {
            return;
        }
        let gone: Vec<String> =
            self.group.members.iter().filter(|(_, member)| lost(member)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.remove(&id);
        }
        self.group.generation = self.group.generation.checked_add(1).unwrap_or(1);
        if self.group.members.is_empty() {
            self.group.phase = Phase::Empty;
            self.group.protocol = None;
            self.group.leader = None;
            return;
        }
        self.group.protocol = self.elect_protocol();
        let present = |id: &String| self.group.members.get(id).is_some_and(|member| member.joining.is_some());
        if !self.group.leader.as_ref().is_some_and(present) {
            let first = self.group.members.iter().find(|(_, member)| member.joining.is_some());
            self.group.leader = first.map(|(id, _)| id.clone());
        }
        if self.group.leader.is_none() {
            // only static members that are away: wait for one of them, or for their sessions to end
            let deadline = self.now + self.patience();
            self.group.phase = Phase::Preparing { deadline, initial: false, latest: deadline };
            return;
        }
        self.group.phase = Phase::Completing { deadline: self.now + self.patience() };
        let ids: Vec<String> = self.group.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id);
            let now = self.now;
            let Some(member) = self.group.members.get_mut(&id) else { continue };
            member.assignment = Bytes::new();
            if let Some(token) = member.joining.take() {
                member.session_ends = now + member.session_ms;
                self.answer(token, Answer::Joined(answer));
            }
        }
    }

    /// The protocol that all offer and most prefer.
    fn elect_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.group.members.values() {
            let common = |name: &&String| self.group.members.values().all(|other| offers(other, name));
            if let Some(name) = member.protocols.iter().map(|(name, _)| name).find(common) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    fn joined(&self, id: &str) -> Joined {
        let group = &self.group;
        let leader = group.leader.clone().unwrap_or_default();
        let protocol = group.protocol.clone().unwrap_or_default();
        let mut members = Vec::new();
        if leader == id {
            for (id, member) in &group.members {
                members.push((id.clone(), member.instance_id.clone(), member.metadata(&protocol)));
            }
        }
        Joined {
            generation: group.generation,
            protocol_type: group.protocol_type.clone(),
            protocol: group.protocol.clone(),
            leader,
            member_id: id.to_owned(),
            members,
        }
    }

    // === synchronising ===

    fn sync(&mut self, sync: Sync) {
        if let Err(error) = self.may_sync(&sync) {
            return self.answer(sync.token, Answer::NotSynced(error));
        }
        let now = self.now;
        let Some(member) = self.group.members.get_mut(&sync.member_id) else { return };
        member.session_ends = now + member.session_ms;
        if self.group.phase == Phase::Stable {
            let answer = self.synced(&sync.member_id);
            return self.answer(sync.token, answer);
        }
        if let Some(older) = member.syncing.replace(sync.token) {
            self.answer(older, Answer::NotSynced(ResponseError::RebalanceInProgress));
        }
        if self.group.leader.as_deref() != Some(sync.member_id.as_str()) {
            return;
        }
        for (id, assignment) in sync.assignments {
            if let Some(member) = self.group.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        self.group.phase = Phase::Stable;
        let ids: Vec<String> = self.group.members.keys().cloned().collect();
        for id in ids {
            let answer = self.synced(&id);
            let Some(member) = self.group.members.get_mut(&id) else { continue };
            if let Some(token) = member.syncing.take() {
                member.session_ends = now + member.session_ms;
                self.answer(token, answer);
            }
        }
    }

    fn may_sync(&self, sync: &Sync) -> Result<(), ResponseError> {
        self.known(&Identity { member_id: sync.member_id.clone(), instance_id: sync.instance_id.clone() })?;
        self.current(sync.generation)?;
        let differs = |ours: &Option<String>, theirs: &Option<String>| theirs.is_some() && ours != theirs;
        if differs(&self.group.protocol_type, &sync.protocol_type) || differs(&self.group.protocol, &sync.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match self.group.phase {
            Phase::Empty => Err(ResponseError::UnknownMemberId),
            Phase::Preparing { .. } => Err(ResponseError::RebalanceInProgress),
            Phase::Completing { .. } | Phase::Stable => Ok(()),
        }
    }

    fn synced(&self, id: &str) -> Answer {
        let assignment = self.group.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default();
        let (protocol_type, protocol) = (self.group.protocol_type.clone(), self.group.protocol.clone());
        Answer::Synced(Synced { protocol_type, protocol, assignment })
    }

    // === staying and leaving ===

    fn heartbeat(&mut self, who: &Identity, generation: i32) -> Result<(), ResponseError> {
        self.known(who)?;
        self.current(generation)?;
        self.hear(&who.member_id);
        match self.group.phase {
            Phase::Preparing { .. } => Err(ResponseError::RebalanceInProgress),
            Phase::Empty => Err(ResponseError::UnknownMemberId),
            Phase::Completing { .. } | Phase::Stable => Ok(()),
        }
    }

    fn commit(&mut self, who: &Identity, generation: i32) -> Result<(), ResponseError> {
        if generation < 0 && who.member_id.is_empty() && who.instance_id.is_none() {
            // a consumer that assigns its partitions itself, or an operator resetting offsets of a stopped group
            return if self.group.members.is_empty() { Ok(()) } else { Err(ResponseError::UnknownMemberId) };
        }
        self.known(who)?;
        self.current(generation)?;
        self.hear(&who.member_id);
        match self.group.phase {
            Phase::Completing { .. } => Err(ResponseError::RebalanceInProgress),
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
    fn remove(&mut self, id: &str) {
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
        let assigned: usize = self.group.members.len();
        match self.group.phase {
            Phase::Empty => {}
            Phase::Preparing { .. } => {
                if assigned == 0 && self.group.promised.is_empty() {
                    self.become_empty();
                } else {
                    self.finish_joining();
                }
            }
            Phase::Completing { .. } | Phase::Stable if assigned == 0 => self.become_empty(),
            Phase::Completing { .. } | Phase::Stable => {
                self.rebalance();
                self.finish_joining();
            }
        }
    }

    fn become_empty(&mut self) {
        self.group.phase = Phase::Empty;
        self.group.generation = self.group.generation.checked_add(1).unwrap_or(1);
        self.group.protocol = None;
        self.group.leader = None;
    }

    // === time ===

    fn tick(&mut self) {
        let now = self.now;
        self.group.promised.retain(|_, until| *until > now);
        let silent = |member: &Member| !member.waits() && member.session_ends <= now;
        let mut gone: Vec<String> =
            self.group.members.iter().filter(|(_, member)| silent(member)).map(|(id, _)| id.clone()).collect();
        if let Phase::Completing { deadline } = self.group.phase
            && deadline <= now
        {
            let unsynced = self.group.members.iter().filter(|(_, member)| member.syncing.is_none());
            gone.extend(unsynced.map(|(id, _)| id.clone()));
        }
        let any = !gone.is_empty();
        for id in gone {
            self.remove(&id);
        }
        if any {
            self.after_removal();
        } else {
            self.finish_joining();
        }
    }

    // === checks ===

    fn known(&self, who: &Identity) -> Result<(), ResponseError> {
        if let Some(instance) = &who.instance_id {
            match self.group.instances.get(instance) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(current) if *current != who.member_id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.group.members.contains_key(&who.member_id) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    fn current(&self, generation: i32) -> Result<(), ResponseError> {
        if generation == self.group.generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    fn hear(&mut self, id: &str) {
        let now = self.now;
        if let Some(member) = self.group.members.get_mut(id) {
            member.session_ends = now + member.session_ms;
        }
    }
}

enum Admission {
    /// A member id is handed out first.
    Promise,
    New(String),
    Replace {
        old: String,
        new: String,
    },
    Again,
}

fn offers(member: &Member, protocol: &str) -> bool {
    member.protocols.iter().any(|(name, _)| name == protocol)
}

/// A dynamic member that did not come to the joining; static ones stay until their session ends.
fn lost(member: &Member) -> bool {
    member.joining.is_none() && member.instance_id.is_none()
}

/// Clients of join version 0 send no rebalance timeout; their session is used instead.
fn rebalance_ms(wish: i32, session_ms: i32) -> i64 {
    let wish = if wish < 0 { session_ms } else { wish };
    i64::from(wish).min(REBALANCE_MS_MAX)
}
