//! Tables in parts that say in their names how many there are: `part-00007-of-00500.csv.gz`.
//!
//! Owns: which of them are not there.
//! Knows nothing of: what is in them.
//! Invariant: a file that is there, readable or not, is not missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::formats::Format;
use crate::formats::recognise::{Named, by_name};
use crate::problems::{Kind, Place, Problems};

/// Names of the parts of a table: what is before the number, its digits, how many parts there are,
/// and what is behind it.
type Set<'a> = (&'a Path, &'a str, usize, u64, &'a str);

/// Counts the parts that a folder lacks. Files that are named one by one are what was wanted.
pub(super) fn add_missing(format: Format, files: &[(PathBuf, bool)], problems: &mut Problems) {
    let mut sets: BTreeMap<Set<'_>, BTreeSet<u64>> = BTreeMap::new();
    let walked = files.iter().filter(|(_, is_named)| !is_named).map(|(path, _)| path);
    for path in walked.filter(|path| by_name(format, path) != Named::NotUsed) {
        if let Some((set, number)) = part(path) {
            sets.entry(set).or_default().insert(number);
        }
    }
    for ((folder, before, digits, of, behind), numbers) in sets {
        let missing = of.saturating_sub(numbers.len() as u64);
        problems.add_many(Kind::FileMissing, missing, || {
            let first = (0..of).find(|number| !numbers.contains(number)).unwrap_or(0);
            let name = format!("{before}{first:0digits$}-of-{of:0digits$}{behind}");
            let place = Place { file: Arc::from(folder.join(name)), at: None };
            (Some(place), format!("{} of {of} parts are there", numbers.len()))
        });
    }
}

/// The set that a file is a part of, and which one it is.
fn part(path: &Path) -> Option<(Set<'_>, u64)> {
    let (folder, name) = (path.parent()?, path.file_name()?.to_str()?);
    let (left, right) = name.split_once("-of-")?;
    let before = left.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = &left[before.len()..];
    let behind = right.trim_start_matches(|c: char| c.is_ascii_digit());
    let of: u64 = right[..right.len() - behind.len()].parse().ok()?;
    let number = number.parse().ok().filter(|number| *number < of)?;
    Some(((folder, before, left.len() - before.len(), of, behind), number))
}
