//! Small commands that are here whole, in one pass: nearly every command is one.
//!
//! Owns the short cut, and the look ahead at keys that will be used soon. What is not plain is left
//! to the steps. Invariant: both ways give the same commands.

use crate::server::resp::parse::{
    Input, Phase, Range, STRANGER_ARGUMENT_BYTES_MAX, STRANGER_ARGUMENTS_MAX,
};

impl<L: AsMut<[u8]>> Input<L> {
    /// The first argument of each small command that is here whole and was not looked at yet: for
    /// most commands, a key that will be used soon.
    pub fn keys_ahead(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = match self.phase {
            Phase::Idle => self.begin,
            Phase::Done => self.begin + self.at,
            _ => self.buffer.len(),
        };
        let bytes = &self.buffer[..];
        std::iter::from_fn(move || {
            loop {
                let (count, lengths) = short_line(bytes, at, b'*')?;
                let mut key = None;
                at = lengths;
                for index in 0..count.min(STRANGER_ARGUMENTS_MAX) {
                    let (len, start) = short_line(bytes, at, b'$')?;
                    at = start + len + 2;
                    if index == 1 {
                        key = bytes.get(start..start + len);
                    }
                }
                if at > bytes.len() || count > STRANGER_ARGUMENTS_MAX {
                    return None;
                }
                if key.is_some() {
                    return key;
                }
            }
        })
    }

    /// Takes a command of few small arguments that is here whole, in one pass: nearly every
    /// command is. False leaves everything as it was, for the steps, which also know the errors.
    pub(super) fn whole(&mut self) -> bool {
        let bytes = &self.buffer[self.begin..];
        let Some((count @ 1..=STRANGER_ARGUMENTS_MAX, mut at)) = short_line(bytes, 0, b'*') else {
            return false;
        };
        for _ in 0..count {
            let Some((len @ ..=STRANGER_ARGUMENT_BYTES_MAX, start)) = short_line(bytes, at, b'$')
            else {
                break;
            };
            at = start + len + 2;
            if at > bytes.len() {
                break;
            }
            let narrow = |at: usize| u32::try_from(at).expect("few and small: far below u32::MAX");
            self.arguments.push(Range::Here { start: narrow(start), len: narrow(len) });
        }
        if self.arguments.len() < count {
            self.arguments.clear();
            return false;
        }
        self.at = at;
        self.phase = Phase::Done;
        self.had_large = false;
        true
    }
}

/// The number of up to five digits in the line at `at` that begins with `sign`, and where the line
/// behind it begins. `None` for anything else, which is not always wrong.
#[inline]
fn short_line(bytes: &[u8], at: usize, sign: u8) -> Option<(usize, usize)> {
    let line = bytes.get(at..)?;
    let [first, digit, rest @ ..] = line else { return None };
    if *first != sign || !digit.is_ascii_digit() {
        return None;
    }
    let mut number = usize::from(digit - b'0');
    for (more, byte) in rest.iter().take(5).enumerate() {
        match byte {
            // The byte behind it is here and is not looked at, as in Redis.
            b'\r' if rest.len() > more + 1 => return Some((number, at + more + 4)),
            b'0'..=b'9' if number > 0 => number = number * 10 + usize::from(byte - b'0'),
            _ => return None,
        }
    }
    None
}
