//! The consumer group protocol as a pure function: `next(group, input, catalog, timing, now)`.
//!
//! A change of members, subscriptions or topics makes a new group epoch with a new target at once; each member is led
//! there by its own heartbeats. Invariants: a partition has one owner at most (`reconcile.rs`); a heartbeat that is
//! refused changes nothing; an epoch that a member was not told is never asked of it; all that an answer says is among
//! the changes to be saved.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;

use super::assignor::Assignor;
use super::group::{
    AWAY, Beat, Changes, Group, Heartbeat, Input, JOINING, LEAVING, MEMBERS_MAX, Member, NAMES_MAX, Next, Place,
    REVOKE_MS_MAX, Refused, Share, TEXT_BYTES_MAX, Timing,
};
use super::reconcile::{Goal, reconcile};
use super::subscription::{self, Catalog};
use crate::coordinator::Millis;

/// One step of a group's life.
pub(crate) fn next(group: Group, input: Input, catalog: &Catalog, timing: Timing, now: Millis) -> Next {
    let mut step = Step { group, catalog, timing, now, changes: Changes::default() };
    let answer = match input {
        Input::Heartbeat(beat) => Some(step.heartbeat(beat)),
        Input::Expel { instance_id } => Some(step.expel(&instance_id)),
        Input::Tick => {
            step.tick();
            None
        }
    };
    Next { group: step.group, answer, changes: step.changes }
}

/// May this member commit offsets? A negative epoch is a consumer outside of the group.
pub(crate) fn may_commit(group: &Group, member_id: &str, epoch: i32) -> Result<(), ResponseError> {
    if epoch < 0 && group.members.is_empty() {
        return Ok(());
    }
    current(group, member_id, epoch)
}

/// May this member read its offsets? Operators and older clients say nothing of themselves, and may.
pub(crate) fn may_fetch(group: &Group, member_id: Option<&str>, epoch: i32) -> Result<(), ResponseError> {
    if epoch < 0 && member_id.is_none_or(str::is_empty) {
        return Ok(());
    }
    current(group, member_id.unwrap_or_default(), epoch)
}

fn current(group: &Group, member_id: &str, epoch: i32) -> Result<(), ResponseError> {
    let member = group.members.get(member_id).ok_or(ResponseError::UnknownMemberId)?;
    if member.epoch == epoch { Ok(()) } else { Err(ResponseError::StaleMemberEpoch) }
}

struct Step<'a> {
    group: Group,
    catalog: &'a Catalog,
    timing: Timing,
    now: Millis,
    changes: Changes,
}

