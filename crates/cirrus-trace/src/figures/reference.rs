//! The figures again, slowly: every record in memory, every moment looked up, no slot ever closes.
//!
//! Owns [`Reference`]. Knows nothing of how an analysis goes about it.
//! Invariant: nothing is late, and nothing is forgotten.

mod classes;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};

use super::Options;
use crate::record::{Amount, MachineId, Micros, Record, Use};
use crate::report::{AtTime, Both, Left, Levels, Mean, Recoverable, Source, Stranded};

type Two = [f64; 2];

pub(super) struct Reference<'a> {
    records: &'a [Record],
    options: &'a Options,
    machines: Vec<MachineId>,
    /// Machine and task records by time.
    events: Vec<&'a Record>,
    cells: BTreeMap<(i64, usize), Cell>,
    spans: BTreeMap<i64, (Micros, Micros)>,
}

/// A machine in a slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) up: f64,
    pub(super) capacity: Two,
    pub(super) used: Two,
    pub(super) by_tasks: Two,
    pub(super) by_uses: Two,
    pub(super) last: Option<Amount>,
    pub(super) middle: Option<Amount>,
}

fn two(amount: Amount) -> Two {
    [amount.cpu.unwrap_or(0.0), amount.memory.unwrap_or(0.0)]
}

fn share(part: f64, all: f64) -> Option<f64> {
    if all > 0.0 { Some(part / all) } else { None }
}

fn both(of: impl Fn(usize) -> Option<f64>) -> Both {
    Both { cpu: of(0), memory: of(1) }
}

impl<'a> Reference<'a> {
    pub(super) fn new(records: &'a [Record], options: &'a Options) -> Self {
        let mut machines = Vec::new();
        let mut events = Vec::new();
        for record in records {
            let machine = match record {
                Record::Machine(machine) => Some(machine.machine),
                Record::Task(task) => task.runs.as_ref().and_then(|runs| runs.machine),
                Record::Use(used) => used.machine,
                Record::Gauge(gauge) => Some(gauge.machine),
            };
            if let Some(machine) = machine.filter(|machine| !machines.contains(machine)) {
                machines.push(machine);
            }
            if matches!(record, Record::Machine(_) | Record::Task(_)) {
                events.push(record);
            }
        }
        events.sort_by_key(|record| record.time());
        let (cells, spans) = (BTreeMap::new(), BTreeMap::new());
        let mut reference = Self { records, options, machines, events, cells, spans };
        reference.measure();
        reference.fill();
        reference
    }

    fn uses(&self) -> impl Iterator<Item = &'a Use> + use<'a> {
        self.records.iter().filter_map(|record| match record {
            Record::Use(used) => Some(used),
            _ => None,
        })
    }

    fn slot_of(&self, at: Micros) -> i64 {
        at.div_euclid(self.options.slot)
    }

    fn bounds(&self, slot: i64) -> (Micros, Micros) {
        (slot * self.options.slot, (slot + 1) * self.options.slot)
    }

    fn measure(&mut self) {
        for used in self.uses() {
            for slot in self.slot_of(used.start)..=self.slot_of(used.end - 1) {
                let (start, end) = self.bounds(slot);
                let span = self.spans.entry(slot).or_insert((Micros::MAX, Micros::MIN));
                *span = (span.0.min(used.start.max(start)), span.1.max(used.end.min(end)));
            }
        }
        for record in self.records {
            if let Record::Gauge(gauge) = record {
                let slot = self.slot_of(gauge.at);
                self.spans.insert(slot, self.bounds(slot));
            }
        }
    }

    fn capacity(&self, machine: MachineId, at: Micros) -> Option<Amount> {
        let newest = self.events.iter().rev().find_map(|record| match record {
            Record::Machine(event) if event.machine == machine && event.at <= at => Some(event),
            _ => None,
        })?;
        let holds = newest.until.is_none_or(|until| at < until);
        newest.capacity.filter(|capacity| holds && capacity.memory.is_some())
    }

