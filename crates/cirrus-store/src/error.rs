//! What can go wrong with an object, and what a caller can do about it.
//!
//! Owns [`Error`] and [`Kind`]: kinds map one to one to the wire's status codes (`wire::status`).
//! Invariant: [`Error::is_retryable`] is the only place that decides whether trying again helps.

use std::error::Error as StdError;
use std::fmt;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as far as a program needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// No object has this key (or it has expired).
    NotFound,
    /// The node has no room for the bytes; nothing was changed and nothing was dropped.
    OutOfMemory,
    /// The value, key or batch is over a limit.
    TooLarge,
    /// The object's version is not the one that the request asked for.
    WrongVersion,
    /// The object is of another kind (a queue where bytes were expected, text where an integer was).
    WrongType,
    /// Another node holds the key's slot; the view must be refreshed.
    Moved,
    /// The node or client has too much in flight; the request was not carried out.
    Busy,
    /// No answer came in time. A read may be repeated; a write says [`Kind::Unknown`] instead.
    Timeout,
    /// A write was sent and nobody can say whether it was applied.
    Unknown,
    /// The node does not accept this client's token.
    Unauthorized,
    /// Bytes do not match their checksum.
    Corrupt,
    /// The connection, client or node is closed.
    Closed,
    /// The peer does not speak the protocol, or speaks it wrongly.
    Protocol,
    /// The caller's argument is invalid; nothing was sent.
    Invalid,
    /// The node's disk, or the bucket behind it, failed, now or since it started; nothing was
    /// changed, and other reads go on.
    Io,
}

/// An error of the store: a [`Kind`], what it concerns, and the cause where there is one.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    context: String,
    detail: u64,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `context` names the thing, its value and what was expected.
    pub fn new(kind: Kind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), detail: 0, source: None }
    }

    /// A failure of the disk or of another part of the system: [`Kind::Io`] with its cause.
    pub(crate) fn io(context: impl Into<String>, error: std::io::Error) -> Self {
        Self::new(Kind::Io, context).with_source(error)
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error with the number that goes with its kind; see [`Error::detail`].
    #[must_use]
    pub fn with_detail(mut self, detail: u64) -> Self {
        self.detail = detail;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The number that goes with the kind: the current version for [`Kind::WrongVersion`], the
    /// limit for [`Kind::TooLarge`], the free bytes for [`Kind::OutOfMemory`], the node's epoch
    /// for [`Kind::Moved`]; otherwise 0.
    pub fn detail(&self) -> u64 {
        self.detail
    }

    /// Whether the same request may succeed if it is simply sent again.
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            Kind::Moved | Kind::Busy | Kind::Timeout | Kind::Closed => true,
            Kind::NotFound
            | Kind::OutOfMemory
            | Kind::TooLarge
            | Kind::WrongVersion
            | Kind::WrongType
            | Kind::Unknown
            | Kind::Unauthorized
            | Kind::Corrupt
            | Kind::Protocol
            | Kind::Invalid
            | Kind::Io => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
