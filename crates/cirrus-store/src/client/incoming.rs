//! What a node sends: frames out of a connection, and the replies in them.
//!
//! Owns the receiving half of a link. A small answer is read where it arrived and its value copied
//! once; no allocation but that of the value. A large one is read into a buffer that was used
//! before. One that is answered by its place is not read at all. Invariant: a value is handed on
//! only after the check that its way asks for.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::checksum::{BLOCK_BYTES, Summing, Sums};
use crate::client::greeting::LIMITS;
use crate::client::pool::{Lane, Pool};
use crate::error::{Error, Kind, Result};
use crate::transport::{Buffers, COPIED_BYTES_MAX, FrameReader, LinkReader, Mapper};
use crate::wire::{BODY_BYTES_MAX, FixedHead, Reply};

/// How much is read of a frame on the lane of large values before it is known what it is.
const FIRST_BYTES_MAX: usize = 4096;

/// The receiving side of a connection.
#[derive(Debug)]
pub(super) struct Incoming {
    reader: FrameReader<LinkReader>,
    /// Where the node shares its memory.
    mapper: Option<Arc<Mapper>>,
    buffers: Buffers,
    /// Whether payloads are checked against their sums.
    verifies: bool,
    /// The same for values in the node's memory.
    verifies_mapped: bool,
    lane: Lane,
}

impl Incoming {
    pub(super) fn new(
        reader: FrameReader<LinkReader>,
        mapper: Option<Arc<Mapper>>,
        lane: Lane,
        pool: &Pool,
    ) -> Self {
        let (verifies, verifies_mapped) = (pool.options.verifies, pool.options.verifies_mapped);
        Self { reader, mapper, buffers: pool.buffers.clone(), verifies, verifies_mapped, lane }
    }

    /// Hands replies and the numbers of their requests to `answer` until the link ends; why it did.
    pub(super) async fn run(&mut self, mut answer: impl FnMut(u64, Result<Reply>)) -> Error {
        loop {
            match self.read_frames(&mut answer).await {
                Ok(()) => {}
                Err(error) => return error,
            }
            // Of a large value that goes into a buffer of its own, little should come into this one.
            let is_next = self.lane == Lane::Large && self.reader.is_between_frames();
            let bytes_max = if is_next { FIRST_BYTES_MAX } else { usize::MAX };
            match self.reader.fill_at_most(bytes_max).await {
                Ok(true) => {}
                Ok(false) => return Error::new(Kind::Closed, "the node closed the connection"),
                Err(error) => return error,
            }
        }
    }

    /// Takes the frames that are here, the last of them perhaps with a tail that has yet to come.
    async fn read_frames(&mut self, answer: &mut impl FnMut(u64, Result<Reply>)) -> Result<()> {
        loop {
            let buffer = self.reader.buffer();
            let Some(head) = FixedHead::peek(buffer, LIMITS)? else { return Ok(()) };
            let (start, tail) = (head.len(), head.tail_bytes());
            if tail > COPIED_BYTES_MAX {
                let reply = self.read_large(head).await?;
                answer(head.request_id, reply.and_then(|reply| self.mapped(reply)));
                continue;
            }
            let Some(frame) = buffer.get(..start + tail) else { return Ok(()) };
            let (payload, table) = frame[start..].split_at(head.payload_bytes());
            let sums = Sums::copied(table);
            let checked = if self.verifies { sums.check(head.phase, payload) } else { Ok(()) };
            let reply = checked.and_then(|()| {
                let payload = Bytes::copy_from_slice(payload);
                Reply::of(&head, &frame[head.body()], payload, sums)
            });
            buffer.advance(start + tail);
            answer(head.request_id, reply.and_then(|reply| self.mapped(reply)));
        }
    }

    /// Takes a frame whose payload gets a buffer of its own.
    async fn read_large(&mut self, head: FixedHead) -> Result<Result<Reply>> {
        let Self { reader, buffers, verifies, .. } = self;
        let mut body = [0; BODY_BYTES_MAX];
        body[..head.body_len].copy_from_slice(&reader.buffer()[head.body()]);
        reader.buffer().advance(head.len());
        let (payload_len, len) = (head.payload_bytes(), head.tail_bytes());
        let mut tail = buffers.take(len);
        let mut summing = Summing::new(head.phase);
        let mut left = payload_len;
        let landed = |bytes: &[u8]| {
            let here = bytes.len().min(left);
            if *verifies {
                summing.update(&bytes[..here]);
            }
            left -= here;
        };
        reader.read_into(&mut tail, len, landed).await?;
        let sums = Sums::copied(&tail[payload_len..]);
        tail.truncate(payload_len);
        let checked = match *verifies {
            true => sums.expect(&summing.finish(), payload_len),
            false => Ok(()),
        };
        Ok(checked
            .and_then(|()| Reply::of(&head, &body[..head.body_len], buffers.share(tail), sums)))
    }

    /// A value that was answered by its place, as one that came; any other reply as it is.
    fn mapped(&self, reply: Reply) -> Result<Reply> {
        let Reply::Placed { version, size, offset, expires_at, modified_at, place, len, pin, sums } =
            reply
        else {
            return Ok(reply);
        };
        let value = self.mapper.as_ref().and_then(|mapper| mapper.value(place, len, pin));
        let value = value.ok_or_else(|| {
            let text = format!("a value of {len} bytes at {place}, outside of the node's memory");
            Error::new(Kind::Protocol, text)
        })?;
        if self.verifies_mapped {
            let phase = u16::try_from(offset % BLOCK_BYTES as u64).expect("less than a block");
            sums.check(phase, &value)?;
        }
        Ok(Reply::Value { version, size, offset, expires_at, modified_at, value, sums })
    }
}
