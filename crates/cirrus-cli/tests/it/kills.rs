//! Processes that are killed in the middle of a run.
//!
//! Owns who is killed and when. May not reach into the program: it looks at `status` and sends
//! SIGKILL. Invariant: a disturbed run ends as the undisturbed one with the same seed, byte for
//! byte.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cirrus_store::{BlockingClient, ClientOptions};
use rustix::process::Signal;
use serde_json::Value;

use crate::ledger::{self, Reading};
use crate::pictures::{self, Random};
use crate::support::{DEADLINE_LONG, Running, Sandbox, ports, signal, stage, wait_for};

const SEED: u64 = 5;

/// A data set, and how the undisturbed run over it ended.
struct Job {
    sandbox: Sandbox,
    args: Vec<String>,
    epochs: u32,
    images: u64,
    sequence: String,
    model: Vec<u8>,
    /// How long the undisturbed run took.
    took: Duration,
}

impl Job {
    /// Small images, so that the trainer is what takes time: 19 splits an epoch, and every
    /// checkpoint lets a few more be made.
    fn small(epochs: u32) -> Self {
        Self::new(epochs, 1500, 8, pictures::tiny)
    }

    /// Images that take time to decode.
    fn large() -> Self {
        Self::new(3, 160, 4, pictures::photographs)
    }

    fn new(epochs: u32, images: u64, batch: u32, make: fn(&std::path::Path, u64)) -> Self {
        let sandbox = Sandbox::new();
        let data = sandbox.path("data");
        make(&data, images);
        let args = format!("--size 8 --batch {batch} --epochs {epochs} --seed {SEED}");
        let mut args: Vec<String> = args.split(' ').map(str::to_owned).collect();
        args.extend(["--data".to_owned(), data.display().to_string()]);
        let (sequence, model, took) = (String::new(), Vec::new(), Duration::ZERO);
        let mut job = Self { sandbox, args, epochs, images, sequence, model, took };
        let began = Instant::now();
        let figures = job.start().figures_within(DEADLINE_LONG);
        job.took = began.elapsed();
        assert_eq!(figures["channels"]["batches"]["rolled_back"], 0);
        job.assert_exactly_once(&figures);
        job.sequence = self::sequence(&figures);
        job.model = self::model(&figures);
        job
    }

    /// Goes on with the run that was killed, with so many decoders.
    fn resume(&self, decoders: u32) -> Running {
        let decoders = decoders.to_string();
        let args = ["run", "images", "--resume", "--cpu-tasks", &decoders];
        self.sandbox.start(self.sandbox.cirrus(args))
    }

    fn start(&self) -> Running {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        self.sandbox.start_images(&args)
    }

    /// Waits for the moment, kills the process and waits until another one has its name.
    fn kill(
        &self,
        run: &mut Running,
        name: &str,
        what: &str,
        mut moment: impl FnMut(&Value) -> bool,
    ) {
        let pid = self.sandbox.process(name);
        self.sandbox.wait_for_status(run, what, |status| moment(status).then_some(()));
        signal(pid, Signal::KILL);
        wait_for(&format!("another {name}"), || (self.sandbox.process(name) != pid).then_some(()));
    }

    /// Every image exactly once per epoch in what was trained, and the model that follows from it.
    fn assert_undisturbed(&self, run: Running) -> Value {
        let figures = run.figures_within(DEADLINE_LONG);
        self.assert_exactly_once(&figures);
        assert_eq!(sequence(&figures), self.sequence, "the sequence of batches");
        assert!(model(&figures) == self.model, "the model's bytes");
        self.sandbox.assert_clean(&[]);
        figures
    }

    fn assert_exactly_once(&self, figures: &Value) {
        let delivery = &figures["channels"]["batches"];
        assert_eq!(delivery["exactly_once"], true, "{delivery}");
        let judged = figures["results"]["test_images"].as_u64().expect("a count");
        let reading = Reading { seed: SEED, epochs: self.epochs, count: self.images - judged };
        let lines = ledger::lines(figures);
        ledger::check(&lines, reading).expect("every image once per epoch");
        ledger::assert_faults_are_caught(&lines, reading);
        let undone = lines.iter().filter(|line| line.state == "rolled_back").count();
        assert_eq!(delivery["rolled_back"], undone);
    }
}

fn sequence(figures: &Value) -> String {
    figures["results"]["sequence_sha256"].as_str().expect("a hash").to_owned()
}

