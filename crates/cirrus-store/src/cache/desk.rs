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
use super::hits::{Reads, Ring, Rings, Tickets};
use super::pace::Pace;
use super::prefetch::{Ahead, Prefetch};
use super::shelf::{Budget, Shelf, cost};
use super::sync::{Arc, Mutex, MutexGuard};
use super::table::{Held, Table};
use super::write::Writes;
use crate::key::Key;
use crate::object::Object;

/// What is held and what is under way.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) table: Table,
    rings: Rings,
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
    pub(super) writes: Writes,
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
        let table = Table::new();
        let tickets = match evict.hits() {
            Hits::Every => Some(Arc::new(Tickets::new())),
            Hits::Sampled => None,
        };
        let reads = Reads::new(tickets.clone());
        let shelf = Shelf::new(evict, budget, table.clone(), reads, prefetch.is_some());
        let (rings, flights) = (Rings::new(), Flights::default());
        let state = Mutex::new(State {
            shelf,
            flights,
            writes: Writes::default(),
            prefetch,
            ahead: Ahead::default(),
            pace: Pace::new(budget.guessed_max),
        });
        Self { table, rings, tickets, freshness, entry_max: budget.main_max, state }
    }

    /// The object with this key, if it is held and fresh.
    #[inline(always)]
    pub(super) fn hit(&self, key: &Key) -> Option<Object> {
        let hash = self.table.hash(key);
        match self.rings.of_this_thread().filter(|ring| ring.has_room()) {
            Some(ring) => self.read(ring, hash, key),
            None => self.read_after_telling(hash, key),
        }
    }

    /// The same where a prefetch policy hears of reads, if that can wait. No guess that nobody has
    /// read: that it is read now is told at once.
    #[inline]
    pub(super) fn hit_untold(&self, hash: u64, key: &Key) -> Option<Object> {
        let ring = self.rings.of_this_thread();
        let ring = ring.filter(|ring| ring.may_wait() && ring.has_room())?;
        self.read(ring, hash, key)
    }

    /// So many hits of this thread may be told later.
    pub(super) fn let_wait(&self, state: &mut State, hits: u64) {
        // Made at the first hit, not at the first one that may wait: from then on nothing is allocated.
        let ring = self.rings.of_this_thread().or_else(|| state.shelf.ring(&self.rings));
        if let Some(ring) = ring {
            ring.let_wait(hits);
        }
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
    #[inline(always)]
    fn read(&self, ring: &Ring, hash: u64, key: &Key) -> Option<Object> {
        self.table.find(hash, key, |held| {
            let object = self.fresh(held)?;
            // Under the shard's lock: a place that has left the table gets no more notes.
            ring.put(held.place, self.tickets.as_deref().map_or(0, Tickets::take));
            Some(object)
        })
    }

    /// A read by a thread whose ring is full, or that has none yet; finds nothing if it cannot
    /// have one.
    #[cold]
    fn read_after_telling(&self, hash: u64, key: &Key) -> Option<Object> {
        let ring = match self.rings.of_this_thread() {
            None => {
                let mut state = self.lock();
                state.shelf.tell();
                state.shelf.ring(&self.rings)?
            }
            Some(ring) if self.tickets.is_some() => {
                self.lock().shelf.tell();
                ring
            }
            Some(ring) => {
                if let Some(mut state) = self.state.try_lock() {
                    state.shelf.tell();
                }
                ring
            }
        };
        if ring.has_room() {
            return self.read(ring, hash, key);
        }
        // Somebody is busy at the desk, and the policy can do without.
        let object = self.table.find(hash, key, |held| self.fresh(held))?;
        ring.leave_out();
        Some(object)
    }

    #[inline]
    fn fresh(&self, held: &Held) -> Option<Object> {
        let is_fresh = !held.is_guess && self.freshness.admits(held.checked_at, &held.object);
        is_fresh.then(|| held.object.clone())
    }
}
