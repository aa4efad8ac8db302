//! Traces that are made up, and what every figure of them is.
//!
//! Owns: a cluster that is a function of a seed, its files in every format, its known figures.
//! Knows nothing of: how files are read and figures are computed.
//! Invariant: every amount is a multiple of 1/1024 and every time one of a quarter of a slot, so
//! that sums are exact, in files and in figures.
//!
//! Machines come, go, and change their capacity in the middle of slots; samples of use overlap each
//! other and the ends of slots; every fourth task of a machine moves to another one from time to
//! time; of another fourth the request changes. The state at any time is computed from the seed, so
//! writing needs no memory that grows with the trace.

mod files;
mod known;
mod model;
mod records;
mod rows;

use std::collections::VecDeque;
use std::io;
use std::path::Path;

pub use self::known::{Known, Reserved, SlotKnown, known};
use self::model::Model;
use crate::formats::Format;
use crate::record::{Micros, Record};

/// How large a cluster is made up, and for how long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scenario {
    /// How many machines there are at most at a time.
    pub machines: u32,
    /// How many tasks run on a machine.
    pub tasks: u32,
    /// How long the trace is.
    pub slots: u32,
    /// A multiple of four seconds.
    pub slot: Micros,
    /// Another seed is another cluster.
    pub seed: u64,
}

impl Scenario {
    /// A cluster with slots of 300 s.
    #[must_use]
    pub fn new(machines: u32, tasks: u32, slots: u32, seed: u64) -> Scenario {
        Scenario { machines, tasks, slots, slot: 300_000_000, seed }
    }
}

/// What the files of a trace look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// google-2011.
    Google2011,
    /// google-2019.
    Google2019(Encoding),
    /// alibaba-2018, with machines, their gauges, and instances on them. Machines come at the
    /// beginning of a slot and never go, since the format cannot say so. Each part has some of the
    /// machines, all of the time: the rows are in no order.
    Alibaba2018,
    /// alibaba-2018, as in the package spar: no machines.
    Spar,
    /// generic.
    Generic,
}

/// How rows of google-2019 are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// With a header.
    Csv,
    /// One object a line.
    JsonLines,
    /// With groups as in BigQuery.
    Parquet,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Layout; 7] = [
        Layout::Google2011,
        Layout::Google2019(Encoding::Csv),
        Layout::Google2019(Encoding::JsonLines),
        Layout::Google2019(Encoding::Parquet),
        Layout::Alibaba2018,
        Layout::Spar,
        Layout::Generic,
    ];

    /// The format that it is of.
    #[must_use]
    pub fn format(self) -> Format {
        match self {
            Layout::Google2011 => Format::Google2011,
            Layout::Google2019(_) => Format::Google2019,
            Layout::Alibaba2018 | Layout::Spar => Format::Alibaba2018,
            Layout::Generic => Format::Generic,
        }
    }

    pub(crate) fn is_alibaba(self) -> bool {
        self.format() == Format::Alibaba2018
    }
}

/// Into how many files each table goes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// How many files.
    pub count: u32,
    /// Compressed by gzip (not Parquet, which compresses by itself).
    pub gzip: bool,
}

/// Writes the files of a trace into a directory, and says how many rows there are.
///
/// # Errors
///
/// A file that cannot be written; a scenario without machines, tasks or slots, or whose slots are no
/// multiple of four seconds.
pub fn write(
    directory: &Path,
    scenario: &Scenario,
    layout: Layout,
    parts: Parts,
) -> io::Result<u64> {
    files::write(directory, &Model::new(scenario, layout)?, parts)
}

/// The records that a reader of the files is to find, in the order of time.
///
/// # Errors
///
/// As [`write`].
pub fn records(
    scenario: &Scenario,
    layout: Layout,
) -> io::Result<impl Iterator<Item = Record> + use<>> {
    let model = Model::new(scenario, layout)?;
    let mut events = Vec::new();
    let mut ready = VecDeque::new();
    let mut tick = 0;
    Ok(std::iter::from_fn(move || {
        while ready.is_empty() && tick < model.ticks() {
            model.events(tick, &mut events);
            for event in events.drain(..) {
                records::records(&model, tick, &event, &mut ready);
            }
            tick += 1;
        }
        ready.pop_front()
    }))
}
