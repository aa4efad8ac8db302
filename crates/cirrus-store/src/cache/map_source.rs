//! A source for tests: a map that takes its time.
//!
//! Owns [`MapSource`]; knows nothing of caches.
//! Invariant: an answer is read from the map before the latency passes, as from a real node.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Sink, Source};
use crate::error::{Error, Kind, Result};
use crate::key::{Key, Version};
use crate::object::Object;

#[derive(Debug, Default)]
pub(crate) struct MapSource {
    objects: Mutex<HashMap<Key, Object>>,
    versions: AtomicU64,
    latency: Option<fn(&Key) -> Duration>,
    failures_left: AtomicU64,
    gets: AtomicU64,
    checks: AtomicU64,
    in_flight: AtomicU64,
    in_flight_max: AtomicU64,
}

impl MapSource {
    pub(crate) fn with_latency(latency: fn(&Key) -> Duration) -> Self {
        Self { latency: Some(latency), ..Self::default() }
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

    pub(crate) fn in_flight_max(&self) -> u64 {
        self.in_flight_max.load(SeqCst)
    }

    async fn answer(&self, key: &Key) -> Result<Object> {
        let now = self.in_flight.fetch_add(1, SeqCst) + 1;
        self.in_flight_max.fetch_max(now, SeqCst);
        let failures = self.failures_left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        let answer = match failures {
            Ok(_) => Err(Error::new(Kind::Timeout, "the test says so").with_detail(7)),
            Err(_) => self.current(key).ok_or_else(|| Error::new(Kind::NotFound, "absent")),
        };
        if let Some(latency) = self.latency {
            tokio::time::sleep(latency(key)).await;
        }
        self.in_flight.fetch_sub(1, SeqCst);
        answer
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
}

impl Sink for MapSource {
    async fn put(&self, key: &Key, value: Bytes) -> Result<Version> {
        let version = self.write(key, value);
        self.answer(key).await?;
        Ok(version)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.erase(key);
        Ok(())
    }
}
