//! Traces from files to records.
#![expect(clippy::unwrap_used, reason = "test helpers beside the tests themselves")]

mod broken;
mod fixtures;
mod known;
mod round_trips;
mod shared;
mod support;
