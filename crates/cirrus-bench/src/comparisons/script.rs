//! A peer that is a Python program.
//!
//! Owns its process and what is said to it: after the line `ready`, each line of its stdin is a number of
//! seconds to work for, answered by the operations that it did and the seconds that it took.
//! Knows nothing of what it does.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::load::Latency;
use crate::side::{Side, Work};

/// A program that runs.
pub(super) struct Script {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Script {
    /// Starts it, and waits until it is ready.
    pub(super) fn start(
        python: &str,
        source: &str,
        arguments: impl Iterator<Item = OsString>,
    ) -> Result<Self> {
        let mut child = Command::new(python)
            .args(["-W", "ignore", "-c", source])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{python} cannot be started"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{python} has no pipes");
        };
        let mut this = Self { child, input, output: BufReader::new(output) };
        let ready = this.line()?;
        if !ready.starts_with("ready") {
            bail!("{ready}");
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
