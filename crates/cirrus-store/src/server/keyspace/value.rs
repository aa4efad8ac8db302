//! What an object holds: a value or a queue, small or large.
//!
//! Owns the forms in which values come ([`Value`]), lie ([`Stored`]) and leave ([`Item`]). Knows
//! neither keys nor locks. Invariant: whoever holds a [`Large`] or a [`Filling`] holds bytes that
//! the node's memory was charged for.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::checksum::{BLOCK_BYTES, Sums};
use crate::segments::QueueHead;
use crate::server::arena::Extent;
use crate::server::memory::Reservation;
use crate::transport::COPIED_BYTES_MAX;

/// The longest value that is copied into an object's own record; longer ones are [`Large`].
pub(in crate::server) const SMALL_BYTES_MAX: usize = COPIED_BYTES_MAX;

/// A value on its way into an object.
#[derive(Debug)]
pub(in crate::server) enum Value<'a> {
    /// At most [`SMALL_BYTES_MAX`] bytes, which are copied; and their crc32c.
    Small { bytes: &'a [u8], crc: u32 },
    /// Shared, never copied.
    Large(Large),
}

impl<'a> Value<'a> {
    /// A value of at most [`SMALL_BYTES_MAX`] bytes, summed here.
    pub(in crate::server) fn small(bytes: &'a [u8]) -> Self {
        Self::Small { bytes, crc: Sums::of(0, bytes).first() }
    }

    pub(in crate::server) fn len(&self) -> usize {
        match self {
            Self::Small { bytes, .. } => bytes.len(),
            Self::Large(large) => large.bytes.len(),
        }
    }

    /// What it costs as an item of a queue, beside the pages of a large one.
    pub(super) fn queued_cost(&self) -> u64 {
        match self {
            Self::Small { bytes, .. } => ITEM_OVERHEAD_BYTES + bytes.len() as u64,
            Self::Large(_) => ITEM_OVERHEAD_BYTES,
        }
    }
}

/// A value as it lies in an object.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) enum Stored<'a> {
    /// In the object's record: it may move when the lock is released.
    Small { bytes: &'a [u8], crc: u32 },
    /// In memory of its own: a clone of it stays.
    Large(&'a Large),
}

impl<'a> Stored<'a> {
    pub(in crate::server) fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Small { bytes, .. } => bytes,
            Self::Large(large) => &large.bytes,
        }
    }

    pub(in crate::server) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// The bytes to keep: a small value is copied, a large one shared.
    pub(in crate::server) fn to_bytes(self) -> Bytes {
        match self {
            Self::Small { bytes, .. } => Bytes::copy_from_slice(bytes),
            Self::Large(large) => large.bytes.clone(),
        }
    }

    pub(in crate::server) fn to_sums(self) -> Sums {
        match self {
            Self::Small { bytes, crc } => Sums::single(crc, bytes.len()),
            Self::Large(large) => large.sums.clone(),
        }
    }
}

/// A value of more than [`SMALL_BYTES_MAX`] bytes, paid for. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::server) struct Large {
    bytes: Bytes,
    sums: Sums,
}

impl Large {
    pub(in crate::server) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(in crate::server) fn sums(&self) -> &Sums {
        &self.sums
    }
}

/// A large value on its way in: paid for, and filled by whoever receives it.
#[derive(Debug)]
pub(in crate::server) struct Filling {
    extent: Extent,
    /// Pays for what a large value costs beside its pages.
    overhead: Reservation,
    /// Its share of what may be under way at once.
    _turn: Reservation,
}

impl Filling {
    /// What a large value of `len` bytes costs beside its pages: its table of checksums, its
    /// handle, and its entry in the shard.
    pub(super) fn overhead(len: usize) -> u64 {
        (len.div_ceil(BLOCK_BYTES) * 4 + size_of::<Paid>() + 4 * size_of::<Large>()) as u64
    }

    pub(super) fn new(extent: Extent, overhead: Reservation, turn: Reservation) -> Self {
        Self { extent, overhead, _turn: turn }
    }

    /// All of its bytes, to be written.
    pub(in crate::server) fn bytes_mut(&mut self) -> &mut [u8] {
        self.extent.as_mut()
    }

