//! The place that is lowest by rank, where ranks change.
//!
//! Owns a binary heap of places in one vector, and where each lies in it; knows nothing of what a
//! rank means. Invariants: no place ranks below the one above it in the heap; a rank that changes
//! moves entries and allocates nothing.

use super::Place;
use super::by_place::ByPlace;

/// Places by rank. Every change takes logarithmic time, a look at the lowest constant time.
#[derive(Debug, Default)]
pub(super) struct Heap<R> {
    places: Vec<Place>,
    ranked: ByPlace<Ranked<R>>,
}

/// What is noted of a place.
#[derive(Debug, Default, Clone, Copy)]
struct Ranked<R> {
    rank: R,
    /// Its index in the heap, if it is in it.
    at: Option<u32>,
}

impl<R: Copy + Default + Ord> Heap<R> {
    /// The place with the lowest rank.
    pub(super) fn lowest(&self) -> Option<Place> {
        self.places.first().copied()
    }

    /// Puts `place` in, or gives it another rank. Allocates only for a place that was never in.
    pub(super) fn set(&mut self, place: Place, rank: R) {
        let at = match self.index(place) {
            Some(at) => at,
            None => {
                self.places.push(place);
                self.places.len() - 1
            }
        };
        self.ranked.set(place, Ranked { rank, at: None });
        self.put(at, place);
        self.settle(at);
    }

    /// Takes `place` out, if it is in.
    pub(super) fn remove(&mut self, place: Place) {
        let Some(at) = self.index(place) else { return };
        self.places.swap_remove(at);
        self.ranked.set(place, Ranked::default());
        if let Some(last) = self.places.get(at).copied() {
            self.put(at, last);
            self.settle(at);
        }
    }

    /// The rank of `place`, if it is in.
    pub(super) fn rank_of(&self, place: Place) -> Option<R> {
        let ranked = self.ranked.get(place);
        ranked.at.map(|_| ranked.rank)
    }

    /// Moves what lies at `at` to where its rank belongs.
    fn settle(&mut self, at: usize) {
        let (place, mut at) = (self.places[at], at);
        let rank = self.ranked.get(place).rank;
        while let Some(above) = at.checked_sub(1).map(|before| before / 2)
            && rank < self.rank(above)
        {
            self.put(at, self.places[above]);
            at = above;
        }
        while let Some(below) = self.lower_below(at)
            && self.rank(below) < rank
        {
            self.put(at, self.places[below]);
            at = below;
        }
        self.put(at, place);
    }

    /// The lower of the two below `at`.
    fn lower_below(&self, at: usize) -> Option<usize> {
        let (left, right) = (2 * at + 1, 2 * at + 2);
        match right < self.places.len() {
            true if self.rank(right) < self.rank(left) => Some(right),
            _ => (left < self.places.len()).then_some(left),
        }
    }

    fn put(&mut self, at: usize, place: Place) {
        self.places[at] = place;
        if let Some(ranked) = self.ranked.get_mut(place) {
            ranked.at = u32::try_from(at).ok();
        }
    }

    fn rank(&self, at: usize) -> R {
        self.ranked.get(self.places[at]).rank
    }

    fn index(&self, place: Place) -> Option<usize> {
        self.ranked.get(place).at.map(|at| at as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_heap_is_a_scan_for_the_lowest(
            steps in proptest::collection::vec((0u32..24, 0u32..3, any::<u16>()), 0..400),
        ) {
            let (mut heap, mut naive) = (Heap::default(), BTreeMap::new());
            for (number, (place, kind, rank)) in steps.into_iter().enumerate() {
                // No two ranks are the same.
                let rank = (rank, number);
                match kind {
                    0 => {
                        heap.remove(Place::new(place));
                        naive.remove(&place);
                    }
                    _ => {
                        heap.set(Place::new(place), rank);
                        naive.insert(place, rank);
                    }
                }
                let lowest = naive.iter().min_by_key(|(_, rank)| **rank);
                prop_assert_eq!(heap.lowest(), lowest.map(|(place, _)| Place::new(*place)));
                for place in 0..24 {
                    prop_assert_eq!(heap.rank_of(Place::new(place)), naive.get(&place).copied());
                }
            }
        }
    }
}
