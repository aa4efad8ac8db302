//! The locks, atomics, hashes and tasks beneath the cache's core, and its sizes, named in one place.
//!
//! Owns nothing. Named here so that a model checker's can take their place.

pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(super) use foldhash::fast::RandomState as Hashes;
pub(super) use parking_lot::{Mutex, MutexGuard};
pub(super) use tokio_util::task::TaskTracker;

/// Reads that a thread keeps for the policy until it tells them.
pub(super) const RING_HITS: usize = 64;

/// Shards of the table: so many that readers on different processors rarely meet.
pub(super) const SHARDS_MIN: usize = 64;
pub(super) const SHARDS_PER_PROCESSOR: usize = 4;
