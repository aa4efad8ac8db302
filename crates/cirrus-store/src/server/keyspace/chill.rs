//! Which objects' values leave memory when it is short.
//!
//! Owns the hand that goes from shard to shard (CLOCK; Corbató 1968), and what must not leave. Knows
//! nothing of requests. Invariant: what leaves is on the disk as it is here, its name stays, and
//! nothing leaves that was pinned, or used since the hand came by last.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::key::Key;
use crate::server::arena::{Record, Slabs};
use crate::server::keyspace::backing::{Backing, Changed, Changes};
use crate::server::keyspace::cold::{Cold, STUB_BYTES, replace};
use crate::server::keyspace::record::{self, Kind, View};
use crate::server::keyspace::shard::{Other, Others, Shard};
use crate::server::keyspace::{Keyspace, tag_of};

/// Where the next shard is in which objects are looked for that can leave.
#[derive(Debug, Default)]
pub(super) struct Hand {
    next: AtomicUsize,
    /// Shards in a row where none could leave, and how far the log had come then.
    in_vain: AtomicUsize,
    settled: AtomicU64,
    /// Objects that were brought for a request which is about to use them.
    pins: Mutex<HashMap<Key, u32>>,
}

impl Hand {
    /// More may leave now than when it went round in vain.
    pub(super) fn look_again(&self) {
        self.in_vain.store(0, Ordering::Relaxed);
    }
}

impl Keyspace {
    /// Keeps this key's object from leaving, until [`Keyspace::unpin`].
    pub(in crate::server) fn pin(&self, key: &Key) {
        *self.hand.pins.lock().entry(key.clone()).or_default() += 1;
    }

    pub(in crate::server) fn unpin(&self, key: &Key) {
        let mut pins = self.hand.pins.lock();
        if let Some(count) = pins.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                pins.remove(key);
            }
        }
        drop(pins);
        self.look_again();
    }

    /// More may leave now than when the hand went round in vain.
    fn look_again(&self) {
        self.hand.look_again();
        self.extents.signal();
    }

    /// Has objects leave, shard by shard, until they have freed `missing` bytes, counting the holes
    /// that small ones leave, or it `is_enough`: those that have not been used since the hand came by
    /// last and that the disk has. On a node that spills, what it has not is sent there. Called
    /// without any lock.
    pub(super) fn chill_until(&self, missing: u64, is_enough: impl Fn() -> bool) {
        let Some(backing) = &self.backing else { return };
        let (hand, rounds) = (&self.hand, 2 * self.shards.len());
        let settled = backing.progress.borrow().settled();
        if hand.in_vain.load(Ordering::Relaxed) >= rounds {
            if settled == hand.settled.load(Ordering::Relaxed) {
                return;
            }
            hand.in_vain.store(0, Ordering::Relaxed);
        }
        hand.settled.store(settled, Ordering::Relaxed);
        let mut freed = 0;
        while freed < missing && !is_enough() && hand.in_vain.load(Ordering::Relaxed) < rounds {
            let number = hand.next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
            let mut retired = Vec::new();
            let mut shard = self.shards[number].lock();
            shard.settle(&self.slabs, backing);
            let here = self.chill_shard(backing, &mut shard, &mut retired);
            drop(shard);
            freed += here;
            match here {
                0 => hand.in_vain.fetch_add(1, Ordering::Relaxed),
                _ => hand.in_vain.swap(0, Ordering::Relaxed),
            };
        }
    }

    fn chill_shard(&self, backing: &Backing, shard: &mut Shard, retired: &mut Vec<Other>) -> u64 {
        let slabs = &self.slabs;
        let mut freed = 0;
        let mut dirty = Vec::new();
        let pins = self.hand.pins.lock();
        let Shard { index, others, pending, .. } = shard;
        for found in index.iter_mut() {
            let slot = slabs.bytes_mut(found);
            if record::set_used(slot, false) {
                continue;
            }
            let is_clean = record::is_clean(slot);
            let (tag, view) = (found.tag(), View::read(slabs.bytes(found)));
            if view.kind == Kind::Cold || view.kind == Kind::Small && view.value.len() <= STUB_BYTES
            {
                continue;
            }
            if !is_clean {
                if !backing.is_durable
                    && pending.iter().all(|one| one.changed.key.as_bytes() != view.key)
                {
                    dirty.extend(Key::new(Bytes::copy_from_slice(view.key)).ok());
                }
                continue;
            }
            if pins.contains_key(view.key) {
                continue;
            }
            let key = view.key.to_vec();
            match leave(slabs, others, found, tag, &key, retired) {
                Some(bytes) => freed += bytes,
                // No room for what is kept of it: what has left makes some.
                None => break,
            }
        }
        drop(pins);
        for key in dirty {
            self.spill(backing, shard, &key);
        }
        freed
    }

    /// Sends an object to the disk that is not there yet.
    fn spill(&self, backing: &Backing, shard: &mut Shard, key: &Key) {
        let tag = tag_of(self.hash(key.as_bytes()));
        let Some(found) = shard.index.find(&self.slabs, tag, key.as_bytes()) else { return };
        let view = View::read(self.slabs.bytes(found));
        let mut changes = Changes::default();
        let version = view.version;
        changes.object(key, shard, view, None);
        // A disk that is full or slow takes it another time.
        if backing.admit_all(&mut changes).is_ok() {
            changes.objects.push(Changed { key: key.clone(), tag, version });
            shard.pend(backing.submit(&mut changes), &mut changes);
        }
    }
}

/// Puts what is kept of a cold object in its record's place; bytes that are free now, `None` when
/// there is no room for it.
fn leave(
    slabs: &Slabs,
    others: &mut Others,
    found: &mut Record,
    tag: u32,
    key: &[u8],
    retired: &mut Vec<Other>,
) -> Option<u64> {
    let view = View::read(slabs.bytes(found));
    let (kind, word, before) = (view.kind, view.word, slabs.size(found) as u64);
    let cold = match others.get(word).filter(|_| kind != Kind::Small) {
        None => Cold::Value { size: view.value.len() as u64 },
        Some(Other::Large(large)) => Cold::Value { size: large.bytes().len() as u64 },
        Some(Other::Queue(queue, _)) => Cold::Queue(queue.head()),
    };
    let mut stub = [0; STUB_BYTES];
    let value = cold.write(&mut stub);
    replace(slabs, found, tag, key, (Kind::Cold, 0, value)).ok()?;
    let beside = if kind == Kind::Small { None } else { others.remove(word) };
    let freed = before + beside.as_ref().map_or(0, Other::bytes);
    retired.extend(beside);
    Some(freed.saturating_sub(slabs.size(found) as u64))
}
