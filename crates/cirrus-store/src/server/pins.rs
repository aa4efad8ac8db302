//! Values that clients of this host read where they lie.
//!
//! Owns the file of large values as clients get it, and the references that keep pinned values as
//! they are. Knows nothing of keys or frames. Invariant: the pages of a pinned value are not used
//! again before the client has given the pin back, or its end of the socket has closed: until then
//! it may be reading them.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::checksum::Sums;
use crate::server::memory::Memory;
use crate::transport::COPIED_BYTES_MAX;
use crate::wire::{Delivery, Reply};

/// What a node shares with the clients of its host.
#[derive(Debug)]
pub(super) struct Sharing {
    /// The file of large values, opened to be read only.
    file: Arc<OwnedFd>,
    /// What may be pinned by all connections together.
    purse: Memory,
}

impl Sharing {
    pub(super) fn new(file: OwnedFd, pinned_bytes_max: u64) -> Self {
        Self { file: Arc::new(file), purse: Memory::new(pinned_bytes_max) }
    }

    pub(super) fn file(&self) -> Arc<OwnedFd> {
        self.file.clone()
    }

    /// Bytes of values that are pinned; one that is pinned twice counts twice.
    pub(super) fn pinned_bytes(&self) -> u64 {
        self.purse.used()
    }

    /// The pins of a new connection: none.
    pub(super) fn pins(&self) -> Pins {
        let held = HashMap::with_hasher(FixedState::default());
        Pins { purse: self.purse.clone(), held, last: 0, sent: 0 }
    }
}

/// What one connection has pinned, by the numbers that the client gives back.
#[derive(Debug)]
pub(super) struct Pins {
    purse: Memory,
    held: HashMap<u64, Pin, FixedState>,
    /// Numbers are never used again: one that comes back twice is nobody's.
    last: u64,
    /// The last that a client may have heard of.
    sent: u64,
}

#[derive(Debug)]
struct Pin {
    value: Bytes,
    /// Of the whole value, which stays even where a part of it is read.
    bytes: u64,
}

impl Pins {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The answer to a get that was asked to come `by` this way, and takes `inline_bytes_max`
    /// otherwise. `place_of` says where bytes lie in the file.
    pub(super) fn deliver(
        &mut self,
        reply: Reply,
        by: Delivery,
        inline_bytes_max: u32,
        place_of: impl FnOnce(&[u8]) -> Option<u64>,
    ) -> Reply {
        let Reply::Value { version, size, offset, expires_at, modified_at, value, sums } = reply
        else {
            return reply;
        };
        let len = value.len() as u64;
        // Reading a short one where it lies costs more than copying it.
        let place = if value.len() > COPIED_BYTES_MAX { place_of(&value) } else { None };
        if let Some(place) = place
            && let Some(pin) = self.pin(&value, size)
        {
            let sums = if by == Delivery::SummedPlace { sums } else { Sums::default() };
            return Reply::Placed {
                version,
                size,
                offset,
                expires_at,
                modified_at,
                place,
                len,
                pin,
                sums,
            };
        }
        match len > u64::from(inline_bytes_max) {
            true => Reply::Deferred { version, size },
            false => Reply::Value { version, size, offset, expires_at, modified_at, value, sums },
        }
    }

    /// A number for the value, which stays until it comes back; `None` when too much is pinned.
    fn pin(&mut self, value: &Bytes, bytes: u64) -> Option<u64> {
        self.purse.take(bytes).ok()?;
        self.last += 1;
        self.held.insert(self.last, Pin { value: value.clone(), bytes });
        Some(self.last)
    }

    /// Lets go of what the client gives back. Numbers of nothing are ignored.
    pub(super) fn unpin(&mut self, pins: &[u64]) {
        for pin in pins {
            if let Some(Pin { bytes, .. }) = self.held.remove(pin) {
                self.purse.give(bytes);
            }
        }
    }

    /// The replies that name them leave now.
    pub(super) fn sent(&mut self) {
        self.sent = self.last;
    }

    /// Lets go of those whose replies were taken back.
    pub(super) fn take_back(&mut self) {
        for pin in self.sent + 1..=self.last {
            self.unpin(&[pin]);
        }
    }

