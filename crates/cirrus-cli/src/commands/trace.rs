//! `cirrus trace`: how much memory of a cluster is unused, and how much could be lent.
//!
//! Owns what is read, where figures go, and what a person sees meanwhile. Knows no format and no
//! formula. Invariant: a run that is interrupted prints the figures of what it had read, and says so.

mod priced;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use cirrus::output;
use cirrus::plan::Catalog;
use cirrus_trace::figures::{self, Analysis};
use cirrus_trace::formats::Format;
use cirrus_trace::problems::{Kind, Problems, Spot};
use cirrus_trace::reading::{self, Progress, Reading};
use cirrus_trace::{plot, report};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};

use crate::commands::objects::{folder_of, write_whole};
use crate::failure::Failure;
use crate::say;
use priced::{Largest, Priced};

/// What a program that Ctrl-C ended exits with.
const INTERRUPTED: u8 = 130;

/// Arguments of `trace`.
#[derive(Debug, clap::Args)]
pub(crate) struct Trace {
    /// google-2011, google-2019, alibaba-2018 or generic
    format: Format,
    /// Files, or folders with the format's files in them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Shares of its memory that each machine keeps for itself
    #[arg(
        long,
        value_name = "L,...",
        value_delimiter = ',',
        default_value = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"
    )]
    local_fraction: Vec<f64>,
    /// Length of a slot, in seconds: use is averaged over it
    #[arg(long, value_name = "SECONDS", default_value_t = 300.0)]
    slot: f64,
    /// How many slots stay open for records that come late
    #[arg(long, value_name = "SLOTS", default_value_t = 24)]
    window: u32,
    /// A machine's processors are full when no more than this share of them is free
    #[arg(long, value_name = "F", default_value_t = 0.05)]
    slack: f64,
    /// What is added to what tasks used before they are packed again, as a share of it
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    margin: f64,
    /// google-2019: count alloc sets and what runs in them as they stand
    #[arg(long)]
    allocs: bool,
    /// Put rows in the order of time first, on disk, where the files are in none
    #[arg(long)]
    sort: bool,
    /// Where rows wait while they are sorted [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Threads that read files [default: one for each processor]
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZeroUsize>,
    /// The largest machine of the trace, such as 64,512GiB: prices the demand
    #[arg(long, value_name = "CPU,MEMORY")]
    largest: Option<Largest>,
    /// Whose prices: a catalogue of `cirrus catalog list`, or a file
    #[arg(long, value_name = "NAME|FILE", default_value = "aws", requires = "largest")]
    catalog: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Draw what could be lent, and memory over time, as an SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Write the report as one HTML file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Trace {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        // What hours of reading would be lost for is looked at first.
        for path in self.plot.iter().chain(&self.report) {
            folder_of(path)?;
        }
        let wrong = |error: figures::OptionsError| Failure::input(error.to_string());
        let mut analysis = Analysis::new(self.analysis()?).map_err(wrong)?;
        let prices = self.prices()?;
        let stop = interrupts()?;
        let reading = reading::open(self.format, &self.paths, self.reading(Arc::clone(&stop))?);
        let mut reading = reading.map_err(|error| Failure::input(error.to_string()))?;
        let progress = reading.progress();
        watched(&progress, || {
            for record in reading.by_ref() {
                analysis.push(&record);
            }
        });
        let is_whole = !stop.load(Ordering::Relaxed);
        let report = analysis.finish();
        let priced = prices.map(|(largest, catalog)| Priced::new(&report, largest, &catalog));
        // What cannot be priced does not take the figures with it.
        let (priced, unpriced) = match priced.transpose() {
            Ok(priced) => (priced, None),
            Err(failure) => (None, Some(failure)),
        };
        self.tell(&report, priced.as_ref(), &reading, is_whole)?;
        if let Some(path) = &self.plot {
            write_whole(path, plot::both(&report).as_bytes())?;
        }
        if let Some(path) = &self.report {
            write_whole(path, plot::html(&report).as_bytes())?;
        }
        match unpriced {
            Some(failure) if is_whole => Err(failure),
            Some(failure) => {
                say(&format!("cirrus: {failure}"));
                Ok(ExitCode::from(INTERRUPTED))
            }
            None if is_whole => Ok(ExitCode::SUCCESS),
            None => Ok(ExitCode::from(INTERRUPTED)),
        }
    }

    fn analysis(&self) -> Result<figures::Options, Failure> {
        let mut options = figures::Options::default();
        options.slot = self.slot_micros()?;
        options.window = self.window;
        options.local_fractions.clone_from(&self.local_fraction);
        (options.slack, options.margin) = (self.slack, self.margin);
        Ok(options)
    }

    fn reading(&self, stop: Arc<AtomicBool>) -> Result<reading::Options, Failure> {
        let mut options = reading::Options::default();
        options.slot = self.slot_micros()?;
        options.allocs = self.allocs;
        options.stop = stop;
        options.sort = self.sort.then_some(true);
        if let Some(threads) = self.threads {
            options.threads = threads.get();
        }
        if let Some(scratch) = &self.scratch {
            if !scratch.is_dir() {
                let text = format!("{} is no folder; --scratch wants one", scratch.display());
                return Err(Failure::input(text));
            }
            options.scratch.clone_from(scratch);
        }
        Ok(options)
    }

    #[expect(clippy::cast_possible_truncation, reason = "within a day")]
    fn slot_micros(&self) -> Result<i64, Failure> {
        match (self.slot * 1e6).round() {
            micros if (1.0..=86_400e6).contains(&micros) => Ok(micros as i64),
            _ => Err(Failure::input(format!(
                "a slot of {} s: expected 0.000001 s to 86400 s, one day",
                self.slot
            ))),
        }
    }

    fn prices(&self) -> Result<Option<(Largest, Catalog)>, Failure> {
        let Some(largest) = self.largest else { return Ok(None) };
        Ok(Some((largest, cirrus::catalogs::open(&self.catalog)?)))
    }

    fn tell(
        &self,
        report: &report::Report,
        priced: Option<&Priced>,
        reading: &Reading,
        is_whole: bool,
    ) -> Result<(), Failure> {
        let problems = reading.problems();
        let progress = reading.progress();
        let (read, all) = (progress.bytes_read(), progress.bytes_total());
        if self.json {
            let problems = problems.iter().map(|(kind, tally)| told(kind, tally)).collect();
            let (format, bytes_read, bytes_total) = (self.format.name(), read, all);
            let told = Told { format, is_whole, bytes_read, bytes_total, problems, priced, report };
            output(|out| {
                serde_json::to_writer(&mut *out, &told)?;
                out.write_all(b"\n")
            })?;
        } else {
            output(|out| {
                out.write_all(report::answer(report).as_bytes())?;
                if let Some(priced) = priced {
                    writeln!(out, "\n{priced}")?;
                }
                out.write_all(report::details(report).as_bytes())
            })?;
        }
        if !is_whole {
            say(&format!(
                "cirrus: interrupted after {} of {}: these are the figures of what was read",
                indicatif::HumanBytes(read),
                indicatif::HumanBytes(all)
            ));
        }
        tell_late(&report.trace.late, self.window);
        tell_problems(problems);
        Ok(())
    }
}

