//! The bytes of a file, uncompressed.
//!
//! Owns: gzip or not, told by the first bytes; the count of compressed bytes that were read.
//! Knows nothing of: rows.
//! Invariant: memory is two buffers, whatever the size of the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

/// How much is read from a file at once.
const BUFFER: usize = 128 << 10;

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file to be read, which is counted as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(pub(crate) Arc<AtomicU64>);

struct Counted<R> {
    inner: R,
    counter: Counter,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.counter.0.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

/// The bytes of a file, of a gzip file of any number of members those within.
pub(crate) fn open(path: &Path, counter: &Counter) -> io::Result<Box<dyn Read + Send>> {
    let file = Counted { inner: File::open(path)?, counter: counter.clone() };
    let mut file = BufReader::with_capacity(BUFFER, file);
    let head = file.fill_buf()?;
    // A name that promises gzip and fewer bytes than tell: cut off, not empty.
    let cut = GZIP.starts_with(head) && path.extension().is_some_and(|name| name == "gz");
    if head.starts_with(&GZIP) || cut {
        Ok(Box::new(MultiGzDecoder::new(file)))
    } else {
        Ok(Box::new(file))
    }
}
