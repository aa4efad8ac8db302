//! Where held objects are found by key.
//!
//! Owns the shards, each behind a lock of its own. Knows nothing of policies, bytes or flights.
//! Invariant: a lock here is held for one entry, and no other lock is taken while it is.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use hashbrown::HashTable;
use tokio::time::Instant;

use super::Place;
use super::sync::{Hashes, Mutex, SHARDS_MIN, SHARDS_PER_PROCESSOR};
use crate::key::Key;
use crate::object::Object;

/// What is held, by key. An entry lies in the table itself: a read follows no link to it.
///
/// A clone is another handle of the same table: one step less to a shard than from a shared handle.
#[derive(Debug, Clone)]
pub(super) struct Table {
    shards: Arc<[Shard]>,
    hasher: Hashes,
}

/// On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<HashTable<Held>>);

/// One entry.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) key: Key,
    pub(super) object: Object,
    /// The object was current at this moment or later.
    pub(super) checked_at: Instant,
    pub(super) place: Place,
    /// It was fetched early, and nobody has read it.
    pub(super) is_guess: bool,
}

impl Table {
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = (processors * SHARDS_PER_PROCESSOR).next_power_of_two().max(SHARDS_MIN);
        Self {
            shards: std::iter::repeat_with(Shard::default).take(shards).collect(),
            hasher: Hashes::default(),
        }
    }

    #[inline]
    pub(super) fn hash(&self, key: &Key) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        // The bytes alone: their number, which slices hash too, tells no keys apart.
        hasher.write(key.as_bytes());
        hasher.finish()
    }

    /// What `look` makes of the entry with this key.
    // A hit that calls this costs a tenth more: what it finds is copied once more on the way back.
    #[inline(always)]
    pub(super) fn find<T>(
        &self,
        hash: u64,
        key: &Key,
        look: impl FnOnce(&Held) -> Option<T>,
    ) -> Option<T> {
        let shard = self.shard(hash).lock();
        shard.find(hash, |held| held.key == *key).and_then(look)
    }

    /// Whether there is an entry with this key.
    pub(super) fn contains(&self, hash: u64, key: &Key) -> bool {
        self.find(hash, key, |_| Some(())).is_some()
    }

    /// What `act` makes of the entry at this place, whose key has this hash.
    pub(super) fn with<T>(
        &self,
        hash: u64,
        place: Place,
        act: impl FnOnce(&mut Held) -> T,
    ) -> Option<T> {
        self.shard(hash).lock().find_mut(hash, |held| held.place == place).map(act)
    }

    /// Adds an entry whose key is not there.
    pub(super) fn insert(&self, hash: u64, held: Held) {
        let mut shard = self.shard(hash).lock();
        shard.insert_unique(hash, held, |held| self.hash(&held.key));
    }

    pub(super) fn remove(&self, hash: u64, place: Place) -> Option<Held> {
        let mut shard = self.shard(hash).lock();
        let found = shard.find_entry(hash, |held| held.place == place).ok()?;
        Some(found.remove().0)
    }

    /// Shows each entry, one shard after the other.
    pub(super) fn for_each(&self, mut act: impl FnMut(&Held)) {
        self.shards.iter().for_each(|shard| shard.0.lock().iter().for_each(&mut act));
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Mutex<HashTable<Held>> {
        // Neither the lowest bits nor the highest: by those a shard finds its entries.
        let number = (hash >> 32) as usize & (self.shards.len() - 1);
        &self.shards[number].0
    }
}
