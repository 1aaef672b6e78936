//! One member's way to its target: give back first, move to the new epoch, then take.
//!
//! Invariant: a partition is in the hands of one member at most, from the moment it is assigned until the member has
//! said that it gave it back, or is gone. Look next at `state.rs`, which calls this at each heartbeat.

use super::group::{Member, Place, Progress, Share};
use crate::coordinator::Millis;

/// What the group wants of a member.
#[derive(Debug)]
pub(super) struct Goal<'a> {
    pub(super) epoch: i32,
    pub(super) share: &'a Share,
    /// What the member says it owns; `None` when it does not say.
    pub(super) owned: Option<&'a Share>,
}

/// Takes the step that is possible now.
pub(super) fn reconcile(member: &mut Member, goal: &Goal<'_>, taken: impl Fn(&Place) -> bool, now: Millis) {
    match member.progress {
        Progress::Stable if member.epoch == goal.epoch => return,
        Progress::Stable | Progress::Unreleased => step(member, goal, member.epoch, taken),
        Progress::Unrevoked if holds(goal, &member.revoking) => {}
        // all was given back: the member may go on, at least by one epoch
        Progress::Unrevoked => step(member, goal, member.epoch + 1, taken),
    }
    member.revoke_due = match member.progress {
        Progress::Unrevoked => member.revoke_due.or(Some(now + member.rebalance_ms)),
        Progress::Stable | Progress::Unreleased => None,
    };
}

/// True unless the member says that it has none of these any more.
fn holds(goal: &Goal<'_>, places: &Share) -> bool {
    goal.owned.is_none_or(|owned| !owned.is_disjoint(places))
}

fn step(member: &mut Member, goal: &Goal<'_>, epoch: i32, taken: impl Fn(&Place) -> bool) {
    let kept: Share = member.assigned.intersection(goal.share).copied().collect();
    let surplus: Share = member.assigned.difference(goal.share).copied().collect();
    if !surplus.is_empty() && holds(goal, &surplus) {
        if member.progress == Progress::Unrevoked {
            member.revoke_due = None; // another round, another deadline
        }
        advance(member, epoch);
        member.progress = Progress::Unrevoked;
        member.assigned = kept;
        member.revoking = surplus;
        return;
    }
    let mut waits = false;
    let mut assigned = kept;
    for place in goal.share.difference(&member.assigned) {
        if taken(place) {
            waits = true;
        } else {
            assigned.insert(*place);
        }
    }
    advance(member, goal.epoch);
    member.progress = if waits { Progress::Unreleased } else { Progress::Stable };
    member.assigned = assigned;
    member.revoking.clear();
}

fn advance(member: &mut Member, epoch: i32) {
    if member.epoch != epoch {
        member.previous_epoch = member.epoch;
        member.epoch = epoch;
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn share(partitions: &[i32]) -> Share {
        partitions.iter().map(|partition| (Uuid::from_u128(1), *partition)).collect()
    }

    // STR-11
    #[test]
    fn a_member_gives_back_before_it_moves_on_and_takes_only_what_is_free() {
        let free = |_: &Place| false;
        let mut member = Member { epoch: 1, rebalance_ms: 500, assigned: share(&[0, 1, 2]), ..Member::default() };
        let target = share(&[0, 3]);
        let goal = |owned| Goal { epoch: 5, share: &target, owned };
        reconcile(&mut member, &goal(None), free, 10);
        assert_eq!((member.progress, member.epoch, member.revoke_due), (Progress::Unrevoked, 1, Some(510)));
        assert_eq!((&member.assigned, &member.revoking), (&share(&[0]), &share(&[1, 2])));
        let still = share(&[0, 2]);
        reconcile(&mut member, &goal(Some(&still)), free, 20);
        assert_eq!((member.progress, member.epoch, member.revoke_due), (Progress::Unrevoked, 1, Some(510)));
        let given = share(&[0]);
        reconcile(&mut member, &goal(Some(&given)), |place| place.1 == 3, 30);
        assert_eq!((member.progress, member.epoch, member.previous_epoch), (Progress::Unreleased, 5, 1));
        assert_eq!((&member.assigned, member.revoking.len(), member.revoke_due), (&share(&[0]), 0, None));
        reconcile(&mut member, &goal(None), free, 40);
        assert_eq!((member.progress, member.epoch, &member.assigned), (Progress::Stable, 5, &target));
    }
}
