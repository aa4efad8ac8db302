//! What will be asked for.
//!
//! Owns [`Foresight`], by which a reader announces its gets, and [`Trace`], an announcement that is
//! a list. Knows nothing of caches. Invariant: an announcement never changes.

use std::fmt;
use std::num::NonZeroU64;

use hashbrown::HashMap;

use crate::key::Key;

/// What will be asked for, in order. Time is the number of announced gets before: the first is at
/// time 0.
///
/// An iterator knows its future; [`Clairvoyant`](super::evict::Clairvoyant) keeps what is needed
/// soonest. Answers should take constant time: they are asked for under the cache's lock.
pub trait Foresight: fmt::Debug + Send + Sync {
    /// The number by which the other calls know an object; `None` for one that is not announced.
    fn object_of(&self, key: &Key) -> Option<u64>;

    /// The first get of `object` at `time` or later; `None` when there is none.
    fn next_use(&self, object: u64, time: u64) -> Option<u64>;

    /// What is asked for at `time`; `None` from the end on.
    fn key_at(&self, time: u64) -> Option<Key>;

    /// A time before which every get has been made or was left out: where the reader is, as far as
    /// that is known. It never falls.
    fn passed(&self) -> u64 {
        0
    }
}

/// A list of gets that will be made. 24 bytes each, and about 100 for each key.
#[derive(Debug, Default)]
pub struct Trace {
    objects: HashMap<Key, usize, foldhash::fast::RandomState>,
    keys: Vec<Key>,
    gets: Vec<Get>,
    /// The times of each object's gets, ascending.
    uses: Vec<Vec<u64>>,
}

#[derive(Debug, Clone, Copy)]
struct Get {
    object: usize,
    /// When the object comes again.
    again_at: Option<NonZeroU64>,
}

impl Trace {
    /// These gets, in this order.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Self {
        let mut trace = Self::default();
        for (time, key) in (0..).zip(keys) {
            let known = trace.objects.get(&key).copied();
            let object = known.unwrap_or_else(|| trace.add(key));
            let uses = &mut trace.uses[object];
            if let Some(before) = uses.last().and_then(|at| usize::try_from(*at).ok()) {
                trace.gets[before].again_at = NonZeroU64::new(time);
            }
            uses.push(time);
            trace.gets.push(Get { object, again_at: None });
        }
        trace
    }

    fn add(&mut self, key: Key) -> usize {
        let object = self.keys.len();
        self.objects.insert(key.clone(), object);
        self.keys.push(key);
        self.uses.push(Vec::new());
        object
    }

    /// How many gets there are.
    pub fn len(&self) -> u64 {
        self.gets.len() as u64
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.gets.is_empty()
    }
}

impl Foresight for Trace {
    fn object_of(&self, key: &Key) -> Option<u64> {
        self.objects.get(key).map(|object| *object as u64)
    }

    #[inline]
    fn next_use(&self, object: u64, time: u64) -> Option<u64> {
        let object = usize::try_from(object).ok()?;
        // Mostly it is asked when an object comes again that has just been read.
        if let Some(before) = time.checked_sub(1).and_then(|at| usize::try_from(at).ok())
            && let Some(get) = self.gets.get(before)
            && get.object == object
        {
            return get.again_at.map(NonZeroU64::get);
        }
        let uses = self.uses.get(object)?;
        uses.get(uses.partition_point(|used_at| *used_at < time)).copied()
    }

    fn key_at(&self, time: u64) -> Option<Key> {
        let get = self.gets.get(usize::try_from(time).ok()?)?;
        Some(self.keys[get.object].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_knows_when_each_key_comes_next() {
        let key = |name: &str| Key::try_from(name).unwrap();
        let trace = Trace::new(["a", "b", "a", "c", "a"].map(key));
        let a = trace.object_of(&key("a")).unwrap();
        let next: Vec<_> = (0..6).map(|time| trace.next_use(a, time)).collect();
        assert_eq!(next, [Some(0), Some(2), Some(2), Some(4), Some(4), None]);
        assert_eq!(trace.key_at(3), Some(key("c")));
        assert_eq!((trace.key_at(5), trace.object_of(&key("d"))), (None, None));
        assert_eq!((trace.len(), trace.is_empty(), trace.next_use(99, 0)), (5, false, None));
    }
}
