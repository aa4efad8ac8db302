//! The one way to a node's objects, for every protocol that it speaks.
//!
//! Owns the shards, their locks, and the memory that pays for objects. Knows nothing of sockets,
//! or sessions' rules: those are asked inside [`Keyspace::at`], with the key's shard locked. Of views
//! it knows which slots are the node's.
//! Invariant: locks are taken in ascending order of shards, each once, and never nest.

mod compaction;
mod index;
mod place;
mod record;
mod results;
mod scan;
mod shard;
mod value;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use foldhash::fast::FixedState;
use parking_lot::{Mutex, MutexGuard};

use crate::error::Kind;
use crate::key::{KeyRef, SLOTS, Slot};
use crate::server::arena::{Extents, LINE_BYTES, Slabs, prefetch};
use crate::server::keyspace::compaction::{Compaction, Pauses};
use crate::server::keyspace::index::tag_of;
pub(super) use crate::server::keyspace::place::Place;
pub(super) use crate::server::keyspace::shard::{Contents, Found};
use crate::server::keyspace::shard::{Holding, Other, SLOTS_PER_SHARD, Shard};
pub(super) use crate::server::keyspace::value::{
    End, Filling, Item, Large, Queue, SMALL_BYTES_MAX, Stored, Value,
};
use crate::server::memory::Memory;
use crate::server::session::Census;
use crate::wire::Fault;

/// Large values that are under way may take this share of the capacity, or one of any size.
const UNDER_WAY_SHARE: u64 = 2;

/// Keys whose objects are fetched ahead at once: about what a core can wait for.
pub(super) const AHEAD_MAX: usize = 16;

/// What of a shard most operations look at.
const SHARD_BYTES_USED: usize = 128;

/// Every object of a node: 1,024 shards by group of slots, a short lock each.
#[derive(Debug)]
pub(super) struct Keyspace {
    hasher: FixedState,
    shards: Vec<Mutex<Shard>>,
    memory: Memory,
    slabs: Slabs,
    extents: Extents,
    under_way: Memory,
    compaction: Compaction,
    pauses: Pauses,
}

/// What a keyspace holds, and what that costs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Holdings {
    pub(super) objects: u64,
    /// Bytes of keys, values and items of queues.
    pub(super) object_bytes: u64,
    pub(super) index_bytes: u64,
    /// Pages of records that were touched, and of them bytes that no record takes.
    pub(super) record_bytes: u64,
    pub(super) hole_bytes: u64,
    /// Pages of large values, and pages that are kept for the next ones.
    pub(super) large_bytes: u64,
    pub(super) kept_bytes: u64,
    /// The longest that a shard was locked to grow its index, and to move records.
    pub(super) rehash_max: Duration,
    pub(super) compaction_max: Duration,
}

/// The places of several keys, all locked.
#[derive(Debug)]
pub(super) struct Places<'a> {
    keys: &'a [KeyRef<'a>],
    /// In ascending order of shards.
    shards: Vec<(usize, MutexGuard<'a, Shard>)>,
    space: &'a Keyspace,
    now_ms: u64,
    retired: Vec<Other>,
}

impl Keyspace {
    /// Fails when the addresses for so much memory cannot be had.
    pub(super) fn new(capacity: u64) -> io::Result<Self> {
        let memory = Memory::new(capacity);
        let shards = std::iter::repeat_with(|| Mutex::new(Shard::new(memory.clone())));
        let shards = shards.take(usize::from(SLOTS / SLOTS_PER_SHARD)).collect();
        Ok(Self {
            // Secret, so that nobody can choose keys that collide.
            hasher: FixedState::with_seed(RandomState::new().hash_one(capacity)),
            shards,
            slabs: Slabs::new(memory.clone())?,
            extents: Extents::new(memory.clone())?,
            under_way: Memory::new(capacity / UNDER_WAY_SHARE),
            compaction: Compaction::default(),
            pauses: Pauses::default(),
            memory,
        })
    }

    /// Locks the key's shard and hands `apply` its place. Must not be called inside itself.
    /// Objects that ended at `now_ms` or before are absent.
    pub(super) fn at<'k, R>(
        &self,
        key: impl Into<KeyRef<'k>>,
        now_ms: u64,
        apply: impl FnOnce(&mut Place<'_>) -> R,
    ) -> R {
        self.tend();
        let key = key.into();
        let tag = tag_of(self.hash(key.bytes()));
        // Declared before the lock, and so dropped after it is released.
        let mut retired = Vec::new();
        let mut shard = self.shards[shard_of(key.slot())].lock();
        let retired = &mut retired;
        apply(&mut Place { shard: &mut shard, space: self, key, tag, now_ms, retired })
    }

