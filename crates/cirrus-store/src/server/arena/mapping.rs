//! A reserved range of addresses whose pages come when they are first written.
//!
//! Owns mapping, unmapping and giving pages back. Knows nothing of what lies in them. Invariant:
//! every byte of a mapping is initialised memory (zero until it is written), and its address stays
//! for as long as the mapping lives.

use std::io;
use std::ops::Range;
use std::ptr::NonNull;

/// Pages are counted in this size, whatever size the kernel backs them with.
pub(in crate::server) const PAGE_BYTES: usize = 4096;

/// What a processor fetches at once.
pub(in crate::server) const LINE_BYTES: usize = 64;

/// Has the processor fetch the line at `address`, which may be any: it is a hint.
#[inline]
pub(in crate::server) fn prefetch<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, which neither reads as far as the program can
        // tell nor faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    #[cfg(not(miri))]
    file: Option<std::os::fd::OwnedFd>,
}

// SAFETY: a mapping is a range of addresses and no thread's own; who may read or write which part
// of it is kept by the owners of its parts (`Record`, `Extent`).
unsafe impl Send for Mapping {}
// SAFETY: as above; the methods take offsets and touch no byte themselves, but for `release`,
// whose caller owns the range.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The offset of these bytes, if they lie in the mapping.
    pub(super) fn offset_of(&self, bytes: &[u8]) -> Option<usize> {
        let offset = bytes.as_ptr().addr().checked_sub(self.base.addr().get())?;
        (offset.checked_add(bytes.len())? <= self.len).then_some(offset)
    }

    /// Where the byte at `offset` lies.
    pub(super) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.len, "offset {offset} of a mapping of {} bytes", self.len);
        // SAFETY: the offset is inside the mapping, which is one allocated object.
        unsafe { self.base.add(offset) }
    }
}

#[cfg(not(miri))]
impl Mapping {
    /// Private memory.
    pub(super) fn private(len: usize) -> io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing of ours.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), len, protection, flags) }?;
        Self::of(base, len, None)
    }

    /// Memory in a file without a name, so that it can be shared.
    pub(super) fn shared(len: usize) -> io::Result<Self> {
        use rustix::fs::{
            MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, ftruncate, memfd_create,
        };
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("cirrus-values", flags)?;
        ftruncate(&file, len as u64)?;
        // Who maps it must not be ended by a file that shrinks. Writing is not sealed, because then
        // the kernel would take no pages back.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        // Others open it to be read only.
        fchmod(&file, Mode::RUSR)?;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as in `private`. Others get the file to be read only, so nobody else writes to it.
        let base = unsafe { mmap(std::ptr::null_mut(), len, protection, flags, &file, 0) }?;
        Self::of(base, len, Some(file))
    }

    /// The mapping's file, opened to be read only; `None` for private memory.
    pub(super) fn reader(&self) -> io::Result<Option<std::os::fd::OwnedFd>> {
        use rustix::fs::{Mode, OFlags, open};
        use std::os::fd::AsRawFd;
        let Some(file) = &self.file else { return Ok(None) };
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Some(open(path, flags, Mode::empty())?))
    }

    fn of(
        base: *mut std::ffi::c_void,
        len: usize,
        file: Option<std::os::fd::OwnedFd>,
    ) -> io::Result<Self> {
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len, file })
    }

    /// Gives the pages of `range` back; they read as zeros afterwards.
    ///
    /// # Safety
    /// Nothing borrows bytes of the range, which lies on bounds of pages.
    pub(super) unsafe fn release(&self, range: Range<usize>) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::mm::{Advice, madvise};
        let (start, len) = (range.start, range.len());
        match &self.file {
            Some(file) => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(file, flags, start as u64, len as u64)?;
            }
            // SAFETY: the range is a part of this mapping, and the caller's alone.
            None => unsafe {
                madvise(self.at(start).as_ptr().cast(), len, Advice::LinuxDontNeed)?;
            },
        }
        Ok(())
    }
}

#[cfg(not(miri))]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever borrows from it holds a reference to its owner.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

/// Under Miri, which has no mappings, a zeroed allocation stands in.
#[cfg(miri)]
impl Mapping {
    pub(super) fn private(len: usize) -> io::Result<Self> {
        // SAFETY: the layout is not empty: no caller asks for an empty mapping.
        let base = unsafe { std::alloc::alloc_zeroed(Self::layout(len)) };
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    pub(super) fn shared(len: usize) -> io::Result<Self> {
        Self::private(len)
    }

    pub(super) fn reader(&self) -> io::Result<Option<std::os::fd::OwnedFd>> {
        Ok(None)
    }

    /// # Safety
    /// Nothing borrows bytes of the range, which lies on bounds of pages.
    pub(super) unsafe fn release(&self, range: Range<usize>) -> io::Result<()> {
        // SAFETY: the range is a part of the allocation, and the caller's alone.
        unsafe { self.at(range.start).as_ptr().write_bytes(0, range.len()) };
        Ok(())
    }

    fn layout(len: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(len, PAGE_BYTES).expect("a small mapping")
    }
}

#[cfg(miri)]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: allocated in `private` with this layout.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), Self::layout(self.len)) };
    }
}
