//! What it costs to analyse the trace of a cluster.
//!
//! A made-up google-2011 trace, gzipped in parts as the real one is. Ours computes every figure; a
//! bare scan finds the fields of the same files and looks at none; DuckDB reads the largest table
//! only, and sums use by machine and slot. All on one processor.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cirrus_trace::figures::{self, Analysis};
use cirrus_trace::formats::Format;
use cirrus_trace::reading;
use cirrus_trace::synthetic::{self, Layout, Parts, Scenario};
use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, json};

use super::script::Script;
use crate::comparisons::{Bench, Cell, Family};
use crate::load::Latency;
use crate::processor::peak_bytes;
use crate::ratio::{ROUNDS_MIN, Round, Target};
use crate::row::{Number, Row, Subject};
use crate::side::{Compared, Side, Work};

/// DuckDB's reader.
const SCRIPT: &str = include_str!("scans.py");

/// Where `make bench` installs DuckDB.
const PYTHON: &str = ".tools/duckdb/bin/python";

/// How often to look at a process's memory: its highest is kept by the kernel until it ends.
const LOOK_EVERY: Duration = Duration::from_millis(2);

pub(super) const FAMILY: Family = Family {
    name: "scans",
    about: "the analysis of a cluster's trace, against a bare scan of its files and DuckDB",
    cells: || {
        let against = |name: &str, peer: Peer, target| {
            let name = name.to_owned();
            Cell {
                name: name.clone(),
                is_quick: true,
                measure: Box::new(move |bench| scanned(bench, &name, peer, target)),
            }
        };
        let memory = |times: u32| {
            let name = format!("scans/memory/{times}x");
            Cell {
                name: name.clone(),
                is_quick: times == 10,
                measure: Box::new(move |_| grown(&name, times)),
            }
        };
        vec![
            against("scans/bare", Peer::Bare, Some(Target::AtLeast(0.7))),
            against("scans/duckdb", Peer::DuckDb, None),
            memory(10),
            memory(100),
        ]
    },
};

#[derive(Debug, Clone, Copy)]
enum Peer {
    Bare,
    DuckDb,
}

/// A trace in a folder of its own.
struct Trace {
    folder: tempfile::TempDir,
    /// Of every table.
    files: Vec<PathBuf>,
    rows: u64,
    /// Uncompressed.
    bytes: u64,
}

impl Trace {
    fn write(scenario: &Scenario, parts: u32) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let parts = Parts { count: parts, gzip: true };
        synthetic::write(folder.path(), scenario, Layout::Google2011, parts)?;
        let mut files = Vec::new();
        for table in ["machine_events", "task_events", "task_usage"] {
            for part in fs::read_dir(folder.path().join(table))? {
                files.push(part?.path());
            }
        }
        let (rows, bytes) = bare(&files)?;
        Ok(Self { folder, files, rows, bytes })
    }
}

/// Reads every row of these files, and looks at none of its fields; rows and uncompressed bytes.
fn bare(files: &[PathBuf]) -> Result<(u64, u64)> {
    let (mut rows, mut bytes) = (0, 0);
    for file in files {
        let unpacked = MultiGzDecoder::new(BufReader::with_capacity(1 << 17, File::open(file)?));
        let mut lines = csv::ReaderBuilder::new().has_headers(false).from_reader(unpacked);
        let mut row = csv::ByteRecord::new();
        while lines.read_byte_record(&mut row)? {
            rows += 1;
        }
        bytes += lines.position().byte();
    }
    Ok((rows, bytes))
}

struct Bare<'a>(&'a Trace);

struct Ours<'a>(&'a Trace);

impl Side for Bare<'_> {
    fn server(&self) -> u32 {
        std::process::id()
    }

    fn work(&mut self, slice: Duration, _latency: &mut Latency) -> Result<Work> {
        passes(slice, || Ok(bare(&self.0.files)?.0))
    }
}

