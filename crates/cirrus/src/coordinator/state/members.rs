//! Which processes are members, and what they were granted.
//!
//! Owns registration, heartbeats and endings. May not know what splits or channels mean.
//! Invariant: a task's replica has at most one live member, and an id is never reused.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::graph::memory_pool;
use super::{Decided, Decision, Durable, Event, Graph, State};
use crate::api::{
    Attempt, Beat, Counters, End, Heartbeat, MemberGone, MemberId, Outcome, Refusal, RefusalKind,
    Register, Registered, Reply,
};
use crate::coordinator::plant::{Bug, is_planted};
use crate::coordinator::status::Ending;

/// Ended members that are remembered by name; older ones live on in their task's counters.
const ENDED_MAX: usize = 4096;
/// Grants a member may hold, and that are remembered for repeats.
pub(super) const GRANTS_MAX: usize = 64;
const COUNTERS_MAX: usize = 64;
const COUNTER_NAME_LEN_MAX: usize = 64;
const ADDRESS_LEN_MAX: usize = 256;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Members {
    last: u64,
    all: BTreeMap<MemberId, Member>,
    /// Counters of members that were forgotten, by task.
    pub(super) forgotten: BTreeMap<String, Counters>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) call: Register,
    pub(super) ending: Option<Ending>,
    /// Its final ones; empty while it lives.
    pub(super) counters: Counters,
    grants: VecDeque<GrantRecord>,
}

/// A grant as it is remembered for repeats of its request and of its commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GrantRecord {
    pub(super) request: u64,
    pub(super) set: String,
    pub(super) split: u64,
    pub(super) attempt: Attempt,
    /// Its commit was accepted.
    pub(super) accepted: bool,
}

impl State {
    /// The member, if it still is one.
    pub(super) fn live_member(&self, id: MemberId) -> Result<&Member, Refusal> {
        let why = match self.durable.members.all.get(&id) {
            Some(member) => match &member.ending {
                None => return Ok(member),
                Some(_) if is_planted(Bug::NoMemberFence) => return Ok(member),
                Some(Ending::Done) => "it said that it was done",
                Some(Ending::Failed { .. }) => "it said that it failed",
                Some(Ending::Expired) => "its heartbeats stopped",
                Some(Ending::Gone) => "its process was seen to exit",
                Some(Ending::Replaced) => "another process took its place",
            },
            None => "it never registered here",
        };
        Err(Refusal::new(
            RefusalKind::MemberExpired,
            format!("member {id} is not one any more: {why}; this process must end"),
        ))
    }

    pub(super) fn register(&self, call: &Register) -> Decided {
        self.graph.task(&call.task)?;
        check_node(call)?;
        let members = &self.durable.members;
        let same = |member: &Member| {
            member.call.task == call.task
                && member.call.replica == call.replica
                && member.call.nonce == call.nonce
        };
        if let Some((id, _)) = members.all.iter().find(|(_, member)| same(member)) {
            self.live_member(*id)?;
            return Ok(Decision::reply(Reply::Registered(Registered { member: *id })));
        }
        let mut events = Vec::new();
        let takes_place =
            |member: &Member| member.call.task == call.task && member.call.replica == call.replica;
        for (id, _) in members.live().filter(|(_, member)| takes_place(member)) {
            events.push(self.ended(id, Ending::Replaced));
        }
        let member = MemberId(members.last + 1);
        events.push(Event::Registered { member, call: call.clone() });
        Ok(Decision { events, reply: Reply::Registered(Registered { member }) })
    }

    pub(super) fn heartbeat(&self, call: &Heartbeat) -> Decided {
        self.live_member(call.member)?;
        check_counters(&call.counters)?;
        Ok(Decision::reply(Reply::Beat(Beat { stop: self.durable.stopping })))
    }

    /// By process and not by member, because an engine knows no more; the process id keeps a late
    /// word about one process from ending its successor.
    pub(super) fn member_gone(&self, call: &MemberGone) -> Decision {
        let is_it = |member: &Member| {
            member.call.task == call.task
                && member.call.replica == call.replica
                && member.call.pid == call.pid
        };
        let gone = self.durable.members.live().filter(|(_, member)| is_it(member));
        Decision::accepted(gone.map(|(id, _)| self.ended(id, Ending::Gone)).collect())
    }

    pub(super) fn end(&self, call: &End) -> Decided {
        check_counters(&call.counters)?;
        let ending = match &call.outcome {
            Outcome::Done => Ending::Done,
            Outcome::Failed { kind, message, retryable } => {
                Ending::Failed { kind: *kind, message: message.clone(), retryable: *retryable }
            }
        };
        let known = self.durable.members.all.get(&call.member);
        if known.is_some_and(|member| member.ending.as_ref() == Some(&ending)) {
            return Ok(Decision::accepted(Vec::new()));
        }
        self.live_member(call.member)?;
        let event = match self.ended(call.member, ending) {
            Event::Ended { member, ending, .. } if !call.counters.is_empty() => {
                Event::Ended { member, ending, counters: call.counters.clone() }
            }
            event => event,
        };
        Ok(Decision::accepted(vec![event]))
    }

