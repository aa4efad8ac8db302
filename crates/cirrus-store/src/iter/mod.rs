//! In which order a set's records are read, and how they are read ahead.
//!
//! Owns orders ([`Order`]), the shuffle ([`Permutation`]), the seeds of augmentation
//! ([`EpochSeed`]), who reads which part ([`Share`]), the reader ([`Records`]) and what it announces
//! ([`Announced`]). Knows a set only through a [`Source`](crate::cache::Source).
//! Invariant: which record comes at a position depends on (seed, epoch, number of records) alone.

mod announced;
mod mix;
mod order;
mod permutation;
mod records;
mod share;

pub use announced::Announced;
pub use mix::EpochSeed;
pub use order::{Epochs, Listed, Lookup, Order, Sequential, Shuffled, Strided, Weighted, Windowed};
pub use permutation::Permutation;
pub use records::{Record, Records, RecordsOptions, open_set};
pub use share::{Share, State};
