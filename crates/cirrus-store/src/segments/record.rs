//! The bytes of a segment: its own header, and its records. docs/storage.md draws both.
//!
//! Owns the format; does no I/O. Invariant: nothing is believed, and nothing allocated, before its
//! header's limits were checked; a record is whole only if its crc32c says so for this segment and
//! this offset.

use bytes::{BufMut, Bytes, BytesMut};

use crate::checksum::{Sums, blocks, crc32c};
use crate::key::KEY_BYTES_MAX;

/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER_BYTES: usize = 64;
/// Where a segment's first record begins.
pub(super) const RECORDS_AT: u64 = SEGMENT_HEADER_BYTES as u64;
/// Bytes of a record's header.
pub(super) const HEADER_BYTES: usize = 56;
/// Where a record's header has its crc32c.
const SUM_AT: usize = 12;
/// Where records begin: multiples of this.
pub(super) const ALIGN: u64 = 8;
/// The longest value.
pub const VALUE_BYTES_MAX: u32 = 1 << 30;

const SEGMENT_MAGIC: [u8; 8] = *b"CIRRSEG\x01";
const FORMAT: u32 = 1;
const MAGIC: u32 = u32::from_le_bytes(*b"CREC");
const MORE: u8 = 1;

/// What a record says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// An object of bytes; integers are their ASCII digits.
    Value,
    /// A queue's head: which items it has.
    Queue,
    /// One item of a queue.
    Item,
    /// The object, value or queue, is gone.
    Delete,
    /// The item is gone.
    DeleteItem,
    /// The largest version of every slot, as of the start of this segment. Has no key.
    Slots,
    /// The engine was closed: everything before was synced. Has no key.
    Closed,
}

impl RecordKind {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Value => 1,
            Self::Queue => 2,
            Self::Item => 3,
            Self::Delete => 4,
            Self::DeleteItem => 5,
            Self::Slots => 16,
            Self::Closed => 17,
        }
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Value,
            2 => Self::Queue,
            3 => Self::Item,
            4 => Self::Delete,
            5 => Self::DeleteItem,
            16 => Self::Slots,
            17 => Self::Closed,
            _ => return None,
        })
    }

    /// Whether the record takes something away.
    pub const fn is_delete(self) -> bool {
        matches!(self, Self::Delete | Self::DeleteItem)
    }

    /// Whether the record is about an item of a queue and not about an object.
    pub const fn is_item(self) -> bool {
        matches!(self, Self::Item | Self::DeleteItem)
    }

    /// Whether the record is the log's own and about no key.
    pub(super) const fn is_own(self) -> bool {
        matches!(self, Self::Slots | Self::Closed)
    }
}

/// A record's header, without what only the disk needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: RecordKind,
    /// More records of the same write follow; they count together or not at all.
    pub(super) more: bool,
    pub(super) key_len: u16,
    pub(super) value_len: u32,
    pub(super) version: u64,
    pub(super) expires_at: u64,
    pub(super) modified_at: u64,
    pub(super) item: u64,
    /// How far this segment was synced when the record was written.
    pub(super) synced: u64,
}

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw(pub(super) String);

/// Bytes of a table of block checksums.
pub(super) fn table_bytes(value_len: u32) -> usize {
    blocks(0, value_len as usize) * 4
}

/// Bytes of a record, with its padding.
pub(super) fn record_bytes(key_len: u16, value_len: u32) -> u64 {
    let bytes = HEADER_BYTES + usize::from(key_len) + table_bytes(value_len) + value_len as usize;
    (bytes as u64).next_multiple_of(ALIGN)
}

impl Head {
    /// Bytes of the whole record.
    pub(super) fn record_bytes(&self) -> u64 {
        record_bytes(self.key_len, self.value_len)
    }

    /// Bytes before the value: header, key, table.
    pub(super) fn front_bytes(&self) -> usize {
        HEADER_BYTES + usize::from(self.key_len) + table_bytes(self.value_len)
    }

