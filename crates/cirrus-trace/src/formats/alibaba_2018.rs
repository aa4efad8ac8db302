//! Alibaba's cluster-trace-v2018, and the hour of it in the Python package spar.
//!
//! Owns: the columns of its four tables that are used, and of the package's two, none with a header.
//! Knows nothing of: the order of rows, which is not that of time: the reading sorts them.
//! Invariant: processors are cores, memory is a share of a machine.
//!
//! Times are seconds. The files write processors in hundredths of a core and memory in hundredths
//! of a machine; both are divided by a hundred here. `machine_usage` is in percent of the machine's
//! capacity, which `machine_meta` says. What an instance asked for is the plan of its task.

use super::fields::{Line, columns, field, float_of, needed_int};
use super::number::{SECOND, id, seconds};
use super::output::{Fault, Output, Value, interval, not_before_zero};
use super::{Plan, Row};
use crate::problems::Kind;
use crate::record::{Amount, Gauge, Machine, MachineId, Micros, Record, TaskId, Use};

pub(crate) const MACHINE_META: usize = 7;
pub(crate) const MACHINE_USAGE: usize = 9;
pub(crate) const BATCH_TASK: usize = 9;
pub(crate) const BATCH_INSTANCE: usize = 14;
pub(crate) const SPAR: usize = 7;

pub(crate) fn machine_meta(row: &Line<'_>, out: &mut Output) -> Result<(), Fault> {
    columns(row.len(), MACHINE_META)?;
    let machine = machine(row, 0)?;
    let at = not_before_zero(time(row, 1, "time_stamp")?);
    let cpu =
        float_of(field(row, 4), "cpu_num", out).and_then(|cores| out.amount("cpu_num", cores));
    let capacity = Some(Amount { cpu, memory: memory(row, 5, "mem_size", out) });
    out.rows.push(Row::Record(Record::Machine(Machine { at, until: None, machine, capacity })));
    Ok(())
}

pub(crate) fn machine_usage(row: &Line<'_>, out: &mut Output) -> Result<(), Fault> {
    columns(row.len(), MACHINE_USAGE)?;
    let machine = machine(row, 0)?;
    let at = not_before_zero(time(row, 1, "time_stamp")?);
    let used = Amount {
        cpu: percent(row, 2, "cpu_util_percent", out),
        memory: percent(row, 3, "mem_util_percent", out),
    };
    if used != Amount::default() {
        out.rows.push(Row::Share(Gauge { at, machine, used }, out.origin()));
    }
    Ok(())
}

pub(crate) fn batch_task(row: &Line<'_>, out: &mut Output) -> Result<(), Fault> {
    columns(row.len(), BATCH_TASK)?;
    let at = not_before_zero(time(row, 5, "start_time")?);
    // A task that has not ended has no end, or zero.
    let until = if field(row, 6).is_empty() { 0 } else { time(row, 6, "end_time")? };
    let request =
        Amount { cpu: cores(row, 7, "plan_cpu", out), memory: memory(row, 8, "plan_mem", out) };
    let collection = collection(field(row, 2), field(row, 0));
    out.rows.push(Row::Plan(Plan {
        at,
        until: (until >= at.max(1)).then_some(until),
        collection,
        request,
    }));
    Ok(())
}

pub(crate) fn batch_instance(row: &Line<'_>, out: &mut Output) -> Result<(), Fault> {
    columns(row.len(), BATCH_INSTANCE)?;
    let (start, end) = interval(time(row, 5, "start_time")?, time(row, 6, "end_time")?)?;
    let name = field(row, 7);
    let used = Use {
        start,
        end,
        machine: (!name.is_empty()).then(|| MachineId(id(name))),
        task: Some(TaskId {
            collection: collection(field(row, 2), field(row, 1)),
            index: id(field(row, 0)),
        }),
        class: None,
        mean: Amount {
            cpu: cores(row, 10, "cpu_avg", out),
            memory: memory(row, 12, "mem_avg", out),
        },
        memory_max: memory(row, 13, "mem_max", out),
        request: Amount::default(),
    };
    out.rows.push(Row::Planned(used, out.origin()));
    Ok(())
}

pub(crate) fn spar_task(row: &Line<'_>, out: &mut Output) -> Result<(), Fault> {
    columns(row.len(), SPAR)?;
    let at = not_before_zero(decimal_time(row, 0, "arrival")?);
    let until = at.checked_add(decimal_time(row, 3, "duration")?);
    let request =
        Amount { cpu: cores(row, 4, "plan_cpu", out), memory: memory(row, 5, "plan_mem", out) };
    let collection = collection(field(row, 1), field(row, 2));
    out.rows.push(Row::Plan(Plan { at, until, collection, request }));
    Ok(())
}

pub(crate) fn spar_instance(row: &Line<'_>, out: &mut Output) -> Result<(), Fault> {
    columns(row.len(), SPAR)?;
    let start = decimal_time(row, 0, "arrival")?;
    let (start, end) = interval(start, start.saturating_add(decimal_time(row, 4, "duration")?))?;
    let used = Use {
        start,
        end,
        machine: None,
        task: Some(TaskId {
            collection: collection(field(row, 1), field(row, 2)),
            index: id(field(row, 3)),
        }),
        class: None,
        mean: Amount { cpu: cores(row, 5, "cpu_avg", out), memory: memory(row, 6, "mem_avg", out) },
        memory_max: None,
        request: Amount::default(),
    };
    out.rows.push(Row::Planned(used, out.origin()));
    Ok(())
}

/// A task's name says which one of its job it is.
pub(crate) fn collection(job: &[u8], task: &[u8]) -> u64 {
    id(job).rotate_left(32) ^ id(task).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn machine(row: &Line<'_>, index: usize) -> Result<MachineId, Fault> {
    let name = field(row, index);
    if name.is_empty() { Err(Fault::missing("machine_id")) } else { Ok(MachineId(id(name))) }
}

fn time(row: &Line<'_>, index: usize, column: &'static str) -> Result<Micros, Fault> {
    let value = needed_int(row, index, column)?;
    value
        .checked_mul(SECOND)
        .ok_or_else(|| Fault::new(Kind::NumberUnreadable, column, Value::Int(value)))
}

fn decimal_time(row: &Line<'_>, index: usize, column: &'static str) -> Result<Micros, Fault> {
    let text = field(row, index);
    if text.is_empty() {
        return Err(Fault::missing(column));
    }
    seconds(text).ok_or_else(|| Fault::text(Kind::NumberUnreadable, column, text))
}

/// Hundredths of a core, as cores.
fn cores(row: &Line<'_>, index: usize, column: &'static str, out: &mut Output) -> Option<f64> {
    let value = float_of(field(row, index), column, out)?;
    out.amount(column, value / 100.0)
}

/// Hundredths of a machine, as a share.
fn memory(row: &Line<'_>, index: usize, column: &'static str, out: &mut Output) -> Option<f64> {
    let value = float_of(field(row, index), column, out)?;
    out.normalised(column, value / 100.0)
}

/// A share of what the machine has. The trace marks a bad measurement with -1 or 101.
fn percent(row: &Line<'_>, index: usize, column: &'static str, out: &mut Output) -> Option<f64> {
    let text = field(row, index);
    let value = float_of(text, column, out)?;
    if (0.0..=100.0).contains(&value) {
        return Some(value / 100.0);
    }
    out.fault(Fault::text(Kind::OutOfRange, column, text));
    None
}
