//! The figures of a trace that is made up.
//!
//! Owns: figures by direct integration, tick by tick, of the cluster itself.
//! Knows nothing of: files, records, and how they are analysed.
//! Invariant: sums are exact: only products with a fraction, and shares, are rounded.

use std::collections::BTreeMap;
use std::io;

use super::model::{Model, Sample, TICKS, Units};
use super::{Layout, Scenario};
use crate::record::Class;

/// What is so in a slot, summed over machines: each amount is a mean over the slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlotKnown {
    /// How many machines were there.
    pub machines: f64,
    /// The processors that were there.
    pub cpu_capacity: f64,
    /// The memory that was there.
    pub memory_capacity: f64,
    /// The processors that were used.
    pub cpu_used: f64,
    /// The memory that was used.
    pub memory_used: f64,
    /// The processors that tasks had asked for.
    pub cpu_reserved: f64,
    /// The memory that tasks had asked for.
    pub memory_reserved: f64,
    /// Σ max(C − U, 0) of memory.
    pub memory_unused: f64,
    /// Memory of machines whose processors are reserved.
    pub memory_stranded: f64,
    /// Processors of machines whose memory is reserved.
    pub cpu_stranded: f64,
    /// For every local fraction L: Σ max(C − max(U, L·C), 0) of memory.
    pub recoverable: Vec<f64>,
    /// For every local fraction L: Σ (w − max(U, L·w)), a machine that is there for a share w of the
    /// slot being of size w.
    pub published: Vec<f64>,
    /// For every local fraction L: Σ max(U, L·C) of memory.
    pub kept: Vec<f64>,
}

/// Memory that was asked for and used, in amounts times slots.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reserved {
    /// Σ request·t.
    pub request: f64,
    /// Σ use·t.
    pub used: f64,
    /// Σ max(request − use, 0)·t.
    pub unused: f64,
}

/// The figures of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// The local fractions.
    pub fractions: Vec<f64>,
    /// Every slot. Without machines (spar) all but what tasks use and ask for is zero.
    pub slots: Vec<SlotKnown>,
    /// The sums over all slots.
    pub total: SlotKnown,
    /// What tasks asked for and used, for all of them.
    pub reserved: Reserved,
    /// The same by class, where the trace has classes.
    pub by_class: BTreeMap<Class, Reserved>,
}

impl Known {
    /// The unused share of memory.
    #[must_use]
    pub fn unused_share(&self) -> f64 {
        self.total.memory_unused / self.total.memory_capacity
    }

    /// The recoverable share of memory at the local fraction `at`.
    #[must_use]
    pub fn recoverable_share(&self, at: usize) -> f64 {
        self.total.recoverable[at] / self.total.memory_capacity
    }

    /// The recoverable share as published.
    #[must_use]
    pub fn published_share(&self, at: usize) -> f64 {
        self.total.published[at] / self.total.machines
    }
}

/// What a machine has, uses and promised in a slot, in 1/1024 times ticks.
#[derive(Clone, Copy)]
struct Sums {
    up: u64,
    capacity: Units,
    used: Units,
    reserved: Units,
}

/// Computes the figures. `stranded` is the share of a resource below which it counts as gone.
///
/// # Errors
///
/// A scenario without machines, tasks or slots.
pub fn known(
    scenario: &Scenario,
    layout: Layout,
    fractions: &[f64],
    stranded: f64,
) -> io::Result<Known> {
    let model = Model::new(scenario, layout)?;
    let mut known = Known {
        fractions: fractions.to_vec(),
        slots: Vec::new(),
        total: empty(fractions),
        reserved: Reserved::default(),
        by_class: BTreeMap::new(),
    };
    for slot in 0..scenario.slots {
        let mut sums = empty(fractions);
        for machine in 0..scenario.machines {
            known.add_samples(&model, machine, slot);
            sums.add_machine(&machine_sums(&model, machine, slot), layout, fractions, stranded);
        }
        known.total.add(&sums);
        known.slots.push(sums);
    }
    Ok(known)
}

fn empty(fractions: &[f64]) -> SlotKnown {
    let zeros = vec![0.0; fractions.len()];
    SlotKnown {
        recoverable: zeros.clone(),
        published: zeros.clone(),
        kept: zeros,
        ..SlotKnown::default()
    }
}

/// An amount that was summed over the ticks of a slot, as a mean.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn mean(units: u64) -> f64 {
    units as f64 / (1024.0 * f64::from(TICKS))
}

