//! What went wrong, said once for the whole crate.
//!
//! Owns the error type and its kinds. Knows nothing about what the other modules do.
//! Invariant: `Display` is one line that names the thing and what to do next.

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can decide on: who has to act on an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What the caller gave is wrong: a folder, an option, a label.
    Input,
    /// Something outside this program is missing: a package, a program, the network.
    Unavailable,
    /// Bytes that should follow a format or a hash do not.
    Corrupt,
    /// The operating system refused a read, a write or a process.
    Io,
    /// The user asked to stop.
    Cancelled,
    /// Training itself failed, for example because the loss is not a number.
    Train,
}

/// One error: a kind to match on, a sentence to read, and what caused it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that reads `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), context: Vec::new(), source: None }
    }

    /// Who has to act.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The named values that were attached with [`Error::with`], in that order.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.context
    }

    /// Attaches a named value, for example the file that was being read.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((name, value.to_string()));
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Wrong input from the caller.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, message)
    }

    /// Bytes that break their format.
    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// Something outside this program is missing.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// A system call on `path` failed while doing `what` ("read", "create").
    pub(crate) fn io(what: &str, path: &Path, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("cannot {what} {}", path.display())).caused_by(source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)?;
        for (place, (name, value)) in self.context.iter().enumerate() {
            let opening = if place == 0 { " (" } else { ", " };
            write!(out, "{opening}{name}: {value}")?;
        }
        if !self.context.is_empty() {
            out.write_str(")")?;
        }
        match &self.source {
            Some(source) => write!(out, ": {}", source.to_string().replace('\n', " ")),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<Error> for cirrus::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Input | ErrorKind::Corrupt => cirrus::Kind::Input,
            ErrorKind::Unavailable => cirrus::Kind::NotFound,
            ErrorKind::Io => cirrus::Kind::Io,
            ErrorKind::Cancelled => cirrus::Kind::Cancelled,
            ErrorKind::Train => cirrus::Kind::Task,
        };
        Self::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_line_with_context_and_cause() {
        let cause = std::io::Error::other("first\nsecond");
        let error =
            Error::input("bad folder").with("path", "/a").with("classes", 0).caused_by(cause);
        assert_eq!(error.to_string(), "bad folder (path: /a, classes: 0): first second");
        assert_eq!(error.kind(), ErrorKind::Input);
        assert_eq!(error.context().len(), 2);
        assert!(error.source().is_some());
    }
}
