//! Which files a trace is made of, and which table each is of.
//!
//! Owns: walking directories, looking at the beginning of every file.
//! Knows nothing of: rows beyond the first.
//! Invariant: files are in the order of their names, numbers in them by value.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decode::{Encoding, Part};
use super::error::{Error, ErrorKind};
use super::look::{Look, look};
use crate::formats::recognise::{Named, by_name};
use crate::formats::{Format, Table};
use crate::problems::{Kind, Place, Problems};

/// Directories within each other; deeper ones are taken to be a circle of links.
const DEPTH_MAX: usize = 32;

/// The files of a trace.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) tables: BTreeMap<Table, Vec<Part>>,
    pub(crate) bytes: u64,
    pub(crate) problems: Problems,
}

/// Looks at every path, and at every file in those that are directories.
pub(crate) fn find(format: Format, paths: &[PathBuf]) -> Result<Files, Error> {
    let mut all = Vec::new();
    let mut files = Files::default();
    let mut missing = None;
    for path in paths {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let place = Place { file: Arc::from(path.as_path()), at: None };
                files.problems.add(Kind::FileMissing, || (Some(place), String::new()));
                missing.get_or_insert(path);
                continue;
            }
            Err(error) => {
                return Err(Error::new(ErrorKind::Unreadable, path, error.to_string()));
            }
        };
        if metadata.is_dir() {
            walk(path, 0, &mut |file| all.push((file.to_owned(), false)))
                .map_err(|error| Error::new(ErrorKind::Unreadable, path, error.to_string()))?;
        } else {
            all.push((path.clone(), true));
        }
    }
    all.sort_by(|(a, a_named), (b, b_named)| natural(a, b).then(b_named.cmp(a_named)));
    all.dedup_by(|(a, _), (b, _)| a == b);
    super::parts::add_missing(format, &all, &mut files.problems);
    let mut other = None;
    for (path, is_named) in &all {
        match choose(format, path) {
            Choice::Part(part) => {
                files.bytes += fs::metadata(path).map_or(0, |metadata| metadata.len());
                let parts = files.tables.entry(part.table).or_default();
                let number = u32::try_from(parts.len()).unwrap_or(u32::MAX);
                parts.push(Part { number, ..part });
            }
            Choice::NotUsed(kind, text) => {
                let place = Place { file: Arc::from(path.as_path()), at: None };
                files.problems.add(kind, || (Some(place), text));
            }
            Choice::Other(text) if *is_named => {
                return Err(Error::new(ErrorKind::Format, path, text));
            }
            Choice::Unreadable(text) if *is_named => {
                return Err(Error::new(ErrorKind::Unreadable, path, text));
            }
            Choice::Other(text) => {
                let place = Place { file: Arc::from(path.as_path()), at: None };
                files.problems.add(Kind::FileNotUsed, || (Some(place), text.clone()));
                other.get_or_insert((path, text));
            }
            Choice::Unreadable(text) => {
                let place = Place { file: Arc::from(path.as_path()), at: None };
                files.problems.add(Kind::FileUnreadable, || (Some(place), text));
            }
        }
    }
    if files.tables.is_empty() {
        let first = paths.first().map_or(Path::new("."), PathBuf::as_path);
        return Err(match (other, missing) {
            (Some((path, text)), _) => Error::new(ErrorKind::Format, path, text),
            (None, Some(path)) => Error::new(ErrorKind::Missing, path, "it does not exist"),
            (None, None) => {
                Error::new(ErrorKind::Empty, first, format!("no file of a {format} trace"))
            }
        });
    }
    Ok(files)
}

/// The format and table that a file looks to be of, or the first such file in a directory.
#[must_use]
pub fn detect(path: &Path) -> Option<Table> {
    if !path.is_dir() {
        return look(path).ok()?.table();
    }
    let mut files = Vec::new();
    // What could be listed before an error is looked at all the same.
    let _listed = walk(path, 0, &mut |file| files.push(file.to_owned()));
    files.sort_by(|a, b| natural(a, b));
    files.iter().find_map(|file| look(file).ok()?.table())
}

/// What becomes of a file.
enum Choice {
    Part(Part),
    NotUsed(Kind, String),
    /// It is no table of the format.
    Other(String),
    Unreadable(String),
}

fn choose(format: Format, path: &Path) -> Choice {
    let named = by_name(format, path);
    if named == Named::NotUsed {
        return Choice::NotUsed(Kind::FileNotUsed, "no figure needs it".into());
    }
    let look = match look(path) {
        Ok(look) => look,
        Err(error) => return Choice::Unreadable(error.to_string()),
    };
    let encoding = match look {
        Look::Parquet(_) => Encoding::Parquet,
        Look::Json(_) => Encoding::JsonLines,
        Look::Tar => return Choice::Other("a tar archive: unpack it first".into()),
        Look::Row(..) | Look::Empty => Encoding::Csv,
    };
    let table = match (named, look.table()) {
        (_, Some(table)) if table.format() == format => table,
        (_, Some(table)) => {
            let (other, name) = (table.format(), table.name());
            let what = if other == Format::Generic { String::new() } else { format!(" {name}") };
            return Choice::Other(format!(
                "this looks like {other}{what}: say `cirrus trace {other}`"
            ));
        }
        // Its first row is broken, or it has none.
        (Named::Table(table), None)
            if encoding == Encoding::Csv || format == Format::Google2019 =>
        {
            table
        }
        _ => return Choice::Other(format!("this is no table of a {format} trace")),
    };
    Choice::Part(Part { path: Arc::from(path), number: 0, table, encoding })
}

/// Every file below a directory that is not hidden.
fn walk(directory: &Path, depth: usize, found: &mut dyn FnMut(&Path)) -> std::io::Result<()> {
    if depth >= DEPTH_MAX {
        return Err(std::io::Error::other(format!(
            "directories are nested deeper than {DEPTH_MAX}"
        )));
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            walk(&path, depth + 1, found)?;
        } else {
            found(&path);
        }
    }
    Ok(())
}

/// By name, with runs of digits in it by their value: `part-2` before `part-10`.
fn natural(a: &Path, b: &Path) -> Ordering {
    let (mut left, mut right) =
        (a.as_os_str().as_encoded_bytes(), b.as_os_str().as_encoded_bytes());
    loop {
        let numbers = (number(left), number(right));
        let order = if let (Some((x, rest_x)), Some((y, rest_y))) = numbers {
            (left, right) = (rest_x, rest_y);
            // Without zeros before them, the longer one is the larger one.
            x.len().cmp(&y.len()).then(x.cmp(y))
        } else {
            let (Some((x, rest_x)), Some((y, rest_y))) = (left.split_first(), right.split_first())
            else {
                return left.len().cmp(&right.len()).then_with(|| a.cmp(b));
            };
            (left, right) = (rest_x, rest_y);
            x.cmp(y)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// The digits that a text begins with, without the zeros before them, and what follows.
fn number(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().take_while(|&&b| b == b'0').count();
    (end > 0).then(|| (&digits[zeros..], rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_ordered_by_value() {
        let mut names =
            ["a/part-10", "a/part-2", "a/part-02b", "a", "a/part-2.gz", "b/part-1", "a/p"];
        names.sort_by(|a, b| natural(Path::new(a), Path::new(b)));
        assert_eq!(
            names,
            ["a", "a/p", "a/part-2", "a/part-2.gz", "a/part-02b", "a/part-10", "b/part-1"]
        );
    }
}