    /// Lets go of everything: the client's end of the socket has closed.
    pub(super) fn release(&mut self) {
        for (_, Pin { bytes, .. }) in self.held.drain() {
            self.purse.give(bytes);
        }
    }
}

impl Drop for Pins {
    /// Who is dropped with pins is so while the client may still read: when the node stops. The
    /// pages of these values are never used again, and last as long as somebody maps them.
    fn drop(&mut self) {
        for (_, Pin { value, bytes }) in self.held.drain() {
            self.purse.give(bytes);
            std::mem::forget(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Version;
    use rustix::fs::{MemfdFlags, memfd_create};

    fn sharing(pinned_bytes_max: u64) -> Sharing {
        Sharing::new(memfd_create("test", MemfdFlags::CLOEXEC).unwrap(), pinned_bytes_max)
    }

    fn value(value: &Bytes) -> Reply {
        let size = value.len() as u64;
        Reply::Value {
            version: Version(1),
            size,
            offset: 0,
            expires_at: 0,
            modified_at: 0,
            value: value.clone(),
            sums: Sums::of(0, value),
        }
    }

    fn pin_of(reply: Reply) -> Option<u64> {
        match reply {
            Reply::Placed { pin, place: 4096, .. } => Some(pin),
            _ => None,
        }
    }

    #[test]
    fn pins_have_a_bound_and_come_back() {
        let sharing = sharing(250_000);
        let (mut one, mut other) = (sharing.pins(), sharing.pins());
        let bytes = Bytes::from(vec![7; 100_000]);
        let deliver = |pins: &mut Pins, inline| {
            pins.deliver(value(&bytes), Delivery::Place, inline, |_| Some(4096))
        };
        let first = pin_of(deliver(&mut one, 0)).unwrap();
        let second = pin_of(deliver(&mut other, 0)).unwrap();
        assert_eq!(sharing.pinned_bytes(), 200_000);
        assert!(!bytes.is_unique());
        assert_eq!(deliver(&mut one, u32::MAX), value(&bytes), "the bound is for all");
        let deferred = Reply::Deferred { version: Version(1), size: 100_000 };
        assert_eq!(deliver(&mut one, 99_999), deferred);
        one.unpin(&[first, first, 99]);
        assert!(one.is_empty());
        assert_eq!(sharing.pinned_bytes(), 100_000);
        let third = pin_of(deliver(&mut one, 0)).unwrap();
        assert_ne!(third, first);
        one.unpin(&[first]);
        assert!(!one.is_empty(), "an old number is nobody's");
        other.unpin(&[second]);
        one.release();
        assert_eq!(sharing.pinned_bytes(), 0);
        drop((one, other));
        assert!(bytes.is_unique());
    }

    #[test]
    fn what_lies_elsewhere_or_is_short_is_copied() {
        let sharing = sharing(1 << 20);
        let mut pins = sharing.pins();
        let by = Delivery::SummedPlace;
        let short = value(&Bytes::from(vec![1; COPIED_BYTES_MAX]));
        assert_eq!(pins.deliver(short.clone(), by, u32::MAX, |_| Some(4096)), short);
        let long = value(&Bytes::from(vec![1; COPIED_BYTES_MAX + 1]));
        assert_eq!(pins.deliver(long.clone(), by, u32::MAX, |_| None), long);
        let gone = Reply::NotModified { version: Version(1) };
        assert_eq!(pins.deliver(gone.clone(), by, 0, |_| Some(4096)), gone);
        assert!(pins.is_empty());
        let placed = pins.deliver(long, by, 0, |_| Some(4096));
        assert!(matches!(placed, Reply::Placed { sums, .. } if sums.len() == 1));
    }

    #[test]
    fn what_a_client_may_still_read_is_never_used_again() {
        let sharing = sharing(1 << 20);
        let mut pins = sharing.pins();
        let bytes = Bytes::from(vec![1; 100_000]);
        pins.deliver(value(&bytes), Delivery::Place, 0, |_| Some(4096));
        drop(pins);
        assert!(!bytes.is_unique());
        assert_eq!(sharing.pinned_bytes(), 0);
    }
}
