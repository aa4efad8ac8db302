//! What tasks need, and which machines provide it.
//!
//! Owns demands and their totals. Pure: knows no socket, no clock and no file.

mod demand;
mod total;

pub use cirrus_units as units;
pub use demand::{Cpu, CpuKind, Demand, Gpu, Replicas, ReplicasError};
pub use total::{Span, Total};
