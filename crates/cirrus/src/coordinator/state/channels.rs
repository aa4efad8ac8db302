//! How far a channel's consumer is, and what it was given since.
//!
//! Owns generations, checkpoints and the ledger. May not know workers.
//! Invariant: what is covered only grows, and only by batches delivered in the current generation.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::feeds::SetState;
use super::graph::ChannelEnds;
use super::{Decided, Decision, Durable, Event, Graph, State};
use crate::api::{
    Attempt, Checkpoint, CheckpointRecord, Garbage, Generation, Lost, MemberId, OpenConsumer,
    Opened, Refusal, RefusalKind, Reply,
};
use crate::coordinator::keys::{checkpoint_prefix, generation_of};
use crate::coordinator::ledger::{Ledger, LineState, Run};
use crate::coordinator::plant::{Bug, is_planted};
use crate::covered::Covered;
use crate::split::SplitPlan;

const KEY_LEN_MAX: usize = 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChannelState {
    pub(super) generation: Generation,
    /// Who opened it last, by which request.
    consumer: Option<(MemberId, u64)>,
    checkpoint: Option<CheckpointRecord>,
    /// Splits given to this generation of which the checkpoint does not hold all.
    pub(super) delivered: BTreeMap<u64, Attempt>,
    /// Committed and not freed.
    pub(super) retained_bytes: u64,
    pub(super) largest_split_bytes: Option<u64>,
    /// The reader is done: nothing is needed any more.
    pub(super) closed: bool,
    pub(super) ledger: Ledger,
}

impl State {
    pub(super) fn open_consumer(&self, call: &OpenConsumer) -> Decided {
        let member = self.live_member(call.member)?;
        let ends = self.graph.channel(&call.channel)?;
        let channel = self.durable.channels.get(&call.channel);
        if member.call.task != ends.reader {
            return Err(Refusal::new(
                RefusalKind::Input,
                format!(
                    "task `{}` does not read channel `{}`; task `{}` does",
                    member.call.task, call.channel, ends.reader
                ),
            ));
        }
        if channel.is_some_and(|channel| channel.closed) {
            return Err(Refusal::new(
                RefusalKind::StaleGeneration,
                format!(
                    "channel `{}` has ended, because an earlier process of task `{}` was done; \
                     this consumer must end",
                    call.channel, ends.reader
                ),
            ));
        }
        let checkpoint = channel.and_then(|channel| channel.checkpoint.clone());
        let generation = channel.map(|channel| channel.generation).unwrap_or_default();
        if let Some((opener, request)) = channel.and_then(|channel| channel.consumer)
            && opener == call.member
        {
            if request == call.request {
                let opened = Opened { generation, checkpoint };
                return Ok(Decision::reply(Reply::Opened(opened)));
            }
            if request > call.request {
                return Err(Refusal::new(
                    RefusalKind::StaleRequest,
                    format!("channel `{}` was opened by a later request", call.channel),
                ));
            }
        }
        // What the former consumer stored and did not live to record.
        let recorded = checkpoint.as_ref().and_then(|c| generation_of(&call.channel, &c.key));
        let over = Some(generation).filter(|over| recorded != Some(*over));
        let over = over.and_then(|over| discarded(&call.channel, over));
        let generation = Generation(generation.0 + 1);
        let event = Event::ConsumerOpened {
            channel: call.channel.clone(),
            member: call.member,
            request: call.request,
            generation,
        };
        let reply = Reply::Opened(Opened { generation, checkpoint });
        let again = if call.afresh { self.made_again(&ends.set, channel) } else { Vec::new() };
        Ok(Decision { events: again.into_iter().chain([event]).chain(over).collect(), reply })
    }

    /// Takes back the splits of a set that no checkpoint of the channel holds: those that are
    /// committed, and, since they may be half done, those that are leased.
    fn made_again(&self, name: &str, channel: Option<&ChannelState>) -> Vec<Event> {
        let Some(set) = self.durable.sets.get(name) else { return Vec::new() };
        let Some(plan) = &set.plan else { return Vec::new() };
        let held = channel.map(ChannelState::covered).unwrap_or_default();
        let is_open = |split: &&u64| !held.holds(&plan.batches_of(**split));
        let committed = set.committed.keys().filter(is_open);
        let lost = committed.map(|split| Event::Lost { set: name.to_owned(), split: *split });
        let leased = set.leases.keys();
        let revoked = leased.map(|split| Event::Revoked { set: name.to_owned(), split: *split });
        lost.chain(revoked).collect()
    }

