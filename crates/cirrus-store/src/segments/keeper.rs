//! Checkpoints and compaction: what keeps restarts short and the disk small.
//!
//! Owns the rule of which segment is rewritten. Writes nothing itself but the index: what
//! compaction moves goes through the writer. Invariant: a segment's file is removed only after a
//! durable checkpoint that does without it, and a segment counts as gone only after its removal
//! was synced.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::key::Key;
use crate::segments::disk::ReadAt;
use crate::segments::entry::{Entry, Place, Row};
use crate::segments::inbox::{Queued, Record};
use crate::segments::log::segment_name;
use crate::segments::options::Bug;
use crate::segments::record::RECORDS_AT;
use crate::segments::state::State;
use crate::segments::stub::stub_name;
use crate::segments::walk::{Step, Stop, Walk};
use crate::segments::{Shared, damaged};

/// What compaction moves in one write.
const MOVE_BYTES: u64 = 1 << 20;
const MOVE_RECORDS: usize = 1024;
/// Where there is no room, a segment is rewritten from this part of it on that is dead.
const TIGHT_DEAD_PART: u64 = 16;
/// The same where others can be moved to a bucket instead.
const MOVABLE_DEAD_PART: u64 = 4;

/// What the keeper is asked.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    called: bool,
    pub(super) checkpoint: bool,
    /// Room, for the group with this number.
    pub(super) room: Option<u64>,
}

pub(super) fn run(shared: &Shared) {
    loop {
        let wanted = {
            let mut wanted = shared.keeper.lock();
            while !wanted.called && !shared.is_closing() {
                shared.keeper_called.wait(&mut wanted);
            }
            std::mem::take(&mut *wanted)
        };
        if shared.is_closing() {
            return;
        }
        if let Err(error) = shared.keep(&wanted)
            && !shared.is_closing()
        {
            shared.fail(error.to_string());
        }
        shared.changed.notify_all();
    }
}

impl Shared {
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn call_keeper(&self, ask: impl FnOnce(&mut Wanted)) {
        let mut wanted = self.keeper.lock();
        ask(&mut wanted);
        wanted.called = true;
        self.keeper_called.notify_all();
    }

    fn keep(&self, wanted: &Wanted) -> Result<()> {
        if self.inbox.lock().failure.is_some() {
            return Ok(());
        }
        let is_tight = wanted.room.is_some();
        let can_move = self.can_move();
        let dead_part = match (is_tight, can_move) {
            (false, _) => 2,
            (true, true) => MOVABLE_DEAD_PART,
            (true, false) => TIGHT_DEAD_PART,
        };
        let mut has_helped = wanted.checkpoint || is_tight && self.is_checkpoint_due();
        if has_helped {
            self.checkpoint()?;
            self.changed.notify_all();
        }
        while let Some(victim) = self.victim(dead_part) {
            has_helped |= self.compact(victim, is_tight)?;
            self.changed.notify_all();
            if self.is_closing() || is_tight {
                break;
            }
            if self.is_checkpoint_due() {
                self.checkpoint()?;
            }
        }
        if let Some(cold) = &self.cold {
            cold.call(wanted.room.filter(|_| !has_helped));
        }
        if !has_helped && !can_move {
            self.inbox.lock().stuck_at = wanted.room;
        }
        Ok(())
    }

    fn is_checkpoint_due(&self) -> bool {
        self.state.lock().active.len() >= self.options.checkpoint_rows
    }

    fn victim(&self, dead_part: u64) -> Option<u32> {
        choose(&self.state.lock(), dead_part)
    }

