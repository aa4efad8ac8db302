//! The head of a frame: 32 bytes of header, then body and key.
//!
//! Owns the layout and the checks that come before anything is allocated. A frame is header, body,
//! key, payload, and the payload's table of checksums.
//! Invariant: a [`Head`] that was parsed is within the limits and matched its crc32c.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::checksum::{blocks, crc32c};
use crate::error::{Error, Kind, Result};
use crate::key::KEY_BYTES_MAX;

/// Bytes of a frame's fixed header.
pub const FRAME_HEAD_BYTES: usize = 32;

/// The longest typed body, in bytes: room for later versions to grow into.
pub const BODY_BYTES_MAX: usize = 256;

/// Where the crc32c lies in the header; it covers what is before it, the body and the key.
const CRC_AT: usize = 28;

/// What a peer may announce; checked before its bytes are waited for.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// The largest payload, in bytes.
    pub payload_bytes_max: u32,
}

/// The parsed head of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Which request this is, or (with the top bit) which request it answers.
    pub opcode: u8,
    /// Bits that the opcode defines.
    pub flags: u8,
    /// Bytes of payload, without the table of checksums.
    pub payload_len: u32,
    /// The sender's number for the request; the reply carries the same.
    pub request_id: u64,
    /// The sender's view of the pool.
    pub epoch: u32,
    /// How the request ended; 0 in requests.
    pub status: u16,
    /// Where the payload's first byte lies in its 64 KiB block.
    pub phase: u16,
    /// The typed body.
    pub body: Bytes,
    /// The key, prefix or nothing.
    pub key: Bytes,
}

impl Head {
    /// Takes a head off the front of `buffer`; `None` means that more bytes are needed.
    ///
    /// [`Kind::Protocol`] and [`Kind::Corrupt`] end a connection: where the next frame starts is
    /// not known any more.
    pub fn take(buffer: &mut BytesMut, limits: HeadLimits) -> Result<Option<Self>> {
        let Some(fixed) = FixedHead::peek(buffer, limits)? else { return Ok(None) };
        let FixedHead { opcode, flags, payload_len, request_id, epoch, status, phase, .. } = fixed;
        buffer.advance(FRAME_HEAD_BYTES);
        // Shared with the buffer: who keeps a key copies it.
        let mut body = buffer.split_to(fixed.body_len + fixed.key_len).freeze();
        let key = body.split_off(fixed.body_len);
        Ok(Some(Self { opcode, flags, payload_len, request_id, epoch, status, phase, body, key }))
    }

    /// Bytes of payload.
    pub fn payload_bytes(&self) -> usize {
        self.payload_len as usize
    }

    /// Bytes of the table of checksums behind the payload.
    pub fn table_bytes(&self) -> usize {
        4 * blocks(self.phase, self.payload_bytes())
    }

    /// Bytes that follow the head in the stream: the payload and its table of checksums.
    pub fn tail_bytes(&self) -> usize {
        self.payload_bytes() + self.table_bytes()
    }

    /// Appends the head to `buffer`. Body and key are at most 256 and 1,024 bytes long.
    pub fn put(&self, buffer: &mut BytesMut) {
        let Self { opcode, flags, payload_len, request_id, epoch, status, phase, .. } = *self;
        let fixed = FixedHead {
            opcode,
            flags,
            payload_len,
            request_id,
            epoch,
            status,
            phase,
            ..FixedHead::default()
        };
        fixed.put(&self.body, &self.key, buffer);
    }
}

/// The header alone, checked against the whole head; body and key lie behind it where they came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FixedHead {
    pub(crate) opcode: u8,
    pub(crate) flags: u8,
    pub(crate) key_len: usize,
    pub(crate) payload_len: u32,
    pub(crate) request_id: u64,
    pub(crate) epoch: u32,
    pub(crate) body_len: usize,
    pub(crate) status: u16,
    pub(crate) phase: u16,
}

impl FixedHead {
    /// Reads the head at the front of `buffer` and leaves it there; `None` means that more bytes
    /// are needed. Errors are those of [`Head::take`].
    pub(crate) fn peek(buffer: &[u8], limits: HeadLimits) -> Result<Option<Self>> {
        let Some(fixed) = buffer.first_chunk::<FRAME_HEAD_BYTES>() else { return Ok(None) };
        let mut at = &fixed[..];
        let opcode = at.get_u8();
        let flags = at.get_u8();
        let key_len = usize::from(at.get_u16_le());
        let payload_len = at.get_u32_le();
        let request_id = at.get_u64_le();
        let epoch = at.get_u32_le();
        let body_len = usize::from(at.get_u16_le());
        let status = at.get_u16_le();
        let phase = at.get_u16_le();
        let _reserved = at.get_u16_le();
        let crc = at.get_u32_le();
        if key_len > KEY_BYTES_MAX {
            return Err(over("key", key_len as u64, KEY_BYTES_MAX as u64));
        }
        if body_len > BODY_BYTES_MAX {
            return Err(over("body", body_len as u64, BODY_BYTES_MAX as u64));
        }
        if payload_len > limits.payload_bytes_max {
            let max = u64::from(limits.payload_bytes_max);
            return Err(over("payload", u64::from(payload_len), max));
        }
        let len = FRAME_HEAD_BYTES + body_len + key_len;
        if buffer.len() < len {
            return Ok(None);
        }
        if crc32c([&buffer[..CRC_AT], &buffer[FRAME_HEAD_BYTES..len]]) != crc {
            return Err(Error::new(Kind::Corrupt, "a frame's head does not match its crc32c"));
        }
        Ok(Some(Self {
            opcode,
            flags,
            key_len,
            payload_len,
            request_id,
            epoch,
            body_len,
            status,
            phase,
        }))
    }

