//! A format of our own, for traces that have none: CSV with a header.
//!
//! Owns: its columns, by name.
//! Knows nothing of: other formats.
//! Invariant: a row says something of one machine in [time, time + duration).
//!
//! `time` and `duration` are seconds with decimals; amounts are in any unit, one for processors and
//! one for memory. A row without `task` is all that the machine uses; a row with it is what that
//! task uses there, and a capacity need stand in only one row of a machine and a time. Where
//! `memory_used` is empty nothing is known of the use: the row says that the machine is there.

use super::Row;
use super::cells::Column;
use super::fields::{self, Line, float_of};
use super::number::{id, seconds};
use super::output::{Fault, Output, interval};
use crate::problems::Kind;
use crate::record::{Amount, Class, Machine, MachineId, Micros, Record, TaskId, Use};

pub(crate) const COLUMNS: &[Column] = &[
    Column::needed(&["time"]),
    Column::needed(&["machine"]),
    Column::needed(&["memory_capacity"]),
    Column::needed(&["memory_used"]),
    Column::optional(&["cpu_capacity"]),
    Column::optional(&["cpu_used"]),
    Column::optional(&["memory_reserved"]),
    Column::optional(&["cpu_reserved"]),
    Column::optional(&["memory_max"]),
    Column::optional(&["duration"]),
    Column::optional(&["task"]),
    Column::optional(&["priority_class"]),
];

/// `slot` is how long a row holds that does not say so.
pub(crate) fn row(
    row: &Line<'_>,
    positions: &[Option<usize>],
    slot: Micros,
    out: &mut Output,
) -> Result<(), Fault> {
    let field = |column: usize| positions[column].map_or(&b""[..], |at| fields::field(row, at));
    let time = needed_seconds(field(0), "time")?;
    let duration = match field(9) {
        b"" => slot,
        text => needed_seconds(text, "duration")?,
    };
    let (start, end) = interval(time, time.saturating_add(duration))?;
    if field(1).is_empty() {
        return Err(Fault::missing("machine"));
    }
    let machine = MachineId(id(field(1)));
    let mut amount = |column: usize| {
        let name = COLUMNS[column].names[0];
        let value = float_of(field(column), name, out)?;
        out.amount(name, value)
    };
    let capacity = Amount { cpu: amount(4), memory: amount(2) };
    let mean = Amount { cpu: amount(5), memory: amount(3) };
    let request = Amount { cpu: amount(7), memory: amount(6) };
    let memory_max = amount(8);
    let is_there = capacity != Amount::default();
    let is_used = mean.memory.is_some();
    if !is_there && !is_used {
        return Err(Fault::missing("memory_used"));
    }
    if is_there {
        let capacity = Some(capacity);
        out.rows.push(Row::Record(Record::Machine(Machine {
            at: start,
            until: Some(end),
            machine,
            capacity,
        })));
    }
    if is_used {
        let task = match field(10) {
            b"" => None,
            name => Some(TaskId { collection: id(name), index: 0 }),
        };
        let class = class(field(11), out);
        let machine = Some(machine);
        out.rows.push(Row::Record(Record::Use(Use {
            start,
            end,
            machine,
            task,
            class,
            mean,
            memory_max,
            request,
        })));
    }
    Ok(())
}

fn needed_seconds(text: &[u8], column: &'static str) -> Result<Micros, Fault> {
    if text.is_empty() {
        return Err(Fault::missing(column));
    }
    seconds(text).ok_or_else(|| Fault::text(Kind::NumberUnreadable, column, text))
}

fn class(text: &[u8], out: &mut Output) -> Option<Class> {
    match text {
        b"" => None,
        b"free" => Some(Class::Free),
        b"best-effort" => Some(Class::BestEffort),
        b"middle" => Some(Class::Middle),
        b"production" => Some(Class::Production),
        b"monitoring" => Some(Class::Monitoring),
        other => {
            out.fault(Fault::text(Kind::ClassUnknown, "priority_class", other));
            None
        }
    }
}
