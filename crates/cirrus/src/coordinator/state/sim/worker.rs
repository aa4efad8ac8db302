//! A simulated worker: leases a split, writes its batches one by one, commits.
//!
//! Owns the worker's side of exactly once, as [`crate::leases`] has it. May not know the trainer.
//! Invariant: it commits only when every batch of its attempt is stored.

use super::super::tests::CHANNEL;
use super::actor::{Actor, Step};
use super::dice::content;
use super::{Put, Sim, TIMEOUTS};
use crate::api::*;
use crate::coordinator::keys::{attempt_prefix, batch_key};
use crate::coordinator::plant::{Bug, is_planted};

/// Puts that may be on their way.
const IN_FLIGHT_MAX: usize = 2;

/// An attempt that is made.
#[derive(Debug, Clone)]
pub(super) struct Writing {
    grant: Grant,
    output: Output,
    in_flight: Vec<u64>,
}

impl Writing {
    pub(super) fn stored(&mut self, number: u64) {
        self.in_flight.retain(|put| *put != number);
    }
}

impl Actor {
    pub(super) fn lease_next(&mut self, sim: &Sim) {
        let request = self.next_request();
        self.turn(sim, Step::Lease(request));
    }

    pub(super) fn work_on(&mut self, sim: &mut Sim, step: Step, reply: Reply) {
        match (step, reply) {
            (Step::Lease(_), Reply::Lease(LeaseAnswer::Granted(grant))) => {
                sim.judge.granted(self.member, &grant);
                let channel = CHANNEL.to_owned();
                let output = Output { channel, batches: 0, bytes: 0, checksum: 0 };
                self.turn(sim, Step::Write(Writing { grant, output, in_flight: Vec::new() }));
            }
            (Step::Lease(_), Reply::Lease(LeaseAnswer::Wait)) => self.ask_again(sim),
            (Step::Lease(_), Reply::Lease(LeaseAnswer::Ended)) => self.turn(sim, Step::End),
            (Step::Commit(..) | Step::Return(_), Reply::Accepted(_)) => self.lease_next(sim),
            (step, reply) => panic!("seed {}: {step:?} was answered with {reply:?}", sim.seed),
        }
    }

    /// Another attempt has the split now.
    pub(super) fn discard(&mut self, sim: &mut Sim, grant: &Grant) {
        sim.tally.overtaken += 1;
        sim.store.delete_prefix(&attempt_prefix(CHANNEL, grant.split, grant.attempt));
        self.lease_next(sim);
    }

    /// One batch at a time.
    pub(super) fn write(&mut self, sim: &mut Sim, mut writing: Writing) {
        let Writing { grant, output, in_flight } = &mut writing;
        if sim.faults_are_on() && self.may_falter(sim, grant) {
            return;
        }
        if output.batches < grant.range.batches {
            if in_flight.len() < IN_FLIGHT_MAX {
                sim.judge.writes(grant, sim.now_ms);
                let batch = sim.plan.batches_of(grant.split).start + u64::from(output.batches);
                let mut bytes = content(sim.seed, batch);
                if is_planted(Bug::AttemptInBatches) {
                    bytes[0] ^= grant.attempt.0.to_le_bytes()[0];
                }
                let key = batch_key(CHANNEL, grant.split, grant.attempt, output.batches);
                output.batches += 1;
                output.bytes += bytes.len() as u64;
                output.checksum = cirrus_store::checksum_of(output.checksum, &bytes);
                in_flight.push(self.put(sim, Put::Batch { key, bytes }));
                self.counted += 1;
            }
        } else if in_flight.is_empty() || is_planted(Bug::CommitBeforePut) {
            let step = Step::Commit(*grant, output.clone());
            return self.turn(sim, step);
        }
        self.step = Step::Write(writing);
    }

    /// Hangs, for some time or for good, or gives its split back.
    fn may_falter(&mut self, sim: &mut Sim, grant: &Grant) -> bool {
        if sim.dice.one_in(150) {
            self.turn(sim, Step::Return(*grant));
            sim.tally.returns += 1;
            return true;
        }
        if !sim.dice.one_in(50) {
            return false;
        }
        sim.tally.hangs += 1;
        // Somebody must be left to overtake it.
        let for_good = self.replica == 0 && sim.shape.workers > 1 && sim.dice.one_in(10);
        let patience_ms = u64::try_from(TIMEOUTS.lease_timeout.as_millis()).unwrap();
        let pause_ms = sim.dice.below(4 * patience_ms);
        self.hang(if for_good { u64::MAX } else { sim.now_ms + pause_ms });
        true
    }
}
