//! A worker or a trainer of the simulation, one call at a time.
//!
//! Owns what a process knows, and forgets with it. May not act on the coordinator's state.
//! Invariant: it repeats a call until it hears the answer, as the real client does.

use super::super::tests::{CHANNEL, SET};
use super::{Dice, Sim};
use crate::api::*;
use crate::coordinator::keys::batch_key;
use crate::split::SplitPlan;

const RESEND_MS: u64 = 300;
const BEAT_MS: u64 = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Worker,
    Trainer,
}

#[derive(Debug, Clone)]
enum Step {
    Register,
    Lease(u64),
    Write(Grant),
    Commit(Grant),
    Open(u64),
    Next,
    /// Take up the checkpoint, if there is one.
    Restore(Option<CheckpointRecord>),
    Read(Committed),
    Lost(Committed),
    Save,
    Checkpoint(CheckpointRecord),
    End,
    Finished,
    Dead,
}

pub(super) struct Actor {
    id: u64,
    role: Role,
    replica: u32,
    member: Option<MemberId>,
    step: Step,
    requests: u64,
    /// The number of the call it waits for, and when to send it again.
    call: u64,
    resend_ms: u64,
    beat_ms: u64,
    asleep_until_ms: u64,
    generation: Generation,
    /// The global batches consumed, in order: its length is the cursor.
    model: Vec<u64>,
    saved: u64,
    saves: u64,
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
            resend_ms: 0,
            beat_ms: now_ms,
            asleep_until_ms: 0,
            generation: Generation(0),
            model: Vec::new(),
            saved: 0,
            saves: 0,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn identity(&self) -> (Role, u32, u32) {
        (self.role, self.replica, self.pid())
    }

    pub(super) fn is_finished(&self) -> bool {
        matches!(self.step, Step::Finished)
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

    fn pid(&self) -> u32 {
        u32::try_from(self.id).unwrap()
    }

    pub(super) fn heartbeat(&mut self, now_ms: u64) -> Option<Command> {
        let awake = now_ms >= self.asleep_until_ms && now_ms >= self.beat_ms + BEAT_MS;
        let member = self.member.filter(|_| awake && !self.is_finished())?;
        self.beat_ms = now_ms;
        Some(Heartbeat { member, counters: Counters::new() }.into())
    }

    /// Does what needs nobody, then asks what it needs to know.
    pub(super) fn act(&mut self, sim: &mut Sim) -> (u64, Option<Command>) {
        if sim.now_ms < self.asleep_until_ms {
            return (0, None);
        }
        match self.step.clone() {
            Step::Write(grant) => self.write(sim, grant),
            Step::Restore(record) => self.restore(sim, record),
            Step::Read(committed) => self.read(sim, committed),
            Step::Save => self.save(sim),
            Step::Register
            | Step::Lease(_)
            | Step::Commit(_)
            | Step::Open(_)
            | Step::Next
            | Step::Lost(_)
            | Step::Checkpoint(_)
            | Step::End
            | Step::Finished
            | Step::Dead => {}
        }
        if sim.now_ms < self.resend_ms {
            return (0, None);
        }
        self.resend_ms = sim.now_ms + RESEND_MS;
        (self.call, self.command(&sim.plan))
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
            Step::Commit(Grant { split, attempt, range }) => {
                let (bytes, checksum) = (20 + split % 21, 7);
                let batches = range.batches;
                let outputs = vec![Output { channel, batches, bytes, checksum }];
                Commit { member, set, split, attempt, outputs }.into()
            }
            Step::Open(request) => OpenConsumer { member, channel, request }.into(),
            Step::Next => {
                let split = plan.split_of(self.model.len() as u64);
                Next { channel, generation, split }.into()
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
            | Step::Save
            | Step::Finished
            | Step::Dead => return None,
        })
    }

    pub(super) fn hear(
        &mut self,
        now_ms: u64,
        call: u64,
        answer: Result<Reply, Refusal>,
        plan: &SplitPlan,
        dice: &mut Dice,
    ) {
        if now_ms < self.asleep_until_ms || self.is_dead() {
            return;
        }
        match answer {
            // Call 0 is a heartbeat, whose refusal alone matters.
            Ok(_) if call != self.call => {}
            Ok(reply) => self.go_on(reply, plan, dice),
            Err(refusal) if call == self.call || call == 0 => self.refused(refusal),
            Err(_) => {}
        }
    }

    fn turn(&mut self, step: Step) {
        self.step = step;
        self.call += 1;
        self.resend_ms = 0;
    }

    fn lease_next(&mut self) {
        self.requests += 1;
        self.turn(Step::Lease(self.requests));
    }

