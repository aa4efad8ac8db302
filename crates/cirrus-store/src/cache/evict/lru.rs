//! Least recently used.
//!
//! Owns the order of reads; knows places only, no keys and no sizes.
//! Invariant: from front to back the entries are in the order of their last reads.

use super::{Entry, Evict, Place};
use crate::cache::chain::Chain;

/// Evicts what was not read for the longest time. Constant time and 8 bytes an entry.
#[derive(Debug, Default)]
pub struct Lru {
    chain: Chain,
}

impl Lru {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Evict for Lru {
    fn name(&self) -> &'static str {
        "lru"
    }

    fn on_insert(&mut self, place: Place, _entry: Entry<'_>) {
        self.chain.push_back(place);
    }

    fn on_access(&mut self, place: Place) {
        self.chain.remove(place);
        self.chain.push_back(place);
    }

    fn on_remove(&mut self, place: Place) {
        self.chain.remove(place);
    }

    fn victim(&mut self) -> Option<Place> {
        self.chain.front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lru_is_a_list_of_last_reads(calls in proptest::collection::vec((0u8..4, 0u32..12), 0..300)) {
            let key = crate::Key::try_from("k").unwrap();
            let entry = Entry { key: &key, key_hash: 0, bytes: 1 };
            let (mut lru, mut model) = (Lru::new(), Vec::new());
            for (call, index) in calls {
                let place = Place::new(index);
                let held = model.contains(&place);
                match call {
                    0 if !held => {
                        lru.on_insert(place, entry);
                        model.push(place);
                    }
                    1 | 2 if held => {
                        lru.on_access(place);
                        model.retain(|other| *other != place);
                        model.push(place);
                    }
                    3 if held => {
                        lru.on_remove(place);
                        model.retain(|other| *other != place);
                    }
                    _ => {}
                }
                prop_assert_eq!(lru.victim(), model.first().copied());
            }
        }
    }
}
