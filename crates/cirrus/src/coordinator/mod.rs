//! The one small process that knows what an application has done.
//!
//! Owns serving: socket, journal, clock and the state behind a lock. May not decide anything; the
//! state does. Invariant: no reply leaves before the events it rests on are durable.

mod gate;
mod http;
mod journal;
pub(crate) mod keys;
pub(crate) mod ledger;
mod listener;
mod plant;
mod state;
pub(crate) mod status;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::gate::{Log, Recovered};
pub(crate) use self::http::NEXT_RUN_HEADER;
use self::journal::Journal;
use self::listener::BoundedListener;
use self::plant::{Bug, is_planted};
pub(crate) use self::state::Timeouts;
use self::state::{Graph, State};
use crate::api::{Command, Refusal, RefusalKind, Reply};
use crate::error::{Error, Result};
use crate::spec::AppSpec;

/// How long a question without an answer is held before it is answered with "wait".
const POLL_MAX: Duration = Duration::from_secs(2);
/// The same once everybody was asked to end: who asks again has not heard of it yet.
const POLL_MAX_STOPPING: Duration = Duration::from_millis(50);
/// How long open connections may delay the end.
const DRAIN_MAX: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(250);

/// What a coordinator is started with.
#[derive(Debug, Clone)]
pub(crate) struct CoordinatorOptions {
    /// A loopback address; port 0 takes any free one.
    pub(crate) listen: SocketAddr,
    /// Where the journal lies; created if missing.
    pub(crate) dir: PathBuf,
    pub(crate) spec: AppSpec,
    pub(crate) timeouts: Timeouts,
    /// The run's former processes are all gone, and their memory with them.
    pub(crate) resumes: bool,
}

/// Serves until `cancel`, then answers what is in flight and closes the journal. Calls `ready`
/// with the bound address once calls are taken. Fails when the address or the journal cannot be
/// had, and when the journal cannot be written any more. Blocks its thread.
pub(crate) fn serve(
    options: CoordinatorOptions,
    ready: impl FnOnce(SocketAddr),
    cancel: CancellationToken,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::io("cannot start the coordinator's runtime", error))?;
    runtime.block_on(run(options, ready, cancel))
}

async fn run(
    options: CoordinatorOptions,
    ready: impl FnOnce(SocketAddr),
    cancel: CancellationToken,
) -> Result<()> {
    let graph = Arc::new(Graph::new(&options.spec)?);
    let listener = bind(options.listen).await?;
    let address = listener
        .local_addr()
        .map_err(|error| Error::io("cannot tell the coordinator's address", error))?;
    let (journal, recovered) = Journal::open(&options.dir, &options.spec)?;
    // A child, so that the end of serving for any reason releases whoever waits here.
    let core = Core::new(
        graph,
        options.timeouts,
        journal,
        recovered,
        options.resumes,
        cancel.child_token(),
    );
    let core = Arc::new(core);
    core.log.gate().passed(core.durable_through).await?;
    ready(address);
    let outcome = serve_until(&core, BoundedListener::new(listener)).await;
    core.cancel.cancel();
    core.log.close();
    outcome
}

async fn serve_until(core: &Arc<Core>, listener: BoundedListener) -> Result<()> {
    let ending = core.cancel.clone();
    let server = axum::serve(listener, http::routes(core.clone()))
        .with_graceful_shutdown(async move { ending.cancelled().await });
    let drained = async {
        core.cancel.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        served = server => served.map_err(|error| Error::io("the coordinator's server ended", error)),
        () = drained => Ok(()),
        () = tick(core) => Ok(()),
        error = core.log.gate().failure() => Err(error),
    }
}

/// Expires silent members and overtakes leases that stand still, for as long as the coordinator serves.
async fn tick(core: &Core) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        core.tick();
    }
}

async fn bind(listen: SocketAddr) -> Result<TcpListener> {
    if !listen.ip().is_loopback() {
        return Err(Error::input(format!(
            "the coordinator does not listen on {listen}: its calls carry no password, so only a \
             loopback address such as 127.0.0.1:{} is allowed",
            listen.port()
        )));
    }
    TcpListener::bind(listen).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Error::input(format!(
            "address {listen} is in use by another process; choose another port, or 0 for any"
        )),
        _ => Error::io(format!("cannot listen on {listen}"), error),
    })
}

/// What every request works on.
#[derive(Debug)]
struct Core<L = Journal> {
    started: Instant,
    /// The boot's own event.
    durable_through: u64,
    state: Mutex<State>,
    log: L,
    changed: watch::Sender<()>,
    cancel: CancellationToken,
}

