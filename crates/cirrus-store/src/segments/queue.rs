//! Queues: a head that says which items there are, and a row for each item.
//!
//! Owns the head's bytes. Knows nothing of how rows are kept. Invariant: head and items change in
//! one write, so a queue's items are exactly those that its head names.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Error, Kind, Result};
use crate::segments::record::eight;

/// Which items a queue has: numbers from `first` up to `end`, which is the next one's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueHead {
    /// The number of the first item.
    pub first: u64,
    /// One more than that of the last.
    pub end: u64,
    /// Bytes of all items.
    pub bytes: u64,
}

impl QueueHead {
    /// Bytes of a head's record.
    pub const BYTES: usize = 24;

    /// The value of a head's record.
    pub fn encode(&self) -> Bytes {
        let mut value = BytesMut::with_capacity(Self::BYTES);
        value.put_u64_le(self.first);
        value.put_u64_le(self.end);
        value.put_u64_le(self.bytes);
        value.freeze()
    }

    /// [`Kind::Corrupt`] when these are not a head's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let malformed = || Error::new(Kind::Corrupt, "a queue's head is malformed");
        if bytes.len() != Self::BYTES {
            return Err(malformed());
        }
        let at = |at| u64::from_le_bytes(eight(bytes, at));
        let head = Self { first: at(0), end: at(8), bytes: at(16) };
        if head.first <= head.end { Ok(head) } else { Err(malformed()) }
    }

    /// How many items there are.
    pub fn len(&self) -> u64 {
        self.end - self.first
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first == self.end
    }
}
