//! The thread between disk and bucket: moves segments out, and clears up behind them.
//!
//! Owns the rule of which segment leaves the disk. It alone changes the bucket. Invariant: a
//! segment's file is removed only when the bucket has the whole of it, read back and compared, and
//! its stub is durable; a segment leaves the bucket only after its stub has gone for good. So a
//! crash at any point leaves it whole on the disk or in the bucket.
//!
//! A thread of its own, because a bucket may take its time: checkpoints and compaction of what is
//! on the disk never wait for it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::segments::Shared;
use crate::segments::cold::{Asked, Cold};
use crate::segments::disk::ReadAt;
use crate::segments::log::segment_name;
use crate::segments::options::Bug;
use crate::segments::record::SegmentHeader;
use crate::segments::state::State;
use crate::segments::stub::{Stub, stub_name};

/// What is compared at once with what the bucket has.
const COMPARED_BYTES: usize = 1 << 20;

/// A cold segment is fetched and rewritten from this part of it on that is live: fetching costs
/// more than keeping.
const REWRITTEN_LIVE_PART: u64 = 4;

/// The part, in quarters, of what may be live on the disk from which on segments leave it. Below,
/// it is garbage that takes the room.
const LIVE_QUARTERS_MAX: u64 = 3;

pub(super) fn run(shared: &Shared, cold: &Arc<Cold>) {
    while let Some(asked) = cold.next_call(|| shared.is_closing()) {
        let Asked { room, is_retry, .. } = asked;
        if shared.check_works().is_err() {
            // Reads go on, and nothing else: what is left over in the bucket may not be.
            if is_retry && let Err(error) = cold.look() {
                tracing::debug!(%error, "the bucket is still away");
            }
            continue;
        }
        let tiered = shared.tier(cold, room.is_some(), is_retry);
        {
            // Locked in any case, so that a writer who is about to wait hears of it.
            let mut inbox = shared.inbox.lock();
            if matches!(tiered, Ok(0)) && room.is_some() {
                // Nothing that is on the disk can leave it.
                inbox.stuck_at = room;
            }
            shared.changed.notify_all();
        }
        match tiered {
            Ok(_) => {}
            Err(error) if shared.is_closing() => tracing::debug!(%error, "closing"),
            Err(error) => tracing::warn!(
                %error,
                "no segment is moved to the bucket for now; puts go on until the disk is full"
            ),
        }
    }
}