    /// Writes everything that changed into the index, in one durable transaction.
    pub(super) fn checkpoint(&self) -> Result<()> {
        let _one = self.checkpointing.lock();
        let (changes, checkpoint) = {
            let mut state = self.state.lock();
            let changes = Arc::new(std::mem::take(&mut state.active));
            state.frozen = Some(Arc::clone(&changes));
            state.bytes_since_checkpoint = 0;
            (changes, state.checkpoint())
        };
        let saved = self.index.save(&changes, &checkpoint);
        let mut state = self.state.lock();
        state.frozen = None;
        if let Err(error) = saved {
            for (row, entry) in changes.iter() {
                state.active.entry(row.clone()).or_insert(*entry);
            }
            drop(state);
            self.fail(error.to_string());
            return Err(error);
        }
        state.generation += 1;
        state.covered = checkpoint.applied;
        drop(state);
        self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.counters.index_bytes.store(self.index.bytes()?, Ordering::Relaxed);
        Ok(())
    }

    /// Rewrites segments until none is more than half dead.
    pub(super) fn compact_all(&self) -> Result<u64> {
        let mut count = 0;
        while let Some(victim) = self.victim(2) {
            if !self.compact(victim, true)? {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    /// Moves what is needed out of a segment and removes it. Whether it came to that.
    fn compact(&self, id: u32, is_tight: bool) -> Result<bool> {
        let _one = self.compacting.lock();
        let found = {
            let state = self.state.lock();
            let found = state.segments.get(&id).filter(|segment| !segment.is_cold);
            found.map(|segment| (Arc::clone(&segment.file), segment.usage.bytes))
        };
        let Some((file, bytes)) = found else { return Ok(false) };
        let Some(drops) = self.move_records(id, &*file, bytes, is_tight)? else { return Ok(false) };
        self.forget_segment(id, drops)?;
        Ok(true)
    }

    /// Has everything that is needed of a segment written again. The deletes in it that nothing
    /// needs; `None` when the engine closes.
    pub(super) fn move_records(
        &self,
        id: u32,
        file: &dyn ReadAt,
        bytes: u64,
        is_tight: bool,
    ) -> Result<Option<Vec<(Row, Entry)>>> {
        let began = Instant::now();
        let mut moved = 0;
        let mut batch = Batch::default();
        let mut drops: Vec<(Row, Entry)> = Vec::new();
        let mut walk = Walk::new(file, id, RECORDS_AT, bytes);
        loop {
            let step = walk.next().map_err(|stop| stop_error(id, stop))?;
            if let Some(step) = &step {
                self.sort(id, step, &mut batch, &mut drops)?;
            }
            if batch.bytes >= MOVE_BYTES || batch.records.len() >= MOVE_RECORDS || step.is_none() {
                moved += batch.bytes;
                if !self.move_all(std::mem::take(&mut batch))? {
                    return Ok(None);
                }
                if !is_tight {
                    self.pace(began, moved);
                }
            }
            if step.is_none() {
                break;
            }
        }
        self.counters.moved_bytes.fetch_add(moved, Ordering::Relaxed);
        Ok(Some(drops))
    }

    /// Does without a segment from which everything was moved, and without `drops`. The caller
    /// holds `compacting`.
    pub(super) fn forget_segment(&self, id: u32, drops: Vec<(Row, Entry)>) -> Result<()> {
        let removed = {
            let mut state = self.state.lock();
            // What replaced a delete meanwhile lies elsewhere, and stays.
            for (row, entry) in drops {
                if self.newest(&mut state, &row)? == Some(entry) {
                    state.forget(row, &entry);
                }
            }
            let usage = &state.segments[&id].usage;
            if usage.live != 0 || !usage.graves.is_empty() {
                let text = format!("{} still has {usage:?} after compaction", segment_name(id));
                return Err(Error::new(Kind::Corrupt, text));
            }
            state.remove_segment(id)
        };
        self.checkpoint()?;
        let is_cold = removed.is_some_and(|segment| segment.is_cold);
        self.remove_file(&if is_cold { stub_name(id) } else { segment_name(id) })?;
        self.counters.compactions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Removes a segment's file or stub, for good.
    pub(super) fn remove_file(&self, name: &str) -> Result<()> {
        let removed = self.disk.remove(name).and_then(|()| self.disk.sync_dir());
        removed.map_err(|error| {
            // Deletes of what it holds may be dropped once it is thought to be gone.
            self.fail(format!("removing {name}: {error}"));
            Error::io(format!("cannot remove {name}"), error)
        })
    }

    /// The row's entry, under the lock: the rows asked for are few.
    fn newest(&self, state: &mut State, row: &Row) -> Result<Option<Entry>> {
        match state.changed(row) {
            Some(entry) => Ok(entry),
            None => self.index.get(row),
        }
    }

    /// Where a record goes: on, away, or nowhere because it is dead.
    fn sort(
        &self,
        id: u32,
        step: &Step,
        batch: &mut Batch,
        drops: &mut Vec<(Row, Entry)>,
    ) -> Result<()> {
        if step.head.kind.is_own() {
            return Ok(());
        }
        let place = Place { segment: id, offset: step.offset };
        let row = Row::of(self.store, step.head.kind, &step.key, step.head.item);
        let Some(entry) = self.entry(&row)?.filter(|entry| entry.place == place) else {
            return Ok(());
        };
        let may_drop = entry.kind.is_delete()
            && (self.state.lock().is_last(&entry, id) || self.options.has(Bug::DropDeletes));
        if may_drop {
            drops.push((row, entry));
            return Ok(());
        }
        batch.bytes += entry.record_bytes();
        batch.from.push(place);
        batch.records.push(Record {
            kind: step.head.kind,
            key: Key::new(step.key.clone())?,
            item: step.head.item,
            version: step.head.version,
            expires_at: step.head.expires_at,
            modified_at: step.head.modified_at,
            value: step.value.clone(),
            sums: step.sums.clone(),
        });
        Ok(())
    }

    /// Has the writer write them again. `false` when the engine closes.
    fn move_all(&self, batch: Batch) -> Result<bool> {
        if batch.records.is_empty() {
            return Ok(!self.is_closing());
        }
        let mut queued = Queued::new(self.store, batch.records, Some(batch.from))?;
        let durable = queued.durable();
        {
            let mut inbox = self.inbox.lock();
            if inbox.closing {
                return Ok(false);
            }
            inbox.check_open()?;
            inbox.moves.push_back(queued);
            self.changed.notify_all();
        }
        durable.wait()?;
        Ok(true)
    }

    /// Waits until so many bytes may have been moved, or there is something else to do.
    fn pace(&self, began: Instant, moved: u64) {
        let rate = self.options.compaction_bytes_per_second.max(1);
        let micros = moved.saturating_mul(1_000_000) / rate;
        let until = began + Duration::from_micros(micros);
        let mut wanted = self.keeper.lock();
        while wanted.room.is_none() && !self.is_closing() {
            if self.keeper_called.wait_until(&mut wanted, until).timed_out() {
                return;
            }
        }
    }
}

/// What compaction moves next.
#[derive(Debug, Default)]
struct Batch {
    records: Vec<Record>,
    from: Vec<Place>,
    bytes: u64,
}

/// The segment on the disk with the largest dead part, if that is more than one of `dead_part` parts
/// of it. Never the one that is written.
fn choose(state: &State, dead_part: u64) -> Option<u32> {
    let last = *state.segments.last_key_value()?.0;
    let sealed = state.segments.range(..last).filter(|(_, segment)| !segment.is_cold);
    let parts = sealed.filter_map(|(id, segment)| {
        let all = segment.usage.records();
        let dead = state.dead(*id);
        // A segment without records is all dead.
        (dead * dead_part > all || all == 0)
            .then(|| (*id, dead.saturating_mul(1 << 20) / all.max(1)))
    });
    parts.max_by_key(|(_, part)| *part).map(|(id, _)| id)
}

pub(super) fn stop_error(segment: u32, stop: Stop) -> Error {
    match stop {
        Stop::Io(error) => Error::io(format!("cannot read {}", segment_name(segment)), error),
        Stop::Damaged { offset, flaw } => damaged(Place { segment, offset }, &flaw.0),
    }
}
