//! What people run on Cirrus: data sets, models, trainers.

mod error;

#[cfg(feature = "images")]
pub mod cnn;
#[cfg(feature = "images")]
pub mod datasets;
pub mod examples;
pub mod fetch;
#[cfg(feature = "images")]
pub mod image;
#[cfg(feature = "images")]
pub mod images;
pub mod job;
pub mod metrics;
pub mod models;
pub mod parameters;
pub mod predict;
pub mod saved;
pub mod schedule;

pub use error::{Error, ErrorKind, Result};
