//! What leaves the cache: the question that a policy answers.
//!
//! Owns [`Evict`] and what policies see of the cache. A policy is a plain struct: no I/O, no lock,
//! no clock, no await; the cache calls it and moves the bytes.
//! Invariant: a policy hears of a place only between its `on_insert` and its `on_remove`.
//!
//! A policy of your own is a type with this trait. CLOCK, for example: a queue in which whatever
//! was read since it was last looked at gets another round.
//!
//! ```
//! use std::collections::{HashSet, VecDeque};
//!
//! use cirrus_store::cache::{Cache, CacheOptions, Entry, Evict, Place};
//!
//! #[derive(Debug, Default)]
//! struct Clock {
//!     queue: VecDeque<Place>,
//!     was_read: HashSet<Place>,
//! }
//!
//! impl Evict for Clock {
//!     fn name(&self) -> &'static str {
//!         "clock"
//!     }
//!
//!     fn on_insert(&mut self, place: Place, _entry: Entry<'_>) {
//!         self.queue.push_back(place);
//!     }
//!
//!     fn on_access(&mut self, place: Place) {
//!         self.was_read.insert(place);
//!     }
//!
//!     fn on_remove(&mut self, place: Place) {
//!         self.was_read.remove(&place);
//!         self.queue.retain(|other| *other != place);
//!     }
//!
//!     fn victim(&mut self) -> Option<Place> {
//!         while let Some(place) = self.queue.front().copied() {
//!             if !self.was_read.remove(&place) {
//!                 return Some(place);
//!             }
//!             self.queue.rotate_left(1);
//!         }
//!         None
//!     }
//! }
//! # use cirrus_store::cache::{Freshness, Source};
//! # use cirrus_store::{ByteSize, Key, Object, Result, Version};
//! # struct Values;
//! # impl Source for Values {
//! #     async fn get(&self, _: &Key) -> Result<Object> {
//! #         let (value, version) = (vec![0; 1200].into(), Version(1));
//! #         Ok(Object { value, version, expires_at: None, modified_at: None })
//! #     }
//! #     async fn get_if_newer(&self, _: &Key, _: Version) -> Result<Option<Object>> {
//! #         Ok(None)
//! #     }
//! # }
//! # fn main() -> Result<()> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # let source = Values;
//!
//! let mut options = CacheOptions::default();
//! options.evict = Box::new(Clock::default());
//! # options.freshness = Freshness::Immutable;
//! let cache = Cache::new(source, ByteSize::kib(5), options);
//! # let reads = ["a", "b", "c", "a", "d", "a", "b"];
//! # for name in reads { runtime.block_on(cache.get(&Key::try_from(name)?))?; }
//! // `a` stays when `d` comes, because it was read again; `b` leaves.
//! # assert_eq!((cache.counters().hits, cache.counters().evictions), (2, 2));
//! # Ok(())
//! # }
//! ```

use std::fmt;

use crate::key::Key;

mod by_place;
mod clairvoyant;
mod fifo;
mod heap;
mod lfu;
mod lru;
mod random;
#[cfg(test)]
pub(super) mod reference;
mod s3fifo;
mod sieve;
#[cfg(test)]
pub(super) mod suite;
#[cfg(test)]
mod tests;

pub use clairvoyant::Clairvoyant;
pub use fifo::Fifo;
pub use lfu::Lfu;
pub use lru::Lru;
pub use random::Random;
pub use s3fifo::S3Fifo;
pub use sieve::Sieve;

/// Chooses what leaves the cache. Decides only; the cache moves the bytes.
///
/// It sees removable entries only: not those being fetched, and not guesses that nobody has read.
/// Calls come one at a time and under the cache's lock: keep each short.
pub trait Evict: fmt::Debug + Send {
    /// What people call it, in counters and reports.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// What the cache holds at most, in bytes as [`Entry::bytes`] counts them. Comes before every
    /// other call.
    fn on_capacity(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// How exactly [`Evict::on_access`] has to tell what was read.
    fn hits(&self) -> Hits {
        Hits::Sampled
    }

    /// Whether an entry may come in at all; the cache asks before it makes room. When the answer
    /// is no the caller gets its value and the cache keeps nothing.
    fn admit(&mut self, entry: Entry<'_>) -> bool {
        let _ = entry;
        true
    }

    /// `entry` now lies at `place`, which was free.
    fn on_insert(&mut self, place: Place, entry: Entry<'_>);

    /// The entry at `place` was read, or replaced by one of the same size. Reads are told late, but
    /// before whatever comes after them: an insertion, a removal, a question for a victim.
    fn on_access(&mut self, place: Place);

    /// The entry at `place` leaves, for whatever reason; the place is free after this.
    fn on_remove(&mut self, place: Place);

    /// The entry to remove next; `None` only when nothing is removable. The cache answers with
    /// `on_remove` for that place; reads that came meanwhile are told in between. After `None`, or a
    /// place that holds nothing, the cache stops making room and does not keep the new entry: it
    /// never exceeds its capacity.
    fn victim(&mut self) -> Option<Place>;

    /// What the policy counts for itself, by name.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// How much of what is read a policy has to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hits {
    /// Those of a thread in their order; under contention some are left out, so that no reader
    /// waits for another.
    Sampled,
    /// Every one, and in order where one ended before another began, whatever threads they are of.
    /// Costs a read one more step on a number that all readers share.
    Every,
}

/// Where an entry lies in the cache: an index, dense from 0 and used again after a removal, so
/// that a policy links entries by number in a plain vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u32);

impl Place {
    /// The place with this index.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The place's index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) const fn number(self) -> u32 {
        self.0
    }
}

/// What a policy sees of an entry.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The object's key.
    pub key: &'a Key,
    /// A hash of the key, the same as long as the cache lives; for sketches and ghost lists.
    pub key_hash: u64,
    /// What the entry takes of the capacity, in bytes: value, key and overhead.
    pub bytes: u64,
}
