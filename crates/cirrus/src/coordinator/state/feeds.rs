//! Who works on which split of a set, and whose output counts.
//!
//! Owns sealing, leases and commits. May not know consumers beyond the cursor that they reached.
//! Invariant: a split is pending, leased, committed or done, and has one current attempt at most.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::graph::{ChannelEnds, Feed};
use super::members::GRANTS_MAX;
use super::{Decided, Decision, Durable, Event, Graph, State};
use crate::api::{
    Attempt, Commit, Garbage, Grant, Lease, LeaseAnswer, MemberId, Output, Refusal, RefusalKind,
    Reply, Return, SealSet,
};
use crate::coordinator::keys::attempt_prefix;
use crate::coordinator::plant::{Bug, is_planted};
use crate::split::SplitPlan;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SetState {
    /// Records, once sealed.
    pub(super) count: Option<u64>,
    /// Its records are in memory; false while a resumed run writes them again.
    pub(super) is_written: bool,
    /// Once sealed, if the set is read through splits.
    pub(super) plan: Option<SplitPlan>,
    /// Splits from here on were never leased.
    next: u64,
    /// Splits below `next` that must be leased again.
    pending: BTreeSet<u64>,
    pub(super) leases: BTreeMap<u64, LeaseState>,
    pub(super) committed: BTreeMap<u64, CommittedSplit>,
    /// What the first accepted commit of each split said, until the split is done.
    first: BTreeMap<u64, Vec<Output>>,
    /// Attempts of splits that are not done whose objects may yet be written by a process that
    /// does not know that it was replaced.
    abandoned: BTreeMap<u64, Vec<Attempt>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseState {
    pub(super) member: MemberId,
    pub(super) attempt: Attempt,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CommittedSplit {
    pub(super) attempt: Attempt,
    pub(super) outputs: Vec<HeldOutput>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeldOutput {
    pub(super) output: Output,
    /// Its bytes count against the channel; false once the consumer's cursor passed it.
    held: bool,
}

impl State {
    pub(super) fn seal_set(&self, call: &SealSet) -> Decided {
        self.graph.set(&call.set)?;
        let set = self.durable.sets.get(&call.set);
        let is_written = set.is_some_and(|set| set.is_written);
        match set.and_then(|set| set.count) {
            Some(count) if count != call.count => {
                return Err(Refusal::new(
                    RefusalKind::Input,
                    format!(
                        "set `{}` is sealed with {count} records and cannot be sealed with {}; \
                         write another set",
                        call.set, call.count
                    ),
                ));
            }
            Some(_) if is_written => return Ok(Decision::accepted(Vec::new())),
            Some(_) | None => {}
        }
        if let Some(feed) = self.graph.feeds.get(&call.set) {
            SplitPlan::new(&feed.splits, call.count).map_err(|error| {
                Refusal::new(RefusalKind::Input, format!("set `{}`: {error}", call.set))
            })?;
        }
        let event = Event::SetSealed { set: call.set.clone(), count: call.count };
        Ok(Decision::accepted(vec![event]))
    }

    pub(super) fn lease(&self, call: &Lease) -> Decided {
        let member = self.live_member(call.member)?;
        let feed = self.graph.feed(&call.set)?;
        if member.call.task != feed.worker {
            return Err(Refusal::new(
                RefusalKind::Input,
                format!(
                    "task `{}` does not read set `{}` through splits; task `{}` does",
                    member.call.task, call.set, feed.worker
                ),
            ));
        }
        let answer = |answer| Ok(Decision::reply(Reply::Lease(answer)));
        let Some(set) = self.durable.sets.get(&call.set) else { return answer(LeaseAnswer::Wait) };
        let Some(plan) = &set.plan else { return answer(LeaseAnswer::Wait) };
        if let Some(grant) = member.grant_of_request(call.request) {
            let current = |lease: &&LeaseState| lease.attempt == grant.attempt;
            let held = set.leases.get(&grant.split).filter(current);
            if held.is_none() || grant.set != call.set {
                return Err(stale_request(call));
            }
            return answer(granted(plan, grant.split, grant.attempt));
        }
        if member.is_before_memory(call.request) {
            return Err(stale_request(call));
        }
        if self.has_ended(feed, set, plan) {
            return answer(LeaseAnswer::Ended);
        }
        let holds = set.leases.values().filter(|lease| lease.member == call.member).count();
        let Some(split) = set.candidate(plan).filter(|_| holds < GRANTS_MAX) else {
            return answer(LeaseAnswer::Wait);
        };
        if !feed.outputs.iter().all(|channel| self.may_lease(channel, set, plan, split)) {
            return answer(LeaseAnswer::Wait);
        }
        let attempt = Attempt(self.durable.attempts + 1);
        let attempt = if is_planted(Bug::AttemptReused) { Attempt(split + 1) } else { attempt };
        let event = Event::Leased {
            member: call.member,
            request: call.request,
            set: call.set.clone(),
            split,
            attempt,
        };
        let reply = Reply::Lease(granted(plan, split, attempt));
        Ok(Decision { events: vec![event], reply })
    }

    pub(super) fn commit(&self, call: &Commit) -> Decided {
        let member = self.live_member(call.member)?;
        let feed = self.graph.feed(&call.set)?;
        let set = self.durable.sets.get(&call.set);
        let mut outputs = call.outputs.clone();
        outputs.sort_by(|a, b| a.channel.cmp(&b.channel));
        let event = |outputs| Event::Committed {
            set: call.set.clone(),
            split: call.split,
            attempt: call.attempt,
            outputs,
        };
        let committed = set.and_then(|set| set.committed.get(&call.split));
        if let Some(committed) = committed.filter(|c| c.attempt == call.attempt) {
            if committed.outputs.iter().map(|held| &held.output).ne(&outputs) {
                return Err(differs(call, "in the accepted commit of the same attempt"));
            }
            if is_planted(Bug::RepeatedCommitCounts) {
                return Ok(Decision::accepted(vec![event(outputs)]));
            }
            return Ok(Decision::accepted(Vec::new()));
        }
        if member.has_accepted(call.attempt) {
            return Ok(Decision::accepted(Vec::new()));
        }
        let lease = set.and_then(|set| set.leases.get(&call.split));
        let current = lease.is_some_and(|l| l.attempt == call.attempt && l.member == call.member);
        let (Some(set), true) = (set, current || is_planted(Bug::NoAttemptFence)) else {
            return Err(Refusal::new(
                RefusalKind::StaleAttempt,
                format!(
                    "attempt {} of split {} of set `{}` is not the current one; its output is \
                     discarded, go on with another split",
                    call.attempt, call.split, call.set
                ),
            ));
        };
        self.check_outputs(call, feed, set, &outputs)?;
        if set.first.get(&call.split).is_some_and(|first| *first != outputs) {
            return Err(differs(call, "when it was first committed"));
        }
        Ok(Decision::accepted(vec![event(outputs)]))
    }

    pub(super) fn give_back(&self, call: &Return) -> Decided {
        self.live_member(call.member)?;
        self.graph.feed(&call.set)?;
        let lease = self.durable.sets.get(&call.set).and_then(|set| set.leases.get(&call.split));
        let current = lease.is_some_and(|l| l.attempt == call.attempt && l.member == call.member);
        // Anything else was given back or taken away before: a repeat.
        let event = current.then(|| Event::Returned { set: call.set.clone(), split: call.split });
        Ok(Decision::accepted(event.into_iter().collect()))
    }

    pub(super) fn is_leased(&self, set: &str, split: u64) -> bool {
        self.durable.sets.get(set).is_some_and(|set| set.leases.contains_key(&split))
    }

    /// Whether `outputs`, sorted, are the whole output of the split and fit their channels.
    fn check_outputs(
        &self,
        call: &Commit,
        feed: &Feed,
        set: &SetState,
        outputs: &[Output],
    ) -> Result<(), Refusal> {
        let batches = set.plan.as_ref().and_then(|plan| plan.split(call.split)).map(|r| r.batches);
        let whole = |output: &Output| Some(output.batches) == batches;
        if outputs.iter().map(|o| &o.channel).ne(&feed.outputs) || !outputs.iter().all(whole) {
            let wrote: Vec<String> =
                outputs.iter().map(|o| format!("{} to `{}`", o.batches, o.channel)).collect();
            return Err(Refusal::new(
                RefusalKind::Input,
                format!(
                    "split {} of set `{}` is {} batches to each of {:?}; the attempt wrote {:?}",
                    call.split,
                    call.set,
                    batches.unwrap_or_default(),
                    feed.outputs,
                    wrote
                ),
            ));
        }
        for output in outputs {
            let capacity = self.graph.channel(&output.channel)?.capacity;
            if output.bytes > capacity {
                return Err(Refusal::new(
                    RefusalKind::TooLarge,
                    format!(
                        "split {} of set `{}` is {} B in channel `{}`, which holds {capacity} B; \
                         raise the channel's capacity or lower batches_per_split",
                        call.split, call.set, output.bytes, output.channel
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Whether nothing will be leased any more.
    fn has_ended(&self, feed: &Feed, set: &SetState, plan: &SplitPlan) -> bool {
        let closed = |name: &String| self.durable.channels.get(name).is_some_and(|c| c.closed);
        set.is_done(plan) || (!feed.outputs.is_empty() && feed.outputs.iter().all(closed))
    }

    /// Whether the split that comes next waits for `channel`.
    pub(super) fn is_full(&self, channel: &str, set: &SetState, plan: &SplitPlan) -> bool {
        set.candidate(plan).is_some_and(|split| !self.may_lease(channel, set, plan, split))
    }

    /// Whether the window and the bytes of `channel` allow one more lease.
    fn may_lease(&self, channel: &str, set: &SetState, plan: &SplitPlan, split: u64) -> bool {
        let Some(ends) = self.graph.channels.get(channel) else { return false };
        if is_planted(Bug::NoBackPressure) {
            return true;
        }
        let cursor = self.cursor_split(channel, plan);
        // A split that this consumer has passed costs the channel nothing. The one it stands at
        // is always allowed: without it the consumer can neither go on nor free anything.
        if split <= cursor {
            return true;
        }
        // So is the one that the consumer asks for, beyond the bytes by one split at most: it may
        // have read all that there is before anything told it to checkpoint.
        let asked = self.volatile.asked.get(channel) == Some(&split)
            && self.durable.channels.get(channel).is_none_or(|state| !state.is_over(ends));
        split - cursor < self.window(ends) && (asked || self.has_room(channel, ends, set))
    }

    /// Whether one more split fits, taking every one that is not written yet for the largest yet.
    fn has_room(&self, channel: &str, ends: &ChannelEnds, set: &SetState) -> bool {
        let outstanding = set.leases.len() as u64;
        let state = self.durable.channels.get(channel);
        match state.and_then(|state| state.largest_split_bytes) {
            None => outstanding == 0,
            Some(largest) => {
                let retained = state.map_or(0, |state| state.retained_bytes);
                let promised = largest.saturating_mul(outstanding + 1);
                retained.saturating_add(promised) <= ends.capacity
            }
        }
    }
}

impl Durable {
    pub(super) fn set_is_sealed(&mut self, graph: &Graph, name: &str, count: u64) {
        let feed = graph.feeds.get(name);
        let set = self.sets.entry(name.to_owned()).or_default();
        set.count = Some(count);
        set.is_written = true;
        set.plan = feed.and_then(|feed| SplitPlan::new(&feed.splits, count).ok());
    }

    pub(super) fn split_is_committed(
        &mut self,
        graph: &Graph,
        name: &str,
        split: u64,
        attempt: Attempt,
        outputs: &[Output],
    ) {
        let set = self.sets.entry(name.to_owned()).or_default();
        if let Some(lease) = set.leases.remove(&split) {
            self.members.accept_grant(lease.member, attempt);
        }
        set.first.entry(split).or_insert_with(|| outputs.to_vec());
        for output in outputs {
            let channel = self.channels.entry(output.channel.clone()).or_default();
            channel.retained_bytes += output.bytes;
            channel.largest_split_bytes = channel.largest_split_bytes.max(Some(output.bytes));
        }
        let held = |output: &Output| HeldOutput { output: output.clone(), held: true };
        let outputs = outputs.iter().map(held).collect();
        set.committed.insert(split, CommittedSplit { attempt, outputs });
        self.settle(graph, name);
    }

    pub(super) fn revoke_all(&mut self, graph: &Graph, member: MemberId) {
        let mut leases = Vec::new();
        for (name, set) in &self.sets {
            let theirs = set.leases.iter().filter(|(_, lease)| lease.member == member);
            leases.extend(theirs.map(|(split, _)| (name.clone(), *split)));
        }
        for (set, split) in leases {
            self.revoke(graph, &set, split);
        }
    }

    /// The split must be leased again; what its attempt may have written is garbage.
    pub(super) fn revoke(&mut self, graph: &Graph, name: &str, split: u64) {
        let set = self.sets.entry(name.to_owned()).or_default();
        let Some(lease) = set.leases.remove(&split) else { return };
        set.pending.insert(split);
        let Some(feed) = graph.feeds.get(name).filter(|feed| !feed.outputs.is_empty()) else {
            return;
        };
        if !is_planted(Bug::AbandonedForgotten) {
            set.abandoned.entry(split).or_default().push(lease.attempt);
        }
        for channel in &feed.outputs {
            self.sweeps.push(Garbage::Prefix(attempt_prefix(channel, split, lease.attempt)));
        }
    }

    /// Committed output cannot be read: the split must be leased again.
    pub(super) fn split_is_lost(&mut self, set: &str, split: u64) {
        let set = self.sets.entry(set.to_owned()).or_default();
        set.pending.insert(split);
        let Some(lost) = set.committed.remove(&split) else { return };
        for held in lost.outputs.into_iter().filter(|held| held.held) {
            let channel = self.channels.entry(held.output.channel.clone()).or_default();
            channel.retained_bytes -= held.output.bytes;
            let prefix = attempt_prefix(&held.output.channel, split, lost.attempt);
            self.sweeps.push(Garbage::Prefix(prefix));
        }
    }

    /// Frees what every consumer has passed.
    pub(super) fn settle(&mut self, graph: &Graph, name: &str) {
        let Some(feed) = graph.feeds.get(name) else { return };
        let set = self.sets.entry(name.to_owned()).or_default();
        let Some(plan) = &set.plan else { return };
        let mut passed_by_all = u64::MAX;
        for name in &feed.outputs {
            let channel = self.channels.entry(name.clone()).or_default();
            passed_by_all = passed_by_all.min(channel.passed_splits(plan));
            for splits in channel.passed(plan) {
                for (split, committed) in set.committed.range_mut(splits) {
                    let attempt = committed.attempt;
                    let here = |held: &&mut HeldOutput| held.held && held.output.channel == *name;
                    for held in committed.outputs.iter_mut().filter(here) {
                        held.held = false;
                        channel.retained_bytes -= held.output.bytes;
                        let prefix = attempt_prefix(name, *split, attempt);
                        self.sweeps.push(Garbage::Prefix(prefix));
                    }
                }
            }
        }
        set.committed.retain(|split, _| *split >= passed_by_all);
        set.first.retain(|split, _| *split >= passed_by_all);
        let kept = set.abandoned.split_off(&passed_by_all);
        // A second time, for what late writers left after the first.
        for (split, attempts) in std::mem::replace(&mut set.abandoned, kept) {
            for (attempt, channel) in
                attempts.iter().flat_map(|a| feed.outputs.iter().map(move |c| (a, c)))
            {
                self.sweeps.push(Garbage::Prefix(attempt_prefix(channel, split, *attempt)));
            }
        }
    }
}

impl SetState {
    pub(super) fn lease(&mut self, split: u64, member: MemberId, attempt: Attempt) {
        self.pending.remove(&split);
        self.next = self.next.max(split + 1);
        self.leases.insert(split, LeaseState { member, attempt });
    }

    /// The split to lease next: the lowest that nobody works on.
    fn candidate(&self, plan: &SplitPlan) -> Option<u64> {
        let fresh = (self.next < plan.splits()).then_some(self.next);
        let leased = self.leases.keys().next().filter(|_| is_planted(Bug::LeasedTwice));
        if let Some(split) = leased {
            return Some(*split);
        }
        self.pending.first().copied().or(fresh)
    }

    /// Splits from here on were never leased.
    pub(super) fn next_split(&self) -> u64 {
        self.next
    }

    fn is_done(&self, plan: &SplitPlan) -> bool {
        self.pending_splits(plan) == 0 && self.leases.is_empty() && self.committed.is_empty()
    }

    pub(super) fn pending_splits(&self, plan: &SplitPlan) -> u64 {
        plan.splits() - self.next + self.pending.len() as u64
    }
}

fn granted(plan: &SplitPlan, split: u64, attempt: Attempt) -> LeaseAnswer {
    match plan.split(split) {
        Some(range) => LeaseAnswer::Granted(Grant { split, attempt, range }),
        None => LeaseAnswer::Ended,
    }
}

fn stale_request(call: &Lease) -> Refusal {
    Refusal::new(
        RefusalKind::StaleRequest,
        format!(
            "request {} of member {} was answered and its grant is over; ask with a new number",
            call.request, call.member
        ),
    )
}

fn differs(call: &Commit, before: &str) -> Refusal {
    Refusal::new(
        RefusalKind::Corrupt,
        format!(
            "split {} of set `{}` came out differently than {before}: the task is not \
             deterministic, or memory is faulty; draw randomness from the split's seed only",
            call.split, call.set
        ),
    )
}
