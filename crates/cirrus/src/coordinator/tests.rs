//! The coordinator over loopback, killed and started again.
//!
//! Owns servers in threads and in child processes. May not look past the HTTP API.
//! Invariant: every wait is for a condition, with a deadline.

mod stopped;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::thread::JoinHandle;

use super::*;
use crate::api::*;
use crate::control::Control;
use crate::coordinator::ledger::check;
use crate::error::Kind;
use crate::spec::tests::example;
use crate::split::{SplitPlan, SplitSpec};

const LOOPBACK: &str = "127.0.0.1:0";
const CHILD_DIR: &str = "CIRRUS_TEST_COORDINATOR_DIR";
const CHILD_LISTEN: &str = "CIRRUS_TEST_COORDINATOR_LISTEN";

/// 32 records, 8 batches, 4 splits.
fn splits() -> SplitSpec {
    SplitSpec { batch: 4, batches_per_split: 2, window: 4, ..SplitSpec::default() }
}

fn options(dir: &std::path::Path, listen: &str) -> CoordinatorOptions {
    let listen = listen.parse().unwrap();
    let timeouts = Timeouts::default();
    let (dir, spec) = (dir.into(), example(1000, splits()));
    CoordinatorOptions { listen, dir, spec, timeouts, resumes: false }
}

/// A coordinator in a thread of this process.
struct Server {
    address: SocketAddr,
    cancel: CancellationToken,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Server {
    fn start(dir: &std::path::Path, listen: &str) -> Self {
        Self::start_with(options(dir, listen))
    }

    fn start_with(options: CoordinatorOptions) -> Self {
        let cancel = CancellationToken::new();
        let (sender, receiver) = std::sync::mpsc::channel();
        let token = cancel.clone();
        let thread = std::thread::spawn(move || {
            serve(options, move |address| sender.send(address).unwrap(), token)
        });
        let address = receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        Self { address, cancel, thread: Some(thread) }
    }

    fn control(&self) -> Control {
        Control::new(self.address)
    }

    fn stop(&mut self) -> Result<()> {
        self.cancel.cancel();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn output(grant: &Grant) -> Vec<Output> {
    let (batches, checksum) = (grant.range.batches, 7);
    vec![Output { channel: "batches".into(), batches, bytes: 10, checksum }]
}

fn grant(control: &Control, member: MemberId) -> Grant {
    match control.lease(member, "train", control.request()).unwrap() {
        LeaseAnswer::Granted(grant) => grant,
        other => panic!("{other:?}"),
    }
}

fn checkpoint(cursor: u64) -> CheckpointRecord {
    let (key, beyond) = (format!("model.{cursor}"), Vec::new());
    CheckpointRecord { cursor, beyond, key, version: 1, bytes: 1, checksum: 1 }
}

/// What a child process runs: this test binary with this one test and the environment set.
#[test]
fn child_serves() {
    let (Ok(dir), Ok(listen)) = (std::env::var(CHILD_DIR), std::env::var(CHILD_LISTEN)) else {
        return;
    };
    let ready = |address| println!("\naddress {address}");
    serve(options(dir.as_ref(), &listen), ready, CancellationToken::new()).unwrap();
}

/// A coordinator in a process of its own, which can be killed.
struct Process(Child, SocketAddr);

impl Process {
    fn start(dir: &std::path::Path, listen: &str) -> Self {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "coordinator::tests::child_serves", "--nocapture"])
            .env(CHILD_DIR, dir)
            .env(CHILD_LISTEN, listen)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().strip_prefix("address ")?.parse().ok())
            .expect("the child tells its address");
        // The rest is read to its end, so that the child never blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child, address)
    }

    /// Kill -9.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is gone already where the test ended as planned.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_job_goes_on_after_kill_9_at_every_step() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), LOOPBACK);
    let address = process.1.to_string();
    let (control, trainer) = (Control::new(process.1), Control::new(process.1));
    let mut restart = || {
        process.kill();
        process = Process::start(dir.path(), &address);
    };
    let member = control.register("decode", 0, None).unwrap();
    restart();
    assert_eq!(control.register("decode", 0, None).unwrap(), member);
    let consumer = trainer.register("train", 0, None).unwrap();
    control.seal_set("train", 32).unwrap();
    restart();
    assert_eq!(control.set("train", true).unwrap().count, Some(32));
    let generation = trainer.open_consumer(consumer, "batches", 1, false).unwrap().generation;
    let mut attempts = Vec::new();
    for split in 0..4 {
        let request = control.request();
        let first = control.lease(member, "train", request).unwrap();
        restart();
        assert_eq!(control.lease(member, "train", request).unwrap(), first);
        let LeaseAnswer::Granted(grant) = first else { panic!("{first:?}") };
        assert_eq!(grant.split, split);
        attempts.push(grant.attempt);
        control.commit(member, "train", &grant, output(&grant)).unwrap();
        restart();
        control.commit(member, "train", &grant, output(&grant)).unwrap();
        let answer = trainer.next("batches", generation, split, Vec::new()).unwrap();
        let NextAnswer::Committed(committed) = answer else { panic!("{answer:?}") };
        assert_eq!(committed.attempt, grant.attempt);
        trainer.checkpoint("batches", generation, checkpoint(split * 2 + 2)).unwrap();
        restart();
        trainer.checkpoint("batches", generation, checkpoint(split * 2 + 2)).unwrap();
        control.heartbeat(member, Counters::new()).unwrap();
        trainer.heartbeat(consumer, Counters::new()).unwrap();
    }
    assert!(attempts.is_sorted_by(|a, b| a < b), "{attempts:?}");
    let ended = control.lease(member, "train", control.request()).unwrap();
    assert_eq!(ended, LeaseAnswer::Ended);
    let plan = SplitPlan::new(&splits(), 32).unwrap();
    assert_eq!(check(&plan, trainer.ledger("batches").unwrap()).unwrap().kept, 8);
    assert!(control.status().unwrap().boots >= 14);
}

