//! One of the keyspace's parts: the objects of a group of slots, behind one short lock.
//!
//! Owns the index of its objects, what does not fit into records, versions, who waits, the results
//! of recent writes, and which of its slots the node holds. Plain data: no socket, and the clock is an argument. Invariant: the
//! version of a slot only grows; a record of a large value or queue has its entry in `others`, and
//! nothing else has.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::Kind as ErrorKind;
use crate::key::{Key, Slot, Version};
use crate::segments::{Progress, QueueHead};
use crate::server::arena::Slabs;
use crate::server::keyspace::backing::{Backing, Changes, Pending};
use crate::server::keyspace::cold::Cold;
use crate::server::keyspace::index::Index;
use crate::server::keyspace::record::{self, Kind, View};
use crate::server::keyspace::results::Results;
use crate::server::keyspace::value::{Large, Queue, Stored};
use crate::server::memory::{Memory, Reservation};
use crate::server::session::Census;
use crate::wire::{Fault, NEVER};

/// A version's upper bits are the epoch that it was given in, as far as they hold one.
const EPOCH_SHIFT: u32 = 50;
const EPOCH_MAX: u32 = (1 << (u64::BITS - EPOCH_SHIFT)) - 1;

/// The lower ones count on from the life's beginning, in units of 2^12 ns: until 2116 a later life
/// begins above all versions of an earlier one, unless a slot had more than one in 4 µs over a whole
/// life, or the clock went back.
const LIFE_SHIFT: u32 = 12;
const LIFE_MAX: u64 = (1 << EPOCH_SHIFT) - 1;

/// Slots that share a shard.
pub(super) const SLOTS_PER_SHARD: u16 = 16;

/// What a place shows of its object.
#[derive(Debug)]
pub(in crate::server) struct Found<'a> {
    pub(in crate::server) version: Version,
    pub(in crate::server) expires_at: u64,
    /// When it was last written, in Unix ms.
    pub(in crate::server) modified_at: u64,
    pub(in crate::server) content: Contents<'a>,
}

/// What an object is.
#[derive(Debug)]
pub(in crate::server) enum Contents<'a> {
    Value(Stored<'a>),
    Queue(&'a Queue),
    /// A value or queue that lies on the disk; see `Place::warm`.
    Cold(Cold),
}

impl Found<'_> {
    /// Bytes of the value, or of all items of the queue.
    pub(in crate::server) fn size(&self) -> u64 {
        match &self.content {
            Contents::Value(stored) => stored.len() as u64,
            Contents::Queue(queue) => queue.bytes(),
            Contents::Cold(cold) => cold.size(),
        }
    }

    /// Bytes of a value, or of what is kept of a queue beside its items.
    pub(super) fn value_bytes(&self) -> usize {
        match &self.content {
            Contents::Value(stored) => stored.len(),
            Contents::Queue(_) | Contents::Cold(_) => QueueHead::BYTES,
        }
    }

    pub(in crate::server) fn is_queue(&self) -> bool {
        match &self.content {
            Contents::Value(_) => false,
            Contents::Queue(_) => true,
            Contents::Cold(cold) => cold.queue().is_some(),
        }
    }
}

/// What lies beside the records.
#[derive(Debug)]
pub(super) enum Other {
    Large(Large),
    Queue(Queue, Reservation),
}

impl Other {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Large(large) => large.bytes().len() as u64,
            Self::Queue(queue, _) => queue.bytes(),
        }
    }
}

/// Large values and queues, by number.
#[derive(Debug, Default)]
pub(super) struct Others {
    entries: Vec<Option<Other>>,
    vacant: Vec<u32>,
}

