//! The job `train`: learn a model with a parameter server, the way a user of Cirrus would write it.
//!
//! Owns the application `train`: `load` turns a data set into blocks of examples, `work` computes
//! gradients, `shard` holds parameters and applies them, `keep` keeps cuts on a disk, `chief` says when, judges by held-out examples and leaves the model. Knows
//! no model and no format.
//! Invariant: a minibatch counts once in the parameters, whatever is killed.

mod board;
mod chief;
mod cut;
mod keeper;
mod kind;
mod load;
mod shard;
mod work;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use cirrus::{App, ByteSize, Context, OrderSpec, Settings, SplitSpec};
use cirrus_store::Key;
use cirrus_store::rule::{Optimizer, Penalty};
use cirrus_store::table::TableSpec;
use tokio::runtime::Runtime;

use crate::examples::source::{self, Format};
use crate::fetch::{Terminal, default_cache_dir};
use crate::models::Model;
use crate::parameters::{Part, Remote, RemoteOptions};
use crate::schedule::Schedule;
use board::Board;
pub use kind::{About, Facts, Kind};

/// The arguments of the job.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to learn: logistic, softmax, factorization, fm or lda
    #[arg(value_name = "MODEL")]
    pub kind: Kind,
    /// What to learn from: mnist, movielens-100k, spamassassin, adult, synthetic-clicks, synthetic-ratings or
    /// synthetic-topics (:ROWS may follow), or a file or folder
    #[arg(long, value_name = "NAME|FILE|DIR")]
    pub data: String,
    /// What to judge by; by default a share of the data
    #[arg(long, value_name = "NAME|FILE|DIR")]
    pub test_data: Option<String>,
    /// Format of the files: libsvm, criteo, csv, ratings, text or idx; by default guessed
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Share of the examples that is held out to judge by
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    pub held_out: f64,
    /// Rows that may be wrong; they are left out, counted and reported
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub bad_rows: u64,
    /// Processes that compute gradients
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,
    /// Processes that hold parameters
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub shards: u32,
    /// How far workers may be apart: bsp (in step), ssp:K (K steps), asp (no bound)
    #[arg(long, value_name = "bsp|asp|ssp:K", default_value = "ssp:4")]
    pub mode: Mode,
    /// sgd, momentum, nesterov, adagrad, adam or ftrl; by default what suits the model
    #[arg(long, value_name = "NAME", value_parser = optimizer)]
    pub optimizer: Option<Optimizer>,
    /// How many times to go over the examples; by default what suits the model
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: Option<u32>,
    /// Examples in a minibatch; by default what suits the model
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub minibatch: Option<u32>,
    /// The learning rate at the first step; by default what suits the model
    #[arg(long, value_name = "RATE")]
    pub rate: Option<f32>,
    /// How the rate falls: constant, time:N (half after N steps), root:N (half after 3 N steps),
    /// stairs:N:F (times F after each N steps), cycle
    #[arg(long, value_name = "CURVE")]
    pub schedule: Option<Curve>,
    /// Weight of the sum of absolute values
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.0)]
    pub l1: f32,
    /// Weight of half of the sum of squares; by default what suits the model
    #[arg(long, value_name = "WEIGHT")]
    pub l2: Option<f32>,
    /// Factors of factorization and fm, topics of lda
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub factors: Option<u32>,
    /// Hashed features are 2 to the power of this; by default 18, for lda 13
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u32).range(8..=28))]
    pub bits: Option<u32>,
    /// Send gradients as 16-bit floats (bfloat16)
    #[arg(long)]
    pub half: bool,
    /// What orders and first values are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Seconds between two cuts: what the loss of a shard costs at the most
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub cut_every: f64,
    /// Memory for examples
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub memory: ByteSize,
    /// Memory of each shard
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub shard_memory: ByteSize,
    /// Disk for cuts
    #[arg(long, value_name = "SIZE", default_value = "16GiB")]
    pub disk: ByteSize,
    /// Where to save the model; by default in the run's folder
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// How far workers may be apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bulk-synchronous: all read what the last step of all has made.
    Bsp,
    /// Asynchronous: nobody waits.
    Asp,
    /// Stale-synchronous: at most so many steps ahead of the slowest.
    Ssp(u32),
}

