//! The command line that every application has: run, plan, status, logs, down.
//!
//! Owns parsing it and what each command prints. May not know how tasks run. Invariant: data goes
//! to stdout and the rest to stderr; exit codes are 0 done, 1 the user's input, 2 our fault, 130
//! interrupted.

mod logs;
mod plan;
mod progress;
mod resume;
mod status;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::app::App;
use crate::engine::local::Local;
use crate::error::{Error, Kind, Result};
use crate::process::{self, Part};
use crate::report::Summary;
use crate::rundir::{RunDir, write_json};
use crate::task::TaskArgs;

/// How a command ended.
enum Outcome {
    Done,
    Interrupted,
}

const INTERRUPTED: u8 = 130;

/// Does what the arguments say, or the part of the process that a run started.
pub(crate) fn main<A: TaskArgs + clap::Args>(app: App<A>, args: Vec<OsString>) -> ExitCode {
    if let Some(part) = Part::of_this_process() {
        return process::main(app, part);
    }
    let name = app.name;
    let (command, args) = match resume::words(name, args) {
        Ok(resume::Words::Given(args)) => (command(&app), args),
        Ok(resume::Words::Resumed(args)) => (overriding(command(&app)), args),
        Err(error) => return failed(name, &error),
    };
    let matches = match command.try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) => return usage(name, &error),
    };
    match dispatch(app, &args, &matches) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => {
            say(&format!("{name}: interrupted; every process has ended"));
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => failed(name, &error),
    }
}

/// The arguments of `run`, read again in a process that a run started.
pub(crate) fn parse_args<A: TaskArgs + clap::Args>(app: &App<A>, args: &[String]) -> Result<A> {
    let matches = overriding(command(app))
        .try_get_matches_from(args)
        .map_err(|error| Error::internal("the run's arguments").with_source(error))?;
    match matches.subcommand() {
        Some((_, run)) => own_args(run),
        None => Err(Error::internal("a run without arguments")),
    }
}

/// Takes an argument that is given twice as it is given last.
fn overriding(command: Command) -> Command {
    command.mut_subcommand("run", |run| run.args_override_self(true))
}

fn command<A: clap::Args + TaskArgs>(app: &App<A>) -> Command {
    let json_file = Arg::new("json")
        .long("json")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Write the figures of the run to FILE, as JSON");
    let resume = Arg::new("resume")
        .long("resume")
        .value_name("RUN")
        .num_args(0..=1)
        .default_missing_value("")
        .help("Go on with a run that ended before it was done: RUN, or the latest");
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON");
    Command::new(app.name)
        .about(app.about)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            A::augment_args(Command::new("run"))
                .about("Run the application on this machine")
                .arg(json_file)
                .arg(resume),
        )
        .subcommand(
            A::augment_args(Command::new("plan"))
                .about("Find the cheapest machines for what the tasks demand")
                .arg(
                    Arg::new("catalog")
                        .long("catalog")
                        .value_name("NAME|FILE")
                        .default_value("aws")
                        .help("Whose prices: a catalogue of `cirrus catalog list`, or a file"),
                )
                .arg(json.clone()),
        )
        .subcommand(Command::new("status").about("Show how the latest run stands").arg(json))
        .subcommand(
            Command::new("logs")
                .about("Print the logs of the latest run")
                .arg(
                    Arg::new("process")
                        .value_name("PROCESS")
                        .help("Only this process, such as decode-0"),
                )
                .arg(
                    Arg::new("follow")
                        .long("follow")
                        .short('f')
                        .action(ArgAction::SetTrue)
                        .help("Go on until the run is over"),
                ),
        )
        .subcommand(Command::new("down").about("End the latest run"))
}

fn dispatch<A: TaskArgs + clap::Args>(
    app: App<A>,
    args: &[OsString],
    matches: &ArgMatches,
) -> Result<Outcome> {
    match matches.subcommand() {
        Some(("run", run)) => self::run(app, args, run),
        Some(("plan", plan)) => plan::print_plan(&app, plan).map(|()| Outcome::Done),
        Some(("status", status)) => {
            status::print_status(app.name, status.get_flag("json")).map(|()| Outcome::Done)
        }
        Some(("logs", logs)) => {
            let process = logs.get_one::<String>("process").map(String::as_str);
            logs::print_logs(app.name, process, logs.get_flag("follow")).map(|()| Outcome::Done)
        }
        Some(("down", _)) => down(app.name).map(|()| Outcome::Done),
        Some(_) | None => Err(Error::internal("a command that nobody wrote")),
    }
}

