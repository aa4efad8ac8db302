//! S3-FIFO: a small queue, a main queue, and the names of what left the small one.
//!
//! Owns the two queues and the ghosts; knows places, hashes and sizes, no keys.
//! Invariant: a place is in at most one of the queues, and the ghosts stand for at most as many
//! bytes as the main queue may hold.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::by_place::ByPlace;
use super::{Entry, Evict, Place};
use crate::cache::chain::Chain;

/// The small queue's share of the capacity, as a divisor.
const SMALL_DIVISOR: u64 = 10;
/// Reads that count; further ones say nothing new.
const READS_MAX: u8 = 3;
/// An entry of the small queue that was read more often than this moves to the main queue.
const READS_TO_STAY: u8 = 1;

/// Evicts from a small queue what was read at most once there; what was read more often, and what
/// comes back soon after it left, goes to the main queue, where each read buys another round.
/// Amortised constant time, a counter to raise for a hit, 40 bytes an entry and about 60 for each name
/// of what left.
///
/// Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023;
/// sizes are in bytes here.
#[derive(Debug, Default)]
pub struct S3Fifo {
    small: Chain,
    main: Chain,
    entries: ByPlace<Queued>,
    small_bytes: u64,
    small_bytes_max: u64,
    ghosts: Ghosts,
    named: Option<Place>,
    counts: Counts,
}

#[derive(Debug, Default, Clone, Copy)]
struct Queued {
    hash: u64,
    bytes: u64,
    reads: u8,
    is_small: bool,
}

#[derive(Debug, Default)]
struct Counts {
    ghost_hits: u64,
    moved_to_main: u64,
    small_evictions: u64,
    main_evictions: u64,
}

impl S3Fifo {
    /// Empty queues.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the oldest of the small queue: a victim, or `None` after it was moved.
    fn small_victim(&mut self, oldest: Place) -> Option<Place> {
        let entry = self.entries.get(oldest);
        if entry.reads <= READS_TO_STAY {
            return Some(oldest);
        }
        self.small.remove(oldest);
        self.small_bytes -= entry.bytes;
        self.main.push_back(oldest);
        self.entries.set(oldest, Queued { reads: 0, is_small: false, ..entry });
        self.counts.moved_to_main += 1;
        None
    }

    /// Looks at the oldest of the main queue: a victim, or `None` after it got another round.
    fn main_victim(&mut self, oldest: Place) -> Option<Place> {
        let entry = self.entries.get(oldest);
        let Some(reads) = entry.reads.checked_sub(1) else { return Some(oldest) };
        self.main.remove(oldest);
        self.main.push_back(oldest);
        self.entries.set(oldest, Queued { reads, ..entry });
        None
    }
}

impl Evict for S3Fifo {
    fn name(&self) -> &'static str {
        "s3-fifo"
    }

    fn on_capacity(&mut self, bytes: u64) {
        self.small_bytes_max = bytes / SMALL_DIVISOR;
        self.ghosts.bytes_max = bytes - self.small_bytes_max;
    }

    fn on_insert(&mut self, place: Place, entry: Entry<'_>) {
        let was_here = self.ghosts.take(entry.key_hash);
        let (hash, bytes) = (entry.key_hash, entry.bytes);
        self.entries.set(place, Queued { hash, bytes, reads: 0, is_small: !was_here });
        if was_here {
            self.counts.ghost_hits += 1;
            self.main.push_back(place);
        } else {
            self.small_bytes += bytes;
            self.small.push_back(place);
        }
    }

    fn on_access(&mut self, place: Place) {
        let entry = self.entries.get(place);
        self.entries.set(place, Queued { reads: (entry.reads + 1).min(READS_MAX), ..entry });
    }

    fn on_remove(&mut self, place: Place) {
        let entry = self.entries.get(place);
        let is_evicted = self.named.take() == Some(place);
        if entry.is_small {
            self.small.remove(place);
            self.small_bytes -= entry.bytes;
        } else {
            self.main.remove(place);
        }
        match (is_evicted, entry.is_small) {
            (true, true) => {
                self.counts.small_evictions += 1;
                self.ghosts.add(entry.hash, entry.bytes);
            }
            (true, false) => self.counts.main_evictions += 1,
            // What was invalidated and comes back is another value.
            (false, _) => {}
        }
    }

    /// Every step moves an entry to the main queue or takes a read off one there, so it ends.
    fn victim(&mut self) -> Option<Place> {
        loop {
            let (small, main) = (self.small.front(), self.main.front());
            let is_over = self.small_bytes >= self.small_bytes_max;
            let named = match (small, main) {
                (None, None) => return None,
                (Some(oldest), None) => self.small_victim(oldest),
                (Some(oldest), Some(_)) if is_over => self.small_victim(oldest),
                (_, Some(oldest)) => self.main_victim(oldest),
            };
            if named.is_some() {
                self.named = named;
                return named;
            }
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("ghost_hits", self.counts.ghost_hits),
            ("moved_to_main", self.counts.moved_to_main),
            ("small_evictions", self.counts.small_evictions),
            ("main_evictions", self.counts.main_evictions),
        ]
    }
}

/// Names of what left the small queue, oldest first.
#[derive(Debug, Default)]
struct Ghosts {
    queue: VecDeque<Ghost>,
    /// The serial of each name's latest place in the queue.
    latest: HashMap<u64, u64, foldhash::fast::FixedState>,
    added: u64,
    bytes: u64,
    bytes_max: u64,
}

#[derive(Debug)]
struct Ghost {
    hash: u64,
    serial: u64,
    bytes: u64,
}

