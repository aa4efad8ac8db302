//! The client: objects of other processes as if they were here.
//!
//! Owns the operations and their options. Never imports the server. Invariant: a write is applied
//! at most once, or the answer says [`Kind::Unknown`].

mod attempt;
mod blocking;
mod call;
mod calls;
mod connection;
mod download;
mod greeting;
mod incoming;
mod left;
mod many;
mod near;
mod nodes;
mod pool;
mod session;
mod sizes;
mod tables;
mod upload;
mod views;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};

use crate::checksum::Sums;
pub use crate::client::blocking::BlockingClient;
use crate::client::call::Target;
pub use crate::client::download::ValueStream;
pub use crate::client::left::Unwritten;
pub(crate) use crate::client::near::detached;
pub use crate::client::nodes::NodeReport;
use crate::client::pool::{Lane, Pool, SMALL_BYTES_MAX};
pub use crate::client::tables::{Pull, Push, RowList, Stepper, Values};
use crate::client::views::FixedView;
pub use crate::client::views::{ViewFuture, Views};
use crate::error::{Error, Kind, Result};
use crate::key::{Key, Version};
use crate::object::{Object, Stat};
use crate::token::Token;
use crate::transport::{COPIED_BYTES_MAX, SimNetwork};
use crate::view::View;
pub use crate::wire::{Condition, Page, PageItem};
use crate::wire::{Delivery, NEVER, Reply, Request, UNSAID, Write};

/// How long one round of a wait lasts.
const WAIT_ROUND: Duration = Duration::from_secs(10);

/// How a client behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// How long opening a connection may take. Default 5 s.
    pub connect_timeout: Duration,
    /// How long a request may take, attempts included. Default 30 s.
    pub request_timeout: Duration,
    /// The secret that the nodes ask for; empty for none.
    pub token: Token,
    /// Connections to each node for small frames; each call takes the least loaded. Default 1.
    pub small_connections: usize,
    /// The same for frames of more than 64 KiB. Default 2.
    pub large_connections: usize,
    /// Bytes of buffers that are kept for the next large values once these have been dropped.
    /// Default 128 MiB.
    pub buffer_bytes_max: usize,
    /// Whether values that are copied here are checked against the checksums that their writers
    /// made. Default true.
    pub verifies: bool,
    /// Whether large values of a node of the same host and user are read where they lie in its
    /// memory, not copied, where the node offers that. A value of more than 16 KiB is then the node's
    /// memory until its last reference is dropped, even when it was replaced or removed there; the
    /// node lets only so much of it be held (a quarter of its capacity by default), and copies
    /// beyond. Default true.
    pub maps: bool,
    /// Whether such values are checked as well. It costs reading all of their bytes. The node checked them when they came, and nothing lies between its memory
    /// and ours. Default false.
    pub verifies_mapped: bool,
    /// Connect inside this simulated network instead of over TCP.
    pub network: Option<SimNetwork>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            token: Token::default(),
            small_connections: 1,
            large_connections: 2,
            buffer_bytes_max: 128 << 20,
            verifies: true,
            maps: true,
            verifies_mapped: false,
            network: None,
        }
    }
}

/// How a put behaves. The default replaces whatever is there, for ever.
#[derive(Debug, Clone, Copy, Default)]
pub struct PutOptions {
    /// When it may happen.
    pub condition: Condition,
    /// When the object ends, in milliseconds since 1970-01-01 UTC; `None` if it does not.
    pub expires_at: Option<u64>,
}

/// An asynchronous client of a pool of nodes. Clones share its connections and its session.
///
/// Many operations may be in flight at once; small ones of different callers leave in one write, up to
/// 16, of 8 to 63 that are open an eighth, so that the node works on some while the next are made. A
/// get of more than 64 KiB takes two round trips the first time, and one as long as keys that differ
/// in their last digits only are all so large.
/// Every request ends within [`ClientOptions::request_timeout`]; failed connections are opened
/// again meanwhile. Operations that take several requests (a get of more than 64 KiB, many objects,
/// a list) have the time for each. Dropping the future of an operation abandons its answer, not the operation: a
/// write may still be applied.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Arc<Pool>,
}

