//! The integration tests of cirrus-store, one binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod allocations;
mod cached;
mod cold;
mod disk;
mod edges;
mod faults;
mod golden;
mod history;
mod limits;
mod linear;
mod linearizable;
mod linearizable_cached;
mod model;
mod moved;
mod mutations;
mod objects;
mod peers;
mod pool;
mod raw;
mod resp;
mod respclient;
mod rig;
mod shm;
mod soak;
mod storage;
mod store;
mod streams;
mod tables;
mod tamper;
