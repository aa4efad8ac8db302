//! What must hold in a run, from what its processes were told and what they did.
//!
//! Owns the promises as the outside sees them. May not ask the state why. Invariant: each promise
//! panics with the seed when it is broken.

use std::collections::{BTreeMap, BTreeSet};

use super::super::State;
use super::super::tests::CHANNEL;
use super::TICK_MS;
use super::actor::Role;
use super::store::Store;
use crate::api::*;
use crate::coordinator::keys::{attempt_prefix, checkpoint_prefix, generation_of};
use crate::coordinator::ledger::{self, LineState};
use crate::split::SplitPlan;

/// A split has three batches of at most 14 B.
const SPLIT_BYTES_MAX: u64 = 42;

/// The timeout of heartbeats, and two ticks.
const SILENT_MS_MAX: u64 = 1500 + 2 * TICK_MS;

#[derive(Debug, Default)]
pub(super) struct Judge {
    seed: u64,
    /// The latest member of each replica, and when it heard of it.
    members: BTreeMap<(Role, u32), (MemberId, u64)>,
    granted: BTreeMap<Attempt, (MemberId, u64)>,
    /// When each attempt began to write.
    wrote_ms: BTreeMap<Attempt, u64>,
    /// Whose each generation is, and when it heard of it.
    generations: BTreeMap<Generation, (MemberId, u64)>,
    /// The most batches that a trainer was told are in a recorded checkpoint.
    saved: u64,
    /// Splits of which something was lost.
    lost: BTreeSet<u64>,
    /// When each member's heart was heard last.
    heard_ms: BTreeMap<MemberId, u64>,
    /// When the coordinator started last, or went on after it stood still.
    woke_ms: u64,
    /// When all processes were gone last.
    resumed_ms: u64,
}

impl Judge {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub(super) fn registered(
        &mut self,
        (role, replica, _): (Role, u32, u32),
        member: MemberId,
        now_ms: u64,
    ) {
        let latest = self.members.entry((role, replica)).or_insert((member, now_ms));
        if latest.0 < member {
            *latest = (member, now_ms);
        }
    }

    /// A worker's call that was first sent at `asked_ms` was not refused.
    pub(super) fn worker_was_answered(&self, replica: u32, member: MemberId, asked_ms: u64) {
        let latest = self.members.get(&(Role::Worker, replica));
        let replaced =
            latest.is_some_and(|(latest, since_ms)| member < *latest && *since_ms < asked_ms);
        assert!(!replaced, "seed {}: {member} is answered after {latest:?}", self.seed);
    }

    /// The same of a trainer's, which counts until another one opens the channel.
    pub(super) fn trainer_was_answered(&self, generation: Generation, asked_ms: u64) {
        let latest = self.generations.last_key_value();
        let replaced = latest
            .is_some_and(|(latest, (_, since_ms))| generation < *latest && *since_ms < asked_ms);
        assert!(!replaced, "seed {}: {generation} is answered after {latest:?}", self.seed);
    }

    pub(super) fn heard(&mut self, member: MemberId, now_ms: u64) {
        self.heard_ms.insert(member, now_ms);
    }

    pub(super) fn woke(&mut self, now_ms: u64) {
        self.woke_ms = self.woke_ms.max(now_ms);
    }

    /// The coordinator starts: everybody has the whole time, and the ids of members whose
    /// registration it forgot are others' now.
    pub(super) fn started(&mut self, now_ms: u64) {
        self.heard_ms.clear();
        self.woke(now_ms);
    }

    pub(super) fn resumed(&mut self, now_ms: u64) {
        self.resumed_ms = now_ms;
    }

    /// Who is silent for longer than it may is a member no more.
    pub(super) fn members(&mut self, state: &State, now_ms: u64) {
        for (member, _) in state.durable().members.live() {
            let heard_ms = *self.heard_ms.entry(member).or_insert(now_ms);
            let silent_ms = now_ms.saturating_sub(heard_ms.max(self.woke_ms));
            let seed = self.seed;
            assert!(silent_ms <= SILENT_MS_MAX, "seed {seed}: {member} is silent for {silent_ms}");
        }
    }

    /// What a consumer is given was made since all memory was lost.
    pub(super) fn given(&self, committed: &Committed) {
        let Committed { split, attempt, .. } = committed;
        let former = self.wrote_ms.get(attempt).is_some_and(|wrote| *wrote < self.resumed_ms);
        assert!(!former, "seed {}: {attempt} of split {split} is a former life's", self.seed);
    }

    /// An attempt is one lease of one split to one member.
    pub(super) fn granted(&mut self, member: Option<MemberId>, grant: &Grant) {
        let holder = (member.unwrap(), grant.split);
        let known = *self.granted.entry(grant.attempt).or_insert(holder);
        assert_eq!(known, holder, "seed {}: attempt {} is given twice", self.seed, grant.attempt);
    }

    pub(super) fn writes(&mut self, grant: &Grant, now_ms: u64) {
        self.wrote_ms.entry(grant.attempt).or_insert(now_ms);
    }

