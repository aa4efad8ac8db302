//! Frames into a link.
//!
//! Per wake-up: one vectored write of everything that is queued. Small payloads are copied beside
//! their heads, so that they leave in one piece; larger ones are shared and never copied. A writer
//! with nothing to write has no buffer: the thread keeps a few, as for readers.
//! Invariant: frames leave whole and in the order of `push`.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::error::{Error, Kind, Result};
use crate::transport::COPIED_BYTES_MAX;
use crate::transport::reader::{keep_spare, spare_buffer};
use crate::wire::Part;

/// The kernel takes up to 1,024 pieces at once; more than this does not pay.
const PIECES_MAX: usize = 64;

/// Queues frames and writes them out.
#[derive(Debug)]
pub(crate) struct FrameWriter<W> {
    link: W,
    pieces: VecDeque<Bytes>,
    small: BytesMut,
    queued_bytes: usize,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(crate) fn new(link: W) -> Self {
        let (pieces, small) = (VecDeque::new(), BytesMut::new());
        Self { link, pieces, small, queued_bytes: 0 }
    }

    pub(crate) fn link_mut(&mut self) -> &mut W {
        &mut self.link
    }

    /// The link, when nothing is queued.
    pub(crate) fn into_link(self) -> W {
        self.link
    }

    /// Bytes that wait for [`FrameWriter::flush`].
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Queues bytes that are no frame: the hello.
    pub(crate) fn push_bytes(&mut self, put: impl FnOnce(&mut BytesMut)) {
        if self.small.capacity() == 0 {
            self.small = spare_buffer();
        }
        let before = self.small.len();
        put(&mut self.small);
        self.queued_bytes += self.small.len() - before;
    }

    /// Queues a frame.
    pub(crate) fn push(&mut self, part: &Part, request_id: u64, epoch: u32) {
        self.push_bytes(|small| part.head(request_id, epoch).put(small));
        if part.payload.len() > COPIED_BYTES_MAX {
            self.pieces.push_back(self.small.split().freeze());
            self.queued_bytes += part.payload.len();
            self.pieces.push_back(part.payload.clone());
        } else {
            self.push_bytes(|small| small.extend_from_slice(&part.payload));
        }
        self.push_bytes(|small| part.sums.put_table(small));
    }

    /// Takes back what was queued since the last [`FrameWriter::flush`].
    pub(crate) fn discard(&mut self) {
        self.small.clear();
        self.pieces.clear();
        self.queued_bytes = 0;
    }

    /// Writes out what is queued.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let written = self.link.write_vectored(&slices[..count]).await.map_err(failed)?;
            if written == 0 {
                return Err(failed(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        keep_spare(std::mem::take(&mut self.small));
        self.pieces.shrink_to(PIECES_MAX);
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        self.queued_bytes -= written;
        while let Some(front) = self.pieces.front_mut() {
            let here = written.min(front.len());
            front.advance(here);
            written -= here;
            if !front.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
    }
}

fn failed(error: io::Error) -> Error {
    Error::new(Kind::Closed, "the connection failed").with_source(error)
}
