//! What people run on Cirrus: data sets, models, trainers.

mod error;

pub mod cnn;
pub mod datasets;
pub mod fetch;
pub mod image;
pub mod images;
pub mod optimizer;

pub use error::{Error, ErrorKind, Result};
