//! The names of a client's writes.
//!
//! Owns the client's session number and which of its writes are still open: a list in the order of
//! their numbers, whose places are taken again, so that a name costs no allocation. Plain data.
//! Invariant: `acknowledged` never reaches a write that may still be repeated.

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
    places: Vec<Place>,
    free: Vec<usize>,
    oldest: Option<usize>,
    newest: Option<usize>,
}

/// The writes of one request, and its neighbours in the order of beginning.
#[derive(Debug, Clone, Copy)]
struct Place {
    first: u64,
    older: Option<usize>,
    newer: Option<usize>,
}

impl Session {
    /// A session of a new random number.
    pub(super) fn new() -> Self {
        // The standard library's hasher keys are random for each process and instance.
        let id = RandomState::new().hash_one(std::process::id()).max(1);
        Self { id, open: Mutex::default() }
    }

    /// Names for `count` new writes of one request. They stay open until the guard is dropped.
    pub(super) fn begin(&self, count: usize) -> OpenWrites<'_> {
        let mut open = self.open.lock();
        let first = open.last + 1;
        open.last += count as u64;
        let place = Place { first, older: open.newest, newer: None };
        let at = match open.free.pop() {
            Some(at) => at,
            None => open.places.len(),
        };
        match open.places.get_mut(at) {
            Some(free) => *free = place,
            None => open.places.push(place),
        }
        match open.newest.replace(at) {
            Some(older) => open.places[older].newer = Some(at),
            None => open.oldest = Some(at),
        }
        OpenWrites { session: self, at, first }
    }
}

/// Writes of a request that may still be sent, or sent again.
#[derive(Debug)]
pub(super) struct OpenWrites<'a> {
    session: &'a Session,
    at: usize,
    first: u64,
}

impl OpenWrites<'_> {
    /// The names to send, one after the other, with what is acknowledged by now.
    pub(super) fn names(&self, retry: bool) -> impl FnMut() -> Write + use<> {
        let open = self.session.open.lock();
        let oldest = open.oldest.map_or(self.first, |at| open.places[at].first);
        let mut sequence = self.first - 1;
        move || {
            sequence += 1;
            Write { sequence, acknowledged: oldest - 1, retry }
        }
    }
}

impl Drop for OpenWrites<'_> {
    fn drop(&mut self) {
        let mut open = self.session.open.lock();
        let Place { older, newer, .. } = open.places[self.at];
        match older {
            Some(older) => open.places[older].newer = newer,
            None => open.oldest = newer,
        }
        match newer {
            Some(newer) => open.places[newer].older = older,
            None => open.newest = older,
        }
        open.free.push(self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_acknowledged_lies_below_every_open_write() {
        let session = Session::new();
        let (a, b) = (session.begin(1), session.begin(3));
        assert_eq!(a.names(false)().sequence, 1);
        let mut names = b.names(false);
        let three = [names(), names(), names()];
        assert_eq!(three.map(|write| write.sequence), [2, 3, 4]);
        assert_eq!(three.map(|write| write.acknowledged), [0; 3]);
        drop(b);
        assert_eq!(session.begin(1).names(true)().acknowledged, 0, "write 1 is open");
        drop(a);
        let c = session.begin(1);
        assert_eq!(c.names(true)(), Write { sequence: 6, acknowledged: 5, retry: true });
    }

    proptest! {
        #[test]
        fn the_list_is_as_a_sorted_set(steps in prop::collection::vec((any::<bool>(), 0usize..40, 1usize..5), 0..200)) {
            let session = Session::new();
            let mut open = BTreeMap::new();
            let mut last = 0;
            for (begins, which, count) in steps {
                if begins {
                    let writes = session.begin(count);
                    open.insert(writes.first, writes);
                    last += count as u64;
                } else if let Some(first) = open.keys().nth(which).copied() {
                    open.remove(&first);
                }
                let expected = open.keys().next().map_or(last, |oldest| oldest - 1);
                let probe = session.begin(1);
                last += 1;
                prop_assert_eq!(probe.names(false)(), Write { sequence: last, acknowledged: expected, retry: false });
            }
        }
    }
}
