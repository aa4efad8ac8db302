//! How an object lies in its record.
//!
//! Owns the layout, byte by byte; knows nothing of where records are. Invariant: what was written
//! is read back, whatever else is in the slot behind it.
//!
//! | offset | size | |
//! |---|---|---|
//! | 0 | 8 | version |
//! | 8 | 4 | crc32c of a small value; number of a large value or queue in its shard; 0 of a cold one |
//! | 12 | 2 | bytes of a small value |
//! | 14 | 2 | bytes of the key (bits 0 to 10), kind (bits 11 and 12), whether it has an end (bit 13), was used of late (bit 14), lies on the disk as it is here (bit 15) |
//! | 16 | 6 | when it was last written, Unix ms |
//! | 22 | … | key, then value (of a cold one: what `cold` says of it), then when it ends (8, if it does) |

use crate::key::{KEY_BYTES_MAX, Version};
use crate::server::arena::RECORD_BYTES_MAX;
use crate::server::keyspace::value::SMALL_BYTES_MAX;
use crate::wire::NEVER;

const HEAD_BYTES: usize = 22;
const END_BYTES: usize = 8;

/// The latest time that a record can say, in the year 10889.
const MODIFIED_AT_MAX: u64 = (1 << 48) - 1;

const KEY_MASK: u16 = 0x07FF;
const KIND_SHIFT: u32 = 11;
const HAS_END: u16 = 1 << 13;
const IS_USED: u16 = 1 << 14;
const IS_CLEAN: u16 = 1 << 15;

const _: () = assert!(
    HEAD_BYTES + KEY_BYTES_MAX + SMALL_BYTES_MAX + END_BYTES <= RECORD_BYTES_MAX,
    "every small value fits a record"
);

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Small,
    Large,
    Queue,
    /// Its value or items lie on the disk only.
    Cold,
}

/// An object as its record has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) version: Version,
    pub(super) expires_at: u64,
    /// When the object was last written, in Unix ms.
    pub(super) modified_at: u64,
    pub(super) kind: Kind,
    /// The crc32c of a small value; where the shard keeps any other.
    pub(super) word: u32,
    pub(super) key: &'a [u8],
    /// A small value.
    pub(super) value: &'a [u8],
}

impl<'a> View<'a> {
    /// Bytes of the record.
    pub(super) fn len(&self) -> usize {
        let end = if self.expires_at == NEVER { 0 } else { END_BYTES };
        HEAD_BYTES + self.key.len() + self.value.len() + end
    }

    pub(super) fn read(slot: &'a [u8]) -> Self {
        let flags = flags(slot);
        let key_end = HEAD_BYTES + usize::from(flags & KEY_MASK);
        let value_end = key_end + usize::from(u16::from_le_bytes(field(slot, 12)));
        Self {
            version: Version(u64::from_le_bytes(field(slot, 0))),
            expires_at: match flags & HAS_END {
                0 => NEVER,
                _ => u64::from_le_bytes(field(slot, value_end)),
            },
            modified_at: modified_at(slot),
            kind: match flags >> KIND_SHIFT & 3 {
                0 => Kind::Small,
                1 => Kind::Large,
                2 => Kind::Queue,
                _ => Kind::Cold,
            },
            word: u32::from_le_bytes(field(slot, 8)),
            key: &slot[HEAD_BYTES..key_end],
            value: &slot[key_end..value_end],
        }
    }

    pub(super) fn write(&self, slot: &mut [u8]) {
        let has_end = if self.expires_at == NEVER { 0 } else { HAS_END };
        let kind: u16 = match self.kind {
            Kind::Small => 0,
            Kind::Large => 1,
            Kind::Queue => 2,
            Kind::Cold => 3,
        };
        let len_u16 = |len: usize| u16::try_from(len).expect("keys and small values are short");
        let flags = len_u16(self.key.len()) | kind << KIND_SHIFT | has_end;
        let (head, rest) = slot.split_at_mut(HEAD_BYTES);
        head[..8].copy_from_slice(&self.version.0.to_le_bytes());
        head[8..12].copy_from_slice(&self.word.to_le_bytes());
        head[12..14].copy_from_slice(&len_u16(self.value.len()).to_le_bytes());
        head[14..16].copy_from_slice(&flags.to_le_bytes());
        head[16..].copy_from_slice(&six_bytes(self.modified_at));
        let (key, rest) = rest.split_at_mut(self.key.len());
        key.copy_from_slice(self.key);
        let (value, rest) = rest.split_at_mut(self.value.len());
        value.copy_from_slice(self.value);
        if self.expires_at != NEVER {
            rest[..END_BYTES].copy_from_slice(&self.expires_at.to_le_bytes());
        }
    }

