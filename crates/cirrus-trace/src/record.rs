//! What every format of trace is turned into.
//!
//! Owns: the records, their units.
//! Knows nothing of: files, columns, figures.
//! Invariant: amounts are finite and not negative; an interval ends after it starts.

/// Microseconds since the zero of the trace.
pub type Micros = i64;

/// Processors and memory, in the trace's own units: a share of the largest machine where the trace is
/// normalised. `None` is what the trace leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amount {
    pub cpu: Option<f64>,
    pub memory: Option<f64>,
}

/// A machine. Ids that are not numbers are hashed to 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(pub u64);

/// A task: its job or collection, and its index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub collection: u64,
    pub index: u64,
}

/// How much a task matters to those who run the cluster; every format says which of its priorities are which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    Free,
    BestEffort,
    Middle,
    Production,
    Monitoring,
}

/// One thing that a trace says.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Machine(Machine),
    Task(Task),
    Use(Use),
    Gauge(Gauge),
}

/// From `at` on a machine has this capacity, or is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    pub at: Micros,
    /// Where the trace says how long it is so; otherwise until the machine's next record.
    pub until: Option<Micros>,
    pub machine: MachineId,
    /// `None`: the machine leaves the cluster.
    pub capacity: Option<Amount>,
}

/// From `at` on a task runs on a machine with this request, or runs no more.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub at: Micros,
    pub task: TaskId,
    /// `None`: it ended, or was put out.
    pub runs: Option<Placement>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    pub machine: Option<MachineId>,
    pub request: Amount,
    pub class: Option<Class>,
}

/// What a task used in a while, on the mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    pub start: Micros,
    pub end: Micros,
    pub machine: Option<MachineId>,
    pub task: Option<TaskId>,
    pub class: Option<Class>,
    pub mean: Amount,
    /// The most memory at one time in it.
    pub memory_max: Option<f64>,
    /// What it had asked for, where the same line says so: a request, a plan or a limit.
    pub request: Amount,
}

/// What a whole machine used at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    pub at: Micros,
    pub machine: MachineId,
    pub used: Amount,
}

impl Record {
    /// The moment by which records are put in order.
    #[must_use]
    pub fn time(&self) -> Micros {
        match self {
            Record::Machine(machine) => machine.at,
            Record::Task(task) => task.at,
            Record::Use(used) => used.start,
            Record::Gauge(gauge) => gauge.at,
        }
    }
}
