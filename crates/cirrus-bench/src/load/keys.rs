//! Which keys a load touches.
//!
//! Owns the numbers of keys and how a number is written. Invariant: the same seed gives the same
//! keys, so that both sides of a comparison are asked for the same objects.

/// Digits of a key's number.
pub(crate) const DIGITS: usize = 8;

/// Memory that the values of one key space take, about. More keys than caches hold where values
/// are small, and few enough that two servers hold them beside each other where they are large.
const VALUES_BYTES: usize = 64 << 20;

/// The keys of one size of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeySpace {
    pub(crate) value_bytes: usize,
}

impl KeySpace {
    /// How many keys there are.
    pub(crate) fn count(self) -> u32 {
        let count = (VALUES_BYTES / self.value_bytes).clamp(4, 100_000);
        u32::try_from(count).expect("clamped above")
    }

    /// What every key begins with.
    pub(crate) fn prefix(self) -> String {
        format!("bench:{:x}:", self.value_bytes)
    }

    /// The whole key.
    pub(crate) fn key(self, number: u32) -> Vec<u8> {
        let mut key = self.prefix().into_bytes();
        let at = key.len();
        key.resize(at + DIGITS, 0);
        write_digits(number, &mut key[at..]);
        key
    }
}

/// Writes the number in hexadecimal over [`DIGITS`] bytes.
pub(crate) fn write_digits(number: u32, digits: &mut [u8]) {
    for (place, digit) in digits[..DIGITS].iter_mut().rev().enumerate() {
        let nibble = (number >> (4 * place)) & 0xF;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
}

/// A stream of numbers of keys.
#[derive(Debug, Clone)]
pub(crate) enum Keys {
    /// Every key, each as often as any other, without order (splitmix64).
    Random { count: u32, state: u64 },
    /// One after the other, from the first again after the last.
    Ascending { count: u32, next: u32 },
}

impl Keys {
    pub(crate) fn random(space: KeySpace, seed: u64) -> Self {
        Self::Random { count: space.count(), state: seed }
    }

    pub(crate) fn ascending(space: KeySpace) -> Self {
        Self::Ascending { count: space.count(), next: 0 }
    }

    pub(crate) fn next(&mut self) -> u32 {
        match self {
            Self::Random { count, state } => {
                let wide = (random(state) >> 32) * u64::from(*count);
                u32::try_from(wide >> 32).expect("below count, which is a u32")
            }
            Self::Ascending { count, next } => {
                let number = *next;
                *next = (number + 1) % *count;
                number
            }
        }
    }
}

/// The next number of splitmix64.
pub(crate) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_inside_their_space_and_reach_all_of_it() {
        let space = KeySpace { value_bytes: 16 << 20 };
        let mut keys = Keys::random(space, 7);
        let mut seen = vec![false; space.count() as usize];
        for _ in 0..1000 {
            seen[keys.next() as usize] = true;
        }
        assert!(seen.iter().all(|seen| *seen));
    }

    #[test]
    fn digits_are_hexadecimal_and_fixed() {
        let mut digits = *b"xxxxxxxx";
        write_digits(0x0012_abcd, &mut digits);
        assert_eq!(&digits, b"0012abcd");
        assert_eq!(KeySpace { value_bytes: 64 }.key(1), b"bench:40:00000001");
    }
}