impl Ghosts {
    fn add(&mut self, hash: u64, bytes: u64) {
        self.added += 1;
        self.latest.insert(hash, self.added);
        self.queue.push_back(Ghost { hash, serial: self.added, bytes });
        self.bytes += bytes;
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.queue.pop_front()
        {
            self.bytes -= oldest.bytes;
            // The name may have been taken, and may have come again since.
            if self.latest.get(&oldest.hash) == Some(&oldest.serial) {
                self.latest.remove(&oldest.hash);
            }
        }
    }

    /// Whether the name is here; then it is not any more.
    fn take(&mut self, hash: u64) -> bool {
        self.latest.remove(&hash).is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::evict::suite::{self, Steps, evicted, steps};

    /// The paper's Algorithm 1 over plain lists, newest first. There a move into a full main queue
    /// evicts from that; here the queues share the room, so the shares are looked at after each move.
    #[derive(Debug, Default)]
    struct Naive {
        capacity: u64,
        small: Vec<Item>,
        main: Vec<Item>,
        /// Name and size; a name that came back is struck out.
        ghosts: Vec<(Option<u64>, u64)>,
        named: Option<Place>,
    }

    #[derive(Debug, Clone, Copy)]
    struct Item {
        place: Place,
        hash: u64,
        bytes: u64,
        freq: u8,
    }

    impl Naive {
        fn evict_small(&mut self) -> Option<Place> {
            while let Some(mut tail) = self.small.last().copied() {
                if tail.freq <= 1 {
                    return Some(tail.place);
                }
                self.small.pop();
                tail.freq = 0;
                self.main.insert(0, tail);
                let small: u64 = self.small.iter().map(|item| item.bytes).sum();
                if small < self.capacity / 10 {
                    break;
                }
            }
            None
        }

        fn evict_main(&mut self) -> Option<Place> {
            while let Some(mut tail) = self.main.last().copied() {
                if tail.freq == 0 {
                    return Some(tail.place);
                }
                self.main.pop();
                tail.freq -= 1;
                self.main.insert(0, tail);
            }
            None
        }
    }

    impl Evict for Naive {
        fn on_capacity(&mut self, bytes: u64) {
            self.capacity = bytes;
        }

        fn on_insert(&mut self, place: Place, entry: Entry<'_>) {
            let item = Item { place, hash: entry.key_hash, bytes: entry.bytes, freq: 0 };
            let ghost = self.ghosts.iter_mut().find(|ghost| ghost.0 == Some(item.hash));
            match ghost {
                Some(ghost) => {
                    ghost.0 = None;
                    self.main.insert(0, item);
                }
                None => self.small.insert(0, item),
            }
        }

        fn on_access(&mut self, place: Place) {
            let mut items = self.small.iter_mut().chain(&mut self.main);
            let item = items.find(|item| item.place == place).unwrap();
            item.freq = (item.freq + 1).min(3);
        }

        fn on_remove(&mut self, place: Place) {
            let evicted = self.named.take() == Some(place);
            self.main.retain(|item| item.place != place);
            if let Some(index) = self.small.iter().position(|item| item.place == place) {
                let item = self.small.remove(index);
                if evicted {
                    self.ghosts.insert(0, (Some(item.hash), item.bytes));
                }
            }
            let max = self.capacity - self.capacity / 10;
            while self.ghosts.iter().map(|ghost| ghost.1).sum::<u64>() > max {
                self.ghosts.pop();
            }
        }

        fn victim(&mut self) -> Option<Place> {
            self.named = loop {
                let small: u64 = self.small.iter().map(|item| item.bytes).sum();
                let from_small = small >= self.capacity / 10 && !self.small.is_empty();
                let named = match from_small || self.main.is_empty() {
                    true => self.evict_small(),
                    false => self.evict_main(),
                };
                if named.is_some() || (self.small.is_empty() && self.main.is_empty()) {
                    break named;
                }
            };
            self.named
        }
    }

    proptest! {
        #[test]
        fn s3_fifo_is_the_papers_algorithm(steps in steps()) {
            suite::compare(&mut S3Fifo::new(), &mut Naive::default(), &steps);
        }
    }

    #[test]
    fn what_is_read_once_passes_by_what_is_read_again() {
        // 0 and 1 are read three times and move to the main queue; a scan of fifty pushes none of
        // them out, and 60, which comes back while its name is known, joins them.
        let reads = [0, 1, 0, 1, 0, 1].into_iter().chain(10..60).chain([60, 61, 62, 63]);
        let reads = reads.chain(70..80).chain([60]).chain(80..100);
        let mut policy = S3Fifo::new();
        let gone = evicted(&mut policy, 10, &Steps::reads(reads));
        assert_eq!(gone.iter().filter(|name| **name < 2).count(), 0);
        assert_eq!(gone.iter().filter(|name| **name == 60).count(), 1);
        let counters = policy.counters();
        assert_eq!(counters[..2], [("ghost_hits", 1), ("moved_to_main", 2)]);
        assert_eq!(counters[2].1 + counters[3].1, gone.len() as u64);
    }

    #[test]
    fn names_of_what_left_are_bounded_in_bytes() {
        let mut ghosts = Ghosts { bytes_max: 100, ..Ghosts::default() };
        for hash in 0..1000 {
            ghosts.add(hash, 10);
        }
        assert_eq!((ghosts.queue.len(), ghosts.latest.len(), ghosts.bytes), (10, 10, 100));
        assert!(ghosts.take(999) && !ghosts.take(999) && !ghosts.take(989));
        // Taken and back again: its first place in the queue is not its own any more.
        ghosts.add(999, 10);
        for hash in 2000..2009 {
            ghosts.add(hash, 10);
        }
        assert!(ghosts.take(999));
    }
}
