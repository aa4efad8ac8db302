//! Values that are put while they are made.
//!
//! Owns sending one value in chunks, over a connection of its own, so that a slow source holds
//! nobody up. Blocks are summed as they leave; the table follows them. The chunks cannot be had
//! again, so a put that breaks is not repeated. When all bytes were sent and no answer came, the
//! node is asked under the write's name whether it was applied; asking makes a copy that is still
//! under way void. Invariant: what is not answered with a version is not there, or the answer says
//! [`Kind::Unknown`].

use std::error::Error as StdError;
use std::pin::pin;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{Stream, StreamExt, try_unfold};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::checksum::{Summing, Sums};
use crate::client::attempt::{Attempts, Greeting};
use crate::client::call::{Course, Target};
use crate::client::greeting::{Greeted, LIMITS};
use crate::client::pool::{Lane, Pool};
use crate::client::session::OpenWrites;
use crate::client::{Client, NEVER, PutOptions, payload_len, unexpected};
use crate::error::{Error, Kind, Result};
use crate::key::{Key, Version};
use crate::wire::{Condition, FixedHead, Reply, Request, Write};

/// Bytes that are asked of a reader at once.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// A version that no object has.
const NO_VERSION: Version = Version(u64::MAX);

impl Client {
    /// Stores a value of `len` bytes that comes in chunks. It becomes visible as one object, when
    /// all of it is there; its memory is reserved on the node from the start.
    ///
    /// At most a few puts of this kind run at once, others wait for their turn. The node gives up
    /// on a value that takes longer than a minute and a second for each MiB. The error of a chunk
    /// ends the put with [`Kind::Closed`], another length than `len` with [`Kind::Invalid`]; other
    /// errors are those of [`Client::put_with`], but nothing is tried again once the first chunk was
    /// taken. Dropping the future ends the put; it may have been applied if all bytes were sent.
    pub async fn put_stream<E>(
        &self,
        key: &Key,
        len: u64,
        chunks: impl Stream<Item = std::result::Result<Bytes, E>>,
        options: PutOptions,
    ) -> Result<Version>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let payload_len = payload_len(key, len)?;
        let chunks = pin!(chunks);
        let mut source = Source::new(chunks, payload_len);
        if payload_len == 0 {
            // Its head would be all of it, and out before the source has said that it agrees.
            while source.next().await?.is_some() {}
            return self.put_with(key, Bytes::new(), options).await;
        }
        let pool = &*self.pool;
        let closed = || Error::new(Kind::Closed, "the client is closed");
        let _turn = pool.uploads.acquire().await.map_err(|_| closed())?;
        // Finds out, before a chunk is taken, whether the node is there and still holds the slot.
        match pool.single(Request::Stat { key: key.clone() }).await {
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let routes = pool.routes();
        let (node, _) = routes.holder(key.slot())?;
        let endpoint = pool.endpoint(node);
        let limit = pool.options.connect_timeout;
        let greeted = Greeted::open(&endpoint, pool.session.id, &pool.options.token);
        let greeted = timeout(limit, greeted).await.map_err(|_| {
            Error::new(Kind::Timeout, format!("{endpoint} did not answer a hello within {limit:?}"))
        })??;
        let names = pool.session.begin(1);
        let PutOptions { condition, expires_at } = options;
        let request = Request::Put {
            key: key.clone(),
            write: names.names(false)(),
            condition,
            expires_at: expires_at.unwrap_or(NEVER),
            value: Bytes::new(),
            sums: Sums::default(),
        };
        let upload = Upload { link: greeted, patience: pool.options.request_timeout };
        let greeting = upload.link.greeting;
        let mut sent = false;
        let answer = tokio::select! {
            biased;
            () = pool.closed.cancelled() => Err(closed()),
            answer = upload.run(&request, source, &mut sent) => answer,
        };
        match answer {
            Ok(Reply::Written { version }) => Ok(version),
            Ok(Reply::Failed(fault)) => Err(request.fault(fault)),
            Ok(_) => Err(unexpected(key)),
            Err(error) if sent => pool.settle(key, names, greeting, error).await,
            Err(error) => Err(error),
        }
    }

    /// As [`Client::put_stream`], of the next `len` bytes that `reader` gives; it is not asked for
    /// more. A reader that ends before gives [`Kind::Invalid`].
    pub async fn put_reader(
        &self,
        key: &Key,
        len: u64,
        reader: impl AsyncRead,
        options: PutOptions,
    ) -> Result<Version> {
        let reader = Box::pin(reader.take(len));
        let buffer = BytesMut::new();
        let chunks = try_unfold((reader, buffer), |(mut reader, mut buffer)| async move {
            buffer.reserve(CHUNK_BYTES);
            let read = reader.read_buf(&mut buffer).await?;
            let chunk = buffer.split().freeze();
            Ok::<_, std::io::Error>((read > 0).then_some((chunk, (reader, buffer))))
        });
        self.put_stream(key, len, chunks, options).await
    }
}