fn model(figures: &Value) -> Vec<u8> {
    let path: PathBuf = figures["results"]["model"].as_str().expect("a path").into();
    std::fs::read(path).expect("the model")
}

fn cursor(status: &Value) -> u64 {
    status["channels"]["batches"]["cursor"].as_u64().unwrap_or(0)
}

fn splits(status: &Value, state: &str) -> u64 {
    status["sets"]["train"][state].as_u64().unwrap_or(0)
}

/// The trainer was given batches that no checkpoint holds, and some are in one.
fn is_between_checkpoints(status: &Value) -> bool {
    let delivered = status["channels"]["batches"]["delivered"].as_u64();
    cursor(status) > 0 && delivered > Some(0)
}

/// More splits wait than the trainer may have read since it told how far it is: it checkpoints
/// when half of the window of 16 is read, so what lies beyond is not consumed.
fn has_unconsumed_commits(status: &Value) -> bool {
    cursor(status) > 0 && splits(status, "committed") >= 12 && splits(status, "pending") > 0
}

fn processes(figures: &Value, task: &str) -> u64 {
    stage(figures, task)["processes"].as_u64().expect("a count")
}

#[test]
fn a_decoder_killed_in_mid_epoch_is_replaced_and_no_image_is_lost_or_doubled() {
    let job = Job::large();
    let mut run = job.start();
    job.kill(&mut run, "decode-0", "a split half made", |status| {
        splits(status, "committed") + splits(status, "done") >= 2 && splits(status, "leased") > 0
    });
    let figures = job.assert_undisturbed(run);
    assert_eq!((processes(&figures, "decode"), processes(&figures, "train")), (2, 1));
}

#[test]
fn a_decoder_stopped_beyond_its_lease_is_refused_when_it_goes_on_and_changes_nothing() {
    let mut job = Job::large();
    job.args.extend(["--cpu-tasks".to_owned(), "2".to_owned()]);
    let mut run = job.start();
    let stopped = job.sandbox.process("decode-0");
    job.sandbox.wait_for_status(&mut run, "a split made and some held", |status| {
        let made = splits(status, "committed") + splits(status, "done") > 0;
        (made && splits(status, "leased") >= 2).then_some(())
    });
    signal(stopped, Signal::STOP);
    let is_it = |member: &&Value| member["pid"] == stopped;
    job.sandbox.wait_for_status(&mut run, "the end of its lease", |status| {
        let members = status["tasks"]["decode"]["members"].as_array()?;
        (members.iter().find(is_it)?["ending"] == "expired").then_some(())
    });
    // It goes on where it was: writes, and commits what another has made or makes.
    signal(stopped, Signal::CONT);
    let figures = job.assert_undisturbed(run);
    assert_eq!(processes(&figures, "decode"), 3, "{figures}");
    let folder: PathBuf = figures["run_dir"].as_str().expect("the run's folder").into();
    let log = std::fs::read_to_string(folder.join("logs/decode-0.log")).expect("a log");
    assert!(log.contains("is not one any more: its heartbeats stopped"), "{log}");
}

#[test]
fn one_two_and_seven_decoders_give_the_same_sequence() {
    // As one has made it, undisturbed.
    let mut job = Job::small(2);
    for decoders in ["2", "7"] {
        job.args.extend(["--cpu-tasks".to_owned(), decoders.to_owned()]);
        let figures = job.assert_undisturbed(job.start());
        assert_eq!(stage(&figures, "decode")["replicas"].to_string(), decoders);
        job.args.truncate(job.args.len() - 2);
    }
}

#[test]
fn a_decoder_killed_after_its_commit_and_before_consumption_changes_nothing() {
    let job = Job::small(8);
    let mut run = job.start();
    job.kill(&mut run, "decode-0", "commits that nobody consumed", has_unconsumed_commits);
    let figures = job.assert_undisturbed(run);
    assert_eq!((processes(&figures, "decode"), processes(&figures, "train")), (2, 1));
    assert_eq!(figures["channels"]["batches"]["rolled_back"], 0);
}

