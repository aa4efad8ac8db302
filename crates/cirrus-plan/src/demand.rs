//! What one task needs.
//!
//! Owns [`Demand`] and its parts. Knows no machine and no price.
//! A [`Replicas`] is never empty, and a [`Gpu`] is never none.

use std::fmt;
use std::num::NonZeroU32;

use cirrus_units::{ByteRate, ByteSize, Cores};
use serde::{Deserialize, Serialize};

/// What each replica of a task needs, and how many replicas there are.
///
/// ```
/// use cirrus_plan::units::{ByteSize, Cores};
/// use cirrus_plan::{Cpu, Demand};
/// let demand = Demand::default()
///     .with_cpu(Cpu::burst(Cores::milli(500)))
///     .with_memory(ByteSize::gib(8));
/// assert_eq!(demand.to_string(), "0.5 burst cores, 8 GiB memory");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Demand {
    /// Processors, and how they are used.
    pub cpu: Cpu,
    /// Main memory.
    pub memory: ByteSize,
    /// Accelerators; `None` asks for no machine that has one.
    pub gpu: Option<Gpu>,
    /// Local disk; zero asks for none beyond what the machine brings.
    pub disk: ByteSize,
    /// Network bandwidth; zero asks for none in particular.
    pub network: ByteRate,
    /// Whether a replica may run on a machine that can be taken away at short notice.
    pub spot: bool,
    /// How many copies of the task run.
    pub replicas: Replicas,
}

impl Demand {
    /// Asks for these processors.
    pub fn with_cpu(mut self, cpu: Cpu) -> Self {
        self.cpu = cpu;
        self
    }

    /// Asks for this much main memory.
    pub fn with_memory(mut self, memory: ByteSize) -> Self {
        self.memory = memory;
        self
    }

    /// Asks for these accelerators.
    pub fn with_gpu(mut self, gpu: Gpu) -> Self {
        self.gpu = Some(gpu);
        self
    }

    /// Asks for this much local disk.
    pub fn with_disk(mut self, disk: ByteSize) -> Self {
        self.disk = disk;
        self
    }

    /// Asks for this much network bandwidth.
    pub fn with_network(mut self, network: ByteRate) -> Self {
        self.network = network;
        self
    }

    /// Says whether the task bears losing its machine at short notice.
    pub fn with_spot(mut self, spot: bool) -> Self {
        self.spot = spot;
        self
    }

    /// Asks for this many copies.
    pub fn with_replicas(mut self, replicas: Replicas) -> Self {
        self.replicas = replicas;
        self
    }
}

impl Default for Demand {
    fn default() -> Self {
        Self {
            cpu: Cpu::sustained(Cores::milli(1000)),
            memory: ByteSize::mib(512),
            gpu: None,
            disk: ByteSize::new(0),
            network: ByteRate::per_second(0),
            spot: false,
            replicas: Replicas::ONE,
        }
    }
}

impl fmt::Display for Demand {
    /// One line; what is not asked for is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} memory", self.cpu, self.memory)?;
        if let Some(gpu) = &self.gpu {
            write!(f, ", {gpu}")?;
        }
        if self.disk.bytes() > 0 {
            write!(f, ", {} disk", self.disk)?;
        }
        if self.network.bytes_per_second() > 0 {
            write!(f, ", {} network", self.network)?;
        }
        if self.spot {
            f.write_str(", spot")?;
        }
        if self.replicas != Replicas::ONE {
            write!(f, ", {} replicas", self.replicas)?;
        }
        Ok(())
    }
}

/// A share of processors, and how it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// How many processors.
    pub cores: Cores,
    /// Whether they are used all the time.
    pub kind: CpuKind,
}

impl Cpu {
    /// These cores all the time.
    pub const fn sustained(cores: Cores) -> Self {
        Self { cores, kind: CpuKind::Sustained }
    }

    /// These cores now and then.
    pub const fn burst(cores: Cores) -> Self {
        Self { cores, kind: CpuKind::Burst }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let burst = match self.kind {
            CpuKind::Sustained => "",
            CpuKind::Burst => "burst ",
        };
        let cores = if self.cores == Cores::milli(1000) { "core" } else { "cores" };
        write!(f, "{} {burst}{cores}", self.cores)
    }
}

/// Whether processors are used all the time.
///
/// The difference is large on machines that earn credits: a t2.nano has one core in bursts and
/// sustains a twentieth of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpuKind {
    /// All the time.
    Sustained,
    /// Now and then.
    Burst,
}

/// Accelerators: at least one, all of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    count: NonZeroU32,
    kind: Option<String>,
}

impl Gpu {
    /// This many accelerators of any kind.
    pub const fn new(count: NonZeroU32) -> Self {
        Self { count, kind: None }
    }

    /// Of this kind only, by the catalogue's lower-case name: `h100`, `t4`.
    pub fn of_kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// How many; at least 1.
    pub const fn count(&self) -> u32 {
        self.count.get()
    }

