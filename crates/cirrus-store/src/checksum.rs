//! End-to-end checksums: one crc32c for each 64 KiB block of a value.
//!
//! Owns the block grid and [`Sums`]. The writer makes the sums, the object keeps them, the reader
//! checks them. Invariant: a grid of `len` bytes that starts `phase` bytes into a block has
//! `blocks(phase, len)` sums.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Error, Kind, Result};

/// Bytes under one checksum.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// The crc32c (Castagnoli, RFC 3720 appendix B.4) of `parts`, one after the other.
pub(crate) fn crc32c<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    truncated(digest.finalize())
}

/// A checksum that chains: of `bytes` after whatever `previous` (0 for nothing) is the checksum of.
pub fn checksum_of(previous: u32, bytes: &[u8]) -> u32 {
    crc32c([&previous.to_le_bytes()[..], bytes])
}

/// How many blocks `len` bytes touch when the first lies `phase` bytes into its block.
pub(crate) fn blocks(phase: u16, len: usize) -> usize {
    if len == 0 { 0 } else { (usize::from(phase) + len).div_ceil(BLOCK_BYTES) }
}

/// The checksums of a value's blocks, in order. Cloning shares them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums(Repr);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Repr {
    /// Most values are one block: no allocation for their sum.
    One(u32),
    /// Little-endian u32s, as on the wire.
    Many(Bytes),
}

impl Default for Repr {
    fn default() -> Self {
        Self::Many(Bytes::new())
    }
}

impl Sums {
    /// The sums of `value` on a grid that starts `phase` bytes into a block.
    pub fn of(phase: u16, value: &[u8]) -> Self {
        match blocks(phase, value.len()) {
            0 => Self::default(),
            1 => Self(Repr::One(crc32c([value]))),
            count => {
                let mut table = Vec::with_capacity(count * 4);
                for block in grid(phase, value) {
                    table.extend_from_slice(&crc32c([block]).to_le_bytes());
                }
                Self(Repr::Many(table.into()))
            }
        }
    }

    /// The sums of a value of `len` bytes, at most one block, from its beginning.
    pub(crate) fn single(crc: u32, len: usize) -> Self {
        debug_assert!(len <= BLOCK_BYTES, "{len} bytes are more than a block");
        if len == 0 { Self::default() } else { Self(Repr::One(crc)) }
    }

    /// The sum of the first block; 0 where there is none.
    pub(crate) fn first(&self) -> u32 {
        if self.is_empty() { 0 } else { self.at(0) }
    }

    /// The sums in a table from the wire; its length is the caller's to check.
    pub fn from_table(table: Bytes) -> Self {
        match <[u8; 4]>::try_from(table.as_ref()) {
            Ok(one) => Self(Repr::One(u32::from_le_bytes(one))),
            Err(_) => Self(Repr::Many(table)),
        }
    }

    /// The sums in a table that is about to go away.
    pub(crate) fn copied(table: &[u8]) -> Self {
        match <[u8; 4]>::try_from(table) {
            Ok(one) => Self(Repr::One(u32::from_le_bytes(one))),
            Err(_) => Self(Repr::Many(Bytes::copy_from_slice(table))),
        }
    }

    /// Appends the table as it goes on the wire.
    pub(crate) fn put_table(&self, buffer: &mut BytesMut) {
        match &self.0 {
            Repr::One(sum) => buffer.put_u32_le(*sum),
            Repr::Many(table) => buffer.put_slice(table),
        }
    }