impl Mode {
    fn bound(self) -> Option<u32> {
        match self {
            Self::Bsp => Some(0),
            Self::Asp => None,
            Self::Ssp(bound) => Some(bound),
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected bsp, asp, or ssp:K, such as ssp:4";
        match text.split_once(':') {
            None if text == "bsp" => Ok(Self::Bsp),
            None if text == "asp" => Ok(Self::Asp),
            Some(("ssp", bound)) => match bound.parse() {
                Ok(bound) => Ok(Self::Ssp(bound)),
                Err(_) => Err(format!("`{bound}` is no number of steps; {expected}")),
            },
            None | Some(_) => Err(expected.to_owned()),
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        Ok(_) | Err(_) => Err(format!("`{text}` is no share; expected 0 to 1, such as 0.1")),
    }
}

fn optimizer(name: &str) -> Result<Optimizer, String> {
    Optimizer::named(name).ok_or_else(|| {
        format!("there is no optimizer `{name}`; there are {}", Optimizer::NAMES.join(", "))
    })
}

/// How the rate falls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    /// Over the steps of the whole training.
    Cycle,
    /// As it says.
    Fixed(Schedule),
}

impl Curve {
    fn schedule(self, steps_total: u64) -> Schedule {
        match self {
            Self::Cycle => Schedule::OneCycle { steps_total },
            Self::Fixed(schedule) => schedule,
        }
    }
}

impl FromStr for Curve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected constant, time:N, root:N, stairs:N:F or cycle, such as time:1000";
        let count =
            |text: &str| text.parse().map_err(|_| format!("`{text}` is no count; {expected}"));
        let words: Vec<&str> = text.split(':').collect();
        Ok(Self::Fixed(match words[..] {
            ["cycle"] => return Ok(Self::Cycle),
            ["constant"] => Schedule::Constant,
            ["time", n] => Schedule::InverseTime { half_life: count(n)? },
            ["root", n] => Schedule::InverseRoot { steps: count(n)? },
            ["stairs", n, factor] => {
                let factor =
                    factor.parse().map_err(|_| format!("`{factor}` is no factor; {expected}"))?;
                Schedule::Staircase { every: count(n)?, factor }
            }
            _ => return Err(expected.to_owned()),
        }))
    }
}

/// The sets and channels of the job.
const TRAIN: &str = "train";
const TEST: &str = "test";
const DONE: &str = "done";

/// Examples in a record: they are shuffled within a split, and their blocks over the set.
const BLOCK_EXAMPLES: u32 = 64;

/// How often is looked whether shards are ready.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Minibatches of a split, which is committed whole: one batch of the channel.
const SPLIT_MINIBATCHES: u32 = 16;

impl Args {
    /// A minibatch is so many blocks, exactly.
    fn block(&self) -> u32 {
        let minibatch = self.minibatch();
        let divides = |block: &u32| minibatch.is_multiple_of(*block);
        (1..=BLOCK_EXAMPLES.min(minibatch)).rev().find(divides).unwrap_or(1)
    }

    /// How data are read.
    fn options(&self, held_out: f64) -> source::Options {
        let is_lda = self.kind == Kind::Lda;
        source::Options {
            format: self.format,
            bits: self.bits.unwrap_or(if is_lda { 13 } else { 18 }),
            counts: is_lda,
            seed: self.seed,
            held_out,
            bad_rows_max: self.bad_rows,
            names: None,
        }
    }

    fn factors(&self) -> u32 {
        self.factors.unwrap_or(self.kind.usual().factors)
    }

    fn minibatch(&self) -> u32 {
        self.minibatch.unwrap_or(self.kind.usual().minibatch)
    }

    fn epochs(&self) -> u32 {
        self.epochs.unwrap_or(self.kind.usual().epochs)
    }

    fn optimizer(&self) -> Optimizer {
        self.optimizer.unwrap_or(self.kind.usual().optimizer)
    }

    fn l2(&self) -> f32 {
        self.l2.unwrap_or(self.kind.usual().l2)
    }

    /// The rate of a step, of so many in all.
    fn rate(&self, step: u64, steps: u64) -> f32 {
        let usual = self.kind.usual();
        let curve = self.schedule.unwrap_or(usual.schedule);
        curve.schedule(steps).rate(self.rate.unwrap_or(usual.rate), step)
    }
}

/// The job as an application.
pub fn app() -> App<Args> {
    App::new("train")
        .about("Learn a model with a parameter server")
        .args::<Args>()
        .channel::<()>(DONE, "64MiB")
        .unordered(DONE)
        .task(load::load::task().writes(TRAIN).writes(TEST))
        .task(shard::shard::task())
        .task(keeper::keep::task())
        .task(work::work::task().reads(TRAIN).writes(DONE))
        .task(chief::chief::task().reads(DONE).reads(TEST))
        .configure(configure)
        .prepare(prepare)
}