    fn reserved(&self, machine: MachineId, at: Micros) -> Two {
        let mut reserved = [0.0; 2];
        let mut seen = BTreeSet::new();
        let past = self.events.iter().filter(|record| record.time() <= at);
        let mut left = false;
        for record in past.rev() {
            match record {
                Record::Machine(event) if event.machine == machine => {
                    left |= event.capacity.is_none();
                }
                Record::Task(task) => {
                    let runs = task.runs.as_ref().filter(|runs| runs.machine == Some(machine));
                    if let (true, Some(runs), false) = (seen.insert(task.task), runs, left) {
                        reserved[0] += two(runs.request)[0];
                        reserved[1] += two(runs.request)[1];
                    }
                }
                _ => {}
            }
        }
        reserved
    }

    fn fill(&mut self) {
        let mut cuts = BTreeSet::new();
        for slot in self.spans.keys() {
            let (start, end) = self.bounds(*slot);
            cuts.extend([start, start + (end - start) / 2, end]);
        }
        cuts.extend(self.uses().flat_map(|used| [used.start, used.end]));
        for event in &self.events {
            cuts.insert(event.time());
            if let Record::Machine(machine) = event {
                cuts.extend(machine.until);
            }
        }
        let cuts: Vec<Micros> = cuts.into_iter().collect();
        for pair in cuts.windows(2) {
            let slot = self.slot_of(pair[0]);
            let Some((from, to)) = self.spans.get(&slot).copied() else { continue };
            let middle = self.bounds(slot).0 + self.options.slot / 2;
            for (place, machine) in self.machines.iter().enumerate() {
                let Some(capacity) = self.capacity(*machine, pair[0]) else { continue };
                let reserved = self.reserved(*machine, pair[0]);
                let cell = self.cells.entry((slot, place)).or_default();
                if pair[0] == middle {
                    cell.middle = Some(capacity);
                }
                if pair[0] < from || pair[0] >= to {
                    continue;
                }
                let time = (pair[1] - pair[0]) as f64;
                cell.up += time;
                cell.last = Some(capacity);
                for (resource, reserved) in reserved.into_iter().enumerate() {
                    cell.capacity[resource] += two(capacity)[resource] * time;
                    cell.by_tasks[resource] += reserved * time;
                }
            }
        }
        self.cells.retain(|_, cell| cell.up > 0.0);
        let mut cells = std::mem::take(&mut self.cells);
        for ((slot, place), cell) in &mut cells {
            (cell.used, cell.by_uses) = self.used(*slot, self.machines[*place], cell.up);
        }
        self.cells = cells;
    }

    fn overlap(&self, used: &Use, slot: i64) -> f64 {
        let (start, end) = self.bounds(slot);
        (used.end.min(end) - used.start.max(start)).max(0) as f64
    }

    fn used(&self, slot: i64, machine: MachineId, up: f64) -> (Two, Two) {
        let (mut sum, mut asked) = ([0.0; 2], [0.0; 2]);
        for used in self.uses().filter(|used| used.machine == Some(machine)) {
            let time = self.overlap(used, slot);
            for resource in 0..2 {
                sum[resource] += two(used.mean)[resource] * time;
                asked[resource] += two(used.request)[resource] * time;
            }
        }
        let gauges = self.records.iter().filter_map(|record| match record {
            Record::Gauge(gauge) if gauge.machine == machine => Some(gauge),
            _ => None,
        });
        let gauges: Vec<_> = gauges.filter(|gauge| self.slot_of(gauge.at) == slot).collect();
        for (resource, sum) in sum.iter_mut().enumerate() {
            let of = |amount: Amount| [amount.cpu, amount.memory][resource];
            let gauged: Vec<f64> = gauges.iter().filter_map(|gauge| of(gauge.used)).collect();
            if !gauged.is_empty() {
                *sum = gauged.iter().sum::<f64>() * up / gauged.len() as f64;
            }
        }
        (sum, asked)
    }

    fn sum(&self, of: impl Fn(&Cell) -> f64) -> f64 {
        self.cells.values().map(of).sum()
    }

    fn capacity_sum(&self, resource: usize) -> f64 {
        self.sum(|cell| cell.capacity[resource])
    }

    fn measured_s(&self) -> f64 {
        self.spans.values().map(|(from, to)| (to - from) as f64).sum()
    }

