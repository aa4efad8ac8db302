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
mod bucket;
mod check;
mod cold;
mod disk;
mod entry;
mod folder;
mod hot;
mod inbox;
mod index;
mod keeper;
mod log;
mod mover;
#[cfg(feature = "object-store")]
mod object_bucket;
mod options;
mod progress;
mod queue;
mod read;
mod record;
mod recovery;
pub mod sim;
mod state;
mod stub;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::error::{Error, Kind, Result};
use crate::key::{Key, Slot, Version};
use crate::segments::cold::Cold;
use crate::segments::entry::{Place, Row};
use crate::segments::inbox::{Failure, Inbox, Queued, again};
use crate::segments::index::Index;
use crate::segments::progress::Teller;
use crate::segments::state::State;

pub use bucket::Bucket;
pub use check::{Damage, Report};
pub use disk::{Disk, DiskFile, ReadAt};
pub use folder::Folder;
pub use inbox::{Durable, Record, WRITE_RECORDS_MAX};
#[cfg(feature = "object-store")]
pub use object_bucket::ObjectBucket;
pub use options::{Options, Stats};
pub use progress::Progress;
pub use queue::QueueHead;
pub use read::{Found, Name, Page, Range};
pub use record::{RecordKind, VALUE_BYTES_MAX};

