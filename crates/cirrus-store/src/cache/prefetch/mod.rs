//! What the cache fetches before anybody asks: the question that a policy answers.
//!
//! Owns [`Prefetch`] and the list that it fills. A policy is a plain struct: no I/O, no lock, no
//! clock, no await. Invariant: [`Ahead`] never takes more keys than the cache has room for.
//!
//! A policy of your own is a type with this trait. One for reports that are read page by page, for
//! example: whoever reads a page reads the next two.
//!
//! ```
//! use cirrus_store::Key;
//! use cirrus_store::cache::{Ahead, Prefetch};
//!
//! #[derive(Debug)]
//! struct NextPages;
//!
//! impl Prefetch for NextPages {
//!     fn on_access(&mut self, key: &Key, _hit: bool, ahead: &mut Ahead) {
//!         // Keys are `report/page`; of others it knows nothing.
//!         let Ok(text) = std::str::from_utf8(key.as_bytes()) else { return };
//!         let Some((report, page)) = text.split_once('/') else { return };
//!         let Ok(page) = page.parse::<u32>() else { return };
//!         for next in [page + 1, page + 2] {
//!             if let Ok(key) = Key::try_from(format!("{report}/{next}"))
//!                 && !ahead.push(key)
//!             {
//!                 return;
//!             }
//!         }
//!     }
//! }
//! # use cirrus_store::cache::{Cache, CacheOptions, Freshness, Source};
//! # use cirrus_store::{ByteSize, Object, Result, Version};
//! # struct Pages;
//! # impl Source for Pages {
//! #     async fn get(&self, _: &Key) -> Result<Object> {
//! #         let (value, version) = (vec![0; 1200].into(), Version(1));
//! #         Ok(Object { value, version, expires_at: None, modified_at: None })
//! #     }
//! #     async fn get_if_newer(&self, _: &Key, _: Version) -> Result<Option<Object>> {
//! #         Ok(None)
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! # let source = Pages;
//!
//! let mut options = CacheOptions::default();
//! options.prefetch = Some(Box::new(NextPages));
//! # options.freshness = Freshness::Immutable;
//! let cache = Cache::new(source, ByteSize::mib(256), options);
//! for page in 0..10 {
//!     cache.get(&Key::try_from(format!("spring/{page}"))?).await?;
//!     # tokio::task::yield_now().await;
//! }
//! let counters = cache.counters();
//! assert_eq!((counters.misses, counters.prefetched_used), (1, 9));
//! # Ok(())
//! # }
//! ```

use std::fmt;

use crate::key::Key;

mod ordered;
mod sequential;
mod strided;

pub use ordered::Ordered;
pub use sequential::Sequential;
pub use strided::Strided;

/// Chooses what to fetch next. Decides only; the cache fetches within its byte budget.
///
/// Calls come one at a time and under the cache's lock: keep each short.
pub trait Prefetch: fmt::Debug + Send {
    /// `key` was read, and was held (`hit`) or not: pushes the keys to fetch, in the order of need.
    ///
    /// Of every read, a thread's in their order. A miss and the first read of a guess are told at
    /// once, and what was read before with them; other hits up to 64 together, where a thread reads
    /// so fast that they are told no later than a 16th of a fetch's latency, or 10 µs.
    fn on_access(&mut self, key: &Key, hit: bool, ahead: &mut Ahead);
}

/// The keys to fetch, in the order of need, and those that are wanted no more.
#[derive(Debug, Default)]
pub struct Ahead {
    keys: Vec<Key>,
    cancelled: Vec<Key>,
    room: usize,
    wanted: usize,
}

impl Ahead {
    /// Room for `room` keys, all of which are wanted.
    pub fn new(room: usize) -> Self {
        Self { room, wanted: room, ..Self::default() }
    }

    /// Adds a key, and says whether it was taken. From the first `false` on nothing more is: the
    /// budget is used up, and the policy names those keys again at a later access.
    ///
    /// A key that the cache holds or is fetching already is taken and costs nothing more.
    pub fn push(&mut self, key: Key) -> bool {
        let taken = self.room() > 0;
        if taken {
            self.keys.push(key);
        }
        taken
    }

    /// The key was a wrong guess: if nobody has asked for it, what is on its way is given up, what
    /// is here is dropped, and its part of the budget is free for the next access.
    pub fn cancel(&mut self, key: Key) {
        self.cancelled.push(key);
    }

    /// How many more keys will be taken: ask before making keys.
    pub fn room(&self) -> usize {
        self.room - self.keys.len()
    }

    /// How many objects should be ahead of the reader, at least one, so that it does not wait: by
    /// the latency that the cache measures and by how fast it is read.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// The keys so far.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The keys that were cancelled so far.
    pub fn cancelled(&self) -> &[Key] {
        &self.cancelled
    }

    /// Empties the list, and keeps its memory, so that an access allocates nothing.
    pub(super) fn begin(&mut self, room: usize, wanted: usize) {
        self.keys.clear();
        self.cancelled.clear();
        (self.room, self.wanted) = (room, wanted);
    }
}
