//! What the index says of a row: where its newest record lies.
//!
//! Owns [`Row`], [`Entry`] and their bytes in the index. Does no I/O. Invariant: rows sort by
//! (space, slot, hash of the key, key, item), so a scan's cursor (slot, hash) is a row's front.

use std::hash::Hasher;

use bytes::{BufMut, Bytes, BytesMut};
use siphasher::sip::SipHasher13;

use crate::error::Result;
use crate::key::{Key, Slot};
use crate::segments::record::{Head, RecordKind, eight, four, record_bytes};

/// Space, slot and hash.
const FRONT_BYTES: usize = 11;
const OBJECTS: u8 = 0;
const ITEMS: u8 = 1;
const ENTRY_BYTES: usize = 45;

/// The name of a row of the index. Rows are compared by their first bytes, which lie in the row
/// itself, and hardly ever by what lies elsewhere: the table of changes is searched for every write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Row {
    /// The first eight bytes, big-endian; zeros behind a shorter one.
    front: u64,
    bytes: Box<[u8]>,
}

impl Row {
    /// The row of an object.
    pub(super) fn object(store: u128, key: &[u8]) -> Self {
        Self::new(OBJECTS, store, key, None)
    }

    /// The row of a queue's item.
    pub(super) fn item(store: u128, key: &[u8], item: u64) -> Self {
        Self::new(ITEMS, store, key, Some(item))
    }

    /// The row that a record is about.
    pub(super) fn of(store: u128, kind: RecordKind, key: &[u8], item: u64) -> Self {
        match kind.is_item() {
            true => Self::item(store, key, item),
            false => Self::object(store, key),
        }
    }

    fn new(space: u8, store: u128, key: &[u8], item: Option<u64>) -> Self {
        let item_bytes = if item.is_some() { 8 } else { 0 };
        let mut bytes = Vec::with_capacity(FRONT_BYTES + key.len() + item_bytes);
        bytes.push(space);
        bytes.put_u16(Slot::of(key).number());
        bytes.put_u64(hash(store, key));
        bytes.put_slice(key);
        if let Some(item) = item {
            bytes.put_u64(item);
        }
        Self::from(bytes)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self::from(bytes.to_vec())
    }

    fn from(bytes: Vec<u8>) -> Self {
        let mut front = [0; 8];
        let len = bytes.len().min(8);
        front[..len].copy_from_slice(&bytes[..len]);
        Self { front: u64::from_be_bytes(front), bytes: bytes.into() }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn is_object(&self) -> bool {
        self.bytes.first() == Some(&OBJECTS)
    }

    /// The first row of objects that a cursor leaves to be scanned.
    pub(super) fn from_cursor((slot, hash): (u16, u64)) -> Self {
        let mut bytes = Vec::with_capacity(FRONT_BYTES);
        bytes.push(OBJECTS);
        bytes.put_u16(slot);
        bytes.put_u64(hash);
        Self::from(bytes)
    }

    /// Behind all rows of objects.
    pub(super) fn objects_end() -> Self {
        Self::from_bytes(&[ITEMS])
    }

    /// (slot, hash).
    pub(super) fn cursor(&self) -> (u16, u64) {
        (
            u16::from_be_bytes([self.bytes[1], self.bytes[2]]),
            u64::from_be_bytes(eight(&self.bytes, 3)),
        )
    }

    /// The key of a row of an object.
    pub(super) fn key_bytes(&self) -> &[u8] {
        &self.bytes[FRONT_BYTES..]
    }

    /// The key of a row of an object, as a type.
    pub(super) fn key(&self) -> Result<Key> {
        Key::new(Bytes::copy_from_slice(self.key_bytes()))
    }
}

/// The same for the life of a store, and secret, so that nobody can choose keys that collide.
fn hash(store: u128, key: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&store.to_le_bytes());
    hasher.write(key);
    hasher.finish()
}

/// Where a record begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u64,
}

/// A row's newest record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: RecordKind,
    pub(super) place: Place,
    pub(super) key_len: u16,
    pub(super) value_len: u32,
    pub(super) version: u64,
    pub(super) expires_at: u64,
    pub(super) modified_at: u64,
    /// No segment before this one has a record of the row.
    pub(super) oldest: u32,
}

impl Entry {
    pub(super) fn of(head: &Head, place: Place, oldest: u32) -> Self {
        Self {
            kind: head.kind,
            place,
            key_len: head.key_len,
            value_len: head.value_len,
            version: head.version,
            expires_at: head.expires_at,
            modified_at: head.modified_at,
            oldest,
        }
    }

    /// Bytes of its record on disk.
    pub(super) fn record_bytes(&self) -> u64 {
        record_bytes(self.key_len, self.value_len)
    }

    pub(super) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut out = BytesMut::with_capacity(ENTRY_BYTES);
        out.put_u8(self.kind.code());
        out.put_u16_le(self.key_len);
        out.put_u32_le(self.place.segment);
        // 48 bits of an offset are 256 TiB.
        out.put_slice(&self.place.offset.to_le_bytes()[..6]);
        out.put_u32_le(self.value_len);
        out.put_u64_le(self.version);
        out.put_u64_le(self.expires_at);
        out.put_u64_le(self.modified_at);
        out.put_u32_le(self.oldest);
        let mut bytes = [0; ENTRY_BYTES];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// `None` when these are not the bytes of an entry.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = <&[u8; ENTRY_BYTES]>::try_from(bytes).ok()?;
        let mut offset = [0; 8];
        offset[..6].copy_from_slice(&bytes[7..13]);
        Some(Self {
            kind: RecordKind::from_code(bytes[0])?,
            key_len: u16::from_le_bytes([bytes[1], bytes[2]]),
            place: Place {
                segment: u32::from_le_bytes(four(bytes, 3)),
                offset: u64::from_le_bytes(offset),
            },
            value_len: u32::from_le_bytes(four(bytes, 13)),
            version: u64::from_le_bytes(eight(bytes, 17)),
            expires_at: u64::from_le_bytes(eight(bytes, 25)),
            modified_at: u64::from_le_bytes(eight(bytes, 33)),
            oldest: u32::from_le_bytes(four(bytes, 41)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_from_its_bytes() {
        let entry = Entry {
            kind: RecordKind::Queue,
            place: Place { segment: 7, offset: (1 << 47) + 5 },
            key_len: 1024,
            value_len: 1 << 30,
            version: u64::MAX,
            expires_at: 9,
            modified_at: 11,
            oldest: 2,
        };
        assert_eq!(Entry::decode(&entry.encode()), Some(entry));
        assert_eq!(Entry::decode(&entry.encode()[1..]), None);
    }

    #[test]
    fn rows_of_objects_sort_by_cursor_and_end_before_items() {
        let (a, b) = (Row::object(1, b"a"), Row::object(1, b"b"));
        assert_eq!(a < b, a.cursor() < b.cursor());
        assert!(Row::from_cursor(a.cursor()) <= a);
        assert!(a < Row::objects_end() && Row::objects_end() < Row::item(1, b"a", 0));
        assert!(Row::item(1, b"a", 1) < Row::item(1, b"a", 256));
        assert_eq!(a.key_bytes(), b"a");
    }
}
