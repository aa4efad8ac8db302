//! What every policy has to do, and a small cache to try them in.
//!
//! Owns the steps that tests take and the properties that hold for all policies. It knows a policy
//! by its trait only. Invariant: the cache here keeps the rules that [`Evict`] promises.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::cache::Trace;

/// Reads of named pages, and pages that become invalid.
#[derive(Debug, Clone)]
pub(in crate::cache) struct Steps {
    steps: Vec<Step>,
    sizes: fn(u32) -> u64,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Read(u32),
    Forget(u32),
}

impl Steps {
    /// Reads only, all pages as large as each other.
    pub(in crate::cache) fn reads(pages: impl IntoIterator<Item = u32>) -> Self {
        Self { steps: pages.into_iter().map(Step::Read).collect(), sizes: |_| 1 }
    }

    /// The pages that are read, in order.
    pub(in crate::cache) fn pages(&self) -> Vec<u32> {
        let read = |step: &Step| match step {
            Step::Read(page) => Some(*page),
            Step::Forget(_) => None,
        };
        self.steps.iter().filter_map(read).collect()
    }
}

/// Steps over a few pages of one size or of several; some of them are popular.
pub(in crate::cache) fn steps() -> impl Strategy<Value = Steps> {
    let step = prop_oneof![
        8 => (0u32..16).prop_map(Step::Read),
        4 => (0u32..4).prop_map(Step::Read),
        1 => (0u32..16).prop_map(Step::Forget),
    ];
    (proptest::collection::vec(step, 0..300), any::<bool>()).prop_map(|(steps, is_equal)| Steps {
        steps,
        sizes: if is_equal { |_| 1 } else { |page| u64::from(page % 4 + 1) },
    })
}

/// The reference string of Silberschatz, Galvin and Gagne, "Operating System Concepts", chapter on
/// virtual memory: with three frames 15 faults for FIFO, 12 for LRU, 9 for the optimum.
pub(in crate::cache) fn textbook() -> Steps {
    Steps::reads([7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2, 1, 2, 0, 1, 7, 0, 1])
}

pub(in crate::cache) fn key(page: u32) -> Key {
    Key::try_from(format!("{page}").as_str()).unwrap()
}

