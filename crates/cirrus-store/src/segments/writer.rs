//! The thread that writes groups.
//!
//! Owns the end of the log. Invariant: a group is acknowledged, and seen by readers, only after its
//! sync; what failed is taken back, and where that cannot be shown the engine only reads from then
//! on: a page that the kernel failed to write may be marked clean, so a second sync proves nothing.

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::segments::Shared;
use crate::segments::entry::{Entry, Place};
use crate::segments::inbox::{Inbox, Queued, again, closed};
use crate::segments::index::Usage;
use crate::segments::log::{Group, Log, is_full};
use crate::segments::options::Bug;

/// The most bytes and writes of a group, beyond its first.
const GROUP_BYTES_MAX: u64 = 16 << 20;
const GROUP_WRITES_MAX: usize = 4096;
/// Writes are gathered up to this part of the last group.
const GATHERED_PART: usize = 2;
/// Rows in memory, in checkpoints' worth, at which writers wait.
const ROWS_IN_MEMORY: usize = 4;

pub(super) fn run(shared: &Shared, mut log: Log) {
    // A segment that could not be made may be there, so nothing is appended to the one before it.
    let mut must_roll = false;
    let _answers = Answers(shared);
    while let Some(group) = shared.next_group() {
        let began = Instant::now();
        let mut group = shared.still_there(group);
        let len = group.len();
        let result = shared.commit(&mut log, &mut must_roll, &mut group);
        Shared::longest(&shared.counters.commit_us_max, began);
        shared.answer(group, result);
        // Whoever was answered may write again, and joins the next group: the fewer processors there
        // are, the more this is worth. But where half as many wait already, those two halves take
        // turns: one is on its way to the disk while the other is answered.
        if shared.inbox.lock().writes.len() < len.div_ceil(GATHERED_PART) {
            std::thread::yield_now();
        }
    }
    shared.finish(&mut log, must_roll);
}

/// Answers whoever waits, should this thread panic.
struct Answers<'a>(&'a Shared);

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("the writer panicked".to_owned());
            self.0.refuse_all(&mut self.0.inbox.lock(), &closed);
        }
    }
}

impl Shared {
    /// Waits for the next group; `None` when the engine closes and nothing is left.
    fn next_group(&self) -> Option<Vec<Queued>> {
        let mut inbox = self.inbox.lock();
        let mut paused: Option<Instant> = None;
        loop {
            if let Some(failure) = inbox.failure.clone() {
                self.refuse_all(&mut inbox, &|| failure.error());
            }
            // Moves need no order, but the same disk.
            if let Some(error) = &inbox.halted {
                let error = again(error);
                Self::refuse_moves(&mut inbox, &|| again(&error));
            }
            let moves = std::mem::take(&mut inbox.moves);
            let mut group: Vec<Queued> = moves.into();
            let has_room = self.take_writes(&mut inbox, &mut group);
            if !group.is_empty() {
                inbox.groups += 1;
                if let Some(began) = paused {
                    Self::longest(&self.counters.pause_us_max, began);
                }
                return Some(group);
            }
            if inbox.closing && inbox.writes.is_empty() {
                return None;
            }
            if !has_room {
                paused.get_or_insert_with(Instant::now);
            }
            self.changed.wait(&mut inbox);
        }
    }

    /// Takes what fits into one group and onto the disk. Whether the reason to stop was not the disk.
    fn take_writes(&self, inbox: &mut Inbox, group: &mut Vec<Queued>) -> bool {
        let max = GROUP_BYTES_MAX.min(self.options.segment_bytes / 2);
        let mut bytes: u64 = group.iter().map(|queued| queued.bytes).sum();
        while let Some(next) = inbox.writes.front() {
            let (is_first, wanted, position) = (bytes == 0, bytes + next.bytes, next.position);
            if !is_first && (wanted > max || group.len() >= GROUP_WRITES_MAX) {
                return true;
            }
            if !self.has_room(wanted) {
                if !group.is_empty() {
                    return true;
                }
                // What was said of an earlier group says nothing of this one.
                let asked = inbox.groups;
                let is_stuck = inbox.stuck_at == Some(asked) || !self.options.background;
                if !is_stuck {
                    self.call_keeper(|wanted| wanted.room = Some(asked));
                    return false;
                }
                let Some(first) = position else { return true };
                let text = format!("no room until compaction has made some{}", self.why_full());
                // The next try asks again.
                inbox.groups += 1;
                self.halt(inbox, first, Error::new(Kind::OutOfMemory, text));
                return true;
            }
            let Some(queued) = inbox.writes.pop_front() else { return true };
            bytes = wanted;
            group.push(queued);
        }
        true
    }

