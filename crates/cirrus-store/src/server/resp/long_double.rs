//! Numbers with a fraction, as INCRBYFLOAT reads, adds and writes them.
//!
//! Owns the 80-bit extended format of x86 (64 bits of mantissa), in which Redis computes, in
//! software: the same text comes out on every processor. Pure. Invariant: a mantissa is 0 or has
//! its top bit set. Not for hot paths: reading and writing go through integers of any length.

/// The longest text that is a number; Redis has the same bound.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;

/// The largest exponent of the lowest mantissa bit: beyond is infinity.
const EXPONENT_MAX: i64 = 16_383 - 63;

/// Decimal magnitudes beyond these are infinite, and nothing.
const MAGNITUDE_MAX: i64 = 4_940;
const MAGNITUDE_MIN: i64 = -4_960;

/// `mantissa` times two to the power of `exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LongDouble {
    is_negative: bool,
    mantissa: u64,
    exponent: i64,
    is_infinite: bool,
}

impl LongDouble {
    pub(super) const ZERO: Self =
        Self { is_negative: false, mantissa: 0, exponent: 0, is_infinite: false };

    /// The number that these bytes spell as C's `strtold` reads them, all of them.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (is_negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let is_infinite =
            text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity");
        let number = if is_infinite {
            Self { is_infinite, ..Self::ZERO }
        } else if let [b'0', b'x' | b'X', rest @ ..] = text {
            parse_digits(rest, 16)?
        } else {
            parse_digits(text, 10)?
        };
        Some(Self { is_negative, ..number })
    }

    pub(super) fn is_finite(self) -> bool {
        !self.is_infinite
    }

    /// The sum, rounded to nearest, ties to even; `None` for infinity less infinity.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        if self.is_infinite || other.is_infinite {
            let clash = self.is_infinite && other.is_infinite;
            let infinite = if self.is_infinite { self } else { other };
            return (!clash || self.is_negative == other.is_negative).then_some(infinite);
        }
        if self.mantissa == 0 || other.mantissa == 0 {
            return Some(if self.mantissa == 0 { other } else { self });
        }
        let is_swapped = (self.exponent, self.mantissa) < (other.exponent, other.mantissa);
        let (large, small) = if is_swapped { (other, self) } else { (self, other) };
        // 62 bits below the larger one's lowest are kept, and whether anything lay below those.
        let shift = large.exponent - small.exponent;
        let wide = u128::from(large.mantissa) << 62;
        let narrow = shifted_down(u128::from(small.mantissa) << 62, shift);
        let sum =
            if large.is_negative == small.is_negative { wide + narrow } else { wide - narrow };
        Some(Self { is_negative: large.is_negative, ..rounded(sum, large.exponent - 62, false) })
    }

    /// As `printf("%.17Lf")` writes it, without zeros at its end.
    pub(super) fn to_text(self) -> Vec<u8> {
        let mut text = if self.exponent > 0 {
            let mut whole = Natural::from(self.mantissa);
            whole.shift_up(self.exponent.unsigned_abs());
            whole.to_decimal()
        } else {
            self.fixed_point()
        };
        if self.is_negative && text != b"0" {
            text.insert(0, b'-');
        }
        text
    }

    /// Seconds as milliseconds, rounded up; `None` beyond an `i64`.
    pub(super) fn to_ms(self) -> Option<i64> {
        if self.is_infinite {
            return None;
        }
        let thousandfold = u128::from(self.mantissa) * 1000;
        let product = rounded(thousandfold, self.exponent, false);
        let (mantissa, exponent) = (u128::from(product.mantissa), product.exponent);
        let whole = match exponent {
            0..64 => mantissa << exponent,
            64.. => return None,
            _ if self.is_negative => mantissa >> exponent.unsigned_abs().min(127),
            _ => {
                let below = u32::try_from(exponent.unsigned_abs()).unwrap_or(127).min(127);
                let whole = mantissa >> below;
                whole + u128::from(whole << below != mantissa)
            }
        };
        let whole = i64::try_from(whole).ok()?;
        Some(if self.is_negative { -whole } else { whole })
    }

    /// 17 digits behind the point, rounded to nearest, ties to even, trailing zeros cut.
    fn fixed_point(self) -> Vec<u8> {
        const SCALE: u128 = 100_000_000_000_000_000;
        // 64 and 57 bits: no more than 121.
        let scaled = u128::from(self.mantissa) * SCALE;
        let below = u32::try_from(self.exponent.unsigned_abs()).unwrap_or(u32::MAX);
        let rounded = match below {
            0 => scaled,
            128.. => 0,
            _ => {
                let whole = scaled.checked_shr(below).unwrap_or(0);
                let rest = scaled - (whole << below);
                let half = 1_u128 << (below - 1);
                let up = rest > half || (rest == half && whole % 2 == 1);
                whole + u128::from(up)
            }
        };
        let text = format!("{}.{:017}", rounded / SCALE, rounded % SCALE);
        text.trim_end_matches('0').trim_end_matches('.').as_bytes().to_vec()
    }
}