impl Client {
    /// A client of the one node at `address` (`HOST:PORT`). Connects at the first operation.
    pub fn new(address: &str, options: ClientOptions) -> Self {
        let view = View::single(1, address);
        let views = Arc::new(FixedView(view.clone()));
        Self { pool: Arc::new(Pool::new(views, view, options)) }
    }

    /// A client of the pool that `views` describes. [`Kind::Timeout`] when no view comes within
    /// the options' `request_timeout`.
    pub async fn with_views(views: Arc<dyn Views>, options: ClientOptions) -> Result<Self> {
        let limit = options.request_timeout;
        let view = timeout(limit, views.newer_than(0)).await.map_err(|_| {
            Error::new(Kind::Timeout, format!("no view of the pool came within {limit:?}"))
        })?;
        let view = view?.validated()?;
        Ok(Self { pool: Arc::new(Pool::new(views, view, options)) })
    }

    /// The object. [`Kind::NotFound`] when there is none; [`Kind::Corrupt`] when its bytes do not
    /// match the checksums that its writer made (see [`ClientOptions::verifies_mapped`] for values
    /// of a node of the same host).
    pub async fn get(&self, key: &Key) -> Result<Object> {
        let request = get(key, Version(0));
        found(key, self.pool.single(request).await?)
    }

    /// The object if its version is larger than `version`, otherwise `None`.
    pub async fn get_if_newer(&self, key: &Key, version: Version) -> Result<Option<Object>> {
        object(key, self.pool.single(get(key, version)).await?)
    }

    /// Bytes `[offset, offset + len)` of the value, as far as it goes, checked against the
    /// checksums of the blocks that they lie in.
    pub async fn get_range(&self, key: &Key, offset: u64, len: u64) -> Result<Object> {
        let newer_than = Version(0);
        let inline_bytes_max = SMALL_BYTES_MAX;
        let request = Request::Get {
            key: key.clone(),
            offset,
            len,
            newer_than,
            inline_bytes_max,
            delivery: Delivery::Inline,
        };
        found(key, self.pool.single(request).await?)
    }

    /// Answers for many keys in few round trips, in the order of the keys. Not atomic.
    pub async fn get_many(&self, keys: &[Key]) -> Vec<Result<Object>> {
        let requests = keys.iter().map(|key| get(key, Version(0))).collect();
        let replies = self.pool.call_many(requests).await;
        keys.iter().zip(replies).map(|(key, reply)| found(key, reply?)).collect()
    }

    /// Several ranges of one value in few round trips, in their order; each as
    /// [`Client::get_range`]. Not atomic: the versions say whether they are of one value.
    pub async fn get_ranges(&self, key: &Key, ranges: &[Range<u64>]) -> Vec<Result<Object>> {
        let range = |range: &Range<u64>| {
            let (offset, len) = (range.start, range.end.saturating_sub(range.start));
            let (newer_than, inline_bytes_max) = (Version(0), SMALL_BYTES_MAX);
            Request::Get {
                key: key.clone(),
                offset,
                len,
                newer_than,
                inline_bytes_max,
                delivery: Delivery::Inline,
            }
        };
        let replies = self.pool.call_many(ranges.iter().map(range).collect()).await;
        replies.into_iter().map(|reply| found(key, reply?)).collect()
    }

    /// Stores a value, replacing whatever is there, and returns its version.
    /// [`Kind::OutOfMemory`] when the node has no room, [`Kind::TooLarge`] above 1 GiB
    /// or the node's own limit.
    pub async fn put(&self, key: &Key, value: impl Into<Bytes>) -> Result<Version> {
        self.put_with(key, value, PutOptions::default()).await
    }

    /// Stores a value under conditions. [`Kind::WrongVersion`] when they do not hold.
    pub async fn put_with(
        &self,
        key: &Key,
        value: impl Into<Bytes>,
        options: PutOptions,
    ) -> Result<Version> {
        let request = put(key, value.into(), options)?;
        match self.pool.single(request).await? {
            Reply::Written { version } => Ok(version),
            _ => Err(unexpected(key)),
        }
    }

