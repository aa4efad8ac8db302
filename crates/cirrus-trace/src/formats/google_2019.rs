//! Google's ClusterData2019, as it is exported from BigQuery, and the flat sample of it.
//!
//! Owns: the columns of its three tables that are used, by name.
//! Knows nothing of: whether a row was CSV, JSON or Parquet.
//! Invariant: amounts are shares of the largest machine.
//!
//! Times are microseconds, with the markers of 2011: 0 before the trace, 2^63-1 after it. Amounts
//! above 1 are treated as in 2011.
//!
//! Alloc sets. An alloc set reserves room on a machine, and jobs run in that room. What such a job's
//! instances ask for is a part of the alloc set's own request: counted with it, the room would be
//! reserved twice. So the request of an instance in an alloc set is left out, and its use is kept;
//! and an alloc instance keeps its request and has no use of its own. `allocs` takes every row as
//! it stands instead.
//!
//! The request of a use record is the `resource_request` in the same row where there is one (the
//! flat sample has it), else `assigned_memory`, the limit.

use super::Row;
use super::cells::{Cell, Cells, Column};
use super::output::{AFTER_THE_END, Fault, Output, Value, interval, not_before_zero};
use crate::problems::Kind;
use crate::record::{Amount, Class, Machine, MachineId, Placement, Record, Task, TaskId, Use};

/// `collection_type` of an alloc set; a job is 0.
const ALLOC_SET: i64 = 1;

pub(crate) const MACHINE_EVENTS: &[Column] = &[
    Column::needed(&["time"]),
    Column::needed(&["machine_id"]),
    Column::needed(&["type"]),
    Column::needed(&["capacity_cpus"]),
    Column::needed(&["capacity_memory"]),
];

pub(crate) const INSTANCE_EVENTS: &[Column] = &[
    Column::needed(&["time"]),
    Column::needed(&["type"]),
    Column::needed(&["collection_id"]),
    Column::needed(&["instance_index"]),
    Column::optional(&["machine_id"]),
    Column::optional(&["alloc_collection_id"]),
    Column::optional(&["priority"]),
    Column::optional(&["resource_request_cpus"]),
    Column::needed(&["resource_request_memory"]),
];

pub(crate) const INSTANCE_USAGE: &[Column] = &[
    Column::needed(&["start_time"]),
    Column::needed(&["end_time"]),
    Column::needed(&["collection_id"]),
    Column::needed(&["instance_index"]),
    Column::optional(&["machine_id"]),
    Column::optional(&["alloc_collection_id"]),
    Column::optional(&["collection_type"]),
    Column::optional(&["average_usage_cpus", "avg_cpu"]),
    Column::needed(&["average_usage_memory", "avg_mem"]),
    Column::optional(&["maximum_usage_memory", "max_mem"]),
    Column::optional(&["assigned_memory"]),
    Column::optional(&["resource_request_cpus", "req_cpu"]),
    Column::optional(&["resource_request_memory", "req_mem"]),
    Column::optional(&["priority"]),
];

pub(crate) fn machine_event(cells: &Cells, out: &mut Output) -> Result<(), Fault> {
    let [time, machine, event, cpu, memory, ..] = *cells;
    let time = time.needed_int("time")?;
    let machine = MachineId(machine.needed_int("machine_id")?.cast_unsigned());
    let there = match event.needed_int("type")? {
        1 | 3 => true,
        2 => false,
        other => return Err(Fault::new(Kind::EventUnknown, "type", Value::Int(other))),
    };
    if time == AFTER_THE_END {
        return Ok(());
    }
    let capacity = there.then(|| Amount {
        cpu: amount(cpu, "capacity.cpus", out),
        memory: amount(memory, "capacity.memory", out),
    });
    let at = not_before_zero(time);
    out.rows.push(Row::Record(Record::Machine(Machine { at, until: None, machine, capacity })));
    Ok(())
}

