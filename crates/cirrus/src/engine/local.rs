//! The engine that runs every process on this machine.
//!
//! Owns the processes of a run: starts them, restarts what dies, ends them all. May not know what
//! tasks do. Invariant: a process is either in `running`, or due in `restarts`, or over.
//!
//! Every process leads a process group of its own, so that Ctrl-C reaches only the engine and what
//! a task starts ends with the task; the kernel kills it when the engine is killed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::control::Control;
use crate::coordinator::status::{Ending, Status};
use crate::error::{Error, Kind, Result};
use crate::process::{Exit, Part, Role};
use crate::rundir::{RunDir, RunRecord, write_json};
use crate::spec::AppSpec;

/// How long a task may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(5);
/// How long the coordinator may take to answer for the first time.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// A process may be started again this often within [`RESTART_WINDOW`].
const RESTARTS_MAX: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(60);
/// How often the run is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);

/// Who a process is, as people see it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Coordinator,
    Memory(String, u32),
    Task(String, u32),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => f.write_str("coordinator"),
            Self::Memory(pool, replica) => write!(f, "memory-{pool}-{replica}"),
            Self::Task(task, replica) => write!(f, "{task}-{replica}"),
        }
    }
}

enum Event {
    Exited {
        name: Name,
        pid: u32,
        status: ExitStatus,
    },
    /// The first line that a coordinator prints.
    Ready(Option<SocketAddr>),
    Interrupt,
}

/// What a run is told while it goes on.
pub(crate) trait Watcher {
    /// How things stand.
    fn status(&mut self, status: &Status);
    /// Something that a person should know.
    fn note(&mut self, text: &str);
}

/// How a run ended, when it did not fail.
pub(crate) enum Ended {
    /// Every task is done.
    Done(Box<Control>),
    /// Somebody asked for it to end.
    Interrupted,
}

/// A run on this machine.
pub(crate) struct Local {
    dir: RunDir,
    spec: AppSpec,
    args: Vec<String>,
    coordinator: SocketAddr,
    /// The coordinator is to start a run again whose processes are gone.
    resumes: bool,
    running: BTreeMap<Name, u32>,
    restarts: Vec<(Instant, Name)>,
    history: BTreeMap<Name, VecDeque<Instant>>,
    /// Tasks whose body has not returned yet.
    unfinished: usize,
    events: Receiver<Event>,
    sender: Sender<Event>,
}

