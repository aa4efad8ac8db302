//! What a set is: a name, dense indexes, and a manifest that defines it.
//!
//! Owns the computed keys and [`Manifest`]'s bytes. Knows nothing of how objects are fetched.
//! Invariant: a key and an index determine each other, so that nobody ever scans for a record.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Kind, Result};
use crate::key::Key;

mod pack;

pub use pack::{Packed, pack, unpack};

/// The longest name of a set, in bytes.
pub const SET_NAME_BYTES_MAX: usize = 64;

/// Digits of an object's index in its key; larger indexes have more.
const INDEX_DIGITS: usize = 12;

/// Digits of the largest index.
const INDEX_DIGITS_MAX: usize = 20;

/// The name of a set: 1 to [`SET_NAME_BYTES_MAX`] of `a`-`z`, `0`-`9`, `_` and `-`.
///
/// Object `index` has the key `name/000000000042`; the manifest has `name/manifest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName(Arc<str>);

impl SetName {
    /// The name in `text`, or [`Kind::Invalid`].
    pub fn new(text: &str) -> Result<Self> {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        if text.is_empty() || text.len() > SET_NAME_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "`{}` is no name of a set; expected 1 to {SET_NAME_BYTES_MAX} of a-z, 0-9, _ and -",
                    text.escape_debug()
                ),
            ));
        }
        Ok(Self(text.into()))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of object `index`. No allocation while it fits into the [`Key`] itself, else one.
    pub fn object_key(&self, index: u64) -> Key {
        let mut text = [0; SET_NAME_BYTES_MAX + 1 + INDEX_DIGITS_MAX];
        let digits = index.checked_ilog10().map_or(1, |log| log as usize + 1).max(INDEX_DIGITS);
        let (name, len) = (self.0.len(), self.0.len() + 1 + digits);
        text[..name].copy_from_slice(self.0.as_bytes());
        text[name] = b'/';
        let mut rest = index;
        for digit in text[name + 1..len].iter_mut().rev() {
            *digit = b"0123456789"[(rest % 10) as usize];
            rest /= 10;
        }
        Key::copied(&text[..len]).expect("64 bytes of name and 21 of index are under 1024")
    }

    /// The index of the object with this key; `None` when it is no object of this set.
    pub fn index_of(&self, key: &Key) -> Option<u64> {
        let digits = key.as_bytes().strip_prefix(self.0.as_bytes())?.strip_prefix(b"/")?;
        let canonical = digits.len() == INDEX_DIGITS
            || (digits.len() > INDEX_DIGITS && digits.first() != Some(&b'0'));
        if !canonical {
            return None;
        }
        digits.iter().try_fold(0u64, |index, digit| {
            let digit = char::from(*digit).to_digit(10)?;
            index.checked_mul(10)?.checked_add(digit.into())
        })
    }

    /// The key of the set's [`Manifest`].
    pub fn manifest_key(&self) -> Key {
        Key::new(format!("{}/manifest", self.0).into_bytes())
            .expect("64 bytes of name and 9 more are under 1024")
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<&str> for SetName {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

/// The longest that a manifest's bytes are; all of version 1 are this long.
const MANIFEST_BYTES: usize = 24;
const MANIFEST_MAGIC: [u8; 4] = *b"CSET";
const MANIFEST_VERSION: u16 = 1;
const FLAG_SEALED: u16 = 1;

/// What defines a set: how many records it has and how they lie in objects.
///
/// Bytes, little-endian: magic `CSET`, version u16 = 1, flags u16 (bit 0: sealed), packing u32,
/// reserved u32 = 0, count u64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manifest {
    count: u64,
    packing: u32,
    sealed: bool,
}

impl Manifest {
    /// A set of no records yet, one record to an object.
    pub fn empty() -> Self {
        Self { count: 0, packing: 1, sealed: false }
    }

    /// The same with `count` records.
    #[must_use]
    pub fn with_count(self, count: u64) -> Self {
        Self { count, ..self }
    }

    /// The same with `packing` records to an object, or [`Kind::Invalid`] for 0.
    ///
    /// With 1, an object's value is its record; with more, the records lie as [`pack`] packs them.
    pub fn with_packing(self, packing: u32) -> Result<Self> {
        if packing == 0 {
            return Err(Error::new(
                Kind::Invalid,
                "a packing of 0; an object has 1 record or more",
            ));
        }
        Ok(Self { packing, ..self })
    }

    /// The same, never to grow again.
    #[must_use]
    pub fn sealed(self) -> Self {
        Self { sealed: true, ..self }
    }

    /// How many records the set has.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Records to an object; the last object may have fewer.
    pub fn packing(&self) -> u32 {
        self.packing
    }

    /// Whether the set will never grow again.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// How many objects hold the records.
    pub fn objects(&self) -> u64 {
        self.count.div_ceil(u64::from(self.packing))
    }

    /// Where `record` lies; `None` from [`Manifest::count`] on.
    pub fn locate(&self, record: u64) -> Option<Location> {
        let packing = u64::from(self.packing);
        let slot = u32::try_from(record % packing).ok()?;
        (record < self.count).then_some(Location { object: record / packing, slot })
    }

    /// The manifest's value.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = [0; MANIFEST_BYTES];
        let flags = if self.sealed { FLAG_SEALED } else { 0 };
        bytes[..4].copy_from_slice(&MANIFEST_MAGIC);
        bytes[4..6].copy_from_slice(&MANIFEST_VERSION.to_le_bytes());
        bytes[6..8].copy_from_slice(&flags.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.packing.to_le_bytes());
        bytes[16..].copy_from_slice(&self.count.to_le_bytes());
        Bytes::copy_from_slice(&bytes)
    }

    /// The manifest in a value; [`Kind::Corrupt`] for anything that [`Manifest::to_bytes`] does
    /// not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(Kind::Corrupt, format!("a set's manifest of {} bytes {what}", bytes.len()))
        };
        let Ok(fixed) = <&[u8; MANIFEST_BYTES]>::try_from(bytes) else {
            return Err(wrong("has the wrong length; expected 24"));
        };
        let [m0, m1, m2, m3, v0, v1, f0, f1, p0, p1, p2, p3, r0, r1, r2, r3, count @ ..] = *fixed;
        if [m0, m1, m2, m3] != MANIFEST_MAGIC {
            return Err(wrong("does not start with `CSET`"));
        }
        if u16::from_le_bytes([v0, v1]) != MANIFEST_VERSION {
            return Err(wrong("has a version that this program does not know; expected 1"));
        }
        let flags = u16::from_le_bytes([f0, f1]);
        if flags & !FLAG_SEALED != 0 || [r0, r1, r2, r3] != [0; 4] {
            return Err(wrong("has bits set that must be 0"));
        }
        let packing = u32::from_le_bytes([p0, p1, p2, p3]);
        if packing == 0 {
            return Err(wrong("packs 0 records to an object"));
        }
        let sealed = flags & FLAG_SEALED != 0;
        Ok(Self { count: u64::from_le_bytes(count), packing, sealed })
    }
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The index of the object.
    pub object: u64,
    /// The record's place among the object's records.
    pub slot: u32,
}

