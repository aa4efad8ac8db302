//! What a trace says: the figures, for people and for programs.
//!
//! Owns [`Report`], whose JSON is what `--json` prints, [`answer`] and [`details`]. Knows nothing of records and of
//! slots.
//! Invariant: a figure that a trace cannot give is `None`, never 0.

mod sentences;
mod tables;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use serde::Serialize;

pub(crate) use sentences::sentences;
pub(crate) use tables::{Table, tables};
pub use text::{answer, details};

/// The figures of a trace. Shares are between 0 and 1; amounts are in the trace's own units.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// What was read.
    pub trace: Trace,
    /// Means over the trace: capacity, use, requests.
    pub mean: Mean,
    /// By capacity of machines, most memory first.
    pub machine_classes: Vec<MachineClass>,
    /// Requests against use, sample by sample.
    pub requests: Option<Requests>,
    /// What no task can have, because the other resource is spoken for.
    pub stranded: Option<Stranded>,
    /// By the share of its memory that a machine keeps for itself.
    pub recoverable: Vec<Recoverable>,
    /// On how few machines the tasks of a moment would go.
    pub achievable: Vec<Achievable>,
    /// What all machines used together.
    pub demand: Demand,
    /// How long a point of `over_time` is: a slot, or in a trace of more than 5,000 slots as many of
    /// them, a power of two, as make the points no more than that. All other figures are of slots.
    pub over_time_step_s: f64,
    /// The cluster's totals, point by point; where nothing was measured there is none.
    pub over_time: Vec<AtTime>,
}

/// Processors and memory; `None` where the trace leaves one out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Both {
    /// Processors.
    pub cpu: Option<f64>,
    /// Memory.
    pub memory: Option<f64>,
}

/// What was read, what it covers, and what could not be counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Trace {
    /// When the first use was measured, in seconds of the trace.
    pub first_s: Option<f64>,
    /// When the last one was.
    pub last_s: Option<f64>,
    /// The time in which anything was measured: figures are of this time.
    pub measured_s: f64,
    /// The length of a slot.
    pub slot_s: f64,
    /// Slots in which anything was measured.
    pub slots: usize,
    /// Machines whose memory was ever known.
    pub machines: u64,
    /// Machines that are named but whose memory never was.
    pub machines_without_memory: u64,
    /// The mean number of machines that were up with their memory known.
    pub machines_up: f64,
    /// The largest capacity of any machine.
    pub largest_machine: Both,
    /// The share of use that was on no machine that counts: not up, of unknown memory, or not named.
    pub use_left_out_share: Both,
    /// Records of machines.
    pub machine_records: u64,
    /// Records of tasks.
    pub task_records: u64,
    /// Records of use.
    pub use_records: u64,
    /// Gauges.
    pub gauge_records: u64,
    /// Records of use that name no machine.
    pub uses_without_machine: u64,
    /// Records of use that leave out memory: counted as none.
    pub uses_without_memory: u64,
    /// Records of use that leave out processors: counted as none.
    pub uses_without_cpu: u64,
    /// Tasks that ended without having started.
    pub tasks_ended_without_start: u64,
    /// What came too late to be counted.
    pub late: Late,
}

/// Records that came after their slot had closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Late {
    /// Records of use, of which some or all was lost.
    pub uses: u64,
    /// The time of use that was lost, over all of them.
    pub use_lost_s: f64,
    /// Gauges, which were lost.
    pub gauges: u64,
    /// Records of machines; each counts from the first open slot on.
    pub machines: u64,
    /// By how much they came too late, over all of them.
    pub machine_lost_s: f64,
    /// Records of tasks; each counts from the first open slot on.
    pub tasks: u64,
    /// By how much they came too late, over all of them.
    pub task_lost_s: f64,
    /// Records whose times are more than 36,000 years off, or samples longer than 200,000 slots:
    /// not counted.
    pub not_believed: u64,
}

/// Means over the measured time, and shares of capacity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Mean {
    /// The capacity that was up.
    pub capacity: Both,
    /// What was used of it.
    pub used: Both,
    /// What was reserved.
    pub reserved: Both,
    /// Capacity that was not used, of all capacity: machine by machine, never below 0.
    pub unused_share: Both,
    /// What was reserved, of all capacity.
    pub reserved_share: Both,
    /// Where requests come from.
    pub reserved_by: Option<Source>,
}

/// Where a trace says what tasks ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Records of tasks that run.
    Tasks,
    /// Requests beside what was used.
    Uses,
    /// Nothing says: what was used is taken for what was asked.
    Used,
}

/// Machines of one capacity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MachineClass {
    /// The capacity of each.
    pub capacity: Both,
    /// The mean number that was up.
    pub machines_up: f64,
    /// Of all memory, the share that these machines have.
    pub memory_share: Option<f64>,
    /// The share of theirs that was not used.
    pub unused_share: Both,
}

