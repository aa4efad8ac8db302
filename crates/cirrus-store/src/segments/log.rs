//! The end of the log: the segment that groups are appended to.
//!
//! Owns the last segment's file and length, and how segments are made. Knows nothing of rows.
//! Invariant: a segment has its name on disk, durably, before anything is appended to it, and there
//! is never a later one while it is appended to.
//!
//! A group costs one vectored write and one `fdatasync`. Values up to [`COPIED_BYTES_MAX`] are
//! copied beside their headers, larger ones go from where they are.
//!
//! Small groups find zeros where they go, which an earlier group has written and synced: a sync that
//! changes neither the file's length nor where its blocks lie writes the bytes alone. Without them
//! it writes the file's inode as well, or a journal, and takes half as long again.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::checksum::Sums;
use crate::segments::disk::{Disk, DiskFile};
use crate::segments::entry::Place;
use crate::segments::inbox::Record;
use crate::segments::options::{Bug, Options};
use crate::segments::record::{ALIGN, Head, RECORDS_AT, RecordKind, SegmentHeader, encode_slots};

/// Values up to this length are copied into the group's buffer.
const COPIED_BYTES_MAX: usize = 8 << 10;
/// Zeros that are written behind a small group where there are none; at most a quarter of a segment.
const AHEAD_BYTES_MAX: u64 = 256 << 10;
/// A group is small up to this part of that: beyond, zeros cost the disk more than they save.
const SMALL_PART: u64 = 4;
pub(super) const UNFINISHED: &str = ".new";

/// The name of a segment's file.
pub(super) fn segment_name(id: u32) -> String {
    format!("segment-{id:010}")
}

/// The segment whose file has this name.
pub(super) fn segment_id(name: &str) -> Option<u32> {
    let id = name.strip_prefix("segment-")?.parse().ok()?;
    (segment_name(id) == name).then_some(id)
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) id: u32,
    pub(super) file: Arc<dyn DiskFile>,
    /// Everything before is synced.
    pub(super) len: u64,
    /// The file ends here, or before it where the disk was full; from `len` on it is zeros.
    pub(super) end: u64,
    /// Whether a group was appended.
    pub(super) is_used: bool,
    /// How many zeros are written at once.
    pub(super) ahead_bytes: u64,
    durable: bool,
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
const AHEAD_PARTS_MAX: usize = 4;

/// A group as it is written.
#[derive(Debug, Default)]
pub(super) struct Group {
    copied: BytesMut,
    /// What of `copied` comes before which value.
    large: Vec<(usize, Bytes)>,
    pub(super) places: Vec<(Place, Head)>,
    pub(super) end: u64,
}

impl Log {
    /// The end of a segment that is there, has this length and is not used for the first time.
    pub(super) fn of(id: u32, file: Arc<dyn DiskFile>, len: u64, options: &Options) -> Self {
        let ahead_bytes = AHEAD_BYTES_MAX.min(options.segment_bytes / 4);
        let ahead_bytes = if options.durable { ahead_bytes } else { 0 };
        Self { id, file, len, end: len, is_used: true, durable: options.durable, ahead_bytes }
    }

    /// Makes the segment `id`. `versions` are those of the slots as of now.
    pub(super) fn create(
        disk: &dyn Disk,
        store: u128,
        id: u32,
        versions: &[u64],
        options: &Options,
    ) -> io::Result<Self> {
        let name = segment_name(id);
        let unfinished = format!("{name}{UNFINISHED}");
        let file = disk.create(&unfinished)?;
        let header = SegmentHeader { id, store }.encode();
        let mut log = Self { is_used: false, ..Self::of(id, file, RECORDS_AT, options) };
        let table = encode_slots(versions);
        let mut group = Group { end: log.len, ..Group::default() };
        let head = own(RecordKind::Slots, u32::try_from(table.len()).unwrap_or(u32::MAX));
        group.push(id, head, &[], &Sums::of(0, &table), &table);
        log.file.write_all_at(&mut [IoSlice::new(&header)], 0)?;
        log.write(&group, 0)?;
        (log.len, log.end) = (group.end, group.end);
        log.sync()?;
        disk.rename(&unfinished, &name)?;
        if options.durable && !options.has(Bug::ForgetDirectorySync) {
            disk.sync_dir()?;
        }
        Ok(log)
    }

