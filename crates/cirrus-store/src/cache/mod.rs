//! Holds objects near the caller.
//!
//! Owns [`Cache`]. Where objects come from is a [`Source`]'s business, what leaves first an
//! [`Evict`]'s, what is fetched early a [`Prefetch`]'s.
//! Invariant: what is held, overhead included, never exceeds the capacity.
//!
//! A hit hashes the key, takes the lock of one of many shards, probes its table once, counts one
//! reference and leaves a note of 8 bytes in a ring of its thread: no allocation, no copy, no
//! task, no await, no lock that all share. Every 64th hit of a thread, and every miss, tells the
//! policy what is noted. (Time-to-live and objects that expire read the clock. With version checks a
//! hit takes the one lock of the desk, at once; with a prefetch policy as often as that has to hear
//! of hits to be in time, every 64th where they come fast.) A miss adds one task.

use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::ByteSize;
use crate::error::Result;
use crate::key::Key;
use crate::object::Object;

mod batch;
mod chain;
mod counters;
mod desk;
mod dirty;
pub mod evict;
mod fetch;
mod flight;
mod foresight;
mod freshness;
mod guess;
mod hits;
#[cfg(test)]
pub(crate) mod map_source;
pub(crate) mod pace;
pub mod prefetch;
mod range;
mod shadow;
mod shelf;
mod source;
mod sync;
mod table;
#[cfg(test)]
mod tests;
mod threads;
mod write;

pub use counters::{Counters, PolicyCounters};
pub use dirty::FlushError;
pub use evict::{Entry, Evict, Hits, Place};
pub use foresight::{Foresight, Trace};
pub use freshness::Freshness;
pub use prefetch::{Ahead, Prefetch};
pub use shadow::{Shadow, ShadowLine};
pub use source::{Sink, Source};

use desk::Desk;
use dirty::Dirty;
use fetch::Shared;
use shelf::Budget;
use sync::TaskTracker;

/// How a [`Cache`] behaves; start from the default.
#[derive(Debug)]
#[non_exhaustive]
pub struct CacheOptions {
    /// When an object that is held may be handed out. Default: [`Freshness::VersionCheck`].
    pub freshness: Freshness,
    /// What leaves first. Default: [`evict::Sieve`].
    pub evict: Box<dyn Evict>,
    /// Policies to try on what this cache is asked for. Default: none, at no cost.
    pub shadow: Option<Shadow>,
    /// What is fetched early. Default: nothing.
    pub prefetch: Option<Box<dyn Prefetch>>,
    /// The part of the capacity for objects that were fetched early and that nobody has read yet,
    /// at most half; set aside only where there is a prefetch policy. Default: 64 MiB.
    pub prefetch_size: ByteSize,
    /// The part of the capacity for values that [`Cache::put_back`] has accepted and that are not at
    /// the source yet, at most half of it. Default: none, and `put_back` writes through.
    pub dirty_size: ByteSize,
    /// Fetches in flight at most; further misses wait. Default: 1024.
    pub fetches_max: usize,
    /// Guesses in flight at most; no further ones are made. Default: 64.
    pub prefetches_max: usize,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            freshness: Freshness::default(),
            evict: Box::new(evict::Sieve::new()),
            shadow: None,
            prefetch: None,
            prefetch_size: ByteSize::mib(64),
            dirty_size: ByteSize::new(0),
            fetches_max: 1024,
            prefetches_max: 64,
        }
    }
}

/// Objects of `S`, held up to a capacity in bytes. Cloning makes another handle of the same cache.
///
/// Each entry costs its value, its key and 480 bytes. An object is fetched once for however many
/// callers. When the last handle is dropped, fetches stop, and what was accepted to be written later
/// is written by tasks that go on; the source hears what could not be ([`Sink::adopt`]).
/// [`Cache::close`] waits for both.
#[derive(Debug)]
pub struct Cache<S> {
    owner: Arc<Owner<S>>,
}

impl<S> Clone for Cache<S> {
    fn clone(&self) -> Self {
        Self { owner: Arc::clone(&self.owner) }
    }
}

/// Stops the tasks when the last handle goes; they themselves hold [`Shared`] only.
#[derive(Debug)]
struct Owner<S> {
    shared: Arc<Shared<S>>,
    watch: Option<Arc<parking_lot::Mutex<shadow::Watch>>>,
}

impl<S> Drop for Owner<S> {
    fn drop(&mut self) {
        let Shared { closing, dirty, adopt, source, .. } = &*self.shared;
        closing.cancel();
        dirty.close();
        if let Some(adopt) = adopt.get()
            && !dirty.is_empty()
        {
            adopt(source, Box::pin(Arc::clone(dirty).left()));
        }
    }
}

