//! Queues: a head that says which items there are, and a row for each item.
//!
//! Owns the head's bytes. Knows nothing of how rows are kept. Invariant: head and item change in one
//! write, so a queue's items are exactly those that its head names.

use bytes::{BufMut, Bytes, BytesMut};

use crate::checksum::Sums;
use crate::error::{Error, Kind, Result};
use crate::key::Key;
use crate::segments::entry::Row;
use crate::segments::inbox::{Durable, Record};
use crate::segments::record::{RecordKind, eight};
use crate::segments::{Engine, Found};

const HEAD_BYTES: usize = 24;

/// A push that was queued.
#[derive(Debug)]
pub struct Pushed {
    /// Items in the queue with this one.
    pub items: u64,
    /// When it is durable.
    pub durable: Durable,
}

/// A pop that was queued.
#[derive(Debug)]
pub struct Popped {
    /// The item.
    pub value: Bytes,
    /// Its block checksums.
    pub sums: Sums,
    /// Items that are left.
    pub items: u64,
    /// When it is durable. The item must not be given away before.
    pub durable: Durable,
}

/// Which items a queue has: numbers from `first` up to `end`, which is the next one's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Head {
    first: u64,
    end: u64,
    bytes: u64,
}

impl Engine {
    /// Queues the push of an item. An empty queue takes any item, otherwise one that would pass
    /// `bytes_max` is [`Kind::Busy`] with the bytes that are there. `item` is the record of a value;
    /// calls for a key come one after the other.
    pub fn push(&self, item: Record, bytes_max: u64) -> Result<Pushed> {
        let (mut head, expires_at) = self.head(&item.key)?.unwrap_or_default();
        let len = item.value.len() as u64;
        if head.bytes > 0 && head.bytes.saturating_add(len) > bytes_max {
            let text = format!("{:?} holds {} bytes of at most {bytes_max}", item.key, head.bytes);
            return Err(Error::new(Kind::Busy, text).with_detail(head.bytes));
        }
        let item = Record { kind: RecordKind::Item, item: head.end, expires_at: 0, ..item };
        head.end += 1;
        head.bytes += len;
        let queue = head.record(&item, expires_at);
        let durable = self.write(vec![item, queue])?;
        Ok(Pushed { items: head.end - head.first, durable })
    }

    /// Queues the pop of the first item, unless it is longer than `bytes_max` ([`Kind::Busy`]).
    /// Calls for a key come one after the other.
    pub fn pop(&self, key: &Key, version: u64, epoch: u32, bytes_max: u64) -> Result<Popped> {
        let Some((mut head, expires_at)) = self.head(key)? else {
            return Err(Error::new(Kind::NotFound, format!("{key:?} is not there")));
        };
        let shared = &self.shared;
        let row = Row::item(shared.store, key.as_bytes(), head.first);
        let Some(item) = shared.latest(&row)?.found else {
            let text = format!("item {} of {key:?} is missing", head.first);
            return Err(Error::new(Kind::Corrupt, text));
        };
        if item.size > bytes_max {
            return Err(Error::new(Kind::Busy, format!("an item of {} bytes", item.size)));
        }
        let gone = Record { epoch, ..Record::delete(key.clone(), version) };
        let gone = Record { kind: RecordKind::DeleteItem, item: head.first, ..gone };
        head.first += 1;
        head.bytes = head.bytes.saturating_sub(item.size);
        let items = head.end - head.first;
        let queue = match items {
            0 => Record { kind: RecordKind::Delete, item: 0, ..gone.clone() },
            _ => head.record(&gone, expires_at),
        };
        let durable = self.write(vec![gone, queue])?;
        Ok(Popped { value: item.value, sums: item.sums, items, durable })
    }

    /// What a queue's head says: items and bytes.
    pub fn queue_size(&self, head: &Found) -> Result<(u64, u64)> {
        let head = Head::decode(&head.value)?;
        Ok((head.end - head.first, head.bytes))
    }

    /// The records that delete an object and, if it is a queue, its items: one write as long as
    /// there are no more than a write may have. `None` if it is not there.
    pub fn removal(&self, key: &Key, version: u64, epoch: u32) -> Result<Option<Vec<Record>>> {
        let Some(found) = self.latest(key)?.found else { return Ok(None) };
        let object = Record { epoch, ..Record::delete(key.clone(), version) };
        let mut records = Vec::new();
        if found.kind == RecordKind::Queue {
            let head = Head::decode(&found.value)?;
            let item = |item| Record { kind: RecordKind::DeleteItem, item, ..object.clone() };
            records.extend((head.first..head.end).map(item));
        }
        records.push(object);
        Ok(Some(records))
    }

    fn head(&self, key: &Key) -> Result<Option<(Head, u64)>> {
        match self.latest(key)?.found {
            None => Ok(None),
            Some(found) if found.kind == RecordKind::Queue => {
                Ok(Some((Head::decode(&found.value)?, found.expires_at)))
            }
            Some(_) => Err(Error::new(Kind::WrongType, format!("{key:?} is no queue"))),
        }
    }
}

impl Head {
    fn record(&self, like: &Record, expires_at: u64) -> Record {
        let mut value = BytesMut::with_capacity(HEAD_BYTES);
        value.put_u64_le(self.first);
        value.put_u64_le(self.end);
        value.put_u64_le(self.bytes);
        let value = value.freeze();
        let put = Record::put(like.key.clone(), like.version, value);
        Record { kind: RecordKind::Queue, epoch: like.epoch, expires_at, ..put }
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let malformed = || Error::new(Kind::Corrupt, "a queue's head is malformed");
        if bytes.len() != HEAD_BYTES {
            return Err(malformed());
        }
        let at = |at| u64::from_le_bytes(eight(bytes, at));
        let head = Self { first: at(0), end: at(8), bytes: at(16) };
        if head.first <= head.end { Ok(head) } else { Err(malformed()) }
    }
}
