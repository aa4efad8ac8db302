//! The one seam between the engine and the bucket behind it.
//!
//! Owns [`Bucket`]; knows nothing of segments. Invariant: everything that the engine keeps in a
//! bucket goes through here, so that a simulated one sees every call.
//!
//! What a bucket promises, and no more: an object is there whole or not at all, and durable when
//! [`Bucket::put`] has returned. A call may block as long as the bucket's own time limit says.

use std::fmt;
use std::io;

use crate::segments::disk::ReadAt;

/// A place for large objects that do not change.
pub trait Bucket: fmt::Debug + Send + Sync {
    /// What people call it, without secrets.
    fn name(&self) -> &str;

    /// Stores the first `len` bytes of `source` as one object; one of this name is replaced.
    /// Takes memory for a few parts of it. After an error it may be there or not.
    fn put(&self, object: &str, source: &dyn ReadAt, len: u64) -> io::Result<()>;

    /// Fills `buffer` from `offset` on. [`io::ErrorKind::NotFound`] where there is no such object,
    /// [`io::ErrorKind::UnexpectedEof`] where it ends before.
    fn read(&self, object: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Removes an object, if it is there.
    fn remove(&self, object: &str) -> io::Result<()>;

    /// The objects below `folder`: what stands behind it in their names, and their lengths.
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>>;
}
