//! Integers as text, exactly as Redis reads and writes them.
//!
//! Owns the two directions. Pure. Invariant: [`parse_integer`] takes what [`Decimal`] writes, and
//! nothing else.

/// The most bytes of an `i64` as text.
const DECIMAL_BYTES_MAX: usize = 20;

/// The integer that these bytes spell in its only form: no plus, no leading zeros, no spaces.
pub(super) fn parse_integer(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [b'0'] if !is_negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() < DECIMAL_BYTES_MAX => {}
        _ => return None,
    }
    let mut value: u64 = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // At most 19 digits, which a u64 holds.
        value = value * 10 + u64::from(digit);
    }
    match is_negative {
        false => i64::try_from(value).ok(),
        true => 0_i64.checked_sub_unsigned(value),
    }
}

/// An integer as text, without an allocation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal {
    bytes: [u8; DECIMAL_BYTES_MAX],
    start: usize,
}

impl Decimal {
    pub(super) fn of(value: i64) -> Self {
        let mut decimal = Self::of_unsigned(value.unsigned_abs());
        if value < 0 {
            decimal.start -= 1;
            decimal.bytes[decimal.start] = b'-';
        }
        decimal
    }

    /// A length; at most `i64::MAX`, or there is no place for the sign of another.
    pub(super) fn of_unsigned(mut value: u64) -> Self {
        let mut bytes = [0; DECIMAL_BYTES_MAX];
        let mut start = DECIMAL_BYTES_MAX;
        loop {
            start -= 1;
            bytes[start] = b'0' + u8::try_from(value % 10).expect("a digit");
            value /= 10;
            if value == 0 {
                return Self { bytes, start };
            }
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_one_form_is_an_integer() {
        for (text, expected) in [
            ("0", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("-0", None),
            ("00", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("", None),
            ("-", None),
            ("1.0", None),
            ("1/", None),
            ("1:", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value: i64) {
            let (text, decimal) = (value.to_string(), Decimal::of(value));
            prop_assert_eq!(decimal.as_bytes(), text.as_bytes());
            prop_assert_eq!(parse_integer(text.as_bytes()), Some(value));
        }
    }
}
