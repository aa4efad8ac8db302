//! Fields of rows, by number.
//!
//! Owns: which faults an empty or unreadable field is.
//! Knows nothing of: what a column means.
//! Invariant: a row's width is checked before its fields are asked for.

use csv::ByteRecord;

use super::number::{float, int};
use super::output::{Fault, Output, Value};
use crate::problems::Kind;

/// Refuses a row of another width.
#[inline]
pub(crate) fn columns(row: &ByteRecord, expected: usize) -> Result<(), Fault> {
    if row.len() == expected {
        return Ok(());
    }
    let found = i64::try_from(row.len()).unwrap_or(i64::MAX);
    Err(Fault::new(Kind::ColumnCount, "columns", Value::Int(found)))
}

/// The text of a column; the width has been checked.
#[inline]
pub(crate) fn field(row: &ByteRecord, index: usize) -> &[u8] {
    row.get(index).unwrap_or_default()
}

#[inline]
pub(crate) fn needed_int(
    row: &ByteRecord,
    index: usize,
    column: &'static str,
) -> Result<i64, Fault> {
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
pub(crate) fn needed_id(
    row: &ByteRecord,
    index: usize,
    column: &'static str,
) -> Result<u64, Fault> {
    needed_int(row, index, column).map(i64::cast_unsigned)
}

#[inline]
pub(crate) fn optional_id(
    row: &ByteRecord,
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
