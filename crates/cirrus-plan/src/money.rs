//! Money, in whole micro-dollars.
//!
//! Owns [`Usd`] and [`UsdPerHour`], and decimals as catalogues write them. Knows no offer.
//! Nothing is rounded: a text with more than six decimals is refused.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A price, in micro-dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u64);

/// What something costs an hour, in micro-dollars.
///
/// Displays with two to six decimals, or with as many as the format asks for.
///
/// ```
/// use cirrus_plan::UsdPerHour;
/// let price: UsdPerHour = "0.0059".parse()?;
/// assert_eq!(price.as_micros(), 5900);
/// assert_eq!(format!("{price} {price:.3}"), "0.0059 0.006");
/// # Ok::<(), cirrus_plan::MoneyError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsdPerHour(u64);

macro_rules! micro_dollars {
    ($money:ident) => {
        impl $money {
            /// This many micro-dollars.
            pub const fn micros(micros: u64) -> Self {
                Self(micros)
            }

            /// Micro-dollars.
            pub const fn as_micros(self) -> u64 {
                self.0
            }

            /// Dollars, for ratios and drawings.
            #[expect(clippy::cast_precision_loss, reason = "exact below nine billion dollars")]
            pub const fn as_dollars(self) -> f64 {
                self.0 as f64 / 1e6
            }

            /// This many times as much; stops at the largest number.
            pub const fn times(self, count: u64) -> Self {
                Self(self.0.saturating_mul(count))
            }

            /// Both together; stops at the largest number.
            pub const fn plus(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl FromStr for $money {
            type Err = MoneyError;

            fn from_str(text: &str) -> Result<Self, MoneyError> {
                micros(text).map(Self).map_err(|problem| MoneyError { text: text.into(), problem })
            }
        }

        impl fmt::Display for $money {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad_integral(true, "", &digits(self.0, f.precision()))
            }
        }

        impl Serialize for $money {
            /// As a number of dollars, which is exact below nine billion.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_f64(self.as_dollars())
            }
        }
    };
}

micro_dollars!(Usd);
micro_dollars!(UsdPerHour);

/// A text that is no price. Displays as one line that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoneyError {
    text: String,
    problem: &'static str,
}

impl fmt::Display for MoneyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}; expected dollars, such as 0.0059", self.text, self.problem)
    }
}

impl std::error::Error for MoneyError {}

/// Millionths of a decimal with at most six digits behind its point.
pub(crate) fn micros(text: &str) -> Result<u64, &'static str> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return Err("is no decimal number");
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 6 {
        return Err("has more than six decimals");
    }
    format!("{whole}{fraction:0<6}").parse().map_err(|_| "is too large")
}

fn digits(micros: u64, precision: Option<usize>) -> String {
    let Some(precision) = precision.filter(|&p| p < 6) else {
        let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        let kept = text.trim_end_matches('0').len().max(text.len() - 4);
        return text[..kept].to_string();
    };
    let unit = 10u64.pow(6 - u32::try_from(precision).unwrap_or(0));
    let rounded = micros.saturating_add(unit / 2) / unit;
    let scale = 1_000_000 / unit;
    match precision {
        0 => rounded.to_string(),
        _ => format!("{}.{:0precision$}", rounded / scale, rounded % scale),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prices_are_read_exactly_or_refused() {
        for (text, micros) in
            [("0", 0), ("5.4", 5_400_000), ("0.007488", 7488), ("98.32", 98_320_000)]
        {
            assert_eq!(text.parse(), Ok(UsdPerHour(micros)), "{text}");
        }
        for (text, problem) in [
            ("", "no decimal"),
            (".5", "no decimal"),
            ("5.", "no decimal"),
            ("-1", "no decimal"),
            ("1e3", "no decimal"),
            ("0.0000001", "six decimals"),
            ("99999999999999999999", "too large"),
        ] {
            let error = text.parse::<UsdPerHour>().unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn prices_are_written_with_as_many_decimals_as_they_need() {
        let show = |micros: u64| UsdPerHour(micros).to_string();
        assert_eq!([show(5_400_000), show(7488), show(0)], ["5.40", "0.007488", "0.00"]);
        assert_eq!(
            format!("{:.3}|{:.0}|{:8.2}", UsdPerHour(1_456_944), Usd(999_500), Usd(5000)),
            "1.457|1|    0.01"
        );
        assert_eq!(serde_json::to_string(&UsdPerHour(1_456_944)).unwrap(), "1.456944");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(micros in 0u64..1 << 60) {
            prop_assert_eq!(UsdPerHour(micros).to_string().parse(), Ok(UsdPerHour(micros)));
        }
    }
}