/// Spread over all bits, as the cache's are.
pub(in crate::cache) fn hash(page: u32) -> u64 {
    u64::from(page + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Page `index` at place `index`.
pub(in crate::cache) fn insert(policy: &mut dyn Evict, index: u32) {
    let key = key(index);
    policy.on_insert(Place::new(index), Entry { key: &key, key_hash: hash(index), bytes: 1 });
}

/// The smallest cache that keeps a policy's rules.
struct Pages<'a> {
    policy: &'a mut dyn Evict,
    capacity: u64,
    /// Page and size by place.
    places: Vec<Option<(u32, u64)>>,
    faults: u64,
    evicted: Vec<u32>,
    /// Victims are read once more before they go, as a reader of another thread may.
    are_late: bool,
}

impl<'a> Pages<'a> {
    fn new(policy: &'a mut dyn Evict, capacity: u64) -> Self {
        policy.on_capacity(capacity);
        let (places, evicted) = (Vec::new(), Vec::new());
        Self { policy, capacity, places, faults: 0, evicted, are_late: false }
    }

    fn find(&self, page: u32) -> Option<Place> {
        let index = self.places.iter().position(|held| held.is_some_and(|held| held.0 == page))?;
        Some(Place::new(u32::try_from(index).unwrap()))
    }

    fn bytes(&self) -> u64 {
        self.places.iter().flatten().map(|held| held.1).sum()
    }

    /// Has the policy name a victim, and evicts it. Panics when the policy breaks its rules.
    fn evict(&mut self) -> Option<u32> {
        let is_empty = self.places.iter().flatten().next().is_none();
        let Some(place) = self.policy.victim() else {
            assert!(is_empty, "{:?} names nothing", self.policy);
            return None;
        };
        let held = self.places.get_mut(place.index()).and_then(Option::take);
        let (page, _) = held.expect("a victim is held");
        if self.are_late {
            self.policy.on_access(place);
        }
        self.policy.on_remove(place);
        self.evicted.push(page);
        Some(page)
    }

    fn take(&mut self, step: Step, sizes: fn(u32) -> u64) {
        let page = match step {
            Step::Read(page) => page,
            Step::Forget(page) => {
                if let Some(place) = self.find(page) {
                    self.places[place.index()] = None;
                    self.policy.on_remove(place);
                }
                return;
            }
        };
        if let Some(place) = self.find(page) {
            return self.policy.on_access(place);
        }
        self.faults += 1;
        let (key, bytes) = (key(page), sizes(page));
        let entry = Entry { key: &key, key_hash: hash(page), bytes };
        assert!(self.policy.admit(entry));
        while self.bytes() + bytes > self.capacity {
            self.evict();
        }
        let free = self.places.iter().position(Option::is_none);
        let index = free.unwrap_or(self.places.len());
        self.places.resize(self.places.len().max(index + 1), None);
        self.places[index] = Some((page, bytes));
        self.policy.on_insert(Place::new(u32::try_from(index).unwrap()), entry);
    }
}

/// How many reads find nothing in a cache of `capacity`.
pub(in crate::cache) fn faults(policy: &mut dyn Evict, capacity: u64, steps: &Steps) -> u64 {
    let mut pages = Pages::new(policy, capacity);
    for step in &steps.steps {
        pages.take(*step, steps.sizes);
    }
    pages.faults
}

/// The pages that leave a cache of `capacity`, in order.
pub(in crate::cache) fn evicted(policy: &mut dyn Evict, capacity: u64, steps: &Steps) -> Vec<u32> {
    let mut pages = Pages::new(policy, capacity);
    for step in &steps.steps {
        pages.take(*step, steps.sizes);
    }
    pages.evicted
}

/// Both policies evict the same pages, step by step and when all has to go at the end.
pub(in crate::cache) fn compare(policy: &mut dyn Evict, naive: &mut dyn Evict, steps: &Steps) {
    for capacity in [4, 11, 25] {
        let (mut pages, mut naive_pages) =
            (Pages::new(policy, capacity), Pages::new(naive, capacity));
        for (at, step) in steps.steps.iter().enumerate() {
            pages.take(*step, steps.sizes);
            naive_pages.take(*step, steps.sizes);
            assert_eq!(pages.evicted, naive_pages.evicted, "step {at}, capacity {capacity}");
        }
        while pages.evict().is_some() {}
        while naive_pages.evict().is_some() {}
        assert_eq!(pages.evicted, naive_pages.evicted, "at the end, capacity {capacity}");
    }
}

/// One of each; the clairvoyant one is told of `steps`.
fn all(steps: &Steps) -> Vec<Box<dyn Evict>> {
    let future = Trace::new(steps.pages().into_iter().map(key));
    vec![
        Box::new(Clairvoyant::new(Arc::new(future))),
        Box::new(Fifo::new()),
        Box::new(Lfu::new()),
        Box::new(Lru::new()),
        Box::new(Random::new(1)),
        Box::new(S3Fifo::new()),
        Box::new(Sieve::new()),
    ]
}

proptest! {
    /// [`Pages::evict`] checks each victim: held, and named whenever something is held.
    #[test]
    fn policies_keep_the_rules(steps in steps()) {
        for mut policy in all(&steps) {
            let mut pages = Pages { are_late: true, ..Pages::new(&mut *policy, 7) };
            for step in &steps.steps {
                pages.take(*step, steps.sizes);
            }
            while pages.evict().is_some() {}
        }
    }
}

#[test]
fn policies_have_names_of_their_own() {
    let policies = all(&textbook());
    let names: BTreeSet<_> = policies.iter().map(|policy| policy.name()).collect();
    assert_eq!(names.len(), policies.len());
    assert!(names.iter().all(|name| !name.contains(':')), "{names:?}");
}

/// What docs/cache.md says of loops.
#[test]
fn a_loop_that_does_not_fit_is_where_queues_hit_nothing() {
    let rounds = Steps::reads((0..100).flat_map(|_| 0..10));
    for mut policy in all(&rounds) {
        let hits = 1000 - faults(&mut *policy, 8, &rounds);
        match policy.name() {
            "fifo" | "lfu" | "lru" | "sieve" => assert_eq!(hits, 0, "{policy:?}"),
            // Seven reads of nine, as soon as there is something to hit.
            "clairvoyant" => assert_eq!(hits, 770),
            _ => assert!(hits > 100, "{policy:?}: {hits}"),
        }
    }
}

#[test]
fn what_fits_is_fetched_once() {
    let rounds = Steps::reads((0..10).flat_map(|_| 0..7));
    for mut policy in all(&rounds) {
        assert_eq!(faults(&mut *policy, 7, &rounds), 7, "{policy:?}");
    }
}
