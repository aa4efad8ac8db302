//! Fields of rows, by number.
//!
//! Owns: which faults an empty or unreadable field is.
//! Knows nothing of: what a column means.
//! Invariant: a row's width is checked before its fields are asked for.

use super::number::{float, int};
use super::output::{Fault, Output, Value};
use crate::problems::Kind;

/// A row: fields, with commas between them.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    text: &'a [u8],
    /// Where each field ends.
    ends: &'a [usize],
}

impl<'a> Line<'a> {
    /// Finds the fields; `ends` is memory for where they end.
    #[inline]
    pub(crate) fn split(text: &'a [u8], ends: &'a mut Vec<usize>) -> Self {
        ends.clear();
        let (words, rest) = text.as_chunks::<8>();
        for (at, word) in words.iter().enumerate() {
            let mut commas = commas(*word);
            while commas != 0 {
                ends.push(8 * at + (commas.trailing_zeros() / 8) as usize);
                commas &= commas - 1;
            }
        }
        let behind = text.len() - rest.len();
        ends.extend(rest.iter().zip(behind..).filter(|(byte, _)| **byte == b',').map(|(_, at)| at));
        ends.push(text.len());
        Self { text, ends }
    }

    /// Finds the fields of a row in which those may be quoted that begin with a quote; `unquoted` is
    /// memory for the row without its quotes. `None`: the last quote is not closed in this line.
    pub(crate) fn split_quoted(
        text: &[u8],
        unquoted: &'a mut Vec<u8>,
        ends: &'a mut Vec<usize>,
    ) -> Option<Self> {
        unquoted.clear();
        ends.clear();
        let mut rest = text.iter().copied().peekable();
        let (mut is_start, mut is_quoted) = (true, false);
        while let Some(byte) = rest.next() {
            match (byte, is_quoted) {
                (b'"', false) if is_start => is_quoted = true,
                // Two quotes within quotes are one.
                (b'"', true) if rest.next_if_eq(&b'"').is_none() => is_quoted = false,
                (b',', false) => {
                    ends.push(unquoted.len());
                    unquoted.push(byte);
                    is_start = true;
                    continue;
                }
                _ => unquoted.push(byte),
            }
            is_start = false;
        }
        ends.push(unquoted.len());
        (!is_quoted).then_some(Self { text: unquoted, ends })
    }

    /// Every field.
    pub(crate) fn iter(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        (0..self.len()).map(move |index| self.field(index))
    }

    /// How many fields there are.
    #[inline]
    pub(crate) fn len(self) -> usize {
        self.ends.len()
    }

    /// A field; nothing behind the last.
    #[inline]
    fn field(self, index: usize) -> &'a [u8] {
        let start = match index.checked_sub(1) {
            None => 0,
            Some(before) => self.ends.get(before).map_or(self.text.len(), |end| end + 1),
        };
        let end = self.ends.get(index).copied().unwrap_or(self.text.len());
        self.text.get(start..end).unwrap_or_default()
    }
}

/// The highest bit of each byte that is a comma. Fields are short: finding each by itself costs more.
#[inline]
fn commas(word: [u8; 8]) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let other = u64::from_le_bytes(word) ^ 0x2c2c_2c2c_2c2c_2c2c;
    // No byte carries into the next: each is at most 0x7f + 0x7f.
    !(((other & LOW) + LOW) | other | LOW)
}

/// Refuses a row of another width.
#[inline]
pub(crate) fn columns(found: usize, expected: usize) -> Result<(), Fault> {
    if found == expected {
        return Ok(());
    }
    let found = i64::try_from(found).unwrap_or(i64::MAX);
    Err(Fault::new(Kind::ColumnCount, "columns", Value::Int(found)))
}

/// The text of a column; the width has been checked.
#[inline]
pub(crate) fn field<'a>(row: &Line<'a>, index: usize) -> &'a [u8] {
    row.field(index)
}

#[inline]
pub(crate) fn needed_int(row: &Line<'_>, index: usize, column: &'static str) -> Result<i64, Fault> {
    let text = field(row, index);
    int(text).ok_or_else(|| unreadable(column, text))
}

#[cold]
pub(crate) fn unreadable(column: &'static str, text: &[u8]) -> Fault {
    if text.is_empty() {
        Fault::missing(column)
    } else {
        Fault::text(Kind::NumberUnreadable, column, text)
    }
}

#[inline]
pub(crate) fn needed_id(row: &Line<'_>, index: usize, column: &'static str) -> Result<u64, Fault> {
    needed_int(row, index, column).map(i64::cast_unsigned)
}

#[inline]
pub(crate) fn optional_id(
    row: &Line<'_>,
    index: usize,
    column: &'static str,
) -> Result<Option<u64>, Fault> {
    if field(row, index).is_empty() { Ok(None) } else { needed_id(row, index, column).map(Some) }
}

/// A number that may be empty. One that cannot be read is counted and left out.
#[inline]
pub(crate) fn float_of(text: &[u8], column: &'static str, out: &mut Output) -> Option<f64> {
    if text.is_empty() {
        return None;
    }
    let value = float(text);
    if value.is_none() {
        out.fault(Fault::text(Kind::NumberUnreadable, column, text));
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quoted_fields_are_those_of_the_csv_crate(text in "[,a\"]{1,30}") {
            // What follows is another row, unless a quote is open.
            let two = format!("{text}\nnext");
            let mut reader = csv::ReaderBuilder::new();
            let mut theirs = reader.has_headers(false).flexible(true).from_reader(two.as_bytes());
            let theirs: Vec<_> = theirs.byte_records().map(Result::unwrap).collect();
            let (mut unquoted, mut ends) = (Vec::new(), Vec::new());
            let ours = Line::split_quoted(text.as_bytes(), &mut unquoted, &mut ends);
            prop_assert_eq!(ours.is_some(), theirs.len() == 2);
            if let Some(ours) = ours {
                let theirs: Vec<_> = theirs[0].iter().collect();
                prop_assert_eq!(ours.iter().collect::<Vec<_>>(), theirs);
            }
        }

        #[test]
        fn fields_are_those_of_a_plain_split(text in "[,a-c+.\\-\\u{ac}é]{0,60}") {
            let mut ends = Vec::new();
            let line = Line::split(text.as_bytes(), &mut ends);
            let plain: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == b',').collect();
            prop_assert_eq!(line.len(), plain.len());
            for (at, field) in plain.into_iter().enumerate() {
                prop_assert_eq!(line.field(at), field);
            }
            prop_assert!(line.field(line.len()).is_empty());
        }
    }
}
