//! From a key to its record: one shard's table.
//!
//! Owns the table and its own cost. Knows records by their tag, 28 bits of the key's hash, so that
//! growing touches none of them. Invariant: the bytes of the table are charged to the node's
//! memory, and before it grows.

use hashbrown::HashTable;

use crate::server::arena::{Record, Slabs, TAG_BITS};
use crate::server::keyspace::record;
use crate::server::memory::Memory;
use crate::wire::Fault;

/// A table shrinks when it could hold this many times what it holds.
const SPARSE_FACTOR: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Index {
    table: HashTable<Record>,
    charged: u64,
}

/// The part of a key's hash that its record carries.
pub(super) fn tag_of(hash: u64) -> u32 {
    (hash >> (u64::BITS - TAG_BITS)) as u32
}

/// The table takes its place from the lower bits and seven more from the top.
fn spread(tag: u32) -> u64 {
    u64::from(tag) << (u64::BITS - TAG_BITS) | u64::from(tag)
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes of the table.
    pub(super) fn bytes(&self) -> u64 {
        self.charged
    }

    pub(super) fn find(&self, slabs: &Slabs, tag: u32, key: &[u8]) -> Option<&Record> {
        self.table.find(spread(tag), |record| is_of(slabs, record, tag, key))
    }

    /// Most likely the record of the key with this tag; touches no record.
    pub(super) fn guess(&self, tag: u32) -> Option<&Record> {
        self.table.find(spread(tag), |record| record.tag() == tag)
    }

    pub(super) fn find_mut(&mut self, slabs: &Slabs, tag: u32, key: &[u8]) -> Option<&mut Record> {
        self.table.find_mut(spread(tag), |record| is_of(slabs, record, tag, key))
    }

    pub(super) fn remove(&mut self, slabs: &Slabs, tag: u32, key: &[u8]) -> Option<Record> {
        let entry = self.table.find_entry(spread(tag), |record| is_of(slabs, record, tag, key));
        entry.ok().map(|entry| entry.remove().0)
    }

    /// Whether the next [`Index::insert`] needs [`Index::grow`] before it.
    pub(super) fn is_full(&self) -> bool {
        self.table.len() == self.table.capacity()
    }

    /// Makes room for one more, and as many again.
    pub(super) fn grow(&mut self, memory: &Memory) -> Result<(), Fault> {
        // Old and new table are there at once; the new one has at most twice the buckets.
        let most = 2 * self.table.allocation_size() as u64 + 128;
        memory.take(most)?;
        self.table.reserve(1, |record| spread(record.tag()));
        self.settle(memory, most);
        Ok(())
    }

    /// Adds a record that is not there. There must be room: see [`Index::is_full`].
    pub(super) fn insert(&mut self, record: Record) {
        let hash = spread(record.tag());
        self.table.insert_unique(hash, record, |record| spread(record.tag()));
    }

    /// Gives back what a table needs no more that was larger once.
    pub(super) fn shrink(&mut self, memory: &Memory) {
        if self.table.is_empty() {
            self.table = HashTable::new();
        } else if self.table.capacity() > SPARSE_FACTOR * self.table.len().max(16) {
            let wanted = 2 * self.table.len();
            self.table.shrink_to(wanted, |record| spread(record.tag()));
        }
        self.settle(memory, 0);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.table.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        self.table.iter_mut()
    }

    /// Charges what the table is now, where `taken` was taken for it already.
    fn settle(&mut self, memory: &Memory, taken: u64) {
        let bytes = self.table.allocation_size() as u64;
        memory.charge(bytes);
        memory.give(self.charged + taken);
        self.charged = bytes;
    }
}

fn is_of(slabs: &Slabs, found: &Record, tag: u32, key: &[u8]) -> bool {
    found.tag() == tag && record::is_of(slabs.bytes(found), key)
}
