//! A node's memory as a client of the same host sees it.
//!
//! Owns the mapping of the node's file, and the values in it that the client holds. Knows nothing
//! of requests: a value is a place, a length and the number of a pin. Invariant: no byte outside of
//! the file is ever looked at, and a value's pin is given back when its last reference is dropped,
//! or the socket over which it was pinned closes, which comes later still.
//!
//! What is not in our hands: that the node leaves the bytes of a pinned value alone. It is a process
//! of our own user, which could write into our memory by other means as well; docs/wire.md holds it
//! to that. A file that shrank would end us by a signal, so it is refused unless it is sealed.

#![expect(unsafe_code, reason = "a mapping, and slices of it; each block says who keeps it whole")]

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::transport::shm::ShmStream;

/// Where the windows of this process lie.
static WINDOWS: Mutex<Vec<Range<usize>>> = Mutex::new(Vec::new());

/// Whether the bytes lie in some node's memory.
pub(crate) fn is_mapped(bytes: &[u8]) -> bool {
    let start = bytes.as_ptr().addr();
    WINDOWS.lock().iter().any(|window| window.contains(&start))
}

/// The memory that a node shares, mapped to be read.
#[derive(Debug)]
pub(crate) struct Window {
    base: NonNull<u8>,
    len: usize,
    /// Which file this is: device and number.
    file: (u64, u64),
}

// SAFETY: a window is a range of addresses that no thread owns; it is only read.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// Maps the file, which has to be sealed against shrinking.
    pub(crate) fn map(file: &OwnedFd) -> io::Result<Self> {
        let identity = identity(file)?;
        if !fcntl_get_seals(file)?.contains(SealFlags::SHRINK) {
            let text = "the node's file may shrink under its readers; not mapped";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        // Looked at after the seal: from now on it is no shorter.
        let len = usize::try_from(fstat(file)?.st_size).map_err(io::Error::other)?;
        if len == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the node's file is empty"));
        }
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing of ours.
        let base =
            unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, flags, file.as_fd(), 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let window = Self { base, len, file: identity };
        WINDOWS.lock().push(window.addresses());
        Ok(window)
    }

    fn addresses(&self) -> Range<usize> {
        let start = self.base.addr().get();
        start..start + self.len
    }

    /// Whether this is a window of that file.
    pub(crate) fn shows(&self, file: &OwnedFd) -> bool {
        identity(file).is_ok_and(|identity| identity == self.file)
    }

    /// Where these bytes lie, if they lie in the file.
    fn range(&self, place: u64, len: u64) -> Option<Range<usize>> {
        let (start, len) = (usize::try_from(place).ok()?, usize::try_from(len).ok()?);
        let end = start.checked_add(len)?;
        (end <= self.len).then_some(start..end)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // Before another mapping may come to lie there.
        let addresses = self.addresses();
        WINDOWS.lock().retain(|window| *window != addresses);
        // SAFETY: the mapping is ours, and every value in it holds a reference to this window.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

fn identity(file: &OwnedFd) -> io::Result<(u64, u64)> {
    let stat = fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Pins of a connection that nobody needs any more and that the node was not told of.
#[derive(Debug, Default)]
pub(crate) struct Returns {
    pins: Mutex<Vec<u64>>,
    /// Who tells the node.
    pub(crate) teller: AtomicWaker,
}

impl Returns {
    pub(crate) fn is_empty(&self) -> bool {
        self.pins.lock().is_empty()
    }

    /// Hands `tell` what has come since the last call, if anything has.
    pub(crate) fn take(&self, tell: impl FnOnce(&[u64])) {
        let mut pins = self.pins.lock();
        if !pins.is_empty() {
            tell(&pins);
            pins.clear();
        }
    }

    fn add(&self, pin: u64) {
        let mut pins = self.pins.lock();
        pins.push(pin);
        let is_first = pins.len() == 1;
        drop(pins);
        if is_first {
            self.teller.wake();
        }
    }
}

/// Makes values of what a node pins over one connection.
#[derive(Debug)]
pub(crate) struct Mapper {
    window: Arc<Window>,
    returns: Arc<Returns>,
    /// The node keeps pinned bytes as they are until this closes.
    _stream: ShmStream,
}

impl Mapper {
    pub(super) fn new(window: Arc<Window>, stream: ShmStream) -> Self {
        Self { window, returns: Arc::default(), _stream: stream }
    }

    pub(crate) fn returns(&self) -> &Arc<Returns> {
        &self.returns
    }

    /// The pinned bytes, which go back to the node with the last reference to them; `None` when
    /// they do not lie in the file. No byte is touched.
    pub(crate) fn value(self: &Arc<Self>, place: u64, len: u64, pin: u64) -> Option<Bytes> {
        let range = self.window.range(place, len)?;
        Some(Bytes::from_owner(Pinned { mapper: self.clone(), range, pin }))
    }
}

/// A value in the node's memory.
struct Pinned {
    mapper: Arc<Mapper>,
    range: Range<usize>,
    pin: u64,
}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        let Self { mapper, range, .. } = self;
        // SAFETY: the range was found to lie in the mapping, which the mapper's window keeps, of a
        // file that cannot shrink. The node writes to none of these bytes until the pin goes back
        // or the socket closes, and both come after this value is dropped.
        unsafe {
            let start = mapper.window.base.add(range.start);
            std::slice::from_raw_parts(start.as_ptr(), range.len())
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.mapper.returns.add(self.pin);
    }
}

#[cfg(not(miri))]
#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};

    fn file(len: u64, is_sealed: bool) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("test", flags).unwrap();
        ftruncate(&file, len).unwrap();
        if is_sealed {
            fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        }
        file
    }

    #[test]
    fn a_file_that_may_shrink_or_is_none_is_refused() {
        assert!(Window::map(&file(8192, false)).is_err());
        assert!(Window::map(&file(0, true)).is_err());
        let (read, _write) = std::io::pipe().unwrap();
        assert!(Window::map(&read.into()).is_err());
        let (one, other) = (file(8192, true), file(8192, true));
        let window = Window::map(&one).unwrap();
        assert!(window.shows(&one) && window.shows(&one.try_clone().unwrap()));
        assert!(!window.shows(&other));
    }

    #[tokio::test]
    async fn values_lie_inside_the_file_and_give_their_pins_back() {
        let file = file(8192, true);
        rustix::io::pwrite(&file, b"value", 4090).unwrap();
        let (near, _far) = tokio::net::UnixStream::pair().unwrap();
        let mapper = Mapper::new(Arc::new(Window::map(&file).unwrap()), Arc::new(near));
        let mapper = Arc::new(mapper);
        for (place, len) in
            [(8192, 1), (0, 8193), (8191, 2), (u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)]
        {
            assert!(mapper.value(place, len, 1).is_none(), "{place}+{len}");
        }
        let value = mapper.value(4090, 5, 7).unwrap();
        let part = value.slice(1..3);
        drop(value);
        assert!(mapper.returns().is_empty(), "a part is still read");
        assert_eq!(part, &b"al"[..]);
        drop(part);
        assert_eq!(mapper.value(0, 8192, 8).unwrap().len(), 8192);
        let mut told = Vec::new();
        mapper.returns().take(|pins| told.extend_from_slice(pins));
        mapper.returns().take(|_| panic!("told twice"));
        assert_eq!(told, [7, 8]);
    }
}
