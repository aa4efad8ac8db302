//! The program `cirrus-bench`: ratios of Cirrus to other systems, measured in one run.
//!
//! Owns the command line. Data goes to stdout, the rest to stderr; exit codes are 0 measured, 1
//! wrong arguments, 2 something could not be measured. Missing a target is a result, not a failure.

mod comparisons;
mod load;
mod min;
mod network;
mod processor;
mod ratio;
mod report;
mod row;
mod servers;
mod side;
mod traces;

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use serde_json::json;

use crate::comparisons::{Bench, Cell, FAMILIES};
use crate::processor::{MachineTime, Processors, SyscallWindow};
use crate::report::Report;
use crate::servers::{Bare, Canned, Cirrus, Launched, Servers};
use crate::side::Turns;
use crate::traces::Pattern;

/// As in the program cirrus.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds of a comparison, and how many times as many there are where targets are judged.
const ROUNDS: usize = 24;
const JUDGED_FACTOR: usize = 3;

/// The flag that the program gives itself inside its network namespace.
const INSIDE: &str = "--inside-namespace";

/// Compare Cirrus with other systems, in one run, on the same processors.
#[derive(Debug, Parser)]
#[command(name = "cirrus-bench", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    /// List the comparisons and measure nothing
    #[arg(long)]
    list: bool,
    /// Only comparisons whose name contains this; may be given several times
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Only those that targets are about
    #[arg(long)]
    quick: bool,
    /// How long each side works in each comparison; three times as long where targets are judged
    #[arg(long, value_name = "SECONDS", default_value_t = 1.2, value_parser = seconds)]
    seconds: f64,
    /// Print rows as JSON lines instead of a table
    #[arg(long)]
    json: bool,
    /// Where results.jsonl goes
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    out: PathBuf,
    #[arg(long, hide = true)]
    inside_namespace: bool,
}

/// What the program is when it starts itself.
#[derive(Debug, Subcommand)]
#[command(hide = true)]
enum Part {
    #[command(hide = true)]
    Launch(Launched),
    #[command(subcommand, hide = true)]
    Serve(Serve),
}

#[derive(Debug, Subcommand)]
enum Serve {
    Bare(Bare),
    Canned(Canned),
    Cirrus(Cirrus),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that has gone away wants no more.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let result = match cli.part {
        Some(Part::Launch(launched)) => launched.run().map(|()| true),
        Some(Part::Serve(Serve::Bare(bare))) => bare.run().map(|()| true),
        Some(Part::Serve(Serve::Canned(canned))) => canned.run().map(|()| true),
        Some(Part::Serve(Serve::Cirrus(cirrus))) => cirrus.run().map(|()| true),
        None => run(&cli),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            say(&format!("cirrus-bench: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Whether everything that was asked for could be measured.
fn run(cli: &Cli) -> Result<bool> {
    let cells = chosen(cli);
    if cells.is_empty() {
        say("cirrus-bench: no comparison has such a name; --list shows them all");
        return Ok(false);
    }
    if cli.list {
        return list(&cells).map(|()| true);
    }
    let traces = cli.out.join("traces");
    match cli.inside_namespace {
        true => network::set_up()?,
        false => {
            download(&cells, &traces);
            say(&format!("over the host's loopback: {:#}", network::enter(INSIDE)));
        }
    }
    let congestion = network::congestion()?;
    let counts_syscalls = match SyscallWindow::probe() {
        Ok(()) => true,
        Err(reason) => {
            say(&reason);
            false
        }
    };
    let processors = Processors::choose()?;
    processor::pin(processors.client)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut bench = Bench {
        servers: Servers::new(processors, cli.out.join("stores")),
        processors,
        runtime: Rc::new(runtime.context("no runtime")?),
        turns: turns(cli, false),
        counts_syscalls,
        traces,
    };
    let mut report = Report::create(&cli.out, cells.len(), cli.json)?;
    let (mut is_complete, mut family) = (true, "");
    for cell in &cells {
        let its_family = cell.name.split('/').next().unwrap_or_default();
        if family != its_family {
            // What earlier comparisons left in the servers is none of this one's business.
            bench.servers.end();
            family = its_family;
        }
        report.begin(&cell.name);
        bench.turns = turns(cli, cell.is_quick);
        let before = MachineTime::now()?;
        match (cell.measure)(&mut bench) {
            Ok(mut rows) => {
                let elsewhere = before.elsewhere()?;
                for row in &mut rows {
                    row.detail.insert("congestion".to_owned(), json!(congestion));
                    row.detail.insert("busy_elsewhere".to_owned(), json!(elsewhere));
                }
                report.add(rows, elsewhere)?;
            }
            Err(error) => {
                report.fail(&cell.name, &error)?;
                is_complete = false;
            }
        }
    }
    report.finish()?;
    Ok(is_complete)
}

/// Gets what comparisons read from elsewhere, while there is a network. A comparison that misses
/// something says so itself.
fn download(cells: &[Cell], folder: &Path) {
    for pattern in Pattern::ALL {
        let is_read =
            cells.iter().any(|cell| cell.name.split('/').any(|part| part == pattern.name()));
        if let Some(error) = is_read.then(|| pattern.download(folder).err()).flatten() {
            say(&format!("{}: {error:#}", pattern.name()));
        }
    }
}

fn turns(cli: &Cli, is_judged: bool) -> Turns {
    let slice = Duration::from_secs_f64(cli.seconds) / u32::try_from(ROUNDS).unwrap_or(1);
    Turns { rounds: ROUNDS * if is_judged { JUDGED_FACTOR } else { 1 }, slice }
}

fn chosen(cli: &Cli) -> Vec<Cell> {
    let mut cells: Vec<Cell> = FAMILIES.iter().flat_map(|family| (family.cells)()).collect();
    cells.retain(|cell| {
        let is_named = cli.only.iter().any(|pattern| cell.name.contains(pattern.as_str()));
        (cli.only.is_empty() || is_named) && (!cli.quick || cell.is_quick)
    });
    cells
}

fn list(cells: &[Cell]) -> Result<()> {
    for family in &FAMILIES {
        let of_family = |cell: &&Cell| cell.name.split('/').next() == Some(family.name);
        let mut of_family = cells.iter().filter(of_family).peekable();
        if of_family.peek().is_some() {
            print(&format!("{}: {}", family.name, family.about))?;
        }
        for cell in of_family {
            let mark = if cell.is_quick { "quick" } else { "" };
            print(format!("  {:<36} {mark}", cell.name).trim_end())?;
        }
    }
    Ok(())
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds from 0.1 to 600".to_owned()),
    }
}

/// A line of data.
fn print(line: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        // A reader that has gone away, as behind `| head`, wants no more.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to stdout"),
    }
}

/// A line for the person at the terminal. Without a terminal to write to there is nobody to tell.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