    /// The value, whose checksums came with it. They are the caller's to check.
    pub(in crate::server) fn finish(self, sums: Sums) -> Large {
        let paid = Paid { extent: self.extent, _overhead: self.overhead };
        Large { bytes: Bytes::from_owner(paid), sums }
    }

    /// The value, summed here.
    pub(in crate::server) fn finish_summed(self) -> Large {
        let sums = Sums::of(0, self.extent.as_ref());
        self.finish(sums)
    }
}

impl AsMut<[u8]> for Filling {
    fn as_mut(&mut self) -> &mut [u8] {
        self.bytes_mut()
    }
}

#[derive(Debug)]
struct Paid {
    extent: Extent,
    _overhead: Reservation,
}

impl AsRef<[u8]> for Paid {
    fn as_ref(&self) -> &[u8] {
        self.extent.as_ref()
    }
}

/// Which end of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum End {
    Front,
    Back,
}

/// One item of a queue, that left it or lies in it.
#[derive(Debug)]
pub(in crate::server) enum Item {
    Small { bytes: Box<[u8]>, crc: u32 },
    Large(Large),
}

impl Item {
    pub(super) fn of(value: Value<'_>) -> Self {
        match value {
            Value::Small { bytes, crc } => Self::Small { bytes: bytes.into(), crc },
            Value::Large(large) => Self::Large(large),
        }
    }

    /// As [`Value::queued_cost`].
    pub(super) fn queued_cost(&self) -> u64 {
        match self {
            Self::Small { bytes, .. } => ITEM_OVERHEAD_BYTES + bytes.len() as u64,
            Self::Large(_) => ITEM_OVERHEAD_BYTES,
        }
    }

    pub(in crate::server) fn stored(&self) -> Stored<'_> {
        match self {
            Self::Small { bytes, crc } => Stored::Small { bytes, crc: *crc },
            Self::Large(large) => Stored::Large(large),
        }
    }

    pub(in crate::server) fn into_parts(self) -> (Bytes, Sums) {
        match self {
            Self::Small { bytes, crc } => {
                let sums = Sums::single(crc, bytes.len());
                (Bytes::from(bytes), sums)
            }
            Self::Large(large) => (large.bytes, large.sums),
        }
    }
}

/// What an item of a queue costs beyond its bytes: its entry at a ring's mean load, and the
/// allocator's bookkeeping.
pub(super) const ITEM_OVERHEAD_BYTES: u64 = 2 * size_of::<Item>() as u64 + 16;

/// The items of a queue, first to last.
#[derive(Debug)]
pub(in crate::server) struct Queue {
    items: VecDeque<Item>,
    bytes: u64,
    /// The number of the first item; a disk has its items by number.
    first: u64,
}

impl Default for Queue {
    fn default() -> Self {
        // In the middle, as items come at both ends.
        Self { items: VecDeque::new(), bytes: 0, first: 1 << 62 }
    }
}

impl Queue {
    /// What an empty one costs.
    pub(super) const COST: u64 = 4 * size_of::<Self>() as u64;

    /// The queue that has this head on the disk.
    pub(super) fn with(items: Vec<Item>, head: QueueHead) -> Self {
        Self { items: items.into(), bytes: head.bytes, first: head.first }
    }

    /// What is kept of it on a disk beside its items.
    pub(super) fn head(&self) -> QueueHead {
        QueueHead {
            first: self.first,
            end: self.first + self.items.len() as u64,
            bytes: self.bytes,
        }
    }

    /// How many items there are.
    pub(in crate::server) fn len(&self) -> usize {
        self.items.len()
    }

    /// Bytes of all items.
    pub(in crate::server) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(in crate::server) fn get(&self, index: usize) -> Option<Stored<'_>> {
        self.items.get(index).map(Item::stored)
    }

    pub(super) fn push(&mut self, end: End, item: Item) {
        self.bytes += item.stored().len() as u64;
        match end {
            End::Front => {
                self.first -= 1;
                self.items.push_front(item);
            }
            End::Back => self.items.push_back(item),
        }
    }

    pub(super) fn pop(&mut self, end: End) -> Option<Item> {
        let item = match end {
            End::Front => self.items.pop_front(),
            End::Back => self.items.pop_back(),
        }?;
        self.first += u64::from(end == End::Front);
        self.bytes -= item.stored().len() as u64;
        Some(item)
    }
}
