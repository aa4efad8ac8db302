//! What does a step do to a table?
//!
//! Owns one table: its rows, who is how far, which minibatches of which split are applied. Knows
//! neither sockets nor names.
//! Invariant: a minibatch of a split is applied whole, once, and after those before it. A step that
//! fails has changed no value.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio::time::Instant;
use zerocopy::FromBytes as _;
use zerocopy::little_endian::U32;

use crate::error::Kind;
use crate::server::arena::Extents;
use crate::server::memory::{Memory, Reservation};
use crate::server::tables::Outcome;
use crate::server::tables::apply::{Apply, put_floats};
use crate::server::tables::clocks::Clocks;
use crate::server::tables::rows::{Frozen, Rows};
use crate::table::{OBSERVER, Stand, Step, Stepped, TableSpec};
use crate::wire::Fault;

#[derive(Debug)]
pub(in crate::server) struct Table {
    pub(super) spec: TableSpec,
    pub(super) rows: Rows,
    clocks: Clocks,
    marks: Marks,
    readers: Vec<Reader>,
    /// Places of the rows of a push, to be used again.
    places: Vec<u32>,
    applied: u64,
    repeated: u64,
}

/// Which minibatches are applied: of each split so many, from the first on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// All splits before this one are applied whole.
    pub(super) floor: u64,
    pub(super) splits: HashMap<u64, u32>,
}

/// What a read is answered with.
pub(in crate::server) type Answer = Result<(Stepped, Bytes, Reservation), Fault>;

/// Who waits until the slowest worker is near enough.
#[derive(Debug)]
struct Reader {
    worker: u64,
    read_for: u32,
    repeated: bool,
    wanted: Wanted,
    /// What its list and its values take.
    paid: Reservation,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug)]
enum Wanted {
    All,
    Rows(Bytes),
}

impl Table {
    pub(super) fn new(spec: TableSpec, extents: Extents, memory: Memory) -> Self {
        let rows = Rows::new(&spec, extents, memory);
        let clocks = Clocks::new(spec.staleness, Duration::from_millis(spec.seat_ms.into()));
        Self {
            rows,
            clocks,
            spec,
            marks: Marks::default(),
            readers: Vec::new(),
            places: Vec::new(),
            applied: 0,
            repeated: 0,
        }
    }

    /// Applies gradients, and reads values or has them waited for.
    pub(super) fn step(
        &mut self,
        step: &Step,
        payload: &Bytes,
        purse: &Memory,
        bytes_max: u32,
    ) -> Result<Outcome, Fault> {
        if step.generation != self.spec.generation {
            return Err(self.other_generation());
        }
        let lists = Lists::new(step, payload, &self.spec)?;
        let values_len = u64::from(step.wanted) * u64::from(self.spec.columns) * 4;
        if values_len > u64::from(bytes_max) {
            return Err(Fault { kind: Kind::TooLarge, detail: bytes_max.into() });
        }
        // Before anything changes: who comes again finds the same.
        let paid = purse.reserve(values_len + lists.wanted.bytes()).map_err(|_| Kind::Busy)?;
        let is_observer = step.worker == OBSERVER;
        if !is_observer && !self.clocks.hear(step.worker, Instant::now()) {
            return Err(self.other_generation());
        }
        let mut repeated = false;
        // Most want what they push, and are let read: it is read while it is changed.
        let is_same = !is_observer
            && step.pushes
            && lists.pushed.is_distinct()
            && lists.wanted.is_same_as(&lists.pushed);
        let mut values = (is_same && self.clocks.may_read(step.read_for)).then(BytesMut::new);
        if !is_observer {
            if step.pushes {
                repeated = !self.apply(step, &lists, values.as_mut())?;
            }
            // Without gradients too: the worker may have begun further on at another part.
            if self.clocks.advance(step.worker, step.clock) {
                self.wake();
            }
        }
        if step.wanted == 0 {
            let slowest = self.clocks.slowest(step.clock);
            return Ok(Outcome::Answered(Stepped { slowest, repeated }, Bytes::new(), paid));
        }
        if is_observer || self.clocks.may_read(step.read_for) {
            let slowest = self.clocks.slowest(step.read_for);
            let values = match values {
                Some(values) if !repeated => values.freeze(),
                Some(_) | None => self.read(&lists.wanted)?,
            };
            return Ok(Outcome::Answered(Stepped { slowest, repeated }, values, paid));
        }
        let wanted = match lists.wanted {
            Wanted::All => Wanted::All,
            // In a buffer of its own: the one that it came in is not kept for as long as the wait.
            Wanted::Rows(rows) => Wanted::Rows(Bytes::copy_from_slice(&rows)),
        };
        let (answer, receiver) = oneshot::channel();
        let (worker, read_for) = (step.worker, step.read_for);
        self.readers.push(Reader { worker, read_for, repeated, wanted, paid, answer });
        Ok(Outcome::Waits(receiver))
    }

