//! One of the index's parts: the objects of a group of slots, behind one short lock.
//!
//! Owns objects, their versions, who waits for them, and the results of recent writes. Plain data:
//! no socket, and the clock is an argument. Invariant: the version of a slot only grows, and every
//! object holds the reservation that pays for it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use foldhash::fast::FixedState;
use tokio::sync::oneshot;

use crate::checksum::Sums;
use crate::error::Kind;
use crate::key::{Key, Slot, Version};
use crate::server::memory::{Memory, Reservation};
use crate::server::session::Census;
use crate::wire::{Condition, Fault, NEVER, Reply};

/// A version's upper bits are the epoch that it was given in, as far as they hold one.
const EPOCH_SHIFT: u32 = 40;
const EPOCH_MAX: u32 = (1 << (u64::BITS - EPOCH_SHIFT)) - 1;

/// Slots that share a shard.
pub(super) const SLOTS_PER_SHARD: u16 = 16;

/// What an object costs beyond its key, value and table of checksums: its entry in the index
/// at the table's mean load, and the allocator's own bookkeeping for key and value.
pub(super) const OBJECT_OVERHEAD_BYTES: u64 = 2 * size_of::<(Key, Object)>() as u64 + 64;

/// What the result of a write costs until the client has acknowledged it: its entry in a tree at
/// the mean load.
const RESULT_BYTES: u64 = 2 * size_of::<(u64, Outcome)>() as u64;

/// The most results that a session may leave unacknowledged in one shard.
const RESULTS_MAX: usize = 16_384;

#[derive(Debug)]
pub(super) struct Object {
    pub(super) version: Version,
    pub(super) expires_at: u64,
    pub(super) content: Content,
    reservation: Reservation,
}

#[derive(Debug)]
pub(super) enum Content {
    Value { value: Bytes, sums: Sums },
    Queue { items: VecDeque<(Bytes, Sums)>, bytes: u64 },
}

impl Object {
    pub(super) fn size(&self) -> u64 {
        match &self.content {
            Content::Value { value, .. } => value.len() as u64,
            Content::Queue { bytes, .. } => *bytes,
        }
    }

    pub(super) fn is_queue(&self) -> bool {
        matches!(self.content, Content::Queue { .. })
    }

    pub(super) fn stat(&self) -> Reply {
        Reply::Stat {
            version: self.version,
            size: self.size(),
            expires_at: self.expires_at,
            queue: self.is_queue(),
        }
    }
}

/// What a value costs, under a key of this length.
pub(super) fn cost(key: &Key, value: &Bytes, sums: &Sums) -> u64 {
    let table = if sums.len() > 1 { sums.len() as u64 * 4 } else { 0 };
    OBJECT_OVERHEAD_BYTES + key.as_bytes().len() as u64 + value.len() as u64 + table
}

#[derive(Debug)]
struct Outcome {
    reply: Reply,
    _reservation: Reservation,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) objects: hashbrown::HashMap<Key, Object, FixedState>,
    versions: [u64; SLOTS_PER_SHARD as usize],
    waiters: HashMap<Key, Vec<oneshot::Sender<()>>>,
    /// Whether an object may have an end, so that sweeping pays.
    may_expire: bool,
    /// By the session's life, then by sequence number.
    results: HashMap<u64, BTreeMap<u64, Outcome>>,
}

impl Shard {
    pub(super) fn new(hasher: FixedState) -> Self {
        Self {
            objects: hashbrown::HashMap::with_hasher(hasher),
            versions: [0; SLOTS_PER_SHARD as usize],
            waiters: HashMap::new(),
            may_expire: false,
            results: HashMap::new(),
        }
    }

    /// The object, unless its time is over.
    pub(super) fn object(&mut self, key: &Key, now_ms: u64) -> Result<&mut Object, Fault> {
        let object = self.objects.get_mut(key).filter(|object| !expired(object, now_ms));
        object.ok_or_else(|| Kind::NotFound.into())
    }

    pub(super) fn put(&mut self, put: Put<'_>, now_ms: u64, epoch: u32) -> Result<Reply, Fault> {
        let Put { key, condition, expires_at, value, sums, reservation } = put;
        self.check(key, condition, now_ms)?;
        let version = self.next_version(key.slot(), epoch);
        let content = Content::Value { value, sums };
        self.insert(key, Object { version, expires_at, content, reservation });
        Ok(Reply::Written { version })
    }

