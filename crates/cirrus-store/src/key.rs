//! Names of objects, and the slot that each name falls into.
//!
//! Owns [`Key`], [`Slot`] and [`Version`]. Knows nothing of nodes or of the wire.
//! Invariant: a `Key` holds 1 to 1024 bytes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use crate::error::{Error, Kind, Result};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// How many slots the key space is cut into, as in Redis Cluster.
pub const SLOTS: u16 = 16_384;

/// Keys of up to so many bytes lie in the [`Key`] itself, which is as large as a `Bytes` then.
const SHORT_BYTES_MAX: usize = 23;

/// The name of an object: 1 to [`KEY_BYTES_MAX`] bytes, any values. Cloning shares the bytes, or
/// copies a few.
#[derive(Clone)]
pub struct Key(Repr);

#[derive(Clone)]
enum Repr {
    Short { len: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Shared(Bytes),
}

const _: () = assert!(size_of::<Key>() == size_of::<Bytes>());

impl Key {
    /// A key of these bytes, or [`Kind::Invalid`] when there are none or more than 1024.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        if bytes.is_empty() || bytes.len() > KEY_BYTES_MAX {
            return Err(Error::new(
                Kind::Invalid,
                format!("a key of {} bytes; a key has 1 to {KEY_BYTES_MAX}", bytes.len()),
            ));
        }
        Ok(Self(Repr::short(&bytes).unwrap_or(Repr::Shared(bytes))))
    }

    /// The same of a copy of the bytes: no allocation for a few.
    pub(crate) fn copied(bytes: &[u8]) -> Result<Self> {
        match Repr::short(bytes) {
            Some(short) if !bytes.is_empty() => Ok(Self(short)),
            _ => Self::new(Bytes::copy_from_slice(bytes)),
        }
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Shared(bytes) => bytes,
        }
    }

    /// The key's bytes, shared where they are more than a few.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Repr::Short { .. } => Bytes::copy_from_slice(self.as_bytes()),
            Repr::Shared(bytes) => bytes.clone(),
        }
    }

    /// The same key in a buffer of its own, so that keeping it keeps no larger buffer alive.
    pub(crate) fn detached(&self) -> Self {
        Self(Repr::copied(self.as_bytes()))
    }

    /// The slot that the key falls into.
    pub fn slot(&self) -> Slot {
        Slot::of(self.as_bytes())
    }
}

impl Repr {
    fn short(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; SHORT_BYTES_MAX];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Self::Short { len: u8::try_from(from.len()).ok()?, bytes })
    }

    fn copied(from: &[u8]) -> Self {
        Self::short(from).unwrap_or_else(|| Self::Shared(Bytes::copy_from_slice(from)))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

/// As its bytes have it, which [`Borrow`] asks for.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

/// A key that is borrowed, with its slot: what looking up takes, without an allocation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyRef<'a> {
    bytes: &'a [u8],
    slot: Slot,
}

impl<'a> KeyRef<'a> {
    /// `None` for no bytes, or more than [`KEY_BYTES_MAX`].
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        let is_key = !bytes.is_empty() && bytes.len() <= KEY_BYTES_MAX;
        is_key.then(|| Self { bytes, slot: Slot::of(bytes) })
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    /// The same key in a buffer of its own.
    pub(crate) fn to_key(self) -> Key {
        Key(Repr::copied(self.bytes))
    }
}

impl<'a> From<&'a Key> for KeyRef<'a> {
    fn from(key: &'a Key) -> Self {
        Self { bytes: key.as_bytes(), slot: key.slot() }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl TryFrom<&str> for Key {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        Self::copied(text.as_bytes())
    }
}

impl TryFrom<String> for Key {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::new(text.into_bytes())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// One of the [`SLOTS`] parts of the key space: CRC16 (XMODEM) of the key, or of the part between
/// its first `{` and the next `}` where that is not empty, modulo 16384
/// (Redis Cluster specification, "Keys distribution model").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, or `None` from 16384 on.
    pub const fn new(number: u16) -> Option<Self> {
        if number < SLOTS { Some(Self(number)) } else { None }
    }

