//! Reading rows, and listing names.
//!
//! Owns what readers are given. Changes nothing but what is hot. Invariant: a reader sees durable
//! records only, and their every byte was checked since it was read from the disk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use crate::checksum::{BLOCK_BYTES, Sums};
use crate::error::{Error, Kind, Result};
use crate::key::{Key, SLOTS, Version};
use crate::segments::disk::ReadAt;
use crate::segments::entry::{Entry, Row};
use crate::segments::log::segment_name;
use crate::segments::queue::QueueHead;
use crate::segments::record::{Head, RecordKind, check_front, split};
use crate::segments::state::Known;
use crate::segments::{Engine, Shared, damaged, row_of};

/// Times that a reader looks again because the segment it was sent to is gone.
const LOOKS_MAX: usize = 64;
/// Rows that are looked at in one go, and how often before a page is sent, full or not.
const PAGE_ROWS: usize = 4096;
const PAGE_ROUNDS: usize = 16;

/// An object as it was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// [`RecordKind::Value`], or [`RecordKind::Queue`] for a queue's head.
    pub kind: RecordKind,
    /// The version of its put.
    pub version: Version,
    /// When it ends, in milliseconds since 1970-01-01 UTC; 0 never. The engine does not look at
    /// it: an object that has ended is there until it is deleted.
    pub expires_at: u64,
    /// When it was written, in milliseconds since 1970-01-01 UTC, as its writer said.
    pub modified_at: u64,
    /// The value's length.
    pub size: u64,
    /// The value; empty for a stat.
    pub value: Bytes,
    /// The value's block checksums.
    pub sums: Sums,
}

/// A part of an object's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The object; its value and sums are those of the part.
    pub found: Found,
    /// Where the part begins.
    pub offset: u64,
}

/// An object's name in a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The key.
    pub key: Key,
    /// Value or queue.
    pub kind: RecordKind,
    /// The version of its put.
    pub version: Version,
    /// The value's length; for a queue that of its head.
    pub size: u64,
    /// When it ends; 0 never.
    pub expires_at: u64,
    /// When it was written.
    pub modified_at: u64,
}

/// Names in the order of (slot, hash).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The names; there may be none although more follow.
    pub names: Vec<Name>,
    /// Where to go on; slot [`SLOTS`] means that there is no more.
    pub next: (u16, u64),
}

impl Engine {
    /// The object and its value.
    pub fn read(&self, key: &Key) -> Result<Option<Found>> {
        self.shared.read(&row_of(self.shared.store, key))
    }

    /// The item of a queue.
    pub fn read_item(&self, key: &Key, item: u64) -> Result<Option<Found>> {
        self.shared.read(&Row::item(self.shared.store, key.as_bytes(), item))
    }

    /// The items of a queue that has this head; `None` when one of them has gone meanwhile.
    pub fn read_items(&self, key: &Key, head: &QueueHead) -> Result<Option<Vec<Found>>> {
        (head.first..head.end).map(|item| self.read_item(key, item)).collect()
    }

    /// What is known of the object without reading its value.
    pub fn stat(&self, key: &Key) -> Result<Option<Found>> {
        let entry = self.shared.entry(&row_of(self.shared.store, key))?;
        let there = entry.filter(|entry| !entry.kind.is_delete());
        Ok(there.map(|entry| found(&entry, Bytes::new(), Sums::default())))
    }

    /// `len` bytes of the value from `offset` on, or what there is of them. Reads the blocks that
    /// they touch and no more.
    pub fn read_range(&self, key: &Key, offset: u64, len: u64) -> Result<Option<Range>> {
        self.shared.read_range(&row_of(self.shared.store, key), offset, len)
    }

    /// Names with `prefix` from `cursor` (slot, hash) on, at least `limit` unless they end or too
    /// many others lie between. A name that is there for the whole scan comes exactly once.
    pub fn scan(&self, prefix: &[u8], cursor: (u16, u64), limit: usize) -> Result<Page> {
        self.shared.scan(prefix, cursor, limit)
    }
}

fn found(entry: &Entry, value: Bytes, sums: Sums) -> Found {
    Found {
        kind: entry.kind,
        version: Version(entry.version),
        expires_at: entry.expires_at,
        modified_at: entry.modified_at,
        size: u64::from(entry.value_len),
        value,
        sums,
    }
}

