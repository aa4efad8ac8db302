//! The one way out for answers: not before what they rest on is durable.
//!
//! Owns how far a log is synced, which its writer tells and answers wait for. May not know what is
//! written, or where. Invariant: nothing passes for an event that the log's writer did not call
//! synced.

use tokio::sync::watch;

use super::plant::{Bug, is_planted};
use super::state::{Durable, Event};
use crate::error::{Error, Kind, Result};

/// Where the state's events go: the journal, or in tests a log whose power fails at any moment.
pub(super) trait Log {
    /// Queues events, in the order of the calls, and answers what to pass the gate with: these
    /// events and all before them.
    fn append(&self, events: Vec<Event>) -> u64;

    /// Whether enough events were queued since the last snapshot.
    fn wants_snapshot(&self) -> bool;

    /// Queues a snapshot of the state right after the last queued event.
    fn snapshot(&self, durable: Durable);

    /// Where answers wait.
    fn gate(&self) -> &Gate;
}

/// What an earlier coordinator left.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) snapshot: Option<Durable>,
    /// After the snapshot, in order.
    pub(crate) events: Vec<Event>,
}

/// Where answers wait for the log.
#[derive(Debug)]
pub(super) struct Gate(watch::Receiver<Synced>);

/// The end of a gate that the log's writer holds. When it is dropped nothing passes any more.
#[derive(Debug)]
pub(super) struct GateKeeper(watch::Sender<Synced>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Synced {
    Through(u64),
    Failed(String),
}

impl Gate {
    /// The gate of a log that is durable up to `through`.
    pub(super) fn new(through: u64) -> (GateKeeper, Self) {
        let (keeper, gate) = watch::channel(Synced::Through(through));
        (GateKeeper(keeper), Self(gate))
    }

    /// Returns once everything up to `sequence` is durable, or with [`Kind::Io`] when it never
    /// will be. Dropping the future changes nothing.
    pub(super) async fn passed(&self, sequence: u64) -> Result<()> {
        if is_planted(Bug::AnswerBeforeSync) {
            return Ok(());
        }
        let mut synced = self.0.clone();
        let reached = |synced: &Synced| match synced {
            Synced::Through(through) => *through >= sequence,
            Synced::Failed(_) => true,
        };
        match synced.wait_for(reached).await.as_deref() {
            Ok(Synced::Through(_)) => Ok(()),
            Ok(Synced::Failed(why)) => Err(failed(why)),
            Err(_) => Err(failed("it is closed")),
        }
    }

    /// Returns when the log cannot be written any more, and why.
    pub(super) async fn failure(&self) -> Error {
        let mut synced = self.0.clone();
        match synced.wait_for(|synced| matches!(synced, Synced::Failed(_))).await.as_deref() {
            Ok(Synced::Failed(why)) => failed(why),
            Ok(Synced::Through(_)) | Err(_) => failed("it is closed"),
        }
    }
}

impl GateKeeper {
    /// Everything up to `through` survives a power cut.
    pub(super) fn synced(&self, through: u64) {
        self.0.send_replace(Synced::Through(through));
    }

    /// Nothing will be synced any more.
    pub(super) fn failed(&self, why: String) {
        self.0.send_replace(Synced::Failed(why));
    }
}

fn failed(why: &str) -> Error {
    Error::new(Kind::Io, format!("the journal cannot be written: {why}"))
}