    pub(crate) const fn nonzero(&self) -> NonZeroU32 {
        self.count
    }

    /// The kind asked for; `None` takes any.
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.count)?;
        if let Some(kind) = &self.kind {
            write!(f, "{kind} ")?;
        }
        f.write_str(if self.count() == 1 { "GPU" } else { "GPUs" })
    }
}

/// How many copies of a task run: from `min`, the fewest that make sense, to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Range", into = "Range")]
pub struct Replicas {
    min: u32,
    max: u32,
}

impl Replicas {
    /// The most replicas that one task can have.
    pub const LIMIT: u32 = 65_536;

    /// A single replica.
    pub const ONE: Self = Self { min: 1, max: 1 };

    /// From `min` to `max` replicas, both included.
    ///
    /// # Errors
    /// When not `1 <= min <= max <= `[`Replicas::LIMIT`].
    pub const fn new(min: u32, max: u32) -> Result<Self, ReplicasError> {
        if 1 <= min && min <= max && max <= Self::LIMIT {
            Ok(Self { min, max })
        } else {
            Err(ReplicasError { min, max })
        }
    }

    /// The fewest replicas; at least 1.
    pub const fn min(self) -> u32 {
        self.min
    }

    /// The most replicas; at least [`Replicas::min`], at most [`Replicas::LIMIT`].
    pub const fn max(self) -> u32 {
        self.max
    }
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{} to {}", self.min, self.max)
        }
    }
}

impl TryFrom<Range> for Replicas {
    type Error = ReplicasError;

    fn try_from(range: Range) -> Result<Self, ReplicasError> {
        Self::new(range.min, range.max)
    }
}

/// A number of replicas that no task can have. Displays as one line that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicasError {
    min: u32,
    max: u32,
}

impl fmt::Display for ReplicasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, max } = self;
        let problem = match (min, max) {
            (0, _) => "starts at 0",
            (min, max) if min > max => "is empty",
            _ => "is too large",
        };
        let limit = Replicas::LIMIT;
        write!(f, "replicas `{min}..={max}` {problem}; expected a range within 1..={limit}")
    }
}

impl std::error::Error for ReplicasError {}

/// The serialized form of [`Replicas`], unchecked.
#[derive(Serialize, Deserialize)]
struct Range {
    min: u32,
    max: u32,
}

impl From<Replicas> for Range {
    fn from(Replicas { min, max }: Replicas) -> Self {
        Self { min, max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Demand {
        Demand::default()
            .with_cpu(Cpu::burst(Cores::milli(500)))
            .with_memory(ByteSize::gib(8))
            .with_gpu(Gpu::new(NonZeroU32::MIN.saturating_add(1)).of_kind("h100"))
            .with_disk(ByteSize::gib(10))
            .with_network("1Gbit/s".parse().unwrap())
            .with_spot(true)
            .with_replicas(Replicas::new(1, 64).unwrap())
    }

    #[test]
    fn a_demand_is_one_line_without_what_is_not_asked_for() {
        assert_eq!(Demand::default().to_string(), "1 core, 512 MiB memory");
        assert_eq!(
            everything().to_string(),
            "0.5 burst cores, 8 GiB memory, 2 h100 GPUs, 10 GiB disk, 119.20 MiB/s network, spot, \
             1 to 64 replicas"
        );
        assert_eq!(Gpu::new(NonZeroU32::MIN).to_string(), "1 GPU");
        assert_eq!(Replicas::new(4, 4).unwrap().to_string(), "4");
    }

    #[test]
    fn replicas_are_never_empty_and_never_too_many() {
        let replicas = Replicas::new(1, Replicas::LIMIT).unwrap();
        assert_eq!((replicas.min(), replicas.max()), (1, 65_536));
        for (min, max, problem) in
            [(0, 0, "starts at 0"), (0, 4, "starts at 0"), (8, 4, "is empty"), (1, 65_537, "large")]
        {
            let error = Replicas::new(min, max).unwrap_err().to_string();
            assert!(error.contains(&format!("`{min}..={max}`")), "{error}");
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_demand_survives_json() {
        for demand in [Demand::default(), everything()] {
            let text = serde_json::to_string(&demand).unwrap();
            assert_eq!(serde_json::from_str::<Demand>(&text).unwrap(), demand);
        }
        assert_eq!(serde_json::from_str::<Demand>("{}").unwrap(), Demand::default());
    }

    #[test]
    fn json_cannot_make_a_demand_that_is_wrong() {
        for (text, problem) in [
            (r#"{"replicas":{"min":0,"max":4}}"#, "starts at 0"),
            (r#"{"replicas":{"min":1,"max":99999}}"#, "is too large"),
            (r#"{"gpu":{"count":0,"kind":null}}"#, "nonzero"),
            (r#"{"memroy":1}"#, "memroy"),
        ] {
            let error = serde_json::from_str::<Demand>(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
