//! Making room: records move together when slabs run sparse, and empty slabs go back.
//!
//! Owns when that happens and how much of it at once. Knows nothing of what is in a record.
//! Invariant: a shard is locked for one part of one round at a time, and its records are moved only
//! then, so nobody who holds its lock sees one move.
//!
//! A round: choose victims, visit the shards in turn, move those of their records that lie in
//! victims into holes elsewhere; a victim that runs empty is given back to the kernel. Who uses the
//! keyspace pays for it, a few shards with each operation, as long as holes are more than an eighth
//! of the slabs; when the node is full, who needs room does whole rounds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::server::arena::{Record, Victim};
use crate::server::keyspace::Keyspace;

/// Holes may be this share of the touched pages, and this many bytes, before records are moved.
const HOLES_SHARE: u64 = 8;
const HOLES_BYTES_MIN: u64 = 1 << 20;

/// A round empties at most one slab in this many, or a few.
const ROUND_SHARE: u64 = 8;
const ROUND_SLABS_MIN: u64 = 16;
const SLAB_BYTES: u64 = 256 << 10;

/// What one operation moves on the way, or how many shards it visits for it.
const STEP_BYTES: u64 = 16 << 10;
const STEP_SHARDS: usize = 8;

/// What housekeeping moves at once, and what one operation moves that needs room.
const SWEEP_BYTES_MAX: u64 = 16 << 20;
const ROOM_BYTES_MAX: u64 = 64 << 20;

/// Free bytes below which an operation makes room before it begins.
const MARGIN_BYTES: u64 = 128 << 10;

/// After a round in vain, holes must grow by this before the next.
const RETRY_BYTES: u64 = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Compaction {
    round: Mutex<Option<Round>>,
    /// Whether there is a round: its victims' holes are not counted, and soon free.
    is_under_way: AtomicBool,
    /// Holes below this are not worth another look, while there is room and when there is none;
    /// 0 after each sweep.
    in_vain_below: [AtomicU64; 2],
}

/// How hard is looked for slabs to empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// There is room: only those that are less full than six eighths.
    Thrift = 0,
    /// There is none.
    Room = 1,
}

impl Need {
    fn fill_max(self) -> usize {
        match self {
            Self::Thrift => 6,
            Self::Room => 8,
        }
    }
}

#[derive(Debug)]
struct Round {
    victims: Vec<Victim>,
    next_shard: usize,
}

/// The longest that a shard was locked for, in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    rehash: AtomicU64,
    compaction: AtomicU64,
}

impl Pauses {
    pub(super) fn rehashed(&self, took: Duration) {
        self.rehash.fetch_max(nanoseconds(took), Ordering::Relaxed);
    }

    fn compacted(&self, took: Duration) {
        self.compaction.fetch_max(nanoseconds(took), Ordering::Relaxed);
    }

    /// For growing an index, and for moving records.
    pub(super) fn longest(&self) -> (Duration, Duration) {
        let of = |pause: &AtomicU64| Duration::from_nanos(pause.load(Ordering::Relaxed));
        (of(&self.rehash), of(&self.compaction))
    }
}

impl Keyspace {
    /// What every operation does for the memory, before it takes a lock.
    pub(super) fn tend(&self) {
        if self.memory.free() < self.margin() {
            self.make_room(self.margin());
        } else if self.is_sparse() {
            // Who finds another one at it goes on.
            let Some(mut round) = self.compaction.round.try_lock() else { return };
            let mut moved = 0;
            for _ in 0..STEP_SHARDS {
                match self.visit(&mut round, Need::Thrift) {
                    Some(bytes) => moved += bytes,
                    None => return,
                }
                if moved >= STEP_BYTES {
                    return;
                }
            }
        }
    }

