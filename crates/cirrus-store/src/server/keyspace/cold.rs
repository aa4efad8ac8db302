//! Objects whose values lie on the disk only.
//!
//! Owns what is kept in memory of such an object, and how its value comes back; `chill` owns which
//! objects leave. Knows nothing of requests. Invariant: every object has its record, cold or
//! not, so that names, versions and ends are never looked for on the disk; a cold object's value is
//! on the disk as of its record's version.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::futures::Notified;

use crate::error::{Error, Kind as ErrorKind};
use crate::key::{Key, KeyRef, SLOTS, Slot, Version};
use crate::segments::{Found as Stored, QueueHead, RecordKind};
use crate::server::arena::{Record, Slabs};
use crate::server::keyspace::backing::{Backing, Pending};
use crate::server::keyspace::record::{self, Kind, View};
use crate::server::keyspace::shard::{Other, Shard};
use crate::server::keyspace::value::{
    Filling, ITEM_OVERHEAD_BYTES, Item, Large, Queue, SMALL_BYTES_MAX, Value,
};
use crate::server::keyspace::{Keyspace, shard_of, tag_of};
use crate::wire::Fault;

/// Times that a value is read again because its object changed meanwhile.
const READS_MAX: usize = 8;

/// A small value of so many bytes or less takes no more room than what is kept of a cold one.
pub(super) const STUB_BYTES: usize = QueueHead::BYTES;

/// Names in a page while a store is opened.
const NAMES: usize = 4096;

/// What is kept of a value or queue that lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Cold {
    Value { size: u64 },
    Queue(QueueHead),
}

impl Cold {
    pub(super) fn read(value: &[u8]) -> Self {
        match (value.first_chunk(), QueueHead::decode(value)) {
            (_, Ok(head)) => Self::Queue(head),
            (Some(size), Err(_)) => Self::Value { size: u64::from_le_bytes(*size) },
            (None, Err(_)) => Self::Value { size: 0 },
        }
    }

    pub(super) fn write(self, value: &mut [u8; STUB_BYTES]) -> &[u8] {
        match self {
            Self::Value { size } => {
                value[..8].copy_from_slice(&size.to_le_bytes());
                &value[..8]
            }
            Self::Queue(head) => {
                value.copy_from_slice(&head.encode());
                value
            }
        }
    }

    /// Bytes of the value, or of all items.
    pub(in crate::server) fn size(self) -> u64 {
        match self {
            Self::Value { size } => size,
            Self::Queue(head) => head.bytes,
        }
    }

    pub(in crate::server) fn queue(self) -> Option<QueueHead> {
        match self {
            Self::Value { .. } => None,
            Self::Queue(head) => Some(head),
        }
    }
}

/// An object's version, when it ends, and when it was written.
type Ends = (Version, u64, u64);

/// What was read of a cold object, with memory of its own.
enum Warm {
    Small(Stored),
    Large(Large),
    Queue(Vec<Item>, QueueHead),
}

impl Keyspace {
    /// Has versions begin with the node's life, and takes up the names that the disk behind this
    /// keyspace has, and the versions of its slots. [`ErrorKind::OutOfMemory`] when there is no room
    /// for the names.
    pub(in crate::server) fn open(&self, incarnation: u64) -> Result<(), Error> {
        for shard in &self.shards {
            shard.lock().versions.begin(incarnation);
        }
        let Some(backing) = &self.backing else { return Ok(()) };
        for slot in (0..SLOTS).filter_map(Slot::new) {
            let version = backing.engine.version(slot);
            self.shards[shard_of(slot)].lock().versions.raise(slot, version);
        }
        let mut cursor = (0, 0);
        while cursor.0 < SLOTS {
            let page = backing.engine.scan(b"", cursor, NAMES)?;
            for name in page.names {
                let cold = match name.kind {
                    RecordKind::Queue => {
                        let found = backing.engine.read(&name.key)?;
                        let head = found.map(|found| QueueHead::decode(&found.value));
                        Cold::Queue(head.transpose()?.unwrap_or_default())
                    }
                    _ => Cold::Value { size: name.size },
                };
                let ends = (name.version, name.expires_at, name.modified_at);
                let shard = &mut self.shards[shard_of(name.key.slot())].lock();
                self.insert_cold(shard, &name.key, ends, cold).map_err(|fault| {
                    let text = format!(
                        "the names of {} objects do not fit into {} bytes of memory; give more",
                        backing.engine.stats().map_or(0, |stats| stats.objects),
                        self.memory.capacity()
                    );
                    Error::new(fault.kind, text).with_detail(self.memory.capacity())
                })?;
            }
            cursor = page.next;
        }
        Ok(())
    }

