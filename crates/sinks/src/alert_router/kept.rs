//! Maps that know which entries changed, so that a journal writes these and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A map by name whose changes are told apart.
#[derive(Debug)]
pub struct Kept<V> {
    entries: BTreeMap<String, V>,
    changed: BTreeSet<String>,
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), changed: BTreeSet::new() }
    }
}

impl<V> Kept<V> {
    pub fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key)
    }

    /// The entry, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        self.changed.insert(key.to_owned());
        Some(entry)
    }

    pub fn insert(&mut self, key: impl Into<String>, value: V) {
        let key = key.into();
        self.changed.insert(key.clone());
        self.entries.insert(key, value);
    }

    pub fn remove(&mut self, key: &str) -> Option<V> {
        let removed = self.entries.remove(key)?;
        self.changed.insert(key.to_owned());
        Some(removed)
    }

    pub fn contains(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Entries whose key begins with `prefix`, in order.
    pub fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, &V)> {
        let from = self.entries.range(prefix.to_owned()..);
        from.take_while(move |(key, _)| key.starts_with(prefix)).map(|(key, value)| (key.as_str(), value))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A change of one entry of one map: which map, which entry, what it is now.
pub type Change = (String, String, Option<Value>);

impl<V: Serialize + DeserializeOwned> Kept<V> {
    /// Appends what changed since the last call.
    pub fn take_changes(&mut self, table: &str, changes: &mut Vec<Change>) {
        for key in std::mem::take(&mut self.changed) {
            let value = self.entries.get(&key).and_then(|value| serde_json::to_value(value).ok());
            changes.push((table.to_owned(), key, value));
        }
    }

    /// Appends every entry.
    pub fn all(&self, table: &str, changes: &mut Vec<Change>) {
        for (key, value) in &self.entries {
            changes.push((table.to_owned(), key.clone(), serde_json::to_value(value).ok()));
        }
    }

    /// Takes a change from a journal over; one that is not understood is an error.
    pub fn apply(&mut self, key: String, value: Option<Value>) -> Result<(), serde_json::Error> {
        match value {
            Some(value) => {
                self.entries.insert(key, serde_json::from_value(value)?);
            }
            None => {
                self.entries.remove(&key);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_once_and_bring_another_map_to_the_same() {
        let (mut one, mut two) = (Kept::<u32>::default(), Kept::<u32>::default());
        one.insert("a", 1);
        one.insert("b/1", 2);
        one.insert("b/2", 3);
        *one.get_mut("a").unwrap() += 1;
        one.remove("b/1");
        assert_eq!(one.remove("never"), None);
        let mut changes = Vec::new();
        one.take_changes("t", &mut changes);
        assert_eq!(changes.len(), 3);
        for (_, key, value) in changes.drain(..) {
            two.apply(key, value).unwrap();
        }
        assert_eq!((two.get("a"), two.len()), (Some(&2), 2));
        assert_eq!(one.with_prefix("b/").map(|(key, _)| key).collect::<Vec<_>>(), ["b/2"]);
        one.take_changes("t", &mut changes);
        assert!(changes.is_empty(), "told once");
        assert!(two.apply("a".to_owned(), Some(Value::from("x"))).is_err());
    }
}
