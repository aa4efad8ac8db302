//! The index on disk: rows of redb, as they were at the last checkpoint.
//!
//! Owns the file `index.redb` and its tables. Knows nothing of what came after the checkpoint.
//! Invariant: a checkpoint is one transaction, so rows, segments, slots and position agree; and
//! everything in it can be made again from the segments.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use crate::error::{Error, Kind, Result};
use crate::segments::backend::{Backend, Shadow};
use crate::segments::disk::{Disk, DiskFile};
use crate::segments::entry::{Entry, Place, Row};
use crate::segments::record::{eight, four};

pub(super) const INDEX: &str = "index.redb";
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const SEGMENTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("segments");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const CHECKPOINT: &str = "checkpoint 1";
const SLOT_VERSIONS: &str = "slots";

/// How much of a segment is in use, and by what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes of the segment, its header included.
    pub(super) bytes: u64,
    /// Bytes of the segment's own: its header and its table of slots.
    pub(super) own: u64,
    /// Bytes of records that readers can reach.
    pub(super) live: u64,
    /// Bytes of deletes that are still needed, by the oldest segment that may hold what they
    /// delete.
    pub(super) graves: BTreeMap<u32, u64>,
}

/// What a checkpoint covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) store: u128,
    /// Everything before this place in the log is in the rows.
    pub(super) applied: Place,
    /// Objects that are there.
    pub(super) objects: u64,
    pub(super) segments: BTreeMap<u32, Usage>,
    /// The table of [`crate::segments::record::encode_slots`].
    pub(super) slots: Vec<u8>,
}

/// Rows that changed since a checkpoint; `None` takes one away.
pub(super) type Changes = BTreeMap<Row, Option<Entry>>;

#[derive(Debug)]
pub(super) struct Index {
    database: Database,
    file: Arc<dyn DiskFile>,
    shadow: Arc<Shadow>,
}

impl Index {
    /// Opens the index, or makes an empty one. Damaged means: remove it, it is made again.
    pub(super) fn open(disk: &dyn Disk, cache_bytes: usize, durable: bool) -> Result<Self> {
        let names = disk.list().map_err(|error| Error::io("cannot list the store", error))?;
        let is_new = !names.iter().any(|name| name == INDEX);
        let file = match is_new {
            true => disk.create(INDEX),
            false => disk.open(INDEX),
        };
        let file = file.map_err(|error| Error::io(format!("cannot open {INDEX}"), error))?;
        let shadow = Arc::new(Shadow::default());
        let backend = Backend::new(Arc::clone(&file), Arc::clone(&shadow), durable);
        let database = Builder::new()
            .set_cache_size(cache_bytes)
            .create_with_backend(backend)
            .map_err(|error| fault("open", error.into()))?;
        if is_new && durable {
            disk.sync_dir().map_err(|error| Error::io("cannot sync the store's folder", error))?;
        }
        Ok(Self { database, file, shadow })
    }

