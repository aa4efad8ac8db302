//! Google's ClusterData2011_2.
//!
//! Owns: its three tables that are used, none with a header.
//! Knows nothing of: where rows come from.
//! Invariant: amounts are shares of the largest machine.
//!
//! Times are microseconds. An event at 0 happened before the trace: it is the state at the start.
//! One at 2^63-1 happened after the end: it says nothing of the trace and makes no record.
//!
//! The published analysis dropped amounts outside of [0, 1]. Here one above 1 and up to 16 is
//! counted as a problem and used, since use may exceed the largest machine's capacity for a while;
//! only a negative, infinite or still larger one is left out, as a value: the row stays.
//!
//! The request of a use record is `assigned memory`, column 7, the limit that was enforced; the
//! record of the task, where the trace has it, says what was asked for.

use super::Row;
use super::fields::{Line, columns, field, float_of, needed_id, needed_int, optional_id};
use super::number::int;
use super::output::{AFTER_THE_END, Fault, Output, Value, interval, not_before_zero};
use crate::problems::Kind;
use crate::record::{
    Amount, Class, Machine, MachineId, Micros, Placement, Record, Task, TaskId, Use,
};

pub(crate) const MACHINE_EVENTS: usize = 6;
pub(crate) const TASK_EVENTS: usize = 13;
pub(crate) const TASK_USAGE: usize = 20;

pub(crate) fn machine_event(row: &Line<'_>, out: &mut Output) -> Result<(), Fault> {
    columns(row.len(), MACHINE_EVENTS)?;
    let time = needed_int(row, 0, "time")?;
    let machine = MachineId(needed_id(row, 1, "machine ID")?);
    let there = match needed_int(row, 2, "event type")? {
        0 | 2 => true,
        1 => false,
        other => return Err(Fault::new(Kind::EventUnknown, "event type", Value::Int(other))),
    };
    if time == AFTER_THE_END {
        return Ok(());
    }
    let capacity = there.then(|| Amount {
        cpu: amount(row, 4, "CPUs", out),
        memory: amount(row, 5, "memory", out),
    });
    let at = not_before_zero(time);
    out.rows.push(Row::Record(Record::Machine(Machine { at, until: None, machine, capacity })));
    Ok(())
}

pub(crate) fn task_event(row: &Line<'_>, out: &mut Output) -> Result<(), Fault> {
    columns(row.len(), TASK_EVENTS)?;
    let time = needed_int(row, 0, "time")?;
    let task = TaskId {
        collection: needed_id(row, 2, "job ID")?,
        index: needed_id(row, 3, "task index")?,
    };
    let runs = match needed_int(row, 5, "event type")? {
        // Submitted, or its request changed while it waits: it runs nowhere.
        0 | 7 => return Ok(()),
        1 | 8 => true,
        2..=6 => false,
        other => return Err(Fault::new(Kind::EventUnknown, "event type", Value::Int(other))),
    };
    if time == AFTER_THE_END {
        return Ok(());
    }
    let runs = if runs { Some(placement(row, out)?) } else { None };
    out.rows.push(Row::Record(Record::Task(Task { at: not_before_zero(time), task, runs })));
    Ok(())
}

fn placement(row: &Line<'_>, out: &mut Output) -> Result<Placement, Fault> {
    Ok(Placement {
        machine: optional_id(row, 4, "machine ID")?.map(MachineId),
        request: Amount {
            cpu: amount(row, 9, "CPU request", out),
            memory: amount(row, 10, "memory request", out),
        },
        class: class(field(row, 8), out),
    })
}

fn class(text: &[u8], out: &mut Output) -> Option<Class> {
    if text.is_empty() {
        return None;
    }
    match int(text) {
        Some(0..=1) => Some(Class::Free),
        Some(2..=8) => Some(Class::Middle),
        Some(9..=10) => Some(Class::Production),
        Some(11) => Some(Class::Monitoring),
        _ => {
            out.fault(Fault::text(Kind::ClassUnknown, "priority", text));
            None
        }
    }
}

pub(crate) fn task_usage(row: &Line<'_>, out: &mut Output) -> Result<(), Fault> {
    columns(row.len(), TASK_USAGE)?;
    let start: Micros = needed_int(row, 0, "start time")?;
    let (start, end) = interval(start, needed_int(row, 1, "end time")?)?;
    let task = TaskId {
        collection: needed_id(row, 2, "job ID")?,
        index: needed_id(row, 3, "task index")?,
    };
    let used = Use {
        start,
        end,
        machine: optional_id(row, 4, "machine ID")?.map(MachineId),
        task: Some(task),
        class: None,
        mean: Amount {
            cpu: amount(row, 5, "CPU rate", out),
            memory: amount(row, 6, "canonical memory usage", out),
        },
        memory_max: amount(row, 10, "maximum memory usage", out),
        request: Amount { cpu: None, memory: amount(row, 7, "assigned memory usage", out) },
    };
    out.rows.push(Row::Record(Record::Use(used)));
    Ok(())
}

#[inline]
fn amount(row: &Line<'_>, index: usize, column: &'static str, out: &mut Output) -> Option<f64> {
    let value = float_of(field(row, index), column, out)?;
    out.normalised(column, value)
}
