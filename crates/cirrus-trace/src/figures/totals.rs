//! Sums over machines and slots.
//!
//! Owns [`Totals`]: what is added up when a slot closes. Knows nothing of records, of tables.
//! Invariant: a machine counts in a slot for the time that it was up with its memory known, and
//! for no other.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::fleet::{Fleet, Sums};
use super::over_time::{OverTime, Point};
use super::peaks::{Levels, Peaks};
use super::values::Values;
use crate::record::Micros;
use crate::slots::{ClassSums, Slot, Span, UseSum};

/// What is taken for allocated, each with its own sums: the trace says at its end which it has.
pub(crate) const ALLOCATIONS: usize = 3;
pub(crate) const BY_TASKS: usize = 0;
pub(crate) const BY_USES: usize = 1;
pub(crate) const BY_USED: usize = 2;

/// Sums for a local fraction, of memory times microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct FractionSums {
    pub(crate) recoverable: f64,
    /// Of machine time, in microseconds, as if every machine's memory were 1.
    pub(crate) published: f64,
}

/// Sums for machines of one capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct MachineClassSums {
    pub(crate) up: f64,
    pub(crate) capacity: [f64; 2],
    pub(crate) unused: [f64; 2],
}

#[derive(Clone)]
pub(crate) struct Totals {
    pub(crate) fractions: Vec<f64>,
    slack: f64,
    pub(crate) over_time: OverTime,
    /// Of each slot processors and memory used, on the mean, and for each fraction the share of
    /// memory that is kept.
    values: Values,
    /// How many slots were measured, and how long.
    pub(crate) slots: usize,
    pub(crate) measured: Micros,
    /// From the first moment that was measured to the last.
    pub(crate) span: Option<[Micros; 2]>,
    /// Of the slot that closes, the memory kept for each fraction.
    kept: Vec<f64>,
    pub(crate) up: f64,
    pub(crate) capacity: [f64; 2],
    pub(crate) used: [f64; 2],
    pub(crate) unused: [f64; 2],
    pub(crate) reserved: [[f64; 2]; 2],
    pub(crate) stranded: [[f64; 2]; ALLOCATIONS],
    pub(crate) by_fraction: Vec<FractionSums>,
    /// By the bits of the capacity.
    pub(crate) machine_classes: HashMap<[u64; 2], MachineClassSums, RandomState>,
    pub(crate) asked: ClassSums,
    /// Use on machines that were not up, or of no known memory, or of no machine.
    pub(crate) left_out: [f64; 2],
    pub(crate) peaks: Peaks,
}

/// A machine in a slot.
struct Load {
    up: f64,
    capacity: [f64; 2],
    used: [f64; 2],
    allocated: [[f64; 2]; ALLOCATIONS],
}

impl Totals {
    pub(crate) fn new(fractions: &[f64], slack: f64) -> Self {
        let mut fractions = fractions.to_vec();
        fractions.sort_by(f64::total_cmp);
        fractions.dedup();
        Self {
            by_fraction: vec![FractionSums::default(); fractions.len()],
            kept: vec![0.0; fractions.len()],
            values: Values::new(2 + fractions.len()),
            fractions,
            slack,
            over_time: OverTime::default(),
            slots: 0,
            measured: 0,
            span: None,
            up: 0.0,
            capacity: [0.0; 2],
            used: [0.0; 2],
            unused: [0.0; 2],
            reserved: [[0.0; 2]; 2],
            stranded: [[0.0; 2]; ALLOCATIONS],
            machine_classes: HashMap::default(),
            asked: ClassSums::default(),
            left_out: [0.0; 2],
            peaks: Peaks::default(),
        }
    }