impl<L: Log> Core<L> {
    /// Goes on from what `log` held when it was opened.
    fn new(
        graph: Arc<Graph>,
        timeouts: Timeouts,
        log: L,
        recovered: Recovered,
        resumes: bool,
        cancel: CancellationToken,
    ) -> Self {
        let mut state = State::recover(graph, timeouts, recovered.snapshot, &recovered.events);
        Self {
            started: Instant::now(),
            durable_through: log.append(state.boot(Duration::ZERO, resumes)),
            state: Mutex::new(state),
            log,
            changed: watch::Sender::new(()),
            cancel,
        }
    }

    /// Decides `command`, waiting up to [`POLL_MAX`] where the answer would be "wait". Dropping
    /// the future may leave the command done and unanswered; a repeat gets the answer.
    async fn handle(&self, command: Command) -> Result<Reply, Refusal> {
        let deadline = Instant::now() + POLL_MAX;
        let mut changed = self.changed.subscribe();
        loop {
            let (decided, sequence) = self.decide(&command);
            match decided {
                Ok(reply) if reply.is_wait() => {
                    if self.is_over(&mut changed, deadline).await {
                        return Ok(reply);
                    }
                }
                decided => {
                    self.synced(sequence).await?;
                    return decided;
                }
            }
        }
    }

    /// Reads the state until `done`, up to [`POLL_MAX`], and answers what it read last.
    async fn read<T>(
        &self,
        mut ask: impl FnMut(&State) -> Result<T, Refusal>,
        done: impl Fn(&T) -> bool,
    ) -> Result<T, Refusal> {
        let deadline = Instant::now() + POLL_MAX;
        let mut changed = self.changed.subscribe();
        loop {
            let (answer, sequence) = self.look(&mut ask);
            let answer = answer?;
            if done(&answer) || self.is_over(&mut changed, deadline).await {
                if !is_planted(Bug::ReadBeforeSync) {
                    self.synced(sequence).await?;
                }
                return Ok(answer);
            }
        }
    }

    /// The lock spans deciding and queueing, so that the journal has the order of the state.
    fn decide(&self, command: &Command) -> (Result<Reply, Refusal>, u64) {
        let mut state = self.state.lock();
        let asked = |state: &State| match command {
            Command::Next(next) => state.asked(&next.channel),
            _ => None,
        };
        let before = asked(&state);
        let decision = state.handle(self.started.elapsed(), command);
        if asked(&state) != before {
            // A worker may be waiting for just this split.
            self.changed.send_replace(());
        }
        let (reply, events) = match decision {
            Ok(decision) => (Ok(decision.reply), decision.events),
            Err(refusal) => (Err(refusal), Vec::new()),
        };
        (reply, self.append(&state, events))
    }

    fn tick(&self) {
        let mut state = self.state.lock();
        let events = state.tick(self.started.elapsed());
        self.append(&state, events);
    }

    fn look<T>(&self, ask: impl FnOnce(&State) -> T) -> (T, u64) {
        let state = self.state.lock();
        (ask(&state), self.log.append(Vec::new()))
    }

    fn append(&self, state: &State, events: Vec<state::Event>) -> u64 {
        let is_change = !events.is_empty();
        let early = is_planted(Bug::SnapshotTooEarly);
        if early && self.log.wants_snapshot() {
            self.log.snapshot(state.durable().clone());
        }
        let sequence = self.log.append(events);
        if !early && self.log.wants_snapshot() {
            self.log.snapshot(state.durable().clone());
        }
        if is_change {
            self.changed.send_replace(());
        }
        sequence
    }

    /// Waits for a change of state; true when there is no more time for one.
    async fn is_over(&self, changed: &mut watch::Receiver<()>, mut deadline: Instant) -> bool {
        if self.state.lock().is_stopping() {
            deadline = deadline.min(Instant::now() + POLL_MAX_STOPPING);
        }
        tokio::select! {
            biased;
            change = changed.changed() => change.is_err(),
            () = tokio::time::sleep_until(deadline) => true,
            () = self.cancel.cancelled() => true,
        }
    }

    async fn synced(&self, sequence: u64) -> Result<(), Refusal> {
        let synced = self.log.gate().passed(sequence).await;
        synced.map_err(|error| Refusal::new(RefusalKind::Unavailable, error.to_string()))
    }
}

#[cfg(test)]
mod tests;
