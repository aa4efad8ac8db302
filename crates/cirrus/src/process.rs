//! A process that a run started: its part, from its first line to its exit code.
//!
//! Owns how such a process is told who it is, its heartbeats, and how it ends. May not know the
//! engine. Invariant: a process outlives neither the one that started it nor its membership.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cirrus_store::server::{NodeOptions, Server};
use cirrus_units::ByteSize;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use tokio_util::sync::CancellationToken;

use crate::api::{MemberId, Outcome, Refusal, RefusalKind};
use crate::app::App;
use crate::context::{Context, Identity};
use crate::control::Control;
use crate::coordinator::{self, CoordinatorOptions, Timeouts};
use crate::counters::Counters;
use crate::error::{Error, Kind, Result};
use crate::rundir::{RunDir, read_json};
use crate::spec::AppSpec;
use crate::sweeper;
use crate::task::TaskArgs;

/// The environment variable that tells a process its part.
const VARIABLE: &str = "CIRRUS_PROCESS";

const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// What a process is to do, and for whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) app: String,
    pub(crate) dir: PathBuf,
    /// The process that started this one; it ends with it.
    pub(crate) parent: u32,
    pub(crate) role: Role,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Role {
    Coordinator { listen: SocketAddr, resumes: bool },
    Memory { pool: String, replica: u32, capacity: ByteSize, coordinator: SocketAddr },
    Task { task: String, replica: u32, coordinator: SocketAddr, args: Vec<String> },
}

/// How a process of a run ended, beside death by signal and panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Its part is done.
    Done,
    /// It failed in a way that a new process may not.
    Retryable,
    /// It failed for good; the coordinator has the reason, or else its log.
    Failed,
    /// Another process took its place, or it was thought dead.
    Expired,
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 70,
            Self::Retryable => 71,
            Self::Expired => 72,
        }
    }

    pub(crate) const fn of_code(code: i32) -> Option<Self> {
        match code {
            0 => Some(Self::Done),
            70 => Some(Self::Failed),
            71 => Some(Self::Retryable),
            72 => Some(Self::Expired),
            _ => None,
        }
    }
}

impl Part {
    /// The value of the environment variable that hands this part over.
    pub(crate) fn environment(&self) -> Result<(&'static str, String)> {
        let text = serde_json::to_string(self)
            .map_err(|error| Error::internal("cannot describe a process").with_source(error))?;
        Ok((VARIABLE, text))
    }

    /// This process's part; `None` in a process that a person started.
    pub(crate) fn of_this_process() -> Option<Self> {
        serde_json::from_str(&std::env::var(VARIABLE).ok()?).ok()
    }
}

/// The application that this process is a part of, if a run started it: for a program that holds
/// several applications.
pub fn app_of_this_process() -> Option<String> {
    Part::of_this_process().map(|part| part.app)
}

/// Does this process's part.
pub(crate) fn main<A: TaskArgs + clap::Args>(app: App<A>, part: Part) -> ExitCode {
    start_log();
    let exit = match start(app, &part) {
        Ok(exit) => exit,
        Err(error) => {
            tracing::error!("{error}");
            if error.is_retryable() { Exit::Retryable } else { Exit::Failed }
        }
    };
    ExitCode::from(exit.code())
}

fn start<A: TaskArgs + clap::Args>(app: App<A>, part: &Part) -> Result<Exit> {
    end_with_parent(part.parent)?;
    let cancel = cancel_on_sigterm()?;
    let dir = RunDir::at(part.dir.clone());
    let spec: AppSpec = read_json(&dir.spec())?;
    match &part.role {
        Role::Coordinator { listen, resumes } => {
            run_coordinator(*listen, *resumes, &dir, spec, cancel)
        }
        Role::Memory { pool, replica, capacity, coordinator } => {
            let control = Arc::new(Control::new(*coordinator));
            run_memory(&control, pool, *replica, *capacity, cancel)
        }
        Role::Task { task, replica, coordinator, args } => {
            let control = Arc::new(Control::new(*coordinator));
            let args = crate::command::parse_args::<A>(&app, args)?;
            run_task(app, spec, dir, control, (task, *replica), args, cancel)
        }
    }
}

fn run_coordinator(
    listen: SocketAddr,
    resumes: bool,
    dir: &RunDir,
    spec: AppSpec,
    cancel: CancellationToken,
) -> Result<Exit> {
    let options = CoordinatorOptions {
        listen,
        dir: dir.coordinator(),
        spec: spec.clone(),
        timeouts: Timeouts::default(),
        resumes,
    };
    let ready = |address: SocketAddr| {
        sweeper::start(address, &spec, cancel.clone());
        // The one line that the engine waits for. When it cannot be written, the engine is gone.
        let _ = writeln!(std::io::stdout(), "{address}");
    };
    coordinator::serve(options, ready, cancel.clone())?;
    Ok(Exit::Done)
}

