//! Files that people write, in TOML.
//!
//! Owns reading one and saying where it is wrong. May not know what is in it. Invariant: an error is
//! one line that names the file and the line.

use std::fs::File;
use std::io::Read as _;

use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// The longest file, in bytes.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Reads `path`, which is a `kind` of file; `hint` says what one has.
pub(crate) fn read<T: DeserializeOwned>(kind: &str, path: &str, hint: &str) -> Result<T, Failure> {
    let unreadable = |error| Failure::input(format!("cannot read {kind} {path}: {error}"));
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    if len > TEXT_BYTES_MAX {
        return Err(Failure::input(format!(
            "{kind} {path} has {len} bytes; expected at most {TEXT_BYTES_MAX}"
        )));
    }
    file.take(TEXT_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    toml::from_str(&text).map_err(|error| {
        let problem = error.message().replace('\n', " ");
        let line = error.span().map_or(1, |span| {
            text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1)
        });
        Failure::input(format!("{kind} {path}, line {line}: {problem}; {hint}"))
    })
}