    fn measures(&self, resource: usize) -> bool {
        let amount = |amount: Amount| [amount.cpu, amount.memory][resource].is_some();
        let measures = self.records.iter().any(|record| match record {
            Record::Use(used) => amount(used.mean),
            Record::Gauge(gauge) => amount(gauge.used),
            _ => false,
        });
        measures && self.capacity_sum(resource) > 0.0
    }

    fn source(&self) -> Option<Source> {
        let any = |of: fn(&Cell) -> Two| self.sum(|cell| of(cell)[0] + of(cell)[1]) > 0.0;
        if any(|cell| cell.by_tasks) {
            Some(Source::Tasks)
        } else {
            any(|cell| cell.by_uses).then_some(Source::Uses)
        }
    }

    fn reserved_of(&self, cell: &Cell) -> Two {
        match self.source() {
            Some(Source::Tasks) => cell.by_tasks,
            _ => cell.by_uses,
        }
    }

    pub(super) fn mean(&self) -> Mean {
        let time = self.measured_s();
        let positive = |value: f64| Some(value).filter(|value| *value > 0.0);
        let reserved =
            |resource: usize| positive(self.sum(|cell| self.reserved_of(cell)[resource]));
        let unused = |resource: usize| {
            self.sum(|cell| (cell.capacity[resource] - cell.used[resource]).max(0.0))
        };
        Mean {
            capacity: both(|r| share(positive(self.capacity_sum(r))?, time)),
            used: both(|r| share(self.sum(|cell| cell.used[r]), time).filter(|_| self.measures(r))),
            reserved: both(|r| share(reserved(r)?, time)),
            unused_share: both(|r| {
                share(unused(r), self.capacity_sum(r)).filter(|_| self.measures(r))
            }),
            reserved_share: both(|r| share(reserved(r)?, self.capacity_sum(r))),
            reserved_by: self.source(),
        }
    }

    pub(super) fn stranded(&self) -> Option<Stranded> {
        if !self.measures(0) || !self.records.iter().any(|_| self.measured_memory()) {
            return None;
        }
        let allocated = |cell: &Cell| match self.source() {
            Some(_) => self.reserved_of(cell),
            None => cell.used,
        };
        let stranded = |resource: usize| {
            let other = 1 - resource;
            let left = |cell: &Cell| {
                let taken = allocated(cell);
                let known = cell.capacity[0] > 0.0 && cell.capacity[1] > 0.0;
                let gone = taken[other] >= (1.0 - self.options.slack) * cell.capacity[other];
                if known && gone {
                    (cell.capacity[resource] - taken[resource]).max(0.0)
                } else {
                    0.0
                }
            };
            self.sum(left)
        };
        Some(Stranded {
            allocated_by: self.source().unwrap_or(Source::Used),
            slack: self.options.slack,
            share: both(|resource| share(stranded(resource), self.capacity_sum(resource))),
        })
    }

    fn measured_memory(&self) -> bool {
        self.records.iter().any(|record| match record {
            Record::Use(used) => used.mean.memory.is_some(),
            Record::Gauge(gauge) => gauge.used.memory.is_some(),
            _ => false,
        })
    }

    fn by_slot(&self, of: impl Fn(&Cell) -> f64) -> Vec<(f64, f64)> {
        let mut series = Vec::new();
        for (slot, (from, to)) in &self.spans {
            let cells = self.cells.range((*slot, 0)..(*slot + 1, 0));
            series.push((cells.map(|(_, cell)| of(cell)).sum(), (to - from) as f64));
        }
        series
    }

