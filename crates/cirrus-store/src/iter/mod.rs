//! In which order a set's records are read, and how they are read ahead.
//!
//! Owns orders ([`Order`]), the shuffle ([`Permutation`]), the seeds of augmentation
//! ([`EpochSeed`]) and the reader ([`Records`]). Knows a set only through a
//! [`Source`](crate::cache::Source).
//! Invariant: which record comes at a position depends on (seed, epoch, number of records) alone.

mod mix;
mod order;
mod permutation;
mod records;

pub use mix::EpochSeed;
pub use order::{Order, Sequential, Shuffled};
pub use permutation::Permutation;
pub use records::{Record, Records, RecordsOptions, open_set};