#[test]
fn every_call_goes_over_http_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), LOOPBACK);
    let (node, worker, trainer) = (server.control(), server.control(), server.control());
    node.register("memory:data", 0, Some("127.0.0.1:7".into())).unwrap();
    assert_eq!(worker.view("data", None).unwrap().epoch, 1);
    let member = worker.register("decode", 0, None).unwrap();
    let consumer = trainer.register("train", 0, None).unwrap();
    worker.seal_set("train", 32).unwrap();
    let generation = trainer.open_consumer(consumer, "batches", 1, false).unwrap().generation;
    let first = grant(&worker, member);
    worker.give_back(member, "train", &first).unwrap();
    let first = grant(&worker, member);
    worker.commit(member, "train", &first, output(&first)).unwrap();
    trainer.next("batches", generation, 0, Vec::new()).unwrap();
    trainer.lost("batches", generation, 0, first.attempt).unwrap();
    let again = grant(&worker, member);
    worker.commit(member, "train", &again, output(&again)).unwrap();
    trainer.next("batches", generation, 0, Vec::new()).unwrap();
    trainer.checkpoint("batches", generation, checkpoint(1)).unwrap();
    trainer.report(consumer, "loss", serde_json::json!({"last": 0.25})).unwrap();
    let counters = Counters::from([("records".to_owned(), 8)]);
    assert!(!worker.heartbeat(member, counters).unwrap().stop);
    let sweeps = worker.sweeps().unwrap();
    assert_eq!(sweeps.len(), 2);
    worker.swept(sweeps.iter().map(|sweep| sweep.sweep).collect()).unwrap();
    assert!(worker.sweeps().unwrap().is_empty());
    worker.request_stop().unwrap();
    assert!(trainer.heartbeat(consumer, Counters::new()).unwrap().stop);
    trainer.end(consumer, Outcome::Done, Counters::new()).unwrap();
    worker.member_gone("decode", 0, std::process::id()).unwrap();
    let status = worker.status().unwrap();
    assert_eq!(status.tasks["decode"].counters["records"], 8);
    assert_eq!(status.reports[0].value["last"], 0.25);
    assert!(status.channels["batches"].closed);
    let refused = worker.heartbeat(member, Counters::new()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Stale);
    let refusal = Refusal::of(&refused).unwrap();
    assert_eq!(refusal.kind, RefusalKind::MemberExpired);
    server.stop().unwrap();
}

#[test]
fn a_wait_ends_when_the_state_changes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), LOOPBACK);
    let (worker, other) = (server.control(), server.control());
    let member = worker.register("decode", 0, None).unwrap();
    let started = Instant::now();
    assert_eq!(worker.lease(member, "train", 1).unwrap(), LeaseAnswer::Wait);
    assert!(started.elapsed() >= POLL_MAX, "{:?}", started.elapsed());
    // One call each, asked before there is an answer: none comes back with nothing.
    std::thread::scope(|scope| {
        let set = scope.spawn(|| other.set("train", true).unwrap());
        let view = scope.spawn(|| other.view("data", Some(0)).unwrap());
        let lease = scope.spawn(|| worker.lease(member, "train", 1).unwrap());
        let (node, sealer) = (server.control(), server.control());
        node.register("memory:data", 0, Some("127.0.0.1:7".into())).unwrap();
        sealer.seal_set("train", 32).unwrap();
        assert_eq!(set.join().unwrap().count, Some(32));
        assert_eq!(view.join().unwrap().epoch, 1);
        assert!(matches!(lease.join().unwrap(), LeaseAnswer::Granted(_)));
    });
}

