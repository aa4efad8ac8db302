//! The next objects of a set, for a reader that goes from the first to the last.
//!
//! Owns the frontier: the first index that was not named yet. Knows nothing of what the cache
//! holds. Invariant: a reader that goes forward has each key named once.

use std::mem;

use super::{Ahead, Prefetch};
use crate::key::Key;
use crate::set::SetName;

/// Objects that are named ahead of a read, unless [`Sequential::with_objects_ahead`] says otherwise.
const OBJECTS_AHEAD: u64 = 16;

/// Where so many objects or more are to be ahead, a reader that has come to a place is given so many
/// at its first step forward, and twice as many at each further one: a jump alone names nothing, so
/// that reads at random cost nothing. As Linux reads files ahead (mm/readahead.c).
const FIRST_OBJECTS_AHEAD: u64 = 4;

/// Names the objects that follow those read, once two were read in turn, or the first of the set.
/// Follows two places in turn; one that is left for good has its guesses cancelled.
#[derive(Debug)]
pub struct Sequential {
    set: SetName,
    objects: u64,
    objects_ahead: u64,
    here: Run,
    /// Where the reader was before, or where another one is.
    there: Run,
}

/// A place in the set: what was named there and not read.
#[derive(Debug, Default, Clone, Copy)]
struct Run {
    next: u64,
    frontier: u64,
    /// Objects that are named ahead: more with each step forward.
    ahead: u64,
}

impl Sequential {
    /// For the set `set` of `objects` objects ([`Manifest::objects`](crate::set::Manifest::objects)),
    /// 16 ahead.
    pub fn new(set: SetName, objects: u64) -> Self {
        let (here, there) = (Run::default(), Run::default());
        Self { set, objects, objects_ahead: OBJECTS_AHEAD, here, there }
    }

    /// The same with `objects_ahead` objects ahead.
    #[must_use]
    pub fn with_objects_ahead(self, objects_ahead: u64) -> Self {
        Self { objects_ahead, ..self }
    }

    /// The reader does not go on there.
    fn leave(&self, run: Run, ahead: &mut Ahead) {
        let unread = run.next..run.frontier;
        // What lies ahead of the reader here is wanted all the same.
        let wanted = self.here.next..self.here.frontier;
        for index in unread.filter(|index| !wanted.contains(index)) {
            ahead.cancel(self.set.object_key(index));
        }
    }
}

impl Prefetch for Sequential {
    fn on_access(&mut self, key: &Key, _hit: bool, ahead: &mut Ahead) {
        let Some(index) = self.set.index_of(key).filter(|index| *index < self.objects) else {
            return;
        };
        let next = index + 1;
        // A frontier out of reach of this read is that of another place in the set.
        let reach = index..=next.saturating_add(self.objects_ahead);
        if reach.contains(&self.here.frontier) {
            let left = mem::take(&mut self.there);
            self.leave(left, ahead);
        } else if reach.contains(&self.there.frontier) {
            mem::swap(&mut self.here, &mut self.there);
        } else {
            let here = Run { next, frontier: next, ahead: 0 };
            let left = mem::replace(&mut self.there, mem::replace(&mut self.here, here));
            self.leave(left, ahead);
        }
        if next > self.here.next || index == 0 {
            let objects_ahead = (2 * self.here.ahead).max(FIRST_OBJECTS_AHEAD);
            self.here.ahead = objects_ahead.min(self.objects_ahead);
        }
        self.here.next = next;
        self.here.frontier = self.here.frontier.max(next);
        let end = next.saturating_add(self.here.ahead).min(self.objects);
        while self.here.frontier < end && ahead.room() > 0 {
            ahead.push(self.set.object_key(self.here.frontier));
            self.here.frontier += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(policy: &mut Sequential, index: u64, room: usize) -> Vec<u64> {
        let set = SetName::new("s").unwrap();
        let mut ahead = Ahead::new(room);
        policy.on_access(&set.object_key(index), true, &mut ahead);
        ahead.keys().iter().map(|key| set.index_of(key).unwrap()).collect()
    }

    #[test]
    fn a_forward_reader_has_each_key_named_once() {
        let mut policy = Sequential::new(SetName::new("s").unwrap(), 10).with_objects_ahead(3);
        assert_eq!(named(&mut policy, 0, 9), [1, 2, 3]);
        assert_eq!(named(&mut policy, 1, 9), [4]);
        assert_eq!(named(&mut policy, 1, 9), [0; 0]);
        assert_eq!(named(&mut policy, 2, 0), [0; 0]);
        assert_eq!(named(&mut policy, 3, 1), [5]);
        assert_eq!(named(&mut policy, 4, 9), [6, 7]);
        // A jump, and the end of the set.
        assert_eq!(named(&mut policy, 8, 9), [9]);
        assert_eq!(named(&mut policy, 9, 9), [0; 0]);
        assert_eq!(named(&mut policy, 0, 9), [1, 2, 3]);
    }

    #[test]
    fn what_a_jump_leaves_behind_is_cancelled() {
        let mut policy = Sequential::new(SetName::new("s").unwrap(), 1000).with_objects_ahead(3);
        let mut read = |index| {
            let set = SetName::new("s").unwrap();
            let mut ahead = Ahead::new(9);
            policy.on_access(&set.object_key(index), true, &mut ahead);
            let indexes = ahead.cancelled().iter().map(|key| set.index_of(key).unwrap());
            indexes.collect::<Vec<u64>>()
        };
        assert_eq!((read(0), read(1), read(500)), (vec![], vec![], vec![]));
        // Two that take turns keep what is theirs.
        assert_eq!((read(2), read(501), read(3), read(502)), (vec![], vec![], vec![], vec![]));
        // The one that goes on alone does not, nor do those that were left before.
        assert_eq!(read(503), [4, 5, 6]);
        assert_eq!((read(700), read(800)), (vec![], vec![504, 505, 506]));
    }

    #[test]
    fn a_jump_names_nothing_and_each_step_forward_more() {
        let mut policy = Sequential::new(SetName::new("s").unwrap(), 1000);
        assert_eq!(named(&mut policy, 500, 99), [0; 0]);
        assert_eq!(named(&mut policy, 700, 99), [0; 0]);
        // The same again is no step.
        assert_eq!(named(&mut policy, 700, 99), [0; 0]);
        let mut counts = |index| named(&mut policy, index, 99).len();
        assert_eq!([701, 701, 702, 703, 704, 705].map(&mut counts), [4, 0, 5, 9, 1, 1]);
        assert_eq!([0, 1, 2, 3].map(&mut counts), [4, 5, 9, 1]);
    }

    #[test]
    fn other_keys_are_not_its_business() {
        let mut policy = Sequential::new(SetName::new("s").unwrap(), 10);
        let mut ahead = Ahead::new(9);
        policy.on_access(&Key::try_from("s/manifest").unwrap(), false, &mut ahead);
        policy.on_access(&Key::try_from("t/000000000001").unwrap(), false, &mut ahead);
        policy.on_access(&Key::try_from("s/000000000010").unwrap(), false, &mut ahead);
        assert!(ahead.keys().is_empty());
    }
}