pub(crate) fn instance_event(cells: &Cells, allocs: bool, out: &mut Output) -> Result<(), Fault> {
    let [time, event, collection, index, machine, alloc, priority, cpu, memory, ..] = *cells;
    let time = time.needed_int("time")?;
    let task = task(collection, index)?;
    let runs = match event.needed_int("type")? {
        // Submitted, queued, enabled, or its request changed while it waits: it runs nowhere.
        0..=2 | 9 => return Ok(()),
        3 | 10 => true,
        4..=8 => false,
        other => return Err(Fault::new(Kind::EventUnknown, "type", Value::Int(other))),
    };
    if time == AFTER_THE_END {
        return Ok(());
    }
    let runs = if runs {
        let asks = allocs || !is_in_alloc(alloc)?;
        Some(Placement {
            machine: machine_of(machine)?,
            request: Amount {
                cpu: if asks { amount(cpu, "resource_request.cpus", out) } else { None },
                memory: if asks { amount(memory, "resource_request.memory", out) } else { None },
            },
            class: class(priority)?,
        })
    } else {
        None
    };
    out.rows.push(Row::Record(Record::Task(Task { at: not_before_zero(time), task, runs })));
    Ok(())
}

pub(crate) fn instance_usage(cells: &Cells, allocs: bool, out: &mut Output) -> Result<(), Fault> {
    let [start, end, collection, index, machine, alloc, ..] = *cells;
    let [.., kind, cpu, memory, memory_max, assigned, request_cpu, request, priority, _, _] =
        *cells;
    let (start, end) = interval(start.needed_int("start_time")?, end.needed_int("end_time")?)?;
    let task = task(collection, index)?;
    let asks = allocs || !is_in_alloc(alloc)?;
    let uses = allocs || kind.int("collection_type")? != Some(ALLOC_SET);
    let assigned = amount(assigned, "assigned_memory", out);
    let asked = Amount {
        cpu: amount(request_cpu, "resource_request.cpus", out),
        memory: amount(request, "resource_request.memory", out).or(assigned),
    };
    let mean = Amount {
        cpu: amount(cpu, "average_usage.cpus", out),
        memory: amount(memory, "average_usage.memory", out),
    };
    let memory_max = amount(memory_max, "maximum_usage.memory", out);
    let used = Use {
        start,
        end,
        machine: machine_of(machine)?,
        task: Some(task),
        class: class(priority)?,
        mean: if uses { mean } else { Amount::default() },
        memory_max: if uses { memory_max } else { None },
        request: if asks { asked } else { Amount::default() },
    };
    out.rows.push(Row::Record(Record::Use(used)));
    Ok(())
}

fn task(collection: Cell, index: Cell) -> Result<TaskId, Fault> {
    Ok(TaskId {
        collection: collection.needed_int("collection_id")?.cast_unsigned(),
        index: index.needed_int("instance_index")?.cast_unsigned(),
    })
}

/// Zero and less mean that there is none, or none that is in the trace.
fn machine_of(cell: Cell) -> Result<Option<MachineId>, Fault> {
    let id = cell.int("machine_id")?.filter(|&id| id > 0);
    Ok(id.map(|id| MachineId(id.cast_unsigned())))
}

fn is_in_alloc(cell: Cell) -> Result<bool, Fault> {
    Ok(cell.int("alloc_collection_id")?.is_some_and(|id| id != 0))
}

fn class(priority: Cell) -> Result<Option<Class>, Fault> {
    Ok(priority.int("priority")?.map(|priority| match priority {
        ..=99 => Class::Free,
        100..=115 => Class::BestEffort,
        116..=119 => Class::Middle,
        120..=359 => Class::Production,
        360.. => Class::Monitoring,
    }))
}

/// An amount that may be empty; one that cannot be read is counted and left out.
fn amount(cell: Cell, column: &'static str, out: &mut Output) -> Option<f64> {
    match cell.float(column) {
        Ok(value) => out.normalised(column, value?),
        Err(fault) => {
            out.fault(fault);
            None
        }
    }
}
