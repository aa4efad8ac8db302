//! The disk behind a keyspace: what is written to it when objects change, and when that is durable.
//!
//! Owns the way from changes to the engine's log, and what is not durable yet. Knows nothing of
//! sockets. Invariant: the log has the changes of a shard in the order in which they happened, and
//! every operation that sees one that is not durable says so ([`Turn::see`]).
//!
//! A storage node writes every change under its shard's lock. A memory node that spills writes an
//! object when memory runs short, and takes it back when it changes.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::watch;

use crate::checksum::Sums;
use crate::error::Kind as ErrorKind;
use crate::key::{Key, Version};
use crate::segments::{Engine, Progress, QueueHead, Record, RecordKind, WRITE_RECORDS_MAX};
use crate::server::arena::Slabs;
use crate::server::keyspace::record::{self, Kind, View};
use crate::server::keyspace::shard::{Contents, Shard};
use crate::server::keyspace::value::Queue;
use crate::wire::Fault;

/// A request's time, and what its reply must wait for.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Turn<'a> {
    pub(in crate::server) now_ms: u64,
    seen: Option<&'a Seen>,
}

impl<'a> Turn<'a> {
    pub(in crate::server) fn new(now_ms: u64, seen: &'a Seen) -> Self {
        Self { now_ms, seen: Some(seen) }
    }

    /// The reply depends on this position in the log.
    pub(super) fn see(self, position: u64) {
        if let Some(seen) = self.seen {
            seen.see(position);
        }
    }
}

/// For those whose replies wait for the disk in another way, and for who has none to send.
impl From<u64> for Turn<'_> {
    fn from(now_ms: u64) -> Self {
        Self { now_ms, seen: None }
    }
}

/// The last position in the log that replies depend on which have not left yet.
#[derive(Debug, Default)]
pub(in crate::server) struct Seen(Cell<u64>);

impl Seen {
    /// Takes the position, if there is one.
    pub(in crate::server) fn take(&self) -> Option<u64> {
        Some(self.0.take()).filter(|position| *position > 0)
    }

    /// Whether replies wait for nothing.
    pub(in crate::server) fn is_empty(&self) -> bool {
        self.0.get() == 0
    }

    pub(in crate::server) fn see(&self, position: u64) {
        self.0.set(self.0.get().max(position));
    }
}

/// What one operation changed, until it is written.
#[derive(Debug, Default)]
pub(super) struct Changes {
    records: Vec<Record>,
    reserved: u64,
    /// Whose objects these are.
    pub(super) objects: Vec<Changed>,
    /// The write of a session that did this.
    pub(super) writer: Option<(u64, u64)>,
    /// Who is told the write's position.
    pub(super) told: Vec<Arc<AtomicU64>>,
}

/// An object that changed.
#[derive(Debug, Clone)]
pub(super) struct Changed {
    pub(super) key: Key,
    pub(super) tag: u32,
    /// The version that the disk has when this is durable; 0 where it has none then.
    pub(super) version: Version,
}

/// A change that was not durable when it was last looked at.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) position: u64,
    pub(super) changed: Changed,
    pub(super) writer: Option<(u64, u64)>,
}

/// What the disk may have of an object before it changes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Was {
    is_stored: bool,
    queue: Option<QueueHead>,
}

#[derive(Debug)]
pub(in crate::server) struct Backing {
    pub(in crate::server) engine: Arc<Engine>,
    pub(in crate::server) progress: watch::Receiver<Progress>,
    /// Whether changes are written when they happen, and replies wait for that.
    pub(in crate::server) is_durable: bool,
}