struct Upload {
    link: Greeted,
    /// How long the node may take for a chunk, and for its answer.
    patience: Duration,
}

impl Upload {
    /// Sends the frame, its payload as it comes; `sent` says whether all of it may have left.
    async fn run<S, E>(
        mut self,
        request: &Request,
        mut source: Source<S>,
        sent: &mut bool,
    ) -> Result<Reply>
    where
        S: Stream<Item = std::result::Result<Bytes, E>> + Unpin,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let mut head = BytesMut::new();
        request.put_head(1, 0, source.len, &mut head);
        self.write(&head).await?;
        let mut summing = Summing::new(0);
        while let Some(chunk) = source.next().await? {
            for piece in chunk.chunks(CHUNK_BYTES) {
                summing.update(piece);
                self.write(piece).await?;
            }
        }
        // A node does nothing with a value whose table has not come.
        *sent = true;
        self.write(&summing.finish().to_table()).await?;
        let patience = self.patience;
        timeout(patience, self.answer()).await.unwrap_or_else(|_| Err(silent(patience)))
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match timeout(self.patience, self.link.writer.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(Error::new(Kind::Closed, "the connection failed").with_source(error))
            }
            Err(_) => Err(silent(self.patience)),
        }
    }

    async fn answer(&mut self) -> Result<Reply> {
        let take = |buffer: &mut BytesMut| {
            let Some(head) = FixedHead::peek(buffer, LIMITS)? else { return Ok(None) };
            if head.tail_bytes() > 0 {
                return Err(Error::new(Kind::Protocol, "a put was answered with a payload"));
            }
            let reply = Reply::of(&head, &buffer[head.body()], Bytes::new(), Sums::default())?;
            buffer.advance(head.len());
            Ok(Some(reply))
        };
        let reply = self.link.reader.take(take).await?;
        reply.ok_or_else(|| Error::new(Kind::Closed, "the node closed the connection"))
    }
}

/// Chunks that have to be `len` bytes in all.
struct Source<S> {
    chunks: S,
    len: u32,
    left: u64,
}

impl<S, E> Source<S>
where
    S: Stream<Item = std::result::Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    fn new(chunks: S, len: u32) -> Self {
        Self { chunks, len, left: u64::from(len) }
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let len = self.len;
        let Some(chunk) = self.chunks.next().await else {
            return match self.left {
                0 => Ok(None),
                left => {
                    let text = format!("a value that ends {left} bytes before its {len}");
                    Err(Error::new(Kind::Invalid, text))
                }
            };
        };
        let chunk = chunk.map_err(|error| {
            Error::new(Kind::Closed, "the source of the value failed").with_source(error)
        })?;
        self.left = self.left.checked_sub(chunk.len() as u64).ok_or_else(|| {
            Error::new(Kind::Invalid, format!("a value of more bytes than its {len}"))
        })?;
        Ok(Some(chunk))
    }
}

fn silent(patience: Duration) -> Error {
    Error::new(Kind::Timeout, format!("the node took nothing and said nothing for {patience:?}"))
}

/// A put whose condition never holds. Under the name of another put, it has the node repeat the
/// answer that this one has had, or refuse both, whichever comes later.
pub(super) fn probe(key: &Key) -> Request {
    Request::Put {
        key: key.clone(),
        write: Write::default(),
        condition: Condition::IfVersion(NO_VERSION),
        expires_at: NEVER,
        value: Bytes::new(),
        sums: Sums::default(),
    }
}

impl Pool {
    /// Whether a write that was sent has been applied: its version, or `error` when it was not and
    /// never will be.
    async fn settle(
        &self,
        key: &Key,
        names: OpenWrites<'_>,
        greeting: Greeting,
        error: Error,
    ) -> Result<Version> {
        let mut request = probe(key);
        let limit = self.options.request_timeout;
        let deadline = Instant::now() + limit;
        let course = Course { target: Target::Slot(key.slot()), lane: Lane::Small, deadline };
        let attempts = Attempts::in_doubt_about(greeting);
        match self.carry_out(&course, &mut request, Some(names), attempts, limit).await {
            Ok(answer) => match answer.reply {
                Reply::Written { version } => Ok(version),
                _ => Err(unexpected(key)),
            },
            Err(refused) if refused.kind() == Kind::WrongVersion => Err(error),
            Err(unknown) => Err(unknown.with_source(error)),
        }
    }
}
