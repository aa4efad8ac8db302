//! Each record once, anywhere.

use std::ops::Range;

use super::{Lookup, Order};
use crate::iter::{EpochSeed, Permutation};

/// Each record once, in an order that looks random and is fixed by seed and epoch: see
/// [`Permutation`].
///
/// On a set that packs many records to an object, neighbours in this order lie in different
/// objects and each is fetched whole: take [`Windowed`](super::Windowed), put a cache in front, or
/// pack one record to an object.
#[derive(Debug, Clone)]
pub struct Shuffled {
    permutation: Permutation,
}

impl Shuffled {
    /// All of `records` records in the order of `seed`.
    pub fn new(seed: EpochSeed, records: u64) -> Self {
        Self { permutation: Permutation::new(seed, records) }
    }
}

impl Order for Shuffled {
    fn len(&self) -> u64 {
        self.permutation.len()
    }

    fn record(&self, position: u64) -> Option<u64> {
        self.permutation.permute(position)
    }

    fn run(&self, positions: Range<u64>, into: &mut Vec<u64>) {
        self.permutation.permute_run(positions, into);
    }

    fn lookup(&self) -> Option<&dyn Lookup> {
        Some(self)
    }
}

impl Lookup for Shuffled {
    fn position_of(&self, record: u64, from: u64) -> Option<u64> {
        self.permutation.inverse(record).filter(|position| *position >= from)
    }
}
