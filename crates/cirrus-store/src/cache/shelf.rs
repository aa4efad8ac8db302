//! What is held: the slab of entries, the table that finds them, and the bytes they take.
//!
//! Owns every held entry and asks the policy what leaves. No lock, no await, no source: plain calls.
//! Invariant: read entries take at most `main_max` bytes, guesses that nobody read `guessed_max`.

use hashbrown::HashTable;
use tokio::time::Instant;

use super::chain::{Chain, PLACES_MAX};
use super::counters::Counters;
use super::evict::{Entry, Evict, Place};
use crate::key::Key;
use crate::object::Object;

/// What an entry costs beside its value and key, in bytes: its slot, its share of a table that is
/// half full, a policy's links, and 96 for the headers of two reference counts and the allocator.
pub(super) const ENTRY_OVERHEAD_BYTES: u64 = 352;

/// A guess that nobody read within this many gets was wrong, and makes room for other guesses.
const GUESS_ACCESSES_MAX: u64 = 1024;

/// What an entry takes of the capacity.
pub(super) fn cost(key: &Key, object: &Object) -> u64 {
    key.as_bytes().len() as u64 + object.value.len() as u64 + ENTRY_OVERHEAD_BYTES
}

/// The entries. Those that nobody has read are guesses: kept apart, unknown to the policy, in a
/// budget of their own, so that a wrong guess never evicts what is being read.
#[derive(Debug)]
pub(super) struct Shelf {
    table: HashTable<Place>,
    slots: Vec<Option<Held>>,
    free: Vec<Place>,
    evict: Box<dyn Evict>,
    guesses: Chain,
    budget: Budget,
    /// Gets so far: the clock by which guesses grow old.
    accesses: u64,
    /// A running mean of what an entry takes; 0 until there was one.
    typical_bytes: u64,
    /// Entries that left, for the caller to drop when it no longer holds the lock.
    pub(super) leaving: Vec<Held>,
    pub(super) counters: Counters,
}

/// The most that entries may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) main_max: u64,
    pub(super) guessed_max: u64,
}

/// One entry.
#[derive(Debug)]
pub(super) struct Held {
    key: Key,
    hash: u64,
    bytes: u64,
    pub(super) object: Object,
    /// The object was current at this moment or later.
    pub(super) checked_at: Instant,
    /// At which access a guess came in; `None` once it was read.
    guessed_at: Option<u64>,
}

/// An object on its way in.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) key: Key,
    pub(super) hash: u64,
    pub(super) object: Object,
    pub(super) checked_at: Instant,
    /// Nobody has asked for it.
    pub(super) guess: bool,
}

#[cfg(test)]
impl Held {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Shelf {
    pub(super) fn new(mut evict: Box<dyn Evict>, budget: Budget) -> Self {
        evict.on_capacity(budget.main_max);
        Self {
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            evict,
            guesses: Chain::default(),
            budget,
            accesses: 0,
            typical_bytes: 0,
            leaving: Vec::new(),
            counters: Counters::default(),
        }
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, key: &Key) -> Option<Place> {
        let is_key = |place: &Place| {
            self.held(*place).is_some_and(|held| held.hash == hash && held.key == *key)
        };
        self.table.find(hash, is_key).copied()
    }

    #[inline]
    pub(super) fn held(&self, place: Place) -> Option<&Held> {
        self.slots.get(place.index())?.as_ref()
    }

    /// Counts a get, which makes guesses older.
    pub(super) fn count_access(&mut self) {
        self.accesses += 1;
    }

    /// The entry at `place` is read.
    pub(super) fn access(&mut self, place: Place) {
        match self.held(place).map(|held| held.guessed_at) {
            None => {}
            Some(None) => self.evict.on_access(place),
            Some(Some(_)) => self.promote(place),
        }
    }

    /// Takes an object in, unless what is held is newer. May keep nothing: see [`Evict`].
    pub(super) fn insert(&mut self, arrival: Arrival) {
        let bytes = cost(&arrival.key, &arrival.object);
        self.typical_bytes = match self.typical_bytes {
            0 => bytes,
            typical => (typical * 7 + bytes).div_ceil(8),
        };
        let Some(place) = self.find(arrival.hash, &arrival.key) else {
            return self.insert_new(arrival, bytes);
        };
        let Some(held) = self.slots[place.index()].as_mut() else { return };
        if held.object.version > arrival.object.version {
            return;
        }
        let same_version = held.object.version == arrival.object.version;
        if same_version || (held.bytes == bytes && held.guessed_at.is_none()) {
            held.checked_at = held.checked_at.max(arrival.checked_at);
            let old = std::mem::replace(&mut held.object, arrival.object);
            let (key, hash, checked_at) = (arrival.key, arrival.hash, arrival.checked_at);
            self.leaving.push(Held { key, hash, bytes, object: old, checked_at, guessed_at: None });
            if !arrival.guess {
                self.access(place);
            }
        } else {
            // Another size is another entry to the policy.
            self.remove(place);
            self.insert_new(arrival, bytes);
        }
    }

    /// Lets go of the entry with this key.
    pub(super) fn forget(&mut self, hash: u64, key: &Key) {
        if let Some(place) = self.find(hash, key) {
            self.remove(place);
        }
    }

