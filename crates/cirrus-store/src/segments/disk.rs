//! The one seam between the engine and files.
//!
//! Owns [`Disk`], [`DiskFile`] and [`ReadAt`]; knows nothing of records or of the index. Invariant: everything
//! that the engine keeps goes through here, so that a simulated disk sees every call.
//!
//! What a disk promises, and no more: bytes written are durable after [`DiskFile::sync_data`], a
//! name (new, renamed or removed) after [`Disk::sync_dir`]. Until then a power cut may keep any
//! part of them, in any order.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// One folder of files.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes an empty file; one of this name is emptied.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that exists.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, in one step; a file of that name is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Whoever has it open reads on.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, in no order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes all names durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Bytes that may still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// Bytes that can be read at any offset: a file, or a segment in a bucket.
pub trait ReadAt: fmt::Debug + Send + Sync {
    /// Fills `buffer` from `offset` on; bytes that end before are an error.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A file, open for reading and writing at any offset.
pub trait DiskFile: ReadAt {
    /// Writes all of `parts`, one after the other, from `offset` on. After an error any part of
    /// them may have been written.
    fn write_all_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Cuts the file, or lengthens it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// The file's length.
    fn len(&self) -> io::Result<u64>;

    /// Whether nothing is in the file.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Makes the file's bytes and length durable.
    fn sync_data(&self) -> io::Result<()>;
}
