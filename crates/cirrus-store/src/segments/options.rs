//! What a caller decides about an engine, and what the engine says of itself.
//!
//! Owns [`Options`] and [`Stats`]. Invariant: fitted options leave room for two segments beside
//! everything that is live.

use std::sync::Arc;

use crate::segments::bucket::Bucket;

/// How large an engine may be, and how it goes about it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Bytes on disk, garbage and index included.
    pub capacity: u64,
    /// Bytes of a segment; at most a 16th of the capacity. A longer write has one of its own.
    pub segment_bytes: u64,
    /// Memory for hot entries of the index.
    pub hot_bytes: usize,
    /// Memory for pages of the index.
    pub index_cache_bytes: usize,
    /// Rows that change before a checkpoint.
    pub checkpoint_rows: usize,
    /// Bytes of the log before a checkpoint: what a restart reads at most, give or take one.
    pub checkpoint_bytes: u64,
    /// Bytes that may wait to be written.
    pub queued_bytes_max: u64,
    /// Bytes that compaction moves in a second, unless there is no room.
    pub compaction_bytes_per_second: u64,
    /// Whether a write waits for the disk. An engine that does not starts empty.
    pub durable: bool,
    /// Whether checkpoints and compaction come by themselves.
    pub background: bool,
    /// Where segments go when the disk is short; of an engine that is durable. Default none.
    pub cold: Option<Arc<dyn Bucket>>,
    #[cfg(test)]
    pub(super) bug: Option<Bug>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            capacity: 64 << 30,
            segment_bytes: 256 << 20,
            hot_bytes: 16 << 20,
            index_cache_bytes: 64 << 20,
            checkpoint_rows: 128 << 10,
            checkpoint_bytes: 256 << 20,
            queued_bytes_max: 256 << 20,
            compaction_bytes_per_second: 64 << 20,
            durable: true,
            background: true,
            cold: None,
            #[cfg(test)]
            bug: None,
        }
    }
}

/// Mistakes that tests plant, to see that they would be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// A write is acknowledged although it was not synced.
    AckBeforeSync,
    /// A segment's name is not synced.
    ForgetDirectorySync,
    /// That a segment ends, which is not the last any more, is not synced.
    ForgetSeal,
    /// Compaction drops every delete.
    DropDeletes,
    /// A record is believed without its checksums.
    BelieveTornTail,
    /// A segment's file is removed before the bucket has it.
    RemoveBeforeUpload,
    /// A segment leaves the bucket before its stub.
    DropFromBucketFirst,
    /// What the bucket has is not read back.
    BelieveBucket,
}

impl Options {
    /// The same, with segments that are small enough for the capacity.
    pub(super) fn fitted(mut self) -> Self {
        self.segment_bytes = self.segment_bytes.min(self.capacity / 16).max(4096);
        self
    }

    #[cfg(test)]
    pub(super) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "what tests plant is never there outside them")]
    pub(super) const fn has(&self, _bug: Bug) -> bool {
        false
    }
}

/// An engine's own numbers; counters are since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Objects that are there: values and queues.
    pub objects: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Segments in the bucket.
    pub cold_segments: u64,
    /// Their bytes.
    pub cold_bytes: u64,
    /// Bytes on disk, garbage and index included; not the zeros behind the log's end.
    pub disk_bytes: u64,
    /// Bytes of the index on disk.
    pub index_bytes: u64,
    /// Bytes of records that are live, and of deletes that are still needed, on disk and in the
    /// bucket.
    pub live_bytes: u64,
    /// Bytes that puts may still add; with a bucket, before segments have to go there.
    pub free_bytes: u64,
    /// Rows that changed since the last checkpoint.
    pub rows_in_memory: u64,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Their records.
    pub records: u64,
    /// Groups that they were written in.
    pub groups: u64,
    /// Calls of fdatasync on segments, for groups.
    pub syncs: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Segments rewritten.
    pub compactions: u64,
    /// Bytes that compaction wrote.
    pub moved_bytes: u64,
    /// Reads of segments.
    pub reads: u64,
    /// The longest time that writers waited for room, a checkpoint or a new segment.
    pub pause_us_max: u64,
    /// The longest time from taking a group to acknowledging it.
    pub commit_us_max: u64,
}
