//! The second half of a rebalance: the leader brings the shares, every member takes its own.

use kafka_protocol::error::ResponseError;

use super::group::{Answer, Identity, Phase, Sync, Synced};
use super::state::Step;

impl Step {
    pub(super) fn sync(&mut self, sync: Sync) {
        if let Err(error) = self.may_sync(&sync) {
            return self.answer(sync.token, Answer::NotSynced(error));
        }
        let now = self.now;
        let Some(member) = self.group.members.get_mut(&sync.member_id) else { return };
        member.session_ends = now + member.session_ms;
        member.sync_due = None;
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
        self.save = true;
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
            Phase::Completing | Phase::Stable => Ok(()),
        }
    }

    fn synced(&self, id: &str) -> Answer {
        let assignment = self.group.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default();
        let (protocol_type, protocol) = (self.group.protocol_type.clone(), self.group.protocol.clone());
        Answer::Synced(Synced { protocol_type, protocol, assignment })
    }
}
