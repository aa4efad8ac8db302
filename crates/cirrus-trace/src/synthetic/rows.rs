//! What an event of the cluster is as the fields of a row, in every layout.
//!
//! Owns: event numbers, the order of columns.
//! Knows nothing of: files.
//! Invariant: the fields of an event, read back, are its records.

use std::io::Write;

use super::Layout;
use super::model::{Change, Event, Model, Units};
use super::records::{MACHINES, job, machine_name, task_id};
use crate::formats::number::SECOND;
use crate::record::{Class, TaskId};

/// A table of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Machines,
    Tasks,
    Usage,
    Gauges,
}

/// A field of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Field {
    Empty,
    Text(&'static str),
    /// A name that ends with a number.
    Name(&'static str, u64),
    Int(i64),
    /// An amount in 1/1024.
    Units(u64),
    /// An amount in 1/1024, written in hundredths.
    Hundredths(u64),
    /// Microseconds, written in seconds.
    Seconds(i64),
}

impl Field {
    pub(super) fn write(self, text: &mut Vec<u8>) {
        // A Vec takes every write.
        let _written = match self {
            Field::Empty => Ok(()),
            Field::Text(word) => text.write_all(word.as_bytes()),
            Field::Name(word, number) => write!(text, "{word}{number}"),
            Field::Int(value) => write!(text, "{value}"),
            // 1/1024 is 0.0009765625.
            Field::Units(units) => decimal(units * 9_765_625, 10, text),
            Field::Hundredths(units) => decimal(units * 9_765_625, 8, text),
            Field::Seconds(micros) => decimal(micros.unsigned_abs(), 6, text),
        };
    }
}

/// `value` / 10^`places`, without zeros at the end.
fn decimal(value: u64, places: usize, text: &mut Vec<u8>) -> std::io::Result<()> {
    let scale = 10u64.pow(u32::try_from(places).unwrap_or(0));
    write!(text, "{}", value / scale)?;
    let (mut part, mut places) = (value % scale, places);
    while part > 0 && part.is_multiple_of(10) {
        (part, places) = (part / 10, places - 1);
    }
    if part > 0 { write!(text, ".{part:0places$}") } else { Ok(()) }
}

/// The fields of an event's row, and the table that it is of.
pub(super) fn fields(model: &Model, tick: u32, event: &Event, row: &mut Vec<Field>) -> Kind {
    row.clear();
    match model.layout {
        Layout::Google2011 => google_2011(model, tick, event, row),
        Layout::Google2019(_) => google_2019(model, tick, event, row),
        Layout::Alibaba2018 => alibaba(model, tick, event, row),
        Layout::Spar => spar(model, event, row),
        Layout::Generic => generic(model, tick, event, row),
    }
}

fn int(value: u64) -> Field {
    Field::Int(value.cast_signed())
}

/// Capacities as two fields, empty ones if there are none.
fn pair(units: Option<Units>) -> [Field; 2] {
    units.map_or([Field::Empty; 2], |u| [Field::Units(u.cpu), Field::Units(u.memory)])
}

/// Whichever of three numbers the event of a machine has.
fn machine_event(before: Option<Units>, now: Option<Units>, numbers: [i64; 3]) -> Field {
    let [add, remove, update] = numbers;
    Field::Int(match (before, now) {
        (None, _) => add,
        (_, None) => remove,
        (Some(_), Some(_)) => update,
    })
}

fn google_2011(model: &Model, tick: u32, event: &Event, row: &mut Vec<Field>) -> Kind {
    let at = Field::Int(model.time(tick));
    match *event {
        Event::Machine { machine, before, now } => {
            row.extend([at, int(MACHINES + u64::from(machine))]);
            row.extend([machine_event(before, now, [0, 1, 2]), Field::Text("HofLGzk1Or/8=")]);
            row.extend(pair(now.or(before)));
            Kind::Machines
        }
        Event::Task { machine, task, change, request } => {
            let TaskId { collection, index } = task_id(model, task, tick);
            let event = match change {
                Change::Starts => 1,
                Change::Updates => 8,
                Change::Ends => 2,
            };
            let priority = match model.class(task) {
                None | Some(Class::Free) => 1,
                Some(Class::BestEffort | Class::Middle) => 4,
                Some(Class::Production) => 9,
                Some(Class::Monitoring) => 11,
            };
            row.extend([at, Field::Empty, int(collection), int(index)]);
            row.extend([int(MACHINES + u64::from(machine)), Field::Int(event)]);
            row.extend([Field::Text("70s3v5qRyCO/1="), Field::Int(3), Field::Int(priority)]);
            row.extend(pair(Some(request)));
            row.extend([Field::Text("0.0004244"), Field::Int(0)]);
            Kind::Tasks
        }
        Event::Sample { machine, sample } => {
            let TaskId { collection, index } = task_id(model, sample.task, tick);
            row.extend([at, Field::Int(model.time(sample.end)), int(collection), int(index)]);
            row.push(int(MACHINES + u64::from(machine)));
            row.extend(pair(Some(sample.mean)));
            row.extend([Field::Units(sample.assigned), Field::Text("0.001156")]);
            row.extend([Field::Text("0.001503"), Field::Units(sample.memory_max)]);
            row.extend(
                ["2.861e-06", "0.0001869", "0.03967", "0.0003567", "2.445"].map(Field::Text),
            );
            row.extend(["0.007243", "0", "1", "0"].map(Field::Text));
            Kind::Usage
        }
        // This layout has no such events.
        Event::Plan { .. } | Event::Gauge { .. } | Event::Row { .. } => Kind::Gauges,
    }
}

/// The columns of google-2019, in the order of the fields below.
pub(super) fn google_2019_columns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Machines => {
            &["time", "machine_id", "type", "platform_id", "capacity.cpus", "capacity.memory"]
        }
        Kind::Tasks => &[
            "time",
            "type",
            "collection_id",
            "scheduling_class",
            "collection_type",
            "priority",
            "alloc_collection_id",
            "instance_index",
            "machine_id",
            "resource_request.cpus",
            "resource_request.memory",
        ],
        Kind::Usage | Kind::Gauges => &[
            "start_time",
            "end_time",
            "collection_id",
            "instance_index",
            "machine_id",
            "alloc_collection_id",
            "collection_type",
            "average_usage.cpus",
            "average_usage.memory",
            "maximum_usage.cpus",
            "maximum_usage.memory",
            "assigned_memory",
            "sample_rate",
        ],
    }
}

