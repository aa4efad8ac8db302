//! The formats of traces: what their files are called, and what a row of each means.
//!
//! Owns: columns, units, markers, priorities of every format; one file a format.
//! Knows nothing of: files, compression, threads, figures.
//! Invariant: a row becomes records whose invariants hold, or is counted as a problem.

pub(crate) mod alibaba_2018;
pub(crate) mod cells;
pub(crate) mod fields;
pub(crate) mod generic;
pub(crate) mod google_2011;
pub(crate) mod google_2019;
pub(crate) mod number;
pub(crate) mod output;
pub(crate) mod recognise;

use std::fmt;
use std::str::FromStr;

use self::output::Origin;
use crate::record::{Gauge, Record, Use};

/// A format of traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Google's ClusterData2011_2: part-*.csv.gz, no header.
    Google2011,
    /// Google's ClusterData2019 as it is exported: CSV with a header, JSON lines or Parquet.
    Google2019,
    /// Alibaba's cluster-trace-v2018, or the samples of it in the Python package spar.
    Alibaba2018,
    /// CSV with a header of our own: one row for a machine, or a task, and a while.
    Generic,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 4] =
        [Format::Google2011, Format::Google2019, Format::Alibaba2018, Format::Generic];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::Google2011 => "google-2011",
            Format::Google2019 => "google-2019",
            Format::Alibaba2018 => "alibaba-2018",
            Format::Generic => "generic",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Format, String> {
        Format::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let names = Format::ALL.map(Format::name).join(", ");
            format!("there is no format \"{name}\": say one of {names}")
        })
    }
}

/// A table of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Table {
    /// google-2011: machine_events.
    Machines2011,
    /// google-2011: task_events.
    Tasks2011,
    /// google-2011: task_usage.
    Usage2011,
    /// google-2019: machine_events.
    Machines2019,
    /// google-2019: instance_events.
    Instances2019,
    /// google-2019: instance_usage, or the flat sample of it.
    Usage2019,
    /// alibaba-2018: machine_meta.
    MachineMeta,
    /// alibaba-2018: batch_task.
    BatchTask,
    /// alibaba-2018: sample_tasks of the package spar.
    SparTasks,
    /// alibaba-2018: machine_usage.
    MachineUsage,
    /// alibaba-2018: batch_instance.
    BatchInstance,
    /// alibaba-2018: sample_instances of the package spar.
    SparInstances,
    /// The one table of the generic format.
    Generic,
}

impl Table {
    pub(crate) const ALL: [Table; 13] = [
        Table::Machines2011,
        Table::Tasks2011,
        Table::Usage2011,
        Table::Machines2019,
        Table::Instances2019,
        Table::Usage2019,
        Table::MachineMeta,
        Table::BatchTask,
        Table::SparTasks,
        Table::MachineUsage,
        Table::BatchInstance,
        Table::SparInstances,
        Table::Generic,
    ];

    /// The format that it belongs to.
    #[must_use]
    pub fn format(self) -> Format {
        match self {
            Table::Machines2011 | Table::Tasks2011 | Table::Usage2011 => Format::Google2011,
            Table::Machines2019 | Table::Instances2019 | Table::Usage2019 => Format::Google2019,
            Table::MachineMeta
            | Table::BatchTask
            | Table::SparTasks
            | Table::MachineUsage
            | Table::BatchInstance
            | Table::SparInstances => Format::Alibaba2018,
            Table::Generic => Format::Generic,
        }
    }

    /// Its name in its format.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Table::Machines2011 | Table::Machines2019 => "machine_events",
            Table::Tasks2011 => "task_events",
            Table::Usage2011 => "task_usage",
            Table::Instances2019 => "instance_events",
            Table::Usage2019 => "instance_usage",
            Table::MachineMeta => "machine_meta",
            Table::BatchTask => "batch_task",
            Table::SparTasks => "sample_tasks",
            Table::MachineUsage => "machine_usage",
            Table::BatchInstance => "batch_instance",
            Table::SparInstances => "sample_instances",
            Table::Generic => "generic",
        }
    }

    /// At the same time machines come before tasks, and tasks before what is used.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Table::Machines2011 | Table::Machines2019 | Table::MachineMeta => 0,
            Table::Tasks2011 | Table::Instances2019 | Table::BatchTask | Table::SparTasks => 1,
            Table::Usage2011
            | Table::Usage2019
            | Table::MachineUsage
            | Table::BatchInstance
            | Table::SparInstances
            | Table::Generic => 2,
        }
    }
}

/// What a row says before what other tables say is added to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Row {
    /// Complete.
    Record(Record),
    /// What the instances of a task asked for.
    Plan(Plan),
    /// An instance's use, to which the request in the [`Plan`] of `task.collection` is added.
    Planned(Use, Origin),
    /// The amounts are shares of the machine's capacity.
    Share(Gauge, Origin),
}

/// What every instance of a task asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) at: crate::record::Micros,
    /// When the last instance has started; `None`: unknown.
    pub(crate) until: Option<crate::record::Micros>,
    pub(crate) collection: u64,
    pub(crate) request: crate::record::Amount,
}

impl Row {
    pub(crate) fn time(&self) -> crate::record::Micros {
        match self {
            Row::Record(record) => record.time(),
            Row::Plan(plan) => plan.at,
            Row::Planned(used, _) => used.start,
            Row::Share(gauge, _) => gauge.at,
        }
    }
}
