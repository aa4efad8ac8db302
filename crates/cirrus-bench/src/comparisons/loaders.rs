//! Records as an iterator hands them out, against the loaders that people train with.
//!
//! The same records, read by one consumer: ours from a memory node over TCP, verified, the others'
//! from files of their own format that lie in the page cache, which is the best that they can have.

use std::path::Path;
use std::rc::Rc;

use super::iterators::{Filled, How, Layout, Reader, SET_BYTES};
use super::script::Script;
use crate::comparisons::{Cell, Family};
use crate::row::{Number, Subject};
use crate::servers::Kind;
use crate::side::Compared;

/// The reader of the others.
const SCRIPT: &str = include_str!("loaders.py");

/// Where `make bench` installs what they need.
const PYTHON: &str = ".tools/loaders/bin/python";

pub(super) const FAMILY: Family = Family {
    name: "loaders",
    about: "records one by one, against PyTorch's DataLoader and MosaicML's streaming",
    cells: || {
        let small = ("4KiB", Layout { record_bytes: 4 << 10, packing: 256 });
        let large = ("100KB", Layout { record_bytes: 100_000, packing: 1 });
        let mut cells = Vec::new();
        for (size, layout) in [small, large] {
            for (order, how) in [("sequential", How::Sequential), ("shuffled", How::Shuffled)] {
                for loader in [Loader::Torch, Loader::MosaicMl] {
                    cells.push(cell(loader, (size, layout), (order, how)));
                }
            }
        }
        cells
    },
};

#[derive(Debug, Clone, Copy)]
enum Loader {
    Torch,
    MosaicMl,
}

fn cell(
    loader: Loader,
    (size, layout): (&'static str, Layout),
    (order, how): (&'static str, How),
) -> Cell {
    let (short, peer) = match loader {
        Loader::Torch => ("torch", "PyTorch's DataLoader over a file"),
        Loader::MosaicMl => ("mosaicml", "MosaicML's StreamingDataset in a DataLoader"),
    };
    // A shuffle within windows for records that lie together, as MosaicML's is.
    let how = match how {
        How::Shuffled if layout.packing > 1 => How::Windowed,
        how => how,
    };
    let name = format!("loaders/{order}/{size}/{short}");
    let subject =
        Subject { name: name.clone(), peer: peer.to_owned(), value_bytes: layout.record_bytes };
    Cell {
        name,
        is_quick: matches!(loader, Loader::Torch),
        measure: Box::new(move |bench| {
            let folder = tempfile::tempdir()?;
            let python = if Path::new(PYTHON).exists() { PYTHON } else { "python3" };
            let (bytes, count) = (layout.record_bytes, SET_BYTES / layout.record_bytes);
            let numbers = [bytes.to_string(), count.to_string(), order.to_owned()];
            let arguments = [short.into(), folder.path().into()].into_iter();
            let arguments = arguments.chain(numbers.map(Into::into));
            let mut theirs = Script::start(python, SCRIPT, arguments)?;
            let instance = bench.servers.of(Kind::Cirrus)?;
            let filled = Rc::new(Filled::prepare(instance, bench.runtime.clone(), layout)?);
            let mut ours = Reader::new(filled, how);
            let compared = Compared::run(&mut ours, &mut theirs, bench.turns)?;
            Ok(vec![subject.row(&compared, Number::GigabytesPerSecond, None)])
        }),
    }
}