    pub(super) fn delete(
        &mut self,
        key: &Key,
        condition: Condition,
        now_ms: u64,
        epoch: u32,
    ) -> Result<Reply, Fault> {
        self.object(key, now_ms)?;
        self.check(key, condition, now_ms)?;
        self.objects.remove(key);
        Ok(Reply::Deleted { version: self.next_version(key.slot(), epoch) })
    }

    pub(super) fn add(
        &mut self,
        key: &Key,
        delta: i64,
        now_ms: u64,
        epoch: u32,
        memory: &Memory,
    ) -> Result<Reply, Fault> {
        let (before, expires_at) = match self.object(key, now_ms) {
            Ok(Object { content: Content::Value { value, .. }, expires_at, .. }) => {
                let text = std::str::from_utf8(value).map_err(|_| Kind::WrongType)?;
                (text.parse::<i64>().map_err(|_| Kind::WrongType)?, *expires_at)
            }
            Ok(_) => return Err(Kind::WrongType.into()),
            Err(_) => (0, NEVER),
        };
        let value = before.checked_add(delta).ok_or(Kind::TooLarge)?;
        let text = Bytes::from(value.to_string());
        let sums = Sums::of(0, &text);
        let reservation = memory.reserve(cost(key, &text, &sums))?;
        let condition = Condition::Always;
        let put = Put { key, condition, expires_at, value: text, sums, reservation };
        self.put(put, now_ms, epoch)?;
        Ok(Reply::Added { version: self.version(key.slot()), value })
    }

    pub(super) fn push(
        &mut self,
        push: Put<'_>,
        bytes_max: u64,
        now_ms: u64,
        epoch: u32,
    ) -> Result<Reply, Fault> {
        let Put { key, value, sums, reservation, .. } = push;
        let len = value.len() as u64;
        let before = match self.object(key, now_ms) {
            Ok(object) if object.is_queue() => object.size(),
            Ok(_) => return Err(Kind::WrongType.into()),
            Err(_) => {
                // What has expired is not appended to.
                self.objects.remove(key);
                0
            }
        };
        // An empty queue takes any one item, so that no bound can make a push wait for ever.
        if before > 0 && before.saturating_add(len) > bytes_max {
            return Err(Fault { kind: Kind::Busy, detail: before });
        }
        let version = self.next_version(key.slot(), epoch);
        let items = match self.objects.get_mut(key) {
            Some(object) => {
                let mut paid = reservation;
                object.version = version;
                object.reservation.absorb(&mut paid);
                let Content::Queue { items, bytes } = &mut object.content else {
                    return Err(Kind::WrongType.into());
                };
                items.push_back((value, sums));
                *bytes += len;
                let items = items.len();
                self.wake(key);
                items
            }
            None => {
                let items = VecDeque::from([(value, sums)]);
                let content = Content::Queue { items, bytes: len };
                self.insert(key, Object { version, expires_at: NEVER, content, reservation });
                1
            }
        };
        Ok(Reply::Pushed { version, items: items as u64 })
    }

    /// Takes the first item; [`Kind::Busy`] when it has more bytes than `inline_bytes_max`.
    pub(super) fn pop(
        &mut self,
        key: &Key,
        inline_bytes_max: u32,
        now_ms: u64,
        epoch: u32,
    ) -> Result<Reply, Fault> {
        let object = self.object(key, now_ms)?;
        let Content::Queue { items, bytes } = &mut object.content else {
            return Err(Kind::WrongType.into());
        };
        if items.front().is_some_and(|(value, _)| value.len() > inline_bytes_max as usize) {
            return Err(Kind::Busy.into());
        }
        // A queue without items is removed, so there is one here.
        let Some((value, sums)) = items.pop_front() else { return Err(Kind::NotFound.into()) };
        *bytes -= value.len() as u64;
        let left = items.len() as u64;
        object.reservation.shrink(cost(key, &value, &sums));
        let version = self.next_version(key.slot(), epoch);
        if left == 0 {
            self.objects.remove(key);
        } else if let Some(object) = self.objects.get_mut(key) {
            object.version = version;
        }
        Ok(Reply::Popped { version, items: left, value, sums })
    }

