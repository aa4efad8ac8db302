//! A whole run under faults: processes die and freeze, messages are lost, doubled and late, the
//! coordinator crashes and forgets what it had not synced, memory is wiped.
//!
//! Owns a network, a store and actors, all in virtual time. May not know sockets or the journal.
//! Invariant: a run is a function of its seed, which a failure prints.

mod actor;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::actor::{Actor, Role};
use super::tests::{CHANNEL, SET};
use super::{Event, Graph, State, Timeouts};
use crate::api::*;
use crate::coordinator::ledger;
use crate::spec::tests::example;
use crate::split::{ShortBatch, SplitPlan, SplitSpec};

/// Faults end here, so that every run can finish.
const FAULTS_UNTIL_MS: u64 = 60_000;
const RUN_MS_MAX: u64 = 600_000;
const STEP_MS: u64 = 5;
const WORKERS: u32 = 3;
const WINDOW: u64 = 5;

/// SplitMix64: small, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A message on its way.
enum Message {
    Call { actor: u64, call: u64, command: Command },
    Answer { actor: u64, call: u64, answer: Result<Reply, Refusal> },
}

/// What happened, so that a quiet simulation cannot pass for a test of faults.
#[derive(Debug, Default)]
struct Tally {
    crashes: u64,
    forgotten_events: u64,
    deaths: u64,
    freezes: u64,
    wipes: u64,
    lost: u64,
    rolled_back: u64,
    refused: u64,
}

