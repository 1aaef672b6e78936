//! How many connections there are: in all, and of each address or user.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    InAll,
    OfOne,
}

/// Places for connections.
#[derive(Debug)]
pub(crate) struct Places<K> {
    most: usize,
    most_of_one: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    /// Holds only those who have one.
    of: HashMap<K, usize>,
}

/// The right to one connection; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Hash + Eq> {
    places: Arc<Places<K>>,
    of: K,
}

impl<K: Hash + Eq + Clone> Places<K> {
    pub(crate) fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        let taken = Mutex::new(Taken { all: 0, of: HashMap::new() });
        Arc::new(Self { most, most_of_one, taken })
    }

    pub(crate) fn take(places: &Arc<Self>, of: &K) -> Result<Place<K>, Full> {
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= places.most {
            return Err(Full::InAll);
        }
        if taken.of.get(of).is_some_and(|count| *count >= places.most_of_one) {
            return Err(Full::OfOne);
        }
        taken.all += 1;
        *taken.of.entry(of.clone()).or_default() += 1;
        drop(taken);
        Ok(Place { places: Arc::clone(places), of: of.clone() })
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(count) = taken.of.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                taken.of.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // STR-13
    #[test]
    fn places_are_limited_of_each_and_in_all() {
        let places = Places::new(3, 2);
        let first = Places::take(&places, &"a").unwrap();
        let _second = Places::take(&places, &"a").unwrap();
        assert_eq!(Places::take(&places, &"a").unwrap_err(), Full::OfOne);
        let third = Places::take(&places, &"b").unwrap();
        assert_eq!(Places::take(&places, &"b").unwrap_err(), Full::InAll);
        drop(first);
        let _fourth = Places::take(&places, &"a").unwrap();
        drop(third);
        assert!(!places.taken.lock().unwrap().of.contains_key("b"), "who left is forgotten");
    }
}
