//! A whole run under faults: processes die, freeze and hang, messages are lost, doubled and late, the
//! coordinator stands still, crashes and forgets what it had not synced, memory is wiped.
//!
//! Owns a network and virtual time around the coordinator's own [`Core`]: what decides, waits, takes
//! snapshots and lets answers out is what ships. May not know sockets or the journal's file.
//! Invariant: a run is a function of its seed, which a failure prints.

mod actor;
mod dice;
mod faults;
mod judge;
mod liar;
mod log;
mod seeds;
mod store;
mod trainer;
mod worker;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::actor::{Actor, Role};
use self::dice::{Dice, Shape};
use self::faults::Tally;
use self::judge::Judge;
use self::log::{SharedDisk, SimLog};
use self::store::{Put, Store};
use super::tests::{CHANNEL, SET};
use super::{Graph, State, Timeouts};
use crate::api::*;
use crate::coordinator::Core;
use crate::spec::tests::example;
use crate::split::{SplitPlan, SplitSpec};

/// Faults end here, so that every run can finish.
const FAULTS_UNTIL_MS: u64 = 20_000;
const RUN_MS_MAX: u64 = 300_000;
const STEP_MS: u64 = 5;
const TICK_MS: u64 = 100;
const LATE_MS_MAX: u64 = 4000;
const RECORDS: u64 = 410;
/// Small, so that every run meets them.
const TIMEOUTS: Timeouts = Timeouts {
    heartbeat_timeout: Duration::from_millis(1500),
    lease_timeout: Duration::from_millis(1000),
};

/// A message on its way. Actor 0 is nobody.
#[derive(Debug, Clone)]
enum Message {
    Call {
        from: u64,
        call: u64,
        command: Command,
    },
    Answer {
        to: u64,
        call: u64,
        answer: Result<Reply, Refusal>,
    },
    Put {
        from: u64,
        number: u64,
        put: Put,
    },
    /// The put of this number is stored.
    Stored {
        to: u64,
        number: u64,
    },
}

/// What the coordinator is working on; gone when it crashes.
struct Pending {
    work: Pin<Box<dyn Future<Output = Done>>>,
    woken: Arc<Woken>,
}

enum Done {
    Answered {
        to: u64,
        call: u64,
        answer: Result<Reply, Refusal>,
    },
    /// To be deleted.
    Garbage(Result<Vec<Sweep>, Refusal>),
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Sim {
    seed: u64,
    shape: Shape,
    dice: Dice,
    now_ms: u64,
    graph: Arc<Graph>,
    plan: SplitPlan,
    disk: SharedDisk,
    core: Arc<Core<SimLog>>,
    pending: Vec<Pending>,
    /// It was told that it resumes the run.
    resumes: bool,
    /// The coordinator neither hears, decides nor writes until then.
    still_until_ms: u64,
    /// The channel had no room for a split when the coordinator was last looked at.
    is_full: bool,
    /// Nothing becomes durable until then.
    disk_hangs_until_ms: u64,
    /// By the time of arrival, and the order of sending.
    network: BTreeMap<(u64, u64), Message>,
    sent: u64,
    faults_until_ms: u64,
    actors: Vec<Actor>,
    actors_started: u64,
    /// Processes that the engine is yet to start, and when.
    successors: Vec<(u64, Role, u32)>,
    store: Store,
    judge: Judge,
    tally: Tally,
}

/// Runs a seed to its end and judges it; panics with the seed if it breaks a promise.
fn simulate(seed: u64) -> Tally {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { Sim::new(seed).run().await })
}

impl Sim {
    fn new(seed: u64) -> Self {
        let shape = Shape::of(seed);
        let splits = SplitSpec {
            epochs: 3,
            batch: 4,
            batches_per_split: 3,
            window: shape.window,
            short_batch: shape.short_batch,
            ..SplitSpec::default()
        };
        let mut spec = example(shape.capacity, splits.clone());
        spec.channels[0].unordered = shape.unordered;
        let graph = Arc::new(Graph::new(&spec).unwrap());
        let disk = SharedDisk::new(shape.snapshot_every);
        let core = start_core(&graph, &disk, false);
        core.decide(&SealSet { set: SET.into(), count: RECORDS }.into()).0.unwrap();
        disk.sync();
        disk.sync();
        let mut sim = Self {
            seed,
            shape,
            dice: Dice(seed),
            now_ms: 0,
            graph,
            plan: SplitPlan::new(&splits, RECORDS).unwrap(),
            disk,
            core,
            pending: Vec::new(),
            resumes: false,
            still_until_ms: 0,
            is_full: false,
            disk_hangs_until_ms: 0,
            network: BTreeMap::new(),
            sent: 0,
            faults_until_ms: FAULTS_UNTIL_MS,
            actors: Vec::new(),
            actors_started: 0,
            successors: Vec::new(),
            store: Store::default(),
            judge: Judge::new(seed),
            tally: Tally::default(),
        };
        sim.start_everybody();
        sim
    }

