//! A disk in memory that loses what was not synced, tears writes, fails, and fills up.
//!
//! Owns the bytes that are durable and those that are not yet. Knows nothing of records.
//! Invariant: after [`SimDisk::power_cut`] there is everything that was synced, and of the rest what
//! the seed says: nothing, whole writes, the front of one, or single sectors in any order.

mod bucket;

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::segments::disk::{Disk, DiskFile, ReadAt};

pub use bucket::{BucketPlan, SimBucket};

/// What a drive writes in one piece.
const SECTOR_BYTES: usize = 512;

/// What a power cut leaves of the writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    All,
    /// Everything up to some byte, in the order of the writes.
    Tail,
    /// Any sectors, of any writes.
    Sectors,
}

/// When and how calls fail. Calls are counted from 1: everything that changes the disk (create,
/// rename, remove, write, set_len, both syncs), and all of a [`SimBucket`] beside it. Reads are
/// counted apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plan {
    /// From this call on nothing works: the power is off.
    pub cut_at: Option<u64>,
    /// From this call on every call fails with EIO; reads go on.
    pub fail_from: Option<u64>,
    /// This one call fails with EIO. A sync that fails drops what it should have made durable from
    /// the page cache, as Linux may.
    pub fail_once: Option<u64>,
    /// This and every later read fails with EIO.
    pub fail_reads_from: Option<u64>,
    /// Reads of files return under the next plan.
    pub hang_reads: bool,
    /// The bytes that fit on the disk; a write beyond fails with ENOSPC after some of its bytes.
    pub full_at: Option<u64>,
}

/// A simulated disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    plan: Plan,
    calls: u64,
    reads: u64,
    syncs: u64,
    replanned: Arc<Condvar>,
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameChange>,
}

/// One file: its bytes as readers see them, as they are on the platter, and what lies between.
#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

#[derive(Debug)]
enum NameChange {
    Put(String, usize),
    Remove(String),
}

impl SimDisk {
    /// A disk as the last power cut left it, or an empty one, that will do as `plan` says.
    pub fn set_plan(&self, plan: Plan) {
        let mut state = self.0.lock();
        state.plan = plan;
        state.calls = 0;
        state.reads = 0;
        state.replanned.notify_all();
    }

    /// Calls since the plan was set.
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// Reads since the plan was set, with those that hang.
    pub fn reads(&self) -> u64 {
        self.0.lock().reads
    }

    /// A call of something else on the same power.
    fn call_beside(&self) -> Power {
        let mut state = self.0.lock();
        state.calls += 1;
        let calls = state.calls;
        match state.plan.cut_at {
            Some(at) if calls == at => Power::Goes(Dice(at).roll(2) == 1),
            Some(at) if calls > at => Power::Off,
            _ => Power::On,
        }
    }

    /// Calls of `sync_data` that succeeded, ever.
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// The disk after a power cut: what was synced, and of the rest what `loss` and `seed` leave.
    #[must_use]
    pub fn power_cut(&self, loss: Loss, seed: u64) -> Self {
        let state = self.0.lock();
        let mut dice = Dice(seed ^ 0x9E37_79B9_7F4A_7C15);
        let mut names = state.durable_names.clone();
        for change in &state.pending_names {
            // Without a sync of the folder each name stands for itself.
            if loss == Loss::All || dice.roll(2) == 0 {
                continue;
            }
            match change {
                NameChange::Put(name, file) => {
                    names.insert(name.clone(), *file);
                }
                NameChange::Remove(name) => {
                    names.remove(name);
                }
            }
        }
        let mut files = Vec::new();
        let mut kept = BTreeMap::new();
        for (name, file) in &names {
            let bytes = state.files[*file].after_cut(loss, &mut dice);
            kept.insert(name.clone(), files.len());
            files.push(Content { durable: bytes.clone(), bytes, pending: Vec::new() });
        }
        let state = State { files, names: kept.clone(), durable_names: kept, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The disk as a process finds it that starts after another was killed: nothing is lost, and
    /// nothing that was not synced is durable.
    pub fn killed(&self) {
        self.set_plan(Plan::default());
    }

    /// Flips bits of one byte of a file.
    pub fn flip(&self, name: &str, offset: usize, mask: u8) {
        let mut state = self.0.lock();
        if let Some(file) = state.names.get(name).copied()
            && let Some(byte) = state.files[file].bytes.get_mut(offset)
        {
            *byte ^= mask;
        }
    }

    /// A file's bytes as a reader sees them.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.0.lock();
        state.names.get(name).map(|file| state.files[*file].bytes.clone())
    }
}

impl Content {
    fn after_cut(&self, loss: Loss, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let last = match loss {
            Loss::All => 0,
            Loss::Tail => dice.below(self.pending.len() + 1),
            Loss::Sectors => self.pending.len(),
        };
        for (number, change) in self.pending.iter().enumerate() {
            match (loss, change) {
                (Loss::All, _) => {}
                (Loss::Tail, change) if number < last => change.apply(&mut bytes),
                (Loss::Tail, Change::Write { offset, bytes: written }) if number == last => {
                    let front = dice.below(written.len() + 1);
                    put(&mut bytes, *offset, &written[..front]);
                }
                (Loss::Tail, _) => {}
                (Loss::Sectors, Change::Len(len)) => {
                    if dice.roll(2) == 1 {
                        bytes.resize(*len, 0);
                    }
                }
                (Loss::Sectors, Change::Write { offset, bytes: written }) => {
                    sectors(*offset, written, |at, sector| {
                        if dice.roll(2) == 1 {
                            put(&mut bytes, at, sector);
                        }
                    });
                }
            }
        }
        bytes
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes: written } => put(bytes, *offset, written),
            Self::Len(len) => bytes.resize(*len, 0),
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    if bytes.len() < offset + written.len() {
        bytes.resize(offset + written.len(), 0);
    }
    bytes[offset..offset + written.len()].copy_from_slice(written);
}

/// Cuts a write where sectors of the file end.
fn sectors(offset: usize, written: &[u8], mut each: impl FnMut(usize, &[u8])) {
    let mut at = 0;
    while at < written.len() {
        let room = SECTOR_BYTES - (offset + at) % SECTOR_BYTES;
        let end = written.len().min(at + room);
        each(offset + at, &written[at..end]);
        at = end;
    }
}

/// SplitMix64: the same numbers for the same seed, everywhere.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll(end as u64)).unwrap_or(0)
    }
}

