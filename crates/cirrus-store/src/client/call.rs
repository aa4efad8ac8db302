//! One request from its caller to its answer, through failures.
//!
//! Owns the loop of attempts: find the node, connect, send, and on failure let `attempt` decide.
//! Invariant: the request's deadline bounds every wait in the loop.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::attempt::{Attempts, Reached};
use crate::client::pool::{Lane, Pool};
use crate::client::session::OpenWrite;
use crate::error::{Error, Kind, Result};
use crate::key::Slot;
use crate::wire::{Reply, Request};

/// Who is to answer.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Whoever holds the slot at the time of the attempt.
    Slot(Slot),
    /// The node at this address.
    Node(String),
}

/// What came of a call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    /// The request was a write, and was sent more than once: what the reply says was not done may
    /// be done by the copy that is still under way.
    pub(super) in_doubt: bool,
}

impl Pool {
    /// Carries out a request within the client's time limit.
    pub(super) async fn call(&self, target: Target, request: Request, lane: Lane) -> Result<Reply> {
        let limit = self.options.request_timeout;
        self.call_within(target, request, lane, limit).await.map(|answer| answer.reply)
    }

    /// Carries out a request within `limit`.
    pub(super) async fn call_within(
        &self,
        target: Target,
        mut request: Request,
        lane: Lane,
        limit: Duration,
    ) -> Result<Answer> {
        let deadline = Instant::now() + limit;
        let mut attempts = Attempts::new(!request.writes_mut().is_empty());
        let mut names = Vec::new();
        loop {
            if names.is_empty() {
                names = request.writes_mut().iter().map(|_| self.session.begin()).collect();
            }
            let epoch = self.view().epoch;
            let mut reached = Reached::Nowhere;
            let attempt =
                self.attempt(&target, &mut request, &names, lane, &attempts, &mut reached);
            let ended = tokio::select! {
                biased;
                () = self.closed.cancelled() => None,
                ended = timeout_at(deadline, attempt) => Some(ended),
            };
            let error = match ended {
                Some(Ok(Ok(reply))) => return Ok(Answer { reply, in_doubt: attempts.in_doubt() }),
                Some(Ok(Err(error))) => error,
                Some(Err(_)) => {
                    attempts.note(reached);
                    return Err(attempts.out_of_time(limit, None));
                }
                None => {
                    attempts.note(reached);
                    return Err(attempts.given_up(closed()));
                }
            };
            let (moved, last) = (moved(&error, epoch), error.to_string());
            let pause = attempts.failed(error, reached)?;
            if !attempts.in_doubt() {
                // The next attempt takes new names, so that a write that waits for its turn does
                // not hold back what the node may forget.
                names.clear();
            }
            if moved {
                let refreshed = timeout_at(deadline, self.refresh(epoch)).await;
                let refreshed = refreshed.map_err(|_| attempts.out_of_time(limit, None))?;
                refreshed.map_err(|error| attempts.given_up(error))?;
                continue;
            }
            let next = Instant::now() + pause;
            if next >= deadline {
                let last = Error::new(Kind::Closed, last);
                return Err(attempts.out_of_time(limit, Some(last)));
            }
            tokio::select! {
                () = self.closed.cancelled() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    async fn attempt(
        &self,
        target: &Target,
        request: &mut Request,
        names: &[OpenWrite<'_>],
        lane: Lane,
        attempts: &Attempts,
        reached: &mut Reached,
    ) -> Result<Reply> {
        let address = match target {
            Target::Slot(slot) => self.address(*slot)?,
            Target::Node(address) => address.clone(),
        };
        let connection = self.connection(&address, lane).await?;
        attempts.check(connection.greeting)?;
        for (write, name) in request.writes_mut().into_iter().zip(names) {
            *write = name.name(attempts.in_doubt());
        }
        let patience = match request {
            Request::Wait { timeout_ms, .. } => Some(Duration::from_millis(u64::from(*timeout_ms))),
            _ => None,
        };
        let answer = connection.send(request.to_part(), patience).await?;
        *reached = Reached::Sent(connection.greeting);
        match answer.await? {
            // The node waited as long as it was asked to: that is the answer.
            Reply::Failed(fault) if fault.kind == Kind::Timeout => Ok(Reply::Failed(fault)),
            Reply::Failed(fault) => {
                *reached = Reached::Answered;
                Err(request.fault(fault))
            }
            reply => Ok(reply),
        }
    }
}

/// Whether a newer view may help. A node that knows less than we do only needs time.
fn moved(error: &Error, epoch: u32) -> bool {
    error.kind() == Kind::Moved && (error.detail() == 0 || error.detail() > u64::from(epoch))
}

fn closed() -> Error {
    Error::new(Kind::Closed, "the client is closed")
}
