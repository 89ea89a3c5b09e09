//! Limits concurrent work to a number of places, which keys such as tenants or addresses share. A key gets a place only while
//! it uses fewer places than are free.
//!
//! The first key gets at most half of the places, the second key half of the rest, and so on. So a few keys cannot use all
//! places: it takes 6 keys to use 32 places, and 15 keys to use 20,000. A semaphore per key would need a
//! fixed quota and leave most places unused.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::http::request::problem::{Problem, ProblemCode, RETRY_SOON};

/// All clones of a value share its places. Cloning is cheap.
#[derive(Debug)]
pub(crate) struct Shares<K: Eq + Hash>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K> {
    most: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    of_key: HashMap<K, usize>,
}

/// The reason why a place was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// Every place is in use.
    Full,
    /// The key uses at least as many places as are free.
    KeyHasEnough,
}

impl NoPlace {
    /// The error response: 503 if every place is in use, else 429. The text `things` names the limited work.
    pub(crate) fn problem(self, things: &str) -> Problem {
        let (code, detail) = match self {
            Self::Full => (ProblemCode::Overloaded, format!("too many {things} are in progress")),
            Self::KeyHasEnough => (ProblemCode::RateLimited, format!("you have too many {things} in progress")),
        };
        Problem::new(code).detail(detail).retry_after(RETRY_SOON)
    }
}

/// A reserved place. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place<K: Eq + Hash> {
    shares: Shares<K>,
    key: K,
}

impl<K: Eq + Hash> Clone for Shares<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.shares.0.taken.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(of_key) = taken.of_key.get_mut(&self.key) {
            *of_key = of_key.saturating_sub(1);
            if *of_key == 0 {
                taken.of_key.remove(&self.key);
            }
        }
    }
}

impl<K: Clone + Eq + Hash> Shares<K> {
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most, taken: Mutex::new(Taken { all: 0, of_key: HashMap::new() }) }))
    }

    /// Reserves a place for a key that uses fewer places than are free.
    pub(crate) fn take(&self, key: &K) -> Result<Place<K>, NoPlace> {
        self.take_up_to(key, |free| free)
    }

    /// Reserves a place for a key that may use all places, such as a proxy of many clients.
    pub(crate) fn take_any(&self, key: &K) -> Result<Place<K>, NoPlace> {
        self.take_up_to(key, |_| usize::MAX)
    }

    fn take_up_to(&self, key: &K, most: impl Fn(usize) -> usize) -> Result<Place<K>, NoPlace> {
        let mut taken = self.0.taken.lock();
        let free = self.0.most.saturating_sub(taken.all);
        if free == 0 {
            return Err(NoPlace::Full);
        }
        if taken.of_key.get(key).is_some_and(|of_key| *of_key >= most(free)) {
            return Err(NoPlace::KeyHasEnough);
        }
        *taken.of_key.entry(key.clone()).or_default() += 1;
        taken.all += 1;
        Ok(Place { shares: self.clone(), key: key.clone() })
    }
}

impl<K: Eq + Hash> Shares<K> {
    /// The number of places in use.
    pub(crate) fn count(&self) -> usize {
        self.0.taken.lock().all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_gets_at_most_half_of_the_places() {
        let shares = Shares::new(32);
        let mut held: Vec<_> = std::iter::from_fn(|| shares.take(&"a").ok()).collect();
        assert_eq!((held.len(), shares.take(&"a").unwrap_err()), (16, NoPlace::KeyHasEnough));
        for key in ["b", "c", "d", "e"] {
            let before = held.len();
            held.extend(std::iter::from_fn(|| shares.take(&key).ok()));
            assert!(held.len() > before, "{key}");
        }
        held.clear();
        let taken = shares.0.taken.lock();
        assert!(taken.all == 0 && taken.of_key.is_empty());
    }

    #[test]
    fn a_few_keys_cannot_use_all_places_but_many_keys_can() {
        for (most, keys) in [(32, 6), (20_000, 15)] {
            let shares = Shares::new(most);
            let take_all = |key| std::iter::from_fn(|| shares.take(&key).ok()).collect::<Vec<_>>();
            let mut held: Vec<_> = (1..keys).map(take_all).collect();
            assert!(shares.count() < most, "{most}");
            held.push(take_all(keys));
            assert_eq!(shares.count(), most);
        }
    }

    #[test]
    fn never_gives_more_places_than_exist() {
        let shares = Shares::new(3);
        let held: Vec<_> = ["a", "b", "c"].iter().map(|key| shares.take(key).unwrap()).collect();
        assert_eq!(shares.take(&"d").unwrap_err(), NoPlace::Full);
        drop(held);
        assert!(shares.take(&"d").is_ok());
    }
}
