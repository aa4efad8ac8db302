//! Which table a file is of, told from its name or from its first row.
//!
//! Owns: what sets the tables of all formats apart.
//! Knows nothing of: how the first row was read.
//! Invariant: a row that fits no table is of none: nothing is guessed.

use std::path::Path;

use super::cells::positions;
use super::number::{float, int};
use super::{Format, Table, alibaba_2018, generic, google_2011, google_2019};

/// Tables of the formats that no figure needs.
const NOT_USED: [&str; 9] = [
    "job_events",
    "machine_attributes",
    "task_constraints",
    "collection_events",
    "container_meta",
    "container_usage",
    "container_event",
    "server_event",
    "server_usage",
];

/// What a file's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Table(Table),
    /// A table of the trace that no figure needs.
    NotUsed,
    Nothing,
}

/// Told from the name of the file, else from that of its folder: `task_usage/part-0.csv.gz`,
/// `task_usage-part-0.csv.gz`, `task_usage.csv`.
pub(crate) fn by_name(format: Format, path: &Path) -> Named {
    let names = [path.file_name(), path.parent().and_then(Path::file_name)];
    for name in names.into_iter().flatten().filter_map(|name| name.to_str()) {
        let is = |table: &str| {
            name.strip_prefix(table).is_some_and(|rest| {
                !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            })
        };
        let mut tables = Table::ALL.into_iter().filter(|table| table.format() == format);
        if let Some(table) = tables.find(|table| is(table.name())) {
            return Named::Table(table);
        }
        if NOT_USED.iter().any(|table| is(table)) {
            return Named::NotUsed;
        }
    }
    Named::Nothing
}

/// Told from the names of columns, of which every needed one is there.
pub(crate) fn by_columns<'a>(names: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Table> {
    let schemas = [
        (Table::Generic, generic::COLUMNS),
        (Table::Usage2019, google_2019::INSTANCE_USAGE),
        (Table::Instances2019, google_2019::INSTANCE_EVENTS),
        (Table::Machines2019, google_2019::MACHINE_EVENTS),
    ];
    schemas.into_iter().find(|(_, columns)| positions(columns, names.clone()).is_ok()).map(|s| s.0)
}

/// Told from the keys at the top of a JSON object, which leaves out what is null.
pub(crate) fn by_keys(has: impl Fn(&str) -> bool) -> Option<Table> {
    let all = |keys: &[&str]| keys.iter().all(|key| has(key));
    if all(&["start_time", "end_time", "collection_id", "instance_index"]) {
        Some(Table::Usage2019)
    } else if all(&["time", "type", "collection_id", "instance_index"]) {
        Some(Table::Instances2019)
    } else if all(&["time", "type", "machine_id"]) {
        Some(Table::Machines2019)
    } else {
        None
    }
}

/// Told from a row without a header: how wide it is, and which of its fields are numbers.
pub(crate) fn by_fields(row: &[&[u8]]) -> Option<Table> {
    let ints = |columns: &[usize]| columns.iter().all(|&at| int(row[at]).is_some());
    let share = |at: usize| {
        row[at].is_empty() || float(row[at]).is_some_and(|value| (0.0..=1.0).contains(&value))
    };
    let number = |at: usize| row[at].is_empty() || float(row[at]).is_some();
    let name = |at: usize| float(row[at]).is_none();
    match row.len() {
        google_2011::MACHINE_EVENTS if ints(&[0, 1, 2]) && share(4) && share(5) => {
            Some(Table::Machines2011)
        }
        google_2011::TASK_EVENTS if ints(&[0, 2, 3, 5]) => Some(Table::Tasks2011),
        google_2011::TASK_USAGE if ints(&[0, 1, 2, 3]) => Some(Table::Usage2011),
        alibaba_2018::SPAR if float(row[0]).is_some() && name(1) => {
            if float(row[3]).is_some() {
                Some(Table::SparTasks)
            } else {
                Some(Table::SparInstances)
            }
        }
        alibaba_2018::MACHINE_META if name(0) && ints(&[1]) && number(4) && number(5) => {
            Some(Table::MachineMeta)
        }
        alibaba_2018::MACHINE_USAGE if name(0) && ints(&[1]) && number(2) && number(3) => {
            Some(Table::MachineUsage)
        }
        alibaba_2018::BATCH_TASK if name(2) && ints(&[5]) && number(6) && number(7) => {
            Some(Table::BatchTask)
        }
        alibaba_2018::BATCH_INSTANCE if name(2) && ints(&[5]) && number(6) && number(10) => {
            Some(Table::BatchInstance)
        }
        _ => None,
    }
}