/// Digits with an optional point and exponent, and nothing else.
fn parse_digits(text: &[u8], base: u32) -> Option<LongDouble> {
    let mut digits = Natural::from(0);
    let (mut count, mut significant, mut behind_point) = (0, 0_i64, 0_i64);
    let mut has_point = false;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        if *byte == b'.' && !has_point {
            has_point = true;
        } else if let Some(digit) = char::from(*byte).to_digit(base) {
            digits.multiply_add(base, digit);
            count += 1;
            significant += i64::from(significant > 0 || digit > 0);
            behind_point += i64::from(has_point);
        } else {
            break;
        }
        at += 1;
    }
    let marks = if base == 10 { [b'e', b'E'] } else { [b'p', b'P'] };
    let exponent = match &text[at..] {
        [] => 0,
        [mark, rest @ ..] if marks.contains(mark) => parse_exponent(rest)?,
        _ => return None,
    };
    if count == 0 {
        return None;
    }
    if digits.is_zero() {
        return Some(LongDouble::ZERO);
    }
    if base == 16 {
        let number = digits.to_rounded(exponent - 4 * behind_point, false);
        return (number.exponent > MAGNITUDE_MIN * 4).then_some(number).filter(|n| n.is_finite());
    }
    let exponent = exponent - behind_point;
    let magnitude = significant + exponent;
    if !(MAGNITUDE_MIN..=MAGNITUDE_MAX).contains(&magnitude) {
        return None;
    }
    let number = if exponent >= 0 {
        digits.multiply_power(10, exponent);
        digits.to_rounded(0, false)
    } else {
        digits.divided_by_power_of_ten(exponent.unsigned_abs())
    };
    number.is_finite().then_some(number)
}

/// A sign and digits; far beyond what a number can have it stays where it is.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0_i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(1_000_000));
    Some(sign * value)
}

/// `wide` times two to the power of `exponent`, rounded; `below` says that more bits follow.
fn rounded(wide: u128, exponent: i64, below: bool) -> LongDouble {
    if wide == 0 {
        return LongDouble::ZERO;
    }
    let length = 128 - wide.leading_zeros();
    if length <= 64 {
        let up = 64 - length;
        let mantissa = u64::try_from(wide).expect("64 bits") << up;
        return LongDouble { mantissa, exponent: exponent - i64::from(up), ..LongDouble::ZERO };
    }
    let down = length - 64;
    let mut mantissa = wide >> down;
    let rest = wide - (mantissa << down);
    let half = 1_u128 << (down - 1);
    if rest > half || (rest == half && (below || mantissa % 2 == 1)) {
        mantissa += 1;
    }
    let mut exponent = exponent + i64::from(down);
    if mantissa >> 64 == 1 {
        mantissa >>= 1;
        exponent += 1;
    }
    let mantissa = u64::try_from(mantissa).expect("64 bits");
    let is_infinite = exponent > EXPONENT_MAX;
    LongDouble { mantissa, exponent, is_infinite, ..LongDouble::ZERO }
}

/// Shifted down by `bits`; the lowest bit says whether anything was lost.
fn shifted_down(wide: u128, bits: i64) -> u128 {
    let bits = u32::try_from(bits).unwrap_or(u32::MAX);
    match wide.checked_shr(bits) {
        None => 1,
        Some(kept) => kept | u128::from(kept << bits != wide),
    }
}

/// A natural number of any length: 32 bits a limb, the lowest first, no zeros on top.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Natural(Vec<u32>);

impl From<u64> for Natural {
    fn from(value: u64) -> Self {
        let (low, high) = (value & u64::from(u32::MAX), value >> 32);
        let limb = |half| u32::try_from(half).expect("half of 64 bits");
        let mut natural = Self(vec![limb(low), limb(high)]);
        natural.trim();
        natural
    }
}

impl Natural {
    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn bits(&self) -> u64 {
        match self.0.last() {
            None => 0,
            Some(top) => self.0.len() as u64 * 32 - u64::from(top.leading_zeros()),
        }
    }

    fn multiply_add(&mut self, factor: u32, more: u32) {
        let mut carry = u64::from(more);
        for limb in &mut self.0 {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = low_half(product);
            carry = product >> 32;
        }
        if carry > 0 {
            self.0.push(low_half(carry));
        }
    }

    fn multiply_power(&mut self, base: u32, power: i64) {
        for _ in 0..power {
            self.multiply_add(base, 0);
        }
    }

    fn shift_up(&mut self, bits: u64) {
        let whole = usize::try_from(bits / 32).expect("numbers are short");
        let rest = u32::try_from(bits % 32).expect("below 32");
        self.multiply_add(1 << rest, 0);
        if !self.is_zero() {
            self.0.splice(0..0, std::iter::repeat_n(0, whole));
        }
    }