fn run_memory(
    control: &Arc<Control>,
    pool: &str,
    replica: u32,
    capacity: ByteSize,
    cancel: CancellationToken,
) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::io("cannot start the memory node's runtime", error))?;
    runtime.block_on(async {
        let server = Server::bind("127.0.0.1:0", NodeOptions::new(capacity)).await?;
        let address = server.local_address().map(|address| address.to_string());
        let (name, handle) = (format!("memory:{pool}"), server.handle());
        let member = {
            let control = control.clone();
            let register = move || control.register(&name, replica, address);
            tokio::task::spawn_blocking(register)
                .await
                .map_err(|error| Error::internal("registering").with_source(error))??
        };
        let numbers = move || {
            let stats = handle.stats();
            let pairs = [
                ("objects", stats.objects),
                ("used_bytes", stats.used_bytes),
                ("capacity_bytes", stats.capacity_bytes),
                ("requests", stats.requests),
            ];
            pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
        };
        let ended = cancel.clone();
        // Not stopped by the coordinator: tasks still put and get while they end.
        start_heartbeats(control.clone(), member, numbers, CancellationToken::new(), ended)?;
        server.run(cancel).await?;
        Ok(Exit::Done)
    })
}

fn run_task<A: TaskArgs + clap::Args>(
    app: App<A>,
    spec: AppSpec,
    dir: RunDir,
    control: Arc<Control>,
    (task, replica): (&str, u32),
    args: A,
    cancel: CancellationToken,
) -> Result<Exit> {
    let body = app.tasks.iter().find(|declared| declared.name == task).map(|task| task.run);
    let body = body.ok_or_else(|| Error::internal(format!("no task is called `{task}`")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .thread_name("cirrus-io")
        .build()
        .map_err(|error| Error::io("cannot start the task's runtime", error))?;
    let member = control.register(task, replica, None)?;
    let counters = Arc::new(Counters::default());
    let (beating, values) = (CancellationToken::new(), counters.clone());
    let numbers = move || values.values();
    start_heartbeats(control.clone(), member, numbers, cancel.clone(), beating.clone())?;
    let identity = Identity { task: task.to_owned(), replica, member };
    let handle = runtime.handle().clone();
    let context = Context::new(
        identity,
        spec,
        dir,
        control.clone(),
        handle,
        counters.clone(),
        cancel.clone(),
    );
    let result = body(context, args);
    beating.cancel();
    let (outcome, exit) = match result {
        Ok(()) if cancel.is_cancelled() => return Ok(Exit::Retryable),
        Ok(()) => (Outcome::Done, Exit::Done),
        Err(error) if error.kind() == Kind::Cancelled => return Ok(Exit::Retryable),
        Err(error) if is_expired(&error) => return Ok(Exit::Expired),
        Err(error) => {
            tracing::error!("{error}");
            let retryable = error.is_retryable();
            let (kind, message) = (error.kind(), error.to_string());
            let exit = if retryable { Exit::Retryable } else { Exit::Failed };
            (Outcome::Failed { kind, message, retryable }, exit)
        }
    };
    control.end(member, outcome, counters.values())?;
    Ok(exit)
}

fn is_expired(error: &Error) -> bool {
    Refusal::of(error).is_some_and(|refusal| match refusal.kind {
        RefusalKind::MemberExpired | RefusalKind::StaleGeneration => true,
        RefusalKind::StaleAttempt
        | RefusalKind::StaleRequest
        | RefusalKind::NotFound
        | RefusalKind::Input
        | RefusalKind::TooLarge
        | RefusalKind::Corrupt
        | RefusalKind::Unavailable => false,
    })
}

/// Tells the coordinator once a second that this process lives, on a thread of its own, until
/// `ended`. A process that is no member any more ends at once: nothing it does would count.
fn start_heartbeats(
    control: Arc<Control>,
    member: MemberId,
    numbers: impl Fn() -> crate::api::Counters + Send + 'static,
    cancel: CancellationToken,
    ended: CancellationToken,
) -> Result<()> {
    let beat = move || {
        while !ended.is_cancelled() {
            match control.heartbeat(member, numbers()) {
                Ok(beat) if beat.stop => cancel.cancel(),
                Ok(_) => {}
                Err(error) if ended.is_cancelled() => tracing::debug!("{error}"),
                Err(error) if is_expired(&error) => {
                    tracing::error!("{error}");
                    std::process::exit(Exit::Expired.code().into());
                }
                // The coordinator may come back; leases wait for it as long as their calls do.
                Err(error) => tracing::warn!("{error}"),
            }
            std::thread::park_timeout(HEARTBEAT_INTERVAL);
        }
    };
    std::thread::Builder::new()
        .name("cirrus-heart".to_owned())
        .spawn(beat)
        .map(|_| ())
        .map_err(|error| Error::io("cannot start a thread", error))
}

/// Asks the kernel to kill this process when the one that started it ends, however that happens.
fn end_with_parent(parent: u32) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Error::io("cannot tie this process to its parent", error.into()))?;
    let now = rustix::process::getppid().map(Pid::as_raw_nonzero);
    if now.map(|pid| pid.get().cast_unsigned()) == Some(parent) {
        return Ok(());
    }
    Err(Error::new(Kind::Cancelled, format!("process {parent}, which started this one, is gone")))
}

fn cancel_on_sigterm() -> Result<CancellationToken> {
    let cancel = CancellationToken::new();
    let mut signals =
        Signals::new([SIGTERM]).map_err(|error| Error::io("cannot listen for SIGTERM", error))?;
    let cancelled = cancel.clone();
    std::thread::Builder::new()
        .name("cirrus-signals".to_owned())
        .spawn(move || {
            if signals.forever().next().is_some() {
                cancelled.cancel();
            }
        })
        .map_err(|error| Error::io("cannot start a thread", error))?;
    Ok(cancel)
}

/// Logs go to stderr, which the engine has sent to the process's log file.
fn start_log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("CIRRUS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A program that has set up its own logging keeps it.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}
