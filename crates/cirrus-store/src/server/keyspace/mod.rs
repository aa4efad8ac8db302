//! The one way to a node's objects, for every protocol that it speaks.
//!
//! Owns the shards, their locks, and the memory that pays for objects. Knows nothing of sockets,
//! sessions' rules or views: those are asked inside [`Keyspace::at`], with the key's shard locked.
//! Invariant: locks are taken in ascending order of shards, each once, and never nest.

mod place;
mod results;
mod scan;
mod shard;
mod value;

use std::hash::{BuildHasher, RandomState};

use foldhash::fast::FixedState;
use parking_lot::{Mutex, MutexGuard};

use crate::key::{KeyRef, SLOTS, Slot};
pub(super) use crate::server::keyspace::place::Place;
pub(super) use crate::server::keyspace::shard::{Contents, Found};
use crate::server::keyspace::shard::{SLOTS_PER_SHARD, Shard};
pub(super) use crate::server::keyspace::value::{
    End, Filling, Item, Large, Queue, SMALL_BYTES_MAX, Stored, Value,
};
use crate::server::memory::Memory;
use crate::server::session::Census;
use crate::wire::Fault;

/// Every object of a node: 1,024 shards by group of slots, a short lock each.
#[derive(Debug)]
pub(super) struct Keyspace {
    hasher: FixedState,
    shards: Vec<Mutex<Shard>>,
    memory: Memory,
}

/// The places of several keys, all locked.
#[derive(Debug)]
pub(super) struct Places<'a> {
    keys: &'a [KeyRef<'a>],
    /// In ascending order of shards.
    shards: Vec<(usize, MutexGuard<'a, Shard>)>,
    memory: &'a Memory,
    now_ms: u64,
}

impl Keyspace {
    pub(super) fn new(capacity: u64) -> Self {
        // Secret, so that nobody can choose keys that collide.
        let hasher = FixedState::with_seed(RandomState::new().hash_one(capacity));
        let shards = std::iter::repeat_with(|| Mutex::new(Shard::new(hasher.clone())));
        let shards = shards.take(usize::from(SLOTS / SLOTS_PER_SHARD)).collect();
        Self { hasher, shards, memory: Memory::new(capacity) }
    }

    /// Locks the key's shard and hands `apply` its place. Must not be called inside itself.
    /// Objects that ended at `now_ms` or before are absent.
    pub(super) fn at<'k, R>(
        &self,
        key: impl Into<KeyRef<'k>>,
        now_ms: u64,
        apply: impl FnOnce(&mut Place<'_>) -> R,
    ) -> R {
        let key = key.into();
        let mut shard = self.shards[shard_of(key.slot())].lock();
        apply(&mut Place { shard: &mut shard, memory: &self.memory, key, now_ms })
    }

    /// The same for several keys at once: nobody sees a part of what `apply` does.
    #[allow(dead_code, reason = "the native protocol's batches are not atomic")]
    pub(super) fn at_all<R>(
        &self,
        keys: &[KeyRef<'_>],
        now_ms: u64,
        apply: impl FnOnce(&mut Places<'_>) -> R,
    ) -> R {
        let mut numbers: Vec<usize> = keys.iter().map(|key| shard_of(key.slot())).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let shards = numbers.into_iter().map(|number| (number, self.shards[number].lock()));
        let shards = shards.collect();
        apply(&mut Places { keys, shards, memory: &self.memory, now_ms })
    }

    /// Room for a large value of `len` bytes that is about to arrive.
    pub(super) fn filling(&self, len: usize) -> Result<Filling, Fault> {
        Filling::new(len, &self.memory)
    }

    /// Bytes that the node may hold, and holds.
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Objects, those included that have ended and were not looked at since.
    pub(super) fn len(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().objects.len() as u64).sum()
    }

    /// Removes every object, a shard at a time.
    #[allow(dead_code, reason = "the native protocol deletes by name")]
    pub(super) fn clear(&self, epoch: u32) {
        for shard in &self.shards {
            shard.lock().clear(epoch);
        }
    }

    /// Has everyone who waits look again. When this returns, nobody is in a shard any more who was
    /// there when it was called.
    pub(super) fn wake_all(&self) {
        for shard in &self.shards {
            shard.lock().wake_all();
        }
    }

    /// Housekeeping: what has expired, who has stopped waiting, results that are acknowledged.
    pub(super) fn sweep(&self, now_ms: u64, census: &Census) {
        for shard in &self.shards {
            shard.lock().sweep(now_ms, census);
        }
    }
}

impl Places<'_> {
    /// The place of the key with this index; keys may be equal.
    #[allow(dead_code, reason = "the native protocol's batches are not atomic")]
    pub(super) fn at(&mut self, index: usize) -> Place<'_> {
        let key = self.keys[index];
        let number = shard_of(key.slot());
        let at = self.shards.partition_point(|(other, _)| *other < number);
        Place { shard: &mut self.shards[at].1, memory: self.memory, key, now_ms: self.now_ms }
    }
}

fn shard_of(slot: Slot) -> usize {
    usize::from(slot.number() / SLOTS_PER_SHARD)
}
