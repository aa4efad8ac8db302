//! What a memory node holds, and how each request changes it.
//!
//! Owns the keyspace, the sessions and the node's view. Knows nothing of sockets. Invariant: a write
//! is applied at most once for each (session, sequence), and never after the client was told that
//! it was not; whatever is answered has happened. Locks: a shard or the view; never both.
//!
//! A small get: two hashes (slot, index), one short lock, one copy, from the record to where the
//! reply is written; no allocation. A large get: the same and a reference count, no copy. A small
//! put: parsed where it was read, summed, one copy into its record under one short lock; its result
//! is an entry in a ring; no allocation. A large put: read from the socket into its extent and summed
//! as it lands, never copied.

mod get;

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::oneshot;

use crate::checksum::Sums;
use crate::error::Kind;
use crate::key::{Key, Version};
use crate::server::NodeOptions;
use crate::server::keyspace::{
    AHEAD_MAX, Filling, Keyspace, Large, Place, SMALL_BYTES_MAX, Seen, Turn, Value,
};
use crate::server::memory::{Memory, Owed, Reservation};
use crate::server::operations::{add, check, check_version, pop, push, stat};
use crate::server::pins::Sharing;
use crate::server::resp::Shared;
use crate::server::session::{Session, Sessions};
use crate::server::settling::Settling;
use crate::server::tables::{self, Answer, Tables};
use crate::table::{Call, Step};
use crate::transport::COPIED_BYTES_MAX;
use crate::view::{NodeId, View};
use crate::wire::{BATCH_BYTES_MAX, Fault, Head, Page, Reply, Request, WholeValue, Write};

/// The most bytes of values in the reply to a batch.
const BATCH_REPLY_BYTES_MAX: u32 = 16 << 20;

/// What the batches of all connections may hold while they are carried out, beside the capacity:
/// a 16th of it, but room for one batch on the smallest node.
const TRANSIT_SHARE: u64 = 16;
const TRANSIT_BYTES_MIN: u64 = 2 * BATCH_BYTES_MAX as u64;

/// What the replies of all connections may hold of copied values and names until they have left,
/// beside the capacity: a 16th of it, but room for one whole reply on the smallest node.
const REPLIES_SHARE: u64 = 16;
const REPLIES_BYTES_MIN: u64 = BATCH_REPLY_BYTES_MAX as u64;

/// Names in a page while the replies' room is taken.
const SCAN_ITEMS_SHORT: u32 = 64;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) options: NodeOptions,
    pub(super) incarnation: u64,
    pub(super) sessions: Sessions,
    pub(super) connections: AtomicU64,
    pub(super) keyspace: Keyspace,
    pub(super) tables: Tables,
    /// Who waits for the disk, if there is one.
    pub(super) settling: Option<Settling>,
    pub(super) transit: Memory,
    replies: Memory,
    pub(super) resp: Shared,
    /// What clients of this host are let into, if there is a socket for them.
    pub(super) sharing: Option<Sharing>,
    pub(super) requests: AtomicU64,
    standing: RwLock<Standing>,
    /// That of the view, to be read without a lock.
    epoch: AtomicU32,
}

/// Where the node stands in its pool.
#[derive(Debug)]
struct Standing {
    id: NodeId,
    view: View,
}

