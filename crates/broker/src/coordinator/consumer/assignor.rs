//! Who shall own what: the two assignors that Apache Kafka's brokers have, `uniform` and `range`.
//!
//! Invariants: every partition of a subscribed topic has exactly one owner, and that owner is subscribed to its topic;
//! the same input gives the same output.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::group::{Group, Place, Share};

/// Rounds of balancing; members that read different topics may need several, and are left as they are then.
const BALANCE_ROUNDS_MAX: usize = 8;

/// A way to share partitions out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Assignor {
    /// Balanced over all topics, and as little moves as balance allows.
    #[default]
    Uniform,
    /// Topic by topic in contiguous ranges, so that equal partitions of topics with the same readers meet.
    Range,
}

impl Assignor {
    pub(crate) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The shares of all members of the group; members without any have an empty one.
    pub(super) fn assign(self, group: &Group) -> BTreeMap<String, Share> {
        let readers = readers(group);
        match self {
            Self::Uniform => uniform(group, &readers),
            Self::Range => range(group, &readers),
        }
    }
}

/// The members that read each topic, with the topic's partitions.
type Readers<'a> = BTreeMap<Uuid, (i32, BTreeSet<&'a str>)>;

fn readers(group: &Group) -> Readers<'_> {
    let mut readers = Readers::new();
    for (id, member) in &group.members {
        for name in group.subscribed(id, member) {
            if let Some((topic, partitions)) = group.topics.get(name) {
                readers.entry(*topic).or_insert_with(|| (*partitions, BTreeSet::new())).1.insert(id);
            }
        }
    }
    readers
}

fn range(group: &Group, readers: &Readers<'_>) -> BTreeMap<String, Share> {
    let mut shares: BTreeMap<String, Share> = group.members.keys().map(|id| (id.clone(), Share::new())).collect();
    for (topic, (partitions, members)) in readers {
        let mut members: Vec<&str> = members.iter().copied().collect();
        // static members first, so that they keep their places under every member id
        members.sort_by_cached_key(|id| {
            let instance = group.members.get(*id).and_then(|member| member.instance_id.as_deref());
            (instance.is_none(), instance, *id)
        });
        let count = i32::try_from(members.len()).unwrap_or(i32::MAX);
        let (each, rest) = (partitions / count, partitions % count);
        let mut next = 0;
        for (at, id) in (0..).zip(members) {
            let size = each + i32::from(at < rest);
            if let Some(share) = shares.get_mut(id) {
                share.extend((next..next + size).map(|partition| (*topic, partition)));
            }
            next += size;
        }
    }
    shares
}

fn uniform(group: &Group, readers: &Readers<'_>) -> BTreeMap<String, Share> {
    let mut table = Table::new(group.members.keys());
    let mut free: BTreeSet<Place> = BTreeSet::new();
    for (topic, (partitions, _)) in readers {
        free.extend((0..*partitions).map(|partition| (*topic, partition)));
    }
    // what a member shall own already stays with it, if it still may
    for (id, share) in &group.target {
        for place in share {
            let may = readers.get(&place.0).is_some_and(|(_, members)| members.contains(id.as_str()));
            if may && free.remove(place) {
                table.give(id, *place);
            }
        }
    }
    for place in free {
        let Some((_, members)) = readers.get(&place.0) else { continue };
        if let Some(id) = table.lightest(members) {
            table.give(&id, place);
        }
    }
    table.balance(readers);
    table.shares
}

/// Shares, and the members in the order of their load.
struct Table {
    shares: BTreeMap<String, Share>,
    loads: BTreeSet<(usize, String)>,
}