/// A set whose manifest has been read.
#[derive(Debug, Clone)]
pub struct Set {
    name: SetName,
    manifest: Manifest,
}

impl Set {
    /// The set `name` as `manifest` defines it.
    pub fn new(name: SetName, manifest: Manifest) -> Self {
        Self { name, manifest }
    }

    /// The set's name.
    pub fn name(&self) -> &SetName {
        &self.name
    }

    /// What the set has, as of when it was read.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "train-2012_v1", &"x".repeat(64)] {
            assert_eq!(SetName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "Train", "a/b", "a b", "ä", "a\n", &"x".repeat(65)] {
            assert_eq!(SetName::new(bad).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }

    #[test]
    fn keys_have_12_digits_and_more_where_needed() {
        let set = SetName::new("photos").unwrap();
        for (index, key) in [
            (0, "photos/000000000000"),
            (42, "photos/000000000042"),
            (999_999_999_999, "photos/999999999999"),
            (1_000_000_000_000, "photos/1000000000000"),
            (u64::MAX, "photos/18446744073709551615"),
        ] {
            assert_eq!(set.object_key(index), Key::try_from(key).unwrap());
            assert_eq!(set.index_of(&set.object_key(index)), Some(index));
        }
        assert_eq!(set.manifest_key(), Key::try_from("photos/manifest").unwrap());
        for other in [
            "photos",
            "photos/",
            "photos/42",
            "photos/0000000000042",
            "photos/00000000004x",
            "photos/+00000000042",
            "photos/99999999999999999999",
            "photo/000000000042",
            "photos/manifest",
        ] {
            assert_eq!(set.index_of(&Key::try_from(other).unwrap()), None, "{other}");
        }
    }

    #[test]
    fn a_manifest_keeps_its_bytes() {
        let manifest = Manifest::empty().with_count(0x0102).with_packing(3).unwrap().sealed();
        let golden = b"CSET\x01\0\x01\0\x03\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0";
        assert_eq!(&manifest.to_bytes()[..], golden);
        assert_eq!(Manifest::from_bytes(golden).unwrap(), manifest);
    }

    #[test]
    fn records_lie_in_their_objects() {
        let manifest = Manifest::empty().with_count(10).with_packing(4).unwrap();
        assert_eq!(manifest.objects(), 3);
        assert_eq!(manifest.locate(0), Some(Location { object: 0, slot: 0 }));
        assert_eq!(manifest.locate(9), Some(Location { object: 2, slot: 1 }));
        assert_eq!(manifest.locate(10), None);
        assert_eq!(Manifest::empty().objects(), 0);
        assert_eq!(Manifest::empty().with_packing(0).unwrap_err().kind(), Kind::Invalid);
    }

    proptest! {
        #[test]
        fn manifests_round_trip(count: u64, packing in 1u32.., sealed: bool) {
            let open = Manifest::empty().with_count(count).with_packing(packing).unwrap();
            let manifest = if sealed { open.sealed() } else { open };
            prop_assert_eq!(Manifest::from_bytes(&manifest.to_bytes()).unwrap(), manifest);
        }

        #[test]
        fn a_manifest_that_is_read_is_written_back_the_same(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..40), disguised: bool,
        ) {
            if disguised && bytes.len() >= 6 {
                bytes[..6].copy_from_slice(b"CSET\x01\0");
            }
            match Manifest::from_bytes(&bytes) {
                Ok(manifest) => prop_assert_eq!(&manifest.to_bytes()[..], &bytes[..]),
                Err(error) => prop_assert_eq!(error.kind(), Kind::Corrupt),
            }
        }

        #[test]
        fn any_index_comes_back_from_its_key(index: u64) {
            let set = SetName::new("s-1").unwrap();
            prop_assert_eq!(set.index_of(&set.object_key(index)), Some(index));
        }
    }
}