impl Node {
    /// Fails when the addresses for so much memory cannot be had.
    pub(super) fn new(options: NodeOptions) -> io::Result<Self> {
        // A life is named by when it began: later lives have larger names.
        let incarnation = options.incarnation.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).max(1)
        });
        let capacity = options.capacity.bytes();
        let keyspace = Keyspace::new(capacity, options.engine.clone())?;
        let tables = Tables::new(keyspace.extents().clone(), keyspace.memory().clone());
        let node = Self {
            incarnation,
            sessions: Sessions::default(),
            connections: AtomicU64::new(0),
            keyspace,
            tables,
            settling: options.engine.as_ref().map(|engine| Settling::new(engine.progress())),
            transit: Memory::new((capacity / TRANSIT_SHARE).max(TRANSIT_BYTES_MIN)),
            replies: Memory::new((capacity / REPLIES_SHARE).max(REPLIES_BYTES_MIN)),
            resp: Shared::default(),
            sharing: None,
            requests: AtomicU64::new(0),
            standing: RwLock::new(Standing { id: NodeId(0), view: View::default() }),
            epoch: AtomicU32::new(0),
            options,
        };
        node.set_view(NodeId(0), View::single(1, ""));
        Ok(node)
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Takes up a newer view, in which this node is `id`; an older one changes nothing. When this
    /// returns, nothing is under way any more that the old view allowed and the new one does not.
    pub(super) fn set_view(&self, id: NodeId, view: View) {
        let epoch = view.epoch;
        {
            let mut standing = self.standing.write();
            if epoch <= standing.view.epoch {
                return;
            }
            *standing = Standing { id, view: view.clone() };
            self.epoch.store(epoch, Ordering::Relaxed);
        }
        self.keyspace.hold(epoch, |slot| view.holder(slot).is_some_and(|holder| holder.id == id));
    }

    /// Bytes for a payload that is about to arrive, or why it is not wanted. Small payloads are in
    /// the read buffer already. A batch does not become an object itself, so it is paid for out of
    /// another purse: a full node still reads and deletes in batches.
    pub(super) fn admit(&self, head: &Head) -> Result<Admitted, Fault> {
        let transit = head.transit_max();
        let max = transit.unwrap_or(self.options.limits.value_bytes_max);
        if head.payload_len > max {
            return Err(Fault { kind: Kind::TooLarge, detail: u64::from(max) });
        }
        match head.tail_bytes() {
            small if small <= COPIED_BYTES_MAX => Ok(Admitted::Small(self.transit.nothing())),
            large if transit.is_some() => match self.transit.reserve(large as u64) {
                Ok(paid) => Ok(Admitted::Small(paid)),
                Err(_) => Err(Kind::Busy.into()),
            },
            _ => self.keyspace.filling(head.payload_bytes()).map(Admitted::Large),
        }
    }

    /// Answers a request whose payload was not taken in, because of `fault`. A write that has had
    /// its answer before gets that one.
    pub(super) fn refuse(&self, session: &Session, mut request: Request, fault: Fault) -> Reply {
        let write = request.writes_mut().first().map(|write| **write);
        let answer = match (write, request.key()) {
            (Some(write), Some(key)) => {
                self.write(session, write, key, unix_ms().into(), |_, _| Err(fault))
            }
            (None, _) | (_, None) => Err(fault),
        };
        answer.unwrap_or_else(Reply::from)
    }

    /// Carries out a request, for whose payload `paid` was taken; `Err` means that the answer comes
    /// when the signal does. What the reply holds beside objects is counted in `owed`, which the
    /// caller drops when the reply has left.
    pub(super) fn execute(
        &self,
        session: &Session,
        request: Request,
        paid: Paid,
        seen: &Seen,
        owed: &mut Owed,
    ) -> Result<Reply, Parked> {
        let turn = Turn::new(unix_ms(), seen);
        match request {
            Request::Wait { key, newer_than, timeout_ms } => {
                self.count();
                self.wait(key, newer_than, timeout_ms, seen).map_err(Parked::Wait)
            }
            // `paid`, out of the purse of batches, is held until all items are done.
            Request::Batch(items) => Ok(self.batch(session, items, turn, owed)),
            Request::Step { table, step, payload } => {
                self.count();
                self.step(&table, &step, &payload, owed)
            }
            Request::Call { table, call } => {
                self.count();
                Ok(self.call(&table, &call).unwrap_or_else(Reply::from))
            }
            Request::Scan { prefix, slot, hash, limit } => {
                self.count();
                Ok(Reply::Page(self.scan(&prefix, (slot, hash), limit, turn, owed)))
            }
            Request::Ping
            | Request::Get { .. }
            | Request::Put { .. }
            | Request::Delete { .. }
            | Request::Stat { .. }
            | Request::Add { .. }
            | Request::Push { .. }
            | Request::Pop { .. }
            | Request::Stats
            | Request::Unpin(_) => {
                let large = match paid {
                    Paid::Large(large, came) => Some((large, came)),
                    Paid::Transit(_) => None,
                };
                let reply = self.single(session, request, large, u32::MAX, turn);
                Ok(reply.unwrap_or_else(Reply::from))
            }
        }
    }

    /// Carries out a step of a table.
    fn step(
        &self,
        table: &Key,
        step: &Step,
        payload: &Bytes,
        owed: &mut Owed,
    ) -> Result<Reply, Parked> {
        let bytes_max = self.options.limits.value_bytes_max;
        match self.tables.step(table, step, payload, &self.replies, bytes_max) {
            Ok(tables::Outcome::Answered(stepped, values, paid)) => {
                owed.hold(paid);
                Ok(Reply::Stepped { stepped, values })
            }
            Ok(tables::Outcome::Waits(answer)) => {
                Err(Parked::Step { answer, timeout_ms: step.timeout_ms })
            }
            Err(fault) => Ok(fault.into()),
        }
    }

    fn call(&self, table: &Key, call: &Bytes) -> Result<Reply, Fault> {
        let call: Call = serde_json::from_slice(call).map_err(|_| Kind::Protocol)?;
        let stand = self.tables.call(table, call)?;
        Ok(Reply::Stood(serde_json::to_vec(&stand).expect("numbers are always JSON").into()))
    }

    /// Answers a wait, if its key has something new.
    pub(super) fn wait(
        &self,
        key: Key,
        newer_than: Version,
        timeout_ms: u32,
        seen: &Seen,
    ) -> Result<Reply, ParkedWait> {
        let signal = self.keyspace.at(&key, Turn::new(unix_ms(), seen), |place| {
            if let Err(fault) = place.held() {
                return Ok(fault.into());
            }
            match place.found() {
                Some(found) if found.version > newer_than => Ok(stat(&found)),
                Some(_) | None => Err(place.signal()),
            }
        });
        // In a buffer of its own: the one that it came in is not kept for as long as the wait.
        signal.map_err(|signal| ParkedWait { key: key.detached(), newer_than, timeout_ms, signal })
    }

    /// Answers the items in turn. Values beyond the reply's share of memory are deferred, and items
    /// of queues refused: who wants them asks for them one by one.
    fn batch(
        &self,
        session: &Session,
        items: Vec<Request>,
        turn: Turn<'_>,
        owed: &mut Owed,
    ) -> Reply {
        let mut left = BATCH_REPLY_BYTES_MAX;
        let replies = items.into_iter().map(|item| {
            let is_full = self.replies.free() < SMALL_BYTES_MAX as u64;
            let room = if is_full { 0 } else { left };
            let reply = self.single(session, item, None, room, turn).unwrap_or_else(Reply::from);
            if let Reply::Value { value, .. } | Reply::Popped { value, .. } = &reply {
                left -= u32::try_from(value.len()).unwrap_or(u32::MAX).min(left);
                if value.len() <= SMALL_BYTES_MAX {
                    owed.add(&self.replies, value.len());
                }
            }
            reply
        });
        Reply::Batch(replies.collect())
    }

    /// A page of names; a short one while the replies' room is taken.
    fn scan(
        &self,
        prefix: &[u8],
        from: (u16, u64),
        limit: u32,
        turn: Turn<'_>,
        owed: &mut Owed,
    ) -> Page {
        let is_full = self.replies.free() < u64::from(BATCH_BYTES_MAX);
        let limit = if is_full { limit.min(SCAN_ITEMS_SHORT) } else { limit };
        let page = self.keyspace.scan(prefix, from, limit, turn);
        owed.add(&self.replies, page.items.iter().map(|item| item.key.as_bytes().len()).sum());
        page
    }

    fn single(
        &self,
        session: &Session,
        request: Request,
        large: Option<(Large, Sums)>,
        room: u32,
        turn: Turn<'_>,
    ) -> Result<Reply, Fault> {
        self.count();
        match request {
            Request::Ping => Ok(Reply::Pong),
            Request::Stats => Ok(Reply::Stats(self.stats_json())),
            Request::Stat { key } => self.keyspace.at(&key, turn, |place| {
                place.held()?;
                place.found().map(|found| stat(&found)).ok_or_else(|| Kind::NotFound.into())
            }),
            Request::Get { .. } => {
                let reply = self.get(request, room, turn, None::<fn(WholeValue<'_>)>)?;
                reply.ok_or_else(|| Kind::Protocol.into())
            }
            Request::Put { key, write, condition, expires_at, value, sums } => {
                let value = self.value(&value, &sums, large);
                self.write(session, write, &key, turn, |place, epoch| {
                    check(place, condition)?;
                    let version = place.put(value?, expires_at, epoch)?;
                    Ok(Reply::Written { version })
                })
            }
            Request::Delete { key, write, condition } => {
                self.write(session, write, &key, turn, |place, epoch| {
                    let found = place.found().ok_or(Kind::NotFound)?;
                    check_version(found.version, condition)?;
                    let version = place.remove(epoch)?.ok_or(Kind::NotFound)?;
                    Ok(Reply::Deleted { version })
                })
            }
            Request::Add { key, write, delta } => {
                self.write(session, write, &key, turn, |place, epoch| add(place, delta, epoch))
            }
            Request::Push { key, write, queue_bytes_max, value, sums } => {
                let item = self.value(&value, &sums, large);
                self.write(session, write, &key, turn, |place, epoch| {
                    push(place, item?, queue_bytes_max, epoch)
                })
            }
            Request::Pop { key, write } => {
                self.write(session, write, &key, turn, |place, epoch| pop(place, room, epoch))
            }
            // None may stand in a batch, and alone they do not come here.
            Request::Batch(_)
            | Request::Scan { .. }
            | Request::Wait { .. }
            | Request::Unpin(_)
            | Request::Step { .. }
            | Request::Call { .. } => Err(Kind::Protocol.into()),
        }
    }

    /// A value as the keyspace takes it. It is summed before the lock is taken; what is wrong is
    /// said only to a write that has had no answer yet.
    fn value<'v>(
        &self,
        bytes: &'v Bytes,
        sums: &Sums,
        large: Option<(Large, Sums)>,
    ) -> Result<Value<'v>, Fault> {
        match &large {
            Some((_, came)) => sums.expect(came, bytes.len()),
            None => sums.check(0, bytes),
        }
        .map_err(|error| Fault::from(&error))?;
        match large {
            _ if bytes.len() <= SMALL_BYTES_MAX => Ok(Value::Small { bytes, crc: sums.first() }),
            Some((large, _)) => Ok(Value::Large(large)),
            // An item of a batch: copied, so that storing it does not keep the whole batch alive.
            None => {
                let mut filling = self.keyspace.filling(bytes.len())?;
                filling.bytes_mut().copy_from_slice(bytes);
                Ok(Value::Large(filling.finish(Sums::copied(&sums.to_table()))))
            }
        }
    }

    /// Applies a write, unless it has been answered before: then that answer is repeated.
    fn write(
        &self,
        session: &Session,
        write: Write,
        key: &Key,
        turn: Turn<'_>,
        apply: impl FnOnce(&mut Place<'_>, u32) -> Result<Reply, Fault>,
    ) -> Result<Reply, Fault> {
        self.keyspace.at(key, turn, |place| {
            if let Some(reply) = place.results().find(session.life, write.sequence) {
                return Ok(reply);
            }
            if write.sequence <= session.acknowledged() {
                // A late duplicate: its result was acknowledged, and is gone.
                return Err(Kind::Unknown.into());
            }
            let epoch = place.held()?;
            session.acknowledge(write.acknowledged.min(write.sequence.saturating_sub(1)));
            if !place.results().may_record(session.life, session.acknowledged()) {
                return Err(Kind::Busy.into());
            }
            place.written_by(session.life, write.sequence);
            let answer = apply(place, epoch);
            let is_final = match &answer {
                Ok(_) => true,
                // The first copy of a repeated write may still be on its way, over a connection
                // that was cut: it must find the answer that the client has had. Busy is no final
                // answer.
                Err(fault) => write.retry && fault.kind != Kind::Busy,
            };
            if is_final {
                let reply = answer.clone().unwrap_or_else(Reply::from);
                place.results().record(session.life, write.sequence, &reply);
            }
            answer
        })
    }

    /// Prepares for the next of many requests, every few of them: so many have been answered, and
    /// these are the keys of those that are here.
    pub(super) fn look_ahead<'k>(&self, answered: u64, keys: impl Iterator<Item = &'k [u8]>) {
        if answered.is_multiple_of(AHEAD_MAX as u64) {
            self.keyspace.prefetch(keys);
        }
    }

    /// One step of housekeeping: expired objects, idle sessions, waiters that have left.
    pub(super) fn sweep(&self) {
        let now_ms = unix_ms();
        let census = self.sessions.forget_idle(now_ms, self.options.session_idle);
        self.keyspace.sweep(now_ms, &census);
        self.tables.sweep();
    }

    fn stats_json(&self) -> Bytes {
        serde_json::to_vec(&self.stats()).expect("numbers are always JSON").into()
    }

    /// Which node this is, and its view.
    pub(super) fn standing(&self) -> (NodeId, View) {
        let standing = self.standing.read();
        (standing.id, standing.view.clone())
    }

    fn count(&self) {
        self.count_many(1);
    }

    /// Counts requests that were answered.
    pub(super) fn count_many(&self, requests: u64) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
    }
}

/// A request whose answer comes later.
pub(super) enum Parked {
    Wait(ParkedWait),
    Step { answer: oneshot::Receiver<Answer>, timeout_ms: u32 },
}

/// A wait whose key has nothing new: ask again when the signal comes.
pub(super) struct ParkedWait {
    pub(super) key: Key,
    pub(super) newer_than: Version,
    pub(super) timeout_ms: u32,
    pub(super) signal: oneshot::Receiver<()>,
}

/// What a payload may go into.
pub(super) enum Admitted {
    /// It is in the read buffer already, or a batch that was paid for.
    Small(Reservation),
    /// It becomes a value itself.
    Large(Filling),
}

/// What pays for a request's payload until it is carried out.
pub(super) enum Paid {
    #[expect(dead_code, reason = "held until the request is done")]
    Transit(Reservation),
    /// The payload itself, and the sums that it turned out to have.
    Large(Large, Sums),
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("a value is shorter than the address space")
}

pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
