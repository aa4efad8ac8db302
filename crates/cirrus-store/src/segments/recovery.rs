//! Opening a store: what the last checkpoint covers, then the log behind it.
//!
//! Owns the rules of what is a torn tail and what is damage. Invariant: when it returns, everything
//! that readers will see is durable, and the log ends behind a whole write.
//!
//! A tail is torn when a record in the last segment is not whole and nothing behind it says that
//! this segment was synced beyond it: then it was never acknowledged, and is cut off. So are zeros
//! that were made ready for records. Anything else that is not whole is damage. One thing cannot be told apart: damage to the very last group before
//! a crash looks like a torn tail (after a close it does not: the closing mark lies behind it).

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Kind, Result};
use crate::segments::cold::Cold;
use crate::segments::disk::{Disk, DiskFile, ReadAt};
use crate::segments::entry::{Place, Row};
use crate::segments::inbox::Inbox;
use crate::segments::index::{Checkpoint, INDEX, Index, Usage};
use crate::segments::keeper::{Wanted, stop_error};
use crate::segments::log::{Log, UNFINISHED, segment_id, segment_name};
use crate::segments::options::{Bug, Options};
use crate::segments::progress::Teller;
use crate::segments::record::{
    RECORDS_AT, RecordKind, SEGMENT_HEADER_BYTES, SegmentHeader, merge_slots,
};
use crate::segments::state::State;
use crate::segments::stub::{Stub, stub_id, stub_name};
use crate::segments::walk::{Step, Stop, Walk};
use crate::segments::{Counters, Shared, damaged};

/// Rows in memory, in checkpoints' worth, at which a long replay writes a checkpoint.
const ROWS_IN_MEMORY: usize = 4;

pub(super) fn recover(disk: Arc<dyn Disk>, options: Options) -> Result<(Shared, Log)> {
    let ids = tidy(&*disk, &options)?;
    let (index, checkpoint) = open_index(&*disk, &options)?;
    let ids = without_orphans(&*disk, ids, checkpoint.as_ref())?;
    let opened = open_segments(&*disk, &ids)?;
    let store = match (&checkpoint, opened.values().next()) {
        (Some(checkpoint), _) => checkpoint.store,
        (None, Some(first)) => first.header().store,
        (None, None) => random(),
    };
    if let Some(other) = opened.values().find(|opened| opened.header().store != store) {
        let text = format!("{} belongs to another store", segment_name(other.header().id));
        return Err(Error::new(Kind::Corrupt, text));
    }
    let bucket = options.cold.clone().filter(|_| options.durable);
    let cold = bucket.map(|bucket| Arc::new(Cold::new(bucket, store)));
    look_at_bucket(cold.as_deref(), &opened, checkpoint.is_some())?;
    let files = homes(opened, cold.as_ref())?;
    let mut state = State::new(store, options.hot_bytes);
    let mut replay = Replay { index: &index, options: &options, log: None };
    replay.start(&mut state, checkpoint, &files)?;
    replay.run(&mut state, &files)?;
    let log = match replay.log {
        Some(log) => log,
        None => first_segment(&*disk, &options, &mut state)?,
    };
    let mut inbox = Inbox::new();
    inbox.slots.clone_from(&state.slots);
    let counters = Counters::default();
    counters.index_bytes.store(index.bytes()?, Ordering::Relaxed);
    let shared = Shared {
        options,
        disk,
        index,
        store,
        state: Mutex::new(state),
        inbox: Mutex::new(inbox),
        changed: Condvar::new(),
        checkpointing: Mutex::new(()),
        compacting: Mutex::new(()),
        tiering: Mutex::new(()),
        cold,
        keeper: Mutex::new(Wanted::default()),
        keeper_called: Condvar::new(),
        closing: AtomicBool::new(false),
        counters,
        progress: Teller::new(),
    };
    Ok((shared, log))
}

/// The segments that a folder has, and whether each is cold.
type Ids = BTreeMap<u32, bool>;

/// Removes what was not finished, and everything where nothing is kept. The segments that are left.
fn tidy(disk: &dyn Disk, options: &Options) -> Result<Ids> {
    let names = disk.list().map_err(|error| Error::io("cannot list the store", error))?;
    let id_of = |name: &str| segment_id(name).or_else(|| stub_id(name));
    let (mut ids, mut here) = (Ids::new(), Vec::new());
    for name in names {
        let id = id_of(&name);
        let is_unfinished = name.strip_suffix(UNFINISHED).is_some_and(|n| id_of(n).is_some());
        let is_old = !options.durable && (id.is_some() || name == INDEX);
        if is_unfinished || is_old {
            remove(disk, &name)?;
        } else if let Some(id) = id {
            *ids.entry(id).or_default() |= stub_id(&name).is_some();
            here.extend(segment_id(&name));
        }
    }
    for id in here.into_iter().filter(|id| ids[id]) {
        // Its stub says that the bucket has it.
        Stub::read(disk, id)?;
        remove(disk, &segment_name(id))?;
    }
    Ok(ids)
}

