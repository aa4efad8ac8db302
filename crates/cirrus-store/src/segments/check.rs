//! Reading a whole store: is every record whole, and does the index agree?
//!
//! Owns [`Report`]. Repairs nothing. Invariant: every byte of every segment was read when it
//! returns.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::segments::bucket::Bucket;
use crate::segments::cold::Cold;
use crate::segments::disk::{Disk, ReadAt};
use crate::segments::entry::{Entry, Place, Row};
use crate::segments::index::{INDEX, Index};
use crate::segments::log::{segment_id, segment_name};
use crate::segments::record::{RECORDS_AT, RecordKind, SegmentHeader};
use crate::segments::recovery::{open_segment, segment_header};
use crate::segments::stub::{Stub, stub_id, stub_name};
use crate::segments::walk::{Stop, Walk};

/// Damage that a report lists one by one.
const DAMAGE_MAX: usize = 100;
const INDEX_CACHE_BYTES: usize = 64 << 20;
const ROWS_AT_ONCE: usize = 4096;

/// Records after which it says how far it is.
const RECORDS_BETWEEN: u64 = 256;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Segments read.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that are whole.
    pub records: u64,
    /// Values and queues that are there.
    pub objects: u64,
    /// Bytes at the end of the last segment that were never acknowledged; the next start cuts them.
    pub torn_bytes: u64,
    /// Segments in the bucket that were not read, because it was not given.
    pub unread_segments: u64,
    /// Rows that the index has.
    pub rows: u64,
    /// The first hundred damaged places; a segment is not read on behind one.
    pub damage: Vec<Damage>,
}

/// A place that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, byte {}: {}", self.file, self.offset, self.what)
    }
}

/// The newest record of a row, as the log has it.
type Newest = HashMap<Row, (u64, Place, RecordKind)>;

/// What of a store is read.
struct Store<'a> {
    disk: &'a dyn Disk,
    cold: Option<Arc<Cold>>,
    /// The bytes of every segment, and whether it is cold.
    segments: BTreeMap<u32, (u64, bool)>,
}

/// `read` is told how many bytes were read, of how many.
pub(super) fn check(
    disk: &Arc<dyn Disk>,
    bucket: Option<Arc<dyn Bucket>>,
    mut read: impl FnMut(u64, u64),
) -> Result<Report> {
    let names = disk.list().map_err(|error| Error::io("cannot list the store", error))?;
    let mut report = Report::default();
    let store = Store::open(&**disk, bucket, &names, &mut report)?;
    let mut newest = Newest::new();
    let last = store.segments.last_key_value().map(|(id, _)| *id);
    let (mut done, all) = (0, store.segments.values().map(|(bytes, _)| bytes).sum());
    for (id, (len, _)) in &store.segments {
        check_segment(&store, *id, Some(*id) == last, &mut report, &mut newest, |at| {
            read(done + at, all);
        })?;
        done += len;
    }
    read(all, all);
    let is_object = |(row, (_, _, kind)): &(&Row, &(u64, Place, RecordKind))| {
        row.is_object() && !kind.is_delete()
    };
    report.objects = newest.iter().filter(is_object).count() as u64;
    // Without the whole log there is nothing to compare with.
    let is_whole = report.damage.is_empty() && report.unread_segments == 0;
    if is_whole && names.iter().any(|name| name == INDEX) {
        check_index(&**disk, &mut report, &newest)?;
    }
    Ok(report)
}