/// Fetches what has to be fetched where a person can see how far it is, and refuses what cannot be before
/// anything is started.
fn prepare(args: &Args) -> cirrus::Result<()> {
    for data in std::iter::once(&args.data).chain(&args.test_data) {
        source::prepare(data, &default_cache_dir()?, &Terminal::default())?;
    }
    if let Some(path) = &args.save {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        tempfile::tempfile_in(folder.unwrap_or(Path::new("."))).map_err(|error| {
            let text = format!("--save {}: cannot write there", path.display());
            cirrus::Error::input(text).with_source(error)
        })?;
    }
    Ok(())
}

fn configure(args: &Args, settings: &mut Settings) {
    settings.memory("data", args.memory);
    settings.replicas("work", args.workers);
    settings.replicas("shard", args.shards);
    let spec = SplitSpec {
        seed: args.seed,
        epochs: args.epochs(),
        batch: args.minibatch() / args.block() * SPLIT_MINIBATCHES,
        batches_per_split: 1,
        order: OrderSpec::Shuffled,
        window: 4096,
        ..SplitSpec::default()
    };
    settings.splits(TRAIN, spec);
}

fn table_name() -> cirrus::Result<Key> {
    Ok(Key::try_from("parameters")?)
}

/// The rows that a shard has: the first, and how many.
fn rows_of_shard(rows: u32, shards: u32, shard: usize) -> (u32, u32) {
    let bound = |shard: u64| u64::from(rows) * shard / u64::from(shards);
    let narrow = |row: u64| u32::try_from(row).expect("no more than all rows");
    let first = bound(shard as u64);
    (narrow(first), narrow(bound(shard as u64 + 1) - first))
}

fn table_spec(
    args: &Args,
    model: &dyn Model,
    shard: usize,
    generation: u64,
) -> cirrus::Result<TableSpec> {
    let shape = model.shape();
    let (first_row, rows) = rows_of_shard(shape.rows, args.shards, shard);
    let spec = TableSpec {
        first_row,
        rows,
        columns: shape.columns,
        initial: shape.initial,
        optimizer: args.optimizer(),
        penalty: model.penalty(Penalty { l1: args.l1, l2: args.l2() }),
        staleness: args.mode.bound(),
        seat_ms: 5_000,
        generation,
    };
    Ok(spec.validated()?)
}

/// The way to the parameters for this worker or observer.
fn remote(args: &Args, model: &dyn Model, worker: u64) -> cirrus::Result<Remote> {
    let shape = model.shape();
    let (table, columns) = (table_name()?, shape.columns as usize);
    let options = RemoteOptions { table, columns, dense: shape.dense, half: args.half, worker };
    Remote::new(options).map_err(|error| cirrus::Error::io("cannot start a thread", error))
}

/// Waits until all shards are of one generation, and turns to them; false when the training is over.
fn turn_to_shards(
    ctx: &Context,
    args: &Args,
    runtime: &Runtime,
    board: &Board,
    rows: u32,
    remote: &mut Remote,
) -> cirrus::Result<bool> {
    loop {
        if ctx.is_cancelled() {
            return Err(cirrus::Error::new(cirrus::Kind::Cancelled, "waiting for shards"));
        }
        let found = runtime.block_on(async {
            let order = board.order().await?.unwrap_or_default();
            if order.over {
                return Ok(Some((order.generation, Vec::new())));
            }
            let mut parts = Vec::new();
            for (shard, life) in order.lives.iter().enumerate() {
                let place = board.shard(shard).await?.filter(|place| place.life == *life);
                let done = board.done(shard).await?.unwrap_or_default();
                let is_ready = done.life == *life && done.generation == order.generation;
                let Some(place) = place.filter(|_| is_ready) else { return Ok(None) };
                let (first_row, rows) = rows_of_shard(rows, args.shards, shard);
                parts.push(Part { address: place.address, first_row, rows });
            }
            Ok::<_, cirrus::Error>(Some((order.generation, parts)))
        })?;
        match found {
            Some((0, _)) | None => std::thread::sleep(LOOK_INTERVAL),
            Some((_, parts)) if parts.is_empty() => return Ok(false),
            Some((generation, parts)) => {
                remote.turn_to(generation, parts);
                return Ok(true);
            }
        }
    }
}
