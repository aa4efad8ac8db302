//! One of the keyspace's parts: the objects of a group of slots, behind one short lock.
//!
//! Owns objects, their versions, who waits for them, and the results of recent writes. Plain data:
//! no socket, and the clock is an argument. Invariant: the version of a slot only grows, and every
//! object holds the reservation that pays for it.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tokio::sync::oneshot;

use crate::key::{Key, Slot, Version};
use crate::server::keyspace::results::Results;
use crate::server::keyspace::value::{Large, Queue, Stored};
use crate::server::memory::Reservation;
use crate::server::session::Census;
use crate::wire::NEVER;

/// A version's upper bits are the epoch that it was given in, as far as they hold one.
const EPOCH_SHIFT: u32 = 40;
const EPOCH_MAX: u32 = (1 << (u64::BITS - EPOCH_SHIFT)) - 1;

/// Slots that share a shard.
pub(super) const SLOTS_PER_SHARD: u16 = 16;

/// What an object costs beyond its key and value: its entry in the index at the table's mean load,
/// and the allocator's own bookkeeping for key and value.
pub(super) const OBJECT_OVERHEAD_BYTES: u64 = 2 * size_of::<(Key, Object)>() as u64 + 64;

#[derive(Debug)]
pub(super) struct Object {
    pub(super) version: Version,
    pub(super) expires_at: u64,
    pub(super) content: Content,
    pub(super) reservation: Reservation,
}

#[derive(Debug)]
pub(super) enum Content {
    Small { bytes: Box<[u8]>, crc: u32 },
    Large(Large),
    Queue(Queue),
}

/// A copy of what a place shows of its object.
#[derive(Debug)]
pub(in crate::server) struct Found<'a> {
    pub(in crate::server) version: Version,
    pub(in crate::server) expires_at: u64,
    pub(in crate::server) content: Contents<'a>,
}

/// What an object is.
#[derive(Debug)]
pub(in crate::server) enum Contents<'a> {
    Value(Stored<'a>),
    Queue(&'a Queue),
}

impl Found<'_> {
    /// Bytes of the value, or of all items of the queue.
    pub(in crate::server) fn size(&self) -> u64 {
        match &self.content {
            Contents::Value(stored) => stored.len() as u64,
            Contents::Queue(queue) => queue.bytes(),
        }
    }

    pub(in crate::server) fn is_queue(&self) -> bool {
        matches!(self.content, Contents::Queue(_))
    }
}

impl Object {
    pub(super) fn found(&self) -> Found<'_> {
        let content = match &self.content {
            Content::Small { bytes, crc } => Contents::Value(Stored::Small { bytes, crc: *crc }),
            Content::Large(large) => Contents::Value(Stored::Large(large)),
            Content::Queue(queue) => Contents::Queue(queue),
        };
        Found { version: self.version, expires_at: self.expires_at, content }
    }

    pub(super) fn expired(&self, now_ms: u64) -> bool {
        self.expires_at != NEVER && self.expires_at <= now_ms
    }
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) objects: hashbrown::HashMap<Key, Object, FixedState>,
    pub(super) results: Results,
    versions: [u64; SLOTS_PER_SHARD as usize],
    waiters: HashMap<Key, Vec<oneshot::Sender<()>>>,
    /// Whether an object may have an end, so that sweeping pays.
    pub(super) may_expire: bool,
}

impl Shard {
    pub(super) fn new(hasher: FixedState) -> Self {
        Self {
            objects: hashbrown::HashMap::with_hasher(hasher),
            results: Results::default(),
            versions: [0; SLOTS_PER_SHARD as usize],
            waiters: HashMap::new(),
            may_expire: false,
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
        for waiter in self.waiters.remove(key).unwrap_or_default() {
            // A waiter that has gone away needs no signal.
            let _ = waiter.send(());
        }
    }

    /// Has everyone who waits look again.
    pub(super) fn wake_all(&mut self) {
        self.waiters.clear();
    }

    /// Removes what has expired, who has stopped waiting, and the results that nobody will ask
    /// for again.
    pub(super) fn sweep(&mut self, now_ms: u64, census: &Census) {
        if self.may_expire {
            self.objects.retain(|_, object| !object.expired(now_ms));
            self.may_expire = self.objects.values().any(|object| object.expires_at != NEVER);
        }
        self.waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        self.results.sweep(census);
    }

    /// Removes every object; each deletion has a version.
    pub(super) fn clear(&mut self, epoch: u32) {
        for (key, _) in std::mem::take(&mut self.objects_emptied()) {
            self.next_version(key.slot(), epoch);
        }
    }

    fn objects_emptied(&mut self) -> hashbrown::HashMap<Key, Object, FixedState> {
        let hasher = self.objects.hasher().clone();
        std::mem::replace(&mut self.objects, hashbrown::HashMap::with_hasher(hasher))
    }

    pub(super) fn next_version(&mut self, slot: Slot, epoch: u32) -> Version {
        let last = &mut self.versions[usize::from(slot.number() % SLOTS_PER_SHARD)];
        *last = (*last + 1).max(u64::from(epoch.min(EPOCH_MAX)) << EPOCH_SHIFT);
        Version(*last)
    }
}
