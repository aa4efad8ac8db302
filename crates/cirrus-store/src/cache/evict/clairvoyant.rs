//! Belady's MIN, for a reader that has said what it will read.
//!
//! Owns when each entry is needed next. What will be read is a [`Foresight`]'s business.
//! Invariant: an entry's next use is the first announced one that has not been heard of yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use super::by_place::ByPlace;
use super::{Entry, Evict, Hits, Place};
use crate::cache::foresight::Foresight;

/// Not needed any more.
const NEVER: u64 = u64::MAX;
/// Not announced.
const UNKNOWN: u64 = u64::MAX;
/// How late a read may be heard of: gets overtake each other, and hits wait in buffers.
const LATE_READS_MAX: u64 = 1 << 10;

/// Evicts what is needed last, and first what is not needed any more or was not announced. A read
/// takes constant time, an eviction logarithmic time for each entry that was read since the last
/// one; about 75 bytes an entry, and 25 for each object that left and whose last read the reader has
/// not yet passed for certain.
///
/// Where entries are of equal size, every get is announced and each is made in turn, no policy that
/// keeps what it fetches has more hits: Belady, "A study of replacement algorithms for a
/// virtual-storage computer", IBM Systems Journal 5(2), 1966; Mattson, Gecsei, Slutz and Traiger,
/// "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970. For unequal
/// sizes it is the same rule, and no longer always the best.
///
/// A get of an announced object is taken for the first of its announced gets that was not made
/// yet, so gets may overtake each other. A get or put more than was announced, or one less (it
/// failed, or shared a fetch), is a mistake about that object alone; the latter ends when
/// [`Foresight::passed`] has gone by.
#[derive(Debug)]
pub struct Clairvoyant {
    future: Arc<dyn Foresight>,
    /// By next use, as far as it was listed; the last leaves first.
    order: BTreeSet<(u64, Place)>,
    entries: ByPlace<Needed>,
    /// Places that may be listed under a use that has been made, each once.
    read: Vec<Place>,
    /// By object that left, the time behind its last get; what the reader has passed is left out.
    heard: HashMap<u64, u64, foldhash::fast::FixedState>,
    /// Size of `heard` at which to look for what may be left out.
    heard_max: usize,
    /// Entries that came and were not announced.
    unforeseen: u64,
}

/// What is known of an entry. Invariant: `next` is the first use of the object behind `heard`, or,
/// where the reader has left that out, behind a place that he has passed.
#[derive(Debug, Default, Clone, Copy)]
struct Needed {
    object: u64,
    /// The time behind the last get.
    heard: u64,
    next: u64,
    /// The next use under which the order has it.
    listed: u64,
    /// The place is in the list of those that were read: since the entry is here, or from before.
    is_noted: bool,
}

impl Needed {
    /// The announced get at `read_at` has been made.
    fn hear(&mut self, future: &dyn Foresight, read_at: u64) {
        if read_at != NEVER {
            self.heard = read_at + 1;
            self.next = next_use(future, self.object, self.heard);
        }
    }
}

fn next_use(future: &dyn Foresight, object: u64, time: u64) -> u64 {
    future.next_use(object, time).unwrap_or(NEVER)
}

fn passed(future: &dyn Foresight) -> u64 {
    future.passed().saturating_sub(LATE_READS_MAX)
}

impl Clairvoyant {
    /// For the gets that `future` announces; the first comes next.
    pub fn new(future: Arc<dyn Foresight>) -> Self {
        Self {
            future,
            order: BTreeSet::new(),
            entries: ByPlace::default(),
            read: Vec::new(),
            heard: HashMap::default(),
            heard_max: 1024,
            unforeseen: 0,
        }
    }

    fn list(&mut self, place: Place, needed: Needed) {
        self.entries.set(place, Needed { listed: needed.next, ..needed });
        self.order.insert((needed.next, place));
    }

    /// Lists what was read under its next use.
    fn list_read(&mut self) {
        while let Some(place) = self.read.pop() {
            let needed = Needed { is_noted: false, ..self.entries.get(place) };
            self.entries.set(place, needed);
            if needed.listed != needed.next {
                self.order.remove(&(needed.listed, place));
                self.list(place, needed);
            }
        }
    }

