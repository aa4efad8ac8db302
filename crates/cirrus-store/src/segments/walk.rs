//! Reading the records of one segment from front to back.
//!
//! Owns the window of bytes that was read ahead. Knows neither index nor engine. Invariant: a step
//! is a whole record whose every byte was checked, or a flaw at its place.

use std::io;

use bytes::{Bytes, BytesMut};

use crate::checksum::Sums;
use crate::segments::disk::ReadAt;
use crate::segments::record::{ALIGN, Flaw, HEADER_BYTES, Head, check_front, split};

const WINDOW_BYTES: u64 = 1 << 20;

/// A record as it lies in a segment.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) offset: u64,
    pub(super) head: Head,
    pub(super) key: Bytes,
    pub(super) sums: Sums,
    pub(super) value: Bytes,
}

/// Why there is no next record.
#[derive(Debug)]
pub(super) enum Stop {
    Io(io::Error),
    Damaged { offset: u64, flaw: Flaw },
}

#[derive(Debug)]
pub(super) struct Walk<'a> {
    file: &'a dyn ReadAt,
    segment: u32,
    at: u64,
    end: u64,
    window: Bytes,
    window_at: u64,
    believes: bool,
}

impl<'a> Walk<'a> {
    /// From offset `from` to offset `end`, where the segment ends.
    pub(super) fn new(file: &'a dyn ReadAt, segment: u32, from: u64, end: u64) -> Self {
        Self {
            file,
            segment,
            at: from,
            end,
            window: Bytes::new(),
            window_at: from,
            believes: false,
        }
    }

    /// Takes records without looking at their checksums: a mistake that tests plant.
    pub(super) fn believe(&mut self, believes: bool) {
        self.believes = believes;
    }

    /// Where the next record begins.
    pub(super) fn offset(&self) -> u64 {
        self.at
    }

    /// The next record; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Step>, Stop> {
        if self.at >= self.end {
            return Ok(None);
        }
        let offset = self.at;
        let damaged = |flaw| Stop::Damaged { offset, flaw };
        let left = self.end - offset;
        if left < HEADER_BYTES as u64 {
            return Err(damaged(Flaw(format!("{left} bytes where a header has {HEADER_BYTES}"))));
        }
        let head = Head::decode(&self.bytes(offset, HEADER_BYTES)?).map_err(damaged)?;
        let bytes = head.record_bytes();
        if bytes > left {
            return Err(damaged(Flaw(format!("a record of {bytes} bytes, {left} are left"))));
        }
        // The header is believed before its value is read: a wrong length would read much.
        let front = self.bytes(offset, head.front_bytes())?;
        if self.believes {
            return self.believed(offset, head).map(Some);
        }
        check_front((self.segment, offset), &front).map_err(damaged)?;
        let whole = self.bytes(offset, head.front_bytes() + head.value_len as usize)?;
        let (key, sums, value) = split((self.segment, offset), &head, &whole).map_err(damaged)?;
        self.at = offset + bytes;
        Ok(Some(Step { offset, head, key, sums, value }))
    }

    /// Whether a record that is whole up to its table, and says that this segment was synced beyond
    /// `flawed`, lies behind `flawed`: then what is flawed was acknowledged.
    pub(super) fn was_synced(&mut self, flawed: u64) -> Result<bool, io::Error> {
        let mut at = flawed.next_multiple_of(ALIGN);
        while at + HEADER_BYTES as u64 <= self.end {
            if let Ok(head) = Head::decode(&self.read(at, HEADER_BYTES)?)
                && head.synced > flawed
                && at + head.front_bytes() as u64 <= self.end
            {
                let front = self.read(at, head.front_bytes())?;
                if check_front((self.segment, at), &front).is_ok() {
                    return Ok(true);
                }
            }
            at += ALIGN;
        }
        Ok(false)
    }

    /// Whether there is nothing but zeros from `at` on: room that was made ready for records.
    pub(super) fn is_ready(&mut self, mut at: u64) -> Result<bool, io::Error> {
        while at < self.end {
            let some = (self.end - at).min(WINDOW_BYTES);
            let bytes = self.read(at, usize::try_from(some).map_err(io::Error::other)?)?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += some;
        }
        Ok(true)
    }

    fn believed(&mut self, offset: u64, head: Head) -> Result<Step, Stop> {
        let front = head.front_bytes();
        let whole = self.bytes(offset, front + head.value_len as usize)?;
        self.at = offset + head.record_bytes();
        let key = whole.slice(HEADER_BYTES..HEADER_BYTES + usize::from(head.key_len));
        let value = whole.slice(front..);
        let sums = Sums::of(0, &value);
        Ok(Step { offset, head, key, sums, value })
    }

    fn bytes(&mut self, offset: u64, len: usize) -> Result<Bytes, Stop> {
        self.read(offset, len).map_err(Stop::Io)
    }

    /// The caller has checked that the segment has these bytes.
    fn read(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        let inside = offset.checked_sub(self.window_at).and_then(|at| usize::try_from(at).ok());
        if let Some(at) = inside
            && at.saturating_add(len) <= self.window.len()
        {
            return Ok(self.window.slice(at..at + len));
        }
        let wanted = (len as u64).max(WINDOW_BYTES).min(self.end - offset);
        let mut buffer = BytesMut::zeroed(usize::try_from(wanted).map_err(io::Error::other)?);
        self.file.read_exact_at(&mut buffer, offset)?;
        self.window = buffer.freeze();
        self.window_at = offset;
        Ok(self.window.slice(..len))
    }
}
