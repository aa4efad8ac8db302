//! What the trait's callers are told when something fails.
//!
//! Owns the one way from our kinds to the trait's errors. Invariant: our error is the source of
//! theirs, so that nothing of it is lost.

use object_store::path::Path;

use crate::error::{Error, Kind};

/// The name of the store in errors.
pub(super) const STORE: &str = "Cirrus";

/// What failed at `path`.
pub(super) fn of(path: &Path, error: Error) -> object_store::Error {
    let kind = error.kind();
    let (path, source) = (path.to_string(), Box::new(error));
    match kind {
        Kind::NotFound => object_store::Error::NotFound { path, source },
        Kind::WrongVersion => object_store::Error::Precondition { path, source },
        Kind::Unauthorized => object_store::Error::Unauthenticated { path, source },
        Kind::OutOfMemory
        | Kind::TooLarge
        | Kind::WrongType
        | Kind::Moved
        | Kind::Busy
        | Kind::Timeout
        | Kind::Unknown
        | Kind::Corrupt
        | Kind::Closed
        | Kind::Protocol
        | Kind::Invalid
        | Kind::Io => object_store::Error::Generic { store: STORE, source },
    }
}

/// What failed where there was to be no object at `path`.
pub(super) fn of_new(path: &Path, error: Error) -> object_store::Error {
    match error.kind() {
        Kind::WrongVersion => {
            object_store::Error::AlreadyExists { path: path.to_string(), source: Box::new(error) }
        }
        _ => of(path, error),
    }
}

/// What failed beside any path.
pub(super) fn generic(error: Error) -> object_store::Error {
    object_store::Error::Generic { store: STORE, source: Box::new(error) }
}

/// What objects here have not.
pub(super) fn not_implemented(operation: &str) -> object_store::Error {
    object_store::Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: STORE.to_owned(),
    }
}