    /// How many more guesses may be fetched while `in_flight` are on their way: as many as fit
    /// into the budget if they are as large as entries usually are, one until that is known.
    pub(super) fn guess_room(&mut self, in_flight: usize) -> usize {
        self.drop_old_guesses(0);
        if self.typical_bytes == 0 {
            return usize::from(in_flight == 0 && self.budget.guessed_max > 0);
        }
        let expected = self.typical_bytes.saturating_mul(in_flight as u64);
        let taken = self.counters.bytes_prefetched.saturating_add(expected);
        let room = self.budget.guessed_max.saturating_sub(taken) / self.typical_bytes;
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    fn insert_new(&mut self, arrival: Arrival, bytes: u64) {
        let Arrival { key, hash, object, checked_at, guess } = arrival;
        let fits = if guess {
            self.drop_old_guesses(bytes);
            self.counters.bytes_prefetched + bytes <= self.budget.guessed_max
        } else {
            self.make_room(Entry { key: &key, key_hash: hash, bytes })
        };
        let Some(place) = fits.then(|| self.free_place()).flatten() else {
            self.counters.not_kept += 1;
            return;
        };
        let guessed_at = guess.then_some(self.accesses);
        if guess {
            self.guesses.push_back(place);
            self.counters.bytes_prefetched += bytes;
        } else {
            self.evict.on_insert(place, Entry { key: &key, key_hash: hash, bytes });
        }
        self.counters.bytes += bytes;
        self.counters.entries += 1;
        let held = Held { key, hash, bytes, object, checked_at, guessed_at };
        self.slots[place.index()] = Some(held);
        let slots = &self.slots;
        let hash_of = |place: &Place| slots[place.index()].as_ref().map_or(0, |held| held.hash);
        self.table.insert_unique(hash, place, hash_of);
    }

    /// A guess was right: it becomes an entry like any other, where it lies.
    fn promote(&mut self, place: Place) {
        let Some(held) = self.slots[place.index()].as_ref() else { return };
        let (key, key_hash, bytes) = (held.key.clone(), held.hash, held.bytes);
        self.counters.prefetched_used += 1;
        let entry = Entry { key: &key, key_hash, bytes };
        if !self.make_room(entry) {
            self.counters.not_kept += 1;
            return self.remove(place);
        }
        self.guesses.remove(place);
        self.counters.bytes_prefetched -= bytes;
        self.evict.on_insert(place, entry);
        if let Some(held) = self.slots[place.index()].as_mut() {
            held.guessed_at = None;
        }
    }

    /// Evicts until `entry` fits; `false` when it cannot, or when the policy does not want it.
    fn make_room(&mut self, entry: Entry<'_>) -> bool {
        if entry.bytes > self.budget.main_max || !self.evict.admit(entry) {
            return false;
        }
        while self.main_bytes() + entry.bytes > self.budget.main_max {
            // A policy that names a free place or a guess is wrong; it costs a miss, no more.
            let place = self.evict.victim();
            let Some(place) = place
                .filter(|place| self.held(*place).is_some_and(|held| held.guessed_at.is_none()))
            else {
                return false;
            };
            self.remove(place);
            self.counters.evictions += 1;
        }
        true
    }

    /// Drops guesses that grew old, until `bytes` more fit; all of them for 0.
    fn drop_old_guesses(&mut self, bytes: u64) {
        while let Some(place) = self.guesses.front() {
            let guessed_at = self.held(place).and_then(|held| held.guessed_at);
            let age = guessed_at.map_or(u64::MAX, |at| self.accesses - at);
            let fits = self.counters.bytes_prefetched + bytes <= self.budget.guessed_max;
            if age <= GUESS_ACCESSES_MAX || (bytes > 0 && fits) {
                return;
            }
            self.remove(place);
            self.counters.evictions += 1;
        }
    }

    fn remove(&mut self, place: Place) {
        let Some(held) = self.slots[place.index()].as_ref() else { return };
        let (hash, bytes) = (held.hash, held.bytes);
        if held.guessed_at.is_some() {
            self.guesses.remove(place);
            self.counters.bytes_prefetched -= bytes;
        } else {
            self.evict.on_remove(place);
        }
        if let Ok(found) = self.table.find_entry(hash, |other| *other == place) {
            found.remove();
        }
        self.counters.bytes -= bytes;
        self.counters.entries -= 1;
        self.leaving.extend(self.slots[place.index()].take());
        self.free.push(place);
    }

    fn main_bytes(&self) -> u64 {
        self.counters.bytes - self.counters.bytes_prefetched
    }

    fn free_place(&mut self) -> Option<Place> {
        if let Some(place) = self.free.pop() {
            return Some(place);
        }
        let index = u32::try_from(self.slots.len()).ok().filter(|index| *index < PLACES_MAX)?;
        if self.slots.len() == self.slots.capacity() {
            // By a quarter, not by doubling: empty slots are memory that nothing accounts for.
            self.slots.reserve_exact(self.slots.len() / 4 + 16);
        }
        self.slots.push(None);
        Some(Place::new(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overhead_covers_what_an_entry_takes() {
        let slot = size_of::<Option<Held>>() * 5 / 4;
        let table = (size_of::<Place>() + 1) * 16 / 7;
        // The guesses' chain, a policy's, and the free list; their vectors double.
        let links = 2 * (8 + 8 + size_of::<Place>());
        let headers = 2 * (32 + 16);
        let taken = (slot + table + links + headers) as u64;
        assert!(taken <= ENTRY_OVERHEAD_BYTES, "{taken}");
        assert!(taken > ENTRY_OVERHEAD_BYTES * 3 / 4, "{taken}");
    }
}