#[test]
fn a_trainer_killed_between_checkpoints_goes_on_from_the_last() {
    let job = Job::small(8);
    let mut run = job.start();
    job.kill(&mut run, "train-0", "batches beyond a checkpoint", is_between_checkpoints);
    let figures = job.assert_undisturbed(run);
    assert_eq!((processes(&figures, "decode"), processes(&figures, "train")), (1, 2));
    let rolled_back = figures["channels"]["batches"]["rolled_back"].as_u64();
    assert!(rolled_back > Some(0), "{rolled_back:?}");
}

#[test]
fn a_batch_altered_in_memory_is_made_again() {
    let job = Job::small(2);
    let mut run = job.start();
    // It reads nothing until the batch is altered.
    let trainer = job.sandbox.process("train-0");
    signal(trainer, Signal::STOP);
    let node = job.sandbox.wait_for_status(&mut run, "a full window", |status| {
        let full = splits(status, "committed") >= 16 && splits(status, "leased") == 0;
        full.then(|| ports(&job.sandbox, status)[0].clone())
    });
    let url = format!("cirrus://{node}");
    let listed = job.sandbox.run(["ls", "!channel/batches/", "--at", &url]);
    let key = listed.text().lines().find(|line| line.contains("{0000000000000005."));
    let key = key.and_then(|line| line.split_whitespace().find(|word| word.starts_with('!')));
    let key = key.unwrap_or_else(|| panic!("no batch of split 5: {}", listed.text()));
    let mut batch = job.sandbox.run(["get", key, "--at", &url]).stdout;
    *batch.last_mut().expect("a pixel") ^= 1;
    let altered = job.sandbox.write("altered", batch).display().to_string();
    let put = job.sandbox.run(["put", key, &altered, "--at", &url]);
    assert_eq!(put.code, Some(0), "{}", put.stderr);
    signal(trainer, Signal::CONT);
    let figures = job.assert_undisturbed(run);
    let folder: PathBuf = figures["run_dir"].as_str().expect("the run's folder").into();
    let log = std::fs::read_to_string(folder.join("logs/train-0.log")).expect("a log");
    assert!(log.contains("split 5 of channel `batches` has checksum"), "{log}");
}

#[test]
fn a_split_that_is_altered_twice_ends_the_run_with_one_line() {
    let job = Job::large();
    let mut run = job.start();
    let node = job.sandbox.wait_for_status(&mut run, "a memory node", |status| {
        status["pools"]["data"]["nodes"][0]["address"].as_str()?;
        Some(ports(&job.sandbox, status)[0].clone())
    });
    // The first batch of each attempt, as soon as it is there: the others take the decoder longer.
    let mut client = BlockingClient::new(&node, ClientOptions::default());
    let mut altered = BTreeSet::new();
    while !run.has_ended() && altered.len() < 2 {
        // The node ends with the run.
        let Ok(names) = client.list(b"!channel/batches/{0000000000000005.") else { break };
        for name in names.iter().filter(|name| name.key.as_bytes().ends_with(b"/00000000")) {
            if altered.insert(name.key.clone()) {
                let mut batch = client.get(&name.key).expect("a batch").value.to_vec();
                *batch.last_mut().expect("a pixel") ^= 1;
                client.put(&name.key, batch).expect("room");
            }
        }
    }
    let ended = run.wait();
    let line = ended.line(2);
    assert!(line.contains("train-0: split 5 of channel `batches` has checksum "), "{line}");
    assert!(line.contains(" and was committed with "), "{line}");
}

#[test]
fn a_trainer_killed_while_it_judges_judges_again() {
    let sandbox = Sandbox::new();
    let mut run = sandbox.start_images(&["--limit", "2000", "--epochs", "1"]);
    let trainer = sandbox.process("train-0");
    sandbox.wait_for_status(&mut run, "the last checkpoint", |status| {
        let batches = status["channels"]["batches"]["batches"].as_u64().unwrap_or(0);
        (batches > 0 && cursor(status) == batches).then_some(())
    });
    signal(trainer, Signal::KILL);
    let figures = run.figures_within(DEADLINE_LONG);
    assert_eq!(processes(&figures, "train"), 2);
    assert_eq!(figures["results"]["test_images"], 400);
    let delivery = &figures["channels"]["batches"];
    assert_eq!((&delivery["exactly_once"], &delivery["rolled_back"]), (&true.into(), &0.into()));
    sandbox.assert_clean(&[]);
}