impl Local {
    /// Prepares a run, or the next life of one that it `resumes`; nothing is started yet.
    pub(crate) fn new(
        dir: RunDir,
        spec: AppSpec,
        args: Vec<String>,
        resumes: bool,
    ) -> Result<Self> {
        write_json(&dir.args(), &args)?;
        write_json(&dir.spec(), &spec)?;
        let (sender, events) = channel();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|error| Error::io("cannot listen for signals", error))?;
        let interrupts = sender.clone();
        std::thread::spawn(move || {
            for _ in signals.forever() {
                // The engine has ended when nobody listens.
                let _ = interrupts.send(Event::Interrupt);
            }
        });
        Ok(Self {
            dir,
            spec,
            args,
            coordinator: SocketAddr::from(([127, 0, 0, 1], 0)),
            resumes,
            running: BTreeMap::new(),
            restarts: Vec::new(),
            history: BTreeMap::new(),
            unfinished: 0,
            events,
            sender,
        })
    }

    /// Runs the application to its end and `finish` while the coordinator still answers; then ends
    /// every process. Must be called on a thread that outlives the run: the kernel kills the
    /// processes when it ends.
    pub(crate) fn run<T>(
        mut self,
        watcher: &mut impl Watcher,
        finish: impl FnOnce(&Control) -> Result<T>,
    ) -> Result<Option<T>> {
        let ended = self.start().and_then(|started| match started {
            Some(()) => self.supervise(watcher),
            None => Ok(Ended::Interrupted),
        });
        let result = match ended {
            Ok(Ended::Done(control)) => finish(&control).map(Some),
            Ok(Ended::Interrupted) => Ok(None),
            Err(error) => Err(error),
        };
        self.stop();
        result
    }

    /// Starts everything; `None` when somebody asked to stop meanwhile.
    fn start(&mut self) -> Result<Option<()>> {
        self.spawn(Name::Coordinator)?;
        match self.events.recv_timeout(START_TIMEOUT) {
            Ok(Event::Ready(Some(address))) => {
                self.coordinator = address;
                self.resumes = false;
            }
            Ok(Event::Interrupt) => return Ok(None),
            Ok(Event::Ready(None) | Event::Exited { .. })
            | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(self.log_error(&Name::Coordinator, "did not start"));
            }
        }
        let (run, pid) = (self.spec.run.clone(), std::process::id());
        self.dir.write_record(&RunRecord { run, pid, coordinator: self.coordinator })?;
        for pool in self.spec.pools.clone() {
            self.spawn(Name::Memory(pool.name, 0))?;
        }
        for task in self.spec.tasks.clone() {
            for replica in 0..task.replicas {
                self.unfinished += 1;
                self.spawn(Name::Task(task.name.clone(), replica))?;
            }
        }
        Ok(Some(()))
    }

    fn supervise(&mut self, watcher: &mut impl Watcher) -> Result<Ended> {
        // Without patience: it is this loop that starts the coordinator again.
        let control = &Control::new(self.coordinator).with_patience(Duration::ZERO);
        let mut look = Instant::now();
        while self.unfinished > 0 || !self.running.contains_key(&Name::Coordinator) {
            let now = Instant::now();
            if now >= look {
                look = now + LOOK_INTERVAL;
                // While the coordinator restarts there is nothing to see.
                if let Ok(status) = control.status() {
                    watcher.status(&status);
                    if status.stopping {
                        return Ok(Ended::Interrupted);
                    }
                }
            }
            self.restart_due()?;
            let next = self.restarts.iter().map(|(due, _)| *due).fold(look, Instant::min);
            match self.events.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Event::Interrupt) => return Ok(Ended::Interrupted),
                Ok(Event::Exited { name, pid, status }) => {
                    self.exited(&name, pid, status, control, watcher)?;
                }
                Ok(Event::Ready(_))
                | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
        Ok(Ended::Done(Box::new(Control::new(self.coordinator))))
    }

    fn exited(
        &mut self,
        name: &Name,
        pid: u32,
        status: ExitStatus,
        control: &Control,
        watcher: &mut impl Watcher,
    ) -> Result<()> {
        self.running.remove(name);
        let exit = status.code().and_then(Exit::of_code);
        match name {
            Name::Coordinator => {}
            Name::Memory(pool, replica) => {
                return Err(Error::unavailable(format!(
                    "memory node {replica} of `{pool}` ended ({status}) and its objects with it; \
                     go on with `run --resume`; {}",
                    self.log_hint(name)
                )));
            }
            Name::Task(task, replica) => match exit {
                Some(Exit::Done) => {
                    self.unfinished -= 1;
                    return Ok(());
                }
                Some(Exit::Failed) => return Err(self.failure(control, name, pid)),
                // It was killed after its last word, or its successor found nothing to do.
                Some(Exit::Retryable | Exit::Expired) | None
                    if is_done(control, task, *replica) =>
                {
                    self.unfinished -= 1;
                    return Ok(());
                }
                Some(Exit::Retryable | Exit::Expired) | None => {
                    // Leases go back now; if this word is lost, when heartbeats are missed.
                    if let Err(error) = control.member_gone(task, *replica, pid) {
                        tracing::debug!("{error}");
                    }
                }
            },
        }
        self.schedule_restart(name, status, control, pid, watcher)
    }

    fn schedule_restart(
        &mut self,
        name: &Name,
        status: ExitStatus,
        control: &Control,
        pid: u32,
        watcher: &mut impl Watcher,
    ) -> Result<()> {
        let now = Instant::now();
        let history = self.history.entry(name.clone()).or_default();
        while history.front().is_some_and(|start| now - *start > RESTART_WINDOW) {
            history.pop_front();
        }
        if history.len() >= RESTARTS_MAX {
            let reported = self.failure(control, name, pid);
            return Err(reported.context(format!(
                "{name} was started again {RESTARTS_MAX} times within {RESTART_WINDOW:?}"
            )));
        }
        let attempt = u32::try_from(history.len()).unwrap_or(u32::MAX);
        history.push_back(now);
        let pause = match attempt {
            0 => Duration::ZERO,
            n => Duration::from_millis(100) * (1 << n.min(5)),
        };
        let how = match status.signal() {
            Some(signal) => format!("was ended by signal {signal}"),
            None => format!("ended ({status})"),
        };
        watcher.note(&format!("{name} {how}; starting it again"));
        self.restarts.push((now + pause, name.clone()));
        Ok(())
    }

    fn restart_due(&mut self) -> Result<()> {
        let now = Instant::now();
        let (due, later) = self.restarts.drain(..).partition(|(at, _)| *at <= now);
        self.restarts = later;
        let due: Vec<(Instant, Name)> = due;
        due.into_iter().try_for_each(|(_, name)| self.spawn(name))
    }

    fn spawn(&mut self, name: Name) -> Result<()> {
        let (environment, value) = self.part(&name).environment()?;
        let program = std::env::current_exe()
            .map_err(|error| Error::io("cannot find this program's own file", error))?;
        let log = self.log_file(&name)?;
        let errors = log.try_clone().map_err(|error| Error::io("cannot open a log", error))?;
        let mut command = Command::new(&program);
        // The argument is for people who look at the list of processes.
        command.arg(name.to_string()).env(environment, value).process_group(0);
        command.stdin(Stdio::null()).stderr(errors);
        let is_coordinator = name == Name::Coordinator;
        command.stdout(if is_coordinator { Stdio::piped() } else { log.into() });
        let mut child = command
            .spawn()
            .map_err(|error| Error::io(format!("cannot start {}", program.display()), error))?;
        let (pid, sender) = (child.id(), self.sender.clone());
        if let Some(stdout) = child.stdout.take() {
            let ready = self.sender.clone();
            std::thread::spawn(move || {
                let mut line = String::new();
                let read = BufReader::new(stdout).read_line(&mut line);
                let address = read.ok().and_then(|_| line.trim().parse().ok());
                // The engine has ended when nobody listens.
                let _ = ready.send(Event::Ready(address));
            });
        }
        self.running.insert(name.clone(), pid);
        std::thread::spawn(move || {
            let status = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(0x7f00));
            // What the process had started and left behind ends too.
            signal_group(pid, Signal::KILL);
            // The engine has ended when nobody listens.
            let _ = sender.send(Event::Exited { name, pid, status });
        });
        Ok(())
    }

    fn part(&self, name: &Name) -> Part {
        let coordinator = self.coordinator;
        let role = match name {
            Name::Coordinator => Role::Coordinator { listen: coordinator, resumes: self.resumes },
            Name::Memory(pool, replica) => {
                let declared = self.spec.pools.iter().find(|declared| declared.name == *pool);
                let capacity = declared.map(|pool| pool.capacity).unwrap_or_default();
                Role::Memory { pool: pool.clone(), replica: *replica, capacity, coordinator }
            }
            Name::Task(task, replica) => {
                let (task, args) = (task.clone(), self.args.clone());
                Role::Task { task, replica: *replica, coordinator, args }
            }
        };
        let (app, dir) = (self.spec.name.clone(), self.dir.path().to_owned());
        Part { app, dir, parent: std::process::id(), role }
    }

    fn log_file(&self, name: &Name) -> Result<File> {
        let path = self.dir.log(&name.to_string());
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| Error::io(format!("cannot write the log {}", path.display()), error))
    }

    fn log_hint(&self, name: &Name) -> String {
        format!("its log is {}", self.dir.log(&name.to_string()).display())
    }

    /// What a process that failed said last, as an error.
    fn log_error(&self, name: &Name, what: &str) -> Error {
        let text = std::fs::read_to_string(self.dir.log(&name.to_string())).unwrap_or_default();
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        let said = last.map_or_else(String::new, |line| format!(": {}", line.trim()));
        Error::unavailable(format!("{name} {what}{said}; {}", self.log_hint(name)))
    }

    /// Why the process failed, as it told the coordinator.
    fn failure(&self, control: &Control, name: &Name, pid: u32) -> Error {
        let told = match name {
            Name::Task(task, _) => control.status().ok().and_then(|status| {
                let members = &status.tasks.get(task)?.members;
                let member = members.iter().rev().find(|member| member.pid == pid)?;
                match &member.ending {
                    Some(Ending::Failed { kind, message, .. }) => Some((*kind, message.clone())),
                    Some(Ending::Done | Ending::Expired | Ending::Gone | Ending::Replaced)
                    | None => None,
                }
            }),
            Name::Coordinator | Name::Memory(..) => None,
        };
        match told {
            Some((kind, message)) => Error::new(kind, message).context(name),
            None => Error::new(Kind::Task, self.log_error(name, "failed").to_string()),
        }
    }

    /// Ends every process: tasks first, then what they need. The coordinator is last: a node that
    /// has only just started is waiting for it.
    fn stop(&mut self) {
        self.restarts.clear();
        if self.unfinished > 0 {
            self.answer_who_waits();
        }
        self.stop_some(|name| matches!(name, Name::Task(..)));
        self.stop_some(|name| *name != Name::Coordinator);
        self.stop_some(|_| true);
    }

    /// Has the coordinator answer the tasks that wait for it: they see their signal only then.
    fn answer_who_waits(&self) {
        let control = Control::new(self.coordinator).with_patience(Duration::ZERO);
        // A coordinator that does not answer delays nobody's signal.
        std::thread::spawn(move || {
            if let Err(error) = control.request_stop() {
                tracing::debug!("{error}");
            }
        });
    }

    fn stop_some(&mut self, which: impl Fn(&Name) -> bool) {
        let mut ending: BTreeMap<Name, u32> = self
            .running
            .iter()
            .filter(|(name, _)| which(name))
            .map(|(n, p)| (n.clone(), *p))
            .collect();
        for pid in ending.values() {
            signal_group(*pid, Signal::TERM);
        }
        let mut deadline = Instant::now() + GRACE;
        while !ending.is_empty() {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Exited { name, .. }) => {
                    self.running.remove(&name);
                    ending.remove(&name);
                }
                Ok(Event::Ready(_)) => {}
                // The grace is over, or a second Ctrl-C says that it is.
                Ok(Event::Interrupt)
                | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    for pid in ending.values() {
                        signal_group(*pid, Signal::KILL);
                    }
                    deadline = Instant::now() + GRACE;
                }
            }
        }
    }
}

/// Whether a process of this replica has told the coordinator that its part is done.
fn is_done(control: &Control, task: &str, replica: u32) -> bool {
    let Ok(status) = control.status() else { return false };
    let members = status.tasks.get(task).map_or(&[][..], |task| &task.members);
    members.iter().any(|member| member.replica == replica && member.ending == Some(Ending::Done))
}

fn signal_group(pid: u32, signal: Signal) {
    if let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // A group that has no process left needs no signal.
        let _ = rustix::process::kill_process_group(group, signal);
    }
}
