//! Each rule of the state, alone, and the promise that replay rebuilds it.
//!
//! Owns the [`Rig`] that plays members against a state. May not know the journal or sockets.
//! Invariant: when a rig ends, its events are replayed and give the same durable state.

mod consumers;
mod leases;
mod members;
mod replay;
mod resume;
mod unordered;

use std::sync::Arc;
use std::time::Duration;

use super::{Durable, Event, Graph, State, Timeouts};
use crate::api::*;
use crate::spec::AppSpec;
use crate::spec::tests::example;
use crate::split::SplitSpec;

pub(super) const SET: &str = "train";
pub(super) const CHANNEL: &str = "batches";

/// 64 records, 16 batches, 8 splits; a window of 4 splits.
pub(super) fn small() -> SplitSpec {
    SplitSpec { batch: 4, batches_per_split: 2, window: 4, ..SplitSpec::default() }
}

pub(super) struct Rig {
    pub(super) state: State,
    pub(super) now: Duration,
    graph: Arc<Graph>,
    events: Vec<Event>,
    requests: u64,
}

impl Rig {
    /// An application whose channel holds `capacity` bytes.
    pub(super) fn new(capacity: u64, splits: SplitSpec) -> Self {
        Self::of(&example(capacity, splits))
    }

    /// The same with a channel that is read in any order, and the set sealed.
    pub(super) fn unordered(capacity: u64) -> Self {
        let mut spec = example(capacity, small());
        spec.channels[0].unordered = true;
        let mut rig = Self::of(&spec);
        rig.ok(SealSet { set: SET.into(), count: 64 });
        rig
    }

    fn of(spec: &AppSpec) -> Self {
        let graph = Arc::new(Graph::new(spec).unwrap());
        let mut state = State::recover(graph.clone(), Timeouts::default(), None, []);
        let events = state.boot(Duration::ZERO, false);
        Self { state, now: Duration::ZERO, graph, events, requests: 0 }
    }

    /// The same with the set sealed.
    pub(super) fn sealed(capacity: u64) -> Self {
        let mut rig = Self::new(capacity, small());
        rig.ok(SealSet { set: SET.into(), count: 64 });
        rig
    }

    pub(super) fn handle(&mut self, command: impl Into<Command>) -> Result<Reply, Refusal> {
        let decision = self.state.handle(self.now, &command.into())?;
        self.events.extend(decision.events);
        Ok(decision.reply)
    }

    pub(super) fn ok(&mut self, command: impl Into<Command>) -> Reply {
        self.handle(command).unwrap()
    }

    pub(super) fn refused(&mut self, command: impl Into<Command>) -> RefusalKind {
        let refusal = self.handle(command).unwrap_err();
        assert!(!refusal.message.contains('\n'), "{}", refusal.message);
        refusal.kind
    }

    /// Lets `seconds` pass in ticks of half a second.
    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.now += Duration::from_millis(500);
            self.events.extend(self.state.tick(self.now));
        }
    }

    /// The coordinator is killed and starts again on its events.
    pub(super) fn restart(&mut self) {
        self.boot(false);
    }

    /// So is everybody else, and the run is resumed.
    pub(super) fn resume(&mut self) {
        self.boot(true);
    }

    fn boot(&mut self, resumes: bool) {
        let events = self.events.iter();
        self.state = State::recover(self.graph.clone(), Timeouts::default(), None, events);
        self.now = Duration::ZERO;
        self.events.extend(self.state.boot(self.now, resumes));
    }

    pub(super) fn process(task: &str, replica: u32, pid: u32) -> Register {
        Register { task: task.into(), replica, pid, address: None, nonce: u64::from(pid) }
    }

    pub(super) fn register(&mut self, call: Register) -> MemberId {
        match self.ok(call) {
            Reply::Registered(registered) => registered.member,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn worker(&mut self, replica: u32) -> MemberId {
        self.register(Self::process("decode", replica, 100 + replica))
    }

    pub(super) fn beat(&mut self, member: MemberId) -> Result<bool, RefusalKind> {
        match self.handle(Heartbeat { member, counters: Counters::new() }) {
            Ok(Reply::Beat(beat)) => Ok(beat.stop),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.kind),
        }
    }

    /// A beat of a worker that has counted so many records.
    pub(super) fn count(&mut self, member: MemberId, records: u64) {
        let counters = Counters::from([("records".to_owned(), records)]);
        self.ok(Heartbeat { member, counters });
    }

    /// Lets `seconds` pass in which a member beats and counts nothing.
    pub(super) fn pass_idle(&mut self, seconds: u64, member: MemberId, records: u64) {
        for _ in 0..seconds {
            self.count(member, records);
            self.pass(1);
        }
    }

    pub(super) fn lease(&mut self, member: MemberId) -> LeaseAnswer {
        self.requests += 1;
        let request = self.requests;
        match self.ok(Lease { member, set: SET.into(), request }) {
            Reply::Lease(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn grant(&mut self, member: MemberId) -> Grant {
        match self.lease(member) {
            LeaseAnswer::Granted(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    /// The commit of a grant with `bytes` of output whose checksum follows from the split.
    pub(super) fn commit_of(member: MemberId, grant: &Grant, bytes: u64) -> Commit {
        let output = Output {
            channel: CHANNEL.into(),
            batches: grant.range.batches,
            bytes,
            checksum: u32::try_from(grant.split).unwrap() + 1000,
        };
        let (split, attempt) = (grant.split, grant.attempt);
        Commit { member, set: SET.into(), split, attempt, outputs: vec![output] }
    }

    /// Leases and commits the next split.
    pub(super) fn produce(&mut self, member: MemberId, bytes: u64) -> Grant {
        let grant = self.grant(member);
        self.ok(Self::commit_of(member, &grant, bytes));
        grant
    }

    pub(super) fn trainer(&mut self, pid: u32) -> MemberId {
        self.register(Self::process("train", 0, pid))
    }

    pub(super) fn open(&mut self, member: MemberId) -> Opened {
        self.requests += 1;
        let request = self.requests;
        match self.ok(OpenConsumer { member, channel: CHANNEL.into(), request, afresh: false }) {
            Reply::Opened(opened) => opened,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn next(&mut self, generation: Generation, split: u64) -> NextAnswer {
        match self.ok(Next { channel: CHANNEL.into(), generation, split, taken: Vec::new() }) {
            Reply::Next(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn delivered(&mut self, generation: Generation, split: u64) -> Committed {
        match self.next(generation, split) {
            NextAnswer::Committed(committed) => committed,
            other => panic!("{other:?}"),
        }
    }

    /// A checkpoint under a key of its own.
    pub(super) fn checkpoint_of(generation: Generation, cursor: u64) -> Checkpoint {
        let key = format!("model.{}.{cursor}", generation.0);
        let beyond = Vec::new();
        let record = CheckpointRecord { cursor, beyond, key, version: 1, bytes: 10, checksum: 1 };
        Checkpoint { channel: CHANNEL.into(), generation, record }
    }

    pub(super) fn garbage(&self) -> Vec<Garbage> {
        self.state.pending_sweeps(usize::MAX).into_iter().map(|sweep| sweep.what).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut replayed = Durable::default();
        for event in &self.events {
            replayed.apply(&self.graph, event);
        }
        assert_eq!(&replayed, self.state.durable(), "replay gives another state");
    }
}
