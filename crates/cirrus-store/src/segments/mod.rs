//! The durable engine: append-only segments that are log and value store in one, and an index.
//!
//! Owns a store's folder and the threads that write it. Knows no sockets, no requests and no
//! conditions: versions come from the caller. Invariant: whatever a reader sees, and whatever was
//! acknowledged, survives a kill and a power cut. docs/storage.md draws the format and says why.
//!
//! A put: rows named (one hash of the key), queued (one short lock), laid out, one vectored write and
//! one `fdatasync` for all that are queued, one look for the entry that it replaces. A get: one
//! short lock for what is hot; otherwise one look into the index and one read.

mod backend;
mod check;
mod disk;
mod entry;
mod folder;
mod hot;
mod inbox;
mod index;
mod keeper;
mod log;
mod options;
mod queue;
mod read;
mod record;
mod recovery;
pub mod sim;
mod state;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Kind, Result};
use crate::key::{Key, Slot, Version};
use crate::segments::entry::{Place, Row};
use crate::segments::inbox::{Failure, Inbox, Queued};
use crate::segments::index::Index;
use crate::segments::state::State;

pub use check::{Damage, Report};
pub use disk::{Disk, DiskFile};
pub use folder::Folder;
pub use inbox::{Durable, Record, WRITE_RECORDS_MAX};
pub use options::{Options, Stats};
pub use queue::{Popped, Pushed};
pub use read::{Found, Latest, Name, Page, Range};
pub use record::{RecordKind, VALUE_BYTES_MAX};

/// A store that is open. Dropping it closes it; [`Engine::close`] says whether that went well.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the engine's threads share. Locks: `checkpointing`, `inbox`, then `state`.
#[derive(Debug)]
struct Shared {
    options: Options,
    disk: Arc<dyn Disk>,
    index: Index,
    store: u128,
    state: Mutex<State>,
    inbox: Mutex<Inbox>,
    /// Something was queued, room was made, or the engine closes.
    changed: Condvar,
    checkpointing: Mutex<()>,
    compacting: Mutex<()>,
    /// What the keeper is asked.
    keeper: Mutex<keeper::Wanted>,
    keeper_called: Condvar,
    closing: AtomicBool,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    writes: AtomicU64,
    records: AtomicU64,
    groups: AtomicU64,
    syncs: AtomicU64,
    checkpoints: AtomicU64,
    compactions: AtomicU64,
    moved_bytes: AtomicU64,
    index_bytes: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    pause_us_max: AtomicU64,
    commit_us_max: AtomicU64,
}

impl Engine {
    /// Opens the store on `disk`, or makes a new one, and replays what the last checkpoint does not
    /// cover. A damaged store is refused with [`Kind::Corrupt`], which names the place; see
    /// [`Engine::check`].
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Self> {
        let options = options.fitted();
        let (shared, log) = recovery::recover(disk, options)?;
        let shared = Arc::new(shared);
        let mut engine = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        let writer = Arc::clone(&shared);
        engine.spawn("store-writer", move || writer::run(&writer, log))?;
        if shared.options.background {
            engine.spawn("store-keeper", move || keeper::run(&shared))?;
        }
        Ok(engine)
    }

    /// Opens the store in a folder.
    pub fn open_folder(path: impl Into<std::path::PathBuf>, options: Options) -> Result<Self> {
        let path = path.into();
        let folder = Folder::open(&path).map_err(|error| {
            Error::io(format!("cannot open the store {}", path.display()), error)
        })?;
        Self::open(Arc::new(folder), options)
    }

    /// Reads every record of a store that nobody has open, and compares the index with them.
    pub fn check(disk: &Arc<dyn Disk>) -> Result<Report> {
        check::check(disk)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        self.threads.push(thread.map_err(|error| Error::io("cannot start a thread", error))?);
        Ok(())
    }

    /// Queues records that count together or not at all, a row at most once. Versions are larger
    /// than any before in their slots, in the order of the calls. Fails with [`Kind::OutOfMemory`]
    /// (with the free bytes), [`Kind::Busy`] (too much is queued), [`Kind::Invalid`],
    /// [`Kind::TooLarge`], [`Kind::Io`] (only reads go on) or [`Kind::Closed`], and nothing changed.
    ///
    /// What is returned fails with [`Kind::Unknown`] where a sync failed: the write may or may not
    /// be there after a restart.
    pub fn write(&self, records: Vec<Record>) -> Result<Durable> {
        self.shared.write(records)
    }

    /// Queues one put.
    pub fn put(&self, key: Key, version: u64, value: bytes::Bytes) -> Result<Durable> {
        self.write(vec![Record::put(key, version, value)])
    }

