//! Large values, a part at a time.
//!
//! Owns reading a value by ranges that follow each other, a few of them under way at once, so that
//! a value larger than the reader's memory passes through it. Invariant: all bytes of a stream are
//! of one version, and every part was checked before it is handed out.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio::io::{AsyncRead, ReadBuf};

use crate::checksum::BLOCK_BYTES;
use crate::client::call::Target;
use crate::client::pool::{Lane, Pool, SMALL_BYTES_MAX};
use crate::client::{Client, NEVER, UNSAID, unexpected};
use crate::error::{Error, Kind, Result};
use crate::key::{Key, Version};
use crate::wire::{Delivery, Reply, Request};

/// Bytes of a part: whole blocks, so that each is checked against its writer's sums.
pub(super) const PART_BYTES: u64 = 16 * BLOCK_BYTES as u64;

/// Parts that are asked for before they are wanted.
const PARTS_AHEAD: usize = 4;

/// A value on its way, as a [`Stream`] of its parts and as a reader. Each part is a whole number of
/// blocks of 64 KiB, but for the last; at most 5 MiB wait here.
///
/// Dropping it leaves nothing behind.
pub struct ValueStream {
    pool: Arc<Pool>,
    key: Key,
    version: Version,
    size: u64,
    expires_at: Option<u64>,
    modified_at: Option<u64>,
    /// Where the next part to be asked for begins, and where the last one ends.
    next: u64,
    end: u64,
    parts: FuturesOrdered<BoxFuture<'static, Result<Bytes>>>,
    /// What has come and not been handed out.
    here: VecDeque<Bytes>,
}

impl fmt::Debug for ValueStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, version, size, .. } = self;
        write!(f, "ValueStream({key:?}, version {version}, {size} bytes)")
    }
}

impl Client {
    /// The object's value as a stream, for values that are too large to be held at once.
    /// [`Kind::NotFound`] when there is none; [`Kind::WrongVersion`] from the stream when it is
    /// written while it is read, with the new version as detail.
    pub async fn get_stream(&self, key: &Key) -> Result<ValueStream> {
        self.get_stream_range(key, 0..u64::MAX).await
    }

    /// As [`Client::get_stream`], of the bytes `range` of the value, as far as it goes: none when it
    /// ends before them. One round trip where they are at most a part.
    pub async fn get_stream_range(&self, key: &Key, range: Range<u64>) -> Result<ValueStream> {
        let first = part(&self.pool, key, &range).await?;
        let Part { version, size, expires_at, modified_at, value } = first;
        let end = range.end.min(size);
        Ok(ValueStream {
            pool: self.pool.clone(),
            key: key.clone(),
            version,
            size,
            expires_at: (expires_at != NEVER).then_some(expires_at),
            modified_at: (modified_at != UNSAID).then_some(modified_at),
            next: range.start.saturating_add(value.len() as u64).min(end),
            end,
            parts: FuturesOrdered::new(),
            here: VecDeque::from_iter((!value.is_empty()).then_some(value)),
        })
    }
}

struct Part {
    version: Version,
    size: u64,
    expires_at: u64,
    modified_at: u64,
    value: Bytes,
}

/// The first part of a range: to where the value's next part begins.
async fn part(pool: &Pool, key: &Key, range: &Range<u64>) -> Result<Part> {
    let (offset, newer_than, inline_bytes_max) = (range.start, Version(0), u32::MAX);
    let len = range.end.saturating_sub(offset).min(PART_BYTES - offset % PART_BYTES);
    let mut request = Request::Get {
        key: key.clone(),
        offset,
        len,
        newer_than,
        inline_bytes_max,
        delivery: Delivery::Inline,
    };
    let reply = match len <= u64::from(SMALL_BYTES_MAX) {
        true => pool.call(Target::Slot(key.slot()), &mut request, Lane::Small).await?,
        false => pool.large(&mut request).await?,
    };
    match reply {
        Reply::Value { version, size, expires_at, modified_at, value, .. } => {
            match value.len() as u64 == len.min(size.saturating_sub(offset)) {
                true => Ok(Part { version, size, expires_at, modified_at, value }),
                false => Err(unexpected(key)),
            }
        }
        _ => Err(unexpected(key)),
    }
}

/// Whether a part has the bytes that it should: a node that sends less would have us ask for ever.
pub(super) fn is_whole(value: &Bytes, offset: u64, size: u64) -> bool {
    value.len() as u64 == PART_BYTES.min(size.saturating_sub(offset))
}

/// The error of a value that was written while it was read.
pub(super) fn changed(key: &Key, before: Version, now: Version) -> Error {
    let text = format!("{key:?} was written while it was read: version {before}, then {now}");
    Error::new(Kind::WrongVersion, text).with_detail(now.0)
}

impl ValueStream {
    /// The version that all parts have.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Bytes of the whole value.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When the object ends, in milliseconds since 1970-01-01 UTC; `None` if it does not.
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// When the object was last written, in milliseconds since 1970-01-01 UTC by its node's clock;
    /// `None` from a node that does not say it.
    pub fn modified_at(&self) -> Option<u64> {
        self.modified_at
    }

    fn ask_ahead(&mut self) {
        while self.parts.len() < PARTS_AHEAD && self.next < self.end {
            let (pool, key, range) = (self.pool.clone(), self.key.clone(), self.next..self.end);
            let (version, size) = (self.version, self.size);
            self.next = self.end.min(self.next + PART_BYTES);
            self.parts.push_back(Box::pin(async move {
                let part = part(&pool, &key, &range).await?;
                if (part.version, part.size) != (version, size) {
                    return Err(changed(&key, version, part.version));
                }
                Ok(part.value)
            }));
        }
    }

    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        self.ask_ahead();
        if let Some(part) = self.here.pop_front() {
            return Poll::Ready(Some(Ok(part)));
        }
        let part = ready!(self.parts.poll_next_unpin(context));
        match &part {
            Some(Ok(_)) => self.ask_ahead(),
            // Nothing of a value follows a part of it that is missing.
            Some(Err(_)) => {
                self.parts = FuturesOrdered::new();
                self.next = self.end;
            }
            None => {}
        }
        Poll::Ready(part)
    }
}

impl Stream for ValueStream {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_part(context)
    }
}

impl AsyncRead for ValueStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match ready!(this.poll_part(context)) {
            Some(Ok(mut part)) => {
                let here = part.len().min(buffer.remaining());
                buffer.put_slice(&part[..here]);
                part.advance(here);
                if !part.is_empty() {
                    this.here.push_front(part);
                }
                Poll::Ready(Ok(()))
            }
            Some(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
            None => Poll::Ready(Ok(())),
        }
    }
}
