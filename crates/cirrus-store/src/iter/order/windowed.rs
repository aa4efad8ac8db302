//! A shuffle that stays close: objects anywhere, their records within a window of objects.

use std::ops::Range;

use super::{Lookup, Order};
use crate::iter::{EpochSeed, Permutation};
use crate::set::Manifest;

/// Each record once: the objects of a set are shuffled and cut into windows, and the records of a
/// window are shuffled among themselves. So each object is fetched once in an epoch, and a reader
/// holds two windows of objects at most. Constant memory; see [`Permutation`] for both shuffles.
#[derive(Debug, Clone)]
pub struct Windowed {
    seed: EpochSeed,
    manifest: Manifest,
    objects: Permutation,
    window_objects: u64,
    /// Where the last object of the set comes, which may have fewer records than the others.
    short_at: u64,
    /// How many fewer.
    missing: u64,
}

impl Windowed {
    /// All records of the set that `manifest` defines, in windows of `window_objects` objects, one
    /// at least.
    pub fn new(seed: EpochSeed, manifest: &Manifest, window_objects: u64) -> Self {
        let (count, objects) = (manifest.count(), manifest.objects());
        let permutation = Permutation::new(seed, objects);
        let short_at = objects.checked_sub(1).and_then(|last| permutation.inverse(last));
        Self {
            seed,
            manifest: *manifest,
            objects: permutation,
            window_objects: window_objects.clamp(1, objects.max(1)),
            short_at: short_at.unwrap_or(0),
            missing: u64::try_from(
                u128::from(objects) * u128::from(manifest.packing()) - u128::from(count),
            )
            .unwrap_or(0),
        }
    }

    fn packing(&self) -> u64 {
        u64::from(self.manifest.packing())
    }

    /// The first position of the object that comes `place`th, or of the end; that of a window, too.
    fn start_of(&self, place: u64) -> u64 {
        let missing = if place > self.short_at { self.missing } else { 0 };
        let start = u128::from(place) * u128::from(self.packing()) - u128::from(missing);
        u64::try_from(start).map_or(self.len(), |start| start.min(self.len()))
    }

    /// The how-manieth object it is in whose part of the order a position lies.
    fn place_of(&self, position: u64) -> u64 {
        let missing = if position < self.start_of(self.short_at + 1) { 0 } else { self.missing };
        position.saturating_add(missing) / self.packing()
    }

    /// The positions of window `window`, and how they are shuffled.
    pub(super) fn window(&self, window: u64) -> (Range<u64>, Permutation) {
        let first = window * self.window_objects;
        let end = first.saturating_add(self.window_objects).min(self.objects.len());
        let positions = self.start_of(first)..self.start_of(end);
        let len = positions.end - positions.start;
        (positions, Permutation::of_window(self.seed, window, len))
    }

    /// The record that lies `position`th when objects are shuffled and records are not.
    fn unshuffled(&self, position: u64) -> Option<u64> {
        let place = self.place_of(position);
        let slot = position - self.start_of(place);
        Some(self.objects.permute(place)? * self.packing() + slot)
    }

    pub(super) fn window_of(&self, position: u64) -> u64 {
        self.place_of(position) / self.window_objects
    }
}

impl Order for Windowed {
    fn len(&self) -> u64 {
        self.manifest.count()
    }

    fn record(&self, position: u64) -> Option<u64> {
        if position >= self.len() {
            return None;
        }
        let (window, shuffle) = self.window(self.window_of(position));
        self.unshuffled(window.start + shuffle.permute(position - window.start)?)
    }

    fn run(&self, positions: Range<u64>, into: &mut Vec<u64>) {
        let mut position = positions.start;
        let end = positions.end.min(self.len());
        while position < end {
            let (window, shuffle) = self.window(self.window_of(position));
            let stop = window.end.min(end);
            let first = into.len();
            shuffle.permute_run(position - window.start..stop - window.start, into);
            for record in &mut into[first..] {
                // Of a position below the length there is a record.
                *record = self.unshuffled(window.start + *record).unwrap_or(u64::MAX);
            }
            position = stop;
        }
    }

    fn span(&self) -> u64 {
        self.window_objects.saturating_mul(self.packing())
    }

    fn lookup(&self) -> Option<&dyn Lookup> {
        Some(self)
    }
}

impl Lookup for Windowed {
    fn position_of(&self, record: u64, from: u64) -> Option<u64> {
        if record >= self.len() {
            return None;
        }
        let place = self.objects.inverse(record / self.packing())?;
        let (window, shuffle) = self.window(place / self.window_objects);
        let unshuffled = self.start_of(place) + record % self.packing();
        let position = window.start + shuffle.inverse(unshuffled - window.start)?;
        (position >= from).then_some(position)
    }
}