    /// Lays records out behind what is there. A write's records follow each other.
    pub(super) fn lay_out<'a>(&self, writes: impl Iterator<Item = &'a [Record]>) -> Group {
        let mut group = Group { end: self.len, ..Group::default() };
        for records in writes {
            for (number, record) in records.iter().enumerate() {
                let head = Head {
                    kind: record.kind,
                    more: number + 1 < records.len(),
                    key_len: record.key_len(),
                    value_len: record.value_len(),
                    modified_at: record.modified_at,
                    version: record.version,
                    expires_at: record.expires_at,
                    item: record.item,
                    synced: if self.durable { self.len } else { 0 },
                };
                group.push(self.id, head, record.key.as_bytes(), &record.sums, &record.value);
            }
        }
        group
    }

    /// Ends the log with the record that says that everything before it was synced.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let mut group = Group { end: self.len, ..Group::default() };
        let head = Head { synced: self.len, ..own(RecordKind::Closed, 0) };
        group.push(self.id, head, &[], &Sums::default(), &Bytes::new());
        self.write(&group, 0)?;
        self.len = group.end;
        self.cut()?;
        self.sync()
    }

    /// Writes a group behind what is there, and zeros behind it where it is small and found none.
    pub(super) fn append(&mut self, group: &Group) -> io::Result<()> {
        let is_small = (group.end - self.len) * SMALL_PART <= self.ahead_bytes;
        if is_small && group.end > self.end {
            self.end = group.end + self.ahead_bytes;
            match self.write(group, self.ahead_bytes) {
                // There may be room for the group alone.
                Err(error) if is_full(&error) => {}
                result => return result,
            }
        }
        self.append_alone(group)
    }

    /// The same where there is no room for zeros.
    pub(super) fn append_alone(&mut self, group: &Group) -> io::Result<()> {
        self.end = self.end.max(group.end);
        self.write(group, 0)
    }

    fn write(&self, group: &Group, zeros: u64) -> io::Result<()> {
        let mut parts = Vec::with_capacity(2 * group.large.len() + 1 + AHEAD_PARTS_MAX);
        let mut from = 0;
        for (to, value) in &group.large {
            parts.push(IoSlice::new(&group.copied[from..*to]));
            parts.push(IoSlice::new(value));
            from = *to;
        }
        parts.push(IoSlice::new(&group.copied[from..]));
        let mut left = usize::try_from(zeros).unwrap_or(0);
        while left > 0 {
            let some = left.min(ZEROS.len());
            parts.push(IoSlice::new(&ZEROS[..some]));
            left -= some;
        }
        self.file.write_all_at(&mut parts, self.len)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        if self.durable { self.file.sync_data() } else { Ok(()) }
    }

    /// Takes away what lies behind the end: zeros, or a group whose write failed. It is gone for good
    /// with the next sync.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        self.end = self.len;
        Ok(())
    }
}

/// Whether a write failed because the disk is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn own(kind: RecordKind, value_len: u32) -> Head {
    Head {
        kind,
        more: false,
        key_len: 0,
        value_len,
        modified_at: 0,
        version: 0,
        expires_at: 0,
        item: 0,
        synced: 0,
    }
}

impl Group {
    fn push(&mut self, segment: u32, head: Head, key: &[u8], sums: &Sums, value: &Bytes) {
        let place = Place { segment, offset: self.end };
        head.encode_front((segment, self.end), key, sums, &mut self.copied);
        if value.len() <= COPIED_BYTES_MAX {
            self.copied.put_slice(value);
        } else {
            self.large.push((self.copied.len(), value.clone()));
        }
        let bytes = head.front_bytes() as u64 + u64::from(head.value_len);
        let padding = usize::try_from(bytes.next_multiple_of(ALIGN) - bytes).unwrap_or(0);
        self.copied.put_bytes(0, padding);
        self.end += bytes.next_multiple_of(ALIGN);
        self.places.push((place, head));
    }
}
