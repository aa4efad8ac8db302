//! The answers of recent writes in a shard, kept until their session has acknowledged them.
//!
//! Owns what a repeated write is answered from. Knows nothing of objects. Invariant: a result is
//! forgotten only when its session acknowledged it, or is gone itself.
//!
//! Recording: one look-up of the session, one entry at the end of its ring. Rings are charged as
//! they grow, so that a write costs no atomic operation here.

use std::collections::VecDeque;

use foldhash::fast::FixedState;

use crate::key::Version;
use crate::server::memory::Memory;
use crate::server::session::Census;
use crate::wire::{Fault, Reply};

/// The most results that a session may leave unacknowledged in one shard.
const RESULTS_MAX: usize = 16_384;

/// What a session's ring costs, empty: its entry in the table.
const RING_BYTES: u64 = 2 * size_of::<(u64, Ring)>() as u64;

/// An answer to a write, shorter than a [`Reply`].
#[derive(Debug)]
enum Outcome {
    Written(Version),
    Deleted(Version),
    Added(Version, i64),
    Pushed(Version, u64),
    Failed(Fault),
    /// The item that was popped, among others.
    Other(Box<Reply>),
}

/// One session's results, in ascending order of their numbers.
#[derive(Debug, Default)]
struct Ring {
    outcomes: VecDeque<(u64, Outcome)>,
    /// Bytes that the node's memory was charged for.
    charged: u64,
    /// Of them, bytes beside the ring itself.
    beside: u64,
}

/// By the session's life.
#[derive(Debug)]
pub(in crate::server) struct Results {
    rings: hashbrown::HashMap<u64, Ring, FixedState>,
    memory: Memory,
}

impl Results {
    pub(super) fn new(memory: Memory) -> Self {
        // Nobody chooses the number of a session's life.
        Self { rings: hashbrown::HashMap::with_hasher(FixedState::default()), memory }
    }

    /// The reply that this write has had already.
    pub(in crate::server) fn find(&self, life: u64, sequence: u64) -> Option<Reply> {
        let outcomes = &self.rings.get(&life)?.outcomes;
        if outcomes.back().is_none_or(|(last, _)| *last < sequence) {
            return None;
        }
        let at = outcomes.binary_search_by_key(&sequence, |(number, _)| *number).ok()?;
        Some(outcomes[at].1.reply())
    }

    /// Forgets what the session has acknowledged; whether it may leave one more result here.
    pub(in crate::server) fn may_record(&mut self, life: u64, acknowledged: u64) -> bool {
        let Some(ring) = self.rings.get_mut(&life) else { return true };
        ring.forget_up_to(acknowledged);
        ring.outcomes.len() < RESULTS_MAX
    }

    /// Forgets the reply to a write that was lost: it may be tried again.
    pub(super) fn forget(&mut self, life: u64, sequence: u64) {
        let Some(ring) = self.rings.get_mut(&life) else { return };
        if let Ok(at) = ring.outcomes.binary_search_by_key(&sequence, |(number, _)| *number)
            && let Some((_, outcome)) = ring.outcomes.remove(at)
        {
            ring.beside -= outcome.beside();
            ring.settle(&self.memory);
        }
    }

    /// Keeps a reply until the session acknowledges it.
    pub(in crate::server) fn record(&mut self, life: u64, sequence: u64, reply: &Reply) {
        let ring = self.rings.entry(life).or_default();
        let outcome = Outcome::of(reply);
        ring.beside += outcome.beside();
        match ring.outcomes.back() {
            Some((last, _)) if *last > sequence => {
                let at = ring.outcomes.partition_point(|(number, _)| *number < sequence);
                ring.outcomes.insert(at, (sequence, outcome));
            }
            Some(_) | None => ring.outcomes.push_back((sequence, outcome)),
        }
        ring.settle(&self.memory);
    }

    /// Forgets what nobody will ask for again.
    pub(super) fn sweep(&mut self, census: &Census) {
        let memory = &self.memory;
        self.rings.retain(|life, ring| {
            if census.forgotten.contains(life) {
                ring.outcomes.clear();
            } else if let Some(acknowledged) = census.acknowledged.get(life) {
                ring.forget_up_to(*acknowledged);
            }
            if ring.outcomes.is_empty() {
                memory.give(ring.charged);
            }
            !ring.outcomes.is_empty()
        });
        if self.rings.is_empty() {
            self.rings.shrink_to_fit();
        }
    }
}

impl Ring {
    fn forget_up_to(&mut self, acknowledged: u64) {
        while self.outcomes.front().is_some_and(|(sequence, _)| *sequence <= acknowledged) {
            if let Some((_, outcome)) = self.outcomes.pop_front() {
                self.beside -= outcome.beside();
            }
        }
    }

    /// Charges what the ring is now.
    fn settle(&mut self, memory: &Memory) {
        let ring = (self.outcomes.capacity() * size_of::<(u64, Outcome)>()) as u64;
        let now = RING_BYTES + ring + self.beside;
        if now != self.charged {
            memory.charge(now);
            memory.give(self.charged);
            self.charged = now;
        }
    }
}

impl Outcome {
    fn of(reply: &Reply) -> Self {
        match reply {
            Reply::Written { version } => Self::Written(*version),
            Reply::Deleted { version } => Self::Deleted(*version),
            Reply::Added { version, value } => Self::Added(*version, *value),
            Reply::Pushed { version, items } => Self::Pushed(*version, *items),
            Reply::Failed(fault) => Self::Failed(*fault),
            Reply::Popped { .. }
            | Reply::Pong
            | Reply::Value { .. }
            | Reply::Placed { .. }
            | Reply::NotModified { .. }
            | Reply::Deferred { .. }
            | Reply::Stat { .. }
            | Reply::Batch(_)
            | Reply::Page(_)
            | Reply::Stats(_)
            | Reply::Stepped { .. }
            | Reply::Stood(_) => Self::Other(Box::new(reply.clone())),
        }
    }

    fn reply(&self) -> Reply {
        match self {
            Self::Written(version) => Reply::Written { version: *version },
            Self::Deleted(version) => Reply::Deleted { version: *version },
            Self::Added(version, value) => Reply::Added { version: *version, value: *value },
            Self::Pushed(version, items) => Reply::Pushed { version: *version, items: *items },
            Self::Failed(fault) => (*fault).into(),
            Self::Other(reply) => (**reply).clone(),
        }
    }

    /// Bytes beside its place in the ring.
    fn beside(&self) -> u64 {
        match self {
            Self::Other(reply) => {
                let popped = match &**reply {
                    Reply::Popped { value, .. } => value.len() as u64,
                    _ => 0,
                };
                size_of::<Reply>() as u64 + popped
            }
            Self::Written(_)
            | Self::Deleted(_)
            | Self::Added(..)
            | Self::Pushed(..)
            | Self::Failed(_) => 0,
        }
    }
}