struct Sim {
    seed: u64,
    dice: Dice,
    now_ms: u64,
    graph: Arc<Graph>,
    plan: SplitPlan,
    state: State,
    /// All events; those before `synced` survive a crash.
    log: Vec<Event>,
    synced: usize,
    /// Answers that wait until the log is synced so far.
    held: Vec<(usize, Message)>,
    network: Vec<(u64, Message)>,
    actors: Vec<Actor>,
    actors_started: u64,
    /// Batches, as the number of the global batch.
    batches: BTreeMap<String, u64>,
    /// Checkpoints, as the global batches that are in them, in order.
    models: BTreeMap<String, Vec<u64>>,
    booted_ms: u64,
    tally: Tally,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let splits = SplitSpec {
            epochs: 3,
            batch: 4,
            batches_per_split: 3,
            window: u32::try_from(WINDOW).unwrap(),
            short_batch: if seed.is_multiple_of(2) { ShortBatch::Drop } else { ShortBatch::Keep },
            ..SplitSpec::default()
        };
        let graph = Arc::new(Graph::new(&example(100, splits.clone())).unwrap());
        let mut state = State::recover(graph.clone(), Timeouts::default(), None, []);
        let mut log = state.boot(Duration::ZERO);
        let seal = SealSet { set: SET.into(), count: 410 };
        log.extend(state.handle(Duration::ZERO, &seal.into()).unwrap().events);
        let mut sim = Self {
            seed,
            dice: Dice(seed),
            now_ms: 0,
            graph,
            plan: SplitPlan::new(&splits, 410).unwrap(),
            state,
            synced: log.len(),
            log,
            held: Vec::new(),
            network: Vec::new(),
            actors: Vec::new(),
            actors_started: 0,
            batches: BTreeMap::new(),
            models: BTreeMap::new(),
            booted_ms: 0,
            tally: Tally::default(),
        };
        (0..WORKERS).for_each(|replica| sim.start(Role::Worker, replica));
        sim.start(Role::Trainer, 0);
        sim
    }

    fn start(&mut self, role: Role, replica: u32) {
        self.actors_started += 1;
        self.actors.push(Actor::new(self.actors_started, role, replica, self.now_ms));
    }

    /// Runs to the end and judges it.
    fn run(mut self) -> Tally {
        while !self.is_over() {
            assert!(self.now_ms < RUN_MS_MAX, "{}", self.describe());
            self.now_ms += STEP_MS;
            if self.now_ms < FAULTS_UNTIL_MS {
                self.faults();
            }
            self.deliver();
            self.act();
            if self.now_ms.is_multiple_of(250) {
                let events = self.state.tick(self.since_boot());
                self.log.extend(events);
            }
            if self.dice.one_in(3) {
                self.sync();
            }
            if self.now_ms.is_multiple_of(25) {
                self.sweep();
            }
        }
        self.judge()
    }

    fn describe(&self) -> String {
        let status = self.state.status();
        let actors: Vec<String> = self.actors.iter().map(Actor::describe).collect();
        let (set, channel) = (&status.sets[SET], &status.channels[CHANNEL]);
        format!("seed {} is stuck: {set:?} {channel:?} {actors:#?}", self.seed)
    }

    fn is_over(&self) -> bool {
        self.actors.iter().all(|actor| actor.is_finished())
    }

    fn since_boot(&self) -> Duration {
        Duration::from_millis(self.now_ms - self.booted_ms)
    }

    fn faults(&mut self) {
        if self.dice.one_in(500) {
            self.crash();
        }
        if self.dice.one_in(2000) {
            self.tally.wipes += 1;
            self.batches.clear();
        }
        if self.dice.one_in(150) {
            let index = self.dice.below(self.actors.len() as u64);
            let index = usize::try_from(index).unwrap();
            if !self.actors[index].is_finished() {
                self.kill_or_freeze(index);
            }
        }
    }

    /// The coordinator comes back with what was synced; answers it owed are never sent.
    fn crash(&mut self) {
        self.tally.crashes += 1;
        self.tally.forgotten_events += (self.log.len() - self.synced) as u64;
        self.log.truncate(self.synced);
        self.held.clear();
        self.state = State::recover(self.graph.clone(), Timeouts::default(), None, &self.log);
        self.booted_ms = self.now_ms;
        self.log.extend(self.state.boot(Duration::ZERO));
    }

    /// Either way another process takes its place; a frozen one wakes up later, knowing nothing.
    fn kill_or_freeze(&mut self, index: usize) {
        let (role, replica, pid) = self.actors[index].identity();
        if self.dice.one_in(2) {
            self.tally.freezes += 1;
            let wake = self.now_ms + 200 + self.dice.below(9000);
            self.actors[index].freeze(wake);
        } else {
            self.tally.deaths += 1;
            self.actors.swap_remove(index);
            if self.dice.one_in(2) {
                let task = role.task().to_owned();
                self.send(Message::Call {
                    actor: 0,
                    call: 0,
                    command: MemberGone { task, replica, pid }.into(),
                });
            }
        }
        self.start(role, replica);
    }

    /// Into the network: usually soon, sometimes late, twice or never.
    fn send(&mut self, message: Message) {
        let faulty = self.now_ms < FAULTS_UNTIL_MS;
        if faulty && self.dice.one_in(20) {
            return;
        }
        if faulty
            && self.dice.one_in(10)
            && let Message::Call { actor, call, command } = &message
        {
            let (actor, call, command) = (*actor, *call, command.clone());
            let late = self.now_ms + self.dice.below(4000);
            self.network.push((late, Message::Call { actor, call, command }));
        }
        let soon = self.now_ms + self.dice.below(30);
        self.network.push((soon, message));
    }

    fn deliver(&mut self) {
        let now = self.now_ms;
        let (due, later) =
            std::mem::take(&mut self.network).into_iter().partition(|(at, _)| *at <= now);
        self.network = later;
        let due: Vec<(u64, Message)> = due;
        for (_, message) in due {
            match message {
                Message::Call { actor, call, command } => self.decide(actor, call, &command),
                Message::Answer { actor, call, answer } => {
                    let (plan, dice) = (&self.plan, &mut self.dice);
                    if let Some(actor) = self.actors.iter_mut().find(|a| a.id() == actor) {
                        actor.hear(now, call, answer, plan, dice);
                    }
                }
            }
        }
        self.bury();
    }

    /// The engine replaces a process that ended itself, unless another took its place before.
    fn bury(&mut self) {
        let (dead, alive): (Vec<Actor>, Vec<Actor>) =
            std::mem::take(&mut self.actors).into_iter().partition(Actor::is_dead);
        self.actors = alive;
        for (role, replica, _) in dead.iter().map(Actor::identity) {
            let same = |actor: &Actor| (actor.identity().0, actor.identity().1) == (role, replica);
            // A consumer that was done, and whose process then died, has nothing left to do.
            let done = role == Role::Trainer && self.state.status().channels[CHANNEL].closed;
            if !done && !self.actors.iter().any(same) {
                self.start(role, replica);
            }
        }
    }

    fn decide(&mut self, actor: u64, call: u64, command: &Command) {
        let answer = self.state.handle(self.since_boot(), command).map(|decision| {
            self.log.extend(decision.events);
            decision.reply
        });
        if answer.is_err() {
            self.tally.refused += 1;
        }
        let waits = answer.as_ref().is_ok_and(Reply::is_wait);
        let sequence = if waits { 0 } else { self.log.len() };
        self.held.push((sequence, Message::Answer { actor, call, answer }));
        self.release();
    }

    fn sync(&mut self) {
        self.synced = self.log.len();
        self.release();
    }

    fn release(&mut self) {
        let synced = self.synced;
        let (due, held) =
            std::mem::take(&mut self.held).into_iter().partition(|(at, _)| *at <= synced);
        self.held = held;
        let due: Vec<(usize, Message)> = due;
        due.into_iter().for_each(|(_, message)| self.send(message));
    }

    fn act(&mut self) {
        for index in 0..self.actors.len() {
            let mut actor = std::mem::replace(
                &mut self.actors[index],
                Actor::new(0, Role::Worker, 0, self.now_ms),
            );
            let (call, command) = actor.act(self);
            let id = actor.id();
            self.actors[index] = actor;
            if let Some(beat) = self.actors[index].heartbeat(self.now_ms) {
                self.send(Message::Call { actor: id, call: 0, command: beat });
            }
            if let Some(command) = command {
                self.send(Message::Call { actor: id, call, command });
            }
        }
    }

    /// Deletes what a synced state says is garbage.
    fn sweep(&mut self) {
        if self.synced < self.log.len() {
            return;
        }
        let sweeps = self.state.pending_sweeps(usize::MAX);
        for sweep in &sweeps {
            match &sweep.what {
                Garbage::Prefix(prefix) => self.batches.retain(|key, _| !key.starts_with(prefix)),
                Garbage::Key(key) => drop(self.models.remove(key)),
            }
        }
        let sweeps = sweeps.iter().map(|sweep| sweep.sweep).collect();
        self.send(Message::Call { actor: 0, call: 0, command: Swept { sweeps }.into() });
    }

    fn judge(mut self) -> Tally {
        let seed = self.seed;
        let status = self.state.status();
        let channel = &status.channels[CHANNEL];
        assert_eq!(channel.cursor, self.plan.batches(), "seed {seed}");
        assert_eq!(channel.retained_bytes, 0, "seed {seed}");
        let (lines, _) = self.state.ledger_lines(CHANNEL, 0, usize::MAX).unwrap();
        let summary =
            ledger::check(&self.plan, lines).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        self.tally.rolled_back = summary.rolled_back;
        // The effect itself, not only the record of it.
        let key = self.state.durable().channels[CHANNEL].checkpoint_key().unwrap();
        let expected: Vec<u64> = (0..self.plan.batches()).collect();
        assert_eq!(self.models.get(key), Some(&expected), "seed {seed}");
        self.tally
    }
}

#[test]
fn effects_are_exactly_once_under_any_faults() {
    let seeds = std::env::var("CIRRUS_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let mut sum = Tally::default();
    for seed in 0..seeds {
        let tally = Sim::new(seed).run();
        sum.crashes += tally.crashes;
        sum.forgotten_events += tally.forgotten_events;
        sum.deaths += tally.deaths;
        sum.freezes += tally.freezes;
        sum.wipes += tally.wipes;
        sum.lost += tally.lost;
        sum.rolled_back += tally.rolled_back;
        sum.refused += tally.refused;
    }
    println!("{sum:?}");
    let Tally { crashes, forgotten_events, deaths, freezes, wipes, lost, rolled_back, refused } =
        sum;
    for faults in [crashes, forgotten_events, deaths, freezes, wipes, lost, rolled_back, refused] {
        assert!(faults > seeds / 4, "the simulation is too quiet: {sum:?}");
    }
}