impl Shared {
    /// The row's newest durable record, deletes included.
    pub(super) fn entry(&self, row: &Row) -> Result<Option<Entry>> {
        let known = self.state.lock().known(row);
        match known {
            Known::Yes(entry) => Ok(entry),
            Known::No => self.index.get(row),
        }
    }

    /// Where the row's value lies.
    fn source(&self, row: &Row) -> Result<Option<(Entry, Arc<dyn ReadAt>)>> {
        for _ in 0..LOOKS_MAX {
            let (known, generation) = {
                let mut state = self.state.lock();
                (state.known(row), state.generation)
            };
            let entry = match known {
                Known::Yes(entry) => entry,
                Known::No => self.index.get(row)?,
            };
            let Some(entry) = entry.filter(|entry| !entry.kind.is_delete()) else {
                return Ok(None);
            };
            let mut state = self.state.lock();
            if let Some(file) = state.use_segment(entry.place.segment) {
                state.keep(row, entry, generation);
                return Ok(Some((entry, file)));
            }
            // Compaction moved it between the two looks.
        }
        Err(Error::new(Kind::Corrupt, "the index names a segment that is not there"))
    }

    /// Reads from where the row's value lies. What goes wrong there is no fault where the segment has
    /// gone meanwhile: a file of the disk can be read on, an object of the bucket cannot.
    fn read_with<T>(
        &self,
        row: &Row,
        read: impl Fn(&Entry, &dyn ReadAt) -> Result<T>,
    ) -> Result<Option<T>> {
        for _ in 0..LOOKS_MAX {
            let Some((entry, file)) = self.source(row)? else { return Ok(None) };
            let result = read(&entry, &*file);
            let is_gone = |id| !self.state.lock().segments.contains_key(&id);
            if result.is_ok() || !is_gone(entry.place.segment) {
                return result.map(Some);
            }
        }
        Err(Error::new(Kind::Corrupt, "segments go faster than they can be read"))
    }

    pub(super) fn read(&self, row: &Row) -> Result<Option<Found>> {
        self.read_with(row, |entry, file| {
            self.counters.reads.fetch_add(1, Ordering::Relaxed);
            let bytes = usize::try_from(entry.record_bytes()).unwrap_or(usize::MAX);
            let record = read_bytes(file, entry, 0, bytes)?;
            let place = (entry.place.segment, entry.place.offset);
            let head = self.head(row, entry, &record)?;
            let whole = split(place, &head, &record);
            let (_, sums, value) = whole.map_err(|flaw| damaged(entry.place, &flaw.0))?;
            Ok(found(entry, value, sums))
        })
    }

    fn read_range(&self, row: &Row, offset: u64, len: u64) -> Result<Option<Range>> {
        self.read_with(row, |entry, file| {
            let start = usize::try_from(offset.min(u64::from(entry.value_len))).unwrap_or(0);
            let left = entry.value_len as usize - start;
            let len = left.min(usize::try_from(len).unwrap_or(usize::MAX));
            let (value, sums) = self.read_blocks(row, entry, file, start, len)?;
            Ok(Range { found: found(entry, value, sums), offset: start as u64 })
        })
    }

    /// Reads and checks the blocks that a part touches. The rest of the value is not looked at.
    fn read_blocks(
        &self,
        row: &Row,
        entry: &Entry,
        file: &dyn ReadAt,
        start: usize,
        len: usize,
    ) -> Result<(Bytes, Sums)> {
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        let front_bytes = crate::segments::record::HEADER_BYTES
            + usize::from(entry.key_len)
            + crate::segments::record::table_bytes(entry.value_len);
        let front = read_bytes(file, entry, 0, front_bytes)?;
        let head = self.head(row, entry, &front)?;
        let place = (entry.place.segment, entry.place.offset);
        check_front(place, &front).map_err(|flaw| damaged(entry.place, &flaw.0))?;
        if len == 0 {
            return Ok((Bytes::new(), Sums::default()));
        }
        let first = start / BLOCK_BYTES;
        let from = first * BLOCK_BYTES;
        let to = (start + len).next_multiple_of(BLOCK_BYTES).min(head.value_len as usize);
        let bytes = read_bytes(file, entry, front_bytes as u64 + from as u64, to - from)?;
        let table = front_bytes - crate::segments::record::table_bytes(entry.value_len);
        let last = to.div_ceil(BLOCK_BYTES);
        let sums = Sums::copied(&front[table + first * 4..table + last * 4]);
        sums.check(0, &bytes).map_err(|error| damaged(entry.place, &error.to_string()))?;
        let part = sums.slice(&bytes, start - from, len)?;
        Ok((bytes.slice(start - from..start - from + len), part))
    }

