//! How a command fails.
//!
//! Owns the exit code of every kind of error that a command meets. Invariant: a failure displays
//! as one line that names the thing and what to do.

use std::fmt;

use cirrus_store::Kind;

/// A failure and whose fault it is.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    exit_code: u8,
}

impl Failure {
    /// The user can mend it.
    pub(crate) fn input(text: impl Into<String>) -> Self {
        Self { text: text.into(), exit_code: 1 }
    }

    /// The user cannot.
    pub(crate) fn fault(text: impl Into<String>) -> Self {
        Self { text: text.into(), exit_code: 2 }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<cirrus::Error> for Failure {
    fn from(error: cirrus::Error) -> Self {
        Self { text: error.to_string(), exit_code: error.exit_code() }
    }
}

impl From<cirrus_store::Error> for Failure {
    fn from(error: cirrus_store::Error) -> Self {
        let text = match error.kind() {
            Kind::Unauthorized => format!("{error}; give the node's secret with --token-file FILE"),
            _ => error.to_string(),
        };
        match error.kind() {
            Kind::NotFound
            | Kind::OutOfMemory
            | Kind::TooLarge
            | Kind::WrongVersion
            | Kind::WrongType
            | Kind::Unauthorized
            | Kind::Invalid => Self::input(text),
            // The network's and the node's faults, and kinds that the store may get later.
            _ => Self::fault(text),
        }
    }
}
