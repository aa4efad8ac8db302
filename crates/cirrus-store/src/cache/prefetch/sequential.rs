//! The next objects of a set, for a reader that goes from the first to the last.
//!
//! Owns the frontier: the first index that was not named yet. Knows nothing of what the cache
//! holds. Invariant: a reader that goes forward has each key named once.

use super::{Ahead, Prefetch};
use crate::key::Key;
use crate::set::SetName;

/// Objects that are named ahead of a read, unless [`Sequential::with_objects_ahead`] says otherwise.
const OBJECTS_AHEAD: u64 = 16;

/// Names the objects that follow the one just read.
#[derive(Debug)]
pub struct Sequential {
    set: SetName,
    objects: u64,
    objects_ahead: u64,
    frontier: u64,
}

impl Sequential {
    /// For the set `set` of `objects` objects ([`Manifest::objects`](crate::set::Manifest::objects)),
    /// 16 ahead.
    pub fn new(set: SetName, objects: u64) -> Self {
        Self { set, objects, objects_ahead: OBJECTS_AHEAD, frontier: 0 }
    }

    /// The same with `objects_ahead` objects ahead.
    #[must_use]
    pub fn with_objects_ahead(self, objects_ahead: u64) -> Self {
        Self { objects_ahead, ..self }
    }
}

impl Prefetch for Sequential {
    fn on_access(&mut self, key: &Key, _hit: bool, ahead: &mut Ahead) {
        let Some(index) = self.set.index_of(key).filter(|index| *index < self.objects) else {
            return;
        };
        let next = index + 1;
        let end = next.saturating_add(self.objects_ahead).min(self.objects);
        // A frontier out of reach of this read is that of another place in the set: start anew.
        if !(next..=end).contains(&self.frontier) {
            self.frontier = next;
        }
        while self.frontier < end && ahead.room() > 0 {
            ahead.push(self.set.object_key(self.frontier));
            self.frontier += 1;
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
    fn other_keys_are_not_its_business() {
        let mut policy = Sequential::new(SetName::new("s").unwrap(), 10);
        let mut ahead = Ahead::new(9);
        policy.on_access(&Key::try_from("s/manifest").unwrap(), false, &mut ahead);
        policy.on_access(&Key::try_from("t/000000000001").unwrap(), false, &mut ahead);
        policy.on_access(&Key::try_from("s/000000000010").unwrap(), false, &mut ahead);
        assert!(ahead.keys().is_empty());
    }
}
