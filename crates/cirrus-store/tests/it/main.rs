//! The integration tests of cirrus-store, one binary.

mod edges;
mod faults;
mod golden;
mod limits;
mod moved;
mod mutations;
mod raw;
mod rig;
mod speed;
mod store;