#[test]
fn a_killed_coordinator_is_restarted_and_the_tasks_go_on() {
    let job = Job::small(8);
    let mut run = job.start();
    job.kill(&mut run, "coordinator", "training", |status| cursor(status) > 0);
    let boots = job.sandbox.wait_for_status(&mut run, "the second boot", |status| {
        status["boots"].as_u64().filter(|boots| *boots > 1)
    });
    assert_eq!(boots, 2);
    let figures = job.assert_undisturbed(run);
    assert_eq!((processes(&figures, "decode"), processes(&figures, "train")), (1, 1));
}

#[test]
fn everybody_killed_in_one_run_changes_nothing() {
    let job = Job::small(16);
    let mut run = job.start();
    job.kill(&mut run, "decode-0", "commits that nobody consumed", has_unconsumed_commits);
    job.kill(&mut run, "train-0", "batches beyond a checkpoint", is_between_checkpoints);
    job.kill(&mut run, "coordinator", "anything", |_| true);
    // Both at once: the trainer's successor finds a coordinator that has just come back.
    let trainer = job.sandbox.process("train-0");
    job.kill(&mut run, "coordinator", "batches beyond a checkpoint", |status| {
        let moment = is_between_checkpoints(status);
        if moment {
            signal(trainer, Signal::KILL);
        }
        moment
    });
    let figures = job.assert_undisturbed(run);
    assert_eq!((processes(&figures, "decode"), processes(&figures, "train")), (2, 3));
}

#[test]
fn a_killed_memory_task_ends_the_run_with_one_line() {
    let sandbox = Sandbox::new();
    pictures::tiny(&sandbox.path("data"), 600);
    let mut run = sandbox.start_images(&["--data", "data", "--trainer", "sink:50"]);
    let memory = sandbox.process("memory-data-0");
    let ports = sandbox.wait_for_status(&mut run, "batches", |status| {
        (splits(status, "committed") > 0).then(|| ports(&sandbox, status))
    });
    signal(memory, Signal::KILL);
    let ended = run.wait();
    let line = ended.line(2);
    assert!(
        line.contains("memory node 0 of `data` ended") && line.contains("`run --resume`"),
        "{line}"
    );
    sandbox.assert_clean(&ports);
}

/// Kills whole runs at random moments, and resumes them with three decoders, then with two.
fn kill_and_resume(rounds: u64, seed: u64) {
    let mut random = Random(seed);
    let job = Job::small(8);
    // From the start to about the end: the first kill comes in the first half, whatever the machine.
    let half_ms = u64::try_from(job.took.as_millis()).expect("small") / 2;
    for round in 0..rounds {
        let mut run = job.start();
        let mut kills = 0;
        for (decoders, within_ms) in [(3, half_ms), (2, 2 * half_ms)] {
            job.sandbox.process("coordinator");
            let due = random.below(within_ms);
            std::thread::sleep(Duration::from_millis(due));
            run = match job.sandbox.kill_everybody(run) {
                None => {
                    kills += 1;
                    job.resume(decoders)
                }
                // It ended before: there is nobody to kill.
                Some(done) => {
                    run = done;
                    break;
                }
            };
        }
        assert!(kills > 0, "round {round}: the run was over before anybody was killed");
        let figures = job.assert_undisturbed(run);
        // A resumed run is no new one; ten are kept.
        assert_eq!(job.sandbox.run_dirs().len() as u64, (round + 2).min(10), "{figures}");
    }
}

#[test]
fn a_run_that_is_killed_and_resumed_with_other_workers_is_as_an_undisturbed_one() {
    kill_and_resume(2, 20);
}

#[test]
#[ignore = "long: make accept"]
fn so_are_many() {
    let seed = seed_of_today();
    println!("CIRRUS_KILLS_SEED={seed}");
    kill_and_resume(15, seed);
}

#[test]
fn a_run_is_resumed_after_its_memory_died_after_ctrl_c_and_after_its_last_checkpoint() {
    let job = Job::small(8);
    let mut run = job.start();
    let memory = job.sandbox.process("memory-data-0");
    job.sandbox.wait_for_status(&mut run, "a checkpoint", |s| (cursor(s) > 0).then_some(()));
    signal(memory, Signal::KILL);
    assert_eq!(run.wait().code, Some(2));
    let mut run = job.resume(1);
    let at = job.sandbox.wait_for_status(&mut run, "its status", |status| Some(cursor(status)));
    assert!(at > 0, "it begins at its last checkpoint");
    job.sandbox.wait_for_status(&mut run, "another one", |s| (cursor(s) > at).then_some(()));
    run.interrupt();
    assert_eq!(run.wait().code, Some(130));
    let mut run = job.resume(2);
    wait_for("the last checkpoint, or the end", || {
        let last = |status: &Value| {
            let batches = status["channels"]["batches"]["batches"].as_u64();
            batches > Some(0) && batches == Some(cursor(status))
        };
        (run.has_ended() || job.sandbox.status().is_some_and(|s| last(&s))).then_some(())
    });
    let run = job.sandbox.kill_everybody(run).unwrap_or_else(|| job.resume(1));
    job.assert_undisturbed(run);
}