    pub(super) fn checkpoint(&self, call: &Checkpoint) -> Decided {
        let ends = self.graph.channel(&call.channel)?;
        let channel = self.current(&call.channel, call.generation)?;
        let record = &call.record;
        if channel.checkpoint.as_ref() == Some(record) {
            return Ok(Decision::accepted(Vec::new()));
        }
        let input = |problem: String| {
            let name = &call.channel;
            let message = format!("checkpoint of channel `{name}` at {}: {problem}", record.cursor);
            Err(Refusal::new(RefusalKind::Input, message))
        };
        if record.key.is_empty() || record.key.len() > KEY_LEN_MAX {
            return input(format!("its key is not 1 to {KEY_LEN_MAX} bytes"));
        }
        if self.durable.sweeps.dooms(&record.key) && !is_planted(Bug::DoomedKeyRecorded) {
            return input(format!(
                "key {:?} held an earlier checkpoint and is about to be deleted; put each \
                 checkpoint under its own key",
                record.key
            ));
        }
        let held = record.covered().filter(|held| ends.unordered || held.beyond().is_empty());
        let Some(held) = held else {
            return input("what it holds beyond that is not in order".to_owned());
        };
        if let Some(last) = &channel.checkpoint {
            let renewed = record.key == last.key && record.version > last.version;
            let before = channel.covered();
            let back = !held.holds_all(&before) && !is_planted(Bug::CursorGoesBack);
            if back || (held == before && !renewed) {
                return Err(Refusal::new(
                    RefusalKind::StaleGeneration,
                    format!(
                        "checkpoint of channel `{}` at {}: one at {} is recorded; take the next \
                         one after at least one more batch",
                        call.channel, record.cursor, last.cursor
                    ),
                ));
            }
        }
        let plan = self.durable.sets.get(&ends.set).and_then(|set| set.plan.as_ref());
        if let Some(split) = channel.first_undelivered(plan, &held)
            && !is_planted(Bug::UndeliveredCovered)
        {
            return input(format!(
                "split {split} was not delivered to generation {}; a cursor covers delivered \
                 batches only",
                call.generation
            ));
        }
        let event = Event::Checkpointed { channel: call.channel.clone(), record: record.clone() };
        // The same of the consumer whose record this one replaces.
        let former = channel.checkpoint.as_ref();
        let former = former.and_then(|last| generation_of(&call.channel, &last.key));
        let over = former.filter(|former| *former < call.generation);
        let over = over.and_then(|over| discarded(&call.channel, over));
        Ok(Decision::accepted(std::iter::once(event).chain(over).collect()))
    }

    pub(super) fn lost(&self, call: &Lost) -> Decided {
        let ends = self.graph.channel(&call.channel)?;
        self.current(&call.channel, call.generation)?;
        let set = self.durable.sets.get(&ends.set);
        let committed = set.and_then(|set| set.committed.get(&call.split));
        // Any other attempt: the loss was told before.
        let any = is_planted(Bug::AnyLossCounts);
        let current = committed.is_some_and(|committed| any || committed.attempt == call.attempt);
        // It stays delivered: a consumer may have read a part, and checkpoint within the split.
        let event = current.then(|| Event::Lost { set: ends.set.clone(), split: call.split });
        Ok(Decision::accepted(event.into_iter().collect()))
    }

    /// The split that the channel's durable cursor is in.
    pub(super) fn cursor_split(&self, channel: &str, plan: &SplitPlan) -> u64 {
        self.durable.channels.get(channel).map_or(0, |channel| channel.passed_splits(plan))
    }

    pub(super) fn window(&self, ends: &ChannelEnds) -> u64 {
        self.graph.feeds.get(&ends.set).map_or(0, |feed| u64::from(feed.splits.window))
    }

    /// The channel, if `generation` is the one that may read it.
    pub(super) fn current(
        &self,
        name: &str,
        generation: Generation,
    ) -> Result<&ChannelState, Refusal> {
        let channel = self.durable.channels.get(name);
        let current = channel.map(|channel| channel.generation).unwrap_or_default();
        match channel {
            Some(channel) if generation == current || is_planted(Bug::NoGenerationFence) => {
                Ok(channel)
            }
            Some(_) | None => Err(Refusal::new(
                RefusalKind::StaleGeneration,
                format!(
                    "generation {generation} of channel `{name}` is not the current one \
                     ({current}); this consumer must end"
                ),
            )),
        }
    }
}

/// The end of what a generation stored, if there was one.
fn discarded(channel: &str, generation: Generation) -> Option<Event> {
    let is_one = generation > Generation(0) && !is_planted(Bug::CheckpointsForgotten);
    is_one.then(|| Event::Discarded { prefix: checkpoint_prefix(channel, generation) })
}

impl Durable {
    pub(super) fn consumer_opens(
        &mut self,
        graph: &Graph,
        name: &str,
        consumer: (MemberId, u64),
        generation: Generation,
    ) {
        let plan = self.plan_of_channel(graph, name);
        let channel = self.channels.entry(name.to_owned()).or_default();
        if let Some(plan) = plan {
            let undone = LineState::RolledBack;
            let undone = if is_planted(Bug::RolledBackKept) { LineState::Kept } else { undone };
            channel.record(&plan, &Covered::below(plan.batches()), undone);
        }
        channel.delivered.clear();
        channel.generation = generation;
        channel.consumer = Some(consumer);
    }

