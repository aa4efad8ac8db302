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
use crate::server::keyspace::Backing;
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
            | Request::Unpin(_)
            | Request::Step { .. }
            | Request::Call { .. } => Vec::new(),
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

    /// Whether the write at `position` is known to be lost.
    pub(super) fn is_lost(&self, position: u64) -> bool {
        let of = |backing: &Backing| backing.progress.borrow().of(position);
        self.keyspace.backing().and_then(of).is_some_and(|outcome| outcome.is_err())
    }

    /// Whenever writes were lost, makes what they changed be as the disk has it. Never returns.
    pub(super) async fn mend(self: &Arc<Self>) {
        let (Some(backing), Some(settling)) = (self.keyspace.backing(), &self.settling) else {
            return std::future::pending().await;
        };
        let (mut progress, mut mended) = (backing.progress.clone(), 0);
        loop {
            let lost = progress.wait_for(|progress| progress.losses() > mended).await;
            let Ok(losses) = lost.map(|progress| progress.losses()) else {
                return std::future::pending().await;
            };
            let node = self.clone();
            let done = tokio::task::spawn_blocking(move || node.keyspace.mend()).await;
            let done = done.expect("mending returns its errors");
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::segments::sim::{Plan, SimDisk};
    use crate::segments::{Engine, Options};
    use crate::server::NodeOptions;
    use crate::server::keyspace::{Contents, End, Place, Seen, Turn, Value};
    use crate::wire::NEVER;

    pub(in crate::server) fn key() -> Key {
        Key::try_from("key".to_owned()).unwrap()
    }

    pub(in crate::server) fn on(disk: &SimDisk) -> Arc<Node> {
        let engine = Engine::open(Arc::new(disk.clone()), Options::default()).unwrap();
        let mut options = NodeOptions::new(cirrus_units::ByteSize::mib(16));
        options.engine = Some(Arc::new(engine));
        let node = Node::new(options).unwrap();
        node.keyspace.open(node.incarnation).unwrap();
        Arc::new(node)
    }

    /// Changes the object, and waits until that is durable or lost; what an answer has seen.
    async fn change(
        node: &Node,
        change: impl FnOnce(&mut Place<'_>) -> Result<(), Fault>,
    ) -> Option<u64> {
        let seen = Seen::default();
        node.keyspace.at(&key(), Turn::new(0, &seen), change).unwrap();
        settle(node).await;
        seen.take()
    }

    /// Waits until everything that was written is durable or lost.
    pub(in crate::server) async fn settle(node: &Node) {
        let backing = node.keyspace.backing().unwrap();
        let (mut progress, position) = (backing.progress.clone(), backing.engine.submitted());
        progress.wait_for(|progress| progress.settled() >= position).await.unwrap();
    }

    async fn put(node: &Node, value: &str) -> Option<u64> {
        let value = Value::small(value.as_bytes());
        change(node, |place| place.put(value, NEVER, 1).map(drop)).await
    }

    pub(in crate::server) async fn push(node: &Node, item: &str) -> Option<u64> {
        let item = Value::small(item.as_bytes());
        change(node, |place| place.queue_push(End::Back, item, 1).map(drop)).await
    }

    fn get(node: &Node) -> Vec<u8> {
        node.keyspace.at(&key(), 0, |place| {
            place.warm().unwrap();
            match place.found().expect("it was put before").content {
                Contents::Value(stored) => stored.bytes().to_vec(),
                Contents::Queue(_) | Contents::Cold(_) => panic!("a value that was warmed"),
            }
        })
    }

    pub(in crate::server) fn size(node: &Node) -> u64 {
        node.keyspace.at(&key(), 0, |place| place.found().map_or(0, |found| found.size()))
    }

    /// The next write is lost.
    pub(in crate::server) fn lose_next(disk: &SimDisk) {
        disk.set_plan(Plan { fail_once: Some(1), ..Plan::default() });
    }

    #[tokio::test]
    async fn who_hears_of_a_lost_write_does_not_see_it_any_more() {
        let disk = SimDisk::default();
        let node = on(&disk);
        let before = put(&node, "before").await;
        node.settled(before).await.unwrap();
        lose_next(&disk);
        let lost = put(&node, "after").await;
        assert_eq!(get(&node), b"after", "changes do not wait");
        // It is mended only while the answer waits.
        tokio::select! {
            biased;
            answer = node.settled(lost) => {
                assert_eq!(answer.unwrap_err().kind, Kind::Io);
            }
            () = node.mend() => unreachable!("it never returns"),
        }
        assert_eq!(get(&node), b"before");
        disk.set_plan(Plan::default());
        let again = put(&node, "again").await;
        node.settled(again).await.unwrap();
    }

    #[tokio::test]
    async fn a_scan_waits_for_what_it_shows_and_for_nothing_else() {
        let disk = SimDisk::default();
        let node = on(&disk);
        let before = put(&node, "before").await;
        node.settled(before).await.unwrap();
        let scan = || {
            let seen = Seen::default();
            let page = node.keyspace.scan(b"", (0, 0), 10, Turn::new(0, &seen));
            assert_eq!(page.items.len(), 1);
            seen.take()
        };
        assert_eq!(scan(), None);
        lose_next(&disk);
        let lost = put(&node, "after").await;
        assert_eq!(scan(), lost, "the size that it shows is that of the lost value");
        node.keyspace.mend().unwrap();
        assert_eq!(scan(), None, "what was lost is not shown any more");
    }

    #[tokio::test]
    async fn a_disk_that_hangs_while_it_is_mended_holds_up_nobody_else() {
        let disk = SimDisk::default();
        push(&on(&disk), "item").await;
        let node = on(&disk);
        lose_next(&disk);
        let lost = push(&node, "lost").await;
        disk.set_plan(Plan { hang_reads: true, ..Plan::default() });
        let mending = tokio::spawn({
            let node = node.clone();
            async move { node.mend().await }
        });
        let hangs = async {
            while disk.reads() == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, hangs).await.expect("the disk is read");
        let other = node.clone();
        let looks = tokio::task::spawn_blocking(move || size(&other));
        let looked = timeout(PATIENCE, looks).await;
        disk.set_plan(Plan::default());
        assert_eq!(looked.expect("its shard is not locked").unwrap(), 8, "it is not mended yet");
        assert_eq!(node.settled(lost).await.unwrap_err().kind, Kind::Io);
        assert_eq!(size(&node), 4);
        mending.abort();
    }
}