impl Side for Ours<'_> {
    fn server(&self) -> u32 {
        std::process::id()
    }

    fn work(&mut self, slice: Duration, _latency: &mut Latency) -> Result<Work> {
        passes(slice, || {
            let mut options = reading::Options::default();
            options.threads = 1;
            let folder = self.0.folder.path().to_owned();
            let mut records = reading::open(Format::Google2011, &[folder], options)?;
            let mut analysis = Analysis::new(figures::Options::default())?;
            records.by_ref().for_each(|record| analysis.push(&record));
            ensure!(records.problems().is_empty(), "{}", records.problems());
            let report = analysis.finish();
            let read = &report.trace;
            let records = read.use_records + read.task_records + read.machine_records;
            // What is submitted makes no record.
            ensure!(records > self.0.rows / 2 && records <= self.0.rows, "rows are missing");
            Ok(self.0.rows)
        })
    }
}

/// Whole passes over the trace, for at least so long.
fn passes(slice: Duration, mut pass: impl FnMut() -> Result<u64>) -> Result<Work> {
    let (began, mut operations) = (Instant::now(), 0);
    while operations == 0 || began.elapsed() < slice {
        operations += pass()?;
    }
    Ok(Work { operations, elapsed: began.elapsed() })
}

fn scanned(bench: &mut Bench, name: &str, peer: Peer, target: Option<Target>) -> Result<Vec<Row>> {
    let trace = Trace::write(&Scenario::new(1_000, 10, 120, 1), 4)?;
    let (about, mut theirs): (_, Box<dyn Side + '_>) = match peer {
        Peer::Bare => ("gunzip and csv, fields not looked at", Box::new(Bare(&trace))),
        Peer::DuckDb => {
            let python = if Path::new(PYTHON).exists() { PYTHON } else { "python3" };
            let folder = trace.folder.path().as_os_str().to_owned();
            let arguments = [folder, trace.rows.to_string().into()];
            let script = Script::start(python, SCRIPT, arguments.into_iter())?;
            ("DuckDB's sums by machine and slot", Box::new(script))
        }
    };
    let value_bytes = usize::try_from(trace.bytes / trace.rows.max(1))?;
    let subject = Subject { name: name.to_owned(), peer: about.to_owned(), value_bytes };
    let compared = Compared::run(&mut Ours(&trace), &mut *theirs, bench.turns)?;
    Ok(vec![
        subject.row(&compared, Number::OperationsPerSecond, target),
        subject.row(&compared, Number::GigabytesPerSecond, None),
    ])
}

/// The most memory of the program, over a trace that is so many times as long as another.
fn grown(name: &str, times: u32) -> Result<Vec<Row>> {
    // Twelve hours: of four, half would lie in the slots that are open for what comes late, and it
    // would be over before the threads that read had filled their share of what may wait.
    let slots = 144;
    let short = Trace::write(&Scenario::new(200, 10, slots, 1), 4)?;
    let long = Trace::write(&Scenario::new(200, 10, slots * times, 1), 4)?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS_MIN {
        let (ours, theirs) = (peak(&long)?, peak(&short)?);
        rounds.push(Round { ours, theirs, again: peak(&long)? });
    }
    let peer = format!("a trace of {} rows instead of {}", short.rows, long.rows);
    let subject = Subject { name: name.to_owned(), peer, value_bytes: 0 };
    let detail = Map::from_iter([("rows".to_owned(), json!(long.rows))]);
    let target = Some(Target::AtMost(1.2));
    Ok(vec![subject.row_of(&rounds, Number::PeakBytes, target, detail)])
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a process")]
fn peak(trace: &Trace) -> Result<f64> {
    let program = std::env::current_exe()?.with_file_name("cirrus");
    let mut child = Command::new(&program)
        .args(["trace", "google-2011", "--json"])
        .arg(trace.folder.path())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("{}: is it built?", program.display()))?;
    let mut most = 0;
    let status = loop {
        // Its memory is gone when it has ended.
        most = peak_bytes(child.id()).map_or(most, |now| most.max(now));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    ensure!(status.success() && most > 0, "{} ended with {status}", program.display());
    Ok(most as f64)
}