    /// Frees memory until `wanted` bytes are free, or nothing more can be gained; whether they are.
    /// Called without any lock.
    pub(super) fn make_room(&self, wanted: u64) -> bool {
        let is_enough = || self.memory.free() >= wanted;
        let missing = wanted.saturating_sub(self.memory.free());
        if is_enough() || self.extents.release(missing) >= missing {
            return true;
        }
        if self.backing.is_some() {
            let missing = wanted.saturating_sub(self.memory.free());
            self.chill_until(missing, || self.memory.free() >= wanted);
            if is_enough() {
                return true;
            }
        }
        let missing = wanted.saturating_sub(self.memory.free());
        let holes = self.slabs.hole_bytes();
        let is_under_way = self.compaction.is_under_way.load(Ordering::Relaxed);
        if !is_under_way && (missing > holes || holes < self.in_vain_below(Need::Room)) {
            return false;
        }
        let mut round = self.compaction.round.lock();
        self.slabs.release_empty();
        let mut moved = 0;
        while !is_enough() && moved < ROOM_BYTES_MAX {
            match self.visit(&mut round, Need::Room) {
                Some(bytes) => moved += bytes,
                None => return is_enough(),
            }
        }
        is_enough()
    }

    /// Whether there is room for `bytes` beside a part of the margin, after having looked for some.
    pub(in crate::server) fn has_room(&self, bytes: u64) -> bool {
        let wanted = bytes + self.margin() / 2;
        self.memory.free() >= wanted || self.make_room(wanted)
    }

    /// Housekeeping's share.
    pub(super) fn compact(&self) {
        self.slabs.release_empty();
        self.extents.sweep();
        for below in &self.compaction.in_vain_below {
            below.store(0, Ordering::Relaxed);
        }
        let Some(mut round) = self.compaction.round.try_lock() else { return };
        let mut moved = 0;
        while (round.is_some() || self.is_sparse()) && moved < SWEEP_BYTES_MAX {
            match self.visit(&mut round, Need::Thrift) {
                Some(bytes) => moved += bytes,
                None => return,
            }
        }
    }

    fn is_sparse(&self) -> bool {
        let (holes, touched) = (self.slabs.hole_bytes(), self.slabs.touched_bytes());
        holes > HOLES_BYTES_MIN
            && holes > touched / HOLES_SHARE
            && holes >= self.in_vain_below(Need::Thrift)
    }

    fn in_vain_below(&self, need: Need) -> u64 {
        self.compaction.in_vain_below[need as usize].load(Ordering::Relaxed)
    }

    fn margin(&self) -> u64 {
        let (most, share) = match self.backing {
            // What makes room there takes time of its own, so it begins earlier.
            Some(_) => (64 << 20, 8),
            None => (MARGIN_BYTES, 16),
        };
        most.min(self.memory.capacity() / share)
    }

    /// Visits the next shard of the round, or begins one; bytes moved. `None` if there is nothing
    /// to gain, or others took the holes meanwhile: so whoever repeats this comes to an end.
    fn visit(&self, state: &mut Option<Round>, need: Need) -> Option<u64> {
        let round = match state {
            Some(round) => round,
            None => {
                let limit =
                    (self.slabs.touched_bytes() / SLAB_BYTES / ROUND_SHARE).max(ROUND_SLABS_MIN);
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let victims = self.slabs.choose_victims(need.fill_max(), limit);
                if victims.is_empty() {
                    let below = self.slabs.hole_bytes() + RETRY_BYTES;
                    let in_vain_below = &self.compaction.in_vain_below[need as usize];
                    in_vain_below.store(below, Ordering::Relaxed);
                    return None;
                }
                self.compaction.is_under_way.store(true, Ordering::Relaxed);
                state.insert(Round { victims, next_shard: 0 })
            }
        };
        let moved = self.evacuate(round.next_shard);
        round.next_shard += 1;
        if (round.next_shard == self.shards.len() || moved.is_none())
            && let Some(round) = state.take()
        {
            self.slabs.finish(round.victims);
            self.compaction.is_under_way.store(false, Ordering::Relaxed);
        }
        moved
    }

    /// Moves a shard's records out of victims; bytes moved, `None` when there is no hole for one.
    fn evacuate(&self, shard: usize) -> Option<u64> {
        let mut shard = self.shards[shard].lock();
        let began = Instant::now();
        let (mut moved, mut is_short) = (0, false);
        let is_victims = |record: &&mut Record| self.slabs.is_in_victim(record);
        for record in shard.index.iter_mut().filter(is_victims) {
            if !self.slabs.relocate(record) {
                is_short = true;
                break;
            }
            moved += self.slabs.size(record) as u64;
        }
        self.pauses.compacted(began.elapsed());
        (!is_short).then_some(moved)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
