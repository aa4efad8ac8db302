//! What the desk knows of what is held: the slab of places, and the bytes that their entries take.
//!
//! Owns every place and asks the policy what leaves. No await, no source: plain calls under the
//! desk's lock. Invariants: read entries take at most `main_max` bytes, guesses that nobody read
//! `guessed_max`; the books are whole whenever the policy is called, so that one that panics leaves
//! them so.

use std::mem;

use bytes::Bytes;
use tokio::time::Instant;

use super::chain::{Chain, PLACES_MAX};
use super::counters::{Counters, PolicyCounters};
use super::evict::{Entry, Evict, Place};
use super::hits::{Reads, Ring, Rings};
use super::sync::RING_HITS;
use super::table::{Held, Table};
use crate::key::Key;
use crate::object::Object;

/// What an entry costs beside its value and key, in bytes: its share of a table that is half full,
/// its slot, a policy's links, and 96 for the headers of two reference counts and the allocator.
pub(super) const ENTRY_OVERHEAD_BYTES: u64 = 480;

/// A guess that nobody read within this many gets, or within twice as many as objects are wanted
/// ahead, was wrong, and makes room for other guesses.
const GUESS_ACCESSES_MAX: u64 = 1024;

/// What an entry takes of the capacity.
pub(super) fn cost(key: &Key, object: &Object) -> u64 {
    cost_of(key, &object.value)
}

pub(super) fn cost_of(key: &Key, value: &Bytes) -> u64 {
    key.as_bytes().len() as u64 + value.len() as u64 + ENTRY_OVERHEAD_BYTES
}

/// The entries. Those that nobody has read are guesses: kept apart, unknown to the policy, in a
/// budget of their own, so that a wrong guess never evicts what is being read.
#[derive(Debug)]
pub(super) struct Shelf {
    table: Table,
    reads: Reads,
    slots: Vec<Option<Slot>>,
    free: Vec<Place>,
    evict: Box<dyn Evict>,
    guesses: Chain,
    budget: Budget,
    /// What was read without coming here and the prefetch policy has not heard of, in that order;
    /// `None` where there is none. At most a ring's for each thread that reads.
    read: Option<Vec<Key>>,
    /// Gets so far: the clock by which guesses grow old.
    accesses: u64,
    /// The bytes that were wanted ahead of the reader when that was last asked.
    wanted_bytes: u64,
    /// A running mean of what an entry takes; 0 until there was one.
    typical_bytes: u64,
    /// Values that left, for the caller to drop when it no longer holds the lock.
    pub(super) leaving: Vec<Object>,
    pub(super) counters: Counters,
}

/// The most that entries may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) main_max: u64,
    pub(super) guessed_max: u64,
}

/// What is known of the entry at a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    hash: u64,
    bytes: u64,
    /// Until which access a guess may be read; `None` once it was.
    guessed_until: Option<u64>,
}

/// An entry as it was found.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) place: Place,
    pub(super) object: Object,
    pub(super) checked_at: Instant,
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

impl Shelf {
    pub(super) fn new(
        mut evict: Box<dyn Evict>,
        budget: Budget,
        table: Table,
        reads: Reads,
        has_prefetch: bool,
    ) -> Self {
        evict.on_capacity(budget.main_max);
        Self {
            table,
            reads,
            slots: Vec::new(),
            free: Vec::new(),
            evict,
            guesses: Chain::default(),
            budget,
            read: has_prefetch.then(Vec::new),
            accesses: 0,
            wanted_bytes: 0,
            typical_bytes: 0,
            leaving: Vec::new(),
            counters: Counters::default(),
        }
    }

    pub(super) fn find(&self, hash: u64, key: &Key) -> Option<Seen> {
        self.table.find(hash, key, |held| {
            let Held { object, checked_at, place, .. } = held;
            Some(Seen { place: *place, object: object.clone(), checked_at: *checked_at })
        })
    }

    /// Tells the policy what was read without coming here.
    pub(super) fn tell(&mut self) {
        self.tell_before(None);
    }

    /// The same before the entry at a place goes, which has left the table.
    fn tell_before(&mut self, leaving: Option<(Place, &Key)>) {
        let reads = self.reads.take();
        self.counters.hits += reads.len() as u64;
        for hit in &reads {
            self.note(hit.place(), leaving);
            self.evict.on_access(hit.place());
        }
        self.reads.reuse(reads);
    }