    /// Adds a slot; returns its processors and memory used.
    pub(crate) fn close(&mut self, slot: &Slot, fleet: &mut Fleet) -> [f64; 2] {
        let span = slot.span();
        let mut totals = Point {
            slot: span.start.div_euclid(span.end - span.start),
            from: span.from,
            measured: span.measured(),
            ..Point::default()
        };
        self.kept.fill(0.0);
        for resource in 0..2 {
            self.left_out[resource] += slot.nowhere.used[resource];
        }
        for (machine, sums) in fleet.sums().enumerate() {
            let samples = slot.uses.get(machine).copied().unwrap_or_default();
            if sums.up == 0 {
                for resource in 0..2 {
                    self.left_out[resource] += samples.used[resource];
                }
                continue;
            }
            let load = Load::new(slot, machine, sums, &samples);
            self.add_load(&load);
            self.add_class(&load, sums);
            self.peaks.add(machine, sums.up, load.capacity[1], load.used[1]);
            for resource in 0..2 {
                totals.capacity[resource] += load.capacity[resource];
                totals.used[resource] += load.used[resource];
                totals.by_tasks[resource] += load.allocated[BY_TASKS][resource];
                totals.by_uses[resource] += load.allocated[BY_USES][resource];
            }
        }
        for resource in 0..2 {
            self.capacity[resource] += totals.capacity[resource];
            self.used[resource] += totals.used[resource];
            self.reserved[BY_TASKS][resource] += totals.by_tasks[resource];
            self.reserved[BY_USES][resource] += totals.by_uses[resource];
        }
        self.asked.add(&slot.classes);
        self.add_slot(&totals, span);
        totals.used
    }

    /// What all machines used, in the trace's own units, over time.
    pub(crate) fn demand(&self, resource: usize) -> Option<Levels> {
        self.values.levels(resource)
    }

    /// The share of all memory that is kept at a fraction, by its place, over time.
    pub(crate) fn kept_share(&self, fraction: usize) -> Option<Levels> {
        self.values.levels(2 + fraction)
    }

    #[expect(clippy::cast_precision_loss, reason = "microseconds of a slot are fewer than 2^53")]
    fn add_slot(&mut self, totals: &Point, span: Span) {
        self.slots += 1;
        self.measured += totals.measured;
        self.span = Some([self.span.map_or(span.from, |[first, _]| first), span.to]);
        let memory = totals.capacity[1];
        let of_memory = |kept: &f64| if memory > 0.0 { kept / memory } else { f64::NAN };
        let used = totals.used.iter().map(|used| used / totals.measured as f64);
        self.values.push(totals.measured, used.chain(self.kept.iter().map(of_memory)));
        self.over_time.push(totals);
    }

    fn add_load(&mut self, load: &Load) {
        let Load { up, capacity, used, allocated } = load;
        self.up += up;
        for resource in 0..2 {
            self.unused[resource] += (capacity[resource] - used[resource]).max(0.0);
        }
        let sums = self.by_fraction.iter_mut().zip(&mut self.kept);
        for (fraction, (sums, kept)) in self.fractions.iter().zip(sums) {
            let keeps = used[1].max(fraction * capacity[1]);
            *kept += keeps;
            sums.recoverable += (capacity[1] - keeps).max(0.0);
            sums.published += (up - used[1].max(fraction * up)).max(0.0);
        }
        if capacity[0] <= 0.0 || capacity[1] <= 0.0 {
            return;
        }
        for (stranded, allocated) in self.stranded.iter_mut().zip(allocated) {
            for resource in 0..2 {
                let other = 1 - resource;
                if allocated[other] >= (1.0 - self.slack) * capacity[other] {
                    stranded[resource] += (capacity[resource] - allocated[resource]).max(0.0);
                }
            }
        }
    }

    fn add_class(&mut self, load: &Load, sums: &Sums) {
        let Some(capacity) = sums.last else { return };
        let class = self.machine_classes.entry(capacity.0.map(f64::to_bits)).or_default();
        class.up += load.up;
        for resource in 0..2 {
            class.capacity[resource] += load.capacity[resource];
            class.unused[resource] += (load.capacity[resource] - load.used[resource]).max(0.0);
        }
    }
}

impl Load {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a slot are fewer than 2^53")]
    fn new(slot: &Slot, machine: usize, sums: &Sums, samples: &UseSum) -> Self {
        let used = used(slot, machine, sums);
        Self {
            up: sums.up as f64,
            capacity: sums.capacity,
            used,
            allocated: [sums.reserved, samples.asked, used],
        }
    }
}

/// What a machine used in a slot while it was up, times microseconds: its gauges' mean where it has
/// gauges, else its samples' sum.
#[expect(clippy::cast_precision_loss, reason = "microseconds of a slot are fewer than 2^53")]
pub(crate) fn used(slot: &Slot, machine: usize, sums: &Sums) -> [f64; 2] {
    let mut used = slot.uses.get(machine).copied().unwrap_or_default().used;
    if let Some(gauges) = slot.gauges.get(machine) {
        for (resource, used) in used.iter_mut().enumerate() {
            if gauges.count[resource] > 0 {
                *used = gauges.sum[resource] * sums.up as f64 / f64::from(gauges.count[resource]);
            }
        }
    }
    used
}
