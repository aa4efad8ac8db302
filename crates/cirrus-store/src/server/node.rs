//! What a memory node holds, and how each request changes it.
//!
//! Owns the shards, the budget, the sessions and the node's view. Knows nothing of sockets.
//! Invariant: a write is applied at most once for each (session, sequence), and never after the
//! client was told that it was not; whatever is answered has happened. Locks: a shard, then the
//! view; never two shards.
//!
//! A get: one hash, one short lock, two reference counts; no copy, no allocation. A put: the same
//! and one reservation; its value is the buffer that it arrived in.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use foldhash::fast::FixedState;
use parking_lot::{Mutex, MutexGuard, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::checksum::Sums;
use crate::error::Kind;
use crate::key::{Key, SLOTS, Slot, Version};
use crate::server::NodeOptions;
use crate::server::memory::{Memory, Reservation};
use crate::server::session::{Session, Sessions};
use crate::server::shard::{Content, Put, SLOTS_PER_SHARD, Shard, cost};
use crate::transport::COPIED_BYTES_MAX;
use crate::view::{NodeId, View};
use crate::wire::{BATCH_BYTES_MAX, Condition, Fault, Head, NEVER, Reply, Request, Write};

/// The most bytes of values in the reply to a batch.
const BATCH_REPLY_BYTES_MAX: u32 = 16 << 20;

/// What the batches of all connections may hold while they are carried out, beside the capacity:
/// a 16th of it, but room for one batch on the smallest node.
const TRANSIT_SHARE: u64 = 16;
const TRANSIT_BYTES_MIN: u64 = 2 * BATCH_BYTES_MAX as u64;

/// A node's own numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeStats {
    /// This life of the node.
    pub incarnation: u64,
    /// The node's view of the pool.
    pub epoch: u32,
    /// Bytes that it may hold.
    pub capacity_bytes: u64,
    /// Bytes that it holds: keys, values, checksums, overhead, and results of writes.
    pub used_bytes: u64,
    /// Objects that it holds.
    pub objects: u64,
    /// Sessions whose results it keeps.
    pub sessions: u64,
    /// Open connections.
    pub connections: u64,
    /// Requests answered since it started, items of batches counted.
    pub requests: u64,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) options: NodeOptions,
    pub(super) incarnation: u64,
    pub(super) sessions: Sessions,
    pub(super) hasher: FixedState,
    pub(super) connections: AtomicU64,
    pub(super) shards: Vec<Mutex<Shard>>,
    memory: Memory,
    transit: Memory,
    requests: AtomicU64,
    place: RwLock<Place>,
}

/// Where the node stands in its pool.
#[derive(Debug)]
struct Place {
    id: NodeId,
    view: View,
}