/// A store that is open. Dropping it closes it; [`Engine::close`] says whether that went well.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the engine's threads share. Locks: `tiering`, `compacting`, `checkpointing`, `inbox`, then
/// `state`.
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
    /// Held by who removes segments from the disk.
    compacting: Mutex<()>,
    /// Held by who changes the bucket.
    tiering: Mutex<()>,
    cold: Option<Arc<Cold>>,
    /// What the keeper is asked.
    keeper: Mutex<keeper::Wanted>,
    keeper_called: Condvar,
    closing: AtomicBool,
    counters: Counters,
    progress: Teller,
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
    reads: AtomicU64,
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
        let engine = Self { shared: Arc::clone(&shared), threads: Mutex::default() };
        let writer = Arc::clone(&shared);
        engine.spawn("store-writer", move || writer::run(&writer, log))?;
        if shared.options.background {
            if let Some(cold) = shared.cold.clone() {
                let mover = Arc::clone(&shared);
                engine.spawn("store-mover", move || mover::run(&mover, &cold))?;
            }
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

    /// Reads every record of a store that nobody has open, and compares the index with them. What
    /// lies in a bucket is read if that is given. `read` is told now and then how many bytes were
    /// read, of how many.
    pub fn check(
        disk: &Arc<dyn Disk>,
        bucket: Option<Arc<dyn Bucket>>,
        read: impl FnMut(u64, u64),
    ) -> Result<Report> {
        check::check(disk, bucket, read)
    }

    fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        self.threads
            .lock()
            .push(thread.map_err(|error| Error::io("cannot start a thread", error))?);
        Ok(())
    }

    /// Queues records that count together or not at all, a row at most once. Versions are larger
    /// than any before in their slots, in the order of the calls. Fails with [`Kind::OutOfMemory`]
    /// (with the free bytes), [`Kind::Busy`] (too much is queued), [`Kind::Invalid`],
    /// [`Kind::TooLarge`], [`Kind::Io`] (only reads go on) or [`Kind::Closed`], and nothing changed.
    ///
    /// What is returned fails with [`Kind::Unknown`] where a sync failed: the write may or may not
    /// be there after a restart. When one write fails, so do all behind it, and writes are refused
    /// until [`Engine::resume`].
    pub fn write(&self, records: Vec<Record>) -> Result<Durable> {
        self.shared.write(records)
    }

    /// Admits a write of `bytes`, as [`Record::bytes`] counts them, that [`Engine::submit`] will
    /// queue soon. Fails as [`Engine::write`] does.
    pub fn reserve(&self, bytes: u64, is_delete: bool) -> Result<()> {
        let mut inbox = self.shared.inbox.lock();
        self.shared.admit(&inbox, bytes, is_delete)?;
        inbox.reserved += bytes;
        Ok(())
    }

    /// Gives back what was reserved for a write that is not to be.
    pub fn release(&self, reserved: u64) {
        self.shared.inbox.lock().reserved -= reserved;
    }

    /// Queues records for which `reserved` bytes were reserved; the position of the write. Where it
    /// can be queued no more, or its records are wrong, the position is lost at once.
    pub fn submit(&self, records: Vec<Record>, reserved: u64) -> u64 {
        self.shared.submit(records, reserved)
    }

    /// How far the writes have come that were submitted.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.shared.progress.listen()
    }

    /// The position of the last write that was submitted.
    pub fn submitted(&self) -> u64 {
        self.shared.inbox.lock().submitted
    }

    /// Why writes are refused, if they are.
    pub fn refusal(&self) -> Option<Error> {
        self.shared.inbox.lock().check_open().err()
    }

    /// Takes writes again after one has failed; what was lost is known to whoever calls this. After
    /// a failed sync nothing is taken until the store is opened again.
    pub fn resume(&self) {
        self.shared.inbox.lock().halted = None;
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> u64 {
        self.shared.inbox.lock().bytes
    }

    /// What the caller decided.
    pub fn options(&self) -> &Options {
        &self.shared.options
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

    /// Drops what is dead in the bucket, and moves segments there until no more than three quarters
    /// of what may be live on the disk are. How many it moved.
    pub fn tier(&self) -> Result<u64> {
        match &self.shared.cold {
            Some(cold) => self.shared.tier(cold, false, cold.has_trouble()),
            None => Ok(0),
        }
    }

    /// The engine's own numbers.
    pub fn stats(&self) -> Result<Stats> {
        self.shared.stats()
    }

    /// Finishes and lets go of the files.
    pub fn close(self) -> Result<()> {
        self.finish()
    }

    /// Writes everything that is queued, a last checkpoint and a mark, and joins the threads. Reads
    /// go on.
    pub fn finish(&self) -> Result<()> {
        self.stop();
        self.shared.inbox.lock().failure.as_ref().map_or(Ok(()), |failure| Err(failure.error()))
    }

    fn stop(&self) {
        {
            self.shared.inbox.lock().closing = true;
            self.shared.closing.store(true, Ordering::Release);
            self.shared.changed.notify_all();
        }
        self.shared.call_keeper(|_| ());
        if let Some(cold) = &self.shared.cold {
            cold.call(None);
        }
        for thread in std::mem::take(&mut *self.threads.lock()) {
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
        let mut queued = Queued::new(self.store, records, None)?;
        let durable = queued.durable();
        let mut inbox = self.inbox.lock();
        self.admit(&inbox, queued.bytes, queued.is_delete())?;
        self.check_versions(&inbox, &queued)?;
        inbox.queue(queued);
        self.changed.notify_all();
        Ok(durable)
    }

    fn submit(&self, records: Vec<Record>, reserved: u64) -> u64 {
        let queued = Queued::new(self.store, records, None);
        let mut inbox = self.inbox.lock();
        inbox.reserved -= reserved;
        let queued = queued.and_then(|queued| {
            self.check_versions(&inbox, &queued)?;
            inbox.check_open().map(|()| queued)
        });
        match queued {
            Ok(queued) => {
                let position = inbox.queue(queued);
                self.changed.notify_all();
                position
            }
            Err(error) => {
                inbox.submitted += 1;
                let position = inbox.submitted;
                self.halt(&mut inbox, position, error);
                position
            }
        }
    }

    /// Whether a write may be queued.
    fn admit(&self, inbox: &Inbox, bytes: u64, is_delete: bool) -> Result<()> {
        inbox.check_open()?;
        let waiting = inbox.bytes + inbox.reserved;
        if waiting + bytes > self.options.queued_bytes_max && waiting > 0 {
            let text = format!("{waiting} bytes wait to be written");
            return Err(Error::new(Kind::Busy, text));
        }
        let limit = self.live_bytes_max(is_delete);
        let taken = match self.can_move() {
            // What lies on the disk makes room.
            true => 0,
            false => self.state.lock().local.live + waiting,
        };
        if taken + bytes > limit {
            let free = limit.saturating_sub(taken);
            let text = format!("a write of {bytes} bytes, {free} are free{}", self.why_full());
            return Err(Error::new(Kind::OutOfMemory, text).with_detail(free));
        }
        Ok(())
    }

    /// The bucket's part in it that there is no room.
    fn why_full(&self) -> String {
        let trouble = self.cold.as_ref().and_then(|cold| cold.trouble());
        trouble.map_or(String::new(), |trouble| format!("; {trouble}"))
    }

    /// Without syncs nothing is read back after a restart, and the order within a slot is free.
    fn check_versions(&self, inbox: &Inbox, queued: &Queued) -> Result<()> {
        if self.options.durable { inbox.check_versions(&queued.records) } else { Ok(()) }
    }

    /// From `first` on every write is lost, because of `why`; none is taken until the owner has
    /// taken note.
    fn halt(&self, inbox: &mut Inbox, first: u64, why: Error) {
        for queued in std::mem::take(&mut inbox.writes) {
            inbox.settle(&queued);
            if let Some(done) = queued.done {
                // Nobody may wait for the answer.
                let _ = done.send(Err(again(&why)));
            }
        }
        self.progress.lose(first, inbox.submitted, &why);
        inbox.halted = Some(why);
        self.changed.notify_all();
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
        let cold_segments = state.segments.values().filter(|s| s.is_cold).count() as u64;
        let counters = &self.counters;
        Ok(Stats {
            objects: state.objects,
            segments: state.segments.len() as u64 - cold_segments,
            cold_segments,
            cold_bytes: state.cold.bytes,
            disk_bytes: state.local.bytes + index_bytes,
            index_bytes,
            live_bytes: state.local.live + state.cold.live,
            free_bytes: self.live_bytes_max(false).saturating_sub(state.local.live),
            rows_in_memory: (state.active.len() + state.frozen.as_ref().map_or(0, |f| f.len()))
                as u64,
            writes: get(&counters.writes),
            records: get(&counters.records),
            groups: get(&counters.groups),
            syncs: get(&counters.syncs),
            checkpoints: get(&counters.checkpoints),
            compactions: get(&counters.compactions),
            moved_bytes: get(&counters.moved_bytes),
            reads: get(&counters.reads),
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