/// Requests against use.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Requests {
    /// All samples with a request.
    pub all: Asked,
    /// By how much the tasks matter; those that do not say are not in it.
    pub by_class: Vec<AskedByClass>,
}

/// Requests of a class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AskedByClass {
    /// free, best_effort, middle, production, monitoring.
    pub class: &'static str,
    /// Its share of all that was requested.
    pub share_of_requests: Both,
    /// Its requests.
    #[serde(flatten)]
    pub asked: Asked,
}

/// Requests of some samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Asked {
    /// Reserved but not used, of what was reserved: sample by sample, never below 0.
    pub unused_share: Both,
    /// Used over reserved; above 1 where tasks use more than they asked for.
    pub used_share: Both,
}

/// What no task can have, because the other resource is spoken for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stranded {
    /// What is taken for allocated.
    pub allocated_by: Source,
    /// The other resource is spoken for when no more than this share of it is left.
    pub slack: f64,
    /// Of all capacity of each resource.
    pub share: Both,
}

/// What machines could lend that keep a share of their memory for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Recoverable {
    /// The share of its memory that each machine keeps, L.
    pub local_fraction: f64,
    /// 1 - L: no figure beside can be more, whatever machines use.
    pub cap_share: f64,
    /// Of all memory, what is above both use and L.
    pub share: Option<f64>,
    /// The same with every machine taken for one of size 1; where no machine is larger than 1.
    pub as_published_share: Option<f64>,
    /// What is left at the peak of the cluster, where memory is shared.
    pub pooled: Option<Left>,
    /// What is left at every machine's own peak, where it is not. The p99 is read from steps of
    /// 1/128 and is a lower bound.
    pub each_machine: Option<Left>,
}

/// Shares of memory that are left.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Left {
    /// At the peak of use.
    pub at_peak_share: f64,
    /// For 99 % of the time.
    pub at_p99_share: f64,
    /// On the mean.
    pub mean_share: f64,
}

/// On how few machines the tasks of a moment would go.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Achievable {
    /// most_memory_used or most_cpu_used.
    pub moment: &'static str,
    /// When, in seconds of the trace.
    pub at_s: f64,
    /// What was packed: tasks, or loads of machines.
    pub tasks: usize,
    /// How many of them are the whole load of a machine, because the trace does not say whose it is.
    pub machine_loads: u64,
    /// Tasks on machines that do not count.
    pub tasks_left_out: u64,
    /// What was added to their use.
    pub margin: f64,
    /// What is up.
    pub up: Machines,
    /// What the tasks need, the margin included; none where the trace does not say what processors
    /// were used.
    pub demand_cpu: Option<f64>,
    /// What the tasks need, the margin included.
    pub demand_memory: f64,
    /// Packed on whole machines.
    pub whole_machines: Repacked,
    /// Packed by processors alone, memory from a pool; empty where the trace does not say what
    /// processors were used.
    pub pools: Vec<Pools>,
}

/// Machines, their processors and their memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Machines {
    /// How many.
    pub machines: usize,
    /// Their processors.
    pub cpu: f64,
    /// Their memory.
    pub memory: f64,
}

/// A packing on whole machines.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Repacked {
    /// What it takes.
    pub needed: Machines,
    /// No packing takes fewer machines.
    pub machines_at_least: usize,
    /// What remains free as whole machines.
    pub remain: Machines,
    /// Tasks for which no room was found.
    pub tasks_without_room: usize,
}

/// Processors packed on machines, memory from a pool beside what machines keep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pools {
    /// The share of its memory that each machine in use keeps.
    pub local_fraction: f64,
    /// Machines whose processors are in use.
    pub machines: usize,
    /// No packing takes fewer.
    pub machines_at_least: usize,
    /// Memory that machines in use keep.
    pub memory_local: f64,
    /// Memory of the pool.
    pub memory_remote: f64,
    /// Machines and processors that are not in use, and memory that neither keeps; below 0 where
    /// more is needed than is up.
    pub remain: Machines,
    /// Tasks for which no processors were found.
    pub tasks_without_room: usize,
}

/// What all machines used together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Demand {
    /// Processors.
    pub cpu: Option<Levels>,
    /// Memory.
    pub memory: Option<Levels>,
}

/// Of a series, weighted by time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Levels {
    /// The most.
    pub peak: f64,
    /// Not exceeded for 99 % of the time.
    pub p99: f64,
    /// The mean.
    pub mean: f64,
}

/// The cluster in one step of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AtTime {
    /// When its measured part begins, in seconds of the trace.
    pub at_s: f64,
    /// How long that is.
    pub measured_s: f64,
    /// Mean capacity that was up.
    pub capacity: Both,
    /// Mean use.
    pub used: Both,
    /// Mean requests.
    pub reserved: Both,
}
