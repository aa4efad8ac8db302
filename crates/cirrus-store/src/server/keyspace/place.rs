//! One key's place in its locked shard: what is there, and every way to change it.
//!
//! Owns what an operation on one object does to its shard. Knows nothing of conditions, sessions or
//! protocols. Invariant: a change that fails changed nothing, and one that succeeds has a version.
//!
//! A small put: one look-up, one copy into the record, in place where its class stays the same;
//! otherwise one slot taken and one given back. No allocation but for the table's growth.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::error::Kind as ErrorKind;
use crate::key::{KeyRef, Version};
use crate::server::keyspace::Keyspace;
use crate::server::keyspace::backing::{Changes, Was};
use crate::server::keyspace::cold::Cold;
use crate::server::keyspace::record::{self, Kind, View};
use crate::server::keyspace::results::Results;
use crate::server::keyspace::shard::{Found, Other, Shard};
use crate::server::keyspace::value::{End, Item, Queue, Value};
use crate::wire::{Fault, NEVER};

/// Where a key's object is or would be.
#[derive(Debug)]
pub(in crate::server) struct Place<'a> {
    pub(super) shard: &'a mut Shard,
    pub(super) space: &'a Keyspace,
    pub(super) key: KeyRef<'a>,
    pub(super) tag: u32,
    pub(super) now_ms: u64,
    /// What was let go, to be dropped when no lock is held: freeing many pages takes long.
    pub(super) retired: &'a mut Vec<Other>,
    pub(super) changes: &'a mut Changes,
}

/// What a pop took, and what it left.
#[derive(Debug)]
pub(in crate::server) struct Popped {
    pub(in crate::server) version: Version,
    pub(in crate::server) item: Item,
    /// The items that are left.
    pub(in crate::server) items: u64,
}

