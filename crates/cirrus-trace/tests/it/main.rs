//! Traces from files to records.

mod broken;
mod fixtures;
mod known;
mod round_trips;
mod shared;
mod support;
