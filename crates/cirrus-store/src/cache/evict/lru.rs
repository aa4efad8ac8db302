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
    use proptest::prelude::*;

    use super::*;
    use crate::cache::evict::suite::{self, faults, steps};

    #[derive(Debug, Default)]
    struct Naive(Vec<Place>);

    impl Evict for Naive {
        fn on_insert(&mut self, place: Place, _entry: Entry<'_>) {
            self.0.push(place);
        }

        fn on_access(&mut self, place: Place) {
            self.on_remove(place);
            self.0.push(place);
        }

        fn on_remove(&mut self, place: Place) {
            self.0.retain(|other| *other != place);
        }

        fn victim(&mut self) -> Option<Place> {
            self.0.first().copied()
        }
    }

    proptest! {
        #[test]
        fn lru_is_a_list_of_last_reads(steps in steps()) {
            suite::compare(&mut Lru::new(), &mut Naive::default(), &steps);
        }
    }

    /// The reference string of Silberschatz, Galvin and Gagne, "Operating System Concepts".
    #[test]
    fn it_faults_as_often_as_the_textbook_says() {
        assert_eq!(faults(&mut Lru::new(), 3, &suite::textbook()), 12);
    }
}
