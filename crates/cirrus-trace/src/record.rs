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
    /// Processors.
    pub cpu: Option<f64>,
    /// Memory.
    pub memory: Option<f64>,
}

/// A machine. Ids that are not numbers are hashed to 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(pub u64);

/// A task: its job or collection, and its index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// Its job or collection.
    pub collection: u64,
    /// Which one of it.
    pub index: u64,
}

/// How much a task matters to those who run the cluster; every format says which of its priorities are which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Whatever is left over is good enough.
    Free,
    /// In a batch, with no promise when.
    BestEffort,
    /// Between the others.
    Middle,
    /// Serves people.
    Production,
    /// Watches the others.
    Monitoring,
}

/// One thing that a trace says.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A machine comes, goes or changes.
    Machine(Machine),
    /// A task begins, ends or changes its request.
    Task(Task),
    /// A sample of a task, or of a machine as a whole.
    Use(Use),
    /// A reading of a machine's use.
    Gauge(Gauge),
}

/// From `at` on a machine has this capacity, or is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// When.
    pub at: Micros,
    /// Where the trace says how long it is so; otherwise until the machine's next record.
    pub until: Option<Micros>,
    /// Which.
    pub machine: MachineId,
    /// `None`: the machine leaves the cluster.
    pub capacity: Option<Amount>,
}

/// From `at` on a task runs on a machine with this request, or runs no more.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// When.
    pub at: Micros,
    /// Which.
    pub task: TaskId,
    /// `None`: it ended, or was put out.
    pub runs: Option<Placement>,
}

/// Where a task runs, and with what.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// Where it runs.
    pub machine: Option<MachineId>,
    /// What it asked for.
    pub request: Amount,
    /// How much it matters.
    pub class: Option<Class>,
}

/// What a task used in a while, on the mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    /// From here.
    pub start: Micros,
    /// To here, and not at it.
    pub end: Micros,
    /// Where it ran.
    pub machine: Option<MachineId>,
    /// Which task; `None`: all that the machine uses.
    pub task: Option<TaskId>,
    /// How much it matters.
    pub class: Option<Class>,
    /// What it used on the mean.
    pub mean: Amount,
    /// The most memory at one time in it.
    pub memory_max: Option<f64>,
    /// What it had asked for, where the same line says so: a request, a plan or a limit.
    pub request: Amount,
}

/// What a whole machine used at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    /// When.
    pub at: Micros,
    /// Which machine.
    pub machine: MachineId,
    /// What it used then.
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
