//! The locks and atomics beneath the cache's core, named in one place.
//!
//! Owns nothing. Named here so that a model checker's can take their place.

pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicU64, Ordering};
pub(super) use std::thread_local;

pub(super) use parking_lot::{Mutex, MutexGuard};

/// Reads that a thread keeps for the policy until it tells them.
pub(super) const RING_HITS: usize = 64;