    fn start_everybody(&mut self) {
        (0..self.shape.workers).for_each(|replica| self.start(Role::Worker, replica));
        self.start(Role::Trainer, 0);
    }

    async fn run(mut self) -> Tally {
        while !self.successors.is_empty() || !self.actors.iter().all(Actor::is_finished) {
            assert!(self.now_ms < RUN_MS_MAX, "{}", self.describe());
            self.step().await;
        }
        self.tally.ms = self.now_ms;
        self.faults_until_ms = 0;
        // What is late arrives, and what is garbage is swept.
        while !self.network.is_empty() || !self.core.state.lock().pending_sweeps(1).is_empty() {
            self.step().await;
        }
        let state = self.core.state.lock();
        self.tally.rolled_back =
            self.judge.end(&self.plan, &state, &self.store, self.shape.unordered);
        drop(state);
        self.tally
    }

    async fn step(&mut self) {
        self.now_ms += STEP_MS;
        tokio::time::advance(Duration::from_millis(STEP_MS)).await;
        if self.faults_are_on() {
            self.faults();
        }
        let now_ms = self.now_ms;
        for (_, role, replica) in
            self.successors.extract_if(.., |(due, ..)| *due <= now_ms).collect::<Vec<_>>()
        {
            self.start(role, replica);
        }
        self.deliver();
        if self.now_ms >= self.still_until_ms {
            self.coordinate();
        }
        self.act();
        self.bury();
    }

    fn describe(&self) -> String {
        let status = self.core.state.lock().status();
        let actors: Vec<String> = self.actors.iter().map(Actor::describe).collect();
        let (set, channel) = (&status.sets[SET], &status.channels[CHANNEL]);
        format!("seed {} is stuck: {:?} {set:?} {channel:?} {actors:#?}", self.seed, self.shape)
    }

    fn faults_are_on(&self) -> bool {
        self.now_ms < self.faults_until_ms
    }

    fn start(&mut self, role: Role, replica: u32) {
        self.actors_started += 1;
        self.actors.push(Actor::new(self.actors_started, role, replica, self.now_ms));
    }

    /// The engine replaces a process that ended itself, unless another took its place before.
    fn bury(&mut self) {
        while let Some(index) = self.actors.iter().position(Actor::is_dead) {
            let (role, replica, _) = self.actors.remove(index).identity();
            let same = |actor: &Actor| (actor.identity().0, actor.identity().1) == (role, replica);
            // A consumer that was done, and whose process then died, has nothing left to do.
            let closed = |state: &State| {
                state.durable().channels.get(CHANNEL).is_some_and(|channel| channel.closed)
            };
            let done = role == Role::Trainer && closed(&self.core.state.lock());
            if !done && !self.actors.iter().any(same) {
                self.start(role, replica);
            }
        }
    }

    /// Into the network: usually soon, sometimes late, twice or never. Puts are made once, as the
    /// store's sessions see to.
    fn send(&mut self, message: Message) {
        let put = matches!(message, Message::Put { .. } | Message::Stored { .. });
        let faulty = self.faults_are_on();
        if faulty && !put && self.dice.one_in(20) {
            self.tally.messages_lost += 1;
            return;
        }
        if faulty && !put && self.dice.one_in(10) {
            self.tally.messages_doubled += 1;
            let late_ms = self.dice.below(LATE_MS_MAX);
            self.send_in(late_ms, message.clone());
        }
        let late = faulty && self.dice.one_in(40);
        self.tally.messages_late += u64::from(late);
        let ms = self.dice.below(if late { LATE_MS_MAX } else { 30 });
        self.send_in(ms, message);
    }

    fn send_in(&mut self, ms: u64, message: Message) {
        self.sent += 1;
        self.network.insert((self.now_ms + ms, self.sent), message);
    }

