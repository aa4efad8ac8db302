//! The records of a set, one after the other, fetched ahead of the reader.
//!
//! Owns when something is fetched and when a record is handed out. Knows the set's layout and an
//! order; whether a cache or a client answers is not its business.
//! Invariant: records come in the order's positions, each once, whatever the gets' order.
//!
//! A record costs a get only where its object is not in the window yet; its bytes are those that
//! arrived, not copied. Small objects are fetched in groups by one `get_many`, large ones by a get
//! each; each of these is a task, so that they move on while the reader is busy. A record whose
//! object is here costs a step of two vectors and a count of references: what has arrived is looked
//! at, and what comes next is sent for, once for as many bytes as a group has.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::announced::Announced;
use super::order::Order;
use super::share::{Share, State};
use crate::ByteSize;
use crate::cache::Source;
use crate::cache::pace::Pace;
use crate::error::{Error, Kind, Result};
use crate::object::Object;
use crate::set::{Manifest, Set, SetName};

#[cfg(test)]
mod far;
mod plan;
#[cfg(test)]
mod tests;
mod window;

use plan::Plan;
use window::{First, Place, Planned, Stage, Window};

/// Positions that are planned ahead of the reader at most, unless the order's span is larger.
const WINDOW_POSITIONS_MAX: u64 = 65_536;

/// Bytes that a group of gets should bring: as many as a batch of the client carries.
const GROUP_BYTES: u64 = 1 << 20;

/// Gets of a group at most.
const GROUP_GETS_MAX: u64 = 512;

/// Objects from this size on are fetched one by one: a round trip is little beside them.
const SINGLE_BYTES_MIN: u64 = 64 << 10;

/// Parts that what is on its way comes in, at least: while one is read, the others move.
const GROUPS_MIN: u64 = 4;

/// Reads a set's manifest.
pub async fn open_set<S: Source>(source: &S, name: SetName) -> Result<Set> {
    let object = source.get(&name.manifest_key()).await.map_err(|error| {
        wrapped(error, |cause| format!("the manifest of set `{name}` cannot be read ({cause:?})"))
    })?;
    Ok(Set::new(name, Manifest::from_bytes(&object.value)?))
}

/// How far [`Records`] reads ahead at most; start from the default. How far it does within that
/// follows from the latency that is measured and from how fast the reader is.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RecordsOptions {
    /// Objects on their way at most, at least 1. Default: 4096.
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
        Self {
            gets_max: 4096,
            ahead_size: ByteSize::mib(64),
            object_size_expected: ByteSize::new(0),
        }
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
/// Dropping it stops its gets. To go on later, keep [`Records::state`] and [`Records::resume`].
#[derive(Debug)]
pub struct Records<S> {
    source: Arc<S>,
    set: Set,
    options: RecordsOptions,
    plan: Plan,
    window: Window,
    gets: JoinSet<Landed>,
    pace: Pace,
    /// Bytes of objects that the reader is done with, since they were last looked at.
    done_bytes: u64,
    /// How long the reader has waited, since it was last looked at.
    waited: Duration,
    /// Bytes of a group: that much room is worth sending something.
    group_bytes: u64,
    /// Something was sent for, and has not had a chance to leave.
    has_sent: bool,
    /// Where it is said how far the reader is.
    announced: Option<Arc<Announced>>,
}

