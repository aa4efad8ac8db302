//! How much memory a cluster wastes, and how much of it could be lent: from trace files to figures.
//!
//! Files of every format become [`Record`](record::Record)s in the order of time; one pass over
//! them is the whole analysis. docs/traces.md defines every figure.

pub mod figures;
pub mod formats;
pub mod plot;
pub mod problems;
pub mod reading;
pub mod record;
pub mod report;
pub mod synthetic;

mod repack;
mod slots;
