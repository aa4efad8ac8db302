//! Parameters that other processes hold.
//!
//! Owns the way to the shards: who has which rows, one request a shard for gradients and values, and
//! beginning anew when a shard was lost. Knows no model.
//! Invariant: what [`Remote::begin`] sends may be sent again; the shards apply it once.

use std::sync::Arc;
use std::time::Duration;

use cirrus_store::client::{Pull, Push, RowList, Stepper, Values};
use cirrus_store::table::{Call, OBSERVER, Stepped};
use cirrus_store::{Client, ClientOptions, Key, Kind, Result};
use futures_util::future::{join_all, try_join_all};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

/// How long slower workers are waited for before all is begun anew.
const PATIENCE: Duration = Duration::from_secs(120);

/// A part of a table, and who has it.
#[derive(Clone, Debug)]
pub struct Part {
    /// `HOST:PORT` of the node.
    pub address: String,
    /// Its first row.
    pub first_row: u32,
    /// How many rows it has.
    pub rows: u32,
}

/// A table on several nodes, as one worker or observer sees it.
#[derive(Debug)]
pub struct Remote {
    runtime: Runtime,
    table: Key,
    shards: Arc<Vec<Shard>>,
    columns: usize,
    generation: u64,
    worker: u64,
    /// Steps that were sent.
    clock: u32,
    /// Whether every step is for all rows.
    dense: bool,
    half: bool,
    /// Says that the worker lives, while it has a seat.
    beats: Option<JoinSet<()>>,
}

#[derive(Clone, Debug)]
struct Shard {
    client: Client,
    part: Part,
}

/// What a table is to its users.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// The table's name.
    pub table: Key,
    /// Coordinates of a row.
    pub columns: usize,
    /// Whether every step is for all rows.
    pub dense: bool,
    /// Whether gradients travel as bfloat16.
    pub half: bool,
    /// Who steps: a number of its own, or [`OBSERVER`].
    pub worker: u64,
}

/// Gradients of one minibatch.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// The split that it is of.
    pub split: u64,
    /// Its place there.
    pub minibatch: u32,
    /// The learning rate.
    pub rate: f32,
    /// The rows, ascending.
    pub rows: Arc<[u32]>,
    /// Row by row.
    pub gradients: Vec<f32>,
}

/// A step whose answer has not come.
#[derive(Debug)]
pub struct Pending {
    /// Of the request.
    bytes: u64,
    answers: JoinHandle<Result<Vec<(Stepped, Values)>>>,
    read_for: u32,
}

/// What a step brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Brought {
    /// By how many steps the worker was ahead of the slowest when it read.
    pub staleness: u32,
    /// Bytes of rows, gradients and values, without what frames them.
    pub bytes: u64,
}