    /// Stores many values in few round trips; an answer for each, in order. Not atomic.
    pub async fn put_many(&self, objects: Vec<(Key, Bytes)>) -> Vec<Result<Version>> {
        let mut requests = Vec::with_capacity(objects.len());
        for (key, value) in &objects {
            match put(key, value.clone(), PutOptions::default()) {
                Ok(request) => requests.push(request),
                // Nothing is sent when one of them never could be.
                Err(error) => {
                    let text = error.to_string();
                    let fail = |_| Err(Error::new(Kind::TooLarge, text.clone()));
                    return objects.iter().map(fail).collect();
                }
            }
        }
        let replies = self.pool.call_many(requests).await;
        let versions = objects.iter().zip(replies).map(|((key, _), reply)| match reply? {
            Reply::Written { version } => Ok(version),
            _ => Err(unexpected(key)),
        });
        versions.collect()
    }

    /// Removes the object, or the queue with its items. [`Kind::NotFound`] when there is none.
    pub async fn delete(&self, key: &Key) -> Result<()> {
        self.delete_with(key, Condition::Always).await
    }

    /// Removes the object under a condition. [`Kind::WrongVersion`] when it does not hold.
    pub async fn delete_with(&self, key: &Key, condition: Condition) -> Result<()> {
        let write = Write::default();
        let request = Request::Delete { key: key.clone(), write, condition };
        self.pool.single(request).await.map(|_| ())
    }

    /// Removes many objects in few round trips; an answer for each, in order. Not atomic.
    pub async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let condition = Condition::Always;
        let delete =
            |key: &Key| Request::Delete { key: key.clone(), write: Write::default(), condition };
        let replies = self.pool.call_many(keys.iter().map(delete).collect()).await;
        replies.into_iter().map(|reply| reply.map(|_| ())).collect()
    }

    /// Version and size. [`Kind::NotFound`] when there is no object.
    pub async fn stat(&self, key: &Key) -> Result<Stat> {
        stat(key, self.pool.single(Request::Stat { key: key.clone() }).await?)
    }

    /// Waits until the object has a larger version than `newer_than` (0: until there is one).
    /// [`Kind::Timeout`] when that has not happened within `patience`.
    pub async fn wait(&self, key: &Key, newer_than: Version, patience: Duration) -> Result<Stat> {
        let began = Instant::now();
        loop {
            // In rounds: what a caller has left behind does not occupy the node for long, and a
            // node that is gone is noticed.
            let round = patience.saturating_sub(began.elapsed()).min(WAIT_ROUND);
            let timeout_ms = u32::try_from(round.as_millis()).unwrap_or(u32::MAX);
            let mut request = Request::Wait { key: key.clone(), newer_than, timeout_ms };
            let limit = round.saturating_add(self.pool.options.request_timeout);
            let target = Target::Slot(key.slot());
            let answer = self.pool.call_within(target, &mut request, Lane::Small, limit).await?;
            let is_over = began.elapsed() >= patience;
            match answer.reply {
                Reply::Failed(fault) if fault.kind == Kind::Timeout && !is_over => {}
                reply => return stat(key, reply),
            }
        }
    }

    /// Adds to an integer (ASCII text, i64; absent counts as 0) and returns the sum.
    /// [`Kind::WrongType`] when the object is none, [`Kind::TooLarge`] on overflow.
    pub async fn add(&self, key: &Key, delta: i64) -> Result<i64> {
        let request = Request::Add { key: key.clone(), write: Write::default(), delta };
        match self.pool.single(request).await? {
            Reply::Added { value, .. } => Ok(value),
            _ => Err(unexpected(key)),
        }
    }

    /// Appends to a queue and returns how many items it holds. While it would hold more than
    /// `queue_bytes_max` bytes the push tries again, at least twice a second: the protocol has no
    /// signal for a queue that has room again. [`Kind::Timeout`] when that lasts too long. An empty queue takes an item of any size.
    pub async fn push(
        &self,
        key: &Key,
        value: impl Into<Bytes>,
        queue_bytes_max: u64,
    ) -> Result<u64> {
        match self.pool.single(push(key, value.into(), queue_bytes_max)?).await? {
            Reply::Pushed { items, .. } => Ok(items),
            _ => Err(unexpected(key)),
        }
    }

    /// Takes the first item of a queue. [`Kind::NotFound`] when it is empty.
    pub async fn pop(&self, key: &Key) -> Result<Bytes> {
        let request = Request::Pop { key: key.clone(), write: Write::default() };
        match self.pool.single(request).await? {
            Reply::Popped { value, .. } => Ok(value),
            _ => Err(unexpected(key)),
        }
    }

    /// Closes the client and its clones, and returns when their connections have ended. Operations
    /// in flight and later ones fail with [`Kind::Closed`], or [`Kind::Unknown`] for a write that
    /// was sent.
    ///
    /// Waits before for what caches over this client had accepted to write when they were dropped
    /// ([`Cache::put_back`](crate::cache::Cache::put_back)), and answers with what of it could not be
    /// written. Without such caches the answer is empty.
    pub async fn close(&self) -> Vec<Unwritten> {
        let unwritten = self.pool.left.finish().await;
        self.pool.close().await;
        unwritten
    }

    /// Keeps writes that go on until [`Client::close`], which reports those that fail.
    pub(crate) fn adopt(&self, writes: BoxFuture<'static, Vec<Unwritten>>) {
        self.pool.left.add(writes);
    }
}