    /// Has the processor fetch the objects of the first few of these keys, all at the same time,
    /// and returns before they are there: for keys that are about to be used, when there are
    /// several. Without it, each of their operations waits for memory several times.
    pub(super) fn prefetch<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        let mut ahead: [&[u8]; AHEAD_MAX] = [&[]; AHEAD_MAX];
        let count = ahead.iter_mut().zip(keys).map(|(place, key)| *place = key).count();
        if count < 2 {
            return;
        }
        let mut places = [(0, 0); AHEAD_MAX];
        for (place, key) in places.iter_mut().zip(&ahead[..count]) {
            let number = shard_of(Slot::of(key));
            let shard: *const Mutex<Shard> = &raw const self.shards[number];
            for at in (0..SHARD_BYTES_USED).step_by(LINE_BYTES) {
                prefetch(shard.cast::<u8>().wrapping_add(at));
            }
            *place = (number, tag_of(self.hash(key)));
        }
        for (number, tag) in &places[..count] {
            // Who is in there has it in his cache.
            let Some(shard) = self.shards[*number].try_lock() else { continue };
            if let Some(record) = shard.index.guess(*tag) {
                self.slabs.prefetch(record);
            }
        }
    }

    /// The same for several keys at once: nobody sees a part of what `apply` does.
    pub(super) fn at_all<R>(
        &self,
        keys: &[KeyRef<'_>],
        now_ms: u64,
        apply: impl FnOnce(&mut Places<'_>) -> R,
    ) -> R {
        self.tend();
        let mut numbers: Vec<usize> = keys.iter().map(|key| shard_of(key.slot())).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let shards = numbers.into_iter().map(|number| (number, self.shards[number].lock()));
        let shards = shards.collect();
        let mut places = Places { keys, shards, space: self, now_ms, retired: Vec::new() };
        apply(&mut places)
    }

    /// Room for a large value of `len` bytes that is about to arrive. [`Kind::Busy`] when too much
    /// is under way already.
    pub(super) fn filling(&self, len: usize) -> Result<Filling, Fault> {
        let turn = (len as u64).min(self.under_way.capacity());
        let turn = self.under_way.reserve(turn).map_err(|_| Kind::Busy)?;
        let take = || {
            let extent = self.extents.take(len)?;
            let overhead = self.memory.reserve(Filling::overhead(len))?;
            Ok((extent, overhead))
        };
        let taken = take().or_else(|fault| {
            let wanted = self.extents.cost(len) + Filling::overhead(len);
            if self.make_room(wanted) { take() } else { Err(fault) }
        });
        taken.map(|(extent, overhead)| Filling::new(extent, overhead, turn))
    }

    /// The extents of large values: what clients of this host may read in place.
    pub(super) fn extents(&self) -> &Extents {
        &self.extents
    }

    /// Bytes that the node may hold, and holds.
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What it holds, those objects included that have ended and were not looked at since.
    pub(super) fn holdings(&self) -> Holdings {
        let mut holdings = Holdings::default();
        for shard in &self.shards {
            let shard = shard.lock();
            holdings.objects += shard.index.len() as u64;
            holdings.object_bytes += shard.object_bytes;
            holdings.index_bytes += shard.index.bytes();
        }
        (holdings.large_bytes, holdings.kept_bytes) = self.extents.held_bytes();
        (holdings.rehash_max, holdings.compaction_max) = self.pauses.longest();
        holdings.record_bytes = self.slabs.touched_bytes();
        holdings.hole_bytes = self.slabs.hole_bytes();
        holdings
    }

    /// Objects, those included that have ended and were not looked at since.
    pub(super) fn len(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().index.len() as u64).sum()
    }

    /// Removes every object, a shard at a time.
    pub(super) fn clear(&self, epoch: u32) {
        for shard in &self.shards {
            let retired = shard.lock().clear(epoch, &self.slabs, &self.memory);
            drop(retired);
        }
    }

    /// From now on the node holds those slots that `holds` says, unless a newer epoch has come, and
    /// everyone who waits looks again. When this returns, nobody is in a shard any more who was told
    /// otherwise. A keyspace begins with no slot, in epoch 0.
    pub(super) fn hold(&self, epoch: u32, mut holds: impl FnMut(Slot) -> bool) {
        let mut slots = (0..SLOTS).map(|number| Slot::new(number).is_some_and(&mut holds));
        for shard in &self.shards {
            let holding = Holding::new(epoch, slots.by_ref().take(SLOTS_PER_SHARD.into()));
            shard.lock().hold(holding);
        }
    }

    /// Housekeeping: what has expired, who has stopped waiting, results that are acknowledged, and
    /// memory that holds nothing.
    pub(super) fn sweep(&self, now_ms: u64, census: &Census) {
        for shard in &self.shards {
            let retired = shard.lock().sweep(now_ms, census, &self.slabs, &self.memory);
            drop(retired);
        }
        self.compact();
    }

    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }
}

impl Places<'_> {
    /// As [`Place::held`].
    pub(super) fn held(&self, index: usize) -> Result<u32, Fault> {
        let slot = self.keys[index].slot();
        self.shards[self.shard_at(slot)].1.holding.check(slot)
    }

    /// The place of the key with this index; keys may be equal.
    pub(super) fn at(&mut self, index: usize) -> Place<'_> {
        let key = self.keys[index];
        let at = self.shard_at(key.slot());
        Place {
            shard: &mut self.shards[at].1,
            space: self.space,
            key,
            tag: tag_of(self.space.hash(key.bytes())),
            now_ms: self.now_ms,
            retired: &mut self.retired,
        }
    }

    fn shard_at(&self, slot: Slot) -> usize {
        let number = shard_of(slot);
        self.shards.partition_point(|(other, _)| *other < number)
    }
}

fn shard_of(slot: Slot) -> usize {
    usize::from(slot.number() / SLOTS_PER_SHARD)
}

#[cfg(test)]
mod tests;
