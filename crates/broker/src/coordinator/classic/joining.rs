//! The first half of a rebalance: members join until all are there or time is up, then the generation begins.
//!
//! Look next at `syncing.rs` for the second half.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::group::{
    Answer, Identity, Join, Joined, MEMBERS_MAX, Member, Phase, REBALANCE_MS_MAX, SESSION_MS_MAX, SESSION_MS_MIN,
};
use super::state::Step;
use crate::coordinator::Millis;

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

impl Step {
    pub(super) fn join(&mut self, join: Join) {
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
        let replaced = join.instance_id.as_ref().and_then(|instance| self.group.instances.get(instance));
        let is_self = |id: &String| *id == join.member_id || Some(id) == replaced;
        let others: Vec<&Member> =
            self.group.members.iter().filter(|(id, _)| !is_self(id)).map(|(_, member)| member).collect();
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
            sync_due: None,
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

    /// A static member came back under a new member id; the old one is fenced. In a stable group it takes over the
    /// share it had, without a rebalance, unless the group would choose another protocol now.
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
        let (token, skips) = (join.token, join.skips_assignment);
        renew(&mut member, join, self.now);
        self.group.members.insert(new.clone(), member);
        if self.group.phase == Phase::Stable && self.elect_protocol() == self.group.protocol {
            self.save = true;
            let mut answer = self.joined(&new);
            if led && skips {
                answer.skip_assignment = true;
            } else if led {
                // an older client that learns that it leads would hand out shares that nobody takes
                old.clone_into(&mut answer.leader);
                answer.members.clear();
            }
            return self.answer(token, Answer::Joined(answer));
        }
        // the leader may know the old id already: its assignment would miss the new one
        self.wait_for_others(&new, token);
    }

    fn join_again(&mut self, join: Join) {
        let led = self.group.leader.as_deref() == Some(join.member_id.as_str());
        let now = self.now;
        let (id, token) = (join.member_id.clone(), join.token);
        let Some(member) = self.group.members.get_mut(&id) else { return };
        let changed = member.protocols != join.protocols;
        renew(member, join, now);
        // a leader that joins a stable group again asks for a new assignment, a follower repeats a lost request
        let repeated = match self.group.phase {
            Phase::Stable => !changed && !led,
            Phase::Completing => !changed,
            Phase::Empty | Phase::Preparing { .. } => false,
        };
        if repeated {
            let answer = self.joined(&id);
            return self.answer(token, Answer::Joined(answer));
        }
        self.wait_for_others(&id, token);
    }

    fn wait_for_others(&mut self, id: &str, token: super::Token) {
        let Some(member) = self.group.members.get_mut(id) else { return };
        if let Some(older) = member.joining.replace(token) {
            let error = ResponseError::RebalanceInProgress;
            self.answer(older, Answer::NotJoined { error, member_id: id.to_owned() });
        }
        self.rebalance();
        self.finish_joining();
    }

    /// Asks everybody to join again.
    pub(super) fn rebalance(&mut self) {
        if matches!(self.group.phase, Phase::Preparing { .. }) {
            return;
        }
        let mut interrupted = Vec::new();
        for member in self.group.members.values_mut() {
            member.sync_due = None;
            interrupted.extend(member.syncing.take());
        }
        for token in interrupted {
            self.answer(token, Answer::NotSynced(ResponseError::RebalanceInProgress));
        }
        let deadline = self.now + self.patience();
        self.group.phase = Phase::Preparing { deadline, initial: false, latest: deadline };
    }

    fn patience(&self) -> Millis {
        self.group.members.values().map(|member| member.rebalance_ms).max().unwrap_or_default()
    }

    /// Ends the joining when all are there or time is up.
    pub(super) fn finish_joining(&mut self) {
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
        if self.group.members.is_empty() {
            return self.become_empty();
        }
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
        self.begin_generation();
    }

    fn begin_generation(&mut self) {
        self.group.generation = self.group.generation.checked_add(1).unwrap_or(1);
        self.group.protocol = self.elect_protocol();
        self.group.phase = Phase::Completing;
        let sync_due = Some(self.now + self.patience());
        let ids: Vec<String> = self.group.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id);
            let now = self.now;
            let Some(member) = self.group.members.get_mut(&id) else { continue };
            member.assignment = Bytes::new();
            member.sync_due = sync_due;
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
            skip_assignment: false,
        }
    }
}

/// Takes over what a member says of itself when it joins again.
fn renew(member: &mut Member, join: Join, now: Millis) {
    member.protocols = join.protocols;
    member.client_id = join.client_id;
    member.client_host = join.client_host;
    member.session_ms = i64::from(join.session_ms);
    member.rebalance_ms = rebalance_ms(join.rebalance_ms, join.session_ms);
    member.session_ends = now + member.session_ms;
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
