//! What stands on the disk for a segment in the bucket.
//!
//! Owns the stub's file and its format (docs/storage.md draws it). Knows nothing of the bucket.
//! Invariant: a segment is cold if and only if its stub is on the disk, under its name.

use std::io::{self, IoSlice};

use bytes::{BufMut, BytesMut};

use crate::checksum::crc32c;
use crate::error::{Error, Result};
use crate::segments::damaged;
use crate::segments::disk::Disk;
use crate::segments::entry::Place;
use crate::segments::log::{UNFINISHED, segment_id, segment_name};
use crate::segments::record::{SEGMENT_HEADER_BYTES, SegmentHeader, eight, four};

const COLD: &str = ".cold";
/// The bytes of the segment, and the length of the bucket's name.
const BODY_BYTES: usize = 8 + 2;
/// The longest stub that is read.
const STUB_BYTES_MAX: u64 = (SEGMENT_HEADER_BYTES + BODY_BYTES + u16::MAX as usize + 4) as u64;

/// The name of a stub's file.
pub(super) fn stub_name(id: u32) -> String {
    format!("{}{COLD}", segment_name(id))
}

/// The segment whose stub has this name.
pub(super) fn stub_id(name: &str) -> Option<u32> {
    segment_id(name.strip_suffix(COLD)?)
}

/// What is kept on the disk of a segment in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stub {
    pub(super) header: SegmentHeader,
    pub(super) bytes: u64,
    /// The name of the bucket, for people.
    pub(super) bucket: String,
}

impl Stub {
    fn encode(&self) -> BytesMut {
        let name = self.bucket.as_bytes();
        let len = name.len().min(usize::from(u16::MAX));
        let mut out = BytesMut::with_capacity(SEGMENT_HEADER_BYTES + BODY_BYTES + len + 4);
        out.put_slice(&self.header.encode());
        out.put_u64_le(self.bytes);
        out.put_u16_le(u16::try_from(len).unwrap_or(u16::MAX));
        out.put_slice(&name[..len]);
        let sum = crc32c([&out[SEGMENT_HEADER_BYTES..]]);
        out.put_u32_le(sum);
        out
    }

    fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        let Some((header, rest)) = bytes.split_first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(format!("{} bytes are no stub of a cold segment", bytes.len()));
        };
        let header = SegmentHeader::decode(header).map_err(|flaw| flaw.0)?;
        let Some((body, sum)) =
            rest.split_last_chunk::<4>().filter(|(body, _)| body.len() >= BODY_BYTES)
        else {
            return Err(format!("{} bytes are no stub of a cold segment", bytes.len()));
        };
        if crc32c([body]) != u32::from_le_bytes(four(sum, 0)) {
            return Err("the stub of a cold segment does not match its crc32c".to_owned());
        }
        let bucket = String::from_utf8_lossy(&body[BODY_BYTES..]).into_owned();
        Ok(Self { header, bytes: u64::from_le_bytes(eight(body, 0)), bucket })
    }

    /// Puts it on the disk, so that the segment is cold from then on. Whether an error may have
    /// left it there.
    pub(super) fn write(&self, disk: &dyn Disk) -> std::result::Result<(), (bool, io::Error)> {
        let name = stub_name(self.header.id);
        let unfinished = format!("{name}{UNFINISHED}");
        let written = disk.create(&unfinished).and_then(|file| {
            file.write_all_at(&mut [IoSlice::new(&self.encode())], 0)?;
            file.sync_data()
        });
        written.map_err(|error| (false, error))?;
        let named = disk.rename(&unfinished, &name).and_then(|()| disk.sync_dir());
        named.map_err(|error| (true, error))
    }

    pub(super) fn read(disk: &dyn Disk, id: u32) -> Result<Self> {
        let name = stub_name(id);
        let cannot = |error| Error::io(format!("cannot read {name}"), error);
        let flaw = |why: &str| damaged(Place { segment: id, offset: 0 }, &format!("{name}: {why}"));
        let file = disk.open(&name).map_err(cannot)?;
        let len = file.len().map_err(cannot)?;
        if len > STUB_BYTES_MAX {
            return Err(flaw(&format!("a stub of {len} bytes")));
        }
        let mut bytes = BytesMut::zeroed(usize::try_from(len).unwrap_or(0));
        file.read_exact_at(&mut bytes, 0).map_err(cannot)?;
        let stub = Self::decode(&bytes).map_err(|why| flaw(&why))?;
        match stub.header.id == id {
            true => Ok(stub),
            false => Err(flaw(&format!("it says that it is segment {}", stub.header.id))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_comes_back_from_its_bytes_and_no_other_bytes_are_one() {
        let header = SegmentHeader { id: 7, store: 9 };
        let stub = Stub { header, bytes: 1 << 40, bucket: "s3://bucket/folder".to_owned() };
        let bytes = stub.encode();
        assert_eq!(Stub::decode(&bytes), Ok(stub));
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(Stub::decode(&other).is_err(), "byte {at}");
            assert!(Stub::decode(&bytes[..at]).is_err(), "{at} bytes");
        }
        assert_eq!(stub_id("segment-0000000007.cold"), Some(7));
        assert_eq!(stub_id("segment-0000000007"), None);
        assert_eq!(segment_id("segment-0000000007.cold"), None);
    }
}
