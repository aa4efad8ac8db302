//! What a reader has said that it will read.
//!
//! Owns how far the announced gets were named. What will be read is a [`Foresight`]'s business, how
//! far ahead is worth while the cache's, which measures.
//! Invariant: a reader that makes its announced gets in turn has each named once.

use std::sync::Arc;

use super::{Ahead, Prefetch};
use crate::cache::foresight::Foresight;
use crate::key::Key;

/// Gets may overtake each other by so many; a read further off is a jump.
const OVERTAKEN_MAX: u64 = 1024;

/// Names the gets that come next in an announced order: so many that their reader, at the rate at
/// which it reads and with the latency that the cache measures, does not wait
/// ([`Ahead::wanted`]). When the reader jumps, what was named and not read is cancelled.
#[derive(Debug)]
pub struct Ordered {
    future: Arc<dyn Foresight>,
    /// The time behind the last get that was read.
    at: u64,
    /// The time of the first get that was not named.
    frontier: u64,
}

impl Ordered {
    /// For the gets that `future` announces; the first comes next.
    pub fn new(future: Arc<dyn Foresight>) -> Self {
        let at = future.passed();
        Self { future, at, frontier: at }
    }

    /// The time of a get of `key`: one that was overtaken, or the next one.
    fn time_of(&self, key: &Key) -> Option<u64> {
        // In turn, as mostly. Of an object that is read often, looking for its next use is dear.
        if self.future.key_at(self.at).is_some_and(|next| next == *key) {
            return Some(self.at);
        }
        let object = self.future.object_of(key)?;
        // A get that was overtaken lies a little before; the same object may come again behind.
        let next = self.future.next_use(object, self.at);
        match next.filter(|next| *next < self.frontier.max(self.at + 1)) {
            Some(next) => Some(next),
            None => self
                .future
                .next_use(object, self.at.saturating_sub(OVERTAKEN_MAX))
                .filter(|time| *time < self.at)
                .or(next),
        }
    }
}

impl Prefetch for Ordered {
    fn on_access(&mut self, key: &Key, _hit: bool, ahead: &mut Ahead) {
        let time = self.time_of(key);
        let at = time.map_or(self.at, |time| self.at.max(time + 1)).max(self.future.passed());
        if at > self.frontier.saturating_add(1) {
            // It did not come this way.
            for left in self.at..self.frontier {
                if let Some(key) = self.future.key_at(left) {
                    ahead.cancel(key);
                }
            }
        }
        self.at = at;
        self.frontier = self.frontier.max(at);
        let end = at.saturating_add(ahead.wanted() as u64);
        while self.frontier < end && ahead.room() > 0 {
            let Some(key) = self.future.key_at(self.frontier) else { return };
            ahead.push(key);
            self.frontier += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Trace;

    fn key(number: u64) -> Key {
        Key::try_from(format!("k{number}")).unwrap()
    }

    fn read(policy: &mut Ordered, number: u64, room: usize, wanted: usize) -> (String, String) {
        let mut ahead = Ahead::default();
        ahead.begin(room, wanted);
        policy.on_access(&key(number), true, &mut ahead);
        let names = |keys: &[Key]| keys.iter().map(Key::to_string).collect::<Vec<_>>().join(" ");
        (names(ahead.keys()), names(ahead.cancelled()))
    }

    fn policy(gets: &[u64]) -> Ordered {
        Ordered::new(Arc::new(Trace::new(gets.iter().copied().map(key))))
    }

    fn says(named: &str, cancelled: &str) -> (String, String) {
        (named.to_owned(), cancelled.to_owned())
    }

    #[test]
    fn what_comes_next_is_named_once_as_far_as_is_wanted() {
        let mut policy = policy(&[5, 3, 5, 9, 1, 2, 3]);
        assert_eq!(read(&mut policy, 5, 9, 2), says("k3 k5", ""));
        assert_eq!(read(&mut policy, 3, 9, 2), says("k9", ""));
        // Not announced, and without room.
        assert_eq!(read(&mut policy, 77, 9, 2), says("", ""));
        assert_eq!(read(&mut policy, 5, 0, 2), says("", ""));
        assert_eq!(read(&mut policy, 9, 1, 9), says("k1", ""));
        assert_eq!(read(&mut policy, 1, 9, 9), says("k2 k3", ""));
        assert_eq!(read(&mut policy, 2, 9, 9), says("", ""));
    }

    #[test]
    fn gets_may_overtake_each_other() {
        let mut policy = policy(&[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(read(&mut policy, 1, 9, 2), says("k2 k3", ""));
        assert_eq!(read(&mut policy, 0, 9, 2), says("", ""));
        assert_eq!(read(&mut policy, 3, 9, 2), says("k4 k5", ""));
        assert_eq!(read(&mut policy, 2, 9, 2), says("", ""));
    }

    #[test]
    fn a_jump_cancels_what_it_leaves_out() {
        let mut policy = policy(&(0..100).collect::<Vec<_>>());
        assert_eq!(read(&mut policy, 0, 9, 3), says("k1 k2 k3", ""));
        assert_eq!(read(&mut policy, 50, 9, 3), says("k51 k52 k53", "k1 k2 k3"));
        assert_eq!(read(&mut policy, 51, 9, 3), says("k54", ""));
    }
}
