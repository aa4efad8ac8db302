//! Which record comes at which position.
//!
//! Owns [`Order`] and the built-in orders, one a file. Knows nothing of keys or of where bytes are.
//! Invariant: an order is a pure function of the position, so that any worker starts anywhere.

use std::fmt;
use std::ops::Range;

use super::mix;

mod epochs;
mod listed;
mod sequential;
mod shuffled;
mod strided;
#[cfg(test)]
mod tests;
mod weighted;
mod windowed;

pub use epochs::Epochs;
pub use listed::Listed;
pub use sequential::Sequential;
pub use shuffled::Shuffled;
pub use strided::Strided;
pub use weighted::Weighted;
pub use windowed::Windowed;

/// The order in which records are read. Implement it for an order of your own: two methods are
/// needed, the others make reading cheaper.
pub trait Order: fmt::Debug + Send + Sync {
    /// How many positions there are. Need not be the number of records.
    fn len(&self) -> u64;

    /// The record at `position`; `None` from [`Order::len`] on. The same for every call.
    fn record(&self, position: u64) -> Option<u64>;

    /// Appends the records at `positions` to `into`, up to the first position without one: for
    /// orders that find many records in less time than each alone.
    fn run(&self, positions: Range<u64>, into: &mut Vec<u64>) {
        into.extend(positions.map_while(|position| self.record(position)));
    }

    /// How far apart two positions of the same object are at most, if its records come close to
    /// each other. A reader looks that far ahead at least, and so fetches the object once.
    fn span(&self) -> u64 {
        1
    }

    /// The order asked the other way, where that needs no list.
    fn lookup(&self) -> Option<&dyn Lookup> {
        None
    }

    /// Whether there is no position.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An order that knows at which positions a record comes.
pub trait Lookup {
    /// The first position of `record` at `from` or later; `None` when it does not come again.
    fn position_of(&self, record: u64, from: u64) -> Option<u64>;
}

/// Positions that a fingerprint looks at.
const SAMPLES: u64 = 16;

/// A number that another order has most likely not: of its length, and of its records at a few
/// positions. It never changes: what readers keep of where they are depends on it.
pub(super) fn fingerprint(order: &dyn Order) -> u64 {
    let len = order.len();
    let at = |sample: u64| u128::from(len.saturating_sub(1)) * u128::from(sample);
    (0..=SAMPLES).fold(len, |sum, sample| {
        let position = u64::try_from(at(sample) / u128::from(SAMPLES)).unwrap_or(u64::MAX);
        mix::fingerprint(sum, position, order.record(position).unwrap_or(u64::MAX))
    })
}