fn google_2019(model: &Model, tick: u32, event: &Event, row: &mut Vec<Field>) -> Kind {
    let at = Field::Int(model.time(tick));
    match *event {
        Event::Machine { machine, before, now } => {
            row.extend([at, int(MACHINES + u64::from(machine))]);
            row.extend([machine_event(before, now, [1, 2, 3]), Field::Text("JQ1tVQBMHBAIISU=")]);
            row.extend(pair(now));
            Kind::Machines
        }
        Event::Task { machine, task, change, request } => {
            let TaskId { collection, index } = task_id(model, task, tick);
            let event = match change {
                Change::Starts => 3,
                Change::Updates => 10,
                Change::Ends => 4,
            };
            let priority = match model.class(task) {
                None | Some(Class::Free) => 25,
                Some(Class::BestEffort) => 103,
                Some(Class::Middle) => 117,
                Some(Class::Production) => 200,
                Some(Class::Monitoring) => 360,
            };
            row.extend([at, Field::Int(event), int(collection), Field::Int(2), Field::Int(0)]);
            row.extend([Field::Int(priority), Field::Int(0), int(index)]);
            row.push(int(MACHINES + u64::from(machine)));
            row.extend(pair(Some(request)));
            Kind::Tasks
        }
        Event::Sample { machine, sample } => {
            let TaskId { collection, index } = task_id(model, sample.task, tick);
            row.extend([at, Field::Int(model.time(sample.end)), int(collection), int(index)]);
            row.extend([int(MACHINES + u64::from(machine)), Field::Int(0), Field::Int(0)]);
            row.extend(pair(Some(sample.mean)));
            row.extend([Field::Empty, Field::Units(sample.memory_max)]);
            row.extend([Field::Units(sample.assigned), Field::Units(1024)]);
            Kind::Usage
        }
        Event::Plan { .. } | Event::Gauge { .. } | Event::Row { .. } => Kind::Gauges,
    }
}

fn hundredths(units: Units) -> [Field; 2] {
    [Field::Hundredths(units.cpu), Field::Hundredths(units.memory)]
}