    /// The highest 128 bits, how far down they were shifted, and whether a bit was lost.
    fn to_rounded(&self, exponent: i64, below: bool) -> LongDouble {
        let down = self.bits().saturating_sub(128);
        let mut wide = 0_u128;
        let mut lost = below;
        for (index, limb) in self.0.iter().enumerate() {
            let at = i64::try_from(index as u64 * 32).expect("numbers are short");
            let at = at - i64::try_from(down).expect("numbers are short");
            let limb = u128::from(*limb);
            match u32::try_from(at) {
                Ok(up) => wide |= limb << up,
                Err(_) => {
                    let bits = u32::try_from(at.unsigned_abs()).unwrap_or(u32::MAX);
                    let kept = limb.checked_shr(bits).unwrap_or(0);
                    wide |= kept;
                    lost |= kept.checked_shl(bits).unwrap_or(0) != limb;
                }
            }
        }
        rounded(wide, exponent + i64::try_from(down).expect("numbers are short"), lost)
    }

    /// Divided by ten to the power of `power`, rounded.
    fn divided_by_power_of_ten(mut self, power: u64) -> LongDouble {
        let mut divisor = Self::from(1);
        divisor.multiply_power(5, i64::try_from(power).expect("a text is short"));
        // The quotient is to have 70 bits, or 69: more than the mantissa and its rounding need.
        let up = 70 + i64::try_from(divisor.bits()).expect("short")
            - i64::try_from(self.bits()).expect("short");
        match u64::try_from(up) {
            Ok(up) => self.shift_up(up),
            Err(_) => divisor.shift_up(up.unsigned_abs()),
        }
        let mut quotient = 0_u128;
        divisor.shift_up(70);
        for _ in 0..=70 {
            quotient <<= 1;
            if self.subtract(&divisor) {
                quotient |= 1;
            }
            divisor.halve();
        }
        let exponent = -up - i64::try_from(power).expect("a text is short");
        rounded(quotient, exponent, !self.is_zero())
    }

    /// Subtracts unless `other` is larger.
    fn subtract(&mut self, other: &Self) -> bool {
        let is_less = self.0.len() < other.0.len()
            || (self.0.len() == other.0.len() && self.0.iter().rev().lt(other.0.iter().rev()));
        if is_less {
            return false;
        }
        let mut borrow = 0_i64;
        for (index, limb) in self.0.iter_mut().enumerate() {
            let taken = i64::from(other.0.get(index).copied().unwrap_or(0));
            let difference = i64::from(*limb) - taken - borrow;
            borrow = i64::from(difference < 0);
            *limb = low_half((difference + (borrow << 32)).unsigned_abs());
        }
        self.trim();
        true
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for limb in self.0.iter_mut().rev() {
            let lowest = *limb & 1;
            *limb = (*limb >> 1) | (carry << 31);
            carry = lowest;
        }
        self.trim();
    }

    fn to_decimal(&self) -> Vec<u8> {
        const CHUNK: u64 = 1_000_000_000;
        let mut rest = self.clone();
        let mut chunks = Vec::new();
        while !rest.is_zero() {
            let mut remainder = 0_u64;
            for limb in rest.0.iter_mut().rev() {
                let value = (remainder << 32) | u64::from(*limb);
                *limb = low_half(value / CHUNK);
                remainder = value % CHUNK;
            }
            rest.trim();
            chunks.push(remainder);
        }
        let mut text = String::new();
        for (index, chunk) in chunks.iter().rev().enumerate() {
            text += &if index == 0 { format!("{chunk}") } else { format!("{chunk:09}") };
        }
        if text.is_empty() { b"0".to_vec() } else { text.into_bytes() }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the other half is carried")]
fn low_half(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        let sum = LongDouble::parse(a.as_bytes())?.plus(LongDouble::parse(b.as_bytes())?)?;
        sum.is_finite().then(|| String::from_utf8(sum.to_text()).unwrap())
    }

    /// Each line was answered by INCRBYFLOAT of redis-server 7.0 on x86-64.
    #[test]
    fn sums_are_those_of_redis() {
        for (a, b, expected) in [
            ("10.50", "0.1", "10.6"),
            ("10.6", "-5", "5.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("0.1", "0.2", "0.3"),
            ("3", "1e-17", "3.00000000000000001"),
            ("1e17", "1", "100000000000000001"),
            ("1.5", "-1.5", "0"),
            ("0x10", "1", "17"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", " 1", "1 ", "abc", "1e", "1e+", ".", "nan", "1e5000", "1e-5000", "0x", "-"]
        {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert!(!LongDouble::parse(b"-Inf").unwrap().is_finite());
        assert_eq!(sum("inf", "-inf"), None);
    }

    #[test]
    fn a_timeout_is_rounded_up() {
        let ms = |text: &str| LongDouble::parse(text.as_bytes()).unwrap().to_ms();
        assert_eq!(ms("0.0001"), Some(1));
        assert_eq!(ms("1.5"), Some(1500));
        assert_eq!(ms("0"), Some(0));
        assert_eq!(ms("-1"), Some(-1000));
        assert_eq!(ms("1e30"), None);
        assert_eq!(ms("9223372036854775"), Some(9_223_372_036_854_775_000));
    }
}
