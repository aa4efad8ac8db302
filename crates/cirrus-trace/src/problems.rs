//! What was wrong in the files of a trace.
//!
//! Owns: the kinds of problem, how often each came up, and where it did first.
//! Knows nothing of: formats and figures.
//! Invariant: whatever of a trace is not used as it stands is counted here, under exactly one kind.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// How much of an offending text is kept.
const TEXT_MAX: usize = 80;

/// What can be wrong with a row, or with a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A file could not be opened, or not be read to its end.
    FileUnreadable,
    /// A gzip file ends before its data do; the rows before the cut are used.
    GzipTruncated,
    /// A file that is named, or a part of a table that its other parts count, is not there.
    FileMissing,
    /// A file of the directory belongs to no table that is used.
    FileNotUsed,
    /// A file lacks a column that every row needs: none of its rows is used.
    ColumnMissing,
    /// A row has more or fewer columns than its table: the row is not used.
    ColumnCount,
    /// A quote is not closed before the line ends: the row is not used.
    QuoteOpen,
    /// A line is longer than any row: it is not used.
    LineTooLong,
    /// A line is not JSON: the row is not used.
    NotJson,
    /// A number that cannot be read. The row is not used if it needs the number, else the value is not.
    NumberUnreadable,
    /// A value that is needed is empty: the row is not used.
    ValueMissing,
    /// An amount below zero, not finite, or far above every machine: the value is not used.
    OutOfRange,
    /// An amount above that of the largest machine, and not far above: it is used.
    AboveOne,
    /// An interval that ends where it starts, or before: the row is not used.
    NoTime,
    /// An event of a number that the format does not know: the row is not used.
    EventUnknown,
    /// A name of a priority class that the format does not know: the row is used, without a class.
    ClassUnknown,
    /// A task's instance whose task is not in the trace, or comes after it: used without a request.
    PlanUnknown,
    /// A share of a machine's capacity, which is unknown: the row is not used.
    CapacityUnknown,
    /// A record that came after its slot was closed: it is not used.
    Late,
    /// Rows could not be put in order on disk; those that could are used.
    SortFailed,
}

impl Kind {
    /// Every kind, in the order in which they are told.
    pub const ALL: [Kind; 20] = [
        Kind::FileUnreadable,
        Kind::GzipTruncated,
        Kind::FileMissing,
        Kind::FileNotUsed,
        Kind::ColumnMissing,
        Kind::ColumnCount,
        Kind::QuoteOpen,
        Kind::LineTooLong,
        Kind::NotJson,
        Kind::NumberUnreadable,
        Kind::ValueMissing,
        Kind::OutOfRange,
        Kind::AboveOne,
        Kind::NoTime,
        Kind::EventUnknown,
        Kind::ClassUnknown,
        Kind::PlanUnknown,
        Kind::CapacityUnknown,
        Kind::Late,
        Kind::SortFailed,
    ];

    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::FileUnreadable => "file_unreadable",
            Kind::GzipTruncated => "gzip_truncated",
            Kind::FileMissing => "file_missing",
            Kind::FileNotUsed => "file_not_used",
            Kind::ColumnMissing => "column_missing",
            Kind::ColumnCount => "column_count",
            Kind::QuoteOpen => "quote_open",
            Kind::LineTooLong => "line_too_long",
            Kind::NotJson => "not_json",
            Kind::NumberUnreadable => "number_unreadable",
            Kind::ValueMissing => "value_missing",
            Kind::OutOfRange => "out_of_range",
            Kind::AboveOne => "above_one",
            Kind::NoTime => "no_time",
            Kind::EventUnknown => "event_unknown",
            Kind::ClassUnknown => "class_unknown",
            Kind::PlanUnknown => "plan_unknown",
            Kind::CapacityUnknown => "capacity_unknown",
            Kind::Late => "late",
            Kind::SortFailed => "sort_failed",
        }
    }

    /// What it is for a person, said of one and of many.
    fn said(self) -> [&'static str; 2] {
        match self {
            Kind::FileUnreadable => ["file could not be read", "files could not be read"],
            Kind::GzipTruncated => ["gzip file is cut off", "gzip files are cut off"],
            Kind::FileMissing => ["file is missing", "files are missing"],
            Kind::FileNotUsed => ["file is of no table in use", "files are of no table in use"],
            Kind::ColumnMissing => ["file lacks a column", "files lack a column"],
            Kind::ColumnCount => {
                ["row has a wrong number of columns", "rows have a wrong number of columns"]
            }
            Kind::QuoteOpen => {
                ["quote is not closed in its line", "quotes are not closed in their lines"]
            }
            Kind::LineTooLong => ["line is too long", "lines are too long"],
            Kind::NotJson => ["line is not JSON", "lines are not JSON"],
            Kind::NumberUnreadable => ["number cannot be read", "numbers cannot be read"],
            Kind::ValueMissing => ["row lacks a value", "rows lack a value"],
            Kind::OutOfRange => {
                ["amount is out of range: left out", "amounts are out of range: left out"]
            }
            Kind::AboveOne => [
                "amount is above the largest machine: used",
                "amounts are above the largest machine: used",
            ],
            Kind::NoTime => ["interval is empty", "intervals are empty"],
            Kind::EventUnknown => ["event is unknown", "events are unknown"],
            Kind::ClassUnknown => ["priority class is unknown", "priority classes are unknown"],
            Kind::PlanUnknown => {
                ["instance is of an unknown task", "instances are of unknown tasks"]
            }
            Kind::CapacityUnknown => {
                ["use is a share of an unknown capacity", "uses are shares of an unknown capacity"]
            }
            Kind::Late => ["record came too late", "records came too late"],
            Kind::SortFailed => {
                ["batch could not be put in order", "batches could not be put in order"]
            }
        }
    }
}

