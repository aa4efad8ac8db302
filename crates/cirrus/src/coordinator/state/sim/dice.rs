//! Everything in a simulated run that its seed decides.
//!
//! Owns random numbers, a run's shape and the content of batches. May not know time or faults.
//! Invariant: the same seed gives the same, on every machine.

use crate::split::ShortBatch;

/// SplitMix64: small, and the same on every machine.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(super) fn one_of<T: Copy, const N: usize>(&mut self, values: [T; N]) -> T {
        values[usize::try_from(self.below(N as u64)).unwrap()]
    }
}

/// What differs from seed to seed beside the faults.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) workers: u32,
    pub(super) window: u32,
    /// Of the channel; a split is 21 to 42 B.
    pub(super) capacity: u64,
    pub(super) snapshot_every: u64,
    pub(super) short_batch: ShortBatch,
    /// The trainer takes splits as they come.
    pub(super) unordered: bool,
}

impl Shape {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice(!seed);
        Self {
            // Seldom, because it takes ten times as long.
            workers: if dice.one_in(20) { 64 } else { dice.one_of([1, 2, 7]) },
            window: dice.one_of([2, 5, 40]),
            capacity: dice.one_of([100, 1000]),
            snapshot_every: dice.one_of([20, 150, 100_000]),
            short_batch: dice.one_of([ShortBatch::Drop, ShortBatch::Keep]),
            unordered: dice.one_in(2),
        }
    }
}

/// The content of a batch, the same for every attempt.
pub(super) fn content(seed: u64, batch: u64) -> Vec<u8> {
    let mut dice = Dice(seed ^ (batch << 20));
    (0..7 + batch % 8).map(|_| dice.roll().to_le_bytes()[0]).collect()
}
