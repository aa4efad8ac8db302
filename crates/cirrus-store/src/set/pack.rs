//! How many small records lie in one object.
//!
//! Owns the packed layout; knows nothing of sets or keys. Little-endian: magic `CPK1`, count u32,
//! then for each record the u32 at which it ends in the data, then the data.
//! Invariant: the ends of a [`Packed`] never decrease, and the last is the length of the data.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Error, Kind, Result};

const MAGIC: [u8; 4] = *b"CPK1";
const HEADER_BYTES: usize = 8;
const END_BYTES: usize = 4;

/// Packs `records` into one value. Copies each record once.
///
/// [`Kind::TooLarge`] from 4 GiB of data or 2³² records on.
pub fn pack<R: AsRef<[u8]>>(records: &[R]) -> Result<Bytes> {
    let data_bytes: usize = records.iter().map(|record| record.as_ref().len()).sum();
    let (Ok(count), Ok(_)) = (u32::try_from(records.len()), u32::try_from(data_bytes)) else {
        return Err(Error::new(
            Kind::TooLarge,
            format!(
                "{} records of {data_bytes} bytes together; an object packs under 2^32 of each",
                records.len()
            ),
        )
        .with_detail(u64::from(u32::MAX)));
    };
    let mut value = BytesMut::with_capacity(HEADER_BYTES + records.len() * END_BYTES + data_bytes);
    value.put_slice(&MAGIC);
    value.put_u32_le(count);
    let mut end: u32 = 0;
    for record in records {
        let record_bytes = u32::try_from(record.as_ref().len()).expect("a part of the sum above");
        end += record_bytes;
        value.put_u32_le(end);
    }
    for record in records {
        value.put_slice(record.as_ref());
    }
    Ok(value.freeze())
}

/// Reads a value that [`pack`] made; [`Kind::Corrupt`] for any other bytes. Copies nothing.
pub fn unpack(value: Bytes) -> Result<Packed> {
    let wrong = |what: &str| {
        Error::new(Kind::Corrupt, format!("packed records of {} bytes {what}", value.len()))
    };
    let Some((&header, body)) = value.split_first_chunk::<HEADER_BYTES>() else {
        return Err(wrong("are shorter than their header"));
    };
    let [m0, m1, m2, m3, count @ ..] = header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(wrong("do not start with `CPK1`"));
    }
    let count = u32::from_le_bytes(count) as usize;
    // The count is held against the bytes that are there, so a wrong one allocates nothing.
    let (ends, rest) = body.as_chunks::<END_BYTES>();
    if count > ends.len() {
        return Err(wrong("are shorter than their index"));
    }
    let data_bytes = (ends.len() - count) * END_BYTES + rest.len();
    let mut last = 0;
    for end in &ends[..count] {
        let end = u32::from_le_bytes(*end) as usize;
        if end < last {
            return Err(wrong("have an index that goes backwards"));
        }
        last = end;
    }
    if last != data_bytes {
        return Err(wrong("do not end where their index says"));
    }
    Ok(Packed { value, count })
}

/// Many records in one value. A record shares the value's bytes, and keeps all of them alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    value: Bytes,
    count: usize,
}

impl Packed {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Record `slot`; `None` from [`Packed::len`] on. Constant time, no copy.
    pub fn record(&self, slot: usize) -> Option<Bytes> {
        if slot >= self.count {
            return None;
        }
        let start = slot.checked_sub(1).map_or(0, |before| self.end(before));
        let data = HEADER_BYTES + self.count * END_BYTES;
        Some(self.value.slice(data + start..data + self.end(slot)))
    }

    /// All records in order.
    pub fn records(&self) -> impl Iterator<Item = Bytes> {
        (0..self.count).filter_map(|slot| self.record(slot))
    }

    fn end(&self, slot: usize) -> usize {
        let at = HEADER_BYTES + slot * END_BYTES;
        let bytes = &self.value[at..at + END_BYTES];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn packed_records_keep_their_bytes() {
        let golden = b"CPK1\x03\0\0\0\x02\0\0\0\x02\0\0\0\x05\0\0\0abcde";
        assert_eq!(&pack(&["ab", "", "cde"]).unwrap()[..], golden);
        assert_eq!(&pack::<&str>(&[]).unwrap()[..], b"CPK1\0\0\0\0");
    }

    #[test]
    fn a_count_beyond_the_bytes_is_corrupt() {
        for bytes in [
            &b"CPK1\xff\xff\xff\xff"[..],
            b"CPK1\x01\0\0\0\x05\0\0\0abcd",
            b"CPK1\x01\0\0\0\x03\0\0\0abcd",
            b"CPK1\x02\0\0\0\x03\0\0\0\x02\0\0\0ab",
            b"CPK2\0\0\0\0",
            b"CPK1\0\0\0",
        ] {
            let error = unpack(Bytes::copy_from_slice(bytes)).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn records_come_back(records in vec(vec(any::<u8>(), 0..40), 0..40)) {
            let packed = unpack(pack(&records).unwrap()).unwrap();
            prop_assert_eq!(packed.len(), records.len());
            let back: Vec<Vec<u8>> = packed.records().map(|record| record.to_vec()).collect();
            prop_assert_eq!(back, records);
            prop_assert_eq!(packed.record(packed.len()), None);
        }

        #[test]
        fn arbitrary_bytes_are_read_or_refused_but_never_panic(
            mut bytes in vec(any::<u8>(), 0..200), count in 0u32..50, disguised: bool,
        ) {
            if disguised && bytes.len() >= HEADER_BYTES {
                bytes[..4].copy_from_slice(&MAGIC);
                bytes[4..8].copy_from_slice(&count.to_le_bytes());
            }
            if let Ok(packed) = unpack(Bytes::from(bytes.clone())) {
                let records: Vec<Bytes> = packed.records().collect();
                prop_assert_eq!(&pack(&records).unwrap()[..], &bytes[..]);
            }
        }

        #[test]
        fn one_changed_byte_never_panics(
            records in vec(vec(any::<u8>(), 0..8), 1..10), at: prop::sample::Index, flip in 1u8..,
        ) {
            let mut bytes = pack(&records).unwrap().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(packed) = unpack(bytes.into()) {
                prop_assert_eq!(packed.records().count(), packed.len());
            }
        }
    }
}
