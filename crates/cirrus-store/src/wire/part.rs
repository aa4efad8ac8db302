//! A request or reply before it has a number: what a frame and an item of a batch have in common.
//!
//! Owns [`Part`] and its two encodings. Knows nothing of what the opcodes mean.
//! Invariant: `sums` is the table of the payload's blocks on the grid of `phase`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::checksum::{BLOCK_BYTES, Sums};
use crate::error::{Error, Kind, Result};
use crate::wire::head::Head;

/// One request or reply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Which request this is, or (with the top bit) which request it answers.
    pub opcode: u8,
    /// Bits that the opcode defines.
    pub flags: u8,
    /// How the request ended; 0 in requests.
    pub status: u16,
    /// Where the payload's first byte lies in its 64 KiB block.
    pub phase: u16,
    /// The typed body.
    pub body: Bytes,
    /// The key, prefix or nothing.
    pub key: Bytes,
    /// The value, list or nothing.
    pub payload: Bytes,
    /// The payload's checksums.
    pub sums: Sums,
}

impl Part {
    /// The part in a frame whose head and payload have been read.
    pub fn of(head: Head, payload: Bytes, sums: Sums) -> Self {
        let Head { opcode, flags, status, phase, body, key, .. } = head;
        Self { opcode, flags, status, phase, body, key, payload, sums }
    }

    /// The head of this part's frame.
    pub fn head(&self, request_id: u64, epoch: u32) -> Head {
        Head {
            opcode: self.opcode,
            flags: self.flags,
            payload_len: u32::try_from(self.payload.len()).expect("payloads are at most 1 GiB"),
            request_id,
            epoch,
            status: self.status,
            phase: self.phase,
            body: self.body.clone(),
            key: self.key.clone(),
        }
    }
}

/// Whether a payload lies in its blocks where the opcode says.
pub(super) fn check_phase(phase: u16, offset: u64) -> Result<()> {
    match u64::from(phase) == offset % BLOCK_BYTES as u64 {
        true => Ok(()),
        false => Err(Error::new(Kind::Protocol, format!("a phase of {phase}"))),
    }
}

/// Appends the whole frame to `buffer`, its payload copied: for small frames and golden files.
pub fn encode_frame(part: &Part, request_id: u64, epoch: u32, buffer: &mut BytesMut) {
    part.head(request_id, epoch).put(buffer);
    buffer.put_slice(&part.payload);
    part.sums.put_table(buffer);
}
