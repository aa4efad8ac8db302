//! What one table's rows lack and another's say.
//!
//! Owns: the plans of tasks that may still start, the capacities of machines.
//! Knows nothing of: files.
//! Invariant: rows come in the order of time; a plan is forgotten once its time has passed.
//!
//! Memory: some 100 bytes for every task whose time has not passed, and every machine.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::formats::output::{Fault, Origin, Value};
use crate::formats::{Plan, Row};
use crate::problems::Kind;
use crate::record::{Amount, Gauge, MachineId, Micros, Record};

/// What was said so far.
#[derive(Debug, Default)]
pub(crate) struct Join {
    /// Whether some rows are shares of capacities.
    shares: bool,
    plans: HashMap<u64, Plan>,
    /// When plans are forgotten.
    ends: BinaryHeap<Reverse<(Micros, u64)>>,
    capacities: HashMap<MachineId, Amount>,
}

impl Join {
    pub(crate) fn new(shares: bool) -> Join {
        Join { shares, ..Join::default() }
    }

    /// A row with what others say; a plan is no record. A fault may come beside a record.
    #[inline]
    pub(crate) fn complete(
        &mut self,
        row: Row,
        fault: impl FnOnce(Fault, Origin),
    ) -> Option<Record> {
        match row {
            Row::Record(record) => {
                if self.shares
                    && let Record::Machine(machine) = &record
                {
                    match machine.capacity {
                        Some(capacity) => self.capacities.insert(machine.machine, capacity),
                        None => self.capacities.remove(&machine.machine),
                    };
                }
                Some(record)
            }
            Row::Plan(plan) => {
                self.forget(plan.at);
                if let Some(until) = plan.until {
                    self.ends.push(Reverse((until, plan.collection)));
                }
                self.plans.insert(plan.collection, plan);
                None
            }
            Row::Planned(mut used, origin) => {
                let plan = used.task.and_then(|task| self.plans.get(&task.collection));
                match plan {
                    Some(plan) => used.request = plan.request,
                    None => {
                        let span = Value::Span(used.start, used.end);
                        fault(Fault::new(Kind::PlanUnknown, "an instance's time", span), origin);
                    }
                }
                Some(Record::Use(used))
            }
            Row::Share(gauge, origin) => self.gauge(gauge, |it| fault(it, origin)),
        }
    }

    fn gauge(&self, gauge: Gauge, fault: impl FnOnce(Fault)) -> Option<Record> {
        let capacity = self.capacities.get(&gauge.machine).copied().unwrap_or_default();
        let used = Amount {
            cpu: gauge.used.cpu.zip(capacity.cpu).map(|(share, all)| share * all),
            memory: gauge.used.memory.zip(capacity.memory).map(|(share, all)| share * all),
        };
        if used == Amount::default() {
            fault(Fault::new(Kind::CapacityUnknown, "at microsecond", Value::Int(gauge.at)));
            return None;
        }
        Some(Record::Gauge(Gauge { used, ..gauge }))
    }

    /// Forgets the plans whose time has passed.
    fn forget(&mut self, now: Micros) {
        while let Some(&Reverse((until, collection))) = self.ends.peek()
            && until < now
        {
            self.ends.pop();
            // A plan that came again under its name has an end of its own.
            if self.plans.get(&collection).is_some_and(|plan| plan.until == Some(until)) {
                self.plans.remove(&collection);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Machine, TaskId, Use};

    fn plan(at: Micros, until: Option<Micros>, collection: u64, memory: f64) -> Row {
        let request = Amount { cpu: None, memory: Some(memory) };
        Row::Plan(Plan { at, until, collection, request })
    }

    fn instance(start: Micros, collection: u64) -> Row {
        let task = Some(TaskId { collection, index: 0 });
        let (machine, class, mean) = (None, None, Amount::default());
        let (memory_max, request) = (None, Amount::default());
        let end = start + 1;
        let used = Use { start, end, machine, task, class, mean, memory_max, request };
        Row::Planned(used, Origin(start.cast_unsigned()))
    }

    fn complete(join: &mut Join, row: Row) -> (Option<Record>, Option<Fault>) {
        let (mut found, time) = (None, row.time());
        let record = join.complete(row, |fault, origin| {
            assert_eq!(origin, Origin(time.cast_unsigned()));
            found = Some(fault);
        });
        (record, found)
    }

    fn asked(join: &mut Join, row: Row) -> Option<f64> {
        match complete(join, row) {
            (Some(Record::Use(used)), fault) => {
                assert_eq!(fault.is_some(), used.request.memory.is_none());
                used.request.memory
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plans_are_known_until_their_time_has_passed_and_no_longer() {
        let mut join = Join::default();
        assert_eq!(asked(&mut join, instance(0, 1)), None);
        complete(&mut join, plan(1, Some(5), 1, 0.5));
        complete(&mut join, plan(1, None, 2, 0.25));
        assert_eq!(asked(&mut join, instance(2, 1)), Some(0.5));
        // The same name once more, for longer.
        complete(&mut join, plan(3, Some(9), 1, 0.75));
        complete(&mut join, plan(8, Some(8), 3, 0.0));
        assert_eq!(asked(&mut join, instance(8, 1)), Some(0.75));
        complete(&mut join, plan(10, Some(10), 4, 0.0));
        assert_eq!(asked(&mut join, instance(10, 1)), None);
        assert_eq!(asked(&mut join, instance(10, 2)), Some(0.25));
        assert_eq!(join.plans.len(), 2, "of the plans that have passed none is kept");
    }

    #[test]
    fn shares_are_of_the_capacity_at_the_time() {
        let mut join = Join::new(true);
        let gauge = |at| {
            let used = Amount { cpu: Some(0.5), memory: Some(0.25) };
            Row::Share(Gauge { at, machine: MachineId(7), used }, Origin(at.cast_unsigned()))
        };
        let machine = |at, capacity| {
            Row::Record(Record::Machine(Machine {
                at,
                until: None,
                machine: MachineId(7),
                capacity,
            }))
        };
        let (none, fault) = complete(&mut join, gauge(0));
        assert!(none.is_none());
        assert_eq!(fault.unwrap().kind, Kind::CapacityUnknown);
        complete(&mut join, machine(0, Some(Amount { cpu: Some(8.0), memory: None })));
        let used = |join: &mut Join, at| match complete(join, gauge(at)) {
            (Some(Record::Gauge(gauge)), None) => gauge.used,
            other => panic!("{other:?}"),
        };
        assert_eq!(used(&mut join, 1), Amount { cpu: Some(4.0), memory: None });
        complete(&mut join, machine(2, Some(Amount { cpu: Some(2.0), memory: Some(1.0) })));
        assert_eq!(used(&mut join, 3), Amount { cpu: Some(1.0), memory: Some(0.25) });
    }
}