    /// Whether so many bytes more leave a segment's worth for compaction, and memory for the rows.
    fn has_room(&self, bytes: u64) -> bool {
        let index = self.counters.index_bytes.load(Ordering::Relaxed);
        let state = self.state.lock();
        let rows = ROWS_IN_MEMORY * self.options.checkpoint_rows;
        if self.options.background && state.active.len() >= rows {
            return false;
        }
        let taken = state.local.bytes + index + self.options.segment_bytes + bytes;
        taken <= self.options.capacity
    }

    /// Leaves out what compaction would move and what was replaced since it looked. This thread
    /// alone changes entries, and moves come first in a group: no older record is ever written
    /// behind a newer one of its row.
    fn still_there(&self, mut group: Vec<Queued>) -> Vec<Queued> {
        for queued in &mut group {
            let Some(from) = queued.from.clone() else { continue };
            let is_there = |place: &Place, row| matches!(self.entry(row), Ok(Some(entry)) if entry.place == *place);
            let keep: Vec<bool> =
                from.iter().zip(&queued.rows).map(|(p, row)| is_there(p, row)).collect();
            let mut kept = keep.iter().copied();
            queued.records.retain(|_| kept.next().unwrap_or(false));
            let mut kept = keep.iter().copied();
            queued.rows.retain(|_| kept.next().unwrap_or(false));
        }
        group
    }

    fn commit(&self, log: &mut Log, must_roll: &mut bool, group: &mut [Queued]) -> Result<()> {
        let bytes: u64 = group.iter().map(|queued| queued.bytes).sum();
        let is_full = log.len + bytes > self.options.segment_bytes;
        if *must_roll || (is_full && log.is_used) {
            *must_roll = true;
            self.roll(log)?;
            *must_roll = false;
        }
        let laid = log.lay_out(group.iter().map(|queued| &queued.records[..]));
        let has_room = self.has_room(bytes + log.ahead_bytes);
        let appended = if has_room { log.append(&laid) } else { log.append_alone(&laid) };
        if let Err(error) = appended {
            return Err(self.take_back(log, error));
        }
        if !self.options.has(Bug::AckBeforeSync) {
            if let Err(error) = log.sync() {
                self.fail(format!("fdatasync: {error}"));
                let text = "a sync failed; the write may or may not be there after a restart";
                return Err(Error::new(Kind::Unknown, text).with_source(error));
            }
            self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        }
        self.counters.groups.fetch_add(1, Ordering::Relaxed);
        log.len = laid.end;
        log.is_used = true;
        self.show(log.id, group, &laid)
    }

    /// Begins a new segment.
    fn roll(&self, log: &mut Log) -> Result<()> {
        let began = Instant::now();
        let versions = self.state.lock().slots.clone();
        let id = log.id + 1;
        self.seal(log)?;
        let made = Log::create(&*self.disk, self.store, id, &versions, &self.options);
        let new = made.map_err(|error| self.refusal("make a segment", error))?;
        let usage = Usage { bytes: new.len, own: new.len, ..Usage::default() };
        self.state.lock().add_segment(id, new.file.clone(), usage);
        *log = new;
        self.call_keeper(|_| ());
        Self::longest(&self.counters.pause_us_max, began);
        Ok(())
    }

    /// Takes the zeros away, for good: only the last segment may have any.
    fn seal(&self, log: &mut Log) -> Result<()> {
        if log.end == log.len {
            return Ok(());
        }
        log.cut().map_err(|error| self.refusal("end a segment", error))?;
        if self.options.has(Bug::ForgetSeal) {
            return Ok(());
        }
        log.sync().map_err(|error| {
            self.fail(format!("fdatasync: {error}"));
            Error::io("cannot end a segment; nothing was changed", error)
        })
    }

    /// A failed write leaves a part of itself, which must not be there for a restart to find.
    fn take_back(&self, log: &mut Log, error: std::io::Error) -> Error {
        match log.cut().and_then(|()| log.sync()) {
            Ok(()) => self.refusal("write", error),
            Err(second) => {
                self.fail(format!("write: {error}; taking it back: {second}"));
                let text = "a write failed; it may or may not be there after a restart";
                Error::new(Kind::Unknown, text).with_source(error)
            }
        }
    }

