//! A worker's process that is stopped beyond its lease, and goes on.
//!
//! Owns worker processes whose batches are files. May not look past the HTTP API. Invariant: the
//! sequence of batches is that of a run in which nobody is stopped.

use std::io::{Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::ChildStdout;

use rustix::process::{Pid, Signal, kill_process};

use super::*;

const WORKER_DIR: &str = "CIRRUS_TEST_WORKER_DIR";
const WORKER_ADDRESS: &str = "CIRRUS_TEST_WORKER_ADDRESS";
const WORKER_REPLICA: &str = "CIRRUS_TEST_WORKER_REPLICA";

/// Where an attempt puts a batch, and what is in it.
fn batch(dir: &Path, split: u64, attempt: Attempt, within: u32) -> (PathBuf, String) {
    (dir.join(format!("{split}.{attempt}.{within}")), format!("batch {within} of split {split}"))
}

/// What a worker process runs; replica 0 stops for a line of its input in its first split.
#[test]
fn child_works() {
    let (Ok(dir), Ok(address)) = (std::env::var(WORKER_DIR), std::env::var(WORKER_ADDRESS)) else {
        return;
    };
    let replica = std::env::var(WORKER_REPLICA).unwrap().parse().unwrap();
    let control = Control::new(address.parse().unwrap());
    let member = control.register("decode", replica, None).unwrap();
    let (mut request, mut pauses) = (control.request(), replica == 0);
    loop {
        let grant = match control.lease(member, "train", request).unwrap() {
            LeaseAnswer::Granted(grant) => grant,
            LeaseAnswer::Wait => continue,
            LeaseAnswer::Ended => break,
        };
        request = control.request();
        for within in 0..grant.range.batches {
            let (path, content) = batch(dir.as_ref(), grant.split, grant.attempt, within);
            std::fs::write(path, content).unwrap();
            if std::mem::take(&mut pauses) {
                println!("\npauses {}", grant.attempt);
                std::io::stdin().read_line(&mut String::new()).unwrap();
            }
        }
        if let Err(error) = control.commit(member, "train", &grant, output(&grant)) {
            println!("\nrefused {} {:?}", grant.attempt, Refusal::of(&error).unwrap().kind);
        }
    }
    control.end(member, Outcome::Done, Counters::new()).unwrap();
}

/// Killed when it is dropped.
struct Worker(Child, Lines<BufReader<ChildStdout>>);

impl Worker {
    fn start(dir: &Path, address: SocketAddr, replica: u32) -> Self {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "coordinator::tests::stopped::child_works", "--nocapture"])
            .env(WORKER_DIR, dir)
            .env(WORKER_ADDRESS, address.to_string())
            .env(WORKER_REPLICA, replica.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self(child, lines)
    }

    /// The rest of the line that begins so, once it is there.
    fn says(&mut self, what: &str) -> String {
        let rest = |line: std::io::Result<String>| Some(line.unwrap().strip_prefix(what)?.into());
        self.1.find_map(rest).expect("the worker says it")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn ends(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It is gone already where the test ended as planned.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_worker_stopped_beyond_its_lease_changes_nothing_when_it_goes_on() {
    let (dir, batches) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut options = options(dir.path(), LOOPBACK);
    // Its heart stops with it, and yet it stays a member: what refuses it is its attempt.
    options.timeouts.heartbeat_timeout = Duration::from_secs(600);
    options.timeouts.lease_timeout = Duration::from_secs(1);
    let server = Server::start_with(options);
    let trainer = server.control();
    let consumer = trainer.register("train", 0, None).unwrap();
    let generation = trainer.open_consumer(consumer, "batches", 1, false).unwrap().generation;
    trainer.seal_set("train", 32).unwrap();

    let mut stopped = Worker::start(batches.path(), server.address, 0);
    let overtaken = stopped.says("pauses ");
    stopped.signal(Signal::STOP);
    // What it waits for; only that it is stopped keeps it from its commit.
    writeln!(stopped.0.stdin.as_ref().unwrap()).unwrap();
    let other = Worker::start(batches.path(), server.address, 1);
    let mut sequence = Vec::new();
    for split in 0..4 {
        let committed = loop {
            match trainer.next("batches", generation, split, Vec::new()).unwrap() {
                NextAnswer::Committed(committed) => break committed,
                NextAnswer::Wait => {}
                answer => panic!("{answer:?}"),
            }
        };
        assert_ne!(committed.attempt.to_string(), overtaken);
        for within in 0..committed.batches {
            let (path, content) = batch(batches.path(), split, committed.attempt, within);
            assert_eq!(std::fs::read_to_string(path).unwrap(), content);
            sequence.push(content);
        }
    }
    stopped.signal(Signal::CONT);
    assert_eq!(stopped.says("refused "), format!("{overtaken} StaleAttempt"));
    trainer.checkpoint("batches", generation, checkpoint(8)).unwrap();
    stopped.ends();
    other.ends();
    let expected = |split| (0..2).map(move |within| format!("batch {within} of split {split}"));
    assert_eq!(sequence, (0..4).flat_map(expected).collect::<Vec<_>>());
    let plan = SplitPlan::new(&splits(), 32).unwrap();
    assert_eq!(check(&plan, trainer.ledger("batches").unwrap()).unwrap().kept, 8);
}
