//! A table of points: state found by asset and parameter without copying either.
//!
//! Ids are small numbers that stay with a point until it is removed, so that timers and queues can name it cheaply.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Guesses that may fail in a row before all but one in 256 are spared: the order is none.
const WRONG_MAX: u8 = 32;

/// State by (asset, parameter).
#[derive(Debug)]
pub struct PointTable<T> {
    index: HashTable<u32>,
    slots: Vec<Option<Slot<T>>>,
    free: Vec<u32>,
    hasher: RandomState,
    /// The point found last, which foretells the next one.
    last: u32,
    /// Wrong guesses in a row.
    wrong: u8,
    /// Counts lookups, so that now and then one is guessed again.
    turn: u8,
}

#[derive(Debug)]
struct Slot<T> {
    /// Asset and parameter behind each other, so that one line of memory answers "is it this one".
    names: Box<str>,
    asset_length: u32,
    /// The point that was looked for after this one last time: machines are read in the same order again and again.
    follower: u32,
    state: T,
}

impl<T> Slot<T> {
    fn is(&self, asset: &str, parameter: &str) -> bool {
        let names = self.names.as_bytes();
        self.asset_length as usize == asset.len()
            && names.len() == asset.len() + parameter.len()
            && names[..asset.len()] == *asset.as_bytes()
            && names[asset.len()..] == *parameter.as_bytes()
    }
}

#[inline]
fn hash_of(hasher: &RandomState, asset: &str, parameter: &str) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(asset.as_bytes());
    hasher.write_u8(0xff); // no byte of UTF-8: "ab"+"c" and "a"+"bc" differ
    hasher.write(parameter.as_bytes());
    hasher.finish()
}

impl<T> Default for PointTable<T> {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            hasher: RandomState::default(),
            last: 0,
            wrong: 0,
            turn: 0,
        }
    }
}

impl<T> PointTable<T> {
    fn hash(&self, asset: &str, parameter: &str) -> u64 {
        hash_of(&self.hasher, asset, parameter)
    }

    /// The same as [`PointTable::find`], quicker where points come in the order they came in before.
    #[inline]
    pub fn find_next(&mut self, asset: &str, parameter: &str) -> Option<u32> {
        self.turn = self.turn.wrapping_add(1);
        if self.wrong < WRONG_MAX || self.turn == 0 {
            let slot = |id: u32| self.slots.get(id as usize).and_then(Option::as_ref);
            let follower = slot(self.last).map(|slot| slot.follower);
            if let Some(id) = follower.filter(|id| slot(*id).is_some_and(|slot| slot.is(asset, parameter))) {
                (self.last, self.wrong) = (id, 0);
                return Some(id);
            }
            self.wrong = self.wrong.saturating_add(1);
        }
        let found = self.find(asset, parameter)?;
        if let Some(Some(last)) = self.slots.get_mut(self.last as usize) {
            last.follower = found;
        }
        self.last = found;
        Some(found)
    }

    /// The point's id, when it is known.
    #[inline]
    pub fn find(&self, asset: &str, parameter: &str) -> Option<u32> {
        let found = |id: &u32| self.slots[*id as usize].as_ref().is_some_and(|slot| slot.is(asset, parameter));
        self.index.find(self.hash(asset, parameter), found).copied()
    }

    /// The point's id; a new point begins with `state`. Ids end at 2^32, far above any limit set on a table.
    pub fn find_or_insert_with(&mut self, asset: &str, parameter: &str, state: impl FnOnce() -> T) -> u32 {
        if let Some(id) = self.find(asset, parameter) {
            return id;
        }
        let hash = self.hash(asset, parameter);
        let asset_length = u32::try_from(asset.len()).expect("a name on the wire is shorter than 4 GiB");
        let mut names = String::with_capacity(asset.len() + parameter.len());
        names.push_str(asset);
        names.push_str(parameter);
        let slot = Slot { names: names.into_boxed_str(), asset_length, follower: 0, state: state() };
        let id = if let Some(id) = self.free.pop() {
            self.slots[id as usize] = Some(slot);
            id
        } else {
            self.slots.push(Some(slot));
            u32::try_from(self.slots.len() - 1).expect("tables are limited far below 2^32 points")
        };
        let Self { index, slots, hasher, .. } = self;
        index.insert_unique(hash, id, |id| {
            slots[*id as usize].as_ref().map_or(0, |slot| {
                let (asset, parameter) = slot.names.split_at(slot.asset_length as usize);
                hash_of(hasher, asset, parameter)
            })
        });
        id
    }

