//! The memory that objects live in.
//!
//! Owns every page of records ([`Slabs`]) and of large values ([`Extents`]), and charges the node's
//! memory for those that the kernel backs. Knows nothing of keys, shards or protocols. Invariant: a
//! piece of memory has one owner, a value that cannot be copied; whoever holds it may read and
//! write there, and nobody else.

#![expect(unsafe_code, reason = "pieces of mappings as slices; each block names its owner")]

mod class;
mod extents;
mod mapping;
mod slabs;

pub(super) use class::RECORD_BYTES_MAX;
pub(super) use extents::{Extent, Extents};
pub(super) use mapping::{LINE_BYTES, prefetch};
pub(super) use slabs::{Record, Slabs, TAG_BITS, Victim};

#[cfg(test)]
mod tests;
