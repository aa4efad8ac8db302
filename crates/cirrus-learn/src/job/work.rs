//! The task that computes gradients.
//!
//! Owns `work`: a split at a time, minibatch after minibatch, beginning anew where a shard was lost. Knows
//! no model.
//! Invariant: a split is committed only when every shard has applied all of its minibatches.

use std::time::{Duration, Instant};

use cirrus::{Context, Kind, Rng, Turn, WholeSplit};
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use tokio::runtime::Runtime;

use super::board::{Board, Tally, fresh_number, runtime};
use super::{Args, DONE, Facts, SPLIT_MINIBATCHES, TRAIN, remote, turn_to_shards};
use crate::examples::Examples;
use crate::models::{Minibatch, Model};
use crate::parameters::{Gradients, Remote, may_pass};

/// How often a worker tells what it has done.
const TELL_INTERVAL: Duration = Duration::from_millis(500);

/// Computes gradients of the splits that it leases.
#[cirrus::task(cpu = 1, memory = "1GiB", replicas = 1..=64)]
pub(super) fn work(ctx: Context, args: Args) -> cirrus::Result<()> {
    let splits = ctx.splits(TRAIN)?;
    let (runtime, board) = (runtime()?, Board::new(&ctx)?);
    let facts = runtime.block_on(board.facts(&ctx))?;
    let model = args.kind.model(&args, &facts);
    let remote = remote(&args, model.as_ref(), fresh_number())?;
    let mut worker = Worker {
        steps: steps(&args, &facts),
        runtime,
        board,
        remote,
        model,
        tally: Tally::default(),
        told: Instant::now(),
        ctx: ctx.clone(),
        args,
    };
    splits.each_into(DONE, |turn| match turn {
        Turn::Split(split) => worker.split(&split),
        Turn::Idle => worker.idle(),
    })
}

struct Worker {
    ctx: Context,
    args: Args,
    runtime: Runtime,
    board: Board,
    remote: Remote,
    model: Box<dyn Model>,
    /// Steps of an epoch.
    steps: u64,
    tally: Tally,
    told: Instant,
}

/// Why a split was left.
enum Left {
    /// A shard was lost, or has lost us.
    Lost(cirrus_store::Error),
    Failed(cirrus::Error),
}

impl From<cirrus_store::Error> for Left {
    fn from(error: cirrus_store::Error) -> Self {
        if may_pass(&error) { Self::Lost(error) } else { Self::Failed(error.into()) }
    }
}

impl From<cirrus::Error> for Left {
    fn from(error: cirrus::Error) -> Self {
        Self::Failed(error)
    }
}

impl Worker {
    fn split(&mut self, split: &WholeSplit) -> cirrus::Result<()> {
        let examples = shuffled(&self.args, split)?;
        let minibatches = cut(&examples, self.args.minibatch(), self.model.as_ref());
        loop {
            let left = match self.remote.generation() {
                0 => None,
                _ => match self.apply(split, &minibatches) {
                    Ok(()) => return Ok(()),
                    Err(Left::Failed(error)) => return Err(error),
                    Err(Left::Lost(error)) => Some(error),
                },
            };
            if let Some(error) = left {
                tracing::info!("beginning split {} anew: {error}", split.split);
                self.tally.anew += 1;
            }
            self.remote.leave();
            let (ctx, args, rows) = (&self.ctx, &self.args, self.model.shape().rows);
            let remote = &mut self.remote;
            if !turn_to_shards(ctx, args, &self.runtime, &self.board, rows, remote)? {
                // Somebody else has done the split, or the training would not be over.
                return Ok(());
            }
        }
    }

    /// Has every minibatch of the split applied that is not.
    fn apply(&mut self, split: &WholeSplit, minibatches: &[Minibatch]) -> Result<(), Left> {
        self.remote.join()?;
        let mark = self.remote.mark(split.split)? as usize;
        let Some(first) = minibatches.get(mark) else { return Ok(()) };
        // One step ahead of what is read, where the bound has room for it.
        let is_ahead = self.args.mode.bound() != Some(0);
        let (mut values, mut next) = (Vec::new(), Vec::new());
        let read_for = self.remote.clock();
        let pending = self.remote.begin(None, Some(first.rows().clone()), read_for);
        self.finish(pending, &mut values)?;
        let mut held: Option<Gradients> = None;
        for (place, minibatch) in minibatches.iter().enumerate().skip(mark) {
            if self.ctx.is_cancelled() {
                return Err(cirrus::Error::new(Kind::Cancelled, "computing gradients").into());
            }
            let following = minibatches.get(place + 1).map(|next| next.rows().clone());
            if is_ahead {
                let steps = u32::from(held.is_some()) + 1;
                let read_for = self.remote.clock() + steps;
                let pending = self.remote.begin(held.take(), following, read_for);
                held = Some(self.gradients(split, place, minibatch, &values)?);
                self.finish(pending, &mut next)?;
            } else {
                let gradients = self.gradients(split, place, minibatch, &values)?;
                let read_for = self.remote.clock() + 1;
                let pending = self.remote.begin(Some(gradients), following, read_for);
                self.finish(pending, &mut next)?;
            }
            std::mem::swap(&mut values, &mut next);
        }
        if held.is_some() {
            let pending = self.remote.begin(held, None, 0);
            self.finish(pending, &mut next)?;
        }
        Ok(())
    }

