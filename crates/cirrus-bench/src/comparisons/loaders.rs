//! Records as an iterator hands them out, against the loaders that people train with.
//!
//! The same records, read by one consumer: ours from a memory node over TCP, verified, the others'
//! from files of their own format that lie in the page cache, which is the best that they can have.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::iterators::{Filled, How, Layout, Reader, SET_BYTES};
use crate::comparisons::{Cell, Family};
use crate::load::Latency;
use crate::row::{Number, Subject};
use crate::servers::Kind;
use crate::side::{Compared, Side, Work};

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
            let mut theirs = Script::start(short, layout.record_bytes, order)?;
            let instance = bench.servers.of(Kind::Cirrus)?;
            let filled = Rc::new(Filled::prepare(instance, bench.runtime.clone(), layout)?);
            let mut ours = Reader::new(filled, how);
            let compared = Compared::run(&mut ours, &mut theirs, bench.turns)?;
            Ok(vec![subject.row(&compared, Number::GigabytesPerSecond, None)])
        }),
    }
}

/// A loader in a process of its own.
struct Script {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _folder: tempfile::TempDir,
}

impl Script {
    fn start(loader: &str, record_bytes: usize, order: &str) -> Result<Self> {
        let python = if Path::new(PYTHON).exists() { PYTHON } else { "python3" };
        let folder = tempfile::tempdir()?;
        let count = SET_BYTES / record_bytes;
        let mut child = Command::new(python)
            .args(["-W", "ignore", "-c", SCRIPT, loader])
            .arg(folder.path())
            .args([&record_bytes.to_string(), &count.to_string(), order])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{python} cannot be started"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{python} has no pipes");
        };
        let mut this = Self { child, input, output: BufReader::new(output), _folder: folder };
        let ready = this.line()?;
        if !ready.starts_with("ready") {
            bail!("{loader}: {ready}");
        }
        Ok(this)
    }

    /// What it says next; its last words when it ends instead.
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? > 0 {
            return Ok(line.trim().to_owned());
        }
        let mut last = String::new();
        if let Some(errors) = self.child.stderr.take() {
            for line in BufReader::new(errors).lines() {
                last = line?;
            }
        }
        bail!("it ended: {last}")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // It may have ended; either way it is waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Side for Script {
    fn server(&self) -> u32 {
        self.child.id()
    }

    fn work(&mut self, slice: Duration, _latency: &mut Latency) -> Result<Work> {
        writeln!(self.input, "{}", slice.as_secs_f64())?;
        let line = self.line()?;
        let (records, elapsed) = line.split_once(' ').context("two numbers")?;
        let elapsed = Duration::from_secs_f64(elapsed.parse()?);
        Ok(Work { operations: records.parse()?, elapsed })
    }
}