    /// The last checkpoint; `None` in an empty index.
    pub(super) fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        self.read_checkpoint().map_err(|error| fault("read", error))?.transpose()
    }

    fn read_checkpoint(&self) -> Found<Option<Result<Checkpoint>>> {
        let read = self.database.begin_read()?;
        let meta = match read.open_table(META) {
            Ok(meta) => meta,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(head) = meta.get(CHECKPOINT)? else { return Ok(None) };
        let Ok(head) = <[u8; 36]>::try_from(head.value()) else {
            return Ok(Some(Err(malformed("checkpoint"))));
        };
        let mut store = [0; 16];
        store.copy_from_slice(&head[..16]);
        let applied = Place {
            segment: u32::from_le_bytes(four(&head, 16)),
            offset: u64::from_le_bytes(eight(&head, 20)),
        };
        let mut segments = BTreeMap::new();
        for row in read.open_table(SEGMENTS)?.range::<u32>(..)? {
            let (id, usage) = row?;
            let Some(usage) = Usage::decode(usage.value()) else {
                return Ok(Some(Err(malformed("row of a segment"))));
            };
            segments.insert(id.value(), usage);
        }
        let slots = meta.get(SLOT_VERSIONS)?.map(|slots| slots.value().to_vec());
        Ok(Some(Ok(Checkpoint {
            store: u128::from_le_bytes(store),
            applied,
            objects: u64::from_le_bytes(eight(&head, 28)),
            segments,
            slots: slots.unwrap_or_default(),
        })))
    }

    /// Applies `changes` and all of `checkpoint`, durably, in one transaction.
    pub(super) fn save(&self, changes: &Changes, checkpoint: &Checkpoint) -> Result<()> {
        self.write_checkpoint(changes, checkpoint).map_err(|error| fault("write", error))?;
        match self.shadow.failure() {
            None => Ok(()),
            Some(why) => Err(Error::new(Kind::Io, format!("cannot write {INDEX}: {why}"))),
        }
    }

    fn write_checkpoint(&self, changes: &Changes, checkpoint: &Checkpoint) -> Found<()> {
        let mut write = self.database.begin_write()?;
        // Otherwise a start after a crash reads the whole index to find its free pages.
        write.set_quick_repair(true);
        {
            let mut rows = write.open_table(ROWS)?;
            for (row, entry) in changes {
                match entry {
                    Some(entry) => rows.insert(row.as_bytes(), &entry.encode()[..])?,
                    None => rows.remove(row.as_bytes())?,
                };
            }
            let mut segments = write.open_table(SEGMENTS)?;
            segments.retain(|id, _| checkpoint.segments.contains_key(&id))?;
            for (id, usage) in &checkpoint.segments {
                let bytes = usage.encode();
                let same = segments.get(id)?.is_some_and(|found| found.value() == bytes);
                if !same {
                    segments.insert(id, &bytes[..])?;
                }
            }
            let mut head = BytesMut::with_capacity(36);
            head.put_u128_le(checkpoint.store);
            head.put_u32_le(checkpoint.applied.segment);
            head.put_u64_le(checkpoint.applied.offset);
            head.put_u64_le(checkpoint.objects);
            let mut meta = write.open_table(META)?;
            meta.insert(CHECKPOINT, &head[..])?;
            meta.insert(SLOT_VERSIONS, &checkpoint.slots[..])?;
        }
        write.commit()?;
        Ok(())
    }

    /// The row's entry as of the last checkpoint.
    pub(super) fn get(&self, row: &Row) -> Result<Option<Entry>> {
        let found = (|| -> Found<Option<Option<Entry>>> {
            let read = self.database.begin_read()?;
            let rows = match read.open_table(ROWS) {
                Ok(rows) => rows,
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            Ok(rows.get(row.as_bytes())?.map(|entry| Entry::decode(entry.value())))
        })();
        match found.map_err(|error| fault("read", error))? {
            None => Ok(None),
            Some(Some(entry)) => Ok(Some(entry)),
            Some(None) => Err(malformed("row")),
        }
    }

    /// At most `limit` rows from `from` up to `to`, which is not one of them.
    pub(super) fn range(&self, from: &Row, to: &Row, limit: usize) -> Result<Vec<(Row, Entry)>> {
        let found = (|| -> Found<Vec<(Row, Option<Entry>)>> {
            let read = self.database.begin_read()?;
            let rows = match read.open_table(ROWS) {
                Ok(rows) => rows,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut found = Vec::new();
            for row in rows.range::<&[u8]>(from.as_bytes()..to.as_bytes())?.take(limit) {
                let (row, entry) = row?;
                found.push((Row::from_bytes(row.value()), Entry::decode(entry.value())));
            }
            Ok(found)
        })();
        let found = found.map_err(|error| fault("read", error))?;
        let whole = found.into_iter().map(|(row, entry)| entry.map(|entry| (row, entry)));
        whole.collect::<Option<Vec<_>>>().ok_or_else(|| malformed("row"))
    }

    /// Bytes of the index's file.
    pub(super) fn bytes(&self) -> Result<u64> {
        self.file.len().map_err(|error| Error::io(format!("cannot measure {INDEX}"), error))
    }
}

type Found<T> = std::result::Result<T, redb::Error>;

fn fault(action: &str, error: redb::Error) -> Error {
    let (kind, next) = match &error {
        redb::Error::Corrupted(_) => (Kind::Corrupt, REMOVE),
        redb::Error::Io(error) if is_malformed(error) => (Kind::Corrupt, REMOVE),
        _ => (Kind::Io, ""),
    };
    Error::new(kind, format!("cannot {action} {INDEX}{next}")).with_source(error)
}

/// redb says so of a file that it did not write, or not to its end.
fn is_malformed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof)
}

const REMOVE: &str = " (remove this file and start again: it is made anew from the segments)";

fn malformed(what: &str) -> Error {
    Error::new(Kind::Corrupt, format!("a {what} of {INDEX} is malformed{REMOVE}"))
}

impl Usage {
    /// Bytes that a compaction would free, given the segment before this one that is still there.
    pub(super) fn dead(&self, before: Option<u32>) -> u64 {
        let needed: u64 = match before {
            Some(before) => self.graves.range(..=before).map(|(_, bytes)| bytes).sum(),
            None => 0,
        };
        self.bytes.saturating_sub(self.own + self.live + needed)
    }

    /// Bytes of what is live, and of deletes that are still there.
    pub(super) fn kept(&self) -> u64 {
        self.live + self.graves.values().sum::<u64>()
    }

    /// Bytes of records.
    pub(super) fn records(&self) -> u64 {
        self.bytes.saturating_sub(self.own)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + 12 * self.graves.len());
        out.put_u64_le(self.bytes);
        out.put_u64_le(self.own);
        out.put_u64_le(self.live);
        for (oldest, bytes) in &self.graves {
            out.put_u32_le(*oldest);
            out.put_u64_le(*bytes);
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, graves) = bytes.split_at_checked(24)?;
        let (graves, rest) = graves.as_chunks::<12>();
        rest.is_empty().then(|| Self {
            bytes: u64::from_le_bytes(eight(head, 0)),
            own: u64::from_le_bytes(eight(head, 8)),
            live: u64::from_le_bytes(eight(head, 16)),
            graves: graves
                .iter()
                .map(|grave| {
                    (u32::from_le_bytes(four(grave, 0)), u64::from_le_bytes(eight(grave, 4)))
                })
                .collect(),
        })
    }
}
