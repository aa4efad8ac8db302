//! How a cache writes: through to the source, or later.
//!
//! Owns the operations that write, and the tasks that write what was accepted. Knows nothing of
//! policies. Invariants: what was accepted is what gets answer with until it is at the source; a
//! write is kept only if no other of its key was under way at any time of it, since only then it is
//! known which of them the source has.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::Cache;
use super::desk::State;
use super::dirty::{FlushError, Offer, Progress, Writer};
use super::fetch::Shared;
use super::shelf::Arrival;
use super::source::{Sink, Source};
use crate::error::{Error, Result};
use crate::key::{Key, Version};
use crate::object::Object;

/// The version of a value that has none yet.
pub(super) const ACCEPTED: Version = Version(0);

impl<S: Sink> Cache<S> {
    /// Writes through: to the source first, then here.
    ///
    /// Dropping the future, or an error, leaves it open whether the source has the value, as it
    /// does without a cache; nothing is held here then.
    pub async fn put(&self, key: &Key, value: Bytes) -> Result<Version> {
        let shared = &self.owner.shared;
        let (under_way, sent_at) = (self.begin(key).await?, Instant::now());
        match shared.source.put(key, value.clone()).await {
            Ok(version) => {
                under_way.keep(of(value, version), sent_at);
                Ok(version)
            }
            Err(error) => {
                under_way.forget();
                Err(error)
            }
        }
    }

    /// Deletes at the source, and lets go of the object here.
    pub async fn delete(&self, key: &Key) -> Result<()> {
        self.write_with(key, self.source().delete(key)).await
    }

    /// Runs a write of the source's own that changes the object of `key`: one with a condition, an
    /// addition, a push to a queue. What was accepted of the key is at the source before; nothing of
    /// it is held here after.
    ///
    /// ```no_run
    /// # use cirrus_store::{Client, Condition, Key, Result, cache::Cache};
    /// # async fn add(cache: Cache<Client>, key: Key) -> Result<()> {
    /// let sum = cache.write_with(&key, cache.source().add(&key, 1)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn write_with<T>(
        &self,
        key: &Key,
        write: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let under_way = self.begin(key).await?;
        let outcome = write.await;
        under_way.forget();
        outcome
    }

    /// Accepts a value, which the cache writes to the source soon; a later value of the same key
    /// may go in its stead. Gets answer with it from now on, with version 0 until it is written.
    ///
    /// It is safe once [`Cache::flush`] has returned: until then it is lost with the process, and
    /// other clients of the source do not see it. Waits, in turn, while what was accepted takes
    /// [`CacheOptions::dirty_size`](super::CacheOptions::dirty_size); a value that has no room
    /// there at all is written through. An error after writes have failed: [`Cache::flush`] hands
    /// those back. Dropping the future leaves the value not accepted, unless it has returned.
    pub async fn put_back(&self, key: &Key, value: Bytes) -> Result<()> {
        let shared = &self.owner.shared;
        if shared.dirty.is_too_large(key, &value) {
            return self.put(key, value).await.map(drop);
        }
        shared.adopt.get_or_init(|| S::adopt);
        // So that closing waits for the writer.
        let _token = shared.tasks.token();
        let _turn = shared.dirty.turn.acquire().await;
        loop {
            let changed = shared.dirty.changed.notified();
            match shared.offer(key, &value) {
                Offer::Accepted { writer, .. } => {
                    writer.into_iter().for_each(|writer| shared.write_behind(writer));
                    return Ok(());
                }
                Offer::Full => changed.await,
                Offer::Refused(error) => return Err(error),
            }
        }
    }

    /// Waits until everything that was accepted before is at the source, and tries again what has
    /// failed. What fails again is handed back, once: the cache forgets it.
    pub async fn flush(&self) -> std::result::Result<(), FlushError> {
        let shared = &self.owner.shared;
        let _token = shared.tasks.token();
        let (writers, flush) = shared.dirty.retry();
        writers.into_iter().for_each(|writer| shared.write_behind(writer));
        let hand_back = || {
            shared.desk.with(|state| {
                let error = shared.dirty.hand_back(&flush)?;
                for unwritten in &error.unwritten {
                    state.writes.end(&unwritten.key);
                }
                Some(error)
            })
        };
        let error = shared.dirty.wait(hand_back).await;
        if error.unwritten.is_empty() && error.elsewhere == 0 { Ok(()) } else { Err(error) }
    }
}

impl<S: Source> Cache<S> {
    /// A write of the key, when nothing that was accepted of it is left to write.
    async fn begin<'a>(&'a self, key: &'a Key) -> Result<UnderWay<'a, S>> {
        loop {
            self.settle(key).await?;
            if let Some(under_way) = UnderWay::begin(&self.owner.shared, key) {
                return Ok(under_way);
            }
        }
    }

    /// Waits until nothing that was accepted of the key is left to write.
    pub(super) async fn settle(&self, key: &Key) -> Result<()> {
        let dirty = &self.owner.shared.dirty;
        loop {
            let changed = dirty.changed.notified();
            match dirty.progress(key) {
                Progress::Written => return Ok(()),
                Progress::Open => changed.await,
                Progress::Failed(kind) => {
                    let text = "a value that was accepted before could not be written; flush tries \
                                it again, and hands it back if that fails";
                    return Err(Error::new(kind, format!("{key:?}: {text}")));
                }
            }
        }
    }
}

impl<S: Source> Shared<S> {
    /// What was accepted of the key and is not at the source.
    pub(super) fn accepted(&self, state: &mut State, key: &Key) -> Option<Object> {
        let value = self.dirty.value(key)?;
        state.shelf.counters.hits += 1;
        Some(of(value, ACCEPTED))
    }

