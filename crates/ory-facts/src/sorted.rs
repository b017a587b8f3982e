//! Maps and sets in the order of their keys, made of what an iterator has by putting in one after the other.
//!
//! `collect` sorts first, and has that sort compiled for each place that calls it: it was a third of what is compiled
//! here. What is made here is small.

use std::collections::{BTreeMap, BTreeSet};

/// Makes what `collect` would make: of a key that comes twice, a map has the later value.
pub trait Sorted: Iterator + Sized {
    fn into_map<K: Ord, V>(self) -> BTreeMap<K, V>
    where
        Self: Iterator<Item = (K, V)>,
    {
        let mut map = BTreeMap::new();
        for (key, value) in self {
            map.insert(key, value);
        }
        map
    }

    /// None where one is none.
    fn all_into_map<K: Ord, V>(self) -> Option<BTreeMap<K, V>>
    where
        Self: Iterator<Item = Option<(K, V)>>,
    {
        let mut map = BTreeMap::new();
        for pair in self {
            let (key, value) = pair?;
            map.insert(key, value);
        }
        Some(map)
    }

    fn into_set(self) -> BTreeSet<Self::Item>
    where
        Self::Item: Ord,
    {
        let mut set = BTreeSet::new();
        for item in self {
            set.insert(item);
        }
        set
    }

    /// None where one is none.
    fn all_into_set<T: Ord>(self) -> Option<BTreeSet<T>>
    where
        Self: Iterator<Item = Option<T>>,
    {
        let mut set = BTreeSet::new();
        for item in self {
            set.insert(item?);
        }
        Some(set)
    }
}

impl<I: Iterator> Sorted for I {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_what_collect_makes() {
        let pairs = [("b", 1), ("a", 2), ("b", 3)];
        assert_eq!(pairs.into_iter().into_map(), pairs.into_iter().collect());
        assert_eq!(pairs.into_iter().into_set(), pairs.into_iter().collect());
        for pairs in [pairs.map(Some).to_vec(), vec![Some(("b", 1)), None]] {
            assert_eq!(pairs.clone().into_iter().all_into_map(), pairs.clone().into_iter().collect());
            assert_eq!(pairs.clone().into_iter().all_into_set(), pairs.into_iter().collect());
        }
    }
}
