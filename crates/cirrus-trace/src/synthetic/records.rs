//! What an event of the cluster is as records, in every layout.
//!
//! Owns: ids.
//! Knows nothing of: files and columns.
//! Invariant: the ids here are those that the names in the files are read as.

use std::collections::VecDeque;

use super::Layout;
use super::model::{Change, Event, Model, Sample, Units};
use super::rows::Field;
use crate::formats::alibaba_2018::collection;
use crate::formats::number::id;
use crate::record::{Amount, Gauge, Machine, MachineId, Placement, Record, Task, TaskId, Use};

/// Ids as large as Google's.
pub(super) const MACHINES: u64 = 4_000_000_000;
const JOBS: u64 = 6_000_000_000;

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn exact(units: u64) -> f64 {
    units as f64 / 1024.0
}

fn amount(units: Units) -> Amount {
    Amount { cpu: Some(exact(units.cpu)), memory: Some(exact(units.memory)) }
}

pub(super) fn machine_name(machine: u32) -> Field {
    Field::Name("m_", u64::from(machine) + 1)
}

/// The job and index of a task.
pub(super) fn job(model: &Model, task: u32) -> (u64, u64) {
    (u64::from(task / model.scenario.tasks), u64::from(task % model.scenario.tasks))
}

fn machine_id(model: &Model, machine: u32) -> MachineId {
    match model.layout {
        Layout::Google2011 | Layout::Google2019(_) => MachineId(MACHINES + u64::from(machine)),
        Layout::Alibaba2018 | Layout::Spar | Layout::Generic => {
            let mut name = Vec::new();
            machine_name(machine).write(&mut name);
            MachineId(id(&name))
        }
    }
}

pub(super) fn task_id(model: &Model, task: u32, tick: u32) -> TaskId {
    let (of_job, index) = job(model, task);
    let name = |field: Field| {
        let mut name = Vec::new();
        field.write(&mut name);
        name
    };
    match model.layout {
        Layout::Google2011 | Layout::Google2019(_) => TaskId { collection: JOBS + of_job, index },
        Layout::Alibaba2018 | Layout::Spar => TaskId {
            collection: collection(
                &name(Field::Name("j_", of_job)),
                &name(Field::Name("M", index)),
            ),
            index: id(&name(Field::Name("ins_", u64::from(tick)))),
        },
        Layout::Generic => {
            TaskId { collection: id(&name(Field::Name("task-", u64::from(task)))), index: 0 }
        }
    }
}

/// The records that an event is read as.
pub(super) fn records(model: &Model, tick: u32, event: &Event, to: &mut VecDeque<Record>) {
    let at = model.time(tick);
    match *event {
        Event::Machine { machine, now, .. } => {
            let machine = machine_id(model, machine);
            let capacity = now.map(amount);
            to.push_back(Record::Machine(Machine { at, until: None, machine, capacity }));
        }
        Event::Plan { .. } => {}
        Event::Task { machine, task, change, request } => {
            let runs = (change != Change::Ends).then(|| Placement {
                machine: Some(machine_id(model, machine)),
                request: amount(request),
                class: model.class(task),
            });
            let task = task_id(model, task, tick);
            to.push_back(Record::Task(Task { at, task, runs }));
        }
        Event::Gauge { machine, share, capacity } => {
            let used = Amount {
                cpu: Some(exact(share.cpu) * exact(capacity.cpu)),
                memory: Some(exact(share.memory) * exact(capacity.memory)),
            };
            to.push_back(Record::Gauge(Gauge { at, machine: machine_id(model, machine), used }));
        }
        Event::Sample { machine, sample } => {
            to.push_back(Record::Use(used(model, machine, &sample)));
        }
        Event::Row { machine, capacity, sample } => {
            if let Some((units, end)) = capacity {
                to.push_back(Record::Machine(Machine {
                    at,
                    until: Some(model.time(end)),
                    machine: machine_id(model, machine),
                    capacity: Some(amount(units)),
                }));
            }
            if let Some(sample) = sample {
                to.push_back(Record::Use(used(model, machine, &sample)));
            }
        }
    }
}

fn used(model: &Model, machine: u32, sample: &Sample) -> Use {
    let layout = model.layout;
    let is_google = matches!(layout, Layout::Google2011 | Layout::Google2019(_));
    Use {
        start: model.time(sample.start),
        end: model.time(sample.end),
        machine: (layout != Layout::Spar).then(|| machine_id(model, machine)),
        task: Some(task_id(model, sample.task, sample.start)),
        class: if layout == Layout::Generic { model.class(sample.task) } else { None },
        mean: amount(sample.mean),
        memory_max: (layout != Layout::Spar).then(|| exact(sample.memory_max)),
        request: if is_google {
            Amount { cpu: None, memory: Some(exact(sample.assigned)) }
        } else {
            amount(sample.request)
        },
    }
}
