//! What a get answers with, and what a stat does.
//!
//! Owns [`Object`] and [`Stat`]. Knows nothing of nodes, caches or the wire.
//! Invariant: a value belongs to exactly the version beside it.

use bytes::Bytes;

use crate::key::Version;

/// An object's value and what is known about it. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The value, as it was put.
    pub value: Bytes,
    /// The version that the put of this value was given.
    pub version: Version,
    /// When the object ends, in milliseconds since 1970-01-01 UTC; `None` if it does not.
    pub expires_at: Option<u64>,
    /// When the object was last written, in milliseconds since 1970-01-01 UTC by its node's clock;
    /// `None` from a node that does not say it.
    pub modified_at: Option<u64>,
}

/// What is known about an object without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The version that the put of this value was given.
    pub version: Version,
    /// The value's length in bytes.
    pub size: u64,
    /// When the object ends, in milliseconds since 1970-01-01 UTC; `None` if it does not.
    pub expires_at: Option<u64>,
    /// When the object was last written, in milliseconds since 1970-01-01 UTC by its node's clock;
    /// `None` from a node that does not say it.
    pub modified_at: Option<u64>,
}
