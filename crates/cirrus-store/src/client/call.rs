//! One request from its caller to its answer, through failures.
//!
//! Owns the loop of attempts: find the node, connect, send, and on failure let `attempt` decide.
//! While all goes well no timer is set and nothing is allocated: the connection watches deadlines.
//! Invariant: the request's deadline bounds every wait in the loop.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::attempt::{Attempts, Reached};
use crate::client::calls::Ended;
use crate::client::connection::Connection;
use crate::client::pool::{Lane, Node, Pool, Routes};
use crate::client::session::OpenWrites;
use crate::error::{Error, Kind, Result};
use crate::key::Slot;
use crate::wire::{Reply, Request};

/// Who is to answer.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Whoever holds the slot at the time of the attempt.
    Slot(Slot),
    /// This node.
    Node(Arc<Node>),
}

/// What came of a call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    /// The request was a write, and was sent more than once: what the reply says was not done may
    /// be done by the copy that is still under way.
    pub(super) in_doubt: bool,
}

/// What came of an attempt.
enum Outcome {
    Replied(Reply),
    Failed(Error),
    /// The request's deadline has passed.
    OutOfTime,
}

/// Where a call goes, and until when.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) target: Target,
    pub(super) lane: Lane,
    pub(super) deadline: Instant,
}

impl Pool {
    /// Carries out a request within the client's time limit.
    pub(super) async fn call(
        &self,
        target: Target,
        request: &mut Request,
        lane: Lane,
    ) -> Result<Reply> {
        let limit = self.options.request_timeout;
        self.call_within(target, request, lane, limit).await.map(|answer| answer.reply)
    }

    /// Carries out a request within `limit`.
    pub(super) async fn call_within(
        &self,
        target: Target,
        request: &mut Request,
        lane: Lane,
        limit: Duration,
    ) -> Result<Answer> {
        let course = Course { target, lane, deadline: Instant::now() + limit };
        let attempts = Attempts::new(request.writes() > 0);
        self.carry_out(&course, request, None, attempts, limit).await
    }

    /// Carries out a request of which `attempts` were made already, under these names.
    pub(super) async fn carry_out(
        &self,
        course: &Course,
        request: &mut Request,
        mut names: Option<OpenWrites<'_>>,
        mut attempts: Attempts,
        limit: Duration,
    ) -> Result<Answer> {
        let writes = request.writes();
        loop {
            if writes > 0 && names.is_none() {
                names = Some(self.session.begin(writes));
            }
            let mut reached = Reached::Nowhere;
            let routes = self.routes();
            let epoch = routes.epoch;
            let outcome = self
                .attempt(course, &routes, request, names.as_ref(), &attempts, &mut reached)
                .await;
            drop(routes);
            let error = match outcome {
                Outcome::Replied(reply) => {
                    return Ok(Answer { reply, in_doubt: attempts.in_doubt() });
                }
                Outcome::OutOfTime => {
                    attempts.note(reached);
                    return Err(attempts.out_of_time(limit, None));
                }
                Outcome::Failed(error) => error,
            };
            if self.closed.is_cancelled() && reached != Reached::Answered {
                attempts.note(reached);
                return Err(attempts.given_up(closed()));
            }
            let (moved, last) = (moved(&error, epoch), error.to_string());
            let pause = attempts.failed(error, reached)?;
            if !attempts.in_doubt() {
                // The next attempt takes new names, so that a write that waits for its turn does
                // not hold back what the node may forget.
                names = None;
            }
            if moved {
                let refreshed = Box::pin(timeout_at(course.deadline, self.refresh(epoch))).await;
                let refreshed = refreshed.map_err(|_| attempts.out_of_time(limit, None))?;
                refreshed.map_err(|error| attempts.given_up(error))?;
                continue;
            }
            let next = Instant::now() + pause;
            if next >= course.deadline {
                let last = Error::new(Kind::Closed, last);
                return Err(attempts.out_of_time(limit, Some(last)));
            }
            Box::pin(async {
                tokio::select! {
                    () = self.closed.cancelled() => {}
                    () = sleep_until(next) => {}
                }
            })
            .await;
        }
    }

    async fn attempt(
        &self,
        course: &Course,
        routes: &Routes,
        request: &mut Request,
        names: Option<&OpenWrites<'_>>,
        attempts: &Attempts,
        reached: &mut Reached,
    ) -> Outcome {
        let connection = match self.reach(course, routes).await {
            Ok(Some(connection)) => connection,
            Ok(None) => return Outcome::OutOfTime,
            Err(error) => return Outcome::Failed(error),
        };
        if let Err(error) = attempts.check(connection.greeting) {
            return Outcome::Failed(error);
        }
        if let Some(names) = names {
            request.name_writes(&mut names.names(attempts.in_doubt()));
        }
        request.deliver(connection.delivery);
        let patience = match request {
            Request::Wait { timeout_ms, .. } => Some(Duration::from_millis(u64::from(*timeout_ms))),
            Request::Step { step, .. } if step.wanted > 0 => {
                Some(Duration::from_millis(u64::from(step.timeout_ms)))
            }
            _ => None,
        };
        let answer = match connection.send(request, patience, course.deadline).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Outcome::OutOfTime,
            Err(error) => return Outcome::Failed(error),
        };
        *reached = Reached::Sent(connection.greeting);
        match answer.await {
            Ended::Expired => Outcome::OutOfTime,
            Ended::Answered(Ok(reply)) => answered(request, reply, reached),
            Ended::Answered(Err(error)) => {
                if error.kind() == Kind::Corrupt {
                    *reached = Reached::Answered;
                    let text = match request.key() {
                        Some(key) => format!("the value of {key:?}"),
                        None => "an answer of the node".to_owned(),
                    };
                    return Outcome::Failed(Error::new(Kind::Corrupt, text).with_source(error));
                }
                Outcome::Failed(error)
            }
        }
    }

    /// A connection for the attempt; `None` when there was none by the deadline.
    async fn reach(&self, course: &Course, routes: &Routes) -> Result<Option<Arc<Connection>>> {
        let node = match &course.target {
            Target::Slot(slot) => routes.holder(*slot)?.0,
            Target::Node(node) => node,
        };
        if let Some(connection) = node.ready(course.lane) {
            return Ok(Some(connection));
        }
        // Boxed, as what else happens rarely: every call in flight would be kilobytes larger.
        Box::pin(async {
            tokio::select! {
                biased;
                () = self.closed.cancelled() => Err(closed()),
                connection = timeout_at(course.deadline, self.connection(node, course.lane)) => {
                    connection.ok().transpose()
                }
            }
        })
        .await
    }
}

fn answered(request: &Request, reply: Reply, reached: &mut Reached) -> Outcome {
    match reply {
        // The node waited as long as it was asked to: that is the answer.
        Reply::Failed(fault) if fault.kind == Kind::Timeout => {
            Outcome::Replied(Reply::Failed(fault))
        }
        Reply::Failed(fault) => {
            *reached = Reached::Answered;
            Outcome::Failed(request.fault(fault))
        }
        reply => Outcome::Replied(reply),
    }
}

/// Whether a newer view may help. A node that knows less than we do only needs time.
fn moved(error: &Error, epoch: u32) -> bool {
    error.kind() == Kind::Moved && (error.detail() == 0 || error.detail() > u64::from(epoch))
}

fn closed() -> Error {
    Error::new(Kind::Closed, "the client is closed")
}
