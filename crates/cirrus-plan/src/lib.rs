//! What tasks need, and which machines provide it.
//!
//! Owns demands, offers and plans. Pure: knows no socket, no clock and no file.

mod catalog;
mod demand;
mod money;
mod offer;
mod packing;
mod pipeline;
mod pool;
mod simplex;
pub mod svg;
mod total;
mod what_if;

pub use catalog::{Catalog, CatalogError, UnknownOffer};
pub use cirrus_units as units;
pub use demand::{Cpu, CpuKind, Demand, Gpu, Replicas, ReplicasError};
pub use money::{MoneyError, Usd, UsdPerHour};
pub use offer::{Microcores, Offer};
pub use packing::{
    Application, Demanded, PackError, PackedTask, Placement, Plan, Rented, Resource, Role, Use,
    pack,
};
pub use pipeline::{
    Collocated, Feeding, NextStep, Pipeline, PipelineError, PipelinePlan, Point, Stage, Trainer,
};
pub use pool::{Mix, Pool, PoolError, PoolPart, PoolPlan, Shadow, compare, pool_figure};
pub use total::{Span, Total};
pub use what_if::{WhatIf, next_steps, what_if};
