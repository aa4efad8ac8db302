//! Reading a few files whole.

use std::fs;
use std::path::{Path, PathBuf};

use cirrus_trace::formats::Format;
use cirrus_trace::problems::Problems;
use cirrus_trace::reading::{Options, open};
use cirrus_trace::record::{Amount, Record, Use};

pub(crate) fn options() -> Options {
    let mut options = Options::default();
    options.threads = 2;
    options
}

/// Every record of a trace, and what was wrong.
pub(crate) fn read_with(
    format: Format,
    paths: &[PathBuf],
    options: Options,
) -> (Vec<Record>, Problems) {
    let mut reading = open(format, paths, options).unwrap();
    let records: Vec<Record> = reading.by_ref().collect();
    assert_eq!(reading.next(), None, "it stays at its end");
    (records, reading.problems().clone())
}

pub(crate) fn read(format: Format, path: &Path) -> (Vec<Record>, Problems) {
    read_with(format, &[path.to_owned()], options())
}

/// Every record of one file with this text.
pub(crate) fn read_text(format: Format, name: &str, text: &str) -> (Vec<Record>, Problems) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    read(format, &path)
}

pub(crate) fn both(cpu: f64, memory: f64) -> Amount {
    Amount { cpu: Some(cpu), memory: Some(memory) }
}

pub(crate) fn memory(memory: f64) -> Amount {
    Amount { cpu: None, memory: Some(memory) }
}

pub(crate) fn uses(records: &[Record]) -> Vec<&Use> {
    let mut uses = Vec::new();
    for record in records {
        if let Record::Use(used) = record {
            uses.push(used);
        }
    }
    uses
}