#[test]
fn a_worker_that_hangs_is_overtaken_and_its_late_commit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path(), LOOPBACK);
    options.timeouts.lease_timeout = Duration::from_secs(1);
    let server = Server::start_with(options);
    let (hung, quick, trainer) = (server.control(), server.control(), server.control());
    let members = [(&hung, 0), (&quick, 1)];
    let [slow, member] = members.map(|(c, replica)| c.register("decode", replica, None).unwrap());
    let consumer = trainer.register("train", 0, None).unwrap();
    let generation = trainer.open_consumer(consumer, "batches", 1, false).unwrap().generation;
    hung.seal_set("train", 32).unwrap();
    let late = grant(&hung, slow);
    // Asked while the lease stands still, and answered when it ran out.
    let overtaking = grant(&quick, member);
    assert_eq!((overtaking.split, late.split), (0, 0));
    let refusal = |commit: Result<()>| Refusal::of(&commit.unwrap_err()).unwrap().kind;
    let commit = || hung.commit(slow, "train", &late, output(&late));
    assert_eq!(refusal(commit()), RefusalKind::StaleAttempt);
    quick.commit(member, "train", &overtaking, output(&overtaking)).unwrap();
    assert_eq!(refusal(commit()), RefusalKind::StaleAttempt);
    let answer = trainer.next("batches", generation, 0, Vec::new()).unwrap();
    let NextAnswer::Committed(committed) = answer else { panic!("{answer:?}") };
    assert_eq!(committed.attempt, overtaking.attempt);
    // It lives, and goes on with another split.
    assert!(!hung.heartbeat(slow, Counters::new()).unwrap().stop);
    assert_eq!(grant(&hung, slow).split, 1);
}

#[test]
fn a_refusal_has_a_status_a_kind_and_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), LOOPBACK);
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let url = |path: &str| format!("http://{}/v1/{path}", server.address);
    let read = |response: Result<ureq::http::Response<ureq::Body>, ureq::Error>| {
        let mut response = response.unwrap();
        let refusal: Refusal = response.body_mut().read_json().unwrap();
        (response.status().as_u16(), refusal.kind)
    };
    let post = |path: &str, kind: &str, body: &str| {
        read(agent.post(url(path)).content_type(kind).send(body))
    };
    let json = "application/json";
    assert_eq!(post("stop", "text/plain", "{}"), (400, RefusalKind::Input));
    assert_eq!(post("lease", json, "{"), (400, RefusalKind::Input));
    assert_eq!(post("seal", json, r#"{"set":"attic","count":1}"#), (404, RefusalKind::NotFound));
    let beat = r#"{"member":9,"counters":{}}"#;
    assert_eq!(post("heartbeat", json, beat), (409, RefusalKind::MemberExpired));
    let long = "x".repeat(300 << 10);
    assert_eq!(post("seal", json, &long), (413, RefusalKind::TooLarge));
    assert_eq!(read(agent.get(url("attic")).call()), (404, RefusalKind::NotFound));
    assert_eq!(read(agent.get(url("lease")).call()), (404, RefusalKind::NotFound));
    assert_eq!(read(agent.get(url("sets/attic")).call()), (404, RefusalKind::NotFound));
    assert_eq!(read(agent.get(url("ledger/attic")).call()), (404, RefusalKind::NotFound));
    assert_eq!(agent.get(url("health")).call().unwrap().status().as_u16(), 200);
}

#[test]
fn a_call_outlasts_a_restart_of_the_coordinator() {
    let dir = tempfile::tempdir().unwrap();
    let crashed = TcpListener::bind(LOOPBACK).unwrap();
    let address = crashed.local_addr().unwrap();
    let call = std::thread::spawn(move || Control::new(address).register("decode", 0, None));
    // The first try gets a connection that breaks.
    drop(crashed.accept().unwrap());
    drop(crashed);
    let _server = Server::start(dir.path(), &address.to_string());
    assert_eq!(call.join().unwrap().unwrap(), MemberId(1));
}

#[test]
fn patience_has_an_end() {
    let closed = TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap();
    let control = Control::new(closed).with_patience(Duration::from_millis(50));
    let error = control.request_stop().unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains(&closed.to_string()), "{error}");
}

#[test]
fn an_address_that_cannot_be_had_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let fail = |listen: &str| {
        serve(options(dir.path(), listen), |_| {}, CancellationToken::new()).unwrap_err()
    };
    let taken = TcpListener::bind(LOOPBACK).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = fail(&address);
    assert_eq!(error.kind(), Kind::Input);
    assert!(error.to_string().contains(&address), "{error}");
    let error = fail("0.0.0.0:0");
    assert_eq!(error.kind(), Kind::Input);
    assert!(error.to_string().contains("loopback"), "{error}");
}

#[test]
fn an_end_releases_those_who_wait() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), LOOPBACK);
    let control = server.control();
    let member = control.register("decode", 0, None).unwrap();
    let waiting =
        std::thread::spawn(move || control.with_patience(Duration::ZERO).lease(member, "train", 1));
    server.stop().unwrap();
    // Asked before the end it is told to wait, asked after it there is nobody.
    match waiting.join().unwrap() {
        Ok(answer) => assert_eq!(answer, LeaseAnswer::Wait),
        Err(error) => assert_eq!(error.kind(), Kind::Unavailable),
    }
}
