//! A source for tests: a map that takes its time.
//!
//! Owns [`MapSource`]; knows nothing of caches.
//! Invariant: an answer is read from the map before the latency passes, as from a real node.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::{Sink, Source};
use crate::client::Unwritten;
use crate::error::{Error, Kind, Result};
use crate::key::{Key, Version};
use crate::object::Object;

type Latency = Box<dyn Fn(&Key) -> Duration + Send + Sync>;

#[derive(Default)]
pub(crate) struct MapSource {
    objects: Mutex<HashMap<Key, Object>>,
    versions: AtomicU64,
    latency: Option<Latency>,
    /// Keys that cannot be put.
    refused: Mutex<HashSet<Key>>,
    adopted: Mutex<Vec<BoxFuture<'static, Vec<Unwritten>>>>,
    puts: AtomicU64,
    failures_left: AtomicU64,
    gets: AtomicU64,
    checks: AtomicU64,
    batches: Mutex<Vec<usize>>,
    in_flight: AtomicU64,
    in_flight_max: AtomicU64,
}

impl fmt::Debug for MapSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapSource").finish_non_exhaustive()
    }
}

impl MapSource {
    pub(crate) fn with_latency(latency: impl Fn(&Key) -> Duration + Send + Sync + 'static) -> Self {
        Self { latency: Some(Box::new(latency)), ..Self::default() }
    }

    /// From now on puts of the key fail and change nothing, or are carried out again.
    pub(crate) fn refuse(&self, key: &Key, is_refused: bool) {
        match is_refused {
            true => self.refused.lock().insert(key.clone()),
            false => self.refused.lock().remove(key),
        };
    }

    pub(crate) fn refuses(&self, key: &Key) -> bool {
        self.refused.lock().contains(key)
    }

    /// What caches have left behind since the last call, once it is over.
    pub(crate) async fn unwritten(&self) -> Vec<Unwritten> {
        let adopted = std::mem::take(&mut *self.adopted.lock());
        futures_util::future::join_all(adopted).await.into_iter().flatten().collect()
    }

    /// Puts that were carried out or refused.
    pub(crate) fn puts(&self) -> u64 {
        self.puts.load(SeqCst)
    }

    pub(crate) fn write(&self, key: &Key, value: impl Into<Bytes>) -> Version {
        let version = Version(self.versions.fetch_add(1, SeqCst) + 1);
        let object = Object { value: value.into(), version, expires_at: None, modified_at: None };
        self.objects.lock().insert(key.clone(), object);
        version
    }

    pub(crate) fn write_expired(&self, key: &Key, value: impl Into<Bytes>) {
        self.write(key, value);
        if let Some(object) = self.objects.lock().get_mut(key) {
            object.expires_at = Some(1);
        }
    }

    pub(crate) fn erase(&self, key: &Key) {
        self.objects.lock().remove(key);
    }

    pub(crate) fn current(&self, key: &Key) -> Option<Object> {
        self.objects.lock().get(key).cloned()
    }

    pub(crate) fn fail_next(&self, count: u64) {
        self.failures_left.store(count, SeqCst);
    }

    /// Whole objects asked for.
    pub(crate) fn gets(&self) -> u64 {
        self.gets.load(SeqCst)
    }

    /// Version checks.
    pub(crate) fn checks(&self) -> u64 {
        self.checks.load(SeqCst)
    }

    /// The lengths of batches that were asked for.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.batches.lock().clone()
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(SeqCst)
    }

    pub(crate) fn in_flight_max(&self) -> u64 {
        self.in_flight_max.load(SeqCst)
    }

    async fn answer(&self, key: &Key) -> Result<Object> {
        let _flight = Flight::start(self);
        let failures = self.failures_left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        let answer = match failures {
            Ok(_) => Err(Error::new(Kind::Timeout, "the test says so").with_detail(7)),
            Err(_) => self.current(key).ok_or_else(|| Error::new(Kind::NotFound, "absent")),
        };
        self.take_time(key, 1).await;
        answer
    }

    /// The latency, or one of several parts of it.
    async fn take_time(&self, key: &Key, parts: u32) {
        if let Some(latency) = &self.latency {
            tokio::time::sleep(latency(key) / parts).await;
        }
    }
}

/// A request that somebody waits for.
struct Flight<'a>(&'a MapSource);

impl<'a> Flight<'a> {
    fn start(source: &'a MapSource) -> Self {
        let now = source.in_flight.fetch_add(1, SeqCst) + 1;
        source.in_flight_max.fetch_max(now, SeqCst);
        Self(source)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
    }
}

impl Source for MapSource {
    async fn get(&self, key: &Key) -> Result<Object> {
        self.gets.fetch_add(1, SeqCst);
        self.answer(key).await
    }

    async fn get_if_newer(&self, key: &Key, version: Version) -> Result<Option<Object>> {
        self.checks.fetch_add(1, SeqCst);
        let object = self.answer(key).await?;
        Ok((object.version > version).then_some(object))
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Object>> {
        self.batches.lock().push(keys.len());
        futures_util::future::join_all(keys.iter().map(|key| self.answer(key))).await
    }
}

impl Sink for MapSource {
    async fn put(&self, key: &Key, value: Bytes) -> Result<Version> {
        let _flight = Flight::start(self);
        self.take_time(key, 2).await;
        self.puts.fetch_add(1, SeqCst);
        let outcome = match self.refuses(key) {
            true => Err(Error::new(Kind::OutOfMemory, format!("{key:?} is refused"))),
            false => Ok(self.write(key, value)),
        };
        self.take_time(key, 2).await;
        outcome
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.erase(key);
        Ok(())
    }

    fn adopt(&self, writes: BoxFuture<'static, Vec<Unwritten>>) {
        self.adopted.lock().push(writes);
    }
}