impl Step<'_> {
    fn heartbeat(&mut self, beat: Heartbeat) -> Result<Beat, Refused> {
        check(&beat)?;
        match beat.epoch {
            LEAVING | AWAY => self.leave(&beat),
            JOINING => self.join(beat),
            _ => {
                self.known(&beat)?;
                self.follow(beat)
            }
        }
    }

    // === coming and going ===

    fn join(&mut self, mut beat: Heartbeat) -> Result<Beat, Refused> {
        if beat.member_id.is_empty() {
            beat.member_id.clone_from(&beat.fresh_id);
        }
        if let Some(pattern) = &beat.pattern {
            subscription::check(&self.group, pattern)?;
        }
        let before = beat.instance_id.as_ref().and_then(|instance| self.group.instances.get(instance)).cloned();
        match before {
            Some(before) => self.replace(&before, &beat)?,
            None if self.group.members.contains_key(&beat.member_id) => self.known(&beat)?,
            None if self.group.members.len() >= MEMBERS_MAX => {
                let message = format!("the group has {MEMBERS_MAX} members already");
                return Err(Refused::new(ResponseError::GroupMaxSizeReached, message));
            }
            None => {
                if let Some(instance) = &beat.instance_id {
                    self.group.instances.insert(instance.clone(), beat.member_id.clone());
                }
                let member = Member { instance_id: beat.instance_id.clone(), ..Member::default() };
                self.group.members.insert(beat.member_id.clone(), member);
                self.changes.group = true; // its subscription is new to the group
            }
        }
        self.follow(beat)
    }

    /// A static member that went away is back, perhaps under another member id, and takes over what it had.
    fn replace(&mut self, before: &str, beat: &Heartbeat) -> Result<(), Refused> {
        let away = self.group.members.get(before).is_some_and(|member| member.epoch == AWAY);
        if !away {
            let message = format!("the member {before} has not left and uses this instance id");
            return Err(Refused::new(ResponseError::UnreleasedInstanceId, message));
        }
        if self.group.members.contains_key(&beat.member_id) && beat.member_id != before {
            let message = "another member of the group has this id";
            return Err(Refused::new(ResponseError::FencedInstanceId, message));
        }
        let Some(mut member) = self.group.members.remove(before) else { return Ok(()) };
        (member.epoch, member.previous_epoch) = (JOINING, JOINING);
        let target = self.group.target.remove(before).unwrap_or_default();
        self.group.target.insert(beat.member_id.clone(), target);
        self.group.members.insert(beat.member_id.clone(), member);
        if let Some(instance) = &beat.instance_id {
            self.group.instances.insert(instance.clone(), beat.member_id.clone());
        }
        self.changes.members.extend([before.to_owned(), beat.member_id.clone()]);
        Ok(())
    }

    fn leave(&mut self, beat: &Heartbeat) -> Result<Beat, Refused> {
        self.identified(beat)?;
        let answer = Beat { member_id: beat.member_id.clone(), epoch: beat.epoch, share: None };
        if beat.epoch == LEAVING {
            self.remove(&beat.member_id);
            self.retarget();
        } else if let Some(member) = self.group.members.get_mut(&beat.member_id) {
            member.epoch = AWAY;
            member.revoking.clear();
            member.revoke_due = None;
            self.changes.members.insert(beat.member_id.clone());
        }
        Ok(answer)
    }

    fn expel(&mut self, instance_id: &str) -> Result<Beat, Refused> {
        let unknown = || Refused::new(ResponseError::UnknownMemberId, "the group has no such static member");
        let member_id = self.group.instances.get(instance_id).cloned().ok_or_else(unknown)?;
        self.remove(&member_id);
        self.retarget();
        Ok(Beat { member_id, epoch: LEAVING, share: None })
    }

    fn remove(&mut self, id: &str) {
        let Some(member) = self.group.members.remove(id) else { return };
        if let Some(instance) = &member.instance_id {
            self.group.instances.remove(instance);
        }
        self.group.target.remove(id);
        self.changes.members.insert(id.to_owned());
        self.changes.group = true;
    }

    fn tick(&mut self) {
        let now = self.now;
        let over = |member: &Member| member.session_ends <= now || member.revoke_due.is_some_and(|due| due <= now);
        let gone: Vec<String> =
            self.group.members.iter().filter(|(_, member)| over(member)).map(|(id, _)| id.clone()).collect();
        if gone.is_empty() {
            return;
        }
        for id in gone {
            self.remove(&id);
        }
        self.retarget();
    }

    // === following ===

    /// What every heartbeat of a member does: take over what it says, renew the target if that is due, lead it on.
    fn follow(&mut self, beat: Heartbeat) -> Result<Beat, Refused> {
        let full = beat.epoch == JOINING
            || (beat.rebalance_ms.is_some()
                && beat.owned.is_some()
                && (beat.names.is_some() || beat.pattern.is_some()));
        if let Some(pattern) = &beat.pattern {
            subscription::check(&self.group, pattern)?;
        }
        let Heartbeat { member_id, owned, .. } = &beat;
        let (member_id, owned) = (member_id.clone(), owned.clone());
        let unknown = || Refused::new(ResponseError::UnknownMemberId, "the group has no such member");
        let member = self.group.members.get_mut(&member_id).ok_or_else(unknown)?;
        let before = member.clone();
        member.session_ends = self.now + self.timing.session_ms;
        take_over(member, beat);
        let mut epoch_is_due = member.names != before.names || member.pattern != before.pattern || self.changes.group;
        if epoch_is_due || self.group.seen != self.catalog.version {
            epoch_is_due |= subscription::resolve(&mut self.group, self.catalog);
        }
        if epoch_is_due {
            self.renew_target();
        }
        self.lead(&member_id, owned.as_ref());
        let Some(member) = self.group.members.get(&member_id) else { return Err(unknown()) };
        let told = |member: &Member| Member { session_ends: 0, ..member.clone() };
        if told(member) != told(&before) {
            self.changes.members.insert(member_id.clone());
        }
        let share = (full || member.assigned != before.assigned).then(|| member.assigned.clone());
        Ok(Beat { member_id, epoch: member.epoch, share })
    }

    fn lead(&mut self, id: &str, owned: Option<&Share>) {
        let Some(mut member) = self.group.members.remove(id) else { return };
        let nothing = Share::new();
        let goal = Goal { epoch: self.group.epoch, share: self.group.target.get(id).unwrap_or(&nothing), owned };
        let others = &self.group.members;
        let taken =
            |place: &Place| others.values().any(|one| one.assigned.contains(place) || one.revoking.contains(place));
        reconcile(&mut member, &goal, taken, self.now);
        self.group.members.insert(id.to_owned(), member);
    }

    /// After members went.
    fn retarget(&mut self) {
        subscription::resolve(&mut self.group, self.catalog);
        self.renew_target();
    }

    /// A new epoch with the target that follows from members, subscriptions and topics as they are.
    fn renew_target(&mut self) {
        self.group.epoch = self.group.epoch.checked_add(1).unwrap_or(1);
        self.changes.group = true;
        let target = self.group.assignor().assign(&self.group);
        for (id, share) in &target {
            if self.group.target.get(id) != Some(share) {
                self.changes.members.insert(id.clone());
            }
        }
        self.group.target = target;
    }

    // === checks ===

    /// The member is who it says it is.
    fn identified(&self, beat: &Heartbeat) -> Result<(), Refused> {
        let unknown = || Refused::new(ResponseError::UnknownMemberId, "the group has no such member");
        if let Some(instance) = &beat.instance_id {
            let current = self.group.instances.get(instance).ok_or_else(unknown)?;
            if *current != beat.member_id {
                let message = "another member uses this instance id now";
                return Err(Refused::new(ResponseError::FencedInstanceId, message));
            }
        }
        if self.group.members.contains_key(&beat.member_id) { Ok(()) } else { Err(unknown()) }
    }

    /// The member is at its epoch, or at the one before because the answer that told the present one was lost.
    fn known(&self, beat: &Heartbeat) -> Result<(), Refused> {
        self.identified(beat)?;
        let Some(member) = self.group.members.get(&beat.member_id) else { return Ok(()) };
        let lost_answer = beat.epoch == member.previous_epoch
            && beat.owned.as_ref().is_some_and(|owned| owned.is_subset(&member.assigned));
        if beat.epoch == member.epoch || (beat.epoch < member.epoch && lost_answer) {
            return Ok(());
        }
        let message = format!(
            "the member is at epoch {} here, not at {}; it must give up its partitions and join again",
            member.epoch, beat.epoch
        );
        Err(Refused::new(ResponseError::FencedMemberEpoch, message))
    }
}

