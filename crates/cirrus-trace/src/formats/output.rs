//! Where a parser puts what it made of a row, and what was wrong with it.
//!
//! Owns: the checks of amounts and times that formats share.
//! Knows nothing of: columns.
//! Invariant: an amount that passes is finite and not negative.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::Row;
use crate::problems::{Kind, Place, Problems, Spot};
use crate::record::Micros;

/// How far above the largest machine an amount may be: what is used may pass what is there for a
/// while (processors above all), but not by an order of magnitude.
pub(crate) const NORMALISED_MAX: f64 = 16.0;

/// Events of Google's traces at this time came after the trace's end.
pub(crate) const AFTER_THE_END: Micros = Micros::MAX;

/// A value as it stands in a file, cut to what is shown of it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Text {
    bytes: [u8; 30],
    len: u8,
}

impl Text {
    pub(crate) fn new(text: &[u8]) -> Text {
        let mut bytes = [0; 30];
        let len = text.len().min(bytes.len());
        bytes[..len].copy_from_slice(&text[..len]);
        Text { bytes, len: u8::try_from(len).unwrap_or(u8::MAX) }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.bytes[..usize::from(self.len)]))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The file of a table and the line in it that a row is from, for what is found to be wrong with it
/// only beside others. In eight bytes, because rows wait in great numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin(pub(crate) u64);

impl Origin {
    const LINE_BITS: u32 = 40;
    const LINE_MAX: u64 = (1 << Self::LINE_BITS) - 1;

    fn new(file: u32, line: u64) -> Origin {
        let line = if line > Self::LINE_MAX { 0 } else { line };
        Origin(u64::from(file) << Self::LINE_BITS | line)
    }

    /// Which file of the table.
    pub(crate) fn file(self) -> usize {
        usize::try_from(self.0 >> Self::LINE_BITS).unwrap_or(usize::MAX)
    }

    /// `None`: not in a text, or beyond 2^40 lines.
    pub(crate) fn spot(self) -> Option<Spot> {
        Some(self.0 & Self::LINE_MAX).filter(|line| *line > 0).map(Spot::Line)
    }
}

/// Why a row, or a value, is not used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// The column that it is about.
    pub(crate) column: &'static str,
    pub(crate) value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Text(Text),
    Int(i64),
    Float(f64),
    Span(Micros, Micros),
    Nothing,
}

impl Fault {
    pub(crate) fn new(kind: Kind, column: &'static str, value: Value) -> Fault {
        Fault { kind, column, value }
    }

    pub(crate) fn text(kind: Kind, column: &'static str, text: &[u8]) -> Fault {
        Fault::new(kind, column, Value::Text(Text::new(text)))
    }

    pub(crate) fn missing(column: &'static str) -> Fault {
        Fault::new(Kind::ValueMissing, column, Value::Nothing)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.column)?;
        match &self.value {
            Value::Text(text) => write!(f, " \"{text}\""),
            Value::Int(value) => write!(f, " {value}"),
            Value::Float(value) => write!(f, " {value}"),
            Value::Span(start, end) => write!(f, " {start} to {end} us"),
            Value::Nothing => Ok(()),
        }
    }
}

/// What becomes of the rows of one file, up to the next hand-over.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) rows: Vec<Row>,
    pub(crate) problems: Problems,
    pub(crate) file: Arc<Path>,
    /// Which file of its table that is.
    number: u32,
    /// The row at hand.
    pub(crate) spot: Spot,
}

impl Output {
    pub(crate) fn new(file: Arc<Path>, number: u32) -> Output {
        let (rows, problems) = (Vec::new(), Problems::default());
        Output { rows, problems, file, number, spot: Spot::Line(1) }
    }

    /// Where the row at hand is.
    pub(crate) fn origin(&self) -> Origin {
        match self.spot {
            Spot::Line(line) => Origin::new(self.number, line),
            Spot::Row { .. } => Origin::new(self.number, 0),
        }
    }

    /// Counts what is wrong with the row at hand.
    #[cold]
    pub(crate) fn fault(&mut self, fault: Fault) {
        let (file, spot) = (&self.file, self.spot);
        self.problems.add(fault.kind, || {
            (Some(Place { file: Arc::clone(file), at: Some(spot) }), fault.to_string())
        });
    }

    /// Counts what is wrong with the file as a whole.
    pub(crate) fn file_fault(&mut self, kind: Kind, text: &str) {
        let file = &self.file;
        self.problems
            .add(kind, || (Some(Place { file: Arc::clone(file), at: None }), text.to_owned()));
    }

    /// Counts what ends the reading of the file at the row at hand.
    pub(crate) fn stopped_at(&mut self, kind: Kind, text: &str) {
        let (file, spot) = (&self.file, self.spot);
        self.problems.add(kind, || {
            (Some(Place { file: Arc::clone(file), at: Some(spot) }), text.to_owned())
        });
    }

    /// An amount without an upper limit.
    #[inline]
    pub(crate) fn amount(&mut self, column: &'static str, value: f64) -> Option<f64> {
        if value >= 0.0 && value.is_finite() {
            return Some(value);
        }
        self.fault(Fault::new(Kind::OutOfRange, column, Value::Float(value)));
        None
    }

    /// An amount of which one is the largest machine.
    #[inline]
    pub(crate) fn normalised(&mut self, column: &'static str, value: f64) -> Option<f64> {
        if (0.0..=1.0).contains(&value) {
            return Some(value);
        }
        let used = (0.0..=NORMALISED_MAX).contains(&value);
        let kind = if used { Kind::AboveOne } else { Kind::OutOfRange };
        self.fault(Fault::new(kind, column, Value::Float(value)));
        used.then_some(value)
    }
}

/// What lies before the trace's zero is taken to be at it: the state at the start.
pub(crate) fn not_before_zero(at: Micros) -> Micros {
    at.max(0)
}

/// An interval that ends after it starts, and what of it lies after the trace's zero.
pub(crate) fn interval(start: Micros, end: Micros) -> Result<(Micros, Micros), Fault> {
    let (from, to) = (not_before_zero(start), not_before_zero(end));
    if from < to && to < AFTER_THE_END {
        Ok((from, to))
    } else {
        Err(Fault::new(Kind::NoTime, "interval", Value::Span(start, end)))
    }
}