impl Shared {
    /// Whether what is on the disk can be moved off it, as far as is known.
    pub(super) fn can_move(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.is_well())
    }

    /// Drops what is dead in the bucket, and moves segments there until the disk has room. How many
    /// it moved; at least one, if that is what `wants_room` and there is any.
    pub(super) fn tier(&self, cold: &Arc<Cold>, wants_room: bool, is_retry: bool) -> Result<u64> {
        let _one = self.tiering.lock();
        let tiered = self.tier_all(cold, wants_room, is_retry);
        tiered.inspect_err(|error| cold.has_failed(&error.to_string()))
    }

    fn tier_all(&self, cold: &Arc<Cold>, wants_room: bool, is_retry: bool) -> Result<u64> {
        self.check_works()?;
        if is_retry {
            cold.tidy(&self.cold_segments())?;
        }
        while let Some(dead) = self.chosen(dead_in_bucket) {
            self.drop_cold(cold, dead)?;
        }
        while let Some(victim) = self.chosen(|state| self.garbage_in_bucket(state)) {
            if !self.rewrite_cold(cold, victim)? {
                break;
            }
        }
        let mut moved = 0;
        while !self.is_closing() && (self.is_over() || wants_room && moved == 0) {
            let Some(id) = self.chosen(coldest) else { break };
            moved += u64::from(self.move_out(cold, id)?);
            self.changed.notify_all();
        }
        Ok(moved)
    }

    fn chosen(&self, choose: impl Fn(&State) -> Option<u32>) -> Option<u32> {
        choose(&self.state.lock())
    }

    fn cold_segments(&self) -> BTreeMap<u32, u64> {
        let state = self.state.lock();
        let cold = state.segments.iter().filter(|(_, segment)| segment.is_cold);
        cold.map(|(id, segment)| (*id, segment.usage.bytes)).collect()
    }

    /// Whether so much of the disk is live that segments should leave it.
    fn is_over(&self) -> bool {
        self.state.lock().local.live > self.live_bytes_max(false) / 4 * LIVE_QUARTERS_MAX
    }

    /// A segment of the bucket that is hardly live, if there is room for what is.
    fn garbage_in_bucket(&self, state: &State) -> Option<u32> {
        let room = self.live_bytes_max(false).saturating_sub(state.local.bytes);
        let mut cold = state.segments.iter().filter(|(_, segment)| segment.is_cold);
        let found = cold.find(|(id, segment)| {
            let all = segment.usage.records();
            let kept = all.saturating_sub(state.dead(**id));
            kept * REWRITTEN_LIVE_PART < all && segment.usage.kept() < room
        });
        found.map(|(id, _)| *id)
    }

    /// Copies a segment into the bucket and removes it from the disk. `false` when compaction was
    /// faster.
    fn move_out(&self, cold: &Arc<Cold>, id: u32) -> Result<bool> {
        if self.state.lock().covered.segment <= id {
            // A replay of the log reads no bucket.
            self.checkpoint()?;
        }
        let found = {
            let state = self.state.lock();
            state.segments.get(&id).map(|s| (Arc::clone(&s.file), s.usage.bytes))
        };
        let Some((file, bytes)) = found else { return Ok(false) };
        if self.options.has(Bug::RemoveBeforeUpload) {
            self.make_cold(cold, id, bytes)?;
        }
        let source = Source { shared: self, file: &*file };
        let object = cold.object(id);
        let stored = cold.bucket.put(&object, &source, bytes);
        let stored = stored.and_then(|()| self.compare(cold, &object, &source, bytes));
        stored.map_err(|error| cold.fault(&format!("move {} to", segment_name(id)), error))?;
        cold.has_worked();
        if self.options.has(Bug::RemoveBeforeUpload) || self.make_cold(cold, id, bytes)? {
            return Ok(true);
        }
        cold.remove(id)?;
        Ok(false)
    }

    /// Reads back what the bucket has.
    fn compare(
        &self,
        cold: &Arc<Cold>,
        object: &str,
        source: &dyn ReadAt,
        bytes: u64,
    ) -> io::Result<()> {
        if self.options.has(Bug::BelieveBucket) {
            return Ok(());
        }
        let (mut here, mut there) = (vec![0; COMPARED_BYTES], vec![0; COMPARED_BYTES]);
        let mut at = 0;
        while at < bytes {
            let len = usize::try_from(bytes - at).unwrap_or(COMPARED_BYTES).min(COMPARED_BYTES);
            source.read_exact_at(&mut here[..len], at)?;
            cold.bucket.read(object, at, &mut there[..len])?;
            if here[..len] != there[..len] {
                let text = format!("it does not give back what it was given, near byte {at}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            at += len as u64;
        }
        Ok(())
    }

    /// The bucket has it: has the disk do without. `false` when it is not there any more.
    fn make_cold(&self, cold: &Arc<Cold>, id: u32, bytes: u64) -> Result<bool> {
        let _one = self.compacting.lock();
        self.check_works()?;
        let is_there = |state: &State| state.segments.get(&id).is_some_and(|s| !s.is_cold);
        if !is_there(&self.state.lock()) {
            return Ok(false);
        }
        let header = SegmentHeader { id, store: self.store };
        let stub = Stub { header, bytes, bucket: cold.name().to_owned() };
        stub.write(&*self.disk).map_err(|(is_doubtful, error)| {
            if is_doubtful {
                self.fail(format!("making {}: {error}", stub_name(id)));
            }
            Error::io(format!("cannot make {}", stub_name(id)), error)
        })?;
        self.remove_file(&segment_name(id))?;
        self.state.lock().cool_segment(id, cold.file(id, bytes));
        Ok(true)
    }

    /// Forgets a segment of the bucket in which nothing is needed any more.
    fn drop_cold(&self, cold: &Arc<Cold>, id: u32) -> Result<()> {
        if self.options.has(Bug::DropFromBucketFirst) {
            cold.remove(id)?;
        }
        {
            let _one = self.compacting.lock();
            self.check_works()?;
            self.forget_segment(id, Vec::new())?;
        }
        cold.remove(id)
    }

    /// Fetches a segment of the bucket, and writes what is needed of it again. `false` when the
    /// engine closes.
    fn rewrite_cold(&self, cold: &Arc<Cold>, id: u32) -> Result<bool> {
        let found = {
            let state = self.state.lock();
            state.segments.get(&id).map(|s| (Arc::clone(&s.file), s.usage.bytes))
        };
        let Some((file, bytes)) = found else { return Ok(true) };
        let Some(drops) = self.move_records(id, &*file, bytes, true)? else { return Ok(false) };
        {
            let _one = self.compacting.lock();
            self.check_works()?;
            self.forget_segment(id, drops)?;
        }
        cold.remove(id)?;
        Ok(true)
    }

    /// Where a change of the disk failed, nobody knows what it is like.
    fn check_works(&self) -> Result<()> {
        match &self.inbox.lock().failure {
            Some(failure) => Err(failure.error()),
            None => Ok(()),
        }
    }
}

/// The segment that was read longest ago, of those on the disk that compaction leaves alone. Never
/// the one that is written.
fn coldest(state: &State) -> Option<u32> {
    let sealed = state.segments.range(..state.applied.segment).filter(|(id, segment)| {
        let all = segment.usage.records();
        !segment.is_cold && all > 0 && state.dead(**id) * 2 <= all
    });
    sealed.min_by_key(|(id, segment)| (segment.used, **id)).map(|(id, _)| *id)
}

/// A segment of the bucket of which nothing is needed, not even to find deletes in it.
fn dead_in_bucket(state: &State) -> Option<u32> {
    let mut cold = state.segments.iter().filter(|(_, segment)| segment.is_cold);
    cold.find(|(_, segment)| segment.usage.kept() == 0).map(|(id, _)| *id)
}

/// A file that cannot be read any more once the engine closes, so that who copies it ends soon.
#[derive(Debug)]
struct Source<'a> {
    shared: &'a Shared,
    file: &'a dyn ReadAt,
}

impl ReadAt for Source<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self.shared.is_closing() {
            true => Err(io::Error::new(io::ErrorKind::Interrupted, "the engine closes")),
            false => self.file.read_exact_at(buffer, offset),
        }
    }
}
