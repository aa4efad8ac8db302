//! Which record comes at which position.
//!
//! Owns [`Order`] and the built-in orders. Knows nothing of objects or of where records lie.
//! Invariant: an order is a pure function of the position, so that any worker starts anywhere.

use std::fmt;

use super::mix::EpochSeed;
use super::permutation::Permutation;

/// The order in which records are read. Implement it for an order of your own.
pub trait Order: fmt::Debug + Send + Sync {
    /// How many positions there are. Need not be the number of records.
    fn len(&self) -> u64;

    /// The record at `position`; `None` from [`Order::len`] on. The same for every call.
    fn record(&self, position: u64) -> Option<u64>;

    /// Whether there is no position.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The records as they lie.
#[derive(Debug, Clone, Copy)]
pub struct Sequential {
    records: u64,
}

impl Sequential {
    /// All of `records` records, from the first to the last.
    pub fn new(records: u64) -> Self {
        Self { records }
    }
}

impl Order for Sequential {
    fn len(&self) -> u64 {
        self.records
    }

    fn record(&self, position: u64) -> Option<u64> {
        (position < self.records).then_some(position)
    }
}

/// Each record once, in an order that looks random and is fixed by seed and epoch: see
/// [`Permutation`].
///
/// On a set that packs many records to an object, neighbours in this order lie in different
/// objects and each is fetched whole: put a cache in front, or pack one record to an object.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_end_at_their_length() {
        let seed = EpochSeed { seed: 1, epoch: 2 };
        let orders: [Box<dyn Order>; 2] =
            [Box::new(Sequential::new(5)), Box::new(Shuffled::new(seed, 5))];
        for order in orders {
            let mut records: Vec<u64> = (0..5).filter_map(|at| order.record(at)).collect();
            records.sort_unstable();
            assert_eq!(records, [0, 1, 2, 3, 4]);
            assert_eq!((order.len(), order.record(5), order.is_empty()), (5, None, false));
        }
        assert!(Sequential::new(0).is_empty());
    }
}
