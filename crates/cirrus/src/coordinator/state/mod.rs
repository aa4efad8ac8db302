//! The coordinator's mind: what is so, what may happen next, and what follows from it.
//!
//! Owns every rule of membership, leases, commits and checkpoints. May not know I/O, clocks or
//! randomness: time is an argument. Invariant: replaying its events rebuilds it exactly.
//!
//! [`State::handle`] decides a command and applies its events; the caller makes the events durable
//! before it lets the reply out. Deadlines and the counters of live members are volatile: they
//! start afresh after a restart, and nothing durable depends on them.

mod channels;
mod deadlines;
mod event;
mod feeds;
mod graph;
mod members;
mod next;
mod pools;
mod read;
mod resume;
mod sweeps;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::channels::ChannelState;
use self::deadlines::Deadlines;
use self::feeds::SetState;
use self::graph::Feed;
use self::members::Members;
use self::sweeps::Sweeps;
use crate::api::{
    Accepted, Command, Counters, Garbage, MemberId, PoolView, Refusal, RefusalKind, Reply,
};
use crate::api::{Heartbeat, Report, RequestStop, Swept};
use crate::counters::{CPU_US, RESIDENT_MAX};

pub(crate) use self::deadlines::Timeouts;
pub(crate) use self::event::Event;
pub(crate) use self::graph::Graph;

const REPORTS_MAX: usize = 4096;
const REPORT_KEY_LEN_MAX: usize = 256;
const REPORT_JSON_LEN_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct State {
    graph: Arc<Graph>,
    timeouts: Timeouts,
    durable: Durable,
    volatile: Volatile,
}

/// What the journal's events add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Durable {
    boots: u64,
    stopping: bool,
    members: Members,
    pools: BTreeMap<String, PoolView>,
    sets: BTreeMap<String, SetState>,
    channels: BTreeMap<String, ChannelState>,
    /// The last attempt token given out.
    attempts: u64,
    /// (task, replica, key) to JSON text.
    reports: BTreeMap<(String, u32, String), String>,
    sweeps: Sweeps,
}

/// What a restart forgets.
#[derive(Debug, Default)]
struct Volatile {
    deadlines: Deadlines,
    counters: BTreeMap<MemberId, Counters>,
    /// The split that each channel's consumer asked for last.
    asked: BTreeMap<String, u64>,
}

/// What a command leads to.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) events: Vec<Event>,
    pub(crate) reply: Reply,
}

type Decided = Result<Decision, Refusal>;

impl Decision {
    fn reply(reply: Reply) -> Self {
        Self { events: Vec::new(), reply }
    }

    fn accepted(events: Vec<Event>) -> Self {
        Self { events, reply: Reply::Accepted(Accepted {}) }
    }
}

impl State {
    /// The state that a snapshot and the events after it add up to. Call [`State::boot`] next.
    pub(crate) fn recover<'a>(
        graph: Arc<Graph>,
        timeouts: Timeouts,
        snapshot: Option<Durable>,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Self {
        let durable = snapshot.unwrap_or_default();
        let mut state = Self { graph, timeouts, durable, volatile: Volatile::default() };
        for event in events {
            state.apply(event);
        }
        state
    }

    /// The coordinator starts: known members and leases get their whole time, so that the job just
    /// goes on. If it `resumes` a run, nobody is left of its former life.
    pub(crate) fn boot(&mut self, now: Duration, resumes: bool) -> Vec<Event> {
        let events = [resumes.then_some(Event::Resumed), Some(Event::Booted)];
        let events: Vec<Event> = events.into_iter().flatten().collect();
        events.iter().for_each(|event| self.apply(event));
        let mut deadlines = Deadlines::booted(now);
        for (member, _) in self.durable.members.live() {
            deadlines.member_was_heard(now, member);
        }
        for (name, set) in &self.durable.sets {
            set.leases.keys().for_each(|split| deadlines.lease_moved(now, name, *split));
        }
        self.volatile = Volatile { deadlines, ..Volatile::default() };
        events
    }

    /// Decides `command` and applies what follows. The events must be durable before the reply,
    /// or any later one, is let out.
    pub(crate) fn handle(&mut self, now: Duration, command: &Command) -> Decided {
        let decision = self.decide(command)?;
        if let Command::Heartbeat(beat) = command {
            self.beats(now, beat);
        }
        if let Command::Next(next) = command {
            self.volatile.asked.insert(next.channel.clone(), next.split);
        }
        self.take(now, &decision.events);
        Ok(decision)
    }

