//! A process of a simulated run: what it knows, its calls and its heartbeats.
//!
//! Owns what workers and trainers have in common. May not act on the coordinator's state.
//! Invariant: it repeats a call until it hears the answer, as the real client does.

use super::super::tests::{CHANNEL, SET};
use super::store::Model;
use super::trainer::Reading;
use super::worker::Writing;
use super::{Message, Sim};
use crate::api::*;
use crate::counters::RECORDS;
use crate::covered::Covered;
use crate::split::SplitPlan;

const RESEND_MS: u64 = 300;
/// Of a call that the coordinator holds until it has news.
const RESEND_POLL_MS: u64 = 2500;
const BEAT_MS: u64 = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Worker,
    Trainer,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Register,
    Lease(u64),
    Write(Writing),
    Commit(Grant, Output),
    Return(Grant),
    Open(u64),
    /// Take up the checkpoint, if there is one.
    Restore(Option<CheckpointRecord>),
    Next,
    Read(Reading),
    Lost(Committed),
    /// Until the put of this number is stored.
    Save(u64, CheckpointRecord),
    Checkpoint(CheckpointRecord),
    End,
    Finished,
    Dead,
}

#[derive(Debug)]
pub(super) struct Actor {
    id: u64,
    role: Role,
    pub(super) replica: u32,
    pub(super) member: Option<MemberId>,
    pub(super) step: Step,
    requests: u64,
    /// The number of the call it waits for, when it was first sent, and when to send it again.
    call: u64,
    asked_ms: u64,
    resend_ms: u64,
    beat_ms: u64,
    /// Frozen: not even its heart beats.
    asleep_until_ms: u64,
    /// Its body does nothing, but its heart beats.
    hung_until_ms: u64,
    /// What it has worked on.
    pub(super) counted: u64,
    pub(super) generation: Generation,
    pub(super) model: Model,
    /// What the model has learnt.
    pub(super) covered: Covered,
    /// How much of it a recorded checkpoint holds.
    pub(super) saved: u64,
    puts: u64,
}

impl Role {
    pub(super) fn task(self) -> &'static str {
        match self {
            Self::Worker => "decode",
            Self::Trainer => "train",
        }
    }
}

impl Actor {
    pub(super) fn new(id: u64, role: Role, replica: u32, now_ms: u64) -> Self {
        Self {
            id,
            role,
            replica,
            member: None,
            step: Step::Register,
            requests: 0,
            call: 1,
            asked_ms: now_ms,
            resend_ms: 0,
            beat_ms: now_ms,
            asleep_until_ms: 0,
            hung_until_ms: 0,
            counted: 0,
            generation: Generation(0),
            model: Model::new(),
            covered: Covered::default(),
            saved: 0,
            puts: 0,
        }
    }