    /// Signals when memory of large values becomes free.
    pub(in crate::server) fn freed(&self) -> Notified<'_> {
        self.extents.freed()
    }

    /// Whether there are large values in memory, here or on their way.
    pub(in crate::server) fn holds_large(&self) -> bool {
        self.extents.held_bytes().0 > 0
    }

    /// Whether the key's value lies on the disk only.
    pub(in crate::server) fn is_cold(&self, key: KeyRef<'_>) -> bool {
        let tag = tag_of(self.hash(key.bytes()));
        let shard = self.shards[shard_of(key.slot())].lock();
        let found = shard.index.find(&self.slabs, tag, key.bytes());
        found.is_some_and(|found| View::read(self.slabs.bytes(found)).kind == Kind::Cold)
    }

    /// Brings a cold object's value into memory. Blocks; called without any lock.
    pub(in crate::server) fn warm(&self, key: &Key) -> Result<(), Fault> {
        let Some(backing) = &self.backing else { return Ok(()) };
        for _ in 0..READS_MAX {
            let Some(found) = backing.engine.read(key).map_err(fault)? else { return Ok(()) };
            let version = found.version;
            let Some(warm) = self.read_warm(backing, key, found, |found| {
                let turn = self.under_way.nothing();
                let mut filling = self.filling_with(found.value.len(), turn)?;
                filling.bytes_mut().copy_from_slice(&found.value);
                Ok(filling.finish(found.sums.clone()))
            })?
            else {
                continue;
            };
            let mut retired = Vec::new();
            let mut shard = self.shards[shard_of(key.slot())].lock();
            if self.install(&mut shard, key, version, warm, &mut retired)? {
                return Ok(());
            }
        }
        // It changes all the time: then it is not cold for long.
        Ok(())
    }

    /// The same with the key's shard locked, when an object became cold again on the way to an
    /// operation.
    pub(super) fn warm_locked(
        &self,
        shard: &mut Shard,
        key: KeyRef<'_>,
        retired: &mut Vec<Other>,
    ) -> Result<(), Fault> {
        let Some(backing) = &self.backing else { return Ok(()) };
        let key = &key.to_key();
        let Some(found) = backing.engine.read(key).map_err(fault)? else {
            return Err(ErrorKind::Corrupt.into());
        };
        let version = found.version;
        let warm = self.read_warm(backing, key, found, |found| {
            let (extent, overhead) = self.extent(found.value.len())?;
            let mut filling = Filling::new(extent, overhead, self.under_way.nothing());
            filling.bytes_mut().copy_from_slice(&found.value);
            Ok(filling.finish(found.sums.clone()))
        })?;
        match warm.map(|warm| self.install(shard, key, version, warm, retired)) {
            Some(Ok(true)) => Ok(()),
            Some(Err(fault)) => Err(fault),
            // Nothing is cold that is not on the disk as it is here.
            Some(Ok(false)) | None => Err(ErrorKind::Corrupt.into()),
        }
    }

    /// `None` when the object has changed since.
    fn read_warm(
        &self,
        backing: &Backing,
        key: &Key,
        found: Stored,
        large: impl Fn(&Stored) -> Result<Large, Fault>,
    ) -> Result<Option<Warm>, Fault> {
        let is_large = |found: &Stored| found.value.len() > SMALL_BYTES_MAX;
        if found.kind != RecordKind::Queue {
            let warm =
                if is_large(&found) { Warm::Large(large(&found)?) } else { Warm::Small(found) };
            return Ok(Some(warm));
        }
        let head = QueueHead::decode(&found.value).map_err(fault)?;
        let cost = Queue::COST + head.len() * ITEM_OVERHEAD_BYTES + head.bytes;
        if cost > self.memory.capacity() {
            return Err(Fault { kind: ErrorKind::OutOfMemory, detail: self.memory.free() });
        }
        let Some(items) = backing.engine.read_items(key, &head).map_err(fault)? else {
            return Ok(None);
        };
        let items = items.iter().map(|item| match is_large(item) {
            true => Ok(Item::of(Value::Large(large(item)?))),
            false => Ok(Item::of(Value::Small { bytes: &item.value, crc: item.sums.first() })),
        });
        Ok(Some(Warm::Queue(items.collect::<Result<_, Fault>>()?, head)))
    }

    /// Makes a cold object warm; false if it is not cold any more, or of another version.
    fn install(
        &self,
        shard: &mut Shard,
        key: &Key,
        version: Version,
        warm: Warm,
        retired: &mut Vec<Other>,
    ) -> Result<bool, Fault> {
        let tag = tag_of(self.hash(key.as_bytes()));
        let slabs = &self.slabs;
        let Shard { index, others, .. } = shard;
        let Some(found) = index.find_mut(slabs, tag, key.as_bytes()) else { return Ok(false) };
        let view = View::read(slabs.bytes(found));
        if view.kind != Kind::Cold {
            // Somebody else was here.
            return Ok(true);
        }
        if view.version != version {
            return Ok(false);
        }
        let (kind, word, value) = match warm {
            Warm::Small(found) => (Kind::Small, found.sums.first(), found.value),
            Warm::Large(large) => (Kind::Large, others.insert(Other::Large(large)), Bytes::new()),
            Warm::Queue(items, head) => {
                let cost = items.iter().map(Item::queued_cost).sum::<u64>();
                let paid = self.memory.reserve(Queue::COST + cost)?;
                let queue = Queue::with(items, head);
                (Kind::Queue, others.insert(Other::Queue(queue, paid)), Bytes::new())
            }
        };
        let written = replace(slabs, found, tag, key.as_bytes(), (kind, word, &value));
        self.hand.look_again();
        if let Err(fault) = written {
            if kind != Kind::Small {
                retired.extend(others.remove(word));
            }
            return Err(fault);
        }
        Ok(true)
    }

    /// What the disk has, when nothing is known of the key.
    fn insert_cold(
        &self,
        shard: &mut Shard,
        key: &Key,
        (version, expires_at, modified_at): Ends,
        cold: Cold,
    ) -> Result<(), Fault> {
        let tag = tag_of(self.hash(key.as_bytes()));
        let mut stub = [0; STUB_BYTES];
        let (value, key) = (cold.write(&mut stub), key.as_bytes());
        let kind = Kind::Cold;
        let view = View { version, expires_at, modified_at, kind, word: 0, key, value };
        if shard.index.is_full() {
            shard.index.grow(&self.memory)?;
        }
        let mut new = self.slabs.take(view.len(), tag)?;
        let slot = self.slabs.bytes_mut(&mut new);
        view.write(slot);
        record::set_clean(slot, true);
        shard.index.insert(new);
        shard.object_bytes += key.len() as u64 + cold.size();
        shard.note_end(expires_at);
        Ok(())
    }

    /// Lets go of what was lost on the way to the disk, everywhere, and has the disk's state count;
    /// then changes are taken again. Where the disk cannot be read, objects stay lost to all who
    /// look at them, no change is taken, and this is to be called again. Blocks; called without any
    /// lock.
    pub(in crate::server) fn mend(&self) -> Result<(), Error> {
        let Some(backing) = &self.backing else { return Ok(()) };
        let mut result = Ok(());
        for shard in &self.shards {
            if let Err(error) = self.mend_shard(backing, shard) {
                result = Err(error);
            }
        }
        if result.is_ok() {
            backing.engine.resume();
        }
        result
    }

    /// The disk is read without the shard's lock: nothing changes there before all is mended. Who
    /// was admitted before the loss had the lock before, so nothing more is lost in this shard.
    fn mend_shard(&self, backing: &Backing, shard: &Mutex<Shard>) -> Result<(), Error> {
        let mut result = Ok(());
        let mut stored = HashMap::new();
        let lost = shard.lock().lost(&backing.progress.borrow());
        for key in lost.into_iter().filter(|_| backing.is_durable) {
            match stored_name(backing, &key) {
                Ok(name) => drop(stored.insert(key, name)),
                Err(error) => result = Err(error),
            }
        }
        let mut retired = Vec::new();
        let mut shard = shard.lock();
        let lost: Vec<Pending> = shard.take_lost(&backing.progress.borrow());
        for pending in lost {
            if let Some((life, sequence)) = pending.writer {
                shard.results.forget(life, sequence);
            }
            if !backing.is_durable {
                continue;
            }
            let key = &pending.changed.key;
            let Some(name) = stored.get(key) else {
                // It could not be read; who was lost since would be looked up the next time.
                shard.put_back(pending);
                result = result.and(Err(Error::new(ErrorKind::Io, "an object was lost since")));
                continue;
            };
            if let Err(error) = self.restore(&mut shard, key, *name, &mut retired) {
                shard.put_back(pending);
                result = Err(error);
            }
        }
        result
    }

    /// Has the key be what the disk says.
    fn restore(
        &self,
        shard: &mut Shard,
        key: &Key,
        stored: Option<(Ends, Cold)>,
        retired: &mut Vec<Other>,
    ) -> Result<(), Error> {
        let tag = tag_of(self.hash(key.as_bytes()));
        if let Some(record) = shard.index.remove(&self.slabs, tag, key.as_bytes()) {
            retired.extend(shard.forget(&View::read(self.slabs.bytes(&record))));
            self.slabs.give(record);
        }
        shard.wake(key.as_bytes());
        let Some((ends, cold)) = stored else { return Ok(()) };
        self.insert_cold(shard, key, ends, cold)
            .map_err(|fault| Error::new(fault.kind, "no memory for its name"))
    }
}

