//! How a server's process is started.
//!
//! Owns the two things that have to happen in the new process before the server's program runs:
//! it moves to its processor, and asks to end when the bench ends. Invariant: every thread of a
//! server is on the server's processor.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::processor;

/// Becomes another program: the hidden command behind every server.
#[derive(Debug, clap::Args)]
pub(crate) struct Launched {
    /// The processor of all its threads
    processor: usize,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl Launched {
    /// Returns only when the program could not be started.
    pub(crate) fn run(self) -> Result<()> {
        processor::pin(self.processor)?;
        set_parent_process_death_signal(Some(Signal::KILL)).context("PR_SET_PDEATHSIG")?;
        let program = self.command[0].clone();
        let error = Command::new(&program).args(&self.command[1..]).exec();
        Err(error).with_context(|| format!("cannot start {}", program.display()))
    }
}

/// Starts servers on one processor.
#[derive(Debug)]
pub(crate) struct Launch {
    bench: PathBuf,
    processor: usize,
}

impl Launch {
    pub(super) fn on(processor: usize) -> Result<Self> {
        let bench = std::env::current_exe().context("the path of this program")?;
        Ok(Self { bench, processor })
    }

    /// Starts another program; what it prints goes to stderr.
    pub(super) fn program(&self, program: &str, arguments: &[String]) -> Result<Child> {
        let command = self.command().arg(program).args(arguments).stdout(Stdio::null()).spawn();
        command.with_context(|| format!("cannot start {program}"))
    }

    /// Runs another program to its end.
    pub(super) fn output(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let output = self.command().arg(program).args(arguments).output();
        output.with_context(|| format!("cannot start {program}"))
    }

    /// Starts a server of this program, which prints the address on which it listens.
    pub(super) fn own(&self, arguments: &[&str]) -> Result<(Child, SocketAddr)> {
        let mut command = self.command();
        command.arg(&self.bench).arg("serve").args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start this program")?;
        let stdout = child.stdout.take().context("a server's stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("a server's first line")?;
        match line.trim().parse() {
            Ok(address) => Ok((child, address)),
            Err(_) => {
                child.kill().context("a server that does not listen")?;
                child.wait().context("a server that does not listen")?;
                bail!("the server {arguments:?} printed {line:?}, expected its address")
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.bench);
        command.arg("launch").arg(self.processor.to_string()).arg("--").stdin(Stdio::null());
        command
    }
}

/// The first line that `program --version` prints; what to do if there is no such program.
pub(super) fn version_of(program: &str) -> Result<String> {
    let output = Command::new(program).arg("--version").output().with_context(|| {
        format!("{program} is missing: `make bench` installs it, or apt-get install {program}")
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
