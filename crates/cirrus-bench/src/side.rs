//! Two sides by turns.
//!
//! Owns the order of slices and what is read off after each. May not know what a side does.
//! Invariant: within a round ours, theirs and ours again stand next to each other, and rounds
//! begin with each of them in turn, so that a machine that slows down slows all of them down.

use std::time::Duration;

use anyhow::Result;

use crate::load::Latency;
use crate::processor::{Calls, SyscallWindow, process_time, thread_time};
use crate::ratio::Round;

/// A client under load together with its server.
pub(crate) trait Side {
    /// The server's process.
    fn server(&self) -> u32;

    /// Works for about `slice`; nothing is in flight before and after.
    fn work(&mut self, slice: Duration, latency: &mut Latency) -> Result<Work>;
}

/// What one slice did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) operations: u64,
    pub(crate) elapsed: Duration,
}

/// One slice and its cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    pub(crate) work: Work,
    /// Processor time of the server.
    pub(crate) server: Duration,
    /// Processor time of the client's thread.
    pub(crate) client: Duration,
    pub(crate) p99_us: f64,
}

/// How long both sides are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turns {
    pub(crate) rounds: usize,
    pub(crate) slice: Duration,
}

impl Turns {
    /// As long in all, in more and shorter slices: for numbers that one hiccup of the machine spoils
    /// for its slice.
    pub(crate) fn finer(self) -> Self {
        Self { rounds: self.rounds * 3, slice: self.slice / 3 }
    }
}

/// Everything that one side did.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) slices: Vec<Slice>,
    pub(crate) latency: Latency,
}

impl Account {
    fn new() -> Self {
        Self { slices: Vec::new(), latency: Latency::new() }
    }

    /// The mean of a number over the slices.
    #[expect(clippy::cast_precision_loss, reason = "a count of rounds")]
    pub(crate) fn mean(&self, number: impl Fn(&Slice) -> f64) -> f64 {
        self.slices.iter().map(number).sum::<f64>() / self.slices.len() as f64
    }
}

/// Both sides of a comparison, round by round.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) ours: Account,
    pub(crate) theirs: Account,
    pub(crate) again: Account,
}

impl Compared {
    /// Lets both sides work by turns, after a slice each that does not count.
    pub(crate) fn run(ours: &mut dyn Side, theirs: &mut dyn Side, turns: Turns) -> Result<Self> {
        let mut this = Self { ours: Account::new(), theirs: Account::new(), again: Account::new() };
        slice(ours, turns.slice, &mut Account::new())?;
        slice(theirs, turns.slice, &mut Account::new())?;
        for round in 0..turns.rounds {
            for turn in 0..3 {
                match (round + turn) % 3 {
                    0 => slice(ours, turns.slice, &mut this.ours)?,
                    1 => slice(theirs, turns.slice, &mut this.theirs)?,
                    _ => slice(ours, turns.slice, &mut this.again)?,
                }
            }
        }
        Ok(this)
    }

    /// One number of every slice, by rounds.
    pub(crate) fn rounds(&self, number: impl Fn(&Slice) -> f64) -> Vec<Round> {
        let (ours, theirs) = (&self.ours.slices, &self.theirs.slices);
        let rounds = ours.iter().zip(theirs).zip(&self.again.slices);
        let round = |((ours, theirs), again)| Round {
            ours: number(ours),
            theirs: number(theirs),
            again: number(again),
        };
        rounds.map(round).collect()
    }
}

/// System calls of a kind per operation of both servers, by turns.
pub(crate) fn syscalls(
    ours: &mut dyn Side,
    theirs: &mut dyn Side,
    calls: Calls,
    turns: Turns,
) -> Result<Vec<Round>> {
    let mut rounds = Vec::with_capacity(turns.rounds);
    for _ in 0..turns.rounds {
        let count = |side: &mut dyn Side| -> Result<f64> {
            let window = SyscallWindow::open(side.server(), calls)?;
            let work = side.work(turns.slice, &mut Latency::new())?;
            Ok(ratio(window.close()?, work.operations))
        };
        rounds.push(Round { ours: count(ours)?, theirs: count(theirs)?, again: count(ours)? });
    }
    Ok(rounds)
}

fn slice(side: &mut dyn Side, slice: Duration, account: &mut Account) -> Result<()> {
    let mut latency = Latency::new();
    let (server, client) = (process_time(side.server())?, thread_time());
    let work = side.work(slice, &mut latency)?;
    let client = thread_time().saturating_sub(client);
    let server = process_time(side.server())?.saturating_sub(server);
    account.slices.push(Slice { work, server, client, p99_us: latency.percentile_us(99.0) });
    account.latency.add(&latency);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts within a second")]
fn ratio(count: u64, of: u64) -> f64 {
    count as f64 / of as f64
}
