//! First in, first out.
//!
//! Owns the order of arrival; knows places only, no keys and no sizes.
//! Invariant: from front to back the entries are in the order in which they came.

use super::{Entry, Evict, Place};
use crate::cache::chain::Chain;

/// Evicts what came first, read or not. Constant time, nothing to do for a hit, 8 bytes an entry.
#[derive(Debug, Default)]
pub struct Fifo {
    chain: Chain,
}

impl Fifo {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Evict for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn on_insert(&mut self, place: Place, _entry: Entry<'_>) {
        self.chain.push_back(place);
    }

    fn on_access(&mut self, _place: Place) {}

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
    use crate::cache::evict::suite::{self, Steps, faults, steps};

    #[derive(Debug, Default)]
    struct Naive(Vec<Place>);

    impl Evict for Naive {
        fn on_insert(&mut self, place: Place, _entry: Entry<'_>) {
            self.0.push(place);
        }

        fn on_access(&mut self, _place: Place) {}

        fn on_remove(&mut self, place: Place) {
            self.0.retain(|other| *other != place);
        }

        fn victim(&mut self) -> Option<Place> {
            self.0.first().copied()
        }
    }

    proptest! {
        #[test]
        fn fifo_is_a_list_of_arrivals(steps in steps()) {
            suite::compare(&mut Fifo::new(), &mut Naive::default(), &steps);
        }
    }

    /// Belady, Nelson and Shedler, "An anomaly in space-time characteristics of certain programs
    /// running in a paging machine", CACM 12(6), 1969: more memory, more faults.
    #[test]
    fn it_has_beladys_anomaly() {
        let pages = Steps::reads([1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5]);
        assert_eq!(faults(&mut Fifo::new(), 3, &pages), 9);
        assert_eq!(faults(&mut Fifo::new(), 4, &pages), 10);
    }

    /// The reference string of Silberschatz, Galvin and Gagne, "Operating System Concepts".
    #[test]
    fn it_faults_as_often_as_the_textbook_says() {
        assert_eq!(faults(&mut Fifo::new(), 3, &suite::textbook()), 15);
    }
}