/// What a task brings.
#[derive(Debug)]
struct Landed {
    places: Vec<Place>,
    answers: Vec<Result<Object>>,
    took: Duration,
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
        Self::of_plan(source, set, Plan::new(order, Share::WHOLE, positions), options)
    }

    /// The part of all records in `order` that falls to one of several readers.
    pub fn of_share(
        source: Arc<S>,
        set: Set,
        order: Arc<dyn Order>,
        share: Share,
        options: RecordsOptions,
    ) -> Self {
        Self::of_plan(source, set, Plan::new(order, share, 0..u64::MAX), options)
    }

    /// As [`Records::of_share`], from where the reader was, or one of another number of readers, to
    /// the end of the order. [`Kind::Invalid`] for a state of another order, or one in the midst of
    /// a batch of other readers.
    pub fn resume(
        source: Arc<S>,
        set: Set,
        order: Arc<dyn Order>,
        share: Share,
        state: &State,
        options: RecordsOptions,
    ) -> Result<Self> {
        let steps = state.steps(&*order, share)?;
        Ok(Self::of_plan(source, set, Plan::new(order, share, steps..u64::MAX), options))
    }

    fn of_plan(source: Arc<S>, set: Set, plan: Plan, options: RecordsOptions) -> Self {
        let expected = options.object_size_expected.bytes();
        let object_bytes_max = (expected > 0).then_some(expected);
        Self {
            source,
            set,
            options,
            plan,
            window: Window::new(object_bytes_max),
            gets: JoinSet::new(),
            pace: Pace::new(options.ahead_size.bytes()),
            done_bytes: 0,
            waited: Duration::ZERO,
            group_bytes: 0,
            has_sent: false,
            announced: None,
        }
    }

    /// The same, saying in `announced`, which is of the same set, order and share, how far it is.
    #[must_use]
    pub fn announced(self, announced: Arc<Announced>) -> Self {
        Self { announced: Some(announced), ..self }
    }

    /// The next record, or `None` after the last. Needs a tokio runtime.
    ///
    /// An error names the record and its object, and the position stays: the next call tries
    /// again. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Record>> {
        loop {
            if let Some(answer) = self.try_next() {
                if std::mem::take(&mut self.has_sent) {
                    // A reader that never waits would keep it from leaving.
                    tokio::task::yield_now().await;
                }
                return Some(answer);
            }
            let first = self.window.first().copied();
            if first.is_none() && self.gets.is_empty() {
                return None;
            }
            let began = Instant::now();
            let landed = self.gets.join_next().await;
            self.waited += began.elapsed();
            match (landed, first) {
                (Some(landed), _) => self.land(landed),
                // Its get was dropped without an answer.
                (None, Some(first)) => return Some(Err(self.failure(first, Stage::Absent))),
                (None, None) => {}
            }
        }
    }

    /// The next record if it is here already; `None` when it is not, or after the last. What comes
    /// next is sent for all the same, so this needs a tokio runtime too.
    pub fn try_next(&mut self) -> Option<Result<Record>> {
        let is_due = self.done_bytes >= self.group_bytes || !self.window.is_ready();
        if is_due && let Err(error) = self.turn() {
            return Some(Err(error));
        }
        let held_bytes = self.window.held_bytes;
        match self.window.take()? {
            First::Record(Planned { position, record, .. }, bytes) => {
                self.done_bytes += held_bytes - self.window.held_bytes;
                Some(Ok(Record { position, index: record, bytes }))
            }
            First::Coming => None,
            First::Needed(place) => {
                self.send(vec![place]);
                None
            }
            First::Missing(planned, stage) => Some(Err(self.failure(planned, stage))),
        }
    }

    /// Leaves out the next `records` records. Those that are planned already are forgotten.
    pub fn skip(&mut self, records: u64) {
        let planned = records.min(self.window.len() as u64);
        for _ in 0..planned {
            self.window.drop_first();
        }
        self.group_bytes = 0;
        if records > planned {
            self.plan.skip(records - planned);
            // Nothing of what is on its way is needed.
            self.gets = JoinSet::new();
            self.window = Window::new(self.window.object_bytes_max);
        }
    }

    /// The position of the next record in the order; the order's length after the last.
    pub fn position(&self) -> u64 {
        self.plan.position_of(self.steps())
    }

    /// Where the reader is, to go on from there.
    pub fn state(&self) -> State {
        State::new(&*self.plan.order, self.plan.share, self.steps())
    }

    /// Records handed out, and left out, since the beginning of the order.
    fn steps(&self) -> u64 {
        self.plan.steps() - self.window.len() as u64
    }

    /// Takes what has arrived, and sends for what comes next.
    fn turn(&mut self) -> Result<()> {
        while let Some(landed) = self.gets.try_join_next() {
            self.land(landed);
        }
        let (bytes, waited) = (self.done_bytes, std::mem::take(&mut self.waited));
        self.done_bytes = 0;
        self.pace.read(bytes, waited, Instant::now());
        if let Some(announced) = &self.announced {
            announced.pass(self.steps());
        }
        self.look_ahead()
    }

    /// Plans and fetches as far as the pace wants and the budget goes. It stops at objects that are
    /// not here only, so that one that is here is kept for all who need it soon.
    fn look_ahead(&mut self) -> Result<()> {
        let group_len = self.group_len();
        let span = self.plan.order.span();
        let positions_max = WINDOW_POSITIONS_MAX.max(span.saturating_mul(2));
        let mut group = Vec::new();
        let mut outcome = Ok(());
        while (self.window.len() as u64) < positions_max
            && let Some((position, record)) = self.plan.peek()
        {
            let location = record.and_then(|record| self.set.manifest().locate(record));
            let (Some(record), Some(location)) = (record, location) else {
                // What comes before a wrong position is handed out first.
                if self.window.len() == 0 {
                    outcome = Err(self.no_such_record(position, record));
                }
                break;
            };
            let place = match self.window.find(location.object) {
                Some(place) => place,
                None if self.has_room(position, span, group_len - group.len() as u64) => {
                    let place = self.window.add(location.object);
                    group.push(place);
                    if group.len() as u64 >= group_len {
                        self.send(std::mem::take(&mut group));
                    }
                    place
                }
                None => break,
            };
            self.window.plan(Planned { position, record, place, slot: location.slot });
            self.plan.advance();
        }
        if !group.is_empty() {
            self.send(group);
        }
        outcome
    }

    /// Whether `gets` more objects may be fetched, the first for `position`: the rest of a group, or
    /// a single one while nothing is on its way. The first one always may.
    fn has_room(&self, position: u64, span: u64, gets: u64) -> bool {
        if self.window.is_bare() {
            return true;
        }
        let Some(expected) = self.window.object_bytes_max else { return false };
        let fetching = self.window.fetching as u64;
        let gets = fetching + if fetching == 0 { 1 } else { gets };
        let first = self.window.first().map_or(position, |first| first.position);
        let wanted = match position.saturating_sub(first) < span {
            true => self.options.ahead_size.bytes(),
            false => self.pace.wanted(),
        };
        gets <= self.options.gets_max as u64
            && self.window.held_bytes.saturating_add(expected.saturating_mul(gets)) <= wanted
    }

    /// How many objects are sent for together.
    fn group_len(&mut self) -> u64 {
        let expected = self.window.object_bytes_max.unwrap_or(u64::MAX).max(1);
        let bytes = GROUP_BYTES.min(self.pace.wanted() / GROUPS_MIN);
        let gets_max = GROUP_GETS_MAX.min(self.options.gets_max as u64 / GROUPS_MIN).max(1);
        let len =
            if expected < SINGLE_BYTES_MIN { (bytes / expected).clamp(1, gets_max) } else { 1 };
        self.group_bytes = if expected == u64::MAX { 0 } else { len.saturating_mul(expected) };
        len
    }

    fn send(&mut self, places: Vec<Place>) {
        let source = Arc::clone(&self.source);
        let key = |place: &Place| self.set.name().object_key(self.window.number(*place));
        let keys: Vec<_> = places.iter().map(key).collect();
        let sent_at = Instant::now();
        self.has_sent = true;
        self.gets.spawn(async move {
            let answers = match &keys[..] {
                [key] => vec![source.get(key).await],
                keys => source.get_many(keys).await,
            };
            Landed { places, answers, took: sent_at.elapsed() }
        });
    }

    fn land(&mut self, landed: std::result::Result<Landed, JoinError>) {
        let Landed { places, answers, took } = match landed {
            Ok(landed) => landed,
            // A get that panicked does so in its caller; else the runtime is shutting down.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return,
            },
        };
        let (mut answers, mut bytes_max) = (answers.into_iter(), None);
        for place in places {
            let missing = || Error::new(Kind::Protocol, "a batch without an answer for each key");
            let answer = answers.next().unwrap_or_else(|| Err(missing()));
            bytes_max = bytes_max.max(self.window.land(place, answer, self.set.manifest()));
        }
        if let Some(bytes) = bytes_max {
            self.pace.landed(took, bytes);
        }
    }

    fn no_such_record(&self, position: u64, record: Option<u64>) -> Error {
        let (name, count) = (self.set.name(), self.set.manifest().count());
        Error::new(
            Kind::Invalid,
            format!(
                "the order has record {record:?} at position {position}; set `{name}` has {count} \
                 records"
            ),
        )
    }

    /// Why the record of `planned` cannot be had from an object that got as far as `stage`.
    fn failure(&self, planned: Planned, stage: Stage) -> Error {
        let Planned { position, record, place, slot } = planned;
        let key = self.set.name().object_key(self.window.number(place));
        let at = format!("record {record} at position {position} (slot {slot} of {key:?})");
        match stage {
            Stage::Failed(error) => wrapped(error, |_| format!("{at} cannot be read")),
            Stage::Here { bytes, .. } => {
                Error::new(Kind::Corrupt, format!("{at} is not in its object of {bytes} bytes"))
            }
            Stage::Absent | Stage::Fetching => {
                Error::new(Kind::Closed, format!("{at} was being read when the runtime ended"))
            }
        }
    }
}

/// `error` with what was wanted, under the same kind.
fn wrapped(error: Error, context: impl FnOnce(Kind) -> String) -> Error {
    Error::new(error.kind(), context(error.kind())).with_detail(error.detail()).with_source(error)
}
