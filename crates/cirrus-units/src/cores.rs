//! Processor shares.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ParseError, size};

/// A share of processors in thousandths of one, as Kubernetes counts them.
///
/// Text form: a decimal number of cores, at least 0.001: `1`, `0.5`, `2.25`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Cores(u32);

impl Cores {
    /// `n` thousandths of a core.
    pub const fn milli(n: u32) -> Self {
        Self(n)
    }

    /// Thousandths of a core.
    pub const fn as_milli(self) -> u32 {
        self.0
    }
}

impl FromStr for Cores {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = |problem| ParseError {
            text: text.into(),
            problem,
            expected: "a number of cores, such as 1, 0.5 or 2.25",
        };
        let milli = size::scaled(text, 1000).map_err(fail)?;
        match u32::try_from(milli) {
            Ok(0) => Err(fail("is less than a thousandth of a core")),
            Ok(milli) => Ok(Self(milli)),
            Err(_) => Err(fail("is too large")),
        }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1000 {
            0 => write!(f, "{}", self.0 / 1000),
            rest => {
                let digits = format!("{rest:03}");
                write!(f, "{}.{}", self.0 / 1000, digits.trim_end_matches('0'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_round_trip_through_text() {
        for text in ["1", "0.5", "2.25", "0.001", "96"] {
            assert_eq!(text.parse::<Cores>().unwrap().to_string(), text);
        }
        for text in ["0", "0.0001", "-1", "one", "5000000", ""] {
            assert!(text.parse::<Cores>().is_err(), "{text}");
        }
    }
}