    /// A signal for the next put or push of `key`.
    pub(super) fn wait(&mut self, key: &Key) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let waiters = self.waiters.entry(key.clone()).or_default();
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(sender);
        receiver
    }

    /// Has everyone who waits look again.
    pub(super) fn wake_all(&mut self) {
        self.waiters.clear();
    }

    /// The reply that this write has had already.
    pub(super) fn result(&self, life: u64, sequence: u64) -> Option<Reply> {
        let outcome = self.results.get(&life)?.get(&sequence)?;
        Some(outcome.reply.clone())
    }

    /// Forgets what the session has acknowledged; whether it may leave one more result here.
    pub(super) fn may_record(&mut self, life: u64, acknowledged: u64) -> bool {
        let Some(results) = self.results.get_mut(&life) else { return true };
        forget_up_to(acknowledged, results);
        results.len() < RESULTS_MAX
    }

    /// Keeps a reply until the session acknowledges it.
    pub(super) fn record(&mut self, life: u64, sequence: u64, reply: Reply, memory: &Memory) {
        let popped = match &reply {
            Reply::Popped { value, .. } => value.len() as u64,
            _ => 0,
        };
        let outcome = Outcome { reply, _reservation: memory.charge(RESULT_BYTES + popped) };
        self.results.entry(life).or_default().insert(sequence, outcome);
    }

    /// Removes what has expired, who has stopped waiting, and the results that nobody will ask
    /// for again.
    pub(super) fn sweep(&mut self, now_ms: u64, census: &Census) {
        if self.may_expire {
            self.objects.retain(|_, object| !expired(object, now_ms));
            self.may_expire = self.objects.values().any(|object| object.expires_at != NEVER);
        }
        self.waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        for life in &census.forgotten {
            self.results.remove(life);
        }
        self.results.retain(|life, results| {
            if let Some(acknowledged) = census.acknowledged.get(life) {
                forget_up_to(*acknowledged, results);
            }
            !results.is_empty()
        });
    }

    fn check(&mut self, key: &Key, condition: Condition, now_ms: u64) -> Result<(), Fault> {
        let version = self.object(key, now_ms).map_or(Version(0), |object| object.version);
        match condition {
            Condition::Always => Ok(()),
            Condition::IfAbsent if version == Version(0) => Ok(()),
            Condition::IfVersion(wanted) if version == wanted => Ok(()),
            Condition::IfAbsent | Condition::IfVersion(_) => {
                Err(Fault { kind: Kind::WrongVersion, detail: version.0 })
            }
        }
    }

    fn insert(&mut self, key: &Key, object: Object) {
        self.may_expire |= object.expires_at != NEVER;
        match self.objects.get_mut(key) {
            Some(place) => *place = object,
            // Copied: the key that came is a part of a larger buffer, which would live on.
            None => drop(self.objects.insert(key.detached(), object)),
        }
        self.wake(key);
    }

    fn version(&self, slot: Slot) -> Version {
        Version(self.versions[usize::from(slot.number() % SLOTS_PER_SHARD)])
    }

    fn next_version(&mut self, slot: Slot, epoch: u32) -> Version {
        let last = &mut self.versions[usize::from(slot.number() % SLOTS_PER_SHARD)];
        *last = (*last + 1).max(u64::from(epoch.min(EPOCH_MAX)) << EPOCH_SHIFT);
        Version(*last)
    }

    fn wake(&mut self, key: &Key) {
        for waiter in self.waiters.remove(key).unwrap_or_default() {
            // A waiter that has gone away needs no signal.
            let _ = waiter.send(());
        }
    }
}

/// What a put or a push brings, paid for.
pub(super) struct Put<'a> {
    pub(super) key: &'a Key,
    pub(super) condition: Condition,
    pub(super) expires_at: u64,
    pub(super) value: Bytes,
    pub(super) sums: Sums,
    pub(super) reservation: Reservation,
}

fn forget_up_to(acknowledged: u64, results: &mut BTreeMap<u64, Outcome>) {
    while results.first_key_value().is_some_and(|(sequence, _)| *sequence <= acknowledged) {
        results.pop_first();
    }
}

pub(super) fn expired(object: &Object, now_ms: u64) -> bool {
    object.expires_at != NEVER && object.expires_at <= now_ms
}
