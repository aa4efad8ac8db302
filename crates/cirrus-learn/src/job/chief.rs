//! The task that leads the training.
//!
//! Owns `chief`: it turns shards to a generation, has them keep cuts, counts what is done, judges by held-out
//! examples and leaves the model. Knows no model.
//! Invariant: what a checkpoint covers is in the cut that it names, so a shard that is lost costs what was
//! done since that cut, and nothing of it stays counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cirrus::{Batches, Context, Kind, Polled};
use cirrus_store::server::table_rows;
use cirrus_store::table::OBSERVER;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::board::{Board, Done, Order, Tally, runtime};
use super::cut::{Cut, Cuts};
use super::{About, Args, DONE, Facts, TEST, remote, turn_to_shards};
use crate::examples::Examples;
use crate::metrics::Measures;
use crate::models::{Minibatch, Model};
use crate::parameters::{Remote, may_pass};
use crate::saved::Saved;

const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What a checkpoint holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    cut: Option<Cut>,
    /// Minibatches of each epoch that are in the cut.
    done: Vec<u64>,
    /// What was measured at the end of each epoch, and how often shards were lost.
    measured: Vec<Measured>,
    rollbacks: u64,
}

/// Held-out examples, at the end of an epoch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Measured {
    epoch: u32,
    examples: u64,
    /// By name, as [`Measures::named`] has them.
    measures: BTreeMap<String, f64>,
}

/// Leads until every epoch is done.
#[cirrus::task(cpu = 0.5, memory = "512MiB")]
pub(super) fn chief(ctx: Context, args: Args) -> cirrus::Result<()> {
    let runtime = runtime()?;
    let board = Board::new(&ctx)?;
    let facts = runtime.block_on(board.facts(&ctx))?;
    let model = args.kind.model(&args, &facts);
    let observer = remote(&args, model.as_ref(), OBSERVER)?;
    let mut chief = Chief {
        ctx: &ctx,
        args: &args,
        runtime: &runtime,
        board: &board,
        model: model.as_ref(),
        facts,
        observer,
        order: runtime.block_on(board.order())?.unwrap_or_default(),
        state: State::default(),
        test: Vec::new(),
        cut_at: Instant::now(),
        covered: 0,
        shown: Shown { at: Instant::now(), tally: Tally::default() },
    };
    chief.lead()
}

struct Chief<'a> {
    ctx: &'a Context,
    args: &'a Args,
    runtime: &'a Runtime,
    board: &'a Board,
    model: &'a dyn Model,
    facts: Facts,
    observer: Remote,
    order: Order,
    state: State,
    test: Vec<Minibatch>,
    cut_at: Instant,
    /// Minibatches that the last cut covers.
    covered: u64,
    shown: Shown,
}

struct Shown {
    at: Instant,
    tally: Tally,
}

