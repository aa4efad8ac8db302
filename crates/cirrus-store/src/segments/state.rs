//! What the engine holds in memory: changes since the last checkpoint, and every segment's usage.
//!
//! Owns the rules of applying a record. Plain data: no I/O, no lock. Invariant: applying the same
//! records in the order of the log, from any checkpoint on, leads to the same state; of two records
//! of a row the larger version counts, and of equal ones the later in the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::key::{SLOTS, Slot};
use crate::segments::disk::ReadAt;
use crate::segments::entry::{Entry, Place, Row};
use crate::segments::hot::Hot;
use crate::segments::index::{Changes, Checkpoint, Usage};
use crate::segments::record::{Head, encode_slots};

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<dyn ReadAt>,
    pub(super) usage: Usage,
    /// Whether it lies in the bucket and not on the disk.
    pub(super) is_cold: bool,
    /// When it was read last, in reads of the engine.
    pub(super) used: u64,
}

/// What lies on the disk, or in the bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tier {
    /// Bytes of all segments.
    pub(super) bytes: u64,
    /// Bytes of records that are live, and of deletes that are still there.
    pub(super) live: u64,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) store: u128,
    /// Changes since the last checkpoint began.
    pub(super) active: Changes,
    /// Changes that a checkpoint is writing.
    pub(super) frozen: Option<Arc<Changes>>,
    pub(super) segments: BTreeMap<u32, Segment>,
    pub(super) applied: Place,
    /// The largest version of each slot.
    pub(super) slots: Vec<u64>,
    pub(super) objects: u64,
    pub(super) hot: Hot,
    /// Grows whenever a row's entry may have gone from memory to the index.
    pub(super) generation: u64,
    /// Bytes of the log since the last checkpoint.
    pub(super) bytes_since_checkpoint: u64,
    /// Where the last checkpoint's part of the log ends.
    pub(super) covered: Place,
    /// Reads of segments so far.
    pub(super) reads: u64,
    /// What is on the disk.
    pub(super) local: Tier,
    /// What is in the bucket.
    pub(super) cold: Tier,
}

/// What memory knows of a row.
#[derive(Debug)]
pub(super) enum Known {
    /// Everything.
    Yes(Option<Entry>),
    /// Nothing: the index knows.
    No,
}

impl State {
    pub(super) fn new(store: u128, hot_bytes: usize) -> Self {
        Self {
            store,
            active: Changes::new(),
            frozen: None,
            segments: BTreeMap::new(),
            applied: Place::default(),
            slots: vec![0; usize::from(SLOTS)],
            objects: 0,
            hot: Hot::new(hot_bytes),
            generation: 0,
            bytes_since_checkpoint: 0,
            covered: Place::default(),
            reads: 0,
            local: Tier::default(),
            cold: Tier::default(),
        }
    }

    pub(super) fn known(&mut self, row: &Row) -> Known {
        if let Some(entry) = self.hot.get(row) {
            return Known::Yes(Some(entry));
        }
        match self.changed(row) {
            Some(entry) => Known::Yes(entry),
            None => Known::No,
        }
    }