    /// Notes a read for the prefetch policy.
    fn note(&mut self, place: Place, leaving: Option<(Place, &Key)>) {
        let hash = self.slot(place).map(|slot| slot.hash);
        let Some(read) = &mut self.read else { return };
        read.extend(match leaving {
            Some((left, key)) if left == place => Some(key.clone()),
            _ => hash.and_then(|hash| self.table.with(hash, place, |held| held.key.clone())),
        });
    }

    /// What was read without coming here and the prefetch policy has not heard of.
    pub(super) fn take_read(&mut self) -> Vec<Key> {
        self.read.as_mut().map(mem::take).unwrap_or_default()
    }

    /// Keeps the memory of [`Shelf::take_read`] for the next time.
    pub(super) fn reuse_read(&mut self, mut told: Vec<Key>) {
        told.clear();
        self.read.replace(told);
    }

    /// The calling thread's ring, made if it has none and can have one.
    pub(super) fn ring<'a>(&mut self, rings: &'a Rings) -> Option<&'a Ring> {
        let ring = self.reads.ring(rings);
        if let Some(read) = &mut self.read {
            // So that noting reads allocates nothing.
            read.reserve(self.reads.rings() * RING_HITS);
        }
        ring
    }

    #[cfg(test)]
    pub(super) fn rings(&self) -> usize {
        self.reads.rings()
    }

    /// What was counted, reads included that the policy was not told of.
    pub(super) fn counters(&self) -> Counters {
        let hits_left_out = self.reads.left_out();
        Counters { hits: self.counters.hits + hits_left_out, hits_left_out, ..self.counters }
    }

    /// The policy's name, and what it counts.
    pub(super) fn policy(&self) -> PolicyCounters {
        PolicyCounters { name: self.evict.name(), counters: self.evict.counters() }
    }

    /// Counts gets, which make guesses older.
    pub(super) fn count_accesses(&mut self, gets: u64) {
        self.accesses += gets;
    }

    /// The entry at `place` is read.
    pub(super) fn access(&mut self, place: Place) {
        match self.slot(place).map(|slot| slot.guessed_until) {
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
        let Some(seen) = self.find(arrival.hash, &arrival.key) else {
            return self.insert_new(arrival, bytes);
        };
        let Some(slot) = self.slot(seen.place) else { return };
        if seen.object.version > arrival.object.version {
            return;
        }
        let same_version = seen.object.version == arrival.object.version;
        if same_version || (slot.bytes == bytes && slot.guessed_until.is_none()) {
            self.replace(seen.place, arrival);
        } else {
            // Another size is another entry to the policy.
            self.remove(seen.place);
            self.insert_new(arrival, bytes);
        }
    }

    /// Lets go of the entry with this key.
    pub(super) fn forget(&mut self, hash: u64, key: &Key) {
        if let Some(seen) = self.find(hash, key) {
            self.remove(seen.place);
        }
    }

    /// Lets go of the entries whose keys begin with `prefix`.
    pub(super) fn forget_all(&mut self, prefix: &[u8]) {
        let mut places = Vec::new();
        self.table.for_each(|held| {
            if held.key.as_bytes().starts_with(prefix) {
                places.push(held.place);
            }
        });
        places.into_iter().for_each(|place| self.remove(place));
    }

    /// Lets go of the entry with this key if it is a guess that nobody has read; whether it was.
    pub(super) fn forget_guess(&mut self, hash: u64, key: &Key) -> bool {
        let Some(seen) = self.find(hash, key) else { return false };
        let is_guess = self.slot(seen.place).is_some_and(|slot| slot.guessed_until.is_some());
        if is_guess {
            self.remove(seen.place);
        }
        is_guess
    }

    /// What an entry usually takes; 0 until there was one.
    pub(super) fn typical_bytes(&self) -> u64 {
        self.typical_bytes
    }

    /// So many bytes are wanted ahead of the reader: as many objects as that is, one at least.
    pub(super) fn want(&mut self, bytes: u64) -> usize {
        self.wanted_bytes = bytes;
        usize::try_from(self.objects_in(bytes)).unwrap_or(usize::MAX).max(1)
    }

    /// How many objects so many bytes are, if they take what entries usually do.
    pub(super) fn objects_in(&self, bytes: u64) -> u64 {
        bytes / self.typical_bytes.max(1)
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

    /// Puts an object in the place of one that takes as much, and that is read by that.
    fn replace(&mut self, place: Place, arrival: Arrival) {
        let Arrival { hash, object, checked_at, guess, .. } = arrival;
        let old = self.table.with(hash, place, |held| {
            held.checked_at = held.checked_at.max(checked_at);
            mem::replace(&mut held.object, object)
        });
        self.leaving.extend(old);
        if !guess {
            self.access(place);
        }
    }

    fn insert_new(&mut self, arrival: Arrival, bytes: u64) {
        let Arrival { key, hash, object, checked_at, guess } = arrival;
        let policy_key = key.clone();
        let entry = Entry { key: &policy_key, key_hash: hash, bytes };
        let fits = if guess {
            self.drop_old_guesses(bytes);
            self.counters.bytes_prefetched + bytes <= self.budget.guessed_max
        } else {
            self.make_room(entry)
        };
        let Some(place) = fits.then(|| self.free_place()).flatten() else {
            self.counters.not_kept += 1;
            self.leaving.push(object);
            return;
        };
        let wanted = self.objects_in(self.wanted_bytes);
        let lifetime = GUESS_ACCESSES_MAX.max(wanted.saturating_mul(2));
        let guessed_until = guess.then(|| self.accesses.saturating_add(lifetime));
        self.slots[place.index()] = Some(Slot { hash, bytes, guessed_until });
        self.table.insert(hash, Held { key, object, checked_at, place, is_guess: guess });
        self.counters.bytes += bytes;
        self.counters.entries += 1;
        if guess {
            self.guesses.push_back(place);
            self.counters.bytes_prefetched += bytes;
        } else {
            self.evict.on_insert(place, entry);
        }
    }

    /// A guess was right: it becomes an entry like any other, where it lies.
    fn promote(&mut self, place: Place) {
        let Some(Slot { hash, bytes, .. }) = self.slot(place) else { return };
        let Some(key) = self.table.with(hash, place, |held| held.key.clone()) else { return };
        self.counters.prefetched_used += 1;
        let entry = Entry { key: &key, key_hash: hash, bytes };
        if !self.make_room(entry) {
            self.counters.not_kept += 1;
            return self.remove(place);
        }
        self.table.with(hash, place, |held| held.is_guess = false);
        self.guesses.remove(place);
        self.counters.bytes_prefetched -= bytes;
        self.slots[place.index()] = Some(Slot { hash, bytes, guessed_until: None });
        self.evict.on_insert(place, entry);
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
                .filter(|place| self.slot(*place).is_some_and(|slot| slot.guessed_until.is_none()))
            else {
                return false;
            };
            self.counters.evictions += 1;
            self.remove(place);
        }
        true
    }

    /// Drops guesses that grew old, until `bytes` more fit; all of them for 0.
    fn drop_old_guesses(&mut self, bytes: u64) {
        while let Some(place) = self.guesses.front() {
            let until = self.slot(place).and_then(|slot| slot.guessed_until).unwrap_or(0);
            let fits = self.counters.bytes_prefetched + bytes <= self.budget.guessed_max;
            if self.accesses <= until || (bytes > 0 && fits) {
                return;
            }
            self.remove(place);
            self.counters.evictions += 1;
            self.counters.prefetched_unused += 1;
        }
    }

    fn remove(&mut self, place: Place) {
        let Some(slot) = self.slots.get_mut(place.index()).and_then(Option::take) else { return };
        self.counters.bytes -= slot.bytes;
        self.counters.entries -= 1;
        let (key, object) = match self.table.remove(slot.hash, place) {
            Some(held) => (Some(held.key), Some(held.object)),
            None => (None, None),
        };
        self.leaving.extend(object);
        if slot.guessed_until.is_some() {
            self.guesses.remove(place);
            self.counters.bytes_prefetched -= slot.bytes;
            self.free.push(place);
            return;
        }
        // Reads that found the entry are told before it goes and its place is used again.
        self.tell_before(key.as_ref().map(|key| (place, key)));
        self.free.push(place);
        self.evict.on_remove(place);
    }

    fn slot(&self, place: Place) -> Option<Slot> {
        self.slots.get(place.index()).copied().flatten()
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
