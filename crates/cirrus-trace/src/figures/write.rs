//! From sums to a report.
//!
//! Owns the divisions. Knows nothing of records and of open slots.
//! Invariant: nothing is divided by 0, and a resource that the trace never names has no figure.

use super::achievable::achievable;
use super::fleet::Fleet;
use super::moments::Moments;
use super::over_time::Point;
use super::totals::{BY_TASKS, BY_USED, BY_USES, Totals};
use super::{Counts, Options, seconds};
use crate::record::Micros;
use crate::report::{
    Asked, AskedByClass, AtTime, Both, Demand, Late, Left, Levels, MachineClass, Mean, Recoverable,
    Report, Requests, Source, Stranded, Trace,
};
use crate::slots::AskedSum;

const CLASSES: [&str; 5] = ["free", "best_effort", "middle", "production", "monitoring"];

/// Everything that a report is made of.
struct Writer<'a> {
    options: &'a Options,
    totals: &'a Totals,
    counts: Counts,
    measured: Micros,
}

pub(super) fn report(
    options: &Options,
    totals: &Totals,
    moments: &Moments,
    fleet: &Fleet,
    (counts, late): (Counts, Late),
) -> Report {
    let writer = Writer { options, totals, counts, measured: totals.measured };
    let moments =
        [("most_memory_used", moments.most_memory()), ("most_cpu_used", moments.most_cpu())];
    let achievable = |(name, moment): (&'static str, Option<&_>)| {
        // Without processors there is nothing by which tasks with memory from a pool are packed.
        let pools = writer.used(0).map(|_| &totals.fractions[..]);
        Some(achievable(name, moment?, pools, options.margin))
    };
    Report {
        trace: writer.trace(fleet, late),
        mean: writer.mean(),
        machine_classes: writer.machine_classes(),
        requests: writer.requests(),
        stranded: writer.stranded(),
        recoverable: writer.recoverable(fleet),
        achievable: moments.into_iter().filter_map(achievable).collect(),
        demand: Demand { cpu: writer.demand(0), memory: writer.demand(1) },
        over_time_step_s: seconds(options.slot.saturating_mul(totals.over_time.slots_each)),
        over_time: totals.over_time.points().iter().map(|point| writer.at_time(point)).collect(),
    }
}

