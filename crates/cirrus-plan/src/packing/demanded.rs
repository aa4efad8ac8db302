//! What was asked for, beside the plan.
//!
//! Owns [`Demanded`]. Knows no machine. Every size is there for people and in bytes.

use serde::Serialize;

use super::{PackedTask, Role};
use crate::demand::{CpuKind, Gpu};

/// A task of a plan, and what each of its replicas needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Demanded {
    /// The task's name.
    pub task: String,
    /// What it is to the application.
    pub role: Role,
    /// How many replicas are placed.
    pub replicas: u32,
    /// All of the demand, in words.
    pub demand: String,
    /// Processors.
    pub vcpu: f64,
    /// How they are used.
    pub cpu: CpuKind,
    /// Memory, in words.
    pub memory: String,
    /// Memory.
    pub memory_bytes: u64,
    /// Disk, in words.
    pub disk: String,
    /// Disk.
    pub disk_bytes: u64,
    /// Network, in words.
    pub network: String,
    /// Network.
    pub network_bytes_second: u64,
    /// Accelerators.
    pub gpus: u32,
    /// Their kind; `None`: any.
    pub gpu_kind: Option<String>,
    /// Whether it may run on a spot machine.
    pub spot: bool,
}

impl Demanded {
    pub(super) fn new(packed: &PackedTask) -> Self {
        let demand = &packed.demand;
        Self {
            task: packed.name.clone(),
            role: packed.role,
            replicas: demand.replicas.min(),
            demand: demand.to_string(),
            vcpu: f64::from(demand.cpu.cores.as_milli()) / 1000.0,
            cpu: demand.cpu.kind,
            memory: demand.memory.to_string(),
            memory_bytes: demand.memory.bytes(),
            disk: demand.disk.to_string(),
            disk_bytes: demand.disk.bytes(),
            network: demand.network.to_string(),
            network_bytes_second: demand.network.bytes_per_second(),
            gpus: demand.gpu.as_ref().map_or(0, Gpu::count),
            gpu_kind: demand.gpu.as_ref().and_then(Gpu::kind).map(String::from),
            spot: packed.bears_spot(),
        }
    }
}
