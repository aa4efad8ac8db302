//! Traces of which every figure is known beforehand, and random ones against the reference.

mod closed;
mod edges;
mod random;

use super::{Analysis, Options};
use crate::record::{
    Amount, Class, Gauge, Machine, MachineId, Micros, Placement, Record, Task, TaskId, Use,
};
use crate::report::Report;

/// A slot of the tests: a power of two, so that every sum and mean is exact.
const SLOT: Micros = 1024;

fn options() -> Options {
    Options {
        slot: SLOT,
        window: 4,
        local_fractions: vec![0.0, 0.25, 0.5, 1.0],
        slack: 0.25,
        margin: 0.0,
    }
}

fn analysis() -> Analysis {
    Analysis::new(options()).unwrap()
}

fn report(records: &[Record]) -> Report {
    let mut analysis = analysis();
    for record in records {
        analysis.push(record);
    }
    analysis.finish()
}

/// In 1024ths.
fn amount(cpu: u32, memory: u32) -> Amount {
    Amount { cpu: Some(f64::from(cpu) / 1024.0), memory: Some(f64::from(memory) / 1024.0) }
}

fn task_id(index: u64) -> TaskId {
    TaskId { collection: 7, index }
}

fn up(at: Micros, machine: u64, capacity: Amount) -> Record {
    let machine = MachineId(machine);
    Record::Machine(Machine { at, until: None, machine, capacity: Some(capacity) })
}

fn gone(at: Micros, machine: u64) -> Record {
    Record::Machine(Machine { at, until: None, machine: MachineId(machine), capacity: None })
}

fn runs(at: Micros, task: u64, machine: u64, request: Amount) -> Record {
    let machine = Some(MachineId(machine));
    let runs = Some(Placement { machine, request, class: Some(Class::Production) });
    Record::Task(Task { at, task: task_id(task), runs })
}

fn ends(at: Micros, task: u64) -> Record {
    Record::Task(Task { at, task: task_id(task), runs: None })
}

fn sample([start, end]: [Micros; 2], machine: u64, task: u64, mean: Amount) -> Use {
    Use {
        start,
        end,
        machine: Some(MachineId(machine)),
        task: Some(task_id(task)),
        class: None,
        mean,
        memory_max: None,
        request: Amount::default(),
    }
}

fn used(span: [Micros; 2], machine: u64, task: u64, mean: Amount) -> Record {
    Record::Use(sample(span, machine, task, mean))
}

fn gauge(at: Micros, machine: u64, used: Amount) -> Record {
    Record::Gauge(Gauge { at, machine: MachineId(machine), used })
}