    fn refusal(&self, action: &str, error: std::io::Error) -> Error {
        if !is_full(&error) {
            return Error::io(format!("cannot {action}; nothing was changed"), error);
        }
        // What the disk says then is the best that is known.
        let free = self.disk.free_bytes().unwrap_or(0);
        let text = format!("cannot {action}: the disk is full; nothing was changed");
        Error::new(Kind::OutOfMemory, text).with_detail(free).with_source(error)
    }

    /// Lets readers see a group that is durable.
    fn show(&self, segment: u32, group: &mut [Queued], laid: &Group) -> Result<()> {
        let mut places = laid.places.iter();
        for queued in group {
            let olds: Result<Vec<Option<Entry>>> =
                queued.rows.iter().map(|row| self.entry(row)).collect();
            let olds = olds.inspect_err(|error| {
                // It is durable and cannot be shown: only a restart can tell.
                self.fail(format!("looking into the index: {error}"));
            });
            let olds = olds.map_err(|error| {
                let text = "the index failed; the write is there after a restart";
                Error::new(Kind::Unknown, text).with_source(error)
            })?;
            let mut state = self.state.lock();
            let rows = std::mem::take(&mut queued.rows);
            let zipped = queued.records.iter().zip(rows).zip(olds);
            for (((record, row), old), (place, head)) in zipped.zip(places.by_ref()) {
                state.apply(row, record.key.as_bytes(), head, *place, old);
                let end = Place { segment, offset: place.offset + head.record_bytes() };
                state.advance(end);
            }
        }
        let state = self.state.lock();
        let is_due = state.active.len() >= self.options.checkpoint_rows
            || state.bytes_since_checkpoint >= self.options.checkpoint_bytes;
        drop(state);
        if is_due {
            self.call_keeper(|wanted| wanted.checkpoint = true);
        }
        Ok(())
    }

    fn answer(&self, group: Vec<Queued>, result: Result<()>) {
        let mut positions = group.iter().filter_map(|queued| queued.position);
        let (first, last) = (positions.next(), positions.next_back());
        {
            let mut inbox = self.inbox.lock();
            for queued in &group {
                inbox.settle(queued);
            }
            match (first, &result) {
                (Some(first), Ok(())) => self.progress.settle(last.unwrap_or(first)),
                (Some(first), Err(error)) => self.halt(&mut inbox, first, again(error)),
                (None, _) => {}
            }
        }
        for queued in group {
            if result.is_ok() && queued.position.is_some() {
                self.counters.writes.fetch_add(1, Ordering::Relaxed);
                let records = queued.records.len() as u64;
                self.counters.records.fetch_add(records, Ordering::Relaxed);
            }
            if let Some(done) = queued.done {
                // Nobody may wait for the answer.
                let _ = done.send(result.as_ref().map_err(again).copied());
            }
        }
    }

    fn refuse_all(&self, inbox: &mut Inbox, why: &dyn Fn() -> Error) {
        if let Some(first) = inbox.writes.front().and_then(|queued| queued.position) {
            self.halt(inbox, first, why());
        }
        Self::refuse_moves(inbox, why);
    }

    fn refuse_moves(inbox: &mut Inbox, why: &dyn Fn() -> Error) {
        for queued in std::mem::take(&mut inbox.moves) {
            if let Some(done) = queued.done {
                // Nobody may wait for the answer.
                let _ = done.send(Err(why()));
            }
        }
    }

    /// The last checkpoint and the mark that the engine was closed.
    fn finish(&self, log: &mut Log, must_roll: bool) {
        let failed = must_roll || self.inbox.lock().failure.is_some();
        if !failed && self.options.durable {
            match log.close() {
                Ok(()) => {
                    self.state.lock().advance(Place { segment: log.id, offset: log.len });
                    if let Err(error) = self.checkpoint() {
                        // Nothing is lost: the next start replays more.
                        tracing::warn!(%error, "no checkpoint at close");
                    }
                }
                Err(error) => self.fail(format!("marking the store as closed: {error}")),
            }
        }
        let mut inbox = self.inbox.lock();
        self.refuse_all(&mut inbox, &closed);
    }

    fn longest(counter: &std::sync::atomic::AtomicU64, began: Instant) {
        let us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        counter.fetch_max(us, Ordering::Relaxed);
    }
}