fn remove(disk: &dyn Disk, name: &str) -> Result<()> {
    disk.remove(name).map_err(|error| Error::io(format!("cannot remove {name}"), error))
}

/// A damaged index is thrown away: everything in it is in the segments.
fn open_index(disk: &dyn Disk, options: &Options) -> Result<(Index, Option<Checkpoint>)> {
    let open = || {
        let index = Index::open(disk, options.index_cache_bytes, options.durable)?;
        let checkpoint = index.checkpoint()?;
        Ok::<_, Error>((index, checkpoint))
    };
    match open() {
        Err(error) if error.kind() == Kind::Corrupt => {
            tracing::warn!(%error, "the index is made again from the segments");
            remove(disk, INDEX)?;
            open()
        }
        other => other,
    }
}

/// Removes segments that compaction was about to remove. The others, all there.
fn without_orphans(disk: &dyn Disk, ids: Ids, checkpoint: Option<&Checkpoint>) -> Result<Ids> {
    let Some(checkpoint) = checkpoint else { return Ok(ids) };
    for id in checkpoint.segments.keys() {
        if !ids.contains_key(id) {
            let text = format!("{} is missing; restore the store", segment_name(*id));
            return Err(Error::new(Kind::Corrupt, text));
        }
    }
    let is_orphan =
        |id: &u32| *id < checkpoint.applied.segment && !checkpoint.segments.contains_key(id);
    let (orphans, rest): (Ids, Ids) = ids.into_iter().partition(|(id, _)| is_orphan(id));
    for (id, is_cold) in &orphans {
        remove(disk, &if *is_cold { stub_name(*id) } else { segment_name(*id) })?;
    }
    if !orphans.is_empty() {
        // Before anything relies on their being gone.
        disk.sync_dir().map_err(|error| Error::io("cannot sync the store's folder", error))?;
    }
    Ok(rest)
}

/// A segment's header, and what else was found on the disk.
enum Opened {
    Here(SegmentHeader, Arc<dyn DiskFile>),
    Cold(Stub),
}

impl Opened {
    fn header(&self) -> SegmentHeader {
        match self {
            Self::Here(header, _) => *header,
            Self::Cold(stub) => stub.header,
        }
    }
}

fn open_segments(disk: &dyn Disk, ids: &Ids) -> Result<BTreeMap<u32, Opened>> {
    let mut opened = BTreeMap::new();
    for (id, is_cold) in ids {
        let found = match is_cold {
            true => Opened::Cold(Stub::read(disk, *id)?),
            false => {
                let (header, file) = open_segment(disk, *id)?;
                Opened::Here(header, file)
            }
        };
        opened.insert(*id, found);
    }
    Ok(opened)
}

/// Sees that the bucket has every cold segment, and removes what is left over in it. A store that
/// was closed or killed starts without its bucket, and reads it when it is back.
fn look_at_bucket(
    cold: Option<&Cold>,
    opened: &BTreeMap<u32, Opened>,
    has_index: bool,
) -> Result<()> {
    let mut stubs = opened.values().filter_map(|opened| match opened {
        Opened::Cold(stub) => Some(stub),
        Opened::Here(..) => None,
    });
    let segments: BTreeMap<u32, u64> =
        stubs.clone().map(|stub| (stub.header.id, stub.bytes)).collect();
    let Some(cold) = cold else {
        let Some(stub) = stubs.next() else { return Ok(()) };
        let text = format!(
            "{} segments of this store lie in the bucket {}; give it as its cold tier (--cold URL)",
            segments.len(),
            stub.bucket
        );
        return Err(Error::new(Kind::Invalid, text));
    };
    match cold.tidy(&segments) {
        Err(error) if error.kind() == Kind::Io && has_index => {
            tracing::warn!(%error, "the store starts without its bucket");
            cold.has_failed(&error.to_string());
            Ok(())
        }
        result => result,
    }
}

/// Where a segment lies.
enum Home {
    Disk(Arc<dyn DiskFile>),
    /// In the bucket, of so many bytes.
    Bucket(Arc<dyn ReadAt>, u64),
}