impl<S: Source> Cache<S> {
    /// An empty cache of `capacity` over `source`.
    pub fn new(source: S, capacity: ByteSize, options: CacheOptions) -> Self {
        let (guessed_max, guesses_max) = match &options.prefetch {
            Some(_) => (
                options.prefetch_size.bytes().min(capacity.bytes() / 2),
                options.prefetches_max.min(Semaphore::MAX_PERMITS),
            ),
            None => (0, 0),
        };
        let (evict, watch) = shadow::watch(options.evict, options.shadow);
        let rest = capacity.bytes() - guessed_max;
        let dirty_max = options.dirty_size.bytes().min(capacity.bytes() / 2).min(rest);
        let budget = Budget { main_max: rest - dirty_max, guessed_max };
        let is_checked = match options.freshness {
            Freshness::VersionCheck => true,
            Freshness::Immutable | Freshness::TimeToLive(_) => false,
        };
        let shared = Shared {
            source,
            desk: Desk::new(evict, options.prefetch, budget, options.freshness),
            dirty: Arc::new(Dirty::new(dirty_max)),
            adopt: OnceLock::new(),
            freshness: options.freshness,
            is_quick: !is_checked && guesses_max == 0,
            fetches: Arc::new(Semaphore::new(options.fetches_max.clamp(1, Semaphore::MAX_PERMITS))),
            guesses: Arc::new(Semaphore::new(guesses_max)),
            guesses_max,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        };
        Self { owner: Arc::new(Owner { shared: Arc::new(shared), watch }) }
    }

    /// The object, from here or from the source; as current as the cache's [`Freshness`] says.
    ///
    /// A miss needs a tokio runtime, and waits while [`CacheOptions::fetches_max`] are in flight.
    /// When several callers share a fetch that fails, each gets an error of its kind. Dropping
    /// the future leaves the fetch going, for the other callers and for the cache.
    pub async fn get(&self, key: &Key) -> Result<Object> {
        match self.try_get(key) {
            Some(object) => Ok(object),
            None => self.read_or_fetch(key).await,
        }
    }

    /// Apart and boxed, so that a hit carries nothing of what a miss needs.
    #[cold]
    fn read_or_fetch<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Object>> {
        Box::pin(self.owner.shared.get(key))
    }

    /// The object, if it is held and needs no version check: neither waits nor asks the source.
    ///
    /// `None` is no miss: nothing is fetched or counted, and a get goes on from there. With
    /// [`Freshness::VersionCheck`] that is the answer for everything that is at the source. Needs no
    /// runtime; outside of one nothing is fetched early.
    #[inline]
    pub fn try_get(&self, key: &Key) -> Option<Object> {
        let shared = &self.owner.shared;
        match shared.guesses_max {
            0 => shared.hit(key),
            _ => shared.hit_and_guess(key),
        }
    }

    /// Lets go of the object: the next get fetches it, and what is in flight is not kept.
    pub fn invalidate(&self, key: &Key) {
        self.owner.shared.forget(key);
    }

    /// The same for all objects whose keys begin with `prefix`; all objects for an empty one. Looks at
    /// every entry.
    ///
    /// Neither touches what [`Cache::put_back`] has accepted: that is newer than the source.
    pub fn invalidate_prefix(&self, prefix: &[u8]) {
        self.owner.shared.forget_all(prefix);
    }

    /// What the cache has done so far.
    pub fn counters(&self) -> Counters {
        let shared = &self.owner.shared;
        let counters = shared.desk.with(|state| state.shelf.counters());
        Counters { bytes_dirty: shared.dirty.bytes(), ..counters }
    }

    /// What the eviction policy has counted so far.
    pub fn policy(&self) -> PolicyCounters {
        self.owner.shared.desk.with(|state| state.shelf.policy())
    }

    /// What the cache gets its objects from.
    pub fn source(&self) -> &S {
        &self.owner.shared.source
    }

    /// Stops all fetches and waits until they have: their callers get [`Kind::Closed`], and so
    /// does everyone who needs a fetch from now on. What is held can still be read.
    ///
    /// Waits too until what [`Cache::put_back`] has accepted is at the source or has failed;
    /// [`Cache::flush`] says what has.
    pub async fn close(&self) {
        let shared = &self.owner.shared;
        shared.closing.cancel();
        shared.dirty.close();
        shared.fetches.close();
        shared.guesses.close();
        shared.tasks.close();
        shared.tasks.wait().await;
    }
}
