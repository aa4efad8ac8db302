//! How tasks and engines talk to the coordinator.
//!
//! Owns the blocking client and its retries. May not know what calls mean or processes do.
//! Invariant: a call that returned an error of kind `Unavailable` was tried for the whole patience.
//!
//! Every call may be repeated without a second effect, so a broken connection is always retried:
//! the coordinator may be restarting.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::Response;

use crate::api::{Attempt, Grant};
use crate::api::{
    Beat, Call, Checkpoint, CheckpointRecord, Commit, Counters, End, Generation, Heartbeat, Lease,
    LeaseAnswer, Lost, MemberGone, MemberId, Next, NextAnswer, OpenConsumer, Opened, Outcome,
    Output, PoolView, Refusal, Register, Report, RequestStop, Return, SealSet, SetView, Sweep,
    Swept,
};
use crate::coordinator::NEXT_RUN_HEADER;
use crate::coordinator::ledger::LedgerLine;
use crate::coordinator::status::Status;
use crate::error::{Error, Kind, Result};

const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than a long-poll and a slow disk together.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// Ledger runs asked for at once.
const LEDGER_RUNS: usize = 4096;

/// A client of one coordinator. Cheap to share between threads; every method blocks.
#[derive(Debug)]
pub(crate) struct Control {
    agent: Agent,
    address: SocketAddr,
    patience: Duration,
    /// Drawn once: two registrations through one `Control` are one process's.
    nonce: u64,
    requests: AtomicU64,
}

/// Why one try did not get an answer.
enum Failure {
    /// Worth another try.
    Broken(ureq::Error),
    Final(Error),
}

