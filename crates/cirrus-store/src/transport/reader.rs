//! Frames out of a link.
//!
//! Per small frame: no system call of its own (many arrive in one read), one copy of head and
//! payload out of the shared buffer. Per large payload: one buffer of its exact size, filled by
//! the socket. A reader that waits between two frames has no buffer: a thread keeps a few for
//! those that have something to read, so that an idle connection costs nothing here and a busy one
//! no allocation. Invariant: `head` reads no further than one buffer ahead of what it returns.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::checksum::Sums;
use crate::error::{Error, Kind, Result};
use crate::transport::COPIED_BYTES_MAX;
use crate::wire::{Head, HeadLimits, keys_ahead};

const BUFFER_BYTES: usize = 64 * 1024;

/// The most bytes of a large payload that are read before they are looked at: what stays in a
/// processor's second-level cache.
const LANDED_BYTES_MAX: usize = 256 * 1024;

/// Buffers that a thread keeps for its readers and writers.
const SPARE_BUFFERS_MAX: usize = 8;

thread_local! {
    static SPARE_BUFFERS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Reads frames: each head, then its tail or nothing of it.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    link: R,
    buffer: BytesMut,
    limits: HeadLimits,
    progress: Arc<AtomicU64>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(link: R, limits: HeadLimits) -> Self {
        Self::starting_with(BytesMut::new(), link, limits)
    }

    /// A reader for a link of which `buffer` has been read already.
    pub(crate) fn starting_with(buffer: BytesMut, link: R, limits: HeadLimits) -> Self {
        Self { link, buffer, limits, progress: Arc::default() }
    }

    pub(crate) fn link(&self) -> &R {
        &self.link
    }

    pub(crate) fn link_mut(&mut self) -> &mut R {
        &mut self.link
    }

    /// A counter that grows whenever bytes arrive.
    pub(crate) fn progress(&self) -> Arc<AtomicU64> {
        self.progress.clone()
    }

    /// Whether the bytes that are here end at the end of a frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Reads once; false at the end of the stream. Dropping the future loses no bytes.
    pub(crate) async fn fill(&mut self) -> Result<bool> {
        self.fill_at_most(usize::MAX).await
    }

    /// The same, of at most `bytes_max` bytes.
    pub(crate) async fn fill_at_most(&mut self, bytes_max: usize) -> Result<bool> {
        let read = read_at_most(&mut self.link, &mut self.buffer, bytes_max).await;
        let read = read.map_err(failed)?;
        self.progress.fetch_add(1, Ordering::Relaxed);
        Ok(read > 0)
    }

    /// Takes a value off the front with `take`, reading as long as it wants more; `None` at the
    /// end of the stream. Dropping the future loses no bytes.
    pub(crate) async fn take<T>(
        &mut self,
        mut take: impl FnMut(&mut BytesMut) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        loop {
            if let Some(value) = take(&mut self.buffer)? {
                return Ok(Some(value));
            }
            if !self.fill().await? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(closed("the peer closed the connection inside a frame")),
                };
            }
        }
    }

    /// The next head if it is here already.
    pub(crate) fn buffered_head(&mut self) -> Result<Option<Head>> {
        Head::take(&mut self.buffer, self.limits)
    }

    /// The keys of frames that are here whole and were not taken yet.
    pub(crate) fn keys_ahead(&self) -> impl Iterator<Item = &[u8]> {
        keys_ahead(&self.buffer)
    }

    /// The payload that follows `head`, and its checksums, not yet checked.
    pub(crate) async fn tail(&mut self, head: &Head) -> Result<(Bytes, Sums)> {
        let len = head.tail_bytes();
        if len == 0 {
            return Ok((Bytes::new(), Sums::default()));
        }
        if len <= COPIED_BYTES_MAX {
            while self.buffer.len() < len {
                self.fill_or_fail().await?;
            }
            // Copied to its exact size, so that a stored value never keeps a read buffer alive.
            let (payload, table) = self.buffer[..len].split_at(head.payload_bytes());
            let tail = (Bytes::copy_from_slice(payload), Sums::copied(table));
            self.buffer.advance(len);
            return Ok(tail);
        }
        let mut tail = self.large_tail(len).await?;
        let table = tail.split_off(head.payload_bytes());
        Ok((tail, Sums::from_table(table)))
    }

    /// The same for at most [`COPIED_BYTES_MAX`] bytes or a batch, shared with the read buffer where
    /// they lie in it: for who copies what he keeps.
    pub(crate) async fn tail_in_place(&mut self, head: &Head) -> Result<(Bytes, Sums)> {
        let len = head.tail_bytes();
        if len > COPIED_BYTES_MAX {
            return self.tail(head).await;
        }
        while self.buffer.len() < len {
            self.fill_or_fail().await?;
        }
        let mut payload = self.buffer.split_to(len).freeze();
        let table = payload.split_off(head.payload_bytes());
        Ok((payload, Sums::copied(&table)))
    }

    /// Reads the payload that follows `head` into `payload`, which has its length, and returns the
    /// checksums that came with it, not yet checked. `landed` sees the payload as it comes, while it
    /// is still in the processor's cache.
    pub(crate) async fn tail_into(
        &mut self,
        head: &Head,
        payload: &mut [u8],
        landed: impl FnMut(&[u8]),
    ) -> Result<Sums> {
        self.read_exact(payload, landed).await?;
        let mut table = vec![0; head.table_bytes()];
        self.read_exact(&mut table, |_| ()).await?;
        Ok(Sums::from_table(table.into()))
    }

    /// Fills `to` with what is here and then with what comes.
    async fn read_exact(&mut self, to: &mut [u8], mut landed: impl FnMut(&[u8])) -> Result<()> {
        let mut filled = to.len().min(self.buffer.len());
        self.buffer.copy_to_slice(&mut to[..filled]);
        landed(&to[..filled]);
        while filled < to.len() {
            let until = to.len().min(filled + LANDED_BYTES_MAX);
            let read = self.link.read(&mut to[filled..until]).await.map_err(failed)?;
            if read == 0 {
                return Err(closed("the peer closed the connection inside a payload"));
            }
            landed(&to[filled..filled + read]);
            filled += read;
            self.progress.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What has been read and not been taken.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Reads the next `len` bytes into `tail`, which is empty and has room for them. `landed` sees
    /// them as they come, while they are still in the processor's cache.
    pub(crate) async fn read_into(
        &mut self,
        tail: &mut Vec<u8>,
        len: usize,
        mut landed: impl FnMut(&[u8]),
    ) -> Result<()> {
        let here = len.min(self.buffer.len());
        tail.extend_from_slice(&self.buffer[..here]);
        self.buffer.advance(here);
        landed(tail);
        while tail.len() < len {
            let from = tail.len();
            let mut rest = (&mut self.link).take((len - from).min(LANDED_BYTES_MAX) as u64);
            if rest.read_buf(tail).await.map_err(failed)? == 0 {
                return Err(closed("the peer closed the connection inside a payload"));
            }
            self.progress.fetch_add(1, Ordering::Relaxed);
            landed(&tail[from..]);
        }
        Ok(())
    }

    /// Reads past the payload that follows `head` without keeping it.
    pub(crate) async fn discard(&mut self, head: &Head) -> Result<()> {
        let mut left = head.tail_bytes();
        loop {
            let here = left.min(self.buffer.len());
            self.buffer.advance(here);
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.fill_or_fail().await?;
        }
    }

    async fn large_tail(&mut self, len: usize) -> Result<Bytes> {
        let mut tail = Vec::with_capacity(len);
        let here = len.min(self.buffer.len());
        tail.extend_from_slice(&self.buffer[..here]);
        self.buffer.advance(here);
        let mut rest = (&mut self.link).take((len - here) as u64);
        while tail.len() < len {
            if rest.read_buf(&mut tail).await.map_err(failed)? == 0 {
                return Err(closed("the peer closed the connection inside a payload"));
            }
            self.progress.fetch_add(1, Ordering::Relaxed);
        }
        Ok(tail.into())
    }

    async fn fill_or_fail(&mut self) -> Result<()> {
        match self.fill().await? {
            true => Ok(()),
            false => Err(closed("the peer closed the connection inside a payload")),
        }
    }
}

/// Reads once into `buffer`; how many bytes came, 0 at the end of the stream. While there is
/// nothing to read an empty buffer is lent to others. Dropping the future loses no bytes.
pub(crate) async fn read_more(
    link: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<usize> {
    read_at_most(link, buffer, usize::MAX).await
}

/// The same, of at most `bytes_max` bytes.
pub(crate) async fn read_at_most(
    link: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    bytes_max: usize,
) -> io::Result<usize> {
    poll_fn(|cx| {
        if buffer.capacity() == 0 {
            *buffer = spare_buffer();
        }
        buffer.reserve(BUFFER_BYTES / 4);
        let read = pin!(link.read_buf(&mut buffer.limit(bytes_max))).poll(cx);
        if read.is_pending() && buffer.is_empty() {
            keep_spare(std::mem::take(buffer));
        }
        read
    })
    .await
}

/// An empty buffer with room.
pub(super) fn spare_buffer() -> BytesMut {
    let spare = SPARE_BUFFERS.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES))
}

/// Keeps an empty buffer for the next who needs one, unless it has grown.
pub(super) fn keep_spare(mut buffer: BytesMut) {
    SPARE_BUFFERS.with_borrow_mut(|spare| {
        // Takes back the part that was used, unless somebody still holds it.
        let is_whole = spare.len() < SPARE_BUFFERS_MAX && buffer.try_reclaim(BUFFER_BYTES);
        if is_whole && buffer.capacity() <= 2 * BUFFER_BYTES {
            spare.push(buffer);
        }
    });
}

fn closed(how: &str) -> Error {
    Error::new(Kind::Closed, how)
}

fn failed(error: io::Error) -> Error {
    Error::new(Kind::Closed, "the connection failed").with_source(error)
}
