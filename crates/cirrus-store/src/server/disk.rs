//! What requests wait for on a node that has a disk.
//!
//! Owns the pauses: until a value is back in memory, until there is room, until the log is durable.
//! Knows nothing of connections. Invariant: nothing here changes an object; who does not wait is
//! still answered right, but holds up his thread.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::error::Kind;
use crate::key::{Key, KeyRef};
use crate::server::keyspace::Seen;
use crate::server::node::Node;
use crate::wire::{Fault, Request};

/// How long anything is waited for without a look at whether the disk works.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long a value waits for memory that others hold.
const PATIENCE: Duration = Duration::from_secs(30);

impl Node {
    pub(super) fn has_disk(&self) -> bool {
        self.keyspace.backing().is_some()
    }

    /// Of these keys, those whose values lie on the disk only.
    pub(super) fn cold<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Vec<Key> {
        if !self.has_disk() {
            return Vec::new();
        }
        let cold = keys.filter_map(KeyRef::new).filter(|key| self.keyspace.is_cold(*key));
        cold.map(KeyRef::to_key).collect()
    }

    /// Those whose values a request needs.
    pub(super) fn cold_of(&self, request: &Request) -> Vec<Key> {
        match request {
            Request::Batch(items) => items.iter().flat_map(|item| self.cold_of(item)).collect(),
            Request::Get { key, .. }
            | Request::Add { key, .. }
            | Request::Push { key, .. }
            | Request::Pop { key, .. } => self.cold(std::iter::once(key.as_bytes())),
            Request::Ping
            | Request::Put { .. }
            | Request::Delete { .. }
            | Request::Stat { .. }
            | Request::Scan { .. }
            | Request::Wait { .. }
            | Request::Stats
            | Request::Unpin(_) => Vec::new(),
        }
    }

    /// Brings these values into memory, all at the same time; they stay there as long as what is
    /// returned does. What fails fails again, and says why, for the request that needs it. The
    /// caller has sent its replies: they may hold the memory.
    pub(super) async fn bring(self: &Arc<Self>, keys: Vec<Key>) -> Vec<Pin> {
        let (mut reads, mut pins) = (JoinSet::new(), Vec::new());
        for key in keys {
            pins.push(Pin::new(self.clone(), key.clone()));
            reads.spawn(timeout(PATIENCE, self.clone().bring_one(key)));
        }
        while reads.join_next().await.is_some() {}
        pins
    }

    async fn bring_one(self: Arc<Self>, key: Key) {
        let Some(backing) = self.keyspace.backing() else { return };
        let mut progress = backing.progress.clone();
        loop {
            let mut freed = pin!(self.keyspace.freed());
            freed.as_mut().enable();
            progress.mark_unchanged();
            let (node, key) = (self.clone(), key.clone());
            let read = tokio::task::spawn_blocking(move || node.keyspace.warm(&key));
            match read.await {
                Ok(Err(fault)) if fault.kind == Kind::OutOfMemory => {
                    tokio::select! {
                        () = freed => {}
                        _ = progress.changed() => {}
                    }
                }
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Waits until there is room for `bytes` more, as long as something is about to make some. Who
    /// finds none after that is refused as on any node.
    pub(super) async fn room(&self, bytes: usize) {
        let Some(backing) = self.keyspace.backing() else { return };
        let mut progress = backing.progress.clone();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let mut freed = pin!(self.keyspace.freed());
            freed.as_mut().enable();
            progress.mark_unchanged();
            let waiting = backing.engine.queued_bytes();
            let is_behind = waiting > backing.engine.options().queued_bytes_max / 2;
            if !is_behind && self.keyspace.has_room(bytes as u64) {
                return;
            }
            // What is on its way in, out or to the disk can leave when it is there.
            if waiting == 0 && !self.keyspace.holds_large() {
                return;
            }
            tokio::select! {
                () = freed => {}
                _ = progress.changed() => {}
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Waits until everything that replies have seen is durable. The fault is that of a write which
    /// is lost: whoever saw it has seen nothing.
    pub(super) async fn settled(&self, seen: Option<u64>) -> Result<(), Fault> {
        let (Some(position), Some(backing), Some(settling)) =
            (seen, self.keyspace.backing(), &self.settling)
        else {
            return Ok(());
        };
        settling.until(position).await;
        let outcome = backing.outcome(position);
        if outcome.is_err() {
            settling.mended().await;
        }
        outcome
    }

    /// Wakes what waits for the disk on event loop `number`, on which it runs. Never returns.
    pub(super) async fn wake(&self, number: usize) {
        match &self.settling {
            Some(settling) => settling.wake(number).await,
            None => std::future::pending().await,
        }
    }

    /// A reply to `seen` shows names, of which some may not be durable yet.
    pub(super) fn see_all(&self, seen: &Seen) {
        if let Some(backing) = self.keyspace.backing().filter(|backing| backing.is_durable) {
            seen.see(backing.engine.submitted());
        }
    }

    /// Whenever writes were lost, makes what they changed be as the disk has it. Never returns.
    pub(super) async fn mend(&self) {
        let (Some(backing), Some(settling)) = (self.keyspace.backing(), &self.settling) else {
            return std::future::pending().await;
        };
        let (mut progress, mut mended) = (backing.progress.clone(), 0);
        loop {
            let lost = progress.wait_for(|progress| progress.losses() > mended).await;
            let Ok(losses) = lost.map(|progress| progress.losses()) else {
                return std::future::pending().await;
            };
            let done = self.keyspace.mend();
            settling.has_mended(losses);
            match done {
                Ok(()) => mended = losses,
                Err(error) => {
                    tracing::error!(%error, "no change is taken until the disk can be read");
                    sleep(LOOK_AGAIN).await;
                }
            }
        }
    }
}

/// Keeps an object's value in memory until a request has used it.
#[derive(Debug)]
pub(super) struct Pin {
    node: Arc<Node>,
    key: Key,
}

impl Pin {
    fn new(node: Arc<Node>, key: Key) -> Self {
        node.keyspace.pin(&key);
        Self { node, key }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.node.keyspace.unpin(&self.key);
    }
}