    pub(super) fn has_expired(&self, now_ms: u64) -> bool {
        self.expires_at != NEVER && self.expires_at <= now_ms
    }
}

/// Whether the record in `slot` is that of `key`.
pub(super) fn is_of(slot: &[u8], key: &[u8]) -> bool {
    let len = usize::from(flags(slot) & KEY_MASK);
    len == key.len() && &slot[HEAD_BYTES..HEAD_BYTES + len] == key
}

/// Whether what the disk has of the object is what is here.
pub(super) fn is_clean(slot: &[u8]) -> bool {
    flags(slot) & IS_CLEAN != 0
}

pub(super) fn set_clean(slot: &mut [u8], is_clean: bool) {
    set_flag(slot, IS_CLEAN, is_clean);
}

/// Notes a use of the object, or forgets it; whether it had been noted.
pub(super) fn set_used(slot: &mut [u8], is_used: bool) -> bool {
    let was_used = flags(slot) & IS_USED != 0;
    set_flag(slot, IS_USED, is_used);
    was_used
}

fn set_flag(slot: &mut [u8], flag: u16, is_set: bool) {
    let flags = if is_set { flags(slot) | flag } else { flags(slot) & !flag };
    slot[14..16].copy_from_slice(&flags.to_le_bytes());
}

/// Gives the record in `slot` another version, which was written at `modified_at`.
pub(super) fn set_version(slot: &mut [u8], version: Version, modified_at: u64) {
    set_clean(slot, false);
    slot[..8].copy_from_slice(&version.0.to_le_bytes());
    slot[16..HEAD_BYTES].copy_from_slice(&six_bytes(modified_at));
}

/// Gives the record in `slot`, which has room for it, another end.
pub(super) fn set_expires_at(slot: &mut [u8], at: u64) {
    let flags = flags(slot) & !HAS_END;
    let value_len = usize::from(u16::from_le_bytes(field(slot, 12)));
    let end = HEAD_BYTES + usize::from(flags & KEY_MASK) + value_len;
    let flags = if at == NEVER { flags } else { flags | HAS_END };
    slot[14..16].copy_from_slice(&flags.to_le_bytes());
    if at != NEVER {
        slot[end..end + END_BYTES].copy_from_slice(&at.to_le_bytes());
    }
}

fn flags(slot: &[u8]) -> u16 {
    u16::from_le_bytes(field(slot, 14))
}

fn modified_at(slot: &[u8]) -> u64 {
    let [a, b, c, d, e, f] = field(slot, 16);
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

fn six_bytes(modified_at: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = modified_at.min(MODIFIED_AT_MAX).to_le_bytes();
    [a, b, c, d, e, f]
}

fn field<const LEN: usize>(slot: &[u8], at: usize) -> [u8; LEN] {
    *slot[at..].first_chunk().expect("a slot is as long as its record")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            version: u64, word: u32, end in prop_oneof![Just(NEVER), 1_u64..], other: u64,
            at in 0..=MODIFIED_AT_MAX, later: u64,
            kind in prop_oneof![
                Just(Kind::Small), Just(Kind::Large), Just(Kind::Queue), Just(Kind::Cold)
            ],
            key in prop::collection::vec(any::<u8>(), 1..=1024),
            value in prop::collection::vec(any::<u8>(), 0..=SMALL_BYTES_MAX),
        ) {
            let written = View {
                version: Version(version), expires_at: end, modified_at: at,
                kind, word, key: &key, value: &value,
            };
            let mut slot = vec![0xAA; RECORD_BYTES_MAX];
            written.write(&mut slot);
            let same = |slot: &[u8], version, expires_at, modified_at| {
                let read = View::read(slot);
                assert_eq!((read.version, read.expires_at), (Version(version), expires_at));
                assert_eq!(read.modified_at, modified_at);
                assert_eq!((read.kind, read.word), (kind, word));
                assert!(read.key == key && read.value == value && is_of(slot, &key));
            };
            same(&slot, version, end, at);
            prop_assert!(slot[written.len()..].iter().all(|byte| *byte == 0xAA));
            let later_at = later.min(MODIFIED_AT_MAX);
            prop_assert!(!is_clean(&slot) && !set_used(&mut slot, true));
            set_clean(&mut slot, true);
            prop_assert!(is_clean(&slot) && set_used(&mut slot, true));
            same(&slot, version, end, at);
            set_version(&mut slot, Version(other), later);
            prop_assert!(!is_clean(&slot) && set_used(&mut slot, false));
            set_expires_at(&mut slot, other);
            same(&slot, other, other, later_at);
            set_expires_at(&mut slot, NEVER);
            same(&slot, other, NEVER, later_at);
            prop_assert!(!is_of(&slot, &key[1..]));
        }
    }
}
