//! What the cache fetches before anybody asks: the question that a policy answers.
//!
//! Owns [`Prefetch`] and the list that it fills. A policy is a plain struct: no I/O, no lock, no
//! clock, no await. Invariant: [`Ahead`] never takes more keys than the cache has room for.

use std::fmt;

use crate::key::Key;

mod sequential;

pub use sequential::Sequential;

/// Chooses what to fetch next. Decides only; the cache fetches within its byte budget.
///
/// Calls come one at a time and under the cache's lock: keep each short.
pub trait Prefetch: fmt::Debug + Send {
    /// `key` was read, and was held (`hit`) or not: pushes the keys to fetch, in the order of need.
    fn on_access(&mut self, key: &Key, hit: bool, ahead: &mut Ahead);
}

/// The keys to fetch, in the order of need.
#[derive(Debug, Default)]
pub struct Ahead {
    keys: Vec<Key>,
    room: usize,
}

impl Ahead {
    /// Room for `room` keys.
    pub fn new(room: usize) -> Self {
        Self { keys: Vec::new(), room }
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

    /// How many more keys will be taken: ask before making keys.
    pub fn room(&self) -> usize {
        self.room - self.keys.len()
    }

    /// The keys so far.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// An empty list on the memory of an old one, so that an access allocates nothing.
    pub(super) fn reuse(mut keys: Vec<Key>, room: usize) -> Self {
        keys.clear();
        Self { keys, room }
    }

    pub(super) fn into_keys(self) -> Vec<Key> {
        self.keys
    }
}