    /// Stands in for an actor that is just at work.
    pub(super) fn nobody() -> Self {
        Self::new(0, Role::Worker, 0, 0)
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn identity(&self) -> (Role, u32, u32) {
        (self.role, self.replica, self.pid())
    }

    /// Nothing more is to be expected of it.
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.step, Step::Finished) || self.hung_until_ms == u64::MAX
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(self.step, Step::Dead)
    }

    pub(super) fn describe(&self) -> String {
        let Self { id, role, replica, member, step, generation, saved, .. } = self;
        format!("{id} {role:?} {replica} {member:?} {step:?} {generation} {saved}")
    }

    pub(super) fn freeze(&mut self, until_ms: u64) {
        self.asleep_until_ms = until_ms;
    }

    pub(super) fn hang(&mut self, until_ms: u64) {
        self.hung_until_ms = until_ms;
    }

    fn pid(&self) -> u32 {
        u32::try_from(self.id).unwrap()
    }

    /// Whether it has something to do now.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        let works = match self.step {
            Step::Write(_) | Step::Restore(_) | Step::Read(_) => now_ms >= self.hung_until_ms,
            Step::Save(..) | Step::Finished | Step::Dead => false,
            Step::Register
            | Step::Lease(_)
            | Step::Commit(..)
            | Step::Return(_)
            | Step::Open(_)
            | Step::Next
            | Step::Lost(_)
            | Step::Checkpoint(_)
            | Step::End => now_ms >= self.resend_ms,
        };
        now_ms >= self.asleep_until_ms && (works || now_ms >= self.beat_ms + BEAT_MS)
    }

    /// Beats, does what needs no answer, then asks what it needs to know.
    pub(super) fn act(&mut self, sim: &mut Sim) {
        let now_ms = sim.now_ms;
        if let Some(member) = self.member
            && now_ms >= self.beat_ms + BEAT_MS
            && !matches!(self.step, Step::Finished)
        {
            self.beat_ms = now_ms;
            let counters = Counters::from([(RECORDS.to_owned(), self.counted)]);
            let command = Heartbeat { member, counters }.into();
            sim.send(Message::Call { from: self.id, call: 0, command });
        }
        if now_ms >= self.hung_until_ms {
            match self.step.clone() {
                Step::Write(writing) => self.write(sim, writing),
                Step::Restore(record) => self.restore(sim, record),
                Step::Read(reading) => self.read(sim, reading),
                Step::Register
                | Step::Lease(_)
                | Step::Commit(..)
                | Step::Return(_)
                | Step::Open(_)
                | Step::Next
                | Step::Lost(_)
                | Step::Save(..)
                | Step::Checkpoint(_)
                | Step::End
                | Step::Finished
                | Step::Dead => {}
            }
        }
        if now_ms >= self.resend_ms
            && let Some(command) = self.command(&sim.plan)
        {
            let held = matches!(self.step, Step::Lease(_) | Step::Next);
            self.resend_ms = now_ms + if held { RESEND_POLL_MS } else { RESEND_MS };
            sim.send(Message::Call { from: self.id, call: self.call, command });
        }
    }

    fn command(&self, plan: &SplitPlan) -> Option<Command> {
        let (set, channel, generation) = (SET.to_owned(), CHANNEL.to_owned(), self.generation);
        if let Step::Register = self.step {
            let (task, replica, pid) = (self.role.task().into(), self.replica, self.pid());
            let nonce = self.id;
            return Some(Register { task, replica, pid, address: None, nonce }.into());
        }
        let member = self.member?;
        Some(match self.step.clone() {
            Step::Lease(request) => Lease { member, set, request }.into(),
            Step::Commit(Grant { split, attempt, .. }, output) => {
                Commit { member, set, split, attempt, outputs: vec![output] }.into()
            }
            Step::Return(Grant { split, attempt, .. }) => {
                Return { member, set, split, attempt }.into()
            }
            Step::Open(request) => {
                // Some consumers lose what the splits did elsewhere, whenever they begin again.
                let afresh = self.id.is_multiple_of(8);
                OpenConsumer { member, channel, request, afresh }.into()
            }
            Step::Next => {
                let held = &self.covered;
                let split = plan.split_of(held.cursor());
                let taken = held.beyond().iter().flat_map(|run| plan.splits_within(run)).collect();
                Next { channel, generation, split, taken }.into()
            }
            Step::Lost(Committed { split, attempt, .. }) => {
                Lost { channel, generation, split, attempt }.into()
            }
            Step::Checkpoint(record) => Checkpoint { channel, generation, record }.into(),
            Step::End => End { member, outcome: Outcome::Done, counters: Counters::new() }.into(),
            Step::Register
            | Step::Write(_)
            | Step::Restore(_)
            | Step::Read(_)
            | Step::Save(..)
            | Step::Finished
            | Step::Dead => return None,
        })
    }

    pub(super) fn hear(&mut self, sim: &mut Sim, call: u64, answer: Result<Reply, Refusal>) {
        if sim.now_ms < self.asleep_until_ms || self.is_dead() {
            return;
        }
        match answer {
            // Call 0 is a heartbeat, whose refusal alone matters.
            Ok(_) if call != self.call => {}
            Ok(reply) => {
                if let Some(member) = self.member {
                    self.may_be_answered(sim, member);
                }
                self.go_on(sim, reply);
            }
            Err(refusal) if call == self.call || call == 0 => self.refused(sim, &refusal),
            Err(_) => {}
        }
    }

    fn may_be_answered(&self, sim: &Sim, member: MemberId) {
        match self.role {
            Role::Worker => sim.judge.worker_was_answered(self.replica, member, self.asked_ms),
            // Until it has opened the channel nobody is kept out.
            Role::Trainer if self.generation == Generation(0) => {}
            Role::Trainer => sim.judge.trainer_was_answered(self.generation, self.asked_ms),
        }
    }

    pub(super) fn turn(&mut self, sim: &Sim, step: Step) {
        self.step = step;
        self.call += 1;
        self.asked_ms = sim.now_ms;
        self.resend_ms = 0;
    }

    /// The coordinator held the call and had no news.
    pub(super) fn ask_again(&mut self, sim: &Sim) {
        let step = self.step.clone();
        self.turn(sim, step);
    }

    pub(super) fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Sends an object to the store, and answers the number that its arrival is told by.
    pub(super) fn put(&mut self, sim: &mut Sim, put: super::Put) -> u64 {
        self.puts += 1;
        sim.send(Message::Put { from: self.id, number: self.puts, put });
        self.puts
    }

    /// The store has the put of this number.
    pub(super) fn stored(&mut self, sim: &Sim, number: u64) {
        if let Step::Write(writing) = &mut self.step {
            writing.stored(number);
        }
        if let Step::Save(awaited, record) = &self.step
            && *awaited == number
        {
            let record = record.clone();
            self.turn(sim, Step::Checkpoint(record));
        }
    }

    fn go_on(&mut self, sim: &mut Sim, reply: Reply) {
        match (self.step.clone(), reply) {
            (Step::Register, Reply::Registered(Registered { member })) => {
                self.member = Some(member);
                sim.judge.registered(self.identity(), member, sim.now_ms);
                let request = self.next_request();
                self.turn(
                    sim,
                    match self.role {
                        Role::Worker => Step::Lease(request),
                        Role::Trainer => Step::Open(request),
                    },
                );
            }
            (Step::End, Reply::Accepted(_)) => self.turn(sim, Step::Finished),
            (step, reply) => match self.role {
                Role::Worker => self.work_on(sim, step, reply),
                Role::Trainer => self.train_on(sim, step, reply),
            },
        }
    }

    fn refused(&mut self, sim: &mut Sim, refusal: &Refusal) {
        match (refusal.kind, self.step.clone()) {
            (RefusalKind::MemberExpired | RefusalKind::StaleGeneration, _) => {
                self.step = Step::Dead;
            }
            (RefusalKind::StaleAttempt, Step::Commit(grant, _)) => self.discard(sim, &grant),
            (RefusalKind::StaleRequest, Step::Lease(_)) => self.lease_next(sim),
            (_, step) => panic!("seed {}: {step:?} was refused: {refusal:?}", sim.seed),
        }
    }
}
