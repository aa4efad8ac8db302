//! From records to figures, in one pass.
//!
//! Owns [`Analysis`] and its [`Options`]: which record goes where, and when slots close.
//! Knows nothing of files, of tables and of plots.
//! Invariant: memory goes with machines times open slots, tasks that run, and the few numbers of
//! [`Values`](values::Values) for each closed slot; never with the number of records.
//!
//! The hot path, a [`Use`] that lies in one slot: one lookup of its machine, one of its task where
//! the trace has tasks, one sum of the machine in the slot, one line for the middle of the slot.
//! It allocates nothing but room in lists that closed slots hand on.

mod achievable;
mod fleet;
mod moments;
mod over_time;
mod peaks;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
mod totals;
mod values;
mod write;

use std::fmt;

use crate::record::{Amount, Gauge, Machine, MachineId, Micros, Record, Task, Use};
use crate::report::{Late, Report};
use crate::slots::{ClassSums, Sample, Slot, Slots};
pub(crate) use fleet::{Event, NO_MACHINE};
use fleet::{Fleet, TaskEvent};
use moments::Moments;
use totals::Totals;

/// Times further from the zero of the trace than this, some 36,000 years, are not believed.
const TIME_MAX: Micros = 1 << 60;
/// Samples that claim to be longer than this, 694 days of slots of 300 s, are not believed.
const SAMPLE_SLOTS_MAX: i64 = 200_000;

/// What is asked of a trace.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// The length of a slot, in microseconds.
    pub slot: Micros,
    /// How many slots past its end the newest record is when a slot closes.
    pub window: u32,
    /// Shares of its memory that a machine keeps for itself, between 0 and 1. Each costs 8 bytes a
    /// closed slot.
    pub local_fractions: Vec<f64>,
    /// A machine's processors are spoken for when no more than this share of them is left.
    pub slack: f64,
    /// What is added to what tasks used when they are packed again.
    pub margin: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            slot: 300_000_000,
            window: 24,
            local_fractions: (0..=10).map(|tenths| f64::from(tenths) / 10.0).collect(),
            slack: 0.05,
            margin: 0.1,
        }
    }
}

/// Options that no analysis can have.
#[derive(Clone, Debug, PartialEq)]
pub struct OptionsError(String);

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OptionsError {}

impl Options {
    fn check(&self) -> Result<(), OptionsError> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        if self.slot <= 0 || self.slot > 86_400_000_000 {
            return Err(OptionsError(format!(
                "a slot of {} µs: expected 1 µs to one day",
                self.slot
            )));
        }
        if self.window > 100_000 {
            return Err(OptionsError(format!(
                "a window of {} slots: expected at most 100,000",
                self.window
            )));
        }
        if let Some(fraction) = self.local_fractions.iter().find(|fraction| !share(**fraction)) {
            return Err(OptionsError(format!("a local fraction of {fraction}: expected 0 to 1")));
        }
        if !share(self.slack) {
            return Err(OptionsError(format!("a slack of {}: expected 0 to 1", self.slack)));
        }
        if !self.margin.is_finite() || self.margin < 0.0 {
            return Err(OptionsError(format!("a margin of {}: expected 0 or more", self.margin)));
        }
        Ok(())
    }
}

/// How many records of each kind were counted in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) machines: u64,
    pub(crate) tasks: u64,
    pub(crate) uses: u64,
    pub(crate) gauges: u64,
    /// Uses that say nothing of the machine.
    pub(crate) uses_without_machine: u64,
    pub(crate) uses_without_memory: u64,
    pub(crate) uses_without_cpu: u64,
    /// Uses and gauges that measured this at all.
    pub(crate) measured: [u64; 2],
}

/// One pass over the records of a trace.
///
/// Records come in the order of time, more or less: what comes within the window counts as if it
/// had come in order, but for one thing: a [`Use`] is joined with the newest placement of its
/// task that was pushed before it. Records of the same moment count in the order they come.
#[derive(Clone)]
pub struct Analysis {
    options: Options,
    slots: Slots,
    fleet: Fleet,
    totals: Totals,
    moments: Moments,
    counts: Counts,
    late: Late,
    newest: Option<Micros>,
    /// The time from which on the newest record closes a slot.
    closes_at: Micros,
    sample_max: Micros,
}

