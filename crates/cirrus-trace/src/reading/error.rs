//! Why a trace cannot be read at all.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a trace cannot be read at all. What is wrong within its files is a
/// [problem](crate::problems::Problems), not an error.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    path: PathBuf,
    text: String,
}

/// What callers tell errors apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A path does not exist.
    Missing,
    /// A path exists and cannot be read.
    Unreadable,
    /// A file is of another format, or of none.
    Format,
    /// There is no file to read.
    Empty,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, path: &Path, text: impl Into<String>) -> Error {
        Error { kind, path: path.to_owned(), text: text.into() }
    }

    /// Which sort of error it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The path that it is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.text)
    }
}

impl std::error::Error for Error {}
