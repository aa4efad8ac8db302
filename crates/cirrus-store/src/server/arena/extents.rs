//! Extents: pieces of whole pages for large values, in a file without a name.
//!
//! Owns which pages are in use, which are kept for the next value, and which are holes. Nothing but
//! values' bytes lies in the file. Invariant: an [`Extent`] is the only way to its pages, which are
//! free again when it is dropped; pages in use and kept are charged to the node's memory.
//!
//! Taking one: a short lock, the smallest free piece that is long enough; kept pages first, since
//! touching new ones costs more than filling them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tracing::warn;

use crate::error::Kind;
use crate::server::arena::mapping::{Mapping, PAGE_BYTES};
use crate::server::memory::Memory;
use crate::wire::Fault;

/// Free pages are kept up to this, which is enough for a large value that replaces another, but to
/// no more than a 16th of the capacity; or up to a share of those in use.
const KEPT_BYTES_MIN: usize = 128 << 20;
const KEPT_OF_CAPACITY: usize = 16;
const KEPT_SHARE: usize = 32;

/// Addresses beyond the capacity, so that pieces of odd sizes find a place.
const ADDRESS_FACTOR: usize = 2;

/// All extents of a node. Clones share them.
#[derive(Debug, Clone)]
pub(in crate::server) struct Extents(Arc<Room>);

#[derive(Debug)]
struct Room {
    mapping: Mapping,
    memory: Memory,
    /// Free pages that are kept, however few are in use.
    kept_pages_max: usize,
    free: Mutex<Free>,
    /// Pages became free.
    freed: Notify,
}

#[derive(Debug)]
struct Free {
    /// Pages that were touched.
    kept: Pieces,
    /// Pages that were not, or were given back.
    holes: Pieces,
    used_pages: usize,
    /// The fewest kept pages since housekeeping last looked.
    kept_pages_min: usize,
}

/// Free pieces, by place and by length.
#[derive(Debug, Default)]
struct Pieces {
    by_start: BTreeMap<usize, usize>,
    by_len: BTreeSet<(usize, usize)>,
    pages: usize,
}

/// Memory for one large value. It is reused when this is dropped.
#[derive(Debug)]
pub(in crate::server) struct Extent {
    room: Arc<Room>,
    start: usize,
    pages: usize,
    len: usize,
}

impl Extents {
    pub(in crate::server) fn new(memory: Memory) -> io::Result<Self> {
        let capacity = usize::try_from(memory.capacity()).unwrap_or(usize::MAX);
        let pages = (capacity / PAGE_BYTES).saturating_add(1).saturating_mul(ADDRESS_FACTOR);
        let mapping = Mapping::shared(pages.saturating_mul(PAGE_BYTES))?;
        let mut free = Free {
            kept: Pieces::default(),
            holes: Pieces::default(),
            used_pages: 0,
            kept_pages_min: 0,
        };
        free.holes.add(0, pages);
        let kept_pages_max = KEPT_BYTES_MIN.min(capacity / KEPT_OF_CAPACITY) / PAGE_BYTES;
        let (free, freed) = (Mutex::new(free), Notify::new());
        Ok(Self(Arc::new(Room { mapping, memory, kept_pages_max, free, freed })))
    }

    /// Room for `len` bytes, whatever is in them.
    pub(in crate::server) fn take(&self, len: usize) -> Result<Extent, Fault> {
        let pages = len.div_ceil(PAGE_BYTES).max(1);
        let mut free = self.0.free.lock();
        let start = match free.kept.take(pages) {
            Some(start) => start,
            None => self.0.take_holes(&mut free, pages)?,
        };
        free.used_pages += pages;
        free.kept_pages_min = free.kept_pages_min.min(free.kept.pages);
        Ok(Extent { room: self.0.clone(), start, pages, len })
    }

    /// Signals when pages become free.
    pub(in crate::server) fn freed(&self) -> Notified<'_> {
        self.0.freed.notified()
    }

    /// Has whoever waits for pages look again.
    pub(in crate::server) fn signal(&self) {
        self.0.freed.notify_waiters();
    }

    /// The file in which all extents lie, opened to be read only; `None` where there is no file.
    pub(in crate::server) fn reader(&self) -> io::Result<Option<OwnedFd>> {
        self.0.mapping.reader()
    }

    /// Where in that file these bytes lie, if they do.
    pub(in crate::server) fn place_of(&self, bytes: &[u8]) -> Option<u64> {
        self.0.mapping.offset_of(bytes).map(|offset| offset as u64)
    }

    /// Bytes of the pages that `len` bytes take.
    pub(in crate::server) fn cost(&self, len: usize) -> u64 {
        (len.max(1).next_multiple_of(PAGE_BYTES)) as u64
    }

    /// Gives back `bytes` of what is kept, or all of it; bytes that became free.
    pub(in crate::server) fn release(&self, bytes: u64) -> u64 {
        let pages = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(PAGE_BYTES);
        (self.0.release(&mut self.0.free.lock(), pages) * PAGE_BYTES) as u64
    }

    /// Gives back half of what was kept in vain since the last call.
    pub(in crate::server) fn sweep(&self) {
        let mut free = self.0.free.lock();
        let idle = free.kept_pages_min.min(free.kept.pages);
        self.0.release(&mut free, idle.div_ceil(2));
        free.kept_pages_min = free.kept.pages;
    }

    /// Bytes of pages in use, and of pages that are kept.
    pub(in crate::server) fn held_bytes(&self) -> (u64, u64) {
        let free = self.0.free.lock();
        ((free.used_pages * PAGE_BYTES) as u64, (free.kept.pages * PAGE_BYTES) as u64)
    }
}