    fn deliver(&mut self) {
        let later = self.network.split_off(&(self.now_ms + 1, 0));
        for (_, message) in std::mem::replace(&mut self.network, later) {
            match message {
                Message::Call { from: to, call, command } => {
                    if let Command::Heartbeat(beat) = &command {
                        self.judge.heard(beat.member, self.now_ms);
                    }
                    let core = self.core.clone();
                    self.begin(async move {
                        Done::Answered { to, call, answer: core.handle(command).await }
                    });
                }
                Message::Answer { to, call, answer } => {
                    self.with_actor(to, |actor, sim| actor.hear(sim, call, answer));
                }
                Message::Put { from: to, number, put } => {
                    self.store.put(put);
                    self.send(Message::Stored { to, number });
                }
                Message::Stored { to, number } => {
                    self.with_actor(to, |actor, sim| actor.stored(sim, number));
                }
            }
        }
    }

    fn with_actor(&mut self, id: u64, work: impl FnOnce(&mut Actor, &mut Self)) {
        if let Some(index) = self.actors.iter().position(|actor| actor.id() == id) {
            self.with_actor_at(index, work);
        }
    }

    fn with_actor_at(&mut self, index: usize, work: impl FnOnce(&mut Actor, &mut Self)) {
        let mut actor = std::mem::replace(&mut self.actors[index], Actor::nobody());
        work(&mut actor, self);
        self.actors[index] = actor;
    }

    fn begin(&mut self, work: impl Future<Output = Done> + 'static) {
        let work = Box::pin(tokio::task::unconstrained(work));
        self.pending.push(Pending { work, woken: Arc::new(Woken(AtomicBool::new(true))) });
    }

    /// What the coordinator's process does: ticks, writes, decides, answers and sweeps.
    fn coordinate(&mut self) {
        if self.now_ms.is_multiple_of(TICK_MS) {
            self.core.tick();
        }
        if self.now_ms >= self.disk_hangs_until_ms && self.dice.one_in(3) {
            self.disk.sync();
        }
        if self.now_ms.is_multiple_of(25) {
            let core = self.core.clone();
            self.begin(async move {
                Done::Garbage(core.read(|state| Ok(state.pending_sweeps(64)), |_| true).await)
            });
        }
        let mut done = Vec::new();
        self.pending.retain_mut(|pending| {
            if !pending.woken.0.swap(false, Ordering::Relaxed) {
                return true;
            }
            let waker = Waker::from(pending.woken.clone());
            match pending.work.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(outcome) => done.push(outcome),
                Poll::Pending => return true,
            }
            false
        });
        done.into_iter().for_each(|done| self.finish(done));
        let state = self.core.state.lock();
        self.judge.channel(&state, self.shape.capacity);
        let was_full = std::mem::replace(&mut self.is_full, is_full(&self.graph, &state));
        self.tally.channel_full += u64::from(self.is_full && !was_full);
        if self.now_ms.is_multiple_of(TICK_MS) {
            self.judge.members(&state, self.now_ms);
        }
        if self.now_ms.is_multiple_of(25) {
            liar::lie(&state, &self.plan, self.shape, self.seed);
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Answered { to, call, answer } => {
                self.tally.refused += u64::from(answer.is_err());
                self.send(Message::Answer { to, call, answer });
            }
            Done::Garbage(sweeps) => {
                let sweeps = sweeps.unwrap();
                sweeps.iter().for_each(|sweep| self.store.sweep(sweep));
                let sweeps: Vec<u64> = sweeps.iter().map(|sweep| sweep.sweep).collect();
                if !sweeps.is_empty() {
                    self.send(Message::Call { from: 0, call: 0, command: Swept { sweeps }.into() });
                }
            }
        }
    }

    fn act(&mut self) {
        for index in 0..self.actors.len() {
            if self.actors[index].is_due(self.now_ms) {
                self.with_actor_at(index, Actor::act);
            }
        }
    }
}

fn is_full(graph: &Graph, state: &State) -> bool {
    let ends = graph.channel(CHANNEL).unwrap();
    let channel = state.durable().channels.get(CHANNEL);
    channel.is_some_and(|channel| channel.is_short_of_bytes(ends))
}

fn start_core(graph: &Arc<Graph>, disk: &SharedDisk, resumes: bool) -> Arc<Core<SimLog>> {
    let (log, recovered) = disk.open();
    let cancel = CancellationToken::new();
    Arc::new(Core::new(graph.clone(), TIMEOUTS, log, recovered, resumes, cancel))
}