/// Where something is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// Where in it; `None`: the file as a whole.
    pub at: Option<Spot>,
}

/// Where in a file, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// A line of text.
    Line(u64),
    /// A row of a Parquet file, in its row group.
    Row {
        /// The row group.
        group: u64,
        /// The row in it.
        row: u64,
    },
}

/// How often a kind of problem came up, and where first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// Where first; `None`: not at a place in a file.
    pub first: Option<Place>,
    /// What was wrong there.
    pub text: String,
}

/// Every problem of a trace, by kind: at most one place and one text is kept of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Problems {
    tallies: [Option<Box<Tally>>; Kind::ALL.len()],
}

impl Problems {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tallies.iter().all(Option::is_none)
    }

    /// How many there are of a kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        self.get(kind).map_or(0, |tally| tally.count)
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, tally)| tally.count).sum()
    }

    /// Those of a kind.
    #[must_use]
    pub fn get(&self, kind: Kind) -> Option<&Tally> {
        self.tallies[kind as usize].as_deref()
    }

    /// Every kind that came up.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &Tally)> {
        Kind::ALL.into_iter().filter_map(|kind| Some((kind, self.get(kind)?)))
    }

    /// Counts one. `first` is asked only if it is the first of its kind.
    pub fn add(&mut self, kind: Kind, first: impl FnOnce() -> (Option<Place>, String)) {
        self.add_many(kind, 1, first);
    }

    /// Counts so many.
    pub(crate) fn add_many(
        &mut self,
        kind: Kind,
        count: u64,
        first: impl FnOnce() -> (Option<Place>, String),
    ) {
        if let Some(tally) = &mut self.tallies[kind as usize] {
            tally.count += count;
        } else if count > 0 {
            let (first, text) = first();
            self.tallies[kind as usize] =
                Some(Box::new(Tally { count, first, text: shortened(&text) }));
        }
    }

    /// Adds those of a later part: the first of each kind stays.
    pub fn merge(&mut self, later: Problems) {
        for (mine, theirs) in self.tallies.iter_mut().zip(later.tallies) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => mine.count += theirs.count,
                (mine @ None, theirs) => *mine = theirs,
                (Some(_), None) => {}
            }
        }
    }
}

/// At most [`TEXT_MAX`] characters on one line, no control characters.
fn shortened(text: &str) -> String {
    let mut short: String =
        text.chars().take(TEXT_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(TEXT_MAX).is_some() {
        short.push('…');
    }
    short
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spot::Line(line) => write!(f, "{line}"),
            Spot::Row { group, row } => write!(f, "row group {group}, row {row}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        self.at.map_or(Ok(()), |spot| write!(f, ":{spot}"))
    }
}

impl fmt::Display for Problems {
    /// One line for each kind, most of them: `12 numbers cannot be read, first at FILE:LINE: memory "x"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, tally) in self.iter() {
            let [one, many] = kind.said();
            write!(f, "{} {}", tally.count, if tally.count == 1 { one } else { many })?;
            match &tally.first {
                Some(place) if tally.count > 1 => write!(f, ", first at {place}")?,
                Some(place) => write!(f, ", at {place}")?,
                None => {}
            }
            if !tally.text.is_empty() {
                write!(f, ": {}", tally.text)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u64) -> Option<Place> {
        Some(Place { file: Path::new("a.csv").into(), at: Some(Spot::Line(line)) })
    }

    #[test]
    fn every_kind_is_at_its_place_in_all() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{kind:?}");
        }
    }

    #[test]
    fn the_first_of_a_kind_stays_when_parts_are_added() {
        let mut problems = Problems::default();
        problems.add(Kind::Late, || (None, String::new()));
        problems.add(Kind::OutOfRange, || (at(3), "memory \"-1\"".into()));
        problems.add(Kind::OutOfRange, || panic!("the first is known"));
        let mut later = Problems::default();
        later.add(Kind::OutOfRange, || (at(9), "memory \"-2\"".into()));
        later.add(Kind::NoTime, || (at(10), "7 to 7".into()));
        problems.merge(later);
        assert_eq!(problems.total(), 5);
        assert_eq!(
            problems.to_string(),
            "3 amounts are out of range: left out, first at a.csv:3: memory \"-1\"\n\
             1 interval is empty, at a.csv:10: 7 to 7\n\
             1 record came too late\n"
        );
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let mut problems = Problems::default();
        problems.add(Kind::NotJson, || (None, "é\n".repeat(80)));
        let text = &problems.get(Kind::NotJson).unwrap().text;
        assert_eq!(text.chars().count(), TEXT_MAX + 1);
        assert!(text.ends_with('…') && !text.contains('\n'), "{text}");
    }
}
