//! First-out groups: which alarm of a trip came first (ALM-14).
//!
//! The first announced alarm since all of a group were normal has rank 1, the next 2, and so on; an alarm that comes
//! again keeps its rank. When no ranked alarm stands any more, all ranks of the group are gone. Groups may span assets
//! and lanes; across lanes the ranks follow the order in which the engine was told.

/// Ranks given out in one group; further alarms get none until the group is normal.
const RANKS_MAX: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) lane: usize,
    pub(super) alarm: u32,
}

#[derive(Debug, Default)]
struct Group {
    /// Counts the times the group became normal, so that a rank that was saved before one is not believed after it.
    episode: i64,
    ranked: Vec<Ranked>,
}

#[derive(Debug, Clone, Copy)]
struct Ranked {
    member: Member,
    rank: i32,
    episode: i64,
    standing: bool,
}

/// All groups, by their number in the plan.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
}

impl Groups {
    pub(super) fn new(count: usize) -> Self {
        Self { groups: std::iter::repeat_with(Group::default).take(count).collect() }
    }

    /// Rank of an alarm and the episode it belongs to.
    pub(super) fn rank(&self, group: u32, member: Member) -> Option<(i32, i64)> {
        let found = self.groups.get(group as usize)?.ranked.iter().find(|ranked| ranked.member == member)?;
        Some((found.rank, found.episode))
    }

    /// An alarm was announced.
    pub(super) fn announced(&mut self, group: u32, member: Member) {
        let Some(group) = self.groups.get_mut(group as usize) else { return };
        if let Some(found) = group.ranked.iter_mut().find(|ranked| ranked.member == member) {
            found.standing = true;
        } else if group.ranked.len() < RANKS_MAX {
            let rank = group.ranked.iter().map(|ranked| ranked.rank).max().unwrap_or(0) + 1;
            group.ranked.push(Ranked { member, rank, episode: group.episode, standing: true });
        }
    }

    /// An alarm stands, or does not any more. Unranked ones do not count.
    pub(super) fn update(&mut self, group: u32, member: Member, standing: bool) {
        let Some(group) = self.groups.get_mut(group as usize) else { return };
        let Some(found) = group.ranked.iter_mut().find(|ranked| ranked.member == member) else { return };
        found.standing = standing;
        if !standing {
            group.settle();
        }
    }

    /// A saved rank.
    pub(super) fn restore(&mut self, group: u32, member: Member, (rank, episode): (i32, i64), standing: bool) {
        let Some(group) = self.groups.get_mut(group as usize) else { return };
        group.episode = group.episode.max(episode);
        if group.ranked.len() < RANKS_MAX {
            group.ranked.push(Ranked { member, rank, episode, standing });
        }
    }

    /// After everything was restored: drops what belongs to an earlier episode.
    pub(super) fn reconcile(&mut self) {
        for group in &mut self.groups {
            let episode = group.episode;
            group.ranked.retain(|ranked| ranked.episode == episode);
            if !group.ranked.is_empty() {
                group.settle();
            }
        }
    }
}

impl Group {
    fn settle(&mut self) {
        if !self.ranked.iter().any(|ranked| ranked.standing) {
            self.ranked.clear();
            self.episode += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_up_until_all_are_normal() {
        // ALM-14
        let member = |alarm| Member { lane: 0, alarm };
        let rank = |groups: &Groups, alarm| groups.rank(0, member(alarm)).map(|(rank, _)| rank);
        let mut groups = Groups::new(1);
        groups.announced(0, member(7));
        groups.announced(0, member(3));
        groups.update(0, member(7), false);
        groups.announced(0, member(7));
        assert_eq!((rank(&groups, 7), rank(&groups, 3)), (Some(1), Some(2)), "it keeps its rank");
        groups.update(0, member(7), false);
        groups.update(0, member(3), false);
        assert_eq!((rank(&groups, 7), rank(&groups, 3)), (None, None));
        groups.announced(0, member(3));
        assert_eq!(groups.rank(0, member(3)), Some((1, 1)));
    }

    #[test]
    fn a_rank_of_an_earlier_episode_is_not_believed() {
        // ALM-10, ALM-14
        let member = |alarm| Member { lane: 0, alarm };
        let mut groups = Groups::new(1);
        groups.restore(0, member(1), (1, 4), false);
        groups.restore(0, member(2), (1, 5), true);
        groups.reconcile();
        assert_eq!(groups.rank(0, member(1)), None);
        groups.announced(0, member(1));
        assert_eq!(groups.rank(0, member(1)), Some((2, 5)));
    }
}
