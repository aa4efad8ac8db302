//! One open slot.
//!
//! Owns [`Slot`] and its sums. Knows nothing of other slots.
//! Invariant: sums are amounts times microseconds, so that they add up to the same in every order
//! as far as the numbers are exact.

use super::Sample;
use crate::figures::{Event, NO_MACHINE};
use crate::record::{Amount, Class, Micros};

/// A slot of time and the part of it in which anything was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) start: Micros,
    pub(crate) end: Micros,
    /// From the first moment that a sample of any machine covers, to the last. A gauge speaks for
    /// all of its slot. Empty where nothing was measured.
    pub(crate) from: Micros,
    pub(crate) to: Micros,
    /// Before all times where nothing was measured: no such moment is looked at.
    pub(crate) middle: Micros,
}

impl Span {
    pub(crate) fn measured(&self) -> Micros {
        (self.to - self.from).max(0)
    }
}

/// What samples say of a machine in a slot: amounts times microseconds, processors and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct UseSum {
    pub(crate) used: [f64; 2],
    pub(crate) asked: [f64; 2],
}

/// What gauges say of a machine in a slot: their sum and their number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct GaugeSum {
    pub(crate) sum: [f64; 2],
    pub(crate) count: [u32; 2],
}

/// What a task used, its sample covering the middle of the slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Demand {
    pub(crate) machine: u32,
    pub(crate) used: [f64; 2],
}

/// Of samples with a request, by resource: amounts times microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct AskedSum {
    pub(crate) asked: [f64; 2],
    pub(crate) used: [f64; 2],
    /// The request less the use, where that is more than 0.
    pub(crate) spare: [f64; 2],
}

/// [`AskedSum`]s by class; the last are of samples that name none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ClassSums(pub(crate) [AskedSum; 6]);

impl ClassSums {
    pub(crate) fn index(class: Option<Class>) -> u8 {
        match class {
            Some(Class::Free) => 0,
            Some(Class::BestEffort) => 1,
            Some(Class::Middle) => 2,
            Some(Class::Production) => 3,
            Some(Class::Monitoring) => 4,
            None => 5,
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, other) in self.0.iter_mut().zip(&other.0) {
            for resource in 0..2 {
                mine.asked[resource] += other.asked[resource];
                mine.used[resource] += other.used[resource];
                mine.spare[resource] += other.spare[resource];
            }
        }
    }
}

#[derive(Clone)]
pub(crate) struct Slot {
    pub(crate) start: Micros,
    pub(crate) end: Micros,
    from: Micros,
    to: Micros,
    /// By machine; shorter than the list of machines where the last ones have none.
    pub(crate) uses: Vec<UseSum>,
    pub(crate) gauges: Vec<GaugeSum>,
    pub(crate) demands: Vec<Demand>,
    /// Machines of which a sample at the middle names no task.
    pub(crate) taskless: Vec<u32>,
    pub(crate) events: Vec<(Micros, Event)>,
    pub(crate) classes: ClassSums,
    /// Samples of no machine: amounts times microseconds.
    pub(crate) nowhere: UseSum,
}

impl Slot {
    pub(crate) fn new(index: i64, length: Micros) -> Self {
        let start = index * length;
        Self {
            start,
            end: start + length,
            from: Micros::MAX,
            to: Micros::MIN,
            uses: Vec::new(),
            gauges: Vec::new(),
            demands: Vec::new(),
            taskless: Vec::new(),
            events: Vec::new(),
            classes: ClassSums::default(),
            nowhere: UseSum::default(),
        }
    }

    /// Makes it another slot with nothing in it, that has the room of this one.
    pub(crate) fn clear(&mut self, index: i64, length: Micros) {
        let mut was = std::mem::replace(self, Self::new(index, length));
        was.uses.clear();
        was.gauges.clear();
        was.demands.clear();
        was.taskless.clear();
        was.events.clear();
        self.uses = was.uses;
        self.gauges = was.gauges;
        self.demands = was.demands;
        self.taskless = was.taskless;
        self.events = was.events;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.from >= self.to && self.events.is_empty()
    }

    pub(crate) fn span(&self) -> Span {
        let Self { start, end, from, to, .. } = *self;
        let middle = start + (end - start) / 2;
        match from < to {
            true => Span { start, end, from, to, middle },
            false => Span { start, end, from: start, to: start, middle: Micros::MIN },
        }
    }

    /// Adds the part of a sample that lies in this slot.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a slot are fewer than 2^53")]
    pub(super) fn add_sample(&mut self, from: Micros, to: Micros, sample: &Sample) {
        let time = (to - from) as f64;
        self.from = self.from.min(from);
        self.to = self.to.max(to);
        let used = [sample.used.cpu, sample.used.memory];
        let sum = match sample.machine {
            NO_MACHINE => &mut self.nowhere,
            machine => at(&mut self.uses, machine),
        };
        let asked = [sample.asked_by_use.cpu, sample.asked_by_use.memory];
        for resource in 0..2 {
            sum.used[resource] += used[resource].unwrap_or(0.0) * time;
            sum.asked[resource] += asked[resource].unwrap_or(0.0) * time;
        }
        let class = &mut self.classes.0[usize::from(sample.class)];
        let asked = [sample.asked.cpu, sample.asked.memory];
        for resource in 0..2 {
            if let (Some(asked), Some(used)) = (asked[resource], used[resource]) {
                class.asked[resource] += asked * time;
                class.used[resource] += used * time;
                class.spare[resource] += (asked - used).max(0.0) * time;
            }
        }
        let middle = self.start + (self.end - self.start) / 2;
        if from <= middle && middle < to && sample.machine != NO_MACHINE {
            if sample.is_task {
                let memory = sample.memory_max.or(sample.used.memory).unwrap_or(0.0);
                let used = [sample.used.cpu.unwrap_or(0.0), memory];
                self.demands.push(Demand { machine: sample.machine, used });
            } else {
                self.taskless.push(sample.machine);
            }
        }
    }

    pub(super) fn add_gauge(&mut self, machine: u32, used: Amount) {
        self.from = self.start;
        self.to = self.end;
        let sum = at(&mut self.gauges, machine);
        for (resource, used) in [used.cpu, used.memory].into_iter().enumerate() {
            if let Some(used) = used {
                sum.sum[resource] += used;
                sum.count[resource] += 1;
            }
        }
    }
}

/// The sums of a machine, made where it has none yet.
#[inline]
fn at<T: Default + Clone>(sums: &mut Vec<T>, machine: u32) -> &mut T {
    let place = machine as usize;
    if place >= sums.len() {
        sums.resize(place + 1, T::default());
    }
    &mut sums[place]
}