fn machine_sums(model: &Model, machine: u32, slot: u32) -> Sums {
    let none = Units { cpu: 0, memory: 0 };
    let mut sums = Sums { up: 0, capacity: none, used: none, reserved: none };
    let ticks = slot * TICKS..(slot + 1) * TICKS;
    let mut gauges = Vec::new();
    for tick in ticks.clone() {
        if let Some(capacity) = model.capacity(machine, tick) {
            sums.up += 1;
            sums.capacity.add(capacity, 1);
        }
        gauges.extend(model.gauge(machine, tick));
    }
    // Samples that started a slot earlier may reach into this one.
    let from = ticks.start.saturating_sub(TICKS);
    for seat in 0..model.scenario.tasks {
        for tick in ticks.clone() {
            let task = model.occupant(machine, seat, tick);
            if let Some(task) = task.filter(|_| !model.layout.is_alibaba()) {
                // The generic format has no tasks but in its rows of use, which are below.
                let times = u64::from(model.layout != Layout::Generic);
                sums.reserved.add(model.request(task, tick), times);
            }
        }
        for sample in (from..ticks.end).flat_map(|tick| model.samples(machine, seat, tick)) {
            let start = sample.start.max(ticks.start);
            let times = u64::from(sample.end.min(ticks.end).saturating_sub(start));
            sums.used.add(sample.mean, times);
            if model.layout.is_alibaba() || model.layout == Layout::Generic {
                sums.reserved.add(sample.request, times);
            }
        }
    }
    if !gauges.is_empty() {
        // Their mean, times the ticks of a slot; a share of 1/1024 of a capacity that is a multiple
        // of 512/1024 is a multiple of 1/2048, and there are two of them.
        let count = gauges.len() as u64;
        let total = |amount: fn(&Units) -> u64| {
            let products = gauges.iter().map(|(share, all)| amount(share) * amount(all));
            products.sum::<u64>() * u64::from(TICKS) / count
        };
        sums.used = Units { cpu: total(|u| u.cpu) / 1024, memory: total(|u| u.memory) / 1024 };
        debug_assert_eq!(total(|u| u.memory) % 1024, 0);
    }
    sums
}

impl Units {
    fn add(&mut self, other: Units, times: u64) {
        self.cpu += other.cpu * times;
        self.memory += other.memory * times;
    }
}

impl SlotKnown {
    fn add_machine(&mut self, sums: &Sums, layout: Layout, fractions: &[f64], stranded: f64) {
        self.cpu_used += mean(sums.used.cpu);
        self.memory_used += mean(sums.used.memory);
        self.cpu_reserved += mean(sums.reserved.cpu);
        self.memory_reserved += mean(sums.reserved.memory);
        if layout == Layout::Spar {
            return;
        }
        let up = mean(sums.up * 1024);
        let (cpu, memory) = (mean(sums.capacity.cpu), mean(sums.capacity.memory));
        let used = mean(sums.used.memory);
        self.machines += up;
        self.cpu_capacity += cpu;
        self.memory_capacity += memory;
        self.memory_unused += (memory - used).max(0.0);
        let reserved = (mean(sums.reserved.cpu), mean(sums.reserved.memory));
        if cpu > 0.0 && reserved.0 >= (1.0 - stranded) * cpu {
            self.memory_stranded += (memory - reserved.1).max(0.0);
        }
        if memory > 0.0 && reserved.1 >= (1.0 - stranded) * memory {
            self.cpu_stranded += (cpu - reserved.0).max(0.0);
        }
        for (at, fraction) in fractions.iter().enumerate() {
            let kept = used.max(fraction * memory);
            self.kept[at] += kept;
            self.recoverable[at] += (memory - kept).max(0.0);
            self.published[at] += up - used.max(fraction * up);
        }
    }

    fn add(&mut self, other: &SlotKnown) {
        self.machines += other.machines;
        self.cpu_capacity += other.cpu_capacity;
        self.memory_capacity += other.memory_capacity;
        self.cpu_used += other.cpu_used;
        self.memory_used += other.memory_used;
        self.cpu_reserved += other.cpu_reserved;
        self.memory_reserved += other.memory_reserved;
        self.memory_unused += other.memory_unused;
        self.memory_stranded += other.memory_stranded;
        self.cpu_stranded += other.cpu_stranded;
        for (mine, theirs) in [
            (&mut self.recoverable, &other.recoverable),
            (&mut self.published, &other.published),
            (&mut self.kept, &other.kept),
        ] {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
    }
}

impl Known {
    /// The samples that start in a slot, with all of their time.
    fn add_samples(&mut self, model: &Model, machine: u32, slot: u32) {
        for seat in 0..model.scenario.tasks {
            for tick in slot * TICKS..(slot + 1) * TICKS {
                for sample in model.samples(machine, seat, tick) {
                    self.reserved.add(&sample);
                    if let Some(class) = model.class(sample.task) {
                        self.by_class.entry(class).or_default().add(&sample);
                    }
                }
            }
        }
    }
}

impl Reserved {
    fn add(&mut self, sample: &Sample) {
        let (request, used) = (sample.request.memory, sample.mean.memory);
        let ticks = u64::from(sample.end - sample.start);
        self.request += mean(request * ticks);
        self.used += mean(used * ticks);
        self.unused += mean(request.saturating_sub(used) * ticks);
    }
}
