//! The integration tests of the program `cirrus`, one binary. Every test starts real processes.

mod catalog;
mod deliveries;
mod images;
mod input;
mod interrupt;
mod kills;
mod ledger;
mod memory;
mod objects;
mod pictures;
mod plan;
mod program;
mod support;
mod trace;
mod train;
