//! The one way to a node's objects, for every protocol that it speaks.
//!
//! Owns the shards, their locks, and the memory that pays for objects. Knows nothing of sockets,
//! or sessions' rules: those are asked inside [`Keyspace::at`], with the key's shard locked. Of views
//! it knows which slots are the node's.
//! Invariant: locks are taken in ascending order of shards, each once, and never nest.

mod backing;
mod chill;
mod cold;
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
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use parking_lot::{Mutex, MutexGuard};

use crate::error::Kind;
use crate::key::{KeyRef, SLOTS, Slot};
use crate::segments::Engine;
use crate::server::arena::{Extent, Extents, LINE_BYTES, Slabs, prefetch};
use crate::server::keyspace::backing::Changes;
pub(super) use crate::server::keyspace::backing::{Backing, Seen, Turn};
use crate::server::keyspace::chill::Hand;
use crate::server::keyspace::compaction::{Compaction, Pauses};
use crate::server::keyspace::index::tag_of;
pub(super) use crate::server::keyspace::place::Place;
pub(super) use crate::server::keyspace::shard::{Contents, Found};
use crate::server::keyspace::shard::{Holding, Other, SLOTS_PER_SHARD, Shard};
pub(super) use crate::server::keyspace::value::{
    End, Filling, Item, Large, Queue, SMALL_BYTES_MAX, Stored, Value,
};
use crate::server::memory::{Memory, Reservation};
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
    /// The disk behind it, of a node that has one.
    backing: Option<Backing>,
    hand: Hand,
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
    changes: Changes,
}

