//! Every n-th object of a set, forwards or backwards.
//!
//! Owns the step that was seen, and what was named by it. Knows nothing of what the cache holds.
//! Invariant: nothing is named before three reads were the same step apart.

use std::collections::VecDeque;

use super::{Ahead, Prefetch};
use crate::key::Key;
use crate::set::SetName;

/// Objects that are named ahead of a read, unless [`Strided::with_objects_ahead`] says otherwise.
const OBJECTS_AHEAD: usize = 16;

/// Names the objects that follow by the step between the last three reads. When a read breaks the
/// step, what was named and not read is cancelled.
#[derive(Debug)]
pub struct Strided {
    set: SetName,
    objects: u64,
    objects_ahead: usize,
    last: Option<u64>,
    /// The last step, backwards modulo 2⁶⁴, and whether the one before was the same.
    step: u64,
    is_steady: bool,
    /// Not read yet.
    named: VecDeque<u64>,
}

impl Strided {
    /// For the set `set` of `objects` objects ([`Manifest::objects`](crate::set::Manifest::objects)),
    /// 16 ahead.
    pub fn new(set: SetName, objects: u64) -> Self {
        Self {
            set,
            objects,
            objects_ahead: OBJECTS_AHEAD,
            last: None,
            step: 0,
            is_steady: false,
            named: VecDeque::new(),
        }
    }

    /// The same with `objects_ahead` objects ahead.
    #[must_use]
    pub fn with_objects_ahead(self, objects_ahead: usize) -> Self {
        Self { objects_ahead, ..self }
    }
}

impl Prefetch for Strided {
    fn on_access(&mut self, key: &Key, _hit: bool, ahead: &mut Ahead) {
        let Some(index) = self.set.index_of(key).filter(|index| *index < self.objects) else {
            return;
        };
        let Some(last) = self.last.replace(index).filter(|last| *last != index) else { return };
        let step = index.wrapping_sub(last);
        self.is_steady = step == self.step;
        self.step = step;
        if !self.is_steady {
            self.named.drain(..).for_each(|index| ahead.cancel(self.set.object_key(index)));
            return;
        }
        if self.named.front() == Some(&index) {
            self.named.pop_front();
        }
        let mut next = self.named.back().unwrap_or(&index).wrapping_add(step);
        while next < self.objects && self.named.len() < self.objects_ahead && ahead.room() > 0 {
            ahead.push(self.set.object_key(next));
            self.named.push_back(next);
            next = next.wrapping_add(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a read makes the policy name, and cancel.
    fn read(policy: &mut Strided, index: u64, room: usize) -> (Vec<u64>, Vec<u64>) {
        let set = SetName::new("s").unwrap();
        let mut ahead = Ahead::new(room);
        policy.on_access(&set.object_key(index), true, &mut ahead);
        let indexes = |keys: &[Key]| keys.iter().map(|key| set.index_of(key).unwrap()).collect();
        (indexes(ahead.keys()), indexes(ahead.cancelled()))
    }

    #[test]
    fn three_reads_show_a_step() {
        let mut policy = Strided::new(SetName::new("s").unwrap(), 100).with_objects_ahead(3);
        assert_eq!(read(&mut policy, 3, 9), (vec![], vec![]));
        assert_eq!(read(&mut policy, 10, 9), (vec![], vec![]));
        assert_eq!(read(&mut policy, 17, 9), (vec![24, 31, 38], vec![]));
        // The same again is no step.
        assert_eq!(read(&mut policy, 17, 9), (vec![], vec![]));
        assert_eq!(read(&mut policy, 24, 0), (vec![], vec![]));
        assert_eq!(read(&mut policy, 31, 9), (vec![45, 52], vec![]));
        // Another step: what was named is cancelled, and three reads show the new one.
        assert_eq!(read(&mut policy, 90, 9), (vec![], vec![38, 45, 52]));
        assert_eq!(read(&mut policy, 60, 9), (vec![], vec![]));
        assert_eq!(read(&mut policy, 30, 9), (vec![0], vec![]));
        assert_eq!(read(&mut policy, 0, 9), (vec![], vec![]));
    }

    #[test]
    fn the_set_ends_on_both_sides() {
        let mut policy = Strided::new(SetName::new("s").unwrap(), 10);
        for index in [2, 5] {
            read(&mut policy, index, 9);
        }
        assert_eq!(read(&mut policy, 8, 9), (vec![], vec![]));
        let mut ahead = Ahead::new(9);
        policy.on_access(&Key::try_from("s/000000000010").unwrap(), false, &mut ahead);
        policy.on_access(&Key::try_from("t/000000000011").unwrap(), false, &mut ahead);
        assert!(ahead.keys().is_empty());
    }
}