    fn go_on(&mut self, reply: Reply, plan: &SplitPlan, dice: &mut Dice) {
        match (self.step.clone(), reply) {
            (Step::Register, Reply::Registered(registered)) => {
                self.member = Some(registered.member);
                self.requests += 1;
                match self.role {
                    Role::Worker => self.turn(Step::Lease(self.requests)),
                    Role::Trainer => self.turn(Step::Open(self.requests)),
                }
            }
            (Step::Lease(_), Reply::Lease(LeaseAnswer::Granted(grant))) => {
                self.turn(Step::Write(grant));
            }
            (Step::Lease(_), Reply::Lease(LeaseAnswer::Wait))
            | (Step::Next, Reply::Next(NextAnswer::Wait)) => {}
            (Step::Lease(_), Reply::Lease(LeaseAnswer::Ended)) => self.turn(Step::End),
            (Step::Commit(_), Reply::Accepted(_)) => self.lease_next(),
            (Step::Open(_), Reply::Opened(opened)) => {
                self.generation = opened.generation;
                self.turn(Step::Restore(opened.checkpoint));
            }
            (Step::Next, Reply::Next(NextAnswer::Committed(committed))) => {
                self.turn(Step::Read(committed));
            }
            (Step::Next, Reply::Next(NextAnswer::WindowFull)) => {
                let ahead = self.model.len() as u64 > self.saved;
                self.turn(if ahead { Step::Save } else { Step::Next });
            }
            (Step::Next, Reply::Next(NextAnswer::Ended)) => {
                let ahead = self.model.len() as u64 > self.saved;
                self.turn(if ahead { Step::Save } else { Step::End });
            }
            (Step::Lost(_), Reply::Accepted(_)) => self.turn(Step::Next),
            (Step::Checkpoint(record), Reply::Accepted(_)) => {
                self.saved = record.cursor;
                let over = self.saved == plan.batches() && dice.one_in(2);
                self.turn(if over { Step::End } else { Step::Next });
            }
            (Step::End, Reply::Accepted(_)) => self.turn(Step::Finished),
            (step, reply) => panic!("{step:?} was answered with {reply:?}"),
        }
    }

    fn refused(&mut self, refusal: Refusal) {
        match (refusal.kind, &self.step) {
            (RefusalKind::MemberExpired | RefusalKind::StaleGeneration, _) => {
                self.step = Step::Dead;
            }
            (RefusalKind::StaleAttempt, Step::Commit(_))
            | (RefusalKind::StaleRequest, Step::Lease(_)) => self.lease_next(),
            (_, step) => panic!("{step:?} was refused: {refusal:?}"),
        }
    }

    fn write(&mut self, sim: &mut Sim, grant: Grant) {
        for (n, global) in (0..).zip(sim.plan.batches_of(grant.split)) {
            let key = batch_key(CHANNEL, grant.split, grant.attempt, n);
            sim.batches.insert(key, global);
        }
        self.turn(Step::Commit(grant));
    }

    fn restore(&mut self, sim: &Sim, record: Option<CheckpointRecord>) {
        let Some(record) = record else { return self.turn(Step::Next) };
        // A checkpoint that is gone is the end of a consumer that was frozen meanwhile: the
        // current one has a later checkpoint. Its next call would be refused all the same.
        match sim.models.get(&record.key) {
            Some(model) => {
                self.model = model.clone();
                self.saved = record.cursor;
                assert_eq!(self.model.len() as u64, self.saved, "seed {}", sim.seed);
                self.turn(Step::Next);
            }
            None => {
                let current = sim.state.durable().channels[CHANNEL].generation;
                assert_ne!(current, self.generation, "seed {}: {record:?} is gone", sim.seed);
                self.step = Step::Dead;
            }
        }
    }

    /// Consumes some or all of the split's batches that it has not consumed yet.
    fn read(&mut self, sim: &mut Sim, committed: Committed) {
        let stop = if sim.dice.one_in(3) { 1 } else { u64::MAX };
        let mut read = 0;
        for (n, global) in (0..).zip(sim.plan.batches_of(committed.split)) {
            if global < self.model.len() as u64 || read >= stop {
                continue;
            }
            let key = batch_key(CHANNEL, committed.split, committed.attempt, n);
            let Some(batch) = sim.batches.get(&key) else {
                sim.tally.lost += 1;
                return self.turn(Step::Lost(committed));
            };
            self.model.push(*batch);
            read += 1;
        }
        let position = self.model.len() as u64;
        let save = committed.checkpoint_due
            || sim.plan.is_half_a_window(self.saved, position, super::WINDOW)
            || sim.dice.one_in(4);
        self.turn(if save { Step::Save } else { Step::Next });
    }

    fn save(&mut self, sim: &mut Sim) {
        self.saves += 1;
        let cursor = self.model.len() as u64;
        if cursor == self.saved {
            return self.turn(Step::Next);
        }
        let key = format!("model.{}.{}", self.generation, self.saves);
        sim.models.insert(key.clone(), self.model.clone());
        let record = CheckpointRecord { cursor, key, version: 1, bytes: 1, checksum: 1 };
        self.turn(Step::Checkpoint(record));
    }
}
