//! Parts of objects.
//!
//! Owns [`Cache::get_range`]. Knows nothing of policies.
//! Invariant: a range never brings an object into the cache, nor keeps one from leaving by its size.

use std::sync::Arc;

use super::Cache;
use super::fetch::{Shared, closed};
use super::source::Source;
use crate::error::Result;
use crate::key::Key;
use crate::object::Object;

impl<S: Source> Cache<S> {
    /// Bytes `[offset, offset + len)` of the value, as far as it goes.
    ///
    /// Of an object that is held, or on its way, it is a part of what [`Cache::get`] answers: no
    /// copy. Any other range comes from the source alone and is not kept; it counts as a miss, and as
    /// one of [`CacheOptions::fetches_max`](super::CacheOptions::fetches_max) while it is on its way.
    /// Dropping the future abandons it.
    pub async fn get_range(&self, key: &Key, offset: u64, len: u64) -> Result<Object> {
        if let Some(object) = self.try_get(key) {
            return Ok(part(object, offset, len));
        }
        let shared = &self.owner.shared;
        if shared.is_here(key) {
            return Ok(part(self.get(key).await?, offset, len));
        }
        let permit = Arc::clone(&shared.fetches).acquire_owned().await;
        let _permit = permit.map_err(|_| closed(key))?;
        shared.desk.with(|state| state.shelf.counters.fetches += 1);
        let answer = tokio::select! {
            () = shared.closing.cancelled() => Err(closed(key)),
            answer = shared.source.get_range(key, offset, len) => answer,
        };
        shared.desk.with(|state| state.shelf.counters.misses += 1);
        answer
    }
}

impl<S: Source> Shared<S> {
    /// Whether a get would have less to do than to fetch.
    fn is_here(&self, key: &Key) -> bool {
        let hash = self.desk.table.hash(key);
        self.dirty.contains(key)
            || self
                .desk
                .with(|state| state.flights.contains(key) || self.desk.table.contains(hash, key))
    }
}

/// The bytes `[offset, offset + len)` of the object, as far as it goes.
pub(super) fn part(object: Object, offset: u64, len: u64) -> Object {
    let size = object.value.len();
    let at = |number: u64| usize::try_from(number).map_or(size, |number| number.min(size));
    let (from, to) = (at(offset), at(offset.saturating_add(len)));
    Object { value: object.value.slice(from..to), ..object }
}
