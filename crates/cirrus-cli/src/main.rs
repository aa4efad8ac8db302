//! The program `cirrus`.
//!
//! Owns the command line: one file a command. May not hold anything that a library could.
//! Invariant: data goes to stdout and the rest to stderr; exit codes are 0 done, 1 the user's
//! input, 2 our fault.

mod apps;
mod commands;
mod failure;
mod job;
mod toml_file;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{catalog, objects, plan, predict, serve, store, trace};
use crate::failure::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rent compute, memory and GPUs separately; use them as one machine.
#[derive(Debug, Parser)]
#[command(name = "cirrus", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an application, or the job that a file describes, on this machine
    Run(apps::Named),
    /// Learn a model with a parameter server; `cirrus train logistic --help` lists what it is told
    Train {
        /// The model (logistic, softmax, factorization, fm, lda), and what it is told
        #[arg(required = true, trailing_var_arg = true, value_name = "MODEL [ARGS]")]
        words: Vec<OsString>,
    },
    /// Print what a learnt model says of examples
    Predict(predict::Predict),
    /// Find the cheapest machines, with a proof of how cheap they can be
    #[command(
        subcommand,
        subcommand_value_name = "COMMAND|APP",
        after_help = "`cirrus plan images` plans an application, `cirrus plan FILE.toml` a job"
    )]
    Plan(plan::Plan),
    /// Say how much memory of a cluster is unused and could be lent, from its traces
    Trace(Box<trace::Trace>),
    /// Look at the prices that plans are made of, and bring one's own
    #[command(subcommand)]
    Catalog(catalog::Command),
    /// Show how the latest run of an application stands
    Status(apps::Named),
    /// Print the logs of the latest run of an application
    Logs(apps::Named),
    /// End the latest run of an application
    Down(apps::Named),
    /// Serve memory or a disk to others
    #[command(subcommand)]
    Serve(serve::Serve),
    /// Look after a storage node's folder
    #[command(subcommand)]
    Store(store::Store),
    /// Store an object
    Put(objects::Put),
    /// Print an object, or write it to a file
    Get(objects::Get),
    /// Show version and size of an object
    Stat(objects::Stat),
    /// List objects
    Ls(objects::Ls),
    /// Remove objects
    Rm(objects::Rm),
}

fn main() -> ExitCode {
    // A process that a run started says by itself which application it is part of.
    if let Some(app) = cirrus::app_of_this_process() {
        return apps::main(&app, Vec::new()).unwrap_or_else(|failure| report(&failure));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.command {
        Command::Run(named) => job::run(named),
        Command::Train { words } => apps::Named::new("train".to_owned(), words).main("run"),
        Command::Predict(predict) => predict.run().map(|()| ExitCode::SUCCESS),
        Command::Plan(plan) => plan.run(),
        Command::Trace(trace) => trace.run(),
        Command::Catalog(catalog) => catalog.run().map(|()| ExitCode::SUCCESS),
        Command::Status(named) => named.main("status"),
        Command::Logs(named) => named.main("logs"),
        Command::Down(named) => named.main("down"),
        Command::Serve(serve) => serve.run().map(|()| ExitCode::SUCCESS),
        Command::Store(store) => store.run(),
        Command::Put(put) => put.run().map(|()| ExitCode::SUCCESS),
        Command::Get(get) => get.run().map(|()| ExitCode::SUCCESS),
        Command::Stat(stat) => stat.run().map(|()| ExitCode::SUCCESS),
        Command::Ls(ls) => ls.run().map(|()| ExitCode::SUCCESS),
        Command::Rm(rm) => rm.run().map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|failure| report(&failure))
}

fn report(failure: &Failure) -> ExitCode {
    say(&format!("cirrus: {failure}"));
    ExitCode::from(failure.exit_code())
}

/// What was wrong with the arguments, in one line; or the help that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match cirrus::print(error.to_string().trim_end()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report(&error.into()),
        };
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        say(error.to_string().trim_end());
    } else {
        say(&format!("cirrus: {}", cirrus::one_line_usage(error)));
    }
    ExitCode::from(1)
}

/// A line for the person at the terminal. Without a terminal to write to there is nobody to tell.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