    /// The split that the channel's consumer asked for last: what may be leased depends on it.
    pub(crate) fn asked(&self, channel: &str) -> Option<u64> {
        self.volatile.asked.get(channel).copied()
    }

    /// Expires members whose heartbeats stopped, and revokes leases that stand still though their
    /// members live. Call it about every heartbeat interval.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Event> {
        if self.volatile.deadlines.tick(now, &self.timeouts) {
            return Vec::new();
        }
        let silent = self.volatile.deadlines.silent_members(now, &self.timeouts);
        let mut events: Vec<Event> = silent.into_iter().map(|id| self.expired(id)).collect();
        self.take(now, &events);
        let idle = self.volatile.deadlines.idle_leases(now, &self.timeouts);
        let idle = idle.into_iter().filter(|(set, split)| self.is_leased(set, *split));
        let revoked: Vec<Event> = idle.map(|(set, split)| Event::Revoked { set, split }).collect();
        self.take(now, &revoked);
        events.extend(revoked);
        events
    }

    /// What `command` would lead to; changes nothing.
    pub(crate) fn decide(&self, command: &Command) -> Decided {
        match command {
            Command::Register(call) => self.register(call),
            Command::Heartbeat(call) => self.heartbeat(call),
            Command::MemberGone(call) => Ok(self.member_gone(call)),
            Command::End(call) => self.end(call),
            Command::SealSet(call) => self.seal_set(call),
            Command::Lease(call) => self.lease(call),
            Command::Commit(call) => self.commit(call),
            Command::Return(call) => self.give_back(call),
            Command::OpenConsumer(call) => self.open_consumer(call),
            Command::Next(call) => self.next(call),
            Command::Checkpoint(call) => self.checkpoint(call),
            Command::Lost(call) => self.lost(call),
            Command::Report(call) => self.report(call),
            Command::RequestStop(RequestStop {}) => Ok(self.request_stop()),
            Command::Swept(call) => Ok(self.swept(call)),
        }
    }

    /// Makes `event` so. Deterministic; deadlines are not touched.
    pub(crate) fn apply(&mut self, event: &Event) {
        self.durable.apply(&self.graph, event);
    }

    /// What a snapshot holds.
    pub(crate) fn durable(&self) -> &Durable {
        &self.durable
    }

    fn take(&mut self, now: Duration, events: &[Event]) {
        for event in events {
            self.apply(event);
            self.follow(now, event);
        }
    }

    /// Keeps deadlines in step with members and leases.
    fn follow(&mut self, now: Duration, event: &Event) {
        let deadlines = &mut self.volatile.deadlines;
        match event {
            Event::Registered { member, .. } => deadlines.member_was_heard(now, *member),
            Event::Ended { member, .. } => {
                deadlines.member_ended(*member);
                self.volatile.counters.remove(member);
            }
            Event::Leased { member, set, split, .. } => {
                deadlines.lease_was_granted(now, *member, set, *split);
            }
            Event::Revoked { set, split } => deadlines.lease_ran_out(set, *split),
            Event::Committed { set, split, .. } => deadlines.split_is_committed(set, *split),
            Event::Booted
            | Event::SetSealed { .. }
            | Event::Returned { .. }
            | Event::ConsumerOpened { .. }
            | Event::Delivered { .. }
            | Event::Checkpointed { .. }
            | Event::Lost { .. }
            | Event::Reported { .. }
            | Event::StopRequested
            | Event::Swept { .. }
            | Event::Discarded { .. }
            | Event::Resumed => {}
        }
    }

    /// The member lives; if its counters grew, so did what it does with its leases. Processor time
    /// and memory do not count: a closure that never returns takes them, too.
    fn beats(&mut self, now: Duration, call: &Heartbeat) {
        let sum = |counters: &Counters| {
            let counts =
                counters.iter().filter(|(name, _)| *name != CPU_US && *name != RESIDENT_MAX);
            counts.fold(0u64, |sum, (_, count)| sum.saturating_add(*count))
        };
        let Volatile { deadlines, counters, .. } = &mut self.volatile;
        deadlines.member_was_heard(now, call.member);
        let (before, told) = (counters.get(&call.member).map(sum), sum(&call.counters));
        if before > Some(told) {
            // One that comes late.
            return;
        }
        counters.insert(call.member, call.counters.clone());
        if before == Some(told) {
            return;
        }
        let member = self.durable.members.live().find(|(id, _)| *id == call.member);
        for (name, set) in &self.durable.sets {
            let works = |feed: &Feed| member.is_some_and(|(_, m)| m.call.task == feed.worker);
            if self.graph.feeds.get(name).is_some_and(works) {
                deadlines.worker_went_on(now, call.member, name);
            }
            let theirs = set.leases.iter().filter(|(_, lease)| lease.member == call.member);
            theirs.for_each(|(split, _)| deadlines.lease_moved(now, name, *split));
        }
    }

    fn report(&self, call: &Report) -> Decided {
        let member = self.live_member(call.member)?;
        let (task, replica) = (member.call.task.clone(), member.call.replica);
        let json = call.value.to_string();
        if call.key.len() > REPORT_KEY_LEN_MAX || json.len() > REPORT_JSON_LEN_MAX {
            return Err(Refusal::new(
                RefusalKind::TooLarge,
                format!(
                    "report `{:.64}` of task `{task}` is over {REPORT_KEY_LEN_MAX} B of key or \
                     {REPORT_JSON_LEN_MAX} B of JSON; write it to a set instead",
                    call.key
                ),
            ));
        }
        let place = (task, replica, call.key.clone());
        let known = self.durable.reports.get(&place);
        if known.is_none() && self.durable.reports.len() >= REPORTS_MAX {
            return Err(Refusal::new(
                RefusalKind::TooLarge,
                format!("there are {REPORTS_MAX} reports; report `{}` again instead", call.key),
            ));
        }
        if known == Some(&json) {
            return Ok(Decision::accepted(Vec::new()));
        }
        let (task, replica, key) = place;
        Ok(Decision::accepted(vec![Event::Reported { task, replica, key, json }]))
    }

    fn request_stop(&self) -> Decision {
        let events = if self.durable.stopping { vec![] } else { vec![Event::StopRequested] };
        Decision::accepted(events)
    }

    fn swept(&self, call: &Swept) -> Decision {
        let queued = |sweep: &&u64| self.durable.sweeps.contains(**sweep);
        let sweeps: Vec<u64> = call.sweeps.iter().filter(queued).copied().collect();
        let events = if sweeps.is_empty() { vec![] } else { vec![Event::Swept { sweeps }] };
        Decision::accepted(events)
    }
}

