//! The two moments of which the tasks are kept: the most memory used, and the most processor.
//!
//! Owns [`Moments`]. Knows nothing of how tasks are packed.
//! Invariant: a demand is never larger than the machine on which it ran.

use std::sync::Arc;

use super::fleet::Fleet;
use super::totals::used;
use crate::record::Micros;
use crate::slots::Slot;

/// Machines that were up at a moment, and what ran on them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Moment {
    pub(crate) at: Micros,
    /// Processors and memory.
    pub(crate) machines: Vec<[f64; 2]>,
    pub(crate) demands: Vec<[f64; 2]>,
    /// How many of the demands are the whole load of a machine.
    pub(crate) machine_loads: u64,
    /// Tasks on machines that were not up, or of no known memory.
    pub(crate) left_out: u64,
}

/// The best moments so far.
#[derive(Clone)]
pub(crate) struct Moments {
    margin: f64,
    /// By resource: the amount used times microseconds, and the moment.
    best: [Option<(f64, Arc<Moment>)>; 2],
}

impl Moments {
    pub(crate) fn new(margin: f64) -> Self {
        Self { margin, best: [None, None] }
    }

    pub(crate) fn most_cpu(&self) -> Option<&Moment> {
        self.best[0].as_ref().map(|(_, moment)| moment.as_ref())
    }

    pub(crate) fn most_memory(&self) -> Option<&Moment> {
        self.best[1].as_ref().map(|(_, moment)| moment.as_ref())
    }

    /// Looks at a slot that closes, with its processors and memory used. The first of equals stays.
    pub(crate) fn offer(&mut self, slot: &Slot, fleet: &Fleet, used: [f64; 2]) {
        let mut moment = None;
        for (best, used) in self.best.iter_mut().zip(used) {
            if used > best.as_ref().map_or(0.0, |(most, _)| *most) {
                let moment =
                    moment.get_or_insert_with(|| Arc::new(Moment::new(slot, fleet, self.margin)));
                *best = Some((used, Arc::clone(moment)));
            }
        }
    }
}

impl Moment {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a slot are fewer than 2^53")]
    fn new(slot: &Slot, fleet: &Fleet, margin: f64) -> Self {
        let mut moment = Self { at: slot.span().middle, ..Self::default() };
        // What a machine has, when it is up; and whether it is one load.
        let mut machines = Vec::new();
        for (machine, sums) in fleet.summed().enumerate() {
            let gauged = slot.gauges.get(machine).is_some_and(|gauges| gauges.count != [0; 2]);
            let capacity = sums.middle.filter(|_| sums.up > 0);
            let capacity = capacity.map(|capacity| capacity.0.map(known));
            machines.push((capacity, gauged));
            moment.machines.extend(capacity);
        }
        for machine in &slot.taskless {
            machines[*machine as usize].1 = true;
        }
        let demand = |used: [f64; 2], capacity: [f64; 2]| {
            [0, 1].map(|resource| (used[resource] * (1.0 + margin)).min(capacity[resource]))
        };
        for (machine, sums) in fleet.summed().enumerate() {
            if let (Some(capacity), true) = machines[machine] {
                let load = used(slot, machine, sums).map(|used| used / sums.up as f64);
                moment.demands.push(demand(load, capacity));
                moment.machine_loads += 1;
            }
        }
        for task in &slot.demands {
            match machines[task.machine as usize] {
                (Some(capacity), false) => moment.demands.push(demand(task.used, capacity)),
                (Some(_), true) => {}
                (None, _) => moment.left_out += 1,
            }
        }
        moment
    }
}

/// A machine of which the processors are not known has none: nothing is asked of them either.
fn known(capacity: f64) -> f64 {
    match capacity.is_nan() {
        true => 0.0,
        false => capacity,
    }
}
