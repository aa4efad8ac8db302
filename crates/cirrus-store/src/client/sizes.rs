//! Which values are probably large: too large for the lane of small frames.
//!
//! Owns a bit for each family of keys, which are those that differ in their last digits only: what
//! the last get of one of them said. Knows no connection. Invariant: a wrong guess costs a get time,
//! and nothing else: asked for over the lane of small frames, a large value takes a second request.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::key::Key;

/// Families that are told apart, but for collisions.
const FAMILIES: usize = 256;

/// What is known of sizes.
#[derive(Debug)]
pub(super) struct Sizes {
    hasher: RandomState,
    are_large: [AtomicBool; FAMILIES],
}

impl Sizes {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), are_large: [const { AtomicBool::new(false) }; FAMILIES] }
    }

    /// Whether the last value of the key's family was large.
    pub(super) fn is_large(&self, key: &Key) -> bool {
        self.family(key).load(Ordering::Relaxed)
    }

    /// Notes whether the value of a key is large.
    pub(super) fn note(&self, key: &Key, is_large: bool) {
        self.family(key).store(is_large, Ordering::Relaxed);
    }

    fn family(&self, key: &Key) -> &AtomicBool {
        let key = key.as_bytes();
        let digits = key.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let hash = self.hasher.hash_one(&key[..key.len() - digits]);
        &self.are_large[usize::try_from(hash % FAMILIES as u64).unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_in_their_number_are_a_family() {
        let sizes = Sizes::new();
        let key = |text: &str| Key::try_from(text.to_owned()).unwrap();
        assert!(!sizes.is_large(&key("photos/17")));
        sizes.note(&key("photos/17"), true);
        assert!(sizes.is_large(&key("photos/9")) && sizes.is_large(&key("photos/")));
        let others = (b'a'..=b'z').filter(|letter| {
            let name = format!("{}/17", char::from(*letter));
            sizes.is_large(&key(&name))
        });
        assert!(others.count() < 3, "a family is not all of them");
        sizes.note(&key("photos/2000"), false);
        assert!(!sizes.is_large(&key("photos/17")));
    }
}