impl Backing {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        let (progress, is_durable) = (engine.progress(), engine.options().durable);
        Self { engine, progress, is_durable }
    }

    /// Admits a record with a value of `len` bytes, before anything changes. A node that spills has
    /// its objects in memory, whatever the disk says.
    pub(super) fn admit(&self, changes: &mut Changes, key: &[u8], len: usize) -> Result<(), Fault> {
        if !self.is_durable {
            return Ok(());
        }
        // A delete takes no room for long.
        let is_delete = len == 0;
        let bytes = Record::bytes_of(key.len(), len);
        self.engine.reserve(bytes, is_delete).map_err(|error| Fault::from(&error))?;
        changes.reserved += bytes;
        Ok(())
    }

    /// Admits the records that there are, for an object that is sent to the disk later.
    pub(super) fn admit_all(&self, changes: &mut Changes) -> Result<(), Fault> {
        let bytes = changes.records.iter().map(Record::bytes).sum();
        self.engine.reserve(bytes, false).map_err(|error| Fault::from(&error))?;
        changes.reserved += bytes;
        Ok(())
    }

    /// What the disk may have of a key's object.
    pub(super) fn was(&self, shard: &Shard, slabs: &Slabs, tag: u32, key: &[u8]) -> Was {
        let Some(found) = shard.index.find(slabs, tag, key) else { return Was::default() };
        let slot = slabs.bytes(found);
        let view = View::read(slot);
        let is_stored = self.is_durable
            || view.kind == Kind::Cold
            || record::is_clean(slot)
            || shard.pending_of(key).is_some();
        let queue = match (view.kind, shard.found(view).content) {
            (_, Contents::Queue(queue)) => Some(queue.head()),
            (_, Contents::Cold(cold)) => cold.queue(),
            (_, Contents::Value(_)) => None,
        };
        Was { is_stored, queue }
    }

    /// Notes that the object of `key` is now as it lies in the shard, or not there.
    pub(super) fn note(
        &self,
        changes: &mut Changes,
        was: Was,
        shard: &Shard,
        slabs: &Slabs,
        tag: u32,
        key: &Key,
    ) {
        // To a node that spills, what the disk has is not the object any more.
        let found = shard.index.find(slabs, tag, key.as_bytes()).filter(|_| self.is_durable);
        let version = match found {
            Some(found) => {
                let view = View::read(slabs.bytes(found));
                changes.object(key, shard, view, was.queue);
                view.version
            }
            None if was.is_stored => {
                let gone = Record::delete(key.clone(), shard.versions.last(key.slot()).0);
                changes.push(gone.clone());
                changes.items(&gone, was.queue, None);
                Version(0)
            }
            None => return,
        };
        changes.objects.push(Changed { key: key.clone(), tag, version });
    }

    /// Has the log take what an operation changed; its position.
    pub(super) fn submit(&self, changes: &mut Changes) -> u64 {
        let mut reserved = std::mem::take(&mut changes.reserved);
        let mut records = last_of_each_row(std::mem::take(&mut changes.records));
        // More than one write may have are no longer all or nothing: the deletes of a long queue's
        // items, and keys beyond the first thousands of one MSET.
        while records.len() > WRITE_RECORDS_MAX {
            let rest = records.split_off(WRITE_RECORDS_MAX);
            self.engine.submit(records, std::mem::take(&mut reserved));
            records = rest;
        }
        let position = self.engine.submit(records, reserved);
        for told in changes.told.drain(..).filter(|_| self.is_durable) {
            told.store(position, Ordering::Relaxed);
        }
        position
    }

    /// What was admitted for changes that did not happen.
    pub(super) fn forget(&self, changes: &mut Changes) {
        let reserved = std::mem::take(&mut changes.reserved);
        if reserved > 0 {
            self.engine.release(reserved);
        }
    }

    /// Whether `position`, which is settled, is durable; why not, if it is not.
    pub(in crate::server) fn outcome(&self, position: u64) -> Result<(), Fault> {
        match self.progress.borrow().of(position) {
            Some(Ok(())) => Ok(()),
            // Closed would say that nothing was applied.
            Some(Err(error)) if error.kind() == ErrorKind::Closed => Err(ErrorKind::Unknown.into()),
            Some(Err(error)) => Err(Fault::from(&error)),
            None => Err(ErrorKind::Unknown.into()),
        }
    }
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// A record; an earlier one of the same row goes, if it is near: a push to a queue writes its
    /// head each time. See [`last_of_each_row`] for the others.
    fn push(&mut self, record: Record) {
        let near = self.records.len().saturating_sub(2);
        if let Some(at) = self.records[near..].iter().position(|other| row(other) == row(&record)) {
            self.records.remove(near + at);
        }
        self.records.push(record);
    }

    /// The records of an object that is there; `before` is the queue that it was. A head stands
    /// behind the items that it has got and before those that it has lost: where they are too many
    /// for one write, it never names an item that is not there.
    pub(super) fn object(
        &mut self,
        key: &Key,
        shard: &Shard,
        view: View<'_>,
        before: Option<QueueHead>,
    ) {
        let (value, sums, kind, queue) = match shard.found(view).content {
            Contents::Value(stored) => {
                (stored.to_bytes(), stored.to_sums(), RecordKind::Value, None)
            }
            Contents::Queue(queue) => {
                let head = queue.head().encode();
                let sums = Sums::of(0, &head);
                (head, sums, RecordKind::Queue, Some(queue))
            }
            // It lies on the disk as it is: whoever changes it warms it first.
            Contents::Cold(_) => return,
        };
        let record = Record {
            kind,
            key: key.clone(),
            item: 0,
            version: view.version.0,
            expires_at: view.expires_at,
            modified_at: view.modified_at,
            value,
            sums,
        };
        if let Some(queue) = queue {
            let now = queue.head();
            for number in beyond(now, before.unwrap_or_default()) {
                let at = usize::try_from(number - now.first).unwrap_or(usize::MAX);
                let Some(item) = queue.get(at) else { continue };
                self.push(Record {
                    kind: RecordKind::Item,
                    item: number,
                    expires_at: 0,
                    value: item.to_bytes(),
                    sums: item.to_sums(),
                    ..record.clone()
                });
            }
        }
        self.push(record.clone());
        self.items(&record, before, queue.map(Queue::head));
    }

    /// The deletes of items that were in the queue `before` and are not in `after`.
    fn items(&mut self, like: &Record, before: Option<QueueHead>, after: Option<QueueHead>) {
        let Some(before) = before else { return };
        for number in beyond(before, after.unwrap_or_default()) {
            self.push(Record {
                kind: RecordKind::DeleteItem,
                item: number,
                expires_at: 0,
                value: Bytes::new(),
                sums: Sums::default(),
                ..like.clone()
            });
        }
    }
}

