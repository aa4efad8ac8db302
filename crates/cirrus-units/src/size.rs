//! Numbers of bytes, and bytes per second.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ParseError;

const EXPECTED_SIZE: &str = "a number and a unit, such as 512MiB, 8GiB, 64KiB, 1500MB or 4096B";
const EXPECTED_RATE: &str = "a size per second, such as 10Gbit/s, 500MB/s or 1GiB/s";

/// A number of bytes.
///
/// Text form: a decimal number, then `B`, `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024) or `KB`,
/// `MB`, `GB`, `TB` (powers of 1000). The unit is always written, so that nobody has to guess.
///
/// ```
/// use cirrus_units::ByteSize;
/// let size: ByteSize = "1.5GiB".parse()?;
/// assert_eq!(size.bytes(), 1_610_612_736);
/// assert_eq!(size.to_string(), "1.50 GiB");
/// # Ok::<(), cirrus_units::ParseError>(())
/// ```
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ByteSize(u64);

impl ByteSize {
    /// Exactly `bytes` bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// `n` times 1024 bytes.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` times 1024² bytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` times 1024³ bytes.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = |problem| ParseError { text: text.into(), problem, expected: EXPECTED_SIZE };
        let (number, unit) = split(text);
        let scale = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "KB" | "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            "" => return Err(fail("has no unit")),
            _ => return Err(fail("has an unknown unit")),
        };
        scaled(number, scale).map(Self).map_err(fail)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] =
            [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        for (scale, unit) in UNITS {
            if self.0 >= scale {
                let whole = self.0 / scale;
                let hundredths = (self.0 % scale) * 100 / scale;
                return if hundredths == 0 {
                    write!(f, "{whole} {unit}")
                } else {
                    write!(f, "{whole}.{hundredths:02} {unit}")
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// Bytes per second.
///
/// Text form: a [`ByteSize`] followed by `/s`, or `Mbit/s` and `Gbit/s` (powers of 1000).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ByteRate(u64);

impl ByteRate {
    /// Exactly `bytes` bytes in a second.
    pub const fn per_second(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes in a second.
    pub const fn bytes_per_second(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteRate {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = |problem| ParseError { text: text.into(), problem, expected: EXPECTED_RATE };
        let Some(amount) = text.strip_suffix("/s") else {
            return Err(fail("does not end in /s"));
        };
        let (number, unit) = split(amount);
        match unit {
            "Mbit" => scaled(number, 125_000).map(Self).map_err(fail),
            "Gbit" => scaled(number, 125_000_000).map(Self).map_err(fail),
            _ => amount
                .parse()
                .map(|size: ByteSize| Self(size.0))
                .map_err(|error| fail(error.problem)),
        }
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", ByteSize(self.0))
    }
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// `number × scale` in integers: at most 18 digits after the point, rounded down.
pub(crate) fn scaled(number: &str, scale: u64) -> Result<u64, &'static str> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) {
        return Err("does not start with a number");
    }
    if fraction.len() > 18 || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit()) {
        return Err("is not a decimal number");
    }
    let whole: u64 = whole.parse().map_err(|_| "is too large")?;
    let mut total = u128::from(whole) * u128::from(scale);
    if !fraction.is_empty() {
        let digits: u128 = fraction.parse().map_err(|_| "is not a decimal number")?;
        let exponent = u32::try_from(fraction.len()).map_err(|_| "is not a decimal number")?;
        total += digits * u128::from(scale) / 10u128.pow(exponent);
    }
    u64::try_from(total).map_err(|_| "is too large")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        for (text, bytes) in [
            ("0B", 0),
            ("1KiB", 1024),
            ("1.5 KiB", 1536),
            ("512MiB", 512 << 20),
            ("8GiB", 8 << 30),
            ("2TB", 2_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn a_wrong_size_is_named_in_the_error() {
        for (text, problem) in [
            ("512", "has no unit"),
            ("8GIB", "has an unknown unit"),
            ("8 gigs", "has an unknown unit"),
            ("GiB", "does not start with a number"),
            ("1.GiB", "does not start with a number"),
            ("1.2.3GiB", "is not a decimal number"),
            ("99999999999TiB", "is too large"),
            ("99999999999999999999999B", "is too large"),
        ] {
            let error = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` {problem}; expected")), "{error}");
        }
    }

    #[test]
    fn rates_are_read_in_bits_and_bytes() {
        assert_eq!("10Gbit/s".parse(), Ok(ByteRate(1_250_000_000)));
        assert_eq!("1GiB/s".parse(), Ok(ByteRate(1 << 30)));
        assert!("10Gbit".parse::<ByteRate>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read_but_never_panics(text in ".{0,24}") {
            let _ = text.parse::<ByteSize>();
            let _ = text.parse::<ByteRate>();
        }

        #[test]
        fn exact_bytes_round_trip(bytes: u64) {
            prop_assert_eq!(format!("{bytes}B").parse(), Ok(ByteSize(bytes)));
        }
    }
}
