//! One key's place in its locked shard: what is there, and every way to change it.
//!
//! Owns what an operation on one object does to its shard. Knows nothing of conditions, sessions or
//! protocols. Invariant: a change that fails changed nothing, and one that succeeds has a version.

use tokio::sync::oneshot;

use crate::error::Kind;
use crate::key::{KeyRef, Version};
use crate::server::keyspace::results::Results;
use crate::server::keyspace::shard::{Content, Found, OBJECT_OVERHEAD_BYTES, Object, Shard};
use crate::server::keyspace::value::{End, Item, Queue, Value};
use crate::server::memory::Memory;
use crate::wire::{Fault, NEVER};

/// Where a key's object is or would be.
#[derive(Debug)]
pub(in crate::server) struct Place<'a> {
    pub(super) shard: &'a mut Shard,
    pub(super) memory: &'a Memory,
    pub(super) key: KeyRef<'a>,
    pub(super) now_ms: u64,
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
    /// The object; `None` if there is none or its time is over.
    pub(in crate::server) fn found(&self) -> Option<Found<'_>> {
        let object = self.shard.objects.get(self.key.bytes())?;
        (!object.expired(self.now_ms)).then(|| object.found())
    }

    /// Makes a value the object, whatever was there. `expires_at` is Unix time in milliseconds, or
    /// [`NEVER`]. [`Kind::OutOfMemory`] leaves what was there.
    pub(in crate::server) fn put(
        &mut self,
        value: Value<'_>,
        expires_at: u64,
        epoch: u32,
    ) -> Result<Version, Fault> {
        let small = match &value {
            Value::Small { bytes, .. } => bytes.len() as u64,
            Value::Large(_) => 0,
        };
        let cost = self.cost() + small;
        let content = match value {
            Value::Small { bytes, crc } => Content::Small { bytes: bytes.into(), crc },
            Value::Large(large) => Content::Large(large),
        };
        self.replace(content, cost, expires_at, epoch)
    }

    /// Changes when the object ends, and not its version; false if there is no object.
    #[allow(dead_code, reason = "the native protocol has no such request yet")]
    pub(in crate::server) fn set_expires_at(&mut self, at: u64) -> bool {
        let now_ms = self.now_ms;
        let object = self.shard.objects.get_mut(self.key.bytes());
        let Some(object) = object.filter(|object| !object.expired(now_ms)) else { return false };
        object.expires_at = at;
        self.shard.may_expire |= at != NEVER;
        true
    }

    /// Removes the object; the version of the deletion, `None` if there was no object.
    pub(in crate::server) fn remove(&mut self, epoch: u32) -> Option<Version> {
        let object = self.shard.objects.remove(self.key.bytes())?;
        (!object.expired(self.now_ms)).then(|| self.shard.next_version(self.key.slot(), epoch))
    }

    /// Adds an item to a queue, which begins with it if there is no object; its new version, and
    /// how many items it has.
    pub(in crate::server) fn queue_push(
        &mut self,
        end: End,
        item: Value<'_>,
        epoch: u32,
    ) -> Result<(Version, u64), Fault> {
        let mut paid = self.memory.reserve(item_cost(&item))?;
        let item = Item::of(item);
        let is_there = self.found().is_some();
        if !is_there {
            let mut queue = Queue::default();
            queue.push(end, item);
            let version = self.replace(Content::Queue(queue), self.cost(), NEVER, epoch)?;
            if let Some(object) = self.shard.objects.get_mut(self.key.bytes()) {
                object.reservation.absorb(&mut paid);
            }
            return Ok((version, 1));
        }
        let Some(Object { content: Content::Queue(queue), reservation, .. }) =
            self.shard.objects.get_mut(self.key.bytes())
        else {
            return Err(Kind::WrongType.into());
        };
        queue.push(end, item);
        let items = queue.len() as u64;
        reservation.absorb(&mut paid);
        let version = self.renewed(epoch);
        self.shard.wake(self.key.bytes());
        Ok((version, items))
    }

    /// Takes an item off a queue; `None` if there is no object. A queue that is empty is removed.
    pub(in crate::server) fn queue_pop(
        &mut self,
        end: End,
        epoch: u32,
    ) -> Result<Option<Popped>, Fault> {
        if self.found().is_none() {
            return Ok(None);
        }
        let Some(Object { content: Content::Queue(queue), reservation, .. }) =
            self.shard.objects.get_mut(self.key.bytes())
        else {
            return Err(Kind::WrongType.into());
        };
        let Some(item) = queue.pop(end) else { return Ok(None) };
        let items = queue.len() as u64;
        reservation.shrink(match &item {
            Item::Small { bytes, .. } => ITEM_OVERHEAD_BYTES + bytes.len() as u64,
            Item::Large(_) => ITEM_OVERHEAD_BYTES,
        });
        let version = self.renewed(epoch);
        if items == 0 {
            self.shard.objects.remove(self.key.bytes());
        }
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

    fn cost(&self) -> u64 {
        OBJECT_OVERHEAD_BYTES + self.key.bytes().len() as u64
    }

    fn replace(
        &mut self,
        content: Content,
        cost: u64,
        expires_at: u64,
        epoch: u32,
    ) -> Result<Version, Fault> {
        let (shard, key) = (&mut *self.shard, self.key);
        match shard.objects.get_mut(key.bytes()) {
            Some(object) => {
                object.reservation.resize(cost)?;
                (object.content, object.expires_at) = (content, expires_at);
            }
            None => {
                let reservation = self.memory.reserve(cost)?;
                let version = Version(0);
                let object = Object { version, expires_at, content, reservation };
                shard.objects.insert(key.to_key(), object);
            }
        }
        shard.may_expire |= expires_at != NEVER;
        let version = self.renewed(epoch);
        self.shard.wake(key.bytes());
        Ok(version)
    }

    /// Gives the object its next version.
    fn renewed(&mut self, epoch: u32) -> Version {
        let version = self.shard.next_version(self.key.slot(), epoch);
        if let Some(object) = self.shard.objects.get_mut(self.key.bytes()) {
            object.version = version;
        }
        version
    }
}

/// What an item of a queue costs beyond its bytes.
const ITEM_OVERHEAD_BYTES: u64 = 2 * size_of::<Item>() as u64 + 16;

fn item_cost(item: &Value<'_>) -> u64 {
    match item {
        Value::Small { bytes, .. } => ITEM_OVERHEAD_BYTES + bytes.len() as u64,
        Value::Large(_) => ITEM_OVERHEAD_BYTES,
    }
}
