//! A file of a trace, as rows.
//!
//! Owns: which decoder a file is read with.
//! Knows nothing of: the other files, threads.
//! Invariant: a file that cannot be opened or breaks off is a problem and its end, nothing more.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::bytes::{self, Counter};
use super::lines::{Csv, JsonLines};
use super::numbered::{Numbered, parse_of};
use super::parquet::Parquet;
use crate::formats::Table;
use crate::formats::output::Output;
use crate::problems::Kind;
use crate::record::Micros;

/// How the rows of a file are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Csv,
    JsonLines,
    Parquet,
}

/// What of the options the tables need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) allocs: bool,
    pub(crate) slot: Micros,
}

/// A file that is a part of a table.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) path: Arc<Path>,
    /// Which one of its table it is.
    pub(crate) number: u32,
    pub(crate) table: Table,
    pub(crate) encoding: Encoding,
}

/// Whether a file has more rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Yes,
    No,
}

/// A file that is being read.
pub(crate) trait Decode: Send {
    /// Reads at most [`super::ROWS`] rows.
    fn fill(&mut self, out: &mut Output) -> More;
}

/// Opens a part; what goes wrong is for the caller to count.
pub(crate) fn open(
    part: &Part,
    settings: Settings,
    counter: &Counter,
) -> io::Result<Box<dyn Decode>> {
    if part.encoding == Encoding::Parquet {
        return Ok(Box::new(Parquet::open(&part.path, part.table, settings, counter.clone())?));
    }
    let bytes = bytes::open(&part.path, counter)?;
    Ok(if part.encoding == Encoding::Csv {
        match parse_of(part.table) {
            Some(parse) => Box::new(Numbered::new(parse, bytes)),
            None => Box::new(Csv::new(part.table, bytes, settings)),
        }
    } else {
        Box::new(JsonLines::new(part.table, bytes, settings))
    })
}

/// Counts what a file cannot be read on for, at the row at hand.
pub(crate) fn stopped(error: &io::Error, out: &mut Output) {
    let kind = match error.kind() {
        io::ErrorKind::UnexpectedEof => Kind::GzipTruncated,
        _ => Kind::FileUnreadable,
    };
    out.stopped_at(kind, &error.to_string());
}
