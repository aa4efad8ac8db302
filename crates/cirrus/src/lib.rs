//! How a program becomes tasks on machines.
//!
//! An [`App`] declares tasks, the memory between them and the channels they talk through; `main`
//! runs it. Every task is a process of its own that says what it needs; memory nodes hold what
//! passes between them, a coordinator keeps the account, and an engine keeps the processes.
//!
//! ```no_run
//! #[cirrus::task(cpu = 1, memory = "64MiB")]
//! fn load(ctx: cirrus::Context) -> cirrus::Result<()> {
//!     let mut set = ctx.write_set("numbers")?;
//!     for n in 0..1000u32 {
//!         set.push(n.to_le_bytes().to_vec())?;
//!     }
//!     set.seal().map(|_| ())
//! }
//!
//! #[cirrus::task(cpu = 1, replicas = 1..=4)]
//! fn square(ctx: cirrus::Context) -> cirrus::Result<()> {
//!     ctx.splits("numbers")?.map_into("squares", |record, _| Ok(u64::from(record.bytes[0]).pow(2)))
//! }
//!
//! #[cirrus::task(cpu = 1)]
//! fn sum(ctx: cirrus::Context) -> cirrus::Result<()> {
//!     let mut batches = ctx.batches::<u64>("squares")?.at_least_once();
//!     let mut sum = 0;
//!     while let Some(batch) = batches.next()? {
//!         sum += batch.items.iter().sum::<u64>();
//!     }
//!     ctx.report("sum", sum)
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     cirrus::App::new("squares")
//!         .memory("data", "64MiB")
//!         .channel::<u64>("squares", "8MiB")
//!         .task(load::task().writes("numbers"))
//!         .task(square::task().reads("numbers").writes("squares"))
//!         .task(sum::task().reads("squares"))
//!         .main()
//! }
//! ```

// The macro's expansion says `::cirrus`, also in this crate's own tests and docs.
extern crate self as cirrus;

mod api;
mod app;
pub mod catalogs;
mod command;
mod consumer;
mod context;
mod control;
mod coordinator;
mod counters;
mod covered;
mod engine;
mod error;
mod leases;
mod near;
mod process;
mod report;
#[cfg(test)]
mod rig;
mod rundir;
mod sets;
mod spec;
mod split;
mod sweeper;
mod task;
mod views;

pub use app::{App, NoArgs, Settings};
pub use cirrus_macros::task;
pub use cirrus_plan as plan;
pub use cirrus_store as store;
pub use cirrus_units::{ByteRate, ByteSize, Cores};
pub use command::{one_line_usage, output, print};
pub use consumer::{Batch, Batches, Polled};
pub use context::{Context, Store};
pub use counters::Counter;
pub use error::{Error, Kind, Result};
pub use leases::{Record, Rng, Splits, Turn, WholeSplit};
pub use process::app_of_this_process;
pub use sets::{SetReader, SetWriter};
pub use split::{BatchRange, OrderSpec, ShortBatch, SplitPlan, SplitRange, SplitSpec};
pub use task::{Task, TaskArgs, block_on};
