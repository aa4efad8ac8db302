//! Any entry, by chance.
//!
//! Owns a dense list of the places and a generator; knows no keys and no sizes.
//! Invariant: the same seed and the same calls name the same victims.

use super::by_place::ByPlace;
use super::{Entry, Evict, Place};

/// Evicts any entry with the same probability. Constant time, nothing to do for a hit, 8 bytes an
/// entry.
///
/// The generator is SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014.
#[derive(Debug)]
pub struct Random {
    places: Vec<Place>,
    index: ByPlace<u32>,
    state: u64,
}

impl Random {
    /// An empty list; `seed` fixes what is drawn.
    pub fn new(seed: u64) -> Self {
        Self { places: Vec::new(), index: ByPlace::default(), state: seed }
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Evict for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn on_insert(&mut self, place: Place, _entry: Entry<'_>) {
        // A place is 32 bits, so there are never more of them.
        self.index.set(place, u32::try_from(self.places.len()).unwrap_or(u32::MAX));
        self.places.push(place);
    }

    fn on_access(&mut self, _place: Place) {}

    fn on_remove(&mut self, place: Place) {
        let index = self.index.get(place);
        if self.places.get(index as usize) != Some(&place) {
            return;
        }
        self.places.swap_remove(index as usize);
        if let Some(moved) = self.places.get(index as usize) {
            self.index.set(*moved, index);
        }
    }

    fn victim(&mut self) -> Option<Place> {
        let product = u128::from(self.draw()) * self.places.len() as u128;
        let index = usize::try_from(product >> 64).ok()?;
        self.places.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::evict::suite;

    fn named(seed: u64, draws: usize) -> Vec<usize> {
        let mut random = Random::new(seed);
        for index in 0..10 {
            suite::insert(&mut random, index);
        }
        // Two that are gone, one of them last in the list.
        random.on_remove(Place::new(3));
        random.on_remove(Place::new(9));
        (0..draws).map(|_| random.victim().unwrap().index()).collect()
    }

    #[test]
    fn every_entry_is_named_as_often_as_any_other() {
        let mut counts = [0i32; 10];
        for index in named(7, 80_000) {
            counts[index] += 1;
        }
        assert_eq!((counts[3], counts[9]), (0, 0));
        // Ten standard deviations are 935.
        assert!(
            counts.iter().all(|count| *count == 0 || (count - 10_000).abs() < 935),
            "{counts:?}"
        );
    }

    #[test]
    fn a_seed_fixes_what_is_drawn() {
        assert_eq!(named(1, 100), named(1, 100));
        assert_ne!(named(1, 100), named(2, 100));
        // The first outputs of SplitMix64 for the seed 1234567, as its authors publish them.
        let mut random = Random::new(1_234_567);
        assert_eq!(
            [random.draw(), random.draw()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }
}