    pub(super) fn join(&mut self, worker: u64, clock: u32) -> Result<u32, Fault> {
        if worker == OBSERVER {
            return Err(Fault { kind: Kind::Invalid, detail: worker });
        }
        Ok(self.clocks.join(worker, clock, Instant::now()))
    }

    pub(super) fn leave(&mut self, worker: u64) {
        self.clocks.leave(worker);
        self.wake();
    }

    /// Whether the worker has a seat.
    pub(super) fn beat(&mut self, worker: u64) -> Result<(), Fault> {
        match self.clocks.hear(worker, Instant::now()) {
            true => Ok(()),
            false => Err(self.other_generation()),
        }
    }

    pub(super) fn mark(&self, split: u64) -> u32 {
        self.marks.of(split)
    }

    pub(super) fn stand(&self) -> Stand {
        let (rows, bytes) = self.rows.held();
        Stand {
            generation: self.spec.generation,
            clock: self.clocks.slowest(0),
            workers: self.clocks.workers(),
            mark: 0,
            applied: self.applied,
            repeated: self.repeated,
            rows,
            bytes,
        }
    }

    /// Takes the seats of those who are gone, and lets go of readers who are.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.readers.retain(|reader| !reader.answer.is_closed());
        let readers = &self.readers;
        let gone =
            self.clocks.sweep(now, |worker| readers.iter().any(|reader| reader.worker == worker));
        if gone > 0 {
            self.wake();
        }
    }

    /// The splits before this one will never come again.
    pub(super) fn forget_before(&mut self, split: u64) {
        self.marks.floor = self.marks.floor.max(split);
        let floor = self.marks.floor;
        self.marks.splits.retain(|split, _| *split >= floor);
    }

    /// All that has to be kept of the table, as it is now.
    pub(super) fn freeze(&mut self) -> (Marks, Frozen) {
        (self.marks.clone(), self.rows.freeze())
    }

    /// The table as it was kept: its marks; the rows are put back by [`Rows::place`].
    pub(super) fn resume(&mut self, marks: Marks) {
        self.marks = marks;
    }

    /// This table is another one from now on: who waits hears it.
    pub(super) fn close(&mut self) {
        let fault = self.other_generation();
        for reader in self.readers.drain(..) {
            // Whoever has left needs no answer.
            let _ = reader.answer.send(Err(fault));
        }
    }

    /// The worker has no seat, or another table in mind: its detail says which this is.
    fn other_generation(&self) -> Fault {
        Fault { kind: Kind::WrongVersion, detail: self.spec.generation }
    }

    /// Whether the minibatch is applied now, and was not before; if so, puts what its rows are now into `values`.
    fn apply(
        &mut self,
        step: &Step,
        lists: &Lists,
        values: Option<&mut BytesMut>,
    ) -> Result<bool, Fault> {
        let mark = self.marks.of(step.split);
        if step.minibatch < mark {
            self.repeated += 1;
            return Ok(false);
        }
        if step.minibatch > mark {
            return Err(Fault { kind: Kind::Invalid, detail: u64::from(mark) });
        }
        self.places.clear();
        match &lists.pushed {
            Wanted::All => self.rows.place_all(&mut self.places)?,
            Wanted::Rows(rows) => self.rows.place(words(rows), &mut self.places)?,
        }
        let columns = self.spec.columns as usize;
        let mut values = values;
        if let Some(values) = &mut values {
            values.reserve(self.places.len() * columns * size_of::<f32>());
        }
        self.spec.optimizer.with(Apply {
            columns,
            rate: step.rate,
            penalty: self.spec.penalty,
            half: step.half,
            is_distinct: lists.pushed.is_distinct(),
            rows: &mut self.rows,
            places: &self.places,
            gradients: &lists.gradients,
            values,
        });
        self.marks.splits.insert(step.split, mark + 1);
        self.applied += 1;
        Ok(true)
    }

    fn read(&self, wanted: &Wanted) -> Result<Bytes, Fault> {
        let columns = self.spec.columns as usize;
        let count = match wanted {
            Wanted::All => self.spec.rows as usize,
            Wanted::Rows(rows) => rows.len() / size_of::<u32>(),
        };
        let mut bytes = BytesMut::with_capacity(count * columns * size_of::<f32>());
        let take = |row: &[f32]| put_floats(row, &mut bytes);
        match wanted {
            Wanted::All => self.rows.read_all(take),
            Wanted::Rows(rows) => self.rows.read(words(rows), take)?,
        }
        Ok(bytes.freeze())
    }

    /// Answers those who may read now; they all read the same.
    fn wake(&mut self) {
        let mut at = 0;
        while at < self.readers.len() {
            if !self.clocks.may_read(self.readers[at].read_for) {
                at += 1;
                continue;
            }
            let reader = self.readers.swap_remove(at);
            let stepped = Stepped {
                slowest: self.clocks.slowest(reader.read_for),
                repeated: reader.repeated,
            };
            let answer = self.read(&reader.wanted).map(|values| (stepped, values, reader.paid));
            // It may have left.
            let _ = reader.answer.send(answer);
        }
    }
}

