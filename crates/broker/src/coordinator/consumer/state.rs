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
    REVOKE_MS_MAX, Refused, Share, Sight, TEXT_BYTES_MAX, Timing,
};
use super::reconcile::{Goal, reconcile};
use super::subscription::{self, Catalog};
use crate::coordinator::Millis;

/// One step of a group's life.
pub(crate) fn next(group: Group, input: Input, catalog: &Catalog, timing: Timing, now: Millis) -> Next {
    let mut step = Step { group, catalog, timing, now, changes: Changes::default() };
    let answer = match input {
        Input::Heartbeat(beat) => Some(step.heartbeat(*beat)),
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
        if let Some(visible) = self.group.visible.remove(before) {
            self.group.visible.insert(beat.member_id.clone(), visible);
        }
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
        let resighted = member.pattern.is_some() && member.sight != before.sight;
        let mut epoch_is_due = member.names != before.names || member.pattern != before.pattern || self.changes.group;
        if epoch_is_due || resighted || self.group.seen != self.catalog.version {
            let visible = self.group.visible.get(&member_id).cloned();
            epoch_is_due |= subscription::resolve(&mut self.group, self.catalog);
            // who is heard of again after a restart sees what it saw
            epoch_is_due |=
                resighted && before.sight != Sight::Unknown && visible.as_ref() != self.group.visible.get(&member_id);
        }
        if epoch_is_due {
            self.renew_target();
        }
        self.lead(&member_id, owned.as_ref());
        let Some(member) = self.group.members.get(&member_id) else { return Err(unknown()) };
        let told = |member: &Member| Member { session_ends: 0, sight: Sight::All, ..member.clone() };
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
    member.sight = beat.sight;
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use uuid::Uuid;

    use super::super::group::Progress;
    use super::super::record::{Part, apply, encode, resume};
    use super::super::subscription::CatalogTopic;
    use super::*;
    use crate::access::Rights;

    const TIMING: Timing = Timing { session_ms: 10_000, heartbeat_ms: 1_000 };

    /// A group with its own clock, topics and disk.
    struct Sim {
        group: Group,
        catalog: Catalog,
        now: Millis,
        disk: BTreeMap<Vec<u8>, Vec<u8>>,
    }

    impl Sim {
        /// One topic, `t`.
        fn new(partitions: i32) -> Self {
            let mut sim = Self { group: Group::default(), catalog: Catalog::default(), now: 0, disk: BTreeMap::new() };
            sim.set_partitions(partitions);
            sim
        }

        fn set_partitions(&mut self, partitions: i32) {
            self.catalog.version += 1;
            self.catalog.topics.insert("t".to_owned(), CatalogTopic { id: Uuid::from_u128(1), partitions });
        }

        fn step(&mut self, input: Input) -> Option<Result<Beat, Refused>> {
            let before = self.group.clone();
            let next = next(std::mem::take(&mut self.group), input, &self.catalog, TIMING, self.now);
            if matches!(next.answer, Some(Err(_))) {
                assert_eq!((&next.group, next.changes.any()), (&before, false), "a refusal changes nothing");
            }
            self.group = next.group;
            for (key, value) in encode("g", Some(&self.group), &next.changes) {
                match value {
                    Some(value) => drop(self.disk.insert(key, value)),
                    None => drop(self.disk.remove(&key)),
                }
            }
            next.answer
        }

        fn beat(&mut self, beat: Heartbeat) -> Result<Beat, Refused> {
            self.step(Input::Heartbeat(Box::new(beat))).unwrap()
        }

        fn join(&mut self, id: &str) -> Beat {
            self.beat(joining(id)).unwrap()
        }

        fn join_static(&mut self, id: &str, instance_id: &str) -> Result<Beat, Refused> {
            self.beat(Heartbeat { instance_id: Some(instance_id.to_owned()), ..joining(id) })
        }

        fn say(&mut self, id: &str, epoch: i32, owned: Option<&[i32]>) -> Result<Beat, Refused> {
            self.beat(Heartbeat { owned: owned.map(share), ..hello(id, epoch) })
        }

        fn code(&mut self, id: &str, epoch: i32) -> ResponseError {
            self.say(id, epoch, None).unwrap_err().code
        }

        fn pass(&mut self, millis: Millis) {
            self.now += millis;
            assert_eq!(self.step(Input::Tick), None);
        }

        /// The broker ends and starts anew on what the disk has.
        fn restart(&mut self) {
            let mut group = Group::default();
            for (key, value) in &self.disk {
                let (id, part) = Part::parse(key).unwrap();
                assert_eq!(id, "g");
                apply(&mut group, part, value).unwrap();
            }
            resume(&mut group, &self.catalog, TIMING.session_ms, self.now);
            self.group = group;
        }

        /// Members `a` and `b` with half of six partitions each, in epoch 2.
        fn pair() -> Self {
            let mut sim = Sim::new(6);
            assert_eq!(sim.join("a").share, Some(share(&[0, 1, 2, 3, 4, 5])));
            let b = sim.join("b");
            assert_eq!((b.epoch, b.share), (2, Some(Share::new())), "nothing is free yet");
            assert_eq!(sim.group.state(), "Reconciling");
            let a = sim.say("a", 1, None).unwrap();
            assert_eq!((a.epoch, a.share.map(|share| share.len())), (1, Some(3)), "it gives back first");
            let kept: Vec<i32> = sim.group.members["a"].assigned.iter().map(|(_, partition)| *partition).collect();
            let b = sim.say("b", 2, None).unwrap();
            assert_eq!(b.share, None, "what was not given back is not handed out");
            let a = sim.say("a", 1, Some(&kept)).unwrap();
            assert_eq!((a.epoch, a.share), (2, None));
            let b = sim.say("b", 2, None).unwrap();
            assert_eq!(b.share.map(|share| share.len()), Some(3));
            assert_eq!(sim.group.state(), "Stable");
            sim
        }
    }

    fn share(partitions: &[i32]) -> Share {
        partitions.iter().map(|partition| (Uuid::from_u128(1), *partition)).collect()
    }

    fn hello(id: &str, epoch: i32) -> Heartbeat {
        Heartbeat { member_id: id.to_owned(), epoch, ..Heartbeat::default() }
    }

    fn joining(id: &str) -> Heartbeat {
        Heartbeat {
            rebalance_ms: Some(5_000),
            names: Some(BTreeSet::from(["t".to_owned()])),
            owned: Some(Share::new()),
            fresh_id: "fresh".to_owned(),
            ..hello(id, JOINING)
        }
    }

    // STR-11, F22
    #[test]
    fn a_partition_changes_hands_only_after_it_was_given_back() {
        let mut sim = Sim::pair();
        let answer = sim.say("b", LEAVING, None).unwrap();
        assert_eq!((answer.epoch, answer.share), (LEAVING, None));
        let a = sim.say("a", 2, None).unwrap();
        assert_eq!((a.epoch, a.share), (3, Some(share(&[0, 1, 2, 3, 4, 5]))));
        assert_eq!(sim.code("b", 2), ResponseError::UnknownMemberId);
        sim.say("a", LEAVING, None).unwrap();
        assert_eq!((sim.group.state(), sim.group.epoch), ("Empty", 4));
        assert_eq!(sim.join("").member_id, "fresh", "a member of request version 0 is given an id");
    }

    // STR-11, F22: member epochs fence
    #[test]
    fn who_is_late_early_or_unknown_is_refused() {
        let mut sim = Sim::pair();
        assert_eq!(sim.code("z", 2), ResponseError::UnknownMemberId);
        assert_eq!(sim.code("a", 3), ResponseError::FencedMemberEpoch, "from a future that never was");
        assert_eq!(sim.code("a", 1), ResponseError::FencedMemberEpoch, "it does not say what it owns");
        assert_eq!(may_commit(&sim.group, "a", 2), Ok(()));
        assert_eq!(may_commit(&sim.group, "a", 1), Err(ResponseError::StaleMemberEpoch));
        assert_eq!(may_commit(&sim.group, "z", 2), Err(ResponseError::UnknownMemberId));
        assert_eq!(may_commit(&sim.group, "", -1), Err(ResponseError::UnknownMemberId), "a group that lives");
        assert_eq!(may_fetch(&sim.group, Some("a"), 1), Err(ResponseError::StaleMemberEpoch));
        assert_eq!(may_fetch(&sim.group, None, -1), Ok(()));
        assert_eq!(may_commit(&Group::default(), "", -1), Ok(()));
        // the answer that told the present epoch may have been lost
        let kept: Vec<i32> = sim.group.members["a"].assigned.iter().map(|(_, partition)| *partition).collect();
        assert_eq!(sim.say("a", 1, Some(&kept)).unwrap().epoch, 2);
        assert_eq!(sim.say("a", 1, Some(&[0, 1, 2, 3, 4, 5])).unwrap_err().code, ResponseError::FencedMemberEpoch);
    }

    // STR-11
    #[test]
    fn a_join_whose_answer_was_lost_may_be_repeated() {
        let mut sim = Sim::new(2);
        let first = sim.join("a");
        assert_eq!(sim.join("a"), first);
    }

    // STR-11
    #[test]
    fn the_silent_and_those_that_keep_what_is_not_theirs_are_given_up() {
        let mut sim = Sim::pair();
        sim.pass(6_000);
        sim.say("a", 2, None).unwrap();
        sim.pass(5_000);
        assert_eq!(sim.group.members.keys().collect::<Vec<_>>(), ["a"], "b was not heard of for a session");
        assert_eq!(sim.say("a", 2, None).unwrap().share.unwrap().len(), 6);
        sim.join("c");
        sim.say("a", 3, None).unwrap();
        for _ in 0..5 {
            sim.pass(900);
            sim.say("a", 3, Some(&[0, 1, 2, 3, 4, 5])).unwrap();
        }
        sim.pass(600);
        assert_eq!(sim.code("a", 3), ResponseError::UnknownMemberId, "it had 5 s to give partitions back");
        assert_eq!(sim.say("c", 4, None).unwrap().share.unwrap().len(), 6);
    }

    // STR-11
    #[test]
    fn a_static_member_that_is_away_finds_its_share_and_has_no_double() {
        let mut sim = Sim::new(4);
        sim.join_static("s1", "one").unwrap();
        assert_eq!(sim.join_static("s2", "one").unwrap_err().code, ResponseError::UnreleasedInstanceId);
        let from = |id: &str, epoch| Heartbeat { instance_id: Some("one".to_owned()), ..hello(id, epoch) };
        assert_eq!(sim.beat(from("s1", AWAY)).unwrap().epoch, AWAY);
        let back = sim.join_static("s2", "one").unwrap();
        assert_eq!((back.epoch, back.share), (1, Some(share(&[0, 1, 2, 3]))), "no rebalance");
        assert_eq!(sim.beat(from("s1", 1)).unwrap_err().code, ResponseError::FencedInstanceId);
        assert_eq!(sim.code("s1", 1), ResponseError::UnknownMemberId);
        sim.beat(from("s2", AWAY)).unwrap();
        sim.pass(10_000);
        assert!(sim.group.members.is_empty(), "it did not come back within its session");
        sim.join_static("s3", "one").unwrap();
        let expelled = sim.step(Input::Expel { instance_id: "one".to_owned() }).unwrap();
        assert_eq!(expelled.map(|beat| beat.member_id), Ok("s3".to_owned()));
        let nobody = sim.step(Input::Expel { instance_id: "one".to_owned() }).unwrap();
        assert_eq!(nobody.unwrap_err().code, ResponseError::UnknownMemberId);
    }

    // STR-11
    #[test]
    fn partitions_that_are_added_find_an_owner_at_the_next_heartbeat() {
        let mut sim = Sim::new(2);
        sim.join("a");
        sim.set_partitions(3);
        let a = sim.say("a", 1, None).unwrap();
        assert_eq!((a.epoch, a.share), (2, Some(share(&[0, 1, 2]))));
        sim.catalog.version += 1;
        assert_eq!(sim.say("a", 2, None).unwrap().epoch, 2, "another topic is no reason for a rebalance");
        let pattern = Heartbeat { pattern: Some("t|u".to_owned()), names: Some(BTreeSet::new()), ..hello("a", 2) };
        assert_eq!(sim.beat(pattern).unwrap().epoch, 3);
        sim.catalog.version += 1;
        sim.catalog.topics.insert("u".to_owned(), CatalogTopic { id: Uuid::from_u128(2), partitions: 1 });
        assert_eq!(sim.say("a", 3, None).unwrap().share.unwrap().len(), 4);
    }

    // STR-11
    #[test]
    fn heartbeats_that_make_no_sense_are_refused() {
        let mut sim = Sim::pair();
        let wrong = [
            Heartbeat { names: None, ..joining("c") },
            Heartbeat { rebalance_ms: None, ..joining("c") },
            Heartbeat { owned: None, ..joining("c") },
            Heartbeat { owned: Some(share(&[1])), ..joining("c") },
            Heartbeat { instance_id: Some(String::new()), ..joining("c") },
            Heartbeat { rack_id: Some("r".repeat(TEXT_BYTES_MAX + 1)), ..joining("c") },
            hello("a", AWAY),
            hello("a", -3),
            hello("", 2),
        ];
        for beat in wrong {
            let refused = sim.beat(beat.clone()).unwrap_err();
            assert_eq!(refused.code, ResponseError::InvalidRequest, "{beat:?}");
        }
        let assignor = Heartbeat { assignor: Some("sticky".to_owned()), ..joining("c") };
        assert_eq!(sim.beat(assignor).unwrap_err().code, ResponseError::UnsupportedAssignor);
        let pattern = Heartbeat { pattern: Some("(".to_owned()), ..hello("a", 2) };
        assert_eq!(sim.beat(pattern).unwrap_err().code, ResponseError::InvalidRegularExpression);
        let crowd = (0..MEMBERS_MAX).map(|at| (at.to_string(), Member::default())).collect();
        sim.group = Group { members: crowd, ..Group::default() };
        assert_eq!(sim.beat(joining("c")).unwrap_err().code, ResponseError::GroupMaxSizeReached);
    }

    // STR-11, F22: a restart is no reason for a rebalance
    #[test]
    fn a_group_goes_on_after_a_restart_where_it_was() {
        let mut sim = Sim::pair();
        let before = sim.group.clone();
        sim.restart();
        assert_eq!((sim.group.epoch, &sim.group.target), (before.epoch, &before.target));
        let beat = sim.say("a", 2, None).unwrap();
        assert_eq!((beat.epoch, beat.share), (2, None));
        assert_eq!(sim.group.state(), "Stable");
        sim.set_partitions(7);
        sim.restart();
        assert_eq!(sim.say("a", 2, None).unwrap().epoch, 3, "the topics have changed meanwhile");
        sim.pass(10_000);
        assert!(sim.group.members.is_empty() && sim.disk.len() == 2, "of an empty group its epochs are kept");
    }

    // STR-11, STR-14, KIP-848: a pattern means the topics that its member may describe, also those that come later
    #[test]
    fn a_pattern_means_what_its_member_may_describe() {
        let topics = |share: &Share| share.iter().map(|(topic, _)| topic.as_u128()).collect::<BTreeSet<_>>();
        let sight = |topics: &[&str]| Sight::Limited(Rights::describing(topics));
        let asking = |id: &str, seen: &[&str]| Heartbeat {
            names: None,
            pattern: Some("t.*".to_owned()),
            sight: sight(seen),
            ..joining(id)
        };
        let mut sim = Sim::new(2);
        sim.catalog.topics.insert("tx".to_owned(), CatalogTopic { id: Uuid::from_u128(2), partitions: 2 });
        let joined = sim.beat(asking("a", &["t", "tnew"])).unwrap();
        assert_eq!(topics(&joined.share.unwrap()), BTreeSet::from([1]));
        assert!(!sim.group.topics.contains_key("tx"), "the group does not know of it either");
        // what comes later is seen by whoever may, at the heartbeat of whoever is first
        sim.beat(asking("b", &["tx"])).unwrap();
        sim.catalog.version += 1;
        sim.catalog.topics.insert("tnew".to_owned(), CatalogTopic { id: Uuid::from_u128(3), partitions: 1 });
        sim.beat(Heartbeat { sight: sight(&["tx"]), ..hello("b", 2) }).unwrap();
        assert_eq!(topics(&sim.group.target["a"]), BTreeSet::from([1, 3]));
        assert_eq!(topics(&sim.group.target["b"]), BTreeSet::from([2]), "each reads what it may, and all is read");
        // a restart forgets rights, and asks nobody to give anything back until they are known again
        let (epoch, target) = (sim.group.epoch, sim.group.target.clone());
        sim.restart();
        let a = sim.group.members["a"].epoch;
        sim.beat(Heartbeat { sight: sight(&["t", "tnew"]), ..hello("a", a) }).unwrap();
        assert_eq!((sim.group.epoch, &sim.group.target), (epoch, &target));
        // rules that change count from the next heartbeat on
        let a = sim.group.members["a"].epoch;
        sim.beat(Heartbeat { sight: sight(&["tx"]), ..hello("a", a) }).unwrap();
        assert_eq!(sim.group.epoch, epoch + 1);
        assert_eq!(topics(&sim.group.target["a"]), BTreeSet::from([2]));
        let a = sim.group.members["a"].epoch;
        sim.beat(Heartbeat { sight: Sight::All, ..hello("a", a) }).unwrap();
        assert_eq!((sim.group.epoch, sim.group.topics.len()), (epoch + 2, 3));
    }

    /// A client as the protocol wants it: it gives back at once what it is told to, and says so with its next
    /// heartbeat. Answers get lost.
    #[derive(Debug, Default)]
    struct Client {
        epoch: i32,
        owned: Share,
        /// An answer was lost: the next heartbeat says everything.
        unsure: bool,
    }

    // STR-11, F22
    #[test]
    fn no_order_of_events_gives_a_partition_to_two_or_to_nobody_for_ever() {
        let ids = ["a", "b", "c"];
        for seed in 0..300_u64 {
            let mut random = seed;
            let mut draw = |below: u64| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % below
            };
            let mut sim = Sim::new(5);
            let mut clients: HashMap<&str, Client> = HashMap::new();
            for _ in 0..200 {
                let id = ids[usize::try_from(draw(3)).unwrap()];
                match draw(12) {
                    0 => {
                        if clients.remove(id).is_some() {
                            drop(sim.say(id, LEAVING, None));
                        }
                    }
                    1 => sim.restart(),
                    2 => sim.pass(i64::try_from(draw(1_500)).unwrap()),
                    3 if draw(5) == 0 => sim.set_partitions(i32::try_from(3 + draw(5)).unwrap()),
                    _ => turn(&mut sim, &mut clients, id, draw(6) == 0),
                }
                let mut seen = Share::new();
                for (id, client) in &clients {
                    for place in client.owned.iter().filter(|_| sim.group.members.contains_key(*id)) {
                        assert!(seen.insert(*place), "seed {seed}: {place:?} has two owners");
                    }
                }
            }
            // when all goes well again, those that were fenced come back after a session at the latest
            for _ in 0..40 {
                sim.pass(500);
                for id in ids {
                    turn(&mut sim, &mut clients, id, false);
                }
            }
            assert_eq!(sim.group.state(), "Stable", "seed {seed}: {:?}", sim.group);
            let owned: usize = clients.values().map(|client| client.owned.len()).sum();
            let partitions = sim.catalog.topics["t"].partitions;
            assert_eq!(owned, usize::try_from(partitions).unwrap(), "seed {seed}");
            assert!(sim.group.members.values().all(|member| member.progress == Progress::Stable));
        }
    }

    /// One heartbeat of a client, and what it does with the answer.
    fn turn<'a>(sim: &mut Sim, clients: &mut HashMap<&'a str, Client>, id: &'a str, lost: bool) {
        let client = clients.entry(id).or_default();
        let joins = client.epoch == JOINING;
        let beat = if joins || client.unsure {
            Heartbeat { epoch: client.epoch, owned: Some(client.owned.clone()), ..joining(id) }
        } else {
            Heartbeat { owned: Some(client.owned.clone()), ..hello(id, client.epoch) }
        };
        match sim.beat(beat) {
            Err(_) => *client = Client::default(), // fenced or given up: it owns nothing, and joins again
            Ok(_) if lost => client.unsure = true,
            Ok(beat) => {
                client.epoch = beat.epoch;
                client.unsure = false;
                if let Some(share) = beat.share {
                    client.owned = share;
                }
            }
        }
    }
}