impl Place<'_> {
    /// The epoch in which this node holds the key's slot, or `Moved`. Whoever uses the object asks
    /// before.
    pub(in crate::server) fn held(&self) -> Result<u32, Fault> {
        self.shard.holding.check(self.key.slot())
    }

    /// The object; `None` if there is none or its time is over.
    pub(in crate::server) fn found(&self) -> Option<Found<'_>> {
        self.view().map(|view| self.shard.found(view))
    }

    /// Where the log will have what this operation changes; known when the shard is unlocked. 0 where
    /// nothing has to be waited for.
    pub(in crate::server) fn position(&mut self) -> Arc<AtomicU64> {
        let position = Arc::new(AtomicU64::new(0));
        self.changes.told.push(position.clone());
        position
    }

    /// Brings the object's value into memory, if it lies on the disk only. Whoever uses a value or a
    /// queue does this before; it seldom has to be done here, as requests have theirs brought
    /// before they begin.
    pub(in crate::server) fn warm(&mut self) -> Result<(), Fault> {
        if self.space.backing.is_none() || self.view().is_none_or(|view| view.kind != Kind::Cold) {
            return Ok(());
        }
        self.space.warm_locked(self.shard, self.key, self.retired)
    }

    /// The write of a session that this operation carries out.
    pub(in crate::server) fn written_by(&mut self, life: u64, sequence: u64) {
        self.changes.writer = Some((life, sequence));
    }

    /// Makes a value the object, whatever was there. `expires_at` is Unix time in milliseconds, or
    /// [`NEVER`]. [`ErrorKind::OutOfMemory`] leaves what was there.
    pub(in crate::server) fn put(
        &mut self,
        value: Value<'_>,
        expires_at: u64,
        epoch: u32,
    ) -> Result<Version, Fault> {
        let was = self.before(value.len().max(1))?;
        let version = match value {
            Value::Small { bytes, crc } => self.write(Kind::Small, crc, bytes, expires_at, epoch),
            Value::Large(large) => {
                self.write_other(Kind::Large, Other::Large(large), expires_at, epoch)
            }
        }?;
        self.after(was);
        Ok(version)
    }

    /// Changes when the object ends, which gives it a version; false if there is no object.
    pub(in crate::server) fn set_expires_at(&mut self, at: u64, epoch: u32) -> Result<bool, Fault> {
        self.warm()?;
        let Some(view) = self.view() else { return Ok(false) };
        let bytes = self.shard.found(view).value_bytes();
        let was = self.before(bytes.max(1))?;
        let Some(view) = self.view() else { return Ok(false) };
        let (len, slabs) = (View { expires_at: at, ..view }.len(), &self.space.slabs);
        let Some(found) = self.shard.index.find_mut(slabs, self.tag, self.key.bytes()) else {
            return Ok(false);
        };
        if !slabs.fits(found, len) {
            let mut moved = slabs.take(len, self.tag)?;
            let kept = len.min(slabs.size(found));
            slabs.bytes_mut(&mut moved)[..kept].copy_from_slice(&slabs.bytes(found)[..kept]);
            slabs.give(std::mem::replace(found, moved));
        }
        record::set_expires_at(slabs.bytes_mut(found), at);
        self.shard.note_end(at);
        self.renew(epoch);
        self.after(was);
        Ok(true)
    }

    /// Removes the object; the version of the deletion, `None` if there was no object.
    pub(in crate::server) fn remove(&mut self, epoch: u32) -> Result<Option<Version>, Fault> {
        let is_there = self.view().is_some();
        if self.shard.index.find(&self.space.slabs, self.tag, self.key.bytes()).is_none() {
            return Ok(None);
        }
        let was = self.before(0)?;
        self.discard();
        let version = self.shard.versions.next(self.key.slot(), epoch);
        self.after(was);
        Ok(is_there.then_some(version))
    }

    /// Adds an item to a queue, which begins with it if there is no object; its new version, and
    /// how many items it has.
    pub(in crate::server) fn queue_push(
        &mut self,
        end: End,
        item: Value<'_>,
        epoch: u32,
    ) -> Result<(Version, u64), Fault> {
        self.warm()?;
        let (len, cost) = (item.len() as u64, item.queued_cost());
        let was = self.before(item.len().max(1))?;
        let Some(View { kind, word, .. }) = self.view() else {
            let paid = self.space.memory.reserve(Queue::COST + cost)?;
            let mut queue = Queue::default();
            queue.push(end, Item::of(item));
            let version = self.write_other(Kind::Queue, Other::Queue(queue, paid), NEVER, epoch)?;
            self.after(was);
            return Ok((version, 1));
        };
        if kind != Kind::Queue {
            return Err(ErrorKind::WrongType.into());
        }
        let mut more = self.space.memory.reserve(cost)?;
        let Some(Other::Queue(queue, paid)) = self.shard.others.get_mut(word) else {
            return Err(ErrorKind::WrongType.into());
        };
        paid.absorb(&mut more);
        queue.push(end, Item::of(item));
        let items = queue.len() as u64;
        self.shard.object_bytes += len;
        let version = self.renew(epoch);
        self.shard.wake(self.key.bytes());
        self.after(was);
        Ok((version, items))
    }

    /// Takes an item off a queue; `None` if there is no object. A queue that is empty is removed.
    pub(in crate::server) fn queue_pop(
        &mut self,
        end: End,
        epoch: u32,
    ) -> Result<Option<Popped>, Fault> {
        self.warm()?;
        let Some(View { kind, word, .. }) = self.view() else { return Ok(None) };
        if kind != Kind::Queue {
            return Err(ErrorKind::WrongType.into());
        }
        let was = self.before(0)?;
        let Some(Other::Queue(queue, paid)) = self.shard.others.get_mut(word) else {
            return Err(ErrorKind::WrongType.into());
        };
        let Some(item) = queue.pop(end) else { return Ok(None) };
        let items = queue.len() as u64;
        paid.shrink(item.queued_cost());
        self.shard.object_bytes -= item.stored().len() as u64;
        let version = self.renew(epoch);
        if items == 0 {
            self.discard();
        }
        self.after(was);
        Ok(Some(Popped { version, item, items }))
    }

    /// A signal for the next put or push of this key; dropped, it says: look again.
    pub(in crate::server) fn signal(&mut self) -> oneshot::Receiver<()> {
        self.shard.wait(self.key.to_key())
    }

    /// The answers of recent writes.
    pub(in crate::server) fn results(&mut self) -> &mut Results {
        &mut self.shard.results
    }

    /// Before a change whose record has a value of `len` bytes, 0 for what takes away: whether the
    /// disk will take it.
    fn before(&mut self, len: usize) -> Result<Was, Fault> {
        let Some(backing) = &self.space.backing else { return Ok(Was::default()) };
        backing.admit(self.changes, self.key.bytes(), len)?;
        Ok(backing.was(self.shard, &self.space.slabs, self.tag, self.key.bytes()))
    }

    /// After it: what the disk is to have.
    fn after(&mut self, was: Was) {
        if let Some(backing) = &self.space.backing {
            let (slabs, key) = (&self.space.slabs, &self.key.to_key());
            backing.note(self.changes, was, self.shard, slabs, self.tag, key);
        }
    }

    /// The record of an object whose time is not over.
    fn view(&self) -> Option<View<'_>> {
        let slabs = &self.space.slabs;
        let found = self.shard.index.find(slabs, self.tag, self.key.bytes())?;
        let view = View::read(slabs.bytes(found));
        (!view.has_expired(self.now_ms)).then_some(view)
    }

    fn write_other(
        &mut self,
        kind: Kind,
        other: Other,
        expires_at: u64,
        epoch: u32,
    ) -> Result<Version, Fault> {
        let bytes = other.bytes();
        let number = self.shard.others.insert(other);
        let written = self.write(kind, number, &[], expires_at, epoch);
        match written {
            Ok(_) => self.shard.object_bytes += bytes,
            Err(_) => self.retired.extend(self.shard.others.remove(number)),
        }
        written
    }

    /// Writes the object's record, over the one that was there.
    fn write(
        &mut self,
        kind: Kind,
        word: u32,
        value: &[u8],
        expires_at: u64,
        epoch: u32,
    ) -> Result<Version, Fault> {
        let (slabs, key) = (&self.space.slabs, self.key.bytes());
        let version = Version(0);
        let modified_at = self.now_ms;
        let mut view = View { version, expires_at, modified_at, kind, word, key, value };
        let len = view.len();
        let Shard { index, versions, others, object_bytes, .. } = &mut *self.shard;
        match index.find_mut(slabs, self.tag, key) {
            Some(found) => {
                let old = match slabs.fits(found, len) {
                    true => None,
                    false => Some(std::mem::replace(found, slabs.take(len, self.tag)?)),
                };
                let before = View::read(slabs.bytes(old.as_ref().unwrap_or(found)));
                *object_bytes -= key.len() as u64;
                match before.kind {
                    Kind::Small => *object_bytes -= before.value.len() as u64,
                    Kind::Cold => *object_bytes -= Cold::read(before.value).size(),
                    Kind::Large | Kind::Queue => {
                        if let Some(other) = others.remove(before.word) {
                            *object_bytes -= other.bytes();
                            self.retired.push(other);
                        }
                    }
                }
                view.version = versions.next(self.key.slot(), epoch);
                view.write(slabs.bytes_mut(found));
                if let Some(old) = old {
                    slabs.give(old);
                }
            }
            None => {
                if index.is_full() {
                    let began = Instant::now();
                    index.grow(&self.space.memory)?;
                    self.space.pauses.rehashed(began.elapsed());
                }
                let mut new = slabs.take(len, self.tag)?;
                view.version = versions.next(self.key.slot(), epoch);
                view.write(slabs.bytes_mut(&mut new));
                index.insert(new);
            }
        }
        self.shard.object_bytes += (key.len() + value.len()) as u64;
        self.shard.note_end(expires_at);
        self.shard.wake(key);
        Ok(view.version)
    }

    /// Removes the record, whether or not its time is over.
    fn discard(&mut self) {
        let slabs = &self.space.slabs;
        let Some(record) = self.shard.index.remove(slabs, self.tag, self.key.bytes()) else {
            return;
        };
        self.retired.extend(self.shard.forget(&View::read(slabs.bytes(&record))));
        slabs.give(record);
    }

    /// Gives the object its next version.
    fn renew(&mut self, epoch: u32) -> Version {
        let version = self.shard.versions.next(self.key.slot(), epoch);
        let slabs = &self.space.slabs;
        if let Some(found) = self.shard.index.find_mut(slabs, self.tag, self.key.bytes()) {
            record::set_version(slabs.bytes_mut(found), version, self.now_ms);
        }
        version
    }
}
