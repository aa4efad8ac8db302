//! Where writers wait for the next group.
//!
//! Owns what is queued and not yet durable, its positions, and each slot's largest submitted version.
//! Knows no disk. Invariant: what is admitted is written in the order of admission; when one write
//! fails, so does everything behind it, and nothing is admitted until [`Inbox::halted`] is cleared.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::checksum::{Sums, blocks};
use crate::error::{Error, Kind, Result};
use crate::key::{Key, SLOTS};
use crate::segments::entry::{Place, Row};
use crate::segments::record::{RecordKind, VALUE_BYTES_MAX, record_bytes};

/// The most records that one write may have.
pub const WRITE_RECORDS_MAX: usize = 16_384;

/// One change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it does.
    pub kind: RecordKind,
    /// The object's key.
    pub key: Key,
    /// The item's number, for kinds that are about an item; otherwise 0.
    pub item: u64,
    /// The version that the caller gave; larger than any before it in its slot.
    pub version: u64,
    /// When the object ends, in milliseconds since 1970-01-01 UTC; 0 never.
    pub expires_at: u64,
    /// When it was written, in the same unit; the engine only keeps it.
    pub modified_at: u64,
    /// The value, or nothing for deletes.
    pub value: Bytes,
    /// The value's block checksums, by whoever wrote it.
    pub sums: Sums,
}

impl Record {
    /// A value's put, without an end.
    pub fn put(key: Key, version: u64, value: Bytes) -> Self {
        let sums = Sums::of(0, &value);
        let kind = RecordKind::Value;
        Self { kind, key, item: 0, version, expires_at: 0, modified_at: 0, value, sums }
    }

    /// An object's delete.
    pub fn delete(key: Key, version: u64) -> Self {
        Self { kind: RecordKind::Delete, ..Self::put(key, version, Bytes::new()) }
    }

    pub(super) fn value_len(&self) -> u32 {
        u32::try_from(self.value.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn key_len(&self) -> u16 {
        u16::try_from(self.key.as_bytes().len()).unwrap_or(u16::MAX)
    }

    /// Bytes on disk of a record with a key and a value of these lengths.
    pub fn bytes_of(key_len: usize, value_len: usize) -> u64 {
        let key_len = u16::try_from(key_len).unwrap_or(u16::MAX);
        record_bytes(key_len, u32::try_from(value_len).unwrap_or(u32::MAX))
    }

    /// Bytes on disk, with its header.
    pub fn bytes(&self) -> u64 {
        record_bytes(self.key_len(), self.value_len())
    }

    fn check(&self) -> Result<()> {
        let invalid = |why: &str| Err(Error::new(Kind::Invalid, format!("{:?}: {why}", self.key)));
        if self.value.len() > VALUE_BYTES_MAX as usize {
            let text =
                format!("{:?} of {} bytes; at most {VALUE_BYTES_MAX}", self.key, self.value.len());
            return Err(Error::new(Kind::TooLarge, text).with_detail(u64::from(VALUE_BYTES_MAX)));
        }
        if self.kind.is_own() {
            return invalid("a record of the log's own");
        }
        if self.kind.is_delete() && !self.value.is_empty() {
            return invalid("a delete with a value");
        }
        if !self.kind.is_item() && self.item != 0 {
            return invalid("an object with an item's number");
        }
        if self.sums.len() != blocks(0, self.value.len()) {
            return invalid("checksums that are not the value's");
        }
        Ok(())
    }
}

/// A write that was queued. Await it, or [`Durable::wait`]: it is durable when that returns `Ok`.
/// Dropping it changes nothing: the write goes on.
#[derive(Debug)]
#[must_use = "a write is durable only once this has returned"]
pub struct Durable(pub(super) oneshot::Receiver<Result<()>>);

impl Durable {
    /// Blocks until the write is durable or has failed. Not for threads of an async runtime.
    pub fn wait(self) -> Result<()> {
        self.0.blocking_recv().unwrap_or_else(|_| Err(closed()))
    }
}

impl Future for Durable {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let result = Pin::new(&mut self.0).poll(context);
        result.map(|answer| answer.unwrap_or_else(|_| Err(closed())))
    }
}

pub(super) fn closed() -> Error {
    Error::new(Kind::Closed, "the storage engine is closed")
}

/// Records that count together or not at all.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) records: Vec<Record>,
    pub(super) rows: Vec<Row>,
    /// For what compaction moves: where each record lies now.
    pub(super) from: Option<Vec<Place>>,
    pub(super) bytes: u64,
    /// Where it stands in the order of writes; none for what compaction moves.
    pub(super) position: Option<u64>,
    /// Who waits for this one alone.
    pub(super) done: Option<oneshot::Sender<Result<()>>>,
}