impl Home {
    fn bytes(&self) -> std::io::Result<u64> {
        match self {
            Self::Disk(file) => file.len(),
            Self::Bucket(_, bytes) => Ok(*bytes),
        }
    }

    fn file(&self) -> Arc<dyn ReadAt> {
        match self {
            Self::Disk(file) => file.clone(),
            Self::Bucket(file, _) => file.clone(),
        }
    }

    /// Adds it to what the engine knows.
    fn add_to(&self, state: &mut State, id: u32, usage: Usage) {
        match self {
            Self::Disk(file) => state.add_segment(id, file.clone(), usage),
            Self::Bucket(file, _) => state.add_cold_segment(id, file.clone(), usage),
        }
    }
}

type Files = BTreeMap<u32, Home>;

fn homes(opened: BTreeMap<u32, Opened>, cold: Option<&Arc<Cold>>) -> Result<Files> {
    let mut files = Files::new();
    let last = opened.last_key_value().map(|(id, _)| *id);
    for (id, opened) in opened {
        let home = match (opened, cold) {
            (Opened::Here(_, file), _) => Home::Disk(file),
            (Opened::Cold(stub), Some(cold)) if Some(id) != last => {
                Home::Bucket(cold.file(id, stub.bytes), stub.bytes)
            }
            (Opened::Cold(_), _) => {
                // The segment that is written never leaves.
                let text = format!("the segment behind {} is missing", segment_name(id));
                return Err(Error::new(Kind::Corrupt, format!("{text}; restore the store")));
            }
        };
        files.insert(id, home);
    }
    Ok(files)
}

/// Opens a segment and reads its header. A segment has its name only once that is durable, so one
/// without is damaged.
pub(super) fn open_segment(disk: &dyn Disk, id: u32) -> Result<(SegmentHeader, Arc<dyn DiskFile>)> {
    let cannot = |error| Error::io(format!("cannot read {}", segment_name(id)), error);
    let file = disk.open(&segment_name(id)).map_err(cannot)?;
    let start = Place { segment: id, offset: 0 };
    if file.len().map_err(cannot)? < RECORDS_AT {
        return Err(damaged(start, "it has no header"));
    }
    Ok((segment_header(&*file, id)?, file))
}

/// The header of a segment that is long enough for one.
pub(super) fn segment_header(file: &dyn ReadAt, id: u32) -> Result<SegmentHeader> {
    let cannot = |error| Error::io(format!("cannot read {}", segment_name(id)), error);
    let start = Place { segment: id, offset: 0 };
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    file.read_exact_at(&mut bytes, 0).map_err(cannot)?;
    let header = SegmentHeader::decode(&bytes).map_err(|flaw| damaged(start, &flaw.0))?;
    match header.id == id {
        true => Ok(header),
        false => Err(damaged(start, &format!("it says that it is segment {}", header.id))),
    }
}

fn random() -> u128 {
    let hash = |n: u8| u128::from(RandomState::new().hash_one(n));
    hash(0) << 64 | hash(1)
}

fn first_segment(disk: &dyn Disk, options: &Options, state: &mut State) -> Result<Log> {
    let id = state.applied.segment + 1;
    let made = Log::create(disk, state.store, id, &state.slots, options);
    let log = made.map_err(|error| Error::io("cannot make a segment", error))?;
    let usage = Usage { bytes: log.len, own: log.len, ..Usage::default() };
    state.add_segment(id, log.file.clone(), usage);
    state.applied = Place { segment: id, offset: log.len };
    Ok(log)
}

struct Replay<'a> {
    index: &'a Index,
    options: &'a Options,
    log: Option<Log>,
}

