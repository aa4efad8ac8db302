//! Numbers as the files of traces write them, read from bytes.
//!
//! Owns: the fast way for short decimals.
//! Knows nothing of: columns and units.
//! Invariant: [`float`] is what `str::parse::<f64>` says, to the bit, for every text.
//!
//! A decimal of at most 19 digits whose value without the point fits in 53 bits is that integer
//! divided by (or times) a power of ten which an f64 holds exactly (up to 10^22): one rounding, so
//! the nearest f64 (Clinger 1990). Everything else goes to the standard library.

use crate::record::Micros;

/// The powers of ten that an f64 holds exactly.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Above it not every integer is an f64.
const EXACT_MAX: u64 = 1 << 53;

/// So many digits always fit in 64 bits.
const DIGITS_MAX: usize = 19;

/// A second in [`Micros`].
pub(crate) const SECOND: Micros = 1_000_000;

/// A number of a short text: `mantissa` · 10^`exponent`.
#[derive(Clone, Copy)]
struct Decimal {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

/// `None`: not a plain short decimal; the standard library may still read it.
#[inline]
fn decimal(text: &[u8]) -> Option<Decimal> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (mantissa, rest) = match text {
        // Most amounts, for which looking for eight digits at once is in vain.
        [first @ b'0'..=b'9', rest @ ..] if rest.starts_with(b".") => {
            (u64::from(first - b'0'), rest)
        }
        _ => digits(0, text),
    };
    let mut len = text.len() - rest.len();
    let (mantissa, rest, decimals) = match rest {
        [b'.', part @ ..] => {
            let (mantissa, rest) = digits(mantissa, part);
            let decimals = part.len() - rest.len();
            len += decimals;
            (mantissa, rest, decimals)
        }
        _ => (mantissa, rest, 0),
    };
    if len == 0 || len > DIGITS_MAX && len - zeros(text) > DIGITS_MAX {
        return None;
    }
    let exponent = match rest {
        [] => 0,
        [b'e' | b'E', exponent @ ..] => small_exponent(exponent)?,
        _ => return None,
    };
    Some(Decimal { negative, mantissa, exponent: exponent - i32::try_from(decimals).ok()? })
}

/// How many zeros a number begins with, on both sides of the point.
#[cold]
fn zeros(text: &[u8]) -> usize {
    text.iter().take_while(|b| matches!(b, b'0' | b'.')).filter(|&&b| b == b'0').count()
}

/// Adds the digits that a text begins with to `value`, and gives what follows them. More than fit
/// wrap around: the caller counts them.
#[inline]
fn digits(mut value: u64, mut text: &[u8]) -> (u64, &[u8]) {
    while let Some((chunk, rest)) = text.split_first_chunk::<8>()
        && let Some(eight) = eight_digits(*chunk)
    {
        value = value.wrapping_mul(100_000_000).wrapping_add(eight);
        text = rest;
    }
    while let [byte, rest @ ..] = text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        text = rest;
    }
    (value, text)
}

/// The number that eight digits are: neighbours are joined, then pairs, then fours, all at once.
#[inline]
fn eight_digits(chunk: [u8; 8]) -> Option<u64> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    let text = u64::from_le_bytes(chunk);
    // A digit has 3 in its upper half, and still has it six further on.
    if text & HIGH != ZEROS || text.wrapping_add(0x0606_0606_0606_0606) & HIGH != ZEROS {
        return None;
    }
    let ones = text ^ ZEROS;
    let pairs = ones.wrapping_mul(10).wrapping_add(ones >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff)
}

/// An exponent of one or two digits.
fn small_exponent(text: &[u8]) -> Option<i32> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    if digits.is_empty() || digits.len() > 2 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(sign * digits.iter().fold(0, |value, digit| value * 10 + i32::from(digit - b'0')))
}

#[inline]
fn exact(decimal: Decimal) -> Option<f64> {
    let scale = *TENS.get(decimal.exponent.unsigned_abs() as usize)?;
    if decimal.mantissa > EXACT_MAX {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
    let mantissa = decimal.mantissa as f64;
    let value = if decimal.exponent < 0 { mantissa / scale } else { mantissa * scale };
    Some(if decimal.negative { -value } else { value })
}

/// What `str::parse::<f64>` says.
#[inline]
pub(crate) fn float(text: &[u8]) -> Option<f64> {
    decimal(text).and_then(exact).or_else(|| slow_float(text))
}

#[cold]
fn slow_float(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// An integer: digits, or a decimal that is one (`200.0`, as tables that went through a data frame
/// have it).
#[inline]
pub(crate) fn int(text: &[u8]) -> Option<i64> {
    match decimal(text) {
        Some(Decimal { negative, mantissa, exponent: 0 }) => {
            if negative {
                0i64.checked_sub_unsigned(mantissa)
            } else {
                i64::try_from(mantissa).ok()
            }
        }
        Some(decimal) => whole(exact(decimal)?),
        None => std::str::from_utf8(text).ok()?.parse().ok(),
    }
}

/// The integer that a float is, if it is one and no other integer has the same float.
pub(crate) fn whole(value: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "below 2^53, and checked to be the same")]
    let int = if value.abs() < 9_007_199_254_740_992.0 { value as i64 } else { return None };
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let back = int as f64;
    (back == value).then_some(int)
}