    /// Appends header, key and table; value and padding are the caller's.
    pub(super) fn encode_front(
        &self,
        place: (u32, u64),
        key: &[u8],
        sums: &Sums,
        out: &mut BytesMut,
    ) {
        let start = out.len();
        out.put_u32_le(MAGIC);
        out.put_u8(self.kind.code());
        out.put_u8(if self.more { MORE } else { 0 });
        out.put_u16_le(self.key_len);
        out.put_u32_le(self.value_len);
        out.put_u32_le(0);
        out.put_u64_le(self.version);
        out.put_u64_le(self.expires_at);
        out.put_u64_le(self.item);
        out.put_u64_le(self.synced);
        out.put_u64_le(self.modified_at);
        out.put_slice(key);
        sums.put_table(out);
        let sum = front_sum(place, &out[start..]);
        out[start + SUM_AT..start + SUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
    }

    /// The header in the first [`HEADER_BYTES`], its limits checked and its crc32c not yet.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(Flaw(format!("{} bytes where a header has {HEADER_BYTES}", bytes.len())));
        };
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(four(bytes, at));
        let u64_at = |at: usize| u64::from_le_bytes(eight(bytes, at));
        if u32_at(0) != MAGIC {
            return Err(Flaw(format!("no record begins with {:08x}", u32_at(0))));
        }
        let Some(kind) = RecordKind::from_code(bytes[4]) else {
            return Err(Flaw(format!("kind {} is not known", bytes[4])));
        };
        let (flags, key_len, value_len) = (bytes[5], u16_at(6), u32_at(8));
        if flags & !MORE != 0 {
            return Err(Flaw(format!("flags {flags:#04x} are not known")));
        }
        if usize::from(key_len) > KEY_BYTES_MAX || (key_len == 0) != kind.is_own() {
            return Err(Flaw(format!("a key of {key_len} bytes")));
        }
        if value_len > VALUE_BYTES_MAX {
            return Err(Flaw(format!("a value of {value_len} bytes")));
        }
        Ok(Self {
            kind,
            more: flags & MORE != 0,
            key_len,
            value_len,
            version: u64_at(16),
            expires_at: u64_at(24),
            item: u64_at(32),
            synced: u64_at(40),
            modified_at: u64_at(48),
        })
    }
}

/// Checks header, key and table of the record at `place`.
pub(super) fn check_front(place: (u32, u64), front: &[u8]) -> Result<(), Flaw> {
    let stored = u32::from_le_bytes(four(front, SUM_AT));
    let actual = front_sum(place, front);
    match stored == actual {
        true => Ok(()),
        false => Err(Flaw(format!("crc32c {stored:08x} is written, {actual:08x} is found"))),
    }
}

/// The place is a part of the sum, so that a record that was written elsewhere is none here.
fn front_sum((segment, offset): (u32, u64), front: &[u8]) -> u32 {
    let parts =
        [&segment.to_le_bytes()[..], &offset.to_le_bytes(), &front[..SUM_AT], &front[SUM_AT + 4..]];
    crc32c(parts)
}

/// Key, table and value out of a whole record's bytes, all checked.
pub(super) fn split(
    place: (u32, u64),
    head: &Head,
    record: &Bytes,
) -> Result<(Bytes, Sums, Bytes), Flaw> {
    let front = head.front_bytes();
    let whole = front + head.value_len as usize;
    if record.len() < whole {
        return Err(Flaw(format!("{} bytes where the record has {whole}", record.len())));
    }
    check_front(place, &record[..front])?;
    let key_end = HEADER_BYTES + usize::from(head.key_len);
    let sums = Sums::copied(&record[key_end..front]);
    let value = record.slice(front..whole);
    sums.check(0, &value).map_err(|error| Flaw(error.to_string()))?;
    Ok((record.slice(HEADER_BYTES..key_end), sums, value))
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) id: u32,
    /// Which store it belongs to; random.
    pub(super) store: u128,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.store.to_le_bytes());
        let sum = crc32c([&bytes[..60]]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<Self, Flaw> {
        if bytes[..8] != SEGMENT_MAGIC {
            return Err(Flaw("it is no segment".to_owned()));
        }
        let sum = u32::from_le_bytes(four(bytes, 60));
        if sum != crc32c([&bytes[..60]]) {
            return Err(Flaw("the segment's header does not match its crc32c".to_owned()));
        }
        let format = u32::from_le_bytes(four(bytes, 8));
        if format != FORMAT {
            return Err(Flaw(format!("format {format}; this program reads {FORMAT}")));
        }
        let mut store = [0; 16];
        store.copy_from_slice(&bytes[16..32]);
        Ok(Self { id: u32::from_le_bytes(four(bytes, 12)), store: u128::from_le_bytes(store) })
    }
}

/// The value of a [`RecordKind::Slots`] record: slot u16, version u64 for every slot that has one.
pub(super) fn encode_slots(versions: &[u64]) -> Bytes {
    let mut out = BytesMut::new();
    for (slot, version) in (0u16..).zip(versions).filter(|(_, version)| **version > 0) {
        out.put_u16_le(slot);
        out.put_u64_le(*version);
    }
    out.freeze()
}

/// Raises each slot's version to the one in the table.
pub(super) fn merge_slots(table: &[u8], versions: &mut [u64]) -> Result<(), Flaw> {
    let (entries, rest) = table.as_chunks::<10>();
    if !rest.is_empty() {
        return Err(Flaw(format!("a table of slots of {} bytes", table.len())));
    }
    for entry in entries {
        let slot = usize::from(u16::from_le_bytes([entry[0], entry[1]]));
        let Some(version) = versions.get_mut(slot) else {
            return Err(Flaw(format!("slot {slot}")));
        };
        *version = (*version).max(u64::from_le_bytes(eight(entry, 2)));
    }
    Ok(())
}

pub(super) fn four(bytes: &[u8], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}

pub(super) fn eight(bytes: &[u8], at: usize) -> [u8; 8] {
    let (low, high) = (four(bytes, at), four(bytes, at + 4));
    [low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]
}