impl Remote {
    /// A way to no shards yet: [`Remote::turn_to`] names them.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(options: RemoteOptions) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .thread_name("parameters-io")
            .build()?;
        let RemoteOptions { table, columns, dense, half, worker } = options;
        Ok(Self {
            runtime,
            table,
            shards: Arc::default(),
            columns,
            generation: 0,
            worker,
            clock: 0,
            dense,
            half,
            beats: None,
        })
    }

    /// The table's generation that is meant.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many steps were sent: the next is of this number.
    pub fn clock(&self) -> u32 {
        self.clock
    }

    /// Goes on with a table of this generation, on these nodes, which hold all rows in their order. Nobody waits for the
    /// worker until it joins.
    pub fn turn_to(&mut self, generation: u64, parts: Vec<Part>) {
        self.beats = None;
        self.generation = generation;
        let _inside = self.runtime.enter();
        let shard = |part: Part| {
            let same = |shard: &&Shard| shard.part.address == part.address;
            let client = match self.shards.iter().find(same) {
                Some(shard) => shard.client.clone(),
                None => Client::new(&part.address, client_options()),
            };
            Shard { client, part }
        };
        self.shards = Arc::new(parts.into_iter().map(shard).collect());
    }

    /// Takes a seat: others wait for this worker from now on.
    ///
    /// # Errors
    /// As [`Client::table`].
    pub fn join(&mut self) -> Result<()> {
        if self.beats.is_some() || self.worker == OBSERVER {
            return Ok(());
        }
        let (shards, table, worker) = (self.shards.clone(), self.table.clone(), self.worker);
        let before = self.clock;
        self.clock = self.runtime.block_on(async {
            let mut clock = before;
            for shard in shards.iter() {
                let call = Call::Join { worker, clock };
                clock = clock.max(shard.client.table(&table, &call).await?.clock);
            }
            Ok::<_, cirrus_store::Error>(clock)
        })?;
        let mut beats = JoinSet::new();
        let _inside = self.runtime.enter();
        for shard in self.shards.iter() {
            let (client, table) = (shard.client.clone(), self.table.clone());
            beats.spawn(async move {
                loop {
                    tokio::time::sleep(BEAT_INTERVAL).await;
                    // What is wrong shows in the next step.
                    let _ = client.table(&table, &Call::Beat { worker }).await;
                }
            });
        }
        self.beats = Some(beats);
        Ok(())
    }

    /// Gives the seat back: nobody waits for this worker any more.
    pub fn leave(&mut self) {
        if self.beats.take().is_none() {
            return;
        }
        let (shards, table, worker) = (self.shards.clone(), self.table.clone(), self.worker);
        let leave = Call::Leave { worker };
        // Where it does not arrive the seat is taken back after a while.
        let _ = self
            .runtime
            .block_on(join_all(shards.iter().map(|shard| shard.client.table(&table, &leave))));
    }

    /// How many minibatches of a split all shards have applied.
    ///
    /// # Errors
    /// As [`Client::table`].
    pub fn mark(&self, split: u64) -> Result<u32> {
        let call = Call::Mark { split };
        let marks = self.shards.iter().map(|shard| shard.client.table(&self.table, &call));
        let marks = self.runtime.block_on(try_join_all(marks))?;
        let other = marks.iter().find(|stand| stand.generation != self.generation);
        if let Some(other) = other {
            let text = format!("a shard is of generation {}", other.generation);
            return Err(cirrus_store::Error::new(Kind::WrongVersion, text));
        }
        Ok(marks.iter().map(|stand| stand.mark).min().unwrap_or(0))
    }

    /// Sends gradients, if there are any, and asks for rows, if any are wanted: their values are for
    /// step `read_for`.
    pub fn begin(
        &mut self,
        push: Option<Gradients>,
        wanted: Option<Arc<[u32]>>,
        read_for: u32,
    ) -> Pending {
        self.clock += u32::from(push.is_some());
        let (worker, generation, clock) = (self.worker, self.generation, self.clock);
        let stepper = Stepper { worker, generation, clock };
        let (columns, dense, half) = (self.columns, self.dense, self.half);
        let (shards, table) = (self.shards.clone(), self.table.clone());
        let named = |rows: &Arc<[u32]>| if dense { 0 } else { 4 * rows.len() as u64 };
        let float = if half { 2 } else { 4 };
        let gradients = |push: &Gradients| float * push.gradients.len() as u64;
        let bytes = push.as_ref().map_or(0, |push| named(&push.rows) + gradients(push))
            + wanted.as_ref().map_or(0, named);
        let answers = self.runtime.spawn(async move {
            let steps = shards.iter().map(|shard| {
                let part = &shard.part;
                let push = push.as_ref().map(|push| {
                    let (rows, range) = rows_of(&push.rows, part, dense);
                    let gradients = &push.gradients[range.start * columns..range.end * columns];
                    let Gradients { split, minibatch, rate, .. } = *push;
                    Push { split, minibatch, rate, rows, gradients, half }
                });
                let none = RowList::Named(&[]);
                let rows = wanted.as_ref().map_or(none, |rows| rows_of(rows, part, dense).0);
                let pull = Pull { read_for, rows, patience: PATIENCE };
                let is_needed = push.is_some() || !is_empty(rows);
                let (client, table) = (&shard.client, &table);
                async move {
                    match is_needed {
                        true => client.step(table, stepper, push, pull).await,
                        false => {
                            Ok((Stepped { slowest: read_for, repeated: false }, Values::default()))
                        }
                    }
                }
            });
            try_join_all(steps).await
        });
        Pending { bytes, answers, read_for }
    }

    /// Waits for what was asked for: values of the wanted rows, in their order.
    ///
    /// # Errors
    /// As [`Client::step`]; whatever it is, some shards may have applied the gradients.
    pub fn finish(&self, pending: Pending, values: &mut Vec<f32>) -> Result<Brought> {
        let Pending { bytes, answers, read_for } = pending;
        let answers = self.runtime.block_on(answers).map_err(|error| {
            cirrus_store::Error::new(Kind::Closed, "a step was cut off").with_source(error)
        })??;
        values.clear();
        let mut staleness = 0;
        for (stepped, part) in &answers {
            values.extend(part.iter());
            if !part.is_empty() {
                staleness = staleness.max(read_for.saturating_sub(stepped.slowest));
            }
        }
        let bytes = bytes + 4 * values.len() as u64;
        Ok(Brought { staleness, bytes })
    }
}

/// A seat is taken back after some of these.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Where a shard was lost, its caller finds another one: so no call is tried for long.
fn client_options() -> ClientOptions {
    let mut options = ClientOptions::default();
    options.connect_timeout = Duration::from_secs(1);
    options.request_timeout = Duration::from_secs(3);
    options.large_connections = 1;
    options
}

/// Whether it is worth beginning anew after this error.
pub fn may_pass(error: &cirrus_store::Error) -> bool {
    match error.kind() {
        Kind::WrongVersion | Kind::NotFound | Kind::Unknown => true,
        _ => error.is_retryable(),
    }
}

/// The rows of a part, and where they lie in the ascending list of all.
fn rows_of<'r>(rows: &'r [u32], part: &Part, dense: bool) -> (RowList<'r>, std::ops::Range<usize>) {
    let from = rows.partition_point(|row| *row < part.first_row);
    let to = from + rows[from..].partition_point(|row| *row - part.first_row < part.rows);
    let list = match dense {
        true => RowList::All(part.rows),
        false => RowList::Named(&rows[from..to]),
    };
    (list, from..to)
}

fn is_empty(rows: RowList<'_>) -> bool {
    matches!(rows, RowList::Named([]) | RowList::All(0))
}
