//! Numbers that look random and are the same for ever.
//!
//! Owns the mixer and what is derived from (seed, epoch). Knows nothing of records or orders.
//! Invariant: every output is a promise; checkpoints depend on it. Tests hold golden values.

/// What an epoch's order and augmentation are derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpochSeed {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
}

impl EpochSeed {
    /// The seed of the random numbers that augment `record`: the same for every attempt to read
    /// the record in this epoch, whoever makes it, and unlike any other record's or epoch's.
    ///
    /// 32 bytes are what ChaCha takes (`ChaCha8Rng::from_seed`).
    pub fn record_rng_seed(self, record: u64) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (word, eight) in (0u64..).zip(bytes.chunks_exact_mut(8)) {
            let words = [self.seed, self.epoch, record, word];
            eight.copy_from_slice(&fold(Purpose::Record, words).to_le_bytes());
        }
        bytes
    }

    /// The key of one of a shuffle's rounds.
    pub(super) fn round_key(self, round: u64) -> u64 {
        fold(Purpose::Round, [self.seed, self.epoch, round, 0])
    }

    /// The key of one of the rounds of a shuffle within a window.
    pub(super) fn window_key(self, window: u64, round: u64) -> u64 {
        fold(Purpose::Window, [self.seed, self.epoch, window, round])
    }

    /// A random number for a position, the `which`th of it.
    pub(super) fn draw(self, position: u64, which: u64) -> u64 {
        fold(Purpose::Draw, [self.seed, self.epoch, position, which])
    }
}

/// Keeps numbers that are drawn for different purposes apart.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Round = 1,
    Record = 2,
    Window = 3,
    Draw = 4,
    Fingerprint = 5,
}

/// SplitMix64's increment, 2⁶⁴ over the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A bijection of 64 bits in which each bit of the input changes each bit of the output with
/// probability close to a half: the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast
/// splittable pseudorandom number generators"; constants: Stafford's variant 13).
pub(super) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// One number of many, for telling orders apart.
pub(super) fn fingerprint(sum: u64, word: u64, next: u64) -> u64 {
    fold(Purpose::Fingerprint, [sum, word, next, 0])
}

fn fold(purpose: Purpose, words: [u64; 4]) -> u64 {
    let start = mix((purpose as u64).wrapping_mul(STEP));
    // Each step adds before it mixes, so that zeros move the state too.
    words.into_iter().fold(start, |state, word| mix(state.wrapping_add(STEP) ^ word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_mixer_is_that_of_splitmix64() {
        // The first outputs of the reference generator (Vigna's splitmix64.c) from state 0.
        let outputs: Vec<u64> = (1..=3).map(|n: u64| mix(STEP.wrapping_mul(n))).collect();
        assert_eq!(outputs, [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F]);
    }

    #[test]
    fn record_seeds_never_change() {
        // A second implementation, in Python, gave the same bytes.
        let seed = |seed, epoch, record| EpochSeed { seed, epoch }.record_rng_seed(record);
        assert_hex(
            &seed(0, 0, 0),
            "d39ddf19651ba1f2aa7a8073844849c61824cde6f6ab738f34bc19549a244ac9",
        );
        assert_hex(
            &seed(42, 3, 1_000_000),
            "23d430a2356d7feed429c555448e771072a0775b3617e9b117e59a0c4b4c2a80",
        );
        assert_hex(
            &seed(u64::MAX, u64::MAX, u64::MAX),
            "d6ac5d39ffde5b589cd7f521146a34651f7ffb64644ed452448b41808dba2ad1",
        );
    }

    fn assert_hex(bytes: &[u8; 32], expected: &str) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn neighbours_share_no_word() {
        let mut seen = HashSet::new();
        for seed in 0..20 {
            for epoch in 0..20 {
                for record in 0..20 {
                    for word in (EpochSeed { seed, epoch }).record_rng_seed(record).chunks(8) {
                        assert!(seen.insert(word.to_vec()), "{seed} {epoch} {record}");
                    }
                }
            }
        }
    }

    #[test]
    fn one_bit_of_any_input_changes_half_of_the_seed() {
        let base = EpochSeed { seed: 7, epoch: 1 }.record_rng_seed(5);
        let mut changed_bits = 0;
        for bit in 0..64 {
            let flip = 1u64 << bit;
            for other in [
                EpochSeed { seed: 7 ^ flip, epoch: 1 }.record_rng_seed(5),
                EpochSeed { seed: 7, epoch: 1 ^ flip }.record_rng_seed(5),
                EpochSeed { seed: 7, epoch: 1 }.record_rng_seed(5 ^ flip),
            ] {
                let bits: u32 = base.iter().zip(other).map(|(a, b)| (a ^ b).count_ones()).sum();
                assert!((80..=176).contains(&bits), "bit {bit}: {bits} of 256");
                changed_bits += bits;
            }
        }
        assert!((24_000..=25_200).contains(&changed_bits), "{changed_bits} of 49152");
    }
}