impl Chief<'_> {
    fn lead(&mut self) -> cirrus::Result<()> {
        let mut batches = self.ctx.batches::<()>(DONE)?;
        self.take_up(&batches)?;
        if !self.is_whole()? {
            batches = self.begin_again(batches)?;
        }
        self.test = self.held_out()?;
        if self.observer.generation() == 0 {
            self.turn()?;
        }
        loop {
            if !self.is_whole()? {
                batches = self.begin_again(batches)?;
                continue;
            }
            match batches.next_within(LOOK_INTERVAL)? {
                Polled::Batch(batch) => {
                    let done = &mut self.state.done[batch.epoch as usize];
                    *done += 1;
                    let total = batches.total() / u64::from(self.args.epochs());
                    if *done == total && !self.measure(batch.epoch)? {
                        continue;
                    }
                }
                Polled::Nothing => {}
                Polled::End => {
                    if self.cut(&mut batches)? && self.measure(self.args.epochs())? {
                        break;
                    }
                    continue;
                }
            }
            let is_time = self.cut_at.elapsed().as_secs_f64() >= self.args.cut_every;
            if is_time || batches.is_due() {
                self.cut(&mut batches)?;
            }
            self.show()?;
        }
        self.save()?;
        self.leave_results()?;
        self.order.over = true;
        self.runtime.block_on(self.board.give_order(&self.order))
    }

    fn turn(&mut self) -> cirrus::Result<()> {
        let rows = self.model.shape().rows;
        let observer = &mut self.observer;
        turn_to_shards(self.ctx, self.args, self.runtime, self.board, rows, observer).map(|_| ())
    }

    /// Goes on where the last checkpoint is.
    fn take_up(&mut self, batches: &Batches<()>) -> cirrus::Result<()> {
        self.state = match batches.restored() {
            Some(bytes) => postcard::from_bytes(bytes)
                .map_err(|error| cirrus::Error::corrupt("a checkpoint").with_source(error))?,
            None => State::default(),
        };
        self.state.done.resize(self.args.epochs() as usize, 0);
        self.covered = batches.position();
        Ok(())
    }

    /// Whether every shard lives the life that the order is for and has done it.
    fn is_whole(&self) -> cirrus::Result<bool> {
        if self.order.generation == 0 || self.order.lives.len() != self.args.shards as usize {
            return Ok(false);
        }
        self.runtime.block_on(async {
            for (shard, life) in self.order.lives.iter().enumerate() {
                let place = self.board.shard(shard).await?;
                let done = self.board.done(shard).await?.unwrap_or_default();
                let is_same = place.is_some_and(|place| place.life == *life);
                if !is_same || done.life != *life || done.generation != self.order.generation {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Turns all shards to the last cut; everything since then is made again.
    fn begin_again(&mut self, batches: Batches<()>) -> cirrus::Result<Batches<()>> {
        drop(batches);
        if self.order.generation > 0 {
            self.state.rollbacks += 1;
            tracing::warn!("a shard was lost: all go back to the last cut");
        }
        let rollbacks = self.state.rollbacks;
        loop {
            self.order_all()?;
            if self.wait_for(|done, order| done.generation == order.generation)?.is_some() {
                break;
            }
        }
        let batches = self.ctx.batches_made_again::<()>(DONE)?;
        self.take_up(&batches)?;
        self.state.rollbacks = rollbacks;
        self.turn()?;
        self.cut_at = Instant::now();
        Ok(batches)
    }

    /// Orders the shards that there are to begin from the last cut.
    fn order_all(&mut self) -> cirrus::Result<()> {
        let shards = self.args.shards as usize;
        let mut lives = Vec::new();
        while lives.len() < shards {
            self.check_cancelled()?;
            match self.runtime.block_on(self.board.shard(lives.len()))? {
                Some(place) => lives.push(place.life),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        let cut = self.state.cut.as_ref();
        self.order = Order {
            generation: self.order.generation + 1,
            lives,
            from: cut.map(|cut| cut.number),
            pieces: cut.map(|cut| cut.pieces.clone()).unwrap_or_default(),
            cut: 0,
            floor: 0,
            over: false,
        };
        self.runtime.block_on(self.board.give_order(&self.order))
    }

    /// What every shard has done, once `is_done` holds of all; `None` when one is lost meanwhile.
    fn wait_for(
        &self,
        is_done: impl Fn(&Done, &Order) -> bool,
    ) -> cirrus::Result<Option<Vec<Done>>> {
        let mut all: Vec<Done> = Vec::new();
        while let Some(life) = self.order.lives.get(all.len()) {
            self.check_cancelled()?;
            let (done, place) = self.runtime.block_on(async {
                let done = self.board.done(all.len()).await?.unwrap_or_default();
                Ok::<_, cirrus::Error>((done, self.board.shard(all.len()).await?))
            })?;
            if place.is_none_or(|place| place.life != *life) {
                return Ok(None);
            }
            match done.life == *life && is_done(&done, &self.order) {
                true => all.push(done),
                false => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        Ok(Some(all))
    }

    /// Has all shards keep what they hold, and records what is in it; whether no shard was lost.
    fn cut(&mut self, batches: &mut Batches<()>) -> cirrus::Result<bool> {
        self.cut_at = Instant::now();
        if self.state.cut.is_some() && self.covered == batches.position() {
            // Nothing was done since.
            return Ok(true);
        }
        let number = self.state.cut.as_ref().map_or(0, |cut| cut.number).max(self.order.cut) + 1;
        self.order.cut = number;
        self.runtime.block_on(self.board.give_order(&self.order))?;
        let Some(all) = self.wait_for(|done, order| done.cut >= order.cut)? else {
            return Ok(false);
        };
        let pieces = all.iter().map(|done| done.pieces).collect();
        let bytes = all.iter().map(|done| done.bytes).sum();
        let before = self.state.cut.replace(Cut { number, pieces, bytes });
        batches.checkpoint(self.state_bytes()?)?;
        self.covered = batches.position();
        if let Some(before) = before {
            let mut cuts = Cuts::new(self.ctx, self.board);
            self.runtime.block_on(cuts.remove(&before))?;
        }
        Ok(true)
    }

    /// Writes the model, out of the last cut.
    fn save(&self) -> cirrus::Result<()> {
        let columns = self.model.shape().columns as usize;
        let rows = self.runtime.block_on(async {
            let (mut rows, mut cuts) = (Vec::new(), Cuts::new(self.ctx, self.board));
            if let Some(cut) = &self.state.cut {
                for (shard, pieces) in cut.pieces.iter().enumerate() {
                    for piece in 0..*pieces {
                        let bytes = cuts.piece((cut.number, shard), piece).await?;
                        rows.extend(table_rows(&bytes, columns)?);
                    }
                }
            }
            Ok::<_, cirrus::Error>(rows)
        })?;
        let options = self.args.options(0.0);
        let about = About {
            kind: self.args.kind,
            factors: self.args.factors(),
            facts: self.facts,
            bits: options.bits,
            counts: options.counts,
            seed: options.seed,
            names: self.runtime.block_on(self.board.names())?,
        };
        let saved = Saved::new(about, columns, rows);
        let path = match &self.args.save {
            Some(path) => path.clone(),
            None => self.ctx.run_dir().join("model.safetensors"),
        };
        saved.write(&path)?;
        self.ctx.report("model", path.display().to_string())?;
        self.ctx.report("model_rows", saved.len())
    }

    fn state_bytes(&self) -> cirrus::Result<Bytes> {
        let bytes = postcard::to_stdvec(&self.state)
            .map_err(|error| cirrus::Error::internal("a checkpoint").with_source(error))?;
        Ok(bytes.into())
    }

    fn held_out(&self) -> cirrus::Result<Vec<Minibatch>> {
        let mut minibatches = Vec::new();
        let mut examples = Examples::default();
        for record in self.ctx.set(TEST)?.records() {
            examples.push_record(&record?)?;
            if examples.len() >= 4096 {
                minibatches.push(Minibatch::new(std::mem::take(&mut examples), self.model));
            }
        }
        if !examples.is_empty() {
            minibatches.push(Minibatch::new(examples, self.model));
        }
        Ok(minibatches)
    }

    /// Judges by the held-out examples; whether no shard was lost.
    fn measure(&mut self, epoch: u32) -> cirrus::Result<bool> {
        let (mut measures, mut examples) = (Measures::default(), 0);
        let mut values = Vec::new();
        for minibatch in &self.test {
            let pending = self.observer.begin(None, Some(minibatch.rows().clone()), 0);
            match self.observer.finish(pending, &mut values) {
                Ok(_) => {}
                Err(error) if may_pass(&error) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            self.model.measure(minibatch, &values, &mut measures);
            examples += minibatch.len() as u64;
        }
        let measures = measures.named();
        self.state.measured.push(Measured { epoch, examples, measures });
        self.state.measured.sort_by_key(|measured| measured.epoch);
        Ok(true)
    }

    /// Shows the person how the training stands, about once a second.
    fn show(&mut self) -> cirrus::Result<()> {
        if self.shown.at.elapsed() < Duration::from_secs(1) {
            return Ok(());
        }
        let tally = self.tally()?;
        let before = std::mem::replace(&mut self.shown.tally, tally);
        let seconds = self.shown.at.elapsed().as_secs_f64();
        self.shown.at = Instant::now();
        let examples = tally.examples.saturating_sub(before.examples);
        let steps = tally.steps.saturating_sub(before.steps);
        if examples == 0 {
            return Ok(());
        }
        let loss = (tally.loss - before.loss) / examples as f64;
        let rate = examples as f64 / seconds;
        let staleness =
            tally.staleness.saturating_sub(before.staleness) as f64 / steps.max(1) as f64;
        let text = format!("loss {loss:.4}, {rate:.0} examples/s, staleness {staleness:.1}");
        self.ctx.progress(&text)
    }

    fn tally(&self) -> cirrus::Result<Tally> {
        let mut sum = Tally::default();
        for worker in 0..self.args.workers {
            let told = self.runtime.block_on(self.board.tally(worker.into()))?;
            let told = told.unwrap_or_default();
            sum.examples += told.examples;
            sum.loss += told.loss;
            sum.steps += told.steps;
            sum.staleness += told.staleness;
            sum.staleness_max = sum.staleness_max.max(told.staleness_max);
            sum.anew += told.anew;
            sum.bytes += told.bytes;
        }
        Ok(sum)
    }

    fn leave_results(&self) -> cirrus::Result<()> {
        let tally = self.tally()?;
        if let Some(last) = self.state.measured.last() {
            for (name, value) in &last.measures {
                self.ctx.report(&format!("test_{name}"), value)?;
            }
            self.ctx.report("test_examples", last.examples)?;
        }
        let ended = self.state.measured.len().saturating_sub(1);
        let epochs = &self.state.measured[..ended];
        self.ctx.report("epochs", epochs)?;
        self.ctx.report("rollbacks", self.state.rollbacks)?;
        self.ctx.report("staleness_max", tally.staleness_max)?;
        self.ctx.report("staleness_mean", tally.staleness as f64 / tally.steps.max(1) as f64)?;
        self.ctx.report("bytes_per_example", tally.bytes as f64 / tally.examples.max(1) as f64)
    }

    fn check_cancelled(&self) -> cirrus::Result<()> {
        match self.ctx.is_cancelled() {
            true => Err(cirrus::Error::new(Kind::Cancelled, "leading the training")),
            false => Ok(()),
        }
    }
}