    /// The row's entry, if it changed since the last checkpoint.
    pub(super) fn changed(&self, row: &Row) -> Option<Option<Entry>> {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.get(row));
        self.active.get(row).or_else(frozen).copied()
    }

    /// Keeps what a reader found, unless it has changed since: `generation` is from before the
    /// reader asked the index.
    pub(super) fn keep(&mut self, row: &Row, entry: Entry, generation: u64) {
        let is_newest = match self.changed(row) {
            Some(newest) => newest == Some(entry),
            None => generation == self.generation,
        };
        if is_newest {
            self.hot.insert(row, entry);
        }
    }

    /// Applies a record that is durable. `old` is the row's entry before it. Whether the record is
    /// the row's newest now.
    pub(super) fn apply(
        &mut self,
        row: Row,
        key: &[u8],
        head: &Head,
        place: Place,
        old: Option<Entry>,
    ) -> bool {
        let slot = &mut self.slots[usize::from(Slot::of(key).number())];
        *slot = (*slot).max(head.version);
        if old.is_some_and(|old| old.version > head.version) {
            return false;
        }
        let oldest = self.oldest(old, place.segment);
        let entry = Entry::of(head, place, oldest);
        let was = old.is_some_and(|old| !old.kind.is_delete());
        if let Some(old) = old {
            self.release(&old);
        }
        self.claim(&entry);
        if row.is_object() {
            match (was, !entry.kind.is_delete()) {
                (false, true) => self.objects += 1,
                (true, false) => self.objects = self.objects.saturating_sub(1),
                _ => {}
            }
        }
        let moved = old.is_some_and(|old| old.version == entry.version && old.kind == entry.kind);
        match moved {
            true => self.hot.relocate(&row, entry),
            false => self.hot.remove(&row),
        }
        self.active.insert(row, Some(entry));
        true
    }

    /// Forgets a delete that nothing needs any more.
    pub(super) fn forget(&mut self, row: Row, entry: &Entry) {
        self.release(entry);
        if row.is_object() && !entry.kind.is_delete() {
            self.objects = self.objects.saturating_sub(1);
        }
        self.hot.remove(&row);
        self.active.insert(row, None);
    }

    /// The record that ends at `end` and all before it are applied.
    pub(super) fn advance(&mut self, end: Place) {
        let Some(segment) = self.segments.get_mut(&end.segment) else { return };
        let grown = end.offset.saturating_sub(segment.usage.bytes);
        segment.usage.bytes += grown;
        let is_cold = segment.is_cold;
        self.tier(is_cold).bytes += grown;
        self.bytes_since_checkpoint += grown;
        self.applied = end;
    }

    /// Adds a segment of the disk.
    pub(super) fn add_segment(&mut self, id: u32, file: Arc<dyn ReadAt>, usage: Usage) {
        self.add(id, Segment { file, usage, is_cold: false, used: self.reads });
    }

    /// Adds a segment of the bucket.
    pub(super) fn add_cold_segment(&mut self, id: u32, file: Arc<dyn ReadAt>, usage: Usage) {
        self.add(id, Segment { file, usage, is_cold: true, used: self.reads });
    }

    fn add(&mut self, id: u32, segment: Segment) {
        let tier = self.tier(segment.is_cold);
        tier.bytes += segment.usage.bytes;
        tier.live += segment.usage.kept();
        self.segments.insert(id, segment);
    }

    pub(super) fn remove_segment(&mut self, id: u32) -> Option<Segment> {
        let segment = self.segments.remove(&id)?;
        let tier = self.tier(segment.is_cold);
        tier.bytes -= segment.usage.bytes;
        tier.live -= segment.usage.kept();
        Some(segment)
    }

    /// The segment lies in the bucket from now on.
    pub(super) fn cool_segment(&mut self, id: u32, file: Arc<dyn ReadAt>) {
        if let Some(segment) = self.remove_segment(id) {
            self.add(id, Segment { file, is_cold: true, ..segment });
        }
    }

    /// A segment's file, for who reads a record in it.
    pub(super) fn use_segment(&mut self, id: u32) -> Option<Arc<dyn ReadAt>> {
        self.reads += 1;
        let segment = self.segments.get_mut(&id)?;
        segment.used = self.reads;
        Some(Arc::clone(&segment.file))
    }

    fn tier(&mut self, is_cold: bool) -> &mut Tier {
        if is_cold { &mut self.cold } else { &mut self.local }
    }

    /// The segment that is there just before this one.
    pub(super) fn before(&self, id: u32) -> Option<u32> {
        self.segments.range(..id).next_back().map(|(id, _)| *id)
    }

    /// Bytes that compaction of this segment would free.
    pub(super) fn dead(&self, id: u32) -> u64 {
        self.segments.get(&id).map_or(0, |segment| segment.usage.dead(self.before(id)))
    }

    /// Whether no segment but `own` can hold an older record of the row.
    pub(super) fn is_last(&self, entry: &Entry, own: u32) -> bool {
        self.segments.range(entry.oldest..own).next().is_none()
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            store: self.store,
            applied: self.applied,
            objects: self.objects,
            segments: self.segments.iter().map(|(id, s)| (*id, s.usage.clone())).collect(),
            slots: encode_slots(&self.slots).to_vec(),
        }
    }

    fn oldest(&self, old: Option<Entry>, own: u32) -> u32 {
        let Some(old) = old else { return own };
        self.segments.range(old.oldest..own).next().map_or(own, |(id, _)| *id)
    }

    fn claim(&mut self, entry: &Entry) {
        let bytes = entry.record_bytes();
        let Some(segment) = self.segments.get_mut(&entry.place.segment) else { return };
        let tier = if segment.is_cold { &mut self.cold } else { &mut self.local };
        tier.live += bytes;
        match entry.kind.is_delete() {
            true => *segment.usage.graves.entry(entry.oldest).or_default() += bytes,
            false => segment.usage.live += bytes,
        }
    }

    fn release(&mut self, entry: &Entry) {
        let bytes = entry.record_bytes();
        let Some(segment) = self.segments.get_mut(&entry.place.segment) else { return };
        let tier = if segment.is_cold { &mut self.cold } else { &mut self.local };
        tier.live = tier.live.saturating_sub(bytes);
        let usage = &mut segment.usage;
        if !entry.kind.is_delete() {
            usage.live = usage.live.saturating_sub(bytes);
        } else if let Some(graves) = usage.graves.get_mut(&entry.oldest) {
            *graves = graves.saturating_sub(bytes);
            if *graves == 0 {
                usage.graves.remove(&entry.oldest);
            }
        }
    }
}
