//! The typed bodies: fixed little-endian structs, one per request and reply.
//!
//! Owns their layout. Invariant: a body may grow at its end in a later version, so a reader takes
//! the part that it knows and leaves the rest.

use bytes::Bytes;
use zerocopy::little_endian::{F32, I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Kind, Result};

/// Reads the known front part of a body.
pub(super) fn read<T: FromBytes + KnownLayout + Immutable + Unaligned>(body: &[u8]) -> Result<T> {
    T::read_from_prefix(body).map(|(body, _)| body).map_err(|_| {
        let expected = size_of::<T>();
        Error::new(Kind::Protocol, format!("a body of {} bytes, expected {expected}", body.len()))
    })
}

/// A body as bytes.
pub(super) fn bytes<T: IntoBytes + Immutable>(body: &T) -> Bytes {
    Bytes::copy_from_slice(body.as_bytes())
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub(super) struct $name { $(pub(super) $field: $type),* }
    )* };
}

bodies! {
    /// In front of every write's own fields.
    Write { sequence: U64, acknowledged: U64 }
    Get { offset: U64, len: U64, newer_than: U64, inline_bytes_max: U32, reserved: U32 }
    Put { write: Write, if_version: U64, expires_at: U64 }
    Delete { write: Write, if_version: U64 }
    Batch { items: U32, reserved: U32 }
    Scan { hash: U64, slot: U32, limit: U32 }
    Wait { newer_than: U64, timeout_ms: U32, reserved: U32 }
    Add { write: Write, delta: I64 }
    Push { write: Write, queue_bytes_max: U64 }
    Pop { write: Write }
    Step {
        generation: U64,
        worker: U64,
        split: U64,
        clock: U32,
        read_for: U32,
        minibatch: U32,
        rate: F32,
        pushed: U32,
        wanted: U32,
        timeout_ms: U32,
        reserved: U32,
    }

    /// Answers a get, with the payload; also the body of NotModified and Deferred.
    Value { version: U64, size: U64, offset: U64, expires_at: U64 }
    /// Answers a get by the value's place; its checksums are the payload, or nothing is.
    Placed {
        version: U64,
        size: U64,
        offset: U64,
        expires_at: U64,
        modified_at: U64,
        place: U64,
        len: U64,
        pin: U64,
    }
    /// What bodies of values and stats have grown by.
    Modified { at: U64 }
    /// Answers put and delete.
    Written { version: U64 }
    /// Answers stat and wait.
    Stat { version: U64, size: U64, expires_at: U64, kind: U16, reserved: U16, reserved2: U32 }
    /// Answers scan; slot 16384 means that there is no more.
    Page { hash: U64, slot: U32, items: U32 }
    /// One name in a page's payload; the name follows.
    PageItem { version: U64, size: U64, key_len: U16, kind: U16, reserved: U32 }
    Added { version: U64, value: I64 }
    /// Answers push and pop: the items that are left in the queue.
    Queue { version: U64, items: U64 }
    /// Answers a step, with the values.
    Stepped { slowest: U32, repeated: U32 }
    /// The body of every failure.
    Fault { detail: U64 }
}
