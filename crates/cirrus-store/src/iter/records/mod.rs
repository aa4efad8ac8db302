//! The records of a set, one after the other, fetched ahead of the reader.
//!
//! Owns the window between the next position to hand out and the last one planned. Knows the set's
//! layout and an order; whether a cache or a client answers is not its business.
//! Invariant: records come in the order's positions, each once, whatever the gets' order.
//!
//! A record costs a get only where its object is not in the window yet; its bytes are those that
//! arrived, not copied. A get is one task, so that gets move on while the reader is busy.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinError, JoinSet};

use super::order::Order;
use crate::ByteSize;
use crate::cache::Source;
use crate::error::{Error, Kind, Result};
use crate::object::Object;
use crate::set::{Location, Manifest, Packed, Set, SetName, unpack};

#[cfg(test)]
mod tests;

/// Positions that are planned ahead of the reader at most, however small the records are.
const WINDOW_POSITIONS_MAX: usize = 65_536;

/// Reads a set's manifest.
pub async fn open_set<S: Source>(source: &S, name: SetName) -> Result<Set> {
    let object = source.get(&name.manifest_key()).await.map_err(|error| {
        wrapped(error, |cause| format!("the manifest of set `{name}` cannot be read ({cause:?})"))
    })?;
    Ok(Set::new(name, Manifest::from_bytes(&object.value)?))
}

/// How far [`Records`] reads ahead; start from the default.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RecordsOptions {
    /// Gets in flight at most, at least 1. Default: 64.
    pub gets_max: usize,
    /// Bytes of objects that are fetched or being fetched, and not handed out, at most; one object
    /// is fetched even if it is larger. What is being fetched counts as the largest object so far,
    /// so a larger one may exceed this once by the difference. Default: 64 MiB.
    pub ahead_size: ByteSize,
    /// The size of an object before the first one came; until then one get is in flight if this is
    /// 0. Default: 0.
    pub object_size_expected: ByteSize,
}

impl Default for RecordsOptions {
    fn default() -> Self {
        Self { gets_max: 64, ahead_size: ByteSize::mib(64), object_size_expected: ByteSize::new(0) }
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The position in the order.
    pub position: u64,
    /// The record's index in the set.
    pub index: u64,
    /// The record itself. Of a packed object it is a part, and keeps all of the object alive.
    pub bytes: Bytes,
}

/// Reads records in an order, ahead of its reader.
///
/// Dropping it stops its gets. To go on later, keep [`Records::state`] and start from there.
#[derive(Debug)]
pub struct Records<S> {
    source: Arc<S>,
    set: Set,
    order: Arc<dyn Order>,
    options: RecordsOptions,
    /// Positions to hand out, the next one first; the object of each is in `objects`.
    window: VecDeque<Planned>,
    /// The first position that is not planned.
    frontier: u64,
    end: u64,
    objects: HashMap<u64, Wanted, foldhash::fast::RandomState>,
    gets: JoinSet<(u64, Result<Object>)>,
    held_bytes: u64,
    /// What a get that is in flight will bring at most, as far as is known.
    object_bytes_max: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Planned {
    position: u64,
    record: u64,
    location: Location,
}

/// An object of the window.
#[derive(Debug)]
struct Wanted {
    /// Positions of the window that need it.
    users: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// To be fetched when its turn comes: it failed before.
    Absent,
    Fetching,
    Here {
        content: Content,
        bytes: u64,
    },
    Failed(Error),
}

#[derive(Debug)]
enum Content {
    One(Bytes),
    Many(Packed),
}

impl<S: Source> Records<S> {
    /// The records of `set` at `positions` of `order`, cut off where the order ends.
    ///
    /// Nothing is fetched before the first [`Records::next`].
    pub fn new(
        source: Arc<S>,
        set: Set,
        order: Arc<dyn Order>,
        positions: Range<u64>,
        options: RecordsOptions,
    ) -> Self {
        let expected = options.object_size_expected.bytes();
        Self {
            end: positions.end.min(order.len()),
            source,
            set,
            order,
            options,
            window: VecDeque::new(),
            frontier: positions.start,
            objects: HashMap::default(),
            gets: JoinSet::new(),
            held_bytes: 0,
            object_bytes_max: (expected > 0).then_some(expected),
        }
    }

    /// The next record, or `None` after the last. Needs a tokio runtime.
    ///
    /// An error names the record and its object, and the position stays: the next call tries
    /// again. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Record>> {
        loop {
            while let Some(landed) = self.gets.try_join_next() {
                self.land(landed);
            }
            if let Err(error) = self.look_ahead() {
                return Some(Err(error));
            }
            let planned = *self.window.front()?;
            if let Some(answer) = self.take(planned) {
                return Some(answer);
            }
            match self.gets.join_next().await {
                Some(landed) => self.land(landed),
                // Its get was dropped without an answer.
                None => return Some(Err(self.failure(planned, Stage::Absent))),
            }
        }
    }

    /// The position of the next record: where to start to go on from here.
    pub fn state(&self) -> u64 {
        self.window.front().map_or(self.frontier, |planned| planned.position)
    }