    /// A generation is one opening; what was told to be recorded is there.
    pub(super) fn opened(&mut self, member: Option<MemberId>, opened: &Opened, now_ms: u64) {
        let (seed, generation) = (self.seed, opened.generation);
        let (known, _) = *self.generations.entry(generation).or_insert((member.unwrap(), now_ms));
        assert_eq!(Some(known), member, "seed {seed}: generation {generation} is given twice");
        let covered = opened.checkpoint.as_ref().and_then(CheckpointRecord::covered);
        let cursor = covered.map_or(0, |covered| covered.count());
        let latest = self.generations.last_key_value().is_some_and(|(last, _)| *last == generation);
        let saved = self.saved;
        assert!(!latest || cursor >= saved, "seed {seed}: cursor {saved} went back to {cursor}");
    }

    pub(super) fn saved(&mut self, cursor: u64) {
        self.saved = self.saved.max(cursor);
    }

    /// The current consumer misses a batch of an accepted attempt.
    pub(super) fn lost(&mut self, committed: &Committed, wiped_ms: u64) {
        let Committed { split, attempt, .. } = committed;
        let wiped = self.wrote_ms.get(attempt).is_some_and(|wrote_ms| wiped_ms >= *wrote_ms);
        assert!(wiped, "seed {}: split {split}, attempt {attempt} is not there", self.seed);
        self.lost.insert(*split);
    }

    /// A channel holds about what it may: a split at the cursor and one that is asked for come on
    /// top, and what was leased before the largest split was known.
    pub(super) fn channel(&self, state: &State, capacity: u64) {
        let retained = state.durable().channels.get(CHANNEL).map_or(0, |c| c.retained_bytes);
        let most = 2 * capacity + 2 * SPLIT_BYTES_MAX;
        assert!(retained <= most, "seed {}: {retained} B in a channel of {capacity}", self.seed);
    }

    /// The end: every batch once, and in order, in what was learnt and in the ledger; nothing left.
    /// Answers how many deliveries were rolled back.
    pub(super) fn end(
        &self,
        plan: &SplitPlan,
        state: &State,
        store: &Store,
        unordered: bool,
    ) -> u64 {
        let seed = self.seed;
        let status = state.status();
        assert_eq!(status.channels[CHANNEL].cursor, plan.batches(), "seed {seed}");
        assert_eq!(status.channels[CHANNEL].retained_bytes, 0, "seed {seed}");
        let key = state.durable().channels[CHANNEL].checkpoint_key().unwrap();
        let model = store.models.get(key).unwrap_or_else(|| panic!("seed {seed}: no model"));
        let mut learnt: Vec<u64> = model.iter().map(|trained| trained.batch).collect();
        if unordered {
            learnt.sort_unstable();
        }
        assert_eq!(learnt, (0..plan.batches()).collect::<Vec<_>>(), "seed {seed}");
        let (lines, _) = state.ledger_lines(CHANNEL, 0, usize::MAX).unwrap();
        for line in lines.iter().filter(|line| line.state == LineState::Kept) {
            let batch = plan.global_batch(line.epoch, line.batch).unwrap();
            let trained = model.iter().find(|trained| trained.batch == batch).unwrap();
            assert_eq!(line.generation, trained.generation, "seed {seed}: batch {batch}");
            // Of a split that was made again some batches may be the former attempt's.
            let same = line.attempt == trained.attempt;
            let made_again = self.lost.contains(&plan.split_of(batch));
            assert!(same || made_again, "seed {seed}: {line:?} {trained:?}");
        }
        self.nothing_is_left(store);
        self.no_model_is_left(store, key);
        let summary = ledger::check(plan, lines);
        summary.unwrap_or_else(|fault| panic!("seed {seed}: {fault}")).rolled_back
    }

    /// Beside the last model only what may be needed as of the generation that made it, and what a
    /// process stored after its generation was swept.
    fn no_model_is_left(&self, store: &Store, last: &str) {
        let latest = generation_of(CHANNEL, last);
        for key in store.models.keys() {
            let generation = generation_of(CHANNEL, key);
            let prefix = generation.map(|generation| checkpoint_prefix(CHANNEL, generation));
            let swept = prefix.is_some_and(|prefix| store.swept.contains_key(&prefix));
            assert!(swept || generation >= latest, "seed {}: {key} is left", self.seed);
        }
    }

    /// Only what a process wrote after its attempt was swept twice may be left.
    fn nothing_is_left(&self, store: &Store) {
        for (attempt, (_, split)) in &self.granted {
            let prefix = attempt_prefix(CHANNEL, *split, *attempt);
            let mut left = store.batches.range(prefix.clone()..);
            let left = left.next().is_some_and(|(key, _)| key.starts_with(&prefix));
            let sweeps = store.swept.get(&prefix).map_or(0, BTreeSet::len);
            assert!(!left || sweeps > 1, "seed {}: {prefix} is left", self.seed);
        }
    }
}
