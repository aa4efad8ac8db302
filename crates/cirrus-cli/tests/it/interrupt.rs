//! Runs that somebody ends before they are done.
//!
//! Owns the ways to end one. Invariant: however it ends, no process, port or temporary file of it
//! is left.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::pictures;
use crate::support::{Running, Sandbox, counter, ports, signal, wait_until_closed};

/// A run that would go on for minutes, in which the sink has taken batches; and its ports.
fn endless(sandbox: &Sandbox) -> (Running, Vec<String>) {
    pictures::tiny(&sandbox.path("data"), 400);
    let args = ["--data", "data", "--batch", "8", "--epochs", "500", "--trainer", "sink:200"];
    let mut run = sandbox.start_images(&args);
    let ports = sandbox.wait_for_status(&mut run, "batches taken", |status| {
        (counter(status, "train", "batches") > 0).then(|| ports(sandbox, status))
    });
    (run, ports)
}

/// How long a task may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// It ends by itself, before anything has to be killed.
fn assert_interrupted(sandbox: &Sandbox, run: Running, ports: &[String]) {
    assert_ends_within(GRACE, sandbox, run, ports);
}

fn assert_ends_within(limit: Duration, sandbox: &Sandbox, run: Running, ports: &[String]) {
    let started = Instant::now();
    let ended = run.wait();
    assert!(started.elapsed() < limit, "it took {:?}", started.elapsed());
    let line = ended.line(130);
    assert_eq!(line, "images: interrupted; every process has ended");
    sandbox.assert_clean(ports);
    let shown = sandbox.run(["status", "images", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!((&shown["state"], &shown["summary"]), (&"over".into(), &Value::Null));
}

#[test]
fn ctrl_c_while_fetching_leaves_nothing() {
    let sandbox = Sandbox::new();
    // Stands in for a registry that is slow.
    let npm = sandbox.write("bin/npm", "#!/bin/sh\necho part > part\nexec sleep 600\n");
    std::fs::set_permissions(&npm, std::fs::Permissions::from_mode(0o755)).expect("a script");
    for group in [true, false] {
        let mut command = sandbox.cirrus(["run", "images"]);
        let path = format!("{}:/usr/bin:/bin", sandbox.path("bin").display());
        command.env("CIRRUS_CACHE_DIR", sandbox.path("cache")).env("PATH", path);
        let run = sandbox.start(command);
        sandbox.process("600");
        if group {
            run.interrupt()
        } else {
            signal(run.pid(), Signal::TERM)
        }
        let ended = run.wait();
        assert_eq!(ended.line(130), "images: interrupted; every process has ended");
        sandbox.wait_until_empty();
        let left: Vec<_> = std::fs::read_dir(sandbox.path("cache")).expect("the cache").collect();
        assert!(left.is_empty(), "{left:?}");
        sandbox.assert_clean(&[]);
    }
}

#[test]
fn ctrl_c_while_loading_leaves_nothing() {
    let sandbox = Sandbox::new();
    pictures::tiny(&sandbox.path("data"), 100);
    let ballast = std::fs::File::create(sandbox.path("data/red/ballast.png")).expect("a new file");
    ballast.set_len(200 << 20).expect("a hole");
    let mut run = sandbox.start_images(&["--data", "data", "--memory", "1GiB"]);
    sandbox.process("load-0");
    let ports = sandbox.wait_for_status(&mut run, "a memory node", |status| {
        status["pools"]["data"]["nodes"][0]["address"].as_str()?;
        Some(ports(&sandbox, status))
    });
    run.interrupt();
    assert_interrupted(&sandbox, run, &ports);
}

#[test]
fn ctrl_c_while_training_leaves_nothing() {
    let sandbox = Sandbox::new();
    let (run, ports) = endless(&sandbox);
    run.interrupt();
    assert_interrupted(&sandbox, run, &ports);
}

#[test]
fn sigterm_is_as_good_as_ctrl_c() {
    let sandbox = Sandbox::new();
    let (run, ports) = endless(&sandbox);
    signal(run.pid(), Signal::TERM);
    assert_interrupted(&sandbox, run, &ports);
}

#[test]
fn ctrl_c_before_anything_answers_leaves_nothing() {
    let sandbox = Sandbox::new();
    pictures::tiny(&sandbox.path("data"), 400);
    for _ in 0..5 {
        let run = sandbox.start_images(&["--data", "data", "--trainer", "sink:100"]);
        sandbox.process("coordinator");
        run.interrupt();
        assert_interrupted(&sandbox, run, &[]);
    }
}

#[test]
fn a_second_ctrl_c_does_not_wait_for_a_task_that_hangs() {
    let sandbox = Sandbox::new();
    let (run, ports) = endless(&sandbox);
    signal(sandbox.process("train-0"), Signal::STOP);
    run.interrupt();
    // The decoder ends at the first signal; the trainer, which is stopped, at the second.
    crate::support::wait_for("the decoder's end", || {
        sandbox.processes().iter().all(|process| process.name != "decode-0").then_some(())
    });
    run.interrupt();
    assert_interrupted(&sandbox, run, &ports);
}

#[test]
fn a_task_that_hangs_is_killed_when_the_grace_is_over() {
    let sandbox = Sandbox::new();
    let (run, ports) = endless(&sandbox);
    signal(sandbox.process("decode-0"), Signal::STOP);
    run.interrupt();
    assert_ends_within(2 * GRACE, &sandbox, run, &ports);
}

#[test]
fn the_processes_of_a_killed_driver_end_and_the_next_run_works() {
    let sandbox = Sandbox::new();
    let (run, ports) = endless(&sandbox);
    assert_eq!(sandbox.processes().len(), 5, "{:?}", sandbox.processes());
    signal(run.pid(), Signal::KILL);
    sandbox.wait_until_empty();
    wait_until_closed(&ports);
    assert_eq!(run.wait().code, None);
    let text = sandbox.run(["status", "images"]);
    assert!(text.text().contains("ended before it was done"), "{}", text.text());
    assert_eq!(sandbox.run(["down", "images"]).line(0), "images: nothing is running");
    sandbox.images(&["--data", "data", "--trainer", "sink:5000"]);
}

#[test]
fn down_ends_a_run_from_another_process() {
    let sandbox = Sandbox::new();
    let (run, ports) = endless(&sandbox);
    let down = sandbox.run(["down", "images"]);
    assert_eq!(down.code, Some(0), "{}", down.stderr);
    // It answers only when everything is over.
    sandbox.assert_clean(&ports);
    assert_interrupted(&sandbox, run, &ports);
}

#[test]
fn two_runs_of_one_application_do_not_meet() {
    let sandbox = Sandbox::new();
    pictures::tiny(&sandbox.path("data"), 400);
    let start = |seed: &'static str, json: &'static str| {
        let args = ["run", "images", "--data", "data", "--size", "8", "--batch", "16", "--seed"];
        sandbox.start(sandbox.cirrus(args.into_iter().chain([seed, "--json", json])))
    };
    let runs = [start("1", "1.json"), start("2", "2.json")];
    let ended = runs.map(Running::wait);
    let sequences = ["1.json", "2.json"].map(|name| {
        let text = std::fs::read(sandbox.path(name)).expect("the figures");
        let figures: Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(figures["channels"]["batches"]["exactly_once"], true);
        figures["results"]["sequence_sha256"].clone()
    });
    for ended in ended {
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    assert_ne!(sequences[0], sequences[1]);
    assert_eq!(sandbox.run_dirs().len(), 2);
    sandbox.assert_clean(&[]);
}
