//! How many bytes a node may hold, and holds.
//!
//! Owns the one counter that every stored byte passes through. Invariant: bytes are reserved
//! before they are allocated, and the counter passes the capacity only by the results of writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Kind;
use crate::wire::Fault;

/// A node's budget of bytes. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Memory(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    capacity: u64,
    used: AtomicU64,
}

impl Memory {
    pub(super) fn new(capacity: u64) -> Self {
        Self(Arc::new(Counter { capacity, used: AtomicU64::new(0) }))
    }

    pub(super) fn capacity(&self) -> u64 {
        self.0.capacity
    }

    pub(super) fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes that may still be taken.
    pub(super) fn free(&self) -> u64 {
        self.0.capacity.saturating_sub(self.used())
    }

    /// Takes `bytes` from the budget, or says how many are free.
    pub(super) fn reserve(&self, bytes: u64) -> Result<Reservation, Fault> {
        self.take(bytes).map(|()| Reservation { memory: self.clone(), bytes })
    }

    /// The same without a guard: who took them gives them back.
    pub(super) fn take(&self, bytes: u64) -> Result<(), Fault> {
        let taken = self.0.used.try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= self.0.capacity)
        });
        match taken {
            Ok(_) => Ok(()),
            Err(used) => {
                Err(Fault { kind: Kind::OutOfMemory, detail: self.0.capacity.saturating_sub(used) })
            }
        }
    }

    /// A reservation of no bytes, to be resized.
    pub(super) fn nothing(&self) -> Reservation {
        Reservation { memory: self.clone(), bytes: 0 }
    }

    /// Gives back what [`Memory::take`] or [`Memory::charge`] took.
    pub(super) fn give(&self, bytes: u64) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that must be kept even when the node is full: the results of writes.
    pub(super) fn charge(&self, bytes: u64) {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Bytes taken from the budget; dropping it gives them back.
#[derive(Debug)]
pub(super) struct Reservation {
    memory: Memory,
    bytes: u64,
}

impl Reservation {
    /// Takes over what another one holds.
    pub(super) fn absorb(&mut self, other: &mut Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives some back.
    pub(super) fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.memory.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes that replies hold until they have left.
#[derive(Debug, Default)]
pub(super) struct Owed(Option<Reservation>);

impl Owed {
    /// More that a reply holds; `replies` is what it counts against.
    pub(super) fn add(&mut self, replies: &Memory, bytes: usize) {
        let bytes = bytes as u64;
        replies.charge(bytes);
        self.hold(Reservation { memory: replies.clone(), bytes });
    }

    /// The same, paid for already.
    pub(super) fn hold(&mut self, mut paid: Reservation) {
        match &mut self.0 {
            Some(owed) => owed.absorb(&mut paid),
            None => self.0 = Some(paid),
        }
    }
}