    pub fn get(&self, id: u32) -> Option<&T> {
        self.slots.get(id as usize)?.as_ref().map(|slot| &slot.state)
    }

    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.slots.get_mut(id as usize)?.as_mut().map(|slot| &mut slot.state)
    }

    /// Asset, parameter and state of a point.
    pub fn entry_mut(&mut self, id: u32) -> Option<(&str, &str, &mut T)> {
        let slot = self.slots.get_mut(id as usize)?.as_mut()?;
        let (asset, parameter) = slot.names.split_at(slot.asset_length as usize);
        Some((asset, parameter, &mut slot.state))
    }

    /// The points of an asset. Looks at all there are.
    pub fn of_asset(&self, asset: &str) -> impl Iterator<Item = u32> {
        let is_of = move |slot: &Slot<T>| {
            slot.asset_length as usize == asset.len() && slot.names.as_bytes().starts_with(asset.as_bytes())
        };
        let ids = (0_u32..).zip(&self.slots);
        ids.filter(move |(_, slot)| slot.as_ref().is_some_and(is_of)).map(|(id, _)| id)
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Removes the points whose state is not worth keeping; their ids are given out again.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let Self { index, slots, free, .. } = self;
        index.retain(|id| {
            let slot = &mut slots[*id as usize];
            let kept = slot.as_ref().is_some_and(|slot| keep(&slot.state));
            if !kept {
                *slot = None;
                free.push(*id);
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_join_to_the_same_text_are_different_points() {
        let mut table = PointTable::default();
        let a = table.find_or_insert_with("ab", "c", || 1);
        let b = table.find_or_insert_with("a", "bc", || 2);
        assert_ne!(a, b);
        assert_eq!(table.find("ab", "c"), Some(a));
        assert_eq!(table.entry_mut(b), Some(("a", "bc", &mut 2)));
        assert_eq!(table.find("abc", ""), None);
        assert_eq!((table.of_asset("ab").collect::<Vec<_>>(), table.of_asset("abc").count()), (vec![a], 0));
    }

    #[test]
    fn a_guess_is_never_another_point() {
        let mut table = PointTable::default();
        let names: Vec<String> = (0..50).map(|i| format!("asset_{}", i % 7)).collect();
        let ids: Vec<u32> = (0..50).map(|i| table.find_or_insert_with(&names[i], &format!("p{i}"), || i)).collect();
        let mut state = 1_usize;
        for round in 0..2000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            // in order for a while, then in none
            let i = if round % 400 < 200 { round % 50 } else { (state >> 33) % 50 };
            assert_eq!(table.find_next(&names[i], &format!("p{i}")), Some(ids[i]));
        }
        table.retain(|state| *state != 3);
        assert_eq!(table.find_next(&names[2], "p2"), Some(ids[2]));
        assert_eq!(table.find_next(&names[3], "p3"), None, "its place is empty");
    }

    #[test]
    fn ids_stay_while_others_come_and_go() {
        let mut table = PointTable::default();
        let ids: Vec<u32> = (0..1000).map(|i| table.find_or_insert_with(&format!("asset_{i}"), "t", || i)).collect();
        table.retain(|state| state % 3 == 0);
        assert_eq!(table.len(), 334);
        for (i, id) in ids.iter().enumerate() {
            let kept = (i % 3 == 0).then_some(*id);
            assert_eq!(table.find(&format!("asset_{i}"), "t"), kept);
            assert_eq!(table.get(*id).copied(), kept.map(|_| i));
        }
        let reused = table.find_or_insert_with("new", "t", || 7);
        assert!(ids.contains(&reused));
        assert_eq!(table.find("new", "t"), Some(reused));
    }
}
