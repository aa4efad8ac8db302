//! A node's own numbers.
//!
//! Owns what a node tells about itself. Changes nothing. Invariant: numbers only grow in meaning: a
//! field that is there keeps its unit, and new ones have a default for those who read older nodes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::server::node::Node;
use crate::server::pins::Sharing;

/// A node's own numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeStats {
    /// This life of the node.
    pub incarnation: u64,
    /// The node's view of the pool.
    pub epoch: u32,
    /// Bytes that it may hold.
    pub capacity_bytes: u64,
    /// Bytes that it holds: keys, values, checksums, overhead, and results of writes.
    pub used_bytes: u64,
    /// Objects that it holds.
    pub objects: u64,
    /// Bytes of their keys, values and items.
    #[serde(default)]
    pub object_bytes: u64,
    /// What an object costs beyond these, on average: pages, index, results of writes.
    #[serde(default)]
    pub overhead_bytes_per_object: u64,
    /// Bytes of the index.
    #[serde(default)]
    pub index_bytes: u64,
    /// Bytes of pages that small objects lie in.
    #[serde(default)]
    pub record_bytes: u64,
    /// Of these, bytes between records.
    #[serde(default)]
    pub hole_bytes: u64,
    /// Bytes of pages that large values lie in.
    #[serde(default)]
    pub large_bytes: u64,
    /// Bytes of pages that are kept for the next large values.
    #[serde(default)]
    pub kept_bytes: u64,
    /// The longest that a part of the index was locked to grow it, in microseconds.
    #[serde(default)]
    pub rehash_us_max: u64,
    /// The longest that a part of the index was locked to move records, in microseconds.
    #[serde(default)]
    pub compaction_us_max: u64,
    /// Sessions whose results it keeps.
    pub sessions: u64,
    /// Open connections.
    pub connections: u64,
    /// Bytes of values that clients of this host hold in place.
    #[serde(default)]
    pub pinned_bytes: u64,
    /// Requests answered since it started, items of batches counted.
    pub requests: u64,
}

impl Node {
    pub(super) fn stats(&self) -> NodeStats {
        let holdings = self.keyspace.holdings();
        let used_bytes = self.keyspace.memory().used();
        let overhead = used_bytes.saturating_sub(holdings.object_bytes);
        let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        NodeStats {
            incarnation: self.incarnation,
            epoch: self.epoch(),
            capacity_bytes: self.keyspace.memory().capacity(),
            used_bytes,
            objects: holdings.objects,
            object_bytes: holdings.object_bytes,
            overhead_bytes_per_object: overhead / holdings.objects.max(1),
            index_bytes: holdings.index_bytes,
            record_bytes: holdings.record_bytes,
            hole_bytes: holdings.hole_bytes,
            large_bytes: holdings.large_bytes,
            kept_bytes: holdings.kept_bytes,
            rehash_us_max: microseconds(holdings.rehash_max),
            compaction_us_max: microseconds(holdings.compaction_max),
            sessions: self.sessions.len() as u64,
            connections: self.connections.load(Ordering::Relaxed),
            pinned_bytes: self.sharing.as_ref().map_or(0, Sharing::pinned_bytes),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }
}
