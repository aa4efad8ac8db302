//! Where a cache or an iterator gets its objects from, and where a cache puts them.
//!
//! Owns [`Source`] and [`Sink`], the only things that the cache knows about the rest of the store.
//! Invariant: a source answers with the object as it was at some moment during the call.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};

use super::Cache;
use super::range::part;
use super::write::ACCEPTED;
use crate::client::{Client, Unwritten};
use crate::error::{Error, Result};
use crate::key::{Key, Version};
use crate::object::Object;

/// Gets that [`Source::get_many`] has in flight unless a source does better.
const GETS_IN_FLIGHT_MAX: usize = 64;

/// Something that objects can be got from.
///
/// A value should own its bytes alone: a small slice of a large buffer keeps all of the buffer
/// alive for as long as a cache holds the slice, and the cache counts only the slice.
pub trait Source: Send + Sync + 'static {
    /// The object, or [`Kind::NotFound`](crate::Kind::NotFound).
    fn get(&self, key: &Key) -> impl Future<Output = Result<Object>> + Send;

    /// The object if its version is larger than `version`, `None` if it is not;
    /// [`Kind::NotFound`](crate::Kind::NotFound) when there is none.
    fn get_if_newer(
        &self,
        key: &Key,
        version: Version,
    ) -> impl Future<Output = Result<Option<Object>>> + Send;

    /// Bytes `[offset, offset + len)` of the value, as far as it goes.
    fn get_range(
        &self,
        key: &Key,
        offset: u64,
        len: u64,
    ) -> impl Future<Output = Result<Object>> + Send {
        async move { Ok(part(self.get(key).await?, offset, len)) }
    }

    /// An answer for each key, in their order. Not atomic.
    fn get_many(&self, keys: &[Key]) -> impl Future<Output = Vec<Result<Object>>> + Send {
        async move {
            let mut answers = Vec::with_capacity(keys.len());
            for some in keys.chunks(GETS_IN_FLIGHT_MAX) {
                answers.extend(join_all(some.iter().map(|key| self.get(key))).await);
            }
            answers
        }
    }
}

/// A [`Source`] that can be written to.
pub trait Sink: Source {
    /// Writes `value` and answers with its version.
    fn put(&self, key: &Key, value: Bytes) -> impl Future<Output = Result<Version>> + Send;

    /// Deletes the object.
    fn delete(&self, key: &Key) -> impl Future<Output = Result<()>> + Send;

    /// A cache was dropped whose accepted writes are under way, by tasks of their own. `writes` ends
    /// when they do, and says which failed: the sink keeps it and reports that, since nobody else can.
    fn adopt(&self, writes: BoxFuture<'static, Vec<Unwritten>>);
}

#[deny(clippy::missing_trait_methods, reason = "a wrapper forwards everything")]
impl Source for Client {
    fn get(&self, key: &Key) -> impl Future<Output = Result<Object>> + Send {
        Client::get(self, key)
    }

    fn get_if_newer(
        &self,
        key: &Key,
        version: Version,
    ) -> impl Future<Output = Result<Option<Object>>> + Send {
        Client::get_if_newer(self, key, version)
    }

    fn get_range(
        &self,
        key: &Key,
        offset: u64,
        len: u64,
    ) -> impl Future<Output = Result<Object>> + Send {
        Client::get_range(self, key, offset, len)
    }

    fn get_many(&self, keys: &[Key]) -> impl Future<Output = Vec<Result<Object>>> + Send {
        Client::get_many(self, keys)
    }
}

#[deny(clippy::missing_trait_methods, reason = "a wrapper forwards everything")]
impl Sink for Client {
    fn put(&self, key: &Key, value: Bytes) -> impl Future<Output = Result<Version>> + Send {
        Client::put(self, key, value)
    }

    fn delete(&self, key: &Key) -> impl Future<Output = Result<()>> + Send {
        Client::delete(self, key)
    }

    fn adopt(&self, writes: BoxFuture<'static, Vec<Unwritten>>) {
        Client::adopt(self, writes);
    }
}

#[deny(clippy::missing_trait_methods, reason = "a wrapper forwards everything")]
impl<S: Source> Source for Arc<S> {
    fn get(&self, key: &Key) -> impl Future<Output = Result<Object>> + Send {
        (**self).get(key)
    }

    fn get_if_newer(
        &self,
        key: &Key,
        version: Version,
    ) -> impl Future<Output = Result<Option<Object>>> + Send {
        (**self).get_if_newer(key, version)
    }

    fn get_range(
        &self,
        key: &Key,
        offset: u64,
        len: u64,
    ) -> impl Future<Output = Result<Object>> + Send {
        (**self).get_range(key, offset, len)
    }

    fn get_many(&self, keys: &[Key]) -> impl Future<Output = Vec<Result<Object>>> + Send {
        (**self).get_many(keys)
    }
}

#[deny(clippy::missing_trait_methods, reason = "a wrapper forwards everything")]
impl<S: Sink> Sink for Arc<S> {
    fn put(&self, key: &Key, value: Bytes) -> impl Future<Output = Result<Version>> + Send {
        (**self).put(key, value)
    }

    fn delete(&self, key: &Key) -> impl Future<Output = Result<()>> + Send {
        (**self).delete(key)
    }

    fn adopt(&self, writes: BoxFuture<'static, Vec<Unwritten>>) {
        (**self).adopt(writes);
    }
}

#[deny(clippy::missing_trait_methods, reason = "a wrapper forwards everything")]
impl<S: Source> Source for Cache<S> {
    async fn get(&self, key: &Key) -> Result<Object> {
        loop {
            let object = Cache::get(self, key).await?;
            // A value that has no version yet could not be told from an older one.
            if object.version != ACCEPTED {
                return Ok(object);
            }
            self.settle(key).await?;
        }
    }

    async fn get_if_newer(&self, key: &Key, version: Version) -> Result<Option<Object>> {
        let object = Source::get(self, key).await?;
        Ok((object.version > version).then_some(object))
    }

    async fn get_range(&self, key: &Key, offset: u64, len: u64) -> Result<Object> {
        loop {
            let object = Cache::get_range(self, key, offset, len).await?;
            if object.version != ACCEPTED {
                return Ok(object);
            }
            self.settle(key).await?;
        }
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Object>> {
        let mut answers = Cache::get_many(self, keys).await;
        for (key, answer) in keys.iter().zip(&mut answers) {
            if answer.as_ref().is_ok_and(|object| object.version == ACCEPTED) {
                *answer = Source::get(self, key).await;
            }
        }
        answers
    }
}

#[deny(clippy::missing_trait_methods, reason = "a wrapper forwards everything")]
impl<S: Sink> Sink for Cache<S> {
    fn put(&self, key: &Key, value: Bytes) -> impl Future<Output = Result<Version>> + Send {
        Cache::put(self, key, value)
    }

    fn delete(&self, key: &Key) -> impl Future<Output = Result<()>> + Send {
        Cache::delete(self, key)
    }

    fn adopt(&self, writes: BoxFuture<'static, Vec<Unwritten>>) {
        self.source().adopt(writes);
    }
}

/// `error` for one of several callers that wait for the same answer: an [`Error`] has one owner.
pub(super) fn for_one_of_many(key: &Key, error: Arc<Error>) -> Error {
    Arc::try_unwrap(error).unwrap_or_else(|error| {
        Error::new(error.kind(), format!("the shared fetch of {key:?} failed"))
            .with_detail(error.detail())
            .with_source(error)
    })
}