/// What the disk says of an object, which may be in a bucket.
fn stored_name(backing: &Backing, key: &Key) -> Result<Option<(Ends, Cold)>, Error> {
    let Some(found) = backing.engine.stat(key)? else { return Ok(None) };
    let cold = match found.kind {
        RecordKind::Queue => match backing.engine.read(key)? {
            Some(found) => Cold::Queue(QueueHead::decode(&found.value)?),
            None => return Ok(None),
        },
        _ => Cold::Value { size: found.size },
    };
    Ok(Some(((found.version, found.expires_at, found.modified_at), cold)))
}

/// Writes a clean record over one that is there: the same object in another form.
pub(super) fn replace(
    slabs: &Slabs,
    found: &mut Record,
    tag: u32,
    key: &[u8],
    (kind, word, value): (Kind, u32, &[u8]),
) -> Result<(), Fault> {
    let View { version, expires_at, modified_at, .. } = View::read(slabs.bytes(found));
    let view = View { version, expires_at, modified_at, kind, word, key, value };
    if !slabs.fits(found, view.len()) {
        let new = slabs.take(view.len(), tag)?;
        slabs.give(std::mem::replace(found, new));
    }
    let slot = slabs.bytes_mut(found);
    view.write(slot);
    record::set_clean(slot, true);
    Ok(())
}

fn fault(error: Error) -> Fault {
    tracing::warn!(%error, "a value could not be read");
    Fault::from(&error)
}
