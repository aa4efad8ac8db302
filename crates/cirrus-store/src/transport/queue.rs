//! Frames that wait to be written to a link that several callers share.
//!
//! Heads and small payloads are copied into one buffer, which is kept from write to write: a small
//! frame costs no allocation. Larger payloads are shared and stand between two stretches of it; they
//! are summed block by block on their way out, so that the peer takes in one block while the next is
//! summed. Invariant: bytes leave in the order in which they were pushed.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::checksum::{BLOCK_BYTES, Sums, blocks, crc32c};
use crate::transport::COPIED_BYTES_MAX;

/// Pieces of one vectored write.
pub(crate) const SLICES_MAX: usize = 64;

/// Copies that wait; payloads beyond are shared, so that callers who are faster than the network
/// cost little memory.
const COPIES_BYTES_MAX: usize = 1 << 20;

/// The most bytes that are summed before they leave: what stays in a processor's second-level cache.
const SUMMED_BYTES_MAX: usize = 256 * 1024;

/// A buffer that has grown beyond this is not kept.
const KEPT_BYTES_MAX: usize = 2 << 20;

/// A queue of frames.
#[derive(Debug, Default)]
pub(crate) struct FrameQueue {
    small: BytesMut,
    /// How much of `small` has been written.
    written: usize,
    shared: VecDeque<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Where in `small` these bytes belong.
    at: usize,
    bytes: Bytes,
    /// How many of `bytes` may leave.
    ready: usize,
    /// Where in `small` the sums of the other blocks go.
    table: usize,
}

impl FrameQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.written == self.small.len() && self.shared.is_empty()
    }

    /// Appends what `put` writes: heads and tables.
    pub(crate) fn push(&mut self, put: impl FnOnce(&mut BytesMut)) {
        put(&mut self.small);
    }

    /// Appends a payload.
    pub(crate) fn push_payload(&mut self, payload: Bytes) {
        let copies = self.small.len() - self.written;
        if payload.len() <= COPIED_BYTES_MAX && copies + payload.len() <= COPIES_BYTES_MAX {
            self.small.extend_from_slice(&payload);
        } else if !payload.is_empty() {
            let (at, ready) = (self.small.len(), payload.len());
            self.shared.push_back(Shared { at, bytes: payload, ready, table: 0 });
        }
    }

    /// Appends a payload and the table of its sums, which are made when it leaves.
    pub(crate) fn push_summed(&mut self, payload: Bytes) {
        if payload.len() <= COPIED_BYTES_MAX {
            let sums = Sums::of(0, &payload);
            self.push_payload(payload);
            return sums.put_table(&mut self.small);
        }
        let at = self.small.len();
        self.small.resize(at + 4 * blocks(0, payload.len()), 0);
        self.shared.push_back(Shared { at, bytes: payload, ready: 0, table: at });
    }

    /// The first pieces that wait, and how many there are.
    pub(crate) fn slices(&mut self) -> ([IoSlice<'_>; SLICES_MAX], usize) {
        // The first payload that is not ready ends what may leave.
        let unready = self.shared.iter().position(|shared| !shared.is_ready());
        if let Some(first) = unready {
            self.shared[first].sum(&mut self.small);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (mut count, mut from) = (0, self.written);
        let mut add = |bytes| {
            if let Some(slice) = slices.get_mut(count) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
        };
        for shared in self.shared.iter().take(SLICES_MAX) {
            if shared.at > from {
                add(&self.small[from..shared.at]);
                from = shared.at;
            }
            add(&shared.bytes[..shared.ready]);
            if !shared.is_ready() {
                return (slices, count);
            }
        }
        if self.small.len() > from && self.shared.len() < SLICES_MAX {
            add(&self.small[from..]);
        }
        (slices, count)
    }

    /// Takes `written` bytes off the front.
    pub(crate) fn advance(&mut self, mut written: usize) {
        loop {
            let until = self.shared.front().map_or(self.small.len(), |shared| shared.at);
            let here = written.min(until - self.written);
            self.written += here;
            written -= here;
            let Some(front) = self.shared.front_mut().filter(|_| self.written == until) else {
                break;
            };
            let here = written.min(front.bytes.len());
            front.bytes.advance(here);
            front.ready -= here;
            written -= here;
            if !front.bytes.is_empty() {
                break;
            }
            self.shared.pop_front();
        }
        if self.is_empty() {
            self.written = 0;
            match self.small.capacity() > KEPT_BYTES_MAX {
                true => self.small = BytesMut::new(),
                false => self.small.clear(),
            }
        }
    }
}

impl Shared {
    fn is_ready(&self) -> bool {
        self.ready == self.bytes.len()
    }

    /// Sums the next blocks, unless there are some that have not left.
    fn sum(&mut self, small: &mut [u8]) {
        if self.ready > 0 {
            return;
        }
        self.ready = self.bytes.len().min(SUMMED_BYTES_MAX);
        for block in self.bytes[..self.ready].chunks(BLOCK_BYTES) {
            small[self.table..][..4].copy_from_slice(&crc32c([block]).to_le_bytes());
            self.table += 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_leave_in_order_however_they_are_cut(
            payloads in prop::collection::vec((prop_oneof![4 => 0usize..40_000, 1 => 0usize..900_000], any::<bool>()), 0..60),
            cuts in prop::collection::vec(1usize..200_000, 1..50),
        ) {
            let (mut queue, mut expected) = (FrameQueue::default(), Vec::new());
            for ((len, is_summed), byte) in payloads.into_iter().zip((0..=255_u8).cycle()) {
                let payload = Bytes::from(vec![byte; len]);
                queue.push(|small| small.extend_from_slice(&[byte; 3]));
                expected.extend_from_slice(&[byte; 3]);
                expected.extend_from_slice(&payload);
                match is_summed {
                    true => {
                        expected.extend_from_slice(&Sums::of(0, &payload).to_table());
                        queue.push_summed(payload);
                    }
                    false => queue.push_payload(payload),
                }
            }
            let mut left = Vec::new();
            for cut in cuts.iter().cycle() {
                let (slices, count) = queue.slices();
                let whole: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                if whole.is_empty() {
                    break;
                }
                let written = whole.len().min(*cut);
                left.extend_from_slice(&whole[..written]);
                queue.advance(written);
            }
            prop_assert!(queue.is_empty());
            prop_assert!(left == expected);
        }
    }
}