/// Seconds with decimals, as microseconds: exact to the microsecond, rounded beyond.
pub(crate) fn seconds(text: &[u8]) -> Option<Micros> {
    if let Some(Decimal { negative, mantissa, exponent: exponent @ -6..=0 }) = decimal(text) {
        let scale = 10i64.pow((6 + exponent).unsigned_abs());
        let micros = i64::try_from(mantissa).ok()?.checked_mul(scale)?;
        return Some(if negative { -micros } else { micros });
    }
    let micros = (float(text)? * 1e6).round();
    // Three hundred thousand years, beyond which an f64 has no microseconds.
    whole(micros)
}

/// 64 bits for a name: itself if it is a number below 2^63, else a hash with the highest bit set, so
/// that neither is taken for the other.
#[inline]
pub(crate) fn id(text: &[u8]) -> u64 {
    match text {
        // "007" and "7" are two names.
        [b'0', _, ..] => hash(text),
        [b'0'..=b'9', ..] => match decimal(text) {
            Some(Decimal { mantissa, exponent: 0, .. })
                if mantissa <= i64::MAX.unsigned_abs() && text.iter().all(u8::is_ascii_digit) =>
            {
                mantissa
            }
            _ => hash(text),
        },
        _ => hash(text),
    }
}

/// FNV-1a with the last step of MurmurHash3, which spreads the low bits.
pub(crate) fn hash(text: &[u8]) -> u64 {
    let mut hash = text
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    hash | 1 << 63
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(text: &str) {
        let expected = text.parse::<f64>().ok().map(f64::to_bits);
        assert_eq!(float(text.as_bytes()).map(f64::to_bits), expected, "{text:?}");
    }

    #[test]
    fn floats_at_the_edges_of_the_fast_way() {
        for text in [
            "",
            "-",
            ".",
            "-.",
            "5.",
            ".5",
            "-.5",
            "0",
            "-0",
            "-0.0",
            "1e",
            "1e+",
            "1e5",
            "1E-05",
            "1.e5",
            "e5",
            "9007199254740992",
            "9007199254740993",
            "9007199254740993.5",
            "9999999999999999999",
            "99999999999999999999",
            "1e22",
            "1e23",
            "1e-22",
            "1e-23",
            "1e99",
            "3e-324",
            "1e309",
            "inf",
            "nan",
            "+1",
            "1_0",
            "1..2",
            "1e5.",
            " 1",
            "0x1",
            "1e-5e3",
            "0.00000000000000000001",
            "2.861e-06",
            "9.5367431640625e-07",
            "0.0059356689453125",
            "18446744073709551615",
            "18446744073709551616",
            "0.1e1",
            "123456789.123456789012",
            "1234567:",
            "0.1234567?",
            "12345678;2345678",
            "1234567/",
        ] {
            same(text);
        }
    }

    #[test]
    fn integers_and_names() {
        assert_eq!(int(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(int(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(int(b"9223372036854775808"), None);
        assert_eq!(int(b"200.0"), Some(200));
        assert_eq!(int(b"-1"), Some(-1));
        assert_eq!(int(b"2e3"), Some(2000));
        for bad in [&b""[..], b"1.5", b"x", b"1e30", b"--1", b"nan"] {
            assert_eq!(int(bad), None, "{bad:?}");
        }
        assert_eq!(id(b"4155527081"), 4_155_527_081);
        assert_eq!(id(b"0"), 0);
        let names: Vec<u64> =
            [&b"m_1"[..], b"m_2", b"007", b"7", b"7.0", b"", b"-7"].map(id).into_iter().collect();
        for (i, a) in names.iter().enumerate() {
            assert!(names[i + 1..].iter().all(|b| a != b), "{names:?}");
        }
    }

    #[test]
    fn seconds_are_exact() {
        assert_eq!(seconds(b"0.1"), Some(100_000));
        assert_eq!(seconds(b"300"), Some(300 * SECOND));
        assert_eq!(seconds(b"-0.000001"), Some(-1));
        assert_eq!(seconds(b"1.0000006"), Some(1_000_001));
        assert_eq!(seconds(b"9223372036854.775807"), Some(i64::MAX));
        assert_eq!(seconds(b"9223372036854.775808"), None);
        assert_eq!(seconds(b"1e300"), None);
        assert_eq!(seconds(b"nan"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_by_the_standard_library(text in "[-+0-9.eE ]{0,24}") {
            same(&text);
        }

        #[test]
        fn decimals_are_read_as_by_the_standard_library(
            text in "-?[0-9]{1,20}(\\.[0-9]{0,20})?([eE][-+]?[0-9]{1,3})?"
        ) {
            same(&text);
        }

        #[test]
        fn every_float_that_is_printed_is_read_back(bits: u64) {
            let value = f64::from_bits(bits);
            same(&format!("{value}"));
            same(&format!("{value:e}"));
        }

        #[test]
        fn short_decimals(mantissa in 0u64..=EXACT_MAX, places in 0usize..22) {
            let digits = format!("{mantissa:0>width$}", width = places + 1);
            let (whole, part) = digits.split_at(digits.len() - places);
            same(&format!("{whole}.{part}"));
        }

        #[test]
        fn bytes_never_panic(bytes: Vec<u8>) {
            let _ = (float(&bytes), int(&bytes), seconds(&bytes), id(&bytes));
        }

        #[test]
        fn integers_are_read_back(value: i64) {
            prop_assert_eq!(int(value.to_string().as_bytes()), Some(value));
        }
    }
}