impl Replay<'_> {
    fn start(
        &self,
        state: &mut State,
        checkpoint: Option<Checkpoint>,
        files: &Files,
    ) -> Result<()> {
        let Some(checkpoint) = checkpoint else { return Ok(()) };
        state.objects = checkpoint.objects;
        (state.applied, state.covered) = (checkpoint.applied, checkpoint.applied);
        merge_slots(&checkpoint.slots, &mut state.slots)
            .map_err(|flaw| Error::new(Kind::Corrupt, format!("{INDEX}: {}", flaw.0)))?;
        for (id, usage) in checkpoint.segments {
            let home = &files[&id];
            let len = home.bytes().map_err(|e| Error::io(segment_name(id), e))?;
            if len < usage.bytes {
                let text = format!("it has {len} bytes, and had {}", usage.bytes);
                return Err(damaged(Place { segment: id, offset: len }, &text));
            }
            home.add_to(state, id, usage);
        }
        Ok(())
    }

    fn run(&mut self, state: &mut State, files: &Files) -> Result<()> {
        let last = files.last_key_value().map(|(id, _)| *id);
        let covered = state.applied;
        for (id, home) in files.range(covered.segment..) {
            let is_last = Some(*id) == last;
            if let (true, Home::Disk(file), true) = (is_last, home, self.options.durable) {
                // What a killed process wrote and did not sync is read here: before anybody sees
                // it, it has to be durable.
                file.sync_data().map_err(|error| Error::io("cannot sync the log", error))?;
            }
            let from = match *id == covered.segment {
                true => covered.offset,
                false => {
                    let usage = Usage { bytes: RECORDS_AT, own: RECORDS_AT, ..Usage::default() };
                    home.add_to(state, *id, usage);
                    RECORDS_AT
                }
            };
            let end = self.segment(state, *id, home, from, is_last)?;
            if let (true, Home::Disk(file)) = (is_last, home) {
                self.log = Some(Log::of(*id, Arc::clone(file), end, self.options));
            }
        }
        Ok(())
    }

    /// Applies a segment from `from` on. Where it ends.
    fn segment(
        &self,
        state: &mut State,
        id: u32,
        home: &Home,
        from: u64,
        is_last: bool,
    ) -> Result<u64> {
        let cannot = |error| Error::io(format!("cannot read {}", segment_name(id)), error);
        let (file, len) = (home.file(), home.bytes().map_err(cannot)?);
        let mut walk = Walk::new(&*file, id, from, len);
        walk.believe(self.options.has(Bug::BelieveTornTail));
        // The end of the last whole write, and what came since.
        let (mut whole, mut write) = (from, Vec::new());
        let flaw = loop {
            match walk.next() {
                Ok(Some(step)) => {
                    let is_end = !step.head.more;
                    write.push(step);
                    if is_end {
                        self.apply(state, id, std::mem::take(&mut write))?;
                        whole = walk.offset();
                        state.advance(Place { segment: id, offset: whole });
                    }
                }
                Ok(None) if write.is_empty() => return Ok(whole),
                Ok(None) => break Stop::Damaged { offset: whole, flaw: unfinished() },
                Err(Stop::Damaged { offset, flaw }) => break Stop::Damaged { offset, flaw },
                Err(stop @ Stop::Io(_)) => return Err(stop_error(id, stop)),
            }
        };
        let Home::Disk(file) = home else { return Err(stop_error(id, flaw)) };
        if !is_last || walk.was_synced(walk.offset()).map_err(cannot)? {
            return Err(stop_error(id, flaw));
        }
        if !walk.is_ready(whole).map_err(cannot)? {
            tracing::info!(segment = id, from = whole, to = len, "a torn tail is cut off");
        }
        file.set_len(whole).map_err(|error| Error::io("cannot cut a torn tail", error))?;
        if self.options.durable {
            file.sync_data().map_err(|error| Error::io("cannot sync the log", error))?;
        }
        Ok(whole)
    }

    fn apply(&self, state: &mut State, id: u32, write: Vec<Step>) -> Result<()> {
        for step in write {
            let place = Place { segment: id, offset: step.offset };
            match step.head.kind {
                RecordKind::Closed => {}
                RecordKind::Slots => {
                    merge_slots(&step.value, &mut state.slots)
                        .map_err(|flaw| damaged(place, &flaw.0))?;
                    let end = step.offset + step.head.record_bytes();
                    if let Some(segment) = state.segments.get_mut(&id) {
                        segment.usage.own = end;
                    }
                }
                RecordKind::Value
                | RecordKind::Queue
                | RecordKind::Item
                | RecordKind::Delete
                | RecordKind::DeleteItem => {
                    let row = Row::of(state.store, step.head.kind, &step.key, step.head.item);
                    let old = match state.changed(&row) {
                        Some(entry) => entry,
                        None => self.index.get(&row)?,
                    };
                    state.apply(row, &step.key, &step.head, place, old);
                }
            }
        }
        if state.active.len() >= ROWS_IN_MEMORY * self.options.checkpoint_rows {
            self.checkpoint(state)?;
        }
        Ok(())
    }

    /// Between two writes of a long replay.
    fn checkpoint(&self, state: &mut State) -> Result<()> {
        let changes = std::mem::take(&mut state.active);
        self.index.save(&changes, &state.checkpoint())?;
        state.covered = state.applied;
        state.bytes_since_checkpoint = 0;
        Ok(())
    }
}

fn unfinished() -> crate::segments::record::Flaw {
    crate::segments::record::Flaw("a write without its last record".to_owned())
}
