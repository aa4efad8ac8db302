//! The example whose channel is read in three ways, with processes that are killed.
//!
//! Owns who is killed. May not know how batches travel. Invariant: no batch is lost, and none is
//! twice in what a checkpoint holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::pictures::Random;
use crate::program::example;
use crate::support::{DEADLINE_LONG, Running, Sandbox, signal, stage, wait_for};

const NUMBERS: u64 = 16_000;
/// Of 16 numbers each.
const BATCHES: u64 = NUMBERS / 16;

/// A run of the example.
struct Deliveries {
    sandbox: Sandbox,
    kind: &'static str,
}

impl Deliveries {
    fn new(kind: &'static str) -> Self {
        Self { sandbox: Sandbox::new(), kind }
    }

    /// Workers always hold leases: a split of 64 takes them 32 ms.
    fn start(&self) -> Running {
        self.start_with(&["--work", "500", "--pause", "1000"])
    }

    fn start_with(&self, more: &[&str]) -> Running {
        let numbers = NUMBERS.to_string();
        let told = ["run", "--delivery", self.kind, "--numbers", &numbers];
        let args = told.iter().chain(&["--json", "figures.json"]).chain(more);
        self.sandbox.start(self.sandbox.command(&example("deliveries"), args))
    }

    fn resume(&self, workers: &str) -> Running {
        let args = ["run", "--resume", "--workers", workers];
        self.sandbox.start(self.sandbox.command(&example("deliveries"), args))
    }

    /// What `status --json` says of the run.
    fn status(&self) -> Option<Value> {
        let command = self.sandbox.command(&example("deliveries"), ["status", "--json"]);
        let shown: Value =
            serde_json::from_slice(&self.sandbox.start(command).wait().stdout).ok()?;
        (shown["state"] == "running").then(|| shown["status"].clone())
    }

    /// The run's folder, once there is one.
    fn run_dir(&self) -> Option<PathBuf> {
        let runs = fs::read_dir(self.sandbox.path("state/deliveries")).ok()?;
        runs.flatten().map(|entry| entry.path()).max()
    }

    /// The batches that were handed out, in their order, those that were undone among them.
    fn taken(&self) -> Vec<u64> {
        let log = self.run_dir().map(|run| fs::read_to_string(run.join("taken")));
        let text = log.and_then(Result::ok).unwrap_or_default();
        text.lines().map(|line| line.parse().expect("a number")).collect()
    }

    /// Waits until so many batches were handed out.
    fn wait_for_taken(&self, run: &mut Running, count: u64) {
        wait_for(&format!("{count} batches"), || {
            assert!(!run.has_ended(), "the run ended: {:?}", run.read());
            (self.taken().len() as u64 >= count).then_some(())
        });
    }

    /// Kills workers, the coordinator and the one who takes, at random moments.
    fn kill_many(&self, run: &mut Running, seed: u64) {
        self.kill_many_when(run, seed, |_| {});
    }

    /// The same; before each kill `moment` may wait for more.
    fn kill_many_when(&self, run: &mut Running, seed: u64, moment: impl Fn(&mut Running)) {
        let mut random = Random(seed);
        let mut at = 0;
        for name in ["square-0", "take-0", "coordinator", "square-1", "take-0"] {
            at += 30 + random.below(120);
            self.wait_for_taken(run, at);
            moment(run);
            let pid = self.sandbox.process(name);
            signal(pid, Signal::KILL);
            wait_for(&format!("another {name}"), || {
                (self.sandbox.process(name) != pid).then_some(())
            });
        }
    }

    fn assert_exactly_once(&self, figures: &Value) {
        let delivery = &figures["channels"]["squares"];
        assert_eq!(delivery["exactly_once"], true, "{delivery}");
        assert_eq!(delivery["batches"], BATCHES, "{delivery}");
        assert_eq!(figures["results"]["batches"], BATCHES);
        let sum: u64 = (0..NUMBERS).map(|n| n * n).sum();
        assert_eq!(figures["results"]["sum"], sum);
        assert_eq!(self.sandbox.processes(), [], "orphans");
    }
}

/// How often each batch was handed out.
fn times(taken: &[u64]) -> BTreeMap<u64, u64> {
    let mut times = BTreeMap::new();
    taken.iter().for_each(|batch| *times.entry(*batch).or_insert(0) += 1);
    times
}

#[test]
fn unordered_batches_are_each_kept_once_whoever_is_killed() {
    let deliveries = Deliveries::new("unordered");
    let mut run = deliveries.start();
    deliveries.kill_many(&mut run, 3);
    let figures = run.figures();
    deliveries.assert_exactly_once(&figures);
    let rolled_back = figures["channels"]["squares"]["rolled_back"].as_u64();
    assert!(rolled_back > Some(0), "{figures}");
}

/// Bytes of a channel with room for few splits: one is four batches of 16 numbers, 4 or 5 B each.
const ROOM: &str = "1000B";
/// Splits that may be ahead of the one who takes, by default.
const WINDOW: u64 = 16;

