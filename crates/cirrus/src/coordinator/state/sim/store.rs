//! The memory node of a simulated run.
//!
//! Owns batches and models, and what was deleted. May not know who may read what.
//! Invariant: an object is there from the moment at which its put arrived until it is deleted or
//! all batches are wiped.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Attempt, Garbage, Generation, Sweep};

/// What a trainer has learnt: every batch, in the order in which it consumed them.
pub(super) type Model = Vec<Trained>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trained {
    /// The number of the batch over all epochs.
    pub(super) batch: u64,
    pub(super) generation: Generation,
    pub(super) attempt: Attempt,
}

#[derive(Debug, Clone)]
pub(super) enum Put {
    Batch { key: String, bytes: Vec<u8> },
    Model { key: String, model: Model },
}

#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) batches: BTreeMap<String, Vec<u8>>,
    pub(super) models: BTreeMap<String, Model>,
    pub(super) wiped_ms: u64,
    /// The sweeps of each prefix.
    pub(super) swept: BTreeMap<String, BTreeSet<u64>>,
}

impl Store {
    pub(super) fn put(&mut self, put: Put) {
        match put {
            Put::Batch { key, bytes } => drop(self.batches.insert(key, bytes)),
            Put::Model { key, model } => drop(self.models.insert(key, model)),
        }
    }

    /// The node dies and another one takes its place. Models lie elsewhere.
    pub(super) fn wipe(&mut self, now_ms: u64) {
        self.wiped_ms = now_ms;
        self.batches.clear();
    }

    pub(super) fn delete_prefix(&mut self, prefix: &str) {
        self.batches.retain(|key, _| !key.starts_with(prefix));
    }

    pub(super) fn sweep(&mut self, sweep: &Sweep) {
        match &sweep.what {
            Garbage::Prefix(prefix) => {
                self.delete_prefix(prefix);
                self.models.retain(|key, _| !key.starts_with(prefix));
                self.swept.entry(prefix.clone()).or_default().insert(sweep.sweep);
            }
            Garbage::Key(key) => drop(self.models.remove(key)),
        }
    }
}