impl Table {
    fn new<'a>(members: impl Iterator<Item = &'a String>) -> Self {
        let shares: BTreeMap<String, Share> = members.map(|id| (id.clone(), Share::new())).collect();
        let loads = shares.keys().map(|id| (0, id.clone())).collect();
        Self { shares, loads }
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Share)) {
        let Some(share) = self.shares.get_mut(id) else { return };
        self.loads.remove(&(share.len(), id.to_owned()));
        change(share);
        self.loads.insert((share.len(), id.to_owned()));
    }

    fn give(&mut self, id: &str, place: Place) {
        self.change(id, |share| {
            share.insert(place);
        });
    }

    fn lightest(&self, among: &BTreeSet<&str>) -> Option<String> {
        self.loads.iter().find(|(_, id)| among.contains(id.as_str())).map(|(_, id)| id.clone())
    }

    /// Moves partitions from the heaviest member to the lightest that may have them, until no move makes two loads more
    /// alike. Each move makes the sum of the squares of the loads smaller, so a round ends.
    fn balance(&mut self, readers: &Readers<'_>) {
        for _ in 0..BALANCE_ROUNDS_MAX {
            let (mut moved, mut settled) = (false, BTreeSet::new());
            while let Some(from) = self.heaviest(&settled) {
                let Some((to, place)) = self.relief(&from, readers) else {
                    settled.insert(from);
                    continue;
                };
                self.change(&from, |share| {
                    share.remove(&place);
                });
                self.give(&to, place);
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    fn heaviest(&self, settled: &BTreeSet<String>) -> Option<String> {
        self.loads.iter().rev().map(|(_, id)| id).find(|id| !settled.contains(*id)).cloned()
    }

    /// A partition that a member can hand to a lighter one.
    fn relief(&self, id: &str, readers: &Readers<'_>) -> Option<(String, Place)> {
        let share = self.shares.get(id)?;
        let lighter = self.loads.iter().take_while(|(load, _)| load + 1 < share.len());
        for (_, other) in lighter {
            let may = |topic: &Uuid| readers.get(topic).is_some_and(|(_, members)| members.contains(other.as_str()));
            // the last ones go: the first came first
            if let Some(place) = share.iter().rev().find(|(topic, _)| may(topic)) {
                return Some((other.clone(), *place));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::group::Member;
    use super::*;

    fn group(topics: &[(&str, i32)], members: &[(&str, &[&str])]) -> Group {
        let mut group = Group::default();
        for (at, (name, partitions)) in topics.iter().enumerate() {
            group.topics.insert((*name).to_owned(), (Uuid::from_u128(at as u128 + 1), *partitions));
        }
        for (id, names) in members {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            group.members.insert((*id).to_owned(), Member { names, ..Member::default() });
        }
        group
    }

    fn owners(shares: &BTreeMap<String, Share>) -> usize {
        shares.values().map(Share::len).sum()
    }

    fn loads(shares: &BTreeMap<String, Share>) -> Vec<usize> {
        shares.values().map(Share::len).collect()
    }

    #[test]
    fn range_gives_equal_partitions_of_topics_to_one_member() {
        let group = group(&[("a", 5), ("b", 5)], &[("x", &["a", "b"]), ("y", &["a", "b"])]);
        let shares = Assignor::Range.assign(&group);
        let numbers = |id: &str| shares[id].iter().map(|(_, partition)| *partition).collect::<Vec<_>>();
        assert_eq!((numbers("x"), numbers("y")), (vec![0, 1, 2, 0, 1, 2], vec![3, 4, 3, 4]));
    }

    #[test]
    fn uniform_is_balanced_and_moves_as_little_as_it_can() {
        let mut group = group(&[("a", 5), ("b", 4)], &[("x", &["a", "b"]), ("y", &["a", "b"]), ("z", &["a", "b"])]);
        group.target = Assignor::Uniform.assign(&group);
        assert_eq!(loads(&group.target), [3, 3, 3]);
        let before = group.target.clone();
        group.members.remove("z");
        group.target = Assignor::Uniform.assign(&group);
        assert_eq!(owners(&group.target), 9);
        assert!(before["x"].is_subset(&group.target["x"]) && before["y"].is_subset(&group.target["y"]));
        let before = group.target.clone();
        group.members.insert("w".to_owned(), group.members["x"].clone());
        group.target = Assignor::Uniform.assign(&group);
        assert_eq!(loads(&group.target), [3, 3, 3]);
        assert!(group.target["x"].is_subset(&before["x"]) && group.target["y"].is_subset(&before["y"]));
    }

    #[test]
    fn uniform_gives_nobody_what_it_does_not_read() {
        let group = group(&[("a", 6), ("b", 2)], &[("x", &["a"]), ("y", &["a", "b"]), ("z", &["c"])]);
        let shares = Assignor::Uniform.assign(&group);
        assert_eq!(loads(&shares), [4, 4, 0]);
        assert!(shares["x"].iter().all(|(topic, _)| *topic == Uuid::from_u128(1)));
    }

    #[test]
    fn more_members_than_partitions_leaves_some_without() {
        for assignor in Assignor::ALL {
            let group = group(&[("a", 2)], &[("x", &["a"]), ("y", &["a"]), ("z", &["a"])]);
            let shares = assignor.assign(&group);
            assert_eq!((owners(&shares), shares.len()), (2, 3), "{}", assignor.name());
        }
    }
}
