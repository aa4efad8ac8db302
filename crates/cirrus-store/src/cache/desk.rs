//! How what is held is read by many threads and changed by one at a time.
//!
//! Owns the desk's lock and the way of a read past it: a read takes its shard's lock only, and
//! leaves a note for the policy that whoever comes to the desk next tells it first. Knows nothing
//! of sources. Invariants: the desk's lock is taken before a shard's, never after it; the policy
//! hears of every read that ended before a change before it hears of the change.

use std::mem;

use super::evict::{Evict, Hits};
use super::flight::Flights;
use super::freshness::Freshness;
use super::hits::{CacheId, Ring, Rings, Tickets, with_ring};
use super::pace::Pace;
use super::prefetch::{Ahead, Prefetch};
use super::shelf::{Budget, Shelf, cost};
use super::sync::{Arc, Mutex, MutexGuard};
use super::table::{Held, Table};
use crate::key::Key;
use crate::object::Object;

/// What is held and what is under way.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) table: Arc<Table>,
    cache: CacheId,
    /// Where the policy hears of every read.
    tickets: Option<Arc<Tickets>>,
    freshness: Freshness,
    /// The most that an entry may take, in bytes.
    entry_max: u64,
    state: Mutex<State>,
}

/// What the lock protects.
#[derive(Debug)]
pub(super) struct State {
    pub(super) shelf: Shelf,
    pub(super) flights: Flights,
    pub(super) prefetch: Option<Box<dyn Prefetch>>,
    /// Memory of the last list of guesses.
    pub(super) ahead: Ahead,
    /// How far ahead of its readers the cache should be.
    pub(super) pace: Pace,
}

impl Desk {
    pub(super) fn new(
        evict: Box<dyn Evict>,
        prefetch: Option<Box<dyn Prefetch>>,
        budget: Budget,
        freshness: Freshness,
    ) -> Self {
        let (table, cache) = (Arc::new(Table::new()), CacheId::next());
        let tickets = match evict.hits() {
            Hits::Every => Some(Arc::new(Tickets::new())),
            Hits::Sampled => None,
        };
        let rings = Rings::new(cache, tickets.clone());
        let shelf = Shelf::new(evict, budget, Arc::clone(&table), rings);
        let flights = Flights::default();
        let (ahead, pace) = (Ahead::default(), Pace::new(budget.guessed_max));
        let state = Mutex::new(State { shelf, flights, prefetch, ahead, pace });
        Self { table, cache, tickets, freshness, entry_max: budget.main_max, state }
    }

    /// The object with this key, if it is held and fresh.
    pub(super) fn hit(&self, key: &Key) -> Option<Object> {
        let hash = self.table.hash(key);
        let mut found = None;
        let read = |ring: &Ring| {
            let has_room = ring.has_room();
            if has_room {
                self.read(ring, hash, key, &mut found);
            }
            has_room
        };
        if with_ring(self.cache, read) != Some(true) {
            self.hit_after_telling(hash, key, &mut found);
        }
        found
    }

    /// Acts at the desk, and drops what left the cache after it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        state.shelf.tell();
        let result = act(&mut state);
        let leaving = mem::take(&mut state.shelf.leaving);
        drop(state);
        drop(leaving);
        result
    }

    /// Whether the object cannot be kept, whatever else leaves.
    pub(super) fn is_too_large(&self, key: &Key, object: &Object) -> bool {
        cost(key, object) > self.entry_max
    }

    /// The desk as it is: no policy is called.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A read by a thread whose ring has room.
    #[inline]
    fn read(&self, ring: &Ring, hash: u64, key: &Key, found: &mut Option<Object>) {
        self.table.find(hash, key, |held| {
            if self.freshness.admits(held.checked_at, &held.object) {
                *found = Some(held.object.clone());
                // Under the shard's lock: a place that has left the table gets no more notes.
                ring.put(held.place, self.tickets.as_deref().map_or(0, Tickets::take));
            }
        });
    }

    /// A read by a thread that has no ring yet, and finds nothing if it cannot have one, or whose
    /// ring is full.
    #[cold]
    fn hit_after_telling(&self, hash: u64, key: &Key, found: &mut Option<Object>) {
        if with_ring(self.cache, |_| ()).is_none() {
            let mut state = self.lock();
            state.shelf.tell();
            state.shelf.add_ring();
        } else if self.tickets.is_some() {
            self.lock().shelf.tell();
        } else if let Some(mut state) = self.state.try_lock() {
            state.shelf.tell();
        }
        with_ring(self.cache, |ring| {
            if ring.has_room() {
                return self.read(ring, hash, key, found);
            }
            // Somebody is busy at the desk, and the policy can do without.
            *found = self.table.find(hash, key, |held| self.fresh(held)).flatten();
            if found.is_some() {
                ring.leave_out();
            }
        });
    }

    fn fresh(&self, held: &Held) -> Option<Object> {
        self.freshness.admits(held.checked_at, &held.object).then(|| held.object.clone())
    }
}