/// Whether there is power for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// It goes at this call, which is carried out or not.
    Goes(bool),
    Off,
}

/// What becomes of a call.
enum Fate {
    Works,
    Fails(io::Error),
}

impl State {
    fn call(&mut self) -> Fate {
        self.calls += 1;
        let calls = self.calls;
        let reached = |at: Option<u64>| at.is_some_and(|at| calls >= at);
        if reached(self.plan.cut_at) {
            return Fate::Fails(io::Error::other("the power is off"));
        }
        if reached(self.plan.fail_from) || self.plan.fail_once == Some(calls) {
            return Fate::Fails(rustix::io::Errno::IO.into());
        }
        Fate::Works
    }

    fn change(&mut self) -> io::Result<()> {
        match self.call() {
            Fate::Works => Ok(()),
            Fate::Fails(error) => Err(error),
        }
    }

    /// Whether the power went off before this call: it can leave nothing behind.
    fn is_off(&self) -> bool {
        self.plan.cut_at.is_some_and(|at| self.calls > at)
    }

    fn read(&mut self) -> io::Result<()> {
        if self.plan.cut_at.is_some_and(|at| self.calls >= at) {
            return Err(io::Error::other("the power is off"));
        }
        self.reads += 1;
        match self.plan.fail_reads_from.is_some_and(|at| self.reads >= at) {
            true => Err(rustix::io::Errno::IO.into()),
            false => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.names.values().map(|file| self.files[*file].bytes.len() as u64).sum()
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for SimDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.change()?;
        let file = state.files.len();
        state.files.push(Content::default());
        state.names.insert(name.to_owned(), file);
        state.pending_names.push(NameChange::Put(name.to_owned(), file));
        Ok(Arc::new(SimFile { disk: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.read()?;
        let file = state.find(name)?;
        Ok(Arc::new(SimFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.change()?;
        let file = state.find(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), file);
        // Atomic, and yet the old name may come back beside the new one: the harder case.
        state.pending_names.push(NameChange::Put(to.to_owned(), file));
        state.pending_names.push(NameChange::Remove(from.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.change()?;
        state.find(name)?;
        state.names.remove(name);
        state.pending_names.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.0.lock();
        state.read()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.change()?;
        state.durable_names = state.names.clone();
        state.pending_names.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.0.lock();
        Ok(state.plan.full_at.unwrap_or(u64::MAX).saturating_sub(state.used()))
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: usize,
}

impl ReadAt for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.read()?;
        let replanned = state.replanned.clone();
        while state.plan.hang_reads {
            replanned.wait(&mut state);
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let found = state.files[self.file].bytes.get(start..end);
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn write_all_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let fate = state.call();
        if let (Fate::Fails(error), true) = (&fate, state.is_off()) {
            return Err(io::Error::other(error.to_string()));
        }
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let before = state.files[self.file].bytes.len();
        let growth = (offset + bytes.len()).saturating_sub(before) as u64;
        let room = state.plan.full_at.unwrap_or(u64::MAX).saturating_sub(state.used());
        let error = match fate {
            // A write that fails has written something, as a rule.
            Fate::Fails(error) => {
                bytes.truncate(bytes.len() / 2);
                Some(error)
            }
            Fate::Works if growth > room => {
                let missing = usize::try_from(growth - room).unwrap_or(usize::MAX);
                bytes.truncate(bytes.len().saturating_sub(missing));
                Some(rustix::io::Errno::NOSPC.into())
            }
            Fate::Works => None,
        };
        let content = &mut state.files[self.file];
        put(&mut content.bytes, offset, &bytes);
        content.pending.push(Change::Write { offset, bytes });
        error.map_or(Ok(()), Err)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.change()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let growth = len.saturating_sub(state.files[self.file].bytes.len()) as u64;
        if growth > state.plan.full_at.unwrap_or(u64::MAX).saturating_sub(state.used()) {
            return Err(rustix::io::Errno::NOSPC.into());
        }
        let content = &mut state.files[self.file];
        content.bytes.resize(len, 0);
        content.pending.push(Change::Len(len));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.0.lock();
        state.read()?;
        Ok(state.files[self.file].bytes.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let fate = state.call();
        let was_cut = state.plan.cut_at.is_some_and(|at| state.calls >= at);
        match fate {
            Fate::Works => {
                state.syncs += 1;
                let content = &mut state.files[self.file];
                for change in std::mem::take(&mut content.pending) {
                    change.apply(&mut content.durable);
                }
                Ok(())
            }
            Fate::Fails(error) => {
                // The kernel marks the pages clean: a second sync would succeed without them.
                if !was_cut {
                    let content = &mut state.files[self.file];
                    content.pending.clear();
                }
                Err(error)
            }
        }
    }
}