impl Room {
    /// Pages that were not touched before, paid for.
    fn take_holes(&self, free: &mut Free, pages: usize) -> Result<usize, Fault> {
        let bytes = (pages * PAGE_BYTES) as u64;
        if let Err(fault) = self.memory.take(bytes) {
            // What is kept in pieces that are too short pays for it.
            let free_bytes = usize::try_from(fault.detail).unwrap_or(usize::MAX);
            let missing = (pages * PAGE_BYTES).saturating_sub(free_bytes).div_ceil(PAGE_BYTES);
            if free.kept.pages < missing {
                return Err(fault);
            }
            self.release(free, missing);
            self.memory.take(bytes)?;
        }
        if let Some(start) = free.holes.take(pages) {
            return Ok(start);
        }
        // No piece is long enough before those that are kept join them.
        self.release(free, usize::MAX);
        free.holes.take(pages).ok_or_else(|| {
            self.memory.give(bytes);
            Kind::OutOfMemory.into()
        })
    }

    /// Gives back up to `wanted` kept pages, of the longest pieces first; how many.
    fn release(&self, free: &mut Free, wanted: usize) -> usize {
        let mut released = 0;
        while released < wanted {
            let Some((len, start)) = free.kept.by_len.last().copied() else { break };
            let pages = len.min(wanted - released);
            free.kept.remove(start, len);
            free.kept.add(start + pages, len - pages);
            let range = start * PAGE_BYTES..(start + pages) * PAGE_BYTES;
            // SAFETY: the pages were free, so no extent leads to them, and the list is locked.
            if let Err(error) = unsafe { self.mapping.release(range) } {
                warn!("the kernel takes no memory back: {error}");
                free.kept.add(start, pages);
                break;
            }
            free.holes.add(start, pages);
            released += pages;
        }
        self.memory.give((released * PAGE_BYTES) as u64);
        released
    }
}

impl Pieces {
    /// The start of `pages` pages, of the shortest piece that has so many.
    fn take(&mut self, pages: usize) -> Option<usize> {
        let (len, start) = self.by_len.range((pages, 0)..).next().copied()?;
        self.remove(start, len);
        self.add(start + pages, len - pages);
        Some(start)
    }

    /// Adds a piece, joined with its neighbours.
    fn add(&mut self, mut start: usize, mut len: usize) {
        if len == 0 {
            return;
        }
        if let Some((before, before_len)) = self.by_start.range(..start).next_back() {
            let (before, before_len) = (*before, *before_len);
            if before + before_len == start {
                self.remove(before, before_len);
                (start, len) = (before, len + before_len);
            }
        }
        if let Some(after_len) = self.by_start.get(&(start + len)).copied() {
            self.remove(start + len, after_len);
            len += after_len;
        }
        self.by_start.insert(start, len);
        self.by_len.insert((len, start));
        self.pages += len;
    }

    fn remove(&mut self, start: usize, len: usize) {
        self.by_start.remove(&start);
        self.by_len.remove(&(len, start));
        self.pages -= len;
    }
}

impl AsRef<[u8]> for Extent {
    fn as_ref(&self) -> &[u8] {
        let start = self.room.mapping.at(self.start * PAGE_BYTES);
        // SAFETY: the pages are initialised, inside the mapping, which `room` keeps, and this
        // extent's alone.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.len) }
    }
}

impl AsMut<[u8]> for Extent {
    fn as_mut(&mut self) -> &mut [u8] {
        let start = self.room.mapping.at(self.start * PAGE_BYTES);
        // SAFETY: as above, and the extent is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.len) }
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        let mut free = self.room.free.lock();
        free.used_pages -= self.pages;
        free.kept.add(self.start, self.pages);
        let max = self.room.kept_pages_max.max(free.used_pages / KEPT_SHARE);
        let beyond = free.kept.pages.saturating_sub(max);
        self.room.release(&mut free, beyond);
        drop(free);
        self.room.freed.notify_waiters();
    }
}