fn take_over(member: &mut Member, beat: Heartbeat) {
    member.client_id = beat.client_id;
    member.client_host = beat.client_host;
    if let Some(rack_id) = beat.rack_id {
        member.rack_id = Some(rack_id);
    }
    if let Some(rebalance_ms) = beat.rebalance_ms {
        member.rebalance_ms = i64::from(rebalance_ms).min(REVOKE_MS_MAX);
    }
    if let Some(names) = beat.names {
        member.names = names;
    }
    if let Some(pattern) = beat.pattern {
        member.pattern = (!pattern.is_empty()).then_some(pattern);
    }
    if let Some(assignor) = beat.assignor {
        member.assignor = Assignor::parse(&assignor);
    }
}

/// What can be said of a heartbeat without its group.
fn check(beat: &Heartbeat) -> Result<(), Refused> {
    let wrong = |message: &str| Err(Refused::new(ResponseError::InvalidRequest, message));
    let empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
    if empty(&beat.instance_id) || empty(&beat.rack_id) {
        return wrong("an instance id or a rack is a text, or absent");
    }
    let texts = [&beat.instance_id, &beat.rack_id, &beat.pattern];
    let long = |text: &String| text.len() > TEXT_BYTES_MAX;
    if beat.member_id.len() > TEXT_BYTES_MAX || texts.into_iter().flatten().any(long) {
        return wrong("an id, a rack or a regular expression is too long");
    }
    if beat.names.as_ref().is_some_and(|names| names.len() > NAMES_MAX) {
        return wrong("there are too many topic names");
    }
    match beat.epoch {
        JOINING => {
            if beat.rebalance_ms.is_none() {
                return wrong("a member that joins says how long it takes to give partitions back");
            }
            if beat.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
                return wrong("a member that joins owns nothing");
            }
            if beat.names.is_none() && beat.pattern.is_none() {
                return wrong("a member that joins says what it subscribes to");
            }
        }
        AWAY if beat.instance_id.is_none() => return wrong("a member without instance id cannot be away"),
        ..AWAY => return wrong("there is no such member epoch"),
        _ if beat.member_id.is_empty() => return wrong("a member has an id"),
        _ => {}
    }
    if let Some(name) = &beat.assignor
        && Assignor::parse(name).is_none()
    {
        let names: BTreeSet<&str> = Assignor::ALL.into_iter().map(Assignor::name).collect();
        let message = format!("there is no assignor {name}, there are {names:?}");
        return Err(Refused::new(ResponseError::UnsupportedAssignor, message));
    }
    Ok(())
}