    /// How many blocks there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::One(_) => 1,
            Repr::Many(table) => table.len() / 4,
        }
    }

    /// Whether there is no block: the value is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sum of block `index`, which is below [`Sums::len`].
    pub fn at(&self, index: usize) -> u32 {
        match &self.0 {
            Repr::One(sum) => *sum,
            Repr::Many(table) => {
                let at = index * 4;
                u32::from_le_bytes([table[at], table[at + 1], table[at + 2], table[at + 3]])
            }
        }
    }

    /// The table as it goes on the wire: little-endian, 4 bytes a block.
    pub fn to_table(&self) -> Bytes {
        match &self.0 {
            Repr::One(sum) => Bytes::copy_from_slice(&sum.to_le_bytes()),
            Repr::Many(table) => table.clone(),
        }
    }

    /// Checks `value` block by block; [`Kind::Corrupt`] names the first block that differs.
    pub fn check(&self, phase: u16, value: &[u8]) -> Result<()> {
        if self.len() != blocks(phase, value.len()) {
            return Err(Error::new(
                Kind::Corrupt,
                format!("{} checksums for a value of {} bytes", self.len(), value.len()),
            ));
        }
        for (index, block) in grid(phase, value).enumerate() {
            let (expected, actual) = (self.at(index), crc32c([block]));
            if expected != actual {
                return Err(Error::new(
                    Kind::Corrupt,
                    format!(
                        "block {index} of a value of {} bytes has crc32c {actual:08x}, \
                         expected {expected:08x}",
                        value.len()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The sums of `value[offset..offset + len]` given those of the whole: blocks inside keep the
    /// writer's sums; the two edges are checked against theirs and summed anew.
    pub fn slice(&self, value: &[u8], offset: usize, len: usize) -> Result<Self> {
        if len == 0 {
            return Ok(Self::default());
        }
        let (first, last) = (offset / BLOCK_BYTES, (offset + len - 1) / BLOCK_BYTES);
        let mut table = Vec::with_capacity((last - first + 1) * 4);
        for index in first..=last {
            let start = index * BLOCK_BYTES;
            let end = value.len().min(start + BLOCK_BYTES);
            let (from, to) = (start.max(offset), end.min(offset + len));
            let sum = if (from, to) == (start, end) {
                self.at(index)
            } else {
                if crc32c([&value[start..end]]) != self.at(index) {
                    return Err(Error::new(Kind::Corrupt, format!("block {index} is damaged")));
                }
                crc32c([&value[from..to]])
            };
            table.extend_from_slice(&sum.to_le_bytes());
        }
        Ok(Self::from_table(table.into()))
    }
}

fn grid(phase: u16, value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let first = value.len().min(BLOCK_BYTES - usize::from(phase));
    let (head, rest) = value.split_at(first);
    std::iter::once(head).filter(|head| !head.is_empty()).chain(rest.chunks(BLOCK_BYTES))
}

#[expect(clippy::cast_possible_truncation, reason = "a 32-bit checksum in a 64-bit return value")]
fn truncated(sum: u64) -> u32 {
    sum as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn crc32c_is_castagnolis() {
        assert_eq!(crc32c([&b"123456789"[..]]), 0xE306_9283);
        assert_eq!(crc32c([&b"1234"[..], b"56789"]), 0xE306_9283);
        assert_eq!(crc32c([&[0u8; 32][..]]), 0x8A91_36AA);
    }

    proptest! {
        #[test]
        fn a_slice_has_the_sums_of_its_bytes(
            len in 0usize..300_000, a in 0usize..300_000, b in 0usize..300_000, seed: u8,
        ) {
            let value: Vec<u8> =
                (0..len).map(|i| i.wrapping_mul(31).to_le_bytes()[0].wrapping_add(seed)).collect();
            let (from, to) = (a.min(b).min(len), a.max(b).min(len));
            let sums = Sums::of(0, &value);
            prop_assert!(sums.check(0, &value).is_ok());
            let sliced = sums.slice(&value, from, to - from).unwrap();
            let phase = u16::try_from(from % BLOCK_BYTES).unwrap();
            prop_assert_eq!(&sliced, &Sums::of(phase, &value[from..to]));
            prop_assert!(sliced.check(phase, &value[from..to]).is_ok());
        }

        #[test]
        fn a_flipped_bit_is_found(len in 1usize..200_000, at: prop::sample::Index, bit in 0u8..8) {
            let mut value = vec![7u8; len];
            let sums = Sums::of(0, &value);
            value[at.index(len)] ^= 1 << bit;
            prop_assert_eq!(sums.check(0, &value).unwrap_err().kind(), Kind::Corrupt);
        }
    }
}