fn run<A: TaskArgs + clap::Args>(
    app: App<A>,
    args: &[OsString],
    matches: &ArgMatches,
) -> Result<Outcome> {
    let own: A = own_args(matches)?;
    let texts = args.iter().map(|arg| arg.to_str().map(str::to_owned));
    let texts = texts.collect::<Option<Vec<String>>>();
    let texts = texts.ok_or_else(|| Error::input("an argument is not UTF-8 text"))?;
    let json = matches.get_one::<PathBuf>("json");
    // Everything that the user can get wrong is checked before anything is started.
    app.spec(&own, "check")?;
    json.map_or(Ok(()), |path| writable(path))?;
    match app.prepare.map_or(Ok(()), |prepare| prepare(&own)) {
        Err(error) if error.kind() == Kind::Cancelled => return Ok(Outcome::Interrupted),
        prepared => prepared?,
    }
    let resumed = matches.get_one::<String>("resume");
    let (run, dir, _lock) = match resumed {
        None => RunDir::create(app.name)?,
        Some(run) => RunDir::resume(app.name, Some(run.as_str()).filter(|run| !run.is_empty()))?,
    };
    let spec = app.spec(&own, &run)?;
    if resumed.is_some() {
        resume::check_unchanged(&dir, &spec)?;
    }
    let started = Instant::now();
    let mut progress = progress::Progress::new(&spec);
    let engine = Local::new(dir.clone(), spec.clone(), texts, resumed.is_some())?;
    let finish = |control: &crate::control::Control| {
        Summary::collect(control, &spec, &dir, started.elapsed().as_secs_f64())
    };
    let summary = engine.run(&mut progress, finish);
    progress.finish();
    let Some(summary) = summary? else { return Ok(Outcome::Interrupted) };
    write_json(&dir.summary(), &summary)?;
    dir.clean();
    if let Some(path) = json {
        write_json(path, &summary)?;
    }
    print(&summary.text())?;
    Ok(Outcome::Done)
}

fn down(app: &str) -> Result<()> {
    let (dir, over) = RunDir::latest(app)?;
    if over {
        say(&format!("{app}: nothing is running"));
        return Ok(());
    }
    let record = dir.record()?;
    crate::control::Control::new(record.coordinator).request_stop()?;
    dir.wait_until_over()?;
    say(&format!("{app}: run {} has ended", record.run));
    Ok(())
}

fn own_args<A: clap::Args>(matches: &ArgMatches) -> Result<A> {
    A::from_arg_matches(matches).map_err(|error| Error::input(one_line(&error.to_string())))
}

/// A file that can be created or replaced; nothing is left behind where it cannot.
fn writable(path: &std::path::Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(std::path::Path::new("."));
    tempfile::tempfile_in(folder).map(drop).map_err(|error| {
        let text = format!("--json {}: cannot write there", path.display());
        Error::input(text).with_source(error)
    })
}

fn failed(name: &str, error: &Error) -> ExitCode {
    say(&format!("{name}: {error}"));
    ExitCode::from(error.exit_code())
}

/// What was wrong with the arguments, in one line; or the help that was asked for.
fn usage(name: &str, error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match print(error.to_string().trim_end()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(name, &error),
        };
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        say(error.to_string().trim_end());
        return ExitCode::from(1);
    }
    say(&format!("{name}: {}", one_line(&error.to_string())));
    ExitCode::from(1)
}

/// What is wrong with a command line, in one line: the problem, its tips, and where to read on.
pub fn one_line_usage(error: &clap::Error) -> String {
    one_line(&error.to_string())
}

fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.filter(|line| !line.starts_with("Usage:"));
    let text = lines.collect::<Vec<_>>().join("; ");
    let text = text.replace(":; ", ": ");
    text.trim_start_matches("error: ").replace("For more information, try", "see").to_owned()
}

pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::internal("cannot write JSON").with_source(error))?;
    print(&text)
}

/// Prints a line of data.
///
/// # Errors
///
/// What [`output`] answers.
pub fn print(text: &str) -> Result<()> {
    output(|out| writeln!(out, "{text}"))
}

/// Writes data to standard output as it comes, so that what is long is never whole in memory. A
/// reader that has gone away, as behind `| head`, wants no more.
///
/// # Errors
///
/// [`Kind::Io`] when it cannot be written: what a full disk has swallowed is not done.
pub fn output(write: impl FnOnce(&mut Stdout<'_>) -> io::Result<()>) -> Result<()> {
    write_while_read(write).map(|_is_read| ())
}

type Stdout<'a> = io::BufWriter<io::StdoutLock<'a>>;

/// Writes data to standard output; whether somebody still reads it.
pub(crate) fn write_while_read(
    write: impl FnOnce(&mut Stdout<'_>) -> io::Result<()>,
) -> Result<bool> {
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::io("cannot write to standard output", error)),
    }
}

/// A line for the person at the terminal. Without a terminal to write to there is nobody to tell.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
