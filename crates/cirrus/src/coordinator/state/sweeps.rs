//! What is to be deleted from the store.
//!
//! Owns the queue of [`Garbage`]. May not know a store: someone else deletes and reports it.
//! Invariant: nothing in the queue is readable state, and nothing leaves it unreported.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::{Garbage, Sweep};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sweeps {
    last: u64,
    queue: BTreeMap<u64, Garbage>,
}

impl Sweeps {
    pub(super) fn push(&mut self, what: Garbage) {
        self.last += 1;
        self.queue.insert(self.last, what);
    }

    pub(super) fn remove(&mut self, sweeps: &[u64]) {
        for sweep in sweeps {
            self.queue.remove(sweep);
        }
    }

    pub(super) fn contains(&self, sweep: u64) -> bool {
        self.queue.contains_key(&sweep)
    }

    /// Whether the object under `key` is about to be deleted.
    pub(super) fn dooms(&self, key: &str) -> bool {
        self.queue.values().any(|what| match what {
            Garbage::Key(doomed) => doomed == key,
            Garbage::Prefix(prefix) => key.starts_with(prefix),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The oldest `max`.
    pub(super) fn oldest(&self, max: usize) -> Vec<Sweep> {
        let entries = self.queue.iter().take(max);
        entries.map(|(sweep, what)| Sweep { sweep: *sweep, what: what.clone() }).collect()
    }
}
