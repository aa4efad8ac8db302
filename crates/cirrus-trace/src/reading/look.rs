//! The beginning of a file.
//!
//! Owns: how its rows are written, and what the first one is.
//! Knows nothing of: what the user says it is.
//! Invariant: no more than [`HEAD`] bytes of text are read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};
use parquet::file::reader::SerializedFileReader;

use super::bytes::{self, Counter};
use super::parquet::leaf_names;
use crate::formats::Table;
use crate::formats::recognise::{by_columns, by_fields, by_keys};

/// A first row is not longer.
const HEAD: u64 = 64 << 10;

/// How a file begins.
pub(crate) enum Look {
    /// The names of its columns.
    Parquet(Vec<String>),
    /// The first object, or null if it is broken.
    Json(serde_json::Value),
    /// The first row of text.
    Row(ByteRecord),
    Tar,
    Empty,
}

/// Looks at a file. A gzip file that is cut off is looked at up to the cut.
pub(crate) fn look(path: &Path) -> io::Result<Look> {
    let mut head = Vec::new();
    if let Err(error) = bytes::open(path, &Counter::default())?.take(HEAD).read_to_end(&mut head)
        && error.kind() != io::ErrorKind::UnexpectedEof
    {
        return Err(error);
    }
    if head.starts_with(b"PAR1") {
        let file = SerializedFileReader::new(File::open(path)?).map_err(io::Error::other)?;
        return Ok(Look::Parquet(leaf_names(&file)));
    }
    if head.get(257..262) == Some(b"ustar") {
        return Ok(Look::Tar);
    }
    let text = head.trim_ascii_start();
    if text.starts_with(b"{") {
        let line = text.split(|&b| b == b'\n').next().unwrap_or_default();
        return Ok(Look::Json(serde_json::from_slice(line).unwrap_or_default()));
    }
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).from_reader(head.as_slice());
    let mut row = ByteRecord::new();
    match reader.read_byte_record(&mut row) {
        Ok(true) => Ok(Look::Row(row)),
        _ => Ok(Look::Empty),
    }
}

impl Look {
    /// The table that it is of, if it is of any.
    pub(crate) fn table(&self) -> Option<Table> {
        match self {
            Look::Parquet(names) => {
                by_columns(names.iter().map(String::as_bytes)).filter(|&t| t != Table::Generic)
            }
            Look::Json(object) => by_keys(|key| object.get(key).is_some()),
            Look::Row(row) => {
                let fields: Vec<&[u8]> = row.iter().collect();
                by_columns(fields.iter().copied()).or_else(|| by_fields(&fields))
            }
            Look::Tar | Look::Empty => None,
        }
    }
}