impl Analysis {
    /// An analysis that has seen nothing yet.
    ///
    /// # Errors
    /// When an option is out of its range.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        options.check()?;
        Ok(Self {
            slots: Slots::new(options.slot, options.window),
            fleet: Fleet::default(),
            totals: Totals::new(&options.local_fractions, options.slack),
            moments: Moments::new(options.margin),
            counts: Counts::default(),
            late: Late::default(),
            newest: None,
            closes_at: Micros::MIN,
            sample_max: options.slot.saturating_mul(SAMPLE_SLOTS_MAX),
            options,
        })
    }

    /// Takes a record in; closes slots that are past the window.
    pub fn push(&mut self, record: &Record) {
        let time = record.time();
        let believed = match record {
            Record::Use(used) => {
                used.end.unsigned_abs() <= TIME_MAX.unsigned_abs()
                    && time.unsigned_abs() <= TIME_MAX.unsigned_abs()
                    && used.end - used.start <= self.sample_max
            }
            Record::Machine(_) | Record::Task(_) | Record::Gauge(_) => {
                time.unsigned_abs() <= TIME_MAX.unsigned_abs()
            }
        };
        if !believed {
            self.late.not_believed += 1;
            return;
        }
        if time >= self.closes_at {
            self.close_before(time);
        }
        self.newest = self.newest.max(Some(time));
        match record {
            Record::Use(used) => self.push_use(used),
            Record::Gauge(gauge) => self.push_gauge(gauge),
            Record::Task(task) => self.push_task(task),
            Record::Machine(machine) => self.push_machine(machine),
        }
    }

    /// The figures of everything that was pushed.
    #[must_use]
    pub fn finish(mut self) -> Report {
        while !self.slots.is_idle() {
            self.close_first();
        }
        write::report(
            &self.options,
            &self.totals,
            &self.moments,
            &self.fleet,
            (self.counts, self.late),
        )
    }

    /// What came after its slot had closed.
    #[must_use]
    pub fn late(&self) -> &Late {
        &self.late
    }

    fn push_use(&mut self, used: &Use) {
        self.counts.uses += 1;
        self.counts.uses_without_memory += u64::from(used.mean.memory.is_none());
        self.counts.uses_without_cpu += u64::from(used.mean.cpu.is_none());
        self.count_measured(used.mean);
        let machine = match used.machine {
            Some(machine) => self.fleet.machine(machine),
            None => {
                self.counts.uses_without_machine += 1;
                NO_MACHINE
            }
        };
        let (mut request, mut class) = (used.request, used.class);
        if let Some(known) = used.task.and_then(|task| self.fleet.known(task)) {
            request = known.request.or(request);
            class = class.or(known.class);
        }
        let sample = Sample {
            machine,
            is_task: used.task.is_some(),
            used: used.mean,
            memory_max: used.memory_max,
            asked_by_use: used.request,
            asked: request,
            class: ClassSums::index(class),
        };
        let lost = self.slots.add_sample(used.start, used.end, &sample);
        if lost > 0 {
            self.late.uses += 1;
            self.late.use_lost_s += seconds(lost);
        }
    }

    fn push_gauge(&mut self, gauge: &Gauge) {
        self.counts.gauges += 1;
        self.count_measured(gauge.used);
        let machine = self.fleet.machine(gauge.machine);
        if !self.slots.add_gauge(gauge.at, machine, gauge.used) {
            self.late.gauges += 1;
        }
    }

    fn push_task(&mut self, task: &Task) {
        self.counts.tasks += 1;
        let machine = |fleet: &mut Fleet, id: Option<MachineId>| match id {
            Some(id) => fleet.machine(id),
            None => NO_MACHINE,
        };
        let event = match &task.runs {
            Some(runs) => {
                let machine = machine(&mut self.fleet, runs.machine);
                TaskEvent::starts(task.task, machine, runs.request)
            }
            None => TaskEvent::ends(task.task),
        };
        self.fleet.expect(task);
        let lost = self.slots.add_event(task.at, event.into());
        if lost > 0 {
            self.late.tasks += 1;
            self.late.task_lost_s += seconds(lost);
        }
    }

    fn push_machine(&mut self, machine: &Machine) {
        self.counts.machines += 1;
        let index = self.fleet.machine(machine.machine);
        let event = fleet::MachineEvent {
            machine: index,
            until: machine.until.unwrap_or(Micros::MAX),
            capacity: machine.capacity.map(fleet::Capacity::from),
        };
        let lost = self.slots.add_event(machine.at, event.into());
        if lost > 0 {
            self.late.machines += 1;
            self.late.machine_lost_s += seconds(lost);
        }
    }

    fn count_measured(&mut self, amount: Amount) {
        self.counts.measured[0] += u64::from(amount.cpu.is_some());
        self.counts.measured[1] += u64::from(amount.memory.is_some());
    }

    /// Closes what a record of this time puts past the window.
    fn close_before(&mut self, time: Micros) {
        let newest = time.div_euclid(self.options.slot);
        let first = newest - i64::from(self.options.window);
        self.closes_at = (newest + 1) * self.options.slot;
        if self.newest.is_none() {
            self.slots.jump(first);
        }
        while self.slots.first() < first {
            if self.slots.is_idle() {
                self.slots.jump(first);
                return;
            }
            self.close_first();
        }
    }

    fn close_first(&mut self) {
        let mut slot = self.slots.take_first();
        self.close(&mut slot);
        self.slots.hand_on(slot);
    }

    fn close(&mut self, slot: &mut Slot) {
        let span = slot.span();
        self.fleet.open(span);
        // Stable: records of the same moment count in the order they came.
        slot.events.sort_by_key(|(at, _)| *at);
        for (at, event) in slot.events.drain(..) {
            self.fleet.apply(at, event);
        }
        if span.measured() == 0 {
            return;
        }
        let sums = self.totals.close(slot, &mut self.fleet);
        self.moments.offer(slot, &self.fleet, sums);
        self.fleet.clear();
    }
}

/// A length of time as people and JSON have it.
#[expect(clippy::cast_precision_loss, reason = "a fraction of a microsecond in a year is no loss")]
pub(crate) fn seconds(micros: Micros) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
impl Analysis {
    /// The moments, every slot closed.
    fn closed(mut self) -> Moments {
        while !self.slots.is_idle() {
            self.close_first();
        }
        self.moments
    }
}