#[test]
fn what_cannot_be_resumed_is_refused_with_one_line() {
    let sandbox = Sandbox::new();
    pictures::tiny(&sandbox.path("data"), 400);
    let line = |args: &[&str]| {
        let ended = sandbox.run(["run", "images"].iter().chain(args));
        ended.line(1).to_owned()
    };
    insta::assert_snapshot!(line(&["--resume"]), @"images: `images` has not run here; start it with its command `run`");
    let args = ["--data", "data", "--size", "8", "--epochs", "60", "--batch", "8"];
    let mut run = sandbox.start_images(&args);
    sandbox.wait_for_status(&mut run, "a checkpoint", |status| (cursor(status) > 0).then_some(()));
    let name = sandbox.run_dirs().pop().expect("a run");
    let name = name.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    let plain = |line: String| line.replace(name, "[RUN]");
    insta::assert_snapshot!(plain(line(&["--resume"])), @"images: run [RUN] of `images` goes on; end it with `down` before it is resumed");
    assert!(sandbox.kill_everybody(run).is_none(), "it goes on");
    insta::assert_snapshot!(plain(line(&["--resume", "--seed", "9"])), @"images: run [RUN] of `images` had other splits: resume it without the argument that changes them, or start anew");
    insta::assert_snapshot!(plain(line(&["--resume", "yesterday"])), @"images: `images` has no run yesterday here: not done are [RUN]");
    let resumed = ["run", "images", "--resume", name, "--memory", "1GiB"];
    let figures = sandbox.start(sandbox.cirrus(resumed)).figures();
    assert_eq!(figures["channels"]["batches"]["exactly_once"], true);
    insta::assert_snapshot!(plain(line(&["--resume"])), @"images: run [RUN] of `images` is done, or had not begun: there is nothing to resume");
    insta::assert_snapshot!(line(&["--resume", "yesterday"]), @"images: `images` has no run yesterday here: none can be resumed");
    sandbox.assert_clean(&[]);
}

fn seed_of_today() -> u64 {
    let time = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
    std::env::var("CIRRUS_KILLS_SEED").map_or(time, |seed| seed.parse().expect("a u64"))
}

/// Kills this many processes of one run at random.
const KILLS: u64 = 20;
/// A process that dies more often than five times a minute is given up, on purpose.
const KILLS_A_MINUTE: usize = 4;

#[test]
#[ignore = "long: make accept"]
fn twenty_random_kills_change_nothing() {
    let seed = seed_of_today();
    println!("CIRRUS_KILLS_SEED={seed}");
    let mut random = Random(seed);
    // Longer than so many kills take, however fast it trains.
    let job = Job::small(360);
    let mut run = job.start();
    let mut killed: Vec<(Instant, &str)> = Vec::new();
    while (killed.len() as u64) < KILLS {
        let names = ["decode-0", "train-0", "coordinator"];
        let name = names[usize::try_from(random.below(3)).expect("small")];
        let recently = |(at, other): &&(Instant, &str)| {
            *other == name && at.elapsed() < Duration::from_secs(60)
        };
        if killed.iter().filter(recently).count() >= KILLS_A_MINUTE {
            std::thread::sleep(Duration::from_millis(100));
            continue;
        }
        let due = Instant::now() + Duration::from_millis(random.below(4000));
        println!("kill {}: {name}", killed.len());
        job.kill(&mut run, name, "a random moment", |_| Instant::now() >= due);
        killed.push((Instant::now(), name));
    }
    let figures = job.assert_undisturbed(run);
    let restarts = |task: &str| killed.iter().filter(|(_, name)| name.starts_with(task)).count();
    for task in ["decode", "train"] {
        assert_eq!(processes(&figures, task), restarts(task) as u64 + 1, "{task}");
    }
}