    pub(super) fn checkpoint_is_durable(
        &mut self,
        graph: &Graph,
        name: &str,
        record: &CheckpointRecord,
    ) {
        let plan = self.plan_of_channel(graph, name);
        let channel = self.channels.entry(name.to_owned()).or_default();
        let mut record = record.clone();
        if is_planted(Bug::BeyondForgotten) {
            record.beyond.clear();
        }
        if let (Some(plan), Some(held)) = (&plan, record.covered()) {
            channel.record(plan, &held, LineState::Kept);
        }
        let key = record.key.clone();
        let former = channel.checkpoint.replace(record);
        if let Some(former) = former.filter(|former| former.key != key) {
            self.sweeps.push(Garbage::Key(former.key));
        }
        if let (Some(plan), Some(ends)) = (plan, graph.channels.get(name)) {
            let held = channel.covered();
            channel.delivered.retain(|split, _| !held.holds(&plan.batches_of(*split)));
            self.settle(graph, &ends.set);
        }
    }

    /// A task ended with success: the channels it reads need nothing any more.
    pub(super) fn reader_is_done(&mut self, graph: &Graph, task: &str) {
        for (name, ends) in graph.channels.iter().filter(|(_, ends)| ends.reader == task) {
            self.channels.entry(name.clone()).or_default().closed = true;
            self.settle(graph, &ends.set);
        }
    }

    fn plan_of_channel(&self, graph: &Graph, channel: &str) -> Option<SplitPlan> {
        let ends = graph.channels.get(channel)?;
        self.sets.get(&ends.set).and_then(|set: &SetState| set.plan.clone())
    }
}

impl ChannelState {
    pub(super) fn cursor(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.cursor)
    }

    /// Batches that were given to this generation and that no checkpoint holds.
    pub(super) fn delivered_beyond_cursor(&self, plan: &SplitPlan) -> u64 {
        let held = self.covered();
        let missing =
            self.delivered.keys().flat_map(|split| held.missing_in(&plan.batches_of(*split)));
        missing.map(|run| run.end - run.start).sum()
    }

    #[cfg(test)]
    pub(super) fn checkpoint_key(&self) -> Option<&String> {
        self.checkpoint.as_ref().map(|checkpoint| &checkpoint.key)
    }

    /// What the last checkpoint holds.
    pub(super) fn covered(&self) -> Covered {
        self.checkpoint.as_ref().and_then(CheckpointRecord::covered).unwrap_or_default()
    }

    pub(super) fn cursor_split(&self, plan: &SplitPlan) -> u64 {
        plan.split_of(self.cursor())
    }

    /// The splits that are not needed any more.
    pub(super) fn passed(&self, plan: &SplitPlan) -> Vec<Range<u64>> {
        let held = if self.closed { Covered::below(plan.batches()) } else { self.covered() };
        let whole = |run: Range<u64>| match is_planted(Bug::FreedInPart) {
            true => plan.split_of(run.start)..plan.split_of(run.end - 1) + 1,
            false => plan.splits_within(&run),
        };
        held.held_in(&(0..held.end())).into_iter().map(whole).collect()
    }

    /// Splits below this are not needed any more.
    pub(super) fn passed_splits(&self, plan: &SplitPlan) -> u64 {
        if self.closed { u64::MAX } else { self.cursor_split(plan) }
    }

    pub(super) fn deliver(&mut self, split: u64, attempt: Attempt) {
        self.delivered.insert(split, attempt);
    }

    /// Whether it holds more than its capacity, which only what the consumer asked for may do.
    pub(super) fn is_over(&self, ends: &ChannelEnds) -> bool {
        self.retained_bytes > ends.capacity
    }

    /// Whether another split of the largest size has no room until something is freed.
    pub(super) fn is_short_of_bytes(&self, ends: &ChannelEnds) -> bool {
        let largest = self.largest_split_bytes.unwrap_or_default();
        self.retained_bytes.saturating_add(largest) > ends.capacity
    }

    /// The first split of what `held` has beyond the durable checkpoint that this generation was not
    /// given. Every cursor but 0 lies beyond the deliveries while the set is not sealed.
    fn first_undelivered(&self, plan: Option<&SplitPlan>, held: &Covered) -> Option<u64> {
        let before = self.covered();
        let plan = match plan {
            Some(plan) if held.end() <= plan.batches() => plan,
            Some(plan) => return Some(plan.splits()),
            None => return (*held != before).then_some(0),
        };
        let new =
            before.missing_in(&(0..held.end())).into_iter().flat_map(|run| held.held_in(&run));
        let mut splits = new.flat_map(|run| plan.split_of(run.start)..=plan.split_of(run.end - 1));
        splits.find(|split| !self.delivered.contains_key(split))
    }

    /// Adds a ledger line for every delivered batch that `held` has beyond the checkpoint.
    fn record(&mut self, plan: &SplitPlan, held: &Covered, state: LineState) {
        let before = self.covered();
        for (split, attempt) in &self.delivered {
            let missing = before.missing_in(&plan.batches_of(*split));
            for run in missing.iter().flat_map(|run| held.held_in(run)) {
                let (first, batches) = (run.start, run.end - run.start);
                let (generation, attempt) = (self.generation, *attempt);
                self.ledger.push(Run { first, batches, generation, attempt, state });
            }
        }
    }
}