impl Durable {
    fn apply(&mut self, graph: &Graph, event: &Event) {
        match event {
            Event::Booted => {
                self.boots += 1;
                // A stop is over once everybody ended: whoever comes now is there to go on.
                self.stopping &= self.members.live().next().is_some();
            }
            Event::Registered { member, call } => {
                self.members.add(*member, call);
                self.node_joins(*member, call);
            }
            Event::Ended { member, ending, counters } => {
                self.member_ends(graph, *member, ending, counters);
            }
            Event::SetSealed { set, count } => self.set_is_sealed(graph, set, *count),
            Event::Leased { member, request, set, split, attempt } => {
                self.members.add_grant(*member, *request, set, *split, *attempt);
                self.attempts = attempt.0;
                let set = self.sets.entry(set.clone()).or_default();
                set.lease(*split, *member, *attempt);
            }
            Event::Returned { set, split } => self.revoke(graph, set, *split),
            Event::Committed { set, split, attempt, outputs } => {
                self.split_is_committed(graph, set, *split, *attempt, outputs);
            }
            Event::ConsumerOpened { channel, member, request, generation } => {
                self.consumer_opens(graph, channel, (*member, *request), *generation);
            }
            Event::Delivered { channel, split, attempt } => {
                let channel = self.channels.entry(channel.clone()).or_default();
                channel.deliver(*split, *attempt);
            }
            Event::Checkpointed { channel, record } => {
                self.checkpoint_is_durable(graph, channel, record);
            }
            Event::Lost { set, split } => self.split_is_lost(set, *split),
            Event::Reported { task, replica, key, json } => {
                self.reports.insert((task.clone(), *replica, key.clone()), json.clone());
            }
            Event::StopRequested => self.stopping = true,
            Event::Swept { sweeps } => self.sweeps.remove(sweeps),
            Event::Revoked { set, split } => self.revoke(graph, set, *split),
            Event::Discarded { prefix } => self.sweeps.push(Garbage::Prefix(prefix.clone())),
            Event::Resumed => self.resumes(graph),
        }
    }
}