impl Queued {
    pub(super) fn new(store: u128, records: Vec<Record>, from: Option<Vec<Place>>) -> Result<Self> {
        if records.is_empty() || records.len() > WRITE_RECORDS_MAX {
            let text = format!("a write of {} records; 1 to {WRITE_RECORDS_MAX}", records.len());
            return Err(Error::new(Kind::Invalid, text));
        }
        for record in &records {
            record.check()?;
        }
        let row = |r: &Record| Row::of(store, r.kind, r.key.as_bytes(), r.item);
        let rows: Vec<Row> = records.iter().map(row).collect();
        if rows.len() > 1
            && !rows.iter().collect::<std::collections::HashSet<_>>().len().eq(&rows.len())
        {
            return Err(Error::new(Kind::Invalid, "a write with two records of one row"));
        }
        let bytes = records.iter().map(Record::bytes).sum();
        Ok(Self { records, rows, from, bytes, position: None, done: None })
    }

    /// When this one is settled.
    pub(super) fn durable(&mut self) -> Durable {
        let (done, receiver) = oneshot::channel();
        self.done = Some(done);
        Durable(receiver)
    }

    pub(super) fn is_delete(&self) -> bool {
        self.records.iter().all(|record| record.kind.is_delete())
    }
}

/// Why nothing is written any more.
#[derive(Debug, Clone)]
pub(super) struct Failure(pub(super) String);

impl Failure {
    pub(super) fn error(&self) -> Error {
        let text = format!(
            "the store only reads since its disk failed ({}); see to the disk, then restart",
            self.0
        );
        Error::new(Kind::Io, text)
    }
}

/// The error again, for another of those whom it concerns.
pub(super) fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.to_string()).with_detail(error.detail())
}

#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) writes: VecDeque<Queued>,
    pub(super) moves: VecDeque<Queued>,
    /// Bytes of writes that are queued or being written.
    pub(super) bytes: u64,
    /// Bytes of writes that were admitted and are not queued yet.
    pub(super) reserved: u64,
    /// The position of the last write that was queued.
    pub(super) submitted: u64,
    pub(super) slots: Vec<u64>,
    pub(super) closing: bool,
    pub(super) failure: Option<Failure>,
    /// A write failed and its owner has not taken note of it.
    pub(super) halted: Option<Error>,
    /// Groups taken so far; what is asked for the next one has this number.
    pub(super) groups: u64,
    /// The group for which compaction found nothing to free.
    pub(super) stuck_at: Option<u64>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            writes: VecDeque::new(),
            moves: VecDeque::new(),
            bytes: 0,
            reserved: 0,
            submitted: 0,
            slots: vec![0; usize::from(SLOTS)],
            closing: false,
            failure: None,
            halted: None,
            groups: 0,
            stuck_at: None,
        }
    }

    /// Whether anything can be queued.
    pub(super) fn check_open(&self) -> Result<()> {
        match (&self.failure, self.closing, &self.halted) {
            (Some(failure), ..) => Err(failure.error()),
            (None, true, _) => Err(closed()),
            (None, false, Some(error)) => Err(again(error)),
            (None, false, None) => Ok(()),
        }
    }

    /// Every record has a version that its slot has not seen.
    pub(super) fn check_versions(&self, records: &[Record]) -> Result<()> {
        for record in records {
            let slot = record.key.slot();
            let last = self.slots[usize::from(slot.number())];
            if record.version <= last {
                let text = format!(
                    "{:?} with version {}; slot {} is at {last}",
                    record.key,
                    record.version,
                    slot.number()
                );
                return Err(Error::new(Kind::Invalid, text).with_detail(last));
            }
        }
        Ok(())
    }

    /// Queues a write; its position.
    pub(super) fn queue(&mut self, mut queued: Queued) -> u64 {
        for record in &queued.records {
            let slot = &mut self.slots[usize::from(record.key.slot().number())];
            *slot = (*slot).max(record.version);
        }
        self.submitted += 1;
        queued.position = Some(self.submitted);
        self.bytes += queued.bytes;
        self.writes.push_back(queued);
        self.submitted
    }

    /// The write is settled: readers see it now, or never will.
    pub(super) fn settle(&mut self, queued: &Queued) {
        if queued.position.is_some() {
            self.bytes -= queued.bytes;
        }
    }
}
