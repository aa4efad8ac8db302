//! SIEVE: one queue, one bit an entry, one hand.
//!
//! Owns the queue and the bits; knows places only, no keys and no sizes.
//! Invariant: an entry never changes its place in the queue; only the hand moves.

use super::by_place::ByPlace;
use super::{Entry, Evict, Place};
use crate::cache::chain::Chain;

/// Evicts what was not read since the hand last went by. Amortised constant time, one bit to set
/// for a hit, 9 bytes an entry.
///
/// Zhang, Yang, Yue, Vigfusson and Rashmi, "SIEVE is simpler than LRU: an efficient turn-key
/// eviction algorithm for web caches", NSDI 2024.
#[derive(Debug, Default)]
pub struct Sieve {
    /// From the oldest to the newest.
    chain: Chain,
    visited: ByPlace<bool>,
    /// Where the next search begins; `None` is the oldest.
    hand: Option<Place>,
    /// How often the hand went by an entry that had been read.
    spared: u64,
}

impl Sieve {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Evict for Sieve {
    fn name(&self) -> &'static str {
        "sieve"
    }

    fn on_insert(&mut self, place: Place, _entry: Entry<'_>) {
        self.visited.set(place, false);
        self.chain.push_back(place);
    }

    fn on_access(&mut self, place: Place) {
        self.visited.set(place, true);
    }

    fn on_remove(&mut self, place: Place) {
        if self.hand == Some(place) {
            self.hand = self.chain.after(place);
        }
        self.chain.remove(place);
    }

    fn victim(&mut self) -> Option<Place> {
        let mut at = self.hand.or(self.chain.front())?;
        // Ends within two rounds: the first clears every bit that it meets.
        while self.visited.get(at) {
            self.visited.set(at, false);
            self.spared += 1;
            at = self.chain.after(at).or(self.chain.front())?;
        }
        self.hand = Some(at);
        self.hand
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("spared", self.spared)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::evict::suite::{self, Steps, evicted, steps};

    /// The paper's Algorithm 1 over a plain list, newest first.
    #[derive(Debug, Default)]
    struct Naive {
        queue: Vec<(Place, bool)>,
        hand: Option<Place>,
    }

    impl Naive {
        fn index(&self, place: Place) -> usize {
            self.queue.iter().position(|(other, _)| *other == place).unwrap()
        }

        fn before(&self, index: usize) -> Option<Place> {
            Some(self.queue[index.checked_sub(1)?].0)
        }
    }

    impl Evict for Naive {
        fn on_insert(&mut self, place: Place, _entry: Entry<'_>) {
            self.queue.insert(0, (place, false));
        }

        fn on_access(&mut self, place: Place) {
            let index = self.index(place);
            self.queue[index].1 = true;
        }

        fn on_remove(&mut self, place: Place) {
            let index = self.index(place);
            if self.hand == Some(place) {
                self.hand = self.before(index);
            }
            self.queue.remove(index);
        }

        fn victim(&mut self) -> Option<Place> {
            let tail = self.queue.len().checked_sub(1)?;
            let mut index = self.hand.map_or(tail, |place| self.index(place));
            while self.queue[index].1 {
                self.queue[index].1 = false;
                index = self.before(index).map_or(tail, |place| self.index(place));
            }
            self.hand = Some(self.queue[index].0);
            self.hand
        }
    }

    proptest! {
        #[test]
        fn sieve_is_the_papers_algorithm(steps in steps()) {
            suite::compare(&mut Sieve::new(), &mut Naive::default(), &steps);
        }
    }

    /// The paper's illustration: A, B and G were visited, then come H, A, D, I, B, J.
    #[test]
    fn it_does_what_the_papers_figure_shows() {
        let reads = "AABBCDEFGGHADIBJ".bytes().map(u32::from);
        let gone: Vec<u32> = "CEF".bytes().map(u32::from).collect();
        let mut sieve = Sieve::new();
        assert_eq!(evicted(&mut sieve, 7, &Steps::reads(reads)), gone);
        // A and B before C, D before E.
        assert_eq!(sieve.counters(), [("spared", 3)]);
    }
}