    /// Queues a delete, whether or not the object is there.
    pub fn delete(&self, key: Key, version: u64) -> Result<Durable> {
        self.write(vec![Record::delete(key, version)])
    }

    /// The largest version that was ever submitted for a slot, deletes included, over restarts.
    pub fn version(&self, slot: Slot) -> Version {
        Version(self.shared.inbox.lock().slots[usize::from(slot.number())])
    }

    /// Writes what has changed into the index now.
    pub fn checkpoint(&self) -> Result<()> {
        self.shared.checkpoint()
    }

    /// Rewrites segments that are more than half dead until there is none. How many it rewrote.
    pub fn compact(&self) -> Result<u64> {
        self.shared.compact_all()
    }

    /// The engine's own numbers.
    pub fn stats(&self) -> Result<Stats> {
        self.shared.stats()
    }

    /// Writes everything that is queued, a last checkpoint and a mark, and joins the threads.
    pub fn close(mut self) -> Result<()> {
        self.stop();
        self.shared.inbox.lock().failure.as_ref().map_or(Ok(()), |failure| Err(failure.error()))
    }

    fn stop(&mut self) {
        {
            self.shared.inbox.lock().closing = true;
            self.shared.closing.store(true, Ordering::Release);
            self.shared.changed.notify_all();
        }
        self.shared.call_keeper(|_| ());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                // Its panic has been printed; waiters were answered Closed when it unwound.
                self.shared.fail("a thread of the engine panicked".to_owned());
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn write(&self, records: Vec<Record>) -> Result<Durable> {
        let (queued, durable) = Queued::new(self.store, records, None)?;
        let mut inbox = self.inbox.lock();
        inbox.check_open()?;
        inbox.check_versions(&queued.records)?;
        if inbox.bytes + queued.bytes > self.options.queued_bytes_max && inbox.bytes > 0 {
            let text = format!("{} bytes wait to be written", inbox.bytes);
            return Err(Error::new(Kind::Busy, text));
        }
        let taken = self.state.lock().live_bytes + inbox.bytes;
        let limit = self.live_bytes_max(queued.is_delete());
        if taken + queued.bytes > limit {
            let free = limit.saturating_sub(taken);
            let text = format!("a write of {} bytes, {free} are free", queued.bytes);
            return Err(Error::new(Kind::OutOfMemory, text).with_detail(free));
        }
        inbox.queue(queued);
        self.changed.notify_all();
        Ok(durable)
    }

    /// What may be live: the rest of the capacity is for the index, for the segment that is written
    /// and the one that compaction writes, and for deletes.
    fn live_bytes_max(&self, is_delete: bool) -> u64 {
        let index = self.counters.index_bytes.load(Ordering::Relaxed);
        let reserve = if is_delete { 0 } else { self.options.capacity / 64 };
        let kept = 2 * self.options.segment_bytes + index + reserve;
        self.options.capacity.saturating_sub(kept)
    }

    fn fail(&self, why: String) {
        let mut inbox = self.inbox.lock();
        if inbox.failure.is_none() {
            tracing::error!(why, "the store only reads from now on");
            inbox.failure = Some(Failure(why));
        }
        self.changed.notify_all();
    }

    fn stats(&self) -> Result<Stats> {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let index_bytes = self.index.bytes()?;
        let state = self.state.lock();
        let counters = &self.counters;
        Ok(Stats {
            objects: state.objects,
            segments: state.segments.len() as u64,
            disk_bytes: state.disk_bytes + index_bytes,
            index_bytes,
            live_bytes: state.live_bytes,
            free_bytes: self.live_bytes_max(false).saturating_sub(state.live_bytes),
            rows_in_memory: (state.active.len() + state.frozen.as_ref().map_or(0, |f| f.len()))
                as u64,
            writes: get(&counters.writes),
            records: get(&counters.records),
            groups: get(&counters.groups),
            syncs: get(&counters.syncs),
            checkpoints: get(&counters.checkpoints),
            compactions: get(&counters.compactions),
            moved_bytes: get(&counters.moved_bytes),
            hits: get(&counters.hits),
            misses: get(&counters.misses),
            pause_us_max: get(&counters.pause_us_max),
            commit_us_max: get(&counters.commit_us_max),
        })
    }
}

/// Names a damaged place and says what can be done.
fn damaged(place: Place, why: &str) -> Error {
    let name = log::segment_name(place.segment);
    let text = format!(
        "{name} is damaged at byte {}: {why}; run `cirrus store check` for the whole damage, then \
         restore the store from a replica or a copy",
        place.offset
    );
    Error::new(Kind::Corrupt, text).with_detail(place.offset)
}

fn row_of(store: u128, key: &Key) -> Row {
    Row::object(store, key.as_bytes())
}