    /// The slot of a key's bytes.
    pub fn of(key: &[u8]) -> Self {
        Self(crc16(tag(key)) % SLOTS)
    }

    /// The slot's number, below [`SLOTS`].
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// What a put gives to an object: it only grows for a key, over deletes and failovers too.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

fn tag(key: &[u8]) -> &[u8] {
    // Nearly no key has one: without an early end the search takes many bytes at a time.
    if !key.iter().fold(false, |found, byte| found | (*byte == b'{')) {
        return key;
    }
    let Some(open) = key.iter().position(|b| *b == b'{') else { return key };
    let rest = &key[open + 1..];
    match rest.iter().position(|b| *b == b'}') {
        None | Some(0) => key,
        Some(close) => &rest[..close],
    }
}

/// Bytes that the checksum takes at once.
const CRC16_STEP: usize = 8;

/// The checksum of a byte with 0 to 7 zero bytes behind it ("slicing by 8", Kounavis and Berry).
const CRC16: [[u16; 256]; CRC16_STEP] = {
    let mut tables = [[0u16; 256]; CRC16_STEP];
    let mut zeros = 0;
    while zeros < CRC16_STEP {
        let mut byte = 0;
        while byte < 256 {
            #[expect(clippy::cast_possible_truncation, reason = "below 256")]
            let mut crc = (byte as u16) << 8;
            let mut bit = 0;
            while bit < 8 * (zeros + 1) {
                crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
                bit += 1;
            }
            tables[zeros][byte] = crc;
            byte += 1;
        }
        zeros += 1;
    }
    tables
};

fn crc16(bytes: &[u8]) -> u16 {
    let mut steps = bytes.chunks_exact(CRC16_STEP);
    let crc = steps.by_ref().fold(0u16, |crc, step| {
        let [high, low] = crc.to_be_bytes();
        let head = CRC16[7][usize::from(step[0] ^ high)] ^ CRC16[6][usize::from(step[1] ^ low)];
        step[2..]
            .iter()
            .zip(CRC16[..6].iter().rev())
            .fold(head, |crc, (byte, table)| crc ^ table[usize::from(*byte)])
    });
    steps.remainder().iter().fold(crc, |crc, byte| {
        let [high, low] = crc.to_be_bytes();
        u16::from_be_bytes([low, 0]) ^ CRC16[0][usize::from(high ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        // By one byte at a time, as the specification has it.
        let slow = |bytes: &[u8]| {
            bytes.iter().fold(0u16, |crc, byte| {
                (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
                    if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
                })
            })
        };
        let bytes: Vec<u8> = (0..64u8).map(|at| at.wrapping_mul(37) ^ 0xA5).collect();
        for len in 0..bytes.len() {
            assert_eq!(crc16(&bytes[..len]), slow(&bytes[..len]), "{len} bytes");
        }
        assert_eq!(Slot::of(b"foo").number(), 12_182);
        assert_eq!(Slot::of(b"{user1000}.following"), Slot::of(b"user1000"));
        assert_eq!(Slot::of(b"foo{}{bar}").number(), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(Slot::of(b"foo{{bar}}zap"), Slot::of(b"{bar"));
        assert_eq!(Slot::of(b"foo{bar}{zap}"), Slot::of(b"bar"));
    }

    #[test]
    fn a_key_has_1_to_1024_bytes() {
        assert_eq!(Key::new("").unwrap_err().kind(), Kind::Invalid);
        assert!(Key::new(vec![0; 1024]).is_ok());
        assert_eq!(Key::new(vec![0; 1025]).unwrap_err().kind(), Kind::Invalid);
        assert!(KeyRef::new(&[]).is_none() && KeyRef::new(&[0; 1025]).is_none());
        assert_eq!(KeyRef::new(b"foo").unwrap().slot().number(), 12_182);
    }
}