impl Marks {
    /// Minibatches of the split that are applied; all of them for one that will not come again.
    fn of(&self, split: u64) -> u32 {
        match split < self.floor {
            true => u32::MAX,
            false => self.splits.get(&split).copied().unwrap_or(0),
        }
    }
}

impl Wanted {
    /// Whether no row is there twice, as far as can be seen at a glance.
    fn is_distinct(&self) -> bool {
        match self {
            Self::All => true,
            Self::Rows(rows) => words(rows).is_sorted_by(|one, next| one.get() < next.get()),
        }
    }

    /// Whether these are the same rows, in the same order.
    fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (Self::Rows(these), Self::Rows(those)) => these == those,
            (Self::All, Self::Rows(_)) | (Self::Rows(_), Self::All) => false,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::All => 0,
            Self::Rows(rows) => rows.len() as u64,
        }
    }
}

/// What a step's payload holds.
struct Lists {
    pushed: Wanted,
    gradients: Bytes,
    wanted: Wanted,
}

impl Lists {
    /// Cuts the payload; lengths that do not fit are [`Kind::Protocol`].
    fn new(step: &Step, payload: &Bytes, spec: &TableSpec) -> Result<Self, Fault> {
        let wrong = || Fault { kind: Kind::Protocol, detail: payload.len() as u64 };
        let all = |is_all: bool, count: u32| is_all && count != spec.rows;
        if all(step.pushes_all, step.pushed) || all(step.wants_all, step.wanted) {
            return Err(wrong());
        }
        let named = |is_all: bool, count: u32| if is_all { 0 } else { count as usize * 4 };
        let float = if step.half { size_of::<u16>() } else { size_of::<f32>() };
        let gradients = step.pushed as usize * spec.columns as usize * float;
        let (pushed, wanted) =
            (named(step.pushes_all, step.pushed), named(step.wants_all, step.wanted));
        if payload.len() != pushed + gradients + wanted {
            return Err(wrong());
        }
        let list = |is_all: bool, from: usize, len: usize| match is_all {
            true => Wanted::All,
            false => Wanted::Rows(payload.slice(from..from + len)),
        };
        Ok(Self {
            pushed: list(step.pushes_all, 0, pushed),
            gradients: payload.slice(pushed..pushed + gradients),
            wanted: list(step.wants_all, pushed + gradients, wanted),
        })
    }
}

fn words(bytes: &Bytes) -> &[U32] {
    <[U32]>::ref_from_bytes(bytes).unwrap_or_default()
}