fn alibaba(model: &Model, tick: u32, event: &Event, row: &mut Vec<Field>) -> Kind {
    let seconds = |tick: u32| Field::Int(model.time(tick) / SECOND);
    match *event {
        Event::Machine { machine, now, .. } => {
            let units = now.unwrap_or(Units { cpu: 0, memory: 0 });
            row.extend([machine_name(machine), seconds(tick), Field::Int(1), Field::Int(2)]);
            row.extend([Field::Units(units.cpu), Field::Hundredths(units.memory)]);
            row.push(Field::Text("USING"));
            Kind::Machines
        }
        Event::Plan { task, request } => {
            let (of_job, index) = job(model, task);
            // Some tasks have not ended by the end of the trace.
            let end = if task % 5 == 1 { Field::Int(0) } else { seconds(model.ticks()) };
            row.extend([Field::Name("M", index), Field::Int(1), Field::Name("j_", of_job)]);
            row.extend([Field::Int(1), Field::Text("Terminated"), Field::Int(0), end]);
            row.extend(hundredths(request));
            Kind::Tasks
        }
        Event::Gauge { machine, share, .. } => {
            row.extend([machine_name(machine), seconds(tick)]);
            row.extend(hundredths(share));
            row.extend([Field::Empty, Field::Empty]);
            row.extend(["43.04", "33.08", "5"].map(Field::Text));
            Kind::Gauges
        }
        Event::Sample { machine, sample } => {
            let (of_job, index) = job(model, sample.task);
            row.extend([Field::Name("ins_", u64::from(sample.start)), Field::Name("M", index)]);
            row.extend([Field::Name("j_", of_job), Field::Int(1), Field::Text("Terminated")]);
            row.extend([seconds(tick), seconds(sample.end), machine_name(machine)]);
            row.extend([Field::Int(1), Field::Int(1)]);
            row.extend([Field::Hundredths(sample.mean.cpu), Field::Empty]);
            row.extend([sample.mean.memory, sample.memory_max].map(Field::Hundredths));
            Kind::Usage
        }
        Event::Task { .. } | Event::Row { .. } => Kind::Gauges,
    }
}

fn spar(model: &Model, event: &Event, row: &mut Vec<Field>) -> Kind {
    match *event {
        Event::Plan { task, request } => {
            let (of_job, index) = job(model, task);
            row.extend([Field::Int(0), Field::Name("j_", of_job), Field::Name("M", index)]);
            row.push(Field::Seconds(model.time(model.ticks())));
            row.extend(hundredths(request));
            row.push(Field::Int(1));
            Kind::Tasks
        }
        Event::Sample { sample, .. } => {
            let (of_job, index) = job(model, sample.task);
            row.push(Field::Seconds(model.time(sample.start)));
            row.extend([Field::Name("j_", of_job), Field::Name("M", index)]);
            row.push(Field::Name("ins_", u64::from(sample.start)));
            row.push(Field::Seconds(model.time(sample.end - sample.start)));
            row.extend(hundredths(sample.mean));
            Kind::Usage
        }
        Event::Machine { .. } | Event::Gauge { .. } | Event::Task { .. } | Event::Row { .. } => {
            Kind::Gauges
        }
    }
}

/// The header of the generic format, in the order of the fields below.
pub(super) const GENERIC: [&str; 12] = [
    "time",
    "duration",
    "machine",
    "task",
    "priority_class",
    "cpu_capacity",
    "memory_capacity",
    "cpu_used",
    "memory_used",
    "memory_max",
    "cpu_reserved",
    "memory_reserved",
];

fn generic(model: &Model, tick: u32, event: &Event, row: &mut Vec<Field>) -> Kind {
    let Event::Row { machine, capacity, sample } = *event else { return Kind::Gauges };
    let end = sample.map(|s| s.end).or(capacity.map(|(_, end)| end)).unwrap_or(tick);
    row.push(Field::Seconds(model.time(tick)));
    // A row without a duration holds for a slot.
    let whole = end - tick == super::model::TICKS;
    row.push(if whole { Field::Empty } else { Field::Seconds(model.time(end - tick)) });
    row.push(machine_name(machine));
    if let Some(sample) = sample {
        row.push(Field::Name("task-", u64::from(sample.task)));
        row.push(Field::Text(match model.class(sample.task) {
            None => "",
            Some(Class::Free) => "free",
            Some(Class::BestEffort) => "best-effort",
            Some(Class::Middle) => "middle",
            Some(Class::Production) => "production",
            Some(Class::Monitoring) => "monitoring",
        }));
    } else {
        row.extend([Field::Empty; 2]);
    }
    row.extend(pair(capacity.map(|(units, _)| units)));
    row.extend(pair(sample.map(|s| s.mean)));
    row.push(sample.map_or(Field::Empty, |s| Field::Units(s.memory_max)));
    row.extend(pair(sample.map(|s| s.request)));
    Kind::Usage
}