impl Node {
    pub(super) fn new(options: NodeOptions) -> Self {
        // A life is named by when it began: later lives have larger names.
        let incarnation = options.incarnation.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).max(1)
        });
        // Secret, so that nobody can choose keys that collide.
        let hasher = FixedState::with_seed(RandomState::new().hash_one(incarnation));
        let shards = std::iter::repeat_with(|| Mutex::new(Shard::new(hasher.clone())));
        let shards = shards.take(usize::from(SLOTS / SLOTS_PER_SHARD)).collect();
        let capacity = options.capacity.bytes();
        Self {
            incarnation,
            sessions: Sessions::default(),
            hasher,
            connections: AtomicU64::new(0),
            shards,
            memory: Memory::new(capacity),
            transit: Memory::new((capacity / TRANSIT_SHARE).max(TRANSIT_BYTES_MIN)),
            requests: AtomicU64::new(0),
            place: RwLock::new(Place { id: NodeId(0), view: View::single(1, "") }),
            options,
        }
    }

    pub(super) fn epoch(&self) -> u32 {
        self.place.read().view.epoch
    }

    /// Takes up a newer view, in which this node is `id`; an older one changes nothing. When this
    /// returns, nothing is under way any more that the old view allowed and the new one does not.
    pub(super) fn set_view(&self, id: NodeId, view: View) {
        {
            let mut place = self.place.write();
            if view.epoch <= place.view.epoch {
                return;
            }
            *place = Place { id, view };
        }
        // Whoever is in a shard looked at the view after taking its lock.
        for shard in &self.shards {
            shard.lock().wake_all();
        }
    }

    /// Bytes for a payload that is about to arrive, or why it is not wanted. Small payloads are in
    /// the read buffer already. A batch does not become an object itself, so it is paid for out of
    /// another purse: a full node still reads and deletes in batches.
    pub(super) fn admit(&self, head: &Head) -> Result<Reservation, Fault> {
        let max =
            if head.is_batch() { BATCH_BYTES_MAX } else { self.options.limits.value_bytes_max };
        if head.payload_len > max {
            return Err(Fault { kind: Kind::TooLarge, detail: u64::from(max) });
        }
        match head.tail_bytes() {
            small if small <= COPIED_BYTES_MAX => Ok(self.memory.nothing()),
            large if head.is_batch() => {
                self.transit.reserve(large as u64).map_err(|_| Kind::Busy.into())
            }
            large => self.memory.reserve(large as u64),
        }
    }

    /// Answers a request whose payload was not taken in, because of `fault`. A write that has had
    /// its answer before gets that one.
    pub(super) fn refuse(&self, session: &Session, mut request: Request, fault: Fault) -> Reply {
        let write = request.writes_mut().first().map(|write| **write);
        let answer = match (write, request.key()) {
            (Some(write), Some(key)) => self.write(session, write, key, |_, _| Err(fault)),
            (None, _) | (_, None) => Err(fault),
        };
        answer.unwrap_or_else(Reply::from)
    }

    /// Carries out a request, for whose payload `paid` was taken; `Err` means that the answer comes
    /// when the signal does.
    pub(super) fn execute(
        &self,
        session: &Session,
        request: Request,
        paid: Reservation,
    ) -> Result<Reply, Parked> {
        let now_ms = unix_ms();
        match request {
            Request::Wait { key, newer_than, timeout_ms } => {
                self.count();
                self.wait(key, newer_than, timeout_ms)
            }
            // The purse of batches has paid until all items are done.
            Request::Batch(items) => Ok(self.batch(session, items, now_ms)),
            Request::Ping
            | Request::Get { .. }
            | Request::Put { .. }
            | Request::Delete { .. }
            | Request::Stat { .. }
            | Request::Scan { .. }
            | Request::Add { .. }
            | Request::Push { .. }
            | Request::Pop { .. }
            | Request::Stats => {
                let reply = self.single(session, request, paid, u32::MAX, now_ms);
                Ok(reply.unwrap_or_else(Reply::from))
            }
        }
    }

    /// Answers a wait, if its key has something new.
    pub(super) fn wait(
        &self,
        key: Key,
        newer_than: Version,
        timeout_ms: u32,
    ) -> Result<Reply, Parked> {
        let now_ms = unix_ms();
        let mut shard = self.shard(key.slot());
        if let Err(fault) = self.held(key.slot()) {
            return Ok(fault.into());
        }
        match shard.object(&key, now_ms) {
            Ok(object) if object.version > newer_than => Ok(object.stat()),
            Ok(_) | Err(_) => {
                let signal = shard.wait(&key);
                Err(Parked { key, newer_than, timeout_ms, signal })
            }
        }
    }

    /// Answers the items in turn. Values beyond the reply's share of memory are deferred, and items
    /// of queues refused: who wants them asks for them one by one.
    fn batch(&self, session: &Session, items: Vec<Request>, now_ms: u64) -> Reply {
        let mut room = BATCH_REPLY_BYTES_MAX;
        let replies = items.into_iter().map(|item| {
            let (item, paid) = (detached(item), self.memory.nothing());
            let reply = self.single(session, item, paid, room, now_ms).unwrap_or_else(Reply::from);
            if let Reply::Value { value, .. } | Reply::Popped { value, .. } = &reply {
                room -= u32::try_from(value.len()).unwrap_or(u32::MAX).min(room);
            }
            reply
        });
        Reply::Batch(replies.collect())
    }

    fn single(
        &self,
        session: &Session,
        request: Request,
        mut paid: Reservation,
        room: u32,
        now_ms: u64,
    ) -> Result<Reply, Fault> {
        self.count();
        match request {
            Request::Ping => Ok(Reply::Pong),
            Request::Stats => Ok(Reply::Stats(self.stats_json())),
            Request::Scan { prefix, slot, hash, limit } => {
                Ok(Reply::Page(self.scan(&prefix, (slot, hash), limit, now_ms)))
            }
            Request::Stat { key } => {
                let mut shard = self.shard(key.slot());
                self.held(key.slot())?;
                shard.object(&key, now_ms).map(|object| object.stat())
            }
            Request::Get { .. } => self.get(request, room, now_ms),
            Request::Put { key, write, condition, expires_at, value, sums } => {
                // Summed before the lock is taken; what is wrong is said only to a write that has
                // had no answer yet.
                let checked = sums.check(0, &value).map_err(|error| Fault::from(&error));
                self.write(session, write, &key, |shard, epoch| {
                    checked?;
                    paid.resize(cost(&key, &value, &sums))?;
                    let reservation = paid;
                    let put = Put { key: &key, condition, expires_at, value, sums, reservation };
                    shard.put(put, now_ms, epoch)
                })
            }
            Request::Delete { key, write, condition } => {
                self.write(session, write, &key, |shard, epoch| {
                    shard.delete(&key, condition, now_ms, epoch)
                })
            }
            Request::Add { key, write, delta } => {
                self.write(session, write, &key, |shard, epoch| {
                    shard.add(&key, delta, now_ms, epoch, &self.memory)
                })
            }
            Request::Push { key, write, queue_bytes_max, value, sums } => {
                let checked = sums.check(0, &value).map_err(|error| Fault::from(&error));
                self.write(session, write, &key, |shard, epoch| {
                    checked?;
                    paid.resize(cost(&key, &value, &sums))?;
                    let (condition, reservation) = (Condition::Always, paid);
                    let expires_at = NEVER;
                    let push = Put { key: &key, condition, expires_at, value, sums, reservation };
                    shard.push(push, queue_bytes_max, now_ms, epoch)
                })
            }
            Request::Pop { key, write } => self
                .write(session, write, &key, |shard, epoch| shard.pop(&key, room, now_ms, epoch)),
            // Neither may stand in a batch, and alone they do not come here.
            Request::Batch(_) | Request::Wait { .. } => Err(Kind::Protocol.into()),
        }
    }

    fn get(&self, request: Request, room: u32, now_ms: u64) -> Result<Reply, Fault> {
        let Request::Get { key, offset, len, newer_than, inline_bytes_max } = request else {
            return Err(Kind::Protocol.into());
        };
        let mut shard = self.shard(key.slot());
        self.held(key.slot())?;
        let object = shard.object(&key, now_ms)?;
        let version = object.version;
        let Content::Value { value, sums } = &object.content else {
            return Err(Kind::WrongType.into());
        };
        if newer_than >= version {
            return Ok(Reply::NotModified { version });
        }
        let size = value.len() as u64;
        let from = offset.min(size);
        let to = offset.saturating_add(len).min(size).max(from);
        if to - from > u64::from(inline_bytes_max.min(room)) {
            return Ok(Reply::Deferred { version, size });
        }
        let (value, sums, expires_at) = (value.clone(), sums.clone(), object.expires_at);
        drop(shard);
        let (start, end) = (index(from), index(to));
        let (value, sums) = if (from, to) == (0, size) {
            (value, sums)
        } else {
            let slice = sums.slice(&value, start, end - start);
            (value.slice(start..end), slice.map_err(|error| Fault::from(&error))?)
        };
        Ok(Reply::Value { version, size, offset: from, expires_at, value, sums })
    }

    /// Applies a write, unless it has been answered before: then that answer is repeated.
    fn write(
        &self,
        session: &Session,
        write: Write,
        key: &Key,
        apply: impl FnOnce(&mut Shard, u32) -> Result<Reply, Fault>,
    ) -> Result<Reply, Fault> {
        let mut shard = self.shard(key.slot());
        if let Some(reply) = shard.result(session.life, write.sequence) {
            return Ok(reply);
        }
        if write.sequence <= session.acknowledged() {
            // A late duplicate: its result was acknowledged, and is gone.
            return Err(Kind::Unknown.into());
        }
        let epoch = self.held(key.slot())?;
        session.acknowledge(write.acknowledged.min(write.sequence.saturating_sub(1)));
        if !shard.may_record(session.life, session.acknowledged()) {
            return Err(Kind::Busy.into());
        }
        let answer = apply(&mut shard, epoch);
        let is_final = match &answer {
            Ok(_) => true,
            // The first copy of a repeated write may still be on its way, over a connection that
            // was cut: it must find the answer that the client has had. Busy is no final answer.
            Err(fault) => write.retry && fault.kind != Kind::Busy,
        };
        if is_final {
            let reply = answer.clone().unwrap_or_else(Reply::from);
            shard.record(session.life, write.sequence, reply, &self.memory);
        }
        answer
    }

    fn shard(&self, slot: Slot) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(slot.number() / SLOTS_PER_SHARD)].lock()
    }

    /// The epoch in which this node holds `slot`, or `Moved`. Called with the slot's shard locked.
    fn held(&self, slot: Slot) -> Result<u32, Fault> {
        let place = self.place.read();
        let epoch = place.view.epoch;
        match place.view.holder(slot) {
            Some(holder) if holder.id == place.id => Ok(epoch),
            Some(_) | None => Err(Fault { kind: Kind::Moved, detail: u64::from(epoch) }),
        }
    }

    /// One step of housekeeping: expired objects, idle sessions, waiters that have left.
    pub(super) fn sweep(&self) {
        let now_ms = unix_ms();
        let census = self.sessions.forget_idle(now_ms, self.options.session_idle);
        for shard in &self.shards {
            shard.lock().sweep(now_ms, &census);
        }
    }

    pub(super) fn stats(&self) -> NodeStats {
        NodeStats {
            incarnation: self.incarnation,
            epoch: self.epoch(),
            capacity_bytes: self.memory.capacity(),
            used_bytes: self.memory.used(),
            objects: self.shards.iter().map(|shard| shard.lock().objects.len() as u64).sum(),
            sessions: self.sessions.len() as u64,
            connections: self.connections.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }

    fn stats_json(&self) -> Bytes {
        serde_json::to_vec(&self.stats()).expect("numbers are always JSON").into()
    }

    fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

/// A wait whose key has nothing new: ask again when the signal comes.
pub(super) struct Parked {
    pub(super) key: Key,
    pub(super) newer_than: Version,
    pub(super) timeout_ms: u32,
    pub(super) signal: oneshot::Receiver<()>,
}

/// An item of a batch with its own value, so that storing it does not keep the whole batch alive.
fn detached(mut item: Request) -> Request {
    if let Request::Put { value, sums, .. } | Request::Push { value, sums, .. } = &mut item {
        *value = Bytes::copy_from_slice(value);
        *sums = Sums::copied(&sums.to_table());
    }
    item
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("a value is shorter than the address space")
}

pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
