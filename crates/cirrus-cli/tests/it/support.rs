//! Starting the program, looking at what it does, and looking at what it leaves behind.
//!
//! Owns processes and folders of a test. May not know what a test proves. Invariant: nothing that a
//! test starts outlives its [`Sandbox`], and nothing is waited for without a deadline.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

/// How long is waited. Generous: the machine may be busy with others.
const DEADLINE: Duration = Duration::from_secs(120);
/// The same for the long tests.
pub(crate) const DEADLINE_LONG: Duration = Duration::from_secs(25 * 60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Folders of one test's own: state, temporary files, and whatever the test puts in.
pub(crate) struct Sandbox {
    folder: TempDir,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// A command that goes on; killed when dropped.
pub(crate) struct Running {
    child: Child,
    output: PathBuf,
}

/// A process of the sandbox, as `ps` shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    /// Its first argument, which is its name within a run: `coordinator`, `decode-0`, …
    pub(crate) name: String,
    pub(crate) pid: u32,
}

/// Repeats a look until it shows something.
pub(crate) fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(DEADLINE, what, look)
}

fn wait_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} for {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("the process is there");
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["state", "tmp", "output"] {
            fs::create_dir(folder.path().join(name)).expect("a new folder");
        }
        Self { folder }
    }

    /// A file or folder of the test's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a new folder");
        fs::write(&path, bytes).expect("a new file");
        path
    }

    /// The program, to be started in this sandbox, in a process group of its own as a shell would.
    pub(crate) fn cirrus<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        self.command(Path::new(env!("CARGO_BIN_EXE_cirrus")), args)
    }

    /// Any program, in the same way.
    pub(crate) fn command<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.folder.path()).process_group(0);
        command.env("CIRRUS_STATE_DIR", self.path("state")).env("TMPDIR", self.path("tmp"));
        command.env("CIRRUS_DATA_DIR", self.path("own"));
        command.env_remove("CIRRUS_LOG").env_remove("COLUMNS").stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&self, mut command: Command) -> Running {
        let output = tempfile::tempdir_in(self.path("output")).expect("a folder").keep();
        command.stdout(File::create(output.join("stdout")).expect("a new file"));
        command.stderr(File::create(output.join("stderr")).expect("a new file"));
        Running { child: command.spawn().expect("the program starts"), output }
    }

    /// Runs the program to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ended {
        self.start(self.cirrus(args)).wait()
    }

    /// Runs `images` to its end, which must be a good one, and returns its figures.
    pub(crate) fn images(&self, args: &[&str]) -> Value {
        self.start_images(args).figures()
    }

    pub(crate) fn start_images(&self, args: &[&str]) -> Running {
        self.start(self.cirrus(["run", "images", "--json", "figures.json"].iter().chain(args)))
    }

    /// What `status images --json` says of a run that goes on.
    pub(crate) fn status(&self) -> Option<Value> {
        let ended = self.run(["status", "images", "--json"]);
        let shown: Value = serde_json::from_slice(&ended.stdout).ok()?;
        (shown["state"] == "running").then(|| shown["status"].clone())
    }

    /// Repeats a look at the status of `run` until it shows something.
    pub(crate) fn wait_for_status<T>(
        &self,
        run: &mut Running,
        what: &str,
        mut look: impl FnMut(&Value) -> Option<T>,
    ) -> T {
        wait_for(what, || {
            if run.child.try_wait().expect("a child").is_some() {
                panic!("the run ended before {what}: {:?}", run.read());
            }
            look(&self.status()?)
        })
    }

    /// Every process that was started in this sandbox and lives, beside those of `status`.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let marker = format!("CIRRUS_STATE_DIR={}", self.path("state").display());
        let entries = fs::read_dir("/proc").expect("Linux").flatten();
        let mut processes: Vec<Process> = entries
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                // A process that ends meanwhile, or has ended, has no environment any more.
                let environment = fs::read(entry.path().join("environ")).ok()?;
                let mut variables = environment.split(|byte| *byte == 0);
                variables.find(|variable| *variable == marker.as_bytes())?;
                let line = fs::read(entry.path().join("cmdline")).ok()?;
                let name = line.split(|byte| *byte == 0).nth(1).unwrap_or_default();
                let name = String::from_utf8_lossy(name).into_owned();
                (name != "status").then_some(Process { name, pid })
            })
            .collect();
        processes.sort();
        processes
    }

    /// The process of this name, once it is there.
    pub(crate) fn process(&self, name: &str) -> u32 {
        wait_for(name, || {
            self.processes().into_iter().find(|process| process.name == name).map(|p| p.pid)
        })
    }

    /// Kills every process of a run, the one that leads it first, and waits until they are gone;
    /// gives the run back if it is done already.
    pub(crate) fn kill_everybody(&self, mut run: Running) -> Option<Running> {
        if run.has_ended() {
            return Some(run);
        }
        // So that it does not end between a look and the kill.
        signal(run.pid(), Signal::STOP);
        if self.is_done(run.pid()) {
            signal(run.pid(), Signal::CONT);
            return Some(run);
        }
        signal(run.pid(), Signal::KILL);
        for Process { pid, .. } in self.processes() {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
            // The kernel may have done so already, for want of the leader.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        drop(run);
        self.wait_until_empty();
        None
    }

    /// Whether the run that this process leads has left its figures.
    fn is_done(&self, leader: u32) -> bool {
        let entries = |path: &Path| fs::read_dir(path).expect("a folder").flatten();
        let mut runs = entries(&self.path("state")).flat_map(|app| entries(&app.path()));
        runs.any(|run| {
            let record = fs::read(run.path().join("run.json")).unwrap_or_default();
            let record: Value = serde_json::from_slice(&record).unwrap_or_default();
            record["pid"] == leader && run.path().join("summary.json").exists()
        })
    }

    /// Waits until no process of this sandbox is left.
    pub(crate) fn wait_until_empty(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.processes().is_empty() {
            assert!(Instant::now() < deadline, "orphans: {:?}", self.processes());
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Nothing of a run is left but what it says it leaves: no process, no port, no temporary file.
    pub(crate) fn assert_clean(&self, ports: &[String]) {
        assert_eq!(self.processes(), [], "orphans");
        wait_until_closed(ports);
        let left: Vec<_> = fs::read_dir(self.path("tmp")).expect("a folder").flatten().collect();
        assert!(left.is_empty(), "temporary files: {left:?}");
        for run in self.run_dirs() {
            let done = run.join("summary.json").exists();
            for entry in fs::read_dir(&run).expect("a run's folder").flatten() {
                let name = entry.file_name().into_string().expect("UTF-8");
                let kept = ["app.json", "images.model", "lock", "logs", "run.json", "summary.json"];
                // What a run is resumed from that ended before it was done.
                let needed = ["args.json", "checkpoints", "coordinator"].contains(&name.as_str());
                let known = kept.contains(&name.as_str()) || name.starts_with("ledger-");
                let known = known || (needed && !done);
                assert!(known, "{} was left in {}", name, run.display());
            }
        }
    }

    pub(crate) fn run_dirs(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("state/images")) else { return Vec::new() };
        let mut runs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        runs.sort();
        runs
    }
}

/// Waits until nobody listens: a process that was killed loses its memory, by which it is found,
/// before its sockets.
pub(crate) fn wait_until_closed(ports: &[String]) {
    for port in ports {
        wait_for(&format!("the end of {port}"), || TcpStream::connect(port).is_err().then_some(()));
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for Process { pid, .. } in self.processes() {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// As a terminal does on Ctrl-C: a signal to the whole process group in the foreground.
    pub(crate) fn interrupt(&self) {
        let group = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        rustix::process::kill_process_group(group, Signal::INT).expect("the group is there");
    }

    pub(crate) fn wait(self) -> Ended {
        self.wait_within(DEADLINE)
    }

    fn wait_within(mut self, limit: Duration) -> Ended {
        let look = || self.child.try_wait().expect("a child");
        let status = wait_within(limit, "a command to end", look);
        let (stdout, stderr) = self.read();
        Ended { code: status.code(), stdout, stderr }
    }

    /// The figures of a run of `images` that must end well.
    pub(crate) fn figures(self) -> Value {
        self.figures_within(DEADLINE)
    }

    pub(crate) fn figures_within(self, limit: Duration) -> Value {
        let sandbox = self.output.ancestors().nth(2).expect("the sandbox").to_owned();
        let ended = self.wait_within(limit);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let text = fs::read(sandbox.join("figures.json")).expect("the figures");
        serde_json::from_slice(&text).expect("JSON")
    }

    pub(crate) fn read(&self) -> (Vec<u8>, String) {
        let read = |name| fs::read(self.output.join(name)).expect("what a command wrote");
        (read("stdout"), String::from_utf8(read("stderr")).expect("UTF-8"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8")
    }

    /// The one line on stderr of a command that failed by its user's input.
    #[track_caller]
    pub(crate) fn line(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "not one line: {}", self.stderr);
        assert!(self.stdout.is_empty(), "on stdout: {}", String::from_utf8_lossy(&self.stdout));
        self.stderr.trim_end()
    }
}

/// The ports that a status names, and the coordinator's from the run's record.
pub(crate) fn ports(sandbox: &Sandbox, status: &Value) -> Vec<String> {
    let node = status["pools"]["data"]["nodes"][0]["address"].as_str().expect("a memory node");
    let run = sandbox.run_dirs().pop().expect("a run");
    let record = fs::read(run.join("run.json")).expect("the run's record");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    let coordinator = record["coordinator"].as_str().expect("an address");
    vec![node.to_owned(), coordinator.to_owned()]
}

/// A counter of a task, summed over its processes; they tell it once a second.
pub(crate) fn counter(status: &Value, task: &str, name: &str) -> u64 {
    status["tasks"][task]["counters"][name].as_u64().unwrap_or(0)
}

/// A figure of a task.
pub(crate) fn stage<'a>(figures: &'a Value, task: &str) -> &'a Value {
    let stages = figures["stages"].as_array().expect("stages");
    stages.iter().find(|stage| stage["task"] == task).expect("the task")
}

pub(crate) fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}