impl Control {
    /// A client of the coordinator at `address`; connects with the first call.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // The coordinator is on this host: a proxy of the environment is for others.
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(CALL_TIMEOUT))
            .build();
        Self {
            agent: config.new_agent(),
            address,
            patience: PATIENCE,
            nonce: random(),
            requests: AtomicU64::new(0),
        }
    }

    /// How long a call is tried again while the coordinator cannot be reached.
    pub(crate) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// A new number for [`Control::lease`] or [`Control::open_consumer`].
    pub(crate) fn request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Registers this process. Replaces an earlier member of the same task and replica.
    pub(crate) fn register(
        &self,
        task: &str,
        replica: u32,
        address: Option<String>,
    ) -> Result<MemberId> {
        let (task, pid, nonce) = (task.to_owned(), std::process::id(), self.nonce);
        let call = Register { task, replica, pid, address, nonce };
        self.call(&call).map(|registered| registered.member)
    }

    /// Tells that the member lives. [`crate::api::RefusalKind::MemberExpired`]: the process must
    /// end.
    pub(crate) fn heartbeat(&self, member: MemberId, counters: Counters) -> Result<Beat> {
        self.call(&Heartbeat { member, counters })
    }

    /// Tells that process `pid` of the replica exited.
    pub(crate) fn member_gone(&self, task: &str, replica: u32, pid: u32) -> Result<()> {
        self.call(&MemberGone { task: task.to_owned(), replica, pid }).map(|_| ())
    }

    /// Tells how the member's body ended; empty `counters` keep those of its last heartbeat.
    pub(crate) fn end(&self, member: MemberId, outcome: Outcome, counters: Counters) -> Result<()> {
        self.call(&End { member, outcome, counters }).map(|_| ())
    }

    /// Tells that `set` has all its `count` records.
    pub(crate) fn seal_set(&self, set: &str, count: u64) -> Result<()> {
        self.call(&SealSet { set: set.to_owned(), count }).map(|_| ())
    }

    /// Asks for a split, for up to 2 s. Ask again with the same `request` after `Wait`, and with
    /// a new one after a grant.
    pub(crate) fn lease(&self, member: MemberId, set: &str, request: u64) -> Result<LeaseAnswer> {
        self.call(&Lease { member, set: set.to_owned(), request })
    }

    /// Tells that the grant's output lies in the store.
    pub(crate) fn commit(
        &self,
        member: MemberId,
        set: &str,
        grant: &Grant,
        outputs: Vec<Output>,
    ) -> Result<()> {
        let (split, attempt) = (grant.split, grant.attempt);
        self.call(&Commit { member, set: set.to_owned(), split, attempt, outputs }).map(|_| ())
    }

    /// Gives a granted split back, undone.
    pub(crate) fn give_back(&self, member: MemberId, set: &str, grant: &Grant) -> Result<()> {
        let (split, attempt) = (grant.split, grant.attempt);
        self.call(&Return { member, set: set.to_owned(), split, attempt }).map(|_| ())
    }

    /// Makes this member the channel's consumer; those before it are refused from now on.
    pub(crate) fn open_consumer(
        &self,
        member: MemberId,
        channel: &str,
        request: u64,
        afresh: bool,
    ) -> Result<Opened> {
        self.call(&OpenConsumer { member, channel: channel.to_owned(), request, afresh })
    }

    /// Asks where the batches of `split` lie, for up to 2 s; where the channel is read in any order,
    /// those of a split that is not `taken`, `split` being the first of them.
    pub(crate) fn next(
        &self,
        channel: &str,
        generation: Generation,
        split: u64,
        taken: Vec<u64>,
    ) -> Result<NextAnswer> {
        self.call(&Next { channel: channel.to_owned(), generation, split, taken })
    }

    /// Tells that the consumer's state up to `record.cursor` is durable.
    pub(crate) fn checkpoint(
        &self,
        channel: &str,
        generation: Generation,
        record: CheckpointRecord,
    ) -> Result<()> {
        self.call(&Checkpoint { channel: channel.to_owned(), generation, record }).map(|_| ())
    }

    /// Tells that a committed split cannot be read any more. Ask for it again with
    /// [`Control::next`].
    pub(crate) fn lost(
        &self,
        channel: &str,
        generation: Generation,
        split: u64,
        attempt: Attempt,
    ) -> Result<()> {
        let channel = channel.to_owned();
        self.call(&Lost { channel, generation, split, attempt }).map(|_| ())
    }

    /// Leaves a result to print at the end.
    pub(crate) fn report(
        &self,
        member: MemberId,
        key: &str,
        value: serde_json::Value,
    ) -> Result<()> {
        self.call(&Report { member, key: key.to_owned(), value }).map(|_| ())
    }

    /// Asks everybody to end.
    pub(crate) fn request_stop(&self) -> Result<()> {
        self.call(&RequestStop {}).map(|_| ())
    }

    /// Some of what is to be deleted from the store, oldest first.
    pub(crate) fn sweeps(&self) -> Result<Vec<Sweep>> {
        self.get("sweeps")
    }

    /// Tells that these were deleted.
    pub(crate) fn swept(&self, sweeps: Vec<u64>) -> Result<()> {
        self.call(&Swept { sweeps }).map(|_| ())
    }

    /// Who serves `pool`. With `after`, waits up to 2 s for an epoch beyond it.
    pub(crate) fn view(&self, pool: &str, after: Option<u32>) -> Result<PoolView> {
        match after {
            Some(after) => self.get(&format!("pools/{pool}/view?after={after}")),
            None => self.get(&format!("pools/{pool}/view")),
        }
    }

    /// Whether `set` is sealed. With `wait`, waits up to 2 s for that.
    pub(crate) fn set(&self, set: &str, wait: bool) -> Result<SetView> {
        self.get(&format!("sets/{set}?wait={wait}"))
    }

    /// Everything at a glance.
    pub(crate) fn status(&self) -> Result<Status> {
        self.get("status")
    }

    /// The channel's ledger, one line a batch.
    pub(crate) fn ledger(&self, channel: &str) -> Result<Vec<LedgerLine>> {
        let (mut lines, mut from) = (Vec::new(), Some(0));
        while let Some(run) = from {
            let path = format!("ledger/{channel}?from_run={run}&runs={LEDGER_RUNS}");
            let (body, next) = self.retry(&path, |agent, url| agent.get(url).call())?;
            for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                lines.push(parse(&path, line)?);
            }
            from = next;
        }
        Ok(lines)
    }

    fn call<C: Call>(&self, call: &C) -> Result<C::Answer> {
        let json = serde_json::to_vec(call).map_err(|error| {
            Error::internal(format!("cannot write {}", C::PATH)).with_source(error)
        })?;
        let (body, _) = self.retry(C::PATH, |agent, url| {
            agent.post(url).content_type("application/json").send(&json[..])
        })?;
        parse(C::PATH, &body)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let (body, _) = self.retry(path, |agent, url| agent.get(url).call())?;
        parse(path, &body)
    }

    /// Sends until there is an answer or the patience is over.
    fn retry(
        &self,
        path: &str,
        send: impl Fn(&Agent, &str) -> Result<Response<ureq::Body>, ureq::Error>,
    ) -> Result<(Vec<u8>, Option<usize>)> {
        let url = format!("http://{}/v1/{path}", self.address);
        let started = Instant::now();
        let mut backoff = BACKOFF_FIRST;
        loop {
            let failure = match read(send(&self.agent, &url)) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let error = match failure {
                Failure::Broken(error) => self.unavailable(path).with_source(error),
                Failure::Final(error) if error.is_retryable() => error,
                Failure::Final(error) => return Err(error),
            };
            // Between half of the backoff and all of it, so that members do not return as one.
            let half = backoff / 2;
            let pause = half + half.mul_f64(f64::from(random_u16()) / f64::from(u16::MAX));
            if started.elapsed() + pause > self.patience {
                return Err(error);
            }
            std::thread::sleep(pause);
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn unavailable(&self, path: &str) -> Error {
        let patience = self.patience.as_secs_f32();
        Error::new(
            Kind::Unavailable,
            format!(
                "coordinator {} did not answer /v1/{path} within {patience:.1} s; is the \
                 application still running?",
                self.address
            ),
        )
    }
}

fn read(
    answer: Result<Response<ureq::Body>, ureq::Error>,
) -> Result<(Vec<u8>, Option<usize>), Failure> {
    let mut response = answer.map_err(classify)?;
    let next = response.headers().get(NEXT_RUN_HEADER);
    let next = next.and_then(|next| next.to_str().ok()?.parse().ok());
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    let body = body.map_err(classify)?;
    if response.status().is_success() {
        return Ok((body, next));
    }
    Err(Failure::Final(match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) => refusal.into(),
        Err(_) => Error::internal(format!(
            "the coordinator's port answered {} without a reason; another program may have it",
            response.status()
        )),
    }))
}

/// What a restart of the coordinator can look like from here is worth another try.
fn classify(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::ConnectionFailed
        | ureq::Error::Protocol(_) => Failure::Broken(error),
        error => Failure::Final(
            Error::internal("the coordinator's answer cannot be read").with_source(error),
        ),
    }
}

fn parse<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        Error::internal(format!("the coordinator's answer to /v1/{path} is not as expected"))
            .with_source(error)
    })
}

/// Differs from call to call and from process to process: the standard library keys its hashers
/// from the system's randomness.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn random_u16() -> u16 {
    u16::from_le_bytes([random().to_le_bytes()[0], random().to_le_bytes()[1]])
}
