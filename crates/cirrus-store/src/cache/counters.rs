//! What a cache has done, in numbers.
//!
//! Owns [`Counters`] and [`PolicyCounters`]; they count and decide nothing.
//! Invariant: `hits + misses` is the number of gets that were answered.

/// What a cache has done since it was made, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Gets answered with held bytes, those that the source confirmed as current included.
    pub hits: u64,
    /// Hits among them that the policy did not hear of: it can do without
    /// ([`Hits::Sampled`](super::Hits::Sampled)), and somebody was busy with it.
    pub hits_left_out: u64,
    /// Gets answered with bytes, or an error, from the source.
    pub misses: u64,
    /// What the source was asked for: objects, alone, in batches or as guesses, ranges and version
    /// checks.
    pub fetches: u64,
    /// Entries that left to make room.
    pub evictions: u64,
    /// Values that were handed on but not kept: too large, not admitted, or no room to be made.
    pub not_kept: u64,
    /// Guesses that were fetched.
    pub prefetched: u64,
    /// Guesses that somebody then read.
    pub prefetched_used: u64,
    /// Guesses among them that were still on their way: somebody waited for the rest of it.
    pub prefetched_late: u64,
    /// Guesses that made room for others because nobody had read them for long.
    pub prefetched_unused: u64,
    /// Guesses that the prefetch policy cancelled before anybody had read them.
    pub prefetched_cancelled: u64,
    /// Entries held now.
    pub entries: u64,
    /// Bytes held now: values, keys and overhead. Never more than the capacity.
    pub bytes: u64,
    /// Bytes beside them of values that were accepted and are not at the source yet. Never more
    /// than their part of the capacity.
    pub bytes_dirty: u64,
    /// Bytes among them of guesses that nobody has read yet. Never more than the budget.
    pub bytes_prefetched: u64,
}

/// What an eviction policy says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyCounters {
    /// [`Evict::name`](super::Evict::name).
    pub name: &'static str,
    /// [`Evict::counters`](super::Evict::counters).
    pub counters: Vec<(&'static str, u64)>,
}