    /// Hands out the record that was planned first, if its object is here.
    fn take(&mut self, planned: Planned) -> Option<Result<Record>> {
        let Planned { position, record, location } = planned;
        let wanted = self.objects.get_mut(&location.object)?;
        let bytes = match &wanted.stage {
            Stage::Fetching => return None,
            Stage::Absent => {
                wanted.stage = Stage::Fetching;
                self.fetch(location.object);
                return None;
            }
            Stage::Here { content, .. } => content.record(location.slot),
            Stage::Failed(_) => None,
        };
        let Some(bytes) = bytes else {
            let stage = std::mem::replace(&mut wanted.stage, Stage::Absent);
            return Some(Err(self.failure(planned, stage)));
        };
        wanted.users -= 1;
        if wanted.users == 0 {
            self.let_go(location.object);
        }
        self.window.pop_front();
        // What this made room for is on its way while the reader is busy; an error waits for it.
        drop(self.look_ahead());
        Some(Ok(Record { position, index: record, bytes }))
    }

    /// Plans and fetches as far as the budget goes.
    fn look_ahead(&mut self) -> Result<()> {
        while self.frontier < self.end && self.window.len() < WINDOW_POSITIONS_MAX {
            let position = self.frontier;
            let planned = match self.plan(position) {
                Ok(planned) => planned,
                // What comes before a wrong position is handed out first.
                Err(_) if !self.window.is_empty() => return Ok(()),
                Err(error) => return Err(error),
            };
            let object = planned.location.object;
            if let Some(wanted) = self.objects.get_mut(&object) {
                wanted.users += 1;
            } else if self.has_room() {
                self.objects.insert(object, Wanted { users: 1, stage: Stage::Fetching });
                self.fetch(object);
            } else {
                break;
            }
            self.window.push_back(planned);
            self.frontier += 1;
        }
        Ok(())
    }

    fn plan(&self, position: u64) -> Result<Planned> {
        let record = self.order.record(position);
        let location = record.and_then(|record| self.set.manifest().locate(record));
        match (record, location) {
            (Some(record), Some(location)) => Ok(Planned { position, record, location }),
            (record, _) => Err(Error::new(
                Kind::Invalid,
                format!(
                    "the order has record {record:?} at position {position}; set `{}` has {} records",
                    self.set.name(),
                    self.set.manifest().count()
                ),
            )),
        }
    }

    /// Whether one more object may be fetched. The first one always may.
    fn has_room(&self) -> bool {
        if self.objects.is_empty() {
            return true;
        }
        let Some(expected) = self.object_bytes_max else { return false };
        let in_flight = self.gets.len();
        let reserved = expected.saturating_mul(in_flight as u64 + 1);
        in_flight < self.options.gets_max
            && self.held_bytes.saturating_add(reserved) <= self.options.ahead_size.bytes()
    }

    fn fetch(&mut self, object: u64) {
        let source = Arc::clone(&self.source);
        let key = self.set.name().object_key(object);
        self.gets.spawn(async move { (object, source.get(&key).await) });
    }

    fn land(&mut self, landed: std::result::Result<(u64, Result<Object>), JoinError>) {
        let (object, answer) = match landed {
            Ok(landed) => landed,
            // A get that panicked does so in its caller; else the runtime is shutting down.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return,
            },
        };
        let Some(wanted) = self.objects.get_mut(&object) else { return };
        wanted.stage =
            match answer.and_then(|object| Content::new(object.value, self.set.manifest())) {
                Ok((content, bytes)) => {
                    self.held_bytes += bytes;
                    self.object_bytes_max = self.object_bytes_max.max(Some(bytes));
                    Stage::Here { content, bytes }
                }
                Err(error) => Stage::Failed(error),
            };
    }

    fn let_go(&mut self, object: u64) {
        if let Some(Wanted { stage: Stage::Here { bytes, .. }, .. }) = self.objects.remove(&object)
        {
            self.held_bytes -= bytes;
        }
    }

    /// Why the record of `planned` cannot be had from an object that got as far as `stage`.
    fn failure(&mut self, planned: Planned, stage: Stage) -> Error {
        let Planned { position, record, location } = planned;
        let key = self.set.name().object_key(location.object);
        let at =
            format!("record {record} at position {position} (slot {} of {key:?})", location.slot);
        match stage {
            Stage::Failed(error) => wrapped(error, |_| format!("{at} cannot be read")),
            Stage::Here { bytes, .. } => {
                self.held_bytes -= bytes;
                Error::new(Kind::Corrupt, format!("{at} is not in its object of {bytes} bytes"))
            }
            Stage::Absent | Stage::Fetching => {
                Error::new(Kind::Closed, format!("{at} was being read when the runtime ended"))
            }
        }
    }
}

impl Content {
    /// The records in an object's value, and how many bytes they take.
    fn new(value: Bytes, manifest: &Manifest) -> Result<(Self, u64)> {
        let bytes = value.len() as u64;
        let content = match manifest.packing() {
            1 => Self::One(value),
            _ => Self::Many(unpack(value)?),
        };
        Ok((content, bytes))
    }

    fn record(&self, slot: u32) -> Option<Bytes> {
        match self {
            Self::One(value) => (slot == 0).then(|| value.clone()),
            Self::Many(packed) => packed.record(slot as usize),
        }
    }
}

/// `error` with what was wanted, under the same kind.
fn wrapped(error: Error, context: impl FnOnce(Kind) -> String) -> Error {
    Error::new(error.kind(), context(error.kind())).with_detail(error.detail()).with_source(error)
}