impl Writer<'_> {
    fn trace(&self, fleet: &Fleet, late: Late) -> Trace {
        let Self { options, totals, counts, measured } = self;
        let [machines, machines_without_memory] = fleet.counted();
        let use_left_out_share = |resource: usize| {
            let left_out = totals.left_out[resource];
            share(left_out, left_out + totals.used[resource])
        };
        let largest = |resource: usize| Some(fleet.largest[resource]).filter(|most| *most > 0.0);
        Trace {
            first_s: totals.span.map(|[first, _]| seconds(first)),
            last_s: totals.span.map(|[_, last]| seconds(last)),
            measured_s: seconds(*measured),
            slot_s: seconds(options.slot),
            slots: totals.slots,
            machines,
            machines_without_memory,
            machines_up: share(totals.up, micros(*measured)).unwrap_or(0.0),
            largest_machine: both(largest),
            use_left_out_share: both(use_left_out_share),
            machine_records: counts.machines,
            task_records: counts.tasks,
            use_records: counts.uses,
            gauge_records: counts.gauges,
            uses_without_machine: counts.uses_without_machine,
            uses_without_memory: counts.uses_without_memory,
            uses_without_cpu: counts.uses_without_cpu,
            tasks_ended_without_start: fleet.tasks_ended_without_start,
            late,
        }
    }

    fn mean(&self) -> Mean {
        let Self { totals, .. } = self;
        let source = self.reserved_by();
        let reserved = |resource: usize| {
            Some(totals.reserved[source?][resource]).filter(|reserved| *reserved > 0.0)
        };
        Mean {
            capacity: both(|resource| self.mean_of(self.capacity(resource)?)),
            used: both(|resource| self.mean_of(self.used(resource)?)),
            reserved: both(|resource| self.mean_of(reserved(resource)?)),
            unused_share: both(|resource| {
                self.used(resource)?;
                share(totals.unused[resource], totals.capacity[resource])
            }),
            reserved_share: both(|resource| share(reserved(resource)?, totals.capacity[resource])),
            reserved_by: source.map(|source| match source {
                BY_TASKS => Source::Tasks,
                _ => Source::Uses,
            }),
        }
    }

    fn machine_classes(&self) -> Vec<MachineClass> {
        let Self { totals, .. } = self;
        let known = |bits: u64| Some(f64::from_bits(bits)).filter(|amount| !amount.is_nan());
        let mut classes: Vec<MachineClass> = totals
            .machine_classes
            .iter()
            .map(|(bits, sums)| MachineClass {
                capacity: both(|resource| known(bits[resource])),
                machines_up: share(sums.up, micros(self.measured)).unwrap_or(0.0),
                memory_share: share(sums.capacity[1], totals.capacity[1]),
                unused_share: both(|resource| {
                    self.used(resource)?;
                    share(sums.unused[resource], sums.capacity[resource])
                }),
            })
            .collect();
        let key = |class: &MachineClass| {
            [class.memory_share, class.capacity.memory, class.capacity.cpu]
                .map(|amount| amount.unwrap_or(0.0))
        };
        classes.sort_by(|one, other| {
            let both = key(one).into_iter().zip(key(other));
            both.fold(std::cmp::Ordering::Equal, |order, (one, other)| {
                order.then(other.total_cmp(&one))
            })
        });
        classes
    }

    fn requests(&self) -> Option<Requests> {
        let classes = &self.totals.asked.0;
        let mut all = AskedSum::default();
        for class in classes {
            for resource in 0..2 {
                all.asked[resource] += class.asked[resource];
                all.used[resource] += class.used[resource];
                all.spare[resource] += class.spare[resource];
            }
        }
        let by_class = CLASSES.iter().zip(classes).filter(|(_, sums)| sums.asked != [0.0; 2]).map(
            |(class, sums)| AskedByClass {
                class,
                share_of_requests: both(|resource| {
                    share(sums.asked[resource], all.asked[resource])
                }),
                asked: asked(sums),
            },
        );
        (all.asked != [0.0; 2]).then(|| Requests { all: asked(&all), by_class: by_class.collect() })
    }

    fn stranded(&self) -> Option<Stranded> {
        let Self { totals, .. } = self;
        if totals.capacity[0] <= 0.0 || self.counts.measured.contains(&0) {
            return None;
        }
        let (source, allocated_by) = match self.reserved_by() {
            Some(BY_TASKS) => (BY_TASKS, Source::Tasks),
            Some(_) => (BY_USES, Source::Uses),
            None => (BY_USED, Source::Used),
        };
        let share =
            |resource: usize| share(totals.stranded[source][resource], totals.capacity[resource]);
        Some(Stranded { allocated_by, slack: self.options.slack, share: both(share) })
    }

    fn recoverable(&self, fleet: &Fleet) -> Vec<Recoverable> {
        let Self { totals, .. } = self;
        let measured = self.used(1).is_some();
        let of = |(place, fraction): (usize, &f64)| {
            let sums = totals.by_fraction[place];
            let recoverable = share(sums.recoverable, totals.capacity[1]).filter(|_| measured);
            let pooled = totals.kept_share(place).filter(|_| measured).map(|kept| Left {
                at_peak_share: 1.0 - kept.peak,
                at_p99_share: 1.0 - kept.p99,
                mean_share: 1.0 - kept.mean,
            });
            let each = totals.peaks.beyond(*fraction).zip(recoverable);
            let published = share(sums.published, totals.up);
            Recoverable {
                local_fraction: *fraction,
                cap_share: 1.0 - fraction,
                share: recoverable,
                as_published_share: published.filter(|_| measured && fleet.largest[1] <= 1.0),
                pooled,
                each_machine: each.map(|(beyond, mean_share)| Left {
                    at_peak_share: beyond.peak,
                    at_p99_share: beyond.p99,
                    mean_share,
                }),
            }
        };
        totals.fractions.iter().enumerate().map(of).collect()
    }

    fn demand(&self, resource: usize) -> Option<Levels> {
        self.used(resource)?;
        let levels = self.totals.demand(resource)?;
        Some(Levels { peak: levels.peak, p99: levels.p99, mean: levels.mean })
    }

    fn at_time(&self, point: &Point) -> AtTime {
        let time = micros(point.measured);
        let reserved = self.reserved_by().map(|source| match source {
            BY_TASKS => point.by_tasks,
            _ => point.by_uses,
        });
        AtTime {
            at_s: seconds(point.from),
            measured_s: seconds(point.measured),
            capacity: both(|resource| {
                self.capacity(resource)?;
                share(point.capacity[resource], time)
            }),
            used: both(|resource| {
                self.used(resource)?;
                share(point.used[resource], time)
            }),
            reserved: both(|resource| {
                let anywhere = self.totals.reserved[self.reserved_by()?][resource] > 0.0;
                share(reserved?[resource], time).filter(|_| anywhere)
            }),
        }
    }

    /// Whose requests are what is reserved: those of tasks where the trace has any on its machines.
    fn reserved_by(&self) -> Option<usize> {
        [BY_TASKS, BY_USES].into_iter().find(|source| self.totals.reserved[*source] != [0.0; 2])
    }

    fn capacity(&self, resource: usize) -> Option<f64> {
        Some(self.totals.capacity[resource]).filter(|capacity| *capacity > 0.0)
    }

    /// `None` where no record measures the resource, or no machine counts.
    fn used(&self, resource: usize) -> Option<f64> {
        self.capacity(resource)?;
        (self.counts.measured[resource] > 0).then_some(self.totals.used[resource])
    }

    /// A sum of amounts times microseconds, over the time measured.
    fn mean_of(&self, sum: f64) -> Option<f64> {
        share(sum, micros(self.measured))
    }
}

fn asked(sums: &AskedSum) -> Asked {
    Asked {
        unused_share: both(|resource| share(sums.spare[resource], sums.asked[resource])),
        used_share: both(|resource| share(sums.used[resource], sums.asked[resource])),
    }
}

fn both(of: impl Fn(usize) -> Option<f64>) -> Both {
    Both { cpu: of(0), memory: of(1) }
}

fn share(part: f64, all: f64) -> Option<f64> {
    (all > 0.0).then(|| part / all)
}

#[expect(clippy::cast_precision_loss, reason = "2^53 µs are 285 years")]
fn micros(time: Micros) -> f64 {
    time as f64
}