    pub(super) fn expired(&self, member: MemberId) -> Event {
        self.ended(member, Ending::Expired)
    }

    fn ended(&self, member: MemberId, ending: Ending) -> Event {
        let counters = self.volatile.counters.get(&member).cloned().unwrap_or_default();
        Event::Ended { member, ending, counters }
    }
}

impl Durable {
    pub(super) fn member_ends(
        &mut self,
        graph: &Graph,
        id: MemberId,
        ending: &Ending,
        counters: &Counters,
    ) {
        let Some(call) = self.members.end(id, ending, counters) else { return };
        self.node_leaves(id, &call);
        self.revoke_all(graph, id);
        if *ending == Ending::Done {
            self.reader_is_done(graph, &call.task);
        }
    }
}

impl Members {
    pub(super) fn live(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        self.all().filter(|(_, member)| member.ending.is_none())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        self.all.iter().map(|(id, member)| (*id, member))
    }

    pub(super) fn add(&mut self, id: MemberId, call: &Register) {
        self.last = id.0;
        let member = Member {
            call: call.clone(),
            ending: None,
            counters: Counters::new(),
            grants: VecDeque::new(),
        };
        self.all.insert(id, member);
    }

    pub(super) fn add_grant(
        &mut self,
        id: MemberId,
        request: u64,
        set: &str,
        split: u64,
        attempt: Attempt,
    ) {
        let Some(member) = self.all.get_mut(&id) else { return };
        if member.grants.len() >= GRANTS_MAX {
            member.grants.pop_front();
        }
        let set = set.to_owned();
        member.grants.push_back(GrantRecord { request, set, split, attempt, accepted: false });
    }

    pub(super) fn accept_grant(&mut self, id: MemberId, attempt: Attempt) {
        let Some(member) = self.all.get_mut(&id) else { return };
        for grant in member.grants.iter_mut().filter(|grant| grant.attempt == attempt) {
            grant.accepted = true;
        }
    }

    fn end(&mut self, id: MemberId, ending: &Ending, counters: &Counters) -> Option<Register> {
        let member = self.all.get_mut(&id)?;
        member.ending = Some(ending.clone());
        member.counters = counters.clone();
        let call = member.call.clone();
        self.forget_oldest();
        Some(call)
    }

    /// All of them, with what they said who they are; their counters stay in their tasks'.
    pub(super) fn forget_all(&mut self) -> Vec<(MemberId, Register)> {
        let all = std::mem::take(&mut self.all);
        for member in all.values() {
            let sum = self.forgotten.entry(member.call.task.clone()).or_default();
            add_counters(sum, &member.counters);
        }
        all.into_iter().map(|(id, member)| (id, member.call)).collect()
    }

    fn forget_oldest(&mut self) {
        let ended = |(_, member): &(&MemberId, &Member)| member.ending.is_some();
        if self.all.iter().filter(ended).count() <= ENDED_MAX {
            return;
        }
        let oldest = self.all.iter().find(ended).map(|(id, _)| *id);
        if let Some(member) = oldest.and_then(|id| self.all.remove(&id)) {
            add_counters(self.forgotten.entry(member.call.task).or_default(), &member.counters);
        }
    }
}

impl Member {
    pub(super) fn grant_of_request(&self, request: u64) -> Option<&GrantRecord> {
        self.grants.iter().find(|grant| grant.request == request)
    }

    /// Whether a grant of `request` may have been forgotten.
    pub(super) fn is_before_memory(&self, request: u64) -> bool {
        let oldest = self.grants.iter().map(|grant| grant.request).min();
        self.grants.len() >= GRANTS_MAX && oldest.is_some_and(|oldest| request < oldest)
    }

    pub(super) fn has_accepted(&self, attempt: Attempt) -> bool {
        self.grants.iter().any(|grant| grant.attempt == attempt && grant.accepted)
    }
}

pub(super) fn add_counters(sum: &mut Counters, counters: &Counters) {
    for (name, value) in counters {
        let total = sum.entry(name.clone()).or_default();
        *total = total.saturating_add(*value);
    }
}

fn check_node(call: &Register) -> Result<(), Refusal> {
    if memory_pool(&call.task).is_none() {
        return Ok(());
    }
    let address = call.address.as_deref().unwrap_or_default();
    if address.is_empty() || address.len() > ADDRESS_LEN_MAX || u16::try_from(call.replica).is_err()
    {
        return Err(Refusal::new(
            RefusalKind::Input,
            format!(
                "`{}` replica {} needs the address it listens on and a replica below 65536",
                call.task, call.replica
            ),
        ));
    }
    Ok(())
}

fn check_counters(counters: &Counters) -> Result<(), Refusal> {
    let long = counters.keys().find(|name| name.len() > COUNTER_NAME_LEN_MAX);
    if counters.len() > COUNTERS_MAX || long.is_some() {
        return Err(Refusal::new(
            RefusalKind::TooLarge,
            format!(
                "a member may have {COUNTERS_MAX} counters with names of {COUNTER_NAME_LEN_MAX} \
                 B; it sent {}",
                counters.len()
            ),
        ));
    }
    Ok(())
}