    /// The header at an entry's place, which must be the one that the index means.
    fn head(&self, row: &Row, entry: &Entry, record: &[u8]) -> Result<Head> {
        let head = Head::decode(record).map_err(|flaw| damaged(entry.place, &flaw.0))?;
        let is_meant = head.kind == entry.kind
            && head.version == entry.version
            && head.key_len == entry.key_len
            && head.value_len == entry.value_len;
        let key_at = crate::segments::record::HEADER_BYTES;
        let key = record.get(key_at..key_at + usize::from(head.key_len)).unwrap_or_default();
        match is_meant && Row::of(self.store, head.kind, key, head.item) == *row {
            true => Ok(head),
            false => Err(damaged(entry.place, "the index means another record")),
        }
    }

    fn scan(&self, prefix: &[u8], cursor: (u16, u64), limit: usize) -> Result<Page> {
        let (mut names, mut from) = (Vec::new(), Row::from_cursor(cursor));
        let mut place: Option<(u16, u64)> = None;
        for round in 0.. {
            let (rows, is_end) = self.rows(&from)?;
            for (row, entry) in &rows {
                let here = row.cursor();
                let is_enough = names.len() >= limit.max(1) || round >= PAGE_ROUNDS;
                if is_enough && place.is_some_and(|place| place != here) {
                    return Ok(Page { names, next: here });
                }
                place = Some(here);
                let Some(entry) = entry.filter(|entry| !entry.kind.is_delete()) else { continue };
                if row.key_bytes().starts_with(prefix) {
                    names.push(Name {
                        key: row.key()?,
                        kind: entry.kind,
                        version: Version(entry.version),
                        size: u64::from(entry.value_len),
                        expires_at: entry.expires_at,
                        modified_at: entry.modified_at,
                    });
                }
            }
            let last = rows.last_key_value().map(|(row, _)| row.clone());
            match last {
                Some(last) if !is_end => {
                    // The next row in order: this one and a zero byte.
                    from = Row::from_bytes(&[last.as_bytes(), &[0]].concat());
                }
                _ => break,
            }
        }
        Ok(Page { names, next: (SLOTS, 0) })
    }

    /// Rows of objects from `from` on, some of them, and whether these are all.
    fn rows(&self, from: &Row) -> Result<(BTreeMap<Row, Option<Entry>>, bool)> {
        let end = Row::objects_end();
        let range = (Bound::Included(from), Bound::Excluded(&end));
        let mut rows = BTreeMap::new();
        let mut bound: Option<Row> = None;
        {
            // Memory first: what a checkpoint moves meanwhile is in the index then.
            let state = self.state.lock();
            let frozen = state.frozen.clone();
            for changes in frozen.as_deref().into_iter().chain([&state.active]) {
                let mut some = changes.range::<Row, _>(range).take(PAGE_ROWS + 1);
                let taken: Vec<_> = some.by_ref().collect();
                if let Some((row, _)) = taken.get(PAGE_ROWS) {
                    bound = Some(bound.map_or((*row).clone(), |bound| bound.min((*row).clone())));
                }
                rows.extend(taken.into_iter().map(|(row, entry)| (row.clone(), *entry)));
            }
        }
        let stored = self.index.range(from, &end, PAGE_ROWS + 1)?;
        if let Some((row, _)) = stored.get(PAGE_ROWS) {
            bound = Some(bound.map_or(row.clone(), |bound| bound.min(row.clone())));
        }
        for (row, entry) in stored {
            rows.entry(row).or_insert(Some(entry));
        }
        if let Some(bound) = &bound {
            rows.retain(|row, _| row < bound);
        }
        Ok((rows, bound.is_none()))
    }
}

fn read_bytes(file: &dyn ReadAt, entry: &Entry, offset: u64, len: usize) -> Result<Bytes> {
    let mut buffer = BytesMut::zeroed(len);
    match file.read_exact_at(&mut buffer, entry.place.offset + offset) {
        Ok(()) => Ok(buffer.freeze()),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(damaged(entry.place, "the segment ends before the record does"))
        }
        Err(error) => {
            Err(Error::io(format!("cannot read {}", segment_name(entry.place.segment)), error))
        }
    }
}