    /// Offers a value to be written later.
    fn offer(&self, key: &Key, value: &Bytes) -> Offer {
        let hash = self.desk.table.hash(key);
        self.desk.with(|state| {
            let offer = self.dirty.offer(key, value);
            if let Offer::Accepted { is_first, .. } = offer {
                // From here on gets find what was accepted and nothing else.
                state.flights.overtake(key);
                if is_first {
                    state.writes.begin(key);
                }
                state.shelf.forget(hash, key);
            }
            offer
        })
    }
}

impl<S: Sink> Shared<S> {
    fn write_behind(self: &Arc<Self>, mut writer: Writer) {
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            while let Some((key, value)) = writer.next() {
                shared.until_alone(&key).await;
                let sent_at = Instant::now();
                let outcome = shared.source.put(&key, value.clone()).await;
                shared.wrote(&mut writer, (&key, value), sent_at, outcome);
                shared.dirty.changed.notify_waiters();
            }
        });
    }

    /// Waits for the writes that were under way when a value was accepted: what was accepted is
    /// later, so that gets which it has answered stay right. No others begin meanwhile.
    async fn until_alone(&self, key: &Key) {
        loop {
            let changed = self.dirty.changed.notified();
            if self.desk.lock().writes.is_alone(key) {
                return;
            }
            changed.await;
        }
    }

    fn wrote(
        &self,
        writer: &mut Writer,
        (key, value): (&Key, Bytes),
        sent_at: Instant,
        outcome: Result<Version>,
    ) {
        let version = match outcome {
            Ok(version) => version,
            Err(error) => return writer.failed(error),
        };
        let object = self.detached(key, of(value, version));
        self.desk.with(|state| {
            if writer.stored() {
                self.end(state, key, Some((object, sent_at)));
            }
        });
    }
}

impl<S: Source> Shared<S> {
    /// A write has ended; keeps what it wrote, if that is known and no other write may have come
    /// after it.
    fn end(&self, state: &mut State, key: &Key, wrote: Option<(Object, Instant)>) {
        let hash = self.desk.table.hash(key);
        // A flight that was sent before the write ended may bring what was there before.
        state.flights.overtake(key);
        let is_alone = state.writes.end(key);
        match wrote.filter(|_| is_alone) {
            Some((object, checked_at)) => {
                let key = key.clone();
                state.shelf.insert(Arrival { key, hash, object, checked_at, guess: false });
            }
            None => state.shelf.forget(hash, key),
        }
    }
}

/// A write on its way to the source.
struct UnderWay<'a, S: Source> {
    shared: &'a Shared<S>,
    key: &'a Key,
    is_over: bool,
}

impl<'a, S: Source> UnderWay<'a, S> {
    /// `None` when a value of the key was accepted meanwhile.
    fn begin(shared: &'a Shared<S>, key: &'a Key) -> Option<Self> {
        let hash = shared.desk.table.hash(key);
        shared.desk.with(|state| {
            // Values are accepted at the desk, too: none comes between.
            if shared.dirty.contains(key) {
                return None;
            }
            // What is in flight is overtaken when the write ends, and not kept before.
            state.writes.begin(key);
            state.shelf.forget(hash, key);
            Some(Self { shared, key, is_over: false })
        })
    }

    fn keep(self, object: Object, sent_at: Instant) {
        let object = self.shared.detached(self.key, object);
        self.end(Some((object, sent_at)));
    }

    fn forget(self) {
        self.end(None);
    }

    fn end(mut self, wrote: Option<(Object, Instant)>) {
        self.is_over = true;
        self.shared.desk.with(|state| self.shared.end(state, self.key, wrote));
        self.shared.dirty.changed.notify_waiters();
    }
}

impl<S: Source> Drop for UnderWay<'_, S> {
    /// It failed, or its future was dropped.
    fn drop(&mut self) {
        if !self.is_over {
            // No policy is called here, since it may be one that has just panicked.
            let mut state = self.shared.desk.lock();
            state.writes.end(self.key);
            state.flights.overtake(self.key);
            drop(state);
            self.shared.dirty.changed.notify_waiters();
        }
    }
}

fn of(value: Bytes, version: Version) -> Object {
    Object { value, version, expires_at: None, modified_at: None }
}

/// The writes that are under way, by key.
#[derive(Debug, Default)]
pub(super) struct Writes {
    table: HashMap<Key, Crowd, foldhash::fast::RandomState>,
}

#[derive(Debug, Default)]
struct Crowd {
    writes: usize,
    /// Since the first of them began there was never one alone.
    have_met: bool,
}

impl Writes {
    fn begin(&mut self, key: &Key) {
        let crowd = self.table.entry(key.clone()).or_default();
        crowd.have_met |= crowd.writes > 0;
        crowd.writes += 1;
    }

    pub(super) fn are_under_way(&self, key: &Key) -> bool {
        self.table.contains_key(key)
    }

    /// Whether no more than one is under way.
    fn is_alone(&self, key: &Key) -> bool {
        self.table.get(key).is_none_or(|crowd| crowd.writes <= 1)
    }

    /// Whether it has met no other.
    fn end(&mut self, key: &Key) -> bool {
        let Some(crowd) = self.table.get_mut(key) else { return false };
        crowd.writes -= 1;
        let is_alone = !crowd.have_met;
        if crowd.writes == 0 {
            self.table.remove(key);
        }
        is_alone
    }
}
