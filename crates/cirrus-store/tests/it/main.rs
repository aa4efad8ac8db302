//! The integration tests of cirrus-store, one binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod allocations;
mod edges;
mod faults;
mod golden;
mod limits;
mod moved;
mod mutations;
mod raw;
mod resp;
mod rig;
mod store;