    /// Looks again at entries whose next use the reader has left out.
    fn revise(&mut self) {
        let passed = passed(&*self.future);
        while let Some(&(next, place)) = self.order.first()
            && next < passed
        {
            self.order.pop_first();
            let needed = self.entries.get(place);
            let next = next_use(&*self.future, needed.object, passed);
            self.list(place, Needed { next, ..needed });
        }
    }
}

impl Evict for Clairvoyant {
    fn name(&self) -> &'static str {
        "clairvoyant"
    }

    fn hits(&self) -> Hits {
        Hits::Every
    }

    fn on_insert(&mut self, place: Place, entry: Entry<'_>) {
        let is_noted = self.entries.get(place).is_noted;
        let mut needed = Needed { object: UNKNOWN, heard: 0, next: NEVER, listed: NEVER, is_noted };
        match self.future.object_of(entry.key) {
            Some(object) => {
                needed.object = object;
                needed.heard = self.heard.remove(&object).unwrap_or(0);
                let from = needed.heard.max(passed(&*self.future));
                needed.hear(&*self.future, next_use(&*self.future, object, from));
            }
            None => self.unforeseen += 1,
        }
        self.list(place, needed);
        // So that a read has room for its note.
        self.read.reserve(self.entries.len() - self.read.len());
    }

    fn on_access(&mut self, place: Place) {
        let Some(needed) = self.entries.get_mut(place).filter(|needed| needed.next != NEVER) else {
            return;
        };
        let was_listed = needed.listed == needed.next;
        let passed = passed(&*self.future);
        let read_at = match needed.next {
            next if next >= passed => next,
            _ => next_use(&*self.future, needed.object, passed),
        };
        needed.hear(&*self.future, read_at);
        // A place that became free may be in the list still.
        if was_listed && !needed.is_noted {
            needed.is_noted = true;
            self.read.push(place);
        }
    }

    fn on_remove(&mut self, place: Place) {
        let needed = self.entries.get(place);
        self.order.remove(&(needed.listed, place));
        self.entries.set(place, Needed { is_noted: needed.is_noted, ..Needed::default() });
        let passed = passed(&*self.future);
        if needed.heard > passed {
            self.heard.insert(needed.object, needed.heard);
            if self.heard.len() > self.heard_max {
                self.heard.retain(|_, heard| *heard > passed);
                self.heard_max = 1024.max(2 * self.heard.len());
            }
        }
    }

    fn victim(&mut self) -> Option<Place> {
        self.list_read();
        self.revise();
        self.order.last().map(|(_, place)| *place)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("unforeseen", self.unforeseen)]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use proptest::prelude::*;

    use super::*;
    use crate::cache::Trace;
    use crate::cache::evict::suite::{self, faults, key, steps};
    use crate::key::Key;

    /// Looks through the list of reads, from the next one on.
    #[derive(Debug)]
    struct Naive {
        reads: Vec<u32>,
        time: usize,
        held: Vec<(Place, Key)>,
    }

    impl Evict for Naive {
        fn on_insert(&mut self, place: Place, entry: Entry<'_>) {
            self.time += 1;
            self.held.push((place, entry.key.clone()));
        }

        fn on_access(&mut self, _place: Place) {
            self.time += 1;
        }

        fn on_remove(&mut self, place: Place) {
            self.held.retain(|(other, _)| *other != place);
        }

        fn victim(&mut self) -> Option<Place> {
            let left = self.reads.get(self.time..).unwrap_or_default();
            let next = |wanted: &Key| left.iter().position(|page| key(*page) == *wanted);
            let rank = |(place, key): &(Place, Key)| (next(key).unwrap_or(usize::MAX), *place);
            self.held.iter().map(rank).max().map(|(_, place)| place)
        }
    }

    proptest! {
        #[test]
        fn clairvoyant_looks_through_what_is_left(steps in steps()) {
            let reads = steps.pages();
            let mut policy = Clairvoyant::new(Arc::new(trace(&reads)));
            suite::compare(&mut policy, &mut Naive { reads, time: 0, held: Vec::new() }, &steps);
        }
    }

    fn trace(pages: &[u32]) -> Trace {
        Trace::new(pages.iter().map(|page| key(*page)))
    }

    fn read(policy: &mut Clairvoyant, page: u32) {
        suite::insert(policy, page);
    }

    #[test]
    fn it_faults_as_often_as_the_textbook_says() {
        let steps = suite::textbook();
        let mut policy = Clairvoyant::new(Arc::new(trace(&steps.pages())));
        assert_eq!(faults(&mut policy, 3, &steps), 9);
    }

    #[test]
    fn what_was_not_announced_leaves_before_what_was() {
        let mut policy = Clairvoyant::new(Arc::new(trace(&[1, 2, 1, 2])));
        for page in [1, 2, 9] {
            read(&mut policy, page);
        }
        policy.on_access(Place::new(9));
        assert_eq!(policy.victim(), Some(Place::new(9)));
        policy.on_remove(Place::new(9));
        assert_eq!(policy.victim(), Some(Place::new(2)));
        assert_eq!(policy.counters(), [("unforeseen", 1)]);
    }

    #[test]
    fn gets_that_overtake_each_other_are_taken_for_what_they_are() {
        // Announced as 1 2 3 3 1 2, heard as 3 2 1: next come 3, then 1, then 2.
        let mut policy = Clairvoyant::new(Arc::new(trace(&[1, 2, 3, 3, 1, 2])));
        for page in [3, 2, 1] {
            read(&mut policy, page);
        }
        for page in [2, 1, 3] {
            assert_eq!(policy.victim(), Some(Place::new(page)));
            policy.on_remove(Place::new(page));
        }
        assert_eq!(policy.victim(), None);
    }

    /// Reads objects 0 to `objects` over and over, and says where it is.
    #[derive(Debug)]
    struct Rounds {
        objects: u64,
        at: AtomicU64,
    }

    impl Foresight for Rounds {
        fn object_of(&self, key: &Key) -> Option<u64> {
            std::str::from_utf8(key.as_bytes()).ok()?.parse().ok()
        }

        fn next_use(&self, object: u64, time: u64) -> Option<u64> {
            let ahead = (object + self.objects - time % self.objects) % self.objects;
            Some(time + ahead)
        }

        fn key_at(&self, time: u64) -> Option<Key> {
            u32::try_from(time % self.objects).ok().map(key)
        }

        fn passed(&self) -> u64 {
            self.at.load(SeqCst)
        }
    }

    #[test]
    fn a_reader_that_jumps_is_followed() {
        let rounds = Arc::new(Rounds { objects: 1000, at: AtomicU64::new(0) });
        let mut policy = Clairvoyant::new(Arc::clone(&rounds) as Arc<dyn Foresight>);
        for page in 0..10 {
            read(&mut policy, page);
        }
        assert_eq!(policy.victim(), Some(Place::new(9)));
        // Far ahead to just before object 5: it and what follows are needed soonest, 4 last.
        rounds.at.store(1_000_005 + LATE_READS_MAX, SeqCst);
        assert_eq!(policy.victim(), Some(Place::new(4)));
        policy.on_access(Place::new(5));
        assert_eq!(policy.victim(), Some(Place::new(5)));
    }

    #[test]
    fn what_was_read_and_has_left_before_a_victim_was_asked_for_is_let_go() {
        let mut policy = Clairvoyant::new(Arc::new(Rounds { objects: 8, at: AtomicU64::new(0) }));
        for page in (0..8).cycle().take(1000) {
            read(&mut policy, page);
            policy.on_access(Place::new(page));
            policy.on_remove(Place::new(page));
        }
        assert!(policy.read.len() <= policy.entries.len(), "{} noted", policy.read.len());
    }

    #[test]
    fn what_it_remembers_of_objects_that_left_is_bounded() {
        let rounds = Arc::new(Rounds { objects: 1 << 20, at: AtomicU64::new(0) });
        let mut policy = Clairvoyant::new(Arc::clone(&rounds) as Arc<dyn Foresight>);
        for page in 0..200_000 {
            rounds.at.store(u64::from(page), SeqCst);
            let key = key(page);
            policy.on_insert(Place::new(0), Entry { key: &key, key_hash: 0, bytes: 1 });
            policy.on_remove(Place::new(0));
            assert!(policy.heard.len() as u64 <= 2 * (LATE_READS_MAX + 1024));
        }
    }
}
