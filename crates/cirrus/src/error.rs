//! What can go wrong, said once for programs and once for people.
//!
//! Owns [`Error`] and its [`Kind`]s, and which kinds are worth retrying or end a program with
//! which exit code. May know no other module. Invariant: an error displays as one line.

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed: a [`Kind`] to match on, a line that names the thing and says what to do
/// next, and the error underneath, where there is one.
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What a program can tell errors apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// The caller asked for something that makes no sense; the message says what does.
    Input,
    /// The named thing does not exist.
    NotFound,
    /// A memory node, or this process, has no room left.
    OutOfMemory,
    /// One value, split or message is over its limit.
    TooLarge,
    /// The caller was replaced: its membership, attempt or generation is no longer current.
    Stale,
    /// The other side cannot be reached at the moment.
    Unavailable,
    /// The time allowed for the call is over.
    Timeout,
    /// The caller, or the user, asked to stop.
    Cancelled,
    /// Stored or computed bytes are not what they were said to be.
    Corrupt,
    /// The operating system refused a file or socket operation.
    Io,
    /// The body of a task failed.
    Task,
    /// A fault of Cirrus itself.
    Internal,
}

impl Error {
    /// An error of `kind`; `message` is one line that names the thing and says what to do.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// [`Kind::Input`].
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message)
    }

    /// [`Kind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// [`Kind::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt, message)
    }

    /// [`Kind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// [`Kind::Io`], with what the operating system said.
    pub fn io(message: impl Into<String>, source: std::io::Error) -> Self {
        Self::new(Kind::Io, message).with_source(source)
    }

    /// [`Kind::Task`].
    pub fn task(message: impl Into<String>) -> Self {
        Self::new(Kind::Task, message)
    }

    /// [`Kind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// The same error with the one that caused it, which the displayed line ends with.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error, its line beginning with what was being done: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// What a program matches on.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the same call may succeed later without anyone changing anything.
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            Kind::Unavailable | Kind::Timeout => true,
            Kind::Input
            | Kind::NotFound
            | Kind::OutOfMemory
            | Kind::TooLarge
            | Kind::Stale
            | Kind::Cancelled
            | Kind::Corrupt
            | Kind::Io
            | Kind::Task
            | Kind::Internal => false,
        }
    }

    /// How a program that ends with this error exits: 1 when its user can mend it, 2 when the
    /// fault is ours or the machine's.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Input | Kind::NotFound | Kind::OutOfMemory | Kind::TooLarge | Kind::Task => 1,
            Kind::Stale
            | Kind::Unavailable
            | Kind::Timeout
            | Kind::Cancelled
            | Kind::Corrupt
            | Kind::Io
            | Kind::Internal => 2,
        }
    }
}

impl From<cirrus_store::Error> for Error {
    fn from(error: cirrus_store::Error) -> Self {
        use cirrus_store::Kind as Store;
        let kind = match error.kind() {
            Store::NotFound => Kind::NotFound,
            Store::OutOfMemory => Kind::OutOfMemory,
            Store::TooLarge => Kind::TooLarge,
            Store::WrongVersion => Kind::Stale,
            Store::Timeout => Kind::Timeout,
            Store::Moved | Store::Busy | Store::Closed | Store::Unknown => Kind::Unavailable,
            Store::Corrupt => Kind::Corrupt,
            Store::WrongType | Store::Unauthorized | Store::Invalid => Kind::Input,
            // Protocol errors, and kinds that the store may get later.
            _ => Kind::Internal,
        };
        Self::new(kind, "store").with_source(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_line(f, &self.message)?;
        if let Some(source) = &self.source {
            f.write_str(": ")?;
            write_line(f, &source.to_string())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        }
    }
}

/// A source's text may hold line breaks; a person reads one line.
fn write_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for (n, line) in text.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        if n > 0 {
            f.write_str(" ")?;
        }
        f.write_str(line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_context_and_source() {
        let error = Error::input("pool `data` is unknown;\n declare it")
            .with_source(std::io::Error::other("first\n\nsecond"))
            .context("starting `photos`");
        assert_eq!(
            error.to_string(),
            "starting `photos`: pool `data` is unknown; declare it: first second"
        );
        assert!(error.source().is_some());
    }

    #[test]
    fn only_what_time_can_mend_is_retried() {
        assert!(Error::unavailable("coordinator").is_retryable());
        assert!(Error::new(Kind::Timeout, "get").is_retryable());
        assert!(!Error::new(Kind::Stale, "attempt").is_retryable());
        assert!(!Error::input("name").is_retryable());
    }

    #[test]
    fn the_exit_code_says_whose_fault_it_was() {
        assert_eq!(Error::input("name").exit_code(), 1);
        assert_eq!(Error::task("body").exit_code(), 1);
        assert_eq!(Error::internal("bug").exit_code(), 2);
        assert_eq!(Error::corrupt("journal").exit_code(), 2);
    }
}
