//! Least frequently used, with ageing.
//!
//! Owns the count of each entry and the age of the cache; knows places only, no keys, no sizes.
//! Invariant: the age never falls, and no entry's priority is below the age it came or was read at.

use super::by_place::ByPlace;
use super::heap::Heap;
use super::{Entry, Evict, Place};

/// Evicts what was read least often, where each eviction makes all other entries older: an entry's
/// priority is its count of reads plus the priority that the last victim had when the entry was
/// read. Of equals the one leaves that was not read for longest. Logarithmic time, 36 bytes an entry.
///
/// LFU with dynamic ageing: Arlitt, Cherkasova, Dilley, Friedrich and Jin, "Evaluating content
/// management techniques for web proxy caches", Performance Evaluation Review 27(4), 2000.
#[derive(Debug, Default)]
pub struct Lfu {
    order: Heap<Rank>,
    /// How often each entry was read.
    counts: ByPlace<u64>,
    age: u64,
    reads: u64,
    named: Option<Place>,
}

/// Lowest leaves first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    priority: u64,
    /// At which read of all; no two are the same.
    read: u64,
}

impl Lfu {
    /// Nothing held, age 0.
    pub fn new() -> Self {
        Self::default()
    }

    fn rank(&mut self, place: Place, count: u64) {
        self.reads += 1;
        self.counts.set(place, count);
        self.order.set(place, Rank { priority: self.age + count, read: self.reads });
    }
}

impl Evict for Lfu {
    fn name(&self) -> &'static str {
        "lfu"
    }

    fn on_insert(&mut self, place: Place, _entry: Entry<'_>) {
        self.rank(place, 1);
    }

    fn on_access(&mut self, place: Place) {
        if self.order.rank_of(place).is_some() {
            self.rank(place, self.counts.get(place) + 1);
        }
    }

    fn on_remove(&mut self, place: Place) {
        let rank = self.order.rank_of(place);
        self.order.remove(place);
        // What was invalidated says nothing about how old the rest is.
        if let (Some(named), Some(rank)) = (self.named.take(), rank)
            && named == place
        {
            self.age = rank.priority;
        }
    }

    fn victim(&mut self) -> Option<Place> {
        self.named = self.order.lowest();
        self.named
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("age", self.age)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::evict::suite::{self, Steps, evicted, faults, steps};

    #[derive(Debug, Default)]
    struct Naive {
        /// Place, count, priority, last read.
        held: Vec<(Place, u64, u64, u64)>,
        age: u64,
        now: u64,
        named: Option<Place>,
    }

    impl Evict for Naive {
        fn on_insert(&mut self, place: Place, _entry: Entry<'_>) {
            self.now += 1;
            self.held.push((place, 1, self.age + 1, self.now));
        }

        fn on_access(&mut self, place: Place) {
            self.now += 1;
            let entry = self.held.iter_mut().find(|entry| entry.0 == place).unwrap();
            *entry = (place, entry.1 + 1, self.age + entry.1 + 1, self.now);
        }

        fn on_remove(&mut self, place: Place) {
            let index = self.held.iter().position(|entry| entry.0 == place).unwrap();
            let entry = self.held.remove(index);
            if self.named.take() == Some(place) {
                self.age = entry.2;
            }
        }

        fn victim(&mut self) -> Option<Place> {
            let lowest = self.held.iter().min_by_key(|entry| (entry.2, entry.3));
            self.named = lowest.map(|entry| entry.0);
            self.named
        }
    }

    proptest! {
        #[test]
        fn lfu_is_a_scan_for_the_lowest_priority(steps in steps()) {
            suite::compare(&mut Lfu::new(), &mut Naive::default(), &steps);
        }
    }

    #[test]
    fn what_is_read_least_often_leaves_first() {
        let mut lfu = Lfu::new();
        assert_eq!(evicted(&mut lfu, 3, &Steps::reads([1, 1, 1, 2, 2, 3, 4, 2, 5])), [3, 4]);
        assert_eq!(lfu.counters(), [("age", 2)]);
    }

    #[test]
    fn what_was_once_read_often_does_not_stay_for_ever() {
        let popular = (0..4).flat_map(|page| std::iter::repeat_n(page, 100)).chain([4]);
        // Without ageing they fight for the one place that is left: 2,000 faults.
        let later = (0..2000).map(|read| 10 + read % 5);
        let all = faults(&mut Lfu::new(), 5, &Steps::reads(popular.chain(later)));
        assert!((5 + 90..5 + 120).contains(&all), "{all}");
    }
}