impl<'a> Store<'a> {
    /// The segments that can be read; of those in the bucket only where that is given.
    fn open(
        disk: &'a dyn Disk,
        bucket: Option<Arc<dyn Bucket>>,
        names: &[String],
        report: &mut Report,
    ) -> Result<Self> {
        let (mut cold_segments, mut store) = (BTreeMap::new(), None);
        for id in names.iter().filter_map(|name| stub_id(name)) {
            match Stub::read(disk, id) {
                Ok(stub) => {
                    store = Some(stub.header.store);
                    cold_segments.insert(id, (stub.bytes, true));
                }
                Err(error) if error.kind() == Kind::Corrupt => {
                    report.add(stub_name(id), error.detail(), error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        let cold = bucket.zip(store).map(|(bucket, store)| Arc::new(Cold::new(bucket, store)));
        let mut segments = if cold.is_some() { cold_segments.clone() } else { BTreeMap::new() };
        for id in names.iter().filter_map(|name| segment_id(name)) {
            let name = segment_name(id);
            let len = disk.open(&name).and_then(|file| file.len());
            let len = len.map_err(|error| Error::io(format!("cannot read {name}"), error))?;
            // Of one that is in both places, as a crash may leave it, the bucket's counts.
            segments.entry(id).or_insert((len, false));
        }
        cold_segments.retain(|id, _| !segments.contains_key(id));
        report.unread_segments = cold_segments.len() as u64;
        Ok(Self { disk, cold, segments })
    }

    /// A segment's header, its bytes, and how many.
    fn segment(&self, id: u32) -> Result<(SegmentHeader, Arc<dyn ReadAt>, u64)> {
        let cannot = |error| Error::io(format!("cannot read {}", segment_name(id)), error);
        match (&self.cold, self.segments[&id]) {
            (Some(cold), (bytes, true)) => {
                let file = cold.file(id, bytes);
                Ok((segment_header(&*file, id)?, file, bytes))
            }
            (_, _) => {
                let (header, file) = open_segment(self.disk, id)?;
                let len = file.len().map_err(cannot)?;
                Ok((header, file, len))
            }
        }
    }
}

impl Report {
    fn add(&mut self, file: String, offset: u64, what: String) {
        if self.damage.len() < DAMAGE_MAX {
            self.damage.push(Damage { file, offset, what });
        }
    }
}

fn check_segment(
    store: &Store<'_>,
    id: u32,
    is_last: bool,
    report: &mut Report,
    newest: &mut Newest,
    mut read: impl FnMut(u64),
) -> Result<()> {
    let name = segment_name(id);
    report.segments += 1;
    let (header, file, len) = match store.segment(id) {
        Ok(opened) => opened,
        Err(error) if error.kind() == Kind::Corrupt => {
            report.add(name, error.detail(), error.to_string());
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let cannot = |error| Error::io(format!("cannot read {}", segment_name(id)), error);
    report.bytes += len;
    let mut walk = Walk::new(&*file, id, RECORDS_AT, len);
    let (mut whole, mut write) = (RECORDS_AT, Vec::new());
    loop {
        match walk.next() {
            Ok(Some(step)) => {
                report.records += 1;
                if report.records.is_multiple_of(RECORDS_BETWEEN) {
                    read(step.offset);
                }
                let is_end = !step.head.more;
                if !step.head.kind.is_own() {
                    let row = Row::of(header.store, step.head.kind, &step.key, step.head.item);
                    let place = Place { segment: id, offset: step.offset };
                    write.push((row, (step.head.version, place, step.head.kind)));
                }
                if is_end {
                    whole = walk.offset();
                    for (row, found) in write.drain(..) {
                        let known = newest.entry(row).or_insert(found);
                        if found.0 >= known.0 {
                            *known = found;
                        }
                    }
                }
            }
            Ok(None) if walk.offset() == whole => return Ok(()),
            Ok(None) if is_last => break,
            Ok(None) => {
                report.add(name, whole, "a write without its last record".to_owned());
                return Ok(());
            }
            Err(Stop::Damaged { offset, flaw }) => {
                if is_last && !walk.was_synced(offset).map_err(cannot)? {
                    break;
                }
                report.add(name, offset, flaw.0);
                return Ok(());
            }
            Err(Stop::Io(error)) => return Err(cannot(error)),
        }
    }
    report.torn_bytes = if walk.is_ready(whole).map_err(cannot)? { 0 } else { len - whole };
    Ok(())
}

/// What a checkpoint covers must be in the index as the log has it, and nothing else.
fn check_index(disk: &dyn Disk, report: &mut Report, newest: &Newest) -> Result<()> {
    let opened = Index::open(disk, INDEX_CACHE_BYTES, true)
        .and_then(|index| Ok((index.checkpoint()?, index)));
    let (checkpoint, index) = match opened {
        Ok((Some(checkpoint), index)) => (checkpoint, index),
        Ok((None, _)) => return Ok(()),
        Err(error) => {
            report.add(INDEX.to_owned(), 0, error.to_string());
            return Ok(());
        }
    };
    let mut from = Row::from_bytes(&[]);
    let end = Row::from_bytes(&[u8::MAX]);
    let mut covered = 0u64;
    loop {
        let rows = index.range(&from, &end, ROWS_AT_ONCE)?;
        let Some((last, _)) = rows.last() else { break };
        from = Row::from_bytes(&[last.as_bytes(), &[0]].concat());
        for (row, entry) in &rows {
            report.rows += 1;
            covered += 1;
            check_row(row, entry, newest, checkpoint.applied, report);
        }
    }
    let wanted = newest.values().filter(|(_, place, _)| *place < checkpoint.applied).count() as u64;
    if covered < wanted {
        let what = format!("{covered} rows, and the segments have {wanted}");
        report.add(INDEX.to_owned(), 0, what);
    }
    Ok(())
}

fn check_row(row: &Row, entry: &Entry, newest: &Newest, applied: Place, report: &mut Report) {
    let what = match newest.get(row) {
        None => format!("a row of version {} that no segment has", entry.version),
        // It changed after the checkpoint.
        Some((_, place, _)) if *place >= applied => return,
        Some((version, place, _)) if *version == entry.version && *place == entry.place => return,
        Some((version, place, _)) => format!(
            "a row has version {} at {:?}, the segments have {version} at {place:?}",
            entry.version, entry.place
        ),
    };
    report.add(INDEX.to_owned(), 0, what);
}
