//! What a policy notes of each entry.
//!
//! Owns a vector that grows with the places; knows nothing of what lies in it.
//! Invariant: a place that was never written reads as the default.

use super::Place;

/// A note for each place, in one vector.
#[derive(Debug, Default)]
pub(super) struct ByPlace<T> {
    notes: Vec<T>,
}

impl<T: Copy + Default> ByPlace<T> {
    pub(super) fn get(&self, place: Place) -> T {
        self.notes.get(place.index()).copied().unwrap_or_default()
    }

    /// The note of a place, if it was written.
    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        self.notes.get_mut(place.index())
    }

    /// How many places have a note.
    pub(super) fn len(&self) -> usize {
        self.notes.len()
    }

    pub(super) fn set(&mut self, place: Place, note: T) {
        if place.index() >= self.notes.len() {
            self.notes.resize(place.index() + 1, T::default());
        }
        self.notes[place.index()] = note;
    }
}
