//! Buffers for large payloads, used again and again.
//!
//! A fresh buffer of a megabyte costs a page fault for every 4 KiB, which halves the speed of a
//! read. Owns the buffers that nobody uses. A buffer goes to a reader, from there to the user as
//! `Bytes`, and comes back when the last of those is dropped. Invariant: what lies here has at most
//! `bytes_max` bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Buffers that are kept, however small they are: the search for one is short.
const BUFFERS_MAX: usize = 64;

/// Buffers that wait for their next use. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Buffers(Arc<Shelf>);

#[derive(Debug)]
struct Shelf {
    bytes_max: usize,
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    bytes: usize,
    /// The one that came back last stands last: its pages are the likeliest to be in a cache.
    buffers: VecDeque<Vec<u8>>,
}

impl Buffers {
    /// Keeps at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Shelf { bytes_max, free: Mutex::default() }))
    }

    /// An empty buffer with room for `len` bytes, and for at most half as many again.
    pub(crate) fn take(&self, len: usize) -> Vec<u8> {
        let capacity = class(len);
        let mut free = self.0.free.lock();
        let fits = |buffer: &Vec<u8>| (len..=capacity + capacity / 4).contains(&buffer.capacity());
        let place = free.buffers.iter().rposition(fits);
        if let Some(buffer) = place.and_then(|place| free.buffers.remove(place)) {
            free.bytes -= buffer.capacity();
            return buffer;
        }
        drop(free);
        Vec::with_capacity(capacity)
    }

    /// The buffer's bytes; it comes back here when the last reference to them is dropped.
    pub(crate) fn share(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: self.clone() })
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let capacity = buffer.capacity();
        if capacity > self.0.bytes_max {
            return;
        }
        // Freed when the lock is not held any more.
        let mut leaving = Vec::new();
        let mut free = self.0.free.lock();
        while free.bytes + capacity > self.0.bytes_max || free.buffers.len() >= BUFFERS_MAX {
            let Some(oldest) = free.buffers.pop_front() else { break };
            free.bytes -= oldest.capacity();
            leaving.push(oldest);
        }
        free.bytes += capacity;
        free.buffers.push_back(buffer);
        drop(free);
    }
}

/// The capacity that a buffer for `len` bytes is made with: a step of an eighth of the power of two
/// below, so that buffers fit lengths that differ a little.
fn class(len: usize) -> usize {
    let step = (len.max(1).next_power_of_two() / 16).max(4096);
    len.next_multiple_of(step)
}

/// A buffer while somebody reads it.
struct Lent {
    buffer: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffers: &Buffers, len: usize, byte: u8) -> Bytes {
        let mut buffer = buffers.take(len);
        assert!(buffer.is_empty() && buffer.capacity() >= len);
        buffer.resize(len, byte);
        buffers.share(buffer)
    }

    #[test]
    fn a_buffer_comes_back_with_the_last_reference() {
        let buffers = Buffers::new(1 << 20);
        let one = filled(&buffers, 100_000, 1);
        let (place, part) = (one.as_ptr(), one.slice(5..10));
        drop(one);
        let other = filled(&buffers, 100_000, 2);
        assert_ne!(other.as_ptr(), place, "a part of the first is still read");
        assert_eq!(part, [1; 5][..]);
        drop(part);
        assert_eq!(filled(&buffers, 99_000, 3).as_ptr(), place);
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let buffers = Buffers::new(1 << 20);
        let lent: Vec<Bytes> = (0..40).map(|n| filled(&buffers, 60_000, n)).collect();
        drop(lent);
        let held = || buffers.0.free.lock().bytes;
        assert!(held() > 900_000 && held() <= 1 << 20, "{}", held());
        drop(filled(&buffers, 2 << 20, 0));
        assert!(held() <= 1 << 20, "a buffer over the bound is not kept");
        drop(filled(&buffers, 1_000_000, 0));
        assert_eq!(buffers.0.free.lock().buffers.len(), 1, "the newest one pushes others out");
    }

    #[test]
    fn a_large_buffer_is_not_spent_on_a_small_payload() {
        for len in [16_385, 70_000, 1 << 20, (1 << 20) + 64, (64 << 20) + 4096] {
            let capacity = class(len);
            assert!(capacity >= len && capacity <= len + len / 4, "{len}: {capacity}");
        }
        let buffers = Buffers::new(8 << 20);
        let large = filled(&buffers, 4 << 20, 0);
        let place = large.as_ptr();
        drop(large);
        assert_ne!(filled(&buffers, 1 << 20, 0).as_ptr(), place);
    }
}
