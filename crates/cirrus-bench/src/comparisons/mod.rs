//! What is compared with what. One file a family, one line in [`FAMILIES`].
//!
//! A family turns into cells; a cell measures one situation and gives a row for each number that
//! matters there. Invariant: a cell's name says everything that it varies, so that `--only` can
//! choose it.

mod bulk;
mod callers;
mod clients;
mod durable;
mod generator;
mod hits;
mod iterators;
mod learning;
mod loaders;
mod mapped;
mod memcached;
mod memory;
mod plans;
mod ratios;
mod redis;
mod requests;
mod scans;
mod script;
mod stalls;
mod tables;

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::processor::Processors;
use crate::row::Row;
use crate::servers::Servers;
use crate::side::Turns;

/// A family: its name, what it answers, and its cells.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) cells: fn() -> Vec<Cell>,
}

/// Every family.
pub(crate) const FAMILIES: [Family; 17] = [
    generator::FAMILY,
    redis::FAMILY,
    memcached::FAMILY,
    callers::FAMILY,
    bulk::FAMILY,
    mapped::FAMILY,
    durable::FAMILY,
    memory::FAMILY,
    ratios::FAMILY,
    iterators::FAMILY,
    loaders::FAMILY,
    stalls::FAMILY,
    hits::FAMILY,
    plans::FAMILY,
    scans::FAMILY,
    tables::FAMILY,
    learning::FAMILY,
];

/// One situation.
pub(crate) struct Cell {
    pub(crate) name: String,
    /// Part of the short form.
    pub(crate) is_quick: bool,
    #[expect(clippy::type_complexity, reason = "said once")]
    pub(crate) measure: Box<dyn Fn(&mut Bench) -> Result<Vec<Row>>>,
}

/// What a cell measures with.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) servers: Servers,
    pub(crate) processors: Processors,
    /// Of the clients, on this thread.
    pub(crate) runtime: Rc<Runtime>,
    pub(crate) turns: Turns,
    /// Whether system calls can be counted here.
    pub(crate) counts_syscalls: bool,
    /// Where lists of reads are downloaded to.
    pub(crate) traces: PathBuf,
}

/// `64B`, `4KiB`, `16MiB`.
fn size_name(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{}MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 => format!("{}KiB", bytes >> 10),
        bytes => format!("{bytes}B"),
    }
}