    pub(super) fn recoverable(&self) -> Vec<Recoverable> {
        let capacity = self.capacity_sum(1);
        let largest = self.events.iter().filter_map(|record| match record {
            Record::Machine(machine) => machine.capacity?.memory,
            _ => None,
        });
        let normal = largest.fold(0.0, f64::max) <= 1.0;
        let measured = self.measures(1);
        let of = |fraction: &f64| {
            let keeps = |cell: &Cell| cell.used[1].max(fraction * cell.capacity[1]);
            let kept = self.by_slot(keeps).into_iter().zip(self.by_slot(|cell| cell.capacity[1]));
            let kept = kept.filter_map(|((kept, time), (of, _))| Some((share(kept, of)?, time)));
            let recoverable =
                share(self.sum(|cell| (cell.capacity[1] - keeps(cell)).max(0.0)), capacity);
            let published =
                self.sum(|cell| (cell.up - cell.used[1].max(fraction * cell.up)).max(0.0));
            let published = share(published, self.sum(|cell| cell.up));
            Recoverable {
                local_fraction: *fraction,
                cap_share: 1.0 - fraction,
                share: recoverable.filter(|_| measured),
                as_published_share: published.filter(|_| measured && normal),
                pooled: levels(kept.collect()).filter(|_| measured).map(|kept| Left {
                    at_peak_share: 1.0 - kept.peak,
                    at_p99_share: 1.0 - kept.p99,
                    mean_share: 1.0 - kept.mean,
                }),
                each_machine: recoverable
                    .filter(|_| measured)
                    .map(|mean| self.each(*fraction, mean)),
            }
        };
        self.options.local_fractions.iter().map(of).collect()
    }

    fn each(&self, fraction: f64, mean_share: f64) -> Left {
        let mut left = Left { at_peak_share: 0.0, at_p99_share: 0.0, mean_share };
        for place in 0..self.machines.len() {
            let cells = || {
                self.cells.iter().filter(|((_, of), cell)| *of == place && cell.capacity[1] > 0.0)
            };
            let shares = |round: fn(f64) -> f64| {
                let used = |cell: &Cell| round(cell.used[1] / cell.capacity[1]);
                levels(cells().map(|(_, cell)| (used(cell), cell.up)).collect())
            };
            let capacity: f64 = cells().map(|(_, cell)| cell.capacity[1]).sum();
            let up = |share: f64| (share * 128.0).ceil().min(128.0) / 128.0;
            let (Some(exact), Some(rounded)) = (shares(|share| share), shares(up)) else {
                continue;
            };
            let beyond = |share: f64| capacity * (1.0 - share.max(fraction)).max(0.0);
            left.at_peak_share += beyond(exact.peak);
            left.at_p99_share += beyond(rounded.p99);
        }
        left.at_peak_share /= self.capacity_sum(1);
        left.at_p99_share /= self.capacity_sum(1);
        left
    }

    pub(super) fn demand(&self, resource: usize) -> Option<Levels> {
        let used = self.by_slot(|cell| cell.used[resource]).into_iter();
        levels(used.map(|(used, time)| (used / time, time)).collect())
            .filter(|_| self.measures(resource))
    }

    pub(super) fn over_time(&self) -> Vec<AtTime> {
        let mean = |slot: i64, time: f64, of: &dyn Fn(&Cell) -> f64| {
            let cells = self.cells.range((slot, 0)..(slot + 1, 0));
            Some(cells.map(|(_, cell)| of(cell)).sum::<f64>() / time)
        };
        let anywhere = |r: usize| self.sum(|cell| self.reserved_of(cell)[r]) > 0.0;
        let at = |(slot, (from, to)): (&i64, &(Micros, Micros))| {
            let time = (to - from) as f64;
            AtTime {
                at_s: *from as f64 / 1e6,
                measured_s: time / 1e6,
                capacity: both(|r| {
                    mean(*slot, time, &|cell| cell.capacity[r])
                        .filter(|_| self.capacity_sum(r) > 0.0)
                }),
                used: both(|r| {
                    mean(*slot, time, &|cell| cell.used[r]).filter(|_| self.measures(r))
                }),
                reserved: both(|r| {
                    mean(*slot, time, &|cell| self.reserved_of(cell)[r]).filter(|_| anywhere(r))
                }),
            }
        };
        self.spans.iter().map(at).collect()
    }
}

fn levels(mut series: Vec<(f64, f64)>) -> Option<Levels> {
    let all: f64 = series.iter().map(|(_, time)| time).sum();
    let mean = series.iter().map(|(value, time)| value * time).sum::<f64>() / all;
    series.sort_by(|one, other| one.0.total_cmp(&other.0));
    let peak = series.last()?.0;
    let mut time = 0.0;
    for (value, of) in &series {
        time += of;
        if time >= 0.99 * all {
            return Some(Levels { peak, p99: *value, mean });
        }
    }
    None
}