    /// Bytes of the head: header, body and key.
    pub(crate) fn len(&self) -> usize {
        FRAME_HEAD_BYTES + self.body_len + self.key_len
    }

    /// Where the body lies, counted from the header's first byte.
    pub(crate) fn body(&self) -> Range<usize> {
        FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + self.body_len
    }

    /// Bytes of payload.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload_len as usize
    }

    /// Bytes that follow the head in the stream: the payload and its table of checksums.
    pub(crate) fn tail_bytes(&self) -> usize {
        self.payload_bytes() + 4 * blocks(self.phase, self.payload_bytes())
    }

    /// Appends header, body and key; the lengths are theirs.
    pub(super) fn put(&self, body: &[u8], key: &[u8], buffer: &mut BytesMut) {
        let start = buffer.len();
        let len_u16 = |len: usize| u16::try_from(len).expect("bodies and keys are short");
        buffer.reserve(FRAME_HEAD_BYTES + body.len() + key.len());
        buffer.put_u8(self.opcode);
        buffer.put_u8(self.flags);
        buffer.put_u16_le(len_u16(key.len()));
        buffer.put_u32_le(self.payload_len);
        buffer.put_u64_le(self.request_id);
        buffer.put_u32_le(self.epoch);
        buffer.put_u16_le(len_u16(body.len()));
        buffer.put_u16_le(self.status);
        buffer.put_u16_le(self.phase);
        buffer.put_u16_le(0);
        let crc = crc32c([&buffer[start..], body, key]);
        buffer.put_u32_le(crc);
        buffer.put_slice(body);
        buffer.put_slice(key);
    }
}

/// The keys of the frames that `buffer` begins with, as far as they are here whole. Nothing is
/// checked: for whoever wants to be prepared.
pub(crate) fn keys_ahead(mut buffer: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let fixed = buffer.first_chunk::<FRAME_HEAD_BYTES>()?;
        let short = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
        let (key_len, body_len, phase) = (short(2).into(), usize::from(short(20)), short(24));
        let payload = u32::from_le_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]) as usize;
        let (key, rest) = buffer.get(FRAME_HEAD_BYTES + body_len..)?.split_at_checked(key_len)?;
        buffer = rest.get(payload + 4 * blocks(phase, payload)..)?;
        Some(key)
    })
}

fn over(what: &str, is: u64, max: u64) -> Error {
    Error::new(Kind::Protocol, format!("a frame's {what} of {is} bytes is over the limit of {max}"))
        .with_detail(max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits { payload_bytes_max: 1 << 20 };

    proptest! {
        #[test]
        fn a_head_round_trips_and_waits_for_all_of_itself(
            opcode: u8, flags: u8, payload_len in 0u32..=1 << 20, request_id: u64, epoch: u32,
            status: u16, phase: u16,
            body in prop::collection::vec(any::<u8>(), 0..200),
            key in prop::collection::vec(any::<u8>(), 0..=1024),
        ) {
            let head = Head {
                opcode, flags, payload_len, request_id, epoch, status, phase,
                body: body.into(), key: key.into(),
            };
            let mut bytes = BytesMut::new();
            head.put(&mut bytes);
            let whole = bytes.clone();
            for cut in [0, 1, 31, 32, whole.len() - 1] {
                if cut < whole.len() {
                    let mut short = BytesMut::from(&whole[..cut]);
                    prop_assert_eq!(Head::take(&mut short, LIMITS).unwrap(), None);
                }
            }
            prop_assert_eq!(Head::take(&mut bytes, LIMITS).unwrap(), Some(head));
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn keys_are_seen_ahead_in_whole_frames_only(
            frames in prop::collection::vec((any::<u16>(), 0u32..70_000, 0usize..50, 1usize..50), 1..9),
            missing in 1usize..10,
        ) {
            let (mut bytes, mut keys) = (BytesMut::new(), Vec::new());
            for (phase, payload_len, body_len, key_len) in frames {
                let key = Bytes::from(vec![7; key_len]);
                let head = Head {
                    opcode: 1, flags: 0, payload_len, request_id: 0, epoch: 0, status: 0, phase,
                    body: vec![0; body_len].into(), key: key.clone(),
                };
                head.put(&mut bytes);
                bytes.resize(bytes.len() + head.tail_bytes(), 0);
                keys.push(key);
            }
            prop_assert_eq!(keys_ahead(&bytes).collect::<Vec<_>>(), &keys[..]);
            bytes.truncate(bytes.len() - missing);
            prop_assert_eq!(keys_ahead(&bytes).collect::<Vec<_>>(), &keys[..keys.len() - 1]);
        }

        #[test]
        fn any_bytes_are_refused_or_read_but_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..4096),
        ) {
            for key in keys_ahead(&bytes) {
                prop_assert!(key.len() < bytes.len());
            }
            let _ = Head::take(&mut BytesMut::from(&bytes[..]), LIMITS);
        }

        #[test]
        fn a_flipped_bit_in_the_head_is_found(at in 0usize..60, bit in 0u8..8) {
            let head = Head {
                opcode: 2, flags: 0, payload_len: 5, request_id: 1, epoch: 1, status: 0, phase: 0,
                body: Bytes::from_static(&[1; 20]), key: Bytes::from_static(b"12345678"),
            };
            let mut bytes = BytesMut::new();
            head.put(&mut bytes);
            bytes[at] ^= 1 << bit;
            // A longer length is found when the bytes that it asks for have come.
            bytes.resize(bytes.len() + 128 * 1024, 0);
            prop_assert!(Head::take(&mut bytes, LIMITS).is_err());
        }
    }
}