    fn finish(
        &mut self,
        pending: crate::parameters::Pending,
        values: &mut Vec<f32>,
    ) -> Result<(), Left> {
        let brought = self.remote.finish(pending, values)?;
        self.tally.staleness += u64::from(brought.staleness);
        self.tally.staleness_max = self.tally.staleness_max.max(brought.staleness);
        self.tally.bytes += brought.bytes;
        Ok(())
    }

    fn gradients(
        &mut self,
        split: &WholeSplit,
        place: usize,
        minibatch: &Minibatch,
        values: &[f32],
    ) -> Result<Gradients, Left> {
        let mut gradients = vec![0.0; values.len()];
        let loss = self.model.gradients(minibatch, values, &mut gradients);
        let count = minibatch.len();
        let range = &split.range;
        let before = range.first_batch * u64::from(SPLIT_MINIBATCHES);
        let step = u64::from(range.epoch) * self.steps + before + place as u64;
        let rate = self.args.rate(step, self.steps * u64::from(self.args.epochs()));
        if !loss.is_finite() {
            let text = format!(
                "the loss is {loss} in minibatch {place} of split {}, epoch {}, at rate {rate}: the \
                 training diverges; lower --rate, or raise --l2",
                split.split, split.range.epoch
            );
            return Err(cirrus::Error::new(Kind::Task, text).into());
        }
        self.tally.examples += count as u64;
        self.tally.loss += loss;
        self.tally.steps += 1;
        self.ctx.counter("steps").add(1);
        if self.told.elapsed() >= TELL_INTERVAL {
            self.tell()?;
        }
        let minibatch_number = u32::try_from(place).unwrap_or(u32::MAX);
        Ok(Gradients {
            split: split.split,
            minibatch: minibatch_number,
            rate,
            rows: minibatch.rows().clone(),
            gradients,
        })
    }

    fn tell(&mut self) -> cirrus::Result<()> {
        self.told = Instant::now();
        let replica = u64::from(self.ctx.replica());
        self.runtime.block_on(self.board.tell_tally(replica, &self.tally))
    }

    /// Others need not wait for this worker.
    fn idle(&mut self) -> cirrus::Result<()> {
        self.remote.leave();
        self.tell()
    }
}

/// Minibatches of an epoch.
fn steps(args: &Args, facts: &Facts) -> u64 {
    facts.examples.div_ceil(u64::from(args.minibatch())).max(1)
}

/// The examples of a split in an order drawn from the seed and the split.
fn shuffled(args: &Args, split: &WholeSplit) -> cirrus::Result<Examples> {
    let mut ordered = Examples::default();
    for record in &split.records {
        ordered.push_record(&record.bytes)?;
    }
    let mut order: Vec<usize> = (0..ordered.len()).collect();
    let mut rng = Rng::seed_from_u64(args.seed ^ split.split.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    for place in (1..order.len()).rev() {
        // The bias of the rest is below 2^-32 for any split.
        let other = usize::try_from(rng.next_u64() % (place as u64 + 1)).unwrap_or(place);
        order.swap(place, other);
    }
    let mut examples = Examples::default();
    order.into_iter().for_each(|place| examples.push_example(ordered.get(place)));
    Ok(examples)
}

/// The examples in minibatches of this length, or about it: all are equally long.
fn cut(examples: &Examples, len: u32, model: &dyn Model) -> Vec<Minibatch> {
    let count = examples.len().div_ceil(len as usize);
    let bound = |minibatch: usize| examples.len() * minibatch / count;
    let minibatch = |number: usize| {
        let mut part = Examples::default();
        let places = bound(number)..bound(number + 1);
        places.for_each(|place| part.push_example(examples.get(place)));
        Minibatch::new(part, model)
    };
    (0..count).map(minibatch).collect()
}