/// The items of one queue that another has not.
fn beyond(queue: QueueHead, other: QueueHead) -> impl Iterator<Item = u64> {
    let front = queue.first..other.first.min(queue.end);
    front.chain(other.end.max(queue.first)..queue.end)
}

fn row(record: &Record) -> (&[u8], bool, u64) {
    (record.key.as_bytes(), record.kind.is_item(), record.item)
}

/// A write has one record of each row.
fn last_of_each_row(records: Vec<Record>) -> Vec<Record> {
    if records.len() < 2 {
        return records;
    }
    let last: HashMap<_, usize> = records.iter().map(row).zip(0..).collect();
    if last.len() == records.len() {
        return records;
    }
    let mut keep: Vec<usize> = last.into_values().collect();
    keep.sort_unstable();
    let mut kept = keep.into_iter().peekable();
    let numbered = records.into_iter().enumerate();
    numbered.filter(|(at, _)| kept.next_if_eq(at).is_some()).map(|(_, record)| record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_items_beyond_a_queue_are_those_that_it_has_not() {
        let head = |first, end| QueueHead { first, end, bytes: 0 };
        for (a, b) in [(10, 20), (10, 10), (0, 5), (15, 17), (18, 25), (5, 12), (20, 30), (0, 0)] {
            for (c, d) in [(10, 20), (9, 21), (30, 40), (0, 0), (12, 13), (0, 11), (19, 19)] {
                let wanted: Vec<u64> = (a..b).filter(|n| *n < c || *n >= d).collect();
                // An empty queue has no place between items.
                if c < d || (c, d) == (0, 0) {
                    assert_eq!(beyond(head(a, b), head(c, d)).collect::<Vec<_>>(), wanted);
                }
            }
        }
    }
}