fn get(key: &Key, newer_than: Version) -> Request {
    let (offset, len, inline_bytes_max) = (0, u64::MAX, SMALL_BYTES_MAX);
    Request::Get {
        key: key.clone(),
        offset,
        len,
        newer_than,
        inline_bytes_max,
        delivery: Delivery::Inline,
    }
}

fn push(key: &Key, value: Bytes, queue_bytes_max: u64) -> Result<Request> {
    let sums = sums(key, &value)?;
    let (key, write) = (key.clone(), Write::default());
    Ok(Request::Push { key, write, queue_bytes_max, value, sums })
}

/// The value's checksums, if it is short enough to travel. Those of a large one are made on its way.
fn sums(key: &Key, value: &Bytes) -> Result<Sums> {
    payload_len(key, value.len() as u64)?;
    Ok(if value.len() > COPIED_BYTES_MAX { Sums::default() } else { Sums::of(0, value) })
}

/// The length of a value, if it is short enough to travel.
fn payload_len(key: &Key, len: u64) -> Result<u32> {
    let max = crate::wire::VALUE_BYTES_MAX;
    let fits = u32::try_from(len).ok().filter(|len| *len <= max);
    fits.ok_or_else(|| {
        let text = format!("the value of {key:?} has {len} bytes; the limit is {max}");
        Error::new(Kind::TooLarge, text).with_detail(u64::from(max))
    })
}

fn put(key: &Key, value: Bytes, options: PutOptions) -> Result<Request> {
    let sums = sums(key, &value)?;
    let PutOptions { condition, expires_at } = options;
    let expires_at = expires_at.unwrap_or(NEVER);
    let (key, write) = (key.clone(), Write::default());
    Ok(Request::Put { key, write, condition, expires_at, value, sums })
}

/// The object that a get brought.
fn found(key: &Key, reply: Reply) -> Result<Object> {
    object(key, reply)?.ok_or_else(|| unexpected(key))
}

fn object(key: &Key, reply: Reply) -> Result<Option<Object>> {
    match reply {
        Reply::Value { version, expires_at, modified_at, value, .. } => {
            let expires_at = (expires_at != NEVER).then_some(expires_at);
            let modified_at = (modified_at != UNSAID).then_some(modified_at);
            Ok(Some(Object { value, version, expires_at, modified_at }))
        }
        Reply::NotModified { .. } => Ok(None),
        _ => Err(unexpected(key)),
    }
}

fn stat(key: &Key, reply: Reply) -> Result<Stat> {
    match reply {
        Reply::Stat { version, size, expires_at, modified_at, .. } => {
            let expires_at = (expires_at != NEVER).then_some(expires_at);
            let modified_at = (modified_at != UNSAID).then_some(modified_at);
            Ok(Stat { version, size, expires_at, modified_at })
        }
        Reply::Failed(fault) => Err(Request::Stat { key: key.clone() }.fault(fault)),
        _ => Err(unexpected(key)),
    }
}

fn unexpected(key: &Key) -> Error {
    Error::new(Kind::Protocol, format!("the request for {key:?} was answered with another kind"))
}
