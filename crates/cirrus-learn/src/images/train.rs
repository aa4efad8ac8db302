//! The task that learns.
//!
//! Owns `train`: the network, or a sink that takes batches at a set rate. May not know how batches
//! are made. Invariant: a checkpoint holds all that the next step depends on.

use std::str::FromStr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cirrus::{Batch, Batches, Context};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::decode::pixels_of;
use super::load::CLASSES;
use super::{Args, BATCHES, Image, TEST, record};
use crate::cnn::{Trainer, TrainerOptions};
use crate::image::Augment;

/// What takes the batches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Consumer {
    /// A convolutional network that learns from them.
    Cnn,
    /// Something as fast as a device that takes this many images a second.
    Sink(f64),
}

impl FromStr for Consumer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected cnn or sink:RATE, such as sink:500";
        match text.split_once(':') {
            None if text == "cnn" => Ok(Self::Cnn),
            Some(("sink", rate)) => match rate.parse() {
                Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(Self::Sink(rate)),
                Ok(_) | Err(_) => Err(format!("`{rate}` is no rate; {expected}")),
            },
            None | Some(_) => Err(expected.to_owned()),
        }
    }
}

/// What a checkpoint holds.
#[derive(Serialize, Deserialize)]
struct State {
    trainer: Bytes,
    /// SHA-256 over all batches that were learnt from, in their order.
    sequence: [u8; 32],
    /// Sum of the losses of the epoch's batches so far, and how many.
    loss: (f64, u32),
}

/// Images that are judged together.
const JUDGED_TOGETHER: usize = 256;

/// Learns from every batch, then judges by the test set and saves the model.
#[cirrus::task(cpu = 1, memory = "2GiB")]
pub(super) fn train(ctx: Context, args: Args) -> cirrus::Result<()> {
    let batches = ctx.batches::<Image>(BATCHES)?;
    match args.trainer {
        Consumer::Cnn => learn(&ctx, &args, batches),
        Consumer::Sink(rate) => sink(&ctx, rate, batches.at_least_once()),
    }
}

fn learn(ctx: &Context, args: &Args, mut batches: Batches<Image>) -> cirrus::Result<()> {
    let classes: Vec<String> = serde_json::from_slice(&ctx.store()?.get(CLASSES)?.value)
        .map_err(|error| cirrus::Error::corrupt("the classes").with_source(error))?;
    let (mut trainer, mut sequence, mut loss) = match batches.restored() {
        Some(bytes) => {
            let state: State = postcard::from_bytes(bytes)
                .map_err(|error| cirrus::Error::corrupt("a checkpoint").with_source(error))?;
            (Trainer::from_bytes(&state.trainer)?, state.sequence, state.loss)
        }
        None => {
            let options = TrainerOptions {
                classes: classes.len(),
                size: args.pixels(),
                seed: args.seed,
                steps_total: batches.total(),
                batch: args.batch as usize,
                ..TrainerOptions::default()
            };
            (Trainer::new(options)?, [0; 32], (0.0, 0))
        }
    };
    while let Some(batch) = batches.next()? {
        if batch.index == 0 {
            loss = (0.0, 0);
        }
        let (pixels, labels) = flatten(&batch);
        sequence = chained(sequence, &batch, &pixels, &labels);
        loss.0 += f64::from(trainer.train_step(&pixels, &labels)?);
        loss.1 += 1;
        batches.checkpoint_when_due(|| state(&trainer, sequence, loss))?;
    }
    batches.checkpoint(state(&trainer, sequence, loss)?)?;
    let (correct, judged) = judge(ctx, args, &trainer)?;
    let path = match &args.model {
        Some(path) => path.clone(),
        None => ctx.run_dir().join("images.model"),
    };
    trainer.save_model(&path)?;
    ctx.report("test_accuracy", f64::from(correct) / f64::from(judged.max(1)))?;
    ctx.report("test_images", judged)?;
    ctx.report("training_loss", loss.0 / f64::from(loss.1.max(1)))?;
    ctx.report("sequence_sha256", hex(&sequence))?;
    ctx.report("model", path.display().to_string())
}

/// Takes batches as a device would that needs a set time for each image.
fn sink(ctx: &Context, rate: f64, mut batches: Batches<Image>) -> cirrus::Result<()> {
    let (mut images, started) = (0, Instant::now());
    while let Some(batch) = batches.next()? {
        images += batch.items.len();
        let taken = Duration::from_secs_f64(count(batch.items.len()) / rate);
        work(ctx, taken);
    }
    ctx.report("sink_images_per_second", count(images) / started.elapsed().as_secs_f64())
}

/// Passes the time that a device would work; ends early when the task is to end.
fn work(ctx: &Context, time: Duration) {
    let until = Instant::now() + time;
    while !ctx.is_cancelled() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

fn state(trainer: &Trainer, sequence: [u8; 32], loss: (f64, u32)) -> cirrus::Result<Bytes> {
    let state = State { trainer: trainer.to_bytes()?.into(), sequence, loss };
    let bytes = postcard::to_stdvec(&state)
        .map_err(|error| cirrus::Error::internal("a checkpoint").with_source(error))?;
    Ok(bytes.into())
}

fn flatten(batch: &Batch<Image>) -> (Vec<u8>, Vec<u16>) {
    let bytes = batch.items.iter().map(|image| image.pixels.len()).sum();
    let mut pixels = Vec::with_capacity(bytes);
    for image in &batch.items {
        pixels.extend_from_slice(&image.pixels);
    }
    (pixels, batch.items.iter().map(|image| image.label).collect())
}

fn chained(before: [u8; 32], batch: &Batch<Image>, pixels: &[u8], labels: &[u16]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(batch.number.to_le_bytes());
    for label in labels {
        hash.update(label.to_le_bytes());
    }
    hash.update(pixels);
    hash.finalize().into()
}

fn judge(ctx: &Context, args: &Args, trainer: &Trainer) -> cirrus::Result<(u32, u32)> {
    let mut augment = Augment::new(args.pixels())?;
    let (mut correct, mut judged) = (0, 0);
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let mut records = ctx.set(TEST)?.records().peekable();
    while let Some(next) = records.next() {
        if ctx.is_cancelled() {
            return Err(cirrus::Error::new(cirrus::Kind::Cancelled, "judging"));
        }
        let sample = record::decode(next?)?;
        pixels.extend(augment.eval(&pixels_of(&sample)?)?);
        labels.push(sample.label);
        if labels.len() >= JUDGED_TOGETHER || records.peek().is_none() {
            let right = trainer.evaluate(&pixels, &labels)?;
            correct += u32::try_from(right).unwrap_or(u32::MAX);
            judged += u32::try_from(labels.len()).unwrap_or(u32::MAX);
            pixels.clear();
            labels.clear();
        }
    }
    Ok((correct, judged))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn count(n: usize) -> f64 {
    n as f64
}