/// The report as JSON.
#[derive(Serialize)]
struct Told<'a> {
    format: &'static str,
    is_whole: bool,
    bytes_read: u64,
    bytes_total: u64,
    problems: Vec<Value>,
    priced: Option<&'a Priced>,
    #[serde(flatten)]
    report: &'a report::Report,
}

/// What was left out because its time had been dealt with.
fn tell_late(late: &report::Late, window: u32) {
    let records = late.uses + late.gauges + late.machines + late.tasks;
    if records > 0 {
        say(&format!(
            "cirrus: {records} records came more than {window} slots late, and what they say of slots \
             that were closed is left out: the files are not in the order of time; read them with \
             --sort, or with a larger --window"
        ));
    }
}

/// What was wrong in the files, a kind a line.
fn tell_problems(problems: &Problems) {
    if !problems.is_empty() {
        problems.to_string().lines().for_each(|line| say(&format!("cirrus: {line}")));
    }
}

fn told(kind: Kind, tally: &cirrus_trace::problems::Tally) -> Value {
    let file = tally.first.as_ref().map(|place| place.file.display().to_string());
    let (line, group, row) = match tally.first.as_ref().and_then(|place| place.at) {
        None => (None, None, None),
        Some(Spot::Line(line)) => (Some(line), None, None),
        Some(Spot::Row { group, row }) => (None, Some(group), Some(row)),
    };
    json!({
        "kind": kind.name(),
        "count": tally.count,
        "first": { "file": file, "line": line, "row_group": group, "row": row, "text": tally.text },
    })
}

/// A flag that Ctrl-C sets; a second Ctrl-C ends the process.
fn interrupts() -> Result<Arc<AtomicBool>, Failure> {
    use signal_hook::consts::SIGINT;
    let stop = Arc::new(AtomicBool::new(false));
    let failed = |error: std::io::Error| Failure::fault(format!("cannot take signals: {error}"));
    // In this order: the first one finds the flag unset.
    signal_hook::flag::register_conditional_shutdown(
        SIGINT,
        i32::from(INTERRUPTED),
        Arc::clone(&stop),
    )
    .map_err(failed)?;
    signal_hook::flag::register(SIGINT, Arc::clone(&stop)).map_err(failed)?;
    Ok(stop)
}

/// Does what takes long, and shows how far it is.
fn watched(progress: &Progress, work: impl FnOnce()) {
    let bar = ProgressBar::new(progress.bytes_total());
    let style = "reading {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).unwrap_or(ProgressStyle::default_bar()));
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let bar = &bar;
        scope.spawn(move || {
            let wait = Duration::from_millis(100);
            while is_done.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                bar.set_position(progress.bytes_read());
            }
        });
        work();
        drop(done);
    });
    bar.finish_and_clear();
}
