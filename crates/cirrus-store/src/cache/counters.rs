//! What a cache has done, in numbers.
//!
//! Owns [`Counters`]; they count and decide nothing.
//! Invariant: `hits + misses` is the number of gets that were answered.

/// What a cache has done since it was made, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Gets answered with held bytes, those that the source confirmed as current included.
    pub hits: u64,
    /// Gets answered with bytes, or an error, from the source.
    pub misses: u64,
    /// Requests to the source: whole objects, version checks and guesses.
    pub fetches: u64,
    /// Entries that left to make room.
    pub evictions: u64,
    /// Values that were handed on but not kept: too large, not admitted, or no room to be made.
    pub not_kept: u64,
    /// Guesses that were fetched.
    pub prefetched: u64,
    /// Guesses that somebody then read.
    pub prefetched_used: u64,
    /// Entries held now.
    pub entries: u64,
    /// Bytes held now: values, keys and overhead. Never more than the capacity.
    pub bytes: u64,
    /// Bytes among them of guesses that nobody has read yet. Never more than the budget.
    pub bytes_prefetched: u64,
}
