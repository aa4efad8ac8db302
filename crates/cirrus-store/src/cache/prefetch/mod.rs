//! What the cache fetches before anybody asks: the question that a policy answers.
//!
//! Owns [`Prefetch`] and the list that it fills. A policy is a plain struct: no I/O, no lock, no
//! clock, no await. Invariant: [`Ahead`] never takes more keys than the cache has room for.

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
