//! What single tasks asked for and used.

use std::collections::BTreeMap;

use super::{Reference, Two, two};
use crate::record::{Amount, Class, Micros, Placement, Record, TaskId, Use};

impl Reference<'_> {
    /// Requests, use and what is spare, by class, of everything that has a request.
    pub(in crate::figures) fn asked(&self) -> BTreeMap<Option<Class>, [Two; 3]> {
        let mut placed: BTreeMap<TaskId, (Micros, &Placement)> = BTreeMap::new();
        let mut sums: BTreeMap<Option<Class>, [Two; 3]> = BTreeMap::new();
        for record in self.records {
            if let Record::Task(task) = record
                && let Some(runs) = &task.runs
                && placed.get(&task.task).is_none_or(|(at, _)| task.at >= *at)
            {
                placed.insert(task.task, (task.at, runs));
            }
            let Record::Use(used) = record else { continue };
            let placement = used.task.and_then(|task| placed.get(&task)).map(|(_, runs)| runs);
            let time = (used.end - used.start) as f64;
            let class = used.class.or(placement.and_then(|runs| runs.class));
            let sums = sums.entry(class).or_default();
            for resource in 0..2 {
                let of = |amount: Amount| [amount.cpu, amount.memory][resource];
                let asked = placement.and_then(|runs| of(runs.request)).or(of(used.request));
                if let (Some(asked), Some(used)) = (asked, of(used.mean)) {
                    sums[0][resource] += asked * time;
                    sums[1][resource] += used * time;
                    sums[2][resource] += (asked - used).max(0.0) * time;
                }
            }
        }
        sums
    }

    /// Time, capacities and demands of the slot with the most of a resource used.
    pub(in crate::figures) fn moment(
        &self,
        resource: usize,
    ) -> Option<(Micros, Vec<Two>, Vec<Two>)> {
        let mut best: Option<(f64, i64)> = None;
        for (slot, (used, _)) in self.spans.keys().zip(self.by_slot(|cell| cell.used[resource])) {
            if used > best.map_or(0.0, |(most, _)| most) {
                best = Some((used, *slot));
            }
        }
        let (_, slot) = best?;
        let middle = self.bounds(slot).0 + self.options.slot / 2;
        let grow = |used: Two, capacity: Two| {
            [0, 1].map(|r| (used[r] * (1.0 + self.options.margin)).min(capacity[r]))
        };
        let (mut machines, mut demands) = (Vec::new(), Vec::new());
        for (place, machine) in self.machines.iter().enumerate() {
            let Some(cell) = self.cells.get(&(slot, place)) else { continue };
            let Some(capacity) = cell.middle.map(two) else { continue };
            machines.push(capacity);
            let here = || {
                let covers = |used: &&Use| used.start <= middle && middle < used.end;
                self.uses().filter(covers).filter(|used| used.machine == Some(*machine))
            };
            let gauged = self.records.iter().any(|record| match record {
                Record::Gauge(gauge) => {
                    gauge.machine == *machine
                        && self.slot_of(gauge.at) == slot
                        && gauge.used != Amount::default()
                }
                _ => false,
            });
            if gauged || here().any(|used| used.task.is_none()) {
                demands.push(grow(cell.used.map(|used| used / cell.up), capacity));
            } else {
                demands.extend(here().map(|used| {
                    let memory = used.memory_max.or(used.mean.memory).unwrap_or(0.0);
                    grow([two(used.mean)[0], memory], capacity)
                }));
            }
        }
        Some((middle, machines, demands))
    }
}