impl Keyspace {
    /// Fails when the addresses for so much memory cannot be had.
    pub(super) fn new(capacity: u64, engine: Option<Arc<Engine>>) -> io::Result<Self> {
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
            backing: engine.map(Backing::new),
            hand: Hand::default(),
            memory,
        })
    }

    /// Locks the key's shard and hands `apply` its place. Must not be called inside itself.
    /// Objects that ended at `now_ms` or before are absent.
    pub(super) fn at<'k, 't, R>(
        &self,
        key: impl Into<KeyRef<'k>>,
        turn: impl Into<Turn<'t>>,
        apply: impl FnOnce(&mut Place<'_>) -> R,
    ) -> R {
        self.tend();
        let (key, turn) = (key.into(), turn.into());
        let tag = tag_of(self.hash(key.bytes()));
        // Declared before the lock, and so dropped after it is released.
        let mut retired = Vec::new();
        let mut shard = self.shards[shard_of(key.slot())].lock();
        let (retired, mut changes, now_ms) = (&mut retired, Changes::default(), turn.now_ms);
        let place = &mut Place {
            shard: &mut shard,
            space: self,
            key,
            tag,
            now_ms,
            retired,
            changes: &mut changes,
        };
        let result = apply(place);
        if let Some(backing) = &self.backing {
            if changes.is_empty() {
                backing.forget(&mut changes);
            } else {
                shard.pend(backing.submit(&mut changes), &mut changes);
            }
            self.observe(backing, &mut shard, tag, key.bytes(), turn);
        }
        result
    }

    /// Notes that an operation has looked at an object, and what its reply must wait for.
    fn observe(&self, backing: &Backing, shard: &mut Shard, tag: u32, key: &[u8], turn: Turn<'_>) {
        shard.settle(&self.slabs, backing);
        if let Some(found) = shard.index.find_mut(&self.slabs, tag, key) {
            let slot = self.slabs.bytes_mut(found);
            record::set_used(slot, true);
            if record::is_clean(slot) {
                return;
            }
        }
        if backing.is_durable
            && let Some(position) = shard.pending_of(key)
        {
            turn.see(position);
        }
    }

    /// The same for an operation that looks at all names of a shard.
    fn observe_all(&self, shard: &mut Shard, turn: Turn<'_>) {
        let Some(backing) = self.backing.as_ref().filter(|backing| backing.is_durable) else {
            return;
        };
        shard.settle(&self.slabs, backing);
        if let Some(last) = shard.pending.back() {
            turn.see(last.position);
        }
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
    pub(super) fn at_all<'t, R>(
        &self,
        keys: &[KeyRef<'_>],
        turn: impl Into<Turn<'t>>,
        apply: impl FnOnce(&mut Places<'_>) -> R,
    ) -> R {
        self.tend();
        let turn = turn.into();
        let mut numbers: Vec<usize> = keys.iter().map(|key| shard_of(key.slot())).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let shards = numbers.into_iter().map(|number| (number, self.shards[number].lock()));
        let shards = shards.collect();
        let (now_ms, retired, changes) = (turn.now_ms, Vec::new(), Changes::default());
        let mut places = Places { keys, shards, space: self, now_ms, retired, changes };
        let result = apply(&mut places);
        if let Some(backing) = &self.backing {
            places.finish(backing, turn);
        }
        result
    }

    /// Room for a large value of `len` bytes that is about to arrive. [`Kind::Busy`] when too much
    /// is under way already.
    pub(super) fn filling(&self, len: usize) -> Result<Filling, Fault> {
        let turn = (len as u64).min(self.under_way.capacity());
        let turn = self.under_way.reserve(turn).map_err(|_| Kind::Busy)?;
        self.filling_with(len, turn)
    }

    fn filling_with(&self, len: usize, turn: Reservation) -> Result<Filling, Fault> {
        let taken = self.extent(len).or_else(|fault| {
            let wanted = self.extents.cost(len) + Filling::overhead(len);
            if self.make_room(wanted) { self.extent(len) } else { Err(fault) }
        });
        taken.map(|(extent, overhead)| Filling::new(extent, overhead, turn))
    }

    /// Pages for a large value, and what pays for the rest of it; takes no lock of a shard.
    fn extent(&self, len: usize) -> Result<(Extent, Reservation), Fault> {
        let extent = self.extents.take(len)?;
        let overhead = self.memory.reserve(Filling::overhead(len))?;
        Ok((extent, overhead))
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

    /// Removes every object, a shard at a time; those that come meanwhile may stay.
    pub(super) fn clear(&self, turn: Turn<'_>, epoch: u32) -> Result<(), Fault> {
        for shard in &self.shards {
            let keys = shard.lock().keys(&self.slabs);
            for key in &keys {
                self.at(key, turn, |place| place.remove(epoch))?;
            }
            shard.lock().index.shrink(&self.memory);
        }
        Ok(())
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
            let expired = shard.lock().expired(now_ms, &self.slabs);
            for key in &expired {
                let epoch = shard.lock().holding.epoch();
                if self.at(key, now_ms, |place| place.remove(epoch)).is_err() {
                    // The disk takes nothing now.
                    shard.lock().note_end(now_ms);
                }
            }
            let mut shard = shard.lock();
            shard.sweep(census, &self.memory);
            if let Some(backing) = &self.backing {
                shard.settle(&self.slabs, backing);
            }
        }
        self.compact();
    }

    /// The disk behind it.
    pub(super) fn backing(&self) -> Option<&Backing> {
        self.backing.as_ref()
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
            changes: &mut self.changes,
        }
    }

    /// Sends what has changed to the disk, all of it or nothing.
    fn finish(&mut self, backing: &Backing, turn: Turn<'_>) {
        let mut changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            backing.forget(&mut changes);
        } else {
            let position = backing.submit(&mut changes);
            for changed in std::mem::take(&mut changes.objects) {
                let shard = self.shard_at(changed.key.slot());
                changes.objects.push(changed);
                self.shards[shard].1.pend(position, &mut changes);
            }
        }
        for key in self.keys {
            let (tag, shard) = (tag_of(self.space.hash(key.bytes())), self.shard_at(key.slot()));
            self.space.observe(backing, &mut self.shards[shard].1, tag, key.bytes(), turn);
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
