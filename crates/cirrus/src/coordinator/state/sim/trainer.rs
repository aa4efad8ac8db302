//! A simulated trainer: reads batches in their order, learns them, checkpoints.
//!
//! Owns the consumer's side of exactly once, as [`crate::consumer`] has it. May not know workers.
//! Invariant: it tells a cursor only when the model up to there is stored.

use super::super::tests::CHANNEL;
use super::actor::{Actor, Step};
use super::dice::content;
use super::store::Trained;
use super::{Put, Sim};
use crate::api::*;
use crate::coordinator::keys::{batch_key, checkpoint_key};
use crate::coordinator::plant::{Bug, is_planted};

/// A committed split, and where to stop in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    committed: Committed,
    until: u64,
}

impl Actor {
    pub(super) fn train_on(&mut self, sim: &mut Sim, step: Step, reply: Reply) {
        match (step, reply) {
            (Step::Open(_), Reply::Opened(opened)) => {
                self.generation = opened.generation;
                sim.judge.opened(self.member, &opened, sim.now_ms);
                self.turn(sim, Step::Restore(opened.checkpoint));
            }
            (Step::Next, Reply::Next(NextAnswer::Wait)) => self.ask_again(sim),
            (Step::Next, Reply::Next(NextAnswer::Committed(committed))) => {
                sim.judge.given(&committed);
                // Sometimes it checkpoints within a split.
                let batches = sim.plan.batches_of(committed.split);
                let first = self.covered.missing_in(&batches).first().map_or(0, |run| run.start);
                let until = if sim.dice.one_in(3) { first + 1 } else { batches.end };
                self.turn(sim, Step::Read(Reading { committed, until }));
            }
            (Step::Next, Reply::Next(NextAnswer::WindowFull)) => self.save(sim, Step::Next),
            (Step::Next, Reply::Next(NextAnswer::Ended)) => self.save(sim, Step::End),
            (Step::Lost(_), Reply::Accepted(_)) => self.turn(sim, Step::Next),
            (Step::Checkpoint(record), Reply::Accepted(_)) => {
                self.saved = record.covered().unwrap().count();
                sim.judge.saved(self.saved);
                let over = self.saved == sim.plan.batches() && sim.dice.one_in(2);
                self.turn(sim, if over { Step::End } else { Step::Next });
            }
            (step, reply) => panic!("seed {}: {step:?} was answered with {reply:?}", sim.seed),
        }
    }

    pub(super) fn restore(&mut self, sim: &mut Sim, record: Option<CheckpointRecord>) {
        let Some(record) = record else { return self.turn(sim, Step::Next) };
        // A checkpoint that is gone is the end of a consumer that was frozen meanwhile: the
        // current one has a later checkpoint. Its next call would be refused all the same.
        let Some(model) = sim.store.models.get(&record.key) else {
            assert!(!self.is_current(sim), "seed {}: {record:?} is gone", sim.seed);
            self.step = Step::Dead;
            return;
        };
        self.model = model.clone();
        self.covered = record.covered().unwrap();
        self.saved = self.covered.count();
        assert_eq!(model.len() as u64, self.saved, "seed {}", sim.seed);
        self.turn(sim, Step::Next);
    }

    /// One batch at a time.
    pub(super) fn read(&mut self, sim: &mut Sim, reading: Reading) {
        let Reading { committed, until } = reading;
        let first = sim.plan.batches_of(committed.split).start;
        let missing = self.covered.missing_in(&(first..until));
        let Some(batch) = missing.first().map(|run| run.start) else {
            let learnt = self.covered.count();
            let save = committed.checkpoint_due
                || sim.plan.is_half_a_window(self.saved, learnt, sim.shape.window.into())
                || sim.dice.one_in(4);
            return if save { self.save(sim, Step::Next) } else { self.turn(sim, Step::Next) };
        };
        let within = u32::try_from(batch - first).unwrap();
        let Committed { split, attempt, .. } = committed;
        let key = batch_key(CHANNEL, split, attempt, within);
        match sim.store.batches.get(&key) {
            Some(bytes) => {
                assert_eq!(bytes, &content(sim.seed, batch), "seed {}: batch {batch}", sim.seed);
                self.model.push(Trained { batch, generation: self.generation, attempt });
                self.covered.add(batch..batch + 1);
                self.counted += 1;
            }
            None => {
                if self.is_current(sim) {
                    sim.judge.lost(&committed, sim.store.wiped_ms);
                }
                sim.tally.lost += 1;
                self.turn(sim, Step::Lost(committed));
            }
        }
    }

    /// Stores what it has learnt since the last time, if there is anything, and goes on with
    /// `otherwise` if not.
    fn save(&mut self, sim: &mut Sim, otherwise: Step) {
        let learnt = self.covered.count();
        if learnt == self.saved {
            return self.turn(sim, otherwise);
        }
        let key = checkpoint_key(CHANNEL, self.generation, learnt);
        let put = Put::Model { key: key.clone(), model: self.model.clone() };
        let number = self.put(sim, put);
        let (cursor, beyond) = (self.covered.cursor(), self.covered.beyond().to_vec());
        let (version, bytes, checksum) = (number, 1, 1);
        let record = CheckpointRecord { cursor, beyond, key, version, bytes, checksum };
        self.turn(
            sim,
            if is_planted(Bug::CursorBeforeCheckpoint) {
                Step::Checkpoint(record)
            } else {
                Step::Save(number, record)
            },
        );
    }

    /// Whether the coordinator knows no later consumer.
    fn is_current(&self, sim: &Sim) -> bool {
        sim.core.state.lock().durable().channels[CHANNEL].generation == self.generation
    }
}