impl Others {
    pub(super) fn insert(&mut self, other: Other) -> u32 {
        match self.vacant.pop() {
            Some(number) => {
                self.entries[number as usize] = Some(other);
                number
            }
            None => {
                self.entries.push(Some(other));
                u32::try_from(self.entries.len() - 1).expect("a shard has fewer objects")
            }
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<&Other> {
        self.entries.get(number as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Other> {
        self.entries.get_mut(number as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Other> {
        let other = self.entries.get_mut(number as usize)?.take();
        self.vacant.push(number);
        if self.vacant.len() == self.entries.len() {
            (self.entries, self.vacant) = Default::default();
        }
        other
    }
}

/// The last version of each slot, and where those of an epoch begin.
#[derive(Debug, Default)]
pub(super) struct Versions {
    last: [u64; SLOTS_PER_SHARD as usize],
    life: u64,
}

impl Versions {
    /// A life is named by the nanosecond of its beginning.
    pub(super) fn begin(&mut self, incarnation: u64) {
        self.life = (incarnation >> LIFE_SHIFT).min(LIFE_MAX);
    }

    pub(super) fn next(&mut self, slot: Slot, epoch: u32) -> Version {
        let last = &mut self.last[usize::from(slot.number() % SLOTS_PER_SHARD)];
        let first = u64::from(epoch.min(EPOCH_MAX)) << EPOCH_SHIFT | self.life;
        *last = (*last + 1).max(first);
        Version(*last)
    }

    pub(super) fn last(&self, slot: Slot) -> Version {
        Version(self.last[usize::from(slot.number() % SLOTS_PER_SHARD)])
    }

    /// No version of the slot was larger than this.
    pub(super) fn raise(&mut self, slot: Slot, version: Version) {
        let last = &mut self.last[usize::from(slot.number() % SLOTS_PER_SHARD)];
        *last = (*last).max(version.0);
    }
}

/// Which of a shard's slots the node holds, as of an epoch. It lies behind the shard's lock, so that
/// asking costs nothing, and whoever changes it waits for those who were told otherwise.
#[derive(Debug, Default)]
pub(super) struct Holding {
    epoch: u32,
    /// A bit for each slot.
    slots: u16,
}

impl Holding {
    pub(super) fn new(epoch: u32, slots: impl Iterator<Item = bool>) -> Self {
        let bits = slots.zip(0..SLOTS_PER_SHARD);
        Self { epoch, slots: bits.fold(0, |slots, (held, bit)| slots | u16::from(held) << bit) }
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The epoch in which the node holds `slot`, or `Moved`.
    pub(super) fn check(&self, slot: Slot) -> Result<u32, Fault> {
        match self.slots >> (slot.number() % SLOTS_PER_SHARD) & 1 {
            0 => Err(Fault { kind: ErrorKind::Moved, detail: u64::from(self.epoch) }),
            _ => Ok(self.epoch),
        }
    }
}

const _: () = assert!(SLOTS_PER_SHARD as u32 == u16::BITS, "a bit for each slot");

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) holding: Holding,
    pub(super) index: Index,
    pub(super) others: Others,
    pub(super) versions: Versions,
    pub(super) results: Results,
    /// Bytes of keys, values and items.
    pub(super) object_bytes: u64,
    /// No object ends before this.
    pub(super) ends_at_min: u64,
    waiters: HashMap<Key, Vec<oneshot::Sender<()>>>,
    /// What is on its way to the disk, in the order of its log.
    pub(super) pending: VecDeque<Pending>,
}

impl Shard {
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            holding: Holding::default(),
            index: Index::default(),
            others: Others::default(),
            versions: Versions::default(),
            results: Results::new(memory),
            object_bytes: 0,
            ends_at_min: u64::MAX,
            waiters: HashMap::new(),
            pending: VecDeque::new(),
        }
    }

    /// The object in a record.
    pub(super) fn found<'a>(&'a self, view: View<'a>) -> Found<'a> {
        let content = match (view.kind, self.others.get(view.word)) {
            (Kind::Large, Some(Other::Large(large))) => Contents::Value(Stored::Large(large)),
            (Kind::Queue, Some(Other::Queue(queue, _))) => Contents::Queue(queue),
            (Kind::Cold, _) => Contents::Cold(Cold::read(view.value)),
            (Kind::Small | Kind::Large | Kind::Queue, _) => {
                debug_assert_eq!(view.kind, Kind::Small, "an object has its entry");
                Contents::Value(Stored::Small { bytes: view.value, crc: view.word })
            }
        };
        let View { version, expires_at, modified_at, .. } = view;
        Found { version, expires_at, modified_at, content }
    }

    /// Lets go of what a record stands for; what was beside it is the caller's to drop, when no
    /// lock is held.
    pub(super) fn forget(&mut self, view: &View<'_>) -> Option<Other> {
        let (other, bytes) = match view.kind {
            Kind::Small => (None, view.value.len() as u64),
            Kind::Large | Kind::Queue => {
                let other = self.others.remove(view.word);
                let bytes = other.as_ref().map_or(0, Other::bytes);
                (other, bytes)
            }
            Kind::Cold => (None, Cold::read(view.value).size()),
        };
        self.object_bytes -= view.key.len() as u64 + bytes;
        other
    }

    /// What an operation changed is on its way to the disk.
    pub(super) fn pend(&mut self, position: u64, changes: &mut Changes) {
        let writer = changes.writer.take();
        let changed = changes.objects.drain(..);
        self.pending.extend(changed.map(|changed| Pending { position, changed, writer }));
    }

    /// The last position in the log that says something of the key and was not durable yet.
    pub(super) fn pending_of(&self, key: &[u8]) -> Option<u64> {
        let mut pending = self.pending.iter().rev();
        pending.find(|one| one.changed.key.as_bytes() == key).map(|one| one.position)
    }

    /// Notes what has become durable.
    pub(super) fn settle(&mut self, slabs: &Slabs, backing: &Backing) {
        if self.pending.is_empty() {
            return;
        }
        let progress = backing.progress.borrow();
        while let Some(Pending { position, changed, .. }) = self.pending.front() {
            if !matches!(progress.of(*position), Some(Ok(()))) {
                return;
            }
            let found = self.index.find_mut(slabs, changed.tag, changed.key.as_bytes());
            if let Some(found) = found
                && View::read(slabs.bytes(found)).version == changed.version
            {
                record::set_clean(slabs.bytes_mut(found), true);
            }
            self.pending.pop_front();
        }
    }

    /// Whose changes were lost on their way.
    pub(super) fn lost(&self, progress: &Progress) -> HashSet<Key> {
        let is_lost = |one: &&Pending| matches!(progress.of(one.position), Some(Err(_)));
        self.pending.iter().filter(is_lost).map(|one| one.changed.key.clone()).collect()
    }

    /// Takes out what was lost on its way.
    pub(super) fn take_lost(&mut self, progress: &Progress) -> Vec<Pending> {
        let is_lost = |one: &mut Pending| matches!(progress.of(one.position), Some(Err(_)));
        let (lost, kept): (Vec<_>, Vec<_>) = self
            .pending
            .drain(..)
            .map(|mut one| (is_lost(&mut one), one))
            .partition(|(lost, _)| *lost);
        self.pending = kept.into_iter().map(|(_, one)| one).collect();
        lost.into_iter().map(|(_, one)| one).collect()
    }

    /// Keeps what was lost in mind, as its object could not be mended.
    pub(super) fn put_back(&mut self, lost: Pending) {
        let at = self.pending.partition_point(|one| one.position <= lost.position);
        self.pending.insert(at, lost);
    }

    /// An object may end at `at`.
    pub(super) fn note_end(&mut self, at: u64) {
        if at != NEVER {
            self.ends_at_min = self.ends_at_min.min(at);
        }
    }

    /// A signal for the next put or push of `key`.
    pub(super) fn wait(&mut self, key: Key) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let waiters = self.waiters.entry(key).or_default();
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(sender);
        receiver
    }

    pub(super) fn wake(&mut self, key: &[u8]) {
        if self.waiters.is_empty() {
            return;
        }
        for waiter in self.waiters.remove(key).unwrap_or_default() {
            // A waiter that has gone away needs no signal.
            let _ = waiter.send(());
        }
    }

    /// Takes up what a newer view says, and has everyone who waits look again; an older one
    /// changes nothing.
    pub(super) fn hold(&mut self, holding: Holding) {
        if holding.epoch > self.holding.epoch {
            self.holding = holding;
            self.waiters.clear();
        }
    }

    /// The keys of what has expired, to be removed now.
    pub(super) fn expired(&mut self, now_ms: u64, slabs: &Slabs) -> Vec<Key> {
        if self.ends_at_min > now_ms {
            return Vec::new();
        }
        let mut ends_at_min = u64::MAX;
        let mut expired = Vec::new();
        for record in self.index.iter() {
            let view = View::read(slabs.bytes(record));
            if view.has_expired(now_ms) {
                expired.extend(Key::new(Bytes::copy_from_slice(view.key)).ok());
            } else if view.expires_at != NEVER {
                ends_at_min = ends_at_min.min(view.expires_at);
            }
        }
        self.ends_at_min = ends_at_min;
        expired
    }

    /// Removes who has stopped waiting, and the results that nobody will ask for again.
    pub(super) fn sweep(&mut self, census: &Census, memory: &Memory) {
        self.index.shrink(memory);
        self.waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        self.results.sweep(census);
    }

    /// The keys of all objects.
    pub(super) fn keys(&self, slabs: &Slabs) -> Vec<Key> {
        let keys = self.index.iter().map(|record| View::read(slabs.bytes(record)).key);
        keys.filter_map(|key| Key::new(Bytes::copy_from_slice(key)).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn versions_of_a_later_life_or_epoch_are_above_all_earlier_ones() {
        let slot = Slot::of(b"key");
        let life = |began: u64| {
            let mut versions = Versions::default();
            versions.begin(began);
            versions
        };
        let now = 1_800_000_000 * SECOND;
        let (mut before, mut after) = (life(now), life(now + SECOND));
        for epoch in [1, 2, 9] {
            // As many as a slot may have in a second.
            let last = (0..240_000).map(|_| before.next(slot, epoch)).last();
            let first = after.next(slot, epoch);
            assert!(Some(first) > last, "{first} in epoch {epoch} after {last:?}");
        }
        assert!(before.next(slot, 10) > after.last(slot), "a later epoch, of an older life");
        let mut late = life(u64::MAX);
        assert!(late.next(slot, 3) < before.next(slot, 4), "no life reaches into the epoch");
    }
}