/// Whether nobody works, and whoever asks for a split is refused it, for the bytes of the channel:
/// the window has room.
fn waits_for_room(status: &Value) -> bool {
    let (set, channel) = (&status["sets"]["numbers"], &status["channels"]["squares"]);
    let [leased, committed] =
        ["leased", "committed"].map(|state| set[state].as_u64().unwrap_or(WINDOW));
    channel["full"] == true && leased == 0 && committed < WINDOW
}

#[test]
fn workers_that_wait_for_room_in_a_full_channel_go_on_whoever_is_killed() {
    for (kind, seed) in [("ordered", 5), ("unordered", 6)] {
        let deliveries = Deliveries::new(kind);
        let mut run = deliveries.start_with(&["--room", ROOM, "--pause", "4000"]);
        deliveries.kill_many_when(&mut run, seed, |run| {
            wait_for("workers that wait for room", || {
                assert!(!run.has_ended(), "the run ended: {:?}", run.read());
                deliveries.status().filter(waits_for_room)
            });
        });
        let figures = run.figures();
        deliveries.assert_exactly_once(&figures);
        let rolled_back = figures["channels"]["squares"]["rolled_back"].as_u64();
        assert!(rolled_back > Some(0), "{kind}: {figures}");
    }
}

#[test]
fn an_unordered_run_that_is_killed_is_resumed() {
    let deliveries = Deliveries::new("unordered");
    let mut run = deliveries.start();
    for (count, workers) in [(150, "3"), (400, "1")] {
        deliveries.wait_for_taken(&mut run, count);
        assert!(deliveries.sandbox.kill_everybody(run).is_none(), "it goes on");
        run = deliveries.resume(workers);
    }
    deliveries.assert_exactly_once(&run.figures());
}

#[test]
fn a_slow_split_holds_up_nobody_where_there_is_no_order() {
    let deliveries = Deliveries::new("unordered");
    let mut run = deliveries.start();
    deliveries.wait_for_taken(&mut run, 40);
    // It stands still with what it has leased until its lease, or its membership, is over.
    let stopped = deliveries.sandbox.process("square-0");
    signal(stopped, Signal::STOP);
    wait_for("many batches beyond one that is missing", || {
        assert!(!run.has_ended(), "the run ended: {:?}", run.read());
        let taken = deliveries.taken();
        let missing = (0..).find(|batch| !taken.contains(batch))?;
        (taken.iter().filter(|batch| **batch > missing).count() >= 20).then_some(())
    });
    signal(stopped, Signal::CONT);
    deliveries.assert_exactly_once(&run.figures());
}

/// The only record takes a worker longer than its first lease lasts, and it is heard of all the
/// while: the lease ends, another one makes the split, and what the first one commits is refused.
#[test]
#[ignore = "two minutes: a lease lasts one"]
fn a_worker_that_works_beyond_its_lease_is_refused_and_changes_nothing() {
    let deliveries = Deliveries::new("ordered");
    let sandbox = &deliveries.sandbox;
    let args = ["run", "--numbers", "1", "--work", "62000000", "--json", "figures.json"];
    let run = sandbox.start(sandbox.command(&example("deliveries"), args));
    let figures = run.figures_within(DEADLINE_LONG);
    assert_eq!(
        (&figures["results"]["sum"], &figures["results"]["batches"]),
        (&0.into(), &1.into())
    );
    assert_eq!(figures["channels"]["squares"]["exactly_once"], true, "{figures}");
    // Both have mapped it, and nobody was taken for dead.
    let square = stage(&figures, "square");
    assert_eq!((&square["records"], &square["processes"]), (&2.into(), &2.into()), "{square}");
}

#[test]
fn at_least_once_loses_no_batch_whoever_is_killed() {
    let deliveries = Deliveries::new("at-least-once");
    let mut run = deliveries.start();
    deliveries.kill_many(&mut run, 4);
    let figures = run.figures();
    let delivery = &figures["channels"]["squares"];
    assert_eq!(delivery["exactly_once"], true, "each counts once: {delivery}");
    let times = times(&deliveries.taken());
    assert_eq!(times.keys().copied().collect::<Vec<_>>(), (0..BATCHES).collect::<Vec<_>>());
    assert!(times.values().any(|times| *times > 1), "nobody was killed between checkpoints");
}

#[test]
fn ordered_batches_come_in_order_from_packed_records_too() {
    // One object, two, and one that is not full.
    for packing in ["1", "64", "9000", "20000"] {
        let deliveries = Deliveries::new("ordered");
        let figures = deliveries.start_with(&["--packing", packing]).figures();
        deliveries.assert_exactly_once(&figures);
        assert_eq!(deliveries.taken(), (0..BATCHES).collect::<Vec<_>>());
    }
    let sandbox = Sandbox::new();
    let refused = sandbox.command(&example("deliveries"), ["run", "--packing", "0"]);
    let ended = sandbox.start(refused).wait();
    assert!(ended.line(1).contains("0 records to an object of set `numbers`"), "{ended:?}");
}
