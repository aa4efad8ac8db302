//! The names of a client's writes.
//!
//! Owns the client's session number and which of its writes are still open. Plain data.
//! Invariant: `acknowledged` never reaches a write that may still be repeated.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;

use crate::wire::Write;

/// A client's session: it lives as long as the client, over all its connections.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    sequences: BTreeSet<u64>,
}

impl Session {
    /// A session of a new random number.
    pub(super) fn new() -> Self {
        // The standard library's hasher keys are random for each process and instance.
        let id = RandomState::new().hash_one(std::process::id()).max(1);
        Self { id, open: Mutex::default() }
    }

    /// Names a new write. It stays open until the guard is dropped.
    pub(super) fn begin(&self) -> OpenWrite<'_> {
        let mut open = self.open.lock();
        open.last += 1;
        let sequence = open.last;
        open.sequences.insert(sequence);
        OpenWrite { session: self, sequence }
    }
}

/// A write that may still be sent, or sent again.
#[derive(Debug)]
pub(super) struct OpenWrite<'a> {
    session: &'a Session,
    sequence: u64,
}

impl OpenWrite<'_> {
    /// The name to send, with what is acknowledged by now.
    pub(super) fn name(&self, retry: bool) -> Write {
        let open = self.session.open.lock();
        let oldest = open.sequences.first().copied().unwrap_or(self.sequence);
        Write { sequence: self.sequence, acknowledged: oldest - 1, retry }
    }
}

impl Drop for OpenWrite<'_> {
    fn drop(&mut self) {
        self.session.open.lock().sequences.remove(&self.sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_lies_below_every_open_write() {
        let session = Session::new();
        let (a, b) = (session.begin(), session.begin());
        assert_eq!((a.name(false).sequence, b.name(false).sequence), (1, 2));
        assert_eq!(b.name(false).acknowledged, 0);
        drop(b);
        assert_eq!(session.begin().name(true).acknowledged, 0, "write 1 is open");
        drop(a);
        let c = session.begin();
        assert_eq!(c.name(true), Write { sequence: 4, acknowledged: 3, retry: true });
    }
}
