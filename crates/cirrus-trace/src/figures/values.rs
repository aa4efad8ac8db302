//! What percentiles over time are read from.
//!
//! Owns [`Values`]: of every closed slot the few numbers of which the 99th percentile is asked for at
//! the end. Knows nothing of what they mean.
//! Invariant: nothing is rounded, so that percentiles are exact.
//!
//! A slot costs 8 bytes for each number and 8 for its length; this is all of an analysis that grows
//! with the length of the trace. No smaller sum will do: until the end any slot may be the
//! one at the percentile.

use super::peaks::{Levels, levels};
use crate::record::Micros;

/// Slots in one piece of memory: no piece is copied to grow.
const SLOTS: usize = 512;

#[derive(Clone)]
pub(crate) struct Values {
    /// Of each slot its length, and then its numbers.
    pieces: Vec<Vec<f64>>,
    width: usize,
}

impl Values {
    /// Room for so many numbers of each slot.
    pub(crate) fn new(numbers: usize) -> Self {
        Self { pieces: Vec::new(), width: numbers + 1 }
    }

    /// Adds a slot; a number that it does not have is no number.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a slot are fewer than 2^53")]
    pub(crate) fn push(&mut self, measured: Micros, numbers: impl Iterator<Item = f64>) {
        let piece = match self.pieces.last_mut().filter(|piece| piece.len() < SLOTS * self.width) {
            Some(piece) => piece,
            None => {
                self.pieces.push(Vec::with_capacity(SLOTS * self.width));
                self.pieces.last_mut().expect("it has just been pushed")
            }
        };
        piece.push(measured as f64);
        piece.extend(numbers);
        debug_assert_eq!(piece.len() % self.width, 0);
    }

    /// Peak, percentile and mean of a number over the slots that have it.
    #[expect(clippy::cast_possible_truncation, reason = "a whole number of microseconds")]
    pub(crate) fn levels(&self, number: usize) -> Option<Levels> {
        let slots = self.pieces.iter().flat_map(move |piece| piece.chunks_exact(self.width));
        let series = slots.map(|slot| (slot[number + 1], slot[0] as Micros));
        levels(series.filter(|(value, _)| !value.is_nan()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_over_all_slots_that_have_the_number() {
        let mut values = Values::new(2);
        for slot in 0..2_000u32 {
            let sometimes = if slot % 2 == 0 { f64::NAN } else { 1.0 };
            values.push(3, [f64::from(slot), sometimes].into_iter());
        }
        let all = values.levels(0).unwrap();
        assert_eq!(all, Levels { peak: 1999.0, p99: 1979.0, mean: 999.5 });
        assert_eq!(values.levels(1), Some(Levels { peak: 1.0, p99: 1.0, mean: 1.0 }));
        assert_eq!(Values::new(2).levels(1), None);
        assert_eq!(values.pieces.len(), 4);
    }
}
